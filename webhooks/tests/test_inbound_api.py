"""Gateways' notifications at the door: who is believed, what is stored, what each answer is."""

import base64
import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Account
from core.ids import new_id
from identity.models import Tenant
from ops.servers import Valkey
from payments.gateways.midtrans import adapter as midtrans
from payments.gateways.registry import credentials_of
from payments.gateways.sandbox import adapter as sandbox_adapter
from payments.models import GatewayConfiguration, Payment
from payments.services import change_gateway, delete_gateway
from tests import gateways, making
from tests.contract import ContractClient
from tests.gateways import XENDIT_TOKEN, Sandbox, add_bank_file, add_midtrans, add_sandbox
from tests.serving import web_server
from webhooks.models import InboundAttempt, InboundEvent
from webhooks.queries import forget_receivers

pytestmark = pytest.mark.django_db(transaction=True)

GATEWAYS = ["sandbox", "xendit", "midtrans"]
PAN = "4111111111111111"
# Beyond what a number's own type holds, and beyond what is written out.
HUGE = int("9" * 400)

# --- Notifications -------------------------------------------------------------------------------


def add(gateway: str, tenant: Tenant, **new: Any) -> GatewayConfiguration:
    makers = {"sandbox": add_sandbox, "xendit": gateways.add_xendit, "midtrans": add_midtrans}
    return makers[gateway](tenant, **new)


def about_a_payment(gateway: str, **changes: Any) -> dict[str, Any]:
    """Return the body of a notification that a payment of nobody's was paid."""
    number = new_id().hex
    if gateway == "xendit":
        told = {"id": number[:24], "external_id": number, "status": "PAID", "payment_id": "py-1"}
    elif gateway == "midtrans":
        told = {
            "transaction_id": number,
            "order_id": number,
            "transaction_status": "settlement",
            "status_code": "200",
            "gross_amount": "5000.00",
            "fraud_status": "accept",
        }
    else:
        told = {"id": f"pay_{number}", "reference": number, "status": "succeeded"}
    return {**told, **changes}


def signed(
    configuration: GatewayConfiguration, told: dict[str, Any], **sealing: Any
) -> tuple[bytes, dict[str, str]]:
    """
    Return body and headers as the gateway would send them; `sealing` has what a forger changes:
    the key, the time.
    """
    if configuration.gateway == "xendit":
        return json.dumps(told).encode(), {"x-callback-token": sealing.get("key", XENDIT_TOKEN)}
    [secret] = credentials_of(configuration).values()
    key = sealing.get("key", secret)
    if configuration.gateway == "midtrans":
        names = ("order_id", "status_code", "gross_amount")
        covered = "".join(str(told.get(name, "")) for name in names)
        return json.dumps(
            {**told, "signature_key": midtrans.signature_of(covered, key)}
        ).encode(), {}
    body = json.dumps({"type": "payment.succeeded", "data": told}).encode()
    return body, standard_webhook(body, key, sealing.get("sent_at", ""))


def standard_webhook(body: bytes, key: str, sent_at: str = "") -> dict[str, str]:
    event_id, sent_at = f"evt_{new_id().hex}", sent_at or str(int(time.time()))
    signature = sandbox_adapter.signature_of(f"{event_id}.{sent_at}.".encode() + body, key)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": sent_at,
        "webhook-signature": signature,
    }


def genuine(configuration: GatewayConfiguration) -> dict[str, Any]:
    """Return a notification as the simulator's record has them."""
    body, headers = signed(configuration, about_a_payment(configuration.gateway))
    return {"body": body.decode(), "headers": headers}


def address_of(configuration: GatewayConfiguration) -> str:
    return f"/api/v1/webhooks/gateways/{configuration.gateway}/{configuration.pk}"


def send(
    configuration: GatewayConfiguration, body: bytes, headers: dict[str, str], **more: Any
) -> Any:
    raw: Any = body  # The stubs know of texts only.
    return ContractClient().generic(
        "POST",
        more.pop("path", address_of(configuration)),
        raw,
        content_type=more.pop("content_type", "application/json"),
        headers=headers,
        **more,
    )


def outcome(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "taken")


def counted(api: ContractClient, gateway: str, outcome: str) -> float:
    """Return what /metrics says of notifications with this outcome."""
    line = f'florin_inbound_webhooks_total{{gateway="{gateway}",outcome="{outcome}"}} '
    text = api.get("/metrics").content.decode()
    return sum(float(row.removeprefix(line)) for row in text.splitlines() if row.startswith(line))


