from django.urls import path

from invoices.pages import views

urlpatterns = [
    path("<str:token>", views.page, name="pay"),
    path("<str:token>/status", views.status, name="pay-status"),
    path("<str:token>/invoice.pdf", views.invoice_pdf, name="pay-invoice"),
    path("<str:token>/receipt.pdf", views.receipt_pdf, name="pay-receipt"),
]
