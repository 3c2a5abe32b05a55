"""What happened to an invoice and to all that belongs to it, by the audit trail, newest first."""

from collections.abc import Mapping
from uuid import UUID

from django.http import HttpRequest
from django.utils.safestring import SafeString

from core import panels
from identity.queries import actor_names
from invoices.admin import words
from invoices.models import Invoice


def timeline(request: HttpRequest, invoice: Invoice, parts: Mapping[UUID, SafeString]) -> str:
    """Return a page of it; `parts` are the ids of what belongs to the invoice, with their links."""

    def names_of(actors: set[str]) -> dict[str, str]:
        # Whoever has the payer's address; gateways' notifications are processed by tasks.
        payers = {each: "the payer" for each in actors if each.startswith("anonymous")}
        return actor_names(tenant_id=invoice.tenant_id, actor_ids=actors) | payers

    return panels.timeline(
        request,
        tenant_id=invoice.tenant_id,
        object_id=invoice.pk,
        parts=parts,
        happened=lambda record: words.happened(record, invoice.currency),
        names_of=names_of,
    )
