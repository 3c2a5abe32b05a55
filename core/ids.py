"""Identifiers: UUIDv7, so that new rows land at the right edge of every index."""

import datetime as dt
from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    """Return a new time-ordered UUID (RFC 9562, version 7)."""
    made: UUID = uuid_utils.compat.uuid7()
    return made


def least_id(moment: dt.datetime) -> UUID:
    """Return the smallest UUIDv7 of the moment: ids made later are larger."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=milliseconds << 80 | 0x7 << 76 | 0x2 << 62)
