"""Midtrans: Core under `/midtrans-api`, Snap under `/midtrans-app`. IDR only, whole rupiah."""

import re
from collections.abc import Sequence
from typing import Final

from payments.gateways.sandbox.cards import MIDTRANS_CARDS, SANDBOX_CARDS
from payments.gateways.sandbox.simulator.exchange import (
    Answer,
    Request,
    Route,
    to_json,
)
from payments.gateways.sandbox.simulator.lifecycle import Lifecycle, Notice, WrongState
from payments.gateways.sandbox.simulator.midtrans_orders import DAY_S, MidtransOrders
from payments.gateways.sandbox.simulator.midtrans_words import notification, signed_part
from payments.gateways.sandbox.simulator.state import Delivery, Payment, Payout, Refund

KEY_SHAPE: Final = re.compile(r"SB-Mid-server-[A-Za-z0-9_\-]{1,200}")
# By the status of the answer, how often a notification is sent again.
RETRY_COUNTS: Final = {500: 1, 503: 4, 400: 2, 404: 2}
RETRY_COUNT: Final = 5
RETRIES_S: Final = (120.0, 600.0, 1800.0, 5400.0, 12_600.0)
IDEMPOTENCY_S: Final = 300
IDEMPOTENCY_LENGTH_MAX: Final = 46
_NOTIFIED_URLS_MAX: Final = 3


