"""`manage.py read_payout_report FILE --tenant ID`: a bank's pain.002 or camt.054."""

from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from core.errors import DomainError
from payments import services


class Command(BaseCommand):
    help = "Read a bank's report on payouts, and do what it says of each."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--tenant", type=UUID, required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            taken = services.take_report(
                tenant_id=options["tenant"],
                document=options["file"].read_bytes(),
                now=timezone.now(),
            )
        except (DomainError, OSError) as refusal:
            raise CommandError(str(refusal)) from refusal
        report = taken.report
        self.stdout.write(
            f"{report}: {report.applied_count} payouts changed, {report.unchanged_count} did not,"
            f" {report.unmatched_count} are not ours"
            + (" (read before)." if taken.is_replay else ".")
        )
