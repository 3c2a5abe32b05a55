"""What a person at the back office reads of a plan: its terms, where it stands, what happened."""

import datetime as dt
from decimal import Decimal

from babel.numbers import format_decimal

from core.admin import in_words
from core.models import AuditRecord
from core.money import exponent, format_basis_points, format_money
from payments.services import sentence_of
from savings.models import SavingsPlan

_K = SavingsPlan.Kind
_END = SavingsPlan.AtTheEnd

KINDS = {_K.AUTO_WITHDRAW: "Puts money aside", _K.DATE_LOCKED: "Locked until a date"}
AT_THE_END = {_END.PAY_OUT: "Paid out to the source", _END.KEEP: "Kept in the plan"}
DAY_COUNTS = {
    SavingsPlan.DayCount.ACT_365F: "ACT/365F: each day a 365th of a year",
    SavingsPlan.DayCount.THIRTY_360: "30E/360: months of 30 days",
}
SHORTAGES = {
    "retry": "Tried again",
    "skip": "Nothing is put aside that month",
    "partial": "What there is, is put aside",
}

_HAPPENED = {
    "savings_plan.created": "The plan was made.",
    "savings_plan.changed": "The plan was changed: {fields}.",
    "savings_plan.paused": "It was paused.",
    "savings_plan.resumed": "It was resumed.",
    "savings_plan.renewed": "It was locked for another term, until {unlock_date}.",
    "savings_plan.completed": "It was completed: nothing more is put aside.",
    "savings_plan.stopped": "It was stopped: nothing is put aside any more.",
    "savings_plan.unlocked": "Its date came: it was unlocked.",
    "savings_plan.payout_failed": "It could not be paid out: {status_reason}.",
    "savings_plan.closed": "It was paid out and closed.",
    "early_release.requested": "Its early release was asked for.",
    "early_release.approved": "Its early release was approved.",
    "early_release.rejected": "Its early release was rejected.",
}


def happened(record: AuditRecord) -> str:
    """Return what the record says in a sentence."""
    after = record.after or {}
    sentence = _HAPPENED.get(record.action)
    if sentence is None:
        return in_words(record.action.replace(".", " "))
    return sentence.format(
        fields=", ".join(sorted(after)).replace("_", " ") or "nothing",
        unlock_date=after.get("unlock_date", ""),
        status_reason=str(after.get("status_reason", "")).replace("_", " "),
    )


def rate(bps: int) -> str:
    """Return a yearly rate; empty: none."""
    return f"{format_basis_points(bps)} a year" if bps else ""


def fine_money(minor_units: Decimal, currency: str) -> str:
    """Return what is not rounded yet, to eight decimals of the currency's unit."""
    amount = minor_units.scaleb(-exponent(currency))
    return f"{currency}\u00a0{format_decimal(amount, format='#,##0.00######', locale='en')}"


def terms(plan: SavingsPlan) -> str:
    """Return what the plan does, in a sentence."""
    amount = format_money(plan.amount, plan.currency)
    if plan.recurring_payment is None:
        return f"{amount} was put in at first; locked until {plan.unlock_date}"
    return f"{amount} {sentence_of(plan.recurring_payment)}, {until(plan)}"


def until(plan: SavingsPlan) -> str:
    """Return what a plan that puts aside ends with."""
    ends = []
    if plan.target_amount is not None:
        ends.append(f"until {format_money(plan.target_amount, plan.currency)}")
    if plan.months is not None:
        ends.append(f"{plan.months:,} times")
    return ", or ".join(ends) or "until it is closed"


def next_date(plan: SavingsPlan) -> dt.date | None:
    """Return when money is put aside, or when the plan unlocks; None: nothing is to come."""
    if plan.status != SavingsPlan.Status.ACTIVE:
        return None
    payment = plan.recurring_payment
    if payment is None:
        return plan.unlock_date
    return payment.next_date if payment.status == "active" else None
