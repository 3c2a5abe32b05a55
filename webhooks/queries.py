"""Reads of what gateways told us, and which gateway a notification is for."""

import datetime as dt
import threading
import time
from dataclasses import dataclass
from uuid import UUID

from core.errors import NotFound
from payments.gateways.port import Gateway
from payments.gateways.registry import connect, webhook_secrets_of
from payments.models import GatewayConfiguration
from webhooks.models import InboundEvent

# How long a process trusts what it has read of a gateway: a changed secret works after that.
REMEMBERED_S = 5.0
REMEMBERED_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Receiver:
    """A gateway as its notifications need it."""

    configuration_id: UUID
    tenant_id: UUID
    gateway: str
    line: Gateway
    secrets: tuple[str, ...]
    read_at: float


_lock = threading.Lock()
_remembered: dict[UUID, Receiver] = {}


def receiver_of(*, gateway: str, configuration_id: UUID, now: dt.datetime) -> Receiver:
    """
    Return the gateway that the address names. No round trip if it was read a moment ago.

    :raises NotFound: there is none, or another gateway has this id
    """
    known = _remembered.get(configuration_id)
    if known is None or time.monotonic() - known.read_at > REMEMBERED_S:
        known = _read(configuration_id, now)
        with _lock:
            if len(_remembered) >= REMEMBERED_MAX:
                _remembered.clear()
            _remembered[configuration_id] = known
    if known.gateway != gateway:
        raise NotFound("No such gateway.")
    return known


def forget_receivers() -> None:
    """Read every gateway anew; for tests, whose databases come and go."""
    with _lock:
        _remembered.clear()


def inbound_event_of(*, tenant_id: UUID, event_id: UUID) -> InboundEvent:
    """
    Return the event.

    :raises NotFound: unknown, or another tenant's
    """
    found = InboundEvent.objects.filter(tenant_id=tenant_id, pk=event_id).first()
    if found is None:
        raise NotFound("No such webhook.")
    return found


def _read(configuration_id: UUID, now: dt.datetime) -> Receiver:
    # Disabled ones too: what was begun through them still ends.
    configuration = GatewayConfiguration.objects.kept().filter(pk=configuration_id).first()
    if configuration is None or configuration.gateway == GatewayConfiguration.Gateway.BANK_FILE:
        raise NotFound("No such gateway.")
    return Receiver(
        configuration_id=configuration.pk,
        tenant_id=configuration.tenant_id,
        gateway=configuration.gateway,
        line=connect(configuration),
        secrets=tuple(webhook_secrets_of(configuration, now)),
        read_at=time.monotonic(),
    )
