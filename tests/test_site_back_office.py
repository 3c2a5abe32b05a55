"""What holds for every page of the back office, also for those that come later."""

import re

import pytest
from django.conf import LazySettings
from django.contrib import admin
from django.db.models import Model
from django.test import Client
from django.utils import timezone

from core.admin import BackOfficeAdmin
from core.models import FailureNotice
from core.money import Money
from identity.models import Tenant
from identity.services import create_api_key
from invoices.models import DailyFigures, Invoice
from invoices.services import (
    EvenSchedule,
    Interval,
    NewInvoice,
    change_invoice_settings,
    create_supplementary,
    refund_invoice,
)
from ledger.services import place_hold
from payments import services
from payments.gateways.port import CardData
from payments.services.waiting import open_discrepancy
from savings.models import SavingsPlan
from tests import making, recurring, saving
from tests.back_office import list_url, no_counting, page_url, shown, signed_in
from tests.gateways import (
    GOOD_CARD,
    Sandbox,
    add_bank_file,
    add_sandbox,
    deliver,
    status_report,
)
from tests.invoicing import issued, line, pay, pay_offline
from tests.making import fresh_key, open_account

# For a list and a page together, where that is more than for most: an invoice's page has nine kinds
# of what belongs to it, each read once; a report is a handful of sums.
QUERIES_MAX: dict[type[Model], int] = {Invoice: 26, DailyFigures: 22, SavingsPlan: 22}
MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)


@pytest.fixture(scope="module")
def tenant(kept_tenant: Tenant) -> Tenant:
    return kept_tenant


@pytest.fixture
def root(db: None, tenant: Tenant) -> Client:
    return signed_in(tenant, "admin", is_superuser=True)


@pytest.fixture(scope="module")
def one_of_each(tenant: Tenant, kept_sandbox: Sandbox) -> None:
    account = open_account(tenant, balance=1_000, metadata={"a": "b"})
    place_hold(
        tenant_id=tenant.pk,
        account_id=account.pk,
        amount=Money(1, "USD"),
        idempotency_key=fresh_key(),
        expires_at=None,
        now=timezone.now(),
    )
    create_api_key(tenant_id=tenant.pk, name="k", scopes=["read"], now=timezone.now())
    _one_of_each_payment(tenant, kept_sandbox)
    recurring.one_of_each(account, timezone.now())
    saving.one_of_each(account, timezone.now())
    _one_of_each_of_invoices(tenant)
    making.job_that_died(tenant)
    FailureNotice.objects.create(
        task="a.b", words="x", next_attempt_at=timezone.now(), created_at=timezone.now()
    )


def _one_of_each_of_invoices(tenant: Tenant) -> None:
    """Have an invoice paid by card and too much by hand, pay some back, and set invoices up."""
    now = timezone.now()
    invoice = issued(tenant, schedule=EvenSchedule(2, Interval.MONTHLY))
    pay(invoice, installment=1)
    pay_offline(invoice, 700_000)
    refund_invoice(
        tenant_id=tenant.pk,
        invoice_id=invoice.pk,
        amount=600_000,
        reason="x",
        idempotency_key=fresh_key(),
        now=now,
    )
    create_supplementary(
        tenant_id=tenant.pk, parent_id=invoice.pk, new=NewInvoice("IDR", [line()]), now=now
    )
    change_invoice_settings(tenant_id=tenant.pk, changes={"town": "Jakarta"}, now=now)


def _one_of_each_payment(tenant: Tenant, sandbox: Sandbox) -> None:
    """Pay in, pay back, pay out by file, have the bank answer, and find what is not ours."""
    now, line = timezone.now(), add_sandbox(tenant)
    order = services.TopUpOrder(
        account_id=open_account(tenant).pk,
        amount=Money(5_000, "USD"),
        idempotency_key=fresh_key(),
        card=CardData(GOOD_CARD, 12, 2099, "123"),
    )
    payment = services.top_up(tenant_id=tenant.pk, order=order, now=now).payment
    deliver(sandbox.notifications()[0], line)
    services.refund_payment(
        tenant_id=tenant.pk,
        payment_id=payment.pk,
        amount=1,
        reason="x",
        idempotency_key=fresh_key(),
        now=now,
    )
    add_bank_file(tenant)
    request = services.PayoutRequest(
        source_account_id=open_account(tenant, balance=9_000, currency="EUR").pk,
        amount=Money(1, "EUR"),
        beneficiary=services.Beneficiary("Ben", "DE", iban="DE89370400440532013000"),
        idempotency_key=fresh_key(),
        gateway="bank_file",
    )
    services.make_payout(tenant_id=tenant.pk, request=request, now=now)
    [batch] = services.gather_payouts(tenant_id=tenant.pk, now=now)
    document = status_report(batch, "ACSC")
    services.take_report(tenant_id=tenant.pk, document=document, now=now)
    open_discrepancy(
        tenant_id=tenant.pk,
        configuration_id=line.pk,
        kind="not_ours",
        object_type="payment",
        object_id=payment.pk,
        reference=payment.reference,
        amount=1,
        currency="USD",
        detail={"ours": "none", "theirs": "succeeded"},
        now=now,
    )


