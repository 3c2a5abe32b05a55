"""The forms that savings plans are made and changed with."""

from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from accounts.queries import account_of
from core.admin import OfTenantForm, may
from core.errors import NotFound
from core.forms import AmountField, CardFreeField, DayField, Keyed, WithReason, minor_units
from core.money import DIGITS_MAX, format_money
from core.permissions import Permission
from savings.admin import words
from savings.models import RATE_MAX_BPS, TAX_MAX_BPS, SavingsPlan
from savings.services import MONTHS_MAX, NewPlan

_K = SavingsPlan.Kind
_NAME_LENGTH_MAX = 100
# Which fields only one kind has.
_ASIDE = "For a plan that puts money aside."
_LOCKED = "For a plan that is locked."


class PercentField(forms.DecimalField):
    """A percentage, to two decimals; cleans to basis points."""

    def __init__(self, *, at_most_bps: int, **more: Any) -> None:
        if isinstance(more.get("initial"), int):
            more["initial"] = Decimal(more["initial"]) / 100
        super().__init__(
            min_value=Decimal(0), max_value=Decimal(at_most_bps) / 100, decimal_places=2, **more
        )

    def clean(self, value: Any) -> Any:
        percent: Decimal | None = super().clean(value)
        return None if percent is None else int(percent * 100)


def _rate_field(**more: Any) -> PercentField:
    return PercentField(label="Interest in % a year", at_most_bps=RATE_MAX_BPS, **more)


def _tax_field(**more: Any) -> PercentField:
    return PercentField(label="Tax withheld of interest, in %", at_most_bps=TAX_MAX_BPS, **more)


def _shortage_field(**more: Any) -> forms.ChoiceField:
    choices = list(words.SHORTAGES.items())
    return forms.ChoiceField(choices=choices, label="Not enough money", **more)


def _day_field(**more: Any) -> forms.IntegerField:
    return forms.IntegerField(label="Day of the month", min_value=1, max_value=31, **more)


def _name_field(**more: Any) -> CardFreeField:
    return CardFreeField(max_length=_NAME_LENGTH_MAX, **more)


def _end_field(**more: Any) -> forms.ChoiceField:
    choices = list(words.AT_THE_END.items())
    return forms.ChoiceField(choices=choices, label="At the end", **more)


class NewPlanForm(Keyed, OfTenantForm):
    kind = forms.ChoiceField(choices=list(words.KINDS.items()))
    name = _name_field(help_text="What it is for.")
    source_account_id = forms.UUIDField(
        label="Source account", help_text="The id of the account that the money comes from."
    )
    amount = forms.DecimalField(
        min_value=0,
        max_digits=DIGITS_MAX,
        help_text="What is put aside each month, or locked at once.",
    )
    day_of_month = _day_field(
        required=False, help_text=f"{_ASIDE} The month's last day where it has no such day."
    )
    target_amount = forms.DecimalField(
        required=False, min_value=0, max_digits=DIGITS_MAX, label="Until there is", help_text=_ASIDE
    )
    months = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MONTHS_MAX,
        label="For so many months",
        help_text=f"{_ASIDE} One of the two is needed; with both, the first that comes.",
    )
    start_date = DayField(required=False, label="First date", help_text=_ASIDE)
    on_insufficient_funds = _shortage_field(help_text=_ASIDE)
    unlock_date = DayField(
        required=False,
        label="Locked until",
        help_text=f"{_LOCKED} From this day on it may be had, and not before.",
    )
    at_the_end = _end_field()
    annual_rate_bps = _rate_field(required=False)
    day_count = forms.ChoiceField(choices=list(words.DAY_COUNTS.items()), label="Days are counted")
    withholding_tax_bps = _tax_field(required=False)

    def __init__(self, data: Any, *, request: HttpRequest) -> None:
        super().__init__(data, request=request)
        if not may(request, Permission.SET_SAVINGS_RATES):
            for name in ("annual_rate_bps", "day_count", "withholding_tax_bps"):
                del self.fields[name]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if not self.errors:
            cleaned["new"] = self._new(cleaned)
        return cleaned

    def _new(self, cleaned: dict[str, Any]) -> NewPlan | None:
        """Return the plan that is asked for, in the currency of its source."""
        try:
            source = account_of(
                tenant_id=cleaned["tenant_id"], account_id=cleaned["source_account_id"]
            )
        except NotFound as refusal:
            self.add_error("source_account_id", refusal.detail)
            return None
        amounts: dict[str, int | None] = {"amount": None, "target_amount": None}
        for name in amounts:
            try:
                if cleaned[name] is not None:
                    amounts[name] = minor_units(cleaned[name], source.currency)
            except ValidationError as fault:
                self.add_error(name, fault)
        rest = {
            name: cleaned[name]
            for name in (
                *("kind", "name", "source_account_id", "day_of_month", "months", "start_date"),
                *("on_insufficient_funds", "unlock_date", "at_the_end", "day_count"),
            )
            if name in cleaned
        }
        return NewPlan(
            currency=source.currency,
            amount=amounts["amount"] or 0,
            target_amount=amounts["target_amount"],
            annual_rate_bps=cleaned.get("annual_rate_bps") or 0,
            withholding_tax_bps=cleaned.get("withholding_tax_bps") or 0,
            **rest,
        )


