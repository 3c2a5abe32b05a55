"""The payment gateway simulator, asked as its users ask it: over HTTP. No database."""

import base64
import concurrent.futures
import contextlib
import datetime as dt
import hashlib
import hmac
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from payments.gateways.sandbox import cards
from payments.gateways.sandbox.simulator import running_simulator
from payments.gateways.sandbox.simulator.midtrans_words import signature_key
from payments.gateways.sandbox.simulator.native import signature

SANDBOX_KEY = "sk_sandbox_merchant1"
XENDIT_KEY = "xnd_development_merchant1"
MIDTRANS_KEY = "SB-Mid-server-merchant1"
DEADLINE_S = 5.0
# Of a client that is to time out: long enough for the charge to be made.
PATIENCE_S = 0.25
DAY_S = 86_400
Json = dict[str, Any]


class Receiver:
    """A merchant's webhook endpoint: notes what comes, and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[Json] = []
        self.statuses: list[int] = []
        # While it is clear, the answers wait.
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._news = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.note(self.path, dict(self.headers.items()), body)
                receiver.may_answer.wait(DEADLINE_S)
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def note(self, path: str, headers: dict[str, str], body: bytes) -> None:
        lower = {name.lower(): value for name, value in headers.items()}
        with self._news:
            self.got.append({"path": path, "headers": lower, "raw": body, "body": json.loads(body)})
            self._news.notify_all()

    def wait_for(self, count: int) -> list[Json]:
        """The first so many, when they have come."""
        with self._news:
            came = self._news.wait_for(lambda: len(self.got) >= count, DEADLINE_S)
        assert came, f"{len(self.got)} webhooks instead of {count}"
        return self.got[:count]

    def stop(self) -> None:
        self.may_answer.set()
        self.server.shutdown()
        self.server.server_close()


class Simulator:
    """The simulator, with a way of asking for each gateway."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=DEADLINE_S)

    def __enter__(self) -> "Simulator":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    @contextlib.contextmanager
    def impatient(self, *, is_so: bool) -> Iterator[None]:
        """Give up soon, if an answer is not expected."""
        self.http.timeout = httpx.Timeout(PATIENCE_S if is_so else DEADLINE_S)
        try:
            yield
        finally:
            self.http.timeout = httpx.Timeout(DEADLINE_S)

    def sim(self, path: str, body: Json | None = None) -> Any:
        """Order or look at something."""
        path = f"/_sim/{path}"
        answer = self.http.get(path) if body is None else self.http.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def sandbox(
        self, path: str, body: Json | None = None, *, key: str = SANDBOX_KEY, **headers: str
    ) -> httpx.Response:
        sent = {"Authorization": f"Bearer {key}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        path = f"/sandbox/v1/{path}"
        if body is None:
            return self.http.get(path, headers=sent)
        return self.http.post(path, json=body, headers=sent)

    def basic(
        self, path: str, body: Json | None, key: str, headers: dict[str, str]
    ) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is None:
            return self.http.get(path, auth=(key, ""), headers=sent)
        return self.http.post(path, json=body, auth=(key, ""), headers=sent)

    def xendit(
        self, path: str, body: Json | None = None, *, key: str = XENDIT_KEY, **headers: str
    ) -> httpx.Response:
        return self.basic(f"/xendit/{path}", body, key, headers)

    def core(
        self, path: str, body: Json | None = None, *, key: str = MIDTRANS_KEY, **headers: str
    ) -> httpx.Response:
        return self.basic(f"/midtrans-api/v2/{path}", body, key, headers)

    def snap(
        self, path: str, body: Json | None = None, *, key: str = MIDTRANS_KEY, **headers: str
    ) -> httpx.Response:
        return self.basic(f"/midtrans-app/snap/v1/{path}", body, key, headers)

    def advance(self, seconds: float) -> None:
        self.sim("clock/advance", {"seconds": seconds})
        self.flush()

    def flush(self) -> None:
        self.sim("webhooks/flush", {})

    def fault(self, effect: str, match: Json | None = None, **more: Any) -> None:
        self.sim("faults", {"effect": effect, "match": match or {}, **more})


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    # Nothing comes about by itself while a test looks: it moves the clock.
    started = running_simulator(seed="tests", settle_s=60, late_s=600, webhook_delay_s=0.0)
    with started as made, Simulator(made.url) as asking:
        yield asking


@pytest.fixture
def simulator(running: Simulator) -> Simulator:
    running.sim("reset", {})
    return running


@pytest.fixture
def receiver(simulator: Simulator) -> Iterator[Receiver]:
    made = Receiver()
    gateways = {"xendit": XENDIT_KEY, "midtrans": MIDTRANS_KEY, "sandbox": SANDBOX_KEY}
    for gateway, key in gateways.items():
        order = {"gateway": gateway, "key": key, "webhook_url": made.url}
        simulator.sim("accounts", {**order, "webhook_token": "the-token"})
    yield made
    made.stop()


def charge(number: str = "4242424242424242", **changed: Any) -> Json:
    card = {"type": "card", "number": number, "exp_month": 12, "exp_year": 2040, "cvc": "123"}
    about = {"reference": "order-1", "amount": 2500, "currency": "EUR"}
    return {**about, "payment_method": card, **changed}


def refund_of(payment: Json, amount: int, **changed: Any) -> Json:
    return {"payment": payment["id"], "reference": "refund-1", "amount": amount, **changed}


def payout_to(account: str = "12345678", **changed: Any) -> Json:
    beneficiary = {"name": "Ani", "account_number": account, "bank_code": "BCA", "country": "ID"}
    about = {"reference": "payout-1", "amount": 9000, "currency": "IDR"}
    return {**about, "beneficiary": beneficiary, **changed}


def events(got: list[Json]) -> list[str]:
    return [item["body"]["type"] for item in got]


# --- The sandbox's own gateway -------------------------------------------------------------------


def test_a_card_is_charged(simulator: Simulator) -> None:
    answer = simulator.sandbox("payments", charge())
    assert answer.status_code == 201
    payment = answer.json()
    assert payment["id"].startswith("pay_")
    assert (payment["status"], payment["amount"], payment["card_last4"]) == (
        "succeeded",
        2500,
        "4242",
    )
    assert payment["paid_at"].endswith("Z")
    assert simulator.sandbox(f"payments/{payment['id']}").json() == payment
    assert simulator.sandbox("payments?reference=order-1").json() == {
        "data": [payment],
        "has_more": False,
    }


def test_ids_follow_from_the_seed() -> None:
    ids = []
    for _ in range(2):
        with running_simulator(seed="7") as made, Simulator(made.url) as simulator:
            ids.append(simulator.sandbox("payments", charge()).json()["id"])
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("4000000000000002", "card_declined"),
        ("4000000000009995", "insufficient_funds"),
        ("4000000000000069", "expired_card"),
        ("4111111111111111", "not_a_test_card"),
    ],
)
def test_a_card_is_declined(simulator: Simulator, number: str, code: str) -> None:
    payment = simulator.sandbox("payments", charge(number)).json()
    assert (payment["status"], payment["failure_code"]) == ("failed", code)


def test_a_card_of_the_past_has_expired(simulator: Simulator) -> None:
    body = charge()
    body["payment_method"]["exp_year"] = 2020
    assert simulator.sandbox("payments", body).json()["failure_code"] == "expired_card"


@pytest.mark.parametrize("card", list(cards.SANDBOX_CARDS.values()), ids=lambda card: card.name)
def test_every_card_has_a_valid_check_digit_and_a_token(
    simulator: Simulator, card: cards.TestCard
) -> None:
    assert cards.passes_luhn(card.number)
    assert not cards.passes_luhn(card.number[:-1] + str((int(card.number[-1]) + 1) % 10))
    assert cards.card_named(card.name) is card


def test_a_token_stands_for_its_card(simulator: Simulator) -> None:
    card = {"number": "4000000000000002", "exp_month": 1, "exp_year": 2040, "cvc": "123"}
    token = simulator.sandbox("tokens", {"card": card}).json()
    assert token["last4"] == "0002"
    for name in (token["token"], "tok_card_declined"):
        body = charge(payment_method={"token": name})
        assert simulator.sandbox("payments", body).json()["failure_code"] == "card_declined"


def test_a_challenge_is_approved_or_rejected_on_its_page(
    simulator: Simulator, receiver: Receiver
) -> None:
    for step, status in (("approve", "succeeded"), ("reject", "failed")):
        body = charge("4000002500003155", return_url="http://127.0.0.1:9/back")
        payment = simulator.sandbox("payments", body).json()
        assert payment["status"] == "requires_action"
        page = simulator.http.get(payment["redirect_url"])
        assert "Approve" in page.text
        assert len(page.content) < 4_000
        pressed = simulator.http.post(f"{payment['redirect_url']}/challenge/{step}")
        assert (pressed.status_code, pressed.headers["location"]) == (
            303,
            "http://127.0.0.1:9/back",
        )
        assert simulator.sandbox(f"payments/{payment['id']}").json()["status"] == status
    assert events(receiver.wait_for(2)) == ["payment.succeeded", "payment.failed"]


