"""
Money that came for an invoice, and money that was taken back.

The receivable account has it before this begins; here it is spread over the installments, what is
too much becomes the customer's credit, and what a settlement account is to have is passed on. The
caller has locked the invoice.
"""

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from accounts.models import Account
from accounts.services import internal_accounts
from core.changes import record_change
from core.errors import DomainError
from core.idempotency import fingerprint
from core.ids import new_id
from core.money import format_money
from invoices.models import Credit, CreditUse, Installment, Invoice, Receipt
from invoices.queries import installments_of
from invoices.services import figures
from invoices.services.amounts import NOTHING, Parts, part_of
from invoices.services.claims import revive
from invoices.services.reminding import write_mailing
from ledger.services import Leg, PostedTransaction, Posting, post_one
from payments.models import Payment

_S = Invoice.Status
_ROLE = Account.Role
# Why a person should look at an invoice, the lightest first; the last two are missing money.
_WEIGHTS = (
    "",
    "email_failed",
    "too_many_failures",
    "paid_after_void",
    "charged_back",
    "refund_failed",
    "credit_spent_before_charge_back",
    "settlement_account_owes",
)
_EVENTS = {
    _S.PENDING: "invoice.unpaid_again",
    _S.PARTIALLY_PAID: "invoice.partially_paid",
    _S.FULLY_PAID: "invoice.paid",
    _S.REFUNDED: "invoice.refunded",
    _S.VOIDED: "invoice.voided",
}


@dataclass(frozen=True, slots=True)
class Received:
    """Money that the receivable account was credited with, by `transaction_id`."""

    kind: Receipt.Kind
    method: str
    amount: int
    transaction_id: UUID
    received_on: dt.date
    idempotency_key: str
    request_fingerprint: bytes
    # In the reports.
    gateway: str
    payment_id: UUID | None = None
    # The installment it was meant for.
    installment_id: UUID | None = None
    reference: str = ""
    note: str = ""


def receive(invoice: Invoice, received: Received, now: dt.datetime) -> Receipt:
    """
    Apply money to an invoice: to the installment it was meant for, then to the oldest.

    :raises DomainError: the settlement account does not take it
    """
    if invoice.status == _S.EXPIRED:
        revive(invoice, now)
    applied = min(received.amount, invoice.amount_due)
    over = received.amount - applied
    installments = installments_of(invoice)
    split = _spread(installments, applied, received.installment_id)
    receipt = Receipt.objects.create(
        id=new_id(),
        tenant_id=invoice.tenant_id,
        invoice=invoice,
        kind=received.kind,
        method=received.method,
        payment_id=received.payment_id,
        amount=received.amount,
        applied_amount=applied,
        split=[[number, parts.net, parts.tax, parts.fee] for number, parts in split],
        reference=received.reference,
        note=received.note,
        received_on=received.received_on,
        transaction_id=received.transaction_id,
        idempotency_key=received.idempotency_key,
        request_fingerprint=received.request_fingerprint,
        created_at=now,
    )
    _save_paid(installments, {number for number, _ in split})
    invoice.paid_amount += applied
    invoice.overpaid_amount += over
    invoice.failed_attempts = 0
    posted = _pass_on(invoice, receipt, applied, over, now)
    if over and posted is not None:
        keep_as_credit(invoice, receipt, over, posted.id, now)
        if invoice.status == _S.VOIDED:
            needs_a_person(invoice, "paid_after_void")
    figures_of = sum((parts for _, parts in split), NOTHING)
    settle_status(
        invoice,
        now,
        receipt_id=receipt.pk,
        amount=received.amount,
        overpaid_amount=over or None,
    )
    write_mailing(
        invoice, kind="receipt", unique_key=f"receipt {receipt.pk}", subject_id=receipt.pk, now=now
    )
    figures.count(
        invoice, now=now, gateway=received.gateway, received=figures_of, overpaid=over, payments=1
    )
    return receipt


