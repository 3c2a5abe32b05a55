"""Serializer fields of the API's own types: amounts, currencies, metadata."""

from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.money import AMOUNT_MAX, EXPONENTS

METADATA_KEYS_MAX = 50
METADATA_KEY_LENGTH_MAX = 64
METADATA_VALUE_LENGTH_MAX = 500


class StrictIntegerField(serializers.IntegerField):
    """A JSON integer. "100", 100.0 and true are somebody's mistake, not an amount."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return data


class IdField(serializers.UUIDField):
    """A UUID as a string. DRF's own takes 7 for one as well."""

    def to_internal_value(self, data: Any) -> UUID:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return UUID(str(super().to_internal_value(data)))


class AmountField(StrictIntegerField):
    """A positive amount in minor units."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("min_value", 1)
        kwargs.setdefault("max_value", AMOUNT_MAX)
        kwargs.setdefault("help_text", "Minor units of `currency`.")
        super().__init__(**kwargs)


class CurrencyField(serializers.CharField):
    """An active ISO 4217 code, in capitals."""

    default_error_messages = {"unknown": "Not an active ISO 4217 currency code."}

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("min_length", 3)
        kwargs.setdefault("max_length", 3)
        kwargs.setdefault("help_text", "ISO 4217 code.")
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        code = super().to_internal_value(data)
        if code not in EXPONENTS:
            self.fail("unknown")
        return str(code)


class TextField(serializers.CharField):
    """A string of the caller's; PostgreSQL has no NUL character, and 123 is not a string."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": METADATA_VALUE_LENGTH_MAX},
        "maxProperties": METADATA_KEYS_MAX,
        "description": "Up to 50 string keys (64 characters) with string values (500 characters).",
    }
)
class MetadataField(serializers.Field):  # type: ignore[type-arg]
    default_error_messages = {
        "type": "Must be an object of strings.",
        "keys": f"At most {METADATA_KEYS_MAX} keys.",
        "key": f"A key has 1 to {METADATA_KEY_LENGTH_MAX} characters.",
        "value": f"A value is a string of at most {METADATA_VALUE_LENGTH_MAX} characters.",
        "nul": "The NUL character cannot be stored.",
    }

    def to_internal_value(self, data: Any) -> dict[str, str]:
        if not isinstance(data, dict):
            self.fail("type")
        if len(data) > METADATA_KEYS_MAX:
            self.fail("keys")
        for key, value in data.items():
            if not 1 <= len(key) <= METADATA_KEY_LENGTH_MAX:
                self.fail("key")
            if not isinstance(value, str) or len(value) > METADATA_VALUE_LENGTH_MAX:
                self.fail("value")
            if "\x00" in key or "\x00" in value:
                self.fail("nul")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field(OpenApiTypes.DATETIME)
class UtcDateTimeField(serializers.DateTimeField):
    """RFC 3339 with an offset. A time without one would be a guess."""

    default_error_messages = {"naive": "Give the offset, such as Z."}

    def enforce_timezone(self, value: Any) -> Any:
        if value.tzinfo is None:
            self.fail("naive")
        return super().enforce_timezone(value)
