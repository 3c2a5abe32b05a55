"""What must not bring an invoice, its page or anybody's e-mails to a stop."""

import datetime as dt
from collections.abc import Iterator

import pytest
from django.conf import LazySettings
from django.core import mail
from django.test import Client
from django.utils import timezone

from accounts.services import freeze_account
from core.errors import InvalidState
from core.models import OutboxEvent
from core.redaction import redacted_text
from identity.models import Tenant
from invoices import services
from invoices.errors import InvoiceNotPayable
from invoices.models import Checkout, Invoice, Mailing
from invoices.services import Customer
from invoices.services.documents import render_invoice
from payments.errors import CardDataRefused
from payments.gateways import breaker
from payments.models import Discrepancy, GatewayConfiguration, Payment
from payments.services import ask_about_payment, delete_gateway, resolve_discrepancy
from tests import gateways, invoicing
from tests.gateways import Sandbox, steps_at
from tests.invoicing import assert_books_agree, books, draft, issued, pay, pay_offline
from tests.making import fresh_key, open_account

pytestmark = pytest.mark.django_db(transaction=True)
TOTAL = 1_130_000


@pytest.fixture
def shop(tenant: Tenant, sandbox: Sandbox) -> Iterator[Tenant]:
    gateways.add_sandbox(tenant)
    yield tenant
    # Whatever was done: the books are right at the end.
    assert_books_agree(tenant)


def events_of(invoice: Invoice) -> list[str]:
    found = OutboxEvent.objects.filter(resource_id=invoice.pk).order_by("pk")
    return list(found.values_list("event_type", flat=True))


def void(invoice: Invoice) -> None:
    services.void_invoice(
        tenant_id=invoice.tenant_id, invoice_id=invoice.pk, reason="x", now=timezone.now()
    )


def test_an_address_of_many_lines_is_drawn(shop: Tenant) -> None:
    customer = Customer(name="Budi", address="a\n" * 249 + "a")
    assert render_invoice(invoice=issued(shop, customer=customer)).startswith(b"%PDF-")


def test_one_e_mail_that_cannot_be_made_keeps_no_other_waiting(shop: Tenant) -> None:
    for number in range(3):
        services.send_invoice(
            tenant_id=shop.pk, invoice_id=issued(shop).pk, key=str(number), now=timezone.now()
        )
    # About a receipt that is not there.
    first = Mailing.objects.order_by("pk").first()
    assert first is not None
    Mailing.objects.create(
        tenant=shop,
        invoice=first.invoice,
        kind="receipt",
        subject_id=shop.pk,
        to="x@example.com",
        next_attempt_at=timezone.now() - dt.timedelta(hours=1),
        unique_key="x",
        created_at=timezone.now(),
    )

    assert services.send_due_mailings(now=timezone.now(), limit=10) == 3
    assert len(mail.outbox) == 3


def test_the_longest_key_is_a_key(shop: Tenant) -> None:
    invoice = issued(shop)
    for _ in range(2):
        pay_offline(invoice, 5, idempotency_key="k" * 255)
    invoice.refresh_from_db()
    assert invoice.paid_amount == 5


def test_late_money_does_not_say_again_what_happened_before(shop: Tenant) -> None:
    invoice = issued(shop)
    pay_offline(invoice, TOTAL)
    pay_offline(invoice, 7)
    assert events_of(invoice).count("invoice.paid") == 1
    assert "invoice.overpaid" in events_of(invoice)


def test_a_mistyped_card_ends_nobodys_page(shop: Tenant) -> None:
    invoice = issued(shop)
    opened = invoicing.open_page(invoice)
    with pytest.raises(CardDataRefused):
        pay(invoice, number="5555555555554444")
    assert Payment.objects.get(pk=opened.payment.pk).status == Payment.Status.PENDING
    assert Checkout.objects.get().is_active


def test_what_came_through_a_gateway_that_is_gone_goes_back_by_hand(shop: Tenant) -> None:
    invoice = issued(shop)
    pay(invoice)
    gateway = GatewayConfiguration.objects.get()
    delete_gateway(tenant_id=shop.pk, configuration_id=gateway.pk, now=timezone.now())
    services.refund_invoice(
        tenant_id=shop.pk,
        invoice_id=invoice.pk,
        amount=None,
        reason="x",
        idempotency_key=fresh_key(),
        now=timezone.now(),
    )
    invoice.refresh_from_db()
    assert invoice.status == Invoice.Status.REFUNDED
    assert books(shop) == {"settlement": -TOTAL, "cash": TOTAL}


