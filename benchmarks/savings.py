"""
Part k: a million savings plans. A night's interest of all, a day on which many put money aside, and
a day on which many are unlocked and paid out.
"""

import datetime as dt
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from uuid import UUID

from benchmarks.measuring import Result
from benchmarks.posting import Setting
from benchmarks.recurring import MEMORY_RATIO_MAX, RUNS_PER_S_MIN, pay, resident_mb
from benchmarks.world import CURRENCY, PROCESSES, warm_up

SCALE_RATIO_MIN = 0.7
RATE_BPS = 425
# Of each account; a month's amount; and what a plan is to have.
BALANCE, AMOUNT, TARGET = 1_000_000, 5_000, 100_000_000
_BATCH = 10_000

# As made ones are, past the rules, which look up an account for each.
_PAYMENTS = """
INSERT INTO payments_recurringpayment (
    id, tenant_id, description, metadata, kind, source_account_id, destination_account_id,
    currency, gateway, amount_type, amount, target_balance, trigger, salary_pattern, frequency,
    "interval", day_of_month, rrule, time_zone, run_at, adjustment, holidays, start_date,
    on_insufficient_funds, retry_count, retry_interval_minutes, pause_after_failures, catch_up,
    max_lateness_days, status, status_reason, next_number, next_nominal_date, next_date,
    next_run_at, consecutive_failures, is_on_test_clock, managed_by, is_end_noted, version,
    created_at, updated_at)
SELECT gen_random_uuid(), %(tenant)s, 'Holiday', '{}', 'internal',
       (%(sources)s::uuid[])[1 + n %% cardinality(%(sources)s::uuid[])], a.id,
       %(currency)s, '', 'fixed', %(amount)s, %(target)s, 'schedule', '', 'monthly', 1,
       extract(day FROM due.at)::int, '', 'UTC', due.at::time, 'none', '', due.at::date,
       'retry', 3, 360, 3, 'run_once', 7, 'active', '', 0, due.at::date, due.at::date, due.at, 0,
       false, 'savings_plan', false, 1, now(), now()
  FROM unnest(%(accounts)s::uuid[]) WITH ORDINALITY a(id, n),
       LATERAL (SELECT date_trunc('second', %(due)s::timestamptz) AS at) due
"""
_PLANS = """
INSERT INTO savings_savingsplan (
    id, tenant_id, kind, status, status_reason, name, metadata, source_account_id, plan_account_id,
    recurring_payment_id, currency, amount, target_amount, at_the_end, unlock_date, unlock_at,
    annual_rate_bps, day_count, withholding_tax_bps, interest_from, next_step_at, step_tries,
    is_on_test_clock, version, created_at, updated_at)
SELECT gen_random_uuid(), %(tenant)s, %(kind)s, 'active', '', 'Holiday', '{}',
       coalesce(r.source_account_id,
                (%(sources)s::uuid[])[1 + n %% cardinality(%(sources)s::uuid[])]), a.id,
       r.id, %(currency)s, %(amount)s, r.target_balance, 'pay_out',
       %(unlock)s::timestamptz::date, %(unlock)s::timestamptz, %(rate)s,
       CASE n %% 2 WHEN 0 THEN 'act_365f' ELSE '30_360' END, 2000, %(from)s::date,
       %(unlock)s::timestamptz, 0, false, 1, now(), now()
  FROM unnest(%(accounts)s::uuid[]) WITH ORDINALITY a(id, n)
  LEFT JOIN payments_recurringpayment r
    ON r.destination_account_id = a.id AND r.managed_by = 'savings_plan'
"""


