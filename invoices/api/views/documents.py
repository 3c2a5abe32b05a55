"""Invoices as files over HTTP: translate, one call, translate."""

from typing import ClassVar
from uuid import UUID

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.renderers import PdfRenderer, XmlRenderer
from core.api.schema import MAY_CONFLICT
from core.api.views import TenantViewSet
from core.errors import InvalidRequest, NotFound
from core.permissions import Permission
from invoices.models import CreditNote, Invoice, Receipt
from invoices.queries import invoice_of
from invoices.services import documents
from invoices.services.payment_initiation import export_payment_initiation

DOCUMENTS = ("invoice", "receipt", "credit_note")


@extend_schema(tags=["Invoices"])
class PdfViewSet(TenantViewSet[Invoice]):
    queryset = Invoice.objects.all()
    renderer_classes = [PdfRenderer]
    query_params_by_action: ClassVar[dict[str, set[str]]] = {"retrieve": {"document", "id"}}
    permissions: ClassVar[dict[str, Permission]] = {"retrieve": Permission.VIEW_INVOICES}

    @extend_schema(
        operation_id="get_invoice_pdf",
        summary="Get an invoice as PDF; or a receipt or a credit note of it",
        parameters=[
            OpenApiParameter("document", enum=DOCUMENTS, default=DOCUMENTS[0]),
            OpenApiParameter(
                "id", OpenApiTypes.UUID, description="Of the payment, or of the credit note."
            ),
        ],
        responses={(200, "application/pdf"): OpenApiTypes.BINARY},
    )
    def retrieve(self, request: Request, invoice_id: UUID) -> Response:
        kind = request.query_params.get("document", DOCUMENTS[0])
        if kind not in DOCUMENTS:
            raise InvalidRequest(f"One of {', '.join(DOCUMENTS)}.", field="document")
        invoice = invoice_of(tenant_id=self.tenant_id, invoice_id=invoice_id)
        if kind == "invoice":
            if "id" in request.query_params:
                raise InvalidRequest("The path names the invoice.", field="id")
            name = f"{invoice.number or invoice.pk}.pdf"
            return _file(documents.render_invoice(invoice=invoice), name, "inline")
        of_it = {"tenant_id": self.tenant_id, "invoice_id": invoice.pk, "pk": self._id()}
        if kind == "receipt":
            receipt = Receipt.objects.filter(**of_it).first()
            if receipt is None:
                raise NotFound("No such payment of this invoice.")
            name = f"receipt-{receipt.pk}.pdf"
            return _file(documents.render_receipt(receipt=receipt), name, "inline")
        credit_note = CreditNote.objects.filter(**of_it).first()
        if credit_note is None:
            raise NotFound("No such credit note of this invoice.")
        name = f"{credit_note.number}.pdf"
        return _file(documents.render_credit_note(credit_note=credit_note), name, "inline")

    def _id(self) -> UUID:
        try:
            return UUID(self.request.query_params.get("id", ""))
        except ValueError:
            raise InvalidRequest("Which one, by its id.", field="id") from None


@extend_schema(tags=["Invoices"])
class PaymentInitiationViewSet(TenantViewSet[Invoice]):
    queryset = Invoice.objects.all()
    renderer_classes = [XmlRenderer]
    permissions: ClassVar[dict[str, Permission]] = {"retrieve": Permission.VIEW_INVOICES}

    @extend_schema(
        operation_id="get_payment_initiation",
        summary="Get the transfers that pay an invoice, as ISO 20022 XML",
        description=(
            "pain.001.001.09: one transfer for each installment that is due, from the customer's"
            " account to yours."
        ),
        extensions=MAY_CONFLICT,
        responses={(200, "application/xml"): OpenApiTypes.BINARY},
    )
    def retrieve(self, request: Request, invoice_id: UUID) -> Response:
        document = export_payment_initiation(
            tenant_id=self.tenant_id, invoice_id=invoice_id, now=timezone.now()
        )
        return _file(document, f"payment-initiation-{invoice_id}.xml", "attachment")


def _file(content: bytes, name: str, disposition: str) -> Response:
    return Response(content, headers={"Content-Disposition": f'{disposition}; filename="{name}"'})
