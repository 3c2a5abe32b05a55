"""Recurring payments and the clock: jumps, zones, month ends, test clocks; each date once."""

import datetime as dt
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts.models import Account
from core.calendars.business_days import Adjustment, BusinessCalendar, adjusted
from core.calendars.rules import Frequency, Rule, nominal_date
from core.calendars.zones import instant_of, zone_of
from core.errors import InvalidState
from identity.models import Tenant
from identity.services import advance_test_clock, create_tenant, start_test_clock
from payments.models import RecurringPayment, RecurringRun
from payments.services import (
    change_recurring_payment,
    pause_recurring_payment,
    resume_recurring_payment,
)
from payments.services.recurring.due import take_due
from tests.making import balance_of, open_account
from tests.recurring import NOON, again, order, run, runs, statuses, utc

JANUARY = utc("2026-01-15")
DAY = dt.timedelta(days=1)


@pytest.fixture
def source(tenant: Tenant) -> Account:
    return open_account(tenant, balance=100_000)


@pytest.fixture
def saver(tenant: Tenant) -> Account:
    return open_account(tenant)


def days(payment: RecurringPayment) -> list[str]:
    return [each.date.isoformat() for each in runs(payment)]


# --- Jumps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "lateness", "paid"),
    [
        # The jump is from the 15th to noon of the 17th: two dates are late by 2 and 1 days.
        ("run_once", 7, [17]),
        ("run_once", 0, [17]),
        ("run_all", 7, [15, 16, 17]),
        ("run_all", 1, [16, 17]),
        ("run_all", 0, [17]),
        ("skip", 7, [17]),
    ],
)
def test_a_jump_of_days_is_as_the_policy_says(
    source: Account, saver: Account, policy: str, lateness: int, paid: list[int]
) -> None:
    payment = order(
        source,
        saver,
        now=JANUARY,
        frequency="daily",
        catch_up=policy,
        max_lateness_days=lateness,
    )

    run(utc("2026-01-17T12:00"))

    assert days(payment) == ["2026-01-15", "2026-01-16", "2026-01-17"]
    assert [each.date.day for each in runs(payment) if each.status == "succeeded"] == paid
    assert balance_of(saver) == 100 * len(paid)


@pytest.mark.parametrize(
    ("policy", "lateness", "paid"),
    [("run_once", 7, 1), ("run_all", 7, 8), ("run_all", 400, 366), ("skip", 7, 1)],
)
def test_a_jump_of_a_year_is_as_the_policy_says(
    source: Account, saver: Account, policy: str, lateness: int, paid: int
) -> None:
    payment = order(
        source,
        saver,
        now=JANUARY,
        frequency="daily",
        catch_up=policy,
        max_lateness_days=lateness,
    )

    run(utc("2027-01-15T12:00"))

    assert len(runs(payment)) == 366
    assert statuses(payment).count("succeeded") == paid
    assert balance_of(saver) == 100 * paid
    assert again(payment).next_run_at == utc("2027-01-16T12:00")


def test_all_are_too_late_after_a_month_without_one(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY)

    run(utc("2026-02-10"))

    assert statuses(payment) == ["skipped"]
    assert again(payment).next_run_at == utc("2026-02-15T12:00")


def test_a_clock_that_goes_back_pays_nothing_again(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, frequency="daily")
    run(utc("2026-01-16T12:00"))

    for moment in ("2026-01-15T12:00", "2026-01-16T11:00", "2026-01-16T12:00"):
        run(utc(moment))

    assert balance_of(saver) == 100
    assert len(runs(payment)) == 2


# --- Zones ---------------------------------------------------------------------------------------


def run_hourly(first: str, hours: int) -> None:
    for hour in range(hours):
        run(utc(first) + dt.timedelta(hours=hour))


