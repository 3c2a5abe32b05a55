"""`manage.py verify_invoices`: do the books say what the invoices say? See docs/reports.md."""

from typing import ClassVar
from uuid import UUID

from invoices.management.verification import verify
from ledger.management.comparing import ComparingCommand
from ledger.management.verification import Findings


class Command(ComparingCommand):
    help = "Compare accounts, daily figures and numbers with the invoices; exit 1 if they differ."
    kinds: ClassVar[dict[str, str]] = {
        "accounts": "account",
        "invoices": "invoice",
        "credits": "credit",
        "credit notes": "credit note",
        "number series": "number series",
        "daily figures": "daily figures",
    }

    def compare(self, *, limit: int, tenant_id: UUID | None) -> Findings:
        return verify(limit=limit, tenant_id=tenant_id)

    def remedy(self, findings: Findings) -> str:
        if not findings.count_by_kind["daily figures"]:
            return ""
        return "Once the rows are right, rebuild_figures puts the daily figures right."
