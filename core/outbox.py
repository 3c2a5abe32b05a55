"""Domain events. Write one in the same database transaction as the change it tells of."""

from datetime import datetime
from typing import Any
from uuid import UUID

from core.models import OutboxEvent


def record_event(
    *,
    tenant_id: UUID,
    event_type: str,
    resource_id: UUID,
    now: datetime,
    payload: dict[str, Any] | None = None,
) -> None:
    """Write an outbox row. Postings do not call this: the posting function writes theirs."""
    OutboxEvent.objects.create(
        tenant_id=tenant_id,
        event_type=event_type,
        resource_id=resource_id,
        payload=payload,
        created_at=now,
    )