def everything_stored() -> str:
    """Return all that is stored of notifications, as text."""
    rows = []
    for event in InboundEvent.objects.all():
        values = {field.attname: getattr(event, field.attname) for field in event._meta.fields}
        rows.append(str({**values, "body": bytes(event.body).decode()}))
    return "\n".join(rows)


# --- The real thing: a top-up of each gateway -----------------------------------------------------


@pytest.fixture(params=GATEWAYS)
def configuration(
    request: pytest.FixtureRequest, sandbox: Sandbox, tenant: Tenant
) -> GatewayConfiguration:
    """Each gateway in turn."""
    return add(request.param, tenant)


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant, currency="IDR")


@pytest.fixture
def paid(
    configuration: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> dict[str, Any]:
    """What the gateway sends when a payer has paid on its page."""
    if configuration.gateway == "xendit":
        [secret] = credentials_of(configuration).values()
        account = {"gateway": "xendit", "key": secret, "webhook_token": XENDIT_TOKEN}
        account["webhook_url"] = "http://127.0.0.1:9/"
        sandbox.http.post("/_sim/accounts", json=account).raise_for_status()
    order = {"amount": 5000, "currency": "IDR", "payment_method": {"type": "hosted"}}
    answer = api.post_once(f"/accounts/{ada.pk}/topup", order)
    assert answer.status_code == 202, answer.content
    [there] = sandbox.objects(answer.json()["reference"])
    sandbox.act(f"payments/{there['id']}/pay")
    [told] = sandbox.notifications()[:1]
    return told


def test_a_genuine_notification_is_taken_and_applied_once(
    configuration: GatewayConfiguration, paid: dict[str, Any], ada: Account
) -> None:
    answers = []
    for _ in range(3):
        answers.append(gateways.deliver(paid, configuration))
        gateways.process_events()

    assert [each.status_code for each in answers] == [200] * 3
    assert [each.json() for each in answers] == [{"received": True}] * 3
    event = InboundEvent.objects.get()
    assert (event.status, event.outcome, event.attempts) == ("succeeded", "applied", 1)
    assert event.tenant_id == configuration.tenant_id
    assert making.balance_of(ada) == 5000
    call_command("verify_ledger")


def test_six_at_once_are_one_event_and_one_deposit(
    configuration: GatewayConfiguration, paid: dict[str, Any], ada: Account, api: ContractClient
) -> None:
    stored = counted(api, configuration.gateway, "stored")

    answers = making.at_once([lambda: gateways.deliver(paid, configuration)] * 6)
    making.at_once([gateways.process_events] * 4)

    assert [getattr(each, "status_code", each) for each in answers] == [200] * 6
    assert InboundEvent.objects.get().attempts == 1
    assert counted(api, configuration.gateway, "stored") == stored + 1
    assert making.balance_of(ada) == 5000
    assert Payment.objects.get().status == "deposited"
    call_command("verify_ledger")


def test_what_arrived_is_stored_as_it_arrived(
    configuration: GatewayConfiguration, paid: dict[str, Any]
) -> None:
    gateways.deliver(paid, configuration)

    event = InboundEvent.objects.get()
    assert bytes(event.body).decode() == paid["body"]
    assert event.reference == Payment.objects.get().reference
    assert (event.status, event.kind, event.claimed_state) == ("pending", "payment", "succeeded")


# --- Who is believed ------------------------------------------------------------------------------


def test_without_signature_or_token_nothing_is_stored(
    configuration: GatewayConfiguration, api: ContractClient
) -> None:
    before = counted(api, configuration.gateway, "forged")
    body = json.dumps(about_a_payment(configuration.gateway)).encode()

    answer = send(configuration, body, {})

    assert outcome(answer) == (401, "invalid_signature")
    assert not InboundEvent.objects.exists()
    assert counted(api, configuration.gateway, "forged") == before + 1


def test_a_wrong_key_is_a_401(configuration: GatewayConfiguration, api: ContractClient) -> None:
    before = counted(api, configuration.gateway, "forged")
    told = about_a_payment(configuration.gateway)
    keys = ["", "wrong", "é", "x" * 10_000]

    answers = [send(configuration, *signed(configuration, told, key=key)) for key in keys]

    assert [outcome(each) for each in answers] == [(401, "invalid_signature")] * len(keys)
    assert not InboundEvent.objects.exists()
    assert counted(api, configuration.gateway, "forged") == before + len(keys)


def test_s17_another_tenants_secret_is_a_401(
    configuration: GatewayConfiguration, other_tenant: Tenant
) -> None:
    others = add(configuration.gateway, other_tenant)
    if others.gateway == "xendit":
        key = "another-token"
        change_gateway(
            tenant_id=other_tenant.pk,
            configuration_id=others.pk,
            changes={"webhook_secret": key},
            now=timezone.now(),
        )
    else:
        [key] = credentials_of(others).values()
    body, headers = signed(configuration, about_a_payment(configuration.gateway), key=key)

    assert outcome(send(configuration, body, headers)) == (401, "invalid_signature")
    assert not InboundEvent.objects.exists()
    # It is good where it belongs.
    assert outcome(send(others, body, headers)) == (200, "taken")


def test_s17_a_flipped_byte_is_a_401(sandbox: Sandbox, tenant: Tenant) -> None:
    configuration = add_sandbox(tenant)
    body, headers = signed(configuration, about_a_payment("sandbox"))
    attempts = [(flipped(body, place), headers) for place in range(len(body))]
    for name in ("webhook-id", "webhook-timestamp"):
        whole = headers[name].encode()
        attempts += [
            (body, {**headers, name: flipped(whole, place).decode()}) for place in range(len(whole))
        ]
    signature = headers["webhook-signature"].removeprefix("v1,")
    digest = base64.b64decode(signature)
    attempts += [
        (body, {**headers, "webhook-signature": f"v1,{base64.b64encode(wrong).decode()}"})
        for wrong in (flipped(digest, place) for place in range(len(digest)))
    ]

    answers = [send(configuration, *each) for each in attempts]

    assert {outcome(each) for each in answers} == {(401, "invalid_signature")}
    assert len(answers) > 200
    assert not InboundEvent.objects.exists()
    assert outcome(send(configuration, body, headers)) == (200, "taken")


def flipped(text: bytes, place: int) -> bytes:
    """Return the text with the lowest bit of one byte the other way around."""
    return text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]


