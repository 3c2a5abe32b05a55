"""What was to be paid in through a gateway, what came of it, and what was paid back."""

from django.db import models
from django.db.models import F, Q

from core.ids import new_id
from payments.models.gateways import GatewayConfiguration


class Payment(models.Model):
    """
    Money asked of a payer through a gateway, to be credited to an account: a customer's, which it
    tops up, or the tenant's own, where it is for an invoice.

    created → pending → paid → deposited. Aside: failed, expired; unknown, while nobody can say what
    the gateway did; deposit_pending, when the ledger refused what was paid; refunding and refunded;
    reversed, when the gateway took it back. A trigger keeps the transitions, and that what is
    deposited was posted.
    """

    class Purpose(models.TextChoices):
        # To be credited to a customer's account.
        TOPUP = "topup", "Top-up"
        # For what is owed by an invoice: it goes to the tenant's own receivable account.
        INVOICE = "invoice", "Invoice"

    class Method(models.TextChoices):
        # A gateway's token of a card.
        TOKEN = "token"  # noqa: S105 - a word, not a secret
        # A test card of the sandbox.
        CARD = "card"
        # The payer chooses on a page of the gateway.
        HOSTED = "hosted"

    class Status(models.TextChoices):
        CREATED = "created"
        PENDING = "pending"
        UNKNOWN = "unknown"
        PAID = "paid"
        DEPOSIT_PENDING = "deposit_pending"
        DEPOSITED = "deposited"
        FAILED = "failed"
        EXPIRED = "expired"
        # Paid, never deposited, and on its way back to the payer.
        REFUNDING = "refunding"
        REFUNDED = "refunded"
        REVERSED = "reversed"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    configuration = models.ForeignKey(
        "payments.GatewayConfiguration", on_delete=models.PROTECT, db_index=False
    )
    purpose = models.CharField(max_length=16, choices=Purpose)
    # Who is to have the money. A plain id: an account may live in another database.
    account_id = models.UUIDField()
    # Ours, by which the gateway knows it; another one for each attempt.
    reference = models.CharField(max_length=36)
    attempt = models.PositiveSmallIntegerField(default=1)
    # Minor units.
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    method = models.CharField(max_length=8, choices=Method)
    status = models.CharField(max_length=16, choices=Status, default=Status.CREATED)
    description = models.CharField(max_length=500, default="")
    metadata = models.JSONField(default=dict)
    return_url = models.CharField(max_length=500, default="")
    # What the gateway said last.
    gateway_payment_id = models.CharField(max_length=100, default="")
    gateway_status = models.CharField(max_length=60, default="")
    is_settled = models.BooleanField(default=False)
    redirect_url = models.CharField(max_length=1000, default="")
    card_last4 = models.CharField(max_length=4, default="")
    expires_at = models.DateTimeField(null=True)
    failure_code = models.CharField(max_length=64, default="")
    failure_detail = models.CharField(max_length=300, default="")
    paid_at = models.DateTimeField(null=True)
    # The ledger's transactions: of the deposit, and of its reversal.
    transaction_id = models.UUIDField(null=True)
    reversal_transaction_id = models.UUIDField(null=True)
    # Why the ledger refused the deposit.
    deposit_refusal = models.CharField(max_length=64, default="")
    # Minor units, of refunds that went through.
    refunded_amount = models.BigIntegerField(default=0)
    # The same by the gateway's last word; null: it does not say.
    gateway_refunded_amount = models.BigIntegerField(null=True)
    # When the sweep looks at it next; how often it has, since `waiting_since`.
    next_step_at = models.DateTimeField(null=True)
    steps = models.PositiveSmallIntegerField(default=0)
    waiting_since = models.DateTimeField()
    # Why a person should look at it; empty: nobody need.
    attention = models.CharField(max_length=64, default="")
    idempotency_key = models.CharField(max_length=300)
    request_fingerprint = models.BinaryField(max_length=32)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="payment_purpose_known", condition=Q(purpose__in=["topup", "invoice"])
            ),
            models.CheckConstraint(name="payment_amount_positive", condition=Q(amount__gt=0)),
            models.CheckConstraint(
                name="payment_deposited_iff_posted",
                condition=(
                    Q(status__in=["deposited"], transaction_id__isnull=False)
                    # Deposited before, or never.
                    | Q(status__in=["refunded", "reversed"])
                    | Q(
                        status__in=[
                            "created",
                            "pending",
                            "unknown",
                            "paid",
                            "deposit_pending",
                            "failed",
                            "expired",
                            "refunding",
                        ],
                        transaction_id=None,
                    )
                ),
            ),
            models.CheckConstraint(
                name="payment_reversal_follows_deposit",
                condition=Q(reversal_transaction_id=None)
                | Q(transaction_id__isnull=False, status="reversed"),
            ),
            models.CheckConstraint(
                name="payment_refunded_within_amount",
                condition=Q(refunded_amount__gte=0, refunded_amount__lte=F("amount")),
            ),
            models.UniqueConstraint(
                name="payment_reference_unique", fields=["tenant", "reference"]
            ),
            models.UniqueConstraint(
                name="payment_gateway_id_unique",
                fields=["configuration", "gateway_payment_id"],
                condition=~Q(gateway_payment_id=""),
            ),
            models.UniqueConstraint(
                name="payment_idempotency_key_unique", fields=["tenant", "idempotency_key"]
            ),
            models.UniqueConstraint(
                name="payment_transaction_unique",
                fields=["transaction_id"],
                condition=Q(transaction_id__isnull=False),
            ),
        ]
        indexes = [
            models.Index(name="payment_list_idx", fields=["tenant", "id"]),
            models.Index(name="payment_account_idx", fields=["tenant", "account_id", "id"]),
            # The sweep reads nothing else.
            models.Index(
                name="payment_due_idx",
                fields=["next_step_at", "id"],
                condition=Q(next_step_at__isnull=False),
            ),
            models.Index(
                name="payment_attention_idx",
                fields=["tenant", "id"],
                condition=~Q(attention=""),
            ),
            # What the reconciliation of a day looks at.
            models.Index(name="payment_changed_idx", fields=["configuration", "updated_at", "id"]),
            models.Index(name="payment_status_idx", fields=["tenant", "status", "id"]),
        ]

    def __str__(self) -> str:
        return f"payment {self.reference} ({self.status})"

    @property
    def gateway_configuration(self) -> GatewayConfiguration:
        """Through which gateway it goes; refunds and payouts say it too."""
        return self.configuration


