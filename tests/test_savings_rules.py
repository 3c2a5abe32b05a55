"""
The rules of savings plans hold against raw SQL: each rule in the catalog is attacked, and refuses
in its own name. Above all, that of a locked plan nothing is had before its date.
"""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import Model
from django.utils import timezone

from accounts.models import Account
from core.caller import Caller, calling
from core.database import constraint_of
from identity.models import Tenant
from savings.models import EarlyRelease, InterestPosting, SavingsPlan
from savings.services import close_plan, request_release, withdraw
from tests import making
from tests.saving import again, auto_plan, back_dated, comes_due, keep, locked_plan
from tests.test_payment_rules import (
    NEW,
    Changes,
    Copies,
    Scene,
    models_of,
    named_rules,
    refused,
    rule_against_emptying,
)

FRESH: Mapping[type[Model], Mapping[str, str]] = {
    SavingsPlan: {"id": NEW, "plan_account_id": "'{empty}'", "recurring_payment_id": "NULL"},
    InterestPosting: {"id": NEW},
    EarlyRelease: {"id": NEW, "plan_id": "'{kept_locked}'"},
}
# What commit would do.
_NOW = "; SET CONSTRAINTS ALL IMMEDIATE"


class SavingsScene(Scene):
    """A tenant with savings plans of each kind and state, and their interest, to be attacked."""

    fresh = FRESH

    def __init__(self, tenant: Tenant, other_tenant: Tenant) -> None:
        now = timezone.now()
        before, today = now - dt.timedelta(days=70), tenant.day_of(now)
        later = today + dt.timedelta(days=30)
        source = making.open_account(tenant, balance=1_000_000)
        auto = auto_plan(source, now=now)
        closed = auto_plan(source, now=now)
        close_plan(tenant_id=tenant.pk, plan_id=closed.pk, now=now)
        # Interest was posted twice, and some days are not yet.
        locked = locked_plan(source, later, now=before, amount=100_000, annual_rate_bps=1_000)
        back_dated(locked.plan_account, before)
        keep(now - dt.timedelta(days=35))
        kept = locked_plan(source, later, now=now, at_the_end="keep")
        keep(now)
        comes_due(kept, now)
        keep(now)
        assert again(kept).status == "unlocked"
        kept_locked, released = (locked_plan(source, later, now=now) for _ in range(2))
        with calling(Caller("user:one")):
            release = request_release(
                tenant_id=tenant.pk, plan_id=released.pk, reason="Hospital", now=now
            )
        first, second = InterestPosting.objects.filter(plan=locked).order_by("period_to")[:2]
        self.rows = {
            name: (type(row), str(row.pk))
            for name, row in {
                "tenant": tenant,
                "auto": auto,
                "closed": closed,
                "locked": locked,
                "kept": kept,
                "released": released,
                "release": release,
                "first": first,
                "second": second,
                "account": locked.plan_account,
                "auto_account": auto.plan_account,
            }.items()
        }
        self.names = {
            "tenant": tenant.pk,
            "other_tenant": other_tenant.pk,
            "source": source.pk,
            "locked": locked.pk,
            "auto": auto.pk,
            "kept": kept.pk,
            "released": released.pk,
            "kept_locked": kept_locked.pk,
            "account": locked.plan_account_id,
            "kept_account": kept.plan_account_id,
            "empty": making.open_account(tenant, type="saving").pk,
            "overdrawn": making.open_account(tenant, type="saving", overdraft_limit=5).pk,
            "checking": making.open_account(tenant).pk,
            "euros": making.open_account(tenant, type="saving", currency="EUR").pk,
            "of_another": making.open_account(tenant, type="saving", owner_id=tenant.pk).pk,
            "foreign": making.open_account(other_tenant, type="saving").pk,
            "till": Account.objects.filter(tenant=tenant, type="internal", currency="USD")[0].pk,
            "payment": auto.recurring_payment_id,
            "first_posting": first.transaction_id,
        }