@pytest.mark.parametrize(
    "changes",
    [
        {"order_id": "another"},
        {"status_code": "201"},
        {"gross_amount": "5000"},
        {"gross_amount": "50000.00"},
        {"signature_key": None},
        {"signature_key": ["x"]},
        {"signature_key": 1},
    ],
)
def test_s17_what_midtrans_signs_cannot_be_changed(
    sandbox: Sandbox, tenant: Tenant, changes: dict[str, Any]
) -> None:
    configuration = add_midtrans(tenant)
    body, headers = signed(configuration, about_a_payment("midtrans"))

    answer = send(configuration, json.dumps({**json.loads(body), **changes}).encode(), headers)

    assert outcome(answer) == (401, "invalid_signature")
    assert not InboundEvent.objects.exists()


@pytest.mark.parametrize("days", [-2, 2])
def test_s17_what_was_signed_days_ago_is_a_replay(
    sandbox: Sandbox, tenant: Tenant, days: int
) -> None:
    configuration = add_sandbox(tenant)
    sent_at = str(int(time.time()) + days * 24 * 3600)

    body, headers = signed(configuration, about_a_payment("sandbox"), sent_at=sent_at)

    assert outcome(send(configuration, body, headers)) == (401, "invalid_signature")


@pytest.mark.parametrize("sent_at", ["now", "-1", "1e9", "٣"])
def test_s17_a_time_that_is_none_is_a_401(sandbox: Sandbox, tenant: Tenant, sent_at: str) -> None:
    configuration = add_sandbox(tenant)
    body, headers = signed(configuration, about_a_payment("sandbox"), sent_at=sent_at)

    assert outcome(send(configuration, body, headers)) == (401, "invalid_signature")


def test_s17_one_of_several_signatures_is_enough(sandbox: Sandbox, tenant: Tenant) -> None:
    """As Standard Webhooks has it while the sender rotates its key."""
    configuration = add_sandbox(tenant)
    body, headers = signed(configuration, about_a_payment("sandbox"))
    several = {**headers, "webhook-signature": f"v1,AAAA {headers['webhook-signature']} v2,x"}

    assert outcome(send(configuration, body, several)) == (200, "taken")


