"""The panels of a savings plan's page, and those that tell of it on the pages of what it uses."""

from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from accounts.models import Account
from core import panels
from core.admin import link_to, money, panel_on
from core.errors import DomainError
from core.money import format_money
from core.panels import status_badge, table, when, with_small
from identity.queries import actor_names
from payments.models import RecurringPayment, RecurringRun
from savings.admin import words
from savings.admin.columns import plan_link, progress, state_badge, transaction_link
from savings.admin.forms import PeriodForm
from savings.models import EarlyRelease, SavingsPlan
from savings.queries import (
    interest_in_waiting,
    interest_totals,
    plan_runs,
    postings_of,
    releases_of,
)
from savings.services import project

RUNS_SHOWN_MAX = 20
POSTINGS_SHOWN_MAX = 24
RELEASES_SHOWN_MAX = 20
MONTHS_SHOWN_MAX = 14
_MORE = "The newest; there are more."


@panel_on(SavingsPlan)
def panels_of_plan(request: HttpRequest, plan: SavingsPlan) -> str:
    """Return all that belongs to the plan, each kind read once; what it cannot have, never."""
    releases = _releases(plan)
    shown = [
        _documents_panel(plan),
        _releases_panel(releases),
        _projection_panel(plan),
        _interest_panel(plan) if plan.interest_from is not None else "",
        _runs_panel(plan) if plan.recurring_payment is not None else "",
        _timeline(request, plan, releases),
    ]
    # Each is a rendered template.
    return mark_safe("".join(shown))  # noqa: S308


@panel_on(RecurringPayment)
def plan_of_payment_panel(request: HttpRequest, payment: RecurringPayment) -> str:
    """Return the plan that the payment is a part of."""
    if payment.managed_by != "savings_plan":
        return ""
    plans = SavingsPlan.objects.filter(recurring_payment=payment)
    return _plan_panel(plans.select_related("tenant", "plan_account", "recurring_payment").first())


@panel_on(Account)
def plan_of_account_panel(request: HttpRequest, account: Account) -> str:
    """Return the plan whose own account it is."""
    if account.type != Account.Type.SAVING:
        return ""
    plans = SavingsPlan.objects.filter(plan_account=account)
    return _plan_panel(plans.select_related("tenant", "plan_account", "recurring_payment").first())


def _plan_panel(plan: SavingsPlan | None) -> str:
    if plan is None:
        return ""
    row = [plan_link(plan), state_badge(plan), progress(plan), plan.unlock_date]
    headings = ["Plan", "State", "Progress", "Locked until"]
    return table("Of the savings plan", headings, [row], numbers=())


def _releases(plan: SavingsPlan) -> list[EarlyRelease]:
    if plan.kind != SavingsPlan.Kind.DATE_LOCKED:
        return []
    found = releases_of(tenant_id=plan.tenant_id, plan_id=plan.pk).order_by("-pk")
    return list(found[: RELEASES_SHOWN_MAX + 1])


def _releases_panel(releases: list[EarlyRelease]) -> str:
    rows = [
        [
            link_to(EarlyRelease, each.pk, when(each.requested_at)),
            status_badge(each.status),
            each.reason,
            with_small(when(each.decided_at), each.decision_reason),
        ]
        for each in releases[:RELEASES_SHOWN_MAX]
    ]
    headings = ["Asked for, UTC", "Status", "Reason", "Decided, UTC"]
    note = _MORE if len(releases) > RELEASES_SHOWN_MAX else ""
    return table("Early releases", headings, rows, numbers=(), note=note)


