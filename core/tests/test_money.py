"""Money: whole minor units, nothing lost, nothing made."""

from decimal import Decimal

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from core.ids import least_id, new_id
from core.money import (
    EXPONENTS,
    Money,
    UnknownCurrency,
    exponent,
    format_money,
)

currencies = st.sampled_from(sorted(EXPONENTS))
amounts = st.integers(-(10**18), 10**18)


@given(amount=amounts, currency=currencies)
def test_decimal_and_back_is_the_same(amount: int, currency: str) -> None:
    money = Money(amount, currency)

    assert Money.from_decimal(money.decimal, currency) == money


@given(
    amount=amounts,
    currency=currencies,
    weights=st.lists(st.integers(0, 1000), min_size=1, max_size=20).filter(any),
)
def test_parts_sum_to_the_whole(amount: int, currency: str, weights: list[int]) -> None:
    parts = Money(amount, currency).allocate(weights)

    assert sum(part.minor_units for part in parts) == amount
    assert len(parts) == len(weights)


def test_a_float_is_no_amount() -> None:
    for wrong in (1.0, Decimal(1), True, "1"):
        with pytest.raises(TypeError):
            Money(wrong, "USD")  # type: ignore[arg-type]


def test_digits_that_the_currency_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="decimal places"):
        Money.from_decimal(Decimal("1.005"), "USD")
    with pytest.raises(ValueError, match="decimal places"):
        Money.from_decimal(Decimal("0.5"), "IDR")


@pytest.mark.parametrize(
    ("code", "digits"), [("USD", 2), ("IDR", 0), ("JPY", 0), ("BHD", 3), ("CLF", 4)]
)
def test_exponents(code: str, digits: int) -> None:
    assert exponent(code) == digits


def test_an_unknown_currency_is_refused() -> None:
    for code in ("XXX", "usd", ""):
        with pytest.raises(UnknownCurrency):
            exponent(code)


@pytest.mark.parametrize(
    ("minor_units", "currency", "shown"),
    [
        (-123456, "USD", "USD\u00a0-1,234.56"),
        (10**15, "IDR", "IDR\u00a01,000,000,000,000,000"),
        (5, "BHD", "BHD\u00a00.005"),
    ],
)
def test_amounts_are_shown_in_full(minor_units: int, currency: str, shown: str) -> None:
    assert format_money(minor_units, currency) == shown


def test_ids_are_in_order_of_time() -> None:
    before = least_id(timezone.now())
    ids = [new_id() for _ in range(1000)]

    assert ids == sorted(ids)
    assert before < ids[0]
    assert {each.version for each in ids} == {7}
