"""The arithmetic of interest: what a day earns, what is posted of it, what tax is withheld."""

import datetime as dt
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal

from savings.models import SavingsPlan

# The largest balances have more digits than Decimal keeps by default.
EXACT = Context(prec=60)
_WHOLE = Decimal(1)
_TWELVE = Decimal("1e-12")


def interest_of_day(balance: int, rate_bps: int, day_count: str, day: dt.date) -> Decimal:
    """
    Return what a balance earns on the day, in minor units to twelve decimals, half up: as the
    database's own savings_interest does.
    """
    if balance <= 0 or rate_bps == 0:
        return Decimal(0)
    days, basis = 1, 365
    if day_count == SavingsPlan.DayCount.THIRTY_360:
        days, basis = _days_360(day + dt.timedelta(days=1)) - _days_360(day), 360
    earned = EXACT.divide(Decimal(balance * rate_bps * days), Decimal(10_000 * basis))
    return earned.quantize(_TWELVE, ROUND_HALF_UP, EXACT)


def posted_of(waiting: Decimal) -> int:
    """Return what is posted of accrued interest: rounded half to even; what is too little waits."""
    return max(int(waiting.quantize(_WHOLE, ROUND_HALF_EVEN, EXACT)), 0)


def tax_of(amount: int, tax_bps: int) -> int:
    """Return the tax that is withheld of posted interest, rounded down."""
    return amount * tax_bps // 10_000


def _days_360(day: dt.date) -> int:
    return day.year * 360 + day.month * 30 + min(day.day, 30)
