"""Identifiers: UUIDv7, so that new rows land at the right edge of every index."""

from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    """Return a new time-ordered UUID (RFC 9562, version 7)."""
    made: UUID = uuid_utils.compat.uuid7()
    return made
