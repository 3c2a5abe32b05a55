"""Who a tenant is on its invoices, in the back office: one form a tenant."""

import re
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone

from core.admin import (
    Act,
    BackOfficeAdmin,
    Done,
    OfTenantForm,
    TenantFilter,
    page_url,
    sees_every_tenant,
    staff_tenant_id,
)
from core.forms import EMAIL_LENGTH_MAX, CardFreeField
from core.permissions import Permission
from invoices.admin.drafting import LOCALES
from invoices.models import InvoiceSettings
from invoices.services.settings import (
    PAYMENT_TERMS_DAYS_MAX,
    change_invoice_settings,
    settings_version,
)

# Whole numbers with blanks or commas between.
_DAYS = re.compile(r"[-+]?[0-9]{1,4}")


class DaysField(forms.CharField):
    """Days from a due date, such as -3, 0, 7."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(str(day) for day in value) if isinstance(value, list) else value

    def clean(self, value: Any) -> Any:
        text: str = super().clean(value)
        found = [part for part in re.split(r"[\s,;]+", text) if part]
        if not all(_DAYS.fullmatch(part) for part in found):
            raise ValidationError("Whole numbers, such as -3, 0, 7.")
        return [int(part) for part in found]


class SettingsFields(forms.Form):
    legal_name = CardFreeField(required=False, max_length=140, label="Legal name")
    street = CardFreeField(required=False, max_length=70)
    building_number = CardFreeField(required=False, max_length=16, label="Building number")
    post_code = CardFreeField(required=False, max_length=16, label="Post code")
    town = CardFreeField(required=False, max_length=35)
    country = forms.CharField(
        required=False, max_length=2, help_text="Two capital letters, such as ID."
    )
    tax_id = CardFreeField(required=False, max_length=50, label="Tax id")
    email = forms.EmailField(
        required=False, max_length=EMAIL_LENGTH_MAX, label="E-mail", help_text="Answers go there."
    )
    creditor_iban = forms.CharField(
        required=False,
        max_length=42,
        label="IBAN",
        help_text="Where bank transfers go: an IBAN, or a number with its bank's BIC.",
    )
    creditor_account_number = forms.CharField(required=False, max_length=34, label="Account number")
    creditor_bic = forms.CharField(required=False, max_length=11, label="BIC")
    payment_terms_days = forms.IntegerField(
        min_value=0,
        max_value=PAYMENT_TERMS_DAYS_MAX,
        label="Days to pay",
        help_text="Of an invoice that names no due date.",
    )
    reminder_days = DaysField(
        required=False,
        label="Reminders",
        help_text="Days from the due date: -3 is three days before. Empty: none are sent.",
    )
    uses_credit = forms.BooleanField(
        required=False, label="What a customer paid too much pays their next invoice"
    )
    locale = forms.ChoiceField(choices=LOCALES, label="Language of invoices")
    # What one has seen, so that nobody writes over what another has just changed.
    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    def clean_country(self) -> str:
        return str(self.cleaned_data["country"]).upper()


NAMES = [name for name in SettingsFields.base_fields if name != "seen"]


class FirstSettingsForm(SettingsFields, OfTenantForm):
    def __init__(self, data: Any, *, request: HttpRequest) -> None:
        nothing = InvoiceSettings()
        initial = {name: getattr(nothing, name) for name in NAMES}
        super().__init__(data, request=request, initial=initial)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if InvoiceSettings.objects.filter(tenant_id=cleaned["tenant_id"]).exists():
            raise ValidationError("This tenant has settings already. Change those.")
        return cleaned


class ChangeSettings(Act[InvoiceSettings]):
    name, label, permission = "edit", "Change", Permission.MANAGE_INVOICE_SETTINGS
    warning = (
        "Documents that are made from now on say this, also those of older invoices. What was sent"
        " stays as it is."
    )

    def form(self, obj: InvoiceSettings, data: Any) -> forms.Form:
        initial = {name: getattr(obj, name) for name in NAMES}
        return SettingsFields(data, initial={**initial, "seen": settings_version(obj)})

    def run(self, obj: InvoiceSettings, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        change_invoice_settings(
            tenant_id=obj.tenant_id,
            changes={name: cleaned[name] for name in NAMES},
            now=timezone.now(),
            as_seen=cleaned["seen"],
        )
        return Done("The settings are changed.")


@admin.register(InvoiceSettings)
class InvoiceSettingsAdmin(BackOfficeAdmin[InvoiceSettings]):
    view_permission = Permission.VIEW_INVOICES
    add_permission = Permission.MANAGE_INVOICE_SETTINGS
    add_warning = "Says who you are on your invoices, and how customers are reminded."
    list_display = ("legal_name_or_tenant", "town", "terms", "reminders", "locale")
    list_filter = (TenantFilter,)
    list_select_related = ("tenant",)
    search_fields = ("pk",)
    search_help_text = "A whole id, or the tenant's."
    acts = (ChangeSettings(),)

    def search(self, queryset: Any, text: str, found_id: Any) -> Any:
        if found_id is None:
            return queryset.none()
        by_id = queryset.filter(pk=found_id)
        return by_id if by_id.exists() else queryset.filter(tenant_id=found_id)

    @admin.display(description="On invoices")
    def legal_name_or_tenant(self, obj: InvoiceSettings) -> str:
        return obj.legal_name or str(obj.tenant)

    @admin.display(description="Days to pay")
    def terms(self, obj: InvoiceSettings) -> str:
        return f"{obj.payment_terms_days}"

    @admin.display(description="Reminders", empty_value="none")
    def reminders(self, obj: InvoiceSettings) -> str | None:
        return ", ".join(f"{day:+d}" if day else "0" for day in obj.reminder_days) or None

    def heading(self, obj: InvoiceSettings) -> str:
        return f"Invoice settings of {obj.tenant}"

    def facts(self, obj: InvoiceSettings) -> list[tuple[str, Any]]:
        town = " ".join(part for part in (obj.post_code, obj.town) if part)
        street = " ".join(part for part in (obj.street, obj.building_number) if part)
        return [
            ("Legal name", obj.legal_name),
            ("Address", ", ".join(part for part in (street, town, obj.country) if part)),
            ("Tax id", obj.tax_id),
            ("E-mail", obj.email),
            ("IBAN", obj.creditor_iban),
            ("Account number", obj.creditor_account_number),
            ("BIC", obj.creditor_bic),
            ("Days to pay", str(obj.payment_terms_days)),
            ("Reminders", self.reminders(obj) or "none"),
            ("Credit", "pays the next invoice" if obj.uses_credit else "is kept until it is used"),
            ("Language", obj.locale),
            ("Id", obj.pk),
            ("Tenant", obj.tenant),
            ("Last changed", obj.updated_at),
        ]

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if not sees_every_tenant(request) and self.has_add_permission(request):
            own = InvoiceSettings.objects.filter(tenant_id=staff_tenant_id(request)).first()
            if own is not None:
                # One form a tenant: there is nothing to add, but something to change.
                return HttpResponseRedirect(page_url(InvoiceSettings, own.pk))
        return super().add_view(request, form_url, extra_context)

    def new_form(self, request: HttpRequest, data: Any) -> FirstSettingsForm:
        return FirstSettingsForm(data, request=request)

    def make(self, request: HttpRequest, cleaned: dict[str, Any]) -> InvoiceSettings:
        return change_invoice_settings(
            tenant_id=cleaned["tenant_id"],
            changes={name: cleaned[name] for name in NAMES},
            now=timezone.now(),
        )
