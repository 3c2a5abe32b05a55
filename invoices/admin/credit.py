"""Credit notes, and what customers have left, in the back office."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from core.admin import (
    BackOfficeAdmin,
    CurrencyFilter,
    StandingFilter,
    TenantFilter,
    badge,
    link_to,
    money,
    panel_on,
)
from core.panels import status_badge, table, when, with_small
from core.permissions import Permission
from identity.models import Tenant
from invoices.admin import words
from invoices.admin.columns import customer_words, invoice_link, number, transaction_link
from invoices.admin.invoices import CustomerFilter
from invoices.admin.links import document_link
from invoices.models import Credit, CreditNote
from payments.models import Payment, Refund

USES_SHOWN_MAX = 100


class CustomerOfInvoiceFilter(CustomerFilter):
    prefix = "invoice__"


# --- Credit notes ------------------------------------------------------------------------------
@admin.register(CreditNote)
class CreditNoteAdmin(BackOfficeAdmin[CreditNote]):
    view_permission = Permission.VIEW_INVOICES
    list_display = ("credit_note", "of_invoice", "customer", "amount_money", "went_back", "made")
    list_filter = (CustomerOfInvoiceFilter, CurrencyFilter, TenantFilter)
    list_select_related = ("invoice",)
    search_fields = ("pk",)
    search_help_text = "A whole id or number, its own or its invoice's."

    def get_queryset(self, request: HttpRequest) -> QuerySet[CreditNote]:
        return super().get_queryset(request).select_related("invoice", "tenant")

    def search(
        self, queryset: QuerySet[CreditNote], text: str, found_id: UUID | None
    ) -> QuerySet[CreditNote]:
        if found_id is not None:
            by_id = queryset.filter(pk=found_id)
            return by_id if by_id.exists() else queryset.filter(invoice_id=found_id)
        # The tenants stand first in these indexes: naming them all is what makes them usable.
        tenants = Tenant.objects.values("pk")
        by_number = queryset.filter(tenant_id__in=tenants, number=text.upper())
        if by_number.exists():
            return by_number
        return queryset.filter(invoice__tenant_id__in=tenants, invoice__number=text.upper())

    @admin.display(description="Credit note")
    def credit_note(self, obj: CreditNote) -> SafeString:
        return with_small(number(obj.number), obj.reason[:60])

    @admin.display(description="Invoice")
    def of_invoice(self, obj: CreditNote) -> SafeString:
        return invoice_link(obj.invoice)

    @admin.display(description="Customer")
    def customer(self, obj: CreditNote) -> str:
        return customer_words(obj.invoice)

    @admin.display(description="Amount")
    def amount_money(self, obj: CreditNote) -> SafeString:
        return money(obj.amount, obj.currency)

    @admin.display(description="Of it paid back")
    def went_back(self, obj: CreditNote) -> SafeString:
        return money(obj.refund_amount, obj.currency)

    @admin.display(description="Made")
    def made(self, obj: CreditNote) -> SafeString:
        return when(obj.created_at)

    def heading(self, obj: CreditNote) -> str:
        return f"Credit note {obj.number}"

    def figures(self, obj: CreditNote) -> list[tuple[str, str]]:
        return [
            ("Amount", money(obj.amount, obj.currency)),
            ("Owed no more", money(obj.owed_amount, obj.currency)),
            ("Paid back", money(obj.refund_amount, obj.currency)),
        ]

    def facts(self, obj: CreditNote) -> list[tuple[str, Any]]:
        return [
            ("Invoice", invoice_link(obj.invoice)),
            ("Customer", customer_words(obj.invoice)),
            ("Reason", obj.reason),
            ("PDF", document_link(obj.invoice, "credit_note", obj.pk, "Download the credit note")),
            ("Net", money(obj.net_amount, obj.currency)),
            ("Tax", money(obj.tax_amount, obj.currency)),
            ("Service fee", money(obj.service_fee_amount, obj.currency)),
            ("Booked by", transaction_link(obj.transaction_id, "Posting")),
            ("Id", obj.pk),
            ("Tenant", obj.tenant),
            ("Made", obj.created_at),
        ]


@panel_on(CreditNote)
def ways_panel(request: HttpRequest, note: CreditNote) -> str:
    """Return by which ways its refund goes back, and how far that is."""
    rows = [
        [
            words.refund_way(way),
            status_badge(way.status),
            link_to(Refund, way.refund_id, "Refund") if way.refund_id else "",
            way.updated_at,
            money(way.amount, note.currency),
        ]
        for way in note.refunds.select_related("receipt").order_by("pk")
    ]
    headings = ["Goes back", "Status", "Refund", "Since", "Amount"]
    return table("Paid back", headings, rows)


# --- What customers have left ------------------------------------------------------------------
class LeftFilter(StandingFilter):
    title = "what is left"
    parameter_name = "left"
    standing_label = "Something is left"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, str]]:
        return [("used", "All used"), ("all", "All")]

    def standing(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(used_amount__lt=F("amount"))

    def others(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(used_amount=F("amount"))


@admin.register(Credit)
class CreditAdmin(BackOfficeAdmin[Credit]):
    view_permission = Permission.VIEW_INVOICES
    list_display = ("customer", "amount_money", "whole", "of_invoice", "since")
    list_filter = (LeftFilter, CustomerOfInvoiceFilter, CurrencyFilter, TenantFilter)
    list_select_related = ("invoice",)
    search_fields = ("pk",)
    search_help_text = "A whole id, its invoice's number, the customer's e-mail or reference."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Credit]:
        return super().get_queryset(request).select_related("invoice", "receipt", "tenant")

    def search(
        self, queryset: QuerySet[Credit], text: str, found_id: UUID | None
    ) -> QuerySet[Credit]:
        if found_id is not None:
            by_id = queryset.filter(pk=found_id)
            return by_id if by_id.exists() else queryset.filter(invoice_id=found_id)
        # The tenants stand first in these indexes: naming them all is what makes them usable.
        tenants = Tenant.objects.values("pk")
        by_number = queryset.filter(invoice__tenant_id__in=tenants, invoice__number=text.upper())
        if by_number.exists():
            return by_number
        keys = [f"reference {text}", f"email {text.lower()}"]
        of_customer = {"invoice__tenant_id__in": tenants, "invoice__customer_key__in": keys}
        return queryset.filter(**of_customer)

    @admin.display(description="Customer")
    def customer(self, obj: Credit) -> SafeString:
        name = customer_words(obj.invoice) or "somebody without a name"
        small = "" if obj.customer_key else "pays no other invoice by itself"
        return with_small(name, small)

    @admin.display(description="Left")
    def amount_money(self, obj: Credit) -> SafeString:
        return money(obj.remaining_amount, obj.currency)

    @admin.display(description="Of")
    def whole(self, obj: Credit) -> SafeString:
        return money(obj.amount, obj.currency)

    @admin.display(description="Overpaid on")
    def of_invoice(self, obj: Credit) -> SafeString:
        return invoice_link(obj.invoice)

    @admin.display(description="Since")
    def since(self, obj: Credit) -> SafeString:
        return when(obj.created_at)

    def heading(self, obj: Credit) -> str:
        return f"Credit of {customer_words(obj.invoice) or 'a customer'}"

    def status(self, obj: Credit) -> SafeString:
        return badge("active", "Left") if obj.remaining_amount else badge("quiet", "All used")

    def figures(self, obj: Credit) -> list[tuple[str, str]]:
        return [
            ("Left", money(obj.remaining_amount, obj.currency)),
            ("Of", money(obj.amount, obj.currency)),
        ]

    def facts(self, obj: Credit) -> list[tuple[str, Any]]:
        receipt = obj.receipt
        payment = link_to(Payment, receipt.payment_id, "Payment") if receipt.payment_id else ""
        return [
            ("Customer", customer_words(obj.invoice)),
            ("Overpaid on", invoice_link(obj.invoice)),
            ("It came", words.receipt_way(receipt)),
            ("Payment", payment),
            ("Pay it back", "By Refund overpayment, on the invoice's page."),
            ("Booked by", transaction_link(obj.transaction_id, "Posting")),
            ("Id", obj.pk),
            ("Tenant", obj.tenant),
            ("Since", obj.created_at),
        ]


@panel_on(Credit)
def uses_panel(request: HttpRequest, credit: Credit) -> str:
    """Return what became of the credit, the newest first."""
    uses = credit.uses.select_related("receipt__invoice").order_by("-pk")[:USES_SHOWN_MAX]
    rows = [
        [
            use.created_at,
            words.use_words(use),
            invoice_link(use.receipt.invoice) if use.receipt else "",
            link_to(Refund, use.refund_id, "Refund") if use.refund_id else "",
            transaction_link(use.transaction_id, "Posting"),
            money(use.amount, credit.currency),
        ]
        for use in uses
    ]
    headings = ["When", "What", "Invoice", "Refund", "Booked", "Amount"]
    return table("Used for", headings, rows)
