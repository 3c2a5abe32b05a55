"""
Refunds: money of a payment back to its payer, through ledger and gateway together.

The account is debited first, in the transaction that writes the refund down; then the gateway is
asked. If it refuses, the account has its money back. A gateway knows a refund by our key: asking
twice is asking once.
"""

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from accounts.models import Account
from accounts.services import internal_account
from core.changes import record_change
from core.database import refusing, repeating
from core.errors import DomainError, IdempotencyConflict, InvalidState, NotFound
from core.idempotency import REUSED_KEY, fingerprint
from core.ids import new_id
from core.money import Money, format_money
from ledger.services import Leg, PostedTransaction, Posting, post_one
from payments.errors import RefundExceedsPayment
from payments.gateways.port import (
    NoSuchObject,
    RefundOrder,
    RefundReport,
    Refused,
    State,
    Uncertain,
    Unreachable,
)
from payments.gateways.registry import connect
from payments.models import Discrepancy, Payment, Refund
from payments.queries import topup_of
from payments.services.gateways import hold_gateway
from payments.services.listening import listener_of, lock_object_of
from payments.services.outcomes import QUESTIONS, posting_metadata
from payments.services.outcomes import move as move_payment
from payments.services.waiting import (
    NoAnswer,
    begin_waiting,
    came_right,
    end_waiting,
    mark_as_sent,
    not_counted,
    reference_of,
    tell_a_person,
    unmark_as_sent,
)

_KEY_TAKEN = "refund_idempotency_key_unique"
_TOO_MUCH = "refund_within_payment"
_S = Refund.Status


@dataclass(frozen=True, slots=True)
class MadeRefund:
    refund: Refund
    is_replay: bool


def refund_payment(
    *,
    tenant_id: UUID,
    payment_id: UUID,
    amount: int | None,
    reason: str,
    idempotency_key: str,
    now: dt.datetime,
    asked_by: str = "",
    only_undeposited: bool = False,
) -> MadeRefund:
    """
    Pay a payment back, whole (`amount` None: what is left of it) or in part, in minor units.

    Of a payment that was deposited, the account is debited, unless `only_undeposited` refuses
    that. One that was not is paid back whole.

    :raises NotFound: no such payment in this tenant
    :raises InvalidState: it was not paid, went back already, or its gateway was deleted
    :raises RefundExceedsPayment: more than is left of it
    :raises IdempotencyConflict: the key was used for another request
    :raises DomainError: whatever the ledger refuses, such as insufficient funds
    """
    refund, is_new = repeating(
        lambda: begin_refund(
            tenant_id=tenant_id,
            payment_id=payment_id,
            amount=amount,
            reason=reason,
            idempotency_key=idempotency_key,
            now=now,
            asked_by=asked_by,
            only_undeposited=only_undeposited,
        ),
        on_constraint=_KEY_TAKEN,
    )
    if is_new:
        refund = send_refund(refund, now=now)
    return MadeRefund(refund, is_replay=not is_new)


def refund_topup(
    *,
    tenant_id: UUID,
    topup_id: UUID,
    amount: int | None,
    reason: str,
    idempotency_key: str,
    now: dt.datetime,
    asked_by: str = "",
) -> MadeRefund:
    """
    Pay a top-up back, as `refund_payment` does. What was paid for an invoice goes back through the
    invoice.

    :raises NotFound: no such top-up in this tenant
    :raises DomainError: whatever refund_payment refuses
    """
    topup_of(tenant_id=tenant_id, topup_id=topup_id)
    return refund_payment(
        tenant_id=tenant_id,
        payment_id=topup_id,
        amount=amount,
        reason=reason,
        idempotency_key=idempotency_key,
        now=now,
        asked_by=asked_by,
    )


