"""Shapes of money movements on the wire. Units and limits, no rules."""

from typing import Any

from rest_framework import serializers

from core.api.fields import (
    AmountField,
    CurrencyField,
    FieldErrorsField,
    IdField,
    ItemsField,
    MetadataField,
    TextField,
)
from core.idempotency import KEY_LENGTH_MAX
from ledger.services import BATCH_MAX

THROUGH = ["cash", "settlement"]
MODES = ["independent", "atomic"]


class _Movement(serializers.Serializer[Any]):
    amount = AmountField()
    currency = CurrencyField()
    description = TextField(required=False, allow_blank=True, max_length=500, default="")
    external_reference = TextField(
        required=False, allow_null=True, max_length=255, default=None, help_text="Your own."
    )
    value_date = serializers.DateField(
        required=False, allow_null=True, default=None, help_text="Left out: the day of booking."
    )
    metadata = MetadataField(required=False, default=dict)


class CashRequest(_Movement):
    account_id = IdField()
    through = serializers.ChoiceField(
        choices=THROUGH,
        required=False,
        default="cash",
        help_text="The account of yours that stands against it.",
    )


class AccountTransferRequest(_Movement):
    destination_account_id = IdField()


class TransferRequest(AccountTransferRequest):
    source_account_id = IdField()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        # Here too, and not only in the service: in a batch it concerns one item.
        if attrs["source_account_id"] == attrs["destination_account_id"]:
            raise serializers.ValidationError(
                {"destination_account_id": "Source and destination are the same account."}
            )
        return attrs


class BatchItem(TransferRequest):
    idempotency_key = serializers.RegexField(
        r"^[\x21-\x7e]+\Z",
        required=False,
        allow_null=True,
        max_length=KEY_LENGTH_MAX,
        default=None,
        help_text="Left out: one made of the batch's key and the index.",
    )


class BatchRequest(serializers.Serializer[Any]):
    mode = serializers.ChoiceField(
        choices=MODES,
        required=False,
        default="independent",
        help_text="independent: each alone. atomic: all or none.",
    )
    transfers = ItemsField(item=BatchItem, items_max=BATCH_MAX, help_text="1 to 10,000 transfers.")


class PostedEntry(serializers.Serializer[Any]):
    account_id = serializers.UUIDField()
    amount = serializers.IntegerField(help_text="Minor units; credit positive, debit negative.")
    direction = serializers.ChoiceField(choices=["credit", "debit"])
    balance_after = serializers.IntegerField(help_text="Minor units.")


class _Posted(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    type = serializers.CharField()
    status = serializers.ChoiceField(choices=["posted"])
    amount = serializers.IntegerField(help_text="Minor units.")
    currency = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    external_reference = serializers.CharField(allow_null=True)
    value_date = serializers.DateField()
    metadata = MetadataField()
    created_at = serializers.DateTimeField()


class CashResponse(_Posted):
    account_id = serializers.UUIDField()
    balance_after = serializers.IntegerField(help_text="Of the account, in minor units.")
    entries = PostedEntry(many=True)


class TransferResponse(_Posted):
    source_account_id = serializers.UUIDField()
    destination_account_id = serializers.UUIDField()
    source_balance_after = serializers.IntegerField(
        allow_null=True, help_text="Minor units; null for a customer who is the receiver only."
    )


class BatchResult(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    status = serializers.ChoiceField(choices=["posted", "refused"])
    id = serializers.UUIDField(required=False, help_text="Of the transfer, when posted.")
    code = serializers.CharField(required=False, help_text="Why it was refused.")
    detail = serializers.CharField(required=False)
    errors = FieldErrorsField(  # type: ignore[assignment]  # a field here, as in every problem
        required=False, help_text="As in a problem document."
    )


class BatchResponse(serializers.Serializer[Any]):
    posted = serializers.IntegerField()
    refused = serializers.IntegerField()
    results = BatchResult(many=True)
