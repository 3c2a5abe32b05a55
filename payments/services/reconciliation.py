"""
Reconciliation: once a day each gateway's books are held against the ledger's.

Looked at is whatever changed since a few days ago, and whatever is still open. What differs becomes
a discrepancy, for a person to resolve; what only we had not heard yet is taken down on the way.
"""

import contextlib
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import F, QuerySet

from core.caller import current_caller
from core.changes import record_change
from core.errors import InvalidRequest, InvalidState, NotFound
from core.money import format_money
from ledger.queries import transaction_by_key
from payments.gateways.port import GatewayFault, NoSuchObject, State
from payments.gateways.registry import connect
from payments.models import Discrepancy, GatewayConfiguration, Payment, Payout, Refund
from payments.services.outcomes import deposit, deposit_key, fail
from payments.services.payouts import ask_about_payout, end_payout
from payments.services.refunds import ask_about_refund, end_refund, refund_payment
from payments.services.steps import ask_about_payment
from payments.services.waiting import NoAnswer, open_discrepancy, tell_a_person

logger = structlog.get_logger(__name__)
R = TypeVar("R", Payment, Refund, Payout)

LOOK_BACK = dt.timedelta(days=3)
# Of one gateway in one run; what is left over is said in the log, and waits a day.
LOOKED_AT_MAX = 50_000
_CHUNK = 500
# A gateway that has said nothing for so long may be given up on.
GIVEN_UP_AFTER = dt.timedelta(days=1)
# By hand, from the screen: what is done, and what it says.
RESOLUTIONS = {
    "asked_again": "Ask the gateway again",
    "deposited": "Try the deposit again",
    "refunded": "Pay the payer back",
    "given_back": "It never arrived: end it, and give back what was taken for it",
    "accepted": "Accept the difference",
}


@dataclass(slots=True)
class Reconciled:
    """What a run looked at and found."""

    payments: int = 0
    refunds: int = 0
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
    # Whoever waited longest goes first: a run that is cut short begins there the next time.
    for configuration in configurations.order_by(F("reconciled_at").asc(nulls_first=True), "pk"):
        began = Discrepancy.objects.filter(configuration=configuration, found_at__gte=now)
        before = began.count()
        for part in (
            _reconcile_payments,
            _reconcile_refunds,
            _reconcile_payouts,
            _look_for_strangers,
        ):
            try:
                part(configuration, now, result)
            except Exception:
                # A gateway with a fault of its own keeps no other from being looked at.
                logger.exception("not reconciled", configuration=str(configuration.pk))
                result.unanswered += 1
        GatewayConfiguration.objects.filter(pk=configuration.pk).update(reconciled_at=now)
        result.found += began.count() - before
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
        # What it is about first, as everybody locks who opens one.
        _lock_object(found)
        locked = Discrepancy.objects.select_for_update().get(pk=found.pk)
        if locked.status != Discrepancy.Status.OPEN:
            if resolution == "accepted":
                raise InvalidState("It is resolved.")
            # What was done has resolved it.
            return locked
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
    for payment in _changed(Payment.objects.filter(configuration=configuration), now):
        is_over = payment.status in (Payment.Status.FAILED, Payment.Status.EXPIRED)
        was_never_seen = not payment.gateway_payment_id and payment.failure_code != "never_arrived"
        if is_over and was_never_seen:
            continue
        result.payments += 1
        with _counting(result):
            payment.refresh_from_db()
            refunded_before = payment.refunded_amount
            payment = ask_about_payment(payment, now=now)
            if payment.status in (Payment.Status.PAID, Payment.Status.DEPOSIT_PENDING):
                payment = deposit(payment_id=payment.pk, now=now)
            if payment.refunded_amount == refunded_before:
                # Else the answer is from before a refund went through.
                _compare(payment, now)


