"""What tests of invoices are made of: an invoice in one call, and the books it should leave."""

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Sum
from django.utils import timezone

from accounts.models import Account
from identity.models import Tenant
from invoices.models import Checkout, Credit, Invoice
from invoices.services import (
    Choice,
    Customer,
    NewInvoice,
    NewLine,
    Opened,
    create_invoice,
    finalize_invoice,
    open_checkout,
    record_offline_payment,
)
from payments.gateways.port import CardData
from payments.models import Payment
from tests.gateways import GOOD_CARD
from tests.making import fresh_key

TODAY = timezone.now().date()


def line(unit_amount: int = 1_000_000, *, quantity: str = "1", tax_rate: str = "10") -> NewLine:
    return NewLine("Consulting", Decimal(quantity), unit_amount, Decimal(tax_rate))


def new_invoice(**new: Any) -> NewInvoice:
    """The seeds' example: 1,000,000 + 10 % tax + 3 % fee = 1,130,000 rupiah."""
    values: dict[str, Any] = {
        "currency": "IDR",
        "lines": [line()],
        "fee_percent": Decimal(3),
        "customer": Customer(name="Budi Santoso", email="budi@example.com"),
        **new,
    }
    return NewInvoice(**values)


def draft(tenant: Tenant, **new: Any) -> Invoice:
    return create_invoice(tenant_id=tenant.pk, new=new_invoice(**new), now=timezone.now())


def issued(tenant: Tenant, **new: Any) -> Invoice:
    """An invoice that is to be paid."""
    invoice = draft(tenant, **new)
    return finalize_invoice(tenant_id=tenant.pk, invoice_id=invoice.pk, now=timezone.now())


def pay(invoice: Invoice, *, installment: int | None = None, number: str = "") -> Opened:
    """Pay by a test card."""
    chosen = CardData(number or GOOD_CARD, exp_month=12, exp_year=2099, cvc="123")
    return open_checkout(
        token=invoice.token,
        choice=Choice(installment=installment, card=chosen),
        now=timezone.now(),
    )


def open_page(invoice: Invoice, *, installment: int | None = None) -> Opened:
    """Choose to pay on the gateway's page."""
    return open_checkout(
        token=invoice.token, choice=Choice(installment=installment), now=timezone.now()
    )


def pay_offline(invoice: Invoice, amount: int, **more: Any) -> None:
    values: dict[str, Any] = {
        "method": "bank transfer",
        "received_on": None,
        "reference": "",
        "note": "",
        "idempotency_key": fresh_key(),
        **more,
    }
    record_offline_payment(
        tenant_id=invoice.tenant_id,
        invoice_id=invoice.pk,
        amount=amount,
        now=timezone.now(),
        **values,
    )


def payment_of(invoice: Invoice) -> Payment:
    """The payment of the last attempt."""
    last = Checkout.objects.filter(invoice=invoice).latest("attempt")
    return Payment.objects.get(pk=last.payment_id)


def books(tenant: Tenant, currency: str = "IDR") -> dict[str, int]:
    """What is in the tenant's internal accounts, debits below zero, without the empty ones."""
    balances = Account.objects.filter(
        tenant=tenant, type=Account.Type.INTERNAL, currency=currency
    ).values_list("role", "balance")
    return {str(role): balance for role, balance in balances if balance}


def assert_books_agree(tenant: Tenant, currency: str = "IDR") -> None:
    """The receivable account has what is due, the customer-credit account what customers have."""
    found = books(tenant, currency)
    invoices = Invoice.objects.issued().filter(tenant=tenant, currency=currency)
    assert -found.get("receivable", 0) == sum(invoice.amount_due for invoice in invoices)
    left = Credit.objects.filter(tenant=tenant, currency=currency).aggregate(
        left=Sum("amount") - Sum("used_amount")
    )["left"]
    assert found.get("customer_credit", 0) == (left or 0)


def in_days(days: int) -> dt.date:
    return TODAY + dt.timedelta(days=days)


def refund_of(payment_id: UUID) -> Any:
    return Payment.objects.get(pk=payment_id).refunds.get()
