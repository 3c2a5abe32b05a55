"""
What a gateway's word means for a payment, and for the ledger.

A payment only moves forward: a late or repeated word changes nothing, and a word that contradicts
what is settled opens a discrepancy for a person. What was paid is on record before the ledger is
touched; each posting commits together with what it does to the payment.
"""

import datetime as dt
from uuid import UUID

import structlog
from django.db import transaction

from accounts.models import Account
from accounts.services import internal_account
from core.changes import record_change
from core.database import repeating
from core.errors import DomainError
from core.idempotency import fingerprint
from core.jobs import ring
from core.money import format_money
from ledger.services import Leg, PostedTransaction, Posting, post_one
from payments.gateways.port import PaymentReport, State
from payments.models import Discrepancy, Payment, Refund
from payments.services.listening import listener_of, lock_object_of
from payments.services.waiting import (
    begin_waiting,
    came_right,
    end_waiting,
    tell_a_person,
)

logger = structlog.get_logger(__name__)

# Failures of ours, before a gateway had the payment: the same key may send it again.
SEND_AGAIN = frozenset({"gateway_unreachable", "gateway_error"})
STEPS_TASK = "payments.take_due_steps"

_S = Payment.Status
# Not yet paid, as far as we know.
_OPEN = (_S.CREATED, _S.PENDING, _S.UNKNOWN)
_HAS_MONEY = (_S.PAID, _S.DEPOSIT_PENDING, _S.REFUNDING)
# What is answered once the gateway has said how it ended.
QUESTIONS = (
    Discrepancy.Kind.UNKNOWN_OUTCOME,
    Discrepancy.Kind.NOT_AT_GATEWAY,
    Discrepancy.Kind.GATEWAY_REFUSES,
)
_WAITING = (*_OPEN, _S.PAID, _S.DEPOSIT_PENDING)
_EVENTS: dict[str, str] = {
    _S.CREATED: "sent_again",
    _S.PENDING: "submitted",
    _S.UNKNOWN: "outcome_unknown",
    _S.DEPOSIT_PENDING: "deposit_refused",
    _S.REFUNDING: "refund_begun",
}
# What events, the deposit's posting and its key are named after, by purpose.
_KINDS: dict[str, str] = {
    Payment.Purpose.TOPUP: "topup",
    Payment.Purpose.INVOICE: "invoice_payment",
}
_IDS: dict[str, str] = {
    Payment.Purpose.TOPUP: "topup_id",
    Payment.Purpose.INVOICE: "payment_id",
}
_KEY_TAKEN = "transaction_idempotency_key_unique"


def kind_of(payment: Payment) -> str:
    """Return what its events and its deposit's posting are named after."""
    return _KINDS[payment.purpose]


def deposit_key(payment: Payment) -> str:
    """Return the key of the posting that deposits it. The space cannot occur in a caller's key."""
    return f"{kind_of(payment)} {payment.pk}"


def posting_metadata(payment: Payment) -> dict[str, str]:
    """Return what the postings of a payment say of where they come from."""
    return {_IDS[payment.purpose]: str(payment.pk)}


def move(payment: Payment, status: Payment.Status, now: dt.datetime) -> None:
    """Save the payment, locked by the caller, in its new status, with its event."""
    before = payment.status
    payment.status, payment.updated_at = status, now
    if status in _WAITING:
        begin_waiting(payment, now)
    else:
        end_waiting(payment, now)
    payment.save()
    after: dict[str, object] = {"status": status.value}
    if payment.failure_code and status in (_S.FAILED, _S.EXPIRED, _S.UNKNOWN):
        after["failure_code"] = payment.failure_code
    if payment.transaction_id and status is _S.DEPOSITED:
        after["transaction_id"] = payment.transaction_id
    record_change(
        tenant_id=payment.tenant_id,
        action=f"{kind_of(payment)}.{_EVENTS.get(status, status.value)}",
        object_id=payment.pk,
        now=now,
        before={"status": before},
        after=after,
    )
    listener = listener_of(payment.purpose)
    if listener is not None and before != status:
        listener.moved(payment, before=before, now=now)


class StaleReport(Exception):
    """The gateway was asked before something happened to the payment; ask again."""


def apply_report(
    *, payment_id: UUID, report: PaymentReport, asked_as: str, now: dt.datetime
) -> Payment:
    """
    Take down what the gateway says of the payment; return it as it stands then.

    `asked_as` is the payment's status when the gateway was asked. Paid is on record when this
    returns; `deposit` credits the account.

    :raises StaleReport: it contradicts what has become of the payment since it was asked
    """

    def apply() -> Payment:
        with transaction.atomic():
            payment = Payment.objects.select_for_update(no_key=True).get(pk=payment_id)
            if _is_of_another(payment, report):
                tell_a_person(
                    payment,
                    Discrepancy.Kind.AMOUNT_DIFFERS,
                    now=now,
                    ours=f"{payment.reference} {format_money(payment.amount, payment.currency)}",
                    theirs=(
                        f"{report.reference}"
                        f" {format_money(report.amount.minor_units, report.amount.currency)}"
                    ),
                )
                return payment
            if _contradicts(report.state, Payment.Status(payment.status)):
                if payment.status != asked_as:
                    raise StaleReport
                _take_down_contradiction(payment, report, now)
                return payment
            _note(payment, report)
            _follow(payment, report, now)
        return payment

    return repeating(apply, on_constraint=_KEY_TAKEN)


