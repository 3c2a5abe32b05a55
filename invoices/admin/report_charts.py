"""
Charts of the financial report: geometry for SVG that the server writes. No script, no library.

A series has a pattern besides its colour (static/florin/charts.css); the table below a chart has
the same numbers. Lengths are in units of the drawing.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from core.money import format_money

WIDTH = 720
_PLOT_HEIGHT = 220
_TOP = 8
# For the amounts beside the lines.
_AXIS_WIDTH = 130
_LABELS_HEIGHT = 22
_LABELS_MAX = 7
# Half of the longest.
_LABEL_HALF_WIDTH = 34
_BAR_WIDTH_MAX = 56
_TICKS_MAX = 5
_ROW_HEIGHT = 34
_NAME_WIDTH = 110
_AMOUNT_WIDTH = 190


@dataclass(frozen=True, slots=True)
class Series:
    # Of its class and pattern.
    name: str
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """What is drawn for one period or one gateway: minor units by series, and a word on it."""

    label: str
    amounts: dict[str, int]
    sentence: str


@dataclass(frozen=True, slots=True)
class Piece:
    series: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Drawn:
    label: str
    sentence: str
    pieces: list[Piece]
    # Where its label stands; None: there is no room for it.
    label_x: float | None
    label_y: float
    # Written beside it.
    amount: str = ""
    amount_x: float = 0


@dataclass(frozen=True, slots=True)
class Line:
    y: float
    label: str
    label_y: float


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with what it says in words."""

    name: str
    title: str
    description: str
    series: Sequence[Series]
    height: float
    lines: list[Line]
    # Where nothing is: x1, y1, x2, y2.
    zero: tuple[float, float, float, float]
    bars: list[Drawn]
    # Where lines begin, right of their amounts.
    left: float = _AXIS_WIDTH
    width: int = WIDTH


def columns(
    *,
    name: str,
    title: str,
    description: str,
    series: Sequence[Series],
    bars: Sequence[Bar],
    currency: str,
) -> Chart:
    """Return columns beside each other, the parts of each stacked; below zero what is negative."""
    high, low = _extent(bars)
    ticks = _ticks(low, high)
    span = max(ticks) - min(ticks)

    def y_of(amount: int) -> float:
        return round(_TOP + _PLOT_HEIGHT * (max(ticks) - amount) / span, 1)

    step = (WIDTH - _AXIS_WIDTH) / max(1, len(bars))
    width = min(step * 0.7, _BAR_WIDTH_MAX)
    every = -(-len(bars) // _LABELS_MAX)
    drawn = []
    for place, bar in enumerate(bars):
        middle = _AXIS_WIDTH + step * (place + 0.5)
        pieces = [
            Piece(
                each,
                round(middle - width / 2, 1),
                y_of(top),
                round(width, 1),
                round(y_of(bottom) - y_of(top), 1),
            )
            for each, bottom, top in _stacked(bar.amounts)
        ]
        has_room = place % every == 0 and middle <= WIDTH - _LABEL_HALF_WIDTH
        label_x = round(middle, 1) if has_room else None
        drawn.append(Drawn(bar.label, bar.sentence, pieces, label_x, _TOP + _PLOT_HEIGHT + 15))
    lines = [
        Line(y_of(tick), format_money(tick, currency), round(y_of(tick) + 4, 1)) for tick in ticks
    ]
    zero = (float(_AXIS_WIDTH), y_of(0), float(WIDTH), y_of(0))
    height = _TOP + _PLOT_HEIGHT + _LABELS_HEIGHT
    return Chart(name, title, description, series, height, lines, zero, drawn)


def rows(
    *,
    name: str,
    title: str,
    description: str,
    series: Sequence[Series],
    bars: Sequence[Bar],
    currency: str,
) -> Chart:
    """Return rows below each other, each with its name before it and its sum behind it."""
    high, low = _extent(bars)
    span = max(1, high - low)
    room = WIDTH - _NAME_WIDTH - _AMOUNT_WIDTH

    def x_of(amount: int) -> float:
        return round(_NAME_WIDTH + room * (amount - low) / span, 1)

    drawn = []
    for place, bar in enumerate(bars):
        y = place * _ROW_HEIGHT + 6
        pieces = [
            Piece(each, x_of(bottom), y, round(x_of(top) - x_of(bottom), 1), _ROW_HEIGHT - 12)
            for each, bottom, top in _stacked(bar.amounts)
        ]
        amount = format_money(sum(bar.amounts.values()), currency)
        drawn.append(
            Drawn(bar.label, bar.sentence, pieces, 0, y + 15, amount, WIDTH - _AMOUNT_WIDTH + 8)
        )
    height = len(bars) * _ROW_HEIGHT + 4
    zero = (x_of(0), 0.0, x_of(0), float(height))
    return Chart(name, title, description, series, height, [], zero, drawn)


def period_label(period: dt.date, group: str) -> str:
    """Return what a day, week, month, quarter or year is called."""
    if group == "year":
        return f"{period.year}"
    if group == "quarter":
        return f"{period.year} Q{(period.month + 2) // 3}"
    return f"{period:%Y-%m}" if group == "month" else f"{period:%Y-%m-%d}"


def _stacked(amounts: dict[str, int]) -> list[tuple[str, int, int]]:
    """Return series, lower and upper end of each part; what is below zero goes down from there."""
    pieces, up, down = [], 0, 0
    for series, amount in amounts.items():
        if amount > 0:
            pieces.append((series, up, up + amount))
            up += amount
        elif amount < 0:
            pieces.append((series, down + amount, down))
            down += amount
    return pieces


def _extent(bars: Sequence[Bar]) -> tuple[int, int]:
    highs = [sum(each for each in bar.amounts.values() if each > 0) for bar in bars]
    lows = [sum(each for each in bar.amounts.values() if each < 0) for bar in bars]
    return max(highs, default=0), min(lows, default=0)


def _ticks(low: int, high: int) -> list[int]:
    """Return round amounts from below the lowest to above the highest, zero among them."""
    step = 1
    while (high - low) // step > _TICKS_MAX:
        # 1, 2, 5, 10, 20, 50 ...
        step = step * 5 // 2 if str(step).startswith("2") else step * 2
    first, last = low // step, max(-(-high // step), low // step + 1)
    return [step * count for count in range(first, last + 1)]
