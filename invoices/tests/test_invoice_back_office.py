"""Invoices in the back office: who sees and does what, each act once, refusals as sentences."""

import datetime as dt
import re
from decimal import Decimal
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from core.models import AuditRecord
from identity.models import Tenant
from invoices import services
from invoices.models import (
    Credit,
    CreditNote,
    Installment,
    Invoice,
    InvoiceSettings,
    Mailing,
    Receipt,
)
from invoices.services import Customer, EvenSchedule, Interval
from payments.models import Payment, Refund
from tests import gateways
from tests.back_office import (
    act,
    act_url,
    list_url,
    member_of_staff,
    no_counting,
    page_link,
    page_url,
    shown,
    signed_in,
)
from tests.gateways import Sandbox
from tests.invoicing import assert_books_agree, draft, in_days, issued, line, pay, pay_offline
from tests.making import at_once, fresh_key, open_account, transfer

INVOICES = list_url(Invoice)
ADD = f"{INVOICES}add/"
DECLINED = "4000000000000002"
CARD_NUMBER = "4242 4242 4242 4242"
TWO_MONTHS = EvenSchedule(2, Interval.MONTHLY)


@pytest.fixture
def operator(tenant: Tenant) -> Client:
    return signed_in(tenant, "operator")


@pytest.fixture
def supervisor(tenant: Tenant) -> Client:
    return signed_in(tenant, "supervisor")


@pytest.fixture
def admin(tenant: Tenant) -> Client:
    return signed_in(tenant, "admin")


@pytest.fixture
def root(tenant: Tenant) -> Client:
    return signed_in(tenant, "admin", is_superuser=True)


@pytest.fixture
def paying_tenant(tenant: Tenant, sandbox: Sandbox) -> Tenant:
    gateways.add_sandbox(tenant)
    return tenant


def text_of(html: str) -> str:
    """Return what a person reads of a page, in one line."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)).replace("\u00a0", " "))


def facts(html: str) -> dict[str, str]:
    """Return the details of a page, as text."""
    found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html, re.S)
    return {unescape(label): text_of(value).strip() for label, value in found}


def panel(html: str, title: str) -> str:
    """Return what a person reads of a panel."""
    found = re.search(rf"<h2>{title}</h2>(.*?)</section>", html, re.S)
    assert found, f"there is no panel {title}"
    return text_of(found[1])


def acts_on(html: str) -> set[str]:
    return set(re.findall(r'class="btn(?: danger)?" href="[^"]*">([^<…]*)…</a>', html))


def key_on(client: Client, url: str) -> str:
    """Open a form as a person does; return the key that is in it."""
    key = re.search(r'name="key" value="([^"]+)"', shown(client, url))
    assert key is not None
    return key[1]


def do(client: Client, invoice: Invoice, name: str, **form: str) -> str:
    """Open an act's form, send it, and return the page that it leads to, as text."""
    values = {**form, "key": key_on(client, act_url(invoice, name))}
    return text_of(act(client, invoice, name, **values))


def do_plain(client: Client, obj: Model, name: str, **form: str) -> str:
    """Send an act's form that has no key, and return the page that it leads to, as text."""
    return text_of(act(client, obj, name, **form))


def twice(client: Client, invoice: Invoice, name: str, **form: str) -> None:
    """Open an act's form once, and send it twice."""
    values = {**form, "key": key_on(client, act_url(invoice, name))}
    act(client, invoice, name, **values)
    act(client, invoice, name, **values)


def again(invoice: Invoice) -> Invoice:
    return Invoice.objects.get(pk=invoice.pk)


def logged_on(obj: Model) -> list[str]:
    rows = LogEntry.objects.filter(object_id=str(obj.pk)).order_by("pk")
    return [str(row.get_change_message()) for row in rows]


def form_of(**changed: str) -> dict[str, str]:
    """What a person types for the seeds' example: 1,000,000 + 10 % + 3 %."""
    return {
        "currency_code": "IDR",
        "customer_name": "Budi Santoso",
        "customer_email": "budi@example.com",
        "lines-0-description": "Consulting",
        "lines-0-quantity": "1",
        "lines-0-unit_price": "1000000",
        "lines-0-tax_rate": "10",
        "fee_percent": "3",
        "schedule": "none",
        "interval": "monthly",
        "finish": "draft",
        **changed,
    }


def add(client: Client, **changed: str) -> str:
    """Fill the form of a new invoice in, send it, and return the page that it leads to."""
    form = {"key": key_on(client, ADD), **form_of(**changed)}
    answer = client.post(ADD, form, follow=True)
    assert answer.status_code == 200
    return text_of(answer.content.decode())


def overdue(invoice: Invoice, days: int) -> Invoice:
    """Have it be due so many days ago, as time itself would."""
    day = in_days(-days)
    Installment.objects.filter(invoice=invoice).update(due_date=day)
    Invoice.objects.filter(pk=invoice.pk).update(due_date=day)
    return again(invoice)


def failed_mailing(invoice: Invoice) -> Mailing:
    """An e-mail that could not be sent."""
    services.send_invoice(
        tenant_id=invoice.tenant_id, invoice_id=invoice.pk, key=fresh_key(), now=timezone.now()
    )
    mailing = Mailing.objects.filter(invoice=invoice).latest("pk")
    Mailing.objects.filter(pk=mailing.pk).update(
        status="failed", attempts=8, last_error="550 no such mailbox", next_attempt_at=None
    )
    Invoice.objects.filter(pk=invoice.pk).update(attention="email_failed")
    return Mailing.objects.get(pk=mailing.pk)


# --- Who sees and does what --------------------------------------------------------------------
@pytest.mark.parametrize("model", [Invoice, CreditNote, Credit, Mailing, InvoiceSettings])
def test_lists_open_for_staff_and_auditors(tenant: Tenant, model: type[Model]) -> None:
    for role in ("operator", "supervisor", "admin", "auditor"):
        assert signed_in(tenant, role).get(list_url(model)).status_code == 200
    assert signed_in(tenant, "customer").get(list_url(model)).status_code == 302


@pytest.mark.parametrize(
    ("role", "on_draft", "on_paid", "on_settings"),
    [
        ("auditor", set(), set(), set()),
        (
            "operator",
            {"Finalise", "Change"},
            {"Send by e-mail", "Record a payment", "Add a supplement"},
            set(),
        ),
        (
            "supervisor",
            {"Finalise", "Change", "Void"},
            {
                *("Send by e-mail", "Record a payment", "Add a supplement"),
                *("Refund", "Credit note", "Refund overpayment"),
            },
            set(),
        ),
        (
            "admin",
            {"Finalise", "Change", "Void"},
            {
                *("Send by e-mail", "Record a payment", "Add a supplement"),
                *("Refund", "Credit note", "Refund overpayment"),
            },
            {"Change"},
        ),
    ],
)
def test_acts_are_for_those_who_may(
    tenant: Tenant, role: str, on_draft: set[str], on_paid: set[str], on_settings: set[str]
) -> None:
    begun, paid = draft(tenant), issued(tenant)
    pay_offline(paid, 1_200_000)
    settings = services.change_invoice_settings(
        tenant_id=tenant.pk, changes={"town": "Jakarta"}, now=timezone.now()
    )
    client = signed_in(tenant, role)

    assert acts_on(shown(client, page_url(begun))) == on_draft
    assert acts_on(shown(client, page_url(paid))) == on_paid
    assert acts_on(shown(client, page_url(settings))) == on_settings
    may_make, may_void = role != "auditor", role in ("supervisor", "admin")
    doors = [
        *((act_url(paid, name), may_make) for name in MAKING),
        *((act_url(paid, name), may_void) for name in UNDOING),
        (ADD, may_make),
        (act_url(settings, "edit"), role == "admin"),
        (f"{list_url(InvoiceSettings)}add/", role == "admin"),
    ]
    for url, may in doors:
        answer = client.get(url)
        assert answer.status_code in ((200, 302) if may else (403,)), url
        if not may:
            assert client.post(url, {"reason": "x"}).status_code == 403
    assert Receipt.objects.count() == 1