def begin_refund(
    *,
    tenant_id: UUID,
    payment_id: UUID,
    amount: int | None,
    reason: str,
    idempotency_key: str,
    now: dt.datetime,
    asked_by: str = "",
    only_undeposited: bool = False,
) -> tuple[Refund, bool]:
    """
    Write a refund down and debit the account, as `refund_payment` says; say whether it is new. The
    gateway is asked by `send_refund`, once this is committed.

    Within the caller's transaction, if there is one. It locks the payment, then what it is for
    (PaymentListener.lock): a caller who locks both does so in that order too. A twin that took the
    key first violates `refund_idempotency_key_unique`.

    :raises DomainError: whatever refund_payment refuses
    """
    request_fingerprint = fingerprint("refund", payment_id, amount, reason, asked_by)
    exceeds = RefundExceedsPayment("More than is left of the payment.")
    with refusing({_TOO_MUCH: exceeds}), transaction.atomic():
        earlier = Refund.objects.filter(
            tenant_id=tenant_id, idempotency_key=idempotency_key
        ).first()
        if earlier is not None:
            if bytes(earlier.request_fingerprint) != request_fingerprint:
                raise IdempotencyConflict(REUSED_KEY)
            return earlier, False
        payment = (
            Payment.objects.select_for_update(no_key=True)
            .filter(tenant_id=tenant_id, pk=payment_id)
            .first()
        )
        if payment is None:
            raise NotFound("No such payment.")
        if only_undeposited and payment.status == Payment.Status.DEPOSITED:
            raise InvalidState("It was deposited meanwhile.")
        hold_gateway(payment.configuration_id)
        lock_object_of(payment)
        refund = _begun(payment, amount, reason, now)
        refund.idempotency_key = idempotency_key
        refund.request_fingerprint = request_fingerprint
        refund.save(force_insert=True)
        if refund.transaction_id is None:
            move_payment(payment, Payment.Status.REFUNDING, now)
        record_change(
            tenant_id=tenant_id,
            action="refund.created",
            object_id=refund.pk,
            now=now,
            after={"payment_id": payment.pk, "amount": refund.amount},
            reason=reason,
        )
    return refund, True


def send_refund(refund: Refund, *, now: dt.datetime) -> Refund:
    """
    Ask the gateway for the refund; asked again, it is the same one. Nothing is sent for one that
    has ended.
    """
    refund.refresh_from_db()
    if refund.status not in (_S.CREATED, _S.UNKNOWN, _S.PENDING):
        return refund
    # Whether a word about this attempt says nothing of one before.
    was_sent = mark_as_sent(refund, now)
    payment = refund.payment
    try:
        report = connect(payment.configuration).refund(_order(refund))
    except Unreachable:
        if not was_sent:
            unmark_as_sent(refund)
        not_counted(refund, now)
        return refund
    except Uncertain as fault:
        return _settle(refund, _S.UNKNOWN, fault.code, now)
    except (Refused, NoSuchObject) as refusal:
        if was_sent or (isinstance(refusal, Refused) and refusal.is_about_us):
            # It may have been done before: this ends nothing.
            kind = Discrepancy.Kind.GATEWAY_REFUSES
            tell_a_person(refund, kind, now=now, ours=refund.status, theirs=refusal.detail)
            return refund
        return _settle(refund, _S.FAILED, refusal.code.lower() or "refused", now)
    return apply_refund_report(refund_id=refund.pk, report=report, now=now)


def ask_about_refund(refund: Refund, *, now: dt.datetime, may_send: bool) -> Refund:
    """
    Ask the gateway what became of the refund; what it never got, it gets again if we `may_send`.

    :raises NoAnswer: it does not say
    """
    gateway = connect(refund.payment.configuration)
    try:
        report = gateway.get_refund(_order(refund), gateway_id=refund.gateway_refund_id)
    except Unreachable as fault:
        not_counted(refund, now)
        raise NoAnswer(fault.detail) from fault
    except NoSuchObject as fault:
        if may_send and not refund.gateway_refund_id:
            return send_refund(refund, now=now)
        raise NoAnswer(fault.detail) from fault
    except (Uncertain, Refused) as fault:
        raise NoAnswer(fault.detail) from fault
    return apply_refund_report(refund_id=refund.pk, report=report, now=now)


def apply_refund_report(*, refund_id: UUID, report: RefundReport, now: dt.datetime) -> Refund:
    """Take down what the gateway says of the refund; return it as it stands then."""

    def apply() -> Refund:
        with transaction.atomic():
            refund = _locked(refund_id)
            stated = (report.reference, report.amount.minor_units, report.amount.currency)
            if stated != (refund.reference, refund.amount, refund.currency):
                tell_a_person(
                    refund,
                    Discrepancy.Kind.REFUND_DIFFERS,
                    now=now,
                    ours=f"{refund.reference} {format_money(refund.amount, refund.currency)}",
                    theirs=" ".join(map(str, stated)),
                )
                return refund
            if _contradicts(refund, report.state):
                tell_a_person(
                    refund,
                    Discrepancy.Kind.REFUND_DIFFERS,
                    now=now,
                    ours=refund.status,
                    theirs=report.raw_status,
                )
                return refund
            refund.gateway_refund_id = report.gateway_id[:100] or refund.gateway_refund_id
            refund.gateway_status = report.raw_status[:60]
            if report.state is State.SUCCEEDED:
                _move(refund, _S.SUCCEEDED, now)
            elif report.state in (
                State.FAILED,
                State.CANCELLED,
                State.EXPIRED,
                State.REVERSED,
            ):
                refund.failure_code = report.failure_code or report.state.value
                _move(refund, _S.FAILED, now)
            else:
                _move(refund, _S.PENDING, now)
        return refund

    return repeating(apply)


