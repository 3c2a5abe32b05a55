"""
The sandbox's adapter, over real HTTP to the simulator: what is sent, what each status means, and
its notifications, signed as Standard Webhooks.
"""

import base64
import datetime as dt
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from hypothesis import HealthCheck, given
from hypothesis import settings as runs
from hypothesis import strategies as st

from core.ids import new_id
from core.money import Money
from payments.gateways.calling import Caller
from payments.gateways.port import (
    CardData,
    GatewayFault,
    Kind,
    NoSuchObject,
    Notification,
    PaymentOrder,
    PayoutOrder,
    RefundOrder,
    Refused,
    State,
    Unauthentic,
    Uncertain,
    Unreadable,
)
from payments.gateways.sandbox import adapter
from payments.gateways.sandbox.adapter import Sandbox as Adapter
from payments.gateways.sandbox.adapter import make
from payments.tests.scripted import ScriptedGateway, scripted_gateway
from tests.gateways import GOOD_CARD, Sandbox

KEY = "sk_sandbox_merchant1"
HOOK = "http://127.0.0.1:9/hook"
Json = dict[str, Any]


def connected(url: str, key: str = KEY) -> Adapter:
    return make(Caller("sandbox", f"sandbox:{new_id()}", url, {}), {"secret_key": key})


@pytest.fixture
def gateway(sandbox: Sandbox) -> Adapter:
    return connected(sandbox.url)


@pytest.fixture
def scripted(settings: LazySettings) -> Iterator[ScriptedGateway]:
    settings.GATEWAY_CONNECT_TIMEOUT_S = settings.GATEWAY_READ_TIMEOUT_S = 1.0
    with scripted_gateway() as found:
        yield found


def order(**changed: Any) -> PaymentOrder:
    values: Json = {
        "reference": "TU-ABC-1",
        "amount": Money(1050, "USD"),
        "idempotency_key": "0192-1",
        "card": CardData(GOOD_CARD, 12, 2099, "987"),
        "notify_url": HOOK,
    }
    return PaymentOrder(**{**values, **changed})


def refund_of(payment_id: str, **changed: Any) -> RefundOrder:
    values: Json = {
        "reference": "RF-ABC",
        "payment_reference": "TU-ABC-1",
        "payment_gateway_id": payment_id,
        "payment_method": "card",
        "payment_amount": Money(1050, "USD"),
        "amount": Money(50, "USD"),
        "idempotency_key": "0194",
    }
    return RefundOrder(**{**values, **changed})


def payout(**changed: Any) -> PayoutOrder:
    values: Json = {
        "reference": "PO-ABC",
        "amount": Money(1050, "USD"),
        "idempotency_key": "0193",
        "beneficiary_name": "Ada",
        "country": "DE",
        "iban": "DE02120300000000202051",
        "notify_url": HOOK,
    }
    return PayoutOrder(**{**values, **changed})


def asked(gateway: Adapter, gateway_id: str = "") -> Any:
    return gateway.get_payment(
        reference="TU-ABC-1", gateway_id=gateway_id, method="card", currency="USD"
    )


def call_off(gateway: Adapter, gateway_id: str = "", method: str = "hosted") -> Any:
    return gateway.cancel_payment(
        reference="TU-ABC-1",
        gateway_id=gateway_id,
        method=method,
        amount=Money(1050, "USD"),
        redirect_url="https://sandbox.example/checkout/1",
    )


def assert_sent(row: Json, method: str, path: str, body: str = "", **query: str) -> None:
    assert (row["method"], row["path"]) == (method, f"/sandbox/v1/{path}")
    assert row["query"] == {name: [value] for name, value in query.items()}
    assert row["headers"]["authorization"] == f"Bearer {KEY}"
    assert row["body"] == body


def last(sandbox: Sandbox, op: str) -> Json:
    row: Json = sandbox.requests(op)[-1]
    return row


