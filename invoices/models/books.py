"""What became of an invoice's money: receipts, customers' credit, credit notes."""

from typing import Self

from django.db import models
from django.db.models import F, Q

from core.ids import new_id
from invoices.models.invoices import Invoice


class Receipt(models.Model):
    """Money that came for an invoice. Its figures never change, but for what is taken back."""

    class Kind(models.TextChoices):
        # Through a gateway.
        GATEWAY = "gateway"
        # Noted by staff: cash, a bank transfer.
        OFFLINE = "offline"
        # From the customer's credit.
        CREDIT = "credit"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    invoice = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, related_name="receipts", db_index=False
    )
    kind = models.CharField(max_length=8, choices=Kind)
    # The gateway, or how it came: "cash", "bank transfer".
    method = models.CharField(max_length=40)
    # Of payments; set for those through a gateway.
    payment_id = models.UUIDField(null=True)
    amount = models.BigIntegerField()
    # What the invoice had of it; the rest is the customer's credit.
    applied_amount = models.BigIntegerField()
    # What was charged back, of what was applied.
    reversed_amount = models.BigIntegerField(default=0)
    # What went back with credit notes, or is on its way.
    refunded_amount = models.BigIntegerField(default=0)
    # [[installment number, net, tax, service fee], ...]: where the applied amount went.
    split = models.JSONField()
    reference = models.CharField(max_length=140, default="")
    note = models.CharField(max_length=500, default="")
    received_on = models.DateField()
    transaction_id = models.UUIDField()
    idempotency_key = models.CharField(max_length=300)
    request_fingerprint = models.BinaryField(max_length=32)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="receipt_amounts_add_up",
                condition=Q(
                    amount__gt=0,
                    applied_amount__gte=0,
                    applied_amount__lte=F("amount"),
                    reversed_amount__gte=0,
                    refunded_amount__gte=0,
                )
                & Q(applied_amount__gte=F("reversed_amount") + F("refunded_amount")),
            ),
            models.CheckConstraint(
                name="receipt_of_gateway_has_payment",
                condition=Q(kind="gateway", payment_id__isnull=False)
                | (~Q(kind="gateway") & Q(payment_id=None)),
            ),
            models.UniqueConstraint(
                name="receipt_payment_unique",
                fields=["payment_id"],
                condition=Q(payment_id__isnull=False),
            ),
            models.UniqueConstraint(name="receipt_transaction_unique", fields=["transaction_id"]),
            models.UniqueConstraint(
                name="receipt_idempotency_key_unique", fields=["tenant", "idempotency_key"]
            ),
        ]
        indexes = [
            models.Index(name="receipt_invoice_idx", fields=["invoice", "id"]),
            models.Index(name="receipt_list_idx", fields=["tenant", "id"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind} receipt of {self.amount} {self.method}"


class CreditQuerySet(models.QuerySet["Credit"]):
    def left(self) -> Self:
        """Those of which something is left, oldest first."""
        return self.filter(used_amount__lt=F("amount")).order_by("pk")


CreditManager = models.Manager.from_queryset(CreditQuerySet)


class Credit(models.Model):
    """A customer's money that we keep: paid beyond what was due. Used up by CreditUse."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    # Where it came from.
    invoice = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, related_name="credits", db_index=False
    )
    receipt = models.ForeignKey(
        Receipt, on_delete=models.PROTECT, related_name="credits", db_index=False
    )
    customer_key = models.CharField(max_length=260, default="")
    currency = models.CharField(max_length=3)
    amount = models.BigIntegerField()
    used_amount = models.BigIntegerField(default=0)
    transaction_id = models.UUIDField()
    created_at = models.DateTimeField()

    objects = CreditManager()

    class Meta:
        verbose_name = "customer credit"
        verbose_name_plural = "customer credit"
        constraints = [
            models.UniqueConstraint(name="credit_transaction_unique", fields=["transaction_id"]),
            models.CheckConstraint(
                name="credit_used_within_amount",
                condition=Q(amount__gt=0, used_amount__gte=0, used_amount__lte=F("amount")),
            ),
        ]
        indexes = [
            models.Index(name="credit_list_idx", fields=["tenant", "id"]),
            models.Index(name="credit_invoice_idx", fields=["invoice", "id"]),
            models.Index(name="credit_receipt_idx", fields=["receipt"]),
            models.Index(
                name="credit_left_idx",
                fields=["tenant", "customer_key", "currency", "id"],
                condition=Q(used_amount__lt=F("amount")),
            ),
        ]

    def __str__(self) -> str:
        return f"credit of {self.remaining_amount} {self.currency}"

    @property
    def remaining_amount(self) -> int:
        return self.amount - self.used_amount


class CreditUse(models.Model):
    """A part of a credit that went: to an invoice, back to the payer, or with a charge-back."""

    class Kind(models.TextChoices):
        APPLIED = "applied"
        REFUNDED = "refunded"
        TAKEN_BACK = "taken_back"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    credit = models.ForeignKey(
        Credit, on_delete=models.PROTECT, related_name="uses", db_index=False
    )
    kind = models.CharField(max_length=10, choices=Kind)
    amount = models.BigIntegerField()
    # What it was applied by.
    receipt = models.ForeignKey(Receipt, null=True, on_delete=models.PROTECT, db_index=False)
    # Of payments; through which it goes back to the payer.
    refund_id = models.UUIDField(null=True)
    # The refund failed, and the credit has it again.
    is_undone = models.BooleanField(default=False)
    transaction_id = models.UUIDField()
    idempotency_key = models.CharField(max_length=300)
    request_fingerprint = models.BinaryField(max_length=32)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="credit_use_positive", condition=Q(amount__gt=0)),
            models.UniqueConstraint(
                name="credit_use_transaction_unique", fields=["transaction_id"]
            ),
            models.CheckConstraint(
                name="credit_use_undone_refund",
                condition=Q(is_undone=False) | Q(kind="refunded"),
            ),
            models.UniqueConstraint(
                name="credit_use_key_unique", fields=["tenant", "credit", "idempotency_key"]
            ),
        ]
        indexes = [
            models.Index(name="credit_use_list_idx", fields=["tenant", "id"]),
            models.Index(name="credit_use_key_idx", fields=["tenant", "idempotency_key"]),
            models.Index(name="credit_use_credit_idx", fields=["credit", "id"]),
            models.Index(
                name="credit_use_refund_idx",
                fields=["refund_id"],
                condition=Q(refund_id__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.kind}"


class CreditNote(models.Model):
    """
    What a customer need not pay, or has back: a part of an invoice taken back.

    `owed_amount` of it was not paid yet and is simply owed no more; `refund_amount` goes back.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    invoice = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, related_name="credit_notes", db_index=False
    )
    # CN-2026-000001; given by a trigger, without gaps.
    number = models.CharField(max_length=20, blank=True)
    amount = models.BigIntegerField()
    net_amount = models.BigIntegerField()
    tax_amount = models.BigIntegerField()
    service_fee_amount = models.BigIntegerField()
    owed_amount = models.BigIntegerField()
    refund_amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    reason = models.CharField(max_length=500)
    transaction_id = models.UUIDField()
    idempotency_key = models.CharField(max_length=300)
    request_fingerprint = models.BinaryField(max_length=32)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="credit_note_adds_up",
                condition=Q(
                    amount__gt=0,
                    net_amount__gte=0,
                    tax_amount__gte=0,
                    service_fee_amount__gte=0,
                    owed_amount__gte=0,
                    refund_amount__gte=0,
                    amount=F("net_amount") + F("tax_amount") + F("service_fee_amount"),
                )
                & Q(amount=F("owed_amount") + F("refund_amount")),
            ),
            models.UniqueConstraint(
                name="credit_note_transaction_unique", fields=["transaction_id"]
            ),
            models.UniqueConstraint(name="credit_note_number_unique", fields=["tenant", "number"]),
            models.UniqueConstraint(
                name="credit_note_idempotency_key_unique", fields=["tenant", "idempotency_key"]
            ),
        ]
        indexes = [
            models.Index(name="credit_note_list_idx", fields=["tenant", "id"]),
            models.Index(name="credit_note_invoice_idx", fields=["invoice", "id"]),
        ]

    def __str__(self) -> str:
        return self.number


class CreditNoteRefund(models.Model):
    """A part of a credit note's refund: by the way it had come."""

    class Status(models.TextChoices):
        PENDING = "pending"
        SUCCEEDED = "succeeded"
        # The gateway would not: the customer has it as credit instead.
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    credit_note = models.ForeignKey(
        CreditNote, on_delete=models.PROTECT, related_name="refunds", db_index=False
    )
    receipt = models.ForeignKey(Receipt, on_delete=models.PROTECT, db_index=False)
    amount = models.BigIntegerField()
    status = models.CharField(max_length=9, choices=Status, default=Status.PENDING)
    # Of payments; null: by hand, or back to the customer's credit.
    refund_id = models.UUIDField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="credit_note_refund_positive", condition=Q(amount__gt=0)),
            models.UniqueConstraint(
                name="credit_note_refund_unique",
                fields=["refund_id"],
                condition=Q(refund_id__isnull=False),
            ),
        ]
        indexes = [
            models.Index(name="credit_note_refund_list_idx", fields=["tenant", "id"]),
            models.Index(name="credit_note_refund_note_idx", fields=["credit_note", "id"]),
        ]

    def __str__(self) -> str:
        return f"refund of {self.amount} ({self.status})"
