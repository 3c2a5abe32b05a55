"""
The Xendit adapter against the documented formats: what is sent, byte for byte; what each status
means; which notifications are believed, and what they are told apart by.

Over real HTTP, to the simulator, or to a server that says what the simulator would not.
"""

import base64
import datetime as dt
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
from payments.gateways.xendit import adapter
from payments.gateways.xendit.adapter import Xendit, make
from payments.tests.scripted import ScriptedGateway, answer, scripted_gateway
from tests.gateways import GOOD_CARD, Sandbox

KEY = "xnd_development_merchant1"
# base64("xnd_development_merchant1:"): the key, a colon, and no password.
AUTHORIZATION = "Basic eG5kX2RldmVsb3BtZW50X21lcmNoYW50MTo="
TOKEN = "callback-token-of-1"
Json = dict[str, Any]


def connected(url: str) -> Xendit:
    return make(Caller("xendit", f"xendit:{new_id()}", url, {}), {"secret_key": KEY})


@pytest.fixture
def gateway(sandbox: Sandbox) -> Xendit:
    return connected(f"{sandbox.url}/xendit")


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
        "notify_url": "https://florin.example/hook",
    }
    return PaymentOrder(**{**values, **changed})


def payout(**changed: Any) -> PayoutOrder:
    values: Json = {
        "reference": "PO-ABC",
        "amount": Money(150_000, "IDR"),
        "idempotency_key": "0193",
        "beneficiary_name": "Ani S",
        "country": "ID",
        "account_number": "1234567890",
        "bank_code": "ID_BCA",
        "description": "Rent",
        "notify_url": "https://florin.example/hook",
    }
    return PayoutOrder(**{**values, **changed})


def refund_of(gateway_id: str, method: str, **changed: Any) -> RefundOrder:
    values: Json = {
        "reference": "RF-ABC",
        "payment_reference": "TU-ABC-1",
        "payment_gateway_id": gateway_id,
        "payment_method": method,
        "payment_amount": Money(150_000, "IDR"),
        "amount": Money(50_000, "IDR"),
        "idempotency_key": "0194",
        "reason": "Two were paid",
    }
    return RefundOrder(**{**values, **changed})


def pay_link(gateway: Xendit, sandbox: Sandbox, **changed: Any) -> str:
    """Have a payment link paid; return its id."""
    made = gateway.create_payment(order(**changed))
    sandbox.act(f"payments/{made.gateway_id}/pay")
    return made.gateway_id


def asked(
    gateway: Xendit, reference: str = "TU-ABC-1", gateway_id: str = "", method: str = ""
) -> Any:
    return gateway.get_payment(
        reference=reference, gateway_id=gateway_id, method=method or "hosted", currency="IDR"
    )


def call_off(gateway: Xendit, gateway_id: str = "", method: str = "hosted") -> Any:
    return gateway.cancel_payment(
        reference="TU-ABC-1",
        gateway_id=gateway_id,
        method=method,
        amount=Money(150_000, "IDR"),
        redirect_url="https://checkout.example/web/1",
    )


def last(sandbox: Sandbox, op: str) -> Json:
    row: Json = sandbox.requests(op)[-1]
    return row


def assert_sent(row: Json, method: str, path: str, body: str = "", **query: str) -> None:
    """The request is this one, to the byte."""
    assert (row["method"], row["path"]) == (method, f"/xendit{path}")
    assert row["query"] == {name: [value] for name, value in query.items()}
    assert row["headers"]["authorization"] == AUTHORIZATION
    assert row["body"] == body
    assert row["headers"].get("content-type") == ("application/json" if body else None)


# --- What is sent --------------------------------------------------------------------------------


def test_a_payment_link_is_opened(gateway: Xendit, sandbox: Sandbox) -> None:
    made = gateway.create_payment(order())

    row = last(sandbox, "create_payment")
    assert_sent(
        row,
        "POST",
        "/v2/invoices",
        '{"external_id":"TU-ABC-1","amount":150000,"currency":"IDR","description":"Pocket money",'
        '"invoice_duration":3600,"should_send_email":false,'
        '"success_redirect_url":"https://shop.example/back",'
        '"failure_redirect_url":"https://shop.example/back"}',
    )
    # Xendit documents none here: nobody should believe that it protects anything.
    assert "idempotency-key" not in row["headers"]
    assert (made.reference, made.state, made.amount) == (
        "TU-ABC-1",
        State.PENDING,
        Money(150_000, "IDR"),
    )
    assert made.redirect_url.startswith(f"{sandbox.url}/checkout/")
    assert made.expires_at is not None
    assert made.created_at is not None
    assert made.expires_at - made.created_at == dt.timedelta(hours=1)


def test_a_payment_link_without_a_way_back_names_none(gateway: Xendit, sandbox: Sandbox) -> None:
    gateway.create_payment(order(return_url="", description=""))

    body = json.loads(last(sandbox, "create_payment")["body"])
    assert "success_redirect_url" not in body
    assert "failure_redirect_url" not in body
    assert body["description"] == "TU-ABC-1"


def test_a_token_is_charged(gateway: Xendit, sandbox: Sandbox) -> None:
    made = gateway.create_payment(order(token="pm-success"))

    row = last(sandbox, "create_payment")
    assert_sent(
        row,
        "POST",
        "/payment_requests",
        '{"reference_id":"TU-ABC-1","amount":150000,"currency":"IDR",'
        '"payment_method_id":"pm-success","description":"Pocket money","channel_properties":'
        '{"success_return_url":"https://shop.example/back",'
        '"failure_return_url":"https://shop.example/back"}}',
    )
    assert row["headers"]["idempotency-key"] == "0192-1"
    assert (made.state, made.amount) == (State.SUCCEEDED, Money(150_000, "IDR"))


def test_a_token_without_a_way_back_names_none(gateway: Xendit, sandbox: Sandbox) -> None:
    gateway.create_payment(order(token="pm-success", return_url=""))

    assert "channel_properties" not in json.loads(last(sandbox, "create_payment")["body"])