# --- What is sent --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "method"),
    [
        (
            {},
            '{"type":"card","number":"4242424242424242","exp_month":12,"exp_year":2099,"cvc":"987"}',
        ),
        ({"token": "tok_success"}, '{"token":"tok_success"}'),
        ({"card": None}, '{"type":"hosted"}'),
    ],
)
def test_a_payment_is_made_and_asked_for(
    gateway: Adapter, sandbox: Sandbox, changed: Json, method: str
) -> None:
    made = gateway.create_payment(order(**changed))

    row = last(sandbox, "create_payment")
    assert_sent(
        row,
        "POST",
        "payments",
        '{"reference":"TU-ABC-1","amount":1050,"currency":"USD",'
        f'"payment_method":{method},"notify_url":"{HOOK}"}}',
    )
    assert row["headers"]["idempotency-key"] == "0192-1"
    assert asked(gateway, made.gateway_id) == made
    assert_sent(last(sandbox, "get_payment"), "GET", f"payments/{made.gateway_id}")
    assert asked(gateway) == made
    assert_sent(last(sandbox, "list_payments"), "GET", "payments", reference="TU-ABC-1")


def test_a_refund_is_made_and_asked_for(gateway: Adapter, sandbox: Sandbox) -> None:
    payment = gateway.create_payment(order())
    wanted = refund_of(payment.gateway_id, reason="Two were paid")

    made = gateway.refund(wanted)

    row = last(sandbox, "refund")
    assert_sent(
        row,
        "POST",
        "refunds",
        f'{{"payment":"{payment.gateway_id}","reference":"RF-ABC","amount":50,'
        '"reason":"Two were paid"}',
    )
    assert row["headers"]["idempotency-key"] == "0194"
    assert (made.reference, made.amount) == ("RF-ABC", Money(50, "USD"))
    assert gateway.refund(wanted).gateway_id == made.gateway_id
    for gateway_id in (made.gateway_id, ""):
        assert gateway.get_refund(wanted, gateway_id=gateway_id).gateway_id == made.gateway_id


def test_a_payout_is_sent_and_asked_for(gateway: Adapter, sandbox: Sandbox) -> None:
    made = gateway.create_payout(payout())

    row = last(sandbox, "create_payout")
    assert_sent(
        row,
        "POST",
        "payouts",
        '{"reference":"PO-ABC","amount":1050,"currency":"USD","beneficiary":'
        '{"name":"Ada","country":"DE","iban":"DE02120300000000202051"},'
        f'"notify_url":"{HOOK}"}}',
    )
    assert row["headers"]["idempotency-key"] == "0193"
    assert (made.reference, made.amount) == ("PO-ABC", Money(1050, "USD"))
    assert gateway.create_payout(payout()).gateway_id == made.gateway_id
    for gateway_id in (made.gateway_id, ""):
        found = gateway.get_payout(reference="PO-ABC", gateway_id=gateway_id, currency="USD")
        assert found.gateway_id == made.gateway_id


def test_payments_are_listed_page_by_page(gateway: Adapter, sandbox: Sandbox) -> None:
    for number in range(101):
        gateway.create_payment(order(reference=f"TU-{number}", idempotency_key=f"{number}"))

    listed = gateway.list_payments(since=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))

    assert listed is not None
    assert {each.reference for each in listed} == {f"TU-{number}" for number in range(101)}
    assert len(sandbox.requests("list_payments")) == 2


def test_a_list_that_never_ends_is_given_up_and_not_taken_for_all(
    scripted: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "LIST_MAX", 300)
    page = [thing(id=f"pay_{number}") for number in range(100)]
    scripted.says({"data": page, "has_more": True})

    with pytest.raises(Uncertain):
        connected(scripted.url).list_payments(since=dt.datetime.now(dt.UTC))

    assert len(scripted.requests) == 3


# --- What the answers mean -----------------------------------------------------------------------


def thing(**changed: Any) -> Json:
    body: Json = {
        "id": "x_1",
        "reference": "TU-ABC-1",
        "amount": 1050,
        "currency": "USD",
        "status": "succeeded",
        "failure_code": None,
        "refunded_amount": 0,
        "a_field_of_tomorrow": {"is": ["ignored"]},
    }
    return {**body, **changed}


