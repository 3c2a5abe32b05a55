"""Where a gateway's books and ours differ."""

from django.db import models
from django.db.models import Q

from core.ids import new_id


class Discrepancy(models.Model):
    """
    A difference that a person has to resolve. Found by the daily reconciliation, or at once where
    an answer cannot be taken as it is. Open ones are one for each object and kind.
    """

    class Kind(models.TextChoices):
        NOT_DEPOSITED = "not_deposited", "paid, not deposited"
        AMOUNT_DIFFERS = "amount_differs", "the amounts differ"
        STATUS_DIFFERS = "status_differs", "the states differ"
        REFUND_DIFFERS = "refund_differs", "the refunds differ"
        UNKNOWN_OUTCOME = "unknown_outcome", "nobody knows the outcome"
        NOT_AT_GATEWAY = "not_at_gateway", "the gateway does not know it"
        GATEWAY_REFUSES = "gateway_refuses", "the gateway refuses our credentials"
        NOT_OURS = "not_ours", "paid at the gateway, unknown to us"
        PAID_TWICE = "paid_twice", "paid twice"
        REVERSAL_OWED = "reversal_owed", "taken back, and the account could not pay"
        RETURN_REFUSED = "return_refused", "returned, and the account took nothing"

    class Status(models.TextChoices):
        OPEN = "open"
        RESOLVED = "resolved"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    configuration = models.ForeignKey(
        "payments.GatewayConfiguration", on_delete=models.PROTECT, db_index=False
    )
    kind = models.CharField(max_length=20, choices=Kind)
    # What it is about: a payment, refund or payout; or what only the gateway knows.
    object_type = models.CharField(max_length=8)
    object_id = models.UUIDField(null=True)
    reference = models.CharField(max_length=100)
    # What each side says, in words: {"ours": ..., "theirs": ...}
    detail = models.JSONField(default=dict)
    # Minor units that are in question.
    amount = models.BigIntegerField(null=True)
    currency = models.CharField(max_length=3, default="")
    status = models.CharField(max_length=8, choices=Status, default=Status.OPEN)
    resolution = models.CharField(max_length=32, default="")
    resolution_note = models.CharField(max_length=500, default="")
    resolved_by = models.CharField(max_length=64, default="")
    resolved_at = models.DateTimeField(null=True)
    found_at = models.DateTimeField()
    # When a reconciliation saw it last.
    seen_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "discrepancies"
        constraints = [
            models.CheckConstraint(
                name="discrepancy_resolved_by_somebody",
                condition=Q(status="open", resolved_at=None)
                | (Q(status="resolved", resolved_at__isnull=False) & ~Q(resolved_by="")),
            ),
            models.UniqueConstraint(
                name="discrepancy_open_once",
                fields=["tenant", "kind", "reference"],
                condition=Q(status="open"),
            ),
        ]
        indexes = [
            models.Index(name="discrepancy_list_idx", fields=["tenant", "id"]),
            models.Index(name="discrepancy_object_idx", fields=["object_id", "id"]),
            models.Index(
                name="discrepancy_open_idx", fields=["tenant", "id"], condition=Q(status="open")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.reference}"
