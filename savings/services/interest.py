"""
Interest: a row for each plan and day, posted each month and when a plan ends.

Set-based throughout. A pass goes through a tenant's plans in order of id, a page in a transaction,
and its place is in the tenant's InterestBook; what was done is done, whatever stops it. A day
counts with its balance at the end, by when entries were booked, in the tenant's time zone.
"""

import datetime as dt
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.models import Min

from accounts.models import Account
from accounts.services import internal_accounts
from core.calendars.zones import instant_of, zone_of
from core.database import is_gone, repeating, sql_array
from core.errors import DomainError
from core.idempotency import fingerprint
from core.ids import new_id
from core.money import AMOUNT_MAX
from core.runs import progress
from identity.models import Tenant
from ledger.errors import BalanceOutOfRange
from ledger.services import Leg, Outcome, Posting, post, refusal_of
from savings.models import InterestBook, InterestPosting, SavingsPlan
from savings.services.reckoning import EXACT, posted_of, tax_of

logger = structlog.get_logger(__name__)

# Of one transaction: a second of work, or less.
ACCRUED_MAX = 20_000
POSTED_MAX = 2_000
# Well within a task's time; what is left, the next look takes.
WORK_MAX_S = 120
# A posting from before midnight is committed by then: no statement of ours takes longer.
AFTER_MIDNIGHT = dt.timedelta(minutes=15)
# A plan that was being made when its page was read has its days with the next pass.
_LOOKS_BACK = dt.timedelta(days=3)
_NO_ID = UUID(int=0)

# Of a day that is over, the balance is the account's where it has not changed since; else its last
# entry's of then. By a test clock nothing is booked later than that clock shows.
_ACCRUE = """
WITH page AS MATERIALIZED (
    SELECT p.id, p.plan_account_id, p.annual_rate_bps, p.day_count, p.interest_from
      FROM savings_savingsplan p
     WHERE p.tenant_id = %(tenant_id)s AND p.interest_from IS NOT NULL AND p.status <> 'closed'
       AND {whose}
     ORDER BY p.id LIMIT %(limit)s),
written AS (
    INSERT INTO savings_interestaccrual (
        plan_id, tenant_id, date, ends_at, balance, annual_rate_bps, day_count, amount)
    SELECT d.id, %(tenant_id)s, d.date, d.ends_at, d.balance, d.annual_rate_bps, d.day_count,
           savings_interest(d.balance, d.annual_rate_bps, d.day_count, d.date)
      FROM (
        SELECT p.*, day.date, day.ends_at,
               CASE WHEN %(is_now)s OR a.updated_at < day.ends_at THEN a.balance
                    ELSE coalesce((SELECT e.balance_after FROM ledger_entry e
                                    WHERE e.account_id = p.plan_account_id
                                      AND e.created_at < day.ends_at
                                    ORDER BY e.sequence DESC LIMIT 1), 0) END AS balance
          FROM page p
          JOIN accounts_account a ON a.id = p.plan_account_id
         CROSS JOIN LATERAL (
            SELECT greatest(p.interest_from,
                            (SELECT max(x.date) + 1 FROM savings_interestaccrual x
                              WHERE x.plan_id = p.id)) AS date) first
          JOIN unnest(%(dates)s::date[], %(ends)s::timestamptz[]) day(date, ends_at)
            ON day.date >= first.date) d
    ON CONFLICT (plan_id, date) DO NOTHING)
SELECT count(*), max(id::text) FROM page
"""
_PAGE = "p.id > %(after)s"
_NAMED = "p.id = ANY(%(ids)s::uuid[])"

# What was accrued and is not posted, by plan. The last posting says from where, and what it left.
_UNPOSTED = """
SELECT p.id, p.plan_account_id, p.currency, p.withholding_tax_bps,
       coalesce(last.period_to + 1, p.interest_from), sum.last, sum.amount,
       coalesce(last.carried_out, 0)
  FROM savings_savingsplan p
  LEFT JOIN LATERAL (
    SELECT q.period_to, q.carried_out FROM savings_interestposting q
     WHERE q.plan_id = p.id ORDER BY q.period_to DESC LIMIT 1) last ON true
 CROSS JOIN LATERAL (
    SELECT max(a.date) AS last, sum(a.amount) AS amount FROM savings_interestaccrual a
     WHERE a.plan_id = p.id AND a.date <= %(through)s
       AND a.date >= coalesce(last.period_to + 1, p.interest_from)) sum
 WHERE p.id = ANY(%(ids)s::uuid[]) AND sum.last IS NOT NULL
 ORDER BY p.id
"""


