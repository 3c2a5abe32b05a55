"""
Top-ups: money asked of a payer through a gateway, and credited to an account.

No lock is held while a gateway is called, and no call is made twice: what was asked is written down
before, what came of it after. Between the two a process may die; then, as after a lost answer, the
gateway is asked what it did, by our reference.
"""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db import transaction

from accounts.models import Account
from accounts.queries import account_of
from core.changes import record_change
from core.database import repeating
from core.errors import IdempotencyConflict, NotFound, Unavailable
from core.idempotency import REUSED_KEY, keyed_fingerprint
from core.ids import new_id
from core.money import Money
from ledger.errors import AccountClosed, AccountFrozen, CurrencyMismatch
from payments.errors import CardDataRefused, GatewayError
from payments.gateways.port import (
    CardData,
    NoSuchObject,
    PaymentOrder,
    Refused,
    Uncertain,
    Unreachable,
)
from payments.gateways.registry import CAPABILITIES, connect, notify_url
from payments.gateways.sandbox.cards import SANDBOX_CARDS
from payments.models import GatewayConfiguration, Payment
from payments.services.gateways import candidates, hold_gateway
from payments.services.outcomes import SEND_AGAIN, StaleReport, apply_report, deposit, move
from payments.services.waiting import begin_waiting, reference_of

_KEY_TAKEN = "payment_idempotency_key_unique"


@dataclass(frozen=True, slots=True)
class TopUpOrder:
    """What was asked for. With a token, a test card, or neither: then on a page of the gateway."""

    account_id: UUID
    amount: Money
    idempotency_key: str
    gateway: str | None = None
    token: str = field(default="", repr=False)
    card: CardData | None = field(default=None, repr=False)
    description: str = ""
    return_url: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    # Whose key it is: the same key and request of somebody else is refused.
    asked_by: str = ""


@dataclass(frozen=True, slots=True)
class MadePayment:
    payment: Payment
    is_replay: bool


def top_up(
    *, tenant_id: UUID, order: TopUpOrder, now: dt.datetime, owner_id: UUID | None = None
) -> MadePayment:
    """
    Ask a gateway for the money; credit the account if it is paid at once.

    The same key and request return the same payment, and never ask for money again, but where
    nothing had reached a gateway. An outcome that nobody knows is `unknown`, and no error: the
    sweep finds it out.

    :raises NotFound: no such account in this tenant, or of this owner
    :raises AccountClosed, AccountFrozen, CurrencyMismatch: it could not be credited now
    :raises IdempotencyConflict: the key was used for another request
    :raises CardDataRefused: a card number for a gateway that is not the sandbox
    :raises NoGateway: none is set up for the currency
    :raises CurrencyNotSupported: the gateway that was named does not take the currency
    :raises Unavailable: no gateway could be reached, and nothing was asked for; send again
    :raises GatewayError: the gateway refuses us, and nothing was asked for
    """
    earlier = _earlier(tenant_id, order)
    if earlier is not None and not _may_send_again(earlier):
        return MadePayment(earlier, is_replay=True)
    _refuse_unless_creditable(
        account_of(tenant_id=tenant_id, account_id=order.account_id, owner_id=owner_id),
        order.amount,
    )
    choices = [
        choice
        for choice in candidates(
            tenant_id=tenant_id,
            currency=order.amount.currency,
            gateway=order.gateway,
            is_payout=False,
        )
        if order.card is None or CAPABILITIES[choice.gateway].takes_test_cards
    ]
    _refuse_cards(order, choices)
    payment, is_mine = repeating(
        lambda: _begin(tenant_id, order, choices[0], now), on_constraint=_KEY_TAKEN
    )
    if not is_mine:
        return MadePayment(payment, is_replay=True)
    return MadePayment(_send(payment, order, choices, now), is_replay=False)


def _earlier(tenant_id: UUID, order: TopUpOrder) -> Payment | None:
    found = Payment.objects.filter(
        tenant_id=tenant_id, idempotency_key=order.idempotency_key
    ).first()
    if found is not None and bytes(found.request_fingerprint) != _fingerprint(order):
        raise IdempotencyConflict(REUSED_KEY)
    return found


def _may_send_again(payment: Payment) -> bool:
    return payment.status == Payment.Status.FAILED and payment.failure_code in SEND_AGAIN


def _begin(
    tenant_id: UUID, order: TopUpOrder, configuration: GatewayConfiguration, now: dt.datetime
) -> tuple[Payment, bool]:
    """Write down what will be asked, and say whether asking is up to us."""
    with transaction.atomic():
        earlier = (
            Payment.objects.select_for_update(no_key=True)
            .filter(tenant_id=tenant_id, idempotency_key=order.idempotency_key)
            .first()
        )
        if earlier is not None:
            if bytes(earlier.request_fingerprint) != _fingerprint(order):
                raise IdempotencyConflict(REUSED_KEY)
            if not _may_send_again(earlier):
                return earlier, False
            _attempt_again(earlier, configuration, now)
            return earlier, True
        hold_gateway(configuration.pk)
        payment_id = new_id()
        payment = Payment(
            id=payment_id,
            tenant_id=tenant_id,
            configuration=configuration,
            purpose=Payment.Purpose.TOPUP,
            account_id=order.account_id,
            reference=reference_of("TU", payment_id, 1),
            amount=order.amount.minor_units,
            currency=order.amount.currency,
            method=_method(order),
            description=order.description,
            metadata=order.metadata,
            return_url=order.return_url,
            card_last4=order.card.number[-4:] if order.card else "",
            idempotency_key=order.idempotency_key,
            request_fingerprint=_fingerprint(order),
            created_at=now,
            updated_at=now,
        )
        begin_waiting(payment, now)
        payment.save(force_insert=True)
        record_change(
            tenant_id=tenant_id,
            action="topup.created",
            object_id=payment.pk,
            now=now,
            after={
                "account_id": payment.account_id,
                "amount": payment.amount,
                "currency": payment.currency,
                "gateway": configuration.gateway,
            },
        )
    return payment, True


