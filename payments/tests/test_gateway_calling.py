"""
Calls of gateways over real HTTP: what each fault becomes, what is sent again and what never, the
circuit breaker, exact numbers, and secrets that show nowhere.
"""

import base64
import contextlib
import dataclasses
import gzip
import importlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.conf import LazySettings
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from core.ids import new_id
from core.money import AMOUNT_MAX, EXPONENTS, Money
from payments.gateways import breaker, calling, port, wire
from payments.gateways.calling import Answer, Caller, close_connections, encode
from payments.gateways.midtrans import adapter as midtrans
from payments.gateways.port import (
    CardData,
    GatewayFault,
    NoSuchObject,
    PaymentOrder,
    Refused,
    State,
    Uncertain,
    Unreachable,
)
from payments.gateways.sandbox import adapter as sandbox_adapter
from payments.gateways.xendit import adapter as xendit
from payments.tests.scripted import ScriptedGateway, answer, drip, raw, scripted_gateway
from tests.gateways import GOOD_CARD, Sandbox, card

# Time limits of the tests are a second; what takes longer than this has none.
SOON_S = 6.0
PAYMENTS = "/sandbox/v1/payments"


@pytest.fixture
def scripted(settings: LazySettings) -> Iterator[ScriptedGateway]:
    settings.GATEWAY_CONNECT_TIMEOUT_S = settings.GATEWAY_READ_TIMEOUT_S = 1.0
    with scripted_gateway() as gateway:
        yield gateway


@pytest.fixture
def caller(sandbox: Sandbox) -> Caller:
    return line_to(sandbox.url)


@pytest.fixture
def store(settings: LazySettings) -> "redis.Redis":
    return redis.Redis.from_url(settings.REDIS_URL, decode_responses=True)


def line_to(url: str, **headers: str) -> Caller:
    """A line with a merchant account and a circuit of its own."""
    key = {"Authorization": f"Bearer sk_sandbox_{new_id().hex}"}
    return Caller("sandbox", f"sandbox:{new_id()}", url, {**key, **headers})


def charge(line: Caller, *, key: str = "", may_repeat: bool = False, **changed: Any) -> Answer:
    body = {"reference": "TU-1", "amount": 5000, "currency": "USD", "payment_method": card()}
    return line.post(
        "create_payment",
        PAYMENTS,
        {**body, **changed},
        headers={"Idempotency-Key": key or new_id().hex},
        may_repeat=may_repeat,
    )


def ask(line: Caller) -> Answer:
    return line.get("get_payment", PAYMENTS, reference="TU-1")


def fail(line: Caller, times: int) -> None:
    """Have calls fail on this line, as far as the breaker knows."""
    for _ in range(times):
        breaker.failed(line.circuit)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.perf_counter()
    yield
    assert time.perf_counter() - began < seconds


