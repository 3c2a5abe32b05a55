"""Recurring payments, their runs and the calendar they go by, in the back office."""

import datetime as dt
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from accounts.models import Account
from core.admin import (
    Act,
    BackOfficeAdmin,
    CurrencyFilter,
    Done,
    KeysetChangeList,
    OfTenantForm,
    TenantFilter,
    badge,
    link_to,
    metadata_lines,
    minute,
    money,
    panel_on,
)
from core.errors import DomainError
from core.money import format_money
from core.permissions import Permission
from identity.models import Tenant
from payments import services
from payments.admin.columns import account_names, status_badge, transaction_link
from payments.admin.words import in_words
from payments.models import CalendarDay, Payout, RecurringPayment, RecurringRun
from payments.queries import runs_of
from payments.services import sentence_of

DATES_SHOWN = 12
RUNS_SHOWN_MAX = 20
_P = RecurringPayment
_OPEN = (_P.Status.ACTIVE, _P.Status.PAUSED)
_ADJUSTMENTS = {
    "none": "",
    "next": "to the next business day",
    "previous": "to the business day before",
    "modified_following": "to the next business day, or in the month's end to the one before",
}
_CATCH_UP = {
    _P.CatchUp.RUN_ONCE: "the last of them is paid",
    _P.CatchUp.RUN_ALL: "all of them are paid",
    _P.CatchUp.SKIP: "none of them is paid",
}


