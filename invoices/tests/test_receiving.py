"""
Money that comes for an invoice: where it goes, what is too much of it, and what a settlement
account has of it. Also the scenes that the other tests of invoices' money play.
"""

import io
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts.models import Account
from accounts.services import close_account, freeze_account, unfreeze_account
from core.errors import IdempotencyConflict, InvalidState
from identity.models import Tenant
from invoices import services
from invoices.errors import InvoiceNotPayable, NotEnoughCredit, PaymentInProgress
from invoices.models import Credit, CreditUse, Invoice, Mailing, Receipt
from invoices.services import CreditRefund, EvenSchedule, Interval, MadeCreditNote
from ledger.errors import AccountFrozen
from payments.models import Payment
from payments.services import ask_about_payment
from tests import gateways, invoicing, making
from tests.gateway_scenes import later
from tests.gateways import Sandbox, fresh, steps_at
from tests.invoicing import assert_books_agree, books, draft, issued, line, pay, pay_offline

pytestmark = pytest.mark.django_db(transaction=True)

# The seeds' invoice: what it comes to, and what it leaves in the books beside the money itself.
TOTAL = 1_130_000
HALF = TOTAL // 2
CLAIM = {"revenue": 1_000_000, "tax": 100_000, "fees": 30_000}
SMALL = 113_000


# --- Scenes ---------------------------------------------------------------------------------------


def refunded(invoice: Invoice, amount: int | None = None, reason: str = "x") -> MadeCreditNote:
    """Pay back; at the sandbox a reason of sim:fail or sim:pending is obeyed."""
    return services.refund_invoice(
        tenant_id=invoice.tenant_id,
        invoice_id=invoice.pk,
        amount=amount,
        reason=reason,
        idempotency_key=making.fresh_key(),
        now=timezone.now(),
    )


def credited(invoice: Invoice, amount: int | None = None) -> MadeCreditNote:
    return services.credit_invoice(
        tenant_id=invoice.tenant_id,
        invoice_id=invoice.pk,
        amount=amount,
        reason="x",
        idempotency_key=making.fresh_key(),
        now=timezone.now(),
    )


def credit_paid_back(
    invoice: Invoice, amount: int | None = None, reason: str = "x", **more: Any
) -> CreditRefund:
    values: dict[str, Any] = {"idempotency_key": making.fresh_key(), **more}
    return services.refund_credit(
        tenant_id=invoice.tenant_id,
        invoice_id=invoice.pk,
        amount=amount,
        reason=reason,
        now=timezone.now(),
        **values,
    )


def credit_applied(invoice: Invoice, amount: int | None = None, **more: Any) -> Invoice:
    values: dict[str, Any] = {"idempotency_key": making.fresh_key(), **more}
    return services.apply_credit(
        tenant_id=invoice.tenant_id,
        invoice_id=invoice.pk,
        amount=amount,
        now=timezone.now(),
        **values,
    )


def voided(invoice: Invoice) -> Invoice:
    return services.void_invoice(
        tenant_id=invoice.tenant_id, invoice_id=invoice.pk, reason="x", now=timezone.now()
    )


def page_is_paid(sandbox: Sandbox, payment: Payment) -> Payment:
    """The payer pays on the gateway's page, and we hear of it."""
    sandbox.act(f"payments/{payment.gateway_payment_id}/pay")
    return ask_about_payment(fresh(payment), now=timezone.now())


def charged_back(sandbox: Sandbox, payment: Payment) -> Payment:
    """The card's bank takes the payment back, and we hear of it."""
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
    return ask_about_payment(fresh(payment), now=timezone.now())


def paid_twice(sandbox: Sandbox, tenant: Tenant, by_hand: int = TOTAL, **new: Any) -> Invoice:
    """An invoice whose page is paid after so much came by hand: the rest of it is credit."""
    invoice = issued(tenant, **new)
    opened = invoicing.open_page(invoice)
    pay_offline(invoice, by_hand)
    page_is_paid(sandbox, opened.payment)
    return Invoice.objects.get(pk=invoice.pk)


def refunds_end(sandbox: Sandbox) -> None:
    """The gateway decides what becomes of refunds, and the sweep hears of it."""
    sandbox.advance(60)
    steps_at(later(2))


def state_of(invoice: Invoice) -> tuple[str, int]:
    """Return status and what is due."""
    found = Invoice.objects.get(pk=invoice.pk)
    return str(found.status), found.amount_due


def attention_of(invoice: Invoice) -> str:
    return Invoice.objects.get(pk=invoice.pk).attention


def sum_of_splits(invoice: Invoice) -> list[int]:
    """Return net, tax and fee of all that was received."""
    rows = [row for each in Receipt.objects.filter(invoice=invoice) for row in each.split]
    return [sum(row[place] for row in rows) for place in (1, 2, 3)]