def measure(setting: Setting, many: int, due: int, unlocked: int) -> list[Result]:
    """`many` plans that bear interest, `due` of which put money aside; `unlocked` are unlocked."""
    from django.utils import timezone

    from savings.models import InterestAccrual

    now = timezone.now()
    few = many // 10
    next_year = now + dt.timedelta(days=365)
    _plans(setting, due, now - dt.timedelta(hours=1), kind="auto_withdraw")
    for _ in range((few - due) // _BATCH):
        _plans(setting, _BATCH, next_year)
    _open_book(setting[0], now)
    # The day before yesterday's, of a tenth of them; then yesterday's, of all.
    of_few, _ = _interest(now - dt.timedelta(days=1), few)
    for _ in range((many - few) // _BATCH):
        _plans(setting, _BATCH, next_year, days_ago=1)
    of_many, memory = _interest(now, many)
    if InterestAccrual.objects.count() != few + many:
        raise SystemExit(f"{InterestAccrual.objects.count():,} days were accrued.")
    return [
        Result(
            "k",
            f"interest of a day of {many:,} plans; of {few:,}",
            f"{many / of_many:,.0f} /s",
            f"{few / of_few:,.0f} /s",
            (many / of_many) / (few / of_few),
            f">= {SCALE_RATIO_MIN:g}",
            (many / of_many) / (few / of_few) >= SCALE_RATIO_MIN,
        ),
        Result(
            "k",
            "  the process's memory after the last; before the first",
            f"{memory[1]:,.0f} MB",
            f"{memory[0]:,.0f} MB",
            memory[1] / memory[0],
            f"<= {MEMORY_RATIO_MAX:g}",
            memory[1] / memory[0] <= MEMORY_RATIO_MAX,
        ),
        _put_aside(due, now),
        _unlock(setting, unlocked, now),
    ]


def _plans(
    setting: Setting, count: int, when: dt.datetime, *, kind: str = "date_locked", days_ago: int = 2
) -> None:
    """Make plans with money in them: due then, or unlocked then."""
    from django.db import connection, transaction
    from django.utils import timezone

    from accounts.services import NewAccount, internal_account, open_accounts
    from ledger.services import Leg, Posting, post

    tenant_id, sources = setting
    now = timezone.now()
    cash = internal_account(tenant_id=tenant_id, role="cash", currency=CURRENCY, now=now)
    for first in range(0, count, _BATCH):
        size = min(_BATCH, count - first)
        opened = open_accounts(
            tenant_id=tenant_id,
            new=[NewAccount(type="saving", currency=CURRENCY)] * size,
            now=now - dt.timedelta(days=3),
        )
        accounts = [each for each in opened if isinstance(each, UUID)]
        post(
            tenant_id=tenant_id,
            postings=[
                Posting("deposit", CURRENCY, (Leg(cash, -BALANCE), Leg(each, BALANCE)))
                for each in accounts
            ],
        )
        values = {
            "tenant": tenant_id,
            "accounts": accounts,
            "sources": sources,
            "currency": CURRENCY,
            "amount": AMOUNT,
            "target": TARGET,
            "kind": kind,
            "rate": RATE_BPS,
            "from": (now - dt.timedelta(days=days_ago)).date(),
            "due": when,
            "unlock": when if kind == "date_locked" else None,
        }
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            if kind == "auto_withdraw":
                cursor.execute(_PAYMENTS, values)
            cursor.execute(_PLANS, values)


def _open_book(tenant_id: UUID, now: dt.datetime) -> None:
    """Have the tenant's interest be worked out to three days ago, and its last month posted."""
    from savings.models import InterestBook

    InterestBook.objects.create(
        tenant_id=tenant_id,
        accrued_to=(now - dt.timedelta(days=3)).date(),
        posted_to=now.date().replace(day=1) - dt.timedelta(days=1),
        next_due_at=now - dt.timedelta(days=3),
        updated_at=now,
    )


def _interest(now: dt.datetime, plans: int) -> tuple[float, tuple[float, float]]:
    """Return the seconds of a pass through all plans, and the process's memory around it."""
    from django.db import connection

    from savings.models import InterestBook
    from savings.services import keep_books

    with connection.cursor() as cursor:
        cursor.execute(
            "VACUUM ANALYZE savings_savingsplan, savings_interestaccrual, accounts_account"
        )
    InterestBook.objects.update(next_due_at=now - dt.timedelta(days=1))
    before = resident_mb()
    began = time.perf_counter()
    done = keep_books(now=now)
    seconds = time.perf_counter() - began
    if done < plans:
        raise SystemExit(f"{done:,} plans were gone through, not {plans:,}.")
    return seconds, (before, resident_mb())


def _put_aside(due: int, now: dt.datetime) -> Result:
    from django.db import connection

    from payments.models import RecurringRun

    connection.close()
    runs = RecurringRun.objects.filter(recurring_payment__managed_by="savings_plan")
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        list(pool.map(warm_up, [1] * PROCESSES))
        began = time.perf_counter()
        pay_half = [(due // 4, now)] * 2
        list(pool.map(pay, pay_half))
        together = due / 2 / (time.perf_counter() - began)
    began = time.perf_counter()
    pay((due - due // 2, now))
    alone = (due - due // 2) / (time.perf_counter() - began)
    paid, plans = (
        runs.filter(status="succeeded").count(),
        runs.values("recurring_payment").distinct(),
    )
    if not paid == plans.count() == due:
        raise SystemExit(f"{paid:,} runs of {plans.count():,} plans were paid, not {due:,}.")
    return Result(
        "k",
        f"{due:,} plans put aside, once each: by a worker of {PROCESSES} processes; by one",
        f"{together:,.0f} /s",
        f"{alone:,.0f} /s",
        together / alone,
        f">= {RUNS_PER_S_MIN:,} /s",
        together >= RUNS_PER_S_MIN,
    )


def _unlock(setting: Setting, count: int, now: dt.datetime) -> Result:
    """Unlock plans whose date has come, post their interest and pay them out."""
    from savings.models import SavingsPlan
    from savings.services import keep_plans

    _plans(setting, count, now - dt.timedelta(minutes=1))
    began = time.perf_counter()
    keep_plans(now=now, limit=count)
    seconds = time.perf_counter() - began
    closed = SavingsPlan.objects.filter(status="closed").count()
    if closed != count:
        raise SystemExit(f"{closed:,} plans were paid out, not {count:,}.")
    return Result(
        "k",
        f"{count:,} unlocked, their interest posted, and paid out",
        f"{count / seconds:,.0f} /s",
        "",
        1.0,
        "told",
        True,
    )
