"""Top-ups from the HTTP call to the balance, over real HTTP to the simulated gateways."""

import datetime as dt
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts.models import Account
from identity.models import Tenant
from payments.models import Discrepancy, GatewayConfiguration, Payment
from tests import gateways, making
from tests.contract import ContractClient
from tests.gateways import Sandbox, add_sandbox, card, steps_at

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def configuration(sandbox: Sandbox, tenant: Tenant) -> GatewayConfiguration:
    return add_sandbox(tenant)


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant)


def ask(api: ContractClient, account: Account, number: str, *, key: str = "", **more: Any) -> Any:
    body = {"amount": 5000, "currency": "USD", "payment_method": card(number), **more}
    return api.post_once(f"/accounts/{account.pk}/topup", body, key=key or making.fresh_key())


def later(minutes: float) -> dt.datetime:
    return timezone.now() + dt.timedelta(minutes=minutes)


def test_it_works(configuration: GatewayConfiguration, api: ContractClient, ada: Account) -> None:
    answer = ask(api, ada, gateways.GOOD_CARD, description="Pocket money")

    assert answer.status_code == 201, answer.content
    topup = answer.json()
    assert topup["status"] == "succeeded"
    assert topup["card_last4"] == "4242"
    assert making.balance_of(ada) == 5000
    assert api.get(f"/api/v1/topups/{topup['id']}").json() == topup
    operations = api.get(f"/api/v1/accounts/{ada.pk}/operations").json()["results"]
    assert [row["kind"] for row in operations] == ["topup"]
    call_command("verify_ledger")


