"""`make bench`: measure, in one run on a PostgreSQL of its own, and print one table."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks import (
    accounts,
    hordak,
    http,
    invoices,
    posting,
    reads,
    recurring,
    savings,
    webhooks,
    world,
)
from benchmarks.measuring import Result, as_json, show

PARTS = "abcdefghijk"
console = Console(width=120)


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    rounds, seconds = (1, 2.0) if options.quick else (3, 4.0)
    numbered = 200 if options.quick else 2_000
    results: list[Result] = []
    with world.database() as server:
        tenant_id, ids = world.populate()
        setting = (tenant_id, ids)

        def rivals() -> list[Result]:
            rival = None
            if hordak.install():
                world.create_database("hordak")
                rival = hordak.rival(server.url_of("hordak"))
            return posting.measure_rivals(setting, rounds, seconds, rival)

        def over_http(measure: Callable[..., list[Result]]) -> list[Result]:
            if http.wrk() is None:
                console.print("Left out: wrk is not installed (apt-get install wrk).")
                return []
            return measure(setting, rounds, max(3, int(seconds)))

        parts: dict[str, Callable[[], list[Result]]] = {
            "a": lambda: posting.measure_single(setting, rounds, seconds, server.url),
            "b": lambda: posting.measure_batches(setting, rounds, seconds),
            "c": lambda: over_http(http.measure),
            "d": rivals,
            "e": lambda: accounts.measure(tenant_id, rounds),
            "f": lambda: _reads(setting, 100_000 if options.quick else 1_000_000),
            "g": lambda: over_http(http.measure_edges),
            "h": lambda: webhooks.measure(
                setting, 200 if options.quick else 2_500, max(3, int(seconds))
            ),
            "i": lambda: [
                *over_http(lambda *_: invoices.measure(setting, max(5, int(seconds)), numbered)),
                *invoices.measure_reports(100_000 if options.quick else 1_000_000, rounds),
            ],
            "j": lambda: recurring.measure(
                setting,
                100_000 if options.quick else 1_000_000,
                10_000 if options.quick else 100_000,
            ),
            "k": lambda: savings.measure(
                setting,
                100_000 if options.quick else 1_000_000,
                10_000 if options.quick else 100_000,
                2_000 if options.quick else 20_000,
            ),
        }
        for name, measure in parts.items():
            if name in options.only:
                console.print(f"measuring {name} ...", style="dim")
                results += measure()
        _refuse_lost_money()
    console.print(_where())
    show(console, results)
    if options.json:
        options.json.write_text(json.dumps(as_json(results), indent=2))
    return 0


def _reads(setting: posting.Setting, entries: int) -> list[Result]:
    from rich.progress import Progress

    tenant_id, ids = setting
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("posting entries", total=entries + reads.SMALL)
        return reads.measure(tenant_id, ids, entries, lambda done: bar.advance(task, done))


def _refuse_lost_money() -> None:
    """What was measured was also right."""
    from django.core.management import call_command

    call_command("verify_ledger", stdout=sys.stderr)


def _where() -> str:
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL 18 with fsync and"
        " synchronous_commit on; load generators on the same machine. Ratios are medians of rounds"
        " that alternate."
    )


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default=PARTS, help="parts, such as ab")
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
