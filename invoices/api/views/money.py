"""What is paid on invoices, credited and paid back, over HTTP: translate, one call, translate."""

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.parsers import ExactJSONParser
from core.api.views import TenantViewSet
from core.permissions import Permission
from invoices import services
from invoices.api import examples
from invoices.api.serializers import invoices as invoice_shapes
from invoices.api.serializers import money as shapes
from invoices.api.views.invoices import ShowingInvoices
from invoices.models import Credit, CreditNote, CreditUse, Installment, Receipt
from invoices.queries import credits_of_invoice, invoice_of
from invoices.services import Adjustment
from payments.gateways.calling import waiting_slot

_P = Permission


@extend_schema(tags=["Invoices"])
class InstallmentViewSet(TenantViewSet[Installment]):
    queryset = Installment.objects.all()
    serializer_class = invoice_shapes.InstallmentResponse
    parser_classes = [ExactJSONParser]
    permissions: ClassVar[dict[str, Permission]] = {
        "index": _P.VIEW_INVOICES,
        "adjust": _P.MAKE_INVOICES,
    }

    @extend_schema(
        operation_id="list_installments",
        summary="List an invoice's installments",
        description="One for all of it, where it has no schedule.",
        responses=invoice_shapes.InstallmentList,
        examples=[examples.INSTALLMENTS],
    )
    def index(self, request: Request, invoice_id: UUID) -> Response:
        return self._shown(invoice_id)

    @extend_schema(
        operation_id="adjust_installments",
        summary="Give unpaid installments other days or amounts",
        description=(
            "Their sum stays what it is: else it is a 400 that says by how much it differs. Tax and"
            " fee are spread over them anew."
        ),
        request=shapes.AdjustmentsRequest,
        responses=invoice_shapes.InstallmentList,
        examples=[examples.ADJUSTMENTS_REQUEST, examples.INSTALLMENTS],
    )
    def adjust(self, request: Request, invoice_id: UUID) -> Response:
        given = self.changes(shapes.AdjustmentsRequest)["installments"]
        services.adjust_installments(
            tenant_id=self.tenant_id,
            invoice_id=invoice_id,
            adjustments=[Adjustment(**each) for each in given],
            now=timezone.now(),
        )
        return self._shown(invoice_id)

    def _shown(self, invoice_id: UUID) -> Response:
        invoice = invoice_of(tenant_id=self.tenant_id, invoice_id=invoice_id)
        context = {"now": timezone.now()}
        return Response({"results": invoice_shapes.shown_installments(invoice, context)})


@extend_schema(tags=["Invoices"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_invoice_payments",
        summary="List what was paid on an invoice",
        description=(
            "Newest first: through gateways, by hand, from the customer's credit. Attempts that"
            " failed, or are not decided, are not among them."
        ),
        examples=[examples.RECEIPT],
    ),
)
class PaymentViewSet(ListModelMixin, TenantViewSet[Receipt]):
    queryset = Receipt.objects.all()
    serializer_class = shapes.ReceiptResponse
    parser_classes = [ExactJSONParser]
    keyed_actions = ("create",)
    permissions: ClassVar[dict[str, Permission]] = {
        "list": _P.VIEW_INVOICES,
        "create": _P.MAKE_INVOICES,
    }

    def get_queryset(self) -> QuerySet[Receipt]:
        invoice = invoice_of(tenant_id=self.tenant_id, invoice_id=self.kwargs["invoice_id"])
        return super().get_queryset().filter(invoice=invoice).select_related("invoice")

    @extend_schema(
        operation_id="record_invoice_payment",
        summary="Note money that came past the gateways",
        description=(
            "Cash, or a transfer to your bank: it is debited to your cash account. What is more"
            " than was due is kept as the customer's credit. It revives an expired invoice."
        ),
        request=shapes.OfflinePaymentRequest,
        responses={201: shapes.ReceiptResponse},
        examples=[examples.OFFLINE_PAYMENT_REQUEST, examples.RECEIPT],
    )
    def create(self, request: Request, invoice_id: UUID) -> Response:
        key = self.idempotency_key
        body = self.validated(shapes.OfflinePaymentRequest)

        def effect() -> tuple[int, Any]:
            receipt = services.record_offline_payment(
                tenant_id=self.tenant_id,
                invoice_id=invoice_id,
                idempotency_key=key,
                now=timezone.now(),
                asked_by=self.principal.actor_id,
                **body,
            )
            return 201, self.get_serializer(receipt).data

        return self.answer_once(effect, on_constraint="receipt_idempotency_key_unique")


