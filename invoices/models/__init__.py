"""Invoices, what was paid and credited on them, and the figures of the reports."""

from invoices.models.books import Credit, CreditNote, CreditNoteRefund, CreditUse, Receipt
from invoices.models.figures import DailyFigures
from invoices.models.invoices import Installment, Invoice, InvoiceSettings, LineItem, NumberSeries
from invoices.models.paying import Checkout, Mailing

__all__ = [
    "Checkout",
    "Credit",
    "CreditNote",
    "CreditNoteRefund",
    "CreditUse",
    "DailyFigures",
    "Installment",
    "Invoice",
    "InvoiceSettings",
    "LineItem",
    "Mailing",
    "NumberSeries",
    "Receipt",
]
