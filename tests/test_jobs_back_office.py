"""Jobs in the back office: the schedule, runs with their progress, dead letters."""

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from core.ids import new_id
from core.models import AuditRecord, DeadLetter, FailureNotice, JobRun, JobState, ScheduledTask
from core.schedule import ensure_schedule, every_s_of
from identity.models import Tenant
from tests.back_office import act, act_url, list_url, no_counting, page_url, shown, signed_in
from tests.making import job_that_died

pytestmark = pytest.mark.django_db

SCHEDULE, RUNS, LETTERS = list_url(ScheduledTask), list_url(JobRun), list_url(DeadLetter)
ADD = f"{SCHEDULE}add/"


@pytest.fixture
def root(tenant: Tenant) -> Client:
    """Somebody who sees every tenant."""
    return signed_in(tenant, "admin", is_superuser=True)


@pytest.fixture
def sealing() -> ScheduledTask:
    ensure_schedule()
    found: ScheduledTask = ScheduledTask.objects.get(name="seal new rows")
    return found


def running(**changes: Any) -> JobRun:
    now = timezone.now()
    values: dict[str, Any] = {
        "task_id": str(new_id()),
        "task": "chores.climb",
        "arguments": '{"args":[],"kwargs":{}}',
        "is_tick": False,
        "status": JobRun.Status.RUNNING,
        "attempts": 1,
        "attempts_max": 6,
        "created_at": now,
        "started_at": now,
        "alive_at": now,
        "heartbeat_at": now,
        **changes,
    }
    return JobRun.objects.create(**values)


# --- The schedule ------------------------------------------------------------------------------
def test_the_schedule_shows_what_is_late_failing_or_off(
    sealing: ScheduledTask, root: Client
) -> None:
    long_ago = timezone.now() - dt.timedelta(hours=3)
    JobState.objects.create(task="core.tend_jobs", last_succeeded_at=timezone.now())
    JobState.objects.create(
        task="invoices.send_mailings", last_succeeded_at=timezone.now(), failures_in_row=2
    )
    ScheduledTask.objects.filter(pk=sealing.pk).update(date_changed=long_ago)
    ScheduledTask.objects.filter(task="payments.gather_payouts").update(enabled=False)

    page = shown(root, SCHEDULE)

    for state in ("Late", "On time", "Failing", "Off"):
        assert f">{state}<" in page


def test_the_schedule_costs_the_same_for_many(sealing: ScheduledTask, root: Client) -> None:
    with no_counting() as captured:
        shown(root, SCHEDULE)

    assert ScheduledTask.objects.count() > 12
    assert len(captured) < 12


def test_an_interval_is_changed_with_a_reason(sealing: ScheduledTask, root: Client) -> None:
    page = act(root, sealing, "change-interval", every_s="30", reason="Too often")

    assert "Runs every 30 seconds from now on." in page
    assert every_s_of(ScheduledTask.objects.get(pk=sealing.pk)) == 30
    record = AuditRecord.objects.get(action="scheduled_task.changed")
    assert record.reason == "Too often"
    assert record.after == {"name": "seal new rows", "every_s": 30}
    assert record.actor_id.startswith("user:")


@pytest.mark.parametrize("every_s", ["0", "-5", "86401", "9" * 30, "often", ""])
def test_an_interval_that_is_none_is_refused_on_the_form(
    sealing: ScheduledTask, root: Client, every_s: str
) -> None:
    act(root, sealing, "change-interval", every_s=every_s)

    assert every_s_of(ScheduledTask.objects.get(pk=sealing.pk)) == 5


def test_a_line_is_switched_off_and_on_again(sealing: ScheduledTask, root: Client) -> None:
    act(root, sealing, "switch-off")
    assert not ScheduledTask.objects.get(pk=sealing.pk).enabled
    assert act_url(sealing, "switch-off") not in shown(root, page_url(sealing))

    act(root, sealing, "switch-on")
    assert ScheduledTask.objects.get(pk=sealing.pk).enabled


def test_run_now_asks_for_a_run(sealing: ScheduledTask, root: Client) -> None:
    act(root, sealing, "run-now")

    assert JobRun.objects.get().task == sealing.task


def test_a_line_is_added_for_a_task_that_there_is(sealing: ScheduledTask, root: Client) -> None:
    new = {"name": "tend twice", "task": "core.tend_jobs", "every_s": "60", "kwargs": "{}"}

    root.post(ADD, new)

    assert ScheduledTask.objects.get(name="tend twice").task == "core.tend_jobs"


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "os.system"},
        {"task": "celery.backend_cleanup"},
        {"every_s": "0"},
        {"kwargs": "[]"},
        {"kwargs": "{"},
        {"kwargs": '{"token": "x"}'},
        {"name": "seal new rows"},
        {"name": ""},
    ],
    ids=repr,
)
def test_a_line_that_could_not_run_is_not_added(
    sealing: ScheduledTask, root: Client, changes: dict[str, str]
) -> None:
    before = ScheduledTask.objects.count()
    new = {"name": "another", "task": "core.tend_jobs", "every_s": "60", "kwargs": "{}", **changes}

    assert root.post(ADD, new).status_code == 200

    assert ScheduledTask.objects.count() == before