@pytest.fixture
def scene(tenant: Tenant, other_tenant: Tenant) -> SavingsScene:
    return SavingsScene(tenant, other_tenant)


# --- Attacks: rule, row, what is changed ----------------------------------------------------------

_IN_A_MONTH = "(current_date + 30)"
COPIES: Copies = [
    ("savings_plan_begins_active", "locked", {"status": "'unlocked'"}),
    ("savings_plan_begins_active", "closed", {}),
    *(
        ("savings_plan_accounts_fit", "locked", {name: f"'{{{account}}}'"})
        for name, accounts in (
            ("plan_account_id", ("overdrawn", "checking", "euros", "of_another", "foreign")),
            ("source_account_id", ("till", "euros", "of_another", "foreign")),
        )
        for account in accounts
    ),
    ("savings_plan_accounts_fit", "locked", {"plan_account_id": NEW}),
    ("savings_plan_accounts_fit", "locked", {"tenant_id": "'{other_tenant}'"}),
    ("savings_plan_accounts_fit", "locked", {"currency": "'EUR'"}),
    ("savings_plan_accounts_fit", "locked", {"owner_id": NEW}),
    ("savings_plan_not_from_a_plan", "locked", {"source_account_id": "'{kept_account}'"}),
    ("savings_plan_not_its_own_source", "locked", {"source_account_id": "'{empty}'"}),
    ("savings_plan_has_its_payment", "auto", {"recurring_payment_id": "'{payment}'"}),
    ("savings_plan_has_its_payment", "auto", {"recurring_payment_id": NEW}),
    ("savings_unlock_lies_ahead", "locked", {"unlock_at": "now()", "unlock_date": "current_date"}),
    # The date says one thing, the moment another.
    *(
        ("savings_unlock_as_the_day_begins", "locked", {"unlock_at": at})
        for at in ("now() + interval '1 minute'", "unlock_at + interval '2 hours'", "'infinity'")
    ),
    *(
        ("savings_plan_of_its_kind", row, changes)
        for row, changes in (
            ("auto", {}),
            ("auto", {"kind": "'nonsense'"}),
            ("locked", {"unlock_date": "NULL"}),
            ("locked", {"target_amount": "amount"}),
        )
    ),
    ("savings_plan_amounts_positive", "locked", {"amount": "0"}),
    ("savings_plan_amounts_positive", "locked", {"amount": "-1"}),
    ("savings_plan_rates_in_range", "locked", {"annual_rate_bps": "10001"}),
    ("savings_plan_rates_in_range", "locked", {"withholding_tax_bps": "10000"}),
    ("savings_plan_rates_in_range", "locked", {"day_count": "'nonsense'"}),
    ("savings_plan_rates_in_range", "locked", {"interest_from": "NULL"}),
    ("savings_plan_locked_has_its_day", "locked", {"next_step_at": "NULL"}),
    ("savings_plan_closed_has_end", "locked", {"ended_at": "now()"}),
    *(
        (f"savings_savingsplan_{name}_check", "locked", {name: "-1"})
        for name in ("annual_rate_bps", "withholding_tax_bps", "step_tries", "version")
    ),
    ("savings_savingsplan_plan_account_id_key", "locked", {"plan_account_id": "plan_account_id"}),
    ("interest_posted_once", "second", {}),
    *(
        ("interest_posting_adds_up", "second", {"period_to": "period_to + 1", **changes})
        for changes in (
            {"accrued": "accrued + 1"},
            {"carried_out": "carried_out + 1"},
            {"tax": "-1"},
            {"tax": "amount"},
            {"transaction_id": "NULL"},
            {"period_from": "period_to + 2"},
        )
    ),
    ("savings_interestposting_tax_bps_check", "second", {"tax_bps": "-1"}),
    # Of days that were posted, or were not accrued.
    ("interest_posting_fits", "second", {"period_to": "period_to + 1"}),
    ("early_release_is_requested_first", "release", {"status": "'approved'"}),
    ("early_release_of_a_locked_plan", "release", {"plan_id": "'{kept}'"}),
    ("early_release_of_a_locked_plan", "release", {"plan_id": "'{auto}'"}),
    ("early_release_of_a_locked_plan", "release", {"tenant_id": "'{other_tenant}'"}),
    ("early_release_one_open", "release", {"plan_id": "plan_id"}),
    ("early_release_has_its_reason", "release", {"reason": "''"}),
    ("early_release_has_its_reason", "release", {"requested_by": "'key:abc'"}),
    ("early_release_by_two_people", "release", {"decided_by": "'user:two'"}),
]
_APPROVED = "status = 'approved', decided_at = now()"
CHANGES: Changes = [
    *(
        ("savings_plan_never_rewritten", "locked", [change])
        for change in (
            f"id = {NEW}",
            "tenant_id = '{other_tenant}'",
            "kind = 'auto_withdraw'",
            "source_account_id = '{checking}'",
            "plan_account_id = '{empty}'",
            "recurring_payment_id = '{payment}'",
            "currency = 'EUR'",
            f"owner_id = {NEW}",
            "day_count = '30_360'",
            "created_at = now()",
        )
    ),
    # However it is told: nothing makes a lock end before its date.
    *(
        ("savings_plan_locked", "locked", [change])
        for change in (
            "status = 'unlocked'",
            "status = 'closed', ended_at = now(), next_step_at = NULL",
            "status = 'completed'",
            "status = 'unlocked', unlock_at = now(), unlock_date = current_date",
            "status = 'unlocked', unlock_at = '-infinity'",
            "status = 'unlocked', is_on_test_clock = true, next_step_at = now()",
        )
    ),
    *(
        ("savings_unlock_only_later", "locked", [change])
        for change in (
            "unlock_at = now()",
            "unlock_at = unlock_at - interval '1 second'",
            "unlock_date = unlock_date - 1",
            "unlock_at = unlock_at + interval '1 day', unlock_date = unlock_date - 1",
        )
    ),
    ("savings_unlock_as_the_day_begins", "locked", ["unlock_date = unlock_date + 1"]),
    ("savings_unlock_as_the_day_begins", "locked", ["unlock_at = unlock_at + interval '1 day'"]),
    ("savings_plan_locked_has_its_day", "locked", ["next_step_at = NULL"]),
    ("savings_unlock_lies_ahead", "kept", ["status = 'active', next_step_at = now()"]),
    ("savings_plan_of_its_kind", "auto", ["status = 'unlocked'"]),
    ("savings_plan_closed_has_end", "auto", ["status = 'closed'"]),
    ("savings_plan_amounts_positive", "auto", ["target_amount = amount - 1"]),
    ("savings_interest_begins_once", "locked", ["interest_from = interest_from - 1"]),
    ("savings_interest_begins_once", "locked", ["interest_from = NULL"]),
    ("early_release_by_two_people", "release", [f"{_APPROVED}, decided_by = requested_by"]),
    ("early_release_by_two_people", "release", [f"{_APPROVED}, decided_by = 'key:abc'"]),
    ("early_release_by_two_people", "release", [f"{_APPROVED}, decided_by = ''"]),
    ("early_release_by_two_people", "release", ["status = 'nonsense'"]),
    *(
        ("early_release_decided_once", "release", [change])
        for change in (
            f"id = {NEW}",
            "tenant_id = '{other_tenant}'",
            "plan_id = '{locked}'",
            "reason = 'x'",
            "requested_by = 'user:three'",
            "requested_at = now()",
        )
    ),
    (
        "early_release_decided_once",
        "release",
        [
            "status = 'rejected', decided_at = now(), decided_by = 'user:two'",
            f"{_APPROVED}, decided_by = 'user:two'",
        ],
    ),
    # A credit to the account alone is nothing: the ledger's own rules.
    ("savings_lock_holds", "account", ["debit_locked_until = NULL"]),
    ("savings_lock_holds", "account", ["debit_locked_until = now()"]),
    (
        "savings_lock_holds",
        "account",
        ["debit_locked_until = debit_locked_until - interval '1 microsecond'"],
    ),
    ("account_locked_for_debits", "account", ["balance = balance - 1"]),
    ("account_locked_for_debits", "account", ["updated_at = '2999-01-01'", "balance = 0"]),
    ("savings_account_in_use", "auto_account", ["status = 'closed'"]),
    ("savings_account_in_use", "auto_account", ["overdraft_limit = 1"]),
    ("savings_account_in_use", "account", ["overdraft_limit = NULL"]),
    ("test_clock_without_locked_plans", "tenant", ["test_clock = now()"]),
    ("test_clock_without_locked_plans", "tenant", ["test_clock = '2999-01-01'"]),
]

