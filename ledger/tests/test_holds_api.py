"""Holds through the API's door."""

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Account
from identity.models import Tenant
from tests import making
from tests.contract import ContractClient


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant, balance=1000)


@pytest.fixture
def shop(tenant: Tenant) -> Account:
    return making.open_account(tenant)


def place(api: ContractClient, account: Account, amount: int, **more: Any) -> Any:
    body = {"account_id": str(account.pk), "amount": amount, "currency": "USD", **more}
    return api.post_once("/holds", body)


def test_it_works(api: ContractClient, ada: Account, shop: Account) -> None:
    placed = place(api, ada, 400, description="Hotel")
    hold_id = placed.json()["id"]
    account = api.get(f"/api/v1/accounts/{ada.pk}").json()

    captured = api.post_once(
        f"/holds/{hold_id}/capture", {"destination_account_id": str(shop.pk), "amount": 250}
    )

    assert placed.status_code == 201
    assert (account["balance"], account["held"], account["available"]) == (1000, 400, 600)
    assert captured.status_code == 200
    body = captured.json()
    assert (body["status"], body["amount"], body["captured_amount"]) == ("captured", 400, 250)
    assert api.get(f"/api/v1/transactions/{body['transaction_id']}").json()["type"] == "capture"
    assert api.get(f"/api/v1/holds/{hold_id}").json() == body
    after = api.get(f"/api/v1/accounts/{ada.pk}").json()
    assert (after["balance"], after["held"], after["available"]) == (750, 0, 750)


def test_what_is_held_cannot_be_spent(api: ContractClient, ada: Account, shop: Account) -> None:
    place(api, ada, 400)

    over_held = place(api, ada, 601)
    body = {"account_id": str(ada.pk), "amount": 601, "currency": "USD"}
    overdrawn = api.post_once("/withdrawals", body)

    assert (over_held.status_code, over_held.json()["code"]) == (422, "insufficient_funds")
    assert (overdrawn.status_code, overdrawn.json()["code"]) == (422, "insufficient_funds")


def test_a_hold_is_released_once(api: ContractClient, ada: Account) -> None:
    hold_id = place(api, ada, 400).json()["id"]

    released = api.post_once(f"/holds/{hold_id}/release", key="r")
    again = api.post_once(f"/holds/{hold_id}/release", key="r")
    refused = api.post_once(f"/holds/{hold_id}/release")

    assert (released.status_code, released.json()["status"]) == (200, "released")
    assert again.json() == released.json()
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")


def test_a_capture_sent_again_moves_nothing(
    api: ContractClient, ada: Account, shop: Account
) -> None:
    hold_id = place(api, ada, 400).json()["id"]
    body = {"destination_account_id": str(shop.pk)}

    first = api.post_once(f"/holds/{hold_id}/capture", body, key="c")
    again = api.post_once(f"/holds/{hold_id}/capture", body, key="c")
    refused = api.post_once(f"/holds/{hold_id}/capture", body)

    assert again.json() == first.json()
    assert again["Idempotent-Replayed"] == "true"
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    assert making.balance_of(shop) == 400


def test_more_than_the_hold_is_not_captured(
    api: ContractClient, ada: Account, shop: Account
) -> None:
    hold_id = place(api, ada, 400).json()["id"]

    refused = api.post_once(
        f"/holds/{hold_id}/capture", {"destination_account_id": str(shop.pk), "amount": 401}
    )

    assert (refused.status_code, refused.json()["code"]) == (422, "capture_exceeds_hold")
    assert api.get(f"/api/v1/holds/{hold_id}").json()["status"] == "active"


def test_a_hold_expires_in_the_future(api: ContractClient, ada: Account) -> None:
    yesterday = (timezone.now() - dt.timedelta(days=1)).isoformat()

    refused = place(api, ada, 400, expires_at=yesterday)
    naive = place(api, ada, 400, expires_at="2999-01-01T00:00:00")

    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "expires_at")
    assert (naive.status_code, naive.json()["errors"][0]["field"]) == (400, "expires_at")
    assert place(api, ada, 400, expires_at="2999-01-01T00:00:00Z").status_code == 201


def test_an_accounts_holds_are_listed(api: ContractClient, ada: Account, shop: Account) -> None:
    hold_id = place(api, ada, 400).json()["id"]
    place(api, shop, 1)

    def ids(query: str) -> list[str]:
        page = api.get(f"/api/v1/accounts/{ada.pk}/holds{query}").json()
        return [hold["id"] for hold in page["results"]]

    assert ids("") == ids("?status=active") == [hold_id]
    assert ids("?status=released") == []
