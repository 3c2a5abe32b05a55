"""
Accounts: open, change, freeze, unfreeze, close.

The figures (balance, held, entry_count) are the ledger's: nothing here writes them.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Greatest

from accounts import queries
from accounts.errors import AccountAlreadyExists, OverdraftInUse
from accounts.models import Account
from core.changes import changed, record_change, record_for_audit
from core.database import refusing, repeating
from core.errors import InvalidState, PayloadTooLarge
from core.ids import new_id
from core.versions import refuse_unless_as_seen

BATCH_MAX = 10_000
EXTERNAL_ID_TAKEN = "account_external_id_unique_in_tenant"
# The rule of whoever has an account for a purpose of its own.
_IN_USE = "savings_account_in_use"
_OF_A_PLAN = "A savings plan has this account: close the plan first."
_TAKEN = "An account with this external id exists."
_COLUMNS = (
    "id, tenant_id, owner_id, type, currency, status, name, external_id, overdraft_limit, metadata,"
    " created_at, updated_at"
)


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What a customer's account opens with. `overdraft_limit` is in minor units."""

    type: str
    currency: str
    owner_id: UUID | None = None
    name: str = ""
    external_id: str | None = None
    overdraft_limit: int = 0
    metadata: dict[str, str] = field(default_factory=dict)


def open_account(*, tenant_id: UUID, new: NewAccount, now: datetime) -> Account:
    """
    Open an account with no balance.

    :raises AccountAlreadyExists: the tenant has an account with this external id
    """
    with refusing({EXTERNAL_ID_TAKEN: AccountAlreadyExists(_TAKEN)}), transaction.atomic():
        account = Account.objects.create(
            tenant_id=tenant_id,
            type=new.type,
            currency=new.currency,
            owner_id=new.owner_id,
            name=new.name,
            external_id=new.external_id,
            overdraft_limit=new.overdraft_limit,
            metadata=new.metadata,
            created_at=now,
            updated_at=now,
        )
        _record(account, "account.opened", now, after=_opened(account))
    return account


def open_accounts(
    *, tenant_id: UUID, new: Sequence[NewAccount], now: datetime
) -> list[UUID | AccountAlreadyExists]:
    """
    Open up to 10,000 accounts at once; return an id or a refusal for each, in order.

    Two COPY streams in one transaction, accounts and their events, and one audit record for all.

    :raises PayloadTooLarge: more than 10,000
    """
    if len(new) > BATCH_MAX:
        raise PayloadTooLarge(f"At most {BATCH_MAX} accounts in one call.")

    # What all lines share is written once.
    tenant, moment = str(tenant_id), now.isoformat()
    times, event = f"{moment}\t{moment}\n", f"{tenant}\taccount.opened\t"

    def open_all() -> list[UUID | AccountAlreadyExists]:
        with transaction.atomic():
            results: list[UUID | AccountAlreadyExists] = []
            taken = _taken_external_ids(tenant_id, new)
            lines, events = [], []
            for account in new:
                if account.external_id is not None:
                    if account.external_id in taken:
                        results.append(AccountAlreadyExists(_TAKEN))
                        continue
                    taken.add(account.external_id)
                account_id = new_id()
                named = account_id.hex
                lines.append(f"{named}\t{tenant}\t{_copy_fields(account)}\t{times}")
                events.append(f"{event}{named}\t{moment}\n")
                results.append(account_id)
            _copy(f"COPY accounts_account ({_COLUMNS}) FROM STDIN", lines)
            _copy(
                "COPY core_outboxevent (tenant_id, event_type, resource_id, created_at) FROM STDIN",
                events,
            )
            opened = [result for result in results if isinstance(result, UUID)]
            record_for_audit(
                tenant_id=tenant_id, action="account.opened", object_ids=opened, now=now
            )
        return results

    # Another call may take an external id after we looked; then look again.
    return repeating(open_all, on_constraint=EXTERNAL_ID_TAKEN)


