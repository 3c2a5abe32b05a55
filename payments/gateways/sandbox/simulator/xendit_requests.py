"""Payment requests of Xendit: one charge of a card, a wallet, a virtual account or a QR code."""

import hashlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from payments.gateways.sandbox.cards import (
    SANDBOX_CARDS,
    XENDIT_CARDS,
    XENDIT_FAILING_AMOUNTS,
    TestCard,
    card_named,
)
from payments.gateways.sandbox.simulator.clock import rfc3339
from payments.gateways.sandbox.simulator.exchange import Answer, Json, Request, Route, number, route
from payments.gateways.sandbox.simulator.lifecycle import Lifecycle, WrongState
from payments.gateways.sandbox.simulator.state import Payment
from payments.gateways.sandbox.simulator.xendit_objects import (
    DAY_S,
    ECHOED,
    XenditObjects,
    business_id,
    echoed,
    event,
    only,
    web_url,
)
from payments.gateways.sandbox.simulator.xendit_words import (
    COUNTRIES,
    country_of,
    own,
    page_of,
    read_amount,
    read_object,
    refused,
)

_FAILURES: Final = {
    "card_declined": "CARD_DECLINED",
    "insufficient_funds": "INSUFFICIENT_BALANCE",
    "expired_card": "EXPIRED_CARD",
    "authentication_failed": "AUTHENTICATION_FAILED",
}
# Of payment methods, under which key their details are.
_METHODS: Final = {
    "CARD": "card",
    "EWALLET": "ewallet",
    "DIRECT_DEBIT": "direct_debit",
    "OVER_THE_COUNTER": "over_the_counter",
    "VIRTUAL_ACCOUNT": "virtual_account",
    "QR_CODE": "qr_code",
}