def _compare(payment: Payment, now: dt.datetime) -> None:
    """Hold the ledger and the refunds against what the gateway says."""
    posted = transaction_by_key(tenant_id=payment.tenant_id, idempotency_key=deposit_key(payment))
    if (posted is None) != (payment.transaction_id is None):
        tell_a_person(
            payment,
            Discrepancy.Kind.STATUS_DIFFERS,
            now=now,
            ours="posted" if posted else "not posted",
            theirs=payment.gateway_status,
        )
    theirs = payment.gateway_refunded_amount
    if theirs is None or theirs == payment.refunded_amount:
        return
    is_under_way = payment.refunds.exclude(status__in=["succeeded", "failed"]).exists()
    if not is_under_way:
        tell_a_person(
            payment,
            Discrepancy.Kind.REFUND_DIFFERS,
            now=now,
            ours=format_money(payment.refunded_amount, payment.currency),
            theirs=format_money(theirs, payment.currency),
        )


def _reconcile_refunds(
    configuration: GatewayConfiguration, now: dt.datetime, result: Reconciled
) -> None:
    of_it = Refund.objects.filter(payment__configuration=configuration).select_related("payment")
    for refund in _changed(of_it, now):
        if refund.status == Refund.Status.CREATED:
            continue
        result.refunds += 1
        with _counting(result):
            ask_about_refund(refund, now=now, may_send=False)


def _reconcile_payouts(
    configuration: GatewayConfiguration, now: dt.datetime, result: Reconciled
) -> None:
    for payout in _changed(Payout.objects.filter(configuration=configuration), now):
        if payout.status == Payout.Status.PENDING:
            continue
        result.payouts += 1
        with _counting(result):
            ask_about_payout(payout, now=now, may_send=False)


@contextlib.contextmanager
def _counting(result: Reconciled) -> Iterator[None]:
    """Count a gateway that says nothing; a fault with one object keeps no other waiting."""
    try:
        yield
    except NoAnswer:
        result.unanswered += 1
    except Exception:
        logger.exception("not reconciled")
        result.unanswered += 1


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
        ours = Payment.objects.filter(
            tenant_id=configuration.tenant_id,
            configuration=configuration,
            reference__in=[each.reference for each in chunk],
        )
        known = {
            reference: (gateway_id, next_step_at is not None)
            for reference, gateway_id, next_step_at in ours.values_list(
                "reference", "gateway_payment_id", "next_step_at"
            )
        }
        for report in chunk:
            gateway_id, is_waiting = known.get(report.reference, (None, False))
            # Without an id it is one whose answer was lost: the sweep is about to ask.
            if gateway_id == report.gateway_id or (gateway_id == "" and is_waiting):
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


def _changed(rows: QuerySet[R], now: dt.datetime) -> Iterator[R]:
    recent = rows.filter(updated_at__gte=now - LOOK_BACK).order_by("updated_at", "pk")
    # The ids first: what is looked at changes meanwhile.
    ids = list(recent.values_list("pk", flat=True)[: LOOKED_AT_MAX + 1])
    if len(ids) > LOOKED_AT_MAX:
        logger.warning("reconciliation cut short", rows=rows.model._meta.model_name)
    for start in range(0, min(len(ids), LOOKED_AT_MAX), _CHUNK):
        yield from rows.filter(pk__in=ids[start : start + _CHUNK])


def _act_on(found: Discrepancy, resolution: str, note: str, now: dt.datetime) -> None:
    """
    Do what the person chose.

    :raises InvalidState: it did not help
    :raises InvalidRequest: this kind of difference knows no such act
    """
    row = _object_of(found)
    if resolution == "asked_again":
        _ask_again(row, now)
    elif resolution == "given_back":
        _give_back(row, note, now)
    elif not isinstance(row, Payment):
        raise InvalidRequest("This can only be asked about, or accepted.", field="resolution")
    elif resolution == "deposited":
        after = deposit(payment_id=row.pk, now=now)
        if after.status != Payment.Status.DEPOSITED:
            raise InvalidState(f"The deposit was refused: {after.deposit_refusal or after.status}.")
    elif row.purpose == Payment.Purpose.INVOICE and row.status == Payment.Status.DEPOSITED:
        raise InvalidState("It has paid an invoice. Pay it back there, with a credit note.")
    else:
        is_of_invoice = row.purpose == Payment.Purpose.INVOICE
        made = refund_payment(
            tenant_id=row.tenant_id,
            payment_id=row.pk,
            amount=None,
            reason=note,
            # Another one for each that failed.
            idempotency_key=f"discrepancy {found.pk} {row.refunds.count()}",
            now=now,
            only_undeposited=is_of_invoice or found.kind == Discrepancy.Kind.NOT_DEPOSITED,
        )
        if made.refund.status == Refund.Status.FAILED:
            raise InvalidState(f"The gateway refused the refund: {made.refund.failure_code}.")


