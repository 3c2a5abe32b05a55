"""Fields that only invoices have: accounts, schedules, addresses."""

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers

from core.api.fields import AmountField, DayField, StrictIntegerField, StrictRequest, TextField
from core.iso20022.accounts import InvalidAccount, checked_bic, checked_iban
from invoices.services import INSTALLMENTS_MAX, EvenSchedule, Interval, NewInstallment


class EmailField(TextField):
    def to_internal_value(self, data: Any) -> str:
        address = super().to_internal_value(data)
        try:
            validate_email(address)
        except ValidationError as fault:
            raise serializers.ValidationError(fault.messages, code="invalid") from fault
        return address


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
    due_date = DayField()
    amount = AmountField(help_text="Minor units, with tax and fee in it.")


class EvenScheduleRequest(StrictRequest):
    count = StrictIntegerField(min_value=1, max_value=INSTALLMENTS_MAX)
    interval = serializers.ChoiceField(choices=[each.value for each in Interval])
    first_due_date = DayField(
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