def test_a_card_number_is_never_sent(gateway: Xendit, sandbox: Sandbox) -> None:
    card = CardData(GOOD_CARD, 12, 2099, "987")

    gateway.create_payment(order(card=card))
    gateway.create_payment(order(reference="TU-ABC-2", token="pm-success", card=card))

    sent = json.dumps(sandbox.requests())
    assert GOOD_CARD not in sent
    assert not re.search(r"\b987\b", "".join(row["body"] for row in sandbox.requests()))


@runs(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    minor=st.integers(1, 99_999_999_999),
    currency=st.sampled_from(["IDR", "USD", "MYR", "PHP", "THB", "VND"]),
)
@example(minor=150_000, currency="IDR")
@example(minor=1050, currency="USD")
@example(minor=1, currency="USD")
@example(minor=1010, currency="MYR")
@example(minor=99_999_999_999, currency="USD")
def test_amounts_are_exact_numbers_in_major_units(
    sandbox: Sandbox, minor: int, currency: str
) -> None:
    gateway, reference = connected(f"{sandbox.url}/xendit"), f"TU-{new_id().hex}"
    amount = Money(minor, currency)

    link = gateway.create_payment(order(reference=reference, amount=amount))
    sandbox.act(f"payments/{link.gateway_id}/pay")
    refund = gateway.refund(
        refund_of(link.gateway_id, "hosted", amount=amount, idempotency_key=new_id().hex)
    )
    paid_out = gateway.create_payout(
        payout(reference=reference, amount=amount, idempotency_key=new_id().hex)
    )

    is_whole = currency in ("IDR", "VND")
    exact = f"{minor}" if is_whole else f"{minor // 100}.{minor % 100:02d}"
    sent = [row["body"] for row in sandbox.requests() if row["method"] == "POST"][-3:]
    assert all(f'"amount":{exact},"currency":"{currency}"' in body for body in sent), sent
    # What Xendit understood is what was meant.
    assert [link.amount, refund.amount, paid_out.amount] == [amount] * 3
    assert asked(gateway, reference).amount == amount


def test_a_payment_link_is_asked_for_by_id_and_by_reference(
    gateway: Xendit, sandbox: Sandbox
) -> None:
    made = gateway.create_payment(order())

    assert asked(gateway, gateway_id=made.gateway_id) == made
    assert_sent(last(sandbox, "get_payment"), "GET", f"/v2/invoices/{made.gateway_id}")
    assert asked(gateway) == made
    assert_sent(last(sandbox, "list_payments"), "GET", "/v2/invoices", external_id="TU-ABC-1")


def test_a_payment_request_is_asked_for_by_id_and_by_reference(
    gateway: Xendit, sandbox: Sandbox
) -> None:
    made = gateway.create_payment(order(token="pm-success"))

    assert asked(gateway, gateway_id=made.gateway_id, method="token") == made
    assert_sent(last(sandbox, "get_payment"), "GET", f"/payment_requests/{made.gateway_id}")
    assert asked(gateway, method="token") == made
    assert_sent(last(sandbox, "list_payments"), "GET", "/payment_requests", reference_id="TU-ABC-1")


def test_an_id_is_one_part_of_the_path_whatever_it_holds(scripted: ScriptedGateway) -> None:
    scripted.says(link())

    asked(connected(scripted.url), gateway_id="a/b?c=d&e#f")

    assert scripted.requests[0].path == "/v2/invoices/a%2Fb%3Fc%3Dd%26e%23f"


@pytest.mark.parametrize(
    ("method", "of"), [("hosted", "invoice_id"), ("token", "payment_request_id")]
)
def test_a_part_is_refunded_and_asked_for(
    gateway: Xendit, sandbox: Sandbox, method: str, of: str
) -> None:
    if method == "hosted":
        payment_id = pay_link(gateway, sandbox)
    else:
        payment_id = gateway.create_payment(order(token="pm-success")).gateway_id
    wanted = refund_of(payment_id, method)

    refund = gateway.refund(wanted)

    row = last(sandbox, "refund")
    assert_sent(
        row,
        "POST",
        "/refunds",
        f'{{"reference_id":"RF-ABC","{of}":"{payment_id}","amount":50000,"currency":"IDR",'
        '"reason":"REQUESTED_BY_CUSTOMER"}',
    )
    assert row["headers"]["idempotency-key"] == "0194"
    assert (refund.reference, refund.amount) == ("RF-ABC", Money(50_000, "IDR"))
    assert gateway.refund(wanted).gateway_id == refund.gateway_id
    by_id = gateway.get_refund(wanted, gateway_id=refund.gateway_id)
    assert_sent(last(sandbox, "get_refund"), "GET", f"/refunds/{refund.gateway_id}")
    by_reference = gateway.get_refund(wanted, gateway_id="")
    row = last(sandbox, "get_refund")
    assert (row["path"], row["query"][of]) == ("/xendit/refunds", [payment_id])
    assert by_id.gateway_id == by_reference.gateway_id == refund.gateway_id


def test_one_of_many_refunds_of_a_payment_is_found(gateway: Xendit, sandbox: Sandbox) -> None:
    payment_id = pay_link(gateway, sandbox)
    for number in range(12):
        gateway.refund(
            refund_of(
                payment_id,
                "hosted",
                reference=f"RF-{number}",
                amount=Money(100, "IDR"),
                idempotency_key=f"refund-{number}",
            )
        )

    found = gateway.get_refund(refund_of(payment_id, "hosted", reference="RF-11"), gateway_id="")

    assert found.reference == "RF-11"


def test_a_refund_that_may_be_on_another_page_leaves_us_in_doubt(
    scripted: ScriptedGateway,
) -> None:
    """To say that there is none would have it sent again."""
    scripted.says({"data": [], "has_more": True})

    with pytest.raises(Uncertain):
        connected(scripted.url).get_refund(refund_of("inv-1", "hosted"), gateway_id="")


