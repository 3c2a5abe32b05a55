"""Why credentials are refused, and people."""

from core.errors import DomainError


class InvalidToken(DomainError):
    code = "invalid_token"
    title = "The credentials are not valid"
    http_status = 401


class KeyRevoked(DomainError):
    code = "key_revoked"
    title = "The API key was revoked"
    http_status = 401


class KeyExpired(DomainError):
    code = "key_expired"
    title = "The API key has expired"
    http_status = 401


class EmailTaken(DomainError):
    code = "already_exists"
    title = "Somebody with this address exists"
    http_status = 409
