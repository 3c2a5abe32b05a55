"""Entries, balances, statements, transactions and journals through the API's door."""

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

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


def test_entries_tell_the_accounts_story(api: ContractClient, ada: Account, ben: Account) -> None:
    made = making.transfer(ada, ben, 300, description="Lunch")

    newest, oldest = api.get(f"/api/v1/accounts/{ada.pk}/entries").json()["results"]

    assert (newest["sequence"], oldest["sequence"]) == (2, 1)
    assert (newest["amount"], newest["direction"], newest["balance_after"]) == (-300, "debit", 700)
    assert newest["transaction_id"] == str(made.id)
    assert newest["counterparty_account_id"] == str(ben.pk)
    assert (newest["type"], newest["description"]) == ("transfer", "Lunch")


@pytest.mark.parametrize(
    ("query", "amounts"),
    [
        ("direction=credit", [50, 1000]),
        ("direction=debit", [-300, -20]),
        ("type=deposit", [50, 1000]),
        ("min_amount=50", [50, -300, 1000]),
        ("max_amount=50", [50, -20]),
        ("min_amount=50&max_amount=300&direction=debit", [-300]),
        ("from=2000-01-01", [50, -300, -20, 1000]),
        ("to=2000-01-01", []),
        ("from=2999-01-01", []),
    ],
)
def test_entries_are_filtered(
    api: ContractClient, ada: Account, ben: Account, query: str, amounts: list[int]
) -> None:
    making.transfer(ada, ben, 20)
    making.transfer(ada, ben, 300)
    making.deposit(ada, 50)

    page = api.get(f"/api/v1/accounts/{ada.pk}/entries?{query}").json()

    assert [entry["amount"] for entry in page["results"]] == amounts


