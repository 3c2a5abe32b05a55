"""Celery's doors into webhooks: read the clock, make one call."""

from typing import Any

from celery import shared_task
from django.utils import timezone

from webhooks import services

BATCH_MAX = 200


@shared_task(name=services.PROCESS_TASK, ignore_result=True)
def process_due_events(**_: Any) -> int:
    taken = total = services.process_due_events(now=timezone.now(), limit=BATCH_MAX)
    while taken == BATCH_MAX:
        taken = services.process_due_events(now=timezone.now(), limit=BATCH_MAX)
        total += taken
    return total
