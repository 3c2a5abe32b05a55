"""
What waits for an answer from outside: when it is looked at again, and when a person must.

A row that waits has `next_step_at`. Whoever looks at it moves that forward, and counts, in a
transaction of its own before anything is called: a process that dies leaves it due again, and one
that it kills each time does not go on for ever.
"""

import base64
import datetime as dt
import json
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, transaction

from core.caller import current_caller
from core.changes import record_change
from core.ids import new_id
from payments.models import Discrepancy, Payment, Payout, Refund

W = TypeVar("W", Payment, Refund, Payout)

# After the question became open: asked again then, and after the last a person is told. From there
# on once a day, up to STEPS_MAX, since a gateway may come back after a week.
ASK_AFTER = (
    dt.timedelta(minutes=1),
    dt.timedelta(minutes=5),
    dt.timedelta(minutes=15),
    dt.timedelta(hours=1),
    dt.timedelta(hours=6),
    dt.timedelta(hours=24),
)
ASK_EVERY = dt.timedelta(days=1)
STEPS_MAX = 60
# Between two tries to reach a gateway that does not answer at all.
LONGEST_PAUSE = dt.timedelta(hours=1)
# A deposit that the ledger refuses may be taken any time: an account is unfrozen.
DEPOSIT_EVERY = dt.timedelta(hours=6)


def begin_waiting(row: Payment | Refund | Payout, now: dt.datetime) -> None:
    """Have the sweep look at the row in a minute. The caller saves it."""
    row.waiting_since, row.steps, row.next_step_at = now, 0, now + ASK_AFTER[0]


def end_waiting(row: Payment | Refund | Payout, now: dt.datetime) -> None:
    """Nobody need look at the row again. The caller saves it."""
    row.waiting_since, row.steps, row.next_step_at = now, 0, None


def claim_due(model: type[W], *, now: dt.datetime, limit: int) -> list[W]:
    """Return at most `limit` rows that are due, each moved on to its next time; two round trips."""
    with transaction.atomic():
        due = model._default_manager.filter(next_step_at__lte=now).order_by("next_step_at", "pk")
        rows = list(due.select_for_update(skip_locked=True, no_key=True)[:limit])
        for row in rows:
            row.steps = min(row.steps + 1, STEPS_MAX)
            row.next_step_at = _next_step(row, now)
        if rows:
            model._default_manager.bulk_update(rows, ["steps", "next_step_at"])
    return rows


class NoAnswer(Exception):
    """A gateway was asked, and said nothing that tells where the object stands."""


def not_counted(row: W, now: dt.datetime) -> None:
    """
    Take back a step in which nothing could be asked, and try again: in a minute at first, then in
    a tenth of the time that has passed, an hour at most. After a day a person is told.
    """
    if row.next_step_at is None:
        return
    waited = now - row.waiting_since
    pause = min(max(waited / 10, ASK_AFTER[0]), LONGEST_PAUSE)
    type(row)._default_manager.filter(pk=row.pk, next_step_at=row.next_step_at).update(
        steps=max(row.steps - 1, 0), next_step_at=now + pause
    )
    if waited >= ASK_AFTER[-1]:
        tell_a_person(
            row, Discrepancy.Kind.UNKNOWN_OUTCOME, now=now, ours=row.status, theirs="unreachable"
        )


def mark_as_sent(row: Refund | Payout, now: dt.datetime) -> bool:
    """
    Take down that the row is about to be sent, before it is; say whether it may have been sent
    before: then a refusal ends nothing.
    """
    if row.sent_at is not None:
        return True
    type(row)._default_manager.filter(pk=row.pk).update(sent_at=now)
    row.sent_at = now
    return False


def unmark_as_sent(row: Refund | Payout) -> None:
    """Take that back: nothing left this machine, or the gateway says that it did nothing."""
    type(row)._default_manager.filter(pk=row.pk).update(sent_at=None)
    row.sent_at = None


def tell_if_asked_in_vain(row: W, now: dt.datetime) -> None:
    """Tell a person once all of the questions were asked and the row still waits."""
    if row.steps >= len(ASK_AFTER) and row.next_step_at is not None:
        tell_a_person(
            row, Discrepancy.Kind.UNKNOWN_OUTCOME, now=now, ours=row.status, theirs="open"
        )