Call = Callable[[Adapter], Any]
GET_PAYMENT: Call = lambda it: asked(it, "x_1")  # noqa: E731  a row of a table
GET_REFUND: Call = lambda it: it.get_refund(refund_of("pay_1"), gateway_id="x_1")  # noqa: E731
CALL_OFF: Call = lambda it: call_off(it, "x_1")  # noqa: E731
GET_PAYOUT: Call = lambda it: it.get_payout(  # noqa: E731
    reference="PO-ABC", gateway_id="x_1", currency="USD"
)


@pytest.mark.parametrize(
    ("call", "status", "state"),
    [
        (GET_PAYMENT, "pending", State.PENDING),
        (GET_PAYMENT, "requires_action", State.PENDING),
        (GET_PAYMENT, "succeeded", State.SUCCEEDED),
        (GET_PAYMENT, "failed", State.FAILED),
        (GET_PAYMENT, "expired", State.EXPIRED),
        (GET_PAYMENT, "canceled", State.CANCELLED),
        (GET_PAYMENT, "reversed", State.REVERSED),
        (GET_REFUND, "pending", State.PENDING),
        (GET_REFUND, "succeeded", State.SUCCEEDED),
        (GET_REFUND, "failed", State.FAILED),
        (GET_PAYOUT, "submitted", State.PENDING),
        (GET_PAYOUT, "settled", State.SUCCEEDED),
        (GET_PAYOUT, "returned", State.REVERSED),
        (GET_PAYOUT, "failed", State.FAILED),
    ],
)
def test_statuses(scripted: ScriptedGateway, call: Call, status: str, state: State) -> None:
    scripted.says(thing(status=status))

    found = call(connected(scripted.url))

    assert (found.state, found.raw_status, found.amount) == (state, status, Money(1050, "USD"))


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "SUCCEEDED"},
        {"status": None},
        {"status": ["succeeded"]},
        {"id": ""},
        {"id": None},
        {"amount": None},
        {"amount": 10.5},
        {"amount": "1050"},
        {"amount": True},
        {"currency": "usd"},
        {"currency": None},
    ],
)
@pytest.mark.parametrize("call", [GET_PAYMENT, CALL_OFF, GET_REFUND, GET_PAYOUT])
def test_what_we_do_not_understand_leaves_us_in_doubt(
    scripted: ScriptedGateway, call: Call, changed: Json
) -> None:
    # A word that all three have.
    scripted.says(thing(**{"status": "failed", **changed}))

    with pytest.raises(Uncertain):
        call(connected(scripted.url))


def test_what_the_sandbox_does_not_have_is_not_found(gateway: Adapter) -> None:
    for gateway_id in ("x_1", ""):
        with pytest.raises(NoSuchObject):
            asked(gateway, gateway_id)
        with pytest.raises(NoSuchObject):
            gateway.get_refund(refund_of("pay_1"), gateway_id=gateway_id)
        with pytest.raises(NoSuchObject):
            gateway.get_payout(reference="PO-ABC", gateway_id=gateway_id, currency="USD")


def test_several_payments_of_one_reference_are_for_a_person(gateway: Adapter) -> None:
    gateway.create_payment(order(idempotency_key="1"))
    gateway.create_payment(order(idempotency_key="2"))

    with pytest.raises(Uncertain) as caught:
        asked(gateway)

    assert caught.value.code == "paid_twice"


def test_a_payment_whose_answer_is_lost_is_made_once(gateway: Adapter, sandbox: Sandbox) -> None:
    sandbox.fault("http_500_after_commit", "create_payment", times=9)

    with pytest.raises(Uncertain):
        gateway.create_payment(order())

    assert len(sandbox.requests("create_payment")) == 1
    assert asked(gateway).state is State.SUCCEEDED


