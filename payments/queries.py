"""Reads of money movements, put together from the ledger's."""

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from accounts.queries import owned_among
from core.errors import NotFound
from ledger import queries


@dataclass(frozen=True, slots=True)
class MadeTransfer:
    """A transfer that was posted. Amounts are minor units, positive."""

    id: UUID
    type: str
    status: str
    amount: int
    currency: str
    description: str
    external_reference: str | None
    value_date: dt.date
    metadata: dict[str, str]
    created_at: dt.datetime
    source_account_id: UUID
    destination_account_id: UUID
    # None: the caller is its receiver only, who has no business with the sender's balance.
    source_balance_after: int | None


def transfer_of(
    *, tenant_id: UUID, transfer_id: UUID, owner_id: UUID | None = None
) -> MadeTransfer:
    """
    Return the transfer.

    :raises NotFound: unknown, another tenant's, a transaction of another type, or one that moved
        nothing of the owner's
    """
    transaction = queries.transaction_of(tenant_id=tenant_id, transaction_id=transfer_id)
    if transaction.type != "transfer":
        raise NotFound("No such transfer.")
    source, destination = queries.entries_of_transaction(transaction_id=transfer_id)
    is_sender = True
    if owner_id is not None:
        ids = [source.account_id, destination.account_id]
        own = owned_among(tenant_id=tenant_id, owner_id=owner_id, account_ids=ids)
        if not own:
            raise NotFound("No such transfer.")
        is_sender = source.account_id in own
    return MadeTransfer(
        id=transaction.pk,
        type=transaction.type,
        status="posted",
        amount=transaction.amount,
        currency=transaction.currency,
        description=transaction.description,
        external_reference=transaction.external_reference,
        value_date=transaction.value_date,
        metadata=transaction.metadata,
        created_at=transaction.created_at,
        source_account_id=source.account_id,
        destination_account_id=destination.account_id,
        source_balance_after=source.balance_after if is_sender else None,
    )
