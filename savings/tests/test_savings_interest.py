"""Interest by the real time: days by when entries were booked, months, outages, what is refused."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Account
from accounts.services import freeze_account, unfreeze_account
from core.money import BALANCE_MAX
from identity.models import Tenant
from identity.services import create_tenant
from savings.models import InterestAccrual, InterestBook, InterestPosting, SavingsPlan
from savings.queries import interest_in_waiting, interest_totals
from savings.services import change_plan, close_plan, deposit, keep_books, withdraw
from savings.services import interest as interest_module
from tests.making import balance_of, corrupt, open_account
from tests.recurring import utc
from tests.saving import (
    Reckoning,
    again,
    auto_plan,
    back_dated,
    comes_due,
    days,
    keep,
    locked_plan,
    saved,
)

# Far enough back that whole years are over, and no pass is in the future.
OPENED = utc("2023-11-10T09:00")
RATE = 425


@pytest.fixture
def source(tenant: Tenant) -> Account:
    return open_account(tenant, balance=1_000_000_000)


def a_plan(source: Account, amount: int = 1_000_033, **new: Any) -> SavingsPlan:
    """A plan of 2023 with money in it from its first day on."""
    until = (timezone.now() + dt.timedelta(days=900)).date()
    values = {"amount": amount, "annual_rate_bps": RATE, **new}
    plan = locked_plan(source, until, now=OPENED, **values)
    back_dated(plan.plan_account, OPENED)
    return again(plan)


def booked(plan: SavingsPlan, at: dt.datetime) -> None:
    """Have the last entry of the plan's account be of the moment, and nothing later."""
    corrupt(
        "UPDATE ledger_entry SET created_at = %s WHERE account_id = %s AND sequence ="
        " (SELECT entry_count FROM accounts_account WHERE id = %s)",
        *(at, plan.plan_account_id, plan.plan_account_id),
    )
    corrupt("UPDATE accounts_account SET updated_at = %s WHERE id = %s", at, plan.plan_account_id)


def put_in(plan: SavingsPlan, amount: int, at: dt.datetime) -> None:
    deposit(
        tenant_id=plan.tenant_id, plan_id=plan.pk, amount=amount, idempotency_key=f"{at}", now=at
    )
    booked(plan, at)


def keep_each_day(plan: SavingsPlan, first: dt.date, last: dt.date) -> None:
    """Have the sweep come by on each day at one, and what it posts be booked then."""
    for day in days(first, last):
        at = dt.datetime.combine(day, dt.time(1), dt.UTC)
        entries = Account.objects.get(pk=plan.plan_account_id).entry_count
        keep(at)
        if Account.objects.get(pk=plan.plan_account_id).entry_count > entries:
            booked(plan, at)


def balances(plan: SavingsPlan) -> list[int]:
    found = InterestAccrual.objects.filter(plan=plan).order_by("date")
    return list(found.values_list("balance", flat=True))


def rates(plan: SavingsPlan) -> list[int]:
    found = InterestAccrual.objects.filter(plan=plan).order_by("date")
    return list(found.values_list("annual_rate_bps", flat=True))


# --- Days ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("day_count", ["act_365f", "30_360"])
def test_months_a_leap_year_and_deposits_against_the_formula(
    source: Account, day_count: str
) -> None:
    plan = a_plan(source, day_count=day_count, withholding_tax_bps=1_250)
    expected = Reckoning(RATE, day_count, 1_250, balance=1_000_033)
    put_ins = {dt.date(2023, 12, 31): 77_777, dt.date(2024, 2, 29): 5}
    for day in days(dt.date(2023, 11, 10), dt.date(2024, 3, 31)):
        if day.day == 1:
            expected.post()
        if day in put_ins:
            expected.balance += put_ins[day]
        expected.earn(day)

    last = dt.date(2023, 11, 10)
    for day, amount in put_ins.items():
        keep_each_day(plan, last, day)
        put_in(plan, amount, dt.datetime.combine(day, dt.time(23, 59, 59), dt.UTC))
        last = day + dt.timedelta(days=1)
    keep_each_day(plan, last, dt.date(2024, 4, 1))
    expected.post()

    assert saved(plan) == expected.balance
    assert interest_totals(plan) == (expected.interest, expected.tax)
    assert interest_in_waiting(plan) == expected.waiting
    assert InterestAccrual.objects.filter(plan=plan).count() == 143