def deposit(*, payment_id: UUID, now: dt.datetime) -> Payment:
    """
    Credit the account with what was paid, once; where the ledger or whoever listens refuses, say
    so and wait.

    Nothing happens to a payment that is not paid, or was deposited before.
    """

    def credit() -> Payment:
        with transaction.atomic():
            payment = Payment.objects.select_for_update(no_key=True).get(pk=payment_id)
            if payment.status not in (_S.PAID, _S.DEPOSIT_PENDING):
                return payment
            try:
                _credit(payment, now)
            except DomainError as refusal:
                payment.transaction_id = None
                _wait_for_ledger(payment, refusal, now)
                return payment
            payment.deposit_refusal = ""
            came_right(payment, Discrepancy.Kind.NOT_DEPOSITED, now=now)
            move(payment, _S.DEPOSITED, now)
        return payment

    return repeating(credit, on_constraint=_KEY_TAKEN)


def _credit(payment: Payment, now: dt.datetime) -> None:
    """
    Post the deposit, and have it taken by whoever listens; either both, or neither.

    :raises DomainError: one of them refuses, and nothing was posted
    """
    kind, listener = kind_of(payment), listener_of(payment.purpose)
    if listener is None:
        # A refused posting has written nothing.
        payment.transaction_id = _post(payment, kind, payment.account_id, payment.amount, now).id
        return
    listener.lock(payment)
    with transaction.atomic():
        payment.transaction_id = _post(payment, kind, payment.account_id, payment.amount, now).id
        listener.deposited(payment, now=now)


def fail(
    payment: Payment, status: Payment.Status, code: str, detail: str, now: dt.datetime
) -> None:
    """Take down that there will be no money. The caller has locked the payment."""
    payment.failure_code, payment.failure_detail = code[:64], detail[:300]
    move(payment, status, now)


def _is_of_another(payment: Payment, report: PaymentReport) -> bool:
    """Whether the gateway speaks of another payment or amount: then none of it is taken."""
    stated = (report.amount.minor_units, report.amount.currency)
    # On a gateway's page a payer may try again, which may be another transaction there.
    may_change_id = payment.method == Payment.Method.HOSTED and payment.status in _OPEN
    return (
        report.reference != payment.reference
        or stated != (payment.amount, payment.currency)
        or bool(
            not may_change_id
            and payment.gateway_payment_id
            and report.gateway_id
            and payment.gateway_payment_id != report.gateway_id
        )
    )


def _note(payment: Payment, report: PaymentReport) -> None:
    """Put what the gateway says beside its state on the payment. `_follow` saves it."""
    payment.gateway_payment_id = report.gateway_id[:100] or payment.gateway_payment_id
    payment.gateway_status = report.raw_status[:60]
    payment.is_settled = payment.is_settled or report.is_settled
    payment.redirect_url = report.redirect_url[:1000] or payment.redirect_url
    payment.card_last4 = report.card_last4[:4] or payment.card_last4
    payment.expires_at = report.expires_at or payment.expires_at
    payment.gateway_refunded_amount = report.refunded


def _follow(payment: Payment, report: PaymentReport, now: dt.datetime) -> None:
    """Move the payment on, if the gateway says more than we knew."""
    state, status = report.state, Payment.Status(payment.status)
    if state is State.SUCCEEDED and status in (*_OPEN, _S.FAILED, _S.EXPIRED):
        payment.paid_at = now
        payment.failure_code = payment.failure_detail = ""
        came_right(payment, *QUESTIONS, now=now)
        move(payment, _S.PAID, now)
        ring(STEPS_TASK)
    elif status not in _OPEN:
        _save(payment, now)
    elif state is State.EXPIRED:
        came_right(payment, *QUESTIONS, now=now)
        fail(payment, _S.EXPIRED, report.failure_code or "expired", report.failure_detail, now)
    elif state in (State.FAILED, State.CANCELLED, State.REVERSED) and not report.may_still_succeed:
        came_right(payment, *QUESTIONS, now=now)
        code = report.failure_code or report.state.value
        fail(payment, _S.FAILED, code, report.failure_detail, now)
    elif status is _S.PENDING:
        _save(payment, now)
    else:
        move(payment, _S.PENDING, now)