def test_an_hour_that_is_not_there_is_an_hour_later_and_once(
    source: Account, saver: Account
) -> None:
    # America/New_York goes from 02:00 to 03:00 on 8 March 2026.
    terms: dict[str, Any] = {"time_zone": "America/New_York", "run_at": dt.time(2, 30)}
    payment = order(source, saver, now=utc("2026-03-07T00:00"), frequency="daily", **terms)

    run_hourly("2026-03-07T00:31", 72)

    assert [each.scheduled_for for each in runs(payment)] == [
        # The zone's day is the 6th when it is created, and 02:30 of it is past.
        utc("2026-03-06T07:30"),
        utc("2026-03-07T07:30"),
        # 03:30 by the clock, which is UTC-4 by then.
        utc("2026-03-08T07:30"),
        utc("2026-03-09T06:30"),
    ]


def test_an_hour_that_comes_twice_is_the_first_and_once(source: Account, saver: Account) -> None:
    # And back from 02:00 to 01:00 on 1 November 2026.
    terms: dict[str, Any] = {"time_zone": "America/New_York", "run_at": dt.time(1, 30)}
    payment = order(source, saver, now=utc("2026-10-31T05:00"), frequency="daily", **terms)

    run_hourly("2026-10-31T05:31", 72)

    assert [each.scheduled_for for each in runs(payment)] == [
        utc("2026-10-31T05:30"),
        utc("2026-11-01T05:30"),
        utc("2026-11-02T06:30"),
    ]


# --- Month ends ----------------------------------------------------------------------------------


def test_29_february_is_the_28th_in_other_years_and_comes_back(
    source: Account, saver: Account
) -> None:
    payment = order(source, saver, now=utc("2028-02-29"), frequency="yearly")

    for year in range(2028, 2033):
        run(utc(f"{year}-03-01"))

    assert days(payment) == [
        "2028-02-29",
        "2029-02-28",
        "2030-02-28",
        "2031-02-28",
        "2032-02-29",
    ]


def test_the_31st_comes_back_whatever_else_is_changed(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, day_of_month=31)
    edits: list[dict[str, Any]] = [
        {"amount": 5},
        {"adjustment": "previous"},
        {"run_at": dt.time(11, 0)},
        {"time_zone": "Asia/Jakarta", "adjustment": "none"},
        {"run_at": NOON, "time_zone": "UTC", "frequency": "monthly", "day_of_month": 31},
    ]

    for month, changes in enumerate(edits, 1):
        run(utc(f"2026-{month + 1:02}-01"))
        change_recurring_payment(
            tenant_id=source.tenant_id,
            payment_id=payment.pk,
            changes=changes,
            now=utc(f"2026-{month + 1:02}-01"),
        )

    assert [each.nominal_date.isoformat()[5:] for each in runs(payment)] == [
        "01-31",
        "02-28",
        "03-31",
        "04-30",
        "05-31",
    ]
    assert again(payment).next_run_at == utc("2026-06-30T12:00")


def test_a_pause_moves_no_date(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, day_of_month=31)
    key: dict[str, Any] = {"tenant_id": source.tenant_id, "payment_id": payment.pk}

    pause_recurring_payment(**key, reason="x", now=utc("2026-02-10"))
    resumed = resume_recurring_payment(**key, now=utc("2026-03-01"))

    assert resumed.next_run_at == utc("2026-03-31T12:00")
    assert resumed.next_number == 2


# --- Test clocks ---------------------------------------------------------------------------------


@pytest.fixture
def clocked(tenant: Tenant) -> Tenant:
    return start_test_clock(tenant_id=tenant.pk, at=JANUARY, now=utc("2026-01-01"))


def advance(tenant: Tenant, to: str) -> bool:
    """Move the clock on; return whether it got there."""
    made = advance_test_clock(tenant_id=tenant.pk, to=utc(to), now=utc("2026-01-01"))
    return made.is_complete


@pytest.mark.usefixtures("clocked")
def test_a_year_is_one_advance(tenant: Tenant, source: Account, saver: Account) -> None:
    payment = order(source, saver, now=utc("2026-01-01"), day_of_month=31)

    assert advance(tenant, "2027-01-15")

    assert len(runs(payment)) == 12
    assert set(statuses(payment)) == {"succeeded"}
    # Each at its time, though nobody looked in between.
    assert [each.ended_at for each in runs(payment)] == [
        each.scheduled_for for each in runs(payment)
    ]
    assert balance_of(saver) == 1_200


