"""
Exactly once for requests whose effect has no key of its own.

The record and the effect commit together, so that neither exists without the other. A twin that
arrives meanwhile waits for the first on the unique key and then gets its answer.
"""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import OperationalError, connection, transaction

from core.database import LOCK_NOT_AVAILABLE, sqlstate_of
from core.errors import IdempotencyConflict, RequestInProgress
from core.models import IdempotencyRecord

KEY_LENGTH_MAX = 255
# A key that is older counts as new. Those of postings are on the ledger's rows and stay for ever.
KEPT_FOR = timedelta(hours=24)
# Made once: json.dumps would make one at each call.
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str)
REUSED_KEY = "The idempotency key belongs to another request."


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any
    is_replay: bool


def fingerprint(*parts: object) -> bytes:
    """Return the SHA-256 of the parts, which are JSON values, UUIDs or dates."""
    return hashlib.sha256(_canonical.encode(parts).encode()).digest()


def keyed_fingerprint(*parts: object) -> bytes:
    """
    Return a fingerprint that only we can make: the parts may hold a password, which whoever reads
    the database could else guess at the speed of a bare hash.
    """
    return hmac.digest(settings.API_KEY_PEPPER.encode(), fingerprint(*parts), hashlib.sha256)


def once(
    *,
    tenant_id: UUID,
    key: str,
    request_fingerprint: bytes,
    now: datetime,
    effect: Callable[[], tuple[int, Any]],
) -> Answer:
    """
    Run `effect` and keep its answer (status, JSON body), or return the answer kept before.

    A refusal raised by `effect` undoes everything and keeps nothing: the request may be sent again.
    Costs two round trips more than the effect, and one row.

    :raises IdempotencyConflict: the key was used for another request
    :raises RequestInProgress: the first request with the key has not ended within the lock time-out
    """
    with transaction.atomic():
        if not _claim(tenant_id, key, request_fingerprint, now):
            return _kept(tenant_id, key, request_fingerprint)
        status, body = effect()
        IdempotencyRecord.objects.filter(tenant_id=tenant_id, key=key).update(
            status=status, body=body
        )
    return Answer(status, body, is_replay=False)


def purge_expired(*, now: datetime, limit: int) -> int:
    """Delete at most `limit` answers that are older than KEPT_FOR; return how many."""
    expired = IdempotencyRecord.objects.filter(created_at__lt=now - KEPT_FOR)
    oldest = expired.order_by("created_at").values("pk")[:limit]
    # Expired still when it is deleted: a request may have taken the key again meanwhile.
    deleted, _ = expired.filter(pk__in=list(oldest.values_list("pk", flat=True))).delete()
    return deleted


def _claim(tenant_id: UUID, key: str, request_fingerprint: bytes, now: datetime) -> bool:
    """Insert the record; wait for a twin's transaction to end, and say whether we are first."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(
                "INSERT INTO core_idempotencyrecord (tenant_id, key, fingerprint, created_at)"
                " VALUES (%s, %s, %s, %s) ON CONFLICT (tenant_id, key) DO UPDATE"
                # An expired record that is not purged yet counts for nothing.
                " SET fingerprint = excluded.fingerprint, created_at = excluded.created_at,"
                " status = NULL, body = NULL WHERE core_idempotencyrecord.created_at < %s",
                [tenant_id, key, request_fingerprint, now, now - KEPT_FOR],
            )
        except OperationalError as error:
            if sqlstate_of(error) != LOCK_NOT_AVAILABLE:
                raise
            raise RequestInProgress("Its first copy is still running. Send it again.") from error
        return bool(cursor.rowcount == 1)


def _kept(tenant_id: UUID, key: str, request_fingerprint: bytes) -> Answer:
    record = IdempotencyRecord.objects.get(tenant_id=tenant_id, key=key)
    if bytes(record.fingerprint) != request_fingerprint:
        raise IdempotencyConflict(REUSED_KEY)
    if record.status is None:
        raise RuntimeError(f"idempotency record {record.pk} was committed without an answer")
    return Answer(record.status, record.body, is_replay=True)
