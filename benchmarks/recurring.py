"""
Part j: a million recurring payments, a tenth of them due, and one worker that pays them.

The worker has two processes, as `make run` starts it. Half is paid by one process first.
"""

import datetime as dt
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.measuring import Result
from benchmarks.posting import Setting
from benchmarks.world import CURRENCY, PROCESSES, warm_up

RUNS_PER_S_MIN = 5_000
CLAIM_RATIO_MAX = 1.5
MEMORY_RATIO_MAX = 1.1
SMALL = 10_000
CLAIM = 2_000
AMOUNT = 5
_INDEX = "recurring_due_idx"

_BULK = """
INSERT INTO payments_recurringpayment (
    id, tenant_id, description, metadata, kind, source_account_id, destination_account_id,
    currency, gateway, amount_type, amount, trigger, salary_pattern, frequency, "interval",
    day_of_month, rrule, time_zone, run_at, adjustment, holidays, start_date,
    on_insufficient_funds, retry_count, retry_interval_minutes, pause_after_failures, catch_up,
    max_lateness_days, status, status_reason, next_number, next_nominal_date, next_date,
    next_run_at, consecutive_failures, is_on_test_clock, managed_by, is_end_noted, version,
    created_at, updated_at)
SELECT gen_random_uuid(), %(tenant)s, 'rent', '{}', 'internal',
       (%(accounts)s::uuid[])[1 + n %% %(half)s],
       (%(accounts)s::uuid[])[1 + %(half)s + (n::bigint * 7919) %% %(half)s],
       %(currency)s, '', 'fixed', %(amount)s, 'schedule', '', 'monthly', 1,
       extract(day FROM due.at)::int, '', 'UTC', due.at::time, 'none', '',
       due.at::date, 'retry', 3, 360, 3, 'run_once', 7, 'active', '', 0,
       due.at::date, due.at::date, due.at, 0, false, '', false, 1, now(), now()
  FROM generate_series(1, %(count)s) n,
       LATERAL (SELECT date_trunc('second', %(from)s::timestamptz
                                  + n %% 86400 * %(step)s::interval) AS at) due
"""


def measure(setting: Setting, many: int, due: int) -> list[Result]:
    """`many` active payments besides `due` that fall due today; amounts of 5, between accounts."""
    from django.utils import timezone

    now = timezone.now()
    _fill(setting, SMALL, now + dt.timedelta(days=1), "20 seconds")
    _fill(setting, CLAIM, now - dt.timedelta(hours=1), "0")
    few, _ = _claims(now)
    _fill(setting, many - SMALL, now + dt.timedelta(days=1), "20 seconds")
    lots, plan = _claims(now)
    _fill(setting, due - CLAIM, now - dt.timedelta(hours=1), "0")
    return [
        Result(
            "j",
            f"{CLAIM:,} due taken up, of {many:,} that are not; of {SMALL:,} that are not",
            f"{lots * 1e3:,.0f} ms",
            f"{few * 1e3:,.0f} ms",
            lots / few,
            f"<= {CLAIM_RATIO_MAX:g}, by the index",
            lots / few <= CLAIM_RATIO_MAX and _INDEX in plan,
        ),
        *_run(due, now),
    ]


def _fill(setting: Setting, count: int, start: dt.datetime, step: str) -> None:
    """Write payments past the rules, which looks up nothing for each; they are as made ones are."""
    from django.db import connection, transaction

    tenant_id, accounts = setting
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            _BULK,
            {
                "tenant": tenant_id,
                "accounts": accounts,
                "half": len(accounts) // 2,
                "currency": CURRENCY,
                "amount": AMOUNT,
                "count": count,
                "from": start,
                "step": step,
            },
        )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE payments_recurringpayment, payments_recurringrun")


def _claims(now: dt.datetime) -> tuple[float, str]:
    """Return the seconds that one claim takes, undone each time, and the plan of its query."""
    from django.db import connection, transaction
    from django.test.utils import CaptureQueriesContext

    from payments.services.recurring.due import take_due

    times = []
    for _ in range(11):
        with transaction.atomic():
            began = time.perf_counter()
            taken, _, _ = take_due(now=now, limit=CLAIM)
            times.append(time.perf_counter() - began)
            transaction.set_rollback(True)
        if taken != CLAIM:
            raise SystemExit(f"{taken} were due, not {CLAIM}.")
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        take_due(now=now, limit=CLAIM)
        transaction.set_rollback(True)
    [claim] = [each["sql"] for each in queries if "SKIP LOCKED" in each["sql"]]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {claim}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    return statistics.median(times), plan


def _run(due: int, now: dt.datetime) -> list[Result]:
    from django.db import connection

    from payments.models import RecurringRun

    began = time.perf_counter()
    memory = [pay((due // 20, now)) for _ in range(10)]
    alone = due / 2 / (time.perf_counter() - began)
    connection.close()
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        list(pool.map(warm_up, [1] * PROCESSES))
        began = time.perf_counter()
        list(pool.map(pay, [(due // 2 // PROCESSES, now)] * PROCESSES))
        together = due / 2 / (time.perf_counter() - began)
    run = RecurringRun.objects.filter(status=RecurringRun.Status.SUCCEEDED)
    paid, payments = run.count(), run.values("recurring_payment").distinct().count()
    if not paid == payments == due:
        raise SystemExit(f"{paid:,} runs of {payments:,} payments were paid, not {due:,}.")
    return [
        Result(
            "j",
            f"{due:,} due, each paid once: by a worker of {PROCESSES} processes; by one process",
            f"{together:,.0f} /s",
            f"{alone:,.0f} /s",
            together / alone,
            f">= {RUNS_PER_S_MIN:,} /s",
            together >= RUNS_PER_S_MIN,
        ),
        Result(
            "j",
            "  the one's memory after the last; after the first tenth",
            f"{memory[-1]:,.0f} MB",
            f"{memory[0]:,.0f} MB",
            memory[-1] / memory[0],
            f"<= {MEMORY_RATIO_MAX:g}",
            memory[-1] / memory[0] <= MEMORY_RATIO_MAX,
        ),
    ]


def pay(share: tuple[int, dt.datetime]) -> float:
    """Pay so many of what is due; return this process's memory then, in MB."""
    from payments.services import run_due_payments

    count, now = share
    run_due_payments(now=now, limit=count)
    return resident_mb()


def resident_mb() -> float:
    """Return how much memory this process has, in MB."""
    status: Any = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    return int(status["VmRSS"].split()[0]) / 1024
