"""
Payments that are for an invoice: money asked of a payer, for the tenant's own receivable account.

The app that has the invoices writes one down in the transaction that decides it, and sends it
afterwards; what becomes of it, its listener is told (services.listening).
"""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from core.idempotency import keyed_fingerprint
from core.ids import new_id
from core.money import Money
from payments.errors import CardDataRefused
from payments.gateways.port import CardData
from payments.gateways.registry import CAPABILITIES
from payments.models import GatewayConfiguration, Payment
from payments.services.asking import refuse_real_cards, send, write_down

# With what tells a later attempt from the first it is at most 36.
REFERENCE_MAX = 32


@dataclass(frozen=True, slots=True)
class Collection:
    """
    Money to be asked of a payer for an invoice. With a token, a test card, or neither: then on a
    page of the gateway.

    `reference` is unique in the tenant and at most REFERENCE_MAX long: the payer may see it. Should
    a gateway not be reached, the next knows it as "<reference>-2".
    """

    # The tenant's receivable account.
    account_id: UUID
    amount: Money
    # Shares its space with those of callers, in which no space can occur.
    idempotency_key: str
    reference: str
    card: CardData | None = field(default=None, repr=False)
    token: str = field(default="", repr=False)
    description: str = ""
    return_url: str = ""
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < len(self.reference) <= REFERENCE_MAX:
            raise ValueError(f"a reference has 1 to {REFERENCE_MAX} characters")

    def reference_at(self, payment_id: UUID, attempt: int) -> str:
        return self.reference if attempt == 1 else f"{self.reference}-{attempt}"


def begin_collection(
    *,
    tenant_id: UUID,
    collection: Collection,
    choices: Sequence[GatewayConfiguration],
    now: dt.datetime,
) -> Payment:
    """
    Write down what will be asked of the first of the choices, which `gateways_for` returned, within
    the caller's transaction; `send_collection` asks. Calls no gateway.

    A key or a reference that the tenant has used violates `payment_idempotency_key_unique` or
    `payment_reference_unique`.

    :raises CardDataRefused: a card number that is no test card, or for another gateway
    :raises InvalidState: the gateway was deleted meanwhile
    """
    if collection.card is not None and not all(
        CAPABILITIES[choice.gateway].takes_test_cards for choice in choices
    ):
        raise CardDataRefused("Card numbers are taken by the sandbox only. Send a token instead.")
    refuse_real_cards(collection.card)
    parts = dataclasses.asdict(collection)
    del parts["idempotency_key"]
    return write_down(
        tenant_id=tenant_id,
        payment_id=new_id(),
        purpose=Payment.Purpose.INVOICE,
        asked=collection,
        # Keyed, since it covers a card's number and a token.
        request_fingerprint=keyed_fingerprint("invoice_payment", parts),
        configuration=choices[0],
        now=now,
    )


def send_collection(
    payment: Payment,
    collection: Collection,
    choices: Sequence[GatewayConfiguration],
    *,
    now: dt.datetime,
) -> Payment:
    """
    Ask the first gateway that can be reached for what `begin_collection` wrote down, once that is
    committed and by whoever wrote it; return the payment as it stands then.

    An outcome that nobody knows is `unknown`, and no error: the sweep finds it out.

    :raises Unavailable: no gateway could be reached, and nothing was asked for
    :raises GatewayError: the gateway refuses us, and nothing was asked for
    """
    return send(payment, collection, choices, now)
