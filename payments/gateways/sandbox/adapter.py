"""
The sandbox: our own simulator's format, for trying Florin out. Takes test cards, and only here.

Amounts are minor units; every POST that makes something takes an idempotency key. Notifications are
signed as Standard Webhooks, by the secret key.
"""

import base64
import datetime as dt
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.money import Money
from payments.gateways import wire
from payments.gateways.calling import Caller
from payments.gateways.cancelling import call_off
from payments.gateways.port import (
    Capabilities,
    Kind,
    NoSuchObject,
    Notification,
    PaymentOrder,
    PaymentReport,
    PayoutOrder,
    PayoutReport,
    RefundOrder,
    RefundReport,
    State,
    Unauthentic,
    Uncertain,
    Unreadable,
)

CAPABILITIES = Capabilities(takes_test_cards=True, credentials=("secret_key",), modes=("test",))
LIST_PAGE = 100
LIST_MAX = 100_000
# A notification that was signed longer ago is a replay.
SIGNED_WITHIN_S = 24 * 3600
TIMESTAMP_LENGTH_MAX = 12

_PAYMENT_STATES = {
    "pending": State.PENDING,
    "requires_action": State.PENDING,
    "succeeded": State.SUCCEEDED,
    "failed": State.FAILED,
    "expired": State.EXPIRED,
    "canceled": State.CANCELLED,
    "reversed": State.REVERSED,
}
_REFUND_STATES = {
    "pending": State.PENDING,
    "succeeded": State.SUCCEEDED,
    "failed": State.FAILED,
}
_PAYOUT_STATES = {
    "submitted": State.PENDING,
    "settled": State.SUCCEEDED,
    "returned": State.REVERSED,
    "failed": State.FAILED,
}
_KINDS = {"payment": Kind.PAYMENT, "refund": Kind.REFUND, "payout": Kind.PAYOUT}
_STATES_BY_KIND = {
    Kind.PAYMENT: _PAYMENT_STATES,
    Kind.REFUND: _REFUND_STATES,
    Kind.PAYOUT: _PAYOUT_STATES,
}


@dataclass(frozen=True, slots=True)
class Sandbox:
    caller: Caller
    secret_key: str = field(repr=False)

    def create_payment(self, order: PaymentOrder) -> PaymentReport:
        body = {
            "reference": order.reference,
            "amount": order.amount.minor_units,
            "currency": order.amount.currency,
            "payment_method": _method(order),
            "description": order.description,
            "return_url": order.return_url,
            "notify_url": order.notify_url,
        }
        return _payment(self._post("create_payment", "payments", body, order.idempotency_key))

    def get_payment(
        self, *, reference: str, gateway_id: str, method: str, currency: str
    ) -> PaymentReport:
        if gateway_id:
            return _payment(self._get("get_payment", "payments", gateway_id))
        found = self._find("get_payment", "payments", reference)
        if len(found) > 1:
            raise Uncertain("There are several payments of one reference.", code="paid_twice")
        return _payment(found[0])

    def cancel_payment(
        self, *, reference: str, gateway_id: str, method: str, amount: Money, redirect_url: str
    ) -> PaymentReport | None:
        if method != "hosted":
            return None

        def cancel(payment_id: str) -> PaymentReport:
            path = f"/sandbox/v1/payments/{wire.segment(payment_id)}/cancel"
            return _payment(self.caller.post("cancel_payment", path, None).body)

        def ask() -> PaymentReport:
            return self.get_payment(
                reference=reference, gateway_id=gateway_id, method=method, currency=amount.currency
            )

        return call_off(gateway_id, cancel=cancel, ask=ask)

    def refund(self, order: RefundOrder) -> RefundReport:
        body = {
            "payment": order.payment_gateway_id,
            "reference": order.reference,
            "amount": order.amount.minor_units,
            "reason": order.reason,
        }
        key = order.idempotency_key
        return _refund(self._post("refund", "refunds", body, key, may_repeat=True))

    def get_refund(self, order: RefundOrder, *, gateway_id: str) -> RefundReport:
        if gateway_id:
            return _refund(self._get("get_refund", "refunds", gateway_id))
        return _refund(self._find("get_refund", "refunds", order.reference)[0])

    def create_payout(self, order: PayoutOrder) -> PayoutReport:
        beneficiary = {
            "name": order.beneficiary_name,
            "country": order.country,
            "iban": order.iban,
            "account_number": order.account_number,
            "bank_code": order.bank_code,
        }
        body = {
            "reference": order.reference,
            "amount": order.amount.minor_units,
            "currency": order.amount.currency,
            "beneficiary": {name: value for name, value in beneficiary.items() if value},
            "description": order.description,
            "notify_url": order.notify_url,
        }
        key = order.idempotency_key
        return _payout(self._post("create_payout", "payouts", body, key, may_repeat=True))

    def get_payout(self, *, reference: str, gateway_id: str, currency: str) -> PayoutReport:
        if gateway_id:
            return _payout(self._get("get_payout", "payouts", gateway_id))
        return _payout(self._find("get_payout", "payouts", reference)[0])

    def _post(
        self, call: str, what: str, body: dict[str, Any], key: str, *, may_repeat: bool = False
    ) -> Any:
        headers = {"Idempotency-Key": key}
        path = f"/sandbox/v1/{what}"
        # What is empty is left out.
        body = {name: value for name, value in body.items() if value not in ("", {})}
        return self.caller.post(call, path, body, headers=headers, may_repeat=may_repeat).body

    def _get(self, call: str, what: str, gateway_id: str) -> Any:
        return self.caller.get(call, f"/sandbox/v1/{what}/{wire.segment(gateway_id)}").body

    def _find(self, call: str, what: str, reference: str) -> list[Mapping[str, Any]]:
        answer = self.caller.get(call, f"/sandbox/v1/{what}", reference=reference)
        found = wire.items(answer.body, "data")
        if not found:
            raise NoSuchObject("The sandbox has nothing of this reference.")
        return found

    def verify_and_parse(
        self, *, headers: Mapping[str, str], body: bytes, secrets: Sequence[str]
    ) -> Notification:
        event_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        signed = f"{event_id}.{sent_at}.".encode() + body
        given = headers.get("webhook-signature", "").split(" ")
        matches = [
            hmac.compare_digest(signature_of(signed, key).encode(), each.encode())
            for key in (self.secret_key, *secrets)
            for each in given
        ]
        is_time = sent_at.isdecimal() and len(sent_at) <= TIMESTAMP_LENGTH_MAX
        is_timely = is_time and abs(time.time() - int(sent_at)) < SIGNED_WITHIN_S
        if not any(matches) or not event_id or not is_timely:
            raise Unauthentic("The signature is not the sandbox's.")
        told = wire.notification(body)
        data = told.get("data")
        if not isinstance(data, dict) or not wire.text(data, "id"):
            raise Unreadable("The event names no object.")
        kind = _KINDS.get(wire.text(told, "type").partition(".")[0], Kind.OTHER)
        raw = wire.text(data, "status")
        return Notification(
            event_id=event_id[:255],
            kind=kind,
            reference=wire.text(data, "reference"),
            gateway_id=wire.text(data, "id"),
            state=_STATES_BY_KIND.get(kind, {}).get(raw),
            raw_status=raw,
            failure_code=wire.text(data, "failure_code")[:64],
            is_settled=raw in ("succeeded", "settled"),
        )

    def list_payments(self, *, since: dt.datetime) -> list[PaymentReport] | None:
        listed: list[PaymentReport] = []
        params = {"created_after": since.astimezone(dt.UTC).isoformat(), "limit": str(LIST_PAGE)}
        while len(listed) < LIST_MAX:
            body = self.caller.get("list_payments", "/sandbox/v1/payments", **params).body
            page = [_payment(each) for each in wire.items(body, "data")]
            listed += page
            if not page or not wire.fields(body).get("has_more"):
                return listed
            params["after"] = page[-1].gateway_id
        raise Uncertain("There are more payments than we look at.", code="too_many")