@pytest.mark.parametrize(
    ("step", "status"), [("pay", "succeeded"), ("fail", "failed"), ("expire", "expired")]
)
def test_the_buttons_of_a_hosted_page(
    simulator: Simulator, receiver: Receiver, step: str, status: str
) -> None:
    payment = simulator.sandbox("payments", charge(payment_method={"type": "hosted"})).json()
    assert payment["status"] == "pending"
    pressed = simulator.http.post(f"{payment['redirect_url']}/{step}")
    assert pressed.headers["location"].startswith("/checkout/")
    assert simulator.sandbox(f"payments/{payment['id']}").json()["status"] == status
    assert events(receiver.wait_for(1)) == [f"payment.{status}"]
    # Pressed again: it is as it is.
    assert simulator.http.post(f"{payment['redirect_url']}/{step}").status_code == 303
    assert simulator.http.post(f"/_sim/payments/{payment['id']}/{step}").status_code == 409


def hosted(**changed: Any) -> Json:
    return charge(payment_method={"type": "hosted"}, **changed)


@pytest.mark.parametrize("method", [{"type": "hosted"}, {"token": "tok_three_d_secure"}])
def test_a_payment_that_waits_for_its_payer_is_called_off(
    simulator: Simulator, receiver: Receiver, method: Json
) -> None:
    payment = simulator.sandbox("payments", charge(payment_method=method)).json()

    answer = simulator.sandbox(f"payments/{payment['id']}/cancel", {})

    assert (answer.status_code, answer.json()) == (200, {**payment, "status": "canceled"})
    assert simulator.sandbox(f"payments/{payment['id']}").json() == answer.json()
    again = simulator.sandbox(f"payments/{payment['id']}/cancel", {})
    assert (again.status_code, again.json()) == (200, answer.json())
    # Its time comes, and changes nothing.
    simulator.advance(3_601)
    assert simulator.sandbox(f"payments/{payment['id']}").json() == answer.json()
    assert events(receiver.wait_for(1)) == ["payment.canceled"]
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("body", "step", "status"),
    [
        (charge(), "", "succeeded"),
        (charge("4000000000000002"), "", "failed"),
        (charge("4000000000000077"), "", "pending"),
        (charge(payment_method={"type": "hosted"}), "pay", "succeeded"),
        (charge(payment_method={"type": "hosted"}), "fail", "failed"),
        (charge(payment_method={"type": "hosted"}), "expire", "expired"),
    ],
)
def test_what_waits_for_no_payer_is_not_called_off(
    simulator: Simulator, body: Json, step: str, status: str
) -> None:
    payment = simulator.sandbox("payments", body).json()
    if step:
        simulator.sim(f"payments/{payment['id']}/{step}", {})

    answer = simulator.sandbox(f"payments/{payment['id']}/cancel", {})

    assert (answer.status_code, answer.json()["error"]) == (
        422,
        {"code": "payment_not_cancelable", "message": f"The payment is {status}."},
    )
    assert simulator.sandbox(f"payments/{payment['id']}").json()["status"] == status


def test_only_its_merchant_calls_a_payment_off(simulator: Simulator) -> None:
    payment = simulator.sandbox("payments", hosted()).json()
    place = f"payments/{payment['id']}/cancel"

    assert simulator.sandbox(place, {}, key="sk_sandbox_stranger").status_code == 404
    assert simulator.sandbox(place, {}, key="nonsense").status_code == 401
    assert simulator.sandbox("payments/pay_x/cancel", {}).status_code == 404
    assert simulator.sandbox(f"payments/{payment['id']}").json()["status"] == "pending"


def test_a_page_that_was_called_off_is_no_longer_open(simulator: Simulator) -> None:
    back = "http://127.0.0.1:9/back?a=1&b=2"
    payment = simulator.sandbox("payments", hosted(return_url=back)).json()
    assert "no longer open" not in simulator.http.get(payment["redirect_url"]).text
    simulator.sandbox(f"payments/{payment['id']}/cancel", {})

    page = simulator.http.get(payment["redirect_url"])

    assert "Cancelled" in page.text
    assert "This page is no longer open." in page.text
    assert "<button" not in page.text
    assert '<a href="http://127.0.0.1:9/back?a=1&amp;b=2">' in page.text
    # Pressed on a page that was opened before: it says so too, and nothing is paid.
    pressed = simulator.http.post(f"{payment['redirect_url']}/pay")
    assert (pressed.status_code, pressed.headers["location"]) == (
        303,
        payment["redirect_url"].removeprefix(simulator.url),
    )
    assert simulator.sandbox(f"payments/{payment['id']}").json()["status"] == "canceled"


def test_pages_of_all_gateways_are_no_longer_open_once_called_off(simulator: Simulator) -> None:
    link = simulator.xendit("v2/invoices", invoice()).json()
    simulator.xendit(f"invoices/{link['id']}/expire!", {})
    unused = simulator.snap("transactions", order("o-1")).json()
    simulator.snap(f"transactions/{unused['token']}/cancel", {})
    begun = simulator.snap("transactions", order("o-2")).json()
    simulator.sim(f"payments/{begun['token']}/choose", {"method": "bca_va"})
    simulator.core("o-2/expire", {})

    for url in (link["invoice_url"], unused["redirect_url"], begun["redirect_url"]):
        assert "This page is no longer open." in simulator.http.get(url).text


def test_a_fault_of_calling_off_is_ordered_by_reference(simulator: Simulator) -> None:
    payment = simulator.sandbox("payments", hosted()).json()
    place = f"payments/{payment['id']}/cancel"
    simulator.fault("http_500", {"op": "cancel_payment", "reference": "order-1"})

    assert simulator.sandbox(place, {}).status_code == 500
    assert simulator.sandbox(f"payments/{payment['id']}").json()["status"] == "pending"
    assert simulator.sandbox(place, {}).status_code == 200


def test_a_payment_expires_when_its_time_has_come(simulator: Simulator) -> None:
    body = charge(payment_method={"type": "hosted"}, expires_in_s=900)
    payment = simulator.sandbox("payments", body).json()
    simulator.advance(899)
    assert simulator.sandbox(f"payments/{payment['id']}").json()["status"] == "pending"
    simulator.advance(2)
    assert simulator.sandbox(f"payments/{payment['id']}").json()["status"] == "expired"


def test_late_and_reversed_cards(simulator: Simulator, receiver: Receiver) -> None:
    late = simulator.sandbox("payments", charge("4000000000000077")).json()
    soon = simulator.sandbox("payments", charge("4000000000000259")).json()
    assert (late["status"], soon["status"]) == ("pending", "succeeded")
    simulator.advance(601)
    assert simulator.sandbox(f"payments/{late['id']}").json()["status"] == "succeeded"
    assert simulator.sandbox(f"payments/{soon['id']}").json()["status"] == "reversed"
    assert sorted(events(receiver.wait_for(3))) == [
        "payment.reversed",
        "payment.succeeded",
        "payment.succeeded",
    ]


@pytest.mark.parametrize(
    ("number", "error", "charges"),
    [
        ("4000000000000119", httpx.ReadTimeout, 1),
        ("4000000000000341", httpx.ReadError, 1),
        ("4000000000000739", None, 1),
        ("4000000000000838", None, 0),
    ],
)
def test_an_answer_is_lost(
    simulator: Simulator, number: str, error: type[Exception] | None, charges: int
) -> None:
    def ask() -> httpx.Response:
        return simulator.sandbox("payments", charge(number), Idempotency_Key="k1")

    if error is None:
        assert ask().status_code == 500
    else:
        with simulator.impatient(is_so=error is httpx.ReadTimeout), pytest.raises(error):
            ask()
    found = simulator.sandbox("payments?reference=order-1").json()["data"]
    assert [payment["status"] for payment in found] == ["succeeded"] * charges
    if charges:
        # The same key again: the first charge, and no second one.
        assert ask().json() == found[0]
        assert len(simulator.sandbox("payments?reference=order-1").json()["data"]) == 1


def test_webhook_cards(simulator: Simulator, receiver: Receiver) -> None:
    for number in ("4000000000000432", "4000000000000630", "4000000000000531"):
        simulator.sandbox("payments", charge(number, reference=number))
    simulator.advance(61)
    got = receiver.wait_for(4)
    assert len(receiver.got) == 4
    told = [(item["body"]["data"]["reference"][-4:], item["body"]["type"]) for item in got]
    assert sorted(told[:3]) == [("0432", "payment.succeeded")] * 2 + [("0531", "payment.succeeded")]
    assert told[3] == ("0531", "payment.pending")
    assert len({item["body"]["id"] for item in got}) == 3


