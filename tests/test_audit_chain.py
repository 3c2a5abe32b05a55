"""S34: the audit trail and the ledger, sealed; whatever is done to them afterwards is found."""

import datetime as dt
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts.models import Account
from accounts.services import freeze_account
from core import sealing
from core.caller import Caller, calling
from core.changes import record_for_audit
from core.models import AuditBlock, AuditRecord, SealCursor
from core.sealing import BLOCK_ROWS_MAX, block_hash, seal_new_rows
from identity.models import Tenant
from tests import making

pytestmark = pytest.mark.django_db(transaction=True)


def seal() -> int:
    return seal_new_rows(now=timezone.now())


def verify(*options: str) -> dict[str, Any]:
    """Run the command as an operator does; the report says what its exit code says."""
    out = io.StringIO()
    failed = False
    try:
        call_command("verify_audit", "--json", *options, stdout=out)
    except CommandError:
        failed = True
    report: dict[str, Any] = json.loads(out.getvalue())
    assert report["ok"] is not failed
    return report


def fault() -> str:
    report = verify()
    assert not report["ok"]
    return str(report["fault"])


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    """Money that has moved, changes that were made, all of it sealed in a few blocks."""
    ada, ben = making.open_account(tenant, balance=1_000), making.open_account(tenant)
    making.transfer(ada, ben, 10, description="Lunch")
    seal()
    making.transfer(ada, ben, 20)
    freeze_account(tenant_id=tenant.pk, account_id=ben.pk, reason="x", now=timezone.now())
    assert seal() == 2
    return ada


# --- Sealing ---------------------------------------------------------------------------------
def test_all_is_sealed_once(ada: Account) -> None:
    report = verify()

    assert report["ok"]
    sealed = [row_id for block in AuditBlock.objects.all() for row_id in block.row_ids]
    assert len(sealed) == len(set(sealed)) == report["rows"]
    assert {str(pk) for pk in AuditRecord.objects.values_list("pk", flat=True)} <= set(sealed)
    assert seal() == 0


def test_a_chain_of_nothing_is_all_right(db: None) -> None:
    assert seal() == 0
    report = verify()
    assert (report["ok"], report["blocks"], report["head"]) == (True, 0, None)


def test_what_is_not_sealed_yet_is_no_fault(ada: Account, tenant: Tenant) -> None:
    making.transfer(ada, making.open_account(tenant), 5)

    assert verify()["ok"]


def test_late_commits_are_sealed_too(tenant: Tenant) -> None:
    """A number taken early and committed late falls into a gap that is remembered."""

    def record(action: str) -> None:
        record_for_audit(tenant_id=tenant.pk, action=action, now=timezone.now())

    def commit_another() -> None:
        record("second")
        connection.close()

    def seal_and_leave() -> None:
        seal()
        connection.close()

    with transaction.atomic():
        record("first")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(commit_another).result()
            pool.submit(seal_and_leave).result()
        assert SealCursor.objects.get(stream="audit").gaps
    assert verify()["ok"]

    assert seal() == 1

    assert verify()["ok"]
    assert {"first", "second"} <= {each.action for each in AuditRecord.objects.all()}
    sealed = [row_id for block in AuditBlock.objects.all() for row_id in block.row_ids]
    assert len(set(sealed)) == AuditRecord.objects.count()


def test_gaps_are_forgotten_when_nothing_can_fill_them(tenant: Tenant) -> None:
    with transaction.atomic():
        record_for_audit(tenant_id=tenant.pk, action="undone", now=timezone.now())
        transaction.set_rollback(True)
    record_for_audit(tenant_id=tenant.pk, action="done", now=timezone.now())
    seal()
    assert SealCursor.objects.get(stream="audit").gaps

    seal_new_rows(now=timezone.now() + dt.timedelta(hours=2))

    assert SealCursor.objects.get(stream="audit").gaps == []


