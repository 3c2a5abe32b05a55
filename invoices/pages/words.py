"""What a payer reads of codes and states."""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from invoices.models import Installment, Invoice

_S = Invoice.Status

BADGES: dict[str, Promise] = {
    _S.DRAFT: _("Not yet issued"),
    _S.PENDING: _("To be paid"),
    _S.PARTIALLY_PAID: _("Partly paid"),
    _S.FULLY_PAID: _("Paid"),
    _S.FAILED: _("On hold"),
    _S.EXPIRED: _("Expired"),
    _S.VOIDED: _("Cancelled"),
    _S.REFUNDED: _("Refunded"),
}
# Why nothing can be paid here.
REASONS: dict[str, Promise] = {
    _S.DRAFT: _("This invoice has not been issued yet. It cannot be paid."),
    _S.FULLY_PAID: _("Thank you. This invoice is paid."),
    _S.FAILED: _("Too many attempts to pay failed. Please write to the seller."),
    _S.EXPIRED: _("The time to pay has run out. Please write to the seller."),
    _S.VOIDED: _("This invoice was cancelled. There is nothing to pay."),
    _S.REFUNDED: _("What was paid was paid back."),
}
INSTALLMENTS: dict[str, Promise] = {
    Installment.Status.UNPAID: _("open"),
    Installment.Status.PARTIALLY_PAID: _("partly paid"),
    Installment.Status.PAID: _("paid"),
    Installment.Status.OVERDUE: _("overdue"),
    Installment.Status.CANCELLED: _("cancelled"),
}
GATEWAYS = {"xendit": "Xendit", "midtrans": "Midtrans", "sandbox": "Sandbox"}
_DECLINED = _("Your bank declined the payment. Nothing was charged. Try another card.")
_FAILURES: dict[str, Promise] = {
    "insufficient_funds": _("The card has not enough money. Nothing was charged."),
    "insufficient_balance": _("The card has not enough money. Nothing was charged."),
    "expired_card": _("The card has expired. Nothing was charged."),
    "incorrect_cvc": _("The security code is wrong. Nothing was charged."),
    "invalid_cvc": _("The security code is wrong. Nothing was charged."),
    "authentication_failed": _("Your bank did not confirm that it is you. Nothing was charged."),
    "lost_card": _DECLINED,
    "stolen_card": _DECLINED,
    "expired": _("The payment page ran out of time. Nothing was charged."),
    "gateway_unreachable": _("The payment service cannot be reached. Nothing was charged."),
}


def failure(code: str) -> Promise:
    """Return what to tell of a failed attempt; what the bank said in detail is its own."""
    return _FAILURES.get(code.lower(), _DECLINED)
