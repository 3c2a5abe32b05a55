"""
The ledger in the back office: transactions, holds, and what an account's page shows of them.

Nothing here writes a row. A reversal and a release are calls of the services.
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.models import Account
from core.admin import (
    CURSOR_VAR,
    PAGE_ROWS,
    Act,
    BackOfficeAdmin,
    CurrencyFilter,
    Done,
    ReasonForm,
    TenantFilter,
    badge,
    link_to,
    metadata_lines,
    minute,
    money,
    name_of,
    page_url,
    panel_on,
)
from core.errors import InvalidRequest, InvalidState
from core.ids import new_id
from core.keyset import KeysetPage, keyset_page
from core.permissions import Permission
from identity.models import Tenant
from ledger import queries, services
from ledger.errors import InsufficientFunds
from ledger.models import Entry, Hold, Transaction

HOLDS_SHOWN_MAX = 10
SEVERAL = "several accounts"


# --- On an account's page ----------------------------------------------------------------------
@panel_on(Account)
def holds_panel(request: HttpRequest, account: Account) -> str:
    """Return the account's active holds, the newest few."""
    holds = queries.holds_of(tenant_id=account.tenant_id, account_id=account.pk)
    active = holds.filter(status=Hold.Status.ACTIVE)
    shown = list(active.order_by("-pk")[: HOLDS_SHOWN_MAX + 1])
    rows = [
        {
            "hold": link_to(Hold, hold.pk, hold.description or str(hold.pk)),
            "amount": money(hold.amount, hold.currency),
            "placed": hold.created_at,
            "expires": hold.expires_at,
        }
        for hold in shown[:HOLDS_SHOWN_MAX]
    ]
    list_url = reverse("admin:ledger_hold_changelist")
    context = {
        "rows": rows,
        "is_cut": len(shown) > HOLDS_SHOWN_MAX,
        # The tenant too: together they are an index.
        "all_url": f"{list_url}?account={account.pk}&tenant={account.tenant_id}",
    }
    return render_to_string("admin/holds_panel.html", context)


@panel_on(Account)
def statement_panel(request: HttpRequest, account: Account) -> str:
    """Return a page of the running statement, newest first."""
    entries = queries.entries_of(tenant_id=account.tenant_id, account_id=account.pk)

    def page_at(cursor: str | None) -> KeysetPage[Entry]:
        of = f"back-office:statement:{account.pk}"
        return keyset_page(entries, key="sequence", limit=PAGE_ROWS, cursor=cursor, of=of)

    try:
        page = page_at(request.GET.get(CURSOR_VAR))
    except InvalidRequest as refusal:
        messages.warning(request, f"{refusal.detail} This is the first page.")
        page = page_at(None)
    others = queries.counterparties_of(page.rows)
    names = _names(other for other in others.values() if other is not None)
    rows = [
        {
            "entry": entry,
            "transaction": entry.transaction,
            "url": page_url(Transaction, entry.transaction_id),
            "counterparty": _counterparty(others.get(entry.transaction_id), names),
            **_columns(entry),
        }
        for entry in page.rows
    ]
    context = {"rows": rows, "page": page, "cursor_var": CURSOR_VAR}
    return render_to_string("admin/statement_panel.html", context)


def _counterparty(account_id: UUID | None, names: dict[UUID, str]) -> str:
    return SEVERAL if account_id is None else link_to(Account, account_id, names[account_id])