MAKING = (
    *("edit", "finalize", "send", "record-payment", "apply-credit", "adjust", "supplement"),
    "seen-to",
)
UNDOING = ("refund", "credit", "refund-overpayment", "void", "open-again")


def test_another_tenants_rows_do_not_exist(
    tenant: Tenant, other_tenant: Tenant, admin: Client
) -> None:
    strange = Customer(name="Strange customer", email="strange@example.com")
    invoice = issued(other_tenant, customer=strange)
    pay_offline(invoice, 1_500_000)
    services.refund_invoice(
        tenant_id=other_tenant.pk,
        invoice_id=invoice.pk,
        amount=5,
        reason="Strange reason",
        idempotency_key=fresh_key(),
        now=timezone.now(),
    )
    settings = services.change_invoice_settings(
        tenant_id=other_tenant.pk, changes={"legal_name": "Strange Ltd"}, now=timezone.now()
    )
    [note, credit] = CreditNote.objects.get(), Credit.objects.get()
    mailing = Mailing.objects.filter(invoice=invoice).latest("pk")

    for obj in (invoice, note, credit, mailing, settings):
        for url in (list_url(type(obj)), f"{list_url(type(obj))}?q={obj.pk}"):
            assert page_url(obj) not in shown(admin, url)
        assert admin.get(page_url(obj)).status_code == 302
        assert "Strange" not in admin.get(page_url(obj), follow=True).content.decode()
    for name in (*MAKING, *UNDOING):
        assert "There is no such invoice" in act(admin, invoice, name)
    url = f"/admin/invoices/invoice/{invoice.pk}/documents/invoice/{invoice.pk}/"
    assert admin.get(url).status_code == 302
    assert "Nothing here." in shown(admin, f"{INVOICES}?customer=Strange")
    assert Receipt.objects.count() == 1


def test_superusers_see_every_tenant(
    tenant: Tenant, other_tenant: Tenant, root: Client, admin: Client
) -> None:
    ours, theirs = issued(tenant), issued(other_tenant)

    page = shown(root, INVOICES)
    one = shown(root, f"{INVOICES}?tenant={other_tenant.pk}")

    assert page_url(ours) in page
    assert page_url(theirs) in page
    assert page_url(ours) not in one
    assert page_url(theirs) not in shown(admin, INVOICES)


# --- The list ----------------------------------------------------------------------------------
def test_the_list_says_what_is_asked_for(tenant: Tenant, operator: Client) -> None:
    paid, late, begun = issued(tenant), issued(tenant, external_id="ORDER-7"), draft(tenant)
    pay_offline(paid, 130_000)
    overdue(late, 3)

    page = text_of(shown(operator, INVOICES))

    assert f"{paid.number} Partially paid" in page
    assert "IDR 1,130,000 IDR 1,000,000 due" in page
    assert f"{late.number} ORDER-7 Pending" in page
    assert f"{in_days(-3)} Overdue" in page
    assert "Draft Draft" in page
    assert page.index("Draft Draft") < page.index(str(late.number)) < page.index(str(paid.number))
    assert begun.number is None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status__exact=draft", {"draft"}),
        ("status__exact=pending", {"late", "myr", "ben"}),
        ("due=overdue", {"late"}),
        ("currency=MYR", {"myr"}),
        ("attention=needed", {"ben"}),
        ("customer=ben", {"ben"}),
        ("customer=BEN@", {"ben"}),
        ("customer=en", set()),
        ("customer=ben&currency=MYR", set()),
    ],
)
def test_filters(tenant: Tenant, operator: Client, query: str, found: set[str]) -> None:
    ben = Customer(name="Ben Wijaya", email="ben@example.com")
    rows = {
        "draft": draft(tenant),
        "late": overdue(issued(tenant), 1),
        "myr": issued(tenant, currency="MYR"),
        "ben": issued(tenant, customer=ben),
    }
    Invoice.objects.filter(pk=rows["ben"].pk).update(attention="charged_back")

    page = shown(operator, f"{INVOICES}?{query}")

    assert {name for name, row in rows.items() if page_url(row) in page} == found


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_overdue_goes_by_the_tenants_day(tenant: Tenant, operator: Client, zone: str) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(time_zone=zone)
    tenant.refresh_from_db()
    there = tenant.day_of(timezone.now())
    today, yesterday = issued(tenant), issued(tenant)
    for invoice, day in ((today, there), (yesterday, there - dt.timedelta(days=1))):
        Installment.objects.filter(invoice=invoice).update(due_date=day)

    listed = shown(operator, f"{INVOICES}?due=overdue")

    assert page_url(yesterday) in listed
    assert page_url(today) not in listed
    assert "Overdue" in shown(operator, page_url(yesterday)).split("Details")[0]
    assert "Overdue" not in shown(operator, page_url(today)).split("Details")[0]


def test_what_is_owed_no_more_is_not_overdue(tenant: Tenant, operator: Client) -> None:
    paid, begun = overdue(issued(tenant), 3), overdue(draft(tenant), 3)
    pay_offline(paid, 1_130_000)

    assert "Nothing here." in shown(operator, f"{INVOICES}?due=overdue")
    assert "Overdue" not in shown(operator, page_url(begun)).split("Details")[0]


def test_search_takes_whole_identifiers(tenant: Tenant, operator: Client) -> None:
    cem = Customer(name="Cem", email="Cem@example.com")
    dewi = Customer(name="Dewi", reference="C-9")
    first = issued(tenant, external_id="ORDER-7", customer=cem)
    second = issued(tenant, customer=dewi)

    found = {
        text: [
            page_url(each) in shown(operator, f"{INVOICES}?q={text}") for each in (first, second)
        ]
        for text in (
            *(str(first.pk), str(first.number).lower(), "ORDER-7", "cem@EXAMPLE.com"),
            *("C-9", "ORDER", "Cem", "'; --", "%00"),
        )
    }

    assert found == {
        str(first.pk): [True, False],
        str(first.number).lower(): [True, False],
        "ORDER-7": [True, False],
        "cem@EXAMPLE.com": [True, False],
        "C-9": [False, True],
        # Parts of words are for the filter.
        "ORDER": [False, False],
        "Cem": [False, False],
        "'; --": [False, False],
        # No search at all.
        "%00": [True, True],
    }


def test_pages_of_the_list_cost_the_same_however_many_rows(
    tenant: Tenant, operator: Client
) -> None:
    def queries() -> int:
        with no_counting() as captured:
            shown(operator, INVOICES)
        return len(captured)

    issued(tenant, schedule=TWO_MONTHS)
    few = queries()
    for _ in range(5):
        issued(tenant, schedule=TWO_MONTHS)

    assert queries() == few


