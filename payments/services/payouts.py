"""
Payouts: money of an account to an account elsewhere, by a gateway or by a file for the bank.

The source is debited into payout clearing at once, in the transaction that writes the payout down.
From clearing the money leaves for good when the payout settles, or goes back to the source, once.
A gateway knows a payout by our key: sending it twice is sending it once.
"""

import datetime as dt
from dataclasses import dataclass, field
from uuid import UUID

from django.db import transaction

from accounts.models import Account
from accounts.queries import account_of
from core.database import repeating
from core.errors import IdempotencyConflict, InvalidRequest, NotFound
from core.idempotency import REUSED_KEY, fingerprint
from core.ids import new_id
from core.iso20022.accounts import (
    checked_account_number,
    checked_bic,
    checked_iban,
)
from core.jobs import ring
from core.money import Money, format_money
from payments.gateways.port import (
    NoSuchObject,
    PayoutOrder,
    PayoutReport,
    Refused,
    State,
    Uncertain,
    Unreachable,
)
from payments.gateways.registry import connect, notify_url
from payments.models import Discrepancy, GatewayConfiguration, Payout
from payments.services.gateways import candidates, fitting_gateways, hold_gateway
from payments.services.outcomes import STEPS_TASK
from payments.services.payout_files import refuse_unwritable
from payments.services.payout_moves import (
    internal_of,
    locked_payout,
    move_payout,
    post_payout,
    record_payout,
)
from payments.services.waiting import (
    NoAnswer,
    begin_waiting,
    mark_as_sent,
    not_counted,
    reference_of,
    tell_a_person,
    unmark_as_sent,
)

_KEY_TAKEN = "payout_idempotency_key_unique"
_S = Payout.Status


@dataclass(frozen=True, slots=True)
class Beneficiary:
    """Who is to have the money: an IBAN, or the bank's own account number with its bank's code."""

    name: str
    # ISO 3166-1.
    country: str
    iban: str = ""
    account_number: str = ""
    # A BIC, or the code that the gateway has for the bank, such as ID_BCA.
    bank_code: str = ""
    town: str = ""


@dataclass(frozen=True, slots=True)
class PayoutRequest:
    source_account_id: UUID
    amount: Money
    beneficiary: Beneficiary
    idempotency_key: str
    gateway: str | None = None
    description: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    # Whose key it is: the same key and request of somebody else is refused.
    asked_by: str = ""
    # Nobody is there to ask again: it waits for a gateway that does not answer just now.
    may_wait: bool = False


@dataclass(frozen=True, slots=True)
class MadePayout:
    payout: Payout
    is_replay: bool


