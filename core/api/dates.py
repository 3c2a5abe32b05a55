"""Days, moments and periods in query strings."""

import datetime as dt

from django.utils.dateparse import parse_date, parse_datetime

from core.errors import InvalidRequest


def day(text: str, *, field: str) -> dt.date:
    """
    Return the day.

    :raises InvalidRequest: not a day
    """
    try:
        parsed = parse_date(text)
    except ValueError:
        parsed = None
    if parsed is None:
        raise InvalidRequest(f"{field} is a day such as 2026-01-31.", field=field)
    return parsed


def moment(text: str, *, field: str) -> dt.datetime:
    """
    Return the RFC 3339 time.

    :raises InvalidRequest: not a time, or without an offset
    """
    try:
        # "+00:00" arrives as " 00:00" from clients that do not escape it.
        parsed = parse_datetime(text.replace(" ", "+"))
        if parsed is not None and parsed.tzinfo is not None:
            # PostgreSQL knows no offset beyond 15:59, and nothing before the year 1.
            return parsed.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(
        f"{field} is a time such as 2026-01-31T12:00:00Z, with its offset.", field=field
    )


def period_bound(text: str, *, field: str) -> dt.datetime:
    """
    Return a bound of a half-open period: `from` belongs to it, `to` does not.

    A date means the whole day, in UTC: `to=2026-01-31` includes the 31st.

    :raises InvalidRequest: neither a date nor a time
    """
    try:
        day = parse_date(text)
    except ValueError:
        day = None
    if day is None:
        return moment(text, field=field)
    if field == "to" and day < dt.date.max:
        day += dt.timedelta(days=1)
    return dt.datetime.combine(day, dt.time.min, tzinfo=dt.UTC)
