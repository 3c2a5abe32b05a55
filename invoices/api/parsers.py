"""JSON whose decimals are what is written: 0.1 is a tenth, not the double next to it."""

import json
from decimal import Decimal, InvalidOperation
from typing import IO, Any

from rest_framework.exceptions import ParseError

from core.api.parsers import StrictJSONParser


class ExactJSONParser(StrictJSONParser):
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


def _exact(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ParseError(f"{text[:40]} is no number of this world.") from None
