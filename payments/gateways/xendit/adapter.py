"""
Xendit: payment links (`/v2/invoices`), payment requests by token, refunds, payouts.

Formats: Xendit's API reference and its published SDK (xendit-python 7.0.0). Amounts are JSON
numbers in major units. Payment links take no idempotency key: after a lost answer we look for our
`external_id`, and never create a second one.
"""

import datetime as dt
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.money import Money
from payments.gateways import wire
from payments.gateways.calling import Caller, basic_authorization
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

CAPABILITIES = Capabilities(
    currencies=frozenset({"IDR", "PHP", "VND", "THB", "MYR", "SGD", "USD"}),
    credentials=("secret_key",),
    needs_webhook_secret=True,
)
LIST_PAGE = 100
LIST_MAX = 100_000
CHECKOUT_S = 3600

_LINK_STATES = {
    "PENDING": State.PENDING,
    "PAID": State.SUCCEEDED,
    "SETTLED": State.SUCCEEDED,
    "EXPIRED": State.EXPIRED,
}
_REQUEST_STATES = {
    "PENDING": State.PENDING,
    "REQUIRES_ACTION": State.PENDING,
    "UNKNOWN": State.PENDING,
    "AWAITING_CAPTURE": State.REVIEW,
    "SUCCEEDED": State.SUCCEEDED,
    "FAILED": State.FAILED,
    "CANCELED": State.FAILED,
    "VOIDED": State.REVERSED,
    "EXPIRED": State.EXPIRED,
}
_REFUND_STATES = {
    "REQUIRES_ACTION": State.PENDING,
    "PENDING": State.PENDING,
    "SUCCEEDED": State.SUCCEEDED,
    "FAILED": State.FAILED,
    "CANCELLED": State.FAILED,
}
_PAYOUT_STATES = {
    "ACCEPTED": State.PENDING,
    "REQUESTED": State.PENDING,
    "SUCCEEDED": State.SUCCEEDED,
    "FAILED": State.FAILED,
    "CANCELLED": State.FAILED,
    "EXPIRED": State.FAILED,
    "REVERSED": State.REVERSED,
}
# The state that an event tells of; what it tells is asked for again.
_EVENT_STATES = {
    "payment_session.completed": State.SUCCEEDED,
    "payment_session.expired": State.EXPIRED,
    "payment.succeeded": State.SUCCEEDED,
    "payment.capture": State.SUCCEEDED,
    "payment.authorization": State.REVIEW,
    "payment.awaiting_capture": State.REVIEW,
    "payment.failed": State.FAILED,
    "payment.failure": State.FAILED,
    "payment.expiry": State.EXPIRED,
    "capture.succeeded": State.SUCCEEDED,
    "capture.failed": State.FAILED,
    "refund.succeeded": State.SUCCEEDED,
    "refund.failed": State.FAILED,
    "payout.succeeded": State.SUCCEEDED,
    "payout.failed": State.FAILED,
    "payout.expired": State.FAILED,
    "payout.reversed": State.REVERSED,
}
_PREFIXES = {"payment": Kind.PAYMENT, "capture": Kind.PAYMENT, "payment_session": Kind.PAYMENT}
_PREFIXES |= {"refund": Kind.REFUND, "payout": Kind.PAYOUT}


