"""Celery's doors into the kernel: read the clock, make one call."""

from typing import Any

from celery import shared_task
from django.utils import timezone

from core import idempotency, sealing

PURGE_BATCH_MAX = 10_000


@shared_task(name="core.seal_new_rows", ignore_result=True)
def seal_new_rows(**_: Any) -> int:
    return sealing.seal_new_rows(now=timezone.now())


@shared_task(name="core.purge_idempotency_records", ignore_result=True)
def purge_idempotency_records(**_: Any) -> int:
    # Beat ticks; what one batch leaves, the next tick takes.
    return idempotency.purge_expired(now=timezone.now(), limit=PURGE_BATCH_MAX)
