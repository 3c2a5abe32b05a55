"""
What becomes of a recurring payment itself: completed when all was, set aside when it cannot be.

Whoever comes here has the payment locked, and locks its runs after it.
"""

import datetime as dt
from collections.abc import Collection, Iterable
from uuid import UUID

import structlog
from django.db import connection

from core.changes import record_change
from core.database import sql_array
from core.errors import DomainError
from payments.models import RecurringPayment, RecurringRun

logger = structlog.get_logger(__name__)

_P = RecurringPayment
_S = RecurringRun.Status

_COMPLETE = """
UPDATE payments_recurringpayment p SET status = 'completed', updated_at = %s
 WHERE p.id = ANY(%s::uuid[]) AND p.status = 'active' AND p.next_run_at IS NULL
   AND (p.trigger = 'schedule' OR p.next_number >= p.max_runs)
   AND NOT EXISTS (SELECT 1 FROM payments_recurringrun r
                    WHERE r.recurring_payment_id = p.id AND r.status IN ('due', 'retrying'))
RETURNING p.id, p.tenant_id
"""


def cancel_open_runs(*payment_ids: UUID, code: str, now: dt.datetime) -> int:
    """
    End what payments, locked by the caller, have yet to pay; return how many runs.

    Who is paying one just now loses it, and undoes what was posted.
    """
    return RecurringRun.objects.filter(
        recurring_payment_id__in=payment_ids, status__in=(_S.DUE, _S.RETRYING)
    ).update(
        status=_S.CANCELLED,
        error_code=code,
        next_attempt_at=None,
        lease=None,
        leased_until=None,
        ended_at=now,
    )


def complete_ended(payment_ids: Iterable[UUID], now: dt.datetime) -> None:
    """Complete those of the payments that have nothing to come and nothing open."""
    ids = [each.hex for each in payment_ids]
    if not ids:
        return
    with connection.cursor() as cursor:
        cursor.execute(_COMPLETE, [now, sql_array(ids)])
        completed = cursor.fetchall()
    for payment_id, tenant_id in completed:
        record_change(
            tenant_id=tenant_id,
            action="recurring_payment.completed",
            object_id=payment_id,
            now=now,
            before={"status": _P.Status.ACTIVE.value},
            after={"status": _P.Status.COMPLETED.value},
        )


def stop_at_target(payment_ids: Collection[UUID], now: dt.datetime) -> None:
    """Have nothing come any more of payments, locked by the caller, whose target is reached."""
    if not payment_ids:
        return
    _P.objects.filter(pk__in=payment_ids, status=_P.Status.ACTIVE).update(
        next_nominal_date=None, next_date=None, next_run_at=None
    )
    cancel_open_runs(*payment_ids, code="target_reached", now=now)


def set_aside(payment: RecurringPayment, fault: Exception, now: dt.datetime) -> None:
    """
    Pause a payment whose next dates cannot be told, so that it keeps no other from being paid.

    Such as one whose country's holidays are not known any more. Somebody has to see to it.
    """
    code = fault.code if isinstance(fault, DomainError) else "internal_error"
    logger.error("recurring payment set aside", payment_id=str(payment.pk), exc_info=fault)
    _P.objects.filter(pk=payment.pk).update(
        status=_P.Status.PAUSED, status_reason=code, updated_at=now
    )
    cancel_open_runs(payment.pk, code=_P.Status.PAUSED.value, now=now)
    record_change(
        tenant_id=payment.tenant_id,
        action="recurring_payment.paused",
        object_id=payment.pk,
        now=now,
        before={"status": _P.Status.ACTIVE.value},
        after={"status": _P.Status.PAUSED.value, "status_reason": code},
    )
