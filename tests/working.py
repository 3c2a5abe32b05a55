"""Workers and beats as they are run, several of them, on a test's own database and broker."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from django.conf import settings

from ops import processes
from ops.running import BACKGROUND
from tests.serving import database_url

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 15


@contextlib.contextmanager
def worker(log: Path, redis_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that knows tests.chores too."""
    with _running("worker", log, redis_url, "--include", "tests.chores") as process:
        yield process


@contextlib.contextmanager
def kept_alive(log: Path, redis_url: str) -> Iterator[None]:
    """A worker that is started again when it ends, as whoever runs Florin does."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.is_set():
            with worker(log, redis_url) as process:
                while process.poll() is None and not ended.is_set():
                    ended.wait(0.1)

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


@contextlib.contextmanager
def beat(log: Path, redis_url: str) -> Iterator[subprocess.Popen[bytes]]:
    with _running("beat", log, redis_url) as process:
        yield process


@contextlib.contextmanager
def _running(
    name: str, log: Path, redis_url: str, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    process = processes.spawn(
        [sys.executable, "-m", "celery", *BACKGROUND[name], "--loglevel", "info", *options],
        env={
            **os.environ,
            "FLORIN_IGNORE_LOCAL_ENV": "1",
            "DATABASE_URL": database_url(),
            "REDIS_URL": redis_url,
            "FLORIN_PROCESS": log.stem,
            "LOG_LEVEL": "INFO",
        },
        cwd=settings.BASE_DIR,
        log=log,
    )
    try:
        yield process
    finally:
        processes.end(process, patience_s=STOP_TIMEOUT_S)


def wait_until(condition: Callable[[], object], *, timeout_s: float, log: Path) -> None:
    """Wait for what must come to be; the log says why it did not."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.05)
