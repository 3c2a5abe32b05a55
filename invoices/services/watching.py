"""A payer who waits: the gateway is asked what became of a payment before the sweep would."""

import contextlib
import datetime as dt

from core.limiting import count_request
from payments.models import Payment
from payments.services import NoAnswer, ask_about_payment

# Of all who look at the same payment, in a minute.
ASKED_PER_MINUTE_MAX = 12
_OPEN = (Payment.Status.PENDING, Payment.Status.UNKNOWN)


def watch(*, payment: Payment, now: dt.datetime) -> None:
    """
    Ask the gateway about a payment that a payer waits for, so that a lost notification keeps nobody
    waiting; at most twelve times a minute, however many pages are open.
    """
    if payment.status not in _OPEN:
        return
    standing = count_request(who=f"watched:{payment.pk}", limit=ASKED_PER_MINUTE_MAX)
    if standing is None or not standing.is_allowed:
        return
    with contextlib.suppress(NoAnswer):
        ask_about_payment(payment, now=now)
