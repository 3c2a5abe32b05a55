"""Reads of money movements, put together from the ledger's; and of payments and payouts."""

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count, Exists, Min, OuterRef, QuerySet, Sum
from django.db.models.functions import TruncMonth

from accounts.models import Account
from accounts.queries import owned_among
from core.errors import NotFound
from ledger import queries
from payments.models import (
    ENDED_UNNOTED,
    CalendarDay,
    Payment,
    Payout,
    RecurringPayment,
    RecurringRun,
    Refund,
)


@dataclass(frozen=True, slots=True)
class MadeTransfer:
    """A transfer that was posted. Amounts are minor units, positive."""

    id: UUID
    type: str
    status: str
    amount: int
    currency: str
    description: str
    external_reference: str | None
    value_date: dt.date
    metadata: dict[str, str]
    created_at: dt.datetime
    source_account_id: UUID
    destination_account_id: UUID
    # None: the caller is its receiver only, who has no business with the sender's balance.
    source_balance_after: int | None


def transfer_of(
    *, tenant_id: UUID, transfer_id: UUID, owner_id: UUID | None = None
) -> MadeTransfer:
    """
    Return the transfer.

    :raises NotFound: unknown, another tenant's, a transaction of another type, or one that moved
        nothing of the owner's
    """
    transaction = queries.transaction_of(tenant_id=tenant_id, transaction_id=transfer_id)
    if transaction.type != "transfer":
        raise NotFound("No such transfer.")
    source, destination = queries.entries_of_transaction(transaction_id=transfer_id)
    is_sender = True
    if owner_id is not None:
        ids = [source.account_id, destination.account_id]
        own = owned_among(tenant_id=tenant_id, owner_id=owner_id, account_ids=ids)
        if not own:
            raise NotFound("No such transfer.")
        is_sender = source.account_id in own
    return MadeTransfer(
        id=transaction.pk,
        type=transaction.type,
        status="posted",
        amount=transaction.amount,
        currency=transaction.currency,
        description=transaction.description,
        external_reference=transaction.external_reference,
        value_date=transaction.value_date,
        metadata=transaction.metadata,
        created_at=transaction.created_at,
        source_account_id=source.account_id,
        destination_account_id=destination.account_id,
        source_balance_after=source.balance_after if is_sender else None,
    )


def topups_of(*, tenant_id: UUID, owner_id: UUID | None) -> QuerySet[Payment]:
    """Return the tenant's top-ups; for an owner, those of their accounts."""
    topups = Payment.objects.filter(tenant_id=tenant_id, purpose=Payment.Purpose.TOPUP)
    if owner_id is not None:
        topups = topups.filter(_is_of(owner_id, tenant_id, "account_id"))
    return topups.select_related("configuration")


def topup_of(*, tenant_id: UUID, topup_id: UUID, owner_id: UUID | None = None) -> Payment:
    """
    Return the top-up.

    :raises NotFound: unknown, another tenant's, or of another owner's account
    """
    found = topups_of(tenant_id=tenant_id, owner_id=owner_id).filter(pk=topup_id).first()
    if found is None:
        raise NotFound("No such top-up.")
    return found


def payment_of(*, tenant_id: UUID, payment_id: UUID) -> Payment:
    """
    Return the payment, whatever it is for.

    :raises NotFound: unknown, or another tenant's
    """
    payments = Payment.objects.filter(tenant_id=tenant_id).select_related("configuration")
    found = payments.filter(pk=payment_id).first()
    if found is None:
        raise NotFound("No such payment.")
    return found


def refunds_of(*, tenant_id: UUID, payment_id: UUID) -> QuerySet[Refund]:
    """Return the refunds of a payment, newest first."""
    return Refund.objects.filter(tenant_id=tenant_id, payment_id=payment_id).order_by("-pk")


def payouts_of(*, tenant_id: UUID, owner_id: UUID | None) -> QuerySet[Payout]:
    """Return the tenant's payouts; for an owner, those from their accounts."""
    payouts = Payout.objects.filter(tenant_id=tenant_id)
    if owner_id is not None:
        payouts = payouts.filter(_is_of(owner_id, tenant_id, "source_account_id"))
    return payouts.select_related("configuration")


