"""What a worker makes of gateways' notifications: once, in any order, and in the end."""

import datetime as dt
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.conf import settings as the_settings
from django.core.management import call_command
from django.utils import timezone

from accounts.models import Account
from core.money import format_money
from identity.models import Tenant
from ledger.models import Transaction
from ops import processes
from payments.gateways.midtrans import adapter as midtrans
from payments.gateways.registry import credentials_of
from payments.gateways.sandbox.adapter import signature_of
from payments.models import Discrepancy, GatewayConfiguration, Payment
from payments.services import take_due_steps
from tests import gateways, making
from tests.contract import ContractClient
from tests.gateways import (
    PATIENCE_S,
    XENDIT_TOKEN,
    Sandbox,
    add_midtrans,
    add_sandbox,
    add_xendit,
    as_sent,
    close_circuit,
    fresh,
)
from tests.serving import database_url
from webhooks import services
from webhooks.models import InboundAttempt, InboundEvent
from webhooks.services import LEASE_S, RETRY_AFTER_S, process_due_events

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

GATEWAYS = ["sandbox", "xendit", "midtrans"]
AMOUNT = 5000
NOBODY = "http://127.0.0.1:9"
# A worker of its own. Says that it is ready, then works once for each moment it is given.
WORKER = """
import datetime, sys, django
django.setup()
from webhooks.services import process_due_events
print("ready", flush=True)
for line in sys.stdin:
    process_due_events(now=datetime.datetime.fromisoformat(line.strip()), limit=100)
    print("done", flush=True)
"""


@pytest.fixture(params=GATEWAYS)
def configuration(
    request: pytest.FixtureRequest, sandbox: Sandbox, tenant: Tenant
) -> GatewayConfiguration:
    """Each gateway in turn."""
    return add(request.param, sandbox, tenant)


@pytest.fixture
def ours(sandbox: Sandbox, tenant: Tenant) -> GatewayConfiguration:
    """The sandbox's own gateway."""
    return add_sandbox(tenant)


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant, currency="IDR")


def add(gateway: str, sandbox: Sandbox, tenant: Tenant) -> GatewayConfiguration:
    if gateway == "xendit":
        made = add_xendit(tenant)
        # Xendit has no address of notifications in its requests: it is set up there.
        account = {"gateway": "xendit", "key": gateways.secret_key_of(made)}
        account |= {"webhook_token": XENDIT_TOKEN, "webhook_url": f"{NOBODY}/"}
        sandbox.http.post("/_sim/accounts", json=account).raise_for_status()
        return made
    return add_midtrans(tenant) if gateway == "midtrans" else add_sandbox(tenant)


def ask(api: ContractClient, account: Account, **order: Any) -> Payment:
    """Begin a top-up on a page of the gateway."""
    body = {"amount": AMOUNT, "currency": "IDR", "payment_method": {"type": "hosted"}, **order}
    answer = api.post_once(f"/accounts/{account.pk}/topup", body)
    assert answer.status_code in (201, 202), answer.content
    return Payment.objects.get(pk=answer.json()["id"])


def act(sandbox: Sandbox, payment: Payment, *steps: str) -> None:
    """Let the payer, or the gateway, do this."""
    [there] = sandbox.objects(payment.reference)
    for step in steps:
        sandbox.act(f"payments/{there['id']}/{step}")


def told_of(sandbox: Sandbox, *payments: Payment, count: int) -> list[dict[str, Any]]:
    """Return each notification about the payments once, waiting for `count` of them."""
    references = {payment.reference for payment in payments}
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for row in sandbox.notifications(0):
            if row["reference"] in references:
                found.setdefault((row["event_id"], row["reference"]), row)
        if len(found) >= count or time.monotonic() > deadline:
            assert len(found) == count, [row["event"] for row in found.values()]
            return list(found.values())
        time.sleep(0.02)


def deliver(configuration: GatewayConfiguration, *notifications: dict[str, Any]) -> None:
    for each in notifications:
        assert gateways.deliver(each, configuration).status_code == 200


def process_at(moment: dt.datetime) -> int:
    """Process what is due as if it were that moment."""
    return process_due_events(now=moment, limit=100)


def after(seconds: float) -> dt.datetime:
    return timezone.now() + dt.timedelta(seconds=seconds)


def process_to_the_end() -> None:
    """Let time pass until nothing is due any more."""
    for _ in range(50):
        pending = InboundEvent.objects.filter(status="pending").order_by("next_attempt_at").first()
        if pending is None or pending.next_attempt_at is None:
            return
        process_at(max(pending.next_attempt_at, timezone.now()))
    raise AssertionError("events are pending for ever")


