"""The database that everything is measured in, and connections at work on it."""

import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import UUID

ACCOUNTS = 10_000
CURRENCY = "USD"
# Enough below zero for any run: it is not refusals that are measured.
OVERDRAFT_LIMIT = 10**15
PROCESSES = 2
_BARE_SQL = Path(__file__).with_name("bare.sql")


@contextmanager
def database() -> Iterator[Any]:
    """A durable PostgreSQL with Florin's tables, and a Valkey; Django is set up to use them."""
    from ops.servers import Postgres, Valkey, scratch_directory

    with (
        scratch_directory(in_memory=False) as place,
        Postgres(place, durable=True) as server,
        Valkey(place, durable=False) as valkey,
    ):
        os.environ.update(
            DATABASE_URL=server.url,
            REDIS_URL=valkey.url,
            FLORIN_IGNORE_LOCAL_ENV="1",
            DJANGO_SETTINGS_MODULE="config.settings",
            DATABASE_POOL_MAX="60",
            STATEMENT_TIMEOUT_MS="120000",
            LOCK_TIMEOUT_MS="30000",
        )
        set_up_django()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        yield server


def create_database(name: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")


def set_up_django() -> None:
    import django

    django.setup()


def populate() -> tuple[UUID, list[UUID]]:
    """Make a tenant with ACCOUNTS accounts, and the same accounts without rules."""
    from django.db import connection
    from django.utils import timezone

    from accounts.services import NewAccount, open_accounts
    from identity.services import create_tenant

    tenant = create_tenant(name="Bench", now=timezone.now())
    new = [
        NewAccount(type="checking", currency=CURRENCY, overdraft_limit=OVERDRAFT_LIMIT)
    ] * ACCOUNTS
    ids = [
        opened
        for opened in open_accounts(tenant_id=tenant.pk, new=new, now=timezone.now())
        if isinstance(opened, UUID)
    ]
    with connection.cursor() as cursor:
        cursor.execute(_BARE_SQL.read_text())
        cursor.execute("VACUUM ANALYZE")
    return tenant.pk, ids


def rate(
    work: Callable[[Any, int, float], int], setting: Any, *, connections: int, seconds: float
) -> float:
    """
    Return how many things a second are done by `work` on so many connections.

    `work(setting, seed, until)` runs in a thread of one of two processes until `until` (monotonic
    seconds) and returns how many it has done.
    """
    context = get_context("spawn")
    per_process = max(1, connections // PROCESSES)
    processes = min(PROCESSES, connections)
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        # Every process is up and connected before the clock starts.
        list(pool.map(warm_up, [per_process] * processes))
        began = time.monotonic()
        until = began + seconds
        jobs = [
            pool.submit(_threads, work, setting, per_process, seed, until)
            for seed in range(processes)
        ]
        done = sum(job.result() for job in jobs)
        return done / (time.monotonic() - began)


def random_pairs(accounts: list[UUID], seed: int) -> Iterator[tuple[UUID, UUID]]:
    """Yield two different accounts, without end."""
    dice = random.Random(seed)
    for _ in itertools.count():
        one, two = dice.sample(accounts, 2)
        yield one, two


def warm_up(threads: int) -> None:
    """Have a new process be ready to work."""
    set_up_django()
    time.sleep(0.2)


def _threads(
    work: Callable[[Any, int, float], int], setting: Any, threads: int, seed: int, until: float
) -> int:
    from django.db import connection

    def one(number: int) -> int:
        try:
            return work(setting, seed * 1000 + number, until)
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(one, range(threads)))
