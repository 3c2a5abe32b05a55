"""
kill -9 of what moves an invoice's money: after every statement, every commit and around every call
of a gateway.

Whatever the moment: it is asked for again, the sweeps come by, and there is one charge, one refund,
one receipt, one number; and books and invoices agree.
"""

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.utils import timezone

from identity.models import Tenant
from invoices.errors import InvoiceNotPayable, PaymentInProgress
from invoices.models import Checkout, Credit, CreditNote, Invoice, Receipt
from invoices.services import (
    Choice,
    Customer,
    finalize_invoice,
    open_checkout,
    record_offline_payment,
    refund_invoice,
)
from payments.gateways.port import CardData
from payments.models import Discrepancy, Payment, Refund
from tests import dying, gateways, making
from tests.gateways import GOOD_CARD, Sandbox
from tests.invoicing import assert_books_agree, books, draft, issued, pay
from tests.test_kill_matrix import Mortal, recover

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

TOTAL, OVER = 1_130_000, 70_000
TRIES_MAX = 3
CLAIM = {"revenue": 1_000_000, "tax": 100_000, "fees": 30_000}
# Whose credit pays no other invoice.
NOBODY = Customer(name="Budi")
# Fewer would mean that the harness no longer sees what it should.
MOMENTS_MIN = {"pay": 35, "refund": 35, "pay_offline": 12, "finalize": 8}


# --- What the process does that dies --------------------------------------------------------------


def _pay(order: dict[str, Any]) -> None:
    card = CardData(GOOD_CARD, 12, 2099, "123")
    # Whoever tries again is told that it is paid, or that it is being paid.
    with contextlib.suppress(InvoiceNotPayable, PaymentInProgress):
        open_checkout(token=order["token"], choice=Choice(card=card), now=timezone.now())


def _refund(order: dict[str, Any]) -> None:
    refund_invoice(
        tenant_id=UUID(order["tenant"]),
        invoice_id=UUID(order["invoice"]),
        amount=None,
        reason="x",
        idempotency_key=order["key"],
        now=timezone.now(),
    )


def _pay_offline(order: dict[str, Any]) -> None:
    record_offline_payment(
        tenant_id=UUID(order["tenant"]),
        invoice_id=UUID(order["invoice"]),
        # The rest is credit.
        amount=TOTAL + OVER,
        method="cash",
        received_on=None,
        reference="",
        note="",
        idempotency_key=order["key"],
        now=timezone.now(),
    )


def _finalize(order: dict[str, Any]) -> None:
    finalize_invoice(
        tenant_id=UUID(order["tenant"]), invoice_id=UUID(order["invoice"]), now=timezone.now()
    )


def die_when_told() -> None:
    """Be tests.dying, with these flows; in a process of its own."""
    dying.FLOWS.update(pay=_pay, refund=_refund, pay_offline=_pay_offline, finalize=_finalize)
    dying.main()


_PROGRAM = (
    "import django; django.setup();"
    " from tests.test_invoice_kill import die_when_told; die_when_told()"
)


@pytest.fixture
def mortal(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mortal]:
    start = subprocess.Popen
    # However slow the machine is: only what is killed is to end early.
    monkeypatch.setenv("DATABASE_POOL_TIMEOUT_S", "30")

    def start_ours(_: list[str], **options: Any) -> Any:
        return start([sys.executable, "-c", _PROGRAM], **options)

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", start_ours)
        made = Mortal(sandbox)
    yield made
    made.end()


@pytest.fixture
def shop(tenant: Tenant, sandbox: Sandbox) -> Tenant:
    """A tenant that takes payments through the sandbox."""
    gateways.add_sandbox(tenant)
    return tenant


def order_of(invoice: Invoice) -> dict[str, Any]:
    return {
        "tenant": str(invoice.tenant_id),
        "invoice": str(invoice.pk),
        "token": invoice.token,
        "key": making.fresh_key(),
    }


def times(count: int, each: dict[str, int]) -> dict[str, int]:
    return {role: count * amount for role, amount in each.items()}


# --- At every moment ------------------------------------------------------------------------------


