"""Savings plans in the back office in a real browser: made, asked to be released, released."""

import datetime as dt

import pytest
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page
from pytest_django.live_server_helper import LiveServer

from accounts.models import Account
from core.caller import Caller, calling
from identity.models import Tenant, User
from identity.services import advance_test_clock, create_user, start_test_clock
from savings.models import EarlyRelease, SavingsPlan
from savings.services import pause_plan, request_release
from tests import test_admin_browser as browser
from tests.back_office import member_of_staff
from tests.making import open_account
from tests.recurring import utc
from tests.saving import again, auto_plan, locked_plan, saved
from tests.test_admin_browser import keep, sign_in

pytestmark = browser.pytestmark

# Fixtures.
page, bank = browser.page, browser.bank

JANUARY = utc("2026-01-15T09:00")


def months_of_saving(bank: Tenant) -> tuple[SavingsPlan, SavingsPlan]:
    """Save until April by the test clock; return the one put aside, and the locked one."""
    start_test_clock(tenant_id=bank.pk, at=JANUARY, now=JANUARY)
    source = open_account(bank, balance=9_000_000, name="Ada Lestari", currency="MYR")
    rates = {"annual_rate_bps": 425, "withholding_tax_bps": 1_500}
    aside = auto_plan(
        source,
        now=JANUARY,
        amount=150_000,
        target_amount=1_200_000,
        day_of_month=31,
        name="A journey to Flores and back",
        **rates,
    )
    locked = locked_plan(
        source, dt.date(2026, 9, 1), now=JANUARY, amount=2_500_000, name="House", **rates
    )
    for number in range(1, 7):
        locked_plan(
            source,
            dt.date(2026, 4 + number, 3 * number),
            now=JANUARY,
            amount=10_000 * number,
            name=f"Term {number}",
            at_the_end="keep" if number % 2 else "pay_out",
        )
    paused = auto_plan(source, now=JANUARY, target_amount=None, months=24, name="Rainy days")
    pause_plan(tenant_id=bank.pk, plan_id=paused.pk, now=JANUARY, reason="Lost the job")
    advance_test_clock(tenant_id=bank.pk, to=utc("2026-04-20T09:00"), now=JANUARY)
    siti = create_user(
        tenant_id=bank.pk, email="siti@kopi.test", password=None, role="operator", now=JANUARY
    )
    with calling(Caller(f"user:{siti.pk}")):
        request_release(tenant_id=bank.pk, plan_id=locked.pk, reason="Hospital", now=timezone.now())
    return aside, locked


def become(page: Page, live_server: LiveServer, person: User) -> None:
    """Have somebody else sit at the browser."""
    session = Client()
    session.force_login(person)
    page.context.clear_cookies()
    page.context.add_cookies(
        [
            {"name": name, "value": morsel.value, "url": live_server.url}
            for name, morsel in session.cookies.items()
        ]
    )


def test_a_plan_is_made_filled_and_released_early(
    page: Page, live_server: LiveServer, bank: Tenant
) -> None:
    source = open_account(bank, balance=90_000, name="Ada Lestari", currency="MYR")
    until = bank.day_of(timezone.now()) + dt.timedelta(days=200)
    sign_in(page, live_server)
    page.goto(f"{live_server.url}/admin/savings/savingsplan/")
    page.get_by_role("link", name="Add savings plan").click()
    page.get_by_label("Kind").select_option("date_locked")
    page.get_by_label("Name").fill("House")
    page.get_by_label("Source account").fill(str(source.pk))
    page.get_by_label("Amount").fill("500")
    page.get_by_label("Locked until").fill(str(until))
    page.get_by_label("Interest in % a year").fill("4.25")
    keep(page, "savings-form")
    page.get_by_role("button", name="Add", exact=True).dblclick()

    page.get_by_role("heading", name="House Active").wait_for()
    page.get_by_role("link", name="Deposit…").click()
    page.get_by_label("Amount in MYR").fill("100")
    page.get_by_role("button", name="Deposit").dblclick()
    page.get_by_role("heading", name="House Active").wait_for()

    page.get_by_role("link", name="Ask for early release…").click()
    page.get_by_label("Reason").fill("Hospital")
    keep(page, "savings-ask-release")
    page.get_by_role("button", name="Ask for early release").click()
    page.get_by_text("You asked for it: somebody else decides.").wait_for()
    assert page.get_by_role("link", name="Approve…").count() == 0
    keep(page, "savings-release-own")

    plan = SavingsPlan.objects.get()
    assert saved(plan) == 60_000
    become(page, live_server, member_of_staff(bank, "supervisor"))
    page.reload()
    page.get_by_role("link", name="Approve…").click()
    page.get_by_label("Reason").fill("Seen the bill")
    keep(page, "savings-approve")
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("Approved: the plan is paid out and closed.").wait_for()
    assert again(plan).status == "closed"
    assert Account.objects.get(pk=source.pk).balance == 90_000


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
)
def test_pages_of_plans_fit_the_window(
    page: Page, live_server: LiveServer, bank: Tenant, width: int, scheme: str
) -> None:
    aside, locked = months_of_saving(bank)
    release = EarlyRelease.objects.get()
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 1_900})
    sign_in(page, live_server)
    for name, path in (
        ("plans", "savingsplan/"),
        ("add", "savingsplan/add/"),
        ("aside", f"savingsplan/{aside.pk}/"),
        ("locked", f"savingsplan/{locked.pk}/"),
        ("change", f"savingsplan/{aside.pk}/edit/"),
        ("unlocks", "unlocks/"),
        ("releases", "earlyrelease/"),
        ("release", f"earlyrelease/{release.pk}/"),
        ("books", "interestbook/"),
        ("book", f"interestbook/{bank.pk}/"),
    ):
        page.goto(f"{live_server.url}/admin/savings/{path}")
        keep(page, f"savings-{name}-{width}-{scheme}")
        # Whatever is wider than the window scrolls by itself.
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
