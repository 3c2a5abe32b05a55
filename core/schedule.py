"""
What beat sends, and whether it comes to anything.

settings.PERIODIC_TASKS is what a release brings; the table (django-celery-beat's) is what counts,
and staff change it. A release adds what is missing there and touches nothing else.
"""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django_celery_beat.models import IntervalSchedule, PeriodicTasks

from core.changes import changed, record_for_audit
from core.errors import AlreadyExists, InvalidRequest, NotFound
from core.jobs import ring
from core.models import JobState, ScheduledTask
from core.notices import note_failure
from core.queueing import enqueue, kept_arguments

# Any constant that nobody else locks: "fl" and "beat" in letters' numbers.
BEAT_LOCK = 0x666C62656174
EVERY_S_MAX = 24 * 3600
LATE_AFTER_INTERVALS = 3
# Less is no lateness: beat looks every five seconds, and a worker may be busy.
_LATE_AFTER_S_MIN = 60
_TOLD_AFTER_S_MIN = 300
# A tick that nobody took in this time has been followed by another.
_EXPIRES_S_MIN = 30
# What was claimed and did not end is tried again after this.
_CLAIMED_FOR = dt.timedelta(hours=1)


def is_tick(task: str) -> bool:
    """Whether the task is one that looks for what is due, and so is sent again in any case."""
    return task in _ticks()


def pause_s_of(task: str) -> int:
    """Return how long after its last success a tick has nothing to do; 0: it always looks."""
    return _ticks().get(task, 0)


def _ticks() -> dict[str, int]:
    return {each["task"]: each.get("pause_s", 0) for each in settings.PERIODIC_TASKS.values()}


def ensure_schedule() -> int:
    """Add what the release brings and the table lacks; return how many lines."""
    known = set(ScheduledTask.objects.values_list("name", flat=True))
    missing = {name: each for name, each in settings.PERIODIC_TASKS.items() if name not in known}
    if not missing:
        return 0
    with transaction.atomic():
        made = ScheduledTask.objects.bulk_create(
            [
                ScheduledTask(
                    name=name,
                    task=each["task"],
                    interval=_interval(each["every_s"]),
                    expire_seconds=max(_EXPIRES_S_MIN, each["every_s"]),
                )
                for name, each in missing.items()
            ],
            # Another process may be at it.
            ignore_conflicts=True,
        )
        PeriodicTasks.update_changed()
    return len(made)


def claim_paused(task: str, *, pause_s: int, now: dt.datetime) -> bool:
    """
    Whether a tick that does its work once in `pause_s` is to do it now, and nobody else has begun.

    Such ticks are sent more often than that, so that one that is lost costs minutes, not a day.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO core_jobstate AS s (task, last_began_at, failures_in_row)"
            " VALUES (%(task)s, %(now)s, 0)"
            " ON CONFLICT (task) DO UPDATE SET last_began_at = %(now)s"
            " WHERE (s.last_succeeded_at IS NULL OR s.last_succeeded_at <= %(done_before)s)"
            " AND (s.last_began_at IS NULL OR s.last_began_at <= %(begun_before)s"
            " OR s.last_began_at <= s.last_succeeded_at)"
            " RETURNING 1",
            {
                "task": task,
                "now": now,
                "done_before": now - dt.timedelta(seconds=pause_s),
                "begun_before": now - _CLAIMED_FOR,
            },
        )
        return cursor.fetchone() is not None


# --- What staff change -------------------------------------------------------------------------
def change_scheduled_task(
    *,
    scheduled_id: int,
    now: dt.datetime,
    every_s: int | None = None,
    is_enabled: bool | None = None,
    reason: str = "",
) -> ScheduledTask:
    """
    Change how often a task is sent, or whether at all. Beat sees it within seconds.

    :raises NotFound: no such line
    :raises InvalidRequest: an interval that is none
    """
    with transaction.atomic():
        scheduled: ScheduledTask | None = (
            ScheduledTask.objects.select_for_update(of=("self",))
            .select_related("interval")
            .filter(pk=scheduled_id)
            .first()
        )
        if scheduled is None:
            raise NotFound("No such scheduled task.")
        before = _shown(scheduled)
        if every_s is not None:
            _check_interval(every_s)
            scheduled.interval, scheduled.crontab = _interval(every_s), None
            scheduled.expire_seconds = max(_EXPIRES_S_MIN, every_s)
        if is_enabled is not None:
            scheduled.enabled = is_enabled
        # Beat writes the other columns at the same time.
        ScheduledTask.objects.filter(pk=scheduled_id).update(
            interval=scheduled.interval,
            crontab=scheduled.crontab,
            expire_seconds=scheduled.expire_seconds,
            enabled=scheduled.enabled,
            date_changed=now,
        )
        PeriodicTasks.update_changed()
        record_for_audit(
            tenant_id=None,
            action="scheduled_task.changed",
            now=now,
            reason=reason,
            **_difference(before, _shown(scheduled)),
        )
    return scheduled


def add_scheduled_task(
    *, name: str, task: str, kwargs: Mapping[str, Any], every_s: int, now: dt.datetime
) -> ScheduledTask:
    """
    Have a task sent every so often. That there is such a task, the caller has seen to.

    :raises AlreadyExists: the name is taken
    :raises InvalidRequest: an interval that is none, arguments with secrets
    """
    _check_interval(every_s)
    arguments, is_whole = kept_arguments([], kwargs)
    if not is_whole:
        raise InvalidRequest("Arguments are plain and hold no secrets.", field="kwargs")
    with transaction.atomic():
        if ScheduledTask.objects.filter(name=name).exists():
            raise AlreadyExists(f"There is a scheduled task {name}.")
        scheduled: ScheduledTask = ScheduledTask.objects.create(
            name=name,
            task=task,
            kwargs=json.dumps(json.loads(arguments)["kwargs"]),
            interval=_interval(every_s),
            expire_seconds=max(_EXPIRES_S_MIN, every_s),
        )
        PeriodicTasks.update_changed()
        record_for_audit(
            tenant_id=None, action="scheduled_task.added", now=now, after=_shown(scheduled)
        )
    return scheduled


def run_scheduled_task(*, scheduled_id: int, now: dt.datetime, reason: str = "") -> str:
    """
    Have a scheduled task run now, beside its schedule; return the id of the run.

    :raises NotFound: no such line
    """
    with transaction.atomic():
        scheduled = ScheduledTask.objects.filter(pk=scheduled_id).first()
        if scheduled is None:
            raise NotFound("No such scheduled task.")
        task_id = enqueue(
            scheduled.task,
            args=json.loads(scheduled.args or "[]"),
            kwargs=json.loads(scheduled.kwargs or "{}"),
            now=now,
        )
        record_for_audit(
            tenant_id=None,
            action="scheduled_task.run",
            now=now,
            after={"name": scheduled.name, "run": task_id},
            reason=reason,
        )
    ring(scheduled.task)
    return task_id


def _check_interval(every_s: int) -> None:
    if not 1 <= every_s <= EVERY_S_MAX:
        raise InvalidRequest(f"From 1 to {EVERY_S_MAX} seconds.", field="every_s")


def _interval(every_s: int) -> IntervalSchedule:
    found = IntervalSchedule.objects.filter(every=every_s, period=IntervalSchedule.SECONDS)
    return found.order_by("pk").first() or IntervalSchedule.objects.create(
        every=every_s, period=IntervalSchedule.SECONDS
    )


def _shown(scheduled: ScheduledTask) -> dict[str, Any]:
    return {
        "name": scheduled.name,
        "task": scheduled.task,
        "every_s": every_s_of(scheduled),
        "is_enabled": scheduled.enabled,
    }


def _difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return what changed, under the name of the line: it has no id that the trail could take."""
    differs = changed(before, after)
    return {which: {"name": after["name"], **(fields or {})} for which, fields in differs.items()}


