"""Shapes of recurring payments on the wire. Units and limits, no rules."""

import datetime as dt
import re
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api.fields import (
    AmountField,
    CardFreeMetadataField,
    CardFreeTextField,
    CurrencyField,
    DayField,
    ExactDecimalField,
    IdField,
    MetadataField,
    StrictBooleanField,
    StrictIntegerField,
    StrictRequest,
    TextField,
)
from core.calendars.business_days import Adjustment
from core.calendars.recurrence import INTERVAL_MAX, TEXT_MAX
from core.calendars.rules import DAYS_FROM_END_MAX, Frequency
from core.money import AMOUNT_MAX
from payments.api.serializers.payouts import (
    PAYOUT_GATEWAYS,
    BeneficiaryField,
    BeneficiaryResponse,
)
from payments.models import CalendarDay, RecurringPayment, RecurringRun
from payments.services import PREVIEW_MAX, RETRIES_MAX, Occurrence, Salary, sentence_of

_P = RecurringPayment
COUNT_MAX = 100_000
RETRY_INTERVAL_MAX_MINUTES = 30 * 24 * 60
FAILURES_MAX = 365
LATENESS_MAX_DAYS = 366
_CLOCK_TIME = re.compile("([01][0-9]|2[0-3]):[0-5][0-9]")
_MINOR_UNITS = "Minor units of `currency`."
_FREQUENCIES = [each.value for each in Frequency]
_ADJUSTMENTS = [each.value for each in Adjustment]


@extend_schema_field({"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"})
class ClockTimeField(serializers.Field):  # type: ignore[type-arg]
    """A local time of day, to the minute."""

    default_error_messages = {"invalid": "A time such as 06:00."}

    def to_internal_value(self, data: Any) -> dt.time:
        if not isinstance(data, str) or not _CLOCK_TIME.fullmatch(data):
            self.fail("invalid")
        return dt.time.fromisoformat(data)

    def to_representation(self, value: dt.time) -> str:
        return value.strftime("%H:%M")


class RecurringBeneficiaryRequest(StrictRequest, BeneficiaryField):
    """As a payout's."""


class TriggerRequest(StrictRequest):
    """What makes it run; the rest is for a salary, and all that is given must hold."""

    type = serializers.ChoiceField(choices=_P.Trigger.choices)
    min_amount = AmountField(required=False, allow_null=True, help_text=_MINOR_UNITS)
    sender_account_id = IdField(
        required=False, allow_null=True, help_text="The account of yours that it comes from."
    )
    description_pattern = CardFreeTextField(
        required=False,
        allow_blank=True,
        max_length=140,
        help_text="Somewhere in its description, in any case; * stands for anything.",
    )
    from_day = StrictIntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=31,
        help_text="A window of days of the month; 25 to 5 goes over the month's end.",
    )
    to_day = StrictIntegerField(required=False, allow_null=True, min_value=1, max_value=31)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["type"] == _P.Trigger.SCHEDULE and len(attrs) > 1:
            [name, *_] = sorted(set(attrs) - {"type"})
            raise serializers.ValidationError(
                {name: "A trigger of type schedule has none."}, code="invalid"
            )
        return attrs


class OnInsufficientFundsRequest(StrictRequest):
    action = serializers.ChoiceField(
        choices=_P.OnInsufficientFunds.choices,
        required=False,
        help_text="retry: ask again later. skip: do without this run. Left out: retry.",
    )
    retry_count = StrictIntegerField(
        required=False, min_value=0, max_value=RETRIES_MAX, help_text="Left out: 3."
    )
    retry_interval_minutes = StrictIntegerField(
        required=False,
        min_value=1,
        max_value=RETRY_INTERVAL_MAX_MINUTES,
        help_text="Left out: 360. Never beyond the next run's time.",
    )


