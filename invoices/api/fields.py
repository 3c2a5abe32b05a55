"""Fields that only invoices have: decimals, due dates, accounts, schedules, texts on documents."""

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers

from core.api.fields import AmountField, MetadataField, StrictIntegerField, TextField
from core.iso20022.accounts import InvalidAccount, checked_bic, checked_iban
from core.redaction import without_card_numbers
from invoices.services import INSTALLMENTS_MAX, EvenSchedule, Interval, NewInstallment

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


class EmailField(TextField):
    def to_internal_value(self, data: Any) -> str:
        address = super().to_internal_value(data)
        try:
            validate_email(address)
        except ValidationError as fault:
            raise serializers.ValidationError(fault.messages, code="invalid") from fault
        return address


class ExactDecimalField(serializers.DecimalField):
    """A decimal, as a JSON number or as text, and either way exactly what is written."""

    def to_internal_value(self, data: Any) -> Decimal:
        is_number = type(data) in (int, Decimal)
        if not is_number and not (isinstance(data, str) and _PLAIN.fullmatch(data)):
            self.fail("invalid")
        # There is no "-0".
        return super().to_internal_value(data) or Decimal(0)


class ExactDecimalFieldExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = "invoices.api.fields.ExactDecimalField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        field = self.target
        before = field.max_digits - field.decimal_places
        number: dict[str, Any] = {"type": "number"}
        if field.min_value:
            number["exclusiveMinimum"] = 0
        else:
            number["minimum"] = 0
        if field.max_value is not None:
            number["maximum"] = int(field.max_value)
        pattern = rf"^[0-9]{{1,{before}}}(\.[0-9]{{1,{field.decimal_places}}})?$"
        return {"anyOf": [number, {"type": "string", "pattern": pattern}]}


def percent_field(**kwargs: Any) -> ExactDecimalField:
    return ExactDecimalField(
        max_digits=7, decimal_places=4, min_value=Decimal(0), max_value=Decimal(100), **kwargs
    )


class DueDateField(serializers.DateField):
    default_error_messages = {"too_late": f"After {DATE_MAX}."}

    def to_internal_value(self, value: Any) -> dt.date:
        date: dt.date = super().to_internal_value(value)
        if date > DATE_MAX:
            self.fail("too_late")
        return date


class _AccountField(TextField):
    check: Callable[[str], str]

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        try:
            return type(self).check(text) if text else ""
        except InvalidAccount as fault:
            raise serializers.ValidationError(str(fault), code="invalid") from fault


class IbanField(_AccountField):
    check = staticmethod(checked_iban)


class BicField(_AccountField):
    check = staticmethod(checked_bic)


class InstallmentRequest(StrictRequest):
    due_date = DueDateField()
    amount = AmountField(help_text="Minor units, with tax and fee in it.")


class EvenScheduleRequest(StrictRequest):
    count = StrictIntegerField(min_value=1, max_value=INSTALLMENTS_MAX)
    interval = serializers.ChoiceField(choices=[each.value for each in Interval])
    first_due_date = DueDateField(
        required=False, allow_null=True, default=None, help_text="Left out: `due_date`."
    )


class ScheduleField(serializers.Field):  # type: ignore[type-arg]
    """Installments: a list of dates and amounts, or how many at which interval."""

    default_error_messages = {
        "invalid": "A list of installments, or an object with count and interval."
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.given = serializers.ListField(
            child=InstallmentRequest(), min_length=1, max_length=INSTALLMENTS_MAX
        )
        self.even = EvenScheduleRequest()

    def to_internal_value(self, data: Any) -> EvenSchedule | list[NewInstallment]:
        if isinstance(data, list):
            return [NewInstallment(**each) for each in self.given.run_validation(data)]
        if not isinstance(data, dict):
            self.fail("invalid")
        even = self.even.run_validation(data)
        return EvenSchedule(even["count"], Interval(even["interval"]), even["first_due_date"])

    def to_representation(self, value: Any) -> Any:
        raise TypeError("invoices show installments, not what was asked for")


class ScheduleFieldExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = "invoices.api.fields.ScheduleField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        given = auto_schema.resolve_serializer(InstallmentRequest, direction)
        even = auto_schema.resolve_serializer(EvenScheduleRequest, direction)
        return {
            "oneOf": [
                {
                    "type": "array",
                    "items": given.ref,
                    "minItems": 1,
                    "maxItems": INSTALLMENTS_MAX,
                },
                even.ref,
            ]
        }
