"""Dead letters: replayed once, discarded with a reason, by service and by command."""

import datetime as dt
import io
import json
import threading
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, close_old_connections, connection, transaction
from django.utils import timezone

from core.caller import Caller, calling
from core.database import constraint_of
from core.dead_letters import Failure, bury, discard_letter, replay_letter
from core.errors import InvalidRequest, InvalidState, NotFound
from core.ids import new_id
from core.models import AuditRecord, DeadLetter, JobRun, OutboxEvent
from core.queueing import fingerprint_of
from identity.models import Tenant

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def buried(**changes: Any) -> DeadLetter:
    arguments = changes.pop("arguments", '{"args":[],"kwargs":{"word":"x"}}')
    values: dict[str, Any] = {
        "task": "chores.note",
        "task_id": str(new_id()),
        "tenant_id": None,
        "arguments": arguments,
        "fingerprint": fingerprint_of(changes.get("task", "chores.note"), arguments),
        "is_tick": False,
        "is_replayable": True,
        "failure": Failure("ValueError", "it is broken", "Traceback: here"),
        "failures": 3,
        "more": 3,
        "began_at": NOW,
        "now": NOW,
        **changes,
    }
    return DeadLetter.objects.get(pk=bury(**values))


def test_a_replay_asks_for_the_same_once_more() -> None:
    letter = buried()

    task_id = replay_letter(letter_id=letter.pk, now=NOW)

    run = JobRun.objects.get(task_id=task_id)
    assert (run.task, run.arguments, run.status) == ("chores.note", letter.arguments, "waiting")
    letter.refresh_from_db()
    assert (letter.status, letter.replay_task_id) == ("replayed", task_id)
    assert AuditRecord.objects.get(action="job.replayed").object_id == letter.pk


def test_a_discard_keeps_who_and_why() -> None:
    letter = buried()

    with calling(Caller("user:ada")):
        discard_letter(letter_id=letter.pk, reason="Done by hand.", now=NOW)

    letter.refresh_from_db()
    assert (letter.status, letter.reason) == ("discarded", "Done by hand.")
    assert (letter.decided_by, letter.decided_at) == ("user:ada", NOW)
    assert AuditRecord.objects.get(action="job.discarded").reason == "Done by hand."
    assert not JobRun.objects.exists()


@pytest.mark.parametrize("reason", ["", "  ", "\x00", "x" * 501])
def test_a_discard_needs_a_reason(reason: str) -> None:
    with pytest.raises(InvalidRequest):
        discard_letter(letter_id=buried().pk, reason=reason, now=NOW)


def test_what_was_decided_is_not_decided_again() -> None:
    letter = buried()
    discard_letter(letter_id=letter.pk, reason="x", now=NOW)

    with pytest.raises(InvalidState):
        replay_letter(letter_id=letter.pk, now=NOW)
    with pytest.raises(InvalidState):
        discard_letter(letter_id=letter.pk, reason="y", now=NOW)
    assert not JobRun.objects.exists()


def test_another_tenants_letter_is_not_there(tenant: Tenant, other_tenant: Tenant) -> None:
    letter = buried(tenant_id=tenant.pk)

    for act in (replay_letter, lambda **of: discard_letter(reason="x", **of)):
        with pytest.raises(NotFound):
            act(letter_id=letter.pk, tenant_id=other_tenant.pk, now=NOW)


def test_a_tenant_hears_of_replay_and_discard(tenant: Tenant) -> None:
    replay_letter(letter_id=buried(tenant_id=tenant.pk).pk, now=NOW)
    discard_letter(letter_id=buried(tenant_id=tenant.pk).pk, reason="x", now=NOW)

    events = OutboxEvent.objects.filter(event_type__startswith="job.").order_by("pk")
    assert [each.event_type for each in events] == [
        "job.dead",
        "job.replayed",
        "job.dead",
        "job.discarded",
    ]


def test_the_same_that_dies_again_is_counted_where_it_waits() -> None:
    letter = buried()

    assert buried().pk == letter.pk
    letter.refresh_from_db()
    assert letter.failures == 6
    assert buried(arguments='{"args":[],"kwargs":{}}').pk != letter.pk