@pytest.mark.parametrize(
    ("day", "thirtieths"),
    [
        ("2024-01-30", 0),
        ("2024-01-31", 1),
        ("2024-02-28", 1),
        # To the first of March: the 29th, and a 30th that there is not.
        ("2024-02-29", 2),
        ("2023-02-28", 3),
        ("2024-04-30", 1),
        ("2024-12-31", 1),
    ],
)
@pytest.mark.django_db
def test_thirty_days_a_month(day: str, thirtieths: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT savings_interest(3600000, 100, '30_360', %s::date)", [day])
        [amount] = cursor.fetchone() or [None]

    assert amount == 100 * thirtieths


def test_each_month_has_thirty_days_and_each_year_365(db: None) -> None:
    for year in (2023, 2024):
        for month in range(1, 13):
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT sum(savings_interest(3600000, 100, '30_360', d::date)),"
                    " sum(savings_interest(3650000, 100, 'act_365f', d::date)), count(*)"
                    " FROM generate_series(make_date(%s, %s, 1), make_date(%s, %s, 1)"
                    " + interval '1 month - 1 day', interval '1 day') d",
                    [year, month, year, month],
                )
                thirty, actual, count = cursor.fetchone() or (0, 0, 0)
            # Of the 30th nothing, of the 31st, which counts as the 30th, one.
            assert (thirty, actual) == (3_000, 100 * count), (year, month)


def test_a_day_is_the_tenants_own(db: None) -> None:
    bank = create_tenant(name="Jakarta", now=OPENED)
    bank.time_zone = "Asia/Jakarta"
    bank.save()
    plan = a_plan(open_account(bank, balance=10_000_000))
    # 17:00 UTC is midnight there.
    put_in(plan, 7, utc("2023-11-12T16:59:59"))
    put_in(plan, 7, utc("2023-11-12T17:00:00"))

    keep(utc("2023-11-13T17:20"))

    assert balances(plan) == [1_000_033] * 2 + [1_000_040, 1_000_047]


def test_where_clocks_go_back_and_forth_each_day_counts_once(db: None) -> None:
    bank = create_tenant(name="Havana", now=OPENED)
    # There it happens at midnight.
    bank.time_zone = "America/Havana"
    bank.save()
    plan = a_plan(open_account(bank, balance=10_000_000))

    for first in (utc("2024-03-09"), utc("2024-11-02")):
        for hour in range(0, 24 * 3, 3):
            keep(first + dt.timedelta(hours=hour))

    dates = list(InterestAccrual.objects.filter(plan=plan).values_list("date", flat=True))
    assert sorted(dates) == list(days(min(dates), max(dates)))
    assert max(dates) == dt.date(2024, 11, 3)


def test_a_tenant_that_moves_its_days_loses_and_repeats_none(source: Account) -> None:
    tenant, plan = source.tenant, a_plan(source)
    keep(utc("2023-11-20T12:00"))
    for hour, zone in enumerate(("Pacific/Kiritimati", "Etc/GMT+12", "UTC")):
        tenant.time_zone = zone
        tenant.save()
        for step in range(0, 96, 6):
            keep(utc("2023-11-20T13:00") + dt.timedelta(hours=96 * hour + step))

    dates = list(
        InterestAccrual.objects.filter(plan=plan).order_by("date").values_list("date", flat=True)
    )
    assert dates == list(days(dt.date(2023, 11, 10), dates[-1]))
    assert dates[-1] == dt.date(2023, 12, 1)


# --- Outages and passes --------------------------------------------------------------------------


def test_forty_days_without_a_sweep_are_made_up_for(source: Account) -> None:
    plan = a_plan(source)
    put_in(plan, 500, utc("2023-11-25T12:00"))

    keep(utc("2023-12-20T12:00"))

    assert balances(plan) == [1_000_033] * 15 + [1_000_533] * 25
    # November's, all that was over.
    [posting] = InterestPosting.objects.filter(plan=plan)
    assert (posting.period_from, posting.period_to) == (
        dt.date(2023, 11, 10),
        dt.date(2023, 11, 30),
    )


def test_a_day_is_not_accrued_before_all_of_it_is_booked(source: Account) -> None:
    plan = a_plan(source)

    keep(utc("2023-11-11T00:14:59"))
    assert balances(plan) == []
    keep(utc("2023-11-11T00:15:00"))
    assert balances(plan) == [1_000_033]


