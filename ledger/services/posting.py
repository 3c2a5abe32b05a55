"""
Posting: the one way to move money. Everything here ends in one call of the function ledger_post.

All amounts are minor units, signed: credit positive, debit negative. The engine reads the clock
under its locks, so that the times of an account's entries never go back.
"""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
from django.db import connection

from core.caller import current_caller
from core.database import refusing, repeating, sql_array, sql_text_array
from core.errors import DomainError, InvalidRequest, PayloadTooLarge
from core.ids import new_id
from ledger.errors import BY_REFUSAL, AccountLocked, AlreadyReversed, Unbalanced
from ledger.models import Entry
from ledger.services.locks import lock_refusal

# Legs of one posting; the table keeps the same limit.
LEGS_MAX = 100
# Postings of one call: bounds the time that its accounts stay locked (about half a second).
BATCH_MAX = 10_000
REVERSED_BEFORE = "The transaction was reversed before."
_KEY_TAKEN = "transaction_idempotency_key_unique"

_POST = """
SELECT p.* FROM florin_act_as(%s::uuid, %s, %s, %s) tenant_id CROSS JOIN LATERAL ledger_post(
    tenant_id, %s::boolean, %s::uuid[], %s::text[], %s::text[], %s::int[], %s::uuid[], %s::bigint[],
    %s::text[], %s::bytea[], %s::text[], %s::text[], %s::date[], %s::jsonb[], %s::uuid[]) p
"""


@dataclass(frozen=True, slots=True)
class Leg:
    account_id: UUID
    # Minor units: credit positive, debit negative.
    amount: int


