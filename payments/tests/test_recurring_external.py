"""Recurring payments to beneficiaries elsewhere: sent, settled, refused, returned, once each."""

import datetime as dt
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts.models import Account
from core.models import OutboxEvent
from identity.models import Tenant
from identity.services import advance_test_clock, start_test_clock
from payments.gateways import breaker
from payments.models import GatewayConfiguration, Payout, RecurringPayment, RecurringRun
from payments.services import Beneficiary, cancel_recurring_payment, delete_gateway
from tests.gateways import (
    Sandbox,
    add_sandbox,
    close_circuit,
    deliver,
    process_events,
    steps_at,
)
from tests.making import at_once, balance_of, deposit, open_account
from tests.recurring import again, order, run, runs, statuses

BUDI = Beneficiary("Budi", "DE", iban="DE89370400440532013000")


def ends_in(last4: str) -> Beneficiary:
    """A beneficiary whose account number tells the sandbox how the payout ends."""
    return Beneficiary("Siti", "ID", account_number=f"123456{last4}", bank_code="BCA")


@pytest.fixture
def source(tenant: Tenant) -> Account:
    return open_account(tenant, balance=1_000)


@pytest.fixture
def configuration(sandbox: Sandbox, tenant: Tenant) -> GatewayConfiguration:
    made = add_sandbox(tenant)
    close_circuit(made)
    return made


def outside(source: Account, beneficiary: Beneficiary = BUDI, **terms: Any) -> RecurringPayment:
    """Make a payment of 100 that is due now, and then in a month, whatever the time of day is."""
    values: dict[str, Any] = {"frequency": "monthly", "run_at": dt.time(0, 0), **terms}
    return order(source, beneficiary=beneficiary, now=timezone.now(), **values)


def later(minutes: float = 0) -> dt.datetime:
    return timezone.now() + dt.timedelta(minutes=minutes)


def settle(sandbox: Sandbox, since: float = 0) -> None:
    """Let time pass, as beat and the workers would; from so many minutes on."""
    for minutes in (0, 2, 6, 20, 70):
        steps_at(later(since + minutes))
        sandbox.advance(3_600)


def clearing(tenant: Tenant) -> int:
    return Account.objects.get(tenant_id=tenant.pk, role="payout_clearing").balance


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("configuration")
def test_it_is_sent_and_has_succeeded_when_the_payout_has(
    sandbox: Sandbox, tenant: Tenant, source: Account
) -> None:
    payment = outside(source, description="Rent")

    run(later())
    [sent] = runs(payment)
    assert (sent.status, sent.amount, balance_of(source)) == ("sent", 100, 900)
    settle(sandbox)

    [paid] = runs(payment)
    assert (paid.status, paid.ended_at is not None) == ("succeeded", True)
    assert paid.payout is not None
    assert [each["status"] for each in sandbox.objects(paid.payout.reference)] == ["settled"]
    assert (balance_of(source), clearing(tenant)) == (900, 0)
    told = OutboxEvent.objects.filter(event_type__startswith="recurring_run.").order_by("id")
    assert [each.event_type for each in told] == ["recurring_run.sent", "recurring_run.succeeded"]
    call_command("verify_ledger")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("configuration")
def test_many_looks_at_once_make_one_payout_each(
    sandbox: Sandbox, tenant: Tenant, source: Account
) -> None:
    payments = [outside(source) for _ in range(8)]

    at_once([lambda: run(later())] * 4)
    settle(sandbox)

    assert [statuses(each) for each in payments] == [["succeeded"]] * 8
    assert Payout.objects.filter(tenant_id=tenant.pk).count() == 8
    assert balance_of(source) == 200


@pytest.mark.usefixtures("configuration")
@pytest.mark.parametrize("last4", ["0001", "0004"])
def test_a_beneficiary_that_is_rejected_pauses_it(
    sandbox: Sandbox, tenant: Tenant, source: Account, last4: str
) -> None:
    payment = outside(source, ends_in(last4))

    run(later())
    settle(sandbox)

    assert statuses(payment) == ["failed"]
    assert (again(payment).status, again(payment).status_reason) == (
        "paused",
        "beneficiary_rejected",
    )
    assert (balance_of(source), clearing(tenant)) == (1_000, 0)
    run(later(2 * 24 * 60))
    assert statuses(payment) == ["failed"]


def test_what_is_returned_after_it_settled_pauses_what_would_follow(
    sandbox: Sandbox, tenant: Tenant, source: Account, configuration: GatewayConfiguration
) -> None:
    payment = outside(source)
    run(later())
    settle(sandbox)
    [settled] = runs(payment)
    assert settled.status == "succeeded"
    assert settled.payout is not None
    [theirs] = sandbox.objects(settled.payout.reference)

    sandbox.act(f"payouts/{theirs['id']}/return")
    _hear(sandbox, configuration)

    assert Payout.objects.get(pk=settled.payout.pk).status == "returned"
    # It was paid; that it came back is the payout's.
    assert statuses(payment) == ["succeeded"]
    assert (again(payment).status, again(payment).status_reason) == (
        "paused",
        "beneficiary_rejected",
    )
    assert balance_of(source) == 1_000


