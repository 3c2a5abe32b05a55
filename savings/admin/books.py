"""How far the interest of each tenant was worked out."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from core.admin import BackOfficeAdmin, TenantFilter, badge
from core.panels import when, with_small
from core.permissions import Permission
from savings.models import InterestBook


@admin.register(InterestBook)
class InterestBookAdmin(BackOfficeAdmin[InterestBook]):
    view_permission = Permission.VIEW_SAVINGS_PLANS
    list_display = ("accrued", "posted", "under_way", "next_due")
    list_filter = (TenantFilter,)
    list_select_related = ("tenant",)
    search_fields = ("pk",)
    search_help_text = "The whole id of a tenant."

    def get_queryset(self, request: HttpRequest) -> QuerySet[InterestBook]:
        return super().get_queryset(request).select_related("tenant")

    @admin.display(description="Accrued to")
    def accrued(self, obj: InterestBook) -> SafeString:
        return when(obj.accrued_to)

    @admin.display(description="Posted to")
    def posted(self, obj: InterestBook) -> SafeString:
        return when(obj.posted_to)

    @admin.display(description="Pass")
    def under_way(self, obj: InterestBook) -> SafeString:
        return _pass(obj)

    @admin.display(description="Next, UTC")
    def next_due(self, obj: InterestBook) -> SafeString:
        clock = "by its test clock" if obj.is_on_test_clock else ""
        return with_small(when(obj.next_due_at), clock)

    def heading(self, obj: InterestBook) -> str:
        return f"Interest of {obj.tenant}"

    def figures(self, obj: InterestBook) -> list[tuple[str, str]]:
        return [
            ("Accrued to", str(obj.accrued_to)),
            ("Posted to", str(obj.posted_to)),
            ("Plans of the last pass", f"{obj.plan_count:,}"),
        ]

    def facts(self, obj: InterestBook) -> list[tuple[str, Any]]:
        return [
            ("Pass", _pass(obj)),
            ("Accruing to", obj.accruing_to),
            ("After the plan", obj.accrued_plan_id if obj.accruing_to else None),
            ("Posting to", obj.posting_to),
            ("After the plan", obj.posted_plan_id if obj.posting_to else None),
            ("Next", obj.next_due_at),
            ("Clock", "Its tenant's test clock" if obj.is_on_test_clock else ""),
            ("Tenant", obj.tenant),
            ("Last written", obj.updated_at),
        ]


def _pass(book: InterestBook) -> SafeString:
    """Return what is being worked out, and how many plans were gone through."""
    if book.accruing_to is not None:
        what = badge("waiting", f"Accruing to {book.accruing_to}")
    elif book.posting_to is not None:
        what = badge("waiting", f"Posting to {book.posting_to}")
    else:
        return with_small(badge("succeeded", "None under way"), f"{book.plan_count:,} plans last")
    return with_small(what, f"{book.plan_count:,} plans so far")