def sound(tenant: Tenant, currency: str = "IDR") -> bool:
    """Hold invoices, credit and ledger against each other."""
    assert_books_agree(tenant, currency)
    for command in ("verify_ledger", "verify_invoices"):
        call_command(command, stdout=io.StringIO())
    return True


@pytest.fixture
def shop(tenant: Tenant, sandbox: Sandbox) -> Tenant:
    """A tenant that takes payments through the sandbox."""
    gateways.add_sandbox(tenant)
    return tenant


# --- Where it goes --------------------------------------------------------------------------------


def test_a_part_is_spread_over_the_oldest_installments_first(shop: Tenant) -> None:
    invoice = issued(shop, schedule=EvenSchedule(3, Interval.MONTHLY))

    pay_offline(invoice, 500_000)

    paid = list(invoice.installments.order_by("number").values_list("amount", "paid_amount"))
    assert paid == [(376_666, 376_666), (376_666, 123_334), (376_668, 0)]
    assert state_of(invoice) == ("partially_paid", 630_000)
    assert books(shop) == {**CLAIM, "receivable": -630_000, "cash": -500_000}
    assert sound(shop)


def test_an_installment_is_paid_ahead_of_those_before_it(shop: Tenant) -> None:
    invoice = issued(shop, schedule=EvenSchedule(3, Interval.MONTHLY))

    pay(invoice, installment=3)

    due = [each.amount_due for each in invoice.installments.order_by("number")]
    assert due == [376_666, 376_666, 0]
    assert sound(shop)


def test_installments_paid_in_any_order_are_the_invoice_to_the_unit(shop: Tenant) -> None:
    invoice = issued(
        shop, lines=[line(99_991, tax_rate="12.3456")], schedule=EvenSchedule(7, Interval.WEEKLY)
    )

    for number in (4, 7, 1):
        pay(invoice, installment=number)
    pay_offline(invoice, 20_001)
    for number in (6, 5, 3):
        pay(invoice, installment=number)

    invoice.refresh_from_db()
    assert invoice.status == "fully_paid"
    assert sum_of_splits(invoice) == [
        invoice.subtotal_amount,
        invoice.total_tax_amount,
        invoice.total_service_fee_amount,
    ]
    assert sound(shop)


def test_money_for_an_installment_goes_there_and_its_rest_to_the_oldest(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop, schedule=EvenSchedule(3, Interval.MONTHLY))
    opened = invoicing.open_page(invoice, installment=3)
    invoice.refresh_from_db()
    # By hand all but the last installment, and 100,000 of it.
    pay_offline(invoice, 853_332)

    page_is_paid(sandbox, opened.payment)

    receipt = Receipt.objects.get(kind="gateway")
    assert (receipt.amount, receipt.applied_amount) == (376_668, 276_668)
    assert [row[0] for row in receipt.split] == [3]
    assert state_of(invoice) == ("fully_paid", 0)
    assert Credit.objects.get().remaining_amount == 100_000
    assert sound(shop)


def test_parts_of_many_payments_are_the_invoices_own_to_the_unit(shop: Tenant) -> None:
    invoice = issued(shop, lines=[line(99_991, tax_rate="12.3456")])

    for amount in (1, 7, 13, 999, 10_000, 33_333):
        pay_offline(invoice, amount)
    pay_offline(invoice, state_of(invoice)[1])

    invoice.refresh_from_db()
    assert invoice.status == "fully_paid"
    assert sum_of_splits(invoice) == [
        invoice.subtotal_amount,
        invoice.total_tax_amount,
        invoice.total_service_fee_amount,
    ]
    assert sound(shop)


def test_a_key_takes_money_once(shop: Tenant) -> None:
    invoice = issued(shop)

    for _ in range(3):
        pay_offline(invoice, 100_000, idempotency_key="one")

    assert Receipt.objects.count() == 1
    assert state_of(invoice) == ("partially_paid", TOTAL - 100_000)
    with pytest.raises(IdempotencyConflict):
        pay_offline(invoice, 100_001, idempotency_key="one")
    assert sound(shop)


def test_nothing_comes_for_a_draft_or_a_voided_invoice_by_hand(shop: Tenant) -> None:
    with pytest.raises(InvalidState):
        pay_offline(draft(shop), 1)
    with pytest.raises(InvalidState):
        pay_offline(voided(issued(shop)), 1)
    assert books(shop) == {}


@pytest.mark.parametrize("number", ["4000000000000002", "4000000000009995"])
def test_a_declined_card_leaves_the_invoice_as_it_was(shop: Tenant, number: str) -> None:
    invoice = issued(shop)

    opened = pay(invoice, number=number)

    assert opened.payment.status == "failed"
    assert state_of(invoice) == ("pending", TOTAL)
    assert not Receipt.objects.exists()
    assert pay(invoice).payment.status == "deposited"
    assert sound(shop)


