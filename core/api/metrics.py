"""GET /metrics, for Prometheus: with a scrape token, or an admin's credentials."""

import hmac
from typing import Any, ClassVar

from django.conf import settings
from django.http import HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST
from rest_framework.request import Request

from core.api.views import FlorinViewSet
from core.metrics import exposition
from core.permissions import Permission


class MetricsViewSet(FlorinViewSet[Any]):
    # It is no part of the API's contract.
    schema = None
    permissions: ClassVar[dict[str, Permission]] = {"retrieve": Permission.VIEW_METRICS}

    def perform_authentication(self, request: Request) -> None:
        if not _is_scraper(request):
            super().perform_authentication(request)

    def check_permissions(self, request: Request) -> None:
        if not _is_scraper(request):
            super().check_permissions(request)

    def retrieve(self, request: Request) -> HttpResponse:
        return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


def _is_scraper(request: Request) -> bool:
    given = request.headers.get("Authorization", "").encode()
    expected = f"Bearer {settings.METRICS_TOKEN}".encode()
    return bool(settings.METRICS_TOKEN) and hmac.compare_digest(given, expected)
