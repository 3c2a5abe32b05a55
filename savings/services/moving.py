"""Money into a savings plan and out of it, by hand."""

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F

from accounts.models import Account
from accounts.queries import account_of, accounts_for_update
from core.changes import Change, record_changes
from core.errors import InvalidRequest, InvalidState, NotFound
from core.idempotency import fingerprint
from ledger.queries import transaction_by_key
from ledger.services import Leg, Posting, post_one
from payments.models import RecurringPayment
from payments.services import cancel_recurring_payment
from savings.errors import SavingsPlanLocked
from savings.models import SavingsPlan
from savings.queries import plan_for_update, plan_of
from savings.services.interest import interest_accounts, settle
from savings.services.opening import MANAGER, check_amount, put_in, record

_S = SavingsPlan.Status


def deposit(
    *,
    tenant_id: UUID,
    plan_id: UUID,
    amount: int,
    idempotency_key: str,
    now: dt.datetime,
    owner_id: UUID | None = None,
    asked_by: str = "",
) -> SavingsPlan:
    """
    Put more in, from the plan's source. Minor units; once by its key.

    A plan whose target is reached by it is completed at once.

    :raises NotFound: no such plan in this tenant, or not the owner's
    :raises InvalidState: it is completed, unlocked or closed, or its date has come
    :raises InvalidRequest: not an amount
    :raises DomainError: whatever the posting refuses, see ledger.services.post_one
    """
    check_amount(amount)
    with transaction.atomic():
        plan = plan_for_update(tenant_id=tenant_id, plan_id=plan_id, owner_id=owner_id)
        if not _is_known(tenant_id, idempotency_key):
            _refuse_settled(plan, now)
        put_in(plan, amount, key=idempotency_key, now=now, asked_by=asked_by)
        account = Account.objects.get(pk=plan.plan_account_id)
        target = plan.target_amount
        if plan.status == _S.ACTIVE and target is not None and account.balance >= target:
            end_payment(plan, reason="The target is reached.", now=now)
            complete(plan, now=now)
    return plan_of(tenant_id=tenant_id, plan_id=plan_id)


def withdraw(
    *,
    tenant_id: UUID,
    plan_id: UUID,
    amount: int,
    idempotency_key: str,
    now: dt.datetime,
    destination_account_id: UUID | None = None,
    owner_id: UUID | None = None,
    asked_by: str = "",
) -> SavingsPlan:
    """
    Take an amount out, in minor units, once by its key: to the source, or to another account of
    the same owner.

    :raises NotFound: no such plan or account in this tenant, or not the owner's
    :raises SavingsPlanLocked: its date has not come
    :raises InvalidState: it is closed
    :raises InvalidRequest: not an amount; or the destination is the plan's own account
    :raises DomainError: whatever the posting refuses, see ledger.services.post_one
    """
    check_amount(amount)
    with transaction.atomic():
        plan = plan_for_update(tenant_id=tenant_id, plan_id=plan_id, owner_id=owner_id)
        if not _is_known(tenant_id, idempotency_key):
            refuse_locked(plan)
            if plan.status == _S.CLOSED:
                raise InvalidState("The plan is closed.")
        to = _destination(plan, destination_account_id)
        posting = payout_posting(plan, amount, to, key=idempotency_key, now=now, asked_by=asked_by)
        post_one(tenant_id=tenant_id, posting=posting)
    return plan_of(tenant_id=tenant_id, plan_id=plan_id)


def close_plan(
    *,
    tenant_id: UUID,
    plan_id: UUID,
    now: dt.datetime,
    destination_account_id: UUID | None = None,
    reason: str = "",
    owner_id: UUID | None = None,
) -> SavingsPlan:
    """
    Post its interest, pay all of it out, and close it: to the source, or to another account of the
    same owner. What was to be put aside is not any more. Closed before: nothing is done.

    :raises NotFound: no such plan or account in this tenant, or not the owner's
    :raises SavingsPlanLocked: its date has not come
    :raises InvalidState: a part of it is on hold
    :raises InvalidRequest: the destination is the plan's own account
    :raises DomainError: whatever the posting refuses, see ledger.services.post_one
    """
    with transaction.atomic():
        plan = plan_for_update(tenant_id=tenant_id, plan_id=plan_id, owner_id=owner_id)
        if plan.status != _S.CLOSED:
            refuse_locked(plan)
            to = _destination(plan, destination_account_id)
            pay_out_and_close(plan, to, now=now, reason=reason)
    return plan_of(tenant_id=tenant_id, plan_id=plan_id)


def refuse_locked(plan: SavingsPlan) -> None:
    """
    Refuse what takes money out of a plan whose date has not come, or which is yet to be unlocked.

    :raises SavingsPlanLocked: so it is
    """
    if plan.is_locked and plan.unlock_date is not None:
        raise SavingsPlanLocked(plan.unlock_date)


def pay_out_and_close(
    plan: SavingsPlan, destination_id: UUID, *, now: dt.datetime, reason: str = ""
) -> None:
    """
    Settle the interest of a plan, locked by the caller and not locked for debits, pay all out, and
    close it.

    :raises InvalidState: a part of it is on hold
    :raises DomainError: whatever the posting refuses, see ledger.services.post_one
    """
    time = plan.tenant.time_at(now)
    lock_accounts(plan.tenant_id, [plan], {destination_id}, now=now)
    end_payment(plan, reason=reason or "The plan is closed.", now=now)
    for refusal in settle(plan.tenant, [plan.pk], now=time).values():
        # Once it is closed, nobody would pay its interest.
        raise refusal
    account = Account.objects.get(pk=plan.plan_account_id)
    if account.held:
        raise InvalidState("A part of it is on hold.")
    if account.balance > 0:
        post_one(
            tenant_id=plan.tenant_id,
            posting=payout_posting(
                plan, account.balance, destination_id, key=closing_key(plan), now=now
            ),
        )
    close_paid_out([(plan, account.balance, destination_id)], time=time, now=now, reason=reason)


