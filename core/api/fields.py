"""Serializer fields of the API's own types: amounts, currencies, texts, metadata, batches."""

from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api.schema import FIELD_ERRORS
from core.metadata import KEY_LENGTH_MAX, KEYS_MAX, VALUE_LENGTH_MAX, metadata_fault
from core.money import AMOUNT_MAX, EXPONENTS


class StrictIntegerField(serializers.IntegerField):
    """A JSON integer. "100", 100.0 and true are somebody's mistake, not an amount."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return data


class StrictBooleanField(serializers.BooleanField):
    """true or false. 1, "yes" and "off" are somebody's mistake."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
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


# The pattern is what JSON Schema can say of it; which three letters, the format names.
CURRENCY = {
    "type": "string",
    "format": "iso-4217",
    "pattern": "^[A-Z]{3}$",
    "description": "ISO 4217 code.",
}


@extend_schema_field(CURRENCY)
class CurrencyField(serializers.CharField):
    """An active ISO 4217 code, in capitals."""

    default_error_messages = {"unknown": "Not an active ISO 4217 currency code."}

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("min_length", 3)
        kwargs.setdefault("max_length", 3)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        code = super().to_internal_value(data)
        if code not in EXPONENTS:
            self.fail("unknown")
        return str(code)


class TextField(serializers.CharField):
    """A string of the caller's; PostgreSQL has no NUL character, and 123 is not a string."""

    def __init__(self, **kwargs: Any) -> None:
        if not kwargs.get("allow_blank"):
            kwargs.setdefault("min_length", 1)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": VALUE_LENGTH_MAX},
        "propertyNames": {"minLength": 1, "maxLength": KEY_LENGTH_MAX},
        "maxProperties": KEYS_MAX,
        "description": "Up to 50 string keys (64 characters) with string values (500 characters).",
    }
)
class MetadataField(serializers.Field):  # type: ignore[type-arg]
    def to_internal_value(self, data: Any) -> dict[str, str]:
        fault = metadata_fault(data)
        if fault is not None:
            raise serializers.ValidationError(fault, code="invalid")
        accepted: dict[str, str] = data
        return accepted

    def to_representation(self, value: Any) -> Any:
        return value


class ItemsField(serializers.ListField):
    """
    The items of a batch, each of which succeeds or fails alone.

    Here they are objects; the view validates each by `item`, and says `items_max` in its own words.
    """

    def __init__(
        self, *, item: type[serializers.Serializer[Any]], items_max: int, **kwargs: Any
    ) -> None:
        super().__init__(child=serializers.DictField(), allow_empty=False, **kwargs)
        self.item, self.items_max = item, items_max


@extend_schema_field(FIELD_ERRORS)
class FieldErrorsField(serializers.ListField):
    """The `errors` of a problem document."""


@extend_schema_field(OpenApiTypes.DATETIME)
class UtcDateTimeField(serializers.DateTimeField):
    """RFC 3339 with an offset. A time without one would be a guess."""

    default_error_messages = {"naive": "Give the offset, such as Z."}

    def enforce_timezone(self, value: Any) -> Any:
        if value.tzinfo is None:
            self.fail("naive")
        return super().enforce_timezone(value)
