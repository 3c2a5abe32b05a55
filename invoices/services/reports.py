"""
What a tenant invoiced, got and gave back, from the daily figures; and who owes it since when.

Amounts are whole minor units; currencies are never added together. The report reads the figures of
days, so its cost grows with days and not with invoices; aged receivables reads what is open.
"""

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self

from django.db import connection
from django.db.models import DateField, Max, QuerySet, Sum
from django.db.models.functions import (
    TruncDay,
    TruncMonth,
    TruncQuarter,
    TruncWeek,
    TruncYear,
)

from core.errors import InvalidRequest
from core.money import EXPONENTS
from identity.models import Tenant
from invoices.models import DailyFigures
from invoices.services.figures import FROM_CREDIT, OFFLINE
from payments.models import GatewayConfiguration

_GATEWAY = GatewayConfiguration.Gateway
# Ten years, with their leap days.
DAYS_MAX = 3_653
ROWS_MAX = 10_000
# Named one by one in aged receivables, in each currency; the rest is one sum.
CUSTOMERS_MAX = 100
# How money for an invoice comes. A bank file only pays out.
GATEWAYS = (_GATEWAY.XENDIT, _GATEWAY.MIDTRANS, _GATEWAY.SANDBOX, OFFLINE, FROM_CREDIT)


class GroupBy(StrEnum):
    DAY = "day"
    # From its Monday.
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"
    CURRENCY = "currency"
    GATEWAY = "gateway"


_PERIODS = {
    GroupBy.DAY: TruncDay,
    GroupBy.WEEK: TruncWeek,
    GroupBy.MONTH: TruncMonth,
    GroupBy.QUARTER: TruncQuarter,
    GroupBy.YEAR: TruncYear,
}


@dataclass(frozen=True, slots=True)
class Figures:
    """The sums of some days' figures; each is the column of that name."""

    invoices: int = 0
    invoiced_net: int = 0
    invoiced_tax: int = 0
    invoiced_fees: int = 0
    credited_net: int = 0
    credited_tax: int = 0
    credited_fees: int = 0
    payments: int = 0
    received_net: int = 0
    received_tax: int = 0
    received_fees: int = 0
    overpaid: int = 0
    refunds: int = 0
    refunded_net: int = 0
    refunded_tax: int = 0
    refunded_fees: int = 0

    @property
    def invoiced(self) -> int:
        return self.invoiced_net + self.invoiced_tax + self.invoiced_fees

    @property
    def credited(self) -> int:
        return self.credited_net + self.credited_tax + self.credited_fees

    @property
    def collected(self) -> int:
        """What invoices got, less what was charged back."""
        return self.received_net + self.received_tax + self.received_fees

    @property
    def refunded(self) -> int:
        return self.refunded_net + self.refunded_tax + self.refunded_fees

    @property
    def kept(self) -> int:
        return self.collected - self.refunded

    @property
    def owed(self) -> int:
        """By how much more is owed after these days than before."""
        return self.invoiced - self.credited - self.kept

    def __add__(self, other: Self) -> "Figures":
        return Figures(**{name: getattr(self, name) + getattr(other, name) for name in _NAMES})


_NAMES = tuple(field.name for field in fields(Figures))


@dataclass(frozen=True, slots=True)
class ReportRow:
    currency: str
    # None: not by gateway; or, where it is, what has none: invoices and credit notes.
    gateway: str | None
    # The first day of the day, week, month ... that it is of; None: not by time.
    period: dt.date | None
    figures: Figures


@dataclass(frozen=True, slots=True)
class Outstanding:
    currency: str
    amount: int


@dataclass(frozen=True, slots=True)
class FinancialReport:
    first_day: dt.date
    last_day: dt.date
    time_zone: str
    currency: str | None
    gateway: str | None
    group_by: tuple[GroupBy, ...]
    rows: list[ReportRow]
    # A row for each currency.
    totals: list[ReportRow]
    # What is owed at the end of the last day; of all gateways.
    outstanding: list[Outstanding]


