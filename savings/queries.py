"""Reads of savings plans, scoped to a tenant and, for a customer, to what is theirs."""

from datetime import date
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

from django.db.models import (
    BigIntegerField,
    DecimalField,
    Expression,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
)
from django.db.models.functions import Coalesce

from core.errors import NotFound
from payments.models import RecurringRun
from payments.queries import runs_of
from savings.errors import SavingsPlanLocked
from savings.models import EarlyRelease, InterestAccrual, InterestPosting, SavingsPlan

# What people see of a plan's status.
STATES = ["active", "paused", "completed", "stopped", "unlocked", "closed"]
_NO_PLAN = "No such savings plan."
_PAUSED = Q(status="active", recurring_payment__status="paused")


def plans_of(*, tenant_id: UUID, owner_id: UUID | None = None) -> QuerySet[SavingsPlan]:
    """Return the tenant's plans, of the owner's if one is given, with what shows their state."""
    found = SavingsPlan.objects.filter(tenant_id=tenant_id)
    if owner_id is not None:
        found = found.filter(owner_id=owner_id)
    return found.select_related("plan_account", "recurring_payment")


def with_figures(plans: QuerySet[SavingsPlan]) -> QuerySet[Any]:
    """
    Return the plans with their `interest` and `tax`, in minor units, and `accrued_interest` (see
    interest_in_waiting): however many plans there are, in one statement.
    """
    posted = InterestPosting.objects.filter(plan=OuterRef("pk")).values("plan")
    last = InterestPosting.objects.filter(plan=OuterRef("pk")).order_by("-period_to")
    last_of_its_plan = InterestPosting.objects.filter(plan=OuterRef(OuterRef("pk")))
    last_day = last_of_its_plan.order_by("-period_to").values("period_to")[:1]
    unposted = InterestAccrual.objects.filter(
        plan=OuterRef("pk"), date__gt=Coalesce(Subquery(last_day), Value(date.min))
    ).values("plan")
    exact = DecimalField(max_digits=32, decimal_places=12)
    return plans.annotate(
        interest=_or_none_at_all(posted.annotate(sum=Sum("amount")), BigIntegerField()),
        tax=_or_none_at_all(posted.annotate(sum=Sum("tax")), BigIntegerField()),
        accrued_interest=_or_none_at_all(unposted.annotate(sum=Sum("amount")), exact)
        + Coalesce(Subquery(last.values("carried_out")[:1]), Value(Decimal(0), exact)),
    )


def _or_none_at_all(sums: QuerySet[Any, Any], field: Any) -> Expression:
    """Return the `sum` of the rows, which is 0 where there are none."""
    return Coalesce(Subquery(sums.order_by().values("sum")), Value(0), output_field=field)


def months_behind(plan: SavingsPlan) -> int:
    """Return how many of the plan's months are over."""
    payment = plan.recurring_payment
    if plan.months is None or payment is None or payment.max_runs is None:
        return 0
    # Another day of the month counts anew what was left then.
    return plan.months - (payment.max_runs - payment.next_number)


def progress_of(plan: SavingsPlan) -> Decimal | None:
    """
    Return how much of a plan's target it has, or else how many of its months are over: in percent,
    rounded down to a tenth. None: it has neither, or it is closed.
    """
    if plan.recurring_payment is None or plan.status == SavingsPlan.Status.CLOSED:
        return None
    if plan.status == SavingsPlan.Status.COMPLETED:
        return Decimal(100)
    if plan.target_amount is not None:
        done, all_of_it = plan.plan_account.balance, plan.target_amount
    elif plan.months is not None:
        done, all_of_it = months_behind(plan), plan.months
    else:
        return None
    tenths = 1_000 if done >= all_of_it else done * 1_000 // all_of_it
    return Decimal(max(tenths, 0)) / 10


def in_state(plans: QuerySet[SavingsPlan], state: str) -> QuerySet[SavingsPlan]:
    """Return those in the state that people see: `paused` is one whose payment is."""
    if state == "paused":
        return plans.filter(_PAUSED)
    found = plans.filter(status=state)
    # Not by exclude: what has no recurring payment is not paused.
    return found.filter(~_PAUSED) if state == SavingsPlan.Status.ACTIVE else found


def state_of(plan: SavingsPlan) -> str:
    """Return the plan's status as people see it: `paused` where nothing is put aside for now."""
    payment = plan.recurring_payment
    if plan.status == SavingsPlan.Status.ACTIVE and payment is not None:
        return "paused" if payment.status == "paused" else "active"
    return str(plan.status)


def plan_of(*, tenant_id: UUID, plan_id: UUID, owner_id: UUID | None = None) -> SavingsPlan:
    """
    Return the plan.

    :raises NotFound: unknown, another tenant's, or not the owner's
    """
    return one_of(plans_of(tenant_id=tenant_id, owner_id=owner_id), plan_id)