def nobody_listens() -> str:
    """The URL of a port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


# --- What is sent, and what comes back -----------------------------------------------------------


def test_it_works(sandbox: Sandbox, caller: Caller) -> None:
    made = charge(caller, description="Été 🎉")

    assert made.status == 201
    assert made.body["status"] == "succeeded"
    [request] = sandbox.requests("create_payment")
    assert json.loads(request["body"])["description"] == "Été 🎉"
    sent = {name: request["headers"].get(name) for name in ("content-type", "accept")}
    assert sent == {"content-type": "application/json", "accept": "application/json"}
    assert ask(caller).body["data"][0]["id"] == made.body["id"]


def test_numbers_with_a_point_are_never_floats(scripted: ScriptedGateway) -> None:
    scripted.says(b'{"amount": 10.10, "rate": 1e2, "count": 3}')

    body = ask(line_to(scripted.url)).body

    assert body == {"amount": Decimal("10.10"), "rate": Decimal(100), "count": 3}
    assert [type(value) for value in body.values()] == [Decimal, Decimal, int]


def test_only_what_is_not_compressed_is_asked_for(scripted: ScriptedGateway) -> None:
    scripted.says({})

    ask(line_to(scripted.url))

    assert scripted.requests[0].headers["accept-encoding"] == "identity"


def test_a_proxy_of_the_environment_is_not_used(
    sandbox: Sandbox,
    caller: Caller,
    scripted: ScriptedGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripted.says({})
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, scripted.url)
    close_connections()

    charge(caller)

    assert scripted.requests == []
    assert len(sandbox.requests("create_payment")) == 1


# --- What each fault becomes ---------------------------------------------------------------------

FAULTS = [
    ("timeout_before_commit", Uncertain, "timeout"),
    ("timeout_after_commit", Uncertain, "timeout"),
    ("slow", Uncertain, "timeout"),
    ("drip", Uncertain, "timeout"),
    ("reset", Uncertain, "broken_off"),
    ("reset_after_commit", Uncertain, "broken_off"),
    ("http_500", Uncertain, "500"),
    ("http_500_after_commit", Uncertain, "500"),
    ("http_503", Uncertain, "503"),
    ("html", Uncertain, "no_json"),
    ("garbage", Uncertain, "no_json"),
    ("huge", Uncertain, "too_large"),
    ("redirect", Uncertain, "redirect"),
    ("http_429", Unreachable, "rate_limited"),
]


@pytest.mark.parametrize(("effect", "fault", "code"), FAULTS)
def test_a_charge_is_sent_once_whatever_comes_back(
    sandbox: Sandbox, caller: Caller, effect: str, fault: type[GatewayFault], code: str
) -> None:
    sandbox.fault(effect, "create_payment", times=9, ms=30_000 if effect == "slow" else 0)

    with within(SOON_S), pytest.raises(fault) as caught:
        charge(caller)

    assert type(caught.value) is fault
    assert caught.value.code == code
    assert len(sandbox.requests("create_payment")) == 1


@pytest.mark.parametrize(("effect", "fault", "code"), FAULTS)
def test_a_question_that_fails_for_good_fails_the_same_way(
    sandbox: Sandbox, caller: Caller, effect: str, fault: type[GatewayFault], code: str
) -> None:
    charge(caller)
    # Asked by reference: the operation is a list.
    op = "list_payments"
    sandbox.fault(effect, op, times=9, ms=30_000 if effect == "slow" else 0)

    with within(SOON_S), pytest.raises(fault) as caught:
        ask(caller)

    assert type(caught.value) is fault
    assert caught.value.code == code
    times = 1 if code in ("timeout", "rate_limited") else calling.ATTEMPTS_MAX
    assert len(sandbox.requests(op)) == times


@pytest.mark.parametrize("effect", ["http_500", "reset", "html", "garbage", "http_503"])
def test_a_question_is_asked_again(sandbox: Sandbox, caller: Caller, effect: str) -> None:
    made = charge(caller)
    sandbox.fault(effect, "list_payments", times=2)

    found = ask(caller)

    assert [each["id"] for each in found.body["data"]] == [made.body["id"]]
    assert len(sandbox.requests("list_payments")) == 3


def test_what_may_repeat_is_sent_again_and_is_once(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.fault("http_500_after_commit", "create_payment", times=2)

    made = charge(caller, may_repeat=True)

    assert made.body["status"] == "succeeded"
    assert len(sandbox.requests("create_payment")) == 3
    assert len(sandbox.objects("TU-1")) == 1


def test_what_may_repeat_is_not_sent_again_after_a_time_out(
    sandbox: Sandbox, caller: Caller
) -> None:
    sandbox.fault("timeout_after_commit", "create_payment", times=9)

    with within(SOON_S), pytest.raises(Uncertain):
        charge(caller, may_repeat=True)

    assert len(sandbox.requests("create_payment")) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 429])
def test_what_a_later_attempt_comes_to_takes_no_doubt_away(
    scripted: ScriptedGateway, status: int
) -> None:
    """The attempt before may have been done all the same."""
    scripted.will(answer({}, status=500), answer({}, status=status))

    with pytest.raises(Uncertain):
        charge(line_to(scripted.url), may_repeat=True)

    assert len(scripted.requests) >= 2


def test_a_question_is_answered_by_its_last_attempt(scripted: ScriptedGateway) -> None:
    scripted.will(answer({}, status=500), answer({}, status=404))

    with pytest.raises(NoSuchObject):
        ask(line_to(scripted.url))


def test_a_circuit_that_opens_meanwhile_takes_no_doubt_away(scripted: ScriptedGateway) -> None:
    line = line_to(scripted.url)
    fail(line, breaker.FAILURES_MAX - 1)
    scripted.says({}, status=500)

    with pytest.raises(Uncertain) as caught:
        charge(line, may_repeat=True)

    assert caught.value.code == "500"
    assert len(scripted.requests) == 1


def test_a_connection_that_is_refused_is_tried_again_and_nothing_was_sent() -> None:
    line = line_to(nobody_listens())
    labels = {"gateway": "sandbox", "call": "create_payment", "outcome": "unreachable"}
    before = REGISTRY.get_sample_value("florin_gateway_calls_total", labels) or 0

    with within(SOON_S), pytest.raises(Unreachable) as caught:
        charge(line)

    assert caught.value.code == "no_connection"
    after = REGISTRY.get_sample_value("florin_gateway_calls_total", labels) or 0
    assert after - before == calling.ATTEMPTS_MAX


def test_without_an_address_nothing_is_sent() -> None:
    with pytest.raises(Unreachable) as caught:
        charge(line_to(""))

    assert caught.value.code == "no_address"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(scripted: ScriptedGateway, status: int) -> None:
    with scripted_gateway() as elsewhere:
        elsewhere.says({})
        scripted.will(answer(b"", status=status, Location=f"{elsewhere.url}/taken"))

        for call in (ask, charge):
            with pytest.raises(Uncertain) as caught:
                call(line_to(scripted.url))
            assert caught.value.code == "redirect"

        assert elsewhere.requests == []


def test_nobody_is_seen_where_the_simulator_redirects_to(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.fault("redirect", "create_payment")

    with pytest.raises(Uncertain):
        charge(caller)

    assert [row["path"] for row in sandbox.requests()] == [PAYMENTS]


def test_an_answer_without_end_is_given_up_at_a_megabyte(scripted: ScriptedGateway) -> None:
    taken: list[int] = []

    def pour(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                taken.append(connection.send(b"x" * 65_536))

    scripted.will(pour)

    with within(SOON_S), pytest.raises(Uncertain) as caught:
        charge(line_to(scripted.url))

    assert caught.value.code == "too_large"
    # The kernel's buffers, on both sides, take some more.
    assert sum(taken) < 16 * calling.ANSWER_BYTES_MAX


def test_a_small_answer_that_unpacks_to_a_huge_one_is_given_up(scripted: ScriptedGateway) -> None:
    packed = gzip.compress(b'{"padding":"' + b"x" * 50_000_000 + b'"}')
    scripted.will(answer(packed, Content_Encoding="gzip"))

    with within(SOON_S), pytest.raises(Uncertain) as caught:
        charge(line_to(scripted.url))

    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    ("start", "again"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Padding: ", b"x", id="header"),
        pytest.param(b"", b"\r\n", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n", id="headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b" ", id="body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", id="chunks"
        ),
        pytest.param(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", id="hints"),
    ],
)
def test_an_answer_that_drips_ends_by_the_deadline(
    scripted: ScriptedGateway, start: bytes, again: bytes
) -> None:
    scripted.will(drip(start, again, every_s=0.2))

    with within(SOON_S), pytest.raises(Uncertain) as caught:
        charge(line_to(scripted.url))

    assert caught.value.code in ("timeout", "broken_off")


def test_a_deadline_is_that_of_one_call(scripted: ScriptedGateway) -> None:
    line = line_to(scripted.url)
    scripted.will(drip(b"HTTP/1.1 200 OK\r\nX-Padding: ", b"x", every_s=0.2))
    with pytest.raises(Uncertain):
        charge(line)
    scripted.says({"ok": True})

    assert ask(line).body == {"ok": True}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{", id="cut off"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}", id="no length"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500_000, id="a header without end"),
    ],
)
def test_what_is_no_http_leaves_us_in_doubt(scripted: ScriptedGateway, content: bytes) -> None:
    def send_and_leave(connection: socket.socket) -> None:
        raw(content)(connection)
        connection.shutdown(socket.SHUT_RDWR)

    scripted.will(send_and_leave)

    with within(SOON_S), pytest.raises(Uncertain) as caught:
        charge(line_to(scripted.url))

    assert caught.value.code == "broken_off"


@pytest.mark.parametrize("status", [200, 201, 400, 403, 404, 409, 422])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>404</html>", id="html"),
        pytest.param(b'{"a":', id="half"),
        pytest.param(b"\xff\xfe{}", id="not utf-8"),
        pytest.param(b'{"a":NaN}', id="not a number"),
        pytest.param(b'{"a":1E99999999999999999999}', id="beyond all exponents"),
        pytest.param(b'{"a":' + b"9" * 5_000 + b"}", id="5,000 digits"),
        pytest.param(b"[" * 100_000, id="lists in lists"),
    ],
)
def test_what_is_no_json_says_nothing_with_any_status(
    scripted: ScriptedGateway, content: bytes, status: int
) -> None:
    scripted.says(content, status=status)

    with pytest.raises(Uncertain) as caught:
        charge(line_to(scripted.url))

    assert caught.value.code == "no_json"


@pytest.mark.parametrize(
    ("status", "body", "code", "detail"),
    [
        (
            400,
            {"error_code": "API_VALIDATION_ERROR", "message": "No."},
            "API_VALIDATION_ERROR",
            "No.",
        ),
        (403, {"error_code": "ACCESS_SUSPENDED", "message": "No."}, "ACCESS_SUSPENDED", "No."),
        (422, {"error": {"code": "invalid_amount", "message": "No."}}, "invalid_amount", "No."),
        (400, {"error_messages": ["One.", "Two."]}, "400", "One.; Two."),
        (402, {"status_code": "402", "status_message": "No."}, "402", "No."),
        (400, {"error_code": None, "message": None}, "400", "sandbox answers 400."),
        (400, {"error": {"code": None}}, "400", "sandbox answers 400."),
        (418, [], "418", "sandbox answers 418."),
    ],
)
def test_a_refusal_says_why(
    scripted: ScriptedGateway, status: int, body: Any, code: str, detail: str
) -> None:
    scripted.says(body, status=status)

    with pytest.raises(Refused) as caught:
        charge(line_to(scripted.url), may_repeat=True)

    assert (caught.value.code, caught.value.detail) == (code, detail)
    assert len(scripted.requests) == 1


@pytest.mark.parametrize(
    ("code", "is_about_us"),
    [
        ("401", True),
        ("403", True),
        ("INVALID_API_KEY", True),
        ("invalid_api_key", True),
        ("ACCESS_SUSPENDED", True),
        ("REQUEST_FORBIDDEN_ERROR", True),
        ("UNAUTHORIZED", True),
        ("400", False),
        ("412", False),
        ("INSUFFICIENT_BALANCE", False),
        ("", False),
    ],
)
def test_a_refusal_of_our_credentials_is_told_from_one_of_the_payment(
    code: str, is_about_us: bool
) -> None:
    assert Refused("No.", code=code).is_about_us is is_about_us


def test_a_key_that_the_simulator_does_not_know_is_about_us(sandbox: Sandbox) -> None:
    with pytest.raises(Refused) as caught:
        charge(line_to(sandbox.url, Authorization="Bearer nonsense"))

    assert caught.value.is_about_us


def test_an_unknown_object_is_told_from_a_refusal(sandbox: Sandbox, caller: Caller) -> None:
    with pytest.raises(NoSuchObject):
        caller.get("get_payment", f"{PAYMENTS}/pay_none")

    assert len(sandbox.requests("get_payment")) == 1


def test_a_key_that_was_used_for_something_else_is_no_refusal(
    sandbox: Sandbox, caller: Caller
) -> None:
    """Something was sent under that key, and it may well have been done."""
    charge(caller, key="once")

    with pytest.raises(Uncertain) as caught:
        charge(caller, key="once", amount=5001)

    assert caught.value.code == "idempotency_conflict"
    assert len(sandbox.objects("TU-1")) == 1


# --- The circuit breaker -------------------------------------------------------------------------


def test_the_circuit_opens_after_five_failures_and_then_nothing_is_sent(
    sandbox: Sandbox, caller: Caller
) -> None:
    sandbox.fault("http_500", "create_payment", times=9)

    for _ in range(5):
        assert not breaker.is_open(caller.circuit)
        with pytest.raises(Uncertain):
            charge(caller)

    assert breaker.is_open(caller.circuit)
    for call in (charge, ask):
        with pytest.raises(Unreachable) as caught:
            call(caller)
        assert caught.value.code == "circuit_open"
    assert len(sandbox.requests()) == 5


def test_a_success_begins_the_count_anew(sandbox: Sandbox, caller: Caller) -> None:
    for _ in range(2):
        fail(caller, 4)
        charge(caller)

    assert not breaker.is_open(caller.circuit)


def test_failures_are_counted_for_a_minute(caller: Caller, store: "redis.Redis") -> None:
    fail(caller, 1)

    assert 0 < int(str(store.ttl(f"florin:circuit:{{{caller.circuit}}}:failures"))) <= 60


def test_a_refusal_is_an_answer_and_no_failure(sandbox: Sandbox, caller: Caller) -> None:
    for _ in range(6):
        with pytest.raises(Refused):
            charge(caller, amount=-1)
        with pytest.raises(NoSuchObject):
            caller.get("get_payment", f"{PAYMENTS}/pay_none")

    assert charge(caller).status == 201


def test_a_circuit_is_of_one_configuration(sandbox: Sandbox, caller: Caller) -> None:
    fail(caller, 5)

    assert charge(line_to(sandbox.url)).status == 201


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have the breaker read another time."""

    def move(seconds: float) -> None:
        monkeypatch.setattr(breaker, "_now", lambda: time.time() + seconds)

    return move


