"""
Compares savings plans and their interest with the ledger, and with each other. Reads only, and sees
one moment: changes may go on meanwhile.
"""

from uuid import UUID

from django.db import connection, transaction

from ledger.management.comparing import OF_TENANT, collect, count_rows
from ledger.management.verification import Findings

_OF_PLAN = OF_TENANT.replace("tenant_id", "p.tenant_id")

# What stands on a plan, its account and its payment at the same time.
_PLANS = f"""
SELECT tenant_id, id::text, faults FROM (
  SELECT p.tenant_id, p.id, array_remove(ARRAY[
    CASE WHEN p.kind = 'date_locked' AND p.status = 'active'
              AND coalesce(a.debit_locked_until, '-infinity') < p.unlock_at
         THEN 'is locked, its account is not' END,
    CASE WHEN p.kind = 'date_locked' AND p.status <> 'active' AND a.debit_locked_until > now()
         THEN 'is ' || p.status || ', its account is locked' END,
    CASE WHEN p.status <> 'closed' AND a.status = 'closed' THEN 'has a closed account' END,
    CASE WHEN p.status IN ('completed', 'stopped', 'closed') AND r.status IN ('active', 'paused')
         THEN 'is ' || p.status || ', its recurring payment is ' || r.status END,
    CASE WHEN p.status = 'active' AND r.is_end_noted
         THEN 'is active, its recurring payment is ' || r.status END,
    CASE WHEN p.kind = 'auto_withdraw' AND (r.target_balance IS DISTINCT FROM p.target_amount
                                            OR r.amount IS DISTINCT FROM p.amount)
         THEN 'has other amounts than its recurring payment' END,
    CASE WHEN a.currency <> p.currency OR a.tenant_id <> p.tenant_id OR a.type <> 'saving'
         THEN 'has an account that does not fit' END
  ], NULL) AS faults
    FROM savings_savingsplan p
    JOIN accounts_account a ON a.id = p.plan_account_id
    LEFT JOIN payments_recurringpayment r ON r.id = p.recurring_payment_id
   WHERE {_OF_PLAN}
) p WHERE faults <> '{{}}'
"""  # noqa: S608 - put together from constants
# Each day's balance from the entries: by when they were booked. By a test clock that says nothing.
_ACCRUALS = f"""
SELECT tenant_id, plan_id || ' ' || date, faults FROM (
  SELECT a.tenant_id, a.plan_id, a.date, array_remove(ARRAY[
    CASE WHEN a.amount <> savings_interest(a.balance, a.annual_rate_bps, a.day_count, a.date)
         THEN 'earned ' || a.amount || ', by the formula '
              || savings_interest(a.balance, a.annual_rate_bps, a.day_count, a.date) END,
    CASE WHEN p.id IS NULL THEN 'is of no plan of the tenant' END,
    CASE WHEN t.test_clock IS NULL AND a.balance <> coalesce(e.balance_after, 0)
         THEN 'balance is ' || a.balance || ', its entries say '
              || coalesce(e.balance_after, 0) END,
    CASE WHEN a.date <> p.interest_from AND NOT EXISTS (
           SELECT FROM savings_interestaccrual b
            WHERE b.plan_id = a.plan_id AND b.date = a.date - 1)
         THEN 'the day before is missing' END
  ], NULL) AS faults
    FROM (SELECT * FROM savings_interestaccrual WHERE {OF_TENANT}) a
    JOIN identity_tenant t ON t.id = a.tenant_id
    LEFT JOIN savings_savingsplan p ON p.id = a.plan_id AND p.tenant_id = a.tenant_id
    LEFT JOIN LATERAL (
      SELECT balance_after FROM ledger_entry e
       WHERE t.test_clock IS NULL AND e.account_id = p.plan_account_id
         AND e.created_at < a.ends_at
       ORDER BY e.sequence DESC LIMIT 1) e ON true
) a WHERE faults <> '{{}}'
"""  # noqa: S608 - put together from constants
# Each posting from its accruals and the one before, and the transaction that it names.
_POSTINGS = f"""
SELECT tenant_id, plan_id || ' to ' || period_to, faults FROM (
  SELECT q.tenant_id, q.plan_id, q.period_to, array_remove(ARRAY[
    CASE WHEN q.period_from <> coalesce(before.period_to + 1, p.interest_from)
         THEN 'does not begin where the one before ended' END,
    CASE WHEN q.carried_in <> coalesce(before.carried_out, 0)
         THEN 'carries ' || q.carried_in || ' on, the one before left '
              || coalesce(before.carried_out, 0) END,
    CASE WHEN q.accrued <> coalesce(s.amount, 0) OR s.days <> q.period_to - q.period_from + 1
         THEN 'says ' || q.accrued || ', its ' || s.days || ' days say '
              || coalesce(s.amount, 0) END,
    CASE WHEN q.amount <> greatest(savings_rounded(q.accrued + q.carried_in), 0)
         THEN 'is not rounded as agreed' END,
    CASE WHEN q.amount > 0 AND (x.amount, x.type, x.tenant_id)
              IS DISTINCT FROM (q.amount, 'interest', q.tenant_id)
         THEN 'has no transaction of its amount' END
  ], NULL) AS faults
    FROM (SELECT *, lag(period_to) OVER w AS last_to, lag(carried_out) OVER w AS last_carried
            FROM savings_interestposting WHERE {OF_TENANT}
          WINDOW w AS (PARTITION BY plan_id ORDER BY period_to)) q
    LEFT JOIN savings_savingsplan p ON p.id = q.plan_id
   CROSS JOIN LATERAL (SELECT q.last_to AS period_to, q.last_carried AS carried_out) before
   CROSS JOIN LATERAL (
      SELECT count(*) AS days, sum(a.amount) AS amount FROM savings_interestaccrual a
       WHERE a.plan_id = q.plan_id AND a.date BETWEEN q.period_from AND q.period_to) s
    LEFT JOIN ledger_transaction x ON x.id = q.transaction_id
) q WHERE faults <> '{{}}'
"""  # noqa: S608 - put together from constants
# The other way round: what the ledger booked as interest of plans, against their postings.
_BOOKED = f"""
SELECT coalesce(b.tenant_id, q.tenant_id), coalesce(b.plan_id, q.plan_id::text),
       ARRAY['the ledger booked ' || coalesce(b.amount, 0) || ', its postings say '
             || coalesce(q.amount, 0)]
  FROM (SELECT tenant_id, metadata ->> 'savings_plan_id' AS plan_id, sum(amount) AS amount
          FROM ledger_transaction
         WHERE type = 'interest' AND metadata ? 'savings_plan_id' AND {OF_TENANT}
         GROUP BY 1, 2) b
  FULL JOIN (SELECT tenant_id, plan_id, sum(amount) AS amount FROM savings_interestposting
              WHERE {OF_TENANT} GROUP BY 1, 2 HAVING sum(amount) > 0) q
    ON q.plan_id::text = b.plan_id AND q.tenant_id = b.tenant_id
 WHERE coalesce(b.amount, 0) <> coalesce(q.amount, 0)
"""  # noqa: S608 - put together from constants
# A book says that every plan has its days up to one; so it has.
_BOOKS = f"""
SELECT k.tenant_id, '', ARRAY[count(*) || ' plans have no interest of ' || k.accrued_to]
  FROM savings_interestbook k
  JOIN savings_savingsplan p ON p.tenant_id = k.tenant_id AND p.status <> 'closed'
   AND p.interest_from <= k.accrued_to
 WHERE {OF_TENANT.replace("tenant_id", "k.tenant_id")}
   AND NOT EXISTS (SELECT FROM savings_interestaccrual a
                    WHERE a.plan_id = p.id AND a.date = k.accrued_to)
 GROUP BY k.tenant_id, k.accrued_to
"""  # noqa: S608 - put together from constants
_ROWS = (
    ("plan", "plans", "savings_savingsplan", _PLANS),
    ("accrual", "accruals", "savings_interestaccrual", _ACCRUALS),
    ("interest posting", "interest postings", "savings_interestposting", _POSTINGS),
    ("booked interest", "booked interest", "savings_interestposting", _BOOKED),
    ("interest book", "interest books", "savings_interestbook", _BOOKS),
)


def verify(*, limit: int, tenant_id: UUID | None = None) -> Findings:
    """Check the plans of every tenant, or of one; keep the first `limit` differences."""
    findings = Findings(limit)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # It takes as long as it takes.
        cursor.execute("SET LOCAL statement_timeout = 0")
        for kind, name, table, statement in _ROWS:
            findings.checked[name] = count_rows(cursor, table, tenant_id)
            collect(kind, statement, tenant_id, findings)
    return findings
