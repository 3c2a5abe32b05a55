"""Shapes of invoices on the wire. Units and limits, no rules."""

import datetime as dt
from decimal import Decimal
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api.fields import (
    CardFreeMetadataField,
    CardFreeTextField,
    CurrencyField,
    DayField,
    ExactDecimalField,
    IdField,
    MetadataField,
    StrictBooleanField,
    StrictIntegerField,
    StrictRequest,
    TextField,
    UtcDateTimeField,
    percent_field,
)
from core.money import AMOUNT_MAX
from invoices.api.fields import BicField, EmailField, IbanField, ScheduleField
from invoices.models import Installment, Invoice
from invoices.services import LINES_MAX, LOCALES

PAYMENT_GATEWAYS = ["xendit", "midtrans", "sandbox"]
_MINOR_UNITS = "Minor units."


class LineItemRequest(StrictRequest):
    description = CardFreeTextField(max_length=500)
    quantity = ExactDecimalField(
        max_digits=18,
        decimal_places=6,
        min_value=Decimal("0.000001"),
        help_text="Above zero, up to 6 decimals; a number or a string.",
    )
    unit_amount = StrictIntegerField(min_value=0, max_value=AMOUNT_MAX, help_text=_MINOR_UNITS)
    tax_rate = percent_field(
        required=False, default=Decimal(0), help_text="Percent, 0 to 100, up to 4 decimals."
    )


class ServiceFeeRequest(StrictRequest):
    percent = percent_field(
        required=False, default=Decimal(0), help_text="Of the subtotal, up to 4 decimals."
    )
    fixed = StrictIntegerField(
        required=False, default=0, min_value=0, max_value=AMOUNT_MAX, help_text=_MINOR_UNITS
    )
    mode = serializers.ChoiceField(
        choices=[each.value for each in Invoice.FeeMode],
        required=False,
        default=Invoice.FeeMode.ADDITIVE.value,
        help_text=(
            "additive: percent of the subtotal, and the fixed part. gross_up: so much that the"
            " subtotal is left after somebody has kept percent and fixed part."
        ),
    )


class CustomerRequest(StrictRequest):
    name = CardFreeTextField(required=False, allow_blank=True, max_length=140, default="")
    email = EmailField(required=False, allow_blank=True, max_length=254, default="")
    reference = CardFreeTextField(
        required=False,
        allow_blank=True,
        max_length=200,
        default="",
        help_text=(
            "Your own. The same reference, or else the same e-mail address, is the same customer."
        ),
    )
    address = CardFreeTextField(required=False, allow_blank=True, max_length=500, default="")
    iban = IbanField(required=False, allow_blank=True, max_length=42, default="")
    account_number = serializers.RegexField(
        r"^[A-Za-z0-9.-]{0,34}\Z",
        required=False,
        allow_blank=True,
        default="",
        help_text="Where there is no IBAN.",
    )
    bic = BicField(required=False, allow_blank=True, max_length=11, default="")
    country = serializers.RegexField(
        r"^([A-Z]{2})?\Z", required=False, allow_blank=True, default="", help_text="ISO 3166-1."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["iban"] and attrs["account_number"]:
            raise serializers.ValidationError(
                {"account_number": "An account has either an IBAN or a number."}, code="invalid"
            )
        return attrs


class _Contents(StrictRequest):
    """What every invoice is made of."""

    line_items = serializers.ListField(
        child=LineItemRequest(), min_length=1, max_length=LINES_MAX, help_text="1 to 1,000 lines."
    )
    service_fee = ServiceFeeRequest(required=False, allow_null=True, default=None)
    installments = ScheduleField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Left out: all of it is due at once.",
    )
    due_date = DayField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Left out: by your payment terms, or the last installment's.",
    )
    expires_at = UtcDateTimeField(
        required=False,
        allow_null=True,
        default=None,
        help_text="After it nobody can pay, if nobody has; left out: never.",
    )
    external_id = TextField(
        required=False, allow_null=True, max_length=200, default=None, help_text="Unique for you."
    )
    description = CardFreeTextField(required=False, allow_blank=True, max_length=500, default="")
    metadata = CardFreeMetadataField(required=False, default=dict)