@dataclass(frozen=True, slots=True)
class _Due:
    """What is to be posted for a plan: minor units, to twelve decimals."""

    plan_id: UUID
    account_id: UUID
    currency: str
    tax_bps: int
    period_from: dt.date
    period_to: dt.date
    accrued: Decimal
    carried_in: Decimal

    @property
    def amount(self) -> int:
        """Rounded once, half to even; what is too little waits."""
        return posted_of(EXACT.add(self.accrued, self.carried_in))

    @property
    def tax(self) -> int:
        return tax_of(self.amount, self.tax_bps)

    @property
    def carried_out(self) -> Decimal:
        return EXACT.subtract(EXACT.add(self.accrued, self.carried_in), self.amount)


def open_book(tenant: Tenant, *, now: dt.datetime) -> None:
    """Have the tenant's interest be worked out from today on, if it is not; by its own clock."""
    time = tenant.time_at(now)
    today = tenant.day_of(time)
    InterestBook.objects.bulk_create(
        [
            InterestBook(
                tenant=tenant,
                accrued_to=today - dt.timedelta(days=1),
                posted_to=_month_end_before(today),
                next_due_at=_due_after(tenant, today),
                is_on_test_clock=tenant.test_clock is not None,
                updated_at=time,
            )
        ],
        ignore_conflicts=True,
    )


def keep_books(*, now: dt.datetime, tenant_id: UUID | None = None, page: int = ACCRUED_MAX) -> int:
    """
    Accrue and post what is due, of all tenants or of the one whose test clock shows `now`; return
    how many plans were gone through. Any number may do this at once: each takes other tenants.
    """
    done, seen = 0, set[UUID]()
    ends_at = time.monotonic() + WORK_MAX_S
    while True:
        books = InterestBook.objects.filter(is_on_test_clock=tenant_id is not None)
        if tenant_id is None:
            books = books.filter(next_due_at__lte=now)
        else:
            # Days that are over are accrued with each look, before anything else of it moves money.
            books = books.filter(pk=tenant_id)
        books = books.exclude(pk__in=seen)
        due = list(books.order_by("next_due_at").values_list("pk", flat=True)[:100])
        if not due:
            return done
        for book_id in due:
            try:
                while True:
                    if time.monotonic() > ends_at:
                        return done
                    step = repeating(partial(_one_step, book_id, now, page))
                    if step is None:
                        break
                    done += step
                    progress(done=done)
            except Exception as fault:
                if is_gone(fault):
                    raise
                # One tenant must not stop all others, nor its own plans from being unlocked.
                logger.exception("interest not worked out", tenant_id=str(book_id))
            # It is done, or another has it, or it is for the next look.
            seen.add(book_id)


def _one_step(book_id: UUID, now: dt.datetime, page: int) -> int | None:
    """Do one page of the tenant's pass; None: nothing is left, or somebody else is at it."""
    with transaction.atomic():
        book = (
            InterestBook.objects.select_for_update(skip_locked=True, no_key=True, of=("self",))
            .select_related("tenant")
            .filter(pk=book_id)
            .first()
        )
        if book is None or not (book.is_on_test_clock or book.next_due_at <= now):
            return None
        count, due_at = None, book.next_due_at
        if book.accruing_to is None and book.posting_to is None:
            _begin(book, now)
        if book.accruing_to is not None:
            count = _accrue_page(book, book.accruing_to, page)
        elif book.posting_to is not None:
            count = _post_page(book, book.posting_to, min(page, POSTED_MAX), now)
        elif book.next_due_at == due_at:
            return None
        book.plan_count += count or 0
        book.updated_at = now
        book.save()
        return count


def _begin(book: InterestBook, now: dt.datetime) -> None:
    yesterday = book.tenant.day_of(now) - dt.timedelta(days=1)
    book.plan_count = 0
    if yesterday > book.accrued_to:
        book.accruing_to, book.accrued_plan_id = yesterday, None
        return
    _go_on(book)


