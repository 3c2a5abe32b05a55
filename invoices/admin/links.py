"""Where an invoice is looked at from outside: its payer's page, its documents."""

from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from invoices.models import Invoice


def payer_path(token: str) -> str:
    """Return the payer's page, at this site."""
    return f"/pay/{token}"


def document_link(invoice: Invoice, kind: str, pk: Any, text: str) -> SafeString:
    """Return a link to a document as PDF: of the invoice, a receipt or a credit note of it."""
    url = reverse("admin:invoices_invoice_document", args=[invoice.pk, kind, pk])
    return format_html('<a href="{}">{}</a>', url, text)
