"""Recurring payments, their runs and the calendar in the back office."""

import datetime as dt
import os
from decimal import Decimal
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from playwright.sync_api import Page
from pytest_django.live_server_helper import LiveServer

from accounts.models import Account
from core.models import AuditRecord
from identity.models import Tenant
from payments.models import CalendarDay, RecurringPayment, RecurringRun
from payments.services import Beneficiary, Salary
from tests import making, recurring
from tests.back_office import (
    act,
    act_url,
    list_url,
    member_of_staff,
    no_counting,
    page_url,
    shown,
    signed_in,
)
from tests.browsing import browsing, needs_chromium
from tests.recurring import again, order, run, utc

JANUARY = utc("2026-01-15")
PAYMENTS, RUNS, DAYS = (list_url(each) for each in (RecurringPayment, RecurringRun, CalendarDay))
# Where to keep pictures of the pages; without it none are taken.
SHOTS = os.environ.get("FLORIN_SCREENSHOTS")


@pytest.fixture
def operator(tenant: Tenant) -> Client:
    return signed_in(tenant, "operator")


@pytest.fixture
def source(tenant: Tenant) -> Account:
    return making.open_account(tenant, balance=10_000, name="Ada Lestari")


@pytest.fixture
def saver(tenant: Tenant) -> Account:
    return making.open_account(tenant, name="Ada's house")


@pytest.fixture
def payment(source: Account, saver: Account) -> RecurringPayment:
    return order(
        source,
        saver,
        now=JANUARY,
        day_of_month=31,
        amount=2_500,
        adjustment="modified_following",
        holidays="ID",
        description="Savings",
        external_id="order-1",
    )


# --- Lists and pages ------------------------------------------------------------------------------


def test_the_list_says_what_goes_where_and_when(
    operator: Client, payment: RecurringPayment
) -> None:
    page = shown(operator, PAYMENTS)

    for words in (
        "Savings",
        "order-1",
        "USD\u00a025.00",
        "Ada Lestari",
        "Ada&#x27;s house",
        "Every month on the 31st, or the month&#x27;s last day",
        "2026-01-30 12:00",
    ):
        assert words in page, words


def test_each_kind_of_amount_and_destination_is_in_words(
    tenant: Tenant, operator: Client, source: Account, saver: Account
) -> None:
    salary = Salary(min_amount=100_00, pattern="salary*", from_day=25, to_day=5)
    share = order(
        source, saver, now=JANUARY, amount_type="percentage", percent=Decimal("12.5"), salary=salary
    )
    order(source, saver, now=JANUARY, amount_type="sweep", floor_amount=50_00)
    outside = order(source, now=JANUARY, beneficiary=beneficiary())

    page = shown(operator, PAYMENTS)
    assert "12.5% of the salary" in page
    assert "When a salary comes" in page
    assert "All above USD\u00a050.00" in page
    assert "Budi, DE, DE89370400440532013000" in page
    of_share = shown(operator, page_url(share))
    assert "of USD\u00a0100.00 or more, described as “salary*”, from day 25 to day 5" in of_share
    assert "Next dates" not in of_share
    assert "DE89370400440532013000" in shown(operator, page_url(outside))


def beneficiary() -> Beneficiary:
    return Beneficiary("Budi", "DE", iban="DE89370400440532013000")


def test_its_page_says_its_terms_and_its_next_dates(
    operator: Client, payment: RecurringPayment
) -> None:
    page = shown(operator, page_url(payment))

    for words in (
        "at 12:00 in UTC",
        "to the next business day, or in the month&#x27;s end to the one before",
        "holidays of ID",
        "Tried again up to 3 times, 360 minutes apart",
        "Paused after 3 in a row",
        "the last of them is paid; never one that is 7 days late",
        # 31 January 2026 is a Saturday; 31 March is none.
        "Sat 2026-01-31",
        "<b>Fri 2026-01-30</b>",
        "Tue 2026-03-31",
    ):
        assert words in page, words


def test_its_page_opens_though_its_dates_cannot_be_told(
    operator: Client, payment: RecurringPayment
) -> None:
    # As if the package no longer knew the country.
    RecurringPayment.objects.filter(pk=payment.pk).update(holidays="XX")

    page = shown(operator, page_url(payment))

    assert "They cannot be told. The holidays of &#x27;XX&#x27; are not known." in page
    assert "Pause…" in page


