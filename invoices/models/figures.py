"""The reports' figures by day, kept as things happen, so that a report need not read invoices."""

from django.db import models


class DailyFigures(models.Model):
    """
    What happened on one of a tenant's days in one currency, by gateway.

    What was invoiced has no gateway (""); what was received by hand has "offline", from credit
    "credit". Minor units. Written in the database transaction of what it counts; `verify_invoices`
    compares it with the rows it sums up.
    """

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    day = models.DateField()
    currency = models.CharField(max_length=3)
    gateway = models.CharField(max_length=16, default="")
    # Finalised, less voided and expired.
    invoices = models.IntegerField(default=0)
    invoiced_net = models.BigIntegerField(default=0)
    invoiced_tax = models.BigIntegerField(default=0)
    invoiced_fees = models.BigIntegerField(default=0)
    # By credit notes, paid or not.
    credited_net = models.BigIntegerField(default=0)
    credited_tax = models.BigIntegerField(default=0)
    credited_fees = models.BigIntegerField(default=0)
    # Applied to invoices, less what was charged back.
    payments = models.IntegerField(default=0)
    received_net = models.BigIntegerField(default=0)
    received_tax = models.BigIntegerField(default=0)
    received_fees = models.BigIntegerField(default=0)
    # Beyond what was due, kept as credit.
    overpaid = models.BigIntegerField(default=0)
    # Gone back to customers, or on its way.
    refunds = models.IntegerField(default=0)
    refunded_net = models.BigIntegerField(default=0)
    refunded_tax = models.BigIntegerField(default=0)
    refunded_fees = models.BigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "financial report"
        constraints = [
            models.UniqueConstraint(
                name="figures_unique", fields=["tenant", "currency", "day", "gateway"]
            ),
        ]

    def __str__(self) -> str:
        return f"{self.currency} {self.day} {self.gateway}".strip()
