"""
The sweep: whatever waits for a gateway or the ledger is looked at when it is due.

A row is claimed and moved on before it is worked on, and nothing is locked while a gateway is
called. So any number of sweeps may run, and one that dies costs a delay.
"""

import contextlib
import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
from django.conf import settings
from django.db import connection, transaction

from core.errors import InvalidState
from payments.gateways.port import NoSuchObject, Refused, Uncertain, Unreachable
from payments.gateways.registry import connect
from payments.models import Discrepancy, GatewayConfiguration, Payment, Payout, Refund
from payments.services.outcomes import StaleReport, apply_report, deposit, fail, move
from payments.services.payouts import ask_about_payout, send_payout
from payments.services.refunds import ask_about_refund, refund_payment
from payments.services.waiting import (
    NoAnswer,
    claim_due,
    not_counted,
    tell_a_person,
    tell_if_asked_in_vain,
)

logger = structlog.get_logger(__name__)
R = TypeVar("R", Payment, Refund, Payout)

# At once, since a step is mostly waiting for a gateway.
THREADS = 8
# Something may happen to a payment between question and answer; then it is asked again.
ASKED_AT_ONCE_MAX = 3
# How often a step may fail by a fault of ours before a person is told.
FAILED_STEPS_MAX = 3
PAID_BACK_EVERY = dt.timedelta(days=1)
PAID_BACK_TRIES_MAX = 3
_OPEN = (Payment.Status.CREATED, Payment.Status.PENDING, Payment.Status.UNKNOWN)
_NEVER_SEEN = (Payment.Status.CREATED, Payment.Status.UNKNOWN)
# A gateway that did not get a payment in this many questions never will: five minutes.
NEVER_ARRIVED_STEPS = 2


def take_due_steps(*, now: dt.datetime, limit: int) -> int:
    """Work on at most `limit` due payments, refunds and payouts each; return how many."""
    return (
        _work(Payment, step_payment, now, limit)
        + _work(Refund, step_refund, now, limit)
        + _work(Payout, step_payout, now, limit)
    )


def step_payment(payment: Payment, now: dt.datetime) -> None:
    """Do the next thing for a payment: ask the gateway, credit the account, or pay back."""
    if payment.status in (Payment.Status.PAID, Payment.Status.DEPOSIT_PENDING):
        if payment.refunds.exists():
            # Its refund failed, perhaps because the money is gone: ask first.
            payment = ask_about_payment(payment, now=now)
        credited = deposit(payment_id=payment.pk, now=now)
        if credited.status == Payment.Status.DEPOSIT_PENDING:
            _pay_back_if_too_long(credited, now)
    elif payment.status in (
        Payment.Status.CREATED,
        Payment.Status.PENDING,
        Payment.Status.UNKNOWN,
    ):
        try:
            ask_about_payment(payment, now=now)
        finally:
            payment.refresh_from_db()
            if payment.status in _OPEN:
                tell_if_asked_in_vain(payment, now)


def step_refund(refund: Refund, now: dt.datetime) -> None:
    """Ask what became of the refund; whoever began it may have died before it was sent."""
    try:
        ask_about_refund(refund, now=now, may_send=True)
    finally:
        refund.refresh_from_db()
        tell_if_asked_in_vain(refund, now)


def step_payout(payout: Payout, now: dt.datetime) -> None:
    """Send the payout, or ask what became of it; sent before or not, if nobody knows."""
    try:
        if payout.status == Payout.Status.PENDING and payout.sent_at is None:
            send_payout(payout, now=now)
        else:
            ask_about_payout(payout, now=now, may_send=True)
    finally:
        payout.refresh_from_db()
        tell_if_asked_in_vain(payout, now)


def ask_about_payment(payment: Payment, *, now: dt.datetime) -> Payment:
    """
    Ask the gateway what became of the payment, by our reference; credit the account if it was
    paid. Never asks for money.

    :raises NoAnswer: it does not say
    """
    for _ in range(ASKED_AT_ONCE_MAX):
        try:
            report = connect(payment.configuration).get_payment(
                reference=payment.reference,
                gateway_id=payment.gateway_payment_id,
                method=payment.method,
                currency=payment.currency,
            )
        except Unreachable as fault:
            not_counted(payment, now)
            raise NoAnswer(fault.detail) from fault
        except NoSuchObject as fault:
            return _unknown_there(payment, fault, now)
        except (Uncertain, Refused) as fault:
            if fault.code == "paid_twice":
                kind = Discrepancy.Kind.PAID_TWICE
                tell_a_person(payment, kind, now=now, ours=payment.status, theirs=fault.detail)
            raise NoAnswer(fault.detail) from fault
        try:
            payment = apply_report(
                payment_id=payment.pk, report=report, asked_as=payment.status, now=now
            )
        except StaleReport:
            payment = Payment.objects.get(pk=payment.pk)
            continue
        if payment.status == Payment.Status.PAID:
            payment = deposit(payment_id=payment.pk, now=now)
        return payment
    raise NoAnswer("It changed each time that it was asked about.")