def test_a_key_that_was_used_for_another_request_leaves_us_in_doubt(gateway: Adapter) -> None:
    payment = gateway.create_payment(order())
    gateway.refund(refund_of(payment.gateway_id))
    gateway.create_payout(payout())

    for call in (
        lambda: gateway.refund(refund_of(payment.gateway_id, amount=Money(51, "USD"))),
        lambda: gateway.create_payout(payout(beneficiary_name="Eve")),
    ):
        with pytest.raises(Uncertain):
            call()


# --- Calling off ---------------------------------------------------------------------------------


def page_of(gateway: Adapter) -> str:
    """Open a page; return the payment's id."""
    return gateway.create_payment(order(card=None)).gateway_id


def test_a_page_is_called_off(gateway: Adapter, sandbox: Sandbox) -> None:
    payment_id = page_of(gateway)

    found = call_off(gateway, payment_id)

    row = last(sandbox, "cancel_payment")
    assert_sent(row, "POST", f"payments/{payment_id}/cancel")
    assert "content-type" not in row["headers"]
    assert (found.state, found.raw_status) == (State.CANCELLED, "canceled")
    assert (found.gateway_id, found.reference) == (payment_id, "TU-ABC-1")
    assert found.amount == Money(1050, "USD")
    assert asked(gateway, payment_id) == found
    assert call_off(gateway, payment_id) == found


@pytest.mark.parametrize(
    ("step", "state"),
    [("pay", State.SUCCEEDED), ("fail", State.FAILED), ("expire", State.EXPIRED)],
)
def test_a_page_that_was_used_meanwhile_is_reported_as_it_is(
    gateway: Adapter, sandbox: Sandbox, step: str, state: State
) -> None:
    payment_id = page_of(gateway)
    sandbox.act(f"payments/{payment_id}/{step}")

    assert call_off(gateway, payment_id).state is state


def test_a_page_whose_id_was_lost_is_called_off_by_its_reference(
    gateway: Adapter, sandbox: Sandbox
) -> None:
    with pytest.raises(NoSuchObject):
        call_off(gateway)
    payment_id = page_of(gateway)

    found = call_off(gateway)

    assert (found.state, found.gateway_id) == (State.CANCELLED, payment_id)
    assert call_off(gateway).state is State.CANCELLED
    # What is no longer open is only asked about.
    assert len(sandbox.requests("cancel_payment")) == 1


@pytest.mark.parametrize("method", ["token", "card"])
def test_only_a_page_is_called_off(gateway: Adapter, sandbox: Sandbox, method: str) -> None:
    assert call_off(gateway, "pay_1", method) is None
    assert sandbox.requests() == []


@pytest.mark.parametrize(
    "effect", ["timeout_after_commit", "reset_after_commit", "http_500_after_commit", "garbage"]
)
def test_a_page_is_called_off_though_the_answer_is_lost(
    gateway: Adapter, sandbox: Sandbox, effect: str
) -> None:
    payment_id = page_of(gateway)
    sandbox.fault(effect, "cancel_payment")

    assert call_off(gateway, payment_id).state is State.CANCELLED

    assert len(sandbox.requests("cancel_payment")) == 1


@pytest.mark.parametrize("effect", ["timeout_before_commit", "reset", "http_500", "http_503"])
def test_a_page_that_is_still_open_after_no_answer_leaves_us_in_doubt(
    gateway: Adapter, sandbox: Sandbox, effect: str
) -> None:
    payment_id = page_of(gateway)
    sandbox.fault(effect, "cancel_payment")

    with pytest.raises(Uncertain):
        call_off(gateway, payment_id)

    assert asked(gateway, payment_id).state is State.PENDING


def test_a_revoked_key_calls_nothing_off(gateway: Adapter, sandbox: Sandbox) -> None:
    payment_id = page_of(gateway)
    account = {"gateway": "sandbox", "key": KEY, "is_revoked": True}
    sandbox.http.post("/_sim/accounts", json=account).raise_for_status()

    with pytest.raises(Refused) as caught:
        call_off(gateway, payment_id)

    assert caught.value.is_about_us
    assert sandbox.requests("get_payment") == []