def test_the_same_key_is_the_same_request(simulator: Simulator) -> None:
    first = simulator.sandbox("payments", charge(), Idempotency_Key="k1")
    again = simulator.sandbox("payments", charge(), Idempotency_Key="k1")
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    other = simulator.sandbox("payments", charge(amount=1), Idempotency_Key="k1")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    # Another key is another charge, though the reference is the same; so is another merchant's.
    simulator.sandbox("payments", charge(), Idempotency_Key="k2")
    simulator.sandbox("payments", charge(), key="sk_sandbox_merchant2", Idempotency_Key="k1")
    assert len(simulator.sandbox("payments?reference=order-1").json()["data"]) == 2
    assert len(simulator.sim("objects?reference=order-1")["payments"]) == 3


def test_the_same_key_at_once_is_one_charge(simulator: Simulator) -> None:
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        asked = [
            pool.submit(simulator.sandbox, "payments", charge(), Idempotency_Key="k1")
            for _ in range(20)
        ]
        ids = {future.result().json()["id"] for future in asked}
    assert len(ids) == 1
    assert len(simulator.sandbox("payments?reference=order-1").json()["data"]) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"amount": 0},
        {"amount": -1},
        {"amount": 1.5},
        {"amount": "100"},
        {"amount": True},
        {"amount": 2**63},
        {"currency": "eur"},
        {"reference": ""},
        {"reference": "x" * 129},
        {"payment_method": {"type": "cheque"}},
        {"payment_method": {"token": "tok_nobody"}},
        {"payment_method": "card"},
        {"notify_url": "ftp://x"},
        {"return_url": "javascript:alert(1)"},
        {"expires_in_s": 0},
    ],
)
def test_a_payment_that_makes_no_sense(simulator: Simulator, changed: Json) -> None:
    assert simulator.sandbox("payments", charge(**changed)).status_code == 422
    assert simulator.sim("objects")["payments"] == []


def test_a_body_that_is_no_json(simulator: Simulator) -> None:
    for content in (b"{", b"[]", b"\xff", b'{"amount": NaN}', b""):
        answer = simulator.http.post(
            "/sandbox/v1/payments",
            content=content,
            headers={"Authorization": f"Bearer {SANDBOX_KEY}"},
        )
        assert answer.status_code == 400, content


def test_bad_card_numbers(simulator: Simulator) -> None:
    for number in ("4242424242424241", "4242", "", "x" * 16):
        assert simulator.sandbox("payments", charge(number)).status_code == 422


def test_keys(simulator: Simulator) -> None:
    payment = simulator.sandbox("payments", charge()).json()
    for key in ("nonsense", "sk_live_merchant1", "sk_sandbox_short"):
        assert simulator.sandbox("payments", key=key).status_code == 401
    assert simulator.sandbox(
        f"payments/{payment['id']}", key="sk_sandbox_stranger"
    ).status_code == (404)
    assert simulator.sandbox("payments", key="sk_sandbox_stranger").json()["data"] == []
    simulator.sim("accounts", {"gateway": "sandbox", "key": SANDBOX_KEY, "is_revoked": True})
    assert simulator.sandbox("payments").status_code == 401


def test_lists_have_pages(simulator: Simulator) -> None:
    ids = [
        simulator.sandbox("payments", charge(reference=f"r{place}")).json()["id"]
        for place in range(5)
    ]
    first = simulator.sandbox("payments?limit=3").json()
    assert ([item["id"] for item in first["data"]], first["has_more"]) == (ids[:3], True)
    rest = simulator.sandbox(f"payments?limit=3&after={ids[2]}").json()
    assert ([item["id"] for item in rest["data"]], rest["has_more"]) == (ids[3:], False)
    future = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert simulator.sandbox(f"payments?created_after={future}").json()["data"] == []
    for query in ("limit=0", "limit=101", "limit=x", "after=pay_x", "created_after=yesterday"):
        assert simulator.sandbox(f"payments?{query}").status_code == 422, query


def test_refunds(simulator: Simulator, receiver: Receiver) -> None:
    payment = simulator.sandbox("payments", charge()).json()
    made = simulator.sandbox("refunds", refund_of(payment, 1000))
    assert (made.status_code, made.json()["status"]) == (201, "pending")
    too_large = simulator.sandbox("refunds", refund_of(payment, 1501))
    assert too_large.status_code == 422
    assert too_large.json()["error"]["code"] == "amount_too_large"
    failing = simulator.sandbox("refunds", refund_of(payment, 1500, reason="sim:fail")).json()
    simulator.advance(61)
    refund_ids = [made.json()["id"], failing["id"]]
    statuses = [simulator.sandbox(f"refunds/{name}").json()["status"] for name in refund_ids]
    assert statuses == ["succeeded", "failed"]
    # What failed can be asked for again.
    assert simulator.sandbox(f"payments/{payment['id']}").json()["refunded_amount"] == 1000
    assert len(simulator.sandbox("refunds?reference=refund-1").json()["data"]) == 2
    assert set(events(receiver.wait_for(3))) == {
        "payment.succeeded",
        "refund.succeeded",
        "refund.failed",
    }


def test_a_refund_of_what_was_not_paid(simulator: Simulator) -> None:
    payment = simulator.sandbox("payments", charge("4000000000000002")).json()
    answer = simulator.sandbox("refunds", refund_of(payment, 1))
    assert answer.json()["error"]["code"] == "payment_not_refundable"
    assert simulator.sandbox("refunds", refund_of({"id": "pay_x"}, 1)).status_code == 404


@pytest.mark.parametrize(
    ("account", "told"),
    [
        ("12340001", ["failed"]),
        ("12340002", ["settled", "returned"]),
        ("12340003", []),
        ("12340004", ["failed"]),
        ("12345678", ["settled"]),
    ],
)
def test_payouts(simulator: Simulator, receiver: Receiver, account: str, told: list[str]) -> None:
    payout = simulator.sandbox("payouts", payout_to(account)).json()
    assert payout["status"] == ("failed" if account.endswith("0001") else "submitted")
    simulator.advance(121)
    now = simulator.sandbox(f"payouts/{payout['id']}").json()
    assert now["status"] == (told[-1] if told else "submitted")
    codes = {"failed": "invalid_account", "returned": "account_closed"}
    assert now["failure_code"] == codes.get(now["status"])
    assert simulator.sandbox("payouts?reference=payout-1").json()["data"] == [now]
    got = receiver.wait_for(len(told))
    assert events(got) == [f"payout.{word}" for word in told]


def test_a_payout_is_ended_by_hand(simulator: Simulator) -> None:
    iban = {"name": "Ani", "iban": "DE89 3704 0044 0532 0003", "country": "DE"}
    payout = simulator.sandbox("payouts", payout_to(beneficiary=iban)).json()
    assert simulator.sim(f"payouts/{payout['id']}/settle", {})["status"] == "settled"
    assert simulator.sim(f"payouts/{payout['id']}/return", {})["status"] == "returned"
    assert simulator.http.post(f"/_sim/payouts/{payout['id']}/settle").status_code == 409
    bad = payout_to(beneficiary={"name": "Ani", "country": "DE"})
    assert simulator.sandbox("payouts", bad).status_code == 422


