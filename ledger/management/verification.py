"""
Recomputes the ledger from its entries and tells where it differs. Reads only.

Walks accounts, transactions and holds by id, a range at a time, so that memory and PostgreSQL's
sorts stay small on a hundred million entries. Everything is seen in one snapshot: postings may go
on meanwhile.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection, transaction

# Entries, transactions or holds looked at by one statement.
RANGE_ROWS = 200_000
_ACCOUNTS_LOOKED_AHEAD = 5_000

Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Difference:
    # entry, account, transaction or hold
    kind: str
    # The row: an id, for an entry "<account id>/<sequence>".
    row: str
    fault: str


@dataclass(slots=True)
class Findings:
    """What was looked at and what was wrong with it; only the first differences are kept."""

    limit: int
    checked: dict[str, int] = field(default_factory=dict)
    count: int = 0
    first: list[Difference] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        self.count += 1
        if len(self.first) < self.limit:
            self.first.append(difference)


# Each statement returns (row, faults) where something is wrong. %(lo)s < id <= %(hi)s; NULL: open.
_ENTRIES = """
SELECT account_id || '/' || sequence, array_remove(ARRAY[
    CASE WHEN sequence <> coalesce(last_sequence, 0) + 1
         THEN 'follows sequence ' || coalesce(last_sequence, 0) END,
    CASE WHEN balance_after <> coalesce(last_balance, 0) + amount
         THEN 'balance_after is ' || balance_after || ', not '
              || coalesce(last_balance, 0) || ' + ' || amount END,
    CASE WHEN created_at < last_created_at THEN 'was booked before the entry it follows' END,
    CASE WHEN amount = 0 THEN 'has no amount' END,
    CASE WHEN account_tenant_id IS NULL THEN 'belongs to no account' END,
    CASE WHEN account_tenant_id <> tenant_id THEN 'is not of its account''s tenant' END,
    CASE WHEN account_currency <> currency THEN 'is not in its account''s currency' END
  ], NULL)
  FROM (SELECT e.account_id, e.sequence, e.amount, e.balance_after, e.created_at, e.tenant_id,
               e.currency, a.tenant_id AS account_tenant_id, a.currency AS account_currency,
               lag(e.sequence) OVER w AS last_sequence,
               lag(e.balance_after) OVER w AS last_balance,
               lag(e.created_at) OVER w AS last_created_at
          FROM ledger_entry e
          LEFT JOIN accounts_account a ON a.id = e.account_id
         WHERE (%(lo)s::uuid IS NULL OR e.account_id > %(lo)s::uuid)
           AND (%(hi)s::uuid IS NULL OR e.account_id <= %(hi)s::uuid)
        WINDOW w AS (PARTITION BY e.account_id ORDER BY e.sequence)) entries
 WHERE sequence <> coalesce(last_sequence, 0) + 1
    OR balance_after <> coalesce(last_balance, 0) + amount
    OR created_at < last_created_at
    OR amount = 0
    OR account_tenant_id IS DISTINCT FROM tenant_id
    OR account_currency <> currency
