"""
Money that goes two ways at once, or twice: each of these once made a balance wrong.

What a person is told, and what is asked again, is in test_money_stays_seen.py.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from accounts.models import Account
from core.errors import InvalidState
from identity.models import Tenant
from payments.models import Discrepancy, GatewayConfiguration, Payment, Payout, Refund
from payments.services import (
    ask_about_payment,
    reconcile,
    refund_payment,
    resolve_discrepancy,
)
from payments.services.outcomes import deposit
from payments.services.waiting import tell_a_person
from tests import gateway_scenes as scenes
from tests import gateways, making
from tests.contract import ContractClient
from tests.gateway_scenes import DAY, LATE, NEEDS_3DS, later, open_kinds
from tests.gateways import Sandbox, add_sandbox, close_circuit, fresh, steps_at

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def line(sandbox: Sandbox, tenant: Tenant) -> GatewayConfiguration:
    return add_sandbox(tenant)


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant)


@pytest.fixture
def eve(tenant: Tenant) -> Account:
    """She has what one payout takes."""
    return making.open_account(tenant, balance=3000)


def refused_at_first(api: ContractClient, source: Account, settings: LazySettings) -> Payout:
    """Ask for a payout that the gateway refuses, for a reason that is soon gone."""
    reachable, settings.PUBLIC_URL = settings.PUBLIC_URL, "ftp://nowhere"
    payout = scenes.paid_out(api, source)
    steps_at(timezone.now())
    settings.PUBLIC_URL = reachable
    payout.refresh_from_db()
    assert payout.status == Payout.Status.FAILED
    return payout


# --- Payouts -------------------------------------------------------------------------------------


def test_a_refused_payout_is_not_sent_again_by_the_reconciliation(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    eve: Account,
    settings: LazySettings,
) -> None:
    payout = refused_at_first(api, eve, settings)
    assert making.balance_of(eve) == 3000

    for minutes in (10, 60, DAY):
        reconcile(now=later(minutes))
        steps_at(later(minutes))

    assert len(sandbox.requests("create_payout")) == 1
    assert sandbox.objects(payout.reference) == []
    assert making.balance_of(eve) == 3000
    call_command("verify_ledger")


def test_a_refused_payout_is_not_sent_again_by_a_notification(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    eve: Account,
    settings: LazySettings,
) -> None:
    payout = refused_at_first(api, eve, settings)
    event = scenes.forge_payout_event(payout, "settled")

    assert gateways.deliver(event, line).status_code == 200
    for minutes in (0, 1, 10, DAY):
        scenes.events_at(later(minutes))

    assert len(sandbox.requests("create_payout")) == 1
    assert making.balance_of(eve) == 3000
    call_command("verify_ledger")


def test_a_refused_payout_is_not_sent_again_by_a_person(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    eve: Account,
    settings: LazySettings,
    tenant: Tenant,
) -> None:
    reachable, settings.PUBLIC_URL = settings.PUBLIC_URL, "ftp://nowhere"
    payout = scenes.paid_out(api, eve)
    scenes.close(api, eve)
    steps_at(timezone.now())
    settings.PUBLIC_URL = reachable
    found = Discrepancy.objects.get(object_id=payout.pk)

    with pytest.raises(InvalidState):
        scenes.resolved(found, "asked_again")

    assert len(sandbox.requests("create_payout")) == 1
    assert scenes.internal(tenant, "suspense") == 3000
    call_command("verify_ledger")


@pytest.mark.parametrize(("last4", "ended"), [("0001", "failed"), ("0002", "returned")])
def test_a_payout_that_came_back_and_settles_all_the_same_is_shown_to_a_person(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    eve: Account,
    last4: str,
    ended: str,
) -> None:
    payout = scenes.paid_out(api, eve, last4)
    steps_at(timezone.now())
    sandbox.advance(60)
    steps_at(later(2))
    payout.refresh_from_db()
    assert payout.status == ended

    with scenes.gateway_that_says(sandbox, scenes.payout_body(payout, "settled")):
        reconcile(now=later(10))

    payout.refresh_from_db()
    assert (payout.status, payout.attention) == (ended, "status_differs")
    assert open_kinds() == ["status_differs"]
    assert making.balance_of(eve) == 3000
    call_command("verify_ledger")


def test_a_payout_whose_first_try_was_lost_is_not_failed_by_a_later_refusal(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    eve: Account,
    tenant: Tenant,
    settings: LazySettings,
) -> None:
    sandbox.fault("timeout_before_commit", "create_payout", times=3)
    payout = scenes.paid_out(api, eve)
    steps_at(timezone.now())
    sandbox.no_faults()
    close_circuit(line)
    settings.PUBLIC_URL = "ftp://nowhere"

    steps_at(later(2))

    payout.refresh_from_db()
    assert (payout.status, payout.attention) == ("unknown", "gateway_refuses")
    assert scenes.internal(tenant, "payout_clearing") == 3000
    assert making.balance_of(eve) == 0
    call_command("verify_ledger")


# --- Refunds beside reversals --------------------------------------------------------------------


def test_a_refund_that_fails_after_the_reversal_leaves_the_account_nothing(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
) -> None:
    payment = scenes.topped_up(api, ada)
    refund = scenes.refund(api, payment, 2000, "sim:pending")
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
    scenes.heard(sandbox, line, "payment.reversed")
    assert (fresh(payment).status, making.balance_of(ada)) == ("reversed", 0)

    sandbox.act(f"refunds/{refund.gateway_refund_id}/fail")
    for minutes in (10, 30, DAY):
        steps_at(later(minutes))
        reconcile(now=later(minutes))

    refund.refresh_from_db()
    assert (fresh(payment).status, refund.status) == ("reversed", "failed")
    assert scenes.kinds_on(api, ada) == [
        "topup",
        "refund",
        "chargeback",
        "refund_return",
        "chargeback",
    ]
    assert (making.balance_of(ada), scenes.internal(tenant, "settlement")) == (0, 0)
    call_command("verify_ledger")


def test_a_refund_that_fails_after_the_reversal_makes_a_closed_account_no_money(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
) -> None:
    payment = scenes.topped_up(api, ada)
    refund = scenes.refund(api, payment, 2000, "sim:pending")
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
    scenes.heard(sandbox, line, "payment.reversed")
    scenes.close(api, ada)

    sandbox.act(f"refunds/{refund.gateway_refund_id}/fail")
    steps_at(later(10))

    refund.refresh_from_db()
    assert refund.status == "failed"
    internals = [scenes.internal(tenant, role) for role in ("settlement", "suspense")]
    assert (making.balance_of(ada), internals) == (0, [0, 0])
    call_command("verify_ledger")


def test_a_refund_that_fails_after_the_reversal_ends_for_an_account_that_takes_no_debits(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
) -> None:
    payment = scenes.topped_up(api, ada)
    refund = scenes.refund(api, payment, 2000, "sim:pending")
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
    scenes.heard(sandbox, line, "payment.reversed")
    Account.objects.filter(pk=ada.pk).update(debit_locked_until="2999-01-01T00:00:00Z")

    sandbox.act(f"refunds/{refund.gateway_refund_id}/fail")
    for minutes in (10, 30, DAY):
        steps_at(later(minutes))

    refund.refresh_from_db()
    assert refund.status == "failed"
    assert making.balance_of(ada) + scenes.internal(tenant, "suspense") == 0
    assert scenes.internal(tenant, "settlement") == 0
    call_command("verify_ledger")


def test_a_refund_that_never_arrived_and_a_reversal_take_the_payment_back_once(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
) -> None:
    payment = scenes.topped_up(api, ada)
    sandbox.fault("http_500", "refund", times=3)
    refund = scenes.refund(api, payment, 2000)
    close_circuit(line)
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
    scenes.heard(sandbox, line, "payment.reversed")

    for minutes in (10, 30, DAY):
        steps_at(later(minutes))
        reconcile(now=later(minutes))

    refund.refresh_from_db()
    assert fresh(payment).status == "reversed"
    # It may have arrived the first time: a person finds out.
    assert (refund.status, refund.attention) == ("unknown", "gateway_refuses")
    assert (making.balance_of(ada), scenes.internal(tenant, "settlement")) == (0, 0)
    call_command("verify_ledger")


@pytest.mark.parametrize("end", ["fail", "succeed"])
def test_what_is_reversed_while_it_is_refunded_is_never_deposited(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    end: str,
) -> None:
    payment = scenes.waiting_for_deposit(sandbox, api, ada)
    refund = scenes.refund(api, payment, None, "sim:pending")
    assert fresh(payment).status == "refunding"
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
    scenes.heard(sandbox, line, "payment.reversed")
    assert fresh(payment).status == "reversed"

    sandbox.act(f"refunds/{refund.gateway_refund_id}/{end}")
    scenes.unfreeze(api, ada)
    for minutes in (10, 15, DAY):
        steps_at(later(minutes))
        reconcile(now=later(minutes))

    assert fresh(payment).status == "reversed"
    assert making.balance_of(ada) == 0
    # What went twice is missing from our own, and a person is told.
    assert ("refund_differs" in open_kinds()) == (end == "succeed")
    call_command("verify_ledger")


def test_a_refund_whose_first_try_was_lost_is_not_failed_by_a_later_refusal(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.topped_up(api, ada)
    sandbox.fault("reset", "refund", times=3)
    refund = scenes.refund(api, payment, None)
    assert refund.status == "unknown"
    sandbox.no_faults()
    close_circuit(line)
    scenes.given_back_by_hand(sandbox, payment)

    steps_at(later(2))

    refund.refresh_from_db()
    assert (refund.status, refund.attention) == ("unknown", "gateway_refuses")
    assert making.balance_of(ada) == 0
    call_command("verify_ledger")


def test_a_refund_whose_first_try_reached_nobody_is_failed_by_a_refusal(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.topped_up(api, ada)
    sandbox.fault("http_429", "refund")
    refund = scenes.refund(api, payment, None)
    assert refund.status == "created"
    scenes.given_back_by_hand(sandbox, payment)

    steps_at(later(2))

    refund.refresh_from_db()
    assert refund.status == "failed"
    assert making.balance_of(ada) == 5000
    call_command("verify_ledger")


def test_a_refund_through_a_deleted_gateway_is_refused_and_debits_nothing(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.topped_up(api, ada)
    assert api.delete(f"/api/v1/gateways/{line.pk}").status_code == 204

    answer = api.post_once(f"/topups/{payment.pk}/refunds", {"reason": "x"})

    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")
    assert not Refund.objects.exists()
    assert making.balance_of(ada) == 5000
    call_command("verify_ledger")


def test_a_part_that_midtrans_refuses_to_refund_is_given_back_at_once(
    sandbox: Sandbox, api: ContractClient, tenant: Tenant
) -> None:
    payment, token = scenes.page_of_midtrans(api, tenant)
    sandbox.http.post(f"/_sim/payments/{token}/pay", json={"method": "bca_va"}).raise_for_status()
    steps_at(later(2))
    assert making.balance_of(payment.account_id) == 50_000

    refund = scenes.refund(api, payment, 1000)

    assert (refund.status, refund.failure_code) == ("failed", "412")
    assert making.balance_of(payment.account_id) == 50_000
    call_command("verify_ledger")


# --- What the policy pays back -------------------------------------------------------------------


def test_the_policy_never_takes_back_what_was_deposited_meanwhile(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.waiting_for_deposit(sandbox, api, ada)
    scenes.unfreeze(api, ada)
    deposit(payment_id=payment.pk, now=timezone.now())

    with pytest.raises(InvalidState):
        refund_payment(
            tenant_id=payment.tenant_id,
            payment_id=payment.pk,
            amount=None,
            reason="x",
            idempotency_key=making.fresh_key(),
            now=later(8 * DAY),
            only_undeposited=True,
        )

    assert making.balance_of(ada) == 5000
    assert not Refund.objects.exists()
    call_command("verify_ledger")


@pytest.mark.parametrize("_round", range(4))
def test_the_policy_and_a_deposit_at_once_never_both_have_the_money(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
    _round: int,
) -> None:
    payment = scenes.waiting_for_deposit(sandbox, api, ada)

    def accept() -> int:
        scenes.unfreeze(api, ada)
        return deposit(payment_id=payment.pk, now=timezone.now()).steps

    found = making.at_once([accept, lambda: steps_at(later(8 * DAY))])

    assert [each for each in found if isinstance(each, Exception)] == []
    sandbox.advance(5)
    steps_at(later(9 * DAY))
    assert "refund" not in scenes.kinds_on(api, ada)
    ended = (fresh(payment).status, making.balance_of(ada))
    assert ended in [("deposited", 5000), ("refunded", 0)]
    assert Refund.objects.count() == (ended[0] == "refunded")
    call_command("verify_ledger")


# --- Answers that come too late ------------------------------------------------------------------


def test_an_answer_from_before_the_payment_moved_on_changes_nothing(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.asked(api, ada, NEEDS_3DS)

    def the_payer_is_quick() -> None:
        scenes.paid(sandbox, payment)
        scenes.heard(sandbox, line, "payment.succeeded")
        assert fresh(payment).status == "deposited"

    with scenes.late_answer(sandbox, the_payer_is_quick):
        steps_at(later(2))

    payment = fresh(payment)
    assert (payment.status, payment.attention, payment.next_step_at) == ("deposited", "", None)
    assert (making.balance_of(ada), open_kinds()) == (5000, [])
    call_command("verify_ledger")


def test_an_answer_from_before_the_reversal_changes_nothing(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.topped_up(api, ada)

    def the_bank_is_quick() -> None:
        sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
        scenes.heard(sandbox, line, "payment.reversed")
        assert fresh(payment).status == "reversed"

    with scenes.late_answer(sandbox, the_bank_is_quick):
        ask_about_payment(payment, now=later(2))

    assert (fresh(payment).status, fresh(payment).attention) == ("reversed", "")
    assert (making.balance_of(ada), open_kinds()) == (0, [])
    call_command("verify_ledger")


def test_an_answer_from_before_a_refund_is_no_difference(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.topped_up(api, ada)

    def a_refund_is_quick() -> None:
        scenes.refund(api, payment, 2000)
        sandbox.advance(5)
        steps_at(later(2))
        assert fresh(payment).refunded_amount == 2000

    with scenes.late_answer(sandbox, a_refund_is_quick):
        reconcile(now=later(3))

    assert (fresh(payment).attention, open_kinds()) == ("", [])
    assert making.balance_of(ada) == 3000
    call_command("verify_ledger")


def test_a_denial_from_before_the_payer_tried_again_takes_nothing_back(
    sandbox: Sandbox, api: ContractClient, tenant: Tenant
) -> None:
    payment, token = scenes.page_of_midtrans(api, tenant)
    chosen = {"method": "credit_card"}
    sandbox.http.post(f"/_sim/payments/{token}/choose", json=chosen).raise_for_status()
    sandbox.act(f"payments/{token}/fail")

    def the_payer_tries_again() -> None:
        sandbox.act(f"payments/{token}/pay")
        ask_about_payment(fresh(payment), now=timezone.now())
        assert fresh(payment).status == "deposited"

    with scenes.late_answer(sandbox, the_payer_tries_again):
        steps_at(later(2))

    assert fresh(payment).status == "deposited"
    assert (making.balance_of(payment.account_id), open_kinds()) == (50_000, [])
    call_command("verify_ledger")


def test_a_creation_that_is_answered_after_its_notification_changes_nothing(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    def the_notification_is_quick() -> None:
        sandbox.advance(5)
        scenes.heard(sandbox, line, "payment.succeeded")
        assert Payment.objects.get().status == "deposited"

    with scenes.late_answer(sandbox, the_notification_is_quick):
        payment = scenes.asked(api, ada, LATE)

    assert (payment.status, payment.attention) == ("deposited", "")
    assert (making.balance_of(ada), open_kinds()) == (5000, [])
    call_command("verify_ledger")


# --- Everybody at once ---------------------------------------------------------------------------


def test_notifications_and_steps_at_once_deposit_once(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.asked(api, ada, NEEDS_3DS)
    scenes.paid(sandbox, payment)
    scenes.told(sandbox, line, "payment.succeeded")
    moment = later(2)

    calls: list[Callable[[], Any]] = [
        gateways.process_events,
        lambda: steps_at(moment),
        lambda: reconcile(now=moment),
        lambda: ask_about_payment(payment, now=moment),
    ]
    found = making.at_once(calls)

    assert [each for each in found if isinstance(each, Exception)] == []
    assert scenes.kinds_on(api, ada) == ["topup"]
    assert (making.balance_of(ada), open_kinds()) == (5000, [])
    call_command("verify_ledger")


def test_notifications_and_steps_at_once_reverse_once(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.topped_up(api, ada)
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
    scenes.told(sandbox, line, "payment.reversed")

    calls: list[Callable[[], Any]] = [
        gateways.process_events,
        lambda: reconcile(now=later(2)),
        lambda: ask_about_payment(payment, now=later(2)),
    ]
    found = making.at_once(calls)

    assert [each for each in found if isinstance(each, Exception)] == []
    assert scenes.kinds_on(api, ada) == ["topup", "chargeback"]
    assert (making.balance_of(ada), open_kinds()) == (0, [])
    call_command("verify_ledger")


def test_notifications_and_steps_at_once_return_a_payout_once(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, eve: Account
) -> None:
    payout = scenes.paid_out(api, eve, "0004")
    steps_at(timezone.now())
    sandbox.advance(60)
    scenes.told(sandbox, line, "payout.failed")

    calls: list[Callable[[], Any]] = [
        gateways.process_events,
        lambda: steps_at(later(2)),
        lambda: reconcile(now=later(2)),
    ]
    found = making.at_once(calls)

    assert [each for each in found if isinstance(each, Exception)] == []
    payout.refresh_from_db()
    assert (payout.status, making.balance_of(eve)) == ("failed", 3000)
    call_command("verify_ledger")


@pytest.mark.parametrize("is_deposit", [True, False])
@pytest.mark.parametrize("is_resolved_first", [True, False])
def test_whoever_resolves_and_whoever_tells_lock_in_one_order(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    is_deposit: bool,
    is_resolved_first: bool,
) -> None:
    """
    Both wait for the payment, in either order, and are let go together. In a transaction of the
    caller's a deadlock is not repeated, so that it would be seen.
    """
    if is_deposit:
        payment = scenes.waiting_for_deposit(sandbox, api, ada)
    else:
        payment = scenes.topped_up(api, ada)
        sandbox.fault("amount_delta", "get_payment", amount=1)
        ask_about_payment(payment, now=timezone.now())
    found = Discrepancy.objects.get(status="open")

    def tells() -> None:
        with transaction.atomic():
            if is_deposit:
                deposit(payment_id=payment.pk, now=timezone.now())
            else:
                ask_about_payment(payment, now=timezone.now())

    calls: list[Callable[[], Any]] = [lambda: scenes.resolved(found, "accepted"), tells]
    with ThreadPoolExecutor(2) as pool:
        with transaction.atomic():
            Payment.objects.select_for_update().get(pk=payment.pk)
            begun: list[Future[Any]] = []
            for call in calls if is_resolved_first else reversed(calls):
                begun.append(pool.submit(scenes.closing, call))
                scenes.wait_for_waiting(len(begun))
        faults = [each.exception() for each in begun]

    assert faults == [None, None]
    found.refresh_from_db()
    assert found.status == "resolved"
    call_command("verify_ledger")


# --- Rules of the database -----------------------------------------------------------------------


def test_one_posting_deposits_one_payment_only(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    first = scenes.topped_up(api, ada)
    second = scenes.waiting_for_deposit(sandbox, api, ada)

    with scenes.refused_by("payment_transaction_unique"):
        scenes.run(
            "UPDATE payments_payment SET status = 'deposited', transaction_id = %s WHERE id = %s",
            first.transaction_id,
            second.pk,
        )


@pytest.mark.parametrize("kind", ["refund", "payout"])
def test_one_posting_debits_for_one_refund_or_payout_only(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account, kind: str
) -> None:
    payment = scenes.topped_up(api, ada)
    row: Refund | Payout = (
        scenes.refund(api, payment, 2000) if kind == "refund" else scenes.paid_out(api, ada)
    )
    first = "created" if kind == "refund" else "pending"

    with scenes.refused_by(f"{kind}_transaction_unique"):
        scenes.copy_row(f"payments_{kind}", row.pk, status=first)


def test_a_reversal_and_refunds_never_take_more_than_was_paid(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.topped_up(api, ada)
    scenes.refund(api, payment, 2000)
    making.deposit(ada, 5000)
    posted = scenes.moved(payment, "chargeback", -3001)

    with scenes.refused_by("payment_reversal_was_posted"):
        scenes.run(
            "UPDATE payments_payment SET status = 'reversed', reversal_transaction_id = %s"
            " WHERE id = %s",
            posted,
            payment.pk,
        )


def test_nothing_is_refunded_of_what_was_reversed(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    payment = scenes.topped_up(api, ada)
    refund = scenes.refund(api, payment, 1000)
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
    scenes.heard(sandbox, line, "payment.reversed")
    making.deposit(ada, 5000)
    posted = scenes.moved(payment, "refund", -1000)

    with scenes.refused_by("refund_within_payment"):
        scenes.copy_row("payments_refund", refund.pk, status="created", transaction_id=str(posted))


def unknown_payout(
    sandbox: Sandbox, api: ContractClient, source: Account, effect: str
) -> tuple[Payout, Discrepancy]:
    """Return a payout whose answer was lost, and the discrepancy that a person is to resolve."""
    sandbox.fault(effect, "create_payout", times=3)
    body = {
        "source_account_id": str(source.pk),
        "amount": 3_000,
        "currency": "USD",
        "beneficiary": {"name": "Budi", "country": "DE", "iban": "DE89370400440532013000"},
    }
    payout = Payout.objects.get(pk=api.post_once("/payouts", body).json()["id"])
    steps_at(timezone.now())
    payout.refresh_from_db()
    assert payout.status == "unknown"
    tell_a_person(payout, Discrepancy.Kind.UNKNOWN_OUTCOME, now=timezone.now(), ours="unknown")
    return payout, Discrepancy.objects.get()


def give_back(found: Discrepancy) -> None:
    resolve_discrepancy(
        tenant_id=found.tenant_id,
        discrepancy_id=found.pk,
        resolution="given_back",
        note="The gateway has never heard of it.",
        now=timezone.now(),
    )


def test_what_never_arrived_is_given_back_by_a_person(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, tenant: Tenant
) -> None:
    source = making.open_account(tenant, balance=3_000)
    payout, found = unknown_payout(sandbox, api, source, "timeout_before_commit")

    give_back(found)

    payout.refresh_from_db()
    assert (payout.status, payout.failure_code) == ("failed", "given_back")
    assert making.balance_of(source) == 3_000
    assert sandbox.objects(payout.reference) == []
    call_command("verify_ledger")


def test_what_the_gateway_knows_of_is_not_given_back(
    line: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, tenant: Tenant
) -> None:
    source = making.open_account(tenant, balance=3_000)
    _, found = unknown_payout(sandbox, api, source, "timeout_after_commit")

    with pytest.raises(InvalidState, match="knows of it"):
        give_back(found)

    assert making.balance_of(source) == 0
