"""Lists by keyset: a page costs the same on the first and the millionth row."""

from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

from django.core import signing
from django.db.models import Model, QuerySet
from django.http import QueryDict
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from core.errors import InvalidRequest

LIMIT_DEFAULT = 50
LIMIT_MAX = 200

M = TypeVar("M", bound=Model)


class KeysetPagination(BasePagination):
    """
    Pages of a queryset by one unique column, newest first.

    The cursor is opaque and signed, and belongs to one list: what a client cannot make up, it
    cannot rely on.
    """

    key = "id"

    def paginate_queryset(  # type: ignore[override]  # a list has no keys to go by
        self, queryset: QuerySet[M], request: Request, view: Any = None
    ) -> list[M]:
        self.request = request
        self.limit = self._limit(request)
        backward, position = self._position(request)
        order = self.key if backward else f"-{self.key}"
        if position is not None:
            side = "gt" if backward else "lt"
            queryset = queryset.filter(**{f"{self.key}__{side}": position})
        # One more than asked: whether there is another page costs no second query.
        rows = list(queryset.order_by(order)[: self.limit + 1])
        is_cut = len(rows) > self.limit
        rows = rows[: self.limit]
        if backward:
            rows.reverse()
        self.has_next = is_cut if not backward else position is not None
        self.has_previous = is_cut if backward else position is not None
        self.first = getattr(rows[0], self.key) if rows else None
        self.last = getattr(rows[-1], self.key) if rows else None
        return rows

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {
                "results": data,
                "next": self._link("n", self.last) if self.has_next else None,
                "previous": self._link("p", self.first) if self.has_previous else None,
            }
        )

    def _limit(self, request: Request) -> int:
        given = request.query_params.get("limit", str(LIMIT_DEFAULT))
        if not (given.isascii() and given.isdigit()) or not 1 <= int(given[:9]) <= LIMIT_MAX:
            raise InvalidRequest(f"limit is a number from 1 to {LIMIT_MAX}.", field="limit")
        return int(given)

    def _signer(self) -> signing.Signer:
        return signing.Signer(salt=f"cursor:{self.key}:{self.request.path}")

    def _position(self, request: Request) -> tuple[bool, Any]:
        cursor = request.query_params.get("cursor")
        if cursor is None:
            return False, None
        try:
            direction, position = self._signer().unsign_object(cursor)
        except signing.BadSignature:
            raise InvalidRequest("The cursor is not one of this list's.", field="cursor") from None
        return direction == "p", position

    def _link(self, direction: str, position: Any) -> str | None:
        if position is None:
            return None
        value = position if isinstance(position, int) else str(position)
        cursor = self._signer().sign_object([direction, value])
        scheme, host, path, query, _ = urlsplit(self.request.build_absolute_uri())
        params = QueryDict(query, mutable=True)
        params["cursor"] = cursor
        return urlunsplit((scheme, host, path, urlencode(list(params.items())), ""))

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": ["string", "null"], "format": "uri", "example": None}
        return {
            "type": "object",
            "required": ["results", "next", "previous"],
            "properties": {
                "results": schema,
                "next": {**link, "description": "The following page; null on the last."},
                "previous": {**link, "description": "The page before; null on the first."},
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": "limit",
                "in": "query",
                "description": "Rows in a page.",
                "schema": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": LIMIT_MAX,
                    "default": LIMIT_DEFAULT,
                },
            },
            {
                "name": "cursor",
                "in": "query",
                "description": "From `next` or `previous` of an earlier page.",
                "schema": {"type": "string"},
            },
        ]
