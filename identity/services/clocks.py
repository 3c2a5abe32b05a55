"""Test clocks: a tenant without live credentials may have its own time, and move it on."""

import datetime as dt
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Greatest

from core.calendars.recurrence import LAST_DAY
from core.changes import record_change
from core.clock import Advanced, followers
from core.database import refusing
from core.errors import DomainError, InvalidRequest, InvalidState
from identity.models import ApiKey, Tenant

# In one call; a year of daily payments is 365 steps, and each has its runs.
ADVANCE_MAX = dt.timedelta(days=5 * 366)
RUNS_MAX = 20_000
STEPS_MAX = 5_000
# "fl" and "cl" in letters' numbers; with the tenant: one moves its clock at a time.
_LOCK = 0x666C636C


def start_test_clock(*, tenant_id: UUID, at: dt.datetime | None, now: dt.datetime) -> Tenant:
    """
    Give the tenant a clock of its own, for good; it shows `at`, or what the time is. One that it
    has stays as it is, unless `at` asks for another time.

    From then on, what falls due by the calendar does so by this clock, and when it is moved on.

    :raises InvalidState: it has live credentials; or it has such a clock, and `at` is given
    :raises InvalidRequest: more than five years from now
    """
    time = at or now
    if abs(time - now) > ADVANCE_MAX:
        raise InvalidRequest("At most five years from now.", field="now")
    with refusing(_refusals()), transaction.atomic():
        tenant = Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)
        if tenant.test_clock is not None:
            if at is None:
                return tenant
            raise InvalidState(f"Its clock shows {tenant.test_clock.isoformat()}; move it on.")
        if ApiKey.objects.filter(
            tenant_id=tenant_id, mode=ApiKey.Mode.LIVE, revoked_at=None
        ).exists():
            raise _refusals()["test_clock_without_live_keys"]
        for follower in followers().values():
            if obstacle := follower.obstacle(tenant_id):
                raise InvalidState(obstacle)
        tenant.test_clock = time
        tenant.save(update_fields=["test_clock"])
        for follower in followers().values():
            follower.begin(tenant_id)
        record_change(
            tenant_id=tenant_id,
            action="test_clock.started",
            object_id=tenant_id,
            now=now,
            after={"test_clock": time},
        )
    return tenant


def advance_test_clock(*, tenant_id: UUID, to: dt.datetime, now: dt.datetime) -> Advanced:
    """
    Move the tenant's clock on, and do what falls due on the way, each at its time.

    After 20,000 runs it stops where it is and says so, and where a run's worker has died: call
    again to go on. What was done is done, whatever stops it.

    :raises InvalidState: no test clock, or somebody else moves it just now
    :raises InvalidRequest: back in time, or more than five years at once
    """
    # A caller's transaction keeps the lock until it ends, and could not let it go once it failed.
    is_inside = connection.in_atomic_block
    if not _lock("pg_try_advisory_xact_lock" if is_inside else "pg_try_advisory_lock", tenant_id):
        raise InvalidState("Its clock is being moved on. Wait until that has ended.")
    try:
        return _advance(tenant_id, to, now)
    finally:
        if not is_inside:
            _lock("pg_advisory_unlock", tenant_id)


def _lock(act: str, tenant_id: UUID) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {act}(%s, hashtext(%s))", [_LOCK, str(tenant_id)])
        [is_done] = cursor.fetchone() or [False]
    return bool(is_done)


def _refusals() -> dict[str, DomainError]:
    return {
        "test_clock_without_live_keys": InvalidState(
            "It has live API keys: its time is the real one."
        ),
        "test_clock_without_live_gateway": InvalidState(
            "It has a live gateway: its time is the real one."
        ),
    }


def _advance(tenant_id: UUID, to: dt.datetime, now: dt.datetime) -> Advanced:
    began = Tenant.objects.get(pk=tenant_id).test_clock
    if began is None:
        raise InvalidState("It has no test clock: start one.")
    if to < began:
        raise InvalidRequest(f"It shows {began.isoformat()}; time goes forward.", field="to")
    if to - began > ADVANCE_MAX:
        raise InvalidRequest("At most five years at once.", field="to")
    if to.date() > LAST_DAY:
        raise InvalidRequest(f"Dates go to {LAST_DAY}.", field="to")
    runs = dict.fromkeys(followers(), 0)
    time, is_complete = began, False
    # First at the time that it shows: what came since it was moved counts as of then.
    for _ in range(STEPS_MAX):
        done = 0
        for name, follower in followers().items():
            count = follower.run_due(tenant_id, time, now)
            runs[name] += count
            done += count
        due = _next_due(tenant_id)
        is_overdue = due is not None and due <= time
        is_complete = time >= to and not is_overdue
        # Overdue, and nothing done: a worker that has died holds it for a minute yet.
        if is_complete or sum(runs.values()) >= RUNS_MAX or (is_overdue and not done):
            break
        if not is_overdue:
            time = _set(tenant_id, min(due or to, to))
    with transaction.atomic():
        record_change(
            tenant_id=tenant_id,
            action="test_clock.advanced",
            object_id=tenant_id,
            now=now,
            before={"test_clock": began},
            after={"test_clock": time, "runs": runs},
        )
    return Advanced(time, is_complete, runs)


def _next_due(tenant_id: UUID) -> dt.datetime | None:
    due = [follower.next_due(tenant_id) for follower in followers().values()]
    return min((each for each in due if each is not None), default=None)


def _set(tenant_id: UUID, time: dt.datetime) -> dt.datetime:
    Tenant.objects.filter(pk=tenant_id).update(test_clock=Greatest(F("test_clock"), Value(time)))
    found = Tenant.objects.values_list("test_clock", flat=True).get(pk=tenant_id)
    return found or time
