"""Savings plans in the back office: the list, each plan's page, its documents."""

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.admin import (
    BackOfficeAdmin,
    CurrencyFilter,
    TenantFilter,
    link_to,
    metadata_lines,
    money,
    page_url,
    sees_every_tenant,
    staff_tenant_id,
)
from core.errors import DomainError
from core.forms import made_once
from core.idempotency import fingerprint
from core.money import format_basis_points
from core.panels import when, with_small
from core.permissions import Permission
from identity.models import Tenant
from savings import services
from savings.admin import words
from savings.admin.acts import ACTS, in_our_words
from savings.admin.columns import account_link, joined, progress, state_badge
from savings.admin.forms import NewPlanForm, PeriodForm
from savings.models import EarlyRelease, SavingsPlan
from savings.queries import in_state
from savings.services import documents

_WAITING_MAX = 99
_STATES = ("active", "paused", "completed", "stopped", "unlocked", "closed")


class StateFilter(admin.SimpleListFilter):
    """By the state that people see: of those that are active, the paused ones apart."""

    title = "state"
    parameter_name = "state"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, str]]:
        return [(state, state.capitalize()) for state in _STATES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        state = self.value()
        return queryset if state is None else in_state(queryset, state)


class KindFilter(admin.SimpleListFilter):
    title = "kind"
    parameter_name = "kind"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, str]]:
        return [(str(kind), said) for kind, said in words.KINDS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        kind = self.value()
        return queryset if kind is None else queryset.filter(kind=kind)


@admin.register(SavingsPlan)
class SavingsPlanAdmin(BackOfficeAdmin[SavingsPlan]):
    view_permission = Permission.VIEW_SAVINGS_PLANS
    add_permission = Permission.MANAGE_SAVINGS_PLANS
    add_warning = (
        "Opens a savings account for the plan. What is locked is moved into it at once, and cannot"
        " be had before its date."
    )
    list_display = ("plan", "state", "source", "balance_money", "progress_bar", "next_step")
    list_filter = (StateFilter, KindFilter, CurrencyFilter, TenantFilter)
    search_fields = ("pk",)
    search_help_text = "A whole id, of the plan, of its account, source or owner."
    change_list_template = "admin/savings_plan_list.html"
    acts = ACTS

    def get_queryset(self, request: HttpRequest) -> QuerySet[SavingsPlan]:
        return joined(super().get_queryset(request))

    def search(
        self, queryset: QuerySet[SavingsPlan], text: str, found_id: UUID | None
    ) -> QuerySet[SavingsPlan]:
        if found_id is None:
            return queryset.none()
        its_own = queryset.filter(Q(pk=found_id) | Q(plan_account_id=found_id))
        if its_own.exists():
            return its_own
        # The tenant stands first in the owners' index: naming them all is what makes it usable.
        of_owner = Q(tenant_id__in=Tenant.objects.values("pk"), owner_id=found_id)
        return queryset.filter(Q(source_account_id=found_id) | of_owner)

    # Lists.
    @admin.display(description="Plan")
    def plan(self, obj: SavingsPlan) -> SafeString:
        return with_small(obj.name, words.KINDS[SavingsPlan.Kind(obj.kind)])

    @admin.display(description="State")
    def state(self, obj: SavingsPlan) -> SafeString:
        return state_badge(obj)

    @admin.display(description="Source")
    def source(self, obj: SavingsPlan) -> SafeString:
        return account_link(obj.source_account)

    @admin.display(description="Balance")
    def balance_money(self, obj: SavingsPlan) -> SafeString:
        balance = money(obj.plan_account.balance, obj.currency)
        return with_small(balance, words.rate(obj.annual_rate_bps))

    @admin.display(description="Progress", empty_value="")
    def progress_bar(self, obj: SavingsPlan) -> str:
        return progress(obj)

    @admin.display(description="Next")
    def next_step(self, obj: SavingsPlan) -> SafeString:
        return _next_step(obj)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        links = {
            "unlocks_url": reverse("admin:savings_unlocks"),
            "releases_url": reverse("admin:savings_earlyrelease_changelist"),
            "releases_waiting": _releases_waiting(request),
        }
        return super().changelist_view(request, {**links, **(extra_context or {})})

    # A plan's page.
    def heading(self, obj: SavingsPlan) -> str:
        return obj.name

    def status(self, obj: SavingsPlan) -> SafeString:
        return state_badge(obj)

    def figures(self, obj: SavingsPlan) -> list[tuple[str, str]]:
        figures: list[tuple[str, str]] = [
            ("Balance", money(obj.plan_account.balance, obj.currency)),
        ]
        if obj.target_amount is not None:
            figures.append(("Target", money(obj.target_amount, obj.currency)))
        if obj.unlock_date is not None:
            figures.append(("Unlock date", str(obj.unlock_date)))
        shown = progress(obj)
        if shown:
            figures.append(("Progress", shown))
        coming = words.next_date(obj)
        if coming is not None and obj.recurring_payment is not None:
            figures.append(("Next date", str(coming)))
        return figures

    def facts(self, obj: SavingsPlan) -> list[tuple[str, Any]]:
        payment = obj.recurring_payment
        return [
            ("Kind", words.KINDS[SavingsPlan.Kind(obj.kind)]),
            ("Terms", words.terms(obj)),
            ("At the end", words.AT_THE_END[SavingsPlan.AtTheEnd(obj.at_the_end)]),
            ("Not enough money", words.SHORTAGES[payment.on_insufficient_funds] if payment else ""),
            ("Interest", words.rate(obj.annual_rate_bps)),
            ("Days are counted", _day_count(obj)),
            ("Tax withheld", _tax(obj)),
            ("Interest from", obj.interest_from),
            ("Source", account_link(obj.source_account)),
            ("Own account", account_link(obj.plan_account)),
            ("Recurring payment", _payment_link(obj)),
            ("Owner", obj.owner_id),
            ("Unlocks at", obj.unlock_at),
            ("Looked at next", obj.next_step_at),
            ("Clock", "Its tenant's test clock" if obj.is_on_test_clock else ""),
            ("Id", obj.pk),
            ("Version", obj.version),
            ("Tenant", obj.tenant),
            ("Created", obj.created_at),
            ("Last changed", obj.updated_at),
            ("Ended", obj.ended_at),
            ("Metadata", metadata_lines(obj.metadata)),
        ]

    # A new one.
    def new_form(self, request: HttpRequest, data: Any) -> forms.Form:
        return NewPlanForm(data, request=request)

    def make(self, request: HttpRequest, cleaned: dict[str, Any]) -> SavingsPlan | HttpResponse:
        tenant_id, new = cleaned["tenant_id"], cleaned["new"]

        def make(now: dt.datetime) -> SavingsPlan:
            return services.create_plan(tenant_id=tenant_id, new=new, now=now)

        with in_our_words("The source account"):
            made_id, is_replay = made_once(
                request=request,
                cleaned=cleaned,
                tenant_id=tenant_id,
                asked=fingerprint("savings_plan", dataclasses.asdict(new)),
                what="a plan",
                make=make,
            )
        if is_replay:
            # Nothing was made by this copy of the form, and nothing is logged of it.
            return HttpResponseRedirect(page_url(SavingsPlan, made_id))
        return SavingsPlan.objects.get(pk=made_id)

    # Documents.
    def get_urls(self) -> list[URLPattern]:
        of_plan = [
            path(
                f"<uuid:object_id>/{name}/",
                self.admin_site.admin_view(view),
                name=f"savings_savingsplan_{name}",
            )
            for name, view in (
                ("statement", self.statement_view),
                ("certificate", self.certificate_view),
            )
        ]
        return of_plan + super().get_urls()

    def statement_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """Return the plan's statement of a period as PDF."""
        period = PeriodForm(request.GET)
        if not period.is_valid():
            self.message_user(request, "A statement has two days.", messages.WARNING)
            return HttpResponseRedirect(page_url(SavingsPlan, object_id))

        def make(plan: SavingsPlan) -> bytes:
            return documents.statement_pdf(
                tenant_id=plan.tenant_id,
                plan_id=plan.pk,
                first=period.cleaned_data["from"],
                last=period.cleaned_data["to"],
                now=timezone.now(),
            )

        return self._document(request, object_id, "statement", make)

    def certificate_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """Return a certificate of what is locked in the plan as PDF."""

        def make(plan: SavingsPlan) -> bytes:
            return documents.certificate_pdf(
                tenant_id=plan.tenant_id, plan_id=plan.pk, now=timezone.now()
            )

        return self._document(request, object_id, "certificate", make)

    def _document(
        self,
        request: HttpRequest,
        object_id: UUID,
        name: str,
        make: Callable[[SavingsPlan], bytes],
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        plan = self.get_object(request, str(object_id))
        if plan is None:
            return self._missing(request)
        try:
            document = make(plan)
        except DomainError as refusal:
            self.message_user(request, refusal.detail, messages.WARNING)
            return HttpResponseRedirect(page_url(SavingsPlan, plan.pk))
        return HttpResponse(
            document,
            content_type="application/pdf",
            headers={
                "Content-Disposition": f'attachment; filename="savings-plan-{plan.pk}-{name}.pdf"',
                "X-Content-Type-Options": "nosniff",
            },
        )


def _releases_waiting(request: HttpRequest) -> str:
    """Return how many early releases wait to be decided, in words; empty: none."""
    waiting = EarlyRelease.objects.filter(status=EarlyRelease.Status.REQUESTED)
    if not sees_every_tenant(request):
        waiting = waiting.filter(tenant_id=staff_tenant_id(request))
    count = len(waiting.values_list("pk", flat=True)[: _WAITING_MAX + 1])
    if count > _WAITING_MAX:
        return f"more than {_WAITING_MAX} waiting"
    return f"{count} waiting" if count else ""


def _next_step(plan: SavingsPlan) -> SafeString:
    coming = words.next_date(plan)
    if coming is None:
        return when(None)
    if plan.recurring_payment is None:
        return with_small(when(coming), "unlocks")
    return with_small(when(coming), format_html("{}", money(plan.amount, plan.currency)))


def _day_count(plan: SavingsPlan) -> str:
    if not plan.annual_rate_bps:
        return ""
    return words.DAY_COUNTS[SavingsPlan.DayCount(plan.day_count)]


def _tax(plan: SavingsPlan) -> str:
    tax = plan.withholding_tax_bps
    return f"{format_basis_points(tax)} of the interest" if tax else ""


def _payment_link(plan: SavingsPlan) -> SafeString | str:
    payment_id = plan.recurring_payment_id
    if payment_id is None:
        return ""
    return link_to("payments.RecurringPayment", payment_id, "What puts money aside")
