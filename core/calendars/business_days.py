"""Days on which banks work, and how a date that is none of them is moved."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final

import holidays

from core.errors import InvalidRequest

# How far a date is moved, either way. The longest real closures are below two weeks.
MOVED_DAYS_MAX: Final = 60


class Adjustment(StrEnum):
    """What is done with a date on which banks do not work; ISDA says following and preceding."""

    NONE = "none"
    NEXT = "next"
    PREVIOUS = "previous"
    # The next, or the one before where the next lies in another month.
    MODIFIED_FOLLOWING = "modified_following"


@dataclass(frozen=True, slots=True)
class BusinessCalendar:
    """
    The working days of a country, or of a part of it, and the tenant's own.

    Without a country: Monday to Friday. With one, its weekend and its public holidays; days
    on which the state's offices alone are closed, such as Indonesia's cuti bersama, are not in it.
    `own_days` says otherwise for single days: True, a working day; False, none.

    :raises InvalidRequest: by `country` or `subdivision`, when it is not known
    """

    country: str | None = None
    subdivision: str | None = None
    own_days: Mapping[dt.date, bool] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.country is None:
            if self.subdivision is not None:
                raise InvalidRequest("A subdivision is part of a country.", field="subdivision")
            return
        if self.country not in supported_countries():
            raise InvalidRequest(
                f"The holidays of {self.country!r} are not known. A country is a code of two"
                " letters, such as ID.",
                field="country",
            )
        if self.subdivision is not None and self.subdivision not in subdivisions_of(self.country):
            raise InvalidRequest(
                f"{self.country} has no subdivision {self.subdivision!r}.", field="subdivision"
            )

    def is_business_day(self, day: dt.date) -> bool:
        own = self.own_days.get(day)
        if own is not None:
            return own
        if self.country is None:
            return day.weekday() < 5
        return day not in _days_off(self.country, self.subdivision, day.year)


def supported_countries() -> frozenset[str]:
    """Return the codes (ISO 3166-1, two letters) of the countries whose holidays are known."""
    return frozenset(_subdivisions())


def subdivisions_of(country: str) -> frozenset[str]:
    """Return the codes of the country's parts that have holidays of their own (ISO 3166-2)."""
    return _subdivisions().get(country, frozenset())


def adjusted(
    day: dt.date, adjustment: Adjustment, is_business_day: Callable[[dt.date], bool]
) -> dt.date:
    """
    Return the day that is meant when the nominal one is no business day.

    The day itself where none lies within 60 days: an adjustment moves a payment, it never stops it.
    """
    if adjustment == Adjustment.NONE or is_business_day(day):
        return day
    if adjustment == Adjustment.PREVIOUS:
        return _nearest(day, -1, is_business_day)
    moved = _nearest(day, 1, is_business_day)
    if adjustment == Adjustment.MODIFIED_FOLLOWING and moved.month != day.month:
        return _nearest(day, -1, is_business_day)
    return moved


def _nearest(day: dt.date, direction: int, is_business_day: Callable[[dt.date], bool]) -> dt.date:
    for distance in range(1, MOVED_DAYS_MAX + 1):
        candidate = day + dt.timedelta(days=direction * distance)
        if is_business_day(candidate):
            return candidate
    return day


@lru_cache(maxsize=1)
def _subdivisions() -> dict[str, frozenset[str]]:
    known = holidays.list_supported_countries(include_aliases=False)
    return {country: frozenset(parts) for country, parts in known.items()}


@lru_cache(maxsize=1024)
def _days_off(country: str, subdivision: str | None, year: int) -> frozenset[dt.date]:
    known = holidays.country_holidays(country, subdiv=subdivision, years=year)
    first = dt.date(year, 1, 1)
    days = (first + dt.timedelta(days=n) for n in range(366))
    return frozenset(day for day in days if day.year == year and not known.is_working_day(day))
