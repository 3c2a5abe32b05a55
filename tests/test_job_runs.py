"""Runs of tasks without a broker: counted, tried again, given up, watched."""

import datetime as dt
import json
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from core import runs
from core.database import constraint_of
from core.dead_letters import replay_letter
from core.errors import InvalidState
from core.models import AuditRecord, DeadLetter, JobRun, JobState, OutboxEvent
from core.queueing import ARGUMENTS_LENGTH_MAX, enqueue
from core.redaction import REDACTED
from identity.models import Tenant

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def later(**length: float) -> dt.datetime:
    return NOW + dt.timedelta(**length)


def begun(
    task_id: str = "0190f0a0-0000-7000-8000-000000000001", *, at: dt.datetime = NOW, **changes: Any
) -> runs.Run | None:
    values: dict[str, Any] = {
        "task_id": task_id,
        "task": "chores.note",
        "args": [],
        "kwargs": {},
        "is_tick": False,
        "attempts_max": 3,
        "silence_limit_s": 60,
        "worker": "host:1",
        "now": at,
        **changes,
    }
    return runs.begin(**values)


def must_begin(*args: Any, **changes: Any) -> runs.Run:
    run = begun(*args, **changes)
    assert run is not None
    return run


def row(run: runs.Run) -> JobRun:
    return JobRun.objects.get(pk=run.id)


# --- Counting ----------------------------------------------------------------------------------
def test_a_run_is_counted_before_it_begins() -> None:
    run = must_begin()

    assert (row(run).status, row(run).attempts) == ("running", 1)


def test_a_message_that_comes_twice_is_run_once() -> None:
    must_begin()

    assert begun() is None


def test_a_message_that_comes_after_the_end_is_not_run_again() -> None:
    run = must_begin()
    runs.succeed(run, result="", is_kept=True, now=later(seconds=1))

    assert begun(at=later(hours=1)) is None


def test_a_run_whose_worker_has_gone_may_be_begun_by_another() -> None:
    must_begin()

    run = must_begin(at=later(seconds=runs.GONE_AFTER_S + 1))

    assert run.attempts == 2


def test_what_was_sent_too_often_by_the_broker_is_given_up_unrun() -> None:
    for minute in range(3):
        must_begin(at=later(minutes=minute))

    assert begun(at=later(minutes=3)) is None
    assert DeadLetter.objects.get().failures == 3
    assert JobRun.objects.get().status == "dead"


def test_the_worker_that_was_given_up_says_no_more() -> None:
    late = must_begin()
    again = must_begin(at=later(minutes=1))

    runs.succeed(late, result="late", is_kept=True, now=later(minutes=2))

    assert (row(again).status, row(again).result) == ("running", "")


# --- Success -----------------------------------------------------------------------------------
def test_a_tick_that_found_nothing_leaves_no_row_but_its_time() -> None:
    run = must_begin(is_tick=True)

    runs.succeed(run, result="", is_kept=False, now=later(seconds=1))

    assert not JobRun.objects.exists()
    assert JobState.objects.get(pk="chores.note").last_succeeded_at == later(seconds=1)


def test_a_run_that_is_kept_says_what_it_returned() -> None:
    run = must_begin()

    runs.succeed(run, result="7", is_kept=True, now=later(seconds=1))

    assert (row(run).status, row(run).result) == ("succeeded", "7")
    assert row(run).finished_at == later(seconds=1)


# --- Failure of jobs ---------------------------------------------------------------------------
def test_a_job_is_tried_again_after_ever_longer_pauses() -> None:
    pauses = []
    for attempt in range(1, 6):
        lengths = [runs.pause_after(attempt).total_seconds() for _ in range(50)]
        assert len(set(lengths)) > 25
        pauses.append(min(lengths))

    assert pauses == sorted(pauses)
    assert 3.7 <= pauses[0] <= 6.3
    assert max(runs.pause_after(99).total_seconds() for _ in range(50)) <= 900 * 1.25


def test_a_failure_that_may_pass_has_the_job_wait() -> None:
    run = must_begin()

    runs.fail(run, ConnectionError("no line"), may_pass=True, now=later(seconds=1))

    assert row(run).status == "waiting"
    assert row(run).error == "builtins.ConnectionError: no line"
    assert later(seconds=4) < (row(run).next_attempt_at or NOW) < later(seconds=8)
    assert not DeadLetter.objects.exists()