class DraftRequest(_Contents):
    currency = CurrencyField()
    customer = CustomerRequest(required=False, allow_null=True, default=None)
    gateway = serializers.ChoiceField(
        choices=PAYMENT_GATEWAYS,
        required=False,
        allow_null=True,
        default=None,
        help_text="The one it is paid through. Left out: by currency and priority.",
    )
    settlement_account_id = IdField(
        required=False,
        allow_null=True,
        default=None,
        help_text="An account that has what is paid. Left out: your own books alone.",
    )
    locale = serializers.ChoiceField(
        choices=LOCALES,
        required=False,
        allow_null=True,
        default=None,
        help_text="Of the page, documents and e-mails. Left out: your settings'.",
    )


class InvoiceRequest(DraftRequest):
    finalize = StrictBooleanField(
        required=False, default=False, help_text="true: with a number, to be paid. Else a draft."
    )


class SupplementaryRequest(_Contents):
    finalize = StrictBooleanField(required=False, default=True)


class InvoiceReasonRequest(StrictRequest):
    reason = CardFreeTextField(max_length=500)


class ServiceFeeResponse(serializers.Serializer[Invoice]):
    mode = serializers.ChoiceField(
        choices=[each.value for each in Invoice.FeeMode], source="fee_mode"
    )
    percent = serializers.DecimalField(
        max_digits=7, decimal_places=4, normalize_output=True, source="fee_percent"
    )
    fixed = serializers.IntegerField(source="fee_fixed", help_text=_MINOR_UNITS)


class CustomerResponse(serializers.Serializer[Invoice]):
    name = serializers.CharField(source="customer_name", allow_blank=True)
    email = serializers.CharField(source="customer_email", allow_blank=True)
    reference = serializers.CharField(source="customer_reference", allow_blank=True)
    address = serializers.CharField(source="customer_address", allow_blank=True)
    iban = serializers.CharField(source="customer_iban", allow_blank=True)
    account_number = serializers.CharField(source="customer_account_number", allow_blank=True)
    bic = serializers.CharField(source="customer_bic", allow_blank=True)
    country = serializers.CharField(source="customer_country", allow_blank=True)


class LineItemResponse(serializers.Serializer[Any]):
    position = serializers.IntegerField(help_text="From 1.")
    description = serializers.CharField()
    quantity = serializers.DecimalField(max_digits=18, decimal_places=6, normalize_output=True)
    unit_amount = serializers.IntegerField()
    tax_rate = serializers.DecimalField(
        max_digits=7, decimal_places=4, normalize_output=True, help_text="Percent."
    )
    subtotal_amount = serializers.IntegerField(
        help_text="quantity times unit_amount, rounded half up."
    )
    tax_amount = serializers.IntegerField(help_text="Of the subtotal, rounded half up.")


class InstallmentResponse(serializers.Serializer[Any]):
    number = serializers.IntegerField(help_text="From 1.")
    due_date = serializers.DateField()
    amount = serializers.IntegerField(help_text="What is asked for: subtotal + tax + service_fee.")
    subtotal = serializers.IntegerField(source="net_amount")
    tax = serializers.IntegerField(source="tax_amount")
    service_fee = serializers.IntegerField(source="service_fee_amount")
    total = serializers.IntegerField(source="amount", help_text="The same as `amount`.")
    amount_paid = serializers.IntegerField(source="paid_amount")
    amount_credited = serializers.IntegerField(
        source="credited_amount", help_text="By credit notes, before it was paid."
    )
    amount_due = serializers.SerializerMethodField()
    status = serializers.SerializerMethodField()
    payment_url = serializers.SerializerMethodField(help_text="Where this installment is paid.")

    def get_amount_due(self, installment: Installment) -> int:
        return 0 if _has_ended(installment.invoice) else installment.amount_due

    @extend_schema_field(serializers.ChoiceField(choices=Installment.Status.values))
    def get_status(self, installment: Installment) -> str:
        return _status(installment, self.context["now"]).value

    def get_payment_url(self, installment: Installment) -> str:
        return _page(installment.token)


class InstallmentList(serializers.Serializer[Any]):
    results = InstallmentResponse(many=True)


