"""
Midtrans: card charges by token (Core API), hosted checkouts (Snap), refunds. Rupiah only.

Formats: Midtrans's technical reference. Core tells many refusals as HTTP 200 with a `status_code`
in the body, so both are read. Payouts are Iris, another product with other credentials: not here
(docs/decisions/0016).
"""

import datetime as dt
import hashlib
import hmac
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.money import Money
from payments.gateways import wire
from payments.gateways.calling import Answer, Caller, basic_authorization
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
    Refused,
    State,
    Unauthentic,
    Uncertain,
    Unreachable,
    Unreadable,
)

CAPABILITIES = Capabilities(
    currencies=frozenset({"IDR"}),
    makes_payouts=False,
    credentials=("server_key",),
)
CHECKOUT_MINUTES = 60
# Longer ones are ignored without a word.
IDEMPOTENCY_KEY_LENGTH_MAX = 36

# Of what was captured or settled. Other methods than cards have no such word.
_STATES_BY_FRAUD = {
    "": State.SUCCEEDED,
    "accept": State.SUCCEEDED,
    "challenge": State.REVIEW,
    "deny": State.FAILED,
}
_STATES = {
    "pending": State.PENDING,
    "authorize": State.REVIEW,
    "deny": State.FAILED,
    "cancel": State.CANCELLED,
    "expire": State.EXPIRED,
    "failure": State.FAILED,
    "refund": State.SUCCEEDED,
    "partial_refund": State.SUCCEEDED,
    "chargeback": State.REVERSED,
    # How much of it is for a person to find out.
    "partial_chargeback": State.REVIEW,
}
_SIGNED = ("order_id", "status_code", "gross_amount")
# How Snap says that it has the order id already, in the account's language.
_TAKEN = ("already been taken", "sudah digunakan")
# How it says that a page was called off before.
_CLOSED = "token already canceled"