@pytest.mark.usefixtures("clocked")
def test_the_real_clock_moves_nobody_who_has_their_own(
    source: Account, saver: Account, other_tenant: Tenant
) -> None:
    theirs = order(source, saver, now=utc("2026-01-01"))
    rich, other = open_account(other_tenant, balance=100), open_account(other_tenant)
    real = order(rich, other, now=utc("2026-01-01"))

    run(utc("2026-01-15T12:00"))

    assert (statuses(theirs), statuses(real)) == ([], ["skipped"])


@pytest.mark.usefixtures("clocked")
def test_their_own_clock_moves_nobody_else(
    tenant: Tenant, source: Account, saver: Account, other_tenant: Tenant
) -> None:
    order(source, saver, now=utc("2026-01-01"))
    rich, other = open_account(other_tenant, balance=100), open_account(other_tenant)
    real = order(rich, other, now=utc("2026-01-01"))

    assert advance(tenant, "2026-06-01")

    assert statuses(real) == []
    assert balance_of(saver) == 500


@pytest.mark.usefixtures("clocked")
def test_retries_come_at_their_time_of_the_clock(tenant: Tenant, saver: Account) -> None:
    payment = order(open_account(tenant), saver, now=utc("2026-01-01"), retry_count=2)

    assert advance(tenant, "2026-01-17")

    [failed] = runs(payment)
    assert (failed.status, failed.attempts) == ("failed", 3)
    assert failed.ended_at == utc("2026-01-16T00:00")