def test_a_refund_that_was_never_asked_for_is_not_found(gateway: Xendit, sandbox: Sandbox) -> None:
    payment_id = pay_link(gateway, sandbox)
    gateway.refund(refund_of(payment_id, "hosted", reference="RF-OTHER"))

    with pytest.raises(NoSuchObject):
        gateway.get_refund(refund_of(payment_id, "hosted"), gateway_id="")


def test_a_payout_is_sent_and_asked_for(gateway: Xendit, sandbox: Sandbox) -> None:
    made = gateway.create_payout(payout())

    row = last(sandbox, "create_payout")
    assert_sent(
        row,
        "POST",
        "/v2/payouts",
        '{"reference_id":"PO-ABC","channel_code":"ID_BCA","channel_properties":'
        '{"account_number":"1234567890","account_holder_name":"Ani S"},'
        '"amount":150000,"currency":"IDR","description":"Rent"}',
    )
    assert row["headers"]["idempotency-key"] == "0193"
    assert (made.reference, made.amount, made.state) == (
        "PO-ABC",
        Money(150_000, "IDR"),
        State.PENDING,
    )
    assert gateway.create_payout(payout()).gateway_id == made.gateway_id
    by_id = gateway.get_payout(reference="PO-ABC", gateway_id=made.gateway_id, currency="IDR")
    assert_sent(last(sandbox, "get_payout"), "GET", f"/v2/payouts/{made.gateway_id}")
    by_reference = gateway.get_payout(reference="PO-ABC", gateway_id="", currency="IDR")
    assert_sent(last(sandbox, "get_payout"), "GET", "/v2/payouts", reference_id="PO-ABC")
    assert by_id.gateway_id == by_reference.gateway_id == made.gateway_id


def test_a_payout_to_an_iban_has_it_as_its_number(gateway: Xendit, sandbox: Sandbox) -> None:
    gateway.create_payout(payout(account_number="", iban="DE02120300000000202051"))

    body = json.loads(last(sandbox, "create_payout")["body"])
    assert body["channel_properties"]["account_number"] == "DE02120300000000202051"


def test_payments_are_listed_page_by_page(gateway: Xendit, sandbox: Sandbox) -> None:
    for number in range(101):
        gateway.create_payment(order(reference=f"TU-{number}"))
    since = dt.datetime(2020, 1, 2, 10, 4, 5, 678_901, tzinfo=dt.timezone(dt.timedelta(hours=7)))

    listed = gateway.list_payments(since=since)

    assert listed is not None
    assert {each.reference for each in listed} == {f"TU-{number}" for number in range(101)}
    first, second = sandbox.requests("list_payments")
    asked_for = {"created_after": "2020-01-02T03:04:05.000Z", "limit": "100"}
    assert_sent(first, "GET", "/v2/invoices", **asked_for)
    assert_sent(second, "GET", "/v2/invoices", **asked_for, last_invoice=listed[99].gateway_id)


def test_a_list_that_never_ends_is_given_up_and_not_taken_for_all(
    scripted: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "LIST_MAX", 300)
    scripted.says([link(id=f"{number:024x}") for number in range(100)])

    with pytest.raises(Uncertain):
        connected(scripted.url).list_payments(since=dt.datetime.now(dt.UTC))

    assert len(scripted.requests) == 3


# --- What the answers mean -----------------------------------------------------------------------


def link(**changed: Any) -> Json:
    body: Json = {
        "id": "6748105a77f16ebe0cc583a7",
        "external_id": "TU-ABC-1",
        "user_id": "62440e322008e87fb29c1fd0",
        "status": "PENDING",
        "amount": 150_000,
        "currency": "IDR",
        "expiry_date": "2026-11-21T06:40:26.353Z",
        "invoice_url": "https://checkout-staging.xendit.co/web/6748105a77f16ebe0cc583a7",
        "created": "2026-11-20T06:40:26.508Z",
        "a_field_of_tomorrow": {"is": ["ignored"]},
    }
    return {**body, **changed}


def request(**changed: Any) -> Json:
    body: Json = {
        "id": "pr-1",
        "reference_id": "TU-ABC-1",
        "status": "SUCCEEDED",
        "amount": 150_000,
        "currency": "IDR",
        "actions": [],
        "failure_code": None,
        "created": "2026-11-20T06:40:26.508Z",
    }
    return {**body, **changed}


@pytest.mark.parametrize(
    ("status", "state", "is_settled"),
    [
        ("PENDING", State.PENDING, False),
        ("PAID", State.SUCCEEDED, False),
        ("SETTLED", State.SUCCEEDED, True),
        ("EXPIRED", State.EXPIRED, False),
    ],
)
def test_statuses_of_payment_links(
    scripted: ScriptedGateway, status: str, state: State, is_settled: bool
) -> None:
    scripted.says(link(status=status))

    found = asked(connected(scripted.url), gateway_id="6748105a77f16ebe0cc583a7")

    assert (found.state, found.raw_status, found.is_settled) == (state, status, is_settled)
    assert not found.may_still_succeed


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("PENDING", State.PENDING),
        ("REQUIRES_ACTION", State.PENDING),
        ("UNKNOWN", State.PENDING),
        ("AWAITING_CAPTURE", State.REVIEW),
        ("SUCCEEDED", State.SUCCEEDED),
        ("FAILED", State.FAILED),
        ("CANCELED", State.FAILED),
        ("VOIDED", State.REVERSED),
        ("EXPIRED", State.EXPIRED),
    ],
)
def test_statuses_of_payment_requests(scripted: ScriptedGateway, status: str, state: State) -> None:
    scripted.says(request(status=status, failure_code="INSUFFICIENT_BALANCE"))

    found = asked(connected(scripted.url), gateway_id="pr-1", method="token")

    assert (found.state, found.raw_status) == (state, status)
    assert found.failure_code == "insufficient_balance"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("REQUIRES_ACTION", State.PENDING),
        ("PENDING", State.PENDING),
        ("SUCCEEDED", State.SUCCEEDED),
        ("FAILED", State.FAILED),
        ("CANCELLED", State.FAILED),
    ],
)
def test_statuses_of_refunds(scripted: ScriptedGateway, status: str, state: State) -> None:
    scripted.says(request(id="rfd-1", reference_id="RF-ABC", status=status, amount=50_000))

    found = connected(scripted.url).get_refund(refund_of("pr-1", "token"), gateway_id="rfd-1")

    assert (found.state, found.raw_status) == (state, status)
    assert (found.gateway_id, found.amount) == ("rfd-1", Money(50_000, "IDR"))


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("ACCEPTED", State.PENDING),
        ("REQUESTED", State.PENDING),
        ("SUCCEEDED", State.SUCCEEDED),
        ("FAILED", State.FAILED),
        ("CANCELLED", State.FAILED),
        ("EXPIRED", State.FAILED),
        ("REVERSED", State.REVERSED),
    ],
)
def test_statuses_of_payouts(scripted: ScriptedGateway, status: str, state: State) -> None:
    scripted.says(
        request(id="disb-1", reference_id="PO-ABC", status=status, failure_code="REJECTED")
    )

    found = connected(scripted.url).get_payout(
        reference="PO-ABC", gateway_id="disb-1", currency="IDR"
    )

    assert (found.state, found.raw_status, found.failure_code) == (state, status, "rejected")