def close_paid_out(
    paid: Sequence[tuple[SavingsPlan, int, UUID]],
    *,
    time: dt.datetime,
    now: dt.datetime,
    reason: str = "",
) -> None:
    """
    Close plans of one tenant, locked by the caller: each with what was paid out, in minor units,
    and to which account. `time` is the tenant's.
    """
    if not paid:
        return
    write_plans(
        [plan for plan, _, _ in paid],
        status=_S.CLOSED,
        status_reason="",
        next_step_at=None,
        step_tries=0,
        ended_at=time,
        updated_at=now,
    )
    record_changes(
        tenant_id=paid[0][0].tenant_id,
        action="savings_plan.closed",
        changes=[
            Change(
                plan.pk,
                before={"status": plan.status},
                after={"status": _S.CLOSED, "paid_out": amount},
                payload={"paid_out": amount, "account_id": str(account_id)},
            )
            for plan, amount, account_id in paid
        ],
        now=now,
        reason=reason,
    )


def write_plans(plans: Sequence[SavingsPlan], **values: Any) -> None:
    """Change rows that the caller has locked: what an editor has seen is not there any more."""
    SavingsPlan.objects.filter(pk__in=[plan.pk for plan in plans]).update(
        version=F("version") + 1, **values
    )


def lock_accounts(
    tenant_id: UUID, plans: Collection[SavingsPlan], others: set[UUID], *, now: dt.datetime
) -> None:
    """Lock, in the order of all, what settling and paying out plans of the tenant posts to."""
    ids = set(others)
    for plan in plans:
        ids |= {plan.source_account_id, plan.plan_account_id}
    bearing = {plan.currency: plan for plan in plans if plan.interest_from is not None}
    for plan in bearing.values():
        ids |= set(interest_accounts(plan.tenant, plan.currency, now).values())
    accounts_for_update(tenant_id=tenant_id, account_ids=sorted(ids))


def end_payment(plan: SavingsPlan, *, reason: str, now: dt.datetime) -> None:
    """Have nothing put aside any more. The plan's accounts are locked before its payment."""
    if plan.recurring_payment_id is None:
        return
    payment = RecurringPayment.objects.select_for_update(no_key=True).get(
        pk=plan.recurring_payment_id
    )
    if payment.status in (RecurringPayment.Status.ACTIVE, RecurringPayment.Status.PAUSED):
        cancel_recurring_payment(
            tenant_id=plan.tenant_id,
            payment_id=payment.pk,
            reason=reason,
            now=now,
            managed_by=MANAGER,
        )


def complete(plan: SavingsPlan, *, now: dt.datetime) -> None:
    """Have it be known that nothing more is put aside, and be paid out if it was to be."""
    time = plan.tenant.time_at(now)
    plan.status = _S.COMPLETED
    if plan.at_the_end == SavingsPlan.AtTheEnd.PAY_OUT:
        plan.next_step_at, plan.step_tries = time, 0
    plan.version += 1
    plan.updated_at = now
    plan.save()
    record(plan, "completed", now, before={"status": "active"}, after={"status": plan.status})


def payout_posting(
    plan: SavingsPlan,
    amount: int,
    destination_id: UUID,
    *,
    key: str,
    now: dt.datetime,
    asked_by: str = "",
) -> Posting:
    return Posting(
        type="savings_withdrawal",
        currency=plan.currency,
        legs=(Leg(plan.plan_account_id, -amount), Leg(destination_id, amount)),
        idempotency_key=key,
        request_fingerprint=fingerprint(
            "savings_withdrawal", plan.pk, amount, destination_id, asked_by
        ),
        description=plan.name,
        value_date=plan.tenant.value_date_at(now),
        metadata={"savings_plan_id": str(plan.pk)},
    )


def closing_key(plan: SavingsPlan) -> str:
    """Return the key of the posting that pays the plan out: whoever closes it, it is paid once."""
    return f"savings plan {plan.pk} closed"


def _is_known(tenant_id: UUID, key: str) -> bool:
    """Whether the key was posted: then the ledger answers, whatever has become of the plan."""
    return transaction_by_key(tenant_id=tenant_id, idempotency_key=key) is not None


def _refuse_settled(plan: SavingsPlan, now: dt.datetime) -> None:
    if plan.status not in (_S.ACTIVE, _S.STOPPED):
        raise InvalidState(f"The plan is {plan.status}.")
    if plan.is_locked and plan.unlock_at and plan.unlock_at <= plan.tenant.time_at(now):
        raise InvalidState("Its date has come: it is being unlocked.")


def _destination(plan: SavingsPlan, account_id: UUID | None) -> UUID:
    if account_id is None:
        return plan.source_account_id
    account = account_of(tenant_id=plan.tenant_id, account_id=account_id)
    if account.type == Account.Type.INTERNAL or account.owner_id != plan.owner_id:
        raise NotFound("No such account.")
    if account.pk == plan.plan_account_id:
        raise InvalidRequest("It is the plan's own account.", field="destination_account_id")
    return account.pk
