"""A tenant's gateways: set up, changed, taken out of use; and which one a payment goes through."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q

from core.changes import changed, record_change
from core.database import refusing
from core.encryption import encrypted_anew
from core.errors import DomainError, InvalidRequest, InvalidState, NotFound, Unavailable
from core.idempotency import keyed_fingerprint
from payments.errors import CurrencyNotSupported, NoGateway
from payments.gateways import breaker
from payments.gateways.bank_file.adapter import own_account, sample_file
from payments.gateways.port import Capabilities
from payments.gateways.registry import (
    CAPABILITIES,
    credentials_of,
    encrypted_credentials,
    encrypted_webhook_secret,
    webhook_secrets_of,
)
from payments.models import GatewayConfiguration, Payment, Payout, Refund

# How long the webhook secret from before a rotation is still taken.
SECRET_OVERLAP = dt.timedelta(hours=24)
_HINT_LENGTH = 4
_MIXED = "gateway_modes_never_mix"
_SHARED = "gateway_account_of_one_tenant"
_BY_REAL_TIME = "gateway_live_by_real_time"
_SHOWN = ("name", "currencies", "priority", "is_enabled")


@dataclass(frozen=True, slots=True)
class NewGateway:
    gateway: str
    mode: str
    credentials: Mapping[str, str] = field(repr=False)
    currencies: Sequence[str]
    webhook_secret: str = field(default="", repr=False)
    name: str = ""
    priority: int = 100
    is_enabled: bool = True


def add_gateway(*, tenant_id: UUID, new: NewGateway, now: dt.datetime) -> GatewayConfiguration:
    """
    Set a gateway up. Its credentials are kept encrypted and never shown again.

    :raises InvalidRequest: credentials, currencies or mode that this gateway does not have
    :raises InvalidState: the tenant's enabled gateways are of the other mode, or another tenant has
        this account at the gateway; or its time is a test clock's, and the gateway live
    """
    capabilities = CAPABILITIES[new.gateway]
    if new.mode not in capabilities.modes:
        raise InvalidRequest(f"{new.gateway} has no {new.mode} mode.", field="mode")
    if new.gateway == "sandbox" and not settings.GATEWAY_URLS[("sandbox", "test")]:
        raise InvalidRequest("No sandbox runs here: SANDBOX_URL is not set.", field="gateway")
    credentials = _checked_credentials(capabilities, new.credentials)
    _refuse_unwritable(new.gateway, credentials)
    if capabilities.needs_webhook_secret and not new.webhook_secret:
        raise InvalidRequest("Its notifications need one.", field="webhook_secret")
    configuration = GatewayConfiguration(
        tenant_id=tenant_id,
        gateway=new.gateway,
        mode=new.mode,
        name=new.name,
        currencies=_checked_currencies(new.gateway, capabilities, new.currencies),
        priority=new.priority,
        is_enabled=new.is_enabled,
        credential_hint=_hint(capabilities, credentials),
        created_at=now,
        updated_at=now,
    )
    configuration.credentials = encrypted_credentials(configuration.pk, credentials)
    configuration.account_digest = _account_digest(configuration, capabilities, credentials)
    if new.webhook_secret:
        configuration.webhook_secret = encrypted_webhook_secret(
            configuration.pk, new.webhook_secret
        )
    with refusing(_refusals()), transaction.atomic():
        configuration.save(force_insert=True)
        after = {name: getattr(configuration, name) for name in ("gateway", "mode", *_SHOWN)}
        _record(configuration, "gateway.added", now, after=after)
    return configuration


def change_gateway(
    *, tenant_id: UUID, configuration_id: UUID, changes: Mapping[str, Any], now: dt.datetime
) -> GatewayConfiguration:
    """
    Change name, currencies, priority, is_enabled; rotate credentials or the webhook secret, of
    which the old one is still taken for a day.

    :raises NotFound: no such gateway in this tenant
    :raises InvalidRequest: credentials or currencies that this gateway does not have
    :raises InvalidState: it would be enabled beside gateways of the other mode, or another tenant
        has this account at the gateway
    """
    with refusing(_refusals()), transaction.atomic():
        configuration = _for_update(tenant_id, configuration_id)
        capabilities = CAPABILITIES[configuration.gateway]
        before = {name: getattr(configuration, name) for name in _SHOWN}
        rotated = []
        for name, value in changes.items():
            if name == "credentials":
                credentials = _checked_credentials(capabilities, value)
                _refuse_unwritable(configuration.gateway, credentials)
                _keep_signing_key(configuration, capabilities, credentials, now)
                configuration.credentials = encrypted_credentials(configuration.pk, credentials)
                configuration.credential_hint = _hint(capabilities, credentials)
                configuration.account_digest = _account_digest(
                    configuration, capabilities, credentials
                )
                rotated.append(name)
            elif name == "webhook_secret":
                _rotate_webhook_secret(configuration, value, now)
                rotated.append(name)
            elif name == "currencies":
                configuration.currencies = _checked_currencies(
                    configuration.gateway, capabilities, value
                )
            else:
                setattr(configuration, name, value)
        configuration.updated_at = now
        configuration.save()
        difference = changed(before, {name: getattr(configuration, name) for name in _SHOWN})
        after = {**(difference["after"] or {}), **({"rotated": rotated} if rotated else {})}
        if after:
            _record(configuration, "gateway.changed", now, before=difference["before"], after=after)
    return configuration


def delete_gateway(*, tenant_id: UUID, configuration_id: UUID, now: dt.datetime) -> None:
    """
    Take a gateway out of use for good, and forget its credentials.

    :raises NotFound: no such gateway in this tenant
    :raises InvalidState: payments through it are under way; disable it until they have ended
    """
    with transaction.atomic():
        # Waits for whoever holds the gateway, see `hold_gateway`.
        configuration = _for_update(tenant_id, configuration_id, is_ending=True)
        of_it = Q(configuration_id=configuration_id)
        is_used = (
            Payment.objects.filter(of_it, next_step_at__isnull=False).exists()
            or Payout.objects.filter(of_it, status__in=["pending", "unknown", "submitted"]).exists()
            or Refund.objects.filter(
                payment__configuration_id=configuration_id, next_step_at__isnull=False
            ).exists()
        )
        if is_used:
            raise InvalidState("Payments through it are under way. Disable it until they end.")
        configuration.is_enabled = False
        configuration.deleted_at = configuration.updated_at = now
        configuration.credentials = b""
        configuration.webhook_secret = configuration.previous_webhook_secret = None
        configuration.previous_webhook_secret_until = None
        configuration.save()
        _record(configuration, "gateway.deleted", now)


def hold_gateway(configuration_id: UUID) -> None:
    """
    Keep the gateway from being deleted until the caller's transaction ends.

    :raises InvalidState: it was deleted; its credentials are forgotten
    """
    with connection.cursor() as cursor:
        # As a foreign key's check takes it: any number at once, and never beside a deletion.
        cursor.execute(
            "SELECT deleted_at FROM payments_gatewayconfiguration WHERE id = %s FOR KEY SHARE",
            [configuration_id],
        )
        [deleted_at] = cursor.fetchone() or [None]
    if deleted_at is not None:
        raise InvalidState("Its gateway was deleted; nothing can be asked of it.")


def candidates(
    *, tenant_id: UUID, currency: str, gateway: str | None, is_payout: bool
) -> list[GatewayConfiguration]:
    """
    Return the gateways that could serve, the first choice first; those whose circuit is open are
    left out.

    :raises NoGateway: none is set up for this
    :raises CurrencyNotSupported: the gateway that was named does not take the currency
    :raises Unavailable: all of them have failed repeatedly, just now
    """
    fitting = fitting_gateways(
        tenant_id=tenant_id, currency=currency, gateway=gateway, is_payout=is_payout
    )
    closed = [each for each in fitting if not breaker.is_open(each.circuit)]
    if not closed:
        raise Unavailable("The gateway does not answer at present. Nothing was done; send again.")
    return closed


def fitting_gateways(
    *, tenant_id: UUID, currency: str, gateway: str | None, is_payout: bool
) -> list[GatewayConfiguration]:
    """
    Return the gateways that are set up for this, whether they answer at present or not.

    :raises NoGateway: none is
    :raises CurrencyNotSupported: the gateway that was named does not take the currency
    """
    usable = [
        configuration
        for configuration in GatewayConfiguration.objects.usable().filter(tenant_id=tenant_id)
        if (gateway is None or configuration.gateway == gateway)
        and _serves(CAPABILITIES[configuration.gateway], is_payout=is_payout)
    ]
    fitting = [configuration for configuration in usable if currency in configuration.currencies]
    if not fitting and usable and gateway is not None:
        raise CurrencyNotSupported(f"{gateway} is not set up for {currency}.")
    if not fitting:
        what = "payouts" if is_payout else "payments"
        raise NoGateway(f"No gateway is set up for {what} in {currency}.")
    return fitting


def encrypt_all_anew() -> int:
    """Bring every gateway's secrets under the first of ENCRYPTION_KEYS; return how many."""
    done = 0
    for pk in GatewayConfiguration.objects.kept().values_list("pk", flat=True):
        with transaction.atomic():
            configuration = GatewayConfiguration.objects.select_for_update().get(pk=pk)
            names = ["credentials", "webhook_secret", "previous_webhook_secret"]
            for name in names:
                if getattr(configuration, name):
                    setattr(configuration, name, encrypted_anew(getattr(configuration, name)))
            capabilities = CAPABILITIES[configuration.gateway]
            configuration.account_digest = _account_digest(
                configuration, capabilities, credentials_of(configuration)
            )
            configuration.save(update_fields=[*names, "account_digest"])
        done += 1
    return done