def take_back(invoice: Invoice, receipt: Receipt, amount: int, now: dt.datetime) -> None:
    """
    Undo a receipt, of which `amount` was charged back and debited from the receivable account:
    first what the invoice had of it, then the credit that came of it.
    """
    from_applied = min(
        amount, receipt.applied_amount - receipt.reversed_amount - receipt.refunded_amount
    )
    parts = _unspread(invoice, receipt, from_applied)
    receipt.reversed_amount += from_applied
    receipt.save(update_fields=["reversed_amount"])
    invoice.paid_amount -= from_applied
    needs_a_person(invoice, "charged_back")
    if from_applied:
        _take_from_settlement_account(invoice, receipt, from_applied, now)
    missing = amount - from_applied - _take_from_credit(receipt, amount - from_applied, now)
    if missing:
        # The credit paid another invoice meanwhile. Whose loss it is, a person decides.
        needs_a_person(invoice, "credit_spent_before_charge_back")
        _post_to_suspense(invoice, receipt, missing, now)
    settle_status(invoice, now, receipt_id=receipt.pk, charged_back=amount)
    figures.count(invoice, now=now, gateway=gateway_of(receipt), received=-parts)


def needs_a_person(invoice: Invoice, reason: str) -> None:
    """Have staff look at the invoice; what weighs more stays. The caller saves it."""
    if _WEIGHTS.index(reason) >= _WEIGHTS.index(invoice.attention):
        invoice.attention = reason


def settle_status(invoice: Invoice, now: dt.datetime, **payload: object) -> None:
    """Save the invoice in the status that its amounts tell, with the event of that."""
    before = _S(invoice.status)
    after = _status_by_amounts(invoice)
    invoice.status, invoice.updated_at = after, now
    if after is _S.FULLY_PAID and invoice.paid_at is None:
        invoice.paid_at = now
    if after in (_S.FULLY_PAID, _S.REFUNDED, _S.VOIDED):
        invoice.next_step_at = None
    elif after in (_S.PENDING, _S.PARTIALLY_PAID):
        # The sweep works out when something falls due next.
        invoice.next_step_at = now
    invoice.save()
    shown = {
        name: str(value) if isinstance(value, UUID) else value
        for name, value in payload.items()
        if value is not None
    }
    is_payment = "amount" in payload
    if before is not after or (is_payment and after is _S.PARTIALLY_PAID):
        action = _EVENTS.get(after, "invoice.changed")
    else:
        # What has happened before does not happen again: goods are shipped on such events.
        action = "invoice.overpaid" if is_payment else "invoice.changed"
    record_change(
        tenant_id=invoice.tenant_id,
        action=action,
        object_id=invoice.pk,
        now=now,
        before={"status": before.value},
        after={"status": after.value, "amount_due": invoice.amount_due, **shown},
    )


def keep_as_credit(
    invoice: Invoice, receipt: Receipt, amount: int, transaction_id: UUID, now: dt.datetime
) -> Credit:
    """Write down what the customer-credit account was credited with. The invoice says it too."""
    credit = Credit.objects.create(
        id=new_id(),
        tenant_id=invoice.tenant_id,
        invoice=invoice,
        receipt=receipt,
        customer_key=invoice.customer_key,
        currency=invoice.currency,
        amount=amount,
        transaction_id=transaction_id,
        created_at=now,
    )
    record_change(
        tenant_id=invoice.tenant_id,
        action="customer_credit.kept",
        object_id=credit.pk,
        now=now,
        after={"invoice_id": str(invoice.pk), "amount": amount, "currency": invoice.currency},
    )
    return credit


def gateway_of(receipt: Receipt) -> str:
    """Return what the reports call the way it came."""
    if receipt.kind == Receipt.Kind.GATEWAY:
        return receipt.method
    return figures.OFFLINE if receipt.kind == Receipt.Kind.OFFLINE else figures.FROM_CREDIT


