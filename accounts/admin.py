"""Accounts in the back office. The statement and the holds on their pages are the ledger's."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts import services
from accounts.models import Account
from core.admin import (
    Act,
    BackOfficeAdmin,
    CurrencyFilter,
    Done,
    ReasonForm,
    TenantFilter,
    badge,
    metadata_lines,
    money,
    name_of,
)
from core.metadata import metadata_fault
from core.money import BALANCE_MAX, Money, exponent
from core.permissions import Permission
from identity.models import Tenant


class _StatusAct(Act[Account]):
    service: Any
    sentence: str

    def run(self, obj: Account, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        type(self).service(
            tenant_id=obj.tenant_id,
            account_id=obj.pk,
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done(self.sentence)


class Freeze(_StatusAct):
    name, label, permission = "freeze", "Freeze", Permission.FREEZE_ACCOUNTS
    warning = "The account takes no entries, neither debits nor credits, until it is unfrozen."
    sentence = "The account is frozen."
    service = staticmethod(services.freeze_account)

    def is_offered(self, obj: Account) -> bool:
        return obj.status == Account.Status.ACTIVE and obj.type != Account.Type.INTERNAL


class Unfreeze(_StatusAct):
    name, label, permission = "unfreeze", "Unfreeze", Permission.UNFREEZE_ACCOUNTS
    warning = "The account takes debits and credits again."
    sentence = "The account is active again."
    service = staticmethod(services.unfreeze_account)

    def is_offered(self, obj: Account) -> bool:
        return obj.status == Account.Status.FROZEN


class Close(_StatusAct):
    name, label, permission = "close", "Close", Permission.UNFREEZE_ACCOUNTS
    warning = "Closed is for good. Balance and holds must be zero."
    is_dangerous = True
    sentence = "The account is closed."
    service = staticmethod(services.close_account)

    def is_offered(self, obj: Account) -> bool:
        return obj.status != Account.Status.CLOSED and obj.type != Account.Type.INTERNAL


class ChangeAccountForm(ReasonForm):
    name = forms.CharField(max_length=200, required=False)
    metadata = forms.JSONField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text='A JSON object of strings, such as {"segment": "retail"}.',
    )
    field_order = ["name", "overdraft_limit", "metadata", "reason"]

    def __init__(self, data: Any, *, account: Account) -> None:
        self.account = account
        initial: dict[str, Any] = {"name": account.name, "metadata": account.metadata}
        currency = account.currency
        if account.overdraft_limit is not None:
            initial["overdraft_limit"] = Money(account.overdraft_limit, currency).decimal
        super().__init__(data, initial=initial)
        if account.overdraft_limit is not None:
            self.fields["overdraft_limit"] = forms.DecimalField(
                label=f"Overdraft limit in {currency}",
                min_value=0,
                max_value=Money(BALANCE_MAX, currency).decimal,
                decimal_places=exponent(currency),
                help_text="How far below zero the account may go.",
            )
            self.order_fields(self.field_order)

    def clean_metadata(self) -> dict[str, str]:
        metadata: dict[str, str] = self.cleaned_data["metadata"] or {}
        fault = metadata_fault(metadata)
        if fault is not None:
            raise ValidationError(fault)
        return metadata

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            cleaned["changes"] = self._changes(cleaned)
            if not cleaned["changes"]:
                raise ValidationError("Nothing is different.")
        return cleaned

    def _changes(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        """Return what differs from the account, as the service takes it."""
        wanted = {"name": cleaned["name"], "metadata": cleaned["metadata"]}
        if "overdraft_limit" in cleaned:
            limit = Money.from_decimal(cleaned["overdraft_limit"], self.account.currency)
            wanted["overdraft_limit"] = limit.minor_units
        return {
            name: value for name, value in wanted.items() if value != getattr(self.account, name)
        }


class Change(Act[Account]):
    name, label, permission = "edit", "Change", Permission.CHANGE_ACCOUNTS
    warning = "Only the name, the overdraft limit and the metadata can be changed."

    def is_offered(self, obj: Account) -> bool:
        return obj.status != Account.Status.CLOSED

    def form(self, obj: Account, data: Any) -> ChangeAccountForm:
        return ChangeAccountForm(data, account=obj)

    def run(self, obj: Account, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.change_account(
            tenant_id=obj.tenant_id,
            account_id=obj.pk,
            changes=cleaned["changes"],
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done("The account is changed.")


@admin.register(Account)
class AccountAdmin(BackOfficeAdmin[Account]):
    list_display = ("account", "type", "status_badge", "balance_money", "available_money", "opened")
    list_filter = ("status", "type", CurrencyFilter, TenantFilter)
    search_fields = ("pk",)
    search_help_text = "A whole id, owner's id or external id."
    acts = (Freeze(), Unfreeze(), Change(), Close())
    view_permission = Permission.VIEW_ACCOUNTS

    def search(
        self, queryset: QuerySet[Account], text: str, found_id: UUID | None
    ) -> QuerySet[Account]:
        if found_id is not None and queryset.filter(pk=found_id).exists():
            return queryset.filter(pk=found_id)
        # The tenants stand first in these indexes: naming them all is what makes them usable.
        in_index = queryset.filter(tenant_id__in=Tenant.objects.values("pk"))
        by_external_id = in_index.filter(external_id=text)
        if found_id is None or by_external_id.exists():
            return by_external_id
        return in_index.filter(owner_id=found_id)

    @admin.display(description="Account")
    def account(self, obj: Account) -> SafeString:
        return format_html("{}<small>{}</small>", name_of(obj), obj.pk)

    @admin.display(description="Status")
    def status_badge(self, obj: Account) -> SafeString:
        return badge(obj.status)

    @admin.display(description="Balance")
    def balance_money(self, obj: Account) -> SafeString:
        return money(obj.balance, obj.currency)

    @admin.display(description="Available")
    def available_money(self, obj: Account) -> SafeString:
        return money(obj.available, obj.currency)

    @admin.display(description="Opened")
    def opened(self, obj: Account) -> str:
        return f"{obj.created_at:%Y-%m-%d}"

    def status(self, obj: Account) -> SafeString:
        return badge(obj.status)

    def figures(self, obj: Account) -> list[tuple[str, str]]:
        return [
            ("Balance", money(obj.balance, obj.currency)),
            ("Held", money(obj.held, obj.currency)),
            ("Available", money(obj.available, obj.currency)),
            ("Overdraft limit", money(obj.overdraft_limit, obj.currency)),
        ]

    def facts(self, obj: Account) -> list[tuple[str, Any]]:
        return [
            ("Id", obj.pk),
            ("Type", obj.get_type_display()),
            ("Role", obj.get_role_display() if obj.role else ""),
            ("Currency", obj.currency),
            ("External id", obj.external_id),
            ("Owner", obj.owner_id),
            ("Tenant", obj.tenant),
            ("No debits until", obj.debit_locked_until),
            ("Opened", obj.created_at),
            ("Last changed", obj.updated_at),
            ("Metadata", metadata_lines(obj.metadata)),
        ]
