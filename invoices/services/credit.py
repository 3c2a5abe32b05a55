"""A customer's credit: put to an invoice of theirs, or paid back by the way it had come."""

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from accounts.models import Account
from core.changes import record_change
from core.database import repeating
from core.errors import IdempotencyConflict
from core.idempotency import REUSED_KEY, fingerprint
from core.ids import new_id
from core.money import format_money
from invoices.errors import NotEnoughCredit
from invoices.models import Credit, CreditUse, Invoice, Receipt
from invoices.queries import credits_for, invoice_for_update
from invoices.services import figures
from invoices.services.claims import refuse_unless_payable
from invoices.services.receiving import (
    Received,
    books_of,
    goes_back_by_hand,
    note_use,
    post_for,
    receive,
)
from payments.models import Payment, Refund
from payments.services import begin_refund, send_refund

_ROLE = Account.Role


def apply_credit(
    *,
    tenant_id: UUID,
    invoice_id: UUID,
    amount: int | None,
    idempotency_key: str,
    now: dt.datetime,
    asked_by: str = "",
) -> Invoice:
    """
    Pay an invoice from its customer's credit: `amount` minor units, or all that it can.

    :raises NotFound: no such invoice in this tenant
    :raises InvoiceNotPayable: it is not payable
    :raises NotEnoughCredit: the customer has less, or none
    :raises IdempotencyConflict: the key was used for another request
    """
    asked = fingerprint("apply credit", invoice_id, amount, asked_by)

    def apply() -> Invoice:
        with transaction.atomic():
            invoice = invoice_for_update(tenant_id=tenant_id, invoice_id=invoice_id)
            earlier = Receipt.objects.filter(
                tenant_id=tenant_id, idempotency_key=f"{idempotency_key} credit 0"
            ).first()
            if earlier is not None:
                if bytes(earlier.request_fingerprint) != asked:
                    raise IdempotencyConflict(REUSED_KEY)
                return invoice
            refuse_unless_payable(invoice, now)
            wanted = invoice.amount_due if amount is None else amount
            # Locked: nobody uses meanwhile what is counted here.
            credits_left = credits_for(invoice).select_for_update(no_key=True, of=("self",))
            left = sum(credit.remaining_amount for credit in credits_left)
            if not left or (amount is not None and min(left, invoice.amount_due) < amount):
                raise NotEnoughCredit(
                    f"{format_money(left, invoice.currency)} is left, and"
                    f" {format_money(invoice.amount_due, invoice.currency)} is due."
                )
            use_credit(
                invoice,
                now=now,
                up_to=wanted,
                idempotency_key=idempotency_key,
                request_fingerprint=asked,
            )
        return invoice

    return repeating(apply, on_constraint="receipt_idempotency_key_unique")


def use_credit(
    invoice: Invoice,
    *,
    now: dt.datetime,
    up_to: int | None = None,
    idempotency_key: str | None = None,
    request_fingerprint: bytes | None = None,
) -> int:
    """
    Pay the invoice, locked by the caller, from what credit there is, oldest first; return how much.
    """
    wanted = min(invoice.amount_due, invoice.amount_due if up_to is None else up_to)
    used = 0
    # What a caller's key is looked for by; else nobody asks for it again.
    by = idempotency_key or str(new_id())
    credits_left = credits_for(invoice).select_for_update(no_key=True, of=("self",))
    for number, credit in enumerate(credits_left):
        piece = min(wanted - used, credit.remaining_amount)
        if not piece:
            break
        # A credit may serve one invoice twice: the use has its own id.
        key = f"credit {new_id()}"
        account = books_of(invoice, now, _ROLE.CUSTOMER_CREDIT, _ROLE.RECEIVABLE)
        posted = post_for(
            invoice,
            type_="credit_use",
            key=key,
            legs={account[_ROLE.CUSTOMER_CREDIT]: -piece, account[_ROLE.RECEIVABLE]: piece},
            what="Credit used for",
        )
        receipt = receive(
            invoice,
            Received(
                kind=Receipt.Kind.CREDIT,
                method="credit",
                amount=piece,
                transaction_id=posted.id,
                received_on=invoice.tenant.day_of(now),
                idempotency_key=f"{by} credit {number}",
                request_fingerprint=request_fingerprint or fingerprint("use credit", key),
                gateway=figures.FROM_CREDIT,
            ),
            now,
        )
        note_use(
            credit, CreditUse.Kind.APPLIED, piece, posted.id, key=key, now=now, receipt=receipt
        )
        used += piece
    return used