@dataclass(frozen=True, slots=True)
class Posting:
    """A transaction to be: two or more legs of one currency that sum to zero."""

    type: str
    currency: str
    legs: tuple[Leg, ...]
    idempotency_key: str | None = None
    # What was asked for; a replay must have the same. See core.idempotency.fingerprint.
    request_fingerprint: bytes | None = None
    description: str = ""
    external_reference: str | None = None
    # None: the day it is booked, in UTC.
    value_date: dt.date | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    reverses: UUID | None = None
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a posting: `posted`, `replayed` (the key's earlier one) or `refused`."""

    outcome: str
    transaction_id: UUID | None
    # One of BY_REFUSAL, or batch_refused: another posting of the atomic batch was.
    refusal: str | None
    # Whose fault the refusal is, and how much that account had.
    account_id: UUID | None
    available: int | None
    booked_at: dt.datetime | None
    # Balance after each leg; of a batch of one that was posted.
    leg_balances: list[int] | None


@dataclass(frozen=True, slots=True)
class PostedTransaction:
    """A transaction as its maker sees it: what was asked for, and what came of it."""

    posting: Posting
    id: UUID
    created_at: dt.datetime
    value_date: dt.date
    leg_balances: list[int]
    is_replay: bool


def post(*, tenant_id: UUID, postings: Sequence[Posting], is_atomic: bool = False) -> list[Outcome]:
    """
    Post up to 10,000 transactions in one round trip; return an outcome for each, in order.

    Independent: each succeeds or is refused alone, as if posted one after another. Atomic: one
    refusal refuses all. Idempotent by each posting's key; of two with the same key in one call the
    second replays the first. Writes one transaction, its entries and one outbox row for each
    posting, and each account once.

    :raises PayloadTooLarge: more than 10,000 postings
    :raises Unbalanced: legs that do not sum to zero
    :raises InvalidRequest: too few or too many legs, or an account twice in one posting
    """
    if not postings:
        return []
    if len(postings) > BATCH_MAX:
        raise PayloadTooLarge(f"At most {BATCH_MAX} postings in one call.")
    for posting in postings:
        _refuse_malformed(posting)
    first_by_key: dict[str, int] = {}
    twins: dict[int, int] = {}
    for index, posting in enumerate(postings):
        if posting.idempotency_key is not None:
            first = first_by_key.setdefault(posting.idempotency_key, index)
            if first != index:
                twins[index] = first
    if not twins:
        return _post_distinct(tenant_id, postings, is_atomic)
    return _post_with_twins(tenant_id, postings, is_atomic, twins)


def post_one(*, tenant_id: UUID, posting: Posting) -> PostedTransaction:
    """
    Post one transaction in one round trip, or return the earlier one of the same key.

    :raises IdempotencyConflict: the key was used for another request
    :raises AccountNotFound: no such account in this tenant
    :raises AccountClosed: an account is closed
    :raises AccountFrozen: an account is frozen
    :raises CurrencyMismatch: the currency is not an account's
    :raises AccountLocked: an account to be debited is locked for debits
    :raises InsufficientFunds: balance, holds and overdraft limit do not allow a debit
    :raises BalanceOutOfRange: a balance would pass 9·10¹⁸
    """
    [outcome] = post(tenant_id=tenant_id, postings=[posting])
    if outcome.refusal == AccountLocked.code and outcome.account_id is not None:
        raise lock_refusal(tenant_id, outcome.account_id)
    if outcome.refusal is not None:
        raise refusal_of(outcome)
    if outcome.transaction_id is None or outcome.booked_at is None:
        raise RuntimeError(f"the engine returned {outcome}")
    balances = outcome.leg_balances
    return PostedTransaction(
        posting=posting,
        id=outcome.transaction_id,
        created_at=outcome.booked_at,
        value_date=posting.value_date or outcome.booked_at.astimezone(dt.UTC).date(),
        leg_balances=_balances_of(outcome.transaction_id) if balances is None else balances,
        is_replay=outcome.outcome == "replayed",
    )


def refusal_of(outcome: Outcome) -> DomainError:
    """Return the refusal as an exception, with the sentence a caller reads."""
    refusal_class, sentence = BY_REFUSAL[outcome.refusal or ""]
    return refusal_class(sentence.format(account=outcome.account_id, available=outcome.available))


def _refuse_malformed(posting: Posting) -> None:
    legs = posting.legs
    if not 2 <= len(legs) <= LEGS_MAX:
        raise InvalidRequest(f"A transaction has 2 to {LEGS_MAX} entries.", field="entries")
    if len(legs) == 2:
        one, other = legs
        is_balanced, is_distinct = one.amount == -other.amount, one.account_id != other.account_id
    else:
        is_balanced = sum(leg.amount for leg in legs) == 0
        is_distinct = len({leg.account_id for leg in legs}) == len(legs)
    if not is_distinct:
        raise InvalidRequest("An account appears at most once in a transaction.", field="entries")
    if not is_balanced or any(leg.amount == 0 for leg in legs):
        raise Unbalanced("Entries are not zero and sum to zero.")


def _post_with_twins(
    tenant_id: UUID, postings: Sequence[Posting], is_atomic: bool, twins: dict[int, int]
) -> list[Outcome]:
    """Post each key once; a later posting of the same key gets the first one's outcome."""
    conflict = Outcome("refused", None, "idempotency_conflict", None, None, None, None)
    conflicts = {
        index
        for index, first in twins.items()
        if postings[index].request_fingerprint != postings[first].request_fingerprint
    }
    if is_atomic and conflicts:
        refused = Outcome("refused", None, "batch_refused", None, None, None, None)
        return [conflict if i in conflicts else refused for i in range(len(postings))]
    distinct = [index for index in range(len(postings)) if index not in twins]
    outcomes = dict(
        zip(
            distinct,
            _post_distinct(tenant_id, [postings[index] for index in distinct], is_atomic),
            strict=True,
        )
    )
    for index, first in twins.items():
        outcomes[index] = conflict if index in conflicts else _repeated(outcomes[first])
    return [outcomes[index] for index in range(len(postings))]


def _repeated(first: Outcome) -> Outcome:
    if first.outcome != "posted":
        return first
    return Outcome("replayed", first.transaction_id, None, None, None, first.booked_at, None)


def _post_distinct(tenant_id: UUID, postings: Sequence[Posting], is_atomic: bool) -> list[Outcome]:
    arguments = _arguments(tenant_id, postings, is_atomic)

    def call() -> list[Outcome]:
        connection.ensure_connection()
        # psycopg's own cursor: the statement is prepared once for each connection, and the arrays
        # go as parameters. Django's would send them as literals, to be parsed and planned anew.
        # Rows come back in binary: Django's reader of times as text is Python, this one is C.
        with (
            connection.wrap_database_errors,
            psycopg.Cursor(connection.connection) as cursor,
        ):
            cursor.execute(_POST, arguments, prepare=True, binary=True)
            return [Outcome(*row) for row in cursor]

    with refusing({"transaction_reversed_once": AlreadyReversed(REVERSED_BEFORE)}):
        return repeating(call, on_constraint=_KEY_TAKEN)


def _arguments(tenant_id: UUID, postings: Sequence[Posting], is_atomic: bool) -> tuple[object, ...]:
    """Return the arguments of _POST. A column that no posting fills goes as one NULL."""
    legs = [(n, leg) for n, posting in enumerate(postings, 1) for leg in posting.legs]
    caller = current_caller()
    return (
        tenant_id,
        caller.actor_id,
        caller.request_id,
        caller.address,
        is_atomic,
        sql_array([posting.id.hex for posting in postings]),
        sql_text_array([posting.type for posting in postings]),
        sql_text_array([posting.currency for posting in postings]),
        sql_array([str(n) for n, _ in legs]),
        sql_array([leg.account_id.hex for _, leg in legs]),
        sql_array([str(leg.amount) for _, leg in legs]),
        sql_text_array([posting.idempotency_key for posting in postings]),
        sql_text_array(
            [
                None
                if posting.request_fingerprint is None
                else f"\\x{posting.request_fingerprint.hex()}"
                for posting in postings
            ]
        ),
        sql_text_array([posting.description or None for posting in postings]),
        sql_text_array([posting.external_reference for posting in postings]),
        sql_text_array(
            [p.value_date.isoformat() if p.value_date is not None else None for p in postings]
        ),
        sql_text_array([json.dumps(p.metadata) if p.metadata else None for p in postings]),
        sql_text_array([p.reverses.hex if p.reverses is not None else None for p in postings]),
    )


def _balances_of(transaction_id: UUID) -> list[int]:
    entries = Entry.objects.filter(transaction_id=transaction_id).order_by("leg")
    return list(entries.values_list("balance_after", flat=True))
