"""What a tenant's test clock shows."""

from datetime import datetime
from uuid import UUID

from core.errors import NotFound
from identity.models import Tenant


def test_clock_of(*, tenant_id: UUID) -> datetime:
    """
    Return what the tenant's test clock shows.

    :raises NotFound: its time is the real one
    """
    time = Tenant.objects.values_list("test_clock", flat=True).get(pk=tenant_id)
    if time is None:
        raise NotFound("No test clock: start one.")
    return time
