"""verify_ledger finds what got past the database's rules: each corruption, and nothing else."""

import contextlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from accounts.models import Account
from core.money import Money
from identity.models import Tenant
from identity.services import create_tenant
from ledger.management import verification
from ledger.management.verification import _ACCOUNTS, _HOLDS
from ledger.services import capture_hold, place_hold, reverse_transaction
from tests import making
from tests.making import corrupt


def report(*options: str) -> dict[str, Any]:
    out = io.StringIO()
    with contextlib.suppress(CommandError):
        call_command("verify_ledger", "--json", *options, stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def faults() -> set[tuple[str, str]]:
    return {(each["kind"], each["fault"]) for each in report()["differences"]}


@pytest.fixture
def ledger(transactional_db: None, tenant: Tenant) -> dict[str, Account]:
    """A little of everything: transfers, a hold that is active, one captured, a reversal."""
    ada, ben = making.open_account(tenant, balance=1000), making.open_account(tenant)
    made = making.transfer(ada, ben, 300)
    making.transfer(ada, ben, 100)
    reverse_transaction(
        tenant_id=tenant.pk, transaction_id=made.id, reason="twice", idempotency_key="r"
    )
    for amount in (50, 70):
        hold = place_hold(
            tenant_id=tenant.pk,
            account_id=ada.pk,
            amount=Money(amount, "USD"),
            idempotency_key=f"h{amount}",
            expires_at=None,
            now=timezone.now(),
        ).hold
    capture_hold(
        tenant_id=tenant.pk,
        hold_id=hold.pk,
        destination_account_id=ben.pk,
        amount=60,
        idempotency_key="c",
        now=timezone.now(),
    )
    return {"ada": ada, "ben": ben}


def test_a_sound_ledger_has_no_differences(ledger: dict[str, Account]) -> None:
    found = report()

    assert found["ok"]
    assert found["checked"] == {"accounts": 3, "entries": 10, "transactions": 5, "holds": 2}


def test_an_empty_ledger_has_no_differences(transactional_db: None) -> None:
    assert report()["ok"]


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_ranges_leave_nothing_out(
    ledger: dict[str, Account], monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    whole = report()["checked"]
    monkeypatch.setattr(verification, "RANGE_ROWS", rows)
    monkeypatch.setattr(verification, "_ACCOUNTS_LOOKED_AHEAD", 2)

    in_ranges = report()

    assert in_ranges["ok"]
    assert in_ranges["checked"] == whole
    corrupt("UPDATE ledger_entry SET amount = amount + 1 WHERE sequence = 2")
    assert report()["difference_count"] > 0


def test_a_balance_that_is_not_the_sum(ledger: dict[str, Account]) -> None:
    corrupt("UPDATE accounts_account SET balance = balance + 1 WHERE id = %s", ledger["ada"].pk)

    assert faults() == {("account", "balance is 841, its entries sum to 840")}


def test_a_held_figure_that_is_not_the_sum(ledger: dict[str, Account]) -> None:
    corrupt("UPDATE accounts_account SET held = 0 WHERE id = %s", ledger["ada"].pk)

    assert faults() == {("account", "held is 0, its active holds sum to 50")}


def test_an_entry_count_that_is_wrong(ledger: dict[str, Account]) -> None:
    corrupt("UPDATE accounts_account SET entry_count = 9 WHERE id = %s", ledger["ben"].pk)

    assert faults() == {("account", "entry_count is 9, of 4")}


def found_without(check: str, table: str, change: str, statement: str) -> list[Any]:
    """
    Return what a statement finds where a CHECK is missing, as after a restore that left it out.

    A CHECK has no back door: it is dropped, and all is undone afterwards.
    """
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {check}")
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(f"UPDATE {table} SET {change}")
            cursor.execute(statement, {"lo": None, "hi": None, "tenant": None})
            found: list[Any] = cursor.fetchall()
        finally:
            cursor.execute("ROLLBACK")
    return found


def test_an_overdraft_beyond_its_limit(ledger: dict[str, Account]) -> None:
    found = found_without(
        "account_available_within_overdraft",
        "accounts_account",
        f"overdraft_limit = -900 WHERE id = '{ledger['ada'].pk}'",
        _ACCOUNTS,
    )

    assert found == [(str(ledger["ada"].pk), ["is -790 below zero, of -900"])]


def test_a_capture_beyond_its_hold(ledger: dict[str, Account]) -> None:
    found = found_without(
        "hold_capture_complete", "ledger_hold", "amount = 59 WHERE status = 'captured'", _HOLDS
    )

    assert [faults for _, faults in found] == [["captured more than it reserved"]]


def test_an_account_closed_with_money_in_it(ledger: dict[str, Account]) -> None:
    corrupt("UPDATE accounts_account SET status = 'closed' WHERE id = %s", ledger["ben"].pk)

    assert faults() == {("account", "is closed with money in it")}


def test_an_entry_that_was_changed(ledger: dict[str, Account]) -> None:
    corrupt(
        "UPDATE ledger_entry SET amount = amount - 1 WHERE account_id = %s AND sequence = 2",
        ledger["ada"].pk,
    )

    assert faults() == {
        ("entry", "balance_after is 700, not 1000 + -301"),
        ("account", "balance is 840, its entries sum to 839"),
        ("transaction", "its entries sum to -1"),
        # It was reversed by +300, which is not its opposite any more.
        ("transaction", "is not the opposite of what it reverses"),
    }


@pytest.mark.parametrize("amount", [2**63 - 1, -(2**63)])
def test_an_entry_whose_sum_fits_no_column(ledger: dict[str, Account], amount: int) -> None:
    corrupt(
        "UPDATE ledger_entry SET amount = %s WHERE account_id = %s AND sequence = 2",
        amount,
        ledger["ada"].pk,
    )

    assert {
        ("entry", f"balance_after is 700, not 1000 + {amount}"),
        ("account", f"balance is 840, its entries sum to {840 + 300 + amount}"),
        ("transaction", "is not the opposite of what it reverses"),
    } <= faults()


def test_an_entry_of_no_amount(ledger: dict[str, Account]) -> None:
    corrupt(
        "UPDATE ledger_entry SET amount = 0, balance_after = balance_after - amount"
        " WHERE account_id = %s AND sequence = 5",
        ledger["ada"].pk,
    )

    assert ("entry", "has no amount") in faults()


@pytest.mark.parametrize("change", ["leg - 1", "leg + 2", "leg * 2 - 1", "leg * 2"])
def test_legs_that_are_not_numbered_from_zero(ledger: dict[str, Account], change: str) -> None:
    corrupt(
        f"UPDATE ledger_entry SET leg = {change} WHERE transaction_id ="
        " (SELECT id FROM ledger_transaction WHERE type = 'deposit')"
    )

    assert faults() == {("transaction", "its entries are not numbered 0, 1, 2")}


def test_an_entry_that_is_gone(ledger: dict[str, Account]) -> None:
    corrupt("DELETE FROM ledger_entry WHERE account_id = %s AND sequence = 3", ledger["ada"].pk)

    assert {
        ("entry", "follows sequence 2"),
        ("account", "entry_count is 5, of 4"),
        ("transaction", "has 1 entries, of 2"),
        ("transaction", "its entries sum to 100"),
    } <= faults()


def test_a_time_that_goes_back(ledger: dict[str, Account]) -> None:
    corrupt(
        "UPDATE ledger_entry SET created_at = '2000-01-01Z' WHERE account_id = %s AND sequence = 2",
        ledger["ada"].pk,
    )

    assert faults() == {
        ("entry", "was booked before the entry it follows"),
        ("transaction", "was booked at another time than its entries"),
    }


def test_an_entry_of_no_account(ledger: dict[str, Account]) -> None:
    corrupt("DELETE FROM accounts_account WHERE id = %s", ledger["ben"].pk)

    assert faults() == {("entry", "belongs to no account")}


def test_entries_of_no_transaction(ledger: dict[str, Account]) -> None:
    corrupt("DELETE FROM ledger_transaction WHERE type = 'deposit'")

    assert faults() == {("transaction", "has entries and does not exist")}


def test_a_transaction_of_no_entries(ledger: dict[str, Account]) -> None:
    corrupt(
        "INSERT INTO ledger_transaction (id, tenant_id, type, currency, amount, legs, description,"
        " value_date, metadata, created_at) SELECT gen_random_uuid(), tenant_id, 'transfer',"
        " currency, 5, 2, '', value_date, '{}', created_at FROM ledger_transaction LIMIT 1"
    )

    assert faults() == {("transaction", "has no entries")}


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("amount", "7", "amount is 7, its credits sum to 1000"),
        ("legs", "3", "has 2 entries, of 3"),
        ("currency", "'EUR'", "has entries of another currency"),
        ("tenant_id", "gen_random_uuid()", "has entries of another tenant"),
        ("created_at", "'2000-01-01Z'", "was booked at another time than its entries"),
    ],
)
def test_a_transaction_that_was_changed(
    ledger: dict[str, Account], column: str, value: str, fault: str
) -> None:
    corrupt(f"UPDATE ledger_transaction SET {column} = {value} WHERE type = 'deposit'")

    assert faults() == {("transaction", fault)}


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("currency", "'EUR'", "is not in its account's currency"),
        ("tenant_id", "gen_random_uuid()", "is not of its account's tenant"),
    ],
)
def test_an_entry_of_a_stranger(
    ledger: dict[str, Account], column: str, value: str, fault: str
) -> None:
    corrupt(
        f"UPDATE ledger_entry SET {column} = {value} WHERE account_id = %s AND sequence = 1",
        ledger["ada"].pk,
    )

    assert ("entry", fault) in faults()


