"""
kill -9 of what unlocks savings plans, posts their interest and pays them out: after statements and
commits, again and again.

Whatever the moment: the next look comes by, and each plan is unlocked, paid its interest and paid
out once.
"""

import datetime as dt
import io
from collections.abc import Callable, Iterator

import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts.models import Account
from identity.models import Tenant
from identity.services import create_tenant
from ledger.models import Transaction
from payments.tests.test_recurring_kill import kill
from savings.models import InterestAccrual, InterestPosting, SavingsPlan
from savings.services import close_plan, deposit
from tests.gateways import Sandbox
from tests.making import balance_of, open_account
from tests.saving import (
    Reckoning,
    again,
    auto_plan,
    back_dated,
    comes_due,
    days,
    keep,
    locked_plan,
    saved,
)
from tests.test_kill_matrix import Mortal

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

NOW = timezone.now()
# Over a month's end, wherever in a month it is now.
BEGAN = NOW - dt.timedelta(days=35)
PUT_IN, RATE = 1_000_000, 5_000
# Fewer would mean that the harness no longer sees what it should.
MOMENTS_MIN = {"savings": 40, "savings_close": 20}


@pytest.fixture
def mortal(sandbox: Sandbox) -> Iterator[Mortal]:
    made = Mortal(sandbox)
    yield made
    made.end()


def a_plan(tenant: Tenant) -> tuple[Account, SavingsPlan]:
    """A locked plan of 35 days, and where its money came from."""
    source = open_account(tenant, balance=PUT_IN)
    back_dated(source, BEGAN)
    until = (NOW + dt.timedelta(days=30)).date()
    plan = locked_plan(source, until, now=BEGAN, amount=PUT_IN, annual_rate_bps=RATE)
    back_dated(plan.plan_account, BEGAN)
    return source, plan


def earned() -> Reckoning:
    """What 35 days earn: nothing is put to the balance before it is posted, which is now."""
    expected = Reckoning(RATE, balance=PUT_IN)
    for day in days(BEGAN.date(), NOW.date() - dt.timedelta(days=1)):
        expected.earn(day)
    return expected


def test_a_look_of_the_sweep(mortal: Mortal, db: None) -> None:
    def attempt(dies_at: int) -> tuple[int, bool]:
        tenant = create_tenant(name="Kopi Bank", now=BEGAN)
        source, unlocked = a_plan(tenant)
        comes_due(unlocked, NOW - dt.timedelta(minutes=5))
        _, locked = a_plan(tenant)
        moments, is_done = kill(mortal, "savings", dies_at, now=NOW.isoformat())
        # What was taken up is looked at again two minutes later.
        keep(NOW + dt.timedelta(minutes=5))

        whole = earned()
        whole.post()
        interest = InterestPosting.objects.filter(tenant=tenant)
        assert again(unlocked).status == "closed", dies_at
        paid = sum(interest.filter(plan=unlocked).values_list("amount", flat=True))
        assert abs(paid - whole.interest) <= 1, dies_at
        assert balance_of(source) == PUT_IN + paid, dies_at
        assert again(locked).status == "active", dies_at
        assert interest.filter(plan=locked).count() == 1, dies_at
        assert InterestAccrual.objects.filter(tenant_id=tenant.pk).count() == 70, dies_at
        posted = Transaction.objects.filter(tenant=tenant)
        assert posted.filter(type="savings_withdrawal").count() == 1, dies_at
        assert posted.filter(type="interest").count() == interest.count(), dies_at
        return moments, is_done

    _die_again_and_again("savings", attempt, every=5)


def test_a_plan_that_is_closed(mortal: Mortal, db: None) -> None:
    def attempt(dies_at: int) -> tuple[int, bool]:
        tenant = create_tenant(name="Kopi Bank", now=BEGAN)
        source = open_account(tenant, balance=PUT_IN)
        plan = auto_plan(source, now=NOW, annual_rate_bps=RATE, start_date=NOW.date())
        deposit(tenant_id=tenant.pk, plan_id=plan.pk, amount=500, idempotency_key="d", now=NOW)
        which = {"tenant": str(tenant.pk), "plan": str(plan.pk), "now": NOW.isoformat()}
        moments, is_done = kill(mortal, "savings_close", dies_at, **which)
        # All of it, or nothing.
        found = again(plan)
        assert found.recurring_payment is not None
        state = (found.status, found.recurring_payment.status, saved(plan))
        assert state in (("closed", "cancelled", 0), ("active", "active", 500)), dies_at
        close_plan(tenant_id=tenant.pk, plan_id=plan.pk, now=NOW)

        assert again(plan).status == "closed", dies_at
        assert balance_of(source) == PUT_IN, dies_at
        return moments, is_done

    _die_again_and_again("savings_close", attempt, every=4)


def _die_again_and_again(
    flow: str, attempt: Callable[[int], tuple[int, bool]], *, every: int
) -> None:
    """Die at one of so many moments, each time in a new world, until it lives to its end."""
    dies_at, is_done, moments = 1, False, 0
    while not is_done:
        moments, is_done = attempt(dies_at)
        dies_at += every
    assert moments >= MOMENTS_MIN[flow], moments
    for command in ("verify_ledger", "verify_savings"):
        call_command(command, stdout=io.StringIO())
