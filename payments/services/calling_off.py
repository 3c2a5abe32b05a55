"""Calling off a gateway's page that nobody has paid, since something else takes its place."""

import datetime as dt
import functools
from collections.abc import Iterable
from uuid import UUID

import structlog
from django.db import transaction

from core.money import Money
from payments.gateways.port import GatewayFault
from payments.gateways.registry import connect
from payments.models import Payment
from payments.services.outcomes import StaleReport, apply_report, deposit

logger = structlog.get_logger(__name__)


def call_off_after_commit(payment_ids: Iterable[UUID], *, now: dt.datetime) -> None:
    """Call them off once the caller's transaction is committed, and its locks are gone."""
    for payment_id in payment_ids:
        # Robust: what was committed is not to look as if it had failed.
        transaction.on_commit(
            functools.partial(call_off, payment_id=payment_id, now=now), robust=True
        )


def call_off(*, payment_id: UUID, now: dt.datetime) -> Payment:
    """
    Have the gateway close the payment's page; return the payment as it stands then.

    As far as that is possible: a page that stays open runs out by itself, and money that comes
    through it all the same is taken as any other. Only pages are called off, never a card's
    payment.
    """
    payment = Payment.objects.select_related("configuration").get(pk=payment_id)
    if payment.method != Payment.Method.HOSTED or payment.status != Payment.Status.PENDING:
        return payment
    try:
        report = connect(payment.configuration).cancel_payment(
            reference=payment.reference,
            gateway_id=payment.gateway_payment_id,
            method=payment.method,
            amount=Money(payment.amount, payment.currency),
            redirect_url=payment.redirect_url,
        )
    except GatewayFault as fault:
        logger.info("page not called off", payment_id=str(payment_id), why=fault.detail)
        return payment
    if report is None:
        return payment
    try:
        payment = apply_report(
            payment_id=payment.pk, report=report, asked_as=payment.status, now=now
        )
    except StaleReport:
        return Payment.objects.get(pk=payment_id)
    if payment.status == Payment.Status.PAID:
        payment = deposit(payment_id=payment.pk, now=now)
    return payment
