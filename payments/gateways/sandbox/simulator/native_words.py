"""How the sandbox's own gateway reads fields and words its refusals."""

import re
from decimal import Decimal
from typing import Any, Final

from payments.gateways.sandbox.simulator.exchange import (
    LIST_LIMIT_MAX,
    Answer,
    Json,
    Refusal,
    Request,
)

AMOUNT_MAX: Final = 9_000_000_000_000_000
REFERENCE_LENGTH_MAX: Final = 128
_LIST_LIMIT: Final = 20


def error(status: int, code: str, message: str) -> Answer:
    """An error in this gateway's shape."""
    return Answer(status, {"error": {"code": code, "message": message}})


def refused(code: str, message: str) -> Refusal:
    """A request that makes no sense, to be raised."""
    return Refusal(error(422, code, message))


def read_object(request: Request) -> Json:
    """The body, which has to be an object."""
    try:
        body = request.read_json()
    except ValueError:
        raise Refusal(error(400, "invalid_json", "The body is not JSON.")) from None
    if not isinstance(body, dict):
        raise Refusal(error(400, "invalid_json", "The body is not a JSON object."))
    return body


def read_field(body: Json, name: str, kind: type[Any], default: Any = None) -> Any:
    """A field of that type; the default stands for one that is missing."""
    value = body.get(name, default)
    # In Python, True is an int.
    if not isinstance(value, kind) or isinstance(value, bool) or value == "":
        raise refused("invalid_field", f"{name} is missing or of the wrong type")
    return value


def read_money(body: Json) -> tuple[str, Decimal, str]:
    """Reference, amount and currency, which everything that moves money has."""
    reference, amount = read_field(body, "reference", str), read_field(body, "amount", int)
    currency = read_field(body, "currency", str)
    if len(reference) > REFERENCE_LENGTH_MAX:
        raise refused("invalid_field", f"reference has at most {REFERENCE_LENGTH_MAX} characters")
    if not 0 < amount <= AMOUNT_MAX:
        raise refused("invalid_amount", f"amount is 1 to {AMOUNT_MAX} minor units")
    if not re.fullmatch(r"[A-Z]{3}", currency):
        raise refused("invalid_field", "currency is an ISO 4217 code")
    return reference, Decimal(amount), currency


def read_urls(body: Json, name: str) -> list[str]:
    """The one URL, or none."""
    url = body.get(name)
    if url is None:
        return []
    if not isinstance(url, str) or not re.match(r"https?://[^\s]+$", url):
        raise refused("invalid_field", f"{name} is an http or https URL")
    return [url]


def page_of(request: Request, items: list[Json]) -> Answer:
    """The part of a list that was asked for."""
    limit_text, after = request.asked("limit", str(_LIST_LIMIT)), request.asked("after")
    if not limit_text.isdecimal() or not 1 <= int(limit_text) <= LIST_LIMIT_MAX:
        raise refused("invalid_field", f"limit is 1 to {LIST_LIMIT_MAX}")
    if after:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise refused("invalid_field", "after is not the id of one of these objects")
        items = items[ids.index(after) + 1 :]
    limit = int(limit_text)
    return Answer(200, {"data": items[:limit], "has_more": len(items) > limit})
