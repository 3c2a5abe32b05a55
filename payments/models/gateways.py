"""A tenant's lines to gateways."""

from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from core.ids import new_id


class GatewayConfigurationQuerySet(models.QuerySet["GatewayConfiguration"]):
    def usable(self) -> Self:
        """Those that new payments may go through, first choice first."""
        return self.filter(is_enabled=True, deleted_at=None).order_by("priority", "pk")

    def kept(self) -> Self:
        return self.filter(deleted_at=None)


GatewayConfigurationManager = models.Manager.from_queryset(GatewayConfigurationQuerySet)


class GatewayConfiguration(models.Model):
    """
    One gateway with a tenant's credentials, encrypted (core.encryption).

    The enabled ones of a tenant are of one mode: test cards never pay into books that also take
    real money. A trigger keeps it so.
    """

    class Gateway(models.TextChoices):
        XENDIT = "xendit"
        MIDTRANS = "midtrans"
        SANDBOX = "sandbox"
        # Payouts as ISO 20022 files for the tenant's own bank.
        BANK_FILE = "bank_file"

    class Mode(models.TextChoices):
        TEST = "test"
        LIVE = "live"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    gateway = models.CharField(max_length=16, choices=Gateway)
    mode = models.CharField(max_length=4, choices=Mode)
    name = models.CharField(max_length=100, default="", blank=True)
    # A JSON object; empty once deleted.
    credentials = models.BinaryField()
    webhook_secret = models.BinaryField(null=True)
    # Taken beside the new one until then, so that a rotation loses no notification.
    previous_webhook_secret = models.BinaryField(null=True)
    previous_webhook_secret_until = models.DateTimeField(null=True)
    # The last characters of the main credential, to tell one from another.
    credential_hint = models.CharField(max_length=8, default="")
    # Tells whether another tenant has the same account there; a keyed digest of that credential.
    account_digest = models.BinaryField(max_length=32, null=True)
    currencies = ArrayField(models.CharField(max_length=3))
    # The lowest goes first.
    priority = models.PositiveSmallIntegerField(default=100)
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True)
    # When its books were last held against ours.
    reconciled_at = models.DateTimeField(null=True)

    objects = GatewayConfigurationManager()

    class Meta:
        verbose_name = "gateway"
        constraints = [
            models.CheckConstraint(
                name="gateway_known",
                condition=Q(gateway__in=["xendit", "midtrans", "sandbox", "bank_file"]),
            ),
            models.CheckConstraint(
                name="gateway_mode_known", condition=Q(mode__in=["test", "live"])
            ),
            models.CheckConstraint(
                name="gateway_sandbox_is_for_tests",
                condition=~Q(gateway="sandbox") | Q(mode="test"),
            ),
            models.CheckConstraint(
                name="gateway_deleted_is_disabled",
                condition=Q(deleted_at=None) | Q(is_enabled=False),
            ),
        ]
        indexes = [models.Index(name="gateway_list_idx", fields=["tenant", "id"])]

    def __str__(self) -> str:
        return self.name or f"{self.get_gateway_display()} ({self.mode})"

    @property
    def circuit(self) -> str:
        """Whose circuit breaker it is; see payments.gateways.breaker."""
        return f"{self.gateway}:{self.pk}"
