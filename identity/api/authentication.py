"""Bearer credentials in, a Principal out."""

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request

from core.errors import DomainError
from core.principal import Principal
from identity import queries


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer florin_<live|test>_<public id>_<secret>`."""

    def authenticate(self, request: Request) -> tuple[Principal, Principal] | None:
        scheme, _, credentials = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer" or not credentials:
            return None
        try:
            key = credentials.strip().decode("ascii")
        except UnicodeDecodeError:
            raise exceptions.AuthenticationFailed("Not an API key.", "invalid_token") from None
        try:
            principal = queries.principal_of_key(key=key, now=timezone.now())
        except DomainError as refusal:
            # As DRF's own exception, so that the answer carries WWW-Authenticate.
            raise exceptions.AuthenticationFailed(refusal.detail, refusal.code) from refusal
        return principal, principal

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="florin"'


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "identity.api.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "florin_<live|test>_<public id>_<secret>",
        }
