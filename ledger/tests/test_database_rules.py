"""The ledger's rules hold against raw SQL: docs/invariants.md, line by line."""

from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts.models import Account
from core.database import constraint_of
from core.money import Money
from identity.models import Tenant
from ledger.models import Entry, Hold, Transaction
from ledger.services import place_hold, release_hold, reverse_transaction
from tests import making


def rule_against(statement: str, *parameters: Any) -> str | None:
    """Return the name of the rule that refused the statement."""
    with (
        pytest.raises(DatabaseError) as refused,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement, parameters)
    return constraint_of(refused.value)


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant, balance=1000)


@pytest.fixture
def ben(tenant: Tenant) -> Account:
    return making.open_account(tenant, balance=50)


@pytest.fixture
def hold(ada: Account) -> Hold:
    return place_hold(
        tenant_id=ada.tenant_id,
        account_id=ada.pk,
        amount=Money(100, "USD"),
        idempotency_key="hold",
        expires_at=None,
        now=timezone.now(),
    ).hold


# One statement, as a posting is: a transaction, its entries, the accounts' new figures. Each attack
# changes one thing about it.
POST = """
WITH t AS (
    INSERT INTO ledger_transaction (id, tenant_id, type, currency, amount, legs, description,
                                    value_date, metadata, created_at)
    VALUES (%(id)s, %(tenant)s, 'transfer', %(currency)s, %(amount)s, %(legs)s, '', '2026-01-31',
            '{{}}', now())
), e AS (
    INSERT INTO ledger_entry (tenant_id, account_id, sequence, transaction_id, leg, currency,
                              amount, balance_after, created_at)
    VALUES {entries}
)
UPDATE accounts_account SET {figures} WHERE id IN (%(ada)s, %(ben)s)
"""
ADA_PAYS = "(%(tenant)s, %(ada)s, 2, %(id)s, 0, 'USD', -10, 990, now())"
BEN_GETS = "(%(tenant)s, %(ben)s, 2, %(id)s, 1, 'USD', 10, 60, now())"
FIGURES = (
    "balance = balance + CASE id WHEN %(ada)s THEN -10 ELSE 10 END, entry_count = entry_count + 1"
)


def post_by_hand(
    ada: Account,
    ben: Account,
    *,
    entries: str = f"{ADA_PAYS}, {BEN_GETS}",
    figures: str = FIGURES,
    **changes: Any,
) -> None:
    parameters = {
        "id": "0199c0de-7e57-7000-8000-00000000beef",
        "tenant": ada.tenant_id,
        "ada": ada.pk,
        "ben": ben.pk,
        "currency": "USD",
        "amount": 10,
        "legs": 2,
        **changes,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(POST.format(entries=entries, figures=figures), parameters)


def rule_against_posting(ada: Account, ben: Account, **changes: Any) -> str | None:
    with pytest.raises(DatabaseError) as refused:
        post_by_hand(ada, ben, **changes)
    return constraint_of(refused.value)


def test_a_posting_by_hand_that_keeps_every_rule_is_taken(ada: Account, ben: Account) -> None:
    post_by_hand(ada, ben)

    assert (making.balance_of(ada), making.balance_of(ben)) == (990, 60)


@pytest.mark.parametrize("table", ["ledger_entry", "ledger_transaction"])
@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("UPDATE {} SET amount = amount + 1", "{}_never_changed"),
        ("UPDATE {} SET created_at = now() WHERE false", "{}_never_changed"),
        ("DELETE FROM {}", "{}_never_changed"),
    ],
)
def test_what_was_posted_stays(ada: Account, table: str, statement: str, rule: str) -> None:
    name = table.removeprefix("ledger_")

    assert rule_against(statement.format(table)) == rule.format(name)


def test_a_transaction_sums_to_zero(ada: Account, ben: Account) -> None:
    more = "(%(tenant)s, %(ben)s, 2, %(id)s, 1, 'USD', 11, 61, now())"
    figures = (
        "balance = balance + CASE id WHEN %(ada)s THEN -10 ELSE 11 END,"
        " entry_count = entry_count + 1"
    )

    refused = rule_against_posting(ada, ben, entries=f"{ADA_PAYS}, {more}", figures=figures)

    assert refused == "transaction_sums_to_zero"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"legs": 3}, id="a leg is missing"),
        pytest.param({"legs": 1}, id="one leg"),
        pytest.param({"amount": 11}, id="another amount"),
        pytest.param({"currency": "EUR"}, id="another currency"),
    ],
)
def test_a_transaction_is_what_its_entries_are(
    ada: Account, ben: Account, changes: dict[str, Any]
) -> None:
    assert rule_against_posting(ada, ben, **changes) in (
        "transaction_sums_to_zero",
        "entry_fits_account_and_transaction",
    )


