"""Celery's doors into invoices: read the clock, make one call."""

from typing import Any

from celery import shared_task
from django.utils import timezone

from invoices import services

BATCH_MAX = 200
# Each takes a connection to the mail server.
MAILINGS_MAX = 50


@shared_task(name="invoices.take_due_steps", ignore_result=True)
def take_due_steps(**_: Any) -> int:
    return services.take_due_steps(now=timezone.now(), limit=BATCH_MAX)


@shared_task(name=services.MAIL_TASK, ignore_result=True)
def send_mailings(**_: Any) -> int:
    return services.send_due_mailings(now=timezone.now(), limit=MAILINGS_MAX)
