"""What no caller should send, at every door that takes money: refused clearly, nothing done."""

import json
from typing import Any

import pytest
from django.conf import LazySettings

from accounts.models import Account
from core.money import AMOUNT_MAX
from identity.models import Tenant
from tests import making
from tests.contract import ContractClient

UNKNOWN = "0199c0de-7e57-7000-8000-00000000dead"
# Path, and which field of the body names the account that pays.
DOORS = {
    "deposit": ("/deposits", "account_id"),
    "withdrawal": ("/withdrawals", "account_id"),
    "transfer": ("/transfers", "source_account_id"),
    "wallet": ("/accounts/{ada}/transfers", "destination_account_id"),
    "hold": ("/holds", "account_id"),
}


class Door:
    """One way to move money, with a request that would be accepted."""

    def __init__(self, api: ContractClient, tenant: Tenant, path: str, account_field: str) -> None:
        self.api = api
        self.ada = making.open_account(tenant, balance=1000)
        self.ben = making.open_account(tenant, balance=1000)
        self.path = path.format(ada=self.ada.pk)
        self.account_field = account_field
        self.account = self.ben if path.startswith("/accounts/") else self.ada
        self.body: dict[str, Any] = {
            account_field: str(self.account.pk),
            "amount": 100,
            "currency": "USD",
        }
        if path == "/transfers":
            self.body["destination_account_id"] = str(self.ben.pk)

    def refusal(self, **changes: Any) -> tuple[int, str, str]:
        """Return status, code and the first field at fault of a request with changes."""
        return refusal_of(self.api.post_once(self.path, {**self.body, **changes}))

    def assert_nothing_happened(self) -> None:
        for account in (self.ada, self.ben):
            account.refresh_from_db()
            assert (account.balance, account.held) == (1000, 0)


def refusal_of(answer: Any) -> tuple[int, str, str]:
    body = answer.json()
    return body["status"], body["code"], body["errors"][0]["field"] if body["errors"] else ""


@pytest.fixture(params=list(DOORS.values()), ids=list(DOORS))
def door(request: pytest.FixtureRequest, api: ContractClient, tenant: Tenant) -> Door:
    return Door(api, tenant, *request.param)


def test_the_request_itself_is_fine(door: Door) -> None:
    assert door.api.post_once(door.path, door.body).status_code == 201


@pytest.mark.parametrize(
    "amount",
    [0, -1, 1.5, 100.0, "100", True, None, [1], {}, AMOUNT_MAX + 1, 2**63, 10**39, -(2**63)],
    ids=str,
)
def test_s15_an_amount_is_a_positive_whole_number(door: Door, amount: Any) -> None:
    assert door.refusal(amount=amount) == (400, "invalid_request", "amount")
    door.assert_nothing_happened()


@pytest.mark.parametrize(
    "currency", ["usd", "US", "USDX", "XXX", "", 840, None, "U\x00D"], ids=repr
)
def test_s15_a_currency_is_an_active_code(door: Door, currency: Any) -> None:
    assert door.refusal(currency=currency) == (400, "invalid_request", "currency")
    door.assert_nothing_happened()


def test_another_currency_is_a_mismatch(door: Door) -> None:
    assert door.refusal(currency="EUR")[:2] == (422, "currency_mismatch")
    door.assert_nothing_happened()


@pytest.mark.parametrize("account_id", ["7", "", None, 7, "not-a-uuid", UNKNOWN + "0"], ids=repr)
def test_an_account_id_is_a_uuid(door: Door, account_id: Any) -> None:
    refused = door.refusal(**{door.account_field: account_id})

    assert refused == (400, "invalid_request", door.account_field)
    door.assert_nothing_happened()


def test_an_unknown_account_is_not_found(door: Door) -> None:
    assert door.refusal(**{door.account_field: UNKNOWN})[:2] == (404, "not_found")
    door.assert_nothing_happened()


def test_s2_another_tenants_account_is_not_found(door: Door, other_tenant: Tenant) -> None:
    theirs = making.open_account(other_tenant, balance=1000)

    assert door.refusal(**{door.account_field: str(theirs.pk)})[:2] == (404, "not_found")
    assert making.balance_of(theirs) == 1000
    door.assert_nothing_happened()


@pytest.mark.parametrize("field", ["amount", "currency"])
def test_what_is_missing_is_named(door: Door, field: str) -> None:
    del door.body[field]

    assert door.refusal() == (400, "invalid_request", field)


@pytest.mark.parametrize("description", ["x" * 501, 7, ["x"], "nul\x00byte"], ids=ascii)
def test_s14_a_description_is_a_short_text(door: Door, description: Any) -> None:
    assert door.refusal(description=description)[:2] == (400, "invalid_request")
    door.assert_nothing_happened()


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param("x", id="not an object"),
        pytest.param({"k": 1}, id="a number"),
        pytest.param({"k": {"a": "b"}}, id="nested"),
        pytest.param({"": "v"}, id="empty key"),
        pytest.param({"k" * 65: "v"}, id="long key"),
        pytest.param({"k": "v" * 501}, id="long value"),
        pytest.param({str(n): "v" for n in range(51)}, id="too many"),
        pytest.param({"k": "\x00"}, id="nul"),
    ],
)
def test_s14_metadata_is_a_small_object_of_strings(door: Door, metadata: Any) -> None:
    assert door.refusal(metadata=metadata)[:2] == (400, "invalid_request")
    door.assert_nothing_happened()