def test_the_schedule_is_for_those_who_see_every_tenant(
    sealing: ScheduledTask, tenant: Tenant
) -> None:
    theirs = signed_in(tenant, "admin")

    assert theirs.get(SCHEDULE).status_code == 403
    assert theirs.get(ADD).status_code == 403
    theirs.post(act_url(sealing, "switch-off"), {"reason": "Because"})
    assert ScheduledTask.objects.get(pk=sealing.pk).enabled


# --- Runs --------------------------------------------------------------------------------------
def test_a_long_run_shows_how_far_it_is_in_list_and_page(root: Client) -> None:
    run = running(done=3_000, total=12_000)

    for url in (RUNS, page_url(run)):
        page = shown(root, url)
        assert '<progress max="12000" value="3000"' in page
        assert "3,000 of 12,000, 25 %" in page


def test_a_run_that_hangs_is_shown_as_stuck(root: Client) -> None:
    running(stuck_at=timezone.now())

    assert ">Stuck<" in shown(root, RUNS)


def test_runs_are_found_by_task_and_by_id(root: Client) -> None:
    run, other = running(), running(task="chores.nap")

    for text in (run.task, run.task_id):
        page = shown(root, f"{RUNS}?q={text}")
        assert page_url(run) in page
        assert page_url(other) not in page


# --- Notices -----------------------------------------------------------------------------------
def test_a_notice_says_what_it_told_and_how_often_it_failed(tenant: Tenant, root: Client) -> None:
    notice = FailureNotice.objects.create(
        task="a.b",
        words="ValueError: it is broken",
        failures=3,
        next_attempt_at=timezone.now(),
        created_at=timezone.now(),
        last_error="SMTPException: 451 try later",
    )

    assert page_url(notice) in shown(root, list_url(FailureNotice))
    page = shown(root, page_url(notice))
    assert "ValueError: it is broken" in page
    assert "451 try later" in page
    assert signed_in(tenant, "admin").get(list_url(FailureNotice)).status_code == 403


# --- Dead letters ------------------------------------------------------------------------------
def test_a_dead_letter_is_replayed_by_a_button(tenant: Tenant, root: Client) -> None:
    letter = job_that_died(tenant)
    assert "ValueError: it is broken" in shown(root, page_url(letter))

    act(root, letter, "replay", reason="The cause is gone")

    letter.refresh_from_db()
    assert (letter.status, letter.reason) == ("replayed", "The cause is gone")
    assert AuditRecord.objects.get(action="job.replayed").reason == "The cause is gone"
    assert JobRun.objects.get(task_id=letter.replay_task_id).arguments == letter.arguments
    assert act_url(letter, "replay") not in shown(root, page_url(letter))


def test_a_dead_letter_is_discarded_with_a_reason(tenant: Tenant, root: Client) -> None:
    letter = job_that_died(tenant)
    act(root, letter, "discard", reason="")
    assert DeadLetter.objects.get().status == "waiting"

    act(root, letter, "discard", reason="Done by hand")

    letter.refresh_from_db()
    assert (letter.status, letter.reason) == ("discarded", "Done by hand")
    assert letter.decided_by.startswith("user:")


def test_a_decided_letter_says_so_when_it_is_decided_again(tenant: Tenant, root: Client) -> None:
    letter = job_that_died(tenant)
    act(root, letter, "discard", reason="Done by hand")

    page = act(root, letter, "replay")

    assert "The dead letter is discarded" in page
    assert JobRun.objects.filter(status="waiting").count() == 0


def test_the_list_is_of_those_that_wait(tenant: Tenant, root: Client) -> None:
    waiting, decided = job_that_died(tenant), job_that_died(tenant)
    act(root, decided, "discard")

    assert page_url(waiting) in shown(root, LETTERS)
    assert page_url(decided) not in shown(root, LETTERS)
    assert page_url(decided) in shown(root, f"{LETTERS}?status=decided")


def test_staff_see_their_tenants_jobs_only(tenant: Tenant, other_tenant: Tenant) -> None:
    own, foreign = job_that_died(tenant), job_that_died(other_tenant)
    admin = signed_in(tenant, "admin")

    for model, url in ((DeadLetter, LETTERS), (JobRun, RUNS)):
        page = shown(admin, url)
        assert page_url(model._default_manager.get(task_id=own.task_id)) in page
        assert page_url(model._default_manager.get(task_id=foreign.task_id)) not in page
    admin.post(act_url(foreign, "replay"), {"reason": "Because"})
    foreign.refresh_from_db()
    assert foreign.status == "waiting"


@pytest.mark.parametrize("role", ["auditor", "supervisor"])
def test_who_may_not_decide_does_not(tenant: Tenant, role: str) -> None:
    letter = job_that_died(tenant)
    client = signed_in(tenant, role)

    assert client.get(LETTERS).status_code == (200 if role == "auditor" else 403)
    for name in ("replay", "discard"):
        assert client.post(act_url(letter, name), {"reason": "Because"}).status_code == 403

    letter.refresh_from_db()
    assert letter.status == "waiting"
