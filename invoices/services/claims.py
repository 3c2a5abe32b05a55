"""What an invoice claims, in the books and out of them: receivable against revenue, tax, fees."""

import datetime as dt
from uuid import UUID

from accounts.models import Account
from accounts.services import internal_accounts
from core.changes import record_change
from core.idempotency import fingerprint
from core.ids import new_id
from invoices.errors import InvoiceNotPayable
from invoices.models import Checkout, Invoice
from invoices.services import figures
from invoices.services.amounts import Parts
from ledger.services import Leg, Posting, post_one, reverse_transaction
from payments.models import Payment

_S = Invoice.Status
_ROLE = Account.Role
# Somebody is at their bank's page with a card: so long nobody else may pay the same.
CARD_HELD_FOR = dt.timedelta(minutes=5)


def claim_accounts(invoice: Invoice, now: dt.datetime) -> dict[str, UUID]:
    """Return the accounts that a claim is posted to. Locks nothing: asked for before what does."""
    roles = (_ROLE.RECEIVABLE, _ROLE.REVENUE, _ROLE.TAX, _ROLE.FEES)
    return internal_accounts(
        tenant_id=invoice.tenant_id, roles=roles, currency=invoice.currency, now=now
    )


def post_claim(invoice: Invoice, account: dict[str, UUID], now: dt.datetime) -> None:
    """Post what the invoice claims, as the transaction that it names, to claim_accounts."""
    claim = claim_of(invoice)
    legs = (
        (_ROLE.RECEIVABLE, -claim.total),
        (_ROLE.REVENUE, claim.net),
        (_ROLE.TAX, claim.tax),
        (_ROLE.FEES, claim.fee),
    )
    if invoice.transaction_id is None:
        raise RuntimeError("the claim's transaction has its id before it is posted")
    post_one(
        tenant_id=invoice.tenant_id,
        posting=Posting(
            id=invoice.transaction_id,
            type="invoice",
            currency=invoice.currency,
            legs=tuple(Leg(account[role], amount) for role, amount in legs if amount),
            idempotency_key=f"invoice {invoice.pk} {invoice.revision}",
            request_fingerprint=fingerprint("invoice", invoice.pk, invoice.revision),
            description=f"Invoice {invoice.number}",
            external_reference=invoice.number,
            metadata={"invoice_id": str(invoice.pk)},
        ),
    )
    figures.count(invoice, now=now, invoiced=claim, invoices=1)


def take_out_of_books(invoice: Invoice, reason: str, now: dt.datetime) -> None:
    """Reverse what was posted for the invoice, whose status the caller changes."""
    if invoice.transaction_id is None:
        raise RuntimeError("an invoice with a number is posted")
    invoice.void_transaction_id = reverse_transaction(
        tenant_id=invoice.tenant_id,
        transaction_id=invoice.transaction_id,
        reason=reason,
        idempotency_key=f"invoice end {invoice.pk} {invoice.revision}",
        is_owner=True,
    ).id
    figures.count(invoice, now=now, invoiced=-claim_of(invoice), invoices=-1)


def revive(invoice: Invoice, now: dt.datetime) -> None:
    """Put the claim of an expired invoice into the books again: money has come. It is locked."""
    invoice.revision += 1
    invoice.transaction_id, invoice.void_transaction_id = new_id(), None
    invoice.status, invoice.updated_at = _S.PENDING, now
    invoice.save()
    post_claim(invoice, claim_accounts(invoice, now), now)
    record_change(
        tenant_id=invoice.tenant_id,
        action="invoice.revived",
        object_id=invoice.pk,
        now=now,
        before={"status": _S.EXPIRED.value},
        after={"status": invoice.status.value},
    )


def under_way(invoice: Invoice, now: dt.datetime) -> bool:
    """Whether a gateway may be taking money for it right now; an open page of one is not that."""
    active = list(Checkout.objects.filter(invoice=invoice, is_active=True))
    payments = Payment.objects.in_bulk([checkout.payment_id for checkout in active])
    return any(is_in_flight(each, payments[each.payment_id], now) for each in active)


def is_in_flight(checkout: Checkout, payment: Payment, now: dt.datetime) -> bool:
    """Whether money may be on its way, so that nobody else should be asked for the same."""
    if payment.status != Payment.Status.PENDING:
        return True
    is_card = payment.method != Payment.Method.HOSTED
    return is_card and now < checkout.created_at + CARD_HELD_FOR


def close_pages(invoice: Invoice) -> list[UUID]:
    """End all attempts to pay it; return their payments, for whoever calls off their pages."""
    active = Checkout.objects.filter(invoice=invoice, is_active=True)
    payment_ids = list(active.values_list("payment_id", flat=True))
    active.update(is_active=False)
    return payment_ids


def is_out_of_time(invoice: Invoice, now: dt.datetime) -> bool:
    """Whether nobody has paid anything of it in time."""
    is_open = invoice.status in (_S.PENDING, _S.FAILED)
    is_untouched = not invoice.amount_kept and not invoice.credited_amount
    return is_open and is_untouched and invoice.expires_at is not None and invoice.expires_at <= now


def refuse_unless_payable(invoice: Invoice, now: dt.datetime) -> None:
    """
    Say why an invoice cannot be paid.

    :raises InvoiceNotPayable: and that is why
    """
    is_late = invoice.status == _S.PENDING and is_out_of_time(invoice, now)
    if invoice.status in (_S.PENDING, _S.PARTIALLY_PAID) and not is_late:
        return
    raise InvoiceNotPayable(
        {
            _S.DRAFT: "It is a draft yet.",
            _S.FULLY_PAID: "It is paid.",
            _S.REFUNDED: "It was paid and paid back.",
            _S.FAILED: "Too many attempts to pay it failed.",
            _S.EXPIRED: "It has expired.",
            _S.VOIDED: "It was voided.",
        }[_S.EXPIRED if is_late else _S(invoice.status)]
    )


def claim_of(invoice: Invoice) -> Parts:
    return Parts(
        invoice.subtotal_amount, invoice.total_tax_amount, invoice.total_service_fee_amount
    )
