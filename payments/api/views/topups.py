"""Top-ups, refunds and payouts over HTTP: translate, one call, translate."""

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_variables
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.filters import DjangoFilterBackend
from core.api.schema import CALLS_GATEWAY
from core.api.views import TenantViewSet
from core.money import Money
from core.permissions import Permission
from payments import services
from payments.api.examples import gateways as examples
from payments.api.filters import PayoutFilter, TopUpFilter
from payments.api.serializers import payouts as payout_shapes
from payments.api.serializers import topups as shapes
from payments.gateways.calling import waiting_slot
from payments.gateways.port import CardData
from payments.models import Payment, Payout, Refund
from payments.queries import payout_of, payouts_of, refunds_of, topup_of, topups_of

_P = Permission
# What will not change by itself any more is a 201; else it is a 202, and the caller looks again.
_FINAL = {"succeeded", "failed", "expired", "refunded", "reversed"}


@extend_schema(tags=["Payments"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_topups", summary="List top-ups, newest first", examples=[examples.TOPUP]
    ),
)
class TopUpViewSet(ListModelMixin, TenantViewSet[Payment]):
    queryset = Payment.objects.all()
    serializer_class = shapes.TopUpResponse
    filter_backends = [DjangoFilterBackend]
    filterset_class = TopUpFilter
    keyed_actions = ("create",)
    permissions: ClassVar[dict[str, Permission]] = {
        "list": _P.VIEW_PAYMENTS,
        "retrieve": _P.VIEW_PAYMENTS,
        "create": _P.MAKE_TOPUPS,
    }

    def get_queryset(self) -> QuerySet[Payment]:
        return topups_of(tenant_id=self.tenant_id, owner_id=self.owner_id)

    @extend_schema(
        operation_id="top_up_account",
        summary="Top an account up by card",
        description=(
            "Through the gateway of the currency with the lowest priority, unless you name one."
            " 201: it is decided. 202: the payer goes on at `redirect_url`, or nobody knows yet"
            " what became of it; then the gateway is asked, never for money again. Card numbers"
            " are taken by the sandbox only. After a 502 or 503 nothing was asked for: send it"
            " again with the same key."
        ),
        extensions=CALLS_GATEWAY,
        request=shapes.TopUpRequest,
        responses={201: shapes.TopUpResponse, 202: shapes.TopUpResponse},
        examples=[
            examples.TOPUP_REQUEST,
            examples.TOKEN_REQUEST,
            examples.TOPUP,
            examples.TOPUP_ACCEPTED,
        ],
    )
    @method_decorator(sensitive_variables())
    def create(self, request: Request, account_id: UUID) -> Response:
        key = self.idempotency_key
        body = self.validated(shapes.TopUpRequest)
        method = body.pop("payment_method")
        is_card = method.pop("type") == "card"
        order = services.TopUpOrder(
            account_id=account_id,
            amount=Money(body.pop("amount"), body.pop("currency")),
            idempotency_key=key,
            token=method.get("token", ""),
            card=CardData(**method) if is_card else None,
            asked_by=self.principal.actor_id,
            **body,
        )
        with waiting_slot():
            made = services.top_up(
                tenant_id=self.tenant_id, order=order, now=timezone.now(), owner_id=self.owner_id
            )
        shown = self._shown(made.payment.pk)
        status = 201 if shown["status"] in _FINAL else 202
        return self.answer(shown, status=status, is_replay=made.is_replay)

    @extend_schema(
        operation_id="get_topup",
        summary="Get a top-up",
        responses=shapes.TopUpResponse,
        examples=[examples.TOPUP],
    )
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return Response(self._shown(pk))

    def _shown(self, topup_id: UUID) -> Any:
        topup = topup_of(tenant_id=self.tenant_id, topup_id=topup_id, owner_id=self.owner_id)
        return self.get_serializer(topup).data


