"""A tenant's gateways over HTTP: translate, one call, translate."""

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_variables
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.filters import DjangoFilterBackend
from core.api.schema import MAY_CONFLICT
from core.api.views import TenantViewSet
from core.permissions import Permission
from payments import services
from payments.api.examples import gateways as examples
from payments.api.filters import GatewayFilter
from payments.api.serializers import gateways as shapes
from payments.models import GatewayConfiguration

_P = Permission


@extend_schema(tags=["Gateways"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_gateways",
        summary="List gateways",
        description="Credentials are never shown, but for the last characters of one.",
        examples=[examples.GATEWAY],
    ),
    retrieve=extend_schema(
        operation_id="get_gateway", summary="Get a gateway", examples=[examples.GATEWAY]
    ),
)
class GatewayViewSet(ListModelMixin, RetrieveModelMixin, TenantViewSet[GatewayConfiguration]):
    queryset = GatewayConfiguration.objects.all()
    serializer_class = shapes.GatewayResponse
    filter_backends = [DjangoFilterBackend]
    filterset_class = GatewayFilter
    permissions: ClassVar[dict[str, Permission]] = {
        "list": _P.VIEW_GATEWAYS,
        "retrieve": _P.VIEW_GATEWAYS,
        "create": _P.MANAGE_GATEWAYS,
        "partial_update": _P.MANAGE_GATEWAYS,
        "destroy": _P.MANAGE_GATEWAYS,
    }

    def get_queryset(self) -> QuerySet[GatewayConfiguration]:
        return super().get_queryset().filter(deleted_at=None)

    @extend_schema(
        operation_id="add_gateway",
        summary="Set a gateway up",
        description=(
            "Enter `webhook_url` at the gateway. A tenant's enabled gateways are all of one mode:"
            " test payments never mix with real money."
        ),
        request=shapes.NewGatewayRequest,
        responses={201: shapes.GatewayResponse},
        examples=[examples.NEW_GATEWAY_REQUEST, examples.GATEWAY],
    )
    @method_decorator(sensitive_variables())
    def create(self, request: Request) -> Response:
        new = services.NewGateway(**self.validated(shapes.NewGatewayRequest))

        def effect() -> tuple[int, Any]:
            made = services.add_gateway(tenant_id=self.tenant_id, new=new, now=timezone.now())
            return 201, self.get_serializer(made).data

        return self.answer_once(effect)

    @extend_schema(
        operation_id="change_gateway",
        summary="Change a gateway, or its secrets",
        request=shapes.ChangeGatewayRequest,
        responses=shapes.GatewayResponse,
        examples=[examples.CHANGE_GATEWAY_REQUEST, examples.GATEWAY],
    )
    @method_decorator(sensitive_variables())
    def partial_update(self, request: Request, pk: UUID) -> Response:
        changed = services.change_gateway(
            tenant_id=self.tenant_id,
            configuration_id=pk,
            changes=self.changes(shapes.ChangeGatewayRequest),
            now=timezone.now(),
        )
        return Response(self.get_serializer(changed).data)

    @extend_schema(
        operation_id="delete_gateway",
        summary="Take a gateway out of use for good",
        description="Not while payments through it are under way: disable it until they end.",
        extensions=MAY_CONFLICT,
        responses={204: None},
    )
    def destroy(self, request: Request, pk: UUID) -> Response:
        services.delete_gateway(tenant_id=self.tenant_id, configuration_id=pk, now=timezone.now())
        return Response(status=204)
