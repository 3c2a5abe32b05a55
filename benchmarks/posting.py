"""Parts a, b and d: transfers by single calls, by batches, and as others make them."""

import time
from typing import Any
from uuid import UUID, uuid4

from benchmarks import naive, pgbench
from benchmarks.measuring import Result, alternate, at_least
from benchmarks.world import CURRENCY, random_pairs, rate

AMOUNT = 5
BATCHES = (100, 1_000, 8_000)
Setting = tuple[UUID, list[UUID]]


def single(setting: Setting, seed: int, until: float) -> int:
    """Transfers through the service, one a call."""
    from core.money import Money
    from payments.services import Transfer, make_transfer

    tenant_id, accounts = setting
    done = 0
    for source, destination in random_pairs(accounts, seed):
        if time.monotonic() >= until:
            return done
        make_transfer(
            tenant_id=tenant_id,
            transfer=Transfer(source, destination, Money(AMOUNT, CURRENCY), str(uuid4())),
        )
        done += 1
    return done


def bare_single(setting: Setting, seed: int, until: float) -> int:
    """The bare function through the same driver, prepared as ours is."""
    import psycopg
    from django.db import connection

    from core.ids import new_id

    tenant_id, accounts = setting
    connection.ensure_connection()
    done = 0
    with psycopg.Cursor(connection.connection) as cursor:
        for source, destination in random_pairs(accounts, seed):
            if time.monotonic() >= until:
                return done
            cursor.execute(
                "SELECT bare.transfer(%s, %s, %s, %s, %s, %s)",
                (tenant_id, new_id(), source, destination, AMOUNT, CURRENCY),
                prepare=True,
            )
            done += 1
    return done


def batches(setting: tuple[Setting, int], seed: int, until: float) -> int:
    """Transfers through the service, many a call."""
    from core.money import Money
    from payments.services import Transfer, make_transfers

    (tenant_id, accounts), size = setting
    amount = Money(AMOUNT, CURRENCY)
    pairs = random_pairs(accounts, seed)
    done = 0
    while time.monotonic() < until:
        transfers = [Transfer(*next(pairs), amount) for _ in range(size)]
        outcomes = make_transfers(
            tenant_id=tenant_id,
            transfers=transfers,
            is_atomic=False,
            idempotency_key=str(uuid4()),
        )
        assert all(outcome.outcome == "posted" for outcome in outcomes)  # noqa: S101
        done += size
    return done


def bare_batches(setting: tuple[Setting, int], seed: int, until: float) -> int:
    """The bare set-based function, through the same driver."""
    import psycopg
    from django.db import connection

    from core.ids import new_id

    (tenant_id, accounts), size = setting
    connection.ensure_connection()
    pairs = random_pairs(accounts, seed)
    done = 0
    with psycopg.Cursor(connection.connection) as cursor:
        while time.monotonic() < until:
            sources, destinations = zip(*(next(pairs) for _ in range(size)), strict=True)
            cursor.execute(
                "SELECT bare.transfer_batch(%s, %s, %s, %s, %s, %s)",
                (
                    tenant_id,
                    [new_id() for _ in range(size)],
                    list(sources),
                    list(destinations),
                    [AMOUNT] * size,
                    CURRENCY,
                ),
                prepare=True,
            )
            done += size
    return done


def measure_single(setting: Setting, rounds: int, seconds: float, url: str) -> list[Result]:
    """Function against function, under pgbench; then through Python, as the API does it."""
    functions = alternate(
        lambda: pgbench.rate(pgbench.OURS, setting, url, connections=16, seconds=seconds),
        lambda: pgbench.rate(pgbench.BARE, setting, url, connections=16, seconds=seconds),
        rounds,
    )
    services = alternate(
        lambda: rate(single, setting, connections=16, seconds=seconds),
        lambda: rate(bare_single, setting, connections=16, seconds=seconds),
        rounds,
    )
    return [
        at_least("a", "single calls, 16 connections; bare function", functions, 0.6, "/s"),
        at_least("a", "  the same, called from Python", services, 0.6, "/s"),
    ]


def measure_batches(setting: Setting, rounds: int, seconds: float) -> list[Result]:
    results = []
    for size in BATCHES:
        measured = alternate(
            lambda size=size: rate(batches, (setting, size), connections=2, seconds=seconds),
            lambda size=size: rate(bare_batches, (setting, size), connections=2, seconds=seconds),
            rounds,
        )
        what = f"batches of {size:,}, 2 connections; bare set-based function"
        results.append(at_least("b", what, measured, 0.5, "/s"))
    return results


def measure_rivals(setting: Setting, rounds: int, seconds: float, hordak: Any) -> list[Result]:
    """`hordak` is a rate, or None where it could not be installed."""
    rivals = {
        "naive Django": lambda: rate(naive.transfers, setting, connections=16, seconds=seconds)
    }
    if hordak is not None:
        rivals["django-hordak"] = hordak
    results = []
    for name, rival in rivals.items():
        for what, ours, target in (
            ("single calls", lambda: rate(single, setting, connections=16, seconds=seconds), 2),
            (
                "batches of 1,000",
                lambda: rate(batches, (setting, 1_000), connections=2, seconds=seconds),
                5,
            ),
        ):
            measured = alternate(ours, rival, rounds)
            results.append(at_least("d", f"{what}; {name}", measured, target, "/s"))
    return results
