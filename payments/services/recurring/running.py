"""
The second half of the sweep: runs are paid.

All runs of a tenant that were taken together are one call of the posting engine; what became of
each is written in the same transaction. A worker that dies before it commits has paid nothing; one
whose lease has ended meanwhile finds its rows taken, and undoes all.
"""

import datetime as dt
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

import structlog
from django.db import connection, transaction

from accounts.models import Account
from accounts.queries import accounts_for_update
from accounts.services import internal_account
from core.database import is_gone, repeating
from core.errors import DomainError
from core.idempotency import fingerprint
from core.ids import new_id
from core.money import Money
from ledger.errors import InsufficientFunds
from ledger.queries import transaction_of
from ledger.services import Leg, Outcome, Posting, post, refusal_of
from payments.models import RecurringPayment, RecurringRun
from payments.services.payouts import Beneficiary, PayoutRequest, make_payout
from payments.services.recurring.due import LEASE_S, Work, take_due
from payments.services.recurring.ending import ENDS, PAUSES, End, LeaseLost, write_ends

logger = structlog.get_logger(__name__)

_P = RecurringPayment
_S = RecurringRun.Status
# Payments that one look takes up: about a second of work.
TAKEN_MAX = 2_000
# One look goes on for so long, well within a task's time; what is left, the next takes.
WORK_MAX_S = 120
# A run that so many workers took up and none ended is not taken up again.
DELIVERIES_MAX = 5
# From the second worker on a run is done by itself: what kills a worker takes no other with it.
SUSPECT_AFTER = 1
# Faults of ours and of what we need: 30 s, doubled each time, give or take a fifth.
BACKOFF = dt.timedelta(seconds=30)

