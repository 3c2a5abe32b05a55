"""Who a key belongs to. The hot path asks the database twice a second, not at each request."""

import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from core.errors import InvalidToken, KeyExpired, KeyRevoked
from core.principal import Principal
from identity.errors import RefusedKey
from identity.models import ApiKey

KEY_PARTS = 4
KEY_LENGTH_MAX = 128
# More keys than any tenant has; when it is full it starts afresh.
CACHED_KEYS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class VerifiedKey:
    principal: Principal
    # Names the secret, and does not give it away.
    digest: bytes
    # Requests a minute; None: as everybody.
    rate_limit: int | None
    # The end of the key, or of the overlap for a secret that was rotated away.
    expires_at: datetime | None


# Digest → when it was verified (monotonic seconds), and what it is. By digest, so that a memory
# dump of the cache holds no key.
_verified: dict[bytes, tuple[float, VerifiedKey]] = {}


def credential_digest(credential: str) -> bytes:
    """Return the keyed SHA-256 of a whole API key or refresh token."""
    return hmac.digest(settings.API_KEY_PEPPER.encode(), credential.encode(), hashlib.sha256)


def forget_verified_keys() -> None:
    """Have every key looked up again, in this process."""
    _verified.clear()


def principal_of_key(*, key: str, now: datetime) -> VerifiedKey:
    """
    Return whom the key speaks for.

    Trusts a verification for API_KEY_CACHE_S seconds: a revoked key lives no longer than that, and
    no longer than the next request where Redis passes the word (core.limiting).

    :raises InvalidToken: malformed or unknown
    :raises RefusedKey: of a key that exists: with InvalidToken for a wrong secret, KeyRevoked where
        it was revoked or rotated away, KeyExpired where it is too old
    """
    if len(key) > KEY_LENGTH_MAX:
        raise InvalidToken("This is not an API key.")
    digest = credential_digest(key)
    known = _verified.get(digest)
    if known is not None and time.monotonic() - known[0] < settings.API_KEY_CACHE_S:
        verified = known[1]
        if verified.expires_at is None or verified.expires_at > now:
            return verified
    asked_at = time.monotonic()
    verified = _verify(key, digest, now)
    if len(_verified) >= CACHED_KEYS_MAX:
        _verified.clear()
    _verified[digest] = (asked_at, verified)
    return verified


def _verify(key: str, digest: bytes, now: datetime) -> VerifiedKey:
    parts = key.split("_")
    if len(parts) != KEY_PARTS or parts[0] != "florin":
        raise InvalidToken("This is not an API key.")
    found = ApiKey.objects.filter(public_id=parts[2]).first()
    if found is None:
        raise InvalidToken("The key is unknown.")
    expires_at = found.expires_at
    if not hmac.compare_digest(bytes(found.digest), digest):
        before = found.previous_digest
        if before is None or not hmac.compare_digest(bytes(before), digest):
            raise RefusedKey(found, InvalidToken("The key is unknown."))
        rotated_away_at = found.previous_expires_at
        if rotated_away_at is None or rotated_away_at <= now:
            raise RefusedKey(found, KeyRevoked("The key was rotated; this is the old one."))
        expires_at = min(filter(None, (expires_at, rotated_away_at)))
    if found.revoked_at is not None:
        raise RefusedKey(found, KeyRevoked("The key was revoked."))
    if found.is_expired(now):
        raise RefusedKey(found, KeyExpired("The key has expired."))
    return VerifiedKey(
        principal=Principal(found.tenant_id, f"key:{found.pk}", frozenset(found.scopes)),
        digest=digest,
        rate_limit=found.rate_limit,
        expires_at=expires_at,
    )