def _go_on(book: InterestBook) -> None:
    """Have what is accrued be posted, if a month is over; else wait for the next day."""
    day = book.accrued_to + dt.timedelta(days=1)
    month_end = _month_end_before(day)
    if month_end > book.posted_to:
        book.posting_to, book.posted_plan_id = month_end, None
    else:
        book.next_due_at = _due_after(book.tenant, day)


def _accrue_page(book: InterestBook, through: dt.date, page: int) -> int:
    first = book.accrued_to + dt.timedelta(days=1) - _LOOKS_BACK
    count, last = _accrue(
        book.tenant,
        _days(book.tenant, first, through),
        _PAGE,
        {"after": book.accrued_plan_id or _NO_ID, "limit": page},
    )
    if count == page:
        book.accrued_plan_id = last
        return count
    book.accrued_to, book.accruing_to, book.accrued_plan_id = through, None, None
    _go_on(book)
    return count


def _post_page(book: InterestBook, through: dt.date, page: int, now: dt.datetime) -> int:
    plans = (
        SavingsPlan.objects.select_for_update(no_key=True)
        .filter(tenant_id=book.tenant_id, interest_from__isnull=False)
        .exclude(status=SavingsPlan.Status.CLOSED)
        .filter(pk__gt=book.posted_plan_id or _NO_ID)
        .order_by("pk")
    )
    # Locked before their accounts, as by whoever closes one.
    ids = list(plans.values_list("pk", flat=True)[:page])
    post_interest(book.tenant, ids, through=through, now=now)
    if len(ids) == page:
        book.posted_plan_id = ids[-1]
        return len(ids)
    book.posted_to, book.posting_to, book.posted_plan_id = through, None, None
    _go_on(book)
    return len(ids)


def settle(
    tenant: Tenant, plan_ids: Collection[UUID], *, now: dt.datetime
) -> dict[UUID, DomainError]:
    """
    Accrue what plans have earned until yesterday and post it, whatever the day of the month; return
    what the posting engine refused, by plan.

    The caller has locked the plans and all accounts that this posts to. `now` is the tenant's time.
    """
    through = accrue_plans(tenant, plan_ids, now=now)
    return post_interest(tenant, plan_ids, through=through, now=now)


def accrue_plans(tenant: Tenant, plan_ids: Collection[UUID], *, now: dt.datetime) -> dt.date:
    """Accrue what plans, locked by the caller, have earned until yesterday; return that day."""
    through = tenant.day_of(now) - dt.timedelta(days=1)
    bearing = SavingsPlan.objects.filter(pk__in=plan_ids, interest_from__isnull=False)
    first = bearing.aggregate(first=Min("interest_from"))["first"]
    if first is None or first > through:
        return through
    # All days of the plan: what is missing is few, and found by its last.
    book = InterestBook.objects.filter(pk=tenant.pk).first()
    if book is not None:
        first = max(first, book.accrued_to + dt.timedelta(days=1) - _LOOKS_BACK)
    _accrue(
        tenant,
        _days(tenant, first, through),
        _NAMED,
        {"ids": _uuids(plan_ids), "limit": len(plan_ids)},
    )
    return through


def post_interest(
    tenant: Tenant, plan_ids: Collection[UUID], *, through: dt.date, now: dt.datetime
) -> dict[UUID, DomainError]:
    """
    Post what plans, locked by the caller, have accrued up to the day, and have not been paid yet.

    One call of the posting engine. What it refuses, since an account is frozen, waits for the next
    time, and is returned by plan. `now` is the tenant's time.
    """
    if not plan_ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_UNPOSTED, {"ids": _uuids(plan_ids), "through": through})
        due = [_Due(*row) for row in cursor.fetchall()]
    if not due:
        return {}
    books = {
        currency: interest_accounts(tenant, currency, now)
        for currency in {each.currency for each in due}
    }
    # More than one posting moves is for people to see to, and keeps no other from being paid.
    refused: dict[UUID, DomainError] = {
        each.plan_id: BalanceOutOfRange("The interest is more than one posting moves.")
        for each in due
        if each.amount > AMOUNT_MAX
    }
    paid = [each for each in due if each.amount > 0 and each.plan_id not in refused]
    outcomes = post(
        tenant_id=tenant.pk,
        postings=[_posting(each, books[each.currency], tenant, now) for each in paid],
    )
    by_plan = {each.plan_id: outcome for each, outcome in zip(paid, outcomes, strict=True)}
    refused |= {
        plan_id: refusal_of(outcome)
        for plan_id, outcome in by_plan.items()
        if outcome.refusal is not None
    }
    InterestPosting.objects.bulk_create(
        [
            _row(tenant, each, by_plan.get(each.plan_id), now)
            for each in due
            if each.plan_id not in refused
        ]
    )
    return refused


