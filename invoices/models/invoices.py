"""What was asked of a customer: the invoice, its lines, its schedule, its number."""

import datetime as dt
import secrets
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from core.ids import new_id


def new_token() -> str:
    """Return what a payer's address ends in: 256 random bits."""
    return secrets.token_urlsafe(32)


def default_reminder_days() -> list[int]:
    return [-3, 0, 7]


class InvoiceSettings(models.Model):
    """Who a tenant is on its invoices, and how it reminds; one row a tenant."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.OneToOneField("identity.Tenant", on_delete=models.PROTECT)
    legal_name = models.CharField(max_length=140, default="", blank=True)
    street = models.CharField(max_length=70, default="", blank=True)
    building_number = models.CharField(max_length=16, default="", blank=True)
    post_code = models.CharField(max_length=16, default="", blank=True)
    town = models.CharField(max_length=35, default="", blank=True)
    # ISO 3166-1, two letters.
    country = models.CharField(max_length=2, default="", blank=True)
    tax_id = models.CharField(max_length=50, default="", blank=True)
    email = models.EmailField(default="", blank=True)
    # Where a bank transfer goes: an IBAN, or an account's number with the bank's BIC.
    creditor_iban = models.CharField(max_length=34, default="", blank=True)
    creditor_account_number = models.CharField(max_length=34, default="", blank=True)
    creditor_bic = models.CharField(max_length=11, default="", blank=True)
    # Of an invoice that names no due date.
    payment_terms_days = models.PositiveSmallIntegerField(default=14)
    # Days from the due date: -3 is three days before.
    reminder_days = ArrayField(models.SmallIntegerField(), default=default_reminder_days)
    # A customer's credit pays what it can of their next invoice.
    uses_credit = models.BooleanField(default=True)
    locale = models.CharField(max_length=5, default="en")
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name = "invoice settings"
        verbose_name_plural = "invoice settings"

    def __str__(self) -> str:
        return f"invoice settings of {self.tenant_id}"


class NumberSeries(models.Model):
    """How far a tenant's numbers of one kind and year have come. Only triggers count on."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    # "INV" or "CN".
    kind = models.CharField(max_length=3)
    year = models.PositiveSmallIntegerField()
    last = models.PositiveIntegerField()

    class Meta:
        verbose_name_plural = "number series"
        constraints = [
            models.UniqueConstraint(name="series_unique", fields=["tenant", "kind", "year"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind}-{self.year}-{self.last:06d}"


class InvoiceQuerySet(models.QuerySet["Invoice"]):
    def issued(self) -> Self:
        """Those that have a number."""
        return self.filter(number__isnull=False)


InvoiceManager = models.Manager.from_queryset(InvoiceQuerySet)


class Invoice(models.Model):
    """
    Money that a customer owes, from its lines to the last payment.

    draft → pending → partially_paid → fully_paid. Aside: failed (too many attempts failed; staff
    open it again), expired (nobody paid in time; money that comes all the same revives it), voided,
    refunded (all that was paid went back). What is owed never changes once it has a number; credit
    notes and supplementary invoices do that beside it.
    """

    class Status(models.TextChoices):
        DRAFT = "draft"
        PENDING = "pending"
        PARTIALLY_PAID = "partially_paid"
        FULLY_PAID = "fully_paid"
        FAILED = "failed"
        EXPIRED = "expired"
        VOIDED = "voided"
        REFUNDED = "refunded"

    class FeeMode(models.TextChoices):
        # percent of the subtotal, and the fixed part.
        ADDITIVE = "additive"
        # So much that, after a gateway has kept percent and fixed of the fee's basis, the
        # subtotal is left.
        GROSS_UP = "gross_up"

    class TaxRounding(models.TextChoices):
        # Half up, each line by itself.
        LINE = "line"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    # INV-2026-000001; given by a trigger when it is finalised, without gaps.
    number = models.CharField(max_length=20, null=True)
    status = models.CharField(max_length=14, choices=Status, default=Status.DRAFT)
    currency = models.CharField(max_length=3)
    tax_rounding = models.CharField(max_length=8, choices=TaxRounding, default=TaxRounding.LINE)
    fee_mode = models.CharField(max_length=8, choices=FeeMode, default=FeeMode.ADDITIVE)
    # Percent, such as 2.9000.
    fee_percent = models.DecimalField(max_digits=7, decimal_places=4, default=0)
    # Minor units, as all amounts.
    fee_fixed = models.BigIntegerField(default=0)
    subtotal_amount = models.BigIntegerField()
    total_tax_amount = models.BigIntegerField()
    total_service_fee_amount = models.BigIntegerField()
    total_amount = models.BigIntegerField()
    # Applied to it: through gateways, by hand, from credit; less what was charged back.
    paid_amount = models.BigIntegerField(default=0)
    # By credit notes.
    credited_amount = models.BigIntegerField(default=0)
    # Of what was paid, what went back to the customer with a credit note.
    refunded_amount = models.BigIntegerField(default=0)
    # Paid beyond what was due, and kept as the customer's credit.
    overpaid_amount = models.BigIntegerField(default=0)
    # The same customer has the same; else empty. Credit goes from invoice to invoice by it.
    customer_key = models.CharField(max_length=260, default="")
    customer_reference = models.CharField(max_length=200, default="")
    customer_name = models.CharField(max_length=140, default="")
    customer_email = models.EmailField(default="")
    customer_address = models.CharField(max_length=500, default="")
    # What a bank transfer comes from, where it is known; for the payment initiation.
    customer_iban = models.CharField(max_length=34, default="")
    customer_account_number = models.CharField(max_length=34, default="")
    customer_bic = models.CharField(max_length=11, default="")
    customer_country = models.CharField(max_length=2, default="")
    # The gateway it is paid through; empty: by currency and priority.
    gateway = models.CharField(max_length=16, default="")
    # A customer's account that has what is paid; null: the tenant's own books alone.
    settlement_account_id = models.UUIDField(null=True)
    external_id = models.CharField(max_length=200, null=True)
    parent = models.ForeignKey(
        "self",
        null=True,
        on_delete=models.PROTECT,
        related_name="supplements",
        db_index=False,
    )
    description = models.CharField(max_length=500, default="")
    metadata = models.JSONField(default=dict)
    locale = models.CharField(max_length=5, default="en")
    # Whoever has it may see the invoice and pay it.
    token = models.CharField(max_length=43, default=new_token)
    has_schedule = models.BooleanField(default=False)
    # The day of the tenant's by which all of it is due.
    due_date = models.DateField()
    # After which it is not payable any more, if nothing has been paid; null: never.
    expires_at = models.DateTimeField(null=True)
    # The journal of what is owed, and what took it back.
    transaction_id = models.UUIDField(null=True)
    void_transaction_id = models.UUIDField(null=True)
    # How often it was expired and revived: part of the journals' keys.
    revision = models.PositiveSmallIntegerField(default=0)
    # Checkouts so far, and those that failed since the last that did not.
    attempts = models.PositiveIntegerField(default=0)
    failed_attempts = models.PositiveSmallIntegerField(default=0)
    # Why a person should look at it; empty: nobody need.
    attention = models.CharField(max_length=64, default="")
    # When the sweep looks at it next: expiry, overdue, reminders.
    next_step_at = models.DateTimeField(null=True)
    finalized_at = models.DateTimeField(null=True)
    paid_at = models.DateTimeField(null=True)
    voided_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = InvoiceManager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="invoice_amounts_positive",
                condition=Q(
                    subtotal_amount__gte=0,
                    total_tax_amount__gte=0,
                    total_service_fee_amount__gte=0,
                    total_amount__gt=0,
                ),
            ),
            models.CheckConstraint(
                name="invoice_total_is_sum",
                condition=Q(
                    total_amount=F("subtotal_amount")
                    + F("total_tax_amount")
                    + F("total_service_fee_amount")
                ),
            ),
            models.CheckConstraint(
                name="invoice_never_owes_less_than_nothing",
                condition=Q(
                    paid_amount__gte=0,
                    credited_amount__gte=0,
                    credited_amount__lte=F("total_amount"),
                    refunded_amount__gte=0,
                    overpaid_amount__gte=0,
                    total_amount__gte=F("credited_amount")
                    + F("paid_amount")
                    - F("refunded_amount"),
                ),
            ),
            models.CheckConstraint(
                name="invoice_refunded_with_credit_note",
                condition=Q(refunded_amount__lte=F("credited_amount")),
            ),
            models.CheckConstraint(
                name="invoice_status_known",
                condition=Q(
                    status__in=[
                        "draft",
                        "pending",
                        "partially_paid",
                        "fully_paid",
                        "failed",
                        "expired",
                        "voided",
                        "refunded",
                    ]
                ),
            ),
            models.CheckConstraint(
                name="invoice_numbered_iff_finalized",
                condition=(
                    Q(status="draft", number=None, finalized_at=None, transaction_id=None)
                    | Q(status="voided", number=None, finalized_at=None, transaction_id=None)
                    | (
                        ~Q(status="draft")
                        & Q(
                            number__isnull=False,
                            finalized_at__isnull=False,
                            transaction_id__isnull=False,
                        )
                    )
                ),
            ),
            models.UniqueConstraint(
                name="invoice_number_unique",
                fields=["tenant", "number"],
                condition=Q(number__isnull=False),
            ),
            models.UniqueConstraint(
                name="invoice_external_id_unique",
                fields=["tenant", "external_id"],
                condition=Q(external_id__isnull=False),
            ),
            models.UniqueConstraint(name="invoice_token_unique", fields=["token"]),
        ]
        indexes = [
            models.Index(name="invoice_list_idx", fields=["tenant", "id"]),
            models.Index(name="invoice_status_idx", fields=["tenant", "status", "id"]),
            models.Index(
                name="invoice_customer_idx",
                fields=["tenant", "customer_key", "currency", "id"],
                condition=~Q(customer_key=""),
            ),
            models.Index(
                name="invoice_parent_idx", fields=["parent"], condition=Q(parent__isnull=False)
            ),
            models.Index(
                name="invoice_due_idx",
                fields=["next_step_at", "id"],
                condition=Q(next_step_at__isnull=False),
            ),
            # Aged receivables reads these alone.
            models.Index(
                name="invoice_owed_idx",
                fields=["tenant", "currency", "due_date"],
                condition=Q(status__in=["pending", "partially_paid", "failed"]),
            ),
            models.Index(
                name="invoice_attention_idx", fields=["tenant", "id"], condition=~Q(attention="")
            ),
        ]

    def __str__(self) -> str:
        return self.number or f"draft {self.pk}"

    @property
    def amount_due(self) -> int:
        """Minor units that are still to be paid."""
        if self.status in (self.Status.VOIDED, self.Status.EXPIRED):
            return 0
        return self.total_amount - self.credited_amount - self.paid_amount + self.refunded_amount

    @property
    def amount_kept(self) -> int:
        """Minor units paid and not gone back."""
        return self.paid_amount - self.refunded_amount


