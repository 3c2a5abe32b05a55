"""What several lists and pages of savings plans show alike."""

import datetime as dt
from uuid import UUID

from django.db.models import QuerySet
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString

from accounts.models import Account
from core.admin import in_words, link_to, name_of
from core.money import format_money
from core.panels import status_badge, with_small
from savings.models import SavingsPlan
from savings.queries import months_behind, state_of

# What a row of a list, or a page, shows of a plan: one query.
JOINED = ("tenant", "plan_account", "source_account", "recurring_payment")


def joined(plans: QuerySet[SavingsPlan]) -> QuerySet[SavingsPlan]:
    return plans.select_related(*JOINED)


def plan_link(plan: SavingsPlan) -> SafeString:
    return link_to(SavingsPlan, plan.pk, plan.name)


def account_link(account: Account) -> SafeString:
    return link_to(Account, account.pk, name_of(account))


def transaction_link(transaction_id: UUID | None, text: str = "") -> SafeString | str:
    """Return a link to a transaction of the ledger; nothing where none was posted."""
    return link_to("ledger.Transaction", transaction_id, text) if transaction_id else ""


def state_badge(plan: SavingsPlan) -> SafeString:
    """Return the state that people see, and why it is so."""
    why = in_words(plan.status_reason) if plan.status_reason else ""
    return with_small(status_badge(state_of(plan)), why)


def progress(plan: SavingsPlan) -> str:
    """Return a bar of how far the plan is: to its target, its months or its date."""
    if plan.status == SavingsPlan.Status.CLOSED:
        return ""
    if plan.recurring_payment is None:
        return _days_bar(plan)
    if plan.target_amount is not None:
        saved = max(0, min(plan.plan_account.balance, plan.target_amount))
        share = 100 * saved // plan.target_amount
        target = format_money(plan.target_amount, plan.currency)
        return _bar(share, 100, f"{share} % of {target}")
    done, months = months_behind(plan), plan.months or 0
    return _bar(done, months, f"{done:,} of {months:,} months") if months else ""


def _days_bar(plan: SavingsPlan) -> str:
    if not plan.is_locked or plan.unlock_date is None:
        return ""
    now = timezone.now()
    tenant = plan.tenant
    today = tenant.day_of(tenant.time_at(now))
    began = min(plan.interest_from or tenant.day_of(plan.created_at), today)
    whole, left = (plan.unlock_date - began).days, (plan.unlock_date - today).days
    words = f"{left:,} days left" if left > 1 else "a day left" if left == 1 else "due"
    return _bar(max(0, whole - left), max(1, whole), words)


def _bar(done: int, total: int, words: str) -> str:
    context = {"done": done, "total": total, "words": words}
    return render_to_string("admin/progress.html", context)


def weekday(day: dt.date) -> str:
    return f"{day:%a %Y-%m-%d}"
