"""
kill -9 of what pays recurring payments: after every statement, every commit and around every call
of a gateway.

Whatever the moment: the next look comes by, and each run is paid once, or ended as its policy says.
"""

import datetime as dt
import io
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from accounts.models import Account
from identity.models import Tenant
from identity.services import start_test_clock
from payments.models import Discrepancy, Payout, RecurringPayment, RecurringRun
from payments.services import Beneficiary, Salary, look_for_salaries
from tests import gateways
from tests.gateways import Sandbox
from tests.making import balance_of, open_account, transfer
from tests.recurring import again, order, run, runs, statuses, utc
from tests.test_kill_matrix import Mortal, recover

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

JANUARY, DUE = utc("2026-01-15"), utc("2026-01-15T12:00")
BUDI = Beneficiary("Budi", "DE", iban="DE89370400440532013000")
PATIENCE_S = 30
# Fewer would mean that the harness no longer sees what it should.
MOMENTS_MIN = {"inside": 25, "outside": 30, "salaries": 25, "clock": 40}


@pytest.fixture
def mortal(sandbox: Sandbox) -> Iterator[Mortal]:
    made = Mortal(sandbox)
    yield made
    made.end()


def test_a_chunk_between_accounts(mortal: Mortal, tenant: Tenant) -> None:
    saver = open_account(tenant)

    def attempt(dies_at: int) -> tuple[int, bool]:
        rich, poor = open_account(tenant, balance=1_000), open_account(tenant, balance=50)
        before = balance_of(saver)
        last = order(rich, saver, now=JANUARY, max_runs=1)
        missed = order(rich, saver, now=JANUARY, frequency="daily", catch_up="run_all")
        refused = order(poor, saver, now=JANUARY, retry_count=0, pause_after_failures=1)
        swept = order(rich, saver, now=JANUARY, amount_type="sweep", floor_amount=600)
        now = DUE + dt.timedelta(days=1)
        moments, is_done = kill(mortal, "recurring", dies_at, now=now.isoformat())
        assert sum(each.status == "succeeded" for each in _all_of(rich)) in (0, 3, 4), dies_at
        run(now)

        assert statuses(last) == ["succeeded"], dies_at
        assert statuses(missed) == ["succeeded", "succeeded"], dies_at
        assert [each.error_code for each in runs(refused)] == ["insufficient_funds"], dies_at
        assert [each.amount for each in runs(swept)] == [100], dies_at
        assert (again(last).status, again(refused).status) == ("completed", "paused"), dies_at
        assert (balance_of(rich), balance_of(poor)) == (600, 50), dies_at
        assert balance_of(saver) - before == 400, dies_at
        _end(missed, swept)
        return moments, is_done

    _die_again_and_again("inside", attempt, every=4)


def test_a_payout(mortal: Mortal, sandbox: Sandbox, tenant: Tenant) -> None:
    gateways.add_sandbox(tenant)

    def attempt(dies_at: int) -> tuple[int, bool]:
        source = open_account(tenant, balance=1_000)
        payment = order(source, beneficiary=BUDI, now=JANUARY, max_runs=1)
        swept = order(
            source, beneficiary=BUDI, now=JANUARY, amount_type="sweep", floor_amount=300, max_runs=1
        )
        moments, is_done = kill(mortal, "recurring", dies_at, now=DUE.isoformat())
        run(DUE)
        recover(sandbox)

        assert [statuses(payment), statuses(swept)] == [["succeeded"]] * 2, dies_at
        # Whichever was paid first.
        assert balance_of(source) in (200, 300), dies_at
        payouts = Payout.objects.filter(source_account_id=source.pk)
        assert {each.pk for each in payouts} == {each.payout_id for each in _all_of(source)}
        assert [each.status for each in payouts] == ["settled"] * 2, dies_at
        assert all(len(sandbox.objects(each.reference)) == 1 for each in payouts), dies_at
        return moments, is_done

    _die_again_and_again("outside", attempt, every=7)
    assert not Discrepancy.objects.exists()