def test_a_gap_wider_than_a_block_is_sealed_to_its_end(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that was under way at one look, and then nobody looked for a while."""
    monkeypatch.setattr(sealing, "BLOCK_ROWS_MAX", 10)

    def record_and_seal() -> None:
        record_for_audit(tenant_id=tenant.pk, action="second", now=timezone.now())
        seal()
        connection.close()

    with transaction.atomic():
        for _ in range(35):
            record_for_audit(tenant_id=tenant.pk, action="first", now=timezone.now())
        with ThreadPoolExecutor(1) as pool:
            pool.submit(record_and_seal).result()

    later = timezone.now() + dt.timedelta(hours=2)
    assert seal_new_rows(now=later) == 35
    assert verify()["ok"]


def test_a_gap_stays_while_whoever_may_fill_it_is_at_work(tenant: Tenant) -> None:
    """They took their number early and their transaction id late, and are slow."""

    def record_and_seal() -> None:
        record_for_audit(tenant_id=tenant.pk, action="second", now=timezone.now())
        now = timezone.now()
        # Seen, aged, and looked at again and again.
        for seconds in (0, 61, 62, 180):
            seal_new_rows(now=now + dt.timedelta(seconds=seconds))
        connection.close()

    with transaction.atomic():
        record_for_audit(tenant_id=tenant.pk, action="first", now=timezone.now())
        with ThreadPoolExecutor(1) as pool:
            pool.submit(record_and_seal).result()
        assert SealCursor.objects.get(stream="audit").gaps
    assert seal_new_rows(now=timezone.now() + dt.timedelta(seconds=200)) == 1

    assert verify()["ok"]
    # And goes when they have ended; other databases of the server have transactions under way too.
    for seconds in range(400, 3_000, 10):
        seal_new_rows(now=timezone.now() + dt.timedelta(seconds=seconds))
        if not SealCursor.objects.get(stream="audit").gaps:
            break
        time.sleep(0.1)
    assert SealCursor.objects.get(stream="audit").gaps == []


def test_sealing_that_stands_still_is_a_fault(ada: Account) -> None:
    """Whoever keeps rows from being sealed could alter them meanwhile."""
    past = timezone.now() - dt.timedelta(minutes=11)
    record_for_audit(tenant_id=ada.tenant_id, action="a.b", now=past)

    assert fault().startswith("nothing of audit has been sealed since")


def test_sealers_side_by_side_do_it_once(tenant: Tenant) -> None:
    for _ in range(50):
        record_for_audit(tenant_id=tenant.pk, action="a.b", now=timezone.now())

    results = making.at_once([seal] * 8)

    assert all(isinstance(each, int) for each in results), results
    seal()
    assert verify()["ok"]
    numbers = list(AuditBlock.objects.order_by("number").values_list("number", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))


def test_many_rows_make_several_blocks(tenant: Tenant) -> None:
    AuditRecord.objects.bulk_create(
        AuditRecord(tenant_id=tenant.pk, action="a.b", actor_id="x", created_at=timezone.now())
        for _ in range(BLOCK_ROWS_MAX + 1)
    )

    seal()

    assert max(len(block.row_ids) for block in AuditBlock.objects.all()) == BLOCK_ROWS_MAX
    assert verify()["ok"]


# --- What the database refuses -----------------------------------------------------------------
@pytest.mark.parametrize("table", ["core_auditrecord", "core_auditblock"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {}", "UPDATE {} SET {}"])
def test_the_trail_is_only_added_to(ada: Account, table: str, statement: str) -> None:
    column = "action = 'x'" if table == "core_auditrecord" else "stream = 'x'"

    with pytest.raises(DatabaseError, match=r"never changed|kept for ever"):  # noqa: SIM117
        with connection.cursor() as cursor:
            cursor.execute(statement.format(table, column))

    assert verify()["ok"]


# --- S34: what a superuser can still do, is found ------------------------------------------------
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("actor_id", "user:somebody-else"),
        ("action", "account.opened"),
        ("reason", "another reason"),
        ("after", '{"status": "active"}'),
        ("before", None),
        ("object_id", "0199c0de-7e57-7000-8000-000000000001"),
        ("address", "192.0.2.7"),
        ("request_id", "another"),
        ("created_at", "2020-01-01T00:00:00Z"),
        ("tenant_id", "0199c0de-7e57-7000-8000-000000000001"),
    ],
)
def test_s34_an_altered_record(ada: Account, column: str, value: str | None) -> None:
    record = AuditRecord.objects.filter(action="account.frozen").get()

    making.corrupt(f"UPDATE core_auditrecord SET {column} = %s WHERE id = %s", value, record.pk)

    assert fault().startswith(f"audit record {record.pk} was altered")


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("ledger_transaction", "description", "Dinner"),
        ("ledger_transaction", "actor_id", "user:x"),
        ("ledger_transaction", "created_at", "2020-01-01T00:00:00Z"),
        ("ledger_transaction", "metadata", '{"a": "b"}'),
        ("ledger_entry", "amount", 11),
        ("ledger_entry", "balance_after", 11),
        ("ledger_entry", "account_id", None),
    ],
)
def test_s34_an_altered_posting(ada: Account, table: str, column: str, value: Any) -> None:
    lunch = transaction_of("Lunch")
    if column == "account_id":
        value = making.open_account(ada.tenant).pk
        seal()
    which = "id" if table == "ledger_transaction" else "leg = 1 AND transaction_id"

    making.corrupt(f"UPDATE {table} SET {column} = %s WHERE {which} = %s", value, lunch)

    assert fault().startswith(f"transaction {lunch} was altered")


def test_s34_a_missing_record_and_posting(ada: Account) -> None:
    record = AuditRecord.objects.filter(action="account.frozen").get()
    making.corrupt("DELETE FROM core_auditrecord WHERE id = %s", record.pk)
    assert fault().startswith(f"audit record {record.pk} is missing")

    lunch = transaction_of("Lunch")
    making.corrupt("DELETE FROM ledger_entry WHERE transaction_id = %s", lunch)
    making.corrupt("DELETE FROM ledger_transaction WHERE id = %s", lunch)
    # The first in the order of the chain.
    assert fault().startswith(f"transaction {lunch} is missing")


def test_s34_reordered_records(ada: Account) -> None:
    first, second = AuditRecord.objects.order_by("pk")[:2]
    making.corrupt(
        "UPDATE core_auditrecord SET id = CASE id WHEN %s THEN -1 ELSE %s END WHERE id IN (%s, %s)",
        *(first.pk, first.pk, first.pk, second.pk),
    )
    making.corrupt("UPDATE core_auditrecord SET id = %s WHERE id = -1", second.pk)

    assert fault().startswith(f"audit record {first.pk} was altered")


def test_s34_a_record_put_in_between(ada: Account) -> None:
    making.corrupt(
        "INSERT INTO core_auditrecord (id, action, actor_id, reason, request_id, created_at)"
        " VALUES (-5, 'a.b', 'x', '', '', now())"
    )

    assert "audit record -5 stands in no block" in fault()


def test_s34_a_posting_without_its_event(ada: Account, tenant: Tenant) -> None:
    made = making.transfer(ada, making.open_account(tenant), 7)
    making.corrupt("DELETE FROM core_outboxevent WHERE resource_id = %s", made.id)
    seal()

    assert f"transaction {made.id} stands in no block" in fault()


def test_s34_blocks_altered_replaced_or_taken_out(ada: Account) -> None:
    last = AuditBlock.objects.order_by("number").last()
    assert last is not None
    making.corrupt("UPDATE core_auditblock SET sealed_at = now() WHERE number = 1")
    assert fault() == "block 1 was altered"

    making.corrupt("DELETE FROM core_auditblock WHERE number = 1")
    assert fault() == "block 1 is missing"


def test_s34_a_chain_remade_is_found_by_whoever_noted_its_head(ada: Account) -> None:
    """Who can write everything can write a whole new chain: only a note elsewhere tells."""
    noted = verify()["head"]
    assert verify("--expect", noted)["ok"]
    record = AuditRecord.objects.filter(action="account.frozen").get()
    making.corrupt("UPDATE core_auditrecord SET reason = 'y' WHERE id = %s", record.pk)
    _remake_the_chain()

    assert verify()["ok"]
    report = verify("--expect", noted)
    assert not report["ok"]
    assert "noted elsewhere" in report["fault"]


def test_s34_a_tail_cut_off_is_found_by_whoever_noted_it(ada: Account) -> None:
    noted = verify()["head"]
    number = noted.split(":")[0]
    making.corrupt("DELETE FROM core_auditblock WHERE number = %s", number)

    # Also without the note: its rows stand in no block now.
    assert "stands in no block" in fault()
    assert not verify("--expect", noted)["ok"]


def test_a_wrong_note_is_refused() -> None:
    with pytest.raises(CommandError, match="not a block's number and hash"):
        call_command("verify_audit", "--expect", "12:zz")


# --- Who it was -----------------------------------------------------------------------------------
def test_a_posting_names_its_caller(tenant: Tenant) -> None:
    ada, ben = making.open_account(tenant, balance=100), making.open_account(tenant)
    with calling(Caller("task:payments.run", "task-1", "192.0.2.9")):
        made = making.transfer(ada, ben, 1)

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT actor_id, request_id, host(address) FROM ledger_transaction WHERE id = %s",
            [made.id],
        )
        assert cursor.fetchone() == ("task:payments.run", "task-1", "192.0.2.9")


def test_a_request_is_named_in_all_that_it_changed(tenant: Tenant) -> None:
    api = making.api_client(tenant)
    me = api.get("/api/v1/me").json()["id"]
    headers = {"X-Request-Id": "req-7", "Idempotency-Key": "k"}

    body = {"type": "checking", "currency": "USD", "name": "Ada"}
    account = api.post("/api/v1/accounts", body, headers=headers).json()

    record = AuditRecord.objects.get(request_id="req-7")
    assert record.action == "account.opened"
    assert (record.actor_id, record.address) == (f"key:{me}", "127.0.0.1")
    assert record.object_id == UUID(account["id"])
    assert record.after is not None
    assert record.after["name"] == "Ada"
    assert record.before is None


def test_before_and_after_hold_what_changed(tenant: Tenant) -> None:
    api = making.api_client(tenant)
    account = making.open_account(tenant, name="Ada")

    api.patch(f"/api/v1/accounts/{account.pk}", {"name": "Ada L.", "metadata": {}})

    record = AuditRecord.objects.get(action="account.changed")
    assert (record.before, record.after) == ({"name": "Ada"}, {"name": "Ada L."})


def transaction_of(description: str) -> UUID:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM ledger_transaction WHERE description = %s", [description])
        [found] = cursor.fetchone() or [None]
    assert isinstance(found, UUID)
    return found


def _remake_the_chain() -> None:
    blocks = list(AuditBlock.objects.order_by("number"))
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("DELETE FROM core_auditblock")
        cursor.execute("DELETE FROM core_sealcursor")
        cursor.execute("SET session_replication_role = origin")
    assert blocks
    assert block_hash(blocks[0]) == bytes(blocks[0].hash)
    seal()
