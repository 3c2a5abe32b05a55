"""The OpenAPI document: what every operation has in common."""

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

IDEMPOTENCY_KEY = "Idempotency-Key"
PERIOD = [
    OpenApiParameter("from", OpenApiTypes.STR, description="From this date or time on, UTC."),
    OpenApiParameter(
        "to", OpenApiTypes.STR, description="A date: including that day. A time: before it."
    ),
]
IF_MATCH = OpenApiParameter(
    "If-Match",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="The ETag of what you have seen: 412 if somebody else has changed it since.",
)
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "detail", "code", "errors", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Stable; see the error table."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "code", "detail"],
                "properties": {
                    "field": {"type": "string"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
        "request_id": {"type": "string"},
    },
    "example": {
        "type": "/api/docs/errors#insufficient_funds",
        "title": "Insufficient funds",
        "status": 422,
        "detail": "The account has 500 available and 1250 is needed.",
        "code": "insufficient_funds",
        "errors": [],
        "request_id": "0199c0de-7e57-7000-8000-000000000001",
    },
}
_RESPONSES = {
    "400": "Malformed or invalid input.",
    "401": "No credentials, or not valid.",
    "403": "The scope or role does not allow it.",
    "404": "Unknown here, or another tenant's.",
    "409": "In conflict with the object's state or with a running request.",
    "412": "Somebody else has changed the object since you read it.",
    "413": "Body or batch too large.",
    "415": "The body is not JSON.",
    "422": "Understood, and refused by a rule.",
    "429": "Too many requests; the header Retry-After says when to go on.",
    "503": "A needed part did not answer in time; send the same request again.",
}


class FlorinSchema(AutoSchema):
    def get_description(self) -> str:  # type: ignore[override]  # as drf-spectacular has it
        # What an operation says of itself is in extend_schema; docstrings are for us.
        return ""

    def get_override_parameters(self) -> list[Any]:
        if self.method != "POST" or not getattr(self.view, "takes_idempotency_key", True):
            return []
        is_required = getattr(self.view, "action", None) in getattr(self.view, "keyed_actions", ())
        return [
            OpenApiParameter(
                IDEMPOTENCY_KEY,
                OpenApiTypes.STR,
                OpenApiParameter.HEADER,
                required=is_required,
                description="1 to 255 visible ASCII characters; one for each intended change.",
            )
        ]


def add_problem_responses(
    result: dict[str, Any], generator: Any, request: Any, public: bool
) -> dict[str, Any]:
    """Give every operation its error responses, and the document the problem's schema."""
    result["components"].setdefault("schemas", {})["Problem"] = _PROBLEM
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/health") or "responses" not in operation:
                continue
            for status in _statuses(method):
                operation["responses"].setdefault(
                    status, {"description": _RESPONSES[status], "content": content}
                )
    return result


def _statuses(method: str) -> list[str]:
    statuses = ["400", "401", "403", "404", "429", "503"]
    if method in ("post", "patch", "put"):
        statuses += ["409", "413", "415", "422"]
    if method == "patch":
        statuses.append("412")
    return sorted(statuses)
