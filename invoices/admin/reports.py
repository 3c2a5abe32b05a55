"""The financial report in the back office: what came in, what went back, who owes what."""

import datetime as dt
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString

from core.admin import (
    TENANTS_LISTED_MAX,
    BackOfficeAdmin,
    money,
    sees_every_tenant,
    staff_tenant_id,
)
from core.errors import InvalidRequest
from core.money import format_money
from core.permissions import Permission
from identity.models import Tenant
from invoices.admin.report_charts import Bar, Chart, Series, columns, period_label, rows
from invoices.models import DailyFigures
from invoices.services import report_files
from invoices.services.reports import (
    AGES,
    GATEWAYS,
    Aged,
    CurrencyOwed,
    Figures,
    FinancialReport,
    GroupBy,
    aged_receivables,
    financial_report,
    reported_currencies,
)

_TYPES = {
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_SERIES = (
    Series("revenue", "Revenue"),
    Series("tax", "Tax"),
    Series("fees", "Service fees"),
    Series("refunds", "Refunds, below zero"),
)
_AGE_LABELS = ("Not due", "1 to 30 days", "31 to 60 days", "61 to 90 days", "Over 90 days")
_GATEWAY_LABELS = {"offline": "By hand", "credit": "From credit"}
# So many days at most by this span: more columns are too narrow to see.
_SPANS = (
    (31, GroupBy.DAY),
    (183, GroupBy.WEEK),
    (1_100, GroupBy.MONTH),
    (3_653, GroupBy.QUARTER),
)


class ReportForm(forms.Form):
    """What to report on. What is left alone has a sensible value."""

    def __init__(self, *args: Any, currencies: list[str], tenants: list[Tenant], **more: Any):
        super().__init__(*args, **more)
        if tenants:
            self.fields["tenant"] = forms.ChoiceField(
                required=False, choices=[(str(each.pk), each.name) for each in tenants]
            )
        for name, label in (("from", "From"), ("to", "To")):
            self.fields[name] = forms.DateField(
                label=label,
                required=False,
                widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
            )
        self.fields["currency"] = forms.ChoiceField(
            required=False, choices=[(code, code) for code in currencies]
        )
        self.fields["gateway"] = forms.ChoiceField(
            required=False,
            choices=[("", "All"), *((each, _gateway_words(each)) for each in GATEWAYS)],
        )


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    headings: list[str]
    rows: list[list[str]]
    sums: list[str]


@dataclass(frozen=True, slots=True)
class Section:
    """A chart, and the table with the same numbers; no chart: nothing is there to be drawn."""

    chart: Chart | None
    table: Table


@dataclass(frozen=True, slots=True)
class _Asked:
    tenant: Tenant
    first_day: dt.date
    last_day: dt.date
    # None: the tenant has no figures yet.
    currency: str | None
    gateway: str | None

    @property
    def query(self) -> dict[str, str]:
        return {
            "tenant": str(self.tenant.pk),
            "from": self.first_day.isoformat(),
            "to": self.last_day.isoformat(),
            "currency": self.currency or "",
            "gateway": self.gateway or "",
        }


@admin.register(DailyFigures)
class FinancialReportAdmin(BackOfficeAdmin[DailyFigures]):
    """A day's figures have a page like any object; their list is the report."""

    view_permission = Permission.VIEW_REPORTS

    def facts(self, obj: DailyFigures) -> list[tuple[str, Any]]:
        names = [field.name for field in obj._meta.local_fields]
        return [(name.replace("_", " ").capitalize(), getattr(obj, name)) for name in names]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        now = timezone.now()
        form, asked = _question(request, now)
        if request.GET.get("format") in _TYPES and asked.currency is not None:
            return _download(asked, request.GET["format"], request.GET.get("report", ""), now)
        context = {
            **self.admin_site.each_context(request),
            "title": "Financial report",
            "opts": self.opts,
            "form": form,
            "presets": _presets(asked, now),
            "currency": asked.currency,
        }
        if asked.currency is not None:
            context |= _sections(asked, now)
        return TemplateResponse(request, "admin/invoice_report.html", context)


# --- The question ------------------------------------------------------------------------------
def _question(request: HttpRequest, now: dt.datetime) -> tuple[ReportForm, _Asked]:
    """Return what is asked for, and the form that says so; odd answers are refused on the form."""
    tenants = (
        list(Tenant.objects.order_by("name")[:TENANTS_LISTED_MAX])
        if sees_every_tenant(request)
        else []
    )
    tenant = _tenant(request, tenants)
    currencies = reported_currencies(tenant=tenant)
    form = ReportForm(request.GET, currencies=currencies, tenants=tenants)
    today = tenant.day_of(now)
    usual = _Asked(tenant, today.replace(day=1), today, next(iter(currencies), None), None)
    if not form.is_valid():
        return form, usual
    given = form.cleaned_data
    last_day = given["to"] or today
    asked = _Asked(
        tenant,
        given["from"] or last_day.replace(day=1),
        last_day,
        given["currency"] or usual.currency,
        given["gateway"] or None,
    )
    try:
        _report(asked, (GroupBy.CURRENCY,))
    except InvalidRequest as refusal:
        form.add_error("to", refusal.detail)
        return form, usual
    # Shown with what was left alone filled in.
    return ReportForm(initial=asked.query, currencies=currencies, tenants=tenants), asked


def _tenant(request: HttpRequest, tenants: list[Tenant]) -> Tenant:
    wanted = request.GET.get("tenant", "")
    for each in tenants:
        if str(each.pk) == wanted:
            return each
    return Tenant.objects.get(pk=staff_tenant_id(request))


def _presets(asked: _Asked, now: dt.datetime) -> list[tuple[str, str, bool]]:
    """Return periods that are often wanted: name, query, and whether it is the one shown."""
    today = asked.tenant.day_of(now)
    this_month = today.replace(day=1)
    last_month_end = this_month - dt.timedelta(days=1)
    periods = (
        ("This month", this_month, today),
        ("Last month", last_month_end.replace(day=1), last_month_end),
        ("This year", today.replace(month=1, day=1), today),
        ("Last year", dt.date(today.year - 1, 1, 1), dt.date(today.year - 1, 12, 31)),
    )
    shown = (asked.first_day, asked.last_day)
    return [
        (name, urlencode({**asked.query, "from": first, "to": last}), (first, last) == shown)
        for name, first, last in periods
    ]


def _report(asked: _Asked, group_by: tuple[GroupBy, ...]) -> FinancialReport:
    return financial_report(
        tenant=asked.tenant,
        first_day=asked.first_day,
        last_day=asked.last_day,
        currency=asked.currency,
        gateway=asked.gateway,
        group_by=group_by,
    )


def _span(asked: _Asked) -> GroupBy:
    days = (asked.last_day - asked.first_day).days + 1
    return next(span for most, span in _SPANS if days <= most)


def _download(asked: _Asked, format_: str, report: str, now: dt.datetime) -> HttpResponse:
    if report == "aged":
        aged = aged_receivables(tenant=asked.tenant, now=now, currency=asked.currency)
        name = f"aged-receivables-{asked.currency}-{aged.as_of}"
        document = report_files.aged_csv(aged) if format_ == "csv" else report_files.aged_xlsx(aged)
    else:
        found = _report(asked, (_span(asked), GroupBy.GATEWAY))
        name = f"financial-report-{asked.currency}-{asked.first_day}-{asked.last_day}"
        document = (
            report_files.financial_csv(found)
            if format_ == "csv"
            else report_files.financial_xlsx(found)
        )
    headers = {"Content-Disposition": f'attachment; filename="{name}.{format_}"'}
    return HttpResponse(document, content_type=_TYPES[format_], headers=headers)


# --- The answer --------------------------------------------------------------------------------
def _sections(asked: _Asked, now: dt.datetime) -> dict[str, Any]:
    currency, span = asked.currency or "", _span(asked)
    by_period = _report(asked, (span,))
    by_gateway = _report(asked, (GroupBy.GATEWAY,))
    aged = aged_receivables(tenant=asked.tenant, now=now, currency=currency)
    total = next((row.figures for row in by_period.totals), Figures())
    owed = next((each.amount for each in by_period.outstanding), 0)
    days = f"{asked.first_day} to {asked.last_day}"
    downloads = [
        (f"{label} ({format_.upper()})", urlencode({**asked.query, **more, "format": format_}))
        for label, more in (("Report", {}), ("Receivables", {"report": "aged"}))
        for format_ in _TYPES
    ]
    return {
        "report": by_period,
        "sentence": f"{currency}, {days}, days of {asked.tenant.time_zone}.",
        "downloads": downloads,
        "figures": _cards(total, owed, asked),
        "by_period": _period_section(by_period, span, currency, days),
        "by_gateway": _gateway_section(by_gateway, currency, days),
        "aged": _aged_section(next(iter(aged.currencies), None), currency, aged.as_of),
    }


def _cards(total: Figures, owed: int, asked: _Asked) -> list[tuple[str, SafeString]]:
    currency = asked.currency or ""
    shown = [
        ("Collected", total.collected),
        ("Refunds", total.refunded),
        ("Net", total.kept),
        ("Overpaid", total.overpaid),
    ]
    if asked.gateway is None:
        # These have no gateway.
        shown += [
            ("Invoiced", total.invoiced),
            ("Credited", total.credited),
            (f"Outstanding on {asked.last_day}", owed),
        ]
    return [(label, money(amount, currency)) for label, amount in shown]


_FLOW_HEADINGS = ["Revenue", "Tax", "Service fees", "Collected", "Refunds", "Net"]
_SPAN_WORDS = {
    GroupBy.DAY: "day",
    GroupBy.WEEK: "week, from its Monday",
    GroupBy.MONTH: "month",
    GroupBy.QUARTER: "quarter",
}


def _period_section(report: FinancialReport, span: GroupBy, currency: str, days: str) -> Section:
    title = f"By {_SPAN_WORDS[span]}, {currency}"
    by_period = [(period_label(row.period, span), row.figures) for row in report.rows if row.period]
    bars = _with_gaps([_bar(label, of, currency) for label, of in by_period], report, span)
    total = sum((of for _, of in by_period), Figures())
    table = Table(
        title,
        [span.capitalize(), *_FLOW_HEADINGS, "Invoiced"],
        [[label, *_flow(of, currency), _plain(of.invoiced, currency)] for label, of in by_period],
        ["Total", *_flow(total, currency), _plain(total.invoiced, currency)],
    )
    if not by_period:
        return Section(None, table)
    chart = columns(
        name="periods",
        title=f"Received and refunded by {span}, {currency}, {days}",
        description=_said(bars),
        series=_SERIES,
        bars=bars,
        currency=currency,
    )
    return Section(chart, table)


def _gateway_section(report: FinancialReport, currency: str, days: str) -> Section:
    by_gateway = [
        (_gateway_words(row.gateway), row.figures)
        for row in sorted(report.rows, key=lambda row: -row.figures.collected)
        if row.gateway
    ]
    bars = [_bar(label, of, currency) for label, of in by_gateway]
    total = sum((of for _, of in by_gateway), Figures())
    table = Table(
        f"By gateway, {currency}",
        ["Gateway", *_FLOW_HEADINGS, "Payments"],
        [[label, *_flow(of, currency), f"{of.payments:,}"] for label, of in by_gateway],
        ["Total", *_flow(total, currency), f"{total.payments:,}"],
    )
    if not by_gateway:
        return Section(None, table)
    chart = rows(
        name="gateways",
        title=f"Received and refunded by gateway, {currency}, {days}",
        description=_said(bars),
        series=_SERIES,
        bars=bars,
        currency=currency,
    )
    return Section(chart, table)


def _aged_section(owed: CurrencyOwed | None, currency: str, as_of: dt.date) -> Section:
    title = f"Owed today, {as_of}, by days overdue, {currency}"
    headings = ["Customer", "Invoices", *_AGE_LABELS, "Total"]
    if owed is None:
        return Section(None, Table(title, headings, [], []))
    named = [
        [each.name or each.key or "No name", f"{each.invoices:,}", *_ages(each.aged, currency)]
        for each in owed.debtors
    ]
    if owed.other_debtors:
        invoices = owed.invoices - sum(each.invoices for each in owed.debtors)
        others = f"{owed.other_debtors:,} others"
        named.append([others, f"{invoices:,}", *_ages(owed.others, currency)])
    table = Table(
        title, headings, named, ["Total", f"{owed.invoices:,}", *_ages(owed.total, currency)]
    )
    bars = []
    for name, label in zip(AGES, _AGE_LABELS, strict=True):
        amount = getattr(owed.total, name)
        bars.append(Bar(label, {"revenue": amount}, f"{label}: {format_money(amount, currency)}"))
    chart = rows(
        name="ages",
        title=title,
        description=_said(bars),
        series=(Series("revenue", "Owed"),),
        bars=bars,
        currency=currency,
    )
    return Section(chart, table)


def _bar(label: str, of: Figures, currency: str) -> Bar:
    amounts = {
        "revenue": of.received_net,
        "tax": of.received_tax,
        "fees": of.received_fees,
        "refunds": -of.refunded,
    }
    collected, refunded = format_money(of.collected, currency), format_money(of.refunded, currency)
    return Bar(label, amounts, f"{label}: collected {collected}, refunded {refunded}")


def _with_gaps(bars: list[Bar], report: FinancialReport, span: GroupBy) -> list[Bar]:
    """Put in what nothing happened in, so that time goes on evenly."""
    found = {bar.label: bar for bar in bars}
    days = (report.last_day - report.first_day).days + 1
    each_day = (report.first_day + dt.timedelta(days=day) for day in range(days))
    labels = dict.fromkeys(period_label(_start(day, span), span) for day in each_day)
    return [found.get(label, Bar(label, {}, f"{label}: nothing")) for label in labels]


def _start(day: dt.date, span: GroupBy) -> dt.date:
    """Return the first day of the span that it is in."""
    if span is GroupBy.WEEK:
        return day - dt.timedelta(days=day.weekday())
    if span is GroupBy.QUARTER:
        return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
    return day.replace(day=1) if span is GroupBy.MONTH else day


def _flow(of: Figures, currency: str) -> list[str]:
    amounts = (
        of.received_net,
        of.received_tax,
        of.received_fees,
        of.collected,
        of.refunded,
        of.kept,
    )
    return [_plain(amount, currency) for amount in amounts]


def _ages(aged: Aged, currency: str) -> list[str]:
    return [
        _plain(amount, currency) for amount in (*(getattr(aged, name) for name in AGES), aged.total)
    ]


def _plain(minor_units: int, currency: str) -> str:
    """Return the amount without its currency, which the table's title has."""
    return format_money(minor_units, currency).partition("\u00a0")[2]


def _said(bars: list[Bar]) -> str:
    """Return a chart in words; the table below has all of it."""
    said = [bar.sentence for bar in bars if any(bar.amounts.values())]
    more = f" And {len(said) - 12} more." if len(said) > 12 else ""
    return ". ".join(said[:12]) + "." + more + " The table below has every number."


def _gateway_words(gateway: str | None) -> str:
    return _GATEWAY_LABELS.get(gateway or "", (gateway or "").capitalize())
