"""Shapes of accounts on the wire. Units and limits, no rules."""

from typing import Any

from rest_framework import serializers

from accounts.models import Account
from accounts.services import BATCH_MAX
from core.api.fields import (
    CurrencyField,
    FieldErrorsField,
    IdField,
    ItemsField,
    MetadataField,
    StrictIntegerField,
    TextField,
)
from core.money import BALANCE_MAX

CUSTOMER_TYPES = [Account.Type.CHECKING, Account.Type.SAVING]


class OverdraftLimitField(StrictIntegerField):
    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("min_value", 0)
        kwargs.setdefault("max_value", BALANCE_MAX)
        kwargs.setdefault("help_text", "Minor units below zero that may be used.")
        super().__init__(**kwargs)


class OpenAccountRequest(serializers.Serializer[Any]):
    type = serializers.ChoiceField(choices=CUSTOMER_TYPES)
    currency = CurrencyField()
    owner_id = IdField(
        required=False,
        allow_null=True,
        default=None,
        help_text="A user here, or a person in your own system.",
    )
    name = TextField(required=False, allow_blank=True, max_length=200, default="")
    external_id = TextField(
        required=False, allow_null=True, max_length=200, default=None, help_text="Unique for you."
    )
    overdraft_limit = OverdraftLimitField(required=False, default=0)
    metadata = MetadataField(required=False, default=dict)


class OpenAccountsRequest(serializers.Serializer[Any]):
    accounts = ItemsField(
        item=OpenAccountRequest, items_max=BATCH_MAX, help_text="1 to 10,000 accounts."
    )


class ChangeAccountRequest(serializers.Serializer[Any]):
    name = TextField(required=False, allow_blank=True, max_length=200)
    metadata = MetadataField(required=False)
    overdraft_limit = OverdraftLimitField(required=False)


class ReasonRequest(serializers.Serializer[Any]):
    reason = TextField(max_length=500)


class AccountResponse(serializers.ModelSerializer[Account]):
    balance = serializers.IntegerField(help_text="Minor units.")
    held = serializers.IntegerField(help_text="Minor units on hold.")
    available = serializers.IntegerField(
        allow_null=True,
        help_text="balance - held + overdraft_limit; null: no limit (internal accounts).",
    )
    metadata = MetadataField()

    class Meta:
        model = Account
        fields = [
            "id",
            "type",
            "role",
            "currency",
            "status",
            "name",
            "owner_id",
            "external_id",
            "balance",
            "held",
            "available",
            "overdraft_limit",
            "debit_locked_until",
            "metadata",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields


class NotOpened(serializers.Serializer[Any]):
    """Why an account of a batch was not opened, as in a problem document."""

    code = serializers.CharField()
    detail = serializers.CharField()
    errors = FieldErrorsField()  # type: ignore[assignment]  # a field here, as in every problem


class OpenedAccount(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    id = serializers.UUIDField(required=False)
    error = NotOpened(required=False)


class OpenAccountsResponse(serializers.Serializer[Any]):
    created = serializers.IntegerField()
    results = OpenedAccount(many=True)
