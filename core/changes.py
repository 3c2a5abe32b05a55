"""
What every change outside the ledger's postings writes beside itself, in its own transaction.

One row for those who react (the outbox) and one for those who ask who it was (the audit trail), in
one round trip. Postings do neither here: the posting function writes their events, and a
transaction's own row says who made it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection

from core.caller import current_caller
from core.database import sql_array, sql_text_array

_INSERT_RECORD = """
INSERT INTO core_auditrecord (tenant_id, action, actor_id, object_id, object_ids, before, after,
                              reason, request_id, address, created_at)
VALUES (%(tenant_id)s, %(action)s, %(actor_id)s, %(object_id)s, %(object_ids)s, %(before)s,
        %(after)s, %(reason)s, %(request_id)s, %(address)s, %(now)s)
"""
_INSERT_BOTH = f"""
WITH event AS (
    INSERT INTO core_outboxevent (tenant_id, event_type, resource_id, payload, created_at)
    VALUES (%(tenant_id)s, %(action)s, %(object_id)s, %(payload)s, %(now)s)
)
{_INSERT_RECORD}
"""  # noqa: S608 - put together from constants

_INSERT_MANY = """
WITH changed AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(payloads)s::jsonb[], %(before)s::jsonb[],
                         %(after)s::jsonb[]) WITH ORDINALITY c(id, payload, before, after, n)
), event AS (
    INSERT INTO core_outboxevent (tenant_id, event_type, resource_id, payload, created_at)
    SELECT %(tenant_id)s, %(action)s, id, payload, %(now)s FROM changed ORDER BY n
)
INSERT INTO core_auditrecord (tenant_id, action, actor_id, object_id, before, after, reason,
                              request_id, address, created_at)
SELECT %(tenant_id)s, %(action)s, %(actor_id)s, id, before, after, %(reason)s, %(request_id)s,
       %(address)s, %(now)s
  FROM changed ORDER BY n
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One of many: see record_change."""

    object_id: UUID
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    payload: Mapping[str, Any] | None = None


def record_change(
    *,
    tenant_id: UUID,
    action: str,
    object_id: UUID,
    now: datetime,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str = "",
    payload: Mapping[str, Any] | None = None,
) -> None:
    """
    Write the event and the audit record of a change. One round trip, two rows.

    `action` is the event's type, "<resource>.<past participle>". `before` and `after` hold the
    fields that changed, see `changed`; `payload` goes with the event.
    """
    _write(
        _INSERT_BOTH,
        tenant_id=tenant_id,
        action=action,
        object_id=object_id,
        before=before,
        after=after,
        reason=reason,
        payload=_json(payload),
        now=now,
    )


def record_changes(
    *, tenant_id: UUID, action: str, changes: Sequence[Change], now: datetime, reason: str = ""
) -> None:
    """Write the events and audit records of many changes of one kind. One round trip."""
    if not changes:
        return
    caller = current_caller()
    with connection.cursor() as cursor:
        cursor.execute(
            _INSERT_MANY,
            {
                "tenant_id": tenant_id,
                "action": action,
                "now": now,
                "ids": sql_array([each.object_id.hex for each in changes]),
                "payloads": [_json(each.payload) for each in changes],
                "before": [_json(each.before) for each in changes],
                "after": [_json(each.after) for each in changes],
                "reason": reason,
                "actor_id": caller.actor_id,
                "request_id": caller.request_id,
                "address": caller.address,
            },
        )


def record_for_audit(
    *,
    tenant_id: UUID | None,
    action: str,
    now: datetime,
    object_id: UUID | None = None,
    object_ids: list[UUID] | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str = "",
) -> None:
    """Write an audit record alone: nobody reacts to it, or its events are written in bulk."""
    _write(
        _INSERT_RECORD,
        tenant_id=tenant_id,
        action=action,
        object_id=object_id,
        object_ids=object_ids,
        before=before,
        after=after,
        reason=reason,
        now=now,
    )


def record_events(
    *,
    tenant_id: UUID,
    event_type: str,
    events: Sequence[tuple[UUID, Mapping[str, Any]]],
    now: datetime,
) -> None:
    """Write many events of one type: of what (id), with its payload. One round trip."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO core_outboxevent (tenant_id, event_type, resource_id, payload, created_at)"
            " SELECT %s, %s, e.id, e.payload, %s FROM unnest(%s::uuid[], %s::jsonb[])"
            " e(id, payload)",
            [
                tenant_id,
                event_type,
                now,
                sql_array([id_.hex for id_, _ in events]),
                sql_text_array([_json(payload) for _, payload in events]),
            ],
        )


def changed(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, Mapping[str, Any] | None]:
    """Return `before` and `after` of what differs, as keyword arguments of record_change."""
    names = [name for name in after if before.get(name) != after[name]]
    return {
        "before": {name: before.get(name) for name in names},
        "after": {name: after[name] for name in names},
    }


def _write(statement: str, **values: Any) -> None:
    caller = current_caller()
    object_ids: list[UUID] | None = values.pop("object_ids", None)
    values["before"], values["after"] = _json(values["before"]), _json(values["after"])
    parameters = {
        **values,
        "object_ids": None if object_ids is None else sql_array([id_.hex for id_ in object_ids]),
        "actor_id": caller.actor_id,
        "request_id": caller.request_id,
        "address": caller.address,
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


_encode = DjangoJSONEncoder(separators=(",", ":")).encode


def _json(fields: Mapping[str, Any] | None) -> str | None:
    return None if fields is None else _encode(dict(fields))
