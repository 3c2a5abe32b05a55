"""Tenants."""

from datetime import datetime

from django.db import transaction

from core.changes import record_change
from identity.models import Tenant


def create_tenant(*, name: str, now: datetime) -> Tenant:
    """Open a tenant."""
    with transaction.atomic():
        tenant = Tenant.objects.create(name=name, created_at=now)
        record_change(
            tenant_id=tenant.pk,
            action="tenant.created",
            object_id=tenant.pk,
            after={"name": name},
            now=now,
        )
    return tenant


def tenant_named(*, name: str, now: datetime) -> Tenant:
    """Return the oldest tenant of that name, opened on first need; for commands."""
    found = Tenant.objects.filter(name=name).order_by("created_at").first()
    return found or create_tenant(name=name, now=now)
