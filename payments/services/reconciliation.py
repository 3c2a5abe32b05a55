"""
Reconciliation: once a day each gateway's books are held against the ledger's.

Looked at is whatever changed since a few days ago, and whatever is still open. What differs becomes
a discrepancy, for a person to resolve; what only we had not heard yet is taken down on the way.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction

from core.caller import current_caller
from core.changes import record_change
from core.errors import InvalidRequest, InvalidState, NotFound
from ledger.queries import transaction_by_key
from payments.gateways.port import GatewayFault, NoSuchObject, PaymentReport, State
from payments.gateways.registry import connect
from payments.models import Discrepancy, GatewayConfiguration, Payment, Payout, Refund
from payments.services.outcomes import apply_report, deposit
from payments.services.payouts import ask_about_payout
from payments.services.refunds import refund_payment
from payments.services.steps import ask_about_payment
from payments.services.waiting import open_discrepancy, tell_a_person

logger = structlog.get_logger(__name__)

LOOK_BACK = dt.timedelta(days=3)
# Of one gateway in one run; what is left over is said in the log, and waits a day.
LOOKED_AT_MAX = 50_000
_CHUNK = 500
_HAS_MONEY = (
    Payment.Status.PAID,
    Payment.Status.DEPOSIT_PENDING,
    Payment.Status.DEPOSITED,
    Payment.Status.REFUNDING,
)
# By hand, from the screen: what is done, and what it says.
RESOLUTIONS = {
    "asked_again": "Ask the gateway again",
    "deposited": "Try the deposit again",
    "refunded": "Pay the payer back",
    "accepted": "Accept the difference",
}


@dataclass(slots=True)
class Reconciled:
    """What a run looked at and found."""

    payments: int = 0
    payouts: int = 0
    unanswered: int = 0
    found: int = 0


def reconcile(*, now: dt.datetime, tenant_id: UUID | None = None) -> Reconciled:
    """Hold all gateways' books against ours, or a tenant's; calls each gateway once a payment."""
    result = Reconciled()
    configurations = GatewayConfiguration.objects.kept().exclude(
        gateway=GatewayConfiguration.Gateway.BANK_FILE
    )
    if tenant_id is not None:
        configurations = configurations.filter(tenant_id=tenant_id)
    for configuration in configurations.order_by("pk"):
        before = _open_count(configuration)
        _reconcile_payments(configuration, now, result)
        _reconcile_payouts(configuration, now, result)
        _look_for_strangers(configuration, now, result)
        result.found += max(_open_count(configuration) - before, 0)
    return result


def resolve_discrepancy(
    *, tenant_id: UUID, discrepancy_id: UUID, resolution: str, note: str, now: dt.datetime
) -> Discrepancy:
    """
    Resolve a difference by one of RESOLUTIONS; who and why is kept.

    :raises NotFound: no such discrepancy in this tenant
    :raises InvalidState: it is resolved, or what was done did not resolve it
    :raises InvalidRequest: a resolution that this kind does not have
    """
    if resolution not in RESOLUTIONS:
        raise InvalidRequest("No such resolution.", field="resolution")
    found = Discrepancy.objects.filter(tenant_id=tenant_id, pk=discrepancy_id).first()
    if found is None:
        raise NotFound("No such discrepancy.")
    if found.status != Discrepancy.Status.OPEN:
        raise InvalidState("It is resolved.")
    if resolution != "accepted":
        _act_on(found, resolution, note, now)
    with transaction.atomic():
        locked = Discrepancy.objects.select_for_update().get(pk=found.pk)
        if locked.status != Discrepancy.Status.OPEN:
            raise InvalidState("It is resolved.")
        locked.status = Discrepancy.Status.RESOLVED
        locked.resolution, locked.resolution_note = resolution, note
        locked.resolved_by, locked.resolved_at = current_caller().actor_id, now
        locked.save()
        _forget_attention(locked)
        record_change(
            tenant_id=tenant_id,
            action="discrepancy.resolved",
            object_id=locked.pk,
            now=now,
            before={"status": "open"},
            after={"status": "resolved", "resolution": resolution},
            reason=note,
        )
    return locked


def _reconcile_payments(
    configuration: GatewayConfiguration, now: dt.datetime, result: Reconciled
) -> None:
    for payment in _changed(Payment, configuration, now):
        result.payments += 1
        is_over = payment.status in (Payment.Status.FAILED, Payment.Status.EXPIRED)
        if is_over and not payment.gateway_payment_id:
            continue
        try:
            report = connect(configuration).get_payment(
                reference=payment.reference,
                gateway_id=payment.gateway_payment_id,
                method=payment.method,
                currency=payment.currency,
            )
        except NoSuchObject:
            if payment.status in _HAS_MONEY:
                kind = Discrepancy.Kind.NOT_AT_GATEWAY
                tell_a_person(payment, kind, now=now, ours=payment.status, theirs="unknown")
            continue
        except GatewayFault as fault:
            result.unanswered += 1
            if fault.code == "paid_twice":
                kind = Discrepancy.Kind.PAID_TWICE
                tell_a_person(payment, kind, now=now, ours=payment.status, theirs=fault.detail)
            continue
        _compare(payment, report, now)


def _compare(payment: Payment, report: PaymentReport, now: dt.datetime) -> None:
    """Take down what we had not heard; then hold the ledger against what the gateway says."""
    payment = apply_report(payment_id=payment.pk, report=report, now=now)
    if payment.status in (Payment.Status.PAID, Payment.Status.DEPOSIT_PENDING):
        payment = deposit(payment_id=payment.pk, now=now)
    posted = transaction_by_key(tenant_id=payment.tenant_id, idempotency_key=f"topup {payment.pk}")
    if (posted is None) != (payment.transaction_id is None):
        tell_a_person(
            payment,
            Discrepancy.Kind.STATUS_DIFFERS,
            now=now,
            ours="posted" if posted else "not posted",
            theirs=report.raw_status,
        )
    if report.state is State.SUCCEEDED and report.refunded > payment.refunded_amount:
        on_their_way = sum(
            Refund.objects.filter(payment=payment)
            .exclude(status=Refund.Status.FAILED)
            .values_list("amount", flat=True)
        )
        if report.refunded > on_their_way:
            tell_a_person(
                payment,
                Discrepancy.Kind.REFUND_DIFFERS,
                now=now,
                ours=f"{on_their_way} {payment.currency}",
                theirs=f"{report.refunded} {payment.currency}",
            )


def _reconcile_payouts(
    configuration: GatewayConfiguration, now: dt.datetime, result: Reconciled
) -> None:
    for payout in _changed(Payout, configuration, now):
        if payout.status == Payout.Status.PENDING:
            continue
        result.payouts += 1
        ask_about_payout(payout, now=now)


def _look_for_strangers(
    configuration: GatewayConfiguration, now: dt.datetime, result: Reconciled
) -> None:
    """Look for money that the gateway took under this configuration and we know nothing of."""
    try:
        listed = connect(configuration).list_payments(since=now - LOOK_BACK)
    except GatewayFault:
        result.unanswered += 1
        return
    paid = [each for each in listed or [] if each.state is State.SUCCEEDED]
    for start in range(0, len(paid), _CHUNK):
        chunk = paid[start : start + _CHUNK]
        known = dict(
            Payment.objects.filter(reference__in=[each.reference for each in chunk]).values_list(
                "reference", "gateway_payment_id"
            )
        )
        for report in chunk:
            if known.get(report.reference) == report.gateway_id:
                continue
            if known.get(report.reference) == "":
                # Ours, whose answer was lost: the sweep is about to ask.
                continue
            open_discrepancy(
                tenant_id=configuration.tenant_id,
                configuration_id=configuration.pk,
                kind=Discrepancy.Kind.NOT_OURS,
                object_type="payment",
                object_id=None,
                reference=f"{report.reference} {report.gateway_id}"[:100],
                amount=report.amount.minor_units,
                currency=report.amount.currency,
                detail={"ours": "none", "theirs": report.raw_status},
                now=now,
            )


def _changed(
    model: type[Payment] | type[Payout], configuration: GatewayConfiguration, now: dt.datetime
) -> Iterator[Any]:
    rows = model._default_manager.filter(
        configuration=configuration, updated_at__gte=now - LOOK_BACK
    ).select_related("configuration")
    looked_at = 0
    for row in rows.order_by("updated_at", "pk")[:LOOKED_AT_MAX].iterator(chunk_size=_CHUNK):
        looked_at += 1
        yield row
    if looked_at == LOOKED_AT_MAX:
        logger.warning("reconciliation cut short", configuration=str(configuration.pk))


def _open_count(configuration: GatewayConfiguration) -> int:
    return Discrepancy.objects.filter(
        configuration=configuration, status=Discrepancy.Status.OPEN
    ).count()


def _act_on(found: Discrepancy, resolution: str, note: str, now: dt.datetime) -> None:
    """Do what the person chose; refuse where that did not help."""
    is_about = found.object_type if found.object_id is not None else ""
    if is_about == "payout" and resolution == "asked_again":
        ask_about_payout(Payout.objects.get(pk=found.object_id or ""), now=now)
        return
    if is_about != "payment":
        raise InvalidRequest("This can only be accepted.", field="resolution")
    payment = Payment.objects.get(pk=found.object_id or "")
    if resolution == "asked_again":
        before = payment.status
        after = ask_about_payment(payment, now=now)
        if after.status == before and after.attention:
            raise InvalidState(f"The gateway said nothing new: it is still {after.status}.")
    elif resolution == "deposited":
        after = deposit(payment_id=payment.pk, now=now)
        if after.status != Payment.Status.DEPOSITED:
            raise InvalidState(f"The deposit was refused: {after.deposit_refusal or after.status}.")
    else:
        refund_payment(
            tenant_id=payment.tenant_id,
            payment_id=payment.pk,
            amount=None,
            reason=note,
            idempotency_key=f"discrepancy {found.pk}",
            now=now,
        )


def _forget_attention(resolved: Discrepancy) -> None:
    models = {"payment": Payment, "payout": Payout, "refund": Refund}
    model = models.get(resolved.object_type)
    if model is not None and resolved.object_id is not None:
        model._default_manager.filter(pk=resolved.object_id, attention=resolved.kind).update(
            attention=""
        )
