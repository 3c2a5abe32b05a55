"""
How a run ends: what is written on it, on its payment, and for those who listen.

In the transaction of what it paid. A payment is locked before its runs, as by whoever pauses it.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import connection

from core.changes import record_change, record_events
from core.database import sql_array
from payments.models import Payout, RecurringPayment, RecurringRun
from payments.services.recurring.due import Work
from payments.services.recurring.states import (
    cancel_open_runs,
    complete_ended,
    stop_at_target,
)

_P = RecurringPayment
_S = RecurringRun.Status
# These end a payment for good, or until somebody has seen to it; the others may pass.
ENDS = frozenset({"account_closed", "not_found", "currency_mismatch"})
PAUSES = frozenset({"account_frozen", "invalid_request", "beneficiary_rejected"})

_END = """
UPDATE payments_recurringrun r
   SET status = e.status, amount = e.amount, attempts = e.attempts,
       transaction_id = e.transaction_id, payout_id = e.payout_id,
       error_code = e.error_code, error_detail = e.error_detail,
       next_attempt_at = e.next_attempt_at, lease = NULL, leased_until = NULL,
       ended_at = CASE WHEN e.status NOT IN ('retrying', 'sent') THEN %(now)s::timestamptz END
  FROM unnest(%(ids)s::uuid[], %(statuses)s::text[], %(amounts)s::bigint[], %(attempts)s::int[],
              %(transactions)s::uuid[], %(payouts)s::uuid[], %(codes)s::text[], %(details)s::text[],
              %(next_attempts)s::timestamptz[], %(leases)s::uuid[])
       e(id, status, amount, attempts, transaction_id, payout_id, error_code, error_detail,
         next_attempt_at, lease)
 -- The lease of each, not one for all: of that, PostgreSQL expects a single row, and joins by it.
 WHERE r.id = e.id AND r.lease = e.lease AND r.status IN ('due', 'retrying')
RETURNING r.id
"""
_NOTE = """
UPDATE payments_recurringpayment p
   SET consecutive_failures = n.failures + CASE WHEN n.has_succeeded THEN 0
                                                ELSE p.consecutive_failures END,
       status = n.status, status_reason = CASE WHEN n.status = p.status THEN p.status_reason
                                               ELSE n.code END,
       next_nominal_date = CASE WHEN n.status = 'failed' THEN NULL ELSE p.next_nominal_date END,
       next_date = CASE WHEN n.status = 'failed' THEN NULL ELSE p.next_date END,
       next_run_at = CASE WHEN n.status = 'failed' THEN NULL ELSE p.next_run_at END,
       updated_at = %(now)s
  FROM (SELECT s.*, q.status AS before,
               CASE WHEN q.status <> 'active' THEN q.status
                    WHEN s.verdict <> '' THEN s.verdict
                    WHEN q.pause_after_failures <= s.failures
                         + CASE WHEN s.has_succeeded THEN 0 ELSE q.consecutive_failures END
                         THEN 'paused'
                    ELSE q.status END AS status
          FROM unnest(%(ids)s::uuid[], %(failures)s::int[], %(successes)s::boolean[],
                      %(verdicts)s::text[], %(codes)s::text[])
               s(id, failures, has_succeeded, verdict, code)
          JOIN payments_recurringpayment q ON q.id = s.id) n
 WHERE p.id = n.id
