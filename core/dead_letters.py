"""Work that was given up: kept with what is needed to try it again, until a person decides."""

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

import structlog
from django.db import connection, transaction

from core.caller import current_caller
from core.changes import record_change, record_for_audit
from core.errors import InvalidRequest, InvalidState, NotFound
from core.ids import new_id
from core.models import DeadLetter
from core.notices import note_failure
from core.queueing import enqueue_again

logger = structlog.get_logger(__name__)

REASON_LENGTH_MAX = 500
_S = DeadLetter.Status


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, without secrets."""

    error_class: str
    message: str
    traceback: str

    @property
    def summary(self) -> str:
        return f"{self.error_class}: {self.message}"[:500]


_BURY = """
INSERT INTO core_deadletter AS d (id, tenant_id, task, task_id, arguments, fingerprint, is_tick,
    is_replayable, error_class, error_message, traceback, failures, first_failed_at,
    last_failed_at, status, reason, decided_by, replay_task_id)
VALUES (%(id)s, %(tenant_id)s, %(task)s, %(task_id)s, %(arguments)s, %(fingerprint)s, %(is_tick)s,
    %(is_replayable)s, %(error_class)s, %(error_message)s, %(traceback)s, %(failures)s,
    least(%(began_at)s, %(now)s), %(now)s, 'waiting', '', '', '')
ON CONFLICT (fingerprint) WHERE status = 'waiting' DO UPDATE
SET failures = d.failures + %(more)s, last_failed_at = greatest(d.last_failed_at, %(now)s),
    task_id = excluded.task_id, error_class = excluded.error_class,
    error_message = excluded.error_message, traceback = excluded.traceback
RETURNING d.id, d.failures
"""


def bury(
    *,
    task: str,
    task_id: str,
    tenant_id: UUID | None,
    arguments: str,
    fingerprint: bytes,
    is_tick: bool,
    is_replayable: bool,
    failure: Failure,
    failures: int,
    more: int,
    began_at: dt.datetime,
    now: dt.datetime,
) -> UUID:
    """
    Keep what has failed for good. Where a letter of the same task and arguments waits already, it
    counts `more` failures and takes over the latest error.
    """
    letter_id = new_id()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                _BURY,
                {
                    "id": letter_id,
                    "tenant_id": tenant_id,
                    "task": task,
                    "task_id": task_id,
                    "arguments": arguments,
                    "fingerprint": fingerprint,
                    "is_tick": is_tick,
                    "is_replayable": is_replayable,
                    "error_class": failure.error_class,
                    "error_message": failure.message,
                    "traceback": failure.traceback,
                    "failures": failures,
                    "more": more,
                    "began_at": began_at,
                    "now": now,
                },
            )
            [found_id, counted] = cursor.fetchone()
        if found_id == letter_id:
            after = {"task": task, "failures": counted, "error": failure.error_class}
            _record(tenant_id, "job.dead", letter_id, now, after=after)
        logger.error("job is dead", task=task, letter=str(found_id), failures=counted)
        note_failure(task=task, words=f"{failure.summary} (dead letter {found_id})", now=now)
    return UUID(str(found_id))


def replay_letter(
    *, letter_id: UUID, now: dt.datetime, reason: str = "", tenant_id: UUID | None = None
) -> str:
    """
    Have the letter's task run again, with its arguments; return the id of the run.

    :raises NotFound: no such letter, or it is another tenant's
    :raises InvalidState: it was decided on, or its arguments were not kept whole
    """
    with transaction.atomic():
        letter = _locked(letter_id, tenant_id)
        if not letter.is_replayable:
            raise InvalidState("Its arguments held a secret, which is not kept: ask for it anew.")
        letter.replay_task_id = enqueue_again(letter, now=now)
        _decide(letter, _S.REPLAYED, reason.replace("\x00", "")[:REASON_LENGTH_MAX], now)
    return letter.replay_task_id


def discard_letter(
    *, letter_id: UUID, reason: str, now: dt.datetime, tenant_id: UUID | None = None
) -> None:
    """
    Give the letter's work up for good.

    :raises NotFound: no such letter, or it is another tenant's
    :raises InvalidState: it was decided on
    :raises InvalidRequest: no reason, or a long one
    """
    reason = reason.replace("\x00", "").strip()
    if not 0 < len(reason) <= REASON_LENGTH_MAX:
        raise InvalidRequest(
            f"A reason of at most {REASON_LENGTH_MAX} characters is needed.", field="reason"
        )
    with transaction.atomic():
        _decide(_locked(letter_id, tenant_id), _S.DISCARDED, reason, now)


def _locked(letter_id: UUID, tenant_id: UUID | None) -> DeadLetter:
    found = DeadLetter.objects.select_for_update().filter(pk=letter_id)
    if tenant_id is not None:
        found = found.filter(tenant_id=tenant_id)
    letter = found.first()
    if letter is None:
        raise NotFound("No such dead letter.")
    if letter.status != _S.WAITING:
        raise InvalidState(f"The dead letter is {letter.status}; only waiting ones are decided on.")
    return letter


def _decide(letter: DeadLetter, status: DeadLetter.Status, reason: str, now: dt.datetime) -> None:
    letter.status, letter.reason, letter.decided_at = status, reason, now
    letter.decided_by = current_caller().actor_id
    letter.save(
        update_fields=["status", "reason", "decided_at", "decided_by", "replay_task_id"],
    )
    _record(
        letter.tenant_id,
        f"job.{status}",
        letter.pk,
        now,
        before={"status": "waiting"},
        after={"status": str(status), "task": letter.task},
        reason=reason,
    )


def _record(
    tenant_id: UUID | None,
    action: str,
    letter_id: UUID,
    now: dt.datetime,
    *,
    after: dict[str, object],
    before: dict[str, object] | None = None,
    reason: str = "",
) -> None:
    """Write the audit record, and the event where there is a tenant to tell."""
    if tenant_id is None:
        record_for_audit(
            tenant_id=None,
            action=action,
            object_id=letter_id,
            now=now,
            before=before,
            after=after,
            reason=reason,
        )
    else:
        record_change(
            tenant_id=tenant_id,
            action=action,
            object_id=letter_id,
            now=now,
            before=before,
            after=after,
            reason=reason,
        )
