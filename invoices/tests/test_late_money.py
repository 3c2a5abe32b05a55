"""
Notifications of payments for invoices: five times, out of order, before the answer, after the
invoice has ended or was paid otherwise. Money is taken once, and nothing of it is lost.
"""

import contextlib
import datetime as dt
from collections.abc import Iterable
from typing import Any

import pytest
from django.utils import timezone

from core.errors import DomainError
from identity.models import Tenant
from invoices import services
from invoices.models import Checkout, Credit, Invoice, Receipt
from invoices.services import EvenSchedule, Interval
from invoices.tests.test_receiving import (
    CLAIM,
    HALF,
    TOTAL,
    attention_of,
    charged_back,
    refunded,
    refunds_end,
    sound,
    state_of,
    voided,
)
from payments.models import GatewayConfiguration, Payment
from payments.services import reconcile
from tests import gateway_scenes as scenes
from tests import gateways, invoicing
from tests.gateway_scenes import NEEDS_3DS, later, open_kinds
from tests.gateways import Sandbox, close_circuit, deliver, fresh, process_events, steps_at
from tests.invoicing import books, issued, pay, pay_offline, payment_of

pytestmark = pytest.mark.django_db(transaction=True)

OUT_OF_ORDER = "4000000000000531"
TWICE = "4000000000000432"
PAID = {**CLAIM, "settlement": -TOTAL}


@pytest.fixture
def line(tenant: Tenant, sandbox: Sandbox) -> GatewayConfiguration:
    return gateways.add_sandbox(tenant)


def opened_page(sandbox: Sandbox, invoice: Invoice, installment: int | None = None) -> Payment:
    """Open a page of a gateway that will not let it be called off."""
    sandbox.fault("http_503", "cancel_payment", times=50)
    return invoicing.open_page(invoice, installment=installment).payment


def holds(notification: dict[str, Any], words: Iterable[str]) -> bool:
    return all(word in notification["body"] for word in words)


def heard_paid(sandbox: Sandbox, line: GatewayConfiguration, payment: Payment) -> None:
    """The page is paid, and the gateway's notification arrives."""
    close_circuit(line)
    sandbox.act(f"payments/{payment.gateway_payment_id}/pay")
    words, count = ('"payment.succeeded"', payment.gateway_payment_id), 1
    while not (found := [row for row in sandbox.notifications(count) if holds(row, words)]):
        count += 1
    assert deliver(found[-1], line).status_code == 200
    process_events()


# --- Once -----------------------------------------------------------------------------------------


def test_five_notifications_are_one_payment(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)
    payment = invoicing.open_page(invoice).payment
    sandbox.act(f"payments/{payment.gateway_payment_id}/pay")
    [told] = [each for each in sandbox.notifications() if "payment.succeeded" in each["body"]]

    for _ in range(5):
        assert deliver(told, line).status_code == 200
        process_events()

    assert Receipt.objects.count() == 1
    assert state_of(invoice) == ("fully_paid", 0)
    assert books(tenant) == PAID
    assert sound(tenant)


@pytest.mark.parametrize("number", [OUT_OF_ORDER, TWICE])
def test_notifications_out_of_order_and_doubled_change_nothing(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant, number: str
) -> None:
    invoice = issued(tenant)
    pay(invoice, number=number)
    sandbox.advance(60)

    for told in reversed(sandbox.notifications(2)):
        assert deliver(told, line).status_code == 200
        process_events()

    assert Receipt.objects.count() == 1
    assert books(tenant) == PAID
    assert open_kinds() == []
    assert sound(tenant)


def test_a_notification_before_the_answer_is_the_payment(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)

    def it_is_heard_of() -> None:
        scenes.heard(sandbox, line, "payment.succeeded")
        assert state_of(invoice) == ("fully_paid", 0)

    with scenes.late_answer(sandbox, it_is_heard_of):
        opened = pay(invoice)

    assert opened.payment.status == "deposited"
    assert Receipt.objects.count() == 1
    assert not Checkout.objects.filter(is_active=True).exists()
    assert books(tenant) == PAID
    assert sound(tenant)


def test_a_lost_answer_is_asked_for_and_taken_once(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)
    pay(invoice, number="4000000000000119")
    assert state_of(invoice) == ("pending", TOTAL)

    for minutes in (2, 10, 30):
        steps_at(later(minutes))
        reconcile(now=later(minutes))

    assert len(sandbox.requests("create_payment")) == 1
    assert Receipt.objects.count() == 1
    assert books(tenant) == PAID
    assert sound(tenant)


