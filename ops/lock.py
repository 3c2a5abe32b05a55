"""One running copy of Florin a checkout."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import IO

from ops.console import Failure
from ops.layout import LOCAL

_LOCK_FILE = LOCAL / "running.lock"


class AlreadyRunning(Failure):
    """Another process holds the lock."""


@contextlib.contextmanager
def only_copy() -> Iterator[None]:
    """Hold the checkout's lock. The kernel frees it when this process dies, however it dies.

    Raises AlreadyRunning at once if another process holds it.
    """
    with _opened() as file:
        if not _try_to_lock(file):
            raise AlreadyRunning(
                f"Florin already runs in this checkout (pid {holder() or 'unknown'}); "
                "`make stop` ends it."
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def holder() -> int | None:
    """The pid of the copy that runs in this checkout; None if none does."""
    if not _LOCK_FILE.exists():
        return None
    with _opened() as file:
        if _try_to_lock(file):
            return None
        file.seek(0)
        text = file.read()
    return int(text) if text.isdecimal() else None


def _opened() -> IO[str]:
    LOCAL.mkdir(exist_ok=True)
    try:
        return _LOCK_FILE.open("a+")
    except PermissionError:
        raise Failure(f"{LOCAL} belongs to another user; remove it or become that user.") from None


def _try_to_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
