"""
What falls due on an invoice by itself, and the e-mails that its customer gets.

An e-mail is a row, written in the transaction of its cause; services.mailing sends it.
"""

import datetime as dt
import zoneinfo
from collections.abc import Sequence
from uuid import UUID

from core.ids import new_id
from core.jobs import ring
from invoices.models import Installment, Invoice, InvoiceSettings, Mailing

MAIL_TASK = "invoices.send_mailings"
# When customers are reminded, by the tenant's clock.
REMINDED_AT = dt.time(9)
_OPEN = (Invoice.Status.PENDING, Invoice.Status.PARTIALLY_PAID, Invoice.Status.FAILED)


def next_step(
    invoice: Invoice,
    installments: Sequence[Installment],
    *,
    settings: InvoiceSettings,
    now: dt.datetime,
) -> dt.datetime | None:
    """Return when something falls due next: expiry, overdue, a reminder; None: never."""
    if invoice.status not in _OPEN:
        return None
    zone = zoneinfo.ZoneInfo(invoice.tenant.time_zone)
    moments = []
    if invoice.expires_at is not None and invoice.expires_at > now:
        moments.append(invoice.expires_at)
    for installment in installments:
        if not installment.amount_due:
            continue
        if installment.overdue_at is None:
            moments.append(overdue_from(installment, zone))
        moments += [moment for _, moment in reminders(installment, settings, zone) if moment > now]
    return min(moments, default=None)


def overdue_from(installment: Installment, zone: dt.tzinfo) -> dt.datetime:
    """Return when the day after its due date begins."""
    return dt.datetime.combine(installment.due_date + dt.timedelta(days=1), dt.time(), tzinfo=zone)


def reminders(
    installment: Installment, settings: InvoiceSettings, zone: dt.tzinfo
) -> list[tuple[int, dt.datetime]]:
    """Return when its customer is reminded of it: days from the due date, and the moment."""
    return [
        (
            days,
            dt.datetime.combine(
                installment.due_date + dt.timedelta(days=days), REMINDED_AT, tzinfo=zone
            ),
        )
        for days in sorted(set(settings.reminder_days))
    ]


def write_mailing(
    invoice: Invoice,
    *,
    kind: str,
    unique_key: str,
    now: dt.datetime,
    subject_id: UUID | None = None,
) -> bool:
    """
    Write an e-mail to the invoice's customer down, if there is an address; say whether it is new.
    """
    if not invoice.customer_email:
        return False
    mailing = Mailing(
        id=new_id(),
        tenant_id=invoice.tenant_id,
        invoice=invoice,
        kind=Mailing.Kind(kind),
        subject_id=subject_id,
        to=invoice.customer_email,
        next_attempt_at=now,
        unique_key=unique_key,
        created_at=now,
    )
    Mailing.objects.bulk_create([mailing], ignore_conflicts=True)
    is_new = Mailing.objects.filter(pk=mailing.pk).exists()
    if is_new:
        ring(MAIL_TASK)
    return is_new
