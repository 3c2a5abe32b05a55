"""Celery's doors into payments: read the clock, make one call."""

from typing import Any

from celery import shared_task
from django.utils import timezone

from payments import services

BATCH_MAX = 200
# Within a task's time limit by far; what is left, the next tick takes.
RUNS_MAX = 100_000


@shared_task(name=services.STEPS_TASK, ignore_result=True)
def take_due_steps(**_: Any) -> int:
    return services.take_due_steps(now=timezone.now(), limit=BATCH_MAX)


@shared_task(name=services.RUNS_TASK, ignore_result=True)
def run_recurring_payments(**_: Any) -> int:
    return services.run_due_payments(now=timezone.now(), limit=RUNS_MAX)


@shared_task(name="payments.look_for_salaries", ignore_result=True)
def look_for_salaries(**_: Any) -> int:
    return services.look_for_salaries(now=timezone.now())


@shared_task(name="payments.gather_payouts", ignore_result=True)
def gather_payouts(**_: Any) -> int:
    return len(services.gather_payouts(now=timezone.now()))


@shared_task(name="payments.export_payout_files", ignore_result=True)
def export_payout_files(**_: Any) -> int:
    return services.export_payout_files(now=timezone.now())


@shared_task(name="payments.reconcile", ignore_result=True, time_limit=3600, soft_time_limit=3500)
def reconcile(**_: Any) -> int:
    return services.reconcile(now=timezone.now()).found
