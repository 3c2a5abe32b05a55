"""Recurring payments until there is enough, of what there is, and as part of something else."""

import datetime as dt
from typing import Any

import pytest

from accounts.models import Account
from accounts.services import close_account, freeze_account
from core.errors import InvalidRequest, InvalidState
from core.models import OutboxEvent
from core.money import BALANCE_MAX, Money
from identity.models import Tenant
from ledger.services import Leg, Posting, place_hold, post_one
from payments.models import RecurringPayment, RecurringRun
from payments.queries import ended_parts
from payments.services import (
    NewRecurringPayment,
    Terms,
    cancel_recurring_payment,
    change_recurring_payment,
    create_recurring_payment,
    note_end,
    pause_recurring_payment,
    resume_recurring_payment,
)
from payments.services.recurring.due import take_due
from tests.making import balance_of, deposit, fresh_key, open_account, transfer
from tests.recurring import again, order, run, runs, statuses, utc

JANUARY = utc("2026-01-15")


def month(number: int) -> dt.datetime:
    return utc(f"2026-{number:02}-15T12:00")


@pytest.fixture
def source(tenant: Tenant) -> Account:
    return open_account(tenant, balance=100_000)


@pytest.fixture
def saver(tenant: Tenant) -> Account:
    return open_account(tenant)


def paid(payment: RecurringPayment) -> list[int | None]:
    return [each.amount for each in runs(payment) if each.status == "succeeded"]


# --- Until there is enough -----------------------------------------------------------------------


def test_the_last_run_pays_what_is_missing_and_completes(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, amount=300, target_balance=1_000)

    for number in range(1, 8):
        run(month(number))

    assert paid(payment) == [300, 300, 300, 100]
    assert again(payment).status == "completed"
    assert balance_of(saver) == 1_000
    assert OutboxEvent.objects.filter(event_type="recurring_payment.completed").count() == 1


def test_what_others_put_in_counts(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, amount=300, target_balance=1_000)
    run(month(1))
    deposit(saver, 650)

    run(month(2))

    assert paid(payment) == [300, 50]
    assert again(payment).status == "completed"


def test_with_enough_there_nothing_is_paid_and_it_completes(
    source: Account, saver: Account
) -> None:
    payment = order(source, saver, now=JANUARY, amount=300, target_balance=1_000)
    deposit(saver, 1_000)

    run(month(1))

    [skipped] = runs(payment)
    assert (skipped.status, skipped.error_code) == ("skipped", "target_reached")
    assert (again(payment).status, balance_of(saver)) == ("completed", 1_000)


def test_what_is_taken_out_again_is_put_in_again(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, amount=300, target_balance=700)
    run(month(1))
    run(month(2))
    transfer(saver, source, 500)

    for number in (3, 4, 5):
        run(month(number))

    assert paid(payment) == [300, 300, 300, 300]
    assert (again(payment).status, balance_of(saver)) == ("completed", 700)


def test_two_of_one_saver_do_not_pay_too_much(source: Account, saver: Account) -> None:
    payments = [
        order(source, saver, now=JANUARY, amount=600, target_balance=1_000) for _ in range(3)
    ]

    run(month(1))

    assert balance_of(saver) == 1_000
    assert {again(each).status for each in payments} == {"completed"}


def test_a_run_that_will_be_refused_fills_no_target(
    tenant: Tenant, source: Account, saver: Account
) -> None:
    """Two in one chunk: the first would have filled it, and cannot be paid."""
    poor = open_account(tenant, balance=50)
    first = order(poor, saver, now=JANUARY, amount=600, target_balance=600, retry_count=0)
    second = order(source, saver, now=JANUARY, amount=600, target_balance=600)
    work = take_due(now=month(1), limit=10)[1]
    # In this order they come up.
    assert [each.payment.pk for each in work] == [first.pk, second.pk]
    RecurringRun.objects.update(leased_until=JANUARY, deliveries=0)

    run(month(1))

    assert balance_of(saver) == 600
    assert (again(first).status, again(second).status) == ("active", "completed")


@pytest.mark.parametrize("target", [0, -1, BALANCE_MAX + 1])
def test_a_target_is_an_amount(source: Account, saver: Account, target: int) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        order(source, saver, now=JANUARY, target_balance=target)

    assert refusal.value.field == "target_balance"


def test_a_sweep_has_no_target(source: Account, saver: Account) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        order(
            source,
            saver,
            now=JANUARY,
            amount_type="sweep",
            floor_amount=0,
            target_balance=5,
        )

    assert refusal.value.field == "target_balance"


def test_a_target_that_moves_ahead_goes_on(source: Account, saver: Account) -> None:
    payment = order(source, saver, now=JANUARY, amount=300, target_balance=400)
    run(month(1))
    change_recurring_payment(
        tenant_id=source.tenant_id,
        payment_id=payment.pk,
        changes={"target_balance": 900},
        now=month(1),
    )

    for number in (2, 3, 4):
        run(month(number))

    assert paid(payment) == [300, 300, 300]
    assert again(payment).status == "completed"


# --- What there is -------------------------------------------------------------------------------


