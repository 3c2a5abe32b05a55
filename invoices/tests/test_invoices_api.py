"""Invoices through the API's door: made, changed, finalised, sent, ended, listed."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from core.models import AuditRecord
from invoices.models import Installment, Invoice, Mailing
from tests import invoicing
from tests.contract import ContractClient

pytestmark = pytest.mark.django_db

LINE = {"description": "Consulting", "quantity": 1, "unit_amount": 1_000_000, "tax_rate": 10}
BODY: dict[str, Any] = {
    "currency": "IDR",
    "line_items": [LINE],
    "service_fee": {"percent": 3},
    "customer": {"name": "Budi Santoso", "email": "budi@example.com"},
}


def create(api: ContractClient, **changes: Any) -> Any:
    answer = api.post("/api/v1/invoices", {**BODY, **changes})
    assert answer.status_code == 201, answer.content
    return answer.json()


def issue(api: ContractClient, **changes: Any) -> Any:
    return create(api, finalize=True, **changes)


def day(days: int) -> str:
    return invoicing.in_days(days).isoformat()


def path(invoice: dict[str, Any], rest: str = "") -> str:
    return f"/api/v1/invoices/{invoice['id']}{rest}"


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_the_seeds_example(api: ContractClient) -> None:
    invoice = issue(api, installments={"count": 2, "interval": "monthly"})

    assert invoice["status"] == "pending"
    assert invoice["number"] == f"INV-{timezone.now().year}-000001"
    assert invoice["currency_code"] == "IDR"
    assert invoice["subtotal_amount"] == 1_000_000
    assert invoice["total_tax_amount"] == 100_000
    assert invoice["total_service_fee_amount"] == 30_000
    assert invoice["total_amount"] == invoice["amount_due"] == 1_130_000
    assert invoice["amount_paid"] == 0
    parts = ("number", "amount", "total", "subtotal", "tax", "service_fee", "amount_due", "status")
    assert [[each[part] for part in parts] for each in invoice["installment_schedule"]] == [
        [number, 565_000, 565_000, 500_000, 50_000, 15_000, 565_000, "unpaid"] for number in (1, 2)
    ]
    first, second = (dt.date.fromisoformat(i["due_date"]) for i in invoice["installment_schedule"])
    assert 28 <= (second - first).days <= 31
    assert invoice["due_date"] == second.isoformat()
    assert api.get(path(invoice)).json() == invoice


def test_what_was_made_is_what_is_read(api: ContractClient) -> None:
    invoice = create(
        api,
        external_id="order-7",
        description="Order 7",
        locale="id",
        metadata={"shop": "Bandung"},
        expires_at="2999-01-01T00:00:00Z",
        customer={
            "name": "Ada",
            "reference": "customer-7",
            "address": "Jalan Sudirman 1",
            "iban": "de89 3704 0044 0532 0130 00",
            "bic": "cobadeffxxx",
            "country": "DE",
        },
    )

    assert api.get(path(invoice)).json() == invoice
    assert (invoice["status"], invoice["number"]) == ("draft", None)
    assert invoice["customer"]["iban"] == "DE89370400440532013000"
    assert invoice["customer"]["bic"] == "COBADEFFXXX"
    assert invoice["service_fee"] == {"mode": "additive", "percent": "3", "fixed": 0}
    assert invoice["payment_url"].rpartition("/pay/")[2] == Invoice.objects.get().token


@pytest.mark.parametrize(
    ("quantity", "shown", "subtotal"),
    [
        ("1", "1", 1_000_000),
        ("2.5", "2.5", 2_500_000),
        ('"0.000001"', "0.000001", 1),
        ("0.10", "0.1", 100_000),
        # More digits than a double can tell apart.
        ("4503599627.370497", "4503599627.370497", 4_503_599_627_370_497),
        ("1e3", "1000", 1_000_000_000),
    ],
)
def test_a_quantity_is_what_is_written(
    api: ContractClient, quantity: str, shown: str, subtotal: int
) -> None:
    body = (
        '{"currency": "IDR", "line_items": [{"description": "Rice", "unit_amount": 1000000,'
        f' "quantity": {quantity}}}]}}'
    )

    invoice = api.post("/api/v1/invoices", body, content_type="application/json").json()

    assert invoice["line_items"][0]["quantity"] == shown
    assert invoice["subtotal_amount"] == invoice["total_amount"] == subtotal


@pytest.mark.parametrize(
    ("rate", "tax"),
    [(0, 0), (100, 1_000_000), (12.3456, 123_456), ("12.3456", 123_456), ("0.00005", None)],
)
def test_tax_is_percent_with_four_decimals(api: ContractClient, rate: Any, tax: int | None) -> None:
    line = {**LINE, "tax_rate": rate}

    answer = api.post("/api/v1/invoices", {**BODY, "line_items": [line]})

    if tax is None:
        assert answer.json()["errors"][0]["field"] == "line_items.0.tax_rate"
    else:
        assert answer.json()["total_tax_amount"] == tax


def test_a_fee_is_grossed_up(api: ContractClient) -> None:
    fee = {"percent": "2.9", "fixed": 2_000, "mode": "gross_up"}

    invoice = create(api, service_fee=fee)

    gross = invoice["subtotal_amount"] + invoice["total_service_fee_amount"]
    kept = gross * Decimal("0.029") + 2_000
    assert abs(gross - kept - 1_000_000) < 1
    assert invoice["service_fee"] == {"mode": "gross_up", "percent": "2.9", "fixed": 2_000}


def test_installments_of_ones_own(api: ContractClient) -> None:
    given = [{"due_date": day(1), "amount": 130_000}, {"due_date": day(9), "amount": 1_000_000}]

    invoice = create(api, installments=given)

    shown = invoice["installment_schedule"]
    assert [{name: each[name] for name in given[0]} for each in shown] == given
    for part, whole in (
        ("subtotal", "subtotal_amount"),
        ("tax", "total_tax_amount"),
        ("service_fee", "total_service_fee_amount"),
    ):
        assert sum(each[part] for each in shown) == invoice[whole]


def test_without_a_schedule_there_is_one_installment(api: ContractClient) -> None:
    invoice = issue(api, due_date=day(30))

    assert invoice["installment_schedule"] == []
    [all_of_it] = api.get(path(invoice, "/installments")).json()["results"]
    assert (all_of_it["amount"], all_of_it["due_date"]) == (1_130_000, day(30))


def test_a_draft_is_written_anew(api: ContractClient) -> None:
    draft = create(api, installments={"count": 2, "interval": "weekly"}, description="Old")
    body = {**BODY, "line_items": [{**LINE, "unit_amount": 500}] * 2}

    answer = api.patch(path(draft), body)

    assert answer.status_code == 200
    changed = answer.json()
    assert changed["id"] == draft["id"]
    assert (changed["subtotal_amount"], changed["description"]) == (1_000, "")
    assert changed["installment_schedule"] == []
    assert api.get(path(draft)).json() == changed


def test_what_has_a_number_is_not_written_anew(api: ContractClient) -> None:
    assert code_of(api.patch(path(issue(api)), BODY)) == (409, "invalid_state")


def test_a_draft_is_finalised_once(api: ContractClient) -> None:
    draft = create(api)

    first, again = (api.post(path(draft, "/finalize")) for _ in range(2))

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["status"] == "pending"
    assert first.json() == again.json()
    assert AuditRecord.objects.filter(action="invoice.finalized").count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_invoice_is_voided_with_a_reason(api: ContractClient) -> None:
    invoice = issue(api, installments={"count": 2, "interval": "weekly"})

    voided = api.post_once(path(invoice, "/void").removeprefix("/api/v1"), {"reason": "Twice"})

    assert (voided.status_code, voided.json()["status"]) == (200, "voided")
    assert voided.json()["amount_due"] == 0
    shown = voided.json()["installment_schedule"]
    assert {(each["status"], each["amount_due"]) for each in shown} == {("cancelled", 0)}
    assert AuditRecord.objects.get(action="invoice.voided").reason == "Twice"


def test_it_is_sent_once_for_a_key(api: ContractClient) -> None:
    invoice = issue(api)
    url = path(invoice, "/send").removeprefix("/api/v1")

    # Keys that differ only at their ends.
    for key in ("x" * 250 + "1", "x" * 250 + "1", "x" * 250 + "2"):
        sent = api.post_once(url, key=key)
        assert sent.status_code == 202
        assert sent.json()["sent_at"] is not None
    assert Mailing.objects.filter(kind="invoice").count() == 2
    assert api.post(path(invoice, "/send")).status_code == 202
    assert Mailing.objects.filter(kind="invoice").count() == 3


def test_without_an_address_nothing_is_sent(api: ContractClient) -> None:
    invoice = issue(api, customer={"name": "Ada"})

    assert code_of(api.post(path(invoice, "/send"))) == (409, "invalid_state")


def test_a_failed_one_is_opened_again(api: ContractClient) -> None:
    invoice = issue(api)
    assert code_of(api.post(path(invoice, "/open-again"), {"reason": "x"})) == (
        409,
        "invalid_state",
    )
    Invoice.objects.update(status="failed", attention="too_many_failures")
    assert api.get(path(invoice)).json()["attention"] == "too_many_failures"

    opened = api.post(path(invoice, "/open-again"), {"reason": "She called"}).json()

    assert (opened["status"], opened["attention"]) == ("pending", None)


def test_what_comes_on_top_is_an_invoice_of_its_own(api: ContractClient) -> None:
    parent = issue(api, locale="ms")
    line = {"description": "Travel", "quantity": "1.5", "unit_amount": 200_000}

    answer = api.post(path(parent, "/supplementary"), {"line_items": [line]})

    assert answer.status_code == 201
    extra = answer.json()
    assert extra["parent_id"] == parent["id"]
    assert (extra["total_amount"], extra["currency"], extra["status"]) == (
        300_000,
        "IDR",
        "pending",
    )
    assert extra["customer"] == parent["customer"]
    assert extra["locale"] == "ms"
    assert api.get(path(parent)).json()["supplementary_ids"] == [extra["id"]]
    assert extra == api.get(path(extra)).json()


def test_nothing_comes_on_top_of_a_draft(api: ContractClient) -> None:
    answer = api.post(path(create(api), "/supplementary"), {"line_items": [LINE]})

    assert code_of(answer) == (409, "invalid_state")


def test_a_supplement_has_no_currency_of_its_own(api: ContractClient) -> None:
    answer = api.post(path(issue(api), "/supplementary"), {"line_items": [LINE], "currency": "USD"})

    assert answer.json()["errors"][0]["field"] == "currency"


def test_unpaid_installments_are_adjusted(api: ContractClient) -> None:
    invoice = issue(api, installments={"count": 2, "interval": "monthly"})
    adjustments: list[dict[str, Any]] = [
        {"number": 1, "amount": 65_000},
        {"number": 2, "due_date": day(90)},
    ]

    wrong = api.patch(path(invoice, "/installments"), {"installments": adjustments})
    adjustments[1]["amount"] = 1_065_000
    right = api.patch(path(invoice, "/installments"), {"installments": adjustments})

    assert code_of(wrong) == (400, "schedule_mismatch")
    assert "500,000 less" in wrong.json()["detail"]
    assert right.status_code == 200
    shown = right.json()["results"]
    assert [each["amount"] for each in shown] == [65_000, 1_065_000]
    assert sum(each["tax"] for each in shown) == 100_000
    assert api.get(path(invoice)).json()["installment_schedule"] == shown
    assert api.get(path(invoice)).json()["due_date"] == day(90)


def test_an_installment_that_is_late_says_so(api: ContractClient) -> None:
    schedule = {"count": 2, "interval": "monthly"}
    pending, draft = issue(api, installments=schedule), create(api, installments=schedule)
    assert (pending["is_overdue"], draft["is_overdue"]) == (False, False)

    Installment.objects.filter(number=1).update(due_date=invoicing.in_days(-1))

    pending, draft = (api.get(path(each)).json() for each in (pending, draft))
    statuses = [each["status"] for each in pending["installment_schedule"]]
    assert (pending["is_overdue"], statuses) == (True, ["overdue", "unpaid"])
    # Nobody was asked for it yet.
    assert draft["is_overdue"] is False


def test_lists_are_filtered(api: ContractClient) -> None:
    draft = create(api, external_id="order-7")
    pending = issue(api, customer={"reference": "customer-9", "email": "ada@example.com"})
    dollars = create(api, currency="USD", customer={"email": "Ben@Example.com"})
    Invoice.objects.filter(pk=dollars["id"]).update(attention="charged_back")

    def listed(query: str) -> list[str]:
        return [each["id"] for each in api.get(f"/api/v1/invoices?{query}").json()["results"]]

    ids = {"draft": draft["id"], "pending": pending["id"], "dollars": dollars["id"]}
    for query, names in (
        ("limit=10", ["dollars", "pending", "draft"]),
        ("status=pending", ["pending"]),
        ("status=draft&currency=IDR", ["draft"]),
        ("external_id=order-7", ["draft"]),
        ("external_id=order", []),
        ("customer=customer-9", ["pending"]),
        ("customer=ben@example.com", ["dollars"]),
        ("customer=ada@example.com", []),
        ("attention=true", ["dollars"]),
        ("attention=false", ["pending", "draft"]),
        ("from=2020-01-01&to=2020-12-31", []),
        (f"from={day(0)}&to={day(1)}", ["dollars", "pending", "draft"]),
        (f"from={pending['created_at']}&to={dollars['created_at']}", ["pending"]),
    ):
        assert listed(query) == [ids[name] for name in names], query


@pytest.mark.parametrize(
    "query", ["status=paid", "currency=XXX", "attention=1", "from=yesterday", "total=1", "to="]
)
def test_a_filter_that_cannot_be_meant_is_refused(api: ContractClient, query: str) -> None:
    assert code_of(api.get(f"/api/v1/invoices?{query}")) == (400, "invalid_request")


def test_pages_hold_each_invoice_once(api: ContractClient) -> None:
    made = [create(api)["id"] for _ in range(5)]

    seen, url = [], "/api/v1/invoices?limit=2"
    while url:
        page = api.get(url).json()
        seen += [each["id"] for each in page["results"]]
        url = page["next"]

    assert seen == made[::-1]


def test_a_list_costs_the_same_however_many_are_on_it(api: ContractClient) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert api.get("/api/v1/invoices").status_code == 200
        # Who calls is remembered for a while, and no part of it.
        return sum(' FROM "invoices_' in each["sql"] for each in captured)

    issue(api)
    few = queries()
    for _ in range(4):
        parent = issue(api, line_items=[LINE] * 3, installments={"count": 4, "interval": "weekly"})
        api.post(path(parent, "/supplementary"), {"line_items": [LINE]})

    assert queries() == few == 4


def test_a_key_makes_one_invoice(api: ContractClient) -> None:
    first, again = (api.post_once("/invoices", BODY, key="order-7") for _ in range(2))

    assert first.json() == again.json()
    assert again["Idempotent-Replayed"] == "true"
    assert Invoice.objects.count() == 1
    other = {**BODY, "description": "Another"}
    assert code_of(api.post_once("/invoices", other, key="order-7")) == (
        422,
        "idempotency_conflict",
    )


def test_without_a_key_each_request_makes_one(api: ContractClient) -> None:
    assert create(api)["id"] != create(api)["id"]


def test_one_of_a_thousand_lines(api: ContractClient) -> None:
    line = {"description": "Rice", "quantity": "0.3", "unit_amount": 5, "tax_rate": "11"}

    invoice = issue(api, line_items=[line] * 1_000, service_fee=None)

    # 1.5 is 2 and 0.22 is 0, on each line.
    assert (invoice["subtotal_amount"], invoice["total_tax_amount"]) == (2_000, 0)
    assert [each["position"] for each in invoice["line_items"]] == list(range(1, 1_001))


def test_the_bank_gets_a_transfer_for_each_installment(api: ContractClient) -> None:
    invoice = issue(api, installments={"count": 2, "interval": "monthly"})

    answer = api.get(path(invoice, "/payment-initiation"))

    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/xml"
    assert answer["Content-Disposition"].startswith("attachment; filename=")
    assert answer.content.count(b"<CdtTrfTxInf>") == 2
    assert b"<CtrlSum>1130000</CtrlSum>" in answer.content


def test_a_refused_file_is_a_problem(api: ContractClient) -> None:
    draft = create(api)

    answer = api.get(path(draft, "/payment-initiation"))

    assert code_of(answer) == (409, "invoice_not_payable")
    assert answer["Content-Type"] == "application/problem+json"


def test_a_file_is_not_to_be_had_as_something_else(api: ContractClient) -> None:
    url = path(issue(api), "/payment-initiation")

    answer = api.get(url, headers={"Accept": "application/json"})

    assert code_of(answer) == (406, "not_acceptable")
    assert answer["Content-Type"] == "application/problem+json"