def _serves(capabilities: Capabilities, *, is_payout: bool) -> bool:
    return capabilities.makes_payouts if is_payout else capabilities.takes_payments


def _checked_credentials(capabilities: Capabilities, given: Mapping[str, str]) -> dict[str, str]:
    known = {*capabilities.credentials, *capabilities.optional_credentials}
    unknown = sorted(set(given) - known)
    if unknown:
        raise InvalidRequest(
            f"It has no such credential; it has {', '.join(sorted(known))}.",
            field=f"credentials.{unknown[0]}",
        )
    for name in capabilities.credentials:
        if not given.get(name):
            raise InvalidRequest("This credential is needed.", field=f"credentials.{name}")
    return {name: value for name, value in given.items() if value}


def _checked_currencies(
    gateway: str, capabilities: Capabilities, currencies: Sequence[str]
) -> list[str]:
    foreign = sorted(set(currencies) - capabilities.currencies) if capabilities.currencies else []
    if foreign:
        raise InvalidRequest(f"{gateway} does not take {foreign[0]}.", field="currencies")
    return sorted(set(currencies))


def _hint(capabilities: Capabilities, credentials: Mapping[str, str]) -> str:
    # Of a secret, less than a fourth.
    secret = credentials[capabilities.hinted_credential or capabilities.credentials[0]]
    return secret[-_HINT_LENGTH:] if len(secret) >= 4 * _HINT_LENGTH else ""