def test_after_a_rotation_both_secrets_are_taken_for_a_day(
    sandbox: Sandbox, tenant: Tenant
) -> None:
    def answers(configuration: GatewayConfiguration, key: str) -> int:
        forget_receivers()
        body, headers = signed(configuration, about_a_payment("xendit"), key=key)
        status: int = send(configuration, body, headers).status_code
        return status

    def rotated(ago: dt.timedelta) -> GatewayConfiguration:
        return change_gateway(
            tenant_id=tenant.pk,
            configuration_id=gateways.add_xendit(tenant).pk,
            changes={"webhook_secret": "the-new-token"},
            now=timezone.now() - ago,
        )

    today, long_ago = rotated(dt.timedelta(hours=23)), rotated(dt.timedelta(hours=25))

    assert [answers(today, key) for key in (XENDIT_TOKEN, "the-new-token")] == [200, 200]
    assert [answers(long_ago, key) for key in (XENDIT_TOKEN, "the-new-token")] == [401, 200]


# --- Where to -------------------------------------------------------------------------------------


def test_an_unknown_gateway_is_a_404(sandbox: Sandbox, tenant: Tenant) -> None:
    configuration = add_sandbox(tenant)
    body, headers = signed(configuration, about_a_payment("sandbox"))
    path = "/api/v1/webhooks/gateways"

    for wrong in (
        f"{path}/sandbox/{new_id()}",
        # Of another gateway, of none, and no id at all.
        f"{path}/xendit/{configuration.pk}",
        f"{path}/SANDBOX/{configuration.pk}",
        f"{path}/stripe/{configuration.pk}",
        f"{path}/sandbox/{tenant.pk}",
        f"{path}/sandbox/1",
        f"{path}/sandbox",
    ):
        assert outcome(send(configuration, body, headers, path=wrong)) == (404, "not_found"), wrong
    assert not InboundEvent.objects.exists()


def test_a_deleted_gateway_is_a_404(configuration: GatewayConfiguration) -> None:
    told = genuine(configuration)
    delete_gateway(
        tenant_id=configuration.tenant_id, configuration_id=configuration.pk, now=timezone.now()
    )

    assert outcome(gateways.deliver(told, configuration)) == (404, "not_found")


def test_a_bank_calls_nobody(tenant: Tenant) -> None:
    bank = add_bank_file(tenant)

    assert outcome(send(bank, b"{}", {})) == (404, "not_found")


def test_a_disabled_gateway_still_speaks(configuration: GatewayConfiguration) -> None:
    change_gateway(
        tenant_id=configuration.tenant_id,
        configuration_id=configuration.pk,
        changes={"is_enabled": False},
        now=timezone.now(),
    )

    assert outcome(gateways.deliver(genuine(configuration), configuration)) == (200, "taken")
    assert InboundEvent.objects.exists()


def test_a_slash_at_the_end_leads_nowhere(configuration: GatewayConfiguration) -> None:
    body, headers = signed(configuration, about_a_payment(configuration.gateway))

    answer = send(configuration, body, headers, path=f"{address_of(configuration)}/")

    assert outcome(answer) == (404, "not_found")
    assert "Location" not in answer


def test_only_a_post_is_a_notification(sandbox: Sandbox, tenant: Tenant) -> None:
    configuration = add_sandbox(tenant)
    body, headers = signed(configuration, about_a_payment("sandbox"))

    raw: Any = body
    answers = [
        ContractClient().generic(method, address_of(configuration), raw, headers=headers)
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS")
    ]

    assert [outcome(each) for each in answers] == [(405, "method_not_allowed")] * 5
    assert not InboundEvent.objects.exists()


def test_it_does_not_matter_what_the_sender_would_like_to_read(
    configuration: GatewayConfiguration,
) -> None:
    for accept in ("text/html", "application/xml", "nonsense", ""):
        body, headers = signed(configuration, about_a_payment(configuration.gateway))

        answer = send(configuration, body, {**headers, "Accept": accept})

        assert outcome(answer) == (200, "taken"), accept
        assert answer["Content-Type"] == "application/json"


def test_it_does_not_matter_what_the_sender_calls_its_json(
    configuration: GatewayConfiguration,
) -> None:
    for content_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
    ):
        body, headers = signed(configuration, about_a_payment(configuration.gateway))

        answer = send(configuration, body, headers, content_type=content_type)

        assert outcome(answer) == (200, "taken"), content_type


