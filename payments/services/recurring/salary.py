"""
Payments that a salary sets off.

The ledger's events are followed: each credit is looked at once, and what it sets off is written in
the same transaction as how far was read. So a credit is never missed and never counts twice, and
no account is asked about.
"""

import datetime as dt
import fnmatch
from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from django.db import connection, transaction

from accounts.models import Account
from core.calendars.recurrence import days_in_month
from core.calendars.zones import zone_of
from core.following import begin_at, has_begun, read_on
from core.ids import new_id
from core.jobs import ring
from ledger.queries import (
    LAST_EVENT,
    TRANSACTIONS_TO_FOLLOW,
    IncomingCredit,
    accounts_credited_by,
    credits_by,
    reversed_among,
)
from payments.models import RecurringPayment, RecurringRun
from payments.services.recurring.due import RUNS_TASK, UNTELLABLE
from payments.services.recurring.states import complete_ended, set_aside

_P = RecurringPayment
_S = RecurringRun.Status
_FOLLOWER = "salaries"
EVENTS_MAX = 5_000
# Any constant that nobody else locks: "fl" and "sal" in letters' numbers.
_LOCK = 0x666C7361
# Money that comes back, or goes round, is nobody's salary.
_NO_SALARY = frozenset(
    {
        *("reversal", "refund", "refund_return", "payout_return", "chargeback"),
        *("recurring_payment", "interest", "credit_note", "credit_use"),
        *("savings_deposit", "savings_withdrawal"),
    }
)


def begin_following() -> None:
    """Have credits be followed from now on, if they are not: the first salary waits for one."""
    with connection.cursor() as cursor:
        cursor.execute(LAST_EVENT)
        [last] = cursor.fetchone() or [0]
    begin_at(_FOLLOWER, last)


def look_for_salaries(*, now: dt.datetime, is_awaited: bool = False) -> int:
    """
    Have the credits that came since the last look set off what waits for them; return how many
    runs are due by that. `now` is the real time, whatever clocks the tenants have.

    Any number may do this at once: one looks, the others find it done, or wait for it.
    """
    due = 0
    is_more = has_begun(_FOLLOWER)
    while is_more:
        found, is_more = _look(now, is_awaited=is_awaited)
        due += found
    return due


def _look(now: dt.datetime, *, is_awaited: bool) -> tuple[int, bool]:
    with transaction.atomic():
        if not _is_ours(is_awaited=is_awaited):
            return 0, False
        rows, is_more = read_on(_FOLLOWER, TRANSACTIONS_TO_FOLLOW, limit=EVENTS_MAX, now=now)
        transaction_ids = [row_id for _, row_id in rows if row_id is not None]
        if not transaction_ids:
            return 0, is_more
        due = _set_off(transaction_ids, now)
        if due:
            ring(RUNS_TASK)
        return due, is_more


def _is_ours(*, is_awaited: bool) -> bool:
    """Say whether we are the one who looks, until the transaction ends."""
    with connection.cursor() as cursor:
        if is_awaited:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            return True
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        [is_ours] = cursor.fetchone() or [False]
        return bool(is_ours)


def _set_off(transaction_ids: Sequence[UUID], now: dt.datetime) -> int:
    """Make a run due for each payment that one of the transactions is the salary of."""
    credited = accounts_credited_by(transaction_ids=transaction_ids)
    waiting = (
        _P.objects.filter(
            source_account_id__in=credited,
            status=_P.Status.ACTIVE,
            trigger=_P.Trigger.SALARY,
        )
        .select_related("tenant")
        .select_for_update(no_key=True, of=("self",))
        .order_by("pk")
    )
    by_account: dict[UUID, list[RecurringPayment]] = {}
    for payment in waiting:
        by_account.setdefault(payment.source_account_id, []).append(payment)
    if not by_account:
        return 0
    credits = credits_by(transaction_ids=transaction_ids, account_ids=by_account)
    owners = _owners(credits)
    taken_back = reversed_among(transaction_ids={each.transaction_id for each in credits})
    runs: list[RecurringRun] = []
    counted: dict[UUID, RecurringPayment] = {}
    aside: set[UUID] = set()
    for credit in credits:
        if credit.transaction_id in taken_back:
            continue
        for payment in by_account[credit.account_id]:
            if payment.pk in aside or not _counts(payment):
                continue
            try:
                if not _is_salary(payment, credit, owners):
                    continue
                runs.append(_run(payment, credit, now))
            except UNTELLABLE as fault:
                # One payment must not stop all others.
                set_aside(payment, fault, payment.tenant.time_at(now))
                aside.add(payment.pk)
                continue
            payment.next_number += 1
            counted[payment.pk] = payment
    made = RecurringRun.objects.bulk_create(runs)
    _P.objects.bulk_update(counted.values(), ["next_number"], batch_size=1_000)
    # What was nothing to begin with may have been the last.
    complete_ended({each.recurring_payment_id for each in made if each.ended_at}, now)
    return len(made)


