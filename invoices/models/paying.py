"""How a payer pays, and what a customer is sent."""

from django.db import models
from django.db.models import Q

from core.ids import new_id
from invoices.models.invoices import Installment, Invoice


class Checkout(models.Model):
    """
    An attempt to pay an invoice, or one installment of it, through a gateway.

    One is active at a time for an invoice as a whole, or one for each of its installments: the
    database keeps it so. It ends with its payment, or when another takes its place.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    invoice = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, related_name="checkouts", db_index=False
    )
    # Null: for all that is due.
    installment = models.ForeignKey(
        Installment, null=True, on_delete=models.PROTECT, db_index=False
    )
    # From 1, by invoice; the end of the gateway's reference.
    attempt = models.PositiveIntegerField()
    amount = models.BigIntegerField()
    payment_id = models.UUIDField()
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="checkout_amount_positive", condition=Q(amount__gt=0)),
            models.UniqueConstraint(name="checkout_attempt_unique", fields=["invoice", "attempt"]),
            models.UniqueConstraint(name="checkout_payment_unique", fields=["payment_id"]),
            models.UniqueConstraint(
                name="checkout_one_active_of_invoice",
                fields=["invoice"],
                condition=Q(is_active=True, installment=None),
            ),
            models.UniqueConstraint(
                name="checkout_one_active_of_installment",
                fields=["installment"],
                condition=Q(is_active=True, installment__isnull=False),
            ),
        ]
        indexes = [models.Index(name="checkout_list_idx", fields=["tenant", "id"])]

    def __str__(self) -> str:
        return f"attempt {self.attempt}"


class Mailing(models.Model):
    """An e-mail to a customer: written down with its cause, sent by a worker, once."""

    class Kind(models.TextChoices):
        INVOICE = "invoice"
        REMINDER = "reminder"
        RECEIPT = "receipt"
        CREDIT_NOTE = "credit_note"

    class Status(models.TextChoices):
        QUEUED = "queued"
        SENT = "sent"
        FAILED = "failed"
        # What it was to say is not so any more: a reminder of what was paid meanwhile.
        DROPPED = "dropped"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    invoice = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, related_name="mailings", db_index=False
    )
    kind = models.CharField(max_length=11, choices=Kind)
    # Of the receipt, credit note or installment it is about.
    subject_id = models.UUIDField(null=True)
    to = models.EmailField()
    status = models.CharField(max_length=7, choices=Status, default=Status.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, default="")
    # Written once, however often its cause is looked at.
    unique_key = models.CharField(max_length=120)
    sent_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "e-mail"
        constraints = [
            models.UniqueConstraint(name="mailing_written_once", fields=["invoice", "unique_key"]),
            models.CheckConstraint(
                name="mailing_sent_iff_sent",
                condition=Q(status="sent", sent_at__isnull=False)
                | (~Q(status="sent") & Q(sent_at=None)),
            ),
        ]
        indexes = [
            models.Index(name="mailing_list_idx", fields=["tenant", "id"]),
            models.Index(
                name="mailing_due_idx",
                fields=["next_attempt_at", "id"],
                condition=Q(status="queued"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} ({self.status})"
