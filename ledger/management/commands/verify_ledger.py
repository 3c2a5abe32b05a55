"""`manage.py verify_ledger`: is every figure what its entries say? See docs/verify-ledger.md."""

import json
import sys
import time
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from identity.models import Tenant
from ledger.management.verification import Findings, verify

FIRST_SHOWN = 20


class Command(BaseCommand):
    help = "Recompute balances, sequences, sums and holds; exit 1 with the first differences."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--limit", type=int, default=FIRST_SHOWN, help="differences to show")
        parser.add_argument("--tenant", help="id or name of the one tenant to look at")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant_id = None if options["tenant"] is None else _tenant_id(options["tenant"])
        began = time.monotonic()
        findings = verify(limit=options["limit"], progress=self._show_progress, tenant_id=tenant_id)
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
        verdict = "no differences"
        if findings.count:
            kinds = ", ".join(
                f"{count:,} {kind}" for kind, count in findings.count_by_kind.most_common()
            )
            verdict = f"{findings.count:,} differences ({kinds})"
        pace = f"{_rows_per_s(findings, elapsed_s):,} rows/s"
        self.stdout.write(f"Checked {checked} in {elapsed_s:.1f} s ({pace}): {verdict}.")

    def _show_progress(self, part: str, rows: int) -> None:
        if sys.stderr.isatty():
            self.stderr.write(f"\r{rows:>15,} {part}".ljust(60), ending="")


def _tenant_id(text: str) -> UUID:
    try:
        found = Tenant.objects.filter(pk=UUID(text))
    except ValueError:
        found = Tenant.objects.filter(name=text)
    ids = list(found.values_list("pk", flat=True)[:2])
    if len(ids) != 1:
        raise CommandError(
            f"There is no tenant {text}."
            if not ids
            else f"More than one tenant is named {text}; state its id."
        )
    return ids[0]


def _rows_per_s(findings: Findings, elapsed_s: float) -> int:
    return round(sum(findings.checked.values()) / elapsed_s)


def _report(findings: Findings, elapsed_s: float) -> dict[str, Any]:
    return {
        "ok": not findings.count,
        "checked": findings.checked,
        "seconds": round(elapsed_s, 3),
        "rows_per_second": _rows_per_s(findings, elapsed_s),
        "difference_count": findings.count,
        "difference_count_by_kind": findings.count_by_kind,
        "differences": [
            {"kind": each.kind, "row": each.row, "fault": each.fault} for each in findings.first
        ],
    }
