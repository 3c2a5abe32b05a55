"""What several lists and pages of gateways and payments show alike."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db.models import Model
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.models import Account
from core.admin import KeysetChangeList, badge, link_to, minute, name_of
from payments.admin.words import attention_words, in_words
from payments.models import GatewayConfiguration


class AccountNamingList(KeysetChangeList):
    """Knows what the accounts of its rows are called: one query a page."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        names = account_names(account_id_of(row) for row in self.result_list)
        for row in self.result_list:
            row.account_name = names.get(account_id_of(row), "")


def account_id_of(row: Any) -> UUID:
    """Return the account that is credited, or debited."""
    account_id: UUID = (
        row.source_account_id if hasattr(row, "source_account_id") else row.account_id
    )
    return account_id


def account_names(account_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return what the accounts are called; one in another database is not there."""
    found = Account.objects.filter(pk__in=set(account_ids)).only("name", "external_id", "currency")
    return {account.pk: name_of(account) for account in found}


def account_link(row: Any) -> SafeString:
    """Return a link to the account of the row; named at a cost of a query, unless its list did."""
    account_id = account_id_of(row)
    if not hasattr(row, "account_name"):
        row.account_name = account_names([account_id]).get(account_id, "")
    return link_to(Account, account_id, row.account_name)


def transaction_link(transaction_id: UUID | None) -> SafeString | str:
    """Return a link to a transaction of the ledger; nothing where none was posted."""
    model: type[Model] = apps.get_model("ledger", "Transaction")
    return link_to(model, transaction_id) if transaction_id is not None else ""


def gateway_link(configuration: GatewayConfiguration) -> SafeString:
    return link_to(GatewayConfiguration, configuration.pk, str(configuration))


def referenced(row: Any) -> SafeString:
    """Return the first column of a list: when it began, and what the gateway knows it by."""
    moment = minute(row.created_at)
    return format_html('{}<small class="num">{}</small>', moment, row.reference)


def standing(row: Any) -> SafeString:
    """Return the column that says where the row stands, and why a person should look at it."""
    why = attention_words(row.attention)
    shown = status_badge(row.status)
    return format_html("{}<small>{}</small>", shown, why) if why else shown


def status_badge(status: str) -> SafeString:
    # On one line.
    return badge(status, in_words(status).replace(" ", "\u00a0"))