class XenditRequests:
    """Endpoints and webhooks."""

    def __init__(self, lifecycle: Lifecycle, objects: XenditObjects) -> None:
        self._lifecycle = lifecycle
        self._state = lifecycle.state
        self._objects = objects
        place, simulate = "/payment_requests", self._simulate
        self.routes: Sequence[Route] = [
            route("POST", place, "create_payment", self._make_request),
            route("GET", place, "list_payments", self._list_requests),
            route("GET", f"{place}/{{id}}", "get_payment", self._show_request),
            route("POST", f"{place}/{{id}}/payments/simulate", "", simulate),
            route("POST", f"/v3{place}/{{id}}/simulate", "", simulate),
        ]

    def note_failure(self, payment: Payment, step: str) -> None:
        """Say why, where the card has not."""
        if payment.failure_code is None:
            rejected = step == "challenge/reject"
            payment.failure_code = "AUTHENTICATION_FAILED" if rejected else "CARD_DECLINED"

    def callbacks(self, payment: Payment, step: str) -> list[tuple[str, Json]]:
        """Event and body of what Xendit sends after a step; nothing of a request that expires."""
        words = {"succeeded": "succeeded", "failed": "failed", "reversed": "failed"}
        status = "pending" if step == "stale" else words.get(payment.status)
        if status is None:
            return []
        shown = {
            **self._request_view(payment),
            "id": payment.extra.get("payment_id") or f"py-{payment.id[3:]}",
            "payment_request_id": payment.id,
            "channel_properties": None,
            "payment_detail": None,
        }
        for name in ("actions", "business_id", "initiator"):
            del shown[name]
        return [event(payment, f"payment.{status}", shown)]

    def _make_request(self, request: Request) -> Answer:
        body, state = read_object(request), self._state
        currency = body.get("currency")
        if currency not in COUNTRIES:
            raise refused(400, "API_VALIDATION_ERROR", "currency is not supported")
        amount = read_amount(body, str(currency))
        reference = body.get("reference_id") or state.new_uuid()
        if not isinstance(reference, str) or len(reference) > 255:
            raise refused(400, "API_VALIDATION_ERROR", "reference_id has at most 255 characters")
        method, card = self._read_method(body)
        details = method.get(_METHODS[method["type"]]) or {}
        failure = card.failure_code if card else None
        outcome = "failed" if failure else card.outcome if card else "pending"
        if card and amount in XENDIT_FAILING_AMOUNTS:
            outcome, failure = "failed", XENDIT_FAILING_AMOUNTS[int(amount)]
        if card and card.effect == "http_500":
            raise refused(500, "SERVER_ERROR", "An unexpected error occurred.")
        has_action = outcome == "requires_action" or method["type"] in {"EWALLET", "DIRECT_DEBIT"}
        payment = self._objects.new(
            request, "payment_request", f"pr-{state.new_uuid()}", reference, amount, str(currency)
        )
        payment.status = "requires_action" if has_action else "pending"
        payment.expires_at = payment.created_at + DAY_S
        payment.failure_code = failure and _FAILURES.get(failure, failure.upper())
        payment.card_last4 = card.last4 if card else None
        # Of a saved method they are in the request itself.
        given = details.get("channel_properties") or body.get("channel_properties")
        properties = given if isinstance(given, dict) else {}
        payment.return_url = web_url(properties.get("success_return_url"))
        payment.failure_return_url = web_url(properties.get("failure_return_url"))
        payment.extra |= {
            **echoed("payment_request", body),
            "country": body.get("country") or country_of(str(currency)),
            "capture_method": body.get("capture_method", "AUTOMATIC"),
            "payment_method": method,
            "method": method["type"],
            "channel_code": details.get("channel_code") or method["type"],
        }
        effect = self._lifecycle.add_payment(payment, card)
        self._lifecycle.start(payment, outcome)
        return Answer(201, self._request_view(payment, payment.amount), effect=effect)

    def _read_method(self, body: Json) -> tuple[Json, TestCard | None]:
        """The payment method as Xendit shows it, and the card if it is one."""
        state, now = self._state, rfc3339(self._lifecycle.clock.now())
        shown: Json = {
            "id": f"pm-{state.new_uuid()}",
            "type": "CARD",
            "reusability": "ONE_TIME_USE",
            "status": "ACTIVE",
            "created": now,
            "updated": now,
            "reference_id": None,
            "description": None,
            "metadata": None,
            **dict.fromkeys(_METHODS.values()),
        }
        if isinstance(saved := body.get("payment_method_id"), str):
            # Any saved method works; one that is named after a card does what the card does.
            card = card_named(saved.removeprefix("pm-")) or card_named("success")
            shown |= {"id": saved, "reusability": "MULTIPLE_USE", "card": _card_shown(card, {})}
            return shown, card
        given = body.get("payment_method")
        if not isinstance(given, dict) or given.get("type") not in _METHODS:
            message = "payment_method or payment_method_id is required"
            raise refused(400, "API_VALIDATION_ERROR", message)
        place = _METHODS[given["type"]]
        details = given.get(place) or {}
        if not isinstance(details, dict):
            raise refused(400, "API_VALIDATION_ERROR", f"{place} is not an object")
        shown |= {"type": given["type"], "reusability": given.get("reusability", "ONE_TIME_USE")}
        if given["type"] != "CARD":
            properties = dict(details.get("channel_properties") or {})
            if place == "virtual_account":
                properties["virtual_account_number"] = f"9999{state.next_number():08d}"
            elif place == "qr_code":
                properties["qr_string"] = f"sandbox-qr-{state.new_hex()}"
            return shown | {place: {**details, "channel_properties": properties}}, None
        known = details.get("card_information") or {}
        digits = str(known.get("card_number", "")).replace(" ", "")
        card = XENDIT_CARDS.get(digits) or SANDBOX_CARDS.get(digits)
        if card is None:
            raise refused(400, "API_VALIDATION_ERROR", "card_number is not that of a test card")
        return shown | {"card": _card_shown(card, details)}, card

    def _request_view(self, payment: Payment, amount: Decimal | None = None) -> Json:
        action = {"action": "AUTH", "url_type": "WEB", "method": "GET", "url": payment.page_url}
        needs_payer = payment.status == "requires_action"
        view: Json = {
            "id": payment.id,
            "created": rfc3339(payment.created_at),
            "updated": rfc3339(payment.updated_at),
            "reference_id": payment.reference,
            "business_id": business_id(payment.key),
            "customer": None,
            "amount": number(payment.shown_amount if amount is None else amount),
            "min_amount": None,
            "max_amount": None,
            "country": payment.extra["country"],
            "currency": payment.currency,
            "payment_method": payment.extra["payment_method"],
            "failure_code": payment.failure_code,
            "capture_method": payment.extra["capture_method"],
            "initiator": None,
            "card_verification_results": None,
            "status": self._objects.word(payment),
            "actions": [{**action, "qr_code": None}] if needs_payer else [],
        }
        empty = dict.fromkeys(ECHOED["payment_request"])
        return view | empty | only("payment_request", payment.extra)

    def _show_request(self, request: Request, request_id: str) -> Answer:
        return Answer(
            200, self._request_view(self._objects.own(request, "payment_request", request_id))
        )

    def _list_requests(self, request: Request) -> Answer:
        references = set(request.query.get("reference_id", []))
        found = [
            payment
            for payment in self._objects.mine(request, "payment_request")
            if not references or payment.reference in references
        ]
        for payment in found:
            self._lifecycle.attach_faults(payment, "list_payments")
        return page_of(request, [self._request_view(payment) for payment in found])

    def _simulate(self, request: Request, request_id: str) -> Answer:
        payment = own(request, self._objects.find(request_id), "DATA_NOT_FOUND")
        try:
            self._lifecycle.take_step(payment, "pay")
        except WrongState as error:
            raise refused(400, "API_VALIDATION_ERROR", str(error)) from None
        message = (
            f"A simulated payment of {number(payment.amount)} was requested."
            " You will be informed of the result via a webhook."
        )
        return Answer(200, {"status": "PENDING", "message": message})


def _card_shown(card: TestCard | None, details: Json) -> Json:
    known = details.get("card_information") or {}
    number_shown = f"{card.number[:6]}XXXXXX{card.last4}" if card else None
    return {
        "currency": details.get("currency"),
        "channel_properties": details.get("channel_properties"),
        "card_information": {
            "token_id": None,
            "masked_card_number": number_shown,
            "expiry_month": known.get("expiry_month", "12"),
            "expiry_year": known.get("expiry_year", "2040"),
            "cardholder_name": known.get("cardholder_name"),
            "fingerprint": hashlib.sha256(str(number_shown).encode()).hexdigest()[:24],
            "type": "CREDIT",
            "network": "MASTERCARD" if card and card.number[0] == "5" else "VISA",
            "country": "ID",
            "issuer": "SANDBOX",
        },
        "card_verification_results": None,
    }
