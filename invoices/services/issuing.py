"""
From draft to claim, and its end: finalise, send, void, expire, open again.
"""

import datetime as dt
from collections.abc import Sequence
from uuid import UUID

import structlog
from django.db import connection, transaction

from core.changes import record_change
from core.database import repeating
from core.errors import DomainError, InvalidState
from core.ids import new_id
from invoices.models import Installment, Invoice, InvoiceSettings
from invoices.queries import credits_for, installments_of, invoice_for_update, settings_of
from invoices.services.claims import (
    claim_accounts,
    close_pages,
    post_claim,
    take_out_of_books,
    under_way,
)
from invoices.services.credit import use_credit
from invoices.services.reminding import next_step, write_mailing
from payments.services import call_off_after_commit

logger = structlog.get_logger(__name__)

_S = Invoice.Status


def finalize_invoice(*, tenant_id: UUID, invoice_id: UUID, now: dt.datetime) -> Invoice:
    """
    Give a draft its number and put its claim into the books; one that has a number stays as it is.

    Where the customer has credit, and the tenant's settings say so, it pays what it can.

    :raises NotFound: no such invoice in this tenant
    :raises InvalidState: voided, or a due date that is past
    """

    def finalize() -> Invoice:
        with transaction.atomic():
            invoice = invoice_for_update(tenant_id=tenant_id, invoice_id=invoice_id)
            if invoice.number is not None:
                return invoice
            if invoice.status != _S.DRAFT:
                raise InvalidState("The draft was voided.")
            issue(
                invoice,
                installments_of(invoice),
                settings=settings_of(tenant_id=tenant_id),
                now=now,
            )
        return invoice

    return repeating(finalize)


def issue(
    invoice: Invoice,
    installments: Sequence[Installment],
    *,
    settings: InvoiceSettings,
    now: dt.datetime,
) -> None:
    """Finalise a draft that the caller has locked, or has just made."""
    tenant = invoice.tenant
    if invoice.due_date < tenant.day_of(now):
        raise InvalidState(f"It would be due on {invoice.due_date}, which is past.")
    if invoice.expires_at is not None and invoice.expires_at <= now:
        raise InvalidState("It would expire at once: its time to be paid is past.")
    invoice.status, invoice.finalized_at, invoice.updated_at = _S.PENDING, now, now
    invoice.transaction_id = new_id()
    invoice.next_step_at = next_step(invoice, installments, settings=settings, now=now)
    account = claim_accounts(invoice, now)
    has_credit = settings.uses_credit and credits_for(invoice).exists()
    # From here on other finalisations of the tenant wait: four round trips and the commit.
    _take_number(invoice)
    post_claim(invoice, account, now)
    record_change(
        tenant_id=invoice.tenant_id,
        action="invoice.finalized",
        object_id=invoice.pk,
        now=now,
        before={"status": _S.DRAFT.value},
        after={"status": invoice.status.value, "number": invoice.number},
    )
    if has_credit:
        _use_credit_if_possible(invoice, now)


