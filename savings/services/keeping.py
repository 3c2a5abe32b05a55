"""
The sweep: plans are unlocked, completed and paid out when it is time, and interest is kept.

Each plan is taken up by a statement that counts the try and puts its next look off, and commits.
One that was taken up before without an end is done by itself, and less and less often: what kills
its worker takes no other with it twice. What is done then is one transaction a chunk: unlocking,
the interest until yesterday, and the paying out.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.models import Min

from accounts.models import Account
from accounts.services import lock_debits
from core.changes import Change, record_changes
from core.clock import follow_clocks
from core.database import is_gone, repeating
from core.errors import DomainError
from ledger.services import post
from payments.models import RecurringPayment
from payments.queries import ended_parts
from payments.services import note_end
from savings.models import InterestBook, SavingsPlan
from savings.services.interest import keep_books, settle
from savings.services.moving import (
    close_paid_out,
    closing_key,
    complete,
    lock_accounts,
    payout_posting,
    write_plans,
)
from savings.services.opening import MANAGER, record

logger = structlog.get_logger(__name__)

_S = SavingsPlan.Status
# Of one transaction.
CHUNK_MAX = 500
# Of one look.
ENDS_MAX = 1_000
# Taken up, and not heard of: after two minutes, doubled with each try.
FIRST_WAIT_S = 120
WAIT_MAX_S = 24 * 3600
# A payout that was refused, for a reason that may pass.
REFUSED_WAIT = dt.timedelta(hours=1)
# For these it does not.
FOR_GOOD_REFUSED = frozenset({"account_closed", "account_not_found", "not_found"})

# A lock ends by the server's clock, not by ours, which may be ahead of it.
_TAKE_UP = """
WITH taken AS MATERIALIZED (
    SELECT p.id FROM savings_savingsplan p
     WHERE p.next_step_at <= %(now)s AND {whose} AND (p.step_tries > 0) = %(is_suspect)s
       AND (p.kind <> 'date_locked' OR p.status <> 'active'
            OR savings_has_come(p.tenant_id, p.unlock_at))
     ORDER BY p.next_step_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED)
UPDATE savings_savingsplan p
   SET step_tries = least(p.step_tries + 1, 30),
       next_step_at = %(now)s + make_interval(
           secs => least(%(wait_s)s * power(2, least(p.step_tries, 16)), %(wait_max_s)s))
  FROM taken WHERE p.id = taken.id
