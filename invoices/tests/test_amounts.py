"""
The arithmetic of invoices against an independent one in exact fractions: a thousand random
invoices, through the functions alone; a hundred through the services, and paid in random pieces.
"""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from core.errors import InvalidRequest
from core.money import AMOUNT_MAX
from identity.models import Tenant
from invoices.errors import ScheduleMismatch
from invoices.models import Invoice, Receipt
from invoices.services import Customer, EvenSchedule, Interval, NewInstallment, NewLine
from invoices.services.amounts import (
    Parts,
    due_dates,
    line_amounts,
    part_of,
    service_fee,
    split_by_amounts,
    split_evenly,
)
from invoices.tests.test_receiving import sound, sum_of_splits
from tests.invoicing import books, draft, in_days, issued, line, pay_offline

EXAMPLES = 1_000
IN_THE_DATABASE = 100
LINES_MAX, INSTALLMENTS_MAX = 20, 60
CURRENCIES = ["IDR", "JPY", "USD", "MYR", "BHD"]


# --- The same, reckoned otherwise -----------------------------------------------------------------


def half_up(exact: Fraction) -> int:
    return math.floor(exact + Fraction(1, 2))


@dataclass(frozen=True)
class Asked:
    """An invoice as somebody asks for it."""

    currency: str
    # Quantity, unit amount and tax rate.
    lines: Sequence[tuple[Decimal, int, Decimal]]
    fee_percent: Decimal
    fee_fixed: int
    is_gross_up: bool
    # By halves, thirds, ...; None: the amounts are at these places between nothing and all.
    count: int | None
    cuts: Sequence[Fraction] = field(default=())

    def parts(self) -> Parts:
        subtotals = [half_up(Fraction(quantity) * unit) for quantity, unit, _ in self.lines]
        taxes = [
            half_up(subtotal * Fraction(rate) / 100)
            for subtotal, (_, _, rate) in zip(subtotals, self.lines, strict=True)
        ]
        net, share = sum(subtotals), Fraction(self.fee_percent) / 100
        if self.is_gross_up:
            fee = half_up((net + self.fee_fixed) / (1 - share) - net)
        else:
            fee = half_up(net * share) + self.fee_fixed
        return Parts(net, sum(taxes), fee)

    def amounts(self, total: int) -> list[int]:
        """What is given where the schedule is not even: each at least one minor unit."""
        places = sorted({0, total, *(math.floor(cut * total) for cut in self.cuts)})
        return [later - earlier for earlier, later in pairwise(places)]


def decimals(least: str, most: str, places: int) -> st.SearchStrategy[Decimal]:
    return st.decimals(least, most, places=places, allow_nan=False, allow_infinity=False)


# A place between nothing and all.
SHARES = st.integers(0, 10**9).map(lambda billionths: Fraction(billionths, 10**9))
RATES = st.one_of(st.sampled_from([Decimal(0), Decimal(100), Decimal(11)]), decimals("0", "100", 4))


@st.composite
def invoices(draw: st.DrawFn, unit_amount_max: int = 10**10) -> Asked:
    lines = st.tuples(
        st.one_of(st.integers(1, 1_000).map(Decimal), decimals("0.000001", "1000", 6)),
        st.integers(0, unit_amount_max),
        RATES,
    )
    is_gross_up = draw(st.booleans())
    return Asked(
        currency=draw(st.sampled_from(CURRENCIES)),
        lines=draw(st.lists(lines, min_size=1, max_size=LINES_MAX)),
        fee_percent=draw(decimals("0", "99.9999" if is_gross_up else "100", 4)),
        fee_fixed=draw(st.integers(0, 10**7)),
        is_gross_up=is_gross_up,
        count=draw(st.one_of(st.none(), st.integers(1, INSTALLMENTS_MAX))),
        cuts=draw(st.lists(SHARES, max_size=INSTALLMENTS_MAX - 1)),
    )


def total_of(rows: Sequence[Parts]) -> Parts:
    return sum(rows, Parts(0, 0, 0))


def is_whole(row: Parts) -> bool:
    """Whether it is something, and no component below nothing."""
    return row.total > 0 and min(row.net, row.tax, row.fee) >= 0


# --- Alone ----------------------------------------------------------------------------------------


@settings(max_examples=EXAMPLES, deadline=None)
@given(invoices())
@example(Asked("JPY", [(Decimal("0.000001"), 500_000, Decimal(50))], Decimal(0), 0, False, 1))
def test_lines_tax_and_fee_are_those_of_exact_fractions(asked: Asked) -> None:
    rows = [
        line_amounts(quantity=quantity, unit_amount=unit, tax_rate=rate)
        for quantity, unit, rate in asked.lines
    ]
    subtotal, tax = (sum(row[place] for row in rows) for place in (0, 1))

    fee = service_fee(
        subtotal=subtotal,
        percent=asked.fee_percent,
        fixed=asked.fee_fixed,
        is_gross_up=asked.is_gross_up,
    )

    assert Parts(subtotal, tax, fee) == asked.parts()
    assert min(subtotal, tax, fee) >= 0