@pytest.mark.usefixtures("clocked")
def test_more_than_one_step_does_is_not_taken_for_done(
    tenant: Tenant, source: Account, saver: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("payments.services.recurring.clock.RUNS_MAX", 2)
    payments = [order(source, saver, now=utc("2026-01-01")) for _ in range(5)]

    assert advance(tenant, "2026-01-15T12:00")

    assert [statuses(each) for each in payments] == [["succeeded"]] * 5


@pytest.mark.usefixtures("clocked")
def test_the_clock_waits_for_what_a_dead_worker_holds(
    tenant: Tenant, source: Account, saver: Account
) -> None:
    payment = order(source, saver, now=utc("2026-01-01"))
    take_due(now=utc("2026-01-15T12:00"), limit=10, tenant_id=tenant.pk)

    assert not advance(tenant, "2026-03-01")
    assert balance_of(saver) == 0
    # Its minute is over.
    RecurringRun.objects.update(leased_until=utc("2026-01-01"))
    assert advance(tenant, "2026-03-01")

    assert statuses(payment) == ["succeeded", "succeeded"]


def test_what_was_there_before_goes_by_the_clock(
    tenant: Tenant, source: Account, saver: Account
) -> None:
    payment = order(source, saver, now=utc("2026-01-01"), day_of_month=31)
    start_test_clock(tenant_id=tenant.pk, at=JANUARY, now=utc("2026-01-01"))

    run(utc("2026-03-01"))
    assert statuses(payment) == []
    advance(tenant, "2026-03-01")

    assert statuses(payment) == ["succeeded", "succeeded"]


@pytest.mark.usefixtures("clocked")
def test_a_clock_is_begun_once(tenant: Tenant) -> None:
    with pytest.raises(InvalidState):
        start_test_clock(tenant_id=tenant.pk, at=JANUARY, now=utc("2026-01-01"))


# --- Any terms, any jumps ------------------------------------------------------------------------

RICH = 10_000_000
_rules = st.one_of(
    st.builds(lambda n: {"frequency": "daily", "interval": n}, st.integers(1, 40)),
    st.builds(lambda n: {"frequency": "weekly", "interval": n}, st.integers(1, 5)),
    st.builds(
        lambda n, day: {"frequency": "monthly", "interval": n, "day_of_month": day},
        st.integers(1, 4),
        st.sampled_from([None, 1, 15, 29, 30, 31, -1]),
    ),
    st.just({"frequency": "quarterly", "day_of_month": 31}),
    st.just({"frequency": "rrule", "rrule": "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1"}),
)
_terms = st.fixed_dictionaries(
    {
        "adjustment": st.sampled_from([each.value for each in Adjustment]),
        "time_zone": st.sampled_from(["UTC", "America/New_York", "Pacific/Auckland"]),
        "run_at": st.sampled_from([dt.time(0, 0), dt.time(2, 30), dt.time(23, 59)]),
        "start_date": st.dates(dt.date(2026, 2, 1), dt.date(2028, 12, 31)),
        "max_runs": st.none() | st.integers(1, 20),
        "catch_up": st.sampled_from(["run_once", "run_all", "skip"]),
        "max_lateness_days": st.integers(0, 60),
    }
)
_jumps = st.lists(
    st.one_of(
        st.timedeltas(dt.timedelta(0), dt.timedelta(hours=3)),
        st.timedeltas(dt.timedelta(0), dt.timedelta(days=40)),
        st.just(dt.timedelta(days=366)),
    ),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rule=_rules, terms=_terms, jumps=_jumps)
@example(
    # A Sunday, and paid on the Friday before it, in the month before its start.
    rule={"frequency": "daily", "interval": 1},
    terms={
        "adjustment": "previous",
        "time_zone": "UTC",
        "run_at": dt.time(0, 0),
        "start_date": dt.date(2026, 2, 1),
        "max_runs": None,
        "catch_up": "run_once",
        "max_lateness_days": 0,
    },
    jumps=[dt.timedelta(days=16)],
)
def test_each_date_is_run_skipped_or_missed_once_and_as_its_policy_says(
    db: None, rule: dict[str, Any], terms: dict[str, Any], jumps: list[dt.timedelta]
) -> None:
    tenant = create_tenant(name="Any Bank", now=JANUARY)
    source, saver = open_account(tenant, balance=RICH), open_account(tenant)
    payment = order(source, saver, now=JANUARY, **rule, **terms)
    looks = [JANUARY]
    for jump in jumps:
        looks.append(looks[-1] + jump)
        run(looks[-1])

    expected: dict[dt.datetime, tuple[dt.date, str]] = {}
    for last, now in pairwise(looks):
        due = [each for each in _plan(rule, terms, now) if last < each[1]]
        for nominal, instant in due:
            is_paid = _is_paid(terms, now - instant, is_last=instant == due[-1][1])
            expected[instant] = (nominal, "succeeded" if is_paid else "skipped")
    made = {each.scheduled_for: (each.nominal_date, str(each.status)) for each in runs(payment)}
    assert made == expected
    paid = sum(status == "succeeded" for _, status in expected.values())
    assert (balance_of(source), balance_of(saver)) == (RICH - 100 * paid, 100 * paid)
    is_over = terms["max_runs"] is not None and again(payment).next_run_at is None
    assert again(payment).status == ("completed" if is_over else "active")


def _plan(
    rule: dict[str, Any], terms: dict[str, Any], until: dt.datetime
) -> list[tuple[dt.date, dt.datetime]]:
    """Return the nominal dates, and when they run, until the moment: counted from the start."""
    calendar = BusinessCalendar()
    zone = zone_of(terms["time_zone"])
    counted = Rule(
        Frequency(rule["frequency"]),
        rule.get("interval", 1),
        rule.get("day_of_month"),
        rule.get("rrule", ""),
    )
    plan: list[tuple[dt.date, dt.datetime]] = []
    taken: set[dt.date] = set()
    n = 0
    while terms["max_runs"] is None or n < terms["max_runs"]:
        nominal = nominal_date(counted, terms["start_date"], n)
        day = adjusted(nominal, Adjustment(terms["adjustment"]), calendar.is_business_day)
        instant = instant_of(day, terms["run_at"], zone)
        if instant > until:
            break
        if day not in taken:
            taken.add(day)
            plan.append((nominal, instant))
        n += 1
    return plan


def _is_paid(terms: dict[str, Any], late: dt.timedelta, *, is_last: bool) -> bool:
    is_late = late > dt.timedelta(hours=1)
    if is_late and late > dt.timedelta(days=terms["max_lateness_days"]):
        return False
    return {"run_once": is_last, "run_all": True, "skip": not is_late}[terms["catch_up"]]
