"""Gateways' notifications in the back office: what arrived, what came of it, and once more."""

import json
import re
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from core.ids import new_id
from core.models import AuditRecord
from core.money import Money
from identity.models import Tenant
from payments import services
from payments.gateways.midtrans.adapter import signature_of
from payments.gateways.port import CardData
from payments.gateways.registry import credentials_of
from payments.models import GatewayConfiguration
from tests.back_office import act, act_url, list_url, no_counting, page_url, shown, signed_in
from tests.gateways import (
    GOOD_CARD,
    XENDIT_TOKEN,
    Sandbox,
    add_midtrans,
    add_sandbox,
    add_xendit,
    deliver,
    process_events,
)
from tests.making import fresh_key, open_account
from webhooks.admin import BODY_SHOWN_MAX, readable
from webhooks.models import InboundAttempt, InboundEvent

EVENTS = list_url(InboundEvent)
PAN = "4111111111111111"


@pytest.fixture
def supervisor(tenant: Tenant) -> Client:
    return signed_in(tenant, "supervisor")


@pytest.fixture
def line(tenant: Tenant) -> GatewayConfiguration:
    return add_xendit(tenant)


def told(line: GatewayConfiguration, **body: Any) -> InboundEvent:
    """Have Xendit tell of a payment that is in nobody's books."""
    number = new_id().hex
    about = {"id": number[:24], "external_id": f"T-{number}", "status": "PAID", **body}
    headers = {"x-callback-token": XENDIT_TOKEN, "user-agent": "Xendit"}
    answer = deliver({"body": json.dumps(about), "headers": headers}, line)
    assert answer.status_code == 200, answer.content
    return InboundEvent.objects.get(reference=about["external_id"])


def failed(line: GatewayConfiguration, **body: Any) -> InboundEvent:
    """Return an event that was processed and led to nothing of ours."""
    event = told(line, **body)
    process_events()
    event.refresh_from_db()
    assert event.status == InboundEvent.Status.FAILED
    return event


# --- What is shown -----------------------------------------------------------------------------
def test_a_failed_webhook_says_why_and_what_was_tried(
    line: GatewayConfiguration, supervisor: Client
) -> None:
    event = failed(line)

    page = shown(supervisor, page_url(event))

    assert "It is about something that is not in our books." in page
    assert "replay it once the cause is gone" in page
    assert "Nothing of ours: " in page
    assert re.search(r'<td class="num">1</td>.*?<td>Unknown reference</td>', page, re.S)
    assert "&quot;status&quot;: &quot;PAID&quot;" in page
    assert "<code>TxSts</code>" in page
    assert f'href="{page_url(line)}"' in page


def test_a_webhook_that_waits_says_when_it_is_processed(
    line: GatewayConfiguration, supervisor: Client
) -> None:
    event = told(line)

    page = shown(supervisor, page_url(event))

    assert event.next_attempt_at is not None
    assert f"It is processed at {event.next_attempt_at:%Y-%m-%d %H:%M} UTC." in page
    assert act_url(event, "replay") not in page


def test_a_webhook_leads_to_what_it_is_about(
    sandbox: Sandbox, tenant: Tenant, supervisor: Client
) -> None:
    line, account = add_sandbox(tenant), open_account(tenant)
    order = services.TopUpOrder(
        account_id=account.pk,
        amount=Money(5_000, "USD"),
        idempotency_key=fresh_key(),
        card=CardData(GOOD_CARD, 12, 2099, "123"),
    )
    made = services.top_up(tenant_id=tenant.pk, order=order, now=timezone.now())
    deliver(sandbox.notifications()[0], line)
    process_events()

    page = shown(supervisor, page_url(InboundEvent.objects.get()))

    assert f'href="{page_url(made.payment)}">payment {made.payment.reference}</a>' in page
    assert "It said nothing that we did not know. Nothing more is done." in page


def test_the_list_is_filtered_and_searched(
    tenant: Tenant, line: GatewayConfiguration, supervisor: Client
) -> None:
    bad = failed(line)
    fresh = told(line)
    root = signed_in(tenant, "admin", is_superuser=True)

    everything = shown(supervisor, EVENTS)
    failures = shown(supervisor, f"{EVENTS}?status__exact=failed")

    assert page_url(bad) in everything
    assert page_url(fresh) in everything
    assert "Unknown reference" in everything
    assert page_url(bad) in failures
    assert page_url(fresh) not in failures
    for client in (supervisor, root):
        for text in (bad.pk, bad.reference, bad.event_id):
            with no_counting():
                found = shown(client, f"{EVENTS}?q={text}")
            assert page_url(bad) in found
            assert page_url(fresh) not in found
        assert "Nothing here." in shown(client, f"{EVENTS}?q=nothing")


def test_a_list_costs_the_same_for_many(line: GatewayConfiguration, supervisor: Client) -> None:
    failed(line)
    with no_counting() as few:
        shown(supervisor, EVENTS)
    for _ in range(10):
        failed(line)
    with no_counting() as many:
        shown(supervisor, EVENTS)

    assert len(few) == len(many) <= 6


# --- The body ----------------------------------------------------------------------------------
def test_what_a_gateway_says_is_shown_not_run(
    line: GatewayConfiguration, supervisor: Client
) -> None:
    evil = "<script>alert(1)</script>"
    event = failed(line, description=evil, external_id=evil)

    for url in (page_url(event), EVENTS, f"{EVENTS}?q={evil}", act_url(event, "replay")):
        assert evil not in shown(supervisor, url)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown(supervisor, page_url(event))


