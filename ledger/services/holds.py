"""
Holds: place, capture, release, expire.

Each opens its own transaction and takes its locks in one order: accounts by id, then the hold.
Reads no clock and no request. All amounts are minor units.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F

from accounts.models import Account
from accounts.queries import account_for_update, accounts_for_update
from core.changes import record_change
from core.database import refusing, repeating
from core.errors import IdempotencyConflict, InvalidRequest
from core.idempotency import REUSED_KEY, fingerprint
from core.money import Money
from ledger import queries
from ledger.errors import (
    AccountClosed,
    AccountFrozen,
    CaptureExceedsHold,
    CurrencyMismatch,
    HoldNotActive,
    InsufficientFunds,
)
from ledger.models import Hold, Transaction
from ledger.services.locks import lock_refusal
from ledger.services.posting import Leg, PostedTransaction, Posting, post_one

_KEY_TAKEN = "hold_idempotency_key_unique"


@dataclass(frozen=True, slots=True)
class PlacedHold:
    hold: Hold
    is_replay: bool


@dataclass(frozen=True, slots=True)
class CapturedHold:
    hold: Hold
    posted: PostedTransaction


def place_hold(
    *,
    tenant_id: UUID,
    account_id: UUID,
    amount: Money,
    idempotency_key: str,
    expires_at: datetime | None,
    now: datetime,
    description: str = "",
    metadata: dict[str, str] | None = None,
    asked_by: str = "",
) -> PlacedHold:
    """
    Reserve `amount` of the account's available balance.

    The same key and request, `asked_by` the same, return the first hold again. Costs one lock and
    three writes.

    :raises NotFound: no such account in this tenant
    :raises IdempotencyConflict: the key was used for another request
    :raises AccountClosed: the account is closed
    :raises AccountFrozen: the account is frozen
    :raises CurrencyMismatch: `amount` is not in the account's currency
    :raises AccountLocked: the account is locked for debits
    :raises InsufficientFunds: available balance and overdraft do not cover it
    :raises InvalidRequest: it would expire before it begins
    """
    asked = (account_id, amount.minor_units, amount.currency, expires_at, description, metadata)
    request_fingerprint = fingerprint("hold", *asked, asked_by)

    def place() -> PlacedHold:
        with transaction.atomic():
            account = account_for_update(tenant_id=tenant_id, account_id=account_id)
            # Looked up under the lock, so that two copies of one request queue up here.
            earlier = Hold.objects.filter(
                tenant_id=tenant_id, idempotency_key=idempotency_key
            ).first()
            if earlier is not None:
                if bytes(earlier.request_fingerprint) != request_fingerprint:
                    raise IdempotencyConflict(REUSED_KEY)
                return PlacedHold(earlier, is_replay=True)
            if expires_at is not None and expires_at <= now:
                raise InvalidRequest("A hold expires in the future.", field="expires_at")
            _refuse_unless_covered(account, amount, now)
            hold = Hold.objects.create(
                tenant_id=tenant_id,
                account=account,
                amount=amount.minor_units,
                currency=amount.currency,
                description=description,
                expires_at=expires_at,
                idempotency_key=idempotency_key,
                request_fingerprint=request_fingerprint,
                metadata=metadata or {},
                created_at=now,
            )
            _change_held(account.pk, +hold.amount)
            placed = {"account_id": account.pk, "amount": hold.amount, "status": hold.status}
            _record(hold, "hold.placed", now, after=placed)
        return PlacedHold(hold, is_replay=False)

    # A twin for another account took the key while we looked: look again, and find it.
    with refusing({_KEY_TAKEN: IdempotencyConflict(REUSED_KEY)}):
        return repeating(place, on_constraint=_KEY_TAKEN)


def capture_hold(
    *,
    tenant_id: UUID,
    hold_id: UUID,
    destination_account_id: UUID,
    amount: int | None,
    idempotency_key: str,
    now: datetime,
    description: str = "",
    asked_by: str = "",
) -> CapturedHold:
    """
    Move the hold's amount, or a part of it, to the destination; what is left goes back.

    The hold closes and the transaction is posted together or not at all. `amount` is minor units of
    the hold's currency, None: all of it.

    :raises NotFound: no such hold, or no such destination, in this tenant
    :raises IdempotencyConflict: the key was used for another request
    :raises HoldNotActive: captured, released or expired before
    :raises CaptureExceedsHold: more than the hold reserves
    :raises DomainError: whatever the posting refuses, see post_one
    """
    request_fingerprint = fingerprint(
        "capture", hold_id, destination_account_id, amount, description, asked_by
    )
    hold = queries.hold_of(tenant_id=tenant_id, hold_id=hold_id)
    captured = hold.amount if amount is None else amount
    posting = Posting(
        type=Transaction.Type.CAPTURE,
        currency=hold.currency,
        legs=(Leg(hold.account_id, -captured), Leg(destination_account_id, captured)),
        idempotency_key=idempotency_key,
        request_fingerprint=request_fingerprint,
        description=description or hold.description,
    )

    def capture() -> CapturedHold:
        with transaction.atomic():
            accounts_for_update(
                tenant_id=tenant_id, account_ids=[hold.account_id, destination_account_id]
            )
            locked = _hold_for_update(hold)
            is_repeat = queries.transaction_by_key(
                tenant_id=tenant_id, idempotency_key=idempotency_key
            )
            if is_repeat is None:
                _refuse_unless_active(locked)
                if captured > locked.amount:
                    raise CaptureExceedsHold(f"The hold reserves {locked.amount}.")
                # Given back first: the posting may then take it.
                _change_held(locked.account_id, -locked.amount)
            posted = post_one(tenant_id=tenant_id, posting=posting)
            if is_repeat is None:
                locked.captured_amount = captured
                locked.transaction_id = posted.id
                _close(locked, Hold.Status.CAPTURED, now)
        return CapturedHold(locked, posted)

    return repeating(capture, on_constraint="transaction_idempotency_key_unique")


def release_hold(*, tenant_id: UUID, hold_id: UUID, now: datetime, reason: str = "") -> Hold:
    """
    Give the reserved amount back.

    :raises NotFound: no such hold in this tenant
    :raises HoldNotActive: captured, released or expired before
    """
    with transaction.atomic():
        hold = queries.hold_of(tenant_id=tenant_id, hold_id=hold_id)
        account_for_update(tenant_id=tenant_id, account_id=hold.account_id)
        hold = _hold_for_update(hold)
        _refuse_unless_active(hold)
        _change_held(hold.account_id, -hold.amount)
        _close(hold, Hold.Status.RELEASED, now, reason)
    return hold


def expire_due_holds(*, now: datetime, limit: int) -> int:
    """
    Expire at most `limit` holds whose time has run out; return how many.

    Safe to run twice and side by side. One transaction a hold: a crash loses nothing that was done.
    """
    # Candidates only, unlocked. Locking them here would take hold before account, the reverse of
    # everyone else's order, and deadlock with them.
    candidates = list(Hold.objects.due(now)[:limit])
    expired = 0
    for candidate in candidates:
        with transaction.atomic():
            account_for_update(tenant_id=candidate.tenant_id, account_id=candidate.account_id)
            hold = Hold.objects.due(now).filter(pk=candidate.pk).first()
            if hold is not None:
                _change_held(hold.account_id, -hold.amount)
                _close(hold, Hold.Status.EXPIRED, now)
                expired += 1
    return expired


def _refuse_unless_covered(account: Account, amount: Money, now: datetime) -> None:
    if account.status == Account.Status.CLOSED:
        raise AccountClosed(f"Account {account.pk} is closed.")
    if account.status == Account.Status.FROZEN:
        raise AccountFrozen(f"Account {account.pk} is frozen.")
    if account.currency != amount.currency:
        raise CurrencyMismatch(f"Account {account.pk} is in {account.currency}.")
    if account.debit_locked_until is not None and account.debit_locked_until > now:
        raise lock_refusal(account.tenant_id, account.pk)
    if account.available is not None and account.available < amount.minor_units:
        raise InsufficientFunds(f"Account {account.pk} has {account.available} available.")


def _refuse_unless_active(hold: Hold) -> None:
    if hold.status != Hold.Status.ACTIVE:
        raise HoldNotActive(f"The hold was {hold.status}.")


def _hold_for_update(hold: Hold) -> Hold:
    return Hold.objects.select_for_update().get(pk=hold.pk)


def _close(hold: Hold, status: Hold.Status, now: datetime, reason: str = "") -> None:
    before = {"status": hold.status}
    hold.status = status
    hold.closed_at = now
    hold.save(update_fields=["status", "closed_at", "captured_amount", "transaction"])
    after: dict[str, Any] = {"status": hold.status}
    if hold.transaction_id is not None:
        after |= {"captured_amount": hold.captured_amount, "transaction_id": hold.transaction_id}
    _record(hold, f"hold.{status.value}", now, before=before, after=after, reason=reason)


def _change_held(account_id: UUID, minor_units: int) -> None:
    Account.objects.filter(pk=account_id).update(held=F("held") + minor_units)


def _record(hold: Hold, action: str, now: datetime, **fields: Any) -> None:
    record_change(tenant_id=hold.tenant_id, action=action, object_id=hold.pk, now=now, **fields)
