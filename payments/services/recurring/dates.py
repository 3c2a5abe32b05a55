"""When a recurring payment runs: its rule's dates, moved to business days, at a local time."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from core.calendars.business_days import Adjustment, BusinessCalendar, adjusted
from core.calendars.rules import Frequency, Rule, describe, following, nominal_date
from core.calendars.zones import instant_of, zone_of
from core.errors import InvalidRequest
from payments.models import CalendarDay, RecurringPayment

# Days of one tenant that are, or are not, business days against its country's calendar.
OwnDays = Mapping[dt.date, bool]


@dataclass(frozen=True, slots=True)
class Occurrence:
    # From 0.
    number: int
    nominal_date: dt.date
    date: dt.date
    run_at: dt.datetime


def rule_of(payment: RecurringPayment) -> Rule:
    return _rule(payment.frequency, payment.interval, payment.day_of_month, payment.rrule)


def sentence_of(payment: RecurringPayment) -> str:
    """Return its rule in English, such as "every month on the 1st"."""
    if payment.trigger == RecurringPayment.Trigger.SALARY:
        return "when a salary comes"
    return describe(rule_of(payment), payment.start_date)


def calendar_of(holidays: str, own_days: OwnDays) -> BusinessCalendar:
    """
    Return the calendar of `ID`, of `MY-10`, or of nobody's holidays.

    :raises InvalidRequest: no such country or part of it
    """
    country, _, part = holidays.partition("-")
    try:
        return BusinessCalendar(country or None, part or None, own_days)
    except InvalidRequest as refusal:
        raise InvalidRequest(refusal.detail, field="holidays") from refusal


def occurrences(
    payment: RecurringPayment,
    own_days: OwnDays,
    *,
    number: int,
    nominal: dt.date | None = None,
    after: dt.date | None = None,
) -> Iterator[Occurrence]:
    """
    Yield the payment's dates from the one of the number on, until its end.

    `nominal` is that one's nominal date, where it is known. A date that business days move onto the
    one before, or onto `after`, is paid with it, and not again.
    """
    rule, adjustment = rule_of(payment), Adjustment(payment.adjustment)
    zone = zone_of(payment.time_zone)
    is_business_day = _is_business_day(payment, own_days)
    found: dt.date | None
    found = nominal_date(rule, payment.start_date, number) if nominal is None else nominal
    while found is not None:
        if payment.max_runs is not None and number >= payment.max_runs:
            return
        if payment.end_date is not None and found > payment.end_date:
            return
        day = adjusted(found, adjustment, is_business_day)
        if after is None or day > after:
            yield Occurrence(number, found, day, instant_of(day, payment.run_at, zone))
            after = day
        found = following(rule, payment.start_date, number, found)
        number += 1


def set_next(payment: RecurringPayment, occurrence: Occurrence | None) -> None:
    """Put on the payment when it is due next; None: never again."""
    if occurrence is None:
        payment.next_nominal_date = payment.next_date = payment.next_run_at = None
        return
    payment.next_number = occurrence.number
    payment.next_nominal_date = occurrence.nominal_date
    payment.next_date = occurrence.date
    payment.next_run_at = occurrence.run_at


def own_days_of(tenant_ids: Iterable[UUID]) -> dict[UUID, dict[dt.date, bool]]:
    """Return the days of their own that tenants have; one round trip."""
    found: dict[UUID, dict[dt.date, bool]] = {}
    days = CalendarDay.objects.filter(tenant_id__in=set(tenant_ids))
    for tenant_id, day, is_business_day in days.values_list("tenant_id", "date", "is_business_day"):
        found.setdefault(tenant_id, {})[day] = is_business_day
    return found


@lru_cache(maxsize=1_000)
def _rule(frequency: str, interval: int, day_of_month: int | None, rrule: str) -> Rule:
    # Most payments have one of a few rules, and each is checked when it is made.
    return Rule(Frequency(frequency), interval, day_of_month, rrule)


def days_of(tenant_id: UUID) -> OwnDays:
    """Return the days of its own that one tenant has."""
    return own_days_of([tenant_id]).get(tenant_id, {})


def _is_business_day(payment: RecurringPayment, own_days: OwnDays) -> Callable[[dt.date], bool]:
    if payment.adjustment == Adjustment.NONE:
        return lambda _: True
    return calendar_of(payment.holidays, own_days).is_business_day