def goes_back_by_hand(receipt: Receipt) -> bool:
    """Whether no gateway can pay it back: none had it, or the one that had was deleted."""
    if receipt.payment_id is None:
        return True
    return Payment.objects.filter(
        pk=receipt.payment_id, configuration__deleted_at__isnull=False
    ).exists()


def parts_of(installment: Installment) -> Parts:
    return Parts(installment.net_amount, installment.tax_amount, installment.service_fee_amount)


def post_for(
    invoice: Invoice, *, type_: str, key: str, legs: dict[UUID, int], what: str
) -> PostedTransaction:
    """Post a movement that belongs to the invoice. `key` has a space, as no caller's key has."""
    return post_one(
        tenant_id=invoice.tenant_id,
        posting=Posting(
            type=type_,
            currency=invoice.currency,
            legs=tuple(Leg(account, amount) for account, amount in legs.items() if amount),
            idempotency_key=key,
            request_fingerprint=fingerprint(type_, key, sorted(map(str, legs.items()))),
            description=f"{what} {invoice.number}",
            external_reference=invoice.number,
            metadata={"invoice_id": str(invoice.pk)},
        ),
    )


def books_of(invoice: Invoice, now: dt.datetime, *roles: str) -> dict[str, UUID]:
    """Return the tenant's internal accounts of the roles, in the invoice's currency."""
    return internal_accounts(
        tenant_id=invoice.tenant_id, roles=roles, currency=invoice.currency, now=now
    )


def _status_by_amounts(invoice: Invoice) -> Invoice.Status:
    if invoice.status in (_S.DRAFT, _S.VOIDED, _S.EXPIRED):
        return _S(invoice.status)
    if invoice.amount_due:
        if invoice.failed_attempts and invoice.status == _S.FAILED:
            # Nothing has come: staff open it again.
            return _S.FAILED
        return _S.PARTIALLY_PAID if invoice.amount_kept else _S.PENDING
    if invoice.amount_kept:
        return _S.FULLY_PAID
    return _S.REFUNDED if invoice.paid_amount else _S.VOIDED


def _spread(
    installments: list[Installment], amount: int, first_id: UUID | None
) -> list[tuple[int, Parts]]:
    """Add the amount to what was paid on the installments; return how much of what went where."""
    split = []
    for installment in sorted(installments, key=lambda each: (each.pk != first_id, each.number)):
        paid = min(amount, installment.amount_due)
        if not paid:
            continue
        before = installment.paid_amount
        installment.paid_amount += paid
        amount -= paid
        parts = part_of(parts_of(installment), before, installment.paid_amount)
        split.append((installment.number, parts))
    return split


def _unspread(invoice: Invoice, receipt: Receipt, amount: int) -> Parts:
    """Take the amount from the installments again, the last first; return what it was made of."""
    installments = {each.number: each for each in installments_of(invoice)}
    touched, taken = set(), NOTHING
    for number, net, tax, fee in reversed(receipt.split):
        whole = Parts(net, tax, fee)
        # What an earlier charge-back took of this receipt is gone: each is taken back once.
        piece = min(amount, whole.total, installments[number].paid_amount)
        if not piece:
            continue
        installments[number].paid_amount -= piece
        amount -= piece
        touched.add(number)
        taken += part_of(whole, whole.total - piece, whole.total)
    _save_paid(list(installments.values()), touched)
    return taken


def _save_paid(installments: list[Installment], numbers: set[int]) -> None:
    touched = [each for each in installments if each.number in numbers]
    if touched:
        Installment.objects.bulk_update(touched, ["paid_amount"])


def _pass_on(
    invoice: Invoice, receipt: Receipt, applied: int, over: int, now: dt.datetime
) -> PostedTransaction | None:
    """Post what goes further than the receivable account: too much, and a settlement account's."""
    settlement = invoice.settlement_account_id if applied else None
    if not over and settlement is None:
        return None
    account = books_of(invoice, now, _ROLE.RECEIVABLE, _ROLE.CUSTOMER_CREDIT, _ROLE.PASSED_ON)
    legs = {account[_ROLE.RECEIVABLE]: -over, account[_ROLE.CUSTOMER_CREDIT]: over}
    if settlement is not None:
        legs |= {account[_ROLE.PASSED_ON]: -applied, settlement: applied}
    return post_for(
        invoice,
        type_="invoice_allocation",
        key=f"invoice allocation {receipt.pk}",
        legs=legs,
        what="Received for",
    )


