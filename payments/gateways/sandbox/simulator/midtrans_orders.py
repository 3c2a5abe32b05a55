"""Orders at Midtrans: pages of Snap, charges of Core, and what a merchant may do to them."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from payments.gateways.sandbox.cards import MIDTRANS_CARDS, SANDBOX_CARDS, TestCard, passes_luhn
from payments.gateways.sandbox.simulator.clock import rfc3339, wib
from payments.gateways.sandbox.simulator.exchange import (
    Answer,
    Json,
    Request,
    Route,
    route,
)
from payments.gateways.sandbox.simulator.lifecycle import Lifecycle, WrongState
from payments.gateways.sandbox.simulator.midtrans_words import (
    core_error,
    echoed,
    gross,
    read_body,
    read_order,
    signed_part,
    snap_error,
    status_view,
)
from payments.gateways.sandbox.simulator.state import Payment, Refund

DAY_S: Final = 86_400
_CHALLENGE_S: Final = 600
_UNIT_S: Final = {"minute": 60, "minutes": 60, "hour": 3600, "hours": 3600}
_DAYS_S: Final = {"second": 1, "seconds": 1, "day": DAY_S, "days": DAY_S}
_CHARGED_BY: Final = frozenset(
    [
        "credit_card",
        "bank_transfer",
        "gopay",
        "shopeepay",
        "qris",
        "dana",
        "ovo",
        "echannel",
        "cstore",
        "permata",
    ]
)
_REFUNDABLE: Final = frozenset(
    ["credit_card", "gopay", "shopeepay", "dana", "ovo", "qris", "kredivo", "akulaku"]
)


class MidtransOrders:
    """Endpoints of both APIs."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._state = lifecycle.state
        order = "/api/v2/{id}"
        self.routes: Sequence[Route] = [
            route("GET", "/api/v2/token", "token", self._make_token),
            route("POST", "/api/v2/charge", "create_payment", self._charge),
            route("GET", f"{order}/status", "get_payment", self._show_status),
            route("POST", f"{order}/cancel", "cancel_payment", self._cancel),
            route("POST", f"{order}/expire", "cancel_payment", self._expire),
            route("POST", f"{order}/approve", "cancel_payment", self._approve),
            route("POST", f"{order}/deny", "cancel_payment", self._deny),
            route("POST", f"{order}/refund", "refund", self._refund),
            route("POST", f"{order}/refund/online/direct", "refund", self._refund),
            route("POST", "/app/snap/v1/transactions", "create_payment", self._make_page),
            route(
                "POST", "/app/snap/v1/transactions/{id}/cancel", "cancel_payment", self._cancel_page
            ),
        ]

    # --- Snap ----------------------------------------------------------------------------------

    def _make_page(self, request: Request) -> Answer:
        body = read_body(request, snap_error)
        order_id, amount = read_order(body, snap_error)
        if self.find(request.key, order_id) is not None:
            raise snap_error(400, "transaction_details.order_id has already been taken")
        expires_s = _lifetime_s(body.get("page_expiry") or body.get("expiry"))
        payment = self._new(request, "snap", order_id, amount, body)
        payment.status = "created"
        payment.expires_at = payment.created_at + expires_s
        enabled = body.get("enabled_payments")
        if isinstance(enabled, list) and enabled:
            payment.extra["first_method"] = str(enabled[0])
        callbacks = body.get("callbacks")
        finish = callbacks.get("finish") if isinstance(callbacks, dict) else None
        if isinstance(finish, str) and re.match(r"https?://", finish):
            payment.return_url = payment.failure_return_url = finish
        payment.token = self._state.new_uuid()
        self._lifecycle.add_payment(payment)
        return Answer(201, {"token": payment.token, "redirect_url": payment.page_url})

    def _cancel_page(self, request: Request, token: str) -> Answer:
        for payment in self._state.payments.values():
            if (payment.gateway, payment.key, payment.token) == ("midtrans", request.key, token):
                break
        else:
            raise snap_error(404, "token not found")
        if payment.status == "expired" and "method" not in payment.extra:
            raise snap_error(404, "token not found")
        if payment.status == "canceled":
            raise snap_error(400, "token already canceled")
        if payment.status != "created":
            raise snap_error(400, "Transaction is on progress")
        self._lifecycle.take_step(payment, "cancel")
        return Answer(200, {"canceled_at": rfc3339(payment.updated_at)})

    # --- Core ----------------------------------------------------------------------------------

    def _make_token(self, request: Request) -> Answer:
        digits = request.asked("card_number").replace(" ", "")
        wrong = []
        if not request.asked("client_key").startswith("SB-Mid-client-"):
            return core_error(401, "client_key is invalid").answer
        if not passes_luhn(digits):
            wrong.append("card_number does not match with luhn algorithm")
        names = ("card_exp_month", "card_exp_year", "card_cvv")
        wrong += [
            f"{name} must be a number" for name in names if not request.asked(name).isdecimal()
        ]
        if wrong:
            message = "One or more parameters in the payload is invalid."
            body = {"status_code": "400", "status_message": message, "validation_messages": wrong}
            return Answer(200, body)
        token = f"{digits[:6]}-{digits[-4:]}-{self._state.new_uuid()}"
        card = MIDTRANS_CARDS.get(digits) or SANDBOX_CARDS.get(digits)
        self._state.tokens[token] = {"number": card.number if card else ""}
        return Answer(
            200,
            {
                "status_code": "200",
                "status_message": "Credit card token is created as Token ID.",
                "token_id": token,
                "hash": f"{digits[:6]}-{digits[-4:]}-{self._state.new_hex(12)}",
            },
        )

    def _charge(self, request: Request) -> Answer:
        body = read_body(request, core_error)
        order_id, amount = read_order(body, core_error)
        kind = body.get("payment_type")
        if kind not in _CHARGED_BY:
            raise core_error(400, "payment_type is not supported")
        if self.find(request.key, order_id) is not None:
            message = "The request could not be completed due to a conflict: duplicate order ID"
            raise core_error(406, message)
        card, wants_challenge = None, False
        extra: Json = {"method": kind}
        if kind == "credit_card":
            card, extra["masked_card"] = self._take_token(body.get("credit_card"))
            wants_challenge = bool(body["credit_card"].get("authentication"))
        elif kind == "bank_transfer":
            transfer = body.get("bank_transfer")
            bank = transfer.get("bank", "bca") if isinstance(transfer, dict) else "bca"
            number = f"{self._state.next_number():015d}"
            extra["va_numbers"] = [{"va_number": number, "bank": bank}]
        if card and card.effect == "http_500":
            raise core_error(500, "Sorry. Our system is recovering from unexpected issues.")
        outcome = card.outcome if card else "pending"
        if wants_challenge and outcome != "late":
            outcome = "requires_action"
        payment = self._new(request, "charge", order_id, amount, body)
        payment.extra |= extra
        if card is not None:
            payment.card_last4, payment.extra["card"] = card.last4, card.number
            payment.failure_code = card.failure_code if outcome == "failed" else None
        is_challenge = outcome == "requires_action"
        payment.status = outcome if is_challenge else "pending"
        payment.expires_at = payment.created_at + (_CHALLENGE_S if is_challenge else DAY_S)
        effect = self._lifecycle.add_payment(payment, card)
        self._lifecycle.start(payment, outcome)
        if effect is not None and is_challenge:
            # What the card spoils is the charge, and that has not been made yet.
            effect = None
        # Core answers HTTP 200 throughout; the code that counts is in the body.
        return Answer(200, status_view(payment, first=True), effect=effect)

    def _take_token(self, details: Any) -> tuple[TestCard | None, str]:
        token = details.get("token_id") if isinstance(details, dict) else None
        made = self._state.tokens.pop(token, None) if isinstance(token, str) else None
        if made is None or not isinstance(token, str):
            raise core_error(411, "Credit card token is missing, invalid, or timed out")
        digits = made["number"]
        card = MIDTRANS_CARDS.get(digits) or SANDBOX_CARDS.get(digits)
        unknown = TestCard(token[7:11], "unknown", "failed", "not_a_test_card")
        return card or unknown, token[:11]

    def _show_status(self, request: Request, order_id: str) -> Answer:
        payment = self._own(request, order_id)
        self._lifecycle.attach_faults(payment, "get_payment")
        view = status_view(payment)
        if "order_id_swapped_in_status" in payment.effects:
            view["order_id"] = payment.id
        return Answer(200, view | signed_part(view, payment.key))

    def _cancel(self, request: Request, order_id: str) -> Answer:
        return self._step(request, order_id, "cancel")

    def _expire(self, request: Request, order_id: str) -> Answer:
        return self._step(request, order_id, "expire")

    def _approve(self, request: Request, order_id: str) -> Answer:
        payment = self._own(request, order_id)
        if payment.status != "review":
            raise core_error(412, "Merchant cannot modify the status of the transaction")
        self._lifecycle.resolve_review(payment, "pay", "succeeded")
        return Answer(200, status_view(payment))

    def _deny(self, request: Request, order_id: str) -> Answer:
        payment = self._own(request, order_id)
        if payment.status != "review":
            raise core_error(412, "Merchant cannot modify the status of the transaction")
        self._lifecycle.resolve_review(payment, "fail", "failed")
        return Answer(200, {**status_view(payment), "status_code": "200"})

    def _step(self, request: Request, order_id: str, step: str) -> Answer:
        payment = self._own(request, order_id)
        try:
            self._lifecycle.take_step(payment, step)
        except WrongState:
            message = "Merchant cannot modify the status of the transaction"
            raise core_error(412, message) from None
        return Answer(200, status_view(payment))

    def _refund(self, request: Request, order_id: str) -> Answer:
        body = read_body(request, core_error)
        payment, state = self._own(request, order_id), self._state
        key, now = body.get("refund_key") or state.new_hex(), self._lifecycle.clock.now()
        if not isinstance(key, str):
            raise core_error(400, "refund_key must be a text")
        for known in state.refunds.values():
            if known.payment_id == payment.id and known.reference == key:
                return Answer(200, _refund_view(payment, known))
        is_settled = payment.status == "succeeded" and payment.extra.get("is_settled")
        if not is_settled or payment.extra["method"] not in _REFUNDABLE:
            raise core_error(412, "Merchant cannot modify the status of the transaction")
        amount = body.get("amount", int(payment.amount - payment.refunded))
        if isinstance(amount, bool) or not isinstance(amount, int) or amount <= 0:
            raise core_error(400, "amount must be a positive integer")
        if amount > payment.amount - payment.refunded:
            raise core_error(400, "refund amount is greater than the rest of the transaction")
        refund = Refund(
            id=str(state.next_number()),
            gateway="midtrans",
            key=request.key,
            payment_id=payment.id,
            reference=key,
            amount=Decimal(amount),
            currency="IDR",
            status="pending",
            created_at=now,
            updated_at=now,
            extra={"reason": body.get("reason", ""), "uuid": state.new_uuid()},
        )
        payment.extra.setdefault("refunds", []).append(
            {
                "refund_chargeback_id": int(refund.id),
                "refund_chargeback_uuid": refund.extra["uuid"],
                "refund_amount": gross(refund.amount),
                "reason": refund.extra["reason"],
                "refund_key": key,
                "refund_method": "online" if request.path.endswith("direct") else "offline",
                "bank_confirmed_at": wib(now),
                "created_at": wib(now),
            }
        )
        self._lifecycle.add_refund(refund, payment, is_instant=True)
        return Answer(200, _refund_view(payment, refund))

    def choose_method(self, payment: Payment, default: str) -> None:
        """Let the payer choose on the page: what a test asked for, or else the first on offer."""
        extra = payment.extra
        method = extra.pop("chosen_method", None) or extra.get("first_method") or default
        if method.endswith("_va"):
            number = f"{self._state.next_number():015d}"
            extra["va_numbers"] = [{"va_number": number, "bank": method.removesuffix("_va")}]
            method = "bank_transfer"
        elif method == "credit_card":
            extra.setdefault("masked_card", "481111-1114")
        extra["method"] = "qris" if method == "other_qris" else method

    # --- Whose is it ---------------------------------------------------------------------------

    def _new(self, request: Request, kind: str, order_id: str, amount: int, body: Json) -> Payment:
        now, headers = self._lifecycle.clock.now(), request.headers
        return Payment(
            id=self._state.new_uuid(),
            gateway="midtrans",
            key=request.key,
            kind=kind,
            reference=order_id,
            amount=Decimal(amount),
            currency="IDR",
            status="pending",
            created_at=now,
            updated_at=now,
            token=self._state.new_hex(32),
            base_url=request.base_url,
            extra={
                "override_urls": _urls_in(headers.get("x-override-notification", "")),
                "append_urls": _urls_in(headers.get("x-append-notification", "")),
                **echoed(body),
            },
        )

    def find(self, key: str, order_id: str) -> Payment | None:
        """The merchant's transaction, by its order id or by Midtrans's own."""
        by_id = self._state.payments.get(order_id)
        for item in [*self._state.about(order_id), *([by_id] if by_id else [])]:
            if isinstance(item, Payment) and (item.gateway, item.key) == ("midtrans", key):
                return item
        return None

    def _own(self, request: Request, order_id: str) -> Payment:
        payment = self.find(request.key, order_id)
        # A page on which no method was chosen is not yet a transaction.
        if payment is None or "method" not in payment.extra:
            raise core_error(404, "Transaction doesn't exist.")
        return payment


def _refund_view(payment: Payment, refund: Refund) -> Json:
    return {
        **status_view(payment),
        "status_code": "200",
        "status_message": "Success, refund request is approved",
        "refund_chargeback_id": int(refund.id),
        "refund_chargeback_uuid": refund.extra["uuid"],
        "refund_amount": gross(refund.amount),
        "refund_key": refund.reference,
    }


def _urls_in(header: str) -> list[str]:
    urls = [url.strip() for url in header.split(",")]
    return [url for url in urls if re.match(r"https?://", url)]


def _lifetime_s(expiry: Any) -> float:
    if not isinstance(expiry, dict) or not isinstance(expiry.get("duration"), int):
        return float(DAY_S)
    unit = {**_UNIT_S, **_DAYS_S}.get(str(expiry.get("unit", "minutes")), 60)
    return float(expiry["duration"] * unit)