@dataclass(frozen=True, slots=True)
class Midtrans:
    core: Caller
    snap: Caller
    server_key: str = field(repr=False)

    def create_payment(self, order: PaymentOrder) -> PaymentReport:
        try:
            return self._charge(order) if order.token else self._open_checkout(order)
        except Refused as refusal:
            if refusal.code == "406" or any(word in refusal.detail for word in _TAKEN):
                # Ours, from an attempt whose answer was lost: ask what became of it.
                raise Uncertain("Midtrans has this order already.", code="406") from refusal
            raise

    def _charge(self, order: PaymentOrder) -> PaymentReport:
        charge = {
            "payment_type": "credit_card",
            "transaction_details": _details(order),
            "credit_card": {"token_id": order.token, "authentication": True},
        }
        headers = {"Idempotency-Key": order.idempotency_key[:IDEMPOTENCY_KEY_LENGTH_MAX]}
        if order.notify_url:
            headers["X-Override-Notification"] = order.notify_url
        answer = self.core.post("create_payment", "/v2/charge", charge, headers=headers)
        return _payment(_meant(answer), order.reference, method="token")

    def _open_checkout(self, order: PaymentOrder) -> PaymentReport:
        checkout: dict[str, Any] = {
            "transaction_details": _details(order),
            "credit_card": {"secure": True},
            "expiry": {"unit": "minutes", "duration": CHECKOUT_MINUTES},
            "page_expiry": {"unit": "minutes", "duration": CHECKOUT_MINUTES},
        }
        if order.return_url:
            checkout["callbacks"] = {"finish": order.return_url}
        headers = {"X-Override-Notification": order.notify_url} if order.notify_url else {}
        answer = self.snap.post(
            "create_payment", "/snap/v1/transactions", checkout, headers=headers
        )
        told = wire.fields(answer.body)
        url = wire.text(told, "redirect_url")
        if not url:
            raise Uncertain("Midtrans opened no page.", code="no_url")
        # There is no transaction yet: it begins when the payer chooses how to pay.
        return PaymentReport(
            gateway_id="",
            reference=order.reference,
            state=State.PENDING,
            raw_status="token",
            amount=order.amount,
            redirect_url=url,
            expires_at=dt.datetime.now(dt.UTC) + dt.timedelta(minutes=CHECKOUT_MINUTES),
        )

    def get_payment(
        self, *, reference: str, gateway_id: str, method: str, currency: str
    ) -> PaymentReport:
        path = f"/v2/{wire.segment(reference)}/status"
        return _payment(_meant(self.core.get("get_payment", path)), reference, method=method)

    def cancel_payment(
        self, *, reference: str, gateway_id: str, method: str, amount: Money, redirect_url: str
    ) -> PaymentReport | None:
        if method != "hosted":
            return None
        if self._closes_page(redirect_url):
            # Nobody has chosen how to pay on it, so there is no transaction to ask for.
            return PaymentReport(
                gateway_id="",
                reference=reference,
                state=State.CANCELLED,
                raw_status="canceled",
                amount=amount,
            )

        def expire(order_id: str) -> PaymentReport:
            path = f"/v2/{wire.segment(order_id)}/expire"
            told = _meant(self.core.post("cancel_payment", path, {}))
            return _payment(told, reference, method=method)

        def ask() -> PaymentReport:
            return self.get_payment(
                reference=reference, gateway_id=gateway_id, method=method, currency=amount.currency
            )

        return call_off(reference, cancel=expire, ask=ask)

    def _closes_page(self, redirect_url: str) -> bool:
        """
        Call a page of Snap off by the token at the end of its address, if it has one.

        False: a payer has begun to pay on it, or there is no such page.
        """
        token = urllib.parse.urlsplit(redirect_url).path.rstrip("/").rpartition("/")[2]
        if not token:
            return False
        path = f"/snap/v1/transactions/{wire.segment(token)}/cancel"
        try:
            told = wire.fields(self.snap.post("cancel_payment", path, {}).body)
        except NoSuchObject:
            return False
        except Refused as refusal:
            if refusal.is_about_us:
                raise
            return _CLOSED in refusal.detail
        if not wire.text(told, "canceled_at"):
            raise Uncertain("Midtrans does not say that the page is closed.", code="status")
        return True

    def refund(self, order: RefundOrder) -> RefundReport:
        path = f"/v2/{wire.segment(order.payment_reference)}"
        body = {
            "refund_key": order.reference,
            "amount": wire.major_units(order.amount),
            "reason": order.reason or "Refund",
        }
        try:
            answer = self.core.post("refund", f"{path}/refund", body, may_repeat=True)
            told = _meant(answer)
        except Refused as refusal:
            if refusal.code != "412":
                raise
            return self._cancel(order, path)
        raw = wire.text(told, "transaction_status")
        if raw not in ("refund", "partial_refund"):
            raise Uncertain(f"Midtrans says {raw[:40]!r} to a refund.", code="status")
        return RefundReport(
            gateway_id=wire.text(told, "refund_chargeback_id") or order.reference,
            reference=order.reference,
            state=State.SUCCEEDED,
            raw_status=raw,
            amount=order.amount,
        )

    def _cancel(self, order: RefundOrder, path: str) -> RefundReport:
        """
        Undo a card payment that has not settled: it cannot be refunded yet, only cancelled.

        :raises Unreachable: later it may be refunded
        :raises Uncertain: it may have been cancelled
        :raises Refused: it cannot be, now or later
        """
        told = _meant(self.core.get("get_refund", f"{path}/status"))
        if wire.text(told, "transaction_status") == "capture":
            if order.amount != order.payment_amount:
                raise Unreachable("A part is refunded once it settles.", code="not_settled")
            try:
                told = _meant(self.core.post("refund", f"{path}/cancel", {}, may_repeat=True))
            except Refused as refusal:
                if refusal.code != "412":
                    raise
                # By an attempt whose answer was lost, perhaps.
                raise Uncertain("It was cancelled, or has settled.", code="412") from refusal
            if wire.text(told, "transaction_status") != "cancel":
                raise Uncertain("Midtrans does not say that it is cancelled.", code="status")
        raw = wire.text(told, "transaction_status")
        if raw != "cancel" or order.amount != order.payment_amount:
            raise Refused(f"Midtrans refunds no payment that is {raw[:40]!r}.", code="412")
        return RefundReport(
            gateway_id=wire.text(told, "transaction_id"),
            reference=order.reference,
            state=State.SUCCEEDED,
            raw_status=raw,
            amount=order.amount,
        )

    def get_refund(self, order: RefundOrder, *, gateway_id: str) -> RefundReport:
        path = f"/v2/{wire.segment(order.payment_reference)}/status"
        told = _meant(self.core.get("get_refund", path))
        was_cancelled = wire.text(told, "transaction_status") == "cancel"
        refunds = told.get("refunds")
        found = [
            each
            for each in (refunds if isinstance(refunds, list) else [])
            if isinstance(each, dict) and wire.text(each, "refund_key") == order.reference
        ]
        if not found and not (was_cancelled and order.amount == order.payment_amount):
            raise NoSuchObject("Midtrans has no refund of this key.")
        amount = wire.money(found[0].get("refund_amount"), "IDR") if found else order.amount
        return RefundReport(
            gateway_id=wire.text(found[0], "refund_chargeback_id") if found else gateway_id,
            reference=order.reference,
            state=State.SUCCEEDED,
            raw_status=wire.text(told, "transaction_status"),
            amount=amount,
        )

    def create_payout(self, order: PayoutOrder) -> PayoutReport:
        raise Refused("Midtrans makes no payouts for us.", code="not_supported")

    def get_payout(self, *, reference: str, gateway_id: str, currency: str) -> PayoutReport:
        raise Refused("Midtrans makes no payouts for us.", code="not_supported")

    def verify_and_parse(
        self, *, headers: Mapping[str, str], body: bytes, secrets: Sequence[str]
    ) -> Notification:
        told = wire.notification(body)
        # As they stand there: "150000.00" is signed, not the number.
        signed = "".join(wire.text(told, name) for name in _SIGNED)
        given = wire.text(told, "signature_key")
        matches = [
            hmac.compare_digest(signature_of(signed, key).encode(), given.encode())
            for key in (self.server_key, *secrets)
        ]
        if not any(matches):
            raise Unauthentic("The signature is not Midtrans's.")
        transaction_id, raw = (
            wire.text(told, "transaction_id"),
            wire.text(told, "transaction_status"),
        )
        if not transaction_id or not raw:
            raise Unreadable("It names no transaction.")
        state = _state(told)
        return Notification(
            event_id=_event_id(told),
            kind=Kind.PAYMENT,
            reference=wire.text(told, "order_id"),
            gateway_id=transaction_id,
            state=state,
            raw_status=raw,
            failure_code=_failure_code(told),
            is_settled=state is State.SUCCEEDED and raw == "settlement",
        )

    def list_payments(self, *, since: dt.datetime) -> list[PaymentReport] | None:
        return None


