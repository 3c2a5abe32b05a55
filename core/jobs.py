"""
The doorbell: have a worker look at what is due now, and not only at the next tick.

PostgreSQL holds what is to be done; a ring says nothing but "look". So a ring may be lost, doubled
or late without harm, and none keeps a request waiting: a thread of each process sends them, at most
one of a kind each RING_EVERY_S.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

logger = structlog.get_logger(__name__)

RING_EVERY_S = 0.05
# A ring that nobody heard in this time says nothing any more: beat has looked meanwhile.
HEARD_WITHIN_S = 30


def ring(task: str) -> None:
    """Have a worker run the named task soon, if and when the database transaction commits."""
    transaction.on_commit(lambda: _bell.ring(task))


def send(task: str, *, args: Sequence[Any], kwargs: Mapping[str, Any], task_id: str) -> bool:
    """Send a worker the run of a job, now; return whether Redis took it. See core.runs."""
    try:
        current_app.send_task(
            task, args=list(args), kwargs=dict(kwargs), task_id=task_id, retry=False
        )
    except (OperationalError, OSError) as fault:
        logger.warning("job not sent", task=task, task_id=task_id, fault=type(fault).__name__)
        return False
    return True


class _Bell:
    """What is to be rung, and the thread that rings."""

    def __init__(self) -> None:
        self._waiting = threading.Condition()
        self._tasks: set[str] = set()
        self._pid = 0

    def ring(self, task: str) -> None:
        with self._waiting:
            if self._pid != os.getpid():
                # Threads do not survive a fork.
                self._pid = os.getpid()
                threading.Thread(target=self._serve, name="bell", daemon=True).start()
            self._tasks.add(task)
            self._waiting.notify()

    def _serve(self) -> None:
        while True:
            with self._waiting:
                while not self._tasks:
                    self._waiting.wait()
                tasks, self._tasks = self._tasks, set()
            for task in sorted(tasks):
                self._send(task)
            time.sleep(RING_EVERY_S)

    def _send(self, task: str) -> None:
        try:
            current_app.send_task(task, retry=False, ignore_result=True, expires=HEARD_WITHIN_S)
        except (OperationalError, OSError) as fault:
            # Redis is down. Beat's next tick finds what this was about.
            logger.warning("bell not rung", task=task, fault=type(fault).__name__)


_bell = _Bell()