def internal_account(*, tenant_id: UUID, role: str, currency: str, now: datetime) -> UUID:
    """
    Return the tenant's account for a role and currency, opening it on first need.

    Safe to call at once from many: the database keeps one of each.
    """
    which: dict[str, Any] = {"tenant_id": tenant_id, "role": role, "currency": currency}
    found = Account.objects.filter(**which).values_list("pk", flat=True).first()
    if found is None:
        account = Account(
            **which,
            type=Account.Type.INTERNAL,
            name=Account.Role(role).label,
            overdraft_limit=None,
            created_at=now,
            updated_at=now,
        )
        with transaction.atomic():
            Account.objects.bulk_create([account], ignore_conflicts=True)
            found = Account.objects.values_list("pk", flat=True).get(**which)
            if found == account.pk:
                _record(account, "account.opened", now, after=_opened(account))
    return found


def internal_accounts(
    *, tenant_id: UUID, roles: Collection[str], currency: str, now: datetime
) -> dict[str, UUID]:
    """Return the tenant's accounts for several roles, in one round trip where all are open."""
    opened = Account.objects.filter(tenant_id=tenant_id, role__in=roles, currency=currency)
    found = {str(role): pk for role, pk in opened.values_list("role", "pk")}
    for role in roles:
        if role not in found:
            found[role] = internal_account(
                tenant_id=tenant_id, role=role, currency=currency, now=now
            )
    return found


def change_account(
    *,
    tenant_id: UUID,
    account_id: UUID,
    changes: dict[str, Any],
    now: datetime,
    as_seen: str | None = None,
    reason: str = "",
) -> Account:
    """
    Change name, metadata or overdraft_limit. `as_seen` is the Account.version it was decided on.

    :raises NotFound: no such account in this tenant
    :raises InvalidState: closed, or an overdraft limit for an internal account
    :raises OverdraftInUse: the account is further below zero than the new limit
    :raises PreconditionFailed: somebody else has changed the account since `as_seen`
    """
    refusals = {
        "account_available_within_overdraft": OverdraftInUse(
            "The account is further below zero, or has more on hold, than the new limit allows."
        ),
        _IN_USE: InvalidState("The account of a savings plan has no overdraft."),
    }
    with refusing(refusals), transaction.atomic():
        account = queries.account_for_update(tenant_id=tenant_id, account_id=account_id)
        refuse_unless_as_seen(account.version, as_seen)
        if account.status == Account.Status.CLOSED:
            raise InvalidState("The account is closed.")
        if "overdraft_limit" in changes and account.type == Account.Type.INTERNAL:
            raise InvalidState("An internal account has no overdraft limit.")
        before = {name: getattr(account, name) for name in changes}
        if changes == before:
            return account
        for name, value in changes.items():
            setattr(account, name, value)
        _save(account, sorted(changes), now)
        fields = sorted(changes)
        _record(
            account,
            "account.changed",
            now,
            reason=reason,
            payload={"fields": fields},
            **changed(before, changes),
        )
    return account


def freeze_account(*, tenant_id: UUID, account_id: UUID, reason: str, now: datetime) -> Account:
    """
    Stop all entries of the account, debits and credits.

    :raises NotFound: no such account in this tenant
    :raises InvalidState: not active, or internal
    """
    return _change_status(
        tenant_id, account_id, Account.Status.ACTIVE, Account.Status.FROZEN, reason, now
    )


def unfreeze_account(*, tenant_id: UUID, account_id: UUID, reason: str, now: datetime) -> Account:
    """
    Let a frozen account take entries again.

    :raises NotFound: no such account in this tenant
    :raises InvalidState: not frozen
    """
    return _change_status(
        tenant_id, account_id, Account.Status.FROZEN, Account.Status.ACTIVE, reason, now
    )


def close_account(*, tenant_id: UUID, account_id: UUID, reason: str, now: datetime) -> Account:
    """
    Close the account for good.

    :raises NotFound: no such account in this tenant
    :raises InvalidState: a balance or a hold is left, closed before, or internal
    """
    return _change_status(tenant_id, account_id, None, Account.Status.CLOSED, reason, now)


