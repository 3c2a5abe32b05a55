"""
The PKDD'99 Berka data set: a Czech bank's accounts, transactions and orders, anonymised.

Reads the files, says what each row is in our terms, and compares the ledger with the files
afterwards. docs/import-pkdd99.md tells what was decided and why.
"""

import csv
import datetime as dt
import re
import sys
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from accounts.services import NewAccount
from core.idempotency import fingerprint
from core.money import AMOUNT_MAX

CURRENCY = "CZK"
# The bank let accounts go below zero (to -5,343.70 in 1993) and states no limit: neither do we
# refuse what has happened. Minor units: a million crowns.
OVERDRAFT_LIMIT = 100_000_000
# What distinguishes kinds of rows; also the keys of a transaction's metadata.
KIND_KEYS = ("type", "operation", "k_symbol")

_ACCOUNT_COLUMNS = ["account_id", "district_id", "frequency", "date"]
_ROW_COLUMNS = [
    "trans_id",
    "account_id",
    "date",
    "type",
    "operation",
    "amount",
    "balance",
    "k_symbol",
    "bank",
    "account",
]
_ORDER_COLUMNS = ["order_id", "account_id", "bank_to", "account_to", "amount", "k_symbol"]
_SIGNS = {"PRIJEM": 1, "VYDAJ": -1, "VYBER": -1}
_AMOUNT = re.compile(r"(-?)(\d{1,15})(?:\.(\d{1,2}))?")
_NUMBER = re.compile(r"\d{1,18}")
_TEXT_LENGTH_MAX = 100
# The files round balances to ten haléř: within a day a chain of them holds to half a crown.
_ROUNDING = 50
# Of the k_symbol, where it says more than the operation does: transaction type and counter account.
_BY_SYMBOL = {
    "UROK": ("interest", "interest_expense"),
    "SANKC. UROK": ("fee", "fees"),
    "SLUZBY": ("fee", "fees"),
}
_CASH_OPERATIONS = {"VKLAD", "VYBER", "VYBER KARTOU"}
_BANK_OPERATIONS = {"PREVOD Z UCTU", "PREVOD NA UCET"}
_DESCRIPTIONS = {
    "UROK": "Interest credited",
    "SANKC. UROK": "Penalty interest",
    "SLUZBY": "Statement fee",
    "SIPO": "Household payment",
    "POJISTNE": "Insurance payment",
    "DUCHOD": "Old-age pension",
    "UVER": "Loan payment",
    "LEASING": "Lease payment",
    "VKLAD": "Cash deposit",
    "VYBER": "Cash withdrawal",
    "VYBER KARTOU": "Card withdrawal",
    "PREVOD Z UCTU": "Transfer from another bank",
    "PREVOD NA UCET": "Transfer to another bank",
}

Kind = tuple[str, ...]


class Unreadable(Exception):
    """The directory or a file is not the data set."""


@dataclass(frozen=True, slots=True)
class BadRow:
    file: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """A transaction of the files. Amounts are haléř; `amount` is positive."""

    file: str
    line: int
    trans_id: int
    account_id: str
    date: dt.date
    type: str
    operation: str
    amount: int
    balance: int
    k_symbol: str
    bank: str
    account: str

    @property
    def signed(self) -> int:
        return _SIGNS[self.type] * self.amount

    @property
    def kind(self) -> Kind:
        return (self.type, self.operation, self.k_symbol)

    @property
    def transaction_type(self) -> str:
        """Our type of transaction."""
        if self.k_symbol in _BY_SYMBOL:
            return _BY_SYMBOL[self.k_symbol][0]
        return "deposit" if self.signed > 0 else "withdrawal"

    @property
    def role(self) -> str:
        """Which of the bank's own accounts stands against it."""
        if self.k_symbol in _BY_SYMBOL:
            return _BY_SYMBOL[self.k_symbol][1]
        if self.operation in _BANK_OPERATIONS:
            return "settlement"
        return "cash" if self.operation in _CASH_OPERATIONS else "suspense"

    @property
    def description(self) -> str:
        return _DESCRIPTIONS.get(self.k_symbol) or _DESCRIPTIONS.get(self.operation, "")

    @property
    def metadata(self) -> dict[str, str]:
        partner = {"bank": self.bank, "account": self.account}
        named = dict(zip(KIND_KEYS, self.kind, strict=True))
        return named | {name: value for name, value in partner.items() if value}

    @property
    def idempotency_key(self) -> str:
        return f"pkdd99-{self.trans_id}"

    @property
    def request_fingerprint(self) -> bytes:
        return fingerprint(
            "pkdd99", self.account_id, self.date, self.signed, self.kind, self.bank, self.account
        )


