"""Faults that a test orders: what they may be, and which request, webhook or payment gets one."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

# Instead of the answer; nothing is done unless the fault says `is_committed`.
BEFORE_COMMIT: Final = frozenset(
    ["timeout_before_commit", "http_500", "http_503", "http_429", "html", "redirect", "reset"]
)
# Everything is done, and then the answer is lost, broken or late.
AFTER_COMMIT: Final = frozenset(
    [
        "timeout_after_commit",
        "http_500_after_commit",
        "reset_after_commit",
        "garbage",
        "huge",
        "drip",
        "slow",
    ]
)
ON_ANSWER: Final = BEFORE_COMMIT | AFTER_COMMIT
ON_WEBHOOK: Final = frozenset(["duplicate_webhook", "drop_webhook", "wrong_signature"])
# They stay with the first payment that they match.
ON_PAYMENT: Final = frozenset(
    [
        "reorder",
        "late_paid_after_expiry",
        "settlement_then_deny",
        "amount_delta",
        "fee_imposition",
        "order_id_swapped_in_status",
    ]
)
EFFECTS: Final = ON_ANSWER | ON_WEBHOOK | ON_PAYMENT
OPS: Final = frozenset(
    [
        "create_payment",
        "get_payment",
        "list_payments",
        "cancel_payment",
        "refund",
        "get_refund",
        "create_payout",
        "get_payout",
        "token",
    ]
)
_MATCHED: Final = frozenset({"gateway", "op", "key", "reference"})
_NUMBERS: Final = {"times": 1, "ms": 0, "n": 2, "amount": 0}
# The largest of each, so that a slip of the pen costs no afternoon.
_NUMBERS_MAX: Final = {"times": 1_000_000, "ms": 600_000, "n": 100, "amount": 10**15}


@dataclass
class Fault:
    """One effect, to be had `times` times by whatever matches all that `match` names."""

    effect: str
    match: dict[str, str] = field(default_factory=dict)
    times: int = 1
    # Of `slow`.
    ms: int = 0
    # Of `duplicate_webhook`: how often the webhook is sent in all.
    n: int = 2
    # Of `amount_delta` and `fee_imposition`, in the unit in which the gateway writes amounts.
    amount: Decimal = Decimal(0)
    is_committed: bool = False

    def __post_init__(self) -> None:
        self.amount = Decimal(self.amount)

    def fits(self, **about: str | None) -> bool:
        """Whether everything that it asks for is so."""
        return self.times > 0 and all(about.get(name) == self.match[name] for name in self.match)


def read_fault(body: Any) -> Fault:
    """
    A fault as it is ordered.

    :raises ValueError: what is wrong with it
    """
    if not isinstance(body, dict):
        raise ValueError("a fault is a JSON object")  # noqa: TRY004  the caller's, not ours
    unknown = set(body) - {"effect", "match", "is_committed", *_NUMBERS}
    if unknown:
        raise ValueError(f"unknown field {min(unknown)}")
    effect, match = body.get("effect"), body.get("match", {})
    if effect not in EFFECTS:
        raise ValueError(f"effect must be one of {', '.join(sorted(EFFECTS))}")
    if not isinstance(match, dict) or set(match) - _MATCHED:
        raise ValueError(f"match may name {', '.join(sorted(_MATCHED))}")
    if not all(isinstance(value, str) for value in match.values()):
        raise ValueError("match compares texts")
    if match.get("op", "refund") not in OPS:
        raise ValueError(f"op must be one of {', '.join(sorted(OPS))}")
    numbers = {name: body.get(name, default) for name, default in _NUMBERS.items()}
    if not all(isinstance(value, int | Decimal) for value in numbers.values()):
        raise ValueError(f"{', '.join(_NUMBERS)} are numbers")
    for name, largest in _NUMBERS_MAX.items():
        smallest = -largest if name == "amount" else int(name == "times")
        if not smallest <= numbers[name] <= largest:
            raise ValueError(f"{name} is {smallest} to {largest}")
    return Fault(
        effect=effect,
        match=match,
        times=int(numbers["times"]),
        ms=int(numbers["ms"]),
        n=int(numbers["n"]),
        amount=Decimal(numbers["amount"]),
        is_committed=bool(body.get("is_committed", effect in AFTER_COMMIT)),
    )


def take(faults: list[Fault], effects: frozenset[str], **about: str | None) -> list[Fault]:
    """
    All faults of these effects that fit, each used once; of those on an answer the first only,
    because an answer is lost once.
    """
    taken = []
    for fault in faults:
        if fault.effect in effects and fault.fits(**about):
            fault.times -= 1
            taken.append(fault)
            if effects is ON_ANSWER:
                break
    faults[:] = [fault for fault in faults if fault.times > 0]
    return taken
