"""
The Midtrans adapter against the documented formats of Core and Snap: what is sent, byte for byte;
what each pair of statuses means; which notifications are believed.

Over real HTTP, to the simulator, or to a server that says what the simulator would not.
"""

import base64
import contextlib
import datetime as dt
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from hypothesis import HealthCheck, example, given
from hypothesis import settings as runs
from hypothesis import strategies as st

from core.ids import new_id
from core.money import Money
from payments.gateways.calling import Caller
from payments.gateways.midtrans.adapter import Midtrans, make
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
    Unreachable,
    Unreadable,
)
from payments.tests.scripted import ScriptedGateway, answer, scripted_gateway
from tests.gateways import GOOD_CARD, Sandbox

KEY = "SB-Mid-server-TESTKEY"
# base64("SB-Mid-server-TESTKEY:"): the key, a colon, and no password.
AUTHORIZATION = "Basic U0ItTWlkLXNlcnZlci1URVNUS0VZOg=="
ACCEPTED, DENIED = "4811111111111114", "4911111111111113"
CHALLENGED, FRAUD = "4511111111111117", "4611111111111116"
HOOK = "https://florin.example/hook"
Json = dict[str, Any]


def connected(core_url: str, snap_url: str = "", key: str = KEY) -> Midtrans:
    caller = Caller("midtrans", f"midtrans:{new_id()}", core_url, {})
    return make(caller, snap_url or core_url, {"server_key": key})


@pytest.fixture
def gateway(sandbox: Sandbox) -> Midtrans:
    return connected(f"{sandbox.url}/midtrans-api", f"{sandbox.url}/midtrans-app")


@pytest.fixture
def scripted(settings: LazySettings) -> Iterator[ScriptedGateway]:
    settings.GATEWAY_CONNECT_TIMEOUT_S = settings.GATEWAY_READ_TIMEOUT_S = 1.0
    with scripted_gateway() as found:
        yield found


def order(**changed: Any) -> PaymentOrder:
    values: Json = {
        "reference": "TU-ABC-1",
        "amount": Money(150_000, "IDR"),
        "idempotency_key": "0192-1",
        "description": "Pocket money",
        "return_url": "https://shop.example/back",
        "notify_url": HOOK,
    }
    return PaymentOrder(**{**values, **changed})


def refund_of(amount: int = 50_000, **changed: Any) -> RefundOrder:
    values: Json = {
        "reference": "RF-ABC",
        "payment_reference": "TU-ABC-1",
        "payment_gateway_id": "",
        "payment_method": "token",
        "payment_amount": Money(150_000, "IDR"),
        "amount": Money(amount, "IDR"),
        "idempotency_key": "0194",
        "reason": "Two were paid",
    }
    return RefundOrder(**{**values, **changed})


def token_of(sandbox: Sandbox, number: str) -> str:
    """Make a token as Midtrans's script in a browser does."""
    card = {"card_number": number, "card_exp_month": "12", "card_exp_year": "2099"}
    params = {"client_key": "SB-Mid-client-1", "card_cvv": "123", **card}
    made = sandbox.http.get("/midtrans-api/v2/token", params=params).json()
    return str(made["token_id"])


def asked(gateway: Midtrans, method: str = "token", reference: str = "TU-ABC-1") -> Any:
    return gateway.get_payment(reference=reference, gateway_id="", method=method, currency="IDR")


def pay(
    gateway: Midtrans, sandbox: Sandbox, *, settle: bool = False, number: str = ACCEPTED
) -> str:
    """Have a card charged and its challenge approved; return Midtrans's id."""
    made = gateway.create_payment(order(token=token_of(sandbox, number)))
    sandbox.act(f"payments/{made.gateway_id}/challenge/approve")
    if settle:
        sandbox.act(f"payments/{made.gateway_id}/settle")
    return made.gateway_id


def open_page(gateway: Midtrans, sandbox: Sandbox) -> str:
    """Open a page of Snap; return the token in its URL."""
    made = gateway.create_payment(order())
    return made.redirect_url.rpartition("/")[2]


def call_off(
    gateway: Midtrans, redirect_url: str, *, gateway_id: str = "", method: str = "hosted"
) -> Any:
    return gateway.cancel_payment(
        reference="TU-ABC-1",
        gateway_id=gateway_id,
        method=method,
        amount=Money(150_000, "IDR"),
        redirect_url=redirect_url,
    )


def last(sandbox: Sandbox, op: str) -> Json:
    row: Json = sandbox.requests(op)[-1]
    return row


def assert_sent(row: Json, method: str, path: str, body: str = "") -> None:
    """The request is this one, to the byte."""
    assert (row["method"], row["path"], row["query"]) == (method, path, {})
    assert row["headers"]["authorization"] == AUTHORIZATION
    assert row["headers"]["accept"] == "application/json"
    assert row["body"] == body
    assert row["headers"].get("content-type") == ("application/json" if body else None)


# --- What is sent --------------------------------------------------------------------------------


def test_a_token_is_charged(gateway: Midtrans, sandbox: Sandbox) -> None:
    token = token_of(sandbox, ACCEPTED)

    made = gateway.create_payment(order(token=token))

    row = last(sandbox, "create_payment")
    assert_sent(
        row,
        "POST",
        "/midtrans-api/v2/charge",
        '{"payment_type":"credit_card",'
        '"transaction_details":{"order_id":"TU-ABC-1","gross_amount":150000},'
        f'"credit_card":{{"token_id":"{token}","authentication":true}}}}',
    )
    assert row["headers"]["idempotency-key"] == "0192-1"
    assert row["headers"]["x-override-notification"] == HOOK
    assert (made.reference, made.state, made.amount) == (
        "TU-ABC-1",
        State.PENDING,
        Money(150_000, "IDR"),
    )
    # Its bank wants to see the payer first.
    assert made.redirect_url.startswith(f"{sandbox.url}/checkout/")


def test_a_page_is_opened(gateway: Midtrans, sandbox: Sandbox) -> None:
    before = dt.datetime.now(dt.UTC)

    made = gateway.create_payment(order())

    row = last(sandbox, "create_payment")
    assert_sent(
        row,
        "POST",
        "/midtrans-app/snap/v1/transactions",
        '{"transaction_details":{"order_id":"TU-ABC-1","gross_amount":150000},'
        '"credit_card":{"secure":true},"expiry":{"unit":"minutes","duration":60},'
        '"page_expiry":{"unit":"minutes","duration":60},'
        '"callbacks":{"finish":"https://shop.example/back"}}',
    )
    assert row["headers"]["x-override-notification"] == HOOK
    assert (made.reference, made.state, made.amount) == (
        "TU-ABC-1",
        State.PENDING,
        Money(150_000, "IDR"),
    )
    assert made.redirect_url.startswith(f"{sandbox.url}/checkout/")
    # Snap says neither an id nor when the page ends.
    assert made.gateway_id == ""
    assert made.expires_at is not None
    assert (
        dt.timedelta(0)
        <= made.expires_at - before - dt.timedelta(hours=1)
        < dt.timedelta(minutes=1)
    )