@extend_schema(tags=["Payments"])
class RefundViewSet(TenantViewSet[Refund]):
    queryset = Refund.objects.all()
    serializer_class = shapes.RefundResponse
    keyed_actions = ("create",)
    permissions: ClassVar[dict[str, Permission]] = {
        "index": _P.VIEW_PAYMENTS,
        "create": _P.REFUND_TOPUPS,
    }

    @extend_schema(
        operation_id="list_topup_refunds",
        summary="List the refunds of a top-up",
        responses=shapes.RefundList,
        examples=[examples.REFUNDS],
    )
    def index(self, request: Request, topup_id: UUID) -> Response:
        topup = topup_of(tenant_id=self.tenant_id, topup_id=topup_id, owner_id=self.owner_id)
        refunds = refunds_of(tenant_id=self.tenant_id, payment_id=topup.pk)
        return Response({"results": self.get_serializer(refunds, many=True).data})

    @extend_schema(
        operation_id="refund_topup",
        summary="Pay a top-up back, or a part of it",
        description=(
            "The account is debited at once; if the gateway refuses, it has the money back. Never"
            " more than was paid, however many refunds. 201: done or refused. 202: on its way."
        ),
        request=shapes.RefundRequest,
        responses={201: shapes.RefundResponse, 202: shapes.RefundResponse},
        examples=[examples.REFUND_REQUEST, examples.REFUND, examples.REFUND_ACCEPTED],
    )
    def create(self, request: Request, topup_id: UUID) -> Response:
        key = self.idempotency_key
        body = self.validated(shapes.RefundRequest)
        with waiting_slot():
            made = services.refund_topup(
                tenant_id=self.tenant_id,
                topup_id=topup_id,
                amount=body["amount"],
                reason=body["reason"],
                idempotency_key=key,
                now=timezone.now(),
                asked_by=self.principal.actor_id,
            )
        shown = self.get_serializer(made.refund).data
        status = 201 if shown["status"] in ("succeeded", "failed") else 202
        return self.answer(shown, status=status, is_replay=made.is_replay)


@extend_schema(tags=["Payments"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_payouts",
        summary="List payouts, newest first",
        examples=[examples.PAYOUT],
    ),
)
class PayoutViewSet(ListModelMixin, TenantViewSet[Payout]):
    queryset = Payout.objects.all()
    serializer_class = payout_shapes.PayoutResponse
    filter_backends = [DjangoFilterBackend]
    filterset_class = PayoutFilter
    keyed_actions = ("create",)
    permissions: ClassVar[dict[str, Permission]] = {
        "list": _P.VIEW_PAYMENTS,
        "retrieve": _P.VIEW_PAYMENTS,
        "create": _P.MAKE_PAYOUTS,
    }

    def get_queryset(self) -> QuerySet[Payout]:
        return payouts_of(tenant_id=self.tenant_id, owner_id=self.owner_id)

    @extend_schema(
        operation_id="make_payout",
        summary="Pay to an account at another bank",
        description=(
            "The source is debited at once. A worker sends the payout to the gateway, or the next"
            " file takes it to your bank. If it fails or is returned, the source has it back."
        ),
        request=payout_shapes.PayoutRequest,
        responses={202: payout_shapes.PayoutResponse},
        examples=[examples.PAYOUT_REQUEST, examples.PAYOUT],
    )
    def create(self, request: Request) -> Response:
        key = self.idempotency_key
        body = self.validated(payout_shapes.PayoutRequest)
        made = services.make_payout(
            tenant_id=self.tenant_id,
            request=services.PayoutRequest(
                amount=Money(body.pop("amount"), body.pop("currency")),
                beneficiary=services.Beneficiary(**body.pop("beneficiary")),
                idempotency_key=key,
                asked_by=self.principal.actor_id,
                **body,
            ),
            now=timezone.now(),
            owner_id=self.owner_id,
        )
        shown = self.get_serializer(made.payout).data
        return self.answer(shown, status=202, is_replay=made.is_replay)

    @extend_schema(
        operation_id="get_payout",
        summary="Get a payout",
        responses=payout_shapes.PayoutResponse,
        examples=[examples.PAYOUT],
    )
    def retrieve(self, request: Request, pk: UUID) -> Response:
        payout = payout_of(tenant_id=self.tenant_id, payout_id=pk, owner_id=self.owner_id)
        return Response(self.get_serializer(payout).data)
