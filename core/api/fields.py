"""
Serializer fields of the API's own types: amounts, decimals, days, currencies, texts, metadata,
batches; and bodies without unknown fields.
"""

import datetime as dt
import re
from decimal import Decimal
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api.schema import FIELD_ERRORS
from core.metadata import KEY_LENGTH_MAX, KEYS_MAX, VALUE_LENGTH_MAX, metadata_fault
from core.money import AMOUNT_MAX, EXPONENTS
from core.redaction import without_card_numbers

# Beyond it a date is somebody's mistake, and further on there are no dates at all.
DATE_MAX = dt.date(2999, 12, 31)
_PLAIN = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?")
_NO_CARDS = "A card number does not belong here."


class StrictRequest(serializers.Serializer[Any]):
    """A body without unknown fields: a mistyped `tax_rate` is not an invoice without tax."""

    default_error_messages = {"unknown": "There is no such field here."}

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = sorted(set(data) - set(self.fields))
            if unknown:
                message = self.error_messages["unknown"]
                raise serializers.ValidationError({unknown[0]: [message]}, code="unknown")
        return super().to_internal_value(data)


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


class CardFreeTextField(TextField):
    """A text for people. A card number that strays into it is refused, not stored."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if without_card_numbers(text) != text:
            raise serializers.ValidationError(_NO_CARDS, code="card_number")
        return text


class CardFreeMetadataField(MetadataField):
    def to_internal_value(self, data: Any) -> dict[str, str]:
        metadata = super().to_internal_value(data)
        if any(without_card_numbers(text) != text for text in (*metadata, *metadata.values())):
            raise serializers.ValidationError(_NO_CARDS, code="card_number")
        return metadata


class ExactDecimalField(serializers.DecimalField):
    """A decimal, as a JSON number or as text, and either way exactly what is written."""

    def to_internal_value(self, data: Any) -> Decimal:
        is_number = type(data) in (int, Decimal)
        if not is_number and not (isinstance(data, str) and _PLAIN.fullmatch(data)):
            self.fail("invalid")
        # There is no "-0".
        return super().to_internal_value(data) or Decimal(0)


def percent_field(**kwargs: Any) -> ExactDecimalField:
    return ExactDecimalField(
        max_digits=7, decimal_places=4, min_value=Decimal(0), max_value=Decimal(100), **kwargs
    )


class DayField(serializers.DateField):
    """A date that can be meant."""

    default_error_messages = {"too_late": f"After {DATE_MAX}."}

    def to_internal_value(self, value: Any) -> dt.date:
        date: dt.date = super().to_internal_value(value)
        if date > DATE_MAX:
            self.fail("too_late")
        return date


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
