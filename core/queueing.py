"""
Asking for a job: a row that says what is to be done, and a ring for whoever sends it to a worker.

What becomes of it is in core.runs.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder

from core.ids import new_id
from core.jobs import ring
from core.models import DeadLetter, JobRun
from core.redaction import redacted, redacted_text

TEND_TASK = "core.tend_jobs"
# Unless the task says otherwise.
ATTEMPTS_MAX = 6
ARGUMENTS_LENGTH_MAX = 65_536


def enqueue(
    task: str,
    *,
    now: dt.datetime,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    due_at: dt.datetime | None = None,
) -> str:
    """
    Have a task run once the transaction commits, or at `due_at`; return the id of its run.

    It is done at least once, whatever becomes of Redis and of workers. Arguments are ids and other
    plain JSON, never secrets.

    :raises ValueError: arguments with a secret, or too large
    """
    arguments, is_replayable = kept_arguments(args, kwargs or {})
    if not is_replayable:
        raise ValueError(f"The arguments of {task} are too large or hold a secret.")
    return _enqueue(task, arguments, due_at or now, now)


def enqueue_again(letter: DeadLetter, *, now: dt.datetime) -> str:
    """Have a dead letter's task run once more, with its arguments to the byte."""
    return _enqueue(letter.task, letter.arguments, now, now)


def _enqueue(task: str, arguments: str, due_at: dt.datetime, now: dt.datetime) -> str:
    run = JobRun.objects.create(
        task_id=str(new_id()),
        task=task,
        arguments=arguments,
        tenant_id=tenant_of(json.loads(arguments)["kwargs"]),
        is_tick=False,
        status=JobRun.Status.WAITING,
        attempts_max=ATTEMPTS_MAX,
        next_attempt_at=due_at,
        created_at=now,
    )
    ring(TEND_TASK)
    return run.task_id


def kept_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the arguments as they are kept, without secrets; and whether they are whole."""
    given = {"args": list(args), "kwargs": dict(kwargs)}
    text = _encode(given)
    shown = _encode({"args": redacted(given["args"]), "kwargs": redacted(given["kwargs"])})
    is_whole = text == shown and len(text) <= ARGUMENTS_LENGTH_MAX
    return (text if is_whole else shown[:ARGUMENTS_LENGTH_MAX]), is_whole


def fingerprint_of(task: str, arguments: str) -> bytes:
    return hashlib.sha256(f"{task}\n{arguments}".encode()).digest()


def storable(text: str) -> str:
    """Return the text without secrets, and as PostgreSQL takes it: it has no NUL."""
    shown = redacted_text(text).replace("\x00", "\\x00")
    return shown.encode("utf-8", errors="backslashreplace").decode()


# ASCII only: NUL and halves of surrogate pairs are escapes in it, and survive.
_encode = DjangoJSONEncoder(separators=(",", ":"), sort_keys=True).encode


def tenant_of(kwargs: Mapping[str, Any]) -> UUID | None:
    try:
        return UUID(str(kwargs.get("tenant_id")))
    except ValueError:
        return None
