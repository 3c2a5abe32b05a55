"""Examples of top-ups, refunds, payouts and gateways that the API document shows."""

from typing import Any

from drf_spectacular.utils import OpenApiExample

_ADA = "0199c0de-7e57-7000-8000-000000000001"
_ID = "0199c0de-7e57-7000-8000-000000000003"
_TRANSACTION = "0199c0de-7e57-7000-8000-000000000004"
_TIMES = {"created_at": "2026-01-31T12:00:00Z", "updated_at": "2026-01-31T12:00:01Z"}


def _request(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value, request_only=True)


def _answer(name: str, value: Any, *statuses: str) -> OpenApiExample:
    return OpenApiExample(name, value, response_only=True, status_codes=list(statuses) or ["200"])


_TOPUP: dict[str, Any] = {
    "id": _ID,
    "account_id": _ADA,
    "status": "succeeded",
    "amount": 5000,
    "currency": "USD",
    "gateway": "sandbox",
    "method": "card",
    "card_last4": "4242",
    "reference": "TU-AGM4BXT6K5YABAAAAAAAAAAAAM-1",
    "description": "Top-up",
    "redirect_url": None,
    "expires_at": None,
    "failure_code": None,
    "failure_detail": "",
    "refunded_amount": 0,
    "transaction_id": _TRANSACTION,
    "metadata": {},
    **_TIMES,
}
TOPUP_REQUEST = _request(
    "a test card",
    {
        "amount": 5000,
        "currency": "USD",
        "payment_method": {
            "type": "card",
            "number": "4242424242424242",
            "exp_month": 12,
            "exp_year": 2030,
            "cvc": "123",
        },
        "description": "Top-up",
    },
)
TOKEN_REQUEST = _request(
    "a gateway's token",
    {"amount": 5000, "currency": "USD", "payment_method": {"token": "tok_0a1b2c3d"}},
)
TOPUP = _answer("paid and credited", _TOPUP, "200", "201")
TOPUP_ACCEPTED = _answer(
    "3-D Secure",
    {
        **_TOPUP,
        "status": "pending",
        "redirect_url": "https://gateway.example/3ds/0a1b2c3d",
        "transaction_id": None,
    },
    "202",
)
REFUND_REQUEST = _request("a part", {"amount": 2000, "reason": "One of two was out of stock"})
_REFUND = {
    "id": _TRANSACTION,
    "topup_id": _ID,
    "status": "succeeded",
    "amount": 2000,
    "currency": "USD",
    "reason": "One of two was out of stock",
    "reference": "RF-AGM4BXT6K5YABAAAAAAAAAAABA",
    "failure_code": None,
    "transaction_id": _TRANSACTION,
    **_TIMES,
}
REFUND = _answer("refund", _REFUND, "201")
REFUND_ACCEPTED = _answer("on its way", {**_REFUND, "status": "pending"}, "202")
REFUNDS = _answer("refunds", {"results": [_REFUND]})
_BENEFICIARY = {
    "name": "Budi Santoso",
    "country": "DE",
    "iban": "DE89370400440532013000",
    "account_number": "",
    "bank_code": "COBADEFFXXX",
    "town": "Bonn",
}
PAYOUT_REQUEST = _request(
    "to an IBAN",
    {
        "source_account_id": _ADA,
        "amount": 2500,
        "currency": "EUR",
        "beneficiary": _BENEFICIARY,
        "description": "Invoice 42",
    },
)
PAYOUT = _answer(
    "payout",
    {
        "id": _ID,
        "source_account_id": _ADA,
        "status": "pending",
        "amount": 2500,
        "currency": "EUR",
        "beneficiary": _BENEFICIARY,
        "gateway": "bank_file",
        "reference": "PO-AGM4BXT6K5YABAAAAAAAAAAAAM",
        "description": "Invoice 42",
        "failure_code": None,
        "failure_detail": "",
        "transaction_id": _TRANSACTION,
        "return_transaction_id": None,
        "metadata": {},
        **_TIMES,
    },
    "200",
    "202",
)
NEW_GATEWAY_REQUEST = _request(
    "sandbox",
    {
        "gateway": "sandbox",
        "mode": "test",
        "name": "Sandbox",
        "currencies": ["USD", "EUR", "IDR"],
        "credentials": {"secret_key": "sk_sandbox_0a1b2c3d4e5f"},
    },
)
CHANGE_GATEWAY_REQUEST = _request("out of use for now", {"is_enabled": False})
GATEWAY = _answer(
    "sandbox",
    {
        "id": _ID,
        "gateway": "sandbox",
        "mode": "test",
        "name": "Sandbox",
        "currencies": ["EUR", "IDR", "USD"],
        "priority": 100,
        "is_enabled": True,
        "credential_hint": "4e5f",
        "has_webhook_secret": False,
        "webhook_url": f"https://bank.example/api/v1/webhooks/gateways/sandbox/{_ID}",
        **_TIMES,
    },
    "200",
    "201",
)
