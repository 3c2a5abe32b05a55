"""The payer's page over HTTP: what each state shows, what each refusal says, what never leaks."""

import datetime as dt
import gzip
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.conf import LazySettings, settings
from django.test import Client
from django.utils import timezone

from identity.models import Tenant
from invoices import services
from invoices.models import Checkout, Invoice, InvoiceSettings
from invoices.services import Customer, EvenSchedule, Interval, NewLine
from payments.models import GatewayConfiguration, Payment
from tests import gateways
from tests.gateways import GOOD_CARD, Sandbox
from tests.invoicing import draft, in_days, issued, pay_offline

WEIGHT_MAX = 15 * 1024
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shop(tenant: Tenant, sandbox: Sandbox) -> Tenant:
    gateways.add_sandbox(tenant)
    InvoiceSettings.objects.create(
        tenant=tenant, legal_name="Toko Florin", updated_at=timezone.now()
    )
    return tenant


@pytest.fixture
def payer() -> Client:
    """Somebody with nothing but the address, and CSRF checks on."""
    return Client(enforce_csrf_checks=True)


def card(number: str = GOOD_CARD, **more: Any) -> dict[str, Any]:
    return {"how": "card", "number": number, "expiry": "12/30", "cvc": "123", **more}


def shown(payer: Client, invoice: Invoice, query: str = "", **headers: str) -> str:
    answer = payer.get(f"/pay/{invoice.token}{query}", headers=headers)
    assert answer.status_code == 200
    return answer.content.decode()


def test_it_works(shop: Tenant, payer: Client) -> None:
    invoice = issued(shop)

    page = shown(payer, invoice)
    assert "Toko Florin" in page
    assert str(invoice.number) in page
    assert "IDR\u00a01,130,000" in page

    answer = payer.post(f"/pay/{invoice.token}", card())
    assert (answer.status_code, answer["Location"]) == (303, f"/pay/{invoice.token}")
    assert "Thank you. This invoice is paid." in shown(payer, invoice)


def test_an_installments_own_address_pays_that_one(shop: Tenant, payer: Client) -> None:
    invoice = issued(shop, schedule=EvenSchedule(2, Interval.MONTHLY))
    second = invoice.installments.get(number=2)

    page = payer.get(f"/pay/{second.token}").content.decode()
    assert "installment 2" in page
    assert f'href="/pay/{invoice.token}"' in page
    # Whatever else is asked for.
    payer.post(f"/pay/{second.token}", card(what="1"))

    paid = {each.number: each.amount_due for each in invoice.installments.all()}
    assert paid == {1: 565_000, 2: 0}
    assert "This installment is paid." in payer.get(f"/pay/{second.token}").content.decode()


def test_a_gateways_page_is_opened_once_and_used_again(shop: Tenant, payer: Client) -> None:
    invoice = issued(shop)
    first = payer.post(f"/pay/{invoice.token}", {"how": "sandbox"})
    again = payer.post(f"/pay/{invoice.token}", {"how": "sandbox"})
    assert first.status_code == again.status_code == 303
    assert first["Location"] == again["Location"]
    assert Checkout.objects.count() == 1


def test_no_gateway_is_asked_before_the_payer_chooses(
    shop: Tenant, payer: Client, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    shown(payer, invoice)
    payer.get(f"/pay/{invoice.token}/status")
    assert sandbox.requests() == []


def test_a_declined_card_is_said_in_words(shop: Tenant, payer: Client) -> None:
    invoice = issued(shop)
    answer = payer.post(f"/pay/{invoice.token}", card("4000000000009995"))
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "The card has not enough money. Nothing was charged." in page
    assert "4000000000009995" not in page


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"number": "4242"}, "12 to 19 digits"),
        ({"number": "x" * 16}, "12 to 19 digits"),
        ({"expiry": "13/30"}, "Month and year"),
        ({"expiry": "01/20"}, "has expired"),
        ({"cvc": "1"}, "three or four digits"),
        ({"how": "xendit"}, "Choose how to pay"),
        ({"how": ""}, "Not paid"),
        ({"what": "x"}, "Not paid"),
    ],
)
def test_what_is_wrong_with_a_form_is_said(
    wrong: dict[str, str], words: str, shop: Tenant, payer: Client
) -> None:
    invoice = issued(shop)
    answer = payer.post(f"/pay/{invoice.token}", card(**wrong))
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Payment.objects.exists()


def test_a_real_card_is_not_taken(shop: Tenant, payer: Client) -> None:
    invoice = issued(shop)
    answer = payer.post(f"/pay/{invoice.token}", card("5555555555554444"))
    assert answer.status_code == 422
    assert "Only test cards" in answer.content.decode()
    assert not Payment.objects.exists()