@dataclass(frozen=True, slots=True)
class Xendit:
    caller: Caller

    def create_payment(self, order: PaymentOrder) -> PaymentReport:
        if order.token:
            return self._request_payment(order)
        link: dict[str, Any] = {
            "external_id": order.reference,
            "amount": wire.major_units(order.amount),
            "currency": order.amount.currency,
            "description": order.description or order.reference,
            "invoice_duration": CHECKOUT_S,
            "should_send_email": False,
        }
        if order.return_url:
            link |= {
                "success_redirect_url": order.return_url,
                "failure_redirect_url": order.return_url,
            }
        # Not again by itself, whatever happens: a second one could be paid too.
        return _link(self.caller.post("create_payment", "/v2/invoices", link).body)

    def _request_payment(self, order: PaymentOrder) -> PaymentReport:
        request: dict[str, Any] = {
            "reference_id": order.reference,
            "amount": wire.major_units(order.amount),
            "currency": order.amount.currency,
            "payment_method_id": order.token,
            "description": order.description or order.reference,
        }
        if order.return_url:
            # Where a challenge ends.
            request["channel_properties"] = {
                "success_return_url": order.return_url,
                "failure_return_url": order.return_url,
            }
        headers = {"idempotency-key": order.idempotency_key}
        answer = self.caller.post("create_payment", "/payment_requests", request, headers=headers)
        return _request(answer.body)

    def get_payment(
        self, *, reference: str, gateway_id: str, method: str, currency: str
    ) -> PaymentReport:
        read, path = (
            (_request, "/payment_requests") if method == "token" else (_link, "/v2/invoices")
        )
        if gateway_id:
            path = f"{path}/{wire.segment(gateway_id)}"
            return read(self.caller.get("get_payment", path).body)
        if method == "token":
            found = wire.items(
                self.caller.get("get_payment", path, reference_id=reference).body, "data"
            )
        else:
            found = wire.items(self.caller.get("get_payment", path, external_id=reference).body)
        name = "reference_id" if method == "token" else "external_id"
        # Whether or not the list was filtered: another's payment is not ours.
        ours = [each for each in found if wire.text(each, name) == reference]
        return _most_telling([read(each) for each in ours])

    def cancel_payment(
        self, *, reference: str, gateway_id: str, method: str, amount: Money, redirect_url: str
    ) -> PaymentReport | None:
        if method != "hosted":
            return None

        def expire(link_id: str) -> PaymentReport:
            path = f"/invoices/{wire.segment(link_id)}/expire!"
            return _link(self.caller.post("cancel_payment", path, None).body)

        def ask() -> PaymentReport:
            return self.get_payment(
                reference=reference, gateway_id=gateway_id, method=method, currency=amount.currency
            )

        return call_off(gateway_id, cancel=expire, ask=ask)

    def refund(self, order: RefundOrder) -> RefundReport:
        of = "payment_request_id" if order.payment_method == "token" else "invoice_id"
        body = {
            "reference_id": order.reference,
            of: order.payment_gateway_id,
            "amount": wire.major_units(order.amount),
            "currency": order.amount.currency,
            "reason": "REQUESTED_BY_CUSTOMER",
        }
        headers = {"idempotency-key": order.idempotency_key}
        answer = self.caller.post("refund", "/refunds", body, headers=headers, may_repeat=True)
        return _refund(answer.body)

    def get_refund(self, order: RefundOrder, *, gateway_id: str) -> RefundReport:
        if gateway_id:
            path = f"/refunds/{wire.segment(gateway_id)}"
            return _refund(self.caller.get("get_refund", path).body)
        of = "payment_request_id" if order.payment_method == "token" else "invoice_id"
        params = {of: order.payment_gateway_id, "limit": str(LIST_PAGE)}
        found = self.caller.get("get_refund", "/refunds", **params).body
        for each in wire.items(found, "data"):
            if wire.text(each, "reference_id") == order.reference:
                return _refund(each)
        if wire.fields(found).get("has_more"):
            raise Uncertain("The payment has more refunds than Xendit lists.", code="has_more")
        raise NoSuchObject("Xendit has no refund of this reference.")

    def create_payout(self, order: PayoutOrder) -> PayoutReport:
        body = {
            "reference_id": order.reference,
            "channel_code": order.bank_code,
            "channel_properties": {
                "account_number": order.account_number or order.iban,
                "account_holder_name": order.beneficiary_name,
            },
            "amount": wire.major_units(order.amount),
            "currency": order.amount.currency,
            "description": order.description or order.reference,
        }
        headers = {"idempotency-key": order.idempotency_key}
        answer = self.caller.post(
            "create_payout", "/v2/payouts", body, headers=headers, may_repeat=True
        )
        return _payout(answer.body)

    def get_payout(self, *, reference: str, gateway_id: str, currency: str) -> PayoutReport:
        if gateway_id:
            path = f"/v2/payouts/{wire.segment(gateway_id)}"
            return _payout(self.caller.get("get_payout", path).body)
        found = self.caller.get("get_payout", "/v2/payouts", reference_id=reference).body
        for each in wire.items(found, "data"):
            if wire.text(each, "reference_id") == reference:
                return _payout(each)
        raise NoSuchObject("Xendit has no payout of this reference.")

    def verify_and_parse(
        self, *, headers: Mapping[str, str], body: bytes, secrets: Sequence[str]
    ) -> Notification:
        token = headers.get("x-callback-token", "")
        # All are compared, so that the time says nothing of which one it was.
        matches = [hmac.compare_digest(token.encode(), secret.encode()) for secret in secrets]
        if not token or not any(matches):
            raise Unauthentic("The callback token is not ours.")
        told = wire.notification(body)
        return _event(told, headers) if "event" in told else _link_callback(told, headers)

    def list_payments(self, *, since: dt.datetime) -> list[PaymentReport] | None:
        listed: list[PaymentReport] = []
        params = {"created_after": _zulu(since), "limit": str(LIST_PAGE)}
        while len(listed) < LIST_MAX:
            page = wire.items(self.caller.get("list_payments", "/v2/invoices", **params).body)
            listed += [_link(each) for each in page]
            if len(page) < LIST_PAGE:
                return listed
            params["last_invoice"] = wire.text(page[-1], "id")
        raise Uncertain("There are more payments than we look at.", code="too_many")


def make(caller: Caller, credentials: Mapping[str, str]) -> Xendit:
    """Return Xendit with a tenant's credentials."""
    headers = {"Authorization": basic_authorization(credentials["secret_key"])}
    return Xendit(Caller(caller.gateway, caller.circuit, caller.base_url, headers))


