"""
What the services refuse before the database must: schedules that do not add up, states that allow
nothing more, and whose things are whose. The database's own rules are attacked in
tests/test_invoice_rules.py.
"""

from typing import Any

import pytest
from django.utils import timezone

from accounts.services import freeze_account, internal_account
from core.errors import AlreadyExists, DomainError, InvalidRequest, InvalidState, NotFound
from identity.models import Tenant
from invoices import services
from invoices.errors import InvoiceNotPayable, ScheduleMismatch
from invoices.models import Checkout, Invoice
from invoices.services import Adjustment, EvenSchedule, Interval
from invoices.tests.test_receiving import (
    TOTAL,
    credit_applied,
    credit_paid_back,
    credited,
    page_is_paid,
    refunded,
    sound,
    state_of,
    voided,
)
from ledger.errors import CurrencyMismatch
from tests import gateways, invoicing, making
from tests.gateways import Sandbox
from tests.invoicing import draft, in_days, issued, new_invoice, pay, pay_offline

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shop(tenant: Tenant, sandbox: Sandbox) -> Tenant:
    """A tenant that takes payments through the sandbox."""
    gateways.add_sandbox(tenant)
    return tenant


def thirds(shop: Tenant) -> Invoice:
    """376,666, the same again, and 376,668."""
    return issued(shop, schedule=EvenSchedule(3, Interval.MONTHLY))


def adjusted(invoice: Invoice, *adjustments: Adjustment) -> Invoice:
    return services.adjust_installments(
        tenant_id=invoice.tenant_id,
        invoice_id=invoice.pk,
        adjustments=adjustments,
        now=timezone.now(),
    )


def rows_of(invoice: Invoice) -> list[tuple[int, int, int]]:
    found = invoice.installments.order_by("number")
    return [(each.net_amount, each.tax_amount, each.service_fee_amount) for each in found]


# --- Schedules ------------------------------------------------------------------------------------


def test_unpaid_installments_change_and_net_tax_and_fee_stay_whole(shop: Tenant) -> None:
    invoice = thirds(shop)
    pay_offline(invoice, 376_666)

    adjusted(invoice, Adjustment(2, amount=753_333), Adjustment(3, amount=1))

    rows = rows_of(invoice)
    assert [sum(row) for row in rows] == [376_666, 753_333, 1]
    assert [sum(row[place] for row in rows) for place in range(3)] == [1_000_000, 100_000, 30_000]
    pay_offline(invoice, 753_334)
    assert state_of(invoice) == ("fully_paid", 0)
    assert sound(shop)


@pytest.mark.parametrize("amount", [376_665, 376_669])
def test_another_sum_is_refused(shop: Tenant, amount: int) -> None:
    with pytest.raises(ScheduleMismatch):
        adjusted(thirds(shop), Adjustment(3, amount=amount))


def test_what_was_paid_on_is_not_adjusted(shop: Tenant) -> None:
    invoice = thirds(shop)
    pay_offline(invoice, 1)

    with pytest.raises(InvalidRequest):
        adjusted(invoice, Adjustment(1, due_date=in_days(30)))
    with pytest.raises(InvalidRequest):
        adjusted(invoice, Adjustment(4, due_date=in_days(99)))


def test_dates_never_go_back(shop: Tenant) -> None:
    invoice = thirds(shop)

    with pytest.raises(InvalidRequest):
        adjusted(invoice, Adjustment(1, due_date=in_days(-1)))
    with pytest.raises(InvalidRequest):
        adjusted(invoice, Adjustment(1, due_date=in_days(300)))


def test_while_a_card_is_charged_nothing_is_adjusted(shop: Tenant) -> None:
    invoice = thirds(shop)
    pay(invoice, installment=1, number="4000000000000119")

    with pytest.raises(InvalidState):
        adjusted(invoice, Adjustment(3, due_date=in_days(300)))