def make(caller: Caller, credentials: Mapping[str, str]) -> Sandbox:
    """Return the sandbox with a tenant's credentials."""
    key = credentials["secret_key"]
    headers = {"Authorization": f"Bearer {key}"}
    return Sandbox(Caller(caller.gateway, caller.circuit, caller.base_url, headers), key)


def signature_of(signed: bytes, secret_key: str) -> str:
    """Return a Standard Webhooks signature of "<id>.<timestamp>.<body>"."""
    digest = hmac.digest(secret_key.encode(), signed, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def _method(order: PaymentOrder) -> dict[str, Any]:
    if order.token:
        return {"token": order.token}
    card = order.card
    if card is None:
        return {"type": "hosted"}
    return {
        "type": "card",
        "number": card.number,
        "exp_month": card.exp_month,
        "exp_year": card.exp_year,
        "cvc": card.cvc,
    }


def _payment(body: Any) -> PaymentReport:
    told = wire.fields(body)
    raw = wire.text(told, "status")
    refunded = told.get("refunded_amount")
    return PaymentReport(
        gateway_id=wire.object_id(told),
        reference=wire.text(told, "reference"),
        state=wire.known(_PAYMENT_STATES, raw),
        raw_status=raw,
        amount=wire.minor_units(told.get("amount"), wire.text(told, "currency")),
        is_settled=raw == "succeeded",
        refunded=refunded if type(refunded) is int else 0,
        redirect_url=wire.text(told, "redirect_url"),
        expires_at=wire.moment(told, "expires_at"),
        failure_code=wire.text(told, "failure_code")[:64],
        card_last4=wire.text(told, "card_last4")[:4],
        created_at=wire.moment(told, "created_at"),
    )


def _refund(body: Any) -> RefundReport:
    told = wire.fields(body)
    raw = wire.text(told, "status")
    return RefundReport(
        gateway_id=wire.object_id(told),
        reference=wire.text(told, "reference"),
        state=wire.known(_REFUND_STATES, raw),
        raw_status=raw,
        amount=wire.minor_units(told.get("amount"), wire.text(told, "currency")),
        failure_code=wire.text(told, "failure_code")[:64],
    )


def _payout(body: Any) -> PayoutReport:
    told = wire.fields(body)
    raw = wire.text(told, "status")
    return PayoutReport(
        gateway_id=wire.object_id(told),
        reference=wire.text(told, "reference"),
        state=wire.known(_PAYOUT_STATES, raw),
        raw_status=raw,
        amount=wire.minor_units(told.get("amount"), wire.text(told, "currency")),
        failure_code=wire.text(told, "failure_code")[:64],
    )
