"""
The states of a payout, and the postings that go with them: out of clearing for good, or back.
"""

import datetime as dt
from uuid import UUID

from accounts.models import Account
from accounts.services import internal_account
from core.changes import record_change
from core.errors import DomainError
from core.idempotency import fingerprint
from core.money import format_money
from ledger.services import Leg, PostedTransaction, Posting, post_one
from payments.models import Discrepancy, Payout
from payments.services.outcomes import QUESTIONS
from payments.services.recurring.ending import end_of_payout
from payments.services.waiting import (
    begin_waiting,
    came_right,
    end_waiting,
    tell_a_person,
)

_S = Payout.Status
_EVENTS: dict[str, str] = {_S.UNKNOWN: "payout.outcome_unknown"}


def move_payout(
    payout: Payout, status: Payout.Status, now: dt.datetime, *, code: str = "", detail: str = ""
) -> bool:
    """
    Save the payout, locked by the caller, in its new status with the posting that this means; say
    whether it moved. A word that comes late or twice changes nothing.
    """
    before = Payout.Status(payout.status)
    payout.updated_at = now
    if not _leads_on(before, status):
        payout.save()
        if before in (_S.FAILED, _S.RETURNED) and status is _S.SETTLED:
            # The source has its money back, and the beneficiary has it too, by their word.
            kind = Discrepancy.Kind.STATUS_DIFFERS
            tell_a_person(payout, kind, now=now, ours=before.value, theirs=payout.gateway_status)
        return False
    payout.status = status
    if status in (_S.FAILED, _S.RETURNED):
        payout.failure_code, payout.failure_detail = code[:64], detail[:300]
        payout.return_transaction_id = _give_back(payout, before, now).id
        end_waiting(payout, now)
    elif status is _S.SETTLED:
        clearing = internal_of(payout, Account.Role.PAYOUT_CLEARING, now)
        settlement = internal_of(payout, Account.Role.SETTLEMENT, now)
        posted = post_payout(payout, "payout_settlement", (clearing, settlement))
        payout.settlement_transaction_id = posted.id
        end_waiting(payout, now)
    elif payout.batch_id is None:
        begin_waiting(payout, now)
    if status in (_S.FAILED, _S.RETURNED, _S.SETTLED):
        came_right(payout, *QUESTIONS, now=now)
    payout.save()
    end_of_payout(payout, now=now)
    after: dict[str, object] = {"status": status.value}
    if payout.failure_code:
        after["failure_code"] = payout.failure_code
    action = _EVENTS.get(status, f"payout.{status.value}")
    record_payout(payout, action, now, before={"status": before.value}, after=after)
    return True


def _leads_on(before: Payout.Status, after: Payout.Status) -> bool:
    if before is after or before in (_S.FAILED, _S.RETURNED):
        return False
    if before is _S.SETTLED:
        return after is _S.RETURNED
    return not (before is _S.SUBMITTED and after in (_S.PENDING, _S.UNKNOWN))


def _give_back(payout: Payout, before: Payout.Status, now: dt.datetime) -> PostedTransaction:
    """Credit the source again; if it takes nothing, our suspense account keeps it for a person."""
    role = Account.Role.SETTLEMENT if before is _S.SETTLED else Account.Role.PAYOUT_CLEARING
    from_id = internal_of(payout, role, now)
    try:
        return post_payout(payout, "payout_return", (from_id, payout.source_account_id))
    except DomainError as refusal:
        suspense = internal_of(payout, Account.Role.SUSPENSE, now)
        posted = post_payout(payout, "payout_return", (from_id, suspense))
        tell_a_person(
            payout,
            Discrepancy.Kind.RETURN_REFUSED,
            now=now,
            ours=f"{format_money(payout.amount, payout.currency)} of"
            f" {payout.source_account_id} in suspense",
            theirs=payout.failure_code,
            refusal=refusal.code,
        )
        return posted


def post_payout(payout: Payout, type_: str, from_to: tuple[UUID, UUID]) -> PostedTransaction:
    """Post the payout's amount from one account to the other, once for each type."""
    debited, credited = from_to
    posting = Posting(
        type=type_,
        currency=payout.currency,
        legs=(Leg(debited, -payout.amount), Leg(credited, payout.amount)),
        idempotency_key=f"{type_} {payout.pk}",
        request_fingerprint=fingerprint(type_, payout.pk, debited, credited, payout.amount),
        description=payout.description,
        external_reference=payout.reference,
        metadata={"payout_id": str(payout.pk)},
    )
    return post_one(tenant_id=payout.tenant_id, posting=posting)


def internal_of(payout: Payout, role: Account.Role, now: dt.datetime) -> UUID:
    """Return the tenant's account of the role, in the payout's currency."""
    return internal_account(
        tenant_id=payout.tenant_id, role=role, currency=payout.currency, now=now
    )


def locked_payout(payout_id: UUID) -> Payout:
    """Return the payout, locked until the transaction ends."""
    return Payout.objects.select_for_update(no_key=True).get(pk=payout_id)


def record_payout(payout: Payout, action: str, now: dt.datetime, **fields: object) -> None:
    """Write the event and the audit record of a change."""
    record_change(
        tenant_id=payout.tenant_id,
        action=action,
        object_id=payout.pk,
        now=now,
        **fields,  # type: ignore[arg-type]
    )