@dataclass(frozen=True, slots=True)
class CreditRefund:
    """What of an invoice's overpayment is on its way back."""

    amount: int
    is_replay: bool


def refund_credit(
    *,
    tenant_id: UUID,
    invoice_id: UUID,
    amount: int | None,
    reason: str,
    idempotency_key: str,
    now: dt.datetime,
    asked_by: str = "",
) -> CreditRefund:
    """
    Pay back what was overpaid on an invoice and not used: `amount` minor units, or all of it.

    Through the gateway it came by, or noted as paid out by hand.

    :raises NotFound: no such invoice in this tenant
    :raises NotEnoughCredit: less is left, or nothing
    :raises IdempotencyConflict: the key was used for another request
    """
    asked = fingerprint("refund credit", invoice_id, amount, reason, asked_by)

    def begin() -> tuple[int, list[Refund], bool]:
        with transaction.atomic():
            lock_payments(tenant_id, invoice_id)
            invoice = invoice_for_update(tenant_id=tenant_id, invoice_id=invoice_id)
            earlier = CreditUse.objects.filter(
                tenant_id=tenant_id, idempotency_key=f"refund {idempotency_key}"
            )
            if earlier:
                if any(bytes(use.request_fingerprint) != asked for use in earlier):
                    raise IdempotencyConflict(REUSED_KEY)
                return sum(use.amount for use in earlier), [], False
            credits_left = list(
                Credit.objects.left()
                .filter(invoice=invoice)
                .select_related("receipt")
                .select_for_update(no_key=True, of=("self",))
            )
            left = sum(each.remaining_amount for each in credits_left)
            wanted = left if amount is None else amount
            if not 0 < wanted <= left:
                shown = format_money(left, invoice.currency)
                raise NotEnoughCredit(f"{shown} of it is left.")
            refunds, paid_back = [], 0
            for credit in credits_left:
                piece = min(wanted - paid_back, credit.remaining_amount)
                if not piece:
                    break
                refund = _pay_back(
                    invoice, credit, piece, reason, f"refund {idempotency_key}", asked, now
                )
                refunds += [refund] if refund is not None else []
                paid_back += piece
            record_change(
                tenant_id=tenant_id,
                action="customer_credit.refunded",
                object_id=invoice.pk,
                now=now,
                after={"amount": wanted, "currency": invoice.currency},
                reason=reason,
            )
        return wanted, refunds, True

    wanted, refunds, is_new = repeating(begin, on_constraint="credit_use_key_unique")
    for refund in refunds:
        send_refund(refund, now=now)
    return CreditRefund(wanted, is_replay=not is_new)


def lock_payments(tenant_id: UUID, invoice_id: UUID) -> None:
    """Lock what the invoice was paid by, before the invoice itself is."""
    paid_by = Receipt.objects.filter(
        tenant_id=tenant_id, invoice_id=invoice_id, payment_id__isnull=False
    )
    payments = Payment.objects.select_for_update(no_key=True).filter(
        tenant_id=tenant_id, pk__in=list(paid_by.values_list("payment_id", flat=True))
    )
    list(payments.order_by("pk").values_list("pk", flat=True))


def _pay_back(
    invoice: Invoice,
    credit: Credit,
    amount: int,
    reason: str,
    key: str,
    asked: bytes,
    now: dt.datetime,
) -> Refund | None:
    """Take it from the credit; return the refund that a gateway is to be asked for, if one is."""
    # Of this refund alone: one that failed may be asked for again.
    posting_key = f"credit refund {new_id()}"
    payment_id = credit.receipt.payment_id
    refund = None
    if payment_id is not None and not goes_back_by_hand(credit.receipt):
        refund, _ = begin_refund(
            tenant_id=invoice.tenant_id,
            payment_id=payment_id,
            amount=amount,
            reason=reason,
            idempotency_key=posting_key,
            now=now,
        )
    # The gateway's refund was debited from the receivable account.
    other = _ROLE.CASH if refund is None else _ROLE.RECEIVABLE
    account = books_of(invoice, now, _ROLE.CUSTOMER_CREDIT, other)
    posted = post_for(
        invoice,
        type_="credit_use",
        key=posting_key,
        legs={account[_ROLE.CUSTOMER_CREDIT]: -amount, account[other]: amount},
        what="Overpayment paid back of",
    )
    note_use(
        credit,
        CreditUse.Kind.REFUNDED,
        amount,
        posted.id,
        key=key,
        now=now,
        refund_id=refund.pk if refund is not None else None,
        request_fingerprint=asked,
    )
    return refund
