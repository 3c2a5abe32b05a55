"""
The first half of the sweep: what has fallen due becomes runs, and its payment moves on.

Both commit together, before anything is posted; so a run is there once, whoever looks, however
often, and whatever happens to the worker then.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.db.models.base import ModelState

from core.changes import record_events
from core.database import sql_array, sql_text_array
from core.errors import DomainError
from core.ids import new_id
from payments.models import RecurringPayment, RecurringRun
from payments.services.recurring.dates import (
    Occurrence,
    OwnDays,
    days_of,
    occurrences,
    own_days_of,
    set_next,
)
from payments.services.recurring.states import complete_ended, set_aside

_R = RecurringRun.Status
# What has a worker look at what is due.
RUNS_TASK = "payments.run_recurring_payments"
# Of one payment in one look; there are more after a long outage, and the next look takes them.
CAUGHT_UP_MAX = 400
# Of all in one look, so that they are paid before their lease ends; about.
RUNS_MAX = 4_000
# Who does without missed runs still runs what is only a little late.
ON_TIME = dt.timedelta(hours=1)
# What the dates of a payment fail by that has been made impossible since: by data, not by chance.
UNTELLABLE = (DomainError, ArithmeticError, LookupError, TypeError, ValueError)
# A worker that has not ended a run by then is taken for dead.
LEASE_S = 60

# All that runs, and what comes after them, are made of.
_READ = (
    *("id", "tenant_id", "description", "kind", "source_account_id", "destination_account_id"),
    *("beneficiary", "gateway", "currency", "amount_type", "amount", "floor_amount", "min_balance"),
    "target_balance",
    *("trigger", "frequency", "interval", "day_of_month", "rrule", "time_zone", "run_at"),
    *("adjustment", "holidays", "start_date", "end_date", "max_runs", "on_insufficient_funds"),
    *("retry_count", "retry_interval_minutes", "pause_after_failures", "catch_up"),
    *("max_lateness_days", "status", "next_number", "next_nominal_date", "next_date"),
    *("next_run_at", "consecutive_failures", "is_on_test_clock"),
)

_INSERT = """
INSERT INTO payments_recurringrun (
    id, tenant_id, recurring_payment_id, number, nominal_date, date, scheduled_for, status,
    error_code, error_detail, amount, attempts, deliveries, next_attempt_at, lease, leased_until,
    is_on_test_clock, created_at, ended_at)
SELECT r.id, r.tenant_id, r.payment_id, r.number, r.nominal_date, r.date, r.scheduled_for, r.status,
       CASE r.status WHEN 'skipped' THEN 'missed' ELSE '' END, '', r.amount, 0,
       CASE WHEN r.status = 'due' AND %(lease)s::uuid IS NOT NULL THEN 1 ELSE 0 END,
       CASE r.status WHEN 'due' THEN %(now)s::timestamptz END,
       CASE r.status WHEN 'due' THEN %(lease)s::uuid END,
       CASE WHEN r.status = 'due' AND %(lease)s::uuid IS NOT NULL
            THEN clock_timestamp() + make_interval(secs => %(lease_s)s) END,
       r.on_test_clock, %(now)s, CASE r.status WHEN 'skipped' THEN %(now)s::timestamptz END
  FROM unnest(%(ids)s::uuid[], %(tenants)s::uuid[], %(payments)s::uuid[], %(numbers)s::int[],
              %(nominals)s::date[], %(dates)s::date[], %(times)s::timestamptz[],
              %(statuses)s::text[], %(amounts)s::bigint[], %(test_clocks)s::boolean[])
       r(id, tenant_id, payment_id, number, nominal_date, date, scheduled_for, status, amount,
         on_test_clock)
ON CONFLICT (recurring_payment_id, scheduled_for, trigger_transaction_id) DO NOTHING
RETURNING id
"""
_MOVE_ON = """
UPDATE payments_recurringpayment p
   SET next_number = m.number, next_nominal_date = m.nominal_date, next_date = m.date,
       next_run_at = m.run_at, updated_at = %s
  FROM unnest(%s::uuid[], %s::int[], %s::date[], %s::date[], %s::timestamptz[])
       m(id, number, nominal_date, date, run_at)
 WHERE p.id = m.id