# Materialized: a subquery may be run again for each row, and would lock more than the limit.
_TAKE_UP = """
WITH taken AS MATERIALIZED (
    SELECT d.id FROM payments_recurringrun d
     WHERE d.status IN ('due', 'retrying') AND d.next_attempt_at <= %(now)s
       AND (d.leased_until IS NULL OR d.leased_until < clock_timestamp())
       AND d.deliveries - d.attempts BETWEEN %(least)s AND %(most)s
       AND {whose}
     ORDER BY d.next_attempt_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED)
UPDATE payments_recurringrun r
   SET deliveries = r.deliveries + 1, lease = %(lease)s,
       leased_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
  FROM taken WHERE r.id = taken.id
RETURNING r.id, r.recurring_payment_id, r.date, r.scheduled_for, r.amount, r.attempts, r.deliveries
"""


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at what is due: by whose time, and until when it goes on taking more."""

    now: dt.datetime
    # The same, but for a tenant with a test clock: gateways go by the real time.
    real_now: dt.datetime
    tenant_id: UUID | None
    # By time.monotonic().
    ends_at: float

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.ends_at


def run_due_payments(
    *,
    now: dt.datetime,
    limit: int,
    tenant_id: UUID | None = None,
    real_now: dt.datetime | None = None,
) -> int:
    """
    Pay what is due, at most about `limit` payments, and for two minutes at most; return how many
    payments and runs were worked on.

    Any number may do this at once. Without a tenant: all whose clock is the real one. With one: of
    that one, whose test clock shows `now`, when it really is `real_now`.
    """
    look = _Look(now, real_now or now, tenant_id, time.monotonic() + WORK_MAX_S)
    done = 0
    while done < limit and not look.is_over:
        taken, work, lease = take_due(
            now=now, limit=min(TAKEN_MAX, limit - done), tenant_id=tenant_id
        )
        _run_all(work, lease, look)
        if not taken:
            break
        done += taken
    return done + _run_again(look, limit)


def _run_again(look: _Look, limit: int) -> int:
    """Work on runs that wait for another try, or whose worker is gone."""
    done = 0
    while done < limit and not look.is_over:
        work, lease = _take_up(look, min(TAKEN_MAX, limit - done), most=SUSPECT_AFTER - 1)
        _run_all(work, lease, look)
        if not work:
            break
        done += len(work)
    while done < limit and not look.is_over:
        work, lease = _take_up(look, 1, least=SUSPECT_AFTER)
        _run_all(work, lease, look)
        if not work:
            break
        done += 1
    return done


def _take_up(
    look: _Look, limit: int, *, least: int = 0, most: int = 2**15
) -> tuple[list[Work], UUID]:
    """Take up runs that nobody works on; that it was done is counted before anything else is."""
    lease = new_id()
    whose = "NOT d.is_on_test_clock"
    if look.tenant_id is not None:
        whose = "d.is_on_test_clock AND d.tenant_id = %(tenant_id)s"
    with connection.cursor() as cursor:
        cursor.execute(
            _TAKE_UP.format(whose=whose),
            {
                "lease": lease,
                "lease_s": LEASE_S,
                "now": look.now,
                "least": least,
                "most": most,
                "limit": limit,
                "tenant_id": look.tenant_id,
            },
        )
        rows = cursor.fetchall()
    payments = _P.objects.in_bulk({row[1] for row in rows})
    work = [
        Work(id_, payments[payment_id], date, scheduled_for, amount, attempts, deliveries)
        for id_, payment_id, date, scheduled_for, amount, attempts, deliveries in rows
    ]
    return sorted(work, key=lambda each: (each.scheduled_for, each.id)), lease


def _run_all(work: Sequence[Work], lease: UUID, look: _Look) -> None:
    hopeless = [each for each in work if each.deliveries - each.attempts > DELIVERIES_MAX]
    for each in hopeless:
        _isolated([each], lease, look, _give_up)
    left = [each for each in work if each.deliveries - each.attempts <= DELIVERIES_MAX]
    inside = [each for each in left if each.payment.kind == _P.Kind.INTERNAL]
    by_tenant = sorted(inside, key=lambda each: each.payment.tenant_id)
    for _, group in groupby(by_tenant, key=lambda each: each.payment.tenant_id):
        of_tenant = list(group)
        for is_conditional in (False, True):
            chunk = [each for each in of_tenant if _needs_balance(each) is is_conditional]
            if chunk:
                _isolated(chunk, lease, look, _pay_inside)
    for each in left:
        if each.payment.kind == _P.Kind.EXTERNAL:
            _isolated([each], lease, look, _pay_outside)


def _isolated(
    chunk: Sequence[Work],
    lease: UUID,
    look: _Look,
    pay: Callable[[Sequence[Work], UUID, _Look], None],
) -> None:
    """Pay runs together; where that fails, each half by itself, so that one fault is one run's."""
    try:
        repeating(lambda: pay(chunk, lease, look))
    except LeaseLost:
        if len(chunk) == 1:
            logger.info("run is another's by now", run_id=str(chunk[0].id))
            return
    except Exception as fault:
        if is_gone(fault):
            # The database is gone. What was not committed is due still.
            raise
        if len(chunk) == 1:
            logger.exception("run failed by a fault", run_id=str(chunk[0].id))
            _put_off(chunk[0], lease, look.now, fault)
            return
    else:
        return
    middle = len(chunk) // 2
    _isolated(chunk[:middle], lease, look, pay)
    _isolated(chunk[middle:], lease, look, pay)


def _pay_inside(chunk: Sequence[Work], lease: UUID, look: _Look) -> None:
    """Pay runs of one tenant between its accounts: one call of the posting engine."""
    tenant_id, now = chunk[0].payment.tenant_id, look.now
    with transaction.atomic():
        has = _balances(chunk, look) if _needs_balance(chunk[0]) else {}
        ends: list[End] = []
        asked: list[tuple[Work, int]] = []
        for work in chunk:
            amount = _amount(work, has)
            if isinstance(amount, End):
                ends.append(amount)
            else:
                asked.append((work, amount))
        outcomes = post(
            tenant_id=tenant_id, postings=[_posting(work, amount, now) for work, amount in asked]
        )
        ends += [
            _after_posting(work, amount, outcome, now)
            for (work, amount), outcome in zip(asked, outcomes, strict=True)
        ]
        _note_targets(ends)
        write_ends(tenant_id, ends, lease, now)


