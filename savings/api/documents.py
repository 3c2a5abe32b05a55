"""Savings plans on paper over HTTP: translate, one call, translate."""

import datetime as dt
from typing import ClassVar
from uuid import UUID

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.dates import day
from core.api.renderers import PdfRenderer
from core.api.schema import MAY_CONFLICT
from core.api.views import TenantViewSet
from core.errors import InvalidRequest
from core.permissions import Permission
from savings.models import SavingsPlan
from savings.services import documents


@extend_schema(tags=["Savings"])
class PlanDocumentViewSet(TenantViewSet[SavingsPlan]):
    queryset = SavingsPlan.objects.all()
    renderer_classes = [PdfRenderer]
    query_params_by_action: ClassVar[dict[str, set[str]]] = {"statement": {"from", "to"}}
    permissions: ClassVar[dict[str, Permission]] = {
        "statement": Permission.VIEW_SAVINGS_PLANS,
        "certificate": Permission.VIEW_SAVINGS_PLANS,
    }

    @extend_schema(
        operation_id="get_savings_plan_statement",
        summary="Get a savings plan's statement as PDF",
        description="What came and went, day by day, with the interest and the tax of the period.",
        parameters=[
            OpenApiParameter(
                "from", OpenApiTypes.DATE, required=True, description="The first day."
            ),
            OpenApiParameter(
                "to", OpenApiTypes.DATE, required=True, description="The last day, inclusive."
            ),
        ],
        responses={(200, "application/pdf"): OpenApiTypes.BINARY},
    )
    def statement(self, request: Request, plan_id: UUID) -> Response:
        first, last = self._asked_day("from"), self._asked_day("to")
        document = documents.statement_pdf(
            tenant_id=self.tenant_id,
            plan_id=plan_id,
            first=first,
            last=last,
            now=timezone.now(),
            owner_id=self.owner_id,
        )
        return _file(document, f"savings-plan-{plan_id}-{first}-{last}.pdf")

    @extend_schema(
        operation_id="get_savings_plan_certificate",
        summary="Get a certificate of what is locked in a savings plan as PDF",
        description="Of one that is locked: how much, until when, and on what terms.",
        extensions=MAY_CONFLICT,
        responses={(200, "application/pdf"): OpenApiTypes.BINARY},
    )
    def certificate(self, request: Request, plan_id: UUID) -> Response:
        document = documents.certificate_pdf(
            tenant_id=self.tenant_id, plan_id=plan_id, now=timezone.now(), owner_id=self.owner_id
        )
        return _file(document, f"savings-plan-{plan_id}-certificate.pdf")

    def _asked_day(self, field: str) -> dt.date:
        if field not in self.request.query_params:
            raise InvalidRequest("A statement has a first and a last day.", field=field)
        return day(self.request.query_params[field], field=field)


def _file(document: bytes, name: str) -> Response:
    return Response(document, headers={"Content-Disposition": f'inline; filename="{name}"'})
