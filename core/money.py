"""Money as the system stores it: whole minor units and a currency. No floats, no bare ints."""

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from babel import Locale
from babel.numbers import format_currency, format_decimal

# Largest amount of one entry, in minor units; below 2**53, so that JavaScript clients survive.
AMOUNT_MAX: Final = 9_000_000_000_000_000
# Largest balance, either way. The rest up to 2**63 is room to add before the check.
BALANCE_MAX: Final = 9_000_000_000_000_000_000

_DECIMALS: Final = re.compile(r"\.0+")
# "Rp1": a letter beside a figure.
_SYMBOL_AND_FIGURES: Final = re.compile(r"(?<=[A-Za-z])(?=\d)")
# What Decimal keeps exactly, by default.
DIGITS_MAX: Final = 28

# ISO 4217, active codes, by digits after the decimal point. IDR is 0 here and 2 in ISO: Xendit and
# Midtrans take whole rupiah, and no coin below one rupiah exists (docs/decisions/0004).
_CODES_BY_EXPONENT: Final = {
    0: "BIF CLP DJF GNF IDR ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN"
        " BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP"
        " GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK"
        " LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO"
        " NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS"
        " SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST"
        " XCD XCG YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
EXPONENTS: Final[dict[str, int]] = {
    code: exponent for exponent, codes in _CODES_BY_EXPONENT.items() for code in codes.split()
}


class UnknownCurrency(ValueError):
    """The code is not an active ISO 4217 code."""


def exponent(currency: str) -> int:
    """
    Return how many digits the currency has after the decimal point.

    :raises UnknownCurrency: no active ISO 4217 code
    """
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise UnknownCurrency(f"{currency!r} is not an ISO 4217 currency code.") from None


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in whole minor units of one currency; may be negative."""

    minor_units: int
    currency: str

    def __post_init__(self) -> None:
        exponent(self.currency)
        if type(self.minor_units) is not int:
            raise TypeError("minor_units is an int, never a float or a Decimal")

    @classmethod
    def from_decimal(cls, amount: Decimal, currency: str) -> "Money":
        """
        Return the money that the decimal states exactly.

        :raises ValueError: the amount has more digits than the currency
        """
        places = exponent(currency)
        # Beyond these Decimal's arithmetic would round without a word, or take minutes.
        if len(amount.as_tuple().digits) > DIGITS_MAX or abs(amount.adjusted()) > DIGITS_MAX:
            raise ValueError(f"The amount has more digits than any in {currency}.")
        scaled = amount.scaleb(places)
        whole = scaled.to_integral_value(rounding=ROUND_HALF_EVEN)
        if whole != scaled:
            raise ValueError(f"{amount} has more decimal places than {currency}.")
        return cls(int(whole), currency)

    @property
    def decimal(self) -> Decimal:
        """The amount in major units, exact."""
        return Decimal(self.minor_units).scaleb(-exponent(self.currency))

    def __add__(self, other: "Money") -> "Money":
        self._refuse_other_currency(other)
        return Money(self.minor_units + other.minor_units, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        self._refuse_other_currency(other)
        return Money(self.minor_units - other.minor_units, self.currency)

    def __neg__(self) -> "Money":
        return Money(-self.minor_units, self.currency)

    def allocate(self, weights: list[int]) -> list["Money"]:
        """
        Divide by integer weights; the parts sum to the whole exactly.

        Largest remainder first; of equal remainders the later part absorbs.

        :raises ValueError: no weight, a negative one, or all zero
        """
        total = sum(weights)
        if not weights or total <= 0 or min(weights) < 0:
            raise ValueError("weights must be whole, not negative, and not all zero")
        # divmod floors, so the shortfall is never negative, also for negative money.
        shares = [divmod(self.minor_units * weight, total) for weight in weights]
        parts = [share for share, _ in shares]
        shortfall = self.minor_units - sum(parts)
        by_remainder = sorted(range(len(parts)), key=lambda i: (shares[i][1], i), reverse=True)
        for index in by_remainder[:shortfall]:
            parts[index] += 1
        return [Money(part, self.currency) for part in parts]

    def _refuse_other_currency(self, other: "Money") -> None:
        if self.currency != other.currency:
            raise ValueError(f"cannot mix {self.currency} and {other.currency}")


def format_amount(minor_units: int, currency: str, locale: str) -> str:
    """
    Return the amount as people of the locale write it: RM 1,234.50 in Malay, Rp 1.130.000 in
    Indonesian, $1,234.50 in English. For payers; staff read format_money.
    """
    places = exponent(currency)
    own = Locale.parse(locale).currency_formats["standard"].pattern
    pattern = _DECIMALS.sub("." + "0" * places if places else "", own)
    amount = Decimal(minor_units).scaleb(-places)
    shown = format_currency(amount, currency, format=pattern, locale=locale, currency_digits=False)
    return _SYMBOL_AND_FIGURES.sub("\u00a0", shown)


def format_basis_points(basis_points: int, locale: str = "en") -> str:
    """Return hundredths of a percent in percent, such as 4.25 %."""
    percent = format_decimal(Decimal(basis_points) / 100, format="#,##0.##", locale=locale)
    return f"{percent} %"


def format_money(minor_units: int, currency: str, locale: str = "en") -> str:
    """
    Return the amount for a table on a screen: ISO code, no-break space, grouped figures.

    Never compact: "Rp83 M" is billions in Indonesian and millions in English.
    """
    places = exponent(currency)
    pattern = "#,##0" + ("." + "0" * places if places else "")
    amount = Decimal(minor_units).scaleb(-places)
    return f"{currency}\u00a0{format_decimal(amount, format=pattern, locale=locale)}"
