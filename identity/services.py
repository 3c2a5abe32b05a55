"""Tenants, users and API keys: every change of them."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from core import outbox
from core.database import refusing
from core.errors import NotFound
from identity import queries
from identity.errors import EmailTaken
from identity.models import ApiKey, Tenant, User

PUBLIC_ID_BYTES = 8
SECRET_BYTES = 32
_EMAIL_TAKEN = "identity_user_email_key"


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key and its one and only appearance in clear."""

    api_key: ApiKey
    clear: str


def create_tenant(*, name: str, now: datetime) -> Tenant:
    """Open a tenant."""
    return Tenant.objects.create(name=name, created_at=now)


def tenant_named(*, name: str, now: datetime) -> Tenant:
    """Return the oldest tenant of that name, opened on first need; for commands."""
    found = Tenant.objects.filter(name=name).order_by("created_at").first()
    return found or create_tenant(name=name, now=now)


def create_user(
    *,
    tenant_id: UUID,
    email: str,
    password: str | None,
    role: str,
    now: datetime,
    full_name: str = "",
    is_superuser: bool = False,
) -> User:
    """
    Create a user; all roles but customer may open the back office.

    :raises EmailTaken: somebody has this address, in whichever tenant
    """
    taken = EmailTaken("Somebody with this address exists.")
    with refusing({_EMAIL_TAKEN: taken}), transaction.atomic():
        user = User.objects.create_user(
            email,
            password,
            tenant_id=tenant_id,
            role=role,
            full_name=full_name,
            is_staff=role != User.Role.CUSTOMER,
            is_superuser=is_superuser,
            created_at=now,
        )
        _record(user, "user.created", now)
    return user


def change_user(
    *,
    tenant_id: UUID,
    user_id: UUID,
    full_name: str,
    role: str,
    is_active: bool,
    now: datetime,
) -> User:
    """
    Change name, role, and whether they may sign in; it counts from their next request.

    :raises NotFound: no such user in this tenant
    """
    with transaction.atomic():
        user = _user_for_update(tenant_id, user_id)
        user.full_name, user.role, user.is_active = full_name, role, is_active
        user.is_staff = role != User.Role.CUSTOMER
        user.save(update_fields=["full_name", "role", "is_active", "is_staff"])
        _record(user, "user.changed", now)
    return user


def set_password(*, tenant_id: UUID, user_id: UUID, password: str, now: datetime) -> User:
    """
    Set the password; every session of the user ends.

    :raises NotFound: no such user in this tenant
    """
    with transaction.atomic():
        user = _user_for_update(tenant_id, user_id)
        user.set_password(password)
        user.save(update_fields=["password"])
        _record(user, "user.password_set", now)
    return user


def create_api_key(
    *,
    tenant_id: UUID,
    name: str,
    scopes: list[str],
    now: datetime,
    mode: str = ApiKey.Mode.TEST,
    expires_at: datetime | None = None,
) -> IssuedKey:
    """Issue an API key. The clear key is in the result and nowhere else."""
    public_id = secrets.token_hex(PUBLIC_ID_BYTES)
    clear = f"florin_{mode}_{public_id}_{secrets.token_hex(SECRET_BYTES)}"
    with transaction.atomic():
        api_key = ApiKey.objects.create(
            tenant_id=tenant_id,
            name=name,
            mode=mode,
            public_id=public_id,
            digest=queries.key_digest(clear),
            scopes=scopes,
            created_at=now,
            expires_at=expires_at,
        )
        outbox.record_event(
            tenant_id=tenant_id, event_type="api_key.created", resource_id=api_key.pk, now=now
        )
    return IssuedKey(api_key, clear)


def revoke_api_key(*, tenant_id: UUID, api_key_id: UUID, now: datetime) -> ApiKey:
    """
    Revoke a key for good. A second revocation changes nothing.

    Web processes refuse it within API_KEY_CACHE_S seconds.

    :raises NotFound: no such key in this tenant
    """
    with transaction.atomic():
        api_key = (
            ApiKey.objects.select_for_update().filter(tenant_id=tenant_id, pk=api_key_id).first()
        )
        if api_key is None:
            raise NotFound("No such API key.")
        if api_key.revoked_at is None:
            api_key.revoked_at = now
            api_key.save(update_fields=["revoked_at"])
            outbox.record_event(
                tenant_id=tenant_id, event_type="api_key.revoked", resource_id=api_key.pk, now=now
            )
    return api_key


def _user_for_update(tenant_id: UUID, user_id: UUID) -> User:
    user = User.objects.select_for_update().filter(tenant_id=tenant_id, pk=user_id).first()
    if user is None:
        raise NotFound("No such user.")
    return user


def _record(user: User, event_type: str, now: datetime) -> None:
    outbox.record_event(
        tenant_id=user.tenant_id, event_type=event_type, resource_id=user.pk, now=now
    )
