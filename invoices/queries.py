"""Reads of invoices, their parts and their money; and their row locks."""

import datetime as dt
from collections.abc import Sequence
from uuid import UUID

from django.db.models import QuerySet

from core.errors import NotFound
from invoices.models import (
    Credit,
    CreditNote,
    Installment,
    Invoice,
    InvoiceSettings,
    LineItem,
    Receipt,
)

_NO_INVOICE = "No such invoice."


def invoices_of(*, tenant_id: UUID) -> QuerySet[Invoice]:
    """Return the tenant's invoices with what is shown of each; four round trips for any number."""
    return Invoice.objects.filter(tenant_id=tenant_id).prefetch_related(
        "line_items", "installments", "tenant"
    )


def invoice_of(*, tenant_id: UUID, invoice_id: UUID) -> Invoice:
    """
    Return the invoice.

    :raises NotFound: unknown, or another tenant's
    """
    found = invoices_of(tenant_id=tenant_id).filter(pk=invoice_id).first()
    if found is None:
        raise NotFound(_NO_INVOICE)
    return found


def invoice_for_update(*, tenant_id: UUID, invoice_id: UUID, is_impatient: bool = False) -> Invoice:
    """
    Return the invoice, locked until the transaction ends; impatient: or fail at once.

    Where a payment is locked too, that comes first: gateways' words lock in that order.

    :raises NotFound: unknown, or another tenant's
    """
    found = (
        Invoice.objects.select_for_update(no_key=True, nowait=is_impatient, of=("self",))
        .select_related("tenant")
        .filter(tenant_id=tenant_id, pk=invoice_id)
        .first()
    )
    if found is None:
        raise NotFound(_NO_INVOICE)
    return found


def invoice_by_token(*, token: str) -> tuple[Invoice, Installment | None]:
    """
    Return the invoice that a payer's address stands for, and the installment if it is one's.

    :raises NotFound: nobody's
    """
    found = Invoice.objects.select_related("tenant").filter(token=token).first()
    if found is not None:
        return found, None
    installment = (
        Installment.objects.select_related("invoice", "invoice__tenant").filter(token=token).first()
    )
    if installment is None:
        raise NotFound(_NO_INVOICE)
    return installment.invoice, installment


def lines_of(invoice: Invoice) -> list[LineItem]:
    return list(invoice.line_items.order_by("position"))


def installments_of(invoice: Invoice) -> list[Installment]:
    """Return its installments in order; one for all of it where there is no schedule."""
    return list(invoice.installments.order_by("number"))


def receipts_of(invoice: Invoice) -> list[Receipt]:
    return list(invoice.receipts.order_by("pk"))


def credit_notes_of(invoice: Invoice) -> list[CreditNote]:
    return list(invoice.credit_notes.prefetch_related("refunds").order_by("pk"))


def credits_of_invoice(*, tenant_id: UUID, invoice_id: UUID) -> QuerySet[Credit]:
    """Return what was overpaid on an invoice, with what became of it."""
    return (
        Credit.objects.filter(tenant_id=tenant_id, invoice_id=invoice_id)
        .prefetch_related("uses__receipt__invoice")
        .order_by("pk")
    )


def credits_for(invoice: Invoice) -> QuerySet[Credit]:
    """Return the credit that the invoice's customer has left in its currency, oldest first."""
    if not invoice.customer_key:
        return Credit.objects.none()
    return Credit.objects.left().filter(
        tenant_id=invoice.tenant_id, customer_key=invoice.customer_key, currency=invoice.currency
    )


def settings_of(*, tenant_id: UUID) -> InvoiceSettings:
    """Return the tenant's settings; the defaults, not saved, where it has none."""
    found = InvoiceSettings.objects.filter(tenant_id=tenant_id).first()
    return found or InvoiceSettings(tenant_id=tenant_id)


def open_credit(credits: Sequence[Credit]) -> int:
    """Return what is left of them, in minor units."""
    return sum(credit.remaining_amount for credit in credits)


def moment_of(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    """Return when the day begins there."""
    return dt.datetime.combine(day, dt.time(), tzinfo=zone)
