"""Celery's door into savings: read the clock, make one call."""

from typing import Any

from celery import shared_task
from django.utils import timezone

from savings import services

# Of one look; what is left, the next tick takes.
STEPS_MAX = 5_000


@shared_task(name="savings.keep_plans", ignore_result=True)
def keep_plans(**_: Any) -> int:
    return services.keep_plans(now=timezone.now(), limit=STEPS_MAX)
