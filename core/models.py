"""Tables of the kernel: outbox of events, audit trail, answers kept for repeated requests."""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class OutboxEvent(models.Model):
    """
    A domain event, written in the transaction of the change it tells of. A relay delivers it.

    Narrow on purpose: one row a posting. The relay reads `resource_id` for the rest, since ledger
    rows never change; `payload` is for events whose resource does.
    """

    id = models.BigAutoField(primary_key=True)
    tenant_id = models.UUIDField()
    # "<resource>.<past participle>", such as transfer.posted.
    event_type = models.CharField(max_length=64)
    resource_id = models.UUIDField()
    payload = models.JSONField(null=True)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.event_type} {self.resource_id}"


class IdempotencyRecord(models.Model):
    """
    The finished answer to a POST, kept with the effect in one database transaction.

    Postings need none: their key is unique on the ledger's own row.
    """

    id = models.BigAutoField(primary_key=True)
    tenant_id = models.UUIDField()
    # A customer's has their id before it.
    key = models.CharField(max_length=300)
    # SHA-256 of method, path, actor and body.
    fingerprint = models.BinaryField(max_length=32)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="idempotency_key_unique_in_tenant", fields=["tenant_id", "key"]
            ),
        ]
        indexes = [models.Index(name="idempotency_purge_idx", fields=["created_at"])]

    def __str__(self) -> str:
        return f"idempotency key {self.key}"


class AuditRecord(models.Model):
    """
    Who changed what, when, from where. Written with the change, never altered (trigger), sealed
    into the chain of AuditBlock.

    What postings do is in their own rows, which carry the same names (`actor_id` ...).
    """

    id = models.BigAutoField(primary_key=True)
    # None: a change that belongs to no tenant.
    tenant_id = models.UUIDField(null=True)
    # As the event's type: account.frozen.
    action = models.CharField(max_length=64)
    # See core.caller.
    actor_id = models.CharField(max_length=64)
    object_id = models.UUIDField(null=True)
    # Of a change made to many at once: 10,000 accounts opened are one record.
    object_ids = ArrayField(models.UUIDField(), null=True)
    # The fields that changed; no secrets, ever.
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    reason = models.CharField(max_length=500, default="")
    request_id = models.CharField(max_length=100, default="")
    address = models.GenericIPAddressField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "audit record"
        indexes = [
            models.Index(name="audit_list_idx", fields=["tenant_id", "id"]),
            models.Index(name="audit_object_idx", fields=["object_id", "id"]),
            models.Index(
                name="audit_request_idx", fields=["request_id"], condition=~models.Q(request_id="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_id or ''}".strip()


class AuditBlock(models.Model):
    """
    A link of the audit chain: the digests of rows that existed when it was sealed.

    `hash` covers all else and the hash of the block before, so that no row of an earlier block can
    change, go, or be put in, without every later block changing too.
    """

    # From 1, without gaps.
    number = models.BigIntegerField(primary_key=True)
    # Which rows: a key of core.sealing.streams().
    stream = models.CharField(max_length=32)
    previous_hash = models.BinaryField(max_length=32)
    row_ids = ArrayField(models.CharField(max_length=36))
    # One SHA-256 a row, in the same order, end to end.
    row_digests = models.BinaryField()
    hash = models.BinaryField(max_length=32)
    sealed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="audit_chain_never_forks", fields=["previous_hash"]),
        ]

    def __str__(self) -> str:
        return f"block {self.number}"


class SealCursor(models.Model):
    """How far a follower has read, see core.following: of what is sealed, with the block."""

    stream = models.CharField(primary_key=True, max_length=32)
    # The highest number that was looked at.
    position = models.BigIntegerField(default=0)
    # Numbers up to there that nobody had seen: of transactions that were open, or were undone.
    # [first, last, seen at (seconds), transaction id that all suspects precede].
    gaps = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"{self.stream} at {self.position}"
