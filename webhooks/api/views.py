"""Gateways' notifications over HTTP, and those that could not be processed."""

from typing import Any, ClassVar
from uuid import UUID

import structlog
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db.models import Prefetch, QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.limits import count_stranger
from core.api.views import FlorinViewSet, TenantViewSet
from core.errors import DomainError, InvalidRequest, PayloadTooLarge, Unavailable
from core.permissions import Permission
from payments.gateways.port import Unreadable
from webhooks import services
from webhooks.api import examples, serializers
from webhooks.models import InboundAttempt, InboundEvent
from webhooks.queries import receiver_of

logger = structlog.get_logger(__name__)


class _WhateverIsAccepted(BaseContentNegotiation):
    """A notification is not refused for what its sender would like to read: it reads the status."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> Any:
        return renderers[0], renderers[0].media_type


@extend_schema(tags=["Webhooks"], auth=[])
class GatewayWebhookViewSet(FlorinViewSet[Any]):
    """
    Where gateways call. Takes no credentials of ours: the gateway's own signature is what counts.

    Gateways retry by the status: whatever passes is a 503, and never a 500.
    """

    authentication_classes = ()
    permission_classes = (AllowAny,)
    serializer_class = serializers.ReceivedResponse
    content_negotiation_class = _WhateverIsAccepted
    # Theirs is the event's own identity.
    takes_idempotency_key = False

    def perform_authentication(self, request: Request) -> None:
        """Nobody is counted: a gateway has few addresses, and much to say."""

    @extend_schema(
        operation_id="receive_gateway_webhook",
        summary="Take a gateway's notification",
        description=(
            "As the gateway sends it, signed in its own way. It is stored and answered; a worker"
            " asks the gateway what is true. The same event again is a 200 too."
        ),
        request={"application/json": OpenApiTypes.OBJECT},
        responses={200: serializers.ReceivedResponse},
        examples=[examples.NOTIFICATION, examples.RECEIVED],
    )
    def create(self, request: Request, gateway: str, configuration_id: UUID) -> Response:
        try:
            body = self._body(request)
            headers = {name.lower(): value for name, value in request.headers.items()}
            services.receive(
                receiver=receiver_of(
                    gateway=gateway, configuration_id=configuration_id, now=timezone.now()
                ),
                headers=headers,
                body=body,
                now=timezone.now(),
            )
        except Unreadable as error:
            count_stranger(request._request)
            raise InvalidRequest(str(error)) from error
        except DomainError:
            # Whoever guesses at addresses and signatures is counted.
            count_stranger(request._request)
            raise
        except Exception as error:
            logger.exception("webhook not taken", gateway=gateway)
            raise Unavailable("It could not be stored. Send it again.") from error
        return Response({"received": True})

    @staticmethod
    def _body(request: Request) -> bytes:
        stated = request._request.META.get("CONTENT_LENGTH") or "0"
        too_large = PayloadTooLarge("A notification is smaller than this.")
        if stated.isdecimal() and int(stated) > settings.WEBHOOK_BODY_SIZE_MAX:
            raise too_large
        try:
            body = request._request.body
        except RequestDataTooBig as error:
            raise too_large from error
        if len(body) > settings.WEBHOOK_BODY_SIZE_MAX:
            raise too_large
        return body


@extend_schema(tags=["Webhooks"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_failed_webhooks",
        summary="List gateways' notifications that could not be processed",
        examples=[examples.EVENT],
    ),
    retrieve=extend_schema(
        operation_id="get_failed_webhook",
        summary="Get one, with each attempt",
        responses=serializers.FailedEventResponse,
        examples=[examples.FAILED],
    ),
)
class FailedWebhookViewSet(ListModelMixin, RetrieveModelMixin, TenantViewSet[InboundEvent]):
    queryset = InboundEvent.objects.defer("body")
    serializer_class = serializers.InboundEventResponse
    permissions: ClassVar[dict[str, Permission]] = {
        "list": Permission.VIEW_WEBHOOKS,
        "retrieve": Permission.VIEW_WEBHOOKS,
        "retry": Permission.REPLAY_WEBHOOKS,
    }

    def get_queryset(self) -> QuerySet[InboundEvent]:
        failed = super().get_queryset().filter(status=InboundEvent.Status.FAILED)
        if self.action != "retrieve":
            return failed
        in_order = InboundAttempt.objects.order_by("number")
        return failed.prefetch_related(Prefetch("attempt_log", queryset=in_order))

    def get_serializer_class(self) -> Any:
        if self.action == "retrieve":
            return serializers.FailedEventResponse
        return super().get_serializer_class()

    @extend_schema(
        operation_id="retry_failed_webhook",
        summary="Have a failed notification processed again",
        request=None,
        responses=serializers.InboundEventResponse,
        examples=[examples.EVENT],
    )
    def retry(self, request: Request, pk: UUID) -> Response:
        def effect() -> tuple[int, Any]:
            event = services.replay_event(tenant_id=self.tenant_id, event_id=pk, now=timezone.now())
            return 200, serializers.InboundEventResponse(event).data

        return self.answer_once(effect)