def test_ten_failures_close_the_invoice_and_staff_open_it_again(shop: Tenant) -> None:
    invoice = issued(shop)
    for _ in range(10):
        pay(invoice, number="4000000000000002")
    assert state_of(invoice) == ("failed", TOTAL)
    with pytest.raises(InvoiceNotPayable):
        pay(invoice)

    services.open_again(tenant_id=shop.pk, invoice_id=invoice.pk, reason="x", now=timezone.now())

    pay(invoice)
    assert state_of(invoice) == ("fully_paid", 0)
    assert sound(shop)


def test_money_that_comes_by_hand_opens_an_invoice_that_failed(shop: Tenant) -> None:
    invoice = issued(shop)
    for _ in range(10):
        pay(invoice, number="4000000000000002")

    pay_offline(invoice, 130_000)

    assert state_of(invoice) == ("partially_paid", 1_000_000)
    assert Invoice.objects.get().failed_attempts == 0
    assert sound(shop)


# --- Too much, and credit -------------------------------------------------------------------------


def test_what_is_too_much_pays_the_next_invoice_and_the_one_after(shop: Tenant) -> None:
    first = issued(shop)
    pay_offline(first, TOTAL + SMALL + 13_000)

    second, third = issued(shop, lines=[line(100_000)]), issued(shop, lines=[line(100_000)])

    assert (state_of(second), state_of(third)) == (("fully_paid", 0), ("partially_paid", 100_000))
    assert Credit.objects.get().remaining_amount == 0
    assert books(shop) == {
        "revenue": 1_200_000,
        "tax": 120_000,
        "fees": 36_000,
        "receivable": -100_000,
        "cash": -1_256_000,
    }
    assert sound(shop)


def test_credit_of_several_invoices_is_used_oldest_first(shop: Tenant) -> None:
    for extra in (5_000, 7_000):
        pay_offline(issued(shop, lines=[line(100_000)]), SMALL + extra)
    # The second has used what the first left.
    assert [each.remaining_amount for each in Credit.objects.order_by("pk")] == [0, 12_000]

    last = issued(shop)

    assert state_of(last) == ("partially_paid", TOTAL - 12_000)
    assert sound(shop)


def test_credit_of_one_customer_is_never_anothers(shop: Tenant) -> None:
    pay_offline(issued(shop), TOTAL + 1_000)

    other = issued(shop, customer=services.Customer(name="Siti", email="siti@example.com"))

    assert state_of(other) == ("pending", TOTAL)
    with pytest.raises(NotEnoughCredit):
        credit_applied(other)
    assert sound(shop)


def test_credit_of_one_currency_is_never_anothers(shop: Tenant) -> None:
    pay_offline(issued(shop), TOTAL + 1_000)

    other = issued(shop, currency="USD")

    assert state_of(other) == ("pending", TOTAL)
    assert sound(shop)
    assert sound(shop, "USD")


def test_credit_without_a_customer_stays_with_its_invoice(shop: Tenant) -> None:
    nobody = services.Customer(name="Somebody")
    pay_offline(issued(shop, customer=nobody), TOTAL + 1_000)

    assert state_of(issued(shop, customer=nobody)) == ("pending", TOTAL)
    assert Credit.objects.get().remaining_amount == 1_000
    assert sound(shop)


def test_credit_is_applied_once_a_key(shop: Tenant) -> None:
    first, second = issued(shop), issued(shop)
    pay_offline(first, TOTAL + 50_000)

    for _ in range(3):
        credit_applied(second, 30_000, idempotency_key="one")

    assert state_of(second) == ("partially_paid", TOTAL - 30_000)
    assert Credit.objects.get().remaining_amount == 20_000
    with pytest.raises(NotEnoughCredit):
        credit_applied(second, 20_001)
    assert sound(shop)


def test_a_key_of_one_invoice_is_refused_for_another(shop: Tenant) -> None:
    first, second = issued(shop), issued(shop)
    pay_offline(issued(shop), TOTAL + 50_000)
    credit_applied(first, 20_000, idempotency_key="one")

    with pytest.raises(IdempotencyConflict):
        credit_applied(second, 20_000, idempotency_key="one")


def test_a_key_of_one_refund_is_refused_for_another_invoices(shop: Tenant) -> None:
    first, second = issued(shop), issued(shop)
    for invoice in (first, second):
        pay_offline(invoice, TOTAL + 50_000)
    credit_paid_back(first, 20_000, idempotency_key="one")

    with pytest.raises(IdempotencyConflict):
        credit_paid_back(second, 20_000, idempotency_key="one")


