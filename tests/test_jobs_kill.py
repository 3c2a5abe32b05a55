"""Jobs with real workers, beats and a broker of their own, any of which is killed."""

import contextlib
import datetime as dt
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from django.utils import timezone

from core.models import DeadLetter, JobRun, JobState
from core.queueing import enqueue
from core.runs import tend_jobs
from core.schedule import BEAT_LOCK, beat_pid, ensure_schedule
from ops import processes
from ops.servers import Valkey, scratch_directory
from tests.serving import database_url
from tests.working import START_TIMEOUT_S, beat, kept_alive, wait_until, worker

pytestmark = [
    pytest.mark.crash,
    pytest.mark.long,
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture(autouse=True)
def _schedule(db: None) -> None:
    ensure_schedule()


@pytest.fixture
def broker() -> Iterator[Valkey]:
    with scratch_directory() as place, Valkey(place, durable=False) as valkey:
        yield valkey


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_what_kills_its_worker_is_given_up_and_keeps_nothing_else_waiting(
    broker: Valkey, tmp_path: Path, log: Path
) -> None:
    died, done = tmp_path / "died", tmp_path / "done"
    poison = enqueue("chores.die", kwargs={"path": str(died)}, now=timezone.now())

    with worker(log, broker.url), beat(tmp_path / "beat.log", broker.url):
        wait_until(lambda: lines(died), timeout_s=START_TIMEOUT_S, log=log)
        enqueue("chores.note", kwargs={"path": str(done)}, now=timezone.now())
        wait_until(lambda: lines(done), timeout_s=20, log=log)
        # As if the half minute were over after which a silent worker counts as gone.
        while not DeadLetter.objects.exists():
            long_ago = timezone.now() - dt.timedelta(minutes=1)
            JobRun.objects.filter(task_id=poison, status="running").update(alive_at=long_ago)
            assert len(lines(died)) <= 2
            time.sleep(0.1)

    letter = DeadLetter.objects.get()
    assert letter.error_class == "WorkerGone"
    assert len(lines(died)) == letter.failures == 2
    assert JobRun.objects.get(task_id=poison).status == "dead"


def test_a_flushed_broker_loses_nothing_that_is_due(
    broker: Valkey, tmp_path: Path, log: Path
) -> None:
    done = tmp_path / "done"
    with worker(log, broker.url), beat(tmp_path / "beat.log", broker.url):
        _await_tick(log)
        for number in range(20):
            enqueue("chores.note", kwargs={"path": str(done), "word": str(number)}, now=_now())
        client = redis.Redis.from_url(broker.url)
        for _ in range(3):
            client.flushall()
        # What was sent and flushed away is sent again after a minute: as if it were over.
        wait_until(lambda: not _to_be_begun(), timeout_s=60, log=log)

    assert sorted(set(lines(done)), key=int) == [str(number) for number in range(20)]
    assert set(JobRun.objects.filter(task="chores.note").values_list("status")) == {("succeeded",)}


def test_a_broker_that_dies_and_comes_back_finds_everything_at_work_again(
    broker: Valkey, tmp_path: Path, log: Path
) -> None:
    napped, wake, done = tmp_path / "napped", tmp_path / "wake", tmp_path / "done"
    beat_log = tmp_path / "beat.log"
    with kept_alive(log, broker.url), beat(beat_log, broker.url):
        nap = {"path": str(napped), "until": str(wake)}
        enqueue("chores.nap", kwargs=nap, now=timezone.now())
        # In the middle of one that has not been acknowledged.
        wait_until(lambda: lines(napped), timeout_s=START_TIMEOUT_S, log=log)
        broker.kill()
        enqueue("chores.note", kwargs={"path": str(done)}, now=timezone.now())
        broker.start()
        wake.touch()

        wait_until(lambda: lines(done), timeout_s=60, log=log)
        wait_until(lambda: not _to_be_begun(), timeout_s=60, log=log)

    assert lines(done) == ["done"]
    assert set(JobRun.objects.filter(is_tick=False).values_list("status")) == {("succeeded",)}


def _now() -> dt.datetime:
    return timezone.now()


def _await_tick(log: Path) -> None:
    wait_until(JobState.objects.exists, timeout_s=START_TIMEOUT_S, log=log)


def _to_be_begun() -> bool:
    """Whether there is work left; what was sent again counts as due at once."""
    left = JobRun.objects.filter(is_tick=False, status__in=("waiting", "running"))
    left.filter(status="waiting", sends__gt=0).update(next_attempt_at=timezone.now())
    return left.exists()


def test_the_long_task_of_a_worker_that_loses_its_broker_is_done_elsewhere(
    broker: Valkey, tmp_path: Path, log: Path
) -> None:
    napped, wake = tmp_path / "napped", tmp_path / "wake"
    with worker(log, broker.url) as process, beat(tmp_path / "beat.log", broker.url):
        enqueue("chores.nap", kwargs={"path": str(napped), "until": str(wake)}, now=_now())
        wait_until(lambda: lines(napped), timeout_s=START_TIMEOUT_S, log=log)
        broker.kill()

        # Celery stumbles over its own clean-up, and the worker ends; or it waits for the broker.
        wait_until(
            lambda: process.poll() is not None or "Cannot connect to" in log.read_text(),
            timeout_s=START_TIMEOUT_S,
            log=log,
        )
        processes.end(process, patience_s=0.1)

    tend_jobs(now=timezone.now() + dt.timedelta(minutes=1), limit=10)

    run = JobRun.objects.get(task="chores.nap")
    assert (run.status, run.attempts, run.sends) == ("waiting", 1, 1)


def test_of_two_beats_one_sends_and_the_other_takes_over_when_it_is_killed(
    broker: Valkey, tmp_path: Path
) -> None:
    client = redis.Redis.from_url(broker.url)
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    with beat(logs[0], broker.url) as one, beat(logs[1], broker.url) as two:
        wait_until(lambda: beat_pid() is not None, timeout_s=START_TIMEOUT_S, log=logs[0])
        wait_until(lambda: client.llen("celery"), timeout_s=30, log=logs[0])
        wait_until(lambda: all(_has_started(each) for each in logs), timeout_s=30, log=logs[1])
        first = beat_pid()
        [active] = [each for each in (one, two) if _is_active(logs[each is two])]
        other = logs[active is one]

        os.kill(active.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        wait_until(lambda: _is_active(other), timeout_s=10, log=other)

        assert time.monotonic() - killed_at < 10
        assert beat_pid() not in (None, first)
        client.delete("celery")
        wait_until(lambda: client.llen("celery"), timeout_s=30, log=other)


def test_a_beat_whose_database_session_is_cut_sends_nothing_until_it_has_the_lock_again(
    broker: Valkey, tmp_path: Path
) -> None:
    log = tmp_path / "one.log"
    with beat(log, broker.url):
        wait_until(lambda: beat_pid() is not None, timeout_s=START_TIMEOUT_S, log=log)
        with dedicated_session() as rival:
            rival.execute("SELECT pg_terminate_backend(%s)", [beat_pid()])
            # Before beat is back: what holds the lock now is somebody else.
            rival.execute("SELECT pg_advisory_lock(%s)", [BEAT_LOCK])
            wait_until(lambda: "beat stands by" in log.read_text(), timeout_s=20, log=log)
            sent = log.read_text().count("Sending due task")
            # Longer than the shortest interval.
            due_again_at = time.monotonic() + 6
            wait_until(lambda: time.monotonic() > due_again_at, timeout_s=10, log=log)
            assert log.read_text().count("Sending due task") == sent

        wait_until(lambda: log.read_text().count("Sending due task") > sent, timeout_s=20, log=log)


@contextlib.contextmanager
def dedicated_session() -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url(), autocommit=True) as session:
        yield session


def _has_started(log: Path) -> bool:
    return log.exists() and "beat: Starting" in log.read_text()


def _is_active(log: Path) -> bool:
    return "beat is active" in log.read_text()