def _take_from_settlement_account(
    invoice: Invoice, receipt: Receipt, amount: int, now: dt.datetime
) -> None:
    """Debit the settlement account of what it had; where that is refused, suspense lacks it."""
    if invoice.settlement_account_id is None:
        return
    account = books_of(invoice, now, _ROLE.PASSED_ON, _ROLE.SUSPENSE)
    key = f"invoice charge-back {receipt.pk} {receipt.reversed_amount}"
    for debited in (invoice.settlement_account_id, account[_ROLE.SUSPENSE]):
        try:
            post_for(
                invoice,
                type_="invoice_allocation",
                key=key,
                legs={debited: -amount, account[_ROLE.PASSED_ON]: amount},
                what="Charged back on",
            )
        except DomainError as refusal:
            if debited == account[_ROLE.SUSPENSE]:
                raise
            needs_a_person(invoice, "settlement_account_owes")
            record_change(
                tenant_id=invoice.tenant_id,
                action="invoice.charge_back_refused",
                object_id=invoice.pk,
                now=now,
                after={
                    "account_id": str(debited),
                    "owes": format_money(amount, invoice.currency),
                    "refusal": refusal.code,
                },
            )
        else:
            return


def _take_from_credit(receipt: Receipt, amount: int, now: dt.datetime) -> int:
    """Take the receipt's credit, as far as there is any; return how much."""
    taken = 0
    credits = Credit.objects.select_for_update(no_key=True).filter(receipt=receipt).order_by("pk")
    for credit in credits if amount else ():
        piece = min(amount - taken, credit.remaining_amount)
        if not piece:
            continue
        invoice = receipt.invoice
        key = f"credit taken back {new_id()}"
        account = books_of(invoice, now, _ROLE.CUSTOMER_CREDIT, _ROLE.RECEIVABLE)
        posted = post_for(
            invoice,
            type_="credit_use",
            key=key,
            legs={account[_ROLE.CUSTOMER_CREDIT]: -piece, account[_ROLE.RECEIVABLE]: piece},
            what="Charged back on",
        )
        note_use(credit, CreditUse.Kind.TAKEN_BACK, piece, posted.id, key=key, now=now)
        taken += piece
    return taken


def note_use(
    credit: Credit,
    kind: CreditUse.Kind,
    amount: int,
    transaction_id: UUID,
    *,
    key: str,
    now: dt.datetime,
    receipt: Receipt | None = None,
    refund_id: UUID | None = None,
    request_fingerprint: bytes | None = None,
) -> CreditUse:
    """Write down what was posted of a credit, which the caller has locked."""
    credit.used_amount += amount
    credit.save(update_fields=["used_amount"])
    return CreditUse.objects.create(
        id=new_id(),
        tenant_id=credit.tenant_id,
        credit=credit,
        kind=kind,
        amount=amount,
        receipt=receipt,
        refund_id=refund_id,
        transaction_id=transaction_id,
        idempotency_key=key,
        request_fingerprint=request_fingerprint or fingerprint("credit use", credit.pk, key),
        created_at=now,
    )


def _post_to_suspense(invoice: Invoice, receipt: Receipt, amount: int, now: dt.datetime) -> None:
    account = books_of(invoice, now, _ROLE.SUSPENSE, _ROLE.RECEIVABLE)
    post_for(
        invoice,
        type_="invoice_allocation",
        key=f"invoice charge-back loss {receipt.pk}",
        legs={account[_ROLE.SUSPENSE]: -amount, account[_ROLE.RECEIVABLE]: amount},
        what="Credit spent before the charge-back of",
    )
