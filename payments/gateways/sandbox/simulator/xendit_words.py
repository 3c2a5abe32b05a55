"""How Xendit reads fields and words its refusals, for all of its endpoints."""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from payments.gateways.sandbox.simulator.exchange import (
    LIST_LIMIT_MAX,
    Answer,
    Json,
    Refusal,
    Request,
)

COUNTRIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "IDR": "ID",
        "PHP": "PH",
        "VND": "VN",
        "THB": "TH",
        "SGD": "SG",
        "MYR": "MY",
        "USD": "ID",
    }
)
_WITHOUT_DECIMALS: Final = frozenset({"IDR", "VND"})
_AMOUNT_MAX: Final = 1_000_000_000_000
_LIST_LIMIT: Final = 10


def reply(status: int, code: str, message: str) -> Answer:
    """An error as Xendit words it."""
    body: Json = {"error_code": code, "message": message}
    if code == "API_VALIDATION_ERROR":
        body["errors"] = [{"message": message, "path": message.partition(" ")[0]}]
    return Answer(status, body)


def refused(status: int, code: str, message: str) -> Refusal:
    """The same, to be raised."""
    return Refusal(reply(status, code, message))


def country_of(currency: str) -> str:
    """The country that goes with a currency where none was named."""
    return COUNTRIES[currency]


def decimals_of(currency: str) -> int:
    """Digits after the point that Xendit takes."""
    return 0 if currency in _WITHOUT_DECIMALS else 2


def read_object(request: Request) -> Json:
    """The body, which has to be an object."""
    try:
        body = request.read_json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise refused(400, "API_VALIDATION_ERROR", "body is not a JSON object")
    return body


def read_text(body: Json, name: str, length_max: int) -> str:
    """A text that has to be there."""
    value = body.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= length_max:
        message = f"{name} is required and has at most {length_max} characters"
        raise refused(400, "API_VALIDATION_ERROR", message)
    return value


def read_number(body: Json) -> Decimal:
    """The amount in major units, whatever its decimals."""
    value = body.get("amount")
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise refused(400, "API_VALIDATION_ERROR", "amount must be a number")
    amount = Decimal(value)
    if not 0 < amount <= _AMOUNT_MAX:
        raise refused(400, "API_VALIDATION_ERROR", "amount is out of range")
    return amount


def has_allowed_decimals(amount: Decimal, currency: str) -> bool:
    """Whether the currency has a coin for it."""
    return amount == round(amount, decimals_of(currency))


def read_amount(body: Json, currency: str) -> Decimal:
    """The amount; refused where the currency has no coin for it."""
    amount = read_number(body)
    if not has_allowed_decimals(amount, currency):
        raise refused(400, "API_VALIDATION_ERROR", "amount has too many decimals")
    return amount


def own(request: Request, item: Any, code: str) -> Any:
    """The object, if it is this key's; to others it does not exist."""
    if item is None or (item.gateway, item.key) != ("xendit", request.key):
        raise refused(404, code, "The object was not found.")
    return item


def read_limit(request: Request) -> int:
    """`limit` of a list."""
    text = request.asked("limit", str(_LIST_LIMIT))
    if not text.isdecimal() or not 1 <= int(text) <= LIST_LIMIT_MAX:
        raise refused(400, "API_VALIDATION_ERROR", f"limit is 1 to {LIST_LIMIT_MAX}")
    return int(text)


def page_of(request: Request, items: list[Json]) -> Answer:
    """A list with `data` and `has_more`; the next page begins after `after_id`."""
    limit, after = read_limit(request), request.asked("after_id")
    ids = [item["id"] for item in items]
    if after in ids:
        items = items[ids.index(after) + 1 :]
    return Answer(200, {"data": items[:limit], "has_more": len(items) > limit})
