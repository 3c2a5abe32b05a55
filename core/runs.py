"""
Runs of tasks: counted before they begin, watched while they run, tried again or given up after.

Two kinds. A *tick* looks for what is due, and is sent again and again by beat: when it fails, the
next one is its retry. A *job* was asked for by somebody (core.queueing) and must be done: its row
is the order, and the message to a worker only says "look". A lost or doubled message costs nothing.
docs/jobs.md and decision 25 say more.
"""

import datetime as dt
import json
import random
import traceback
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from core.changes import record_change
from core.dead_letters import Failure, bury
from core.jobs import send
from core.models import DeadLetter, FailureNotice, JobRun
from core.notices import note_failure
from core.queueing import fingerprint_of, kept_arguments, storable, tenant_of

logger = structlog.get_logger(__name__)

# A worker's process says every PULSE_S that it lives; silent for this long, it has gone.
PULSE_S = 5.0
GONE_AFTER_S = 30
# A message that no worker took in this time is sent again, so often; then something is wrong.
RESEND_AFTER_S = 60
SENDS_MAX = 200
# So many failures of a tick in a row are no accident any more.
TICK_FAILURES_TOLERATED = 2
_PURGE_BATCH = 5_000
_LETTERS_KEPT_DAYS = 400
# After the first failure; each further pause is so many times as long.
_PAUSE_FIRST_S, _PAUSE_FACTOR, _PAUSE_MAX_S = 5.0, 4, 900.0
_S = JobRun.Status


@dataclass(slots=True)
class Run:
    """A run that this process has. What `progress` says is written by whoever watches over it."""

    id: int
    task_id: str
    task: str
    arguments: str
    is_replayable: bool
    tenant_id: UUID | None
    is_tick: bool
    attempts: int
    attempts_max: int
    began_at: dt.datetime
    heartbeat_at: dt.datetime
    done: int | None = None
    total: int | None = None


_current: ContextVar[Run | None] = ContextVar("florin_run", default=None)


# --- The life of a run -------------------------------------------------------------------------
# Whoever finds the row with another, or ended, does not run: a message may come twice.
_BEGIN = """
INSERT INTO core_jobrun AS r (task_id, task, arguments, is_replayable, tenant_id, is_tick, status,
    attempts, attempts_max, sends, worker, created_at, started_at, alive_at, heartbeat_at,
    silence_limit_s, result, error)
VALUES (%(task_id)s, %(task)s, %(arguments)s, %(is_replayable)s, %(tenant_id)s, %(is_tick)s,
    'running', 1, %(attempts_max)s, 0, %(worker)s, %(now)s, %(now)s, %(now)s, %(now)s,
    %(silence_limit_s)s, '', '')
ON CONFLICT (task_id) DO UPDATE SET status = 'running', attempts = r.attempts + 1,
    attempts_max = excluded.attempts_max, sends = 0, next_attempt_at = NULL,
    worker = excluded.worker, started_at = excluded.started_at, alive_at = excluded.alive_at,
    heartbeat_at = excluded.heartbeat_at, silence_limit_s = excluded.silence_limit_s,
    stuck_at = NULL, done = NULL, total = NULL
WHERE r.status = 'waiting'
   OR r.status = 'running' AND r.alive_at < excluded.alive_at - %(gone_after)s
RETURNING r.id, r.attempts, r.is_tick, r.tenant_id
"""


def begin(
    *,
    task_id: str,
    task: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    is_tick: bool,
    attempts_max: int,
    silence_limit_s: int,
    worker: str,
    now: dt.datetime,
) -> Run | None:
    """
    Count a run, before it begins. None: another worker has it, it has ended, or it was begun too
    often and is a dead letter now. One round trip.
    """
    arguments, is_replayable = kept_arguments(args, kwargs)
    values: dict[str, Any] = {
        "task_id": task_id,
        "task": task,
        "arguments": arguments,
        "is_replayable": is_replayable,
        "tenant_id": tenant_of(kwargs),
        "is_tick": is_tick,
        "attempts_max": attempts_max,
        "silence_limit_s": silence_limit_s,
        "worker": worker[:128],
        "now": now,
        "gone_after": dt.timedelta(seconds=GONE_AFTER_S),
    }
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN, values)
        row = cursor.fetchone()
    if row is None:
        logger.warning("job not begun", task=task, task_id=task_id, why="it has a worker, or ended")
        return None
    run = Run(
        id=row[0],
        task_id=task_id,
        task=task,
        arguments=arguments,
        is_replayable=is_replayable,
        tenant_id=row[3],
        is_tick=row[2],
        attempts=row[1],
        attempts_max=attempts_max,
        began_at=now,
        heartbeat_at=now,
    )
    if run.attempts > attempts_max:
        # It was sent by the broker again and again, and each of its workers died.
        _end_dead(run, _worker_gone(attempts_max), now)
        return None
    return run


