"""An invoice's life through the services, against the simulated sandbox gateway."""

import datetime as dt

import pytest
from django.utils import timezone

from core.errors import InvalidState
from identity.models import Tenant
from invoices import services
from invoices.errors import InvoiceNotPayable, PaymentInProgress
from invoices.models import Credit, Invoice, Mailing, Receipt
from invoices.services import Customer, EvenSchedule, Interval, NewInstallment
from ledger.services import reverse_transaction
from payments.models import Payment
from payments.services import ask_about_payment
from tests import gateways, invoicing
from tests.gateways import Sandbox
from tests.invoicing import assert_books_agree, books, draft, issued, line, pay, pay_offline
from tests.making import fresh_key, open_account

pytestmark = pytest.mark.django_db(transaction=True)


def late_payment(sandbox: Sandbox, payment: Payment) -> None:
    """Pay on the gateway's page, and have us hear of it."""
    sandbox.act(f"payments/{payment.gateway_payment_id}/pay")
    ask_about_payment(Payment.objects.get(pk=payment.pk), now=timezone.now())


@pytest.fixture
def paying_tenant(tenant: Tenant, sandbox: Sandbox) -> Tenant:
    gateways.add_sandbox(tenant)
    return tenant


def test_it_works(paying_tenant: Tenant) -> None:
    invoice = issued(paying_tenant)
    assert invoice.number == f"INV-{timezone.now().year}-000001"
    assert books(paying_tenant) == {
        "receivable": -1_130_000,
        "revenue": 1_000_000,
        "tax": 100_000,
        "fees": 30_000,
    }

    opened = pay(invoice)

    invoice.refresh_from_db()
    assert opened.payment.status == Payment.Status.DEPOSITED
    assert opened.payment.reference == f"{invoice.number}-1"
    assert (invoice.status, invoice.amount_due) == (Invoice.Status.FULLY_PAID, 0)
    assert books(paying_tenant)["settlement"] == -1_130_000
    assert_books_agree(paying_tenant)
    assert Mailing.objects.filter(invoice=invoice, kind="receipt").count() == 1


def test_installments_are_paid_one_by_one(paying_tenant: Tenant) -> None:
    schedule = EvenSchedule(2, Interval.MONTHLY)
    invoice = issued(paying_tenant, schedule=schedule)
    first, second = invoice.installments.order_by("number")
    assert (first.amount, first.tax_amount, first.service_fee_amount) == (565_000, 50_000, 15_000)
    assert (second.amount, second.tax_amount, second.service_fee_amount) == (
        565_000,
        50_000,
        15_000,
    )

    pay(invoice, installment=2)
    invoice.refresh_from_db()
    second.refresh_from_db()
    assert (invoice.status, second.amount_due) == (Invoice.Status.PARTIALLY_PAID, 0)
    pay(invoice, installment=1)

    invoice.refresh_from_db()
    assert invoice.status == Invoice.Status.FULLY_PAID
    assert_books_agree(paying_tenant)


def test_a_settlement_account_has_what_is_paid(paying_tenant: Tenant) -> None:
    account = open_account(paying_tenant, currency="IDR")
    invoice = issued(paying_tenant, settlement_account_id=account.pk)
    pay(invoice)
    account.refresh_from_db()
    assert account.balance == 1_130_000
    assert_books_agree(paying_tenant)
    services.refund_invoice(
        tenant_id=paying_tenant.pk,
        invoice_id=invoice.pk,
        amount=130_000,
        reason="Too dear",
        idempotency_key=fresh_key(),
        now=timezone.now(),
    )
    account.refresh_from_db()
    assert account.balance == 1_000_000
    assert_books_agree(paying_tenant)


def test_too_much_is_credit_and_pays_the_next_invoice(paying_tenant: Tenant) -> None:
    invoice = issued(paying_tenant)
    pay_offline(invoice, 1_500_000)
    invoice.refresh_from_db()
    assert (invoice.status, invoice.overpaid_amount) == (Invoice.Status.FULLY_PAID, 370_000)
    assert_books_agree(paying_tenant)

    following = issued(paying_tenant)

    following.refresh_from_db()
    assert following.status == Invoice.Status.PARTIALLY_PAID
    assert following.amount_due == 760_000
    assert Receipt.objects.get(invoice=following).kind == Receipt.Kind.CREDIT
    assert_books_agree(paying_tenant)


def test_overpayment_by_a_gateway_goes_back_through_it(
    paying_tenant: Tenant, sandbox: Sandbox
) -> None:
    invoice = issued(paying_tenant)
    opened = invoicing.open_page(invoice)
    pay_offline(invoice, 1_130_000)
    late_payment(sandbox, opened.payment)
    invoice.refresh_from_db()
    assert (invoice.status, invoice.overpaid_amount) == (Invoice.Status.FULLY_PAID, 1_130_000)
    assert_books_agree(paying_tenant)

    services.refund_credit(
        tenant_id=paying_tenant.pk,
        invoice_id=invoice.pk,
        amount=None,
        reason="Paid twice",
        idempotency_key=fresh_key(),
        now=timezone.now(),
    )

    assert Credit.objects.get().remaining_amount == 0
    assert books(paying_tenant).get("settlement") is None
    assert_books_agree(paying_tenant)


