"""How Midtrans reads orders, words its refusals and shows a transaction."""

import hashlib
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from payments.gateways.sandbox.simulator.clock import wib
from payments.gateways.sandbox.simulator.exchange import Answer, Json, Refusal, Request
from payments.gateways.sandbox.simulator.state import Payment

FEE_DEFAULT: Final = 4000
_ORDER_ID_SHAPE: Final = re.compile(r"[A-Za-z0-9\-_~.]{1,50}")
_MERCHANT_ID: Final = "G141532850"
_AMOUNT_MAX: Final = 999_999_999_999
# By our word: theirs, the code in an answer, and the code in a notification.
_WORDS: Final = {
    "pending": ("pending", "201", "201"),
    "requires_action": ("pending", "201", "201"),
    "review": ("capture", "201", "201"),
    "succeeded": ("capture", "200", "200"),
    "failed": ("deny", "202", "202"),
    "reversed": ("deny", "202", "202"),
    "expired": ("expire", "407", "202"),
    "canceled": ("cancel", "200", "200"),
}
_MESSAGES: Final = {
    "pending": "Success, transaction is created",
    "requires_action": "Success, Credit Card transaction is successful",
    "review": "Success, Credit Card transaction is challenged by FDS",
    "succeeded": "Success, transaction is found",
    "failed": "Deny by Bank [MANDIRI] with code [05] and message [Do not honour]",
    "reversed": "Transaction was reversed by the provider",
    "expired": "Success, transaction is expired",
    "canceled": "Success, transaction is canceled",
}

Refuse = Callable[[int, str], Refusal]


def core_error(code: int, message: str) -> Refusal:
    """Core says it in the body, under HTTP 200 unless it is the key or Midtrans itself."""
    # Of no meaning but to quote it to Midtrans's support.
    reference = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{code}:{message}"))
    body: Json = {"status_code": str(code), "status_message": message, "id": reference}
    if code == 400:
        body["validation_messages"] = [message]
    return Refusal(Answer(code if code in {401, 500} else 200, body))


def snap_error(code: int, message: str) -> Refusal:
    """Snap says it by the HTTP status and a list."""
    return Refusal(Answer(code, {"error_messages": [message]}))


def gross(amount: Decimal) -> str:
    """150000.00: the text that is signed."""
    return f"{amount:.2f}"


def read_body(request: Request, refuse: Refuse) -> Json:
    """The body, which has to be an object; Core breaks on null, as the real one does."""
    try:
        body = request.read_json()
    except ValueError:
        raise refuse(400, "The body is not JSON") from None
    if not isinstance(body, dict):
        raise refuse(500, "Sorry. Our system is recovering from unexpected issues.")
    return body


def read_order(body: Json, refuse: Refuse) -> tuple[str, int]:
    """The order id and the amount, checked against the items."""
    details = body.get("transaction_details")
    if not isinstance(details, dict):
        raise refuse(400, "transaction_details is required")
    order_id, amount = details.get("order_id"), details.get("gross_amount")
    if not isinstance(order_id, str) or not order_id:
        raise refuse(400, "transaction_details.order_id is required")
    if not _ORDER_ID_SHAPE.fullmatch(order_id):
        raise refuse(400, "transaction_details.order_id has characters that are not allowed")
    currency = details.get("currency", "IDR")
    if currency != "IDR":
        raise refuse(400, "transaction_details.currency must be IDR")
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise refuse(400, "transaction_details.gross_amount must be an integer")
    if not 1 <= amount <= _AMOUNT_MAX:
        raise refuse(400, "transaction_details.gross_amount must be greater than or equal to 0.01")
    items = body.get("item_details")
    if isinstance(items, list) and items and _sum_of(items, refuse) != amount:
        message = "transaction_details.gross_amount is not equal to the sum of item_details"
        raise refuse(400, message)
    return order_id, amount


def _sum_of(items: list[Any], refuse: Refuse) -> int:
    total = 0
    for item in items:
        price, quantity = (item.get("price"), item.get("quantity")) if _is_item(item) else (0, 0)
        if not isinstance(price, int) or not isinstance(quantity, int):
            raise refuse(400, "item_details price and quantity must be integers")
        if not _is_item(item) or not 1 <= len(str(item.get("name", ""))) <= 50:
            raise refuse(400, "item_details name is required and has at most 50 characters")
        total += price * quantity
    return total