def _account_digest(
    configuration: GatewayConfiguration,
    capabilities: Capabilities,
    credentials: Mapping[str, str],
) -> bytes | None:
    """
    Return what two configurations of one account have in common; None where nobody asks a gateway
    by reference.

    References of invoices are alike from tenant to tenant: were an account shared, one tenant's
    question might be answered with another's payment.
    """
    if not capabilities.takes_payments:
        return None
    secret = credentials[capabilities.hinted_credential or capabilities.credentials[0]]
    return keyed_fingerprint("gateway account", configuration.gateway, configuration.mode, secret)


def _rotate_webhook_secret(
    configuration: GatewayConfiguration, secret: str, now: dt.datetime
) -> None:
    if secret in webhook_secrets_of(configuration, now)[:1]:
        # Sent twice: the one before is still needed.
        return
    configuration.previous_webhook_secret = configuration.webhook_secret
    configuration.previous_webhook_secret_until = now + SECRET_OVERLAP
    configuration.webhook_secret = encrypted_webhook_secret(configuration.pk, secret)


def _keep_signing_key(
    configuration: GatewayConfiguration,
    capabilities: Capabilities,
    credentials: Mapping[str, str],
    now: dt.datetime,
) -> None:
    """Where the credential signs the notifications too, the old one is taken for a day more."""
    name = capabilities.credentials[0]
    key = credentials_of(configuration)[name]
    is_signing = capabilities.takes_payments and not capabilities.needs_webhook_secret
    if is_signing and key != credentials[name]:
        configuration.previous_webhook_secret = encrypted_webhook_secret(configuration.pk, key)
        configuration.previous_webhook_secret_until = now + SECRET_OVERLAP


def _refuse_unwritable(gateway: str, credentials: Mapping[str, str]) -> None:
    """No file for a bank could be made with these: it would hold up all payouts."""
    if gateway != GatewayConfiguration.Gateway.BANK_FILE:
        return
    try:
        sample_file(own_account(credentials))
    except ValueError as error:
        raise InvalidRequest(str(error), field="credentials") from error


def _for_update(
    tenant_id: UUID, configuration_id: UUID, *, is_ending: bool = False
) -> GatewayConfiguration:
    found = (
        GatewayConfiguration.objects.kept()
        .select_for_update(no_key=not is_ending)
        .filter(tenant_id=tenant_id, pk=configuration_id)
        .first()
    )
    if found is None:
        raise NotFound("No such gateway.")
    return found


def _refusals() -> dict[str, DomainError]:
    return {
        _MIXED: InvalidState(
            "Gateways of the other mode are enabled. Test and live payments never share books:"
            " disable those first, or use a tenant for each."
        ),
        _SHARED: InvalidState(
            "Another tenant has this account at the gateway. Each tenant needs its own: payments"
            " are found there by references that tenants have alike."
        ),
        _BY_REAL_TIME: InvalidState("Its time is a test clock's: it has no live gateways."),
    }


def _record(
    configuration: GatewayConfiguration, action: str, now: dt.datetime, **fields: Any
) -> None:
    record_change(
        tenant_id=configuration.tenant_id,
        action=action,
        object_id=configuration.pk,
        now=now,
        **fields,
    )
