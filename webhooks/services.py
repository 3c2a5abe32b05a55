"""
Notifications of gateways: taken in one insert, processed by a worker, retried, replayed.

What arrived is stored once, by the gateway's own identity of the event. The work is claimed before
it is done and counted in the database, so that a worker that dies leaves the event due. What was
with a worker that died is tried alone from then on: an event that kills its worker takes no others
with it, and is given up in the end.
"""

import datetime as dt
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, QuerySet

from core.changes import record_change
from core.errors import InvalidState
from core.idempotency import keyed_fingerprint
from core.ids import new_id
from core.iso20022.status_codes import normalised
from core.jobs import ring
from core.metrics import inbound_webhooks_total
from core.redaction import redacted_text, without_card_numbers
from payments.gateways.port import Notification, State, Unauthentic
from payments.models import GatewayConfiguration
from payments.services import NotYet, UnknownReference, take_notice
from webhooks.errors import InvalidSignature
from webhooks.models import InboundAttempt, InboundEvent
from webhooks.queries import Receiver, inbound_event_of

logger = structlog.get_logger(__name__)

PROCESS_TASK = "webhooks.process_due_events"
# After a failed attempt; after the last, a person replays it.
RETRY_AFTER_S = (10, 30, 120, 600, 3600, 6 * 3600, 12 * 3600)
ATTEMPTS_MAX = len(RETRY_AFTER_S) + 1
# How long an attempt may take before another worker tries.
LEASE_S = 120
# How late in a run an event is still begun: what it may take then ends well within the lease.
BEGUN_WITHIN_S = 60
THREADS = 8
# The outcome of an event while a worker has it; still there afterwards, that worker has died.
BEGUN = "begun"
WORKER_DIED = "worker_died"
# Max35Text of ISO 20022.
_TEXT_MAX = 35
_KEPT_HEADERS = ("webhook-id", "webhook-timestamp", "content-type", "user-agent")
_STATES = {
    State.PENDING: "pending",
    State.REVIEW: "review",
    State.SUCCEEDED: "paid",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "expired",
    State.REVERSED: "reversed",
}

_INSERT = """
INSERT INTO webhooks_inboundevent (id, tenant_id, configuration_id, gateway, event_id, kind,
    reference, gateway_object_id, claimed_state, failure_code, body, headers, status_report,
    status, outcome, attempts, next_attempt_at, received_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'pending', '', 0, %s, %s)
ON CONFLICT (tenant_id, gateway, event_id) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt ended that did not succeed."""

    outcome: str
    detail: str
    # Whether another attempt may go better.
    is_passing: bool


def receive(
    *, receiver: Receiver, headers: Mapping[str, str], body: bytes, now: dt.datetime
) -> bool:
    """
    Store a gateway's notification, and say whether it is new. One round trip.

    :raises InvalidSignature: the gateway has not signed it; nothing is stored
    :raises Unreadable: there is no sense in it; nothing is stored
    """
    try:
        told = receiver.line.verify_and_parse(headers=headers, body=body, secrets=receiver.secrets)
    except Unauthentic as error:
        inbound_webhooks_total.labels(receiver.gateway, "forged").inc()
        raise InvalidSignature("The signature or token is missing or wrong.") from error
    event_id = new_id()
    kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
    with connection.cursor() as cursor:
        cursor.execute(
            _INSERT,
            [
                event_id,
                receiver.tenant_id,
                receiver.configuration_id,
                receiver.gateway,
                _identity(told),
                told.kind.value,
                # Ours hold no card number; what else stands there may.
                without_card_numbers(told.reference)[:100],
                without_card_numbers(told.gateway_id)[:100],
                told.state.value if told.state else "",
                without_card_numbers(told.failure_code)[:64],
                _without_card_numbers(body),
                json.dumps({name: without_card_numbers(text) for name, text in kept.items()}),
                json.dumps(_status_report(told, event_id, now)),
                now,
                now,
            ],
        )
        is_new = bool(cursor.rowcount)
    inbound_webhooks_total.labels(receiver.gateway, "stored" if is_new else "duplicate").inc()
    if is_new:
        ring(PROCESS_TASK)
    return is_new


def process_due_events(*, now: dt.datetime, limit: int) -> int:
    """Process at most `limit` due events; return how many were."""
    until = time.monotonic() + BEGUN_WITHIN_S
    events, suspects = _claim(now, limit)
    done = _process_together(events, now, until)
    for event_id in suspects:
        if time.monotonic() > until:
            break
        done += 1
        event = _claim_alone(event_id, now)
        if event is not None:
            process_event(event, now=now)
    return done


