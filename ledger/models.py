"""
The ledger's tables. What the rules are is in the constraints here and the SQL of the migrations.

References and sums are kept by triggers for each statement, not by foreign keys and CHECKs for each
row (docs/decisions/0002): a posting pays for them, and what it refers to can never be deleted.
"""

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Q

from core.ids import new_id


class Transaction(models.Model):
    """
    A fact: entries that sum to zero. Never changed, never deleted; put right by a reversal.

    Written by the SQL function ledger_post and by nothing else.
    """

    class Type(models.TextChoices):
        DEPOSIT = "deposit"
        WITHDRAWAL = "withdrawal"
        TRANSFER = "transfer"
        JOURNAL = "journal"
        CAPTURE = "capture"
        REVERSAL = "reversal"
        FEE = "fee"
        INTEREST = "interest"
        # Paid in by card, and taken back by the card's bank.
        TOPUP = "topup"
        CHARGEBACK = "chargeback"
        # Paid back to a payer; back again where that failed.
        REFUND = "refund"
        REFUND_RETURN = "refund_return"
        # To an account elsewhere: into clearing, out of it for good, or back.
        PAYOUT = "payout"
        PAYOUT_SETTLEMENT = "payout_settlement"
        PAYOUT_RETURN = "payout_return"
        # What a customer owes, against revenue, tax and fees; and its payment.
        INVOICE = "invoice"
        INVOICE_PAYMENT = "invoice_payment"
        # The part of a payment that is overpaid, or is passed on to a settlement account.
        INVOICE_ALLOCATION = "invoice_allocation"
        # What a customer no longer owes; and what was owed and paid with earlier credit.
        CREDIT_NOTE = "credit_note"
        CREDIT_USE = "credit_use"
        RECURRING_PAYMENT = "recurring_payment"
        # Into a savings plan by hand, and out of it.
        SAVINGS_DEPOSIT = "savings_deposit"
        SAVINGS_WITHDRAWAL = "savings_withdrawal"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(
        "identity.Tenant", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    type = models.CharField(max_length=32, choices=Type)
    currency = models.CharField(max_length=3)
    # The sum of its credits, in minor units.
    amount = models.BigIntegerField()
    # How many entries it has.
    legs = models.SmallIntegerField()
    description = models.CharField(max_length=500, default="")
    external_reference = models.CharField(max_length=255, null=True)
    # The caller's key; an item of a batch without its own has "<key of the batch> <index>".
    idempotency_key = models.CharField(max_length=300, null=True)
    # SHA-256 of what was asked for, to tell a replay from another request with the same key.
    request_fingerprint = models.BinaryField(max_length=32, null=True)
    # When it counts, for interest and for the books; created_at is when it was booked.
    value_date = models.DateField()
    reverses = models.ForeignKey(
        "self",
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    metadata = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    # Who had it posted, as in an audit record (core.caller). Filled by the columns' own defaults:
    # what florin_act_as said in the same statement.
    actor_id = models.CharField(max_length=64, null=True)
    request_id = models.CharField(max_length=100, null=True)
    address = models.GenericIPAddressField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="transaction_idempotency_key_unique", fields=["tenant", "idempotency_key"]
            ),
            models.UniqueConstraint(
                name="transaction_reversed_once",
                fields=["reverses"],
                condition=Q(reverses__isnull=False),
            ),
        ]
        indexes = [
            models.Index(name="transaction_list_idx", fields=["tenant", "id"]),
            models.Index(
                name="transaction_reference_idx",
                fields=["tenant", "external_reference", "id"],
                condition=Q(external_reference__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.pk}"


class Entry(models.Model):
    """
    One leg of a transaction: what it does to one account. Never changed, never deleted.

    (account, sequence) is the order of the statement, without gaps; created_at never goes back in
    it.
    """

    pk = models.CompositePrimaryKey("account_id", "sequence")
    tenant_id = models.UUIDField()
    account = models.ForeignKey(
        "accounts.Account",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="entries",
    )
    sequence = models.BigIntegerField()
    transaction = models.ForeignKey(
        Transaction,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="entries",
    )
    # Position in its transaction, from 0.
    leg = models.SmallIntegerField()
    currency = models.CharField(max_length=3)
    # Minor units; credit positive, debit negative.
    amount = models.BigIntegerField()
    balance_after = models.BigIntegerField()
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "entries"
        constraints = [
            models.UniqueConstraint(name="entry_leg_unique", fields=["transaction", "leg"]),
        ]

    def __str__(self) -> str:
        return f"entry {self.sequence} of account {self.account_id}"

    @property
    def direction(self) -> str:
        return "credit" if self.amount > 0 else "debit"


class HoldQuerySet(models.QuerySet["Hold"]):
    def active(self) -> Self:
        return self.filter(status=Hold.Status.ACTIVE)

    def due(self, now: datetime) -> Self:
        """Active holds whose time has run out, oldest first."""
        return self.active().filter(expires_at__lte=now).order_by("expires_at", "pk")


HoldManager = models.Manager.from_queryset(HoldQuerySet)


class Hold(models.Model):
    """
    An authorisation: a part of the account's balance that is reserved, not yet moved.

    active → captured | released | expired, once; a trigger keeps it so.
    """

    class Status(models.TextChoices):
        ACTIVE = "active"
        CAPTURED = "captured"
        RELEASED = "released"
        EXPIRED = "expired"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    account = models.ForeignKey(
        "accounts.Account", on_delete=models.PROTECT, related_name="holds", db_index=False
    )
    # Minor units of `currency`.
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    status = models.CharField(max_length=8, choices=Status, default=Status.ACTIVE)
    description = models.CharField(max_length=500, default="")
    # What was captured, at most `amount`; the rest went back.
    captured_amount = models.BigIntegerField(null=True)
    transaction = models.ForeignKey(
        Transaction,
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
        db_index=False,
    )
    expires_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    idempotency_key = models.CharField(max_length=255)
    request_fingerprint = models.BinaryField(max_length=32)
    metadata = models.JSONField(default=dict)
    created_at = models.DateTimeField()

    objects = HoldManager()

    class Meta:
        constraints = [
            models.CheckConstraint(name="hold_amount_positive", condition=Q(amount__gt=0)),
            # `choices` guard forms; this guards the table.
            models.CheckConstraint(
                name="hold_status_known",
                condition=Q(status__in=["active", "captured", "released", "expired"]),
            ),
            models.CheckConstraint(
                name="hold_closed_at_iff_not_active",
                condition=Q(status="active", closed_at=None)
                | (~Q(status="active") & Q(closed_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="hold_capture_complete",
                condition=Q(
                    status="captured",
                    transaction__isnull=False,
                    captured_amount__gt=0,
                    captured_amount__lte=models.F("amount"),
                )
                | (~Q(status="captured") & Q(transaction=None, captured_amount=None)),
            ),
            models.UniqueConstraint(
                name="hold_idempotency_key_unique", fields=["tenant", "idempotency_key"]
            ),
        ]
        indexes = [
            # The expiry sweep reads nothing else.
            models.Index(
                name="hold_due_idx", fields=["expires_at", "id"], condition=Q(status="active")
            ),
            models.Index(name="hold_account_idx", fields=["tenant", "account", "id"]),
            # What an account's `held` is the sum of.
            models.Index(name="hold_active_idx", fields=["account"], condition=Q(status="active")),
        ]

    def __str__(self) -> str:
        return f"hold {self.pk} ({self.status})"
