"""
What a gateway's notification leads to: a look at what it is about.

It is a hint, for neither its amount nor its status is always covered by the signature: what moves
money is asked for again. Where it says what we know already, nobody is asked.
"""

import contextlib
import datetime as dt
from collections.abc import Iterator
from typing import TypeVar

from django.db.models import Q, QuerySet

from payments.gateways.port import Kind, State
from payments.models import GatewayConfiguration, Payment, Payout, Refund
from payments.services.payouts import ask_about_payout
from payments.services.refunds import ask_about_refund
from payments.services.steps import ask_about_payment
from payments.services.waiting import NoAnswer

R = TypeVar("R", Payment, Refund, Payout)

APPLIED, UNCHANGED, IGNORED = "applied", "unchanged", "ignored"


class UnknownReference(Exception):
    """An authentic notification about something that is not ours."""


class NotYet(Exception):
    """The gateway does not say yet what its notification says, or cannot be asked now."""


def take_notice(
    *,
    configuration: GatewayConfiguration,
    kind: str,
    reference: str,
    gateway_id: str,
    claimed_state: str,
    raw_status: str,
    is_settled: bool,
    now: dt.datetime,
) -> str:
    """
    Look at what the notification is about; return applied, unchanged or ignored.

    :raises UnknownReference: we have nothing of this reference through this gateway
    :raises NotYet: ask again later
    """
    if kind == Kind.PAYMENT:
        payment = _found(
            # References are unique in the tenant: naming it is what makes their index usable.
            Payment.objects.filter(
                tenant_id=configuration.tenant_id, configuration=configuration
            ).select_related("configuration"),
            reference,
            Q(gateway_payment_id=gateway_id) if gateway_id else None,
        )
        if _is_old_news(payment, claimed_state, is_settled):
            return UNCHANGED
        before = payment.status
        with _asking():
            payment = ask_about_payment(payment, now=now)
        return _outcome(before, payment, claimed_state, raw_status)
    if kind == Kind.REFUND:
        refund = _found(
            Refund.objects.filter(payment__configuration=configuration).select_related("payment"),
            reference,
            Q(gateway_refund_id=gateway_id) if gateway_id else None,
        )
        if _REFUND_STATES.get(refund.status) == claimed_state:
            return UNCHANGED
        before = refund.status
        with _asking():
            refund = ask_about_refund(refund, now=now, may_send=False)
        return _outcome(before, refund, claimed_state, raw_status)
    if kind == Kind.PAYOUT:
        payout = _found(
            Payout.objects.filter(configuration=configuration).select_related("configuration"),
            reference,
            Q(gateway_payout_id=gateway_id) if gateway_id else None,
        )
        if _PAYOUT_STATES.get(payout.status) == claimed_state:
            return UNCHANGED
        before = payout.status
        with _asking():
            payout = ask_about_payout(payout, now=now, may_send=False)
        return _outcome(before, payout, claimed_state, raw_status)
    return IGNORED


_REFUND_STATES = {"succeeded": State.SUCCEEDED, "failed": State.FAILED}
_PAYOUT_STATES = {
    "settled": State.SUCCEEDED,
    "returned": State.REVERSED,
    "failed": State.FAILED,
}


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """Whatever the state here: what the notification is about has to be answered once."""
    try:
        yield
    except NoAnswer as fault:
        raise NotYet(str(fault)) from fault


def _found(rows: QuerySet[R], reference: str, by_gateway_id: Q | None) -> R:
    """Return the row of our reference; for a gateway that leaves it out, of its own id."""
    found = rows.filter(reference=reference).first() if reference else None
    if found is None and by_gateway_id is not None:
        found = rows.filter(by_gateway_id).first()
    if found is None:
        raise UnknownReference(reference or "no reference")
    return found


def _is_old_news(payment: Payment, claimed_state: str, is_settled: bool) -> bool:
    """Whether it says no more than we know; then nobody is asked."""
    status = Payment.Status(payment.status)
    if claimed_state == State.SUCCEEDED:
        had_money = (Payment.Status.DEPOSITED, Payment.Status.REFUNDED)
        return status in had_money and (payment.is_settled or not is_settled)
    if claimed_state == State.PENDING:
        return status is not Payment.Status.CREATED
    return (claimed_state, status) in (
        (State.EXPIRED, Payment.Status.EXPIRED),
        (State.FAILED, Payment.Status.FAILED),
        (State.CANCELLED, Payment.Status.FAILED),
        (State.REVERSED, Payment.Status.REVERSED),
    )


def _outcome(before: str, after: Payment | Refund | Payout, claimed: str, raw_status: str) -> str:
    if before != after.status:
        return APPLIED
    is_open = after.status in ("created", "unknown", "pending", "submitted")
    is_said_by_both = bool(raw_status) and after.gateway_status == raw_status
    if is_open and claimed not in ("", State.PENDING, State.REVIEW) and not is_said_by_both:
        raise NotYet(f"It is {after.status} here, and {claimed} by the notification.")
    return UNCHANGED