def test_the_notification_of_a_page_that_was_called_off_is_believed(
    gateway: Adapter, sandbox: Sandbox
) -> None:
    payment_id = page_of(gateway)
    call_off(gateway, payment_id)

    [sent, *_] = sandbox.notifications()
    told = gateway.verify_and_parse(
        headers={name.lower(): value for name, value in sent["headers"].items()},
        body=sent["body"].encode(),
        secrets=[],
    )

    assert (told.kind, told.gateway_id, told.state) == (
        Kind.PAYMENT,
        payment_id,
        State.CANCELLED,
    )


# --- Notifications -------------------------------------------------------------------------------


def signature(event_id: str, sent_at: str, body: bytes, key: str = KEY) -> str:
    """By the text of Standard Webhooks, apart from the code that is tested."""
    signed = f"{event_id}.{sent_at}.".encode() + body
    return (
        "v1," + base64.b64encode(hmac.new(key.encode(), signed, hashlib.sha256).digest()).decode()
    )


BODY = json.dumps({"id": "evt_1", "type": "payment.succeeded", "data": thing()}).encode()


def take(
    body: bytes = BODY,
    *,
    event_id: str = "evt_1",
    sent_at: str = "",
    given: str = "",
    key: str = KEY,
    secrets: tuple[str, ...] = (),
) -> Notification:
    """Bring a notification, rightly signed unless something is said about the signature."""
    at = sent_at or str(int(time.time()))
    headers = {
        "webhook-id": event_id,
        "webhook-timestamp": at,
        "webhook-signature": given or signature(event_id, at, body),
    }
    return connected("", key).verify_and_parse(headers=headers, body=body, secrets=secrets)


def ago(seconds: float) -> str:
    return str(int(time.time() - seconds))


def test_a_genuine_notification_is_believed() -> None:
    told = take()

    assert told == Notification(
        event_id="evt_1",
        kind=Kind.PAYMENT,
        reference="TU-ABC-1",
        gateway_id="x_1",
        state=State.SUCCEEDED,
        raw_status="succeeded",
        is_settled=True,
    )


