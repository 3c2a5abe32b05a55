"""
Test clocks: a tenant's own time, which goes forward when it is told to.

PostgreSQL has the time of each; what falls due by it is run by whoever moves it on, in the order in
which it would have been due, and by nobody else. Apps say what goes by it, in their `ready`.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


class Follower(Protocol):
    """What falls due by a tenant's clock."""

    def begin(self, tenant_id: UUID) -> None:
        """Have everything of the tenant go by its test clock, which has just begun."""

    def next_due(self, tenant_id: UUID) -> dt.datetime | None:
        """Return when something is due next; None: nothing is."""

    def run_due(self, tenant_id: UUID, time: dt.datetime, now: dt.datetime) -> int:
        """Do all that is due when its clock shows the time, and it really is `now`."""

    def obstacle(self, tenant_id: UUID) -> str:
        """Say why the tenant's time must stay the real one; empty: it need not."""


@dataclass(frozen=True, slots=True)
class Advanced:
    """How far a clock got, and what was done on the way."""

    now: dt.datetime
    is_complete: bool
    runs: dict[str, int]


_followers: dict[str, Follower] = {}
_closing: set[str] = set()


def follow_clocks(name: str, follower: Follower, *, is_first: bool = False) -> None:
    """
    Have what an app does fall due by test clocks too; called from its `ready`.

    `is_first`: at the same moment before all others, such as what closes the day before.
    """
    _followers[name] = follower
    if is_first:
        _closing.add(name)


def followers() -> dict[str, Follower]:
    """Return the followers by name, in the order in which they do what is due at one moment."""
    return dict(sorted(_followers.items(), key=lambda each: each[0] not in _closing))
