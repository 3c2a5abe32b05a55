"""
The reports' daily figures: kept up with every change by one upsert, last in its transaction; and
worked out anew from the rows that they sum up.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from core.database import repeating
from invoices.models import DailyFigures, Invoice
from invoices.services.amounts import NOTHING, Parts

# What has no gateway of its own.
OFFLINE, FROM_CREDIT = "offline", "credit"

_FIGURES = tuple(
    field.name
    for field in DailyFigures._meta.local_fields
    if field.name not in ("id", "tenant", "day", "currency", "gateway")
)
_COLUMNS = ("tenant_id", "day", "currency", "gateway", *_FIGURES)
_ADDED = f"""
ON CONFLICT (tenant_id, currency, day, gateway) DO UPDATE
SET {", ".join(f"{name} = f.{name} + excluded.{name}" for name in _FIGURES)}
"""
_ADD = f"""
INSERT INTO invoices_dailyfigures AS f ({", ".join(_COLUMNS)})
VALUES ({", ".join(["%s"] * len(_COLUMNS))})
{_ADDED}
"""  # noqa: S608 - put together from the model's own columns
# Differences brought from PostgreSQL at a time.
_FETCHED_ROWS = 1_000


def count(
    invoice: Invoice,
    *,
    now: dt.datetime,
    gateway: str = "",
    invoiced: Parts = NOTHING,
    credited: Parts = NOTHING,
    received: Parts = NOTHING,
    refunded: Parts = NOTHING,
    **counts: int,
) -> None:
    """
    Add to the figures of today, by the tenant's days. Takes the lock of the day's row; whoever gets
    here has the receivable account locked, so that two of them never hold a row each.

    `refunded` below nothing is a refund that failed: its customer has the money as credit instead,
    so it has gone back that way, and it was not paid beyond what was due.
    """
    if refunded.total < 0:
        _add(invoice, now, FROM_CREDIT, {"refunded": -refunded}, {"refunds": 1})
    parts = {
        "invoiced": invoiced,
        "credited": credited,
        "received": received,
        "refunded": refunded,
    }
    _add(invoice, now, gateway, parts, counts)


def _add(
    invoice: Invoice,
    now: dt.datetime,
    gateway: str,
    parts_by_name: dict[str, Parts],
    counts: dict[str, int],
) -> None:
    added: dict[str, Any] = {
        "tenant_id": invoice.tenant_id,
        "day": invoice.tenant.day_of(now),
        "currency": invoice.currency,
        "gateway": gateway,
        **counts,
    }
    for name, parts in parts_by_name.items():
        added |= {f"{name}_net": parts.net, f"{name}_tax": parts.tax, f"{name}_fees": parts.fee}
    with connection.cursor() as cursor:
        cursor.execute(_ADD, [added.get(name, 0) for name in _COLUMNS])


# --- Worked out from the rows ------------------------------------------------------------------
def _up_to(whole: str, amount: str, name: str) -> str:
    """Return the joins that make `name` the parts of `whole` up to an amount: amounts.part_of."""
    return f"""
    CROSS JOIN LATERAL (SELECT coalesce(div(({whole}.tax + {whole}.fees) * ({amount})::numeric,
        nullif({whole}.net + {whole}.tax + {whole}.fees, 0)), 0) AS both) {name}_charges
    CROSS JOIN LATERAL (SELECT coalesce(div({whole}.tax * {name}_charges.both,
        nullif({whole}.tax + {whole}.fees, 0)), 0) AS tax) {name}_tax
    CROSS JOIN LATERAL (SELECT {amount} - {name}_charges.both AS net, {name}_tax.tax,
        {name}_charges.both - {name}_tax.tax AS fees) {name}
    """


# What happened, an event a row: when, and what it adds to the figures. Days by the tenant's zone.
# An end and a revival of a claim, and a charge-back, have their moments in the audit trail, which
# nobody alters.
_EVENTS = f"""
whose AS (
  SELECT id, time_zone FROM identity_tenant
   WHERE %(tenant)s::uuid IS NULL OR id = %(tenant)s::uuid
), issued AS (
  SELECT i.id, i.tenant_id, i.currency, i.status, i.finalized_at, i.voided_at, i.revision,
         i.void_transaction_id, i.subtotal_amount AS net, i.total_tax_amount AS tax,
         i.total_service_fee_amount AS fees
    FROM invoices_invoice i JOIN whose ON whose.id = i.tenant_id
   WHERE i.number IS NOT NULL
), ended AS (
  SELECT i.*, a.created_at AS at, a.action
    FROM issued i JOIN core_auditrecord a
      ON a.object_id = i.id AND a.action IN ('invoice.expired', 'invoice.revived')
   WHERE i.void_transaction_id IS NOT NULL OR i.revision > 0
), claims AS (
  SELECT tenant_id, currency, finalized_at AS at, 1 AS sign, net, tax, fees FROM issued
  UNION ALL
  SELECT tenant_id, currency, at, CASE action WHEN 'invoice.revived' THEN 1 ELSE -1 END,
         net, tax, fees
    FROM ended
  UNION ALL
  -- One that had expired was out of the books; one that credit notes left nothing of stays in.
  SELECT tenant_id, currency, voided_at, -1, net, tax, fees FROM issued
   WHERE status = 'voided' AND voided_at IS NOT NULL AND void_transaction_id IS NOT NULL
     AND (SELECT a.action FROM core_auditrecord a
           WHERE a.object_id = issued.id AND a.action IN ('invoice.expired', 'invoice.revived')
           ORDER BY a.id DESC LIMIT 1) IS DISTINCT FROM 'invoice.expired'
), receipts AS (
  SELECT r.id, r.tenant_id, r.invoice_id, i.currency, r.created_at AS at, r.payment_id,
         CASE r.kind WHEN 'gateway' THEN r.method WHEN 'offline' THEN '{OFFLINE}'
                     ELSE '{FROM_CREDIT}' END AS gateway,
         r.split, r.reversed_amount, r.amount - r.applied_amount AS overpaid, s.net, s.tax, s.fees
    FROM invoices_receipt r JOIN issued i ON i.id = r.invoice_id
   CROSS JOIN LATERAL (
     SELECT coalesce(sum((p->>1)::bigint), 0) AS net, coalesce(sum((p->>2)::bigint), 0) AS tax,
            coalesce(sum((p->>3)::bigint), 0) AS fees
       FROM jsonb_array_elements(r.split) p) s
), taken_back AS (
  -- Once a receipt: a payment is charged back once. The last of its installments first.
  SELECT r.tenant_id, r.currency, r.gateway, record.created_at AS at,
         whole.net - kept.net AS net, whole.tax - kept.tax AS tax, whole.fees - kept.fees AS fees
    FROM receipts r
    LEFT JOIN LATERAL (
      SELECT a.created_at FROM core_auditrecord a
       WHERE a.object_id = r.invoice_id AND a.after ? 'charged_back'
         AND a.after->>'receipt_id' = r.id::text
       ORDER BY a.id LIMIT 1) record ON true
   CROSS JOIN LATERAL (
     SELECT net, tax, fees,
            -- What is left of it.
            total - least(greatest(r.reversed_amount - before, 0), total) AS left_over
       FROM (SELECT *, sum(total) OVER (ORDER BY place DESC) - total AS before
               FROM (SELECT place, (p->>1)::numeric AS net, (p->>2)::numeric AS tax,
                            (p->>3)::numeric AS fees,
                            (p->>1)::numeric + (p->>2)::numeric + (p->>3)::numeric AS total
                       FROM jsonb_array_elements(r.split) WITH ORDINALITY AS e(p, place)) parts
            ) parts
     ) whole
   {_up_to("whole", "whole.left_over", "kept")}
   WHERE r.reversed_amount > 0
), ways_back AS (
  SELECT r.tenant_id, r.currency, r.gateway, w.created_at AS at, failed.created_at AS failed_at,
         upper.net - lower.net AS net, upper.tax - lower.tax AS tax,
         upper.fees - lower.fees AS fees
    FROM (SELECT w.*, sum(w.amount) OVER (PARTITION BY w.receipt_id ORDER BY w.id) AS after
            FROM invoices_creditnoterefund w) w
    JOIN receipts r ON r.id = w.receipt_id
   {_up_to("r", "w.after - w.amount", "lower")}
   {_up_to("r", "w.after", "upper")}
    -- What could not go back is credit instead.
    LEFT JOIN LATERAL (
      SELECT c.created_at
        FROM invoices_credit c
        JOIN ledger_transaction t ON t.id = c.transaction_id
       WHERE c.receipt_id = r.id AND t.idempotency_key = 'refund failed ' || w.refund_id
      ) failed ON w.status = 'failed'
), events AS (
  SELECT tenant_id, currency, '' AS gateway, at, sign AS invoices, sign * net AS invoiced_net,
         sign * tax AS invoiced_tax, sign * fees AS invoiced_fees,
         0 AS credited_net, 0 AS credited_tax, 0 AS credited_fees,
         0 AS payments, 0 AS received_net, 0 AS received_tax, 0 AS received_fees, 0 AS overpaid,
         0 AS refunds, 0 AS refunded_net, 0 AS refunded_tax, 0 AS refunded_fees
    FROM claims
  UNION ALL
  SELECT n.tenant_id, n.currency, '', n.created_at, 0, 0, 0, 0,
         n.net_amount, n.tax_amount, n.service_fee_amount, 0, 0, 0, 0, 0, 0, 0, 0, 0
    FROM invoices_creditnote n JOIN whose ON whose.id = n.tenant_id
  UNION ALL
  SELECT tenant_id, currency, gateway, at, 0, 0, 0, 0, 0, 0, 0,
         1, net, tax, fees, overpaid, 0, 0, 0, 0 FROM receipts
  UNION ALL
  SELECT tenant_id, currency, gateway, at, 0, 0, 0, 0, 0, 0, 0,
         0, -net, -tax, -fees, 0, 0, 0, 0, 0 FROM taken_back
  UNION ALL
  SELECT tenant_id, currency, gateway, at, 0, 0, 0, 0, 0, 0, 0,
         0, 0, 0, 0, 0, 1, net, tax, fees FROM ways_back
  UNION ALL
  SELECT tenant_id, currency, gateway, failed_at, 0, 0, 0, 0, 0, 0, 0,
         0, 0, 0, 0, 0, -1, -net, -tax, -fees FROM ways_back WHERE failed_at IS NOT NULL
  UNION ALL
  SELECT tenant_id, currency, '{FROM_CREDIT}', failed_at, 0, 0, 0, 0, 0, 0, 0,
         0, 0, 0, 0, 0, 1, net, tax, fees FROM ways_back WHERE failed_at IS NOT NULL
)
"""  # noqa: S608 - put together from constants
# What is missing from the figures, where anything is; below nothing: what is too much.
_MISSING = f"""
WITH {_EVENTS}, wanted AS (
  SELECT e.tenant_id, (e.at AT TIME ZONE w.time_zone)::date AS day, e.currency, e.gateway,
         {", ".join(f"sum({name}) AS {name}" for name in _FIGURES)}
    FROM events e JOIN whose w ON w.id = e.tenant_id
   GROUP BY 1, 2, 3, 4
), kept AS (
  SELECT f.* FROM invoices_dailyfigures f JOIN whose ON whose.id = f.tenant_id
)
SELECT tenant_id, day, currency, gateway,
       {", ".join(f"coalesce(wanted.{n}, 0) - coalesce(kept.{n}, 0) AS {n}" for n in _FIGURES)}
  FROM wanted FULL JOIN kept USING (tenant_id, day, currency, gateway)
 WHERE ({", ".join(f"coalesce(wanted.{name}, 0)" for name in _FIGURES)})
    <> ({", ".join(f"coalesce(kept.{name}, 0)" for name in _FIGURES)})
