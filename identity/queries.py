"""Who a key belongs to. The hot path asks the database once a second, not once a request."""

import hashlib
import hmac
import time
from datetime import datetime

from django.conf import settings

from core.principal import Principal
from identity.errors import InvalidToken, KeyExpired, KeyRevoked
from identity.models import ApiKey

KEY_PARTS = 4
KEY_LENGTH_MAX = 128
# More keys than any tenant has; when it is full it starts afresh.
CACHED_KEYS_MAX = 10_000

# Digest → when it was verified (monotonic seconds), principal, expiry. By digest, so that a memory
# dump of the cache holds no key.
_verified: dict[bytes, tuple[float, Principal, datetime | None]] = {}


def key_digest(key: str) -> bytes:
    """Return the keyed SHA-256 of a whole API key."""
    return hmac.digest(settings.API_KEY_PEPPER.encode(), key.encode(), hashlib.sha256)


def principal_of_key(*, key: str, now: datetime) -> Principal:
    """
    Return whom the key speaks for.

    Trusts a verification for API_KEY_CACHE_S seconds: a revoked key lives no longer than that.

    :raises InvalidToken: malformed, unknown, or a wrong secret
    :raises KeyRevoked: the key is genuine and was revoked
    :raises KeyExpired: the key is genuine and too old
    """
    if len(key) > KEY_LENGTH_MAX:
        raise InvalidToken("This is not an API key.")
    digest = key_digest(key)
    known = _verified.get(digest)
    if known is not None and time.monotonic() - known[0] < settings.API_KEY_CACHE_S:
        _, principal, expires_at = known
        if expires_at is None or expires_at > now:
            return principal
    found = _genuine_key(key, digest)
    if found.revoked_at is not None:
        raise KeyRevoked("The key was revoked.")
    if found.is_expired(now):
        raise KeyExpired("The key has expired.")
    principal = Principal(found.tenant_id, f"key:{found.pk}", frozenset(found.scopes))
    if len(_verified) >= CACHED_KEYS_MAX:
        _verified.clear()
    _verified[digest] = (time.monotonic(), principal, found.expires_at)
    return principal


def _genuine_key(key: str, digest: bytes) -> ApiKey:
    parts = key.split("_")
    if len(parts) != KEY_PARTS or parts[0] != "florin":
        raise InvalidToken("This is not an API key.")
    found = ApiKey.objects.filter(public_id=parts[2]).first()
    if found is None or not hmac.compare_digest(bytes(found.digest), digest):
        raise InvalidToken("The key is unknown.")
    return found