def test_a_page_costs_the_same_however_much_belongs_to_the_invoice(
    paying_tenant: Tenant, supervisor: Client
) -> None:
    def queries(invoice: Invoice) -> int:
        with CaptureQueriesContext(connection) as captured:
            shown(supervisor, page_url(invoice))
        return len(captured)

    def lived(parts: int) -> Invoice:
        invoice = issued(paying_tenant, schedule=EvenSchedule(6, Interval.WEEKLY))
        for number in range(1, parts + 1):
            pay(invoice, installment=number)
        for _ in range(parts):
            services.refund_invoice(
                tenant_id=paying_tenant.pk,
                invoice_id=invoice.pk,
                amount=100,
                reason="x",
                idempotency_key=fresh_key(),
                now=timezone.now(),
            )
        return invoice

    assert queries(lived(4)) == queries(lived(1))


# --- The page ----------------------------------------------------------------------------------
def supplement_form(**changed: str) -> dict[str, str]:
    return {
        "lines-0-description": "On top",
        "lines-0-quantity": "2",
        "lines-0-unit_price": "50000",
        "description": "More of it",
        "schedule": "none",
        "finish": "final",
        **changed,
    }


def test_a_page_tells_all_that_belongs_to_an_invoice(
    paying_tenant: Tenant, supervisor: Client
) -> None:
    invoice = issued(paying_tenant, schedule=TWO_MONTHS)
    paid = pay(invoice, installment=1).payment
    pay_offline(invoice, 700_000, reference="BCA 77", note="Brought it herself")
    do(supervisor, invoice, "refund", amount="600000", reason="Too dear")
    do(supervisor, invoice, "supplement", **supplement_form())

    page = shown(supervisor, page_url(invoice))

    assert "1 Consulting 1 IDR 1,000,000 10 % IDR 100,000 IDR 1,000,000" in panel(
        page, "Line items"
    )
    assert "Service fee (3 %) IDR 30,000 Total IDR 1,130,000" in panel(page, "Line items")
    assert f"1 {in_days(14)} Paid" in panel(page, "Installments")
    receipts = panel(page, "Receipts")
    assert "by hand: bank transfer BCA 77 Brought it herself IDR 700,000 IDR 565,000" in receipts
    assert f"through sandbox {paid.reference}" in receipts
    assert "Too dear IDR 600,000 IDR 0" in panel(page, "Credit notes")
    assert "IDR 35,000 refund" in panel(page, "Credit notes")
    assert "Kept as credit IDR 135,000" in panel(page, "Overpayment")
    assert f"{paid.reference} Deposited installment 1" in panel(page, "Attempts to pay")
    assert f'href="{page_url(paid)}"' in page
    assert "Credit note Queued budi@example.com" in panel(page, "E-mails")
    assert "On top Fully paid" not in panel(page, "Supplementary invoices")
    assert "More of it" in panel(page, "Supplementary invoices")
    # Each record of the audit trail is a sentence, and none lacks a word.
    assert "…" not in panel(page, "Timeline")
    assert "Invoice:" not in panel(page, "Timeline")


def test_a_page_leads_to_the_payers_page(tenant: Tenant, operator: Client) -> None:
    invoice, begun = issued(tenant), draft(tenant)

    assert f'href="/pay/{invoice.token}"' in shown(operator, page_url(invoice))
    assert begun.token not in shown(operator, page_url(begun))


def test_the_timeline_says_who_did_what_and_why(paying_tenant: Tenant) -> None:
    ada = member_of_staff(paying_tenant, "supervisor")
    client = Client()
    client.force_login(ada)
    invoice = draft(paying_tenant)
    do_plain(client, invoice, "finalize")
    pay(invoice_again := again(invoice), number=DECLINED)
    pay(invoice_again)
    do(client, invoice, "refund", amount="130000", reason="Came late")

    told = panel(shown(client, page_url(invoice)), "Timeline")

    in_order = [
        f"A credit note over IDR 130,000: IDR 130,000 of it goes back. Came late {ada.email}",
        "IDR 1,130,000 came in: it is paid.",
        "The payment failed: card declined.",
        f"It was finalised as {invoice_again.number}. {ada.email}",
        "The invoice was made, for IDR 1,130,000.",
    ]
    places = [told.find(sentence) for sentence in in_order]
    assert -1 not in places, [s for s, at in zip(in_order, places, strict=True) if at < 0]
    assert places == sorted(places)


def test_the_timeline_has_pages(tenant: Tenant, supervisor: Client) -> None:
    invoice = issued(tenant)
    for _ in range(30):
        do(supervisor, invoice, "send")

    first = shown(supervisor, page_url(invoice))
    older = page_link(first, "next")
    assert older is not None
    second = shown(supervisor, f"{page_url(invoice)}{older}")

    assert "The invoice was made" not in panel(first, "Timeline")
    assert "The invoice was made" in panel(second, "Timeline")
    assert page_link(second, "prev")
    assert "The cursor is not one of" in shown(supervisor, f"{page_url(invoice)}?cursor=x")


def test_only_those_who_see_the_audit_trail_are_led_to_it(
    tenant: Tenant, operator: Client, admin: Client
) -> None:
    invoice = issued(tenant)
    record = AuditRecord.objects.filter(object_id=invoice.pk).latest("pk")

    assert page_url(record) in shown(admin, page_url(invoice))
    assert page_url(record) not in shown(operator, page_url(invoice))


def test_a_payments_page_leads_to_its_invoice(paying_tenant: Tenant, operator: Client) -> None:
    invoice = issued(paying_tenant, schedule=TWO_MONTHS)
    payment = pay(invoice, installment=2).payment

    page = shown(operator, page_url(payment))

    assert f'href="{page_url(invoice)}"' in page
    assert f"{invoice.number} Partially paid Budi Santoso installment 2 IDR 565,000" in panel(
        page, "For the invoice"
    )


def test_what_customers_say_is_shown_not_run(tenant: Tenant, root: Client) -> None:
    evil = "<script>alert(1)</script>"
    invoice = issued(
        tenant,
        customer=Customer(name=evil, email="a@example.com", address=evil),
        description=evil,
        external_id=evil,
        metadata={"a": evil},
        lines=[line()],
    )
    pay_offline(invoice, 1_500_000, reference=evil, note=evil, method="cash")
    do(root, invoice, "credit", amount="5", reason=evil)

    for obj in (invoice, Credit.objects.get(), CreditNote.objects.get()):
        for url in (list_url(type(obj)), page_url(obj), f"{INVOICES}?customer={evil}"):
            assert evil not in shown(root, url)
    for name in ("record-payment", "supplement", "credit"):
        assert evil not in shown(root, act_url(invoice, name))


def test_an_invoice_that_needs_a_person_says_why(tenant: Tenant, operator: Client) -> None:
    invoice = issued(tenant)
    Invoice.objects.filter(pk=invoice.pk).update(attention="settlement_account_owes")

    page = shown(operator, page_url(invoice))

    assert "could not be debited" in facts(page)["Needs a person"]
    assert "Settlement account owes" in shown(operator, INVOICES)


# --- Making ------------------------------------------------------------------------------------
def test_an_invoice_is_made_as_a_draft(tenant: Tenant, operator: Client) -> None:
    page = add(operator)

    made = Invoice.objects.get()
    assert (made.status, made.number, made.total_amount) == ("draft", None, 1_130_000)
    assert (made.customer_name, made.customer_email) == ("Budi Santoso", "budi@example.com")
    assert "Added: draft" in page
    assert logged_on(made) == ["Added."]


