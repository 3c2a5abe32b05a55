"""What a tenant may be."""

import pytest
from django.core.exceptions import ValidationError

from identity.models import Tenant


@pytest.mark.parametrize("name", ["Asia/Jakarta", "America/New_York", "UTC"])
def test_a_tenant_lives_in_a_zone(name: str) -> None:
    Tenant(name="Bank", time_zone=name).clean_fields()


@pytest.mark.parametrize("name", ["", "Mars/Phobos", "localtime", "../../etc/passwd"])
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        Tenant(name="Bank", time_zone=name).clean_fields()

    assert list(refusal.value.message_dict) == ["time_zone"]
