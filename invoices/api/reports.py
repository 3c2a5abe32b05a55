"""
Reports over HTTP: translate, one call, translate. JSON, or a file by `format` or `Accept`.
"""

from typing import ClassVar

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.dates import day
from core.api.fields import CURRENCY
from core.api.renderers import FileRenderer
from core.api.views import TenantViewSet
from core.errors import InvalidRequest
from core.permissions import Permission
from identity.models import Tenant
from invoices.api import reports_shapes as shapes
from invoices.models import DailyFigures
from invoices.services import report_files
from invoices.services.reports import (
    DAYS_MAX,
    GATEWAYS,
    GroupBy,
    aged_receivables,
    financial_report,
)


class CsvRenderer(FileRenderer):
    # In UTF-8, which is what it means without more (RFC 7111).
    media_type = "text/csv"
    format = "csv"


class XlsxRenderer(FileRenderer):
    media_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    format = "xlsx"


_FORMATS: dict[str, type[BaseRenderer]] = {
    "json": JSONRenderer,
    "csv": CsvRenderer,
    "xlsx": XlsxRenderer,
}
_FORMAT = OpenApiParameter(
    "format",
    {"type": "string", "enum": list(_FORMATS)},
    description="Goes before `Accept`. A file has amounts in major units.",
)
_FILES = {
    (200, CsvRenderer.media_type): OpenApiTypes.BINARY,
    (200, XlsxRenderer.media_type): OpenApiTypes.BINARY,
}
_DAY = {"type": "string", "format": "date"}
_GROUP_BY_DEFAULT = (GroupBy.CURRENCY, GroupBy.GATEWAY)
_FIGURES = {
    "revenue": 1_000_000,
    "tax": 100_000,
    "service_fees": 30_000,
    "collected": 1_130_000,
    "overpaid": 0,
    "refunds": 113_000,
    "refunded_revenue": 100_000,
    "refunded_tax": 10_000,
    "refunded_service_fees": 3_000,
    "net": 1_017_000,
    "invoiced": {"count": 0, "revenue": 0, "tax": 0, "service_fees": 0, "total": 0},
    "credited": 0,
    "payments": 1,
    "refund_count": 1,
}
_OWED = {
    "not_due": 1_130_000,
    "days_1_to_30": 565_000,
    "days_31_to_60": 0,
    "days_61_to_90": 0,
    "days_over_90": 0,
    "total": 1_695_000,
}
_AGED_EXAMPLE = OpenApiExample(
    "What is owed in rupiah",
    {
        "as_of": "2026-01-31",
        "time_zone": "Asia/Jakarta",
        "currencies": [
            {
                "currency": "IDR",
                "invoices": 2,
                "owed": _OWED,
                "customers": [
                    {
                        "name": "Budi Santoso",
                        "key": "email budi@example.com",
                        "invoices": 2,
                        "owed": _OWED,
                    }
                ],
                "others": {"customers": 0, "owed": dict.fromkeys(_OWED, 0)},
            }
        ],
    },
    response_only=True,
)
_EXAMPLE = OpenApiExample(
    "A month by gateway",
    {
        "from": "2026-01-01",
        "to": "2026-01-31",
        "time_zone": "Asia/Jakarta",
        "currency": "IDR",
        "gateway": "xendit",
        "group_by": ["month", "gateway"],
        "rows": [{**_FIGURES, "currency": "IDR", "gateway": "xendit", "period": "2026-01-01"}],
        "totals": [{**_FIGURES, "currency": "IDR"}],
        "outstanding": [{"currency": "IDR", "amount": 2_260_000}],
    },
    response_only=True,
)