def _process_together(events: Sequence[InboundEvent], now: dt.datetime, until: float) -> int:
    """Process what can be begun by then, several at once; give the rest back."""
    if len(events) < 2 or connection.in_atomic_block:
        for event in events:
            process_event(event, now=now)
        return len(events)
    left: list[UUID] = []

    def in_thread(same: Sequence[InboundEvent]) -> None:
        try:
            for event in same:
                if time.monotonic() < until:
                    process_event(event, now=now)
                else:
                    left.append(event.pk)
        finally:
            # A thread's connection goes back to the pool with it.
            connection.close()

    # What is about one object stays in order, and in one thread: two would wait for its lock.
    by_object: dict[tuple[UUID, str], list[InboundEvent]] = {}
    for event in events:
        named = event.reference or event.gateway_object_id
        by_object.setdefault((event.configuration_id, named), []).append(event)
    # One of the process's connections is this thread's own; one too few, and somebody waits for it
    # as long as a gateway may take to answer.
    threads = max(1, min(THREADS, settings.DATABASE_POOL_MAX - 1, len(by_object)))
    with ThreadPoolExecutor(threads, thread_name_prefix="events") as pool:
        list(pool.map(in_thread, by_object.values()))
    # As if they had not been claimed: gateways that are slow are no fault of theirs.
    InboundEvent.objects.filter(pk__in=left, outcome=BEGUN).update(
        attempts=F("attempts") - 1, outcome="", next_attempt_at=now
    )
    return len(events) - len(left)


def process_event(event: InboundEvent, *, now: dt.datetime) -> InboundEvent:
    """Do what the event leads to, and write down how that went. The caller has claimed it."""
    failure: Failure | None = None
    outcome = ""
    try:
        outcome = take_notice(
            configuration=event.configuration,
            kind=event.kind,
            reference=event.reference,
            gateway_id=event.gateway_object_id,
            claimed_state=event.claimed_state,
            raw_status=str(event.status_report.get("AddtlInf", "")),
            is_settled=bool(event.status_report.get("TxSts") == "ACSC"),
            now=now,
        )
    except UnknownReference as error:
        failure = Failure("unknown_reference", f"Nothing of ours: {error}", is_passing=False)
    except NotYet as error:
        failure = Failure("not_yet", str(error), is_passing=True)
    except Exception as error:
        # Whatever it is, it must not keep other events from being processed.
        logger.exception("webhook failed", webhook=str(event.pk))
        failure = Failure(type(error).__name__, redacted_text(str(error)), is_passing=True)
    if failure is None:
        _end(event, InboundEvent.Status.SUCCEEDED, outcome, now)
    else:
        _fail(event, failure, now)
    return event


def replay_event(*, tenant_id: UUID, event_id: UUID, now: dt.datetime) -> InboundEvent:
    """
    Have a failed event processed again, from the first attempt on.

    :raises NotFound: no such event in this tenant
    :raises InvalidState: it did not fail
    """
    with transaction.atomic():
        inbound_event_of(tenant_id=tenant_id, event_id=event_id)
        event = InboundEvent.objects.select_for_update().get(pk=event_id)
        if event.status != InboundEvent.Status.FAILED:
            raise InvalidState(f"The webhook is {event.status}; only failed ones are replayed.")
        event.status, event.next_attempt_at = InboundEvent.Status.PENDING, now
        event.attempts, event.processed_at = 0, None
        event.save(update_fields=["status", "next_attempt_at", "attempts", "processed_at"])
        record_change(
            tenant_id=tenant_id,
            action="webhook.replayed",
            object_id=event.pk,
            now=now,
            before={"status": "failed", "outcome": event.outcome},
            after={"status": "pending"},
        )
        ring(PROCESS_TASK)
    return event


def _claim(now: dt.datetime, limit: int) -> tuple[list[InboundEvent], list[UUID]]:
    """
    Take due events for this worker, counted before they are worked on; two round trips. Beside
    them, the ids of those that are to be taken alone, since they were with a worker that died.
    """
    with transaction.atomic():
        due = InboundEvent.objects.due(now).select_for_update(skip_locked=True, no_key=True)
        rows = list(due.values_list("pk", "outcome")[:limit])
        suspects = [pk for pk, outcome in rows if outcome in (BEGUN, WORKER_DIED)]
        ids = [pk for pk, outcome in rows if outcome not in (BEGUN, WORKER_DIED)]
        if not ids:
            return [], suspects
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE webhooks_inboundevent"
                " SET attempts = attempts + 1, next_attempt_at = %s, outcome = %s"
                " WHERE id = ANY(%s)",
                [_lease_end(now), BEGUN, ids],
            )
    taken = InboundEvent.objects.filter(pk__in=ids).order_by("pk").defer("body")
    configurations = GatewayConfiguration.objects.in_bulk({each.configuration_id for each in taken})
    for event in taken:
        event.configuration = configurations[event.configuration_id]
    return list(taken), suspects


