"""Whatever makes somebody's sessions worthless ends them here."""

from datetime import datetime
from uuid import UUID

from identity.models import Session


def end_sessions(*, user_id: UUID, reason: str, now: datetime) -> None:
    """End all of a user's sessions on the API; their access tokens are worth nothing at once."""
    Session.objects.filter(user_id=user_id, ended_at=None).update(ended_at=now, end_reason=reason)
