"""Shapes of savings plans on the wire. Units and limits, no rules."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api.fields import (
    AmountField,
    CardFreeMetadataField,
    CardFreeTextField,
    CurrencyField,
    DayField,
    IdField,
    MetadataField,
    StrictIntegerField,
    StrictRequest,
)
from core.errors import InvalidRequest
from core.money import BALANCE_MAX
from payments.models import RecurringPayment
from savings.models import (
    RATE_MAX_BPS,
    TAX_MAX_BPS,
    EarlyRelease,
    InterestPosting,
    SavingsPlan,
)
from savings.queries import STATES, progress_of, state_of
from savings.services import MONTHS_MAX, REASON_MAX, Projection

_K = SavingsPlan.Kind
_ENDS = SavingsPlan.AtTheEnd.choices
_POLICIES = RecurringPayment.OnInsufficientFunds.choices
_MINOR_UNITS = "Minor units of `currency`."
_BPS = "Hundredths of a percent."
# What one kind alone has, by its name here.
_OF_KIND = {
    "on_unlock": _K.DATE_LOCKED,
    "on_completion": _K.AUTO_WITHDRAW,
    "on_insufficient_funds": _K.AUTO_WITHDRAW,
}
_AT_THE_END = {"on_unlock", "on_completion"}
# Who may say them is another question than who may make a plan.
RATES = frozenset({"annual_rate_bps", "day_count", "withholding_tax_bps"})


class ChangeSavingsPlanRequest(StrictRequest):
    name = CardFreeTextField(required=False, max_length=100, help_text="What it is for.")
    amount = AmountField(
        required=False, help_text=f"{_MINOR_UNITS} auto_withdraw: each month. date_locked: at once."
    )
    day_of_month = StrictIntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=31,
        help_text="auto_withdraw: a month that is too short gives its last day. Left out: the"
        " start date's.",
    )
    target_amount = AmountField(
        required=False,
        allow_null=True,
        max_value=BALANCE_MAX,
        help_text="auto_withdraw: until there is so much. The last month gives what is missing.",
    )
    on_insufficient_funds = serializers.ChoiceField(
        choices=_POLICIES,
        required=False,
        help_text="auto_withdraw. retry, the default: ask again later. skip: do without this month."
        " partial: take what there is.",
    )
    on_unlock = serializers.ChoiceField(
        choices=_ENDS,
        required=False,
        help_text="date_locked. pay_out, the default: all of it goes back to the source.",
    )
    on_completion = serializers.ChoiceField(
        choices=_ENDS,
        required=False,
        help_text="auto_withdraw. pay_out, the default: all of it goes back to the source.",
    )
    annual_rate_bps = StrictIntegerField(
        required=False,
        min_value=0,
        max_value=RATE_MAX_BPS,
        help_text=f"{_BPS} Not for customers to say. Left out: 0, no interest.",
    )
    withholding_tax_bps = StrictIntegerField(
        required=False,
        min_value=0,
        max_value=TAX_MAX_BPS,
        help_text=f"{_BPS} Of the interest. Not for customers to say. Left out: 0.",
    )
    metadata = CardFreeMetadataField(required=False)


class SavingsPlanRequest(ChangeSavingsPlanRequest):
    kind = serializers.ChoiceField(choices=_K.choices)
    account_id = IdField(help_text="The source, which also gets back what is paid out.")
    currency = CurrencyField()
    name = CardFreeTextField(max_length=100, help_text="What it is for.")
    amount = AmountField(
        help_text=f"{_MINOR_UNITS} auto_withdraw: each month. date_locked: at once."
    )
    months = StrictIntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=MONTHS_MAX,
        help_text="auto_withdraw: for so many months, or until `target_amount`, whichever is first;"
        " without both, until it is closed.",
    )
    start_date = DayField(
        required=False,
        allow_null=True,
        help_text="auto_withdraw: the first date it may be. Left out: today.",
    )
    unlock_date = DayField(
        required=False,
        allow_null=True,
        help_text="date_locked: from the beginning of this day, in your time zone, it may be had.",
    )
    day_count = serializers.ChoiceField(
        choices=SavingsPlan.DayCount.choices,
        required=False,
        help_text="act_365f, the default: each day is a 365th of a year. 30_360: each month has 30"
        " days. Not for customers to say.",
    )


class SavingsDepositRequest(StrictRequest):
    amount = AmountField()


class SavingsWithdrawalRequest(StrictRequest):
    amount = AmountField()
    destination_account_id = IdField(
        required=False, help_text="Another account of the same owner. Left out: the source."
    )


class SavingsReasonRequest(StrictRequest):
    reason = CardFreeTextField(required=False, allow_blank=True, max_length=REASON_MAX, default="")


class CloseSavingsPlanRequest(SavingsReasonRequest):
    destination_account_id = IdField(
        required=False, help_text="Another account of the same owner. Left out: the source."
    )


class RenewSavingsPlanRequest(SavingsReasonRequest):
    unlock_date = DayField()


class EarlyReleaseRequest(StrictRequest):
    """Of whoever asks, and of whoever decides."""

    reason = CardFreeTextField(max_length=REASON_MAX)


class SavingsPlanResponse(serializers.ModelSerializer[SavingsPlan]):
    """Of a plan as savings.queries.with_figures gives it."""

    status = serializers.SerializerMethodField(
        help_text="completed: the target is reached, or the months are over. stopped: the source"
        " is closed. unlocked: the date has come, and it was kept."
    )
    status_reason = serializers.SerializerMethodField(
        help_text="Why it is stopped, or was not paid out: the code of the refusal. Of one that is"
        " paused: by_request, or the code of the last refusal."
    )
    account_id = serializers.UUIDField(source="source_account_id", help_text="The source.")
    plan_account_id = serializers.UUIDField(help_text="The plan's own account.")
    recurring_payment_id = serializers.UUIDField(
        allow_null=True, help_text="What puts money aside; null: date_locked."
    )
    balance = serializers.IntegerField(source="plan_account.balance", help_text=_MINOR_UNITS)
    day_of_month = serializers.IntegerField(
        source="recurring_payment.day_of_month", allow_null=True
    )
    start_date = serializers.DateField(source="recurring_payment.start_date", allow_null=True)
    months = serializers.IntegerField(allow_null=True, help_text="How many there are.")
    progress = serializers.SerializerMethodField(
        help_text="How much of the target there is, or else how many of the months are over:"
        " percent, to one decimal. null: date_locked, or closed."
    )
    on_unlock = serializers.SerializerMethodField()
    on_completion = serializers.SerializerMethodField()
    next_run_at = serializers.DateTimeField(source="recurring_payment.next_run_at", allow_null=True)
    on_insufficient_funds = serializers.ChoiceField(
        choices=_POLICIES, source="recurring_payment.on_insufficient_funds", allow_null=True
    )
    interest = serializers.IntegerField(help_text="Posted by now, before tax.")
    tax = serializers.IntegerField(help_text="Withheld of it.")
    accrued_interest = serializers.DecimalField(
        max_digits=32,
        decimal_places=12,
        help_text="Minor units, not posted yet: of each day that is over, and what rounding left.",
    )
    metadata = MetadataField()

    class Meta:
        model = SavingsPlan
        fields = (
            "id",
            "kind",
            "status",
            "status_reason",
            "name",
            "account_id",
            "plan_account_id",
            "recurring_payment_id",
            "currency",
            "balance",
            "amount",
            "day_of_month",
            "start_date",
            "target_amount",
            "months",
            "progress",
            "unlock_date",
            "on_unlock",
            "on_completion",
            "next_run_at",
            "on_insufficient_funds",
            "annual_rate_bps",
            "day_count",
            "withholding_tax_bps",
            "interest",
            "tax",
            "accrued_interest",
            "owner_id",
            "metadata",
            "created_at",
            "ended_at",
        )
        read_only_fields = fields

    @extend_schema_field({"type": "string", "enum": STATES})
    def get_status(self, plan: SavingsPlan) -> str:
        return state_of(plan)

    def get_status_reason(self, plan: SavingsPlan) -> str | None:
        payment = plan.recurring_payment
        if payment is not None and state_of(plan) == "paused":
            return payment.status_reason
        return plan.status_reason or None

    def get_progress(self, plan: Any) -> float | None:
        progress = progress_of(plan)
        return None if progress is None else float(progress)

    @extend_schema_field({"type": ["string", "null"], "enum": [*dict(_ENDS), None]})
    def get_on_unlock(self, plan: SavingsPlan) -> str | None:
        return plan.at_the_end if plan.kind == _K.DATE_LOCKED else None

    @extend_schema_field({"type": ["string", "null"], "enum": [*dict(_ENDS), None]})
    def get_on_completion(self, plan: SavingsPlan) -> str | None:
        return plan.at_the_end if plan.kind == _K.AUTO_WITHDRAW else None


class ProjectedMonthResponse(serializers.Serializer[Any]):
    date = serializers.DateField(help_text="The month's last day, or the plan's.")
    deposited = serializers.IntegerField()
    interest = serializers.IntegerField(help_text="Before tax.")
    tax = serializers.IntegerField()
    balance = serializers.IntegerField(help_text="At the end of that day.")


class ProjectionResponse(serializers.Serializer[Projection]):
    ends_on = serializers.DateField(
        allow_null=True, help_text="When it is completed or unlocked; null: it has no such day."
    )
    balance = serializers.IntegerField(help_text="What will be there then; or after a year.")
    deposited = serializers.IntegerField(help_text="Of that, from now on.")
    interest = serializers.IntegerField(help_text="From now on, before tax.")
    tax = serializers.IntegerField()
    months = ProjectedMonthResponse(many=True)


class InterestPostingResponse(serializers.ModelSerializer[InterestPosting]):
    period_from = serializers.DateField(help_text="The first day it is for.")
    period_to = serializers.DateField(help_text="The last.")
    accrued = serializers.DecimalField(
        max_digits=32, decimal_places=12, help_text="Minor units: the sum of its days."
    )
    carried_in = serializers.DecimalField(
        max_digits=32, decimal_places=12, help_text="What rounding left the time before."
    )
    carried_out = serializers.DecimalField(
        max_digits=32, decimal_places=12, help_text="What it left this time."
    )
    amount = serializers.IntegerField(help_text="Before tax: accrued + carried_in - carried_out.")
    tax = serializers.IntegerField(help_text="Withheld of it.")
    transaction_id = serializers.UUIDField(
        allow_null=True, help_text="null: there was nothing to post."
    )

    class Meta:
        model = InterestPosting
        fields = (
            "id",
            "period_from",
            "period_to",
            "accrued",
            "carried_in",
            "carried_out",
            "amount",
            "tax_bps",
            "tax",
            "transaction_id",
            "created_at",
        )
        read_only_fields = fields


class EarlyReleaseResponse(serializers.ModelSerializer[EarlyRelease]):
    savings_plan_id = serializers.UUIDField(source="plan_id")
    requested_by = serializers.CharField(help_text="user:<id>")
    decided_by = serializers.SerializerMethodField(help_text="user:<id>, never the same.")
    decision_reason = serializers.SerializerMethodField()

    class Meta:
        model = EarlyRelease
        fields = (
            "id",
            "savings_plan_id",
            "status",
            "reason",
            "requested_by",
            "requested_at",
            "decided_by",
            "decided_at",
            "decision_reason",
        )
        read_only_fields = fields

    def get_decided_by(self, release: EarlyRelease) -> str | None:
        return release.decided_by or None

    def get_decision_reason(self, release: EarlyRelease) -> str | None:
        return release.decision_reason or None


def terms_of(body: dict[str, Any], kind: str) -> dict[str, Any]:
    """
    Return what a body says of a plan of the kind, by the names of savings.services.

    :raises InvalidRequest: by the field that only the other kind has
    """
    for name, whose in _OF_KIND.items():
        if name in body and whose != kind:
            raise InvalidRequest(f"A plan that is {kind} has none.", field=name)
    ours = {"account_id": "source_account_id", **dict.fromkeys(_AT_THE_END, "at_the_end")}
    return {ours.get(name, name): value for name, value in body.items()}


def names_a_kind(body: dict[str, Any]) -> bool:
    """Whether there is anything in it that one kind alone has."""
    return not _OF_KIND.keys().isdisjoint(body)
