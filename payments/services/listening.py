"""
What an app above is told of its payments, within the transaction that changes them.

An import upwards is not possible from here; so whoever collects money for a purpose says, when it
is loaded, who listens. Nobody listens to top-ups.
"""

import datetime as dt
from typing import Protocol

from django.core.exceptions import ImproperlyConfigured

from payments.models import Payment, Refund


class PaymentListener(Protocol):
    """
    What becomes of an app's payments. The payment is locked during each call, and what the
    listener writes commits together with it. Only `deposited` may refuse.
    """

    def lock(self, payment: Payment) -> None:
        """
        Lock what the payment is for: something is about to be posted, and everybody locks payments
        first, then what they are for, and accounts last.
        """

    def deposited(self, payment: Payment, *, now: dt.datetime) -> None:
        """
        Take the money that was posted to `payment.account_id` by `payment.transaction_id`, before
        the status moves.

        A DomainError refuses it: then nothing was posted, what the listener wrote is undone too,
        and the payment waits as deposit_pending, as for the ledger's own refusals.
        """

    def moved(self, payment: Payment, *, before: str, now: dt.datetime) -> None:
        """Take note of another status; it is saved."""

    def taken_back(self, payment: Payment, amount: int, *, now: dt.datetime) -> None:
        """
        Take note that a charge-back of `amount` minor units was posted to `payment.account_id`,
        where the deposit had been; before the status moves.
        """

    def refund_ended(self, refund: Refund, *, now: dt.datetime) -> None:
        """
        Take note that the refund succeeded or failed; what that means is posted and saved.

        One that failed has given its amount back to `payment.account_id`; but where the payment is
        reversed, the gateway has taken that too, and it is out of the account again: nothing has
        changed there, and `taken_back` is not called.
        """


# By purpose.
LISTENERS: dict[str, PaymentListener] = {}


def listen(purpose: str, listener: PaymentListener) -> None:
    """Have the listener be told of all payments of the purpose; called when an app is loaded."""
    purpose = Payment.Purpose(purpose).value
    if LISTENERS.setdefault(purpose, listener) != listener:
        raise ImproperlyConfigured(f"Somebody else listens to payments of purpose {purpose}.")


def lock_object_of(payment: Payment) -> None:
    """Have whoever listens lock what the payment is for, before something is posted."""
    listener = listener_of(payment.purpose)
    if listener is not None:
        listener.lock(payment)


def listener_of(purpose: str) -> PaymentListener | None:
    """Return who is to be told of payments of the purpose; None: nobody."""
    return LISTENERS.get(purpose)
