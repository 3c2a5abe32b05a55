"""The forms that make invoices: new ones, drafts written anew, supplements."""

import csv
import dataclasses
import io
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from core.admin import OfTenantForm
from core.forms import EMAIL_LENGTH_MAX, CardFreeField, DayField, Keyed, minor_units
from core.money import EXPONENTS, Money
from core.versions import version_of
from invoices.admin.rows import Column, RowsField, cleaned_rows
from invoices.models import Invoice, LineItem
from invoices.queries import installments_of, lines_of
from invoices.services import (
    Customer,
    EvenSchedule,
    Interval,
    NewInstallment,
    NewInvoice,
    NewLine,
)

ROWS = 20
ROWS_SHOWN = 5
PASTED_LENGTH_MAX = 500_000
INSTALLMENTS_MAX = 60
LOCALES = (("en", "English"), ("id", "Indonesian"), ("ms", "Malay"))
# Of payments, without those that take no money from payers.
GATEWAYS = ("xendit", "midtrans", "sandbox")
_ALL_AT_ONCE, _EVENLY, _AS_IT_IS = "none", "even", "as_it_is"
_DRAFT, _FINAL = "draft", "final"
_DIGITS = {"inputmode": "decimal"}


def _number(**limits: Any) -> forms.DecimalField:
    # A text: browsers throw away what they think is no number, and say nothing.
    return forms.DecimalField(widget=forms.TextInput(attrs=_DIGITS), **limits)


LINE_COLUMNS = (
    Column("description", "Description", CardFreeField(max_length=500)),
    Column(
        "quantity",
        "Quantity",
        _number(max_digits=18, decimal_places=6, min_value=Decimal("0.000001")),
    ),
    Column("unit_price", "Unit price", _number(max_digits=20, decimal_places=4, min_value=0)),
    Column(
        "tax_rate",
        "Tax in %",
        _number(required=False, max_digits=7, decimal_places=4, min_value=0, max_value=100),
    ),
)


class InvoiceForm(Keyed):
    """What every invoice is made of; `currency` is given, or chosen in the form."""

    lines = RowsField(
        LINE_COLUMNS,
        [f"Line {number}" for number in range(1, ROWS + 1)],
        shown=ROWS_SHOWN,
        label="Line items",
        help_text=(
            "Prices in whole units of the currency, such as 12.50, before tax. Empty rows count for"
            " nothing."
        ),
    )
    pasted = forms.CharField(
        required=False,
        max_length=PASTED_LENGTH_MAX,
        strip=False,
        label="Or paste line items",
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=(
            "One a line, as CSV or copied from a spreadsheet: description, quantity, unit price,"
            " tax in %. Up to 1,000."
        ),
    )
    fee_percent = forms.DecimalField(
        required=False,
        max_digits=7,
        decimal_places=4,
        min_value=0,
        max_value=100,
        label="Service fee in % of the subtotal",
    )
    fee_fixed = forms.DecimalField(
        required=False, max_digits=20, decimal_places=4, min_value=0, label="Service fee, fixed"
    )
    due_date = DayField(
        required=False,
        label="Due date",
        help_text=(
            "Of the first installment, where there are several. Empty: by the invoice settings."
        ),
    )
    schedule = forms.ChoiceField(
        choices=[(_ALL_AT_ONCE, "Paid at once"), (_EVENLY, "Paid in equal installments")],
        initial=_ALL_AT_ONCE,
        widget=forms.RadioSelect,
        label="Paid",
    )
    count = forms.IntegerField(
        required=False, min_value=2, max_value=INSTALLMENTS_MAX, label="Number of installments"
    )
    interval = forms.ChoiceField(
        required=False,
        choices=[(each.value, each.value.capitalize()) for each in Interval],
        initial=Interval.MONTHLY.value,
        label="Installments fall due",
    )
    description = CardFreeField(required=False, max_length=500)
    external_id = CardFreeField(
        required=False,
        max_length=200,
        label="External id",
        help_text="Yours; no two have the same.",
    )

    fixed_currency = ""

    def currency(self, cleaned: dict[str, Any]) -> str:
        return self.fixed_currency

    def base(self, cleaned: dict[str, Any]) -> NewInvoice:
        """Return what is asked for beside what every form has."""
        return NewInvoice(currency=self.currency(cleaned), lines=[])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            cleaned["new"] = self._new(cleaned)
        return cleaned

    def _new(self, cleaned: dict[str, Any]) -> NewInvoice | None:
        currency = self.currency(cleaned)
        lines = self._lines(cleaned, currency)
        fixed = self._checked("fee_fixed", cleaned["fee_fixed"], currency)
        schedule = self._schedule(cleaned)
        if self.errors:
            return None
        return dataclasses.replace(
            self.base(cleaned),
            lines=lines,
            fee_percent=cleaned["fee_percent"] or Decimal(0),
            fee_fixed=fixed,
            due_date=cleaned["due_date"],
            schedule=schedule,
            description=cleaned["description"],
            external_id=cleaned["external_id"] or None,
        )

    def _lines(self, cleaned: dict[str, Any], currency: str) -> list[NewLine]:
        typed, pasted = cleaned["lines"], cleaned["pasted"]
        field = "pasted" if pasted.strip() else "lines"
        if typed and field == "pasted":
            self.add_error("pasted", "Type the line items or paste them, not both.")
            return []
        try:
            rows = _pasted_rows(pasted) if field == "pasted" else typed
        except ValidationError as fault:
            self.add_error("pasted", fault)
            return []
        if not rows:
            self.add_error("lines", "An invoice has at least one line item.")
        lines = []
        for number, row in rows:
            try:
                price = minor_units(row["unit_price"], currency)
            except ValidationError as fault:
                self.add_error(field, f"Line {number + 1}, unit price: {fault.messages[0]}")
                break
            tax_rate = row["tax_rate"] or Decimal(0)
            lines.append(NewLine(row["description"], row["quantity"], price, tax_rate))
        return lines

    def _checked(self, field: str, amount: Decimal | None, currency: str) -> int:
        try:
            return minor_units(amount or Decimal(0), currency)
        except ValidationError as fault:
            self.add_error(field, fault)
            return 0

    def _schedule(self, cleaned: dict[str, Any]) -> Any:
        if cleaned["schedule"] != _EVENLY:
            return None
        if cleaned["count"] is None:
            self.add_error("count", "Say how many installments.")
            return None
        return EvenSchedule(cleaned["count"], Interval(cleaned["interval"] or Interval.MONTHLY))