def test_a_transaction_has_entries(ada: Account) -> None:
    refused = rule_against(
        "INSERT INTO ledger_transaction (id, tenant_id, type, currency, amount, legs, description,"
        " value_date, metadata, created_at) VALUES (gen_random_uuid(), %s, 'transfer', 'USD', 1, 2,"
        " '', now(), '{}', now())",
        ada.tenant_id,
    )

    assert refused == "transaction_sums_to_zero"


@pytest.mark.parametrize(
    ("entry", "rules"),
    [
        pytest.param(
            "(%(tenant)s, %(ben)s, 3, %(id)s, 1, 'USD', 10, 60, now())",
            {"account_figures_in_step", "entry_fits_account_and_transaction"},
            id="a gap in the sequence",
        ),
        pytest.param(
            "(%(tenant)s, %(ben)s, 1, %(id)s, 1, 'USD', 10, 60, now())",
            {"ledger_entry_pkey"},
            id="a sequence that is taken",
        ),
        pytest.param(
            "(%(tenant)s, %(ben)s, 2, %(id)s, 1, 'USD', 10, 61, now())",
            {"account_figures_in_step"},
            id="another balance after",
        ),
        pytest.param(
            "(%(tenant)s, %(ben)s, 2, %(id)s, 1, 'EUR', 10, 60, now())",
            {"entry_fits_account_and_transaction", "transaction_sums_to_zero"},
            id="another currency",
        ),
        pytest.param(
            "(gen_random_uuid(), %(ben)s, 2, %(id)s, 1, 'USD', 10, 60, now())",
            {"entry_fits_account_and_transaction"},
            id="another tenant",
        ),
        pytest.param(
            "(%(tenant)s, gen_random_uuid(), 2, %(id)s, 1, 'USD', 10, 60, now())",
            {"entry_fits_account_and_transaction", "account_figures_in_step"},
            id="no such account",
        ),
        pytest.param(
            "(%(tenant)s, %(ben)s, 2, gen_random_uuid(), 1, 'USD', 10, 60, now())",
            {"entry_fits_account_and_transaction", "transaction_sums_to_zero"},
            id="no such transaction",
        ),
        pytest.param(
            "(%(tenant)s, %(ben)s, 2, %(id)s, 2, 'USD', 10, 60, now())",
            {"entry_fits_account_and_transaction"},
            id="a leg too far",
        ),
    ],
)
def test_an_entry_fits(ada: Account, ben: Account, entry: str, rules: set[str]) -> None:
    assert rule_against_posting(ada, ben, entries=f"{ADA_PAYS}, {entry}") in rules


def test_an_entry_alone_is_refused(ada: Account, ben: Account) -> None:
    made = making.transfer(ada, ben, 1)
    insert = (
        "INSERT INTO ledger_entry (tenant_id, account_id, sequence, transaction_id, leg, currency,"
        " amount, balance_after, created_at) VALUES (%s, %s, 3, %s, {leg}, 'USD', 5, 1004, now())"
    )
    for leg in (0, 1, 2):
        refused = rule_against(insert.format(leg=leg), ada.tenant_id, ada.pk, made.id)
        assert refused in ("entry_leg_unique", "entry_fits_account_and_transaction")


def test_entries_of_one_statement_follow_each_other(ada: Account, ben: Account) -> None:
    # Two more entries on one account, of which the first has the wrong balance.
    back = "(%(tenant)s, %(ada)s, 3, %(id)s, 1, 'USD', 10, 1000, now())"
    wrong = ADA_PAYS.replace("990", "991")

    refused = rule_against_posting(
        ada,
        ben,
        entries=f"{wrong}, {back}",
        figures="entry_count = entry_count + CASE id WHEN %(ada)s THEN 2 ELSE 0 END",
    )

    assert refused == "account_figures_in_step"