def test_paying_by_card(mortal: Mortal, sandbox: Sandbox, shop: Tenant) -> None:
    def attempt(dies_at: int) -> tuple[int, bool]:
        invoice = issued(shop, customer=NOBODY)
        order = order_of(invoice)
        moments, is_done = mortal.does("pay", dies_at=dies_at, **order)
        recover(sandbox)
        # The payer looks again, and pays if it is not paid.
        for _ in range(TRIES_MAX):
            mortal.does("pay", **order)
            recover(sandbox)
            invoice.refresh_from_db()
            if invoice.status == "fully_paid":
                break

        assert (invoice.status, invoice.amount_due) == ("fully_paid", 0), dies_at
        attempts = Checkout.objects.filter(invoice=invoice)
        payments = Payment.objects.filter(pk__in=attempts.values_list("payment_id"))
        charges = [charge for each in payments for charge in sandbox.objects(each.reference)]
        assert [charge["status"] for charge in charges] == ["succeeded"], dies_at
        assert Receipt.objects.filter(invoice=invoice).count() == 1, dies_at
        assert not attempts.filter(is_active=True).exists(), dies_at
        # One that died before it asked is known to have asked for nothing.
        lost = payments.exclude(status="deposited")
        assert all(each.failure_code == "never_arrived" for each in lost), dies_at
        return moments, is_done

    count = _die_at_every_moment("pay", attempt)
    assert not Credit.objects.exists()
    assert books(shop) == times(count, {**CLAIM, "settlement": -TOTAL})
    _assert_sound(shop)


def test_a_refund_with_its_credit_note(mortal: Mortal, sandbox: Sandbox, shop: Tenant) -> None:
    def attempt(dies_at: int) -> tuple[int, bool]:
        invoice = issued(shop, customer=NOBODY)
        pay(invoice)
        order = order_of(invoice)
        moments, is_done = mortal.does("refund", dies_at=dies_at, **order)
        recover(sandbox)
        mortal.does("refund", **order)
        recover(sandbox)

        invoice.refresh_from_db()
        assert (invoice.status, invoice.refunded_amount) == ("refunded", TOTAL), dies_at
        note = CreditNote.objects.get(invoice=invoice)
        way = note.refunds.get()
        assert (way.amount, way.status) == (TOTAL, "succeeded"), dies_at
        [refund] = Refund.objects.filter(pk__in=[way.refund_id])
        assert [each["status"] for each in sandbox.objects(refund.reference)] == ["succeeded"]
        return moments, is_done

    count = _die_at_every_moment("refund", attempt)
    assert CreditNote.objects.count() == Refund.objects.count() == count
    assert not Credit.objects.exists()
    assert books(shop) == {}
    _assert_sound(shop)


def test_money_by_hand(mortal: Mortal, shop: Tenant) -> None:
    def attempt(dies_at: int) -> tuple[int, bool]:
        invoice = issued(shop, customer=NOBODY)
        order = order_of(invoice)
        moments, is_done = mortal.does("pay_offline", dies_at=dies_at, **order)
        assert Receipt.objects.filter(invoice=invoice).count() in (0, 1), dies_at
        mortal.does("pay_offline", **order)

        invoice.refresh_from_db()
        assert (invoice.status, invoice.overpaid_amount) == ("fully_paid", OVER), dies_at
        assert Receipt.objects.filter(invoice=invoice).count() == 1, dies_at
        assert Credit.objects.get(invoice=invoice).amount == OVER, dies_at
        return moments, is_done

    count = _die_at_every_moment("pay_offline", attempt)
    by_hand = {**CLAIM, "cash": -TOTAL - OVER, "customer_credit": OVER}
    assert books(shop) == times(count, by_hand)
    _assert_sound(shop)


def test_a_finalisation(mortal: Mortal, shop: Tenant) -> None:
    numbers = []

    def attempt(dies_at: int) -> tuple[int, bool]:
        invoice = draft(shop, customer=NOBODY)
        order = order_of(invoice)
        moments, is_done = mortal.does("finalize", dies_at=dies_at, **order)
        mortal.does("finalize", **order)

        invoice.refresh_from_db()
        assert (invoice.status, invoice.amount_due) == ("pending", TOTAL), dies_at
        numbers.append(invoice.number)
        return moments, is_done

    count = _die_at_every_moment("finalize", attempt)
    year = timezone.now().year
    assert numbers == [f"INV-{year}-{number:06d}" for number in range(1, count + 1)]
    assert books(shop) == times(count, {**CLAIM, "receivable": -TOTAL})
    _assert_sound(shop)


def _die_at_every_moment(flow: str, attempt: Callable[[int], tuple[int, bool]]) -> int:
    """Return how many attempts there were, the last of which nobody killed."""
    dies_at, is_done = 0, False
    while not is_done:
        dies_at += 1
        _, is_done = attempt(dies_at)
    assert dies_at - 1 >= MOMENTS_MIN[flow]
    assert not Discrepancy.objects.exists()
    return dies_at


def _assert_sound(shop: Tenant) -> None:
    assert_books_agree(shop)
    for command in ("verify_ledger", "verify_invoices"):
        call_command(command, stdout=io.StringIO())
