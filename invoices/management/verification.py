"""
Compares the books of invoices with the rows they come from, and the rows with each other. Reads
only, and sees one moment: changes may go on meanwhile.
"""

from typing import Any
from uuid import UUID

from django.db import connection, transaction

from accounts.models import Account
from invoices.services.figures import wrong_figures
from ledger.management.comparing import OF_TENANT, collect, count_rows
from ledger.management.verification import Difference, Findings

# What invoices post. Anything else on these accounts is a bookkeeper's, or another app's: fees.
_OURS = [
    "invoice",
    "invoice_payment",
    "invoice_allocation",
    "credit_note",
    "credit_use",
    "refund",
    "refund_return",
    "chargeback",
]

# By tenant, currency and role: the account, its balance, and what the rows say it has. A voided or
# expired invoice is out of the books, unless credit notes left nothing of it.
_BOOKS = f"""
WITH claimed AS (
  SELECT tenant_id, currency,
         sum(total_amount - credited_amount - paid_amount + refunded_amount)
           FILTER (WHERE status NOT IN ('voided', 'expired')) AS due,
         sum(subtotal_amount) FILTER (WHERE is_in_books) AS revenue,
         sum(total_tax_amount) FILTER (WHERE is_in_books) AS tax,
         sum(total_service_fee_amount) FILTER (WHERE is_in_books) AS fees,
         sum(paid_amount - refunded_amount)
           FILTER (WHERE settlement_account_id IS NOT NULL) AS passed_on
    FROM (SELECT *, status NOT IN ('voided', 'expired') OR credited_amount = total_amount
                    AS is_in_books
            FROM invoices_invoice WHERE number IS NOT NULL AND {OF_TENANT}) i
   GROUP BY tenant_id, currency
), noted AS (
  SELECT tenant_id, currency, sum(net_amount) AS revenue, sum(tax_amount) AS tax,
         sum(service_fee_amount) AS fees
    FROM invoices_creditnote WHERE {OF_TENANT} GROUP BY tenant_id, currency
), kept AS (
  SELECT tenant_id, currency, sum(amount::numeric - used_amount) AS credit
    FROM invoices_credit WHERE {OF_TENANT} GROUP BY tenant_id, currency
), wanted AS (
  SELECT tenant_id, currency, role, amount
    FROM claimed
    FULL JOIN noted USING (tenant_id, currency)
    FULL JOIN kept USING (tenant_id, currency)
   CROSS JOIN LATERAL (VALUES
     ('receivable', -coalesce(claimed.due, 0)),
     ('revenue', coalesce(claimed.revenue, 0) - coalesce(noted.revenue, 0)),
     ('tax', coalesce(claimed.tax, 0) - coalesce(noted.tax, 0)),
     ('fees', coalesce(claimed.fees, 0) - coalesce(noted.fees, 0)),
     ('customer_credit', coalesce(kept.credit, 0)),
     ('passed_on', -coalesce(claimed.passed_on, 0))) books(role, amount)
), had AS (
  SELECT tenant_id, currency, role, id, balance FROM accounts_account
   WHERE role IN ('receivable', 'revenue', 'tax', 'fees', 'customer_credit', 'passed_on')
     AND {OF_TENANT}
)
SELECT tenant_id, currency, role, had.id, coalesce(had.balance, 0), coalesce(wanted.amount, 0)
  FROM wanted FULL JOIN had USING (tenant_id, currency, role)
 ORDER BY 1, 2, 3
"""  # noqa: S608 - put together from constants
# A reversal counts as what it undoes, however many of them undo each other.
_OTHERS = """
SELECT coalesce(sum(e.amount), 0)
  FROM ledger_entry e JOIN ledger_transaction t ON t.id = e.transaction_id
 WHERE e.account_id = %s
   AND CASE WHEN t.reverses_id IS NULL THEN t.type ELSE (
         WITH RECURSIVE undone AS (
           SELECT t.type, t.reverses_id
           UNION ALL
           SELECT o.type, o.reverses_id FROM undone JOIN ledger_transaction o
               ON o.id = undone.reverses_id
         ) SELECT type FROM undone WHERE reverses_id IS NULL) END <> ALL (%s)
"""
_SERIES = f"""
WITH given AS (
  SELECT tenant_id, 'INV' AS kind, number FROM invoices_invoice
   WHERE number IS NOT NULL AND {OF_TENANT}
  UNION ALL
  SELECT tenant_id, 'CN', number FROM invoices_creditnote WHERE {OF_TENANT}
), counted AS (
  SELECT tenant_id, kind, parts[1]::int AS year, count(*) AS numbers,
         count(DISTINCT number) AS different, max(parts[2]::int) AS highest
    FROM given
    LEFT JOIN LATERAL regexp_match(number, '^' || kind || '-([0-9]{{4}})-([0-9]{{6,9}})$') parts
      ON true
   GROUP BY 1, 2, 3
)
SELECT tenant_id, kind, year, array_remove(ARRAY[
    CASE WHEN year IS NULL THEN numbers || ' numbers are of no series' END,
    CASE WHEN different <> numbers THEN (numbers - different) || ' numbers are given twice' END,
    CASE WHEN different < highest THEN (highest - different) || ' numbers are missing up to '
                                       || highest END,
    CASE WHEN year IS NOT NULL AND coalesce(s.last, 0) <> coalesce(highest, 0)
         THEN 'has come to ' || coalesce(s.last, 0) || ', the highest number is '
              || coalesce(highest, 0) END
  ], NULL)
  FROM counted FULL JOIN (SELECT * FROM invoices_numberseries WHERE {OF_TENANT}) s
 USING (tenant_id, kind, year)
"""  # noqa: S608 - put together from constants
# What triggers keep at each commit, for all rows at once.
_INVOICES = f"""
SELECT tenant_id, number, faults FROM (
  SELECT i.tenant_id, coalesce(i.number, i.id::text) AS number, array_remove(ARRAY[
    CASE WHEN i.paid_amount <> coalesce(r.paid, 0)
         THEN 'paid ' || i.paid_amount || ', its receipts say ' || coalesce(r.paid, 0) END,
    CASE WHEN i.refunded_amount <> coalesce(r.refunded, 0)
         THEN 'refunded ' || i.refunded_amount || ', its receipts say '
              || coalesce(r.refunded, 0) END,
    CASE WHEN i.refunded_amount <> coalesce(n.refunded, 0)
         THEN 'refunded ' || i.refunded_amount || ', its credit notes say '
              || coalesce(n.refunded, 0) END,
    CASE WHEN i.credited_amount <> coalesce(n.credited, 0)
         THEN 'credited ' || i.credited_amount || ', its credit notes say '
              || coalesce(n.credited, 0) END,
    CASE WHEN i.overpaid_amount <> coalesce(c.overpaid, 0)
         THEN 'overpaid ' || i.overpaid_amount || ', kept as credit '
              || coalesce(c.overpaid, 0) END,
    CASE WHEN i.total_amount <> p.total OR i.paid_amount <> p.paid
              OR i.credited_amount - i.refunded_amount <> p.credited OR p.total IS NULL
         THEN 'its installments are not all of it' END,
    CASE WHEN i.subtotal_amount <> l.subtotal OR i.total_tax_amount <> l.tax OR l.tax IS NULL
         THEN 'its lines are not all of it' END
  ], NULL) AS faults
    FROM (SELECT * FROM invoices_invoice WHERE {OF_TENANT}) i
    LEFT JOIN (SELECT invoice_id, sum(applied_amount - reversed_amount) AS paid,
                      sum(refunded_amount) AS refunded
                 FROM invoices_receipt WHERE {OF_TENANT} GROUP BY 1) r ON r.invoice_id = i.id
    LEFT JOIN (SELECT invoice_id, sum(amount) AS credited, sum(refund_amount) AS refunded
                 FROM invoices_creditnote WHERE {OF_TENANT} GROUP BY 1) n ON n.invoice_id = i.id
    LEFT JOIN (SELECT invoice_id, sum(amount) AS overpaid
                 FROM invoices_credit WHERE {OF_TENANT} GROUP BY 1) c ON c.invoice_id = i.id
    LEFT JOIN (SELECT invoice_id, sum(amount) AS total, sum(paid_amount) AS paid,
                      sum(credited_amount) AS credited
                 FROM invoices_installment WHERE {OF_TENANT} GROUP BY 1) p ON p.invoice_id = i.id
    LEFT JOIN (SELECT invoice_id, sum(subtotal_amount) AS subtotal, sum(tax_amount) AS tax
                 FROM invoices_lineitem WHERE {OF_TENANT} GROUP BY 1) l ON l.invoice_id = i.id
) i WHERE faults <> '{{}}'
"""  # noqa: S608 - put together from constants
_CREDITS = f"""
SELECT c.tenant_id, c.id::text,
       ARRAY['used ' || c.used_amount || ', its uses say ' || coalesce(u.used, 0)]
  FROM (SELECT * FROM invoices_credit WHERE {OF_TENANT}) c
  LEFT JOIN (SELECT credit_id, sum(amount) FILTER (WHERE NOT is_undone) AS used
               FROM invoices_credituse WHERE {OF_TENANT} GROUP BY 1) u ON u.credit_id = c.id
 WHERE c.used_amount <> coalesce(u.used, 0)
"""  # noqa: S608 - put together from constants
_WAYS_BACK = f"""
WITH gone AS (SELECT * FROM invoices_creditnoterefund WHERE {OF_TENANT})
SELECT n.tenant_id, n.number,
       ARRAY['refunds ' || n.refund_amount || ', its ways back say ' || coalesce(g.amount, 0)]
  FROM (SELECT * FROM invoices_creditnote WHERE {OF_TENANT}) n
  LEFT JOIN (SELECT credit_note_id, sum(amount) AS amount FROM gone GROUP BY 1) g
    ON g.credit_note_id = n.id
 WHERE n.refund_amount <> coalesce(g.amount, 0)
UNION ALL
SELECT r.tenant_id, 'receipt ' || r.id,
       ARRAY['refunded ' || r.refunded_amount || ', its ways back say ' || coalesce(g.amount, 0)]
  FROM (SELECT * FROM invoices_receipt WHERE {OF_TENANT}) r
  LEFT JOIN (SELECT receipt_id, sum(amount) AS amount FROM gone GROUP BY 1) g
    ON g.receipt_id = r.id
 WHERE r.refunded_amount <> coalesce(g.amount, 0)
"""  # noqa: S608 - put together from constants
_ROWS = (
    ("invoice", "invoices", "invoices_invoice", _INVOICES),
    ("credit", "credits", "invoices_credit", _CREDITS),
    ("credit note", "credit notes", "invoices_creditnote", _WAYS_BACK),
)


