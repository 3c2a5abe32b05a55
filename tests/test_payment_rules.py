"""
The rules of money's ways in and out hold against raw SQL: each rule in the catalog is attacked, and
refuses in its own name.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.db import DatabaseError, connection, transaction
from django.db.models import Model

from core.database import constraint_of
from identity.models import Tenant
from ledger.services import Leg, Posting, post_one
from payments.models import (
    CalendarDay,
    Discrepancy,
    GatewayConfiguration,
    Payment,
    Payout,
    PayoutBatch,
    PayoutReportFile,
    RecurringPayment,
    RecurringRun,
    Refund,
)
from tests import making
from tests.gateways import Sandbox, every_table
from webhooks.models import InboundAttempt, InboundEvent

NEW = "gen_random_uuid()"
# Attacked in tests/test_recurring_rules.py.
RECURRING: set[type[Model]] = {RecurringPayment, RecurringRun, CalendarDay}
# What a copy of a row needs to be another row that every rule allows.
FRESH: Mapping[type[Model], Mapping[str, str]] = {
    GatewayConfiguration: {"id": NEW, "is_enabled": "false"},
    Payment: {
        "id": NEW,
        "reference": f"left({NEW}::text, 36)",
        "idempotency_key": f"{NEW}::text",
        "status": "'created'",
        "gateway_payment_id": "''",
        "transaction_id": "NULL",
        "refunded_amount": "0",
    },
    Refund: {
        "id": NEW,
        "payment_id": "'{open}'",
        "reference": f"left({NEW}::text, 36)",
        "idempotency_key": f"{NEW}::text",
        "status": "'created'",
        # Of a payment that was never deposited.
        "transaction_id": "NULL",
    },
    Payout: {
        "id": NEW,
        "transaction_id": "'{spare_debit}'",
        "reference": f"left({NEW}::text, 35)",
        "idempotency_key": f"{NEW}::text",
    },
    PayoutBatch: {"id": NEW, "message_id": "'another'"},
    PayoutReportFile: {"id": NEW, "message_id": "'another'"},
    Discrepancy: {"id": NEW, "reference": "'another'"},
    InboundEvent: {"id": NEW, "event_id": "'another'"},
    InboundAttempt: {"id": "1000000", "number": "2"},
}


class Scene:
    """A tenant with a row in every table, to be attacked."""

    fresh = FRESH

    def __init__(self, tenant: Tenant, other_tenant: Tenant, sandbox: Sandbox) -> None:
        every_table(tenant, sandbox)
        payment, refund = Payment.objects.get(purpose="topup"), Refund.objects.get()
        pending = Payout.objects.get(status="pending")
        self.rows: dict[str, tuple[type[Model], str]] = {}
        for name, row in {
            "sandbox": GatewayConfiguration.objects.get(pk=payment.configuration_id),
            "bank": GatewayConfiguration.objects.get(gateway="bank_file"),
            "payment": payment,
            "refund": refund,
            "payout": pending,
            "settled": Payout.objects.get(status="settled"),
            "batch": PayoutBatch.objects.get(),
            "report": PayoutReportFile.objects.get(),
            "discrepancy": Discrepancy.objects.get(kind="not_ours"),
            "event": InboundEvent.objects.get(),
            "attempt": InboundAttempt.objects.get(),
        }.items():
            self.rows[name] = (type(row), str(row.pk))
        another = making.open_account(tenant, currency=payment.currency)
        left = payment.amount - refund.amount
        clearing = Payout.objects.raw(
            "SELECT p.*, e.account_id AS clearing FROM payments_payout p JOIN ledger_entry e"
            " ON e.transaction_id = p.transaction_id AND e.amount > 0 WHERE p.id = %s",
            [pending.pk],
        )[0].clearing  # type: ignore[attr-defined]  # the annotation of the query

        def post(type_: str, source: UUID, destination: UUID, amount: int) -> UUID:
            posting = Posting(
                type=type_,
                currency=payment.currency,
                legs=(Leg(source, -amount), Leg(destination, amount)),
                idempotency_key=making.fresh_key(),
                request_fingerprint=b"",
            )
            return post_one(tenant_id=tenant.pk, posting=posting).id

        self.names = {
            "tenant": tenant.pk,
            "other_tenant": other_tenant.pk,
            "account": payment.account_id,
            "other_account": another.pk,
            "clearing": clearing,
            "deposit": payment.transaction_id,
            "debit": refund.transaction_id,
            "payout_debit": pending.transaction_id,
            # Postings that nothing refers to yet.
            "spare_debit": post("payout", pending.source_account_id, clearing, pending.amount),
            "invoice_deposit": post(
                "invoice_payment", clearing, payment.account_id, payment.amount
            ),
            "chargeback": post("chargeback", payment.account_id, clearing, left),
            "larger_chargeback": post("chargeback", payment.account_id, clearing, left + 1),
            **{name: pk for name, (_, pk) in self.rows.items()},
        }
        # Payments that are not deposited: one like the deposited one, and others.
        for name, changes in {
            "open": {},
            "larger": {"amount": "amount + 1"},
            "elsewhere": {"account_id": "'{other_account}'"},
            "foreign": {"tenant_id": "'{other_tenant}'"},
            "for_invoice": {"purpose": "'invoice'"},
        }.items():
            with connection.cursor() as cursor:
                cursor.execute(f"{self.copy('payment', changes)} RETURNING id")
                self.names[name] = cursor.fetchone()[0]
            self.rows[name] = (Payment, str(self.names[name]))

    def copy(self, name: str, changes: Mapping[str, str]) -> str:
        """Return the statement that inserts another row like this one, but for the changes."""
        model, pk = self.rows[name]
        table = model._meta.db_table
        columns = [str(field.column) for field in model._meta.concrete_fields]
        values = {**{column: column for column in columns}, **self.fresh[model], **changes}
        assert set(values) == set(columns), set(values) - set(columns)
        quoted = {column: f'"{column}"' for column in columns}
        chosen = ", ".join(quoted.get(values[column], values[column]) for column in columns)
        return (
            f"INSERT INTO {table} ({', '.join(quoted.values())}) SELECT {chosen} FROM {table}"
            f" WHERE id = '{pk}'"
        ).format(**self.names)

    def change(self, name: str, *changes: str) -> str:
        """Return the statements that update the row, one after the other."""
        model, pk = self.rows[name]
        table = model._meta.db_table
        return "; ".join(f"UPDATE {table} SET {each} WHERE id = '{pk}'" for each in changes).format(
            **self.names
        )

    def refusal(self, statement: str) -> str | None:
        """Return the rule that refuses the statement; None: none does. It is undone anyway."""
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(statement)
                transaction.set_rollback(True)
        except DatabaseError as error:
            return constraint_of(error) or str(error)
        return None


@pytest.fixture
def scene(tenant: Tenant, other_tenant: Tenant, sandbox: Sandbox) -> Scene:
    return Scene(tenant, other_tenant, sandbox)


# --- Attacks: rule, row, what is changed ----------------------------------------------------------

Copies = Sequence[tuple[str, str, Mapping[str, str]]]
Changes = Sequence[tuple[str, str, Sequence[str]]]

OF_DEBIT = {"payment_id": "'{payment}'", "transaction_id": "'{debit}'"}
COPIES: Copies = [
    ("gateway_known", "bank", {"gateway": "'paypal'"}),
    ("gateway_mode_known", "bank", {"mode": "'demo'"}),
    ("gateway_sandbox_is_for_tests", "sandbox", {"mode": "'live'"}),
    ("gateway_deleted_is_disabled", "bank", {"is_enabled": "true", "deleted_at": "now()"}),
    ("gateway_modes_never_mix", "bank", {"mode": "'live'", "is_enabled": "true"}),
    ("gateway_account_of_one_tenant", "sandbox", {"tenant_id": "'{other_tenant}'"}),
    ("payments_gatewayconfiguration_priority_check", "bank", {"priority": "-1"}),
    ("payment_purpose_known", "payment", {"purpose": "'gift'"}),
    ("payment_amount_positive", "payment", {"amount": "0"}),
    ("payment_amount_positive", "payment", {"amount": "-amount"}),
    ("payment_begins_at_the_beginning", "payment", {"status": "'pending'"}),
    (
        "payment_begins_at_the_beginning",
        "payment",
        {"status": "'deposited'", "transaction_id": "'{deposit}'"},
    ),
    ("payment_begins_at_the_beginning", "payment", {"transaction_id": "'{deposit}'"}),
    ("payment_begins_at_the_beginning", "payment", {"refunded_amount": "1"}),
    ("payment_reversal_follows_deposit", "payment", {"reversal_transaction_id": NEW}),
    ("payment_reference_unique", "payment", {"reference": "reference"}),
    ("payment_gateway_id_unique", "payment", {"gateway_payment_id": "gateway_payment_id"}),
    ("payment_idempotency_key_unique", "payment", {"idempotency_key": "idempotency_key"}),
    ("payments_payment_attempt_check", "payment", {"attempt": "-1"}),
    ("refund_amount_positive", "refund", {"amount": "0"}),
    ("refund_amount_positive", "refund", {"amount": "-1"}),
    ("refund_begins_at_the_beginning", "refund", {"status": "'pending'"}),
    ("refund_begins_at_the_beginning", "refund", {"return_transaction_id": NEW}),
    # Of a deposited payment, without a debit, and with none of its own.
    ("refund_was_debited", "refund", {"payment_id": "'{payment}'"}),
    ("refund_was_debited", "refund", {"payment_id": "'{payment}'", "transaction_id": NEW}),
    (
        "refund_was_debited",
        "refund",
        {"payment_id": "'{payment}'", "transaction_id": "'{payout_debit}'"},
    ),
    (
        "refund_was_debited",
        "refund",
        {**OF_DEBIT, "amount": "amount + 1"},
    ),
    # Of one that was never deposited, with a debit.
    ("refund_was_debited", "refund", {"transaction_id": "'{debit}'"}),
    ("refund_within_payment", "refund", {"amount": "101"}),
    ("refund_within_payment", "refund", {"currency": "'USD'"}),
    ("refund_within_payment", "refund", {"tenant_id": "'{other_tenant}'"}),
    ("refund_reference_unique", "refund", {"reference": "reference"}),
    ("refund_idempotency_key_unique", "refund", {"idempotency_key": "idempotency_key"}),
    (
        "payout_amount_positive",
        "payout",
        {"amount": "-amount", "source_account_id": "'{clearing}'"},
    ),
    ("payout_one_account", "payout", {"account_number": "'1'"}),
    ("payout_one_account", "payout", {"iban": "''"}),
    ("payout_begins_at_the_beginning", "payout", {"status": "'submitted'"}),
    ("payout_begins_at_the_beginning", "payout", {"settlement_transaction_id": NEW}),
    ("payout_was_debited", "payout", {"transaction_id": NEW}),
    ("payout_was_debited", "payout", {"transaction_id": "'{debit}'"}),
    ("payout_was_debited", "payout", {"amount": "amount + 1"}),
    ("payout_was_debited", "payout", {"amount": "0"}),
    ("payout_was_debited", "payout", {"currency": "'USD'"}),
    ("payout_was_debited", "payout", {"source_account_id": "'{other_account}'"}),
    ("payout_was_debited", "payout", {"tenant_id": "'{other_tenant}'"}),
    ("payout_returned_iff_given_back", "payout", {"return_transaction_id": NEW}),
    # One debit serves one.
    ("refund_transaction_unique", "refund", OF_DEBIT),
    ("payout_transaction_unique", "payout", {"transaction_id": "transaction_id"}),
    ("payout_reference_unique", "payout", {"reference": "reference"}),
    ("payout_idempotency_key_unique", "payout", {"idempotency_key": "idempotency_key"}),
    ("payout_batch_message_unique", "batch", {"message_id": "message_id"}),
    ("payments_payoutbatch_payout_count_check", "batch", {"payout_count": "-1"}),
    ("payout_report_message_unique", "report", {"message_id": "message_id"}),
    ("discrepancy_open_once", "discrepancy", {"reference": "reference"}),
]
_NEVER_REWRITTEN = {
    ("gateway_never_rewritten", "bank"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "gateway = 'xendit'",
        "mode = 'live'",
        "created_at = now()",
    ],
    ("payment_never_rewritten", "payment"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "purpose = 'gift'",
        "account_id = '{other_account}'",
        "amount = amount + 1",
        "currency = 'USD'",
        "method = 'token'",
        "idempotency_key = 'x'",
        "request_fingerprint = 'x'",
        "created_at = now()",
    ],
    ("payment_stays_with_gateway", "payment"): [
        "configuration_id = '{bank}'",
        "reference = 'x'",
        "attempt = attempt + 1",
    ],
    ("refund_never_rewritten", "refund"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "payment_id = '{open}'",
        "reference = 'x'",
        "amount = amount + 1",
        "currency = 'USD'",
        "idempotency_key = 'x'",
        "request_fingerprint = 'x'",
        "created_at = now()",
        "transaction_id = NULL",
    ],
    ("payout_never_rewritten", "settled"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "configuration_id = '{sandbox}'",
        "source_account_id = '{other_account}'",
        "amount = amount + 1",
        "currency = 'USD'",
        "beneficiary_name = 'Mallory'",
        "iban = 'DE00'",
        "account_number = '1', iban = ''",
        "bank_code = 'X'",
        "country = 'XX'",
        "reference = 'x'",
        f"transaction_id = {NEW}",
        "idempotency_key = 'x'",
        "request_fingerprint = 'x'",
        "created_at = now()",
        "batch_id = NULL",
    ],
    ("payout_batch_never_rewritten", "batch"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "configuration_id = '{sandbox}'",
        "message_id = 'x'",
        "currency = 'USD'",
        "payout_count = payout_count + 1",
        "total = total + 1",
        "document = 'x'",
        "created_at = now()",
    ],
    ("discrepancy_never_rewritten", "discrepancy"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "configuration_id = '{sandbox}'",
        "kind = 'paid_twice'",
        "object_type = 'payout'",
        f"object_id = {NEW}",
        "reference = 'z'",
        "amount = 2",
        "currency = 'USD'",
        "found_at = now()",
    ],
    ("payout_report_never_rewritten", "report"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "message_id = 'x'",
        "kind = 'x'",
        "document = 'x'",
        "created_at = now()",
    ],
}
CHANGES: Changes = [
    *(
        (rule, row, [change])
        for (rule, row), changes in _NEVER_REWRITTEN.items()
        for change in changes
    ),
    ("gateway_deleted_is_disabled", "bank", ["deleted_at = now()"]),
    ("payment_deposited_iff_posted", "open", ["status = 'paid'", "status = 'deposited'"]),
    ("payment_deposited_iff_posted", "open", ["transaction_id = '{deposit}'"]),
    ("payment_reversal_follows_deposit", "payment", ["reversal_transaction_id = '{chargeback}'"]),
    # No posting, one of another kind, and one of more than is left.
    *(
        (
            "payment_reversal_was_posted",
            "payment",
            [f"status = 'reversed', reversal_transaction_id = {posted}"],
        )
        for posted in (NEW, "'{debit}'", "'{larger_chargeback}'")
    ),
    (
        "payment_transaction_unique",
        "open",
        ["status = 'paid'", "status = 'deposited', transaction_id = '{deposit}'"],
    ),
    ("payment_refunded_within_amount", "payment", ["refunded_amount = amount + 1"]),
    ("payment_refunded_within_amount", "payment", ["refunded_amount = -1"]),
    ("payments_payment_steps_check", "payment", ["steps = -1"]),
    ("payment_moves_forward", "payment", ["status = 'paid'"]),
    ("payment_moves_forward", "payment", ["status = 'nonsense'"]),
    ("payment_posted_once", "payment", [f"transaction_id = {NEW}"]),
    ("payment_posted_once", "payment", ["transaction_id = NULL"]),
    (
        "payment_posted_once",
        "payment",
        [
            "status = 'reversed', reversal_transaction_id = '{chargeback}'",
            f"reversal_transaction_id = {NEW}",
        ],
    ),
    # No posting; one of another kind, of another amount, to another account, of another tenant.
    *(
        (
            "payment_deposit_was_posted",
            row,
            ["status = 'paid'", f"status = 'deposited', transaction_id = {posted}"],
        )
        for row, posted in (
            ("open", NEW),
            ("open", "'{debit}'"),
            ("open", "'{payout_debit}'"),
            ("larger", "'{deposit}'"),
            ("elsewhere", "'{deposit}'"),
            ("foreign", "'{deposit}'"),
            # For the one purpose by a posting of the other.
            ("open", "'{invoice_deposit}'"),
            ("for_invoice", "'{deposit}'"),
            ("for_invoice", NEW),
        )
    ),
    ("refund_status_known", "refund", ["status = 'nonsense'"]),
    ("refund_returned_iff_failed", "refund", ["status = 'failed'"]),
    ("payments_refund_steps_check", "refund", ["steps = -1"]),
    ("refund_moves_forward", "refund", ["status = 'succeeded'", "status = 'failed'"]),
    ("refund_return_was_posted", "refund", [f"status = 'failed', return_transaction_id = {NEW}"]),
    (
        "refund_return_was_posted",
        "refund",
        ["status = 'failed', return_transaction_id = '{debit}'"],
    ),
    ("payments_payout_steps_check", "payout", ["steps = -1"]),
    ("payout_returned_iff_given_back", "payout", ["status = 'failed'"]),
    ("payout_returned_iff_given_back", "settled", ["status = 'returned'"]),
    ("payout_settled_iff_posted", "payout", ["status = 'settled'"]),
    ("payout_moves_forward", "settled", ["status = 'pending'"]),
    ("payout_moves_forward", "payout", ["status = 'nonsense'"]),
    ("payout_posted_once", "settled", [f"settlement_transaction_id = {NEW}"]),
    ("payout_posted_once", "settled", ["settlement_transaction_id = NULL"]),
    ("payout_end_was_posted", "payout", [f"status = 'settled', settlement_transaction_id = {NEW}"]),
    (
        "payout_end_was_posted",
        "payout",
        ["status = 'settled', settlement_transaction_id = '{payout_debit}'"],
    ),
    ("payout_end_was_posted", "payout", [f"status = 'failed', return_transaction_id = {NEW}"]),
    (
        "payout_end_was_posted",
        "settled",
        ["status = 'returned', return_transaction_id = '{payout_debit}'"],
    ),
    *(
        (f"payments_payoutreportfile_{name}_check", "report", [f"{name} = -1"])
        for name in ("applied_count", "unchanged_count", "unmatched_count")
    ),
    (
        "gateway_deleted_for_good",
        "bank",
        ["is_enabled = false, deleted_at = now()", "deleted_at = NULL"],
    ),
    ("discrepancy_resolved_by_somebody", "discrepancy", ["status = 'resolved'"]),
    (
        "discrepancy_resolved_by_somebody",
        "discrepancy",
        ["status = 'resolved', resolved_at = now()"],
    ),
    ("discrepancy_resolved_by_somebody", "discrepancy", ["resolved_at = now()"]),
    ("discrepancy_resolved_by_somebody", "discrepancy", ["status = 'gone'"]),
    (
        "discrepancy_resolved_once",
        "discrepancy",
        [
            "status = 'resolved', resolved_at = now(), resolved_by = 'ada'",
            "status = 'open', resolved_at = NULL",
        ],
    ),
    (
        "discrepancy_resolved_once",
        "discrepancy",
        [
            "status = 'resolved', resolved_at = now(), resolved_by = 'ada'",
            "resolution_note = 'x'",
        ],
    ),
]
OTHERS = [
    ("gateway_never_deleted", "DELETE FROM payments_gatewayconfiguration"),
    (
        "gateway_modes_never_mix",
        # Set up beside the others, and enabled afterwards.
        "{live}; UPDATE payments_gatewayconfiguration SET is_enabled = true WHERE mode = 'live'",
    ),
    (
        "gateway_live_by_real_time",
        # The tenant has a test clock.
        "{live};"
        " UPDATE payments_gatewayconfiguration SET is_enabled = false WHERE mode = 'test';"
        " UPDATE payments_gatewayconfiguration SET is_enabled = true WHERE mode = 'live'",
    ),
    ("payment_never_deleted", "DELETE FROM payments_payment WHERE false"),
    ("refund_never_deleted", "DELETE FROM payments_refund"),
    (
        "refund_returned_once",
        "SET LOCAL session_replication_role = replica;"
        " UPDATE payments_refund SET status = 'failed', return_transaction_id = gen_random_uuid();"
        " SET LOCAL session_replication_role = origin;"
        " UPDATE payments_refund SET return_transaction_id = gen_random_uuid()",
    ),
    ("payout_never_deleted", "DELETE FROM payments_payout WHERE false"),
    (
        "payout_posted_once",
        "SET LOCAL session_replication_role = replica;"
        " UPDATE payments_payout SET status = 'returned',"
        " return_transaction_id = gen_random_uuid();"
        " SET LOCAL session_replication_role = origin;"
        " UPDATE payments_payout SET return_transaction_id = gen_random_uuid()",
    ),
    ("payout_batch_never_deleted", "DELETE FROM payments_payoutbatch"),
    ("payout_report_never_deleted", "DELETE FROM payments_payoutreportfile"),
    ("discrepancy_never_deleted", "DELETE FROM payments_discrepancy WHERE false"),
]
TRUNCATED = {"payment_never_truncated", "refund_never_truncated", "payout_never_truncated"}


def refused(scene: Scene, copies: Copies, changes: Changes) -> list[tuple[str, str | None, str]]:
    """Return what was refused by another rule than it should, or by none."""
    attacks = [(rule, scene.copy(row, values)) for rule, row, values in copies]
    attacks += [(rule, scene.change(row, *steps)) for rule, row, steps in changes]
    answers = [(rule, scene.refusal(statement), statement) for rule, statement in attacks]
    return [(rule, by, statement) for rule, by, statement in answers if by != rule]


def models_of(app: str) -> set[type[Model]]:
    return set(apps.get_app_config(app).get_models())


def rule_against_emptying(app: str, tables: Mapping[str, str], rule: str) -> str | None:
    """
    Return the rule that keeps the rule's table of the app from being emptied; `tables` by rule.

    With CASCADE the tables that refer to it are emptied too, and would refuse first: not here.
    """
    others = "; ".join(
        f"ALTER TABLE {app}_{name} DISABLE TRIGGER {other}"
        for other, name in tables.items()
        if other != rule
    )
    with (
        pytest.raises(DatabaseError) as refusal,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(f"{others}; TRUNCATE {app}_{tables[rule]} CASCADE")
    return constraint_of(refusal.value)


def named_rules(models: Iterable[type[Model]]) -> set[str]:
    """Return the rules of the tables as the catalog has them."""
    tables = [model._meta.db_table for model in models]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname FROM pg_constraint"
            " WHERE conrelid = ANY(%(tables)s::regclass[]) AND contype IN ('c', 'u')"
            " UNION SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
            " WHERE indrelid = ANY(%(tables)s::regclass[]) AND indisunique AND NOT indisprimary"
            # The first argument is the rule's name; each ends with a zero.
            " UNION SELECT split_part(encode(tgargs, 'escape'), '\\000', 1) FROM pg_trigger"
            " WHERE tgrelid = ANY(%(tables)s::regclass[]) AND NOT tgisinternal AND tgnargs > 0",
            {"tables": tables},
        )
        names = {row[0] for row in cursor.fetchall()}
        cursor.execute(
            "SELECT prosrc FROM pg_proc JOIN pg_trigger ON tgfoid = pg_proc.oid"
            " WHERE tgrelid = ANY(%s::regclass[]) AND tgnargs = 0 AND NOT tgisinternal",
            [tables],
        )
        sources = " ".join(row[0] for row in cursor.fetchall())
    return names | set(re.findall(r"(?:payments_break\(|CONSTRAINT = )'(\w+)'", sources))


@pytest.mark.parametrize("row", ["bank", "payment", "refund", "payout", "batch", "report"])
def test_a_row_that_keeps_every_rule_is_taken(scene: Scene, row: str) -> None:
    """So it is the change that is refused below, and nothing else about the row."""
    assert scene.refusal(scene.copy(row, {})) is None


def test_a_payment_for_an_invoice_is_deposited_by_a_posting_of_its_own(scene: Scene) -> None:
    move = "status = 'deposited', transaction_id = '{invoice_deposit}'"

    assert scene.refusal(scene.change("for_invoice", "status = 'paid'", move)) is None


def test_a_reference_of_another_tenant_is_taken(scene: Scene) -> None:
    elsewhere = {"reference": "reference", "tenant_id": "'{other_tenant}'"}

    assert scene.refusal(scene.copy("payment", elsewhere)) is None


def test_each_rule_refuses_in_its_name(scene: Scene) -> None:
    live = scene.copy("bank", {"mode": "'live'"})
    others = [(rule, statement.format(live=live)) for rule, statement in OTHERS]

    assert refused(scene, COPIES, CHANGES) == []
    answers = [(rule, scene.refusal(statement)) for rule, statement in others]
    assert [answer for answer in answers if answer[0] != answer[1]] == []


def test_no_rule_is_left_without_an_attack(db: None) -> None:
    attacked = {rule for rule, *_ in [*COPIES, *CHANGES, *OTHERS]} | TRUNCATED

    assert named_rules(models_of("payments") - RECURRING) == attacked


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("table", ["payment", "refund", "payout"])
def test_no_table_of_money_is_emptied(table: str) -> None:
    with (
        pytest.raises(DatabaseError) as refusal,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(f"TRUNCATE payments_{table} CASCADE")

    # With CASCADE the tables that refer to it are emptied, and refuse, too.
    assert constraint_of(refusal.value) in (f"{table}_never_truncated", "refund_never_truncated")


# --- States ---------------------------------------------------------------------------------------

_OPEN = ["pending", "unknown", "paid", "failed", "expired"]
PAYMENT_MOVES = {
    "created": _OPEN,
    "pending": ["unknown", "paid", "failed", "expired"],
    "unknown": ["pending", "paid", "failed", "expired"],
    "paid": ["deposited", "deposit_pending", "reversed", "refunding"],
    "deposit_pending": ["deposited", "refunding", "reversed"],
    "deposited": ["refunded", "reversed"],
    "refunding": ["refunded", "deposit_pending", "reversed"],
    "refunded": [],
    "reversed": [],
    # Sent again, where no gateway had it; and paid late.
    "failed": ["created", "paid"],
    "expired": ["paid"],
}
REFUND_MOVES = {
    "created": ["pending", "unknown", "succeeded", "failed"],
    "pending": ["unknown", "succeeded", "failed"],
    "unknown": ["pending", "succeeded", "failed"],
    "succeeded": [],
    "failed": [],
}
PAYOUT_MOVES = {
    "pending": ["submitted", "unknown", "settled", "failed", "returned"],
    "submitted": ["settled", "returned", "failed"],
    "unknown": ["submitted", "settled", "failed", "returned"],
    "settled": ["returned"],
    "returned": [],
    "failed": [],
}
# What goes with a state, so that nothing but the move itself is looked at.
_POSTED = {
    "payments_payment": {},
    "payments_refund": {"failed": f"return_transaction_id = {NEW}"},
    "payments_payout": {
        "settled": f"settlement_transaction_id = {NEW}",
        "returned": f"return_transaction_id = {NEW}",
        "failed": f"return_transaction_id = {NEW}",
    },
}


@pytest.mark.parametrize(
    ("model", "row", "rule", "moves"),
    [
        (Payment, "open", "payment_moves_forward", PAYMENT_MOVES),
        (Refund, "refund", "refund_moves_forward", REFUND_MOVES),
        (Payout, "payout", "payout_moves_forward", PAYOUT_MOVES),
    ],
)
def test_a_state_is_only_left_for_the_next(
    scene: Scene, model: type[Model], row: str, rule: str, moves: Mapping[str, Sequence[str]]
) -> None:
    status: Any = model._meta.get_field("status")
    assert set(moves) == {value for value, _ in status.flatchoices}
    posted = _POSTED[model._meta.db_table]

    taken: dict[str, list[str]] = {before: [] for before in moves}
    for before in moves:
        # What was deposited has its posting, and nothing else has it.
        of = "payment" if before in ("deposited", "refunded", "reversed") else row
        there = ", ".join(filter(None, [f"status = '{before}'", posted.get(before)]))
        led_up = f"SET LOCAL session_replication_role = replica; {scene.change(of, there)}"
        for then in moves:
            move = scene.change(of, f"status = '{then}'")
            by = scene.refusal(f"{led_up}; SET LOCAL session_replication_role = origin; {move}")
            if then != before and by != rule:
                taken[before].append(then)

    assert {name: sorted(each) for name, each in taken.items()} == {
        name: sorted(each) for name, each in moves.items()
    }
