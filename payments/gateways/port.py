"""
What Florin asks of a gateway, and what it hears: one interface, whoever is behind it.

Adapters translate to and from a gateway's own words. They keep nothing, know no database, and never
decide what an answer means for the books.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from core.money import Money


class State(StrEnum):
    """Where a payment, refund or payout stands at the gateway, in our words."""

    PENDING = "pending"
    # Authorised or challenged: somebody at the gateway has yet to decide.
    REVIEW = "review"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    # Called off before it settled: by us, or by somebody at the gateway.
    CANCELLED = "cancelled"
    # Money that had succeeded and was taken back: denied after settlement, charged back, returned.
    REVERSED = "reversed"


class GatewayFault(Exception):
    """A call that brought no answer about the payment."""

    def __init__(self, detail: str, *, code: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code


class Unreachable(GatewayFault):
    """Nothing was sent, or the gateway said so: no connection, circuit open, rate limited."""


class Uncertain(GatewayFault):
    """It was sent, and nobody knows what became of it: time-out, reset, 5xx, no sense in it."""


class Refused(GatewayFault):
    """The gateway understood and did nothing."""

    @property
    def is_about_us(self) -> bool:
        """Whether it is our credentials it refuses: that says nothing of the payment."""
        return self.code.lower() in _ABOUT_US


_ABOUT_US = frozenset(
    {"401", "403", "unauthorized", "invalid_api_key", "access_suspended", "not_supported"}
    | {"request_forbidden_error", "forbidden"}
)


class NoSuchObject(GatewayFault):
    """The gateway does not know it."""


class Unauthentic(Exception):
    """A notification that the gateway did not sign."""


class Unreadable(Exception):
    """A notification that makes no sense."""


@dataclass(frozen=True, slots=True)
class CardData:
    """Of the sandbox; a real card number goes nowhere near Florin."""

    number: str = field(repr=False)
    exp_month: int
    exp_year: int
    cvc: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PaymentOrder:
    """
    A payment to be created.

    With a token (which the gateway's own script made in the payer's browser), with a test card, or
    with neither: then the payer chooses on a page of the gateway.
    """

    reference: str
    amount: Money
    idempotency_key: str
    description: str = ""
    token: str = field(default="", repr=False)
    card: CardData | None = None
    # Where the payer's browser comes back to, and where notifications go.
    return_url: str = ""
    notify_url: str = ""


@dataclass(frozen=True, slots=True)
class PaymentReport:
    """What the gateway says of a payment."""

    gateway_id: str
    reference: str
    state: State
    # The gateway's own word.
    raw_status: str
    amount: Money
    # Whether the money has reached the tenant's account at the gateway.
    is_settled: bool = False
    # Minor units, of all its refunds together; None: the gateway does not say.
    refunded: int | None = None
    redirect_url: str = ""
    expires_at: dt.datetime | None = None
    failure_code: str = ""
    failure_detail: str = ""
    card_last4: str = ""
    created_at: dt.datetime | None = None
    # The attempt failed, but the page it was made on stays open for another.
    may_still_succeed: bool = False


@dataclass(frozen=True, slots=True)
class RefundOrder:
    reference: str
    payment_reference: str
    payment_gateway_id: str
    # How the payment was made, since some gateways name it otherwise: token, card or hosted.
    payment_method: str
    payment_amount: Money
    amount: Money
    idempotency_key: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RefundReport:
    gateway_id: str
    reference: str
    state: State
    raw_status: str
    amount: Money
    failure_code: str = ""


@dataclass(frozen=True, slots=True)
class PayoutOrder:
    reference: str
    amount: Money
    idempotency_key: str
    beneficiary_name: str
    country: str
    iban: str = ""
    account_number: str = ""
    bank_code: str = ""
    description: str = ""
    notify_url: str = ""


@dataclass(frozen=True, slots=True)
class PayoutReport:
    gateway_id: str
    reference: str
    state: State
    raw_status: str
    amount: Money
    failure_code: str = ""


class Kind(StrEnum):
    """What a notification is about."""

    PAYMENT = "payment"
    REFUND = "refund"
    PAYOUT = "payout"
    # Authentic, and of no concern to us.
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Notification:
    """A webhook in our words. A hint of where to look: what moves money is asked for again."""

    event_id: str
    kind: Kind
    # Ours, as given when the object was created; empty if the gateway leaves it out.
    reference: str
    gateway_id: str
    state: State | None
    raw_status: str
    failure_code: str = ""
    is_settled: bool = False


@dataclass(frozen=True, slots=True)
class Capabilities:
    # Of what: empty means every currency.
    currencies: frozenset[str] = frozenset()
    takes_payments: bool = True
    takes_test_cards: bool = False
    makes_payouts: bool = True
    # Names of the credentials that a configuration holds: required, and optional.
    credentials: tuple[str, ...] = ()
    optional_credentials: tuple[str, ...] = ()
    # The one whose end tells one configuration from another; by default the first.
    hinted_credential: str = ""
    needs_webhook_secret: bool = False
    modes: tuple[str, ...] = ("test", "live")


class Gateway(Protocol):
    """
    A gateway with one tenant's credentials.

    Every method makes at most a few calls, each within its time limits, and raises a GatewayFault
    where there is no answer about the object. References are ours and unique.
    """

    def create_payment(self, order: PaymentOrder) -> PaymentReport: ...

    def get_payment(
        self, *, reference: str, gateway_id: str, method: str, currency: str
    ) -> PaymentReport:
        """Raise NoSuchObject where the gateway has no payment of the reference."""
        ...

    def cancel_payment(
        self, *, reference: str, gateway_id: str, method: str, amount: Money, redirect_url: str
    ) -> PaymentReport | None:
        """
        Call off a hosted payment that nobody has paid; report where it stands then.

        It may have been paid meanwhile: then that is the report. Called again it is the same.
        None: this payment cannot be called off. The gateway does not always say the amount of what
        nobody used, so it is given. Raises GatewayFaults as get_payment does; Uncertain where it
        may yet be called off: ask for it again.
        """
        ...

    def refund(self, order: RefundOrder) -> RefundReport:
        """Refund; called again with the same key it is the same refund."""
        ...

    def get_refund(self, order: RefundOrder, *, gateway_id: str) -> RefundReport: ...

    def create_payout(self, order: PayoutOrder) -> PayoutReport:
        """Pay out; called again with the same key it is the same payout."""
        ...

    def get_payout(self, *, reference: str, gateway_id: str, currency: str) -> PayoutReport: ...

    def verify_and_parse(
        self, *, headers: Mapping[str, str], body: bytes, secrets: Sequence[str]
    ) -> Notification:
        """
        Read a notification that the gateway has signed with one of the secrets.

        :raises Unauthentic: it has not
        :raises Unreadable: signed or not, there is no sense in it
        """
        ...

    def list_payments(self, *, since: dt.datetime) -> list[PaymentReport] | None:
        """Return those created since, at most 100,000; None: the gateway has no such list."""
        ...


def credentials_from(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, str]:
    """Return what of `given` belongs to the names, as text."""
    return {name: str(given[name]) for name in names if given.get(name)}