def test_its_page_shows_what_came_of_its_runs(
    tenant: Tenant, operator: Client, source: Account, saver: Account
) -> None:
    payment = order(source, saver, now=JANUARY, frequency="daily", amount=6_000)
    for day in (15, 16):
        run(utc(f"2026-01-{day}T12:00"))
    retrying, paid = payment.runs.order_by("-scheduled_for")

    page = shown(operator, page_url(payment))

    assert "Insufficient funds, again 2026-01-16 18:00" in page
    assert f"/admin/ledger/transaction/{paid.transaction_id}/change/" in page
    assert page_url(retrying) in page
    of_run = shown(operator, page_url(retrying))
    assert "Insufficient funds" in of_run
    assert "Retrying" in of_run
    assert page_url(payment) in of_run


def test_runs_are_found_by_what_came_of_them(
    operator: Client, source: Account, saver: Account
) -> None:
    payment = order(source, saver, now=JANUARY, frequency="daily", amount=6_000, retry_count=0)
    other = order(source, saver, now=JANUARY, description="Another", amount=1)
    for day in (15, 16):
        run(utc(f"2026-01-{day}T12:00"))
    failed = payment.runs.get(status="failed")

    def listed(query: str) -> set[str]:
        page = shown(operator, f"{RUNS}?{query}")
        ids = RecurringRun.objects.values_list("pk", flat=True)
        return {str(pk) for pk in ids if str(pk) in page}

    assert listed("status__exact=failed") == {str(failed.pk)}
    assert listed(f"recurring_payment={other.pk}") == {
        str(pk) for pk in other.runs.values_list("pk", flat=True)
    }
    assert listed(f"q={failed.pk}") == {str(failed.pk)}
    assert len(listed(f"q={payment.pk}")) == 2
    assert listed("q=failed") == set()


@pytest.mark.parametrize("what", ["pk", "external_id", "source_account_id"])
def test_a_search_takes_whole_identifiers(
    operator: Client, payment: RecurringPayment, saver: Account, what: str
) -> None:
    other = order(saver, making.open_account(payment.tenant), now=JANUARY)

    with no_counting():
        page = shown(operator, f"{PAYMENTS}?q={getattr(payment, what)}")

    assert page_url(payment) in page
    assert page_url(other) not in page


def test_a_search_for_an_account_finds_both_ways(
    operator: Client, payment: RecurringPayment, saver: Account
) -> None:
    other = order(saver, making.open_account(payment.tenant), now=JANUARY)

    page = shown(operator, f"{PAYMENTS}?q={saver.pk}")

    assert page_url(payment) in page
    assert page_url(other) in page


def test_another_tenants_are_not_there(
    tenant: Tenant, other_tenant: Tenant, payment: RecurringPayment
) -> None:
    run(utc("2026-01-30T12:00"))
    stranger = signed_in(other_tenant, "admin")

    for obj in (payment, payment.runs.get()):
        assert str(obj.pk) not in shown(stranger, list_url(type(obj)))
        assert stranger.get(page_url(obj)).status_code == 302
    assert stranger.post(act_url(payment, "cancel"), {"reason": "x"}).status_code == 302
    assert again(payment).status == "active"


# --- Acts -----------------------------------------------------------------------------------------


def test_it_is_paused_resumed_and_cancelled_with_a_reason(
    operator: Client, payment: RecurringPayment
) -> None:
    assert "is paused" in act(operator, payment, "pause", reason="Asked by phone")
    assert again(payment).status == "paused"
    assert "is resumed" in act(operator, payment, "resume", reason="Asked again")
    assert again(payment).status == "active"
    assert "is cancelled" in act(operator, payment, "cancel", reason="Moved away")
    assert again(payment).status == "cancelled"

    records = AuditRecord.objects.filter(object_id=payment.pk).order_by("pk")
    assert [record.reason for record in records][1:] == [
        "Asked by phone",
        # It went on after the dates that were past by then.
        "Asked again",
        "Moved away",
    ]
    assert LogEntry.objects.filter(object_id=payment.pk).count() == 3


def test_only_what_goes_is_offered(operator: Client, payment: RecurringPayment) -> None:
    def offered() -> list[str]:
        page = shown(operator, page_url(payment))
        return [name for name in ("pause", "resume", "cancel") if act_url(payment, name) in page]

    assert offered() == ["pause", "cancel"]
    act(operator, payment, "pause")
    assert offered() == ["resume", "cancel"]
    act(operator, payment, "cancel")
    assert offered() == []


def test_a_reason_is_asked_for(operator: Client, payment: RecurringPayment) -> None:
    act(operator, payment, "cancel", reason=" ")

    assert again(payment).status == "active"


