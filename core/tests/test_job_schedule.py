"""Beat's schedule: made by a release, kept by staff, late or not; and `manage.py jobs`."""

import datetime as dt
import io
import json
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db.models import QuerySet
from django_celery_beat.models import PeriodicTasks

from core import schedule
from core.due import COUNTED_MAX, due_counts, register_due
from core.errors import AlreadyExists, InvalidRequest, NotFound
from core.metrics import exposition
from core.models import AuditRecord, JobRun, JobState, ScheduledTask
from ops.servers import free_port

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def later(**length: float) -> dt.datetime:
    return NOW + dt.timedelta(**length)


@pytest.fixture
def sealing() -> ScheduledTask:
    """A task of every five seconds, expected since NOW."""
    schedule.ensure_schedule()
    ScheduledTask.objects.update(date_changed=NOW)
    found: ScheduledTask = ScheduledTask.objects.get(name="seal new rows")
    return found


def line(scheduled: ScheduledTask) -> schedule.Line:
    return next(each for each in schedule.lines() if each.id == scheduled.pk)


# --- What a release brings ---------------------------------------------------------------------
def test_every_task_of_the_release_is_scheduled_by_an_interval(settings: LazySettings) -> None:
    ScheduledTask.objects.all().delete()

    schedule.ensure_schedule()

    made = ScheduledTask.objects.select_related("interval")
    assert {each.name: schedule.every_s_of(each) for each in made} == {
        name: each["every_s"] for name, each in settings.PERIODIC_TASKS.items()
    }
    # What nobody took has been followed by another.
    assert all(each.expire_seconds >= 30 for each in made)


def test_what_staff_changed_is_left_alone(sealing: ScheduledTask) -> None:
    schedule.change_scheduled_task(scheduled_id=sealing.pk, every_s=7, now=NOW)
    schedule.change_scheduled_task(scheduled_id=sealing.pk, is_enabled=False, now=NOW)

    assert schedule.ensure_schedule() == 0

    assert (line(sealing).every_s, line(sealing).is_enabled) == (7, False)


def test_a_later_release_adds_what_is_missing(
    sealing: ScheduledTask, settings: LazySettings
) -> None:
    settings.PERIODIC_TASKS = {
        **settings.PERIODIC_TASKS,
        "new": {"task": "core.new", "every_s": 60},
    }

    assert schedule.ensure_schedule() == 1
    assert ScheduledTask.objects.filter(name="new").exists()


# --- What staff change -------------------------------------------------------------------------
def test_beat_is_told_of_a_change_and_the_trail_too(sealing: ScheduledTask) -> None:
    before = PeriodicTasks.last_change()

    schedule.change_scheduled_task(scheduled_id=sealing.pk, every_s=9, reason="Too often", now=NOW)

    assert PeriodicTasks.last_change() > before
    record = AuditRecord.objects.get(action="scheduled_task.changed")
    assert record.before == {"name": "seal new rows", "every_s": 5}
    assert (record.after, record.reason) == ({"name": "seal new rows", "every_s": 9}, "Too often")


@pytest.mark.parametrize("every_s", [0, -1, 24 * 3600 + 1])
def test_an_interval_that_is_none_is_refused(sealing: ScheduledTask, every_s: int) -> None:
    with pytest.raises(InvalidRequest):
        schedule.change_scheduled_task(scheduled_id=sealing.pk, every_s=every_s, now=NOW)


def test_an_unknown_line_is_not_found() -> None:
    with pytest.raises(NotFound):
        schedule.change_scheduled_task(scheduled_id=2**31 - 1, every_s=5, now=NOW)


def test_a_name_is_taken_once(sealing: ScheduledTask) -> None:
    with pytest.raises(AlreadyExists):
        schedule.add_scheduled_task(
            name=sealing.name, task="core.seal_new_rows", kwargs={}, every_s=5, now=NOW
        )


def test_arguments_of_a_scheduled_task_are_no_secrets() -> None:
    with pytest.raises(InvalidRequest):
        schedule.add_scheduled_task(
            name="x", task="core.x", kwargs={"token": "abc"}, every_s=5, now=NOW
        )


def test_run_now_is_a_run_beside_the_schedule(sealing: ScheduledTask) -> None:
    task_id = schedule.run_scheduled_task(scheduled_id=sealing.pk, now=NOW)

    assert JobRun.objects.get(task_id=task_id).task == "core.seal_new_rows"
    assert AuditRecord.objects.filter(action="scheduled_task.run").exists()


# --- Late or not -------------------------------------------------------------------------------
def test_a_task_is_late_after_three_intervals_and_a_minute_at_least(
    sealing: ScheduledTask,
) -> None:
    JobState.objects.create(task="core.seal_new_rows", last_succeeded_at=NOW)

    assert not line(sealing).is_late(later(seconds=60))
    assert line(sealing).is_late(later(seconds=61))


