"""What answers look like, for the API's document."""

from typing import Any

from drf_spectacular.utils import OpenApiExample

_USER = {
    "id": "0199c0de-7e57-7000-8000-000000000011",
    "email": "siti@example.com",
    "full_name": "Siti Aminah",
    "role": "operator",
    "is_active": True,
    "has_second_factor": False,
    "created_at": "2026-01-31T12:00:00Z",
}
_KEY: dict[str, Any] = {
    "id": "0199c0de-7e57-7000-8000-000000000012",
    "name": "shop",
    "mode": "test",
    "prefix": "florin_test_0a1b2c3d4e5f6071",
    "scopes": ["read", "write"],
    "rate_limit": None,
    "status": "active",
    "created_at": "2026-01-31T12:00:00Z",
    "rotated_at": None,
    "previous_expires_at": None,
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
}
_TENANT = {
    "tenant_id": "0199c0de-7e57-7000-8000-000000000010",
    "tenant_name": "Kopi Bank",
}
_RECORD: dict[str, Any] = {
    "id": 4711,
    "action": "api_key.rotated",
    "actor_id": "user:0199c0de-7e57-7000-8000-000000000011",
    "object_id": _KEY["id"],
    "object_count": None,
    "before": None,
    "after": {"rotated_at": "2026-01-31T12:00:00Z", "overlap_seconds": 0},
    "reason": "",
    "request_id": "0199c0de-7e57-7000-8000-000000000013",
    "address": "192.0.2.7",
    "created_at": "2026-01-31T12:00:00Z",
}
_SECRET = "0" * 64


def _request(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value, request_only=True)


def _answer(name: str, value: Any, *statuses: str) -> OpenApiExample:
    return OpenApiExample(name, value, response_only=True, status_codes=statuses or ["200"])


SIGN_IN_REQUEST = _request(
    "sign in", {"email": "siti@example.com", "password": "correct horse battery"}
)
REFRESH_REQUEST = _request("refresh", {"refresh": "florin_refresh_mE3..."})
TOKENS = _answer(
    "tokens",
    {
        "access": "eyJhbGciOiJFZERTQSIs...",
        "refresh": "florin_refresh_mE3...",
        "token_type": "Bearer",
        "expires_in": 300,
    },
)
ME = _answer(
    "a person",
    {
        "kind": "user",
        "id": _USER["id"],
        "name": _USER["full_name"],
        "email": _USER["email"],
        "role": "operator",
        "scopes": ["read", "write"],
        "mode": None,
        **_TENANT,
    },
)
USER = _answer("user", _USER, "200", "201")
NEW_USER_REQUEST = _request(
    "operator",
    {
        "email": "siti@example.com",
        "password": "correct horse battery",
        "role": "operator",
        "full_name": "Siti Aminah",
    },
)
CHANGE_USER_REQUEST = _request("promote", {"role": "supervisor"})
API_KEY = _answer("key", _KEY)
NEW_API_KEY_REQUEST = _request("shop", {"name": "shop", "scopes": ["read", "write"]})
ISSUED_API_KEY = _answer("new key", {**_KEY, "key": f"{_KEY['prefix']}_{_SECRET}"}, "200", "201")
ROTATE_REQUEST = _request("with overlap", {"overlap_seconds": 3600})
AUDIT_RECORD = _answer("record", _RECORD)
TEST_CLOCK = _answer("clock", {"now": "2026-01-31T12:00:00Z"}, "200", "201")
START_CLOCK_REQUEST = _request("at a time", {"now": "2026-01-31T12:00:00Z"})
ADVANCE_CLOCK_REQUEST = _request("to the year's end", {"to": "2026-12-31T23:59:59Z"})
ADVANCE_CLOCK_BY_DAYS_REQUEST = _request("by a year", {"days": 365})
ADVANCED_CLOCK = _answer(
    "eleven payments later",
    {
        "now": "2026-12-31T23:59:59Z",
        "is_complete": True,
        "runs": {"recurring_payments": 11, "savings_plans": 0},
    },
)