def test_after_the_pause_a_trial_that_succeeds_closes_the_circuit(
    sandbox: Sandbox, caller: Caller, later: Callable[[float], None]
) -> None:
    fail(caller, 5)
    later(29)
    with pytest.raises(Unreachable):
        charge(caller)
    later(31)

    assert charge(caller).status == 201
    assert charge(caller).status == 201
    assert not breaker.is_open(caller.circuit)


def test_a_trial_that_fails_opens_the_circuit_for_another_pause(
    sandbox: Sandbox, caller: Caller, later: Callable[[float], None]
) -> None:
    fail(caller, 5)
    later(31)
    sandbox.fault("http_500", "create_payment")

    with pytest.raises(Uncertain):
        charge(caller)

    later(31 + 29)
    with pytest.raises(Unreachable):
        charge(caller)
    assert len(sandbox.requests("create_payment")) == 1
    later(31 + 31)
    assert charge(caller).status == 201


def test_of_many_at_once_one_makes_the_trial(
    caller: Caller, later: Callable[[float], None]
) -> None:
    fail(caller, 5)
    later(31)
    barrier = threading.Barrier(8)

    def allowed() -> bool:
        barrier.wait()
        return breaker.allows(caller.circuit)

    with ThreadPoolExecutor(8) as pool:
        answers = [made.result() for made in [pool.submit(allowed) for _ in range(8)]]

    assert sum(answers) == 1


