"""Lists by keyset: a page costs the same on the first and the millionth row."""

from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

from django.db.models import Model, QuerySet
from django.http import QueryDict
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from core.errors import InvalidRequest
from core.keyset import keyset_page

LIMIT_DEFAULT = 50
LIMIT_MAX = 200

M = TypeVar("M", bound=Model)


class KeysetPagination(BasePagination):
    """Pages of a queryset by one unique column, newest first, with links to those beside it."""

    key = "id"

    def paginate_queryset(  # type: ignore[override]  # a list has no keys to go by
        self, queryset: QuerySet[M], request: Request, view: Any = None
    ) -> list[M]:
        self.request = request
        page = keyset_page(
            queryset,
            key=self.key,
            limit=self._limit(request),
            cursor=request.query_params.get("cursor"),
            of=f"api:{self.key}:{request.path}",
        )
        self.next, self.previous = page.next, page.previous
        return page.rows

    def get_paginated_response(self, data: Any) -> Response:
        links = {"next": self._link(self.next), "previous": self._link(self.previous)}
        return Response({"results": data, **links})

    def _limit(self, request: Request) -> int:
        given = request.query_params.get("limit", str(LIMIT_DEFAULT))
        if not (given.isascii() and given.isdigit()) or not 1 <= int(given[:9]) <= LIMIT_MAX:
            raise InvalidRequest(f"limit is a number from 1 to {LIMIT_MAX}.", field="limit")
        return int(given)

    def _link(self, cursor: str | None) -> str | None:
        if cursor is None:
            return None
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
