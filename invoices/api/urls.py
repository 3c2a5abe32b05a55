from django.urls import path
from rest_framework.routers import SimpleRouter

from invoices.api import reports
from invoices.api.views import documents, invoices, money, settings

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("invoices", invoices.InvoiceViewSet, basename="invoice")

urlpatterns = [
    path(
        "invoices/<uuid:invoice_id>/installments",
        money.InstallmentViewSet.as_view({"get": "index", "patch": "adjust"}),
    ),
    path(
        "invoices/<uuid:invoice_id>/payments",
        money.PaymentViewSet.as_view({"get": "list", "post": "create"}),
    ),
    path(
        "invoices/<uuid:invoice_id>/overpayment",
        money.OverpaymentViewSet.as_view({"get": "retrieve"}),
    ),
    path(
        "invoices/<uuid:invoice_id>/overpayment/refunds",
        money.OverpaymentViewSet.as_view({"post": "refund"}),
    ),
    path(
        "invoices/<uuid:invoice_id>/apply-credit",
        money.CreditApplicationViewSet.as_view({"post": "create"}),
    ),
    path(
        "invoices/<uuid:invoice_id>/refunds",
        money.RefundViewSet.as_view({"post": "create"}),
    ),
    path(
        "invoices/<uuid:invoice_id>/credit-notes",
        money.CreditNoteViewSet.as_view({"get": "list", "post": "create"}),
    ),
    path("invoices/<uuid:invoice_id>/pdf", documents.PdfViewSet.as_view({"get": "retrieve"})),
    path(
        "invoices/<uuid:invoice_id>/payment-initiation",
        documents.PaymentInitiationViewSet.as_view({"get": "retrieve"}),
    ),
    path(
        "invoice-settings",
        settings.SettingsViewSet.as_view({"get": "retrieve", "patch": "partial_update"}),
    ),
    path("reports/financial", reports.ReportViewSet.as_view({"get": "financial"})),
    path("reports/aged-receivables", reports.ReportViewSet.as_view({"get": "aged"})),
    *router.urls,
]