def _attempt_again(payment: Payment, configuration: GatewayConfiguration, now: dt.datetime) -> None:
    """Begin another attempt at a payment that no gateway has seen."""
    hold_gateway(configuration.pk)
    payment.attempt += 1
    payment.reference = reference_of("TU", payment.pk, payment.attempt)
    payment.configuration = configuration
    payment.failure_code = payment.failure_detail = ""
    move(payment, Payment.Status.CREATED, now)


def _send(
    payment: Payment,
    order: TopUpOrder,
    choices: Sequence[GatewayConfiguration],
    now: dt.datetime,
) -> Payment:
    """Ask the first gateway that can be reached, and take down what it says."""
    for number, configuration in enumerate(choices):
        if number:
            with transaction.atomic():
                payment = Payment.objects.select_for_update(no_key=True).get(pk=payment.pk)
                if payment.status != Payment.Status.CREATED:
                    return payment
                _attempt_again(payment, configuration, now)
        try:
            report = connect(configuration).create_payment(_order(payment, order, configuration))
        except Unreachable:
            continue
        except Uncertain as fault:
            return _settle(payment, Payment.Status.UNKNOWN, now, detail=fault.detail)
        except (Refused, NoSuchObject) as refusal:
            is_our_fault = isinstance(refusal, NoSuchObject) or refusal.is_about_us
            code = "gateway_error" if is_our_fault else refusal.code.lower() or "refused"
            failed = Payment.Status.FAILED
            payment = _settle(payment, failed, now, code=code, detail=refusal.detail)
            if is_our_fault:
                raise GatewayError(f"{configuration.gateway}: {refusal.detail}") from refusal
            return payment
        try:
            payment = apply_report(
                payment_id=payment.pk, report=report, asked_as=Payment.Status.CREATED, now=now
            )
        except StaleReport:
            # Its notification was faster than this answer, and has it all.
            return Payment.objects.get(pk=payment.pk)
        if payment.status == Payment.Status.PAID:
            payment = deposit(payment_id=payment.pk, now=now)
        return payment
    detail = "No gateway could be reached."
    _settle(payment, Payment.Status.FAILED, now, code="gateway_unreachable", detail=detail)
    raise Unavailable("The gateway cannot be reached. Nothing was asked for; send it again.")


def _settle(
    payment: Payment, status: Payment.Status, now: dt.datetime, *, code: str = "", detail: str
) -> Payment:
    """Take down what became of the call, unless somebody else has heard more meanwhile."""
    with transaction.atomic():
        payment = Payment.objects.select_for_update(no_key=True).get(pk=payment.pk)
        if payment.status == Payment.Status.CREATED:
            payment.failure_code, payment.failure_detail = code[:64], detail[:300]
            move(payment, status, now)
    return payment


def _order(
    payment: Payment, order: TopUpOrder, configuration: GatewayConfiguration
) -> PaymentOrder:
    return PaymentOrder(
        reference=payment.reference,
        amount=order.amount,
        idempotency_key=f"{payment.pk.hex}-{payment.attempt}",
        description=order.description,
        token=order.token,
        card=order.card,
        return_url=order.return_url,
        notify_url=notify_url(configuration),
    )


def _method(order: TopUpOrder) -> Payment.Method:
    if order.token:
        return Payment.Method.TOKEN
    return Payment.Method.CARD if order.card else Payment.Method.HOSTED


def _fingerprint(order: TopUpOrder) -> bytes:
    # Keyed, since it covers a card's number and a token.
    parts = dataclasses.asdict(order)
    del parts["idempotency_key"]
    return keyed_fingerprint("topup", parts)


def _refuse_unless_creditable(account: Account, amount: Money) -> None:
    """No money is asked for that could not be credited."""
    if account.type == Account.Type.INTERNAL:
        raise NotFound("No such account.")
    if account.status == Account.Status.CLOSED:
        raise AccountClosed(f"Account {account.pk} is closed.")
    if account.status == Account.Status.FROZEN:
        raise AccountFrozen(f"Account {account.pk} is frozen.")
    if account.currency != amount.currency:
        raise CurrencyMismatch(f"Account {account.pk} is in {account.currency}.")


def _refuse_cards(order: TopUpOrder, choices: Sequence[GatewayConfiguration]) -> None:
    if order.card is None:
        return
    if not choices:
        raise CardDataRefused("Card numbers are taken by the sandbox only. Send a token instead.")
    if order.card.number not in SANDBOX_CARDS:
        raise CardDataRefused("The sandbox takes its test cards only; this is none of them.")