class ChangeRecurringPaymentRequest(StrictRequest):
    """The terms. What is left out has its default in a new one, and stays in a change."""

    amount_type = serializers.ChoiceField(
        choices=_P.AmountType.choices,
        required=False,
        help_text="fixed, the default: `amount`. percentage: `percent` of the salary that set it"
        " off. sweep: all above `floor_amount`.",
    )
    amount = AmountField(required=False, allow_null=True)
    percent = ExactDecimalField(
        required=False,
        allow_null=True,
        max_digits=7,
        decimal_places=4,
        min_value=Decimal("0.0001"),
        max_value=Decimal(100),
        help_text="Up to 4 decimals, a number or a string; what comes of it is rounded down.",
    )
    floor_amount = StrictIntegerField(
        required=False, allow_null=True, min_value=0, max_value=AMOUNT_MAX, help_text=_MINOR_UNITS
    )
    min_balance = StrictIntegerField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=AMOUNT_MAX,
        help_text="Only if the source has more than this of its own; else the run is skipped.",
    )
    trigger = TriggerRequest(
        required=False, help_text="Left out: schedule. Which of the two it is never changes."
    )
    frequency = serializers.ChoiceField(
        choices=_FREQUENCIES, required=False, help_text="Of one on schedule; a salary has none."
    )
    interval = StrictIntegerField(
        required=False,
        min_value=1,
        max_value=INTERVAL_MAX,
        help_text="Every so many days, weeks, months ... Left out: 1.",
    )
    day_of_month = StrictIntegerField(
        required=False,
        allow_null=True,
        min_value=-DAYS_FROM_END_MAX,
        max_value=31,
        help_text="1 to 31, where a month that is too short gives its last day; or -1, the last"
        " day, to -5. Left out: the start date's.",
    )
    rrule = TextField(
        required=False,
        allow_blank=True,
        max_length=TEXT_MAX,
        help_text="RFC 5545, for the frequency rrule: FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1",
    )
    time_zone = TextField(
        required=False,
        allow_null=True,
        max_length=64,
        help_text="IANA name, such as Asia/Jakarta. Left out: yours.",
    )
    run_at = ClockTimeField(required=False, help_text="Local time. Left out: 06:00.")
    business_day_adjustment = serializers.ChoiceField(
        choices=_ADJUSTMENTS,
        required=False,
        help_text="What is done with a date that is no business day. Left out: none.",
    )
    holidays = TextField(
        required=False,
        allow_blank=True,
        max_length=10,
        help_text="A country, such as ID, or a part of it, such as MY-10, whose holidays are no"
        " business days. Left out: Saturday and Sunday alone.",
    )
    start_date = DayField(
        required=False, allow_null=True, help_text="The first date it may be. Left out: today."
    )
    end_date = DayField(
        required=False, allow_null=True, help_text="The last date it may be. Left out: none."
    )
    count = StrictIntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=COUNT_MAX,
        help_text="How many runs there are. Left out: no end.",
    )
    on_insufficient_funds = OnInsufficientFundsRequest(required=False)
    pause_after_failures = StrictIntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=FAILURES_MAX,
        help_text="So many failed runs in a row pause it; null: never. Left out: 3.",
    )
    catch_up = serializers.ChoiceField(
        choices=_P.CatchUp.choices,
        required=False,
        help_text="Of dates missed while nothing ran: run_once, the default: the last. run_all:"
        " each. skip: none.",
    )
    max_lateness_days = StrictIntegerField(
        required=False,
        min_value=0,
        max_value=LATENESS_MAX_DAYS,
        help_text="A run that could not begin within so many days is not made. Left out: 7.",
    )
    description = CardFreeTextField(
        required=False, allow_blank=True, max_length=140, help_text="Goes with each payment."
    )
    metadata = CardFreeMetadataField(required=False)


class RecurringPaymentRequest(ChangeRecurringPaymentRequest):
    source_account_id = IdField()
    destination_account_id = IdField(
        required=False, allow_null=True, help_text="An account here; or else a `beneficiary`."
    )
    beneficiary = RecurringBeneficiaryRequest(
        required=False, allow_null=True, help_text="An account elsewhere: each run is a payout."
    )
    gateway = serializers.ChoiceField(
        choices=PAYOUT_GATEWAYS,
        required=False,
        allow_null=True,
        help_text="Of payouts. Left out: by currency and priority.",
    )
    currency = CurrencyField()
    external_id = TextField(
        required=False, allow_null=True, max_length=200, help_text="Unique for you."
    )