def _give_back(row: Payment | Refund | Payout | None, note: str, now: dt.datetime) -> None:
    """End a refund or payout that never arrived, once the gateway does not know of it either."""
    if isinstance(row, Payment):
        _give_up(row, note, now)
        return
    if not isinstance(row, Refund | Payout):
        raise InvalidRequest("There is nothing that could be ended.", field="resolution")
    is_asked = row.gateway_configuration.gateway != GatewayConfiguration.Gateway.BANK_FILE
    try:
        if is_asked and isinstance(row, Refund):
            row = ask_about_refund(row, now=now, may_send=False)
        elif is_asked and isinstance(row, Payout):
            row = ask_about_payout(row, now=now, may_send=False)
    except NoAnswer as fault:
        if not isinstance(fault.__cause__, NoSuchObject):
            raise InvalidState(f"The gateway cannot be asked just now: {fault}") from fault
    else:
        if is_asked:
            raise InvalidState(f"The gateway knows of it: it is {row.status}.")
    if isinstance(row, Refund):
        end_refund(row, code="given_back", now=now)
    else:
        end_payout(row, code="given_back", detail=note, now=now)


def _give_up(payment: Payment, note: str, now: dt.datetime) -> None:
    """
    End a payment that nobody can say anything of, so that it keeps nothing waiting any more. Should
    it have been paid all the same, the gateway's word of that is taken as any other.
    """
    try:
        payment = ask_about_payment(payment, now=now)
    except NoAnswer as fault:
        is_unknown_there = isinstance(fault.__cause__, NoSuchObject)
        if not is_unknown_there and now < payment.waiting_since + GIVEN_UP_AFTER:
            raise InvalidState(f"The gateway cannot be asked just now: {fault}") from fault
    with transaction.atomic():
        locked = Payment.objects.select_for_update(no_key=True).get(pk=payment.pk)
        if locked.status not in (Payment.Status.CREATED, Payment.Status.UNKNOWN):
            raise InvalidState(f"The gateway knows of it: it is {locked.status}.")
        fail(locked, Payment.Status.FAILED, "given_up", note, now)


def _ask_again(row: Payment | Refund | Payout | None, now: dt.datetime) -> None:
    if row is None or row.gateway_configuration.gateway == GatewayConfiguration.Gateway.BANK_FILE:
        raise InvalidRequest("There is nobody to ask. It can only be accepted.", field="resolution")
    before = row.status
    try:
        if isinstance(row, Payment):
            after: Payment | Refund | Payout = ask_about_payment(row, now=now)
        elif isinstance(row, Refund):
            after = ask_about_refund(row, now=now, may_send=True)
        else:
            after = ask_about_payout(row, now=now, may_send=True)
    except NoAnswer as fault:
        raise InvalidState(f"The gateway says nothing of it: {fault}") from fault
    if after.status == before and after.attention:
        raise InvalidState(f"The gateway said nothing new: it is still {after.status}.")


def _object_of(found: Discrepancy) -> Payment | Refund | Payout | None:
    model = _MODELS.get(found.object_type)
    if model is None or found.object_id is None:
        return None
    return model._default_manager.filter(pk=found.object_id).first()


def _lock_object(found: Discrepancy) -> None:
    model = _MODELS.get(found.object_type)
    if model is not None and found.object_id is not None:
        rows = model._default_manager.select_for_update(no_key=True)
        rows.filter(pk=found.object_id).first()


_MODELS: dict[str, type[Payment] | type[Refund] | type[Payout]] = {
    "payment": Payment,
    "refund": Refund,
    "payout": Payout,
}


def _forget_attention(resolved: Discrepancy) -> None:
    model = _MODELS.get(resolved.object_type)
    if model is not None and resolved.object_id is not None:
        model._default_manager.filter(pk=resolved.object_id, attention=resolved.kind).update(
            attention=""
        )
