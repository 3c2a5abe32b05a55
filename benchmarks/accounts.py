"""Part e: accounts opened in bulk, against a raw COPY of the same lines into the same table."""

import time
from uuid import UUID

from benchmarks.measuring import Result, alternate, at_least

BATCH = 10_000
BATCHES = 5


def opened(tenant_id: UUID) -> float:
    """Accounts a second through the service, BATCH a call."""
    from django.utils import timezone

    from accounts.services import NewAccount, open_accounts

    new = [
        NewAccount(type="checking", currency="USD", name="Ada", metadata={"segment": "retail"})
    ] * BATCH
    began = time.monotonic()
    for _ in range(BATCHES):
        open_accounts(tenant_id=tenant_id, new=new, now=timezone.now())
    return BATCH * BATCHES / (time.monotonic() - began)


def copied(tenant_id: UUID) -> float:
    """Accounts a second by COPY alone; the lines are made before the clock starts."""
    from django.db import connection, transaction
    from django.utils import timezone

    from core.ids import new_id

    now = timezone.now()
    batches = [
        "".join(
            f"{new_id()}\t{tenant_id}\tchecking\tUSD\tactive\tAda\t0\t"
            f'{{"segment": "retail"}}\t{now}\t{now}\n'
            for _ in range(BATCH)
        )
        for _ in range(BATCHES)
    ]
    began = time.monotonic()
    for lines in batches:
        with (
            transaction.atomic(),
            connection.cursor() as cursor,
            cursor.copy(
                "COPY accounts_account (id, tenant_id, type, currency, status, name,"
                " overdraft_limit, metadata, created_at, updated_at) FROM STDIN"
            ) as stream,
        ):
            stream.write(lines)
    return BATCH * BATCHES / (time.monotonic() - began)


def measure(tenant_id: UUID, rounds: int) -> list[Result]:
    measured = alternate(lambda: opened(tenant_id), lambda: copied(tenant_id), rounds)
    return [at_least("e", "accounts opened, 10,000 a call; COPY", measured, 0.5, "/s")]
