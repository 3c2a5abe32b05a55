"""
Many at once at the same savings plan: who withdraws, closes, releases, renews, and the sweeps.

Whatever meets, a plan is paid out once, and its money is in it or where it was paid to.
"""

import datetime as dt
import io
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from accounts.models import Account
from core.caller import Caller, calling
from core.errors import DomainError
from identity.models import Tenant
from identity.services import start_test_clock
from ledger.models import Transaction
from savings.errors import SavingsPlanLocked
from savings.models import InterestAccrual, InterestPosting, SavingsPlan
from savings.services import (
    approve_release,
    change_plan,
    close_plan,
    deposit,
    keep_books,
    pause_plan,
    renew_plan,
    request_release,
    withdraw,
)
from tests.making import at_once, balance_of, open_account
from tests.recurring import run
from tests.saving import again, auto_plan, back_dated, comes_due, keep, locked_plan, saved

pytestmark = pytest.mark.django_db(transaction=True)

HAD = 1_000_000


@pytest.fixture
def now() -> dt.datetime:
    return timezone.now()


@pytest.fixture
def source(tenant: Tenant, now: dt.datetime) -> Account:
    source = open_account(tenant, balance=HAD)
    back_dated(source, now - dt.timedelta(days=20))
    return source


def unlockable(source: Account, now: dt.datetime, **new: Any) -> SavingsPlan:
    """A locked plan with ten days of interest to come, whose date has come just now."""
    began = now - dt.timedelta(days=10)
    until = (now + dt.timedelta(days=3)).date()
    plan = locked_plan(source, until, now=began, annual_rate_bps=5_000, **new)
    back_dated(plan.plan_account, began)
    comes_due(plan, now - dt.timedelta(hours=1))
    return again(plan)


def of(plan: SavingsPlan) -> dict[str, Any]:
    return {"tenant_id": plan.tenant_id, "plan_id": plan.pk}


def postings(type_: str) -> int:
    return Transaction.objects.filter(type=type_).count()


def none_failed(results: list[Any]) -> bool:
    """Nothing but refusals: no deadlock, no fault."""
    faults = [each for each in results if isinstance(each, Exception)]
    faults = [each for each in faults if not isinstance(each, DomainError)]
    assert faults == []
    return True


def all_is_there(source: Account, *plans: SavingsPlan) -> bool:
    """What is not in the source is in the plans, but for the interest that came in addition."""
    interest = sum(InterestPosting.objects.values_list("amount", flat=True))
    call_command("verify_ledger", stdout=io.StringIO())
    call_command("verify_savings", stdout=io.StringIO())
    return balance_of(source) + sum(map(saved, plans)) == HAD + interest


# --- By hand -------------------------------------------------------------------------------------


def test_two_withdrawals_take_no_more_than_there_is(source: Account, now: dt.datetime) -> None:
    plan = auto_plan(source, now=now)
    deposit(**of(plan), amount=1_000, idempotency_key="d", now=now)

    results = at_once(
        [
            partial(withdraw, **of(plan), amount=400, idempotency_key=f"w{n}", now=now)
            for n in range(5)
        ]
    )

    assert none_failed(results)
    assert [str(getattr(each, "code", "")) for each in results].count("insufficient_funds") == 3
    assert saved(plan) == 200
    assert all_is_there(source, plan)


def test_one_withdrawal_asked_for_many_times_is_one(source: Account, now: dt.datetime) -> None:
    plan = auto_plan(source, now=now)
    deposit(**of(plan), amount=1_000, idempotency_key="d", now=now)

    call = partial(withdraw, **of(plan), amount=400, idempotency_key="w", now=now)
    assert none_failed(at_once([call] * 5))

    assert saved(plan) == 600


def test_it_is_closed_and_paid_out_once(source: Account, now: dt.datetime) -> None:
    plan = auto_plan(source, now=now)
    deposit(**of(plan), amount=1_000, idempotency_key="d", now=now)

    results = at_once([partial(close_plan, **of(plan), now=now)] * 5)

    assert none_failed(results)
    assert not [each for each in results if isinstance(each, DomainError)]
    assert postings("savings_withdrawal") == 1
    assert again(plan).status == "closed"
    assert all_is_there(source, plan)


