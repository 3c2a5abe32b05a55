"""PostgreSQL goes while recurring payments are paid: the next look finishes what was begun."""

import datetime as dt
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from accounts.models import Account
from identity.models import Tenant
from ledger.queries import transactions_of
from payments.models import RecurringPayment, RecurringRun
from payments.services import Salary, look_for_salaries
from payments.services.recurring import running
from payments.services.recurring.due import take_due
from tests.making import at_once, balance_of, open_account, transfer
from tests.recurring import order, run, runs, statuses, utc
from tests.serving import database_url

pytestmark = pytest.mark.django_db(transaction=True)

JANUARY, DUE = utc("2026-01-15"), utc("2026-01-15T12:00")
# When what was put off by a fault is tried again.
SOON = utc("2026-01-15T12:02")


@pytest.fixture
def saver(tenant: Tenant) -> Account:
    return open_account(tenant)


@contextmanager
def loses_its_session(at: int) -> Iterator[list[int]]:
    """Have our session be ended before the statement of that number; yield how many there were."""
    seen = [0]

    def execute(call: Callable[..., Any], *arguments: Any) -> Any:
        seen[0] += 1
        if seen[0] == at:
            end_session(connection.connection.info.backend_pid)
        return call(*arguments)

    with connection.execute_wrapper(execute):
        yield seen


def end_session(pid: int) -> None:
    with psycopg.connect(database_url(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def at_every_statement(attempt: Callable[[int], int], *, least: int) -> None:
    """Lose the session before each statement, each time in a new world, until it is not reached."""
    at, seen = 0, 0
    while at <= seen:
        at += 1
        seen = attempt(at)
    assert at > least
    call_command("verify_ledger", stdout=io.StringIO())


def lose(at: int, act: Callable[[], Any]) -> int:
    """
    Do it, and lose the session before that statement: it ends there, or goes on in a session anew.
    Return how many statements there were.
    """
    with loses_its_session(at) as seen, suppress(OperationalError, InterfaceError):
        act()
    # What was ours in the session that is gone is nobody's.
    connection.close()
    RecurringRun.objects.exclude(leased_until=None).update(leased_until=JANUARY)
    return seen[0]


def test_what_a_look_leaves_the_next_pays(tenant: Tenant, saver: Account) -> None:
    def attempt(at: int) -> int:
        rich, poor = open_account(tenant, balance=1_000), open_account(tenant)
        before = balance_of(saver)
        payments = [order(rich, saver, now=JANUARY, max_runs=1) for _ in range(3)]
        swept = order(rich, saver, now=JANUARY, amount_type="sweep", floor_amount=500, max_runs=1)
        skipped = order(poor, saver, now=JANUARY, on_insufficient_funds="skip", max_runs=1)

        seen = lose(at, lambda: run(DUE))
        run(SOON)

        assert [statuses(each) for each in payments] == [["succeeded"]] * 3, at
        assert [each.amount for each in runs(swept)] == [200], at
        assert statuses(skipped) == ["skipped"], at
        assert balance_of(saver) - before == 500, at
        assert not RecurringRun.objects.exclude(lease=None).exists(), at
        return seen

    at_every_statement(attempt, least=20)
    assert not RecurringPayment.objects.exclude(status="completed").exists()


def test_what_a_dead_worker_had_is_taken_up_again_and_again(tenant: Tenant, saver: Account) -> None:
    """Losing the session while runs are taken up again, which is done one by one."""

    def attempt(at: int) -> int:
        rich = open_account(tenant, balance=1_000)
        payments = [order(rich, saver, now=JANUARY, max_runs=1) for _ in range(2)]
        take_due(now=DUE, limit=10)
        RecurringRun.objects.exclude(leased_until=None).update(leased_until=JANUARY)

        seen = lose(at, lambda: run(DUE))
        run(SOON)

        assert [statuses(each) for each in payments] == [["succeeded"]] * 2, at
        assert balance_of(rich) == 800, at
        return seen

    at_every_statement(attempt, least=10)


def test_who_follows_salaries_reads_on_where_it_was(tenant: Tenant, saver: Account) -> None:
    employer = open_account(tenant, balance=1_000_000)

    def attempt(at: int) -> int:
        source, before = open_account(tenant), balance_of(saver)
        terms: dict[str, Any] = {"amount_type": "percentage", "percent": Decimal(10)}
        payment = order(source, saver, now=timezone.now(), salary=Salary(), **terms)
        for _ in range(2):
            transfer(employer, source, 1_000)

        seen = lose(at, lambda: look_for_salaries(now=timezone.now()))
        look_for_salaries(now=timezone.now())
        run(timezone.now())

        assert statuses(payment) == ["succeeded"] * 2, at
        assert balance_of(saver) - before == 200, at
        return seen

    at_every_statement(attempt, least=10)


def test_a_restart_under_many_looks_pays_each_run_once(
    tenant: Tenant, saver: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "TAKEN_MAX", 2)
    source = open_account(tenant, balance=10_000)
    payments = [order(source, saver, now=JANUARY) for _ in range(40)]

    def look() -> None:
        for _ in range(30):
            try:
                run(DUE)
                RecurringRun.objects.exclude(leased_until=None).update(leased_until=JANUARY)
            except (OperationalError, InterfaceError):
                connection.close()

    def restart() -> None:
        with psycopg.connect(database_url(), autocommit=True) as other:
            for _ in range(20):
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    " AND state <> 'idle'"
                )

    results = at_once([look, look, look, restart])
    assert [each for each in results if isinstance(each, Exception)] == []
    RecurringRun.objects.exclude(leased_until=None).update(leased_until=JANUARY)
    run(DUE + dt.timedelta(hours=1))

    assert [statuses(each) for each in payments] == [["succeeded"]] * 40
    assert balance_of(saver) == 4_000
    assert transactions_of(tenant_id=tenant.pk).filter(type="recurring_payment").count() == 40
    call_command("verify_ledger", stdout=io.StringIO())