@pytest.mark.parametrize(
    ("figures", "rules"),
    [
        ("balance = balance + 1", {"account_figures_in_step"}),
        ("entry_count = entry_count + 1", {"account_figures_in_step"}),
        (
            "entry_count = entry_count - 1, balance = 0",
            {"account_entry_count_only_grows", "account_figures_in_step"},
        ),
        ("balance = balance + 1, entry_count = entry_count + 1", {"account_figures_in_step"}),
    ],
)
def test_figures_are_those_of_the_entries(ada: Account, figures: str, rules: set[str]) -> None:
    refused = rule_against(f"UPDATE accounts_account SET {figures} WHERE id = %s", ada.pk)

    assert refused in rules


def test_an_account_is_not_overdrawn(ada: Account, ben: Account) -> None:
    pays = "(%(tenant)s, %(ada)s, 2, %(id)s, 0, 'USD', -1001, -1, now())"
    gets = "(%(tenant)s, %(ben)s, 2, %(id)s, 1, 'USD', 1001, 1051, now())"

    refused = rule_against_posting(
        ada,
        ben,
        amount=1001,
        entries=f"{pays}, {gets}",
        figures=FIGURES.replace("-10", "-1001").replace("ELSE 10 ", "ELSE 1001 "),
    )

    assert refused == "account_available_within_overdraft"


def test_what_is_held_is_not_spent(ada: Account, ben: Account, hold: Hold) -> None:
    pays = "(%(tenant)s, %(ada)s, 2, %(id)s, 0, 'USD', -901, 99, now())"
    gets = "(%(tenant)s, %(ben)s, 2, %(id)s, 1, 'USD', 901, 951, now())"

    refused = rule_against_posting(
        ada,
        ben,
        amount=901,
        entries=f"{pays}, {gets}",
        figures=FIGURES.replace("-10", "-901").replace("ELSE 10 ", "ELSE 901 "),
    )

    assert refused == "account_available_within_overdraft"


@pytest.mark.parametrize("status", ["frozen", "closed"])
def test_an_account_that_is_not_active_takes_no_entries(
    ada: Account, tenant: Tenant, status: str
) -> None:
    ben = making.open_account(tenant)
    Account.objects.filter(pk=ben.pk).update(status=status)

    refused = rule_against_posting(
        ada,
        ben,
        entries=f"{ADA_PAYS}, {BEN_GETS.replace('2, %(id)s', '1, %(id)s').replace('60', '10')}",
    )

    assert refused in ("entry_fits_account_and_transaction", "account_closed_is_empty")


def test_an_account_that_is_locked_takes_no_debits(ada: Account, ben: Account) -> None:
    Account.objects.filter(pk=ada.pk).update(debit_locked_until="2999-01-01T00:00:00Z")

    assert rule_against_posting(ada, ben) == "account_locked_for_debits"
    # Its entries would not be taken either.
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE accounts_account DISABLE TRIGGER account_locked_for_debits")
    assert rule_against_posting(ada, ben) == "entry_fits_account_and_transaction"


def test_a_transaction_is_reversed_once(ada: Account, ben: Account) -> None:
    made = making.transfer(ada, ben, 10)
    reverse_transaction(
        tenant_id=ada.tenant_id, transaction_id=made.id, reason="x", idempotency_key="r"
    )
    insert = (
        "INSERT INTO ledger_transaction (id, tenant_id, type, currency, amount, legs, description,"
        " value_date, metadata, created_at, reverses_id)"
        " VALUES (gen_random_uuid(), %s, 'reversal', 'USD', 10, 2, '', now(), '{}', now(), %s)"
    )

    assert rule_against(insert, ada.tenant_id, made.id) == "transaction_reversed_once"


def test_a_key_is_used_once_in_a_tenant(ada: Account, ben: Account) -> None:
    making.transfer(ada, ben, 10, idempotency_key="k")
    insert = (
        "INSERT INTO ledger_transaction (id, tenant_id, type, currency, amount, legs, description,"
        " idempotency_key, request_fingerprint, value_date, metadata, created_at) VALUES"
        " (gen_random_uuid(), %s, 'transfer', 'USD', 10, 2, '', 'k', '', now(), '{}', now())"
    )

    assert rule_against(insert, ada.tenant_id) == "transaction_idempotency_key_unique"