def _projection_panel(plan: SavingsPlan) -> str:
    """Return what will be in it month by month, if all goes on as it is."""
    if plan.status == SavingsPlan.Status.CLOSED:
        return ""
    try:
        foreseen = project(plan, now=timezone.now())
    except DomainError:
        # Such as the holidays of a country that are not known any more: its payment's page says so.
        return ""
    months = foreseen.months
    shown = months[:MONTHS_SHOWN_MAX]
    if len(months) > MONTHS_SHOWN_MAX:
        shown = [*months[: MONTHS_SHOWN_MAX - 1], months[-1]]
    rows = [
        [
            each.date,
            money(each.balance, plan.currency),
            _amount(each.deposited, plan),
            _amount(each.interest, plan),
            _amount(each.tax, plan),
        ]
        for each in shown
    ]
    left_out = len(months) - len(shown)
    if foreseen.ends_on is None:
        said = "It has no end: this is the year to come."
    else:
        balance = format_money(foreseen.balance, plan.currency)
        said = f"On {foreseen.ends_on} it has {balance}, if all goes on as it is."
    if left_out:
        said += f" Left out before the last: {left_out:,} month{'s' if left_out > 1 else ''}."
    headings = ["Until", "Balance", "Put aside", "Interest", "Tax"]
    return table("Projection", headings, rows, numbers=headings[1:], note=said)


def _interest_panel(plan: SavingsPlan) -> str:
    postings = list(postings_of(plan).order_by("-period_to")[: POSTINGS_SHOWN_MAX + 1])
    rows: list[list[Any]] = [
        [
            f"{each.period_from} to {each.period_to}",
            words.fine_money(each.accrued, plan.currency),
            money(each.tax, plan.currency) if each.tax else "",
            _posted(each.transaction_id, each.amount, plan),
        ]
        for each in postings[:POSTINGS_SHOWN_MAX]
    ]
    waiting = words.fine_money(interest_in_waiting(plan), plan.currency)
    rows.insert(0, ["Not posted yet", waiting, "", ""])
    amount, tax = interest_totals(plan)
    totals = [
        ("Interest posted", money(amount, plan.currency)),
        ("Tax withheld of it", money(tax, plan.currency)),
    ]
    headings = ["Days", "Accrued", "Tax", "Interest"]
    note = _MORE if len(postings) > POSTINGS_SHOWN_MAX else ""
    return table("Interest", headings, rows, numbers=headings[1:], totals=totals, note=note)


def _runs_panel(plan: SavingsPlan) -> str:
    runs = list(plan_runs(plan)[:RUNS_SHOWN_MAX])
    rows = [
        [
            link_to(RecurringRun, run.pk, when(run.scheduled_for)),
            with_small(
                status_badge(run.status),
                run.error_code.replace("_", " ").capitalize() if run.error_code else "",
            ),
            transaction_link(run.transaction_id, "transaction"),
            "" if run.amount is None else money(run.amount, plan.currency),
        ]
        for run in runs
    ]
    headings = ["Due, UTC", "Status", "Moved by", "Amount"]
    every = reverse("admin:payments_recurringrun_changelist")
    url = f"{every}?recurring_payment={plan.recurring_payment_id}"
    return table("Runs", headings, rows, note=format_html('<a href="{}">All runs</a>', url))


def _timeline(request: HttpRequest, plan: SavingsPlan, releases: list[EarlyRelease]) -> str:
    return panels.timeline(
        request,
        tenant_id=plan.tenant_id,
        object_id=plan.pk,
        parts={each.pk: link_to(EarlyRelease, each.pk, "early release") for each in releases},
        happened=words.happened,
        names_of=lambda actors: actor_names(tenant_id=plan.tenant_id, actor_ids=actors),
    )


def _documents_panel(plan: SavingsPlan) -> str:
    """Return where its statement and its certificate are to be had; first, of this month."""
    tenant = plan.tenant
    today = tenant.day_of(tenant.time_at(timezone.now()))
    args = [plan.pk]
    certificate = reverse("admin:savings_savingsplan_certificate", args=args)
    context = {
        "form": PeriodForm(initial={"from": today.replace(day=1), "to": today}),
        "statement_url": reverse("admin:savings_savingsplan_statement", args=args),
        "certificate_url": certificate if plan.is_locked else "",
    }
    return render_to_string("admin/savings_documents_panel.html", context)


def _amount(minor_units: int, plan: SavingsPlan) -> SafeString | str:
    return money(minor_units, plan.currency) if minor_units else ""


def _posted(transaction_id: Any, amount: int, plan: SavingsPlan) -> SafeString | str:
    return transaction_link(transaction_id, money(amount, plan.currency))
