"""What every test may ask for. The makers of things are in tests/making.py."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import LazySettings, settings
from django.core.management.commands import flush
from django.db import connection, transaction
from django.db.backends.postgresql.operations import DatabaseOperations
from django.test import override_settings
from django.utils import timezone

from core.schedule import ensure_schedule
from identity import queries as identity_queries
from identity.models import Tenant
from identity.services import create_tenant
from payments.gateways.calling import close_connections
from payments.gateways.sandbox.simulator import running_simulator
from tests import gateways, making
from tests.contract import ContractClient
from webhooks.queries import forget_receivers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


# What `migrate` writes, and no test changes.
_KEPT = {"django_migrations", "django_content_type", "auth_permission"}
# What it writes and some tests change.
_SCHEDULE = {
    *("django_celery_beat_periodictask", "django_celery_beat_periodictasks"),
    "django_celery_beat_intervalschedule",
}
_SCHEDULED = (
    "SELECT md5(string_agg(t::text, '' ORDER BY t.id)) FROM django_celery_beat_periodictask t"
)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """
    Let the runner empty tables that refuse it, after a test that commits.

    Only those that have rows, and without all that follows a migration: a thousand tests commit,
    and Django's own way takes half a second for each.
    """
    with django_db_blocker.unblock():
        tables = set(connection.introspection.django_table_names(only_existing=True)) - _KEPT
        schedule = _answer(_SCHEDULED)
    looks = " UNION ALL ".join(
        f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})"  # noqa: S608 - names of tables
        for table in sorted(tables)
    )

    def empty_all(*_: Any) -> None:
        nonlocal schedule
        is_changed = _answer(_SCHEDULED) != schedule
        with transaction.atomic(), connection.cursor() as cursor:
            # The triggers are what is tested; here they would keep the rows of one test for the
            # next.
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(looks)
            for (table,) in cursor.fetchall():
                if is_changed or table not in _SCHEDULE:
                    cursor.execute(f"DELETE FROM {table}")  # noqa: S608 - a name of a table
        if is_changed:
            ensure_schedule()
            schedule = _answer(_SCHEDULED)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "execute_sql_flush", empty_all)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *_, **__: None)
        yield


def _answer(question: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchone()


@pytest.fixture(autouse=True)
def _no_remembered_keys() -> None:
    """A test's keys are gone from the database, so they must be gone from memory."""
    identity_queries.forget_verified_keys()
    forget_receivers()


@pytest.fixture(autouse=True)
def _strangers_are_not_counted(settings: LazySettings) -> None:
    """All tests call from one address; those of the limit say what it is."""
    settings.RATE_LIMIT_ANONYMOUS = 0


@pytest.fixture(scope="session", autouse=True)
def _passwords_are_quick() -> Iterator[None]:
    """A good hash takes half a second, and hundreds of tests make people."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture
def tenant(db: None) -> Tenant:
    return create_tenant(name="Kopi Bank", now=timezone.now())


@pytest.fixture
def other_tenant(db: None) -> Tenant:
    return create_tenant(name="Teh Bank", now=timezone.now())


@pytest.fixture
def api(tenant: Tenant) -> ContractClient:
    """A caller with all scopes."""
    return making.api_client(tenant)


@pytest.fixture
def other_api(other_tenant: Tenant) -> ContractClient:
    """A caller with all scopes, of another tenant."""
    return making.api_client(other_tenant)


@pytest.fixture(scope="session")
def simulator_url() -> Iterator[str]:
    """Where the gateways' simulator listens, for all tests of this process."""
    with running_simulator() as simulator:
        yield simulator.url
        close_connections()


@pytest.fixture
def sandbox(simulator_url: str, settings: LazySettings) -> Iterator[gateways.Sandbox]:
    """The simulator as new; all gateways are reached there."""
    made = gateways.Sandbox(simulator_url, settings)
    made.reset()
    yield made
    made.http.close()


@pytest.fixture(scope="module")
def kept_tenant(django_db_setup: None, django_db_blocker: Any) -> Iterator[Tenant]:
    """
    A tenant for all tests of a module, in one transaction around them.

    What a module's fixtures make in its name is there for each test; what a test does is undone.
    """
    with django_db_blocker.unblock(), transaction.atomic():
        yield create_tenant(name="Kopi Bank", now=timezone.now())
        transaction.set_rollback(True)


@pytest.fixture(scope="module")
def kept_sandbox(simulator_url: str) -> Iterator[gateways.Sandbox]:
    """The simulator for all tests of a module. It keeps what each of them does there."""
    with override_settings():
        made = gateways.Sandbox(simulator_url, settings)
        made.reset()
        yield made
    made.http.close()


@pytest.fixture
def pause_together() -> Callable[[], None]:
    """
    Hold each of two callers until the other is there too, or half a second has passed.

    Put between a check and its act, it makes a race certain where nothing prevents it, and only
    slow where a lock does.
    """
    barrier = threading.Barrier(2)

    def pause() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(timeout=0.5)

    return pause
