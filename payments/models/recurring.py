"""Payments that come again: what is to be paid when, and each time that it was due."""

from django.db import models
from django.db.models import F, Q

from core.calendars.business_days import Adjustment
from core.calendars.rules import Frequency
from core.ids import new_id
from core.money import BALANCE_MAX

ENDED_UNNOTED = (
    Q(status__in=["completed", "cancelled", "failed"]) & ~Q(managed_by="") & Q(is_end_noted=False)
)


class RecurringPayment(models.Model):
    """
    An order to pay again and again: by the calendar, or whenever a salary comes.

    Source, kind, currency and trigger never change (a database trigger keeps them); the rest may,
    for what comes after. The n-th date is counted from `start_date`, never from the date before.
    """

    class Kind(models.TextChoices):
        # To an account of the tenant, by the ledger.
        INTERNAL = "internal"
        # To a beneficiary elsewhere, by a payout.
        EXTERNAL = "external"

    class AmountType(models.TextChoices):
        FIXED = "fixed"
        # Of the credit that triggered it.
        PERCENTAGE = "percentage"
        # All that the source has of its own above a floor.
        SWEEP = "sweep"

    class Trigger(models.TextChoices):
        SCHEDULE = "schedule"
        SALARY = "salary"

    class Status(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"
        COMPLETED = "completed"
        CANCELLED = "cancelled"
        # It can never run again: an account of it is closed.
        FAILED = "failed"

    class OnInsufficientFunds(models.TextChoices):
        RETRY = "retry"
        SKIP = "skip"
        # What there is, without what the source might overdraw.
        PARTIAL = "partial"

    class CatchUp(models.TextChoices):
        RUN_ONCE = "run_once"
        RUN_ALL = "run_all"
        SKIP = "skip"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    external_id = models.CharField(max_length=200, null=True)
    description = models.CharField(max_length=140, default="")
    metadata = models.JSONField(default=dict)
    kind = models.CharField(max_length=8, choices=Kind)
    source_account = models.ForeignKey(
        "accounts.Account", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    destination_account = models.ForeignKey(
        "accounts.Account", on_delete=models.PROTECT, related_name="+", null=True, db_index=False
    )
    # External: name, country, and iban or account_number with bank_code; town.
    beneficiary = models.JSONField(null=True)
    # External: the one that is to send it; empty: by currency and priority.
    gateway = models.CharField(max_length=16, default="")

    currency = models.CharField(max_length=3)
    amount_type = models.CharField(max_length=10, choices=AmountType, default=AmountType.FIXED)
    # Fixed: how much, in minor units.
    amount = models.BigIntegerField(null=True)
    # Percentage: of the credit, rounded down.
    percent = models.DecimalField(max_digits=7, decimal_places=4, null=True)
    # Sweep: what stays, in minor units.
    floor_amount = models.BigIntegerField(null=True)
    # Until the destination has this much, in minor units: the last run pays what is missing.
    target_balance = models.BigIntegerField(null=True)
    # Only if the source has more than this of its own, in minor units.
    min_balance = models.BigIntegerField(null=True)

    trigger = models.CharField(max_length=8, choices=Trigger, default=Trigger.SCHEDULE)
    # Salary: which credit of the source counts. Null and empty: any.
    salary_min_amount = models.BigIntegerField(null=True)
    salary_sender_id = models.UUIDField(null=True)
    # In the credit's description, upper and lower case alike; * stands for anything.
    salary_pattern = models.CharField(max_length=140, default="")
    # Days of the month, both inclusive; 25 to 5 goes over the month's end.
    salary_from_day = models.PositiveSmallIntegerField(null=True)
    salary_to_day = models.PositiveSmallIntegerField(null=True)

    frequency = models.CharField(
        max_length=9, choices=[(each.value, each.value) for each in Frequency], default=""
    )
    interval = models.PositiveSmallIntegerField(default=1)
    day_of_month = models.SmallIntegerField(null=True)
    rrule = models.CharField(max_length=200, default="")
    time_zone = models.CharField(max_length=64)
    # Local time of day.
    run_at = models.TimeField()
    adjustment = models.CharField(
        max_length=18,
        choices=[(each.value, each.value) for each in Adjustment],
        default=Adjustment.NONE.value,
    )
    # ISO 3166-1, with "-" and a part of it: whose holidays are no business days. Empty: nobody's.
    holidays = models.CharField(max_length=10, default="")
    start_date = models.DateField()
    # The last nominal date that may be; null: none.
    end_date = models.DateField(null=True)
    # How many runs at most; null: any number.
    max_runs = models.PositiveIntegerField(null=True)

    on_insufficient_funds = models.CharField(
        max_length=7, choices=OnInsufficientFunds, default=OnInsufficientFunds.RETRY
    )
    retry_count = models.PositiveSmallIntegerField(default=3)
    retry_interval_minutes = models.PositiveIntegerField(default=360)
    # After so many failed runs in a row it is paused; null: never.
    pause_after_failures = models.PositiveSmallIntegerField(null=True, default=3)
    catch_up = models.CharField(max_length=8, choices=CatchUp, default=CatchUp.RUN_ONCE)
    # A run that could not begin within so many days after its time is not made any more.
    max_lateness_days = models.PositiveSmallIntegerField(default=7)

    status = models.CharField(max_length=9, choices=Status, default=Status.ACTIVE)
    # Why it is paused or has failed: the code of the last refusal, or "by_request".
    status_reason = models.CharField(max_length=64, default="")
    # Of the next date, from 0; by its salary: how many runs there were.
    next_number = models.PositiveIntegerField(default=0)
    # By the rule; null: none is to come.
    next_nominal_date = models.DateField(null=True)
    # When it runs: adjusted to business days.
    next_date = models.DateField(null=True)
    next_run_at = models.DateTimeField(null=True)
    consecutive_failures = models.PositiveSmallIntegerField(default=0)
    # Its tenant's clock is a test clock, which alone makes it run.
    is_on_test_clock = models.BooleanField(default=False)
    # What it is a part of, such as "savings_plan": only through that is it changed. Empty: nothing.
    managed_by = models.CharField(max_length=16, default="")
    # Whoever manages it has seen to it that it ended.
    is_end_noted = models.BooleanField(default=False)
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="recurring_external_id_unique",
                fields=["tenant", "external_id"],
                # Who has none is in no index: each run rewrites all that its payment is in.
                condition=Q(external_id__isnull=False),
            ),
            models.CheckConstraint(
                name="recurring_one_destination",
                condition=Q(
                    kind="internal", destination_account__isnull=False, beneficiary__isnull=True
                )
                | Q(kind="external", destination_account=None, beneficiary__isnull=False),
            ),
            models.CheckConstraint(
                name="recurring_not_to_itself",
                condition=Q(destination_account=None) | ~Q(destination_account=F("source_account")),
            ),
            models.CheckConstraint(
                name="recurring_amount_of_its_type",
                condition=Q(
                    amount_type="fixed",
                    # Of NULL a comparison says neither, and a CHECK takes that for a yes.
                    amount__isnull=False,
                    amount__gt=0,
                    percent=None,
                    floor_amount=None,
                )
                | Q(
                    amount_type="percentage",
                    trigger="salary",
                    amount=None,
                    percent__isnull=False,
                    percent__gt=0,
                    percent__lte=100,
                    floor_amount=None,
                )
                | Q(
                    amount_type="sweep",
                    amount=None,
                    percent=None,
                    floor_amount__isnull=False,
                    floor_amount__gte=0,
                ),
            ),
            models.CheckConstraint(
                name="recurring_target_is_an_amount",
                condition=Q(target_balance=None)
                | Q(
                    kind="internal",
                    amount_type="fixed",
                    target_balance__gt=0,
                    target_balance__lte=BALANCE_MAX,
                ),
            ),
            models.CheckConstraint(
                name="recurring_trigger_has_its_rule",
                condition=Q(trigger="schedule") & ~Q(frequency="")
                | Q(trigger="salary", frequency="", next_run_at=None),
            ),
            models.CheckConstraint(
                name="recurring_runs_while_active",
                condition=Q(status="active")
                | Q(status="paused")
                | Q(next_run_at=None, next_date=None, next_nominal_date=None),
            ),
            models.CheckConstraint(
                name="recurring_end_after_start",
                condition=Q(end_date=None) | Q(end_date__gte=F("start_date")),
            ),
            models.CheckConstraint(
                name="recurring_counts_positive",
                condition=Q(interval__gte=1) & (Q(max_runs=None) | Q(max_runs__gte=1)),
            ),
        ]
        indexes = [
            # What is due, and nothing else: its cost is that of the rows it returns.
            models.Index(
                name="recurring_due_idx",
                fields=["next_run_at"],
                condition=Q(status="active", is_on_test_clock=False, next_run_at__isnull=False),
            ),
            models.Index(
                name="recurring_test_due_idx",
                fields=["tenant", "next_run_at"],
                condition=Q(status="active", is_on_test_clock=True, next_run_at__isnull=False),
            ),
            models.Index(
                name="recurring_salary_idx",
                fields=["source_account"],
                condition=Q(status="active", trigger="salary"),
            ),
            models.Index(name="recurring_source_idx", fields=["source_account", "id"]),
            models.Index(
                name="recurring_destination_idx",
                fields=["destination_account", "id"],
                condition=~Q(destination_account=None),
            ),
            models.Index(name="recurring_list_idx", fields=["tenant", "id"]),
            # What has ended and whoever manages it has yet to see to.
            models.Index(
                name="recurring_end_idx",
                fields=["managed_by", "is_on_test_clock", "tenant"],
                condition=ENDED_UNNOTED,
            ),
        ]

    def __str__(self) -> str:
        return self.description or f"recurring payment {self.pk}"


