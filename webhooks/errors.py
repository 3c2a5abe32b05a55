"""Why a gateway's notification is refused."""

from core.errors import DomainError


class InvalidSignature(DomainError):
    code = "invalid_signature"
    title = "The notification is not signed by the gateway"
    http_status = 401