Call = Callable[[Xendit], Any]
# Every call whose answer is one object.
CALLS: list[tuple[str, Call]] = [
    ("create a link", lambda it: it.create_payment(order())),
    ("charge a token", lambda it: it.create_payment(order(token="pm-success"))),
    ("get a link", lambda it: asked(it, gateway_id="1")),
    ("get a request", lambda it: asked(it, gateway_id="1", method="token")),
    ("call a link off", lambda it: call_off(it, "1")),
    ("refund", lambda it: it.refund(refund_of("pr-1", "token"))),
    ("get a refund", lambda it: it.get_refund(refund_of("pr-1", "token"), gateway_id="1")),
    ("pay out", lambda it: it.create_payout(payout())),
    (
        "get a payout",
        lambda it: it.get_payout(reference="PO-ABC", gateway_id="1", currency="IDR"),
    ),
]
each_call = pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in CALLS])


@each_call
@pytest.mark.parametrize("status", ["", None, "paid", "SUCCESS", "Settled", 1, ["PAID"]])
def test_an_unknown_status_leaves_us_in_doubt(
    scripted: ScriptedGateway, call: Call, status: Any
) -> None:
    scripted.says({**link(), **request(), "status": status})

    with pytest.raises(Uncertain):
        call(connected(scripted.url))


@each_call
@pytest.mark.parametrize(
    "changed",
    [
        {"id": None},
        {"id": ""},
        {"amount": None},
        {"amount": "a lot"},
        {"amount": True},
        {"amount": 0.001},
        {"currency": "XXX"},
        {"amount": [150_000]},
    ],
)
def test_an_answer_that_lacks_what_counts_leaves_us_in_doubt(
    scripted: ScriptedGateway, call: Call, changed: Json
) -> None:
    body = {**link(), **request(), "status": "PENDING", **changed}
    scripted.says(body)

    with pytest.raises(Uncertain):
        call(connected(scripted.url))


@pytest.mark.parametrize(
    ("status", "paid", "amount"),
    [
        ("PENDING", None, 150_000),
        ("PAID", None, 150_000),
        ("PAID", 150_000, 150_000),
        ("PAID", 149_000, 149_000),
        ("SETTLED", 151_000, 151_000),
        ("EXPIRED", 0, 150_000),
    ],
)
def test_what_was_paid_counts_and_not_what_was_asked(
    scripted: ScriptedGateway, status: str, paid: int | None, amount: int
) -> None:
    scripted.says(link(status=status, **({} if paid is None else {"paid_amount": paid})))

    found = asked(connected(scripted.url), gateway_id="1")

    assert found.amount == Money(amount, "IDR")


def test_the_page_of_a_challenge_is_the_first_that_a_browser_opens(
    scripted: ScriptedGateway,
) -> None:
    actions = [
        {"action": "AUTH", "url_type": "API", "url": "https://api.example"},
        "nonsense",
        {"action": "AUTH", "url_type": "WEB", "url": "https://web.example"},
        {"action": "AUTH", "url_type": "MOBILE", "url": "https://mobile.example"},
    ]
    scripted.says(request(status="REQUIRES_ACTION", actions=actions))

    found = asked(connected(scripted.url), gateway_id="pr-1", method="token")

    assert found.redirect_url == "https://web.example"


def test_of_several_links_of_one_reference_the_paid_one_counts(
    gateway: Xendit, sandbox: Sandbox
) -> None:
    gateway.create_payment(order())
    paid_id = pay_link(gateway, sandbox)
    gateway.create_payment(order())

    found = asked(gateway)

    assert (found.gateway_id, found.state) == (paid_id, State.SUCCEEDED)


def test_of_several_links_without_a_paid_one_the_open_one_counts(
    gateway: Xendit, sandbox: Sandbox
) -> None:
    open_id = gateway.create_payment(order()).gateway_id
    expired_id = gateway.create_payment(order()).gateway_id
    sandbox.act(f"payments/{expired_id}/expire")

    assert asked(gateway).gateway_id == open_id


def test_two_paid_links_of_one_reference_are_for_a_person(
    gateway: Xendit, sandbox: Sandbox
) -> None:
    pay_link(gateway, sandbox)
    pay_link(gateway, sandbox)

    with pytest.raises(Uncertain) as caught:
        asked(gateway)

    assert caught.value.code == "paid_twice"


@pytest.mark.parametrize("method", ["hosted", "token"])
def test_a_reference_that_xendit_does_not_have_is_not_found(gateway: Xendit, method: str) -> None:
    with pytest.raises(NoSuchObject):
        asked(gateway, method=method)
    with pytest.raises(NoSuchObject):
        asked(gateway, gateway_id="6748105a77f16ebe0cc583a7", method=method)
    with pytest.raises(NoSuchObject):
        gateway.get_payout(reference="PO-ABC", gateway_id="", currency="IDR")


