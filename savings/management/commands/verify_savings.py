"""`manage.py verify_savings`: is interest what entries and formula say? See docs/savings.md."""

from typing import ClassVar
from uuid import UUID

from ledger.management.comparing import ComparingCommand
from ledger.management.verification import Findings
from savings.management.verification import verify


class Command(ComparingCommand):
    help = "Recompute the interest of savings plans from entries; exit 1 if anything differs."
    kinds: ClassVar[dict[str, str]] = {
        "plans": "plan",
        "accruals": "accrual",
        "interest postings": "interest posting",
        "booked interest": "booked interest",
        "interest books": "interest book",
    }

    def compare(self, *, limit: int, tenant_id: UUID | None) -> Findings:
        return verify(limit=limit, tenant_id=tenant_id)