def test_an_invoice_is_made_and_finalised_with_installments(
    tenant: Tenant, operator: Client
) -> None:
    page = add(
        operator,
        finish="final",
        schedule="even",
        count="2",
        due_date=in_days(10).isoformat(),
        locale="id",
        external_id="ORDER-7",
    )

    made = Invoice.objects.get()
    assert f"Added: {made.number}." in page
    assert (made.locale, made.external_id) == ("id", "ORDER-7")
    amounts = made.installments.order_by("number").values_list(
        "amount", "tax_amount", "service_fee_amount"
    )
    assert list(amounts) == [(565_000, 50_000, 15_000)] * 2
    first = made.installments.get(number=1)
    assert first.due_date == in_days(10)
    assert_books_agree(tenant)


def test_rows_may_be_anywhere_in_the_form(tenant: Tenant, operator: Client) -> None:
    add(
        operator,
        currency_code="BHD",
        **{
            "lines-4-description": "Beans",
            "lines-4-quantity": "2.5",
            "lines-4-unit_price": "1.234",
            "lines-19-description": "Bag",
            "lines-19-quantity": "1",
            "lines-19-unit_price": "0.5",
        },
    )

    lines = Invoice.objects.get().line_items.order_by("position")
    assert [(each.description, each.unit_amount) for each in lines] == [
        ("Consulting", 1_000_000_000),
        ("Beans", 1_234),
        ("Bag", 500),
    ]
    assert [each.subtotal_amount for each in lines][1:] == [3_085, 500]


NO_ROW = {f"lines-0-{name}": "" for name in ("description", "quantity", "unit_price", "tax_rate")}


@pytest.mark.parametrize(
    "pasted",
    [
        'Coffee,2,12.50,11\n"Cups, small",3,0.99\n',
        'Coffee;2;12.50;11\r\n"Cups, small";3;0.99;\r\n',
        "Coffee\t2\t12.50\t11\n\nCups, small\t3\t0.99\t\n",
    ],
)
def test_line_items_are_pasted(tenant: Tenant, operator: Client, pasted: str) -> None:
    add(operator, **NO_ROW, pasted=pasted, currency_code="USD", fee_percent="")

    made = Invoice.objects.get()
    lines = list(made.line_items.order_by("position"))
    assert [(each.description, each.unit_amount, each.tax_rate) for each in lines] == [
        ("Coffee", 1_250, Decimal(11)),
        ("Cups, small", 99, Decimal(0)),
    ]
    assert made.total_amount == 2_500 + 275 + 297


def test_a_thousand_lines_are_pasted(tenant: Tenant, operator: Client) -> None:
    add(operator, **NO_ROW, pasted="Coffee,1,10000\n" * 1_000, fee_percent="")

    made = Invoice.objects.get()
    assert made.total_amount == 10_000_000
    assert made.line_items.count() == 1_000
    # Too many to be rows of the form: they stand in its field.
    form = shown(operator, act_url(made, "edit"))
    assert form.count("Coffee,1,10000,") == 1_000


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"currency_code": ""}, "This field is required."),
        ({"currency_code": "XXX"}, "is not one of the available choices"),
        (NO_ROW, "An invoice has at least one line item."),
        ({"lines-0-quantity": "0"}, "Line 1, quantity: Ensure this value is greater"),
        ({"lines-0-quantity": "-1"}, "Line 1, quantity: Ensure this value is greater"),
        ({"lines-0-quantity": "NaN"}, "Line 1, quantity: Enter a number."),
        ({"lines-0-quantity": "1.1234567"}, "Line 1, quantity: Ensure that there are no more"),
        ({"lines-0-unit_price": ""}, "Line 1, unit price: This field is required."),
        ({"lines-0-unit_price": "-5"}, "Line 1, unit price: Ensure this value is greater"),
        ({"lines-0-unit_price": "0.5"}, "Line 1, unit price: IDR has no decimal places."),
        ({"lines-0-unit_price": "1,000"}, "Line 1, unit price: Enter a number."),
        ({"lines-0-unit_price": "9000000000000001"}, "At most IDR 9,000,000,000,000,000."),
        ({"lines-0-unit_price": "0"}, "An invoice is for at least one minor unit."),
        ({"lines-0-tax_rate": "101"}, "Line 1, tax in %: Ensure this value is less"),
        ({"lines-0-tax_rate": "1.23456"}, "Line 1, tax in %: Ensure that there are no more"),
        ({"lines-0-description": ""}, "Line 1, description: This field is required."),
        ({"lines-0-description": f"Card {CARD_NUMBER}"}, "A card number does not belong here."),
        ({"lines-0-description": "a\x00b"}, "Null characters are not allowed."),
        ({"customer_name": CARD_NUMBER}, "A card number does not belong here."),
        ({"customer_email": "nobody"}, "Enter a valid email address."),
        ({"customer_email": f"{'a' * 60}@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 20}.id"}, "254"),
        ({"fee_percent": "101"}, "less than or equal to 100"),
        ({"fee_fixed": "0.5"}, "IDR has no decimal places."),
        ({"due_date": "2020-01-01"}, "2020-01-01 is past."),
        ({"due_date": "tomorrow"}, "Enter a valid date."),
        ({"due_date": "9999-12-31"}, "That day is too far away."),
        ({"schedule": "even"}, "Say how many installments."),
        ({"schedule": "even", "count": "61"}, "less than or equal to 60"),
        (
            {"schedule": "even", "count": "7", "lines-0-unit_price": "1"},
            "1 minor units cannot be paid in 7 installments.",
        ),
        ({"gateway": "xendit"}, "No gateway"),
        ({"settlement_account_id": "01a1fe8d-294e-751c-91b0-25b095bbf32d"}, "No such account."),
        ({"pasted": "Coffee,1,5"}, "Type the line items or paste them, not both."),
        ({**NO_ROW, "pasted": "Coffee"}, "Line 1 has 1 columns"),
        ({**NO_ROW, "pasted": "Coffee,1,5\nTea,1"}, "Line 2 has 2 columns"),
        ({**NO_ROW, "pasted": "Coffee,x,5\nTea,1,y"}, "Line 2, unit price: Enter a number."),
        ({**NO_ROW, "pasted": '"Coffee,1,5'}, "Line 1 cannot be read"),
        ({**NO_ROW, "pasted": "A,1,5\n" * 1_001}, "1 to 1000 lines."),
        ({**NO_ROW, "pasted": "A,x,5\n" * 1_000}, "And 990 more."),
    ],
)
def test_an_invoice_that_cannot_be_is_refused_in_a_sentence(
    tenant: Tenant, operator: Client, changed: dict[str, str], refusal: str
) -> None:
    page = add(operator, **changed)

    assert refusal in page
    assert not Invoice.objects.exists()


def test_what_was_typed_is_still_there_after_a_refusal(tenant: Tenant, operator: Client) -> None:
    typed = {"lines-7-description": "Row eight", "lines-7-quantity": "x"}
    form = {"key": key_on(operator, ADD), **form_of(**typed)}

    page = operator.post(ADD, form).content.decode()

    assert 'value="Row eight"' in page
    assert 'value="Consulting"' in page
    # The rows that are folded away are not, where they hold something.
    assert '<details class="more-rows" open>' in page


