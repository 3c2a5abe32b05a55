"""The rate limit of the API: who is counted, what the answer says of it."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import AuthenticationFailed

from core.addresses import client_address, network_of
from core.errors import KeyRevoked, RateLimited
from core.limiting import WINDOW_S, Standing, count_request
from core.principal import Principal

_NO_LIMIT = 10**9
Handler = Callable[[HttpRequest], HttpResponse]


def count_principal(request: HttpRequest, principal: Principal) -> None:
    """
    Count the request of a caller who is known; by key, or by person.

    :raises RateLimited: over the limit
    :raises AuthenticationFailed: the key has ended since this process verified it
    """
    verified = getattr(request, "verified_key", None)
    limit = (verified and verified.rate_limit) or settings.RATE_LIMIT
    if not limit and verified is None:
        return
    standing = count_request(
        who=principal.actor_id,
        # Asked all the same where there is no limit: whether the key has ended.
        limit=limit or _NO_LIMIT,
        credential=verified and verified.digest,
    )
    if standing is not None and standing.is_ended:
        raise AuthenticationFailed("The key was revoked.", KeyRevoked.code)
    if limit:
        _keep(request, standing)


def count_stranger(request: HttpRequest) -> None:
    """
    Count the request of somebody without credentials, or with wrong ones; by address.

    :raises RateLimited: over the limit
    """
    if settings.RATE_LIMIT_ANONYMOUS:
        who = f"address:{network_of(client_address(request))}"
        _keep(request, count_request(who=who, limit=settings.RATE_LIMIT_ANONYMOUS))


def _keep(request: HttpRequest, standing: Standing | None) -> None:
    request.rate_limit_standing = standing  # type: ignore[attr-defined]
    if standing is not None and not standing.is_allowed:
        raise RateLimited(
            f"At most {standing.limit} requests in {WINDOW_S} seconds.",
            retry_after_s=standing.reset_s,
        )


class RateLimitHeadersMiddleware:
    """Say on every answer where the caller stands."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        standing: Standing | None = getattr(request, "rate_limit_standing", None)
        if standing is not None:
            response["RateLimit-Limit"] = str(standing.limit)
            response["RateLimit-Remaining"] = str(standing.remaining)
            response["RateLimit-Reset"] = str(standing.reset_s)
        return response
