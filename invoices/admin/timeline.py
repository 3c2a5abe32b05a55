"""What happened to an invoice and to all that belongs to it, by the audit trail, newest first."""

from collections.abc import Mapping
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from core.admin import CURSOR_VAR, as_id, link_to, may
from core.errors import InvalidRequest
from core.keyset import KeysetPage, keyset_page
from core.models import AuditRecord
from core.permissions import Permission
from identity.models import ApiKey, User
from invoices.admin import words
from invoices.models import Invoice

SHOWN = 25


def timeline(request: HttpRequest, invoice: Invoice, parts: Mapping[UUID, SafeString]) -> str:
    """Return a page of it; `parts` are the ids of what belongs to the invoice, with their links."""
    records = AuditRecord.objects.filter(
        tenant_id=invoice.tenant_id, object_id__in=[invoice.pk, *parts]
    ).defer("object_ids")

    def page_at(cursor: str | None) -> KeysetPage[AuditRecord]:
        of = f"back-office:timeline:{invoice.pk}"
        return keyset_page(records, key="pk", limit=SHOWN, cursor=cursor, of=of)

    try:
        page = page_at(request.GET.get(CURSOR_VAR))
    except InvalidRequest as refusal:
        messages.warning(request, f"{refusal.detail} This is the first page.")
        page = page_at(None)
    names = _names({record.actor_id for record in page.rows}, invoice.tenant_id)
    may_look_closer = may(request, Permission.VIEW_AUDIT)
    rows = [
        {
            "when": record.created_at,
            "who": names.get(record.actor_id, _actor(record.actor_id)),
            "what": words.happened(record, invoice.currency),
            "reason": record.reason,
            "about": parts.get(record.object_id) if record.object_id else None,
            "record": link_to(AuditRecord, record.pk, "Record") if may_look_closer else "",
        }
        for record in page.rows
    ]
    context = {"rows": rows, "page": page, "cursor_var": CURSOR_VAR}
    return render_to_string("admin/invoice_timeline.html", context)


def _names(actors: set[str], tenant_id: UUID) -> dict[str, str]:
    """Return what people and keys are called, by their name in the audit trail. Two queries."""
    ids: dict[str, list[UUID]] = {"user": [], "key": []}
    for actor in actors:
        kind, _, text = actor.partition(":")
        found = as_id(text)
        if kind in ids and found is not None:
            ids[kind].append(found)
    names: dict[str, str] = {}
    if ids["user"]:
        people = User.objects.filter(pk__in=ids["user"]).values_list("pk", "email")
        names |= {f"user:{pk}": email for pk, email in people}
    if ids["key"]:
        keys = ApiKey.objects.filter(tenant_id=tenant_id, pk__in=ids["key"])
        names |= {f"key:{pk}": f"API key {name}" for pk, name in keys.values_list("pk", "name")}
    return names


def _actor(actor: str) -> str:
    kind, _, _ = actor.partition(":")
    if kind == "anonymous":
        # Whoever has the payer's address; gateways' notifications are processed by tasks.
        return "the payer"
    return "by itself" if kind in ("task", "system") else actor