def _most_telling(reports: list[PaymentReport]) -> PaymentReport:
    """Of several with our reference, the one that took money; else the one that still may."""
    if not reports:
        raise NoSuchObject("Xendit has no payment of this reference.")
    paid = [report for report in reports if report.state is State.SUCCEEDED]
    if len(paid) > 1:
        raise Uncertain("Xendit has several paid payments of one reference.", code="paid_twice")
    alive = [report for report in reports if report.state is State.PENDING]
    return (paid + alive + reports)[0]


def _link(body: Any) -> PaymentReport:
    told = wire.fields(body)
    raw = wire.text(told, "status")
    currency = wire.text(told, "currency") or "IDR"
    state = wire.known(_LINK_STATES, raw)
    paid = told.get("paid_amount")
    stated = told.get("amount") if paid is None or state is not State.SUCCEEDED else paid
    return PaymentReport(
        gateway_id=wire.object_id(told),
        reference=wire.text(told, "external_id"),
        state=state,
        raw_status=raw,
        amount=wire.money(stated, currency),
        is_settled=raw == "SETTLED",
        redirect_url=wire.text(told, "invoice_url"),
        expires_at=wire.moment(told, "expiry_date"),
        created_at=wire.moment(told, "created"),
    )


def _request(body: Any) -> PaymentReport:
    told = wire.fields(body)
    raw = wire.text(told, "status")
    actions = told.get("actions")
    urls = [
        wire.text(action, "url")
        for action in (actions if isinstance(actions, list) else [])
        if isinstance(action, dict) and wire.text(action, "url_type") in ("WEB", "MOBILE")
    ]
    return PaymentReport(
        gateway_id=wire.object_id(told),
        reference=wire.text(told, "reference_id"),
        state=wire.known(_REQUEST_STATES, raw),
        raw_status=raw,
        amount=wire.money(told.get("amount"), wire.text(told, "currency")),
        redirect_url=urls[0] if urls else "",
        failure_code=wire.text(told, "failure_code").lower()[:64],
        created_at=wire.moment(told, "created"),
    )


def _refund(body: Any) -> RefundReport:
    told = wire.fields(body)
    raw = wire.text(told, "status")
    return RefundReport(
        gateway_id=wire.object_id(told),
        reference=wire.text(told, "reference_id"),
        state=wire.known(_REFUND_STATES, raw),
        raw_status=raw,
        amount=wire.money(told.get("amount"), wire.text(told, "currency")),
        failure_code=wire.text(told, "failure_code").lower()[:64],
    )


def _payout(body: Any) -> PayoutReport:
    told = wire.fields(body)
    raw = wire.text(told, "status")
    return PayoutReport(
        gateway_id=wire.object_id(told),
        reference=wire.text(told, "reference_id"),
        state=wire.known(_PAYOUT_STATES, raw),
        raw_status=raw,
        amount=wire.money(told.get("amount"), wire.text(told, "currency")),
        failure_code=wire.text(told, "failure_code").lower()[:64],
    )


def _link_callback(told: Mapping[str, Any], headers: Mapping[str, str]) -> Notification:
    """Read the callback of a payment link, which names no event."""
    gateway_id, raw = wire.text(told, "id"), wire.text(told, "status")
    if not gateway_id or not raw:
        raise Unreadable("It names neither a payment link nor an event.")
    derived = f"invoice:{gateway_id}:{raw}:{wire.text(told, 'payment_id') or '-'}"
    return Notification(
        event_id=(headers.get("webhook-id") or derived)[:255],
        kind=Kind.PAYMENT,
        reference=wire.text(told, "external_id"),
        gateway_id=gateway_id,
        state=_LINK_STATES.get(raw),
        raw_status=raw,
        is_settled=raw == "SETTLED",
    )


def _event(told: Mapping[str, Any], headers: Mapping[str, str]) -> Notification:
    event, data = wire.text(told, "event"), told.get("data")
    if not isinstance(data, dict):
        raise Unreadable("The event has no data.")
    kind = _PREFIXES.get(event.partition(".")[0], Kind.OTHER)
    # A refund names its payment too; several refunds name the same.
    names = ("payment_session_id", "payment_id", "id") if kind is Kind.PAYMENT else ("id",)
    object_id = next((id_ for name in names if (id_ := wire.text(data, name))), "")
    if not object_id and kind is not Kind.OTHER:
        raise Unreadable("The event names no object.")
    captures = data.get("captures")
    last = captures[-1] if isinstance(captures, list) and captures else None
    capture_id = wire.text(last, "capture_id") if isinstance(last, dict) else ""
    # `created` at the top is when it was sent, and changes with each delivery.
    part = wire.text(data, "status") if kind is Kind.REFUND else capture_id
    derived = f"{event}:{object_id}" + (f":{part or '-'}" if kind is not Kind.PAYOUT else "")
    payment_id = wire.text(data, "payment_request_id") if kind is Kind.PAYMENT else ""
    return Notification(
        event_id=(headers.get("webhook-id") or derived)[:255],
        kind=kind,
        reference=wire.text(data, "reference_id"),
        gateway_id=payment_id or object_id,
        state=_EVENT_STATES.get(event),
        raw_status=wire.text(data, "status") or event,
        failure_code=wire.text(data, "failure_code").lower()[:64],
    )


def _zulu(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