def came_right(row: W, *kinds: str, now: dt.datetime) -> None:
    """Close what was open about the row, since it has come right by itself."""
    if not row.attention:
        # Whoever opens something says so on the row; most never have anything.
        return
    still_open = Discrepancy.objects.filter(
        tenant_id=row.tenant_id, reference=row.reference, kind__in=kinds, status="open"
    )
    closed = still_open.update(
        status=Discrepancy.Status.RESOLVED,
        resolution="came_right",
        resolved_by=current_caller().actor_id,
        resolved_at=now,
    )
    if closed or row.attention in kinds:
        type(row)._default_manager.filter(pk=row.pk, attention__in=kinds).update(attention="")
        row.attention = "" if row.attention in kinds else row.attention


def _next_step(row: Payment | Refund | Payout, now: dt.datetime) -> dt.datetime | None:
    is_deposit = isinstance(row, Payment) and row.status in ("paid", "deposit_pending")
    if is_deposit and row.steps > 3:
        return now + DEPOSIT_EVERY
    if row.steps >= STEPS_MAX:
        # Two months of a gateway that knows nothing. A person has been told long since.
        return None
    if row.steps >= len(ASK_AFTER):
        return now + ASK_EVERY
    # Where nobody looked for a while, the questions do not all come at once.
    return max(row.waiting_since + ASK_AFTER[row.steps], now + ASK_AFTER[0])


def reference_of(prefix: str, object_id: UUID, attempt: int | None = None) -> str:
    """Return what a gateway knows the object by: 29 letters and digits, and the attempt."""
    code = base64.b32encode(object_id.bytes).decode().rstrip("=")
    return f"{prefix}-{code}" + (f"-{attempt}" if attempt is not None else "")


def tell_a_person(row: W, reason: str, *, now: dt.datetime, **detail: Any) -> None:
    """
    Mark the row, and open a discrepancy of this kind unless one is open.

    `detail` has what each side says, such as ours="pending", theirs="paid".
    """
    type(row)._default_manager.filter(pk=row.pk).exclude(attention=reason).update(
        attention=reason, updated_at=now
    )
    row.attention = reason
    configuration_id = (
        row.payment.configuration_id if isinstance(row, Refund) else row.configuration_id
    )
    open_discrepancy(
        tenant_id=row.tenant_id,
        configuration_id=configuration_id,
        kind=reason,
        object_type=row._meta.model_name or "",
        object_id=row.pk,
        reference=row.reference,
        amount=row.amount,
        currency=row.currency,
        detail=detail,
        now=now,
    )


_OPEN = """
INSERT INTO payments_discrepancy (id, tenant_id, configuration_id, kind, object_type, object_id,
    reference, detail, amount, currency, status, resolution, resolution_note, resolved_by,
    found_at, seen_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'open', '', '', '', %s, %s)
ON CONFLICT (tenant_id, kind, reference) WHERE status = 'open'
    DO UPDATE SET seen_at = excluded.seen_at, detail = excluded.detail
RETURNING id, xmax = 0
"""


def open_discrepancy(
    *,
    tenant_id: UUID,
    configuration_id: UUID,
    kind: str,
    object_type: str,
    object_id: UUID | None,
    reference: str,
    amount: int | None,
    currency: str,
    detail: dict[str, Any],
    now: dt.datetime,
) -> bool:
    """Have a person resolve a difference; say whether it is new. One that is open stays one."""
    kind = Discrepancy.Kind(kind)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            _OPEN,
            [
                new_id(),
                tenant_id,
                configuration_id,
                kind,
                object_type,
                object_id,
                reference,
                json.dumps(detail),
                amount,
                currency,
                now,
                now,
            ],
        )
        discrepancy_id, is_new = cursor.fetchone()
        if is_new:
            record_change(
                tenant_id=tenant_id,
                action="discrepancy.found",
                object_id=discrepancy_id,
                now=now,
                after={"kind": kind.value, "reference": reference, **detail},
            )
    return bool(is_new)
