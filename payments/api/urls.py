from django.urls import path
from rest_framework.routers import SimpleRouter

from payments.api.views import gateways, movements, recurring, topups

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("deposits", movements.DepositViewSet, basename="deposit")
router.register("withdrawals", movements.WithdrawalViewSet, basename="withdrawal")
router.register("transfers", movements.TransferViewSet, basename="transfer")
router.register("recurring-payments", recurring.RecurringPaymentViewSet, basename="recurring")
router.register("gateways", gateways.GatewayViewSet, basename="gateway")

urlpatterns = [
    path(
        "accounts/<uuid:account_id>/transfers",
        movements.AccountTransferViewSet.as_view({"post": "create"}),
    ),
    path("accounts/<uuid:account_id>/topup", topups.TopUpViewSet.as_view({"post": "create"})),
    path("topups", topups.TopUpViewSet.as_view({"get": "list"})),
    path("topups/<uuid:pk>", topups.TopUpViewSet.as_view({"get": "retrieve"})),
    path(
        "topups/<uuid:topup_id>/refunds",
        topups.RefundViewSet.as_view({"get": "index", "post": "create"}),
    ),
    path("payouts", topups.PayoutViewSet.as_view({"get": "list", "post": "create"})),
    path("payouts/<uuid:pk>", topups.PayoutViewSet.as_view({"get": "retrieve"})),
    path(
        "recurring-payments/<uuid:payment_id>/runs",
        recurring.RecurringRunViewSet.as_view({"get": "list"}),
    ),
    path(
        "calendar-days",
        recurring.CalendarDayViewSet.as_view({"get": "list", "post": "create"}),
    ),
    path(
        "calendar-days/<uuid:pk>",
        recurring.CalendarDayViewSet.as_view({"delete": "destroy"}),
    ),
    *router.urls,
]
