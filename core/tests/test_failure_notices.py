"""E-mails about failures: written first, sent by a job, at most one a task and hour."""

import datetime as dt
from collections.abc import Sequence
from smtplib import SMTPException

import pytest
from django.conf import LazySettings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from pytest_django import DjangoAssertNumQueries

from core import schedule
from core.models import FailureNotice, ScheduledTask
from core.notices import ATTEMPTS_MAX, note_failure, send_due_notices

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
TO = ["ops@bank.test"]


def later(**length: float) -> dt.datetime:
    return NOW + dt.timedelta(**length)


@pytest.fixture(autouse=True)
def _somebody_is_told(settings: LazySettings) -> None:
    settings.FAILURE_NOTICES_TO = TO


class DownBackend(BaseEmailBackend):
    """A mail server that refuses."""

    def send_messages(self, messages: Sequence[EmailMessage]) -> int:
        raise SMTPException("451 try later")


def test_a_failure_is_told_by_a_job_of_its_own(mailoutbox: list[EmailMessage]) -> None:
    note_failure(task="a.b", words="ValueError: it is broken", now=NOW)
    assert mailoutbox == []

    assert send_due_notices(now=NOW, limit=10) == 1

    [mail] = mailoutbox
    assert mail.to == TO
    assert mail.subject == "Florin: a.b fails"
    assert "it is broken" in mail.body


def test_of_a_task_there_is_one_an_hour_and_it_says_how_many_were_held_back(
    mailoutbox: list[EmailMessage],
) -> None:
    note_failure(task="a.b", words="first", now=NOW)
    send_due_notices(now=NOW, limit=10)
    for minute in range(1, 6):
        note_failure(task="a.b", words=f"number {minute}", now=later(minutes=minute))
        send_due_notices(now=later(minutes=minute), limit=10)
    assert len(mailoutbox) == 1

    send_due_notices(now=later(minutes=61), limit=10)

    assert [mail.subject for mail in mailoutbox][1:] == ["Florin: a.b fails (5 times)"]
    assert "number 5" in mailoutbox[1].body
    assert "the last of 5 failures" in mailoutbox[1].body


def test_another_task_is_told_of_at_once(mailoutbox: list[EmailMessage]) -> None:
    note_failure(task="a.b", words="x", now=NOW)
    note_failure(task="c.d", words="x", now=NOW)

    assert send_due_notices(now=NOW, limit=10) == 2


def test_where_nobody_is_to_be_told_nothing_is_written(
    settings: LazySettings, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    settings.FAILURE_NOTICES_TO = []

    with django_assert_num_queries(0):
        note_failure(task="a.b", words="x", now=NOW)


def test_a_mail_server_that_is_down_is_tried_again_and_in_the_end_given_up(
    settings: LazySettings, mailoutbox: list[EmailMessage]
) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.DownBackend"
    assert isinstance(get_connection(), DownBackend)
    note_failure(task="a.b", words="x", now=NOW)

    assert send_due_notices(now=NOW, limit=10) == 0
    assert FailureNotice.objects.get().last_error == "SMTPException: 451 try later"
    assert send_due_notices(now=later(seconds=50), limit=10) == 0
    assert FailureNotice.objects.get().attempts == 1
    for hour in range(1, ATTEMPTS_MAX + 1):
        send_due_notices(now=later(days=hour), limit=10)

    notice = FailureNotice.objects.get()
    assert (notice.status, notice.attempts) == ("failed", ATTEMPTS_MAX)


def test_those_who_run_florin_are_told_of_late_tasks(mailoutbox: list[EmailMessage]) -> None:
    schedule.ensure_schedule()
    ScheduledTask.objects.exclude(name="seal new rows").update(enabled=False)
    ScheduledTask.objects.update(date_changed=NOW)

    assert schedule.note_late(now=later(seconds=290)) == 0
    assert schedule.note_late(now=later(seconds=310)) == 1
    send_due_notices(now=later(seconds=310), limit=10)

    assert "seal new rows is late" in mailoutbox[0].body
