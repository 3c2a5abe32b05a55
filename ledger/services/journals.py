"""Journals and reversals: what staff and integrators post by hand, and how it is put right."""

import datetime as dt
from uuid import UUID

from core.errors import InvalidState
from core.idempotency import fingerprint
from ledger import queries
from ledger.errors import AlreadyReversed
from ledger.models import Transaction
from ledger.services.posting import REVERSED_BEFORE, Leg, PostedTransaction, Posting, post_one

_OF_INVOICES = frozenset(
    {
        Transaction.Type.INVOICE,
        Transaction.Type.INVOICE_PAYMENT,
        Transaction.Type.INVOICE_ALLOCATION,
        Transaction.Type.CREDIT_NOTE,
        Transaction.Type.CREDIT_USE,
    }
)
# Of a payment; these belong to an invoice if the payment does.
_OF_PAYMENTS = frozenset(
    {Transaction.Type.REFUND, Transaction.Type.REFUND_RETURN, Transaction.Type.CHARGEBACK}
)


def post_journal(
    *,
    tenant_id: UUID,
    currency: str,
    legs: tuple[Leg, ...],
    idempotency_key: str,
    description: str = "",
    external_reference: str | None = None,
    value_date: dt.date | None = None,
    metadata: dict[str, str] | None = None,
    asked_by: str = "",
) -> PostedTransaction:
    """
    Post 2 to 100 signed entries of one currency.

    :raises Unbalanced: they do not sum to zero
    :raises InvalidRequest: an account appears twice
    :raises DomainError: whatever the posting refuses, see post_one
    """
    entries = [(leg.account_id, leg.amount) for leg in legs]
    asked = (currency, entries, description, external_reference, value_date, metadata)
    posting = Posting(
        type=Transaction.Type.JOURNAL,
        currency=currency,
        legs=legs,
        idempotency_key=idempotency_key,
        request_fingerprint=fingerprint("journal", *asked, asked_by),
        description=description,
        external_reference=external_reference,
        value_date=value_date,
        metadata=metadata or {},
    )
    return post_one(tenant_id=tenant_id, posting=posting)


def reverse_transaction(
    *,
    tenant_id: UUID,
    transaction_id: UUID,
    reason: str,
    idempotency_key: str,
    asked_by: str = "",
    is_owner: bool = False,
) -> PostedTransaction:
    """
    Post the opposite of a transaction, once. What belongs to an invoice only its owner reverses,
    with all else that it means.

    A reversal can itself be reversed. Two round trips for a transaction of two legs.

    :raises NotFound: no such transaction in this tenant
    :raises InvalidState: it belongs to an invoice
    :raises AlreadyReversed: by another request before
    :raises DomainError: whatever the posting refuses, see post_one; such as InsufficientFunds when
        the receiver has spent the money
    """
    original = queries.transaction_of(tenant_id=tenant_id, transaction_id=transaction_id)
    if not is_owner and _is_of_invoice(original):
        raise InvalidState("It belongs to an invoice. Void or credit that instead.")
    earlier = queries.reversal_of(transaction_id=transaction_id)
    if earlier is not None and earlier.idempotency_key != idempotency_key:
        raise AlreadyReversed(REVERSED_BEFORE)
    entries = queries.entries_of_transaction(transaction_id=transaction_id)
    posting = Posting(
        type=Transaction.Type.REVERSAL,
        currency=original.currency,
        legs=tuple(Leg(entry.account_id, -entry.amount) for entry in entries),
        idempotency_key=idempotency_key,
        request_fingerprint=fingerprint("reversal", transaction_id, reason, asked_by),
        description=reason,
        reverses=original.pk,
    )
    return post_one(tenant_id=tenant_id, posting=posting)


def _is_of_invoice(original: Transaction) -> bool:
    """Whether it belongs to an invoice, or reverses what does."""
    if original.type == Transaction.Type.REVERSAL and original.reverses_id is not None:
        original = queries.transaction_of(
            tenant_id=original.tenant_id, transaction_id=original.reverses_id
        )
    names_one = not {"payment_id", "invoice_id"}.isdisjoint(original.metadata)
    return original.type in _OF_INVOICES or (original.type in _OF_PAYMENTS and names_one)
