"""
What every HTTP request leaves behind: a request id, a line in the log, a figure in the metrics, and
on pages a content security policy.
"""

import re
import time
from collections.abc import Callable
from http import HTTPStatus

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from core.addresses import client_address
from core.caller import Caller, calling, name_actor
from core.ids import new_id
from core.metrics import request_seconds, requests_total

Handler = Callable[[HttpRequest], HttpResponse]

logger = structlog.get_logger(__name__)
# A label's value stays for ever: callers do not get to make up their own.
_METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
_OF_LITTLE_NEWS = ("/health/", "/static/", "/metrics")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
# Swagger UI sets style attributes; nothing else of ours does. No script is ever inline.
_CSP = (
    "default-src 'self'; img-src 'self' data:; style-src 'self'{style}; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_PAGE_POLICY = _CSP.format(style="")
_DOCS_POLICY = _CSP.format(style=" 'unsafe-inline'")


class CallerMiddleware:
    """
    Say who is calling, for the audit trail and the log: as yet an address and a request's id.

    Takes the caller's X-Request-Id where it is sane, else makes one; sends it back. Stands before
    whatever else may answer, so that nothing is served without a line in the log.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-Id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else str(new_id())
        request.request_id = request_id  # type: ignore[attr-defined]
        caller = Caller("anonymous", request_id, client_address(request) or None)
        began = time.perf_counter()
        with calling(caller):
            response = self.get_response(request)
            _note(request, response, time.perf_counter() - began)
        response["X-Request-Id"] = request_id
        return response


def _note(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    # The pattern: what callers put into an address is theirs.
    route = f"/{request.resolver_match.route}" if request.resolver_match else "none"
    method = request.method if request.method in _METHODS else "other"
    requests_total.labels(method, route, response.status_code).inc()
    request_seconds.labels(method, route).observe(seconds)
    if not settings.REQUEST_LOG:
        return
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log = logger.error
    else:
        log = logger.debug if request.path.startswith(_OF_LITTLE_NEWS) else logger.info
    log(
        "request",
        method=request.method,
        route=route,
        status=response.status_code,
        duration_ms=round(seconds * 1000, 2),
    )


class StaffNameMiddleware:
    """Put a name to the caller in the back office; after the session is known."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # The API knows its callers by other means, and pays no look at the session.
        if not request.path.startswith("/api/") and request.user.is_authenticated:
            name_actor(f"user:{request.user.pk}", request.user.tenant_id)
        return self.get_response(request)


class ContentSecurityPolicyMiddleware:
    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.get("Content-Type", "").startswith("text/html"):
            is_docs = request.path.startswith("/api/docs/")
            # The payer's page has a stricter one of its own.
            response.setdefault(
                "Content-Security-Policy", _DOCS_POLICY if is_docs else _PAGE_POLICY
            )
        return response