def _names(account_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return what the accounts are called. One query."""
    found = Account.objects.filter(pk__in=set(account_ids)).only("name", "external_id", "currency")
    return {account.pk: name_of(account) for account in found}


def _columns(entry: Entry) -> dict[str, str]:
    """Return the entry as a bookkeeper's columns: debit, credit, balance after."""
    amount = money(abs(entry.amount), entry.currency)
    return {
        "debit": amount if entry.amount < 0 else "",
        "credit": amount if entry.amount > 0 else "",
        "balance": money(entry.balance_after, entry.currency),
    }


# --- Transactions ------------------------------------------------------------------------------
class ReverseForm(ReasonForm):
    # Made when the form is shown: however often it is sent, it posts once.
    key = forms.UUIDField(widget=forms.HiddenInput)


class Reverse(Act[Transaction]):
    name, label, permission = "reverse", "Reverse", Permission.REVERSE_TRANSACTIONS
    warning = "Posts the opposite of this transaction, today. It can be done once."
    is_posting = is_dangerous = True

    def is_offered(self, obj: Transaction) -> bool:
        return queries.reversal_of(transaction_id=obj.pk) is None

    def form(self, obj: Transaction, data: Any) -> ReverseForm:
        return ReverseForm(data, initial={"key": new_id()})

    def run(self, obj: Transaction, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        try:
            posted = services.reverse_transaction(
                tenant_id=obj.tenant_id,
                transaction_id=obj.pk,
                reason=cleaned["reason"],
                # Names who did it. What the form sent is only the end of the key, so that it
                # can never be one of somebody else's.
                idempotency_key=f"back-office:{request.user.pk}:{cleaned['key']}",
            )
        except InsufficientFunds as refusal:
            raise InvalidState(
                "An account that would give the money back has not enough available."
            ) from refusal
        return Done(
            "The transaction is reversed. This is its reversal.",
            page_url(Transaction, posted.id),
            is_replay=posted.is_replay,
        )


@admin.register(Transaction)
class TransactionAdmin(BackOfficeAdmin[Transaction]):
    view_permission = Permission.VIEW_TRANSACTIONS
    list_display = ("transaction", "type_label", "amount_money", "reference", "value")
    list_filter = ("type", CurrencyFilter, TenantFilter)
    search_fields = ("pk",)
    search_help_text = "A whole id, external reference or idempotency key."
    acts = (Reverse(),)

    def search(
        self, queryset: QuerySet[Transaction], text: str, found_id: UUID | None
    ) -> QuerySet[Transaction]:
        if found_id is not None and queryset.filter(pk=found_id).exists():
            return queryset.filter(pk=found_id)
        tenants = Tenant.objects.values("pk")
        # The tenants stand first in these indexes: naming them all is what makes them usable.
        in_index = queryset.filter(tenant_id__in=tenants)
        by_reference = in_index.filter(external_reference=text)
        return by_reference if by_reference.exists() else in_index.filter(idempotency_key=text)

    @admin.display(description="Transaction")
    def transaction(self, obj: Transaction) -> SafeString:
        return format_html("{}<small>{}</small>", minute(obj.created_at), obj.description or obj.pk)

    @admin.display(description="Type")
    def type_label(self, obj: Transaction) -> str:
        return obj.get_type_display()

    @admin.display(description="Amount")
    def amount_money(self, obj: Transaction) -> SafeString:
        return money(obj.amount, obj.currency)

    @admin.display(description="Reference", empty_value="")
    def reference(self, obj: Transaction) -> str | None:
        return obj.external_reference

    @admin.display(description="Value date")
    def value(self, obj: Transaction) -> str:
        return f"{obj.value_date:%Y-%m-%d}"

    def heading(self, obj: Transaction) -> str:
        return f"{obj.get_type_display()} of {minute(obj.created_at)}"

    def figures(self, obj: Transaction) -> list[tuple[str, str]]:
        return [("Amount", money(obj.amount, obj.currency))]

    def facts(self, obj: Transaction) -> list[tuple[str, Any]]:
        reversal = queries.reversal_of(transaction_id=obj.pk)
        return [
            ("Id", obj.pk),
            ("Description", obj.description),
            ("Reverses", link_to(Transaction, obj.reverses_id) if obj.reverses_id else ""),
            ("Reversed by", link_to(Transaction, reversal.pk) if reversal else ""),
            ("Booked", obj.created_at),
            ("Value date", obj.value_date),
            ("External reference", obj.external_reference),
            ("Idempotency key", obj.idempotency_key),
            ("Made by", obj.actor_id),
            ("Request", obj.request_id),
            ("Address", obj.address),
            ("Tenant", obj.tenant),
            ("Metadata", metadata_lines(obj.metadata)),
        ]


@panel_on(Transaction)
def entries_panel(request: HttpRequest, transaction: Transaction) -> str:
    """Return the transaction's entries, each with its account. At most a hundred."""
    entries = queries.entries_of_transaction(transaction_id=transaction.pk)
    names = _names(entry.account_id for entry in entries)
    rows = [
        {
            "account": link_to(Account, entry.account_id, names[entry.account_id]),
            "entry": entry,
            **_columns(entry),
        }
        for entry in entries
    ]
    return render_to_string("admin/entries_panel.html", {"rows": rows})


# --- Holds -------------------------------------------------------------------------------------
class Release(Act[Hold]):
    name, label, permission = "release", "Release", Permission.RELEASE_HOLDS
    warning = "The reserved amount is available to the account's owner again."

    def is_offered(self, obj: Hold) -> bool:
        return obj.status == Hold.Status.ACTIVE

    def run(self, obj: Hold, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.release_hold(
            tenant_id=obj.tenant_id, hold_id=obj.pk, reason=cleaned["reason"], now=timezone.now()
        )
        return Done("The hold is released.")


@admin.register(Hold)
class HoldAdmin(BackOfficeAdmin[Hold]):
    view_permission = Permission.VIEW_HOLDS
    list_display = ("hold", "status_badge", "amount_money", "account_link", "expires")
    list_filter = ("status", CurrencyFilter, TenantFilter)
    list_select_related = ("account",)
    search_fields = ("pk",)
    search_help_text = "A whole id."
    link_lookups = frozenset({"account", "tenant"})
    acts = (Release(),)

    @admin.display(description="Hold")
    def hold(self, obj: Hold) -> SafeString:
        return format_html("{}<small>{}</small>", minute(obj.created_at), obj.description or obj.pk)

    @admin.display(description="Status")
    def status_badge(self, obj: Hold) -> SafeString:
        return badge(obj.status)

    @admin.display(description="Amount")
    def amount_money(self, obj: Hold) -> SafeString:
        return money(obj.amount, obj.currency)

    @admin.display(description="Account")
    def account_link(self, obj: Hold) -> SafeString:
        return link_to(Account, obj.account_id, name_of(obj.account))

    @admin.display(description="Expires", empty_value="never")
    def expires(self, obj: Hold) -> str | None:
        return minute(obj.expires_at) or None

    def heading(self, obj: Hold) -> str:
        return f"Hold of {minute(obj.created_at)}"

    def status(self, obj: Hold) -> SafeString:
        return badge(obj.status)

    def figures(self, obj: Hold) -> list[tuple[str, str]]:
        figures: list[tuple[str, str]] = [("Reserved", money(obj.amount, obj.currency))]
        if obj.captured_amount is not None:
            figures.append(("Captured", money(obj.captured_amount, obj.currency)))
        return figures

    def facts(self, obj: Hold) -> list[tuple[str, Any]]:
        captured_by = obj.transaction_id
        return [
            ("Id", obj.pk),
            ("Account", link_to(Account, obj.account_id, name_of(obj.account))),
            ("Description", obj.description),
            ("Captured by", link_to(Transaction, captured_by) if captured_by else ""),
            ("Placed", obj.created_at),
            ("Expires", obj.expires_at),
            ("Closed", obj.closed_at),
            ("Idempotency key", obj.idempotency_key),
            ("Tenant", obj.tenant),
            ("Metadata", metadata_lines(obj.metadata)),
        ]
