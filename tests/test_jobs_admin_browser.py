"""Jobs in the back office in a real browser: read wide and narrow, a dead letter replayed."""

import datetime as dt

import pytest
from django.utils import timezone
from playwright.sync_api import Page
from pytest_django.live_server_helper import LiveServer

from core.ids import new_id
from core.models import FailureNotice, JobRun, JobState, ScheduledTask
from identity.models import Tenant, User
from tests import test_admin_browser as browser
from tests.making import job_that_died
from tests.test_admin_browser import EMAIL, keep, sign_in

pytestmark = browser.pytestmark

# Fixtures.
page, bank = browser.page, browser.bank


@pytest.fixture
def _sees_every_tenant(bank: Tenant) -> None:
    User.objects.filter(email=EMAIL).update(is_superuser=True)


def test_a_dead_letter_is_replayed(page: Page, live_server: LiveServer, bank: Tenant) -> None:
    letter = job_that_died(bank)
    sign_in(page, live_server)
    page.goto(f"{live_server.url}/admin/core/deadletter/")
    page.get_by_role("link", name="chores.fail").click()
    page.get_by_role("heading", name="Traceback").wait_for()
    page.get_by_role("link", name="Replay…").click()
    page.get_by_label("Reason").fill("The cause is gone")
    page.get_by_role("button", name="Replay").dblclick()

    page.get_by_text("A worker runs it again").first.wait_for()
    letter.refresh_from_db()
    assert letter.status == "replayed"
    assert JobRun.objects.filter(status="waiting").count() == 1


@pytest.mark.usefixtures("_sees_every_tenant")
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_of_jobs_fit(page: Page, live_server: LiveServer, bank: Tenant, width: int) -> None:
    letter = job_that_died(bank)
    now = timezone.now()
    run = JobRun.objects.create(
        task_id=str(new_id()),
        task="payments.reconcile",
        arguments='{"args":[],"kwargs":{}}',
        is_tick=False,
        status="running",
        attempts=1,
        attempts_max=6,
        worker="host:4711",
        created_at=now - dt.timedelta(minutes=3),
        started_at=now - dt.timedelta(minutes=3),
        alive_at=now,
        heartbeat_at=now,
        done=3_150,
        total=4_200,
    )
    for number, task in enumerate(ScheduledTask.objects.values_list("task", flat=True)):
        if number % 4:
            JobState.objects.update_or_create(
                task=task, defaults={"last_succeeded_at": now, "failures_in_row": number == 3}
            )
    ScheduledTask.objects.update(
        date_changed=now - dt.timedelta(hours=4), last_run_at=now, total_run_count=12_345
    )
    notice = FailureNotice.objects.create(
        task="payments.reconcile",
        words="seal new rows is late: it should run every 5 s, and last succeeded 400 s ago.",
        next_attempt_at=now,
        created_at=now,
    )
    sealing = ScheduledTask.objects.get(name="seal new rows")
    page.set_viewport_size({"width": width, "height": 900})
    sign_in(page, live_server)
    for path in (
        "scheduledtask/",
        f"scheduledtask/{sealing.pk}/",
        f"scheduledtask/{sealing.pk}/change-interval/",
        "scheduledtask/add/",
        "jobrun/",
        f"jobrun/{run.pk}/",
        "deadletter/",
        f"deadletter/{letter.pk}/",
        f"deadletter/{letter.pk}/discard/",
        "failurenotice/",
        f"failurenotice/{notice.pk}/",
    ):
        page.goto(f"{live_server.url}/admin/core/{path}")
        keep(page, f"jobs-{width}-{path.strip('/').replace('/', '-')}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