def _contradicts(refund: Refund, state: State) -> bool:
    """Whether the gateway says otherwise of a refund that has ended."""
    if refund.status == _S.SUCCEEDED:
        return state in (State.FAILED, State.CANCELLED, State.EXPIRED, State.REVERSED)
    return refund.status == _S.FAILED and state is State.SUCCEEDED


def _begun(payment: Payment, amount: int | None, reason: str, now: dt.datetime) -> Refund:
    """Return the refund to be, its account debited. The caller has locked the payment."""
    refunds = Refund.objects.filter(payment=payment).exclude(status=_S.FAILED)
    left = payment.amount - sum(refunds.values_list("amount", flat=True))
    wanted = left if amount is None else amount
    if payment.status in (Payment.Status.PAID, Payment.Status.DEPOSIT_PENDING):
        if wanted != payment.amount:
            raise RefundExceedsPayment("A payment that was not deposited is paid back whole.")
    elif payment.status != Payment.Status.DEPOSITED:
        raise InvalidState(f"The payment is {payment.status}; nothing is there to pay back.")
    if not 0 < wanted <= left:
        raise RefundExceedsPayment(
            f"{format_money(left, payment.currency)} of the payment is left."
        )
    if payment.status == Payment.Status.PAID:
        move_payment(payment, Payment.Status.DEPOSIT_PENDING, now)
    refund_id = new_id()
    refund = Refund(
        id=refund_id,
        tenant_id=payment.tenant_id,
        payment=payment,
        reference=reference_of("RF", refund_id),
        amount=wanted,
        currency=payment.currency,
        reason=reason,
        created_at=now,
        updated_at=now,
    )
    begin_waiting(refund, now)
    if payment.status == Payment.Status.DEPOSITED:
        refund.transaction_id = _post(refund, "refund", payment.account_id, -wanted, now).id
    return refund


def end_refund(refund: Refund, *, code: str, now: dt.datetime) -> Refund:
    """Have it be failed: the account gets its money back. For a person who knows why."""
    return _settle(refund, _S.FAILED, code, now)


def _settle(refund: Refund, status: Refund.Status, code: str, now: dt.datetime) -> Refund:
    def settle() -> Refund:
        with transaction.atomic():
            locked = _locked(refund.pk)
            locked.failure_code = code[:64] if status is _S.FAILED else ""
            _move(locked, status, now)
        return locked

    return repeating(settle)


def _move(refund: Refund, status: Refund.Status, now: dt.datetime) -> None:
    """Save the refund in its new status, with what that means for payment and ledger."""
    before = Refund.Status(refund.status)
    refund.updated_at = now
    if before in (_S.SUCCEEDED, _S.FAILED) or before is status:
        refund.save()
        return
    refund.status = status
    if status in (_S.SUCCEEDED, _S.FAILED):
        end_waiting(refund, now)
        came_right(refund, *QUESTIONS, now=now)
    else:
        begin_waiting(refund, now)
    payment = refund.payment
    if status is _S.FAILED and refund.transaction_id is not None:
        lock_object_of(payment)
        refund.return_transaction_id = _give_back(refund, now)
    refund.save()
    if status is _S.SUCCEEDED:
        payment.refunded_amount += refund.amount
        is_whole = payment.refunded_amount == payment.amount
        if is_whole and payment.status in (Payment.Status.DEPOSITED, Payment.Status.REFUNDING):
            came_right(payment, Discrepancy.Kind.NOT_DEPOSITED, now=now)
            move_payment(payment, Payment.Status.REFUNDED, now)
        else:
            payment.updated_at = now
            payment.save()
            if payment.status == Payment.Status.REVERSED:
                # The gateway took the payment back, and paid this out all the same.
                kind = Discrepancy.Kind.REFUND_DIFFERS
                tell_a_person(refund, kind, now=now, ours="reversed", theirs="refunded too")
    elif status is _S.FAILED and payment.status == Payment.Status.REFUNDING:
        # It waits for its account again, and a person has been told.
        move_payment(payment, Payment.Status.DEPOSIT_PENDING, now)
    words = {_S.PENDING: "submitted", _S.UNKNOWN: "outcome_unknown"}
    record_change(
        tenant_id=refund.tenant_id,
        action=f"refund.{words.get(status, status.value)}",
        object_id=refund.pk,
        now=now,
        before={"status": before.value},
        after={"status": status.value, "failure_code": refund.failure_code or None},
    )
    listener = listener_of(payment.purpose)
    if listener is not None and status in (_S.SUCCEEDED, _S.FAILED):
        listener.refund_ended(refund, now=now)