@extend_schema(tags=["Invoices"])
class OverpaymentViewSet(TenantViewSet[Credit]):
    queryset = Credit.objects.all()
    serializer_class = shapes.OverpaymentResponse
    parser_classes = [ExactJSONParser]
    keyed_actions = ("refund",)
    permissions: ClassVar[dict[str, Permission]] = {
        "retrieve": _P.VIEW_INVOICES,
        "refund": _P.REFUND_INVOICES,
    }

    @extend_schema(
        operation_id="get_overpayment",
        summary="Get what was overpaid on an invoice, and what became of it",
        responses=shapes.OverpaymentResponse,
        examples=[examples.OVERPAYMENT],
    )
    def retrieve(self, request: Request, invoice_id: UUID) -> Response:
        return Response(self._shown(invoice_id))

    @extend_schema(
        operation_id="refund_overpayment",
        summary="Pay back what was overpaid and not used",
        description="Through the gateway that it came by; what came by hand goes back by hand.",
        request=shapes.BackRequest,
        responses={201: shapes.OverpaymentResponse},
        examples=[examples.BACK_REQUEST, examples.OVERPAYMENT],
    )
    def refund(self, request: Request, invoice_id: UUID) -> Response:
        key = self.idempotency_key
        body = self.validated(shapes.BackRequest)
        with waiting_slot():
            made = services.refund_credit(
                tenant_id=self.tenant_id,
                invoice_id=invoice_id,
                idempotency_key=key,
                now=timezone.now(),
                asked_by=self.principal.actor_id,
                **body,
            )
        return self.answer(self._shown(invoice_id), status=201, is_replay=made.is_replay)

    def _shown(self, invoice_id: UUID) -> Any:
        invoice = invoice_of(tenant_id=self.tenant_id, invoice_id=invoice_id)
        credits_ = list(credits_of_invoice(tenant_id=self.tenant_id, invoice_id=invoice_id))
        uses = [use for credit in credits_ for use in credit.uses.all() if not use.is_undone]

        def used(kind: CreditUse.Kind) -> int:
            return sum(use.amount for use in uses if use.kind == kind)

        return self.get_serializer(
            {
                "invoice_id": invoice.pk,
                "currency": invoice.currency,
                "overpaid_amount": sum(credit.amount for credit in credits_),
                "remaining_amount": sum(credit.remaining_amount for credit in credits_),
                "applied_amount": used(CreditUse.Kind.APPLIED),
                "refunded_amount": used(CreditUse.Kind.REFUNDED),
                "taken_back_amount": used(CreditUse.Kind.TAKEN_BACK),
                "credits": credits_,
            }
        ).data


@extend_schema(tags=["Invoices"])
class CreditApplicationViewSet(ShowingInvoices):
    keyed_actions = ("create",)
    permissions: ClassVar[dict[str, Permission]] = {"create": _P.MAKE_INVOICES}

    @extend_schema(
        operation_id="apply_credit",
        summary="Pay an invoice from its customer's credit",
        description="Of the same customer and currency, the oldest first.",
        request=shapes.ApplyCreditRequest,
        responses={200: invoice_shapes.InvoiceResponse},
        examples=[examples.APPLY_CREDIT_REQUEST, examples.INVOICE],
    )
    def create(self, request: Request, invoice_id: UUID) -> Response:
        key = self.idempotency_key
        amount = self.validated(shapes.ApplyCreditRequest)["amount"]
        return self.answer_with(
            lambda: services.apply_credit(
                tenant_id=self.tenant_id,
                invoice_id=invoice_id,
                amount=amount,
                idempotency_key=key,
                now=timezone.now(),
                asked_by=self.principal.actor_id,
            ),
            on_constraint="receipt_idempotency_key_unique",
        )


class _CreditNotes(TenantViewSet[CreditNote]):
    queryset = CreditNote.objects.all()
    serializer_class = shapes.CreditNoteResponse
    parser_classes = [ExactJSONParser]
    keyed_actions = ("create",)

    def make(self, service: Any, invoice_id: UUID) -> Response:
        key = self.idempotency_key
        body = self.validated(shapes.BackRequest)
        with waiting_slot():
            made = service(
                tenant_id=self.tenant_id,
                invoice_id=invoice_id,
                idempotency_key=key,
                now=timezone.now(),
                asked_by=self.principal.actor_id,
                **body,
            )
        note = made.credit_note
        shown = self.get_serializer(note).data
        return self.answer(shown, status=201, is_replay=made.is_replay)


@extend_schema(tags=["Invoices"])
class RefundViewSet(_CreditNotes):
    permissions: ClassVar[dict[str, Permission]] = {"create": _P.REFUND_INVOICES}

    @extend_schema(
        operation_id="refund_invoice",
        summary="Pay back what was paid on an invoice, or a part of it",
        description=(
            "With a credit note. What is still owed stays owed. It goes back as it came: through"
            " the gateway of each payment, by hand, or to the customer's credit."
        ),
        request=shapes.BackRequest,
        responses={201: shapes.CreditNoteResponse},
        examples=[examples.BACK_REQUEST, examples.CREDIT_NOTE],
    )
    def create(self, request: Request, invoice_id: UUID) -> Response:
        return self.make(services.refund_invoice, invoice_id)


@extend_schema(tags=["Invoices"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_credit_notes",
        summary="List the credit notes of an invoice",
        description="Newest first.",
        examples=[examples.CREDIT_NOTE],
    ),
)
class CreditNoteViewSet(ListModelMixin, _CreditNotes):
    permissions: ClassVar[dict[str, Permission]] = {
        "list": _P.VIEW_INVOICES,
        "create": _P.REFUND_INVOICES,
    }

    def get_queryset(self) -> QuerySet[CreditNote]:
        invoice = invoice_of(tenant_id=self.tenant_id, invoice_id=self.kwargs["invoice_id"])
        notes = super().get_queryset().filter(invoice=invoice)
        return notes.prefetch_related("refunds__receipt")

    @extend_schema(
        operation_id="credit_invoice",
        summary="Take an invoice back, or a part of it",
        description=(
            "First what is owed, which is owed no more; then what was paid, which goes back as it"
            " came. All of an unpaid invoice: it is voided."
        ),
        request=shapes.BackRequest,
        responses={201: shapes.CreditNoteResponse},
        examples=[examples.BACK_REQUEST, examples.CREDIT_NOTE],
    )
    def create(self, request: Request, invoice_id: UUID) -> Response:
        return self.make(services.credit_invoice, invoice_id)
