"""Reads the audit chain from its first block; finds the first row that is not as it was sealed."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from django.db import connection

from core.models import AuditBlock, SealCursor
from core.sealing import DIGEST_BYTES, GENESIS, Stream, block_hash, digests_of, streams

# Rows are sealed within seconds. Whoever keeps them from it could alter them meanwhile.
WAITING_MAX = dt.timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Head:
    """A block that somebody noted elsewhere: its number and hash."""

    number: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Progress:
    """A block that was read, and what is wrong with it; None: nothing."""

    block: AuditBlock
    fault: str | None


def blocks_checked(expected: list[Head]) -> Iterator[Progress]:
    """
    Yield each block in order, with its fault if it has one; after a fault nothing more.

    Checks the block against its hash and the one before, and each of its rows, as it is now,
    against the digest of when it was sealed.
    """
    before = AuditBlock(number=0, hash=GENESIS, sealed_at=dt.datetime.min.replace(tzinfo=dt.UTC))
    wanted = {head.number: head.hash for head in expected}
    for block in _blocks():
        fault = _fault_of_link(before, block, wanted.pop(block.number, None))
        fault = fault or _fault_of_rows(block)
        yield Progress(block, fault)
        if fault is not None:
            return
        before = block
    for number in sorted(wanted):
        yield Progress(before, f"block {number}, which was noted elsewhere, is missing")
        return


def _blocks() -> Iterator[AuditBlock]:
    number = 0
    while page := list(AuditBlock.objects.filter(number__gt=number).order_by("number")[:20]):
        yield from page
        number = page[-1].number


def fault_of_unsealed(stream: Stream, *, now: dt.datetime) -> str | None:
    """
    Return what is wrong with rows that stand in no block, or None.

    Reads every id of the stream. The newest rows wait for the next block, which is all right unless
    they have waited for long.
    """
    cursor = SealCursor.objects.filter(stream=stream.name).first()
    since = _waiting_since(stream, cursor.position if cursor else 0)
    if since is not None and now - since > WAITING_MAX:
        return f"nothing of {stream.name} has been sealed since {since:%Y-%m-%d %H:%M} UTC"
    ranges = [(1 + (cursor.position if cursor else 0), 2**63 - 1)]
    ranges += [(gap[0], gap[1]) for gap in (cursor.gaps if cursor else [])]
    waiting_in_range = stream.new_sql.replace(" LIMIT %s", "") % ("waiting.first", "waiting.last")
    with connection.cursor() as query:
        query.execute(
            f"""
            SELECT id FROM ({stream.all_sql}) every_row(id)
            EXCEPT
            SELECT unnest(row_ids) FROM core_auditblock WHERE stream = %s
            EXCEPT
            SELECT w.id FROM unnest(%s::bigint[], %s::bigint[]) waiting(first, last)
             CROSS JOIN LATERAL ({waiting_in_range}) w(number, id)
            ORDER BY 1 LIMIT 1
            """,  # noqa: S608 - put together from constants of ours
            [stream.name, [first for first, _ in ranges], [last for _, last in ranges]],
        )
        found = query.fetchone()
    return found and f"{stream.row_name} {found[0]} stands in no block: it was put in afterwards"


def _waiting_since(stream: Stream, position: int) -> dt.datetime | None:
    with connection.cursor() as query:
        query.execute(stream.waiting_since_sql, [position])
        found = query.fetchone()
    since: dt.datetime | None = found and found[0].astimezone(dt.UTC)
    return since


def _fault_of_link(before: AuditBlock, block: AuditBlock, noted: bytes | None) -> str | None:
    if block.number != before.number + 1:
        return f"block {before.number + 1} is missing"
    if bytes(block.previous_hash) != bytes(before.hash):
        return f"block {block.number} does not follow block {before.number}: one was replaced"
    if block_hash(block) != bytes(block.hash):
        return f"block {block.number} was altered"
    if noted is not None and noted != bytes(block.hash):
        return f"block {block.number} is not the one that was noted elsewhere: the chain was remade"
    return None


def _fault_of_rows(block: AuditBlock) -> str | None:
    stream = streams().get(block.stream)
    if stream is None:
        return f"block {block.number} has rows of {block.stream}, which nobody knows"
    sealed = bytes(block.row_digests)
    for index, (row_id, digest) in enumerate(digests_of(stream, block.row_ids)):
        if digest == sealed[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]:
            continue
        what = "is missing" if digest is None else "was altered"
        return f"{stream.row_name} {row_id} {what} (block {block.number}, row {index + 1})"
    return None
