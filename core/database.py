"""The seam between PostgreSQL's rules and ours: SQL files, constraint names, passing faults."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import psycopg
from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connection,
    transaction,
)
from django.db.models import Model, QuerySet

from core.errors import DomainError

T = TypeVar("T")

LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"
# Deadlock and lost serialization: PostgreSQL undid everything, so the same call may run again.
_UNDONE = frozenset({DEADLOCK_DETECTED, "40001"})
ATTEMPTS_MAX = 4


def sql_beside(migration_file: str) -> str:
    """
    Return the SQL that belongs to a migration: the file of the same name, ending in .sql.

    Such a file is history, like its migration: a change of a function or trigger is a new
    migration with a new file, never an edit.
    """
    return Path(migration_file).with_suffix(".sql").read_text(encoding="utf-8")


def constraint_of(error: DatabaseError) -> str | None:
    """Return the name of the constraint or trigger rule that was violated, if one was."""
    cause = error.__cause__
    return cause.diag.constraint_name if isinstance(cause, psycopg.Error) else None


def sqlstate_of(error: DatabaseError) -> str | None:
    """Return PostgreSQL's error code (SQLSTATE); None where the server sent none."""
    cause = error.__cause__
    return cause.sqlstate if isinstance(cause, psycopg.Error) else None


def is_gone(fault: Exception) -> bool:
    """Whether the fault is that the database is gone: then nobody is to blame, nothing goes on."""
    return isinstance(fault, OperationalError | InterfaceError) and not connection.is_usable()


def sql_array(items: Sequence[str]) -> str:
    """
    Return a PostgreSQL array of what needs no quoting: numbers, UUIDs.

    As text, because psycopg looks at each element of a list in Python, three times as long.
    """
    return "{" + ",".join(items) + "}"


def sql_text_array(items: Sequence[str | None]) -> str | None:
    """Return a PostgreSQL array of any strings and NULLs; None if nothing but NULLs is in it."""
    quoted = [
        "NULL" if item is None else '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for item in items
    ]
    return sql_array(quoted) if any(item is not None for item in items) else None


def remember(instance: Model, **related: Sequence[Model]) -> None:
    """
    Have `instance` know rows that belong to it, by the name of the relation, as if prefetched.

    For what the caller has just written, or knows to be nothing, and would else read back.
    """
    known: dict[str, QuerySet[Model]] = instance.__dict__.setdefault(
        "_prefetched_objects_cache", {}
    )
    for name, rows in related.items():
        known[name] = getattr(instance, name).all()
        known[name]._result_cache = list(rows)


@contextmanager
def refusing(by_constraint: Mapping[str, DomainError]) -> Iterator[None]:
    """
    Turn the violation of a named constraint into a domain error; let every other one through.

    Wraps the `atomic` block, not the statement: after a violation PostgreSQL takes no further
    statement in that transaction.
    """
    try:
        yield
    except IntegrityError as error:
        name = constraint_of(error)
        if name is None or name not in by_constraint:
            raise
        raise by_constraint[name] from error


@contextmanager
def reading_as(tenant_id: UUID) -> Iterator[None]:
    """
    Read within the block as somebody who sees this tenant's rows only, and may change nothing.

    By PostgreSQL's row security (docs/decisions/0011). Three round trips.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Both end with the database transaction: the next to have the connection is nobody.
            cursor.execute(
                "SELECT set_config('role', 'florin_reader', true),"
                " set_config('florin.tenant_id', %s, true)",
                [str(tenant_id)],
            )
        yield
        # There is nothing to keep; and a link that broke meanwhile is no fault of what was read.
        transaction.set_rollback(True)


def repeating(call: Callable[[], T], *, on_constraint: str = "") -> T:
    """
    Run `call`; run it again where PostgreSQL undid it for a reason that passes.

    That is a deadlock, a lost serialization, or a violation of `on_constraint` (a twin took the
    key first, and the next look will find it). Inside a transaction nothing is repeated: what was
    undone there is more than the call.
    """
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            return call()
        except DatabaseError as error:
            passes = sqlstate_of(error) in _UNDONE or (
                bool(on_constraint) and constraint_of(error) == on_constraint
            )
            if not passes or connection.in_atomic_block or attempt == ATTEMPTS_MAX:
                raise
            # Twins that collided should not meet again: 5 to 15 ms, doubled each time.
            time.sleep(random.uniform(0.005, 0.015) * 2 ** (attempt - 1))  # noqa: S311
    raise AssertionError("unreachable")