def test_webhooks_are_signed_and_come_again(simulator: Simulator, receiver: Receiver) -> None:
    receiver.statuses = [500, 404, 302]
    simulator.sandbox("payments", charge(notify_url=f"{receiver.url}/own"))
    receiver.wait_for(1)
    simulator.flush()
    simulator.advance(5_000)
    got = receiver.wait_for(4)
    assert len({item["body"]["id"] for item in got}) == 1
    for item in got:
        headers = item["headers"]
        assert item["path"] == "/hook/own"
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + item["raw"]
        digest = hmac.new(SANDBOX_KEY.encode(), signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
        # The receiver compares it to its own clock, which is not the virtual one.
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    simulator.flush()
    attempts = simulator.sim("webhooks")["data"]
    assert [attempt["status"] for attempt in attempts] == [500, 404, 302, 200]


def test_webhooks_end(simulator: Simulator, receiver: Receiver) -> None:
    receiver.statuses = [503] * 20
    simulator.sandbox("payments", charge())
    simulator.flush()
    simulator.advance(DAY_S)
    assert len(receiver.wait_for(6)) == 6
    log = simulator.sim("webhooks")
    assert log["waiting"] == []
    assert log["data"][-1]["next_at"] is None


def test_a_receiver_that_hangs_delays_nobody(simulator: Simulator, receiver: Receiver) -> None:
    other = Receiver()
    try:
        receiver.may_answer.clear()
        for _ in range(12):
            simulator.sandbox("payments", charge())
        simulator.sandbox("payments", charge(notify_url=other.url))
        assert events(other.wait_for(1)) == ["payment.succeeded"]
        assert len(receiver.got) <= 8
        receiver.may_answer.set()
        receiver.wait_for(12)
    finally:
        other.stop()


def test_a_receiver_that_does_not_answer_in_time(simulator: Simulator, receiver: Receiver) -> None:
    simulator.sim("settings", {"webhook_timeout_s": 0.1})
    receiver.may_answer.clear()
    simulator.sandbox("payments", charge())
    simulator.flush()
    (attempt,) = simulator.sim("webhooks")["data"]
    assert (attempt["status"], attempt["error"]) == (None, "TimeoutError")
    assert attempt["next_at"] is not None


# --- Xendit --------------------------------------------------------------------------------------


def invoice(**changed: Any) -> Json:
    return {"external_id": "inv-1", "amount": 150_000, "currency": "IDR", **changed}


def session(**changed: Any) -> Json:
    about = {"reference_id": "inv-1", "session_type": "PAY", "mode": "PAYMENT_LINK"}
    return {**about, "amount": 150_000, "currency": "IDR", "country": "ID", **changed}


def card_request(number: str = "4000000000001000", **changed: Any) -> Json:
    information = {"card_number": number, "expiry_month": "12", "expiry_year": "2040"}
    card = {"channel_properties": {}, "card_information": information}
    method = {"type": "CARD", "reusability": "ONE_TIME_USE", "card": card}
    about = {"reference_id": "top-1", "amount": 50_000, "currency": "IDR"}
    return {**about, "payment_method": method, **changed}


def test_xendit_invoice(simulator: Simulator, receiver: Receiver) -> None:
    answer = simulator.xendit("v2/invoices", invoice(amount=150_000.75, metadata={"a": "b"}))
    made = answer.json()
    assert (made["status"], made["amount"], made["metadata"]) == ("PENDING", 150_000, {"a": "b"})
    assert int(answer.headers["rate-limit-remaining"]) == 59
    # No idempotency: a second one.
    assert simulator.xendit("v2/invoices", invoice()).json()["id"] != made["id"]
    assert len(simulator.xendit("v2/invoices?external_id=inv-1").json()) == 2
    simulator.sim(f"payments/{made['id']}/pay", {"method": "BANK_TRANSFER"})
    (got,) = receiver.wait_for(1)
    assert got["headers"]["x-callback-token"] == "the-token"
    assert "webhook-id" not in got["headers"]
    body = got["body"]
    assert (body["status"], body["paid_amount"], body["payment_method"], body["is_high"]) == (
        "PAID",
        150_000,
        "BANK_TRANSFER",
        False,
    )
    paid = simulator.xendit('v2/invoices?statuses=["PAID"]&external_id=inv-1').json()
    assert [item["id"] for item in paid] == [made["id"]]
    simulator.advance(DAY_S)
    assert simulator.xendit(f"v2/invoices/{made['id']}").json()["status"] == "SETTLED"


def test_xendit_invoices_are_listed_by_pages(simulator: Simulator) -> None:
    ids = [simulator.xendit("v2/invoices", invoice()).json()["id"] for _ in range(3)][::-1]
    first = simulator.xendit("v2/invoices?limit=2").json()
    assert [item["id"] for item in first] == ids[:2]
    rest = simulator.xendit(f"v2/invoices?limit=2&last_invoice={ids[1]}").json()
    assert [item["id"] for item in rest] == ids[2:]
    assert simulator.xendit("v2/invoices?paid_after=2020-01-01T00:00:00Z").json() == []


def test_xendit_invoice_expires(simulator: Simulator, receiver: Receiver) -> None:
    made = simulator.xendit("v2/invoices", invoice()).json()
    expired = simulator.xendit(f"invoices/{made['id']}/expire!", {})
    assert expired.json()["status"] == "EXPIRED"
    again = simulator.xendit(f"invoices/{made['id']}/expire!", {})
    assert again.json()["message"] == "Could not find and update PENDING invoice"
    (got,) = receiver.wait_for(1)
    assert got["body"]["status"] == "EXPIRED"
    assert "paid_amount" not in got["body"]


def test_xendit_session(simulator: Simulator, receiver: Receiver) -> None:
    made = simulator.xendit("sessions", session()).json()
    assert (made["status"], made["payment_id"]) == ("ACTIVE", None)
    simulator.http.post(f"{made['payment_link_url']}/fail")
    simulator.http.post(f"{made['payment_link_url']}/pay")
    got = [item["body"] for item in receiver.wait_for(3)]
    assert [body["event"] for body in got] == [
        "payment.failure",
        "payment_session.completed",
        "payment.capture",
    ]
    done = simulator.xendit(f"sessions/{made['payment_session_id']}").json()
    assert done["status"] == "COMPLETED"
    assert got[2]["data"]["payment_request_id"] == done["payment_request_id"]
    assert got[2]["data"]["captures"][0]["capture_amount"] == 150_000
    refund = {"payment_request_id": done["payment_request_id"], "reason": "OTHERS"}
    assert simulator.xendit("refunds", refund).json()["amount"] == 150_000


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"amount": 10.5}, "INVALID_AMOUNT"),
        ({"amount": "10"}, "API_VALIDATION_ERROR"),
        ({"currency": "EUR"}, "INVALID_CURRENCY"),
        ({"country": "DE"}, "INVALID_COUNTRY"),
        ({"success_return_url": "http://host/ok"}, "INVALID_URL"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "INVALID_EXPIRY_DATE"),
        ({"expires_at": "soon"}, "INVALID_EXPIRY_DATE"),
        ({"session_type": "SAVE"}, "SESSION_TYPE_NOT_SUPPORTED"),
        ({"reference_id": "x" * 65}, "API_VALIDATION_ERROR"),
    ],
)
def test_xendit_session_refused(simulator: Simulator, changed: Json, code: str) -> None:
    answer = simulator.xendit("sessions", session(**changed))
    assert (answer.status_code, answer.json()["error_code"]) == (400, code)


def test_xendit_session_is_cancelled_without_a_word(
    simulator: Simulator, receiver: Receiver
) -> None:
    made = simulator.xendit("sessions", session()).json()
    place = f"sessions/{made['payment_session_id']}/cancel"
    assert simulator.xendit(place, {}).json()["status"] == "CANCELED"
    assert simulator.xendit(place, {}).status_code == 400
    expiring = simulator.xendit("sessions", session()).json()
    simulator.advance(1801)
    place = f"sessions/{expiring['payment_session_id']}"
    assert simulator.xendit(place).json()["status"] == "EXPIRED"
    assert receiver.wait_for(1)[0]["body"]["event"] == "payment_session.expired"
    assert len(receiver.got) == 1


def test_xendit_payment_requests(simulator: Simulator, receiver: Receiver) -> None:
    paid = simulator.xendit("payment_requests", card_request(), idempotency_key="k1")
    assert (paid.status_code, paid.json()["status"]) == (201, "SUCCEEDED")
    again = simulator.xendit("payment_requests", card_request(), idempotency_key="k1")
    assert again.json() == paid.json()
    other = simulator.xendit("payment_requests", card_request(amount=1), idempotency_key="k1")
    assert (other.status_code, other.json()["error_code"]) == (409, "DUPLICATE_ERROR")
    (got,) = receiver.wait_for(1)
    assert got["body"]["event"] == "payment.succeeded"
    assert got["body"]["data"]["payment_request_id"] == paid.json()["id"]
    assert got["headers"]["webhook-id"]
    listed = simulator.xendit("payment_requests?reference_id=top-1").json()
    assert listed == {"data": [paid.json()], "has_more": False}
    failed = simulator.xendit("payment_requests", card_request(amount=10_054)).json()
    assert (failed["status"], failed["failure_code"]) == ("FAILED", "INSUFFICIENT_BALANCE")


def test_xendit_challenge(simulator: Simulator) -> None:
    made = simulator.xendit("payment_requests", card_request("4000000000002503")).json()
    assert made["status"] == "REQUIRES_ACTION"
    (action,) = made["actions"]
    assert (action["action"], action["url_type"], action["method"]) == ("AUTH", "WEB", "GET")
    simulator.http.post(f"{action['url']}/challenge/approve")
    assert simulator.xendit(f"payment_requests/{made['id']}").json()["status"] == "SUCCEEDED"