def test_credit_that_came_by_hand_goes_back_by_hand(shop: Tenant) -> None:
    invoice = issued(shop)
    pay_offline(invoice, TOTAL + 50_000)

    credit_paid_back(invoice, 20_000)

    assert books(shop) == {**CLAIM, "cash": -TOTAL - 30_000, "customer_credit": 30_000}
    assert credit_paid_back(invoice).amount == 30_000
    assert books(shop) == {**CLAIM, "cash": -TOTAL}
    with pytest.raises(NotEnoughCredit):
        credit_paid_back(invoice, 1)
    assert sound(shop)


def test_what_was_paid_by_credit_goes_back_to_credit(shop: Tenant) -> None:
    pay_offline(issued(shop), TOTAL + SMALL)
    second = issued(shop, lines=[line(100_000)])
    assert state_of(second) == ("fully_paid", 0)

    refunded(second)

    assert state_of(second) == ("refunded", 0)
    assert books(shop) == {**CLAIM, "cash": -TOTAL - SMALL, "customer_credit": SMALL}
    assert state_of(issued(shop, lines=[line(100_000)])) == ("fully_paid", 0)
    assert sound(shop)


# --- A settlement account -------------------------------------------------------------------------


def account_with(shop: Tenant) -> tuple[Account, Invoice]:
    account = making.open_account(shop, currency="IDR")
    return account, issued(shop, settlement_account_id=account.pk)


def frozen(account: Account) -> None:
    freeze_account(
        tenant_id=account.tenant_id, account_id=account.pk, reason="x", now=timezone.now()
    )


def thawed(account: Account) -> None:
    unfreeze_account(
        tenant_id=account.tenant_id, account_id=account.pk, reason="x", now=timezone.now()
    )


def test_a_settlement_account_has_what_the_invoice_has_and_no_more(shop: Tenant) -> None:
    account, invoice = account_with(shop)

    pay_offline(invoice, TOTAL + 70_000)

    assert making.balance_of(account) == TOTAL
    assert books(shop) == {
        **CLAIM,
        "cash": -TOTAL - 70_000,
        "passed_on": -TOTAL,
        "customer_credit": 70_000,
    }
    assert sound(shop)


def test_what_a_frozen_settlement_account_cannot_have_waits_and_nothing_is_half_done(
    shop: Tenant,
) -> None:
    account, invoice = account_with(shop)
    frozen(account)

    payment = pay(invoice).payment

    assert (payment.status, payment.deposit_refusal) == ("deposit_pending", "account_frozen")
    assert payment.transaction_id is None
    assert state_of(invoice) == ("pending", TOTAL)
    assert not Receipt.objects.exists()
    assert not Mailing.objects.filter(kind="receipt").exists()
    assert books(shop) == {**CLAIM, "receivable": -TOTAL}
    assert sound(shop)

    steps_at(later(2))
    assert fresh(payment).status == "deposit_pending"
    thawed(account)
    steps_at(later(10))

    assert fresh(payment).status == "deposited"
    assert state_of(invoice) == ("fully_paid", 0)
    assert making.balance_of(account) == TOTAL
    assert books(shop) == {**CLAIM, "settlement": -TOTAL, "passed_on": -TOTAL}
    assert Receipt.objects.count() == 1
    assert sound(shop)


def test_while_money_waits_for_its_account_nobody_else_is_asked_and_nothing_is_voided(
    shop: Tenant,
) -> None:
    account, invoice = account_with(shop)
    frozen(account)
    pay(invoice)

    with pytest.raises(PaymentInProgress):
        pay(invoice)
    with pytest.raises(InvalidState):
        voided(invoice)
    with pytest.raises(InvalidState):
        credited(invoice, 1)
    assert Payment.objects.count() == 1


def test_money_by_hand_for_a_frozen_settlement_account_is_refused_whole(shop: Tenant) -> None:
    account, invoice = account_with(shop)
    frozen(account)

    with pytest.raises(AccountFrozen):
        pay_offline(invoice, TOTAL)

    assert books(shop) == {**CLAIM, "receivable": -TOTAL}
    assert not Receipt.objects.exists()
    assert sound(shop)


def test_what_a_closed_settlement_account_cannot_have_goes_back_and_it_may_be_paid_again(
    shop: Tenant, sandbox: Sandbox
) -> None:
    account, invoice = account_with(shop)
    opened = invoicing.open_page(invoice)
    close_account(tenant_id=shop.pk, account_id=account.pk, reason="x", now=timezone.now())
    payment = page_is_paid(sandbox, opened.payment)
    assert payment.status == "deposit_pending"

    # The policy of days: to the payer again, since no account can have it.
    for days in (8, 8.1):
        steps_at(later(days * 24 * 60))
        sandbox.advance(60)

    assert fresh(payment).status == "refunded"
    assert state_of(invoice) == ("pending", TOTAL)
    assert books(shop) == {**CLAIM, "receivable": -TOTAL}
    assert not CreditUse.objects.exists()
    assert sound(shop)
