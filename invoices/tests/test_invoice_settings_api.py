"""Who a tenant is on its invoices, through the API's door."""

from typing import Any

import pytest

from core.models import AuditRecord
from invoices.models import InvoiceSettings
from tests.contract import ContractClient

pytestmark = pytest.mark.django_db

URL = "/api/v1/invoice-settings"


def refusal_of(answer: Any) -> tuple[int, str, str]:
    body = answer.json()
    return body["status"], body["code"], body["errors"][0]["field"] if body["errors"] else ""


def test_before_anything_is_set_there_are_defaults(api: ContractClient) -> None:
    shown = api.get(URL).json()

    assert (shown["legal_name"], shown["payment_terms_days"]) == ("", 14)
    assert (shown["reminder_days"], shown["uses_credit"]) == ([-3, 0, 7], True)
    assert not InvoiceSettings.objects.exists()


def test_what_is_changed_is_kept_and_written_down(api: ContractClient) -> None:
    first = {"legal_name": "Kopi Bank PT", "country": "ID", "locale": "id"}
    second = {"creditor_iban": "de89 3704 0044 0532 0130 00", "reminder_days": [7, -1, 7]}

    api.patch(URL, first)
    changed = api.patch(URL, second)

    assert changed.status_code == 200
    assert changed.json()["legal_name"] == "Kopi Bank PT"
    assert changed.json()["creditor_iban"] == "DE89370400440532013000"
    assert changed.json()["reminder_days"] == [-1, 7]
    assert api.get(URL).json() == changed.json()
    *_, record = AuditRecord.objects.filter(action="invoice_settings.changed").order_by("pk")
    assert record.before == {"creditor_iban": "", "reminder_days": [-3, 0, 7]}
    assert record.after == {"creditor_iban": "DE89370400440532013000", "reminder_days": [-1, 7]}


def test_nothing_new_is_no_change(api: ContractClient) -> None:
    api.patch(URL, {"town": "Jakarta"})
    api.patch(URL, {"town": "Jakarta"})

    assert AuditRecord.objects.filter(action="invoice_settings.changed").count() == 1


def test_new_invoices_go_by_them(api: ContractClient) -> None:
    api.patch(URL, {"payment_terms_days": 0, "locale": "ms"})
    line = {"description": "Coffee", "quantity": 1, "unit_amount": 1}

    invoice = api.post("/api/v1/invoices", {"currency": "MYR", "line_items": [line]}).json()

    assert invoice["locale"] == "ms"
    assert invoice["due_date"] == invoice["created_at"][:10]


def test_a_number_is_looked_at_by_the_bic_of_its_bank(api: ContractClient) -> None:
    account = {"creditor_account_number": "123-456-7890", "creditor_bic": "cenaidja"}

    shown = api.patch(URL, account).json()

    assert shown["creditor_account_number"] == "1234567890"
    assert shown["creditor_bic"] == "CENAIDJA"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"creditor_iban": "DE00370400440532013000"}, "creditor_iban"),
        ({"creditor_bic": "NOBANK"}, "creditor_bic"),
        ({"creditor_account_number": "1234567890"}, "creditor_bic"),
        (
            {"creditor_account_number": "12", "creditor_bic": "CENAIDJA"},
            "creditor_account_number",
        ),
        (
            {"creditor_account_number": "1234567890", "creditor_bic": "COBADEFF"},
            "creditor_account_number",
        ),
        (
            {"creditor_account_number": "1234567890", "creditor_iban": "DE89370400440532013000"},
            "creditor_account_number",
        ),
        ({"payment_terms_days": -1}, "payment_terms_days"),
        ({"payment_terms_days": 366}, "payment_terms_days"),
        ({"reminder_days": [0] * 11}, "reminder_days"),
        ({"reminder_days": [400]}, "reminder_days.0"),
        ({"reminder_days": ["3"]}, "reminder_days.0"),
        ({"country": "Indonesia"}, "country"),
        ({"email": "nobody"}, "email"),
        ({"locale": "de"}, "locale"),
        ({"uses_credit": "yes"}, "uses_credit"),
        ({"legal_name": "4242 4242 4242 4242"}, "legal_name"),
        ({"legal_name": None}, "legal_name"),
        ({"tenant": "another"}, "tenant"),
        ({"id": "another"}, "id"),
    ],
)
def test_what_cannot_be_is_refused(
    api: ContractClient, changes: dict[str, Any], field: str
) -> None:
    before = api.get(URL).json()

    assert refusal_of(api.patch(URL, changes)) == (400, "invalid_request", field)
    assert api.get(URL).json() == before


def test_two_editors_do_not_undo_each_other(api: ContractClient) -> None:
    seen = api.get(URL)["ETag"]
    first = api.patch(URL, {"town": "Jakarta"}, headers={"If-Match": seen})
    assert first.status_code == 200

    late = api.patch(URL, {"town": "Bandung"}, headers={"If-Match": seen})
    after = api.patch(URL, {"town": "Medan"}, headers={"If-Match": first["ETag"]})

    assert refusal_of(late)[:2] == (412, "precondition_failed")
    assert (after.status_code, after["ETag"]) == (200, api.get(URL)["ETag"])


def test_tenants_have_their_own(api: ContractClient, other_api: ContractClient) -> None:
    api.patch(URL, {"legal_name": "Kopi Bank PT"})

    assert other_api.get(URL).json()["legal_name"] == ""
