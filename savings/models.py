"""Savings plans, the interest on them, and the exceptions from their locks."""

from django.db import models
from django.db.models import F, Q

from core.ids import new_id

# No interest is higher, and no tax takes all of it: basis points, hundredths of a percent.
RATE_MAX_BPS = 10_000
TAX_MAX_BPS = 9_999


class SavingsPlan(models.Model):
    """
    Money put aside, on an account of the plan's own.

    By itself, each month, until there is enough (`auto_withdraw`: its recurring payment does it);
    or until a date, before which it cannot be had (`date_locked`: the ledger refuses, and the
    database keeps the lock). What the plan has is what its account has.
    """

    class Kind(models.TextChoices):
        AUTO_WITHDRAW = "auto_withdraw"
        DATE_LOCKED = "date_locked"

    class Status(models.TextChoices):
        # Saving, or locked.
        ACTIVE = "active"
        # The target is reached, or the months are over.
        COMPLETED = "completed"
        # Nothing is put aside any more: the source is closed.
        STOPPED = "stopped"
        # The date has come.
        UNLOCKED = "unlocked"
        # All was paid out.
        CLOSED = "closed"

    class AtTheEnd(models.TextChoices):
        """What becomes of the money when the plan is completed or unlocked."""

        PAY_OUT = "pay_out"
        KEEP = "keep"

    class DayCount(models.TextChoices):
        # Each day is a 365th of a year, in leap years too.
        ACT_365F = "act_365f"
        # 30E/360: each month has 30 days.
        THIRTY_360 = "30_360"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    kind = models.CharField(max_length=13, choices=Kind)
    status = models.CharField(max_length=9, choices=Status, default=Status.ACTIVE)
    # Why it is stopped, or why its money could not be paid out: the code of the refusal.
    status_reason = models.CharField(max_length=64, default="")
    # What it is for.
    name = models.CharField(max_length=100)
    metadata = models.JSONField(default=dict)
    # The source's owner.
    owner_id = models.UUIDField(null=True)
    source_account = models.ForeignKey(
        "accounts.Account", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    plan_account = models.OneToOneField(
        "accounts.Account", on_delete=models.PROTECT, related_name="savings_plan"
    )
    # What puts money aside; null: date-locked.
    recurring_payment = models.OneToOneField(
        "payments.RecurringPayment", on_delete=models.PROTECT, related_name="+", null=True
    )
    currency = models.CharField(max_length=3)
    # Minor units: each month; or what was put in at first.
    amount = models.BigIntegerField()
    # Minor units; null: none. Of a plan by months it is what it is to be.
    target_amount = models.BigIntegerField(null=True)
    # For how many months it puts aside; null: until the target.
    months = models.PositiveSmallIntegerField(null=True)
    at_the_end = models.CharField(max_length=7, choices=AtTheEnd, default=AtTheEnd.PAY_OUT)
    # Date-locked: from the beginning of this day in the tenant's time zone it may be had.
    unlock_date = models.DateField(null=True)
    unlock_at = models.DateTimeField(null=True)

    annual_rate_bps = models.PositiveIntegerField(default=0)
    day_count = models.CharField(max_length=8, choices=DayCount, default=DayCount.ACT_365F)
    withholding_tax_bps = models.PositiveIntegerField(default=0)
    # The first day that bears interest; null: it never had a rate.
    interest_from = models.DateField(null=True)

    # When the sweep is to look at it: to unlock it, or to pay it out. Null: never.
    next_step_at = models.DateTimeField(null=True)
    # How often it was taken up for its next step without an end.
    step_tries = models.PositiveSmallIntegerField(default=0)
    # Its tenant's clock is a test clock.
    is_on_test_clock = models.BooleanField(default=False)
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    # By the tenant's clock.
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="savings_plan_of_its_kind",
                condition=Q(
                    kind="auto_withdraw",
                    recurring_payment__isnull=False,
                    unlock_date=None,
                    unlock_at=None,
                    status__in=["active", "completed", "stopped", "closed"],
                )
                | Q(
                    kind="date_locked",
                    recurring_payment=None,
                    target_amount=None,
                    months=None,
                    unlock_date__isnull=False,
                    unlock_at__isnull=False,
                    status__in=["active", "unlocked", "closed"],
                ),
            ),
            models.CheckConstraint(
                name="savings_plan_not_its_own_source",
                condition=~Q(plan_account=F("source_account")),
            ),
            models.CheckConstraint(
                name="savings_plan_amounts_positive",
                condition=Q(amount__gt=0)
                & (Q(target_amount=None) | Q(target_amount__gte=F("amount"))),
            ),
            models.CheckConstraint(
                name="savings_plan_rates_in_range",
                condition=Q(
                    annual_rate_bps__lte=RATE_MAX_BPS,
                    withholding_tax_bps__lte=TAX_MAX_BPS,
                    day_count__in=["act_365f", "30_360"],
                )
                & (Q(annual_rate_bps=0) | Q(interest_from__isnull=False)),
            ),
            models.CheckConstraint(
                name="savings_plan_closed_has_end",
                condition=Q(status="closed", ended_at__isnull=False, next_step_at=None)
                | ~Q(status="closed") & Q(ended_at=None),
            ),
            # Whatever happens, its day is not forgotten.
            models.CheckConstraint(
                name="savings_plan_locked_has_its_day",
                condition=~Q(kind="date_locked", status="active") | Q(next_step_at__isnull=False),
            ),
        ]
        indexes = [
            models.Index(name="savings_plan_list_idx", fields=["tenant", "id"]),
            models.Index(
                name="savings_plan_owner_idx",
                fields=["tenant", "owner_id", "id"],
                condition=Q(owner_id__isnull=False),
            ),
            models.Index(name="savings_plan_source_idx", fields=["source_account"]),
            models.Index(
                name="savings_plan_due_idx",
                fields=["next_step_at"],
                condition=Q(is_on_test_clock=False, next_step_at__isnull=False),
            ),
            models.Index(
                name="savings_plan_test_due_idx",
                fields=["tenant", "next_step_at"],
                condition=Q(is_on_test_clock=True, next_step_at__isnull=False),
            ),
            models.Index(
                name="savings_plan_calendar_idx",
                fields=["tenant", "unlock_date", "id"],
                condition=Q(kind="date_locked", status="active"),
            ),
            models.Index(
                name="savings_plan_interest_idx",
                fields=["tenant", "id"],
                condition=Q(interest_from__isnull=False) & ~Q(status="closed"),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_locked(self) -> bool:
        return self.kind == self.Kind.DATE_LOCKED and self.status == self.Status.ACTIVE


class InterestBook(models.Model):
    """
    How far interest was worked out for all plans of a tenant: one row, which its passes lock.

    A pass goes through the plans in order of id, some thousands in a transaction, and notes here
    where it is; whoever goes on after a crash goes on from there.
    """

    tenant = models.OneToOneField("identity.Tenant", on_delete=models.PROTECT, primary_key=True)
    # Every plan has an accrual for each of its days up to this one.
    accrued_to = models.DateField()
    # The pass that is under way: to which day, and after which plan; null: none is.
    accruing_to = models.DateField(null=True)
    accrued_plan_id = models.UUIDField(null=True)
    # All accruals up to this day, a month's last, were posted.
    posted_to = models.DateField()
    posting_to = models.DateField(null=True)
    posted_plan_id = models.UUIDField(null=True)
    # Of the pass under way, or the last one.
    plan_count = models.PositiveBigIntegerField(default=0)
    next_due_at = models.DateTimeField()
    is_on_test_clock = models.BooleanField(default=False)
    updated_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(
                name="interest_book_due_idx",
                fields=["next_due_at"],
                condition=Q(is_on_test_clock=False),
            ),
        ]

    def __str__(self) -> str:
        return f"interest to {self.accrued_to}"


class InterestAccrual(models.Model):
    """What one day's balance of a plan earned. Never changed; a million are written a night."""

    pk = models.CompositePrimaryKey("plan_id", "date")
    # The SQL of the migrations keeps what a foreign key would, for a whole statement at once.
    plan = models.ForeignKey(
        SavingsPlan,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="accruals",
    )
    tenant_id = models.UUIDField()
    date = models.DateField()
    # When the day ended: the tenant may move to another time zone later.
    ends_at = models.DateTimeField()
    # At that moment, in minor units, by when entries were booked.
    balance = models.BigIntegerField()
    annual_rate_bps = models.PositiveIntegerField()
    day_count = models.CharField(max_length=8, choices=SavingsPlan.DayCount)
    # Minor units, to twelve decimals.
    amount = models.DecimalField(max_digits=32, decimal_places=12)

    def __str__(self) -> str:
        return f"interest of {self.date}"


class InterestPosting(models.Model):
    """
    The interest of a plan's days that were posted together: their accruals' sum, rounded once.

    What rounding leaves is carried on to the next one.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    plan = models.ForeignKey(
        SavingsPlan, on_delete=models.PROTECT, related_name="interest_postings", db_index=False
    )
    # Both inclusive.
    period_from = models.DateField()
    period_to = models.DateField()
    # Minor units, to twelve decimals: the accruals' sum, what the last posting left, what this one
    # leaves (from -0.5 to 0.5, or all that was too little).
    accrued = models.DecimalField(max_digits=32, decimal_places=12)
    carried_in = models.DecimalField(max_digits=32, decimal_places=12)
    carried_out = models.DecimalField(max_digits=32, decimal_places=12)
    # Minor units: before tax, and the tax of it, rounded down.
    amount = models.BigIntegerField()
    tax_bps = models.PositiveIntegerField()
    tax = models.BigIntegerField()
    # Null: nothing to post.
    transaction_id = models.UUIDField(null=True)
    # By the tenant's clock.
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="interest_posted_once", fields=["plan", "period_to"]),
            models.CheckConstraint(
                name="interest_posting_adds_up",
                condition=Q(
                    accrued=F("amount") + F("carried_out") - F("carried_in"),
                    amount__gte=0,
                    tax__gte=0,
                    period_to__gte=F("period_from"),
                )
                & (
                    Q(amount=0, tax=0, transaction_id=None)
                    | Q(amount__gt=0, tax__lt=F("amount"), transaction_id__isnull=False)
                ),
            ),
        ]
        indexes = [models.Index(name="interest_posting_tenant_idx", fields=["tenant", "id"])]

    def __str__(self) -> str:
        return f"interest to {self.period_to}"


class EarlyRelease(models.Model):
    """
    A hardship: a locked plan is to be paid out before its date. One person asks, another decides.
    """

    class Status(models.TextChoices):
        REQUESTED = "requested"
        APPROVED = "approved"
        REJECTED = "rejected"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    plan = models.ForeignKey(
        SavingsPlan, on_delete=models.PROTECT, related_name="early_releases", db_index=False
    )
    status = models.CharField(max_length=9, choices=Status, default=Status.REQUESTED)
    reason = models.CharField(max_length=500)
    # Principal.actor_id of each.
    requested_by = models.CharField(max_length=64)
    requested_at = models.DateTimeField()
    decided_by = models.CharField(max_length=64, default="")
    decided_at = models.DateTimeField(null=True)
    decision_reason = models.CharField(max_length=500, default="")

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="early_release_by_two_people",
                condition=Q(status="requested", decided_by="", decided_at=None)
                | Q(
                    status__in=["approved", "rejected"],
                    decided_at__isnull=False,
                    decided_by__startswith="user:",
                )
                & ~Q(decided_by=F("requested_by")),
            ),
            models.CheckConstraint(
                name="early_release_has_its_reason",
                condition=~Q(reason="") & Q(requested_by__startswith="user:"),
            ),
            models.UniqueConstraint(
                name="early_release_one_open",
                fields=["plan"],
                condition=Q(status="requested"),
            ),
        ]
        indexes = [
            models.Index(name="early_release_tenant_idx", fields=["tenant", "id"]),
            models.Index(name="early_release_plan_idx", fields=["plan", "id"]),
        ]

    def __str__(self) -> str:
        return f"early release of {self.plan_id}"
