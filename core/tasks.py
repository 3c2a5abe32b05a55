"""Celery's doors into the kernel: read the clock, make one call."""

from typing import Any

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from core import idempotency, notices, queueing, runs, schedule, sealing

PURGE_BATCH_MAX = 10_000
TENDED_MAX = 500
NOTICES_MAX = 20


@shared_task(name=queueing.TEND_TASK, ignore_result=True)
def tend_jobs(**_: Any) -> int:
    return runs.tend_jobs(now=timezone.now(), limit=TENDED_MAX)


@shared_task(name="core.note_late_tasks", ignore_result=True)
def note_late_tasks(**_: Any) -> int:
    return schedule.note_late(now=timezone.now())


@shared_task(name=notices.NOTICES_TASK, ignore_result=True)
def send_failure_notices(**_: Any) -> int:
    return notices.send_due_notices(now=timezone.now(), limit=NOTICES_MAX)


@shared_task(name="core.purge_job_runs", ignore_result=True)
def purge_job_runs(**_: Any) -> int:
    return runs.purge_runs(now=timezone.now(), kept_days=settings.JOB_RUNS_KEPT_DAYS)


@shared_task(name="core.seal_new_rows", ignore_result=True)
def seal_new_rows(**_: Any) -> int:
    return sealing.seal_new_rows(now=timezone.now())


@shared_task(name="core.purge_idempotency_records", ignore_result=True)
def purge_idempotency_records(**_: Any) -> int:
    # Beat ticks; what one batch leaves, the next tick takes.
    return idempotency.purge_expired(now=timezone.now(), limit=PURGE_BATCH_MAX)
