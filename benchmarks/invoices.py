"""Part i: invoices made over HTTP by a hundred clients, numbered by fifty at once, reported on."""

import datetime as dt
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.http import environment, serve_and_load
from benchmarks.measuring import Result
from benchmarks.posting import Setting

CLIENTS = 100
P95_MAX_MS = 2_000
SUCCESS_MIN = 0.995
AT_ONCE = 50
SMALL = 10_000
REPORT_RATIO_MAX = 1.5
_SCRIPT = Path(__file__).with_name("invoices.lua")
_CURRENCY = "IDR"


def measure(setting: Setting, seconds: int, numbered: int) -> list[Result]:
    """Drafts and finalised invoices over HTTP; `numbered` drafts finalised by fifty threads."""
    return [*_over_http(setting, seconds), _numbers(setting[0], numbered)]


def _over_http(setting: Setting, seconds: int) -> list[Result]:
    results = []
    with environment(setting) as env:
        for what, is_final in (("drafts made", "false"), ("made and finalised", "true")):
            got = serve_and_load(
                "config.settings", {**env, "FINALIZE": is_final}, CLIENTS, seconds, script=_SCRIPT
            )
            if not got["requests"]:
                raise SystemExit("Not one invoice was made in the time given.")
            success = 1 - got["errors"] / got["requests"]
            results.append(
                Result(
                    "i",
                    f"invoices {what}, {CLIENTS} clients; p95; share that succeeded",
                    f"{got['rate']:,.0f} /s",
                    f"{got['p95']:,.0f} ms",
                    success,
                    f"p95 < {P95_MAX_MS:,} ms, {SUCCESS_MIN:.1%}",
                    got["p95"] < P95_MAX_MS and success >= SUCCESS_MIN,
                )
            )
    return results


def _numbers(tenant_id: UUID, count: int) -> Result:
    """Finalise drafts one after another, then as many by fifty threads; look for gaps."""
    from invoices.models import Invoice

    alone = _finalize_all(_drafts(tenant_id, count), threads=1)
    together = _finalize_all(_drafts(tenant_id, count), threads=AT_ONCE)
    numbers = sorted(
        int(number[-6:])
        for number in Invoice.objects.filter(tenant_id=tenant_id, number__isnull=False).values_list(
            "number", flat=True
        )
    )
    has_no_gap = numbers == list(range(1, len(numbers) + 1))
    return Result(
        "i",
        f"finalised by {AT_ONCE} at once; by one after another; {len(numbers):,} numbers",
        f"{together:,.0f} /s",
        f"{alone:,.0f} /s",
        together / alone,
        "no gap, none twice",
        has_no_gap,
    )


def _drafts(tenant_id: UUID, count: int) -> list[UUID]:
    from django.utils import timezone

    from invoices.services import NewInvoice, NewLine, create_invoice

    line = NewLine("Consulting", Decimal("1.5"), 250_000, Decimal(11))
    return [
        create_invoice(
            tenant_id=tenant_id,
            new=NewInvoice(currency=_CURRENCY, lines=[line] * 3),
            now=timezone.now(),
        ).pk
        for _ in range(count)
    ]


def _finalize_all(drafts: list[UUID], *, threads: int) -> float:
    """Return how many were finalised a second."""
    from django.db import connection
    from django.utils import timezone

    from invoices.models import Invoice
    from invoices.services import finalize_invoice

    tenant_id = Invoice.objects.get(pk=drafts[0]).tenant_id
    barrier = threading.Barrier(threads + 1)

    def work(own: list[UUID]) -> None:
        try:
            connection.ensure_connection()
            barrier.wait()
            for invoice_id in own:
                finalize_invoice(tenant_id=tenant_id, invoice_id=invoice_id, now=timezone.now())
        finally:
            connection.close()

    # Ours goes back first: the pool has as many as there are threads.
    connection.close()
    with ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(work, drafts[number::threads]) for number in range(threads)]
        barrier.wait()
        began = time.perf_counter()
        for job in jobs:
            job.result()
        return len(drafts) / (time.perf_counter() - began)