"""  # noqa: S608 - put together from constants and the model's own columns
_MEND = f"""
INSERT INTO invoices_dailyfigures AS f ({", ".join(_COLUMNS)})
{_MISSING}
{_ADDED}
"""


@dataclass(frozen=True, slots=True)
class WrongFigures:
    """A day's figures that are not what their rows say."""

    tenant_id: UUID
    # None: an event without its moment.
    day: dt.date | None
    currency: str
    gateway: str
    # What is missing, by figure, in minor units or occurrences; below nothing: what is too much.
    missing: dict[str, int]


def wrong_figures(*, tenant_id: UUID | None) -> Iterator[WrongFigures]:
    """
    Yield the figures that differ from their rows, of one tenant or of all.

    One statement, so that it sees one moment: changes may go on meanwhile. Reads every invoice.
    """
    with connection.chunked_cursor() as cursor:
        cursor.execute(f"{_MISSING} ORDER BY 1, 2, 3, 4", {"tenant": tenant_id})
        while rows := cursor.fetchmany(_FETCHED_ROWS):
            for tenant, day, currency, gateway, *missing in rows:
                by_name = zip(_FIGURES, map(int, missing), strict=True)
                yield WrongFigures(
                    tenant, day, currency, gateway, {name: n for name, n in by_name if n}
                )


def rebuild_figures(*, tenant_id: UUID | None) -> int:
    """
    Put the figures right by their rows, of one tenant or of all; return how many days' were wrong.

    Changes may go on meanwhile, and none is counted twice: the statement sees one moment, in which
    rows and figures belong together, and what it found missing then it adds to what stands there
    now.
    """

    def mend() -> int:
        with transaction.atomic(), connection.cursor() as cursor:
            # It takes as long as it takes. Two at once would both add what is missing.
            cursor.execute("SET LOCAL statement_timeout = 0")
            cursor.execute("SET LOCAL lock_timeout = 0")
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('invoices.rebuild_figures'))")
            cursor.execute(_MEND, {"tenant": tenant_id})
            return int(cursor.rowcount)

    return repeating(mend)
