"""The Celery application. Tasks are doors: they read the clock and make one call."""

import os
import time
from typing import Any

import structlog
from celery import Celery, Task, signals, states
from django.conf import settings

from config.worker import EndAfterFailure
from core import logs
from core.caller import ACTOR_LENGTH_MAX, SYSTEM, Caller, begin_call

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# By name: the class reads models, which are loaded later.
app = Celery("florin", task_cls="config.job:Job")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["worker"].add(EndAfterFailure)

logger = structlog.get_logger(__name__)


@signals.setup_logging.connect
def _log_as_django_does(**_: Any) -> None:
    """A receiver of this signal keeps Celery from setting up logging of its own."""
    logs.configure(settings.LOGGING)


@signals.task_prerun.connect
def _begin_task(task_id: str, task: Task[Any, Any], **_: Any) -> None:
    # Run eagerly, a task is a part of the request that asked for it, and its caller is theirs.
    if not task.request.is_eager:
        begin_call(Caller(f"task:{task.name}"[:ACTOR_LENGTH_MAX], request_id=task_id))
    # Celery's Context is made for one run and takes attributes; its stubs do not say so.
    run: Any = task.request
    run.florin_began = time.perf_counter()


@signals.task_postrun.connect
def _end_task(task: Task[Any, Any], state: str, **_: Any) -> None:
    run: Any = task.request
    duration_ms = round((time.perf_counter() - run.florin_began) * 1000, 2)
    # Of a failure, the traceback is in Celery's own line, which comes first.
    log = logger.error if state == states.FAILURE else logger.info
    log("task", task=task.name, state=state, duration_ms=duration_ms)
    if not task.request.is_eager:
        begin_call(SYSTEM)
