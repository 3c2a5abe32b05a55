"""Recurring payments by a tenant's test clock."""

import datetime as dt
from uuid import UUID

from django.db.models import Min

from core.clock import follow_clocks
from payments.models import GatewayConfiguration, RecurringPayment, RecurringRun
from payments.services.recurring.running import run_due_payments
from payments.services.recurring.salary import look_for_salaries

_OPEN = (RecurringRun.Status.DUE, RecurringRun.Status.RETRYING)
# Of one step; the clock asks again as long as something is due.
RUNS_MAX = 10_000


class ByTestClock:
    """See core.clock.Follower."""

    def obstacle(self, tenant_id: UUID) -> str:
        is_live = GatewayConfiguration.objects.filter(
            tenant_id=tenant_id, mode="live", is_enabled=True
        ).exists()
        return "It has a live gateway: its time is the real one." if is_live else ""

    def begin(self, tenant_id: UUID) -> None:
        RecurringPayment.objects.filter(tenant_id=tenant_id).update(is_on_test_clock=True)
        RecurringRun.objects.filter(tenant_id=tenant_id, status__in=_OPEN).update(
            is_on_test_clock=True
        )

    def next_due(self, tenant_id: UUID) -> dt.datetime | None:
        payments = RecurringPayment.objects.filter(
            tenant_id=tenant_id,
            status=RecurringPayment.Status.ACTIVE,
            is_on_test_clock=True,
            next_run_at__isnull=False,
        )
        runs = RecurringRun.objects.filter(
            tenant_id=tenant_id, status__in=_OPEN, is_on_test_clock=True
        )
        due = [
            payments.aggregate(first=Min("next_run_at"))["first"],
            runs.aggregate(first=Min("next_attempt_at"))["first"],
        ]
        return min((each for each in due if each is not None), default=None)

    def run_due(self, tenant_id: UUID, time: dt.datetime, now: dt.datetime) -> int:
        # All tenants' credits are followed together, and by the real time.
        look_for_salaries(now=now, is_awaited=True)
        return run_due_payments(now=time, limit=RUNS_MAX, tenant_id=tenant_id, real_now=now)


def follow_test_clock() -> None:
    """Have recurring payments fall due by test clocks too; called when the app is ready."""
    follow_clocks("recurring_payments", ByTestClock())