class RecurringRun(models.Model):
    """
    One time that a recurring payment was due, and what came of it.

    due → succeeded; due → retrying → …; external ones are sent before they succeed. The key of its
    posting is made of its own, so that it is paid once whoever works on it.
    """

    class Status(models.TextChoices):
        DUE = "due"
        RETRYING = "retrying"
        SENT = "sent"
        SUCCEEDED = "succeeded"
        SKIPPED = "skipped"
        FAILED = "failed"
        CANCELLED = "cancelled"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    recurring_payment = models.ForeignKey(
        RecurringPayment, on_delete=models.PROTECT, related_name="runs", db_index=False
    )
    # Which of its dates, from 0.
    number = models.PositiveIntegerField()
    nominal_date = models.DateField()
    # The nominal date, adjusted to business days.
    date = models.DateField()
    scheduled_for = models.DateTimeField()
    # Salary: the ledger's transaction that it is about.
    trigger_transaction_id = models.UUIDField(null=True)
    status = models.CharField(max_length=9, choices=Status, default=Status.DUE)
    # Minor units; null: not known yet.
    amount = models.BigIntegerField(null=True)
    # How often money was asked for, and how often a worker took it up: the second is counted before
    # the work, so that what kills its worker is not tried for ever.
    attempts = models.PositiveSmallIntegerField(default=0)
    deliveries = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    # Whose it is until when: a worker that has died loses it then.
    lease = models.UUIDField(null=True)
    leased_until = models.DateTimeField(null=True)
    error_code = models.CharField(max_length=64, default="")
    error_detail = models.CharField(max_length=300, default="")
    transaction_id = models.UUIDField(null=True)
    payout = models.ForeignKey(
        "payments.Payout", on_delete=models.PROTECT, null=True, db_index=False
    )
    is_on_test_clock = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                # And the list of a payment's runs, backwards.
                name="recurring_run_once_a_time",
                fields=["recurring_payment", "scheduled_for", "trigger_transaction_id"],
                nulls_distinct=False,
            ),
            models.UniqueConstraint(
                name="recurring_run_once_a_salary",
                fields=["recurring_payment", "trigger_transaction_id"],
                condition=Q(trigger_transaction_id__isnull=False),
            ),
            models.CheckConstraint(
                name="recurring_run_open_has_a_time",
                condition=Q(
                    status__in=["due", "retrying"], next_attempt_at__isnull=False, ended_at=None
                )
                | Q(status="sent", next_attempt_at=None, ended_at=None)
                | Q(
                    status__in=["succeeded", "skipped", "failed", "cancelled"],
                    next_attempt_at=None,
                    ended_at__isnull=False,
                ),
            ),
            models.CheckConstraint(
                name="recurring_run_amount_positive", condition=Q(amount=None) | Q(amount__gt=0)
            ),
        ]
        indexes = [
            models.Index(
                name="recurring_run_due_idx",
                fields=["next_attempt_at"],
                condition=Q(status__in=["due", "retrying"], is_on_test_clock=False),
            ),
            models.Index(
                name="recurring_run_test_due_idx",
                fields=["tenant", "next_attempt_at"],
                condition=Q(status__in=["due", "retrying"], is_on_test_clock=True),
            ),
            models.Index(
                name="recurring_run_payout_idx", fields=["payout"], condition=~Q(payout=None)
            ),
            models.Index(name="recurring_run_tenant_idx", fields=["tenant", "id"]),
        ]

    def __str__(self) -> str:
        return f"run of {self.scheduled_for:%Y-%m-%d}"


class CalendarDay(models.Model):
    """A day that is a holiday of the tenant's own, or that its country's is not for it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    date = models.DateField()
    name = models.CharField(max_length=100)
    is_business_day = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="calendar_day_unique", fields=["tenant", "date"]),
        ]

    def __str__(self) -> str:
        return f"{self.date} {self.name}"