def test_three_d_secure(
    configuration: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    answer = ask(api, ada, "4000002500003155", return_url="https://shop.example/back")

    assert answer.status_code == 202
    topup = answer.json()
    assert topup["status"] == "pending"
    assert topup["redirect_url"].startswith(sandbox.url)
    payment = Payment.objects.get(pk=topup["id"])
    sandbox.act(f"payments/{payment.gateway_payment_id}/challenge/approve")
    [*_, told] = sandbox.notifications()
    assert gateways.deliver(told, configuration).status_code == 200
    gateways.process_events()
    assert api.get(f"/api/v1/topups/{topup['id']}").json()["status"] == "succeeded"
    assert making.balance_of(ada) == 5000
    call_command("verify_ledger")


def test_a_rejected_challenge_fails(
    configuration: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    topup = ask(api, ada, "4000002500003155").json()
    payment = Payment.objects.get(pk=topup["id"])
    sandbox.act(f"payments/{payment.gateway_payment_id}/challenge/reject")

    steps_at(later(2))

    assert api.get(f"/api/v1/topups/{topup['id']}").json()["status"] == "failed"
    assert making.balance_of(ada) == 0


@pytest.mark.parametrize(
    ("number", "failure_code"),
    [
        ("4000000000000002", "card_declined"),
        ("4000000000009995", "insufficient_funds"),
        ("4000000000000069", "expired_card"),
    ],
)
def test_a_decline_is_final(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    number: str,
    failure_code: str,
) -> None:
    answer = ask(api, ada, number, key="once")

    assert answer.status_code == 201
    assert answer.json()["status"] == "failed"
    assert answer.json()["failure_code"] == failure_code
    again = ask(api, ada, number, key="once")
    assert again.json() == answer.json()
    assert again["Idempotent-Replayed"] == "true"
    assert len(sandbox.requests("create_payment")) == 1
    assert making.balance_of(ada) == 0


@pytest.mark.parametrize(
    "number",
    [
        # Time-out, reset and 500, each after the charge was made.
        "4000000000000119",
        "4000000000000341",
        "4000000000000739",
    ],
)
def test_a_lost_answer_is_asked_for_and_never_charged_again(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    number: str,
) -> None:
    answer = ask(api, ada, number, key="once")

    assert answer.status_code == 202
    assert answer.json()["status"] == "unknown"
    assert making.balance_of(ada) == 0
    assert ask(api, ada, number, key="once").json()["status"] == "unknown"
    assert steps_at(later(0.5)) == 0
    steps_at(later(2))
    topup = api.get(f"/api/v1/topups/{answer.json()['id']}").json()
    assert topup["status"] == "succeeded"
    assert making.balance_of(ada) == 5000
    assert len(sandbox.objects(topup["reference"])) == 1
    call_command("verify_ledger")


def test_what_never_arrived_fails_after_five_minutes(
    configuration: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    sandbox.fault("timeout_before_commit", "create_payment")
    topup = ask(api, ada, gateways.GOOD_CARD).json()
    assert topup["status"] == "unknown"

    steps_at(later(1.1))
    assert api.get(f"/api/v1/topups/{topup['id']}").json()["status"] == "unknown"
    steps_at(later(6))

    shown = api.get(f"/api/v1/topups/{topup['id']}").json()
    assert (shown["status"], shown["failure_code"]) == ("failed", "never_arrived")
    assert sandbox.objects(topup["reference"]) == []


def test_it_succeeds_late_without_any_notification(
    configuration: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    topup = ask(api, ada, "4000000000000077").json()
    assert topup["status"] == "pending"
    sandbox.advance(5)

    steps_at(later(2))

    assert api.get(f"/api/v1/topups/{topup['id']}").json()["status"] == "succeeded"
    assert making.balance_of(ada) == 5000


def test_a_notification_that_comes_twice_counts_once(
    configuration: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    assert ask(api, ada, "4000000000000432").json()["status"] == "succeeded"
    told = sandbox.notifications(2)

    for notification in [*told, *told]:
        assert gateways.deliver(notification, configuration).status_code == 200
        gateways.process_events()

    assert making.balance_of(ada) == 5000
    call_command("verify_ledger")


def test_what_is_reversed_is_taken_back(
    configuration: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    topup = ask(api, ada, gateways.GOOD_CARD).json()
    assert making.balance_of(ada) == 5000
    payment = Payment.objects.get(pk=topup["id"])
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
    for told in sandbox.notifications(2):
        gateways.deliver(told, configuration)

    gateways.process_events()

    assert api.get(f"/api/v1/topups/{topup['id']}").json()["status"] == "reversed"
    assert making.balance_of(ada) == 0
    operations = api.get(f"/api/v1/accounts/{ada.pk}/operations").json()["results"]
    assert [row["kind"] for row in operations] == ["chargeback", "topup"]
    call_command("verify_ledger")


def test_what_is_reversed_and_spent_is_owed(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
) -> None:
    topup = ask(api, ada, gateways.GOOD_CARD).json()
    making.transfer(ada, making.open_account(tenant), 4000)
    payment = Payment.objects.get(pk=topup["id"])
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
    for told in sandbox.notifications(2):
        gateways.deliver(told, configuration)

    gateways.process_events()

    assert gateways.fresh(payment).status == "reversed"
    assert making.balance_of(ada) == 1000
    suspense = Account.objects.get(tenant_id=tenant.pk, role="suspense")
    assert suspense.balance == -5000
    assert Discrepancy.objects.get().kind == Discrepancy.Kind.REVERSAL_OWED
    call_command("verify_ledger")


def test_a_deposit_that_is_refused_waits_and_is_made_once(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
) -> None:
    topup = ask(api, ada, "4000002500003155").json()
    payment = Payment.objects.get(pk=topup["id"])
    api.post(f"/api/v1/accounts/{ada.pk}/freeze", {"reason": "x"})
    sandbox.act(f"payments/{payment.gateway_payment_id}/challenge/approve")
    steps_at(later(2))
    shown = api.get(f"/api/v1/topups/{topup['id']}").json()
    assert (shown["status"], shown["failure_code"]) == ("deposit_pending", "account_frozen")
    assert Discrepancy.objects.get().kind == Discrepancy.Kind.NOT_DEPOSITED
    steps_at(later(4))
    api.post(f"/api/v1/accounts/{ada.pk}/unfreeze", {"reason": "x"})

    for minutes in (20, 40, 60):
        steps_at(later(minutes))

    assert api.get(f"/api/v1/topups/{topup['id']}").json()["status"] == "succeeded"
    assert making.balance_of(ada) == 5000
    assert gateways.fresh(payment).attention == ""
    call_command("verify_ledger")


def test_a_deposit_that_stays_refused_is_paid_back(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
) -> None:
    topup = ask(api, ada, "4000002500003155").json()
    payment = Payment.objects.get(pk=topup["id"])
    api.post(f"/api/v1/accounts/{ada.pk}/close", {"reason": "x"})
    sandbox.act(f"payments/{payment.gateway_payment_id}/challenge/approve")
    steps_at(later(2))
    assert gateways.fresh(payment).status == "deposit_pending"

    steps_at(later(6 * 24 * 60))
    assert gateways.fresh(payment).status == "deposit_pending"
    steps_at(later(8 * 24 * 60))
    sandbox.advance(5)
    steps_at(later(8 * 24 * 60 + 5))

    assert api.get(f"/api/v1/topups/{topup['id']}").json()["status"] == "refunded"
    [refund] = api.get(f"/api/v1/topups/{topup['id']}/refunds").json()["results"]
    assert (refund["status"], refund["amount"]) == ("succeeded", 5000)
    assert making.balance_of(ada) == 0
    call_command("verify_ledger")


def test_a_refund_in_parts_never_exceeds_the_payment(
    configuration: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    topup = ask(api, ada, gateways.GOOD_CARD).json()
    url = f"/topups/{topup['id']}/refunds"

    first = api.post_once(url, {"amount": 2000, "reason": "late"}, key="r1")
    again = api.post_once(url, {"amount": 2000, "reason": "late"}, key="r1")
    too_much = api.post_once(url, {"amount": 3001, "reason": "late"})
    rest = api.post_once(url, {"reason": "all of it"})

    assert first.status_code in (201, 202), first.content
    assert again.json()["id"] == first.json()["id"]
    assert (too_much.status_code, too_much.json()["code"]) == (422, "refund_exceeds_payment")
    assert rest.json()["amount"] == 3000
    sandbox.advance(5)
    steps_at(later(2))
    shown = api.get(f"/api/v1/topups/{topup['id']}").json()
    assert (shown["status"], shown["refunded_amount"]) == ("refunded", 5000)
    assert making.balance_of(ada) == 0
    call_command("verify_ledger")


def test_a_refund_needs_the_money(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
) -> None:
    topup = ask(api, ada, gateways.GOOD_CARD).json()
    making.transfer(ada, making.open_account(tenant), 1)

    answer = api.post_once(f"/topups/{topup['id']}/refunds", {"reason": "x"})

    assert (answer.status_code, answer.json()["code"]) == (422, "insufficient_funds")
    assert sandbox.requests("refund") == []


def test_a_refused_refund_gives_the_money_back(
    configuration: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    topup = ask(api, ada, gateways.GOOD_CARD).json()
    payment = Payment.objects.get(pk=topup["id"])
    # The gateway has given a part back by itself: less is left there than here.
    sandbox.http.post(
        "/sandbox/v1/refunds",
        json={
            "payment": payment.gateway_payment_id,
            "reference": "by-hand",
            "amount": 1,
            "currency": "USD",
        },
        headers={
            "Authorization": sandbox.requests()[-1]["headers"]["authorization"],
            "Idempotency-Key": "by-hand",
        },
    ).raise_for_status()

    answer = api.post_once(f"/topups/{topup['id']}/refunds", {"reason": "x"})

    assert (answer.status_code, answer.json()["status"]) == (201, "failed")
    assert making.balance_of(ada) == 5000
    call_command("verify_ledger")


@pytest.mark.parametrize("effect", ["timeout_after_commit", "reset_after_commit"])
def test_a_lost_answer_to_a_refund_is_asked_for(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    effect: str,
) -> None:
    topup = ask(api, ada, gateways.GOOD_CARD).json()
    sandbox.fault(effect, "refund", times=3)

    answer = api.post_once(f"/topups/{topup['id']}/refunds", {"reason": "x"})

    assert (answer.status_code, answer.json()["status"]) == (202, "unknown")
    assert making.balance_of(ada) == 0
    sandbox.advance(5)
    steps_at(later(2))
    assert api.get(f"/api/v1/topups/{topup['id']}").json()["status"] == "refunded"
    assert len(sandbox.objects(answer.json()["reference"])) == 1
    call_command("verify_ledger")
