"""Invoices over HTTP: translate, one call, translate."""

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import Prefetch, QuerySet, prefetch_related_objects
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.filters import DjangoFilterBackend
from core.api.parsers import ExactJSONParser
from core.api.schema import PERIOD
from core.api.views import TenantViewSet
from core.idempotency import fingerprint
from core.ids import new_id
from core.permissions import Permission
from invoices import services
from invoices.api import examples
from invoices.api.filters import InvoiceFilter
from invoices.api.serializers import invoices as shapes
from invoices.models import Invoice
from invoices.queries import invoices_of
from invoices.services import Customer, NewInvoice, NewLine

_P = Permission
_SUPPLEMENTS = Prefetch("supplements", queryset=Invoice.objects.only("id", "parent_id"))


class ShowingInvoices(TenantViewSet[Invoice]):
    """Base of what answers with invoices."""

    queryset = Invoice.objects.all()
    serializer_class = shapes.InvoiceResponse
    parser_classes = [ExactJSONParser]

    def get_queryset(self) -> QuerySet[Invoice]:
        return invoices_of(tenant_id=self.tenant_id).prefetch_related(_SUPPLEMENTS)

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "now": timezone.now()}

    def shown(self, invoice: Invoice) -> Any:
        """Return the invoice as it is now; four round trips for one that was just changed."""
        prefetch_related_objects([invoice], "line_items", "installments", "tenant", _SUPPLEMENTS)
        return self.get_serializer(invoice).data

    def answer_with(
        self, change: Callable[[], Invoice], *, status: int = 200, on_constraint: str = ""
    ) -> Response:
        """Answer with the invoice that a change left, once for each key."""
        return self.answer_once(lambda: (status, self.shown(change())), on_constraint=on_constraint)


