from django.urls import path
from rest_framework.routers import SimpleRouter

from payments.api import views

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("deposits", views.DepositViewSet, basename="deposit")
router.register("withdrawals", views.WithdrawalViewSet, basename="withdrawal")
router.register("transfers", views.TransferViewSet, basename="transfer")

urlpatterns = [
    path(
        "accounts/<uuid:account_id>/transfers",
        views.AccountTransferViewSet.as_view({"post": "create"}),
    ),
    *router.urls,
]
