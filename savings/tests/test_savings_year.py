"""A year of both kinds by the test clock, to the unit against the formula worked out by hand."""

import datetime as dt

import pytest

from accounts.models import Account
from identity.models import Tenant
from identity.services import advance_test_clock, create_tenant, start_test_clock
from savings.models import InterestPosting, SavingsPlan
from savings.queries import interest_in_waiting, plan_runs
from savings.services import close_plan, project
from tests.making import balance_of, open_account
from tests.recurring import utc
from tests.saving import Reckoning, again, auto_plan, days, locked_plan, saved

OPENED = utc("2026-01-15T09:00")
UNLOCKED = dt.date(2027, 1, 15)


@pytest.fixture
def source(tenant: Tenant) -> Account:
    start_test_clock(tenant_id=tenant.pk, at=OPENED, now=OPENED)
    return open_account(tenant, balance=100_000_000)


def advance(tenant: Tenant, to: str) -> None:
    advanced = advance_test_clock(tenant_id=tenant.pk, to=utc(to), now=OPENED)
    assert advanced.is_complete


@pytest.mark.parametrize(("day_count", "tax_bps"), [("act_365f", 0), ("30_360", 2_000)])
def test_a_locked_year(tenant: Tenant, source: Account, day_count: str, tax_bps: int) -> None:
    terms = {"annual_rate_bps": 425, "day_count": day_count, "withholding_tax_bps": tax_bps}
    plan = locked_plan(source, UNLOCKED, now=OPENED, amount=10_000_033, **terms)
    expected = Reckoning(425, day_count, tax_bps, balance=10_000_033)
    for day in days(dt.date(2026, 1, 15), dt.date(2027, 1, 14)):
        if day.day == 1:
            expected.post()
        expected.earn(day)
    expected.post()
    foreseen = project(plan, now=OPENED)

    advance(tenant, "2027-01-14T23:59:59")
    assert again(plan).status == "active"
    advance(tenant, "2027-01-15")

    assert again(plan).status == "closed"
    assert saved(plan) == 0
    assert balance_of(source) == 100_000_000 - 10_000_033 + expected.balance
    assert _own(tenant, "interest_expense") == -expected.interest
    assert _own(tenant, "withheld_tax") == expected.tax
    assert interest_in_waiting(plan) == expected.waiting
    # One posting a month, and one at the end.
    assert InterestPosting.objects.filter(plan=plan).count() == 13
    assert (foreseen.balance, foreseen.interest, foreseen.tax, foreseen.ends_on) == (
        expected.balance,
        expected.interest,
        expected.tax,
        UNLOCKED,
    )


@pytest.mark.parametrize("day_count", ["act_365f", "30_360"])
def test_a_year_of_putting_aside(tenant: Tenant, source: Account, day_count: str) -> None:
    plan = auto_plan(
        source,
        now=OPENED,
        amount=1_000_007,
        day_of_month=31,
        target_amount=None,
        months=12,
        annual_rate_bps=333,
        day_count=day_count,
        withholding_tax_bps=1_500,
    )
    expected = Reckoning(333, day_count, 1_500)
    last = dt.date(2026, 12, 31)
    for day in days(dt.date(2026, 1, 15), last):
        if day.day == 1:
            expected.post()
        # The 31st, or the last day of the month.
        if (day + dt.timedelta(days=1)).day == 1:
            expected.balance += 1_000_007
        if day < last:
            expected.earn(day)
    expected.post()
    foreseen = project(plan, now=OPENED)

    advance(tenant, "2026-12-31T05:59")
    assert again(plan).status == "active"
    advance(tenant, "2026-12-31T06:00")

    assert again(plan).status == "closed"
    assert balance_of(source) == 100_000_000 - 12 * 1_000_007 + expected.balance
    assert _own(tenant, "interest_expense") == -expected.interest
    assert _own(tenant, "withheld_tax") == expected.tax
    assert (foreseen.balance, foreseen.interest, foreseen.ends_on) == (
        expected.balance,
        expected.interest,
        last,
    )
    assert len(_paid(again(plan))) == 12


def test_a_target_is_met_to_the_unit(tenant: Tenant, source: Account) -> None:
    plan = auto_plan(source, now=OPENED, amount=300, target_amount=1_000, at_the_end="keep")

    advance(tenant, "2026-12-31")

    assert again(plan).status == "completed"
    assert saved(plan) == 1_000
    assert _paid(again(plan)) == [300, 300, 300, 100]


def test_without_a_target_it_goes_on_until_it_is_closed(tenant: Tenant, source: Account) -> None:
    plan = auto_plan(source, now=OPENED, amount=300, target_amount=None)
    foreseen = project(plan, now=OPENED)

    advance(tenant, "2027-01-31")

    assert (again(plan).status, saved(plan)) == ("active", 12 * 300)
    assert (foreseen.ends_on, foreseen.balance) == (None, 12 * 300)
    close_plan(tenant_id=tenant.pk, plan_id=plan.pk, now=utc("2027-01-31"))
    assert (again(plan).status, balance_of(source)) == ("closed", 100_000_000)


def test_what_is_kept_goes_on_earning(tenant: Tenant, source: Account) -> None:
    plan = locked_plan(
        source,
        dt.date(2026, 3, 10),
        now=OPENED,
        amount=5_000_000,
        at_the_end="keep",
        annual_rate_bps=500,
    )
    expected = Reckoning(500, balance=5_000_000)
    for day in days(dt.date(2026, 1, 15), dt.date(2026, 4, 30)):
        if day.day == 1 or day == dt.date(2026, 3, 10):
            expected.post()
        expected.earn(day)
    expected.post()

    advance(tenant, "2026-05-01")

    assert again(plan).status == "unlocked"
    assert saved(plan) == expected.balance
    assert interest_in_waiting(plan) == expected.waiting


def test_the_zone_says_when_the_day_comes(tenant: Tenant) -> None:
    bank = create_tenant(name="Jakarta", now=OPENED)
    bank.time_zone = "Asia/Jakarta"
    bank.save()
    start_test_clock(tenant_id=bank.pk, at=OPENED, now=OPENED)
    source = open_account(bank, balance=10_000)
    plan = locked_plan(source, dt.date(2026, 2, 1), now=OPENED)

    # Seven hours before UTC's midnight.
    advance(bank, "2026-01-31T16:59:59")
    assert again(plan).status == "active"
    advance(bank, "2026-01-31T17:00:00")

    assert again(plan).status == "closed"
    assert balance_of(source) == 10_000


def _paid(plan: SavingsPlan) -> list[int | None]:
    """Return what its runs have paid, the first of them first."""
    runs = plan_runs(plan).filter(status="succeeded").order_by("scheduled_for")
    return list(runs.values_list("amount", flat=True))


def _own(tenant: Tenant, role: str) -> int:
    found = Account.objects.filter(tenant=tenant, role=role).values_list("balance", flat=True)
    return found.first() or 0
