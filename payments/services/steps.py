"""
The sweep: whatever waits for a gateway or the ledger is looked at when it is due.

A row is claimed and moved on before it is worked on, and nothing is locked while a gateway is
called. So any number of sweeps may run, and one that dies costs a delay.
"""

import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
from django.conf import settings
from django.db import connection, transaction

from payments.gateways.port import NoSuchObject, Refused, Uncertain, Unreachable
from payments.gateways.registry import connect
from payments.models import Discrepancy, GatewayConfiguration, Payment, Payout, Refund
from payments.services.outcomes import apply_report, deposit, fail, move
from payments.services.payouts import ask_about_payout, send_payout
from payments.services.refunds import ask_about_refund, refund_payment
from payments.services.waiting import claim_due, is_for_a_person, not_counted, tell_a_person

logger = structlog.get_logger(__name__)
R = TypeVar("R", Payment, Refund, Payout)

# At once, since a step is mostly waiting for a gateway.
THREADS = 8
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
        credited = deposit(payment_id=payment.pk, now=now)
        if credited.status == Payment.Status.DEPOSIT_PENDING:
            _pay_back_if_too_long(credited, now)
    elif payment.status in (
        Payment.Status.CREATED,
        Payment.Status.PENDING,
        Payment.Status.UNKNOWN,
    ):
        ask_about_payment(payment, now=now)


def step_refund(refund: Refund, now: dt.datetime) -> None:
    """Ask what became of the refund; whoever began it may have died before it was sent."""
    refund = ask_about_refund(refund, now=now)
    if refund.next_step_at is not None and is_for_a_person(refund):
        tell_a_person(
            refund, Discrepancy.Kind.UNKNOWN_OUTCOME, now=now, ours=refund.status, theirs="?"
        )


def step_payout(payout: Payout, now: dt.datetime) -> None:
    """Send the payout, or ask what became of it; sent before or not, if nobody knows."""
    if payout.status == Payout.Status.PENDING and payout.steps == 1:
        payout = send_payout(payout, now=now)
    else:
        payout = ask_about_payout(payout, now=now)
    if payout.next_step_at is not None and is_for_a_person(payout):
        tell_a_person(
            payout, Discrepancy.Kind.UNKNOWN_OUTCOME, now=now, ours=payout.status, theirs="?"
        )


def ask_about_payment(payment: Payment, *, now: dt.datetime) -> Payment:
    """Ask the gateway what became of the payment, by our reference. Never asks for money."""
    configuration = payment.configuration
    try:
        report = connect(configuration).get_payment(
            reference=payment.reference,
            gateway_id=payment.gateway_payment_id,
            method=payment.method,
            currency=payment.currency,
        )
    except Unreachable:
        not_counted(payment, now)
        return payment
    except NoSuchObject:
        return _unknown_there(payment, now)
    except (Uncertain, Refused) as fault:
        if fault.code == "paid_twice":
            tell_a_person(
                payment,
                Discrepancy.Kind.PAID_TWICE,
                now=now,
                ours=payment.status,
                theirs=fault.detail,
            )
        elif is_for_a_person(payment):
            tell_a_person(
                payment,
                Discrepancy.Kind.UNKNOWN_OUTCOME,
                now=now,
                ours=payment.status,
                theirs=fault.detail,
            )
        return payment
    payment = apply_report(payment_id=payment.pk, report=report, now=now)
    if payment.status == Payment.Status.PAID:
        payment = deposit(payment_id=payment.pk, now=now)
    return payment


def _unknown_there(payment: Payment, now: dt.datetime) -> Payment:
    """The gateway does not know our reference: not yet, not any more, or it never got it."""
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
        elif locked.status == Payment.Status.PENDING:
            tell_a_person(
                locked,
                Discrepancy.Kind.NOT_AT_GATEWAY,
                now=now,
                ours=locked.status,
                theirs="unknown",
            )
        elif payment.steps >= NEVER_ARRIVED_STEPS:
            fail(
                locked,
                Payment.Status.FAILED,
                "never_arrived",
                "The gateway never got the request.",
                now,
            )
        elif locked.status == Payment.Status.CREATED:
            # Whoever was to ask has died, or is very slow.
            steps, next_step_at = payment.steps, payment.next_step_at
            move(locked, Payment.Status.UNKNOWN, now)
            Payment.objects.filter(pk=locked.pk).update(steps=steps, next_step_at=next_step_at)
    return locked


def _pay_back_if_too_long(payment: Payment, now: dt.datetime) -> None:
    """Give money back that no account could take for days, as the policy says."""
    days = settings.TOPUP_REFUND_AFTER_DAYS
    if not days or payment.paid_at is None or now < payment.paid_at + dt.timedelta(days=days):
        return
    refund_payment(
        tenant_id=payment.tenant_id,
        payment_id=payment.pk,
        amount=None,
        reason=f"The account could not be credited for {days} days.",
        idempotency_key=f"policy refund {payment.pk} {payment.refunds.count()}",
        now=now,
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

    def in_thread(row: R) -> None:
        try:
            _step(step, row, now)
        finally:
            # A thread's connection goes back to the pool with it.
            connection.close()

    with ThreadPoolExecutor(min(THREADS, len(rows)), thread_name_prefix="steps") as pool:
        list(pool.map(in_thread, rows))
    return len(rows)


def _step(step: Callable[[R, dt.datetime], None], row: R, now: dt.datetime) -> None:
    try:
        step(row, now)
    except Exception:
        # One that fails keeps no other waiting: it is due again already, and counted.
        logger.exception("step failed", object=row._meta.model_name, id=str(row.pk))
