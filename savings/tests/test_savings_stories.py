"""
Whatever people do with savings plans, in whatever order, on a test clock: nothing is lost, nothing
is had before its date, and the interest is that of the formula.
"""

import datetime as dt
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from accounts.models import Account
from core.errors import DomainError
from identity.models import Tenant
from identity.services import advance_test_clock, create_tenant, start_test_clock
from payments.services.recurring.plans import RUN_AT
from savings.models import SavingsPlan
from savings.queries import interest_in_waiting, interest_totals
from savings.services import (
    NewPlan,
    change_plan,
    create_plan,
    deposit,
    pause_plan,
    renew_plan,
    resume_plan,
    withdraw,
)
from tests.making import balance_of, fresh_key, open_account, transfer
from tests.recurring import utc
from tests.saving import Reckoning, again, saved

BEGAN = utc("2026-01-20T09:00")
HAD = 10_000_000
A_DAY = dt.timedelta(days=1)

_AMOUNTS = st.integers(1, 400_000)
_ACTS = st.one_of(
    st.tuples(st.just("deposit"), _AMOUNTS),
    st.tuples(st.just("withdraw"), _AMOUNTS),
    st.tuples(st.just("rate"), st.integers(0, 10_000)),
    st.tuples(st.just("pause"), st.just(0)),
    st.tuples(st.just("resume"), st.just(0)),
    st.tuples(st.just("renew"), st.integers(-20, 60)),
    st.tuples(st.just("transfer"), _AMOUNTS),
    st.tuples(st.just("wait"), st.integers(1, 25)),
)
# A story that fails is told as it was: to make it shorter takes minutes.
_STORIES = settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Story:
    """A plan, and what it should have by the formula and by hand."""

    def __init__(self, tenant: Tenant, kind: str, day_count: str, tax_bps: int) -> None:
        self.tenant, self.time = tenant, BEGAN
        start_test_clock(tenant_id=tenant.pk, at=BEGAN, now=BEGAN)
        self.source = open_account(tenant, balance=HAD)
        terms: dict[str, Any] = {"amount": 50_000, "unlock_date": dt.date(2026, 3, 5)}
        if kind == "auto_withdraw":
            terms = {"amount": 50_000, "day_of_month": 31, "target_amount": 2_000_000}
        self.plan = create_plan(
            tenant_id=tenant.pk,
            new=NewPlan(
                kind=kind,
                name="Holiday",
                source_account_id=self.source.pk,
                currency="USD",
                at_the_end="keep",
                annual_rate_bps=700,
                day_count=day_count,
                withholding_tax_bps=tax_bps,
                **terms,
            ),
            now=BEGAN,
        )
        self.expected = Reckoning(700, day_count, tax_bps, balance=saved(self.plan))

    def tell(self, act: str, value: int) -> None:
        plan = again(self.plan)
        was_locked, had = plan.is_locked, saved(plan)
        if act == "wait":
            self.wait(value)
            return
        try:
            with transaction.atomic():
                self._do(plan, act, value)
        except DomainError:
            # Refused: nothing has changed.
            assert saved(plan) == had
            return
        self.expected.balance += saved(plan) - had
        if act == "rate":
            self.expected.rate_bps = value
        assert not (was_locked and saved(plan) < had), act
        if was_locked:
            assert str(again(plan).unlock_date) >= str(plan.unlock_date)

    def _do(self, plan: SavingsPlan, act: str, value: int) -> None:
        which: dict[str, Any] = {"tenant_id": self.tenant.pk, "plan_id": plan.pk, "now": BEGAN}
        if act == "deposit":
            deposit(**which, amount=value, idempotency_key=fresh_key())
        elif act == "withdraw":
            withdraw(**which, amount=value, idempotency_key=fresh_key())
        elif act == "rate":
            change_plan(**which, changes={"annual_rate_bps": value})
        elif act == "pause":
            pause_plan(**which)
        elif act == "resume":
            resume_plan(**which)
        elif act == "renew":
            renew_plan(**which, unlock_date=self.time.date() + value * A_DAY)
        else:
            transfer(plan.plan_account, self.source, value)

    def wait(self, days: int) -> None:
        """Have days go by, each worked out by hand, and by the clock."""
        for _ in range(days):
            plan = again(self.plan)
            day = self.time.date()
            payment = plan.recurring_payment
            # Of the day itself, what is put aside in the morning was before nine.
            self.expected.earn(day)
            tomorrow = day + A_DAY
            was_locked = plan.is_locked
            if tomorrow.day == 1 or (was_locked and plan.unlock_date == tomorrow):
                self.expected.post()
            if payment is not None and payment.status == "active" and payment.next_date == tomorrow:
                target = plan.target_amount or 0
                self.expected.balance += max(0, min(50_000, target - self.expected.balance))
            self.time += A_DAY
            advanced = advance_test_clock(tenant_id=self.tenant.pk, to=self.time, now=BEGAN)
            assert advanced.is_complete
            now_locked = again(plan).is_locked
            if was_locked and plan.unlock_date is not None:
                assert now_locked == (tomorrow < plan.unlock_date), tomorrow

    def check(self) -> None:
        assert saved(self.plan) == self.expected.balance
        assert interest_totals(self.plan) == (self.expected.interest, self.expected.tax)
        assert interest_in_waiting(self.plan) == self.expected.waiting
        # Nothing came from nowhere.
        net = self.expected.interest - self.expected.tax
        assert balance_of(self.source) + saved(self.plan) == HAD + net
        books = Account.objects.filter(tenant=self.tenant).values_list("balance", flat=True)
        assert sum(books) == 0


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["auto_withdraw", "date_locked"])
@_STORIES
@given(
    acts=st.lists(_ACTS, min_size=4, max_size=9),
    day_count=st.sampled_from(["act_365f", "30_360"]),
    tax_bps=st.sampled_from([0, 2_500, 9_999]),
)
def test_any_story(kind: str, acts: list[tuple[str, int]], day_count: str, tax_bps: int) -> None:
    assert RUN_AT.hour < BEGAN.hour
    with transaction.atomic():
        story = Story(create_tenant(name="Kopi Bank", now=BEGAN), kind, day_count, tax_bps)
        for act, value in acts:
            story.tell(act, value)
        story.wait(12)
        story.check()
        transaction.set_rollback(True)
