"""Celery's doors into identity: read the clock, make one call."""

from importlib import import_module
from typing import Any

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from identity import services

PURGE_BATCH_MAX = 5_000


@shared_task(name="identity.purge_sessions", ignore_result=True)
def purge_sessions(**_: Any) -> int:
    purged = total = services.purge_ended(now=timezone.now(), limit=PURGE_BATCH_MAX)
    while purged == PURGE_BATCH_MAX:
        purged = services.purge_ended(now=timezone.now(), limit=PURGE_BATCH_MAX)
        total += purged
    return total


@shared_task(name="identity.purge_browser_sessions", ignore_result=True)
def purge_browser_sessions(**_: Any) -> None:
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
