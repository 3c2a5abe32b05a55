"""How often something recurs, and the dates that come of it, counted from an anchor."""

import calendar
import datetime as dt
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from core.calendars.recurrence import (
    FIRST_DAY,
    INTERVAL_MAX,
    LAST_DAY,
    dates_from,
    days_in_month,
    read_rrule,
)
from core.errors import InvalidRequest


class Frequency(StrEnum):
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"
    YEARLY = "yearly"
    RRULE = "rrule"


_DAYS: Final = {Frequency.DAILY: 1, Frequency.WEEKLY: 7}
_MONTHS: Final = {Frequency.MONTHLY: 1, Frequency.QUARTERLY: 3, Frequency.YEARLY: 12}
_UNITS: Final = {
    Frequency.DAILY: "day",
    Frequency.WEEKLY: "week",
    Frequency.MONTHLY: "month",
    Frequency.QUARTERLY: "quarter",
    Frequency.YEARLY: "year",
}
# Counted from the month's end no further than Open Banking does (IntrvlMnthDay, -5 to -1).
DAYS_FROM_END_MAX: Final = 5
_FROM_END: Final = {-1: "last", -2: "last but one", -3: "third last", -4: "fourth last"}
_LAST_ORDINAL: Final = LAST_DAY.toordinal()


@dataclass(frozen=True, slots=True)
class Rule:
    """
    Every `interval` days, weeks, months, quarters or years; or an RRULE, which has an INTERVAL.

    Weeks keep the anchor's weekday. Months keep `day_of_month`, or the anchor's day: 1 to 31, where
    a month that is too short gives its last day, and the next one the day itself again; or -1 (the
    last day) to -5. Days 29 to 31 in an RRULE skip such months instead, as RFC 5545 says.

    :raises InvalidRequest: by `frequency`, `interval`, `day_of_month` or `rrule`
    """

    frequency: Frequency
    interval: int = 1
    day_of_month: int | None = None
    rrule: str = ""

    def __post_init__(self) -> None:
        if self.frequency not in Frequency.__members__.values():
            raise InvalidRequest(
                f"The frequency is one of {', '.join(Frequency)}.", field="frequency"
            )
        if type(self.interval) is not int or not 1 <= self.interval <= INTERVAL_MAX:
            raise InvalidRequest(
                f"The interval is a whole number from 1 to {INTERVAL_MAX}.", field="interval"
            )
        if self.day_of_month is not None:
            self._check_day_of_month()
        if self.frequency == Frequency.RRULE:
            if self.interval != 1:
                raise InvalidRequest("An RRULE has an INTERVAL of its own.", field="interval")
            read_rrule(self.rrule)
        elif self.rrule:
            raise InvalidRequest("This goes with the frequency rrule only.", field="rrule")

    def _check_day_of_month(self) -> None:
        if self.frequency not in _MONTHS:
            raise InvalidRequest(
                "This goes with the frequencies monthly, quarterly and yearly only.",
                field="day_of_month",
            )
        day = self.day_of_month
        if type(day) is not int or day == 0 or not -DAYS_FROM_END_MAX <= day <= 31:
            raise InvalidRequest(
                "The day of the month is a whole number from 1 to 31, or from -1, the last day,"
                f" to -{DAYS_FROM_END_MAX}.",
                field="day_of_month",
            )


def nominal_date(rule: Rule, anchor: dt.date, n: int) -> dt.date:
    """
    Return the rule's n-th date, from 0, on or after the anchor, before any adjustment.

    It depends on the anchor and n alone, never on the date before. It begins with the first that
    fits: day 15, anchored on the 20th, comes in the next month, and quarters and years count from
    there. An RRULE is counted through from the anchor: to go one on, ask `following`.

    :raises InvalidRequest: no such date before the year 3000, an RRULE that does not come within a
        hundred years, or an anchor before 1900
    """
    if n < 0:
        raise ValueError("dates are counted from 0")
    if not FIRST_DAY <= anchor <= LAST_DAY:
        raise InvalidRequest(f"Dates go from {FIRST_DAY} to {LAST_DAY}.")
    if rule.frequency == Frequency.RRULE:
        dates = dates_from(read_rrule(rule.rrule), anchor=anchor, earliest=anchor)
        found = next(itertools.islice(dates, n, None), None)
        if found is None:
            raise InvalidRequest("From this day on the rule does not come.", field="rrule")
        return found
    found = _counted(rule, anchor, n)
    if found is None:
        raise InvalidRequest(f"Dates go from {FIRST_DAY} to {LAST_DAY}.")
    return found