# --- What it says --------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["WEBHOOK_BODY_SIZE_MAX", "DATA_UPLOAD_MAX_MEMORY_SIZE"])
def test_what_is_too_large_is_a_413(
    configuration: GatewayConfiguration, settings: LazySettings, limit: str
) -> None:
    body, headers = signed(configuration, about_a_payment(configuration.gateway))

    setattr(settings, limit, len(body))
    assert outcome(send(configuration, body, headers)) == (200, "taken")
    setattr(settings, limit, len(body) - 1)
    assert outcome(send(configuration, body, headers)) == (413, "payload_too_large")


def test_a_body_longer_than_it_says_is_not_read_to_its_end(
    sandbox: Sandbox, tenant: Tenant, settings: LazySettings
) -> None:
    configuration = add_sandbox(tenant)
    body, headers = signed(configuration, about_a_payment("sandbox"))

    answer = send(configuration, body + b" " * 1000, headers, CONTENT_LENGTH=str(len(body)))

    assert outcome(answer) == (200, "taken")
    assert bytes(InboundEvent.objects.get().body) == body


NONSENSE = {
    "nothing": b"",
    "half of it": b"{",
    "a form": b"id=1&status=PAID",
    "a list": b"[]",
    "a text": b'"PAID"',
    "null": b"null",
    "no ids": b"{}",
    "null for an id": b'{"id":null,"status":"PAID"}',
    "lists for ids": b'{"id":[],"data":[],"event":"payment.succeeded"}',
    "objects for ids": b'{"id":{"a":1},"data":{"id":{}},"event":"payment.succeeded"}',
    "no data": b'{"event":"payment.succeeded","type":"payment.succeeded"}',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "not a number": b'{"id":NaN}',
    "infinity": b'{"id":-Infinity}',
    "too many digits": b'{"id":' + b"9" * 5_000 + b"}",
    "too large an exponent": b'{"id":1e99999999999999999999}',
    "too small an exponent": b'{"id":1e-99999999999999999999}',
    "not UTF-8": b"\xff\xfe",
    "UTF-16": '{"id":"1"}'.encode("utf-16"),
    "zeros": b"\x00" * 10,
    "half a character": b'{"\\ud800":"\\u0000"}',
}


def test_nonsense_is_a_400(configuration: GatewayConfiguration) -> None:
    answers = {}
    for name, body in NONSENSE.items():
        headers = {}
        if configuration.gateway == "xendit":
            headers = {"x-callback-token": XENDIT_TOKEN}
        elif configuration.gateway == "sandbox":
            headers = standard_webhook(body, gateways.secret_key_of(configuration))
        answers[name] = outcome(send(configuration, body, headers))

    if configuration.gateway == "midtrans":
        # Its signature is in the body: an object without one is nobody's.
        assert answers["no ids"] == answers["half a character"] == (401, "invalid_signature")
        answers = {name: got for name, got in answers.items() if got[0] != 401}
        assert len(answers) > len(NONSENSE) / 2
    assert {name: got for name, got in answers.items() if got != (400, "invalid_request")} == {}
    assert not InboundEvent.objects.exists()


STRANGE: list[Any] = [
    *("a\x00b", "\x00", "\ud800", "x\udfff", "\u202e\u0000\uffff", "", "x" * 100_000),
    *(HUGE, -HUGE, 1e300, True, None, [], {}, [[[[[]]]]]),
    "'; DROP TABLE webhooks_inboundevent; --",
]


def test_strange_values_are_taken_or_refused_and_never_a_fault(
    configuration: GatewayConfiguration,
) -> None:
    answers = []
    for value in STRANGE:
        for name in about_a_payment(configuration.gateway):
            told = about_a_payment(configuration.gateway, **{name: value})
            answers.append(send(configuration, *signed_whatever(configuration, told)))

    assert {each.status_code for each in answers} <= {200, 400, 401}
    stored = InboundEvent.objects.count()
    assert 0 < stored <= sum(each.status_code == 200 for each in answers)
    # None of it is ours, and none of it keeps a worker from anything.
    gateways.process_events()
    assert set(InboundEvent.objects.values_list("status", "outcome")) == {
        ("failed", "unknown_reference")
    }


def signed_whatever(
    configuration: GatewayConfiguration, told: dict[str, Any]
) -> tuple[bytes, dict[str, str]]:
    """Sign as far as a gateway could: nobody signs half of a character."""
    try:
        return signed(configuration, told)
    except UnicodeEncodeError:
        return json.dumps({**told, "signature_key": "x"}).encode(), {}