class MidtransGateway:
    """Endpoints and notifications of both APIs."""

    name = "midtrans"
    webhook_timeout_s = 15.0

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._state = lifecycle.state
        self._orders = MidtransOrders(lifecycle)
        # Idempotency keys of requests that are not yet answered.
        self._busy: dict[str, Request] = {}
        self.routes: Sequence[Route] = self._orders.routes

    # --- Every request -------------------------------------------------------------------------

    def identify(self, request: Request) -> None:
        """The key, the order id, and whether the same idempotency key is being worked on."""
        request.key = request.basic_key()
        try:
            body = request.read_json() if request.body else {}
        except ValueError:
            body = {}
        details = body.get("transaction_details") if isinstance(body, dict) else None
        found = details.get("order_id") if isinstance(details, dict) else None
        for part in request.path.split("/"):
            if not isinstance(found, str) and (payment := self._orders.find(request.key, part)):
                found = payment.reference
        request.reference = found if isinstance(found, str) else None
        if place := _idempotent_place(request):
            self._busy.setdefault(place, request)

    def before(self, request: Request) -> Answer | None:
        """Refuse a bad key, and answer a repeated request without doing it."""
        if request.op == "token":
            return None
        is_known = KEY_SHAPE.fullmatch(request.key)
        if not is_known or self._state.account_of(self.name, request.key).is_revoked:
            return _denied_access(request)
        place = _idempotent_place(request)
        if not place:
            return None
        if self._busy.get(place) is not request:
            message = "A request with the same idempotency key is being processed."
            return Answer(202, {"status_code": "202", "status_message": message})
        known = self._state.answers.get(place)
        now = self._lifecycle.clock.now()
        if known is None or now - float(known["at"]) >= IDEMPOTENCY_S:
            return None
        # Whatever the body is now: Midtrans does not compare it.
        return Answer(known["status"], known["body"])

    def after(self, request: Request, answer: Answer) -> None:
        """Remember a success for five minutes."""
        place, body = _idempotent_place(request), answer.body
        code = body.get("status_code", str(answer.status)) if isinstance(body, dict) else "0"
        if place and code[0] == "2":
            at = self._lifecycle.clock.now()
            self._state.answers[place] = {"status": answer.status, "body": body, "at": at}

    def leave(self, request: Request) -> None:
        """The idempotency key is free again."""
        place = _idempotent_place(request)
        if place and self._busy.get(place) is request:
            del self._busy[place]

    def fault_answer(self, status: int) -> Answer:
        """An error as both APIs write it: the one reads a code, the other a list."""
        message = "Sorry, we encountered internal server error. We will fix this soon."
        if status < 500:
            message = "Too many requests." if status == 429 else "The resource was not found."
        body = {"status_code": str(status), "status_message": message, "error_messages": [message]}
        return Answer(status, body)

    # --- Notifications -------------------------------------------------------------------------

    def status_after(self, payment: Payment, step: str, status: str) -> str:
        """
        The common one; but a card may be reviewed or denied once the payer has shown who they are,
        and what came by transfer is settled at once.

        :raises WrongState: it was settled, so it cannot be cancelled
        """
        extra = payment.extra
        if step == "cancel" and payment.status == "succeeded" and extra.get("is_settled"):
            raise WrongState("it was settled: refund it")
        if step == "settle":
            extra["is_settled"] = True
        if "method" not in extra and (step == "choose" or status in {"succeeded", "failed"}):
            # A page that expires or is cancelled before that never becomes a transaction.
            self._orders.choose_method(payment, "bca_va" if step == "choose" else "credit_card")
        if status != "succeeded" or step == "settle" or payment.paid_at is not None:
            return status
        card = MIDTRANS_CARDS.get(extra.get("card", "")) or SANDBOX_CARDS.get(extra.get("card", ""))
        if "card" in extra and (card is None or card.outcome == "failed"):
            payment.failure_code = card.failure_code if card else "not_a_test_card"
            return "failed"
        if card is not None and card.outcome == "review" and payment.status != "review":
            return "review"
        if extra["method"] == "credit_card":
            self._state.schedule(DAY_S, "settle", "payment", payment.id)
        else:
            extra["is_settled"] = True
        return status

    def payment_notices(self, payment: Payment, step: str) -> list[Notice]:
        """One notification; none for a page that nobody has used."""
        if payment.status == "created" or "method" not in payment.extra:
            return []
        fields = notification(payment, self._lifecycle.clock.now())
        fields |= signed_part(fields, payment.key)
        return [Notice(fields["transaction_status"], fields, self._urls(payment))]

    def refund_notices(self, refund: Refund, payment: Payment) -> list[Notice]:
        """The payment again, with its refunds."""
        return self.payment_notices(payment, "refund") if refund.status == "succeeded" else []

    def payout_notices(self, payout: Payout) -> list[Notice]:
        """Midtrans pays nobody out here: Iris is another product."""
        return []

    def _urls(self, payment: Payment) -> list[str]:
        own_url = self._state.account_of(self.name, payment.key).webhook_url
        urls = payment.extra["override_urls"] or ([own_url] if own_url else [])
        if not payment.extra["override_urls"]:
            urls = urls + payment.extra["append_urls"]
        return urls[:_NOTIFIED_URLS_MAX]

    def signed(self, delivery: Delivery, now: float) -> tuple[dict[str, str], bytes]:
        """The signature is in the body, and the same at every attempt."""
        payload = dict(delivery.payload)
        if delivery.is_forged:
            payload["signature_key"] = payload["signature_key"][::-1]
        return {}, to_json(payload)

    def retry_after_s(self, attempts: int, status: int | None) -> float | None:
        """As often as the last answer deserves."""
        count = RETRY_COUNTS.get(status or 0, RETRY_COUNT)
        return RETRIES_S[attempts - 1] if attempts <= count else None


def _denied_access(request: Request) -> Answer:
    message = "Access denied due to unauthorized transaction, please check client or server key"
    if request.path.startswith("/midtrans-app"):
        more = "Visit https://snap-docs.midtrans.com/#request-headers for more details"
        return Answer(401, {"error_messages": [message, more]})
    return Answer(401, {"status_code": "401", "status_message": message, "id": ""})


def _idempotent_place(request: Request) -> str:
    """
    Where an idempotency key counts: at every POST of Core, over all of its endpoints. A key that is
    too long is no key, and nobody is told.
    """
    key = request.headers.get("idempotency-key", "")
    is_core = request.path.startswith("/midtrans-api") and request.method == "POST"
    if not is_core or not 1 <= len(key) <= IDEMPOTENCY_LENGTH_MAX:
        return ""
    return f"midtrans:{request.key}:{key}"
