"""
The audit chain: rows that are written once are sealed, off the hot path, into blocks that each
hold the hash of the one before. What is changed, taken out or slipped in afterwards shows.

A chain alone does not stop someone who can write all of it anew. Note its head outside the database
(each block is logged) and have it checked: docs/audit.md.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass

import structlog
from django.db import connection, transaction

from core.following import read_on
from core.models import AuditBlock

logger = structlog.get_logger(__name__)

GENESIS = bytes(32)
BLOCK_ROWS_MAX = 5_000
DIGEST_BYTES = 32
# "fl" and "seal" in letters' numbers: any constant that nobody else locks.
_LOCK = 0x666C7365


@dataclass(frozen=True, slots=True)
class Stream:
    """
    A kind of rows to seal.

    `new_sql` returns (number, row id or NULL) of what was written in a range of numbers, in order;
    takes first, last, and how many at most. `digest_sql` returns (id, digest or NULL) for
    an array of row ids, in its order: of every column there is today. It is spelt out and calls no
    function of ours, which who alters a row could alter too; and it must stay what it is for the
    blocks that were sealed by it: a column that is added later takes a stream of its own version.
    `waiting_since_sql` returns when the first row after a number was written. `all_sql` returns the
    id of every row there is.
    """

    name: str
    # What a row is called in a report.
    row_name: str
    new_sql: str
    digest_sql: str
    waiting_since_sql: str
    all_sql: str


_streams: dict[str, Stream] = {}


def register_stream(stream: Stream) -> None:
    """Have rows of an app sealed; called from its `ready`."""
    _streams[stream.name] = stream


def streams() -> dict[str, Stream]:
    return dict(_streams)


register_stream(
    Stream(
        name="audit",
        row_name="audit record",
        new_sql="SELECT r.id, r.id::text FROM core_auditrecord r WHERE r.id BETWEEN %s AND %s"
        " ORDER BY r.id LIMIT %s",
        digest_sql="""
            SELECT w.id, CASE WHEN r.id IS NOT NULL THEN sha256(convert_to(jsonb_build_array(
                       r.id, r.tenant_id, r.action, r.actor_id, r.object_id,
                       to_jsonb(r.object_ids), r.before, r.after, r.reason, r.request_id,
                       host(r.address), (extract(epoch FROM r.created_at) * 1000000)::bigint
                   )::text, 'UTF8')) END
              FROM unnest(%s::text[]) WITH ORDINALITY w(id, n)
              LEFT JOIN core_auditrecord r ON r.id = w.id::bigint ORDER BY w.n
        """,
        waiting_since_sql="SELECT r.created_at FROM core_auditrecord r WHERE r.id > %s"
        " ORDER BY r.id LIMIT 1",
        all_sql="SELECT r.id::text FROM core_auditrecord r",
    )
)


def seal_new_rows(*, now: dt.datetime) -> int:
    """
    Seal what was written since the last time; return how many rows.

    Safe to run side by side: one does the work, the others find it taken. Each block commits by
    itself, so that a crash loses nothing that is sealed.
    """
    sealed = 0
    for stream in _streams.values():
        while True:
            rows, is_more = _seal_block(stream, now)
            sealed += rows
            if not is_more:
                break
    return sealed


def block_hash(block: AuditBlock) -> bytes:
    """Return what the block's hash must be: SHA-256 of all its other columns."""
    digest = hashlib.sha256()
    head = (str(block.number), block.stream, block.sealed_at.astimezone(dt.UTC).isoformat())
    for part in (*head, ",".join(block.row_ids)):
        digest.update(part.encode() + b"\x00")
    digest.update(bytes(block.previous_hash))
    digest.update(bytes(block.row_digests))
    return digest.digest()


def digests_of(stream: Stream, row_ids: list[str]) -> list[tuple[str, bytes | None]]:
    """Return the rows' digests as they are now, in the order given; None: there is no such row."""
    with connection.cursor() as cursor:
        cursor.execute(stream.digest_sql, [row_ids])
        return [(id_, None if found is None else bytes(found)) for id_, found in cursor.fetchall()]


def _seal_block(stream: Stream, now: dt.datetime) -> tuple[int, bool]:
    """Seal one block at most; return how many rows, and whether there may be more."""
    with transaction.atomic():
        if not _is_ours_to_do():
            return 0, False
        rows, is_more = read_on(stream.name, stream.new_sql, limit=BLOCK_ROWS_MAX, now=now)
        ids = [row_id for _, row_id in rows if row_id is not None]
        if ids:
            _append_block(stream, ids, now)
    return len(ids), is_more


def _append_block(stream: Stream, row_ids: list[str], now: dt.datetime) -> None:
    last = AuditBlock.objects.order_by("-number").first()
    digests = [digest for _, digest in digests_of(stream, row_ids)]
    block = AuditBlock(
        number=1 if last is None else last.number + 1,
        stream=stream.name,
        previous_hash=GENESIS if last is None else last.hash,
        row_ids=row_ids,
        row_digests=b"".join(digest for digest in digests if digest is not None),
        sealed_at=now,
    )
    if len(block.row_digests) != DIGEST_BYTES * len(row_ids):
        raise RuntimeError(f"a row of {stream.name} went while it was sealed")
    block.hash = block_hash(block)
    block.save(force_insert=True)
    # Out of the database's reach, wherever logs are kept.
    logger.info(
        "audit block sealed",
        number=block.number,
        stream=stream.name,
        rows=len(row_ids),
        hash=block.hash.hex(),
    )


def _is_ours_to_do() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        [taken] = cursor.fetchone() or [False]
    return bool(taken)
