"""Examples of invoices that the API document shows: that of the seeds."""

from typing import Any

from drf_spectacular.utils import OpenApiExample

_ID = "0199c0de-7e57-7000-8000-000000000006"
_PARENT = "0199c0de-7e57-7000-8000-000000000007"
_RECEIPT = "0199c0de-7e57-7000-8000-000000000008"
_TRANSACTION = "0199c0de-7e57-7000-8000-000000000004"
_PAGE = "https://bank.example/pay/"
_AT = "2026-01-31T12:00:00Z"


def _request(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value, request_only=True)


def _answer(name: str, value: Any, *statuses: str) -> OpenApiExample:
    return OpenApiExample(name, value, response_only=True, status_codes=list(statuses) or ["200"])


_CONTENTS: dict[str, Any] = {
    "currency": "IDR",
    "line_items": [
        {"description": "Consulting", "quantity": 1, "unit_amount": 1_000_000, "tax_rate": 10}
    ],
    "service_fee": {"percent": "3"},
    "customer": {"name": "Budi Santoso", "email": "budi@example.com"},
}
DRAFT_REQUEST = _request("a draft", _CONTENTS)
NEW_INVOICE_REQUEST = _request(
    "two monthly installments",
    {
        **_CONTENTS,
        "installments": {"count": 2, "interval": "monthly", "first_due_date": "2026-02-14"},
        "finalize": True,
    },
)
GIVEN_INSTALLMENTS_REQUEST = _request(
    "installments of your own",
    {
        **_CONTENTS,
        "installments": [
            {"due_date": "2026-02-14", "amount": 130_000},
            {"due_date": "2026-04-30", "amount": 1_000_000},
        ],
    },
)
SUPPLEMENTARY_REQUEST = _request(
    "one day more",
    {"line_items": [{"description": "Travel", "quantity": "1.5", "unit_amount": 200_000}]},
)
REASON = _request("reason", {"reason": "Made twice"})


def _installment(number: int, day: str) -> dict[str, Any]:
    return {
        "number": number,
        "due_date": day,
        "amount": 565_000,
        "subtotal": 500_000,
        "tax": 50_000,
        "service_fee": 15_000,
        "total": 565_000,
        "amount_paid": 0,
        "amount_credited": 0,
        "amount_due": 565_000,
        "status": "unpaid",
        "payment_url": f"{_PAGE}{'QZ' * 21}{number}",
    }


