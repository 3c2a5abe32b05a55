"""A tenant's invoice settings over HTTP: translate, one call, translate."""

from typing import ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.schema import IF_MATCH
from core.api.views import TenantViewSet
from core.permissions import Permission
from invoices import services
from invoices.api import examples
from invoices.api.serializers import settings as shapes
from invoices.models import InvoiceSettings
from invoices.queries import settings_of


@extend_schema(tags=["Invoices"])
class SettingsViewSet(TenantViewSet[InvoiceSettings]):
    queryset = InvoiceSettings.objects.all()
    serializer_class = shapes.SettingsResponse
    permissions: ClassVar[dict[str, Permission]] = {
        "retrieve": Permission.VIEW_INVOICES,
        "partial_update": Permission.MANAGE_INVOICE_SETTINGS,
    }

    @extend_schema(
        operation_id="get_invoice_settings",
        summary="Get who you are on your invoices, and how you remind",
        description="With the version of it, as ETag.",
        responses=shapes.SettingsResponse,
        examples=[examples.SETTINGS],
    )
    def retrieve(self, request: Request) -> Response:
        return self._shown(settings_of(tenant_id=self.tenant_id))

    @extend_schema(
        operation_id="change_invoice_settings",
        summary="Change them",
        parameters=[IF_MATCH],
        request=shapes.ChangeSettingsRequest,
        responses=shapes.SettingsResponse,
        examples=[examples.CHANGE_SETTINGS_REQUEST, examples.SETTINGS],
    )
    def partial_update(self, request: Request) -> Response:
        changed = services.change_invoice_settings(
            tenant_id=self.tenant_id,
            changes=self.changes(shapes.ChangeSettingsRequest),
            as_seen=self.as_seen,
            now=timezone.now(),
        )
        return self._shown(changed)

    def _shown(self, settings: InvoiceSettings) -> Response:
        version = services.settings_version(settings)
        return self.editable(version, self.get_serializer(settings).data)
