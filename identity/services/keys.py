"""API keys: made, rotated, revoked, and what is remembered of their use."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from core.changes import record_change, record_for_audit
from core.database import refusing
from core.errors import InvalidRequest, InvalidState, NotFound
from core.limiting import spread_the_end_of
from identity.errors import RefusedKey
from identity.models import ApiKey
from identity.queries import credential_digest

PUBLIC_ID_BYTES = 8
SECRET_BYTES = 32
OVERLAP_MAX_S = 7 * 24 * 3600
RATE_LIMIT_MAX = 1_000_000
# How often the use of a key, or its refusal, is written down.
NOTED_EVERY = timedelta(minutes=1)
_LIVE = "test_clock_without_live_keys"


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key and its one and only appearance in clear."""

    api_key: ApiKey
    clear: str


def create_api_key(
    *,
    tenant_id: UUID,
    name: str,
    scopes: list[str],
    now: datetime,
    mode: str = ApiKey.Mode.TEST,
    expires_at: datetime | None = None,
    rate_limit: int | None = None,
) -> IssuedKey:
    """
    Issue an API key. The clear key is in the result and nowhere else.

    `rate_limit` is requests a minute, None: as everybody.

    :raises InvalidRequest: it would expire before it begins
    :raises InvalidState: a live one, of a tenant whose time is a test clock's
    """
    if expires_at is not None and expires_at <= now:
        raise InvalidRequest("A key expires in the future.", field="expires_at")
    by_test_clock = InvalidState("Its time is a test clock's: it has no live keys.")
    public_id = secrets.token_hex(PUBLIC_ID_BYTES)
    clear = _clear_key(mode, public_id)
    with refusing({_LIVE: by_test_clock}), transaction.atomic():
        api_key = ApiKey.objects.create(
            tenant_id=tenant_id,
            name=name,
            mode=mode,
            public_id=public_id,
            digest=credential_digest(clear),
            # Each once, in one order.
            scopes=sorted(set(scopes)),
            rate_limit=rate_limit,
            created_at=now,
            expires_at=expires_at,
        )
        after = {
            "name": name,
            "mode": mode,
            "public_id": public_id,
            "scopes": api_key.scopes,
            "expires_at": expires_at,
            "rate_limit": rate_limit,
        }
        _record(api_key, "api_key.created", now, after=after)
    return IssuedKey(api_key, clear)


def rotate_api_key(
    *, tenant_id: UUID, api_key_id: UUID, overlap_s: int, now: datetime, reason: str = ""
) -> IssuedKey:
    """
    Give the key a new secret. The old one is good for `overlap_s` seconds more; with 0 it is dead
    when this returns.

    Name, scopes, limits and the id that audit and idempotency know it by stay. An overlap that was
    running ends: at most two secrets are good at a time.

    :raises NotFound: no such key in this tenant
    :raises InvalidState: revoked or expired
    """
    with transaction.atomic():
        api_key = _key_for_update(tenant_id, api_key_id)
        if api_key.revoked_at is not None or api_key.is_expired(now):
            raise InvalidState("A key that is revoked or expired is not rotated: make a new one.")
        clear = _clear_key(api_key.mode, api_key.public_id)
        ended = [bytes(api_key.previous_digest)] if api_key.previous_digest else []
        if not overlap_s:
            ended.append(bytes(api_key.digest))
        api_key.previous_digest = api_key.digest
        api_key.previous_expires_at = now + timedelta(seconds=overlap_s)
        api_key.digest = credential_digest(clear)
        api_key.rotated_at = now
        api_key.save(
            update_fields=["previous_digest", "previous_expires_at", "digest", "rotated_at"]
        )
        after = {"rotated_at": now, "overlap_seconds": overlap_s}
        _record(api_key, "api_key.rotated", now, after=after, reason=reason)
        transaction.on_commit(lambda: spread_the_end_of(ended))
    return IssuedKey(api_key, clear)


def revoke_api_key(*, tenant_id: UUID, api_key_id: UUID, now: datetime, reason: str = "") -> ApiKey:
    """
    Revoke a key for good. A second revocation changes nothing.

    Every web process refuses it from its next request on; where Redis is down, within
    API_KEY_CACHE_S seconds.

    :raises NotFound: no such key in this tenant
    """
    with transaction.atomic():
        api_key = _key_for_update(tenant_id, api_key_id)
        if api_key.revoked_at is None:
            api_key.revoked_at = now
            api_key.save(update_fields=["revoked_at"])
            _record(api_key, "api_key.revoked", now, after={"revoked_at": now}, reason=reason)
            ended = [bytes(each) for each in (api_key.digest, api_key.previous_digest) if each]
            transaction.on_commit(lambda: spread_the_end_of(ended))
    return api_key


def note_use(*, api_key_id: UUID, now: datetime) -> None:
    """Write down that the key is in use, at most once a minute."""
    _is_first_in_a_while(api_key_id, "last_used_at", now)


def note_refusal(*, refused: RefusedKey, now: datetime) -> None:
    """Record that the key was refused, at most once a minute."""
    api_key = refused.api_key
    with transaction.atomic():
        if _is_first_in_a_while(api_key.pk, "last_refused_at", now):
            record_for_audit(
                tenant_id=api_key.tenant_id,
                action="api_key.refused",
                object_id=api_key.pk,
                reason=f"{refused.refusal.code}: {refused.refusal.detail}",
                now=now,
            )


def _is_first_in_a_while(api_key_id: UUID, field: str, now: datetime) -> bool:
    """Set the moment where it is old enough; say whether it was."""
    is_due = Q(**{field: None}) | Q(**{f"{field}__lt": now - NOTED_EVERY})
    return bool(ApiKey.objects.filter(is_due, pk=api_key_id).update(**{field: now}))


def _clear_key(mode: str, public_id: str) -> str:
    return f"florin_{mode}_{public_id}_{secrets.token_hex(SECRET_BYTES)}"


def _key_for_update(tenant_id: UUID, api_key_id: UUID) -> ApiKey:
    found = ApiKey.objects.select_for_update().filter(tenant_id=tenant_id, pk=api_key_id).first()
    if found is None:
        raise NotFound("No such API key.")
    return found


def _record(api_key: ApiKey, action: str, now: datetime, **fields: Any) -> None:
    record_change(
        tenant_id=api_key.tenant_id, action=action, object_id=api_key.pk, now=now, **fields
    )