@pytest.mark.parametrize(
    "change", ["currency = 'EUR'", "type = 'saving'", "tenant_id = gen_random_uuid()"]
)
def test_an_accounts_identity_is_fixed(ada: Account, change: str) -> None:
    refused = rule_against(f"UPDATE accounts_account SET {change} WHERE id = %s", ada.pk)

    assert refused == "account_identity_fixed"


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("DELETE FROM accounts_account", "account_never_deleted"),
        ("UPDATE accounts_account SET status = 'closed'", "account_closed_is_empty"),
        ("UPDATE accounts_account SET status = 'gone'", "account_status_known"),
        (
            "UPDATE accounts_account SET overdraft_limit = -1 WHERE balance > 0",
            "account_overdraft_limit_sane",
        ),
        (
            "UPDATE accounts_account SET overdraft_limit = NULL WHERE type <> 'internal'",
            "account_overdraft_limit_sane",
        ),
        ("UPDATE accounts_account SET held = -1", "account_held_not_negative"),
    ],
)
def test_an_account_keeps_its_rules(ada: Account, statement: str, rule: str) -> None:
    assert rule_against(statement) == rule


def test_a_closed_account_stays_closed(tenant: Tenant) -> None:
    account = making.open_account(tenant)
    Account.objects.filter(pk=account.pk).update(status="closed")

    refused = rule_against(
        "UPDATE accounts_account SET status = 'active' WHERE id = %s", account.pk
    )

    assert refused == "account_closed_for_good"


def test_an_account_opens_empty(tenant: Tenant) -> None:
    refused = rule_against(
        "INSERT INTO accounts_account (id, tenant_id, type, currency, status, name, balance,"
        " metadata, created_at, updated_at) VALUES (gen_random_uuid(), %s, 'checking', 'USD',"
        " 'active', '', 5, '{}', now(), now())",
        tenant.pk,
    )

    assert refused == "account_opens_empty"


def test_a_role_is_for_internal_accounts(tenant: Tenant) -> None:
    insert = (
        "INSERT INTO accounts_account (id, tenant_id, type, role, currency, status, name,"
        " overdraft_limit, metadata, created_at, updated_at) VALUES (gen_random_uuid(), %s, '{}',"
        " {}, 'USD', 'active', '', 0, '{{}}', now(), now())"
    )

    for type_, role in (("checking", "'cash'"), ("internal", "NULL")):
        assert rule_against(insert.format(type_, role), tenant.pk) == "account_role_iff_internal"


@pytest.mark.parametrize(
    ("statement", "rules"),
    [
        ("UPDATE ledger_hold SET amount = amount + 1", {"hold_never_rewritten"}),
        ("DELETE FROM ledger_hold", {"hold_never_deleted"}),
        ("UPDATE ledger_hold SET status = 'released'", {"hold_closed_at_iff_not_active"}),
        ("UPDATE ledger_hold SET amount = -1", {"hold_never_rewritten"}),
        (
            "UPDATE ledger_hold SET status = 'captured', closed_at = now(), captured_amount = 101",
            {"hold_capture_complete"},
        ),
    ],
)
def test_a_hold_keeps_its_terms(hold: Hold, statement: str, rules: set[str]) -> None:
    assert rule_against(statement) in rules


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ("accounts_account", "account_never_truncated"),
        ("ledger_entry", "entry_never_truncated"),
        ("ledger_transaction", "transaction_never_truncated"),
        ("ledger_hold", "hold_never_truncated"),
    ],
)
def test_no_table_is_emptied(table: str, rule: str) -> None:
    refused = rule_against(f"TRUNCATE {table} CASCADE")

    # With CASCADE the tables that refer to it are emptied, and refuse, too.
    assert refused in (rule, "hold_never_truncated")


def test_a_hold_closes_once(hold: Hold) -> None:
    release_hold(tenant_id=hold.tenant_id, hold_id=hold.pk, now=timezone.now())

    refused = rule_against("UPDATE ledger_hold SET status = 'active', closed_at = NULL")

    assert refused == "hold_closes_once"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts_account SET held = held + 1 WHERE balance > 0",
        "UPDATE accounts_account SET held = 0 WHERE held > 0",
        "UPDATE ledger_hold SET status = 'released', closed_at = now()",
    ],
)
def test_held_is_the_sum_of_the_holds_at_commit(hold: Hold, statement: str) -> None:
    # SET CONSTRAINTS brings forward what the end of the transaction would say.
    refused = rule_against(f"{statement}; SET CONSTRAINTS ALL IMMEDIATE")

    assert refused == "account_held_in_step"


def test_nothing_of_this_left_a_trace(ada: Account, ben: Account) -> None:
    before = (Transaction.objects.count(), Entry.objects.count())

    rule_against_posting(ada, ben, legs=3)

    assert (Transaction.objects.count(), Entry.objects.count()) == before
