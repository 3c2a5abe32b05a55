"""
How many requests a caller may make, and whether its credential has just been ended: one atomic
round trip to Redis at each request.

Where Redis does not answer, requests go on: a limit is not worth an outage. A metric and a log line
say so, and for a second nobody asks again, so that a dead Redis costs no request its time-out.
"""

import functools
import hashlib
import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import structlog
from django.conf import settings

from core.metrics import rate_limit_skipped_total, rate_limited_total

logger = structlog.get_logger(__name__)

WINDOW_S = 60
# Slots of the window: a request leaves it within one slot of its minute, never before.
SLOTS = 120
TIMEOUT_S = 0.25
# After a failure, how long nobody asks.
PAUSE_S = 1.0

_script = (Path(__file__).with_name("limiting.lua")).read_text(encoding="utf-8")
_script_sha = hashlib.sha1(_script.encode(), usedforsecurity=False).hexdigest()
_asks_again_at = 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands after this request was counted, or refused."""

    limit: int
    remaining: int
    # Seconds until the oldest counted request leaves the window.
    reset_s: int
    is_allowed: bool
    # The credential was revoked or rotated away by another process, this very moment.
    is_ended: bool


def count_request(*, who: str, limit: int, credential: bytes | None = None) -> Standing | None:
    """
    Count a request of `who` in the last minute, unless that has `limit` already; None: Redis is
    down, and nobody counts. One round trip.
    """
    global _asks_again_at
    if time.monotonic() < _asks_again_at:
        rate_limit_skipped_total.inc()
        return None
    end_key = _end_key(credential) if credential else ""
    try:
        allowed, remaining, reset_ms, ended = _link.run_script(
            f"florin:rate:{who}", end_key, limit, WINDOW_S * 1000, SLOTS
        )
    except redis.RedisError as error:
        _asks_again_at = time.monotonic() + PAUSE_S
        rate_limit_skipped_total.inc()
        logger.error("rate limit not counted", fault=type(error).__name__)
        return None
    if not allowed and not ended:
        rate_limited_total.labels(who.split(":", 1)[0]).inc()
    return Standing(
        limit=limit,
        remaining=int(remaining),
        reset_s=max(1, math.ceil(int(reset_ms) / 1000)),
        is_allowed=bool(allowed),
        is_ended=bool(ended),
    )


def spread_the_end_of(credentials: list[bytes]) -> None:
    """Tell every web process that these credentials are dead, before the caller hears of it."""
    # Longer than any process trusts a key that it has verified.
    remembered_s = math.ceil(2 * settings.API_KEY_CACHE_S) + 60
    try:
        with _client().pipeline(transaction=False) as pipeline:
            for credential in credentials:
                pipeline.set(_end_key(credential), 1, ex=remembered_s)
            pipeline.execute()
    except redis.RedisError as error:
        # The database says it too: every process asks it within API_KEY_CACHE_S.
        logger.warning("end of a credential not spread", fault=type(error).__name__)


def _end_key(credential: bytes) -> str:
    return f"florin:ended:{credential.hex()[:32]}"


@functools.cache
def _client_of(url: str) -> "redis.Redis":
    return redis.Redis.from_url(
        url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, decode_responses=True
    )


def _client() -> "redis.Redis":
    return _client_of(settings.REDIS_URL)


class _Link(threading.local):
    """
    A thread's own connection to run the script over.

    The client's pool asks at each request whether its connection is still there, and wraps every
    command for its retries and its statistics: half of the time that a request spends on Redis.
    """

    def __init__(self) -> None:
        self._connection: Any = None
        self._url = ""

    def run_script(self, window_key: str, end_key: str, *arguments: int) -> list[int]:
        """
        Return what the script answers.

        :raises redis.RedisError: no answer, also on a fresh connection
        """
        command = ("EVALSHA", _script_sha, 2, window_key, end_key, *arguments)
        is_fresh = self._is_to_be_opened()
        while True:
            try:
                answer: list[int] = self._ask(*command)
                return answer
            except redis.exceptions.NoScriptError:
                # Redis is new, or has forgotten it.
                self._ask("SCRIPT", "LOAD", _script)
            except redis.ConnectionError:
                # It may have been closed while nobody looked.
                if is_fresh:
                    raise
                is_fresh = True

    def _is_to_be_opened(self) -> bool:
        if self._connection is not None and self._url == settings.REDIS_URL:
            return not self._connection.is_connected
        self._url = settings.REDIS_URL
        pool = _client_of(self._url).connection_pool
        # Not the pool's `make_connection`, which counts those of threads that have gone as well.
        self._connection = pool.connection_class(**pool.connection_kwargs)
        return True

    def _ask(self, *command: object) -> Any:
        try:
            self._connection.send_command(*command)
            return self._connection.read_response()
        except redis.ResponseError:
            raise
        except BaseException:
            # An answer that comes late must not be taken for that of the next question.
            self._connection.disconnect()
            raise


_link = _Link()
