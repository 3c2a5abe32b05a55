"""`manage.py import_pkdd99 DIRECTORY`: a real bank's transactions and permanent orders."""

import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast
from uuid import UUID

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from accounts import services as accounts
from accounts.queries import accounts_by_external_id
from core.errors import DomainError
from core.money import Money
from identity.models import Tenant
from identity.services import tenant_named
from ledger import queries as ledger_queries
from ledger.services import Leg, Posting, post, refusal_of
from payments.management import pkdd99, pkdd99_orders
from payments.management.pkdd99 import CURRENCY, BadRow, DataSet, Kind, Row, external_id
from payments.queries import runs_by_month

TENANT_NAME = "PKDD'99 Bank"
BATCH_ROWS = 2_000


@dataclass(slots=True)
class Replay:
    """What became of the rows that were sent to the ledger."""

    posted: Counter[str] = field(default_factory=Counter)
    posted_before: Counter[str] = field(default_factory=Counter)
    refused: list[BadRow] = field(default_factory=list)


class Command(BaseCommand):
    help = "Load the PKDD'99 accounts and replay their transactions; run again, it continues."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("directory", type=Path, help="has account.csv and trans*.csv")
        parser.add_argument("--tenant", default=TENANT_NAME, help="name of the tenant to load into")
        parser.add_argument(
            "--orders",
            action="store_true",
            help="also load order.csv, and run a year of it on the tenant's test clock",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        # Django's wrapper writes and flushes, which is all that a console does.
        console = Console(file=cast(IO[str], self.stdout), width=100, soft_wrap=True)
        try:
            found = pkdd99.read(options["directory"])
            if options["orders"]:
                pkdd99.read_orders(options["directory"], found)
        except (pkdd99.Unreadable, OSError) as error:
            raise CommandError(str(error)) from None
        tenant = tenant_named(name=options["tenant"], now=timezone.now())
        tenant_id = tenant.pk
        opened = _open_accounts(tenant_id, found)
        began = time.monotonic()
        replay = self._replay(tenant_id, found.rows)
        elapsed_s = time.monotonic() - began
        _show_bad(console, found.bad + replay.refused)
        _show_rows(console, found, replay, elapsed_s, opened)
        _show_kinds(console, tenant_id, found)
        _show_balances(console, tenant_id, found)
        if options["orders"]:
            self._run_orders(console, tenant, found)

    def _run_orders(self, console: Console, tenant: Tenant, found: DataSet) -> None:
        now = timezone.now()
        try:
            pkdd99_orders.begin(tenant, now=now)
        except DomainError as refusal:
            raise CommandError(f"No year of orders for {tenant.name}: {refusal.detail}") from None
        tenant.refresh_from_db()
        with _progress("orders") as progress:
            bar = progress.add_task("", total=len(found.orders))
            loaded = pkdd99_orders.load_orders(
                tenant, found.orders, now=now, progress=lambda: progress.advance(bar)
            )
        began = time.monotonic()
        with _progress("running") as progress:
            bar = progress.add_task("", total=len(found.orders) * pkdd99_orders.MONTHS)
            runs = pkdd99_orders.run_year(
                tenant, now=now, progress=lambda runs: progress.advance(bar, runs)
            )
        elapsed_s = time.monotonic() - began
        _show_bad(console, loaded.refused)
        console.print(
            f"{len(found.orders):,} orders: {loaded.made:,} made recurring payments,"
            f" {loaded.made_before:,} were before, {len(loaded.refused):,} refused."
        )
        pace = f" ({runs / elapsed_s:,.0f} runs/s)" if runs else ""
        console.print(f"{runs:,} runs by the test clock in {elapsed_s:.1f} s{pace}.")
        _show_months(console, tenant.pk)
        _show_banks(console, tenant.pk, found)
        call_command("verify_ledger", tenant=str(tenant.pk), stdout=self.stdout)

    def _replay(self, tenant_id: UUID, rows: list[Row]) -> Replay:
        ids = _account_ids(tenant_id, {row.account_id for row in rows})
        internal = {
            role: accounts.internal_account(
                tenant_id=tenant_id, role=role, currency=CURRENCY, now=timezone.now()
            )
            for role in sorted({row.role for row in rows})
        }
        replay = Replay()
        with _progress("posting") as progress:
            bar = progress.add_task("", total=len(rows))
            for batch in _batches(rows):
                postings = [_posting(row, ids[row.account_id], internal) for row in batch]
                outcomes = post(tenant_id=tenant_id, postings=postings)
                for row, outcome in zip(batch, outcomes, strict=True):
                    if outcome.outcome == "posted":
                        replay.posted[row.file] += 1
                    elif outcome.outcome == "replayed":
                        replay.posted_before[row.file] += 1
                    else:
                        reason = f"refused: {refusal_of(outcome).detail}"
                        replay.refused.append(BadRow(row.file, row.line, reason))
                progress.advance(bar, len(batch))
        return replay


def _open_accounts(tenant_id: UUID, found: DataSet) -> int:
    """Open those that are not there yet; return how many."""
    opened = 0
    for batch in _batches(list(found.accounts.values()), accounts.BATCH_MAX):
        results = accounts.open_accounts(tenant_id=tenant_id, new=batch, now=timezone.now())
        opened += sum(isinstance(result, UUID) for result in results)
    return opened


def _account_ids(tenant_id: UUID, account_ids: Iterable[str]) -> dict[str, UUID]:
    by_external_id = accounts_by_external_id(
        tenant_id=tenant_id, external_ids=map(external_id, account_ids)
    )
    return {name.removeprefix("pkdd99-"): account.pk for name, account in by_external_id.items()}


def _posting(row: Row, account_id: UUID, internal: dict[str, UUID]) -> Posting:
    return Posting(
        type=row.transaction_type,
        currency=CURRENCY,
        legs=(Leg(account_id, row.signed), Leg(internal[row.role], -row.signed)),
        idempotency_key=row.idempotency_key,
        request_fingerprint=row.request_fingerprint,
        description=row.description,
        external_reference=str(row.trans_id),
        value_date=row.date,
        metadata=row.metadata,
    )


def _batches(things: list[Any], size: int = BATCH_ROWS) -> Iterator[list[Any]]:
    waiting = iter(things)
    while batch := list(itertools.islice(waiting, size)):
        yield batch


def _show_bad(console: Console, bad: list[BadRow]) -> None:
    for row in sorted(bad, key=lambda row: (row.file, row.line)):
        console.print(f"{row.file}:{row.line}: {row.reason}", highlight=False, markup=False)


def _show_rows(
    console: Console, found: DataSet, replay: Replay, elapsed_s: float, opened: int
) -> None:
    table = _table("Rows", "File", "Read", "Posted now", "Posted before", "Refused", "Bad")
    files = sorted(file for file in found.rows_by_file if file != "account.csv")
    for file in files:
        counts = (
            found.rows_by_file[file],
            replay.posted[file],
            replay.posted_before[file],
            sum(row.file == file for row in replay.refused),
            sum(row.file == file for row in found.bad),
        )
        table.add_row(file, *(f"{count:,}" for count in counts))
    console.print(table)
    posted = replay.posted.total()
    pace = f"{posted:,} transactions posted in {elapsed_s:.1f} s"
    if posted:
        pace += f" ({posted / elapsed_s:,.0f} rows/s)"
    elif replay.posted_before:
        pace += ": every row that can be was posted before"
    console.print(
        f"{opened:,} accounts opened, {len(found.accounts) - opened:,} were there before."
    )
    console.print(f"{pace}.")


def _show_kinds(console: Console, tenant_id: UUID, found: DataSet) -> None:
    in_files = pkdd99.totals_by_kind(found.rows)
    in_ledger: dict[Kind, tuple[int, int]] = {
        total.values: (total.transactions, total.amount)
        for total in ledger_queries.totals_by_metadata(tenant_id=tenant_id, keys=pkdd99.KIND_KEYS)
    }
    table = _table("Amounts by kind, CZK", "Kind", "Rows", "In files", "In ledger", "Difference")
    for kind in sorted(in_files.keys() | in_ledger.keys()):
        (rows, expected), (_, actual) = in_files.get(kind, (0, 0)), in_ledger.get(kind, (0, 0))
        table.add_row(
            " ".join(kind), f"{rows:,}", _czk(expected), _czk(actual), _czk(actual - expected)
        )
    expected, actual = (
        sum(amount for _, amount in totals.values()) for totals in (in_files, in_ledger)
    )
    table.add_section()
    table.add_row(
        "All", f"{len(found.rows):,}", _czk(expected), _czk(actual), _czk(actual - expected)
    )
    console.print(table)


def _show_balances(console: Console, tenant_id: UUID, found: DataSet) -> None:
    names = {
        "last booking of the last day": pkdd99.last_balances(found.rows),
        "last row in the file": pkdd99.last_balances_in_file(found.rows),
    }
    balances = {
        name.removeprefix("pkdd99-"): account.balance
        for name, account in accounts_by_external_id(
            tenant_id=tenant_id,
            external_ids=map(external_id, names["last row in the file"]),
        ).items()
    }
    table = _table(
        "Final balances against the file's", "Its balance", "Accounts", "Agree", "Differ", "At most"
    )
    for name, in_files in names.items():
        differences = [abs(balances[each] - balance) for each, balance in in_files.items()]
        agree = sum(difference == 0 for difference in differences)
        table.add_row(
            name,
            f"{len(differences):,}",
            f"{agree:,}",
            f"{len(differences) - agree:,}",
            _czk(max(differences, default=0)),
        )
    console.print(table)


def _show_months(console: Console, tenant_id: UUID) -> None:
    months = runs_by_month(tenant_id=tenant_id)
    table = _table("Orders by month", "Month", "Runs", "Succeeded", "Not", "Paid, CZK")
    for each in months:
        runs = sum(each.runs_by_status.values())
        succeeded = each.runs_by_status.get("succeeded", 0)
        table.add_row(
            f"{each.month:%Y-%m}",
            f"{runs:,}",
            f"{succeeded:,}",
            f"{runs - succeeded:,}",
            _czk(each.paid),
        )
    table.add_section()
    runs = sum(sum(each.runs_by_status.values()) for each in months)
    succeeded = sum(each.runs_by_status.get("succeeded", 0) for each in months)
    paid = sum(each.paid for each in months)
    table.add_row("All", f"{runs:,}", f"{succeeded:,}", f"{runs - succeeded:,}", _czk(paid))
    console.print(table)


def _show_banks(console: Console, tenant_id: UUID, found: DataSet) -> None:
    """Twelve times what the file orders for each bank, against what its account has got."""
    expected: Counter[str] = Counter()
    orders = Counter(order.bank for order in found.orders)
    for order in found.orders:
        expected[order.bank] += pkdd99_orders.MONTHS * order.amount
    by_name = accounts_by_external_id(
        tenant_id=tenant_id, external_ids=map(pkdd99_orders.bank_external_id, orders)
    )
    balances = {
        bank: by_name[pkdd99_orders.bank_external_id(bank)].balance for bank in sorted(orders)
    }
    table = _table(
        "Paid to each bank, CZK", "Bank", "Orders", "Twelve months", "In ledger", "Difference"
    )
    for bank, balance in balances.items():
        table.add_row(
            bank,
            f"{orders[bank]:,}",
            _czk(expected[bank]),
            _czk(balance),
            _czk(balance - expected[bank]),
        )
    table.add_section()
    total, paid = expected.total(), sum(balances.values())
    table.add_row("All", f"{orders.total():,}", _czk(total), _czk(paid), _czk(paid - total))
    console.print(table)


def _progress(what: str) -> Progress:
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        disable=not sys.stderr.isatty(),
    )


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _czk(haler: int) -> str:
    return f"{Money(haler, CURRENCY).decimal:,.2f}"