@dataclass(frozen=True, slots=True)
class Order:
    """A permanent order of the files: `amount` haléř each month to an account elsewhere."""

    file: str
    line: int
    order_id: int
    account_id: str
    bank: str
    account: str
    amount: int
    k_symbol: str

    @property
    def external_id(self) -> str:
        return f"pkdd99-order-{self.order_id}"

    @property
    def day_of_month(self) -> int:
        """The files name no day: all thirty-one get their share."""
        return self.order_id % 31 + 1

    @property
    def description(self) -> str:
        return _DESCRIPTIONS.get(self.k_symbol, "Permanent order")

    @property
    def metadata(self) -> dict[str, str]:
        named = {"bank": self.bank, "account": self.account, "k_symbol": self.k_symbol}
        return {name: value for name, value in named.items() if value}


@dataclass(slots=True)
class DataSet:
    accounts: dict[str, NewAccount] = field(default_factory=dict)
    # In order of date; within a day as the files have them.
    rows: list[Row] = field(default_factory=list)
    # Rows of each file, bad ones included.
    rows_by_file: Counter[str] = field(default_factory=Counter)
    orders: list[Order] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def external_id(account_id: str) -> str:
    return f"pkdd99-{account_id}"


def read(directory: Path) -> DataSet:
    """
    Read account.csv and every trans*.csv; what cannot be read is among `bad`, the rest goes on.

    :raises Unreadable: no such directory or files, or a file with other columns
    """
    files = sorted(directory.glob("trans*.csv"))
    if not files:
        raise Unreadable(f"There is no trans*.csv in {directory}.")
    found = DataSet()
    for line, record in _records(directory / "account.csv", _ACCOUNT_COLUMNS, found):
        try:
            _take_account(record, found)
        except ValueError as error:
            found.bad.append(BadRow("account.csv", line, str(error)))
    seen: dict[int, Row] = {}
    for file in files:
        found.rows_by_file[file.name] = 0
        for line, record in _records(file, _ROW_COLUMNS, found):
            try:
                row = _row(file.name, line, record)
                if row.account_id not in found.accounts:
                    raise ValueError(f"account {row.account_id} is not in account.csv")
                first = seen.setdefault(row.trans_id, row)
                if first is not row:
                    raise ValueError(
                        f"trans_id {row.trans_id} is also in {first.file}:{first.line}"
                    )
            except ValueError as error:
                found.bad.append(BadRow(file.name, line, str(error)))
            else:
                found.rows.append(row)
    found.rows.sort(key=lambda row: row.date)
    return found


def read_orders(directory: Path, found: DataSet) -> None:
    """
    Read order.csv into what was found before; what cannot be read is among `bad`.

    :raises Unreadable: no such file, or one with other columns
    """
    seen: dict[int, Order] = {}
    for line, record in _records(directory / "order.csv", _ORDER_COLUMNS, found):
        try:
            order = _order("order.csv", line, record)
            if order.account_id not in found.accounts:
                raise ValueError(f"account {order.account_id} is not in account.csv")
            first = seen.setdefault(order.order_id, order)
            if first is not order:
                raise ValueError(f"order_id {order.order_id} is also in order.csv:{first.line}")
        except ValueError as error:
            found.bad.append(BadRow("order.csv", line, str(error)))
        else:
            found.orders.append(order)