def _give_back(refund: Refund, now: dt.datetime) -> UUID:
    """
    Credit the account again; if it takes nothing, our suspense account keeps it for a person.

    Of a payment that was reversed meanwhile, the gateway took this part too: it goes back to the
    account and out of it again. Returns the transaction that gave it back.
    """
    payment = refund.payment
    account_id = payment.account_id
    try:
        posted = _post(refund, "refund_return", account_id, refund.amount, now)
    except DomainError as refusal:
        account_id = internal_account(
            tenant_id=refund.tenant_id,
            role=Account.Role.SUSPENSE,
            currency=refund.currency,
            now=now,
        )
        posted = _post(refund, "refund_return", account_id, refund.amount, now)
        if payment.status != Payment.Status.REVERSED:
            tell_a_person(
                refund,
                Discrepancy.Kind.RETURN_REFUSED,
                now=now,
                ours=f"{format_money(refund.amount, refund.currency)} of"
                f" {payment.account_id} in suspense",
                theirs=refund.failure_code,
                refusal=refusal.code,
            )
    if payment.status == Payment.Status.REVERSED:
        _charge_back(refund, account_id, now)
    return posted.id


def _charge_back(refund: Refund, account_id: UUID, now: dt.datetime) -> None:
    try:
        _post(refund, "chargeback", account_id, -refund.amount, now)
    except DomainError as refusal:
        suspense = internal_account(
            tenant_id=refund.tenant_id,
            role=Account.Role.SUSPENSE,
            currency=refund.currency,
            now=now,
        )
        _post(refund, "chargeback", suspense, -refund.amount, now)
        tell_a_person(
            refund,
            Discrepancy.Kind.REVERSAL_OWED,
            now=now,
            ours=f"{format_money(refund.amount, refund.currency)} owed by account {account_id}",
            theirs="reversed",
            refusal=refusal.code,
        )


def _post(
    refund: Refund, type_: str, account_id: UUID, amount: int, now: dt.datetime
) -> PostedTransaction:
    settlement = internal_account(
        tenant_id=refund.tenant_id,
        role=Account.Role.SETTLEMENT,
        currency=refund.currency,
        now=now,
    )
    posting = Posting(
        type=type_,
        currency=refund.currency,
        legs=(Leg(account_id, amount), Leg(settlement, -amount)),
        idempotency_key=f"{type_} {refund.pk}",
        request_fingerprint=fingerprint(type_, refund.pk, account_id, amount),
        description=refund.reason,
        external_reference=refund.reference,
        metadata={**posting_metadata(refund.payment), "refund_id": str(refund.pk)},
    )
    return post_one(tenant_id=refund.tenant_id, posting=posting)


def _locked(refund_id: UUID) -> Refund:
    """Return the refund, it and its payment locked: payment first, as everywhere."""
    payment_id = Refund.objects.values_list("payment_id", flat=True).get(pk=refund_id)
    payment = Payment.objects.select_for_update(no_key=True).get(pk=payment_id)
    refund = Refund.objects.select_for_update(no_key=True).get(pk=refund_id)
    refund.payment = payment
    return refund


def _order(refund: Refund) -> RefundOrder:
    payment = refund.payment
    return RefundOrder(
        reference=refund.reference,
        payment_reference=payment.reference,
        payment_gateway_id=payment.gateway_payment_id,
        payment_method=payment.method,
        payment_amount=Money(payment.amount, payment.currency),
        amount=Money(refund.amount, refund.currency),
        idempotency_key=refund.pk.hex,
        reason=refund.reason,
    )
