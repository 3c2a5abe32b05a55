"""The reports' daily figures, kept up with every change: one upsert, last in its transaction."""

import datetime as dt
from typing import Any

from django.db import connection

from invoices.models import DailyFigures, Invoice
from invoices.services.amounts import NOTHING, Parts

# What has no gateway of its own.
OFFLINE, FROM_CREDIT = "offline", "credit"

_FIGURES = tuple(
    field.name
    for field in DailyFigures._meta.local_fields
    if field.name not in ("id", "tenant", "day", "currency", "gateway")
)
_COLUMNS = ("tenant_id", "day", "currency", "gateway", *_FIGURES)
_ADD = f"""
INSERT INTO invoices_dailyfigures AS f ({", ".join(_COLUMNS)})
VALUES ({", ".join(["%s"] * len(_COLUMNS))})
ON CONFLICT (tenant_id, currency, day, gateway) DO UPDATE
SET {", ".join(f"{name} = f.{name} + excluded.{name}" for name in _FIGURES)}
"""  # noqa: S608 - put together from the model's own columns


def count(
    invoice: Invoice,
    *,
    now: dt.datetime,
    gateway: str = "",
    invoiced: Parts = NOTHING,
    credited: Parts = NOTHING,
    received: Parts = NOTHING,
    refunded: Parts = NOTHING,
    **counts: int,
) -> None:
    """
    Add to the figures of today, by the tenant's days. Takes the lock of the day's row: nothing
    else is locked after it.
    """
    added: dict[str, Any] = {
        "tenant_id": invoice.tenant_id,
        "day": invoice.tenant.day_of(now),
        "currency": invoice.currency,
        "gateway": gateway,
        **counts,
    }
    for name, parts in (
        ("invoiced", invoiced),
        ("credited", credited),
        ("received", received),
        ("refunded", refunded),
    ):
        added |= {f"{name}_net": parts.net, f"{name}_tax": parts.tax, f"{name}_fees": parts.fee}
    with connection.cursor() as cursor:
        cursor.execute(_ADD, [added.get(name, 0) for name in _COLUMNS])
