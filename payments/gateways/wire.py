"""Reading what gateways write: nothing is taken for granted, and no number becomes a float."""

import datetime as dt
import urllib.parse
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import simplejson

from core.money import AMOUNT_MAX, Money, exponent
from payments.gateways.port import State, Uncertain, Unreadable

# Longer than any field of theirs that we keep.
TEXT_LENGTH_MAX = 300
# More than any amount has; what is beyond would be rounded, or take minutes to write out.
_DIGITS_MAX = 28


def read_json(content: bytes) -> Any:
    """
    Return the JSON, its numbers with a point as Decimal.

    :raises ValueError: it is none, or none that can be read
    """
    try:
        return simplejson.loads(content.decode("utf-8"), use_decimal=True)
    except (InvalidOperation, RecursionError) as error:
        raise ValueError("a number without end, or no end of lists in lists") from error


def fields(body: Any) -> Mapping[str, Any]:
    """
    Return the JSON object.

    :raises Uncertain: it is something else
    """
    if not isinstance(body, dict):
        raise Uncertain("The answer is no JSON object.", code="no_object")
    return body


def items(body: Any, name: str = "") -> list[Mapping[str, Any]]:
    """Return the list, or that in the object under the name."""
    found = fields(body).get(name) if name else body
    if not isinstance(found, list):
        raise Uncertain("The answer is no list.", code="no_list")
    return [fields(item) for item in found]


def text(body: Mapping[str, Any], name: str) -> str:
    """Return the field as text; empty if it is missing, null, or no plain value."""
    value = body.get(name)
    if value is None or isinstance(value, dict | list):
        return ""
    # Neither a zero nor half of a surrogate pair can be stored, or sent on.
    whole = str(value)[:TEXT_LENGTH_MAX].replace("\x00", "")
    return whole.encode("utf-8", errors="replace").decode()


def segment(gateway_id: str) -> str:
    """Return a gateway's id as one part of a path, whatever it holds."""
    return urllib.parse.quote(gateway_id, safe="")


def moment(body: Mapping[str, Any], name: str) -> dt.datetime | None:
    """Return the RFC 3339 time; None if there is none, or nonsense."""
    try:
        found = dt.datetime.fromisoformat(text(body, name))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def major_units(amount: Money) -> int | Decimal:
    """Return the amount as gateways that count in major units write it, exactly."""
    return amount.minor_units if exponent(amount.currency) == 0 else amount.decimal


def money(value: Any, currency: str) -> Money:
    """
    Return the money that a number, or a text such as "150000.00", states in major units.

    :raises Uncertain: it states none
    """
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise Uncertain("The answer has no amount.", code="no_amount")
    try:
        stated = Decimal(value)
        has_length = stated.is_finite() and len(stated.as_tuple().digits) <= _DIGITS_MAX
        if not has_length or abs(stated.adjusted()) > _DIGITS_MAX:
            raise ValueError("no amount is so long")
        return _bounded(Money.from_decimal(stated, currency))
    except (InvalidOperation, ValueError) as error:
        raise Uncertain("The answer has no sensible amount.", code="no_amount") from error


def minor_units(value: Any, currency: str) -> Money:
    """
    Return the money of a whole number of minor units.

    :raises Uncertain: it is none
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise Uncertain("The answer has no amount.", code="no_amount")
    try:
        return _bounded(Money(value, currency))
    except ValueError as error:
        raise Uncertain("The answer has no sensible amount.", code="no_amount") from error


def notification(body: bytes) -> Mapping[str, Any]:
    """
    Return a notification's JSON object.

    :raises Unreadable: it is something else
    """
    try:
        found = read_json(body)
    except ValueError as error:
        raise Unreadable("The body is no JSON.") from error
    if not isinstance(found, dict):
        raise Unreadable("The body is no JSON object.")
    return found


def _bounded(amount: Money) -> Money:
    """
    Return the amount.

    :raises ValueError: it is larger than any that we could have asked for
    """
    if abs(amount.minor_units) > AMOUNT_MAX:
        raise ValueError("the amount is out of range")
    return amount


def object_id(told: Mapping[str, Any]) -> str:
    """
    Return the object's id at the gateway.

    :raises Uncertain: it has none
    """
    found = text(told, "id")
    if not found:
        raise Uncertain("The answer names no object.", code="no_id")
    return found


def known(states: Mapping[str, State], raw: str) -> State:
    """
    Return what the gateway's word means.

    :raises Uncertain: we do not know the word
    """
    try:
        return states[raw]
    except KeyError:
        raise Uncertain(f"The status is {raw[:40]!r}, unknown to us.", code="status") from None