def test_a_form_makes_one_invoice_however_often_it_is_sent(
    tenant: Tenant, operator: Client
) -> None:
    form = {"key": key_on(operator, ADD), **form_of(finish="final")}

    first, second = (operator.post(ADD, form)["Location"] for _ in range(2))
    changed = operator.post(ADD, {**form, "customer_name": "Somebody else"})

    made = Invoice.objects.get()
    assert first == second == page_url(made)
    assert "This form has made an invoice already." in changed.content.decode()
    assert logged_on(made) == ["Added."]


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_once_make_one_invoice(tenant: Tenant) -> None:
    client = signed_in(tenant, "operator")
    form = {"key": key_on(client, ADD), **form_of(finish="final")}

    answers = at_once([lambda: client.post(ADD, form).status_code] * 3)

    assert answers == [302] * 3
    assert Invoice.objects.count() == 1


def test_an_external_id_is_taken_once(tenant: Tenant, operator: Client) -> None:
    issued(tenant, external_id="ORDER-7")

    page = add(operator, external_id="ORDER-7")

    assert "An invoice with this external id exists." in page


def test_a_superuser_says_whose_invoice_it_is(
    tenant: Tenant, other_tenant: Tenant, root: Client, operator: Client
) -> None:
    add(root, tenant=str(other_tenant.pk))
    add(operator, tenant=str(other_tenant.pk))

    theirs, ours = Invoice.objects.order_by("pk")
    assert (theirs.tenant, ours.tenant) == (other_tenant, tenant)


# --- Drafts ------------------------------------------------------------------------------------
def draft_form(client: Client, invoice: Invoice, **changed: str) -> dict[str, str]:
    """Open the form of a draft; return what a browser would send."""
    html = shown(client, act_url(invoice, "edit"))
    inputs = re.findall(r'<input type="(?:text|hidden|email|number|date)"([^>]*)>', html)
    form = {}
    for attributes in inputs:
        name = re.search(r'name="([^"]+)"', attributes)
        value = re.search(r'value="([^"]*)"', attributes)
        if name and name[1] != "csrfmiddlewaretoken":
            form[name[1]] = unescape(value[1]) if value else ""
    chosen = re.findall(r'type="radio" name="(\w+)" value="(\w+)"[^>]*checked', html)
    selected = re.findall(
        r'<select name="(\w+)"(?:(?!</select>).)*?value="(\w*)" selected', html, re.S
    )
    return {**form, **dict(selected), **dict(chosen), **changed}


def test_a_draft_is_changed_and_keeps_what_the_form_does_not_show(
    tenant: Tenant, operator: Client
) -> None:
    budi = Customer(name="Budi", email="b@example.com", iban="DE89370400440532013000", country="DE")
    invoice = draft(tenant, customer=budi, metadata={"a": "b"}, fee_mode="gross_up")
    form = draft_form(operator, invoice, customer_name="Budi Santoso", fee_percent="")

    page = do_plain(operator, invoice, "edit", **form)

    changed = again(invoice)
    assert "The draft is changed." in page
    assert (changed.customer_name, changed.total_amount) == ("Budi Santoso", 1_100_000)
    assert changed.customer_iban == "DE89370400440532013000"
    assert (changed.metadata, changed.fee_mode) == ({"a": "b"}, "gross_up")
    assert changed.due_date == invoice.due_date


def test_a_draft_that_is_sent_back_as_it_is_stays_as_it_is(
    tenant: Tenant, operator: Client
) -> None:
    invoice = draft(
        tenant,
        currency="USD",
        lines=[line(1_250, quantity="2.5", tax_rate="12.3456"), line(99, tax_rate="0")],
        fee_fixed=50,
        schedule=EvenSchedule(3, Interval.WEEKLY),
        external_id="ORDER-7",
    )

    def state() -> object:
        row = Invoice.objects.values().get(pk=invoice.pk)
        lines = invoice.line_items.order_by("position")
        parts = invoice.installments.order_by("number")
        return (
            {name: value for name, value in row.items() if name != "updated_at"},
            list(lines.values_list("description", "quantity", "unit_amount", "tax_rate")),
            list(parts.values_list("number", "due_date", "amount", "tax_amount")),
        )

    before = state()
    page = do_plain(operator, invoice, "edit", **draft_form(operator, invoice))

    assert "The draft is changed." in page
    assert state() == before


def test_a_schedule_that_is_kept_must_still_add_up(tenant: Tenant, operator: Client) -> None:
    invoice = draft(tenant, schedule=TWO_MONTHS)

    page = do_plain(operator, invoice, "edit", **draft_form(operator, invoice, fee_percent="4"))

    assert "They add up to IDR 1,130,000, IDR 10,000 less than IDR 1,140,000." in page
    assert again(invoice).total_amount == 1_130_000


def test_a_draft_that_somebody_else_has_changed_is_not_overwritten(
    tenant: Tenant, operator: Client
) -> None:
    invoice = draft(tenant)
    mine = draft_form(operator, invoice, customer_name="Mine")
    do_plain(operator, invoice, "edit", **draft_form(operator, invoice, customer_name="Theirs"))

    page = do_plain(operator, invoice, "edit", **mine)

    assert "It has changed since you read it." in page
    assert again(invoice).customer_name == "Theirs"


def test_a_draft_is_finalised_once(tenant: Tenant, operator: Client) -> None:
    invoice = draft(tenant)

    page = do_plain(operator, invoice, "finalize")
    do_plain(operator, invoice, "finalize")

    number = again(invoice).number
    assert f"This is {number} now." in page
    assert again(invoice).status == "pending"
    assert logged_on(invoice) == ["Finalise."]
    assert "only drafts are changed" in do_plain(
        operator, invoice, "edit", **draft_form(operator, invoice)
    )


def test_a_draft_whose_day_is_past_is_not_finalised(tenant: Tenant, operator: Client) -> None:
    invoice = overdue(draft(tenant), 1)

    page = do_plain(operator, invoice, "finalize")

    assert "which is past." in page
    assert again(invoice).status == "draft"


# --- Sending -----------------------------------------------------------------------------------
def test_an_invoice_is_sent_once_for_each_form(tenant: Tenant, operator: Client) -> None:
    invoice = issued(tenant)

    twice(operator, invoice, "send")
    page = do(operator, invoice, "send")

    assert "An e-mail to budi@example.com is on its way." in page
    assert Mailing.objects.filter(invoice=invoice, kind="invoice").count() == 2
    assert logged_on(invoice) == ["Send by e-mail."] * 2


def test_a_customer_without_an_address_is_sent_nothing(tenant: Tenant, operator: Client) -> None:
    invoice = issued(tenant, customer=Customer(name="Budi"))

    assert "Send by e-mail" not in acts_on(shown(operator, page_url(invoice)))
    assert "Its customer has no e-mail address." in do(operator, invoice, "send")


def test_a_failed_email_is_sent_again(tenant: Tenant, operator: Client) -> None:
    mailing = failed_mailing(issued(tenant))

    page = do_plain(operator, mailing, "resend")

    mailing.refresh_from_db()
    assert "The e-mail is sent again." in page
    assert mailing.status == Mailing.Status.QUEUED
    told = panel(shown(operator, page_url(mailing.invoice)), "Timeline")
    assert "The e-mail that failed is sent again: invoice." in told


