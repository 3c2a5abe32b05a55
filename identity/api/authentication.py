"""Bearer credentials in, a Principal out."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request

from core.errors import DomainError
from core.principal import Principal
from identity import queries, services
from identity.errors import RefusedKey

KEY_PREFIX = "florin_"


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <API key or access token>`."""

    def authenticate(self, request: Request) -> tuple[Principal, Principal] | None:
        scheme, _, credentials = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer" or not credentials:
            return None
        try:
            clear = credentials.strip().decode("ascii")
        except UnicodeDecodeError:
            raise exceptions.AuthenticationFailed("Not a credential.", "invalid_token") from None
        try:
            principal = self._principal(request, clear)
        except DomainError as refusal:
            # As DRF's own exception, so that the answer carries WWW-Authenticate.
            raise exceptions.AuthenticationFailed(refusal.detail, refusal.code) from refusal
        return principal, principal

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="florin"'

    def _principal(self, request: Request, clear: str) -> Principal:
        now = timezone.now()
        if not clear.startswith(KEY_PREFIX):
            return queries.principal_of_token(token=clear, now=now)
        try:
            verified = queries.principal_of_key(key=clear, now=now)
        except RefusedKey as refused:
            services.note_refusal(refused=refused, now=now)
            raise refused.refusal from refused
        _note_use(verified.principal.actor_id, now)
        # For the limiter, which comes next (core.api.limits).
        request._request.verified_key = verified  # type: ignore[attr-defined]
        return verified.principal


# When this process last noted the use of a key. Only to ask the database seldom: it keeps the rule.
_noted_at: dict[str, datetime] = {}


def _note_use(actor_id: str, now: datetime) -> None:
    noted_at = _noted_at.get(actor_id)
    if noted_at is None or now - noted_at > services.NOTED_EVERY:
        _noted_at[actor_id] = now
        services.note_use(api_key_id=UUID(actor_id.removeprefix("key:")), now=now)


class _BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "identity.api.authentication.BearerAuthentication"
    name = ["apiKey", "accessToken"]

    def get_security_definition(self, auto_schema: object) -> list[dict[str, Any]]:
        return [
            {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "florin_<live|test>_<public id>_<secret>",
                "description": "A machine's credential, made at `POST /api-keys`.",
            },
            {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "A person's, from `POST /auth/token`.",
            },
        ]
