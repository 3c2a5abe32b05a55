import pytest

from identity.models import Tenant
from tests import making


def test_it_works(tenant: Tenant) -> None:
    ada, ben = making.open_account(tenant, balance=1000), making.open_account(tenant)
    posted = making.transfer(ada, ben, 300)
    assert posted.leg_balances == [700, 300]
    assert making.balance_of(ada) == 700


@pytest.mark.django_db(transaction=True)
def test_at_once(tenant: Tenant) -> None:
    ada, ben = making.open_account(tenant, balance=1000), making.open_account(tenant)
    results = making.at_once([lambda: making.transfer(ada, ben, 300)] * 4)
    assert sum(not isinstance(r, Exception) for r in results) == 3, results
    assert making.balance_of(ada) == 100


def test_after_flush(tenant: Tenant) -> None:
    making.open_account(tenant, balance=1000)
