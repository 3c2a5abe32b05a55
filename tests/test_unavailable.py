"""A needed part that does not answer: a fast 503 or 409, never a hang, nothing half done."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from accounts.models import Account
from identity.models import Tenant
from tests import making
from tests.contract import ContractClient
from tests.serving import database_url

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant, balance=1000)


@pytest.fixture
def order(ada: Account, tenant: Tenant) -> dict[str, Any]:
    return {
        "source_account_id": str(ada.pk),
        "destination_account_id": str(making.open_account(tenant).pk),
        "amount": 10,
        "currency": "USD",
    }


@pytest.fixture
def no_connections_left(api: ContractClient) -> Iterator[None]:
    """Every connection of the pool is somebody else's."""
    api.get("/api/v1/accounts")  # The key is known from here on.
    pool = connection.pool  # type: ignore[attr-defined]
    taken = [pool.getconn() for _ in range(pool.max_size - 1)]
    try:
        yield
    finally:
        for each in taken:
            pool.putconn(each)


@pytest.mark.usefixtures("no_connections_left")
def test_an_empty_pool_is_a_503(api: ContractClient, ada: Account) -> None:
    [answer] = making.at_once([lambda: api.get(f"/api/v1/accounts/{ada.pk}")])

    assert not isinstance(answer, Exception), answer
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer["Retry-After"] == "1"


def test_an_account_that_stays_locked_is_a_409(
    api: ContractClient, ada: Account, order: dict[str, Any]
) -> None:
    with transaction.atomic():
        Account.objects.select_for_update().get(pk=ada.pk)
        [refused] = making.at_once([lambda: api.post_once("/transfers", order, key="k")])
    made = api.post_once("/transfers", order, key="k")

    assert not isinstance(refused, Exception), refused
    assert (refused.status_code, refused.json()["code"]) == (409, "locked")
    assert made.status_code == 201
    assert making.balance_of(ada) == 990


def test_a_twin_that_is_still_running_is_a_409(api: ContractClient, tenant: Tenant) -> None:
    body = {"type": "checking", "currency": "USD"}
    with psycopg.connect(database_url()) as first:
        first.execute(
            "INSERT INTO core_idempotencyrecord (tenant_id, key, fingerprint, created_at)"
            " VALUES (%s, 'k', '', now())",
            [tenant.pk],
        )
        refused = api.post_once("/accounts", body, key="k")
        first.rollback()

    assert (refused.status_code, refused.json()["code"]) == (409, "request_in_progress")
    assert api.post_once("/accounts", body, key="k").status_code == 201
