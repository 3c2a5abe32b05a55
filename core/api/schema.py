"""The OpenAPI document: what every operation has in common."""

from http import HTTPStatus
from typing import Any, NamedTuple

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter

from core.idempotency import KEY_LENGTH_MAX

IDEMPOTENCY_KEY = "Idempotency-Key"
_BOUND = {
    "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]
}
PERIOD = [
    OpenApiParameter("from", _BOUND, description="From this date or time on, UTC."),
    OpenApiParameter("to", _BOUND, description="A date: including that day. A time: before it."),
]


def _idempotency_key(*, is_required: bool) -> OpenApiParameter:
    return OpenApiParameter(
        IDEMPOTENCY_KEY,
        {"type": "string", "pattern": "^[!-~]+$", "minLength": 1, "maxLength": KEY_LENGTH_MAX},
        OpenApiParameter.HEADER,
        required=is_required,
        description=(
            f"1 to {KEY_LENGTH_MAX} visible ASCII characters; one for each intended change."
        ),
    )


# Which statuses extend_schema adds to an operation's, beyond those that its method has.
_ALSO = "x-also"
CALLS_GATEWAY = {_ALSO: [HTTPStatus.BAD_GATEWAY]}
MAY_CONFLICT = {_ALSO: [HTTPStatus.CONFLICT]}
# Of what is no POST and still should not be done twice.
OPTIONAL_KEY = _idempotency_key(is_required=False)
IF_MATCH = OpenApiParameter(
    "If-Match",
    # As core.api.views reads it.
    {"type": "string", "pattern": r'^(\*|"[!#-~]{1,64}")$'},
    OpenApiParameter.HEADER,
    description="The ETag of what you have seen: 412 if somebody else has changed it since.",
)
_REQUEST_ID = "0199c0de-7e57-7000-8000-000000000001"
_FIELD_ERROR = {
    "type": "object",
    "description": "What is wrong with one part of the request.",
    "required": ["field", "code", "detail"],
    "properties": {
        "field": {"type": "string", "description": "A path, such as `entries.1.amount`."},
        "code": {"type": "string"},
        "detail": {"type": "string"},
    },
}
FIELD_ERRORS = {"type": "array", "items": {"$ref": "#/components/schemas/FieldError"}}
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
        "errors": FIELD_ERRORS,
        "request_id": {"type": "string"},
        "unlock_date": {
            "type": "string",
            "format": "date",
            "description": "With `savings_plan_locked`: from when on the money may be had.",
        },
    },
}


class _Refusal(NamedTuple):
    """How the document shows a status: the meaning, and one of its codes as the example."""

    description: str
    code: str
    detail: str


_REFUSALS = {
    400: _Refusal(
        "Malformed or invalid input.",
        "invalid_request",
        "amount: Ensure this value is greater than or equal to 1.",
    ),
    401: _Refusal(
        "No credentials, or not valid.",
        "not_authenticated",
        "Authentication credentials were not provided.",
    ),
    403: _Refusal(
        "The scope or role does not allow it.",
        "permission_denied",
        "The credentials do not allow this.",
    ),
    404: _Refusal("Unknown here, or another tenant's.", "not_found", "No such account."),
    406: _Refusal(
        "`Accept` leaves out what the API speaks.",
        "not_acceptable",
        "Could not satisfy the request Accept header.",
    ),
    409: _Refusal(
        "In conflict with the object's state or with a running request.",
        "request_in_progress",
        "Its first copy is still running. Send it again.",
    ),
    412: _Refusal(
        "Somebody else has changed the object since you read it.",
        "precondition_failed",
        "It has changed since you read it. Read it again, then decide.",
    ),
    413: _Refusal(
        "Body or batch too large.",
        "payload_too_large",
        "The request body is larger than this server reads.",
    ),
    415: _Refusal(
        "The body is not JSON.",
        "unsupported_media_type",
        'Unsupported media type "text/csv" in request.',
    ),
    422: _Refusal(
        "Understood, and refused by a rule.",
        "insufficient_funds",
        f"Account {_REQUEST_ID} has 500 available.",
    ),
    502: _Refusal(
        "The gateway refuses us. Nothing was done: send it again once that is put right.",
        "gateway_error",
        "xendit: The API key is invalid.",
    ),
    429: _Refusal(
        "Too many requests; wait for `Retry-After`.",
        "rate_limited",
        "At most 1000 requests in 60 seconds.",
    ),
    503: _Refusal(
        "A needed part did not answer in time; send the same request again.",
        "unavailable",
        "The database did not answer. Send the same request again.",
    ),
}
_ALWAYS = (400, 401, 403, 404, 406, 429, 503)
_OF_CHANGES = (409, 413, 415, 422)


def _header(type_: str, description: str, example: Any, **more: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": type_}, "example": example, **more}


_HEADERS = {
    "X-Request-Id": _header(
        "string", "The one you sent, or ours; quote it to us.", _REQUEST_ID, required=True
    ),
    "RateLimit-Limit": _header("integer", "Requests in a window.", 1000),
    "RateLimit-Remaining": _header("integer", "Requests left in this window.", 993),
    "RateLimit-Reset": _header("integer", "Seconds until the window ends.", 7),
    "Retry-After": _header("integer", "Seconds to wait before the same request.", 7),
    "WWW-Authenticate": _header("string", "How to authenticate.", 'Bearer realm="florin"'),
    "ETag": _header("string", "The version, for `If-Match`.", '"6b86b273ff34fce1"'),
    "Idempotent-Replayed": _header(
        "string", "`true`: the first answer to this key again.", "true", required=False
    ),
}
_RATE_LIMIT = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
_HEADERS_OF = {
    401: ("WWW-Authenticate",),
    429: (*_RATE_LIMIT, "Retry-After"),
    503: ("Retry-After",),
}


class FlorinSchema(AutoSchema):
    def get_description(self) -> str:  # type: ignore[override]  # as drf-spectacular has it
        # What an operation says of itself is in extend_schema; docstrings are for us.
        return ""

    def get_paginated_name(self, serializer_name: str) -> str:
        # The name of a class in generated clients.
        return serializer_name.removesuffix("Response") + "Page"

    def get_override_parameters(self) -> list[Any]:
        if self.method != "POST" or not getattr(self.view, "takes_idempotency_key", True):
            return []
        is_required = getattr(self.view, "action", None) in getattr(self.view, "keyed_actions", ())
        return [_idempotency_key(is_required=is_required)]


class TextFieldExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """A text that may not be blank has something to read in it."""

    target_class = "core.api.fields.TextField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer_field(
            self.target, direction, bypass_extensions=True
        )
        # Whether it may be null, the caller adds.
        _refuse_null(schema)
        return schema if self.target.allow_blank else {**schema, "pattern": r"\S"}


class ExactDecimalFieldExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = "core.api.fields.ExactDecimalField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        field = self.target
        before = field.max_digits - field.decimal_places
        number: dict[str, Any] = {"type": "number"}
        if field.min_value:
            number["exclusiveMinimum"] = 0
        else:
            number["minimum"] = 0
        if field.max_value is not None:
            number["maximum"] = int(field.max_value)
        pattern = rf"^[0-9]{{1,{before}}}(\.[0-9]{{1,{field.decimal_places}}})?$"
        return {"anyOf": [number, {"type": "string", "pattern": pattern}]}


class ItemsFieldExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """The items of a batch look to a caller as they do alone."""

    target_class = "core.api.fields.ItemsField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        item = auto_schema.resolve_serializer(self.target.item, direction)
        return {
            "type": "array",
            "items": item.ref,
            "minItems": 1,
            "maxItems": self.target.items_max,
        }


def complete_document(
    result: dict[str, Any], generator: Any, request: Any, public: bool
) -> dict[str, Any]:
    """Give every operation its error responses and headers, and the document what they share."""
    components = result["components"]
    components.setdefault("schemas", {}).update({"FieldError": _FIELD_ERROR, "Problem": _PROBLEM})
    components["headers"] = _HEADERS
    # Here, because DRF asks for FlorinSchema while it is itself being imported.
    from core.api.catalogue import error_codes

    titles = {each.code: each.title for each in error_codes()}
    components["responses"] = {
        _name(status): _response(status, titles[refusal.code])
        for status, refusal in sorted(_REFUSALS.items())
    }
    for path, operations in result["paths"].items():
        # They come in another order at each start.
        result["paths"][path] = dict(sorted(operations.items(), key=_in_order))
        for method, operation in operations.items():
            if "responses" in operation:
                _complete_operation(method, operation, is_versioned="patch" in operations)
    document: dict[str, Any] = _without_leftovers(result)
    return document


def _in_order(operation: tuple[str, Any]) -> int:
    return ("get", "post", "put", "patch", "delete").index(operation[0])


def _complete_operation(method: str, operation: dict[str, Any], *, is_versioned: bool) -> None:
    parameters = operation.get("parameters", [])
    for parameter in parameters:
        _refuse_null(parameter["schema"])
    is_keyed = any(parameter["name"] == IDEMPOTENCY_KEY for parameter in parameters)
    responses = operation["responses"]
    for status, response in responses.items():
        if status.startswith("2"):
            response["description"] = response.get("description") or HTTPStatus(int(status)).phrase
            names = ["X-Request-Id", *_RATE_LIMIT]
            if is_keyed:
                names.append("Idempotent-Replayed")
            if is_versioned and method in ("get", "patch"):
                names.append("ETag")
            headers = _referred_to(*names)
            response["headers"] = {**headers, **response.get("headers", {})}
    statuses = _ALWAYS + (_OF_CHANGES if method in ("post", "patch", "put") else ())
    statuses += (HTTPStatus.PRECONDITION_FAILED,) if method == "patch" else ()
    statuses += tuple(operation.pop(_ALSO, ()))
    for status in sorted(statuses):
        responses.setdefault(str(status), {"$ref": f"#/components/responses/{_name(status)}"})
    operation["responses"] = dict(sorted(responses.items()))


def _refuse_null(schema: dict[str, Any]) -> None:
    """Take null out: a column may be it, and a query parameter cannot say so."""
    if isinstance(schema.get("type"), list):
        [schema["type"]] = [kind for kind in schema["type"] if kind != "null"]


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "")


def _response(status: int, title: str) -> dict[str, Any]:
    from core.api.errors import CONTENT_TYPE

    refusal = _REFUSALS[status]
    reason = refusal.detail.removeprefix("amount: ")
    field_error = {"field": "amount", "code": "min_value", "detail": reason}
    example = {
        "type": f"/api/docs/errors#{refusal.code}",
        "title": title,
        "status": status,
        "detail": refusal.detail,
        "code": refusal.code,
        "errors": [field_error] if status == HTTPStatus.BAD_REQUEST else [],
        "request_id": _REQUEST_ID,
    }
    return {
        "description": refusal.description,
        "headers": _referred_to("X-Request-Id", *_HEADERS_OF.get(status, ())),
        "content": {
            CONTENT_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {refusal.code: {"value": example}},
            }
        },
    }


def _referred_to(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _without_leftovers(node: Any) -> Any:
    """drf-spectacular marks enums for a step of its own that we leave out: a name for each."""
    if isinstance(node, dict):
        return {
            key: _without_leftovers(value) for key, value in node.items() if key != "x-spec-enum-id"
        }
    return [_without_leftovers(item) for item in node] if isinstance(node, list) else node
