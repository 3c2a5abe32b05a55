"""Invoices in the back office: the list, the page of one, its documents, making one."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.models import Account
from accounts.queries import account_of
from core.admin import (
    AttentionFilter,
    BackOfficeAdmin,
    CurrencyFilter,
    TenantFilter,
    badge,
    in_words,
    link_to,
    metadata_lines,
    money,
    name_of,
    page_url,
)
from core.errors import NotFound
from core.panels import status_badge, when, with_small
from core.permissions import Permission
from identity.models import Tenant
from invoices import services
from invoices.admin import words
from invoices.admin.acts import ACTS, credit_left_for, make_once
from invoices.admin.columns import (
    customer_words,
    invoice_link,
    number,
    overdue_only,
    overdue_since,
    transaction_link,
    with_next_due,
)
from invoices.admin.documents import document
from invoices.admin.drafting import NewInvoiceForm
from invoices.admin.links import document_link, payer_path
from invoices.models import Invoice


class OverdueFilter(admin.SimpleListFilter):
    title = "due date"
    parameter_name = "due"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, str]]:
        return [("overdue", "Overdue")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return overdue_only(queryset, timezone.now()) if self.value() == "overdue" else queryset


class CustomerFilter(admin.SimpleListFilter):
    """By how a customer's name or e-mail begins; the search takes a whole e-mail address."""

    title = "customer"
    parameter_name = "customer"
    template = "admin/invoice_customer_filter.html"
    # On the way from the listed model to the invoice.
    prefix = ""

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, str]]:
        # Whatever is typed.
        return [("", "")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = (self.value() or "").strip()
        if not value:
            return queryset
        name, email = f"{self.prefix}customer_name", f"{self.prefix}customer_email"
        return queryset.filter(
            Q(**{f"{name}__istartswith": value}) | Q(**{f"{email}__istartswith": value})
        )

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        params = changelist.params.items()
        kept = {name: value for name, value in params if name != self.parameter_name}
        yield {"name": self.parameter_name, "value": self.value() or "", "kept": kept}


@admin.register(Invoice)
class InvoiceAdmin(BackOfficeAdmin[Invoice]):
    view_permission = Permission.VIEW_INVOICES
    add_permission = Permission.MAKE_INVOICES
    add_warning = (
        "Makes an invoice. As a draft nobody owes it, and it can be changed; finalised, it has its"
        " number and stays as it is."
    )
    list_display = ("invoice", "status_badge", "customer", "amount_money", "due", "created")
    list_filter = (
        "status",
        OverdueFilter,
        AttentionFilter,
        CustomerFilter,
        CurrencyFilter,
        TenantFilter,
    )
    # Whose day it is there.
    list_select_related = ("tenant",)
    search_fields = ("pk",)
    search_help_text = "A whole id, number, external id, or the customer's e-mail or reference."
    acts = ACTS

    def get_queryset(self, request: HttpRequest) -> QuerySet[Invoice]:
        return with_next_due(super().get_queryset(request)).select_related("tenant", "parent")

    def search(
        self, queryset: QuerySet[Invoice], text: str, found_id: UUID | None
    ) -> QuerySet[Invoice]:
        if found_id is not None and queryset.filter(pk=found_id).exists():
            return queryset.filter(pk=found_id)
        # The tenants stand first in these indexes: naming them all is what makes them usable.
        in_index = queryset.filter(tenant_id__in=Tenant.objects.values("pk"))
        by_number = in_index.filter(number=text.upper())
        if by_number.exists():
            return by_number
        by_external_id = in_index.filter(external_id=text)
        if by_external_id.exists():
            return by_external_id
        keys = [f"reference {text}", f"email {text.lower()}"]
        return in_index.filter(customer_key__in=keys)

    def get_urls(self) -> list[URLPattern]:
        pdf = path(
            "<uuid:object_id>/documents/<str:kind>/<uuid:document_id>/",
            self.admin_site.admin_view(self.document_view),
            name="invoices_invoice_document",
        )
        return [pdf, *super().get_urls()]

    def document_view(
        self, request: HttpRequest, object_id: UUID, kind: str, document_id: UUID
    ) -> HttpResponse:
        """Return a document of the invoice as PDF."""
        invoice = self._visible(request, str(object_id))
        made = None if invoice is None else document(invoice, kind, document_id)
        return self._missing(request) if made is None else made

    @admin.display(description="Invoice")
    def invoice(self, obj: Invoice) -> SafeString:
        return with_small(number(obj.number or "Draft"), obj.external_id or obj.description[:60])

    @admin.display(description="Status")
    def status_badge(self, obj: Invoice) -> SafeString:
        why = in_words(obj.attention)
        return with_small(status_badge(obj.status), why)

    @admin.display(description="Customer")
    def customer(self, obj: Invoice) -> SafeString:
        small = obj.customer_email if obj.customer_name else ""
        return with_small(customer_words(obj), small)

    @admin.display(description="Total")
    def amount_money(self, obj: Invoice) -> SafeString:
        total = money(obj.total_amount, obj.currency)
        is_part = obj.number is not None and 0 < obj.amount_due < obj.total_amount
        small = format_html("{} due", money(obj.amount_due, obj.currency)) if is_part else ""
        return with_small(total, small)

    @admin.display(description="Due date")
    def due(self, obj: Invoice) -> SafeString:
        late = overdue_since(obj)
        if late is not None:
            return with_small(when(late), badge("overdue"))
        return when(getattr(obj, "next_due", None) or obj.due_date)

    @admin.display(description="Created")
    def created(self, obj: Invoice) -> SafeString:
        return when(obj.created_at)

    def heading(self, obj: Invoice) -> str:
        return f"Invoice {obj.number}" if obj.number else "Draft of an invoice"

    def status(self, obj: Invoice) -> SafeString:
        shown = status_badge(obj.status)
        is_late = overdue_since(obj) is not None
        return format_html("{} {}", shown, badge("overdue")) if is_late else shown

    def figures(self, obj: Invoice) -> list[tuple[str, str]]:
        currency = obj.currency
        figures: list[tuple[str, str]] = [("Total", money(obj.total_amount, currency))]
        if obj.number is None:
            return figures
        figures += [
            ("Paid", money(obj.paid_amount, currency)),
            ("Due", money(obj.amount_due, currency)),
        ]
        beside = [
            ("Credited", obj.credited_amount),
            ("Gone back", obj.refunded_amount),
            ("Overpaid", obj.overpaid_amount),
            ("Customer's credit", credit_left_for(obj)),
        ]
        return figures + [(label, money(each, currency)) for label, each in beside if each]

    def facts(self, obj: Invoice) -> list[tuple[str, Any]]:
        is_issued = obj.number is not None
        page = payer_path(obj.token)
        opened = format_html('<a href="{}">Open the payer\'s page</a>', page)
        address = format_html('<code class="clear-key">{}{}</code>', settings.PUBLIC_URL, page)
        return [
            ("Next", words.next_of_invoice(obj, overdue_since(obj))),
            ("Needs a person", words.attention_sentence(obj)),
            ("Customer", obj.customer_name),
            ("E-mail", obj.customer_email),
            ("Their reference", obj.customer_reference),
            ("Address", obj.customer_address),
            ("Payer's page", format_html("{} {}", opened, address) if is_issued else ""),
            ("PDF", document_link(obj, "invoice", obj.pk, "Download the invoice")),
            ("Due date", obj.due_date),
            ("Expires", obj.expires_at),
            ("Supplement to", invoice_link(obj.parent) if obj.parent else ""),
            ("Description", obj.description),
            ("External id", obj.external_id),
            ("Paid through", obj.gateway),
            ("Settlement account", _account_link(obj)),
            ("Language", obj.locale),
            ("Claim", transaction_link(obj.transaction_id, "Posting")),
            ("Taken back by", transaction_link(obj.void_transaction_id, "Posting")),
            ("Finalised", obj.finalized_at),
            ("Sent", obj.sent_at),
            ("Paid", obj.paid_at),
            ("Voided", obj.voided_at),
            ("Next look", obj.next_step_at),
            ("Id", obj.pk),
            ("Tenant", obj.tenant),
            ("Created", obj.created_at),
            ("Last changed", obj.updated_at),
            ("Metadata", metadata_lines(obj.metadata)),
        ]

    def new_form(self, request: HttpRequest, data: Any) -> NewInvoiceForm:
        return NewInvoiceForm(data, request=request)

    def make(self, request: HttpRequest, cleaned: dict[str, Any]) -> Invoice | HttpResponse:
        made, is_replay = make_once(
            request=request,
            cleaned=cleaned,
            tenant_id=cleaned["tenant_id"],
            make=lambda now: services.create_invoice(
                tenant_id=cleaned["tenant_id"],
                new=cleaned["new"],
                now=now,
                is_final=cleaned["finish"] == "final",
            ),
        )
        return HttpResponseRedirect(page_url(Invoice, made.pk)) if is_replay else made


def _account_link(invoice: Invoice) -> SafeString | str:
    account_id = invoice.settlement_account_id
    if account_id is None:
        return ""
    try:
        account = account_of(tenant_id=invoice.tenant_id, account_id=account_id)
    except NotFound:
        # It lives in another database.
        return link_to(Account, account_id)
    return link_to(Account, account_id, name_of(account))
