"""Shapes of gateways on the wire. Secrets go in and never come out."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api.fields import CurrencyField, StrictBooleanField, StrictIntegerField, TextField
from payments.api.serializers.topups import GATEWAYS
from payments.gateways.registry import notify_url
from payments.models import GatewayConfiguration

PRIORITY_MAX = 32_767
_NAMES_MAX = 10
_SECRET_LENGTH_MAX = 500


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": _SECRET_LENGTH_MAX},
        "maxProperties": _NAMES_MAX,
        "writeOnly": True,
        "description": (
            "xendit: secret_key. midtrans: server_key. sandbox: secret_key. bank_file: debtor_name,"
            " debtor_account, debtor_country; debtor_bic and debtor_town if you like."
        ),
    }
)
class CredentialsField(serializers.Field):  # type: ignore[type-arg]
    def to_internal_value(self, data: Any) -> dict[str, str]:
        is_flat = isinstance(data, dict) and all(
            isinstance(name, str)
            and isinstance(value, str)
            and len(value) <= _SECRET_LENGTH_MAX
            and "\x00" not in name + value
            # It becomes a header.
            and ((value.isascii() and value.isprintable()) or name.startswith("debtor_"))
            for name, value in data.items()
        )
        if not is_flat or len(data) > _NAMES_MAX:
            raise serializers.ValidationError("An object of names and texts.", code="invalid")
        given: dict[str, str] = data
        return given

    def to_representation(self, value: Any) -> Any:
        raise TypeError("credentials are never shown")


class _Changeable(serializers.Serializer[Any]):
    name = TextField(required=False, allow_blank=True, max_length=100)
    currencies = serializers.ListField(
        child=CurrencyField(), required=False, allow_empty=False, max_length=50
    )
    priority = StrictIntegerField(
        required=False, min_value=0, max_value=PRIORITY_MAX, help_text="The lowest goes first."
    )
    is_enabled = StrictBooleanField(required=False)
    credentials = CredentialsField(required=False, write_only=True)
    webhook_secret = serializers.RegexField(
        r"^[\x21-\x7e]{8,255}\Z",
        required=False,
        write_only=True,
        help_text="xendit: its callback token. The one before is taken for a day more.",
    )


class ChangeGatewayRequest(_Changeable):
    pass


class NewGatewayRequest(_Changeable):
    gateway = serializers.ChoiceField(choices=GATEWAYS)
    mode = serializers.ChoiceField(choices=GatewayConfiguration.Mode.choices)
    currencies = serializers.ListField(child=CurrencyField(), allow_empty=False, max_length=50)
    credentials = CredentialsField(write_only=True)


class GatewayResponse(serializers.ModelSerializer[GatewayConfiguration]):
    webhook_url = serializers.SerializerMethodField(
        help_text="To be entered at the gateway; null where it calls nobody."
    )
    currencies = serializers.ListField(child=serializers.CharField())
    has_webhook_secret = serializers.SerializerMethodField()

    class Meta:
        model = GatewayConfiguration
        fields = (
            "id",
            "gateway",
            "mode",
            "name",
            "currencies",
            "priority",
            "is_enabled",
            "credential_hint",
            "has_webhook_secret",
            "webhook_url",
            "created_at",
            "updated_at",
        )
        read_only_fields = fields

    def get_webhook_url(self, configuration: GatewayConfiguration) -> str | None:
        if configuration.gateway == GatewayConfiguration.Gateway.BANK_FILE:
            return None
        return notify_url(configuration)

    def get_has_webhook_secret(self, configuration: GatewayConfiguration) -> bool:
        return configuration.webhook_secret is not None
