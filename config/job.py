"""
The class of all tasks: it counts a run before it begins, and writes down how it ended.

A task says how often it may be tried, and how long it may say nothing, in Celery's own words:
`@shared_task(name=…, max_retries=2, soft_time_limit=60)`.
"""

import os
import socket
import threading
import time
from typing import Any

import redis
import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from celery import exceptions
from celery.contrib.django.task import DjangoTask
from django.db import Error as DatabaseFault
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerFault

from core import runs, schedule
from core.errors import DomainError
from core.queueing import ATTEMPTS_MAX

logger = structlog.get_logger(__name__)

# A run that took longer is worth a row, whatever it did.
LONG_S = 1.0
# A tick that does something all the time has a row so often, in each process.
TICK_KEPT_EVERY_S = 10.0
# The database is gone: its message is sent again, for about a quarter of an hour.
_DATABASE_RETRIES_MAX = 20
_PASSING = (
    *(OperationalError, InterfaceError, BrokerFault, redis.RedisError, OSError),
    SoftTimeLimitExceeded,
)


class Job(DjangoTask):  # type: ignore[type-arg]  # not generic at run time
    abstract = True
    max_retries = ATTEMPTS_MAX - 1

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        pause_s = schedule.pause_s_of(self.name)
        if (
            pause_s
            and self._is_scheduled()
            and not schedule.claim_paused(self.name, pause_s=pause_s, now=timezone.now())
        ):
            return None
        run = self._begin(args, kwargs)
        if run is None:
            return None
        began = time.perf_counter()
        with _pulse.watching(run):
            try:
                # As Celery's tracer, which has set the request up, calls a task.
                result = self.run(*args, **kwargs)
            except (exceptions.Ignore, exceptions.Reject, exceptions.Retry):
                self._succeed(run, None, is_kept=False)
                raise
            except Exception as error:
                self._fail(run, error)
                raise
        took_s = time.perf_counter() - began
        self._succeed(run, result, is_kept=self._is_kept(run, result, took_s))
        return result

    def _begin(self, args: Any, kwargs: Any) -> runs.Run | None:
        soft_limit_s = (self.request.timelimit or [None, None])[1] or self.soft_time_limit
        try:
            return runs.begin(
                task_id=str(self.request.id),
                task=str(self.name),
                args=args,
                kwargs=kwargs,
                is_tick=self._is_tick(),
                attempts_max=1 + (self.max_retries or 0),
                silence_limit_s=int(soft_limit_s or self.app.conf.task_soft_time_limit),
                worker=f"{socket.gethostname()}:{os.getpid()}",
                now=timezone.now(),
            )
        except (OperationalError, InterfaceError) as fault:
            if self._is_tick() or self.request.is_eager:
                raise
            # There is nowhere to write it down: Redis keeps it for as long as may be expected.
            pause_s = min(60.0, runs.pause_after(self.request.retries + 1).total_seconds())
            raise self.retry(
                exc=fault, countdown=pause_s, max_retries=_DATABASE_RETRIES_MAX
            ) from fault

    def _is_tick(self) -> bool:
        return self._is_scheduled() or schedule.is_tick(str(self.name))

    def _is_scheduled(self) -> bool:
        """Whether beat sent it: it puts a header of this name on all that it sends."""
        name = "periodic_task_name"
        return hasattr(self.request, name) or name in (self.request.headers or {})

    def _is_kept(self, run: runs.Run, result: Any, took_s: float) -> bool:
        if not run.is_tick or run.attempts > 1 or run.total is not None or took_s >= LONG_S:
            return True
        return bool(result) and _often_enough(run.task)

    def _succeed(self, run: runs.Run, result: Any, *, is_kept: bool) -> None:
        shown = "" if result is None else str(result)
        try:
            runs.succeed(run, result=shown, is_kept=is_kept, now=timezone.now())
        except DatabaseFault as fault:
            # What it did is done. Its row is found running without a worker, and for a job that
            # means once more: at least once is what jobs are promised.
            logger.warning("end of job not kept", task=run.task, fault=type(fault).__name__)

    def _fail(self, run: runs.Run, error: Exception) -> None:
        may_pass = error.is_transient if isinstance(error, DomainError) else _may_pass(error)
        try:
            runs.fail(run, error, may_pass=may_pass, now=timezone.now())
        except DatabaseFault as fault:
            logger.warning("failure of job not kept", task=run.task, fault=type(fault).__name__)


def _may_pass(error: Exception) -> bool:
    return isinstance(error, _PASSING)


_kept_at: dict[str, float] = {}


def _often_enough(task: str) -> bool:
    now = time.monotonic()
    if now - _kept_at.get(task, -TICK_KEPT_EVERY_S) < TICK_KEPT_EVERY_S:
        return False
    _kept_at[task] = now
    return True


class _Pulse:
    """A thread of each process that says of its run, every PULSE_S, that it lives."""

    def __init__(self) -> None:
        self._waiting = threading.Condition()
        self._runs: dict[int, runs.Run] = {}
        self._pid = 0

    def watching(self, run: runs.Run) -> "_Watch":
        return _Watch(self, run)

    def add(self, run: runs.Run) -> None:
        with self._waiting:
            if self._pid != os.getpid():
                # Threads do not survive a fork.
                self._pid = os.getpid()
                self._runs = {}
                threading.Thread(target=self._serve, name="pulse", daemon=True).start()
            self._runs[run.id] = run
            self._waiting.notify()

    def remove(self, run: runs.Run) -> None:
        with self._waiting:
            self._runs.pop(run.id, None)

    def _serve(self) -> None:
        while True:
            with self._waiting:
                while not self._runs:
                    self._waiting.wait()
            time.sleep(runs.PULSE_S)
            with self._waiting:
                watched = list(self._runs.values())
            try:
                for run in watched:
                    runs.pulse(run, now=timezone.now())
            except DatabaseFault as fault:
                logger.warning("pulse not written", fault=type(fault).__name__)
            finally:
                connection.close()


class _Watch:
    def __init__(self, pulse: _Pulse, run: runs.Run) -> None:
        self._of, self._run = pulse, run

    def __enter__(self) -> None:
        runs.set_current(self._run)
        self._of.add(self._run)

    def __exit__(self, *_: object) -> None:
        self._of.remove(self._run)
        runs.set_current(None)


_pulse = _Pulse()