# --- What is kept ---------------------------------------------------------------------------------


def test_s25_a_card_number_is_struck_out_wherever_it_stands(
    configuration: GatewayConfiguration, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = configuration.gateway
    texts = set(about_a_payment(gateway)) - {"gross_amount"}
    extra: dict[str, Any] = {"number": int(PAN), "failure_code": PAN}
    extra |= {"description": f"card {PAN}", "metadata": {"note": "4111 1111-1111 1111"}}

    for name in sorted(texts):
        told = about_a_payment(gateway, **{name: PAN}, **extra)
        body, headers = signed(configuration, told)
        headers |= {"User-Agent": f"agent {PAN}"}
        assert send(configuration, body, headers).status_code == 200

    assert InboundEvent.objects.count() == len(texts)
    stored = everything_stored().replace(" ", "").replace("-", "")
    assert "[cardending1111]" in stored
    assert PAN not in stored
    assert PAN not in caplog.text


def test_secrets_are_not_stored(configuration: GatewayConfiguration) -> None:
    [secret] = credentials_of(configuration).values()
    body, headers = signed(configuration, about_a_payment(configuration.gateway))
    proofs = [headers[name] for name in ("webhook-signature",) if name in headers]
    headers |= {"Authorization": "Basic c2VjcmV0LW9uZQ==", "Cookie": "sessionid=secret-two"}

    assert send(configuration, body, {**headers, "x-other": "secret-three"}).status_code == 200

    event = InboundEvent.objects.get()
    kept = {"webhook-id", "webhook-timestamp", "content-type", "user-agent"}
    assert set(event.headers) <= kept
    stored = everything_stored()
    for each in (secret, XENDIT_TOKEN, "c2VjcmV0", "secret-two", "secret-three", *proofs):
        assert each not in stored


# --- What it costs --------------------------------------------------------------------------------


def test_a_notification_costs_one_insert(configuration: GatewayConfiguration) -> None:
    with CaptureQueriesContext(connection) as first:
        assert gateways.deliver(genuine(configuration), configuration).status_code == 200
    with CaptureQueriesContext(connection) as second:
        assert gateways.deliver(genuine(configuration), configuration).status_code == 200

    assert [each["sql"].split()[0] for each in first.captured_queries] == ["SELECT", "INSERT"]
    # The gateway is remembered for some seconds.
    assert [each["sql"].split()[0] for each in second.captured_queries] == ["INSERT"]


def test_what_is_forged_costs_no_statement(configuration: GatewayConfiguration) -> None:
    gateways.deliver(genuine(configuration), configuration)
    body, headers = signed(configuration, about_a_payment(configuration.gateway), key="wrong")

    with CaptureQueriesContext(connection) as captured:
        assert send(configuration, body, headers).status_code == 401

    assert captured.captured_queries == []


def test_who_forges_is_stopped_and_who_does_not_is_not_counted(
    configuration: GatewayConfiguration, settings: LazySettings
) -> None:
    settings.RATE_LIMIT_ANONYMOUS = 5
    address = {"REMOTE_ADDR": f"2001:db8:{new_id().hex[-8:-4]}:{new_id().hex[-4:]}::1"}
    gateway = configuration.gateway

    def taken() -> Any:
        body, headers = signed(configuration, about_a_payment(gateway))
        return send(configuration, body, headers, **address)

    def forged() -> Any:
        body, headers = signed(configuration, about_a_payment(gateway), key="wrong")
        return send(configuration, body, headers, **address)

    genuine_ones = [taken() for _ in range(10)]
    refused = [forged() for _ in range(7)]
    later = taken()

    assert [each.status_code for each in genuine_ones] == [200] * 10
    assert all("RateLimit-Limit" not in each for each in genuine_ones)
    assert [each.status_code for each in refused] == [401] * 5 + [429] * 2
    assert refused[-1].json()["code"] == "rate_limited"
    assert int(refused[-1]["Retry-After"]) > 0
    # A gateway shares its address with many, and is never refused for what they do.
    assert later.status_code == 200


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(lambda path: (f"{path[:-12]}{'0' * 12}", b"{}"), id="unknown"),
        pytest.param(lambda path: (path, b"{"), id="nonsense"),
        pytest.param(lambda path: (path, b'{"order_id":"\\ud800"}'), id="half a character"),
        pytest.param(lambda path: (path, b'{"order_id":1e99999999999999999999}'), id="a number"),
    ],
)
def test_who_guesses_is_stopped_too(
    configuration: GatewayConfiguration,
    settings: LazySettings,
    attempt: Callable[[str], tuple[str, bytes]],
) -> None:
    settings.RATE_LIMIT_ANONYMOUS = 3
    address = {"REMOTE_ADDR": f"2001:db8:{new_id().hex[-8:-4]}:{new_id().hex[-4:]}::1"}
    path, body = attempt(address_of(configuration))

    answers = [send(configuration, body, {}, path=path, **address) for _ in range(4)]

    assert answers[2].status_code in (400, 401, 404)
    assert answers[3].status_code == 429


