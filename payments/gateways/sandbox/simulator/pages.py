"""The hosted pages: what a payer sees, with a button for everything that can happen."""

import hmac
import html
from typing import Final

from payments.gateways.sandbox.simulator.exchange import Answer
from payments.gateways.sandbox.simulator.lifecycle import Lifecycle, WrongState
from payments.gateways.sandbox.simulator.state import Payment, State

_BUTTONS: Final = {
    "pay": "Pay",
    "fail": "Fail",
    "expire": "Let it expire",
    "challenge/approve": "Approve",
    "challenge/reject": "Reject",
}
_WORDS: Final = {
    "succeeded": "Paid",
    "failed": "Failed",
    "expired": "Expired",
    "canceled": "Cancelled",
    "reversed": "Reversed",
    "review": "Under review",
}
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f4f1;color:#1c1c1a}"
    "main{max-width:26rem;margin:10vh auto;padding:2rem;background:#fff;border:1px solid #ddd;"
    "border-radius:8px}h1{font-size:1rem;margin:0;color:#666;font-weight:400}"
    "p{margin:.25rem 0}.amount{font-size:2rem}form{margin:1rem 0 0}"
    "button{width:100%;padding:.7rem;font:inherit;border:1px solid #bbb;border-radius:6px;"
    "background:#fff;cursor:pointer}.first button{background:#14532d;color:#fff}"
    "small{color:#666}.amount small{font-size:1rem}"
    ":focus-visible{outline:3px solid #2563eb;outline-offset:2px}"
)


def page_of(state: State, name: str) -> Payment | None:
    """The payment that this page is for."""
    wanted = name.encode()
    return next(
        (
            item
            for item in state.payments.values()
            if hmac.compare_digest(item.token.encode(), wanted)
        ),
        None,
    )


def show_page(payment: Payment | None) -> Answer:
    """The page as it is now."""
    if payment is None:
        return _html(404, "<h1>Sandbox</h1><p>There is no such page.</p>")
    amount = f"{payment.currency} {payment.shown_amount:,f}"
    unit = " <small>in minor units</small>" if payment.gateway == "sandbox" else ""
    challenge = payment.status == "requires_action"
    title = "3-D Secure challenge" if challenge else "Test checkout: no money moves"
    content = [
        f"<h1>{title}</h1>",
        f'<p class="amount">{amount}{unit}</p>',
        f"<p>{html.escape(payment.reference)}</p>",
        f"<p><small>{html.escape(payment.gateway)} {html.escape(payment.id)}</small></p>",
    ]
    if payment.is_open:
        steps = ["challenge/approve", "challenge/reject"] if challenge else ["pay", "fail"]
        for place, step in enumerate([*steps, "expire"]):
            mark = ' class="first"' if place == 0 else ""
            action = f"/checkout/{html.escape(payment.token)}/{step}"
            content.append(
                f'<form method="post" action="{action}"{mark}>'
                f"<button>{_BUTTONS[step]}</button></form>"
            )
    else:
        content.append(f"<p><strong>{_WORDS[payment.status]}</strong></p>")
        content.append("<p>This page is no longer open.</p>")
        if url := _way_back(payment):
            content.append(f'<p><a href="{html.escape(url)}">Back to the merchant</a></p>')
    return _html(200, "".join(content))


def press(lifecycle: Lifecycle, payment: Payment | None, step: str) -> Answer:
    """Do what the button says, and send the payer back to the merchant."""
    if payment is None or step not in _BUTTONS:
        return show_page(None)
    try:
        lifecycle.take_step(payment, step)
    except WrongState:
        # Pressed twice, or too late: the page says how things are.
        return Answer(303, "", {"Location": f"/checkout/{payment.token}"}, "text/html")
    location = _way_back(payment) or f"/checkout/{payment.token}"
    return Answer(303, "", {"Location": location}, "text/html")


def _way_back(payment: Payment) -> str:
    """Where the merchant wants the payer's browser, as things are."""
    is_good = payment.status in {"succeeded", "review"}
    return payment.return_url if is_good else payment.failure_return_url


def _html(status: int, content: str) -> Answer:
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Sandbox checkout</title><style>{_STYLE}</style><main>{content}</main></html>"
    )
    return Answer(status, body, content_type="text/html; charset=utf-8")