def test_without_an_address_for_notifications_the_account_s_own_holds(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    gateway.create_payment(order(notify_url="", return_url=""))
    token = token_of(sandbox, ACCEPTED)
    gateway.create_payment(order(reference="TU-ABC-2", notify_url="", token=token))

    rows = sandbox.requests("create_payment")
    assert all("x-override-notification" not in row["headers"] for row in rows)
    assert "callbacks" not in json.loads(rows[0]["body"])


def test_an_idempotency_key_is_no_longer_than_midtrans_reads(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    token = token_of(sandbox, ACCEPTED)

    gateway.create_payment(order(token=token, idempotency_key="k" * 50))

    assert len(last(sandbox, "create_payment")["headers"]["idempotency-key"]) == 36


def test_a_card_number_is_never_sent(gateway: Midtrans, sandbox: Sandbox) -> None:
    card = CardData(GOOD_CARD, 12, 2099, "987")
    token = token_of(sandbox, ACCEPTED)

    gateway.create_payment(order(card=card))
    gateway.create_payment(order(reference="TU-ABC-2", token=token, card=card))

    rows = sandbox.requests("create_payment")
    assert len(rows) == 2
    assert GOOD_CARD not in json.dumps(rows)
    assert not re.search(r"\b987\b", "".join(row["body"] for row in rows))


@runs(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(amount=st.integers(1, 999_999_999_999))
@example(amount=1)
@example(amount=150_000)
@example(amount=999_999_999_999)
def test_amounts_are_whole_rupiah(sandbox: Sandbox, amount: int) -> None:
    gateway = connected(f"{sandbox.url}/midtrans-api", f"{sandbox.url}/midtrans-app")
    reference, money = f"TU-{new_id().hex}", Money(amount, "IDR")
    token = token_of(sandbox, ACCEPTED)

    made = gateway.create_payment(
        order(reference=reference, amount=money, token=token, idempotency_key=new_id().hex)
    )
    gateway.create_payment(order(reference=f"{reference}-2", amount=money))
    sandbox.act(f"payments/{made.gateway_id}/challenge/approve")
    sandbox.act(f"payments/{made.gateway_id}/settle")
    refund = gateway.refund(refund_of(amount, payment_reference=reference, payment_amount=money))

    charge, page = (row["body"] for row in sandbox.requests("create_payment")[-2:])
    assert f'"order_id":"{reference}","gross_amount":{amount}}}' in charge
    assert f'"order_id":"{reference}-2","gross_amount":{amount}}}' in page
    assert f'"amount":{amount},' in last(sandbox, "refund")["body"]
    # What Midtrans understood is what was meant.
    found = asked(gateway, reference=reference)
    assert [made.amount, found.amount, refund.amount] == [money] * 3
    assert found.refunded == amount


def test_the_status_is_asked_for_by_reference(gateway: Midtrans, sandbox: Sandbox) -> None:
    made = gateway.create_payment(order(token=token_of(sandbox, ACCEPTED)))

    found = asked(gateway)

    assert_sent(last(sandbox, "get_payment"), "GET", "/midtrans-api/v2/TU-ABC-1/status")
    assert (found.gateway_id, found.reference) == (made.gateway_id, "TU-ABC-1")


def test_a_reference_is_one_part_of_the_path_whatever_it_holds(scripted: ScriptedGateway) -> None:
    scripted.says(transaction())

    asked(connected(scripted.url), reference="a/b?c=d#e")

    assert scripted.requests[0].path == "/v2/a%2Fb%3Fc%3Dd%23e/status"


def test_a_part_is_refunded_and_asked_for(gateway: Midtrans, sandbox: Sandbox) -> None:
    pay(gateway, sandbox, settle=True)

    refund = gateway.refund(refund_of())

    assert_sent(
        last(sandbox, "refund"),
        "POST",
        "/midtrans-api/v2/TU-ABC-1/refund",
        '{"refund_key":"RF-ABC","amount":50000,"reason":"Two were paid"}',
    )
    assert (refund.reference, refund.state, refund.raw_status, refund.amount) == (
        "RF-ABC",
        State.SUCCEEDED,
        "partial_refund",
        Money(50_000, "IDR"),
    )
    found = gateway.get_refund(refund_of(), gateway_id="")
    assert_sent(last(sandbox, "get_payment"), "GET", "/midtrans-api/v2/TU-ABC-1/status")
    assert found == refund
    assert gateway.refund(refund_of()).gateway_id == refund.gateway_id
    assert len(sandbox.objects("RF-ABC")) == 1


def test_each_of_several_refunds_is_told_from_the_others(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    pay(gateway, sandbox, settle=True)
    made = [
        gateway.refund(refund_of(amount, reference=f"RF-{amount}"))
        for amount in (20_000, 30_000, 100_000)
    ]

    found = [
        gateway.get_refund(refund_of(amount, reference=f"RF-{amount}"), gateway_id="")
        for amount in (20_000, 30_000, 100_000)
    ]

    assert [each.amount.minor_units for each in found] == [20_000, 30_000, 100_000]
    assert [each.gateway_id for each in found] == [each.gateway_id for each in made]
    assert [each.raw_status for each in made] == ["partial_refund", "partial_refund", "refund"]
    assert asked(gateway).refunded == 150_000


def test_a_refund_that_was_never_asked_for_is_not_found(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    pay(gateway, sandbox, settle=True)
    gateway.refund(refund_of(reference="RF-OTHER"))

    with pytest.raises(NoSuchObject):
        gateway.get_refund(refund_of(), gateway_id="")


def test_payouts_are_refused_and_nothing_is_sent(gateway: Midtrans, sandbox: Sandbox) -> None:
    wanted = PayoutOrder("PO-1", Money(1, "IDR"), "1", "Ani", "ID", account_number="1234")

    calls: list[Callable[[], Any]] = [
        lambda: gateway.create_payout(wanted),
        lambda: gateway.get_payout(reference="PO-1", gateway_id="", currency="IDR"),
    ]
    for call in calls:
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.is_about_us
    assert sandbox.requests() == []


def test_there_is_no_list(gateway: Midtrans, sandbox: Sandbox) -> None:
    assert gateway.list_payments(since=dt.datetime.now(dt.UTC)) is None
    assert sandbox.requests() == []


# --- What the answers mean -----------------------------------------------------------------------


def transaction(**changed: Any) -> Json:
    body: Json = {
        "status_code": "200",
        "status_message": "Success, transaction is found",
        "transaction_id": "57d5293c-e65f-4a29-95e4-5959c3fa335b",
        "order_id": "TU-ABC-1",
        "gross_amount": "150000.00",
        "currency": "IDR",
        "payment_type": "credit_card",
        "transaction_time": "2026-11-20 14:31:00",
        "transaction_status": "settlement",
        "fraud_status": "accept",
        "a_field_of_tomorrow": {"is": ["ignored"]},
    }
    return {name: value for name, value in {**body, **changed}.items() if value is not ...}


# The table of the documents, each row as a status has it and as a notification has it.
STATUSES = [
    ("201", "pending", "accept", State.PENDING, False),
    ("201", "pending", ..., State.PENDING, False),
    ("200", "authorize", "accept", State.REVIEW, False),
    ("200", "capture", "accept", State.SUCCEEDED, False),
    ("201", "capture", "challenge", State.REVIEW, False),
    ("202", "capture", "deny", State.FAILED, False),
    ("200", "settlement", "accept", State.SUCCEEDED, True),
    ("200", "settlement", ..., State.SUCCEEDED, True),
    ("200", "settlement", "challenge", State.REVIEW, False),
    ("202", "settlement", "deny", State.FAILED, False),
    ("202", "deny", "accept", State.FAILED, False),
    ("202", "deny", "deny", State.FAILED, False),
    ("202", "deny", ..., State.FAILED, False),
    ("200", "cancel", "accept", State.CANCELLED, False),
    ("407", "expire", "accept", State.EXPIRED, False),
    ("202", "expire", ..., State.EXPIRED, False),
    ("202", "failure", "accept", State.FAILED, False),
    ("200", "refund", "accept", State.SUCCEEDED, True),
    ("200", "partial_refund", "accept", State.SUCCEEDED, True),
    ("200", "chargeback", "accept", State.REVERSED, False),
    ("200", "partial_chargeback", "accept", State.REVIEW, False),
]


@pytest.mark.parametrize(("code", "status", "fraud", "state", "is_settled"), STATUSES)
def test_statuses(
    scripted: ScriptedGateway, code: str, status: str, fraud: Any, state: State, is_settled: bool
) -> None:
    scripted.says(transaction(status_code=code, transaction_status=status, fraud_status=fraud))

    found = asked(connected(scripted.url))

    assert (found.state, found.raw_status, found.is_settled) == (state, status, is_settled)
    assert found.amount == Money(150_000, "IDR")
    assert not found.may_still_succeed


@pytest.mark.parametrize(
    ("status", "fraud"),
    [
        ("Settlement", "accept"),
        ("paid", "accept"),
        ("settled", "accept"),
        ("capture", "maybe"),
        ("settlement", "maybe"),
        ("capture", "ACCEPT"),
        ("reversal", ...),
    ],
)
@pytest.mark.parametrize("token", ["", "tok"])
def test_an_unknown_word_leaves_us_in_doubt(
    scripted: ScriptedGateway, status: str, fraud: Any, token: str
) -> None:
    scripted.says(transaction(transaction_status=status, fraud_status=fraud))
    gateway = connected(scripted.url)

    for call in (
        lambda: asked(gateway, "token" if token else "hosted"),
        lambda: gateway.create_payment(order(token="tok")),
    ):
        with pytest.raises(Uncertain) as caught:
            call()
        assert caught.value.code == "status"


@pytest.mark.parametrize(
    ("status", "may_still_succeed"),
    [
        ("deny", True),
        ("failure", True),
        ("expire", False),
        ("cancel", False),
        ("settlement", False),
    ],
)
def test_an_attempt_on_a_page_may_be_followed_by_a_better_one(
    scripted: ScriptedGateway, status: str, may_still_succeed: bool
) -> None:
    scripted.says(transaction(status_code="202", transaction_status=status))
    gateway = connected(scripted.url)

    assert asked(gateway, "hosted").may_still_succeed is may_still_succeed
    assert asked(gateway, "token").may_still_succeed is False


@pytest.mark.parametrize(
    ("number", "approved"),
    [
        (ACCEPTED, (State.SUCCEEDED, "capture", "")),
        (DENIED, (State.FAILED, "deny", "05")),
        (CHALLENGED, (State.REVIEW, "capture", "")),
        (FRAUD, (State.FAILED, "deny", "05")),
    ],
)
def test_test_cards(
    gateway: Midtrans, sandbox: Sandbox, number: str, approved: tuple[State, str, str]
) -> None:
    pay(gateway, sandbox, number=number)

    found = asked(gateway)

    assert (found.state, found.raw_status, found.failure_code) == approved


def test_a_reviewed_payment_is_approved_or_denied(gateway: Midtrans, sandbox: Sandbox) -> None:
    for reference, step, state in (
        ("TU-1", "approve", State.SUCCEEDED),
        ("TU-2", "deny", State.FAILED),
    ):
        token = token_of(sandbox, CHALLENGED)
        made = gateway.create_payment(
            order(reference=reference, token=token, idempotency_key=reference)
        )
        sandbox.act(f"payments/{made.gateway_id}/challenge/approve")
        assert asked(gateway, reference=reference).state is State.REVIEW
        sandbox.http.post(f"/midtrans-api/v2/{reference}/{step}", auth=(KEY, ""), json={})

        assert asked(gateway, reference=reference).state is state


def test_settled_and_then_denied(gateway: Midtrans, sandbox: Sandbox) -> None:
    sandbox.fault("settlement_then_deny", "create_payment")
    payment_id = pay(gateway, sandbox, settle=True)
    assert asked(gateway).raw_status == "settlement"
    sandbox.advance(5)

    found = asked(gateway)

    assert (found.gateway_id, found.state, found.raw_status) == (payment_id, State.FAILED, "deny")
    assert not found.may_still_succeed


def test_an_expired_payment(gateway: Midtrans, sandbox: Sandbox) -> None:
    made = gateway.create_payment(order(token=token_of(sandbox, ACCEPTED)))
    sandbox.act(f"payments/{made.gateway_id}/expire")

    found = asked(gateway)

    assert (found.state, found.raw_status, found.failure_code) == (
        State.EXPIRED,
        "expire",
        "expire",
    )


def test_a_fee_on_top_is_none_of_the_payment(gateway: Midtrans, sandbox: Sandbox) -> None:
    sandbox.fault("fee_imposition", "create_payment", amount=4000)
    page = open_page(gateway, sandbox)
    sandbox.act(f"payments/{page}/pay")

    found = asked(gateway, "hosted")

    raw = sandbox.http.get("/midtrans-api/v2/TU-ABC-1/status", auth=(KEY, "")).json()
    assert raw["gross_amount"] == "154000.00"
    assert found.amount == Money(150_000, "IDR")
    assert found.state is State.SUCCEEDED


@pytest.mark.parametrize(
    ("changed", "amount"),
    [
        (
            {"metadata": {"extra_info": {"gross_amount_info": {"original_amount": 149_000}}}},
            149_000,
        ),
        ({"metadata": {"extra_info": {"gross_amount_info": {}}}}, 150_000),
        ({"metadata": {"extra_info": None}}, 150_000),
        ({"metadata": "text"}, 150_000),
        ({"gross_amount": 150_000}, 150_000),
        ({"gross_amount": "150000"}, 150_000),
        ({"currency": ...}, 150_000),
    ],
)
def test_amounts_as_midtrans_writes_them(
    scripted: ScriptedGateway, changed: Json, amount: int
) -> None:
    scripted.says(transaction(**changed))

    assert asked(connected(scripted.url)).amount == Money(amount, "IDR")


@pytest.mark.parametrize(
    "changed",
    [
        {"gross_amount": ...},
        {"gross_amount": "150000.50"},
        {"gross_amount": "1E999999"},
        {"gross_amount": True},
        {"currency": "XXX"},
        {"refund_amount": "a part"},
        {"metadata": {"extra_info": {"gross_amount_info": {"original_amount": "x"}}}},
    ],
)
def test_an_amount_that_makes_no_sense_leaves_us_in_doubt(
    scripted: ScriptedGateway, changed: Json
) -> None:
    scripted.says(transaction(**changed))

    with pytest.raises(Uncertain):
        asked(connected(scripted.url))


def test_the_order_id_of_some_banks_is_the_transaction_s(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    payment_id = pay(gateway, sandbox)
    sandbox.fault("order_id_swapped_in_status", "get_payment")

    found = asked(gateway)

    assert (found.reference, found.gateway_id) == ("TU-ABC-1", payment_id)


def test_the_order_id_of_another_order_is_told_as_it_is(scripted: ScriptedGateway) -> None:
    scripted.says(transaction(order_id="TU-OTHER-1"))

    assert asked(connected(scripted.url)).reference == "TU-OTHER-1"


def test_there_is_no_transaction_before_a_method_is_chosen(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    page = open_page(gateway, sandbox)
    with pytest.raises(NoSuchObject):
        asked(gateway, "hosted")

    sandbox.act(f"payments/{page}/choose")

    assert asked(gateway, "hosted").state is State.PENDING


# --- Refusals, most of them with HTTP 200 --------------------------------------------------------

Call = Callable[[Midtrans], Any]
CALLS: list[tuple[str, Call]] = [
    ("charge", lambda it: it.create_payment(order(token="tok"))),
    ("get", lambda it: asked(it)),
    ("call off", lambda it: call_off(it, "")),
    ("refund", lambda it: it.refund(refund_of())),
    ("get a refund", lambda it: it.get_refund(refund_of(), gateway_id="")),
]
each_call = pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in CALLS])


@each_call
@pytest.mark.parametrize("http_status", ["200", "as the body"])
@pytest.mark.parametrize(
    ("code", "fault", "is_about_us"),
    [
        ("400", Refused, False),
        ("401", Refused, True),
        ("402", Refused, False),
        ("403", Refused, True),
        ("404", NoSuchObject, False),
        ("405", Refused, False),
        ("408", Refused, False),
        ("410", Refused, False),
        ("411", Refused, False),
        ("413", Refused, False),
        ("414", Refused, False),
        ("429", Unreachable, False),
        ("500", Uncertain, False),
        ("501", Uncertain, False),
        ("502", Uncertain, False),
        ("503", Uncertain, False),
        ("504", Uncertain, False),
        ("505", Uncertain, False),
    ],
)
def test_the_code_in_the_body_counts(
    scripted: ScriptedGateway,
    call: Call,
    http_status: str,
    code: str,
    fault: type[GatewayFault],
    is_about_us: bool,
) -> None:
    status = 200 if http_status == "200" else int(code)
    scripted.says({"status_code": code, "status_message": "Not this time."}, status=status)

    with pytest.raises(fault) as caught:
        call(connected(scripted.url))

    assert type(caught.value) is fault
    if isinstance(caught.value, Refused):
        assert (caught.value.code, caught.value.detail) == (code, "Not this time.")
        assert caught.value.is_about_us is is_about_us


@each_call
@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        None,
        {"status_code": "200"},
        {"status_code": "200", "transaction_status": ""},
        {"status_code": "202", "status_message": "being processed"},
        {"transaction_status": "settlement"},
        {"status_code": "300", "transaction_status": "settlement"},
        {"status_code": "500", "transaction_status": "settlement"},
        {"status_code": ["200"], "transaction_status": "settlement"},
    ],
)
def test_an_answer_that_says_nothing_leaves_us_in_doubt(
    scripted: ScriptedGateway, call: Call, body: Any
) -> None:
    scripted.says(body)

    with pytest.raises(Uncertain):
        call(connected(scripted.url))


@pytest.mark.parametrize("token", [True, False])
def test_an_order_that_midtrans_has_leaves_us_in_doubt_and_is_charged_once(
    gateway: Midtrans, sandbox: Sandbox, token: bool
) -> None:
    def create(key: str) -> None:
        made = token_of(sandbox, ACCEPTED) if token else ""
        gateway.create_payment(order(token=made, idempotency_key=key))

    create("first")

    with pytest.raises(Uncertain) as caught:
        create("second")

    assert caught.value.code == "406"
    assert len(sandbox.objects("TU-ABC-1")) == 1


@pytest.mark.parametrize(
    "message",
    [
        "transaction_details.order_id has already been taken",
        "transaction_details.order_id sudah digunakan",
    ],
)
def test_snap_says_that_it_has_an_order_in_two_languages(
    scripted: ScriptedGateway, message: str
) -> None:
    scripted.says({"error_messages": [message]}, status=400)

    with pytest.raises(Uncertain) as caught:
        connected(scripted.url).create_payment(order())

    assert caught.value.code == "406"


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (400, {"error_messages": ["transaction_details.order_id is required"]}, Refused),
        (401, {"error_messages": ["Access denied", "Visit https://example"]}, Refused),
        (500, {"error_messages": ["Sorry"], "locale": "en"}, Uncertain),
        (201, {"token": "66e4fa55"}, Uncertain),
        (201, {"redirect_url": None}, Uncertain),
        (201, ["https://app.example"], Uncertain),
    ],
)
def test_other_answers_of_snap(
    scripted: ScriptedGateway, status: int, body: Any, fault: type[GatewayFault]
) -> None:
    scripted.says(body, status=status)

    with pytest.raises(fault) as caught:
        connected(scripted.url).create_payment(order())

    assert type(caught.value) is fault
    assert len(scripted.requests) == 1


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize(
    "effect", ["timeout_after_commit", "reset_after_commit", "http_500_after_commit", "garbage"]
)
def test_a_payment_whose_answer_is_lost_is_made_once(
    gateway: Midtrans, sandbox: Sandbox, effect: str, token: bool
) -> None:
    made = token_of(sandbox, ACCEPTED) if token else ""
    sandbox.fault(effect, "create_payment", times=9)

    with pytest.raises(Uncertain):
        gateway.create_payment(order(token=made))

    assert len(sandbox.requests("create_payment")) == 1
    [there] = sandbox.objects("TU-ABC-1")
    if token:
        assert asked(gateway).gateway_id == there["id"]


@pytest.mark.parametrize("effect", ["http_500_after_commit", "reset_after_commit", "garbage"])
def test_a_refund_whose_answer_is_lost_is_sent_again_and_is_once(
    gateway: Midtrans, sandbox: Sandbox, effect: str
) -> None:
    pay(gateway, sandbox, settle=True)
    sandbox.fault(effect, "refund", times=2)

    refund = gateway.refund(refund_of())

    assert len(sandbox.requests("refund")) == 3
    [there] = sandbox.objects("RF-ABC")
    assert there["id"] == refund.gateway_id
    assert asked(gateway).refunded == 50_000


# --- Calling off ---------------------------------------------------------------------------------

REFUSES = {"status_code": "412", "status_message": "cannot be updated"}
PAGE = "https://app.midtrans.com/snap/v4/redirection/tok-1"


def test_a_page_on_which_nobody_has_chosen_is_called_off_by_its_token(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    made = gateway.create_payment(order())
    token = made.redirect_url.rpartition("/")[2]

    found = call_off(gateway, made.redirect_url)

    [row] = sandbox.requests("cancel_payment")
    assert_sent(row, "POST", f"/midtrans-app/snap/v1/transactions/{token}/cancel", "{}")
    assert (found.state, found.raw_status) == (State.CANCELLED, "canceled")
    assert (found.gateway_id, found.reference) == ("", "TU-ABC-1")
    # Midtrans does not say it: what was asked for.
    assert found.amount == Money(150_000, "IDR")
    assert "Cancelled" in sandbox.http.get(made.redirect_url).text
    assert call_off(gateway, made.redirect_url) == found


def test_a_page_on_which_somebody_has_begun_to_pay_expires(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    made = gateway.create_payment(order())
    token = made.redirect_url.rpartition("/")[2]
    sandbox.act(f"payments/{token}/choose")

    found = call_off(gateway, made.redirect_url)

    assert_sent(last(sandbox, "cancel_payment"), "POST", "/midtrans-api/v2/TU-ABC-1/expire", "{}")
    assert (found.state, found.raw_status) == (State.EXPIRED, "expire")
    assert (found.reference, found.amount) == ("TU-ABC-1", Money(150_000, "IDR"))
    assert asked(gateway, "hosted").gateway_id == found.gateway_id
    assert call_off(gateway, made.redirect_url).state is State.EXPIRED


@pytest.mark.parametrize("method", ["bca_va", "credit_card"])
def test_a_page_that_was_paid_meanwhile_is_reported_as_paid(
    gateway: Midtrans, sandbox: Sandbox, method: str
) -> None:
    made = gateway.create_payment(order())
    token = made.redirect_url.rpartition("/")[2]
    sandbox.http.post(f"/_sim/payments/{token}/pay", json={"method": method}).raise_for_status()

    found = call_off(gateway, made.redirect_url)

    assert found.state is State.SUCCEEDED
    assert found == asked(gateway, "hosted")


def test_a_page_with_a_denied_attempt_is_called_off(gateway: Midtrans, sandbox: Sandbox) -> None:
    made = gateway.create_payment(order())
    sandbox.act(f"payments/{made.redirect_url.rpartition('/')[2]}/fail")
    assert asked(gateway, "hosted").may_still_succeed

    assert call_off(gateway, made.redirect_url).state is State.EXPIRED


def test_a_denied_attempt_that_cannot_be_called_off_may_still_succeed(
    scripted: ScriptedGateway,
) -> None:
    on_progress = answer({"error_messages": ["Transaction is on progress"]}, status=400)
    denied = transaction(status_code="202", transaction_status="deny")
    scripted.will(on_progress, answer(REFUSES), answer(denied))

    found = call_off(connected(scripted.url), PAGE)

    assert (found.state, found.may_still_succeed) == (State.FAILED, True)


def test_a_page_that_ran_out_is_not_found(gateway: Midtrans, sandbox: Sandbox) -> None:
    made = gateway.create_payment(order())
    sandbox.advance(3601)

    with pytest.raises(NoSuchObject):
        call_off(gateway, made.redirect_url)


@pytest.mark.parametrize("url", ["", "https://app.midtrans.com", "https://app.midtrans.com/"])
def test_without_a_token_the_order_is_called_off(scripted: ScriptedGateway, url: str) -> None:
    scripted.says(transaction(status_code="407", transaction_status="expire"))

    assert call_off(connected(scripted.url), url).state is State.EXPIRED

    assert [each.path for each in scripted.requests] == ["/v2/TU-ABC-1/expire"]


def test_without_a_page_or_an_order_nothing_is_found(gateway: Midtrans) -> None:
    with pytest.raises(NoSuchObject):
        call_off(gateway, "")
    with pytest.raises(NoSuchObject):
        call_off(gateway, PAGE)


@pytest.mark.parametrize("end", ["", "/", "?lang=id", "#/bank-transfer", "/?lang=en#/"])
def test_the_token_is_the_last_part_of_the_path(scripted: ScriptedGateway, end: str) -> None:
    scripted.says({"canceled_at": "2026-11-20T13:09:39.776Z"})

    assert call_off(connected(scripted.url), f"{PAGE}{end}").state is State.CANCELLED

    assert [each.path for each in scripted.requests] == ["/snap/v1/transactions/tok-1/cancel"]


@pytest.mark.parametrize("method", ["token", "card"])
def test_only_a_page_is_called_off(gateway: Midtrans, sandbox: Sandbox, method: str) -> None:
    assert call_off(gateway, PAGE, gateway_id="x", method=method) is None
    assert sandbox.requests() == []


@pytest.mark.parametrize(
    ("body", "status", "fault"),
    [
        ({"error_messages": ["Access denied due to unauthorized transaction"]}, 401, Refused),
        ({"error_messages": ["Too many requests."]}, 429, Unreachable),
        ({"error_messages": ["Sorry, we encountered internal server error."]}, 500, Uncertain),
        ({"canceled_at": None}, 200, Uncertain),
        ({}, 200, Uncertain),
        ([], 200, Uncertain),
        (b"<html>", 200, Uncertain),
    ],
)
def test_a_page_that_snap_says_nothing_of_may_still_be_open(
    scripted: ScriptedGateway, body: Any, status: int, fault: type[GatewayFault]
) -> None:
    scripted.says(body, status=status)

    with pytest.raises(fault) as caught:
        call_off(connected(scripted.url), PAGE)

    assert type(caught.value) is fault
    assert len(scripted.requests) == 1


@pytest.mark.parametrize(
    "effect", ["timeout_after_commit", "reset_after_commit", "http_500_after_commit", "garbage"]
)
def test_a_page_whose_answer_is_lost_is_called_off_when_it_is_asked_for_again(
    gateway: Midtrans, sandbox: Sandbox, effect: str
) -> None:
    """There is no transaction that could be asked about."""
    made = gateway.create_payment(order())
    sandbox.fault(effect, "cancel_payment")

    with pytest.raises(Uncertain):
        call_off(gateway, made.redirect_url)

    assert call_off(gateway, made.redirect_url).state is State.CANCELLED


@pytest.mark.parametrize(
    "effect", ["timeout_after_commit", "reset_after_commit", "http_500_after_commit", "garbage"]
)
def test_an_order_is_called_off_though_the_answer_is_lost(
    gateway: Midtrans, sandbox: Sandbox, effect: str
) -> None:
    sandbox.act(f"payments/{open_page(gateway, sandbox)}/choose")
    sandbox.fault(effect, "cancel_payment")

    assert call_off(gateway, "").state is State.EXPIRED

    assert len(sandbox.requests("cancel_payment")) == 1


@pytest.mark.parametrize("effect", ["timeout_before_commit", "reset", "http_500", "http_503"])
def test_an_order_that_is_still_open_after_no_answer_leaves_us_in_doubt(
    gateway: Midtrans, sandbox: Sandbox, effect: str
) -> None:
    sandbox.act(f"payments/{open_page(gateway, sandbox)}/choose")
    sandbox.fault(effect, "cancel_payment")

    with pytest.raises(Uncertain):
        call_off(gateway, "")

    assert asked(gateway, "hosted").state is State.PENDING


def test_the_notification_of_an_order_that_was_called_off_is_believed(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    made = gateway.create_payment(order(notify_url="http://127.0.0.1:9/hook"))
    sandbox.act(f"payments/{made.redirect_url.rpartition('/')[2]}/choose")
    call_off(gateway, made.redirect_url)

    told = [
        gateway.verify_and_parse(headers={}, body=each["body"].encode(), secrets=[])
        for each in sandbox.notifications(2)
    ]

    assert {(each.reference, each.raw_status, each.state) for each in told} == {
        ("TU-ABC-1", "pending", State.PENDING),
        ("TU-ABC-1", "expire", State.EXPIRED),
    }


# --- Before it has settled, a payment is cancelled -----------------------------------------------


def test_a_whole_refund_before_settlement_is_a_cancellation(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    payment_id = pay(gateway, sandbox)

    refund = gateway.refund(refund_of(150_000))

    assert_sent(last(sandbox, "cancel_payment"), "POST", "/midtrans-api/v2/TU-ABC-1/cancel", "{}")
    assert (refund.state, refund.raw_status, refund.reference) == (
        State.SUCCEEDED,
        "cancel",
        "RF-ABC",
    )
    assert refund.amount == Money(150_000, "IDR")
    assert refund.gateway_id == payment_id
    assert asked(gateway).raw_status == "cancel"
    found = gateway.get_refund(refund_of(150_000), gateway_id=refund.gateway_id)
    assert (found.state, found.amount) == (State.SUCCEEDED, Money(150_000, "IDR"))


def test_a_part_is_refunded_once_the_payment_has_settled(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    payment_id = pay(gateway, sandbox)

    with pytest.raises(Unreachable) as caught:
        gateway.refund(refund_of())

    assert caught.value.code == "not_settled"
    assert sandbox.requests("cancel_payment") == []
    assert asked(gateway).state is State.SUCCEEDED
    sandbox.act(f"payments/{payment_id}/settle")
    assert gateway.refund(refund_of()).state is State.SUCCEEDED


@pytest.mark.parametrize("effect", ["http_500_after_commit", "reset_after_commit", "garbage"])
def test_a_cancellation_whose_answer_is_lost_is_found_out_about(
    gateway: Midtrans, sandbox: Sandbox, effect: str
) -> None:
    """The second attempt is told that nothing can be cancelled: that is no refusal."""
    pay(gateway, sandbox)
    sandbox.fault(effect, "cancel_payment")

    with pytest.raises(Uncertain):
        gateway.refund(refund_of(150_000))

    assert asked(gateway).raw_status == "cancel"
    for found in (
        gateway.get_refund(refund_of(150_000), gateway_id=""),
        gateway.refund(refund_of(150_000)),
    ):
        assert (found.state, found.raw_status) == (State.SUCCEEDED, "cancel")


def test_a_refund_that_was_a_cancellation_is_one_again_when_asked_again(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    pay(gateway, sandbox)
    sandbox.fault("timeout_after_commit", "cancel_payment")
    with pytest.raises(Uncertain):
        gateway.refund(refund_of(150_000))

    assert gateway.refund(refund_of(150_000)).raw_status == "cancel"


def test_a_cancellation_that_is_refused_leaves_us_in_doubt(scripted: ScriptedGateway) -> None:
    """It was cancelled by an attempt before, or it has settled since the status was asked for."""
    scripted.says(REFUSES, transaction(transaction_status="capture"), REFUSES)

    with pytest.raises(Uncertain):
        connected(scripted.url).refund(refund_of(150_000))

    paths = [each.path for each in scripted.requests]
    assert paths == ["/v2/TU-ABC-1/refund", "/v2/TU-ABC-1/status", "/v2/TU-ABC-1/cancel"]


def test_what_came_by_transfer_is_settled_and_can_only_be_refused(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    page = open_page(gateway, sandbox)
    sandbox.http.post(f"/_sim/payments/{page}/pay", json={"method": "bca_va"}).raise_for_status()
    assert asked(gateway, "hosted").raw_status == "settlement"

    for amount in (50_000, 150_000):
        with pytest.raises(Refused) as caught:
            gateway.refund(refund_of(amount))
        assert caught.value.code == "412"

    assert sandbox.requests("cancel_payment") == []
    assert asked(gateway, "hosted").state is State.SUCCEEDED


@pytest.mark.parametrize("status", ["deny", "expire", "pending", "chargeback"])
def test_what_can_be_neither_refunded_nor_cancelled_is_refused(
    scripted: ScriptedGateway, status: str
) -> None:
    for amount in (50_000, 150_000):
        scripted.says(REFUSES, transaction(transaction_status=status))
        with pytest.raises(Refused) as caught:
            connected(scripted.url).refund(refund_of(amount))

    assert caught.value.code == "412"


@pytest.mark.parametrize("amount", [50_000, 150_000])
def test_an_answer_to_a_refund_that_speaks_of_none_leaves_us_in_doubt(
    scripted: ScriptedGateway, amount: int
) -> None:
    for status in ("settlement", "deny", "capture", "refunded"):
        scripted.says(transaction(transaction_status=status))
        with pytest.raises(Uncertain):
            connected(scripted.url).refund(refund_of(amount))


def test_an_answer_to_a_cancellation_that_speaks_of_none_leaves_us_in_doubt(
    scripted: ScriptedGateway,
) -> None:
    scripted.says(REFUSES, transaction(transaction_status="capture"), transaction())

    with pytest.raises(Uncertain):
        connected(scripted.url).refund(refund_of(150_000))


def test_a_cancelled_payment_is_no_refund_of_a_part(scripted: ScriptedGateway) -> None:
    scripted.says(transaction(transaction_status="cancel"))

    with pytest.raises(NoSuchObject):
        connected(scripted.url).get_refund(refund_of(), gateway_id="")
    scripted.says(REFUSES, transaction(transaction_status="cancel"))
    with pytest.raises(Refused):
        connected(scripted.url).refund(refund_of())


# --- Notifications -------------------------------------------------------------------------------

# Midtrans's own example, and one for our key: computed apart from this code.
DOCUMENTED_KEY = "askvnoibnosifnboseofinbofinfgbiufglnbfg"
DOCUMENTED = (
    "edc076b21793ebe3e17926350f5b8ae67d902fe657b3d0aa31b932d5c127e2375d308a2bc94f3265ac2d80a1f181a"
    "79b997ac178a236fcff35af263fc4d4c231"
)
GOLDEN = (
    "b7ef1aca68a22ace0e1dd1eafc6e7db33d041f9e3fdb3e6e52649b9e9a4943d19ae995d9cc5ee005b961216481511"
    "9940e2d1acb2578c1a00554518844055444"
)
NOTIFICATION: Json = {
    "transaction_time": "2026-11-20 14:31:00",
    "transaction_status": "settlement",
    "transaction_id": "57d5293c-e65f-4a29-95e4-5959c3fa335b",
    "status_message": "midtrans payment notification",
    "status_code": "200",
    "signature_key": GOLDEN,
    "settlement_time": "2026-11-20 14:31:30",
    "payment_type": "bank_transfer",
    "order_id": "INV-2026-000123",
    "merchant_id": "G141532850",
    "va_numbers": [{"va_number": "333333333333333", "bank": "bca"}],
    "payment_amounts": [],
    "gross_amount": "150000.00",
    "fraud_status": "accept",
    "currency": "IDR",
    "custom_field1": "t_1",
}


def take(body: Json | bytes, *, key: str = KEY, secrets: tuple[str, ...] = ()) -> Notification:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return connected("", key=key).verify_and_parse(headers={}, body=content, secrets=secrets)


def signed(*, key: str = KEY, **changed: Any) -> Json:
    """A notification that Midtrans signed."""
    body = {**NOTIFICATION, **changed}
    body = {name: value for name, value in body.items() if value is not ...}
    text = "".join(str(body.get(name, "")) for name in ("order_id", "status_code", "gross_amount"))
    # Of half a character no signature can be made; what comes of it is not believed.
    signature = hashlib.sha512(f"{text}{key}".encode(errors="replace")).hexdigest()
    return {**body, "signature_key": signature}


def test_the_golden_vectors_are_believed() -> None:
    told = take(NOTIFICATION)

    assert told == Notification(
        event_id="57d5293c-e65f-4a29-95e4-5959c3fa335b:settlement:200:accept:150000.00",
        kind=Kind.PAYMENT,
        reference="INV-2026-000123",
        gateway_id="57d5293c-e65f-4a29-95e4-5959c3fa335b",
        state=State.SUCCEEDED,
        raw_status="settlement",
        is_settled=True,
    )
    documented = {**NOTIFICATION, "order_id": "1111", "gross_amount": "100000.00"}
    documented["signature_key"] = DOCUMENTED
    assert take(documented, key=DOCUMENTED_KEY).reference == "1111"
    with pytest.raises(Unauthentic):
        take(documented)


def test_the_text_of_the_amount_is_signed_and_not_the_number() -> None:
    of_the_number = signed(gross_amount="150000")["signature_key"]
    # That of the documents: else this proves nothing.
    assert of_the_number.startswith("95886158")
    assert of_the_number.endswith("d8975bb")

    with pytest.raises(Unauthentic):
        take({**NOTIFICATION, "signature_key": of_the_number})
    for amount in ("150000", 150_000, 150_000.0, "150000.0", "0150000.00"):
        with pytest.raises(Unauthentic):
            take({**NOTIFICATION, "gross_amount": amount})


def test_a_card_s_review_is_told() -> None:
    told = take(signed(transaction_status="capture", status_code="201", fraud_status="challenge"))

    assert (told.state, told.raw_status, told.is_settled) == (State.REVIEW, "capture", False)


@pytest.mark.parametrize(("code", "status", "fraud", "state", "is_settled"), STATUSES)
def test_statuses_of_notifications(
    code: str, status: str, fraud: Any, state: State, is_settled: bool
) -> None:
    told = take(signed(status_code=code, transaction_status=status, fraud_status=fraud))

    assert (told.state, told.raw_status) == (state, status)
    assert told.is_settled is (status == "settlement" and state is State.SUCCEEDED)


def test_a_status_of_tomorrow_is_kept_and_means_nothing_yet() -> None:
    told = take(signed(transaction_status="teleported"))

    assert (told.state, told.raw_status) == (None, "teleported")


@pytest.mark.parametrize(
    ("name", "position"),
    [
        (name, position)
        for name in ("order_id", "status_code", "gross_amount", "signature_key")
        for position in range(len(NOTIFICATION[name]))
    ],
)
def test_a_change_of_any_signed_letter_is_refused(name: str, position: int) -> None:
    value = NOTIFICATION[name]
    changed = value[:position] + chr(ord(value[position]) ^ 1) + value[position + 1 :]

    with pytest.raises(Unauthentic):
        take({**NOTIFICATION, name: changed})


@pytest.mark.parametrize("name", ["order_id", "status_code", "gross_amount", "signature_key"])
@pytest.mark.parametrize("value", [..., None, "", [], {}, 0, "half of a pair: \ud800"])
def test_a_signed_field_that_is_missing_or_something_else_is_refused(name: str, value: Any) -> None:
    body = {**NOTIFICATION, name: value}

    with pytest.raises(Unauthentic):
        take({key: each for key, each in body.items() if each is not ...})


@pytest.mark.parametrize(
    "signature", [GOLDEN[:-1], GOLDEN + "0", GOLDEN.upper(), f" {GOLDEN}", DOCUMENTED, "é" * 128]
)
def test_a_signature_that_is_nearly_right_is_refused(signature: str) -> None:
    with pytest.raises(Unauthentic):
        take({**NOTIFICATION, "signature_key": signature})


def test_a_signature_without_the_key_is_refused() -> None:
    """Anybody could make it."""
    for key in ("", "SB-Mid-server-OTHER", "SB-Mid-client-1"):
        with pytest.raises(Unauthentic):
            take(signed(key=key))


def test_while_keys_are_rotated_both_are_taken() -> None:
    assert (
        take(signed(key="SB-Mid-server-NEW"), secrets=("SB-Mid-server-NEW",)).kind is Kind.PAYMENT
    )
    assert take(NOTIFICATION, secrets=("SB-Mid-server-NEW",)).kind is Kind.PAYMENT
    assert take(NOTIFICATION, key="SB-Mid-server-NEW", secrets=(KEY,)).kind is Kind.PAYMENT
    with pytest.raises(Unauthentic):
        take(NOTIFICATION, key="SB-Mid-server-NEW")


def test_notifications_of_the_simulator_are_believed(gateway: Midtrans, sandbox: Sandbox) -> None:
    made = gateway.create_payment(
        order(token=token_of(sandbox, ACCEPTED), notify_url="http://127.0.0.1:9/hook")
    )
    sandbox.act(f"payments/{made.gateway_id}/challenge/approve")
    sandbox.act(f"payments/{made.gateway_id}/settle")
    gateway.refund(refund_of())
    gateway.refund(refund_of(100_000, reference="RF-REST"))
    sandbox.http.post("/_sim/webhooks/flush", json={}).raise_for_status()

    told = [
        gateway.verify_and_parse(headers={}, body=each["body"].encode(), secrets=[])
        for each in sandbox.notifications()
        if each["attempt"] == 1
    ]

    assert {each.gateway_id for each in told} == {made.gateway_id}
    assert {each.reference for each in told} == {"TU-ABC-1"}
    statuses = {"pending", "capture", "settlement", "partial_refund", "refund"}
    assert {each.raw_status for each in told} >= statuses - {"pending"}
    assert len({each.event_id for each in told}) == len(told)


def test_a_forged_notification_of_the_simulator_is_refused(
    gateway: Midtrans, sandbox: Sandbox
) -> None:
    sandbox.fault("wrong_signature", "create_payment", times=9)
    hook = "http://127.0.0.1:9/hook"
    gateway.create_payment(order(token=token_of(sandbox, ACCEPTED), notify_url=hook))
    [forged, *_] = sandbox.notifications()

    with pytest.raises(Unauthentic):
        gateway.verify_and_parse(headers={}, body=forged["body"].encode(), secrets=[])


REFUNDED: Json = {
    "transaction_status": "partial_refund",
    "refund_amount": "50000.00",
    "refunds": [{"refund_chargeback_id": 1, "refund_amount": "50000.00", "refund_key": "RF-1"}],
}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (NOTIFICATION, {**NOTIFICATION, "status_message": "again", "new_field": 1}),
        (signed(**REFUNDED), {**signed(**REFUNDED), "settlement_time": "2026-11-20 14:32:30"}),
        (
            signed(refunds=[{"refund_chargeback_id": 1}, {"refund_chargeback_id": 2}]),
            signed(refunds=[{"refund_chargeback_id": 2}, {"refund_chargeback_id": 1}]),
        ),
    ],
)
def test_a_retry_has_the_identity_of_the_first(first: Json, second: Json) -> None:
    assert take(first).event_id == take(second).event_id


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            signed(**REFUNDED),
            signed(**{**REFUNDED, "refund_amount": "100000.00"}),
            id="two partial refunds, by what they come to",
        ),
        pytest.param(
            signed(**REFUNDED),
            signed(**{**REFUNDED, "refunds": [{"refund_chargeback_id": 2}]}),
            id="two partial refunds, by their ids",
        ),
        pytest.param(
            signed(transaction_status="capture"), NOTIFICATION, id="captured, then settled"
        ),
        pytest.param(
            NOTIFICATION,
            signed(transaction_status="deny", status_code="202"),
            id="settled, then denied",
        ),
        pytest.param(
            signed(transaction_status="capture", fraud_status="challenge"),
            signed(transaction_status="capture"),
            id="challenged, then accepted",
        ),
        pytest.param(
            NOTIFICATION, signed(transaction_id="another"), id="two attempts at one order"
        ),
        pytest.param(
            signed(transaction_status="expire", status_code="202"), NOTIFICATION, id="paid late"
        ),
    ],
)
def test_different_facts_have_different_identities(first: Json, second: Json) -> None:
    assert take(first).event_id != take(second).event_id


def test_an_identity_is_never_too_long_to_keep() -> None:
    many = [{"refund_chargeback_id": number} for number in range(1000)]

    assert len(take(signed(refunds=many)).event_id) == 255


@pytest.mark.parametrize("changed", [{"transaction_id": ...}, {"transaction_status": ""}])
def test_a_signed_notification_of_nothing_is_unreadable(changed: Json) -> None:
    with pytest.raises(Unreadable):
        take(signed(**changed))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'"settlement"',
        b'{"gross_amount":1E99999999999999999999}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_object_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        take(body)


# --- Whatever comes ------------------------------------------------------------------------------

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet=st.characters(), max_size=20),
    st.sampled_from(["200", "412", "settlement", "capture", "IDR", "150000.00", "1E999999"]),
)
names = st.sampled_from(
    [
        *(*transaction(), *REFUNDED, "canceled_at", "error_messages"),
        *("refund_chargeback_id", "refund_key", "redirect_url", "metadata"),
    ]
)
anything = st.recursive(
    plain,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=8)),
    max_leaves=20,
)


@runs(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(body=anything, number=st.integers(0, len(CALLS)))
def test_whatever_is_answered_is_a_report_or_a_fault(
    scripted: ScriptedGateway, body: Any, number: int
) -> None:
    scripted.says(json.dumps(body).encode())
    calls: list[Call] = [*(call for _, call in CALLS), lambda it: call_off(it, PAGE)]

    with contextlib.suppress(GatewayFault):
        report = calls[number](connected(scripted.url))
        assert isinstance(report.amount, Money)


@runs(max_examples=300, deadline=None)
@given(body=st.one_of(anything, st.dictionaries(names, plain).map(lambda body: signed(**body))))
def test_whatever_is_notified_is_a_notification_or_not(body: Any) -> None:
    try:
        told = take(json.dumps(body).encode())
    except (Unreadable, Unauthentic):
        return

    texts = [told.event_id, told.reference, told.gateway_id, told.raw_status, told.failure_code]
    # What the database takes.
    assert all(b"\x00" not in text.encode() for text in texts)
    assert 0 < len(told.event_id) <= 255


def test_the_authorization_is_the_key_with_an_empty_password() -> None:
    assert base64.b64decode(AUTHORIZATION.removeprefix("Basic ")).decode() == f"{KEY}:"
