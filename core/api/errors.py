"""Every error leaves the API here, as RFC 9457 problem+json."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import exception_handler

from core.database import DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE, sqlstate_of
from core.errors import (
    DomainError,
    InternalError,
    InvalidRequest,
    InvalidToken,
    KeyExpired,
    KeyRevoked,
    Locked,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    Unavailable,
)
from core.redaction import without_card_numbers

logger = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_S = "1"
# Code and title of what DRF itself refuses.
FRAMEWORK_CODES = {
    401: ("not_authenticated", "Credentials are missing or not valid"),
    403: ("permission_denied", "Not allowed"),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "Method not allowed"),
    406: ("not_acceptable", "Not acceptable"),
    413: ("payload_too_large", "The request is too large"),
    415: ("unsupported_media_type", "Unsupported media type"),
}
# Why credentials were refused; the exception itself is DRF's.
_OF_CREDENTIALS = {each.code: each.title for each in (InvalidToken, KeyRevoked, KeyExpired)}


def problem_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    request = context["request"]._request
    error = _as_refusal(error)
    if isinstance(error, DomainError):
        return _refused(request, error)
    response = exception_handler(error, context)
    if response is None:
        return None  # A bug: let Django answer 500 and the log shout.
    if isinstance(error, exceptions.ValidationError):
        errors = list(_flattened(error.get_full_details()))
        detail = "; ".join(
            f"{e['field']}: {e['detail']}" if e["field"] else e["detail"] for e in errors[:3]
        )
        body = problem(request, 400, "invalid_request", "Invalid request", detail, errors)
    elif response.status_code == HTTPStatus.BAD_REQUEST:
        body = problem(request, 400, "invalid_request", "Invalid request", str(error))
    else:
        code, title = FRAMEWORK_CODES.get(response.status_code, ("error", "Error"))
        reason = getattr(getattr(error, "detail", None), "code", "")
        if isinstance(error, exceptions.AuthenticationFailed) and reason in _OF_CREDENTIALS:
            code, title = reason, _OF_CREDENTIALS[reason]
        # What DRF made of it: its own exceptions and Django's.
        detail = str(response.data["detail"])
        body = problem(request, response.status_code, code, title, detail)
    response.data = body
    response.content_type = CONTENT_TYPE
    return response


def problem(
    request: HttpRequest,
    status: int,
    code: str,
    title: str,
    detail: str,
    errors: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """Return a problem document. `type` is a stable relative reference into the error list."""
    return {
        "type": f"/api/docs/errors#{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "errors": errors or [],
        "request_id": getattr(request, "request_id", ""),
    }


def field_errors(serializer: Serializer[Any]) -> list[dict[str, str]]:
    """Return the `errors` of a problem document for a serializer that is not valid."""
    details = exceptions.ValidationError(serializer.errors).get_full_details()
    return list(_flattened(details))


def problem_response(request: HttpRequest, refusal: DomainError) -> JsonResponse:
    """Return the problem outside DRF: unknown URLs, crashes, middleware."""
    body = problem(request, refusal.http_status, refusal.code, refusal.title, refusal.detail)
    return JsonResponse(body, status=refusal.http_status, content_type=CONTENT_TYPE)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """handler400: what Django refuses before a view runs, such as a host that is not ours."""
    if not _is_for_programs(request):
        return defaults.bad_request(request, exception)
    return problem_response(request, InvalidRequest("The request is not valid HTTP for this API."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """handler404: an address that does not exist."""
    if not _is_for_programs(request):
        return defaults.page_not_found(request, exception)
    return problem_response(request, NotFound("There is nothing at this address."))


def server_error(request: HttpRequest) -> HttpResponse:
    """handler500: a bug. Its traceback is in the log, under the same request id."""
    if not _is_for_programs(request):
        return defaults.server_error(request)
    return problem_response(request, InternalError("The fault is ours; quote the request id."))


def _is_for_programs(request: HttpRequest) -> bool:
    return request.path.startswith("/api/") or request.path.startswith("/health/")


def _as_refusal(error: Exception) -> Exception:
    """Return the refusal that a database fault or an oversized body means to the caller."""
    if isinstance(error, RequestDataTooBig):
        return PayloadTooLarge("The request body is larger than this server reads.")
    if not isinstance(error, DatabaseError | InterfaceError):
        return error
    if isinstance(error, DatabaseError) and sqlstate_of(error) in (
        LOCK_NOT_AVAILABLE,
        DEADLOCK_DETECTED,
    ):
        refusal: DomainError = Locked("A needed row stayed locked. Send the same request again.")
    elif isinstance(error, OperationalError | InterfaceError):
        # Also the pool's time-out: a fast 503 instead of a hang.
        logger.warning("database not available", fault=type(error.__cause__ or error).__name__)
        refusal = Unavailable("The database did not answer. Send the same request again.")
    else:
        return error
    refusal.__cause__ = error
    return refusal


def _refused(request: HttpRequest, refusal: DomainError) -> Response:
    errors = []
    if isinstance(refusal, InvalidRequest) and refusal.field:
        errors = [{"field": refusal.field, "code": "invalid", "detail": refusal.detail}]
    body = problem(
        request, refusal.http_status, refusal.code, refusal.title, refusal.detail, errors
    )
    body.update(refusal.members)
    headers: dict[str, str] = {}
    if isinstance(refusal, RateLimited):
        headers["Retry-After"] = str(refusal.retry_after_s)
    elif refusal.http_status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = RETRY_AFTER_S
    elif refusal.http_status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="florin"'
    return Response(body, refusal.http_status, headers=headers, content_type=CONTENT_TYPE)


def _flattened(details: Any, path: str = "") -> Iterator[dict[str, str]]:
    """Walk DRF's nested details; a field is a path such as `entries.1.amount`."""
    if isinstance(details, dict) and isinstance(details.get("message"), str) and "code" in details:
        # Some say what was sent: no card number comes back from us.
        message = without_card_numbers(details["message"])
        yield {"field": path, "code": str(details["code"]), "detail": message}
    elif isinstance(details, dict):
        for key, value in details.items():
            # Errors of the whole object belong to the object, not to a field of that odd name.
            below = path if key == "non_field_errors" else f"{path}.{key}".lstrip(".")
            yield from _flattened(value, below)
    else:
        for index, value in enumerate(details):
            is_leaf = isinstance(value, dict) and isinstance(value.get("message"), str)
            yield from _flattened(value, path if is_leaf else f"{path}.{index}".lstrip("."))
