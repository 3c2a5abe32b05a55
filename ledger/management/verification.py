"""
Recomputes the ledger from its entries and tells where it differs. Reads only.

Walks accounts, transactions and holds by id, a range at a time, so that memory and PostgreSQL's
sorts stay small on a hundred million entries. Everything is seen in one snapshot: postings may go
on meanwhile.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection, transaction

# Entries, transactions or holds looked at by one statement.
RANGE_ROWS = 200_000
# Differences brought from PostgreSQL at a time.
FETCHED_ROWS = 1_000
_ACCOUNTS_LOOKED_AHEAD = 5_000

Progress = Callable[[str, int], None]
# "lo" < id <= "hi", and rows that name "tenant"; None: no bound.
Range = dict[str, UUID | None]


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
    count_by_kind: Counter[str] = field(default_factory=Counter)
    first: list[Difference] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.count_by_kind.total()

    def add(self, difference: Difference) -> None:
        self.count_by_kind[difference.kind] += 1
        if len(self.first) < self.limit:
            self.first.append(difference)


# Each statement returns (row, faults) where something is wrong. Figures are added up as numeric: a
# sum of broken ones may not fit a bigint, and is to be reported, not to end the command.
# The window stands right above the index, so that an account of many million entries is not sorted.
_ENTRIES = """
SELECT e.account_id || '/' || e.sequence, array_remove(ARRAY[
    CASE WHEN e.sequence <> e.last_sequence + 1
         THEN 'follows sequence ' || e.last_sequence END,
    CASE WHEN e.balance_after <> e.last_balance::numeric + e.amount
         THEN 'balance_after is ' || e.balance_after || ', not '
              || e.last_balance || ' + ' || e.amount END,
    CASE WHEN e.created_at < e.last_created_at THEN 'was booked before the entry it follows' END,
    CASE WHEN e.amount = 0 THEN 'has no amount' END,
    CASE WHEN a.id IS NULL THEN 'belongs to no account' END,
    CASE WHEN a.tenant_id <> e.tenant_id THEN 'is not of its account''s tenant' END,
    CASE WHEN a.currency <> e.currency THEN 'is not in its account''s currency' END
  ], NULL)
  FROM (SELECT account_id, sequence, amount, balance_after, created_at, tenant_id, currency,
               lag(sequence, 1, 0::bigint) OVER w AS last_sequence,
               lag(balance_after, 1, 0::bigint) OVER w AS last_balance,
               lag(created_at) OVER w AS last_created_at
          FROM ledger_entry
         WHERE (%(lo)s::uuid IS NULL OR account_id > %(lo)s::uuid)
           AND (%(hi)s::uuid IS NULL OR account_id <= %(hi)s::uuid)
           AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s::uuid)
        WINDOW w AS (PARTITION BY account_id ORDER BY sequence)) e
  LEFT JOIN accounts_account a
    ON a.id = e.account_id
   AND (%(lo)s::uuid IS NULL OR a.id > %(lo)s::uuid)
   AND (%(hi)s::uuid IS NULL OR a.id <= %(hi)s::uuid)
 WHERE e.sequence <> e.last_sequence + 1
    OR e.balance_after <> e.last_balance::numeric + e.amount
    OR e.created_at < e.last_created_at
    OR e.amount = 0
    OR a.tenant_id IS DISTINCT FROM e.tenant_id
    OR a.currency <> e.currency
