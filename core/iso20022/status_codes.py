"""
What status codes mean to us, and card gateways' states said in the codes of pain.002.

Codes: ISO 20022 external code sets, Payment Transaction Status and Status Reason.
"""

import enum
from typing import Final

# Not of the code set: pain.002 cannot say that money came back. camt.054 says it by an entry.
RETURNED: Final = "RTND"


class Outcome(enum.Enum):
    """What a bank's code says of one payment."""

    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    PROCESSING = "processing"
    SETTLED = "settled"
    PENDING = "pending"
    REJECTED = "rejected"
    RETURNED = "returned"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


_OUTCOMES: Final = {
    "RCVD": Outcome.SUBMITTED,
    "ACTC": Outcome.ACCEPTED,
    "ACCP": Outcome.ACCEPTED,
    # With a change, such as another execution date.
    "ACWC": Outcome.ACCEPTED,
    "ACSP": Outcome.PROCESSING,
    "ACWP": Outcome.PROCESSING,
    "ACFC": Outcome.PROCESSING,
    "ACIS": Outcome.PROCESSING,
    "ACSC": Outcome.SETTLED,
    "ACCC": Outcome.SETTLED,
    "PDNG": Outcome.PENDING,
    "PATC": Outcome.PENDING,
    "PRES": Outcome.PENDING,
    "BLCK": Outcome.PENDING,
    "RJCT": Outcome.REJECTED,
    "CANC": Outcome.CANCELLED,
    RETURNED: Outcome.RETURNED,
}
# A card's states; a charge that was paid is not settled until the gateway pays it out.
_CODES_BY_STATE: Final = {
    "created": "RCVD",
    "pending": "PDNG",
    "review": "PDNG",
    "authorized": "ACCP",
    "paid": "ACSP",
    "settled": "ACSC",
    "failed": "RJCT",
    "reversed": "RJCT",
    "expired": "CANC",
    "cancelled": "CANC",
    "refunded": RETURNED,
}
_REASONS_BY_FAILURE: Final = {
    "insufficient_funds": "AM04",
    "insufficient_balance": "AM04",
    "amount_too_large": "AM02",
    "currency_not_supported": "AM03",
    "duplicate": "AM05",
    "expired_card": "AC01",
    "incorrect_number": "AC01",
    "invalid_account": "AC01",
    "invalid_card": "AC01",
    "account_closed": "AC04",
    "account_blocked": "AC06",
    "card_blocked": "AC06",
    "suspected_fraud": "FRAD",
    "suspected_fraudulent": "FRAD",
}
# No reason given, by the bank's side.
_REASON_UNKNOWN: Final = "MS03"


def outcome_of(status: str) -> Outcome:
    """
    Return what the code says of one payment. Banks agree on codes of their own: those are UNKNOWN.

    So is PART, which is said of a group: some of it was accepted, and not which.
    """
    return _OUTCOMES.get(status, Outcome.UNKNOWN)


def normalised(state: str, failure_code: str | None = None) -> tuple[str, str | None]:
    """
    Return a gateway's state as (status code, reason code); a reason only where it was rejected.

    :param state: created, pending, review, authorized, paid, settled, failed, reversed, expired,
        cancelled or refunded
    :param failure_code: the adapter's word for why, in any case
    :raises ValueError: another state
    """
    try:
        code = _CODES_BY_STATE[state]
    except KeyError:
        raise ValueError(f"{state!r} is not a state of a charge.") from None
    if code != "RJCT":
        return code, None
    return code, _REASONS_BY_FAILURE.get((failure_code or "").lower(), _REASON_UNKNOWN)
