"""Payouts in the back office, the files that carry them, and the bank's reports about them."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.admin import (
    Act,
    AttentionFilter,
    BackOfficeAdmin,
    CurrencyFilter,
    Done,
    KeysetChangeList,
    TenantFilter,
    badge,
    link_to,
    may,
    metadata_lines,
    minute,
    money,
    page_url,
)
from core.permissions import Permission
from identity.models import Tenant
from payments import services
from payments.admin import words
from payments.admin.columns import (
    AccountNamingList,
    account_link,
    gateway_link,
    referenced,
    standing,
    status_badge,
    transaction_link,
)
from payments.admin.tenants import OfTenantForm
from payments.models import Payout, PayoutBatch, PayoutReportFile

# What the service reads, in the unit that people know.
REPORT_MEGABYTES_MAX = 10


# --- Payouts -----------------------------------------------------------------------------------
@admin.register(Payout)
class PayoutAdmin(BackOfficeAdmin[Payout]):
    view_permission = Permission.VIEW_PAYMENTS
    list_display = ("payout", "status_badge", "amount_money", "beneficiary", "gateway")
    list_filter = ("status", AttentionFilter, CurrencyFilter, TenantFilter)
    list_select_related = ("configuration",)
    search_fields = ("pk",)
    search_help_text = "A whole id, reference, account's id or idempotency key."
    link_lookups = frozenset({"batch"})

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return AccountNamingList

    def search(
        self, queryset: QuerySet[Payout], text: str, found_id: UUID | None
    ) -> QuerySet[Payout]:
        # The tenants stand first in these indexes: naming them all is what makes them usable.
        in_index = queryset.filter(tenant_id__in=Tenant.objects.values("pk"))
        if found_id is not None and queryset.filter(pk=found_id).exists():
            return queryset.filter(pk=found_id)
        if found_id is not None and in_index.filter(source_account_id=found_id).exists():
            return in_index.filter(source_account_id=found_id)
        by_reference = queryset.filter(reference=text)
        return by_reference if by_reference.exists() else in_index.filter(idempotency_key=text)

    @admin.display(description="Payout")
    def payout(self, obj: Payout) -> SafeString:
        return referenced(obj)

    @admin.display(description="Status")
    def status_badge(self, obj: Payout) -> SafeString:
        return standing(obj)

    @admin.display(description="Amount")
    def amount_money(self, obj: Payout) -> SafeString:
        return money(obj.amount, obj.currency)

    @admin.display(description="Beneficiary")
    def beneficiary(self, obj: Payout) -> SafeString:
        return format_html("{}<small>from {}</small>", obj.beneficiary_name, account_link(obj))

    @admin.display(description="Gateway")
    def gateway(self, obj: Payout) -> SafeString:
        file = link_to(PayoutBatch, obj.batch_id, "in a file") if obj.batch_id else ""
        return format_html("{}<small>{}</small>", obj.configuration, file)

    def heading(self, obj: Payout) -> str:
        return f"Payout {obj.reference}"

    def status(self, obj: Payout) -> SafeString:
        return status_badge(obj.status)

    def figures(self, obj: Payout) -> list[tuple[str, str]]:
        return [("Amount", money(obj.amount, obj.currency))]

    def facts(self, obj: Payout) -> list[tuple[str, Any]]:
        failure = words.failure_words(obj.failure_code)
        return [
            ("Next", words.next_of_payout(obj)),
            ("Needs a person", words.attention_sentence(obj)),
            ("Beneficiary", obj.beneficiary_name),
            ("IBAN", obj.iban),
            ("Account number", obj.account_number),
            ("Bank", obj.bank_code),
            ("Country", ", ".join(part for part in (obj.town, obj.country) if part)),
            ("From account", account_link(obj)),
            ("Gateway", gateway_link(obj.configuration)),
            ("File", _file_link(obj)),
            ("Gateway's id", obj.gateway_payout_id),
            ("Gateway's word", obj.gateway_status),
            ("Failure", format_html("{}. {}", failure, obj.failure_detail) if failure else ""),
            ("Debit", transaction_link(obj.transaction_id)),
            ("Settled by", transaction_link(obj.settlement_transaction_id)),
            ("Given back by", transaction_link(obj.return_transaction_id)),
            ("Next step", obj.next_step_at),
            ("Id", obj.pk),
            ("Reference", obj.reference),
            ("Description", obj.description),
            ("Idempotency key", obj.idempotency_key),
            ("Tenant", obj.tenant),
            ("Created", obj.created_at),
            ("Last changed", obj.updated_at),
            ("Metadata", metadata_lines(obj.metadata)),
        ]


def _file_link(payout: Payout) -> SafeString | str:
    if payout.batch_id is None:
        return ""
    # Not the file itself, which may be megabytes.
    named = PayoutBatch.objects.values_list("message_id", flat=True).get(pk=payout.batch_id)
    return link_to(PayoutBatch, payout.batch_id, named)


# --- Payout files ------------------------------------------------------------------------------
class Download(Act[PayoutBatch]):
    name, label, permission = "download", "Download", Permission.EXCHANGE_PAYOUT_FILES
    warning = (
        "The file moves money once your bank has it. It is the same file each time; a bank refuses"
        " a second one of this message id. That you have had it goes on record."
    )

    def form(self, obj: PayoutBatch, data: Any) -> forms.Form:
        return forms.Form(data)

    def run(self, obj: PayoutBatch, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.note_export(obj, now=timezone.now(), how="download")
        response = HttpResponse(
            bytes(obj.document),
            content_type="application/xml",
            headers={
                "Content-Disposition": f'attachment; filename="{obj.message_id}.xml"',
                "X-Content-Type-Options": "nosniff",
            },
        )
        return Done("The file is downloaded.", page=response)


@admin.register(PayoutBatch)
class PayoutFileAdmin(BackOfficeAdmin[PayoutBatch]):
    view_permission = Permission.VIEW_PAYMENTS
    list_display = ("file", "status_badge", "payouts", "amount_money", "gateway", "exported")
    list_filter = (CurrencyFilter, TenantFilter)
    list_select_related = ("configuration",)
    search_fields = ("pk",)
    search_help_text = "A whole id or message id."
    change_list_template = "admin/payout_file_list.html"
    acts = (Download(),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[PayoutBatch]:
        return super().get_queryset(request).defer("document")

    def search(
        self, queryset: QuerySet[PayoutBatch], text: str, found_id: UUID | None
    ) -> QuerySet[PayoutBatch]:
        if found_id is not None:
            return queryset.filter(pk=found_id)
        return queryset.filter(tenant_id__in=Tenant.objects.values("pk"), message_id=text)

    def get_urls(self) -> list[URLPattern]:
        gather = path(
            "gather/",
            self.admin_site.admin_view(self.gather_view),
            name="payments_payoutbatch_gather",
        )
        return [gather, *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        may_gather = may(request, Permission.EXCHANGE_PAYOUT_FILES)
        url = reverse("admin:payments_payoutbatch_gather") if may_gather else ""
        return super().changelist_view(request, {**(extra_context or {}), "gather_url": url})

    def gather_view(self, request: HttpRequest) -> HttpResponse:
        """Gather what waits for a file, of one tenant."""
        if not may(request, Permission.EXCHANGE_PAYOUT_FILES):
            raise PermissionDenied
        form = OfTenantForm(request.POST if request.method == "POST" else None, request=request)
        if request.method == "POST" and form.is_valid():
            made = services.gather_payouts(now=timezone.now(), tenant_id=form.tenant_id)
            for batch in made:
                self.log_addition(request, batch, "Gathered.")
            payouts = sum(batch.payout_count for batch in made)
            sentence = (
                f"Gathered {_counted(payouts, 'payout')} into {_counted(len(made), 'file')}."
                if made
                else "No payout waits for a file."
            )
            self.message_user(request, sentence, messages.SUCCESS if made else messages.INFO)
            return HttpResponseRedirect(self._list_url())
        context = {
            **self._context(request, "Gather waiting payouts now"),
            "act": {
                "warning": (
                    "Puts every payout that waits for a file into one, a file for each currency of"
                    " each own account. That happens by itself too, every quarter of an hour."
                )
            },
            "form": form,
            "submit": "Gather",
            "back": self._list_url(),
        }
        return TemplateResponse(request, "admin/form_page.html", context)

    @admin.display(description="Payout file")
    def file(self, obj: PayoutBatch) -> SafeString:
        moment = minute(obj.created_at)
        return format_html('{}<small class="num">{}</small>', moment, obj.message_id)

    @admin.display(description="Status")
    def status_badge(self, obj: PayoutBatch) -> SafeString:
        return self.status(obj)

    @admin.display(description="Payouts")
    def payouts(self, obj: PayoutBatch) -> str:
        return f"{obj.payout_count:,}"

    @admin.display(description="Total")
    def amount_money(self, obj: PayoutBatch) -> SafeString:
        return money(obj.total, obj.currency)

    @admin.display(description="Gateway")
    def gateway(self, obj: PayoutBatch) -> str:
        return str(obj.configuration)

    @admin.display(description="First had", empty_value="never")
    def exported(self, obj: PayoutBatch) -> str | None:
        return minute(obj.exported_at) or None

    def heading(self, obj: PayoutBatch) -> str:
        return f"Payout file {obj.message_id}"

    def status(self, obj: PayoutBatch) -> SafeString:
        return badge("exported") if obj.exported_at is not None else badge("waiting")

    def figures(self, obj: PayoutBatch) -> list[tuple[str, str]]:
        return [
            ("Total", money(obj.total, obj.currency)),
            ("Payouts", f"{obj.payout_count:,}"),
        ]

    def facts(self, obj: PayoutBatch) -> list[tuple[str, Any]]:
        payouts = f"{reverse('admin:payments_payout_changelist')}?batch={obj.pk}"
        return [
            ("Next", "" if obj.exported_at else "Nobody has had it yet: bring it to the bank."),
            ("Payouts", format_html('<a href="{}">All payouts of this file</a>', payouts)),
            ("Gateway", gateway_link(obj.configuration)),
            ("Message id", obj.message_id),
            ("Id", obj.pk),
            ("Tenant", obj.tenant),
            ("Made", obj.created_at),
            ("First had", obj.exported_at),
        ]


# --- Payout reports ----------------------------------------------------------------------------
class ReportForm(OfTenantForm):
    document = forms.FileField(
        label="The bank's file",
        max_length=255,
        widget=forms.FileInput(attrs={"accept": ".xml,application/xml,text/xml"}),
        help_text=f"At most {REPORT_MEGABYTES_MAX} MB.",
    )

    def clean_document(self) -> "UploadedFile[bytes]":
        document: UploadedFile[bytes] = self.cleaned_data["document"]
        if (document.size or 0) > REPORT_MEGABYTES_MAX * 1_000_000:
            raise ValidationError(f"The file is larger than {REPORT_MEGABYTES_MAX} MB.")
        return document


@admin.register(PayoutReportFile)
class PayoutReportAdmin(BackOfficeAdmin[PayoutReportFile]):
    view_permission = Permission.VIEW_PAYMENTS
    add_permission = Permission.EXCHANGE_PAYOUT_FILES
    list_display = ("report", "applied", "unchanged", "unmatched", "received")
    list_filter = (TenantFilter,)
    search_fields = ("pk",)
    search_help_text = "A whole id, or the bank's message id."

    def get_queryset(self, request: HttpRequest) -> QuerySet[PayoutReportFile]:
        return super().get_queryset(request).defer("document")

    def search(
        self, queryset: QuerySet[PayoutReportFile], text: str, found_id: UUID | None
    ) -> QuerySet[PayoutReportFile]:
        if found_id is not None:
            return queryset.filter(pk=found_id)
        return queryset.filter(tenant_id__in=Tenant.objects.values("pk"), message_id=text)

    @admin.display(description="Report")
    def report(self, obj: PayoutReportFile) -> SafeString:
        return format_html("{}<small>{}</small>", obj.message_id, obj.kind)

    @admin.display(description="Changed a payout")
    def applied(self, obj: PayoutReportFile) -> str:
        return f"{obj.applied_count:,}"

    @admin.display(description="Said nothing new")
    def unchanged(self, obj: PayoutReportFile) -> str:
        return f"{obj.unchanged_count:,}"

    @admin.display(description="Of nothing of ours")
    def unmatched(self, obj: PayoutReportFile) -> str:
        return f"{obj.unmatched_count:,}"

    @admin.display(description="Received")
    def received(self, obj: PayoutReportFile) -> str:
        return minute(obj.created_at)

    def heading(self, obj: PayoutReportFile) -> str:
        return f"Payout report {obj.message_id}"

    def figures(self, obj: PayoutReportFile) -> list[tuple[str, str]]:
        return [
            ("Changed a payout", f"{obj.applied_count:,}"),
            ("Said nothing new", f"{obj.unchanged_count:,}"),
            ("Of nothing of ours", f"{obj.unmatched_count:,}"),
        ]

    def facts(self, obj: PayoutReportFile) -> list[tuple[str, Any]]:
        return [
            ("Message", obj.kind),
            ("Bank's message id", obj.message_id),
            ("Id", obj.pk),
            ("Tenant", obj.tenant),
            ("Received", obj.created_at),
        ]

    def new_form(self, request: HttpRequest, data: Any) -> ReportForm:
        return ReportForm(data, request=request, files=None if data is None else request.FILES)

    def make(self, request: HttpRequest, cleaned: dict[str, Any]) -> HttpResponse:
        taken = services.take_report(
            tenant_id=cleaned["tenant_id"],
            document=cleaned["document"].read(),
            now=timezone.now(),
        )
        report = taken.report
        if taken.is_replay:
            sentence = f"This file came before, on {minute(report.created_at)}. Nothing was done."
            self.message_user(request, sentence, messages.WARNING)
        else:
            self.log_addition(request, report, "Read.")
            sentence = f"Read. {_counted(report.applied_count, 'payout')} changed."
            self.message_user(request, sentence, messages.SUCCESS)
        return HttpResponseRedirect(page_url(PayoutReportFile, report.pk))

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        response = super().add_view(request, form_url, extra_context)
        if isinstance(response, TemplateResponse):
            # The form of form_page.html carries no files.
            response.template_name = "admin/report_upload.html"
        return response


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
