"""What a person at the back office reads of an invoice: where it stands, what happened to it."""

import datetime as dt
from typing import Any

from core.admin import in_words, minute
from core.models import AuditRecord
from core.money import format_money
from invoices.models import CreditNoteRefund, CreditUse, Invoice, Mailing, Receipt

_S = Invoice.Status

ATTENTION = {
    "paid_after_void": (
        "Money came after the invoice had been voided. It is kept as the customer's credit: pay it"
        " back, or leave it for their next invoice."
    ),
    "charged_back": (
        "The payer's bank took money back. What it took is owed on the invoice again."
    ),
    "credit_spent_before_charge_back": (
        "What was overpaid was charged back, and had paid another invoice meanwhile. Our suspense"
        " account lacks it: whose loss it is, a person decides."
    ),
    "settlement_account_owes": (
        "A payment was charged back, and the settlement account that had it could not be debited."
        " Our suspense account has paid instead."
    ),
    "too_many_failures": (
        "So many attempts to pay failed in a row that it looks like somebody trying cards out. It"
        " takes no payments until it is opened again."
    ),
    "refund_failed": (
        "A gateway would not pay the customer back. They have the money as credit instead."
    ),
    "email_failed": "An e-mail to the customer could not be sent: see its e-mails.",
}

# By the action of the audit record; with "+<field>" where the record says that too.
_HAPPENED = {
    "invoice.created": "The invoice was made, for {total_amount}.",
    "invoice.created+parent_id": "It was made as a supplement, for {total_amount}.",
    "invoice.changed": "The draft was written anew.",
    "invoice.changed+charged_back": "{charged_back} was charged back; {amount_due} is due.",
    "invoice.changed+credit_note_id": "After a credit note {amount_due} is due.",
    "invoice.finalized": "It was finalised as {number}.",
    "invoice.sent": "An e-mail with it was written to {to}.",
    "invoice.email_failed": (
        "The e-mail could not be sent in {attempts} attempts: {kind}. Nothing more is tried."
    ),
    "invoice.email_requeued": "The e-mail that failed is sent again: {kind}.",
    "invoice.voided": "It was voided.",
    "invoice.expired": "It expired: nobody had paid in time.",
    "invoice.revived": "Money came for it after it had expired: it is owed again.",
    "invoice.opened_again": "It was opened again, for payments.",
    "invoice.overdue": (
        "Installment {installment} was not paid by {due_date}: {amount_due} of it is due."
    ),
    "invoice.reminded": "A reminder of installment {installment} was written.",
    "invoice.payment_recorded": "{amount} was recorded by hand: {method}.",
    "invoice.partially_paid": "It is paid in part: {amount_due} is due.",
    "invoice.partially_paid+amount": "{amount} came in: {amount_due} is still due.",
    "invoice.partially_paid+charged_back": "{charged_back} was charged back; {amount_due} is due.",
    "invoice.paid": "It is paid.",
    "invoice.paid+amount": "{amount} came in: it is paid.",
    "invoice.unpaid_again": "Nothing of it is paid any more: {amount_due} is due.",
    "invoice.unpaid_again+charged_back": "{charged_back} was charged back; {amount_due} is due.",
    "invoice.refunded": "All that was paid on it went back.",
    "invoice.attempt_failed": (
        "The attempt to pay failed: {failure_code}. Failed in a row: {failed_attempts}."
    ),
    "invoice.failed": "Too many attempts to pay failed: it takes no more.",
    "invoice.refund_failed": "{amount} could not be paid back; the customer has it as credit.",
    "invoice.charge_back_refused": (
        "The settlement account could not be debited of {owes} that was charged back: {refusal}."
    ),
    "invoice_payment.created": "An attempt to pay {amount} through {gateway} began.",
    "invoice_payment.sent_again": "It was sent to the gateway again.",
    "invoice_payment.submitted": "The gateway waits for the payer.",
    "invoice_payment.outcome_unknown": "The gateway's answer was lost; it is asked again.",
    "invoice_payment.paid": "The payer has paid.",
    "invoice_payment.deposited": "What was paid is in the books.",
    "invoice_payment.deposit_refused": "What was paid could not be put into the books yet.",
    "invoice_payment.failed": "The payment failed: {failure_code}.",
    "invoice_payment.expired": "The payer did not pay in time.",
    "invoice_payment.refund_begun": "It is paid back, since it was never put into the books.",
    "invoice_payment.refunded": "All of it was paid back.",
    "invoice_payment.reversed": "The payer's bank took it back.",
    "refund.created": "A refund of {amount} began.",
    "refund.submitted": "The gateway has the refund.",
    "refund.outcome_unknown": "The gateway's answer about the refund was lost; it is asked again.",
    "refund.succeeded": "The refund went through.",
    "refund.failed": "The refund failed: {failure_code}.",
    "credit_note.created": "A credit note over {amount}: {refund_amount} of it goes back.",
    "customer_credit.kept": "{amount} was kept as the customer's credit.",
    "customer_credit.refunded": "{amount} of what was overpaid is paid back.",
}
_CODES = ("failure_code", "refusal", "status", "kind")


