"""The public keys of access tokens (RFC 7517), for services beside Florin that check them too."""

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from identity.queries import public_keys

# A new key is put in after the old one, one such time before it signs.
KEPT_S = 300


@require_safe
def key_set(request: HttpRequest) -> JsonResponse:
    return JsonResponse(
        {"keys": public_keys()}, headers={"Cache-Control": f"public, max-age={KEPT_S}"}
    )