def payout_of(*, tenant_id: UUID, payout_id: UUID, owner_id: UUID | None = None) -> Payout:
    """
    Return the payout.

    :raises NotFound: unknown, another tenant's, or from another owner's account
    """
    found = payouts_of(tenant_id=tenant_id, owner_id=owner_id).filter(pk=payout_id).first()
    if found is None:
        raise NotFound("No such payout.")
    return found


def _is_of(owner_id: UUID, tenant_id: UUID, column: str) -> Exists:
    return Exists(
        Account.objects.filter(pk=OuterRef(column), tenant_id=tenant_id, owner_id=owner_id)
    )


_NO_RECURRING = "No such recurring payment."


def recurring_payments_of(
    *, tenant_id: UUID, owner_id: UUID | None = None
) -> QuerySet[RecurringPayment]:
    """Return the tenant's recurring payments, newest first; an owner's: from their accounts."""
    found = RecurringPayment.objects.filter(tenant_id=tenant_id)
    if owner_id is not None:
        found = found.filter(source_account__owner_id=owner_id)
    return found.order_by("-pk")


def recurring_payment_of(
    *, tenant_id: UUID, payment_id: UUID, owner_id: UUID | None = None
) -> RecurringPayment:
    """
    Return the recurring payment.

    :raises NotFound: unknown, another tenant's, or not from an account of the owner's
    """
    found = recurring_payments_of(tenant_id=tenant_id, owner_id=owner_id)
    payment = found.filter(pk=payment_id).first()
    if payment is None:
        raise NotFound(_NO_RECURRING)
    return payment


def ended_parts(*, manager: str, tenant_id: UUID | None, limit: int) -> list[RecurringPayment]:
    """
    Return recurring payments that have ended, and whoever manages them has not seen to it.

    With a tenant: of that one, whose clock is a test clock; without: of all others.
    """
    ended = RecurringPayment.objects.filter(
        ENDED_UNNOTED, managed_by=manager, is_on_test_clock=tenant_id is not None
    )
    if tenant_id is not None:
        ended = ended.filter(tenant_id=tenant_id)
    return list(ended.order_by("tenant_id")[:limit])


def recurring_payment_for_update(
    *, tenant_id: UUID, payment_id: UUID, owner_id: UUID | None = None
) -> RecurringPayment:
    """
    Return the recurring payment, locked until the transaction ends; its runs are locked after it.

    :raises NotFound: unknown, another tenant's, or not from an account of the owner's
    """
    found = recurring_payments_of(tenant_id=tenant_id, owner_id=owner_id)
    locked = found.select_for_update(no_key=True, of=("self",)).select_related("tenant")
    payment = locked.filter(pk=payment_id).first()
    if payment is None:
        raise NotFound(_NO_RECURRING)
    return payment


def first_start_of_recurring_payments(*, tenant_id: UUID) -> dt.date | None:
    """Return the day on which the tenant's first one starts; None: it has none."""
    found = RecurringPayment.objects.filter(tenant_id=tenant_id)
    first: dt.date | None = found.aggregate(first=Min("start_date"))["first"]
    return first


@dataclass(frozen=True, slots=True)
class MonthOfRuns:
    """What became of the runs of one month. `paid` is minor units."""

    month: dt.date
    runs_by_status: dict[str, int]
    paid: int


def runs_by_month(*, tenant_id: UUID) -> list[MonthOfRuns]:
    """Return what became of the tenant's runs, by the month of their nominal date."""
    found: dict[dt.date, MonthOfRuns] = {}
    rows = (
        RecurringRun.objects.filter(tenant_id=tenant_id)
        .annotate(month=TruncMonth("nominal_date"))
        .values_list("month", "status")
        .annotate(runs=Count("id"), amount=Sum("amount"))
        .order_by("month", "status")
    )
    for month, status, runs, amount in rows:
        paid = amount or 0 if status == RecurringRun.Status.SUCCEEDED else 0
        before = found.get(month, MonthOfRuns(month, {}, 0))
        found[month] = MonthOfRuns(
            month, before.runs_by_status | {status: runs}, before.paid + paid
        )
    return list(found.values())


def runs_of(payment: RecurringPayment) -> QuerySet[RecurringRun]:
    """Return its runs, the latest first."""
    return payment.runs.order_by("-scheduled_for", "-pk")


def calendar_days_of(*, tenant_id: UUID) -> QuerySet[CalendarDay]:
    """Return the tenant's own days, the latest first."""
    return CalendarDay.objects.filter(tenant_id=tenant_id).order_by("-date")