class _Changing(forms.Form):
    """What of a plan is changed: what stands otherwise in the form than it was shown."""

    # What one has seen, so that nobody writes over what another has just changed.
    seen = forms.CharField(widget=forms.HiddenInput)

    def __init__(self, data: Any, *, plan: SavingsPlan) -> None:
        super().__init__(data, initial={"seen": str(plan.version)})
        self._known: dict[str, Any] = {}

    def _offer(self, name: str, field: forms.Field, known: Any) -> None:
        self.fields[name] = field
        self._known[name] = known

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            changes = {
                name: cleaned[name] for name, known in self._known.items() if cleaned[name] != known
            }
            if not changes:
                raise ValidationError("Nothing was changed.")
            cleaned["changes"] = changes
        return cleaned


class ChangeForm(_Changing):
    def __init__(self, data: Any, *, plan: SavingsPlan) -> None:
        super().__init__(data, plan=plan)
        self._offer("name", _name_field(initial=plan.name), plan.name)
        self._offer("at_the_end", _end_field(initial=plan.at_the_end), plan.at_the_end)
        payment = plan.recurring_payment
        if payment is None or plan.status != SavingsPlan.Status.ACTIVE:
            return
        currency = plan.currency
        each = AmountField(currency, initial=plan.amount, label=f"Each month, in {currency}")
        self._offer("amount", each, plan.amount)
        day = payment.day_of_month
        self._offer("day_of_month", _day_field(initial=day, required=day is not None), day)
        target = AmountField(
            currency,
            initial=plan.target_amount,
            required=False,
            label=f"Until there is, in {currency}",
        )
        self._offer("target_amount", target, plan.target_amount)
        policy = payment.on_insufficient_funds
        self._offer("on_insufficient_funds", _shortage_field(initial=policy), policy)


class RatesForm(_Changing):
    def __init__(self, data: Any, *, plan: SavingsPlan) -> None:
        super().__init__(data, plan=plan)
        rate, tax = plan.annual_rate_bps, plan.withholding_tax_bps
        self._offer("annual_rate_bps", _rate_field(initial=rate), rate)
        self._offer("withholding_tax_bps", _tax_field(initial=tax), tax)


class MoveForm(Keyed):
    """How much of it; and where to, if it may go elsewhere."""

    def __init__(self, data: Any, *, plan: SavingsPlan, is_out: bool) -> None:
        super().__init__(data)
        if not is_out:
            self.fields["amount"] = AmountField(plan.currency)
            return
        account = plan.plan_account
        there = max(0, account.balance - account.held)
        self.fields["amount"] = AmountField(
            plan.currency,
            at_most=there,
            help_text=f"At most {format_money(there, plan.currency)}.",
        )
        self.fields["destination_account_id"] = _destination_field()


class CloseForm(WithReason):
    destination_account_id = forms.UUIDField(required=False)
    field_order = ("destination_account_id", "reason")

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.fields["destination_account_id"] = _destination_field()
        self.order_fields(self.field_order)


def _destination_field() -> forms.UUIDField:
    return forms.UUIDField(
        required=False,
        label="To account",
        help_text="The id of another account of the same owner; empty: the plan's source.",
    )


class RenewForm(WithReason):
    field_order = ("unlock_date", "reason")
    unlock_date = DayField(label="Locked until")


class PeriodForm(forms.Form):
    """Of a statement, by the tenant's days."""

    def __init__(self, data: Any = None, **more: Any) -> None:
        super().__init__(data, **more)
        self.fields["from"] = DayField(label="From")
        self.fields["to"] = DayField(label="To")