def test_secrets_and_cards_in_a_body_are_hidden(tenant: Tenant, supervisor: Client) -> None:
    line = add_midtrans(tenant)
    [key] = credentials_of(line).values()
    signature = signature_of("O-12005000.00", key)
    body = {
        "transaction_id": new_id().hex,
        "order_id": "O-1",
        "transaction_status": "settlement",
        "status_code": "200",
        "gross_amount": "5000.00",
        "signature_key": signature,
        "saved_token_id": "token-of-a-card",
        "note": f"card {PAN}",
    }
    assert deliver({"body": json.dumps(body), "headers": {}}, line).status_code == 200

    page = shown(supervisor, page_url(InboundEvent.objects.get()))

    assert "&quot;gross_amount&quot;: &quot;5000.00&quot;" in page
    assert "[card ending 1111]" in page
    for secret in (key, signature, "token-of-a-card", PAN, XENDIT_TOKEN):
        assert secret not in page


def test_a_long_body_is_cut(line: GatewayConfiguration, supervisor: Client) -> None:
    event = failed(line, description="word " * 1_000, merchant_name="the end of it")

    page = shown(supervisor, page_url(event))

    assert "and it is cut here" in page
    assert "the end of it" not in page
    assert len(unescape(page.split("<pre>")[1].split("</pre>")[0])) == BODY_SHOWN_MAX


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"a": 1}', '{\n  "a": 1\n}'),
        ('{"a": "é"}'.encode(), '{\n  "a": "é"\n}'),
        (b"a=b&secret_key=xyz", "a=b&secret_key=[redacted]"),
        (b"\xff", "\\xff"),
        (b"[" * 100_000, "[" * 1_000),
        (b"", ""),
    ],
)
def test_any_body_can_be_read(body: bytes, text: str) -> None:
    assert readable(body).startswith(text)


# --- Replay ------------------------------------------------------------------------------------
def test_a_failed_webhook_is_replayed_once(line: GatewayConfiguration, supervisor: Client) -> None:
    event = failed(line)
    assert act_url(event, "replay") in shown(supervisor, page_url(event))

    page = act(supervisor, event, "replay", reason="The top-up is there now")
    again = act(supervisor, event, "replay")

    event.refresh_from_db()
    assert "The webhook is due again: a worker takes it at once." in page
    assert "The webhook is pending; only failed ones are replayed." in again
    assert (event.status, event.attempts) == ("pending", 0)
    [logged] = LogEntry.objects.filter(object_id=str(event.pk))
    assert logged.get_change_message() == "Replay. The top-up is there now"
    [record] = AuditRecord.objects.filter(object_id=event.pk, action="webhook.replayed")
    assert record.actor_id.startswith("user:")


def test_a_replay_that_fails_again_is_another_attempt(
    line: GatewayConfiguration, supervisor: Client
) -> None:
    event = failed(line)
    act(supervisor, event, "replay")
    process_events()

    page = shown(supervisor, page_url(event))

    assert InboundAttempt.objects.filter(event=event).count() == 2
    assert page.count("<td>Unknown reference</td>") == 2


def test_only_the_latest_attempts_are_shown(
    line: GatewayConfiguration, supervisor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.admin.ATTEMPTS_SHOWN_MAX", 1)
    event = failed(line)
    act(supervisor, event, "replay")
    process_events()

    page = shown(supervisor, page_url(event))

    assert page.count("<td>Unknown reference</td>") == 1
    assert "There are more: these are the latest." in page


# --- Who may -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("role", "sees", "may_replay"),
    [
        ("operator", False, False),
        ("auditor", True, False),
        ("supervisor", True, True),
        ("admin", True, True),
    ],
)
def test_who_sees_and_who_replays(
    tenant: Tenant, line: GatewayConfiguration, role: str, sees: bool, may_replay: bool
) -> None:
    event = failed(line)
    client = signed_in(tenant, role)

    codes = [client.get(url).status_code for url in (EVENTS, page_url(event))]
    replayed = client.post(act_url(event, "replay"), {"reason": "x"}).status_code

    assert codes == ([200, 200] if sees else [403, 403])
    assert replayed == (302 if may_replay else 403)
    event.refresh_from_db()
    assert event.status == ("pending" if may_replay else "failed")


def test_another_tenants_webhook_does_not_exist(other_tenant: Tenant, supervisor: Client) -> None:
    event = failed(add_xendit(other_tenant))

    for url in (EVENTS, f"{EVENTS}?q={event.pk}", f"{EVENTS}?q={event.reference}"):
        assert page_url(event) not in shown(supervisor, url)
    assert "There is no such inbound webhook." in act(supervisor, event, "replay")
    assert supervisor.get(page_url(event)).status_code == 302
    event.refresh_from_db()
    assert event.status == "failed"


def test_webhooks_have_no_forms_of_djangos(tenant: Tenant, line: GatewayConfiguration) -> None:
    root = signed_in(tenant, "admin", is_superuser=True)
    event = failed(line)

    assert root.post(f"{EVENTS}add/", {}).status_code == 403
    assert root.post(f"{EVENTS}{event.pk}/delete/", {"post": "yes"}).status_code == 403
    assert root.post(page_url(event), {"status": "succeeded"}).status_code == 405
