"""Celery's doors into payments: read the clock, make one call."""

from typing import Any

from celery import shared_task
from django.utils import timezone

from payments import services

BATCH_MAX = 200


@shared_task(name=services.STEPS_TASK, ignore_result=True)
def take_due_steps(**_: Any) -> int:
    return services.take_due_steps(now=timezone.now(), limit=BATCH_MAX)


@shared_task(name="payments.gather_payouts", ignore_result=True)
def gather_payouts(**_: Any) -> int:
    return len(services.gather_payouts(now=timezone.now()))


@shared_task(name="payments.export_payout_files", ignore_result=True)
def export_payout_files(**_: Any) -> int:
    return services.export_payout_files(now=timezone.now())


@shared_task(name="payments.reconcile", ignore_result=True, time_limit=3600, soft_time_limit=3500)
def reconcile(**_: Any) -> int:
    return services.reconcile(now=timezone.now()).found