def test_what_has_ended_is_refused_in_a_sentence(
    operator: Client, payment: RecurringPayment
) -> None:
    act(operator, payment, "cancel")

    assert "It is cancelled." in act(operator, payment, "resume")


def test_an_auditor_looks_and_changes_nothing(tenant: Tenant, payment: RecurringPayment) -> None:
    auditor = signed_in(tenant, "auditor")

    assert "Pause…" not in shown(auditor, page_url(payment))
    for name in ("pause", "resume", "cancel"):
        assert auditor.post(act_url(payment, name), {"reason": "x"}).status_code == 403
    assert again(payment).status == "active"


# --- The calendar ---------------------------------------------------------------------------------


def test_a_day_off_is_added_and_removed_and_moves_what_is_due(
    tenant: Tenant, payment: RecurringPayment
) -> None:
    supervisor = signed_in(tenant, "supervisor")

    answer = supervisor.post(
        f"{DAYS}add/", {"date": "2026-01-30", "name": "Founders' day"}, follow=True
    )

    assert "Founders&#x27; day" in answer.content.decode()
    day = CalendarDay.objects.get()
    assert (day.date, day.is_business_day) == (dt.date(2026, 1, 30), False)
    assert again(payment).next_date == dt.date(2026, 1, 29)
    assert "Fri 2026-01-30" in shown(supervisor, f"{DAYS}?q=2026-01-30")
    assert "Fri 2026-01-30" not in shown(supervisor, f"{DAYS}?q=2026-01-31")

    act(supervisor, day, "remove", reason="It was cancelled")

    assert not CalendarDay.objects.exists()
    assert again(payment).next_date == dt.date(2026, 1, 30)
    removed = AuditRecord.objects.get(action="calendar_day.removed")
    assert removed.reason == "It was cancelled"


def test_a_day_that_cannot_be_is_refused_in_a_sentence(tenant: Tenant) -> None:
    supervisor = signed_in(tenant, "supervisor")
    for _ in range(2):
        answer = supervisor.post(f"{DAYS}add/", {"date": "2030-05-01", "name": "May"}, follow=True)
    assert "2030-05-01 is in the calendar" in answer.content.decode()

    for bad in ({"date": "2030-02-30"}, {"name": ""}, {"name": "x" * 101}):
        supervisor.post(f"{DAYS}add/", {"date": "2030-06-01", "name": "x", **bad})
    assert CalendarDay.objects.count() == 1


def test_only_supervisors_change_the_calendar(tenant: Tenant, operator: Client) -> None:
    recurring.one_of_each(making.open_account(tenant, balance=10), utc("2026-01-15"))
    day = CalendarDay.objects.get()

    assert "Nyepi" in shown(operator, DAYS)
    assert operator.get(f"{DAYS}add/").status_code == 403
    assert operator.post(act_url(day, "remove"), {"reason": "x"}).status_code == 403


# --- In a browser ---------------------------------------------------------------------------------


@needs_chromium
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_and_pauses_it(
    monkeypatch: pytest.MonkeyPatch,
    live_server: LiveServer,
    tenant: Tenant,
    payment: RecurringPayment,
    source: Account,
    saver: Account,
    width: int,
) -> None:
    daily = order(
        source, saver, now=JANUARY, frequency="daily", amount=4_000, description="Rent by the day"
    )
    for day in (15, 16, 17):
        run(utc(f"2026-01-{day}T12:00"))
    session = Client()
    session.force_login(member_of_staff(tenant, "supervisor"))
    with browsing(monkeypatch, width=width) as page:
        page.context.add_cookies(
            [
                {"name": name, "value": morsel.value, "url": live_server.url}
                for name, morsel in session.cookies.items()
            ]
        )
        for name, path in (
            ("payments", PAYMENTS),
            ("runs", RUNS),
            ("run", page_url(daily.runs.latest("scheduled_for"))),
            ("day", f"{DAYS}add/"),
            ("payment", page_url(payment)),
            ("daily", page_url(daily)),
        ):
            page.goto(f"{live_server.url}{path}")
            keep(page, f"recurring-{name}-{width}")
            # Whatever is wider than the window scrolls by itself.
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name

        page.get_by_role("link", name="Pause…").click()
        page.get_by_label("Reason").fill("Asked by phone")
        keep(page, f"recurring-pause-{width}")
        page.get_by_role("button", name="Pause").click()
        page.get_by_text("The recurring payment is paused.").wait_for()
    assert again(daily).status == "paused"


def keep(page: Page, name: str) -> None:
    if SHOTS:
        page.wait_for_load_state()
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)