"""
_ACCOUNTS = """
SELECT id::text, faults FROM (
  SELECT a.id, array_remove(ARRAY[
    CASE WHEN a.balance <> coalesce(e.total, 0)
         THEN 'balance is ' || a.balance || ', its entries sum to ' || coalesce(e.total, 0) END,
    CASE WHEN a.entry_count <> coalesce(e.entries, 0)
         THEN 'entry_count is ' || a.entry_count || ', of ' || coalesce(e.entries, 0) END,
    CASE WHEN a.held <> coalesce(h.held, 0)
         THEN 'held is ' || a.held || ', its active holds sum to ' || coalesce(h.held, 0) END,
    CASE WHEN a.balance - a.held < -a.overdraft_limit
         THEN 'is ' || (a.held - a.balance) || ' below zero, of ' || a.overdraft_limit END,
    CASE WHEN a.status = 'closed' AND (a.balance <> 0 OR a.held <> 0)
         THEN 'is closed with money in it' END
  ], NULL) AS faults
    FROM accounts_account a
    LEFT JOIN (
      SELECT account_id, sum(amount) AS total, count(*) AS entries
        FROM ledger_entry
       WHERE (%(lo)s::uuid IS NULL OR account_id > %(lo)s::uuid)
         AND (%(hi)s::uuid IS NULL OR account_id <= %(hi)s::uuid)
       GROUP BY account_id
    ) e ON e.account_id = a.id
    LEFT JOIN (
      SELECT account_id, sum(amount) AS held
        FROM ledger_hold
       WHERE status = 'active'
         AND (%(lo)s::uuid IS NULL OR account_id > %(lo)s::uuid)
         AND (%(hi)s::uuid IS NULL OR account_id <= %(hi)s::uuid)
       GROUP BY account_id
    ) h ON h.account_id = a.id
   WHERE (%(lo)s::uuid IS NULL OR a.id > %(lo)s::uuid)
     AND (%(hi)s::uuid IS NULL OR a.id <= %(hi)s::uuid)
) accounts WHERE faults <> '{}'
"""
_TRANSACTIONS = """
SELECT id::text, faults FROM (
  SELECT coalesce(t.id, e.transaction_id) AS id, array_remove(ARRAY[
    CASE WHEN t.id IS NULL THEN 'has entries and does not exist' END,
    CASE WHEN t.id IS NOT NULL AND e.transaction_id IS NULL THEN 'has no entries' END,
    CASE WHEN e.total <> 0 THEN 'its entries sum to ' || e.total END,
    CASE WHEN t.legs <> e.legs OR e.legs <> e.last_leg + 1
         THEN 'has ' || e.legs || ' entries, of ' || t.legs END,
    CASE WHEN t.amount <> e.credits
         THEN 'amount is ' || t.amount || ', its credits sum to ' || e.credits END,
    CASE WHEN e.first_currency <> e.last_currency OR e.first_currency <> t.currency
         THEN 'has entries of another currency' END,
    CASE WHEN e.tenants > 1 OR e.tenant_id <> t.tenant_id::text
         THEN 'has entries of another tenant' END,
    CASE WHEN t.reverses_id IS NOT NULL AND NOT EXISTS (
           SELECT FROM ledger_transaction o
            WHERE o.id = t.reverses_id AND o.tenant_id = t.tenant_id
              AND (SELECT array_agg(ROW(account_id, -amount) ORDER BY leg)
                     FROM ledger_entry WHERE transaction_id = o.id)
                = (SELECT array_agg(ROW(account_id, amount) ORDER BY leg)
                     FROM ledger_entry WHERE transaction_id = t.id))
         THEN 'is not the opposite of what it reverses' END
  ], NULL) AS faults
    FROM (SELECT * FROM ledger_transaction
           WHERE (%(lo)s::uuid IS NULL OR id > %(lo)s::uuid)
             AND (%(hi)s::uuid IS NULL OR id <= %(hi)s::uuid)) t
    FULL JOIN (
      SELECT transaction_id, sum(amount) AS total, count(*) AS legs, max(leg) AS last_leg,
             coalesce(sum(amount) FILTER (WHERE amount > 0), 0) AS credits,
             min(currency) AS first_currency, max(currency) AS last_currency,
             count(DISTINCT tenant_id) AS tenants, min(tenant_id::text) AS tenant_id
        FROM ledger_entry
       WHERE (%(lo)s::uuid IS NULL OR transaction_id > %(lo)s::uuid)
         AND (%(hi)s::uuid IS NULL OR transaction_id <= %(hi)s::uuid)
       GROUP BY transaction_id
    ) e ON e.transaction_id = t.id
) transactions WHERE faults <> '{}'
"""
_HOLDS = """
SELECT id::text, faults FROM (
  SELECT h.id, array_remove(ARRAY[
    CASE WHEN a.tenant_id IS DISTINCT FROM h.tenant_id OR a.currency <> h.currency
         THEN 'does not fit its account' END,
    CASE WHEN h.captured_amount > h.amount THEN 'captured more than it reserved' END,
    CASE WHEN h.status = 'captured' AND NOT EXISTS (
           SELECT FROM ledger_entry e
            WHERE e.transaction_id = h.transaction_id AND e.account_id = h.account_id
              AND e.amount = -h.captured_amount AND e.tenant_id = h.tenant_id)
         THEN 'is captured, but its transaction does not debit the account' END
  ], NULL) AS faults
    FROM ledger_hold h
    LEFT JOIN accounts_account a ON a.id = h.account_id
   WHERE (%(lo)s::uuid IS NULL OR h.id > %(lo)s::uuid)
     AND (%(hi)s::uuid IS NULL OR h.id <= %(hi)s::uuid)
) holds WHERE faults <> '{}'
"""

Range = tuple[UUID | None, UUID | None]


def verify(*, limit: int, progress: Progress) -> Findings:
    """
    Check every account, entry, transaction and hold; keep the first `limit` differences.

    `progress` is told the name of the part and how many of its rows have been checked.
    """
    findings = Findings(limit)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # It takes as long as it takes. And it walks by index: a plan that sorts the whole table
        # would be right as well, and need the disk of it.
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute("SET LOCAL enable_seqscan = off")
        entries = 0
        for accounts, counted, bounds in _account_ranges(cursor):
            _collect(cursor, "entry", _ENTRIES, bounds, findings)
            _collect(cursor, "account", _ACCOUNTS, bounds, findings)
            entries += counted
            findings.checked["accounts"] = accounts
            findings.checked["entries"] = entries
            progress("entries", entries)
        for name, kind, table, statement in (
            ("transactions", "transaction", "ledger_transaction", _TRANSACTIONS),
            ("holds", "hold", "ledger_hold", _HOLDS),
        ):
            for rows, bounds in _ranges(cursor, table):
                _collect(cursor, kind, statement, bounds, findings)
                findings.checked[name] = rows
                progress(name, rows)
    return findings


def _collect(cursor: Any, kind: str, statement: str, bounds: Range, findings: Findings) -> None:
    cursor.execute(statement, {"lo": bounds[0], "hi": bounds[1]})
    while rows := cursor.fetchmany(1000):
        for row, faults in rows:
            for fault in faults:
                findings.add(Difference(kind, row, fault))


def _account_ranges(cursor: Any) -> Iterator[tuple[int, int, Range]]:
    """
    Yield ranges of account ids that have RANGE_ROWS entries or few more.

    With each: the accounts so far and the entries within it. One account alone may have more.
    """
    lo: UUID | None = None
    last: UUID | None = None
    accounts = entries = 0
    while True:
        cursor.execute(
            "SELECT id, entry_count FROM accounts_account"
            " WHERE %(last)s::uuid IS NULL OR id > %(last)s::uuid ORDER BY id LIMIT %(limit)s",
            {"last": last, "limit": _ACCOUNTS_LOOKED_AHEAD},
        )
        ahead = cursor.fetchall()
        for account_id, entry_count in ahead:
            last = account_id
            accounts += 1
            entries += entry_count
            if entries >= RANGE_ROWS:
                yield accounts, entries, (lo, last)
                lo, entries = last, 0
        if len(ahead) < _ACCOUNTS_LOOKED_AHEAD:
            # Open above: entries of accounts that do not exist are found too.
            yield accounts, entries, (lo, None)
            return


def _ranges(cursor: Any, table: str) -> Iterator[tuple[int, Range]]:
    """Yield ranges of RANGE_ROWS ids, with the rows so far; the last is open above."""
    lo: UUID | None = None
    rows = 0
    while True:
        cursor.execute(
            f"SELECT count(*), (array_agg(id ORDER BY id DESC))[1] FROM (SELECT id FROM {table}"  # noqa: S608
            " WHERE %(lo)s::uuid IS NULL OR id > %(lo)s::uuid ORDER BY id LIMIT %(limit)s) ahead",
            {"lo": lo, "limit": RANGE_ROWS},
        )
        count, hi = cursor.fetchone()
        rows += count
        if count < RANGE_ROWS:
            yield rows, (lo, None)
            return
        yield rows, (lo, hi)
        lo = hi
