from django.urls import path
from rest_framework.routers import SimpleRouter

from ledger.api import views

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("accounts/<uuid:account_id>/entries", views.EntryViewSet, basename="entry")
router.register(
    "accounts/<uuid:account_id>/operations", views.OperationViewSet, basename="operation"
)
router.register(
    "accounts/<uuid:account_id>/holds", views.AccountHoldViewSet, basename="account-hold"
)
router.register("transactions", views.TransactionViewSet, basename="transaction")
router.register("holds", views.HoldViewSet, basename="hold")

_figures = views.AccountFiguresViewSet
urlpatterns = [
    path("accounts/<uuid:account_id>/balance", _figures.as_view({"get": "balance"})),
    path("accounts/<uuid:account_id>/statement", _figures.as_view({"get": "statement"})),
    path("ledger/trial-balance", views.TrialBalanceViewSet.as_view({"get": "retrieve"})),
    *router.urls,
]
