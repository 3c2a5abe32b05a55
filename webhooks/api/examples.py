"""Examples that the API document shows."""

from typing import Any

from drf_spectacular.utils import OpenApiExample

_EVENT: dict[str, Any] = {
    "id": "0199c0de-7e57-7000-8000-000000000003",
    "gateway": "sandbox",
    "event_id": "evt_0a1b2c3d",
    "kind": "payment",
    "reference": "TU-AGM4BXT6K5YABAAAAAAAAAAAAM-1",
    "status": "failed",
    "outcome": "unknown_reference",
    "attempts": 1,
    "status_report": {
        "MsgId": "evt_0a1b2c3d",
        "CreDtTm": "2026-01-31T12:00:00+00:00",
        "OrgnlEndToEndId": "TU-AGM4BXT6K5YABAAAAAAAAAAAAM-1",
        "TxSts": "ACSC",
        "Rsn": None,
        "AddtlInf": "succeeded",
    },
    "received_at": "2026-01-31T12:00:00Z",
    "processed_at": "2026-01-31T12:00:01Z",
}
NOTIFICATION = OpenApiExample(
    "the sandbox's",
    {
        "id": "evt_0a1b2c3d",
        "type": "payment.succeeded",
        "created_at": "2026-01-31T12:00:00Z",
        "data": {
            "id": "pay_0a1b2c3d",
            "reference": "TU-AGM4BXT6K5YABAAAAAAAAAAAAM-1",
            "amount": 5000,
            "currency": "USD",
            "status": "succeeded",
        },
    },
    request_only=True,
)
RECEIVED = OpenApiExample("taken", {"received": True}, response_only=True, status_codes=["200"])
EVENT = OpenApiExample("nothing of ours", _EVENT, response_only=True, status_codes=["200"])
FAILED = OpenApiExample(
    "nothing of ours",
    {
        **_EVENT,
        "attempt_log": [
            {
                "number": 1,
                "began_at": "2026-01-31T12:00:01Z",
                "ended_at": "2026-01-31T12:00:01Z",
                "outcome": "unknown_reference",
                "detail": "Nothing of ours: TU-AGM4BXT6K5YABAAAAAAAAAAAAM-1",
            }
        ],
    },
    response_only=True,
    status_codes=["200"],
)