def test_the_example_of_standard_webhooks_is_signed_as_they_say() -> None:
    """The vector of their own libraries' tests; its key is the one after whsec_."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signed = b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330." + body

    expected = "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    assert base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() == expected


@pytest.mark.parametrize("position", range(0, len(BODY), 3))
def test_a_change_of_any_byte_is_refused(position: int) -> None:
    at = ago(0)
    changed = BODY[:position] + bytes([BODY[position] ^ 1]) + BODY[position + 1 :]

    with pytest.raises(Unauthentic):
        take(changed, sent_at=at, given=signature("evt_1", at, BODY))


def test_a_changed_id_time_or_key_is_refused() -> None:
    at = ago(5)
    genuine = signature("evt_1", at, BODY)

    assert take(sent_at=at, given=genuine)
    wrong: list[Json] = [
        {"event_id": "evt_2", "sent_at": at},
        {"event_id": "evt_1 ", "sent_at": at},
        {"sent_at": ago(4)},
        {"sent_at": f"0{at}"},
        {"sent_at": at, "key": "sk_sandbox_merchant2"},
    ]
    for changed in wrong:
        with pytest.raises(Unauthentic):
            take(given=genuine, **changed)


def test_letters_that_move_between_id_and_time_are_refused() -> None:
    at = ago(0)

    with pytest.raises(Unauthentic):
        take(event_id=f"evt_1.{at[:2]}", sent_at=at[2:], given=signature("evt_1", at, BODY))


@pytest.mark.parametrize("position", range(len("v1,") + 44))
def test_a_change_of_any_letter_of_the_signature_is_refused(position: int) -> None:
    at = ago(0)
    genuine = signature("evt_1", at, BODY)
    changed = genuine[:position] + chr(ord(genuine[position]) ^ 1) + genuine[position + 1 :]

    with pytest.raises(Unauthentic):
        take(sent_at=at, given=changed)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_refused(missing: str) -> None:
    """Also where the signature is right for what is there."""
    event_id, at = (
        "" if missing == name else value
        for name, value in (("webhook-id", "evt_1"), ("webhook-timestamp", ago(0)))
    )
    headers = {
        "webhook-id": event_id,
        "webhook-timestamp": at,
        "webhook-signature": signature(event_id, at, BODY),
    }
    del headers[missing]

    with pytest.raises(Unauthentic):
        connected("").verify_and_parse(headers=headers, body=BODY, secrets=[])


@pytest.mark.parametrize(
    ("seconds", "is_taken"),
    [(0, True), (23 * 3600, True), (25 * 3600, False), (-23 * 3600, True), (-25 * 3600, False)],
)
def test_what_was_signed_long_ago_is_refused(seconds: int, is_taken: bool) -> None:
    """Retries come for an hour; whatever is older is a replay."""
    at = ago(seconds)

    if is_taken:
        assert take(sent_at=at)
    else:
        with pytest.raises(Unauthentic):
            take(sent_at=at)


@pytest.mark.parametrize("at", ["now", "-1", "1e9", "9" * 5_000, "²", "٣", "1614265330.5", " "])
def test_a_time_that_is_none_is_refused(at: str) -> None:
    with pytest.raises(Unauthentic):
        take(sent_at=at)


def test_one_of_several_signatures_is_enough() -> None:
    at = ago(0)
    genuine, other = signature("evt_1", at, BODY), signature("evt_1", at, BODY, "another-key")

    assert take(sent_at=at, given=f"{other} {genuine}")
    assert take(sent_at=at, given=f"{genuine} {other} v1a,x")
    for none in (f"{other} v1,", f"v2,{genuine[3:]}", genuine[3:], f"{genuine},x", "v1,", " "):
        with pytest.raises(Unauthentic):
            take(sent_at=at, given=none)


def test_while_keys_are_rotated_both_are_taken() -> None:
    assert take(key="sk_sandbox_merchant2", secrets=(KEY,))
    assert take(secrets=("sk_sandbox_merchant2",))
    with pytest.raises(Unauthentic):
        take(key="sk_sandbox_merchant2", secrets=("sk_sandbox_merchant3",))


def test_a_signature_without_a_key_is_refused() -> None:
    at = ago(0)

    with pytest.raises(Unauthentic):
        take(sent_at=at, given=signature("evt_1", at, BODY, ""))


@pytest.mark.parametrize(
    ("kind", "status", "found", "state"),
    [
        ("payment.succeeded", "succeeded", Kind.PAYMENT, State.SUCCEEDED),
        ("payment.failed", "failed", Kind.PAYMENT, State.FAILED),
        ("payment.expired", "expired", Kind.PAYMENT, State.EXPIRED),
        ("payment.reversed", "reversed", Kind.PAYMENT, State.REVERSED),
        ("payment.pending", "pending", Kind.PAYMENT, State.PENDING),
        ("refund.succeeded", "succeeded", Kind.REFUND, State.SUCCEEDED),
        ("refund.failed", "failed", Kind.REFUND, State.FAILED),
        ("payout.settled", "settled", Kind.PAYOUT, State.SUCCEEDED),
        ("payout.returned", "returned", Kind.PAYOUT, State.REVERSED),
        ("payout.failed", "failed", Kind.PAYOUT, State.FAILED),
        ("payment.of_tomorrow", "teleported", Kind.PAYMENT, None),
        ("customer.created", "succeeded", Kind.OTHER, None),
    ],
)
def test_events(kind: str, status: str, found: Kind, state: State | None) -> None:
    told = take(json.dumps({"type": kind, "data": thing(status=status)}).encode())

    assert (told.kind, told.state, told.raw_status) == (found, state, status)


def test_notifications_of_the_simulator_are_believed(gateway: Adapter, sandbox: Sandbox) -> None:
    payment = gateway.create_payment(order())
    refund = gateway.refund(refund_of(payment.gateway_id))
    paid_out = gateway.create_payout(payout())
    sandbox.advance(60)

    told = [
        gateway.verify_and_parse(
            headers={name.lower(): value for name, value in each["headers"].items()},
            body=each["body"].encode(),
            secrets=[],
        )
        for each in sandbox.notifications(3)
    ]

    assert {(each.kind, each.gateway_id, each.state) for each in told} == {
        (Kind.PAYMENT, payment.gateway_id, State.SUCCEEDED),
        (Kind.REFUND, refund.gateway_id, State.SUCCEEDED),
        (Kind.PAYOUT, paid_out.gateway_id, State.SUCCEEDED),
    }


def test_a_retry_has_the_identity_of_the_first_and_another_fact_has_another(
    gateway: Adapter, sandbox: Sandbox
) -> None:
    gateway.create_payment(order())
    sandbox.notifications(1)
    gateway.create_payment(order(reference="TU-ABC-2", idempotency_key="2"))
    # Nobody listens, so each comes again.
    sandbox.notifications(2)
    sandbox.advance(2)
    rows = sandbox.notifications(4)

    identities: dict[str, set[str]] = {}
    for row in rows:
        headers = {name.lower(): value for name, value in row["headers"].items()}
        told = gateway.verify_and_parse(headers=headers, body=row["body"].encode(), secrets=[])
        identities.setdefault(told.reference, set()).add(told.event_id)

    assert {reference: len(found) for reference, found in identities.items()} == {
        "TU-ABC-1": 1,
        "TU-ABC-2": 1,
    }
    assert identities["TU-ABC-1"] != identities["TU-ABC-2"]


def test_a_forged_notification_of_the_simulator_is_refused(
    gateway: Adapter, sandbox: Sandbox
) -> None:
    sandbox.fault("wrong_signature", "create_payment")
    gateway.create_payment(order())
    [forged, *_] = sandbox.notifications()

    with pytest.raises(Unauthentic):
        gateway.verify_and_parse(
            headers={name.lower(): value for name, value in forged["headers"].items()},
            body=forged["body"].encode(),
            secrets=[],
        )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"{}",
        b'{"type":"payment.succeeded"}',
        b'{"type":"payment.succeeded","data":[]}',
        b'{"type":"payment.succeeded","data":{"id":""}}',
        b'{"data":{"amount":1E99999999999999999999}}',
        b"[" * 100_000,
    ],
)
def test_what_makes_no_sense_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        take(body)


# --- Whatever comes ------------------------------------------------------------------------------

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet=st.characters(), max_size=20),
    st.sampled_from(["succeeded", "settled", "pending", "USD", "payment.failed", "x_1"]),
)
names = st.sampled_from([*thing(), "data", "type", "has_more", "expires_at", "created_at"])
anything = st.recursive(
    plain,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=8)),
    max_leaves=20,
)


@runs(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(body=anything, call=st.sampled_from([GET_PAYMENT, CALL_OFF, GET_REFUND, GET_PAYOUT, asked]))
def test_whatever_is_answered_is_a_report_or_a_fault(
    scripted: ScriptedGateway, body: Any, call: Call
) -> None:
    scripted.says(json.dumps(body).encode())

    try:
        report = call(connected(scripted.url))
    except GatewayFault:
        return

    assert report.gateway_id
    assert isinstance(report.amount, Money)


@runs(max_examples=300, deadline=None)
@given(body=anything, event_id=st.text(max_size=300).filter(bool))
def test_whatever_is_notified_is_a_notification_or_not(body: Any, event_id: str) -> None:
    try:
        told = take(json.dumps(body).encode(), event_id=event_id)
    except Unreadable:
        return

    texts = [told.reference, told.gateway_id, told.raw_status, told.failure_code]
    # What the database takes.
    assert all(b"\x00" not in text.encode() for text in texts)
    assert 0 < len(told.event_id) <= 255