_COLUMNS = "plan_id, tenant_id, date, ends_at, balance, annual_rate_bps, day_count, amount"


def _accrual(days: int = 0, **changes: str) -> str:
    """Return the statement that writes the plan's last accrual again, so many days later."""
    moved = {"date": f"date + {days}", "ends_at": f"ends_at + interval '{days} days'"}
    changes = {**moved, **changes}
    chosen = ", ".join(changes.get(name, name) for name in _COLUMNS.split(", "))
    return (
        f"INSERT INTO savings_interestaccrual ({_COLUMNS}) SELECT {chosen}"
        " FROM savings_interestaccrual WHERE plan_id = '{locked}'"
        " ORDER BY savings_interestaccrual.date DESC LIMIT 1"
    )


_RELEASED = (
    "UPDATE savings_earlyrelease SET status = 'approved', decided_at = now(),"
    " decided_by = 'user:two'"
)
_UNLOCKED = "UPDATE savings_savingsplan SET status = 'unlocked' WHERE id = '{released}'"
_RENEWED = (
    f"UPDATE savings_savingsplan SET status = 'active', unlock_date = {_IN_A_MONTH},"
    f" unlock_at = {_IN_A_MONTH}::timestamp AT TIME ZONE 'UTC', next_step_at = now()"
    " WHERE id = '{kept}'"
)
OTHERS = [
    ("savings_plan_never_deleted", "DELETE FROM savings_savingsplan WHERE false"),
    ("interest_book_never_deleted", "DELETE FROM savings_interestbook WHERE false"),
    ("early_release_never_deleted", "DELETE FROM savings_earlyrelease WHERE false"),
    ("interest_accrual_never_changed", "DELETE FROM savings_interestaccrual WHERE false"),
    ("interest_accrual_never_changed", "UPDATE savings_interestaccrual SET amount = 1"),
    ("interest_posting_never_changed", "DELETE FROM savings_interestposting WHERE false"),
    ("interest_posting_never_changed", "UPDATE savings_interestposting SET amount = 1"),
    # Locked again, and its account is not.
    ("savings_account_is_locked", _RENEWED + _NOW),
    # A hardship that two have agreed on is for now, not for whenever it suits.
    ("early_release_closes_the_plan", _RELEASED + _NOW),
    ("early_release_closes_the_plan", f"{_RELEASED}; {_UNLOCKED}{_NOW}"),
    ("savings_plan_locked", _RELEASED + "; " + _UNLOCKED.replace("{released}", "{locked}")),
    # Of another amount, day or plan, or of a day that is not over.
    ("interest_accrual_by_the_formula", _accrual(1, amount="amount + 1")),
    ("interest_accrual_by_the_formula", _accrual(1, annual_rate_bps="annual_rate_bps + 1")),
    (
        "savings_interestaccrual_annual_rate_bps_check",
        _accrual(1, annual_rate_bps="-1", amount="savings_interest(balance, -1, day_count, date)"),
    ),
    ("interest_accrual_of_its_day", _accrual(1, ends_at="ends_at")),
    ("interest_accrual_fits", _accrual(1)),
    ("interest_accrual_fits", _accrual(2)),
    ("interest_accrual_fits", _accrual(-1000)),
    ("interest_accrual_fits", _accrual(plan_id=NEW)),
    ("interest_accrual_fits", _accrual(plan_id="'{auto}'::uuid")),
    ("interest_accrual_fits", _accrual(-1000, tenant_id="'{other_tenant}'::uuid")),
    ("savings_interestaccrual_pkey", _accrual()),
    *(
        ("interest_book_goes_forward", f"UPDATE savings_interestbook SET {change}")
        for change in (
            "accrued_to = accrued_to - 1",
            "posted_to = posted_to - 1",
            "posted_to = accrued_to + 1",
            "tenant_id = '{other_tenant}'",
        )
    ),
    (
        "savings_savingsplan_months_check",
        "UPDATE savings_savingsplan SET months = -1 WHERE id = '{auto}'",
    ),
    ("savings_interestbook_plan_count_check", "UPDATE savings_interestbook SET plan_count = -1"),
]
TRUNCATED = {
    "savings_plan_never_truncated": "savingsplan",
    "interest_book_never_truncated": "interestbook",
    "interest_accrual_never_truncated": "interestaccrual",
    "interest_posting_never_truncated": "interestposting",
    "early_release_never_truncated": "earlyrelease",
}
# test_a_state_is_only_left_for_the_next.
MOVES = {"savings_plan_closes_once"}
# Attacked by a copy, which has another rule against it first: its accounts.
BY_OTHERS = {"savings_savingsplan_recurring_payment_id_key"}


