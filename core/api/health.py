"""Is the process alive; can it serve. Liveness asks nobody, readiness names each part."""

from collections.abc import Callable

import redis
import structlog
from django.conf import settings
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse

logger = structlog.get_logger(__name__)
PROBE_TIMEOUT_S = 1


def live(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> JsonResponse:
    """200 when every part answers, else 503 with the parts by name."""
    probes: dict[str, Callable[[], None]] = {
        "database": _ask_database,
        "migrations": _ask_migrations,
        "redis": _ask_redis,
    }
    parts = {name: _outcome(name, probe) for name, probe in probes.items()}
    is_ready = all(outcome == "ok" for outcome in parts.values())
    return JsonResponse(
        {"status": "ok" if is_ready else "unavailable", "parts": parts},
        status=200 if is_ready else 503,
    )


def _outcome(name: str, probe: Callable[[], None]) -> str:
    try:
        probe()
    except (Error, redis.RedisError, RuntimeError) as error:
        logger.warning("not ready", part=name, fault=type(error).__name__)
        return "unavailable"
    return "ok"


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _ask_migrations() -> None:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise RuntimeError("migrations are pending")


def _ask_redis() -> None:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=PROBE_TIMEOUT_S, socket_connect_timeout=PROBE_TIMEOUT_S
    ) as client:
        client.ping()