def test_only_our_own_pages_are_here() -> None:
    labels = [model._meta.label for model in MODELS]

    assert labels == [
        "accounts.Account",
        "core.AuditRecord",
        "core.DeadLetter",
        "core.FailureNotice",
        "core.JobRun",
        "core.ScheduledTask",
        "identity.ApiKey",
        "identity.Tenant",
        "identity.User",
        "invoices.Credit",
        "invoices.CreditNote",
        "invoices.DailyFigures",
        "invoices.Invoice",
        "invoices.InvoiceSettings",
        "invoices.Mailing",
        "ledger.Hold",
        "ledger.Transaction",
        "payments.CalendarDay",
        "payments.Discrepancy",
        "payments.GatewayConfiguration",
        "payments.Payment",
        "payments.Payout",
        "payments.PayoutBatch",
        "payments.PayoutReportFile",
        "payments.RecurringPayment",
        "payments.RecurringRun",
        "payments.Refund",
        "savings.EarlyRelease",
        "savings.InterestBook",
        "savings.SavingsPlan",
        "webhooks.InboundEvent",
    ]
    assert all(isinstance(each, BackOfficeAdmin) for each in admin.site._registry.values())


@pytest.mark.usefixtures("one_of_each")
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_list_and_page_opens_cheaply(root: Client, model: type[Model]) -> None:
    first = model._default_manager.first()
    assert first is not None
    with no_counting() as captured:
        shown(root, list_url(model))
        shown(root, page_url(first))

    assert len(captured) <= QUERIES_MAX.get(model, 18)


@pytest.mark.parametrize("query", ["role__exact=%00", "currency=%00", "cursor=%00", "q=%00"])
def test_what_postgresql_cannot_read_is_not_asked(root: Client, query: str) -> None:
    for path in ("identity/user", "accounts/account"):
        answer = root.get(f"/admin/{path}/?{query}", follow=True)
        assert answer.status_code == 200


@pytest.mark.usefixtures("one_of_each")
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_nothing_is_deleted_or_ticked(root: Client, model: type[Model]) -> None:
    first = model._default_manager.first()
    assert first is not None
    page = shown(root, list_url(model))

    assert root.post(f"{list_url(model)}{first.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "delete_selected" not in page
    assert 'type="checkbox"' not in page


@pytest.mark.usefixtures("one_of_each")
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_pages_carry_no_script_or_style_of_their_own(
    root: Client, model: type[Model], settings: LazySettings
) -> None:
    first = model._default_manager.first()
    assert first is not None
    for url in ("/admin/", list_url(model), page_url(first)):
        answer = root.get(url)
        page = answer.content.decode()
        assert "unsafe" not in answer["Content-Security-Policy"]
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
        # Nothing is fetched from elsewhere; where a gateway calls us is written out.
        page = page.replace(f'<code class="clear-key">{settings.PUBLIC_URL}', "")
        assert "//" not in page.replace("http://www.w3.org/2000/svg", "")


def test_text_of_customers_is_shown_not_run(tenant: Tenant, root: Client) -> None:
    evil = "<script>alert(1)</script>"
    account = open_account(tenant, balance=1, name=evil, external_id=evil, metadata={evil: evil})

    for url in (list_url(type(account)), page_url(account), f"{list_url(type(account))}?q={evil}"):
        assert evil not in shown(root, url)


def test_the_header_says_whose_data_it_is(tenant: Tenant, root: Client) -> None:
    assert "Kopi Bank" in shown(signed_in(tenant), "/admin/")
    assert "All tenants" in shown(root, "/admin/")