def test_deposits_and_closing(source: Account, now: dt.datetime) -> None:
    plan = auto_plan(source, now=now, target_amount=1_000_000)
    puts: list[Callable[[], Any]] = [
        partial(deposit, **of(plan), amount=10, idempotency_key=f"d{n}", now=now) for n in range(4)
    ]

    assert none_failed(at_once([*puts, partial(close_plan, **of(plan), now=now)]))

    # What came before was paid out; what came after was refused.
    assert (again(plan).status, saved(plan)) == ("closed", 0)
    assert all_is_there(source, plan)


def test_the_target_is_reached_once_by_deposits(source: Account, now: dt.datetime) -> None:
    plan = auto_plan(source, now=now, target_amount=300)

    results = at_once(
        [
            partial(deposit, **of(plan), amount=200, idempotency_key=f"d{n}", now=now)
            for n in range(4)
        ]
    )

    assert none_failed(results)
    assert (again(plan).status, saved(plan)) == ("completed", 400)
    assert sum(isinstance(each, DomainError) for each in results) == 2


# --- Beside the sweeps ---------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["retry", "partial"])
def test_closing_while_a_run_is_under_way(source: Account, now: dt.datetime, policy: str) -> None:
    plans = [
        auto_plan(
            source,
            now=now,
            start_date=now.date(),
            day_of_month=now.day,
            on_insufficient_funds=policy,
        )
        for _ in range(6)
    ]
    due = now + dt.timedelta(days=1)
    closes = [partial(close_plan, **of(each), now=due) for each in plans]

    assert none_failed(at_once([partial(run, due), partial(run, due), *closes]))
    run(due)
    keep(due)

    assert {again(each).status for each in plans} == {"closed"}
    assert [saved(each) for each in plans] == [0] * 6
    assert all_is_there(source, *plans)


def test_sweeps_unlock_a_plan_once(source: Account, now: dt.datetime) -> None:
    plans = [unlockable(source, now) for _ in range(8)]

    assert none_failed(at_once([partial(keep, now)] * 4))
    keep(now)

    assert {again(each).status for each in plans} == {"closed"}
    assert postings("savings_withdrawal") == 8
    assert postings("interest") == InterestPosting.objects.filter(amount__gt=0).count()
    assert all_is_there(source, *plans)


def test_an_approval_beside_the_sweep_pays_once(source: Account, now: dt.datetime) -> None:
    plan = unlockable(source, now)
    with calling(Caller("user:one")):
        release = request_release(**of(plan), reason="Hospital", now=now)

    def approve() -> Any:
        with calling(Caller("user:two")):
            return approve_release(
                tenant_id=plan.tenant_id, release_id=release.pk, reason="Seen", now=now
            )

    assert none_failed(at_once([approve, approve, partial(keep, now), partial(keep, now)]))

    assert again(plan).status == "closed"
    assert postings("savings_withdrawal") == 1
    assert all_is_there(source, plan)


def test_two_who_decide_are_one_decision(source: Account, now: dt.datetime) -> None:
    plan = locked_plan(source, (now + dt.timedelta(days=3)).date(), now=now)
    with calling(Caller("user:one")):
        release = request_release(**of(plan), reason="Hospital", now=now)

    def decide(who: str) -> Any:
        with calling(Caller(who)):
            return approve_release(
                tenant_id=plan.tenant_id, release_id=release.pk, reason="Seen", now=now
            )

    results = at_once([partial(decide, f"user:{n}") for n in range(4)])

    assert none_failed(results)
    assert sum(not isinstance(each, Exception) for each in results) == 1
    assert postings("savings_withdrawal") == 1


def test_one_open_request_at_a_time(source: Account, now: dt.datetime) -> None:
    plan = locked_plan(source, (now + dt.timedelta(days=3)).date(), now=now)

    def ask() -> Any:
        with calling(Caller("user:one")):
            return request_release(**of(plan), reason="Hospital", now=now)

    results = at_once([ask] * 4)

    assert none_failed(results)
    assert sum(not isinstance(each, Exception) for each in results) == 1


def test_a_deposit_beside_the_unlocking_is_paid_out_or_refused(
    source: Account, now: dt.datetime
) -> None:
    plan = unlockable(source, now)
    # They are late by their own clocks.
    earlier = now - dt.timedelta(hours=2)
    puts: list[Callable[[], Any]] = [
        partial(deposit, **of(plan), amount=5, idempotency_key=f"d{n}", now=earlier)
        for n in range(3)
    ]

    assert none_failed(at_once([*puts, partial(keep, now), partial(keep, now)]))
    keep(now)

    assert (again(plan).status, saved(plan)) == ("closed", 0)
    assert all_is_there(source, plan)