_INSTALLMENTS = [_installment(1, "2026-02-14"), _installment(2, "2026-03-14")]
_INVOICE: dict[str, Any] = {
    "id": _ID,
    "number": "INV-2026-000001",
    "status": "pending",
    "currency_code": "IDR",
    "currency": "IDR",
    "subtotal_amount": 1_000_000,
    "total_tax_amount": 100_000,
    "total_service_fee_amount": 30_000,
    "total_amount": 1_130_000,
    "amount_paid": 0,
    "amount_due": 1_130_000,
    "amount_credited": 0,
    "amount_refunded": 0,
    "amount_overpaid": 0,
    "tax_rounding": "line",
    "service_fee": {"mode": "additive", "percent": "3", "fixed": 0},
    "payment_url": f"{_PAGE}{'aB' * 21}3",
    "pdf_url": f"https://bank.example/api/v1/invoices/{_ID}/pdf",
    "line_items": [
        {
            "position": 1,
            "description": "Consulting",
            "quantity": "1",
            "unit_amount": 1_000_000,
            "tax_rate": "10",
            "subtotal_amount": 1_000_000,
            "tax_amount": 100_000,
        }
    ],
    "installment_schedule": _INSTALLMENTS,
    "due_date": "2026-03-14",
    "is_overdue": False,
    "expires_at": None,
    "customer": {
        "name": "Budi Santoso",
        "email": "budi@example.com",
        "reference": "",
        "address": "",
        "iban": "",
        "account_number": "",
        "bic": "",
        "country": "",
    },
    "gateway": None,
    "settlement_account_id": None,
    "external_id": None,
    "parent_id": None,
    "supplementary_ids": [],
    "description": "",
    "locale": "en",
    "metadata": {},
    "attention": None,
    "finalized_at": _AT,
    "sent_at": None,
    "paid_at": None,
    "voided_at": None,
    "created_at": _AT,
    "updated_at": _AT,
}
INVOICE = _answer("two monthly installments", _INVOICE, "200", "201")
INVOICE_SENT = _answer("two monthly installments", {**_INVOICE, "sent_at": _AT}, "202")
SUPPLEMENTARY = _answer(
    "one day more",
    {
        **_INVOICE,
        "number": "INV-2026-000002",
        "subtotal_amount": 300_000,
        "total_tax_amount": 0,
        "total_service_fee_amount": 0,
        "total_amount": 300_000,
        "amount_due": 300_000,
        "service_fee": {"mode": "additive", "percent": "0", "fixed": 0},
        "line_items": [
            {
                "position": 1,
                "description": "Travel",
                "quantity": "1.5",
                "unit_amount": 200_000,
                "tax_rate": "0",
                "subtotal_amount": 300_000,
                "tax_amount": 0,
            }
        ],
        "installment_schedule": [],
        "due_date": "2026-02-14",
        "parent_id": _PARENT,
    },
    "201",
)
INSTALLMENTS = _answer("two", {"results": _INSTALLMENTS})
ADJUSTMENTS_REQUEST = _request(
    "less now, more later",
    {
        "installments": [
            {"number": 1, "amount": 65_000},
            {"number": 2, "amount": 1_065_000, "due_date": "2026-04-30"},
        ]
    },
)
OFFLINE_PAYMENT_REQUEST = _request(
    "a bank transfer",
    {"amount": 1_500_000, "method": "bank transfer", "received_on": "2026-01-31"},
)
RECEIPT = _answer(
    "a bank transfer, too much",
    {
        "id": _RECEIPT,
        "invoice_id": _ID,
        "kind": "offline",
        "method": "bank transfer",
        "amount": 1_500_000,
        "currency": "IDR",
        "applied_amount": 1_130_000,
        "overpaid_amount": 370_000,
        "reversed_amount": 0,
        "refunded_amount": 0,
        "allocations": [
            {"installment": 1, "subtotal": 500_000, "tax": 50_000, "service_fee": 15_000},
            {"installment": 2, "subtotal": 500_000, "tax": 50_000, "service_fee": 15_000},
        ],
        "reference": "",
        "note": "",
        "received_on": "2026-01-31",
        "payment_id": None,
        "transaction_id": _TRANSACTION,
        "created_at": _AT,
    },
    "200",
    "201",
)
APPLY_CREDIT_REQUEST = _request("all there is", {})
BACK_REQUEST = _request("a part", {"amount": 113_000, "reason": "One of ten was out of stock"})
CREDIT_NOTE = _answer(
    "a part",
    {
        "id": _RECEIPT,
        "number": "CN-2026-000001",
        "invoice_id": _ID,
        "amount": 113_000,
        "net_amount": 100_000,
        "tax_amount": 10_000,
        "service_fee_amount": 3_000,
        "owed_amount": 0,
        "refund_amount": 113_000,
        "currency": "IDR",
        "reason": "One of ten was out of stock",
        "refunds": [{"amount": 113_000, "status": "pending", "method": "xendit"}],
        "created_at": _AT,
    },
    "200",
    "201",
)
OVERPAYMENT = _answer(
    "used in part",
    {
        "invoice_id": _ID,
        "currency": "IDR",
        "overpaid_amount": 370_000,
        "remaining_amount": 257_000,
        "applied_amount": 113_000,
        "refunded_amount": 0,
        "taken_back_amount": 0,
        "credits": [
            {
                "id": _RECEIPT,
                "amount": 370_000,
                "remaining_amount": 257_000,
                "created_at": _AT,
                "uses": [
                    {
                        "kind": "applied",
                        "amount": 113_000,
                        "invoice_id": _PARENT,
                        "refund_id": None,
                        "created_at": _AT,
                        "is_undone": False,
                    }
                ],
            }
        ],
    },
    "200",
    "201",
)
CHANGE_SETTINGS_REQUEST = _request(
    "who we are", {"legal_name": "Kopi Bank PT", "town": "Jakarta", "country": "ID"}
)
SETTINGS = _answer(
    "settings",
    {
        "legal_name": "Kopi Bank PT",
        "street": "Jalan Sudirman",
        "building_number": "1",
        "post_code": "10220",
        "town": "Jakarta",
        "country": "ID",
        "tax_id": "01.234.567.8-901.000",
        "email": "invoices@kopi.example",
        "creditor_iban": "",
        "creditor_account_number": "1234567890",
        "creditor_bic": "CENAIDJAXXX",
        "payment_terms_days": 14,
        "reminder_days": [-3, 0, 7],
        "uses_credit": True,
        "locale": "id",
    },
)
