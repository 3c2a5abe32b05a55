"""
Access tokens: made and read. Ed25519, named by `kid`, one algorithm, keys of our own set only.

A token says who it is for and when it ends; whether it still counts is the database's to say, in
one look-up at each request: session, person and role are as they are now (docs/decisions/0010).
"""

import base64
import functools
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings

from core.errors import InvalidToken
from core.ids import new_id
from core.permissions import SCOPES_BY_ROLE, Role
from core.principal import Principal
from identity.models import Session

ALGORITHM = "EdDSA"
# Clocks of our own servers only.
LEEWAY_S = 5
TOKEN_LENGTH_MAX = 2_000
_REQUIRED = ["exp", "iat", "iss", "aud", "sub", "jti", "sid", "role", "typ"]
_NOT_VALID = "The access token is not valid. Sign in again, or refresh it."


@dataclass(frozen=True, slots=True)
class AccessToken:
    clear: str
    expires_in_s: int


def access_token(*, session: Session, now: datetime) -> AccessToken:
    """Return a new access token of the session's user, signed by the first of JWT_KEYS."""
    [(kid, private), *_] = signing_keys().items()
    lifetime_s = min(
        settings.ACCESS_TOKEN_S, max(1, int((session.expires_at - now).total_seconds()))
    )
    claims = {
        "iss": settings.JWT_ISSUER,
        "aud": settings.JWT_AUDIENCE,
        "sub": str(session.user_id),
        "sid": str(session.pk),
        "jti": str(new_id()),
        "role": session.user.role,
        "tenant": str(session.user.tenant_id),
        "typ": "access",
        "iat": now,
        "exp": now + timedelta(seconds=lifetime_s),
    }
    clear = jwt.encode(claims, private, algorithm=ALGORITHM, headers={"kid": kid})
    return AccessToken(clear, lifetime_s)


def principal_of_token(*, token: str, now: datetime) -> Principal:
    """
    Return whom the access token speaks for. One query.

    :raises InvalidToken: malformed, forged or expired; or its session has ended, its user may not
        sign in any more or has got another role
    """
    claims = _claims_of(token)
    session = (
        Session.objects.select_related("user")
        .filter(pk=claims["sid"], user_id=claims["sub"])
        .first()
    )
    if session is None or session.ended_at is not None or session.expires_at <= now:
        raise InvalidToken("The session has ended. Sign in again.")
    user = session.user
    if not user.is_active:
        raise InvalidToken("The user may not sign in any more.")
    if user.role != claims["role"]:
        raise InvalidToken("The user's role has changed. Refresh the token.")
    return Principal(
        tenant_id=user.tenant_id,
        actor_id=f"user:{user.pk}",
        scopes=SCOPES_BY_ROLE[user.role],
        role=user.role,
        owner_id=user.pk if user.role == Role.CUSTOMER else None,
    )


def public_keys() -> list[dict[str, Any]]:
    """Return the keys that access tokens are checked with, as JSON Web Keys (RFC 8037)."""
    return [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "alg": ALGORITHM,
            "use": "sig",
            "kid": kid,
            "x": _base64url(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)),
        }
        for kid, private in signing_keys().items()
    ]


def signing_keys() -> dict[str, Ed25519PrivateKey]:
    """Return the private keys by `kid`: the first signs, all are taken."""
    return _parsed(tuple(settings.JWT_KEYS))


@functools.lru_cache(maxsize=4)
def _parsed(keys: tuple[str, ...]) -> dict[str, Ed25519PrivateKey]:
    named = (key.split(":", 1) for key in keys)
    return {
        kid: Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(seed + "=="))
        for kid, seed in named
    }


def _claims_of(token: str) -> dict[str, Any]:
    if len(token) > TOKEN_LENGTH_MAX:
        raise InvalidToken(_NOT_VALID)
    try:
        # `kid` picks among our own keys; keys that a header brings along (jwk, jku, x5u) are not
        # looked at.
        kid = jwt.get_unverified_header(token).get("kid")
        private = signing_keys().get(kid) if isinstance(kid, str) else None
        if private is None:
            raise InvalidToken(_NOT_VALID)
        claims: dict[str, Any] = jwt.decode(
            token,
            private.public_key(),
            algorithms=[ALGORITHM],
            audience=settings.JWT_AUDIENCE,
            issuer=settings.JWT_ISSUER,
            leeway=LEEWAY_S,
            options={"require": _REQUIRED, "strict_aud": True},
        )
        UUID(claims["sid"]), UUID(claims["sub"])
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
        raise InvalidToken(_NOT_VALID) from error
    if claims["typ"] != "access":
        raise InvalidToken(_NOT_VALID)
    return claims


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