def test_a_failure_that_will_not_pass_is_a_dead_letter_at_once() -> None:
    run = must_begin(kwargs={"invoice_id": "0190f0a0"})

    runs.fail(run, _raised(ValueError("it is broken")), may_pass=False, now=later(seconds=1))

    letter = DeadLetter.objects.get()
    assert (letter.status, letter.failures) == ("waiting", 1)
    assert (letter.error_class, letter.error_message) == ("builtins.ValueError", "it is broken")
    assert "Traceback" in letter.traceback
    assert json.loads(letter.arguments) == {"args": [], "kwargs": {"invoice_id": "0190f0a0"}}
    assert (letter.first_failed_at, letter.last_failed_at) == (NOW, later(seconds=1))


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_the_last_attempt_ends_in_a_dead_letter_with_its_count() -> None:
    for number in range(3):
        run = must_begin(at=later(hours=number))
        runs.fail(run, ConnectionError("x"), may_pass=True, now=later(hours=number, seconds=1))

    assert DeadLetter.objects.get().failures == 3
    assert JobRun.objects.get().status == "dead"


def test_a_tenant_is_told_of_its_failed_and_dead_jobs(tenant: Tenant) -> None:
    given = {"tenant_id": str(tenant.pk)}
    for number in range(3):
        run = must_begin(at=later(hours=number), kwargs=given)
        runs.fail(run, ConnectionError("x"), may_pass=True, now=later(hours=number, seconds=1))

    events = OutboxEvent.objects.filter(tenant_id=tenant.pk, event_type__startswith="job.")
    assert [each.event_type for each in events.order_by("pk")] == [
        "job.failed",
        "job.failed",
        "job.dead",
    ]
    assert DeadLetter.objects.get().tenant_id == tenant.pk


def test_a_death_that_is_nobodys_is_in_the_audit_trail_alone() -> None:
    runs.fail(must_begin(), ValueError("x"), may_pass=False, now=NOW)

    assert AuditRecord.objects.get(action="job.dead").object_id == DeadLetter.objects.get().pk
    assert not OutboxEvent.objects.exists()


# --- Failure of ticks --------------------------------------------------------------------------
def failing_tick(number: int) -> None:
    run = must_begin(f"tick-{number}", is_tick=True, at=later(minutes=number))
    runs.fail(run, ValueError(f"for the {number}"), may_pass=True, now=later(minutes=number))


def test_a_tick_that_fails_again_and_again_is_one_dead_letter_that_counts() -> None:
    failing_tick(1)
    failing_tick(2)
    assert not DeadLetter.objects.exists()

    for number in range(3, 8):
        failing_tick(number)

    letter = DeadLetter.objects.get()
    assert (letter.failures, letter.error_message) == (7, "for the 7")
    assert letter.last_failed_at == later(minutes=7)
    assert set(JobRun.objects.values_list("status")) == {("failed",)}


def test_a_tick_that_succeeds_again_closes_its_letter() -> None:
    for number in range(1, 5):
        failing_tick(number)

    run = must_begin("tick-5", is_tick=True, at=later(minutes=5))
    runs.succeed(run, result="", is_kept=False, now=later(minutes=5))

    assert DeadLetter.objects.get().status == "recovered"
    assert JobState.objects.get().failures_in_row == 0


# --- What was said must be storable and no secret ------------------------------------------------
def test_nul_bytes_and_half_characters_survive() -> None:
    task_id = enqueue("chores.note", kwargs={"word": "a\x00b\ud800"}, now=NOW)
    run = must_begin(task_id, kwargs={"word": "a\x00b\ud800"})

    runs.fail(run, ValueError("bad \x00 \ud800"), may_pass=False, now=NOW)

    letter = DeadLetter.objects.get()
    assert json.loads(letter.arguments)["kwargs"] == {"word": "a\x00b\ud800"}
    assert letter.is_replayable
    assert letter.error_message == "bad \\x00 \\ud800"


def test_secrets_are_not_kept_and_such_a_letter_is_not_replayed() -> None:
    run = must_begin(kwargs={"password": "hunter2-hunter2", "pan": "4111111111111111"})
    error = ValueError("refused: Authorization: Bearer abcdefghijkl")

    runs.fail(run, _raised(error), may_pass=True, now=NOW)

    letter = DeadLetter.objects.get()
    kept = letter.arguments + letter.error_message + letter.traceback + row(run).arguments
    for secret in ("hunter2", "4111111111111111", "abcdefghijkl"):
        assert secret not in kept
    assert REDACTED in letter.arguments
    assert not letter.is_replayable
    with pytest.raises(InvalidState, match="secret"):
        replay_letter(letter_id=letter.pk, now=NOW)


@pytest.mark.parametrize("kwargs", [{"password": "x"}, {"text": "x" * ARGUMENTS_LENGTH_MAX}])
def test_what_could_not_be_replayed_is_not_taken_on(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="secret"):
        enqueue("chores.note", kwargs=kwargs, now=NOW)


# --- Tending -----------------------------------------------------------------------------------
def test_a_job_whose_worker_has_gone_is_due_again_at_once() -> None:
    run = must_begin(kwargs={"word": "x"})

    assert runs.tend_jobs(now=later(seconds=runs.GONE_AFTER_S - 1), limit=10) == 0
    runs.tend_jobs(now=later(seconds=runs.GONE_AFTER_S + 1), limit=10)

    assert (row(run).status, row(run).sends) == ("waiting", 1)
    assert row(run).error.startswith("WorkerGone: The worker host:1 ended")


