"""Every change of invoices: made, finalised, sent, paid, credited, ended."""

from invoices.services.amounts import Interval
from invoices.services.credit import CreditRefund, apply_credit, refund_credit
from invoices.services.crediting import MadeCreditNote, credit_invoice, refund_invoice
from invoices.services.drafting import (
    INSTALLMENTS_MAX,
    LINES_MAX,
    Customer,
    EvenSchedule,
    NewInstallment,
    NewInvoice,
    NewLine,
    change_draft,
    create_invoice,
    create_supplementary,
)
from invoices.services.issuing import (
    finalize_invoice,
    open_again,
    send_invoice,
    settle_attention,
    void_invoice,
)
from invoices.services.mailing import requeue_mailing, send_due_mailings
from invoices.services.paying import Choice, Opened, open_checkout, record_offline_payment
from invoices.services.reminding import MAIL_TASK
from invoices.services.schedules import Adjustment, adjust_installments
from invoices.services.settings import LOCALES, change_invoice_settings, settings_version
from invoices.services.sweeping import take_due_steps
from invoices.services.watching import watch

__all__ = [
    "INSTALLMENTS_MAX",
    "LINES_MAX",
    "LOCALES",
    "MAIL_TASK",
    "Adjustment",
    "Choice",
    "CreditRefund",
    "Customer",
    "EvenSchedule",
    "Interval",
    "MadeCreditNote",
    "NewInstallment",
    "NewInvoice",
    "NewLine",
    "Opened",
    "adjust_installments",
    "apply_credit",
    "change_draft",
    "change_invoice_settings",
    "create_invoice",
    "create_supplementary",
    "credit_invoice",
    "finalize_invoice",
    "open_again",
    "open_checkout",
    "record_offline_payment",
    "refund_credit",
    "refund_invoice",
    "requeue_mailing",
    "send_due_mailings",
    "send_invoice",
    "settings_version",
    "settle_attention",
    "take_due_steps",
    "void_invoice",
    "watch",
]