def make(core: Caller, snap_url: str, credentials: Mapping[str, str]) -> Midtrans:
    """Return Midtrans with a tenant's credentials."""
    key = credentials["server_key"]
    headers = {"Authorization": basic_authorization(key)}
    return Midtrans(
        Caller(core.gateway, core.circuit, core.base_url, headers),
        Caller(core.gateway, core.circuit, snap_url, headers),
        key,
    )


def signature_of(signed: str, server_key: str) -> str:
    """Return SHA-512 of order id, status code, gross amount and server key, end to end."""
    return hashlib.sha512(f"{signed}{server_key}".encode()).hexdigest()


def _details(order: PaymentOrder) -> dict[str, Any]:
    return {"order_id": order.reference, "gross_amount": wire.major_units(order.amount)}


def _meant(answer: Answer) -> Mapping[str, Any]:
    """
    Return the body of an answer that says something of a transaction.

    :raises NoSuchObject: there is none
    :raises Refused: nothing was done
    :raises Unreachable: nothing was done, and later it may be
    :raises Uncertain: a fault of theirs, or no sense in it
    """
    told = wire.fields(answer.body)
    code, detail = wire.text(told, "status_code"), wire.text(told, "status_message")
    if code == "404":
        raise NoSuchObject(detail or "Midtrans has no such transaction.", code=code)
    if wire.text(told, "transaction_status") and code in ("200", "201", "202", "407"):
        return told
    if code == "429":
        raise Unreachable(detail or "Midtrans has had too many requests.", code="rate_limited")
    if code.startswith("4"):
        raise Refused(detail or f"Midtrans answers {code}.", code=code)
    raise Uncertain(detail or "Midtrans's answer says nothing of the payment.", code=code)