def test_xendit_sends_the_payer_of_a_saved_method_back(simulator: Simulator) -> None:
    urls = {"success_return_url": "https://shop/ok", "failure_return_url": "https://shop/no"}
    for step, location in (("approve", "https://shop/ok"), ("reject", "https://shop/no")):
        body = card_request(
            payment_method=None,
            payment_method_id="pm-three_d_secure",
            channel_properties=urls,
        )
        made = simulator.xendit("payment_requests", body).json()
        assert made["channel_properties"] == urls
        pressed = simulator.http.post(f"{made['actions'][0]['url']}/challenge/{step}")
        assert pressed.headers["location"] == location
    odd = card_request(payment_method=None, payment_method_id="pm-1", channel_properties="x")
    assert simulator.xendit("payment_requests", odd).status_code == 201


def test_xendit_other_methods(simulator: Simulator) -> None:
    details = {"channel_code": "BCA", "channel_properties": {"customer_name": "Ani"}}
    method = {"type": "VIRTUAL_ACCOUNT", "virtual_account": details}
    made = simulator.xendit("payment_requests", card_request(payment_method=method)).json()
    assert made["status"] == "PENDING"
    shown = made["payment_method"]["virtual_account"]["channel_properties"]
    assert shown["virtual_account_number"].startswith("9999")
    place = f"v3/payment_requests/{made['id']}/simulate"
    assert simulator.xendit(place, {"amount": 50_000}).json()["status"] == "PENDING"
    assert simulator.xendit(f"payment_requests/{made['id']}").json()["status"] == "SUCCEEDED"
    refund = {"payment_request_id": made["id"], "reason": "OTHERS"}
    assert simulator.xendit("refunds", refund).json()["error_code"] == "REFUND_NOT_SUPPORTED"
    saved = card_request(payment_method=None, payment_method_id="pm-insufficient_funds")
    failed = simulator.xendit("payment_requests", saved).json()
    assert failed["failure_code"] == "INSUFFICIENT_BALANCE"


def test_xendit_refunds(simulator: Simulator, receiver: Receiver) -> None:
    made = simulator.xendit("v2/invoices", invoice()).json()
    body = {"invoice_id": made["id"], "amount": 100_000, "reason": "REQUESTED_BY_CUSTOMER"}
    early = simulator.xendit("refunds", body)
    assert early.json()["error_code"] == "INELIGIBLE_TRANSACTION"
    simulator.sim(f"payments/{made['id']}/pay", {})
    refund = simulator.xendit("refunds", body, idempotency_key="r1").json()
    assert refund["status"] == "PENDING"
    assert simulator.xendit("refunds", body, idempotency_key="r1").json()["id"] == refund["id"]
    too_much = simulator.xendit("refunds", body, idempotency_key="r2")
    assert too_much.json()["error_code"] == "MAXIMUM_REFUND_AMOUNT_REACHED"
    simulator.advance(61)
    done = simulator.xendit(f"refunds/{refund['id']}").json()
    assert (done["status"], done["invoice_id"]) == ("SUCCEEDED", made["id"])
    listed = simulator.xendit(f"refunds?invoice_id={made['id']}").json()
    assert listed == {"data": [done], "has_more": False}
    assert receiver.wait_for(2)[1]["body"]["event"] == "refund.succeeded"


def bank_payout(account: str = "12345678", **changed: Any) -> Json:
    properties = {"account_number": account, "account_holder_name": "Ani"}
    about = {"reference_id": "out-1", "amount": 90_000, "currency": "IDR"}
    return {**about, "channel_code": "ID_BCA", "channel_properties": properties, **changed}


def test_xendit_payouts(simulator: Simulator, receiver: Receiver) -> None:
    missing = simulator.xendit("v2/payouts", bank_payout())
    assert (missing.status_code, missing.json()["error_code"]) == (400, "API_VALIDATION_ERROR")
    payout = simulator.xendit("v2/payouts", bank_payout(), idempotency_key="p1").json()
    assert payout["status"] == "ACCEPTED"
    again = simulator.xendit("v2/payouts", bank_payout(), idempotency_key="p1").json()
    assert again["id"] == payout["id"]
    other = simulator.xendit("v2/payouts", bank_payout(amount=1), idempotency_key="p1")
    assert (other.status_code, other.json()["error_code"]) == (409, "DUPLICATE_ERROR")
    back = simulator.xendit("v2/payouts", bank_payout("12340002"), idempotency_key="p2").json()
    bad = simulator.xendit("v2/payouts", bank_payout("12340001"), idempotency_key="p3").json()
    assert (bad["status"], bad["failure_code"]) == ("FAILED", "INVALID_DESTINATION")
    simulator.advance(121)
    assert simulator.xendit(f"v2/payouts/{payout['id']}").json()["status"] == "SUCCEEDED"
    assert simulator.xendit(f"v2/payouts/{back['id']}").json()["status"] == "REVERSED"
    listed = simulator.xendit("v2/payouts?reference_id=out-1").json()
    assert len(listed["data"]) == 3
    assert sorted(item["body"]["event"] for item in receiver.wait_for(4)) == [
        "payout.failed",
        "payout.reversed",
        "payout.succeeded",
        "payout.succeeded",
    ]


def test_xendit_keys_and_limits(simulator: Simulator) -> None:
    refused = simulator.xendit("v2/invoices", key="xnd_production_x")
    assert (refused.status_code, refused.json()["error_code"]) == (401, "INVALID_API_KEY")
    made = simulator.xendit("v2/invoices", invoice()).json()
    strange = simulator.xendit(f"v2/invoices/{made['id']}", key="xnd_development_other")
    assert strange.json()["error_code"] == "INVOICE_NOT_FOUND_ERROR"
    simulator.sim("settings", {"rate_limit": 2})
    answers = [simulator.xendit("v2/invoices").status_code for _ in range(2)]
    assert answers == [200, 429]
    simulator.advance(61)
    assert simulator.xendit("v2/invoices").status_code == 200


def test_xendit_webhooks_come_again_with_another_time(
    simulator: Simulator, receiver: Receiver
) -> None:
    receiver.statuses = [500] * 10
    simulator.xendit("payment_requests", card_request())
    simulator.flush()
    for wait_s in (900, 2700, 7200, 10_800, 21_600, 43_200, DAY_S):
        simulator.advance(wait_s)
    got = receiver.wait_for(7)
    assert len(receiver.got) == 7
    assert len({item["headers"]["webhook-id"] for item in got}) == 1
    assert len({item["body"]["created"] for item in got}) == 7


# --- Midtrans ------------------------------------------------------------------------------------


def order(order_id: str = "o-1", amount: Any = 200_000, **more: Any) -> Json:
    return {"transaction_details": {"order_id": order_id, "gross_amount": amount}, **more}


def card_token(simulator: Simulator, number: str = "4811111111111114") -> str:
    query = {"client_key": "SB-Mid-client-x", "card_number": number, "card_cvv": "123"}
    query |= {"card_exp_month": "12", "card_exp_year": "2040"}
    answer = simulator.http.get("/midtrans-api/v2/token", params=query).json()
    assert answer["status_code"] == "200"
    return str(answer["token_id"])


def card_charge(simulator: Simulator, number: str = "4811111111111114", **more: Any) -> Json:
    details = {"token_id": card_token(simulator, number), **more}
    return order(payment_type="credit_card", credit_card=details)


def test_midtrans_golden_signatures() -> None:
    assert signature_key(
        "1111", "200", "100000.00", "askvnoibnosifnboseofinbofinfgbiufglnbfg"
    ).startswith("edc076b21793ebe3e17926350f5b8ae67d902fe657b3d0aa31b932d5c127e2375d308a2bc94f3265")
    of_invoice = ("INV-2026-000123", "200")
    key = "SB-Mid-server-TESTKEY"
    good = signature_key(*of_invoice, "150000.00", key)
    assert good == (
        "b7ef1aca68a22ace0e1dd1eafc6e7db33d041f9e3fdb3e6e52649b9e9a4943d1"
        "9ae995d9cc5ee005b9612164815119940e2d1acb2578c1a00554518844055444"
    )
    assert signature_key(*of_invoice, "150000", key).startswith("95886158")


def test_midtrans_snap(simulator: Simulator, receiver: Receiver) -> None:
    items = [{"id": "1", "name": "Consulting", "price": 100_000, "quantity": 2}]
    answer = simulator.snap("transactions", order(item_details=items, custom_field1="t_1"))
    assert answer.status_code == 201
    assert simulator.core("o-1/status").json()["status_code"] == "404"
    taken = simulator.snap("transactions", order())
    assert taken.status_code == 400
    assert taken.json()["error_messages"] == ["transaction_details.order_id has already been taken"]
    simulator.sim(f"payments/{answer.json()['token']}/choose", {"method": "bca_va"})
    assert simulator.core("o-1/status").json()["transaction_status"] == "pending"
    simulator.http.post(f"{answer.json()['redirect_url']}/pay")
    told = [item["body"] for item in receiver.wait_for(2)]
    assert [body["transaction_status"] for body in told] == ["pending", "settlement"]
    for body in told:
        good = signature_key(
            body["order_id"], body["status_code"], body["gross_amount"], MIDTRANS_KEY
        )
        assert body["signature_key"] == good
        assert (body["gross_amount"], body["custom_field1"]) == ("200000.00", "t_1")
    status = simulator.core("o-1/status").json()
    assert (status["status_code"], status["payment_type"]) == ("200", "bank_transfer")
    assert status["va_numbers"][0]["bank"] == "bca"


