"""
Nothing that happened to money is forgotten: it is asked again, found by the reconciliation, or
shown to a person; and one that goes wrong keeps no other waiting.

What moves, and what must not, is in test_money_stays_right.py.
"""

import datetime as dt
import json
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from accounts.models import Account
from core.errors import InvalidRequest, InvalidState
from identity.models import Tenant
from payments.gateways.midtrans.adapter import signature_of
from payments.gateways.registry import credentials_of, encrypted_credentials
from payments.models import Discrepancy, GatewayConfiguration, Payment, Payout, PayoutBatch, Refund
from payments.services import gather_payouts, reconcile, take_report
from tests import gateway_scenes as scenes
from tests import gateways, making
from tests.contract import ContractClient
from tests.gateway_scenes import DAY, LATE, NEEDS_3DS, later, open_kinds
from tests.gateways import (
    OWN_ACCOUNT,
    XENDIT_TOKEN,
    Sandbox,
    add_bank_file,
    add_midtrans,
    add_sandbox,
    add_xendit,
    close_circuit,
    fresh,
    status_report,
    steps_at,
)
from webhooks.errors import InvalidSignature
from webhooks.models import InboundEvent
from webhooks.queries import forget_receivers, receiver_of
from webhooks.services import receive

pytestmark = pytest.mark.django_db(transaction=True)

UNASKABLE = ["http_500", "timeout_before_commit", "http_429", "html"]
UNWRITABLE = {**OWN_ACCOUNT, "debtor_name": "\u202e\u3042"}
# More than the process has connections.
CROWD = 16


@pytest.fixture
def line(sandbox: Sandbox, tenant: Tenant) -> GatewayConfiguration:
    return add_sandbox(tenant)


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant)


# --- Notifications while the gateway cannot be asked ---------------------------------------------


def heard_when_it_is_back(
    sandbox: Sandbox, line: GatewayConfiguration, event: str, op: str, effect: str
) -> None:
    """A notification comes while nobody can ask about it; then the gateway is back."""
    sandbox.fault(effect, op, times=50)
    scenes.heard(sandbox, line, event)
    stored = InboundEvent.objects.latest("pk")
    assert (stored.status, stored.outcome, stored.attempts) == ("pending", "not_yet", 1)
    sandbox.no_faults()
    close_circuit(line)
    scenes.events_at(later(1))
    stored.refresh_from_db()
    assert (stored.status, stored.outcome) == ("succeeded", "applied")


@pytest.mark.parametrize("effect", UNASKABLE)
def test_a_reversal_that_cannot_be_asked_about_is_not_forgotten(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account, effect: str
) -> None:
    payment = scenes.topped_up(api, ada)
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")

    heard_when_it_is_back(sandbox, line, "payment.reversed", "get_payment", effect)

    assert (fresh(payment).status, making.balance_of(ada)) == ("reversed", 0)
    call_command("verify_ledger")


@pytest.mark.parametrize("effect", UNASKABLE)
def test_a_page_that_is_paid_after_it_expired_is_not_forgotten(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account, effect: str
) -> None:
    sandbox.fault("late_paid_after_expiry", "create_payment")
    payment = scenes.asked(api, ada, "", payment_method={"type": "hosted"})
    sandbox.settle_in(3600)
    sandbox.act(f"payments/{payment.gateway_payment_id}/expire")
    steps_at(later(2))
    assert fresh(payment).status == "expired"
    sandbox.advance(3700)

    heard_when_it_is_back(sandbox, line, "payment.succeeded", "get_payment", effect)

    assert (fresh(payment).status, making.balance_of(ada)) == ("deposited", 5000)
    call_command("verify_ledger")


@pytest.mark.parametrize("effect", UNASKABLE)
def test_a_failed_payment_that_succeeds_is_not_forgotten(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account, effect: str
) -> None:
    payment = never_arrived(sandbox, api, ada)
    scenes.sent_once_more(sandbox, "create_payment")

    # By our reference, since we never had the id.
    heard_when_it_is_back(sandbox, line, "payment.succeeded", "list_payments", effect)

    assert (fresh(payment).status, making.balance_of(ada)) == ("deposited", 5000)
    call_command("verify_ledger")