@extend_schema(tags=["Invoices"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_invoices",
        summary="List invoices",
        description="Newest first; `from` and `to` say when they were made.",
        parameters=PERIOD,
        examples=[examples.INVOICE],
    ),
    retrieve=extend_schema(
        operation_id="get_invoice", summary="Get an invoice", examples=[examples.INVOICE]
    ),
)
class InvoiceViewSet(ListModelMixin, RetrieveModelMixin, ShowingInvoices):
    filter_backends = [DjangoFilterBackend]
    filterset_class = InvoiceFilter
    query_params_by_action: ClassVar[dict[str, set[str]]] = {"list": {"from", "to"}}
    permissions: ClassVar[dict[str, Permission]] = {
        "list": _P.VIEW_INVOICES,
        "retrieve": _P.VIEW_INVOICES,
        "create": _P.MAKE_INVOICES,
        "partial_update": _P.MAKE_INVOICES,
        "finalize": _P.MAKE_INVOICES,
        "send": _P.MAKE_INVOICES,
        "supplementary": _P.MAKE_INVOICES,
        "void": _P.VOID_INVOICES,
        "open_again": _P.VOID_INVOICES,
    }

    def get_queryset(self) -> QuerySet[Invoice]:
        invoices = super().get_queryset()
        if self.action != "list":
            return invoices
        start, end = self.period()
        if start is not None:
            invoices = invoices.filter(created_at__gte=start)
        return invoices if end is None else invoices.filter(created_at__lt=end)

    @extend_schema(
        operation_id="create_invoice",
        summary="Make an invoice",
        description=(
            "total = subtotal + tax + service fee. Tax is that of each line, rounded half up; none"
            " on the fee. A draft has no number yet and may be changed; `finalize` gives it one,"
            " and payers may pay at `payment_url`. Installments are given with date and amount, or"
            " as count and interval; tax and fee are spread over them in proportion, to the unit."
            " A field that is not in the document is refused: a mistyped `tax_rate` is no invoice"
            " without tax."
        ),
        request=shapes.InvoiceRequest,
        responses={201: shapes.InvoiceResponse},
        examples=[
            examples.NEW_INVOICE_REQUEST,
            examples.GIVEN_INSTALLMENTS_REQUEST,
            examples.INVOICE,
        ],
    )
    def create(self, request: Request) -> Response:
        body = self.validated(shapes.InvoiceRequest)
        is_final = body.pop("finalize")
        return self.answer_with(
            lambda: services.create_invoice(
                tenant_id=self.tenant_id,
                new=_new_invoice(body),
                now=timezone.now(),
                is_final=is_final,
            ),
            status=201,
        )

    @extend_schema(
        operation_id="change_draft_invoice",
        summary="Write a draft anew",
        description=(
            "The body is that of a new invoice, all of it. What has a number stays as it is: credit"
            " it, or make a supplementary invoice."
        ),
        request=shapes.DraftRequest,
        responses=shapes.InvoiceResponse,
        examples=[examples.DRAFT_REQUEST, examples.INVOICE],
    )
    def partial_update(self, request: Request, pk: UUID) -> Response:
        new = _new_invoice(self.changes(shapes.DraftRequest))
        changed = services.change_draft(
            tenant_id=self.tenant_id, invoice_id=pk, new=new, now=timezone.now()
        )
        return Response(self.shown(changed))

    @extend_schema(
        operation_id="finalize_invoice",
        summary="Give a draft its number; from now on it is owed",
        description=(
            "Numbers have no gaps. One that has a number stays as it is. Where its customer has"
            " credit, and your settings say so, that pays what it can."
        ),
        request=None,
        responses=shapes.InvoiceResponse,
        examples=[examples.INVOICE],
    )
    @action(detail=True, methods=["post"])
    def finalize(self, request: Request, pk: UUID) -> Response:
        return self.answer_with(
            lambda: services.finalize_invoice(
                tenant_id=self.tenant_id, invoice_id=pk, now=timezone.now()
            )
        )

    @extend_schema(
        operation_id="void_invoice",
        summary="Void: it is owed no more",
        description="Only while nothing was paid on it; else pay it back with a credit note.",
        request=shapes.InvoiceReasonRequest,
        responses=shapes.InvoiceResponse,
        examples=[examples.REASON, examples.INVOICE],
    )
    @action(detail=True, methods=["post"])
    def void(self, request: Request, pk: UUID) -> Response:
        return self._with_reason(services.void_invoice, pk)

    @extend_schema(
        operation_id="open_invoice_again",
        summary="Take payments again, after too many failed",
        request=shapes.InvoiceReasonRequest,
        responses=shapes.InvoiceResponse,
        examples=[examples.REASON, examples.INVOICE],
    )
    @action(detail=True, methods=["post"], url_path="open-again")
    def open_again(self, request: Request, pk: UUID) -> Response:
        return self._with_reason(services.open_again, pk)

    @extend_schema(
        operation_id="send_invoice",
        summary="E-mail the invoice to its customer",
        description="A worker sends it, with the PDF attached. Again with each new key.",
        request=None,
        responses={202: shapes.InvoiceResponse},
        examples=[examples.INVOICE_SENT],
    )
    @action(detail=True, methods=["post"])
    def send(self, request: Request, pk: UUID) -> Response:
        given = self.optional_idempotency_key
        # Of one length, whatever the caller's is.
        key = str(new_id()) if given is None else fingerprint(given).hex()
        return self.answer_with(
            lambda: services.send_invoice(
                tenant_id=self.tenant_id, invoice_id=pk, key=key, now=timezone.now()
            ),
            status=202,
        )

    @extend_schema(
        operation_id="create_supplementary_invoice",
        summary="Ask for more on top of an invoice",
        description=(
            "An invoice of its own, linked to this one: same customer, currency, gateway and"
            " settlement account; own lines, schedule and number."
        ),
        request=shapes.SupplementaryRequest,
        responses={201: shapes.InvoiceResponse},
        examples=[examples.SUPPLEMENTARY_REQUEST, examples.SUPPLEMENTARY],
    )
    @action(detail=True, methods=["post"])
    def supplementary(self, request: Request, pk: UUID) -> Response:
        body = self.validated(shapes.SupplementaryRequest)
        is_final = body.pop("finalize")
        return self.answer_with(
            lambda: services.create_supplementary(
                tenant_id=self.tenant_id,
                parent_id=pk,
                # The currency is the parent's, whatever is said here.
                new=_new_invoice({**body, "currency": ""}),
                now=timezone.now(),
                is_final=is_final,
            ),
            status=201,
        )

    def _with_reason(self, service: Any, invoice_id: UUID) -> Response:
        reason = self.validated(shapes.InvoiceReasonRequest)["reason"]
        return self.answer_with(
            lambda: service(
                tenant_id=self.tenant_id,
                invoice_id=invoice_id,
                reason=reason,
                now=timezone.now(),
            )
        )


def _new_invoice(body: dict[str, Any]) -> NewInvoice:
    fee = body["service_fee"] or {}
    optional = ("settlement_account_id", "locale")
    return NewInvoice(
        currency=body["currency"],
        lines=[NewLine(**line) for line in body["line_items"]],
        schedule=body["installments"],
        customer=Customer(**(body.get("customer") or {})),
        gateway=body.get("gateway") or "",
        due_date=body["due_date"],
        expires_at=body["expires_at"],
        external_id=body["external_id"],
        description=body["description"],
        metadata=body["metadata"],
        **{f"fee_{name}": value for name, value in fee.items()},
        **{name: body[name] for name in optional if name in body},
    )
