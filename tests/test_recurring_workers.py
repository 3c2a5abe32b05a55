"""
Two beats and three workers on one broker pay a year of recurring payments, as they are run: one is
killed -9 in the middle of it, the broker forgets all it had, and each run is posted once.
"""

import datetime as dt
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from subprocess import Popen
from typing import Any

import psycopg
import pytest
import redis
from celery import Celery
from django.conf import settings
from django.core.management import call_command
from django.db.models import Count
from django.utils import timezone

from accounts.models import Account
from identity.models import Tenant
from ledger.models import Transaction
from ops import processes
from ops.servers import Valkey
from payments.models import RecurringPayment, RecurringRun
from payments.services import RUNS_TASK, Salary
from tests.making import balance_of, open_account, transfer
from tests.recurring import order, runs
from tests.serving import database_url

pytestmark = [pytest.mark.crash, pytest.mark.long, pytest.mark.django_db(transaction=True)]

# Of a year each.
PAYMENTS, STREAM = 25, 30
PATIENCE_S = 90
WORKERS = ("worker-1", "worker-2", "worker-3")
BEATS = ("beat-1", "beat-2")


@contextmanager
def running(broker: Valkey, log: Path) -> Iterator[dict[str, Popen[bytes]]]:
    """Run the workers and the beats, each known to PostgreSQL by its name; yield them by it."""
    worker = ["worker", "--concurrency", "2", "--without-mingle"]
    # Plain ones: nothing keeps two of them from ticking.
    scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
    beat = ["beat", "--pidfile=", "--scheduler", scheduler]
    commands = {name: [*worker, "--hostname", f"{name}@%h"] for name in WORKERS}
    commands |= dict.fromkeys(BEATS, beat)
    started: dict[str, Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            started[name] = processes.spawn(
                [sys.executable, "-m", "celery", "-A", "config", *command],
                env={
                    **os.environ,
                    "FLORIN_IGNORE_LOCAL_ENV": "1",
                    "FLORIN_PROCESS": name,
                    "DATABASE_URL": database_url(),
                    "DATABASE_POOL_TIMEOUT_S": "30",
                    "REDIS_URL": broker.url,
                },
                cwd=settings.BASE_DIR,
                log=log / f"{name}.log",
            )
        yield started
    finally:
        for process in started.values():
            processes.kill_group(process.pid)
            process.wait()


def a_year_missed(source: Account, saver: Account, **terms: Any) -> RecurringPayment:
    """Make a monthly payment that should have begun a year ago, and is to catch up with all."""
    return order(
        source,
        saver,
        now=timezone.now() - dt.timedelta(days=364),
        run_at=dt.time(0, 0),
        catch_up="run_all",
        max_lateness_days=400,
        **terms,
    )


def due_in(seconds: float, source: Account, saver: Account) -> RecurringPayment:
    when = timezone.now() + dt.timedelta(seconds=seconds)
    return order(source, saver, now=timezone.now(), start_date=when.date(), run_at=when.time())


def awaited(what: Callable[[], Any], deadline: float, log: Path) -> Any:
    """Wait until it is something, and return it."""
    while not (found := what()):
        if time.monotonic() > deadline:
            pytest.fail("\n".join(each.read_text()[-2_000:] for each in log.glob("*.log")))
        time.sleep(0.1)
    return found


def test_a_year_is_paid_once_whatever_happens_to_the_workers_and_the_broker(
    tenant: Tenant, tmp_path: Path
) -> None:
    saver, employer = open_account(tenant), open_account(tenant, balance=1_000_000)
    source, held = (open_account(tenant, balance=1_000_000) for _ in range(2))
    salaried = open_account(tenant)
    payments = [a_year_missed(source, saver) for _ in range(PAYMENTS)]
    payments += [a_year_missed(held, saver)]
    terms: dict[str, Any] = {"amount_type": "percentage", "percent": Decimal(10)}
    by_salary = order(salaried, saver, now=timezone.now(), salary=Salary(), **terms)
    deadline = time.monotonic() + PATIENCE_S

    with (
        Valkey(tmp_path / "valkey", durable=False) as broker,
        psycopg.connect(database_url()) as other,
    ):
        # The first that looks takes all that is due, and waits here for the last account of it.
        other.execute("SELECT 1 FROM accounts_account WHERE id = %s FOR UPDATE", [held.pk])
        rings = Celery(broker=broker.url)
        memory = redis.Redis.from_url(broker.url)
        with running(broker, tmp_path) as started:
            waiting = awaited(_waiting_worker, deadline, tmp_path)
            os.killpg(started[waiting].pid, signal.SIGKILL)
            stream = [due_in(number / 3, source, saver) for number in range(STREAM)]
            for _ in range(50):
                rings.send_task(RUNS_TASK, expires=60)
                transfer(employer, salaried, 100)
            memory.flushall()
            other.rollback()
            # The minute of what it had is over.
            _free_what_is_leased()
            for _ in range(20):
                rings.send_task(RUNS_TASK, expires=60)

            awaited(lambda: _all_is_paid(salaries=50), deadline, tmp_path)
            alive = [name for name, each in started.items() if each.poll() is None]
        rings.close()
        memory.close()

    assert sorted([*alive, waiting]) == sorted([*WORKERS, *BEATS])
    for payment in payments:
        made = runs(payment)
        assert [each.number for each in made] == list(range(len(made)))
        assert len(made) in (12, 13)
        assert {str(each.status) for each in made} == {"succeeded"}
    assert [len(runs(each)) for each in stream] == [1] * STREAM
    assert [each.amount for each in runs(by_salary)] == [10] * 50
    paid = RecurringRun.objects.filter(status="succeeded")
    posted = Transaction.objects.filter(type="recurring_payment")
    # Each its own posting.
    assert paid.count() == posted.count() == RecurringRun.objects.count()
    assert paid.aggregate(count=Count("transaction_id", distinct=True))["count"] == posted.count()
    assert balance_of(saver) == sum(each.amount or 0 for each in paid)
    call_command("verify_ledger", stdout=io.StringIO())


def _waiting_worker() -> str:
    """Return the worker that waits for a row of somebody else's, if one does."""
    with psycopg.connect(database_url(), autocommit=True) as other:
        row = other.execute(
            "SELECT application_name FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = ANY(%s)"
            " AND wait_event_type = 'Lock' AND query LIKE '%%ledger_post%%'",
            [list(WORKERS)],
        ).fetchone()
    return row[0] if row else ""


def _free_what_is_leased() -> None:
    assert RecurringRun.objects.exclude(lease=None).count() >= PAYMENTS * 12
    RecurringRun.objects.exclude(lease=None).update(leased_until=timezone.now())


def _all_is_paid(*, salaries: int) -> bool:
    soon = timezone.now() + dt.timedelta(minutes=2)
    return (
        not RecurringPayment.objects.filter(next_run_at__lte=soon).exists()
        and not RecurringRun.objects.filter(status__in=["due", "retrying"]).exists()
        and RecurringRun.objects.exclude(trigger_transaction_id=None).count() == salaries
    )