class InvoiceResponse(serializers.ModelSerializer[Invoice]):
    currency_code = serializers.CharField(source="currency")
    status = serializers.ChoiceField(choices=Invoice.Status.values)
    amount_paid = serializers.IntegerField(
        source="paid_amount", help_text="Of it: by gateways, by hand, from credit."
    )
    amount_due = serializers.IntegerField(help_text="What is still to be paid.")
    amount_credited = serializers.IntegerField(source="credited_amount", help_text="Credit notes.")
    amount_refunded = serializers.IntegerField(
        source="refunded_amount", help_text="Of what was paid, what went back."
    )
    amount_overpaid = serializers.IntegerField(
        source="overpaid_amount", help_text="Paid beyond it, and kept as the customer's credit."
    )
    service_fee = ServiceFeeResponse(source="*")
    payment_url = serializers.SerializerMethodField(
        help_text="The page where it is paid; the same for ever."
    )
    pdf_url = serializers.SerializerMethodField(help_text="Of this API.")
    line_items = serializers.SerializerMethodField()
    installment_schedule = serializers.SerializerMethodField(
        help_text="Empty where all of it is due at once."
    )
    is_overdue = serializers.SerializerMethodField()
    customer = CustomerResponse(source="*")
    gateway = serializers.SerializerMethodField()
    supplementary_ids = serializers.SerializerMethodField()
    attention = serializers.SerializerMethodField(
        help_text="Why somebody should look at it; null: nobody need."
    )
    metadata = MetadataField()

    class Meta:
        model = Invoice
        fields = (
            "id",
            "number",
            "status",
            "currency_code",
            "currency",
            "subtotal_amount",
            "total_tax_amount",
            "total_service_fee_amount",
            "total_amount",
            "amount_paid",
            "amount_due",
            "amount_credited",
            "amount_refunded",
            "amount_overpaid",
            "tax_rounding",
            "service_fee",
            "payment_url",
            "pdf_url",
            "line_items",
            "installment_schedule",
            "due_date",
            "is_overdue",
            "expires_at",
            "customer",
            "gateway",
            "settlement_account_id",
            "external_id",
            "parent_id",
            "supplementary_ids",
            "description",
            "locale",
            "metadata",
            "attention",
            "finalized_at",
            "sent_at",
            "paid_at",
            "voided_at",
            "created_at",
            "updated_at",
        )
        read_only_fields = fields

    def get_payment_url(self, invoice: Invoice) -> str:
        return _page(invoice.token)

    def get_pdf_url(self, invoice: Invoice) -> str:
        return f"{settings.PUBLIC_URL}/api/v1/invoices/{invoice.pk}/pdf"

    @extend_schema_field(LineItemResponse(many=True))
    def get_line_items(self, invoice: Invoice) -> Any:
        lines = sorted(invoice.line_items.all(), key=lambda line: line.position)
        return LineItemResponse(lines, many=True).data

    @extend_schema_field(InstallmentResponse(many=True))
    def get_installment_schedule(self, invoice: Invoice) -> Any:
        return shown_installments(invoice, self.context) if invoice.has_schedule else []

    def get_is_overdue(self, invoice: Invoice) -> bool:
        statuses = {_status(each, self.context["now"]) for each in invoice.installments.all()}
        return Installment.Status.OVERDUE in statuses

    def get_gateway(self, invoice: Invoice) -> str | None:
        return invoice.gateway or None

    @extend_schema_field(serializers.ListField(child=serializers.UUIDField()))
    def get_supplementary_ids(self, invoice: Invoice) -> list[str]:
        return sorted(str(each.pk) for each in invoice.supplements.all())

    def get_attention(self, invoice: Invoice) -> str | None:
        return invoice.attention or None


def shown_installments(invoice: Invoice, context: Any) -> Any:
    """Return the installments as they are shown, in order."""
    installments = sorted(invoice.installments.all(), key=lambda each: each.number)
    return InstallmentResponse(installments, many=True, context=context).data


def _status(installment: Installment, now: dt.datetime) -> Installment.Status:
    invoice = installment.invoice
    if _has_ended(invoice):
        return Installment.Status.CANCELLED
    # Nobody is late with what nobody was asked for.
    is_draft = invoice.status == Invoice.Status.DRAFT
    return installment.status_on(installment.due_date if is_draft else invoice.tenant.day_of(now))


def _has_ended(invoice: Invoice) -> bool:
    return invoice.status in (Invoice.Status.VOIDED, Invoice.Status.EXPIRED)


def _page(token: str) -> str:
    return f"{settings.PUBLIC_URL}/pay/{token}"
