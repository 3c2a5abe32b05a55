"""
The part of RFC 5545's RRULE that payments can use: days, no times; and no end, which is kept beside
the rule.

Not dateutil's rrule: where a rule never comes it looks on until the year 9999, which takes 4 s for
FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30, and it begins at the anchor each time. Here a search ends after
a hundred years, and can begin anywhere. The tests hold the two against each other.
"""

import calendar
import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

from core.errors import InvalidRequest

# Wide enough for any payment, and so far from Python's last day that what is computed from a date,
# an adjustment or an instant, still exists.
FIRST_DAY: Final = dt.date(1900, 1, 1)
LAST_DAY: Final = dt.date(2999, 12, 31)
INTERVAL_MAX: Final = 366
TEXT_MAX: Final = 200
# For how long a rule may not come. 29 February on a certain weekday comes after 40 years at most.
SEARCH_DAYS: Final = 36_525

_WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,3}")
_WEEKDAY: Final = re.compile(r"([+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_BELOW_A_DAY: Final = {"SECONDLY", "MINUTELY", "HOURLY", "BYSECOND", "BYMINUTE", "BYHOUR"}
_DAYS_IN_MONTH: Final = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Step(StrEnum):
    DAILY = "DAILY"
    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"
    YEARLY = "YEARLY"


@dataclass(frozen=True, slots=True)
class Recurrence:
    """An RRULE as it was read. Weekdays are 0 for Monday to 6; an empty part leaves all of them."""

    step: Step
    interval: int = 1
    months: frozenset[int] = frozenset()
    # Negative: from the month's end.
    month_days: frozenset[int] = frozenset()
    # (which one of the month or year, weekday); negative: from its end; 0: each of them.
    weekdays: frozenset[tuple[int, int]] = frozenset()
    positions: frozenset[int] = frozenset()
    week_start: int = 0


def days_in_month(year: int, month: int) -> int:
    """Return how many days the month has, of 1 to 12."""
    return 29 if month == 2 and calendar.isleap(year) else _DAYS_IN_MONTH[month]


@lru_cache(maxsize=1024)
def read_rrule(text: str) -> Recurrence:
    """
    Read an RRULE, such as FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1 (the last weekday).

    Takes FREQ of a day or more, INTERVAL, BYMONTH, BYMONTHDAY, BYDAY, BYSETPOS, WKST.

    :raises InvalidRequest: by `rrule`: malformed, not of these parts, or without a single date
    """
    recurrence = _read(text)
    # The first of January fits whatever is left to the anchor, and any interval only thins it out.
    start = dt.date(2000, 1, 1)
    every = replace(recurrence, interval=1)
    if next(dates_from(every, anchor=start, earliest=start), None) is None:
        raise _refusal("No date fits this rule.")
    return recurrence


def dates_from(recurrence: Recurrence, *, anchor: dt.date, earliest: dt.date) -> Iterator[dt.date]:
    """
    Yield the recurrence's dates on or after both days, until none comes for a hundred years.

    Intervals count from the anchor's day, week, month or year, and the anchor gives the weekday,
    day or month that the rule leaves open. The anchor is a date only if it fits. Begins anywhere at
    the same cost.
    """
    recurrence = _completed(recurrence, anchor)
    floor = max(anchor, earliest)
    start = _unit_of(recurrence, anchor)
    unit = (
        start + (_unit_of(recurrence, floor) - start) // recurrence.interval * recurrence.interval
    )
    until = _search_end(recurrence, floor)
    while unit <= until:
        for ordinal in _days_of(recurrence, unit):
            day = dt.date.fromordinal(ordinal)
            if floor <= day <= LAST_DAY:
                until = _search_end(recurrence, day)
                yield day
        unit += recurrence.interval


def _search_end(recurrence: Recurrence, day: dt.date) -> int:
    end = min(day.toordinal() + SEARCH_DAYS, LAST_DAY.toordinal())
    return _unit_of(recurrence, dt.date.fromordinal(end))


def _completed(recurrence: Recurrence, anchor: dt.date) -> Recurrence:
    """Return it with what RFC 5545 takes from the start where the rule says nothing."""
    if recurrence.month_days or recurrence.weekdays or recurrence.step == Step.DAILY:
        return recurrence
    if recurrence.step == Step.WEEKLY:
        return replace(recurrence, weekdays=frozenset({(0, anchor.weekday())}))
    months = recurrence.months
    if recurrence.step == Step.YEARLY and not months:
        months = frozenset({anchor.month})
    return replace(recurrence, months=months, month_days=frozenset({anchor.day}))


def _unit_of(recurrence: Recurrence, day: dt.date) -> int:
    """Return the number of the day's day, week, month or year, whichever the rule steps by."""
    match recurrence.step:
        case Step.DAILY:
            return day.toordinal()
        case Step.WEEKLY:
            # Ordinal 1, in the year 1, is a Monday.
            return (day.toordinal() - 1 - recurrence.week_start) // 7
        case Step.MONTHLY:
            return day.year * 12 + day.month - 1
        case Step.YEARLY:
            return day.year


def _days_of(recurrence: Recurrence, unit: int) -> list[int]:
    """Return the ordinals of the unit's days that fit, in order."""
    match recurrence.step:
        case Step.DAILY:
            days = [unit] if _fits(recurrence, unit) else []
        case Step.WEEKLY:
            first = unit * 7 + 1 + recurrence.week_start
            days = [day for day in range(first, first + 7) if _fits(recurrence, day)]
        case Step.MONTHLY:
            year, month = divmod(unit, 12)
            days = _days_of_month(recurrence, year, month + 1)
        case Step.YEARLY:
            months = sorted(recurrence.months) or range(1, 13)
            days = [day for month in months for day in _days_of_month(recurrence, unit, month)]
    if not recurrence.positions:
        return days
    size = len(days)
    places = {place - 1 if place > 0 else size + place for place in recurrence.positions}
    return [days[place] for place in sorted(places) if 0 <= place < size]


def _fits(recurrence: Recurrence, ordinal: int) -> bool:
    """Say whether the day fits, where weekdays are not counted: by days and weeks."""
    if recurrence.weekdays and (0, (ordinal - 1) % 7) not in recurrence.weekdays:
        return False
    day = dt.date.fromordinal(ordinal)
    if recurrence.months and day.month not in recurrence.months:
        return False
    if not recurrence.month_days:
        return True
    from_end = day.day - days_in_month(day.year, day.month) - 1
    return day.day in recurrence.month_days or from_end in recurrence.month_days


def _days_of_month(recurrence: Recurrence, year: int, month: int) -> list[int]:
    if recurrence.months and month not in recurrence.months:
        return []
    length = days_in_month(year, month)
    before = dt.date(year, month, 1).toordinal() - 1
    days = range(before + 1, before + length + 1)
    fitting = list(days)
    if recurrence.month_days:
        wanted = {day if day > 0 else length + 1 + day for day in recurrence.month_days}
        fitting = [before + day for day in sorted(wanted) if 1 <= day <= length]
    if not recurrence.weekdays:
        return fitting
    # RFC 5545, note 2: by the year, 20MO is its 20th Monday, unless months are named.
    if recurrence.step == Step.YEARLY and not recurrence.months:
        first, last = dt.date(year, 1, 1).toordinal(), dt.date(year, 12, 31).toordinal()
    else:
        first, last = days[0], days[-1]
    return [day for day in fitting if _is_weekday(recurrence.weekdays, day, first, last)]


def _is_weekday(weekdays: frozenset[tuple[int, int]], ordinal: int, first: int, last: int) -> bool:
    weekday = (ordinal - 1) % 7
    return (
        (0, weekday) in weekdays
        or ((ordinal - first) // 7 + 1, weekday) in weekdays
        or (-((last - ordinal) // 7) - 1, weekday) in weekdays
    )


def _read(text: str) -> Recurrence:
    if not text:
        raise _refusal("The frequency rrule needs a rule, such as FREQ=MONTHLY;BYDAY=1MO.")
    # Not ASCII: upper() makes an S of letters that are none.
    if not text.isascii():
        raise _refusal("A rule is letters, figures and signs of ASCII.")
    if len(text) > TEXT_MAX:
        raise _refusal(f"The rule has more than {TEXT_MAX} characters.")
    parts = _parts(text)
    if "FREQ" not in parts:
        raise _refusal("The rule has no FREQ.")
    frequency = parts.pop("FREQ")
    if frequency in _BELOW_A_DAY:
        raise _refusal("Nothing recurs more often than daily.")
    if frequency not in Step.__members__:
        raise _refusal(f"FREQ is one of {', '.join(Step)}.")
    recurrence = Recurrence(
        step=Step(frequency),
        interval=_interval(parts.get("INTERVAL", "1")),
        months=_numbers(parts, "BYMONTH", 1, 12),
        month_days=_numbers(parts, "BYMONTHDAY", -31, 31),
        weekdays=_weekdays(parts),
        positions=_numbers(parts, "BYSETPOS", -366, 366),
        week_start=_week_start(parts.get("WKST", "MO")),
    )
    _refuse_what_does_not_go_together(recurrence)
    return recurrence


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in text.upper().split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise _refusal("A rule is parts such as FREQ=MONTHLY, with semicolons between them.")
        if name in parts:
            raise _refusal(f"{name} is there twice.")
        if name in {"COUNT", "UNTIL"}:
            raise _refusal(f"{name} is not taken: the end is given beside the rule.")
        if name in _BELOW_A_DAY:
            raise _refusal("Nothing recurs more often than daily.")
        if name not in _PARTS:
            raise _refusal(f"A rule has the parts {', '.join(_PARTS)}, and no others.")
        parts[name] = value
    return parts


_PARTS: Final = ("FREQ", "INTERVAL", "BYMONTH", "BYMONTHDAY", "BYDAY", "BYSETPOS", "WKST")


def _interval(value: str) -> int:
    if not _NUMBER.fullmatch(value) or not 1 <= int(value) <= INTERVAL_MAX:
        raise _refusal(f"INTERVAL is a whole number from 1 to {INTERVAL_MAX}.")
    return int(value)


def _numbers(parts: dict[str, str], name: str, least: int, most: int) -> frozenset[int]:
    if name not in parts:
        return frozenset()
    values = parts[name].split(",")
    if not all(
        _NUMBER.fullmatch(value) and int(value) and least <= int(value) <= most for value in values
    ):
        but = ", without 0" if least < 0 else ""
        raise _refusal(f"{name} is whole numbers from {least} to {most}{but}.")
    return frozenset(int(value) for value in values)


def _weekdays(parts: dict[str, str]) -> frozenset[tuple[int, int]]:
    found = set()
    for value in parts["BYDAY"].split(",") if "BYDAY" in parts else ():
        match = _WEEKDAY.fullmatch(value)
        if match is None or (match[1] is not None and not 1 <= abs(int(match[1])) <= 53):
            raise _refusal(
                "BYDAY is weekdays such as MO, or 1MO for the first and -1MO for the last."
            )
        found.add((int(match[1] or 0), _WEEKDAYS.index(match[2])))
    return frozenset(found)


def _week_start(value: str) -> int:
    if value not in _WEEKDAYS:
        raise _refusal(f"WKST is one of {', '.join(_WEEKDAYS)}.")
    return _WEEKDAYS.index(value)


def _refuse_what_does_not_go_together(recurrence: Recurrence) -> None:
    """Refuse what RFC 5545 forbids."""
    by_months = recurrence.step in {Step.MONTHLY, Step.YEARLY}
    if not by_months and any(nth for nth, _ in recurrence.weekdays):
        raise _refusal("A number before a weekday goes with MONTHLY and YEARLY only.")
    if recurrence.step == Step.WEEKLY and recurrence.month_days:
        raise _refusal("BYMONTHDAY does not go with WEEKLY.")
    if recurrence.positions and not (
        recurrence.months or recurrence.month_days or recurrence.weekdays
    ):
        raise _refusal("BYSETPOS picks from what another BY part gives.")


def _refusal(detail: str) -> InvalidRequest:
    return InvalidRequest(detail, field="rrule")
