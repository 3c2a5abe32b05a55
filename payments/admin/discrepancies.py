"""Where a gateway's books and ours differ, in the back office: what it means, and what to do."""

import datetime as dt
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator, capfirst

from core.admin import (
    Act,
    BackOfficeAdmin,
    Done,
    ReasonForm,
    StandingFilter,
    TenantFilter,
    badge,
    link_to,
    may,
    money,
    panel_on,
)
from core.permissions import Permission
from payments import services
from payments.admin import words
from payments.admin.columns import gateway_link, status_badge
from payments.models import Discrepancy, Payment, Payout, Refund

# Of the line above the list: nobody counts further.
COUNTED_MAX = 1_000
# Of what each side says, in the list.
SIDE_SHOWN_MAX = 80
# Longer than any of ours.
REFERENCE_SHOWN_MAX = 40
_RESOLVED_AS = {**services.RESOLUTIONS, "came_right": "It came right by itself"}
_MODELS: dict[str, type[Model]] = {"payment": Payment, "payout": Payout, "refund": Refund}


class ResolveForm(ReasonForm):
    def __init__(self, data: Any, *, found: Discrepancy) -> None:
        super().__init__(data)
        effects = words.effects_of(found)
        self.fields["resolution"] = forms.ChoiceField(
            choices=[(name, services.RESOLUTIONS[name]) for name in effects],
            widget=forms.RadioSelect,
            help_text=_effects_listed(effects),
        )
        self.order_fields(["resolution", "reason"])
        self.fields["reason"].label = "Note"
        self.fields["reason"].help_text = "What you found, for whoever asks later."


