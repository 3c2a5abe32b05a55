"""
Credit notes and what goes back: owed first, by the way it had come, and what becomes of it where a
gateway refuses. All figures are worked out by hand.
"""

from typing import Any

import pytest
from django.utils import timezone

from accounts.services import freeze_account
from core.errors import IdempotencyConflict, InvalidState
from identity.models import Tenant
from invoices import services
from invoices.errors import CreditExceedsInvoice
from invoices.models import Credit, CreditNote, CreditNoteRefund, CreditUse, Invoice, Receipt
from invoices.services import EvenSchedule, Interval
from invoices.tests.test_receiving import (
    CLAIM,
    HALF,
    TOTAL,
    attention_of,
    credit_paid_back,
    credited,
    paid_twice,
    refunded,
    refunds_end,
    sound,
    state_of,
    voided,
)
from ledger.errors import AccountFrozen, InsufficientFunds
from payments.models import Discrepancy, Refund
from payments.services import resolve_discrepancy
from payments.services.waiting import tell_a_person
from tests import gateway_scenes as scenes
from tests import gateways, making
from tests.gateway_scenes import later
from tests.gateways import Sandbox, close_circuit, fresh, steps_at
from tests.invoicing import books, draft, issued, line, pay, pay_offline, payment_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shop(tenant: Tenant, sandbox: Sandbox) -> Tenant:
    """A tenant that takes payments through the sandbox."""
    gateways.add_sandbox(tenant)
    return tenant


def notes_add_up(invoice: Invoice) -> bool:
    """Compare what the notes take of net, tax and fee with the invoice, once all is credited."""
    found = Invoice.objects.get(pk=invoice.pk)
    notes = CreditNote.objects.filter(invoice=invoice)
    return (
        sum(note.net_amount for note in notes),
        sum(note.tax_amount for note in notes),
        sum(note.service_fee_amount for note in notes),
    ) == (found.subtotal_amount, found.total_tax_amount, found.total_service_fee_amount)


# --- Credit notes ---------------------------------------------------------------------------------


def test_what_is_owed_is_credited_before_what_was_paid(shop: Tenant) -> None:
    invoice = issued(shop)
    pay_offline(invoice, 500_000)

    note = credited(invoice, 700_000).credit_note

    assert (note.owed_amount, note.refund_amount) == (630_000, 70_000)
    assert state_of(invoice) == ("fully_paid", 0)
    assert books(shop)["cash"] == -430_000
    assert sound(shop)


def test_the_last_installments_are_credited_first(shop: Tenant) -> None:
    invoice = issued(shop, schedule=EvenSchedule(3, Interval.MONTHLY))
    pay_offline(invoice, 100_000)

    credited(invoice, 400_000)

    due = [each.amount_due for each in invoice.installments.order_by("number")]
    assert due == [276_666, 353_334, 0]
    assert state_of(invoice) == ("partially_paid", 630_000)
    assert sound(shop)


def test_many_small_notes_take_net_tax_and_fee_back_to_the_unit(shop: Tenant) -> None:
    invoice = issued(shop, lines=[line(99_991, tax_rate="12.3456")])
    pay_offline(invoice, 50_000)

    for amount in (1, 2, 3, 7_777, 60_000):
        credited(invoice, amount)
    credited(invoice)

    assert state_of(invoice) == ("refunded", 0)
    assert notes_add_up(invoice)
    assert books(shop) == {}
    assert sound(shop)


def test_an_unpaid_invoice_is_voided_by_its_last_note(shop: Tenant) -> None:
    invoice = issued(shop)

    credited(invoice, TOTAL - 1)
    assert state_of(invoice) == ("pending", 1)
    credited(invoice, 1)

    assert state_of(invoice) == ("voided", 0)
    assert notes_add_up(invoice)
    assert books(shop) == {}
    assert sound(shop)


def test_a_key_makes_one_note(shop: Tenant) -> None:
    invoice = issued(shop)
    asked: dict[str, Any] = {
        "tenant_id": shop.pk,
        "invoice_id": invoice.pk,
        "reason": "x",
        "idempotency_key": "one",
        "now": timezone.now(),
    }

    made = [services.credit_invoice(amount=100, **asked) for _ in range(3)]

    assert [each.is_replay for each in made] == [False, True, True]
    assert CreditNote.objects.count() == 1
    with pytest.raises(IdempotencyConflict):
        services.credit_invoice(amount=101, **asked)
    with pytest.raises(IdempotencyConflict):
        services.refund_invoice(amount=100, **asked)
    assert sound(shop)


