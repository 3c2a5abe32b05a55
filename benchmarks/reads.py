"""Part f: reads of an account with a million entries against one with a thousand."""

import datetime as dt
import random
import statistics
import time
from collections.abc import Callable
from uuid import UUID, uuid4

from benchmarks.measuring import Result
from benchmarks.world import CURRENCY, OVERDRAFT_LIMIT

SMALL = 1_000
READS = 300
TARGET = 1.5


def measure(
    tenant_id: UUID, others: list[UUID], entries: int, progress: Callable[[int], None]
) -> list[Result]:
    from django.db import connection

    big, small = (_account_with(tenant_id, others, n, progress) for n in (entries, SMALL))
    with connection.cursor() as cursor:
        # As autovacuum would, some minutes later.
        cursor.execute("VACUUM (ANALYZE) ledger_entry, ledger_transaction")
    results = []
    for what, read in (("a page of 50 entries", _page), ("a balance at a past moment", _balance)):
        times: dict[UUID, list[float]] = {big: [], small: []}
        moments = {account: _moments(tenant_id, account) for account in times}
        for number in range(READS):
            for account, taken in times.items():
                began = time.perf_counter()
                read(tenant_id, account, moments[account][number])
                taken.append(time.perf_counter() - began)
        of_big, of_small = (statistics.median(times[account]) * 1e3 for account in (big, small))
        results.append(
            Result(
                "f",
                f"{what}: {entries:,} entries; {SMALL:,}",
                f"{of_big:.2f} ms",
                f"{of_small:.2f} ms",
                of_big / of_small,
                f"<= {TARGET:g}",
                of_big / of_small <= TARGET,
            )
        )
    return results


def _account_with(
    tenant_id: UUID, others: list[UUID], entries: int, progress: Callable[[int], None]
) -> UUID:
    """An account that has received so many transfers, from all others in turn."""
    from django.utils import timezone

    from accounts.services import NewAccount, open_account
    from core.money import Money
    from payments.services import Transfer, make_transfers

    new = NewAccount(type="checking", currency=CURRENCY, overdraft_limit=OVERDRAFT_LIMIT)
    account_id = open_account(tenant_id=tenant_id, new=new, now=timezone.now()).pk
    amount = Money(1, CURRENCY)
    for start in range(0, entries, 8_000):
        size = min(8_000, entries - start)
        make_transfers(
            tenant_id=tenant_id,
            transfers=[
                Transfer(others[(start + n) % len(others)], account_id, amount) for n in range(size)
            ],
            is_atomic=True,
            idempotency_key=str(uuid4()),
        )
        progress(size)
    return account_id


def _moments(tenant_id: UUID, account_id: UUID) -> list[tuple[int, dt.datetime]]:
    """Entries of the account, from all of its life: their sequences and times."""
    from ledger.queries import entries_of

    entries = entries_of(tenant_id=tenant_id, account_id=account_id)
    last = entries.order_by("-sequence")[0].sequence
    dice = random.Random(7)
    sequences = [dice.randint(100, last) for _ in range(READS)]
    times = dict(entries.filter(sequence__in=sequences).values_list("sequence", "created_at"))
    return [(sequence, times[sequence]) for sequence in sequences]


def _page(tenant_id: UUID, account_id: UUID, at: tuple[int, dt.datetime]) -> None:
    """What GET /accounts/{id}/entries?limit=50&cursor=… asks the database."""
    from ledger.queries import counterparties_of, entries_of

    entries = entries_of(tenant_id=tenant_id, account_id=account_id).filter(sequence__lt=at[0])
    counterparties_of(list(entries.order_by("-sequence")[:51]))


def _balance(tenant_id: UUID, account_id: UUID, at: tuple[int, dt.datetime]) -> None:
    from django.utils import timezone

    from ledger.queries import balance_at

    balance_at(tenant_id=tenant_id, account_id=account_id, at=at[1], now=timezone.now())