@settings(max_examples=EXAMPLES, deadline=None)
@given(invoices(), st.integers(1, INSTALLMENTS_MAX))
def test_an_even_split_rounds_down_and_the_last_has_the_rest(asked: Asked, count: int) -> None:
    whole = asked.parts()

    rows = split_evenly(whole, count)

    each = Parts(*(math.floor(Fraction(part, count)) for part in (whole.net, whole.tax, whole.fee)))
    assert rows[:-1] == [each] * (count - 1)
    assert total_of(rows) == whole
    assert all(min(row.net, row.tax, row.fee) >= 0 for row in rows)
    # The rest of each component is less than one for each installment.
    last = rows[-1] - each
    assert all(0 <= rest < count for rest in (last.net, last.tax, last.fee))


@settings(max_examples=EXAMPLES, deadline=None)
@given(invoices())
def test_given_amounts_are_kept_and_tax_and_fee_follow_them(asked: Asked) -> None:
    whole = asked.parts()
    assume(whole.total > 0)
    amounts = asked.amounts(whole.total)

    rows = split_by_amounts(whole, amounts)

    assert [row.total for row in rows] == amounts
    assert total_of(rows) == whole
    assert all(is_whole(row) for row in rows)
    # Where the last one holds what is left, the others have their share rounded down.
    share = [math.floor(Fraction(whole.tax * amount, whole.total)) for amount in amounts[:-1]]
    assert all(row.tax >= floor for row, floor in zip(rows, share, strict=False))
    assert all(row.tax - floor <= len(amounts) for row, floor in zip(rows, share, strict=False))


@settings(max_examples=EXAMPLES, deadline=None)
@given(invoices(), st.lists(SHARES, max_size=30), st.randoms(use_true_random=False))
def test_the_parts_of_all_steps_are_the_whole_in_whatever_steps(
    asked: Asked, cuts: list[Fraction], random: Any
) -> None:
    whole = asked.parts()
    assume(whole.total > 0)
    steps = list(pairwise(sorted({0, whole.total, *(math.floor(c * whole.total) for c in cuts)})))
    random.shuffle(steps)

    rows = [part_of(whole, before, after) for before, after in steps]

    assert [row.total for row in rows] == [after - before for before, after in steps]
    assert total_of(rows) == whole
    assert all(is_whole(row) for row in rows)


@pytest.mark.parametrize(
    ("whole", "count", "last"),
    [
        # Rounded to the nearest, the last would have less than nothing.
        (Parts(100, 0, 0), 36, Parts(30, 0, 0)),
        (Parts(1_000_000, 100_000, 30_000), 2, Parts(500_000, 50_000, 15_000)),
        (Parts(1_000_000, 100_000, 30_000), 3, Parts(333_334, 33_334, 10_000)),
        (Parts(7, 0, 0), 7, Parts(1, 0, 0)),
    ],
)
def test_splits_that_were_worked_out_by_hand(whole: Parts, count: int, last: Parts) -> None:
    rows = split_evenly(whole, count)

    assert rows[-1] == last
    assert total_of(rows) == whole


def test_a_last_installment_too_small_for_its_tax_leaves_it_to_those_before() -> None:
    # 99 % tax and fee, and one unit for the last.
    rows = split_by_amounts(Parts(1, 50, 49), [33, 33, 33, 1])

    assert [row.total for row in rows] == [33, 33, 33, 1]
    assert total_of(rows) == Parts(1, 50, 49)
    assert all(is_whole(row) for row in rows)


def test_a_grossed_up_fee_leaves_the_subtotal() -> None:
    fee = service_fee(subtotal=1_000_000, percent=Decimal("2.9"), fixed=2_000, is_gross_up=True)

    kept = Fraction(29, 1000) * (1_000_000 + fee) + 2_000
    assert fee == 31_926
    assert 1_000_000 + fee - half_up(kept) == 1_000_000


@pytest.mark.parametrize(
    ("first", "interval", "days"),
    [
        ("2027-01-31", Interval.MONTHLY, ["2027-02-28", "2027-03-31", "2027-04-30"]),
        ("2028-01-30", Interval.MONTHLY, ["2028-02-29", "2028-03-30", "2028-04-30"]),
        ("2026-11-30", Interval.QUARTERLY, ["2027-02-28", "2027-05-30", "2027-08-30"]),
        ("2026-12-28", Interval.WEEKLY, ["2027-01-04", "2027-01-11", "2027-01-18"]),
        ("2026-12-28", Interval.BIWEEKLY, ["2027-01-11", "2027-01-25", "2027-02-08"]),
    ],
)
def test_due_dates_never_drift(first: str, interval: Interval, days: list[str]) -> None:
    dates = due_dates(first=dt.date.fromisoformat(first), count=4, interval=interval)

    assert [day.isoformat() for day in dates] == [first, *days]