def test_another_reference_in_a_list_is_not_ours(scripted: ScriptedGateway) -> None:
    """A gateway that ignores a filter it does not know answers with everybody's."""
    paid = link(external_id="TU-OTHER", status="PAID")
    others = {"data": [request(reference_id="TU-OTHER")]}
    gateway = connected(scripted.url)

    scripted.says([paid])
    with pytest.raises(NoSuchObject):
        asked(gateway)
    scripted.says(others)
    with pytest.raises(NoSuchObject):
        asked(gateway, method="token")
    with pytest.raises(NoSuchObject):
        gateway.get_payout(reference="PO-ABC", gateway_id="", currency="IDR")
    with pytest.raises(NoSuchObject):
        gateway.get_refund(refund_of("pr-1", "token"), gateway_id="")
    scripted.says([paid, link()])
    assert asked(gateway).state is State.PENDING


@pytest.mark.parametrize(
    "effect", ["timeout_after_commit", "reset_after_commit", "http_500_after_commit", "garbage"]
)
@pytest.mark.parametrize("token", ["", "pm-success"])
def test_a_payment_whose_answer_is_lost_is_made_once_and_found_by_its_reference(
    gateway: Xendit, sandbox: Sandbox, effect: str, token: str
) -> None:
    sandbox.fault(effect, "create_payment", times=9)

    with pytest.raises(Uncertain):
        gateway.create_payment(order(token=token))

    assert len(sandbox.requests("create_payment")) == 1
    assert len(sandbox.objects("TU-ABC-1")) == 1
    found = asked(gateway, method="token" if token else "hosted")
    assert found.reference == "TU-ABC-1"


@pytest.mark.parametrize("effect", ["http_500_after_commit", "reset_after_commit", "garbage"])
def test_a_refund_and_a_payout_whose_answers_are_lost_are_sent_again_and_are_once(
    gateway: Xendit, sandbox: Sandbox, effect: str
) -> None:
    payment_id = pay_link(gateway, sandbox)
    sandbox.fault(effect, "refund", times=2)
    sandbox.fault(effect, "create_payout", times=2)

    refund = gateway.refund(refund_of(payment_id, "hosted"))
    paid_out = gateway.create_payout(payout())

    assert [each["id"] for each in sandbox.objects("RF-ABC")] == [refund.gateway_id]
    assert [each["id"] for each in sandbox.objects("PO-ABC")] == [paid_out.gateway_id]
    assert len(sandbox.requests("refund")) == len(sandbox.requests("create_payout")) == 3


def test_a_key_that_xendit_knows_with_another_request_leaves_us_in_doubt(
    gateway: Xendit, sandbox: Sandbox
) -> None:
    """There is a payment, refund or payout under the key; to call it refused would pay twice."""
    gateway.create_payment(order(token="pm-success"))
    payment_id = pay_link(gateway, sandbox, reference="TU-ABC-2")
    gateway.refund(refund_of(payment_id, "hosted"))
    gateway.create_payout(payout())

    for call in (
        lambda: gateway.create_payment(order(token="pm-success", description="Other")),
        lambda: gateway.refund(refund_of(payment_id, "hosted", amount=Money(1, "IDR"))),
        lambda: gateway.create_payout(payout(description="Other")),
    ):
        with pytest.raises(Uncertain) as caught:
            call()
        assert caught.value.code == "DUPLICATE_ERROR"

    assert len(sandbox.objects("TU-ABC-1")) == 1
    assert len(sandbox.objects("PO-ABC")) == 1


@pytest.mark.parametrize(
    ("status", "code", "fault", "is_about_us"),
    [
        (400, "API_VALIDATION_ERROR", Refused, False),
        (400, "MINIMAL_TRANSFER_AMOUNT_ERROR", Refused, False),
        (400, "UNSUPPORTED_CURRENCY", Refused, False),
        (401, "INVALID_API_KEY", Refused, True),
        (403, "ACCESS_SUSPENDED", Refused, True),
        (403, "REQUEST_FORBIDDEN_ERROR", Refused, True),
        (404, "DATA_NOT_FOUND", NoSuchObject, False),
        (404, "INVOICE_NOT_FOUND_ERROR", NoSuchObject, False),
        (409, "DUPLICATE_ERROR", Uncertain, False),
        (429, "RATE_LIMIT_EXCEEDED", Unreachable, False),
        (500, "SERVER_ERROR", Uncertain, False),
        (503, "SERVICE_UNAVAILABLE", Uncertain, False),
    ],
)
@each_call
def test_documented_errors(
    scripted: ScriptedGateway,
    call: Call,
    status: int,
    code: str,
    fault: type[GatewayFault],
    is_about_us: bool,
) -> None:
    scripted.says({"error_code": code, "message": "Not this time."}, status=status)

    with pytest.raises(fault) as caught:
        call(connected(scripted.url))

    assert type(caught.value) is fault
    if isinstance(caught.value, Refused):
        assert caught.value.detail == "Not this time."
        assert caught.value.code == code
        assert caught.value.is_about_us is is_about_us


# --- Calling off ---------------------------------------------------------------------------------


def test_a_payment_link_is_called_off(gateway: Xendit, sandbox: Sandbox) -> None:
    made = gateway.create_payment(order())

    found = call_off(gateway, made.gateway_id)

    row = last(sandbox, "cancel_payment")
    assert_sent(row, "POST", f"/invoices/{made.gateway_id}/expire!")
    assert (found.state, found.raw_status) == (State.EXPIRED, "EXPIRED")
    assert (found.gateway_id, found.reference) == (made.gateway_id, "TU-ABC-1")
    assert found.amount == Money(150_000, "IDR")
    assert asked(gateway, gateway_id=made.gateway_id) == found


def test_a_payment_link_that_was_called_off_is_so_when_it_is_called_off_again(
    gateway: Xendit,
) -> None:
    made = gateway.create_payment(order())
    first = call_off(gateway, made.gateway_id)

    assert call_off(gateway, made.gateway_id) == first


def test_a_payment_link_that_was_paid_meanwhile_is_reported_as_paid(
    gateway: Xendit, sandbox: Sandbox
) -> None:
    paid_id = pay_link(gateway, sandbox)

    found = call_off(gateway, paid_id)

    assert (found.state, found.gateway_id) == (State.SUCCEEDED, paid_id)