def _claim_alone(event_id: UUID, now: dt.datetime) -> InboundEvent | None:
    """
    Take an event that a worker died with, and write that down; None: another worker has it, or it
    has been given up.
    """
    with transaction.atomic():
        due = InboundEvent.objects.due(now).select_for_update(
            of=("self",), skip_locked=True, no_key=True
        )
        event = due.filter(pk=event_id).select_related("configuration").defer("body").first()
        if event is None or event.next_attempt_at is None:
            return None
        if event.outcome == BEGUN:
            began_at = event.next_attempt_at - dt.timedelta(seconds=LEASE_S)
            death = Failure(WORKER_DIED, "Its worker never said how it went.", is_passing=True)
            if event.attempts >= ATTEMPTS_MAX:
                _give_up(event, death, now)
            _log_attempt(event, death, began_at=began_at, ended_at=None)
            if event.status == InboundEvent.Status.FAILED:
                return None
        event.attempts += 1
        event.outcome, event.next_attempt_at = BEGUN, _lease_end(now)
        event.save(update_fields=["attempts", "outcome", "next_attempt_at"])
    return event


def _lease_end(now: dt.datetime) -> dt.datetime:
    return now + dt.timedelta(seconds=LEASE_S)


def _end(event: InboundEvent, status: str, outcome: str, now: dt.datetime) -> bool:
    """End the event, unless it is another worker's by now, because this one took too long."""
    event.status, event.outcome = status, outcome[:64]
    event.next_attempt_at, event.processed_at = None, now
    return bool(
        _own(event).update(
            status=status, outcome=event.outcome, next_attempt_at=None, processed_at=now
        )
    )


def _fail(event: InboundEvent, failure: Failure, now: dt.datetime) -> None:
    with transaction.atomic():
        if failure.is_passing and event.attempts < ATTEMPTS_MAX:
            wait = dt.timedelta(seconds=RETRY_AFTER_S[event.attempts - 1])
            event.outcome, event.next_attempt_at = failure.outcome[:64], now + wait
            is_ours = bool(
                _own(event).update(outcome=event.outcome, next_attempt_at=event.next_attempt_at)
            )
        else:
            is_ours = _give_up(event, failure, now)
        if is_ours:
            _log_attempt(event, failure, began_at=now, ended_at=now)


def _give_up(event: InboundEvent, failure: Failure, now: dt.datetime) -> bool:
    """Leave the event to a person, unless it is another worker's by now."""
    is_ours = _end(event, InboundEvent.Status.FAILED, failure.outcome, now)
    if is_ours:
        record_change(
            tenant_id=event.tenant_id,
            action="webhook.failed",
            object_id=event.pk,
            now=now,
            after={"outcome": event.outcome, "attempts": event.attempts},
        )
    return is_ours


def _own(event: InboundEvent) -> QuerySet[InboundEvent]:
    """The event's row while nobody has claimed it since: each claim counts one up."""
    return InboundEvent.objects.filter(
        pk=event.pk, status=InboundEvent.Status.PENDING, attempts=event.attempts
    )


def _log_attempt(
    event: InboundEvent, failure: Failure, *, began_at: dt.datetime, ended_at: dt.datetime | None
) -> None:
    """Write the attempt down. The caller has the event's row locked, so its number is free."""
    InboundAttempt.objects.create(
        tenant_id=event.tenant_id,
        event=event,
        number=event.attempt_log.count() + 1,
        began_at=began_at,
        ended_at=ended_at,
        outcome=failure.outcome[:64],
        detail=failure.detail[:500],
    )


def _status_report(told: Notification, event_id: UUID, now: dt.datetime) -> dict[str, str | None]:
    """Return the notification as a pain.002 would say it, by the names of its elements."""
    if told.state is None:
        return {}
    state = "settled" if told.is_settled else _STATES[told.state]
    status, reason = normalised(state, told.failure_code or None)
    identity = _identity(told)
    return {
        # Cut off, the identities of several messages would be one.
        "MsgId": identity if len(identity) <= _TEXT_MAX else event_id.hex,
        "CreDtTm": now.astimezone(dt.UTC).isoformat(timespec="seconds"),
        "OrgnlEndToEndId": without_card_numbers(told.reference)[:_TEXT_MAX],
        "TxSts": status,
        "Rsn": reason,
        "AddtlInf": without_card_numbers(told.raw_status)[:60],
    }


def _identity(told: Notification) -> str:
    """
    Return the event's identity. In place of one with a card number in it, which is nowhere stored,
    a fingerprint: it tells events apart as well.
    """
    if without_card_numbers(told.event_id) == told.event_id:
        return told.event_id
    return keyed_fingerprint("inbound event", told.event_id).hex()


def _without_card_numbers(body: bytes) -> bytes:
    """Return the body as received; with card numbers, which nobody should send, struck out."""
    text = body.decode("utf-8", errors="surrogateescape")
    return without_card_numbers(text).encode("utf-8", errors="surrogateescape")
