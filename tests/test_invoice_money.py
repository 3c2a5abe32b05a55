"""
Stories of an invoice, told at random and against a model that knows no database: after each step
status, dues, credit and every account of the tenant are what the model says. And what nobody may do
to an invoice's postings past the invoice.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts.models import Account
from core.errors import DomainError, InvalidState
from identity.models import Tenant
from identity.services import create_tenant
from invoices import services
from invoices.models import Checkout, Invoice, Receipt
from invoices.services import Customer, EvenSchedule, Interval
from ledger.models import Transaction
from ledger.services import reverse_transaction
from payments.models import Payment
from payments.services import ask_about_payment
from tests import gateways, invoicing, making
from tests.gateway_scenes import later
from tests.gateways import Sandbox, fresh, steps_at
from tests.invoicing import assert_books_agree, books, issued, pay, pay_offline

pytestmark = pytest.mark.django_db(transaction=True)

NET, TAX, FEE = 1_000_000, 100_000, 30_000
TOTAL = NET + TAX + FEE
# Credit stays with the invoice.
NOBODY = Customer(name="Budi")


# --- The model ------------------------------------------------------------------------------------


@dataclass
class Came:
    """Money that came: what the invoice had of it, what is credit of it, what is gone of either."""

    is_card: bool
    amount: int
    applied: int
    # Refunded or charged back, of what was applied.
    refunded: int = 0
    reversed: int = 0
    credit: int = 0
    is_charged_back: bool = False

    @property
    def kept(self) -> int:
        return self.applied - self.refunded - self.reversed

    @property
    def left_at_gateway(self) -> int:
        return 0 if self.is_charged_back else self.kept + self.credit


@dataclass
class Model:
    came: list[Came] = field(default_factory=list)
    # By credit notes: of what was owed, and of what was paid.
    owed_no_more: int = 0
    went_back: int = 0
    is_voided: bool = False
    cash: int = 0
    settlement: int = 0
    # Whether a settlement account has what the invoice has.
    is_passed_on: bool = False

    @property
    def kept(self) -> int:
        return sum(each.kept for each in self.came)

    @property
    def paid(self) -> int:
        return sum(each.applied - each.reversed for each in self.came)

    @property
    def due(self) -> int:
        return 0 if self.is_voided else TOTAL - self.owed_no_more - self.paid

    @property
    def credit(self) -> int:
        return sum(each.credit for each in self.came)

    @property
    def status(self) -> str:
        if self.is_voided or (not self.due and not self.kept and not self.paid):
            return "voided"
        if self.due:
            return "partially_paid" if self.kept else "pending"
        return "fully_paid" if self.kept else "refunded"

    def receive(self, amount: int, *, is_card: bool) -> None:
        applied = min(amount, self.due)
        self.came.append(Came(is_card, amount, applied, credit=amount - applied))
        if is_card:
            self.settlement -= amount
        else:
            self.cash -= amount

    def pay_back(self, amount: int, *, is_failing: bool = False) -> None:
        """The last that came first, by the way it came; what the gateway fails to, is credit."""
        self.went_back += amount
        for each in reversed(self.came):
            piece = min(amount, each.kept)
            each.refunded += piece
            amount -= piece
            if each.is_card and is_failing:
                each.credit += piece
            else:
                self._out(each, piece)

    def pay_credit_back(self, amount: int, *, is_failing: bool = False) -> None:
        """The oldest first; what the gateway fails to, stays credit."""
        for each in self.came:
            piece = min(amount, each.credit)
            amount -= piece
            if not (each.is_card and is_failing):
                each.credit -= piece
                self._out(each, piece)

    def charge_back(self, each: Came) -> None:
        self._out(each, each.left_at_gateway)
        each.reversed += each.kept
        each.credit = 0
        each.is_charged_back = True

    def _out(self, each: Came, amount: int) -> None:
        if each.is_card:
            self.settlement += amount
        else:
            self.cash += amount

    def books(self) -> dict[str, int]:
        credited = TOTAL if self.is_voided else self.owed_no_more + self.went_back
        charges = math.floor(Fraction((TAX + FEE) * credited, TOTAL))
        tax = math.floor(Fraction(TAX * charges, TAX + FEE))
        had = {
            "receivable": -self.due,
            "revenue": NET - (credited - charges),
            "tax": TAX - tax,
            "fees": FEE - (charges - tax),
            "customer_credit": self.credit,
            "cash": self.cash,
            "settlement": self.settlement,
            "passed_on": -self.kept if self.is_passed_on else 0,
        }
        return {role: balance for role, balance in had.items() if balance}


# --- What is done to both -------------------------------------------------------------------------


@dataclass
class Story:
    """An invoice of a new tenant, and its model."""

    sandbox: Sandbox
    tenant: Tenant
    invoice: Invoice
    account: Account | None = None
    model: Model = field(default_factory=Model)

    def do(self, act: str, share: Fraction) -> None:
        """Have it done with this share of what is possible at most; refused where it must be."""
        getattr(self, act)(share)
        if act != "by_hand":
            self.sandbox.advance(60)
            steps_at(later(2))
        self.compare()

    def by_hand(self, share: Fraction) -> None:
        amount = 1 + math.floor(share * TOTAL)
        if self.refuses(self.model.status == "voided", pay_offline, self.invoice, amount):
            return
        self.model.receive(amount, is_card=False)

    def by_card(self, share: Fraction) -> None:
        due = self.model.due
        if not self.refuses(not due, pay, self.invoice):
            self.model.receive(due, is_card=True)

    def late_by_page(self, share: Fraction) -> None:
        """Somebody pays by hand while the page is open, and then the page is paid too."""
        due = self.model.due
        if self.refuses(not due, invoicing.open_page, self.invoice):
            return
        checkout = Checkout.objects.filter(invoice=self.invoice).latest("attempt")
        payment = Payment.objects.get(pk=checkout.payment_id)
        self.by_hand(share)
        self.sandbox.act(f"payments/{payment.gateway_payment_id}/pay")
        ask_about_payment(fresh(payment), now=timezone.now())
        self.model.receive(due, is_card=True)

    def refund(self, share: Fraction) -> None:
        amount = math.ceil(share * self.model.kept)
        if not self.refuses(not amount, self.note, services.refund_invoice, amount):
            self.model.pay_back(amount)

    def refund_that_fails(self, share: Fraction) -> None:
        amount = math.ceil(share * self.model.kept)
        if not self.refuses(not amount, self.note, services.refund_invoice, amount, "sim:fail"):
            self.model.pay_back(amount, is_failing=True)

    def credit(self, share: Fraction) -> None:
        model = self.model
        amount = math.ceil(share * (model.kept + model.due))
        if not self.refuses(not amount, self.note, services.credit_invoice, amount):
            owed = min(amount, model.due)
            model.owed_no_more += owed
            model.pay_back(amount - owed)

    def credit_back(self, share: Fraction) -> None:
        amount = math.ceil(share * self.model.credit)
        if not self.refuses(not amount, self.note, services.refund_credit, amount):
            self.model.pay_credit_back(amount)

    def credit_back_that_fails(self, share: Fraction) -> None:
        amount = math.ceil(share * self.model.credit)
        if not self.refuses(not amount, self.note, services.refund_credit, amount, "sim:fail"):
            self.model.pay_credit_back(amount, is_failing=True)

    def charged_back(self, share: Fraction) -> None:
        cards = [each for each in self.model.came if each.left_at_gateway and each.is_card]
        if not cards:
            return
        chosen = cards[math.floor(share * (len(cards) - 1))]
        place = [each for each in self.model.came if each.is_card].index(chosen)
        receipts = Receipt.objects.filter(invoice=self.invoice, kind="gateway").order_by("pk")
        [payment] = Payment.objects.filter(pk__in=[receipts[place].payment_id])
        self.sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
        ask_about_payment(payment, now=timezone.now())
        self.model.charge_back(chosen)

    def void(self, share: Fraction) -> None:
        model = self.model
        is_refused = model.paid or model.owed_no_more + model.went_back
        if not self.refuses(bool(is_refused), self.voided):
            model.is_voided = True

    def voided(self) -> None:
        services.void_invoice(
            tenant_id=self.tenant.pk, invoice_id=self.invoice.pk, reason="x", now=timezone.now()
        )

    def note(self, service: Callable[..., Any], amount: int, reason: str = "x") -> None:
        service(
            tenant_id=self.tenant.pk,
            invoice_id=self.invoice.pk,
            amount=amount,
            reason=reason,
            idempotency_key=making.fresh_key(),
            now=timezone.now(),
        )

    def refuses(self, is_refused: bool, call: Callable[..., Any], *args: Any) -> bool:
        """Call it; whether it was refused, which it must be or not."""
        if not is_refused:
            call(*args)
        elif self.model.status != "voided" or call != self.voided:
            with pytest.raises(DomainError):
                call(*args)
        return is_refused

    def compare(self) -> None:
        found = Invoice.objects.get(pk=self.invoice.pk)
        model = self.model
        told = (found.status, found.amount_due, found.paid_amount, found.amount_kept)
        assert told == (model.status, model.due, model.paid, model.kept)
        assert books(self.tenant) == model.books()
        if self.account is not None:
            assert making.balance_of(self.account) == model.kept
        due = sum(each.amount_due for each in found.installments.all())
        assert due == (TOTAL - model.owed_no_more - model.paid)


ACTS = [
    "by_hand",
    "by_card",
    "late_by_page",
    "refund",
    "refund_that_fails",
    "credit",
    "credit_back",
    "credit_back_that_fails",
    "charged_back",
    "void",
]
SHARES = st.one_of(st.just(Fraction(1)), st.fractions(0, 1, max_denominator=997))
STEPS = st.lists(st.tuples(st.sampled_from(ACTS), SHARES), min_size=2, max_size=10)
HALF, ALL = Fraction(1, 2), Fraction(1)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, count=st.integers(1, 4), has_account=st.booleans())
@example(
    steps=[("late_by_page", HALF), ("refund", HALF), ("charged_back", ALL), ("by_card", ALL)],
    count=3,
    has_account=True,
)
@example(
    steps=[
        ("by_card", ALL),
        ("refund", HALF),
        ("charged_back", ALL),
        ("by_card", ALL),
        ("refund", ALL),
    ],
    count=1,
    has_account=False,
)
@example(
    steps=[("late_by_page", ALL), ("credit_back", HALF), ("charged_back", ALL), ("credit", ALL)],
    count=2,
    has_account=True,
)
def test_a_story_ends_as_the_model_says(
    sandbox: Sandbox, steps: list[tuple[str, Fraction]], count: int, has_account: bool
) -> None:
    tenant = create_tenant(name="Kopi Bank", now=timezone.now())
    gateways.add_sandbox(tenant)
    schedule = EvenSchedule(count, Interval.MONTHLY) if count > 1 else None
    account = making.open_account(tenant, currency="IDR") if has_account else None
    invoice = issued(
        tenant,
        customer=NOBODY,
        schedule=schedule,
        settlement_account_id=account.pk if account is not None else None,
    )
    story = Story(sandbox, tenant, invoice, account, Model(is_passed_on=has_account))

    for act, share in steps:
        story.do(act, share)

    assert_books_agree(tenant)
    for command in ("verify_ledger", "verify_invoices"):
        call_command(command, stdout=io.StringIO())


# --- Past the invoice -----------------------------------------------------------------------------


def reversed_by_hand(tenant: Tenant, transaction_id: UUID | None) -> None:
    assert transaction_id is not None
    reverse_transaction(
        tenant_id=tenant.pk,
        transaction_id=transaction_id,
        reason="x",
        idempotency_key=making.fresh_key(),
    )


def test_nobody_reverses_what_an_invoice_posted(tenant: Tenant) -> None:
    invoice = issued(tenant)
    pay_offline(invoice, TOTAL)
    postings = [invoice.transaction_id, Receipt.objects.get().transaction_id]

    for posting in postings:
        with pytest.raises(InvalidState):
            reversed_by_hand(tenant, posting)

    assert_books_agree(tenant)


def test_nobody_reverses_the_end_of_an_invoice(tenant: Tenant) -> None:
    invoice = services.void_invoice(
        tenant_id=tenant.pk, invoice_id=issued(tenant).pk, reason="x", now=timezone.now()
    )

    with pytest.raises(InvalidState), transaction.atomic():
        reversed_by_hand(tenant, invoice.void_transaction_id)

    assert_books_agree(tenant)


@pytest.mark.parametrize("act", ["charge-back", "refund by a gateway", "refund by hand"])
def test_nobody_reverses_what_became_of_an_invoices_money(
    tenant: Tenant, sandbox: Sandbox, act: str
) -> None:
    gateways.add_sandbox(tenant)
    invoice = issued(tenant)
    if act == "refund by hand":
        pay_offline(invoice, TOTAL)
    else:
        payment = pay(invoice).payment
    if act == "charge-back":
        sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
        posting = ask_about_payment(payment, now=timezone.now()).reversal_transaction_id
    else:
        Story(sandbox, tenant, invoice).note(services.refund_invoice, TOTAL)
        posting = last_posting(tenant, "refund")

    with pytest.raises(InvalidState):
        reversed_by_hand(tenant, posting)

    assert_books_agree(tenant)


def last_posting(tenant: Tenant, type_: str) -> UUID:
    return Transaction.objects.filter(tenant=tenant, type=type_).latest("pk").pk