# --- When something is down -----------------------------------------------------------------------


@pytest.fixture
def no_connections_left() -> Iterator[None]:
    """Every connection of the pool is somebody else's."""
    pool = connection.pool  # type: ignore[attr-defined]
    taken = [pool.getconn() for _ in range(pool.max_size - 1)]
    try:
        yield
    finally:
        for each in taken:
            pool.putconn(each)


@pytest.mark.parametrize("is_remembered", [True, False])
def test_without_a_database_it_is_a_503_and_comes_again(
    configuration: GatewayConfiguration,
    request: pytest.FixtureRequest,
    is_remembered: bool,
) -> None:
    if is_remembered:
        gateways.deliver(genuine(configuration), configuration)
    told = genuine(configuration)
    request.getfixturevalue("no_connections_left")

    [refused] = making.at_once([lambda: gateways.deliver(told, configuration)])

    assert not isinstance(refused, Exception), refused
    assert outcome(refused) == (503, "unavailable")
    assert refused["Retry-After"] == "1"
    assert not InboundEvent.objects.filter(body=told["body"].encode()).exists()
    # This thread has its connection.
    assert outcome(gateways.deliver(told, configuration)) == (200, "taken")


def test_without_redis_it_is_stored(
    configuration: GatewayConfiguration, tmp_path: Path, api: ContractClient
) -> None:
    forged = signed(configuration, about_a_payment(configuration.gateway), key="wrong")
    url = address_of(configuration)

    with (
        Valkey(tmp_path, durable=False) as redis,
        web_server(tmp_path / "web.log", REDIS_URL=redis.url, RATE_LIMIT_ANONYMOUS="1") as base,
        httpx.Client(base_url=base, timeout=10, trust_env=False) as client,
    ):
        redis.kill()
        began = time.monotonic()
        answers = []
        for _ in range(3):
            body, headers = signed(configuration, about_a_payment(configuration.gateway))
            answers.append(client.post(url, content=body, headers=headers))
        refused = client.post(url, content=forged[0], headers=forged[1])
        took_s = time.monotonic() - began

    assert [each.status_code for each in answers] == [200] * 3
    assert refused.status_code == 401
    assert took_s < 5
    # A worker's own clock finds them.
    assert InboundEvent.objects.due(timezone.now()).count() == 3


# --- What failed ----------------------------------------------------------------------------------


@pytest.fixture
def failed(sandbox: Sandbox, tenant: Tenant) -> InboundEvent:
    """A notification about nothing of ours."""
    configuration = add_sandbox(tenant)
    gateways.deliver(genuine(configuration), configuration)
    gateways.process_events()
    return InboundEvent.objects.get()


def test_what_failed_is_listed_with_its_attempts(failed: InboundEvent, api: ContractClient) -> None:
    [listed] = api.get("/api/v1/webhooks/failed").json()["results"]
    shown = api.get(f"/api/v1/webhooks/failed/{failed.pk}").json()

    assert listed["id"] == str(failed.pk)
    assert (listed["status"], listed["outcome"]) == ("failed", "unknown_reference")
    assert listed["event_id"] == failed.event_id
    [attempt] = shown.pop("attempt_log")
    assert shown == listed
    assert attempt["number"] == 1
    assert attempt["outcome"] == "unknown_reference"
    assert failed.reference in attempt["detail"]