@pytest.mark.parametrize("status", ["frozen", "closed"])
def test_an_account_that_is_not_active_is_refused(door: Door, status: str, tenant: Tenant) -> None:
    stopped = making.open_account(tenant)
    verb = {"frozen": "freeze", "closed": "close"}[status]
    door.api.post_once(f"/accounts/{stopped.pk}/{verb}", {"reason": "test"})

    refused = door.refusal(**{door.account_field: str(stopped.pk)})

    assert refused[:2] == (422, f"account_{status}")
    door.assert_nothing_happened()


def test_a_key_is_required(door: Door) -> None:
    for headers in ({}, {"Idempotency-Key": ""}):
        answer = door.api.post(f"/api/v1{door.path}", door.body, headers=headers)
        assert refusal_of(answer)[:2] == (400, "idempotency_key_required")
    door.assert_nothing_happened()


@pytest.mark.parametrize("key", ["x" * 256, "two words", "é", "tab\there"], ids=ascii)
def test_a_key_is_visible_ascii(door: Door, key: str) -> None:
    answer = door.api.post_once(door.path, door.body, key=key)

    assert refusal_of(answer) == (400, "invalid_request", "Idempotency-Key")
    door.assert_nothing_happened()


def test_the_same_key_moves_money_once(door: Door) -> None:
    first = door.api.post_once(door.path, door.body, key="x" * 255)
    again = door.api.post_once(door.path, door.body, key="x" * 255)

    assert again.json() == first.json()
    assert again.status_code == first.status_code == 201
    assert again["Idempotent-Replayed"] == "true"
    door.account.refresh_from_db()
    assert 100 in (abs(door.account.balance - 1000), door.account.held)


def test_the_same_key_with_another_body_is_refused(door: Door) -> None:
    door.api.post_once(door.path, door.body, key="k")

    answer = door.api.post_once(door.path, {**door.body, "amount": 101}, key="k")

    assert refusal_of(answer)[:2] == (422, "idempotency_conflict")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="cut off"),
        pytest.param("[]", id="a list"),
        pytest.param('"text"', id="a string"),
        pytest.param("null", id="null"),
        pytest.param('{"amount": NaN}', id="NaN"),
        pytest.param('{"amount": 1, "amount": 2}', id="a key twice"),
        pytest.param('{"amount": ' + "9" * 5000 + "}", id="an endless number"),
        pytest.param('{"a":' * 5000 + "1" + "}" * 5000, id="nested without end"),
        pytest.param(b"\xff\xfe{}", id="not UTF-8"),
        pytest.param("", id="nothing"),
        pytest.param('{"description": "\\ud800"}', id="half a character"),
        pytest.param('{"\\ud800": ""}', id="half a character in a name"),
    ],
)
def test_s14_a_body_is_a_json_object(door: Door, text: str | bytes) -> None:
    answer = door.api.post(
        f"/api/v1{door.path}",
        text,
        content_type="application/json",
        headers={"Idempotency-Key": "k"},
    )

    assert refusal_of(answer)[:2] == (400, "invalid_request")
    door.assert_nothing_happened()


@pytest.mark.parametrize(
    "raw",
    [
        b'{"description": "\xed\xa0\x80"}',
        b'{"\xed\xa0\x80": 1}',
        '{"description": "x"}'.encode("utf-16"),
        b'\xff\xfe{"a": 1}',
        b'{"description": "\xff"}',
    ],
)
def test_s14_a_body_is_utf8(door: Door, raw: bytes) -> None:
    answer = door.api.post(
        f"/api/v1{door.path}",
        raw,
        content_type="application/json",
        headers={"Idempotency-Key": "k"},
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_another_media_type_is_not_supported(door: Door) -> None:
    answer = door.api.post(
        f"/api/v1{door.path}",
        "amount=100",
        content_type="application/x-www-form-urlencoded",
        headers={"Idempotency-Key": "k"},
    )

    assert refusal_of(answer)[:2] == (415, "unsupported_media_type")


def test_s14_a_body_too_large_is_not_read(door: Door, settings: LazySettings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    body = json.dumps({**door.body, "padding": "x" * 1000})

    answer = door.api.post(
        f"/api/v1{door.path}",
        body,
        content_type="application/json",
        headers={"Idempotency-Key": "k"},
    )

    assert refusal_of(answer)[:2] == (413, "payload_too_large")
    door.assert_nothing_happened()


def test_s15_a_balance_that_would_overflow_is_refused(api: ContractClient, tenant: Tenant) -> None:
    account = making.open_account(tenant)
    body = {"account_id": str(account.pk), "amount": AMOUNT_MAX, "currency": "USD"}
    for _ in range(2):
        assert api.post_once("/deposits", body).status_code == 201
    assert making.balance_of(account) == 2 * AMOUNT_MAX
    everything = Account.objects.get(role="cash")
    assert everything.balance == -2 * AMOUNT_MAX
