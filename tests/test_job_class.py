"""The class of all tasks: what it writes down around a task that ends well, or badly."""

from typing import Any

import pytest
from celery.result import EagerResult
from django.db import OperationalError

from config.celery import app
from config.job import Job
from core import runs
from core.errors import InvalidState, Unavailable
from core.models import DeadLetter, JobRun, JobState
from core.runs import progress

pytestmark = pytest.mark.django_db

doing: dict[str, Any] = {}


@app.task(name="tests.do")
def do(*, what: str, **_: Any) -> Any:
    return doing[what]()


@pytest.fixture(autouse=True)
def _nothing_to_do() -> None:
    doing.clear()


def run(what: Any, **options: Any) -> EagerResult[Any]:
    doing["it"] = what
    return do.apply(kwargs={"what": "it"}, **options)


def test_every_task_of_ours_is_of_the_class() -> None:
    app.loader.import_default_modules()
    ours = {name: task for name, task in app.tasks.items() if not name.startswith("celery")}

    assert "payments.reconcile" in ours
    assert all(isinstance(task, Job) for task in ours.values())


def test_a_task_that_is_called_like_a_function_is_one() -> None:
    doing["it"] = lambda: 3

    assert do(what="it") == 3
    assert not JobRun.objects.exists()


def test_a_job_that_ends_well_is_kept() -> None:
    assert run(lambda: 3).get() == 3

    row = JobRun.objects.get()
    assert (row.status, row.result, row.attempts) == ("succeeded", "3", 1)


def test_what_it_says_of_its_progress_is_kept() -> None:
    run(lambda: progress(done=4, total=5))

    row = JobRun.objects.get()
    assert (row.done, row.total) == (4, 5)


def test_a_tick_is_kept_when_it_did_something() -> None:
    for did in (0, 4):
        run(lambda did=did: did, headers={"periodic_task_name": "x"})

    assert [row.result for row in JobRun.objects.all()] == ["4"]
    assert JobState.objects.get().failures_in_row == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionError("line"), "waiting"),
        (OperationalError("gone"), "waiting"),
        (Unavailable("later"), "waiting"),
        (InvalidState("never"), "dead"),
        (ValueError("bug"), "dead"),
    ],
    ids=repr,
)
def test_what_may_pass_is_tried_again_and_nothing_else(error: Exception, status: str) -> None:
    def fail() -> None:
        raise error

    result = run(fail)

    assert result.result is error
    assert JobRun.objects.get().status == status
    assert DeadLetter.objects.exists() == (status == "dead")


def test_a_second_message_of_a_run_that_has_ended_does_nothing() -> None:
    run(lambda: 1, task_id="0190f0a0-0000-7000-8000-000000000001")

    again = run(lambda: 2, task_id="0190f0a0-0000-7000-8000-000000000001")

    assert again.get() is None
    assert JobRun.objects.get().result == "1"


def test_the_next_task_has_the_progress_of_none_before() -> None:
    run(lambda: progress(done=1))

    progress(done=2)

    assert runs._current.get() is None