@pytest.mark.parametrize("row", ["locked", "release"])
def test_a_row_that_keeps_every_rule_is_taken(scene: SavingsScene, row: str) -> None:
    """So it is the change that is refused below, and nothing else about the row."""
    assert scene.refusal(scene.copy(row, {})) is None


def test_each_rule_refuses_in_its_name(scene: SavingsScene) -> None:
    others = [(rule, statement.format(**scene.names)) for rule, statement in OTHERS]

    assert refused(scene, COPIES, CHANGES) == []
    answers = [(rule, scene.refusal(statement), statement) for rule, statement in others]
    assert [answer for answer in answers if answer[0] != answer[1]] == []


def rules_of_savings() -> set[str]:
    """Return the rules in the catalog, with those in functions that triggers call."""
    with connection.cursor() as cursor:
        cursor.execute(r"SELECT prosrc FROM pg_proc WHERE proname LIKE 'savings\_%'")
        sources = " ".join(row[0] for row in cursor.fetchall())
    return named_rules(models_of("savings")) | set(
        re.findall(r"savings_break\(\s*'(\w+)'", sources)
    )


def test_no_rule_is_left_without_an_attack(db: None) -> None:
    attacked = {rule for rule, *_ in [*COPIES, *CHANGES, *OTHERS]} | set(TRUNCATED) | MOVES
    elsewhere = {"account_locked_for_debits", "savings_interestaccrual_pkey"}

    assert elsewhere <= attacked
    assert rules_of_savings() - BY_OTHERS == attacked - elsewhere


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("rule", TRUNCATED)
def test_no_table_of_plans_is_emptied(rule: str) -> None:
    assert rule_against_emptying("savings", TRUNCATED, rule) == rule