def test_attempts_are_told_in_their_order(failed: InboundEvent, api: ContractClient) -> None:
    first = InboundAttempt.objects.get()
    for number in (4, 2, 3):
        InboundAttempt.objects.create(
            tenant_id=first.tenant_id,
            event=failed,
            number=number,
            began_at=first.began_at,
            outcome="not_yet",
        )

    # An index happens to have them in order; it need not be used.
    with connection.cursor() as cursor:
        cursor.execute("SET enable_indexscan = off; SET enable_bitmapscan = off")
        shown = api.get(f"/api/v1/webhooks/failed/{failed.pk}").json()
        cursor.execute("RESET enable_indexscan; RESET enable_bitmapscan")

    assert [each["number"] for each in shown["attempt_log"]] == [1, 2, 3, 4]
    assert shown["attempt_log"][1]["ended_at"] is None


def test_what_is_pending_or_done_is_not_among_the_failed(
    configuration: GatewayConfiguration, paid: dict[str, Any], api: ContractClient
) -> None:
    gateways.deliver(paid, configuration)
    event = InboundEvent.objects.get()

    for _ in range(2):
        assert api.get("/api/v1/webhooks/failed").json()["results"] == []
        assert api.get(f"/api/v1/webhooks/failed/{event.pk}").status_code == 404
        gateways.process_events()


def test_a_replay_is_processed_once_more(failed: InboundEvent, api: ContractClient) -> None:
    url = f"/webhooks/failed/{failed.pk}/retry"

    first = api.post_once(url, key="again")
    same = api.post_once(url, key="again")
    other = api.post_once(url)

    assert first.status_code == 200, first.content
    assert (first.json()["status"], first.json()["attempts"]) == ("pending", 0)
    assert same.json() == first.json()
    assert same["Idempotent-Replayed"] == "true"
    assert outcome(other) == (409, "invalid_state")
    assert gateways.process_events() == 1
    shown = api.get(f"/api/v1/webhooks/failed/{failed.pk}").json()
    # What was tried before is not forgotten.
    assert [each["number"] for each in shown["attempt_log"]] == [1, 2]
    assert shown["attempts"] == 1


def test_a_replay_needs_no_key(failed: InboundEvent, api: ContractClient) -> None:
    url = f"/api/v1/webhooks/failed/{failed.pk}/retry"

    assert [api.post(url).status_code for _ in range(2)] == [200, 409]


def test_what_has_not_failed_is_not_replayed(
    configuration: GatewayConfiguration, paid: dict[str, Any], api: ContractClient
) -> None:
    gateways.deliver(paid, configuration)
    event = InboundEvent.objects.get()

    pending = api.post_once(f"/webhooks/failed/{event.pk}/retry")
    gateways.process_events()
    succeeded = api.post_once(f"/webhooks/failed/{event.pk}/retry")
    unknown = api.post_once(f"/webhooks/failed/{new_id()}/retry")

    assert outcome(pending) == (409, "invalid_state")
    assert outcome(succeeded) == (409, "invalid_state")
    assert outcome(unknown) == (404, "not_found")


def test_another_tenants_failures_do_not_exist(
    failed: InboundEvent, other_api: ContractClient
) -> None:
    path = f"/api/v1/webhooks/failed/{failed.pk}"

    assert other_api.get("/api/v1/webhooks/failed").json()["results"] == []
    assert other_api.get(path).status_code == 404
    assert other_api.post_once(f"/webhooks/failed/{failed.pk}/retry").status_code == 404
    failed.refresh_from_db()
    assert failed.status == "failed"


def test_replaying_takes_more_than_reading(failed: InboundEvent, tenant: Tenant) -> None:
    reader = making.person_client(tenant, "auditor")

    assert reader.get("/api/v1/webhooks/failed").status_code == 200
    assert reader.post_once(f"/webhooks/failed/{failed.pk}/retry").status_code == 403


def test_two_tenants_may_hear_of_one_event(
    configuration: GatewayConfiguration, other_tenant: Tenant
) -> None:
    """One account at the gateway, from when two tenants could share it: each has its own row."""
    GatewayConfiguration.objects.filter(pk=configuration.pk).update(account_digest=None)
    twin = add_sandbox(
        other_tenant,
        gateway=configuration.gateway,
        credentials=credentials_of(configuration),
        webhook_secret=XENDIT_TOKEN,
        currencies=["IDR"],
    )
    told = genuine(configuration)

    assert gateways.deliver(told, configuration).status_code == 200
    assert gateways.deliver(told, twin).status_code == 200

    owners: set[UUID] = set(InboundEvent.objects.values_list("tenant_id", flat=True))
    assert owners == {configuration.tenant_id, other_tenant.pk}