class Resolve(Act[Discrepancy]):
    name, label, permission = "resolve", "Resolve", Permission.RESOLVE_DISCREPANCIES
    warning = "What you choose is done first. Only if it helped is the difference resolved."
    # A gateway is called and the ledger posted to, each in its own transaction.
    is_posting = True

    def is_offered(self, obj: Discrepancy) -> bool:
        return obj.status == Discrepancy.Status.OPEN

    def form(self, obj: Discrepancy, data: Any) -> ResolveForm:
        return ResolveForm(data, found=obj)

    def run(self, obj: Discrepancy, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.resolve_discrepancy(
            tenant_id=obj.tenant_id,
            discrepancy_id=obj.pk,
            resolution=cleaned["resolution"],
            note=cleaned["reason"],
            now=timezone.now(),
        )
        return Done("The difference is resolved.")


class StatusFilter(StandingFilter):
    title = "status"
    parameter_name = "status"
    standing_label = "Open"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, str]]:
        return [("resolved", "Resolved"), ("all", "All")]

    def standing(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(status=Discrepancy.Status.OPEN)

    def others(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(status=Discrepancy.Status.RESOLVED)


@admin.register(Discrepancy)
class DiscrepancyAdmin(BackOfficeAdmin[Discrepancy]):
    view_permission = Permission.VIEW_DISCREPANCIES
    list_display = ("difference", "status_badge", "amount_money", "ours", "theirs")
    list_filter = (StatusFilter, "kind", TenantFilter)
    list_select_related = ("configuration",)
    search_fields = ("pk",)
    search_help_text = "A whole id, or the reference of what it is about."
    change_list_template = "admin/discrepancy_list.html"
    acts = (Resolve(),)

    def search(
        self, queryset: QuerySet[Discrepancy], text: str, found_id: UUID | None
    ) -> QuerySet[Discrepancy]:
        # There are few of them: whatever has an index of its own is not worth one here.
        if found_id is not None:
            by_id = queryset.filter(pk=found_id)
            return by_id if by_id.exists() else queryset.filter(object_id=found_id)
        return queryset.filter(reference=text)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        found = self.get_queryset(request).filter(status=Discrepancy.Status.OPEN)
        moments = found.order_by("pk").values_list("found_at", flat=True)
        context = {
            "summary": _summary(list(moments[: COUNTED_MAX + 1]), timezone.now()),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    @admin.display(description="Difference")
    def difference(self, obj: Discrepancy) -> SafeString:
        return format_html(
            '{}<small class="num">{}</small><small>{}</small>',
            _kind(obj),
            Truncator(obj.reference).chars(REFERENCE_SHOWN_MAX),
            obj.configuration,
        )

    @admin.display(description="Status")
    def status_badge(self, obj: Discrepancy) -> SafeString:
        age = words.age(obj.found_at, obj.resolved_at or timezone.now())
        is_open = obj.status == Discrepancy.Status.OPEN
        age_said = f"for {age}" if is_open else f"after {age}"
        return format_html("{}<small>{}</small>", badge(obj.status), age_said)

    @admin.display(description="In question", empty_value="")
    def amount_money(self, obj: Discrepancy) -> SafeString | None:
        return None if obj.amount is None else money(obj.amount, obj.currency)

    @admin.display(description="Ours")
    def ours(self, obj: Discrepancy) -> str:
        return Truncator(_side(obj, "ours")).chars(SIDE_SHOWN_MAX)

    @admin.display(description="Theirs")
    def theirs(self, obj: Discrepancy) -> str:
        return Truncator(_side(obj, "theirs")).chars(SIDE_SHOWN_MAX)

    def heading(self, obj: Discrepancy) -> str:
        return _kind(obj)

    def status(self, obj: Discrepancy) -> SafeString:
        return badge(obj.status)

    def figures(self, obj: Discrepancy) -> list[tuple[str, str]]:
        figures = [("Our books say", _side(obj, "ours")), ("They say", _side(obj, "theirs"))]
        if obj.amount is not None:
            figures.append(("In question", money(obj.amount, obj.currency)))
        return figures

    def facts(self, obj: Discrepancy) -> list[tuple[str, Any]]:
        resolution = _RESOLVED_AS.get(obj.resolution, words.in_words(obj.resolution))
        refusal = str(obj.detail.get("refusal", ""))
        return [
            ("What it means", words.meaning_of(obj)),
            ("It is about", _object_link(obj)),
            ("Refused as", words.in_words(refusal)),
            ("Gateway", gateway_link(obj.configuration)),
            ("Reference", obj.reference),
            ("Found", obj.found_at),
            ("Last seen", obj.seen_at),
            ("Resolution", resolution),
            ("Note", obj.resolution_note),
            ("Resolved by", obj.resolved_by),
            ("Resolved", obj.resolved_at),
            ("Id", obj.pk),
            ("Tenant", obj.tenant),
        ]


@panel_on(Discrepancy)
def resolutions_panel(request: HttpRequest, found: Discrepancy) -> str:
    """Return what each resolution would do, while one is needed."""
    if found.status != Discrepancy.Status.OPEN:
        return ""
    effects = _effects_listed(words.effects_of(found))
    return render_to_string("admin/resolutions_panel.html", {"effects": effects})


@panel_on(Payment)
@panel_on(Refund)
@panel_on(Payout)
def discrepancies_panel(request: HttpRequest, row: Any) -> str:
    """Return the open differences about the object; nothing where there are none."""
    if not may(request, Permission.VIEW_DISCREPANCIES):
        return ""
    found = Discrepancy.objects.filter(
        tenant_id=row.tenant_id, status=Discrepancy.Status.OPEN, object_id=row.pk
    )
    rows = [
        {
            "difference": link_to(Discrepancy, each.pk, _kind(each)),
            "found": each.found_at,
            "ours": _side(each, "ours"),
            "theirs": _side(each, "theirs"),
        }
        # One of a kind.
        for each in found.order_by("pk")[: len(Discrepancy.Kind)]
    ]
    return render_to_string("admin/discrepancies_panel.html", {"rows": rows}) if rows else ""


def _effects_listed(effects: dict[str, str]) -> SafeString:
    lines = [(services.RESOLUTIONS[name], effect) for name, effect in effects.items()]
    return format_html("<ul>{}</ul>", format_html_join("", "<li><b>{}</b>: {}</li>", lines))


def _kind(found: Discrepancy) -> str:
    return str(capfirst(found.get_kind_display()))


def _side(found: Discrepancy, side: str) -> str:
    """Return what one side says."""
    return words.said(str(found.detail.get(side, "")))


def _object_link(found: Discrepancy) -> SafeString | str:
    """Return a link to what it is about, and where that stands now."""
    model = _MODELS.get(found.object_type)
    if model is None or found.object_id is None:
        return ""
    row: Any = model._default_manager.filter(pk=found.object_id).only("status").first()
    if row is None:
        return ""
    name = model._meta.verbose_name
    text = f"{name} {found.reference}"
    return format_html("{} {}", link_to(model, found.object_id, text), status_badge(row.status))


def _summary(found: list[dt.datetime], now: dt.datetime) -> str:
    """Return how many are open and since when; `found` has the oldest first."""
    if not found:
        return ""
    oldest = words.age(min(found), now)
    day, week = now - dt.timedelta(days=1), now - dt.timedelta(days=7)
    fresh = sum(moment > day for moment in found)
    old = sum(moment <= week for moment in found)
    ages = [
        (fresh, "found within a day"),
        (len(found) - fresh - old, "within a week"),
        (old, "older than a week"),
    ]
    parts = ", ".join(f"{number:,} {label}" for number, label in ages if number)
    if len(found) > COUNTED_MAX:
        return f"More than {COUNTED_MAX:,} are open, the oldest for {oldest}."
    return f"{len(found):,} open: {parts}. The oldest has waited for {oldest}."
