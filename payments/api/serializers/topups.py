"""Shapes of top-ups and refunds on the wire. Units and limits, no rules."""

import re
from typing import Any

from rest_framework import serializers

from core.api.fields import (
    AmountField,
    CardFreeMetadataField,
    CardFreeTextField,
    CurrencyField,
    MetadataField,
    StrictIntegerField,
    TextField,
)
from core.redaction import without_card_numbers
from payments.models import GatewayConfiguration, Payment, Refund

GATEWAYS = [gateway.value for gateway in GatewayConfiguration.Gateway]
PAYMENT_GATEWAYS = ["xendit", "midtrans", "sandbox"]
METHODS = ["token", "card", "hosted"]
# What a caller reads; the states in between are ours.
STATUSES = {
    Payment.Status.CREATED: "pending",
    Payment.Status.PENDING: "pending",
    Payment.Status.UNKNOWN: "unknown",
    Payment.Status.PAID: "deposit_pending",
    Payment.Status.DEPOSIT_PENDING: "deposit_pending",
    Payment.Status.DEPOSITED: "succeeded",
    Payment.Status.FAILED: "failed",
    Payment.Status.EXPIRED: "expired",
    Payment.Status.REFUNDING: "refunding",
    Payment.Status.REFUNDED: "refunded",
    Payment.Status.REVERSED: "reversed",
}
TOPUP_STATUSES = list(dict.fromkeys(STATUSES.values()))
_NO_CARDS = "A card number does not belong here."


class TokenField(TextField):
    """A gateway's token; they hold digits too, but are never a card's number and nothing else."""

    def to_internal_value(self, data: Any) -> str:
        token = super().to_internal_value(data)
        if not re.search("[^0-9 -]", token):
            raise serializers.ValidationError(_NO_CARDS, code="card_number")
        return token


class CardFreeURLField(serializers.URLField):
    def to_internal_value(self, data: Any) -> str:
        url = str(super().to_internal_value(data))
        if without_card_numbers(url) != url:
            raise serializers.ValidationError(_NO_CARDS, code="card_number")
        return url


class PaymentMethod(serializers.Serializer[Any]):
    type = serializers.ChoiceField(
        choices=METHODS,
        required=False,
        help_text=(
            "token: of the gateway's own script. card: a test card, sandbox only. hosted: the payer"
            " chooses on a page of the gateway. Left out: token."
        ),
    )
    token = TokenField(required=False, max_length=255, write_only=True)
    number = serializers.RegexField(
        r"^[0-9]{12,19}\Z", required=False, write_only=True, help_text="Of a test card."
    )
    exp_month = StrictIntegerField(required=False, min_value=1, max_value=12, write_only=True)
    exp_year = StrictIntegerField(required=False, min_value=2000, max_value=2100, write_only=True)
    cvc = serializers.RegexField(r"^[0-9]{3,4}\Z", required=False, write_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        type_ = attrs.setdefault("type", "token" if "number" not in attrs else "card")
        needed = {
            "token": {"token"},
            "card": {"number", "exp_month", "exp_year", "cvc"},
            "hosted": set(),
        }[type_]
        missing = sorted(needed - set(attrs))
        if missing:
            raise serializers.ValidationError(
                {missing[0]: f"A payment method of type {type_} has one."}, code="required"
            )
        extra = sorted(set(attrs) - needed - {"type"})
        if extra:
            raise serializers.ValidationError(
                {extra[0]: f"A payment method of type {type_} has none."}, code="invalid"
            )
        return attrs


class TopUpRequest(serializers.Serializer[Any]):
    amount = AmountField()
    currency = CurrencyField()
    gateway = serializers.ChoiceField(
        choices=PAYMENT_GATEWAYS,
        required=False,
        allow_null=True,
        default=None,
        help_text="Left out: by currency and priority.",
    )
    payment_method = PaymentMethod()
    description = CardFreeTextField(required=False, allow_blank=True, max_length=500, default="")
    return_url = CardFreeURLField(
        required=False,
        allow_blank=True,
        max_length=500,
        default="",
        help_text="Where the payer's browser comes back to.",
    )
    metadata = CardFreeMetadataField(required=False, default=dict)


class TopUpResponse(serializers.ModelSerializer[Payment]):
    status = serializers.SerializerMethodField(
        help_text=(
            "unknown: nobody knows yet what the gateway did; it is asked. deposit_pending: paid,"
            " and not yet in the account."
        )
    )
    gateway = serializers.CharField(source="configuration.gateway")
    redirect_url = serializers.SerializerMethodField(
        help_text="Where the payer goes on; null: nowhere."
    )
    failure_code = serializers.SerializerMethodField()
    metadata = MetadataField()

    class Meta:
        model = Payment
        fields = (
            "id",
            "account_id",
            "status",
            "amount",
            "currency",
            "gateway",
            "method",
            "card_last4",
            "reference",
            "description",
            "redirect_url",
            "expires_at",
            "failure_code",
            "failure_detail",
            "refunded_amount",
            "transaction_id",
            "metadata",
            "created_at",
            "updated_at",
        )
        read_only_fields = fields

    def get_status(self, payment: Payment) -> str:
        return STATUSES[Payment.Status(payment.status)]

    def get_redirect_url(self, payment: Payment) -> str | None:
        is_open = payment.status == Payment.Status.PENDING
        return payment.redirect_url if is_open and payment.redirect_url else None

    def get_failure_code(self, payment: Payment) -> str | None:
        return payment.failure_code or payment.deposit_refusal or None


class RefundRequest(serializers.Serializer[Any]):
    amount = AmountField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Minor units. Left out: all that is left.",
    )
    reason = CardFreeTextField(max_length=500)


class RefundResponse(serializers.ModelSerializer[Refund]):
    topup_id = serializers.UUIDField(source="payment_id")
    status = serializers.ChoiceField(choices=["pending", "unknown", "succeeded", "failed"])
    failure_code = serializers.SerializerMethodField()

    class Meta:
        model = Refund
        fields = (
            "id",
            "topup_id",
            "status",
            "amount",
            "currency",
            "reason",
            "reference",
            "failure_code",
            "transaction_id",
            "created_at",
            "updated_at",
        )
        read_only_fields = fields

    def to_representation(self, refund: Refund) -> dict[str, Any]:
        shown = super().to_representation(refund)
        # Debited here, and not yet heard of there.
        shown["status"] = "pending" if shown["status"] == "created" else shown["status"]
        return shown

    def get_failure_code(self, refund: Refund) -> str | None:
        return refund.failure_code or None


class RefundList(serializers.Serializer[Any]):
    results = RefundResponse(many=True)