def test_a_payment_link_whose_id_was_lost_is_called_off_by_its_reference(
    gateway: Xendit, sandbox: Sandbox
) -> None:
    with pytest.raises(NoSuchObject):
        call_off(gateway)
    made = gateway.create_payment(order())

    found = call_off(gateway)

    assert (found.state, found.gateway_id) == (State.EXPIRED, made.gateway_id)
    assert call_off(gateway).state is State.EXPIRED
    # What is no longer open is only asked about.
    assert len(sandbox.requests("cancel_payment")) == 1


@pytest.mark.parametrize("method", ["token", "card"])
def test_only_a_page_is_called_off(gateway: Xendit, sandbox: Sandbox, method: str) -> None:
    assert call_off(gateway, "pr-1", method) is None
    assert sandbox.requests() == []


@pytest.mark.parametrize(
    "effect", ["timeout_after_commit", "reset_after_commit", "http_500_after_commit", "garbage"]
)
def test_a_link_is_called_off_though_the_answer_is_lost(
    gateway: Xendit, sandbox: Sandbox, effect: str
) -> None:
    made = gateway.create_payment(order())
    sandbox.fault(effect, "cancel_payment")

    assert call_off(gateway, made.gateway_id).state is State.EXPIRED

    assert len(sandbox.requests("cancel_payment")) == 1


@pytest.mark.parametrize(
    ("effect", "fault"),
    [
        ("timeout_before_commit", Uncertain),
        ("reset", Uncertain),
        ("http_500", Uncertain),
        ("http_503", Uncertain),
        ("html", Uncertain),
        ("redirect", Uncertain),
        ("http_429", Unreachable),
    ],
)
def test_a_link_that_is_still_open_after_no_answer_leaves_us_in_doubt(
    gateway: Xendit, sandbox: Sandbox, effect: str, fault: type[GatewayFault]
) -> None:
    made = gateway.create_payment(order())
    sandbox.fault(effect, "cancel_payment")

    with pytest.raises(fault):
        call_off(gateway, made.gateway_id)

    assert asked(gateway, gateway_id=made.gateway_id).state is State.PENDING
    assert call_off(gateway, made.gateway_id).state is State.EXPIRED


def test_a_refused_key_calls_nothing_off_and_is_not_asked_with_again(
    scripted: ScriptedGateway,
) -> None:
    scripted.says({"error_code": "INVALID_API_KEY", "message": "Not this one."}, status=401)

    with pytest.raises(Refused) as caught:
        call_off(connected(scripted.url), "1")

    assert caught.value.is_about_us
    assert len(scripted.requests) == 1


def test_a_refusal_of_an_open_link_leaves_it_reported_as_open(scripted: ScriptedGateway) -> None:
    refusal = {"error_code": "API_VALIDATION_ERROR", "message": "Not now."}
    scripted.will(answer(refusal, status=400), answer(link()))

    assert call_off(connected(scripted.url), "a/b").state is State.PENDING

    assert [each.path for each in scripted.requests] == [
        "/invoices/a%2Fb/expire!",
        "/v2/invoices/a%2Fb",
    ]


def test_the_callback_of_a_link_that_was_called_off_is_believed(
    gateway: Xendit, sandbox: Sandbox
) -> None:
    account = {"webhook_url": "http://127.0.0.1:9/hook", "webhook_token": TOKEN}
    account |= {"gateway": "xendit", "key": KEY}
    sandbox.http.post("/_sim/accounts", json=account).raise_for_status()
    made = gateway.create_payment(order())
    call_off(gateway, made.gateway_id)

    [sent, *_] = sandbox.notifications()
    told = gateway.verify_and_parse(
        headers={name.lower(): value for name, value in sent["headers"].items()},
        body=sent["body"].encode(),
        secrets=[TOKEN],
    )

    assert (told.kind, told.reference, told.state) == (Kind.PAYMENT, "TU-ABC-1", State.EXPIRED)


def test_a_revoked_key_is_about_us(gateway: Xendit, sandbox: Sandbox) -> None:
    account = {"gateway": "xendit", "key": KEY, "is_revoked": True}
    sandbox.http.post("/_sim/accounts", json=account).raise_for_status()

    with pytest.raises(Refused) as caught:
        gateway.create_payment(order())

    assert caught.value.is_about_us


@pytest.mark.parametrize(
    ("amount", "code"), [(10_051, "expired_card"), (10_054, "insufficient_balance")]
)
def test_a_declined_card_says_why(gateway: Xendit, amount: int, code: str) -> None:
    made = gateway.create_payment(order(token="pm-success", amount=Money(amount, "IDR")))

    assert (made.state, made.failure_code) == (State.FAILED, code)


# --- Notifications -------------------------------------------------------------------------------


def take(body: Json | bytes, secrets: tuple[str, ...] = (TOKEN,), **headers: str) -> Notification:
    given_headers = {"x-callback-token": TOKEN} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return connected("").verify_and_parse(headers=given_headers, body=raw, secrets=secrets)


def event(name: str, created: str = "2026-11-20T07:41:00Z", **data: Any) -> Json:
    return {"event": name, "business_id": "661f", "created": created, "data": data}


PAID_LINK = link(status="PAID", paid_amount=150_000, payment_id="ewc_1")