def test_a_job_that_ends_its_workers_is_given_up() -> None:
    for minute in range(3):
        must_begin(at=later(minutes=minute))
        runs.tend_jobs(now=later(minutes=minute, seconds=31), limit=10)

    assert JobRun.objects.get().status == "dead"
    assert DeadLetter.objects.get().error_class == "WorkerGone"


def test_a_tick_whose_worker_has_gone_is_lost() -> None:
    run = must_begin(is_tick=True)

    runs.tend_jobs(now=later(minutes=1), limit=10)

    assert row(run).status == "lost"
    assert JobState.objects.get().failures_in_row == 1


def test_a_run_that_lives_and_says_nothing_is_stuck_until_it_speaks() -> None:
    run = must_begin(silence_limit_s=60)
    runs.pulse(run, now=later(seconds=61))

    runs.tend_jobs(now=later(seconds=62), limit=10)

    assert (row(run).status, row(run).stuck_at) == ("running", later(seconds=62))
    runs.set_current(run)
    runs.progress(done=1, total=2, now=later(seconds=63))
    runs.set_current(None)
    runs.pulse(run, now=later(seconds=64))
    assert row(run).stuck_at is None


def test_progress_is_written_with_the_pulse() -> None:
    run = must_begin()
    runs.set_current(run)
    runs.progress(done=7, total=5, now=later(seconds=3))
    runs.set_current(None)

    assert runs.pulse(run, now=later(seconds=5))

    assert (row(run).done, row(run).total) == (5, 5)
    assert (row(run).heartbeat_at, row(run).alive_at) == (later(seconds=3), later(seconds=5))


def test_outside_of_a_run_progress_is_nothing() -> None:
    runs.progress(done=1)

    assert not JobRun.objects.exists()


def test_what_no_worker_takes_is_sent_again_and_in_the_end_given_up() -> None:
    enqueue("chores.unknown", now=NOW)
    for number in range(1, 4):
        runs.tend_jobs(now=later(seconds=61 * number), limit=10)
    assert JobRun.objects.get().sends == 3

    JobRun.objects.update(sends=runs.SENDS_MAX)
    runs.tend_jobs(now=later(hours=1), limit=10)

    assert DeadLetter.objects.get().error_class == "NoWorker"


def test_a_job_may_be_for_later() -> None:
    enqueue("chores.note", now=NOW, due_at=later(hours=1))

    assert runs.tend_jobs(now=later(minutes=59), limit=10) == 0
    assert runs.tend_jobs(now=later(minutes=60), limit=10) == 1


def test_a_job_of_a_transaction_that_is_undone_was_never_asked_for() -> None:
    with transaction.atomic():
        enqueue("chores.note", now=NOW)
        transaction.set_rollback(True)

    assert not JobRun.objects.exists()


# --- Purging -----------------------------------------------------------------------------------
def test_old_runs_go_and_what_waits_stays() -> None:
    runs.succeed(must_begin("old"), result="", is_kept=True, now=NOW)
    runs.fail(must_begin("dead"), ValueError("x"), may_pass=False, now=NOW)
    enqueue("chores.note", now=NOW)

    runs.purge_runs(now=later(days=500), kept_days=14)

    assert [each.status for each in JobRun.objects.all()] == ["waiting"]
    assert DeadLetter.objects.get().status == "waiting"


# --- What the database refuses -----------------------------------------------------------------
@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("UPDATE core_jobrun SET status = 'done', finished_at = now()", "job_run_status_known"),
        ("UPDATE core_jobrun SET next_attempt_at = now()", "job_run_waiting_is_due"),
        ("UPDATE core_jobrun SET attempts = 0", "job_run_running_has_worker"),
        ("UPDATE core_jobrun SET finished_at = now()", "job_run_ended_has_end"),
        ("UPDATE core_jobrun SET done = 2, total = 1", "job_run_done_within_total"),
        (
            "INSERT INTO core_jobrun (task_id, task, arguments, is_replayable, is_tick, status,"
            " attempts, attempts_max, sends, next_attempt_at, worker, created_at, silence_limit_s,"
            " result, error) SELECT task_id, task, arguments, true, true, 'waiting', 0, 1, 0,"
            " now(), '', now(), 0, '', '' FROM core_jobrun",
            "job_run_once",
        ),
    ],
)
def test_a_run_cannot_be_what_it_may_not_be(statement: str, rule: str) -> None:
    must_begin()

    refused(statement, rule)


def test_a_run_that_has_ended_stays_as_it_ended() -> None:
    runs.succeed(must_begin(), result="", is_kept=True, now=NOW)

    refused("UPDATE core_jobrun SET result = 'other'", "job_run_ends_once")


def refused(statement: str, rule: str) -> None:
    with (
        pytest.raises(IntegrityError) as refusal,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert constraint_of(refusal.value) == rule
