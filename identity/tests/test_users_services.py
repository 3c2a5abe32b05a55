"""Users through their services."""

import pytest
from django.utils import timezone

from core.errors import NotFound
from core.models import OutboxEvent
from identity.errors import EmailTaken
from identity.models import Tenant, User
from identity.services import change_user, create_user, set_password
from tests import making


def create(tenant: Tenant, email: str = "ada@bank.test", role: str = "operator") -> User:
    return create_user(
        tenant_id=tenant.pk, email=email, password="a-long-password", role=role, now=timezone.now()
    )


def test_it_works(tenant: Tenant) -> None:
    user = create(tenant, "Ada@Bank.test")

    assert user.email == "ada@bank.test"
    assert user.is_staff
    assert user.check_password("a-long-password")
    assert not create(tenant, "ben@bank.test", "customer").is_staff


def test_an_address_belongs_to_one_person_in_all_tenants(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    create(tenant)

    with pytest.raises(EmailTaken):
        create(other_tenant, "ADA@bank.test")


@pytest.mark.django_db(transaction=True)
def test_an_address_is_taken_once_however_many_ask(tenant: Tenant) -> None:
    results = making.at_once([lambda: create(tenant)] * 4)

    assert sum(isinstance(result, EmailTaken) for result in results) == 3, results


def test_a_change_of_role_opens_or_closes_the_back_office(tenant: Tenant) -> None:
    user = create(tenant)

    changed = change_user(
        tenant_id=tenant.pk,
        user_id=user.pk,
        changes={"full_name": "Ada", "role": "customer", "is_active": False},
        now=timezone.now(),
    )

    assert (changed.is_staff, changed.is_active, changed.full_name) == (False, False, "Ada")
    assert OutboxEvent.objects.filter(event_type="user.changed", resource_id=user.pk).exists()


def test_another_tenants_user_is_not_found(tenant: Tenant, other_tenant: Tenant) -> None:
    user = create(tenant)

    with pytest.raises(NotFound):
        set_password(
            tenant_id=other_tenant.pk, user_id=user.pk, password="x" * 20, now=timezone.now()
        )
