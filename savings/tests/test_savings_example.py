"""The worked example of docs/savings.md, run: each figure of its table is one of the ledger's."""

import datetime as dt
from decimal import Decimal
from pathlib import Path

from django.conf import settings

from identity.models import Tenant
from identity.services import advance_test_clock, start_test_clock
from savings.models import InterestAccrual, InterestPosting
from tests.making import balance_of, open_account
from tests.recurring import utc
from tests.saving import locked_plan

OPENED = utc("2026-01-15T10:00")


def test_the_table_of_the_docs(tenant: Tenant) -> None:
    start_test_clock(tenant_id=tenant.pk, at=OPENED, now=OPENED)
    source = open_account(tenant, balance=1_000_000)
    plan = locked_plan(
        source,
        dt.date(2026, 3, 15),
        now=OPENED,
        amount=1_000_000,
        annual_rate_bps=425,
        withholding_tax_bps=2_000,
    )

    advance_test_clock(tenant_id=tenant.pk, to=utc("2026-03-15"), now=OPENED)

    rows = []
    for posting in InterestPosting.objects.filter(plan=plan).order_by("period_to"):
        accruals = InterestAccrual.objects.filter(
            plan=plan, date__range=(posting.period_from, posting.period_to)
        )
        [(balance, a_day)] = set(accruals.values_list("balance", "amount"))
        rows.append(
            [
                *(f"{accruals.count()}", f"{balance:,}", f"{a_day:,}", f"{posting.accrued:,}"),
                *(_carried(posting.carried_in), f"{posting.amount:,}", f"{posting.tax:,}"),
                *(f"{posting.amount - posting.tax:,}", _carried(posting.carried_out)),
            ]
        )
    assert rows == _table()
    assert f"{balance_of(source) / 100:,.2f} are paid out" in _docs()


def _docs() -> str:
    return Path(settings.BASE_DIR, "docs/savings.md").read_text()


def _table() -> list[list[str]]:
    """Return the table's cells, without its first column and its head."""
    table = _docs().split("### By the calculator")[1].split("\n\n")[2]
    return [
        [cell.strip() for cell in line.strip("|").split("|")[1:]] for line in table.splitlines()[2:]
    ]


def _carried(amount: Decimal) -> str:
    return f"{amount}" if amount else "0"