def _take_number(invoice: Invoice) -> None:
    """Save a draft as pending; the database gives it its number."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE invoices_invoice SET status = %s, finalized_at = %s, updated_at = %s,"
            " transaction_id = %s, next_step_at = %s WHERE id = %s RETURNING number",
            [
                _S(invoice.status).value,
                invoice.finalized_at,
                invoice.updated_at,
                invoice.transaction_id,
                invoice.next_step_at,
                invoice.pk,
            ],
        )
        [invoice.number] = cursor.fetchone()


def _use_credit_if_possible(invoice: Invoice, now: dt.datetime) -> None:
    """A settlement account that takes nothing keeps no invoice from being finalised."""
    try:
        with transaction.atomic():
            use_credit(invoice, now=now)
    except DomainError as refusal:
        logger.info("credit not used", invoice_id=str(invoice.pk), refusal=refusal.code)
        invoice.refresh_from_db()


def void_invoice(*, tenant_id: UUID, invoice_id: UUID, reason: str, now: dt.datetime) -> Invoice:
    """
    Have it be owed no more. Only while nothing of it was paid; money that comes all the same is
    kept as the customer's credit.

    :raises NotFound: no such invoice in this tenant
    :raises InvalidState: something was paid, or a payment is under way
    """

    def void() -> Invoice:
        with transaction.atomic():
            invoice = invoice_for_update(tenant_id=tenant_id, invoice_id=invoice_id)
            if invoice.status == _S.VOIDED:
                return invoice
            if invoice.paid_amount:
                raise InvalidState("Something was paid on it. Pay it back with a credit note.")
            if invoice.credited_amount:
                raise InvalidState("A part of it was credited. Credit the rest.")
            if under_way(invoice, now):
                raise InvalidState("A payment is under way; see what comes of it first.")
            before = invoice.status
            if before not in (_S.DRAFT, _S.EXPIRED):
                take_out_of_books(invoice, f"{invoice.number} voided", now)
            invoice.status, invoice.voided_at, invoice.updated_at = _S.VOIDED, now, now
            invoice.next_step_at = None
            invoice.save()
            call_off_after_commit(close_pages(invoice), now=now)
            record_change(
                tenant_id=tenant_id,
                action="invoice.voided",
                object_id=invoice.pk,
                now=now,
                before={"status": before},
                after={"status": invoice.status.value},
                reason=reason,
            )
        return invoice

    return repeating(void)


def expire(invoice: Invoice, now: dt.datetime) -> None:
    """End an invoice that is out of time; the caller has locked it."""
    before = invoice.status
    take_out_of_books(invoice, f"{invoice.number} expired", now)
    invoice.status, invoice.updated_at, invoice.next_step_at = _S.EXPIRED, now, None
    invoice.save()
    call_off_after_commit(close_pages(invoice), now=now)
    record_change(
        tenant_id=invoice.tenant_id,
        action="invoice.expired",
        object_id=invoice.pk,
        now=now,
        before={"status": before},
        after={"status": invoice.status.value},
    )


def open_again(*, tenant_id: UUID, invoice_id: UUID, reason: str, now: dt.datetime) -> Invoice:
    """
    Have an invoice take payments again, on which too many attempts failed.

    :raises NotFound: no such invoice in this tenant
    :raises InvalidState: it has not failed
    """
    with transaction.atomic():
        invoice = invoice_for_update(tenant_id=tenant_id, invoice_id=invoice_id)
        if invoice.status != _S.FAILED:
            raise InvalidState(f"It is {invoice.status}, not failed.")
        invoice.status = _S.PARTIALLY_PAID if invoice.amount_kept else _S.PENDING
        invoice.failed_attempts, invoice.updated_at = 0, now
        if invoice.attention == "too_many_failures":
            invoice.attention = ""
        invoice.save()
        record_change(
            tenant_id=tenant_id,
            action="invoice.opened_again",
            object_id=invoice.pk,
            now=now,
            before={"status": _S.FAILED.value},
            after={"status": invoice.status},
            reason=reason,
        )
    return invoice


def settle_attention(
    *, tenant_id: UUID, invoice_id: UUID, reason: str, now: dt.datetime
) -> Invoice:
    """
    Have an invoice need nobody any more: a person has seen to what it said.

    :raises NotFound: no such invoice in this tenant
    :raises InvalidState: it needs nobody, or has to be opened again
    """
    with transaction.atomic():
        invoice = invoice_for_update(tenant_id=tenant_id, invoice_id=invoice_id)
        if not invoice.attention:
            raise InvalidState("It needs nobody.")
        if invoice.status == _S.FAILED:
            raise InvalidState("It takes no payments; open it again, or void it.")
        before, invoice.attention, invoice.updated_at = invoice.attention, "", now
        invoice.save(update_fields=["attention", "updated_at"])
        record_change(
            tenant_id=tenant_id,
            action="invoice.attention_settled",
            object_id=invoice.pk,
            now=now,
            before={"attention": before},
            after={"attention": ""},
            reason=reason,
        )
    return invoice


def send_invoice(*, tenant_id: UUID, invoice_id: UUID, key: str, now: dt.datetime) -> Invoice:
    """
    Have the invoice e-mailed to its customer, once for each key.

    :raises NotFound: no such invoice in this tenant
    :raises InvalidState: a draft, voided or expired, or no address
    """
    with transaction.atomic():
        invoice = invoice_for_update(tenant_id=tenant_id, invoice_id=invoice_id)
        if invoice.number is None or invoice.status in (_S.VOIDED, _S.EXPIRED):
            raise InvalidState(f"It is {invoice.status}; nothing is to be sent.")
        if not invoice.customer_email:
            raise InvalidState("Its customer has no e-mail address.")
        if write_mailing(invoice, kind="invoice", unique_key=f"invoice {key}"[:120], now=now):
            invoice.sent_at, invoice.updated_at = now, now
            invoice.save(update_fields=["sent_at", "updated_at"])
            record_change(
                tenant_id=tenant_id,
                action="invoice.sent",
                object_id=invoice.pk,
                now=now,
                after={"to": invoice.customer_email},
            )
    return invoice
