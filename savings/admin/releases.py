"""Early releases of locked plans: who asks, who decides."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.admin import (
    Act,
    BackOfficeAdmin,
    Done,
    KeysetChangeList,
    StandingFilter,
    TenantFilter,
    money,
    panel_on,
)
from core.forms import WithReason, asked_by
from core.panels import status_badge, when, with_small
from core.permissions import Permission
from identity.queries import actor_names
from savings import services
from savings.admin.acts import in_our_words
from savings.admin.columns import account_link, plan_link
from savings.models import EarlyRelease

_S = EarlyRelease.Status
_ASKED_BY_YOU = "You asked for it: somebody else decides."


class _Decide(Act[EarlyRelease]):
    permission = Permission.DECIDE_EARLY_RELEASE
    service: ClassVar[Any]
    done: ClassVar[str]

    def is_offered(self, obj: EarlyRelease) -> bool:
        return obj.status == _S.REQUESTED

    def form(self, obj: EarlyRelease, data: Any) -> WithReason:
        return WithReason(data)

    def run(self, obj: EarlyRelease, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        with in_our_words("The plan"):
            type(self).service(
                tenant_id=obj.tenant_id,
                release_id=obj.pk,
                reason=cleaned["reason"],
                now=timezone.now(),
            )
        return Done(self.done)


class Approve(_Decide):
    name, label = "approve", "Approve"
    warning = (
        "The plan's interest is posted until yesterday, all of it is paid out to its source at"
        " once, and it is closed. That is final."
    )
    is_posting = is_dangerous = True
    service = staticmethod(services.approve_release)
    done = "Approved: the plan is paid out and closed."


class Reject(_Decide):
    name, label = "reject", "Reject"
    warning = "The plan stays locked until its date. Another early release may be asked for."
    service = staticmethod(services.reject_release)
    done = "Rejected: the plan stays locked."


class StatusFilter(StandingFilter):
    title = "status"
    parameter_name = "status"
    standing_label = "Waiting"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, str]]:
        return [("approved", "Approved"), ("rejected", "Rejected"), ("all", "All")]

    def standing(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(status=_S.REQUESTED)

    def others(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(status=self.value())


class _PeopleNamingList(KeysetChangeList):
    """Knows what those who asked and decided are called: one query a page."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        _name_people(self.result_list)


@admin.register(EarlyRelease)
class EarlyReleaseAdmin(BackOfficeAdmin[EarlyRelease]):
    view_permission = Permission.VIEW_SAVINGS_PLANS
    list_display = ("asked", "status_badge", "plan_shown", "amount_money", "why", "decided")
    list_filter = (StatusFilter, TenantFilter)
    search_fields = ("pk",)
    search_help_text = "A whole id, its own or its plan's."
    acts = (Approve(), Reject())

    def get_queryset(self, request: HttpRequest) -> QuerySet[EarlyRelease]:
        queryset = super().get_queryset(request)
        return queryset.select_related("plan__plan_account", "plan__source_account", "tenant")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return _PeopleNamingList

    def search(
        self, queryset: QuerySet[EarlyRelease], text: str, found_id: Any
    ) -> QuerySet[EarlyRelease]:
        if found_id is None:
            return queryset.none()
        its_own = queryset.filter(pk=found_id)
        return its_own if its_own.exists() else queryset.filter(plan_id=found_id)

    def offered_acts(self, request: HttpRequest, obj: EarlyRelease) -> list[Act[Any]]:
        # The service refuses it in any case.
        if obj.requested_by == asked_by(request):
            return []
        return super().offered_acts(request, obj)

    @admin.display(description="Asked for, UTC")
    def asked(self, obj: EarlyRelease) -> SafeString:
        return with_small(when(obj.requested_at), _person(obj, obj.requested_by))

    @admin.display(description="Status")
    def status_badge(self, obj: EarlyRelease) -> SafeString:
        return status_badge(obj.status)

    @admin.display(description="Plan")
    def plan_shown(self, obj: EarlyRelease) -> SafeString:
        return with_small(plan_link(obj.plan), format_html("until {}", when(obj.plan.unlock_date)))

    @admin.display(description="In the plan")
    def amount_money(self, obj: EarlyRelease) -> SafeString:
        return money(obj.plan.plan_account.balance, obj.plan.currency)

    @admin.display(description="Reason")
    def why(self, obj: EarlyRelease) -> str:
        return obj.reason

    @admin.display(description="Decided, UTC")
    def decided(self, obj: EarlyRelease) -> SafeString:
        if obj.decided_at is None:
            return when(None)
        return with_small(when(obj.decided_at), _person(obj, obj.decided_by))

    def heading(self, obj: EarlyRelease) -> str:
        return f"Early release of {obj.plan.name}"

    def status(self, obj: EarlyRelease) -> SafeString:
        return status_badge(obj.status)

    def figures(self, obj: EarlyRelease) -> list[tuple[str, str]]:
        return [
            ("In the plan", money(obj.plan.plan_account.balance, obj.plan.currency)),
            ("Locked until", str(obj.plan.unlock_date)),
        ]

    def facts(self, obj: EarlyRelease) -> list[tuple[str, Any]]:
        _name_people([obj])
        return [
            ("Plan", plan_link(obj.plan)),
            ("Paid out to", account_link(obj.plan.source_account)),
            ("Reason", obj.reason),
            ("Asked for by", _person(obj, obj.requested_by)),
            ("Asked for", obj.requested_at),
            ("Decided by", _person(obj, obj.decided_by)),
            ("Decided", obj.decided_at),
            ("Reason of decision", obj.decision_reason),
            ("Id", obj.pk),
            ("Tenant", obj.tenant),
        ]


@panel_on(EarlyRelease)
def who_decides_panel(request: HttpRequest, release: EarlyRelease) -> SafeString | str:
    """Return why the one who asked has no buttons; nothing for others."""
    is_own = release.status == _S.REQUESTED and release.requested_by == asked_by(request)
    return format_html('<p class="warning">{}</p>', _ASKED_BY_YOU) if is_own else ""


def _name_people(releases: list[EarlyRelease]) -> None:
    actors = {each.requested_by for each in releases} | {each.decided_by for each in releases}
    tenants = {each.tenant_id for each in releases}
    names: dict[str, str] = {}
    if tenants:
        # People are found whatever their tenant; no keys ask or decide.
        names = actor_names(tenant_id=next(iter(tenants)), actor_ids=actors)
    for each in releases:
        each.people = names  # type: ignore[attr-defined]


def _person(release: EarlyRelease, actor_id: str) -> str:
    names: dict[str, str] = getattr(release, "people", {})
    return names.get(actor_id, actor_id)
