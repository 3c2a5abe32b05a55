"""Every POST that changes something: once for a key, and for whom."""

import datetime as dt
import json
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from core.idempotency import KEPT_FOR, purge_expired
from core.models import IdempotencyRecord
from identity.models import Tenant
from tests import gateways, making
from tests.contract import ContractClient
from tests.sweeping import CASES, Route, World, admin_of

# Those that sign people in and out keep no answers, on purpose: docs/decisions/0010.
KEYED = sorted(route for route in CASES if route[0] == "post" and not CASES[route].is_public)


@pytest.fixture(scope="module")
def tenant(kept_tenant: Tenant) -> Tenant:
    return kept_tenant


@pytest.fixture(scope="module")
def kept_world(tenant: Tenant, kept_sandbox: gateways.Sandbox) -> World:
    api = making.api_client(tenant)
    account = making.open_account(tenant, balance=1_000)
    other, frozen, empty = (making.open_account(tenant) for _ in range(3))
    api.post_once(f"/accounts/{frozen.pk}/freeze", {"reason": "x"})
    hold = api.post_once("/holds", {"account_id": str(account.pk), "amount": 5, "currency": "USD"})
    ids = {
        "account": str(account.pk),
        "other": str(other.pk),
        "frozen": str(frozen.pk),
        "empty": str(empty.pk),
        "transfer": str(making.transfer(account, other, 10).id),
        "hold": hold.json()["id"],
        **gateways.one_of_everything(tenant, account),
    }
    return World(ids, refresh="")


@pytest.fixture
def world(kept_world: World, db: None) -> World:
    return kept_world


def post(client: ContractClient, route: Route, world: World, body: Any, key: str) -> Any:
    url = f"/api/v1{CASES[route].url(route, world)}"
    return client.post(url, body, headers={"Idempotency-Key": key})


def changed(body: dict[str, Any]) -> dict[str, Any]:
    """Return another request of the same kind."""
    text = json.dumps(body)
    for one, another in (('"x"', '"y"'), (": 1,", ": 2,"), (": -1}", ": -2}"), (": 1}", ": 2}")):
        text = text.replace(one, another)
    made: dict[str, Any] = json.loads(text)
    return made if made != body else {**body, "name": "another", "description": "another"}


def all_rows() -> dict[str, int]:
    tables = [
        *("accounts_account", "ledger_transaction", "ledger_entry", "ledger_hold"),
        *("identity_user", "identity_apikey", "core_outboxevent", "core_auditrecord"),
        *("payments_payment", "payments_refund", "payments_payout"),
        "payments_gatewayconfiguration",
        *("payments_recurringpayment", "payments_recurringrun", "payments_calendarday"),
        *("invoices_invoice", "invoices_receipt", "invoices_creditnote", "invoices_credituse"),
        *("invoices_mailing", "invoices_numberseries"),
        *("savings_savingsplan", "savings_interestposting", "savings_earlyrelease"),
    ]
    with connection.cursor() as cursor:
        counts = {}
        for table in tables:
            cursor.execute(f"SELECT count(*) FROM {table}")
            [counts[table]] = cursor.fetchone() or [0]
    return counts


@pytest.mark.parametrize("route", KEYED, ids=" ".join)
def test_the_same_request_again_gets_the_same_answer(
    world: World, tenant: Tenant, route: Route
) -> None:
    api, body = admin_of(tenant, route), CASES[route].body(world)
    first = post(api, route, world, body, "again")
    assert first.status_code < 300, first.content
    before = all_rows()

    again = post(api, route, world, body, "again")

    assert again["Idempotent-Replayed"] == "true"
    # A new API key is shown once: what is repeated has none.
    shown = {name: value for name, value in first.json().items() if name != "key"}
    kept = {name: value for name, value in again.json().items() if name != "key"}
    assert (again.status_code, kept) == (first.status_code, shown)
    assert all_rows() == before


@pytest.mark.parametrize("route", KEYED, ids=" ".join)
def test_another_request_with_the_key_is_refused(
    world: World, tenant: Tenant, route: Route
) -> None:
    api, case = admin_of(tenant, route), CASES[route]
    assert post(api, route, world, case.body(world), "taken").status_code < 300
    before = all_rows()

    answer = post(api, route, world, changed(case.body(world)), "taken")

    assert answer.status_code in (200, 422), answer.content
    if answer.status_code == 422:
        assert answer.json()["code"] == "idempotency_conflict"
    else:
        # A release has no body that says anything.
        assert route == ("post", "/holds/<uuid:pk>/release")
    assert all_rows() == before


@pytest.mark.parametrize("route", KEYED, ids=" ".join)
def test_somebody_elses_key_is_not_ours(world: World, tenant: Tenant, route: Route) -> None:
    """The same key and body of another credential of the tenant is another's request."""
    body = CASES[route].body(world)
    ours, other = admin_of(tenant, route), admin_of(tenant, route)
    assert post(ours, route, world, body, "shared").status_code < 300
    before = all_rows()

    answer = post(other, route, world, body, "shared")

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_conflict")
    assert {**all_rows(), "identity_apikey": 0, "core_auditrecord": 0, "core_outboxevent": 0} == {
        **before,
        "identity_apikey": 0,
        "core_auditrecord": 0,
        "core_outboxevent": 0,
    }


def test_answers_are_kept_for_a_day(api: ContractClient) -> None:
    body = {"type": "checking", "currency": "USD"}
    first = api.post_once("/accounts", body, key="old").json()["id"]
    IdempotencyRecord.objects.update(created_at=timezone.now() - KEPT_FOR + dt.timedelta(minutes=1))
    assert api.post_once("/accounts", body, key="old").json()["id"] == first

    IdempotencyRecord.objects.update(created_at=timezone.now() - KEPT_FOR - dt.timedelta(minutes=1))
    # Not purged yet, and worth nothing all the same.
    assert api.post_once("/accounts", body, key="old").json()["id"] != first


def test_old_answers_are_purged_in_batches(api: ContractClient) -> None:
    IdempotencyRecord.objects.all().delete()
    for number in range(3):
        api.post_once("/accounts", {"type": "checking", "currency": "USD"}, key=f"k{number}")
    assert purge_expired(now=timezone.now(), limit=10) == 0

    later = timezone.now() + KEPT_FOR + dt.timedelta(minutes=1)
    assert [purge_expired(now=later, limit=2) for _ in range(3)] == [2, 1, 0]


def test_keys_of_postings_hold_for_ever(api: ContractClient, world: World) -> None:
    body = CASES["post", "/transfers"].body(world)
    first = api.post_once("/transfers", body, key="for-ever").json()["id"]

    purge_expired(now=timezone.now() + dt.timedelta(days=3650), limit=1_000)

    assert api.post_once("/transfers", body, key="for-ever").json()["id"] == first