def test_an_email_that_was_sent_is_not_sent_again(tenant: Tenant, operator: Client) -> None:
    mailing = failed_mailing(issued(tenant))
    Mailing.objects.filter(pk=mailing.pk).update(status="sent", sent_at=timezone.now())

    page = shown(operator, page_url(mailing))
    refusal = do_plain(operator, mailing, "resend")

    assert acts_on(page) == set()
    assert "The e-mail is sent, not failed." in refusal
    mailing.refresh_from_db()
    assert mailing.status == Mailing.Status.SENT


def test_failed_emails_stand_first(tenant: Tenant, operator: Client) -> None:
    failed = failed_mailing(issued(tenant))
    later = issued(tenant)
    do(operator, later, "send")

    html = shown(operator, list_url(Mailing))
    chosen = shown(operator, f"{list_url(Mailing)}?status__exact=queued")

    newer = Mailing.objects.get(invoice=later)
    assert html.index(page_url(failed)) < html.index(page_url(newer))
    assert html.count(page_url(failed)) == 1
    assert "550 no such mailbox" in html
    assert page_url(failed) not in chosen


# --- Money by hand, and credit -----------------------------------------------------------------
def received(**changed: str) -> dict[str, str]:
    return {
        "amount": "130000",
        "method": "cash",
        "received_on": timezone.now().date().isoformat(),
        "reference": "7",
        "note": "At the counter",
        **changed,
    }


def test_a_payment_is_recorded_once(tenant: Tenant, operator: Client) -> None:
    invoice = issued(tenant)

    twice(operator, invoice, "record-payment", **received())

    receipt = Receipt.objects.get()
    assert (receipt.amount, receipt.method, receipt.reference) == (130_000, "cash", "7")
    assert again(invoice).amount_due == 1_000_000
    assert logged_on(invoice) == ["Record a payment."]
    assert_books_agree(tenant)


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_once_record_one_payment(tenant: Tenant) -> None:
    invoice, client = issued(tenant), signed_in(tenant, "operator")
    url = act_url(invoice, "record-payment")
    form = received(key=key_on(client, url))

    answers = at_once([lambda: client.post(url, form).status_code] * 3)

    assert answers == [302] * 3
    assert Receipt.objects.count() == 1
    assert_books_agree(tenant)


def test_the_amount_that_is_due_stands_in_the_form(tenant: Tenant, operator: Client) -> None:
    invoice = issued(tenant, currency="MYR", lines=[line(1_250)], fee_percent=0)

    form = shown(operator, act_url(invoice, "record-payment"))

    assert 'value="13.75"' in form
    assert "MYR 13.75 is due." in text_of(form)


def test_too_much_is_the_customers_credit_and_is_listed(tenant: Tenant, operator: Client) -> None:
    invoice = issued(tenant)

    page = do(operator, invoice, "record-payment", **received(amount="1500000"))

    credit = Credit.objects.get()
    assert "IDR 1,500,000 is recorded. IDR 370,000 of it is the customer's credit." in page
    listed = text_of(shown(operator, list_url(Credit)))
    assert f"Budi Santoso IDR 370,000 IDR 370,000 {invoice.number}" in listed
    assert facts(shown(operator, page_url(credit)))["It came"] == "by hand: cash"


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"amount": ""}, "This field is required."),
        ({"amount": "0"}, "greater than or equal to 1"),
        ({"amount": "-1"}, "greater than or equal to 1"),
        ({"amount": "0.5"}, "greater than or equal to 1"),
        ({"amount": "1.5"}, "no more than 0 decimal places"),
        ({"amount": "9223372036854775808"}, "less than or equal to 9000000000000000"),
        ({"amount": "abc"}, "Enter a number."),
        ({"method": "barter"}, "is not one of the available choices"),
        ({"received_on": "2999-01-01"}, "That day is yet to come."),
        ({"note": CARD_NUMBER}, "A card number does not belong here."),
        ({"reference": CARD_NUMBER}, "A card number does not belong here."),
    ],
)
def test_a_payment_that_cannot_be_is_refused_in_a_sentence(
    tenant: Tenant, operator: Client, changed: dict[str, str], refusal: str
) -> None:
    page = do(operator, issued(tenant), "record-payment", **received(**changed))

    assert refusal in page
    assert not Receipt.objects.exists()


def test_nothing_is_recorded_on_a_draft(tenant: Tenant, operator: Client) -> None:
    invoice = draft(tenant)

    page = do(operator, invoice, "record-payment", **received())

    assert "It is draft; nothing is owed on it." in page
    assert "Record a payment" not in acts_on(shown(operator, page_url(invoice)))


def without_using_credit(tenant: Tenant) -> None:
    services.change_invoice_settings(
        tenant_id=tenant.pk, changes={"uses_credit": False}, now=timezone.now()
    )


def test_credit_is_used_once(tenant: Tenant, operator: Client) -> None:
    without_using_credit(tenant)
    pay_offline(issued(tenant), 1_230_000)
    following = issued(tenant)

    page = shown(operator, page_url(following))
    twice(operator, following, "apply-credit", amount="40000")

    assert "Use credit" in acts_on(page)
    assert "Customer's credit IDR 100,000" in text_of(page)
    assert again(following).amount_due == 1_090_000
    assert Credit.objects.get().remaining_amount == 60_000
    assert logged_on(following) == ["Use credit."]
    assert_books_agree(tenant)


def test_all_credit_is_used_where_no_amount_is_typed(tenant: Tenant, operator: Client) -> None:
    without_using_credit(tenant)
    pay_offline(issued(tenant), 1_230_000)
    following = issued(tenant)

    page = do(operator, following, "apply-credit", amount="")

    assert "The customer's credit is used. IDR 1,030,000 is due." in page
    listed = text_of(shown(operator, list_url(Credit)))
    assert "Nothing here." in listed
    assert "Budi Santoso" in shown(operator, f"{list_url(Credit)}?left=used")
    used = panel(shown(operator, page_url(Credit.objects.get())), "Used for")
    assert f"Paid an invoice {following.number}" in used


def test_more_credit_than_there_is_is_not_used(tenant: Tenant, operator: Client) -> None:
    without_using_credit(tenant)
    pay_offline(issued(tenant), 1_230_000)
    following = issued(tenant)

    assert "less than or equal to 100000" in do(
        operator, following, "apply-credit", amount="100001"
    )
    assert again(following).amount_due == 1_130_000


# --- Paying back -------------------------------------------------------------------------------
def test_a_refund_goes_back_once_through_the_gateway(
    paying_tenant: Tenant, supervisor: Client
) -> None:
    invoice = issued(paying_tenant)
    pay(invoice)

    twice(supervisor, invoice, "refund", amount="130000", reason="Too dear")

    note, refund = CreditNote.objects.get(), Refund.objects.get()
    assert (note.amount, note.refund_amount, refund.amount) == (130_000, 130_000, 130_000)
    page = shown(supervisor, page_url(note))
    assert f'href="{page_url(refund)}"' in page
    assert "through sandbox" in panel(page, "Paid back")
    assert logged_on(invoice) == ["Refund. Too dear"]
    assert_books_agree(paying_tenant)


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_once_refund_once(tenant: Tenant, sandbox: Sandbox) -> None:
    gateways.add_sandbox(tenant)
    invoice, client = issued(tenant), signed_in(tenant)
    pay(invoice)
    url = act_url(invoice, "refund")
    form = {"amount": "130000", "reason": "Too dear", "key": key_on(client, url)}

    answers = at_once([lambda: client.post(url, form).status_code] * 3)

    assert answers == [302] * 3
    assert Refund.objects.count() == 1
    assert_books_agree(tenant)


