"""Shapes of the ledger on the wire. Units and limits, no rules."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api.fields import (
    AmountField,
    CurrencyField,
    IdField,
    MetadataField,
    StrictIntegerField,
    TextField,
    UtcDateTimeField,
)
from core.money import AMOUNT_MAX
from ledger.api.filters import KINDS, kind_of
from ledger.models import Entry, Hold, Transaction
from ledger.services import LEGS_MAX

_SIGNED = "Minor units; credit positive, debit negative."


class LegRequest(serializers.Serializer[Any]):
    account_id = IdField()
    amount = StrictIntegerField(min_value=-AMOUNT_MAX, max_value=AMOUNT_MAX, help_text=_SIGNED)


class JournalRequest(serializers.Serializer[Any]):
    entries = serializers.ListField(child=LegRequest(), min_length=2, max_length=LEGS_MAX)
    currency = CurrencyField()
    description = TextField(required=False, allow_blank=True, max_length=500, default="")
    external_reference = TextField(required=False, allow_null=True, max_length=255, default=None)
    value_date = serializers.DateField(required=False, allow_null=True, default=None)
    metadata = MetadataField(required=False, default=dict)


class ReverseRequest(serializers.Serializer[Any]):
    reason = TextField(max_length=500)


class PlaceHoldRequest(serializers.Serializer[Any]):
    account_id = IdField()
    amount = AmountField()
    currency = CurrencyField()
    expires_at = UtcDateTimeField(required=False, allow_null=True, default=None)
    description = TextField(required=False, allow_blank=True, max_length=500, default="")
    metadata = MetadataField(required=False, default=dict)


class CaptureHoldRequest(serializers.Serializer[Any]):
    destination_account_id = IdField()
    amount = AmountField(
        required=False, allow_null=True, default=None, help_text="Minor units; left out: all."
    )
    description = TextField(required=False, allow_blank=True, max_length=500, default="")


class TransactionEntry(serializers.ModelSerializer[Entry]):
    account_id = serializers.UUIDField()
    direction = serializers.ChoiceField(choices=["credit", "debit"])

    class Meta:
        model = Entry
        fields = ["account_id", "sequence", "amount", "direction", "balance_after"]
        read_only_fields = fields
        extra_kwargs = {"amount": {"help_text": _SIGNED}}


class TransactionSummary(serializers.ModelSerializer[Transaction]):
    status = serializers.SerializerMethodField()
    reverses = serializers.UUIDField(
        source="reverses_id", allow_null=True, help_text="The transaction that this one undoes."
    )
    metadata = MetadataField()

    class Meta:
        model = Transaction
        fields = [
            "id",
            "type",
            "status",
            "currency",
            "amount",
            "description",
            "external_reference",
            "value_date",
            "reverses",
            "metadata",
            "created_at",
        ]
        read_only_fields = fields
        extra_kwargs = {"amount": {"help_text": "Sum of the credits, in minor units."}}

    @extend_schema_field({"type": "string", "enum": ["posted"]})
    def get_status(self, _transaction: Transaction) -> str:
        return "posted"


class TransactionResponse(TransactionSummary):
    reversed_by = serializers.UUIDField(allow_null=True, help_text="The reversal, if there is one.")
    entries = TransactionEntry(many=True)

    class Meta(TransactionSummary.Meta):
        fields = [*TransactionSummary.Meta.fields, "reversed_by", "entries"]
        read_only_fields = fields


class EntryResponse(serializers.ModelSerializer[Entry]):
    direction = serializers.ChoiceField(choices=["credit", "debit"])
    transaction_id = serializers.UUIDField()
    type = serializers.ChoiceField(choices=Transaction.Type.choices, source="transaction.type")
    description = serializers.CharField(source="transaction.description")
    external_reference = serializers.CharField(
        source="transaction.external_reference", allow_null=True
    )
    counterparty_account_id = serializers.SerializerMethodField(
        help_text="The other account; null where there are many."
    )
    value_date = serializers.DateField(source="transaction.value_date")

    class Meta:
        model = Entry
        fields = [
            "sequence",
            "amount",
            "direction",
            "currency",
            "balance_after",
            "transaction_id",
            "type",
            "description",
            "external_reference",
            "counterparty_account_id",
            "created_at",
            "value_date",
        ]
        read_only_fields = fields
        extra_kwargs = {"amount": {"help_text": _SIGNED}}

    @extend_schema_field({"type": ["string", "null"], "format": "uuid"})
    def get_counterparty_account_id(self, entry: Entry) -> str | None:
        other = self.context["counterparties"].get(entry.transaction_id)
        return None if other is None else str(other)


class OperationResponse(EntryResponse):
    id = serializers.UUIDField(source="transaction_id", help_text="The transaction.")
    kind = serializers.SerializerMethodField()
    amount = serializers.SerializerMethodField(help_text="Minor units, without sign.")
    status = serializers.SerializerMethodField()

    class Meta(EntryResponse.Meta):
        fields = [
            "id",
            "kind",
            "status",
            "direction",
            "amount",
            "currency",
            "balance_after",
            "description",
            "external_reference",
            "counterparty_account_id",
            "sequence",
            "created_at",
            "value_date",
        ]
        read_only_fields = fields
        extra_kwargs = {}

    @extend_schema_field({"type": "string", "enum": KINDS})
    def get_kind(self, entry: Entry) -> str:
        return kind_of(entry)

    @extend_schema_field(OpenApiTypes.INT64)
    def get_amount(self, entry: Entry) -> int:
        return abs(entry.amount)

    @extend_schema_field({"type": "string", "enum": ["posted"]})
    def get_status(self, _entry: Entry) -> str:
        return "posted"


class BalanceResponse(serializers.Serializer[Any]):
    account_id = serializers.UUIDField()
    currency = serializers.CharField()
    balance = serializers.IntegerField(help_text="Minor units.")
    held = serializers.IntegerField(help_text="Minor units on hold.")
    available = serializers.IntegerField(
        allow_null=True, help_text="balance - held + overdraft limit of today; null: no limit."
    )
    as_of = serializers.DateTimeField()


class StatementResponse(serializers.Serializer[Any]):
    account_id = serializers.UUIDField(source="account.pk")
    currency = serializers.CharField(source="account.currency")
    start = serializers.DateTimeField(help_text="`from`: belongs to the period.")
    end = serializers.DateTimeField(help_text="`to`: does not belong to it.")
    opening_balance = serializers.IntegerField(help_text="Minor units.")
    closing_balance = serializers.IntegerField(help_text="Minor units.")
    total_credits = serializers.IntegerField(help_text="Minor units.")
    total_debits = serializers.IntegerField(help_text="Minor units, without sign.")
    lines = EntryResponse(many=True)

    def get_fields(self) -> dict[str, Any]:
        # `from` is a word of Python's own.
        names = {"start": "from", "end": "to"}
        fields = super().get_fields()
        renamed: dict[str, Any] = {}
        for name, field in fields.items():
            if name in names:
                field.source = name
            renamed[names.get(name, name)] = field
        return renamed


class HoldResponse(serializers.ModelSerializer[Hold]):
    account_id = serializers.UUIDField()
    transaction_id = serializers.UUIDField(allow_null=True, help_text="What captured it.")
    metadata = MetadataField()

    class Meta:
        model = Hold
        fields = [
            "id",
            "status",
            "account_id",
            "amount",
            "currency",
            "captured_amount",
            "transaction_id",
            "description",
            "expires_at",
            "closed_at",
            "metadata",
            "created_at",
        ]
        read_only_fields = fields
        extra_kwargs = {"amount": {"help_text": "Minor units."}}


class TrialBalanceAccount(serializers.Serializer[Any]):
    type = serializers.CharField()
    role = serializers.CharField(allow_null=True)
    debits = serializers.IntegerField()
    credits = serializers.IntegerField()


class TrialBalanceCurrency(serializers.Serializer[Any]):
    currency = serializers.CharField()
    debits = serializers.IntegerField(help_text="Minor units.")
    credits = serializers.IntegerField(help_text="Minor units.")
    difference = serializers.IntegerField(help_text="Always 0.")
    accounts = TrialBalanceAccount(many=True)


class TrialBalanceResponse(serializers.Serializer[Any]):
    as_of = serializers.DateTimeField()
    currency = serializers.CharField(allow_null=True, help_text="The one asked for.")
    debits = serializers.IntegerField(allow_null=True, help_text="Null over several currencies.")
    credits = serializers.IntegerField(allow_null=True, help_text="Null over several currencies.")
    difference = serializers.IntegerField(help_text="Always 0.")
    currencies = TrialBalanceCurrency(many=True)
