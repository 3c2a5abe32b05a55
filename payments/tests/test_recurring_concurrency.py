"""Many at once on the same recurring payments: looks, pauses, changes; each run is paid once."""

import datetime as dt
import io
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Account
from accounts.services import close_account, freeze_account
from core.errors import DomainError, InvalidState
from core.models import OutboxEvent
from identity.models import Tenant
from identity.services import start_test_clock
from ledger.queries import transactions_of
from ledger.services import post
from payments.models import RecurringPayment, RecurringRun
from payments.services import (
    cancel_recurring_payment,
    change_recurring_payment,
    pause_recurring_payment,
    resume_recurring_payment,
)
from payments.services.recurring import ending, running
from payments.services.recurring.due import take_due
from payments.services.recurring.running import run_due_payments
from tests.making import at_once, balance_of, deposit, open_account, transfer
from tests.recurring import again, order, run, runs, statuses, utc

pytestmark = pytest.mark.django_db(transaction=True)

JANUARY, DUE = utc("2026-01-15"), utc("2026-01-15T12:00")


@pytest.fixture
def source(tenant: Tenant) -> Account:
    return open_account(tenant, balance=100_000)


@pytest.fixture
def saver(tenant: Tenant) -> Account:
    return open_account(tenant)


def none_failed(results: list[Any]) -> bool:
    faults = [each for each in results if isinstance(each, Exception)]
    assert faults == []
    return True


def posted() -> int:
    return sum(
        transactions_of(tenant_id=tenant.pk).filter(type="recurring_payment").count()
        for tenant in Tenant.objects.all()
    )


def verify() -> None:
    call_command("verify_ledger", stdout=io.StringIO())


