"""What falls due on invoices by itself: expiry, overdue marks, reminders. PostgreSQL knows when."""

import datetime as dt
import zoneinfo
from uuid import UUID

import structlog
from django.db import transaction

from core.changes import record_change
from invoices.models import Installment, Invoice, InvoiceSettings
from invoices.queries import installments_of, invoice_for_update, settings_of
from invoices.services.claims import is_out_of_time, under_way
from invoices.services.issuing import expire
from invoices.services.reminding import next_step, overdue_from, reminders, write_mailing

logger = structlog.get_logger(__name__)

# A reminder that could not be written in its time says nothing any more.
REMINDED_WITHIN = dt.timedelta(days=2)
# Where a payment is under way, an expiry waits for it.
LOOK_AGAIN_AFTER = dt.timedelta(minutes=5)


def take_due_steps(*, now: dt.datetime, limit: int) -> int:
    """
    Do what has fallen due on at most `limit` invoices, the longest due first; return on how many.

    Each in its own transaction; several workers at once never take the same.
    """
    due = (
        Invoice.objects.filter(next_step_at__lte=now)
        .order_by("next_step_at", "pk")
        .values_list("pk", "tenant_id")[:limit]
    )
    done = 0
    for invoice_id, tenant_id in list(due):
        try:
            done += _step(tenant_id, invoice_id, now)
        except Exception:
            # One that fails keeps no other waiting, and is looked at again later.
            logger.exception("invoice step failed", invoice_id=str(invoice_id))
            Invoice.objects.filter(pk=invoice_id, next_step_at__lte=now).update(
                next_step_at=now + LOOK_AGAIN_AFTER
            )
    return done


def _step(tenant_id: UUID, invoice_id: UUID, now: dt.datetime) -> bool:
    with transaction.atomic():
        is_ours = (
            Invoice.objects.select_for_update(no_key=True, skip_locked=True)
            .filter(pk=invoice_id, next_step_at__lte=now)
            .exists()
        )
        if not is_ours:
            return False
        invoice = invoice_for_update(tenant_id=tenant_id, invoice_id=invoice_id)
        if not is_out_of_time(invoice, now):
            _mark_and_remind(invoice, now)
        elif under_way(invoice, now):
            # The payer was in time; what comes of it decides.
            invoice.next_step_at = now + LOOK_AGAIN_AFTER
            invoice.save(update_fields=["next_step_at"])
        else:
            expire(invoice, now)
    return True


def _mark_and_remind(invoice: Invoice, now: dt.datetime) -> None:
    settings = settings_of(tenant_id=invoice.tenant_id)
    zone = zoneinfo.ZoneInfo(invoice.tenant.time_zone)
    installments = installments_of(invoice)
    for installment in installments:
        if not installment.amount_due:
            continue
        if installment.overdue_at is None and overdue_from(installment, zone) <= now:
            _mark_overdue(invoice, installment, now)
        _remind(invoice, installment, settings, zone, now)
    invoice.next_step_at = next_step(invoice, installments, settings=settings, now=now)
    invoice.updated_at = now
    invoice.save(update_fields=["next_step_at", "updated_at"])


def _mark_overdue(invoice: Invoice, installment: Installment, now: dt.datetime) -> None:
    installment.overdue_at = now
    installment.save(update_fields=["overdue_at"])
    record_change(
        tenant_id=invoice.tenant_id,
        action="invoice.overdue",
        object_id=invoice.pk,
        now=now,
        after={
            "installment": installment.number,
            "due_date": installment.due_date.isoformat(),
            "amount_due": installment.amount_due,
        },
    )


def _remind(
    invoice: Invoice,
    installment: Installment,
    settings: InvoiceSettings,
    zone: dt.tzinfo,
    now: dt.datetime,
) -> None:
    """Write the reminder whose time has come; of several that were missed, the last alone."""
    come = [
        (days, moment)
        for days, moment in reminders(installment, settings, zone)
        if moment <= now < moment + REMINDED_WITHIN
        # Whoever got the invoice after that moment needs no reminder of then.
        and (invoice.finalized_at is None or moment > invoice.finalized_at)
    ]
    if not come:
        return
    days, _ = come[-1]
    key = f"reminder {installment.number} {installment.due_date} {days:+d}"
    is_new = write_mailing(
        invoice, kind="reminder", unique_key=key, subject_id=installment.pk, now=now
    )
    if is_new:
        record_change(
            tenant_id=invoice.tenant_id,
            action="invoice.reminded",
            object_id=invoice.pk,
            now=now,
            after={"installment": installment.number, "days_from_due_date": days},
        )
