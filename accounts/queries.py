"""Reads of accounts, and their row locks."""

from collections.abc import Iterable
from uuid import UUID

from accounts.models import Account
from core.errors import NotFound


def account_of(*, tenant_id: UUID, account_id: UUID, owner_id: UUID | None = None) -> Account:
    """
    Return the account; of the owner's, if one is given.

    :raises NotFound: unknown, another tenant's, or another owner's
    """
    accounts = Account.objects.filter(tenant_id=tenant_id, pk=account_id)
    if owner_id is not None:
        accounts = accounts.filter(owner_id=owner_id)
    found = accounts.first()
    if found is None:
        raise NotFound("No such account.")
    return found


def owned_among(*, tenant_id: UUID, owner_id: UUID, account_ids: Iterable[UUID]) -> set[UUID]:
    """Return those of the accounts that are the owner's."""
    owned = Account.objects.filter(tenant_id=tenant_id, owner_id=owner_id, pk__in=list(account_ids))
    return set(owned.values_list("pk", flat=True))


def account_for_update(*, tenant_id: UUID, account_id: UUID) -> Account:
    """
    Return the account, locked until the transaction ends.

    NO KEY UPDATE: holds that refer to the account are not blocked by us.

    :raises NotFound: unknown, or another tenant's
    """
    locked = accounts_for_update(tenant_id=tenant_id, account_ids=[account_id])
    if not locked:
        raise NotFound("No such account.")
    return locked[account_id]


def accounts_for_update(*, tenant_id: UUID, account_ids: list[UUID]) -> dict[UUID, Account]:
    """Return those of the tenant, locked in order of id as every lock of accounts is."""
    locked = (
        Account.objects.select_for_update(no_key=True)
        .filter(tenant_id=tenant_id, pk__in=account_ids)
        .order_by("pk")
    )
    return {account.pk: account for account in locked}


def accounts_by_external_id(*, tenant_id: UUID, external_ids: Iterable[str]) -> dict[str, Account]:
    """Return those that exist, by their external id."""
    found = Account.objects.filter(tenant_id=tenant_id, external_id__in=list(external_ids))
    return {account.external_id: account for account in found if account.external_id is not None}
