"""`manage.py rebuild_figures`: daily figures anew from the rows. See docs/reports.md."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from invoices.services.figures import rebuild_figures
from ledger.management.comparing import add_tenant_argument, named_tenant_id


class Command(BaseCommand):
    help = "Put the reports' daily figures right by invoices, receipts and credit notes."

    def add_arguments(self, parser: CommandParser) -> None:
        add_tenant_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        mended = rebuild_figures(tenant_id=named_tenant_id(options["tenant"]))
        self.stdout.write(f"{mended:,} rows of daily figures were wrong, and are right now.")
