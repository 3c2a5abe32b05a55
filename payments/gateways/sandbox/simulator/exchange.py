"""A request and its answer as the gateways see them: JSON, keys and routes, no sockets."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Json = dict[str, Any]

BODY_BYTES_MAX = 1_000_000
LIST_LIMIT_MAX = 100


@dataclass
class Request:
    """What came in. Header names are lower case; of repeated query fields all values are kept."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    # Where the caller reached us, for the URLs of hosted pages.
    base_url: str
    # Known once it has been routed: which gateway, what for, whose key, about which reference.
    gateway: str = ""
    op: str = ""
    key: str = ""
    reference: str | None = None

    def read_json(self) -> Any:
        """
        The body; numbers with a point become Decimal.

        :raises ValueError: not JSON, or not UTF-8
        """
        return json.loads(self.body, parse_float=Decimal, parse_constant=_refuse_constant)

    def asked(self, name: str, default: str = "") -> str:
        """The last value of a query field."""
        values = self.query.get(name)
        return values[-1] if values else default

    def bearer_key(self) -> str:
        """The key of `Authorization: Bearer`, or nothing."""
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        return value.strip() if scheme.lower() == "bearer" else ""

    def basic_key(self) -> str:
        """The user name of `Authorization: Basic`; nothing unless the password is empty."""
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return ""
        try:
            user, _, password = (
                base64.b64decode(value.strip(), validate=True).decode().partition(":")
            )
        except (binascii.Error, UnicodeDecodeError):
            return ""
        return "" if password else user


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


@dataclass
class Answer:
    """What goes out: a body of bytes or text goes as it is, everything else as JSON."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    # Of the faults' effects, one that is done after the commit because of the card.
    effect: str | None = None

    def encoded(self) -> bytes:
        """The bytes of the body."""
        if isinstance(self.body, bytes):
            return self.body
        if isinstance(self.body, str):
            return self.body.encode()
        return b"" if self.body is None else to_json(self.body)


class Refusal(Exception):
    """The request is answered with this error; nothing was changed."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def to_json(value: Any) -> bytes:
    """Compact JSON; a Decimal becomes a number, an object its fields."""
    return json.dumps(value, default=_plain, separators=(",", ":"), ensure_ascii=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return number(value)
    if isinstance(value, set):
        return sorted(value)
    return vars(value)


def number(value: Decimal) -> int | float:
    """As JSON shows it: 150000, 12.5."""
    return int(value) if value == value.to_integral_value() else float(value)


@dataclass(frozen=True)
class Route:
    """One endpoint. `op` is the name by which faults match it."""

    method: str
    pattern: re.Pattern[str]
    op: str
    run: Callable[..., Answer]


def route(method: str, path: str, op: str, run: Callable[..., Answer]) -> Route:
    """An endpoint; `{id}` in the path stands for one segment, given to `run` in order."""
    pattern = re.escape(path).replace(r"\{id\}", "([^/]+)")
    return Route(method, re.compile(pattern + "/?"), op, run)


def find_route(routes: Sequence[Route], method: str, path: str) -> tuple[Route, list[str]] | None:
    """The endpoint and the segments of the path that it asks for."""
    for candidate in routes:
        if candidate.method == method and (found := candidate.pattern.fullmatch(path)):
            return candidate, list(found.groups())
    return None
