"""Addresses of identity."""

from django.urls import path

from identity.api import views

urlpatterns = [
    path("auth/token", views.TokenViewSet.as_view({"post": "create"})),
    path("auth/token/refresh", views.TokenViewSet.as_view({"post": "refresh"})),
    path("auth/token/revoke", views.TokenViewSet.as_view({"post": "revoke"})),
    path("me", views.MeViewSet.as_view({"get": "retrieve"})),
    path("users", views.UserViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "users/<uuid:pk>",
        views.UserViewSet.as_view({"get": "retrieve", "patch": "partial_update"}),
    ),
    path("api-keys", views.ApiKeyViewSet.as_view({"get": "list", "post": "create"})),
    path("api-keys/audit", views.ApiKeyAuditViewSet.as_view({"get": "list"})),
    path(
        "api-keys/<uuid:pk>",
        views.ApiKeyViewSet.as_view({"get": "retrieve", "delete": "destroy"}),
    ),
    path("api-keys/<uuid:pk>/rotate", views.ApiKeyViewSet.as_view({"put": "rotate"})),
    path("test-clock", views.TestClockViewSet.as_view({"get": "retrieve", "post": "create"})),
    path("test-clock/advance", views.TestClockViewSet.as_view({"post": "advance"})),
    path("audit-records", views.AuditViewSet.as_view({"get": "list"})),
]
