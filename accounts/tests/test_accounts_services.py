"""Accounts through their services."""

from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from accounts import services
from accounts.errors import AccountAlreadyExists, OverdraftInUse
from accounts.models import Account
from accounts.services import NewAccount
from core.errors import InvalidState, NotFound, PayloadTooLarge
from core.models import OutboxEvent
from identity.models import Tenant
from tests import making


def new(**more: Any) -> NewAccount:
    return NewAccount(**{"type": "checking", "currency": "USD", **more})


def open_all(tenant: Tenant, *accounts: NewAccount) -> list[UUID | AccountAlreadyExists]:
    return services.open_accounts(tenant_id=tenant.pk, new=accounts, now=timezone.now())


def test_many_open_as_one_would(tenant: Tenant) -> None:
    odd = 'tab\t newline\n return\r backslash\\ null\\N quote" é 漢 🙂'
    given = new(
        name=odd,
        external_id=odd,
        owner_id=UUID(int=7),
        overdraft_limit=5,
        metadata={odd: odd, "": "x"},
    )

    [many] = open_all(tenant, given)
    one = services.open_account(
        tenant_id=tenant.pk,
        new=NewAccount(**{**vars_of(given), "external_id": "other"}),
        now=timezone.now(),
    )

    assert isinstance(many, UUID)
    opened = Account.objects.get(pk=many)
    assert opened.external_id == odd
    for field in ("type", "currency", "name", "owner_id", "overdraft_limit", "metadata", "status"):
        assert getattr(opened, field) == getattr(one, field)
    assert (opened.balance, opened.held, opened.entry_count) == (0, 0, 0)
    assert OutboxEvent.objects.filter(event_type="account.opened").count() == 2


def vars_of(account: NewAccount) -> dict[str, Any]:
    return {name: getattr(account, name) for name in account.__slots__}


def test_a_taken_external_id_is_refused_alone(tenant: Tenant) -> None:
    open_all(tenant, new(external_id="a"))

    first, second, third, fourth = open_all(
        tenant, new(external_id="a"), new(external_id="b"), new(external_id="b"), new()
    )

    assert [type(each) for each in (first, second, third, fourth)] == [
        AccountAlreadyExists,
        UUID,
        AccountAlreadyExists,
        UUID,
    ]


def test_there_is_a_limit(tenant: Tenant) -> None:
    with pytest.raises(PayloadTooLarge):
        open_all(tenant, *[new()] * 10_001)


def test_one_internal_account_for_each_role_and_currency(tenant: Tenant) -> None:
    def internal(role: str, currency: str) -> UUID:
        return services.internal_account(
            tenant_id=tenant.pk, role=role, currency=currency, now=timezone.now()
        )

    assert internal("cash", "USD") == internal("cash", "USD")
    assert len({internal("cash", "USD"), internal("cash", "EUR"), internal("fees", "USD")}) == 3


@pytest.mark.django_db(transaction=True)
def test_an_internal_account_opens_once_however_many_ask(tenant: Tenant) -> None:
    found = making.at_once(
        [
            lambda: services.internal_account(
                tenant_id=tenant.pk, role="fees", currency="USD", now=timezone.now()
            )
        ]
        * 8
    )

    assert len(set(found)) == 1, found
    assert OutboxEvent.objects.filter(event_type="account.opened").count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_external_id_opens_once_however_many_ask(tenant: Tenant) -> None:
    results = making.at_once([lambda: open_all(tenant, new(external_id="a"), new())] * 6)

    flat = [each for result in results if isinstance(result, list) for each in result]
    assert len(flat) == 12, results
    assert sum(isinstance(each, UUID) for each in flat) == 7


def test_another_tenants_account_is_not_found(tenant: Tenant, other_tenant: Tenant) -> None:
    account = making.open_account(other_tenant)

    for service in (services.freeze_account, services.unfreeze_account, services.close_account):
        with pytest.raises(NotFound):
            service(tenant_id=tenant.pk, account_id=account.pk, reason="x", now=timezone.now())
    with pytest.raises(NotFound):
        services.change_account(
            tenant_id=tenant.pk, account_id=account.pk, changes={"name": "x"}, now=timezone.now()
        )


def test_an_overdraft_in_use_stays(tenant: Tenant) -> None:
    account = making.open_account(tenant, overdraft_limit=100)
    making.transfer(account, making.open_account(tenant), 60)

    with pytest.raises(OverdraftInUse):
        services.change_account(
            tenant_id=tenant.pk,
            account_id=account.pk,
            changes={"overdraft_limit": 59},
            now=timezone.now(),
        )
    account.refresh_from_db()
    assert account.overdraft_limit == 100


@pytest.mark.parametrize("balance", [1, -1])
def test_an_account_closes_empty(tenant: Tenant, balance: int) -> None:
    account = making.open_account(tenant, overdraft_limit=5, balance=max(balance, 0))
    if balance < 0:
        making.transfer(account, making.open_account(tenant), 1)

    with pytest.raises(InvalidState):
        services.close_account(
            tenant_id=tenant.pk, account_id=account.pk, reason="x", now=timezone.now()
        )


def test_a_closed_account_cannot_be_changed(tenant: Tenant) -> None:
    account = making.open_account(tenant)
    services.close_account(
        tenant_id=tenant.pk, account_id=account.pk, reason="x", now=timezone.now()
    )

    with pytest.raises(InvalidState):
        services.change_account(
            tenant_id=tenant.pk, account_id=account.pk, changes={"name": "x"}, now=timezone.now()
        )
