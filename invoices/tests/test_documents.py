"""Documents on paper: what they say, read back by libraries that are not ours."""

import datetime as dt
import io
from decimal import Decimal

import pypdfium2  # type: ignore[import-untyped]
import pytest
import zxingcpp
from django.utils import timezone
from pypdf import PdfReader

from identity.models import Tenant
from invoices import services
from invoices.models import CreditNote, Invoice, InvoiceSettings, Receipt
from invoices.services import Customer, EvenSchedule, Interval, NewLine
from invoices.services.documents import (
    payment_address,
    render_credit_note,
    render_invoice,
    render_receipt,
)
from tests.invoicing import draft, issued, line, pay_offline

pytestmark = pytest.mark.django_db(transaction=True)


def text_of(document: bytes) -> str:
    pages = PdfReader(io.BytesIO(document)).pages
    text = "\n".join(page.extract_text() for page in pages)
    return text.replace("\u00a0", " ")


@pytest.fixture
def shop(tenant: Tenant) -> Tenant:
    InvoiceSettings.objects.create(
        tenant=tenant,
        legal_name="PT Élan & Co <Bandung>",
        tax_id="01.234",
        updated_at=timezone.now(),
    )
    return tenant


def test_an_invoice_says_all_of_it(shop: Tenant) -> None:
    invoice = issued(
        shop,
        lines=[line(), NewLine("Coffee", Decimal("2.5"), 1_000, Decimal("12.3456"))],
        schedule=EvenSchedule(2, Interval.MONTHLY),
    )
    text = text_of(render_invoice(invoice=invoice))
    for words in (
        "PT Élan & Co <Bandung>",
        "Budi Santoso",
        str(invoice.number),
        "Consulting",
        "2.5",
        "12.3456 %",
        "IDR 1,002,500",
        "Tax 10 %",
        "IDR 100,000",
        "Service fee",
        f"IDR {invoice.total_amount:,}",
        "Tax is rounded half up, line by line.",
        "Installments",
        "Page 1 of 1",
    ):
        assert words in text


def test_the_code_is_the_address_to_pay_at(shop: Tenant) -> None:
    invoice = issued(shop)
    pdf = pypdfium2.PdfDocument(render_invoice(invoice=invoice))
    [code] = zxingcpp.read_barcodes(pdf[0].render(scale=3).to_pil())
    assert code.text == payment_address(invoice)
    pdf.close()


def test_the_same_rows_are_the_same_bytes(shop: Tenant) -> None:
    invoice = issued(shop)
    assert render_invoice(invoice=invoice) == render_invoice(invoice=invoice)


def test_it_is_in_the_invoices_language(shop: Tenant) -> None:
    invoice = issued(shop, locale="id")
    document = render_invoice(invoice=invoice)
    text = text_of(document)
    assert "Tagihan" in text
    assert "Rp 1.130.000" in text
    reader = PdfReader(io.BytesIO(document))
    assert str(reader.root_object["/Lang"]) == "id"
    assert reader.metadata is not None
    assert reader.metadata.title == f"Tagihan {invoice.number}"


def test_a_thousand_lines_go_over_pages(shop: Tenant) -> None:
    lines = [NewLine(f"Line number {n}", Decimal(1), n) for n in range(1, 1_001)]
    document = render_invoice(invoice=issued(shop, lines=lines))
    pages = PdfReader(io.BytesIO(document)).pages
    assert len(pages) > 20
    text = text_of(document)
    assert "Line number 1000" in text
    assert f"Page {len(pages)} of {len(pages)}" in text
    # The head of the table is on each page that has lines.
    assert "Quantity" in pages[5].extract_text()


@pytest.mark.parametrize(
    ("end", "stamp"),
    [("draft", "DRAFT"), ("paid", "PAID"), ("voided", "CANCELLED"), ("expired", "EXPIRED")],
)
def test_how_it_stands_is_stamped_on_it(end: str, stamp: str, shop: Tenant) -> None:
    now = timezone.now()
    invoice = (
        draft(shop) if end == "draft" else issued(shop, expires_at=now + dt.timedelta(hours=1))
    )
    if end == "paid":
        pay_offline(invoice, 1_130_000)
    elif end == "voided":
        services.void_invoice(tenant_id=shop.pk, invoice_id=invoice.pk, reason="x", now=now)
    elif end == "expired":
        services.take_due_steps(now=now + dt.timedelta(hours=2), limit=10)
    text = text_of(render_invoice(invoice=Invoice.objects.get(pk=invoice.pk)))
    assert stamp in text
    # What cannot be paid asks nobody to.
    assert "Pay online" not in text


def test_names_that_the_font_lacks_break_nothing(shop: Tenant) -> None:
    invoice = issued(shop, customer=Customer(name="山田 عمر 🙂 Đặng Thị"))
    assert "Đặng Thị" in text_of(render_invoice(invoice=invoice))


def test_a_long_word_stays_on_the_page(shop: Tenant) -> None:
    invoice = issued(shop, lines=[NewLine("x" * 500, Decimal(1), 10)])
    assert text_of(render_invoice(invoice=invoice)).count("x") >= 500


def test_a_receipt_says_what_came_and_what_became_of_it(shop: Tenant) -> None:
    invoice = issued(shop)
    pay_offline(invoice, 1_200_000, reference="FT-1")
    text = text_of(render_receipt(receipt=Receipt.objects.get()))
    for words in ("Receipt", "IDR 1,200,000", "Bank transfer", "FT-1", "IDR 70,000", "IDR 0"):
        assert words in text


def test_a_credit_note_says_what_is_taken_back(shop: Tenant) -> None:
    invoice = issued(shop)
    services.credit_invoice(
        tenant_id=shop.pk,
        invoice_id=invoice.pk,
        amount=113_000,
        reason="Discount <10 %>",
        idempotency_key="n",
        now=timezone.now(),
    )
    text = text_of(render_credit_note(credit_note=CreditNote.objects.get()))
    for words in ("CN-", "Discount <10 %>", "IDR 100,000", "IDR 10,000", "IDR 3,000"):
        assert words in text
