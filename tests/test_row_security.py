"""S3: the database's own net below the tenants: whoever reads for nobody sees nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.conf import LazySettings
from django.db import ProgrammingError, connection, transaction
from django.utils import timezone

from accounts.models import Account
from core.database import reading_as
from core.ids import new_id
from core.money import Money
from identity.models import Tenant
from ledger.services import place_hold
from tests import gateways, making
from tests.contract import ContractClient


def column(statement: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return [str(row[0]) for row in cursor.fetchall()]


def tables_of_tenants() -> list[str]:
    return column(
        "SELECT table_name FROM information_schema.columns"
        " WHERE column_name = 'tenant_id' AND table_schema = 'public' ORDER BY 1"
    )


@contextmanager
def as_reader() -> Iterator[None]:
    """As the role, with no tenant named."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL ROLE florin_reader")
        yield
        transaction.set_rollback(True)


@pytest.fixture
def everything(tenant: Tenant, other_tenant: Tenant, sandbox: gateways.Sandbox) -> None:
    for each in (tenant, other_tenant):
        making.person(each, "operator")
        api = making.api_client(each)
        ada, ben = making.open_account(each, balance=100), making.open_account(each)
        making.transfer(ada, ben, 1)
        api.post_once("/accounts", {"type": "checking", "currency": "USD"})
        place_hold(
            tenant_id=each.pk,
            account_id=ada.pk,
            amount=Money(1, "USD"),
            idempotency_key=making.fresh_key(),
            expires_at=None,
            now=timezone.now(),
        )
        gateways.every_table(each, sandbox)
        making.job_that_died(each)


def test_s3_every_table_with_a_tenant_is_guarded(db: None) -> None:
    """It fails for a table that is added and not given to florin_guard()."""
    guarded = column(
        "SELECT c.relname FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid"
        " WHERE c.relrowsecurity AND p.polroles = ARRAY['florin_reader'::regrole::oid]"
    )

    assert len(tables_of_tenants()) >= 18
    assert set(tables_of_tenants()) <= set(guarded)
    assert "identity_tenant" in guarded


@pytest.mark.usefixtures("everything")
def test_s3_without_a_tenant_there_is_nothing() -> None:
    for table in (*tables_of_tenants(), "identity_tenant"):
        assert column(f"SELECT 1 FROM {table}"), table
        with as_reader():
            assert column(f"SELECT 1 FROM {table}") == [], table
        with reading_as(new_id()):
            assert column(f"SELECT 1 FROM {table}") == [], table


@pytest.mark.usefixtures("everything")
def test_s3_with_a_tenant_there_is_theirs(tenant: Tenant) -> None:
    for table in tables_of_tenants():
        with reading_as(tenant.pk):
            assert set(column(f"SELECT tenant_id FROM {table}")) == {str(tenant.pk)}, table


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("verb", ["DELETE FROM {}", "TRUNCATE {}", "INSERT INTO {} DEFAULT VALUES"])
def test_s3_a_reader_changes_nothing(tenant: Tenant, verb: str) -> None:
    for table in (*tables_of_tenants(), "identity_session", "core_auditblock"):
        with pytest.raises(ProgrammingError, match="permission denied"), reading_as(tenant.pk):
            column(verb.format(table))


@pytest.mark.parametrize(
    "secret",
    [
        "SELECT key FROM otp_totp_totpdevice",
        "SELECT token FROM otp_static_statictoken",
        "SELECT digest FROM identity_refreshtoken",
        "SELECT id FROM identity_session",
        "SELECT session_data FROM django_session",
        "SELECT subject FROM identity_signinfailures",
    ],
)
def test_s3_a_reader_sees_no_secrets(tenant: Tenant, secret: str) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), reading_as(tenant.pk):
        column(secret)


@pytest.mark.usefixtures("everything")
def test_s3_a_query_that_forgets_its_tenant_finds_its_own_only(
    tenant: Tenant, api: ContractClient, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    monkeypatch.setattr(
        "accounts.api.views.AccountViewSet.get_queryset", lambda _: Account.objects.all()
    )
    own = {str(pk) for pk in Account.objects.filter(tenant=tenant).values_list("pk", flat=True)}

    seen = {each["id"] for each in api.get("/api/v1/accounts").json()["results"]}

    assert seen == own
    # The fault is a fault: with the net taken away it shows.
    settings.ROW_SECURITY = False
    assert len(api.get("/api/v1/accounts").json()["results"]) > len(own)


@pytest.mark.usefixtures("everything")
def test_an_application_need_not_own_its_tables(tenant: Tenant) -> None:
    """A role that was granted what it needs is not shut out by the policies for readers."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE florin_app_of_a_test NOLOGIN")
            for what in ("SELECT, INSERT, UPDATE ON ALL TABLES", "ALL ON ALL SEQUENCES"):
                cursor.execute(f"GRANT {what} IN SCHEMA public TO florin_app_of_a_test")
            cursor.execute("SET LOCAL ROLE florin_app_of_a_test")
        assert len(set(column("SELECT tenant_id FROM accounts_account"))) == 2
        ada, ben = making.open_account(tenant, balance=10), making.open_account(tenant)
        making.transfer(ada, ben, 1)
        assert making.balance_of(ben) == 1
        transaction.set_rollback(True)


@pytest.mark.django_db(transaction=True)
def test_s3_a_connection_goes_back_as_it_came(tenant: Tenant, api: ContractClient) -> None:
    before = column("SELECT current_user")
    for path in ("/accounts", "/me", "/accounts?limit=0", f"/accounts/{new_id()}"):
        api.get(f"/api/v1{path}")

        assert column("SELECT current_user") == before
        assert column("SELECT coalesce(current_setting('florin.tenant_id', true), '')") == [""]
