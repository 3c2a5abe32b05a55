"""
Credit notes: a part of an invoice taken back, owed or paid, with what goes back to the payer.

Revenue, tax and fee are undone in proportion. What goes back goes by the way it came: through the
gateway of each receipt, by hand, or to the customer's credit.
"""

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from accounts.models import Account
from core.changes import record_change
from core.database import repeating
from core.errors import IdempotencyConflict, InvalidState
from core.idempotency import REUSED_KEY, fingerprint
from core.ids import new_id
from core.money import format_money
from invoices.errors import CreditExceedsInvoice
from invoices.models import (
    CreditNote,
    CreditNoteRefund,
    Installment,
    Invoice,
    Receipt,
)
from invoices.queries import installments_of, invoice_for_update
from invoices.services import figures
from invoices.services.amounts import NOTHING, Parts, part_of
from invoices.services.claims import claim_of, close_pages, under_way
from invoices.services.credit import lock_payments
from invoices.services.receiving import (
    books_of,
    gateway_of,
    goes_back_by_hand,
    keep_as_credit,
    post_for,
    settle_status,
)
from invoices.services.reminding import write_mailing
from payments.models import Refund
from payments.services import begin_refund, call_off_after_commit, send_refund

_ROLE = Account.Role
_S = Invoice.Status


@dataclass(frozen=True, slots=True)
class MadeCreditNote:
    credit_note: CreditNote
    is_replay: bool


def refund_invoice(
    *,
    tenant_id: UUID,
    invoice_id: UUID,
    amount: int | None,
    reason: str,
    idempotency_key: str,
    now: dt.datetime,
    asked_by: str = "",
) -> MadeCreditNote:
    """
    Pay back what was paid on an invoice, whole (`amount` None) or in part, with a credit note.

    What is still owed on it stays owed.

    :raises NotFound: no such invoice in this tenant
    :raises CreditExceedsInvoice: more than was paid and has not gone back
    :raises IdempotencyConflict: the key was used for another request
    :raises DomainError: what the ledger refuses, such as a settlement account without the funds
    """
    return _make(tenant_id, invoice_id, amount, reason, idempotency_key, asked_by, now, True)


def credit_invoice(
    *,
    tenant_id: UUID,
    invoice_id: UUID,
    amount: int | None,
    reason: str,
    idempotency_key: str,
    now: dt.datetime,
    asked_by: str = "",
) -> MadeCreditNote:
    """
    Take an invoice back, whole (`amount` None) or in part: first what is owed, then what was paid,
    which goes back.

    :raises NotFound: no such invoice in this tenant
    :raises CreditExceedsInvoice: more than is left of it
    :raises InvalidState: a payment is under way
    :raises IdempotencyConflict: the key was used for another request
    :raises DomainError: what the ledger refuses, such as a settlement account without the funds
    """
    return _make(tenant_id, invoice_id, amount, reason, idempotency_key, asked_by, now, False)


def _make(
    tenant_id: UUID,
    invoice_id: UUID,
    amount: int | None,
    reason: str,
    idempotency_key: str,
    asked_by: str,
    now: dt.datetime,
    is_refund: bool,
) -> MadeCreditNote:
    asked = fingerprint("credit note", invoice_id, amount, reason, asked_by, is_refund)

    def begin() -> tuple[CreditNote, list[Refund], bool]:
        with transaction.atomic():
            lock_payments(tenant_id, invoice_id)
            invoice = invoice_for_update(tenant_id=tenant_id, invoice_id=invoice_id)
            earlier = CreditNote.objects.filter(
                tenant_id=tenant_id, idempotency_key=idempotency_key
            ).first()
            if earlier is not None:
                if bytes(earlier.request_fingerprint) != asked:
                    raise IdempotencyConflict(REUSED_KEY)
                return earlier, [], False
            owed, paid = _shares(invoice, amount, is_refund, now)
            note = _post_note(invoice, owed, paid, reason, now)
            note.idempotency_key, note.request_fingerprint = idempotency_key, asked
            note.save(force_insert=True)
            note.refresh_from_db(fields=["number"])
            record_change(
                tenant_id=tenant_id,
                action="credit_note.created",
                object_id=note.pk,
                now=now,
                after={
                    "invoice_id": str(invoice.pk),
                    "number": note.number,
                    "amount": note.amount,
                    "refund_amount": note.refund_amount,
                },
                reason=reason,
            )
            call_off_after_commit(_take_off_installments(invoice, owed), now=now)
            invoice.credited_amount += note.amount
            invoice.refunded_amount += paid
            refunds = _pay_back(invoice, note, now)
            settle_status(invoice, now, credit_note_id=note.pk)
            write_mailing(
                invoice,
                kind="credit_note",
                unique_key=f"credit note {note.pk}",
                subject_id=note.pk,
                now=now,
            )
            parts = Parts(note.net_amount, note.tax_amount, note.service_fee_amount)
            figures.count(invoice, now=now, credited=parts)
        return note, refunds, True

    note, refunds, is_new = repeating(begin, on_constraint="credit_note_idempotency_key_unique")
    for refund in refunds:
        send_refund(refund, now=now)
    return MadeCreditNote(note, is_replay=not is_new)