def financial_report(
    *,
    tenant: Tenant,
    first_day: dt.date,
    last_day: dt.date,
    currency: str | None = None,
    gateway: str | None = None,
    group_by: tuple[GroupBy, ...] = (GroupBy.CURRENCY, GroupBy.GATEWAY),
) -> FinancialReport:
    """
    Sum up the figures of the tenant's days from the first to the last, both included.

    Currency is always part of what they are grouped by. Two statements, however many invoices.

    :raises InvalidRequest: days in the wrong order or too many, an unknown currency or gateway, two
        spans of time to group by, more rows than anybody reads
    """
    _refuse_odd_question(first_day, last_day, currency, gateway, group_by)
    figures = DailyFigures.objects.filter(tenant=tenant, day__lte=last_day)
    if currency is not None:
        figures = figures.filter(currency=currency)
    rows = _rows(figures, first_day, gateway, group_by)
    totals: dict[str, Figures] = defaultdict(Figures)
    for row in rows:
        totals[row.currency] += row.figures
    return FinancialReport(
        first_day=first_day,
        last_day=last_day,
        time_zone=tenant.time_zone,
        currency=currency,
        gateway=gateway,
        group_by=group_by,
        rows=rows,
        totals=[ReportRow(code, gateway, None, sums) for code, sums in totals.items()],
        outstanding=[
            Outstanding(code, sums.owed) for code, _, sums in _summed(figures, "currency")
        ],
    )


def reported_currencies(*, tenant: Tenant) -> list[str]:
    """Return the currencies that the tenant has figures in, what is in use first."""
    last_used = DailyFigures.objects.filter(tenant=tenant).values("currency")
    return list(
        last_used.annotate(last=Max("day"))
        .order_by("-last", "currency")
        .values_list("currency", flat=True)
    )


def _refuse_odd_question(
    first_day: dt.date,
    last_day: dt.date,
    currency: str | None,
    gateway: str | None,
    group_by: tuple[GroupBy, ...],
) -> None:
    if last_day < first_day:
        raise InvalidRequest("It is before the first day.", field="to")
    if (last_day - first_day).days >= DAYS_MAX:
        raise InvalidRequest(f"At most {DAYS_MAX} days, which is ten years.", field="to")
    if currency is not None and currency not in EXPONENTS:
        raise InvalidRequest("Not an active ISO 4217 currency code.", field="currency")
    if gateway is not None and gateway not in GATEWAYS:
        raise InvalidRequest(f"One of {', '.join(GATEWAYS)}.", field="gateway")
    if len(set(group_by) & set(_PERIODS)) > 1:
        raise InvalidRequest(f"One of {', '.join(_PERIODS)}, not two.", field="group_by")


def _rows(
    figures: QuerySet[DailyFigures],
    first_day: dt.date,
    gateway: str | None,
    group_by: tuple[GroupBy, ...],
) -> list[ReportRow]:
    figures = figures.filter(day__gte=first_day)
    if gateway is not None:
        figures = figures.filter(gateway=gateway)
    keys = ["currency"]
    for each in group_by:
        if each in _PERIODS:
            figures = figures.annotate(period=_PERIODS[each]("day", output_field=DateField()))
            keys.insert(1, "period")
    if GroupBy.GATEWAY in group_by:
        keys.append("gateway")
    summed = _summed(figures, *keys, limit=ROWS_MAX + 1)
    if len(summed) > ROWS_MAX:
        raise InvalidRequest(
            f"That is more than {ROWS_MAX:,} rows; group by longer spans, or ask for fewer days.",
            field="group_by",
        )
    return [
        ReportRow(code, found.get("gateway", gateway) or None, found.get("period"), sums)
        for code, found, sums in summed
    ]


def _summed(
    figures: QuerySet[DailyFigures], *keys: str, limit: int | None = None
) -> list[tuple[str, dict[str, Any], Figures]]:
    """Return currency, keys and sums, in order of the keys."""
    sums = {f"sum_{name}": Sum(name) for name in _NAMES}
    rows: Any = figures.values(*keys).annotate(**sums).order_by(*keys)[:limit]
    return [
        (row["currency"], row, Figures(**{name: int(row[f"sum_{name}"]) for name in _NAMES}))
        for row in rows
    ]


# --- Aged receivables --------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Aged:
    """What is owed, by the days that its installments are overdue."""

    not_due: int = 0
    days_1_to_30: int = 0
    days_31_to_60: int = 0
    days_61_to_90: int = 0
    days_over_90: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, name) for name in AGES)

    def __add__(self, other: Self) -> "Aged":
        return Aged(*(getattr(self, name) + getattr(other, name) for name in AGES))


AGES = tuple(field.name for field in fields(Aged))


@dataclass(frozen=True, slots=True)
class Debtor:
    """A customer, by what they are known by on invoices; invoices of nobody known are together."""

    name: str
    # "reference C-7" or "email budi@example.com"; empty where the name is all there is.
    key: str
    invoices: int
    aged: Aged


@dataclass(frozen=True, slots=True)
class CurrencyOwed:
    currency: str
    total: Aged
    invoices: int
    # Those who owe most, in that order.
    debtors: list[Debtor]
    # All others.
    other_debtors: int
    others: Aged