def test_who_dies_in_the_trial_leaves_it_to_another(
    caller: Caller, store: "redis.Redis", later: Callable[[float], None]
) -> None:
    fail(caller, 5)
    later(31)
    assert breaker.allows(caller.circuit)

    trial = f"florin:circuit:{{{caller.circuit}}}:trial"

    assert not breaker.allows(caller.circuit)
    assert 0 < int(str(store.ttl(trial))) <= breaker.TRIAL_S
    store.delete(trial)
    assert breaker.allows(caller.circuit)


_ANOTHER_PROCESS = """
import sys, django
django.setup()
from payments.gateways.calling import Caller
from payments.gateways.port import GatewayFault
url, circuit, times = sys.argv[1:]
line = Caller("sandbox", circuit, url, {"Authorization": "Bearer sk_sandbox_12345678"})
for _ in range(int(times)):
    try:
        line.get("get_payment", "/sandbox/v1/payments", reference="TU-1")
        print("answered")
    except GatewayFault as fault:
        print(fault.code)
"""


def another_process(line: Caller, settings: LazySettings, *, times: int) -> list[str]:
    """Have another process ask on the same circuit; return what it heard."""
    done = subprocess.run(
        [sys.executable, "-c", _ANOTHER_PROCESS, line.base_url, line.circuit, str(times)],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "REDIS_URL": settings.REDIS_URL,
            "LOG_LEVEL": "CRITICAL",
        },
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_two_processes_share_a_circuit(
    sandbox: Sandbox,
    caller: Caller,
    settings: LazySettings,
    later: Callable[[float], None],
) -> None:
    sandbox.fault("http_500", "list_payments", times=9)

    heard = another_process(caller, settings, times=3)

    # Three attempts a question: the fifth failure is in the second.
    assert heard == ["500", "circuit_open", "circuit_open"]
    with pytest.raises(Unreachable) as caught:
        charge(caller)
    assert caught.value.code == "circuit_open"
    assert len(sandbox.requests()) == 5
    sandbox.no_faults()
    later(31)
    charge(caller)
    assert another_process(caller, settings, times=1) == ["answered"]