def _unknown_there(payment: Payment, fault: NoSuchObject, now: dt.datetime) -> Payment:
    """
    The gateway does not know our reference: not yet, not any more, or it never got it.

    :raises NoAnswer: and that decides nothing
    """
    has_opened_page = (
        payment.method == Payment.Method.HOSTED
        and payment.status == Payment.Status.PENDING
        and payment.configuration.gateway == GatewayConfiguration.Gateway.MIDTRANS
    )
    with transaction.atomic():
        locked = Payment.objects.select_for_update(no_key=True).get(pk=payment.pk)
        if locked.status != payment.status:
            return locked
        if has_opened_page:
            # There is no transaction before the payer chooses how to pay, and no word at the end.
            if locked.expires_at is not None and locked.expires_at + dt.timedelta(minutes=5) < now:
                detail = "Nobody paid on the page."
                fail(locked, Payment.Status.EXPIRED, "expired", detail, now)
        elif locked.status in _NEVER_SEEN and payment.steps >= NEVER_ARRIVED_STEPS:
            detail = "The gateway never got the request."
            fail(locked, Payment.Status.FAILED, "never_arrived", detail, now)
        elif locked.status == Payment.Status.CREATED:
            # Whoever was to ask has died, or is very slow.
            steps, next_step_at = payment.steps, payment.next_step_at
            move(locked, Payment.Status.UNKNOWN, now)
            Payment.objects.filter(pk=locked.pk).update(steps=steps, next_step_at=next_step_at)
        elif locked.status not in (*_NEVER_SEEN, Payment.Status.FAILED, Payment.Status.EXPIRED):
            kind = Discrepancy.Kind.NOT_AT_GATEWAY
            tell_a_person(locked, kind, now=now, ours=locked.status, theirs="unknown")
    if locked.status == payment.status:
        raise NoAnswer(fault.detail) from fault
    return locked


def _pay_back_if_too_long(payment: Payment, now: dt.datetime) -> None:
    """Give money back that no account could take for days, as the policy says."""
    days = settings.TOPUP_REFUND_AFTER_DAYS
    if not days or payment.paid_at is None or now < payment.paid_at + dt.timedelta(days=days):
        return
    tried = list(payment.refunds.order_by("-pk").values_list("created_at", flat=True))
    if tried and now < tried[0] + PAID_BACK_EVERY:
        return
    if len(tried) >= PAID_BACK_TRIES_MAX:
        kind = Discrepancy.Kind.REFUND_DIFFERS
        tell_a_person(payment, kind, now=now, ours="not deposited", theirs="not refunded")
        return
    with contextlib.suppress(InvalidState):
        # Refused where the account could take it after all, just now.
        refund_payment(
            tenant_id=payment.tenant_id,
            payment_id=payment.pk,
            amount=None,
            reason=f"The account could not be credited for {days} days.",
            idempotency_key=f"policy refund {payment.pk} {len(tried)}",
            now=now,
            only_undeposited=True,
        )


def _work(
    model: type[R], step: Callable[[R, dt.datetime], None], now: dt.datetime, limit: int
) -> int:
    """Claim what is due and take its steps, several at once where that gains anything."""
    rows = claim_due(model, now=now, limit=limit)
    if len(rows) < 2 or connection.in_atomic_block:
        for row in rows:
            _step(step, row, now)
        return len(rows)
    # This thread's own connection goes back, so that the others' are as many as the pool has.
    connection.close()

    def in_thread(row: R) -> None:
        try:
            _step(step, row, now)
        finally:
            # A thread's connection goes back to the pool with it.
            connection.close()

    threads = max(1, min(THREADS, settings.DATABASE_POOL_MAX - 1, len(rows)))
    with ThreadPoolExecutor(threads, thread_name_prefix="steps") as pool:
        list(pool.map(in_thread, rows))
    return len(rows)


def _step(step: Callable[[R, dt.datetime], None], row: R, now: dt.datetime) -> None:
    what = {"object": row._meta.model_name, "id": str(row.pk)}
    try:
        step(row, now)
    except NoAnswer as fault:
        logger.info("no answer", **what, why=str(fault))
    except Exception:
        # One that fails keeps no other waiting: it is due again already, and counted.
        logger.exception("step failed", **what)
        if row.steps >= FAILED_STEPS_MAX:
            kind = Discrepancy.Kind.UNKNOWN_OUTCOME
            tell_a_person(row, kind, now=now, ours=row.status, theirs="our own fault: see the log")