def test_notifications_of_the_simulator_are_believed(gateway: Xendit, sandbox: Sandbox) -> None:
    account = {
        "gateway": "xendit",
        "key": KEY,
        "webhook_url": "http://127.0.0.1:9/hook",
        "webhook_token": TOKEN,
    }
    sandbox.http.post("/_sim/accounts", json=account).raise_for_status()
    link_id = pay_link(gateway, sandbox)
    charged = gateway.create_payment(order(reference="TU-ABC-2", token="pm-success"))
    refund = gateway.refund(refund_of(link_id, "hosted"))
    paid_out = gateway.create_payout(payout())
    sandbox.advance(60)

    told = {
        (found.kind, found.reference): found
        for each in sandbox.notifications(4)
        if each["attempt"] == 1
        for found in [
            gateway.verify_and_parse(
                headers={name.lower(): value for name, value in each["headers"].items()},
                body=each["body"].encode(),
                secrets=[TOKEN],
            )
        ]
    }

    assert {key: (found.gateway_id, found.state) for key, found in told.items()} == {
        (Kind.PAYMENT, "TU-ABC-1"): (link_id, State.SUCCEEDED),
        (Kind.PAYMENT, "TU-ABC-2"): (charged.gateway_id, State.SUCCEEDED),
        (Kind.REFUND, "RF-ABC"): (refund.gateway_id, State.SUCCEEDED),
        (Kind.PAYOUT, "PO-ABC"): (paid_out.gateway_id, State.SUCCEEDED),
    }


@pytest.mark.parametrize(
    ("token", "secrets"),
    [
        ("", (TOKEN,)),
        ("", ("",)),
        ("", ()),
        (TOKEN, ()),
        (TOKEN[:-1], (TOKEN,)),
        (TOKEN + "x", (TOKEN,)),
        (TOKEN.upper(), (TOKEN,)),
        (" " + TOKEN, (TOKEN,)),
        ("Ã©", (TOKEN,)),
        (KEY, (TOKEN,)),
    ],
)
def test_a_wrong_token_is_refused(token: str, secrets: tuple[str, ...]) -> None:
    with pytest.raises(Unauthentic):
        take(PAID_LINK, secrets, x_callback_token=token)


def test_a_missing_token_is_refused_whatever_the_body() -> None:
    for body in (b"", b"{}", b"\xff", json.dumps(PAID_LINK).encode()):
        with pytest.raises(Unauthentic):
            connected("").verify_and_parse(headers={}, body=body, secrets=[TOKEN])


@pytest.mark.parametrize("position", range(len(TOKEN)))
def test_a_token_that_is_wrong_in_one_place_is_refused(position: int) -> None:
    wrong = TOKEN[:position] + chr(ord(TOKEN[position]) ^ 1) + TOKEN[position + 1 :]

    with pytest.raises(Unauthentic):
        take(PAID_LINK, x_callback_token=wrong)


def test_after_a_rotation_the_token_from_before_is_taken_as_long_as_it_is_given() -> None:
    new = "callback-token-of-2"

    assert take(PAID_LINK, (new, TOKEN)).state is State.SUCCEEDED
    assert take(PAID_LINK, (new, TOKEN), x_callback_token=new).state is State.SUCCEEDED
    with pytest.raises(Unauthentic):
        take(PAID_LINK, (new,))


@pytest.mark.parametrize(
    ("status", "state", "is_settled"),
    [
        ("PENDING", State.PENDING, False),
        ("PAID", State.SUCCEEDED, False),
        ("SETTLED", State.SUCCEEDED, True),
        ("EXPIRED", State.EXPIRED, False),
        ("PAID_TOMORROW", None, False),
    ],
)
def test_callbacks_of_payment_links(status: str, state: State | None, is_settled: bool) -> None:
    told = take(link(status=status))

    assert told.kind is Kind.PAYMENT
    assert (told.reference, told.gateway_id) == ("TU-ABC-1", "6748105a77f16ebe0cc583a7")
    assert (told.state, told.raw_status, told.is_settled) == (state, status, is_settled)


@pytest.mark.parametrize(
    ("name", "kind", "state"),
    [
        ("payment_session.completed", Kind.PAYMENT, State.SUCCEEDED),
        ("payment_session.expired", Kind.PAYMENT, State.EXPIRED),
        ("payment.succeeded", Kind.PAYMENT, State.SUCCEEDED),
        ("payment.capture", Kind.PAYMENT, State.SUCCEEDED),
        ("payment.authorization", Kind.PAYMENT, State.REVIEW),
        ("payment.awaiting_capture", Kind.PAYMENT, State.REVIEW),
        ("payment.failed", Kind.PAYMENT, State.FAILED),
        ("payment.failure", Kind.PAYMENT, State.FAILED),
        ("payment.expiry", Kind.PAYMENT, State.EXPIRED),
        ("capture.succeeded", Kind.PAYMENT, State.SUCCEEDED),
        ("capture.failed", Kind.PAYMENT, State.FAILED),
        ("refund.succeeded", Kind.REFUND, State.SUCCEEDED),
        ("refund.failed", Kind.REFUND, State.FAILED),
        ("payout.succeeded", Kind.PAYOUT, State.SUCCEEDED),
        ("payout.failed", Kind.PAYOUT, State.FAILED),
        ("payout.expired", Kind.PAYOUT, State.FAILED),
        ("payout.reversed", Kind.PAYOUT, State.REVERSED),
        ("payment.of_tomorrow", Kind.PAYMENT, None),
        ("payment_method.activated", Kind.OTHER, None),
        ("recurring.plan.activated", Kind.OTHER, None),
    ],
)
def test_events(name: str, kind: Kind, state: State | None) -> None:
    told = take(event(name, id="1", reference_id="R-1", status="X", failure_code="CARD_DECLINED"))

    assert (told.kind, told.state, told.reference) == (kind, state, "R-1")
    assert (told.gateway_id, told.failure_code) == ("1", "card_declined")


def test_an_event_that_is_no_concern_of_ours_needs_no_id() -> None:
    told = take(event("payment_token.activation", payment_token_id="pt-1"))

    assert told.kind is Kind.OTHER


def test_a_payment_is_named_by_its_request() -> None:
    """That is what we were told when we made it; the payment within has another id."""
    told = take(event("payment.capture", payment_id="py-1", payment_request_id="pr-1"))

    assert told.gateway_id == "pr-1"


def test_a_refund_is_named_by_its_own_id() -> None:
    told = take(event("refund.succeeded", id="rfd-1", payment_id="py-1", payment_request_id="pr-1"))

    assert (told.kind, told.gateway_id) == (Kind.REFUND, "rfd-1")


