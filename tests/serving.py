"""Florin's web server as it is run, several processes of it, on a test's own database."""

import contextlib
import os
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import connection

from ops import processes
from ops.running import answers, web_command
from ops.servers import free_port

START_TIMEOUT_S = 90
STOP_TIMEOUT_S = 10


@contextlib.contextmanager
def web_server(log: Path, **env: str) -> Iterator[str]:
    """
    Serve the database that the test writes to; yield the URL. `env` holds settings.

    For transactional tests only: the server does not see what is not committed.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    web = processes.spawn(
        web_command("127.0.0.1", port),
        env={
            **os.environ,
            "FLORIN_IGNORE_LOCAL_ENV": "1",
            "DATABASE_URL": database_url(),
            "REDIS_URL": settings.REDIS_URL,
            **env,
        },
        cwd=settings.BASE_DIR,
        log=log,
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(f"{url}/health/ready"):
            assert web.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield url
    finally:
        processes.end(web, patience_s=STOP_TIMEOUT_S)


def database_url() -> str:
    """Return where the test's own database is, for those who connect by themselves."""
    of = connection.settings_dict
    user, password = (urllib.parse.quote(of[part], safe="") for part in ("USER", "PASSWORD"))
    return f"postgres://{user}:{password}@{of['HOST']}:{of['PORT']}/{of['NAME']}"