def test_midtrans_snap_lets_the_payer_try_again(simulator: Simulator, receiver: Receiver) -> None:
    page = simulator.snap("transactions", order()).json()["redirect_url"]
    simulator.http.post(f"{page}/fail")
    assert simulator.core("o-1/status").json()["transaction_status"] == "deny"
    simulator.http.post(f"{page}/pay")
    assert simulator.core("o-1/status").json()["transaction_status"] == "capture"
    told = [item["body"]["transaction_status"] for item in receiver.wait_for(2)]
    assert told == ["deny", "capture"]


def test_midtrans_snap_page_is_cancelled_or_expires(
    simulator: Simulator, receiver: Receiver
) -> None:
    token = simulator.snap("transactions", order()).json()["token"]
    assert simulator.snap(f"transactions/{token}/cancel", {}).json()["canceled_at"]
    again = simulator.snap(f"transactions/{token}/cancel", {}).json()
    assert again["error_messages"] == ["token already canceled"]
    simulator.snap("transactions", order("o-2", page_expiry={"duration": 5, "unit": "minutes"}))
    simulator.advance(301)
    assert simulator.core("o-2/status").json()["status_code"] == "404"
    assert receiver.got == []


def test_midtrans_snap_page_is_not_cancelled_once_it_is_used_or_gone(
    simulator: Simulator, receiver: Receiver
) -> None:
    used = simulator.snap("transactions", order()).json()["token"]
    simulator.sim(f"payments/{used}/choose", {"method": "bca_va"})
    refused = simulator.snap(f"transactions/{used}/cancel", {})
    assert (refused.status_code, refused.json()["error_messages"]) == (
        400,
        ["Transaction is on progress"],
    )
    assert simulator.core("o-1/expire", {}).json()["status_code"] == "407"
    told = [item["body"]["transaction_status"] for item in receiver.wait_for(2)]
    assert told == ["pending", "expire"]
    gone = simulator.snap("transactions", order("o-2")).json()["token"]
    simulator.advance(DAY_S + 1)
    for token, key in ((gone, MIDTRANS_KEY), ("nobody-s", MIDTRANS_KEY), (used, "SB-Mid-server-2")):
        refused = simulator.snap(f"transactions/{token}/cancel", {}, key=key)
        assert (refused.status_code, refused.json()["error_messages"]) == (404, ["token not found"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (order(amount=10.5), "must be an integer"),
        (order(amount=0), "greater than"),
        (order(order_id="a b"), "not allowed"),
        (order(order_id=""), "order_id is required"),
        (
            order(item_details=[{"id": "1", "name": "x", "price": 1, "quantity": 1}]),
            "is not equal to the sum of item_details",
        ),
        ({}, "transaction_details is required"),
    ],
)
def test_midtrans_refuses(simulator: Simulator, body: Json, message: str) -> None:
    snap = simulator.snap("transactions", body)
    assert (snap.status_code, message in snap.json()["error_messages"][0]) == (400, True)
    core = simulator.core("charge", {"payment_type": "qris", **body})
    # Core says it in the body.
    assert (core.status_code, core.json()["status_code"]) == (200, "400")


def test_midtrans_keys(simulator: Simulator) -> None:
    snap = simulator.snap("transactions", order(), key="Mid-server-x")
    assert (snap.status_code, len(snap.json()["error_messages"])) == (401, 2)
    core = simulator.core("o-1/status", key="nonsense")
    assert (core.status_code, core.json()["status_code"]) == (401, "401")


@pytest.mark.parametrize(
    ("number", "status", "code", "fraud"),
    [
        ("4811111111111114", "capture", "200", "accept"),
        ("4911111111111113", "deny", "202", "accept"),
        ("4511111111111117", "capture", "201", "challenge"),
        ("4611111111111116", "deny", "202", "deny"),
        ("4111111111111111", "deny", "202", "accept"),
    ],
)
@pytest.mark.parametrize("is_challenged", [False, True])
def test_midtrans_cards(
    simulator: Simulator, number: str, status: str, code: str, fraud: str, is_challenged: bool
) -> None:
    body = card_charge(simulator, number, authentication=is_challenged)
    shown = simulator.core("charge", body).json()
    if is_challenged:
        assert (shown["status_code"], shown["transaction_status"]) == ("201", "pending")
        simulator.http.post(f"{shown['redirect_url']}/challenge/approve")
        shown = simulator.core("o-1/status").json()
    assert (shown["transaction_status"], shown["status_code"], shown["fraud_status"]) == (
        status,
        code,
        fraud,
    )
    assert simulator.core("charge", body).json()["status_code"] == "406"


def test_midtrans_review(simulator: Simulator) -> None:
    for step, status in (("approve", "capture"), ("deny", "deny")):
        body = card_charge(simulator, "4511111111111117")
        body["transaction_details"]["order_id"] = step
        simulator.core("charge", body)
        assert simulator.core(f"{step}/{step}", {}).json()["transaction_status"] == status
        assert simulator.core(f"{step}/{step}", {}).json()["status_code"] == "412"


def test_midtrans_steps(simulator: Simulator) -> None:
    simulator.core("charge", order(payment_type="bank_transfer"))
    expired = simulator.core("o-1/expire", {}).json()
    assert (expired["status_code"], expired["transaction_status"]) == ("407", "expire")
    assert simulator.core("o-1/expire", {}).json()["status_code"] == "412"
    assert simulator.core("nobody/expire", {}).json()["status_code"] == "404"
    simulator.core("charge", card_charge(simulator) | order("o-2"))
    cancelled = simulator.core("o-2/cancel", {}).json()
    assert (cancelled["status_code"], cancelled["transaction_status"]) == ("200", "cancel")
    used = card_charge(simulator)
    simulator.core("charge", used | order("o-3"))
    again = simulator.core("charge", used | order("o-4")).json()
    assert again["status_code"] == "411"


def test_midtrans_refunds(simulator: Simulator, receiver: Receiver) -> None:
    simulator.core("charge", card_charge(simulator))
    body = {"refund_key": "rf-1", "amount": 50_000, "reason": "wish"}
    assert simulator.core("o-1/refund", body).json()["status_code"] == "412"
    simulator.advance(DAY_S + 1)
    assert simulator.core("o-1/cancel", {}).json()["status_code"] == "412"
    first = simulator.core("o-1/refund/online/direct", body).json()
    assert (first["transaction_status"], first["refund_amount"]) == ("partial_refund", "50000.00")
    again = simulator.core("o-1/refund", body).json()
    assert again["refund_chargeback_id"] == first["refund_chargeback_id"]
    rest = simulator.core("o-1/refund", {"refund_key": "rf-2", "amount": 150_000}).json()
    assert rest["transaction_status"] == "refund"
    too_much = simulator.core("o-1/refund", {"refund_key": "rf-3", "amount": 1}).json()
    assert too_much["status_code"] == "400"
    status = simulator.core("o-1/status").json()
    assert (status["refund_amount"], len(status["refunds"])) == ("200000.00", 2)
    told = [item["body"]["transaction_status"] for item in receiver.wait_for(4)]
    assert told == ["capture", "settlement", "partial_refund", "refund"]


def test_midtrans_idempotency_lasts_five_minutes(simulator: Simulator) -> None:
    body = order(payment_type="qris")
    first = simulator.core("charge", body, Idempotency_Key="k1").json()
    # Neither the body nor the endpoint is compared.
    assert simulator.core("charge", order("o-2"), Idempotency_Key="k1").json() == first
    assert simulator.core("o-1/expire", {}, Idempotency_Key="k1").json() == first
    assert simulator.core("charge", body, Idempotency_Key="k" * 47).json()["status_code"] == "406"
    simulator.advance(301)
    assert simulator.core("charge", body, Idempotency_Key="k1").json()["status_code"] == "406"


def test_midtrans_says_that_a_request_is_in_flight(simulator: Simulator) -> None:
    simulator.fault("slow", {"op": "create_payment"}, ms=300)
    body = order(payment_type="qris")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(simulator.core, "charge", body, Idempotency_Key="k1")
        # The second may come before the first: then it is the slow one.
        answers = [simulator.core("charge", body, Idempotency_Key="k1").status_code]
        answers.append(first.result().status_code)
    assert sorted(answers) == [200, 202]