class ReportViewSet(TenantViewSet[DailyFigures]):
    queryset = DailyFigures.objects.none()
    renderer_classes = list(_FORMATS.values())
    query_params_by_action: ClassVar[dict[str, set[str]]] = {
        "financial": {"from", "to", "currency", "gateway", "group_by", "format"},
        "aged": {"currency", "format"},
    }
    permissions: ClassVar[dict[str, Permission]] = {
        "financial": Permission.VIEW_REPORTS,
        "aged": Permission.VIEW_REPORTS,
    }

    def perform_content_negotiation(
        self, request: Request, force: bool = False
    ) -> tuple[BaseRenderer, str]:
        # One that has no such name, the action refuses.
        asked = _FORMATS.get(request.query_params.get("format", ""))
        if asked is not None:
            return asked(), asked.media_type
        return super().perform_content_negotiation(request, force)

    @extend_schema(
        tags=["Reports"],
        operation_id="get_financial_report",
        summary="Get what came in and went back, by currency, gateway and period",
        description=(
            "From daily figures that are kept as things happen, so it is as quick over a million"
            " invoices as over ten. Days are those of the tenant's time zone. Currencies are never"
            " added together. `offline` is what staff noted, `credit` what came from customers'"
            " earlier overpayments."
        ),
        parameters=[
            OpenApiParameter(
                "from", _DAY, description="First day. Left out: the first of the month of `to`."
            ),
            OpenApiParameter("to", _DAY, description="Last day, included. Left out: today."),
            OpenApiParameter("currency", CURRENCY),
            OpenApiParameter("gateway", {"type": "string", "enum": list(GATEWAYS)}),
            OpenApiParameter(
                "group_by",
                {"type": "string", "pattern": "^[a-z]+(,[a-z]+)*$", "default": "currency,gateway"},
                description=(
                    f"Any of {', '.join(GroupBy)}, with commas between; one of time at most."
                    f" Currency is always among them. At most {DAYS_MAX} days."
                ),
            ),
            _FORMAT,
        ],
        responses={(200, "application/json"): shapes.FinancialReportResponse, **_FILES},
        examples=[_EXAMPLE],
    )
    def financial(self, request: Request) -> Response:
        given = request.query_params
        tenant = self._tenant()
        last_day = day(given["to"], field="to") if "to" in given else tenant.day_of(timezone.now())
        first_day = day(given["from"], field="from") if "from" in given else last_day.replace(day=1)
        report = financial_report(
            tenant=tenant,
            first_day=first_day,
            last_day=last_day,
            currency=given.get("currency"),
            gateway=given.get("gateway"),
            group_by=_group_by(given["group_by"]) if "group_by" in given else _GROUP_BY_DEFAULT,
        )
        name = f"financial-report-{first_day}-{last_day}"
        if self._format() == "csv":
            return _file(report_files.financial_csv(report), f"{name}.csv")
        if self._format() == "xlsx":
            return _file(report_files.financial_xlsx(report), f"{name}.xlsx")
        return Response(shapes.FinancialReportResponse(report).data)

    @extend_schema(
        tags=["Reports"],
        operation_id="get_aged_receivables",
        summary="Get what is owed, by how long it is overdue and by customer",
        description="Today's. By installments: of one invoice, one may be overdue, another not.",
        parameters=[OpenApiParameter("currency", CURRENCY), _FORMAT],
        responses={(200, "application/json"): shapes.AgedReceivablesResponse, **_FILES},
        examples=[_AGED_EXAMPLE],
    )
    def aged(self, request: Request) -> Response:
        report = aged_receivables(
            tenant=self._tenant(),
            now=timezone.now(),
            currency=request.query_params.get("currency"),
        )
        name = f"aged-receivables-{report.as_of}"
        if self._format() == "csv":
            return _file(report_files.aged_csv(report), f"{name}.csv")
        if self._format() == "xlsx":
            return _file(report_files.aged_xlsx(report), f"{name}.xlsx")
        return Response(shapes.AgedReceivablesResponse(report).data)

    def _tenant(self) -> Tenant:
        return Tenant.objects.get(pk=self.tenant_id)

    def _format(self) -> str:
        asked = self.request.query_params.get("format")
        if asked is not None and asked not in _FORMATS:
            raise InvalidRequest(f"One of {', '.join(_FORMATS)}.", field="format")
        chosen: str = self.request.accepted_renderer.format
        return chosen


def _group_by(text: str) -> tuple[GroupBy, ...]:
    names = text.split(",")
    if len(set(names)) < len(names) or set(names) - set(GroupBy):
        raise InvalidRequest(
            f"Any of {', '.join(GroupBy)}, each once, with commas between.", field="group_by"
        )
    return tuple(GroupBy(name) for name in names)


def _file(document: bytes, name: str) -> Response:
    return Response(document, headers={"Content-Disposition": f'attachment; filename="{name}"'})