def test_a_pass_that_stops_between_pages_goes_on_where_it_was(
    source: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [a_plan(source, 1_000_000 + n) for n in range(5)]
    pages = 0
    original = interest_module._accrue_page

    def dying(*arguments: Any) -> int:
        nonlocal pages
        pages += 1
        if pages == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(interest_module, "_accrue_page", dying)
    with pytest.raises(KeyboardInterrupt):
        keep_books(now=utc("2023-12-05T12:00"), page=2)
    assert InterestBook.objects.get().accrued_plan_id == plans[3].pk
    keep_books(now=utc("2023-12-05T12:00"), page=2)

    assert {tuple(balances(each)) for each in plans} == {(1_000_000 + n,) * 25 for n in range(5)}
    assert InterestPosting.objects.count() == 5


def test_the_same_pass_again_does_nothing(source: Account) -> None:
    plan = a_plan(source)
    now = utc("2023-12-05T12:00")
    keep(now)
    before = (balances(plan), saved(plan))
    InterestBook.objects.update(next_due_at=OPENED)

    keep(now)
    keep(now - dt.timedelta(days=3))

    assert (balances(plan), saved(plan)) == before


def test_one_tenants_fault_stops_no_other(
    source: Account, other_tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = a_plan(source)
    other = a_plan(open_account(other_tenant, balance=5_000_000))
    comes_due(other, utc("2023-12-04"))
    original = interest_module._accrue_page

    def broken(book: InterestBook, *rest: Any) -> int:
        if book.pk == source.tenant_id:
            raise ZeroDivisionError
        return original(book, *rest)

    monkeypatch.setattr(interest_module, "_accrue_page", broken)
    keep(utc("2023-12-05T12:00"))

    assert (again(other).status, len(balances(other))) == ("closed", 25)
    assert balances(plan) == []
    monkeypatch.setattr(interest_module, "_accrue_page", original)
    keep(utc("2023-12-05T12:01"))
    assert len(balances(plan)) == 25


# --- Rates ---------------------------------------------------------------------------------------


def change(plan: SavingsPlan, now: dt.datetime, **changes: Any) -> None:
    change_plan(tenant_id=plan.tenant_id, plan_id=plan.pk, changes=changes, now=now)


def test_another_rate_holds_from_its_day_on(source: Account) -> None:
    plan = a_plan(source)

    change(plan, utc("2023-11-15T12:00"), annual_rate_bps=900)
    change(plan, utc("2023-11-15T13:00"), annual_rate_bps=0)
    change(plan, utc("2023-11-18T13:00"), annual_rate_bps=100)
    keep(utc("2023-11-20T12:00"))

    assert rates(plan) == [RATE] * 5 + [0] * 3 + [100] * 2


def test_a_rate_after_an_outage_holds_for_none_of_it(source: Account) -> None:
    plan = a_plan(source)

    change(plan, utc("2024-01-20T12:00"), annual_rate_bps=1)
    keep(utc("2024-01-22T12:00"))

    assert rates(plan) == [RATE] * 71 + [1] * 2


def test_a_plan_without_interest_gets_some_from_a_day_on(source: Account) -> None:
    plan = auto_plan(source, now=OPENED)
    keep(utc("2023-11-20T12:00"))
    assert not InterestBook.objects.exists()

    change(plan, utc("2023-11-20T12:00"), annual_rate_bps=RATE)
    keep(utc("2023-11-22T12:00"))

    assert rates(plan) == [RATE] * 2


def test_no_rate_no_interest_and_nothing_is_posted(source: Account) -> None:
    plan = a_plan(source)
    change(plan, OPENED, annual_rate_bps=0)

    keep(utc("2023-12-05T12:00"))

    assert interest_in_waiting(plan) == 0
    assert saved(plan) == 1_000_033
    [posting] = InterestPosting.objects.filter(plan=plan)
    assert (posting.amount, posting.transaction_id) == (0, None)


def test_what_is_too_little_is_carried_on_until_it_is_enough(source: Account) -> None:
    plan = a_plan(source, 100, annual_rate_bps=100)

    for month in ("2023-12", "2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2024-06"):
        keep(utc(f"{month}-01T12:00"))

    made = InterestPosting.objects.filter(plan=plan).order_by("period_to")
    # A hundredth of 100 a year: half of one is passed in May.
    assert [each.amount for each in made] == [0, 0, 0, 0, 0, 0, 1]
    assert sum(each.accrued for each in made) == 1 + interest_in_waiting(plan)
    assert -Decimal("0.5") <= interest_in_waiting(plan) <= Decimal("0.5")


# --- Refused -------------------------------------------------------------------------------------


def test_a_frozen_account_gets_its_interest_later_and_none_is_lost(source: Account) -> None:
    tenant, plan = source.tenant, a_plan(source)
    expected = Reckoning(RATE, balance=1_000_033)
    for day in days(dt.date(2023, 11, 10), dt.date(2024, 1, 31)):
        expected.earn(day)
    expected.post()
    which: dict[str, Any] = {"tenant_id": tenant.pk, "account_id": plan.plan_account_id}
    freeze_account(**which, reason="x", now=OPENED)

    keep(utc("2023-12-05T12:00"))
    keep(utc("2024-01-05T12:00"))
    assert not InterestPosting.objects.exists()
    unfreeze_account(**which, reason="x", now=OPENED)
    back_dated(plan.plan_account, OPENED)
    keep(utc("2024-02-05T12:00"))

    [posting] = InterestPosting.objects.filter(plan=plan)
    assert (posting.period_from, posting.amount) == (dt.date(2023, 11, 10), expected.interest)
    assert saved(plan) == expected.balance


def test_a_balance_as_large_as_there_is(tenant: Tenant) -> None:
    rich = open_account(tenant, balance=BALANCE_MAX // 2)
    plan = a_plan(rich, 9_000_000_000_000_000, annual_rate_bps=10_000)
    small = a_plan(rich)
    corrupt(
        "UPDATE accounts_account SET balance = %s WHERE id = %s", BALANCE_MAX, plan.plan_account_id
    )

    keep(utc("2023-12-05T12:00"))

    # To the last of its decimals; and it cannot be put in.
    expected = Reckoning(10_000, balance=BALANCE_MAX)
    for day in days(dt.date(2023, 11, 10), dt.date(2023, 12, 4)):
        expected.earn(day)
    assert interest_in_waiting(plan) == expected.waiting
    # Nor does it keep others from theirs.
    assert [each.plan_id for each in InterestPosting.objects.all()] == [small.pk]


def test_interest_that_is_refused_keeps_its_plan_open(tenant: Tenant) -> None:
    """Closed without it, nobody would ever pay it."""
    source = open_account(tenant, balance=5_000)
    plan = a_plan(source, 5_000, annual_rate_bps=10_000)
    expense = interest_module.interest_accounts(tenant, "USD", OPENED)["interest_expense"]
    corrupt("UPDATE accounts_account SET balance = %s WHERE id = %s", -BALANCE_MAX, expense)
    comes_due(plan, utc("2024-01-01"))

    keep(utc("2024-01-01T12:00"))

    stuck = again(plan)
    assert (stuck.status, stuck.status_reason) == ("unlocked", "balance_out_of_range")
    assert saved(plan) == 5_000
    corrupt("UPDATE accounts_account SET balance = 0 WHERE id = %s", expense)
    keep(utc("2024-01-01T14:00"))
    assert again(plan).status == "closed"
    assert balance_of(source) == 5_000 + interest_totals(plan)[0] > 5_000


# --- The end -------------------------------------------------------------------------------------


def test_the_day_it_is_closed_on_earns_nothing(source: Account) -> None:
    plan = auto_plan(source, now=OPENED, annual_rate_bps=RATE)
    put_in(plan, 900, OPENED)

    close_plan(tenant_id=plan.tenant_id, plan_id=plan.pk, now=utc("2023-11-12T12:00"))
    keep(utc("2024-02-01T12:00"))

    assert balances(plan) == [900, 900]
    [posting] = InterestPosting.objects.filter(plan=plan)
    assert posting.period_to == dt.date(2023, 11, 11)


def test_what_was_taken_out_earns_nothing_from_that_day_on(source: Account) -> None:
    plan = auto_plan(source, now=OPENED, annual_rate_bps=RATE)
    put_in(plan, 900, OPENED)
    at = utc("2023-11-12T12:00")
    withdraw(tenant_id=plan.tenant_id, plan_id=plan.pk, amount=400, idempotency_key="w", now=at)
    booked(plan, at)

    keep(utc("2023-11-14T12:00"))

    assert balances(plan) == [900, 900, 500, 500]


def test_days_after_the_date_earn_until_it_is_unlocked(source: Account) -> None:
    """An outage over the date: the money was there all the time."""
    plan = a_plan(source)
    comes_due(plan, utc("2023-12-04"))

    keep(utc("2023-12-09T12:00"))

    assert again(plan).status == "closed"
    assert len(balances(plan)) == 29
    assert interest_in_waiting(plan) <= Decimal("0.5")
