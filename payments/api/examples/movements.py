"""Examples that the API document shows."""

from typing import Any

from drf_spectacular.utils import OpenApiExample

_ADA = "0199c0de-7e57-7000-8000-000000000001"
_BEN = "0199c0de-7e57-7000-8000-000000000002"
_CASH = "0199c0de-7e57-7000-8000-000000000005"
_ID = "0199c0de-7e57-7000-8000-000000000003"


def _request(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value, request_only=True)


def _answer(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value, response_only=True, status_codes=["200", "201"])


def _posted(type_: str, amount: int, description: str) -> dict[str, Any]:
    return {
        "id": _ID,
        "type": type_,
        "status": "posted",
        "amount": amount,
        "currency": "USD",
        "description": description,
        "external_reference": None,
        "value_date": "2026-01-31",
        "metadata": {},
        "created_at": "2026-01-31T12:00:00Z",
    }


def _cash(type_: str, sign: int, balance_after: int) -> dict[str, Any]:
    return {
        **_posted(type_, 10_000, "At the counter"),
        "account_id": _ADA,
        "balance_after": balance_after,
        "entries": [
            {
                "account_id": _ADA,
                "amount": sign * 10_000,
                "direction": "credit" if sign > 0 else "debit",
                "balance_after": balance_after,
            },
            {
                "account_id": _CASH,
                "amount": -sign * 10_000,
                "direction": "debit" if sign > 0 else "credit",
                "balance_after": -balance_after,
            },
        ],
    }


_ORDER = {
    "destination_account_id": _BEN,
    "amount": 1250,
    "currency": "USD",
    "description": "Lunch",
}

CASH_REQUEST = _request(
    "at the counter",
    {"account_id": _ADA, "amount": 10_000, "currency": "USD", "description": "At the counter"},
)
DEPOSIT = _answer("deposit", _cash("deposit", +1, 10_000))
WITHDRAWAL = _answer("withdrawal", _cash("withdrawal", -1, 0))
TRANSFER_REQUEST = _request("lunch", {"source_account_id": _ADA, **_ORDER})
ACCOUNT_TRANSFER_REQUEST = _request("lunch", _ORDER)
TRANSFER = _answer(
    "lunch",
    {
        **_posted("transfer", 1250, "Lunch"),
        "source_account_id": _ADA,
        "destination_account_id": _BEN,
        "source_balance_after": 8750,
    },
)
BATCH_REQUEST = _request(
    "two transfers",
    {
        "mode": "independent",
        "transfers": [
            {"source_account_id": _ADA, **_ORDER},
            {"source_account_id": _BEN, **_ORDER, "destination_account_id": _ADA},
        ],
    },
)
BATCH = _answer(
    "one of two",
    {
        "posted": 1,
        "refused": 1,
        "results": [
            {"index": 0, "id": _ID, "status": "posted"},
            {
                "index": 1,
                "status": "refused",
                "code": "insufficient_funds",
                "detail": f"Account {_BEN} has 1200 available.",
            },
        ],
    },
)