def succeed(run: Run, *, result: str, is_kept: bool, now: dt.datetime) -> None:
    """
    Write down that the run has succeeded; without is_kept, only when its task last did. One
    statement.
    """
    ended = (
        "UPDATE core_jobrun SET status = 'succeeded', finished_at = %(now)s, result = %(result)s,"
        " done = %(done)s, total = %(total)s, heartbeat_at = %(heartbeat_at)s"
        if is_kept
        else "DELETE FROM core_jobrun"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            _SUCCEED % {"ended": ended},
            {
                "id": run.id,
                "attempts": run.attempts,
                "task": run.task,
                "fingerprint": fingerprint_of(run.task, run.arguments),
                "result": storable(result)[:200],
                "done": run.done,
                "total": run.total,
                "heartbeat_at": run.heartbeat_at,
                "now": now,
                "lately": now - dt.timedelta(seconds=1),
            },
        )


_SUCCEED = """
WITH ended AS (
    %(ended)s WHERE id = %%(id)s AND attempts = %%(attempts)s AND status = 'running'
), recovered AS (
    UPDATE core_deadletter SET status = 'recovered', decided_at = %%(now)s
     WHERE fingerprint = %%(fingerprint)s AND status = 'waiting' AND is_tick
)
INSERT INTO core_jobstate AS s (task, last_began_at, last_succeeded_at, failures_in_row)
VALUES (%%(task)s, %%(now)s, %%(now)s, 0)
ON CONFLICT (task) DO UPDATE SET last_succeeded_at = %%(now)s, failures_in_row = 0
WHERE s.failures_in_row > 0 OR s.last_succeeded_at IS NULL OR s.last_succeeded_at < %%(lately)s
"""


def fail(run: Run, error: BaseException, *, may_pass: bool, now: dt.datetime) -> None:
    """
    Write down that the run has failed, and what comes of it: another attempt, where it may help,
    or a dead letter.
    """
    failure = Failure(
        error_class=storable(f"{type(error).__module__}.{type(error).__qualname__}")[:200],
        message=storable(str(error))[:2000],
        traceback=storable("".join(traceback.format_exception(error))),
    )
    if run.is_tick:
        _end_tick(run, failure, _S.FAILED, now)
    elif may_pass and run.attempts < run.attempts_max and run.is_replayable:
        _try_again(run, failure, now + pause_after(run.attempts), now)
    else:
        _end_dead(run, failure, now)


def pause_after(attempts: int) -> dt.timedelta:
    """Return how long to wait after so many attempts: ever longer, and never twice the same."""
    pause = min(_PAUSE_FIRST_S * _PAUSE_FACTOR ** (attempts - 1), _PAUSE_MAX_S)
    return dt.timedelta(seconds=pause * random.uniform(0.75, 1.25))  # noqa: S311


def _try_again(run: Run, failure: Failure, due_at: dt.datetime, now: dt.datetime) -> None:
    with transaction.atomic():
        is_ours = _own(run).update(
            status=_S.WAITING,
            next_attempt_at=due_at,
            stuck_at=None,
            error=failure.summary,
        )
        if is_ours and run.tenant_id is not None:
            record_change(
                tenant_id=run.tenant_id,
                action="job.failed",
                object_id=UUID(run.task_id),
                now=now,
                after={"task": run.task, "attempts": run.attempts, "error": failure.error_class},
            )


