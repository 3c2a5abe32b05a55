"""Reads of people and of who a principal is."""

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet
from django_otp.plugins.otp_totp.models import TOTPDevice

from core.principal import Principal
from identity.models import ApiKey, Tenant, User


@dataclass(frozen=True, slots=True)
class Identity:
    """A principal in full. `kind` is user or api_key; what the other has is None."""

    kind: str
    id: UUID
    name: str
    email: str | None
    role: str | None
    scopes: list[str]
    mode: str | None
    tenant_id: UUID
    tenant_name: str


def who_is(*, principal: Principal) -> Identity:
    """Return the user or key that the principal stands for. Two queries."""
    kind, _, own_id = principal.actor_id.partition(":")
    tenant = Tenant.objects.get(pk=principal.tenant_id)
    user = User.objects.get(pk=own_id) if kind == "user" else None
    api_key = ApiKey.objects.get(pk=own_id) if kind == "key" else None
    return Identity(
        kind="user" if user else "api_key",
        id=UUID(own_id),
        name=user.full_name if user else (api_key.name if api_key else ""),
        email=user.email if user else None,
        role=principal.role,
        scopes=sorted(principal.scopes),
        mode=api_key.mode if api_key else None,
        tenant_id=tenant.pk,
        tenant_name=tenant.name,
    )


def users_with_second_factor(users: QuerySet[User]) -> QuerySet[User]:
    """Return the users, each with `has_second_factor`."""
    devices = TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True)
    return users.annotate(has_second_factor=Exists(devices))
