"""Invoices as files through the API's door: which one, whose, and how refusals look."""

from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from identity.models import Tenant
from invoices.models import CreditNote, Invoice, Receipt
from invoices.services import credit_invoice
from tests import invoicing, making
from tests.contract import ContractClient

pytestmark = pytest.mark.django_db


@pytest.fixture
def invoice(tenant: Tenant) -> Invoice:
    """One that was paid in part and credited in part."""
    made = invoicing.issued(tenant)
    invoicing.pay_offline(made, 1_000)
    credit_invoice(
        tenant_id=tenant.pk,
        invoice_id=made.pk,
        amount=100,
        reason="x",
        idempotency_key=making.fresh_key(),
        now=timezone.now(),
    )
    return made


def ask(api: ContractClient, invoice: Invoice, query: str = "") -> Any:
    return api.get(f"/api/v1/invoices/{invoice.pk}/pdf{query}")


def refusal_of(answer: Any) -> tuple[int, str, str]:
    assert answer["Content-Type"] == "application/problem+json"
    body = answer.json()
    return body["status"], body["code"], body["errors"][0]["field"] if body["errors"] else ""


def test_each_document_is_a_pdf_of_its_name(api: ContractClient, invoice: Invoice) -> None:
    receipt, note = Receipt.objects.get(), CreditNote.objects.get()
    documents = set()
    for query, name in (
        ("", invoice.number),
        ("?document=invoice", invoice.number),
        (f"?document=receipt&id={receipt.pk}", f"receipt-{receipt.pk}"),
        (f"?document=credit_note&id={note.pk}", note.number),
    ):
        answer = ask(api, invoice, query)

        assert answer.status_code == 200
        assert answer["Content-Type"] == "application/pdf"
        assert answer["Content-Disposition"] == f'inline; filename="{name}.pdf"'
        assert answer.content.startswith(b"%PDF-")
        documents.add(answer.content)
    assert len(documents) == 3


def test_a_draft_has_one_too(api: ContractClient, tenant: Tenant) -> None:
    draft = invoicing.draft(tenant)

    answer = ask(api, draft)

    assert answer.status_code == 200
    assert str(draft.pk) in answer["Content-Disposition"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?document=statement", "document"),
        ("?document=receipt", "id"),
        ("?document=credit_note&id=7", "id"),
        (f"?id={UUID(int=7)}", "id"),
        ("?format=html", "format"),
    ],
)
def test_a_document_that_cannot_be(
    api: ContractClient, invoice: Invoice, query: str, field: str
) -> None:
    assert refusal_of(ask(api, invoice, query)) == (400, "invalid_request", field)


def test_a_document_is_of_its_invoice(
    api: ContractClient, invoice: Invoice, tenant: Tenant, other_tenant: Tenant
) -> None:
    another, theirs = invoicing.issued(tenant), invoicing.issued(other_tenant)
    for each in (another, theirs):
        invoicing.pay_offline(each, 1_000)

    for each in (another, theirs):
        receipt = Receipt.objects.get(invoice=each)
        refused = refusal_of(ask(api, invoice, f"?document=receipt&id={receipt.pk}"))
        assert refused[:2] == (404, "not_found")
    note = CreditNote.objects.get()
    refused = refusal_of(ask(api, another, f"?document=credit_note&id={note.pk}"))
    assert refused[:2] == (404, "not_found")
    assert refusal_of(ask(api, theirs))[:2] == (404, "not_found")


def test_a_pdf_is_not_to_be_had_as_something_else(api: ContractClient, invoice: Invoice) -> None:
    url = f"/api/v1/invoices/{invoice.pk}/pdf"

    answer = api.get(url, headers={"Accept": "application/json"})

    assert refusal_of(answer)[:2] == (406, "not_acceptable")
    assert api.get(url, headers={"Accept": "application/pdf, */*;q=0.1"}).status_code == 200