@pytest.mark.parametrize(("status", "attempts"), [(500, 2), (503, 5), (404, 3), (302, 6)])
def test_midtrans_sends_again_as_often_as_the_answer_deserves(
    simulator: Simulator, receiver: Receiver, status: int, attempts: int
) -> None:
    receiver.statuses = [status] * 10
    simulator.core("charge", order(payment_type="qris"))
    simulator.flush()
    simulator.advance(DAY_S / 2)
    receiver.wait_for(attempts)
    assert len(receiver.got) == attempts
    assert len({item["raw"] for item in receiver.got}) == 1


def test_midtrans_notification_urls_of_a_request(simulator: Simulator, receiver: Receiver) -> None:
    body = order(payment_type="qris")
    urls = f"{receiver.url}/a, {receiver.url}/b"
    simulator.core("charge", body, X_Append_Notification=urls)
    assert sorted(item["path"] for item in receiver.wait_for(3)) == ["/hook", "/hook/a", "/hook/b"]
    body = order("o-2", payment_type="qris")
    simulator.core("charge", body, X_Override_Notification=f"{receiver.url}/own")
    assert receiver.wait_for(4)[3]["path"] == "/hook/own"


# --- Faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "status", "charges"),
    [
        ("http_500", 500, 0),
        ("http_503", 503, 0),
        ("http_429", 429, 0),
        ("http_500_after_commit", 500, 1),
        ("html", 200, 0),
        ("redirect", 302, 0),
        ("garbage", 200, 1),
        ("huge", 200, 1),
        ("slow", 201, 1),
    ],
)
def test_faults_on_answers(simulator: Simulator, effect: str, status: int, charges: int) -> None:
    match = {"gateway": "sandbox", "op": "create_payment", "reference": "order-1"}
    simulator.fault(effect, match, ms=10 if effect == "slow" else 0)
    # Not this one.
    assert simulator.sandbox("payments", charge(reference="other")).status_code == 201
    answer = simulator.sandbox("payments", charge())
    assert answer.status_code == status
    if effect == "huge":
        assert len(answer.content) > 20_000_000
    if effect in {"html", "garbage"}:
        with pytest.raises(json.JSONDecodeError):
            answer.json()
    found = simulator.sandbox("payments?reference=order-1").json()["data"]
    assert len(found) == charges
    assert simulator.sim("faults")["data"] == []


@pytest.mark.parametrize(
    ("effect", "error", "charges"),
    [
        ("timeout_before_commit", httpx.ReadTimeout, 0),
        ("timeout_after_commit", httpx.ReadTimeout, 1),
        ("reset", httpx.ReadError, 0),
        ("reset_after_commit", httpx.ReadError, 1),
    ],
)
@pytest.mark.parametrize("gateway", ["sandbox", "xendit", "midtrans"])
def test_faults_of_connections(
    simulator: Simulator, gateway: str, effect: str, error: type[Exception], charges: int
) -> None:
    ask: dict[str, Callable[[], httpx.Response]] = {
        "sandbox": lambda: simulator.sandbox("payments", charge()),
        "xendit": lambda: simulator.xendit("v2/invoices", invoice()),
        "midtrans": lambda: simulator.snap("transactions", order()),
    }
    simulator.fault(effect, {"gateway": gateway, "op": "create_payment"})
    with simulator.impatient(is_so=error is httpx.ReadTimeout), pytest.raises(error):
        ask[gateway]()
    assert len(simulator.sim("objects")["payments"]) == charges


def test_a_dripping_answer_is_complete_but_never_in_time(simulator: Simulator) -> None:
    simulator.fault("drip", {"op": "get_payment"})
    payment = simulator.sandbox("payments", charge()).json()
    with simulator.http.stream(
        "GET",
        f"/sandbox/v1/payments/{payment['id']}",
        headers={"Authorization": f"Bearer {SANDBOX_KEY}"},
    ) as answer:
        # Each read is quick, so that a read time-out alone does not help.
        pieces = [piece for _, piece in zip(range(3), answer.iter_raw(1), strict=False)]
    assert b"".join(pieces) == b'{"i'


def test_a_fault_lasts_as_often_as_it_was_ordered(simulator: Simulator) -> None:
    simulator.fault("http_503", {"key": SANDBOX_KEY}, times=2)
    codes = [simulator.sandbox("payments").status_code for _ in range(3)]
    assert codes == [503, 503, 200]
    simulator.fault("http_503")
    assert simulator.http.delete("/_sim/faults").status_code == 204
    assert simulator.sandbox("payments").status_code == 200


def test_who_follows_a_redirect_is_seen(simulator: Simulator) -> None:
    simulator.fault("redirect")
    answer = simulator.sandbox("payments", charge())
    simulator.http.post(answer.headers["location"], json={})
    paths = [item["path"] for item in simulator.sim("requests")["data"]]
    assert paths == ["/sandbox/v1/payments", "/elsewhere"]


@pytest.mark.parametrize(
    "body",
    [
        {"effect": "fire"},
        {"effect": "slow", "match": {"colour": "red"}},
        {"effect": "slow", "match": {"op": "dance"}},
        {"effect": "slow", "match": {"key": 1}},
        {"effect": "slow", "ms": "1"},
        {"effect": "slow", "more": 1},
        {"effect": "slow", "ms": 10**9},
        {"effect": "slow", "times": 0},
        {},
    ],
)
def test_a_fault_that_does_not_exist(simulator: Simulator, body: Json) -> None:
    assert simulator.http.post("/_sim/faults", json=body).status_code == 422


def test_faults_on_webhooks(simulator: Simulator, receiver: Receiver) -> None:
    simulator.fault("duplicate_webhook", {"reference": "twice"}, n=6)
    simulator.fault("drop_webhook", {"reference": "never"})
    simulator.fault("wrong_signature", {"reference": "forged"})
    for reference in ("twice", "never", "forged"):
        simulator.sandbox("payments", charge(reference=reference))
    simulator.flush()
    got = receiver.wait_for(7)
    assert len(receiver.got) == 7
    assert len({item["body"]["id"] for item in got}) == 2
    for item in got:
        headers = item["headers"]
        stamp, event_id = headers["webhook-timestamp"], headers["webhook-id"]
        is_good = headers["webhook-signature"] == signature(
            SANDBOX_KEY, event_id, stamp, item["raw"]
        )
        assert is_good == (item["body"]["data"]["reference"] == "twice")


def test_forged_webhooks_of_the_others(simulator: Simulator, receiver: Receiver) -> None:
    simulator.fault("wrong_signature", times=2)
    simulator.xendit("payment_requests", card_request())
    simulator.core("charge", order(payment_type="qris"))
    for item in receiver.wait_for(2):
        if "signature_key" in item["body"]:
            body = item["body"]
            good = signature_key(
                body["order_id"], body["status_code"], body["gross_amount"], MIDTRANS_KEY
            )
            assert body["signature_key"] != good
        else:
            assert item["headers"]["x-callback-token"] != "the-token"


def test_reorder(simulator: Simulator, receiver: Receiver) -> None:
    simulator.fault("reorder", {"gateway": "midtrans"})
    simulator.core("charge", order(payment_type="qris"))
    payment_id = simulator.core("o-1/status").json()["transaction_id"]
    simulator.sim(f"payments/{payment_id}/pay", {})
    simulator.advance(61)
    told = [item["body"]["transaction_status"] for item in receiver.wait_for(2)]
    assert told == ["settlement", "pending"]
    assert simulator.core("o-1/status").json()["transaction_status"] == "settlement"


def test_paid_after_it_expired(simulator: Simulator, receiver: Receiver) -> None:
    simulator.fault("late_paid_after_expiry", {"reference": "inv-1"})
    made = simulator.xendit("v2/invoices", invoice()).json()
    simulator.xendit(f"invoices/{made['id']}/expire!", {})
    simulator.advance(61)
    told = [item["body"]["status"] for item in receiver.wait_for(2)]
    assert told == ["EXPIRED", "PAID"]


def test_paid_after_it_was_called_off(simulator: Simulator, receiver: Receiver) -> None:
    simulator.fault("late_paid_after_expiry", {"reference": "order-1"})
    payment = simulator.sandbox("payments", hosted()).json()
    simulator.sandbox(f"payments/{payment['id']}/cancel", {})
    simulator.advance(61)
    assert events(receiver.wait_for(2)) == ["payment.canceled", "payment.succeeded"]
    assert simulator.sandbox(f"payments/{payment['id']}").json()["status"] == "succeeded"


