"""
Asking a gateway for money: what top-ups and payments of invoices have in common.

No lock is held while a gateway is called, and no call is made twice: what was asked is written down
before, what came of it after. Between the two a process may die; then, as after a lost answer, the
gateway is asked what it did, by our reference.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from django.db import transaction

from core.changes import record_change
from core.errors import Unavailable
from core.money import Money
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
from payments.services.outcomes import StaleReport, apply_report, deposit, kind_of, move
from payments.services.waiting import begin_waiting


class Asked(Protocol):
    """Money that a payer is asked for. With a token, a test card, or neither: then on a page."""

    @property
    def account_id(self) -> UUID: ...
    @property
    def amount(self) -> Money: ...
    @property
    def idempotency_key(self) -> str: ...
    @property
    def token(self) -> str: ...
    @property
    def card(self) -> CardData | None: ...
    @property
    def description(self) -> str: ...
    @property
    def return_url(self) -> str: ...
    @property
    def metadata(self) -> Mapping[str, str]: ...

    def reference_at(self, payment_id: UUID, attempt: int) -> str:
        """Return what the gateway of this attempt, counted from 1, is to know it by."""


def gateways_for(
    *, tenant_id: UUID, currency: str, gateway: str | None, is_card: bool
) -> list[GatewayConfiguration]:
    """
    Return the gateways that could be asked, the first choice first. Asks Redis: called before any
    transaction.

    :raises NoGateway: none is set up for the currency
    :raises CurrencyNotSupported: the gateway that was named does not take the currency
    :raises CardDataRefused: a card number, and none of them is the sandbox
    :raises Unavailable: all of them have failed repeatedly, just now
    """
    choices = [
        choice
        for choice in candidates(
            tenant_id=tenant_id, currency=currency, gateway=gateway, is_payout=False
        )
        if not is_card or CAPABILITIES[choice.gateway].takes_test_cards
    ]
    if not choices:
        raise CardDataRefused("Card numbers are taken by the sandbox only. Send a token instead.")
    return choices


def refuse_real_cards(card: CardData | None) -> None:
    """
    Refuse a number that may be somebody's.

    :raises CardDataRefused: it is no test card of the sandbox
    """
    if card is not None and card.number not in SANDBOX_CARDS:
        raise CardDataRefused("The sandbox takes its test cards only; this is none of them.")


def write_down(
    *,
    tenant_id: UUID,
    payment_id: UUID,
    purpose: Payment.Purpose,
    asked: Asked,
    request_fingerprint: bytes,
    configuration: GatewayConfiguration,
    now: dt.datetime,
) -> Payment:
    """Write down what will be asked, and of whom, within the caller's transaction."""
    hold_gateway(configuration.pk)
    payment = Payment(
        id=payment_id,
        tenant_id=tenant_id,
        configuration=configuration,
        purpose=purpose,
        account_id=asked.account_id,
        reference=asked.reference_at(payment_id, 1),
        amount=asked.amount.minor_units,
        currency=asked.amount.currency,
        method=_method(asked),
        description=asked.description,
        metadata=dict(asked.metadata),
        return_url=asked.return_url,
        card_last4=asked.card.number[-4:] if asked.card else "",
        idempotency_key=asked.idempotency_key,
        request_fingerprint=request_fingerprint,
        created_at=now,
        updated_at=now,
    )
    begin_waiting(payment, now)
    payment.save(force_insert=True)
    record_change(
        tenant_id=tenant_id,
        action=f"{kind_of(payment)}.created",
        object_id=payment.pk,
        now=now,
        after={
            "account_id": payment.account_id,
            "amount": payment.amount,
            "currency": payment.currency,
            "gateway": configuration.gateway,
        },
    )
    return payment


def attempt_again(
    payment: Payment, asked: Asked, configuration: GatewayConfiguration, now: dt.datetime
) -> None:
    """Begin another attempt at a payment, locked by the caller, that no gateway has seen."""
    hold_gateway(configuration.pk)
    payment.attempt += 1
    payment.reference = asked.reference_at(payment.pk, payment.attempt)
    payment.configuration = configuration
    payment.failure_code = payment.failure_detail = ""
    move(payment, Payment.Status.CREATED, now)


def send(
    payment: Payment, asked: Asked, choices: Sequence[GatewayConfiguration], now: dt.datetime
) -> Payment:
    """
    Ask the first gateway that can be reached, and take down what it says. The payment was written
    down for the first of the choices, and committed.

    :raises Unavailable: none could be reached, and nothing was asked for
    :raises GatewayError: the gateway refuses us, and nothing was asked for
    """
    for number, configuration in enumerate(choices):
        if number:
            with transaction.atomic():
                payment = Payment.objects.select_for_update(no_key=True).get(pk=payment.pk)
                if payment.status != Payment.Status.CREATED:
                    return payment
                attempt_again(payment, asked, configuration, now)
        try:
            report = connect(configuration).create_payment(_order(payment, asked, configuration))
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


def _order(payment: Payment, asked: Asked, configuration: GatewayConfiguration) -> PaymentOrder:
    return PaymentOrder(
        reference=payment.reference,
        amount=asked.amount,
        idempotency_key=f"{payment.pk.hex}-{payment.attempt}",
        description=asked.description,
        token=asked.token,
        card=asked.card,
        return_url=asked.return_url,
        notify_url=notify_url(configuration),
    )


def _method(asked: Asked) -> Payment.Method:
    if asked.token:
        return Payment.Method.TOKEN
    return Payment.Method.CARD if asked.card else Payment.Method.HOSTED