class RecurringReasonRequest(StrictRequest):
    reason = CardFreeTextField(required=False, allow_blank=True, max_length=500, default="")


class TriggerResponse(serializers.Serializer[Any]):
    type = serializers.ChoiceField(choices=_P.Trigger.choices)
    min_amount = serializers.IntegerField(required=False, allow_null=True)
    sender_account_id = serializers.UUIDField(required=False, allow_null=True)
    description_pattern = serializers.CharField(required=False, allow_blank=True)
    from_day = serializers.IntegerField(required=False, allow_null=True)
    to_day = serializers.IntegerField(required=False, allow_null=True)


class OnInsufficientFundsResponse(serializers.Serializer[RecurringPayment]):
    action = serializers.ChoiceField(
        choices=_P.OnInsufficientFunds.choices, source="on_insufficient_funds"
    )
    retry_count = serializers.IntegerField()
    retry_interval_minutes = serializers.IntegerField()


class RecurringPaymentResponse(serializers.ModelSerializer[RecurringPayment]):
    source_account_id = serializers.UUIDField()
    destination_account_id = serializers.UUIDField(allow_null=True)
    beneficiary = BeneficiaryResponse(allow_null=True)
    gateway = serializers.SerializerMethodField()
    percent = serializers.DecimalField(
        max_digits=7, decimal_places=4, normalize_output=True, allow_null=True
    )
    trigger = serializers.SerializerMethodField()
    frequency = serializers.SerializerMethodField()
    rule = serializers.SerializerMethodField(help_text="What frequency and days say, in English.")
    run_at = ClockTimeField()
    business_day_adjustment = serializers.ChoiceField(choices=_ADJUSTMENTS, source="adjustment")
    count = serializers.IntegerField(source="max_runs", allow_null=True)
    on_insufficient_funds = OnInsufficientFundsResponse(source="*")
    status = serializers.ChoiceField(
        choices=_P.Status.choices,
        help_text="completed: its end has come. failed: an account of it is closed.",
    )
    status_reason = serializers.SerializerMethodField(
        help_text="Why it is paused or failed: by_request, or the code of the last refusal."
    )
    managed_by = serializers.SerializerMethodField(
        help_text="What it is a part of, through which alone it is changed; null: nothing."
    )
    metadata = MetadataField()

    class Meta:
        model = RecurringPayment
        fields = (
            "id",
            "kind",
            "status",
            "status_reason",
            "source_account_id",
            "destination_account_id",
            "beneficiary",
            "gateway",
            "currency",
            "amount_type",
            "amount",
            "percent",
            "floor_amount",
            "min_balance",
            "trigger",
            "frequency",
            "interval",
            "day_of_month",
            "rrule",
            "rule",
            "time_zone",
            "run_at",
            "business_day_adjustment",
            "holidays",
            "start_date",
            "end_date",
            "count",
            "on_insufficient_funds",
            "pause_after_failures",
            "catch_up",
            "max_lateness_days",
            "next_run_at",
            "next_date",
            "next_nominal_date",
            "consecutive_failures",
            "description",
            "metadata",
            "external_id",
            "managed_by",
            "version",
            "created_at",
            "updated_at",
        )
        read_only_fields = fields

    def get_gateway(self, payment: RecurringPayment) -> str | None:
        return payment.gateway or None

    @extend_schema_field({"type": ["string", "null"], "enum": [*_FREQUENCIES, None]})
    def get_frequency(self, payment: RecurringPayment) -> str | None:
        return payment.frequency or None

    def get_status_reason(self, payment: RecurringPayment) -> str | None:
        return payment.status_reason or None

    @extend_schema_field({"type": ["string", "null"], "enum": ["savings_plan", None]})
    def get_managed_by(self, payment: RecurringPayment) -> str | None:
        return payment.managed_by or None

    def get_rule(self, payment: RecurringPayment) -> str:
        return sentence_of(payment)

    def get_trigger(self, payment: RecurringPayment) -> TriggerResponse:
        shown: Any = {"type": payment.trigger}
        if payment.trigger == _P.Trigger.SALARY:
            shown |= {
                "min_amount": payment.salary_min_amount,
                "sender_account_id": payment.salary_sender_id,
                "description_pattern": payment.salary_pattern,
                "from_day": payment.salary_from_day,
                "to_day": payment.salary_to_day,
            }
        return shown  # type: ignore[no-any-return]  # its annotation is for the document