def test_a_refund_says_how_the_money_goes_back(paying_tenant: Tenant, supervisor: Client) -> None:
    by_card, by_hand = issued(paying_tenant), issued(paying_tenant)
    pay(by_card)
    pay_offline(by_hand, 1_130_000)

    card = do(supervisor, by_card, "refund", amount="", reason="x")
    hand = do(supervisor, by_hand, "refund", amount="", reason="x")

    assert re.search(r"IDR 1,130,000 (is on its way|went) back through sandbox\.", card)
    assert "IDR 1,130,000 came past the gateways: hand it back as it came." in hand
    assert again(by_hand).status == "refunded"


def test_a_credit_note_takes_back_what_is_owed_first(tenant: Tenant, supervisor: Client) -> None:
    invoice = issued(tenant)
    pay_offline(invoice, 1_000_000)

    twice(supervisor, invoice, "credit", amount="230000", reason="Half was wrong")

    note = CreditNote.objects.get()
    assert (note.owed_amount, note.refund_amount) == (130_000, 100_000)
    assert again(invoice).amount_due == 0
    listed = text_of(shown(supervisor, list_url(CreditNote)))
    assert f"{note.number} Half was wrong {invoice.number} Budi Santoso IDR 230,000" in listed
    assert page_url(note) in shown(supervisor, f"{list_url(CreditNote)}?q={invoice.number}")
    assert page_url(note) in shown(supervisor, f"{list_url(CreditNote)}?q={note.number}")
    assert "Nothing here." in shown(supervisor, f"{list_url(CreditNote)}?q=CN-1")


@pytest.mark.parametrize("name", ["refund", "credit"])
@pytest.mark.parametrize(
    ("form", "refusal"),
    [
        ({"amount": "1130001", "reason": "x"}, "less than or equal to 1130000"),
        ({"amount": "0", "reason": "x"}, "greater than or equal to 1"),
        ({"amount": "5", "reason": ""}, "This field is required."),
        ({"amount": "5", "reason": CARD_NUMBER}, "A card number does not belong here."),
    ],
)
def test_what_cannot_go_back_is_refused_in_a_sentence(
    tenant: Tenant, supervisor: Client, name: str, form: dict[str, str], refusal: str
) -> None:
    invoice = issued(tenant)
    pay_offline(invoice, 1_130_000)

    assert refusal in do(supervisor, invoice, name, **form)
    assert not CreditNote.objects.exists()


def test_a_settlement_account_that_lacks_the_money_is_named_in_words(
    tenant: Tenant, supervisor: Client
) -> None:
    account = open_account(tenant, currency="IDR", name="Shop")
    invoice = issued(tenant, settlement_account_id=account.pk)
    pay_offline(invoice, 1_130_000)
    transfer(account, open_account(tenant, currency="IDR"), 1_130_000)

    page = do(supervisor, invoice, "refund", amount="", reason="x")

    assert "The settlement account has not enough available." in page
    assert facts(shown(supervisor, page_url(invoice)))["Settlement account"] == "Shop"
    assert not CreditNote.objects.exists()


def test_an_overpayment_goes_back_once(tenant: Tenant, supervisor: Client) -> None:
    invoice = issued(tenant)
    pay_offline(invoice, 1_500_000)

    twice(supervisor, invoice, "refund-overpayment", amount="70000", reason="They asked")
    page = shown(supervisor, page_url(invoice))

    assert Credit.objects.get().remaining_amount == 300_000
    assert "Paid back IDR -70,000" in panel(page, "Overpayment")
    assert logged_on(invoice) == ["Refund overpayment. They asked"]
    refusal = do(supervisor, invoice, "refund-overpayment", amount="300001", reason="x")
    assert "less than or equal to 300000" in refusal
    assert_books_agree(tenant)


# --- Installments and supplements --------------------------------------------------------------
def adjusted(*rows: tuple[dt.date, str]) -> dict[str, str]:
    return {
        f"installments-{number}-{name}": str(value)
        for number, (day, amount) in enumerate(rows)
        for name, value in (("due_date", day), ("amount", amount))
    }


def test_unpaid_installments_are_adjusted(tenant: Tenant, operator: Client) -> None:
    invoice = issued(tenant, schedule=TWO_MONTHS)
    form = adjusted((in_days(20), "130000"), (in_days(50), "1000000"))

    page = do_plain(operator, invoice, "adjust", **form)

    assert "The installments are adjusted." in page
    rows = invoice.installments.order_by("number").values_list("due_date", "amount")
    assert list(rows) == [(in_days(20), 130_000), (in_days(50), 1_000_000)]
    assert f"1: IDR 130,000 due {in_days(20)}" in page


def test_a_paid_installment_is_not_in_the_form(tenant: Tenant, operator: Client) -> None:
    invoice = issued(tenant, schedule=TWO_MONTHS)
    pay_offline(invoice, 565_000)

    form = shown(operator, act_url(invoice, "adjust"))

    assert "Installment 2: Due date" in form
    assert "Installment 1: Due date" not in form
    assert "Together they stay IDR 565,000." in text_of(form)


@pytest.mark.parametrize(
    ("rows", "refusal"),
    [
        (((14, "565000"), (45, "565001")), "IDR 1 more than IDR 1,130,000."),
        (((-1, "565000"), (45, "565000")), "is past."),
        (((60, "565000"), (20, "565000")), "in order of their due dates"),
        (((14, "0"), (45, "1130000")), "Installment 1, amount in idr: Ensure this value"),
        (((14, "x"), (45, "1130000")), "Installment 1, amount in idr: Enter a number."),
    ],
)
def test_installments_that_cannot_be_are_refused_in_a_sentence(
    tenant: Tenant, operator: Client, rows: tuple[tuple[int, str], ...], refusal: str
) -> None:
    invoice = issued(tenant, schedule=TWO_MONTHS)
    before = list(invoice.installments.order_by("number").values_list("due_date", "amount"))
    form = adjusted(*((in_days(days), amount) for days, amount in rows))

    page = do_plain(operator, invoice, "adjust", **form)

    assert refusal in page
    after = list(invoice.installments.order_by("number").values_list("due_date", "amount"))
    assert after == before


def test_installments_that_stay_as_they_are_are_no_change(tenant: Tenant, operator: Client) -> None:
    invoice = issued(tenant, schedule=TWO_MONTHS)
    rows = invoice.installments.order_by("number").values_list("due_date", "amount")

    page = do_plain(operator, invoice, "adjust", **adjusted(*((d, str(a)) for d, a in rows)))

    assert "Nothing is different." in page


def test_a_supplement_is_made_once(tenant: Tenant, operator: Client) -> None:
    invoice = issued(tenant)

    twice(operator, invoice, "supplement", **supplement_form())

    made = Invoice.objects.exclude(pk=invoice.pk).get()
    assert (made.parent_id, made.total_amount, made.status) == (invoice.pk, 100_000, "pending")
    assert made.customer_email == invoice.customer_email
    page = facts(shown(operator, page_url(made)))
    assert page["Supplement to"] == invoice.number
    assert logged_on(invoice) == ["Add a supplement."]