@pytest.mark.parametrize("effect", UNASKABLE)
def test_a_payout_that_is_sent_back_is_not_forgotten(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    tenant: Tenant,
    effect: str,
) -> None:
    payout = settled(sandbox, api, making.open_account(tenant, balance=3000))
    sandbox.act(f"payouts/{payout.gateway_payout_id}/return")

    heard_when_it_is_back(sandbox, line, "payout.returned", "get_payout", effect)

    payout.refresh_from_db()
    assert (payout.status, making.balance_of(payout.source_account_id)) == ("returned", 3000)
    call_command("verify_ledger")


# --- Who is told, and how often is asked ---------------------------------------------------------


def test_a_policy_refund_that_is_refused_is_tried_once_a_day_and_three_times(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.asked(api, ada, NEEDS_3DS)
    scenes.close(api, ada)
    scenes.paid(sandbox, payment)
    steps_at(later(2))
    scenes.given_back_by_hand(sandbox, payment)

    for minutes in range(30):
        steps_at(later(8 * DAY + 1.1 * minutes))
    after_half_an_hour = Refund.objects.count()
    for quarter in range(6 * 4):
        steps_at(later(9 * DAY + quarter * DAY / 4))

    assert after_half_an_hour == 1
    tried = [each.created_at for each in Refund.objects.order_by("pk")]
    assert len(tried) == 3
    assert min(tried[1] - tried[0], tried[2] - tried[1]) >= dt.timedelta(days=1)
    assert open_kinds() == ["not_deposited", "refund_differs"]
    assert fresh(payment).status == "deposit_pending"
    call_command("verify_ledger")


def test_a_policy_of_weeks_pays_back_after_weeks(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    settings: LazySettings,
) -> None:
    settings.TOPUP_REFUND_AFTER_DAYS = 20
    payment = scenes.asked(api, ada, NEEDS_3DS)
    scenes.close(api, ada)
    scenes.paid(sandbox, payment)
    steps_at(later(2))

    for quarter in range(1, 20 * 4):
        steps_at(later(quarter * DAY / 4))
    assert not Refund.objects.exists()
    for quarter in range(20 * 4 + 1, 21 * 4 + 1):
        steps_at(later(quarter * DAY / 4))
    sandbox.advance(5)
    steps_at(later(21 * DAY + 5))

    assert fresh(payment).status == "refunded"
    assert Refund.objects.get().status == "succeeded"
    call_command("verify_ledger")


def test_an_outage_wakes_nothing_that_has_ended(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.topped_up(api, ada)
    making.deposit(ada, 3000)
    payout = settled(sandbox, api, ada)
    refund = scenes.refund(api, payment, 1000)
    sandbox.advance(5)
    steps_at(later(2))
    for op in ("get_payment", "get_payout", "get_refund"):
        sandbox.fault("http_429", op)

    result = reconcile(now=later(10))

    assert result.unanswered == 3
    for row in (payment, payout, refund):
        row.refresh_from_db()
        assert (row.next_step_at, row.steps, row.attention) == (None, 0, "")
    assert api.delete(f"/api/v1/gateways/{line.pk}").status_code == 204


def test_a_gateway_that_cannot_be_reached_for_a_day_is_told_to_a_person(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    settings: LazySettings,
) -> None:
    payment = scenes.asked(api, ada, "4000000000000119")
    there, settings.GATEWAY_URLS = (
        settings.GATEWAY_URLS,
        {("sandbox", "test"): "http://127.0.0.1:9"},
    )
    since = payment.waiting_since
    told_after, pauses = None, [dt.timedelta()]

    while (moment := due_at(payment)) < since + dt.timedelta(hours=27):
        steps_at(moment)
        pauses.append(due_at(payment) - moment)
        if told_after is None and fresh(payment).attention:
            told_after = moment - since

    assert told_after is not None
    assert dt.timedelta(hours=24) <= told_after <= dt.timedelta(hours=25)
    assert (fresh(payment).status, open_kinds()) == ("unknown", ["unknown_outcome"])
    assert max(pauses) == pauses[-1] == dt.timedelta(hours=1)
    settings.GATEWAY_URLS = there
    close_circuit(line)
    steps_at(due_at(payment))
    assert (fresh(payment).status, fresh(payment).attention) == ("deposited", "")
    assert (making.balance_of(ada), open_kinds()) == (5000, [])
    call_command("verify_ledger")


def test_a_payment_that_stays_pending_for_ever_is_told_to_a_person(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.asked(api, ada, NEEDS_3DS)

    for day in range(1, 70):
        steps_at(later(day * (DAY + 60)))

    payment = fresh(payment)
    assert (payment.status, payment.next_step_at) == ("pending", None)
    assert payment.attention == "unknown_outcome"
    assert open_kinds() == ["unknown_outcome"]


def test_what_is_reversed_after_it_was_refunded_is_told_to_a_person(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.topped_up(api, ada)
    scenes.refund(api, payment, None)
    sandbox.advance(5)
    steps_at(later(2))
    assert fresh(payment).status == "refunded"
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")

    scenes.heard(sandbox, line, "payment.reversed")

    assert (fresh(payment).status, fresh(payment).attention) == ("refunded", "status_differs")
    assert (making.balance_of(ada), open_kinds()) == (0, ["status_differs"])
    call_command("verify_ledger")


def test_a_refund_that_fails_after_it_had_succeeded_is_told_to_a_person(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.topped_up(api, ada)
    refund = scenes.refund(api, payment, 2000)
    sandbox.advance(5)
    steps_at(later(2))
    refund.refresh_from_db()
    assert refund.status == "succeeded"

    told_of(sandbox, payment, refund, "failed", refunded=0)

    refund.refresh_from_db()
    assert (refund.status, refund.attention) == ("succeeded", "refund_differs")
    assert "refund_differs" in open_kinds()
    assert making.balance_of(ada) == 3000
    call_command("verify_ledger")


def test_a_refund_that_succeeds_after_it_had_failed_is_told_to_a_person(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.topped_up(api, ada)
    refund = scenes.refund(api, payment, 2000, "sim:fail")
    sandbox.advance(5)
    steps_at(later(2))
    refund.refresh_from_db()
    assert refund.status == "failed"

    told_of(sandbox, payment, refund, "succeeded", refunded=2000)

    refund.refresh_from_db()
    assert (refund.status, refund.attention) == ("failed", "refund_differs")
    assert "refund_differs" in open_kinds()
    assert making.balance_of(ada) == 5000
    call_command("verify_ledger")


# --- The reconciliation --------------------------------------------------------------------------


@pytest.mark.parametrize("days", [0, 2])
def test_what_is_charged_after_we_gave_it_up_is_found(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account, days: int
) -> None:
    payment = never_arrived(sandbox, api, ada)
    for day in range(days):
        reconcile(now=later(10 + day * DAY))
    scenes.sent_once_more(sandbox, "create_payment")

    reconcile(now=later(30 + days * DAY))

    assert (fresh(payment).status, fresh(payment).failure_code) == ("deposited", "")
    assert (making.balance_of(ada), open_kinds()) == (5000, [])
    call_command("verify_ledger")


def test_one_gateway_with_a_fault_keeps_no_other_from_being_reconciled(
    sandbox: Sandbox, tenant: Tenant, other_tenant: Tenant, api: ContractClient
) -> None:
    broken, whole = add_sandbox(tenant), add_sandbox(other_tenant)
    scenes.topped_up(api, making.open_account(tenant))
    eve = making.open_account(other_tenant)
    payment = scenes.asked(making.api_client(other_tenant), eve, NEEDS_3DS)
    scenes.paid(sandbox, payment)
    GatewayConfiguration.objects.filter(pk=broken.pk).update(credentials=b"x")

    result = reconcile(now=later(1))

    assert result.unanswered > 0
    assert (fresh(payment).status, making.balance_of(eve)) == ("deposited", 5000)
    whole.refresh_from_db()
    assert whole.reconciled_at is not None
    call_command("verify_ledger")


# --- More rows than connections ------------------------------------------------------------------


@pytest.fixture
def crowd(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    tenant: Tenant,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> list[Payment]:
    """Payments that were paid, unheard, at a gateway that takes longer than a connection is for."""
    payments = [scenes.asked(api, making.open_account(tenant), LATE) for _ in range(CROWD)]
    assert settings.DATABASE_POOL_MAX < CROWD
    sandbox.advance(5)
    # A second of waiting for a connection is enough to fail, and two for an answer are not.
    monkeypatch.setattr(connection.pool, "timeout", 1.0)  # type: ignore[attr-defined]
    settings.GATEWAY_READ_TIMEOUT_S = 20.0
    sandbox.fault("slow", "get_payment", times=1000, ms=1500)
    return payments


def test_more_due_rows_than_connections_are_all_done(crowd: list[Payment]) -> None:
    assert steps_at(later(2)) == CROWD

    assert {fresh(payment).status for payment in crowd} == {"deposited"}
    assert {making.balance_of(payment.account_id) for payment in crowd} == {5000}
    call_command("verify_ledger")


def test_more_notifications_than_connections_are_all_done(
    crowd: list[Payment], sandbox: Sandbox, line: GatewayConfiguration
) -> None:
    count = CROWD
    while InboundEvent.objects.count() < CROWD:
        # Some may have been sent twice by now.
        rows = sandbox.notifications(count)
        for notification in rows:
            gateways.deliver(notification, line)
        count = len(rows) + 1

    assert gateways.process_events() == CROWD

    outcomes = set(InboundEvent.objects.values_list("status", "outcome", "attempts"))
    assert outcomes == {("succeeded", "applied", 1)}
    assert {making.balance_of(payment.account_id) for payment in crowd} == {5000}
    call_command("verify_ledger")


# --- Files ---------------------------------------------------------------------------------------


def test_bank_details_that_no_file_can_carry_are_refused(
    tenant: Tenant, api: ContractClient
) -> None:
    bank = add_bank_file(tenant)
    body = {"gateway": "bank_file", "mode": "test", "currencies": ["EUR"]}

    changed = api.patch(f"/api/v1/gateways/{bank.pk}", {"credentials": UNWRITABLE})
    added = api.post("/api/v1/gateways", {**body, "credentials": UNWRITABLE})

    assert (changed.status_code, added.status_code) == (400, 400), added.content
    assert changed.json()["errors"][0]["field"] == "credentials"
    scenes.filed(api, making.open_account(tenant, balance=2500, currency="EUR"))
    assert len(gather_payouts(now=timezone.now())) == 1


def test_one_tenants_bank_details_stop_no_other_tenants_file(
    tenant: Tenant, other_tenant: Tenant, api: ContractClient, other_api: ContractClient
) -> None:
    bank, _ = add_bank_file(tenant), add_bank_file(other_tenant)
    waits, goes = [
        scenes.filed(client, making.open_account(of, balance=2500, currency="EUR"))
        for of, client in ((tenant, api), (other_tenant, other_api))
    ]
    # From before they were checked.
    GatewayConfiguration.objects.filter(pk=bank.pk).update(
        credentials=encrypted_credentials(bank.pk, UNWRITABLE)
    )

    for _ in range(2):
        gather_payouts(now=timezone.now())

    assert PayoutBatch.objects.get().tenant_id == other_tenant.pk
    waits.refresh_from_db()
    goes.refresh_from_db()
    assert (waits.status, goes.status) == ("pending", "submitted")
    told = Discrepancy.objects.get()
    assert (told.tenant_id, told.kind) == (tenant.pk, "gateway_refuses")
    call_command("verify_ledger")


@pytest.mark.parametrize("reason", ["AM05", "DU01", "DU02", "DU03", "DU04", "DU05"])
def test_a_rejected_second_copy_of_a_file_ends_no_payout(
    tenant: Tenant, api: ContractClient, reason: str
) -> None:
    payout = said_to_be_double(tenant, api, reason)
    batch = PayoutBatch.objects.get()
    assert (payout.status, payout.attention) == ("submitted", "status_differs")
    assert (making.balance_of(payout.source_account_id), open_kinds()) == (0, ["status_differs"])

    settled = status_report(batch, "ACSC", message_id="BANK-2")
    take_report(tenant_id=tenant.pk, document=settled, now=timezone.now())

    payout.refresh_from_db()
    assert payout.status == "settled"
    assert scenes.internal(tenant, "payout_clearing") == 0
    call_command("verify_ledger")


def test_nobody_can_be_asked_about_a_payout_by_file(tenant: Tenant, api: ContractClient) -> None:
    said_to_be_double(tenant, api, "AM05")

    with pytest.raises(InvalidRequest) as refused:
        scenes.resolved(Discrepancy.objects.get(), "asked_again")

    assert refused.value.http_status == 400
    assert open_kinds() == ["status_differs"]


# --- Gateways that are changed or deleted --------------------------------------------------------


def test_a_webhook_secret_that_is_sent_twice_keeps_the_one_before(
    sandbox: Sandbox, api: ContractClient, tenant: Tenant
) -> None:
    line = add_xendit(tenant)
    for _ in range(2):
        changed = api.patch(f"/api/v1/gateways/{line.pk}", {"webhook_secret": "brand-new-token-1"})
        assert changed.status_code == 200
    body = json.dumps({"id": "inv_1", "external_id": "x", "status": "PAID"}).encode()

    forget_receivers()
    tokens = ("brand-new-token-1", XENDIT_TOKEN, "somebody-elses")
    codes = [delivered(line, body, {"x-callback-token": token}) for token in tokens]

    assert codes == [200, 200, 401]


@pytest.mark.parametrize(
    ("gateway", "name", "new_key"),
    [
        ("sandbox", "secret_key", f"sk_sandbox_{'n' * 32}"),
        ("midtrans", "server_key", f"SB-Mid-server-{'n' * 32}"),
    ],
)
def test_notifications_signed_with_the_old_key_are_taken_for_a_day(
    sandbox: Sandbox, api: ContractClient, tenant: Tenant, gateway: str, name: str, new_key: str
) -> None:
    line = add_sandbox(tenant) if gateway == "sandbox" else add_midtrans(tenant)
    by_old_key = signed(line)

    changed = api.patch(f"/api/v1/gateways/{line.pk}", {"credentials": {name: new_key}})

    assert changed.status_code == 200, changed.content
    forget_receivers()
    line.refresh_from_db()
    assert [delivered(line, *by_old_key), delivered(line, *signed(line))] == [200, 200]
    forget_receivers()
    body, headers = by_old_key
    tomorrow = later(DAY + 1)
    receiver = receiver_of(gateway=gateway, configuration_id=line.pk, now=tomorrow)
    with pytest.raises(InvalidSignature):
        receive(receiver=receiver, headers=headers, body=body, now=tomorrow)


@pytest.mark.parametrize("use", ["payment", "payout", "refund"])
def test_a_gateway_in_use_is_not_deleted(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account, use: str
) -> None:
    if use == "payment":
        scenes.asked(api, ada, NEEDS_3DS)
    elif use == "payout":
        making.deposit(ada, 3000)
        scenes.paid_out(api, ada)
        steps_at(timezone.now())
    else:
        scenes.refund(api, scenes.topped_up(api, ada), 1000, "sim:pending")

    answer = api.delete(f"/api/v1/gateways/{line.pk}")

    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")
    line.refresh_from_db()
    assert (line.is_enabled, line.deleted_at) == (True, None)


# --- What a person chooses -----------------------------------------------------------------------


def test_a_refund_that_is_refused_resolves_nothing(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.topped_up(api, ada)
    scenes.given_back_by_hand(sandbox, payment)
    reconcile(now=later(1))
    found = Discrepancy.objects.get(kind="refund_differs")

    for _ in range(2):
        with pytest.raises(InvalidState, match="refused the refund"):
            scenes.resolved(found, "refunded")

    assert open_kinds() == ["refund_differs"]
    assert [each.status for each in Refund.objects.all()] == ["failed", "failed"]
    assert making.balance_of(ada) == 5000
    call_command("verify_ledger")


# --- What several of them need -------------------------------------------------------------------


def never_arrived(sandbox: Sandbox, api: ContractClient, account: Account) -> Payment:
    """Return a payment that was given up, since the gateway had not heard of it."""
    sandbox.fault("timeout_before_commit", "create_payment")
    payment = scenes.asked(api, account, gateways.GOOD_CARD)
    for minutes in (1.1, 6):
        steps_at(later(minutes))
    payment = fresh(payment)
    assert (payment.status, payment.failure_code) == ("failed", "never_arrived")
    return payment


def settled(sandbox: Sandbox, api: ContractClient, source: Account) -> Payout:
    payout = scenes.paid_out(api, source, "0003")
    steps_at(timezone.now())
    payout.refresh_from_db()
    sandbox.act(f"payouts/{payout.gateway_payout_id}/settle")
    steps_at(later(2))
    payout.refresh_from_db()
    assert (payout.status, payout.next_step_at) == ("settled", None)
    return payout


def told_of(
    sandbox: Sandbox, payment: Payment, refund: Refund, status: str, *, refunded: int
) -> None:
    """Reconcile with a gateway that says this of the payment and its refund."""
    with scenes.gateway_that_says(
        sandbox,
        scenes.payment_body(payment, "succeeded", refunded),
        scenes.refund_body(refund, status),
        {"data": [], "has_more": False},
    ):
        reconcile(now=later(10))


def said_to_be_double(tenant: Tenant, api: ContractClient, reason: str) -> Payout:
    """Return a payout of a file that the bank rejects, as one that it has already."""
    add_bank_file(tenant)
    payout = scenes.filed(api, making.open_account(tenant, balance=2500, currency="EUR"))
    [batch] = gather_payouts(now=timezone.now())
    why = f"</GrpSts><StsRsnInf><Rsn><Cd>{reason}</Cd></Rsn></StsRsnInf>".encode()
    document = status_report(batch, "RJCT").replace(b"</GrpSts>", why)
    take_report(tenant_id=tenant.pk, document=document, now=timezone.now())
    payout.refresh_from_db()
    return payout


def due_at(payment: Payment) -> dt.datetime:
    moment = fresh(payment).next_step_at
    assert moment is not None
    return moment


def signed(line: GatewayConfiguration) -> tuple[bytes, dict[str, str]]:
    """Return a notification of the gateway as its credentials sign it now."""
    if line.gateway == GatewayConfiguration.Gateway.SANDBOX:
        return gateways.notification(line)
    key = credentials_of(line)["server_key"]
    told: dict[str, Any] = {
        "order_id": "nothing-of-ours",
        "status_code": "200",
        "gross_amount": "1000.00",
        "transaction_id": making.fresh_key(),
        "transaction_status": "settlement",
    }
    text = f"{told['order_id']}{told['status_code']}{told['gross_amount']}"
    return json.dumps({**told, "signature_key": signature_of(text, key)}).encode(), {}


def delivered(line: GatewayConfiguration, body: bytes, headers: dict[str, str]) -> int:
    notification = {"body": body.decode(), "headers": headers}
    return int(gateways.deliver(notification, line).status_code)
