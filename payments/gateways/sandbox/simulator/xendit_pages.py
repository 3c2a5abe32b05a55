"""What Xendit shows a payer on a page of its own: invoices (payment links) and sessions."""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from payments.gateways.sandbox.simulator.clock import from_rfc3339, rfc3339
from payments.gateways.sandbox.simulator.exchange import Answer, Json, Request, Route, number, route
from payments.gateways.sandbox.simulator.lifecycle import Lifecycle, WrongState
from payments.gateways.sandbox.simulator.state import Payment
from payments.gateways.sandbox.simulator.xendit_objects import (
    DAY_S,
    XenditObjects,
    business_id,
    echoed,
    event,
    only,
    request_id,
    web_url,
)
from payments.gateways.sandbox.simulator.xendit_words import (
    COUNTRIES,
    decimals_of,
    has_allowed_decimals,
    read_limit,
    read_number,
    read_object,
    read_text,
    refused,
)

_SESSION_S, _SESSION_S_MIN = 1800, 600
_INVOICE_CURRENCIES: Final = frozenset({"IDR", "USD", "THB", "VND", "PHP", "MYR"})


class XenditPages:
    """Endpoints and callbacks of both."""

    def __init__(self, lifecycle: Lifecycle, objects: XenditObjects) -> None:
        self._lifecycle = lifecycle
        self._state = lifecycle.state
        self._objects = objects
        create, show, cancel = "create_payment", "get_payment", "cancel_payment"
        self.routes: Sequence[Route] = [
            route("POST", "/v2/invoices", create, self._make_invoice),
            route("GET", "/v2/invoices", "list_payments", self._list_invoices),
            route("GET", "/v2/invoices/{id}", show, self._show_invoice),
            route("POST", "/invoices/{id}/expire!", cancel, self._expire_invoice),
            route("POST", "/sessions", create, self._make_session),
            route("GET", "/sessions/{id}", show, self._show_session),
            route("POST", "/sessions/{id}/cancel", cancel, self._cancel_session),
        ]

    def callbacks(self, payment: Payment, step: str) -> list[tuple[str, Json]]:
        """Event and body of all that Xendit sends after a step."""
        if payment.kind == "session":
            return self._session_callbacks(payment, step)
        # Neither a failed attempt is told, nor an invoice that was made.
        if step in {"pay", "expire", "stale"}:
            return [("invoice", {**self._invoice_view(payment), "is_high": False})]
        return []

    # --- Invoices ------------------------------------------------------------------------------

    def _make_invoice(self, request: Request) -> Answer:
        body = read_object(request)
        reference = read_text(body, "external_id", 255)
        currency = body.get("currency", "IDR")
        if currency not in _INVOICE_CURRENCIES:
            raise refused(400, "UNSUPPORTED_CURRENCY", "The currency is not supported.")
        amount = read_number(body)
        if not has_allowed_decimals(amount, currency):
            # Without a word: xendit-php#171.
            scale = Decimal(1).scaleb(-decimals_of(currency))
            amount = amount // scale * scale
        lifetime_s = body.get("invoice_duration", DAY_S)
        if not isinstance(lifetime_s, int | Decimal) or not 1 <= lifetime_s <= 31_536_000:
            raise refused(400, "API_VALIDATION_ERROR", "invoice_duration is out of range")
        payment = self._objects.new(
            request, "invoice", self._state.new_hex(), reference, amount, currency
        )
        payment.expires_at = payment.created_at + float(lifetime_s)
        payment.extra |= echoed("invoice", body)
        payment.return_url = web_url(body.get("success_redirect_url"))
        payment.failure_return_url = web_url(body.get("failure_redirect_url"))
        self._lifecycle.add_payment(payment)
        self._lifecycle.start(payment, "pending")
        return Answer(200, self._invoice_view(payment, payment.amount))

    def _invoice_view(self, payment: Payment, amount: Decimal | None = None) -> Json:
        amount = payment.shown_amount if amount is None else amount
        view: Json = {
            "id": payment.id,
            "external_id": payment.reference,
            "user_id": business_id(payment.key),
            "status": self._objects.word(payment),
            "merchant_name": "Florin Sandbox",
            "merchant_profile_picture_url": "",
            "amount": number(amount),
            "currency": payment.currency,
            "expiry_date": rfc3339(payment.expires_at),
            "invoice_url": payment.page_url,
            "available_banks": [],
            "available_retail_outlets": [],
            "available_ewallets": [],
            "available_qr_codes": [],
            "available_direct_debits": [],
            "available_paylaters": [],
            "should_exclude_credit_card": False,
            "should_send_email": False,
            "created": rfc3339(payment.created_at),
            "updated": rfc3339(payment.updated_at),
        }
        return view | only("invoice", payment.extra) | self._payment_part(payment)

    def _payment_part(self, payment: Payment) -> Json:
        if payment.paid_at is None:
            return {}
        part = {
            "paid_amount": number(payment.shown_amount),
            "paid_at": rfc3339(payment.paid_at),
            "payment_method": payment.extra["method"],
            "payment_channel": payment.extra["channel_code"],
            "payment_id": payment.extra["payment_id"],
        }
        if payment.extra["method"] == "CREDIT_CARD":
            part["credit_card_charge_id"] = payment.extra["payment_id"]
        return part

    def _show_invoice(self, request: Request, invoice_id: str) -> Answer:
        return Answer(200, self._invoice_view(self._objects.own(request, "invoice", invoice_id)))

    def _list_invoices(self, request: Request) -> Answer:
        reference, limit = request.asked("external_id"), read_limit(request)
        statuses = _read_statuses(request.query.get("statuses", []))
        bounds = {name: _read_time(request, name) for name in ("created_after", "paid_after")}
        found = []
        # The newest first, as in the dashboard.
        for payment in reversed(self._objects.mine(request, "invoice")):
            if reference and payment.reference != reference:
                continue
            if statuses and self._objects.word(payment) not in statuses:
                continue
            if payment.created_at <= bounds["created_after"]:
                continue
            if bounds["paid_after"] and (payment.paid_at or 0) <= bounds["paid_after"]:
                continue
            found.append(payment)
        ids = [payment.id for payment in found]
        if (last := request.asked("last_invoice")) in ids:
            found = found[ids.index(last) + 1 :]
        for payment in found[:limit]:
            self._lifecycle.attach_faults(payment, "list_payments")
        return Answer(200, [self._invoice_view(payment) for payment in found[:limit]])

    def _expire_invoice(self, request: Request, invoice_id: str) -> Answer:
        payment = self._objects.own(request, "invoice", invoice_id)
        try:
            self._lifecycle.take_step(payment, "expire")
        except WrongState:
            message = "Could not find and update PENDING invoice"
            raise refused(404, "INVOICE_NOT_FOUND_ERROR", message) from None
        return Answer(200, self._invoice_view(payment))

    # --- Sessions ------------------------------------------------------------------------------

    def _make_session(self, request: Request) -> Answer:
        body, now = read_object(request), self._lifecycle.clock.now()
        reference = read_text(body, "reference_id", 64)
        if body.get("session_type") != "PAY":
            raise refused(400, "SESSION_TYPE_NOT_SUPPORTED", "Only PAY is simulated.")
        if body.get("mode") != "PAYMENT_LINK":
            raise refused(400, "MODE_NOT_SUPPORTED", "Only PAYMENT_LINK is simulated.")
        currency = body.get("currency")
        if currency not in COUNTRIES:
            raise refused(400, "INVALID_CURRENCY", "currency is not supported")
        if body.get("country") not in COUNTRIES.values():
            raise refused(400, "INVALID_COUNTRY", "country is not supported")
        amount = read_number(body)
        if not has_allowed_decimals(amount, str(currency)):
            message = "amount must respect the decimal places allowed for the currency"
            raise refused(400, "INVALID_AMOUNT", message)
        for name in ("success_return_url", "cancel_return_url"):
            url = body.get(name)
            if url is not None and not (isinstance(url, str) and url.startswith("https://")):
                raise refused(400, "INVALID_URL", f"{name} must be an HTTPS URL")
        expires_at = now + _SESSION_S
        if (asked := body.get("expires_at")) is not None:
            expires_at = _session_end(asked)
            if expires_at < now + _SESSION_S_MIN - 1:
                raise refused(400, "INVALID_EXPIRY_DATE", "expires_at is at least 10 minutes off")
        session_id = f"ps-{self._state.new_hex()}"
        payment = self._objects.new(
            request, "session", session_id, reference, amount, str(currency)
        )
        payment.expires_at = expires_at
        payment.extra |= {"country": body["country"], **echoed("session", body)}
        payment.return_url = web_url(body.get("success_return_url"))
        payment.failure_return_url = web_url(body.get("cancel_return_url"))
        payment.extra.setdefault("customer_id", f"cust-{self._state.new_uuid()}")
        self._lifecycle.add_payment(payment)
        self._lifecycle.start(payment, "pending")
        return Answer(201, self._session_view(payment, payment.amount))

    def _session_view(self, payment: Payment, amount: Decimal | None = None) -> Json:
        view: Json = {
            "payment_session_id": payment.id,
            "created": rfc3339(payment.created_at),
            "updated": rfc3339(payment.updated_at),
            "reference_id": payment.reference,
            "session_type": "PAY",
            "mode": "PAYMENT_LINK",
            "currency": payment.currency,
            "amount": number(payment.shown_amount if amount is None else amount),
            "country": payment.extra["country"],
            "expires_at": rfc3339(payment.expires_at),
            "status": self._objects.word(payment),
            "payment_link_url": payment.page_url,
            "payment_token_id": None,
            "payment_request_id": request_id(payment),
            "payment_id": payment.extra.get("payment_id"),
            "business_id": business_id(payment.key),
        }
        return view | only("session", payment.extra)

    def _show_session(self, request: Request, session_id: str) -> Answer:
        return Answer(200, self._session_view(self._objects.own(request, "session", session_id)))

    def _cancel_session(self, request: Request, session_id: str) -> Answer:
        payment = self._objects.own(request, "session", session_id)
        try:
            self._lifecycle.take_step(payment, "cancel")
        except WrongState:
            raise refused(400, "API_VALIDATION_ERROR", "session is not ACTIVE") from None
        return Answer(200, self._session_view(payment))

    # --- Callbacks of a session ---------------------------------------------------------------

    def _session_callbacks(self, payment: Payment, step: str) -> list[tuple[str, Json]]:
        if step == "expire":
            return [event(payment, "payment_session.expired", self._session_view(payment))]
        if payment.status == "succeeded":
            capture = self._payment_shown(payment, "SUCCEEDED")
            capture["captures"] = [
                {
                    "capture_id": f"cptr-{payment.extra['payment_id'][3:]}",
                    "capture_amount": number(payment.shown_amount),
                    "capture_timestamp": rfc3339(payment.paid_at),
                }
            ]
            return [
                event(payment, "payment_session.completed", self._session_view(payment)),
                event(payment, "payment.capture", capture),
            ]
        if step == "fail":
            failed = self._payment_shown(payment, "FAILED")
            return [event(payment, "payment.failure", failed)]
        return []

    def _payment_shown(self, payment: Payment, status: str) -> Json:
        return {
            "payment_id": payment.extra.get("payment_id") or f"py-{self._state.new_uuid()}",
            "business_id": business_id(payment.key),
            "status": status,
            "payment_request_id": request_id(payment),
            "request_amount": number(payment.shown_amount),
            "customer_id": payment.extra.get("customer_id"),
            "channel_code": payment.extra.get("channel_code", "CARDS"),
            "country": payment.extra["country"],
            "currency": payment.currency,
            "reference_id": payment.reference,
            "failure_code": payment.failure_code,
            "payment_details": {},
            "created": rfc3339(payment.created_at),
            "updated": rfc3339(payment.updated_at),
        }


def _read_statuses(values: list[str]) -> set[str]:
    """`["PENDING","PAID"]` as JSON, or the field repeated, or words between commas."""
    found: set[str] = set()
    for value in values:
        try:
            words = json.loads(value)
        except ValueError:
            words = value.split(",")
        found |= {str(word) for word in (words if isinstance(words, list) else [words])}
    return found


def _read_time(request: Request, name: str) -> float:
    text = request.asked(name)
    try:
        return from_rfc3339(text) if text else 0.0
    except ValueError:
        raise refused(400, "API_VALIDATION_ERROR", f"{name} is not an ISO 8601 time") from None


def _session_end(value: Any) -> float:
    try:
        return from_rfc3339(value)
    except (TypeError, ValueError):
        raise refused(400, "INVALID_EXPIRY_DATE", "expires_at is not an ISO 8601 time") from None