def test_more_than_is_left_is_refused(shop: Tenant) -> None:
    invoice = issued(shop)
    pay_offline(invoice, 500_000)

    for call, amount in ((credited, TOTAL + 1), (refunded, 500_001), (credited, 0), (credited, -1)):
        with pytest.raises(CreditExceedsInvoice):
            call(invoice, amount)

    assert not CreditNote.objects.exists()
    assert sound(shop)


def test_what_is_not_owed_has_no_notes(shop: Tenant) -> None:
    for invoice in (draft(shop), voided(issued(shop))):
        with pytest.raises(InvalidState):
            credited(invoice)
    assert books(shop) == {}


def test_while_a_card_is_charged_what_is_owed_is_not_credited(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    pay(invoice, number="4000000000000119")
    assert payment_of(invoice).status == "unknown"

    with pytest.raises(InvalidState):
        credited(invoice, 1)
    with pytest.raises(InvalidState):
        voided(invoice)

    steps_at(later(2))
    assert state_of(invoice) == ("fully_paid", 0)
    assert sound(shop)


def test_what_was_refunded_stays_credited_and_the_rest_may_be_credited_too(shop: Tenant) -> None:
    invoice = issued(shop)
    pay_offline(invoice, 100_000)
    refunded(invoice)
    assert state_of(invoice) == ("pending", TOTAL - 100_000)

    credited(invoice)

    assert state_of(invoice) == ("refunded", 0)
    assert books(shop) == {}
    assert sound(shop)


def test_a_refund_leaves_what_is_owed_and_it_may_be_paid(shop: Tenant) -> None:
    invoice = issued(shop)
    pay_offline(invoice, 500_000)

    refunded(invoice, 200_000)

    assert state_of(invoice) == ("partially_paid", 630_000)
    pay(invoice)
    assert state_of(invoice) == ("fully_paid", 0)
    assert books(shop)["cash"] == -300_000
    assert books(shop)["settlement"] == -630_000
    assert sound(shop)


# --- Ways back ------------------------------------------------------------------------------------


def test_it_goes_back_by_the_way_it_came_the_last_first(shop: Tenant, sandbox: Sandbox) -> None:
    invoice = issued(shop, schedule=EvenSchedule(2, Interval.MONTHLY))
    pay_offline(invoice, HALF)
    pay(invoice)

    note = refunded(invoice, HALF + 65_000).credit_note

    ways = [(way.receipt.kind, way.amount, way.status) for way in note.refunds.order_by("pk")]
    assert ways == [("gateway", HALF, "pending"), ("offline", 65_000, "succeeded")]
    refunds_end(sandbox)
    assert CreditNoteRefund.objects.get(receipt__kind="gateway").status == "succeeded"
    assert books(shop)["cash"] == -500_000
    assert "settlement" not in books(shop)
    assert sound(shop)


def test_several_refunds_of_one_payment_are_never_more_than_it(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    payment = pay(invoice).payment

    for amount in (300_000, 400_000):
        refunded(invoice, amount)
    refunded(invoice)
    refunds_end(sandbox)

    assert fresh(payment).status == "refunded"
    assert sorted(Refund.objects.values_list("amount", flat=True)) == [300_000, 400_000, 430_000]
    assert state_of(invoice) == ("refunded", 0)
    assert notes_add_up(invoice)
    assert books(shop) == {}
    assert sound(shop)


def test_a_settlement_account_without_the_money_refuses_the_refund_whole(shop: Tenant) -> None:
    account = making.open_account(shop, currency="IDR")
    invoice = issued(shop, settlement_account_id=account.pk)
    pay(invoice)
    making.transfer(account, making.open_account(shop, currency="IDR"), 1)
    before = books(shop)

    with pytest.raises(InsufficientFunds):
        refunded(invoice)

    assert (CreditNote.objects.count(), Refund.objects.count()) == (0, 0)
    assert state_of(invoice) == ("fully_paid", 0)
    assert books(shop) == before
    refunded(invoice, TOTAL - 1)
    assert making.balance_of(account) == 0
    assert sound(shop)


def test_a_frozen_settlement_account_refuses_the_refund_whole(shop: Tenant) -> None:
    account = making.open_account(shop, currency="IDR")
    invoice = issued(shop, settlement_account_id=account.pk)
    pay(invoice)
    freeze_account(tenant_id=shop.pk, account_id=account.pk, reason="x", now=timezone.now())

    with pytest.raises(AccountFrozen):
        refunded(invoice, 1)

    assert not Refund.objects.exists()
    assert sound(shop)


# --- A gateway that refuses -----------------------------------------------------------------------


def test_a_refund_that_the_gateway_fails_later_becomes_credit(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    pay(invoice)
    refunded(invoice, reason="sim:fail")

    refunds_end(sandbox)

    assert CreditNoteRefund.objects.get().status == "failed"
    assert state_of(invoice) == ("refunded", 0)
    assert attention_of(invoice) == "refund_failed"
    assert books(shop) == {"settlement": -TOTAL, "customer_credit": TOTAL}
    assert sound(shop)
    # And pays the customer's next.
    assert state_of(issued(shop)) == ("fully_paid", 0)
    assert books(shop) == {**CLAIM, "settlement": -TOTAL}
    assert sound(shop)


def test_a_refund_that_the_gateway_refuses_at_once_becomes_credit(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    scenes.given_back_by_hand(sandbox, pay(invoice).payment)

    refunded(invoice)

    assert Refund.objects.get().status == "failed"
    assert state_of(invoice) == ("refunded", 0)
    assert books(shop) == {"settlement": -TOTAL, "customer_credit": TOTAL}
    assert sound(shop)


def test_a_refund_whose_answer_is_lost_is_made_once(shop: Tenant, sandbox: Sandbox) -> None:
    invoice = issued(shop)
    pay(invoice)
    sandbox.fault("timeout_after_commit", "refund", times=3)
    refunded(invoice, 130_000)
    sandbox.no_faults()
    close_circuit(payment_of(invoice).configuration)

    refunds_end(sandbox)
    for minutes in (10, 30):
        steps_at(later(minutes))

    refund = Refund.objects.get()
    assert refund.status == "succeeded"
    assert len(sandbox.objects(refund.reference)) == 1
    assert books(shop)["settlement"] == -1_000_000
    assert sound(shop)


def test_of_a_failed_refund_the_settlement_account_has_nothing_again(
    shop: Tenant, sandbox: Sandbox
) -> None:
    account = making.open_account(shop, currency="IDR")
    invoice = issued(shop, settlement_account_id=account.pk)
    pay(invoice)
    refunded(invoice, 130_000, "sim:fail")

    refunds_end(sandbox)

    assert making.balance_of(account) == 1_000_000
    assert books(shop) == {
        "revenue": 884_955,
        "tax": 88_497,
        "fees": 26_548,
        "settlement": -TOTAL,
        "passed_on": -1_000_000,
        "customer_credit": 130_000,
    }
    assert sound(shop)


def test_the_credit_of_a_failed_refund_may_be_paid_back(shop: Tenant, sandbox: Sandbox) -> None:
    invoice = issued(shop)
    payment = pay(invoice).payment
    refunded(invoice, reason="sim:fail")
    refunds_end(sandbox)

    credit_paid_back(invoice)
    refunds_end(sandbox)

    assert sorted(Refund.objects.values_list("status", flat=True)) == ["failed", "succeeded"]
    assert fresh(payment).status == "refunded"
    assert books(shop) == {}
    assert sound(shop)


def test_credit_whose_refund_fails_is_credit_again(shop: Tenant, sandbox: Sandbox) -> None:
    invoice = paid_twice(sandbox, shop)
    credit_paid_back(invoice, 400_000, "sim:fail")
    assert Credit.objects.get().remaining_amount == TOTAL - 400_000

    refunds_end(sandbox)

    assert CreditUse.objects.get().is_undone
    assert Credit.objects.get().remaining_amount == TOTAL
    assert attention_of(invoice) == "refund_failed"
    assert books(shop)["customer_credit"] == TOTAL
    assert sound(shop)
    assert state_of(issued(shop)) == ("fully_paid", 0)
    assert sound(shop)


@pytest.mark.parametrize("reason", ["sim:fail", "x"])
def test_credit_whose_refund_failed_goes_back_when_it_is_asked_for_again(
    shop: Tenant, sandbox: Sandbox, reason: str
) -> None:
    invoice = paid_twice(sandbox, shop)
    credit_paid_back(invoice, 400_000, "sim:fail")
    refunds_end(sandbox)

    credit_paid_back(invoice, 400_000, reason)

    assert Refund.objects.count() == 2
    assert Credit.objects.get().remaining_amount == TOTAL - 400_000
    assert books(shop)["customer_credit"] == TOTAL - 400_000
    assert sound(shop)


def test_a_difference_of_a_payment_for_an_invoice_is_not_resolved_behind_the_invoices_back(
    shop: Tenant,
) -> None:
    invoice = issued(shop)
    payment = pay(invoice).payment
    tell_a_person(payment, Discrepancy.Kind.AMOUNT_DIFFERS, now=timezone.now(), ours="1")

    with pytest.raises(InvalidState):
        resolve_discrepancy(
            tenant_id=shop.pk,
            discrepancy_id=Discrepancy.objects.get().pk,
            resolution="refunded",
            note="x",
            now=timezone.now(),
        )

    assert Receipt.objects.get().refunded_amount == 0
    assert books(shop) == {**CLAIM, "settlement": -TOTAL}
    assert sound(shop)
