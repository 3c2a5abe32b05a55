"""verify_invoices and rebuild_figures: sound books after a busy life, each kind of damage found."""

import contextlib
import datetime as dt
import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from accounts.models import Account
from accounts.services import internal_account
from core.errors import InvalidState
from identity.models import Tenant
from invoices import services
from invoices.models import CreditNoteRefund, DailyFigures, Invoice
from invoices.services.figures import rebuild_figures
from invoices.services.reports import GroupBy, financial_report
from invoices.tests.reports_scenes import BusyLife, charged_back, refund_ends
from ledger.services import Leg, post_journal, reverse_transaction
from payments.models import Refund
from tests import gateways
from tests.gateways import Sandbox
from tests.invoicing import issued, line, pay, pay_offline
from tests.making import at_once, corrupt, fresh_key, open_account

pytestmark = pytest.mark.django_db(transaction=True)


def report(*options: str) -> dict[str, Any]:
    out = io.StringIO()
    with contextlib.suppress(CommandError):
        call_command("verify_invoices", "--json", *options, stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def faults() -> list[tuple[str, str]]:
    return [(each["kind"], each["fault"]) for each in report()["differences"]]


def asked(**more: Any) -> dict[str, Any]:
    return {"idempotency_key": fresh_key(), "now": timezone.now(), **more}


def outstanding(tenant: Tenant) -> dict[str, int]:
    """What the report says is owed at the end of time, by currency."""
    found = financial_report(
        tenant=tenant,
        first_day=dt.date(2020, 1, 1),
        last_day=dt.date(2029, 12, 31),
        group_by=(GroupBy.CURRENCY,),
    )
    return {each.currency: each.amount for each in found.outstanding if each.amount}


def owed(tenant: Tenant) -> dict[str, int]:
    """What the invoices say is owed, by currency."""
    due: dict[str, int] = {}
    for invoice in Invoice.objects.issued().filter(tenant=tenant):
        due[invoice.currency] = due.get(invoice.currency, 0) + invoice.amount_due
    return {currency: amount for currency, amount in due.items() if amount}


def summed(gateway: str, *names: str) -> list[int]:
    """The sums of some figures of a gateway, over all days."""
    sums = DailyFigures.objects.filter(gateway=gateway).aggregate(
        **{f"sum_{name}": Sum(name) for name in names}
    )
    return [int(sums[f"sum_{name}"]) for name in names]


def kept_figures() -> list[tuple[Any, ...]]:
    """The daily figures without their ids, and without days on which nothing is left."""
    names = [field.name for field in DailyFigures._meta.local_fields if field.name != "id"]
    rows = DailyFigures.objects.order_by("tenant", "day", "currency", "gateway").values_list(*names)
    return [row for row in rows if any(row[4:])]


@pytest.fixture
def paying_tenant(tenant: Tenant, sandbox: Sandbox) -> Tenant:
    # Its days begin at other hours than the server's.
    tenant.time_zone = "Asia/Jakarta"
    tenant.save()
    gateways.add_sandbox(tenant)
    return tenant


# --- Sound books ---------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", [0, 2, 4])
def test_the_books_are_right_after_a_busy_life(
    paying_tenant: Tenant, sandbox: Sandbox, seed: int
) -> None:
    life = BusyLife(paying_tenant, sandbox, seed)
    for _ in range(4):
        life.go_on(25)
        assert report()["differences"] == [], life.done
        assert outstanding(paying_tenant) == owed(paying_tenant), life.done


def test_figures_are_rebuilt_as_they_were(paying_tenant: Tenant, sandbox: Sandbox) -> None:
    BusyLife(paying_tenant, sandbox, seed=5).go_on(60)
    before = kept_figures()
    assert len(before) > 3
    connection.cursor().execute("DELETE FROM invoices_dailyfigures")

    call_command("rebuild_figures", stdout=io.StringIO())

    assert kept_figures() == before
    assert report()["ok"]


def test_what_is_right_is_not_rebuilt(paying_tenant: Tenant) -> None:
    pay(issued(paying_tenant))
    assert rebuild_figures(tenant_id=None) == 0


def test_nothing_is_counted_twice_while_figures_are_rebuilt(paying_tenant: Tenant) -> None:
    invoice = issued(paying_tenant, lines=[line(1_000_000, tax_rate="0")], fee_percent=0)
    DailyFigures.objects.update(invoiced_net=0)
    calls = [lambda: pay_offline(invoice, 1_000)] * 10
    rebuilding = [lambda: rebuild_figures(tenant_id=None)] * 3

    results = at_once([*calls[:5], *rebuilding, *calls[5:]])

    assert not [each for each in results if isinstance(each, Exception)]
    assert report()["differences"] == []
    assert DailyFigures.objects.get(gateway="offline").received_net == 10_000


def test_only_the_named_tenants_figures_are_rebuilt(
    paying_tenant: Tenant, other_tenant: Tenant
) -> None:
    issued(paying_tenant)
    issued(other_tenant)
    DailyFigures.objects.update(invoices=7)

    call_command("rebuild_figures", "--tenant", str(other_tenant.pk), stdout=io.StringIO())

    assert DailyFigures.objects.get(tenant=other_tenant).invoices == 1
    assert DailyFigures.objects.get(tenant=paying_tenant).invoices == 7


# --- What becomes of the figures, one thing at a time --------------------------------------------
def test_a_charge_back_takes_what_was_received(paying_tenant: Tenant, sandbox: Sandbox) -> None:
    opened = pay(issued(paying_tenant))
    charged_back(sandbox, opened.payment)

    assert summed("sandbox", "received_net", "received_tax", "received_fees") == [0, 0, 0]
    assert outstanding(paying_tenant) == {"IDR": 1_130_000}
    assert report()["ok"]


def test_a_refund_that_fails_has_gone_back_as_credit(
    paying_tenant: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(paying_tenant)
    pay(invoice)
    services.refund_invoice(
        tenant_id=paying_tenant.pk,
        invoice_id=invoice.pk,
        amount=None,
        reason="sim:pending",
        **asked(),
    )
    refund_ends(sandbox, Refund.objects.get(), "fail")

    assert CreditNoteRefund.objects.get().status == "failed"
    assert summed("sandbox", "refunded_net", "refunds", "overpaid") == [0, 0, 0]
    assert summed("credit", "refunded_net", "refunds", "overpaid") == [1_000_000, 1, 0]
    # Paid, and taken back by a credit note: nothing of it is owed.
    assert outstanding(paying_tenant) == {}
    assert report()["ok"]


def test_of_several_refunds_the_first_fails(paying_tenant: Tenant, sandbox: Sandbox) -> None:
    invoice = issued(paying_tenant, lines=[line(10, tax_rate="30")], fee_percent=0)
    pay(invoice)
    for amount in (2, 11):
        services.refund_invoice(
            tenant_id=paying_tenant.pk,
            invoice_id=invoice.pk,
            amount=amount,
            reason="sim:pending",
            **asked(),
        )
    refund_ends(sandbox, Refund.objects.order_by("pk")[0], "fail")

    # Of the first 2 of 10 + 3: net 2, tax 0. Of the other 11: net 8, tax 3.
    assert report()["differences"] == []
    assert summed("sandbox", "refunded_net", "refunded_tax") == [8, 3]


def test_what_was_paid_back_is_credited_to_the_end(paying_tenant: Tenant) -> None:
    invoice = issued(paying_tenant)
    pay_offline(invoice, 500_000)
    of_it: dict[str, Any] = {"tenant_id": paying_tenant.pk, "invoice_id": invoice.pk}
    services.refund_invoice(**of_it, amount=500_000, reason="Returned", **asked())
    services.credit_invoice(**of_it, amount=None, reason="All of it", **asked())

    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_due) == ("refunded", 0)
    assert report()["ok"]


def test_what_took_a_voided_invoice_out_of_the_books_is_not_reversed(
    paying_tenant: Tenant,
) -> None:
    invoice = issued(paying_tenant)
    voided = services.void_invoice(
        tenant_id=paying_tenant.pk, invoice_id=invoice.pk, reason="Mistake", now=timezone.now()
    )
    assert voided.void_transaction_id is not None
    with pytest.raises(InvalidState):
        reverse_transaction(
            tenant_id=paying_tenant.pk,
            transaction_id=voided.void_transaction_id,
            reason="x",
            idempotency_key=fresh_key(),
        )


# --- Damage --------------------------------------------------------------------------------------
@pytest.fixture
def life(paying_tenant: Tenant, sandbox: Sandbox) -> Tenant:
    """One of each: paid by card in part, overpaid, from credit, paid back, voided, expired."""
    settlement = open_account(paying_tenant, currency="IDR")
    first = issued(paying_tenant, settlement_account_id=settlement.pk)
    pay(first)
    pay_offline(issued(paying_tenant), 1_500_000)
    # Paid from the credit that this left.
    issued(paying_tenant)
    services.refund_invoice(
        tenant_id=paying_tenant.pk,
        invoice_id=first.pk,
        amount=100_000,
        reason="Returned",
        **asked(),
    )
    services.void_invoice(
        tenant_id=paying_tenant.pk,
        invoice_id=issued(paying_tenant).pk,
        reason="Mistake",
        now=timezone.now(),
    )
    assert report()["ok"]
    return paying_tenant


@pytest.mark.parametrize(
    ("role", "by"),
    [
        ("receivable", -5),
        ("revenue", 5),
        ("tax", 5),
        ("fees", 5),
        ("customer_credit", 5),
        ("passed_on", -5),
    ],
)
def test_an_account_that_says_something_else_is_found(life: Tenant, role: str, by: int) -> None:
    corrupt(
        "UPDATE accounts_account SET balance = balance + %s"
        " WHERE tenant_id = %s AND role = %s AND currency = 'IDR'",
        by,
        life.pk,
        role,
    )
    found = report()["differences"]
    assert [each["kind"] for each in found] == ["account"]
    assert found[0]["row"] == f"{life.pk} IDR {role.replace('_', ' ')}"


DAMAGE = {
    "receipt": (
        "UPDATE invoices_receipt SET reversed_amount = 1 WHERE kind = 'offline'",
        [("invoice", "paid 1130000, its receipts say 1129999")],
    ),
    "paid": (
        "UPDATE invoices_invoice SET paid_amount = paid_amount - 1, status = 'partially_paid'"
        " WHERE overpaid_amount > 0",
        [("invoice", "paid 1129999, its receipts say 1130000")],
    ),
    "overpaid": (
        "UPDATE invoices_invoice SET overpaid_amount = 1 WHERE overpaid_amount > 0",
        [("invoice", "overpaid 1, kept as credit 370000")],
    ),
    "refunded": (
        "UPDATE invoices_receipt SET refunded_amount = 99999 WHERE refunded_amount > 0",
        [
            ("invoice", "refunded 100000, its receipts say 99999"),
            ("credit note", "refunded 99999, its ways back say 100000"),
        ],
    ),
    "credited": (
        "UPDATE invoices_invoice SET credited_amount = 1 WHERE status = 'partially_paid'",
        [("invoice", "credited 1, its credit notes say 0")],
    ),
    "credit note": (
        "UPDATE invoices_creditnote SET amount = 99999, refund_amount = 99999,"
        " net_amount = net_amount - 1",
        [
            ("invoice", "credited 100000, its credit notes say 99999"),
            ("credit note", "refunds 99999, its ways back say 100000"),
        ],
    ),
    "credit": (
        "UPDATE invoices_credit SET used_amount = used_amount - 1",
        [("credit", "used 369999, its uses say 370000")],
    ),
    "installment": (
        "UPDATE invoices_installment SET paid_amount = 1 WHERE paid_amount = 370000",
        [("invoice", "its installments are not all of it")],
    ),
    "line": (
        "DELETE FROM invoices_lineitem WHERE id = (SELECT min(id) FROM invoices_lineitem)",
        [("invoice", "its lines are not all of it")],
    ),
    "number missing": (
        "UPDATE invoices_invoice SET number = replace(number, '-000001', '-000099')"
        " WHERE number LIKE '%%-000001'",
        [
            ("number series", "95 numbers are missing up to 99"),
            ("number series", "has come to 4, the highest number is 99"),
        ],
    ),
    "number of no series": (
        "UPDATE invoices_invoice SET number = 'INV-1' WHERE number LIKE '%%-000004'",
        [
            ("number series", "1 numbers are of no series"),
            ("number series", "has come to 4, the highest number is 3"),
        ],
    ),
    "series ahead": (
        "UPDATE invoices_numberseries SET last = 9 WHERE kind = 'CN'",
        [("number series", "has come to 9, the highest number is 1")],
    ),
    "figures": (
        "UPDATE invoices_dailyfigures SET received_tax = received_tax + 3, payments = 0"
        " WHERE gateway = 'sandbox'",
        [
            ("daily figures", "payments: 1 is missing"),
            ("daily figures", "received_tax: 3 too much"),
        ],
    ),
    "figures lost": (
        "DELETE FROM invoices_dailyfigures WHERE gateway = 'credit'",
        [
            ("daily figures", "payments: 1 is missing"),
            ("daily figures", "received_net: 327434 is missing"),
            ("daily figures", "received_tax: 32743 is missing"),
            ("daily figures", "received_fees: 9823 is missing"),
        ],
    ),
    "figures of nothing": (
        "UPDATE invoices_dailyfigures SET currency = 'USD' WHERE gateway = 'credit'",
        [
            ("daily figures", "payments: 1 is missing"),
            ("daily figures", "payments: 1 too much"),
        ],
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.usefixtures("life")
def test_damage_is_found(damage: str) -> None:
    statement, wanted = DAMAGE[damage]
    corrupt(statement)
    found = faults()
    assert [each for each in wanted if each not in found] == [], found


@pytest.mark.usefixtures("life")
def test_a_number_given_twice_is_found() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_indexdef('invoice_number_unique'::regclass)")
        [definition] = cursor.fetchone()
        cursor.execute("DROP INDEX invoice_number_unique")
        try:
            corrupt(
                "UPDATE invoices_invoice SET number = replace(number, '-000002', '-000001')"
                " WHERE number LIKE '%%-000002'"
            )
            assert ("number series", "1 numbers are given twice") in faults()
        finally:
            corrupt(
                "UPDATE invoices_invoice SET number = number || 'x' WHERE id ="
                " (SELECT max(id::text)::uuid FROM invoices_invoice WHERE number LIKE '%%-000001')"
            )
            cursor.execute(definition)


def test_a_journal_by_hand_is_no_difference(life: Tenant) -> None:
    revenue, cash = (
        internal_account(tenant_id=life.pk, role=role, currency="IDR", now=timezone.now())
        for role in (Account.Role.REVENUE, Account.Role.CASH)
    )
    post_journal(
        tenant_id=life.pk,
        currency="IDR",
        legs=(Leg(revenue, -1_000), Leg(cash, 1_000)),
        idempotency_key=fresh_key(),
    )
    assert report()["ok"]


def test_a_claim_that_somebody_put_back_is_found(life: Tenant) -> None:
    voided = Invoice.objects.get(tenant=life, status="voided")
    assert voided.void_transaction_id is not None
    reverse_transaction(
        tenant_id=life.pk,
        transaction_id=voided.void_transaction_id,
        reason="x",
        idempotency_key=fresh_key(),
        is_owner=True,
    )
    assert {each["row"].rsplit(" ", 1)[1] for each in report()["differences"]} == {
        "receivable",
        "revenue",
        "tax",
        "fees",
    }


@pytest.mark.usefixtures("life")
def test_the_command_prints_a_table_and_fails() -> None:
    out = io.StringIO()
    call_command("verify_invoices", stdout=out)
    assert "No differences." in out.getvalue()
    corrupt("UPDATE invoices_dailyfigures SET payments = 3 WHERE gateway = 'sandbox'")

    with pytest.raises(CommandError) as failed:
        call_command("verify_invoices", "--limit", "1", stdout=out)

    assert failed.value.returncode == 1
    assert "payments: 2 too much" in out.getvalue()
    assert "rebuild_figures" in out.getvalue()


def test_only_the_named_tenant_is_looked_at(life: Tenant, other_tenant: Tenant) -> None:
    issued(other_tenant)
    DailyFigures.objects.filter(tenant=life).update(invoices=9)
    assert report("--tenant", str(other_tenant.pk))["ok"]
    assert not report("--tenant", life.name)["ok"]


@pytest.mark.parametrize("name", ["Nobody", "00000000-0000-0000-0000-000000000000"])
def test_an_unknown_tenant_is_refused(tenant: Tenant, name: str) -> None:
    with pytest.raises(CommandError, match="There is no tenant"):
        call_command("verify_invoices", "--tenant", name)
