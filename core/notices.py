"""
E-mails about failures, to those who run Florin: at most one a task and hour.

Written down first and sent by a job of its own, so that what fails need not wait for a mail server.
"""

import datetime as dt
import random
from smtplib import SMTPException
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import connection, transaction

from core.jobs import ring
from core.models import FailureNotice
from core.redaction import redacted_text

logger = structlog.get_logger(__name__)

NOTICES_TASK = "core.send_failure_notices"
QUIET_FOR = dt.timedelta(hours=1)
ATTEMPTS_MAX = 8
_FIRST_PAUSE = dt.timedelta(minutes=1)

# The one that waits counts what comes after; it is due an hour after the last that was sent.
_NOTE = """
INSERT INTO core_failurenotice AS n (task, words, failures, status, attempts, next_attempt_at,
    created_at, last_error)
VALUES (%(task)s, %(words)s, 1, 'waiting', 0, greatest(%(now)s, (
    SELECT max(sent_at) FROM core_failurenotice WHERE task = %(task)s) + %(quiet)s), %(now)s, '')
ON CONFLICT (task) WHERE status = 'waiting' DO UPDATE
SET failures = n.failures + 1, words = excluded.words
"""


def note_failure(*, task: str, words: str, now: dt.datetime) -> None:
    """Have those who run Florin told; nothing where nobody is to be told. One round trip."""
    if not settings.FAILURE_NOTICES_TO:
        return
    values: dict[str, Any] = {
        "task": task[:128],
        "words": words[:2000],
        "now": now,
        "quiet": QUIET_FOR,
    }
    with connection.cursor() as cursor:
        cursor.execute(_NOTE, values)
    ring(NOTICES_TASK)


def send_due_notices(*, now: dt.datetime, limit: int) -> int:
    """Send at most `limit` notices that are due; return how many were sent."""
    return sum(_send(notice, now) for notice in _claimed(now, limit))


def _claimed(now: dt.datetime, limit: int) -> list[FailureNotice]:
    """Return notices that are due, each counted and moved on to its next try."""
    with transaction.atomic():
        due = FailureNotice.objects.select_for_update(skip_locked=True).filter(
            status=FailureNotice.Status.WAITING, next_attempt_at__lte=now
        )
        notices = list(due.order_by("next_attempt_at", "pk")[:limit])
        for notice in notices:
            notice.attempts += 1
            pause = _FIRST_PAUSE * 2 ** (notice.attempts - 1)
            notice.next_attempt_at = now + pause * random.uniform(1, 1.25)  # noqa: S311
        FailureNotice.objects.bulk_update(notices, ["attempts", "next_attempt_at"])
    return notices


def _send(notice: FailureNotice, now: dt.datetime) -> bool:
    waiting = FailureNotice.objects.filter(pk=notice.pk, status=FailureNotice.Status.WAITING)
    failed = FailureNotice.Status.FAILED
    if notice.attempts > ATTEMPTS_MAX:
        # The last try ended with its worker.
        waiting.update(status=failed, next_attempt_at=None)
        return False
    try:
        compose(notice).send()
    except (OSError, SMTPException) as fault:
        logger.warning("failure notice not sent", task=notice.task, fault=type(fault).__name__)
        waiting.update(last_error=redacted_text(f"{type(fault).__name__}: {fault}")[:300])
        if notice.attempts >= ATTEMPTS_MAX:
            waiting.update(status=failed, next_attempt_at=None)
        return False
    waiting.update(
        status=FailureNotice.Status.SENT, next_attempt_at=None, sent_at=now, last_error=""
    )
    return True


def compose(notice: FailureNotice) -> EmailMessage:
    times = "" if notice.failures == 1 else f" ({notice.failures} times)"
    held_back = (
        ""
        if notice.failures == 1
        else f"It is the last of {notice.failures} failures since the notice before; the others"
        " were held back.\n\n"
    )
    return EmailMessage(
        subject=f"Florin: {notice.task} fails{times}",
        body=(
            f"{notice.words}\n\n{held_back}"
            "What is dead, stuck or late: manage.py jobs, manage.py dead_letters list, or the back"
            f" office at {settings.PUBLIC_URL}/admin/.\n"
            "Of one task there is at most one such e-mail an hour.\n"
        ),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=settings.FAILURE_NOTICES_TO,
        headers={"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"},
    )