def test_a_card_at_its_bank_keeps_others_out(shop: Tenant, payer: Client) -> None:
    invoice = issued(shop)
    assert payer.post(f"/pay/{invoice.token}", card("4000002500003155")).status_code == 303
    answer = payer.post(f"/pay/{invoice.token}", card())
    assert answer.status_code == 409
    assert "Somebody is paying this right now" in answer.content.decode()
    assert Payment.objects.count() == 1


def test_a_gateway_that_is_down_charges_nothing(
    shop: Tenant, payer: Client, settings: LazySettings
) -> None:
    invoice = issued(shop)
    settings.GATEWAY_URLS = {**settings.GATEWAY_URLS, ("sandbox", "test"): "http://127.0.0.1:9"}
    answer = payer.post(f"/pay/{invoice.token}", card())
    assert answer.status_code == 503
    assert "cannot be reached" in answer.content.decode()
    invoice.refresh_from_db()
    # Nobody's card was tried.
    assert invoice.failed_attempts == 0


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("draft", "has not been issued yet"),
        ("paid", "This invoice is paid"),
        ("voided", "was cancelled"),
        ("expired", "time to pay has run out"),
        ("refunded", "was paid back"),
        ("failed", "Too many attempts"),
    ],
)
def test_what_cannot_be_paid_says_why(end: str, words: str, shop: Tenant, payer: Client) -> None:
    invoice = ended(shop, end)
    assert words in shown(payer, invoice)
    answer = payer.post(f"/pay/{invoice.token}", card())
    assert answer.status_code == 409
    assert words in answer.content.decode()


def ended(shop: Tenant, end: str) -> Invoice:
    now = timezone.now()
    if end == "draft":
        return draft(shop)
    invoice = issued(shop, expires_at=now + dt.timedelta(hours=1))
    of = {"tenant_id": shop.pk, "invoice_id": invoice.pk}
    if end in ("paid", "refunded"):
        pay_offline(invoice, 1_130_000)
    if end == "refunded":
        services.refund_invoice(
            **of, amount=None, reason="x", idempotency_key="r", now=now, asked_by=""
        )
    elif end == "voided":
        services.void_invoice(**of, reason="x", now=now)
    elif end == "expired":
        services.take_due_steps(now=now + dt.timedelta(hours=2), limit=10)
    elif end == "failed":
        for _ in range(10):
            Client().post(f"/pay/{invoice.token}", card("4000000000000002"))
    return invoice


def test_ten_declined_cards_in_a_row_close_the_page_until_staff_open_it(
    shop: Tenant, payer: Client
) -> None:
    invoice = ended(shop, "failed")
    services.open_again(
        tenant_id=shop.pk, invoice_id=invoice.pk, reason="He called", now=timezone.now()
    )
    assert payer.post(f"/pay/{invoice.token}", card()).status_code == 303


@pytest.mark.parametrize("token", ["x", "a" * 43, "a" * 200])
def test_a_wrong_address_says_nothing_of_why(token: str, shop: Tenant, payer: Client) -> None:
    answer = payer.get(f"/pay/{token}")
    assert answer.status_code == 404
    assert "This address is not valid" in answer.content.decode()
    assert payer.get(f"/pay/{token}/status").status_code == 404


def test_nobody_keeps_or_embeds_the_page(shop: Tenant, payer: Client) -> None:
    answer = payer.get(f"/pay/{issued(shop).token}")
    assert answer["Cache-Control"] == "no-store"
    assert answer["Referrer-Policy"] == "no-referrer"
    assert "noindex" in answer["X-Robots-Tag"]
    assert not answer.cookies
    policy = answer["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_what_sellers_write_is_text(shop: Tenant, payer: Client) -> None:
    evil = "<script>alert(1)</script>"
    invoice = issued(
        shop,
        lines=[NewLine(evil, Decimal(1), 1000)],
        description=evil,
        customer=Customer(name=evil),
    )
    page = shown(payer, invoice)
    assert evil not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("query", "browser", "own", "language"),
    [
        ("", "", "ms", "ms"),
        ("?lang=id", "ms", "en", "id"),
        ("?lang=xx", "", "id", "id"),
    ],
)
def test_the_payers_language(
    query: str, browser: str, own: str, language: str, shop: Tenant, payer: Client
) -> None:
    invoice = issued(shop, locale=own)
    page = shown(payer, invoice, query, **{"Accept-Language": browser})
    assert f'<html lang="{language}">' in page
    amount = {"id": "Rp\u00a01.130.000", "ms": "IDR\u00a01,130,000"}[language]
    assert amount in page