def test_what_is_returned_after_it_was_cancelled_changes_nothing(
    sandbox: Sandbox, tenant: Tenant, source: Account, configuration: GatewayConfiguration
) -> None:
    payment = outside(source, ends_in("0002"))
    run(later())
    cancel_recurring_payment(
        tenant_id=tenant.pk, payment_id=payment.pk, reason="x", now=timezone.now()
    )
    assert statuses(payment) == ["sent"]

    settle(sandbox)
    _hear(sandbox, configuration)

    assert Payout.objects.get().status == "returned"
    assert again(payment).status == "cancelled"
    assert balance_of(source) == 1_000


def test_a_gateway_that_is_down_gets_it_when_it_is_up(
    sandbox: Sandbox, source: Account, configuration: GatewayConfiguration
) -> None:
    payment = outside(source, retry_count=0)
    for _ in range(breaker.FAILURES_MAX):
        breaker.failed(configuration.circuit)
    assert breaker.is_open(configuration.circuit)

    run(later())
    steps_at(later())
    assert statuses(payment) == ["sent"]
    assert balance_of(source) == 900
    close_circuit(configuration)
    settle(sandbox)

    assert statuses(payment) == ["succeeded"]
    assert balance_of(source) == 900


@pytest.mark.usefixtures("configuration")
def test_a_lost_answer_sends_it_once(sandbox: Sandbox, source: Account) -> None:
    payment = outside(source)
    sandbox.fault("timeout_after_commit", "create_payout", times=3)
    run(later())
    steps_at(later())
    sandbox.no_faults()
    settle(sandbox)

    [paid] = runs(payment)
    assert paid.payout is not None
    assert len(sandbox.objects(paid.payout.reference)) == 1
    assert paid.status == "succeeded"


def test_without_a_gateway_it_is_tried_again_also_where_poverty_is_skipped(
    sandbox: Sandbox, tenant: Tenant, source: Account, configuration: GatewayConfiguration
) -> None:
    payment = outside(source, on_insufficient_funds="skip", retry_interval_minutes=60)
    delete_gateway(tenant_id=tenant.pk, configuration_id=configuration.pk, now=timezone.now())

    run(later())
    assert [(each.status, each.error_code) for each in runs(payment)] == [
        ("retrying", "no_gateway")
    ]
    add_sandbox(tenant)
    run(later(61))
    settle(sandbox, since=61)

    assert statuses(payment) == ["succeeded"]


@pytest.mark.usefixtures("configuration")
def test_too_little_money_is_asked_for_again(sandbox: Sandbox, tenant: Tenant) -> None:
    poor = open_account(tenant, balance=99)
    payment = outside(poor, retry_interval_minutes=60)

    run(later())
    deposit(poor, 1)
    run(later(61))
    settle(sandbox, since=61)

    [paid] = runs(payment)
    assert (paid.status, paid.attempts, balance_of(poor)) == ("succeeded", 2, 0)
    assert Payout.objects.count() == 1


@pytest.mark.usefixtures("configuration")
def test_a_sweep_to_the_outside_takes_what_is_above_the_floor(
    sandbox: Sandbox, source: Account
) -> None:
    outside(source, amount_type="sweep", floor_amount=400)
    outside(source, amount_type="sweep", floor_amount=400)

    run(later())
    settle(sandbox)

    assert balance_of(source) == 400
    assert sorted(str(each.status) for each in RecurringRun.objects.all()) == [
        "skipped",
        "succeeded",
    ]


@pytest.mark.usefixtures("configuration")
def test_by_a_test_clock_the_gateway_is_asked_in_real_time(
    sandbox: Sandbox, tenant: Tenant, source: Account
) -> None:
    far = timezone.now() + dt.timedelta(days=700)
    start_test_clock(tenant_id=tenant.pk, at=far, now=timezone.now())
    start = (far + dt.timedelta(days=2)).date()
    payment = outside(source, frequency="monthly", start_date=start)

    advance_test_clock(tenant_id=tenant.pk, to=far + dt.timedelta(days=3), now=timezone.now())
    assert statuses(payment) == ["sent"]
    settle(sandbox)

    [paid] = runs(payment)
    assert paid.status == "succeeded"
    assert paid.ended_at is not None
    # The run's own times are its tenant's.
    assert paid.ended_at > far


def _hear(sandbox: Sandbox, configuration: GatewayConfiguration) -> None:
    """Take what the gateway has told, once it has told of a return."""
    count = 1
    while not any(b"payout.returned" in _body(told) for told in sandbox.notifications(count)):
        count = len(sandbox.notifications()) + 1
    for told in sandbox.notifications():
        deliver(told, configuration)
    process_events()


def _body(told: dict[str, Any]) -> bytes:
    return str(told["body"]).encode()
