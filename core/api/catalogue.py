"""The page that `type` of every problem document leads to: each code and what it means."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from core.api.errors import FRAMEWORK_CODES
from core.errors import DomainError


@dataclass(frozen=True, order=True, slots=True)
class ErrorCode:
    http_status: int
    code: str
    title: str
    # Whether the same request may succeed later.
    is_transient: bool


def error_codes() -> list[ErrorCode]:
    """Return every code that the API answers, by status; one line for each code."""
    by_code: dict[str, ErrorCode] = {}
    for status, (code, title) in FRAMEWORK_CODES.items():
        by_code[code] = ErrorCode(status, code, title, is_transient=False)
    for refusal in _kinds_of(DomainError):
        # The general class comes before those that share its code, and speaks for them.
        line = ErrorCode(refusal.http_status, refusal.code, refusal.title, refusal.is_transient)
        by_code.setdefault(refusal.code, line)
    return sorted(by_code.values())


def error_catalogue(request: HttpRequest) -> HttpResponse:
    return render(request, "api/errors.html", {"codes": error_codes()})


def _kinds_of(kind: type[DomainError]) -> Iterator[type[DomainError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _kinds_of(below)
