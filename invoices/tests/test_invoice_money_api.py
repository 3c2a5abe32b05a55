"""What is paid on invoices, credited and paid back, through the API's door."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from identity.models import Tenant
from invoices.models import Credit, Invoice, Receipt
from invoices.services import EvenSchedule, Interval
from tests import gateways, invoicing, making
from tests.contract import ContractClient
from tests.gateways import Sandbox
from tests.invoicing import assert_books_agree, issued, line, pay

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def seller(tenant: Tenant, sandbox: Sandbox) -> Tenant:
    gateways.add_sandbox(tenant)
    return tenant


def url(invoice: Invoice, rest: str = "") -> str:
    return f"/invoices/{invoice.pk}{rest}"


def read(api: ContractClient, invoice: Invoice, rest: str = "") -> Any:
    answer = api.get(f"/api/v1{url(invoice, rest)}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def pay_by_hand(api: ContractClient, invoice: Invoice, amount: int, **more: Any) -> Any:
    body = {"amount": amount, "method": "bank transfer", **more}
    answer = api.post_once(url(invoice, "/payments"), body)
    assert answer.status_code == 201, answer.content
    return answer.json()


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_money_that_came_by_hand(api: ContractClient, seller: Tenant) -> None:
    invoice = issued(seller, schedule=EvenSchedule(2, Interval.MONTHLY))
    day = invoicing.in_days(-3).isoformat()

    receipt = pay_by_hand(api, invoice, 700_000, received_on=day, reference="BCA 7", note="Teller")

    assert (receipt["kind"], receipt["method"]) == ("offline", "bank transfer")
    assert (receipt["amount"], receipt["applied_amount"]) == (700_000, 700_000)
    assert (receipt["received_on"], receipt["reference"]) == (day, "BCA 7")
    assert [each["installment"] for each in receipt["allocations"]] == [1, 2]
    shown = read(api, invoice)
    assert (shown["status"], shown["amount_paid"]) == ("partially_paid", 700_000)
    assert shown["amount_due"] == 430_000
    installments = read(api, invoice, "/installments")["results"]
    assert installments == shown["installment_schedule"]
    assert [each["status"] for each in installments] == ["paid", "partially_paid"]
    assert [each["amount_due"] for each in installments] == [0, 430_000]
    assert read(api, invoice, "/payments")["results"] == [receipt]
    assert_books_agree(seller)


def test_the_same_key_notes_it_once(api: ContractClient, seller: Tenant) -> None:
    invoice = issued(seller)
    body = {"amount": 1_000, "method": "cash"}

    first, again = (api.post_once(url(invoice, "/payments"), body, key="7") for _ in range(2))
    other = api.post_once(url(invoice, "/payments"), {**body, "amount": 1_001}, key="7")

    assert first.json() == again.json()
    assert again["Idempotent-Replayed"] == "true"
    assert code_of(other) == (422, "idempotency_conflict")
    assert Receipt.objects.count() == 1


def test_two_with_one_key_at_once_note_it_once(seller: Tenant) -> None:
    invoice = issued(seller)
    client = making.api_client(seller)
    body = {"amount": 1_000, "method": "cash"}

    answers = making.at_once(
        [lambda: client.post_once(url(invoice, "/payments"), body, key="7") for _ in range(4)]
    )

    assert [getattr(answer, "status_code", answer) for answer in answers] == [201] * 4
    assert Receipt.objects.count() == 1
    assert_books_agree(seller)


def test_payments_are_those_that_came(api: ContractClient, seller: Tenant) -> None:
    invoice = issued(seller, schedule=EvenSchedule(2, Interval.MONTHLY))
    pay(invoice, installment=1, number="4000000000000002")
    assert read(api, invoice, "/payments")["results"] == []
    pay(invoice, installment=1)
    pay_by_hand(api, invoice, 500_000)

    by_hand, by_card = read(api, invoice, "/payments")["results"]

    assert (by_hand["kind"], by_hand["payment_id"]) == ("offline", None)
    assert (by_card["kind"], by_card["method"], by_card["amount"]) == (
        "gateway",
        "sandbox",
        565_000,
    )
    assert by_card["reference"].startswith(f"{invoice.number}-")


def test_payments_are_read_page_by_page(api: ContractClient, seller: Tenant) -> None:
    invoice = issued(seller)
    made = [pay_by_hand(api, invoice, amount)["id"] for amount in (1, 2, 3)]

    first = read(api, invoice, "/payments?limit=2")
    second = api.get(first["next"]).json()

    assert [each["id"] for each in first["results"] + second["results"]] == made[::-1]


def test_too_much_is_shown_used_and_paid_back(api: ContractClient, seller: Tenant) -> None:
    invoice = issued(seller)
    following = issued(seller, lines=[line(100_000)])
    receipt = pay_by_hand(api, invoice, 1_500_000)
    assert receipt["overpaid_amount"] == 370_000

    applied = api.post_once(url(following, "/apply-credit"), {"amount": 13_000})
    back = api.post_once(url(invoice, "/overpayment/refunds"), {"amount": 7_000, "reason": "Hers"})

    assert applied.status_code == 200
    assert (applied.json()["id"], applied.json()["amount_paid"]) == (str(following.pk), 13_000)
    assert back.status_code == 201
    shown = read(api, invoice, "/overpayment")
    assert back.json() == shown
    amounts = ("overpaid", "remaining", "applied", "refunded", "taken_back")
    assert [shown[f"{name}_amount"] for name in amounts] == [370_000, 350_000, 13_000, 7_000, 0]
    [credit] = shown["credits"]
    assert (credit["amount"], credit["remaining_amount"]) == (370_000, 350_000)
    assert [(use["kind"], use["invoice_id"]) for use in credit["uses"]] == [
        ("applied", str(following.pk)),
        ("refunded", None),
    ]
    [used] = read(api, following, "/payments")["results"]
    assert (used["kind"], used["amount"]) == ("credit", 13_000)
    assert read(api, invoice)["amount_overpaid"] == 370_000
    assert_books_agree(seller)


def test_all_of_the_credit_is_used_where_nothing_else_is_said(
    api: ContractClient, seller: Tenant
) -> None:
    invoice, following = issued(seller), issued(seller, lines=[line(100_000)])
    pay_by_hand(api, invoice, 1_500_000)

    paid = api.post_once(url(following, "/apply-credit"), {}).json()
    rest = api.post_once(url(invoice, "/overpayment/refunds"), {"reason": "Hers"}).json()

    assert (paid["status"], paid["amount_due"]) == ("fully_paid", 0)
    assert (rest["remaining_amount"], rest["applied_amount"]) == (0, 113_000)
    assert rest["refunded_amount"] == 257_000
    assert_books_agree(seller)


def test_credit_that_is_not_there_is_refused(api: ContractClient, seller: Tenant) -> None:
    invoice, following = issued(seller), issued(seller)
    pay_by_hand(api, invoice, 1_130_001)

    for path, body in (
        (url(following, "/apply-credit"), {"amount": 2}),
        (url(invoice, "/overpayment/refunds"), {"amount": 2, "reason": "x"}),
        (url(following, "/overpayment/refunds"), {"reason": "x"}),
    ):
        assert code_of(api.post_once(path, body)) == (422, "not_enough_credit")
    assert Credit.objects.get().remaining_amount == 1


def test_the_same_key_uses_credit_once(api: ContractClient, seller: Tenant) -> None:
    invoice, following = issued(seller), issued(seller)
    pay_by_hand(api, invoice, 1_500_000)
    back = {"amount": 5, "reason": "x"}

    applied = [
        api.post_once(url(following, "/apply-credit"), {"amount": 9}, key="7") for _ in range(2)
    ]
    returned = [
        api.post_once(url(invoice, "/overpayment/refunds"), back, key="7") for _ in range(2)
    ]

    for first, again in (applied, returned):
        assert first.json() == again.json()
        assert "Idempotent-Replayed" not in first
        assert again["Idempotent-Replayed"] == "true"
    assert Credit.objects.get().used_amount == 14


def test_a_part_is_paid_back_with_a_credit_note(api: ContractClient, seller: Tenant) -> None:
    invoice = issued(seller)
    pay(invoice)

    answer = api.post_once(url(invoice, "/refunds"), {"amount": 113_000, "reason": "One of ten"})

    assert answer.status_code == 201
    note = answer.json()
    assert note["number"].startswith("CN-")
    assert note["invoice_id"] == str(invoice.pk)
    parts = [note[f"{part}_amount"] for part in ("net", "tax", "service_fee")]
    assert (note["amount"], parts) == (113_000, [100_000, 10_000, 3_000])
    assert (note["owed_amount"], note["refund_amount"]) == (0, 113_000)
    [refund] = note["refunds"]
    assert (refund["amount"], refund["method"]) == (113_000, "sandbox")
    assert read(api, invoice, "/credit-notes")["results"][0]["id"] == note["id"]
    shown = read(api, invoice)
    assert (shown["amount_refunded"], shown["amount_credited"]) == (113_000, 113_000)
    assert (shown["status"], shown["amount_due"]) == ("fully_paid", 0)
    assert_books_agree(seller)


def test_what_is_owed_is_credited_before_what_was_paid(api: ContractClient, seller: Tenant) -> None:
    invoice = issued(seller)
    pay_by_hand(api, invoice, 500_000)

    note = api.post_once(url(invoice, "/credit-notes"), {"amount": 700_000, "reason": "x"}).json()

    assert (note["owed_amount"], note["refund_amount"]) == (630_000, 70_000)
    assert note["refunds"] == [{"amount": 70_000, "status": "succeeded", "method": "bank transfer"}]
    assert read(api, invoice)["status"] == "fully_paid"
    assert_books_agree(seller)


def test_no_more_goes_back_than_came(api: ContractClient, seller: Tenant) -> None:
    invoice = issued(seller)
    pay_by_hand(api, invoice, 500_000)
    before = read(api, invoice)

    for rest, amount in (("/refunds", 500_001), ("/credit-notes", 1_130_001)):
        answer = api.post_once(url(invoice, rest), {"amount": amount, "reason": "x"})

        assert code_of(answer) == (422, "credit_exceeds_invoice")
    assert read(api, invoice) == before


def test_the_same_key_pays_back_once(api: ContractClient, seller: Tenant) -> None:
    invoice = issued(seller)
    pay(invoice)
    body = {"amount": 1_000, "reason": "x"}

    first, again = (api.post_once(url(invoice, "/refunds"), body, key="7") for _ in range(2))
    other = api.post_once(url(invoice, "/credit-notes"), body, key="7")

    assert first.json()["id"] == again.json()["id"]
    assert again["Idempotent-Replayed"] == "true"
    # A credit note of another kind is another request.
    assert code_of(other) == (422, "idempotency_conflict")
    assert read(api, invoice)["amount_refunded"] == 1_000
    assert_books_agree(seller)


def test_a_list_of_credit_notes_costs_the_same_however_many(
    api: ContractClient, seller: Tenant
) -> None:
    invoice = issued(seller)
    pay_by_hand(api, invoice, 1_130_000)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            read(api, invoice, "/credit-notes")
        return sum(' FROM "invoices_' in each["sql"] for each in captured)

    def credit() -> None:
        api.post_once(url(invoice, "/refunds"), {"amount": 1, "reason": "x"})

    credit()
    few = queries()
    for _ in range(3):
        credit()

    assert queries() == few


@pytest.mark.parametrize("rest", ["/refunds", "/credit-notes", "/payments", "/apply-credit"])
def test_a_draft_takes_no_money(api: ContractClient, seller: Tenant, rest: str) -> None:
    invoice = invoicing.draft(seller)
    bodies: dict[str, Any] = {"/payments": {"amount": 1, "method": "cash"}, "/apply-credit": {}}

    answer = api.post_once(url(invoice, rest), bodies.get(rest, {"reason": "x"}))

    code = "invoice_not_payable" if rest == "/apply-credit" else "invalid_state"
    assert code_of(answer) == (409, code)


def test_what_was_paid_on_is_not_voided(api: ContractClient, seller: Tenant) -> None:
    invoice = issued(seller)
    pay_by_hand(api, invoice, 1)

    assert code_of(api.post_once(url(invoice, "/void"), {"reason": "x"})) == (409, "invalid_state")
    assert read(api, invoice)["status"] == "partially_paid"


def test_a_voided_one_takes_no_money(api: ContractClient, seller: Tenant) -> None:
    invoice = issued(seller)
    api.post_once(url(invoice, "/void"), {"reason": "x"})

    answer = api.post_once(url(invoice, "/payments"), {"amount": 1, "method": "cash"})

    assert code_of(answer) == (409, "invalid_state")


def test_an_installment_that_was_paid_on_is_not_adjusted(
    api: ContractClient, seller: Tenant
) -> None:
    invoice = issued(seller, schedule=EvenSchedule(2, Interval.MONTHLY))
    pay(invoice, installment=1)

    answer = api.patch(
        f"/api/v1{url(invoice, '/installments')}", {"installments": [{"number": 1, "amount": 1}]}
    )

    assert answer.json()["errors"][0]["field"] == "installments.0.number"


def test_credit_pays_the_next_one_as_it_is_finalised(api: ContractClient, seller: Tenant) -> None:
    pay_by_hand(api, issued(seller), 1_500_000)
    draft = invoicing.draft(seller)

    first, again = (api.post(f"/api/v1{url(draft, '/finalize')}").json() for _ in range(2))

    assert (first["status"], first["amount_paid"]) == ("partially_paid", 370_000)
    assert first == again == read(api, draft)
    assert_books_agree(seller)