def test_a_salary(mortal: Mortal, tenant: Tenant) -> None:
    saver, employer = open_account(tenant), open_account(tenant, balance=10_000_000)

    def attempt(dies_at: int) -> tuple[int, bool]:
        source, before = open_account(tenant), balance_of(saver)
        terms: dict[str, Any] = {"amount_type": "percentage", "percent": Decimal(10)}
        payment = order(source, saver, now=timezone.now(), salary=Salary(), max_runs=2, **terms)
        credits = [transfer(employer, source, amount) for amount in (1_000, 2_000, 3_000)]
        moments, is_done = kill(mortal, "salaries", dies_at)
        look_for_salaries(now=timezone.now())
        run(timezone.now())

        made = {each.trigger_transaction_id: (each.status, each.amount) for each in runs(payment)}
        assert made == {
            credits[0].id: ("succeeded", 100),
            credits[1].id: ("succeeded", 200),
        }, dies_at
        assert balance_of(saver) - before == 300, dies_at
        assert again(payment).status == "completed", dies_at
        return moments, is_done

    _die_again_and_again("salaries", attempt, every=4)


def test_a_year_of_a_test_clock(mortal: Mortal, tenant: Tenant) -> None:
    start_test_clock(tenant_id=tenant.pk, at=JANUARY, now=timezone.now())
    saver = open_account(tenant)
    shows = JANUARY

    def attempt(dies_at: int) -> tuple[int, bool]:
        nonlocal shows
        source, before = open_account(tenant, balance=1_000), balance_of(saver)
        payment = order(source, saver, now=timezone.now(), max_runs=2)
        shows += dt.timedelta(days=62)
        told: dict[str, Any] = {"tenant": str(tenant.pk), "to": shows.isoformat()}
        moments, is_done = kill(mortal, "clock", dies_at, **told)
        mortal.does("clock", **told)

        assert statuses(payment) == ["succeeded"] * 2, dies_at
        assert again(payment).status == "completed", dies_at
        assert balance_of(saver) - before == 200, dies_at
        tenant.refresh_from_db()
        assert tenant.test_clock == shows, dies_at
        return moments, is_done

    _die_again_and_again("clock", attempt, every=14)


def kill(mortal: Mortal, flow: str, dies_at: int, **told: str) -> tuple[int, bool]:
    """
    Have it done, and killed; then its minute is over, and PostgreSQL has noticed that it is dead.
    """
    before = _connected()
    moments, is_done = mortal.does(flow, dies_at=dies_at, **told)
    deadline = time.monotonic() + PATIENCE_S
    while not _connected() <= before:
        assert time.monotonic() < deadline
    RecurringRun.objects.exclude(leased_until=None).update(leased_until=JANUARY)
    return moments, is_done


def _connected() -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
        )
        return {row[0] for row in cursor.fetchall()}


def _all_of(source: Account) -> list[RecurringRun]:
    return list(RecurringRun.objects.filter(recurring_payment__source_account=source))


def _end(*payments: RecurringPayment) -> None:
    """Keep the next attempts' looks from them."""
    RecurringPayment.objects.filter(pk__in=[each.pk for each in payments]).update(
        status="cancelled", next_run_at=None, next_date=None, next_nominal_date=None
    )


def _die_again_and_again(
    flow: str, attempt: Callable[[int], tuple[int, bool]], *, every: int
) -> None:
    """Die at one of so many moments, each time in a new world, until it lives to its end."""
    dies_at, is_done, moments = 1, False, 0
    while not is_done:
        moments, is_done = attempt(dies_at)
        dies_at += every
    assert moments >= MOMENTS_MIN[flow], moments
    assert not RecurringRun.objects.filter(status__in=["due", "retrying", "sent"]).exists()
    assert not RecurringRun.objects.exclude(lease=None).exists()
    call_command("verify_ledger", stdout=io.StringIO())
