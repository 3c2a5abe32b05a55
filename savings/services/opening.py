"""Savings plans as their owners make and change them."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.models import Account
from accounts.services import NewAccount, lock_debits, open_account
from core.calendars.zones import instant_of, zone_of
from core.changes import changed, record_change
from core.database import refusing
from core.errors import InvalidRequest, InvalidState
from core.idempotency import fingerprint
from core.ids import new_id
from core.money import AMOUNT_MAX, BALANCE_MAX
from core.versions import refuse_unless_as_seen
from identity.queries import tenant_and_its_clock
from ledger.queries import customers_account
from ledger.services import Leg, Posting, post_one
from payments.models import RecurringPayment
from payments.services import (
    NewRecurringPayment,
    Terms,
    change_recurring_payment,
    create_recurring_payment,
    pause_recurring_payment,
    resume_recurring_payment,
)
from savings.models import RATE_MAX_BPS, TAX_MAX_BPS, SavingsPlan
from savings.queries import plan_for_update
from savings.services.interest import accrue_plans, open_book

MANAGER = "savings_plan"
YEARS_MAX = 50
MONTHS_MAX = YEARS_MAX * 12
# A test clock alone says when a date has come: the ledger goes by the real time.
FOR_GOOD = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
_S = SavingsPlan.Status
_K = SavingsPlan.Kind
# What insufficient funds may do, of a plan's recurring payment.
_POLICIES = RecurringPayment.OnInsufficientFunds


@dataclass(frozen=True, slots=True)
class NewPlan:
    """
    What a plan is made of. Amounts are minor units.

    Auto-withdraw: `amount` each month on `day_of_month` (1 to 31, or the month's last day) from
    `start_date` on, until `target_amount`, or so many `months`, whichever is first; or until it is
    closed. Date-locked: `amount` at once, until `unlock_date`.
    """

    kind: str
    name: str
    source_account_id: UUID
    currency: str
    amount: int
    day_of_month: int | None = None
    target_amount: int | None = None
    months: int | None = None
    start_date: dt.date | None = None
    on_insufficient_funds: str = _POLICIES.RETRY
    unlock_date: dt.date | None = None
    at_the_end: str = SavingsPlan.AtTheEnd.PAY_OUT
    annual_rate_bps: int = 0
    day_count: str = SavingsPlan.DayCount.ACT_365F
    withholding_tax_bps: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)


def create_plan(
    *, tenant_id: UUID, new: NewPlan, now: dt.datetime, owner_id: UUID | None = None
) -> SavingsPlan:
    """
    Open a savings plan, with an account of its own.

    :raises InvalidRequest: dates, amounts or rates that cannot be; the source is a plan's account
    :raises NotFound: no such account in this tenant, or not the owner's
    :raises CurrencyMismatch: the source has another currency
    :raises AccountClosed: the source is closed
    :raises DomainError: date-locked: whatever the posting refuses, see ledger.services.post_one
    """
    _check(new)
    with refusing(_TOO_LATE), transaction.atomic():
        tenant = tenant_and_its_clock(tenant_id=tenant_id)
        time = tenant.time_at(now)
        source = _source(new, tenant_id, owner_id)
        plan = SavingsPlan(
            id=new_id(),
            tenant=tenant,
            kind=new.kind,
            name=new.name,
            metadata=dict(new.metadata),
            owner_id=source.owner_id,
            source_account=source,
            currency=new.currency,
            amount=new.amount,
            target_amount=new.target_amount,
            months=new.months,
            at_the_end=new.at_the_end,
            annual_rate_bps=new.annual_rate_bps,
            day_count=new.day_count,
            withholding_tax_bps=new.withholding_tax_bps,
            is_on_test_clock=tenant.test_clock is not None,
            created_at=now,
            updated_at=now,
        )
        if new.annual_rate_bps:
            _begin_interest(plan, now)
        plan.plan_account = open_account(
            tenant_id=tenant_id,
            new=NewAccount(
                type=Account.Type.SAVING,
                currency=new.currency,
                owner_id=source.owner_id,
                name=new.name,
            ),
            now=now,
        )
        if new.kind == _K.AUTO_WITHDRAW:
            plan.recurring_payment = _payment(plan, new, now)
            plan.save(force_insert=True)
        else:
            _set_unlock(plan, new.unlock_date, time)
            plan.save(force_insert=True)
            lock_account(plan, now=now)
            put_in(plan, new.amount, key=f"savings plan {plan.pk}", now=now)
            plan.plan_account.refresh_from_db()
        record(plan, "created", now, after=told(plan))
    return plan


def change_plan(
    *,
    tenant_id: UUID,
    plan_id: UUID,
    changes: Mapping[str, Any],
    now: dt.datetime,
    owner_id: UUID | None = None,
    as_seen: str | None = None,
) -> SavingsPlan:
    """
    Change what is named: name, metadata, at_the_end, annual_rate_bps, withholding_tax_bps; of one
    that puts aside also amount, day_of_month, target_amount, on_insufficient_funds.

    Another rate holds from today on: the days before are accrued first.

    :raises NotFound: no such plan in this tenant, or not the owner's
    :raises InvalidState: closed; or what is to be changed is settled
    :raises InvalidRequest: as create_plan, or not of this kind of plan
    :raises PreconditionFailed: somebody else has changed the plan since `as_seen`
    """
    with transaction.atomic():
        if "annual_rate_bps" in changes:
            # A book goes by the clock of its tenant, which is locked before the plan.
            tenant_and_its_clock(tenant_id=tenant_id)
        plan = plan_for_update(tenant_id=tenant_id, plan_id=plan_id, owner_id=owner_id)
        refuse_unless_as_seen(str(plan.version), as_seen)
        if plan.status == _S.CLOSED:
            raise InvalidState("The plan is closed.")
        if (
            changes.get("at_the_end", plan.at_the_end) != plan.at_the_end
            and plan.status != _S.ACTIVE
        ):
            raise InvalidState(f"The plan is {plan.status}: what becomes of it is settled.")
        before = told(plan)
        of_payment = {name: changes[name] for name in _OF_PAYMENT & changes.keys()}
        if of_payment:
            _change_payment(plan, of_payment, now)
        if "annual_rate_bps" in changes and changes["annual_rate_bps"] != plan.annual_rate_bps:
            _change_rate(plan, changes["annual_rate_bps"], now)
        for name in _OF_PLAN & changes.keys():
            setattr(plan, name, changes[name])
        _check_rates(plan.annual_rate_bps, plan.withholding_tax_bps)
        plan.version += 1
        plan.updated_at = now
        plan.save()
        record(plan, "changed", now, **changed(before, told(plan)))
    return plan


def pause_plan(
    *,
    tenant_id: UUID,
    plan_id: UUID,
    now: dt.datetime,
    reason: str = "",
    owner_id: UUID | None = None,
) -> SavingsPlan:
    """
    Have nothing put aside until it is resumed.

    :raises NotFound: no such plan in this tenant, or not the owner's
    :raises InvalidState: it puts nothing aside by itself, or does not any more
    """
    return _of_payment(tenant_id, plan_id, owner_id, pause_recurring_payment, "paused", reason, now)


def resume_plan(
    *,
    tenant_id: UUID,
    plan_id: UUID,
    now: dt.datetime,
    reason: str = "",
    owner_id: UUID | None = None,
) -> SavingsPlan:
    """
    Go on with the next date from now.

    :raises NotFound: no such plan in this tenant, or not the owner's
    :raises InvalidState: it puts nothing aside by itself, or does not any more
    """
    return _of_payment(
        tenant_id, plan_id, owner_id, resume_recurring_payment, "resumed", reason, now
    )


def renew_plan(
    *,
    tenant_id: UUID,
    plan_id: UUID,
    unlock_date: dt.date,
    now: dt.datetime,
    reason: str = "",
    owner_id: UUID | None = None,
) -> SavingsPlan:
    """
    Lock what is in the plan for another term: one that is unlocked anew, one that is locked longer.

    :raises NotFound: no such plan in this tenant, or not the owner's
    :raises InvalidState: it is no locked plan, is closed, or has nothing left
    :raises InvalidRequest: the date is not later
    """
    with refusing(_TOO_LATE), transaction.atomic():
        # Before the plan, as by who starts a test clock: which would open what is locked meanwhile.
        tenant_and_its_clock(tenant_id=tenant_id)
        plan = plan_for_update(tenant_id=tenant_id, plan_id=plan_id, owner_id=owner_id)
        if plan.kind != _K.DATE_LOCKED or plan.status == _S.CLOSED:
            raise InvalidState("Only a plan with a date is renewed, before it is closed.")
        time = plan.tenant.time_at(now)
        if plan.unlock_at is not None and plan.is_locked and plan.unlock_at <= time:
            raise InvalidState("Its date has come: it is being unlocked.")
        if plan.is_locked and plan.unlock_date is not None and unlock_date <= plan.unlock_date:
            raise InvalidRequest(f"Later than {plan.unlock_date}.", field="unlock_date")
        before = told(plan)
        account = Account.objects.select_for_update(no_key=True).get(pk=plan.plan_account_id)
        if account.balance <= 0:
            raise InvalidState("There is nothing in it.")
        if account.held:
            raise InvalidState("A part of it is on hold.")
        _set_unlock(plan, unlock_date, time)
        plan.status, plan.status_reason, plan.step_tries = _S.ACTIVE, "", 0
        plan.version += 1
        plan.updated_at = now
        plan.save()
        lock_account(plan, now=now)
        record(plan, "renewed", now, reason=reason, **changed(before, told(plan)))
    return plan


def lock_account(plan: SavingsPlan, *, now: dt.datetime) -> None:
    """Have the ledger refuse to debit the plan's account, as long as the plan is locked."""
    until = FOR_GOOD if plan.is_on_test_clock else plan.unlock_at
    lock_debits(tenant_id=plan.tenant_id, account_ids=[plan.plan_account_id], until=until, now=now)


def put_in(
    plan: SavingsPlan, amount: int, *, key: str, now: dt.datetime, asked_by: str = ""
) -> None:
    """Move an amount, in minor units, from the source to the plan's account, once by its key."""
    post_one(
        tenant_id=plan.tenant_id,
        posting=Posting(
            type="savings_deposit",
            currency=plan.currency,
            legs=(Leg(plan.source_account_id, -amount), Leg(plan.plan_account_id, amount)),
            idempotency_key=key,
            request_fingerprint=fingerprint("savings_deposit", plan.pk, amount, asked_by),
            description=plan.name,
            value_date=plan.tenant.value_date_at(now),
            metadata={"savings_plan_id": str(plan.pk)},
        ),
    )


def check_amount(amount: int) -> None:
    """
    Refuse what one posting does not move. Minor units.

    :raises InvalidRequest: by `amount`
    """
    if not 0 < amount <= AMOUNT_MAX:
        raise InvalidRequest(f"From 1 to {AMOUNT_MAX} minor units.", field="amount")


def told(plan: SavingsPlan) -> dict[str, Any]:
    """Return what an audit record shows of the plan."""
    names = (
        *("kind", "status", "name", "currency", "amount", "target_amount", "months", "at_the_end"),
        *("unlock_date", "annual_rate_bps", "day_count", "withholding_tax_bps", "metadata"),
    )
    payment = plan.recurring_payment
    terms = {}
    if payment is not None:
        terms = {
            "day_of_month": payment.day_of_month,
            "on_insufficient_funds": payment.on_insufficient_funds,
        }
    return {name: getattr(plan, name) for name in names} | terms


def record(plan: SavingsPlan, what: str, now: dt.datetime, **change: Any) -> None:
    record_change(
        tenant_id=plan.tenant_id,
        action=f"savings_plan.{what}",
        object_id=plan.pk,
        now=now,
        **change,
    )


# A day that began meanwhile, or by the server's clock. A tenant that has moved its days may find
# that a later date begins no later.
_TOO_LATE = {
    rule: InvalidRequest("That day has come, or is no later than before.", field="unlock_date")
    for rule in ("savings_unlock_lies_ahead", "savings_unlock_only_later")
}
_OF_PAYMENT = {"amount", "day_of_month", "target_amount", "on_insufficient_funds"}
_OF_PLAN = {"name", "metadata", "at_the_end", "withholding_tax_bps"}


def _check(new: NewPlan) -> None:
    """Refuse what no account and no day could make right."""
    check_amount(new.amount)
    _check_rates(new.annual_rate_bps, new.withholding_tax_bps)
    of_kind = {
        _K.AUTO_WITHDRAW: ("day_of_month", "target_amount", "months", "start_date"),
        _K.DATE_LOCKED: ("unlock_date",),
    }
    for kind, names in of_kind.items():
        for name in names:
            if kind != new.kind and getattr(new, name) is not None:
                raise InvalidRequest(f"A plan that is {new.kind} has none.", field=name)
    if new.kind == _K.DATE_LOCKED:
        if new.on_insufficient_funds != _POLICIES.RETRY:
            raise InvalidRequest("It puts nothing aside by itself.", field="on_insufficient_funds")
        if new.unlock_date is None:
            raise InvalidRequest("Until when is it locked?", field="unlock_date")
        return
    _check_target(new.amount, new.target_amount)
    if new.months is not None and not 1 <= new.months <= MONTHS_MAX:
        raise InvalidRequest(f"From 1 to {MONTHS_MAX}.", field="months")
    if new.day_of_month is not None:
        _check_day(new.day_of_month)


def _check_rates(rate_bps: int, tax_bps: int) -> None:
    if not 0 <= rate_bps <= RATE_MAX_BPS:
        raise InvalidRequest(f"From 0 to {RATE_MAX_BPS}.", field="annual_rate_bps")
    if not 0 <= tax_bps <= TAX_MAX_BPS:
        raise InvalidRequest(f"From 0 to {TAX_MAX_BPS}.", field="withholding_tax_bps")


def _check_target(amount: int, target: int | None) -> None:
    if target is not None and not amount <= target <= BALANCE_MAX:
        raise InvalidRequest("Not less than the amount of a month.", field="target_amount")


def _check_day(day: int) -> None:
    if not 1 <= day <= 31:
        raise InvalidRequest("A day of the month: 1 to 31.", field="day_of_month")


def _source(new: NewPlan, tenant_id: UUID, owner_id: UUID | None) -> Account:
    source = customers_account(
        tenant_id=tenant_id,
        account_id=new.source_account_id,
        currency=new.currency,
        owner_id=owner_id,
    )
    if SavingsPlan.objects.filter(plan_account_id=source.pk).exists():
        raise InvalidRequest("It is the account of a savings plan.", field="account_id")
    return source


def _payment(plan: SavingsPlan, new: NewPlan, now: dt.datetime) -> RecurringPayment:
    try:
        return create_recurring_payment(
            tenant_id=plan.tenant_id,
            new=NewRecurringPayment(
                source_account_id=plan.source_account_id,
                destination_account_id=plan.plan_account_id,
                currency=plan.currency,
                managed_by=MANAGER,
                terms=Terms(
                    amount=new.amount,
                    target_balance=new.target_amount,
                    frequency="monthly",
                    day_of_month=new.day_of_month,
                    start_date=new.start_date,
                    max_runs=new.months,
                    on_insufficient_funds=new.on_insufficient_funds,
                    description=plan.name,
                ),
            ),
            now=now,
        )
    except InvalidRequest as refusal:
        raise _in_our_words(refusal) from refusal


def _in_our_words(refusal: InvalidRequest) -> InvalidRequest:
    """Name the plan's field, where it has another name there."""
    names = {"count": "months", "target_balance": "target_amount"}
    return InvalidRequest(refusal.detail, field=names.get(refusal.field, refusal.field))


def _begin_interest(plan: SavingsPlan, now: dt.datetime) -> None:
    # The day of a deposit counts.
    plan.interest_from = plan.tenant.day_of(plan.tenant.time_at(now))
    open_book(plan.tenant, now=now)


def _change_rate(plan: SavingsPlan, rate_bps: int, now: dt.datetime) -> None:
    time = plan.tenant.time_at(now)
    if plan.interest_from is None:
        _begin_interest(plan, now)
    else:
        # With entries of yesterday that are being written just now.
        Account.objects.select_for_update(no_key=True).get(pk=plan.plan_account_id)
        accrue_plans(plan.tenant, [plan.pk], now=time)
    plan.annual_rate_bps = rate_bps


def _change_payment(plan: SavingsPlan, changes: Mapping[str, Any], now: dt.datetime) -> None:
    payment_id = plan.recurring_payment_id
    if payment_id is None:
        name = sorted(changes)[0]
        raise InvalidRequest("It puts nothing aside by itself.", field=name)
    if plan.status != _S.ACTIVE:
        raise InvalidState(f"The plan is {plan.status}.")
    amount = changes.get("amount", plan.amount)
    target = changes.get("target_amount", plan.target_amount)
    check_amount(amount)
    _check_target(amount, target)
    if changes.get("day_of_month") is not None:
        _check_day(changes["day_of_month"])
    names = {"target_amount": "target_balance"}
    plan.recurring_payment = change_recurring_payment(
        tenant_id=plan.tenant_id,
        payment_id=payment_id,
        changes={names.get(name, name): value for name, value in changes.items()},
        now=now,
        managed_by=MANAGER,
    )
    plan.amount, plan.target_amount = amount, target


def _set_unlock(plan: SavingsPlan, unlock_date: dt.date | None, time: dt.datetime) -> None:
    today = plan.tenant.day_of(time)
    if unlock_date is None or unlock_date <= today:
        raise InvalidRequest(f"After today, {today}.", field="unlock_date")
    if unlock_date.year > today.year + YEARS_MAX:
        raise InvalidRequest(f"At most {YEARS_MAX} years ahead.", field="unlock_date")
    plan.unlock_date = unlock_date
    plan.unlock_at = instant_of(unlock_date, dt.time.min, zone_of(plan.tenant.time_zone))
    plan.next_step_at = plan.unlock_at


def _of_payment(
    tenant_id: UUID,
    plan_id: UUID,
    owner_id: UUID | None,
    change: Callable[..., RecurringPayment],
    what: str,
    reason: str,
    now: dt.datetime,
) -> SavingsPlan:
    with transaction.atomic():
        plan = plan_for_update(tenant_id=tenant_id, plan_id=plan_id, owner_id=owner_id)
        payment = plan.recurring_payment
        if payment is None:
            raise InvalidState("It puts nothing aside by itself.")
        if plan.status != _S.ACTIVE:
            raise InvalidState(f"The plan is {plan.status}.")
        plan.recurring_payment = change(
            tenant_id=tenant_id,
            payment_id=payment.pk,
            reason=reason,
            now=now,
            managed_by=MANAGER,
        )
        if plan.recurring_payment.status == payment.status:
            # Asked for twice is done.
            return plan
        # The state that people see has changed, and with it what an editor has seen.
        plan.version += 1
        plan.updated_at = now
        plan.save(update_fields=["version", "updated_at"])
        record(plan, what, now, reason=reason)
    return plan
