"""A tenant's own days: holidays that no country has, and working days where its country has one."""

import datetime as dt
from uuid import UUID

from django.db import transaction

from core.calendars.business_days import MOVED_DAYS_MAX
from core.changes import record_change
from core.database import refusing
from core.errors import AlreadyExists, InvalidState, NotFound
from identity.models import Tenant
from payments.models import CalendarDay, RecurringPayment
from payments.services.recurring.dates import days_of, occurrences, set_next
from payments.services.recurring.due import UNTELLABLE

_P = RecurringPayment
# Read with each look at what is due.
DAYS_MAX = 5_000
_BATCH = 1_000
_TAKEN = "calendar_day_unique"


def add_calendar_day(
    *,
    tenant_id: UUID,
    date: dt.date,
    name: str,
    is_business_day: bool,
    now: dt.datetime,
) -> CalendarDay:
    """
    Have the tenant's banks work on the day, or not, whatever its country's calendar says.

    What is due about then, and goes by business days, is moved.

    :raises AlreadyExists: something is said of the day
    :raises InvalidState: there are 5,000 such days
    """
    taken = AlreadyExists(f"{date} is in the calendar. Remove it first.")
    with refusing({_TAKEN: taken}), transaction.atomic():
        # One at a time: each then counts with the days of those before.
        Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)
        if CalendarDay.objects.filter(tenant_id=tenant_id).count() >= DAYS_MAX:
            raise InvalidState(f"There are {DAYS_MAX} days. Remove some that are past.")
        day = CalendarDay.objects.create(
            tenant_id=tenant_id, date=date, name=name, is_business_day=is_business_day
        )
        _move_dates(tenant_id, date, now)
        record_change(
            tenant_id=tenant_id,
            action="calendar_day.added",
            object_id=day.pk,
            now=now,
            after=_told(day),
        )
    return day


def remove_calendar_day(
    *, tenant_id: UUID, day_id: UUID, now: dt.datetime, reason: str = ""
) -> None:
    """
    Have the day be what the country's calendar says; what is due about then is moved.

    :raises NotFound: no such day in this tenant
    """
    with transaction.atomic():
        Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)
        day = CalendarDay.objects.filter(tenant_id=tenant_id, pk=day_id).first()
        if day is None:
            raise NotFound("No such calendar day.")
        before = _told(day)
        CalendarDay.objects.filter(pk=day.pk).delete()
        _move_dates(tenant_id, day.date, now)
        record_change(
            tenant_id=tenant_id,
            action="calendar_day.removed",
            object_id=day_id,
            now=now,
            before=before,
            reason=reason,
        )


def _move_dates(tenant_id: UUID, date: dt.date, now: dt.datetime) -> None:
    """
    Count the next dates anew of payments that the day may move.

    One that somebody else makes or changes meanwhile keeps the date that it found: the sweep counts
    again when it is due, and finds it due later.
    """
    own_days = days_of(tenant_id)
    reach = dt.timedelta(days=MOVED_DAYS_MAX)
    near = _P.objects.filter(
        tenant_id=tenant_id,
        status__in=(_P.Status.ACTIVE, _P.Status.PAUSED),
        next_nominal_date__range=(date - reach, date + reach),
    ).exclude(adjustment="none")
    last: UUID | None = None
    while True:
        rest = near if last is None else near.filter(pk__gt=last)
        # In the order that everybody locks payments in.
        batch = list(rest.order_by("pk").select_for_update(no_key=True)[:_BATCH])
        moved = []
        for payment in batch:
            before = payment.next_run_at
            number, nominal = payment.next_number, payment.next_nominal_date
            try:
                first = next(occurrences(payment, own_days, number=number, nominal=nominal))
            except UNTELLABLE:
                # The sweep sees to it when it is due.
                continue
            set_next(payment, first)
            if payment.next_run_at != before:
                payment.updated_at = now
                moved.append(payment)
        _P.objects.bulk_update(moved, ["next_date", "next_run_at", "updated_at"])
        if len(batch) < _BATCH:
            return
        last = batch[-1].pk


def _told(day: CalendarDay) -> dict[str, object]:
    return {"date": day.date, "name": day.name, "is_business_day": day.is_business_day}
