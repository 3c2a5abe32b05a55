"""Every address: the API, its documents, the back office, the health checks."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from core.api import catalogue, health
from core.api.metrics import MetricsViewSet
from identity.api.key_set import key_set

api_v1 = [
    path("", include("identity.api.urls")),
    path("", include("accounts.api.urls")),
    path("", include("ledger.api.urls")),
    path("", include("payments.api.urls")),
    path("", include("invoices.api.urls")),
    path("", include("savings.api.urls")),
    path("", include("webhooks.api.urls")),
]

urlpatterns = [
    path("api/v1/", include(api_v1)),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path("api/docs/errors", catalogue.error_catalogue, name="errors"),
    path("health/live", health.live),
    path("health/ready", health.ready),
    path("metrics", MetricsViewSet.as_view({"get": "retrieve"})),
    path(".well-known/jwks.json", key_set),
    path("pay/", include("invoices.pages.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "core.api.errors.bad_request"
handler404 = "core.api.errors.not_found"
handler500 = "core.api.errors.server_error"
