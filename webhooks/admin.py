"""What gateways told us, in the back office: what arrived, what came of it, and once more."""

import json
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator, capfirst

from core.admin import (
    Act,
    BackOfficeAdmin,
    Done,
    TenantFilter,
    badge,
    link_to,
    metadata_lines,
    minute,
    panel_on,
)
from core.permissions import Permission
from core.redaction import redacted, redacted_text
from identity.models import Tenant
from payments.gateways.port import Kind
from payments.models import GatewayConfiguration, Payment, Payout, Refund
from webhooks import services
from webhooks.models import InboundEvent

BODY_SHOWN_MAX = 4_096
ATTEMPTS_SHOWN_MAX = 50
# Of what the list has.
EVENT_ID_SHOWN_MAX = 28
TEXT_SHOWN_MAX = 36
_MODELS: dict[str, type[Model]] = {
    Kind.PAYMENT: Payment,
    Kind.REFUND: Refund,
    Kind.PAYOUT: Payout,
}
_OUTCOMES = {
    "applied": "The gateway was asked, and what it said was taken down.",
    "unchanged": "It said nothing that we did not know.",
    "ignored": "It is of no concern to us.",
    "unknown_reference": "It is about something that is not in our books.",
    "begun": "A worker has it, or has died with it.",
    "worker_died": "The worker that had it has died.",
    "not_yet": "The gateway did not yet say, when asked, what its notification said.",
}


