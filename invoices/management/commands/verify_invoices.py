"""`manage.py verify_invoices`: do the books say what the invoices say? See docs/reports.md."""

import json
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.console import Console
from rich.table import Table

from invoices.management.verification import verify
from invoices.management.whose import add_tenant_argument, named_tenant_id
from ledger.management.verification import Findings

FIRST_SHOWN = 20
# What is looked at, and what a finding about it is called.
_KINDS = {
    "accounts": "account",
    "invoices": "invoice",
    "credits": "credit",
    "credit notes": "credit note",
    "number series": "number series",
    "daily figures": "daily figures",
}


class Command(BaseCommand):
    help = "Compare accounts, daily figures and numbers with the invoices; exit 1 if they differ."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--limit", type=int, default=FIRST_SHOWN, help="differences to show")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
        add_tenant_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        findings = verify(limit=options["limit"], tenant_id=named_tenant_id(options["tenant"]))
        if options["json"]:
            self.stdout.write(json.dumps(_report(findings), indent=2))
        else:
            self._tell(findings)
        if findings.count:
            raise CommandError(f"{findings.count:,} differences", returncode=1)

    def _tell(self, findings: Findings) -> None:
        # Django's wrapper writes and flushes, which is all that a console does.
        console = Console(file=cast(IO[str], self.stdout), width=100, soft_wrap=True)
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("Looked at")
        table.add_column("Rows", justify="right")
        table.add_column("Differences", justify="right")
        for name, rows in findings.checked.items():
            table.add_row(name, f"{rows:,}", f"{findings.count_by_kind[_KINDS[name]]:,}")
        console.print(table)
        for difference in findings.first:
            console.print(f"{difference.kind} {difference.row}: {difference.fault}", markup=False)
        if findings.count > len(findings.first):
            console.print(f"... and {findings.count - len(findings.first):,} more")
        if not findings.count:
            console.print("No differences.")
        elif findings.count_by_kind["daily figures"]:
            console.print("Once the rows are right, rebuild_figures puts the daily figures right.")


def _report(findings: Findings) -> dict[str, Any]:
    return {
        "ok": not findings.count,
        "checked": findings.checked,
        "difference_count": findings.count,
        "difference_count_by_kind": findings.count_by_kind,
        "differences": [
            {"kind": each.kind, "row": each.row, "fault": each.fault} for each in findings.first
        ],
    }
