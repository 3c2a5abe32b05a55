"""
Following a table by its rows' numbers: each row that is committed is read once, late ones too.

Written rows have numbers from a sequence, but commit in any order: a number that is missing now may
still come. Such gaps are remembered until every transaction that might fill them has ended.
"""

import datetime as dt
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from django.db import connection

from core.models import SealCursor

# Whoever took a number before it had a transaction id, which takes microseconds, has one by then:
# all that may still fill the gap are open then, or before the id that we take then.
_GAP_AGE_MIN_S = 60
# No transaction of ours lives as long. After a restore into a new cluster the ids start afresh, and
# only this lets a gap go.
_GAP_AGE_MAX_S = 3_600

# First and last number, when it was seen, and a transaction id that is above those of all who may
# still fill it; 0: not known yet.
Gap = tuple[int, int, int, int]
_LAST_NUMBER = 2**63 - 1


def begin_at(name: str, position: int) -> None:
    """Have a follower begin after the position, if it has not begun."""
    SealCursor.objects.get_or_create(stream=name, defaults={"position": position})


def has_begun(name: str) -> bool:
    return SealCursor.objects.filter(stream=name).exists()


def read_on(
    name: str, new_sql: str, *, limit: int, now: dt.datetime
) -> tuple[list[tuple[int, Any]], bool]:
    """
    Return what was written since the last time, in order of number, and whether there is more.

    `new_sql` returns (number, what) of rows in a range of numbers, in order; takes first, last, and
    how many at most. What is returned counts as read when the transaction commits that the caller
    has opened; one at a time follows, which is the caller's to see to.
    """
    cursor, _ = SealCursor.objects.get_or_create(stream=name)
    # Before the rows are read: who ends in between is still counted as open.
    oldest_open = _number("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    known: list[Gap] = [tuple(gap) for gap in cursor.gaps]
    late, gaps, is_more = _late(new_sql, known, limit, now, oldest_open)
    new = _written(new_sql, cursor.position + 1, _LAST_NUMBER, limit)
    position = new[-1][0] if new else cursor.position
    numbers = [cursor.position, *(number for number, _ in new)]
    seen_at = int(now.timestamp())
    gaps += [
        (one + 1, other - 1, seen_at, 0) for one, other in pairwise(numbers) if other > one + 1
    ]
    rows = sorted(late + new)
    if rows or gaps != known:
        cursor.position, cursor.gaps = position, gaps
        cursor.save()
    return rows, is_more or len(new) == limit


def _late(
    new_sql: str, gaps: list[Gap], limit: int, now: dt.datetime, oldest_open: int
) -> tuple[list[tuple[int, Any]], list[Gap], bool]:
    """Return what has come in the gaps since, the gaps that are left, and whether there is more."""
    late: list[tuple[int, Any]] = []
    left: list[Gap] = []
    is_more = False
    for gap in gaps:
        rows = _written(new_sql, gap[0], gap[1], limit)
        late += rows
        # Cut off at the limit: the rest has been written too, and is not yet read.
        is_cut = len(rows) == limit
        is_more = is_more or is_cut
        for rest in _gaps_left(gap, [number for number, _ in rows]):
            kept = rest if is_cut else _aged(rest, now, oldest_open)
            if kept is not None:
                left.append(kept)
    return late, left, is_more


def _gaps_left(gap: Gap, filled: list[int]) -> Iterator[Gap]:
    """Yield the gap without the numbers that have come since."""
    first, last, seen_at, precedes = gap
    for one, other in pairwise([first - 1, *sorted(filled), last + 1]):
        if other > one + 1:
            yield one + 1, other - 1, seen_at, precedes


def _aged(gap: Gap, now: dt.datetime, oldest_open: int) -> Gap | None:
    """Return the gap with what is known of it by now; None: nothing can fill it any more."""
    first, last, seen_at, precedes = gap
    age_s = now.timestamp() - seen_at
    if age_s > _GAP_AGE_MAX_S or (precedes and oldest_open >= precedes):
        return None
    if age_s > _GAP_AGE_MIN_S and not precedes:
        # Our own transaction id: above that of whoever has one by now.
        return first, last, seen_at, _number("SELECT pg_current_xact_id()::text::bigint")
    return gap


def _number(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        [number] = cursor.fetchone() or [0]
    return int(number)


def _written(new_sql: str, first: int, last: int, limit: int) -> list[tuple[int, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(new_sql, [first, last, limit])
        return list(cursor.fetchall())
