"""
Money that a card's bank takes back: what the invoice, its credit and its settlement account lose,
and that the books agree after each. All figures are worked out by hand.
"""

import pytest
from django.utils import timezone

from accounts.models import Account
from accounts.services import close_account, freeze_account
from identity.models import Tenant
from invoices.models import Credit, CreditNoteRefund, CreditUse, Invoice, Receipt
from invoices.services import EvenSchedule, Interval
from invoices.tests.test_receiving import (
    CLAIM,
    HALF,
    SMALL,
    TOTAL,
    attention_of,
    charged_back,
    credit_paid_back,
    credited,
    page_is_paid,
    paid_twice,
    refunded,
    refunds_end,
    sound,
    state_of,
    voided,
)
from payments.models import Payment, Refund
from payments.services import ask_about_payment
from tests import gateways, invoicing, making
from tests.gateway_scenes import later, open_kinds
from tests.gateways import Sandbox, fresh, steps_at
from tests.invoicing import books, issued, line, pay, pay_offline, payment_of

pytestmark = pytest.mark.django_db(transaction=True)

# What is left of revenue, tax and fees after a credit note of 130,000 on the seeds' invoice:
# 130,000 of 1,130,000 is 14,955 of the 130,000 of tax and fee, of which 11,503 is tax.
AFTER_130_000 = {"revenue": 884_955, "tax": 88_497, "fees": 26_548}


@pytest.fixture
def shop(tenant: Tenant, sandbox: Sandbox) -> Tenant:
    """A tenant that takes payments through the sandbox."""
    gateways.add_sandbox(tenant)
    return tenant


# --- Of what the invoice had ----------------------------------------------------------------------