def totals_by_kind(rows: Iterable[Row]) -> dict[Kind, tuple[int, int]]:
    """Return how many rows of each kind there are, and the sum of their amounts."""
    totals: dict[Kind, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        totals[row.kind][0] += 1
        totals[row.kind][1] += row.amount
    return {kind: (count, amount) for kind, (count, amount) in totals.items()}


def last_balances(rows: Iterable[Row]) -> dict[str, int]:
    """
    Return each account's last `balance`, in haléř.

    Within a day the files are not in order of booking. The last row of a day is the one whose
    balance no other row of that day starts from; where that is no single row, the last in the file.
    """
    last_days: dict[str, list[Row]] = {}
    for row in rows:
        day = last_days.setdefault(row.account_id, [])
        if day and day[0].date < row.date:
            day.clear()
        day.append(row)
    return {account_id: _last_of_day(day).balance for account_id, day in last_days.items()}


def last_balances_in_file(rows: Iterable[Row]) -> dict[str, int]:
    """Return the `balance` of each account's last row as the files have them."""
    return {row.account_id: row.balance for row in rows}


def _last_of_day(day: list[Row]) -> Row:
    starts = sorted(row.balance - row.signed for row in day)

    def is_followed(row: Row) -> bool:
        lowest, highest = row.balance - _ROUNDING, row.balance + _ROUNDING
        near = bisect_right(starts, highest) - bisect_left(starts, lowest)
        # A row of a few haléř starts where it ends, and does not follow itself.
        return near > (lowest <= row.balance - row.signed <= highest)

    ends = [row for row in day if not is_followed(row)]
    return ends[0] if len(ends) == 1 else day[-1]


def _records(
    path: Path, columns: list[str], found: DataSet
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and fields of each row that is one."""
    if not path.is_file():
        raise Unreadable(f"There is no {path.name} in {path.parent}.")
    # Bytes that are not UTF-8 become half characters, which _text then refuses in their own row.
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        if file.readline().replace('"', "").strip().split(";") != columns:
            raise Unreadable(f"{path.name} has not the columns {', '.join(columns)}.")
        for number, line in enumerate(file, start=2):
            if not line.strip():
                continue  # An empty line, such as the last.
            found.rows_by_file[path.name] += 1
            try:
                fields = _fields(line)
                if len(fields) != len(columns):
                    raise ValueError(f"has {len(fields)} fields, not {len(columns)}")
            except ValueError as error:
                found.bad.append(BadRow(path.name, number, str(error)))
                continue
            yield number, dict(zip(columns, fields, strict=True))


def _fields(line: str) -> list[str]:
    """
    Return the fields of one line.

    Read by itself: a quote that is not closed would take the good rows after it along.
    """
    try:
        return next(csv.reader([line.rstrip("\n")], delimiter=";", strict=True))
    except csv.Error as error:
        raise ValueError(f"is not CSV: {error}") from None


def _take_account(record: dict[str, str], found: DataSet) -> None:
    account_id = _number(record["account_id"], "account_id")
    if account_id in found.accounts:
        raise ValueError(f"account_id {account_id} appears twice")
    found.accounts[account_id] = NewAccount(
        type="checking",
        currency=CURRENCY,
        name=f"Account {account_id}",
        external_id=external_id(account_id),
        overdraft_limit=OVERDRAFT_LIMIT,
        metadata={
            "district": _number(record["district_id"], "district_id"),
            "frequency": _text(record["frequency"], "frequency"),
            "opened_on": _date(record["date"]).isoformat(),
        },
    )


def _row(file: str, line: int, record: dict[str, str]) -> Row:
    if record["type"] not in _SIGNS:
        raise ValueError(
            f"type {_text(record['type'], 'type')!r} is not one of {', '.join(_SIGNS)}"
        )
    return Row(
        file=file,
        line=line,
        trans_id=int(_number(record["trans_id"], "trans_id")),
        account_id=_number(record["account_id"], "account_id"),
        date=_date(record["date"]),
        type=sys.intern(record["type"]),
        operation=_text(record["operation"], "operation"),
        amount=_amount(record["amount"]),
        balance=_haler(record["balance"], "balance"),
        k_symbol=_text(record["k_symbol"], "k_symbol"),
        bank=_text(record["bank"], "bank"),
        account=_text(record["account"], "account"),
    )


def _order(file: str, line: int, record: dict[str, str]) -> Order:
    return Order(
        file=file,
        line=line,
        order_id=int(_number(record["order_id"], "order_id")),
        account_id=_number(record["account_id"], "account_id"),
        bank=_text(record["bank_to"], "bank_to"),
        account=_text(record["account_to"], "account_to"),
        amount=_amount(record["amount"]),
        k_symbol=_text(record["k_symbol"], "k_symbol"),
    )


def _amount(text: str) -> int:
    amount = _haler(text, "amount")
    if not 0 < amount <= AMOUNT_MAX:
        raise ValueError(f"amount {text} is not a positive amount")
    return amount


def _number(text: str, name: str) -> str:
    if not (text.isascii() and _NUMBER.fullmatch(text)):
        raise ValueError(f"{name} {_shown(text)} is not a number")
    return sys.intern(text)


def _haler(text: str, name: str) -> int:
    """Return crowns with up to two decimals as haléř, exactly."""
    match = _AMOUNT.fullmatch(text) if text.isascii() else None
    if match is None:
        raise ValueError(f"{name} {_shown(text)} is not an amount in crowns")
    sign, crowns, fraction = match.groups()
    haler = int(crowns) * 100 + int((fraction or "").ljust(2, "0"))
    return -haler if sign else haler


def _date(text: str) -> dt.date:
    """Return the date that yymmdd states; the data ends in 1998."""
    if not (text.isascii() and re.fullmatch(r"\d{6}", text)):
        raise ValueError(f"date {_shown(text)} is not yymmdd")
    try:
        return dt.date(1900 + int(text[:2]), int(text[2:4]), int(text[4:]))
    except ValueError:
        raise ValueError(f"date {_shown(text)} does not exist") from None


def _text(text: str, name: str) -> str:
    # Some k_symbols are one space.
    text = text.strip()
    if len(text) > _TEXT_LENGTH_MAX:
        raise ValueError(f"{name} has more than {_TEXT_LENGTH_MAX} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} is not UTF-8") from None
    if not text.isprintable():
        raise ValueError(f"{name} {_shown(text)} has control characters")
    # The same few texts a million times.
    return sys.intern(text)


def _shown(text: str) -> str:
    """Return the text safe for a terminal, and short."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")