def lock_debits(
    *, tenant_id: UUID, account_ids: Collection[UUID], until: datetime | None, now: datetime
) -> None:
    """
    Have the accounts, which the caller has locked, take no debits before the moment; None: at once
    again. What it is for, the caller records.
    """
    Account.objects.filter(tenant_id=tenant_id, pk__in=account_ids).update(
        debit_locked_until=until, updated_at=Greatest(F("updated_at"), Value(now))
    )


def _change_status(
    tenant_id: UUID,
    account_id: UUID,
    required: str | None,
    status: str,
    reason: str,
    now: datetime,
) -> Account:
    with refusing({_IN_USE: InvalidState(_OF_A_PLAN)}), transaction.atomic():
        account = queries.account_for_update(tenant_id=tenant_id, account_id=account_id)
        if account.type == Account.Type.INTERNAL:
            raise InvalidState("An internal account is always active.")
        if account.status == Account.Status.CLOSED:
            raise InvalidState("The account is closed.")
        if required is not None and account.status != required:
            raise InvalidState(f"The account is {account.status}, not {required}.")
        if status == Account.Status.CLOSED and (account.balance or account.held):
            raise InvalidState("Balance and holds must be zero before an account is closed.")
        before = {"status": account.status}
        account.status = status
        _save(account, ["status"], now)
        _record(
            account,
            f"account.{_PARTICIPLES[required, status]}",
            now,
            before=before,
            after={"status": status},
            reason=reason,
            payload={"reason": reason},
        )
    return account


_PARTICIPLES: dict[tuple[str | None, str], str] = {
    (Account.Status.ACTIVE, Account.Status.FROZEN): "frozen",
    (Account.Status.FROZEN, Account.Status.ACTIVE): "unfrozen",
    (None, Account.Status.CLOSED): "closed",
}


def _save(account: Account, fields: list[str], now: datetime) -> None:
    # Never back: the ledger takes its clock from here when the server's lags.
    account.updated_at = max(account.updated_at, now)
    account.save(update_fields=[*fields, "updated_at"])


def _record(account: Account, action: str, now: datetime, **fields: Any) -> None:
    record_change(
        tenant_id=account.tenant_id, action=action, object_id=account.pk, now=now, **fields
    )


def _opened(account: Account) -> dict[str, Any]:
    """Return what the audit record of a new account says."""
    names = ("type", "role", "currency", "name", "owner_id", "external_id", "overdraft_limit")
    return {name: value for name in names if (value := getattr(account, name)) not in (None, "")}


def _taken_external_ids(tenant_id: UUID, new: Sequence[NewAccount]) -> set[str]:
    wanted = [account.external_id for account in new if account.external_id is not None]
    if not wanted:
        return set()
    found = Account.objects.filter(tenant_id=tenant_id, external_id__in=wanted)
    return {
        external_id for external_id in found.values_list("external_id", flat=True) if external_id
    }


def _copy(statement: str, lines: list[str]) -> None:
    # Django wraps the faults of `execute`, not those of `copy`; a twin's external id is one.
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(statement) as stream,
    ):
        stream.write("".join(lines))


_json = json.JSONEncoder(separators=(",", ":")).encode
_COPY_NULL = "\\N"
_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _copy_fields(account: NewAccount) -> str:
    """Return what is the caller's own in COPY's text format, in the order of _COLUMNS."""
    external_id = _COPY_NULL if account.external_id is None else _copy_text(account.external_id)
    # JSON has its control characters escaped already; of those escapes the backslash is left.
    metadata = _json(account.metadata).replace("\\", "\\\\") if account.metadata else "{}"
    return (
        f"{account.owner_id or _COPY_NULL}\t{account.type}\t{account.currency}\tactive\t"
        f"{_copy_text(account.name)}\t{external_id}\t{account.overdraft_limit}\t{metadata}"
    )


def _copy_text(text: str) -> str:
    # Most have nothing to escape, and finding that out is cheaper than a translation.
    return text if text.isalnum() else text.translate(_COPY_ESCAPES)
