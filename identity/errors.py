"""Why credentials are refused, and people."""

from typing import TYPE_CHECKING

from core.errors import AlreadyExists, DomainError, RateLimited

if TYPE_CHECKING:
    from identity.models import ApiKey


class RefusedKey(Exception):
    """A key that exists was refused: its owner may want to know. `refusal` is the answer."""

    def __init__(self, api_key: "ApiKey", refusal: DomainError) -> None:
        super().__init__(refusal.detail)
        self.api_key = api_key
        self.refusal = refusal


class InvalidCredentials(DomainError):
    """One answer for an unknown address, a wrong password and somebody who may not sign in."""

    code = "invalid_credentials"
    title = "Address or password is wrong"
    http_status = 401


class OtpRequired(DomainError):
    """The password was right; a one-time code is asked for, or the one given is wrong."""

    code = "otp_required"
    title = "A one-time code is required"
    http_status = 401


class SecondFactorRequired(DomainError):
    code = "second_factor_required"
    title = "Set up the second factor first"
    http_status = 403


class TooManyAttempts(RateLimited):
    """Whoever guesses has to wait."""


class EmailTaken(AlreadyExists):
    """Somebody with this address exists."""
