from django.urls import path

from savings.api import documents

urlpatterns = [
    path(
        "savings-plans/<uuid:plan_id>/statement",
        documents.PlanDocumentViewSet.as_view({"get": "statement"}),
    ),
    path(
        "savings-plans/<uuid:plan_id>/certificate",
        documents.PlanDocumentViewSet.as_view({"get": "certificate"}),
    ),
]