def _pay_outside(chunk: Sequence[Work], lease: UUID, look: _Look) -> None:
    """Have one run's money sent to its beneficiary."""
    [work] = chunk
    payment, now = work.payment, look.now
    with transaction.atomic():
        amount = _amount(work, _balances(chunk, look) if _needs_balance(work) else {})
        if isinstance(amount, End):
            write_ends(payment.tenant_id, [amount], lease, now)
            return
        try:
            with transaction.atomic():
                made = make_payout(
                    tenant_id=payment.tenant_id,
                    request=PayoutRequest(
                        source_account_id=payment.source_account_id,
                        amount=Money(amount, payment.currency),
                        beneficiary=Beneficiary(**(payment.beneficiary or {})),
                        idempotency_key=_key(work),
                        gateway=payment.gateway or None,
                        description=payment.description,
                        metadata=_metadata(work),
                        may_wait=True,
                    ),
                    now=look.real_now,
                ).payout
        except DomainError as refusal:
            end = _after_refusal(work, amount, refusal, now)
        else:
            end = End(work, _S.SENT, made.amount, made.transaction_id, made.pk)
        write_ends(payment.tenant_id, [end], lease, now)


def _give_up(chunk: Sequence[Work], lease: UUID, look: _Look) -> None:
    [work] = chunk
    detail = f"{DELIVERIES_MAX} workers took it up, and none ended it."
    with transaction.atomic():
        end = End(work, _S.FAILED, work.amount, code="gave_up", detail=detail)
        write_ends(work.payment.tenant_id, [end], lease, look.now)
    logger.error("run given up", run_id=str(work.id))


def _put_off(work: Work, lease: UUID, now: dt.datetime, fault: Exception) -> None:
    """Try a run again later that failed by a fault of ours; the taking up was counted before."""
    tries = max(1, work.deliveries - work.attempts)
    wait = BACKOFF * 2 ** (tries - 1) * random.uniform(0.8, 1.2)  # noqa: S311
    with transaction.atomic():
        RecurringRun.objects.filter(
            pk=work.id, lease=lease, status__in=(_S.DUE, _S.RETRYING)
        ).update(
            status=_S.RETRYING,
            next_attempt_at=now + wait,
            lease=None,
            leased_until=None,
            error_code="internal_error",
            error_detail=type(fault).__name__,
        )


def _needs_balance(work: Work) -> bool:
    payment = work.payment
    return (
        payment.min_balance is not None
        or payment.target_balance is not None
        or payment.amount_type == _P.AmountType.SWEEP
        or payment.on_insufficient_funds == _P.OnInsufficientFunds.PARTIAL
    )


@dataclass(slots=True)
class _Balance:
    """What an account has, in minor units, as the runs before this one leave it."""

    balance: int
    held: int
    overdraft_limit: int
    is_active: bool

    @property
    def available(self) -> int:
        return self.own + self.overdraft_limit

    @property
    def own(self) -> int:
        """Without holds, and without what it might overdraw."""
        return self.balance - self.held


def _balances(chunk: Sequence[Work], look: _Look) -> dict[UUID, _Balance]:
    """
    Return what the sources and destinations have. Locks them, and what else the postings lock in
    the same go: in their order.
    """
    payment = chunk[0].payment
    ids: set[UUID] = set()
    for each in chunk:
        ids.add(each.payment.source_account_id)
        if each.payment.destination_account_id is not None:
            ids.add(each.payment.destination_account_id)
    if payment.kind == _P.Kind.EXTERNAL:
        ids.add(
            internal_account(
                tenant_id=payment.tenant_id,
                role=Account.Role.PAYOUT_CLEARING,
                currency=payment.currency,
                now=look.real_now,
            )
        )
    locked = accounts_for_update(tenant_id=payment.tenant_id, account_ids=sorted(ids))
    return {id_: _balance(account) for id_, account in locked.items()}


def _balance(account: Account) -> _Balance:
    is_active = account.status == Account.Status.ACTIVE
    return _Balance(account.balance, account.held, account.overdraft_limit or 0, is_active)