def test_a_task_that_never_ran_is_late_by_when_it_was_added(sealing: ScheduledTask) -> None:
    assert not line(sealing).is_late(later(seconds=59))
    assert line(sealing).is_late(later(seconds=61))


def test_what_is_switched_off_is_not_late(sealing: ScheduledTask) -> None:
    schedule.change_scheduled_task(scheduled_id=sealing.pk, is_enabled=False, now=NOW)

    assert not line(sealing).is_late(later(days=9))


def test_what_pauses_after_a_success_is_late_after_its_pause(sealing: ScheduledTask) -> None:
    daily = ScheduledTask.objects.get(task="payments.reconcile")
    JobState.objects.create(task=daily.task, last_succeeded_at=NOW)

    assert not line(daily).is_late(later(hours=24.5))
    assert line(daily).is_late(later(hours=25))


# --- Once a day --------------------------------------------------------------------------------
def test_a_daily_task_is_done_once_a_day_however_often_it_is_sent() -> None:
    def is_claimed(at: dt.datetime) -> bool:
        return schedule.claim_paused("daily", pause_s=24 * 3600, now=at)

    assert is_claimed(NOW)
    assert not is_claimed(later(minutes=15))
    JobState.objects.update(last_succeeded_at=later(minutes=20))
    assert not is_claimed(later(hours=24))
    assert is_claimed(later(hours=24, minutes=20))


def test_a_daily_task_that_died_is_done_an_hour_later() -> None:
    assert schedule.claim_paused("daily", pause_s=24 * 3600, now=NOW)

    assert not schedule.claim_paused("daily", pause_s=24 * 3600, now=later(minutes=59))
    assert schedule.claim_paused("daily", pause_s=24 * 3600, now=later(minutes=60))


# --- Due ---------------------------------------------------------------------------------------
def test_what_is_due_is_counted_and_never_beyond_a_limit(
    sealing: ScheduledTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dt.datetime] = []

    def lines_of_the_schedule(now: dt.datetime) -> QuerySet[Any]:
        asked.append(now)
        found: QuerySet[Any] = ScheduledTask.objects.all()
        return found

    register_due("lines of the schedule", lines_of_the_schedule)
    monkeypatch.setattr("core.due.COUNTED_MAX", 3)

    counts = due_counts(now=NOW)

    assert counts["lines of the schedule"] == 3 < COUNTED_MAX
    assert asked == [NOW]


def test_the_sweeps_have_said_what_is_due() -> None:
    assert {
        "payments: next steps",
        "refunds: next steps",
        "payouts: next steps",
        "invoices: next steps",
        "invoices: e-mails",
        "webhooks: notifications",
        "holds to expire",
        "recurring payments due",
        "recurring runs to be taken again",
    } <= set(due_counts(now=NOW))


# --- At one look -------------------------------------------------------------------------------
def said(*words: str) -> str:
    out = io.StringIO()
    call_command("jobs", *words, stdout=out)
    return out.getvalue()


def test_the_command_shows_the_schedule_and_what_is_late(sealing: ScheduledTask) -> None:
    text = said()

    assert "seal new rows" in text
    assert "LATE" in text
    assert "dead letters: 0" in text
    assert "NONE IS ACTIVE" in text


def test_the_command_works_without_redis(sealing: ScheduledTask, settings: LazySettings) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"

    assert "Redis does not answer" in said()
    assert json.loads(said("--json"))["queues"] is None


def test_the_command_shows_runs_with_their_progress(sealing: ScheduledTask) -> None:
    JobRun.objects.create(
        task_id="one",
        task="chores.climb",
        arguments="{}",
        is_tick=False,
        status="running",
        attempts=1,
        attempts_max=1,
        created_at=NOW,
        started_at=NOW,
        alive_at=NOW,
        heartbeat_at=NOW,
        stuck_at=NOW,
        done=3,
        total=10,
    )

    [run] = json.loads(said("--json"))["running"]
    assert (run["done"], run["total"], run["is_stuck"]) == (3, 10, True)
    assert "3 of 10" in said()


def test_a_check_that_finds_fault_says_so_by_its_exit(sealing: ScheduledTask) -> None:
    with pytest.raises(CommandError) as refusal:
        said("--check")

    assert refusal.value.returncode == 1


def test_prometheus_sees_silence_and_lateness(sealing: ScheduledTask) -> None:
    text = exposition().decode()

    assert 'florin_scheduled_task_late{task="seal new rows"} 1.0' in text
    assert 'florin_scheduled_task_silence_seconds{task="seal new rows"}' in text
    assert 'florin_jobs{state="dead"} 0.0' in text
    assert "florin_jobs_known 1.0" in text