def postings(account: Account) -> list[tuple[str, int]]:
    """Return the types and amounts of what was posted to the account, oldest first."""
    entries = Transaction.objects.filter(entries__account_id=account.pk).order_by(
        "entries__sequence"
    )
    return list(entries.values_list("type", "entries__amount"))


def outcomes(event: InboundEvent) -> list[tuple[int, str]]:
    log = InboundAttempt.objects.filter(event=event).order_by("number")
    return list(log.values_list("number", "outcome"))


def asked(sandbox: Sandbox) -> list[str]:
    """Return the references that a gateway was asked about."""
    return [row["reference"] for row in sandbox.requests("get_payment")]


# --- In any order ---------------------------------------------------------------------------------


def test_what_comes_out_of_order_takes_nothing_back(
    sandbox: Sandbox, tenant: Tenant, api: ContractClient, ada: Account
) -> None:
    """Midtrans says pending after it said settlement."""
    configuration = add_midtrans(tenant)
    payment = ask(api, ada)
    act(sandbox, payment, "choose", "pay")
    first, second = told_of(sandbox, payment, count=2)
    assert (first["event"], second["event"] != "pending") == ("pending", True)

    deliver(configuration, second)
    gateways.process_events()
    so_far = asked(sandbox)
    deliver(configuration, first)
    gateways.process_events()

    assert fresh(payment).status == "deposited"
    assert InboundEvent.objects.get(claimed_state="pending").outcome == "unchanged"
    # It says nothing that anybody need be asked about.
    assert asked(sandbox) == so_far
    assert postings(ada) == [("topup", AMOUNT)]
    call_command("verify_ledger")


