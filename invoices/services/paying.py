"""
Paying an invoice: by a payer through a gateway, or noted by staff.

A gateway is asked when the payer chooses how to pay, not before; one attempt at a time for an
invoice or an installment. No lock is held while a gateway is called.
"""

import datetime as dt
import random
import time
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings
from django.db import OperationalError, connection, transaction

from accounts.models import Account
from accounts.services import internal_account
from core.changes import record_change
from core.database import LOCK_NOT_AVAILABLE, refusing, repeating, sqlstate_of
from core.errors import IdempotencyConflict, InvalidRequest, InvalidState
from core.idempotency import REUSED_KEY, fingerprint
from core.ids import new_id
from core.money import Money, format_money
from invoices.errors import InvoiceNotPayable, PaymentInProgress
from invoices.models import Checkout, Installment, Invoice, Receipt
from invoices.queries import installments_of, invoice_by_token, invoice_for_update, settings_of
from invoices.services import figures
from invoices.services.claims import is_in_flight, refuse_unless_payable
from invoices.services.receiving import Received, books_of, post_for, receive
from payments.gateways.port import CardData
from payments.models import GatewayConfiguration, Payment
from payments.services import (
    Collection,
    begin_collection,
    call_off,
    gateways_for,
    refuse_real_cards,
    send_collection,
)

_S = Invoice.Status
_P = Payment.Status
_ROLE = Account.Role
# Two payers at once: the second tries again after these pauses, each 20 ms more or less.
PAUSES_S = (0.1, 0.2)
JITTER_S = 0.02
BEGIN_LIMIT = "5s"
_QUERY_CANCELED = "57014"
_RIVAL_RULES = (
    "checkout_one_active_of_invoice",
    "checkout_one_active_of_installment",
    "checkout_of_all_or_of_parts",
)
_BUSY = "Somebody is paying this right now. Look again in a moment."


@dataclass(frozen=True, slots=True)
class Choice:
    """What a payer chose: all that is due or one installment; a card, or a gateway's page."""

    # None: all that is due.
    installment: int | None = None
    card: CardData | None = field(default=None, repr=False)
    gateway: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """An attempt to pay; where `redirect_url` is not empty, the payer goes on there."""

    payment: Payment
    redirect_url: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Begun:
    payment: Payment
    collection: Collection


def open_checkout(*, token: str, choice: Choice, now: dt.datetime) -> Opened:
    """
    Begin to pay what the payer's address stands for; a page that is open already is used again.

    :raises NotFound: nobody's address
    :raises InvoiceNotPayable: and why
    :raises PaymentInProgress: somebody else is paying it
    :raises NoGateway, CurrencyNotSupported, CardDataRefused: it cannot be paid so
    :raises Unavailable, GatewayError: the gateway cannot be asked, and was not
    """
    invoice, installment = invoice_by_token(token=token)
    refuse_unless_payable(invoice, now)
    number = installment.number if installment is not None else choice.installment
    choices = gateways_for(
        tenant_id=invoice.tenant_id,
        currency=invoice.currency,
        gateway=invoice.gateway or choice.gateway,
        is_card=choice.card is not None,
    )
    # Before any page is given up for it.
    refuse_real_cards(choice.card)
    begun = _begin_patiently(invoice, token, number, choice, choices, now)
    while isinstance(begun, list):
        # Closed first: what was paid there unheard is found, and not asked for again.
        for payment_id in begun:
            call_off(payment_id=payment_id, now=now)
        begun = _begin_patiently(invoice, token, number, choice, choices, now)
    if isinstance(begun, Payment):
        return Opened(begun, begun.redirect_url, is_new=False)
    payment = send_collection(begun.payment, begun.collection, choices, now=now)
    is_open = payment.status == _P.PENDING
    return Opened(payment, payment.redirect_url if is_open else "", is_new=True)


def _begin_patiently(
    invoice: Invoice,
    token: str,
    number: int | None,
    choice: Choice,
    choices: list[GatewayConfiguration],
    now: dt.datetime,
) -> _Begun | Payment | list[UUID]:
    """Begin the attempt; where somebody else has the invoice locked, try again, then give up."""
    busy = PaymentInProgress(_BUSY)
    refusals = dict.fromkeys(_RIVAL_RULES, busy)
    for pause in (*PAUSES_S, None):
        try:
            with refusing(refusals), transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute(f"SET LOCAL statement_timeout = '{BEGIN_LIMIT}'")
                return _begin(invoice, token, number, choice, choices, now)
        except OperationalError as error:
            if sqlstate_of(error) not in (LOCK_NOT_AVAILABLE, _QUERY_CANCELED):
                raise
            if pause is None:
                raise busy from error
            time.sleep(pause + random.uniform(-JITTER_S, JITTER_S))  # noqa: S311
    raise AssertionError("unreachable")