def test_a_step_at_the_bank_holds_the_place_and_is_paid_when_it_is_passed(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)
    opened = pay(invoice, number=NEEDS_3DS)
    assert opened.redirect_url

    scenes.paid(sandbox, opened.payment)
    scenes.heard(sandbox, line, "payment.succeeded")

    assert state_of(invoice) == ("fully_paid", 0)
    assert books(tenant) == PAID
    assert sound(tenant)


# --- After the invoice has ended ------------------------------------------------------------------


def test_what_comes_for_a_voided_invoice_is_the_customers_credit(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)
    payment = opened_page(sandbox, invoice)
    voided(invoice)

    heard_paid(sandbox, line, payment)

    assert state_of(invoice) == ("voided", 0)
    assert attention_of(invoice) == "paid_after_void"
    assert Credit.objects.get().remaining_amount == TOTAL
    assert books(tenant) == {"settlement": -TOTAL, "customer_credit": TOTAL}
    assert sound(tenant)
    # And pays the next.
    assert state_of(issued(tenant)) == ("fully_paid", 0)
    assert books(tenant) == PAID
    assert sound(tenant)


def test_what_comes_for_an_expired_invoice_revives_it(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant, expires_at=later(30))
    payment = opened_page(sandbox, invoice)
    services.take_due_steps(now=later(31), limit=10)
    assert state_of(invoice) == ("expired", 0)
    assert books(tenant) == {}

    heard_paid(sandbox, line, payment)

    assert state_of(invoice) == ("fully_paid", 0)
    assert Invoice.objects.get().number == invoice.number
    assert books(tenant) == PAID
    assert sound(tenant)


def test_an_invoice_that_was_revived_and_charged_back_expires_again_and_is_revived_again(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant, expires_at=later(30))
    payment = opened_page(sandbox, invoice)
    services.take_due_steps(now=later(31), limit=10)
    heard_paid(sandbox, line, payment)

    charged_back(sandbox, payment)
    assert state_of(invoice) == ("pending", TOTAL)
    services.take_due_steps(now=later(32), limit=10)
    assert state_of(invoice) == ("expired", 0)
    assert books(tenant) == {}
    pay_offline(invoice, TOTAL)

    assert state_of(invoice) == ("fully_paid", 0)
    assert books(tenant) == {**CLAIM, "cash": -TOTAL}
    assert sound(tenant)


def test_a_part_of_it_revives_an_expired_invoice_too(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant, expires_at=later(30), schedule=EvenSchedule(2, Interval.MONTHLY))
    payment = opened_page(sandbox, invoice, installment=2)
    services.take_due_steps(now=later(31), limit=10)

    heard_paid(sandbox, line, payment)

    assert state_of(invoice) == ("partially_paid", HALF)
    assert books(tenant) == {**CLAIM, "settlement": -HALF, "receivable": -HALF}
    services.take_due_steps(now=later(33), limit=10)
    assert state_of(invoice) == ("partially_paid", HALF)
    assert sound(tenant)


# --- After it was paid otherwise ------------------------------------------------------------------


def test_what_comes_for_a_paid_invoice_is_credit(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)
    payment = opened_page(sandbox, invoice)
    pay_offline(invoice, TOTAL)

    heard_paid(sandbox, line, payment)

    assert state_of(invoice) == ("fully_paid", 0)
    assert Credit.objects.get().remaining_amount == TOTAL
    assert books(tenant) == {**PAID, "cash": -TOTAL, "customer_credit": TOTAL}
    assert sound(tenant)


def test_what_comes_for_a_refunded_invoice_is_credit(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)
    payment = opened_page(sandbox, invoice)
    pay_offline(invoice, TOTAL)
    refunded(invoice)
    assert books(tenant) == {}

    heard_paid(sandbox, line, payment)

    assert state_of(invoice) == ("refunded", 0)
    assert Credit.objects.get().remaining_amount == TOTAL
    assert books(tenant) == {"settlement": -TOTAL, "customer_credit": TOTAL}
    assert sound(tenant)


def test_what_comes_through_a_page_that_another_took_the_place_of_is_credit(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)
    payment = opened_page(sandbox, invoice)
    pay(invoice)
    assert Checkout.objects.count() == 2

    heard_paid(sandbox, line, payment)

    assert state_of(invoice) == ("fully_paid", 0)
    assert Credit.objects.get().remaining_amount == TOTAL
    assert books(tenant) == {**CLAIM, "settlement": -2 * TOTAL, "customer_credit": TOTAL}
    assert sound(tenant)


