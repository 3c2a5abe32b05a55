"""
The rules of recurring payments and of test clocks hold against raw SQL: each rule in the catalog is
attacked, and refuses in its own name.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest
from django.db.models import Model
from django.utils import timezone

from accounts.models import Account
from core.ids import new_id
from core.money import BALANCE_MAX
from identity.models import ApiKey, Tenant
from identity.services import create_api_key
from payments.models import CalendarDay, GatewayConfiguration, RecurringPayment, RecurringRun
from payments.services import Beneficiary, Salary
from tests import gateways, making, recurring
from tests.test_payment_rules import (
    NEW,
    RECURRING,
    Changes,
    Copies,
    Scene,
    named_rules,
    refused,
    rule_against_emptying,
)

# What a copy of a row needs to be another row that every rule allows.
FRESH: Mapping[type[Model], Mapping[str, str]] = {
    RecurringPayment: {"id": NEW, "external_id": "NULL"},
    RecurringRun: {"id": NEW, "number": "99", "scheduled_for": "now()"},
    CalendarDay: {"id": NEW, "date": "'2001-01-01'"},
    ApiKey: {"id": NEW, "public_id": f"left({NEW}::text, 16)"},
    GatewayConfiguration: {"id": NEW, "is_enabled": "false"},
}


class RecurringScene(Scene):
    """A tenant with recurring payments of each kind, and runs in each state, to be attacked."""

    fresh = FRESH

    def __init__(self, tenant: Tenant, other_tenant: Tenant) -> None:
        now = timezone.now()
        gateways.add_bank_file(tenant)
        source = making.open_account(tenant, balance=1_000, currency="EUR")
        saver = making.open_account(tenant, currency="EUR")
        foreign = making.open_account(other_tenant, currency="EUR")
        today: dict[str, Any] = {"now": now, "run_at": dt.time.min, "amount": 10}
        budi = Beneficiary("Budi", "DE", iban="DE89370400440532013000")
        monthly = recurring.order(source, saver, external_id="mine", **today)
        other = recurring.order(source, saver, **today)
        outside = recurring.order(source, beneficiary=budi, **today)
        poor = making.open_account(tenant, currency="EUR")
        retried = recurring.order(poor, saver, **today)
        skipped = recurring.order(poor, saver, on_insufficient_funds="skip", **today)
        percentage = recurring.order(
            source, saver, now=now, amount_type="percentage", percent=5, salary=Salary()
        )
        sweep = recurring.order(
            source, saver, now=now, amount_type="sweep", floor_amount=0, run_at=dt.time.max
        )
        ended = recurring.order(source, saver, now=now, amount=10)
        RecurringPayment.objects.filter(pk=ended.pk).update(
            status="cancelled", next_run_at=None, next_date=None, next_nominal_date=None
        )
        recurring.run(now)
        [sent] = recurring.runs(outside)
        [paid], [paid_too] = recurring.runs(monthly), recurring.runs(other)
        due, due_outside = a_run(other, now), a_run(outside, now)
        salary = a_run(percentage, now, trigger_transaction_id=new_id())
        day = CalendarDay.objects.create(tenant=tenant, date=now.date(), name="Nyepi")
        key = create_api_key(tenant_id=tenant.pk, name="x", scopes=["read"], now=now).api_key
        self.rows: dict[str, tuple[type[Model], str]] = {
            name: (type(row), str(row.pk))
            for name, row in {
                "tenant": tenant,
                "other_tenant": other_tenant,
                "key": key,
                "monthly": monthly,
                "outside": outside,
                "percentage": percentage,
                "sweep": sweep,
                "ended": ended,
                "due": due,
                "due_outside": due_outside,
                "salary": salary,
                "retried": recurring.runs(retried)[0],
                "skipped": recurring.runs(skipped)[0],
                "sent": sent,
                "paid": paid,
                "day": day,
                "gateway": GatewayConfiguration.objects.get(tenant=tenant),
            }.items()
        }
        self.names = {
            "tenant": tenant.pk,
            "other_tenant": other_tenant.pk,
            "saver": saver.pk,
            "source": source.pk,
            "foreign": foreign.pk,
            "dollars": making.open_account(tenant).pk,
            "till": Account.objects.filter(tenant=tenant, type="internal", currency="EUR")[0].pk,
            "payout": sent.payout_id,
            "payout_debit": sent.transaction_id,
            "posting": paid_too.transaction_id,
            "monthly": monthly.pk,
        }


def a_run(payment: RecurringPayment, now: dt.datetime, **more: Any) -> RecurringRun:
    return RecurringRun.objects.create(
        tenant_id=payment.tenant_id,
        recurring_payment=payment,
        number=7,
        nominal_date=now.date(),
        date=now.date(),
        scheduled_for=now,
        next_attempt_at=now,
        created_at=now,
        **more,
    )


@pytest.fixture
def scene(tenant: Tenant, other_tenant: Tenant) -> RecurringScene:
    return RecurringScene(tenant, other_tenant)


# --- Attacks: rule, row, what is changed ----------------------------------------------------------

COPIES: Copies = [
    ("recurring_begins_active", "monthly", {"status": "'paused'"}),
    ("recurring_begins_active", "monthly", {"status": "'nonsense'"}),
    ("recurring_external_id_unique", "monthly", {"external_id": "external_id"}),
    ("recurring_one_destination", "monthly", {"destination_account_id": "NULL"}),
    ("recurring_one_destination", "monthly", {"kind": "'nonsense'"}),
    ("recurring_one_destination", "monthly", {"kind": "'external'"}),
    ("recurring_one_destination", "monthly", {"beneficiary": "'[]'"}),
    ("recurring_one_destination", "monthly", {"beneficiary": "'null'"}),
    ("recurring_one_destination", "outside", {"beneficiary": "NULL"}),
    ("recurring_one_destination", "outside", {"destination_account_id": "'{saver}'"}),
    *(
        ("recurring_target_is_an_amount", row, {"target_balance": target})
        for row, target in (
            ("monthly", "0"),
            ("monthly", "-1"),
            ("monthly", f"{BALANCE_MAX + 1}"),
            ("percentage", "5"),
            ("outside", "5"),
        )
    ),
    *(
        ("recurring_amount_of_its_type", row, changes)
        for row, changes in (
            ("monthly", {"amount": "NULL"}),
            ("monthly", {"amount": "0"}),
            ("monthly", {"amount": "-1"}),
            ("monthly", {"percent": "5"}),
            ("monthly", {"floor_amount": "5"}),
            ("monthly", {"amount_type": "'nonsense'"}),
            # Of no credit.
            ("monthly", {"amount_type": "'percentage'", "amount": "NULL", "percent": "5"}),
            ("percentage", {"percent": "NULL"}),
            ("percentage", {"percent": "0"}),
            ("percentage", {"percent": "100.0001"}),
            ("percentage", {"amount": "1"}),
            ("sweep", {"floor_amount": "NULL"}),
            ("sweep", {"floor_amount": "-1"}),
            ("sweep", {"amount": "1"}),
        )
    ),
    ("recurring_trigger_has_its_rule", "monthly", {"frequency": "''"}),
    ("recurring_trigger_has_its_rule", "monthly", {"trigger": "'nonsense'"}),
    ("recurring_trigger_has_its_rule", "percentage", {"frequency": "'monthly'"}),
    ("recurring_trigger_has_its_rule", "percentage", {"next_run_at": "now()"}),
    ("recurring_end_after_start", "monthly", {"end_date": "start_date - 1"}),
    ("recurring_counts_positive", "monthly", {"interval": "0"}),
    ("recurring_counts_positive", "monthly", {"max_runs": "0"}),
    *(
        (f"payments_recurringpayment_{name}_check", "monthly", {name: "-1"})
        for name in (
            *("interval", "salary_from_day", "salary_to_day", "max_runs", "retry_count"),
            *("retry_interval_minutes", "pause_after_failures", "max_lateness_days"),
            *("next_number", "consecutive_failures", "version"),
        )
    ),
    # No account, one of another tenant, of another currency, of the bank's own.
    *(
        ("recurring_accounts_fit", row, {name: account})
        for row, name in (
            ("monthly", "destination_account_id"),
            ("monthly", "source_account_id"),
            ("outside", "source_account_id"),
        )
        for account in (NEW, "'{foreign}'", "'{dollars}'", "'{till}'")
    ),
    ("recurring_accounts_fit", "monthly", {"tenant_id": "'{other_tenant}'"}),
    ("recurring_accounts_fit", "monthly", {"currency": "'USD'"}),
    ("recurring_run_once_a_time", "due", {"scheduled_for": "scheduled_for"}),
    ("recurring_run_once_a_salary", "salary", {}),
    ("recurring_run_open_has_a_time", "due", {"next_attempt_at": "NULL"}),
    ("recurring_run_open_has_a_time", "due", {"ended_at": "now()"}),
    ("recurring_run_open_has_a_time", "due", {"status": "'nonsense'"}),
    ("recurring_run_open_has_a_time", "skipped", {"ended_at": "NULL"}),
    ("recurring_run_amount_positive", "due", {"amount": "0"}),
    *(
        (f"payments_recurringrun_{name}_check", "due", {name: "-1"})
        for name in ("number", "attempts", "deliveries")
    ),
    ("recurring_run_begins_due", "due", {"status": "'retrying'"}),
    ("recurring_run_begins_due", "due", {"transaction_id": NEW}),
    ("recurring_run_begins_due", "due", {"payout_id": "'{payout}'"}),
    ("recurring_run_begins_due", "paid", {}),
    ("recurring_run_begins_due", "sent", {}),
    ("recurring_run_of_its_tenant", "due", {"tenant_id": "'{other_tenant}'"}),
    ("calendar_day_unique", "day", {"date": "date"}),
]
_SUCCEEDED = "next_attempt_at = NULL, ended_at = now(), status = 'succeeded'"
_SENT = "next_attempt_at = NULL, status = 'sent'"
CHANGES: Changes = [
    *(
        ("recurring_never_rewritten", "monthly", [change])
        for change in (
            f"id = {NEW}",
            "tenant_id = '{other_tenant}'",
            "kind = 'external'",
            "source_account_id = '{saver}'",
            "currency = 'USD'",
            "trigger = 'salary'",
            "created_at = now()",
        )
    ),
    *(
        ("recurring_accounts_fit", "monthly", [f"destination_account_id = {account}"])
        for account in (NEW, "'{foreign}'", "'{dollars}'", "'{till}'")
    ),
    ("recurring_runs_while_active", "monthly", ["status = 'cancelled'"]),
    ("recurring_runs_while_active", "monthly", ["status = 'completed', next_run_at = NULL"]),
    *(
        ("recurring_run_never_rewritten", "due", [change])
        for change in (
            f"id = {NEW}",
            "tenant_id = '{other_tenant}'",
            "recurring_payment_id = '{monthly}'",
            "number = number + 1",
            "nominal_date = nominal_date + 1",
            "date = date + 1",
            "scheduled_for = scheduled_for + interval '1 day'",
            f"trigger_transaction_id = {NEW}",
            "created_at = now()",
        )
    ),
    *(
        ("recurring_run_ends_once", row, [change])
        for row, change in (
            ("paid", "amount = amount + 1"),
            ("paid", f"transaction_id = {NEW}"),
            ("paid", "payout_id = '{payout}'"),
            ("paid", "ended_at = now() + interval '1 day'"),
            ("paid", "error_code = 'x'"),
            ("skipped", "amount = 7"),
            ("skipped", f"transaction_id = {NEW}"),
            ("sent", "amount = amount + 1"),
            ("sent", f"transaction_id = {NEW}"),
            ("sent", "payout_id = NULL"),
            ("sent", f"{_SUCCEEDED}, payout_id = NULL"),
            ("sent", "status = 'failed', ended_at = now(), amount = amount + 1"),
        )
    ),
    # No posting; that of another run; of what is not posted by itself.
    *(
        ("recurring_run_was_posted", row, [f"amount = {amount}, {change}"])
        for row, amount, change in (
            ("due", 10, _SUCCEEDED),
            ("due", 10, f"{_SUCCEEDED}, transaction_id = {NEW}"),
            ("due", 10, f"{_SUCCEEDED}, transaction_id = '{{posting}}'"),
            ("due", 10, f"{_SUCCEEDED}, payout_id = '{{payout}}'"),
            ("due", 10, f"{_SENT}, payout_id = '{{payout}}', transaction_id = '{{payout_debit}}'"),
            ("due", 10, f"{_SENT}, transaction_id = '{{posting}}'"),
            ("retried", 10, f"{_SUCCEEDED}, transaction_id = '{{posting}}'"),
            ("due_outside", 10, _SENT),
            ("due_outside", 10, f"{_SENT}, transaction_id = '{{posting}}'"),
            *(
                (
                    "due_outside",
                    10,
                    f"{how}, payout_id = '{{payout}}', transaction_id = '{{payout_debit}}'",
                )
                for how in (_SENT, _SUCCEEDED)
            ),
            # Its payout is on its way.
            ("sent", 10, _SUCCEEDED),
        )
    ),
    ("test_clock_goes_forward", "tenant", ["test_clock = now()", "test_clock = NULL"]),
    (
        "test_clock_goes_forward",
        "tenant",
        ["test_clock = now()", "test_clock = now() - interval '1 second'"],
    ),
]
BARE = "SET LOCAL session_replication_role = replica; "
GUARDED = "; SET LOCAL session_replication_role = origin; "
_CLOCK = "UPDATE identity_tenant SET test_clock = now()"
OTHERS = [
    ("recurring_never_deleted", "DELETE FROM payments_recurringpayment WHERE false"),
    ("recurring_run_never_deleted", "DELETE FROM payments_recurringrun WHERE false"),
    ("recurring_not_to_itself", BARE + "{to_itself}"),
    ("test_clock_without_live_keys", "{live_key}; " + _CLOCK),
    ("test_clock_without_live_keys", _CLOCK + "; {live_key}"),
    # One that is called live, brought back, or moved to the tenant afterwards.
    ("test_clock_without_live_keys", _CLOCK + "; UPDATE identity_apikey SET mode = 'live'"),
    (
        "test_clock_without_live_keys",
        "UPDATE identity_apikey SET mode = 'live', revoked_at = now(); "
        + _CLOCK
        + "; UPDATE identity_apikey SET revoked_at = NULL",
    ),
    (
        "test_clock_without_live_keys",
        "UPDATE identity_apikey SET mode = 'live'; "
        + _CLOCK
        + " WHERE id = '{other_tenant}'; UPDATE identity_apikey SET tenant_id = '{other_tenant}'",
    ),
    (
        "test_clock_without_live_gateway",
        "{live_gateway};"
        " UPDATE payments_gatewayconfiguration SET is_enabled = false WHERE mode = 'test';"
        " UPDATE payments_gatewayconfiguration SET is_enabled = true WHERE mode = 'live'; "
        + _CLOCK,
    ),
]
TRUNCATED = {
    "recurring_never_truncated": "recurringpayment",
    "recurring_run_never_truncated": "recurringrun",
}
# Attacked with the other rules of moving along: test_a_state_is_only_left_for_the_next.
MOVES = {"recurring_ends_for_good"}


@pytest.mark.parametrize(
    "row", ["monthly", "outside", "percentage", "sweep", "due", "due_outside", "skipped", "day"]
)
def test_a_row_that_keeps_every_rule_is_taken(scene: RecurringScene, row: str) -> None:
    """So it is the change that is refused below, and nothing else about the row."""
    assert scene.refusal(scene.copy(row, {})) is None


def test_each_rule_refuses_in_its_name(scene: RecurringScene) -> None:
    made = {
        "to_itself": scene.copy("monthly", {"destination_account_id": "source_account_id"}),
        "live_key": scene.copy("key", {"mode": "'live'"}),
        "live_gateway": scene.copy("gateway", {"mode": "'live'"}),
    }
    others = [(rule, statement.format(**made, **scene.names)) for rule, statement in OTHERS]

    assert refused(scene, COPIES, CHANGES) == []
    answers = [(rule, scene.refusal(statement), statement) for rule, statement in others]
    assert [answer for answer in answers if answer[0] != answer[1]] == []


def test_what_is_no_live_credential_stops_no_clock(scene: RecurringScene) -> None:
    revoked = "UPDATE identity_apikey SET mode = 'live', revoked_at = now()"

    assert scene.refusal(f"{revoked}; {_CLOCK}; UPDATE identity_apikey SET name = 'y'") is None
    assert scene.refusal(f"{_CLOCK}; {scene.copy('key', {})}") is None


def test_no_rule_is_left_without_an_attack(db: None) -> None:
    attacked = {rule for rule, *_ in [*COPIES, *CHANGES, *OTHERS]} | set(TRUNCATED) | MOVES
    of_clocks = {rule for rule in named_rules([Tenant, ApiKey]) if rule.startswith("test_clock")}

    assert named_rules(RECURRING) | of_clocks == attacked


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("rule", TRUNCATED)
def test_no_table_of_money_is_emptied(rule: str) -> None:
    assert rule_against_emptying("payments", TRUNCATED, rule) == rule


# --- States ---------------------------------------------------------------------------------------

PAYMENT_MOVES = {
    "active": ["cancelled", "completed", "failed", "paused"],
    "paused": ["active", "cancelled", "completed", "failed"],
    "completed": [],
    "cancelled": [],
    "failed": [],
}
_ENDS = ["cancelled", "failed", "skipped", "succeeded"]
RUN_MOVES = {
    "due": sorted(["retrying", "sent", *_ENDS]),
    "retrying": sorted(["sent", *_ENDS]),
    "sent": ["failed", "succeeded"],
    "succeeded": [],
    "skipped": [],
    "failed": [],
    "cancelled": [],
}
_NOTHING_NEXT = "next_run_at = NULL, next_date = NULL, next_nominal_date = NULL"


def _timed(status: str) -> str:
    """Return what a run in the state has of times."""
    if status in ("due", "retrying"):
        return "next_attempt_at = now(), ended_at = NULL"
    return f"next_attempt_at = NULL, ended_at = {'NULL' if status == 'sent' else 'now()'}"


@pytest.mark.parametrize(
    ("row", "rule", "moves"),
    [
        ("monthly", "recurring_ends_for_good", PAYMENT_MOVES),
        ("due", "recurring_run_ends_once", RUN_MOVES),
    ],
)
def test_a_state_is_only_left_for_the_next(
    scene: RecurringScene, row: str, rule: str, moves: Mapping[str, list[str]]
) -> None:
    status: Any = scene.rows[row][0]._meta.get_field("status")
    assert set(moves) == {value for value, _ in status.flatchoices}

    def put(state: str) -> str:
        more = _NOTHING_NEXT if row == "monthly" else _timed(state)
        return scene.change(row, f"status = '{state}', {more}")

    taken = {
        before: sorted(
            then
            for then in moves
            if then != before and scene.refusal(f"{BARE}{put(before)}{GUARDED}{put(then)}") != rule
        )
        for before in moves
    }

    assert taken == moves
