"""Tables of the kernel: the outbox of domain events, and answers kept for repeated requests."""

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
    key = models.CharField(max_length=255)
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
