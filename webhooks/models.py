"""What gateways told us, word for word, and what came of it."""

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Q

from core.ids import new_id


class InboundEventQuerySet(models.QuerySet["InboundEvent"]):
    def due(self, now: datetime) -> Self:
        """Those to be processed, longest due first."""
        return self.filter(next_attempt_at__lte=now).order_by("next_attempt_at", "pk")

    def failed(self) -> Self:
        return self.filter(status=InboundEvent.Status.FAILED)


InboundEventManager = models.Manager.from_queryset(InboundEventQuerySet)


class InboundEvent(models.Model):
    """
    A gateway's notification: authentic, stored as received, processed by a worker, once.

    pending → succeeded, or after several attempts failed, until somebody replays it. What arrived
    never changes: a trigger keeps it so.
    """

    class Status(models.TextChoices):
        PENDING = "pending"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    # A configuration is never deleted (trigger), nor then its tenant. A foreign key's check would
    # have all notifications of a gateway lock the same two rows, which costs more than the insert.
    tenant = models.ForeignKey(
        "identity.Tenant", on_delete=models.PROTECT, db_index=False, db_constraint=False
    )
    configuration = models.ForeignKey(
        "payments.GatewayConfiguration",
        on_delete=models.PROTECT,
        db_index=False,
        db_constraint=False,
    )
    gateway = models.CharField(max_length=16)
    # The gateway's, or made of what tells one fact from another: see each adapter.
    event_id = models.CharField(max_length=255)
    # payment, refund, payout, other.
    kind = models.CharField(max_length=8)
    reference = models.CharField(max_length=100, default="")
    gateway_object_id = models.CharField(max_length=100, default="")
    # What it claims; what moves money is asked for again.
    claimed_state = models.CharField(max_length=16, default="")
    failure_code = models.CharField(max_length=64, default="")
    # As received, but for card numbers, of which the middle digits are struck out.
    body = models.BinaryField()
    headers = models.JSONField(default=dict)
    # The same in the words of pain.002: see core.iso20022.
    status_report = models.JSONField(default=dict)
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    # applied, unchanged, ignored, or why not; begun, while a worker has it.
    outcome = models.CharField(max_length=64, default="")
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    received_at = models.DateTimeField()
    processed_at = models.DateTimeField(null=True)

    objects = InboundEventManager()

    class Meta:
        verbose_name = "inbound webhook"
        constraints = [
            models.UniqueConstraint(
                name="inbound_event_unique", fields=["tenant", "gateway", "event_id"]
            ),
            models.CheckConstraint(
                name="inbound_event_status_known",
                condition=Q(status__in=["pending", "succeeded", "failed"]),
            ),
            models.CheckConstraint(
                name="inbound_event_due_iff_pending",
                condition=Q(status="pending", next_attempt_at__isnull=False)
                | (~Q(status="pending") & Q(next_attempt_at=None)),
            ),
        ]
        indexes = [
            models.Index(name="inbound_event_list_idx", fields=["tenant", "id"]),
            models.Index(
                name="inbound_event_failed_idx",
                fields=["tenant", "id"],
                condition=Q(status="failed"),
            ),
            models.Index(
                name="inbound_event_due_idx",
                fields=["next_attempt_at", "id"],
                condition=Q(next_attempt_at__isnull=False),
            ),
            models.Index(name="inbound_event_ref_idx", fields=["tenant", "reference", "id"]),
        ]

    def __str__(self) -> str:
        return f"{self.gateway} {self.event_id}"


class InboundAttempt(models.Model):
    """One try at processing an event: the retry log."""

    id = models.BigAutoField(primary_key=True)
    tenant_id = models.UUIDField()
    event = models.ForeignKey(
        InboundEvent, on_delete=models.CASCADE, related_name="attempt_log", db_index=False
    )
    number = models.PositiveSmallIntegerField()
    began_at = models.DateTimeField()
    # Null: the worker that began it never said.
    ended_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=64, default="")
    detail = models.CharField(max_length=500, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="inbound_attempt_number_unique", fields=["event", "number"]
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.event_id}"
