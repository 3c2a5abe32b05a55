"""Savings plans, their early releases, unlocks and interest in the back office."""

import datetime as dt
import re
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account
from core.ids import new_id
from core.money import Money
from identity.models import Tenant
from identity.services import advance_test_clock, start_test_clock
from ledger.services import place_hold
from savings.admin import unlocks
from savings.models import EarlyRelease, InterestBook, SavingsPlan
from savings.services import deposit, withdraw
from tests.back_office import (
    act,
    act_url,
    list_url,
    member_of_staff,
    no_counting,
    page_link,
    page_url,
    shown,
    signed_in,
)
from tests.making import balance_of, fresh_key, open_account
from tests.recurring import utc
from tests.saving import again, auto_plan, locked_plan, released, saved

JANUARY = utc("2026-01-15T09:00")
PLANS, RELEASES, BOOKS = (list_url(each) for each in (SavingsPlan, EarlyRelease, InterestBook))
ACTS = {
    *("edit", "rates", "deposit", "withdraw", "pause", "resume", "renew", "ask-release", "close"),
}


def text_of(html: str) -> str:
    """Return what a person reads of a page, in one line."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)).replace("\u00a0", " "))


def acts_on(html: str) -> set[str]:
    return set(re.findall(r'class="btn(?: danger)?" href="[^"]*">([^<…]*)…</a>', html))


def key_on(client: Client, url: str) -> str:
    """Open a form as a person does; return the key that is in it."""
    key = re.search(r'name="key" value="([^"]+)"', shown(client, url))
    assert key is not None
    return key[1]


@pytest.fixture
def operator(tenant: Tenant) -> Client:
    return signed_in(tenant, "operator")


@pytest.fixture
def supervisor(tenant: Tenant) -> Client:
    return signed_in(tenant, "supervisor")


@pytest.fixture
def source(tenant: Tenant) -> Account:
    return open_account(tenant, balance=100_000, name="Ada Lestari")


@pytest.fixture
def today(tenant: Tenant) -> dt.date:
    return tenant.day_of(timezone.now())


@pytest.fixture
def aside(source: Account) -> SavingsPlan:
    return auto_plan(source, now=timezone.now(), amount=5_000, target_amount=20_000, day_of_month=9)


@pytest.fixture
def locked(source: Account, today: dt.date) -> SavingsPlan:
    return locked_plan(
        source,
        today + dt.timedelta(days=100),
        now=timezone.now(),
        amount=30_000,
        name="House",
        annual_rate_bps=425,
        withholding_tax_bps=2_000,
    )


# --- The list -------------------------------------------------------------------------------------


def test_the_list_says_how_far_each_plan_is(
    operator: Client, aside: SavingsPlan, locked: SavingsPlan
) -> None:
    deposit(
        tenant_id=aside.tenant_id,
        plan_id=aside.pk,
        amount=5_000,
        idempotency_key=fresh_key(),
        now=timezone.now(),
    )

    page = text_of(shown(operator, PLANS))

    for words in (
        "Holiday Puts money aside",
        "House Locked until a date",
        "Ada Lestari",
        "25 % of USD 200.00",
        "100 days left",
        "USD 300.00 4.25 % a year",
        f"{locked.unlock_date} unlocks",
        "USD 50.00",
    ):
        assert words in page, words


def test_months_are_counted_where_there_is_no_target(tenant: Tenant, operator: Client) -> None:
    start_test_clock(tenant_id=tenant.pk, at=JANUARY, now=JANUARY)
    source = open_account(tenant, balance=10_000)
    auto_plan(source, now=JANUARY, target_amount=None, months=6)
    tenant.refresh_from_db()
    advance_test_clock(tenant_id=tenant.pk, to=utc("2026-03-15"), now=JANUARY)

    assert "2 of 6 months" in text_of(shown(operator, PLANS))


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", {"Aside", "Paused", "Locked", "Closed"}),
        ("state=active", {"Aside", "Locked"}),
        ("state=paused", {"Paused"}),
        ("state=closed", {"Closed"}),
        ("state=unlocked", set()),
        ("kind=date_locked", {"Locked", "Closed"}),
        ("kind=auto_withdraw", {"Aside", "Paused"}),
        ("currency=USD", {"Aside", "Paused", "Locked", "Closed"}),
        ("currency=EUR", set()),
    ],
)
def test_the_list_is_filtered(
    operator: Client,
    supervisor: Client,
    source: Account,
    today: dt.date,
    query: str,
    names: set[str],
) -> None:
    now, ahead = timezone.now(), today + dt.timedelta(days=9)
    auto_plan(source, now=now, name="Aside")
    paused = auto_plan(source, now=now, name="Paused")
    act(supervisor, paused, "pause")
    locked_plan(source, ahead, now=now, name="Locked")
    released(locked_plan(source, ahead, now=now, name="Closed"), now)

    page = shown(operator, f"{PLANS}?{query}")

    found = {name for name in ("Aside", "Paused", "Locked", "Closed") if f">{name}<small>" in page}
    assert found == names


def test_a_plan_is_found_by_its_ids(
    operator: Client, aside: SavingsPlan, locked: SavingsPlan
) -> None:
    for found_by in (aside.pk, aside.plan_account_id):
        page = shown(operator, f"{PLANS}?q={found_by}")
        assert "Holiday" in page
        assert "House" not in page
    of_source = shown(operator, f"{PLANS}?q={aside.source_account_id}")
    assert "Holiday" in of_source
    assert "House" in of_source
    for nothing in (new_id(), "Holiday"):
        assert "Nothing here." in shown(operator, f"{PLANS}?q={nothing}")


def test_a_longer_list_costs_no_more(operator: Client, source: Account) -> None:
    def queries() -> int:
        with no_counting() as captured:
            shown(operator, PLANS)
        return len(captured)

    auto_plan(source, now=timezone.now())
    queries()
    few = queries()
    for _ in range(5):
        auto_plan(source, now=timezone.now())
    assert queries() == few


def test_nobody_sees_another_tenants(other_tenant: Tenant, locked: SavingsPlan) -> None:
    stranger = signed_in(other_tenant, "admin")

    assert "House" not in shown(stranger, PLANS)
    for name in ("change", "statement", "certificate"):
        url = reverse(f"admin:savings_savingsplan_{name}", args=[locked.pk])
        assert stranger.get(url).status_code == 302
    assert "House" not in shown(stranger, reverse("admin:savings_unlocks"))


# --- A plan's page --------------------------------------------------------------------------------


def test_a_page_says_the_terms_and_what_will_be(operator: Client, locked: SavingsPlan) -> None:
    page = text_of(shown(operator, page_url(locked)))

    for words in (
        "House Active",
        "Balance USD 300.00",
        f"Unlock date {locked.unlock_date}",
        "Paid out to the source",
        "4.25 % a year",
        "20 % of the interest",
        "ACT/365F",
        "Projection",
        f"On {locked.unlock_date} it has USD 30",
        "Not posted yet",
        "Timeline",
        "The plan was made.",
    ):
        assert words in page, words
    assert "Runs" not in page


def test_a_page_says_its_runs_and_its_interest(tenant: Tenant, operator: Client) -> None:
    start_test_clock(tenant_id=tenant.pk, at=JANUARY, now=JANUARY)
    source = open_account(tenant, balance=1_200)
    plan = auto_plan(
        source, now=JANUARY, amount=1_000, target_amount=50_000, annual_rate_bps=5_000, name="Boat"
    )
    tenant.refresh_from_db()
    advance_test_clock(tenant_id=tenant.pk, to=utc("2026-03-05"), now=JANUARY)

    page = text_of(shown(operator, page_url(plan)))

    for words in (
        "Runs Due, UTC",
        "Succeeded",
        "Insufficient funds",
        "2026-02-01 to 2026-02-28",
        "Interest posted USD 0.3",
        "All runs",
    ):
        assert words in page, words
    assert plan.recurring_payment is not None
    of_payment = shown(operator, page_url(plan.recurring_payment))
    assert "Of the savings plan" in of_payment
    assert acts_on(of_payment) == set()
    assert "Of the savings plan" in shown(operator, page_url(plan.plan_account))


def test_what_is_offered_is_what_can_be_done(
    supervisor: Client, source: Account, aside: SavingsPlan, locked: SavingsPlan, today: dt.date
) -> None:
    closed = locked_plan(source, today + dt.timedelta(days=9), now=timezone.now())
    released(closed, timezone.now())

    assert acts_on(shown(supervisor, page_url(aside))) == {
        *("Deposit", "Change", "Set rates", "Pause", "Close"),
    }
    assert acts_on(shown(supervisor, page_url(locked))) == {
        *("Deposit", "Change", "Set rates", "Renew", "Ask for early release"),
    }
    assert acts_on(shown(supervisor, page_url(closed))) == set()
    act(supervisor, aside, "pause")
    assert "Resume" in acts_on(shown(supervisor, page_url(aside)))


def test_an_auditor_sees_all_and_does_nothing(tenant: Tenant, locked: SavingsPlan) -> None:
    auditor = signed_in(tenant, "auditor")

    assert "House" in shown(auditor, PLANS)
    assert acts_on(shown(auditor, page_url(locked))) == set()
    assert auditor.get(f"{PLANS}add/").status_code == 403
    for name in ACTS:
        answer = auditor.post(act_url(locked, name), {"reason": "x", "key": str(new_id())})
        assert answer.status_code == 403, name
    for page in (RELEASES, BOOKS, reverse("admin:savings_unlocks")):
        shown(auditor, page)


# --- Acts -----------------------------------------------------------------------------------------


def new(source: Account, **more: Any) -> dict[str, str]:
    return {
        "kind": "auto_withdraw",
        "name": "Bicycle",
        "source_account_id": str(source.pk),
        "amount": "12.50",
        "day_of_month": "31",
        "target_amount": "100",
        "on_insufficient_funds": "partial",
        "at_the_end": "keep",
        "annual_rate_bps": "4.25",
        "day_count": "act_365f",
        "withholding_tax_bps": "20",
        **more,
    }


def test_a_plan_is_made_once_by_its_form(operator: Client, source: Account) -> None:
    form = {**new(source), "key": key_on(operator, f"{PLANS}add/")}

    for _ in range(2):
        assert operator.post(f"{PLANS}add/", form, follow=True).status_code == 200

    plan = again(SavingsPlan.objects.get())
    payment = plan.recurring_payment
    assert payment is not None
    assert (plan.name, plan.amount, plan.target_amount) == ("Bicycle", 1_250, 10_000)
    assert (plan.annual_rate_bps, plan.withholding_tax_bps) == (425, 2_000)
    assert (payment.day_of_month, payment.on_insufficient_funds) == (31, "partial")
    assert plan.at_the_end == "keep"
    assert LogEntry.objects.filter(object_id=str(plan.pk)).count() == 1


def test_a_locked_plan_is_made_and_paid_for(
    operator: Client, source: Account, today: dt.date
) -> None:
    until = today + dt.timedelta(days=30)
    form = {
        "kind": "date_locked",
        "name": "House",
        "source_account_id": str(source.pk),
        "amount": "400",
        "on_insufficient_funds": "retry",
        "unlock_date": str(until),
        "at_the_end": "pay_out",
        "day_count": "30_360",
        "key": key_on(operator, f"{PLANS}add/"),
    }

    page = operator.post(f"{PLANS}add/", form, follow=True).content.decode()

    assert "Added: House" in text_of(page)
    plan = SavingsPlan.objects.get()
    assert (saved(plan), balance_of(source), plan.unlock_date) == (40_000, 60_000, until)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"amount": ""}, "This field is required"),
        ({"amount": "0"}, "From 1 to"),
        ({"amount": "-1"}, "greater than or equal to 0"),
        ({"amount": "1.234"}, "at most 2 decimal places"),
        ({"amount": "9" * 17}, "At most"),
        ({"amount": "9" * 30}, "no more than 28 digits"),
        ({"name": "x" * 101}, "at most 100 characters"),
        ({"name": "4111 1111 1111 1111"}, "A card number does not belong here"),
        ({"day_of_month": "32"}, "less than or equal to 31"),
        ({"target_amount": "10"}, "Not less than the amount of a month"),
        ({"source_account_id": str(new_id())}, "No such account"),
        ({"source_account_id": "nonsense"}, "valid UUID"),
        ({"kind": "date_locked"}, "has none"),
        ({"annual_rate_bps": "101"}, "less than or equal to 100"),
        ({"unlock_date": "2030-02-30"}, "Enter a valid date"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_a_sentence(
    operator: Client, source: Account, change: dict[str, str], said: str
) -> None:
    form = {**new(source), **change, "key": str(new_id())}

    answer = operator.post(f"{PLANS}add/", form)

    assert answer.status_code == 200
    assert said in text_of(answer.content.decode())
    assert not SavingsPlan.objects.exists()


def test_money_goes_in_and_out_once_by_each_form(
    operator: Client, source: Account, aside: SavingsPlan
) -> None:
    for name, amount in (("deposit", "80"), ("withdraw", "30.5")):
        form = {"amount": amount, "key": key_on(operator, act_url(aside, name))}
        for _ in range(2):
            act(operator, aside, name, **form)

    assert saved(aside) == 8_000 - 3_050
    assert balance_of(source) == 100_000 - 8_000 + 3_050
    assert LogEntry.objects.filter(object_id=str(aside.pk)).count() == 2


def test_too_much_is_refused_in_a_sentence(
    operator: Client, source: Account, aside: SavingsPlan
) -> None:
    key = str(new_id())
    assert "The source account has not enough available." in act(
        operator, aside, "deposit", amount="1000.01", key=key
    )
    act(operator, aside, "deposit", amount="50", key=key)
    assert "less than or equal to 50" in act(
        operator, aside, "withdraw", amount="50.01", key=str(new_id())
    )
    place_hold_on(aside, 1_000)
    assert "At most USD\u00a040.00" in shown(operator, act_url(aside, "withdraw"))
    assert saved(aside) == 5_000


def place_hold_on(plan: SavingsPlan, amount: int) -> None:
    place_hold(
        tenant_id=plan.tenant_id,
        account_id=plan.plan_account_id,
        amount=Money(amount, plan.currency),
        idempotency_key=fresh_key(),
        expires_at=None,
        now=timezone.now(),
    )


def test_a_locked_plan_gives_nothing_at_this_door_either(
    supervisor: Client, locked: SavingsPlan
) -> None:
    for name, form in (
        ("withdraw", {"amount": "1", "key": str(new_id())}),
        ("close", {}),
    ):
        page = text_of(act(supervisor, locked, name, **form))
        assert str(locked.unlock_date) in page
    assert saved(locked) == 30_000


def test_what_was_changed_is_changed(operator: Client, aside: SavingsPlan) -> None:
    same = {
        "name": aside.name,
        "at_the_end": "pay_out",
        "amount": "50.00",
        "day_of_month": "9",
        "target_amount": "200",
        "on_insufficient_funds": "retry",
        "seen": "1",
    }
    assert "Nothing was changed." in act(operator, aside, "edit", **same)

    act(operator, aside, "edit", **{**same, "amount": "60", "day_of_month": "31", "name": "Rome"})

    plan = again(aside)
    assert (plan.name, plan.amount, plan.target_amount) == ("Rome", 6_000, 20_000)
    assert plan.recurring_payment is not None
    assert (plan.recurring_payment.amount, plan.recurring_payment.day_of_month) == (6_000, 31)
    # Somebody who has not seen that.
    assert "changed" in text_of(act(operator, aside, "edit", **{**same, "amount": "70"}))
    assert again(aside).amount == 6_000


def test_rates_are_set_apart(operator: Client, locked: SavingsPlan) -> None:
    form = {"annual_rate_bps": "5", "withholding_tax_bps": "20", "seen": "1"}
    act(operator, locked, "rates", **form)

    plan = again(locked)
    assert (plan.annual_rate_bps, plan.withholding_tax_bps) == (500, 2_000)
    assert "annual rate bps" in text_of(shown(operator, page_url(locked)))


def test_a_plan_is_paused_resumed_and_closed(
    operator: Client, source: Account, aside: SavingsPlan
) -> None:
    act(operator, aside, "deposit", amount="10", key=str(new_id()))
    assert "Paused" in text_of(act(operator, aside, "pause", reason="Asked by phone"))
    page = text_of(act(operator, aside, "resume"))
    assert "The plan is resumed." in page
    assert "Asked by phone" in page

    act(operator, aside, "close", reason="Wants it back")

    assert again(aside).status == "closed"
    assert balance_of(source) == 100_000


def test_money_goes_to_another_account_of_the_same_owner_only(
    tenant: Tenant, operator: Client
) -> None:
    ada, ben = new_id(), new_id()
    source = open_account(tenant, balance=9_000, owner_id=ada)
    other = open_account(tenant, owner_id=ada)
    strange = open_account(tenant, owner_id=ben)
    plan = auto_plan(source, now=timezone.now(), target_amount=100_000)
    act(operator, plan, "deposit", amount="90", key=str(new_id()))
    form = {"amount": "40", "key": str(new_id())}

    assert "No such account" in act(
        operator, plan, "withdraw", destination_account_id=str(strange.pk), **form
    )
    act(operator, plan, "withdraw", destination_account_id=str(other.pk), **form)
    act(operator, plan, "close", destination_account_id=str(other.pk))

    assert (balance_of(source), balance_of(other), balance_of(strange)) == (0, 9_000, 0)


def test_a_lock_is_renewed(operator: Client, locked: SavingsPlan) -> None:
    assert locked.unlock_date is not None
    later = locked.unlock_date + dt.timedelta(days=365)
    assert f"Later than {locked.unlock_date}" in act(
        operator, locked, "renew", unlock_date=str(locked.unlock_date)
    )

    page = text_of(act(operator, locked, "renew", unlock_date=str(later)))

    assert again(locked).unlock_date == later
    assert f"locked for another term, until {later}" in page


# --- Early releases -------------------------------------------------------------------------------


def test_one_asks_and_another_approves(
    tenant: Tenant, supervisor: Client, source: Account, locked: SavingsPlan
) -> None:
    asker = signed_in(tenant, "supervisor")
    page = text_of(act(asker, locked, "ask-release", reason="Hospital"))
    assert "Nothing has moved yet" in page
    assert "You asked for it: somebody else decides." in page
    release = EarlyRelease.objects.get()
    assert acts_on(shown(asker, page_url(release))) == set()
    refused = text_of(act(asker, release, "approve"))
    assert "Somebody else decides than who asked for it." in refused
    assert saved(locked) == 30_000

    assert "Early releases: 1 waiting" in shown(supervisor, PLANS)
    waiting = text_of(shown(supervisor, RELEASES))
    assert "Hospital" in waiting
    assert "USD 300.00" in waiting
    page = shown(supervisor, page_url(release))
    assert acts_on(page) == {"Approve", "Reject"}
    assert "You asked for it" not in page
    act(supervisor, release, "approve", reason="Seen the bill")

    assert again(locked).status == "closed"
    assert balance_of(source) == 100_000
    assert "Nothing here." in shown(supervisor, RELEASES)
    assert "waiting" not in shown(supervisor, PLANS)
    assert "Hospital" in shown(supervisor, f"{RELEASES}?status=approved")
    assert "Hospital" in shown(supervisor, f"{RELEASES}?status=all")
    assert "Hospital" not in shown(supervisor, f"{RELEASES}?status=rejected")
    of_plan = text_of(shown(supervisor, page_url(locked)))
    assert "Its early release was approved." in of_plan
    assert "Seen the bill" in of_plan


def test_a_rejected_plan_stays_locked(
    operator: Client, supervisor: Client, locked: SavingsPlan
) -> None:
    act(operator, locked, "ask-release", reason="New car")
    release = EarlyRelease.objects.get()

    act(supervisor, release, "reject", reason="Not a hardship")

    assert again(locked).is_locked
    assert "Not a hardship" in shown(supervisor, page_url(release))
    assert "It was rejected before." in act(supervisor, release, "approve")
    # An operator asks and does not decide.
    act(operator, locked, "ask-release", reason="Hospital")
    second = EarlyRelease.objects.get(status="requested")
    assert acts_on(shown(operator, page_url(second))) == set()
    assert operator.post(act_url(second, "approve"), {"reason": "x"}).status_code == 403


def test_a_decision_has_a_reason(operator: Client, supervisor: Client, locked: SavingsPlan) -> None:
    act(operator, locked, "ask-release", reason="Hospital")
    release = EarlyRelease.objects.get()

    for name in ("approve", "reject"):
        assert "This field is required" in act(supervisor, release, name, reason="")
    release.refresh_from_db()
    assert release.status == "requested"


def test_who_asked_is_named_in_the_list(
    tenant: Tenant, supervisor: Client, locked: SavingsPlan
) -> None:
    asker = member_of_staff(tenant, "operator")
    browser = Client()
    browser.force_login(asker)
    act(browser, locked, "ask-release", reason="Hospital")

    assert asker.email in shown(supervisor, RELEASES)


# --- Upcoming unlocks, books ----------------------------------------------------------------------


def test_unlocks_are_grouped_by_month_and_paged(
    operator: Client, source: Account, today: dt.date, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlocks, "PAGE_ROWS", 2)
    url = reverse("admin:savings_unlocks")
    assert "Nothing unlocks in these months." in shown(operator, url)
    days = [today + dt.timedelta(days=ahead) for ahead in (1, 40, 40, 80, 500)]
    for number, day in enumerate(days):
        locked_plan(source, day, now=timezone.now(), name=f"Plan {number}")

    first = shown(operator, url)
    query = page_link(first, "next")
    assert query is not None
    second = shown(operator, url + query)

    assert f"<h2>{days[0]:%B %Y}</h2>" in first
    names = [re.findall(r">(Plan \d)<", page) for page in (first, second)]
    assert names == [["Plan 0", "Plan 1"], ["Plan 2", "Plan 3"]]
    # The fifth is more than a year away.
    assert page_link(second, "next") is None
    assert page_link(second, "prev") == "?"
    # A cursor that is not ours is the beginning.
    assert re.findall(r">(Plan \d)<", shown(operator, f"{url}?after=x")) == names[0]


def test_what_is_not_locked_any_more_is_in_no_calendar(
    operator: Client, locked: SavingsPlan
) -> None:
    url = reverse("admin:savings_unlocks")
    assert "House" in shown(operator, url)
    released(locked, timezone.now())
    assert "House" not in shown(operator, url)


def test_whoever_sees_all_tenants_chooses_one(
    tenant: Tenant, other_tenant: Tenant, locked: SavingsPlan
) -> None:
    root = signed_in(other_tenant, "admin", is_superuser=True)
    url = reverse("admin:savings_unlocks")

    assert "House" not in shown(root, url)
    assert "House" in shown(root, f"{url}?tenant={tenant.pk}")
    assert root.post(url).status_code == 405


def test_books_say_how_far_interest_is(tenant: Tenant, operator: Client) -> None:
    start_test_clock(tenant_id=tenant.pk, at=JANUARY, now=JANUARY)
    source = open_account(tenant, balance=10_000)
    locked_plan(source, dt.date(2027, 1, 1), now=JANUARY, annual_rate_bps=500)
    tenant.refresh_from_db()
    advance_test_clock(tenant_id=tenant.pk, to=utc("2026-02-10T09:00"), now=JANUARY)

    page = text_of(shown(operator, BOOKS))
    for words in ("2026-02-09", "2026-01-31", "None under way", "by its test clock"):
        assert words in page, words

    book = InterestBook.objects.get()
    InterestBook.objects.update(accruing_to=dt.date(2026, 2, 10), plan_count=1_234)
    under_way = text_of(shown(operator, page_url(book)))
    assert "Accruing to 2026-02-10" in under_way
    assert "1,234 plans so far" in under_way


# --- Documents ------------------------------------------------------------------------------------


def test_documents_are_downloaded_from_the_page(
    operator: Client, locked: SavingsPlan, today: dt.date
) -> None:
    statement = reverse("admin:savings_savingsplan_statement", args=[locked.pk])
    certificate = reverse("admin:savings_savingsplan_certificate", args=[locked.pk])
    page = shown(operator, page_url(locked))
    assert statement in page
    assert certificate in page

    for url in (f"{statement}?from={today - dt.timedelta(days=1)}&to={today}", certificate):
        answer = operator.get(url)
        assert answer["Content-Type"] == "application/pdf"
        assert answer.content.startswith(b"%PDF")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "A statement has two days."),
        ("?from=x&to=2026-01-01", "A statement has two days."),
        ("?from=2026-02-01&to=2026-01-01", "The period ends before it begins."),
        ("?from=2026-02-01&to=2999-01-01", "later days are yet to come"),
    ],
)
def test_a_statement_that_cannot_be_is_a_sentence(
    operator: Client, locked: SavingsPlan, query: str, said: str
) -> None:
    url = reverse("admin:savings_savingsplan_statement", args=[locked.pk])

    assert said in operator.get(url + query, follow=True).content.decode()


def test_what_is_not_locked_has_no_certificate(operator: Client, aside: SavingsPlan) -> None:
    url = reverse("admin:savings_savingsplan_certificate", args=[aside.pk])

    assert url not in shown(operator, page_url(aside))
    assert "Nothing is locked in it." in operator.get(url, follow=True).content.decode()


def test_money_that_left_by_another_door_is_seen(operator: Client, aside: SavingsPlan) -> None:
    act(operator, aside, "deposit", amount="50", key=str(new_id()))
    withdraw(
        tenant_id=aside.tenant_id,
        plan_id=aside.pk,
        amount=1_000,
        idempotency_key=fresh_key(),
        now=timezone.now(),
    )

    assert "20 % of USD 200.00" in text_of(shown(operator, page_url(aside)))