def test_refunds_go_back_with_a_credit_note(paying_tenant: Tenant) -> None:
    invoice = issued(paying_tenant)
    pay(invoice)
    made = services.refund_invoice(
        tenant_id=paying_tenant.pk,
        invoice_id=invoice.pk,
        amount=None,
        reason="Returned",
        idempotency_key=fresh_key(),
        now=timezone.now(),
    )
    invoice.refresh_from_db()
    assert made.credit_note.number.startswith("CN-")
    assert invoice.status == Invoice.Status.REFUNDED
    assert books(paying_tenant) == {}
    assert_books_agree(paying_tenant)


def test_a_voided_invoice_leaves_the_books(paying_tenant: Tenant) -> None:
    invoice = issued(paying_tenant)
    services.void_invoice(
        tenant_id=paying_tenant.pk, invoice_id=invoice.pk, reason="Mistake", now=timezone.now()
    )
    assert books(paying_tenant) == {}
    with pytest.raises(InvoiceNotPayable):
        pay(invoice)


def test_an_expired_invoice_is_revived_by_money(paying_tenant: Tenant) -> None:
    expires = timezone.now() + dt.timedelta(hours=1)
    invoice = issued(paying_tenant, expires_at=expires)
    services.take_due_steps(now=expires + dt.timedelta(minutes=1), limit=10)
    invoice.refresh_from_db()
    assert invoice.status == Invoice.Status.EXPIRED
    assert books(paying_tenant) == {}

    pay_offline(invoice, 1_130_000)

    invoice.refresh_from_db()
    assert invoice.status == Invoice.Status.FULLY_PAID
    assert_books_agree(paying_tenant)


def test_given_amounts_and_a_supplement(paying_tenant: Tenant) -> None:
    schedule = [
        NewInstallment(invoicing.in_days(1), 130_000),
        NewInstallment(invoicing.in_days(9), 1_000_000),
    ]
    invoice = issued(paying_tenant, schedule=schedule)
    pay(invoice, installment=1)
    extra = services.create_supplementary(
        tenant_id=paying_tenant.pk,
        parent_id=invoice.pk,
        new=invoicing.new_invoice(lines=[line(50_000)]),
        now=timezone.now(),
    )
    assert extra.parent_id == invoice.pk
    assert extra.customer_name == "Budi Santoso"
    assert_books_agree(paying_tenant)
    services.adjust_installments(
        tenant_id=paying_tenant.pk,
        invoice_id=invoice.pk,
        adjustments=[services.Adjustment(2, due_date=invoicing.in_days(20))],
        now=timezone.now(),
    )


def test_credit_notes_take_what_is_owed_first(paying_tenant: Tenant) -> None:
    invoice = issued(paying_tenant)
    pay_offline(invoice, 500_000)
    services.credit_invoice(
        tenant_id=paying_tenant.pk,
        invoice_id=invoice.pk,
        amount=700_000,
        reason="Discount",
        idempotency_key=fresh_key(),
        now=timezone.now(),
    )
    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_due, invoice.amount_kept) == ("fully_paid", 0, 430_000)
    assert_books_agree(paying_tenant)


def test_crediting_all_of_an_unpaid_invoice_voids_it(paying_tenant: Tenant) -> None:
    invoice = issued(paying_tenant)
    for amount in (100_000, None):
        services.credit_invoice(
            tenant_id=paying_tenant.pk,
            invoice_id=invoice.pk,
            amount=amount,
            reason="Discount",
            idempotency_key=fresh_key(),
            now=timezone.now(),
        )
    invoice.refresh_from_db()
    assert invoice.status == Invoice.Status.VOIDED
    assert books(paying_tenant) == {}


def test_a_draft_is_not_paid_and_a_paid_one_not_voided(paying_tenant: Tenant) -> None:
    with pytest.raises(InvoiceNotPayable):
        pay(draft(paying_tenant, customer=Customer(name="A")))
    invoice = issued(paying_tenant)
    pay(invoice)
    with pytest.raises(InvalidState):
        services.void_invoice(
            tenant_id=paying_tenant.pk, invoice_id=invoice.pk, reason="x", now=timezone.now()
        )
    assert not Credit.objects.exists()
    assert PaymentInProgress.http_status == 409


def test_nobody_reverses_an_invoices_postings_past_it(paying_tenant: Tenant) -> None:
    invoice = issued(paying_tenant)
    assert invoice.transaction_id is not None
    with pytest.raises(InvalidState, match="belongs to an invoice"):
        reverse_transaction(
            tenant_id=paying_tenant.pk,
            transaction_id=invoice.transaction_id,
            reason="By hand",
            idempotency_key=fresh_key(),
        )
    assert_books_agree(paying_tenant)