RETURNING p.id, p.tenant_id, p.next_step_at
"""

Taken = tuple[UUID, UUID, dt.datetime]


def keep_plans(*, now: dt.datetime, limit: int, tenant_id: UUID | None = None) -> int:
    """
    Do what is due for savings plans, at most about `limit` steps of plans and all interest; return
    how many plans were seen to.

    Any number may do this at once. Without a tenant: of all whose clock is the real one. With one:
    of that one, whose test clock shows `now`.
    """
    # Interest first: a month's end is posted before what the new month brings.
    return keep_books(now=now, tenant_id=tenant_id) + _take_due(now, limit, tenant_id)


def _take_due(now: dt.datetime, limit: int, tenant_id: UUID | None) -> int:
    """Complete, unlock and pay out the plans that are due; return how many were seen to."""
    done = _note_ends(now, limit, tenant_id)
    for is_suspect, most in ((False, CHUNK_MAX), (True, 1)):
        while done < limit:
            taken = _take_up(now, most, tenant_id, is_suspect=is_suspect)
            for _, group in groupby(taken, key=lambda each: each[1]):
                _isolated(list(group), now)
            done += len(taken)
            if not taken:
                break
    return done


def _note_ends(now: dt.datetime, limit: int, tenant_id: UUID | None) -> int:
    """Complete or stop the plans whose recurring payments have ended."""
    done, failed = 0, set[UUID]()
    while done + len(failed) < limit:
        ended = ended_parts(manager=MANAGER, tenant_id=tenant_id, limit=ENDS_MAX)
        new = [payment for payment in ended if payment.pk not in failed]
        for payment in new:
            try:
                repeating(partial(_note_end, payment, now))
                done += 1
            except Exception as fault:
                if is_gone(fault):
                    raise
                # One plan must not stop all others.
                logger.exception("savings plan not ended", recurring_payment_id=str(payment.pk))
                failed.add(payment.pk)
        if not new:
            break
    return done


def _note_end(payment: RecurringPayment, now: dt.datetime) -> None:
    with transaction.atomic():
        plan = (
            SavingsPlan.objects.select_for_update(no_key=True, of=("self",))
            .select_related("tenant")
            .filter(recurring_payment_id=payment.pk)
            .first()
        )
        if plan is not None and plan.status == _S.ACTIVE:
            if payment.status == RecurringPayment.Status.COMPLETED:
                complete(plan, now=now)
            else:
                _stop(plan, payment.status_reason, now)
        note_end(payment_id=payment.pk)


def _stop(plan: SavingsPlan, reason: str, now: dt.datetime) -> None:
    plan.status, plan.status_reason = _S.STOPPED, reason
    plan.version += 1
    plan.updated_at = now
    plan.save()
    record(
        plan,
        "stopped",
        now,
        before={"status": "active"},
        after={"status": plan.status, "status_reason": reason},
        payload={"code": reason},
    )


def _take_up(
    now: dt.datetime, limit: int, tenant_id: UUID | None, *, is_suspect: bool
) -> list[Taken]:
    whose = "NOT p.is_on_test_clock"
    if tenant_id is not None:
        whose = "p.is_on_test_clock AND p.tenant_id = %(tenant_id)s"
    with connection.cursor() as cursor:
        cursor.execute(
            _TAKE_UP.format(whose=whose),
            {
                "now": now,
                "limit": limit,
                "is_suspect": is_suspect,
                "wait_s": FIRST_WAIT_S,
                "wait_max_s": WAIT_MAX_S,
                "tenant_id": tenant_id,
            },
        )
        return sorted(cursor.fetchall(), key=lambda each: (each[1], each[0]))


def _isolated(taken: Sequence[Taken], now: dt.datetime) -> None:
    """Take the steps of plans of one tenant together; where that fails, each half by itself."""
    try:
        repeating(lambda: _take_steps(taken, now))
    except Exception as fault:
        if is_gone(fault):
            raise
        if len(taken) == 1:
            # It was put off when it was taken up.
            logger.exception("savings plan not kept", plan_id=str(taken[0][0]))
            return
        middle = len(taken) // 2
        _isolated(taken[:middle], now)
        _isolated(taken[middle:], now)


def _take_steps(taken: Sequence[Taken], now: dt.datetime) -> None:
    ours = {plan_id: until for plan_id, _, until in taken}
    with transaction.atomic():
        plans = [
            plan
            for plan in SavingsPlan.objects.select_for_update(no_key=True, of=("self",))
            .select_related("tenant")
            .filter(pk__in=ours)
            .order_by("pk")
            # Somebody else has changed it since, and it is not due as it was.
            if plan.next_step_at == ours[plan.pk]
        ]
        if not plans:
            return
        tenant = plans[0].tenant
        lock_accounts(tenant.pk, plans, set(), now=now)
        _unlock([plan for plan in plans if plan.is_locked], now)
        unpaid = settle(tenant, [plan.pk for plan in plans], now=now)
        _pay_out([plan for plan in plans if not plan.is_locked], unpaid, now)


def _unlock(plans: Sequence[SavingsPlan], now: dt.datetime) -> None:
    """Unlock plans whose date has come; what is not to be paid out stays."""
    if not plans:
        return
    tenant_id = plans[0].tenant_id
    for plan in plans:
        plan.status = _S.UNLOCKED
    write_plans(plans, status=_S.UNLOCKED, updated_at=now)
    kept = [plan for plan in plans if plan.at_the_end == SavingsPlan.AtTheEnd.KEEP]
    for plan in kept:
        plan.next_step_at = None
    write_plans(kept, next_step_at=None, step_tries=0)
    lock_debits(
        tenant_id=tenant_id,
        account_ids=[plan.plan_account_id for plan in plans],
        until=None,
        now=now,
    )
    record_changes(
        tenant_id=tenant_id,
        action="savings_plan.unlocked",
        changes=[
            Change(
                plan.pk,
                before={"status": "active"},
                after={"status": plan.status},
                payload={"unlock_date": plan.unlock_date, "late": _is_late(plan, now)},
            )
            for plan in plans
        ],
        now=now,
    )


def _is_late(plan: SavingsPlan, now: dt.datetime) -> bool:
    return plan.unlock_at is not None and now - plan.unlock_at > REFUSED_WAIT


def _pay_out(
    plans: Sequence[SavingsPlan], unpaid: Mapping[UUID, DomainError], now: dt.datetime
) -> None:
    """
    Pay plans out to their sources, and close them: one call of the posting engine. One whose
    interest was refused waits: once it is closed, nobody would pay that.
    """
    due = [plan for plan in plans if plan.next_step_at is not None]
    if not due:
        return
    accounts = Account.objects.in_bulk([plan.plan_account_id for plan in due])
    obstacles = {plan.pk: unpaid[plan.pk].code for plan in due if plan.pk in unpaid}
    obstacles |= {plan.pk: "on_hold" for plan in due if accounts[plan.plan_account_id].held}
    paid = [
        plan
        for plan in due
        if plan.pk not in obstacles and accounts[plan.plan_account_id].balance > 0
    ]
    outcomes = post(
        tenant_id=due[0].tenant_id,
        postings=[
            payout_posting(
                plan,
                accounts[plan.plan_account_id].balance,
                plan.source_account_id,
                key=closing_key(plan),
                now=now,
            )
            for plan in paid
        ],
    )
    obstacles |= {
        plan.pk: outcome.refusal
        for plan, outcome in zip(paid, outcomes, strict=True)
        if outcome.refusal is not None
    }
    close_paid_out(
        [
            (plan, accounts[plan.plan_account_id].balance, plan.source_account_id)
            for plan in due
            if plan.pk not in obstacles
        ],
        time=now,
        now=now,
    )
    for code in sorted(set(obstacles.values())):
        _put_off([plan for plan in due if obstacles.get(plan.pk) == code], code, now)


def _put_off(plans: Sequence[SavingsPlan], code: str, now: dt.datetime) -> None:
    """Note why plans could not be paid out: it is tried again, if that may pass."""
    again = None if code in FOR_GOOD_REFUSED else now + REFUSED_WAIT
    # It was seen to: nothing is wrong with taking it up.
    write_plans(plans, status_reason=code, next_step_at=again, step_tries=0, updated_at=now)
    record_changes(
        tenant_id=plans[0].tenant_id,
        action="savings_plan.payout_failed",
        changes=[
            Change(
                plan.pk,
                after={"status_reason": code},
                payload={"code": code, "will_retry": again is not None},
            )
            for plan in plans
            # Told once, not with each try.
            if plan.status_reason != code
        ],
        now=now,
    )


class ByTestClock:
    """See core.clock.Follower."""

    def obstacle(self, tenant_id: UUID) -> str:
        is_locked = SavingsPlan.objects.filter(
            tenant_id=tenant_id, kind=SavingsPlan.Kind.DATE_LOCKED, status=_S.ACTIVE
        ).exists()
        return "It has locked savings plans: its time is the real one." if is_locked else ""

    def begin(self, tenant_id: UUID) -> None:
        SavingsPlan.objects.filter(tenant_id=tenant_id).update(is_on_test_clock=True)
        InterestBook.objects.filter(tenant_id=tenant_id).update(is_on_test_clock=True)

    def next_due(self, tenant_id: UUID) -> dt.datetime | None:
        if ended_parts(manager=MANAGER, tenant_id=tenant_id, limit=1):
            # At once.
            return dt.datetime.min.replace(tzinfo=dt.UTC)
        plans = SavingsPlan.objects.filter(
            tenant_id=tenant_id, is_on_test_clock=True, next_step_at__isnull=False
        )
        due = [
            plans.aggregate(first=Min("next_step_at"))["first"],
            InterestBook.objects.filter(pk=tenant_id, is_on_test_clock=True)
            .values_list("next_due_at", flat=True)
            .first(),
        ]
        return min((each for each in due if each is not None), default=None)

    def run_due(self, tenant_id: UUID, time: dt.datetime, now: dt.datetime) -> int:
        # A day's interest of each plan is no run that anybody counts.
        keep_books(now=time, tenant_id=tenant_id)
        return _take_due(time, CHUNK_MAX * 20, tenant_id)


def follow_test_clock() -> None:
    """Have plans and their interest go by test clocks too; called when the app is ready."""
    # Before what is paid at midnight: that belongs to the day that begins.
    follow_clocks("savings_plans", ByTestClock(), is_first=True)
