"""The calendar of locked plans: which of them unlock in the months to come."""

import datetime as dt
import itertools
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from core.admin import (
    TENANTS_LISTED_MAX,
    may,
    money,
    sees_every_tenant,
    staff_tenant_id,
)
from core.permissions import Permission
from identity.models import Tenant
from savings.admin import words
from savings.admin.columns import account_link, plan_link, weekday
from savings.models import SavingsPlan
from savings.queries import unlocks_of

MONTHS = 12
PAGE_ROWS = 50
_NEXT = "after"


@dataclass(frozen=True, slots=True)
class Unlock:
    day: str
    plan: SafeString
    source: SafeString
    amount: SafeString
    then: str


@dataclass(frozen=True, slots=True)
class Month:
    name: str
    unlocks: list[Unlock]


def upcoming_unlocks(request: HttpRequest) -> HttpResponse:
    """Show what unlocks in the twelve months to come, month by month, a page at a time."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD"])
    if not may(request, Permission.VIEW_SAVINGS_PLANS):
        raise PermissionDenied
    tenants = (
        list(Tenant.objects.order_by("name")[:TENANTS_LISTED_MAX])
        if sees_every_tenant(request)
        else []
    )
    tenant = _tenant(request, tenants)
    today = tenant.day_of(tenant.time_at(timezone.now()))
    last = _months_ahead(today)
    after = _position(request.GET.get(_NEXT, ""), tenant)
    # From the beginning: what should have unlocked and has not is seen too.
    found = unlocks_of(tenant_id=tenant.pk, first=dt.date.min, last=last, after=after)
    plans = list(found[: PAGE_ROWS + 1])
    is_cut, plans = len(plans) > PAGE_ROWS, plans[:PAGE_ROWS]
    chosen = {"tenant": str(tenant.pk)} if tenants else {}
    later = None
    if not plans:
        later = unlocks_of(tenant_id=tenant.pk, first=last, last=dt.date.max).first()
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Upcoming unlocks",
        "months": [
            Month(name, [_unlock(plan, today) for plan in of_month])
            for name, of_month in itertools.groupby(plans, key=_month_name)
        ],
        "last": last,
        "later": None if later is None else later.unlock_date,
        "time_zone": tenant.time_zone,
        "tenants": tenants,
        "tenant": tenant,
        "list_url": reverse("admin:savings_savingsplan_changelist"),
        "first_query": urlencode(chosen) if after is not None else None,
        "next_query": urlencode({**chosen, _NEXT: _cursor(plans[-1], tenant)}) if is_cut else "",
    }
    return TemplateResponse(request, "admin/savings_unlocks.html", context)


def _tenant(request: HttpRequest, tenants: list[Tenant]) -> Tenant:
    wanted = request.GET.get("tenant", "")
    for each in tenants:
        if str(each.pk) == wanted:
            return each
    return Tenant.objects.get(pk=staff_tenant_id(request))


def _months_ahead(today: dt.date) -> dt.date:
    """Return the last day of the twelfth month, this one counted."""
    year, month = divmod(today.year * 12 + today.month - 1 + MONTHS, 12)
    return dt.date(year, month + 1, 1) - dt.timedelta(days=1)


def _signer(tenant: Tenant) -> signing.Signer:
    return signing.Signer(salt=f"back-office:unlocks:{tenant.pk}")


def _cursor(plan: SavingsPlan, tenant: Tenant) -> str:
    return _signer(tenant).sign_object([str(plan.unlock_date), str(plan.pk)])


def _position(cursor: str, tenant: Tenant) -> tuple[dt.date, UUID] | None:
    """Return behind which plan the page begins; None: it is the first one."""
    try:
        day, plan_id = _signer(tenant).unsign_object(cursor)
    except signing.BadSignature:
        return None
    return dt.date.fromisoformat(day), UUID(plan_id)


def _month_name(plan: SavingsPlan) -> str:
    return f"{plan.unlock_date:%B %Y}"


def _unlock(plan: SavingsPlan, today: dt.date) -> Unlock:
    day = plan.unlock_date or today
    return Unlock(
        day=weekday(day),
        plan=plan_link(plan),
        source=account_link(plan.source_account),
        amount=money(plan.plan_account.balance, plan.currency),
        then=words.AT_THE_END[SavingsPlan.AtTheEnd(plan.at_the_end)],
    )


admin.site.add_page(  # type: ignore[attr-defined]
    "savings/unlocks/", admin.site.admin_view(upcoming_unlocks), "savings_unlocks"
)