def test_what_comes_late_changes_nothing(
    configuration: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = ask(api, ada)
    act(sandbox, payment, "pay")
    told = told_of(sandbox, payment, count=1)
    # The sweep has asked meanwhile.
    take_due_steps(now=after(120), limit=100)
    assert fresh(payment).status == "deposited"

    deliver(configuration, *told)
    gateways.process_events()

    event = InboundEvent.objects.get()
    assert (event.status, event.outcome) == ("succeeded", "unchanged")
    assert postings(ada) == [("topup", AMOUNT)]
    call_command("verify_ledger")


def test_what_is_paid_after_it_expired_is_deposited(
    configuration: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    sandbox.fault("late_paid_after_expiry", "create_payment")
    payment = ask(api, ada)
    if configuration.gateway == "midtrans":
        # Of a page that nobody used, Midtrans says nothing.
        act(sandbox, payment, "choose")
        deliver(configuration, *told_of(sandbox, payment, count=1))
    act(sandbox, payment, "expire")
    before = InboundEvent.objects.count()
    *_, expired = told_of(sandbox, payment, count=before + 1)
    deliver(configuration, expired)
    gateways.process_events()
    # Asked while the late payment was on its way, the gateway may say that already.
    assert fresh(payment).status in ("expired", "deposited")

    *_, paid = told_of(sandbox, payment, count=before + 2)
    deliver(configuration, paid)
    gateways.process_events()

    assert fresh(payment).status == "deposited"
    assert postings(ada) == [("topup", AMOUNT)]
    call_command("verify_ledger")


@pytest.mark.parametrize("gateway", ["sandbox", "midtrans"])
def test_what_is_denied_after_it_settled_is_taken_back(
    sandbox: Sandbox, tenant: Tenant, api: ContractClient, ada: Account, gateway: str
) -> None:
    configuration = add(gateway, sandbox, tenant)
    payment = ask(api, ada)
    act(sandbox, payment, "pay")
    deliver(configuration, *told_of(sandbox, payment, count=1))
    gateways.process_events()
    assert making.balance_of(ada) == AMOUNT

    act(sandbox, payment, "reverse")
    *_, denied = told_of(sandbox, payment, count=2)
    for _ in range(2):
        deliver(configuration, denied)
        gateways.process_events()

    assert fresh(payment).status == "reversed"
    assert postings(ada) == [("topup", AMOUNT), ("chargeback", -AMOUNT)]
    call_command("verify_ledger")


@pytest.mark.parametrize("gateway", ["sandbox", "midtrans"])
def test_both_in_one_run_and_the_wrong_way_around(
    sandbox: Sandbox, tenant: Tenant, api: ContractClient, ada: Account, gateway: str
) -> None:
    """The denial is heard first, and the gateway says denied to both."""
    configuration = add(gateway, sandbox, tenant)
    payment = ask(api, ada)
    act(sandbox, payment, "pay", "reverse")
    paid, denied = told_of(sandbox, payment, count=2)

    deliver(configuration, denied, paid)
    process_to_the_end()

    # On a page of Midtrans's, the payer may try again.
    assert fresh(payment).status == ("pending" if gateway == "midtrans" else "failed")
    assert postings(ada) == []
    call_command("verify_ledger")


@pytest.mark.parametrize("gateway", ["sandbox", "midtrans"])
def test_a_denial_is_not_lost_while_the_gateway_cannot_be_asked(
    sandbox: Sandbox,
    tenant: Tenant,
    api: ContractClient,
    ada: Account,
    settings: LazySettings,
    gateway: str,
) -> None:
    configuration = add(gateway, sandbox, tenant)
    payment = ask(api, ada)
    act(sandbox, payment, "pay")
    deliver(configuration, *told_of(sandbox, payment, count=1))
    gateways.process_events()
    act(sandbox, payment, "reverse")
    *_, denied = told_of(sandbox, payment, count=2)
    back = dict(settings.GATEWAY_URLS)
    settings.GATEWAY_URLS = dict.fromkeys(back, NOBODY)
    deliver(configuration, denied)
    gateways.process_events()

    settings.GATEWAY_URLS = back
    close_circuit(configuration)
    process_to_the_end()

    assert fresh(payment).status == "reversed"
    assert making.balance_of(ada) == 0


# --- What is claimed, and what is true ------------------------------------------------------------


def xendit_says_paid(payment: Payment) -> dict[str, Any]:
    """Return a callback that has the token and is not true."""
    told = {
        "id": payment.gateway_payment_id,
        "external_id": payment.reference,
        "status": "PAID",
        "amount": AMOUNT,
        "paid_amount": AMOUNT,
        "currency": "IDR",
        "payment_id": "py-forged",
    }
    return {"body": json.dumps(told), "headers": {"x-callback-token": XENDIT_TOKEN}}


def test_s18_a_claim_that_the_gateway_does_not_confirm_moves_nothing(
    sandbox: Sandbox, tenant: Tenant, api: ContractClient, ada: Account
) -> None:
    configuration = add("xendit", sandbox, tenant)
    payment = ask(api, ada)

    deliver(configuration, xendit_says_paid(payment))
    gateways.process_events()

    event = InboundEvent.objects.get()
    assert (event.status, event.outcome, event.attempts) == ("pending", "not_yet", 1)
    assert api.get("/api/v1/webhooks/failed").json()["results"] == []

    process_to_the_end()

    assert fresh(payment).status == "pending"
    assert postings(ada) == []
    [listed] = api.get("/api/v1/webhooks/failed").json()["results"]
    assert (listed["outcome"], listed["attempts"]) == ("not_yet", len(RETRY_AFTER_S) + 1)
    event.refresh_from_db()
    assert outcomes(event) == [(n, "not_yet") for n in range(1, len(RETRY_AFTER_S) + 2)]


def test_s18_a_claim_that_comes_true_is_applied(
    sandbox: Sandbox, tenant: Tenant, api: ContractClient, ada: Account
) -> None:
    configuration = add("xendit", sandbox, tenant)
    payment = ask(api, ada)
    deliver(configuration, xendit_says_paid(payment))
    gateways.process_events()

    act(sandbox, payment, "pay")
    process_to_the_end()

    event = InboundEvent.objects.get()
    assert (event.status, event.outcome, event.attempts) == ("succeeded", "applied", 2)
    assert postings(ada) == [("topup", AMOUNT)]


@pytest.mark.parametrize("delta", [-1, 1])
def test_s18_another_amount_is_quarantined(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    delta: int,
) -> None:
    sandbox.fault("amount_delta", "create_payment", amount=delta)
    payment = ask(api, ada)
    act(sandbox, payment, "pay")

    deliver(configuration, *told_of(sandbox, payment, count=1))
    process_to_the_end()

    difference = Discrepancy.objects.get()
    assert (difference.kind, difference.status) == (Discrepancy.Kind.AMOUNT_DIFFERS, "open")
    assert difference.reference == payment.reference
    assert format_money(AMOUNT + delta, payment.currency) in difference.detail["theirs"]
    assert fresh(payment).attention == "amount_differs"
    assert postings(ada) == []
    assert InboundEvent.objects.get().status == "failed"
    call_command("verify_ledger")


def test_s18_a_notification_of_another_configuration_is_about_nothing(
    sandbox: Sandbox, tenant: Tenant, api: ContractClient, ada: Account
) -> None:
    """Two accounts at one gateway: what one says of the other's payments is not heard."""
    of_it = add("xendit", sandbox, tenant)
    other = add_xendit(tenant, priority=200)
    payment = ask(api, ada)
    assert payment.configuration_id == of_it.pk
    act(sandbox, payment, "pay")

    deliver(other, xendit_says_paid(payment))
    gateways.process_events()

    assert InboundEvent.objects.get().outcome == "unknown_reference"
    assert fresh(payment).status == "pending"
    assert postings(ada) == []


def test_an_unknown_reference_fails_at_once_and_can_be_replayed(
    ours: GatewayConfiguration, api: ContractClient
) -> None:
    deliver(ours, as_sent(ours))
    gateways.process_events()
    event = InboundEvent.objects.get()

    assert (event.status, event.next_attempt_at) == ("failed", None)
    assert process_at(after(30 * 24 * 3600)) == 0
    assert api.post_once(f"/webhooks/failed/{event.pk}/retry").status_code == 200
    gateways.process_events()

    event.refresh_from_db()
    assert (event.status, event.attempts) == ("failed", 1)
    assert outcomes(event) == [(1, "unknown_reference"), (2, "unknown_reference")]


def test_what_does_not_concern_us_is_done(
    sandbox: Sandbox, tenant: Tenant, ours: GatewayConfiguration
) -> None:
    body = json.dumps({"type": "report.ready", "data": {"id": "rep_1"}}).encode()
    headers = gateways.notification(ours)[1]
    stamp = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode()
    headers["webhook-signature"] = signature_of(stamp + body, gateways.secret_key_of(ours))

    deliver(ours, {"body": body.decode(), "headers": headers})
    gateways.process_events()

    event = InboundEvent.objects.get()
    assert (event.kind, event.status, event.outcome) == ("other", "succeeded", "ignored")


# --- Again and again ------------------------------------------------------------------------------


def test_while_the_gateway_is_down_it_is_tried_by_the_schedule(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    settings: LazySettings,
) -> None:
    payment = ask(api, ada)
    act(sandbox, payment, "pay")
    deliver(configuration, *told_of(sandbox, payment, count=1))
    back = dict(settings.GATEWAY_URLS)
    settings.GATEWAY_URLS = dict.fromkeys(back, NOBODY)

    moment, waits = timezone.now(), []
    process_at(moment)
    event = InboundEvent.objects.get()
    while event.next_attempt_at is not None:
        waits.append((event.next_attempt_at - moment).total_seconds())
        assert process_at(event.next_attempt_at - dt.timedelta(seconds=1)) == 0
        moment = event.next_attempt_at
        assert process_at(moment) == 1
        event.refresh_from_db()

    assert waits == list(RETRY_AFTER_S)
    assert (event.status, event.outcome, event.attempts) == ("failed", "not_yet", len(waits) + 1)
    assert outcomes(event) == [(n, "not_yet") for n in range(1, len(waits) + 2)]
    assert postings(ada) == []

    settings.GATEWAY_URLS = back
    close_circuit(configuration)
    assert api.post_once(f"/webhooks/failed/{event.pk}/retry").status_code == 200
    gateways.process_events()

    event.refresh_from_db()
    assert (event.status, event.outcome, event.attempts) == ("succeeded", "applied", 1)
    assert postings(ada) == [("topup", AMOUNT)]
    call_command("verify_ledger")


@pytest.mark.parametrize("effect", ["http_500", "reset", "garbage", "html", "http_429"])
def test_when_the_gateway_is_back_the_next_attempt_succeeds(
    ours: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account, effect: str
) -> None:
    payment = ask(api, ada)
    act(sandbox, payment, "pay")
    deliver(ours, *told_of(sandbox, payment, count=1))
    sandbox.fault(effect, "get_payment", times=100)
    gateways.process_events()
    event = InboundEvent.objects.get()
    assert (event.status, outcomes(event)) == ("pending", [(1, "not_yet")])

    sandbox.no_faults()
    close_circuit(ours)
    process_to_the_end()

    event.refresh_from_db()
    assert (event.status, event.attempts) == ("succeeded", 2)
    assert postings(ada) == [("topup", AMOUNT)]


def test_an_event_that_raises_keeps_no_other_from_being_processed(
    ours: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant, api: ContractClient, ada: Account
) -> None:
    payments = [ask(api, ada) for _ in range(3)]
    for payment in payments:
        act(sandbox, payment, "pay")
    told = told_of(sandbox, *payments, count=3)
    broken = add_sandbox(tenant, priority=200)
    making.corrupt(
        "UPDATE payments_payment SET configuration_id = %s WHERE id = %s",
        broken.pk,
        payments[1].pk,
    )
    deliver(ours, *[each for each in told if each["reference"] != payments[1].reference])
    deliver(broken, as_sent_about(broken, payments[1]))
    # What its credentials were encrypted with is lost.
    making.corrupt(
        "UPDATE payments_gatewayconfiguration SET credentials = 'x' WHERE id = %s", broken.pk
    )

    gateways.process_events()
    assert postings(ada) == [("topup", AMOUNT)] * 2
    process_to_the_end()

    event = InboundEvent.objects.get(configuration=broken)
    assert (event.status, event.attempts) == ("failed", len(RETRY_AFTER_S) + 1)
    assert len(outcomes(event)) == event.attempts


def as_sent_about(configuration: GatewayConfiguration, payment: Payment) -> dict[str, Any]:
    body, headers = gateways.notification(configuration, reference=payment.reference)
    return {"body": body.decode(), "headers": headers}


# --- Workers --------------------------------------------------------------------------------------


class Worker:
    """A process that processes events, until it is killed."""

    def __init__(self, sandbox: Sandbox, log: Path) -> None:
        self.log = log
        self.process = processes.spawn(
            [sys.executable, "-c", WORKER],
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "config.settings",
                "FLORIN_IGNORE_LOCAL_ENV": "1",
                "DATABASE_URL": database_url(),
                "SANDBOX_URL": sandbox.url,
                "GATEWAY_READ_TIMEOUT_S": "60",
            },
            cwd=the_settings.BASE_DIR,
            log=log,
            stdin=subprocess.PIPE,
        )

    def work_at(self, moment: dt.datetime) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{moment.isoformat()}\n".encode())
        self.process.stdin.flush()

    def wait_for(self, word: str) -> None:
        wait_until(lambda: word in self.log.read_text().split(), self.log)

    def kill(self) -> None:
        processes.kill_group(self.process.pid)
        self.process.wait(PATIENCE_S)

    def __enter__(self) -> "Worker":
        self.wait_for("ready")
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self.process.stdin is not None
        self.process.stdin.close()


def wait_until(condition: Callable[[], bool], log: Path | None = None) -> None:
    deadline = time.monotonic() + 3 * PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, log and log.read_text()
        time.sleep(0.02)


def paid_and_told(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    account: Account,
    count: int,
) -> list[Payment]:
    """Return payments that are paid at the gateway, and whose notifications are to be processed."""
    payments = [ask(api, account) for _ in range(count)]
    for payment in payments:
        act(sandbox, payment, "pay")
    deliver(configuration, *told_of(sandbox, *payments, count=count))
    return payments


def test_two_workers_at_once_process_each_event_once(
    ours: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account, tmp_path: Path
) -> None:
    payments = paid_and_told(ours, sandbox, api, ada, 30)

    with Worker(sandbox, tmp_path / "1") as one, Worker(sandbox, tmp_path / "2") as other:
        for worker in (one, other) * 3:
            worker.work_at(timezone.now())
        for worker in (one, other):
            worker.wait_for("done")
        wait_until(lambda: not InboundEvent.objects.filter(status="pending").exists())

    assert set(InboundEvent.objects.values_list("status", "outcome", "attempts")) == {
        ("succeeded", "applied", 1)
    }
    assert sorted(asked(sandbox)) == sorted(payment.reference for payment in payments)
    assert postings(ada) == [("topup", AMOUNT)] * 30
    call_command("verify_ledger")


def test_slow_answers_leave_a_connection_for_everybody(
    ours: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    settings: LazySettings,
) -> None:
    """As many at once as the pool has connections, one of which the run itself holds."""
    settings.GATEWAY_READ_TIMEOUT_S = 10.0
    paid_and_told(ours, sandbox, api, ada, 9)
    sandbox.fault(
        "slow", "get_payment", times=9, ms=int(1.5 * settings.DATABASE_POOL_TIMEOUT_S * 1000)
    )

    assert gateways.process_events() == 9

    assert set(InboundEvent.objects.values_list("status", "attempts")) == {("succeeded", 1)}
    assert making.balance_of(ada) == 9 * AMOUNT


def test_what_a_slow_gateway_leaves_no_time_for_is_left_to_the_next_run(
    ours: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.GATEWAY_READ_TIMEOUT_S = 10.0
    # Two at once, and time for the first two.
    settings.DATABASE_POOL_MAX = 3
    monkeypatch.setattr(services, "BEGUN_WITHIN_S", 1.0)
    paid_and_told(ours, sandbox, api, ada, 5)
    sandbox.fault("slow", "get_payment", times=2, ms=1_500)

    assert gateways.process_events() == 2

    # The others are due as before, and nothing is counted.
    assert sorted(InboundEvent.objects.values_list("status", "attempts")) == [
        *[("pending", 0)] * 3,
        *[("succeeded", 1)] * 2,
    ]
    assert gateways.process_events() == 3
    assert set(InboundEvent.objects.values_list("status", "attempts")) == {("succeeded", 1)}
    assert making.balance_of(ada) == 5 * AMOUNT


def test_what_was_with_a_worker_that_died_is_due_again_after_its_lease(
    ours: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account, tmp_path: Path
) -> None:
    paid_and_told(ours, sandbox, api, ada, 1)
    sandbox.fault("slow", "get_payment", ms=60_000)
    began = timezone.now()
    with Worker(sandbox, tmp_path / "worker") as doomed:
        doomed.work_at(began)
        wait_until(lambda: bool(asked(sandbox)))

    event = InboundEvent.objects.get()
    # Counted before the work began.
    assert (event.status, event.attempts, outcomes(event)) == ("pending", 1, [])
    assert process_at(began + dt.timedelta(seconds=LEASE_S - 1)) == 0
    assert process_at(began + dt.timedelta(seconds=LEASE_S)) == 1

    event.refresh_from_db()
    assert (event.status, event.outcome, event.attempts) == ("succeeded", "applied", 2)
    [death] = InboundAttempt.objects.filter(event=event)
    assert (death.number, death.outcome, death.ended_at) == (1, "worker_died", None)
    assert death.began_at == began
    assert postings(ada) == [("topup", AMOUNT)]
    call_command("verify_ledger")


def test_f27_an_event_that_kills_its_worker_takes_no_other_with_it(
    ours: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account, tmp_path: Path
) -> None:
    poison, *others = paid_and_told(ours, sandbox, api, ada, 5)
    sandbox.fault("slow", "get_payment", times=5, ms=60_000)
    moment = timezone.now()
    with Worker(sandbox, tmp_path / "1") as doomed:
        doomed.work_at(moment)
        wait_until(lambda: len(asked(sandbox)) == 5)
    match = {"op": "get_payment", "reference": poison.reference}
    sandbox.fault("slow", "get_payment", match=match, ms=60_000)

    # All five are due again. Whatever the poison kills, it is alone with it.
    moment += dt.timedelta(seconds=LEASE_S)
    with Worker(sandbox, tmp_path / "2") as doomed:
        doomed.work_at(moment)
        wait_until(lambda: asked(sandbox).count(poison.reference) == 2)
    process_at(moment)

    assert {fresh(payment).status for payment in others} == {"deposited"}
    events = {event.reference: event for event in InboundEvent.objects.all()}
    assert {events[payment.reference].attempts for payment in others} == {2}
    assert (events[poison.reference].status, events[poison.reference].attempts) == ("pending", 2)
    assert postings(ada) == [("topup", AMOUNT)] * 4


def test_f27_an_event_that_always_kills_its_worker_is_given_up(
    ours: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account, tmp_path: Path
) -> None:
    [payment] = paid_and_told(ours, sandbox, api, ada, 1)
    sandbox.fault("http_500", "get_payment", times=100)
    # All attempts but the last fail as one may; the last kills its worker.
    for _ in RETRY_AFTER_S:
        due = InboundEvent.objects.get().next_attempt_at
        assert due is not None
        process_at(max(due, timezone.now()))
    sandbox.no_faults()
    close_circuit(ours)
    sandbox.fault("slow", "get_payment", ms=60_000)
    event = InboundEvent.objects.get()
    assert event.next_attempt_at is not None
    moment, so_far = event.next_attempt_at, len(asked(sandbox))
    with Worker(sandbox, tmp_path / "worker") as doomed:
        doomed.work_at(moment)
        wait_until(lambda: len(asked(sandbox)) > so_far)

    process_at(moment + dt.timedelta(seconds=LEASE_S))

    event.refresh_from_db()
    assert (event.status, event.outcome) == ("failed", "worker_died")
    assert event.attempts == len(RETRY_AFTER_S) + 1
    assert outcomes(event)[-1] == (event.attempts, "worker_died")
    assert len(asked(sandbox)) == so_far + 1
    [listed] = api.get("/api/v1/webhooks/failed").json()["results"]
    assert listed["outcome"] == "worker_died"
    shown = api.get(f"/api/v1/webhooks/failed/{event.pk}").json()
    assert shown["attempt_log"][-1]["ended_at"] is None
    # A person may try, and then it is well.
    assert api.post_once(f"/webhooks/failed/{event.pk}/retry").status_code == 200
    gateways.process_events()
    assert fresh(payment).status == "deposited"


def test_a_worker_that_took_too_long_changes_nothing_any_more(
    ours: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    settings: LazySettings,
) -> None:
    settings.GATEWAY_READ_TIMEOUT_S = 10.0
    paid_and_told(ours, sandbox, api, ada, 1)
    sandbox.fault("slow", "get_payment", ms=1_500)
    began = timezone.now()
    slow = threading.Thread(target=making.at_once, args=([lambda: process_at(began)],))
    slow.start()
    wait_until(lambda: bool(asked(sandbox)))
    # The lease has passed, and another takes it; then it waits for its next attempt.
    sandbox.fault("http_500", "get_payment", times=3)
    moment = began + dt.timedelta(seconds=LEASE_S)
    process_at(moment)
    slow.join()

    event = InboundEvent.objects.get()
    # The slow one has deposited what was paid, and yet what it says of the event is not heard.
    assert (event.status, event.outcome, event.attempts) == ("pending", "not_yet", 2)
    assert outcomes(event) == [(1, "worker_died"), (2, "not_yet")]
    close_circuit(ours)
    process_to_the_end()
    assert InboundEvent.objects.get().status == "succeeded"
    assert postings(ada) == [("topup", AMOUNT)]


# --- In the words of pain.002 ---------------------------------------------------------------------

XENDIT_LINK = {"id": "6748105a77f16ebe0cc583a7", "external_id": "TU-X-1", "payment_id": "py-1"}
MIDTRANS = {
    "transaction_id": "57d5293c-e65f-4a29-95e4-5959c3fa335b",
    "order_id": "TU-X-1",
    "status_code": "200",
    "gross_amount": "150000.00",
    "fraud_status": "accept",
}


def xendit_event(event: str, **data: Any) -> dict[str, Any]:
    return {"event": event, "data": {"id": "py-1", "reference_id": "TU-X-1", **data}}


@pytest.mark.parametrize(
    ("gateway", "told", "expected"),
    [
        ("sandbox", {"status": "succeeded"}, ("ACSC", None, "succeeded")),
        ("sandbox", {"status": "pending"}, ("PDNG", None, "pending")),
        (
            "sandbox",
            {"status": "failed", "failure_code": "card_declined"},
            ("RJCT", "MS03", "failed"),
        ),
        (
            "sandbox",
            {"status": "failed", "failure_code": "insufficient_funds"},
            ("RJCT", "AM04", "failed"),
        ),
        (
            "sandbox",
            {"status": "failed", "failure_code": "expired_card"},
            ("RJCT", "AC01", "failed"),
        ),
        ("sandbox", {"status": "expired"}, ("CANC", None, "expired")),
        ("sandbox", {"status": "reversed"}, ("RJCT", "MS03", "reversed")),
        ("xendit", {**XENDIT_LINK, "status": "PENDING"}, ("PDNG", None, "PENDING")),
        # Paid; the money is there a day later.
        ("xendit", {**XENDIT_LINK, "status": "PAID"}, ("ACSP", None, "PAID")),
        ("xendit", {**XENDIT_LINK, "status": "SETTLED"}, ("ACSC", None, "SETTLED")),
        ("xendit", {**XENDIT_LINK, "status": "EXPIRED"}, ("CANC", None, "EXPIRED")),
        (
            "xendit",
            xendit_event("payment.succeeded", status="SUCCEEDED"),
            ("ACSP", None, "SUCCEEDED"),
        ),
        (
            "xendit",
            xendit_event("payment.failed", status="FAILED", failure_code="INSUFFICIENT_BALANCE"),
            ("RJCT", "AM04", "FAILED"),
        ),
        (
            "xendit",
            xendit_event("payment.failure", status="FAILED", failure_code="SUSPECTED_FRAUDULENT"),
            ("RJCT", "FRAD", "FAILED"),
        ),
        ("xendit", xendit_event("payment.expiry", status="EXPIRED"), ("CANC", None, "EXPIRED")),
        ("midtrans", {**MIDTRANS, "transaction_status": "pending"}, ("PDNG", None, "pending")),
        ("midtrans", {**MIDTRANS, "transaction_status": "capture"}, ("ACSP", None, "capture")),
        (
            "midtrans",
            {**MIDTRANS, "transaction_status": "capture", "fraud_status": "challenge"},
            ("PDNG", None, "capture"),
        ),
        (
            "midtrans",
            {**MIDTRANS, "transaction_status": "settlement"},
            ("ACSC", None, "settlement"),
        ),
        ("midtrans", {**MIDTRANS, "transaction_status": "deny"}, ("RJCT", "MS03", "deny")),
        ("midtrans", {**MIDTRANS, "transaction_status": "expire"}, ("CANC", None, "expire")),
        (
            "midtrans",
            {**MIDTRANS, "transaction_status": "chargeback"},
            ("RJCT", "MS03", "chargeback"),
        ),
    ],
)
def test_it_is_reported_in_the_words_of_pain_002(
    sandbox: Sandbox,
    tenant: Tenant,
    api: ContractClient,
    gateway: str,
    told: dict[str, Any],
    expected: tuple[str, str | None, str],
) -> None:
    configuration = add(gateway, sandbox, tenant)
    deliver(configuration, sealed(configuration, told))

    gateways.process_events()

    [shown] = api.get("/api/v1/webhooks/failed").json()["results"]
    report = shown["status_report"]
    assert (report["TxSts"], report["Rsn"], report["AddtlInf"]) == expected
    assert report["OrgnlEndToEndId"] == "TU-X-1"
    assert dt.datetime.fromisoformat(report["CreDtTm"]) <= timezone.now()
    # ISO 20022: Max35Text, and its own for each message.
    assert 1 <= len(report["MsgId"]) <= 35
    assert report["MsgId"] in (shown["event_id"], shown["id"].replace("-", ""))


def sealed(configuration: GatewayConfiguration, told: dict[str, Any]) -> dict[str, Any]:
    """Return the notification as the gateway would send it."""
    if configuration.gateway == "xendit":
        return {"body": json.dumps(told), "headers": {"x-callback-token": XENDIT_TOKEN}}
    if configuration.gateway == "midtrans":
        covered = "".join(told[name] for name in ("order_id", "status_code", "gross_amount"))
        [key] = credentials_of(configuration).values()
        told = {**told, "signature_key": midtrans.signature_of(covered, key)}
        return {"body": json.dumps(told), "headers": {}}
    body, headers = gateways.notification(configuration, reference="TU-X-1", **told)
    return {"body": body.decode(), "headers": headers}


# --- All at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 20260131])
def test_f24_three_hundred_shuffled_notifications_are_fifty_right_postings(
    sandbox: Sandbox, tenant: Tenant, api: ContractClient, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - order, no secret
    configurations = {gateway: add(gateway, sandbox, tenant) for gateway in GATEWAYS}
    fates = {
        "sandbox": ["pay"] * 8 + ["pay reverse"] * 4 + ["fail"] * 2 + ["expire"] * 2,
        "xendit": ["pay"] * 10 + ["expire"] * 4,
        "midtrans": ["choose pay"] * 10
        + ["choose pay reverse"] * 4
        + ["choose fail pay"] * 4
        + ["choose expire"] * 2,
    }
    begun: list[tuple[Payment, Account, str, list[str]]] = []
    for gateway, stories in fates.items():
        for story in stories:
            account = making.open_account(tenant, currency="IDR")
            payment = ask(api, account, gateway=gateway, amount=1_000 + len(begun))
            begun.append((payment, account, gateway, story.split()))
    assert len(begun) == 50
    for payment, _, _, steps in begun:
        act(sandbox, payment, *steps)
        # Some are asked about by the sweep before anything is heard.
        if dice.random() < 0.2:
            take_due_steps(now=after(120), limit=1)
    sandbox.http.post("/_sim/webhooks/flush").raise_for_status()
    rows = {row["event_id"]: row for row in sandbox.notifications(80)}
    told = [(configurations[row["gateway"]], row) for row in rows.values()]
    # Then there is what says nothing new, late: until there are half of three hundred.
    while len(told) < 150:
        payment, _, gateway, _ = dice.choice([each for each in begun if each[2] == "sandbox"])
        body, headers = gateways.notification(
            configurations["sandbox"],
            id=payment.gateway_payment_id,
            reference=payment.reference,
            status=dice.choice(["pending", "succeeded", "failed"]),
        )
        told.append((configurations["sandbox"], {"body": body.decode(), "headers": headers}))
    assert len(told) == 150
    told = told * 2
    dice.shuffle(told)

    for number, (configuration, notification) in enumerate(told):
        deliver(configuration, notification)
        if dice.random() < 0.05:
            process_at(after(number))
    process_to_the_end()

    assert InboundEvent.objects.count() == 150
    for payment, account, gateway, steps in begun:
        status, got = fresh(payment).status, postings(account)
        deposit, back = ("topup", payment.amount), ("chargeback", -payment.amount)
        if steps[-1] == "pay":
            assert (status, got) == ("deposited", [deposit]), steps
        elif steps[-1] == "reverse":
            # Heard of while it was paid, or only afterwards; then, on a page of Midtrans's, the
            # payer may try again.
            never = "pending" if gateway == "midtrans" else "failed"
            assert (status, got) in [("reversed", [deposit, back]), (never, [])], steps
        else:
            assert got == [], steps
            assert status == {"fail": "failed", "expire": "expired"}[steps[-1]], steps
    assert not Discrepancy.objects.exists()
    call_command("verify_ledger")
