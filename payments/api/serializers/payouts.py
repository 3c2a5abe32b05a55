"""Shapes of payouts on the wire. Units and limits, no rules."""

from typing import Any

from rest_framework import serializers

from core.api.fields import (
    AmountField,
    CardFreeMetadataField,
    CardFreeTextField,
    CurrencyField,
    IdField,
    MetadataField,
    TextField,
)
from payments.models import Payout

PAYOUT_GATEWAYS = ["xendit", "sandbox", "bank_file"]


class BeneficiaryField(serializers.Serializer[Any]):
    name = CardFreeTextField(max_length=140)
    country = serializers.RegexField(r"^[A-Z]{2}\Z", help_text="ISO 3166-1 code.")
    iban = TextField(required=False, allow_blank=True, max_length=42, default="")
    account_number = TextField(
        required=False,
        allow_blank=True,
        max_length=34,
        default="",
        help_text="Where there is no IBAN.",
    )
    bank_code = serializers.RegexField(
        # A BIC, a routing number, a word: of 11 digits at most.
        r"^(?![0-9]{12})[A-Za-z0-9_]{0,35}\Z",
        required=False,
        allow_blank=True,
        default="",
        help_text="A BIC, or the gateway's own code of the bank, such as ID_BCA.",
    )
    town = CardFreeTextField(required=False, allow_blank=True, max_length=35, default="")


class PayoutRequest(serializers.Serializer[Any]):
    source_account_id = IdField()
    amount = AmountField()
    currency = CurrencyField()
    beneficiary = BeneficiaryField()
    gateway = serializers.ChoiceField(
        choices=PAYOUT_GATEWAYS,
        required=False,
        allow_null=True,
        default=None,
        help_text="Left out: by currency and priority. bank_file: in the next file for your bank.",
    )
    description = CardFreeTextField(
        required=False,
        allow_blank=True,
        max_length=140,
        default="",
        help_text="What the beneficiary reads.",
    )
    metadata = CardFreeMetadataField(required=False, default=dict)


class BeneficiaryResponse(serializers.Serializer[Any]):
    name = serializers.CharField()
    country = serializers.CharField()
    iban = serializers.CharField(allow_blank=True)
    account_number = serializers.CharField(allow_blank=True)
    bank_code = serializers.CharField(allow_blank=True)
    town = serializers.CharField(allow_blank=True)


class PayoutResponse(serializers.ModelSerializer[Payout]):
    gateway = serializers.CharField(source="configuration.gateway")
    beneficiary = serializers.SerializerMethodField()
    failure_code = serializers.SerializerMethodField()
    status = serializers.ChoiceField(
        choices=Payout.Status.choices,
        help_text="unknown: nobody knows yet what the gateway did; it is asked.",
    )
    metadata = MetadataField()

    class Meta:
        model = Payout
        fields = (
            "id",
            "source_account_id",
            "status",
            "amount",
            "currency",
            "beneficiary",
            "gateway",
            "reference",
            "description",
            "failure_code",
            "failure_detail",
            "transaction_id",
            "return_transaction_id",
            "metadata",
            "created_at",
            "updated_at",
        )
        read_only_fields = fields

    def get_beneficiary(self, payout: Payout) -> BeneficiaryResponse:
        shown: Any = {
            "name": payout.beneficiary_name,
            "country": payout.country,
            "iban": payout.iban,
            "account_number": payout.account_number,
            "bank_code": payout.bank_code,
            "town": payout.town,
        }
        return shown  # type: ignore[no-any-return]  # its annotation is for the document

    def get_failure_code(self, payout: Payout) -> str | None:
        return payout.failure_code or None
