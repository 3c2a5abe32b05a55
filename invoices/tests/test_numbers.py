"""Numbers of invoices and credit notes: without gaps and doubles, by tenant, year and time zone."""

import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from core.errors import InvalidState
from identity.models import Tenant
from invoices.models import CreditNote, Invoice, NumberSeries
from invoices.services import create_invoice, finalize_invoice
from invoices.tests.test_receiving import credited, sound, voided
from tests import making
from tests.gateway_scenes import closing, wait_for_waiting
from tests.invoicing import books, draft, issued, new_invoice

pytestmark = pytest.mark.django_db(transaction=True)

AT_ONCE = 50
YEAR = timezone.now().year
JANUARY = dt.date(2027, 1, 20)


class Dropped(Exception):
    """Somebody's transaction ends otherwise than they thought."""


def finalized(invoice: Invoice, now: dt.datetime | None = None) -> Invoice:
    return finalize_invoice(
        tenant_id=invoice.tenant_id, invoice_id=invoice.pk, now=now or timezone.now()
    )


def finalized_and_dropped(invoice: Invoice) -> Invoice:
    with transaction.atomic():
        finalized(invoice)
        raise Dropped


def numbers_of(tenant: Tenant) -> list[str]:
    found = Invoice.objects.issued().filter(tenant=tenant).order_by("number")
    return [str(number) for number in found.values_list("number", flat=True)]


def counted(count: int, kind: str = "INV", year: int = YEAR) -> list[str]:
    return [f"{kind}-{year}-{number:06d}" for number in range(1, count + 1)]


def test_fifty_at_once_have_fifty_numbers(tenant: Tenant) -> None:
    drafts = [draft(tenant) for _ in range(AT_ONCE)]

    results = making.at_once([partial(finalized, each) for each in drafts])

    assert [each for each in results if isinstance(each, Exception)] == []
    assert numbers_of(tenant) == counted(AT_ONCE)
    assert books(tenant)["receivable"] == -AT_ONCE * 1_130_000
    assert sound(tenant)


def test_what_is_rolled_back_leaves_no_gap(tenant: Tenant) -> None:
    drafts = [draft(tenant) for _ in range(AT_ONCE)]
    calls: list[Callable[[], Any]] = [
        partial(finalized_and_dropped if number % 3 == 0 else finalized, each)
        for number, each in enumerate(drafts)
    ]

    results = making.at_once(calls)

    dropped = [each for each in results if isinstance(each, Exception)]
    assert [type(each) for each in dropped] == [Dropped] * 17
    assert numbers_of(tenant) == counted(AT_ONCE - 17)
    # And those that were dropped go on where the others ended.
    for each in drafts:
        finalized(each)
    assert numbers_of(tenant) == counted(AT_ONCE)
    assert sound(tenant)


def test_one_draft_at_once_has_one_number(tenant: Tenant) -> None:
    invoice = draft(tenant)

    results = making.at_once([partial(finalized, invoice)] * 12)

    assert {getattr(each, "number", each) for each in results} == {f"INV-{YEAR}-000001"}
    assert books(tenant)["receivable"] == -1_130_000
    assert sound(tenant)


def test_a_draft_that_is_voided_has_none_and_one_that_cannot_be_finalised_takes_none(
    tenant: Tenant,
) -> None:
    assert voided(draft(tenant)).number is None
    late = draft(tenant, due_date=timezone.now().date())
    with pytest.raises(InvalidState):
        finalized(late, timezone.now() + dt.timedelta(days=3))

    assert issued(tenant).number == f"INV-{YEAR}-000001"


def test_two_tenants_never_wait_for_each_other(tenant: Tenant, other_tenant: Tenant) -> None:
    ours, theirs = draft(tenant), draft(other_tenant)

    with transaction.atomic():
        finalized(ours)
        [result] = making.at_once([partial(finalized, theirs)])

    assert getattr(result, "number", result) == f"INV-{YEAR}-000001"


def test_of_one_tenant_the_second_waits_for_the_first(tenant: Tenant) -> None:
    """A control: without that, the next would have the number that may still go back."""
    first, second = draft(tenant), draft(tenant)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            finalized(first)
            waiting = pool.submit(closing, partial(finalized, second))
            wait_for_waiting(1)
            assert not waiting.done()
            transaction.set_rollback(True)
        assert waiting.result(timeout=30).number == f"INV-{YEAR}-000001"

    first.refresh_from_db()
    assert (first.number, first.status) == (None, "draft")


@pytest.mark.parametrize(
    ("zone", "moment", "number"),
    [
        ("Asia/Jakarta", "2026-12-31T16:59:59", "INV-2026-000002"),
        ("Asia/Jakarta", "2026-12-31T17:00:00", "INV-2027-000001"),
        ("Asia/Jakarta", "2026-12-31T23:30:00", "INV-2027-000001"),
        ("UTC", "2026-12-31T23:30:00", "INV-2026-000002"),
        ("America/New_York", "2027-01-01T04:59:59", "INV-2026-000002"),
        ("America/New_York", "2027-01-01T05:00:00", "INV-2027-000001"),
    ],
)
def test_the_year_is_that_of_the_tenants_zone(
    tenant: Tenant, zone: str, moment: str, number: str
) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(time_zone=zone)
    new = new_invoice(due_date=JANUARY)
    early = dt.datetime(2026, 12, 30, 12, tzinfo=dt.UTC)
    create_invoice(tenant_id=tenant.pk, new=new, now=early, is_final=True)

    at = dt.datetime.fromisoformat(f"{moment}+00:00")
    invoice = create_invoice(tenant_id=tenant.pk, new=new, now=at, is_final=True)

    assert invoice.number == number


def test_after_999_999_come_seven_digits(tenant: Tenant) -> None:
    issued(tenant)
    making.corrupt("UPDATE invoices_numberseries SET last = 999998")

    given = [issued(tenant).number for _ in range(3)]

    assert given == [f"INV-{YEAR}-{number}" for number in ("999999", "1000000", "1000001")]


def test_credit_notes_have_numbers_of_their_own(tenant: Tenant) -> None:
    invoices = [issued(tenant) for _ in range(12)]

    results = making.at_once([partial(credited, each, 1_000) for each in invoices])

    assert [each for each in results if isinstance(each, Exception)] == []
    notes = CreditNote.objects.order_by("number").values_list("number", flat=True)
    assert list(notes) == counted(12, "CN")
    assert numbers_of(tenant) == counted(12)
    last = dict(NumberSeries.objects.values_list("kind", "last"))
    assert last == {"INV": 12, "CN": 12}
    assert sound(tenant)