def make_payout(
    *,
    tenant_id: UUID,
    request: PayoutRequest,
    now: dt.datetime,
    owner_id: UUID | None = None,
) -> MadePayout:
    """
    Debit the source and have the money sent. A worker sends it; the bank's file takes the next.

    :raises NotFound: no such account in this tenant, or of this owner
    :raises InvalidRequest: the beneficiary's account cannot exist
    :raises NoGateway: none is set up for payouts in the currency
    :raises CurrencyNotSupported: the gateway that was named does not take the currency
    :raises Unavailable: all gateways for it have failed repeatedly, just now
    :raises IdempotencyConflict: the key was used for another request
    :raises DomainError: whatever the ledger refuses, such as insufficient funds
    """
    request_fingerprint = _fingerprint(request)
    earlier = Payout.objects.filter(
        tenant_id=tenant_id, idempotency_key=request.idempotency_key
    ).first()
    if earlier is not None:
        return _replayed(earlier, request_fingerprint)
    beneficiary = checked_beneficiary(request.beneficiary)
    source = account_of(
        tenant_id=tenant_id, account_id=request.source_account_id, owner_id=owner_id
    )
    if source.type == Account.Type.INTERNAL:
        raise NotFound("No such account.")
    choose = fitting_gateways if request.may_wait else candidates
    configuration = choose(
        tenant_id=tenant_id,
        currency=request.amount.currency,
        gateway=request.gateway,
        is_payout=True,
    )[0]

    def make() -> MadePayout:
        with transaction.atomic():
            twin = Payout.objects.filter(
                tenant_id=tenant_id, idempotency_key=request.idempotency_key
            ).first()
            if twin is not None:
                return _replayed(twin, request_fingerprint)
            payout_id = new_id()
            payout = Payout(
                id=payout_id,
                tenant_id=tenant_id,
                configuration=configuration,
                source_account_id=source.pk,
                amount=request.amount.minor_units,
                currency=request.amount.currency,
                beneficiary_name=beneficiary.name,
                iban=beneficiary.iban,
                account_number=beneficiary.account_number,
                bank_code=beneficiary.bank_code,
                country=beneficiary.country,
                town=beneficiary.town,
                description=request.description,
                metadata=request.metadata,
                reference=reference_of("PO", payout_id),
                idempotency_key=request.idempotency_key,
                request_fingerprint=request_fingerprint,
                waiting_since=now,
                created_at=now,
                updated_at=now,
            )
            if configuration.gateway == GatewayConfiguration.Gateway.BANK_FILE:
                refuse_unwritable(configuration, payout)
            else:
                # At once; what nobody sends, the sweep sends.
                begin_waiting(payout, now)
                payout.next_step_at = now
                ring(STEPS_TASK)
            hold_gateway(configuration.pk)
            clearing = internal_of(payout, Account.Role.PAYOUT_CLEARING, now)
            posted = post_payout(payout, "payout", (source.pk, clearing))
            payout.transaction_id = posted.id
            payout.save(force_insert=True)
            record_payout(payout, "payout.created", now, after={"amount": payout.amount})
        return MadePayout(payout, is_replay=False)

    return repeating(make, on_constraint=_KEY_TAKEN)


def send_payout(payout: Payout, *, now: dt.datetime) -> Payout:
    """
    Have the gateway pay out; asked again, it is the same payout. Nothing is sent for one that has
    ended, and whose source may have its money back.
    """
    payout.refresh_from_db()
    if payout.status not in (_S.PENDING, _S.UNKNOWN):
        return payout
    # Whether a word about this attempt says nothing of one before.
    was_sent = mark_as_sent(payout, now)
    try:
        report = connect(payout.configuration).create_payout(_order(payout))
    except Unreachable:
        if not was_sent:
            unmark_as_sent(payout)
        not_counted(payout, now)
        return payout
    except Uncertain as fault:
        return _settle(payout, _S.UNKNOWN, "", fault.detail, now)
    except (Refused, NoSuchObject) as refusal:
        if was_sent or (isinstance(refusal, Refused) and refusal.is_about_us):
            # It may have been sent before: this ends nothing.
            kind = Discrepancy.Kind.GATEWAY_REFUSES
            tell_a_person(payout, kind, now=now, ours=payout.status, theirs=refusal.detail)
            return payout
        code = refusal.code.lower() or "refused"
        return _settle(payout, _S.FAILED, code, refusal.detail, now)
    return apply_payout_report(payout_id=payout.pk, report=report, now=now)


def ask_about_payout(payout: Payout, *, now: dt.datetime, may_send: bool) -> Payout:
    """
    Ask the gateway what became of the payout; what it never got, it gets again if we `may_send`.

    :raises NoAnswer: it does not say
    """
    try:
        report = connect(payout.configuration).get_payout(
            reference=payout.reference,
            gateway_id=payout.gateway_payout_id,
            currency=payout.currency,
        )
    except Unreachable as fault:
        not_counted(payout, now)
        raise NoAnswer(fault.detail) from fault
    except NoSuchObject as fault:
        if payout.gateway_payout_id or payout.status in (_S.SUBMITTED, _S.SETTLED):
            kind = Discrepancy.Kind.NOT_AT_GATEWAY
            tell_a_person(payout, kind, now=now, ours=payout.status, theirs="none")
        elif may_send:
            return send_payout(payout, now=now)
        raise NoAnswer(fault.detail) from fault
    except (Uncertain, Refused) as fault:
        raise NoAnswer(fault.detail) from fault
    return apply_payout_report(payout_id=payout.pk, report=report, now=now)