@pytest.mark.parametrize(
    "query",
    [
        "direction=up",
        "type=gift",
        "min_amount=-1",
        "min_amount=1.5",
        f"max_amount={2**63}",
        "from=yesterday",
        "from=2026-13-01",
        "to=2026-01-01T00:00:00",
        "sort=amount",
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(
    api: ContractClient, ada: Account, query: str
) -> None:
    refused = api.get(f"/api/v1/accounts/{ada.pk}/entries?{query}")

    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    assert refused.json()["errors"][0]["field"] == query.split("=")[0]


def test_a_page_of_entries_costs_the_same_whatever_its_size(
    api: ContractClient, ada: Account, ben: Account
) -> None:
    for _ in range(6):
        making.transfer(ada, ben, 1)
    api.get("/api/v1/accounts")  # The key is looked up once, and then known.
    counts = []
    for limit in (1, 6):
        with CaptureQueriesContext(connection) as queries:
            api.get(f"/api/v1/accounts/{ada.pk}/entries?limit={limit}")
        assert not any("COUNT(" in q["sql"] or "OFFSET" in q["sql"] for q in queries)
        counts.append(len(queries))

    assert counts[0] == counts[1]


def test_operations_speak_the_owners_language(
    api: ContractClient, ada: Account, ben: Account
) -> None:
    made = making.transfer(ada, ben, 300)
    api.post_once(f"/transactions/{made.id}/reverse", {"reason": "twice"})

    page = api.get(f"/api/v1/accounts/{ada.pk}/operations").json()["results"]

    assert [(o["kind"], o["amount"]) for o in page] == [
        ("reversal", 300),
        ("transfer_out", 300),
        ("deposit", 1000),
    ]
    [received] = api.get(f"/api/v1/accounts/{ben.pk}/operations?kind=transfer_in").json()["results"]
    assert received["counterparty_account_id"] == str(ada.pk)


def test_the_balance_of_any_past_moment(api: ContractClient, ada: Account, ben: Account) -> None:
    first = making.transfer(ada, ben, 300).created_at
    hold = {"account_id": str(ada.pk), "amount": 100, "currency": "USD"}
    api.post_once("/holds", hold)
    making.transfer(ada, ben, 200)

    def at(moment: dt.datetime) -> tuple[int, int]:
        query = moment.isoformat().replace("+00:00", "Z")
        body = api.get(f"/api/v1/accounts/{ada.pk}/balance?at={query}").json()
        return body["balance"], body["held"]

    now = api.get(f"/api/v1/accounts/{ada.pk}/balance").json()
    assert (now["balance"], now["held"], now["available"]) == (500, 100, 400)
    assert at(first) == (700, 0)
    assert at(first - dt.timedelta(microseconds=1)) == (1000, 0)
    assert at(timezone.now()) == (500, 100)
    assert at(dt.datetime(2000, 1, 1, tzinfo=dt.UTC)) == (0, 0)


@pytest.mark.parametrize("at", ["2999-01-01T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00", "now"])
def test_a_moment_that_cannot_be_meant_is_refused(
    api: ContractClient, ada: Account, at: str
) -> None:
    refused = api.get(f"/api/v1/accounts/{ada.pk}/balance?at={at}")

    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "at")


def test_a_statement_adds_up(api: ContractClient, ada: Account, ben: Account) -> None:
    made = making.transfer(ada, ben, 300)
    making.deposit(ada, 50)
    start = made.created_at.isoformat().replace("+00:00", "Z")

    body = api.get(f"/api/v1/accounts/{ada.pk}/statement?from={start}&format=json").json()

    assert (body["opening_balance"], body["closing_balance"]) == (1000, 750)
    assert (body["total_credits"], body["total_debits"]) == (50, 300)
    assert [line["balance_after"] for line in body["lines"]] == [700, 750]
    assert body["from"] == start


@pytest.mark.parametrize("query", ["format=pdf", "from=2026-02-01&to=2026-01-01", "from=x"])
def test_a_statement_that_cannot_be_made_is_refused(
    api: ContractClient, ada: Account, query: str
) -> None:
    refused = api.get(f"/api/v1/accounts/{ada.pk}/statement?{query}")

    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


def test_transactions_are_listed_and_shown(api: ContractClient, ada: Account, ben: Account) -> None:
    made = making.transfer(ada, ben, 300, external_reference="order 7")
    carl = making.open_account(ada.tenant)
    making.transfer(ada, carl, 1)

    def ids(query: str) -> list[str]:
        page = api.get(f"/api/v1/transactions?{query}").json()
        return [transaction["id"] for transaction in page["results"]]

    assert ids("external_reference=order%207") == [str(made.id)]
    assert ids(f"account_id={ben.pk}") == [str(made.id)]
    assert ids(f"account_id={ben.pk}&type=deposit") == []
    assert len(ids("type=transfer")) == 2
    assert len(ids(f"account_id={ada.pk}")) == 3
    today = timezone.now().date()
    assert len(ids(f"from={today - dt.timedelta(days=1)}&to={today + dt.timedelta(days=1)}")) == 3
    assert ids("to=2000-01-01") == []

    shown = api.get(f"/api/v1/transactions/{made.id}").json()
    assert [entry["amount"] for entry in shown["entries"]] == [-300, 300]
    assert shown["reversed_by"] is None


def journal(*legs: tuple[Account, int], **more: Any) -> dict[str, Any]:
    entries = [{"account_id": str(account.pk), "amount": amount} for account, amount in legs]
    return {"entries": entries, "currency": "USD", **more}


def test_a_journal(api: ContractClient, ada: Account, ben: Account, tenant: Tenant) -> None:
    carl = making.open_account(tenant)

    posted = api.post_once("/transactions", journal((ada, -500), (ben, 200), (carl, 300)), key="j")
    again = api.post_once("/transactions", journal((ada, -500), (ben, 200), (carl, 300)), key="j")

    assert posted.status_code == 201
    assert (posted.json()["type"], posted.json()["amount"]) == ("journal", 500)
    assert again.json() == posted.json()
    assert [making.balance_of(a) for a in (ada, ben, carl)] == [500, 200, 300]


def test_a_journal_that_is_wrong_is_refused(
    api: ContractClient, ada: Account, ben: Account
) -> None:
    def code(*legs: tuple[Account, int]) -> tuple[int, str]:
        refused = api.post_once("/transactions", journal(*legs))
        return refused.status_code, refused.json()["code"]

    assert code((ada, -5), (ben, 6)) == (422, "unbalanced")
    assert code((ada, 0), (ben, 0)) == (422, "unbalanced")
    assert code((ada, -5)) == (400, "invalid_request")
    assert code((ada, -5), (ada, 5)) == (400, "invalid_request")
    assert code(*[(ada, 1)] * 101) == (400, "invalid_request")
    assert code((ada, -1001), (ben, 1001)) == (422, "insufficient_funds")
    assert making.balance_of(ada) == 1000


def test_a_journal_takes_the_admin_scope(tenant: Tenant, ada: Account, ben: Account) -> None:
    writer = making.api_client(tenant, "read", "write")

    refused = writer.post_once("/transactions", journal((ada, -5), (ben, 5)))

    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")


def test_a_transaction_is_reversed_once(api: ContractClient, ada: Account, ben: Account) -> None:
    made = making.transfer(ada, ben, 300)
    path = f"/transactions/{made.id}/reverse"

    reversal = api.post_once(path, {"reason": "twice"}, key="r")
    again = api.post_once(path, {"reason": "twice"}, key="r")
    refused = api.post_once(path, {"reason": "twice"})

    assert reversal.status_code == 201
    assert reversal.json()["reverses"] == str(made.id)
    assert again.json() == reversal.json()
    assert (refused.status_code, refused.json()["code"]) == (409, "already_reversed")
    assert making.balance_of(ada) == 1000
    shown = api.get(f"/api/v1/transactions/{made.id}").json()
    assert shown["reversed_by"] == reversal.json()["id"]


def test_a_reversal_of_money_that_was_spent_is_refused(
    api: ContractClient, ada: Account, ben: Account, tenant: Tenant
) -> None:
    made = making.transfer(ada, ben, 300)
    making.transfer(ben, making.open_account(tenant), 1)

    refused = api.post_once(f"/transactions/{made.id}/reverse", {"reason": "twice"})

    assert (refused.status_code, refused.json()["code"]) == (422, "insufficient_funds")


def test_the_trial_balance_is_always_even(
    api: ContractClient, ada: Account, ben: Account, tenant: Tenant
) -> None:
    making.transfer(ada, ben, 300)
    making.open_account(tenant, currency="EUR", balance=70)

    usd = api.get("/api/v1/ledger/trial-balance?currency=USD").json()
    both = api.get("/api/v1/ledger/trial-balance").json()
    before = api.get("/api/v1/ledger/trial-balance?currency=USD&at=2000-01-01T00:00:00Z").json()

    assert (usd["debits"], usd["credits"], usd["difference"]) == (1300, 1300, 0)
    assert [line["currency"] for line in both["currencies"]] == ["EUR", "USD"]
    assert (both["debits"], both["difference"]) == (None, 0)
    assert (before["debits"], before["credits"], before["difference"]) == (0, 0, 0)
    assert api.get("/api/v1/ledger/trial-balance?currency=XXX").status_code == 400