def _shares(
    invoice: Invoice, amount: int | None, is_refund: bool, now: dt.datetime
) -> tuple[int, int]:
    """Return how much of it is owed and how much was paid."""
    if invoice.number is None or invoice.status in (_S.VOIDED, _S.EXPIRED):
        raise InvalidState(f"It is {invoice.status}; there is nothing to credit.")
    kept, due = invoice.amount_kept, invoice.amount_due
    left = kept if is_refund else kept + due
    wanted = left if amount is None else amount
    if not 0 < wanted <= left:
        shown = format_money(left, invoice.currency)
        raise CreditExceedsInvoice(
            f"{shown} was paid and has not gone back."
            if is_refund
            else f"{shown} is left of the invoice."
        )
    owed = 0 if is_refund else min(wanted, due)
    if owed and under_way(invoice, now):
        raise InvalidState("A payment is under way; see what comes of it first.")
    return owed, wanted - owed


def _post_note(invoice: Invoice, owed: int, paid: int, reason: str, now: dt.datetime) -> CreditNote:
    amount = owed + paid
    before = invoice.credited_amount
    parts = part_of(claim_of(invoice), before, before + amount)
    note_id = new_id()
    roles = (_ROLE.RECEIVABLE, _ROLE.REVENUE, _ROLE.TAX, _ROLE.FEES, _ROLE.PASSED_ON)
    account = books_of(invoice, now, *roles)
    legs = {
        account[_ROLE.REVENUE]: -parts.net,
        account[_ROLE.TAX]: -parts.tax,
        account[_ROLE.FEES]: -parts.fee,
        account[_ROLE.RECEIVABLE]: amount,
    }
    if invoice.settlement_account_id is not None and paid:
        legs |= {invoice.settlement_account_id: -paid, account[_ROLE.PASSED_ON]: paid}
    posted = post_for(
        invoice, type_="credit_note", key=f"credit note {note_id}", legs=legs, what="Credit on"
    )
    return CreditNote(
        id=note_id,
        tenant_id=invoice.tenant_id,
        invoice=invoice,
        amount=amount,
        net_amount=parts.net,
        tax_amount=parts.tax,
        service_fee_amount=parts.fee,
        owed_amount=owed,
        refund_amount=paid,
        currency=invoice.currency,
        reason=reason,
        transaction_id=posted.id,
        created_at=now,
    )


def _take_off_installments(invoice: Invoice, amount: int) -> list[UUID]:
    """Owe less on the installments, the last first; return the pages that ask for more now."""
    touched = []
    for installment in reversed(installments_of(invoice)):
        piece = min(amount, installment.amount_due)
        if piece:
            installment.credited_amount += piece
            amount -= piece
            touched.append(installment)
    if not touched:
        return []
    Installment.objects.bulk_update(touched, ["credited_amount"])
    return close_pages(invoice)


def _pay_back(invoice: Invoice, note: CreditNote, now: dt.datetime) -> list[Refund]:
    """Find ways back for what the note refunds, the last receipt first."""
    left, refunds = note.refund_amount, []
    for receipt in invoice.receipts.select_for_update(no_key=True, of=("self",)).order_by("-pk"):
        piece = min(
            left, receipt.applied_amount - receipt.reversed_amount - receipt.refunded_amount
        )
        if not piece:
            continue
        left -= piece
        refund = _pay_back_by(invoice, note, receipt, piece, now)
        refunds += [refund] if refund is not None else []
        before = receipt.refunded_amount
        receipt.refunded_amount += piece
        receipt.save(update_fields=["refunded_amount"])
        whole = _applied_parts(receipt)
        figures.count(
            invoice,
            now=now,
            gateway=gateway_of(receipt),
            refunded=part_of(whole, before, before + piece),
            refunds=1,
        )
    if left:
        raise RuntimeError(f"{left} of {note.pk} has no receipt to go back by")
    return refunds


def _pay_back_by(
    invoice: Invoice, note: CreditNote, receipt: Receipt, amount: int, now: dt.datetime
) -> Refund | None:
    """Send it back as it came; return the refund that the gateway is to be asked for, if one is."""
    way = CreditNoteRefund(
        id=new_id(),
        tenant_id=invoice.tenant_id,
        credit_note=note,
        receipt=receipt,
        amount=amount,
        created_at=now,
        updated_at=now,
    )
    refund = None
    key = f"credit note refund {way.pk}"
    if receipt.payment_id is not None and not goes_back_by_hand(receipt):
        refund, _ = begin_refund(
            tenant_id=invoice.tenant_id,
            payment_id=receipt.payment_id,
            amount=amount,
            reason=note.reason,
            idempotency_key=key,
            now=now,
        )
        way.refund_id = refund.pk
    else:
        way.status = CreditNoteRefund.Status.SUCCEEDED
        is_credit = receipt.kind == Receipt.Kind.CREDIT
        other = _ROLE.CUSTOMER_CREDIT if is_credit else _ROLE.CASH
        account = books_of(invoice, now, _ROLE.RECEIVABLE, other)
        posted = post_for(
            invoice,
            type_="invoice_allocation" if is_credit else "refund",
            key=key,
            legs={account[_ROLE.RECEIVABLE]: -amount, account[other]: amount},
            what="Paid back on",
        )
        if is_credit:
            keep_as_credit(invoice, receipt, amount, posted.id, now)
            invoice.overpaid_amount += amount
    way.save(force_insert=True)
    return refund


def _applied_parts(receipt: Receipt) -> Parts:
    return sum((Parts(*parts) for _, *parts in receipt.split), NOTHING)
