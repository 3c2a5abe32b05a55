"""What tests of savings plans are made of, and what they are held against."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from typing import Any

from accounts.models import Account
from core.caller import Caller, calling
from identity.models import Tenant
from savings.models import EarlyRelease, SavingsPlan
from savings.services import (
    NewPlan,
    approve_release,
    create_plan,
    deposit,
    keep_plans,
    pause_plan,
    request_release,
)
from tests import making
from tests.making import corrupt

_TWELVE = Decimal("0.000000000001")


def auto_plan(source: Account, *, now: dt.datetime, **new: Any) -> SavingsPlan:
    """Put 100 aside on each 1st, until there are 1,200; unless told otherwise."""
    values: dict[str, Any] = {"amount": 100, "day_of_month": 1, **new}
    if not {"target_amount", "months"} & values.keys():
        values["target_amount"] = 1_200
    return _plan(source, "auto_withdraw", now, values)


def locked_plan(
    source: Account, unlock_date: dt.date, *, now: dt.datetime, **new: Any
) -> SavingsPlan:
    """Lock 1,000 until the date, unless told otherwise."""
    return _plan(source, "date_locked", now, {"amount": 1_000, "unlock_date": unlock_date, **new})


def auto_body(source: Account, **changes: Any) -> dict[str, Any]:
    """Return what is sent to put 100 aside each month, until there are 1,200."""
    return _body(source, kind="auto_withdraw", amount=100, target_amount=1_200) | changes


def locked_body(source: Account, unlock_date: str, **changes: Any) -> dict[str, Any]:
    """Return what is sent to lock 1,000 until the date."""
    return _body(source, kind="date_locked", amount=1_000, unlock_date=unlock_date) | changes


def _body(source: Account, **rest: Any) -> dict[str, Any]:
    return {
        "account_id": str(source.pk),
        "currency": source.currency,
        "name": "Holiday",
        **rest,
    }


def _plan(source: Account, kind: str, now: dt.datetime, new: dict[str, Any]) -> SavingsPlan:
    return create_plan(
        tenant_id=source.tenant_id,
        new=NewPlan(
            **{
                "kind": kind,
                "name": "Holiday",
                "source_account_id": source.pk,
                "currency": source.currency,
                **new,
            }
        ),
        now=now,
    )


def keep(now: dt.datetime, *, tenant: Tenant | None = None) -> int:
    """Do what is due for plans at the moment."""
    return keep_plans(now=now, limit=10_000, tenant_id=None if tenant is None else tenant.pk)


def again(plan: SavingsPlan) -> SavingsPlan:
    return SavingsPlan.objects.select_related("plan_account", "recurring_payment").get(pk=plan.pk)


def saved(plan: SavingsPlan) -> int:
    """Return what the plan's account has."""
    return Account.objects.values_list("balance", flat=True).get(pk=plan.plan_account_id)


def released(plan: SavingsPlan, now: dt.datetime) -> EarlyRelease:
    """Have two people agree that a locked plan is paid out."""
    with calling(Caller("user:one")):
        release = request_release(
            tenant_id=plan.tenant_id, plan_id=plan.pk, reason="Hospital", now=now
        )
    with calling(Caller("user:two")):
        return approve_release(
            tenant_id=plan.tenant_id, release_id=release.pk, reason="Seen", now=now
        )


def one_of_each(source: Account, now: dt.datetime) -> dict[str, str]:
    """
    Return the ids of a savings plan with something in it, of a paused and a spare one, of one that
    is locked, and of an early release that was asked for, of another.
    """
    tenant_id, rate = source.tenant_id, {"annual_rate_bps": 10_000, "withholding_tax_bps": 1_000}
    making.deposit(source, 2_100)
    plan, paused, spare = (auto_plan(source, now=now, **rate) for _ in range(3))
    deposit(
        tenant_id=tenant_id,
        plan_id=plan.pk,
        amount=100,
        idempotency_key=making.fresh_key(),
        now=now,
    )
    pause_plan(tenant_id=tenant_id, plan_id=paused.pk, now=now)
    next_year = now.date() + dt.timedelta(days=365)
    locked, asked = (locked_plan(source, next_year, now=now, **rate) for _ in range(2))
    with calling(Caller("user:one")):
        release = request_release(tenant_id=tenant_id, plan_id=asked.pk, reason="x", now=now)
    return {
        "savings_plan": str(plan.pk),
        "paused_savings_plan": str(paused.pk),
        "spare_savings_plan": str(spare.pk),
        "locked_savings_plan": str(locked.pk),
        "early_release": str(release.pk),
    }


@dataclass
class Reckoning:
    """
    A plan's interest straight from the formula, with what the ledger was told by hand.

    balance x rate x days / basis a day, to twelve decimals; posted as the sum, rounded half to
    even, with what is left carried on; tax rounded down. Shares nothing with what it checks.
    """

    rate_bps: int
    day_count: str = "act_365f"
    tax_bps: int = 0
    balance: int = 0
    waiting: Decimal = Decimal(0)
    interest: int = 0
    tax: int = 0

    def earn(self, day: dt.date) -> None:
        """End the day."""
        if self.day_count == "act_365f":
            days, year = 1, 365
        else:
            days, year = _thirty(day + dt.timedelta(days=1)) - _thirty(day), 360
        with localcontext(prec=80):
            earned = Decimal(max(self.balance, 0)) * self.rate_bps * days / 10_000 / year
            self.waiting += earned.quantize(_TWELVE, ROUND_HALF_UP)

    def post(self) -> None:
        with localcontext(prec=80):
            amount = max(0, int(self.waiting.quantize(Decimal(1), ROUND_HALF_EVEN)))
            self.waiting -= amount
        tax = amount * self.tax_bps // 10_000
        self.balance += amount - tax
        self.interest += amount
        self.tax += tax


def days(first: dt.date, last: dt.date) -> Iterable[dt.date]:
    """Yield the days, both included."""
    while first <= last:
        yield first
        first += dt.timedelta(days=1)


def _thirty(day: dt.date) -> int:
    # 30E/360: the 31st counts as the 30th.
    return 360 * day.year + 30 * day.month + (30 if day.day == 31 else day.day)


def back_dated(account: Account, to: dt.datetime) -> None:
    """Have what was booked on the account so far be of the moment, as if it had been so then."""
    posted = "(SELECT transaction_id FROM ledger_entry WHERE account_id = %s)"
    corrupt(f"UPDATE ledger_transaction SET created_at = %s WHERE id IN {posted}", to, account.pk)
    corrupt(
        f"UPDATE ledger_entry SET created_at = %s WHERE transaction_id IN {posted}",
        *(to, account.pk),
    )
    corrupt("UPDATE accounts_account SET updated_at = %s WHERE id = %s", to, account.pk)


def comes_due(plan: SavingsPlan, at: dt.datetime) -> None:
    """Have the date of a locked plan have come at the moment: nobody waits for it in a test."""
    corrupt(
        "UPDATE savings_savingsplan SET unlock_at = %s, unlock_date = %s, next_step_at = %s"
        " WHERE id = %s",
        *(at, at.date(), at, plan.pk),
    )
    corrupt(
        "UPDATE accounts_account SET debit_locked_until = %s WHERE id = %s",
        *(at, plan.plan_account_id),
    )