def interest_accounts(tenant: Tenant, currency: str, now: dt.datetime) -> dict[str, UUID]:
    """Return the tenant's own accounts that interest and its tax are booked on."""
    return internal_accounts(
        tenant_id=tenant.pk,
        roles=[Account.Role.INTEREST_EXPENSE, Account.Role.WITHHELD_TAX],
        currency=currency,
        now=now,
    )


def _posting(due: _Due, books: dict[str, UUID], tenant: Tenant, now: dt.datetime) -> Posting:
    legs = [
        Leg(books[Account.Role.INTEREST_EXPENSE], -due.amount),
        Leg(due.account_id, due.amount - due.tax),
    ]
    if due.tax:
        legs.append(Leg(books[Account.Role.WITHHELD_TAX], due.tax))
    return Posting(
        type="interest",
        currency=due.currency,
        legs=tuple(legs),
        idempotency_key=f"interest {due.plan_id} {due.period_to}",
        request_fingerprint=fingerprint("interest", due.plan_id, due.period_to),
        description=f"Interest {due.period_from} to {due.period_to}",
        value_date=tenant.value_date_at(now),
        metadata={"savings_plan_id": str(due.plan_id)},
    )


def _row(tenant: Tenant, due: _Due, outcome: Outcome | None, now: dt.datetime) -> InterestPosting:
    return InterestPosting(
        id=new_id(),
        tenant=tenant,
        plan_id=due.plan_id,
        period_from=due.period_from,
        period_to=due.period_to,
        accrued=due.accrued,
        carried_in=due.carried_in,
        carried_out=due.carried_out,
        amount=due.amount,
        tax_bps=due.tax_bps,
        tax=due.tax,
        transaction_id=None if outcome is None else outcome.transaction_id,
        created_at=now,
    )


def _accrue(
    tenant: Tenant,
    days: Sequence[tuple[dt.date, dt.datetime]],
    whose: str,
    which: dict[str, Any],
) -> tuple[int, UUID | None]:
    """Accrue what is missing of the days; return how many plans there were, and the last."""
    with connection.cursor() as cursor:
        cursor.execute(
            _ACCRUE.format(whose=whose),
            {
                "tenant_id": tenant.pk,
                "is_now": tenant.test_clock is not None,
                "dates": sql_array([day.isoformat() for day, _ in days]),
                "ends": sql_array([f'"{ends_at.isoformat()}"' for _, ends_at in days]),
                **which,
            },
        )
        count, last = cursor.fetchone() or (0, None)
    return count, None if last is None else UUID(last)


def _days(tenant: Tenant, first: dt.date, last: dt.date) -> list[tuple[dt.date, dt.datetime]]:
    """Return the days, with when each ends in the tenant's time zone."""
    zone = zone_of(tenant.time_zone)
    days = [first + dt.timedelta(days=n) for n in range((last - first).days + 1)]
    return [(day, instant_of(day + dt.timedelta(days=1), dt.time.min, zone)) for day in days]


def _due_after(tenant: Tenant, day: dt.date) -> dt.datetime:
    """
    Return when interest is due next, the day not being over: when it can be accrued; by a test
    clock, when it is to be posted, since each look accrues the days before it.
    """
    zone = zone_of(tenant.time_zone)
    if tenant.test_clock is None:
        return instant_of(day + dt.timedelta(days=1), dt.time.min, zone) + AFTER_MIDNIGHT
    next_month = (day.replace(day=1) + dt.timedelta(days=31)).replace(day=1)
    return instant_of(next_month, dt.time.min, zone)


def _month_end_before(day: dt.date) -> dt.date:
    return day.replace(day=1) - dt.timedelta(days=1)


def _uuids(ids: Collection[UUID]) -> str:
    return sql_array([each.hex for each in ids])