@pytest.fixture
def small_bites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks take few at a time, so that many of them share the work."""
    monkeypatch.setattr(running, "TAKEN_MAX", 3)


# --- Many looks ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_bites")
def test_many_looks_pay_each_run_once(
    tenant: Tenant, other_tenant: Tenant, source: Account, saver: Account
) -> None:
    payments = [order(source, saver, now=JANUARY) for _ in range(30)]
    rich, other = open_account(other_tenant, balance=10_000), open_account(other_tenant)
    payments += [order(rich, other, now=JANUARY) for _ in range(10)]
    missed = order(source, saver, now=JANUARY, frequency="daily", catch_up="run_all")
    later = DUE + dt.timedelta(days=4)

    assert none_failed(at_once([lambda: run(later)] * 5))
    run(later)

    assert [statuses(each) for each in payments] == [["succeeded"]] * 40
    assert statuses(missed) == ["succeeded"] * 5
    assert (balance_of(saver), balance_of(other)) == (3_500, 1_000)
    assert posted() == 45
    assert OutboxEvent.objects.filter(event_type="recurring_run.succeeded").count() == 45
    verify()


@pytest.mark.usefixtures("small_bites")
def test_many_looks_ask_for_money_once_a_try(tenant: Tenant, saver: Account) -> None:
    poor = [open_account(tenant, balance=99) for _ in range(6)]
    payments = [order(each, saver, now=JANUARY, retry_interval_minutes=60) for each in poor]

    for hour in range(3):
        assert none_failed(at_once([partial(run, DUE + dt.timedelta(hours=hour))] * 4))

    assert [each.attempts for payment in payments for each in runs(payment)] == [3] * 6
    for each in poor:
        deposit(each, 1)
    assert none_failed(at_once([lambda: run(DUE + dt.timedelta(hours=3))] * 4))
    assert [statuses(each) for each in payments] == [["succeeded"]] * 6
    assert balance_of(saver) == 600


def test_sweeps_while_money_comes_and_goes_keep_the_floor(
    tenant: Tenant, source: Account, saver: Account
) -> None:
    elsewhere = open_account(tenant, balance=100_000)
    payments = [
        order(source, saver, now=JANUARY, amount_type="sweep", floor_amount=90_000)
        for _ in range(4)
    ]

    def spend() -> None:
        for _ in range(10):
            transfer(source, elsewhere, 7)
            transfer(elsewhere, source, 11)

    looks: list[Callable[[], Any]] = [lambda: run_due_payments(now=DUE, limit=1)] * 4
    assert none_failed(at_once([spend, spend, *looks]))

    swept = [each for payment in payments for each in runs(payment)]
    assert sum(each.amount or 0 for each in swept) == balance_of(saver)
    assert balance_of(source) == 100_000 + 20 * 4 - balance_of(saver)
    # Whoever came when something was there took all of it.
    assert balance_of(source) <= 90_000 + 20 * 11
    verify()


def test_payments_that_cross_do_not_stop_each_other(tenant: Tenant) -> None:
    accounts = [open_account(tenant, balance=1_000) for _ in range(6)]
    pairs = [(one, other) for one in accounts for other in accounts if one is not other]
    terms: list[dict[str, Any]] = [{}, {"min_balance": 1}]
    payments = [
        order(one, other, now=JANUARY, amount=1, **terms[index % 2])
        for index, (one, other) in enumerate(pairs)
    ]

    def shuffle() -> None:
        for one, other in pairs:
            transfer(other, one, 1)

    looks: list[Callable[[], Any]] = [lambda: run_due_payments(now=DUE, limit=8)] * 4
    assert none_failed(at_once([shuffle, *looks]))
    run(DUE)

    assert [statuses(each) for each in payments] == [["succeeded"]] * len(pairs)
    assert [balance_of(each) for each in accounts] == [1_000] * 6


# --- While it is being paid ----------------------------------------------------------------------


def while_paying(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> list[Any]:
    """
    Have `act` be done by somebody else when money has moved and before the run is written; return
    what came of the look and of it. What waits for our locks is done when we let them go.
    """
    reached, began = threading.Event(), threading.Event()
    original = post

    def paused(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        if not reached.is_set():
            reached.set()
            # Either it is done, or it waits for us.
            began.wait(30)
        return result

    monkeypatch.setattr(running, "post", paused)

    def meanwhile() -> Any:
        assert reached.wait(30)
        threading.Timer(0.3, began.set).start()
        try:
            return act()
        finally:
            began.set()

    return at_once([lambda: run(DUE), meanwhile])


@pytest.mark.parametrize("stop", [pause_recurring_payment, cancel_recurring_payment])
def test_who_stops_it_before_it_is_paid_has_it_not_paid(
    source: Account, saver: Account, monkeypatch: pytest.MonkeyPatch, stop: Callable[..., Any]
) -> None:
    payment = order(source, saver, now=JANUARY)
    other = order(source, saver, now=JANUARY)

    def act() -> Any:
        return stop(tenant_id=source.tenant_id, payment_id=payment.pk, reason="x", now=DUE)

    assert none_failed(while_paying(monkeypatch, act))

    # It was the faster, so what had been posted was undone; the other one was paid all the same.
    assert (statuses(payment), statuses(other)) == (["cancelled"], ["succeeded"])
    assert balance_of(saver) == 100
    assert posted() == 1
    verify()


def test_who_stops_it_while_its_last_run_is_written_waits_and_nobody_is_undone(
    source: Account, saver: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = order(source, saver, now=JANUARY, max_runs=1)
    written, began = threading.Event(), threading.Event()
    original = ending._write_rows

    def paused(*arguments: Any) -> None:
        original(*arguments)
        written.set()
        began.wait(30)

    def stop() -> Any:
        assert written.wait(30)
        # It has the payment's lock by then, or waits for it.
        threading.Timer(0.3, began.set).start()
        return pause_recurring_payment(
            tenant_id=source.tenant_id, payment_id=payment.pk, reason="x", now=DUE
        )

    monkeypatch.setattr(ending, "_write_rows", paused)
    _, stopped = at_once([lambda: run(DUE), stop])

    # Not a deadlock: it is over, and cannot be stopped any more.
    assert isinstance(stopped, InvalidState)
    assert (again(payment).status, balance_of(saver)) == ("completed", 100)


def test_another_amount_meanwhile_is_for_what_comes_after(
    source: Account, saver: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = order(source, saver, now=JANUARY)

    def act() -> Any:
        return change_recurring_payment(
            tenant_id=source.tenant_id, payment_id=payment.pk, changes={"amount": 7}, now=DUE
        )

    assert none_failed(while_paying(monkeypatch, act))
    run(utc("2026-02-15T12:00"))

    assert [each.amount for each in runs(payment)] == [100, 7]
    assert balance_of(saver) == 107


def test_whose_lease_has_ended_meanwhile_has_paid_nothing(
    source: Account, saver: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = order(source, saver, now=JANUARY)

    def act() -> Any:
        RecurringRun.objects.update(leased_until=JANUARY)
        return run_due_payments(now=DUE, limit=10)

    assert none_failed(while_paying(monkeypatch, act))

    [paid] = runs(payment)
    assert (paid.status, paid.deliveries) == ("succeeded", 2)
    assert (balance_of(saver), posted()) == (100, 1)


def test_the_key_alone_keeps_a_run_from_being_paid_twice(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY)
    [work] = take_due(now=DUE, limit=10)[1]
    posting = running._posting(work, 100, DUE)

    post(tenant_id=source.tenant_id, postings=[posting])
    RecurringRun.objects.update(leased_until=JANUARY)
    run(DUE)

    [paid] = runs(payment)
    assert (paid.status, paid.transaction_id) == ("succeeded", posting.id)
    assert balance_of(saver) == 100


@pytest.mark.parametrize(
    ("stop", "status"), [(freeze_account, "paused"), (close_account, "failed")]
)
def test_an_account_that_goes_meanwhile_is_seen(
    tenant: Tenant, saver: Account, source: Account, stop: Callable[..., Any], status: str
) -> None:
    payments = [order(source, saver, now=JANUARY) for _ in range(5)]

    def act() -> Any:
        return stop(tenant_id=tenant.pk, account_id=saver.pk, reason="x", now=DUE)

    results = at_once([act, *[lambda: run_due_payments(now=DUE, limit=1)] * 3])
    # With money in it, it is not closed.
    stopped = not isinstance(results[0], DomainError)
    run(DUE)

    paid = [each for each in payments if statuses(each) == ["succeeded"]]
    assert balance_of(saver) == 100 * len(paid)
    assert {again(each).status for each in payments if each not in paid} <= {status}
    assert stopped or len(paid) == 5
    verify()


# --- Pauses and looks, again and again -----------------------------------------------------------


@pytest.mark.usefixtures("small_bites")
def test_stopping_and_going_on_while_others_look_never_pays_a_date_twice(
    tenant: Tenant, source: Account, saver: Account
) -> None:
    terms: dict[str, Any] = {"frequency": "daily", "catch_up": "run_all", "max_lateness_days": 60}
    payments = [order(source, saver, now=JANUARY, **terms) for _ in range(6)]

    def look() -> None:
        for day in range(12):
            run(DUE + dt.timedelta(days=day))

    def stop_and_go() -> None:
        for day in range(12):
            for each in payments:
                now = DUE + dt.timedelta(days=day, hours=-1)
                key: dict[str, Any] = {"tenant_id": tenant.pk, "payment_id": each.pk, "now": now}
                pause_recurring_payment(**key, reason="x")
                change_recurring_payment(**key, changes={"amount": 10 + day})
                resume_recurring_payment(**key)

    assert none_failed(at_once([look, look, stop_and_go]))

    paid = RecurringRun.objects.filter(status="succeeded")
    assert len({(each.recurring_payment_id, each.date) for each in paid}) == len(paid) == posted()
    assert sum(each.amount or 0 for each in paid) == balance_of(saver)
    assert not RecurringRun.objects.filter(status__in=["due", "retrying"]).exists()
    verify()


def test_the_last_of_its_runs_complete_it_whoever_comes_last(
    source: Account, saver: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "TAKEN_MAX", 1)
    terms: dict[str, Any] = {"frequency": "daily", "catch_up": "run_all", "max_runs": 6}
    payments = [order(source, saver, now=JANUARY, **terms) for _ in range(4)]
    later = DUE + dt.timedelta(days=5)
    take_due(now=later, limit=10)
    RecurringRun.objects.update(leased_until=JANUARY, deliveries=0)

    assert none_failed(at_once([lambda: run(later)] * 4))

    assert {again(each).status for each in payments} == {"completed"}
    assert posted() == 24


def test_one_made_while_its_tenant_gets_a_clock_goes_by_it(
    tenant: Tenant, source: Account, saver: Account
) -> None:
    made: list[RecurringPayment] = []
    held, go_on = threading.Event(), threading.Event()

    def make() -> None:
        with transaction.atomic():
            made.append(order(source, saver, now=JANUARY))
            held.set()
            go_on.wait(30)

    def begin() -> None:
        assert held.wait(30)
        threading.Timer(0.3, go_on.set).start()
        start_test_clock(tenant_id=tenant.pk, at=JANUARY, now=timezone.now())

    assert none_failed(at_once([make, begin]))

    assert again(made[0]).is_on_test_clock


# --- Faults --------------------------------------------------------------------------------------


def test_a_fault_is_one_runs_and_is_tried_again_later(
    source: Account, saver: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    payments = [order(source, saver, now=JANUARY) for _ in range(9)]
    bad = payments[4]
    original = running._posting

    def broken(work: Any, amount: int, now: dt.datetime) -> Any:
        if work.payment.pk == bad.pk:
            raise ZeroDivisionError
        return original(work, amount, now)

    monkeypatch.setattr(running, "_posting", broken)
    run(DUE)

    [put_off] = runs(bad)
    assert (put_off.status, put_off.error_detail) == ("retrying", "ZeroDivisionError")
    assert put_off.next_attempt_at is not None
    assert 24 <= (put_off.next_attempt_at - DUE).total_seconds() <= 36
    assert balance_of(saver) == 800
    monkeypatch.setattr(running, "_posting", original)
    run(DUE + dt.timedelta(minutes=1))
    assert statuses(bad) == ["succeeded"]
    assert posted() == 9


def test_a_fault_that_stays_is_given_up_and_told(
    source: Account, saver: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = order(source, saver, now=JANUARY, retry_count=0)
    monkeypatch.setattr(running, "_posting", lambda *_: 1 / 0)

    for hour in range(12):
        run(DUE + dt.timedelta(hours=hour))

    [failed] = runs(payment)
    assert (failed.status, failed.error_code) == ("failed", "gave_up")
    assert failed.deliveries == running.DELIVERIES_MAX + 1
    assert OutboxEvent.objects.filter(event_type="recurring_run.failed").count() == 1
    assert balance_of(saver) == 0


def test_what_kills_its_worker_is_given_up_and_takes_no_other_along(
    source: Account, saver: Account
) -> None:
    payment = order(source, saver, now=JANUARY)
    take_due(now=DUE, limit=10)
    for _ in range(running.DELIVERIES_MAX - 1):
        # Taken up by a worker that dies.
        RecurringRun.objects.update(leased_until=JANUARY)
        _take_up_and_die()
    fine = order(source, saver, now=JANUARY)
    RecurringRun.objects.update(leased_until=JANUARY)

    _take_up_and_die(steps=2)
    RecurringRun.objects.update(leased_until=JANUARY)
    run(DUE)

    assert [(each.status, each.error_code) for each in runs(payment)] == [("failed", "gave_up")]
    run(DUE)
    assert statuses(fine) == ["succeeded"]


def _take_up_and_die(steps: int = 1) -> None:
    look = running._Look(DUE, DUE, None, 0.0)
    for _ in range(steps):
        running._take_up(look, 1, least=running.SUSPECT_AFTER)


def test_taking_up_takes_no_more_than_asked_for(source: Account, saver: Account) -> None:
    for _ in range(20):
        order(source, saver, now=JANUARY)
    take_due(now=DUE, limit=20)
    RecurringRun.objects.update(leased_until=JANUARY)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE payments_recurringrun")

    _take_up_and_die()

    assert RecurringRun.objects.filter(deliveries=2).count() == 1