CAPTURE = {"payment_id": "py-1", "payment_request_id": "pr-1", "status": "SUCCEEDED"}
REFUND = {"id": "rfd-1", "payment_id": "py-1", "payment_request_id": "pr-1", "status": "SUCCEEDED"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # `created` is when it was sent.
        (
            event("payment.capture", "2026-11-20T07:41:00Z", **CAPTURE),
            event("payment.capture", "2026-11-20T07:56:00Z", **CAPTURE),
        ),
        (
            event("refund.succeeded", "2026-11-20T07:41:00Z", **REFUND),
            event("refund.succeeded", "2026-11-20T07:56:00Z", **REFUND),
        ),
        (
            event("payout.succeeded", "2026-11-20T07:41:00Z", id="disb-1"),
            event("payout.succeeded", "2026-11-20T07:56:00Z", id="disb-1"),
        ),
        (
            event("payment_session.completed", "1", payment_session_id="ps-1", payment_id="py-1"),
            event("payment_session.completed", "2", payment_session_id="ps-1", payment_id="py-1"),
        ),
        (PAID_LINK, {**PAID_LINK, "updated": "2026-11-20T07:56:00Z", "new_field": 1}),
    ],
)
def test_a_retry_has_the_identity_of_the_first(first: Json, second: Json) -> None:
    assert take(first).event_id == take(second).event_id


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            event("refund.succeeded", **REFUND),
            event("refund.succeeded", **{**REFUND, "id": "rfd-2"}),
            id="two partial refunds of one payment",
        ),
        pytest.param(
            event("refund.failed", **REFUND), event("refund.succeeded", **REFUND), id="its ends"
        ),
        pytest.param(
            event("payment.capture", **CAPTURE, captures=[{"capture_id": "cp-1"}]),
            event(
                "payment.capture",
                **CAPTURE,
                captures=[{"capture_id": "cp-1"}, {"capture_id": "cp-2"}],
            ),
            id="two captures of one payment",
        ),
        pytest.param(
            event("payment.failure", payment_id="py-1", payment_request_id="pr-1"),
            event("payment.failure", payment_id="py-2", payment_request_id="pr-1"),
            id="two attempts at one request",
        ),
        pytest.param(
            event("payment.authorization", **CAPTURE),
            event("payment.capture", **CAPTURE),
            id="authorised, then captured",
        ),
        pytest.param(
            event("payout.succeeded", id="disb-1"),
            event("payout.reversed", id="disb-1"),
            id="paid out, then reversed",
        ),
        pytest.param(
            event("payout.failed", id="1"), event("refund.failed", id="1"), id="another kind"
        ),
        pytest.param(PAID_LINK, {**PAID_LINK, "status": "SETTLED"}, id="paid, then settled"),
        pytest.param(
            PAID_LINK, {**PAID_LINK, "payment_id": "ewc_2"}, id="a link that was paid twice"
        ),
        pytest.param(link(status="EXPIRED"), PAID_LINK, id="expired, and paid all the same"),
        pytest.param(PAID_LINK, {**PAID_LINK, "id": "6748105a77f16ebe0cc583a8"}, id="two links"),
    ],
)
def test_different_facts_have_different_identities(first: Json, second: Json) -> None:
    assert take(first).event_id != take(second).event_id


def test_the_identities_are_those_that_were_agreed() -> None:
    assert take(PAID_LINK).event_id == "invoice:6748105a77f16ebe0cc583a7:PAID:ewc_1"
    expired = link(status="EXPIRED")
    assert take(expired).event_id == "invoice:6748105a77f16ebe0cc583a7:EXPIRED:-"
    assert take(event("refund.succeeded", **REFUND)).event_id == "refund.succeeded:rfd-1:SUCCEEDED"
    assert take(event("payment.capture", **CAPTURE)).event_id == "payment.capture:py-1:-"


def test_the_identity_that_xendit_gives_goes_first() -> None:
    assert take(event("refund.failed", **REFUND), webhook_id="wh-1").event_id == "wh-1"
    assert take(PAID_LINK, webhook_id="wh-2").event_id == "wh-2"
    assert len(take(PAID_LINK, webhook_id="w" * 999).event_id) == 255


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"PAID"',
        b"{",
        b"\xff\xfe",
        b"{}",
        b'{"id":"1"}',
        b'{"status":"PAID"}',
        b'{"event":"payment.capture"}',
        b'{"event":"payment.capture","data":[]}',
        b'{"event":"payment.capture","data":{}}',
        b'{"event":"refund.succeeded","data":{"payment_id":"py-1"}}',
        b'{"event":null,"data":null}',
        b'{"id":"1","status":"PAID","amount":1E99999999999999999999}',
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
    st.sampled_from(["PAID", "SUCCEEDED", "PENDING", "IDR", "USD", "1E999999", "py-1", "TU-ABC-1"]),
)
names = st.sampled_from(
    [*link(), *request(), *REFUND, "event", "data", "captures", "capture_id", "url", "url_type"]
)
anything = st.recursive(
    plain,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=8)),
    max_leaves=20,
)


@runs(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(body=anything, number=st.integers(0, len(CALLS) - 1))
def test_whatever_is_answered_is_a_report_or_a_fault(
    scripted: ScriptedGateway, body: Any, number: int
) -> None:
    scripted.says(json.dumps(body).encode())

    try:
        report = CALLS[number][1](connected(scripted.url))
    except GatewayFault:
        return

    assert report.gateway_id
    assert isinstance(report.amount, Money)


@runs(max_examples=300, deadline=None)
@given(body=anything)
def test_whatever_is_notified_is_a_notification_or_unreadable(body: Any) -> None:
    try:
        told = take(json.dumps(body).encode())
    except Unreadable:
        return

    texts = [told.event_id, told.reference, told.gateway_id, told.raw_status, told.failure_code]
    # What the database takes.
    assert all(b"\x00" not in text.encode() for text in texts)
    assert 0 < len(told.event_id) <= 255


def test_the_authorization_is_the_key_with_an_empty_password() -> None:
    assert base64.b64decode(AUTHORIZATION.removeprefix("Basic ")).decode() == f"{KEY}:"