def test_nothing_that_payers_read_is_left_in_english() -> None:
    wanted = set(_message_ids())
    assert len(wanted) > 100
    for language in ("id", "ms"):
        path = settings.BASE_DIR / f"locale/{language}/LC_MESSAGES/django.po"
        with path.open("rb") as file:
            catalog = read_po(file)
        missing = {each for each in wanted if not (catalog.get(each) and catalog[each].string)}
        assert missing == set()
        # What Django reads is what translators wrote.
        with path.with_suffix(".mo").open("rb") as file:
            compiled = read_mo(file)
        assert {each.id: each.string for each in compiled if each.id} == {
            each.id: each.string for each in catalog if each.id
        }


def _message_ids() -> list[str]:
    found = []
    for template in (settings.BASE_DIR / "templates/pay").glob("*.html"):
        text = template.read_text()
        found += [match[2] for match in re.finditer(r"""{% translate (["'])(.*?)\1""", text)]
        for match in re.finditer(r"{% blocktranslate[^%]*%}(.*?){% endblocktranslate", text):
            found.append(re.sub(r"{{ (\w+) }}", r"%(\1)s", match[1]))
    services = settings.BASE_DIR / "invoices/services"
    for module in (
        *(settings.BASE_DIR / "invoices/pages").glob("*.py"),
        services / "documents.py",
        services / "mailing.py",
    ):
        found += re.findall(r"""_\(\s*"(.*?)"\s*\)""", module.read_text(), re.DOTALL)
    return found


def test_the_page_is_light(shop: Tenant, payer: Client) -> None:
    invoice = issued(shop, schedule=EvenSchedule(12, Interval.MONTHLY))
    static = Path(settings.BASE_DIR / "static/florin")
    parts = [shown(payer, invoice).encode()]
    parts += [(static / name).read_bytes() for name in ("pay.css", "pay.js", "mark.svg")]
    assert sum(len(gzip.compress(part)) for part in parts) <= WEIGHT_MAX


def test_the_status_changes_with_what_happens(shop: Tenant, payer: Client) -> None:
    invoice = issued(shop)
    before = payer.get(f"/pay/{invoice.token}/status").json()
    assert (before["status"], before["is_final"]) == ("pending", False)
    pay_offline(invoice, 1_130_000)
    after = payer.get(f"/pay/{invoice.token}/status").json()
    assert (after["status"], after["is_final"], after["amount_due"]) == ("fully_paid", True, 0)
    assert before["version"] != after["version"]


def test_whoever_waits_has_the_gateway_asked_but_not_too_often(
    shop: Tenant, payer: Client, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    payer.post(f"/pay/{invoice.token}", {"how": "sandbox"})
    payment = Payment.objects.get()
    for _ in range(20):
        payer.get(f"/pay/{invoice.token}/status")
    asked = [each for each in sandbox.requests() if each["method"] == "GET"]
    assert 0 < len(asked) <= 12
    assert payment.status == Payment.Status.PENDING


def test_a_lost_notification_keeps_no_payer_waiting(
    shop: Tenant, payer: Client, sandbox: Sandbox
) -> None:
    invoice = issued(shop)
    payer.post(f"/pay/{invoice.token}", {"how": "sandbox"})
    payment = Payment.objects.get()
    sandbox.act(f"payments/{payment.gateway_payment_id}/pay")
    assert payer.get(f"/pay/{invoice.token}/status").json()["status"] == "fully_paid"


def test_only_the_gateway_of_the_invoice_is_offered(shop: Tenant, payer: Client) -> None:
    gateways.add_xendit(shop)
    assert "Continue to Xendit" in shown(payer, issued(shop))
    named = shown(payer, issued(shop, gateway="sandbox"))
    assert "Continue to Xendit" not in named


def test_without_a_gateway_the_seller_is_to_be_asked(tenant: Tenant, payer: Client) -> None:
    assert not GatewayConfiguration.objects.filter(tenant=tenant).exists()
    assert "cannot be paid online" in shown(payer, issued(tenant, due_date=in_days(1)))


def test_documents_are_for_whoever_has_the_address(shop: Tenant, payer: Client) -> None:
    invoice = issued(shop)
    answer = payer.get(f"/pay/{invoice.token}/invoice.pdf")
    assert answer["Content-Type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF-")
    assert payer.get(f"/pay/{invoice.token}/receipt.pdf").status_code == 404
    pay_offline(invoice, 1_130_000)
    assert payer.get(f"/pay/{invoice.token}/receipt.pdf").status_code == 200
    assert payer.get(f"/pay/{invoice.token}/receipt.pdf?id=x").status_code == 404
    other = issued(shop)
    receipt = invoice.receipts.get()
    assert payer.get(f"/pay/{other.token}/receipt.pdf?id={receipt.pk}").status_code == 404
    assert payer.get(f"/pay/{draft(shop).token}/invoice.pdf").status_code == 404


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_are_not_there(method: str, shop: Tenant, payer: Client) -> None:
    assert getattr(payer, method)(f"/pay/{issued(shop).token}").status_code == 405
