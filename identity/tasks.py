"""Celery's doors into identity: read the clock, make one call."""

from typing import Any

from celery import shared_task
from django.utils import timezone

from identity import services

PURGE_BATCH_MAX = 5_000


@shared_task(name="identity.purge_sessions", ignore_result=True)
def purge_sessions(**_: Any) -> int:
    # Beat ticks; what one batch leaves, the next tick takes.
    return services.purge_ended(now=timezone.now(), limit=PURGE_BATCH_MAX)
