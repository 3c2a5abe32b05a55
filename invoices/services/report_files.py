"""
Reports as files: CSV for programs, XLSX for people. Amounts in major units, exact.

A text that a spreadsheet would run as a formula is not written as one (OWASP, "CSV injection").
"""

import csv
import datetime as dt
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any

import xlsxwriter  # type: ignore[import-untyped]

from core.money import Money, exponent
from invoices.services.reports import (
    AGES,
    Aged,
    AgedReceivables,
    CurrencyOwed,
    Figures,
    FinancialReport,
    GroupBy,
)

# What Excel keeps of a number; one with more is written as a text, every digit of it.
_DIGITS_MAX = 15
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_WIDTHS = {"money": 20, "count": 12, "text": 24, "day": 12}

Cell = str | int | dt.date | None


class _Kind(Enum):
    TEXT = "text"
    DAY = "day"
    COUNT = "count"
    # Minor units of the sheet's currency.
    MONEY = "money"


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    kind: _Kind


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The rows of one currency, with its sums and remarks below them."""

    currency: str
    rows: list[list[Cell]]
    sums: list[list[Cell]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Table:
    columns: list[_Column]
    sheets: list[_Sheet]


def financial_csv(report: FinancialReport) -> bytes:
    """Return the report as UTF-8 CSV (RFC 4180), a currency a row, without sums."""
    return _csv(_financial(report))


def financial_xlsx(report: FinancialReport) -> bytes:
    """Return the report as a workbook, a sheet for each currency, with sums."""
    return _xlsx(_financial(report))


def aged_csv(report: AgedReceivables) -> bytes:
    return _csv(_aged(report))


def aged_xlsx(report: AgedReceivables) -> bytes:
    return _xlsx(_aged(report))


# --- What stands in them -----------------------------------------------------------------------
_FIGURES = (
    ("Revenue", _Kind.MONEY, "received_net"),
    ("Tax", _Kind.MONEY, "received_tax"),
    ("Service fees", _Kind.MONEY, "received_fees"),
    ("Collected", _Kind.MONEY, "collected"),
    ("Overpaid", _Kind.MONEY, "overpaid"),
    ("Refunds", _Kind.MONEY, "refunded"),
    ("Refunded revenue", _Kind.MONEY, "refunded_net"),
    ("Refunded tax", _Kind.MONEY, "refunded_tax"),
    ("Refunded service fees", _Kind.MONEY, "refunded_fees"),
    ("Net", _Kind.MONEY, "kept"),
    ("Payments", _Kind.COUNT, "payments"),
    ("Refund count", _Kind.COUNT, "refunds"),
    ("Invoices", _Kind.COUNT, "invoices"),
    ("Invoiced", _Kind.MONEY, "invoiced"),
    ("Invoiced revenue", _Kind.MONEY, "invoiced_net"),
    ("Invoiced tax", _Kind.MONEY, "invoiced_tax"),
    ("Invoiced service fees", _Kind.MONEY, "invoiced_fees"),
    ("Credited", _Kind.MONEY, "credited"),
)


def _financial(report: FinancialReport) -> _Table:
    by_time = [each for each in report.group_by if each not in _NOT_TIME]
    keys = [_Column(each.capitalize(), _Kind.DAY) for each in by_time]
    keys += [_Column("Currency", _Kind.TEXT), _Column("Gateway", _Kind.TEXT)]
    totals = {row.currency: row.figures for row in report.totals}
    outstanding = {each.currency: each.amount for each in report.outstanding}
    sheets = []
    for code in sorted({*totals, *outstanding}):
        rows: list[list[Cell]] = [
            [*([row.period] if by_time else []), code, row.gateway or "", *_cells(row.figures)]
            for row in report.rows
            if row.currency == code
        ]
        blank: list[Cell] = [None] * len(by_time)
        owed: list[Cell] = [outstanding.get(code, 0)]
        sums = [
            [*blank, "Total", None, *_cells(totals.get(code, Figures()))],
            # Apart: no column is about it.
            [],
            [*blank, f"Outstanding on {report.last_day}", None, *owed],
        ]
        sheets.append(_Sheet(code, rows, sums))
    return _Table([*keys, *(_Column(title, kind) for title, kind, _ in _FIGURES)], sheets)


_NOT_TIME = (GroupBy.CURRENCY, GroupBy.GATEWAY)


def _cells(figures: Figures) -> list[Cell]:
    return [getattr(figures, name) for _, _, name in _FIGURES]


_AGE_TITLES = ("Not due", "1-30 days", "31-60 days", "61-90 days", "Over 90 days")


def _aged(report: AgedReceivables) -> _Table:
    columns = [
        _Column("Currency", _Kind.TEXT),
        _Column("Customer", _Kind.TEXT),
        _Column("Known by", _Kind.TEXT),
        _Column("Invoices", _Kind.COUNT),
        *(_Column(title, _Kind.MONEY) for title in _AGE_TITLES),
        _Column("Total", _Kind.MONEY),
    ]
    return _Table(columns, [_aged_sheet(each) for each in report.currencies])


def _aged_sheet(owed: CurrencyOwed) -> _Sheet:
    rows: list[list[Cell]] = [
        [owed.currency, each.name, each.key, each.invoices, *_ages(each.aged)]
        for each in owed.debtors
    ]
    if owed.other_debtors:
        invoices = owed.invoices - sum(each.invoices for each in owed.debtors)
        name = f"{owed.other_debtors} others"
        rows.append([owed.currency, name, "", invoices, *_ages(owed.others)])
    total: list[Cell] = ["Total", None, None, owed.invoices, *_ages(owed.total)]
    return _Sheet(owed.currency, rows, [total])


def _ages(aged: Aged) -> list[Cell]:
    return [*(getattr(aged, name) for name in AGES), aged.total]


# --- How they are written ----------------------------------------------------------------------
def _csv(table: _Table) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(column.title for column in table.columns)
    for sheet in table.sheets:
        for row in sheet.rows:
            writer.writerow(
                _plain(cell, column.kind, sheet.currency)
                for cell, column in zip(row, table.columns, strict=True)
            )
    return out.getvalue().encode()


def _plain(cell: Cell, kind: _Kind, currency: str) -> str:
    if kind is _Kind.MONEY and isinstance(cell, int):
        return f"{_major(cell, currency):f}"
    if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS):
        return f"'{cell}"
    return "" if cell is None else str(cell)


def _xlsx(table: _Table) -> bytes:
    out = io.BytesIO()
    # A text stays one, whatever it looks like.
    options = {
        "in_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
        "default_date_format": "yyyy-mm-dd",
    }
    with xlsxwriter.Workbook(out, options) as workbook:
        head = workbook.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        for sheet in table.sheets or [_Sheet("", [])]:
            _write_sheet(workbook, head, table.columns, sheet)
    return out.getvalue()


def _write_sheet(workbook: Any, head: Any, columns: Sequence[_Column], sheet: _Sheet) -> None:
    page = workbook.add_worksheet(sheet.currency or "No figures")
    pattern = _number_format(sheet.currency)
    money = workbook.add_format({"num_format": pattern, "align": "right"})
    bold_money = workbook.add_format({"num_format": pattern, "align": "right", "bold": True})
    bold = workbook.add_format({"bold": True})
    page.freeze_panes(1, 0)
    for place, column in enumerate(columns):
        page.set_column(place, place, _WIDTHS[column.kind.value])
        page.write_string(0, place, column.title, head)
    rows = [(row, money, None) for row in sheet.rows]
    rows += [(row, bold_money, bold) for row in sheet.sums]
    for number, (row, money_format, text_format) in enumerate(rows, start=1):
        for place, (cell, column) in enumerate(zip(row, columns, strict=False)):
            is_money = column.kind is _Kind.MONEY
            if is_money and isinstance(cell, int):
                _write_money(page, number, place, cell, sheet.currency, money_format)
            elif isinstance(cell, str):
                page.write_string(number, place, cell, text_format)
            elif isinstance(cell, dt.date):
                page.write_datetime(number, place, dt.datetime.combine(cell, dt.time()))
            elif cell is not None:
                page.write_number(number, place, cell, text_format)


def _write_money(
    page: Any, number: int, place: int, minor_units: int, currency: str, style: Any
) -> None:
    amount = _major(minor_units, currency)
    if len(str(abs(minor_units))) > _DIGITS_MAX:
        page.write_string(number, place, f"{amount:f}", style)
    else:
        page.write_number(number, place, amount, style)


def _major(minor_units: int, currency: str) -> Decimal:
    return Money(minor_units, currency).decimal


def _number_format(currency: str) -> str:
    places = exponent(currency) if currency else 0
    return "#,##0" + ("." + "0" * places if places else "")
