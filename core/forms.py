"""Fields and forms that pages of the back office share: amounts, keys, texts without cards."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone

from core.admin import REASON_LENGTH_MAX, ReasonForm
from core.database import repeating
from core.errors import IdempotencyConflict, InvalidState
from core.idempotency import once
from core.ids import new_id
from core.money import AMOUNT_MAX, Money, exponent, format_money
from core.redaction import without_card_numbers

# Of an address, in the database; Django's own field takes longer ones.
EMAIL_LENGTH_MAX = 254
# Somebody's mistake; and calendars end soon after.
YEAR_MAX = 2999


class CardFreeField(forms.CharField):
    """A text for people. A card number that strays into it is refused, not stored."""

    def clean(self, value: Any) -> str:
        text: str = super().clean(value)
        if without_card_numbers(text) != text:
            raise ValidationError("A card number does not belong here.")
        return text


class DayField(forms.DateField):
    def __init__(self, **more: Any) -> None:
        widget = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
        super().__init__(widget=widget, **more)

    def clean(self, value: Any) -> dt.date | None:
        day: dt.date | None = super().clean(value)
        if day is not None and day.year > YEAR_MAX:
            raise ValidationError("That day is too far away.")
        return day


class WithReason(ReasonForm):
    reason = CardFreeField(
        max_length=REASON_LENGTH_MAX,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Kept with the change.",
    )


class Keyed(forms.Form):
    # Made when the form is shown: however often it is sent, it happens once.
    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, data: Any, *, initial: dict[str, Any] | None = None, **more: Any) -> None:
        super().__init__(data, initial={"key": new_id(), **(initial or {})}, **more)


def idempotency_key(request: HttpRequest, cleaned: dict[str, Any]) -> str:
    """Return the key of what the form is to do: it names who did it, and is nobody else's."""
    return f"back-office:{request.user.pk}:{cleaned['key']}"


def asked_by(request: HttpRequest) -> str:
    return f"user:{request.user.pk}"


def made_once(
    *,
    request: HttpRequest,
    cleaned: dict[str, Any],
    tenant_id: UUID,
    asked: bytes,
    what: str,
    make: Callable[[dt.datetime], Any],
) -> tuple[str, bool]:
    """
    Make an object once for each form that was shown; return its id, and whether it was made before.

    :raises InvalidState: the form made another one already
    """
    now = timezone.now()

    def effect() -> tuple[int, Any]:
        return 201, {"id": str(make(now).pk)}

    try:
        answer = repeating(
            lambda: once(
                tenant_id=tenant_id,
                key=idempotency_key(request, cleaned),
                request_fingerprint=asked,
                now=now,
                effect=effect,
            )
        )
    except IdempotencyConflict as refusal:
        raise InvalidState(f"This form has made {what} already. Open a new one.") from refusal
    return answer.body["id"], answer.is_replay


class AmountField(forms.DecimalField):
    """An amount of a currency, typed in whole units of it; cleans to minor units."""

    def __init__(self, currency: str, *, at_most: int = AMOUNT_MAX, **more: Any) -> None:
        self.currency = currency
        if isinstance(more.get("initial"), int):
            more["initial"] = Money(more["initial"], currency).decimal
        more.setdefault("label", f"Amount in {currency}")
        super().__init__(
            min_value=Money(1, currency).decimal,
            max_value=Money(max(at_most, 1), currency).decimal,
            decimal_places=exponent(currency),
            **more,
        )

    def clean(self, value: Any) -> Any:
        amount: Decimal | None = super().clean(value)
        return None if amount is None else Money.from_decimal(amount, self.currency).minor_units


def part_field(currency: str, left: int) -> AmountField:
    """Return the field of an amount that is all that is left, unless one says how much."""
    return AmountField(
        currency,
        at_most=left,
        required=False,
        help_text=f"Leave it empty for all that is left: {format_money(left, currency)}.",
    )


def minor_units(amount: Decimal, currency: str) -> int:
    """
    Return an amount that was typed beside the choice of its currency, in minor units.

    :raises ValidationError: more decimal places than the currency has, or too much
    """
    try:
        minor = Money.from_decimal(amount, currency).minor_units
    except ValueError as fault:
        places = exponent(currency)
        what = f"at most {places} decimal places" if places else "no decimal places"
        raise ValidationError(f"{currency} has {what}.") from fault
    if minor > AMOUNT_MAX:
        raise ValidationError(f"At most {format_money(AMOUNT_MAX, currency)}.")
    return minor


class PartForm(Keyed, WithReason):
    """How much of what is left, and why."""

    field_order = ["amount", "reason", "key"]

    def __init__(self, data: Any, *, currency: str, left: int) -> None:
        super().__init__(data)
        self.fields["amount"] = part_field(currency, left)
        self.order_fields(self.field_order)
