"""Accounts through the API's door."""

from uuid import UUID

import pytest

from accounts.models import Account
from core.models import OutboxEvent
from identity.models import Tenant
from tests import making
from tests.contract import ContractClient


def test_it_works(api: ContractClient) -> None:
    opened = api.post_once(
        "/accounts",
        {
            "type": "checking",
            "currency": "USD",
            "name": "Ada",
            "external_id": "ada-1",
            "overdraft_limit": 500,
            "metadata": {"segment": "retail"},
        },
    )

    assert opened.status_code == 201
    body = opened.json()
    assert body["status"] == "active"
    assert (body["balance"], body["held"], body["available"]) == (0, 0, 500)
    assert body["metadata"] == {"segment": "retail"}
    assert api.get(f"/api/v1/accounts/{body['id']}").json() == body


def test_without_a_key_each_call_opens_another(api: ContractClient) -> None:
    ids = {
        api.post("/api/v1/accounts", {"type": "saving", "currency": "USD"}).json()["id"]
        for _ in range(2)
    }

    assert len(ids) == 2


def test_the_same_key_opens_one_account(api: ContractClient) -> None:
    body = {"type": "checking", "currency": "USD"}

    first = api.post_once("/accounts", body, key="open-1")
    again = api.post_once("/accounts", body, key="open-1")

    assert again.status_code == 201
    assert again.json() == first.json()
    assert again["Idempotent-Replayed"] == "true"
    assert Account.objects.count() == 1


def test_the_same_key_with_another_body_is_refused(api: ContractClient) -> None:
    api.post_once("/accounts", {"type": "checking", "currency": "USD"}, key="open-1")

    refused = api.post_once("/accounts", {"type": "saving", "currency": "USD"}, key="open-1")

    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_conflict")


def test_an_external_id_is_unique_in_its_tenant(
    api: ContractClient, other_api: ContractClient
) -> None:
    body = {"type": "checking", "currency": "USD", "external_id": "ada-1"}
    api.post_once("/accounts", body)

    refused = api.post_once("/accounts", body)

    assert (refused.status_code, refused.json()["code"]) == (409, "already_exists")
    assert other_api.post_once("/accounts", body).status_code == 201


def test_a_batch_opens_what_it_can(api: ContractClient) -> None:
    good = {"type": "checking", "currency": "USD", "external_id": "ada-1"}

    answer = api.post_once(
        "/accounts/batch",
        {"accounts": [good, {**good, "currency": "XXX"}, good, {**good, "external_id": "b"}]},
    )

    assert answer.status_code == 201
    body = answer.json()
    assert body["created"] == 2
    assert [result["index"] for result in body["results"]] == [0, 1, 2, 3]
    assert body["results"][1]["error"]["code"] == "invalid_request"
    assert body["results"][1]["error"]["errors"][0]["field"] == "currency"
    assert body["results"][2]["error"]["code"] == "already_exists"
    assert Account.objects.filter(pk=body["results"][3]["id"]).exists()


def test_a_batch_of_ten_thousand_is_opened_once(api: ContractClient) -> None:
    body = {"accounts": [{"type": "checking", "currency": "USD"}] * 10_000}

    first = api.post_once("/accounts/batch", body, key="many")
    again = api.post_once("/accounts/batch", body, key="many")

    assert first.json()["created"] == 10_000
    assert again.json() == first.json()
    assert Account.objects.count() == 10_000


@pytest.mark.parametrize(
    ("accounts", "status", "code"),
    [
        pytest.param([], 400, "invalid_request", id="none"),
        pytest.param([7], 400, "invalid_request", id="not objects"),
        pytest.param([{}] * 10_001, 413, "payload_too_large", id="too many"),
    ],
)
def test_a_batch_of_the_wrong_size_is_refused(
    api: ContractClient, accounts: list[object], status: int, code: str
) -> None:
    refused = api.post_once("/accounts/batch", {"accounts": accounts})

    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_a_batch_needs_a_key(api: ContractClient) -> None:
    refused = api.post("/api/v1/accounts/batch", {"accounts": [{}]})

    assert (refused.status_code, refused.json()["code"]) == (400, "idempotency_key_required")


def test_the_list_is_filtered(api: ContractClient, tenant: Tenant) -> None:
    owner = UUID(int=7)
    making.open_account(tenant, type="saving", owner_id=owner, external_id="x")
    making.open_account(tenant, currency="EUR")

    for query in ("type=saving", f"owner_id={owner}", "external_id=x", "currency=USD"):
        [found] = api.get(f"/api/v1/accounts?{query}").json()["results"]
        assert found["external_id"] == "x"
    assert len(api.get("/api/v1/accounts?status=active").json()["results"]) == 2
    assert api.get("/api/v1/accounts?status=frozen").json()["results"] == []


