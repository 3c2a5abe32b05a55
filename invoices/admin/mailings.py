"""E-mails to customers in the back office: those that failed stand first."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString

from core.admin import (
    CURSOR_VAR,
    Act,
    BackOfficeAdmin,
    Done,
    KeysetChangeList,
    TenantFilter,
    minute,
)
from core.panels import status_badge, when, with_small
from core.permissions import Permission
from identity.models import Tenant
from invoices import services
from invoices.admin import words
from invoices.admin.columns import customer_words, invoice_link
from invoices.models import Invoice, Mailing

# On top of the first page; the filter shows them all.
FAILED_SHOWN_MAX = 50
_S = Mailing.Status


class Resend(Act[Mailing]):
    name, label, permission = "resend", "Send again", Permission.MAKE_INVOICES
    warning = "The e-mail is tried again, as often as a new one, to the same address."

    def is_offered(self, obj: Mailing) -> bool:
        return obj.status == _S.FAILED

    def form(self, obj: Mailing, data: Any) -> forms.Form:
        return forms.Form(data)

    def run(self, obj: Mailing, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.requeue_mailing(tenant_id=obj.tenant_id, mailing_id=obj.pk, now=timezone.now())
        return Done("The e-mail is sent again.")


class FailedFirstList(KeysetChangeList):
    """Newest first; before them, on the first page, those that failed."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        is_chosen = any(name in request.GET for name in (CURSOR_VAR, SEARCH_VAR, "status__exact"))
        if is_chosen:
            return
        # By the invoices that need a person: those have an index.
        failed = self.queryset.filter(
            status=_S.FAILED,
            invoice__in=Invoice.objects.exclude(attention=""),
        )
        first = list(failed.order_by("-pk")[:FAILED_SHOWN_MAX])
        known = {mailing.pk for mailing in first}
        self.result_list = first + [row for row in self.result_list if row.pk not in known]
        self.result_count = self.full_result_count = len(self.result_list)


@admin.register(Mailing)
class MailingAdmin(BackOfficeAdmin[Mailing]):
    view_permission = Permission.VIEW_INVOICES
    list_display = ("mailing", "status_badge", "recipient", "of_invoice", "written", "sent")
    list_filter = ("status", "kind", TenantFilter)
    list_select_related = ("invoice",)
    search_fields = ("pk",)
    search_help_text = "A whole id, or the invoice's id or number."
    acts = (Resend(),)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return FailedFirstList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Mailing]:
        return super().get_queryset(request).select_related("invoice", "tenant")

    def search(
        self, queryset: QuerySet[Mailing], text: str, found_id: UUID | None
    ) -> QuerySet[Mailing]:
        if found_id is not None:
            by_id = queryset.filter(pk=found_id)
            return by_id if by_id.exists() else queryset.filter(invoice_id=found_id)
        # The tenants stand first in the index: naming them all is what makes it usable.
        tenants = Tenant.objects.values("pk")
        return queryset.filter(invoice__tenant_id__in=tenants, invoice__number=text.upper())

    @admin.display(description="E-mail")
    def mailing(self, obj: Mailing) -> str:
        return words.mailing_words(obj)

    @admin.display(description="Status")
    def status_badge(self, obj: Mailing) -> SafeString:
        return with_small(status_badge(obj.status), obj.last_error[:80])

    @admin.display(description="To")
    def recipient(self, obj: Mailing) -> SafeString:
        return with_small(obj.to, customer_words(obj.invoice))

    @admin.display(description="Invoice")
    def of_invoice(self, obj: Mailing) -> SafeString:
        return invoice_link(obj.invoice)

    @admin.display(description="Written")
    def written(self, obj: Mailing) -> SafeString:
        return when(obj.created_at)

    @admin.display(description="Sent")
    def sent(self, obj: Mailing) -> SafeString:
        return when(obj.sent_at)

    def heading(self, obj: Mailing) -> str:
        return f"{words.mailing_words(obj)} to {obj.to}"

    def status(self, obj: Mailing) -> SafeString:
        return status_badge(obj.status)

    def facts(self, obj: Mailing) -> list[tuple[str, Any]]:
        return [
            ("Next", _next(obj)),
            ("Invoice", invoice_link(obj.invoice)),
            ("To", obj.to),
            ("What", words.mailing_words(obj)),
            ("Attempts", obj.attempts),
            ("Last failure", obj.last_error),
            ("Next attempt", obj.next_attempt_at),
            ("Id", obj.pk),
            ("Tenant", obj.tenant),
            ("Written", obj.created_at),
            ("Sent", obj.sent_at),
        ]


def _next(mailing: Mailing) -> str:
    if mailing.status == _S.QUEUED:
        return f"It is sent at {minute(mailing.next_attempt_at)} UTC, or as soon as a worker can."
    if mailing.status == _S.FAILED:
        return "Nothing more happens by itself. Put right what failed, then send it again."
    if mailing.status == _S.DROPPED:
        return "It was not sent: what it was to say was not so any more."
    return ""
