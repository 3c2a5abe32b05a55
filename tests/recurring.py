"""What tests of recurring payments are made of."""

import datetime as dt
from typing import Any
from uuid import UUID

from accounts.models import Account
from identity.models import Tenant
from identity.services import start_test_clock
from payments.models import RecurringPayment, RecurringRun
from payments.services import (
    NewRecurringPayment,
    Terms,
    add_calendar_day,
    create_recurring_payment,
    pause_recurring_payment,
    run_due_payments,
)
from tests import making

NOON = dt.time(12, 0)


def utc(text: str) -> dt.datetime:
    """Return the moment, such as 2026-03-31 or 2026-03-31T12:00."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def order(
    source: Account,
    destination: Account | None = None,
    *,
    now: dt.datetime,
    beneficiary: Any = None,
    gateway: str = "",
    external_id: str | None = None,
    **terms: Any,
) -> RecurringPayment:
    """Make a recurring payment: 100 each month at noon, unless the terms say otherwise."""
    values: dict[str, Any] = {"frequency": "monthly", "run_at": NOON, **terms}
    if not {"amount", "percent", "floor_amount"} & values.keys():
        values["amount"] = 100
    if values.get("salary") is not None and "frequency" not in terms:
        values["frequency"] = ""
    return create_recurring_payment(
        tenant_id=source.tenant_id,
        new=NewRecurringPayment(
            source_account_id=source.pk,
            currency=source.currency,
            destination_account_id=None if destination is None else destination.pk,
            beneficiary=beneficiary,
            gateway=gateway,
            external_id=external_id,
            terms=Terms(**values),
        ),
        now=now,
    )


def run(now: dt.datetime, *, tenant: Tenant | None = None, limit: int = 10_000) -> int:
    """Pay what is due at the moment."""
    return run_due_payments(now=now, limit=limit, tenant_id=None if tenant is None else tenant.pk)


def runs(payment: RecurringPayment | UUID) -> list[RecurringRun]:
    """Return its runs, the first of them first."""
    pk = payment if isinstance(payment, UUID) else payment.pk
    return list(RecurringRun.objects.filter(recurring_payment_id=pk).order_by("scheduled_for"))


def statuses(payment: RecurringPayment) -> list[str]:
    return [str(each.status) for each in runs(payment)]


def again(payment: RecurringPayment) -> RecurringPayment:
    return RecurringPayment.objects.get(pk=payment.pk)


def one_of_each(source: Account, now: dt.datetime) -> dict[str, str]:
    """
    Return the ids of a recurring payment that has run once, of a paused and a spare one, and of a
    day of the calendar; from then on its tenant has a test clock.
    """
    destination = making.open_account(source.tenant, currency=source.currency)
    payment = order(source, destination, now=now, amount=1, run_at=dt.time.min)
    run(now)
    [made] = runs(payment)
    assert made.status == RecurringRun.Status.SUCCEEDED, made.error_code
    day = add_calendar_day(
        tenant_id=source.tenant_id,
        date=now.date(),
        name="Nyepi",
        is_business_day=False,
        now=now,
    )
    paused, spare = (order(source, destination, now=now) for _ in range(2))
    pause_recurring_payment(tenant_id=source.tenant_id, payment_id=paused.pk, reason="x", now=now)
    start_test_clock(tenant_id=source.tenant_id, at=None, now=now)
    return {
        "recurring_payment": str(payment.pk),
        "paused_recurring_payment": str(paused.pk),
        "spare_recurring_payment": str(spare.pk),
        "calendar_day": str(day.pk),
    }
