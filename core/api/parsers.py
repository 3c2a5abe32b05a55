"""JSON as the API takes it: an object, no NaN, no duplicate keys, not nested without end."""

import json
from decimal import Decimal, InvalidOperation
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

DEPTH_MAX = 32


class StrictJSONParser(BaseParser):
    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Any = None,
    ) -> dict[str, Any]:
        # HttpRequest.body keeps DATA_UPLOAD_MAX_MEMORY_SIZE; a bare stream would not.
        request = (parser_context or {}).get("request")
        raw = request._request.body if request is not None else stream.read()
        if not raw.strip():
            return {}
        try:
            # As bytes it would be taken in UTF-16 too, and with halves of surrogate pairs.
            parsed = json.loads(
                raw.decode("utf-8"),
                parse_constant=_refuse_constant,
                object_pairs_hook=_object,
                parse_int=_int,
            )
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None
        except ValueError as error:
            raise ParseError(f"Not valid JSON: {error}") from None
        if not isinstance(parsed, dict):
            raise ParseError("The body must be a JSON object.")
        _refuse_deep(parsed, DEPTH_MAX)
        if b"\\u" in raw:
            _refuse_half_characters(parsed)
        return parsed


class ExactJSONParser(StrictJSONParser):
    """JSON whose decimals are what is written: 0.1 is a tenth, not the double next to it."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Any = None,
    ) -> dict[str, Any]:
        # Everything that is refused is refused there.
        parsed = super().parse(stream, media_type, parser_context)
        if not parsed:
            return parsed
        raw: bytes = parser_context["request"]._request.body
        exact: dict[str, Any] = json.loads(raw, parse_float=_exact)
        return exact


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return made


def _int(digits: str) -> int:
    # Python refuses absurd literals only past 4,300 digits, and slowly before.
    if len(digits) > 40:
        raise ValueError("a number has more than 40 digits")
    return int(digits)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _refuse_half_characters(parsed: dict[str, Any]) -> None:
    """An escaped lone surrogate is JSON, but no text: nothing can store it."""
    try:
        json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ParseError("A string has half of a surrogate pair.") from None


def _refuse_deep(value: Any, depth_left: int) -> None:
    if isinstance(value, dict):
        children: Any = value.values()
    elif isinstance(value, list):
        children = value
    else:
        return
    if depth_left == 0:
        raise ParseError(f"The JSON is nested more than {DEPTH_MAX} deep.")
    for child in children:
        if isinstance(child, dict | list):
            _refuse_deep(child, depth_left - 1)


def _exact(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ParseError(f"{text[:40]} is no number of this world.") from None