@pytest.fixture
def no_redis(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.REDIS_URL = nobody_listens().replace("http", "redis") + "/0"
    monkeypatch.setattr(breaker, "_asks_again_at", 0.0)


@pytest.mark.usefixtures("no_redis")
def test_without_redis_calls_go_on(sandbox: Sandbox, caller: Caller) -> None:
    with within(SOON_S):
        assert charge(caller).status == 201
        sandbox.fault("http_500", "create_payment", times=6)
        for _ in range(6):
            with pytest.raises(Uncertain):
                charge(caller)
        assert not breaker.is_open(caller.circuit)
        assert charge(caller).status == 201


def test_a_redis_that_hangs_holds_calls_up_once_a_second_at_most(
    sandbox: Sandbox,
    caller: Caller,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        settings.REDIS_URL = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        monkeypatch.setattr(breaker, "_asks_again_at", 0.0)

        began = time.perf_counter()
        breaker.allows(caller.circuit)
        held_up_s = time.perf_counter() - began
        with within(SOON_S):
            for _ in range(5):
                assert charge(caller).status == 201

    assert held_up_s < breaker.PAUSE_S


# --- Secrets -------------------------------------------------------------------------------------

SECRET = "sk_sandbox_secretsecretsecret"
CARD = CardData(GOOD_CARD, 12, 2099, "987")
# What may hold a secret: the fields of these names, in any dataclass of the two modules.
_SECRET_NAMES = {"number", "cvc", "token", "headers", "secret_key", "server_key", "card"}


def test_no_secret_shows_in_a_repr() -> None:
    line = Caller("sandbox", "sandbox:1", "http://127.0.0.1", {"Authorization": SECRET})
    order = PaymentOrder("TU-1", Money(1, "USD"), "key", token=SECRET, card=CARD)
    shown = [
        line,
        order,
        CARD,
        sandbox_adapter.make(line, {"secret_key": SECRET}),
        xendit.make(line, {"secret_key": SECRET}),
        midtrans.make(line, "http://127.0.0.1", {"server_key": SECRET}),
    ]

    text = " ".join(f"{each!r} {each}" for each in shown)

    assert SECRET not in text
    assert base64.b64encode(f"{SECRET}:".encode()).decode() not in text
    assert GOOD_CARD not in text
    assert not re.search(r"\b987\b", text)


@pytest.mark.parametrize("module", ["port", "calling", *["xendit.adapter", "midtrans.adapter"]])
def test_no_dataclass_shows_a_field_that_may_hold_a_secret(module: str) -> None:
    found = importlib.import_module(f"payments.gateways.{module}")
    shown = {
        f"{each.__name__}.{field.name}"
        for each in vars(found).values()
        if dataclasses.is_dataclass(each) and isinstance(each, type)
        for field in dataclasses.fields(each)
        if field.name in _SECRET_NAMES and field.repr
    }

    # A card hides its own.
    assert shown <= {"PaymentOrder.card"}


def test_no_secret_and_no_card_number_is_logged(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    close_connections()
    secrets = {
        "sandbox": SECRET,
        "xendit": "xnd_development_secretsecret",
        "midtrans": "SB-Mid-server-secretsecret",
    }
    order = PaymentOrder("TU-1", Money(5000, "IDR"), "key", card=CARD)
    by_token = dataclasses.replace(order, card=None, token="tok_secretsecret")

    def circuit() -> str:
        return f"test:{new_id()}"

    lines: list[port.Gateway] = [
        sandbox_adapter.make(
            Caller("sandbox", circuit(), sandbox.url, {}), {"secret_key": secrets["sandbox"]}
        ),
        xendit.make(
            Caller("xendit", circuit(), f"{sandbox.url}/xendit", {}),
            {"secret_key": secrets["xendit"]},
        ),
        midtrans.make(
            Caller("midtrans", circuit(), f"{sandbox.url}/midtrans-api", {}),
            f"{sandbox.url}/midtrans-app",
            {"server_key": secrets["midtrans"]},
        ),
    ]
    for line in lines:
        for effect in ("", "http_500", "reset", "garbage", "redirect"):
            for each in (order, by_token):
                sandbox.no_faults()
                if effect:
                    sandbox.fault(effect, "create_payment")
                with contextlib.suppress(GatewayFault):
                    line.create_payment(each)

    written = " ".join(
        f"{record.getMessage()} {record.exc_info} {vars(record)}" for record in caplog.records
    )
    assert "gateway did not answer" in written
    hidden = [*secrets.values(), GOOD_CARD, "tok_secretsecret"]
    hidden += [base64.b64encode(f"{secret}:".encode()).decode() for secret in secrets.values()]
    assert [secret for secret in hidden if secret in written] == []


# --- Numbers and texts ---------------------------------------------------------------------------

currencies = st.sampled_from(sorted(EXPONENTS))


@given(minor=st.integers(0, AMOUNT_MAX), currency=currencies)
@example(minor=1050, currency="USD")
@example(minor=1, currency="CLF")
@example(minor=150_000, currency="IDR")
@example(minor=AMOUNT_MAX, currency="USD")
def test_an_amount_is_written_exactly_and_read_back(minor: int, currency: str) -> None:
    written = encode({"amount": wire.major_units(Money(minor, currency))}).decode()

    digits = EXPONENTS[currency]
    whole, rest = divmod(minor, 10**digits)
    exact = f"{whole}.{rest:0{digits}d}" if digits else f"{whole}"
    assert written == f'{{"amount":{exact}}}'
    read = wire.read_json(written.encode())["amount"]
    assert wire.money(read, currency) == Money(minor, currency)
    assert wire.money(exact, currency) == Money(minor, currency)


@pytest.mark.parametrize("currency", ["IDR", "USD"])
@pytest.mark.parametrize(
    "stated",
    [
        None,
        True,
        10.5,
        [],
        {},
        "",
        "ten",
        "10,50",
        "NaN",
        "sNaN",
        "Infinity",
        "1E999999",
        "1E+1000000000",
        "1E-999999",
        "9" * 5_000,
        "0.1000000000000000000000000000000000000000001",
        Decimal("1E400"),
        Decimal("0.001"),
        AMOUNT_MAX * 1_000,
        -AMOUNT_MAX * 1_000,
    ],
)
def test_what_states_no_amount_leaves_us_in_doubt_at_once(stated: Any, currency: str) -> None:
    with within(1.0), pytest.raises(Uncertain) as caught:
        wire.money(stated, currency)

    assert caught.value.code == "no_amount"


@pytest.mark.parametrize("stated", [None, True, "10", 10.5, Decimal(10), [], AMOUNT_MAX + 1])
def test_what_states_no_minor_units_leaves_us_in_doubt(stated: Any) -> None:
    with pytest.raises(Uncertain):
        wire.minor_units(stated, "USD")


@pytest.mark.parametrize("currency", ["", "usd", "XXX", "BTC", "US"])
def test_an_unknown_currency_leaves_us_in_doubt(currency: str) -> None:
    for read in (wire.money, wire.minor_units):
        with pytest.raises(Uncertain):
            read(10, currency)


@given(value=st.text(alphabet=st.characters(), max_size=400))
@example(value="half of a pair: \ud800")
@example(value="zero: \x00")
def test_any_text_can_be_stored(value: str) -> None:
    read = wire.text({"name": value}, "name")

    assert b"\x00" not in read.encode()
    assert len(read) <= wire.TEXT_LENGTH_MAX


@given(value=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00")))
def test_a_text_that_can_be_stored_is_kept_as_it_is(value: str) -> None:
    assert wire.text({"name": value[:300]}, "name") == value[:300]


@pytest.mark.parametrize("value", [None, [], {}, ["a"], {"a": 1}])
def test_what_is_no_text_is_empty(value: Any) -> None:
    assert wire.text({"name": value}, "name") == ""


def test_a_word_that_we_do_not_know_leaves_us_in_doubt() -> None:
    with pytest.raises(Uncertain) as caught:
        wire.known({"paid": State.SUCCEEDED}, "PAID")

    assert caught.value.code == "status"


def test_every_fault_of_the_port_is_one_of_four() -> None:
    faults = {
        each
        for each in vars(port).values()
        if isinstance(each, type) and issubclass(each, GatewayFault) and each is not GatewayFault
    }

    assert faults == {Unreachable, Uncertain, Refused, NoSuchObject}
