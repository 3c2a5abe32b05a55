"""What will be in a savings plan, and when, if all goes on as it is."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

from payments.services import preview
from savings.models import InterestAccrual, SavingsPlan
from savings.queries import interest_in_waiting, state_of
from savings.services.opening import MONTHS_MAX
from savings.services.reckoning import EXACT, interest_of_day, posted_of, tax_of

# Of one that has no end: a year is shown.
OPEN_MONTHS = 12
_DAYS_MAX = 51 * 366


@dataclass(frozen=True, slots=True)
class Month:
    """A month of a plan to come, or the part of it until the end. Minor units."""

    # Its last day, or the plan's.
    date: dt.date
    deposited: int
    # Before tax.
    interest: int
    tax: int
    balance: int


@dataclass(frozen=True, slots=True)
class Projection:
    """`ends_on` is when it is completed or unlocked; None: it has no such day."""

    ends_on: dt.date | None
    balance: int
    deposited: int
    interest: int
    tax: int
    months: list[Month]


def project(plan: SavingsPlan, *, now: dt.datetime) -> Projection:
    """
    Foresee the plan day by day: what its payment puts aside, what each day earns, what is posted on
    the first of a month and at the end. Nothing is read but the plan and what it has by now.
    """
    time = plan.tenant.time_at(now)
    today = plan.tenant.day_of(time)
    course = _Course(plan, today)
    coming = _deposits(plan, today)
    ends_on = plan.unlock_date if plan.is_locked else None
    limit = _last_day(plan, today, ends_on)
    day = course.first_day
    while day <= limit:
        if day >= today and day.day == 1:
            course.post()
        if ends_on is not None and day >= ends_on:
            break
        is_over = False
        for is_last in coming.pop(day, []):
            is_over = course.put_in() or is_last
        if is_over:
            ends_on = day
            break
        course.earn(day)
        if day >= today and (day + dt.timedelta(days=1)).day == 1:
            course.note(day)
        day += dt.timedelta(days=1)
    if ends_on is not None:
        course.post()
        course.note(ends_on)
    elif course.is_begun:
        course.note(limit)
    months = course.months
    return Projection(
        ends_on=ends_on,
        balance=course.balance,
        deposited=sum(each.deposited for each in months),
        interest=sum(each.interest for each in months),
        tax=sum(each.tax for each in months),
        months=months,
    )


class _Course:
    """A plan on its way: what it has, and what has come in since the last month that was noted."""

    def __init__(self, plan: SavingsPlan, today: dt.date) -> None:
        self.plan = plan
        self.balance = plan.plan_account.balance
        self.waiting = interest_in_waiting(plan)
        self.months: list[Month] = []
        self._deposited = self._interest = self._tax = 0
        # What is over, and not accrued yet, has the balance of now.
        last = (
            InterestAccrual.objects.filter(plan=plan)
            .order_by("-date")
            .values_list("date", flat=True)
            .first()
        )
        if last is not None:
            self.first_day = min(last + dt.timedelta(days=1), today)
        elif plan.interest_from is not None:
            self.first_day = min(plan.interest_from, today)
        else:
            self.first_day = today

    @property
    def is_begun(self) -> bool:
        return bool(self._deposited or self._interest)

    def put_in(self) -> bool:
        """Put the month's amount in, or what is missing; return whether that is all."""
        target = self.plan.target_amount
        amount = self.plan.amount
        if target is not None:
            amount = max(0, min(amount, target - self.balance))
        self.balance += amount
        self._deposited += amount
        return target is not None and self.balance >= target

    def earn(self, day: dt.date) -> None:
        plan = self.plan
        if plan.interest_from is not None:
            earned = interest_of_day(self.balance, plan.annual_rate_bps, plan.day_count, day)
            self.waiting = EXACT.add(self.waiting, earned)

    def post(self) -> None:
        amount = posted_of(self.waiting)
        tax = tax_of(amount, self.plan.withholding_tax_bps)
        self.waiting = EXACT.subtract(self.waiting, Decimal(amount))
        self.balance += amount - tax
        self._interest += amount
        self._tax += tax

    def note(self, day: dt.date) -> None:
        self.months.append(Month(day, self._deposited, self._interest, self._tax, self.balance))
        self._deposited = self._interest = self._tax = 0


def _deposits(plan: SavingsPlan, today: dt.date) -> dict[dt.date, list[bool]]:
    """Return the days on which money is put aside, with whether it is the last time."""
    payment = plan.recurring_payment
    if payment is None or state_of(plan) != "active":
        return {}
    most = MONTHS_MAX + 1
    dates = [max(each.date, today) for each in preview(payment, count=most)]
    days: dict[dt.date, list[bool]] = {}
    for place, date in enumerate(dates):
        is_last = place == len(dates) - 1 and len(dates) < most
        days.setdefault(date, []).append(is_last)
    return days


def _last_day(plan: SavingsPlan, today: dt.date, ends_on: dt.date | None) -> dt.date:
    if ends_on is not None:
        return max(ends_on, today)
    has_end = plan.target_amount is not None or plan.months is not None
    if has_end and state_of(plan) == "active":
        return today + dt.timedelta(days=_DAYS_MAX)
    year, month = divmod(today.year * 12 + today.month - 1 + OPEN_MONTHS + 1, 12)
    return dt.date(year, month + 1, 1) - dt.timedelta(days=1)
