"""
The test cards: which number makes what happen. Read by the simulator, the tests and the manual.

No number here belongs to anybody. Every one passes the Luhn check, so that a check in a form lets
it through. `docs/simulator.md` has the same table for people.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Outcome = Literal["succeeded", "failed", "requires_action", "late", "review"]


@dataclass(frozen=True, slots=True)
class TestCard:
    """What a charge of this number comes to, and what goes wrong beside it."""

    # pytest collects classes by their name.
    __test__ = False

    number: str
    # Also a token that need not be made: `tok_<name>` at the sandbox, `pm-<name>` at Xendit.
    name: str
    outcome: Outcome
    failure_code: str | None = None
    # An effect of the simulator's faults, here tied to the card.
    effect: str | None = None

    @property
    def last4(self) -> str:
        """The digits that may be shown."""
        return self.number[-4:]


def passes_luhn(number: str) -> bool:
    """Whether the last digit is the check digit of the others."""
    if not (number.isascii() and number.isdigit() and 12 <= len(number) <= 19):
        return False
    total = 0
    for position, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _table(*cards: TestCard) -> Mapping[str, TestCard]:
    return MappingProxyType({card.number: card for card in cards})


SANDBOX_CARDS: Final = _table(
    TestCard("4242424242424242", "success", "succeeded"),
    TestCard("4000000000000002", "card_declined", "failed", "card_declined"),
    TestCard("4000000000009995", "insufficient_funds", "failed", "insufficient_funds"),
    TestCard("4000000000000069", "expired_card", "failed", "expired_card"),
    TestCard("4000002500003155", "three_d_secure", "requires_action"),
    TestCard("4000000000000077", "late", "late"),
    TestCard("4000000000000259", "reversed", "succeeded", effect="settlement_then_deny"),
    TestCard("4000000000000119", "timeout", "succeeded", effect="timeout_after_commit"),
    TestCard("4000000000000341", "reset", "succeeded", effect="reset_after_commit"),
    TestCard("4000000000000432", "webhook_twice", "succeeded", effect="duplicate_webhook"),
    TestCard("4000000000000531", "webhooks_out_of_order", "succeeded", effect="reorder"),
    TestCard("4000000000000630", "no_webhook", "succeeded", effect="drop_webhook"),
    TestCard("4000000000000739", "error_after_commit", "succeeded", effect="http_500_after_commit"),
    TestCard("4000000000000838", "error_before_commit", "failed", effect="http_500"),
)

# Xendit's documented cards; any CVV, an expiry in the future. Our own numbers work there too.
XENDIT_CARDS: Final = _table(
    TestCard("4000000000001000", "visa_frictionless", "succeeded"),
    TestCard("5200000000001005", "mastercard_frictionless", "succeeded"),
    TestCard("4000000000002503", "visa_challenge", "requires_action"),
    TestCard("5200000000002151", "mastercard_challenge", "requires_action"),
)

# Card charges of exactly this amount fail at Xendit's test mode, whatever the card.
XENDIT_FAILING_AMOUNTS: Final[Mapping[int, str]] = MappingProxyType(
    {
        10051: "EXPIRED_CARD",
        10052: "SUSPECTED_FRAUDULENT",
        10053: "DECLINED_BY_PROCESSOR",
        10054: "INSUFFICIENT_BALANCE",
        10055: "STOLEN_CARD",
        10056: "INACTIVE_OR_UNAUTHORIZED_CARD",
        10057: "PROCESSOR_ERROR",
        10058: "INVALID_CVV",
        10059: "DECLINED_BY_ISSUER",
    }
)

# Midtrans's documented cards; CVV 123, an expiry in the future. Our own numbers work there too.
MIDTRANS_CARDS: Final = _table(
    TestCard("4811111111111114", "visa_accept", "succeeded"),
    TestCard("5211111111111117", "mastercard_accept", "succeeded"),
    TestCard("4911111111111113", "visa_deny", "failed", "card_declined"),
    TestCard("5111111111111118", "mastercard_deny", "failed", "card_declined"),
    TestCard("4411111111111118", "attempted_accept", "succeeded"),
    TestCard("4511111111111117", "fraud_challenge", "review"),
    TestCard("4611111111111116", "fraud_deny", "failed", "fraud"),
    TestCard("4711111111111115", "attempted_deny", "failed", "card_declined"),
)

# Payouts: the last four digits of the account number or IBAN say how it ends.
PAYOUT_FAILS_AT_ONCE: Final = "0001"
PAYOUT_IS_RETURNED: Final = "0002"
PAYOUT_STAYS_SUBMITTED: Final = "0003"
PAYOUT_FAILS_LATER: Final = "0004"


def card_named(name: str) -> TestCard | None:
    """The card of the sandbox that has this name."""
    return next((card for card in SANDBOX_CARDS.values() if card.name == name), None)