# --- Ends --------------------------------------------------------------------------------------
# That it is out of the books is looked at when a transaction ends, of which this has several.
@pytest.mark.django_db(transaction=True)
def test_an_invoice_is_voided_once(tenant: Tenant, supervisor: Client) -> None:
    invoice = issued(tenant)

    page = do_plain(supervisor, invoice, "void", reason="Sent by mistake")
    do_plain(supervisor, invoice, "void", reason="Sent by mistake")

    assert "The invoice is voided." in page
    assert "It was voided. Sent by mistake" in page
    assert again(invoice).status == "voided"
    assert acts_on(shown(supervisor, page_url(invoice))) == set()
    assert logged_on(invoice) == ["Void. Sent by mistake"]


def test_what_was_paid_is_not_voided(tenant: Tenant, supervisor: Client) -> None:
    invoice = issued(tenant)
    pay_offline(invoice, 5)

    page = do_plain(supervisor, invoice, "void")

    assert "Something was paid on it. Pay it back with a credit note." in page
    assert again(invoice).status == "partially_paid"


def test_a_failed_invoice_is_opened_again(paying_tenant: Tenant, supervisor: Client) -> None:
    invoice = issued(paying_tenant)
    for _ in range(10):
        pay(invoice, number=DECLINED)
    stopped = shown(supervisor, page_url(invoice))

    page = do_plain(supervisor, invoice, "open-again", reason="It was the customer")

    assert "somebody trying cards out" in facts(stopped)["Needs a person"]
    assert {"Open again", "Void"} <= acts_on(stopped)
    assert "The invoice takes payments again." in page
    assert again(invoice).status == "pending"
    assert "It is pending, not failed." in do_plain(supervisor, invoice, "open-again")


def test_what_needed_a_person_is_seen_to(tenant: Tenant, supervisor: Client) -> None:
    invoice = issued(tenant)
    Invoice.objects.filter(pk=invoice.pk).update(attention="charged_back")
    assert "Seen to" in acts_on(shown(supervisor, page_url(invoice)))

    page = do_plain(supervisor, invoice, "seen-to", reason="He paid by cheque")

    assert "The invoice needs nobody any more." in page
    assert again(invoice).attention == ""
    assert "Seen to" not in acts_on(shown(supervisor, page_url(invoice)))
    assert "It needs nobody." in do_plain(supervisor, invoice, "seen-to")


# --- Documents ---------------------------------------------------------------------------------
def test_documents_are_downloaded(tenant: Tenant, supervisor: Client) -> None:
    invoice, begun = issued(tenant), draft(tenant)
    pay_offline(invoice, 1_130_000)
    do(supervisor, invoice, "refund", amount="5", reason="x")
    note, receipt = CreditNote.objects.get(), Receipt.objects.get()
    page = shown(supervisor, page_url(invoice))

    for of, kind, obj, name in (
        (invoice, "invoice", invoice, f"{invoice.number}.pdf"),
        (invoice, "receipt", receipt, f"{invoice.number}-receipt-{receipt.received_on}.pdf"),
        (invoice, "credit_note", note, f"{note.number}.pdf"),
        (begun, "invoice", begun, "draft.pdf"),
    ):
        url = f"/admin/invoices/invoice/{of.pk}/documents/{kind}/{obj.pk}/"
        answer = supervisor.get(url)
        assert answer.content.startswith(b"%PDF-")
        assert answer["Content-Disposition"] == f'attachment; filename="{name}"'
        assert url in (page if of is invoice and kind != "credit_note" else url)
    assert f"/credit_note/{note.pk}/" in shown(supervisor, page_url(note))


def test_a_document_of_another_invoice_is_not_had(tenant: Tenant, supervisor: Client) -> None:
    invoice, other = issued(tenant), issued(tenant)
    pay_offline(other, 5)
    receipt = Receipt.objects.get()

    for kind, pk in (("invoice", other.pk), ("receipt", receipt.pk), ("secret", invoice.pk)):
        url = f"/admin/invoices/invoice/{invoice.pk}/documents/{kind}/{pk}/"
        assert supervisor.get(url).status_code == 302


# --- Settings ----------------------------------------------------------------------------------
def settings_form(**changed: str) -> dict[str, str]:
    return {
        "legal_name": "PT Kopi Nusantara",
        "town": "Jakarta",
        "country": "id",
        "payment_terms_days": "30",
        "reminder_days": "-7, 0 7",
        "uses_credit": "on",
        "locale": "id",
        **changed,
    }


def test_settings_are_made_once_a_tenant_and_changed(tenant: Tenant, admin: Client) -> None:
    url = f"{list_url(InvoiceSettings)}add/"

    made = admin.post(url, settings_form(), follow=True).content.decode()
    settings = InvoiceSettings.objects.get()
    # There is nothing more to add.
    assert admin.get(url)["Location"] == page_url(settings)
    seen = re.search(r'name="seen" value="([^"]+)"', shown(admin, act_url(settings, "edit")))
    assert seen is not None
    form = settings_form(town="Bandung", seen=seen[1], reminder_days="", uses_credit="")
    changed = do_plain(admin, settings, "edit", **form)
    stale = do_plain(admin, settings, "edit", **settings_form(town="Medan", seen=seen[1]))

    assert facts(made)["Reminders"] == "-7, 0, +7"
    assert "The settings are changed." in changed
    assert "It has changed since you read it." in stale
    settings.refresh_from_db()
    assert (settings.town, settings.country, settings.reminder_days) == ("Bandung", "ID", [])
    assert settings.uses_credit is False
    actions = AuditRecord.objects.filter(object_id=settings.pk).values_list("action", flat=True)
    assert set(actions) == {"invoice_settings.changed"}


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"payment_terms_days": "-1"}, "greater than or equal to 0"),
        ({"payment_terms_days": "366"}, "less than or equal to 365"),
        ({"reminder_days": "soon"}, "Whole numbers, such as -3, 0, 7."),
        ({"reminder_days": "-91"}, "-90 to 365 days"),
        ({"country": "Indonesia"}, "at most 2 characters"),
        ({"creditor_iban": "DE00370400440532013000"}, "IBAN"),
        ({"creditor_account_number": "1234567"}, "A number needs its bank's BIC."),
        ({"locale": "fr"}, "is not one of the available choices"),
        ({"email": "nobody"}, "Enter a valid email address."),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_sentence(
    tenant: Tenant, admin: Client, changed: dict[str, str], refusal: str
) -> None:
    answer = admin.post(f"{list_url(InvoiceSettings)}add/", settings_form(**changed))

    assert refusal in text_of(answer.content.decode())
    assert not InvoiceSettings.objects.exists()


def test_a_superuser_makes_settings_of_any_tenant_but_not_twice(
    tenant: Tenant, other_tenant: Tenant, root: Client
) -> None:
    url = f"{list_url(InvoiceSettings)}add/"
    form = settings_form(tenant=str(other_tenant.pk))

    root.post(url, form)
    second = root.post(url, {**form, "town": "Medan"}).content.decode()

    assert "This tenant has settings already." in second
    settings = InvoiceSettings.objects.get()
    assert (settings.tenant, settings.town) == (other_tenant, "Jakarta")


def test_payments_of_invoices_are_not_made_by_looking(tenant: Tenant, operator: Client) -> None:
    invoice = issued(tenant)
    before = Invoice.objects.values().get(pk=invoice.pk)

    for url in (INVOICES, page_url(invoice), act_url(invoice, "record-payment")):
        shown(operator, url)
    assert operator.post(page_url(invoice)).status_code == 405

    assert Invoice.objects.values().get(pk=invoice.pk) == before
    assert not Payment.objects.exists()
