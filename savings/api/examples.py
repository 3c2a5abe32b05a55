"""Examples of savings plans that the API document shows."""

from typing import Any

from drf_spectacular.utils import OpenApiExample

_ADA = "0199c0de-7e57-7000-8000-000000000001"
_OWN_ACCOUNT = "0199c0de-7e57-7000-8000-000000000002"
_ID = "0199c0de-7e57-7000-8000-000000000003"
_TRANSACTION = "0199c0de-7e57-7000-8000-000000000004"
_PAYMENT = "0199c0de-7e57-7000-8000-000000000005"
_RELEASE = "0199c0de-7e57-7000-8000-000000000006"
_OWNER = "0199c0de-7e57-7000-8000-000000000007"
_OPERATOR = "user:0199c0de-7e57-7000-8000-000000000008"
_SUPERVISOR = "user:0199c0de-7e57-7000-8000-000000000009"


def _request(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value, request_only=True)


def _answer(name: str, value: Any, *statuses: str) -> OpenApiExample:
    return OpenApiExample(name, value, response_only=True, status_codes=list(statuses) or ["200"])


AUTO_REQUEST = _request(
    "aside each month",
    {
        "kind": "auto_withdraw",
        "account_id": _ADA,
        "currency": "EUR",
        "name": "Holiday",
        "amount": 10_000,
        "day_of_month": 31,
        "target_amount": 120_000,
        "on_insufficient_funds": "partial",
        "on_completion": "keep",
    },
)
LOCKED_REQUEST = _request(
    "locked for a year",
    {
        "kind": "date_locked",
        "account_id": _ADA,
        "currency": "EUR",
        "name": "Term deposit",
        "amount": 1_000_000,
        "unlock_date": "2027-01-15",
        "on_unlock": "pay_out",
        "annual_rate_bps": 425,
        "day_count": "act_365f",
        "withholding_tax_bps": 2_000,
    },
)
CHANGE_REQUEST = _request("more, on another day", {"amount": 15_000, "day_of_month": 1})
DEPOSIT_REQUEST = _request("more", {"amount": 5_000})
WITHDRAWAL_REQUEST = _request("some of it", {"amount": 5_000})
CLOSE_REQUEST = _request("all of it", {"reason": "Bought the tickets."})
REASON = _request("why", {"reason": "Between two jobs."})
RENEW_REQUEST = _request("another year", {"unlock_date": "2028-01-15"})
RELEASE_REQUEST = _request("hardship", {"reason": "Hospital bills, seen."})
DECISION_REQUEST = _request("why", {"reason": "The bills are genuine."})

_AUTO: dict[str, Any] = {
    "id": _ID,
    "kind": "auto_withdraw",
    "status": "active",
    "status_reason": None,
    "name": "Holiday",
    "account_id": _ADA,
    "plan_account_id": _OWN_ACCOUNT,
    "recurring_payment_id": _PAYMENT,
    "currency": "EUR",
    "balance": 45_000,
    "amount": 10_000,
    "day_of_month": 31,
    "start_date": "2026-01-15",
    "target_amount": 120_000,
    "months": None,
    "progress": 37.5,
    "unlock_date": None,
    "on_unlock": None,
    "on_completion": "keep",
    "next_run_at": "2026-05-31T04:00:00Z",
    "on_insufficient_funds": "partial",
    "annual_rate_bps": 0,
    "day_count": "act_365f",
    "withholding_tax_bps": 0,
    "interest": 0,
    "tax": 0,
    "accrued_interest": "0.000000000000",
    "owner_id": _OWNER,
    "metadata": {},
    "created_at": "2026-01-15T12:00:00Z",
    "ended_at": None,
}
AUTO_PLAN = _answer("aside each month", _AUTO, "200", "201")
CLOSED_PLAN = _answer(
    "closed",
    {
        **_AUTO,
        "status": "closed",
        "balance": 0,
        "progress": None,
        "next_run_at": None,
        "ended_at": "2026-05-10T09:30:00Z",
    },
)
LOCKED_PLAN = _answer(
    "locked for a year",
    {
        **_AUTO,
        "kind": "date_locked",
        "name": "Term deposit",
        "recurring_payment_id": None,
        "balance": 1_001_584,
        "amount": 1_000_000,
        "day_of_month": None,
        "start_date": None,
        "target_amount": None,
        "progress": None,
        "unlock_date": "2027-01-15",
        "on_unlock": "pay_out",
        "on_completion": None,
        "next_run_at": None,
        "on_insufficient_funds": None,
        "annual_rate_bps": 425,
        "withholding_tax_bps": 2_000,
        "interest": 1_979,
        "tax": 395,
        "accrued_interest": "466.943232876720",
    },
    "200",
    "201",
)
PROJECTION = _answer(
    "the last two months",
    {
        "ends_on": "2026-06-30",
        "balance": 120_000,
        "deposited": 20_000,
        "interest": 0,
        "tax": 0,
        "months": [
            {
                "date": "2026-05-31",
                "deposited": 10_000,
                "interest": 0,
                "tax": 0,
                "balance": 110_000,
            },
            {
                "date": "2026-06-30",
                "deposited": 10_000,
                "interest": 0,
                "tax": 0,
                "balance": 120_000,
            },
        ],
    },
)
INTEREST_POSTING = _answer(
    "the first half month",
    {
        "id": _ID,
        "period_from": "2026-01-15",
        "period_to": "2026-01-31",
        "accrued": "1979.452054794528",
        "carried_in": "0.000000000000",
        "carried_out": "0.452054794528",
        "amount": 1_979,
        "tax_bps": 2_000,
        "tax": 395,
        "transaction_id": _TRANSACTION,
        "created_at": "2026-02-01T00:15:00Z",
    },
)
_ASKED = {
    "id": _RELEASE,
    "savings_plan_id": _ID,
    "status": "requested",
    "reason": "Hospital bills, seen.",
    "requested_by": _OPERATOR,
    "requested_at": "2026-03-02T10:00:00Z",
    "decided_by": None,
    "decided_at": None,
    "decision_reason": None,
}
_DECIDED = {
    **_ASKED,
    "decided_by": _SUPERVISOR,
    "decided_at": "2026-03-02T11:30:00Z",
}
RELEASE = _answer("asked for", _ASKED, "200", "201")
APPROVED_RELEASE = _answer(
    "approved",
    {**_DECIDED, "status": "approved", "decision_reason": "The bills are genuine."},
)
REJECTED_RELEASE = _answer(
    "rejected",
    {**_DECIDED, "status": "rejected", "decision_reason": "A loan is the better help."},
)
