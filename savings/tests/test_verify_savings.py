"""verify_savings finds what got past the database's rules: each damage, and nothing else."""

import contextlib
import datetime as dt
import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from identity.models import Tenant
from identity.services import advance_test_clock, start_test_clock
from ledger.management.comparing import collect
from ledger.management.verification import Findings
from savings.management.verification import _ROWS
from savings.models import InterestPosting, SavingsPlan
from savings.services import close_plan
from tests.making import corrupt, open_account
from tests.recurring import utc
from tests.saving import auto_plan, keep, locked_plan

pytestmark = pytest.mark.django_db(transaction=True)

OPENED = utc("2026-01-15T09:00")
RATE = {"annual_rate_bps": 425, "withholding_tax_bps": 2_000}


@pytest.fixture
def plan(tenant: Tenant) -> SavingsPlan:
    """A tenant whose plans have earned for two months; a plan that is locked, and others."""
    start_test_clock(tenant_id=tenant.pk, at=OPENED, now=OPENED)
    source = open_account(tenant, balance=100_000_000)
    plan = locked_plan(source, dt.date(2027, 1, 1), now=OPENED, amount=10_000_000, **RATE)
    auto_plan(source, now=OPENED, amount=1_000, target_amount=2_000, **RATE)
    closed = auto_plan(source, now=OPENED, **RATE)
    advance_test_clock(tenant_id=tenant.pk, to=utc("2026-03-10"), now=OPENED)
    close_plan(tenant_id=tenant.pk, plan_id=closed.pk, now=utc("2026-03-10"))
    return plan


def report(*options: str) -> dict[str, Any]:
    out = io.StringIO()
    with contextlib.suppress(CommandError):
        call_command("verify_savings", "--json", *options, stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def faults() -> set[tuple[str, str]]:
    return {(each["kind"], each["fault"]) for each in report()["differences"]}


def test_sound_plans_differ_in_nothing(plan: SavingsPlan) -> None:
    found = report()

    assert found["differences"] == []
    assert found["checked"]["plans"] == 3
    assert found["checked"]["interest postings"] >= 4
    out = io.StringIO()
    call_command("verify_savings", stdout=out)
    assert "No differences." in out.getvalue()


def test_interest_by_the_real_time_is_held_against_entries(tenant: Tenant) -> None:
    now = timezone.now()
    source = open_account(tenant, balance=1_000_000)
    plan = locked_plan(source, now.date() + dt.timedelta(days=90), now=now, amount=500_000, **RATE)
    corrupt(
        "UPDATE savings_savingsplan SET interest_from = interest_from - 2 WHERE id = %s", plan.pk
    )
    corrupt("UPDATE ledger_entry SET created_at = created_at - interval '1 day'")
    corrupt("UPDATE accounts_account SET updated_at = updated_at - interval '1 day'")
    corrupt("UPDATE savings_interestbook SET accrued_to = accrued_to - 2, next_due_at = now()")
    keep(now + dt.timedelta(hours=1))
    assert report()["checked"]["accruals"] == 2
    assert faults() == set()

    # A day after its money came, not before.
    corrupt("UPDATE ledger_entry SET created_at = created_at - interval '3 days'")

    assert ("accrual", "balance is 0, its entries say 500000") in faults()


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE accounts_account SET debit_locked_until = NULL"
            " WHERE debit_locked_until IS NOT NULL",
            {("plan", "is locked, its account is not")},
        ),
        (
            "UPDATE accounts_account SET status = 'closed' WHERE debit_locked_until IS NOT NULL",
            {("plan", "has a closed account")},
        ),
        (
            "UPDATE payments_recurringpayment SET status = 'active' WHERE status = 'cancelled'",
            {("plan", "is closed, its recurring payment is active")},
        ),
        (
            "UPDATE savings_savingsplan SET amount = amount + 1 WHERE status = 'active'"
            " AND kind = 'auto_withdraw' OR amount = 1000",
            {("plan", "has other amounts than its recurring payment")},
        ),
    ],
)
def test_a_plan_that_does_not_fit(
    plan: SavingsPlan, statement: str, expected: set[tuple[str, str]]
) -> None:
    corrupt(statement)

    assert faults() == expected


def test_a_day_that_earned_another_amount(plan: SavingsPlan) -> None:
    # Past the CHECK, as a broken disk would.
    rule = "interest_accrual_by_the_formula"
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE savings_interestaccrual DROP CONSTRAINT {rule}")
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(
                "UPDATE savings_interestaccrual SET amount = amount + 1"
                " WHERE plan_id = %s AND date = '2026-02-05'",
                [plan.pk],
            )
        found = _faults_here()
        transaction.set_rollback(True)

    assert {kind for kind, _ in found} == {"accrual", "interest posting"}


def test_a_day_that_is_missing(plan: SavingsPlan) -> None:
    corrupt(
        "DELETE FROM savings_interestaccrual WHERE plan_id = %s AND date = '2026-02-05'", plan.pk
    )

    found = faults()

    assert ("accrual", "the day before is missing") in found
    assert any("its 27 days say" in fault for kind, fault in found if kind == "interest posting")


def test_the_last_day_is_missing(plan: SavingsPlan) -> None:
    corrupt(
        "DELETE FROM savings_interestaccrual WHERE plan_id = %s AND date = '2026-03-09'", plan.pk
    )

    assert faults() == {("interest book", "1 plans have no interest of 2026-03-09")}


def test_interest_that_was_posted_wrong(plan: SavingsPlan) -> None:
    first = InterestPosting.objects.filter(plan=plan).order_by("period_to").first()
    assert first is not None
    corrupt(
        "UPDATE savings_interestposting SET amount = amount + 1, carried_out = carried_out - 1"
        " WHERE id = %s",
        first.pk,
    )

    found = faults()

    assert ("interest posting", "is not rounded as agreed") in found
    assert ("interest posting", "has no transaction of its amount") in found
    assert any(kind == "booked interest" for kind, _ in found)


def test_interest_without_a_posting(plan: SavingsPlan) -> None:
    corrupt(
        "DELETE FROM savings_interestposting WHERE plan_id = %s AND period_to ="
        " (SELECT max(period_to) FROM savings_interestposting WHERE plan_id = %s)",
        plan.pk,
        plan.pk,
    )

    assert {kind for kind, _ in faults()} == {"booked interest"}


def _faults_here() -> set[tuple[str, str]]:
    """Look within this transaction, which is undone: at what no rule would let stand."""

    findings = Findings(100)
    for kind, _, _, statement in _ROWS:
        collect(kind, statement, None, findings)
    return {(each.kind, each.fault) for each in findings.first}