def test_a_page_that_another_takes_the_place_of_is_called_off(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)
    payment = invoicing.open_page(invoice).payment

    pay(invoice)

    assert fresh(payment).status == "failed"
    [page] = sandbox.objects(payment.reference)
    assert page["status"] == "canceled"
    assert Invoice.objects.get().failed_attempts == 0
    assert not Credit.objects.exists()
    assert sound(tenant)


def test_nobody_is_charged_for_what_a_page_was_paid_for_unheard(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)
    payment = invoicing.open_page(invoice).payment
    sandbox.act(f"payments/{payment.gateway_payment_id}/pay")

    with contextlib.suppress(DomainError):
        pay(invoice)

    assert state_of(invoice) == ("fully_paid", 0)
    assert not Credit.objects.exists()
    assert books(tenant) == PAID
    assert sound(tenant)


def test_of_an_installment_paid_unheard_no_more_than_the_rest_is_asked_for(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant, schedule=EvenSchedule(2, Interval.MONTHLY))
    payment = invoicing.open_page(invoice, installment=1).payment
    sandbox.act(f"payments/{payment.gateway_payment_id}/pay")

    # Refused, or asked for the rest alone: never for all of it.
    with contextlib.suppress(DomainError):
        pay(invoice)

    assert not Credit.objects.exists()
    assert sound(tenant)


# --- After it had failed --------------------------------------------------------------------------


def test_a_payment_that_never_arrived_and_arrives_all_the_same_is_taken(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)
    sandbox.fault("timeout_before_commit", "create_payment")
    pay(invoice)
    for minutes in (1.1, 6):
        steps_at(later(minutes))
    assert payment_of(invoice).failure_code == "never_arrived"

    scenes.sent_once_more(sandbox, "create_payment")
    scenes.heard(sandbox, line, "payment.succeeded")

    assert payment_of(invoice).status == "deposited"
    assert state_of(invoice) == ("fully_paid", 0)
    assert books(tenant) == PAID
    assert sound(tenant)


def test_a_payment_that_arrives_after_another_was_made_is_credit(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)
    sandbox.fault("timeout_before_commit", "create_payment")
    pay(invoice)
    for minutes in (1.1, 6):
        steps_at(later(minutes))
    scenes.sent_once_more(sandbox, "create_payment")
    # Nobody has heard of it when the payer tries again.
    pay(invoice)

    scenes.heard(sandbox, line, "payment.succeeded")
    reconcile(now=later(10))

    assert state_of(invoice) == ("fully_paid", 0)
    assert Credit.objects.get().remaining_amount == TOTAL
    assert books(tenant) == {**CLAIM, "settlement": -2 * TOTAL, "customer_credit": TOTAL}
    assert sound(tenant)


def test_a_page_that_expired_and_is_paid_late_is_taken(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)
    sandbox.fault("late_paid_after_expiry", "create_payment")
    sandbox.settle_in(3600)
    payment = invoicing.open_page(invoice).payment
    sandbox.act(f"payments/{payment.gateway_payment_id}/expire")
    steps_at(later(2))
    assert fresh(payment).status == "expired"
    assert not Checkout.objects.filter(is_active=True).exists()

    sandbox.advance(3700)
    scenes.heard(sandbox, line, "payment.succeeded")

    assert state_of(invoice) == ("fully_paid", 0)
    assert books(tenant) == PAID
    assert sound(tenant)


def test_another_amount_than_was_asked_for_is_shown_to_a_person_and_not_taken(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    invoice = issued(tenant)
    sandbox.fault("amount_delta", "create_payment", amount=-1)
    payment = invoicing.open_page(invoice).payment

    heard_paid(sandbox, line, payment)

    assert state_of(invoice) == ("pending", TOTAL)
    assert open_kinds() == ["amount_differs"]
    assert books(tenant) == {**CLAIM, "receivable": -TOTAL}
    assert sound(tenant)


def test_it_is_taken_on_the_day_of_the_tenant(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant
) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(time_zone="Pacific/Kiritimati")
    invoice = issued(tenant, due_date=timezone.now().date() + dt.timedelta(days=3))
    pay(invoice)

    ahead = timezone.now() + dt.timedelta(hours=14)
    assert Receipt.objects.get().received_on == ahead.date()
    refunded(invoice)
    refunds_end(sandbox)
    assert page_is_not_open(invoice)


def page_is_not_open(invoice: Invoice) -> bool:
    return not Checkout.objects.filter(invoice=invoice, is_active=True).exists()