def test_a_reversal_of_something_else(ledger: dict[str, Account]) -> None:
    corrupt(
        "UPDATE ledger_transaction SET reverses_id = (SELECT id FROM ledger_transaction"
        " WHERE type = 'deposit') WHERE type = 'reversal'"
    )

    assert faults() == {("transaction", "is not the opposite of what it reverses")}


def test_a_reversal_of_nothing(ledger: dict[str, Account]) -> None:
    corrupt("UPDATE ledger_transaction SET reverses_id = NULL WHERE type = 'reversal'")

    assert faults() == {("transaction", "reverses nothing")}


def test_a_capture_without_its_debit(ledger: dict[str, Account]) -> None:
    corrupt("UPDATE ledger_hold SET captured_amount = 61 WHERE status = 'captured'")

    assert faults() == {("hold", "is captured, but its transaction does not debit the account")}


def test_a_hold_of_a_stranger(ledger: dict[str, Account]) -> None:
    corrupt("UPDATE ledger_hold SET currency = 'EUR' WHERE status = 'active'")

    assert faults() == {("hold", "does not fit its account")}


def test_the_first_differences_are_shown_and_the_rest_counted(ledger: dict[str, Account]) -> None:
    corrupt("UPDATE accounts_account SET entry_count = entry_count + 1")
    out = io.StringIO()

    with pytest.raises(CommandError, match="3 differences"):
        call_command("verify_ledger", "--limit", "1", stdout=out)

    shown = out.getvalue()
    assert "... and 2 more" in shown
    assert "rows/s): 3 differences (3 account)." in shown