def test_a_plain_payment_is_owed_again_and_may_be_paid_again(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    payment = pay(invoice).payment

    assert charged_back(sandbox, payment).status == "reversed"

    assert state_of(invoice) == ("pending", TOTAL)
    assert attention_of(invoice) == "charged_back"
    assert books(shop) == {**CLAIM, "receivable": -TOTAL}
    assert sound(shop)

    pay(invoice)
    assert state_of(invoice) == ("fully_paid", 0)
    assert books(shop) == {**CLAIM, "settlement": -TOTAL}
    assert sound(shop)


def test_it_is_taken_back_once_however_often_the_gateway_says_so(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    payment = pay(invoice).payment

    charged_back(sandbox, payment)
    for minutes in (2, 10, 100):
        steps_at(later(minutes))
    for _ in range(3):
        ask_about_payment(fresh(payment), now=timezone.now())

    assert Receipt.objects.get().reversed_amount == TOTAL
    assert books(shop) == {**CLAIM, "receivable": -TOTAL}
    assert sound(shop)


def test_of_an_installment_only_that_is_owed_again(shop: Tenant, sandbox: Sandbox) -> None:
    invoice = issued(shop, schedule=EvenSchedule(2, Interval.MONTHLY))
    first = pay(invoice, installment=1).payment
    pay(invoice, installment=2)

    charged_back(sandbox, first)

    due = {each.number: each.amount_due for each in invoice.installments.all()}
    assert due == {1: HALF, 2: 0}
    assert state_of(invoice) == ("partially_paid", HALF)
    assert books(shop) == {**CLAIM, "receivable": -HALF, "settlement": -HALF}
    assert sound(shop)


def test_what_was_spread_over_installments_is_taken_from_each(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop, schedule=EvenSchedule(2, Interval.MONTHLY))
    pay_offline(invoice, 100_000)
    payment = pay(invoice).payment
    assert payment.amount == TOTAL - 100_000

    charged_back(sandbox, payment)

    due = {each.number: each.amount_due for each in invoice.installments.all()}
    assert due == {1: HALF - 100_000, 2: HALF}
    assert state_of(invoice) == ("partially_paid", TOTAL - 100_000)
    assert books(shop) == {**CLAIM, "receivable": -TOTAL + 100_000, "cash": -100_000}
    assert sound(shop)


def test_of_a_partly_refunded_payment_the_rest_is_owed_again(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    payment = pay(invoice).payment
    refunded(invoice, 130_000)
    refunds_end(sandbox)

    charged_back(sandbox, payment)

    assert state_of(invoice) == ("pending", 1_000_000)
    assert books(shop) == {**AFTER_130_000, "receivable": -1_000_000}
    assert sound(shop)

    pay(invoice)
    assert state_of(invoice) == ("fully_paid", 0)
    assert books(shop) == {**AFTER_130_000, "settlement": -1_000_000}
    refunded(invoice)
    refunds_end(sandbox)
    assert state_of(invoice) == ("refunded", 0)
    assert books(shop) == {}
    assert sound(shop)


@pytest.mark.parametrize("end", ["succeed", "fail"])
def test_a_refund_on_its_way_when_the_rest_is_taken_back_changes_nothing_at_its_end(
    shop: Tenant, sandbox: Sandbox, end: str
) -> None:
    invoice = issued(shop)
    payment = pay(invoice).payment
    refunded(invoice, 130_000, "sim:pending")
    charged_back(sandbox, payment)
    refund = Refund.objects.get()

    sandbox.act(f"refunds/{refund.gateway_refund_id}/{end}")
    steps_at(later(2))

    refund.refresh_from_db()
    assert refund.status == {"succeed": "succeeded", "fail": "failed"}[end]
    assert state_of(invoice) == ("pending", 1_000_000)
    assert not Credit.objects.exists()
    # Paid out and taken back too: 130,000 are missing at the gateway, and a person is told.
    missing = {"settlement": 0} if end == "fail" else {}
    assert {"settlement": 0, **books(shop)} == {
        **AFTER_130_000,
        "receivable": -1_000_000,
        "settlement": 0,
        **missing,
    }
    assert ("refund_differs" in open_kinds()) == (end == "succeed")
    assert sound(shop)


def test_what_was_owed_no_more_stays_so_when_the_payment_is_taken_back(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop, schedule=EvenSchedule(2, Interval.MONTHLY))
    payment = pay(invoice, installment=1).payment
    credited(invoice, HALF)
    assert state_of(invoice) == ("fully_paid", 0)

    charged_back(sandbox, payment)

    assert state_of(invoice) == ("pending", HALF)
    assert books(shop)["receivable"] == -HALF
    assert sound(shop)
    credited(invoice)
    assert state_of(invoice) == ("voided", 0)
    assert books(shop) == {}
    assert sound(shop)


def test_after_it_was_all_taken_back_the_invoice_may_be_voided(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    charged_back(sandbox, pay(invoice).payment)

    voided(invoice)

    assert books(shop) == {}
    assert sound(shop)


# --- Of what was refunded -------------------------------------------------------------------------


def test_of_a_refunded_invoice_nothing_moves_and_a_person_is_told(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    payment = pay(invoice).payment
    refunded(invoice)
    refunds_end(sandbox)
    assert fresh(payment).status == "refunded"

    charged_back(sandbox, payment)

    assert state_of(invoice) == ("refunded", 0)
    assert open_kinds() == ["status_differs"]
    assert books(shop) == {}
    assert sound(shop)


def test_a_refund_refused_after_all_of_it_was_charged_back_leaves_no_credit(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    payment = pay(invoice).payment
    refunded(invoice, reason="sim:pending")
    charged_back(sandbox, payment)

    sandbox.act(f"refunds/{Refund.objects.get().gateway_refund_id}/fail")
    steps_at(later(2))

    assert (fresh(payment).status, Refund.objects.get().status) == ("reversed", "failed")
    assert CreditNoteRefund.objects.get().status == "failed"
    assert state_of(invoice) == ("refunded", 0)
    assert not Credit.objects.exists()
    assert books(shop) == {}
    assert sound(shop)


def test_a_refund_refused_before_the_charge_back_gives_its_credit_up(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    payment = pay(invoice).payment
    refunded(invoice, 130_000, "sim:fail")
    refunds_end(sandbox)
    assert Credit.objects.get().remaining_amount == 130_000

    charged_back(sandbox, payment)

    assert Credit.objects.get().remaining_amount == 0
    assert state_of(invoice) == ("pending", 1_000_000)
    assert books(shop) == {**AFTER_130_000, "receivable": -1_000_000}
    assert sound(shop)


# --- Of what was too much -------------------------------------------------------------------------


def test_credit_that_nobody_used_goes_with_it(shop: Tenant, sandbox: Sandbox) -> None:
    invoice = paid_twice(sandbox, shop)
    assert books(shop) == {
        **CLAIM,
        "cash": -TOTAL,
        "settlement": -TOTAL,
        "customer_credit": TOTAL,
    }

    charged_back(sandbox, payment_of(invoice))

    assert state_of(invoice) == ("fully_paid", 0)
    assert Credit.objects.get().remaining_amount == 0
    assert CreditUse.objects.get().kind == "taken_back"
    assert books(shop) == {**CLAIM, "cash": -TOTAL}
    assert sound(shop)


def test_what_the_invoice_had_is_taken_before_the_credit(shop: Tenant, sandbox: Sandbox) -> None:
    invoice = paid_twice(sandbox, shop, by_hand=1_000_000)
    assert Credit.objects.get().amount == 1_000_000

    charged_back(sandbox, payment_of(invoice))

    assert state_of(invoice) == ("partially_paid", 130_000)
    assert Credit.objects.get().remaining_amount == 0
    assert books(shop) == {**CLAIM, "cash": -1_000_000, "receivable": -130_000}
    assert sound(shop)


def test_credit_that_was_used_in_part_is_missing_in_part(shop: Tenant, sandbox: Sandbox) -> None:
    invoice = paid_twice(sandbox, shop)
    other = issued(shop, lines=[line(100_000)])
    assert state_of(other) == ("fully_paid", 0)

    charged_back(sandbox, payment_of(invoice))

    assert (state_of(invoice), state_of(other)) == (("fully_paid", 0), ("fully_paid", 0))
    assert attention_of(invoice) == "credit_spent_before_charge_back"
    assert Credit.objects.get().remaining_amount == 0
    assert books(shop) == {
        "revenue": 1_100_000,
        "tax": 110_000,
        "fees": 33_000,
        "cash": -TOTAL,
        "suspense": -SMALL,
    }
    assert sound(shop)


def test_credit_that_was_all_used_is_missing_whole(shop: Tenant, sandbox: Sandbox) -> None:
    invoice = paid_twice(sandbox, shop)
    other = issued(shop)
    assert state_of(other) == ("fully_paid", 0)

    charged_back(sandbox, payment_of(invoice))

    assert state_of(other) == ("fully_paid", 0)
    assert attention_of(invoice) == "credit_spent_before_charge_back"
    assert books(shop) == {
        **{name: 2 * amount for name, amount in CLAIM.items()},
        "cash": -TOTAL,
        "suspense": -TOTAL,
    }
    assert sound(shop)


def test_credit_that_went_back_in_part_is_not_taken_twice(shop: Tenant, sandbox: Sandbox) -> None:
    invoice = paid_twice(sandbox, shop)
    credit_paid_back(invoice, 400_000)
    refunds_end(sandbox)

    charged_back(sandbox, payment_of(invoice))

    assert Credit.objects.get().remaining_amount == 0
    assert books(shop) == {**CLAIM, "cash": -TOTAL}
    assert sound(shop)


def test_of_credit_that_went_back_whole_nothing_moves_and_a_person_is_told(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = paid_twice(sandbox, shop)
    credit_paid_back(invoice)
    refunds_end(sandbox)

    charged_back(sandbox, payment_of(invoice))

    assert open_kinds() == ["status_differs"]
    assert books(shop) == {**CLAIM, "cash": -TOTAL}
    assert sound(shop)


def test_a_refund_of_credit_that_is_refused_after_the_charge_back_gives_none_again(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = paid_twice(sandbox, shop)
    credit_paid_back(invoice, 400_000, "sim:pending")
    charged_back(sandbox, payment_of(invoice))

    sandbox.act(f"refunds/{Refund.objects.get().gateway_refund_id}/fail")
    steps_at(later(2))

    assert Refund.objects.get().status == "failed"
    assert Credit.objects.get().remaining_amount == 0
    assert books(shop) == {**CLAIM, "cash": -TOTAL}
    assert sound(shop)


def test_credit_of_a_voided_invoice_goes_with_its_payment(shop: Tenant, sandbox: Sandbox) -> None:
    invoice = issued(shop)
    opened = invoicing.open_page(invoice)
    sandbox.fault("http_503", "cancel_payment")
    voided(invoice)
    page_is_paid(sandbox, opened.payment)
    assert books(shop) == {"settlement": -TOTAL, "customer_credit": TOTAL}

    charged_back(sandbox, opened.payment)

    assert state_of(invoice) == ("voided", 0)
    assert books(shop) == {}
    assert sound(shop)


# --- Of what a settlement account had -------------------------------------------------------------


def account_paid(shop: Tenant) -> tuple[Account, Invoice, Payment]:
    account = making.open_account(shop, currency="IDR")
    invoice = issued(shop, settlement_account_id=account.pk)
    payment = pay(invoice).payment
    assert making.balance_of(account) == TOTAL
    return account, invoice, payment


def test_a_settlement_account_gives_it_back(shop: Tenant, sandbox: Sandbox) -> None:
    account, invoice, payment = account_paid(shop)

    charged_back(sandbox, payment)

    assert making.balance_of(account) == 0
    assert state_of(invoice) == ("pending", TOTAL)
    assert books(shop) == {**CLAIM, "receivable": -TOTAL}
    assert sound(shop)


def test_what_a_settlement_account_lacks_is_missing_in_suspense(
    shop: Tenant, sandbox: Sandbox
) -> None:
    account, invoice, payment = account_paid(shop)
    making.transfer(account, making.open_account(shop, currency="IDR"), 1)

    charged_back(sandbox, payment)

    assert making.balance_of(account) == TOTAL - 1
    assert state_of(invoice) == ("pending", TOTAL)
    assert attention_of(invoice) == "settlement_account_owes"
    assert books(shop) == {**CLAIM, "receivable": -TOTAL, "suspense": -TOTAL}
    assert sound(shop)


def test_of_a_frozen_settlement_account_it_is_missing_in_suspense(
    shop: Tenant, sandbox: Sandbox
) -> None:
    account, invoice, payment = account_paid(shop)
    freeze_account(tenant_id=shop.pk, account_id=account.pk, reason="x", now=timezone.now())

    charged_back(sandbox, payment)

    assert making.balance_of(account) == TOTAL
    assert attention_of(invoice) == "settlement_account_owes"
    assert books(shop) == {**CLAIM, "receivable": -TOTAL, "suspense": -TOTAL}
    assert sound(shop)


def test_of_a_closed_settlement_account_it_is_missing_in_suspense(
    shop: Tenant, sandbox: Sandbox
) -> None:
    account, invoice, payment = account_paid(shop)
    making.transfer(account, making.open_account(shop, currency="IDR"), TOTAL)
    close_account(tenant_id=shop.pk, account_id=account.pk, reason="x", now=timezone.now())

    charged_back(sandbox, payment)

    assert making.balance_of(account) == 0
    assert attention_of(invoice) == "settlement_account_owes"
    assert books(shop) == {**CLAIM, "receivable": -TOTAL, "suspense": -TOTAL}
    assert sound(shop)


def test_of_a_partly_refunded_payment_a_settlement_account_gives_the_rest(
    shop: Tenant, sandbox: Sandbox
) -> None:
    account, invoice, payment = account_paid(shop)
    refunded(invoice, 130_000)
    assert making.balance_of(account) == 1_000_000

    charged_back(sandbox, payment)

    assert making.balance_of(account) == 0
    assert books(shop) == {**AFTER_130_000, "receivable": -1_000_000}
    assert sound(shop)


def test_of_credit_a_settlement_account_gives_nothing(shop: Tenant, sandbox: Sandbox) -> None:
    account = making.open_account(shop, currency="IDR")
    invoice = paid_twice(sandbox, shop, settlement_account_id=account.pk)

    charged_back(sandbox, payment_of(invoice))

    assert making.balance_of(account) == TOTAL
    assert books(shop) == {**CLAIM, "cash": -TOTAL, "passed_on": -TOTAL}
    assert sound(shop)
