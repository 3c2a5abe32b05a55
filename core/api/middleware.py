"""What every HTTP answer carries: a request id, and on pages a content security policy."""

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from core.addresses import client_address
from core.caller import Caller, calling, name_actor
from core.ids import new_id

Handler = Callable[[HttpRequest], HttpResponse]

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
    Say who is calling, for the audit trail: as yet an address and a request's id.

    Takes the caller's X-Request-Id where it is sane, else makes one; sends it back.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-Id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else str(new_id())
        request.request_id = request_id  # type: ignore[attr-defined]
        caller = Caller("anonymous", request_id, client_address(request) or None)
        with calling(caller):
            response = self.get_response(request)
        response["X-Request-Id"] = request_id
        return response


class StaffNameMiddleware:
    """Put a name to the caller in the back office; after the session is known."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # The API knows its callers by other means, and pays no look at the session.
        if not request.path.startswith("/api/") and request.user.is_authenticated:
            name_actor(f"user:{request.user.pk}")
        return self.get_response(request)


class ContentSecurityPolicyMiddleware:
    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.get("Content-Type", "").startswith("text/html"):
            is_docs = request.path.startswith("/api/docs/")
            response["Content-Security-Policy"] = _DOCS_POLICY if is_docs else _PAGE_POLICY
        return response