def test_a_draft_whose_time_is_past_is_not_finalised(shop: Tenant) -> None:
    now = timezone.now()
    invoice = draft(shop, expires_at=now + dt.timedelta(minutes=1))
    with pytest.raises(InvalidState, match="expire"):
        services.finalize_invoice(
            tenant_id=shop.pk, invoice_id=invoice.pk, now=now + dt.timedelta(minutes=2)
        )


def test_what_is_out_of_time_is_not_payable_before_the_sweep_has_seen_it(shop: Tenant) -> None:
    now = timezone.now()
    invoice = issued(shop, expires_at=now + dt.timedelta(minutes=1))
    with pytest.raises(InvoiceNotPayable, match="expired"):
        services.open_checkout(
            token=invoice.token, choice=services.Choice(), now=now + dt.timedelta(minutes=2)
        )


def test_credit_that_cannot_be_passed_on_keeps_no_invoice_back(shop: Tenant) -> None:
    pay_offline(issued(shop), TOTAL + 5_000)
    account = open_account(shop, currency="IDR")
    waiting = draft(shop, settlement_account_id=account.pk)
    freeze_account(tenant_id=shop.pk, account_id=account.pk, reason="x", now=timezone.now())
    invoice = services.finalize_invoice(
        tenant_id=shop.pk, invoice_id=waiting.pk, now=timezone.now()
    )
    assert (invoice.status, invoice.amount_due) == ("pending", TOTAL)


def test_nothing_is_voided_while_a_payer_is_at_their_bank(shop: Tenant) -> None:
    invoice = issued(shop)
    pay(invoice, number="4000002500003155")
    with pytest.raises(InvalidState, match="under way"):
        void(invoice)


def test_a_payment_that_nobody_knows_of_can_be_given_up(
    shop: Tenant, sandbox: Sandbox, settings: LazySettings
) -> None:
    invoice = issued(shop)
    sandbox.fault("timeout_after_commit", "create_payment")
    payment = pay(invoice).payment
    assert payment.status == Payment.Status.UNKNOWN
    # From here on the gateway is away.
    urls = settings.GATEWAY_URLS
    settings.GATEWAY_URLS = {**urls, ("sandbox", "test"): "http://127.0.0.1:9"}
    for days in range(10):
        steps_at(timezone.now() + dt.timedelta(days=days, hours=1))
    later = timezone.now() + dt.timedelta(days=10)

    resolve_discrepancy(
        tenant_id=shop.pk,
        discrepancy_id=Discrepancy.objects.get().pk,
        resolution="given_back",
        note="He paid in cash",
        now=later,
    )
    # Should it have been paid all the same, it is credit, and nothing is lost.
    pay_offline(invoice, TOTAL)
    settings.GATEWAY_URLS = urls
    breaker.succeeded(payment.configuration.circuit)
    ask_about_payment(Payment.objects.get(pk=payment.pk), now=later)
    invoice.refresh_from_db()
    assert (invoice.status, invoice.overpaid_amount) == ("fully_paid", TOTAL)


def test_what_weighs_more_is_not_forgotten_for_an_e_mail(shop: Tenant) -> None:
    invoice = issued(shop)
    services.send_invoice(tenant_id=shop.pk, invoice_id=invoice.pk, key="k", now=timezone.now())
    Invoice.objects.filter(pk=invoice.pk).update(attention="settlement_account_owes")
    Mailing.objects.update(attempts=8)
    services.send_due_mailings(now=timezone.now(), limit=10)
    [mailing] = Mailing.objects.all()
    assert mailing.status == Mailing.Status.FAILED
    services.requeue_mailing(tenant_id=shop.pk, mailing_id=mailing.pk, now=timezone.now())
    invoice.refresh_from_db()
    assert invoice.attention == "settlement_account_owes"


def test_documents_are_drawn_so_often_a_minute_and_no_more(shop: Tenant) -> None:
    url = f"/pay/{issued(shop).token}/invoice.pdf"
    answers = [Client().get(url).status_code for _ in range(13)]
    assert answers == [200] * 12 + [429]


def test_payers_addresses_are_not_logged() -> None:
    token = "a" * 43
    assert token not in redacted_text(f"Service Unavailable: /pay/{token}/invoice.pdf")