"""
_ENTRY_COUNT = """
SELECT count(*) FROM ledger_entry
 WHERE (%(lo)s::uuid IS NULL OR account_id > %(lo)s::uuid)
   AND (%(hi)s::uuid IS NULL OR account_id <= %(hi)s::uuid)
   AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s::uuid)
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
    CASE WHEN a.balance::numeric - a.held < -a.overdraft_limit::numeric
         THEN 'is ' || (a.held::numeric - a.balance) || ' below zero, of ' || a.overdraft_limit END,
    CASE WHEN a.status = 'closed' AND (a.balance <> 0 OR a.held <> 0)
         THEN 'is closed with money in it' END
  ], NULL) AS faults
    FROM accounts_account a
    LEFT JOIN (
      SELECT account_id, sum(amount) AS total, count(*) AS entries
        FROM ledger_entry
       WHERE (%(lo)s::uuid IS NULL OR account_id > %(lo)s::uuid)
         AND (%(hi)s::uuid IS NULL OR account_id <= %(hi)s::uuid)
         AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s::uuid)
       GROUP BY account_id
    ) e ON e.account_id = a.id
    LEFT JOIN LATERAL (
      SELECT sum(amount) AS held
        FROM ledger_hold
       WHERE account_id = a.id AND status = 'active'
    ) h ON true
   WHERE (%(lo)s::uuid IS NULL OR a.id > %(lo)s::uuid)
     AND (%(hi)s::uuid IS NULL OR a.id <= %(hi)s::uuid)
     AND (%(tenant)s::uuid IS NULL OR a.tenant_id = %(tenant)s::uuid)
) accounts WHERE faults <> '{}'
"""
_TRANSACTIONS = """
SELECT id::text, faults FROM (
  SELECT coalesce(t.id, e.transaction_id) AS id, array_remove(ARRAY[
    CASE WHEN t.id IS NULL THEN 'has entries and does not exist' END,
    CASE WHEN t.id IS NOT NULL AND e.transaction_id IS NULL THEN 'has no entries' END,
    CASE WHEN e.total <> 0 THEN 'its entries sum to ' || e.total END,
    CASE WHEN t.legs <> e.legs THEN 'has ' || e.legs || ' entries, of ' || t.legs END,
    CASE WHEN e.first_leg <> 0 OR e.last_leg <> e.legs - 1
         THEN 'its entries are not numbered 0, 1, 2' END,
    CASE WHEN t.amount <> e.credits
         THEN 'amount is ' || t.amount || ', its credits sum to ' || e.credits END,
    CASE WHEN e.first_currency <> e.last_currency OR e.first_currency <> t.currency
         THEN 'has entries of another currency' END,
    CASE WHEN e.tenants > 1 OR e.tenant_id <> t.tenant_id::text
         THEN 'has entries of another tenant' END,
    CASE WHEN e.first_created_at <> e.last_created_at OR e.first_created_at <> t.created_at
         THEN 'was booked at another time than its entries' END,
    CASE WHEN t.type = 'reversal' AND t.reverses_id IS NULL THEN 'reverses nothing' END,
    CASE WHEN t.reverses_id IS NOT NULL AND NOT EXISTS (
           SELECT FROM ledger_transaction o
            WHERE o.id = t.reverses_id AND o.tenant_id = t.tenant_id
              AND (SELECT array_agg(ROW(account_id, -amount::numeric) ORDER BY leg)
                     FROM ledger_entry WHERE transaction_id = o.id)
                = (SELECT array_agg(ROW(account_id, amount::numeric) ORDER BY leg)
                     FROM ledger_entry WHERE transaction_id = t.id))
         THEN 'is not the opposite of what it reverses' END
  ], NULL) AS faults
    FROM (
      SELECT id, tenant_id, type, currency, amount, legs, reverses_id, created_at
        FROM ledger_transaction
       WHERE (%(lo)s::uuid IS NULL OR id > %(lo)s::uuid)
         AND (%(hi)s::uuid IS NULL OR id <= %(hi)s::uuid)
         AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s::uuid)
    ) t
    FULL JOIN (
      SELECT transaction_id, sum(amount) AS total, count(*) AS legs,
             min(leg) AS first_leg, max(leg) AS last_leg,
             coalesce(sum(amount) FILTER (WHERE amount > 0), 0) AS credits,
             min(currency) AS first_currency, max(currency) AS last_currency,
             min(created_at) AS first_created_at, max(created_at) AS last_created_at,
             count(DISTINCT tenant_id) AS tenants, min(tenant_id::text) AS tenant_id
        FROM ledger_entry
       WHERE (%(lo)s::uuid IS NULL OR transaction_id > %(lo)s::uuid)
         AND (%(hi)s::uuid IS NULL OR transaction_id <= %(hi)s::uuid)
         AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s::uuid)
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
     AND (%(tenant)s::uuid IS NULL OR h.tenant_id = %(tenant)s::uuid)
) holds WHERE faults <> '{}'
"""


def verify(*, limit: int, progress: Progress, tenant_id: UUID | None = None) -> Findings:
    """
    Check every account, entry, transaction and hold; keep the first `limit` differences.

    `progress` is told the name of the part and how many of its rows have been checked. With
    `tenant_id`, only rows that name this tenant are looked at.
    """
    findings = Findings(limit)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # It takes as long as it takes.
        cursor.execute("SET LOCAL statement_timeout = 0")
        # It merges what the indexes have in order. A plan that sorts or hashes a range, or a whole
        # table, would be right as well, and slower: it goes through temporary files.
        for plan in ("seqscan", "bitmapscan", "hashjoin", "hashagg"):
            cursor.execute(f"SET LOCAL enable_{plan} = off")
        entries = 0
        for accounts, bounds in _account_ranges(cursor, tenant_id):
            _collect("entry", _ENTRIES, bounds, findings)
            _collect("account", _ACCOUNTS, bounds, findings)
            cursor.execute(_ENTRY_COUNT, bounds)
            entries += cursor.fetchone()[0]
            findings.checked["accounts"] = accounts
            findings.checked["entries"] = entries
            progress("entries", entries)
        for name, kind, table, statement in (
            ("transactions", "transaction", "ledger_transaction", _TRANSACTIONS),
            ("holds", "hold", "ledger_hold", _HOLDS),
        ):
            for rows, bounds in _ranges(cursor, table, tenant_id):
                _collect(kind, statement, bounds, findings)
                findings.checked[name] = rows
                progress(name, rows)
    return findings


def _collect(kind: str, statement: str, bounds: Range, findings: Findings) -> None:
    # A cursor of the server's: where everything is wrong, not all of it is in memory at once.
    with connection.chunked_cursor() as cursor:
        cursor.execute(statement, bounds)
        while rows := cursor.fetchmany(FETCHED_ROWS):
            for row, faults in rows:
                for fault in faults:
                    findings.add(Difference(kind, row, fault))


def _account_ranges(cursor: Any, tenant_id: UUID | None) -> Iterator[tuple[int, Range]]:
    """
    Yield ranges of account ids that have RANGE_ROWS entries or few more, with the accounts so far.

    One account alone may have more. How many there are, the accounts themselves say.
    """
    lo: UUID | None = None
    last: UUID | None = None
    accounts = entries = 0
    while True:
        cursor.execute(
            "SELECT id, entry_count FROM accounts_account"
            " WHERE (%(lo)s::uuid IS NULL OR id > %(lo)s::uuid)"
            " AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s::uuid)"
            " ORDER BY id LIMIT %(limit)s",
            {"lo": last, "tenant": tenant_id, "limit": _ACCOUNTS_LOOKED_AHEAD},
        )
        ahead = cursor.fetchall()
        for account_id, entry_count in ahead:
            last = account_id
            accounts += 1
            entries += entry_count
            if entries >= RANGE_ROWS:
                yield accounts, {"lo": lo, "hi": last, "tenant": tenant_id}
                lo, entries = last, 0
        if len(ahead) < _ACCOUNTS_LOOKED_AHEAD:
            # Open above: entries of accounts that do not exist are found too.
            yield accounts, {"lo": lo, "hi": None, "tenant": tenant_id}
            return


def _ranges(cursor: Any, table: str, tenant_id: UUID | None) -> Iterator[tuple[int, Range]]:
    """Yield ranges of RANGE_ROWS ids, with the rows so far; the last is open above."""
    lo: UUID | None = None
    rows = 0
    while True:
        cursor.execute(
            f"SELECT count(*), (array_agg(id ORDER BY id DESC))[1] FROM (SELECT id FROM {table}"  # noqa: S608
            " WHERE (%(lo)s::uuid IS NULL OR id > %(lo)s::uuid)"
            " AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s::uuid)"
            " ORDER BY id LIMIT %(limit)s) ahead",
            {"lo": lo, "tenant": tenant_id, "limit": RANGE_ROWS},
        )
        count, hi = cursor.fetchone()
        rows += count
        if count < RANGE_ROWS:
            yield rows, {"lo": lo, "hi": None, "tenant": tenant_id}
            return
        yield rows, {"lo": lo, "hi": hi, "tenant": tenant_id}
        lo = hi
