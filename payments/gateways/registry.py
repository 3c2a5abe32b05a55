"""Which gateways there are, and how to speak to one with a tenant's credentials."""

import datetime as dt
import json
from collections.abc import Mapping
from uuid import UUID

from django.conf import settings

from core.encryption import decrypt, encrypt
from payments.gateways.bank_file import adapter as bank_file
from payments.gateways.calling import Caller
from payments.gateways.midtrans import adapter as midtrans
from payments.gateways.port import Capabilities, Gateway, Unreachable
from payments.gateways.sandbox import adapter as sandbox
from payments.gateways.xendit import adapter as xendit
from payments.models import GatewayConfiguration

CAPABILITIES: dict[str, Capabilities] = {
    GatewayConfiguration.Gateway.XENDIT: xendit.CAPABILITIES,
    GatewayConfiguration.Gateway.MIDTRANS: midtrans.CAPABILITIES,
    GatewayConfiguration.Gateway.SANDBOX: sandbox.CAPABILITIES,
    GatewayConfiguration.Gateway.BANK_FILE: bank_file.CAPABILITIES,
}


def connect(configuration: GatewayConfiguration) -> Gateway:
    """
    Return the gateway as this configuration reaches it. Calls nothing.

    :raises Unreachable: it was deleted, and its credentials with it
    """
    gateway, mode = configuration.gateway, configuration.mode
    if configuration.deleted_at is not None:
        raise Unreachable(f"This {gateway} was deleted.", code="deleted")
    credentials = credentials_of(configuration)
    caller = Caller(
        gateway, configuration.circuit, settings.GATEWAY_URLS.get((gateway, mode), ""), {}
    )
    if gateway == GatewayConfiguration.Gateway.XENDIT:
        return xendit.make(caller, credentials)
    if gateway == GatewayConfiguration.Gateway.MIDTRANS:
        snap_url = settings.GATEWAY_URLS.get(("midtrans-snap", mode), "")
        return midtrans.make(caller, snap_url, credentials)
    if gateway == GatewayConfiguration.Gateway.SANDBOX:
        return sandbox.make(caller, credentials)
    raise ValueError(f"{gateway} is not called")


def notify_url(configuration: GatewayConfiguration) -> str:
    """Return where the gateway sends its notifications. Without a slash at its end."""
    path = f"/api/v1/webhooks/gateways/{configuration.gateway}/{configuration.pk}"
    return f"{settings.PUBLIC_URL}{path}"


def credentials_of(configuration: GatewayConfiguration) -> dict[str, str]:
    clear = decrypt(configuration.credentials, place=_place(configuration.pk, "credentials"))
    found: dict[str, str] = json.loads(clear)
    return found


def webhook_secrets_of(configuration: GatewayConfiguration, now: dt.datetime) -> list[str]:
    """Return the secrets that notifications may be signed with; after a rotation two."""
    kept = [configuration.webhook_secret]
    until = configuration.previous_webhook_secret_until
    if until is not None and until > now:
        kept.append(configuration.previous_webhook_secret)
    place = _place(configuration.pk, "webhook_secret")
    return [decrypt(secret, place=place) for secret in kept if secret is not None]


def encrypted_credentials(configuration_id: UUID, credentials: Mapping[str, str]) -> bytes:
    clear = json.dumps(dict(credentials), sort_keys=True)
    return encrypt(clear, place=_place(configuration_id, "credentials"))


def encrypted_webhook_secret(configuration_id: UUID, secret: str) -> bytes:
    return encrypt(secret, place=_place(configuration_id, "webhook_secret"))


def _place(configuration_id: UUID, what: str) -> str:
    return f"gateway:{configuration_id}:{what}"