def verify(*, limit: int, tenant_id: UUID | None = None) -> Findings:
    """Check the books of every tenant, or of one; keep the first `limit` differences."""
    findings = Findings(limit)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # It takes as long as it takes.
        cursor.execute("SET LOCAL statement_timeout = 0")
        _verify_books(cursor, tenant_id, findings)
        for kind, name, table, statement in _ROWS:
            findings.checked[name] = count_rows(cursor, table, tenant_id)
            collect(kind, statement, tenant_id, findings)
        findings.checked["number series"] = count_rows(cursor, "invoices_numberseries", tenant_id)
        _verify_series(cursor, tenant_id, findings)
        findings.checked["daily figures"] = count_rows(cursor, "invoices_dailyfigures", tenant_id)
        for wrong in wrong_figures(tenant_id=tenant_id):
            row = f"{wrong.tenant_id} {wrong.day} {wrong.currency} {wrong.gateway}".strip()
            for name, missing in wrong.missing.items():
                fault = (
                    f"{name}: {missing} is missing"
                    if missing > 0
                    else f"{name}: {-missing} too much"
                )
                findings.add(Difference("daily figures", row, fault))
    return findings


def _verify_books(cursor: Any, tenant_id: UUID | None, findings: Findings) -> None:
    cursor.execute(_BOOKS, {"tenant": tenant_id})
    rows = cursor.fetchall()
    findings.checked["accounts"] = len(rows)
    for tenant, currency, role, account_id, balance, wanted in rows:
        others = 0
        if balance != wanted and account_id is not None:
            # Only where it may explain something: it reads every entry of the account.
            cursor.execute(_OTHERS, [account_id, _OURS])
            [others] = cursor.fetchone()
        if balance - others != wanted:
            name = Account.Role(role).label.lower()
            fault = f"{balance - others} by invoices, their rows say {wanted}"
            findings.add(Difference("account", f"{tenant} {currency} {name}", fault))


def _verify_series(cursor: Any, tenant_id: UUID | None, findings: Findings) -> None:
    cursor.execute(_SERIES, {"tenant": tenant_id})
    for tenant, kind, year, faults in cursor.fetchall():
        for fault in faults:
            row = f"{tenant} {kind}-{year or '?'}"
            findings.add(Difference("number series", row, fault))
