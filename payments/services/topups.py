"""
Top-ups: money asked of a payer through a gateway, and credited to a customer's account.

Who may be credited, and what a key that comes again means. The asking itself is services.asking.
"""

import dataclasses
import datetime as dt
from dataclasses import dataclass, field
from uuid import UUID

from django.db import transaction

from accounts.models import Account
from accounts.queries import account_of
from core.database import repeating
from core.errors import IdempotencyConflict, NotFound
from core.idempotency import REUSED_KEY, keyed_fingerprint
from core.ids import new_id
from core.money import Money
from ledger.errors import AccountClosed, AccountFrozen, CurrencyMismatch
from payments.gateways.port import CardData
from payments.models import GatewayConfiguration, Payment
from payments.services.asking import (
    attempt_again,
    gateways_for,
    refuse_real_cards,
    send,
    write_down,
)
from payments.services.outcomes import SEND_AGAIN
from payments.services.waiting import reference_of

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

    def reference_at(self, payment_id: UUID, attempt: int) -> str:
        return reference_of("TU", payment_id, attempt)


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
    choices = gateways_for(
        tenant_id=tenant_id,
        currency=order.amount.currency,
        gateway=order.gateway,
        is_card=order.card is not None,
    )
    refuse_real_cards(order.card)
    payment, is_mine = repeating(
        lambda: _begin(tenant_id, order, choices[0], now), on_constraint=_KEY_TAKEN
    )
    if not is_mine:
        return MadePayment(payment, is_replay=True)
    return MadePayment(send(payment, order, choices, now), is_replay=False)


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
            attempt_again(earlier, order, configuration, now)
            return earlier, True
        payment = write_down(
            tenant_id=tenant_id,
            payment_id=new_id(),
            purpose=Payment.Purpose.TOPUP,
            asked=order,
            request_fingerprint=_fingerprint(order),
            configuration=configuration,
            now=now,
        )
    return payment, True


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
