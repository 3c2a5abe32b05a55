"""What no caller should send about invoices: refused clearly, and nothing is made."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings

from accounts.models import Account
from core.money import AMOUNT_MAX
from identity.models import Tenant
from invoices.models import Invoice
from invoices.services import EvenSchedule, Interval
from tests import gateways, invoicing, making
from tests.contract import ContractClient

pytestmark = pytest.mark.django_db

LINE = {"description": "Consulting", "quantity": 1, "unit_amount": 1_000, "tax_rate": 10}
BODY: dict[str, Any] = {"currency": "USD", "line_items": [LINE]}
UNKNOWN = "0199c0de-7e57-7000-8000-00000000dead"
CARD = "4242 4242 4242 4242"


def day(days: int) -> str:
    return invoicing.in_days(days).isoformat()


@pytest.fixture
def refusal(api: ContractClient) -> Iterator[Any]:
    """Status, code and the field at fault of a new invoice with changes."""

    def refused(**changes: Any) -> tuple[int, str, str]:
        return refusal_of(api.post("/api/v1/invoices", {**BODY, **changes}))

    yield refused
    assert not Invoice.objects.exists()


def refusal_of(answer: Any) -> tuple[int, str, str]:
    body = answer.json()
    return body["status"], body["code"], body["errors"][0]["field"] if body["errors"] else ""


def with_line(**changes: Any) -> dict[str, Any]:
    return {"line_items": [{**LINE, **changes}]}


def raw(api: ContractClient, text: str | bytes) -> Any:
    return api.post("/api/v1/invoices", text, content_type="application/json")


def test_the_request_itself_is_fine(api: ContractClient) -> None:
    assert api.post("/api/v1/invoices", BODY).status_code == 201


@pytest.mark.parametrize(
    "quantity",
    [
        *(0, -1, -0.5, 0.0, 0.0000001, 1.1234567, 10**12, 1e12, 10**39),
        *("", " ", "x", "0", "-1", "NaN", "Infinity", "1e3", "1_000", " 1", "1,5", "٣", "1.", ".5"),
        *(True, None, [1], {}),
    ],
    ids=ascii,
)
def test_a_quantity_is_above_zero_with_six_decimals(refusal: Any, quantity: Any) -> None:
    assert refusal(**with_line(quantity=quantity)) == (
        400,
        "invalid_request",
        "line_items.0.quantity",
    )


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e400", "1e-400", "1e9" + "9" * 20]
)
def test_a_quantity_is_a_number_of_this_world(api: ContractClient, number: str) -> None:
    text = json.dumps({**BODY, **with_line(quantity="QUANTITY")}).replace('"QUANTITY"', number)

    assert refusal_of(raw(api, text))[:2] == (400, "invalid_request")
    assert not Invoice.objects.exists()


@pytest.mark.parametrize(
    "rate", [-1, 101, 100.0001, 12.34567, "-1", "101", "ten", True, None], ids=ascii
)
def test_a_tax_rate_is_0_to_100_percent(refusal: Any, rate: Any) -> None:
    assert refusal(**with_line(tax_rate=rate)) == (400, "invalid_request", "line_items.0.tax_rate")


@pytest.mark.parametrize(
    "amount", [-1, 1.5, 1.0, "1", True, None, AMOUNT_MAX + 1, 2**63, 10**39], ids=ascii
)
def test_a_unit_amount_is_a_whole_number(refusal: Any, amount: Any) -> None:
    assert refusal(**with_line(unit_amount=amount)) == (
        400,
        "invalid_request",
        "line_items.0.unit_amount",
    )


def test_an_invoice_of_nothing_is_none(refusal: Any) -> None:
    assert refusal(**with_line(unit_amount=0)) == (400, "invalid_request", "line_items")


def test_a_line_that_is_too_much_is_named(refusal: Any) -> None:
    lines = [LINE, {**LINE, "unit_amount": AMOUNT_MAX, "quantity": 2}]

    assert refusal(line_items=lines) == (400, "invalid_request", "line_items.1")


def test_lines_that_are_too_much_together(refusal: Any) -> None:
    lines = [{**LINE, "unit_amount": AMOUNT_MAX, "tax_rate": 0}] * 2

    assert refusal(line_items=lines) == (400, "invalid_request", "line_items")


@pytest.mark.parametrize(
    "lines", [[], [LINE] * 1_001, None, {}, "x", [1]], ids=lambda it: str(it)[:9]
)
def test_an_invoice_has_1_to_1000_lines(refusal: Any, lines: Any) -> None:
    status, code, field = refusal(line_items=lines)

    assert (status, code) == (400, "invalid_request")
    assert field.startswith("line_items")


@pytest.mark.parametrize("field", ["description", "quantity", "unit_amount"])
def test_what_is_missing_of_a_line_is_named(refusal: Any, field: str) -> None:
    line = {name: value for name, value in LINE.items() if name != field}

    assert refusal(line_items=[line]) == (400, "invalid_request", f"line_items.0.{field}")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (with_line(taxrate=10), "line_items.0.taxrate"),
        ({"service_fees": {"percent": 3}}, "service_fees"),
        ({"service_fee": {"percentage": 3}}, "service_fee.percentage"),
        ({"customer": {"mail": "ada@example.com"}}, "customer.mail"),
        ({"finalise": True}, "finalise"),
    ],
)
def test_a_mistyped_field_is_not_passed_over(
    refusal: Any, changes: dict[str, Any], field: str
) -> None:
    assert refusal(**changes) == (400, "invalid_request", field)


@pytest.mark.parametrize(
    ("fee", "field"),
    [
        ({"percent": -1}, "service_fee.percent"),
        ({"percent": 101}, "service_fee.percent"),
        ({"percent": 100, "mode": "gross_up"}, "service_fee.percent"),
        ({"fixed": -1}, "service_fee.fixed"),
        ({"fixed": 2**63}, "service_fee.fixed"),
        ({"mode": "on top"}, "service_fee.mode"),
        (3, "service_fee"),
    ],
)
def test_a_service_fee_that_cannot_be(refusal: Any, fee: Any, field: str) -> None:
    assert refusal(service_fee=fee) == (400, "invalid_request", field)


@pytest.mark.parametrize(
    ("installments", "field"),
    [
        ([], "installments"),
        ([{"due_date": "2999-01-01", "amount": 1}] * 61, "installments"),
        ([{"due_date": "2999-01-01"}], "installments.0.amount"),
        ([{"due_date": "2999-01-01", "amount": 0}], "installments.0.amount"),
        ([{"due_date": "9999-12-31", "amount": 1}], "installments.0.due_date"),
        ([{"due_date": "2026-02-30", "amount": 1}], "installments.0.due_date"),
        ([{"due_date": "2999-01-01", "amount": 1, "count": 2}], "installments.0.count"),
        ({"count": 2, "interval": "weekly", "amount": 1}, "installments.amount"),
        ({"count": 2}, "installments.interval"),
        ({"interval": "weekly"}, "installments.count"),
        ({"count": 0, "interval": "weekly"}, "installments.count"),
        ({"count": 61, "interval": "weekly"}, "installments.count"),
        ({"count": 2, "interval": "daily"}, "installments.interval"),
        (
            {"count": 2, "interval": "weekly", "first_due_date": "9999-12-31"},
            "installments.first_due_date",
        ),
        (3, "installments"),
        ("weekly", "installments"),
    ],
    ids=lambda it: str(it)[:60],
)
def test_a_schedule_that_cannot_be(refusal: Any, installments: Any, field: str) -> None:
    assert refusal(installments=installments) == (400, "invalid_request", field)


@pytest.mark.parametrize(
    ("amounts", "words"),
    [
        ((500, 700), "1.00 more"),
        ((500, 500), "1.00 less"),
        ((1, 1), "10.98 less"),
        ((AMOUNT_MAX, AMOUNT_MAX), "179,999,999,999,989.00 more"),
    ],
)
def test_a_schedule_that_does_not_add_up_says_by_how_much(
    api: ContractClient, amounts: tuple[int, int], words: str
) -> None:
    schedule = [{"due_date": day(n), "amount": amount} for n, amount in enumerate(amounts)]

    answer = api.post("/api/v1/invoices", {**BODY, "installments": schedule})

    assert refusal_of(answer) == (400, "schedule_mismatch", "installments")
    assert words in answer.json()["detail"]
    assert not Invoice.objects.exists()


def test_one_unit_is_not_paid_in_seven_installments(refusal: Any) -> None:
    schedule = {"count": 7, "interval": "monthly"}

    refused = refusal(**with_line(unit_amount=1, tax_rate=0), installments=schedule)

    assert refused == (400, "invalid_request", "installments.count")


def test_installments_go_forward(refusal: Any) -> None:
    schedule = [{"due_date": day(9), "amount": 500}, {"due_date": day(8), "amount": 600}]

    assert refusal(installments=schedule) == (400, "invalid_request", "installments")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"due_date": day(-2)}, "due_date"),
        ({"due_date": "9999-12-31"}, "due_date"),
        ({"due_date": "tomorrow"}, "due_date"),
        ({"due_date": 7}, "due_date"),
        ({"installments": [{"due_date": day(-2), "amount": 1_100}]}, "installments"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "never"}, "expires_at"),
    ],
)
def test_a_day_that_is_past_or_none(refusal: Any, changes: dict[str, Any], field: str) -> None:
    assert refusal(**changes) == (400, "invalid_request", field)


@pytest.mark.parametrize("currency", ["usd", "XXX", "", 840, None], ids=repr)
def test_a_currency_is_an_active_code(refusal: Any, currency: Any) -> None:
    assert refusal(currency=currency) == (400, "invalid_request", "currency")


@pytest.mark.parametrize(
    ("customer", "field"),
    [
        ({"email": "nobody"}, "customer.email"),
        ({"email": "a@b.example\nBcc: c@d.example"}, "customer.email"),
        ({"iban": "DE00370400440532013000"}, "customer.iban"),
        ({"bic": "NOBANK"}, "customer.bic"),
        ({"country": "Germany"}, "customer.country"),
        ({"account_number": "12 34"}, "customer.account_number"),
        (
            {"iban": "DE89370400440532013000", "account_number": "1234"},
            "customer.account_number",
        ),
        ({"name": "x" * 141}, "customer.name"),
        ({"name": "nul\x00"}, "customer.name"),
        ({"name": 7}, "customer.name"),
        ("Ada", "customer"),
    ],
)
def test_a_customer_that_cannot_be(refusal: Any, customer: Any, field: str) -> None:
    assert refusal(customer=customer) == (400, "invalid_request", field)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"description": f"Paid by {CARD}"}, "description"),
        (with_line(description=CARD), "line_items.0.description"),
        ({"customer": {"name": CARD}}, "customer.name"),
        ({"customer": {"address": CARD}}, "customer.address"),
        ({"customer": {"reference": CARD}}, "customer.reference"),
        ({"metadata": {"card": CARD}}, "metadata"),
    ],
)
def test_a_card_number_is_refused_and_not_said_again(
    api: ContractClient, changes: dict[str, Any], field: str
) -> None:
    answer = api.post("/api/v1/invoices", {**BODY, **changes})

    assert refusal_of(answer) == (400, "invalid_request", field)
    assert answer.json()["errors"][0]["code"] == "card_number"
    assert "4242" not in answer.content.decode()


@pytest.mark.parametrize(
    "metadata",
    ["x", {"k": 1}, {"": "v"}, {"k" * 65: "v"}, {str(n): "v" for n in range(51)}],
    ids=lambda it: str(it)[:9],
)
def test_metadata_is_a_small_object_of_strings(refusal: Any, metadata: Any) -> None:
    assert refusal(metadata=metadata)[:2] == (400, "invalid_request")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"locale": "xx"}, "locale"),
        ({"gateway": "bank_file"}, "gateway"),
        ({"settlement_account_id": "7"}, "settlement_account_id"),
        ({"external_id": ""}, "external_id"),
        ({"external_id": "x" * 201}, "external_id"),
        ({"finalize": "yes"}, "finalize"),
    ],
)
def test_other_fields_are_checked_too(refusal: Any, changes: dict[str, Any], field: str) -> None:
    assert refusal(**changes) == (400, "invalid_request", field)


def test_a_gateway_that_lacks_the_currency(
    refusal: Any, tenant: Tenant, sandbox: gateways.Sandbox
) -> None:
    gateways.add_midtrans(tenant)

    refused = refusal(gateway="midtrans")

    assert refused[:2] == (422, "currency_not_supported_by_gateway")


def test_a_gateway_that_was_never_set_up(refusal: Any) -> None:
    assert refusal(gateway="xendit")[:2] == (422, "no_gateway")


def test_an_unknown_settlement_account(refusal: Any) -> None:
    assert refusal(settlement_account_id=UNKNOWN)[:2] == (404, "not_found")


def test_another_tenants_settlement_account(refusal: Any, other_tenant: Tenant) -> None:
    theirs = making.open_account(other_tenant)

    assert refusal(settlement_account_id=str(theirs.pk))[:2] == (404, "not_found")


def test_an_internal_account_settles_nothing(refusal: Any, tenant: Tenant) -> None:
    making.open_account(tenant, balance=1)
    cash = Account.objects.get(role="cash")

    assert refusal(settlement_account_id=str(cash.pk))[:2] == (404, "not_found")


def test_a_settlement_account_of_another_currency(refusal: Any, tenant: Tenant) -> None:
    euros = making.open_account(tenant, currency="EUR")

    assert refusal(settlement_account_id=str(euros.pk))[:2] == (422, "currency_mismatch")


def test_an_external_id_is_taken_once(api: ContractClient) -> None:
    body = {**BODY, "external_id": "order-7"}
    assert api.post("/api/v1/invoices", body).status_code == 201

    for answer in (
        api.post("/api/v1/invoices", body),
        api.post_once("/invoices", {**body, "finalize": True}),
    ):
        assert refusal_of(answer)[:2] == (409, "already_exists")
    assert Invoice.objects.count() == 1


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "null", '{"a": 1, "a": 2}', '{"a":' * 40 + "1" + "}" * 40, "", b"\xff", "\ufeff{}"],
    ids=ascii,
)
def test_a_body_is_a_json_object(api: ContractClient, text: str | bytes) -> None:
    assert refusal_of(raw(api, text))[:2] == (400, "invalid_request")


def test_a_body_too_large_is_not_read(api: ContractClient, settings: LazySettings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000

    answer = api.post("/api/v1/invoices", {**BODY, "description": "x" * 1_000})

    assert refusal_of(answer)[:2] == (413, "payload_too_large")


ROUTES = {
    "get": [
        "",
        "/installments",
        "/payments",
        "/overpayment",
        "/credit-notes",
        "/payment-initiation",
        "/pdf",
    ],
    "post": [
        *("/finalize", "/void", "/send", "/open-again", "/supplementary", "/payments"),
        *("/overpayment/refunds", "/apply-credit", "/refunds", "/credit-notes"),
    ],
    "patch": ["", "/installments"],
}
BODIES: dict[str, Any] = {
    "/void": {"reason": "x"},
    "/open-again": {"reason": "x"},
    "/supplementary": {"line_items": [LINE]},
    "/payments": {"amount": 1, "method": "cash"},
    "/overpayment/refunds": {"reason": "x"},
    "/refunds": {"reason": "x"},
    "/credit-notes": {"reason": "x"},
    "": BODY,
    "/installments": {"installments": [{"number": 1, "amount": 1}]},
}


@pytest.mark.parametrize(
    ("method", "rest"), [(method, rest) for method, rests in ROUTES.items() for rest in rests]
)
def test_an_invoice_that_is_not_there(
    api: ContractClient, other_tenant: Tenant, method: str, rest: str
) -> None:
    theirs = invoicing.issued(other_tenant, currency="USD")
    before = list(Invoice.objects.values())
    key = {"Idempotency-Key": making.fresh_key()}

    for invoice_id in (UNKNOWN, str(theirs.pk)):
        url = f"/api/v1/invoices/{invoice_id}{rest}"
        body = BODIES.get(rest) if method != "get" else None
        answer = getattr(api, method)(url, body, headers=key)

        assert refusal_of(answer)[:2] == (404, "not_found")
    assert list(Invoice.objects.values()) == before


@pytest.mark.parametrize(
    ("rest", "body", "field"),
    [
        ("/payments", {"method": "cash"}, "amount"),
        ("/payments", {"amount": 0, "method": "cash"}, "amount"),
        ("/payments", {"amount": 2**63, "method": "cash"}, "amount"),
        ("/payments", {"amount": 1.5, "method": "cash"}, "amount"),
        ("/payments", {"amount": 1}, "method"),
        ("/payments", {"amount": 1, "method": CARD}, "method"),
        ("/payments", {"amount": 1, "method": "cash", "note": CARD}, "note"),
        ("/payments", {"amount": 1, "method": "cash", "reference": CARD}, "reference"),
        ("/payments", {"amount": 1, "method": "cash", "received_on": "x"}, "received_on"),
        ("/payments", {"amount": 1, "method": "cash", "currency": "EUR"}, "currency"),
        ("/refunds", {"amount": 1}, "reason"),
        ("/refunds", {"amount": -1, "reason": "x"}, "amount"),
        ("/refunds", {"amount": 1, "reason": CARD}, "reason"),
        ("/credit-notes", {"amount": 0, "reason": "x"}, "amount"),
        ("/credit-notes", {"amount": 1, "reason": ""}, "reason"),
        ("/overpayment/refunds", {"amount": "1", "reason": "x"}, "amount"),
        ("/apply-credit", {"amount": 0}, "amount"),
        ("/void", {}, "reason"),
        ("/void", {"reason": " "}, "reason"),
        ("/open-again", {"reason": "x" * 501}, "reason"),
    ],
)
def test_what_is_asked_of_an_invoice_is_checked(
    api: ContractClient, tenant: Tenant, rest: str, body: dict[str, Any], field: str
) -> None:
    invoice = invoicing.issued(tenant, currency="USD")

    answer = api.post_once(f"/invoices/{invoice.pk}{rest}", body)

    assert refusal_of(answer) == (400, "invalid_request", field)
    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_due) == ("pending", invoice.total_amount)


@pytest.mark.parametrize(
    ("installments", "field"),
    [
        ([], "installments"),
        ([{"number": 3, "amount": 1}], "installments.0.number"),
        ([{"number": 0, "amount": 1}], "installments.0.number"),
        ([{"number": 1, "amount": 0}], "installments.0.amount"),
        ([{"number": 1, "amount": 1}, {"number": 1, "amount": 2}], "installments"),
        ([{"number": 1, "due_date": day(-2)}], "installments.0.due_date"),
        ([{"number": 1, "due_date": day(900)}], "installments"),
        ([{"amount": 1}], "installments.0.number"),
        (None, "installments"),
    ],
    ids=lambda it: str(it)[:40],
)
def test_an_adjustment_that_cannot_be(
    api: ContractClient, tenant: Tenant, installments: Any, field: str
) -> None:
    schedule = EvenSchedule(2, Interval.MONTHLY)
    invoice = invoicing.issued(tenant, schedule=schedule)
    url = f"/api/v1/invoices/{invoice.pk}/installments"
    before = api.get(url).json()

    answer = api.patch(url, {"installments": installments})

    assert refusal_of(answer) == (400, "invalid_request", field)
    assert api.get(url).json() == before


@pytest.mark.parametrize(
    "rest", ["/payments", "/refunds", "/credit-notes", "/apply-credit", "/overpayment/refunds"]
)
def test_money_takes_a_key(api: ContractClient, tenant: Tenant, rest: str) -> None:
    invoice = invoicing.issued(tenant)

    answer = api.post(f"/api/v1/invoices/{invoice.pk}{rest}", BODIES.get(rest, {}))

    assert refusal_of(answer)[:2] == (400, "idempotency_key_required")
