"""Recurring payments by a tenant's test clock: a year in a call, each at its time."""

import datetime as dt

import pytest

from accounts.models import Account
from identity.models import Tenant
from identity.services import advance_test_clock, create_tenant, start_test_clock
from payments.services import Salary
from payments.services.recurring import clock
from payments.services.recurring.due import take_due
from tests.making import balance_of, deposit, open_account
from tests.recurring import order, runs, utc

JANUARY = utc("2026-01-15")
YEAR = utc("2027-01-15")


@pytest.fixture
def source(tenant: Tenant) -> Account:
    start_test_clock(tenant_id=tenant.pk, at=JANUARY, now=JANUARY)
    return open_account(tenant, balance=10_000)


@pytest.fixture
def saver(tenant: Tenant) -> Account:
    return open_account(tenant)


def test_a_year_is_one_call(tenant: Tenant, source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, day_of_month=31)

    advanced = advance_test_clock(tenant_id=tenant.pk, to=YEAR, now=JANUARY)

    assert (advanced.now, advanced.is_complete) == (YEAR, True)
    assert balance_of(saver) == 1_200
    made = runs(payment)
    assert [f"{each.date:%m-%d}" for each in made] == [
        *("01-31", "02-28", "03-31", "04-30", "05-31", "06-30"),
        *("07-31", "08-31", "09-30", "10-31", "11-30", "12-31"),
    ]
    # Each at its own time, not all at the end.
    assert [each.ended_at for each in made] == [each.scheduled_for for each in made]


def test_more_than_a_look_takes_is_paid_too(
    tenant: Tenant, source: Account, saver: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "RUNS_MAX", 1)
    for _ in range(3):
        order(source, saver, now=JANUARY, start_date=dt.date(2026, 2, 1))

    advanced = advance_test_clock(tenant_id=tenant.pk, to=utc("2026-02-01T12:00"), now=JANUARY)

    assert advanced.is_complete
    assert balance_of(saver) == 300


@pytest.mark.django_db(transaction=True)
def test_salaries_of_others_come_by_their_own_time(tenant: Tenant, source: Account) -> None:
    other = create_tenant(name="Other bank", now=JANUARY)
    earner, pot = open_account(other), open_account(other)
    payment = order(earner, pot, now=JANUARY, salary=Salary(min_amount=50), amount=10)
    deposit(earner, 100)

    advance_test_clock(tenant_id=tenant.pk, to=YEAR, now=JANUARY)

    [made] = runs(payment)
    assert (made.status, made.next_attempt_at) == ("due", JANUARY)


def test_a_run_in_other_hands_is_waited_for(
    tenant: Tenant, source: Account, saver: Account
) -> None:
    order(source, saver, now=JANUARY, start_date=dt.date(2026, 2, 1))
    february = utc("2026-02-01T12:00")
    # Somebody takes it, and is not heard of again.
    take_due(now=february, limit=1, tenant_id=tenant.pk)

    advanced = advance_test_clock(tenant_id=tenant.pk, to=YEAR, now=JANUARY)

    assert not advanced.is_complete
    assert advanced.now == february
