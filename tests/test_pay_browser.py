"""The payer's page in a real browser, against the simulated gateways."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from identity.models import Tenant
from invoices.models import Checkout, Invoice, InvoiceSettings, Receipt
from invoices.services import EvenSchedule, Interval
from payments.models import Payment
from tests import gateways, invoicing
from tests.browsing import browsing, needs_chromium
from tests.gateways import GOOD_CARD, Sandbox
from tests.invoicing import assert_books_agree, issued, pay_offline

DECLINED = "4000000000000002"
THREE_D_SECURE = "4000002500003155"
# Where to keep pictures of the pages; without it none are taken.
SHOTS = os.environ.get("FLORIN_SCREENSHOTS")
# What Chromium says of a 409 or 422 that is a page all the same.
REFUSALS = ("status of 422", "status of 409")
# The simulated gateway's pages have no icon.
AWAY = ("status of 404",)

pytestmark = [pytest.mark.django_db(transaction=True), needs_chromium]


@pytest.fixture
def shop(
    tenant: Tenant, sandbox: Sandbox, live_server: LiveServer, settings: LazySettings
) -> Tenant:
    """A tenant whose payers come back to the server of this test."""
    settings.PUBLIC_URL = live_server.url
    gateways.add_sandbox(tenant)
    InvoiceSettings.objects.create(
        tenant=tenant, legal_name="Toko Florin", email="a@example.com", updated_at=timezone.now()
    )
    return tenant


@pytest.fixture
def at(live_server: LiveServer) -> Callable[[Invoice], str]:
    return lambda invoice: f"{live_server.url}/pay/{invoice.token}"


def fill_in(page: Page, number: str) -> None:
    page.get_by_label("Card number").fill(number)
    page.get_by_label("Expires").fill("12/30")
    page.get_by_label("Security code").fill("123")


def keep(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"pay-{name}.png"), full_page=True)


def badge(page: Page, text: str) -> None:
    expect(page.locator(".badge").first).to_have_text(text, timeout=15_000)


def test_a_card_pays_and_a_receipt_is_there(
    shop: Tenant, at: Callable[[Invoice], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = issued(shop)
    with browsing(monkeypatch) as page:
        page.goto(at(invoice))
        keep(page, "open")
        fill_in(page, GOOD_CARD)
        page.get_by_role("button", name=re.compile("Pay IDR")).click()
        badge(page, "Paid")
        expect(page.get_by_role("link", name=re.compile("Receipt"))).to_be_visible()
        keep(page, "paid")

    invoice.refresh_from_db()
    assert invoice.status == Invoice.Status.FULLY_PAID
    assert_books_agree(shop)


def test_one_installment_is_paid(
    shop: Tenant, at: Callable[[Invoice], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = issued(shop, schedule=EvenSchedule(3, Interval.MONTHLY))
    with browsing(monkeypatch) as page:
        page.goto(at(invoice))
        # Ahead of the first.
        page.get_by_label(re.compile("Installment 2")).check()
        fill_in(page, GOOD_CARD)
        keep(page, "installments")
        page.get_by_role("button", name="Pay by card").click()
        badge(page, "Partly paid")
        keep(page, "partly-paid")

    paid = invoice.installments.get(number=2)
    assert (paid.amount_due, Receipt.objects.get().amount) == (0, paid.amount)
    assert_books_agree(shop)


def test_a_declined_card_and_then_a_good_one(
    shop: Tenant, at: Callable[[Invoice], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = issued(shop)
    with browsing(monkeypatch, allowed=REFUSALS) as page:
        page.goto(at(invoice))
        fill_in(page, DECLINED)
        page.get_by_role("button", name=re.compile("Pay IDR")).click()
        expect(page.get_by_role("alert")).to_contain_text("declined")
        expect(page.get_by_role("alert")).to_be_focused()
        # What is nobody's business is not sent back.
        expect(page.get_by_label("Card number")).to_have_value("")
        expect(page.get_by_label("Expires")).to_have_value("12/30")
        keep(page, "declined")
        fill_in(page, GOOD_CARD)
        page.get_by_role("button", name=re.compile("Pay IDR")).click()
        badge(page, "Paid")

    assert Checkout.objects.count() == 2
    assert_books_agree(shop)


@pytest.mark.parametrize(("act", "words"), [("Approve", "Paid"), ("Reject", "To be paid")])
def test_the_bank_asks_who_it_is(
    act: str,
    words: str,
    shop: Tenant,
    at: Callable[[Invoice], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    invoice = issued(shop)
    with browsing(monkeypatch, allowed=AWAY) as page:
        page.goto(at(invoice))
        fill_in(page, THREE_D_SECURE)
        page.get_by_role("button", name=re.compile("Pay IDR")).click()
        page.get_by_role("button", name=re.compile(act)).click()
        # Back here; what it came to is asked for, though no notification arrives.
        page.wait_for_url(re.compile("/pay/"))
        badge(page, words)

    invoice.refresh_from_db()
    assert (invoice.status == Invoice.Status.FULLY_PAID) is (act == "Approve")
    assert_books_agree(shop)


def test_the_gateways_page_and_back(
    shop: Tenant, at: Callable[[Invoice], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = issued(shop)
    with browsing(monkeypatch, allowed=AWAY) as page:
        page.goto(at(invoice))
        page.get_by_role("button", name="Continue to Sandbox").click()
        page.get_by_role("button", name=re.compile("^Pay")).first.click()
        page.wait_for_url(re.compile("/pay/"))
        badge(page, "Paid")
    assert_books_agree(shop)


def test_two_tabs_pay_at_once_and_one_is_asked(
    shop: Tenant, at: Callable[[Invoice], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = issued(shop)
    with browsing(monkeypatch, allowed=(*REFUSALS, *AWAY)) as page:
        assert page.context.browser is not None
        other = page.context.browser.new_context().new_page()
        for tab in (page, other):
            tab.goto(at(invoice))
            fill_in(tab, THREE_D_SECURE)
        # The first is at its bank now.
        page.get_by_role("button", name=re.compile("Pay IDR")).click()
        page.get_by_role("button", name=re.compile("Approve")).wait_for()
        other.get_by_role("button", name=re.compile("Pay IDR")).click()
        expect(other.get_by_role("heading")).to_have_text("Somebody is paying this right now")
        keep(other, "busy")
        page.get_by_role("button", name=re.compile("Approve")).click()
        badge(page, "Paid")
        # It looks again by itself.
        badge(other, "Paid")

    assert Payment.objects.filter(purpose="invoice").count() == 1
    assert_books_agree(shop)


def test_a_phone_in_the_dark(
    shop: Tenant, at: Callable[[Invoice], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = issued(shop, schedule=EvenSchedule(3, Interval.MONTHLY), locale="id")
    with browsing(monkeypatch, width=320, height=640, dark=True) as page:
        page.goto(at(invoice))
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        expect(page.locator("html")).to_have_attribute("lang", "id")
        expect(page.locator(".big")).to_have_text("Rp\u00a01.130.000")
        keep(page, "phone-dark")
        page.get_by_role("link", name="MS").click()
        expect(page.locator(".badge").first).to_have_text("Belum dibayar")


def test_by_keyboard_alone(
    shop: Tenant, at: Callable[[Invoice], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = issued(shop, schedule=EvenSchedule(2, Interval.MONTHLY))
    with browsing(monkeypatch) as page:
        page.goto(at(invoice))
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="To the invoice")).to_be_focused()
        for _ in range(4):
            page.keyboard.press("Tab")
        # All that is due; the arrow goes to the first installment.
        page.keyboard.press("ArrowDown")
        expect(page.get_by_label(re.compile("Installment 1"))).to_be_checked()
        for text in (GOOD_CARD, "12/30", "123"):
            page.keyboard.press("Tab")
            page.keyboard.type(text)
        page.keyboard.press("Enter")
        badge(page, "Partly paid")
    assert invoice.installments.get(number=1).amount_due == 0


def test_what_happens_elsewhere_shows_without_a_reload(
    shop: Tenant, at: Callable[[Invoice], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = issued(shop)
    with browsing(monkeypatch) as page:
        page.goto(at(invoice))
        page.evaluate("window.isTheSamePage = true")
        page.evaluate("document.getElementById('main').dataset.every = '0.2'")
        pay_offline(invoice, 1_130_000)
        expect(page.locator(".badge").first).to_have_text("Paid", timeout=15_000)
        assert page.evaluate("window.isTheSamePage") is True
        expect(page.get_by_role("status")).to_have_text("Paid")


def test_it_works_without_script(
    shop: Tenant, at: Callable[[Invoice], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = issued(shop)
    with browsing(monkeypatch) as page:
        assert page.context.browser is not None
        plain = page.context.browser.new_context(java_script_enabled=False).new_page()
        plain.goto(at(invoice))
        fill_in(plain, GOOD_CARD)
        plain.get_by_role("button", name=re.compile("Pay IDR")).click()
        badge(plain, "Paid")
    assert invoicing.payment_of(invoice).status == Payment.Status.DEPOSITED
