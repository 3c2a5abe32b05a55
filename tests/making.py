"""What tests are made of: a person who calls, an account with money in it, many at once."""

import datetime as dt
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection
from django.utils import timezone

from accounts.models import Account
from accounts.services import NewAccount
from accounts.services import open_account as _open_account
from core import runs
from core.ids import new_id
from core.models import DeadLetter
from core.money import Money
from core.schedule import ensure_schedule
from identity.models import Tenant, User
from identity.services import Tokens, begin_session, create_api_key, create_user
from ledger.services import PostedTransaction
from payments.services import CashMovement, Transfer, make_deposit
from payments.services import make_transfer as _make_transfer
from tests.contract import ContractClient

T = TypeVar("T")
_numbers = itertools.count(1)


def fresh_key() -> str:
    """Return an idempotency key that no other test has."""
    return f"test-key-{next(_numbers)}"


def open_account(tenant: Tenant, *, balance: int = 0, **new: Any) -> Account:
    """Open an account as the service does, and put money in by a deposit. Minor units."""
    values = {"type": "checking", "currency": "USD", **new}
    account = _open_account(tenant_id=tenant.pk, new=NewAccount(**values), now=timezone.now())
    if balance:
        deposit(account, balance)
        account.refresh_from_db()
    return account


def deposit(account: Account, amount: int, **movement: Any) -> PostedTransaction:
    """Credit the account against the tenant's cash."""
    values = {"idempotency_key": fresh_key(), **movement}
    return make_deposit(
        tenant_id=account.tenant_id,
        deposit=CashMovement(account.pk, Money(amount, account.currency), **values),
        now=timezone.now(),
    )


def transfer(source: Account, destination: Account, amount: int, **more: Any) -> PostedTransaction:
    """Move money between two accounts of the source's tenant."""
    values = {"idempotency_key": fresh_key(), **more}
    return _make_transfer(
        tenant_id=source.tenant_id,
        transfer=Transfer(source.pk, destination.pk, Money(amount, source.currency), **values),
    )


def balance_of(account: Account | UUID) -> int:
    """Return the balance as it stands in the database now."""
    account_id = account if isinstance(account, UUID) else account.pk
    return Account.objects.values_list("balance", flat=True).get(pk=account_id)


def api_client(tenant: Tenant, *scopes: str, now: dt.datetime | None = None) -> ContractClient:
    """Return a client that calls with a new key of the tenant; without scopes, an admin's."""
    issued = create_api_key(
        tenant_id=tenant.pk,
        name="test",
        scopes=list(scopes) or ["admin"],
        now=now or timezone.now(),
    )
    return client_of(issued.clear)


def person(tenant: Tenant, role: str, *, password: str | None = None) -> User:
    """Return a new user; without a password, which costs time, they have none."""
    return create_user(
        tenant_id=tenant.pk,
        email=f"{fresh_key()}@bank.test",
        password=password,
        role=role,
        now=timezone.now(),
    )


def tokens_of(user: User) -> Tokens:
    """Return what the user would have after signing in."""
    return begin_session(user=user, address="", now=timezone.now())


def client_of(credential: str) -> ContractClient:
    """Return a client that calls with an API key or access token."""
    client = ContractClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {credential}")
    return client


def person_client(tenant: Tenant, role: str) -> ContractClient:
    """Return a client that calls with the access token of a new user."""
    return client_of(tokens_of(person(tenant, role)).access)


def job_that_died(tenant: Tenant) -> DeadLetter:
    """A job of the tenant's that failed for good, and beat's schedule."""
    ensure_schedule()
    now = timezone.now()
    run = runs.begin(
        task_id=str(new_id()),
        task="chores.fail",
        args=[],
        kwargs={"tenant_id": str(tenant.pk), "number": next(_numbers)},
        is_tick=False,
        attempts_max=1,
        silence_limit_s=60,
        worker="host:1",
        now=now,
    )
    assert run is not None
    runs.fail(run, ValueError("it is broken"), may_pass=False, now=now)
    return DeadLetter.objects.get(task_id=run.task_id)


def corrupt(statement: str, *parameters: Any) -> None:
    """Change rows behind the back of all rules, as a broken disk or a careless superuser would."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement, parameters)
        assert cursor.rowcount > 0
        cursor.execute("SET session_replication_role = origin")


def at_once(calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """
    Run the calls in a thread each, all released together; return results or exceptions, in order.

    For transactional tests only: each thread has a connection of its own.
    """
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | Exception:
        try:
            barrier.wait(timeout=30)
            return call()
        except Exception as error:  # noqa: BLE001 - handed to the test, which looks at each
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