def _contradicts(state: State, status: Payment.Status) -> bool:
    """Whether the gateway no longer says what it said when we took the money, or gave it back."""
    if status in (*_HAS_MONEY, _S.DEPOSITED):
        return state is not State.SUCCEEDED
    if status is _S.REVERSED:
        return state is State.SUCCEEDED
    return status is _S.REFUNDED and state is State.REVERSED


def _take_down_contradiction(payment: Payment, report: PaymentReport, now: dt.datetime) -> None:
    """Do what a bank does when money that had come goes; and where that is not clear, ask."""
    status = Payment.Status(payment.status)
    was_taken = report.state in (State.FAILED, State.CANCELLED, State.REVERSED)
    left = payment.amount - _given_back(payment)
    if was_taken and status in (*_HAS_MONEY, _S.DEPOSITED):
        if report.state is State.CANCELLED and left == 0:
            # Our own refund: before it settles, a gateway calls that a cancellation.
            _save(payment, now)
            return
        _note(payment, report)
        _take_back(payment, report, left, now)
        return
    _save(payment, now)
    tell_a_person(
        payment,
        Discrepancy.Kind.STATUS_DIFFERS,
        now=now,
        ours=payment.status,
        theirs=report.raw_status,
    )


def _save(payment: Payment, now: dt.datetime) -> None:
    payment.updated_at = now
    payment.save()


def _given_back(payment: Payment) -> int:
    """Return how much of it went back to the payer, or is about to."""
    refunds = Refund.objects.filter(payment=payment).exclude(status=Refund.Status.FAILED)
    return sum(refunds.values_list("amount", flat=True))


def _take_back(payment: Payment, report: PaymentReport, left: int, now: dt.datetime) -> None:
    """
    Take a payment back that the card's bank has taken back: debit the account that had it.

    Where that is not possible, the money is missing from our own suspense account, and a person
    has to get it from the customer.
    Refunds under way were debited already; services.refunds sees to them.
    """
    payment.failure_code = (report.failure_code or report.raw_status)[:64]
    payment.failure_detail = report.failure_detail[:300]
    if payment.status == _S.DEPOSITED and left:
        _charge_back(payment, left, report.raw_status, now)
    if payment.refunded_amount:
        tell_a_person(
            payment,
            Discrepancy.Kind.STATUS_DIFFERS,
            now=now,
            ours=f"{format_money(payment.refunded_amount, payment.currency)} refunded before",
            theirs=report.raw_status,
        )
    move(payment, _S.REVERSED, now)


def _charge_back(payment: Payment, left: int, raw: str, now: dt.datetime) -> None:
    lock_object_of(payment)
    try:
        posted = _post(payment, "chargeback", payment.account_id, -left, now)
    except DomainError as refusal:
        suspense = internal_account(
            tenant_id=payment.tenant_id,
            role=Account.Role.SUSPENSE,
            currency=payment.currency,
            now=now,
        )
        payment.reversal_transaction_id = _post(payment, "chargeback", suspense, -left, now).id
        tell_a_person(
            payment,
            Discrepancy.Kind.REVERSAL_OWED,
            now=now,
            ours=f"{format_money(left, payment.currency)} owed by account {payment.account_id}",
            theirs=raw,
            refusal=refusal.code,
        )
        return
    payment.reversal_transaction_id = posted.id
    listener = listener_of(payment.purpose)
    if listener is not None:
        listener.taken_back(payment, left, now=now)


def _post(
    payment: Payment, type_: str, account_id: UUID, amount: int, now: dt.datetime
) -> PostedTransaction:
    """Post between the account and what the gateway owes us."""
    settlement = internal_account(
        tenant_id=payment.tenant_id,
        role=Account.Role.SETTLEMENT,
        currency=payment.currency,
        now=now,
    )
    posting = Posting(
        type=type_,
        currency=payment.currency,
        legs=(Leg(account_id, amount), Leg(settlement, -amount)),
        # As deposit_key has it.
        idempotency_key=f"{type_} {payment.pk}",
        request_fingerprint=fingerprint(type_, payment.pk, account_id, amount),
        description=payment.description,
        external_reference=payment.reference,
        metadata=posting_metadata(payment),
    )
    return post_one(tenant_id=payment.tenant_id, posting=posting)


def _wait_for_ledger(payment: Payment, refusal: DomainError, now: dt.datetime) -> None:
    """Keep what was paid for the account that cannot have it now, where a person sees it."""
    payment.deposit_refusal = refusal.code
    if payment.status == _S.PAID:
        move(payment, _S.DEPOSIT_PENDING, now)
    else:
        _save(payment, now)
    tell_a_person(
        payment,
        Discrepancy.Kind.NOT_DEPOSITED,
        now=now,
        ours=f"refused: {refusal.code}",
        theirs=payment.gateway_status,
    )
