"""Recurring payments by their services: when they run, what they pay, what policies do."""

import datetime as dt
from typing import Any

import pytest

from accounts.models import Account
from accounts.services import close_account, freeze_account
from core.errors import DomainError, InvalidRequest
from core.models import OutboxEvent
from core.money import Money
from identity.models import Tenant
from ledger.services import place_hold
from payments.models import RecurringPayment, RecurringRun
from payments.services import (
    cancel_recurring_payment,
    change_recurring_payment,
    pause_recurring_payment,
    preview,
    resume_recurring_payment,
)
from payments.services.recurring.due import take_due
from tests.making import balance_of, deposit, open_account
from tests.recurring import again, order, run, runs, statuses, utc

JANUARY = utc("2026-01-15")


@pytest.fixture
def source(tenant: Tenant) -> Account:
    return open_account(tenant, balance=1_000)


@pytest.fixture
def saver(tenant: Tenant) -> Account:
    return open_account(tenant)


# --- When it runs --------------------------------------------------------------------------------


def test_it_is_paid_each_month_on_its_day(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, day_of_month=31)

    for moment in ("2026-01-31T11:59", "2026-01-31T12:00", "2026-02-28T12:00", "2026-03-31T12:00"):
        run(utc(moment))

    assert [each.date.isoformat() for each in runs(payment)] == [
        "2026-01-31",
        "2026-02-28",
        "2026-03-31",
    ]
    assert balance_of(saver) == 300
    assert balance_of(source) == 700


def test_a_look_before_its_time_finds_nothing(source: Account, saver: Account) -> None:
    order(source, saver, now=JANUARY, start_date=dt.date(2026, 2, 1))

    assert run(utc("2026-02-01T11:59:59")) == 0
    assert balance_of(saver) == 0


def test_two_looks_at_one_moment_pay_once(source: Account, saver: Account) -> None:
    order(source, saver, now=JANUARY)

    assert run(utc("2026-01-15T12:00")) == 1
    assert run(utc("2026-01-15T12:00")) == 0
    assert balance_of(saver) == 100


def test_a_weekend_moves_it_and_both_dates_are_kept(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, day_of_month=31, adjustment="modified_following")

    run(utc("2026-02-02T12:00"))

    [made] = runs(payment)
    # 31 January 2026 is a Saturday, and the Monday after it lies in February.
    assert (made.nominal_date.isoformat(), made.date.isoformat()) == ("2026-01-31", "2026-01-30")


def test_a_number_of_runs_completes_it(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, frequency="daily", max_runs=2)

    for day in (15, 16, 17):
        run(utc(f"2026-01-{day}T12:00"))

    assert statuses(payment) == ["succeeded", "succeeded"]
    assert again(payment).status == "completed"


def test_an_end_completes_it(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, end_date=dt.date(2026, 2, 15))

    run(utc("2026-01-15T12:00"))
    assert again(payment).status == "active"
    run(utc("2026-02-15T12:00"))

    assert again(payment).status == "completed"
    assert again(payment).next_run_at is None


def test_it_says_when_it_will_run(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, day_of_month=31, max_runs=3)

    coming = preview(payment, count=10)

    assert [each.run_at for each in coming] == [
        utc("2026-01-31T12:00"),
        utc("2026-02-28T12:00"),
        utc("2026-03-31T12:00"),
    ]


def test_one_that_missed_all_that_was_left_is_completed(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, frequency="daily", max_runs=2, catch_up="skip")

    run(utc("2026-03-15T12:00"))

    assert statuses(payment) == ["skipped", "skipped"]
    assert again(payment).status == "completed"