def _end_dead(run: Run, failure: Failure, now: dt.datetime) -> None:
    with transaction.atomic():
        if _own(run).update(status=_S.DEAD, finished_at=now, error=failure.summary):
            _note_failed(run.task, now)
            tried = min(run.attempts, run.attempts_max)
            _bury(run, failure, failures=tried, more=tried, now=now)


def _end_tick(run: Run, failure: Failure, status: JobRun.Status, now: dt.datetime) -> None:
    with transaction.atomic():
        if not _own(run).update(status=status, finished_at=now, error=failure.summary):
            return
        in_row = _note_failed(run.task, now)
        if in_row > TICK_FAILURES_TOLERATED:
            _bury(run, failure, failures=in_row, more=1, now=now)


def _bury(run: Run, failure: Failure, *, failures: int, more: int, now: dt.datetime) -> None:
    bury(
        task=run.task,
        task_id=run.task_id,
        tenant_id=run.tenant_id,
        arguments=run.arguments,
        fingerprint=fingerprint_of(run.task, run.arguments),
        is_tick=run.is_tick,
        is_replayable=run.is_replayable,
        failure=failure,
        failures=failures,
        more=more,
        began_at=run.began_at,
        now=now,
    )


def _note_failed(task: str, now: dt.datetime) -> int:
    """Count a failure of the task; return how many there are in a row."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO core_jobstate AS s (task, last_began_at, last_failed_at, failures_in_row)"
            " VALUES (%(task)s, %(now)s, %(now)s, 1)"
            " ON CONFLICT (task) DO UPDATE"
            " SET last_failed_at = %(now)s, failures_in_row = s.failures_in_row + 1"
            " RETURNING failures_in_row",
            {"task": task, "now": now},
        )
        [in_row] = cursor.fetchone()
    return int(in_row)


def _own(run: Run) -> Any:
    """The run's row while nobody has begun it since, and nobody has given it up for lost."""
    return JobRun.objects.filter(pk=run.id, status=_S.RUNNING, attempts=run.attempts)


# --- How far it is -----------------------------------------------------------------------------
def set_current(run: Run | None) -> None:
    _current.set(run)


def progress(*, done: int, total: int | None = None, now: dt.datetime | None = None) -> None:
    """
    Say how far the task is that this runs in; cheap, and nothing outside of one.

    It reaches the database within PULSE_S, by a connection of its own: also from inside a
    transaction.
    """
    run = _current.get()
    if run is not None:
        run.done = max(0, done if total is None else min(done, total))
        run.total = total
        run.heartbeat_at = now or timezone.now()


def pulse(run: Run, *, now: dt.datetime) -> bool:
    """Say that the run's worker lives, and how far it is; return whether the run is still its."""
    return bool(
        _own(run).update(
            alive_at=now,
            heartbeat_at=run.heartbeat_at,
            done=run.done,
            total=run.total,
            # It goes on again.
            stuck_at=None if _is_heard(run, now) else F("stuck_at"),
        )
    )


def _is_heard(run: Run, now: dt.datetime) -> bool:
    return (now - run.heartbeat_at).total_seconds() < PULSE_S * 2


# --- Looking after all of them -----------------------------------------------------------------
def tend_jobs(*, now: dt.datetime, limit: int) -> int:
    """
    End or repeat runs whose worker has gone, mark those that hang, send what is due to workers;
    return how many of all these.
    """
    return _end_lost(now, limit) + _mark_stuck(now, limit) + _send_due(now, limit)


def _end_lost(now: dt.datetime, limit: int) -> int:
    silent = JobRun.objects.filter(
        status=_S.RUNNING, alive_at__lt=now - dt.timedelta(seconds=GONE_AFTER_S)
    )
    lost = 0
    for pk in list(silent.order_by("alive_at").values_list("pk", flat=True)[:limit]):
        with transaction.atomic():
            row = silent.select_for_update(skip_locked=True).filter(pk=pk).first()
            if row is None:
                continue
            lost += 1
            run = _run_of(row)
            failure = _worker_gone(run.attempts, row.worker)
            if run.is_tick:
                _end_tick(run, failure, _S.LOST, now)
            elif run.attempts < run.attempts_max and run.is_replayable:
                _try_again(run, failure, now, now)
            else:
                _end_dead(run, failure, now)
    return lost