# --- Is it late --------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Line:
    """A line of the schedule, and how its task goes."""

    id: int
    name: str
    task: str
    is_enabled: bool
    # None: a crontab or the like, which we do not judge.
    every_s: int | None
    pause_s: int
    last_sent_at: dt.datetime | None
    total_sent: int
    last_succeeded_at: dt.datetime | None
    last_failed_at: dt.datetime | None
    failures_in_row: int
    # From when on its silence counts.
    since: dt.datetime

    @property
    def next_due_at(self) -> dt.datetime | None:
        if not self.is_enabled or self.every_s is None:
            return None
        return (self.last_sent_at or self.since) + dt.timedelta(seconds=self.every_s)

    def silence_s(self, now: dt.datetime) -> float:
        """Return how long ago it last succeeded, or began to be expected to."""
        return (now - max(self.last_succeeded_at or self.since, self.since)).total_seconds()

    def is_late(self, now: dt.datetime, *, at_least_s: int = _LATE_AFTER_S_MIN) -> bool:
        if not self.is_enabled or self.every_s is None:
            return False
        allowed = max(LATE_AFTER_INTERVALS * self.every_s, at_least_s) + self.pause_s
        return self.silence_s(now) > allowed


def every_s_of(scheduled: ScheduledTask) -> int | None:
    if scheduled.interval is None:
        return None
    return int(scheduled.interval.schedule.run_every.total_seconds())


def lines() -> list[Line]:
    """Return the schedule, by name. Two queries."""
    states = JobState.objects.in_bulk()
    return [
        line_of(each, states.get(each.task))
        for each in ScheduledTask.objects.select_related("interval").order_by("name")
    ]


def line_of(scheduled: ScheduledTask, state: JobState | None) -> Line:
    return Line(
        id=scheduled.pk,
        name=scheduled.name,
        task=scheduled.task,
        is_enabled=scheduled.enabled,
        every_s=every_s_of(scheduled),
        pause_s=pause_s_of(scheduled.task),
        last_sent_at=scheduled.last_run_at,
        total_sent=scheduled.total_run_count,
        last_succeeded_at=state.last_succeeded_at if state else None,
        last_failed_at=state.last_failed_at if state else None,
        failures_in_row=state.failures_in_row if state else 0,
        since=scheduled.date_changed,
    )


def note_late(*, now: dt.datetime) -> int:
    """Have those who run Florin told of ticks that are late; return how many are."""
    late = [each for each in lines() if each.is_late(now, at_least_s=_TOLD_AFTER_S_MIN)]
    for each in late:
        note_failure(
            task=each.task,
            words=f"{each.name} is late: it should run every {each.every_s} s, and last succeeded"
            f" {int(each.silence_s(now))} s ago.",
            now=now,
        )
    return len(late)


def beat_pid() -> int | None:
    """Return the PostgreSQL session of the beat that is active; None: there is none."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid::bigint << 32 | objid::bigint = %s",
            [BEAT_LOCK],
        )
        row = cursor.fetchone()
    return row and int(row[0])