def test_a_page_for_what_was_adjusted_is_closed_and_its_late_money_kept(
    shop: Tenant, sandbox: Sandbox
) -> None:
    invoice = thirds(shop)
    sandbox.fault("http_503", "cancel_payment")
    payment = invoicing.open_page(invoice, installment=3).payment

    adjusted(invoice, Adjustment(2, amount=753_333), Adjustment(3, amount=1))
    assert not Checkout.objects.filter(is_active=True).exists()
    page_is_paid(sandbox, payment)

    # Of the 376,668 its own installment has one, and the oldest the rest.
    due = [each.amount_due for each in invoice.installments.order_by("number")]
    assert due == [0, 753_332, 0]
    assert state_of(invoice) == ("partially_paid", 753_332)
    assert sound(shop)


# --- States ---------------------------------------------------------------------------------------


def test_what_has_ended_is_neither_paid_nor_changed(shop: Tenant) -> None:
    paid, unpaid, gone = issued(shop), voided(issued(shop)), voided(draft(shop))
    pay(paid)

    for invoice in (paid, unpaid, gone):
        with pytest.raises(InvoiceNotPayable):
            pay(invoice)
        with pytest.raises(InvoiceNotPayable):
            credit_applied(invoice)
        with pytest.raises(InvalidState):
            adjusted(invoice, Adjustment(1, due_date=in_days(99)))
    with pytest.raises(InvalidState):
        services.finalize_invoice(tenant_id=shop.pk, invoice_id=gone.pk, now=timezone.now())
    assert sound(shop)


def test_only_drafts_are_written_anew(shop: Tenant) -> None:
    made, final = draft(shop), issued(shop)
    half = new_invoice(lines=[invoicing.line(500_000)])

    changed = services.change_draft(
        tenant_id=shop.pk, invoice_id=made.pk, new=half, now=timezone.now()
    )

    assert changed.total_amount == TOTAL // 2
    with pytest.raises(InvalidState):
        services.change_draft(tenant_id=shop.pk, invoice_id=final.pk, new=half, now=timezone.now())
    services.finalize_invoice(tenant_id=shop.pk, invoice_id=made.pk, now=timezone.now())
    assert sound(shop)


def test_a_voided_invoice_is_voided_once(shop: Tenant) -> None:
    invoice = issued(shop)

    first, again = voided(invoice), voided(invoice)

    assert first.void_transaction_id == again.void_transaction_id
    assert sound(shop)


# --- Whose ----------------------------------------------------------------------------------------


def test_another_tenants_invoice_is_not_there(shop: Tenant, other_tenant: Tenant) -> None:
    theirs = issued(other_tenant)
    # By its id alone, in our name.
    ours = Invoice(pk=theirs.pk, tenant=shop)

    for call in (voided, refunded, credited, credit_paid_back, credit_applied, adjusted):
        with pytest.raises(NotFound):
            call(ours)
    with pytest.raises(NotFound):
        pay_offline(ours, 1)
    assert state_of(theirs) == ("pending", TOTAL)
    assert sound(other_tenant)


def test_a_settlement_account_is_a_customers_own_of_this_currency_and_open(
    shop: Tenant, other_tenant: Tenant
) -> None:
    frozen = making.open_account(shop, currency="IDR")
    freeze_account(tenant_id=shop.pk, account_id=frozen.pk, reason="x", now=timezone.now())
    internal = internal_account(tenant_id=shop.pk, role="cash", currency="IDR", now=timezone.now())
    cases: list[tuple[Any, type[DomainError]]] = [
        (making.open_account(other_tenant, currency="IDR").pk, NotFound),
        (internal, NotFound),
        (making.open_account(shop, currency="USD").pk, CurrencyMismatch),
        (frozen.pk, InvalidState),
    ]

    for account_id, refusal in cases:
        with pytest.raises(refusal):
            draft(shop, settlement_account_id=account_id)


def test_an_external_id_is_taken_once_in_a_tenant(shop: Tenant, other_tenant: Tenant) -> None:
    draft(shop, external_id="order-1")

    with pytest.raises(AlreadyExists):
        draft(shop, external_id="order-1")
    assert draft(other_tenant, external_id="order-1").external_id == "order-1"