def test_settled_and_then_denied(simulator: Simulator, receiver: Receiver) -> None:
    simulator.fault("settlement_then_deny")
    simulator.core("charge", order(payment_type="bank_transfer"))
    payment_id = simulator.core("o-1/status").json()["transaction_id"]
    simulator.sim(f"payments/{payment_id}/pay", {})
    simulator.advance(61)
    told = [item["body"]["transaction_status"] for item in receiver.wait_for(3)]
    assert told == ["pending", "settlement", "deny"]


def test_amounts_that_change(simulator: Simulator, receiver: Receiver) -> None:
    simulator.fault("amount_delta", {"gateway": "sandbox"}, amount=-100)
    payment = simulator.sandbox("payments", charge()).json()
    assert payment["amount"] == 2500
    assert simulator.sandbox(f"payments/{payment['id']}").json()["amount"] == 2400
    assert receiver.wait_for(1)[0]["body"]["data"]["amount"] == 2400
    simulator.fault("fee_imposition", {"gateway": "midtrans"}, amount=4440)
    simulator.core("charge", order(payment_type="qris"))
    body = receiver.wait_for(2)[1]["body"]
    assert body["gross_amount"] == "204440.00"
    assert body["metadata"]["extra_info"]["gross_amount_info"] == {
        "original_amount": "200000.00",
        "gross_amount": "204440.00",
        "customer_imposed_payment_fee": "4440.00",
    }
    assert body["signature_key"] == signature_key("o-1", "201", "204440.00", MIDTRANS_KEY)


def test_another_order_id_in_the_status(simulator: Simulator) -> None:
    simulator.fault("order_id_swapped_in_status", {"reference": "o-1"})
    made = simulator.core("charge", order(payment_type="dana")).json()
    assert made["order_id"] == "o-1"
    assert simulator.core("o-1/status").json()["order_id"] == made["transaction_id"]


def test_failures_by_chance(simulator: Simulator) -> None:
    simulator.sim("settings", {"failure_rate": 1})
    for _ in range(5):
        try:
            assert simulator.sandbox("payments").status_code in {500, 503}
        except httpx.TransportError:
            continue
    assert simulator.http.post("/_sim/settings", json={"failure_rate": 2}).status_code == 422


# --- References ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reference",
    ["INV-2026-000001-1", "INV-2026-000001-1-2", "Z" * 36, "0" * 36, "a-B-9" * 7 + "x"],
)
def test_merchants_use_references_apart_from_each_other(
    simulator: Simulator, reference: str
) -> None:
    """Two of them use the same one, at each gateway: each has its own payment, and no other."""
    ids = set()
    for number in ("1", "2"):
        native, xendit = f"sk_sandbox_merchant{number}", f"xnd_development_merchant{number}"
        midtrans = f"SB-Mid-server-merchant{number}"
        about = {"reference": reference, "notify_url": "http://127.0.0.1:9/hook"}
        made = simulator.sandbox("payments", hosted(**about), key=native, Idempotency_Key="k")
        link = simulator.xendit("v2/invoices", invoice(external_id=reference), key=xendit)
        page = simulator.snap("transactions", order(reference), key=midtrans)
        assert (made.status_code, link.status_code, page.status_code) == (201, 200, 201)
        simulator.sim(f"payments/{page.json()['token']}/choose", {})
        status = simulator.core(f"{reference}/status", key=midtrans).json()
        assert (status["order_id"], status["transaction_status"]) == (reference, "pending")
        listed = simulator.sandbox(f"payments?reference={reference}", key=native).json()["data"]
        assert [each["id"] for each in listed] == [made.json()["id"]]
        links = simulator.xendit(f"v2/invoices?external_id={reference}", key=xendit).json()
        assert [each["id"] for each in links] == [link.json()["id"]]
        ids |= {made.json()["id"], link.json()["id"], status["transaction_id"]}
    assert len(ids) == 6
    # What one of them calls off stays open for the other.
    simulator.core(f"{reference}/expire", {}, key="SB-Mid-server-merchant1")
    status = simulator.core(f"{reference}/status", key="SB-Mid-server-merchant2").json()
    assert status["transaction_status"] == "pending"


# --- The desk, the file, the process -------------------------------------------------------------


@pytest.mark.parametrize("step", ["settle", "cancel", "choose", "challenge/approve", "dance"])
def test_a_step_that_a_gateway_does_not_have(simulator: Simulator, step: str) -> None:
    payment = simulator.sandbox("payments", charge()).json()
    answer = simulator.http.post(f"/_sim/payments/{payment['id']}/{step}")
    assert answer.status_code == (404 if step == "dance" else 409)
    assert simulator.sandbox(f"payments/{payment['id']}").json() == payment


def test_requests_are_seen_as_they_came(simulator: Simulator) -> None:
    simulator.sandbox("payments", charge(), X_Trace="abc")
    (seen,) = simulator.sim("requests?reference=order-1&op=create_payment")["data"]
    assert (seen["method"], seen["path"], seen["gateway"]) == (
        "POST",
        "/sandbox/v1/payments",
        "sandbox",
    )
    assert seen["headers"]["x-trace"] == "abc"
    assert json.loads(seen["body"]) == charge()


def test_unknown_places(simulator: Simulator) -> None:
    for path in ("/", "/nothing", "/_sim/nothing", "/checkout/x", "/checkout/x/pay"):
        assert simulator.http.get(path).status_code == 404, path
    assert simulator.http.get("/checkout/\N{SNOWMAN}").status_code == 404
    assert simulator.sandbox("nothing").status_code == 404
    assert simulator.xendit("nothing").status_code == 404
    assert simulator.http.post("/_sim/payments/x/pay").status_code == 404
    assert simulator.http.post("/_sim/clock/advance", json={"seconds": -1}).status_code == 422
    big = simulator.http.post("/sandbox/v1/payments", content=b"x" * 1_000_001)
    assert big.status_code == 413


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    receiver = Receiver()
    try:
        with (
            running_simulator(state_file=file, settle_s=60, webhook_delay_s=30) as made,
            Simulator(made.url) as simulator,
        ):
            body = charge(notify_url=receiver.url)
            payment = simulator.sandbox("payments", body, Idempotency_Key="k1").json()
            payout = simulator.sandbox("payouts", payout_to()).json()
            made_invoice = simulator.xendit("v2/invoices", invoice(currency="USD", amount=10.5))
            simulator.snap("transactions", order())
            simulator.fault("http_503", {"op": "get_refund"})
            # It was saved before it was answered: nothing is lost by a kill.
            saved = json.loads(file.read_bytes())
            assert saved["payments"][0]["id"] == payment["id"]
        with running_simulator(state_file=file) as made, Simulator(made.url) as simulator:
            assert simulator.sandbox(f"payments/{payment['id']}").json() == payment
            again = simulator.sandbox("payments", body, Idempotency_Key="k1").json()
            assert again == payment
            place = f"v2/invoices/{made_invoice.json()['id']}"
            assert simulator.xendit(place).json() == made_invoice.json()
            assert simulator.snap("transactions", order()).status_code == 400
            assert len(simulator.sim("faults")["data"]) == 1
            assert receiver.got == []
            simulator.advance(61)
            assert simulator.sandbox(f"payouts/{payout['id']}").json()["status"] == "settled"
            assert events(receiver.wait_for(1)) == ["payment.succeeded"]
    finally:
        receiver.stop()


def test_nobody_waits_on_an_automatic_clock() -> None:
    receiver = Receiver()
    try:
        receiver.statuses = [500, 500]
        with running_simulator(hurries=True, late_s=1800) as made, Simulator(made.url) as simulator:
            body = charge("4000000000000077", notify_url=receiver.url)
            simulator.sandbox("payments", body)
            assert events(receiver.wait_for(3)) == ["payment.succeeded"] * 3
    finally:
        receiver.stop()


def test_many_at_once(simulator: Simulator) -> None:
    def ask(place: int) -> int:
        return simulator.sandbox("payments", charge(reference=f"r{place}")).status_code

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        assert set(pool.map(ask, range(200))) == {201}
    assert len(simulator.sim("objects")["payments"]) == 200


def test_it_runs_as_a_program_without_django(tmp_path: Path) -> None:
    began = time.monotonic()
    program = subprocess.Popen(
        [
            *(sys.executable, "-X", "importtime", "-m", "payments.gateways.sandbox.simulator"),
            *("--port", "0", "--state", str(tmp_path / "state.json"), "--delay-ms", "1"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        url = program.stdout.readline().split()[-1]
        assert httpx.get(f"{url}/_sim/health", timeout=DEADLINE_S).json() == {"status": "ok"}
        took_s = time.monotonic() - began
    finally:
        program.terminate()
        _, imports = program.communicate(timeout=DEADLINE_S)
    assert program.returncode == 0
    assert "django" not in imports
    # A tenth of this on an idle machine.
    assert took_s < 3
