"""What several lists and pages of invoices show alike."""

import datetime as dt
from uuid import UUID

from django.db.models import DateField, F, Func, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Cast
from django.db.models.lookups import LessThan
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.admin import badge, in_words, link_to
from invoices.models import Credit, Installment, Invoice
from invoices.queries import credits_of_invoice

# Of which something is to be paid.
OPEN = (Invoice.Status.PENDING, Invoice.Status.PARTIALLY_PAID, Invoice.Status.FAILED)


def number(text: str | None) -> SafeString:
    """Return the number of a document, on one line."""
    return format_html('<span class="num">{}</span>', text or "")


def installment_badge(installment: Installment, invoice: Invoice) -> SafeString:
    status = installment.status_on(invoice.tenant.day_of(timezone.now()))
    if invoice.status in (Invoice.Status.DRAFT, Invoice.Status.VOIDED, Invoice.Status.EXPIRED):
        # Nobody owes it: it is neither unpaid nor overdue.
        return badge("quiet", "Not owed")
    # `paid` of a gateway's payment is not the end of it; of an installment it is.
    tone = "fully_paid" if status == Installment.Status.PAID else str(status)
    return badge(tone, in_words(status).replace(" ", "\u00a0"))


def credits_of(invoice: Invoice) -> list[Credit]:
    """Return what was overpaid on it, with what became of that; looked up once."""
    if not invoice.overpaid_amount:
        return []
    if not hasattr(invoice, "credits_seen"):
        found = credits_of_invoice(tenant_id=invoice.tenant_id, invoice_id=invoice.pk)
        invoice.credits_seen = list(found)  # type: ignore[attr-defined]
    seen: list[Credit] = invoice.credits_seen  # type: ignore[attr-defined]
    return seen


def customer_words(invoice: Invoice) -> str:
    """Return what the customer is called."""
    return invoice.customer_name or invoice.customer_email or invoice.customer_reference


def invoice_link(invoice: Invoice) -> SafeString:
    return link_to(Invoice, invoice.pk, number(invoice.number) if invoice.number else "a draft")


def transaction_link(transaction_id: UUID | None, text: str = "") -> SafeString | str:
    """Return a link to a transaction of the ledger; nothing where none was posted."""
    return link_to("ledger.Transaction", transaction_id, text) if transaction_id else ""


def with_next_due(queryset: QuerySet[Invoice]) -> QuerySet[Invoice]:
    """Add to each the day on which the first part of it falls due that is not paid: `next_due`."""
    unpaid = Installment.objects.filter(
        invoice=OuterRef("pk"), amount__gt=F("paid_amount") + F("credited_amount")
    )
    return queryset.annotate(next_due=Subquery(unpaid.order_by("number").values("due_date")[:1]))


def overdue_only(queryset: QuerySet[Invoice], now: dt.datetime) -> QuerySet[Invoice]:
    """Keep those of which a part was due before their tenant's day; they have `next_due`."""
    there = Func(F("tenant__time_zone"), Value(now), function="timezone")
    today = Cast(there, DateField())
    return queryset.filter(Q(status__in=OPEN), LessThan(F("next_due"), today))


def overdue_since(invoice: Invoice) -> dt.date | None:
    """Return since when a part of it is due; None: nothing is. The invoice has `next_due`."""
    next_due: dt.date | None = getattr(invoice, "next_due", None)
    is_owed = invoice.status in OPEN and next_due is not None
    today = invoice.tenant.day_of(timezone.now())
    return next_due if is_owed and next_due is not None and next_due < today else None
