"""
Notifications of gateways: taken in one insert, processed by a worker, retried, replayed.

What arrived is stored once, by the gateway's own identity of the event. The work is claimed before
it is done and counted in the database, so that a worker that dies leaves the event due, and an
event that kills its worker is given up in the end.
"""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

import structlog
from django.db import connection, transaction

from core.changes import record_change
from core.errors import InvalidState
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
# How long an attempt may take before another worker tries.
LEASE_S = 120
THREADS = 8
_KEPT_HEADERS = ("webhook-id", "webhook-timestamp", "content-type", "user-agent")
_STATES = {
    State.PENDING: "pending",
    State.REVIEW: "review",
    State.SUCCEEDED: "paid",
    State.FAILED: "failed",
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
    with connection.cursor() as cursor:
        cursor.execute(
            _INSERT,
            [
                new_id(),
                receiver.tenant_id,
                receiver.configuration_id,
                receiver.gateway,
                told.event_id,
                told.kind.value,
                told.reference[:100],
                told.gateway_id[:100],
                told.state.value if told.state else "",
                told.failure_code,
                _without_card_numbers(body),
                json.dumps({name: headers[name] for name in _KEPT_HEADERS if name in headers}),
                json.dumps(_status_report(told, now)),
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
    """Process at most `limit` due events; return how many were taken."""
    events = _claim(now, limit)
    if not events:
        return 0
    if len(events) == 1 or connection.in_atomic_block:
        for event in events:
            process_event(event, now=now)
        return len(events)

    def in_thread(same: Sequence[InboundEvent]) -> None:
        try:
            for event in same:
                process_event(event, now=now)
        finally:
            # A thread's connection goes back to the pool with it.
            connection.close()

    # What is about one object stays in order, and in one thread: two would wait for its lock.
    by_object: dict[tuple[UUID, str], list[InboundEvent]] = {}
    for event in events:
        named = event.reference or event.gateway_object_id
        by_object.setdefault((event.configuration_id, named), []).append(event)
    with ThreadPoolExecutor(min(THREADS, len(by_object)), thread_name_prefix="events") as pool:
        list(pool.map(in_thread, by_object.values()))
    return len(events)


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
            is_settled=bool(event.status_report.get("TxSts") == "ACSC"),
            now=now,
        )
    except UnknownReference as error:
        failure = Failure("unknown_reference", f"Nothing of ours: {error}", is_passing=False)
    except NotYet as error:
        failure = Failure("not_yet", str(error), is_passing=True)
    except Exception as error:
        # Whatever it is, it must not keep other events from being processed.
        logger.exception("webhook failed", event=str(event.pk))
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


def _claim(now: dt.datetime, limit: int) -> list[InboundEvent]:
    """Take due events for this worker, counted before they are worked on. Two round trips."""
    with transaction.atomic():
        due = InboundEvent.objects.due(now).select_for_update(skip_locked=True, no_key=True)
        ids = list(due.values_list("pk", flat=True)[:limit])
        if not ids:
            return []
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE webhooks_inboundevent SET attempts = attempts + 1, next_attempt_at = %s"
                " WHERE id = ANY(%s)",
                [now + dt.timedelta(seconds=LEASE_S), ids],
            )
    taken = InboundEvent.objects.filter(pk__in=ids).order_by("pk").defer("body")
    configurations = GatewayConfiguration.objects.in_bulk({each.configuration_id for each in taken})
    for event in taken:
        event.configuration = configurations[event.configuration_id]
    return list(taken)


def _end(event: InboundEvent, status: str, outcome: str, now: dt.datetime) -> None:
    event.status, event.outcome = status, outcome[:64]
    event.next_attempt_at, event.processed_at = None, now
    # Unless another worker ended it meanwhile, because this one took too long.
    InboundEvent.objects.filter(pk=event.pk, status=InboundEvent.Status.PENDING).update(
        status=status, outcome=event.outcome, next_attempt_at=None, processed_at=now
    )


def _fail(event: InboundEvent, failure: Failure, now: dt.datetime) -> None:
    with transaction.atomic():
        number = event.attempt_log.count() + 1
        InboundAttempt.objects.create(
            tenant_id=event.tenant_id,
            event=event,
            number=number,
            began_at=now,
            ended_at=now,
            outcome=failure.outcome[:64],
            detail=failure.detail[:500],
        )
        if failure.is_passing and event.attempts <= len(RETRY_AFTER_S):
            wait = dt.timedelta(seconds=RETRY_AFTER_S[event.attempts - 1])
            event.outcome, event.next_attempt_at = failure.outcome[:64], now + wait
            InboundEvent.objects.filter(pk=event.pk, status=InboundEvent.Status.PENDING).update(
                outcome=event.outcome, next_attempt_at=event.next_attempt_at
            )
            return
        _end(event, InboundEvent.Status.FAILED, failure.outcome, now)
        record_change(
            tenant_id=event.tenant_id,
            action="webhook.failed",
            object_id=event.pk,
            now=now,
            after={"outcome": event.outcome, "attempts": event.attempts},
        )


def _status_report(told: Notification, now: dt.datetime) -> dict[str, str | None]:
    """Return the notification as a pain.002 would say it, by the names of its elements."""
    if told.state is None:
        return {}
    state = "settled" if told.is_settled else _STATES[told.state]
    status, reason = normalised(state, told.failure_code or None)
    return {
        "MsgId": told.event_id[:35],
        "CreDtTm": now.astimezone(dt.UTC).isoformat(timespec="seconds"),
        "OrgnlEndToEndId": told.reference,
        "TxSts": status,
        "Rsn": reason,
        "AddtlInf": told.raw_status[:60],
    }


def _without_card_numbers(body: bytes) -> bytes:
    """Return the body as received; with card numbers, which nobody should send, struck out."""
    text = body.decode("utf-8", errors="surrogateescape")
    return without_card_numbers(text).encode("utf-8", errors="surrogateescape")
