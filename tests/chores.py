"""Tasks for tests of jobs: real workers load them, and they note each time they were begun."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import shared_task

from core.runs import progress


def _note(path: str, word: str) -> int:
    """Add a line to the file; return how many there are."""
    with Path(path).open("a") as file:
        file.write(f"{word}\n")
    return len(Path(path).read_text().splitlines())


@shared_task(name="chores.note")
def note(*, path: str, word: str = "done", **_: Any) -> int:
    return _note(path, word)


@shared_task(name="chores.die", max_retries=1)
def die(*, path: str, **_: Any) -> None:
    """End its process, as the kernel does to one that takes too much memory."""
    _note(path, "begun")
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="chores.fail")
def fail(*, path: str, times: int, kind: str = "passing", **_: Any) -> str:
    """Fail so many times, then succeed."""
    if _note(path, "begun") <= times:
        if kind == "passing":
            raise ConnectionError("the line is down")
        raise ValueError("this never works")
    return "at last"


@shared_task(name="chores.nap")
def nap(*, path: str, until: str, **_: Any) -> None:
    """Say nothing until there is a file of that name."""
    _note(path, "begun")
    while not Path(until).exists():
        time.sleep(0.05)


@shared_task(name="chores.climb")
def climb(*, path: str, until: str, **_: Any) -> str:
    """Say how far it is until there is a file of that name."""
    _note(path, "begun")
    done = 0
    while not Path(until).exists():
        done += 1
        progress(done=min(done, 99), total=100)
        time.sleep(0.05)
    return "at the top"
