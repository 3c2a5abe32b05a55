"""Adjusting what is still unpaid of a schedule: other days, other amounts, the same sum."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from core.changes import record_change
from core.errors import InvalidRequest, InvalidState
from invoices.models import Installment, Invoice
from invoices.queries import installments_of, invoice_for_update
from invoices.services.amounts import NOTHING, split_by_amounts
from invoices.services.claims import close_pages, under_way
from invoices.services.drafting import refuse_bad_days, refuse_unless_sum
from invoices.services.receiving import parts_of
from payments.services import call_off_after_commit


@dataclass(frozen=True, slots=True)
class Adjustment:
    number: int
    due_date: dt.date | None = None
    # Minor units.
    amount: int | None = None


def adjust_installments(
    *,
    tenant_id: UUID,
    invoice_id: UUID,
    adjustments: Sequence[Adjustment],
    now: dt.datetime,
) -> Invoice:
    """
    Give unpaid installments other due dates or amounts; together they stay what they were.

    Tax and fee are spread over them anew, in proportion. An invoice without a schedule has one
    installment, which may be due on another day.

    :raises NotFound: no such invoice in this tenant
    :raises InvalidState: it has ended, or a payment is under way
    :raises InvalidRequest: one that is not there or not unpaid, dates that are past or out of order
    :raises ScheduleMismatch: another sum
    """
    with transaction.atomic():
        invoice = invoice_for_update(tenant_id=tenant_id, invoice_id=invoice_id)
        may_change = (
            Invoice.Status.DRAFT,
            Invoice.Status.PENDING,
            Invoice.Status.PARTIALLY_PAID,
        )
        if invoice.status not in may_change:
            raise InvalidState(f"It is {invoice.status}; nothing is adjusted.")
        if under_way(invoice, now):
            raise InvalidState("A payment is under way; see what comes of it first.")
        installments = installments_of(invoice)
        unpaid = {
            each.number: each
            for each in installments
            if not each.paid_amount and not each.credited_amount
        }
        before = _shown(unpaid.values())
        whole = sum((parts_of(each) for each in unpaid.values()), NOTHING)
        today = invoice.tenant.day_of(now)
        for position, adjustment in enumerate(adjustments):
            installment = unpaid.get(adjustment.number)
            if installment is None:
                raise InvalidRequest(
                    f"There is no unpaid installment {adjustment.number}.",
                    field=f"installments.{position}.number",
                )
            if adjustment.due_date is not None and adjustment.due_date != installment.due_date:
                refuse_bad_days(
                    [adjustment.due_date], today, field=f"installments.{position}.due_date"
                )
                installment.due_date, installment.overdue_at = adjustment.due_date, None
            if adjustment.amount is not None:
                installment.amount = adjustment.amount
        refuse_unless_sum([each.amount for each in unpaid.values()], whole.total, invoice.currency)
        days = [each.due_date for each in installments]
        refuse_bad_days(days, min(days[0], today), field="installments")
        rows = split_by_amounts(whole, [each.amount for each in unpaid.values()])
        for installment, parts in zip(unpaid.values(), rows, strict=True):
            installment.net_amount = parts.net
            installment.tax_amount = parts.tax
            installment.service_fee_amount = parts.fee
        changed = [
            "due_date",
            "amount",
            "net_amount",
            "tax_amount",
            "service_fee_amount",
            "overdue_at",
        ]
        Installment.objects.bulk_update(unpaid.values(), changed)
        # Open pages ask for what is no more.
        call_off_after_commit(close_pages(invoice), now=now)
        invoice.due_date, invoice.updated_at = days[-1], now
        if invoice.number is not None:
            invoice.next_step_at = now
        invoice.save()
        record_change(
            tenant_id=tenant_id,
            action="invoice.installments_adjusted",
            object_id=invoice.pk,
            now=now,
            before=before,
            after=_shown(unpaid.values()),
        )
    return invoice


def _shown(installments: Iterable[Installment]) -> dict[str, str]:
    return {str(each.number): f"{each.due_date} {each.amount}" for each in installments}
