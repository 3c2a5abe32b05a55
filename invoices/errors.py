"""Why invoices, and payments of them, are refused."""

from core.errors import DomainError, InvalidRequest


class ScheduleMismatch(InvalidRequest):
    """Installments that are not all of the invoice, or more than it; says by how much."""

    code = "schedule_mismatch"
    title = "The installments do not add up to the total"


class InvoiceNotPayable(DomainError):
    """A draft, a voided or expired one, or one on which nothing is due."""

    code = "invoice_not_payable"
    title = "The invoice cannot be paid"
    http_status = 409


class PaymentInProgress(DomainError):
    """Somebody else is paying the same thing at this moment."""

    code = "payment_in_progress"
    title = "A payment of this is under way"
    http_status = 409
    is_transient = True


class CreditExceedsInvoice(DomainError):
    code = "credit_exceeds_invoice"
    title = "More than is left of the invoice"
    http_status = 422


class NotEnoughCredit(DomainError):
    code = "not_enough_credit"
    title = "The customer has not that much credit"
    http_status = 422