def _is_item(item: Any) -> bool:
    return isinstance(item, dict)


def echoed(body: Json) -> Json:
    """What comes back as it was sent."""
    names = ("custom_field1", "custom_field2", "custom_field3", "metadata")
    return {name: body[name] for name in names if body.get(name) is not None}


def status_view(payment: Payment, *, first: bool = False) -> Json:
    """
    A transaction as answers show it.

    `first`: the answer to the charge, which no fault of amounts has touched yet.
    """
    word, code, _ = _WORDS[payment.status]
    extra = payment.extra
    if payment.status == "succeeded":
        word = "settlement" if extra.get("is_settled") else "capture"
        if payment.refunded:
            word = "refund" if payment.refunded == payment.amount else "partial_refund"
    view: Json = {
        "status_code": code,
        "status_message": _MESSAGES[payment.status],
        "transaction_id": payment.id,
        "order_id": payment.reference,
        "merchant_id": _MERCHANT_ID,
        "gross_amount": gross(payment.amount if first else _charged(payment)),
        "currency": "IDR",
        "payment_type": extra["method"],
        "transaction_time": wib(payment.created_at),
        "transaction_status": word,
        "fraud_status": _fraud_status(payment),
    }
    # Copies: what was told must not change when the next refund comes.
    view |= {name: list(extra[name]) for name in ("va_numbers", "refunds") if name in extra}
    view |= echoed(extra)
    if extra["method"] == "bank_transfer":
        view["payment_amounts"] = []
    if extra["method"] == "credit_card":
        view |= _card_part(payment)
    if payment.paid_at is not None and extra.get("is_settled"):
        view["settlement_time"] = wib(payment.paid_at)
    if payment.expires_at is not None:
        view["expiry_time"] = wib(payment.expires_at)
    if payment.refunded:
        view["refund_amount"] = gross(payment.refunded)
    if "fee_imposition" in payment.effects and not first:
        view["metadata"] = {**extra.get("metadata", {}), "extra_info": _fee_part(payment)}
    return view


def notification(payment: Payment, now: float) -> Json:
    """The same as a notification words it."""
    code = _WORDS[payment.status][2]
    message = "midtrans payment notification"
    return {**status_view(payment), "status_code": code, "status_message": message}


def signature_key(order_id: str, status_code: str, gross_amount: str, server_key: str) -> str:
    """SHA-512 over the texts as they stand in the body."""
    text = order_id + status_code + gross_amount + server_key
    return hashlib.sha512(text.encode()).hexdigest()


def signed_part(fields: Json, key: str) -> Json:
    """The signature that goes with these fields."""
    signed = signature_key(fields["order_id"], fields["status_code"], fields["gross_amount"], key)
    return {"signature_key": signed}


def _charged(payment: Payment) -> Decimal:
    return payment.shown_amount + (_fee(payment) if "fee_imposition" in payment.effects else 0)


def _fee(payment: Payment) -> Decimal:
    return Decimal(payment.effects["fee_imposition"]) or Decimal(FEE_DEFAULT)


def _fee_part(payment: Payment) -> Json:
    return {
        "gross_amount_info": {
            "original_amount": gross(payment.shown_amount),
            "gross_amount": gross(_charged(payment)),
            "customer_imposed_payment_fee": gross(_fee(payment)),
        }
    }


def _fraud_status(payment: Payment) -> str:
    if payment.status == "review":
        return "challenge"
    return "deny" if payment.failure_code == "fraud" else "accept"


def _card_part(payment: Payment) -> Json:
    part: Json = {
        "masked_card": payment.extra["masked_card"],
        "bank": "bni",
        "card_type": "credit",
    }
    if payment.status == "requires_action":
        part["redirect_url"] = payment.page_url
    if payment.status in {"succeeded", "review"}:
        part |= {
            "approval_code": f"{int(payment.created_at)}",
            "eci": "05",
            "channel_response_code": "00",
            "channel_response_message": "Approved",
        }
    elif payment.status == "failed":
        part |= {"channel_response_code": "05", "channel_response_message": "Do not honour"}
    return part
