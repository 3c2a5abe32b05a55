from django.urls import path

from webhooks.api import views

urlpatterns = [
    path(
        "webhooks/gateways/<str:gateway>/<uuid:configuration_id>",
        views.GatewayWebhookViewSet.as_view({"post": "create"}),
    ),
    path("webhooks/failed", views.FailedWebhookViewSet.as_view({"get": "list"})),
    path("webhooks/failed/<uuid:pk>", views.FailedWebhookViewSet.as_view({"get": "retrieve"})),
    path("webhooks/failed/<uuid:pk>/retry", views.FailedWebhookViewSet.as_view({"post": "retry"})),
]
