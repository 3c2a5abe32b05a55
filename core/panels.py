"""Panels that several apps have on their pages: a table, and what happened to an object."""

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.admin import CURSOR_VAR, badge, in_words, link_to, may, minute
from core.errors import InvalidRequest
from core.keyset import KeysetPage, keyset_page
from core.models import AuditRecord
from core.permissions import Permission

TIMELINE_SHOWN = 25


def table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    numbers: Collection[str] = ("Amount",),
    totals: Sequence[tuple[str, Any]] = (),
    note: str = "",
) -> str:
    """Return a panel with a table, `numbers` to the right; nothing where it has no rows."""
    if not rows:
        return ""
    named = [(text, text in numbers) for text in headings]
    context = {
        "title": title,
        "headings": named,
        "rows": [list(zip(named, map(_shown, row), strict=True)) for row in rows],
        "totals": totals,
        "span": len(named) - 1,
        "note": note,
    }
    return render_to_string("admin/table_panel.html", context)


def _shown(value: Any) -> Any:
    return when(value) if value is None or isinstance(value, dt.date) else value


def when(value: dt.date | dt.datetime | None) -> SafeString:
    """Return a day, or a moment in UTC, as tables show it: on one line."""
    text = minute(value) if isinstance(value, dt.datetime) else value or ""
    return format_html('<span class="time">{}</span>', text)


def status_badge(status: str) -> SafeString:
    # On one line.
    return badge(status, in_words(status).replace(" ", "\u00a0"))


def with_small(text: Any, small: Any) -> SafeString:
    """Return a cell of a list: what it says first, and less of it below."""
    return format_html("{}<small>{}</small>", text, small) if small else format_html("{}", text)


def timeline(
    request: HttpRequest,
    *,
    tenant_id: UUID,
    object_id: UUID,
    parts: Mapping[UUID, SafeString],
    happened: Callable[[AuditRecord], str],
    names_of: Callable[[set[str]], Mapping[str, str]],
) -> str:
    """
    Return a page of what happened to the object and its parts, newest first.

    `parts` are the ids of what belongs to it, with their links; `happened` says a record in words,
    `names_of` what the actors of some are called.
    """
    records = AuditRecord.objects.filter(
        tenant_id=tenant_id, object_id__in=[object_id, *parts]
    ).defer("object_ids")

    def page_at(cursor: str | None) -> KeysetPage[AuditRecord]:
        of = f"back-office:timeline:{object_id}"
        return keyset_page(records, key="pk", limit=TIMELINE_SHOWN, cursor=cursor, of=of)

    try:
        page = page_at(request.GET.get(CURSOR_VAR))
    except InvalidRequest as refusal:
        messages.warning(request, f"{refusal.detail} This is the first page.")
        page = page_at(None)
    names = names_of({record.actor_id for record in page.rows})
    may_look_closer = may(request, Permission.VIEW_AUDIT)
    rows = [
        {
            "when": record.created_at,
            "who": names.get(record.actor_id, record.actor_id),
            "what": happened(record),
            "reason": record.reason,
            "about": parts.get(record.object_id) if record.object_id else None,
            "record": link_to(AuditRecord, record.pk, "Record") if may_look_closer else "",
        }
        for record in page.rows
    ]
    context = {"rows": rows, "page": page, "cursor_var": CURSOR_VAR}
    return render_to_string("admin/timeline_panel.html", context)