class LineItem(models.Model):
    """A line of an invoice. Never changed once the invoice has a number: a trigger keeps it so."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    invoice = models.ForeignKey(
        Invoice, on_delete=models.CASCADE, related_name="line_items", db_index=False
    )
    # From 1.
    position = models.PositiveSmallIntegerField()
    description = models.CharField(max_length=500)
    quantity = models.DecimalField(max_digits=18, decimal_places=6)
    unit_amount = models.BigIntegerField()
    # Percent.
    tax_rate = models.DecimalField(max_digits=7, decimal_places=4, default=0)
    subtotal_amount = models.BigIntegerField()
    tax_amount = models.BigIntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="line_amounts_positive",
                condition=Q(
                    quantity__gt=0,
                    unit_amount__gte=0,
                    tax_rate__gte=0,
                    subtotal_amount__gte=0,
                    tax_amount__gte=0,
                ),
            ),
            models.CheckConstraint(name="line_tax_rate_limit", condition=Q(tax_rate__lte=100)),
            models.UniqueConstraint(name="line_position_unique", fields=["invoice", "position"]),
        ]

    def __str__(self) -> str:
        return f"line {self.position}"


class Installment(models.Model):
    """
    A part of an invoice that is due on a day. An invoice without a schedule has one, for all of it.
    """

    class Status(models.TextChoices):
        """As shown; the database has the amounts."""

        UNPAID = "unpaid"
        PARTIALLY_PAID = "partially_paid"
        PAID = "paid"
        OVERDUE = "overdue"
        CANCELLED = "cancelled"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    invoice = models.ForeignKey(
        Invoice, on_delete=models.CASCADE, related_name="installments", db_index=False
    )
    # From 1, in order of due dates.
    number = models.PositiveSmallIntegerField()
    due_date = models.DateField()
    # net + tax + service fee.
    amount = models.BigIntegerField()
    net_amount = models.BigIntegerField()
    tax_amount = models.BigIntegerField()
    service_fee_amount = models.BigIntegerField()
    paid_amount = models.BigIntegerField(default=0)
    # What credit notes took off before it was paid.
    credited_amount = models.BigIntegerField(default=0)
    token = models.CharField(max_length=43, default=new_token)
    overdue_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="installment_is_sum",
                condition=Q(
                    net_amount__gte=0,
                    tax_amount__gte=0,
                    service_fee_amount__gte=0,
                    amount=F("net_amount") + F("tax_amount") + F("service_fee_amount"),
                ),
            ),
            models.CheckConstraint(
                name="installment_never_owes_less_than_nothing",
                condition=Q(
                    amount__gt=0,
                    paid_amount__gte=0,
                    credited_amount__gte=0,
                    amount__gte=F("paid_amount") + F("credited_amount"),
                ),
            ),
            models.UniqueConstraint(name="installment_number_unique", fields=["invoice", "number"]),
            models.UniqueConstraint(name="installment_token_unique", fields=["token"]),
        ]

    def __str__(self) -> str:
        return f"installment {self.number}"

    @property
    def amount_due(self) -> int:
        return self.amount - self.paid_amount - self.credited_amount

    def status_on(self, day: dt.date) -> "Installment.Status":
        """Return what it is called on a day of the tenant's."""
        if self.amount_due == 0:
            is_paid = self.paid_amount or not self.credited_amount
            return self.Status.PAID if is_paid else self.Status.CANCELLED
        if self.due_date < day:
            return self.Status.OVERDUE
        return self.Status.PARTIALLY_PAID if self.paid_amount else self.Status.UNPAID