# --- In the database ------------------------------------------------------------------------------


def made(tenant: Tenant, asked: Asked) -> Invoice:
    """Have the services make it, with a customer of its own."""
    whole = asked.parts()
    schedule: Any
    if asked.count is None:
        amounts = asked.amounts(whole.total)
        schedule = [NewInstallment(in_days(n), amount) for n, amount in enumerate(amounts)]
    else:
        schedule = EvenSchedule(asked.count, Interval.WEEKLY)
    return issued(
        tenant,
        currency=asked.currency,
        lines=[NewLine("x", quantity, unit, rate) for quantity, unit, rate in asked.lines],
        fee_percent=asked.fee_percent,
        fee_fixed=asked.fee_fixed,
        fee_mode="gross_up" if asked.is_gross_up else "additive",
        schedule=schedule,
        customer=Customer(name="Budi"),
    )


in_database = settings(
    max_examples=IN_THE_DATABASE,
    deadline=None,
    # The tenant is the same for all: invoices of before are in nobody's way.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@in_database
@given(asked=invoices(), data=st.data())
@pytest.mark.django_db
def test_an_invoice_is_what_was_asked_for_and_its_receipts_are_all_of_it(
    tenant: Tenant, asked: Asked, data: st.DataObject
) -> None:
    whole = asked.parts()
    assume(whole.total >= (asked.count or 1) and whole.total <= AMOUNT_MAX)

    invoice = made(tenant, asked)

    assert (
        Parts(invoice.subtotal_amount, invoice.total_tax_amount, invoice.total_service_fee_amount)
        == whole
    )
    rows = [
        Parts(each.net_amount, each.tax_amount, each.service_fee_amount)
        for each in invoice.installments.order_by("number")
    ]
    assert total_of(rows) == whole
    assert all(is_whole(row) for row in rows)
    each = whole.total // asked.count if asked.count else 0
    if asked.count and split_evenly(whole, asked.count)[0].total:
        assert rows == split_evenly(whole, asked.count)
    elif asked.count:
        assert [row.total for row in rows[:-1]] == [each] * (asked.count - 1)
    else:
        assert [row.total for row in rows] == asked.amounts(whole.total)

    cuts = data.draw(st.lists(SHARES, max_size=6))
    places = sorted({0, whole.total, *(math.floor(cut * whole.total) for cut in cuts)})
    for before, after in pairwise(places):
        pay_offline(invoice, after - before)

    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_due) == ("fully_paid", 0)
    assert sum_of_splits(invoice) == [whole.net, whole.tax, whole.fee]
    paid = dict.fromkeys(range(1, len(rows) + 1), 0)
    for receipt in Receipt.objects.filter(invoice=invoice):
        for number, *parts in receipt.split:
            assert min(parts) >= 0
            paid[number] += sum(parts)
    assert list(paid.values()) == [row.total for row in rows]


@pytest.mark.django_db(transaction=True)
def test_the_books_of_all_currencies_are_kept_apart(tenant: Tenant) -> None:
    for currency in CURRENCIES:
        invoice = issued(tenant, currency=currency, lines=[line(123_457, tax_rate="12.3456")])
        pay_offline(invoice, invoice.total_amount)

    for currency in CURRENCIES:
        # 123,457 and 12.3456 % and 3 % of it: 15,241.507… and 3,703.71.
        assert books(tenant, currency) == {
            "revenue": 123_457,
            "tax": 15_242,
            "fees": 3_704,
            "cash": -142_403,
        }
        assert sound(tenant, currency)


@pytest.mark.django_db
def test_a_unit_is_not_paid_in_seven_installments(tenant: Tenant) -> None:
    one = {"lines": [line(1, tax_rate="0")], "fee_percent": Decimal(0)}

    with pytest.raises(InvalidRequest):
        draft(tenant, schedule=EvenSchedule(7, Interval.MONTHLY), **one)
    assert draft(tenant, schedule=EvenSchedule(1, Interval.MONTHLY), **one).total_amount == 1


@pytest.mark.django_db
def test_so_small_components_that_all_of_each_is_in_one_are_split_by_amount(tenant: Tenant) -> None:
    small = {"lines": [line(5, tax_rate="100")], "fee_percent": Decimal(0), "fee_fixed": 5}

    invoice = draft(tenant, schedule=EvenSchedule(7, Interval.MONTHLY), **small)

    amounts = list(invoice.installments.order_by("number").values_list("amount", flat=True))
    assert amounts == [2, 2, 2, 2, 2, 2, 3]


@pytest.mark.django_db
@pytest.mark.parametrize(("last", "words"), [(699_999, "1 less"), (700_001, "1 more")])
def test_a_schedule_that_does_not_add_up_says_by_how_much(
    tenant: Tenant, last: int, words: str
) -> None:
    schedule = [NewInstallment(in_days(1), 430_000), NewInstallment(in_days(2), last)]

    with pytest.raises(ScheduleMismatch, match=words):
        draft(tenant, schedule=schedule)
