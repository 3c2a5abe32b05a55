"""Refusals: what a caller may hear and act on. Bugs are ordinary exceptions and stay loud."""

from typing import ClassVar


class DomainError(Exception):
    """
    Refuse a request by a rule of the business.

    `code` is part of the API contract: it never changes meaning. `is_transient` says whether the
    same request may succeed later without any change to it.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    http_status: ClassVar[int]
    is_transient: ClassVar[bool] = False

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        # What else the answer says, by name.
        self.members: dict[str, str] = {}


class NotFound(DomainError):
    code = "not_found"
    title = "Not found"
    http_status = 404


class IdempotencyConflict(DomainError):
    code = "idempotency_conflict"
    title = "Idempotency key was used for another request"
    http_status = 422


class IdempotencyKeyRequired(DomainError):
    code = "idempotency_key_required"
    title = "The Idempotency-Key header is required"
    http_status = 400


class InvalidRequest(DomainError):
    """The request is malformed; `field` names the part, when one part is to blame."""

    code = "invalid_request"
    title = "Invalid request"
    http_status = 400

    def __init__(self, detail: str, *, field: str = "") -> None:
        super().__init__(detail)
        self.field = field


class PayloadTooLarge(DomainError):
    code = "payload_too_large"
    title = "The request is too large"
    http_status = 413


class AlreadyExists(DomainError):
    """Something else has the name, address or id that was to be this one's alone."""

    code = "already_exists"
    title = "There is one already"
    http_status = 409


class InvalidState(DomainError):
    code = "invalid_state"
    title = "The object's state does not allow this"
    http_status = 409


class Locked(DomainError):
    code = "locked"
    title = "Another request is changing the same object"
    http_status = 409
    is_transient = True


class RequestInProgress(DomainError):
    code = "request_in_progress"
    title = "A request with this idempotency key is still running"
    http_status = 409
    is_transient = True


class InternalError(DomainError):
    """Ours, not the caller's; said where a bug was caught at the very edge."""

    code = "internal_error"
    title = "Something went wrong on our side"
    http_status = 500


class Unavailable(DomainError):
    code = "unavailable"
    title = "A part that this request needs is not available"
    http_status = 503
    is_transient = True


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


class PermissionDenied(DomainError):
    code = "permission_denied"
    title = "Not allowed"
    http_status = 403


class PreconditionFailed(DomainError):
    """What the change was decided on is not what is there now; read it again."""

    code = "precondition_failed"
    title = "Somebody else has changed the object"
    http_status = 412


class RateLimited(DomainError):
    code = "rate_limited"
    title = "Too many requests"
    http_status = 429
    is_transient = True

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
