"""Recurring payments as their owners see them: made, changed, paused, resumed, foreseen."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.models import Account
from core.calendars.business_days import Adjustment
from core.calendars.rules import Frequency
from core.calendars.zones import zone_of
from core.changes import record_change
from core.database import refusing
from core.errors import AlreadyExists, InvalidRequest, InvalidState
from core.ids import new_id
from core.jobs import ring
from core.money import AMOUNT_MAX, BALANCE_MAX
from core.versions import refuse_unless_as_seen
from identity.queries import tenant_and_its_clock
from ledger.queries import customers_account
from payments.models import RecurringPayment
from payments.queries import recurring_payment_for_update, runs_of
from payments.services.payouts import Beneficiary, checked_beneficiary
from payments.services.recurring.dates import (
    Occurrence,
    calendar_of,
    days_of,
    occurrences,
    set_next,
)
from payments.services.recurring.due import RUNS_TASK, write_due
from payments.services.recurring.salary import begin_following
from payments.services.recurring.states import cancel_open_runs, complete_ended

_P = RecurringPayment
_S = RecurringPayment.Status
# When nothing else is said: after the night's work, before people look.
RUN_AT = dt.time(6, 0)
# That callers may ask for.
PREVIEW_MAX = 100
YEARS_MAX = 50
RETRIES_MAX = 30
_TAKEN = "recurring_external_id_unique"


@dataclass(frozen=True, slots=True)
class Salary:
    """Which incoming credit counts as a salary: all that is given must hold."""

    # Minor units.
    min_amount: int | None = None
    # The account it comes from.
    sender_id: UUID | None = None
    # In its description, upper and lower case alike; * stands for anything.
    pattern: str = ""
    # Days of the month, both inclusive; 25 to 5 goes over the month's end.
    from_day: int | None = None
    to_day: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """All of a recurring payment that may change later. Amounts are minor units."""

    amount_type: str = _P.AmountType.FIXED
    amount: int | None = None
    percent: Decimal | None = None
    floor_amount: int | None = None
    # Of the destination: it is paid until there is so much.
    target_balance: int | None = None
    min_balance: int | None = None
    salary: Salary | None = None
    frequency: str = ""
    interval: int = 1
    day_of_month: int | None = None
    rrule: str = ""
    # None: the tenant's.
    time_zone: str | None = None
    run_at: dt.time = RUN_AT
    adjustment: str = Adjustment.NONE
    holidays: str = ""
    # None: today.
    start_date: dt.date | None = None
    end_date: dt.date | None = None
    max_runs: int | None = None
    on_insufficient_funds: str = _P.OnInsufficientFunds.RETRY
    retry_count: int = 3
    retry_interval_minutes: int = 360
    pause_after_failures: int | None = 3
    catch_up: str = _P.CatchUp.RUN_ONCE
    max_lateness_days: int = 7
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewRecurringPayment:
    source_account_id: UUID
    currency: str
    terms: Terms
    # One of the two.
    destination_account_id: UUID | None = None
    beneficiary: Beneficiary | None = None
    gateway: str = ""
    external_id: str | None = None
    # What it is a part of; empty: nothing.
    managed_by: str = ""


def create_recurring_payment(
    *,
    tenant_id: UUID,
    new: NewRecurringPayment,
    now: dt.datetime,
    owner_id: UUID | None = None,
) -> RecurringPayment:
    """
    Have a payment made again and again.

    :raises InvalidRequest: dates, a rule, or an amount that cannot be; destination is the source
    :raises NotFound: no such account in this tenant, or the source is not the owner's
    :raises CurrencyMismatch: an account has another currency
    :raises AccountClosed: an account is closed
    :raises AlreadyExists: another has the external id
    """
    with refusing({_TAKEN: _taken()}), transaction.atomic():
        tenant = tenant_and_its_clock(tenant_id=tenant_id)
        payment = _P(
            id=new_id(),
            tenant=tenant,
            kind=_P.Kind.INTERNAL if new.beneficiary is None else _P.Kind.EXTERNAL,
            currency=new.currency,
            trigger=_P.Trigger.SCHEDULE if new.terms.salary is None else _P.Trigger.SALARY,
            gateway=new.gateway,
            external_id=new.external_id,
            managed_by=new.managed_by,
            is_on_test_clock=tenant.test_clock is not None,
            created_at=now,
        )
        payment.source_account = _account(payment, new.source_account_id, owner_id)
        _set_destination(payment, new)
        _set_terms(payment, new.terms, now, is_new=True)
        payment.save(force_insert=True)
        if payment.trigger == _P.Trigger.SALARY:
            begin_following()
        _record(payment, "created", now, after=_told(payment))
    return payment


def change_recurring_payment(
    *,
    tenant_id: UUID,
    payment_id: UUID,
    changes: Mapping[str, Any],
    now: dt.datetime,
    owner_id: UUID | None = None,
    as_seen: str | None = None,
    managed_by: str = "",
) -> RecurringPayment:
    """
    Change the terms that are named (fields of Terms), for what comes after.

    Another rule counts its dates anew: from the start date that is given, from the one to come, or
    from today. All else of its calendar moves the dates that it has. No day is paid twice. What is
    due by now is paid as it was.

    :raises NotFound: no such recurring payment in this tenant
    :raises InvalidState: it has ended, or is part of something else than `managed_by` says
    :raises InvalidRequest: as create_recurring_payment
    :raises PreconditionFailed: its terms are not the ones `as_seen`
    """
    with transaction.atomic():
        payment = recurring_payment_for_update(
            tenant_id=tenant_id, payment_id=payment_id, owner_id=owner_id
        )
        _refuse_unless_managed_by(payment, managed_by)
        refuse_unless_as_seen(str(payment.version), as_seen)
        if payment.status not in (_S.ACTIVE, _S.PAUSED):
            raise InvalidState(f"It is {payment.status}.")
        before = _told(payment)
        time = payment.tenant.time_at(now)
        if payment.status == _S.ACTIVE and write_due(payment, now=time):
            ring(RUNS_TASK)
        terms = _terms_of(payment)
        values = {each.name: getattr(terms, each.name) for each in fields(terms)}
        if ("salary" in changes) and (changes["salary"] is None) != (terms.salary is None):
            raise InvalidRequest("It keeps what makes it run; make another.", field="trigger")
        is_anew = payment.trigger == _P.Trigger.SCHEDULE and any(
            changes[name] != values[name] for name in _RULE & changes.keys()
        )
        if is_anew:
            zone = zone_of(changes.get("time_zone") or payment.time_zone)
            values["start_date"] = max(payment.start_date, time.astimezone(zone).date())
            if terms.max_runs is not None:
                values["max_runs"] = terms.max_runs - payment.next_number
        _set_terms(payment, Terms(**{**values, **changes}), now, is_new=is_anew)
        payment.version += 1
        payment.save()
        if payment.trigger == _P.Trigger.SCHEDULE and payment.next_run_at is None:
            complete_ended([payment.pk], time)
            payment.refresh_from_db(fields=["status", "updated_at"])
        after = _told(payment)
        names = [name for name in after if after[name] != before[name]]
        _record(
            payment,
            "changed",
            now,
            before={name: before[name] for name in names},
            after={name: after[name] for name in names},
        )
    return payment


def pause_recurring_payment(
    *,
    tenant_id: UUID,
    payment_id: UUID,
    reason: str,
    now: dt.datetime,
    owner_id: UUID | None = None,
    managed_by: str = "",
) -> RecurringPayment:
    """
    Have nothing paid until it is resumed; what is due and not paid yet is not paid any more.

    :raises NotFound: no such recurring payment in this tenant
    :raises InvalidState: it has ended, or is part of something else than `managed_by` says
    """
    return _stop(tenant_id, payment_id, owner_id, _S.PAUSED, reason, now, managed_by)


def cancel_recurring_payment(
    *,
    tenant_id: UUID,
    payment_id: UUID,
    reason: str,
    now: dt.datetime,
    owner_id: UUID | None = None,
    managed_by: str = "",
) -> RecurringPayment:
    """
    Have nothing paid any more.

    :raises NotFound: no such recurring payment in this tenant
    :raises InvalidState: it has ended otherwise, or is part of something else than `managed_by`
        says
    """
    return _stop(tenant_id, payment_id, owner_id, _S.CANCELLED, reason, now, managed_by)


def resume_recurring_payment(
    *,
    tenant_id: UUID,
    payment_id: UUID,
    now: dt.datetime,
    reason: str = "",
    owner_id: UUID | None = None,
    managed_by: str = "",
) -> RecurringPayment:
    """
    Go on with the next date from now; those that the pause has passed are not paid.

    :raises NotFound: no such recurring payment in this tenant
    :raises InvalidState: it is not paused, or is part of something else than `managed_by` says
    """
    with transaction.atomic():
        payment = recurring_payment_for_update(
            tenant_id=tenant_id, payment_id=payment_id, owner_id=owner_id
        )
        _refuse_unless_managed_by(payment, managed_by)
        if payment.status == _S.ACTIVE:
            return payment
        if payment.status != _S.PAUSED:
            raise InvalidState(f"It is {payment.status}.")
        payment.status, payment.status_reason = _S.ACTIVE, ""
        payment.consecutive_failures, payment.updated_at = 0, now
        _foresee(payment, payment.tenant.time_at(now))
        if payment.trigger == _P.Trigger.SCHEDULE and payment.next_run_at is None:
            payment.status = _S.COMPLETED
        payment.save()
        _record(
            payment,
            "resumed" if payment.status == _S.ACTIVE else "completed",
            now,
            before={"status": _S.PAUSED.value},
            after={"status": str(payment.status), "next_run_at": payment.next_run_at},
            reason=reason,
        )
    return payment


def note_end(*, payment_id: UUID) -> None:
    """Have it be known that whoever manages the payment has seen to its end."""
    _P.objects.filter(pk=payment_id).update(is_end_noted=True)


def preview(payment: RecurringPayment, *, count: int) -> list[Occurrence]:
    """Return the next dates on which it will run, `count` at most; none of one by salary."""
    if payment.trigger == _P.Trigger.SALARY or payment.next_run_at is None:
        return []
    own_days = days_of(payment.tenant_id)
    coming = occurrences(
        payment, own_days, number=payment.next_number, nominal=payment.next_nominal_date
    )
    return list(islice(coming, count))


# What the n-th date is counted by.
_RULE = {"frequency", "interval", "day_of_month", "rrule", "start_date"}


def _stop(
    tenant_id: UUID,
    payment_id: UUID,
    owner_id: UUID | None,
    status: RecurringPayment.Status,
    reason: str,
    now: dt.datetime,
    managed_by: str,
) -> RecurringPayment:
    with transaction.atomic():
        payment = recurring_payment_for_update(
            tenant_id=tenant_id, payment_id=payment_id, owner_id=owner_id
        )
        _refuse_unless_managed_by(payment, managed_by)
        if payment.status == status:
            return payment
        if payment.status not in (_S.ACTIVE, _S.PAUSED):
            raise InvalidState(f"It is {payment.status}.")
        before, payment.status = payment.status, status
        payment.status_reason, payment.updated_at = "by_request", now
        if status == _S.CANCELLED:
            set_next(payment, None)
        payment.save()
        cancel_open_runs(payment.pk, code=status.value, now=payment.tenant.time_at(now))
        _record(
            payment,
            status.value,
            now,
            before={"status": before},
            after={"status": status.value},
            reason=reason,
        )
    return payment


def _refuse_unless_managed_by(payment: RecurringPayment, manager: str) -> None:
    if payment.managed_by != manager:
        what = payment.managed_by.replace("_", " ")
        raise InvalidState(f"It is part of a {what}: change that.")


def _account(payment: RecurringPayment, account_id: UUID, owner_id: UUID | None) -> Account:
    return customers_account(
        tenant_id=payment.tenant_id,
        account_id=account_id,
        currency=payment.currency,
        owner_id=owner_id,
    )


def _set_destination(payment: RecurringPayment, new: NewRecurringPayment) -> None:
    if (new.destination_account_id is None) == (new.beneficiary is None):
        raise InvalidRequest(
            "Either an account here or a beneficiary elsewhere.", field="destination_account_id"
        )
    if new.beneficiary is not None:
        checked = checked_beneficiary(new.beneficiary)
        payment.beneficiary = {each.name: getattr(checked, each.name) for each in fields(checked)}
    elif new.destination_account_id is not None:
        if new.destination_account_id == new.source_account_id:
            raise InvalidRequest("It is the source.", field="destination_account_id")
        payment.destination_account = _account(payment, new.destination_account_id, None)


def _set_terms(payment: RecurringPayment, terms: Terms, now: dt.datetime, *, is_new: bool) -> None:
    """Check the terms and put them on the payment; new ones count from their start."""
    tenant = payment.tenant
    time = tenant.time_at(now)
    payment.time_zone = terms.time_zone or tenant.time_zone
    today = time.astimezone(zone_of(payment.time_zone)).date()
    _set_amount(payment, terms)
    _set_salary(payment, terms.salary)
    calendar_of(terms.holidays, {})
    start = terms.start_date or today
    if is_new and start < today:
        raise InvalidRequest(f"{start} is past.", field="start_date")
    if start.year > today.year + YEARS_MAX:
        raise InvalidRequest(f"At most {YEARS_MAX} years ahead.", field="start_date")
    if terms.end_date is not None and terms.end_date < start:
        raise InvalidRequest("It would end before it starts.", field="end_date")
    if terms.max_runs is not None and terms.max_runs < 1:
        raise InvalidRequest("At least one.", field="count")
    names = [
        *("frequency", "interval", "day_of_month", "rrule", "run_at", "adjustment", "holidays"),
        *("end_date", "max_runs", "on_insufficient_funds", "retry_count"),
        *("retry_interval_minutes", "pause_after_failures", "catch_up", "max_lateness_days"),
        "description",
    ]
    for name in names:
        setattr(payment, name, getattr(terms, name))
    payment.metadata = dict(terms.metadata)
    payment.start_date, payment.updated_at = start, now
    if payment.trigger == _P.Trigger.SALARY:
        if terms.frequency:
            raise InvalidRequest("It runs when a salary comes.", field="frequency")
        return
    if terms.frequency not in Frequency.__members__.values():
        raise InvalidRequest(f"The frequency is one of {', '.join(Frequency)}.", field="frequency")
    if is_new:
        payment.next_number = 0
        payment.next_nominal_date = None
    first = _first(payment)
    if first is None and is_new:
        raise InvalidRequest("It would never run: no date lies before its end.", field="end_date")
    set_next(payment, first)


def _first(payment: RecurringPayment) -> Occurrence | None:
    """Return the next date, of the terms as they are now, on a day that had no run yet."""
    own_days = days_of(payment.tenant_id)
    last = None
    if not payment._state.adding:
        last = runs_of(payment).values_list("date", flat=True).first()
    limit, number = payment.max_runs, payment.next_number
    if limit is not None and number >= limit:
        return None
    # A day that is passed over because it had its run counts as none.
    payment.max_runs = None
    coming = occurrences(
        payment, own_days, number=number, nominal=payment.next_nominal_date, after=last
    )
    first = next(coming, None)
    if limit is not None:
        payment.max_runs = limit + (first.number - number if first is not None else 0)
    return first


def _set_amount(payment: RecurringPayment, terms: Terms) -> None:
    given = {"amount": terms.amount, "percent": terms.percent, "floor_amount": terms.floor_amount}
    wanted = {
        _P.AmountType.FIXED: "amount",
        _P.AmountType.PERCENTAGE: "percent",
        _P.AmountType.SWEEP: "floor_amount",
    }[_P.AmountType(terms.amount_type)]
    for name, value in given.items():
        if (value is not None) != (name == wanted):
            raise InvalidRequest(
                f"An amount that is {terms.amount_type} has {wanted}, and no other.", field=name
            )
    if terms.amount_type == _P.AmountType.PERCENTAGE and terms.salary is None:
        raise InvalidRequest("It is a percentage of a salary: say which.", field="amount_type")
    if terms.amount is not None and not 0 < terms.amount <= AMOUNT_MAX:
        raise InvalidRequest(f"From 1 to {AMOUNT_MAX} minor units.", field="amount")
    if terms.percent is not None and not 0 < terms.percent <= 100:
        raise InvalidRequest("Above 0, at most 100.", field="percent")
    if terms.percent is not None and terms.percent != round(terms.percent, 4):
        raise InvalidRequest("At most four decimal places.", field="percent")
    if terms.target_balance is not None and not (
        terms.amount_type == _P.AmountType.FIXED
        and payment.kind == _P.Kind.INTERNAL
        and 0 < terms.target_balance <= BALANCE_MAX
    ):
        raise InvalidRequest(
            "Above 0, of a fixed amount to an account here.", field="target_balance"
        )
    if terms.floor_amount is not None and not 0 <= terms.floor_amount <= AMOUNT_MAX:
        raise InvalidRequest(f"From 0 to {AMOUNT_MAX} minor units.", field="floor_amount")
    payment.amount_type = terms.amount_type
    payment.amount, payment.percent = terms.amount, terms.percent
    payment.floor_amount, payment.min_balance = terms.floor_amount, terms.min_balance
    payment.target_balance = terms.target_balance


def _set_salary(payment: RecurringPayment, salary: Salary | None) -> None:
    if salary is None:
        return
    if (salary.from_day is None) != (salary.to_day is None):
        raise InvalidRequest("A window has two days.", field="trigger.to_day")
    for name, day in (("from_day", salary.from_day), ("to_day", salary.to_day)):
        if day is not None and not 1 <= day <= 31:
            raise InvalidRequest("A day of the month: 1 to 31.", field=f"trigger.{name}")
    if salary.sender_id is not None and salary.sender_id == payment.destination_account_id:
        # Money would go round for ever.
        raise InvalidRequest("It would go back to its sender.", field="trigger.sender_account_id")
    payment.salary_min_amount, payment.salary_sender_id = salary.min_amount, salary.sender_id
    payment.salary_pattern = salary.pattern
    payment.salary_from_day, payment.salary_to_day = salary.from_day, salary.to_day


def _terms_of(payment: RecurringPayment) -> Terms:
    salary = None
    if payment.trigger == _P.Trigger.SALARY:
        salary = Salary(
            payment.salary_min_amount,
            payment.salary_sender_id,
            payment.salary_pattern,
            payment.salary_from_day,
            payment.salary_to_day,
        )
    names = [each.name for each in fields(Terms) if each.name != "salary"]
    return Terms(salary=salary, **{name: getattr(payment, name) for name in names})


def _foresee(payment: RecurringPayment, time: dt.datetime) -> None:
    """Set on the payment its first date after the time."""
    if payment.trigger == _P.Trigger.SALARY:
        return
    own_days = days_of(payment.tenant_id)
    if payment.next_nominal_date is None:
        return
    coming = occurrences(
        payment, own_days, number=payment.next_number, nominal=payment.next_nominal_date
    )
    set_next(payment, next((each for each in coming if each.run_at > time), None))


def _told(payment: RecurringPayment) -> dict[str, Any]:
    """Return what an audit record shows of it."""
    names = [each.name for each in fields(Terms) if each.name not in ("salary", "metadata")]
    return {name: getattr(payment, name) for name in names}


def _taken() -> AlreadyExists:
    return AlreadyExists("A recurring payment with this external id exists.")


def _record(payment: RecurringPayment, what: str, now: dt.datetime, **change: Any) -> None:
    record_change(
        tenant_id=payment.tenant_id,
        action=f"recurring_payment.{what}",
        object_id=payment.pk,
        now=now,
        **change,
    )
