"""The sandbox's own gateway, under `/sandbox`: bearer keys, minor units, Standard Webhooks."""

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from payments.gateways.sandbox.cards import SANDBOX_CARDS, TestCard, card_named, passes_luhn
from payments.gateways.sandbox.simulator.clock import from_rfc3339, rfc3339
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
from payments.gateways.sandbox.simulator.native_words import (
    error,
    page_of,
    read_field,
    read_money,
    read_object,
    read_urls,
    refused,
)
from payments.gateways.sandbox.simulator.state import Delivery, Payment, Payout, Refund

KEY_SHAPE: Final = re.compile(r"sk_sandbox_[A-Za-z0-9]{8,200}")
RETRIES_S: Final = (1.0, 5.0, 30.0, 300.0, 3600.0)
_YEAR_MIN: Final = 2000


class NativeGateway:
    """Endpoints and webhooks of `/sandbox`."""

    name = "sandbox"
    webhook_timeout_s = 15.0

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._state = lifecycle.state
        self.routes: Sequence[Route] = [
            route("POST", "/v1/tokens", "token", self._make_token),
            route("POST", "/v1/payments", "create_payment", self._make_payment),
            route("GET", "/v1/payments", "list_payments", self._list_payments),
            route("GET", "/v1/payments/{id}", "get_payment", self._show_payment),
            route("POST", "/v1/payments/{id}/cancel", "cancel_payment", self._cancel_payment),
            route("POST", "/v1/refunds", "refund", self._make_refund),
            route("GET", "/v1/refunds", "get_refund", self._list_refunds),
            route("GET", "/v1/refunds/{id}", "get_refund", self._show_refund),
            route("POST", "/v1/payouts", "create_payout", self._make_payout),
            route("GET", "/v1/payouts", "get_payout", self._list_payouts),
            route("GET", "/v1/payouts/{id}", "get_payout", self._show_payout),
        ]

    # --- Every request -------------------------------------------------------------------------

    def identify(self, request: Request) -> None:
        """The bearer key, and the reference in the body, the query or of the object asked for."""
        request.key = request.bearer_key()
        try:
            body = request.read_json() if request.body else {}
        except ValueError:
            body = {}
        reference = body.get("reference") if isinstance(body, dict) else None
        state, found = self._state, reference or request.asked("reference")
        for part in request.path.split("/"):
            item = state.payments.get(part) or state.refunds.get(part) or state.payouts.get(part)
            found = found or (item.reference if item else None)
        request.reference = found if isinstance(found, str) else None

    def before(self, request: Request) -> Answer | None:
        """Refuse a key that is none, and answer again what was answered before."""
        if not KEY_SHAPE.fullmatch(request.key):
            return error(401, "invalid_api_key", "The API key is not one of the sandbox.")
        if self._state.account_of(self.name, request.key).is_revoked:
            return error(401, "invalid_api_key", "The API key was revoked.")
        if request.method != "POST" or not (key := request.headers.get("idempotency-key")):
            return None
        known = self._state.answers.get(f"{self.name}:{request.key}:{key}")
        if known is None:
            return None
        if known["fingerprint"] != _fingerprint(request):
            return error(409, "idempotency_conflict", "The key was used for another request.")
        return Answer(known["status"], known["body"], {"Idempotent-Replayed": "true"})

    def after(self, request: Request, answer: Answer) -> None:
        """Remember for ever what was made under a key."""
        key = request.headers.get("idempotency-key")
        if request.method == "POST" and key and answer.status < 300:
            self._state.answers[f"{self.name}:{request.key}:{key}"] = {
                "fingerprint": _fingerprint(request),
                "status": answer.status,
                "body": answer.body,
            }

    def leave(self, request: Request) -> None:
        """Nothing to do: the lock keeps requests of one key apart."""

    def fault_answer(self, status: int) -> Answer:
        """An error in this gateway's shape."""
        code = {404: "not_found", 429: "rate_limited", 503: "unavailable"}.get(
            status, "internal_error"
        )
        return error(status, code, "The gateway cannot do this now.")

    # --- Payments ------------------------------------------------------------------------------

    def _make_token(self, request: Request) -> Answer:
        body = read_object(request)
        card, code = self._read_card(read_field(body, "card", dict), self._lifecycle.clock.now())
        token = f"tok_{self._state.new_hex()}"
        self._state.tokens[token] = {"name": card.name, "last4": card.last4, "failure_code": code}
        return Answer(201, {"token": token, "last4": card.last4})

    def _make_payment(self, request: Request) -> Answer:
        state, now = self._state, self._lifecycle.clock.now()
        body = read_object(request)
        reference, amount, currency = read_money(body)
        notify_urls = read_urls(body, "notify_url")
        return_url = "".join(read_urls(body, "return_url"))
        lifetime_s = read_field(body, "expires_in_s", int, default=3600)
        if not 1 <= lifetime_s <= 365 * 86_400:
            raise refused("invalid_field", "expires_in_s is 1 to 31536000")
        card, failure_code = self._read_method(read_field(body, "payment_method", dict), now)
        if card is not None and card.effect == "http_500":
            raise Refusal(self.fault_answer(500))
        needs_payer = card is None or card.outcome == "requires_action"
        payment = Payment(
            id=f"pay_{state.new_hex()}",
            gateway=self.name,
            key=request.key,
            kind="payment",
            reference=reference,
            amount=amount,
            currency=currency,
            status="requires_action" if card and needs_payer else "pending",
            created_at=now,
            updated_at=now,
            expires_at=now + lifetime_s,
            token=state.new_hex(32),
            base_url=request.base_url,
            card_last4=card.last4 if card else None,
            notify_urls=notify_urls,
            return_url=return_url,
            failure_return_url=return_url,
            extra={"description": body.get("description"), "has_page": needs_payer},
        )
        effect = self._lifecycle.add_payment(payment, card)
        outcome = "failed" if failure_code else card.outcome if card else "pending"
        payment.failure_code = failure_code
        self._lifecycle.start(payment, outcome)
        return Answer(201, self._payment_view(payment, amount=payment.amount), effect=effect)

    def _read_method(self, method: Json, now: float) -> tuple[TestCard | None, str | None]:
        """The card, None for a hosted page; and why it will fail."""
        if isinstance(token := method.get("token"), str):
            if (made := self._state.tokens.get(token)) is not None:
                return card_named(made["name"]) or _unknown(made["last4"]), made["failure_code"]
            if (card := card_named(token.removeprefix("tok_"))) and token.startswith("tok_"):
                return card, card.failure_code
            raise refused("invalid_token", "No such token.")
        if method.get("type") == "hosted":
            return None, None
        if method.get("type") == "card":
            return self._read_card(method, now)
        raise refused("invalid_field", "payment_method is a card, a token or hosted")

    def _read_card(self, card: Json, now: float) -> tuple[TestCard, str | None]:
        digits = read_field(card, "number", str).replace(" ", "")
        month, year = read_field(card, "exp_month", int), read_field(card, "exp_year", int)
        if not passes_luhn(digits):
            raise refused("invalid_card_number", "The number fails the Luhn check.")
        if not (1 <= month <= 12 and _YEAR_MIN <= year < _YEAR_MIN + 100):
            raise refused("invalid_expiry", "exp_month is 1 to 12, exp_year has four digits.")
        if not re.fullmatch(r"[0-9]{3,4}", read_field(card, "cvc", str)):
            raise refused("invalid_cvc", "cvc has three or four digits.")
        today = dt.datetime.fromtimestamp(now, dt.UTC)
        known = SANDBOX_CARDS.get(digits) or _unknown(digits[-4:])
        if (year, month) < (today.year, today.month):
            return known, "expired_card"
        return known, known.failure_code

    def _list_payments(self, request: Request) -> Answer:
        after = request.asked("created_after")
        try:
            since = from_rfc3339(after) if after else 0.0
        except ValueError:
            raise refused("invalid_field", "created_after is an RFC 3339 time") from None
        found = self._mine(request, self._state.payments)
        for payment in found:
            self._lifecycle.attach_faults(payment, "list_payments")
        chosen = [payment for payment in found if payment.created_at > since or not after]
        return page_of(request, [self._payment_view(payment) for payment in chosen])

    def _show_payment(self, request: Request, payment_id: str) -> Answer:
        payment = self._own(request, self._state.payments, payment_id)
        self._lifecycle.attach_faults(payment, "get_payment")
        return Answer(200, self._payment_view(payment))

    def _cancel_payment(self, request: Request, payment_id: str) -> Answer:
        payment = self._own(request, self._state.payments, payment_id)
        if payment.status != "canceled":
            try:
                self._lifecycle.take_step(payment, "cancel")
            except WrongState:
                message = f"The payment is {payment.status}."
                raise refused("payment_not_cancelable", message) from None
        return Answer(200, self._payment_view(payment))

    def _payment_view(self, payment: Payment, amount: Decimal | None = None) -> Json:
        return {
            "id": payment.id,
            "reference": payment.reference,
            "amount": number(payment.shown_amount if amount is None else amount),
            "currency": payment.currency,
            "status": payment.status,
            "failure_code": payment.failure_code,
            "redirect_url": payment.page_url if payment.extra["has_page"] else None,
            "refunded_amount": number(payment.refunded),
            "card_last4": payment.card_last4,
            "created_at": rfc3339(payment.created_at),
            "expires_at": rfc3339(payment.expires_at),
            "paid_at": rfc3339(payment.paid_at),
        }

    # --- Refunds -------------------------------------------------------------------------------

    def _make_refund(self, request: Request) -> Answer:
        state, now = self._state, self._lifecycle.clock.now()
        body = read_object(request)
        payment = state.payments.get(read_field(body, "payment", str))
        if payment is None or (payment.gateway, payment.key) != (self.name, request.key):
            raise Refusal(error(404, "not_found", "No such payment."))
        reference, amount, _ = read_money({"currency": payment.currency, **body})
        reason = read_field(body, "reason", str, default="none")
        if payment.status != "succeeded":
            raise refused("payment_not_refundable", f"The payment is {payment.status}.")
        if amount > payment.amount - payment.refunded:
            raise refused("amount_too_large", "More than was paid and not yet refunded.")
        refund = Refund(
            id=f"ref_{state.new_hex()}",
            gateway=self.name,
            key=request.key,
            payment_id=payment.id,
            reference=reference,
            amount=amount,
            currency=payment.currency,
            status="pending",
            created_at=now,
            updated_at=now,
            extra={"reason": reason, "sim": reason[4:] if reason.startswith("sim:") else None},
        )
        self._lifecycle.add_refund(refund, payment)
        return Answer(201, _refund_view(refund))

    def _show_refund(self, request: Request, refund_id: str) -> Answer:
        return Answer(200, _refund_view(self._own(request, self._state.refunds, refund_id)))

    def _list_refunds(self, request: Request) -> Answer:
        found = self._mine(request, self._state.refunds)
        return page_of(request, [_refund_view(refund) for refund in found])

    # --- Payouts -------------------------------------------------------------------------------

    def _make_payout(self, request: Request) -> Answer:
        state, now = self._state, self._lifecycle.clock.now()
        body = read_object(request)
        reference, amount, currency = read_money(body)
        beneficiary = read_field(body, "beneficiary", dict)
        read_field(beneficiary, "name", str)
        if not re.fullmatch(r"[A-Z]{2}", read_field(beneficiary, "country", str)):
            raise refused("invalid_field", "country has two letters")
        account = beneficiary.get("iban") or beneficiary.get("account_number")
        if not isinstance(account, str) or not re.fullmatch(r"[A-Za-z0-9 -]{4,40}", account):
            raise refused("invalid_field", "a beneficiary has an iban or an account_number")
        payout = Payout(
            id=f"po_{state.new_hex()}",
            gateway=self.name,
            key=request.key,
            reference=reference,
            amount=amount,
            currency=currency,
            status="submitted",
            created_at=now,
            updated_at=now,
            notify_urls=read_urls(body, "notify_url"),
            extra={"beneficiary": beneficiary, "description": body.get("description")},
        )
        self._lifecycle.add_payout(payout, account)
        return Answer(201, _payout_view(payout))

    def _show_payout(self, request: Request, payout_id: str) -> Answer:
        return Answer(200, _payout_view(self._own(request, self._state.payouts, payout_id)))

    def _list_payouts(self, request: Request) -> Answer:
        found = self._mine(request, self._state.payouts)
        return page_of(request, [_payout_view(payout) for payout in found])

    # --- Webhooks ------------------------------------------------------------------------------

    def status_after(self, payment: Payment, step: str, status: str) -> str:
        """
        The common one; a payment that fails says why.

        :raises WrongState: this gateway has no such thing
        """
        if step == "settle":
            raise WrongState("settle does not exist at the sandbox")
        if step == "cancel" and not (payment.is_open and payment.extra["has_page"]):
            raise WrongState("only what waits for its payer is called off")
        if status == "failed" and payment.failure_code is None:
            rejected = step == "challenge/reject"
            payment.failure_code = "authentication_failed" if rejected else "payment_failed"
        return status

    def payment_notices(self, payment: Payment, step: str) -> list[Notice]:
        """`payment.<status>`; nothing while it is pending, unless it is told too late."""
        if step == "stale":
            return self._notices("payment.pending", self._payment_view(payment), payment)
        if payment.status not in {"succeeded", "failed", "expired", "canceled", "reversed"}:
            return []
        return self._notices(f"payment.{payment.status}", self._payment_view(payment), payment)

    def refund_notices(self, refund: Refund, payment: Payment) -> list[Notice]:
        """`refund.succeeded` or `refund.failed`, to where the payment's go."""
        return self._notices(f"refund.{refund.status}", _refund_view(refund), payment)

    def payout_notices(self, payout: Payout) -> list[Notice]:
        """`payout.settled`, `payout.returned` or `payout.failed`."""
        return self._notices(f"payout.{payout.status}", _payout_view(payout), payout)

    def _notices(self, event: str, shown: Json, item: Payment | Payout) -> list[Notice]:
        account = self._state.account_of(self.name, item.key)
        urls = item.notify_urls or [account.webhook_url]
        created_at = rfc3339(self._lifecycle.clock.now())
        payload = {"type": event, "created_at": created_at, "data": shown}
        return [Notice(event, payload, [url for url in urls if url])]

    def signed(self, delivery: Delivery, now: float) -> tuple[dict[str, str], bytes]:
        """
        As Standard Webhooks say. The timestamp is the real time, however far the virtual clock is:
        receivers refuse what is minutes off their own.
        """
        body = to_json({"id": delivery.event_id, **delivery.payload})
        stamp = str(int(time.time()))
        key = delivery.key + ("-forged" if delivery.is_forged else "")
        headers = {
            "webhook-id": delivery.event_id,
            "webhook-timestamp": stamp,
            "webhook-signature": signature(key, delivery.event_id, stamp, body),
        }
        return headers, body

    def retry_after_s(self, attempts: int, status: int | None) -> float | None:
        """Five more attempts."""
        return RETRIES_S[attempts - 1] if attempts <= len(RETRIES_S) else None

    # --- Whose is it ---------------------------------------------------------------------------

    def _mine(self, request: Request, table: dict[str, Any]) -> list[Any]:
        reference = request.asked("reference")
        items = self._state.about(reference) if reference else table.values()
        return [
            item
            for item in items
            if (item.gateway, item.key) == (self.name, request.key) and item.id in table
        ]

    def _own(self, request: Request, table: dict[str, Any], item_id: str) -> Any:
        item = table.get(item_id)
        if item is None or (item.gateway, item.key) != (self.name, request.key):
            raise Refusal(error(404, "not_found", "No such object."))
        return item


def signature(key: str, event_id: str, stamp: str, body: bytes) -> str:
    """The value of `webhook-signature`: keyed with the bytes of the API key."""
    signed = f"{event_id}.{stamp}.".encode() + body
    digest = hmac.new(key.encode(), signed, hashlib.sha256).digest()
    return "v1," + binascii.b2a_base64(digest, newline=False).decode()


def _refund_view(refund: Refund) -> Json:
    names = ("id", "reference", "amount", "currency", "status", "failure_code")
    view = {name: getattr(refund, name) for name in names}
    return {**view, "payment": refund.payment_id, "created_at": rfc3339(refund.created_at)}


def _payout_view(payout: Payout) -> Json:
    names = ("id", "reference", "amount", "currency", "status", "failure_code")
    view = {name: getattr(payout, name) for name in names}
    return {**view, "created_at": rfc3339(payout.created_at)}


def _unknown(last4: str) -> TestCard:
    """Any other number: no card of this world, so that no real one is ever charged."""
    return TestCard(last4, "unknown", "failed", "not_a_test_card")


def _fingerprint(request: Request) -> str:
    content = request.path.encode() + b"\n" + request.body
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
