"""What a request costs in round trips and rows: the figures of docs/benchmarks.md, kept honest."""

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import redis
from django.conf import LazySettings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from core.permissions import Role
from identity.models import Tenant
from identity.services import start_test_clock
from savings.services import keep_books
from tests import gateways, making, recurring, saving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _keys_are_known(settings: LazySettings) -> None:
    """A process looks at a key twice a second; that one request of many is not counted here."""
    settings.API_KEY_CACHE_S = 60.0


class Cost:
    def __init__(self) -> None:
        self.sql: list[str] = []
        self.redis = 0


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """
    Count what leaves for PostgreSQL, also past Django's cursors, and for Redis.

    For Redis by this thread: a ring of the test before may still be on its way.
    """
    this = threading.get_ident()
    asked: list[Any] = []
    executed: list[str] = []
    send: Any = redis.connection.AbstractConnection.send_packed_command
    execute = psycopg.Cursor.execute

    def counted_send(self: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == this:
            asked.append(args)
        return send(self, *args, **kwargs)

    def counted_execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        executed.append(str(query).strip())
        return execute(self, query, *args, **kwargs)

    monkeypatch.setattr(redis.connection.AbstractConnection, "send_packed_command", counted_send)
    monkeypatch.setattr(psycopg.Cursor, "execute", counted_execute)

    @contextmanager
    def count() -> Iterator[Cost]:
        cost, before, sql_before = Cost(), len(asked), len(executed)
        with CaptureQueriesContext(connection) as captured:
            yield cost
        # Django begins and ends transactions without a cursor.
        ends = [each["sql"] for each in captured.captured_queries]
        ends = [each for each in ends if each in ("BEGIN", "COMMIT", "ROLLBACK")]
        cost.sql = [*executed[sql_before:], *ends]
        cost.redis = len(asked) - before

    return count


def rows(tables: str) -> dict[str, int]:
    counts = {}
    with connection.cursor() as cursor:
        for table in tables.split():
            cursor.execute(f"SELECT count(*) FROM {table}")
            [counts[table]] = cursor.fetchone() or [0]
    return counts


def test_a_transfer_by_key(tenant: Tenant, counting: Any) -> None:
    api = making.api_client(tenant)
    ada, ben = making.open_account(tenant, balance=100), making.open_account(tenant)
    order = {
        "source_account_id": str(ada.pk),
        "destination_account_id": str(ben.pk),
        "amount": 1,
        "currency": "USD",
    }
    # The key is known, the script loaded, the connection open.
    api.post_once("/transfers", order)
    tables = "ledger_transaction ledger_entry core_outboxevent core_auditrecord"
    tables += " core_idempotencyrecord"
    before = rows(tables)

    with counting() as cost:
        assert api.post_once("/transfers", order).status_code == 201

    assert len(cost.sql) == 1, cost.sql
    assert cost.redis == 1
    written = {name: count - before[name] for name, count in rows(tables).items()}
    assert written == {
        "ledger_transaction": 1,
        "ledger_entry": 2,
        "core_outboxevent": 1,
        "core_auditrecord": 0,
        "core_idempotencyrecord": 0,
    }


@pytest.mark.parametrize(("role", "statements"), [(Role.OPERATOR, 2), (Role.CUSTOMER, 3)])
def test_a_transfer_by_a_person(tenant: Tenant, counting: Any, role: Role, statements: int) -> None:
    """One more for the session; for a customer another, to see that the account is theirs."""
    person = making.person(tenant, role)
    client = making.client_of(making.tokens_of(person).access)
    ada = making.open_account(tenant, balance=100, owner_id=person.pk)
    order = {
        "source_account_id": str(ada.pk),
        "destination_account_id": str(making.open_account(tenant).pk),
        "amount": 1,
        "currency": "USD",
    }
    client.post_once("/transfers", order)

    with counting() as cost:
        assert client.post_once("/transfers", order).status_code == 201

    assert len(cost.sql) == statements, cost.sql
    assert cost.redis == 1


def test_a_read(tenant: Tenant, counting: Any) -> None:
    """The account itself, and three round trips around it for row security."""
    api = making.api_client(tenant)
    ada = making.open_account(tenant)
    api.get(f"/api/v1/accounts/{ada.pk}")

    with counting() as cost:
        assert api.get(f"/api/v1/accounts/{ada.pk}").status_code == 200

    assert sorted(each.split()[0] for each in cost.sql) == ["BEGIN", "ROLLBACK", "SELECT", "SELECT"]
    assert cost.redis == 1


def test_opening_an_account(tenant: Tenant, counting: Any) -> None:
    """The record of the answer twice, the account, and one statement for event and audit."""
    api = making.api_client(tenant)
    api.post_once("/accounts", {"type": "checking", "currency": "USD"})

    with counting() as cost:
        answer = api.post_once("/accounts", {"type": "checking", "currency": "USD"})

    assert answer.status_code == 201
    assert len([each for each in cost.sql if each.split()[0] in ("INSERT", "UPDATE", "WITH")]) == 4
    assert len(cost.sql) == 8, cost.sql
    assert cost.redis == 1


def test_a_top_up_that_is_paid_at_once(
    tenant: Tenant, sandbox: gateways.Sandbox, counting: Any
) -> None:
    gateways.add_sandbox(tenant)
    api, ada = making.api_client(tenant), making.open_account(tenant)
    url = f"/accounts/{ada.pk}/topup"
    order = {"amount": 100, "currency": "USD", "payment_method": gateways.card()}
    # The settlement account is open, the key known, the script loaded.
    api.post_once(url, order)
    tables = "payments_payment ledger_transaction ledger_entry core_outboxevent core_auditrecord"
    tables += " core_idempotencyrecord"
    before = rows(tables)

    with counting() as cost:
        assert api.post_once(url, order).json()["status"] == "succeeded"

    # Three transactions: written down, paid, deposited; with what begins and ends them.
    assert len(cost.sql) == 22, cost.sql
    assert len(sandbox.requests("create_payment")) == 2
    written = {name: count - before[name] for name, count in rows(tables).items()}
    assert written == {
        "payments_payment": 1,
        "ledger_transaction": 1,
        "ledger_entry": 2,
        # Of the payment three: created, paid, deposited; and one of the posting.
        "core_outboxevent": 4,
        "core_auditrecord": 3,
        "core_idempotencyrecord": 0,
    }


def test_a_notification(tenant: Tenant, sandbox: gateways.Sandbox, counting: Any) -> None:
    configuration = gateways.add_sandbox(tenant)
    gateways.deliver(gateways.as_sent(configuration), configuration)
    told = gateways.as_sent(configuration)
    before = rows("webhooks_inboundevent core_outboxevent core_auditrecord")

    with counting() as cost:
        assert gateways.deliver(told, configuration).status_code == 200

    assert len(cost.sql) == 1, cost.sql
    assert cost.redis == 0
    written = {
        name: count - before[name]
        for name, count in rows("webhooks_inboundevent core_outboxevent core_auditrecord").items()
    }
    assert written == {"webhooks_inboundevent": 1, "core_outboxevent": 0, "core_auditrecord": 0}


def test_recurring_payments_that_are_due(tenant: Tenant, counting: Any) -> None:
    """A look costs the same for one that is due as for a hundred."""
    ada, ben = making.open_account(tenant, balance=20_000), making.open_account(tenant)
    january = recurring.utc("2026-01-15")

    def look(count: int) -> tuple[Cost, dict[str, int]]:
        for _ in range(count):
            recurring.order(ada, ben, now=january)
        tables = "ledger_transaction ledger_entry core_outboxevent payments_recurringrun"
        before = rows(f"{tables} core_auditrecord")
        with counting() as cost:
            assert recurring.run(january + dt.timedelta(days=1)) == count
        return cost, {
            name: number - before[name] for name, number in rows(" ".join(before)).items()
        }

    one, _ = look(1)
    hundred, written = look(100)

    assert len(one.sql) == len(hundred.sql) == 15, hundred.sql
    assert written == {
        "ledger_transaction": 100,
        "ledger_entry": 200,
        "core_outboxevent": 200,
        "payments_recurringrun": 100,
        "core_auditrecord": 0,
    }


def test_a_night_of_interest_and_a_day_of_unlocking(tenant: Tenant, counting: Any) -> None:
    """A pass, and a look, cost the same for one plan as for thirty."""
    start_test_clock(tenant_id=tenant.pk, at=recurring.utc("2026-01-15"), now=timezone.now())
    tenant.refresh_from_db()
    source = making.open_account(tenant, balance=1_000_000)
    day = recurring.utc("2026-01-15")

    def night(count: int) -> tuple[Cost, Cost, dict[str, int]]:
        nonlocal day
        for _ in range(count):
            unlock_date = day.date() + dt.timedelta(days=1)
            saving.locked_plan(source, unlock_date, now=day, annual_rate_bps=10_000)
        day += dt.timedelta(days=1)
        Tenant.objects.filter(pk=tenant.pk).update(test_clock=day)
        before = rows("savings_interestaccrual ledger_transaction core_auditrecord")
        with counting() as of_interest:
            assert keep_books(now=day, tenant_id=tenant.pk) == count
        with counting() as of_nothing:
            assert keep_books(now=day, tenant_id=tenant.pk) == 0
        with counting() as of_unlocking:
            # With the look that finds nothing left.
            assert saving.keep(day, tenant=tenant) == count
        del of_unlocking.sql[: len(of_nothing.sql)]
        return (
            of_interest,
            of_unlocking,
            {name: number - before[name] for name, number in rows(" ".join(before)).items()},
        )

    # The tenant's own accounts are opened.
    night(1)
    interest_of_one, one, _ = night(1)
    interest_of_thirty, thirty, written = night(30)

    assert len(interest_of_one.sql) == len(interest_of_thirty.sql), interest_of_thirty.sql
    assert len(one.sql) == len(thirty.sql), thirty.sql
    # Of each: a day that earned; interest and payout; unlocked and closed.
    assert written == {
        "savings_interestaccrual": 30,
        "ledger_transaction": 60,
        "core_auditrecord": 60,
    }
    assert (len(interest_of_thirty.sql), len(thirty.sql)) == (10, 23), thirty.sql
