"""Every change of the ledger. Balances move through `post` and `post_one`, nowhere else."""

from ledger.services.holds import (
    CapturedHold,
    PlacedHold,
    capture_hold,
    expire_due_holds,
    place_hold,
    release_hold,
)
from ledger.services.journals import post_journal, reverse_transaction
from ledger.services.locks import explain_locks
from ledger.services.posting import (
    BATCH_MAX,
    LEGS_MAX,
    Leg,
    Outcome,
    PostedTransaction,
    Posting,
    post,
    post_one,
    refusal_of,
)

__all__ = [
    "BATCH_MAX",
    "LEGS_MAX",
    "CapturedHold",
    "Leg",
    "Outcome",
    "PlacedHold",
    "PostedTransaction",
    "Posting",
    "capture_hold",
    "expire_due_holds",
    "explain_locks",
    "place_hold",
    "post",
    "post_journal",
    "post_one",
    "refusal_of",
    "release_hold",
    "reverse_transaction",
]
