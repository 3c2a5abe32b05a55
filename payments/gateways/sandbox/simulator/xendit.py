"""
Xendit, under `/xendit`: keys, idempotency, refunds, payouts and webhooks.

What a payer can pay is in `xendit_pages.py` and `xendit_requests.py`. Field names and codes
are those of Xendit's own SDK (xendit-python 7.0.0) and its published OpenAPI documents.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final

from payments.gateways.sandbox.simulator.clock import rfc3339
from payments.gateways.sandbox.simulator.exchange import (
    Answer,
    Json,
    Refusal,
    Request,
    Route,
    number,
    route,
    to_json,
)
from payments.gateways.sandbox.simulator.lifecycle import Lifecycle, Notice, WrongState
from payments.gateways.sandbox.simulator.state import Delivery, Payment, Payout, Refund
from payments.gateways.sandbox.simulator.xendit_objects import (
    XenditObjects,
    business_id,
    request_id,
)
from payments.gateways.sandbox.simulator.xendit_pages import XenditPages
from payments.gateways.sandbox.simulator.xendit_requests import XenditRequests
from payments.gateways.sandbox.simulator.xendit_words import (
    COUNTRIES,
    country_of,
    own,
    page_of,
    read_amount,
    read_object,
    read_text,
    refused,
    reply,
)

KEY_SHAPE: Final = re.compile(r"xnd_development_[A-Za-z0-9_\-]{1,200}")
RETRIES_S: Final = (900.0, 2700.0, 7200.0, 10_800.0, 21_600.0, 43_200.0)
_PAGES: Final = frozenset({"invoice", "session"})
_LIMIT_SHOWN: Final = 60
_WINDOW_S: Final = 60
_PAYOUT_WORDS: Final = {
    "submitted": "ACCEPTED",
    "settled": "SUCCEEDED",
    "failed": "FAILED",
    "returned": "REVERSED",
}
_PAYOUT_FAILURES: Final = {
    "invalid_account": "INVALID_DESTINATION",
    "account_closed": "REJECTED_BY_CHANNEL",
}
_REFUND_REASONS: Final = frozenset(
    ["FRAUDULENT", "DUPLICATE", "REQUESTED_BY_CUSTOMER", "CANCELLATION", "OTHERS"]
)
# Money that came by these cannot be sent back the same way.
_NOT_REFUNDABLE: Final = frozenset({"VIRTUAL_ACCOUNT", "OVER_THE_COUNTER", "BANK_TRANSFER"})


class XenditGateway:
    """Endpoints and webhooks of `/xendit`."""

    name = "xendit"
    webhook_timeout_s = 30.0

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._state = lifecycle.state
        self._objects = XenditObjects(lifecycle)
        self._pages = XenditPages(lifecycle, self._objects)
        self._requests = XenditRequests(lifecycle, self._objects)
        self.routes: Sequence[Route] = [
            *self._pages.routes,
            *self._requests.routes,
            route("POST", "/refunds", "refund", self._make_refund),
            route("GET", "/refunds", "get_refund", self._list_refunds),
            route("GET", "/refunds/{id}", "get_refund", self._show_refund),
            route("POST", "/v2/payouts", "create_payout", self._make_payout),
            route("GET", "/v2/payouts", "get_payout", self._list_payouts),
            route("GET", "/v2/payouts/{id}", "get_payout", self._show_payout),
        ]

    # --- Every request -------------------------------------------------------------------------

    def identify(self, request: Request) -> None:
        """The key, and the merchant's reference, under one of its two names."""
        request.key = request.basic_key()
        try:
            body = request.read_json() if request.body else {}
        except ValueError:
            body = {}
        state, found = self._state, None
        for name in ("external_id", "reference_id"):
            found = found or (body.get(name) if isinstance(body, dict) else None)
            found = found or request.asked(name)
        for part in request.path.split("/"):
            item = self._objects.find(part) or state.refunds.get(part) or state.payouts.get(part)
            found = found or (item.reference if item else None)
        request.reference = found if isinstance(found, str) else None

    def before(self, request: Request) -> Answer | None:
        """Refuse a bad key or too many requests, and answer again what was answered before."""
        is_known = KEY_SHAPE.fullmatch(request.key)
        if not is_known or self._state.account_of(self.name, request.key).is_revoked:
            return reply(401, "INVALID_API_KEY", "API key is not authorized for this API service.")
        used, limit = self._count(request.key), self._state.settings.rate_limit
        if limit and used > limit:
            answer = self.fault_answer(429)
            answer.headers |= self._rate_headers(request.key)
            return answer
        place = _idempotent_place(request)
        key = request.headers.get("idempotency-key", "")
        if place == "payouts" and not key:
            return reply(400, "API_VALIDATION_ERROR", "header idempotency-key is required")
        known = self._state.answers.get(f"{self.name}:{request.key}:{place}:{key}") if key else None
        if not place or known is None:
            return None
        if known["fingerprint"] != _fingerprint(request):
            message = "Idempotency key was used before with a different payload."
            return reply(409, "DUPLICATE_ERROR", message)
        return Answer(known["status"], known["body"], self._rate_headers(request.key))

    def after(self, request: Request, answer: Answer) -> None:
        """Remember what was made under a key: without expiry, as Xendit says of payouts."""
        answer.headers |= self._rate_headers(request.key)
        place, key = _idempotent_place(request), request.headers.get("idempotency-key")
        if place and key:
            self._state.answers[f"{self.name}:{request.key}:{place}:{key}"] = {
                "fingerprint": _fingerprint(request),
                "status": answer.status,
                "body": answer.body,
            }

    def leave(self, request: Request) -> None:
        """Nothing to do."""

    def fault_answer(self, status: int) -> Answer:
        """An error in Xendit's shape."""
        code = {404: "DATA_NOT_FOUND", 429: "RATE_LIMIT_EXCEEDED"}.get(status, "SERVER_ERROR")
        message = "An unexpected error occurred." if status >= 500 else "Refused."
        return reply(status, code, message)

    def _count(self, key: str) -> int:
        now = self._lifecycle.clock.now()
        began, used = self._state.windows.get(key, (now, 0))
        if not 0 <= now - began < _WINDOW_S:
            began, used = now, 0
        self._state.windows[key] = (began, used + 1)
        return used + 1

    def _rate_headers(self, key: str) -> dict[str, str]:
        limit = self._state.settings.rate_limit or _LIMIT_SHOWN
        began, used = self._state.windows.get(key, (0.0, 0))
        rest_s = began + _WINDOW_S - self._lifecycle.clock.now()
        return {
            "Rate-Limit-Limit": str(limit),
            "Rate-Limit-Remaining": str(max(0, limit - used)),
            "Rate-Limit-Reset": f"{max(0.0, rest_s):.0f}",
        }

    # --- Refunds -------------------------------------------------------------------------------

    def _make_refund(self, request: Request) -> Answer:
        state, now = self._state, self._lifecycle.clock.now()
        body = read_object(request)
        payment_id = body.get("payment_request_id") or body.get("invoice_id")
        payment = self._objects.find(payment_id) if isinstance(payment_id, str) else None
        if payment is None or payment.key != request.key:
            raise refused(404, "DATA_NOT_FOUND", "The payment was not found.")
        reason = body.get("reason")
        if reason not in _REFUND_REASONS:
            raise refused(400, "API_VALIDATION_ERROR", "reason is not one of the allowed values")
        currency = body.get("currency", payment.currency)
        rest = payment.amount - payment.refunded
        amount = read_amount({"amount": rest, **body}, payment.currency)
        if currency != payment.currency:
            raise refused(400, "API_VALIDATION_ERROR", "currency is not that of the payment")
        if payment.status != "succeeded":
            raise refused(400, "INELIGIBLE_TRANSACTION", "The transaction is not refundable.")
        if payment.extra.get("method") in _NOT_REFUNDABLE:
            raise refused(400, "REFUND_NOT_SUPPORTED", "The channel does not support refunds.")
        if amount > rest:
            raise refused(400, "MAXIMUM_REFUND_AMOUNT_REACHED", "More than was paid.")
        metadata = body.get("metadata")
        refund = Refund(
            id=f"rfd-{state.new_uuid()}",
            gateway=self.name,
            key=request.key,
            payment_id=payment.id,
            reference=str(body.get("reference_id") or ""),
            amount=amount,
            currency=payment.currency,
            status="pending",
            created_at=now,
            updated_at=now,
            extra={
                "reason": reason,
                "metadata": metadata,
                "sim": metadata.get("sim") if isinstance(metadata, dict) else None,
            },
        )
        self._lifecycle.add_refund(refund, payment)
        return Answer(200, self._refund_view(refund))

    def _refund_view(self, refund: Refund) -> Json:
        payment = self._state.payments[refund.payment_id]
        is_invoice = payment.kind == "invoice"
        return {
            "id": refund.id,
            "payment_id": payment.extra.get("payment_id"),
            "payment_request_id": None if is_invoice else request_id(payment),
            "invoice_id": payment.id if is_invoice else None,
            "payment_method_type": payment.extra.get("method"),
            "amount": number(refund.amount),
            "currency": refund.currency,
            "country": country_of(refund.currency),
            "channel_code": payment.extra.get("channel_code"),
            "status": refund.status.upper(),
            "reason": refund.extra["reason"],
            "reference_id": refund.reference or None,
            "failure_code": "REFUND_FAILED" if refund.status == "failed" else None,
            "refund_fee_amount": None,
            "metadata": refund.extra["metadata"],
            "created": rfc3339(refund.created_at),
            "updated": rfc3339(refund.updated_at),
        }

    def _show_refund(self, request: Request, refund_id: str) -> Answer:
        refund = own(request, self._state.refunds.get(refund_id), "DATA_NOT_FOUND")
        return Answer(200, self._refund_view(refund))

    def _list_refunds(self, request: Request) -> Answer:
        asked = {request.asked(name) for name in ("invoice_id", "payment_request_id")} - {""}
        found = []
        for refund in self._state.refunds.values():
            if (refund.gateway, refund.key) == (self.name, request.key):
                payment = self._state.payments[refund.payment_id]
                if not asked or asked & {payment.id, request_id(payment)}:
                    found.append(self._refund_view(refund))
        return page_of(request, found)

    # --- Payouts -------------------------------------------------------------------------------

    def _make_payout(self, request: Request) -> Answer:
        state, now = self._state, self._lifecycle.clock.now()
        body = read_object(request)
        currency = read_text(body, "currency", 3)
        if currency not in COUNTRIES:
            raise refused(400, "API_VALIDATION_ERROR", "currency is not supported")
        channel = read_text(body, "channel_code", 50)
        if not re.fullmatch(r"[A-Z]{2}_[A-Z0-9_]+", channel):
            raise refused(400, "CHANNEL_CODE_NOT_SUPPORTED", "channel_code is not supported")
        properties = body.get("channel_properties")
        if not isinstance(properties, dict):
            raise refused(400, "API_VALIDATION_ERROR", "channel_properties is required")
        account = read_text(properties, "account_number", 40)
        read_text(properties, "account_holder_name", 100)
        payout = Payout(
            id=f"disb-{state.new_uuid()}",
            gateway=self.name,
            key=request.key,
            reference=read_text(body, "reference_id", 255),
            amount=read_amount(body, currency),
            currency=currency,
            status="submitted",
            created_at=now,
            updated_at=now,
            extra={
                name: body[name]
                for name in ("channel_code", "channel_properties", "description", "metadata")
                if name in body
            },
        )
        self._lifecycle.add_payout(payout, account)
        return Answer(200, self._payout_view(payout))

    def _payout_view(self, payout: Payout) -> Json:
        view: Json = {
            "id": payout.id,
            "reference_id": payout.reference,
            "business_id": business_id(payout.key),
            "amount": number(payout.amount),
            "currency": payout.currency,
            "status": _PAYOUT_WORDS[payout.status],
            "created": rfc3339(payout.created_at),
            "updated": rfc3339(payout.updated_at),
            "estimated_arrival_time": rfc3339(payout.created_at + 900),
        }
        if payout.failure_code is not None:
            view["failure_code"] = _PAYOUT_FAILURES[payout.failure_code]
        return view | payout.extra

    def _show_payout(self, request: Request, payout_id: str) -> Answer:
        payout = own(request, self._state.payouts.get(payout_id), "DATA_NOT_FOUND")
        return Answer(200, self._payout_view(payout))

    def _list_payouts(self, request: Request) -> Answer:
        reference = request.asked("reference_id")
        if not reference:
            raise refused(400, "API_VALIDATION_ERROR", "reference_id is required")
        found = [
            self._payout_view(payout)
            for payout in self._state.payouts.values()
            if (payout.gateway, payout.key, payout.reference) == (self.name, request.key, reference)
        ]
        return page_of(request, found)

    # --- Webhooks ------------------------------------------------------------------------------

    def status_after(self, payment: Payment, step: str, status: str) -> str:
        """
        A failed attempt leaves an invoice or a session open.

        :raises WrongState: Xendit has no such thing
        """
        is_page = payment.kind in _PAGES
        if step == "settle":
            raise WrongState("Xendit settles by itself, a day later")
        if is_page and (status == "reversed" or (step == "cancel" and payment.kind == "invoice")):
            raise WrongState(f"{step} does not exist for an {payment.kind} at Xendit")
        if step == "cancel" and payment.status == "succeeded":
            raise WrongState("it was paid")
        if status == "succeeded" and payment.paid_at is None:
            self._objects.note_payment(payment)
        if status == "failed":
            self._requests.note_failure(payment, step)
            return "pending" if is_page else status
        return status

    def payment_notices(self, payment: Payment, step: str) -> list[Notice]:
        """The callbacks of invoices, sessions and payment requests."""
        is_page = payment.kind in _PAGES
        told = (self._pages if is_page else self._requests).callbacks(payment, step)
        return [Notice(event, payload, self._urls(payment.key)) for event, payload in told]

    def refund_notices(self, refund: Refund, payment: Payment) -> list[Notice]:
        """`refund.succeeded` or `refund.failed`."""
        event = f"refund.{refund.status}"
        return self._notices(event, refund.key, self._refund_view(refund))

    def payout_notices(self, payout: Payout) -> list[Notice]:
        """`payout.succeeded`, `payout.failed` or `payout.reversed`."""
        event = f"payout.{_PAYOUT_WORDS[payout.status].lower()}"
        return self._notices(event, payout.key, self._payout_view(payout))

    def _notices(self, event: str, key: str, shown: Json) -> list[Notice]:
        payload = {"event": event, "business_id": business_id(key), "created": "", "data": shown}
        return [Notice(event, payload, self._urls(key))]

    def _urls(self, key: str) -> list[str]:
        url = self._state.account_of(self.name, key).webhook_url
        return [url] if url else []

    def signed(self, delivery: Delivery, now: float) -> tuple[dict[str, str], bytes]:
        """
        A shared token, no signature. `created` of an event is the time of the attempt, so the body
        differs at each; the callback of an invoice has no `webhook-id`.
        """
        token = self._state.account_of(self.name, delivery.key).webhook_token
        headers = {"x-callback-token": token + ("-forged" if delivery.is_forged else "")}
        payload = dict(delivery.payload)
        if "event" in payload:
            payload["created"] = rfc3339(now)
            headers["webhook-id"] = delivery.event_id
        return headers, to_json(payload)

    def retry_after_s(self, attempts: int, status: int | None) -> float | None:
        """Six more attempts over a day."""
        return RETRIES_S[attempts - 1] if attempts <= len(RETRIES_S) else None


def _idempotent_place(request: Request) -> str:
    """Where a key counts; nothing for invoices and sessions, which know no idempotency."""
    if request.method != "POST":
        return ""
    last = request.path.rstrip("/").rpartition("/")[2]
    return last if last in {"payment_requests", "refunds", "payouts"} else ""


def _fingerprint(request: Request) -> str:
    try:
        content: Any = request.read_json()
    except ValueError:
        raise Refusal(reply(400, "API_VALIDATION_ERROR", "The body is not JSON.")) from None
    ordered = sorted(content.items()) if isinstance(content, dict) else content
    return hashlib.sha256(to_json(ordered)).hexdigest()
