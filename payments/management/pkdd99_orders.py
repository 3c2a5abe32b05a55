"""PKDD'99's permanent orders as recurring payments, and a year of them by a test clock."""

import datetime as dt
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from accounts import services as accounts
from accounts.queries import accounts_by_external_id
from core.calendars.rules import Frequency
from core.errors import AlreadyExists, DomainError
from identity.models import Tenant
from identity.services import advance_test_clock, start_test_clock
from payments.management.pkdd99 import CURRENCY, BadRow, Order, external_id
from payments.queries import first_start_of_recurring_payments
from payments.services import NewRecurringPayment, Terms, create_recurring_payment

MONTHS = 12


@dataclass(slots=True)
class Loaded:
    """What became of the orders."""

    made: int = 0
    made_before: int = 0
    refused: list[BadRow] = field(default_factory=list)


def bank_external_id(bank: str) -> str:
    return f"pkdd99-bank-{bank}"


def begin(tenant: Tenant, *, now: dt.datetime) -> dt.datetime:
    """Return what the tenant's test clock shows; it is given one that shows now."""
    if tenant.test_clock is None:
        tenant = start_test_clock(tenant_id=tenant.pk, at=None, now=now)
    return tenant.time_at(now)


def load_orders(
    tenant: Tenant, orders: list[Order], *, now: dt.datetime, progress: Callable[[], None]
) -> Loaded:
    """
    Make each order a recurring payment from the first of the next month on.

    It goes to an account that stands for the other bank: the files' banks are two letters, which no
    gateway reaches.
    """
    _open_banks(tenant.pk, {order.bank for order in orders}, now)
    names = {external_id(order.account_id) for order in orders}
    names |= {bank_external_id(order.bank) for order in orders}
    ids = {
        name: account.pk
        for name, account in accounts_by_external_id(
            tenant_id=tenant.pk, external_ids=names
        ).items()
    }
    start = _first_of_next_month(tenant.time_at(now).date())
    loaded = Loaded()
    for order in orders:
        try:
            create_recurring_payment(
                tenant_id=tenant.pk,
                new=NewRecurringPayment(
                    source_account_id=ids[external_id(order.account_id)],
                    destination_account_id=ids[bank_external_id(order.bank)],
                    currency=CURRENCY,
                    external_id=order.external_id,
                    terms=Terms(
                        amount=order.amount,
                        frequency=Frequency.MONTHLY,
                        day_of_month=order.day_of_month,
                        start_date=start,
                        description=order.description,
                        metadata=order.metadata,
                    ),
                ),
                now=now,
            )
        except AlreadyExists:
            loaded.made_before += 1
        except DomainError as refusal:
            loaded.refused.append(BadRow(order.file, order.line, f"refused: {refusal.detail}"))
        else:
            loaded.made += 1
        progress()
    return loaded


def run_year(tenant: Tenant, *, now: dt.datetime, progress: Callable[[int], None]) -> int:
    """
    Move the tenant's clock on to twelve months after the first order's start; return how many runs
    there were on the way. A clock that is past that stays where it is.
    """
    start = first_start_of_recurring_payments(tenant_id=tenant.pk)
    if start is None:
        return 0
    end = dt.datetime.combine(start.replace(year=start.year + 1), dt.time(), dt.UTC)
    runs: Counter[str] = Counter()
    while True:
        shown = Tenant.objects.values_list("test_clock", flat=True).get(pk=tenant.pk)
        if shown is None or shown >= end:
            return runs.total()
        # A month at a time, so that whoever waits sees it go on.
        month = min(end, shown + dt.timedelta(days=31))
        advanced = advance_test_clock(tenant_id=tenant.pk, to=month, now=now)
        runs.update(advanced.runs)
        progress(sum(advanced.runs.values()))


def _open_banks(tenant_id: UUID, banks: set[str], now: dt.datetime) -> None:
    new = [
        accounts.NewAccount(
            type="checking",
            currency=CURRENCY,
            name=f"Bank {bank}",
            external_id=bank_external_id(bank),
        )
        for bank in sorted(banks)
    ]
    if new:
        accounts.open_accounts(tenant_id=tenant_id, new=new, now=now)


def _first_of_next_month(day: dt.date) -> dt.date:
    return (day.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
