"""A hardship: a locked plan paid out before its date. One person asks for it, another decides."""

import datetime as dt
from uuid import UUID

from django.db import transaction

from accounts.services import lock_debits
from core.caller import current_caller
from core.changes import record_change
from core.database import refusing
from core.errors import AlreadyExists, InvalidRequest, InvalidState, PermissionDenied
from savings.models import EarlyRelease, SavingsPlan
from savings.queries import plan_for_update, release_of
from savings.services.moving import lock_accounts, pay_out_and_close

_S = EarlyRelease.Status
REASON_MAX = 500
_ONE_OPEN = "early_release_one_open"


def request_release(
    *, tenant_id: UUID, plan_id: UUID, reason: str, now: dt.datetime
) -> EarlyRelease:
    """
    Ask that a locked plan be paid out now. Nothing moves until somebody else agrees.

    :raises NotFound: no such plan in this tenant
    :raises PermissionDenied: no person asks
    :raises InvalidRequest: without a reason
    :raises InvalidState: the plan is not locked
    :raises AlreadyExists: one was asked for, and is not decided
    """
    actor_id = _person()
    reason = _checked(reason)
    with (
        refusing({_ONE_OPEN: AlreadyExists("One was asked for, and waits to be decided.")}),
        transaction.atomic(),
    ):
        plan = plan_for_update(tenant_id=tenant_id, plan_id=plan_id)
        if not plan.is_locked:
            raise InvalidState("The plan is not locked.")
        release = EarlyRelease.objects.create(
            tenant_id=tenant_id,
            plan=plan,
            reason=reason,
            requested_by=actor_id,
            requested_at=now,
        )
        _record(release, "requested", now, reason)
    return release


def approve_release(
    *, tenant_id: UUID, release_id: UUID, reason: str, now: dt.datetime
) -> EarlyRelease:
    """
    Agree: the plan's interest is posted until yesterday, all is paid out to its source, and it is
    closed; together or not at all.

    :raises NotFound: no such release in this tenant
    :raises PermissionDenied: no person decides, or the one who asked
    :raises InvalidRequest: without a reason
    :raises InvalidState: decided before; or the plan is not locked any more
    :raises DomainError: whatever the posting refuses, such as AccountClosed for the source
    """
    with transaction.atomic():
        release, plan = _decide(tenant_id, release_id, _S.APPROVED, reason, now)
        if not plan.is_locked:
            raise InvalidState("The plan is not locked any more.")
        lock_accounts(tenant_id, [plan], set(), now=now)
        # The plan first: as long as it is locked, the database keeps its account so.
        SavingsPlan.objects.filter(pk=plan.pk).update(status=SavingsPlan.Status.UNLOCKED)
        plan.status = SavingsPlan.Status.UNLOCKED
        lock_debits(tenant_id=tenant_id, account_ids=[plan.plan_account_id], until=None, now=now)
        pay_out_and_close(plan, plan.source_account_id, now=now, reason=release.reason)
        _record(release, "approved", now, reason, before="requested")
    return release


def reject_release(
    *, tenant_id: UUID, release_id: UUID, reason: str, now: dt.datetime
) -> EarlyRelease:
    """
    Refuse: the plan stays locked.

    :raises NotFound: no such release in this tenant
    :raises PermissionDenied: no person decides, or the one who asked
    :raises InvalidRequest: without a reason
    :raises InvalidState: decided before
    """
    with transaction.atomic():
        release, _ = _decide(tenant_id, release_id, _S.REJECTED, reason, now)
        _record(release, "rejected", now, reason, before="requested")
    return release


def _decide(
    tenant_id: UUID, release_id: UUID, status: str, reason: str, now: dt.datetime
) -> tuple[EarlyRelease, SavingsPlan]:
    actor_id = _person()
    reason = _checked(reason)
    found = release_of(tenant_id=tenant_id, release_id=release_id)
    # The plan is what two deciders meet at.
    plan = plan_for_update(tenant_id=tenant_id, plan_id=found.plan_id)
    release = EarlyRelease.objects.select_for_update(no_key=True).get(pk=found.pk)
    if release.status != _S.REQUESTED:
        raise InvalidState(f"It was {release.status} before.")
    if release.requested_by == actor_id:
        raise PermissionDenied("Somebody else decides than who asked for it.")
    release.status, release.decided_by = status, actor_id
    release.decided_at, release.decision_reason = now, reason
    release.save()
    release.plan = plan
    return release, plan


def _person() -> str:
    """
    Return who acts.

    :raises PermissionDenied: a machine, or nobody
    """
    actor_id = current_caller().actor_id or ""
    if not actor_id.startswith("user:"):
        raise PermissionDenied("People ask for an early release and decide on it, not keys.")
    return actor_id


def _checked(reason: str) -> str:
    reason = reason.strip()
    if not 0 < len(reason) <= REASON_MAX:
        raise InvalidRequest(f"A reason, of at most {REASON_MAX} characters.", field="reason")
    return reason


def _record(
    release: EarlyRelease, what: str, now: dt.datetime, reason: str, *, before: str = ""
) -> None:
    record_change(
        tenant_id=release.tenant_id,
        action=f"early_release.{what}",
        object_id=release.pk,
        now=now,
        reason=reason,
        before={"status": before} if before else None,
        after={"status": release.status},
        payload={"savings_plan_id": str(release.plan_id)},
    )
