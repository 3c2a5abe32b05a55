"""
Deposits, withdrawals and transfers.

Each makes a posting of two legs and one call of the ledger. All amounts are minor units, positive;
the direction is in the name.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from accounts.queries import account_of
from accounts.services import internal_account
from core.errors import InvalidRequest
from core.idempotency import fingerprint
from core.money import Money
from ledger.services import Leg, Outcome, PostedTransaction, Posting, post, post_one


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer to be made. `idempotency_key` may be None inside a batch only."""

    source_account_id: UUID
    destination_account_id: UUID
    amount: Money
    idempotency_key: str | None = None
    description: str = ""
    external_reference: str | None = None
    value_date: dt.date | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    # Whose key it is: the same key and request of somebody else is refused. Empty: our own.
    asked_by: str = ""


@dataclass(frozen=True, slots=True)
class CashMovement:
    """
    Money that enters or leaves through one of the tenant's own accounts.

    `through` is the role of that account: cash or settlement.
    """

    account_id: UUID
    amount: Money
    idempotency_key: str
    through: str = "cash"
    description: str = ""
    external_reference: str | None = None
    value_date: dt.date | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    # Whose key it is: the same key and request of somebody else is refused. Empty: our own.
    asked_by: str = ""


def make_transfer(
    *, tenant_id: UUID, transfer: Transfer, owner_id: UUID | None = None
) -> PostedTransaction:
    """
    Move money between two accounts of the tenant. One round trip; for an owner one more, to see
    that the source is theirs.

    :raises NotFound: the source is not the owner's
    :raises InvalidRequest: source and destination are one account
    :raises DomainError: whatever the posting refuses, see ledger.services.post_one
    """
    _refuse_to_self(transfer)
    if owner_id is not None:
        # Before the posting, not under its locks: who owns an account never changes.
        source_id = transfer.source_account_id
        account_of(tenant_id=tenant_id, account_id=source_id, owner_id=owner_id)
    return post_one(tenant_id=tenant_id, posting=_transfer_posting(transfer))


def make_transfers(
    *,
    tenant_id: UUID,
    transfers: Sequence[Transfer],
    is_atomic: bool,
    idempotency_key: str,
) -> list[Outcome]:
    """
    Move money many times in one round trip; return an outcome for each, in order.

    An item without a key of its own gets "<key of the batch> <index>". The space cannot occur in
    a caller's key, so the two kinds never meet.

    :raises InvalidRequest: source and destination of an item are one account
    :raises PayloadTooLarge: more than 10,000
    """
    for transfer in transfers:
        _refuse_to_self(transfer)
    postings = [
        _transfer_posting(transfer, key=transfer.idempotency_key or f"{idempotency_key} {index}")
        for index, transfer in enumerate(transfers)
    ]
    return post(tenant_id=tenant_id, postings=postings, is_atomic=is_atomic)


def make_deposit(*, tenant_id: UUID, deposit: CashMovement, now: dt.datetime) -> PostedTransaction:
    """
    Credit an account, against the tenant's cash or settlement account.

    Two round trips: the internal account is looked up, and opened on first need.

    :raises DomainError: whatever the posting refuses, see ledger.services.post_one
    """
    return _move_cash(tenant_id, deposit, "deposit", +1, now)


def make_withdrawal(
    *, tenant_id: UUID, withdrawal: CashMovement, now: dt.datetime
) -> PostedTransaction:
    """
    Debit an account, against the tenant's cash or settlement account.

    :raises DomainError: whatever the posting refuses, see ledger.services.post_one
    """
    return _move_cash(tenant_id, withdrawal, "withdrawal", -1, now)


def _move_cash(
    tenant_id: UUID, movement: CashMovement, type_: str, sign: int, now: dt.datetime
) -> PostedTransaction:
    amount = movement.amount
    internal_id = internal_account(
        tenant_id=tenant_id, role=movement.through, currency=amount.currency, now=now
    )
    posting = Posting(
        type=type_,
        currency=amount.currency,
        legs=(
            Leg(movement.account_id, sign * amount.minor_units),
            Leg(internal_id, -sign * amount.minor_units),
        ),
        idempotency_key=movement.idempotency_key,
        request_fingerprint=fingerprint(
            type_,
            movement.account_id,
            movement.through,
            amount.minor_units,
            amount.currency,
            movement.description,
            movement.external_reference,
            movement.value_date,
            movement.metadata,
            movement.asked_by,
        ),
        description=movement.description,
        external_reference=movement.external_reference,
        value_date=movement.value_date,
        metadata=movement.metadata,
    )
    return post_one(tenant_id=tenant_id, posting=posting)


def _refuse_to_self(transfer: Transfer) -> None:
    if transfer.source_account_id == transfer.destination_account_id:
        raise InvalidRequest(
            "Source and destination are the same account.", field="destination_account_id"
        )


def _transfer_posting(transfer: Transfer, key: str | None = None) -> Posting:
    amount = transfer.amount
    return Posting(
        type="transfer",
        currency=amount.currency,
        legs=(
            Leg(transfer.source_account_id, -amount.minor_units),
            Leg(transfer.destination_account_id, amount.minor_units),
        ),
        idempotency_key=key or transfer.idempotency_key,
        request_fingerprint=fingerprint(
            "transfer",
            transfer.source_account_id,
            transfer.destination_account_id,
            amount.minor_units,
            amount.currency,
            transfer.description,
            transfer.external_reference,
            transfer.value_date,
            transfer.metadata,
            transfer.asked_by,
        ),
        description=transfer.description,
        external_reference=transfer.external_reference,
        value_date=transfer.value_date,
        metadata=transfer.metadata,
    )
