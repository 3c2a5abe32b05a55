"""Deposits, withdrawals and transfers through the API's door."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Account
from identity.models import Tenant
from tests import making
from tests.contract import ContractClient


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant, balance=1000)


@pytest.fixture
def ben(tenant: Tenant) -> Account:
    return making.open_account(tenant)


def order(source: Account, destination: Account, amount: int, **more: Any) -> dict[str, Any]:
    return {
        "source_account_id": str(source.pk),
        "destination_account_id": str(destination.pk),
        "amount": amount,
        "currency": "USD",
        **more,
    }


def test_a_deposit_and_a_withdrawal(api: ContractClient, ben: Account) -> None:
    body = {"account_id": str(ben.pk), "amount": 700, "currency": "USD"}

    deposited = api.post_once("/deposits", {**body, "external_reference": "slip 7"})
    withdrawn = api.post_once("/withdrawals", {**body, "amount": 300, "through": "settlement"})

    assert deposited.status_code == 201
    assert deposited.json()["balance_after"] == 700
    assert withdrawn.json()["balance_after"] == 400
    assert [entry["amount"] for entry in withdrawn.json()["entries"]] == [-300, 300]
    roles = dict(Account.objects.filter(type="internal").values_list("role", "balance"))
    assert roles == {"cash": -700, "settlement": 300}


def test_a_withdrawal_is_covered_or_refused(api: ContractClient, ada: Account) -> None:
    body = {"account_id": str(ada.pk), "amount": 1001, "currency": "USD"}

    refused = api.post_once("/withdrawals", body)

    assert (refused.status_code, refused.json()["code"]) == (422, "insufficient_funds")
    assert making.balance_of(ada) == 1000


def test_a_transfer(api: ContractClient, ada: Account, ben: Account) -> None:
    made = api.post_once(
        "/transfers",
        order(ada, ben, 300, description="Lunch", metadata={"k": "v"}, value_date="2026-01-31"),
    )

    assert made.status_code == 201
    body = made.json()
    assert body["source_balance_after"] == 700
    assert (body["status"], body["value_date"], body["metadata"]) == (
        "posted",
        "2026-01-31",
        {"k": "v"},
    )
    assert api.get(f"/api/v1/transfers/{body['id']}").json() == body
    assert making.balance_of(ben) == 300


def test_a_transfer_costs_one_round_trip(api: ContractClient, ada: Account, ben: Account) -> None:
    api.post_once("/transfers", order(ada, ben, 1))

    # The posting goes past Django's cursor; whatever else is asked would be seen here.
    with CaptureQueriesContext(connection) as queries:
        made = api.post_once("/transfers", order(ada, ben, 1))

    assert made.status_code == 201
    assert len(queries) == 0, queries.captured_queries


def test_the_wallets_path_is_the_same_service(
    api: ContractClient, ada: Account, ben: Account
) -> None:
    body = {"destination_account_id": str(ben.pk), "amount": 300, "currency": "USD"}

    made = api.post_once(f"/accounts/{ada.pk}/transfers", body, key="k")
    again = api.post_once("/transfers", order(ada, ben, 300), key="k")

    assert made.status_code == 201
    assert again.json() == made.json()
    assert again["Idempotent-Replayed"] == "true"
    assert making.balance_of(ada) == 700


def test_a_key_of_another_transfer_is_refused(
    api: ContractClient, ada: Account, ben: Account
) -> None:
    api.post_once("/transfers", order(ada, ben, 300), key="k")

    refused = api.post_once("/transfers", order(ada, ben, 301), key="k")

    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_conflict")
    assert making.balance_of(ada) == 700


def test_keys_of_two_tenants_do_not_meet(
    api: ContractClient, other_api: ContractClient, other_tenant: Tenant, ada: Account, ben: Account
) -> None:
    theirs = making.open_account(other_tenant, balance=50), making.open_account(other_tenant)

    api.post_once("/transfers", order(ada, ben, 300), key="k")
    made = other_api.post_once("/transfers", order(*theirs, 5), key="k")

    assert made.status_code == 201


def test_a_deposit_is_no_transfer(api: ContractClient, ada: Account) -> None:
    deposited = making.deposit(ada, 5)

    assert api.get(f"/api/v1/transfers/{deposited.id}").status_code == 404
    assert api.get(f"/api/v1/transactions/{deposited.id}").status_code == 200


def test_an_independent_batch_refuses_by_item(
    api: ContractClient, ada: Account, ben: Account
) -> None:
    answer = api.post_once(
        "/transfers/batch",
        {
            "mode": "independent",
            "transfers": [
                order(ada, ben, 400),
                order(ada, ben, 601),
                order(ben, ada, 100),
                order(ada, ada, 1),
                order(ada, ben, -5),
                {},
                order(ada, ben, 5, currency="EUR"),
                order(ada, ben, 5, idempotency_key="own"),
            ],
        },
    )

    assert answer.status_code == 200
    body = answer.json()
    assert [result.get("code", "posted") for result in body["results"]] == [
        "posted",
        "insufficient_funds",
        "posted",
        "invalid_request",
        "invalid_request",
        "invalid_request",
        "currency_mismatch",
        "posted",
    ]
    assert (body["posted"], body["refused"]) == (3, 5)
    assert (making.balance_of(ada), making.balance_of(ben)) == (695, 305)


@pytest.mark.parametrize("fault", [{"amount": 1000}, {"amount": -1}], ids=["funds", "malformed"])
def test_an_atomic_batch_is_all_or_nothing(
    api: ContractClient, ada: Account, ben: Account, fault: dict[str, int]
) -> None:
    answer = api.post_once(
        "/transfers/batch",
        {"mode": "atomic", "transfers": [order(ada, ben, 400), {**order(ada, ben, 1), **fault}]},
    )

    assert answer.status_code == 200
    body = answer.json()
    assert (body["posted"], body["refused"]) == (0, 2)
    assert body["results"][0]["code"] == "batch_refused"
    assert making.balance_of(ada) == 1000


def test_a_batch_sent_again_gets_its_first_answer(
    api: ContractClient, ada: Account, ben: Account
) -> None:
    batch = {"transfers": [order(ada, ben, 700), order(ada, ben, 700)]}

    first = api.post_once("/transfers/batch", batch, key="b")
    making.deposit(ada, 10_000)
    again = api.post_once("/transfers/batch", batch, key="b")

    assert again.json() == first.json()
    assert (first.json()["posted"], first.json()["refused"]) == (1, 1)
    assert making.balance_of(ben) == 700


def test_an_items_own_key_posts_once_in_all_batches(
    api: ContractClient, ada: Account, ben: Account
) -> None:
    item = order(ada, ben, 100, idempotency_key="item-1")

    first = api.post_once("/transfers/batch", {"transfers": [item]}).json()
    again = api.post_once("/transfers/batch", {"transfers": [item]}).json()

    assert again["results"] == first["results"]
    assert making.balance_of(ben) == 100


@pytest.mark.parametrize(
    ("count", "status", "code"), [(0, 400, "invalid_request"), (10_001, 413, "payload_too_large")]
)
def test_a_batch_of_the_wrong_size_is_refused(
    api: ContractClient, count: int, status: int, code: str
) -> None:
    refused = api.post_once("/transfers/batch", {"transfers": [{}] * count})

    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_ten_thousand_transfers_in_one_call(
    api: ContractClient, ada: Account, ben: Account
) -> None:
    making.deposit(ada, 20_000)

    answer = api.post_once("/transfers/batch", {"transfers": [order(ada, ben, 2)] * 10_000})

    assert answer.json()["posted"] == 10_000
    assert (making.balance_of(ada), making.balance_of(ben)) == (1000, 20_000)