def _amount(work: Work, balances: dict[UUID, _Balance]) -> "int | End":
    """Return how much a run pays, or how it ends where it pays nothing; notes what it takes."""
    payment = work.payment
    amount = (work.amount if work.amount is not None else payment.amount) or 0
    if not _needs_balance(work):
        return amount
    nothing = _Balance(0, 0, 0, is_active=False)
    source = balances.get(payment.source_account_id, nothing)
    # Outside of the ledger there is none, and no target either.
    destination = balances.get(payment.destination_account_id or work.id, nothing)
    if payment.min_balance is not None and source.own <= payment.min_balance:
        return End(work, _S.SKIPPED, code="balance_too_low", is_attempt=False)
    if payment.amount_type == _P.AmountType.SWEEP:
        amount = source.own - (payment.floor_amount or 0)
        if amount <= 0:
            return End(work, _S.SKIPPED, code="nothing_to_sweep", is_attempt=False)
    if payment.target_balance is not None:
        amount = min(amount, payment.target_balance - destination.balance)
        if amount <= 0:
            return End(
                work, _S.SKIPPED, code="target_reached", is_attempt=False, reaches_target=True
            )
    # From one that is closed or frozen all is asked for: the refusal says so, and ends the payment.
    is_partial = payment.on_insufficient_funds == _P.OnInsufficientFunds.PARTIAL
    if is_partial and source.is_active:
        if source.own <= 0:
            return End(work, _S.SKIPPED, amount, code=InsufficientFunds.code)
        amount = min(amount, source.own)
    # What the ledger will refuse fills no target: the next run may.
    if source.is_active and source.available >= amount:
        source.balance -= amount
        destination.balance += amount
    return amount


def _note_targets(ends: Iterable[End]) -> None:
    """Have the payments complete whose destination has by now what it was to have."""
    # What was found reached too: that counted on the runs before it, and they may be refused.
    paid = [
        end
        for end in ends
        if (end.status == _S.SUCCEEDED or end.reaches_target)
        and end.work.payment.target_balance is not None
    ]
    if not paid:
        return
    ids = [end.work.payment.destination_account_id for end in paid]
    # As the posting has left them; their locks are ours.
    balances = dict(
        Account.objects.filter(pk__in=[each for each in ids if each is not None]).values_list(
            "pk", "balance"
        )
    )
    for end in paid:
        payment = end.work.payment
        target, destination_id = payment.target_balance, payment.destination_account_id
        if target is not None and destination_id is not None:
            end.reaches_target = balances[destination_id] >= target


def _posting(work: Work, amount: int, now: dt.datetime) -> Posting:
    payment = work.payment
    if payment.destination_account_id is None:
        raise RuntimeError("an internal payment has a destination")
    return Posting(
        type="recurring_payment",
        currency=payment.currency,
        legs=(
            Leg(payment.source_account_id, -amount),
            Leg(payment.destination_account_id, amount),
        ),
        idempotency_key=_key(work),
        # What a run pays is worked out under its lease: the same run is the same request.
        request_fingerprint=fingerprint("recurring_payment", work.id),
        description=payment.description,
        value_date=now.date() if payment.is_on_test_clock else None,
        metadata=_metadata(work),
    )


def _key(work: Work) -> str:
    """Return the key of the run's posting: whoever pays it, it is paid once."""
    return f"recurring run {work.id}"


def _metadata(work: Work) -> dict[str, str]:
    return {"recurring_payment_id": str(work.payment.pk), "recurring_run_id": str(work.id)}


def _after_posting(work: Work, amount: int, outcome: Outcome, now: dt.datetime) -> End:
    if outcome.refusal is not None:
        return _after_refusal(work, amount, refusal_of(outcome), now)
    if outcome.transaction_id is None:
        raise RuntimeError(f"the engine returned {outcome}")
    if outcome.outcome == "replayed":
        earlier = transaction_of(
            tenant_id=work.payment.tenant_id, transaction_id=outcome.transaction_id
        )
        amount = earlier.amount
    return End(work, _S.SUCCEEDED, amount, outcome.transaction_id)


def _after_refusal(work: Work, amount: int, refusal: DomainError, now: dt.datetime) -> End:
    """Return how a run ends that was refused: by its payment's policy, where that may pass."""
    payment = work.payment
    end = End(work, _S.FAILED, amount, code=refusal.code, detail=str(refusal.detail)[:300])
    if refusal.code in ENDS or refusal.code in PAUSES:
        return end
    is_skipped = payment.on_insufficient_funds != _P.OnInsufficientFunds.RETRY
    if is_skipped and refusal.code == InsufficientFunds.code:
        end.status = _S.SKIPPED
        return end
    again = now + dt.timedelta(minutes=payment.retry_interval_minutes)
    is_before_next = payment.next_run_at is None or again < payment.next_run_at
    if work.attempts < payment.retry_count and is_before_next:
        end.status, end.next_attempt_at = _S.RETRYING, again
    return end