def test_a_part_is_paid_where_there_is_not_all(tenant: Tenant, saver: Account) -> None:
    source = open_account(tenant, balance=250)
    payment = order(source, saver, now=JANUARY, on_insufficient_funds="partial")

    for number in range(1, 5):
        run(month(number))

    assert [(each.status, each.amount) for each in runs(payment)] == [
        ("succeeded", 100),
        ("succeeded", 100),
        ("succeeded", 50),
        ("skipped", 100),
    ]
    assert runs(payment)[-1].error_code == "insufficient_funds"


def test_a_part_is_of_ones_own_money(tenant: Tenant, saver: Account) -> None:
    """Neither what is on hold, nor what might be overdrawn."""
    source = open_account(tenant, balance=70, overdraft_limit=1_000)
    _hold(source, 30)
    payment = order(source, saver, now=JANUARY, on_insufficient_funds="partial")

    run(month(1))

    assert paid(payment) == [40]
    assert balance_of(source) == 30


def _hold(account: Account, amount: int) -> None:
    place_hold(
        tenant_id=account.tenant_id,
        account_id=account.pk,
        amount=Money(amount, account.currency),
        idempotency_key=fresh_key(),
        expires_at=None,
        now=JANUARY,
    )


def test_a_part_towards_a_target(tenant: Tenant, saver: Account) -> None:
    source = open_account(tenant, balance=130)
    payment = order(source, saver, now=JANUARY, target_balance=200, on_insufficient_funds="partial")
    run(month(1))
    run(month(2))
    deposit(source, 500)
    run(month(3))

    assert paid(payment) == [100, 30, 70]
    assert again(payment).status == "completed"


@pytest.mark.parametrize(
    ("stop", "status", "code"),
    [
        (close_account, "failed", "account_closed"),
        (freeze_account, "paused", "account_frozen"),
    ],
)
def test_a_source_that_is_gone_is_not_an_empty_one(
    tenant: Tenant, saver: Account, stop: Any, status: str, code: str
) -> None:
    source = open_account(tenant)
    payment = order(source, saver, now=JANUARY, on_insufficient_funds="partial")
    stop(tenant_id=tenant.pk, account_id=source.pk, reason="x", now=JANUARY)

    run(month(1))

    assert [each.error_code for each in runs(payment)] == [code]
    assert (again(payment).status, again(payment).status_reason) == (status, code)


# --- Part of a whole -----------------------------------------------------------------------------


@pytest.fixture
def part(source: Account, saver: Account) -> RecurringPayment:
    return create_recurring_payment(
        tenant_id=source.tenant_id,
        new=NewRecurringPayment(
            source_account_id=source.pk,
            destination_account_id=saver.pk,
            currency="USD",
            managed_by="savings_plan",
            terms=Terms(amount=100, frequency="monthly", run_at=dt.time(12), max_runs=2),
        ),
        now=JANUARY,
    )


@pytest.mark.parametrize(
    ("act", "more"),
    [
        (pause_recurring_payment, {"reason": "x"}),
        (resume_recurring_payment, {}),
        (cancel_recurring_payment, {"reason": "x"}),
        (change_recurring_payment, {"changes": {"amount": 1}}),
    ],
)
def test_only_through_the_whole_is_it_changed(
    part: RecurringPayment, act: Any, more: dict[str, Any]
) -> None:
    which = {"tenant_id": part.tenant_id, "payment_id": part.pk, "now": JANUARY, **more}

    for manager in ("", "something_else"):
        with pytest.raises(InvalidState, match="part of a savings plan"):
            act(**which, managed_by=manager)
    act(**which, managed_by="savings_plan")


def test_nobody_manages_what_stands_alone(source: Account, saver: Account) -> None:
    alone = order(source, saver, now=JANUARY)

    with pytest.raises(InvalidState):
        cancel_recurring_payment(
            tenant_id=source.tenant_id,
            payment_id=alone.pk,
            reason="x",
            now=JANUARY,
            managed_by="savings_plan",
        )


def test_its_end_is_told_until_it_is_noted(
    part: RecurringPayment, source: Account, saver: Account
) -> None:
    order(source, saver, now=JANUARY, max_runs=1)

    def ended(tenant: Any = None) -> list[Any]:
        found = ended_parts(manager="savings_plan", tenant_id=tenant, limit=10)
        return [each.pk for each in found]

    run(month(1))
    assert ended() == []
    run(month(2))
    assert ended() == [part.pk]
    assert ended(source.tenant_id) == []
    note_end(payment_id=part.pk)
    assert ended() == []


def test_interest_or_the_like_fills_it_too(tenant: Tenant, source: Account, saver: Account) -> None:
    """Whatever was booked: what the account has is what counts."""
    payment = order(source, saver, now=JANUARY, amount=300, target_balance=500)
    post_one(
        tenant_id=tenant.pk,
        posting=Posting(
            type="interest",
            currency="USD",
            legs=(Leg(source.pk, -499), Leg(saver.pk, 499)),
            idempotency_key=fresh_key(),
            request_fingerprint=b"",
        ),
    )

    run(month(1))

    assert paid(payment) == [1]
    assert statuses(payment) == ["succeeded"]
