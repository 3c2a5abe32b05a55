"""`manage.py verify_ledger`: is every figure what its entries say? See docs/verify-ledger.md."""

import json
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger.management.verification import Findings, verify

FIRST_SHOWN = 20


class Command(BaseCommand):
    help = "Recompute balances, sequences, sums and holds; exit 1 with the first differences."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--limit", type=int, default=FIRST_SHOWN, help="differences to show")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        findings = verify(limit=options["limit"], progress=self._show_progress)
        elapsed_s = time.monotonic() - began
        if sys.stderr.isatty():
            self.stderr.write("\r" + " " * 60, ending="\r")
        if options["json"]:
            self.stdout.write(json.dumps(_report(findings, elapsed_s), indent=2))
        else:
            self._tell(findings, elapsed_s)
        if findings.count:
            raise CommandError(f"{findings.count:,} differences", returncode=1)

    def _tell(self, findings: Findings, elapsed_s: float) -> None:
        for difference in findings.first:
            self.stdout.write(f"{difference.kind} {difference.row} {difference.fault}")
        if findings.count > len(findings.first):
            self.stdout.write(f"... and {findings.count - len(findings.first):,} more")
        checked = ", ".join(f"{count:,} {name}" for name, count in findings.checked.items())
        verdict = f"{findings.count:,} differences" if findings.count else "no differences"
        self.stdout.write(f"Checked {checked} in {elapsed_s:.1f} s: {verdict}.")

    def _show_progress(self, part: str, rows: int) -> None:
        if sys.stderr.isatty():
            self.stderr.write(f"\r{rows:>15,} {part}".ljust(60), ending="")


def _report(findings: Findings, elapsed_s: float) -> dict[str, Any]:
    return {
        "ok": not findings.count,
        "checked": findings.checked,
        "seconds": round(elapsed_s, 3),
        "difference_count": findings.count,
        "differences": [
            {"kind": each.kind, "row": each.row, "fault": each.fault} for each in findings.first
        ],
    }
