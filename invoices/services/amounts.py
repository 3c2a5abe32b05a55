"""
The arithmetic of invoices: whole minor units in, whole minor units out, every sum exact.

No database here. Percentages are Decimals in percent: 11 is eleven percent.
"""

import calendar
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from enum import StrEnum

# Quantities of 18 digits times amounts of 16 times rates of 7: nothing is lost on the way.
_EXACT = Context(prec=80)
_WHOLE = Decimal(1)
_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class Parts:
    """What an amount is made of."""

    net: int
    tax: int
    fee: int

    @property
    def total(self) -> int:
        return self.net + self.tax + self.fee

    def __sub__(self, other: "Parts") -> "Parts":
        return Parts(self.net - other.net, self.tax - other.tax, self.fee - other.fee)

    def __add__(self, other: "Parts") -> "Parts":
        return Parts(self.net + other.net, self.tax + other.tax, self.fee + other.fee)

    def __neg__(self) -> "Parts":
        return Parts(-self.net, -self.tax, -self.fee)


NOTHING = Parts(0, 0, 0)


def line_amounts(*, quantity: Decimal, unit_amount: int, tax_rate: Decimal) -> tuple[int, int]:
    """
    Return subtotal and tax of a line, each rounded half up.

    The tax is that of the rounded subtotal, which is what the line shows.
    """
    subtotal = _half_up(_EXACT.multiply(quantity, Decimal(unit_amount)))
    tax = _EXACT.divide(_EXACT.multiply(Decimal(subtotal), tax_rate), _HUNDRED)
    return subtotal, _half_up(tax)


def service_fee(*, subtotal: int, percent: Decimal, fixed: int, is_gross_up: bool) -> int:
    """
    Return the fee on a subtotal, rounded half up.

    Additive: percent of the subtotal, and the fixed part. Gross-up: so much that, when percent of
    subtotal and fee together and the fixed part are kept by somebody, the subtotal is left.
    `percent` is below 100.
    """
    base = Decimal(subtotal)
    if is_gross_up:
        left = _EXACT.subtract(_WHOLE, _EXACT.divide(percent, _HUNDRED))
        gross = _EXACT.divide(_EXACT.add(base, Decimal(fixed)), left)
        return _half_up(_EXACT.subtract(gross, base))
    return _half_up(_EXACT.divide(_EXACT.multiply(base, percent), _HUNDRED)) + fixed


def split_evenly(whole: Parts, count: int) -> list[Parts]:
    """
    Split into `count` installments: each component rounded down, the last has the rest.

    Rounding to the nearest would let the last go below nothing (100 over 36).
    """
    each = Parts(whole.net // count, whole.tax // count, whole.fee // count)
    others = count - 1
    rest = Parts(each.net * others, each.tax * others, each.fee * others)
    return [each] * others + [whole - rest]


def split_by_amounts(whole: Parts, amounts: Sequence[int]) -> list[Parts]:
    """
    Split into installments of given amounts, which add up to the whole.

    Tax and fee in proportion, rounded down; the last has the rest of each. Where that is more than
    the last amounts to, the units it cannot hold go to those before it that can.
    """
    total = whole.total
    rows = []
    for amount in amounts[:-1]:
        tax, fee = whole.tax * amount // total, whole.fee * amount // total
        rows.append([amount - tax - fee, tax, fee])
    tax = whole.tax - sum(row[1] for row in rows)
    fee = whole.fee - sum(row[2] for row in rows)
    last = [amounts[-1] - tax - fee, tax, fee]
    for row in reversed(rows):
        for charge in (1, 2):
            moved = max(0, min(-last[0], row[0], last[charge]))
            row[0] -= moved
            row[charge] += moved
            last[charge] -= moved
            last[0] += moved
    return [Parts(*row) for row in (*rows, last)]


def part_of(whole: Parts, before: int, after: int) -> Parts:
    """
    Return what of net, tax and fee lies between two amounts of the whole, such as what was paid
    before and what is now: the parts of all steps from 0 to the total are the whole.
    """
    return _up_to(whole, after) - _up_to(whole, before)


def _up_to(whole: Parts, amount: int) -> Parts:
    # Tax and fee together first, then the tax of that: so that no part goes below nothing.
    charges = whole.tax + whole.fee
    charged = charges * amount // whole.total
    tax = whole.tax * charged // charges if charges else 0
    return Parts(amount - charged, tax, charged - tax)


class Interval(StrEnum):
    WEEKLY = "weekly"
    BIWEEKLY = "biweekly"
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"


def due_dates(*, first: dt.date, count: int, interval: Interval) -> list[dt.date]:
    """Return `count` dates from the first: the n-th from the first, never from the one before."""
    return list(_due_dates(first, count, interval))


def _due_dates(first: dt.date, count: int, interval: Interval) -> Iterator[dt.date]:
    for number in range(count):
        if interval in (Interval.WEEKLY, Interval.BIWEEKLY):
            weeks = number * (1 if interval is Interval.WEEKLY else 2)
            yield first + dt.timedelta(weeks=weeks)
            continue
        months = first.month - 1 + number * (1 if interval is Interval.MONTHLY else 3)
        year, month = first.year + months // 12, months % 12 + 1
        # The 31st is the last where a month has none.
        yield dt.date(year, month, min(first.day, calendar.monthrange(year, month)[1]))


def _half_up(exact: Decimal) -> int:
    return int(exact.quantize(_WHOLE, rounding=ROUND_HALF_UP, context=_EXACT))
