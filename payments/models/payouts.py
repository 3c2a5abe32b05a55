"""Money sent out of the bank: payouts, the files that carry them, and the files that answer."""

from django.db import models
from django.db.models import Q

from core.ids import new_id
from payments.models.gateways import GatewayConfiguration


class PayoutBatch(models.Model):
    """
    A pain.001 file with payouts of one tenant, as it was made. Never changed; exported once or
    many times, always the same bytes.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    configuration = models.ForeignKey(
        "payments.GatewayConfiguration", on_delete=models.PROTECT, db_index=False
    )
    # GrpHdr/MsgId: a bank refuses one that it has seen.
    message_id = models.CharField(max_length=35)
    currency = models.CharField(max_length=3)
    payout_count = models.PositiveIntegerField()
    # Minor units.
    total = models.BigIntegerField()
    document = models.BinaryField()
    # When the file was first put into the drop folder, or downloaded.
    exported_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "payout file"
        constraints = [
            models.UniqueConstraint(
                name="payout_batch_message_unique", fields=["tenant", "message_id"]
            ),
        ]
        indexes = [
            models.Index(name="payout_batch_list_idx", fields=["tenant", "id"]),
            models.Index(
                name="payout_batch_waiting_idx",
                fields=["id"],
                condition=Q(exported_at=None),
            ),
        ]

    def __str__(self) -> str:
        return f"payout file {self.message_id}"


class Payout(models.Model):
    """
    Money on its way from an account to an account elsewhere.

    pending (the source is debited into payout clearing) → submitted → settled; failed or returned:
    the source has it back. unknown: the gateway has it, or not. A trigger keeps the transitions,
    and that each has the postings it must have.
    """

    class Status(models.TextChoices):
        PENDING = "pending"
        SUBMITTED = "submitted"
        UNKNOWN = "unknown"
        SETTLED = "settled"
        RETURNED = "returned"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    configuration = models.ForeignKey(
        "payments.GatewayConfiguration", on_delete=models.PROTECT, db_index=False
    )
    batch = models.ForeignKey(
        PayoutBatch, on_delete=models.PROTECT, null=True, related_name="payouts", db_index=False
    )
    source_account_id = models.UUIDField()
    # Minor units.
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    beneficiary_name = models.CharField(max_length=140)
    # One of the two.
    iban = models.CharField(max_length=34, default="")
    account_number = models.CharField(max_length=34, default="")
    # A BIC, or the gateway's own code of the bank.
    bank_code = models.CharField(max_length=35, default="")
    # ISO 3166-1.
    country = models.CharField(max_length=2)
    town = models.CharField(max_length=35, default="")
    description = models.CharField(max_length=140, default="")
    metadata = models.JSONField(default=dict)
    # Ours: what the gateway and the bank know it by (EndToEndId).
    reference = models.CharField(max_length=35)
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    gateway_payout_id = models.CharField(max_length=100, default="")
    gateway_status = models.CharField(max_length=60, default="")
    failure_code = models.CharField(max_length=64, default="")
    failure_detail = models.CharField(max_length=300, default="")
    # The ledger's transactions: into clearing, out of it for good, and back to the source.
    transaction_id = models.UUIDField()
    settlement_transaction_id = models.UUIDField(null=True)
    return_transaction_id = models.UUIDField(null=True)
    # When it was first sent to the gateway; null: it provably was not.
    sent_at = models.DateTimeField(null=True)
    next_step_at = models.DateTimeField(null=True)
    steps = models.PositiveSmallIntegerField(default=0)
    waiting_since = models.DateTimeField()
    attention = models.CharField(max_length=64, default="")
    idempotency_key = models.CharField(max_length=300)
    request_fingerprint = models.BinaryField(max_length=32)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="payout_amount_positive", condition=Q(amount__gt=0)),
            models.CheckConstraint(
                name="payout_one_account",
                condition=Q(iban="") & ~Q(account_number="") | ~Q(iban="") & Q(account_number=""),
            ),
            models.CheckConstraint(
                name="payout_returned_iff_given_back",
                condition=(
                    Q(status__in=["failed", "returned"], return_transaction_id__isnull=False)
                    | Q(
                        status__in=["pending", "submitted", "unknown", "settled"],
                        return_transaction_id=None,
                    )
                ),
            ),
            models.CheckConstraint(
                name="payout_settled_iff_posted",
                condition=(
                    Q(status="settled", settlement_transaction_id__isnull=False)
                    # After it had settled, or before.
                    | Q(status="returned")
                    | Q(
                        status__in=["pending", "submitted", "unknown", "failed"],
                        settlement_transaction_id=None,
                    )
                ),
            ),
            models.UniqueConstraint(name="payout_reference_unique", fields=["reference"]),
            models.UniqueConstraint(
                name="payout_idempotency_key_unique", fields=["tenant", "idempotency_key"]
            ),
            models.UniqueConstraint(name="payout_transaction_unique", fields=["transaction_id"]),
        ]
        indexes = [
            models.Index(name="payout_list_idx", fields=["tenant", "id"]),
            models.Index(name="payout_account_idx", fields=["tenant", "source_account_id", "id"]),
            models.Index(
                name="payout_due_idx",
                fields=["next_step_at", "id"],
                condition=Q(next_step_at__isnull=False),
            ),
            # What the next file gathers.
            models.Index(
                name="payout_gather_idx",
                fields=["configuration", "id"],
                condition=Q(status="pending", batch=None),
            ),
            models.Index(
                name="payout_batch_idx", fields=["batch", "id"], condition=Q(batch__isnull=False)
            ),
            models.Index(name="payout_changed_idx", fields=["configuration", "updated_at", "id"]),
            models.Index(name="payout_status_idx", fields=["tenant", "status", "id"]),
            models.Index(
                name="payout_attention_idx", fields=["tenant", "id"], condition=~Q(attention="")
            ),
            models.Index(
                name="payout_gateway_id_idx",
                fields=["configuration", "gateway_payout_id"],
                condition=~Q(gateway_payout_id=""),
            ),
        ]

    def __str__(self) -> str:
        return f"payout {self.reference} ({self.status})"

    @property
    def gateway_configuration(self) -> GatewayConfiguration:
        return self.configuration


class PayoutReportFile(models.Model):
    """A bank's answer (pain.002, camt.054) as it was uploaded, and what it came to. Read once."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    # Of the bank: its own MsgId, by which a file that comes twice is known.
    message_id = models.CharField(max_length=35)
    kind = models.CharField(max_length=20)
    document = models.BinaryField()
    # Of its items: how many changed a payout, said nothing new, or belong to nothing of ours.
    applied_count = models.PositiveIntegerField(default=0)
    unchanged_count = models.PositiveIntegerField(default=0)
    unmatched_count = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "payout report"
        constraints = [
            models.UniqueConstraint(
                name="payout_report_message_unique", fields=["tenant", "kind", "message_id"]
            ),
        ]
        indexes = [models.Index(name="payout_report_list_idx", fields=["tenant", "id"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.message_id}"
