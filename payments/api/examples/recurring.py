"""Examples of recurring payments that the API document shows."""

from typing import Any

from drf_spectacular.utils import OpenApiExample

_ADA = "0199c0de-7e57-7000-8000-000000000001"
_BEN = "0199c0de-7e57-7000-8000-000000000002"
_EMPLOYER = "0199c0de-7e57-7000-8000-000000000006"
_ID = "0199c0de-7e57-7000-8000-000000000003"
_RUN = "0199c0de-7e57-7000-8000-000000000007"
_TRANSACTION = "0199c0de-7e57-7000-8000-000000000004"


def _request(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value, request_only=True)


def _answer(name: str, value: Any, *statuses: str) -> OpenApiExample:
    return OpenApiExample(name, value, response_only=True, status_codes=list(statuses) or ["200"])


_TO_BEN = {"source_account_id": _ADA, "destination_account_id": _BEN, "currency": "USD"}
_TERMS: dict[str, Any] = {
    "frequency": "monthly",
    "day_of_month": 31,
    "business_day_adjustment": "modified_following",
    "holidays": "US",
    "start_date": "2026-01-31",
}
MONTHLY_REQUEST = _request(
    "each month's end",
    {**_TO_BEN, "amount": 25_000, **_TERMS, "description": "Savings"},
)
SALARY_REQUEST = _request(
    "a tenth of the salary",
    {
        **_TO_BEN,
        "amount_type": "percentage",
        "percent": "10",
        "trigger": {
            "type": "salary",
            "min_amount": 100_000,
            "sender_account_id": _EMPLOYER,
            "description_pattern": "salary*",
            "from_day": 25,
            "to_day": 5,
        },
    },
)
SWEEP_REQUEST = _request(
    "all above a floor, each Friday",
    {
        **_TO_BEN,
        "amount_type": "sweep",
        "floor_amount": 50_000,
        "frequency": "weekly",
        "start_date": "2026-01-30",
        "catch_up": "skip",
    },
)
RENT_REQUEST = _request(
    "rent, to another bank",
    {
        "source_account_id": _ADA,
        "beneficiary": {
            "name": "Hausverwaltung",
            "country": "DE",
            "iban": "DE89370400440532013000",
        },
        "amount": 90_000,
        "currency": "EUR",
        "frequency": "monthly",
        "day_of_month": 1,
        "count": 24,
        "on_insufficient_funds": {
            "action": "retry",
            "retry_count": 5,
            "retry_interval_minutes": 720,
        },
    },
)
CHANGE_REQUEST = _request("more, on another day", {"amount": 30_000, "day_of_month": 15})
REASON = _request("why", {"reason": "Asked by the customer."})
PAYMENT = _answer(
    "each month's end",
    {
        "id": _ID,
        "kind": "internal",
        "status": "active",
        "status_reason": None,
        "source_account_id": _ADA,
        "destination_account_id": _BEN,
        "beneficiary": None,
        "gateway": None,
        "currency": "USD",
        "amount_type": "fixed",
        "amount": 25_000,
        "percent": None,
        "floor_amount": None,
        "min_balance": None,
        "trigger": {"type": "schedule"},
        "frequency": "monthly",
        "interval": 1,
        "day_of_month": 31,
        "rrule": "",
        "rule": "every month on the 31st, or the month's last day",
        "time_zone": "America/New_York",
        "run_at": "06:00",
        "business_day_adjustment": "modified_following",
        "holidays": "US",
        "start_date": "2026-01-31",
        "end_date": None,
        "count": None,
        "on_insufficient_funds": {
            "action": "retry",
            "retry_count": 3,
            "retry_interval_minutes": 360,
        },
        "pause_after_failures": 3,
        "catch_up": "run_once",
        "max_lateness_days": 7,
        "next_run_at": "2026-01-30T11:00:00Z",
        "next_date": "2026-01-30",
        "next_nominal_date": "2026-01-31",
        "consecutive_failures": 0,
        "description": "Savings",
        "metadata": {},
        "external_id": None,
        "managed_by": None,
        "version": 1,
        "created_at": "2026-01-15T12:00:00Z",
        "updated_at": "2026-01-15T12:00:00Z",
    },
    "200",
    "201",
)
RUN = _answer(
    "paid",
    {
        "id": _RUN,
        "number": 0,
        "nominal_date": "2026-01-31",
        "date": "2026-01-30",
        "scheduled_for": "2026-01-30T11:00:00Z",
        "trigger_transaction_id": None,
        "status": "succeeded",
        "amount": 25_000,
        "attempts": 1,
        "next_attempt_at": None,
        "error_code": None,
        "error_detail": "",
        "transaction_id": _TRANSACTION,
        "payout_id": None,
        "created_at": "2026-01-30T11:00:02Z",
        "ended_at": "2026-01-30T11:00:02Z",
    },
)
PREVIEW = _answer(
    "the next two",
    {
        "results": [
            {
                "number": 0,
                "nominal_date": "2026-01-31",
                "date": "2026-01-30",
                "run_at": "2026-01-30T11:00:00Z",
            },
            {
                "number": 1,
                "nominal_date": "2026-02-28",
                "date": "2026-02-27",
                "run_at": "2026-02-27T11:00:00Z",
            },
        ]
    },
)
_NYEPI = {"date": "2026-03-19", "name": "Nyepi", "is_business_day": False}
CALENDAR_DAY_REQUEST = _request("a holiday", _NYEPI)
CALENDAR_DAY = _answer("a holiday", {"id": _ID, **_NYEPI}, "200", "201")