def _begin(
    seen: Invoice,
    token: str,
    number: int | None,
    choice: Choice,
    choices: list[GatewayConfiguration],
    now: dt.datetime,
) -> _Begun | Payment | list[UUID]:
    """
    Write an attempt down; or return the page that is open for the same, or those that are in the
    way and have been given up.
    """
    invoice = invoice_for_update(tenant_id=seen.tenant_id, invoice_id=seen.pk, is_impatient=True)
    refuse_unless_payable(invoice, now)
    installment = _chosen(invoice, number)
    amount = invoice.amount_due if installment is None else installment.amount_due
    if not amount:
        raise InvoiceNotPayable("This installment is paid.")
    superseded = []
    for checkout, payment in _active(invoice):
        is_rival = (
            checkout.installment_id is None
            or installment is None
            or checkout.installment_id == installment.pk
        )
        if not is_rival:
            continue
        if is_in_flight(checkout, payment, now):
            raise PaymentInProgress(_BUSY)
        is_same = (
            checkout.installment_id == (installment.pk if installment is not None else None)
            and checkout.amount == amount
            and choice.card is None
            and payment.method == Payment.Method.HOSTED
            and payment.configuration_id in {each.pk for each in choices}
            and (payment.expires_at is None or payment.expires_at > now)
        )
        if is_same:
            return payment
        checkout.is_active = False
        checkout.save(update_fields=["is_active"])
        superseded.append(payment.pk)
    if superseded:
        return superseded
    invoice.attempts += 1
    invoice.updated_at = now
    invoice.save(update_fields=["attempts", "updated_at"])
    part = f" ({installment.number})" if installment is not None and invoice.has_schedule else ""
    issuer = settings_of(tenant_id=invoice.tenant_id).legal_name
    collection = Collection(
        account_id=internal_account(
            tenant_id=invoice.tenant_id, role=_ROLE.RECEIVABLE, currency=invoice.currency, now=now
        ),
        amount=Money(amount, invoice.currency),
        idempotency_key=f"invoice {invoice.pk} {invoice.attempts}",
        reference=f"{invoice.number}-{invoice.attempts}",
        card=choice.card,
        description=f"{invoice.number}{part} {issuer}".strip(),
        return_url=f"{settings.PUBLIC_URL}/pay/{token}",
        metadata={"invoice_id": str(invoice.pk)},
    )
    payment = begin_collection(
        tenant_id=invoice.tenant_id, collection=collection, choices=choices, now=now
    )
    Checkout.objects.create(
        id=new_id(),
        tenant_id=invoice.tenant_id,
        invoice=invoice,
        installment=installment,
        attempt=invoice.attempts,
        amount=amount,
        payment_id=payment.pk,
        created_at=now,
    )
    return _Begun(payment, collection)


def _chosen(invoice: Invoice, number: int | None) -> Installment | None:
    if number is None:
        return None
    for installment in installments_of(invoice):
        if installment.number == number:
            return installment
    raise InvoiceNotPayable("It has no such installment.")


def _active(invoice: Invoice) -> list[tuple[Checkout, Payment]]:
    checkouts = list(Checkout.objects.filter(invoice=invoice, is_active=True).order_by("attempt"))
    payments = Payment.objects.in_bulk([checkout.payment_id for checkout in checkouts])
    return [(checkout, payments[checkout.payment_id]) for checkout in checkouts]


def record_offline_payment(
    *,
    tenant_id: UUID,
    invoice_id: UUID,
    amount: int,
    method: str,
    received_on: dt.date | None,
    reference: str,
    note: str,
    idempotency_key: str,
    now: dt.datetime,
    asked_by: str = "",
) -> Receipt:
    """
    Note money that came past the gateways: into the tenant's cash account, for this invoice.

    What is more than was due is kept as the customer's credit.

    :raises NotFound: no such invoice in this tenant
    :raises InvalidState: a draft, or voided
    :raises InvalidRequest: received on a day that is yet to come
    :raises IdempotencyConflict: the key was used for another request
    :raises DomainError: the settlement account does not take it
    """
    asked = fingerprint(
        "offline payment", invoice_id, amount, method, received_on, reference, note, asked_by
    )

    def record() -> Receipt:
        with transaction.atomic():
            invoice = invoice_for_update(tenant_id=tenant_id, invoice_id=invoice_id)
            earlier = Receipt.objects.filter(
                tenant_id=tenant_id, idempotency_key=idempotency_key
            ).first()
            if earlier is not None:
                if bytes(earlier.request_fingerprint) != asked:
                    raise IdempotencyConflict(REUSED_KEY)
                return earlier
            if received_on is not None and received_on > invoice.tenant.day_of(now):
                raise InvalidRequest("It is yet to come.", field="received_on")
            if invoice.number is None or invoice.status == _S.VOIDED:
                raise InvalidState(f"It is {invoice.status}; nothing is owed on it.")
            account = books_of(invoice, now, _ROLE.CASH, _ROLE.RECEIVABLE)
            posted = post_for(
                invoice,
                type_="invoice_payment",
                # The receipt has the caller's key, and is written with it.
                key=f"offline payment {new_id()}",
                legs={account[_ROLE.CASH]: -amount, account[_ROLE.RECEIVABLE]: amount},
                what="Paid by hand",
            )
            receipt = receive(
                invoice,
                Received(
                    kind=Receipt.Kind.OFFLINE,
                    method=method,
                    amount=amount,
                    transaction_id=posted.id,
                    received_on=received_on or invoice.tenant.day_of(now),
                    idempotency_key=idempotency_key,
                    request_fingerprint=asked,
                    gateway=figures.OFFLINE,
                    reference=reference,
                    note=note,
                ),
                now,
            )
            record_change(
                tenant_id=tenant_id,
                action="invoice.payment_recorded",
                object_id=invoice.pk,
                now=now,
                after={"amount": format_money(amount, invoice.currency), "method": method},
                reason=note,
            )
        return receipt

    return repeating(record, on_constraint="receipt_idempotency_key_unique")