def apply_payout_report(*, payout_id: UUID, report: PayoutReport, now: dt.datetime) -> Payout:
    """Take down what the gateway says of the payout; return it as it stands then."""

    def apply() -> Payout:
        with transaction.atomic():
            payout = locked_payout(payout_id)
            stated = (report.reference, report.amount.minor_units, report.amount.currency)
            if stated != (payout.reference, payout.amount, payout.currency):
                tell_a_person(
                    payout,
                    Discrepancy.Kind.AMOUNT_DIFFERS,
                    now=now,
                    ours=f"{payout.reference} {format_money(payout.amount, payout.currency)}",
                    theirs=" ".join(map(str, stated)),
                )
                return payout
            payout.gateway_payout_id = report.gateway_id[:100] or payout.gateway_payout_id
            payout.gateway_status = report.raw_status[:60]
            move_payout(payout, _status_of(report.state, payout), now, code=report.failure_code)
        return payout

    return repeating(apply)


def _status_of(state: State, payout: Payout) -> Payout.Status:
    if state is State.SUCCEEDED:
        return _S.SETTLED
    if state is State.REVERSED:
        return _S.RETURNED
    if state in (State.FAILED, State.CANCELLED, State.EXPIRED):
        # What had arrived and did not stay was sent back.
        return _S.RETURNED if payout.status == _S.SETTLED else _S.FAILED
    return _S.SUBMITTED


def end_payout(payout: Payout, *, code: str, detail: str, now: dt.datetime) -> Payout:
    """Have it be failed: the source gets its money back. For a person who knows why."""
    return _settle(payout, _S.FAILED, code, detail, now)


def _settle(
    payout: Payout, status: Payout.Status, code: str, detail: str, now: dt.datetime
) -> Payout:
    def settle() -> Payout:
        with transaction.atomic():
            locked = locked_payout(payout.pk)
            move_payout(locked, status, now, code=code, detail=detail)
        return locked

    return repeating(settle)


def _replayed(payout: Payout, request_fingerprint: bytes) -> MadePayout:
    if bytes(payout.request_fingerprint) != request_fingerprint:
        raise IdempotencyConflict(REUSED_KEY)
    return MadePayout(payout, is_replay=True)


def _fingerprint(request: PayoutRequest) -> bytes:
    beneficiary = request.beneficiary
    return fingerprint(
        "payout",
        request.source_account_id,
        request.amount.minor_units,
        request.amount.currency,
        beneficiary.name,
        beneficiary.country,
        beneficiary.iban,
        beneficiary.account_number,
        beneficiary.bank_code,
        beneficiary.town,
        request.gateway,
        request.description,
        request.metadata,
        request.asked_by,
    )


def checked_beneficiary(beneficiary: Beneficiary) -> Beneficiary:
    """
    Return the beneficiary with the account as the bank writes it.

    :raises InvalidRequest: the account, the country or the bank cannot be
    """
    given = beneficiary
    if bool(given.iban) == bool(given.account_number):
        raise InvalidRequest("Give an iban or an account_number.", field="beneficiary.iban")
    part = "iban"
    try:
        iban = checked_iban(given.iban) if given.iban else ""
        part = "country"
        if iban and iban[:2] != given.country:
            raise InvalidRequest("The IBAN is of another country.", field="beneficiary.country")
        part = "account_number"
        number = (
            checked_account_number(given.account_number, given.country)
            if given.account_number
            else ""
        )
        part = "bank_code"
        is_bic = len(given.bank_code) in (8, 11) and given.bank_code.isalnum()
        bank_code = checked_bic(given.bank_code) if is_bic else given.bank_code
    except ValueError as error:
        raise InvalidRequest(str(error), field=f"beneficiary.{part}") from error
    return Beneficiary(given.name, given.country, iban, number, bank_code, given.town)


def _order(payout: Payout) -> PayoutOrder:
    return PayoutOrder(
        reference=payout.reference,
        amount=Money(payout.amount, payout.currency),
        idempotency_key=payout.pk.hex,
        beneficiary_name=payout.beneficiary_name,
        country=payout.country,
        iban=payout.iban,
        account_number=payout.account_number,
        bank_code=payout.bank_code,
        description=payout.description,
        notify_url=notify_url(payout.configuration),
    )