@dataclass(frozen=True, slots=True)
class AgedReceivables:
    as_of: dt.date
    time_zone: str
    currencies: list[CurrencyOwed]


# The status is spelled as in the index invoice_owed_idx, which has nothing but these.
_OWED = """
WITH owed AS (
  SELECT i.id, i.currency, i.customer_key, i.customer_name,
         sum(due) FILTER (WHERE p.due_date >= %(day)s) AS not_due,
         sum(due) FILTER (WHERE %(day)s - p.due_date BETWEEN 1 AND 30) AS days_1_to_30,
         sum(due) FILTER (WHERE %(day)s - p.due_date BETWEEN 31 AND 60) AS days_31_to_60,
         sum(due) FILTER (WHERE %(day)s - p.due_date BETWEEN 61 AND 90) AS days_61_to_90,
         sum(due) FILTER (WHERE %(day)s - p.due_date > 90) AS days_over_90,
         sum(due) AS total
    FROM invoices_invoice i
    JOIN (SELECT invoice_id, due_date, amount - paid_amount - credited_amount AS due
            FROM invoices_installment) p ON p.invoice_id = i.id AND p.due > 0
   WHERE i.tenant_id = %(tenant)s AND i.status IN ('pending', 'partially_paid', 'failed')
     AND (%(currency)s::text IS NULL OR i.currency = %(currency)s)
   GROUP BY i.id
), debtors AS (
  SELECT currency, customer_key, max(customer_name) AS name, sum(1) AS invoices,
         sum(not_due) AS not_due, sum(days_1_to_30) AS days_1_to_30,
         sum(days_31_to_60) AS days_31_to_60, sum(days_61_to_90) AS days_61_to_90,
         sum(days_over_90) AS days_over_90, sum(total) AS total
    FROM owed
   GROUP BY currency, customer_key, CASE WHEN customer_key = '' THEN customer_name END
), ranked AS (
  SELECT *, least(row_number() OVER (PARTITION BY currency ORDER BY total DESC, customer_key, name),
                  %(limit)s + 1) AS rank
    FROM debtors
)
SELECT currency, rank, max(customer_key), max(name), sum(1), sum(invoices),
       coalesce(sum(not_due), 0), coalesce(sum(days_1_to_30), 0), coalesce(sum(days_31_to_60), 0),
       coalesce(sum(days_61_to_90), 0), coalesce(sum(days_over_90), 0)
  FROM ranked GROUP BY currency, rank ORDER BY currency, rank
"""


def aged_receivables(
    *, tenant: Tenant, now: dt.datetime, currency: str | None = None
) -> AgedReceivables:
    """
    Return what is owed today, by age and by who owes it. One statement, over what is open.

    :raises InvalidRequest: an unknown currency
    """
    if currency is not None and currency not in EXPONENTS:
        raise InvalidRequest("Not an active ISO 4217 currency code.", field="currency")
    today = tenant.day_of(now)
    with connection.cursor() as cursor:
        cursor.execute(
            _OWED,
            {"tenant": tenant.pk, "day": today, "currency": currency, "limit": CUSTOMERS_MAX},
        )
        rows = cursor.fetchall()
    by_currency: dict[str, list[Any]] = defaultdict(list)
    for code, *row in rows:
        by_currency[code].append(row)
    return AgedReceivables(
        today, tenant.time_zone, [_owed_in(code, of) for code, of in by_currency.items()]
    )


def _owed_in(currency: str, rows: list[Any]) -> CurrencyOwed:
    debtors, others, other_debtors = [], Aged(), 0
    total, invoices = Aged(), 0
    for rank, key, name, customers, of_invoices, *by_age in rows:
        aged = Aged(*map(int, by_age))
        total += aged
        invoices += int(of_invoices)
        if rank <= CUSTOMERS_MAX:
            debtors.append(Debtor(name, key, int(of_invoices), aged))
        else:
            others, other_debtors = aged, int(customers)
    return CurrencyOwed(currency, total, invoices, debtors, other_debtors, others)


__all__ = [
    "AGES",
    "CUSTOMERS_MAX",
    "DAYS_MAX",
    "GATEWAYS",
    "ROWS_MAX",
    "Aged",
    "AgedReceivables",
    "CurrencyOwed",
    "Debtor",
    "Figures",
    "FinancialReport",
    "GroupBy",
    "Outstanding",
    "ReportRow",
    "aged_receivables",
    "financial_report",
    "reported_currencies",
]
