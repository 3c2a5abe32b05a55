"""A few invoices of the demo tenant, in every colour. Run twice, it changes nothing."""

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from identity.services import tenant_named
from invoices import services
from invoices.models import Invoice, InvoiceSettings
from invoices.services import Customer, EvenSchedule, Interval, NewInvoice, NewLine

_BUDI = Customer(
    name="Budi Santoso",
    email="budi@example.com",
    address="Jalan Melati 5\n40115 Bandung",
    country="ID",
)
_SITI = Customer(name="Siti Rahman", email="siti@example.com", reference="C-1002", country="MY")


class Command(BaseCommand):
    help = "Make invoices of the demo tenant, and say who it is on them."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.IS_PRODUCTION:
            raise CommandError("Demo invoices do not belong into production.")
        now = timezone.now()
        tenant = tenant_named(name="Demo Bank", now=now)
        InvoiceSettings.objects.get_or_create(
            tenant=tenant,
            defaults={
                "legal_name": "Toko Florin",
                "street": "Jalan Braga",
                "building_number": "12",
                "post_code": "40111",
                "town": "Bandung",
                "country": "ID",
                "tax_id": "01.234.567.8-901.000",
                "email": "billing@example.com",
                "creditor_account_number": "1234567890",
                "creditor_bic": "CENAIDJA",
                "updated_at": now,
            },
        )
        _seed(tenant.pk, now)
        self.stdout.write("Demo invoices are ready.")


def _seed(tenant_id: UUID, now: dt.datetime) -> None:
    # The example of the documents: 1,130,000 rupiah in two installments.
    _once(
        tenant_id,
        now,
        "demo-1",
        currency="IDR",
        lines=[NewLine("Website, first part", Decimal(1), 1_000_000, Decimal(10))],
        fee_percent=Decimal(3),
        schedule=EvenSchedule(2, Interval.MONTHLY),
        customer=_BUDI,
        locale="id",
    )
    paid, is_new = _once(
        tenant_id,
        now,
        "demo-2",
        currency="MYR",
        lines=[
            NewLine("Coffee beans, 1 kg", Decimal("2.5"), 8_990, Decimal(6)),
            NewLine("Grinder", Decimal(1), 45_000, Decimal(6)),
        ],
        customer=_SITI,
        locale="ms",
    )
    if is_new:
        # More than is due: the rest is the customer's credit.
        services.record_offline_payment(
            tenant_id=tenant_id,
            invoice_id=paid.pk,
            amount=80_000,
            method="bank transfer",
            received_on=None,
            reference="FT-20417",
            note="",
            idempotency_key="demo:invoice:2",
            now=now,
        )
    _once(
        tenant_id,
        now,
        "demo-3",
        is_final=False,
        currency="USD",
        lines=[NewLine("Support, hours", Decimal("3.75"), 9_000)],
        customer=Customer(name="Ada Lovelace", email="ada@example.com"),
    )


def _once(
    tenant_id: UUID, now: dt.datetime, external_id: str, *, is_final: bool = True, **new: Any
) -> tuple[Invoice, bool]:
    known = Invoice.objects.filter(tenant_id=tenant_id, external_id=external_id).first()
    if known is not None:
        return known, False
    made = services.create_invoice(
        tenant_id=tenant_id,
        new=NewInvoice(external_id=external_id, **new),
        now=now,
        is_final=is_final,
    )
    return made, True