def _owners(credits: Sequence[IncomingCredit]) -> dict[UUID, UUID | None]:
    """Return whose the accounts are: what one moves between one's own is no salary."""
    ids = {each.account_id for each in credits}
    ids |= {each.sender_id for each in credits if each.sender_id is not None}
    return dict(Account.objects.filter(pk__in=ids).values_list("pk", "owner_id"))


def _counts(payment: RecurringPayment) -> bool:
    return payment.max_runs is None or payment.next_number < payment.max_runs


def _is_salary(
    payment: RecurringPayment, credit: IncomingCredit, owners: dict[UUID, UUID | None]
) -> bool:
    if credit.type in _NO_SALARY or credit.booked_at < payment.created_at:
        return False
    owner = owners.get(credit.account_id)
    if credit.sender_id is not None and owner is not None and owners.get(credit.sender_id) == owner:
        return False
    if payment.salary_min_amount is not None and credit.amount < payment.salary_min_amount:
        return False
    if payment.salary_sender_id is not None and credit.sender_id != payment.salary_sender_id:
        return False
    if payment.salary_pattern and not _fits(payment.salary_pattern, credit.description):
        return False
    return _is_in_window(payment, _day(payment, credit))


def _fits(pattern: str, description: str) -> bool:
    """Whether the pattern, in which * alone is special, is somewhere in the description."""
    literal = "*".join(part.replace("[", "[[]").replace("?", "[?]") for part in pattern.split("*"))
    return fnmatch.fnmatchcase(description.casefold(), f"*{literal.casefold()}*")


def _is_in_window(payment: RecurringPayment, day: dt.date) -> bool:
    if day < payment.start_date or (payment.end_date is not None and day > payment.end_date):
        return False
    first, last = payment.salary_from_day, payment.salary_to_day
    if first is None or last is None:
        return True
    # In a month that is too short, a window that begins later begins on its last day.
    begins = min(first, days_in_month(day.year, day.month))
    return begins <= day.day <= last if first <= last else day.day >= begins or day.day <= last


def _day(payment: RecurringPayment, credit: IncomingCredit) -> dt.date:
    moment = payment.tenant.time_at(credit.booked_at)
    return moment.astimezone(zone_of(payment.time_zone)).date()


def _run(payment: RecurringPayment, credit: IncomingCredit, now: dt.datetime) -> RecurringRun:
    time = payment.tenant.time_at(now)
    amount: int | None = None
    if payment.amount_type == _P.AmountType.PERCENTAGE:
        amount = int(credit.amount * (payment.percent or Decimal(0)) / 100)
    is_nothing = amount == 0
    day = _day(payment, credit)
    return RecurringRun(
        id=new_id(),
        tenant_id=payment.tenant_id,
        recurring_payment=payment,
        number=payment.next_number,
        nominal_date=day,
        date=day,
        scheduled_for=payment.tenant.time_at(credit.booked_at),
        trigger_transaction_id=credit.transaction_id,
        status=_S.SKIPPED if is_nothing else _S.DUE,
        amount=amount or None,
        error_code="nothing_to_pay" if is_nothing else "",
        next_attempt_at=None if is_nothing else time,
        is_on_test_clock=payment.is_on_test_clock,
        created_at=time,
        ended_at=time if is_nothing else None,
    )