class Replay(Act[InboundEvent]):
    name, label, permission = "replay", "Replay", Permission.REPLAY_WEBHOOKS
    warning = (
        "A worker looks again at what this is about, and asks the gateway what is true. What was"
        " done before is not done twice."
    )

    def is_offered(self, obj: InboundEvent) -> bool:
        return obj.status == InboundEvent.Status.FAILED

    def run(self, obj: InboundEvent, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.replay_event(tenant_id=obj.tenant_id, event_id=obj.pk, now=timezone.now())
        return Done("The webhook is due again: a worker takes it at once.")


@admin.register(InboundEvent)
class InboundEventAdmin(BackOfficeAdmin[InboundEvent]):
    view_permission = Permission.VIEW_WEBHOOKS
    list_display = ("event", "status_badge", "about", "gateway_name", "tries")
    list_filter = ("status", TenantFilter)
    search_fields = ("pk",)
    search_help_text = "A whole id, reference or event id of the gateway."
    acts = (Replay(),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[InboundEvent]:
        return super().get_queryset(request).defer("body")

    def search(
        self, queryset: QuerySet[InboundEvent], text: str, found_id: UUID | None
    ) -> QuerySet[InboundEvent]:
        if found_id is not None and queryset.filter(pk=found_id).exists():
            return queryset.filter(pk=found_id)
        # The tenants stand first in these indexes: naming them all is what makes them usable.
        in_index = queryset.filter(tenant_id__in=Tenant.objects.values("pk"))
        by_reference = in_index.filter(reference=text)
        if by_reference.exists():
            return by_reference
        return in_index.filter(gateway__in=GatewayConfiguration.Gateway.values, event_id=text)

    @admin.display(description="Event")
    def event(self, obj: InboundEvent) -> SafeString:
        # Midtrans's are made of several.
        event_id = Truncator(obj.event_id).chars(EVENT_ID_SHOWN_MAX)
        return format_html("{}<small>{}</small>", minute(obj.received_at), event_id)

    @admin.display(description="Status")
    def status_badge(self, obj: InboundEvent) -> SafeString:
        return format_html("{}<small>{}</small>", badge(obj.status), _words(obj.outcome))

    @admin.display(description="About")
    def about(self, obj: InboundEvent) -> SafeString:
        named = Truncator(obj.reference or obj.gateway_object_id).chars(TEXT_SHOWN_MAX)
        return format_html('{}<small class="num">{}</small>', _words(obj.kind), named)

    @admin.display(description="Gateway")
    def gateway_name(self, obj: InboundEvent) -> str:
        return _gateway(obj)

    @admin.display(description="Tries")
    def tries(self, obj: InboundEvent) -> int:
        return obj.attempts

    def heading(self, obj: InboundEvent) -> str:
        return f"{_gateway(obj)}, {minute(obj.received_at)}"

    def status(self, obj: InboundEvent) -> SafeString:
        return badge(obj.status)

    def facts(self, obj: InboundEvent) -> list[tuple[str, Any]]:
        report = {name: value for name, value in obj.status_report.items() if value is not None}
        return [
            ("Next", _next(obj)),
            ("It is about", _object_link(obj)),
            ("Claims", _words(obj.claimed_state)),
            ("Failure", _words(obj.failure_code)),
            ("As a pain.002", metadata_lines(report)),
            ("Gateway", link_to(GatewayConfiguration, obj.configuration_id, _gateway(obj))),
            ("Event id", obj.event_id),
            ("Reference", obj.reference),
            ("Gateway's id", obj.gateway_object_id),
            ("Attempts", obj.attempts),
            ("Received", obj.received_at),
            ("Processed", obj.processed_at),
            ("Next attempt", obj.next_attempt_at),
            ("Headers", metadata_lines(obj.headers)),
            ("Id", obj.pk),
            ("Tenant", obj.tenant),
        ]


@panel_on(InboundEvent)
def attempts_panel(request: HttpRequest, event: InboundEvent) -> str:
    """Return the attempts that failed, the latest first."""
    shown = list(event.attempt_log.order_by("-number")[: ATTEMPTS_SHOWN_MAX + 1])
    rows = [{"attempt": each, "outcome": _words(each.outcome)} for each in shown]
    context = {"rows": rows[:ATTEMPTS_SHOWN_MAX], "is_cut": len(shown) > ATTEMPTS_SHOWN_MAX}
    return render_to_string("admin/inbound_attempts_panel.html", context)


@panel_on(InboundEvent)
def body_panel(request: HttpRequest, event: InboundEvent) -> str:
    """Return what arrived, without secrets, its beginning."""
    text = readable(bytes(event.body))
    context = {"body": text[:BODY_SHOWN_MAX], "is_cut": len(text) > BODY_SHOWN_MAX}
    return render_to_string("admin/inbound_body_panel.html", context)


def readable(body: bytes) -> str:
    """Return a body without secrets: JSON with indents, anything else as it is."""
    text = body.decode("utf-8", errors="backslashreplace")
    try:
        return json.dumps(redacted(json.loads(text)), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return redacted_text(text)


def _next(event: InboundEvent) -> str:
    came_to = _OUTCOMES.get(event.outcome, "It led to an error of ours; the log has it.")
    if event.status == InboundEvent.Status.SUCCEEDED:
        return f"{came_to} Nothing more is done."
    if event.status == InboundEvent.Status.FAILED:
        return f"{came_to} Nothing more is done by itself: replay it once the cause is gone."
    due = f"It is processed at {minute(event.next_attempt_at)} UTC."
    return f"{came_to} {due}" if event.outcome else due


def _object_link(event: InboundEvent) -> SafeString | str:
    """Return a link to what it is about, if that is ours."""
    model = _MODELS.get(event.kind)
    if model is None or not event.reference:
        return ""
    rows = model._default_manager.filter(tenant_id=event.tenant_id, reference=event.reference)
    object_id = rows.values_list("pk", flat=True).first()
    if object_id is None:
        return ""
    return link_to(model, object_id, f"{model._meta.verbose_name} {event.reference}")


def _gateway(event: InboundEvent) -> str:
    known = GatewayConfiguration.Gateway.values
    return (
        GatewayConfiguration.Gateway(event.gateway).label
        if event.gateway in known
        else event.gateway
    )


def _words(code: str) -> str:
    return str(capfirst(code.replace("_", " ")))
