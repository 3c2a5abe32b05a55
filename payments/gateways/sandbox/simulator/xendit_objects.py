"""What invoices, sessions and payment requests of Xendit share: making and finding them."""

import hashlib
import re
from decimal import Decimal
from typing import Any, Final

from payments.gateways.sandbox.simulator.exchange import Json, Request
from payments.gateways.sandbox.simulator.lifecycle import Lifecycle
from payments.gateways.sandbox.simulator.state import Payment
from payments.gateways.sandbox.simulator.xendit_words import own

DAY_S: Final = 86_400
# By kind: Xendit's word for each of our states.
_WORDS: Final = {
    "invoice": {"pending": "PENDING", "succeeded": "PAID", "expired": "EXPIRED"},
    "session": {
        "pending": "ACTIVE",
        "succeeded": "COMPLETED",
        "expired": "EXPIRED",
        "canceled": "CANCELED",
    },
    "payment_request": {
        "pending": "PENDING",
        "requires_action": "REQUIRES_ACTION",
        "succeeded": "SUCCEEDED",
        "failed": "FAILED",
        "expired": "EXPIRED",
        "canceled": "CANCELED",
        "reversed": "FAILED",
    },
}
# By kind: the fields that come back as they were sent.
ECHOED: Final = {
    "invoice": [
        "description",
        "payer_email",
        "customer",
        "customer_notification_preference",
        "success_redirect_url",
        "failure_redirect_url",
        "payment_methods",
        "items",
        "fees",
        "metadata",
        "locale",
        "channel_properties",
    ],
    "session": [
        "allow_save_payment_method",
        "capture_method",
        "channel_properties",
        "allowed_payment_channels",
        "locale",
        "description",
        "success_return_url",
        "cancel_return_url",
        "items",
        "metadata",
        "customer_id",
    ],
    "payment_request": [
        "description",
        "customer_id",
        "metadata",
        "items",
        "shipping_information",
        "channel_properties",
    ],
}


class XenditObjects:
    """The payments at Xendit. Call it under the state's lock."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._state = lifecycle.state

    def new(
        self,
        request: Request,
        kind: str,
        item_id: str,
        reference: str,
        amount: Decimal,
        currency: str,
    ) -> Payment:
        """One that is pending and not yet taken in."""
        now = self._lifecycle.clock.now()
        return Payment(
            id=item_id,
            gateway="xendit",
            key=request.key,
            kind=kind,
            reference=reference,
            amount=amount,
            currency=currency,
            status="pending",
            created_at=now,
            updated_at=now,
            token=self._state.new_hex(32),
            base_url=request.base_url,
        )

    def find(self, item_id: str) -> Payment | None:
        """Anybody's, by its id or by that of the payment request within a session."""
        found = self._state.payments.get(item_id)
        if found is None and item_id.startswith("pr-"):
            for payment in self._state.payments.values():
                if item_id in payment.extra.get("other_ids", ()):
                    found = payment
        return found if found is not None and found.gateway == "xendit" else None

    def own(self, request: Request, kind: str, item_id: str) -> Payment:
        """The caller's own; to others it does not exist."""
        code = "INVOICE_NOT_FOUND_ERROR" if kind == "invoice" else "DATA_NOT_FOUND"
        found = self._state.payments.get(item_id)
        payment: Payment = own(request, found if found and found.kind == kind else None, code)
        self._lifecycle.attach_faults(payment, "get_payment")
        return payment

    def mine(self, request: Request, kind: str) -> list[Payment]:
        """All of the caller's, the oldest first."""
        return [
            payment
            for payment in self._state.payments.values()
            if (payment.gateway, payment.key, payment.kind) == ("xendit", request.key, kind)
        ]

    def word(self, payment: Payment) -> str:
        """Its status. The money of an invoice is settled a day after it was paid."""
        word = _WORDS[payment.kind][payment.status]
        is_settled = payment.paid_at is not None and (
            self._lifecycle.clock.now() - payment.paid_at >= DAY_S
        )
        return "SETTLED" if word == "PAID" and is_settled else word

    def note_payment(self, payment: Payment) -> None:
        """Give a payment that succeeds its id, and the method if none was chosen."""
        payment.failure_code = None
        payment.extra["payment_id"] = f"py-{self._state.new_uuid()}"
        if payment.kind == "session":
            payment.extra["other_ids"] = [f"pr-{self._state.new_uuid()}"]
        card = "CREDIT_CARD" if payment.kind == "invoice" else "CARDS"
        payment.extra.setdefault("method", card)
        payment.extra.setdefault("channel_code", payment.extra["method"])


def request_id(payment: Payment) -> str | None:
    """The payment request, which a session has once it was paid, and an invoice never."""
    if payment.kind == "payment_request":
        return payment.id
    return next(iter(payment.extra.get("other_ids", ())), None)


def business_id(key: str) -> str:
    """The merchant's id: 24 hexadecimal digits that follow from its key."""
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def event(payment: Payment, name: str, shown: Json) -> tuple[str, Json]:
    """Name and body of a webhook; `created` is filled in when it is sent."""
    business = business_id(payment.key)
    return name, {"event": name, "business_id": business, "created": "", "data": shown}


def echoed(kind: str, body: Json) -> Json:
    """Of a request, what will come back."""
    return {name: body[name] for name in ECHOED[kind] if body.get(name) is not None}


def only(kind: str, extra: Json) -> Json:
    """Of what was kept, what comes back."""
    return {name: extra[name] for name in ECHOED[kind] if name in extra}


def web_url(url: Any) -> str:
    """The URL, or nothing if it is none that a browser may be sent to."""
    return url if isinstance(url, str) and re.match(r"https?://", url) else ""