def _mark_stuck(now: dt.datetime, limit: int) -> int:
    """Mark runs whose worker lives, and that say nothing for longer than they may."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE core_jobrun SET stuck_at = %(now)s WHERE id IN ("
            " SELECT id FROM core_jobrun WHERE status = 'running' AND stuck_at IS NULL"
            " AND heartbeat_at + make_interval(secs => silence_limit_s) < %(now)s"
            " ORDER BY alive_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED"
            ") RETURNING task, task_id, worker, heartbeat_at",
            {"now": now, "limit": limit},
        )
        rows = cursor.fetchall()
        for task, task_id, worker, heartbeat_at in rows:
            silent_s = int((now - heartbeat_at).total_seconds())
            logger.warning("job is stuck", task=task, task_id=task_id, silent_s=silent_s)
            note_failure(
                task=task,
                words=f"Run {task_id} on {worker} is stuck: not a word for {silent_s} s.",
                now=now,
            )
    return len(rows)


def _send_due(now: dt.datetime, limit: int) -> int:
    """Send workers a message for each run that is due, and have it due again in a while."""
    with transaction.atomic():
        due = list(
            JobRun.objects.select_for_update(skip_locked=True)
            .filter(next_attempt_at__lte=now)
            .order_by("next_attempt_at")[:limit]
        )
        sendable = [row for row in due if row.sends < SENDS_MAX]
        for row in sendable:
            row.sends += 1
            row.next_attempt_at = now + dt.timedelta(seconds=RESEND_AFTER_S)
        JobRun.objects.bulk_update(sendable, ["sends", "next_attempt_at"])
        for row in due:
            if row not in sendable:
                _end_unheard(row, now)
    for row in sendable:
        given = json.loads(row.arguments)
        # What is not sent now is due again soon.
        send(row.task, args=given["args"], kwargs=given["kwargs"], task_id=row.task_id)
    return len(due)


def _end_unheard(row: JobRun, now: dt.datetime) -> None:
    failure = Failure(
        error_class="NoWorker",
        message=f"Sent {row.sends} times, and no worker began it: is there such a task?",
        traceback="",
    )
    row.status, row.next_attempt_at, row.finished_at = _S.DEAD, None, now
    row.error = failure.summary
    row.save()
    _bury(_run_of(row), failure, failures=1, more=1, now=now)


def _run_of(row: JobRun) -> Run:
    began_at = row.started_at or row.created_at
    return Run(
        id=row.pk,
        task_id=row.task_id,
        task=row.task,
        arguments=row.arguments,
        is_replayable=row.is_replayable,
        tenant_id=row.tenant_id,
        is_tick=row.is_tick,
        attempts=row.attempts,
        attempts_max=row.attempts_max,
        began_at=began_at,
        heartbeat_at=row.heartbeat_at or began_at,
    )


def _worker_gone(attempts: int, worker: str = "") -> Failure:
    where = f" {worker}" if worker else ""
    return Failure(
        error_class="WorkerGone",
        message=f"The worker{where} ended in the middle of attempt {attempts}: killed, perhaps for"
        " the memory that it took.",
        traceback="",
    )


def purge_runs(*, now: dt.datetime, kept_days: int) -> int:
    """Delete runs, notices and decided dead letters that are older than anybody asks for."""
    before = now - dt.timedelta(days=kept_days)
    letters_before = now - dt.timedelta(days=max(kept_days, _LETTERS_KEPT_DAYS))
    return (
        _purge(JobRun.objects.filter(finished_at__lt=before))
        + _purge(FailureNotice.objects.exclude(status="waiting").filter(created_at__lt=before))
        + _purge(DeadLetter.objects.filter(decided_at__lt=letters_before))
    )


def _purge(rows: Any) -> int:
    # What one batch leaves, the next tick takes.
    ids = list(rows.order_by("pk").values_list("pk", flat=True)[:_PURGE_BATCH])
    return int(rows.model.objects.filter(pk__in=ids).delete()[0])