class Refund(models.Model):
    """
    Money of a payment on its way back to the payer, through ledger and gateway together.

    created (the account is debited) → pending → succeeded; failed: the account has it back.
    Refunds that did not fail never exceed the payment: a trigger keeps it so.
    """

    class Status(models.TextChoices):
        CREATED = "created"
        PENDING = "pending"
        UNKNOWN = "unknown"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    payment = models.ForeignKey(
        Payment, on_delete=models.PROTECT, related_name="refunds", db_index=False
    )
    reference = models.CharField(max_length=36)
    # Minor units.
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    status = models.CharField(max_length=16, choices=Status, default=Status.CREATED)
    reason = models.CharField(max_length=500, default="")
    gateway_refund_id = models.CharField(max_length=100, default="")
    gateway_status = models.CharField(max_length=60, default="")
    failure_code = models.CharField(max_length=64, default="")
    # The debit of the account; null where the payment was never deposited.
    transaction_id = models.UUIDField(null=True)
    # The account's money again, of a refund that failed.
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
            models.CheckConstraint(name="refund_amount_positive", condition=Q(amount__gt=0)),
            models.CheckConstraint(
                name="refund_status_known",
                condition=Q(status__in=["created", "pending", "unknown", "succeeded", "failed"]),
            ),
            models.CheckConstraint(
                name="refund_returned_iff_failed",
                condition=(
                    Q(status="failed", transaction_id=None, return_transaction_id=None)
                    | Q(
                        status="failed",
                        transaction_id__isnull=False,
                        return_transaction_id__isnull=False,
                    )
                    | (~Q(status="failed") & Q(return_transaction_id=None))
                ),
            ),
            models.UniqueConstraint(name="refund_reference_unique", fields=["reference"]),
            models.UniqueConstraint(
                name="refund_idempotency_key_unique", fields=["tenant", "idempotency_key"]
            ),
            models.UniqueConstraint(
                name="refund_transaction_unique",
                fields=["transaction_id"],
                condition=Q(transaction_id__isnull=False),
            ),
        ]
        indexes = [
            models.Index(name="refund_list_idx", fields=["tenant", "id"]),
            models.Index(name="refund_payment_idx", fields=["payment", "id"]),
            models.Index(name="refund_changed_idx", fields=["updated_at", "id"]),
            models.Index(
                name="refund_attention_idx", fields=["tenant", "id"], condition=~Q(attention="")
            ),
            models.Index(
                name="refund_gateway_id_idx",
                fields=["gateway_refund_id"],
                condition=~Q(gateway_refund_id=""),
            ),
            models.Index(
                name="refund_due_idx",
                fields=["next_step_at", "id"],
                condition=Q(next_step_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"refund {self.reference} ({self.status})"

    @property
    def gateway_configuration(self) -> GatewayConfiguration:
        return self.payment.configuration