class WithCustomer(forms.Form):
    customer_name = CardFreeField(required=False, max_length=140, label="Customer's name")
    customer_email = forms.EmailField(
        required=False, max_length=EMAIL_LENGTH_MAX, label="Customer's e-mail"
    )
    customer_reference = CardFreeField(
        required=False,
        max_length=200,
        label="Your reference of the customer",
        help_text=(
            "The same reference, or else the same e-mail, is the same customer: what they overpaid"
            " pays their next invoice."
        ),
    )
    customer_address = CardFreeField(
        required=False,
        max_length=500,
        label="Customer's address",
        widget=forms.Textarea(attrs={"rows": 3}),
    )
    gateway = forms.ChoiceField(
        required=False,
        choices=[("", "Any that takes the currency"), *((name, name) for name in GATEWAYS)],
        label="Paid through",
    )
    settlement_account_id = forms.UUIDField(
        required=False,
        label="Settlement account's id",
        help_text="Has what is paid. Empty: your own books alone.",
    )
    locale = forms.ChoiceField(
        required=False, choices=[("", "By the invoice settings"), *LOCALES], label="Language"
    )


def _customer(cleaned: dict[str, Any], known: Customer | None = None) -> Customer:
    return dataclasses.replace(
        known or Customer(),
        name=cleaned["customer_name"],
        email=cleaned["customer_email"],
        reference=cleaned["customer_reference"],
        address=cleaned["customer_address"],
    )


_ORDER = [
    "customer_name",
    "customer_email",
    "customer_reference",
    "customer_address",
    "lines",
    "pasted",
    "fee_percent",
    "fee_fixed",
    "schedule",
    "due_date",
    "count",
    "interval",
    "description",
    "external_id",
    "gateway",
    "settlement_account_id",
    "locale",
    "finish",
]
_FINISH = [
    (_DRAFT, "Keep it as a draft"),
    (_FINAL, "Finalise it: it gets its number, and is owed"),
]


class Finishing(forms.Form):
    finish = forms.ChoiceField(
        choices=_FINISH, initial=_DRAFT, widget=forms.RadioSelect, label="Then"
    )

    @property
    def is_final(self) -> bool:
        return bool(self.cleaned_data["finish"] == _FINAL)


class NewInvoiceForm(Finishing, WithCustomer, InvoiceForm, OfTenantForm):
    currency_code = forms.ChoiceField(
        choices=[("", "Choose one"), *((code, code) for code in sorted(EXPONENTS))],
        label="Currency",
    )
    field_order = ["tenant", "currency_code", *_ORDER]

    def __init__(self, data: Any, *, request: HttpRequest) -> None:
        super().__init__(data, request=request)
        self.order_fields(self.field_order)

    def currency(self, cleaned: dict[str, Any]) -> str:
        return str(cleaned["currency_code"])

    def base(self, cleaned: dict[str, Any]) -> NewInvoice:
        return NewInvoice(
            currency=self.currency(cleaned),
            lines=[],
            customer=_customer(cleaned),
            gateway=cleaned["gateway"],
            settlement_account_id=cleaned["settlement_account_id"],
            locale=cleaned["locale"] or None,
        )