def test_what_dies_after_a_replay_is_a_letter_of_its_own() -> None:
    letter = buried()
    replay_letter(letter_id=letter.pk, now=NOW)

    assert buried().pk != letter.pk


@pytest.mark.django_db(transaction=True)
def test_two_replays_at_once_ask_once() -> None:
    letter, barrier, refused = buried(), threading.Barrier(2), []

    def replay() -> None:
        barrier.wait(timeout=10)
        try:
            replay_letter(letter_id=letter.pk, now=timezone.now())
        except InvalidState as refusal:
            refused.append(refusal)
        finally:
            close_old_connections()
            connection.close()

    threads = [threading.Thread(target=replay) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(refused) == 1
    assert JobRun.objects.count() == 1


# --- What the database refuses -----------------------------------------------------------------
@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("UPDATE core_deadletter SET arguments = '{}'", "dead_letter_never_rewritten"),
        ("UPDATE core_deadletter SET failures = 1", "dead_letter_never_rewritten"),
        ("UPDATE core_deadletter SET status = 'discarded'", "dead_letter_decided_by_somebody"),
        ("UPDATE core_deadletter SET reason = 'x'", "dead_letter_decided_by_somebody"),
        ("UPDATE core_deadletter SET last_failed_at = 'epoch'", "dead_letter_failed"),
        ("DELETE FROM core_deadletter", "dead_letter_waiting_is_kept"),
        ("TRUNCATE core_deadletter", "dead_letters_never_truncated"),
    ],
)
def test_a_waiting_letter_is_kept_as_it_is(statement: str, rule: str) -> None:
    buried()

    refused(statement, rule)


def test_a_decided_letter_is_never_decided_again() -> None:
    discard_letter(letter_id=buried().pk, reason="x", now=NOW)

    refused(
        "UPDATE core_deadletter SET status = 'waiting', reason = '', decided_by = '',"
        " decided_at = NULL",
        "dead_letter_decided_once",
    )


def refused(statement: str, rule: str) -> None:
    with (
        pytest.raises(IntegrityError) as refusal,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert constraint_of(refusal.value) == rule


# --- By command --------------------------------------------------------------------------------
def said(*words: str) -> str:
    out = io.StringIO()
    call_command("dead_letters", *words, stdout=out)
    return out.getvalue()


def test_the_command_lists_what_waits() -> None:
    letter, other = buried(), buried(task="chores.fail")
    discard_letter(letter_id=other.pk, reason="x", now=NOW)

    assert str(letter.pk) in said("list")
    assert str(other.pk) not in said("list")
    assert str(other.pk) in said("list", "--all")
    [shown] = json.loads(said("list", "--json"))
    assert (shown["task"], shown["failures"]) == ("chores.note", 3)


def test_the_command_shows_the_traceback() -> None:
    assert "Traceback: here" in said("show", str(buried().pk))


def test_the_command_replays_one_or_all_of_a_task() -> None:
    first, second, third = buried(), buried(task="a.b"), buried(task="c.d")

    said("replay", str(first.pk))
    said("replay", "--all", "--task", "a.b")

    status = dict(DeadLetter.objects.values_list("pk", "status"))
    assert status == {first.pk: "replayed", second.pk: "replayed", third.pk: "waiting"}
    assert DeadLetter.objects.get(pk=first.pk).decided_by == "command:dead_letters"


def test_the_command_discards_with_a_reason() -> None:
    letter = buried()

    said("discard", "--all", "--reason", "Done by hand.")

    letter.refresh_from_db()
    assert (letter.status, letter.reason) == ("discarded", "Done by hand.")


@pytest.mark.parametrize(
    "words",
    [
        ["replay"],
        ["replay", "--all", "0190f0a0-0000-7000-8000-000000000001"],
        ["replay", "0190f0a0-0000-7000-8000-000000000001"],
        ["show", "0190f0a0-0000-7000-8000-000000000001"],
        ["discard", "--all"],
    ],
)
def test_the_command_refuses_what_it_cannot_do(words: list[str]) -> None:
    with pytest.raises(CommandError):
        said(*words)
