"""What the commands share that compare an app's rows with the books."""

import json
from abc import abstractmethod
from typing import IO, Any, ClassVar, cast
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from rich import box
from rich.console import Console
from rich.table import Table

from identity.models import Tenant
from ledger.management.verification import FETCHED_ROWS, Difference, Findings

FIRST_SHOWN = 20
# In a statement that takes a "tenant": its rows; of all, where that is NULL.
OF_TENANT = "(%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s::uuid)"


class ComparingCommand(BaseCommand):
    """Tell what was looked at and where it differs: exit 0 without differences, else 1."""

    # What is looked at, and what a finding about it is called.
    kinds: ClassVar[dict[str, str]]

    @abstractmethod
    def compare(self, *, limit: int, tenant_id: UUID | None) -> Findings:
        """Look at every tenant's rows, or at one's; keep the first `limit` differences."""

    def remedy(self, findings: Findings) -> str:
        """Say what to do about the differences; empty: nothing is known."""
        return ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--limit", type=int, default=FIRST_SHOWN, help="differences to show")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
        add_tenant_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        findings = self.compare(
            limit=options["limit"], tenant_id=named_tenant_id(options["tenant"])
        )
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
            table.add_row(name, f"{rows:,}", f"{findings.count_by_kind[self.kinds[name]]:,}")
        console.print(table)
        for difference in findings.first:
            console.print(f"{difference.kind} {difference.row}: {difference.fault}", markup=False)
        if findings.count > len(findings.first):
            console.print(f"... and {findings.count - len(findings.first):,} more")
        if not findings.count:
            console.print("No differences.")
        elif remedy := self.remedy(findings):
            console.print(remedy)


def collect(kind: str, statement: str, tenant_id: UUID | None, findings: Findings) -> None:
    """Add what the statement returns, which is (tenant, row, faults) where something is wrong."""
    # A cursor of the server's: where everything is wrong, not all of it is in memory at once.
    with connection.chunked_cursor() as cursor:
        cursor.execute(statement, {"tenant": tenant_id})
        while rows := cursor.fetchmany(FETCHED_ROWS):
            for tenant, row, faults in rows:
                for fault in faults:
                    findings.add(Difference(kind, f"{tenant} {row}", fault))


def count_rows(cursor: Any, table: str, tenant_id: UUID | None) -> int:
    cursor.execute(f"SELECT count(*) FROM {table} WHERE {OF_TENANT}", {"tenant": tenant_id})  # noqa: S608
    return int(cursor.fetchone()[0])


def add_tenant_argument(parser: CommandParser) -> None:
    parser.add_argument("--tenant", help="id or name of the one tenant to look at")


def named_tenant_id(text: str | None) -> UUID | None:
    """
    Return the tenant's id; None: all of them.

    :raises CommandError: nobody is named so, or several are
    """
    if text is None:
        return None
    try:
        found = Tenant.objects.filter(pk=UUID(text))
    except ValueError:
        found = Tenant.objects.filter(name=text)
    ids = list(found.values_list("pk", flat=True)[:2])
    if not ids:
        raise CommandError(f"There is no tenant {text}.")
    if len(ids) > 1:
        raise CommandError(f"More than one tenant is named {text}; state its id.")
    return ids[0]


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