"""


@dataclass(slots=True)
class Work:
    """A run that is ours to do until its lease ends, and the payment that it is of."""

    id: UUID
    payment: RecurringPayment
    date: dt.date
    scheduled_for: dt.datetime
    amount: int | None = None
    attempts: int = 0
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class _New:
    id: UUID
    payment: RecurringPayment
    occurrence: Occurrence
    is_missed: bool


def take_due(
    *, now: dt.datetime, limit: int, tenant_id: UUID | None = None
) -> tuple[int, list[Work], UUID]:
    """
    Take up at most `limit` payments that are due, the longest due first; return how many there
    were, the runs that are ours to do now, and the lease that they are ours by.

    Others that look meanwhile take others. With a tenant: of that one, whose clock is a test clock;
    without: of all whose clock is the real one. Three round trips and one row for each run.
    """
    lease = new_id()
    with transaction.atomic():
        payments = _locked(now, limit, tenant_id)
        if not payments:
            return 0, [], lease
        moved = [each for each in payments if each.adjustment != "none"]
        own_days = own_days_of(each.tenant_id for each in moved) if moved else {}
        taken: list[RecurringPayment] = []
        set_asides = 0
        new: list[_New] = []
        for payment in payments:
            if len(new) >= RUNS_MAX:
                # The rest stays due.
                break
            try:
                new += _runs_of(payment, own_days.get(payment.tenant_id, {}), now)
            except UNTELLABLE as fault:
                # One payment must not stop all others.
                set_aside(payment, fault, now)
                set_asides += 1
            else:
                taken.append(payment)
        work = _write(new, lease, now)
        _move_on(taken, now)
        # Of what was missed altogether nothing is left to end it.
        done = {each.payment.pk for each in work}
        is_over = [each.pk for each in taken if each.next_run_at is None and each.pk not in done]
        complete_ended(is_over, now)
    return len(taken) + set_asides, work, lease


def write_due(payment: RecurringPayment, *, now: dt.datetime) -> bool:
    """
    Write down what the payment, active and locked by the caller, is due for by now; return whether
    there was anything. Whoever looks next pays it, as the payment is before it changes.
    """
    if payment.next_run_at is None or payment.next_run_at > now:
        return False
    own_days = days_of(payment.tenant_id)
    while payment.next_run_at is not None and payment.next_run_at <= now:
        _write(_runs_of(payment, own_days, now), None, now)
    return True


def _write(new: Sequence[_New], lease: UUID | None, now: dt.datetime) -> list[Work]:
    """Write the runs, and tell of those that were missed; return what is to be paid."""
    inserted = _insert(new, lease, now)
    written = [each for each in new if each.id in inserted]
    _tell_of_missed([each for each in written if each.is_missed], now)
    return [
        Work(each.id, each.payment, each.occurrence.date, each.occurrence.run_at, _amount(each))
        for each in written
        if not each.is_missed
    ]


def _amount(run: _New) -> int | None:
    """Return what a run pays where that is known beforehand: it stays so, whatever changes."""
    return None if run.is_missed else run.payment.amount


def _locked(now: dt.datetime, limit: int, tenant_id: UUID | None) -> list[RecurringPayment]:
    due = RecurringPayment.objects.filter(
        status=RecurringPayment.Status.ACTIVE, next_run_at__lte=now, next_run_at__isnull=False
    )
    if tenant_id is None:
        due = due.filter(is_on_test_clock=False)
    else:
        due = due.filter(is_on_test_clock=True, tenant_id=tenant_id)
    found = due.order_by("next_run_at").select_for_update(skip_locked=True, no_key=True)
    return [_payment_with(values) for values in found.values_list(*_READ)[:limit]]


def _payment_with(values: tuple[Any, ...]) -> RecurringPayment:
    """
    Return a payment that has the columns of _READ; it asks for the others when they are wanted.

    Django's own way to make one takes a fifth of all the time that a run takes.
    """
    payment = RecurringPayment.__new__(RecurringPayment)
    payment.__dict__.update(zip(_READ, values, strict=True))
    payment._state = ModelState()
    payment._state.adding, payment._state.db = False, DEFAULT_DB_ALIAS
    return payment


def _runs_of(payment: RecurringPayment, own_days: OwnDays, now: dt.datetime) -> list[_New]:
    """Return the runs that the payment is due for, and set on it what comes after them."""
    coming = occurrences(
        payment,
        own_days,
        number=payment.next_number,
        nominal=payment.next_nominal_date,
    )
    due: list[Occurrence] = []
    following: Occurrence | None = None
    for occurrence in islice(coming, CAUGHT_UP_MAX + 1):
        if occurrence.run_at > now or len(due) == CAUGHT_UP_MAX:
            following = occurrence
            break
        due.append(occurrence)
    set_next(payment, following)
    if following is None and due:
        # Should its end be moved: there it goes on.
        payment.next_number = due[-1].number + 1
    is_last_known = following is None or following.run_at > now
    return [
        _New(
            new_id(),
            payment,
            occurrence,
            _is_missed(payment, occurrence, now, is_last=is_last_known and occurrence is due[-1]),
        )
        for occurrence in due
    ]


def _is_missed(
    payment: RecurringPayment, occurrence: Occurrence, now: dt.datetime, *, is_last: bool
) -> bool:
    late = now - occurrence.run_at
    if late > dt.timedelta(days=payment.max_lateness_days) and late > ON_TIME:
        return True
    if payment.catch_up == RecurringPayment.CatchUp.SKIP:
        return late > ON_TIME
    return payment.catch_up == RecurringPayment.CatchUp.RUN_ONCE and not is_last


def _insert(new: Sequence[_New], lease: UUID | None, now: dt.datetime) -> set[UUID]:
    """Write the runs; return the ids of those that nobody had written."""
    if not new:
        return set()
    when = [each.occurrence for each in new]
    with connection.cursor() as cursor:
        cursor.execute(
            _INSERT,
            {
                "now": now,
                "lease": lease,
                "lease_s": LEASE_S,
                "ids": _uuids(each.id for each in new),
                "tenants": _uuids(each.payment.tenant_id for each in new),
                "payments": _uuids(each.payment.pk for each in new),
                "numbers": sql_array([str(each.number) for each in when]),
                "nominals": sql_array([each.nominal_date.isoformat() for each in when]),
                "dates": sql_array([each.date.isoformat() for each in when]),
                "times": sql_text_array([each.run_at.isoformat() for each in when]),
                "statuses": sql_array(
                    [str(_R.SKIPPED.value if each.is_missed else _R.DUE.value) for each in new]
                ),
                "amounts": sql_array([str(_amount(each) or "NULL") for each in new]),
                "test_clocks": sql_array([str(each.payment.is_on_test_clock) for each in new]),
            },
        )
        return {row[0] for row in cursor.fetchall()}


def _move_on(payments: Sequence[RecurringPayment], now: dt.datetime) -> None:
    def times(values: Iterable[dt.date | None]) -> str:
        return sql_array([f'"{value.isoformat()}"' if value else "NULL" for value in values])

    with connection.cursor() as cursor:
        cursor.execute(
            _MOVE_ON,
            [
                now,
                _uuids(each.pk for each in payments),
                sql_array([str(each.next_number) for each in payments]),
                times(each.next_nominal_date for each in payments),
                times(each.next_date for each in payments),
                times(each.next_run_at for each in payments),
            ],
        )


def _tell_of_missed(missed: Sequence[_New], now: dt.datetime) -> None:
    by_tenant: dict[UUID, list[_New]] = {}
    for each in missed:
        by_tenant.setdefault(each.payment.tenant_id, []).append(each)
    for tenant_id, runs in by_tenant.items():
        record_events(
            tenant_id=tenant_id,
            event_type="recurring_run.skipped",
            events=[
                (
                    run.id,
                    {
                        "recurring_payment_id": str(run.payment.pk),
                        "scheduled_for": run.occurrence.run_at.isoformat(),
                        "code": "missed",
                    },
                )
                for run in runs
            ],
            now=now,
        )


def _uuids(ids: Iterable[UUID]) -> str:
    return sql_array([id_.hex for id_ in ids])
