"""Shapes of what is paid on invoices, credited and paid back. Units and limits, no rules."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api.fields import (
    AmountField,
    CardFreeTextField,
    DayField,
    StrictIntegerField,
    StrictRequest,
)
from invoices.models import Credit, CreditNote, CreditNoteRefund, CreditUse, Receipt
from invoices.services import INSTALLMENTS_MAX


class AdjustmentRequest(StrictRequest):
    number = StrictIntegerField(min_value=1, max_value=INSTALLMENTS_MAX)
    due_date = DayField(required=False, allow_null=True, default=None)
    amount = AmountField(required=False, allow_null=True, default=None, help_text="Minor units.")


class AdjustmentsRequest(StrictRequest):
    installments = serializers.ListField(
        child=AdjustmentRequest(), min_length=1, max_length=INSTALLMENTS_MAX
    )

    def validate_installments(self, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len({each["number"] for each in given}) < len(given):
            raise serializers.ValidationError("An installment is adjusted once.", code="invalid")
        return given


class OfflinePaymentRequest(StrictRequest):
    amount = AmountField(help_text="Minor units. What is too much is the customer's credit.")
    method = CardFreeTextField(max_length=40, help_text='Such as "cash" or "bank transfer".')
    received_on = serializers.DateField(
        required=False, allow_null=True, default=None, help_text="Left out: today."
    )
    reference = CardFreeTextField(required=False, allow_blank=True, max_length=140, default="")
    note = CardFreeTextField(required=False, allow_blank=True, max_length=500, default="")


class BackRequest(StrictRequest):
    amount = AmountField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Minor units. Left out: all that there is.",
    )
    reason = CardFreeTextField(max_length=500)


class ApplyCreditRequest(StrictRequest):
    amount = AmountField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Minor units. Left out: as much as there is and is due.",
    )


class AllocationResponse(serializers.Serializer[Any]):
    installment = serializers.IntegerField(help_text="Its number.")
    subtotal = serializers.IntegerField()
    tax = serializers.IntegerField()
    service_fee = serializers.IntegerField()


class ReceiptResponse(serializers.ModelSerializer[Receipt]):
    currency = serializers.CharField(source="invoice.currency")
    method = serializers.CharField(help_text="The gateway, credit, or how it came.")
    applied_amount = serializers.IntegerField(help_text="What the invoice had of it.")
    overpaid_amount = serializers.SerializerMethodField(
        help_text="The rest: the customer's credit."
    )
    reversed_amount = serializers.IntegerField(help_text="Charged back, of what was applied.")
    refunded_amount = serializers.IntegerField(help_text="Paid back, of what was applied.")
    allocations = serializers.SerializerMethodField(help_text="Where the applied amount went.")

    class Meta:
        model = Receipt
        fields = (
            "id",
            "invoice_id",
            "kind",
            "method",
            "amount",
            "currency",
            "applied_amount",
            "overpaid_amount",
            "reversed_amount",
            "refunded_amount",
            "allocations",
            "reference",
            "note",
            "received_on",
            "payment_id",
            "transaction_id",
            "created_at",
        )
        read_only_fields = fields

    def get_overpaid_amount(self, receipt: Receipt) -> int:
        return receipt.amount - receipt.applied_amount

    @extend_schema_field(AllocationResponse(many=True))
    def get_allocations(self, receipt: Receipt) -> list[dict[str, int]]:
        names = ("installment", "subtotal", "tax", "service_fee")
        return [dict(zip(names, parts, strict=True)) for parts in receipt.split]


class CreditNoteRefundResponse(serializers.ModelSerializer[CreditNoteRefund]):
    method = serializers.CharField(source="receipt.method", help_text="How the money had come.")
    status = serializers.ChoiceField(
        choices=CreditNoteRefund.Status.values,
        help_text="failed: the gateway would not, and the customer has it as credit.",
    )

    class Meta:
        model = CreditNoteRefund
        fields = ("amount", "status", "method")
        read_only_fields = fields


class CreditNoteResponse(serializers.ModelSerializer[CreditNote]):
    number = serializers.CharField()
    owed_amount = serializers.IntegerField(help_text="What was not paid yet, and is owed no more.")
    refund_amount = serializers.IntegerField(help_text="What goes back.")
    refunds = CreditNoteRefundResponse(many=True)

    class Meta:
        model = CreditNote
        fields = (
            "id",
            "number",
            "invoice_id",
            "amount",
            "net_amount",
            "tax_amount",
            "service_fee_amount",
            "owed_amount",
            "refund_amount",
            "currency",
            "reason",
            "refunds",
            "created_at",
        )
        read_only_fields = fields


class CreditUseResponse(serializers.ModelSerializer[CreditUse]):
    invoice_id = serializers.SerializerMethodField(help_text="Which it paid, if it was applied.")
    is_undone = serializers.BooleanField(help_text="The refund failed: it is credit again.")

    class Meta:
        model = CreditUse
        fields = ("kind", "amount", "invoice_id", "refund_id", "created_at", "is_undone")
        read_only_fields = fields

    @extend_schema_field(serializers.UUIDField(allow_null=True))
    def get_invoice_id(self, use: CreditUse) -> str | None:
        return None if use.receipt is None else str(use.receipt.invoice_id)


class CreditResponse(serializers.ModelSerializer[Credit]):
    remaining_amount = serializers.IntegerField()
    uses = serializers.SerializerMethodField()

    class Meta:
        model = Credit
        fields = ("id", "amount", "remaining_amount", "created_at", "uses")
        read_only_fields = fields

    @extend_schema_field(CreditUseResponse(many=True))
    def get_uses(self, credit: Credit) -> Any:
        return CreditUseResponse(sorted(credit.uses.all(), key=lambda use: use.pk), many=True).data


class OverpaymentResponse(serializers.Serializer[Any]):
    invoice_id = serializers.UUIDField()
    currency = serializers.CharField()
    overpaid_amount = serializers.IntegerField(help_text="The sum of the four that follow.")
    remaining_amount = serializers.IntegerField(help_text="Still the customer's credit.")
    applied_amount = serializers.IntegerField(help_text="Used for invoices.")
    refunded_amount = serializers.IntegerField(help_text="Paid back, or on its way.")
    taken_back_amount = serializers.IntegerField(help_text="Gone with a charge-back.")
    credits = CreditResponse(many=True)
