"""Invoices in the back office in a real browser: from a form to money that went back."""

import pytest
from playwright.sync_api import Page
from pytest_django.live_server_helper import LiveServer

from identity.models import Tenant
from invoices.models import CreditNote, Invoice, Receipt
from invoices.services import EvenSchedule, Interval
from tests import test_admin_browser as browser
from tests.invoicing import assert_books_agree, in_days, issued, line, pay_offline
from tests.test_admin_browser import keep, sign_in

pytestmark = browser.pytestmark

# Fixtures.
page, bank = browser.page, browser.bank


def test_an_invoice_is_made_finalised_paid_and_paid_back(
    page: Page, live_server: LiveServer, bank: Tenant
) -> None:
    sign_in(page, live_server)
    page.goto(f"{live_server.url}/admin/invoices/invoice/")
    page.get_by_role("link", name="Add invoice").click()
    page.get_by_label("Currency").select_option("IDR")
    page.get_by_label("Customer's name").fill("Budi Santoso")
    page.get_by_label("Line 1: Description").fill("Consulting")
    page.get_by_label("Line 1: Quantity").fill("1")
    page.get_by_label("Line 1: Unit price").fill("1000000")
    page.get_by_label("Line 1: Tax in %").fill("10")
    page.get_by_text("More rows").click()
    page.get_by_label("Line 20: Description").fill("Travel")
    page.get_by_label("Line 20: Quantity").fill("2.5")
    page.get_by_label("Line 20: Unit price").fill("40000")
    page.get_by_label("Service fee in % of the subtotal").fill("3")
    page.get_by_label("Paid in equal installments").check()
    page.get_by_label("Number of installments").fill("2")
    keep(page, "invoice-form")
    page.get_by_role("button", name="Add", exact=True).click()

    page.get_by_role("heading", name="Draft of an invoice").wait_for()
    page.get_by_role("link", name="Finalise…").click()
    page.get_by_role("button", name="Finalise").dblclick()
    page.get_by_text("This is INV-").wait_for()

    page.get_by_role("link", name="Record a payment…").click()
    page.get_by_label("How").select_option("cash")
    page.get_by_role("button", name="Record a payment").dblclick()
    page.get_by_text("IDR 1,233,000 is recorded.").wait_for()

    page.get_by_role("link", name="Refund…").click()
    page.get_by_label("Amount in IDR").fill("233000")
    page.get_by_label("Reason").fill("No travel after all")
    page.get_by_role("button", name="Refund").dblclick()
    page.get_by_text("hand it back as it came").wait_for()

    page.get_by_role("link", name="INV-").first.click()
    page.get_by_role("heading", name="Timeline").wait_for()
    page.set_viewport_size({"width": 1280, "height": 1_770})
    keep(page, "invoice")
    assert Invoice.objects.get().amount_kept == 1_000_000
    assert [Receipt.objects.count(), CreditNote.objects.count()] == [1, 1]
    assert_books_agree(bank)


def test_installments_are_adjusted_by_keyboard(
    page: Page, live_server: LiveServer, bank: Tenant
) -> None:
    invoice = issued(bank, schedule=EvenSchedule(2, Interval.MONTHLY))
    sign_in(page, live_server)
    page.goto(f"{live_server.url}/admin/invoices/invoice/{invoice.pk}/adjust/")
    page.get_by_label("Installment 1: Amount in IDR").fill("130000")
    page.keyboard.press("Enter")
    page.get_by_text("IDR 435,000 less than IDR 1,130,000.").wait_for()

    page.get_by_label("Installment 2: Amount in IDR").fill("1000000")
    page.keyboard.press("Enter")

    page.get_by_text("The installments are adjusted.").wait_for()
    amounts = invoice.installments.order_by("number").values_list("amount", flat=True)
    assert list(amounts) == [130_000, 1_000_000]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_invoices_fit_a_phone(
    page: Page, live_server: LiveServer, bank: Tenant, scheme: str
) -> None:
    invoice = issued(
        bank,
        schedule=EvenSchedule(3, Interval.MONTHLY),
        lines=[line(), line(250_000, quantity="2.5", tax_rate="11")],
        description="Renovation of the shop in Jalan Sudirman",
    )
    pay_offline(invoice, 2_000_000, reference="BCA 7781", note="Brought it to the counter")
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 390, "height": 800})
    sign_in(page, live_server)
    for path in (
        "invoice/",
        "invoice/add/",
        f"invoice/{invoice.pk}/",
        f"invoice/{invoice.pk}/refund/",
        "credit/",
        "mailing/",
        "invoicesettings/add/",
    ):
        page.goto(f"{live_server.url}/admin/invoices/{path}")
        width = page.evaluate("document.documentElement.scrollWidth")
        keep(page, f"phone-{scheme}-invoices-{path.strip('/').replace('/', '-')[:24]}")
        assert width <= 390, path


def test_what_is_overdue_is_said_in_words(
    page: Page, live_server: LiveServer, bank: Tenant
) -> None:
    invoice = issued(bank)
    invoice.installments.update(due_date=in_days(-9))
    sign_in(page, live_server)

    page.goto(f"{live_server.url}/admin/invoices/invoice/?due=overdue")
    keep(page, "invoices")
    page.get_by_role("link", name=str(invoice.number)).click()

    page.get_by_role("heading", name=f"Invoice {invoice.number} Pending Overdue").wait_for()