def following(rule: Rule, anchor: dt.date, n: int, previous: dt.date) -> dt.date | None:
    """
    Return the date of n + 1, where `previous` is the nominal date of n; None: it was the last.

    The same as nominal_date, but an RRULE is not counted from its anchor again.
    """
    if rule.frequency != Frequency.RRULE:
        return _counted(rule, anchor, n + 1)
    earliest = previous + dt.timedelta(days=1)
    return next(dates_from(read_rrule(rule.rrule), anchor=anchor, earliest=earliest), None)


def nominal_dates(rule: Rule, anchor: dt.date) -> Iterator[dt.date]:
    """
    Yield the rule's dates, the first of them first.

    :raises InvalidRequest: as nominal_date, when the first is asked for
    """
    day: dt.date | None = nominal_date(rule, anchor, 0)
    for n in itertools.count():
        if day is None:
            return
        yield day
        day = following(rule, anchor, n, day)


def describe(rule: Rule, anchor: dt.date) -> str:
    """
    Return the rule in English, such as "every 2 weeks on Friday".

    :raises InvalidRequest: as nominal_date
    """
    if rule.frequency == Frequency.RRULE:
        return f"by the rule {rule.rrule}"
    unit = _UNITS[rule.frequency]
    every = f"every {unit}" if rule.interval == 1 else f"every {rule.interval} {unit}s"
    if rule.frequency == Frequency.DAILY:
        return every
    if rule.frequency == Frequency.WEEKLY:
        return f"{every} on {calendar.day_name[anchor.weekday()]}"
    first = nominal_date(rule, anchor, 0)
    day = anchor.day if rule.day_of_month is None else rule.day_of_month
    months = f" of {calendar.month_name[first.month]}" if unit == "year" else ""
    if day < 0:
        place = f"{_FROM_END.get(day, 'fifth last')} day{months or ' of the month'}"
    else:
        clipped = ", or the month's last day" if _may_clip(rule, first, day) else ""
        place = f"{_ordinal(day)}{months}{clipped}"
    return f"{every} on the {place}"


def _counted(rule: Rule, anchor: dt.date, n: int) -> dt.date | None:
    if (months := _MONTHS.get(rule.frequency)) is None:
        ordinal = anchor.toordinal() + _DAYS[rule.frequency] * rule.interval * n
        return dt.date.fromordinal(ordinal) if ordinal <= _LAST_ORDINAL else None
    month = anchor.year * 12 + anchor.month - 1
    day = rule.day_of_month
    if day is None:
        day = anchor.day
    elif _day_in(anchor.year, anchor.month, day) < anchor.day:
        month += 1
    year, month = divmod(month + months * rule.interval * n, 12)
    if year > LAST_DAY.year:
        return None
    return dt.date(year, month + 1, _day_in(year, month + 1, day))


def _day_in(year: int, month: int, day: int) -> int:
    """Return the day in the month: clipped to its end, or counted from it."""
    if 0 < day <= 28:
        return day
    last = days_in_month(year, month)
    return min(day, last) if day > 0 else last + 1 + day


def _may_clip(rule: Rule, first: dt.date, day: int) -> bool:
    if rule.frequency == Frequency.YEARLY:
        return day > (28 if first.month == 2 else days_in_month(first.year, first.month))
    return day > 28


def _ordinal(day: int) -> str:
    suffix = "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"