# --- Time ----------------------------------------------------------------------------------------


def test_an_account_whose_time_is_ahead_stays_locked(tenant: Tenant) -> None:
    """As after a change by a host whose clock is wrong: the engine would go by the account's."""
    now = timezone.now()
    source = making.open_account(tenant, balance=1_000)
    plan = locked_plan(source, tenant.day_of(now) + dt.timedelta(days=9), now=now)
    Account.objects.filter(pk=plan.plan_account_id).update(updated_at=now + dt.timedelta(days=30))

    with pytest.raises(DatabaseError) as refusal, transaction.atomic():
        making.transfer(again(plan).plan_account, source, 1)

    assert constraint_of(refusal.value) == "account_locked_for_debits"
    assert making.balance_of(plan.plan_account) == 1_000


def test_entries_of_the_future_debit_nothing(tenant: Tenant, scene: SavingsScene) -> None:
    posted = (
        "WITH t AS (INSERT INTO ledger_transaction (id, tenant_id, type, currency, amount, legs,"
        " description, idempotency_key, request_fingerprint, value_date, metadata, created_at)"
        " VALUES (gen_random_uuid(), '{tenant}', 'transfer', 'USD', 5, 2, '', 'future', '',"
        " '2999-01-01', '{{}}', '2999-01-01') RETURNING id), e AS ("
        " INSERT INTO ledger_entry (tenant_id, account_id, sequence, transaction_id, leg, currency,"
        " amount, balance_after, created_at) SELECT '{tenant}', a.id, a.entry_count + 1, t.id,"
        " CASE a.id WHEN '{account}' THEN 0 ELSE 1 END, 'USD',"
        " CASE a.id WHEN '{account}' THEN -5 ELSE 5 END,"
        " a.balance + CASE a.id WHEN '{account}' THEN -5 ELSE 5 END, '2999-01-01'"
        " FROM t, accounts_account a WHERE a.id IN ('{account}', '{source}'))"
        " UPDATE accounts_account SET entry_count = entry_count + 1,"
        " balance = balance + CASE id WHEN '{account}' THEN -5 ELSE 5 END"
        " WHERE id IN ('{account}', '{source}')"
    )

    assert scene.refusal(posted.format(**scene.names)) == "account_locked_for_debits"
    # From another account the very same is taken: it is the lock that refuses.
    others = {**scene.names, "account": scene.names["kept_account"]}
    assert scene.refusal(posted.format(**others)) is None