def test_many_that_missed_much_are_taken_bit_by_bit(
    source: Account, saver: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("payments.services.recurring.due.RUNS_MAX", 3)
    monkeypatch.setattr("payments.services.recurring.due.CAUGHT_UP_MAX", 2)
    terms: dict[str, Any] = {"frequency": "daily", "catch_up": "run_all", "amount": 1}
    payments = [order(source, saver, now=JANUARY, **terms) for _ in range(3)]

    run(utc("2026-01-19T12:00"))

    assert [statuses(each) for each in payments] == [["succeeded"] * 5] * 3
    assert balance_of(saver) == 15


# --- How much ------------------------------------------------------------------------------------


def test_a_sweep_takes_what_is_above_the_floor(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, amount_type="sweep", floor_amount=400)

    run(utc("2026-01-15T12:00"))

    assert balance_of(source) == 400
    assert [each.amount for each in runs(payment)] == [600]


def test_a_sweep_of_nothing_is_skipped_and_no_failure(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, amount_type="sweep", floor_amount=1_000)

    run(utc("2026-01-15T12:00"))

    assert statuses(payment) == ["skipped"]
    assert again(payment).consecutive_failures == 0


def test_two_sweeps_of_one_account_take_it_once(source: Account, saver: Account) -> None:
    for _ in range(2):
        order(source, saver, now=JANUARY, amount_type="sweep", floor_amount=400)

    run(utc("2026-01-15T12:00"))

    assert balance_of(source) == 400


@pytest.mark.parametrize(("least", "paid"), [(999, 100), (1_000, 0)])
def test_it_waits_for_more_than_a_balance(
    source: Account, saver: Account, least: int, paid: int
) -> None:
    order(source, saver, now=JANUARY, min_balance=least)

    run(utc("2026-01-15T12:00"))

    assert balance_of(saver) == paid


def test_what_might_be_overdrawn_is_not_swept(tenant: Tenant, saver: Account) -> None:
    poor = open_account(tenant, balance=100, overdraft_limit=500)
    payment = order(poor, saver, now=JANUARY, amount_type="sweep", floor_amount=0)

    run(utc("2026-01-15T12:00"))

    assert [each.amount for each in runs(payment)] == [100]
    assert balance_of(poor) == 0


def test_what_might_be_overdrawn_is_no_balance_to_wait_for(tenant: Tenant, saver: Account) -> None:
    poor = open_account(tenant, balance=100, overdraft_limit=500)
    payment = order(poor, saver, now=JANUARY, min_balance=100)

    run(utc("2026-01-15T12:00"))

    assert [each.error_code for each in runs(payment)] == ["balance_too_low"]


def test_what_is_on_hold_is_not_swept(tenant: Tenant, source: Account, saver: Account) -> None:
    place_hold(
        tenant_id=tenant.pk,
        account_id=source.pk,
        amount=Money(300, "USD"),
        idempotency_key="x",
        expires_at=None,
        now=JANUARY,
    )
    order(source, saver, now=JANUARY, amount_type="sweep", floor_amount=0)

    run(utc("2026-01-15T12:00"))

    assert balance_of(saver) == 700


# --- Policies ------------------------------------------------------------------------------------


def test_too_little_money_is_asked_for_again_and_then_paid(tenant: Tenant, saver: Account) -> None:
    poor = open_account(tenant)
    payment = order(poor, saver, now=JANUARY, retry_count=2, retry_interval_minutes=60)
    run(utc("2026-01-15T12:00"))
    [waiting] = runs(payment)
    assert (waiting.status, waiting.next_attempt_at) == ("retrying", utc("2026-01-15T13:00"))

    deposit(poor, 100)
    run(utc("2026-01-15T12:59"))
    assert balance_of(saver) == 0
    run(utc("2026-01-15T13:00"))

    assert statuses(payment) == ["succeeded"]
    assert balance_of(saver) == 100


def test_when_no_try_is_left_it_has_failed(tenant: Tenant, saver: Account) -> None:
    payment = order(
        open_account(tenant), saver, now=JANUARY, retry_count=1, retry_interval_minutes=60
    )

    for hour in (12, 13, 14):
        run(utc(f"2026-01-15T{hour}:00"))

    [failed] = runs(payment)
    assert (failed.status, failed.attempts, failed.error_code) == (
        "failed",
        2,
        "insufficient_funds",
    )
    assert again(payment).consecutive_failures == 1


def test_no_try_is_made_past_the_next_date(tenant: Tenant, saver: Account) -> None:
    payment = order(
        open_account(tenant),
        saver,
        now=JANUARY,
        frequency="daily",
        retry_count=5,
        retry_interval_minutes=24 * 60,
    )

    run(utc("2026-01-15T12:00"))

    assert statuses(payment) == ["failed"]


def test_it_is_skipped_where_that_is_the_policy(tenant: Tenant, saver: Account) -> None:
    payment = order(open_account(tenant), saver, now=JANUARY, on_insufficient_funds="skip")

    run(utc("2026-01-15T12:00"))

    assert statuses(payment) == ["skipped"]


def test_failures_in_a_row_pause_it(tenant: Tenant, saver: Account) -> None:
    payment = order(
        open_account(tenant),
        saver,
        now=JANUARY,
        frequency="daily",
        retry_count=0,
        pause_after_failures=2,
    )

    for day in (15, 16, 17):
        run(utc(f"2026-01-{day}T12:00"))

    paused = again(payment)
    assert (paused.status, paused.status_reason) == ("paused", "insufficient_funds")
    assert statuses(payment) == ["failed", "failed"]


def test_a_success_ends_the_row(tenant: Tenant, saver: Account) -> None:
    poor = open_account(tenant)
    payment = order(
        poor, saver, now=JANUARY, frequency="daily", retry_count=0, pause_after_failures=2
    )
    run(utc("2026-01-15T12:00"))
    deposit(poor, 100)
    run(utc("2026-01-16T12:00"))
    run(utc("2026-01-17T12:00"))

    assert statuses(payment) == ["failed", "succeeded", "failed"]
    assert again(payment).status == "active"


@pytest.mark.parametrize(
    ("policy", "expected", "paid"),
    [
        ("run_once", ["skipped", "skipped", "succeeded"], 100),
        ("run_all", ["succeeded", "succeeded", "succeeded"], 300),
        ("skip", ["skipped", "skipped", "skipped"], 0),
    ],
)
def test_what_an_outage_missed_is_as_the_policy_says(
    source: Account, saver: Account, policy: str, expected: list[str], paid: int
) -> None:
    payment = order(source, saver, now=JANUARY, frequency="daily", catch_up=policy)

    run(utc("2026-01-17T18:00"))

    assert statuses(payment) == expected
    assert balance_of(saver) == paid


def test_what_is_later_than_may_be_is_not_paid(source: Account, saver: Account) -> None:
    payment = order(
        source, saver, now=JANUARY, frequency="daily", catch_up="run_all", max_lateness_days=1
    )

    run(utc("2026-01-17T12:00"))

    assert statuses(payment) == ["skipped", "succeeded", "succeeded"]


def test_a_year_that_was_missed_is_caught_up_with(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, frequency="daily", max_lateness_days=3)

    run(utc("2027-06-15T12:00"))

    assert set(statuses(payment)) == {"skipped", "succeeded"}
    assert balance_of(saver) == 100
    assert again(payment).next_run_at == utc("2027-06-16T12:00")


# --- Accounts in the way -------------------------------------------------------------------------


def test_a_frozen_source_pauses_it(tenant: Tenant, source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY)
    freeze_account(tenant_id=tenant.pk, account_id=source.pk, reason="x", now=JANUARY)

    run(utc("2026-01-15T12:00"))

    assert statuses(payment) == ["failed"]
    assert (again(payment).status, again(payment).status_reason) == ("paused", "account_frozen")


def test_a_closed_account_ends_it(tenant: Tenant, source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY)
    close_account(tenant_id=tenant.pk, account_id=saver.pk, reason="x", now=JANUARY)

    run(utc("2026-01-15T12:00"))

    assert (again(payment).status, again(payment).next_run_at) == ("failed", None)
    assert balance_of(source) == 1_000


def test_one_that_cannot_be_paid_keeps_no_other_from_it(tenant: Tenant, saver: Account) -> None:
    rich, poor = open_account(tenant, balance=100), open_account(tenant)
    order(poor, saver, now=JANUARY)
    order(rich, saver, now=JANUARY)

    run(utc("2026-01-15T12:00"))

    assert balance_of(saver) == 100


def test_one_whose_dates_cannot_be_told_is_paused_and_stops_no_other(
    tenant: Tenant, source: Account, saver: Account
) -> None:
    broken = order(source, saver, now=JANUARY, adjustment="next")
    fine = order(source, saver, now=JANUARY)
    # As if the country's holidays were not known any more.
    RecurringPayment.objects.filter(pk=broken.pk).update(holidays="XX")

    run(utc("2026-01-15T12:00"))

    assert (again(broken).status, again(broken).status_reason) == ("paused", "invalid_request")
    assert OutboxEvent.objects.filter(event_type="recurring_payment.paused").count() == 1
    assert statuses(broken) == []
    assert statuses(fine) == ["succeeded"]
    assert balance_of(saver) == 100


# --- Paused, resumed, changed, cancelled ---------------------------------------------------------


def test_while_it_is_paused_nothing_runs_and_later_it_goes_on(
    source: Account, saver: Account
) -> None:
    payment = order(source, saver, now=JANUARY, frequency="daily")
    key: dict[str, Any] = {"tenant_id": source.tenant_id, "payment_id": payment.pk}
    pause_recurring_payment(**key, reason="x", now=utc("2026-01-15T10:00"))
    run(utc("2026-01-16T12:00"))
    assert statuses(payment) == []

    resume_recurring_payment(reason="x", **key, now=utc("2026-01-17T13:00"))
    run(utc("2026-01-18T12:00"))

    assert [each.date.isoformat() for each in runs(payment)] == ["2026-01-18"]


def test_a_pause_ends_what_waits_for_another_try(tenant: Tenant, saver: Account) -> None:
    poor = open_account(tenant)
    payment = order(poor, saver, now=JANUARY)
    run(utc("2026-01-15T12:00"))

    pause_recurring_payment(
        tenant_id=tenant.pk, payment_id=payment.pk, reason="x", now=utc("2026-01-15T12:30")
    )
    deposit(poor, 100)
    run(utc("2026-01-16T12:00"))

    assert statuses(payment) == ["cancelled"]
    assert balance_of(saver) == 0


def test_what_is_cancelled_stays_so(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY)
    key: dict[str, Any] = {"tenant_id": source.tenant_id, "payment_id": payment.pk}
    cancel_recurring_payment(**key, reason="x", now=JANUARY)

    run(utc("2026-03-15T12:00"))

    assert statuses(payment) == []
    with pytest.raises(DomainError, match="cancelled"):
        resume_recurring_payment(reason="x", **key, now=JANUARY)


def test_another_amount_is_for_what_comes_after(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY)
    run(utc("2026-01-15T12:00"))

    changed = change_recurring_payment(
        tenant_id=source.tenant_id,
        payment_id=payment.pk,
        changes={"amount": 250},
        now=utc("2026-01-20"),
    )
    run(utc("2026-02-15T12:00"))

    assert (changed.version, [each.amount for each in runs(payment)]) == (2, [100, 250])


def test_another_calendar_counts_from_today(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, max_runs=12)
    run(utc("2026-01-15T12:00"))

    changed = change_recurring_payment(
        tenant_id=source.tenant_id,
        payment_id=payment.pk,
        changes={"frequency": "weekly"},
        now=utc("2026-01-20"),
    )

    assert changed.next_run_at == utc("2026-01-20T12:00")
    assert changed.max_runs == 11


def change(payment: RecurringPayment, when: str, **changes: Any) -> RecurringPayment:
    return change_recurring_payment(
        tenant_id=payment.tenant_id, payment_id=payment.pk, changes=changes, now=utc(when)
    )


@pytest.mark.parametrize(
    ("changes", "following"),
    [
        ({"run_at": dt.time(13, 0)}, "2026-02-15T13:00"),
        ({"time_zone": "Asia/Jakarta"}, "2026-02-15T05:00"),
        # 15 February 2026 is a Sunday.
        ({"adjustment": "next"}, "2026-02-16T12:00"),
        ({"frequency": "monthly", "interval": 1, "amount": 5}, "2026-02-15T12:00"),
        ({"start_date": dt.date(2026, 1, 15)}, "2026-02-15T12:00"),
        ({"start_date": dt.date(2026, 2, 3)}, "2026-02-03T12:00"),
    ],
)
def test_what_is_no_other_rule_keeps_its_dates(
    source: Account, saver: Account, changes: dict[str, Any], following: str
) -> None:
    payment = order(source, saver, now=JANUARY)
    run(utc("2026-01-15T12:00"))

    changed = change(payment, "2026-01-15T12:30", **changes)

    assert changed.next_run_at == utc(following)


def test_another_rule_pays_no_day_twice(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, max_runs=3)
    run(utc("2026-01-15T12:00"))

    changed = change(payment, "2026-01-15T12:30", frequency="weekly", run_at=dt.time(13, 0))
    for day in ("2026-01-15", "2026-01-22", "2026-01-29", "2026-02-05"):
        run(utc(f"{day}T13:00"))

    assert changed.next_run_at == utc("2026-01-22T13:00")
    assert statuses(payment) == ["succeeded"] * 3
    assert again(payment).status == "completed"


def test_another_rule_waits_for_the_start(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, start_date=dt.date(2026, 3, 1))

    assert change(payment, "2026-01-20", frequency="weekly").next_run_at == utc("2026-03-01T12:00")


def test_what_is_due_when_it_is_changed_is_paid_as_it_was(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY)

    change(payment, "2026-01-16", amount=250, frequency="weekly")
    run(utc("2026-01-16T12:00"))

    assert [(each.date.day, each.amount) for each in runs(payment)] == [(15, 100), (16, 250)]


def test_another_amount_is_not_for_what_a_dead_worker_took(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY)
    take_due(now=utc("2026-01-15T12:00"), limit=10)

    change(payment, "2026-01-15T12:00", amount=250)
    RecurringRun.objects.update(leased_until=JANUARY)
    run(utc("2026-01-15T12:01"))

    assert [each.amount for each in runs(payment)] == [100]


@pytest.mark.parametrize("changes", [{"end_date": dt.date(2026, 2, 14)}, {"max_runs": 1}])
def test_an_end_that_is_moved_before_all_dates_completes_it(
    source: Account, saver: Account, changes: dict[str, Any]
) -> None:
    payment = order(source, saver, now=JANUARY)
    run(utc("2026-01-15T12:00"))

    changed = change(payment, "2026-01-20", **changes)

    assert (changed.status, changed.next_run_at) == ("completed", None)


def test_one_that_had_all_its_runs_gets_no_other_rule(tenant: Tenant, saver: Account) -> None:
    payment = order(open_account(tenant), saver, now=JANUARY, max_runs=1)
    run(utc("2026-01-15T12:00"))
    assert statuses(payment) == ["retrying"]

    with pytest.raises(InvalidRequest) as refusal:
        change(payment, "2026-01-15T13:00", frequency="weekly")

    assert refusal.value.field == "count"


# --- What those who listen are told --------------------------------------------------------------


def test_a_failure_says_whether_it_is_tried_again(tenant: Tenant, saver: Account) -> None:
    payment = order(open_account(tenant), saver, now=JANUARY)

    run(utc("2026-01-15T12:00"))

    told = OutboxEvent.objects.get(event_type="recurring_run.retry_scheduled").payload
    assert told is not None
    assert (told["will_retry"], told["recurring_payment_id"]) == (True, str(payment.pk))


# --- What cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"end_date": dt.date(2026, 1, 14)}, "end_date"),
        ({"start_date": dt.date(2026, 1, 14)}, "start_date"),
        ({"max_runs": 0}, "count"),
        ({"frequency": "sometimes"}, "frequency"),
        ({"frequency": "rrule", "rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "rrule"),
        ({"frequency": "rrule", "rrule": "FREQ=HOURLY"}, "rrule"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"day_of_month": 32}, "day_of_month"),
        ({"interval": 0}, "interval"),
        ({"amount": 0}, "amount"),
        ({"amount_type": "sweep"}, "amount"),
        ({"amount_type": "percentage", "percent": 10}, "amount_type"),
        ({"holidays": "XX", "adjustment": "next"}, "holidays"),
        ({"day_of_month": 31, "end_date": dt.date(2026, 1, 20)}, "end_date"),
    ],
)
def test_terms_that_cannot_be_are_refused_by_field(
    source: Account, saver: Account, terms: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        order(source, saver, now=JANUARY, **terms)

    assert refusal.value.field == field
    assert not RecurringPayment.objects.exists()


def test_it_does_not_pay_itself(source: Account) -> None:
    with pytest.raises(DomainError, match="source"):
        order(source, source, now=JANUARY)


def test_another_currency_is_refused(tenant: Tenant, source: Account) -> None:
    with pytest.raises(DomainError) as refusal:
        order(source, open_account(tenant, currency="EUR"), now=JANUARY)

    assert refusal.value.code == "currency_mismatch"


def test_another_tenants_account_is_not_there(source: Account, other_tenant: Tenant) -> None:
    with pytest.raises(DomainError) as refusal:
        order(source, open_account(other_tenant), now=JANUARY)

    assert refusal.value.code == "not_found"
    assert not RecurringRun.objects.exists()