class ChangeDraftForm(WithCustomer, InvoiceForm):
    """A draft as it stands; what the form does not show stays as it is."""

    # What one has seen, so that nobody writes over what another has just changed.
    seen = forms.CharField(widget=forms.HiddenInput)
    field_order = _ORDER

    def __init__(self, data: Any, *, draft: Invoice) -> None:
        self.fixed_currency = draft.currency
        self.known = new_of(draft)
        super().__init__(data, initial=self._initial(draft))
        if draft.has_schedule:
            schedule: Any = self.fields["schedule"]
            schedule.choices = [(_AS_IT_IS, "As it is now"), *schedule.choices]

    def _initial(self, draft: Invoice) -> dict[str, Any]:
        lines = lines_of(draft)
        is_long = len(lines) > ROWS
        return {
            "customer_name": draft.customer_name,
            "customer_email": draft.customer_email,
            "customer_reference": draft.customer_reference,
            "customer_address": draft.customer_address,
            "lines": [] if is_long else [_line_typed(line, draft.currency) for line in lines],
            "pasted": _lines_pasted(lines, draft.currency) if is_long else "",
            "fee_percent": _plain(draft.fee_percent) if draft.fee_percent else None,
            "fee_fixed": Money(draft.fee_fixed, draft.currency).decimal
            if draft.fee_fixed
            else None,
            "due_date": None if draft.has_schedule else draft.due_date,
            "schedule": _AS_IT_IS if draft.has_schedule else _ALL_AT_ONCE,
            "description": draft.description,
            "external_id": draft.external_id,
            "gateway": draft.gateway,
            "settlement_account_id": draft.settlement_account_id,
            "locale": draft.locale,
            "seen": draft_version(draft),
        }

    def base(self, cleaned: dict[str, Any]) -> NewInvoice:
        return dataclasses.replace(
            self.known,
            customer=_customer(cleaned, self.known.customer),
            gateway=cleaned["gateway"],
            settlement_account_id=cleaned["settlement_account_id"],
            locale=cleaned["locale"] or None,
        )

    def _schedule(self, cleaned: dict[str, Any]) -> Any:
        if cleaned["schedule"] == _AS_IT_IS:
            return self.known.schedule
        return super()._schedule(cleaned)


class SupplementForm(Finishing, InvoiceForm):
    field_order = _ORDER

    def __init__(self, data: Any, *, parent: Invoice) -> None:
        self.fixed_currency = parent.currency
        super().__init__(data, initial={"finish": _FINAL})


def draft_version(draft: Invoice) -> str:
    """Return what an editor has seen; see core.versions. Every change moves `updated_at`."""
    return version_of({"updated_at": draft.updated_at})


def new_of(draft: Invoice) -> NewInvoice:
    """Return what would make the draft as it stands, its lines left out."""
    installments = installments_of(draft) if draft.has_schedule else []
    return NewInvoice(
        currency=draft.currency,
        lines=[],
        fee_percent=draft.fee_percent,
        fee_fixed=draft.fee_fixed,
        fee_mode=draft.fee_mode,
        schedule=[NewInstallment(each.due_date, each.amount) for each in installments] or None,
        due_date=draft.due_date,
        expires_at=draft.expires_at,
        customer=Customer(
            name=draft.customer_name,
            email=draft.customer_email,
            reference=draft.customer_reference,
            address=draft.customer_address,
            iban=draft.customer_iban,
            account_number=draft.customer_account_number,
            bic=draft.customer_bic,
            country=draft.customer_country,
        ),
        gateway=draft.gateway,
        settlement_account_id=draft.settlement_account_id,
        external_id=draft.external_id,
        description=draft.description,
        locale=draft.locale,
        metadata=draft.metadata,
    )


def _pasted_rows(text: str) -> list[tuple[int, dict[str, Any]]]:
    """
    Return the line items of a pasted table.

    :raises ValidationError: rows that are none
    """
    names = [column.name for column in LINE_COLUMNS]
    rows: list[tuple[str, int, dict[str, Any]]] = []
    try:
        for cells in _reader(text, _delimiter_of(text)):
            if not any(cell.strip() for cell in cells):
                continue
            label = f"Line {len(rows) + 1:,}"
            if not len(names) - 1 <= len(cells) <= len(names):
                raise ValidationError(
                    f"{label} has {len(cells)} columns: description, quantity, unit price, tax in"
                    " %. A description with a comma stands in quotation marks."
                )
            rows.append((label, len(rows), dict(zip(names, cells, strict=False))))
    except csv.Error as fault:
        raise ValidationError(f"Line {len(rows) + 1} cannot be read: {fault}.") from fault
    return cleaned_rows(LINE_COLUMNS, rows)


def _delimiter_of(text: str) -> str:
    """Return what stands between the cells: that by which the first row has as many as it must."""
    first = text.lstrip().split("\n", 1)[0]
    for delimiter in "\t,;":
        if len(LINE_COLUMNS) - 1 <= len(next(_reader(first, delimiter), [])) <= len(LINE_COLUMNS):
            return delimiter
    return ","


def _reader(text: str, delimiter: str) -> Any:
    return csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)


def _line_typed(line: LineItem, currency: str) -> dict[str, Any]:
    return {
        "description": line.description,
        "quantity": _plain(line.quantity),
        "unit_price": Money(line.unit_amount, currency).decimal,
        "tax_rate": _plain(line.tax_rate) if line.tax_rate else "",
    }


def _lines_pasted(lines: list[LineItem], currency: str) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerows(_line_typed(line, currency).values() for line in lines)
    return written.getvalue()


def _plain(number: Decimal) -> str:
    """Return a number without zeros at its end, and never as 1E+2."""
    return f"{number.normalize():f}"