class _Told(dict[str, str]):
    """What a record says; a field that it lacks is left open."""

    def __missing__(self, name: str) -> str:
        return "…"


def attention_sentence(invoice: Invoice) -> str:
    """Return why a person should look at it; empty: nobody need."""
    return ATTENTION.get(invoice.attention, in_words(invoice.attention))


def next_of_invoice(invoice: Invoice, overdue_since: dt.date | None) -> str:
    """Return what the invoice waits for; empty: nothing."""
    status = _S(invoice.status)
    if status is _S.DRAFT:
        return "Nobody owes it yet. Finalise it: it gets its number, and can be paid."
    if status is _S.FAILED:
        return "It takes no payments until it is opened again."
    if status is _S.EXPIRED:
        return "It cannot be paid any more. Money that comes all the same revives it."
    if status not in (_S.PENDING, _S.PARTIALLY_PAID):
        return ""
    due = format_money(invoice.amount_due, invoice.currency)
    if overdue_since is not None:
        return f"{due} is to be paid; a part of it has been due since {overdue_since}."
    end = ""
    if invoice.expires_at is not None and not invoice.amount_kept:
        end = f" If nothing is paid until {minute(invoice.expires_at)} UTC, it expires."
    return f"{due} is to be paid until {invoice.due_date}.{end}"


def happened(record: AuditRecord, currency: str) -> str:
    """Return what an audit record says happened, in a sentence."""
    after: dict[str, Any] = record.after or {}
    if record.action == "invoice.installments_adjusted":
        return _adjusted(record.before or {}, after, currency)
    keys = [f"{record.action}+{name}" for name in after]
    template = next((_HAPPENED[key] for key in keys if key in _HAPPENED), None)
    template = template or _HAPPENED.get(record.action)
    if template is None:
        resource, _, verb = record.action.partition(".")
        return f"{in_words(resource)}: {in_words(verb).lower()}."
    told = _Told({name: _value(name, value, currency) for name, value in after.items()})
    return template.format_map(told)


def _adjusted(before: dict[str, Any], after: dict[str, Any], currency: str) -> str:
    """Return what became of installments, each written as a day and an amount."""
    said = []
    for number, text in after.items():
        day, _, amount = str(text).partition(" ")
        if text != before.get(number):
            said.append(f"{number}: {format_money(int(amount), currency)} due {day}")
    return f"Installments were adjusted. {'; '.join(said)}." if said else "Nothing was adjusted."


def _value(name: str, value: Any, currency: str) -> str:
    is_amount = name.endswith("amount") or name in ("amount_due", "charged_back")
    if is_amount and isinstance(value, int):
        return format_money(value, currency)
    return in_words(str(value)).lower() if name in _CODES and value else str(value or "no reason")


def receipt_way(receipt: Receipt) -> str:
    """Return how the money came."""
    if receipt.kind == Receipt.Kind.CREDIT:
        return "from the customer's credit"
    kind = "through" if receipt.kind == Receipt.Kind.GATEWAY else "by hand:"
    return f"{kind} {receipt.method}"


def refund_way(way: CreditNoteRefund) -> str:
    """Return how a part of a credit note went back, and whether it has."""
    if way.receipt.kind == Receipt.Kind.CREDIT:
        return "as the customer's credit"
    if way.refund_id is None:
        return "by hand"
    return f"through {way.receipt.method}"


def use_words(use: CreditUse) -> str:
    """Return what became of a part of a credit."""
    said = {
        CreditUse.Kind.APPLIED: "Paid an invoice",
        CreditUse.Kind.REFUNDED: "Paid back",
        CreditUse.Kind.TAKEN_BACK: "Charged back",
    }[CreditUse.Kind(use.kind)]
    return f"{said}; the gateway refused, and it is credit again" if use.is_undone else said


def mailing_words(mailing: Mailing) -> str:
    return in_words(mailing.kind)


def credit_note_outcome(ways: list[CreditNoteRefund], currency: str, number: str) -> str:
    """Return what became of a credit note just made, in a sentence or two."""
    said = [f"{number} is made."]
    for way in ways:
        amount = format_money(way.amount, currency)
        if way.status == CreditNoteRefund.Status.FAILED:
            said.append(f"The gateway would not pay {amount} back: the customer has it as credit.")
        elif way.receipt.kind == Receipt.Kind.CREDIT:
            said.append(f"{amount} is the customer's credit again.")
        elif way.refund_id is None:
            said.append(f"{amount} came past the gateways: hand it back as it came.")
        elif way.status == CreditNoteRefund.Status.SUCCEEDED:
            said.append(f"{amount} went back through {way.receipt.method}.")
        else:
            said.append(f"{amount} is on its way back through {way.receipt.method}.")
    return " ".join(said)
