from django.urls import path
from rest_framework.routers import SimpleRouter

from savings.api import documents, views

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("savings-plans", views.SavingsPlanViewSet, basename="savings-plan")

urlpatterns = [
    path("savings-plans/<uuid:plan_id>/runs", views.PlanRunViewSet.as_view({"get": "list"})),
    path(
        "savings-plans/<uuid:plan_id>/interest-postings",
        views.InterestPostingViewSet.as_view({"get": "list"}),
    ),
    path(
        "savings-plans/<uuid:plan_id>/early-releases",
        views.EarlyReleaseViewSet.as_view({"post": "create"}),
    ),
    path(
        "savings-plans/<uuid:plan_id>/statement",
        documents.PlanDocumentViewSet.as_view({"get": "statement"}),
    ),
    path(
        "savings-plans/<uuid:plan_id>/certificate",
        documents.PlanDocumentViewSet.as_view({"get": "certificate"}),
    ),
    path("early-releases", views.EarlyReleaseViewSet.as_view({"get": "list"})),
    path("early-releases/<uuid:pk>", views.EarlyReleaseViewSet.as_view({"get": "retrieve"})),
    path(
        "early-releases/<uuid:pk>/approve",
        views.EarlyReleaseViewSet.as_view({"post": "approve"}),
    ),
    path(
        "early-releases/<uuid:pk>/reject",
        views.EarlyReleaseViewSet.as_view({"post": "reject"}),
    ),
    *router.urls,
]
