"""Local times of a zone, and the instants they are."""

import datetime as dt
import zoneinfo
from functools import lru_cache

from core.errors import InvalidRequest


def zone_of(name: str) -> zoneinfo.ZoneInfo:
    """
    Return the zone of an IANA name, such as Asia/Jakarta.

    :raises InvalidRequest: by `time_zone`: there is no such zone
    """
    if name not in _names():
        raise InvalidRequest(f"{name!r} is no time zone, such as Asia/Jakarta.", field="time_zone")
    return zoneinfo.ZoneInfo(name)


def instant_of(day: dt.date, at: dt.time, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    """
    Return when, in UTC, clocks of the zone show the time on the day.

    As RFC 5545 (3.3.5) says where they show it never or twice. In a gap, by the offset before it:
    02:30 of a night that goes from 02:00 to 03:00 is 03:30. In an overlap, the first of the two.
    """
    return dt.datetime.combine(day, at.replace(fold=0), tzinfo=zone).astimezone(dt.UTC)


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    # Reads directories. Without what is no place: the machine's own zone, and a zone not yet set.
    return frozenset(zoneinfo.available_timezones()) - {"localtime", "Factory"}
