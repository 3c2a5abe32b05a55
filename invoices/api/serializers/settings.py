"""Shapes of a tenant's invoice settings on the wire. Units and limits, no rules."""

from rest_framework import serializers

from core.api.fields import (
    CardFreeTextField,
    StrictBooleanField,
    StrictIntegerField,
    StrictRequest,
    TextField,
)
from invoices.api.fields import EmailField
from invoices.models import InvoiceSettings
from invoices.services import LOCALES
from invoices.services.settings import (
    PAYMENT_TERMS_DAYS_MAX,
    REMINDED_FROM,
    REMINDED_UNTIL,
    REMINDERS_MAX,
)


def _text(length_max: int) -> CardFreeTextField:
    return CardFreeTextField(required=False, allow_blank=True, max_length=length_max)


class ChangeSettingsRequest(StrictRequest):
    legal_name = _text(140)
    street = _text(70)
    building_number = _text(16)
    post_code = _text(16)
    town = _text(35)
    country = serializers.RegexField(
        r"^([A-Z]{2})?\Z", required=False, allow_blank=True, help_text="ISO 3166-1."
    )
    tax_id = TextField(required=False, allow_blank=True, max_length=50)
    email = EmailField(required=False, allow_blank=True, max_length=254)
    creditor_iban = TextField(
        required=False, allow_blank=True, max_length=42, help_text="Where bank transfers go."
    )
    creditor_account_number = TextField(
        required=False,
        allow_blank=True,
        max_length=42,
        help_text="Where there is no IBAN; with the bank's BIC.",
    )
    creditor_bic = TextField(required=False, allow_blank=True, max_length=14)
    payment_terms_days = StrictIntegerField(
        required=False,
        min_value=0,
        max_value=PAYMENT_TERMS_DAYS_MAX,
        help_text="Until an invoice is due that names no day.",
    )
    reminder_days = serializers.ListField(
        child=StrictIntegerField(min_value=REMINDED_FROM, max_value=REMINDED_UNTIL),
        required=False,
        max_length=REMINDERS_MAX,
        help_text="Days from the due date: -3 is three days before.",
    )
    uses_credit = StrictBooleanField(
        required=False, help_text="A customer's credit pays what it can of their next invoice."
    )
    locale = serializers.ChoiceField(choices=LOCALES, required=False)


class SettingsResponse(serializers.ModelSerializer[InvoiceSettings]):
    email = serializers.CharField(allow_blank=True)
    reminder_days = serializers.ListField(child=serializers.IntegerField())
    locale = serializers.ChoiceField(choices=LOCALES)

    class Meta:
        model = InvoiceSettings
        fields = (
            "legal_name",
            "street",
            "building_number",
            "post_code",
            "town",
            "country",
            "tax_id",
            "email",
            "creditor_iban",
            "creditor_account_number",
            "creditor_bic",
            "payment_terms_days",
            "reminder_days",
            "uses_credit",
            "locale",
        )
        read_only_fields = fields