# --- States --------------------------------------------------------------------------------------

AUTO_MOVES = {
    "active": ["closed", "completed", "stopped"],
    "completed": ["closed"],
    "stopped": ["closed"],
    "closed": [],
}
LOCKED_MOVES = {
    "active": ["closed", "unlocked"],
    "unlocked": ["active", "closed"],
    "closed": [],
}
_BARE = "SET LOCAL session_replication_role = replica; "
_GUARDED = "; SET LOCAL session_replication_role = origin; "


@pytest.mark.parametrize(("row", "moves"), [("auto", AUTO_MOVES), ("locked", LOCKED_MOVES)])
def test_a_state_is_only_left_for_the_next(
    scene: SavingsScene, row: str, moves: Mapping[str, list[str]]
) -> None:
    status: Any = SavingsPlan._meta.get_field("status")
    assert set(AUTO_MOVES) | set(LOCKED_MOVES) == {value for value, _ in status.flatchoices}
    is_locked = row == "locked"

    def put(state: str, more: str) -> str:
        times = "ended_at = NULL, next_step_at = now()"
        if state == "closed":
            times = "ended_at = now(), next_step_at = NULL"
        return scene.change(row, f"status = '{state}', {times}{more}")

    def on(day: str) -> str:
        if not is_locked:
            return ""
        return f", unlock_date = {day}, unlock_at = {day}::timestamp AT TIME ZONE 'UTC'"

    def is_taken(before: str, then: str) -> bool:
        # Its date has come; what is locked anew has a new one.
        there = f"{_BARE}{put(before, on('current_date'))}{_GUARDED}"
        move = put(then, on(_IN_A_MONTH) if then == "active" else "")
        return scene.refusal(there + move) is None

    taken = {
        before: sorted(then for then in moves if then != before and is_taken(before, then))
        for before in moves
    }

    assert taken == moves


def test_what_an_unlocked_plan_has_can_be_had(tenant: Tenant, scene: SavingsScene) -> None:
    """So all of the above refuses because of the lock, and for nothing else."""
    plan = SavingsPlan.objects.get(pk=scene.names["kept"])

    withdraw(
        tenant_id=tenant.pk, plan_id=plan.pk, amount=999, idempotency_key="x", now=timezone.now()
    )

    assert making.balance_of(plan.plan_account_id) == 1