@pytest.mark.parametrize(
    "query", ["type=gold", "owner_id=7", "limit=0", "limit=201", "limit=x", "cursor=abc", "typ=a"]
)
def test_a_filter_that_cannot_be_meant_is_refused(api: ContractClient, query: str) -> None:
    refused = api.get(f"/api/v1/accounts?{query}")

    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    assert refused.json()["errors"][0]["field"] == query.split("=")[0]


def test_pages_follow_each_other_both_ways(api: ContractClient, tenant: Tenant) -> None:
    newest_first = [str(making.open_account(tenant).pk) for _ in range(5)][::-1]

    def ids(page: dict[str, list[dict[str, str]]]) -> list[str]:
        return [account["id"] for account in page["results"]]

    first = api.get("/api/v1/accounts?limit=2").json()
    second = api.get(first["next"]).json()
    third = api.get(second["next"]).json()

    assert ids(first) + ids(second) + ids(third) == newest_first
    assert first["previous"] is None
    assert third["next"] is None
    assert ids(api.get(third["previous"]).json()) == ids(second)
    assert ids(api.get(second["previous"]).json()) == ids(first)


def test_a_cursor_belongs_to_its_list(api: ContractClient, tenant: Tenant) -> None:
    account = making.open_account(tenant, balance=100)
    making.deposit(account, 100)
    page = api.get(f"/api/v1/accounts/{account.pk}/entries?limit=1").json()
    cursor = page["next"].split("cursor=")[1].split("&")[0]

    refused = api.get(f"/api/v1/accounts?cursor={cursor}")

    assert refused.status_code == 400


def test_name_metadata_and_overdraft_can_be_changed(api: ContractClient, tenant: Tenant) -> None:
    account = making.open_account(tenant)

    changed = api.patch(
        f"/api/v1/accounts/{account.pk}",
        {"name": "Rainy days", "metadata": {"a": "b"}, "overdraft_limit": 900},
    )

    assert changed.status_code == 200
    assert changed.json()["name"] == "Rainy days"
    assert changed.json()["available"] == 900


@pytest.mark.parametrize("field", ["balance", "currency", "type", "status", "id", "tenant_id"])
def test_nothing_else_can_be_changed(api: ContractClient, tenant: Tenant, field: str) -> None:
    account = making.open_account(tenant)

    refused = api.patch(f"/api/v1/accounts/{account.pk}", {field: "7"})

    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    assert refused.json()["errors"][0]["field"] == field


def test_an_overdraft_in_use_cannot_be_taken_away(api: ContractClient, tenant: Tenant) -> None:
    account = making.open_account(tenant, overdraft_limit=500)
    making.transfer(account, making.open_account(tenant), 300)

    refused = api.patch(f"/api/v1/accounts/{account.pk}", {"overdraft_limit": 299})

    assert (refused.status_code, refused.json()["code"]) == (422, "overdraft_in_use")


def test_freeze_unfreeze_and_close(api: ContractClient, tenant: Tenant) -> None:
    account = making.open_account(tenant)

    def change(what: str) -> tuple[int, str]:
        answer = api.post_once(f"/accounts/{account.pk}/{what}", {"reason": "lost card"})
        body = answer.json()
        return answer.status_code, body["status"] if answer.status_code == 200 else body["code"]

    assert change("unfreeze") == (409, "invalid_state")
    assert change("freeze") == (200, "frozen")
    assert change("freeze") == (409, "invalid_state")
    assert change("unfreeze") == (200, "active")
    assert change("close") == (200, "closed")
    assert change("close") == (409, "invalid_state")
    assert change("unfreeze") == (409, "invalid_state")
    assert OutboxEvent.objects.filter(event_type="account.frozen").count() == 1


def test_an_account_with_money_is_not_closed(api: ContractClient, tenant: Tenant) -> None:
    account = making.open_account(tenant, balance=1)

    refused = api.post_once(f"/accounts/{account.pk}/close", {"reason": "moved away"})

    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")


def test_a_change_of_status_needs_a_reason(api: ContractClient, tenant: Tenant) -> None:
    account = making.open_account(tenant)

    for body in ({}, {"reason": ""}, {"reason": " "}, {"reason": 7}, {"reason": "x" * 501}):
        refused = api.post_once(f"/accounts/{account.pk}/freeze", body)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "reason")


def test_an_internal_account_cannot_be_opened_or_stopped(
    api: ContractClient, tenant: Tenant
) -> None:
    making.open_account(tenant, balance=1)
    cash = Account.objects.get(role="cash")

    assert api.post_once("/accounts", {"type": "internal", "currency": "USD"}).status_code == 400
    assert api.post_once(f"/accounts/{cash.pk}/freeze", {"reason": "x"}).status_code == 409
