"""Tenants as they stand while something is written for them."""

from uuid import UUID

from identity.models import Tenant


def tenant_and_its_clock(*, tenant_id: UUID) -> Tenant:
    """
    Return the tenant; until the transaction ends nobody gives it a clock of its own.

    FOR SHARE: any number at once, and never beside one who starts or moves its test clock.
    """
    [tenant] = Tenant.objects.raw(
        "SELECT * FROM identity_tenant WHERE id = %s FOR SHARE", [tenant_id]
    )
    return tenant