RETURNING p.id, n.before, p.status, n.code
"""

_EVENTS = {
    _S.SUCCEEDED: "recurring_run.succeeded",
    _S.SENT: "recurring_run.sent",
    _S.FAILED: "recurring_run.failed",
    _S.SKIPPED: "recurring_run.skipped",
    _S.RETRYING: "recurring_run.retry_scheduled",
}


class LeaseLost(Exception):
    """Somebody else has a run that we have just paid: what we did is undone."""


@dataclass(slots=True)
class End:
    """What became of a run."""

    work: Work
    status: str
    amount: int | None = None
    transaction_id: UUID | None = None
    payout_id: UUID | None = None
    code: str = ""
    detail: str = ""
    next_attempt_at: dt.datetime | None = None
    # Whether money was asked for; a run that was not due any more counts as no attempt.
    is_attempt: bool = True
    # The destination has what it was to have: nothing is paid any more.
    reaches_target: bool = False


@dataclass(slots=True)
class _Streak:
    """What the runs that have ended mean for one payment: failures in a row, and its own end."""

    payment: RecurringPayment
    failures: int = 0
    has_succeeded: bool = False
    # paused or failed, with the code of the refusal that it comes of.
    verdict: str = ""
    code: str = ""


def write_ends(tenant_id: UUID, ends: Sequence[End], lease: UUID, now: dt.datetime) -> None:
    """
    Write how runs ended, with what follows for their payments.

    :raises LeaseLost: one of them is not ours any more
    """
    if not ends:
        return
    reckoned = _reckon(ends)
    over = {
        end.work.payment.pk for end in ends if end.reaches_target or _may_be_over(end.work.payment)
    }
    _lock_payments(over | reckoned.keys())
    _write_rows(ends, lease, now)
    _note_streaks(tenant_id, reckoned, now)
    _tell(tenant_id, ends, now)
    stop_at_target({end.work.payment.pk for end in ends if end.reaches_target}, now)
    complete_ended(over, now)


def _reckon(ends: Iterable[End]) -> dict[UUID, _Streak]:
    """Return what is to be noted on payments; nothing for one that paid, as it did before."""
    streaks: dict[UUID, _Streak] = {}
    for end in ends:
        payment = end.work.payment
        is_failure = end.status == _S.FAILED or (end.status == _S.SKIPPED and end.is_attempt)
        if end.status in (_S.SUCCEEDED, _S.SENT):
            if payment.consecutive_failures or payment.pk in streaks:
                streaks[payment.pk] = _Streak(payment, has_succeeded=True)
        elif is_failure:
            streak = streaks.setdefault(payment.pk, _Streak(payment))
            streak.failures += 1
            streak.code = end.code
            if end.code in ENDS:
                streak.verdict = _P.Status.FAILED.value
            elif end.code in PAUSES:
                streak.verdict = streak.verdict or _P.Status.PAUSED.value
    return streaks


def _lock_payments(payment_ids: set[UUID]) -> None:
    """Payments are locked before their runs, as by whoever pauses or cancels one."""
    if payment_ids:
        locked = _P.objects.select_for_update(no_key=True).filter(pk__in=payment_ids).order_by("pk")
        list(locked.values_list("pk", flat=True))


def _write_rows(ends: Sequence[End], lease: UUID, now: dt.datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            _END,
            {
                "now": now,
                "ids": sql_array([end.work.id.hex for end in ends]),
                "statuses": sql_array([str(end.status) for end in ends]),
                "amounts": _nullable(end.amount for end in ends),
                "attempts": sql_array([str(end.work.attempts + end.is_attempt) for end in ends]),
                "transactions": _nullable(end.transaction_id for end in ends),
                "payouts": _nullable(end.payout_id for end in ends),
                "codes": sql_array([f'"{end.code}"' for end in ends]),
                "details": [end.detail for end in ends],
                "next_attempts": [end.next_attempt_at for end in ends],
                "leases": sql_array([lease.hex] * len(ends)),
            },
        )
        if cursor.rowcount != len(ends):
            raise LeaseLost


def _note_streaks(tenant_id: UUID, streaks: dict[UUID, _Streak], now: dt.datetime) -> None:
    """Count failures in a row; pause or end a payment where that, or the refusal, says so."""
    if not streaks:
        return
    each = list(streaks.values())
    with connection.cursor() as cursor:
        cursor.execute(
            _NOTE,
            {
                "now": now,
                "ids": sql_array([one.payment.pk.hex for one in each]),
                "failures": sql_array([str(one.failures) for one in each]),
                "successes": sql_array([str(one.has_succeeded) for one in each]),
                "verdicts": sql_array([f'"{one.verdict}"' for one in each]),
                "codes": sql_array([f'"{one.code}"' for one in each]),
            },
        )
        changed = [row for row in cursor.fetchall() if row[1] != row[2]]
    for payment_id, before, status, code in changed:
        cancel_open_runs(payment_id, code=status, now=now)
        record_change(
            tenant_id=tenant_id,
            action=f"recurring_payment.{status}",
            object_id=payment_id,
            now=now,
            before={"status": before},
            after={"status": status, "status_reason": code},
        )


def _tell(tenant_id: UUID, ends: Sequence[End], now: dt.datetime) -> None:
    for status, event_type in _EVENTS.items():
        told = [end for end in ends if end.status == status]
        if told:
            record_events(
                tenant_id=tenant_id,
                event_type=event_type,
                events=[(end.work.id, _said(end)) for end in told],
                now=now,
            )


def _said(end: End) -> dict[str, object]:
    work = end.work
    said: dict[str, object] = {
        "recurring_payment_id": str(work.payment.pk),
        "scheduled_for": work.scheduled_for.isoformat(),
        "amount": end.amount,
        "currency": work.payment.currency,
    }
    if end.code:
        said["code"] = end.code
        # Whether we ask for the money again, so that nobody pays it by hand meanwhile.
        said["will_retry"] = end.next_attempt_at is not None
    if end.next_attempt_at is not None:
        said["next_attempt_at"] = end.next_attempt_at.isoformat()
    return said


def _may_be_over(payment: RecurringPayment) -> bool:
    is_counted = payment.trigger == _P.Trigger.SALARY and payment.max_runs is not None
    return payment.next_run_at is None and (payment.trigger == _P.Trigger.SCHEDULE or is_counted)


def end_of_payout(payout: Payout, *, now: dt.datetime) -> None:
    """
    Write on the run what became of its payout; called with each change of one, in its transaction.

    A beneficiary that the gateway refused would be refused again: the payment is paused.
    """
    if payout.status not in (Payout.Status.SETTLED, Payout.Status.FAILED, Payout.Status.RETURNED):
        return
    paid = RecurringRun.objects.filter(payout_id=payout.pk, status__in=(_S.SENT, _S.SUCCEEDED))
    run = paid.select_related("tenant").first()
    if run is None:
        return
    payment = _P.objects.select_for_update(no_key=True).get(pk=run.recurring_payment_id)
    time = run.tenant.time_at(now)
    is_settled = payout.status == Payout.Status.SETTLED
    status = _S.SUCCEEDED if is_settled else _S.FAILED
    work = Work(run.pk, payment, run.date, run.scheduled_for, run.amount)
    code = "" if is_settled else "beneficiary_rejected"
    end = End(work, status, run.amount, payout_id=payout.pk, code=code)
    ended = RecurringRun.objects.filter(pk=run.pk, status=_S.SENT).update(
        status=status, error_code=code, error_detail=payout.failure_detail[:300], ended_at=time
    )
    if ended:
        _tell(payment.tenant_id, [end], time)
    # One that is returned later has been paid; but the next would come back as well.
    if ended or not is_settled:
        _note_streaks(payment.tenant_id, _reckon([end]), time)


def _nullable(values: Iterable[object]) -> str:
    return sql_array(["NULL" if value is None else str(value) for value in values])
