"""
What a gateway's notification leads to: a look at what it is about.

It is a hint, for neither its amount nor its status is always covered by the signature: what moves
money is asked for again. Where it says what we know already, nobody is asked.
"""

import datetime as dt

from django.db.models import Q

from payments.gateways.port import Kind, State
from payments.models import GatewayConfiguration, Payment, Payout, Refund
from payments.services.payouts import ask_about_payout
from payments.services.refunds import ask_about_refund
from payments.services.steps import ask_about_payment

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
    is_settled: bool,
    now: dt.datetime,
) -> str:
    """
    Look at what the notification is about; return applied, unchanged or ignored.

    :raises UnknownReference: we have nothing of this reference through this gateway
    :raises NotYet: ask again later
    """
    if kind == Kind.PAYMENT:
        return _payment_notice(
            _found(configuration, reference, gateway_id), claimed_state, is_settled, now
        )
    if kind == Kind.REFUND:
        refunds = Refund.objects.filter(payment__configuration=configuration)
        by_id = Q(gateway_refund_id=gateway_id) if gateway_id else Q(pk=None)
        refund = refunds.filter(Q(reference=reference) | by_id).select_related("payment").first()
        if refund is None:
            raise UnknownReference(reference or gateway_id)
        if claimed_state == refund.status:
            return UNCHANGED
        after = ask_about_refund(refund, now=now)
        return _outcome(refund.status, after.status, claimed_state)
    if kind == Kind.PAYOUT:
        payouts = Payout.objects.filter(configuration=configuration)
        by_id = Q(gateway_payout_id=gateway_id) if gateway_id else Q(pk=None)
        payout = payouts.filter(Q(reference=reference) | by_id).first()
        if payout is None:
            raise UnknownReference(reference or gateway_id)
        known = {"settled": State.SUCCEEDED, "returned": State.REVERSED, "failed": State.FAILED}
        if known.get(payout.status) == claimed_state:
            return UNCHANGED
        paid_out = ask_about_payout(payout, now=now)
        return _outcome(payout.status, paid_out.status, claimed_state)
    return IGNORED


def _found(configuration: GatewayConfiguration, reference: str, gateway_id: str) -> Payment:
    payments = Payment.objects.filter(configuration=configuration)
    found = payments.filter(reference=reference).first() if reference else None
    if found is None and gateway_id:
        found = payments.filter(gateway_payment_id=gateway_id).first()
    if found is None:
        raise UnknownReference(reference or gateway_id)
    return found


def _payment_notice(
    payment: Payment, claimed_state: str, is_settled: bool, now: dt.datetime
) -> str:
    status = Payment.Status(payment.status)
    had_money = (Payment.Status.DEPOSITED, Payment.Status.REFUNDED)
    is_old_news = (
        (claimed_state == State.SUCCEEDED and status in had_money and not is_settled)
        or (claimed_state == State.SUCCEEDED and status in had_money and payment.is_settled)
        or (claimed_state == State.PENDING and status is not Payment.Status.CREATED)
        or (claimed_state == State.EXPIRED and status is Payment.Status.EXPIRED)
        or (claimed_state == State.FAILED and status is Payment.Status.FAILED)
        or (claimed_state == State.REVERSED and status is Payment.Status.REVERSED)
    )
    if is_old_news:
        return UNCHANGED
    after = ask_about_payment(payment, now=now)
    return _outcome(payment.status, after.status, claimed_state)


def _outcome(before: str, after: str, claimed: str) -> str:
    if before != after:
        return APPLIED
    is_open = after in ("created", "unknown", "pending", "submitted")
    if is_open and claimed in (State.SUCCEEDED, State.FAILED, State.EXPIRED, State.REVERSED):
        raise NotYet(f"It is {after} here, and {claimed} by the notification.")
    return UNCHANGED
