"""How much is due: each app says how its own is counted, `manage.py jobs` and /metrics ask."""

import datetime as dt
from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet

# More is "many": a count never reads a backlog of millions.
COUNTED_MAX = 10_000

_queries: dict[str, Callable[[dt.datetime], QuerySet[Any]]] = {}


def register_due(name: str, query: Callable[[dt.datetime], QuerySet[Any]]) -> None:
    """Have what an app's sweep would take be counted; called from its `ready`."""
    _queries[name] = query


def due_counts(*, now: dt.datetime) -> dict[str, int]:
    """Return by name how many rows are due, COUNTED_MAX at most. One query each."""
    return {
        name: query(now).order_by()[:COUNTED_MAX].count()
        for name, query in sorted(_queries.items())
    }
