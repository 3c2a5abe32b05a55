"""Examples that the API document shows."""

from typing import Any

from drf_spectacular.utils import OpenApiExample

_ADA = "0199c0de-7e57-7000-8000-000000000001"
_BEN = "0199c0de-7e57-7000-8000-000000000002"
_TRANSFER = "0199c0de-7e57-7000-8000-000000000003"
_HOLD = "0199c0de-7e57-7000-8000-000000000004"
_NOON = "2026-01-31T12:00:00Z"


def _request(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value, request_only=True)


def _answer(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value, response_only=True, status_codes=["200", "201"])


_SUMMARY = {
    "id": _TRANSFER,
    "type": "transfer",
    "status": "posted",
    "currency": "USD",
    "amount": 1250,
    "description": "Lunch",
    "external_reference": None,
    "value_date": "2026-01-31",
    "reverses": None,
    "metadata": {},
    "created_at": _NOON,
}
_LINE = {
    "sequence": 7,
    "amount": -1250,
    "direction": "debit",
    "currency": "USD",
    "balance_after": 8750,
    "transaction_id": _TRANSFER,
    "type": "transfer",
    "description": "Lunch",
    "external_reference": None,
    "counterparty_account_id": _BEN,
    "created_at": _NOON,
    "value_date": "2026-01-31",
}
_PLACED = {
    "id": _HOLD,
    "status": "active",
    "account_id": _ADA,
    "amount": 5000,
    "currency": "USD",
    "captured_amount": None,
    "transaction_id": None,
    "description": "Hotel",
    "expires_at": "2026-02-07T12:00:00Z",
    "closed_at": None,
    "metadata": {},
    "created_at": _NOON,
}

TRANSACTION_SUMMARY = _answer("transfer", _SUMMARY)
TRANSACTION = _answer(
    "transfer",
    {
        **_SUMMARY,
        "reversed_by": None,
        "entries": [
            {
                "account_id": _ADA,
                "sequence": 7,
                "amount": -1250,
                "direction": "debit",
                "balance_after": 8750,
            },
            {
                "account_id": _BEN,
                "sequence": 3,
                "amount": 1250,
                "direction": "credit",
                "balance_after": 1250,
            },
        ],
    },
)
JOURNAL_REQUEST = _request(
    "fee",
    {
        "entries": [
            {"account_id": _ADA, "amount": -150},
            {"account_id": _BEN, "amount": 150},
        ],
        "currency": "USD",
        "description": "Fee of January",
    },
)
REVERSE_REQUEST = _request("reason", {"reason": "Booked twice"})
ENTRY = _answer("transfer out", _LINE)
OPERATION = _answer(
    "transfer out",
    {
        "id": _TRANSFER,
        "kind": "transfer_out",
        "status": "posted",
        "direction": "debit",
        "amount": 1250,
        "currency": "USD",
        "balance_after": 8750,
        "description": "Lunch",
        "external_reference": None,
        "counterparty_account_id": _BEN,
        "sequence": 7,
        "created_at": _NOON,
        "value_date": "2026-01-31",
    },
)
BALANCE = _answer(
    "balance",
    {
        "account_id": _ADA,
        "currency": "USD",
        "balance": 8750,
        "held": 5000,
        "available": 3750,
        "as_of": _NOON,
    },
)
STATEMENT = _answer(
    "January",
    {
        "account_id": _ADA,
        "currency": "USD",
        "from": "2026-01-01T00:00:00Z",
        "to": "2026-02-01T00:00:00Z",
        "opening_balance": 10000,
        "closing_balance": 8750,
        "total_credits": 0,
        "total_debits": 1250,
        "lines": [_LINE],
    },
)
HOLD_REQUEST = _request(
    "hotel",
    {
        "account_id": _ADA,
        "amount": 5000,
        "currency": "USD",
        "expires_at": "2026-02-07T12:00:00Z",
        "description": "Hotel",
    },
)
HOLD = _answer("hotel", _PLACED)
CAPTURE_REQUEST = _request("a part", {"destination_account_id": _BEN, "amount": 4200})
CAPTURED_HOLD = _answer(
    "captured",
    {
        **_PLACED,
        "status": "captured",
        "captured_amount": 4200,
        "transaction_id": _TRANSFER,
        "closed_at": "2026-02-01T09:00:00Z",
    },
)
TRIAL_BALANCE = _answer(
    "one currency",
    {
        "as_of": _NOON,
        "currency": "USD",
        "debits": 11250,
        "credits": 11250,
        "difference": 0,
        "currencies": [
            {
                "currency": "USD",
                "debits": 11250,
                "credits": 11250,
                "difference": 0,
                "accounts": [
                    {"type": "checking", "role": None, "debits": 1250, "credits": 11250},
                    {"type": "internal", "role": "cash", "debits": 10000, "credits": 0},
                ],
            }
        ],
    },
)
