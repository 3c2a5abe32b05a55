"""Documents of an invoice as PDF: itself, its receipts, its credit notes."""

from collections.abc import Callable
from uuid import UUID

from django.http import HttpResponse

from invoices.models import Invoice
from invoices.services import documents

# What it is called, and its bytes; None: there is none.
_Made = tuple[str, bytes] | None


def document(invoice: Invoice, kind: str, document_id: UUID) -> HttpResponse | None:
    """Return a document of the invoice to download; None: it has no such."""
    render = _KINDS.get(kind)
    made = render(invoice, document_id) if render is not None else None
    if made is None:
        return None
    name, pdf = made
    return HttpResponse(
        pdf,
        content_type="application/pdf",
        headers={
            "Content-Disposition": f'attachment; filename="{name}.pdf"',
            "X-Content-Type-Options": "nosniff",
        },
    )


def _invoice(invoice: Invoice, document_id: UUID) -> _Made:
    if document_id != invoice.pk:
        return None
    return invoice.number or "draft", documents.render_invoice(invoice=invoice)


def _receipt(invoice: Invoice, document_id: UUID) -> _Made:
    receipt = invoice.receipts.select_related("invoice__tenant").filter(pk=document_id).first()
    if receipt is None:
        return None
    name = f"{invoice.number}-receipt-{receipt.received_on}"
    return name, documents.render_receipt(receipt=receipt)


def _credit_note(invoice: Invoice, document_id: UUID) -> _Made:
    note = invoice.credit_notes.select_related("invoice__tenant").filter(pk=document_id).first()
    return None if note is None else (note.number, documents.render_credit_note(credit_note=note))


_KINDS: dict[str, Callable[[Invoice, UUID], _Made]] = {
    "invoice": _invoice,
    "receipt": _receipt,
    "credit_note": _credit_note,
}