class RecurringRunResponse(serializers.ModelSerializer[RecurringRun]):
    date = serializers.DateField(help_text="The nominal date, moved to a business day.")
    status = serializers.ChoiceField(
        choices=RecurringRun.Status.choices,
        help_text="sent: the payout is on its way. skipped: by a policy, or it was missed.",
    )
    amount = serializers.IntegerField(allow_null=True, help_text="Null: not known yet.")
    payout_id = serializers.UUIDField(allow_null=True)
    error_code = serializers.SerializerMethodField()

    class Meta:
        model = RecurringRun
        fields = (
            "id",
            "number",
            "nominal_date",
            "date",
            "scheduled_for",
            "trigger_transaction_id",
            "status",
            "amount",
            "attempts",
            "next_attempt_at",
            "error_code",
            "error_detail",
            "transaction_id",
            "payout_id",
            "created_at",
            "ended_at",
        )
        read_only_fields = fields

    def get_error_code(self, run: RecurringRun) -> str | None:
        return run.error_code or None


class OccurrenceResponse(serializers.Serializer[Occurrence]):
    number = serializers.IntegerField(help_text="From 0.")
    nominal_date = serializers.DateField(help_text="By the rule.")
    date = serializers.DateField(help_text="Moved to a business day.")
    run_at = serializers.DateTimeField()


class PreviewResponse(serializers.Serializer[Any]):
    results = OccurrenceResponse(many=True)


class CalendarDayRequest(StrictRequest):
    date = DayField()
    name = CardFreeTextField(max_length=100)
    is_business_day = StrictBooleanField(
        required=False, default=False, help_text="true: you work, though your country does not."
    )


class CalendarDayResponse(serializers.ModelSerializer[CalendarDay]):
    class Meta:
        model = CalendarDay
        fields = ("id", "date", "name", "is_business_day")
        read_only_fields = fields


PREVIEW_PARAMETER = {"type": "integer", "minimum": 1, "maximum": PREVIEW_MAX, "default": 12}


def terms_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return what a body says of terms, by the names of payments.services.Terms."""
    given = {name: value for name, value in body.items() if name in _SAME}
    if "amount_type" in given:
        # Which amount it has goes with the type: another that is not named is gone.
        given = {"amount": None, "percent": None, "floor_amount": None, **given}
    given |= {ours: body[theirs] for theirs, ours in _RENAMED.items() if theirs in body}
    policy = dict(body.get("on_insufficient_funds", {}))
    if "action" in policy:
        given["on_insufficient_funds"] = policy.pop("action")
    given |= policy
    if "trigger" in body:
        given["salary"] = _salary(body["trigger"])
    return given


_RENAMED = {"business_day_adjustment": "adjustment", "count": "max_runs"}
_SAME = frozenset(ChangeRecurringPaymentRequest().fields) - {
    *_RENAMED,
    "trigger",
    "on_insufficient_funds",
}


def _salary(trigger: dict[str, Any]) -> Salary | None:
    if trigger["type"] == _P.Trigger.SCHEDULE:
        return None
    return Salary(
        min_amount=trigger.get("min_amount"),
        sender_id=trigger.get("sender_account_id"),
        pattern=trigger.get("description_pattern", ""),
        from_day=trigger.get("from_day"),
        to_day=trigger.get("to_day"),
    )