def _state(told: Mapping[str, Any]) -> State | None:
    """Return what the two words mean together; None: we do not know one of them."""
    raw, fraud = wire.text(told, "transaction_status"), wire.text(told, "fraud_status")
    if raw in ("capture", "settlement"):
        return _STATES_BY_FRAUD.get(fraud)
    return _STATES.get(raw)


def _payment(told: Mapping[str, Any], reference: str, *, method: str) -> PaymentReport:
    raw = wire.text(told, "transaction_status")
    state = _state(told)
    if state is None:
        raise Uncertain(f"Midtrans says {raw[:40]!r}, which we do not know.", code="status")
    amount = wire.money(_asked_amount(told), wire.text(told, "currency") or "IDR")
    refunded = told.get("refund_amount")
    order_id, transaction_id = wire.text(told, "order_id"), wire.text(told, "transaction_id")
    return PaymentReport(
        gateway_id=transaction_id,
        # For some banks the status has the transaction's id where the order's should be.
        reference=reference if order_id == transaction_id else order_id,
        state=state,
        raw_status=raw,
        amount=amount,
        is_settled=state is State.SUCCEEDED and raw != "capture",
        refunded=0 if refunded is None else wire.money(refunded, "IDR").minor_units,
        redirect_url=wire.text(told, "redirect_url"),
        failure_code=_failure_code(told),
        failure_detail=wire.text(told, "channel_response_message"),
        may_still_succeed=method == "hosted" and raw in ("deny", "failure"),
    )


def _asked_amount(told: Mapping[str, Any]) -> Any:
    """Return what we asked for: `gross_amount` may hold a fee that Midtrans put on top."""
    found: Any = told.get("metadata")
    for name in ("extra_info", "gross_amount_info", "original_amount"):
        found = found.get(name) if isinstance(found, dict) else None
    return told.get("gross_amount") if found is None else found


def _failure_code(told: Mapping[str, Any]) -> str:
    if _state(told) not in (State.FAILED, State.CANCELLED, State.EXPIRED):
        return ""
    return (wire.text(told, "channel_response_code") or wire.text(told, "transaction_status"))[:64]


def _event_id(told: Mapping[str, Any]) -> str:
    """Return an identity that is the same for each delivery, and another for each fact."""
    refunds = told.get("refunds")
    refund_ids = sorted(
        wire.text(each, "refund_chargeback_id")
        for each in (refunds if isinstance(refunds, list) else [])
        if isinstance(each, dict)
    )
    parts = [
        wire.text(told, "transaction_id"),
        wire.text(told, "transaction_status"),
        wire.text(told, "status_code"),
        wire.text(told, "fraud_status") or "-",
        wire.text(told, "refund_amount") or wire.text(told, "gross_amount"),
        *refund_ids,
    ]
    return ":".join(parts)[:255]