# --- Acts --------------------------------------------------------------------------------------
class _RecurringAct(Act[RecurringPayment]):
    permission = Permission.MANAGE_RECURRING_PAYMENTS
    service: Any
    done: str

    # Whether one can; of what is part of something else, only through that.
    states: ClassVar[tuple[str, ...]]

    def is_offered(self, obj: RecurringPayment) -> bool:
        return obj.status in self.states and not obj.managed_by

    def run(self, obj: RecurringPayment, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        type(self).service(
            tenant_id=obj.tenant_id,
            payment_id=obj.pk,
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done(self.done)


class Pause(_RecurringAct):
    name, label = "pause", "Pause"
    warning = (
        "Nothing is paid until it is resumed. Runs that are due or wait for another try are"
        " cancelled."
    )
    service = staticmethod(services.pause_recurring_payment)
    done = "The recurring payment is paused."
    states = (_P.Status.ACTIVE,)


class Resume(_RecurringAct):
    name, label = "resume", "Resume"
    warning = "It goes on with the next date from now. Those that the pause has passed stay unpaid."
    service = staticmethod(services.resume_recurring_payment)
    done = "The recurring payment is resumed."
    states = (_P.Status.PAUSED,)


class Cancel(_RecurringAct):
    name, label = "cancel", "Cancel"
    warning = (
        "Nothing is paid any more, and that is final: for another, make a new one. Runs that are"
        " due or wait for another try are cancelled."
    )
    is_dangerous = True
    service = staticmethod(services.cancel_recurring_payment)
    done = "The recurring payment is cancelled."
    states = _OPEN


# --- Recurring payments ------------------------------------------------------------------------
class _AccountsNamingList(KeysetChangeList):
    """Knows what the accounts of its rows are called: one query a page."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        names = _names_of(self.result_list)
        for row in self.result_list:
            row.account_names = names


@admin.register(RecurringPayment)
class RecurringPaymentAdmin(BackOfficeAdmin[RecurringPayment]):
    view_permission = Permission.VIEW_RECURRING_PAYMENTS
    list_display = ("what", "status_badge", "amount_money", "accounts", "rule", "next_run")
    list_filter = ("status", "kind", "trigger", CurrencyFilter, TenantFilter)
    search_fields = ("pk",)
    search_help_text = "A whole id, external id, or id of an account that it goes from or to."
    acts = (Pause(), Resume(), Cancel())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return _AccountsNamingList

    def search(
        self, queryset: QuerySet[RecurringPayment], text: str, found_id: UUID | None
    ) -> QuerySet[RecurringPayment]:
        if found_id is not None:
            by_id = queryset.filter(pk=found_id)
            of_account = Q(source_account_id=found_id) | Q(destination_account_id=found_id)
            return by_id if by_id.exists() else queryset.filter(of_account)
        # The tenant stands first in this index: naming them all is what makes it usable.
        return queryset.filter(tenant_id__in=Tenant.objects.values("pk"), external_id=text)

    @admin.display(description="Recurring payment")
    def what(self, obj: RecurringPayment) -> SafeString:
        named = obj.external_id or minute(obj.created_at)
        return format_html("{}<small>{}</small>", self.heading(obj), named)

    @admin.display(description="Status")
    def status_badge(self, obj: RecurringPayment) -> SafeString:
        why = in_words(obj.status_reason) if obj.status_reason else ""
        return format_html("{}<small>{}</small>", status_badge(obj.status), why)

    @admin.display(description="Amount")
    def amount_money(self, obj: RecurringPayment) -> SafeString:
        return _amount_words(obj)

    @admin.display(description="From, to")
    def accounts(self, obj: RecurringPayment) -> SafeString:
        return format_html("{}<small>to {}</small>", _source(obj), _destination(obj))

    @admin.display(description="When")
    def rule(self, obj: RecurringPayment) -> str:
        return str(capfirst(sentence_of(obj)))

    @admin.display(description="Next run, UTC")
    def next_run(self, obj: RecurringPayment) -> SafeString:
        failed = obj.consecutive_failures
        said = f"{failed} failed in a row" if failed else ""
        return format_html("{}<small>{}</small>", _next_minute(obj), said)

    def heading(self, obj: RecurringPayment) -> str:
        return obj.description or "Recurring payment"

    def status(self, obj: RecurringPayment) -> SafeString:
        return status_badge(obj.status)

    def figures(self, obj: RecurringPayment) -> list[tuple[str, str]]:
        figures = [("Amount", _amount_words(obj)), ("Next run, UTC", _next_minute(obj) or "none")]
        if obj.consecutive_failures:
            figures.append(("Failed in a row", str(obj.consecutive_failures)))
        return figures

    def facts(self, obj: RecurringPayment) -> list[tuple[str, Any]]:
        reason = in_words(obj.status_reason) if obj.status_reason else ""
        return [
            ("Why", reason),
            ("When", _when(obj)),
            ("Which salary", _salary_words(obj)),
            ("On a day off", _adjustment_words(obj)),
            ("From", _source(obj)),
            ("To", _destination(obj)),
            ("Gateway", in_words(obj.gateway) if obj.gateway else ""),
            ("Only above", _money_or_nothing(obj.min_balance, obj.currency)),
            ("First date", obj.start_date),
            ("Last date", obj.end_date),
            ("Runs at most", obj.max_runs),
            ("Not enough money", _shortage_words(obj)),
            ("After failures", _failures_words(obj)),
            ("Missed dates", _missed_words(obj)),
            ("Clock", "Its tenant's test clock" if obj.is_on_test_clock else ""),
            ("Id", obj.pk),
            ("External id", obj.external_id),
            ("Version of its terms", obj.version),
            ("Tenant", obj.tenant),
            ("Created", obj.created_at),
            ("Last changed", obj.updated_at),
            ("Metadata", metadata_lines(obj.metadata)),
        ]


@panel_on(RecurringPayment)
def coming_dates_panel(request: HttpRequest, payment: RecurringPayment) -> str:
    """Return the next dates, with what moves them; nothing for one that has none."""
    coming, refusal = [], ""
    try:
        coming = services.preview(payment, count=DATES_SHOWN) if payment.status in _OPEN else []
    except DomainError as fault:
        # Such as the holidays of a country that are not known any more.
        refusal = fault.detail
    if not coming and not refusal:
        return ""
    rows = [
        {
            "nominal": f"{each.nominal_date:%a %Y-%m-%d}",
            "date": f"{each.date:%a %Y-%m-%d}",
            "is_moved": each.date != each.nominal_date,
            "run_at": minute(each.run_at),
        }
        for each in coming
    ]
    is_paused = payment.status == _P.Status.PAUSED
    context = {
        "rows": rows,
        "time_zone": payment.time_zone,
        "is_paused": is_paused,
        "refusal": refusal,
    }
    return render_to_string("admin/coming_dates_panel.html", context)


@panel_on(RecurringPayment)
def runs_panel(request: HttpRequest, payment: RecurringPayment) -> str:
    """Return the latest runs, and what came of each."""
    runs = list(runs_of(payment)[: RUNS_SHOWN_MAX + 1])
    rows = [
        {
            "run": link_to(RecurringRun, run.pk, minute(run.scheduled_for)),
            "date": run.date,
            "status": _run_status(run),
            "attempts": run.attempts,
            "moved": _moved(run) or "",
            "amount": _money_or_nothing(run.amount, payment.currency),
        }
        for run in runs[:RUNS_SHOWN_MAX]
    ]
    every = reverse("admin:payments_recurringrun_changelist")
    context = {
        "rows": rows,
        "is_cut": len(runs) > RUNS_SHOWN_MAX,
        "all_url": f"{every}?recurring_payment={payment.pk}",
    }
    return render_to_string("admin/recurring_runs_panel.html", context)


# --- Runs --------------------------------------------------------------------------------------
@admin.register(RecurringRun)
class RecurringRunAdmin(BackOfficeAdmin[RecurringRun]):
    view_permission = Permission.VIEW_RECURRING_PAYMENTS
    list_display = ("run", "status_badge", "amount_money", "payment", "attempts_made", "moved")
    list_filter = ("status", TenantFilter)
    list_select_related = ("recurring_payment",)
    search_fields = ("pk",)
    search_help_text = "A whole id, its own or its recurring payment's or payout's."
    link_lookups = frozenset({"recurring_payment"})

    def search(
        self, queryset: QuerySet[RecurringRun], text: str, found_id: UUID | None
    ) -> QuerySet[RecurringRun]:
        if found_id is None:
            return queryset.none()
        for found in (queryset.filter(pk=found_id), queryset.filter(payout_id=found_id)):
            if found.exists():
                return found
        return queryset.filter(recurring_payment_id=found_id)

    @admin.display(description="Due, UTC")
    def run(self, obj: RecurringRun) -> str:
        return minute(obj.scheduled_for)

    @admin.display(description="Status")
    def status_badge(self, obj: RecurringRun) -> SafeString:
        return _run_status(obj)

    @admin.display(description="Amount")
    def amount_money(self, obj: RecurringRun) -> SafeString | str:
        return _money_or_nothing(obj.amount, obj.recurring_payment.currency)

    @admin.display(description="Recurring payment")
    def payment(self, obj: RecurringRun) -> SafeString:
        return _payment_link(obj)

    @admin.display(description="Attempts")
    def attempts_made(self, obj: RecurringRun) -> str:
        return f"{obj.attempts:,}"

    @admin.display(description="Moved by", empty_value="")
    def moved(self, obj: RecurringRun) -> SafeString | None:
        return _moved(obj)

    def heading(self, obj: RecurringRun) -> str:
        return f"Run due {minute(obj.scheduled_for)} UTC"

    def status(self, obj: RecurringRun) -> SafeString:
        return status_badge(obj.status)

    def figures(self, obj: RecurringRun) -> list[tuple[str, str]]:
        amount = _money_or_nothing(obj.amount, obj.recurring_payment.currency)
        return [("Amount", amount or "not known yet"), ("Attempts", f"{obj.attempts:,}")]

    def facts(self, obj: RecurringRun) -> list[tuple[str, Any]]:
        trigger = obj.trigger_transaction_id
        return [
            ("Recurring payment", _payment_link(obj)),
            ("Why", in_words(obj.error_code) if obj.error_code else ""),
            ("In detail", obj.error_detail),
            ("Tried again", obj.next_attempt_at),
            ("Nominal date", obj.nominal_date),
            ("Date", obj.date),
            ("Number", obj.number + 1),
            ("Set off by", transaction_link(trigger)),
            ("Moved by", _moved(obj)),
            ("Taken up by workers", f"{obj.deliveries:,} times" if obj.deliveries > 1 else ""),
            ("Id", obj.pk),
            ("Tenant", obj.tenant),
            ("Created", obj.created_at),
            ("Ended", obj.ended_at),
        ]


# --- The calendar ------------------------------------------------------------------------------
class CalendarDayForm(OfTenantForm):
    date = forms.DateField(
        input_formats=["%Y-%m-%d"], widget=forms.DateInput(attrs={"type": "date"})
    )
    name = forms.CharField(max_length=100)
    is_business_day = forms.BooleanField(
        required=False,
        label="Business day",
        help_text="Tick it for a day on which you work, though your country does not.",
    )


class Remove(Act[CalendarDay]):
    name, label, permission = "remove", "Remove", Permission.MANAGE_CALENDAR
    warning = (
        "The day is again what the country's calendar says. Recurring payments that are due about"
        " it are moved at once."
    )

    def run(self, obj: CalendarDay, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.remove_calendar_day(
            tenant_id=obj.tenant_id,
            day_id=obj.pk,
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done(f"{obj} is removed.", reverse("admin:payments_calendarday_changelist"))


@admin.register(CalendarDay)
class CalendarDayAdmin(BackOfficeAdmin[CalendarDay]):
    view_permission = Permission.VIEW_CALENDAR
    add_permission = Permission.MANAGE_CALENDAR
    add_warning = "Recurring payments that are due about the day, and keep to business days, move."
    list_display = ("day", "name", "kind")
    list_filter = (TenantFilter,)
    search_fields = ("pk",)
    search_help_text = "A date, such as 2026-12-24, or a whole id."
    acts = (Remove(),)

    def search(
        self, queryset: QuerySet[CalendarDay], text: str, found_id: UUID | None
    ) -> QuerySet[CalendarDay]:
        if found_id is not None:
            return queryset.filter(pk=found_id)
        try:
            date = dt.date.fromisoformat(text)
        except ValueError:
            return queryset.none()
        return queryset.filter(tenant_id__in=Tenant.objects.values("pk"), date=date)

    @admin.display(description="Day")
    def day(self, obj: CalendarDay) -> str:
        return f"{obj.date:%a %Y-%m-%d}"

    @admin.display(description="It is")
    def kind(self, obj: CalendarDay) -> SafeString:
        return _day_badge(obj)

    def heading(self, obj: CalendarDay) -> str:
        return obj.name

    def status(self, obj: CalendarDay) -> SafeString:
        return _day_badge(obj)

    def facts(self, obj: CalendarDay) -> list[tuple[str, Any]]:
        return [("Day", f"{obj.date:%A %Y-%m-%d}"), ("Id", obj.pk), ("Tenant", obj.tenant)]

    def new_form(self, request: HttpRequest, data: Any) -> CalendarDayForm:
        return CalendarDayForm(data, request=request)

    def make(self, request: HttpRequest, cleaned: dict[str, Any]) -> CalendarDay:
        return services.add_calendar_day(
            tenant_id=cleaned["tenant_id"],
            date=cleaned["date"],
            name=cleaned["name"],
            is_business_day=cleaned["is_business_day"],
            now=timezone.now(),
        )


# --- Words -------------------------------------------------------------------------------------
def _day_badge(day: CalendarDay) -> SafeString:
    return badge("active", "Business day") if day.is_business_day else badge("expired", "Day off")


def _names_of(payments: list[RecurringPayment]) -> dict[UUID, str]:
    ids = [
        id_ for each in payments for id_ in (each.source_account_id, each.destination_account_id)
    ]
    return account_names(id_ for id_ in ids if id_ is not None)


def _named_account(payment: RecurringPayment, account_id: UUID) -> SafeString:
    """Return a link to the account; named at a cost of a query, unless its list did."""
    names: dict[UUID, str] | None = getattr(payment, "account_names", None)
    if names is None:
        names = _names_of([payment])
        payment.account_names = names  # type: ignore[attr-defined]
    return link_to(Account, account_id, names.get(account_id, ""))


def _source(payment: RecurringPayment) -> SafeString:
    return _named_account(payment, payment.source_account_id)


def _destination(payment: RecurringPayment) -> SafeString | str:
    if payment.destination_account_id is not None:
        return _named_account(payment, payment.destination_account_id)
    to = payment.beneficiary or {}
    number = to.get("iban") or f"{to.get('account_number')} at {to.get('bank_code')}"
    return f"{to.get('name')}, {to.get('country')}, {number}"


def _amount_words(payment: RecurringPayment) -> SafeString:
    if payment.amount_type == _P.AmountType.PERCENTAGE:
        return format_html("{}% of the salary", f"{payment.percent:f}".rstrip("0").rstrip("."))
    if payment.amount_type == _P.AmountType.SWEEP:
        floor = format_money(payment.floor_amount or 0, payment.currency)
        return format_html("All above {}", floor)
    return money(payment.amount, payment.currency)


def _money_or_nothing(amount: int | None, currency: str) -> SafeString | str:
    return "" if amount is None else money(amount, currency)


def _next_minute(payment: RecurringPayment) -> str:
    return minute(payment.next_run_at) if payment.status == _P.Status.ACTIVE else ""


def _when(payment: RecurringPayment) -> str:
    sentence = capfirst(sentence_of(payment))
    if payment.trigger == _P.Trigger.SALARY:
        return f"{sentence}"
    return f"{sentence}, at {payment.run_at:%H:%M} in {payment.time_zone}"


def _salary_words(payment: RecurringPayment) -> SafeString | str:
    if payment.trigger != _P.Trigger.SALARY:
        return ""
    parts = []
    if payment.salary_min_amount is not None:
        parts.append(f"of {format_money(payment.salary_min_amount, payment.currency)} or more")
    if payment.salary_sender_id is not None:
        parts.append(f"from account {payment.salary_sender_id}")
    if payment.salary_pattern:
        parts.append(f"described as “{payment.salary_pattern}”")
    if payment.salary_from_day is not None:
        parts.append(f"from day {payment.salary_from_day} to day {payment.salary_to_day}")
    return ", ".join(parts) or "Any credit from somebody else"


def _adjustment_words(payment: RecurringPayment) -> str:
    moved = _ADJUSTMENTS[payment.adjustment]
    if not moved:
        return ""
    whose = f"holidays of {payment.holidays}" if payment.holidays else "no country's holidays"
    return f"Moved {moved} ({whose})"


def _shortage_words(payment: RecurringPayment) -> str:
    if payment.on_insufficient_funds == _P.OnInsufficientFunds.SKIP:
        return "The run is skipped"
    if not payment.retry_count:
        return "The run fails"
    minutes = payment.retry_interval_minutes
    return f"Tried again up to {payment.retry_count} times, {minutes:,} minutes apart"


def _failures_words(payment: RecurringPayment) -> str:
    most = payment.pause_after_failures
    return "It goes on" if most is None else f"Paused after {most} in a row"


def _missed_words(payment: RecurringPayment) -> str:
    if payment.trigger == _P.Trigger.SALARY:
        return ""
    which = _CATCH_UP[_P.CatchUp(payment.catch_up)]
    days = payment.max_lateness_days
    return f"If nothing ran for a while, {which}; never one that is {days} days late"


def _run_status(run: RecurringRun) -> SafeString:
    """Return the badge, why it is so, and when it is tried again."""
    why = in_words(run.error_code) if run.error_code else ""
    again = f"again {minute(run.next_attempt_at)}" if run.status == "retrying" else ""
    said = ", ".join(part for part in (why, again) if part)
    return format_html("{}<small>{}</small>", status_badge(run.status), said)


def _moved(run: RecurringRun) -> SafeString | None:
    """Return a link to the payout or the transaction that moved the money; None: nothing was."""
    if run.payout_id is not None:
        return link_to(Payout, run.payout_id, "payout")
    if run.transaction_id is not None:
        return link_to("ledger.Transaction", run.transaction_id, "transaction")
    return None


def _payment_link(run: RecurringRun) -> SafeString:
    payment = run.recurring_payment
    return link_to(RecurringPayment, payment.pk, payment.description or "Recurring payment")