def test_differences_are_counted_by_kind(ledger: dict[str, Account]) -> None:
    corrupt("UPDATE accounts_account SET entry_count = entry_count + 1")
    corrupt("UPDATE ledger_hold SET currency = 'EUR' WHERE status = 'active'")

    assert report()["difference_count_by_kind"] == {"account": 3, "hold": 1}


def test_differences_come_a_few_at_a_time(
    ledger: dict[str, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "FETCHED_ROWS", 2)
    corrupt("UPDATE ledger_entry SET created_at = '2000-01-01Z' WHERE sequence = 1")
    corrupt("UPDATE ledger_entry SET currency = 'EUR'")

    assert report()["difference_count_by_kind"]["entry"] == 10


def test_entries_are_counted_not_believed(ledger: dict[str, Account]) -> None:
    corrupt("UPDATE accounts_account SET entry_count = 1000")

    assert report()["checked"]["entries"] == 10


def test_one_tenant_alone(ledger: dict[str, Account], other_tenant: Tenant) -> None:
    elsewhere = making.open_account(other_tenant, balance=500)
    corrupt("UPDATE accounts_account SET balance = 501 WHERE id = %s", elsewhere.pk)

    for own in ("Kopi Bank", str(ledger["ada"].tenant_id)):
        found = report("--tenant", own)
        assert found["ok"]
        assert found["checked"] == {"accounts": 3, "entries": 10, "transactions": 5, "holds": 2}
    corrupt("UPDATE ledger_hold SET currency = 'EUR' WHERE status = 'active'")
    found = report("--tenant", "Teh Bank")
    assert [each["row"] for each in found["differences"]] == [str(elsewhere.pk)]
    assert found["checked"] == {"accounts": 2, "entries": 2, "transactions": 1, "holds": 0}


@pytest.mark.parametrize("stranger", ["Susu Bank", "01900000-0000-7000-8000-000000000000"])
def test_a_tenant_that_is_not_there(ledger: dict[str, Account], stranger: str) -> None:
    with pytest.raises(CommandError, match=f"There is no tenant {stranger}"):
        call_command("verify_ledger", "--tenant", stranger)


def test_a_name_that_two_tenants_have(ledger: dict[str, Account]) -> None:
    create_tenant(name="Kopi Bank", now=timezone.now())

    with pytest.raises(CommandError, match="More than one tenant is named Kopi Bank"):
        call_command("verify_ledger", "--tenant", "Kopi Bank")


def test_postings_may_go_on_meanwhile(
    ledger: dict[str, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "RANGE_ROWS", 1)
    posted: list[None] = []

    def post_one_more(part: str, rows: int) -> None:
        # In another connection: what is verified is one snapshot.
        with ThreadPoolExecutor(1) as other:
            posted.append(other.submit(transfer_and_hang_up).result())

    def transfer_and_hang_up() -> None:
        making.transfer(ledger["ada"], ledger["ben"], 1)
        connection.close()

    found = verification.verify(limit=20, progress=post_one_more)

    assert found.first == []
    assert len(posted) > 5
    assert found.checked == {"accounts": 3, "entries": 10, "transactions": 5, "holds": 2}
    assert report()["checked"]["transactions"] == 5 + len(posted)