def one_of(plans: QuerySet[SavingsPlan], plan_id: UUID) -> SavingsPlan:
    """
    Return the plan, if it is one of these.

    :raises NotFound: it is not
    """
    plan = plans.filter(pk=plan_id).first()
    if plan is None:
        raise NotFound(_NO_PLAN)
    return plan


def unlocks_of(
    *,
    tenant_id: UUID,
    first: date,
    last: date,
    after: tuple[date, UUID] | None = None,
) -> QuerySet[SavingsPlan]:
    """
    Return the tenant's locked plans that unlock from the first day to the last, the next one first;
    of them those behind the day and id of `after`.
    """
    found = SavingsPlan.objects.filter(
        tenant_id=tenant_id,
        kind=SavingsPlan.Kind.DATE_LOCKED,
        status=SavingsPlan.Status.ACTIVE,
        unlock_date__range=(first, last),
    )
    if after is not None:
        day, plan_id = after
        found = found.filter(unlock_date__gte=day)
        found = found.filter(Q(unlock_date__gt=day) | Q(pk__gt=plan_id))
    return found.select_related("plan_account", "source_account").order_by("unlock_date", "pk")


def lock_of_account(tenant_id: UUID, account_id: UUID) -> SavingsPlanLocked | None:
    """Return why the account is locked for debits, if a plan is the reason."""
    plan = SavingsPlan.objects.filter(
        tenant_id=tenant_id,
        plan_account_id=account_id,
        kind=SavingsPlan.Kind.DATE_LOCKED,
        status=SavingsPlan.Status.ACTIVE,
    ).first()
    if plan is None or plan.unlock_date is None:
        return None
    return SavingsPlanLocked(plan.unlock_date)


def plan_for_update(*, tenant_id: UUID, plan_id: UUID, owner_id: UUID | None = None) -> SavingsPlan:
    """
    Return the plan, locked until the transaction ends: before its accounts and its payment.

    :raises NotFound: unknown, another tenant's, or not the owner's
    """
    found = SavingsPlan.objects.filter(tenant_id=tenant_id, pk=plan_id)
    if owner_id is not None:
        found = found.filter(owner_id=owner_id)
    locked = found.select_for_update(no_key=True, of=("self",)).select_related("tenant").first()
    if locked is None:
        raise NotFound(_NO_PLAN)
    return locked


def plan_runs(plan: SavingsPlan) -> QuerySet[RecurringRun]:
    """Return the runs of the plan's recurring payment; none of a locked one."""
    if plan.recurring_payment is None:
        return RecurringRun.objects.none()
    return runs_of(plan.recurring_payment)


def postings_of(plan: SavingsPlan) -> QuerySet[InterestPosting]:
    return InterestPosting.objects.filter(plan=plan)


def accruals_of(plan: SavingsPlan, *, first: date, last: date) -> QuerySet[InterestAccrual]:
    """Return what each day from the first to the last has earned, in order."""
    return InterestAccrual.objects.filter(plan=plan, date__range=(first, last)).order_by("date")


def interest_in_waiting(plan: SavingsPlan) -> Decimal:
    """Return what was accrued, and carried on, and is not posted yet: in minor units."""
    last = postings_of(plan).order_by("-period_to").first()
    accruals = InterestAccrual.objects.filter(plan=plan)
    if last is not None:
        accruals = accruals.filter(date__gt=last.period_to)
    accrued = accruals.aggregate(sum=Sum("amount"))["sum"] or Decimal(0)
    # The largest balances have more digits than Decimal keeps by default.
    return Context(prec=60).add(accrued, last.carried_out if last is not None else Decimal(0))


def interest_totals(plan: SavingsPlan) -> tuple[int, int]:
    """Return the interest that was posted, before tax, and the tax on it: in minor units."""
    sums = postings_of(plan).aggregate(amount=Sum("amount"), tax=Sum("tax"))
    return int(sums["amount"] or 0), int(sums["tax"] or 0)


def releases_of(
    *, tenant_id: UUID, plan_id: UUID | None = None, owner_id: UUID | None = None
) -> QuerySet[EarlyRelease]:
    found = EarlyRelease.objects.filter(tenant_id=tenant_id).select_related("plan")
    if owner_id is not None:
        found = found.filter(plan__owner_id=owner_id)
    return found if plan_id is None else found.filter(plan_id=plan_id)


def release_of(*, tenant_id: UUID, release_id: UUID, owner_id: UUID | None = None) -> EarlyRelease:
    """
    Return the early release.

    :raises NotFound: unknown, another tenant's, or of no plan of the owner's
    """
    releases = releases_of(tenant_id=tenant_id, owner_id=owner_id)
    found = releases.filter(pk=release_id).first()
    if found is None:
        raise NotFound("No such early release.")
    return found
