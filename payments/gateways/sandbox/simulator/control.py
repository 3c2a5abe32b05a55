"""`/_sim`: what a test or a person at the desk may order and look at. No key is needed."""

import re
from dataclasses import fields
from decimal import Decimal
from typing import Any

from payments.gateways.sandbox.simulator.clock import rfc3339
from payments.gateways.sandbox.simulator.exchange import Answer, Json, Refusal, Request, route
from payments.gateways.sandbox.simulator.faults import read_fault
from payments.gateways.sandbox.simulator.lifecycle import (
    PAYOUT_STEPS,
    REFUND_STEPS,
    STEPS,
    Lifecycle,
    WrongState,
)
from payments.gateways.sandbox.simulator.state import Settings
from payments.gateways.sandbox.simulator.webhooks import Sender

_ADVANCE_S_MAX = 10 * 366 * 86_400
_OBJECTS_MAX = 1_000
_WAIT_S_MAX = 30.0


class Control:
    """Endpoints of `/_sim`."""

    def __init__(self, lifecycle: Lifecycle, sender: Sender) -> None:
        self._lifecycle = lifecycle
        self._state = lifecycle.state
        self._sender = sender
        self.routes = [
            route("GET", "/health", "", self._show_health),
            route("GET", "/requests", "", self._list_requests),
            route("GET", "/webhooks", "", self._list_webhooks),
            route("GET", "/objects", "", self._list_objects),
            route("GET", "/faults", "", self._list_faults),
            route("POST", "/faults", "", self._add_fault),
            route("DELETE", "/faults", "", self._clear_faults),
            route("POST", "/accounts", "", self._set_account),
            route("GET", "/settings", "", self._show_settings),
            route("POST", "/settings", "", self._set_settings),
            route("POST", "/clock/advance", "", self._advance),
            route("GET", "/clock", "", self._show_clock),
            route("POST", "/reset", "", self._reset),
            route("POST", "/payments/{id}/challenge/{id}", "", self._step_challenge),
            route("POST", "/payments/{id}/{id}", "", self._step_payment),
            route("POST", "/payouts/{id}/{id}", "", self._step_payout),
            route("POST", "/refunds/{id}/{id}", "", self._step_refund),
        ]

    # --- Looking -------------------------------------------------------------------------------

    def _show_health(self, request: Request) -> Answer:
        return Answer(200, {"status": "ok"})

    def _list_requests(self, request: Request) -> Answer:
        return Answer(200, {"data": _chosen(request, list(self._state.requests))})

    def _list_webhooks(self, request: Request) -> Answer:
        waiting = [
            {
                "event_id": item.event_id,
                "event": item.event,
                "gateway": item.gateway,
                "reference": item.reference,
                "url": item.url,
                "attempts": item.attempts,
                "due_at": rfc3339(item.due_at),
            }
            for item in self._state.deliveries.values()
        ]
        attempts = _chosen(request, list(self._state.attempts))
        return Answer(200, {"data": attempts, "waiting": _chosen(request, waiting)})

    def _list_objects(self, request: Request) -> Answer:
        tables: dict[str, dict[str, Any]] = {
            "payments": dict(self._state.payments),
            "refunds": dict(self._state.refunds),
            "payouts": dict(self._state.payouts),
        }
        found: Json = {}
        for name, table in tables.items():
            records = [_shown(vars(item)) for item in table.values()]
            found[name] = _chosen(request, records)[-_OBJECTS_MAX:]
        return Answer(200, found)

    # --- Ordering ------------------------------------------------------------------------------

    def _list_faults(self, request: Request) -> Answer:
        return Answer(200, {"data": self._state.faults})

    def _add_fault(self, request: Request) -> Answer:
        try:
            fault = read_fault(_read(request))
        except ValueError as error:
            raise _refused(str(error)) from None
        self._state.faults.append(fault)
        return Answer(201, fault)

    def _clear_faults(self, request: Request) -> Answer:
        self._state.faults.clear()
        return Answer(204)

    def _set_account(self, request: Request) -> Answer:
        body = _read(request)
        gateway, key = body.pop("gateway", None), body.pop("key", None)
        if gateway not in self._lifecycle.gateways or not isinstance(key, str) or not key:
            raise _refused(f"gateway is one of {', '.join(self._lifecycle.gateways)}; key a text")
        kinds = {"webhook_url": str, "webhook_token": str, "is_revoked": bool}
        if not all(isinstance(value, kinds.get(name, ())) for name, value in body.items()):
            raise _refused("webhook_url and webhook_token are texts, is_revoked is a boolean")
        account = self._state.account_of(gateway, key)
        for name, value in body.items():
            setattr(account, name, value)
        return Answer(200, account)

    def _show_settings(self, request: Request) -> Answer:
        return Answer(200, self._state.settings)

    def _set_settings(self, request: Request) -> Answer:
        body, changed = _read(request), dict(vars(self._state.settings))
        kinds = {item.name: item.type for item in fields(Settings)}
        for name, value in body.items():
            if name not in kinds or isinstance(value, bool) or not isinstance(value, int | Decimal):
                raise _refused(f"numbers, of {', '.join(kinds)}")
            if value < 0 or (name == "failure_rate" and value > 1):
                raise _refused(f"{name} is out of range")
            changed[name] = int(value) if kinds[name] is int else float(value)
        self._state.settings = Settings(**changed)
        return Answer(200, self._state.settings)

    def _show_clock(self, request: Request) -> Answer:
        return Answer(200, {"now": rfc3339(self._state.clock.now())})

    def _advance(self, request: Request) -> Answer:
        """Move time on; everything due has happened when the answer comes, and was tried once."""
        seconds = _read(request).get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | Decimal):
            raise _refused("seconds is a number")
        if not 0 <= seconds <= _ADVANCE_S_MAX:
            raise _refused(f"seconds is 0 to {_ADVANCE_S_MAX}")
        self._state.clock.advance(float(seconds))
        self._lifecycle.run_due_jobs()
        return self._show_clock(request)

    def flush(self, request: Request) -> Answer:
        """Wait until all webhooks due have been tried. To be called without the lock."""
        wanted = _read(request).get("timeout_s", 5) if request.body else 5
        if isinstance(wanted, bool) or not isinstance(wanted, int | Decimal):
            raise _refused("timeout_s is a number")
        is_idle = self._sender.wait_until_idle(min(float(wanted), _WAIT_S_MAX))
        return Answer(200 if is_idle else 504, {"is_idle": is_idle})

    def _reset(self, request: Request) -> Answer:
        self._state.clear()
        return Answer(204)

    # --- What the buttons do -------------------------------------------------------------------

    def _step_challenge(self, request: Request, payment_id: str, step: str) -> Answer:
        return self._step_payment(request, payment_id, f"challenge/{step}")

    def _step_payment(self, request: Request, payment_id: str, step: str) -> Answer:
        payment = next(
            (
                item
                for item in self._state.payments.values()
                if payment_id in (item.id, item.token, *item.extra.get("other_ids", ()))
            ),
            None,
        )
        if payment is None or step not in STEPS:
            raise _unknown()
        body = _read(request) if request.body else {}
        if isinstance(method := body.get("method"), str):
            # At Midtrans, only a page on which nothing was chosen yet.
            name = "method" if payment.gateway == "xendit" else "chosen_method"
            payment.extra[name] = method
        return self._stepped(payment, step, self._lifecycle.take_step)

    def _step_payout(self, request: Request, payout_id: str, step: str) -> Answer:
        payout = self._state.payouts.get(payout_id)
        if payout is None or step not in PAYOUT_STEPS:
            raise _unknown()
        return self._stepped(payout, step, self._lifecycle.take_payout_step)

    def _step_refund(self, request: Request, refund_id: str, step: str) -> Answer:
        refund = self._state.refunds.get(refund_id)
        if refund is None or step not in REFUND_STEPS:
            raise _unknown()
        return self._stepped(refund, step, self._lifecycle.take_refund_step)

    def _stepped(self, item: Any, step: str, take_step: Any) -> Answer:
        try:
            take_step(item, step)
        except WrongState as error:
            message = {"error": {"code": "wrong_state", "message": str(error)}}
            raise Refusal(Answer(409, message)) from None
        return Answer(200, _shown(vars(item)))


def _shown(record: Json) -> Json:
    times = {"created_at", "updated_at", "expires_at", "paid_at"}
    return {name: rfc3339(value) if name in times else value for name, value in record.items()}


def _chosen(request: Request, records: list[Json]) -> list[Json]:
    """Those that have every asked-for value: `?reference=…&gateway=…`."""
    names = [name for name in request.query if re.fullmatch(r"[a-z_]+", name)]
    return [
        record
        for record in records
        if all(str(record.get(name)) == request.asked(name) for name in names)
    ]


def _read(request: Request) -> Json:
    try:
        body = request.read_json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _refused("the body is not a JSON object")
    return body


def _refused(message: str) -> Refusal:
    return Refusal(Answer(422, {"error": {"code": "invalid_request", "message": message}}))


def _unknown() -> Refusal:
    message = "No such object, or nothing that can happen to it."
    return Refusal(Answer(404, {"error": {"code": "not_found", "message": message}}))
