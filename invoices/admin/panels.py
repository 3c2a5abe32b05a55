"""The panels of an invoice's page, and of the page of a payment that is for one."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from core.admin import in_words, link_to, money, page_url, panel_on
from core.money import format_money
from core.panels import status_badge, table
from invoices.admin import words
from invoices.admin.columns import (
    credits_of,
    customer_words,
    installment_badge,
    invoice_link,
    transaction_link,
)
from invoices.admin.links import document_link, payer_path
from invoices.admin.timeline import timeline
from invoices.models import (
    Checkout,
    Credit,
    CreditNote,
    CreditUse,
    Invoice,
    Mailing,
    Receipt,
)
from invoices.queries import credit_notes_of, installments_of, lines_of
from payments.models import Payment, Refund

# Of receipts, attempts, e-mails and the like; an invoice that has more is rare.
SHOWN_MAX = 50
_MORE = f"The newest {SHOWN_MAX}; there are more."


@panel_on(Invoice)
def panels(request: HttpRequest, invoice: Invoice) -> str:
    """Return all that belongs to the invoice, each kind read once; what it cannot have, never."""
    is_issued = invoice.number is not None
    receipts = _newest(invoice.receipts.all()) if is_issued else []
    notes = credit_notes_of(invoice) if invoice.credited_amount else []
    credits = credits_of(invoice)
    attempts = _attempts(invoice) if invoice.attempts else []
    mailings = _newest(invoice.mailings.all()) if is_issued else []
    belonging = _belonging(notes, credits, attempts, mailings)
    shown = [
        _lines_panel(invoice),
        _installments_panel(invoice),
        _receipts_panel(invoice, receipts),
        _credit_notes_panel(invoice, notes),
        _overpayment_panel(invoice, credits),
        _attempts_panel(invoice, attempts),
        _mailings_panel(mailings),
        _supplements_panel(invoice) if is_issued else "",
        timeline(request, invoice, belonging),
    ]
    # Each is a rendered template.
    return mark_safe("".join(shown))  # noqa: S308


@panel_on(Payment)
def invoice_panel(request: HttpRequest, payment: Payment) -> str:
    """Return the invoice that the payment is for."""
    if payment.purpose != Payment.Purpose.INVOICE:
        return ""
    checkout = (
        Checkout.objects.select_related("invoice", "installment")
        .filter(tenant_id=payment.tenant_id, payment_id=payment.pk)
        .first()
    )
    if checkout is None:
        return ""
    invoice = checkout.invoice
    row = [
        invoice_link(invoice),
        status_badge(invoice.status),
        customer_words(invoice),
        _paid_part(checkout),
        money(invoice.amount_due, invoice.currency),
    ]
    headings = ["Invoice", "Status", "Customer", "Asked for", "Due"]
    return table("For the invoice", headings, [row], numbers=["Due"])


def _newest(queryset: QuerySet[Any]) -> list[Any]:
    return list(queryset.order_by("-pk")[: SHOWN_MAX + 1])


def _note(rows: Sequence[Any]) -> str:
    return _MORE if len(rows) > SHOWN_MAX else ""


def _attempts(invoice: Invoice) -> list[tuple[Checkout, Payment]]:
    """Return the newest attempts to pay, each with its payment. Two queries."""
    checkouts = _newest(invoice.checkouts.select_related("installment"))
    payments = Payment.objects.select_related("configuration").in_bulk(
        [checkout.payment_id for checkout in checkouts]
    )
    return [
        (checkout, payments[checkout.payment_id])
        for checkout in checkouts
        if checkout.payment_id in payments
    ]


def _belonging(
    notes: Sequence[CreditNote],
    credits: Sequence[Credit],
    attempts: Sequence[tuple[Checkout, Payment]],
    mailings: Sequence[Mailing],
) -> dict[UUID, SafeString]:
    """Return what else the audit trail speaks of, by id, as links."""
    refund_ids = [way.refund_id for note in notes for way in note.refunds.all()]
    refund_ids += [use.refund_id for credit in credits for use in credit.uses.all()]
    return {
        **{note.pk: link_to(CreditNote, note.pk, note.number) for note in notes},
        **{credit.pk: link_to(Credit, credit.pk, "customer's credit") for credit in credits},
        **{pk: link_to(Refund, pk, "refund") for pk in refund_ids if pk is not None},
        **{
            payment.pk: link_to(Payment, payment.pk, f"payment {payment.reference}")
            for _, payment in attempts
        },
        **{mailing.pk: link_to(Mailing, mailing.pk, "e-mail") for mailing in mailings},
    }


def _lines_panel(invoice: Invoice) -> str:
    currency = invoice.currency
    rows = [
        [
            line.position,
            line.description,
            f"{line.quantity.normalize():f}",
            money(line.unit_amount, currency),
            f"{line.tax_rate.normalize():f} %",
            money(line.tax_amount, currency),
            money(line.subtotal_amount, currency),
        ]
        for line in lines_of(invoice)
    ]
    numbers = ["Quantity", "Unit price", "Rate", "Tax", "Subtotal"]
    headings = ["No.", "Description", *numbers]
    fee = " + ".join(
        part
        for part in (
            f"{invoice.fee_percent.normalize():f} %" if invoice.fee_percent else "",
            format_money(invoice.fee_fixed, currency) if invoice.fee_fixed else "",
        )
        if part
    )
    is_gross_up = invoice.fee_mode == Invoice.FeeMode.GROSS_UP
    said = f"Service fee ({fee}{', grossed up' if is_gross_up else ''})" if fee else "Service fee"
    totals: list[tuple[str, Any]] = [
        ("Subtotal", money(invoice.subtotal_amount, currency)),
        ("Tax, rounded by line", money(invoice.total_tax_amount, currency)),
        (said, money(invoice.total_service_fee_amount, currency)),
        ("Total", format_html("<b>{}</b>", money(invoice.total_amount, currency))),
    ]
    return table("Line items", headings, rows, numbers=numbers, totals=totals)


def _installments_panel(invoice: Invoice) -> str:
    if not invoice.has_schedule:
        return ""
    currency = invoice.currency
    is_issued = invoice.number is not None
    rows = [
        [
            each.number,
            each.due_date,
            installment_badge(each, invoice),
            money(each.net_amount, currency),
            money(each.tax_amount, currency),
            money(each.service_fee_amount, currency),
            money(each.amount, currency),
            money(each.paid_amount, currency),
            money(each.amount_due, currency),
            format_html('<a href="{}">Open</a>', payer_path(each.token)) if is_issued else "",
        ]
        for each in installments_of(invoice)
    ]
    numbers = ["Net", "Tax", "Fee", "Amount", "Paid", "Due"]
    headings = ["No.", "Due date", "Status", *numbers, "Its page"]
    return table("Installments", headings, rows, numbers=numbers)


def _receipts_panel(invoice: Invoice, receipts: Sequence[Receipt]) -> str:
    currency = invoice.currency
    rows = [
        [
            receipt.received_on,
            words.receipt_way(receipt),
            format_html(
                "{} {}",
                receipt.reference,
                format_html("<q>{}</q>", receipt.note) if receipt.note else "",
            ),
            money(receipt.amount, currency),
            money(receipt.applied_amount, currency),
            money(receipt.refunded_amount, currency),
            money(receipt.reversed_amount, currency),
            transaction_link(receipt.transaction_id, "Posting"),
            document_link(invoice, "receipt", receipt.pk, "PDF"),
        ]
        for receipt in receipts[:SHOWN_MAX]
    ]
    numbers = ["Amount", "Of it for this", "Gone back", "Charged back"]
    headings = ["Received", "How", "Reference", *numbers, "Booked", "Receipt"]
    return table("Receipts", headings, rows, numbers=numbers, note=_note(receipts))


def _credit_notes_panel(invoice: Invoice, notes: Sequence[CreditNote]) -> str:
    currency = invoice.currency
    rows = []
    for note in reversed(notes):
        ways = [
            (money(way.amount, currency), _refund_link(way.refund_id), status_badge(way.status))
            for way in note.refunds.all()
        ]
        rows.append(
            [
                note.created_at,
                link_to(CreditNote, note.pk, note.number),
                note.reason,
                money(note.amount, currency),
                money(note.owed_amount, currency),
                format_html_join("", "<div>{} {} {}</div>", ways) or "nothing",
            ]
        )
    headings = [
        "Made",
        "Credit note",
        "Reason",
        "Amount",
        "Owed no more",
        "Paid back",
    ]
    return table("Credit notes", headings, rows, numbers=["Amount", "Owed no more"])


def _refund_link(refund_id: UUID | None) -> SafeString | str:
    return link_to(Refund, refund_id, "refund") if refund_id is not None else ""


def _overpayment_panel(invoice: Invoice, credits: Sequence[Credit]) -> str:
    currency = invoice.currency
    rows = []
    for credit in credits:
        rows.append(
            [
                credit.created_at,
                format_html('<a href="{}">Kept as credit</a>', page_url(Credit, credit.pk)),
                money(credit.amount, currency),
                money(credit.remaining_amount, currency),
            ]
        )
        rows += [
            [use.created_at, _used(use), money(-use.amount, currency), ""]
            for use in credit.uses.all()
        ]
    headings = ["When", "What", "Amount", "Left of it"]
    return table("Overpayment", headings, rows, numbers=["Amount", "Left of it"])


def _used(use: CreditUse) -> SafeString:
    """Return what a part of a credit was used for, with a link to that."""
    said = words.use_words(use)
    if use.receipt is not None:
        return format_html("{}: {}", said, invoice_link(use.receipt.invoice))
    if use.refund_id is not None:
        return format_html("{}: {}", said, _refund_link(use.refund_id))
    return format_html("{}", said)


def _attempts_panel(invoice: Invoice, attempts: Sequence[tuple[Checkout, Payment]]) -> str:
    rows = [
        [
            checkout.created_at,
            link_to(Payment, payment.pk, payment.reference),
            status_badge(payment.status),
            _paid_part(checkout),
            payment.configuration,
            in_words(payment.failure_code),
            money(checkout.amount, invoice.currency),
        ]
        for checkout, payment in attempts[:SHOWN_MAX]
    ]
    headings = [
        "Begun",
        "Payment",
        "Status",
        "For",
        "Gateway",
        "Failure",
        "Amount",
    ]
    return table("Attempts to pay", headings, rows, note=_note(attempts))


def _paid_part(checkout: Checkout) -> str:
    part = checkout.installment
    return f"installment {part.number}" if part is not None else "all that was due"


def _mailings_panel(mailings: Sequence[Mailing]) -> str:
    rows = [
        [
            mailing.created_at,
            link_to(Mailing, mailing.pk, words.mailing_words(mailing)),
            status_badge(mailing.status),
            mailing.to,
            mailing.sent_at,
            mailing.last_error,
        ]
        for mailing in mailings[:SHOWN_MAX]
    ]
    headings = ["Written", "E-mail", "Status", "To", "Sent", "Last failure"]
    return table("E-mails", headings, rows, note=_note(mailings))


def _supplements_panel(invoice: Invoice) -> str:
    supplements = _newest(Invoice.objects.filter(parent=invoice))
    rows = [
        [
            invoice_link(each),
            status_badge(each.status),
            each.description,
            each.due_date,
            money(each.total_amount, each.currency),
            money(each.amount_due, each.currency),
        ]
        for each in supplements[:SHOWN_MAX]
    ]
    headings = [
        "Invoice",
        "Status",
        "Description",
        "Due date",
        "Total",
        "Due",
    ]
    numbers = ["Total", "Due"]
    return table("Supplementary invoices", headings, rows, numbers=numbers, note=_note(supplements))
