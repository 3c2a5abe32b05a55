"""Rounds that alternate between us and what we are measured against, and the table of results."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass

from rich import box
from rich.console import Console
from rich.table import Table

Rate = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table. `ratio` is what the target is about."""

    part: str
    what: str
    ours: str
    baseline: str
    ratio: float
    target: str
    is_met: bool


def alternate(ours: Rate, baseline: Rate, rounds: int) -> tuple[float, float, float]:
    """
    Return the medians of both rates and of their ratio, round by round.

    The machine is shared: what slows one round down slows both of its halves.
    """
    pairs = []
    for number in range(rounds):
        # Whoever goes second finds a warmer cache: take turns.
        if number % 2:
            theirs, own = baseline(), ours()
        else:
            own, theirs = ours(), baseline()
        pairs.append((own, theirs))
    return (
        statistics.median(own for own, _ in pairs),
        statistics.median(theirs for _, theirs in pairs),
        statistics.median(own / theirs for own, theirs in pairs),
    )


def at_least(
    part: str, what: str, measured: tuple[float, float, float], target: float, unit: str
) -> Result:
    """Return the line of a rate that should reach a share of the baseline's."""
    own, theirs, ratio = measured
    return Result(
        part,
        what,
        f"{own:,.0f} {unit}",
        f"{theirs:,.0f} {unit}",
        ratio,
        f">= {target:g}",
        ratio >= target,
    )


def show(console: Console, results: list[Result]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("", "What", "Ours", "Against", "Ratio", "Target", ""):
        table.add_column(name, justify="right" if name in ("Ours", "Against", "Ratio") else "left")
    part = ""
    for each in results:
        if part and each.part != part:
            table.add_section()
        shown_part, part = ("" if each.part == part else each.part), each.part
        verdict = "[green]met[/]" if each.is_met else "[red]missed[/]"
        table.add_row(
            shown_part,
            each.what,
            each.ours,
            each.baseline,
            f"{each.ratio:.2f}",
            each.target,
            verdict if each.target else "",
        )
    console.print(table)


def as_json(results: list[Result]) -> list[dict[str, object]]:
    return [asdict(each) for each in results]