def test_renewing_beside_the_unlocking_is_one_or_the_other(
    source: Account, now: dt.datetime
) -> None:
    plan = unlockable(source, now, at_the_end="keep")
    later = (now + dt.timedelta(days=40)).date()
    renew = partial(renew_plan, **of(plan), unlock_date=later, now=now)
    calls: list[Callable[[], Any]] = [renew, partial(keep, now)] * 2
    assert none_failed(at_once(calls))

    found, account = again(plan), Account.objects.get(pk=plan.plan_account_id)
    if found.status == "active":
        assert (found.unlock_date, account.debit_locked_until) == (later, found.unlock_at)
    else:
        assert (found.status, account.debit_locked_until) == ("unlocked", None)
    assert all_is_there(source, plan)


def test_closing_pausing_and_changing_beside_a_run_is_no_deadlock(
    source: Account, now: dt.datetime
) -> None:
    plans = [
        auto_plan(source, now=now, start_date=now.date(), day_of_month=now.day, target_amount=250)
        for _ in range(4)
    ]
    due = now + dt.timedelta(days=1)

    def act(plan: SavingsPlan) -> None:
        deposit(**of(plan), amount=150, idempotency_key=f"{plan.pk}", now=due)
        change_plan(**of(plan), changes={"amount": 50}, now=due)
        pause_plan(**of(plan), now=due)

    calls: list[Callable[[], Any]] = [partial(act, each) for each in plans]
    assert none_failed(at_once([*calls, partial(run, due), partial(keep, due)]))
    run(due)
    keep(due)

    assert all_is_there(source, *plans)


def test_passes_at_once_accrue_each_day_once(
    tenant: Tenant, source: Account, now: dt.datetime
) -> None:
    plans = [unlockable(source, now, at_the_end="keep") for _ in range(12)]

    def change(plan: SavingsPlan) -> Any:
        return change_plan(**of(plan), changes={"annual_rate_bps": 1}, now=now)

    calls: list[Callable[[], Any]] = [partial(keep_books, now=now, page=3)] * 3
    assert none_failed(at_once([*calls, *[partial(change, each) for each in plans[:3]]]))
    keep_books(now=now)

    found = InterestAccrual.objects.filter(tenant_id=tenant.pk)
    # Ten days each, whose rate was the old one.
    assert found.count() == 120
    assert set(found.values_list("annual_rate_bps", flat=True)) == {5_000}


# --- Clocks --------------------------------------------------------------------------------------


def test_what_is_locked_while_its_tenant_gets_a_clock_keeps_the_real_time(
    tenant: Tenant, source: Account, now: dt.datetime
) -> None:
    """A clock that can be moved would open it."""
    plan = unlockable(source, now, at_the_end="keep")
    keep(now)
    held, go_on = threading.Event(), threading.Event()

    def renew() -> None:
        with transaction.atomic():
            renew_plan(**of(plan), unlock_date=(now + dt.timedelta(days=40)).date(), now=now)
            held.set()
            go_on.wait(30)

    def begin() -> Any:
        assert held.wait(30)
        threading.Timer(0.3, go_on.set).start()
        return start_test_clock(tenant_id=tenant.pk, at=now, now=now)

    renewed, begun = at_once([renew, begin])

    assert renewed is None
    assert isinstance(begun, DomainError)
    tenant.refresh_from_db()
    assert tenant.test_clock is None


@pytest.mark.parametrize("seconds", [1, 0])
def test_a_day_that_begins_meanwhile_is_too_late(
    source: Account, now: dt.datetime, seconds: int
) -> None:
    """Asked for by a host whose clock is behind: refused, not broken."""
    yesterday = now - dt.timedelta(days=1, seconds=seconds)

    with pytest.raises(DomainError) as refusal:
        locked_plan(source, now.date(), now=yesterday)

    assert refusal.value.code == "invalid_request"
    assert balance_of(source) == HAD


def test_a_plan_waits_for_its_lock_to_end_by_the_servers_clock(
    source: Account, now: dt.datetime
) -> None:
    plan = locked_plan(source, (now + dt.timedelta(days=3)).date(), now=now)

    assert keep(now + dt.timedelta(days=9)) == 0

    found = again(plan)
    assert (found.status, found.step_tries) == ("active", 0)
    with pytest.raises(SavingsPlanLocked):
        withdraw(**of(plan), amount=1, idempotency_key="w", now=now + dt.timedelta(days=9))