_BULK = """
INSERT INTO invoices_invoice (
    id, tenant_id, number, status, currency, tax_rounding, fee_mode, fee_percent, fee_fixed,
    subtotal_amount, total_tax_amount, total_service_fee_amount, total_amount, paid_amount,
    credited_amount, refunded_amount, overpaid_amount, customer_key, customer_reference,
    customer_name, customer_email, customer_address, customer_iban, customer_account_number,
    customer_bic, customer_country, gateway, description, metadata, locale, token, has_schedule,
    due_date, transaction_id, revision, attempts, failed_attempts, attention, finalized_at,
    created_at, updated_at)
SELECT gen_random_uuid(), %(tenant)s, 'INV-2026-' || lpad(n::text, 7, '0'), 'fully_paid', 'IDR',
       'line', 'additive', 3, 0, 1000000, 100000, 30000, 1130000, 1130000, 0, 0, 0, '', '',
       'Budi', '', '', '', '', '', '', 'sandbox', '', '{}', 'en', md5(%(tenant)s || n::text), false,
       %(day)s::date - n %% 365, gen_random_uuid(), 0, 1, 0, '', now(), now(), now()
  FROM generate_series(1, %(count)s) n
"""
_FIGURES = """
INSERT INTO invoices_dailyfigures (
    tenant_id, day, currency, gateway, invoices, invoiced_net, invoiced_tax, invoiced_fees,
    credited_net, credited_tax, credited_fees, payments, received_net, received_tax, received_fees,
    overpaid, refunds, refunded_net, refunded_tax, refunded_fees)
SELECT tenant_id, due_date, currency, gateway, count(*), sum(subtotal_amount),
       sum(total_tax_amount), sum(total_service_fee_amount), 0, 0, 0, count(*),
       sum(subtotal_amount), sum(total_tax_amount), sum(total_service_fee_amount), 0, 0, 0, 0, 0
  FROM invoices_invoice WHERE tenant_id = %(tenant)s GROUP BY tenant_id, due_date, currency, gateway
"""
_LIVE = """
SELECT currency, gateway, sum(subtotal_amount), sum(total_tax_amount),
       sum(total_service_fee_amount), count(*)
  FROM invoices_invoice WHERE tenant_id = %s AND due_date BETWEEN %s AND %s
 GROUP BY currency, gateway
"""


def measure_reports(large: int, rounds: int) -> list[Result]:
    """
    A year's report over `large` invoices against one over 10,000; and against summing them up.

    The rows are written past the rules, as an archive would be: it is reading that is measured.
    """
    from django.utils import timezone

    today = timezone.now().date()
    few, many = (_archive(count, today) for count in (SMALL, large))
    year = (today - dt.timedelta(days=364), today)
    times: dict[str, list[float]] = {"few": [], "many": [], "live": []}
    for _ in range(rounds * 10):
        times["few"].append(_report(few, *year))
        times["many"].append(_report(many, *year))
    for _ in range(rounds):
        times["live"].append(_summed(many, *year))
    own_few, own_many, live = (statistics.median(times[name]) for name in ("few", "many", "live"))
    return [
        Result(
            "i",
            f"a year's report over {large:,} invoices; over {SMALL:,}",
            f"{own_many * 1e3:,.1f} ms",
            f"{own_few * 1e3:,.1f} ms",
            own_many / own_few,
            f"<= {REPORT_RATIO_MAX:g}",
            own_many / own_few <= REPORT_RATIO_MAX,
        ),
        Result(
            "i",
            "  the same by summing the invoices up",
            f"{own_many * 1e3:,.1f} ms",
            f"{live * 1e3:,.1f} ms",
            own_many / live,
            "",
            True,
        ),
    ]


def _archive(count: int, today: dt.date) -> Any:
    from django.db import connection, transaction
    from django.utils import timezone

    from identity.services import create_tenant

    tenant = create_tenant(name=f"Archive of {count}", now=timezone.now())
    values: dict[str, Any] = {"tenant": str(tenant.pk), "count": count, "day": today}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(_BULK, values)
        cursor.execute(_FIGURES, values)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE invoices_invoice, invoices_dailyfigures")
    return tenant


def _report(tenant: Any, start: dt.date, end: dt.date) -> float:
    from invoices.services.reports import financial_report

    began = time.perf_counter()
    financial_report(tenant=tenant, first_day=start, last_day=end)
    return time.perf_counter() - began


def _summed(tenant: Any, start: dt.date, end: dt.date) -> float:
    from django.db import connection

    began = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(_LIVE, [tenant.pk, start, end])
        cursor.fetchall()
    return time.perf_counter() - began
