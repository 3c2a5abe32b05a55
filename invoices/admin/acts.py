"""What staff do with an invoice: each act is a form, and one call of a service."""

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.http import HttpRequest
from django.utils import timezone

from core.admin import Act, Done, page_url
from core.errors import InvalidState
from core.forms import (
    AmountField,
    CardFreeField,
    DayField,
    Keyed,
    PartForm,
    WithReason,
    asked_by,
    idempotency_key,
    made_once,
    part_field,
)
from core.idempotency import fingerprint
from core.money import Money, format_money
from core.permissions import Permission
from core.versions import refuse_unless_as_seen
from invoices import services
from invoices.admin import words
from invoices.admin.columns import credits_of
from invoices.admin.drafting import ChangeDraftForm, SupplementForm, draft_version
from invoices.admin.rows import Column, RowsField
from invoices.models import CreditNote, Installment, Invoice
from invoices.queries import credits_for, installments_of, invoice_for_update, open_credit
from invoices.services import Adjustment, NewInvoice
from ledger.errors import InsufficientFunds

_S = Invoice.Status
_PAYABLE = (_S.PENDING, _S.PARTIALLY_PAID)
# How money comes past the gateways.
WAYS = ("bank transfer", "cash", "cheque", "card terminal", "other")


def make_once(
    *,
    request: HttpRequest,
    cleaned: dict[str, Any],
    tenant_id: UUID,
    make: Callable[[dt.datetime], Invoice],
) -> tuple[Invoice, bool]:
    """
    Make an invoice once for each form that was shown; return it, and whether it was made before.

    :raises InvalidState: the form made another one already
    """
    made_id, is_replay = made_once(
        request=request,
        cleaned=cleaned,
        tenant_id=tenant_id,
        asked=fingerprint("invoice", dataclasses.asdict(cleaned["new"]), cleaned["finish"]),
        what="an invoice",
        make=make,
    )
    return Invoice.objects.get(pk=made_id), is_replay


def credit_left_for(invoice: Invoice) -> int:
    """Return what the customer has left that could pay it, in minor units; looked up once."""
    if not hasattr(invoice, "credit_left"):
        found = open_credit(list(credits_for(invoice))) if invoice.status in _PAYABLE else 0
        invoice.credit_left = found  # type: ignore[attr-defined]
    return int(invoice.credit_left)  # type: ignore[attr-defined]


def overpaid_left_of(invoice: Invoice) -> int:
    """Return what was overpaid on it and is still there, in minor units."""
    return open_credit(credits_of(invoice))


class ChangeDraft(Act[Invoice]):
    name, label, permission = "edit", "Change", Permission.MAKE_INVOICES
    warning = "The draft is written anew, as the form says. Nobody has been asked to pay it yet."

    def is_offered(self, obj: Invoice) -> bool:
        return obj.status == _S.DRAFT

    def form(self, obj: Invoice, data: Any) -> forms.Form:
        return ChangeDraftForm(data, draft=obj)

    def run(self, obj: Invoice, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        # Locked until it is changed: of two who send their forms at once, the second is told.
        draft = invoice_for_update(tenant_id=obj.tenant_id, invoice_id=obj.pk)
        refuse_unless_as_seen(draft_version(draft), cleaned["seen"])
        services.change_draft(
            tenant_id=obj.tenant_id, invoice_id=obj.pk, new=cleaned["new"], now=timezone.now()
        )
        return Done("The draft is changed.")


class Finalize(Act[Invoice]):
    name, label, permission = "finalize", "Finalise", Permission.MAKE_INVOICES
    warning = (
        "The invoice gets its number, and stays as it is from then on. What it claims goes into the"
        " books, and its payment page opens. If the customer has credit, and the invoice settings"
        " say so, it pays what it can."
    )
    # Posts, and is the same however often it is done.
    is_posting = True

    def is_offered(self, obj: Invoice) -> bool:
        return obj.status == _S.DRAFT

    def form(self, obj: Invoice, data: Any) -> forms.Form:
        return forms.Form(data)

    def run(self, obj: Invoice, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        now = timezone.now()
        invoice = services.finalize_invoice(tenant_id=obj.tenant_id, invoice_id=obj.pk, now=now)
        return Done(f"This is {invoice.number} now.", is_replay=invoice.finalized_at != now)


class Send(Act[Invoice]):
    name, label, permission = "send", "Send by e-mail", Permission.MAKE_INVOICES
    warning = (
        "The customer gets an e-mail with the invoice as PDF and the address where it is paid."
    )

    def is_offered(self, obj: Invoice) -> bool:
        is_owed = obj.number is not None and obj.status not in (_S.VOIDED, _S.EXPIRED)
        return is_owed and bool(obj.customer_email)

    def form(self, obj: Invoice, data: Any) -> Keyed:
        return Keyed(data)

    def run(self, obj: Invoice, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        now = timezone.now()
        invoice = services.send_invoice(
            tenant_id=obj.tenant_id,
            invoice_id=obj.pk,
            key=idempotency_key(request, cleaned),
            now=now,
        )
        return Done(
            f"An e-mail to {invoice.customer_email} is on its way.",
            is_replay=invoice.sent_at != now,
        )


class RecordForm(Keyed):
    field_order = ["amount", "method", "received_on", "reference", "note", "key"]
    method = forms.ChoiceField(choices=[(way, way.capitalize()) for way in WAYS], label="How")
    received_on = DayField(label="Received on")
    reference = CardFreeField(
        required=False, max_length=140, help_text="Such as the bank's, or the number of a cheque."
    )
    note = CardFreeField(required=False, max_length=500)

    def __init__(self, data: Any, *, invoice: Invoice, today: dt.date) -> None:
        super().__init__(data, initial={"received_on": today})
        self.today = today
        due, currency = invoice.amount_due, invoice.currency
        said = f"{format_money(due, currency)} is due." if due else "Nothing is due."
        self.fields["amount"] = AmountField(currency, initial=due or None, help_text=said)
        self.order_fields(self.field_order)

    def clean_received_on(self) -> dt.date:
        day: dt.date = self.cleaned_data["received_on"]
        if day > self.today:
            raise forms.ValidationError("That day is yet to come.")
        return day


class RecordPayment(Act[Invoice]):
    name, label, permission = "record-payment", "Record a payment", Permission.MAKE_INVOICES
    warning = (
        "For money that came past the gateways: it goes into your cash account, and pays the"
        " invoice. What is more than is due is kept as the customer's credit."
    )
    is_posting = True

    def is_offered(self, obj: Invoice) -> bool:
        return obj.number is not None and obj.status != _S.VOIDED

    def form(self, obj: Invoice, data: Any) -> RecordForm:
        return RecordForm(data, invoice=obj, today=obj.tenant.day_of(timezone.now()))

    def run(self, obj: Invoice, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        now = timezone.now()
        receipt = services.record_offline_payment(
            tenant_id=obj.tenant_id,
            invoice_id=obj.pk,
            amount=cleaned["amount"],
            method=cleaned["method"],
            received_on=cleaned["received_on"],
            reference=cleaned["reference"],
            note=cleaned["note"],
            idempotency_key=idempotency_key(request, cleaned),
            now=now,
            asked_by=asked_by(request),
        )
        over = receipt.amount - receipt.applied_amount
        said = f"{format_money(receipt.amount, obj.currency)} is recorded."
        if over:
            said += f" {format_money(over, obj.currency)} of it is the customer's credit."
        return Done(said, is_replay=receipt.created_at != now)


class CreditForm(Keyed):
    field_order = ["amount", "key"]

    def __init__(self, data: Any, *, currency: str, left: int) -> None:
        super().__init__(data)
        self.fields["amount"] = part_field(currency, left)
        self.order_fields(self.field_order)


class ApplyCredit(Act[Invoice]):
    name, label, permission = "apply-credit", "Use credit", Permission.MAKE_INVOICES
    warning = "Pays the invoice from what its customer paid too much before, the oldest first."
    is_posting = True

    def is_offered(self, obj: Invoice) -> bool:
        return credit_left_for(obj) > 0

    def form(self, obj: Invoice, data: Any) -> CreditForm:
        left = min(credit_left_for(obj), obj.amount_due)
        return CreditForm(data, currency=obj.currency, left=left)

    def run(self, obj: Invoice, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        now = timezone.now()
        invoice = services.apply_credit(
            tenant_id=obj.tenant_id,
            invoice_id=obj.pk,
            amount=cleaned["amount"],
            idempotency_key=idempotency_key(request, cleaned),
            now=now,
            asked_by=asked_by(request),
        )
        due = format_money(invoice.amount_due, invoice.currency)
        return Done(
            f"The customer's credit is used. {due} is due.", is_replay=invoice.updated_at != now
        )


class _MakeCreditNote(Act[Invoice]):
    # A gateway is asked after it is posted.
    is_posting = is_dangerous = True
    service: ClassVar[Any]

    def left(self, obj: Invoice) -> int:
        raise NotImplementedError

    def is_offered(self, obj: Invoice) -> bool:
        is_owed = obj.number is not None and obj.status not in (_S.VOIDED, _S.EXPIRED)
        return is_owed and self.left(obj) > 0

    def form(self, obj: Invoice, data: Any) -> PartForm:
        return PartForm(data, currency=obj.currency, left=self.left(obj))

    def run(self, obj: Invoice, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        try:
            made = type(self).service(
                tenant_id=obj.tenant_id,
                invoice_id=obj.pk,
                amount=cleaned["amount"],
                reason=cleaned["reason"],
                idempotency_key=idempotency_key(request, cleaned),
                now=timezone.now(),
                asked_by=asked_by(request),
            )
        except InsufficientFunds as refusal:
            # An account's id would tell a person nothing.
            raise InvalidState("The settlement account has not enough available.") from refusal
        note = made.credit_note
        ways = list(note.refunds.select_related("receipt").order_by("pk"))
        return Done(
            words.credit_note_outcome(ways, note.currency, note.number),
            page_url(CreditNote, note.pk),
            is_replay=made.is_replay,
        )


class Refund(_MakeCreditNote):
    name, label, permission = "refund", "Refund", Permission.REFUND_INVOICES
    warning = (
        "Pays back what was paid, with a credit note: through the gateway it came by, by hand, or"
        " to the customer's credit. What is still owed on the invoice stays owed."
    )
    service = staticmethod(services.refund_invoice)

    def left(self, obj: Invoice) -> int:
        return obj.amount_kept


class MakeCreditNote(_MakeCreditNote):
    name, label, permission = "credit", "Credit note", Permission.REFUND_INVOICES
    warning = (
        "Takes the invoice back, whole or in part: first what is still owed, which is owed no more;"
        " then what was paid, which goes back by the way it came."
    )
    service = staticmethod(services.credit_invoice)

    def left(self, obj: Invoice) -> int:
        return obj.amount_kept + obj.amount_due


class RefundOverpayment(Act[Invoice]):
    name, label = "refund-overpayment", "Refund overpayment"
    permission = Permission.REFUND_INVOICES
    warning = (
        "Pays back what was paid beyond what was due, and is still there: through the gateway it"
        " came by, or by hand."
    )
    is_posting = is_dangerous = True

    def is_offered(self, obj: Invoice) -> bool:
        return overpaid_left_of(obj) > 0

    def form(self, obj: Invoice, data: Any) -> PartForm:
        return PartForm(data, currency=obj.currency, left=overpaid_left_of(obj))

    def run(self, obj: Invoice, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        made = services.refund_credit(
            tenant_id=obj.tenant_id,
            invoice_id=obj.pk,
            amount=cleaned["amount"],
            reason=cleaned["reason"],
            idempotency_key=idempotency_key(request, cleaned),
            now=timezone.now(),
            asked_by=asked_by(request),
        )
        amount = format_money(made.amount, obj.currency)
        return Done(
            f"{amount} goes back: see the overpayment below. What came by hand, hand back.",
            is_replay=made.is_replay,
        )


class AdjustForm(forms.Form):
    def __init__(self, data: Any, *, invoice: Invoice) -> None:
        self.invoice = invoice
        self.unpaid = [
            each
            for each in installments_of(invoice)
            if not each.paid_amount and not each.credited_amount
        ]
        currency = invoice.currency
        typed = [
            {"due_date": each.due_date, "amount": Money(each.amount, currency).decimal}
            for each in self.unpaid
        ]
        super().__init__(data, initial={"installments": typed})
        day = DayField()
        amount = AmountField(currency, widget=forms.TextInput(attrs={"inputmode": "decimal"}))
        total = sum(each.amount for each in self.unpaid)
        self.fields["installments"] = RowsField(
            [
                Column("due_date", "Due date", day),
                Column("amount", f"Amount in {currency}", amount),
            ],
            [f"Installment {each.number}" for each in self.unpaid],
            help_text=f"Together they stay {format_money(total, currency)}.",
        )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        cleaned["adjustments"] = [
            Adjustment(self.unpaid[place].number, row["due_date"], row["amount"])
            for place, row in cleaned.get("installments", [])
            if self._differs(self.unpaid[place], row)
        ]
        if not self.errors and not cleaned["adjustments"]:
            raise forms.ValidationError("Nothing is different.")
        return cleaned

    def _differs(self, installment: Installment, row: dict[str, Any]) -> bool:
        return (installment.due_date, installment.amount) != (row["due_date"], row["amount"])


class AdjustInstallments(Act[Invoice]):
    name, label, permission = "adjust", "Adjust installments", Permission.MAKE_INVOICES
    warning = (
        "Unpaid installments get other days or amounts; their sum stays. Payment pages that are"
        " open ask for what is there no more, and are closed."
    )

    def is_offered(self, obj: Invoice) -> bool:
        return obj.has_schedule and obj.status in (_S.DRAFT, *_PAYABLE)

    def form(self, obj: Invoice, data: Any) -> AdjustForm:
        return AdjustForm(data, invoice=obj)

    def run(self, obj: Invoice, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.adjust_installments(
            tenant_id=obj.tenant_id,
            invoice_id=obj.pk,
            adjustments=cleaned["adjustments"],
            now=timezone.now(),
        )
        return Done("The installments are adjusted.")


class Supplement(Act[Invoice]):
    name, label, permission = "supplement", "Add a supplement", Permission.MAKE_INVOICES
    warning = (
        "Makes another invoice for what comes on top of this one: same customer, currency and"
        " settlement account, a number and installments of its own. This one stays as it is."
    )
    is_posting = True

    def is_offered(self, obj: Invoice) -> bool:
        return obj.status in (*_PAYABLE, _S.FULLY_PAID)

    def form(self, obj: Invoice, data: Any) -> SupplementForm:
        return SupplementForm(data, parent=obj)

    def run(self, obj: Invoice, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        new: NewInvoice = cleaned["new"]

        def make(now: dt.datetime) -> Invoice:
            return services.create_supplementary(
                tenant_id=obj.tenant_id,
                parent_id=obj.pk,
                new=new,
                now=now,
                is_final=cleaned["finish"] == "final",
            )

        made, is_replay = make_once(
            request=request, cleaned=cleaned, tenant_id=obj.tenant_id, make=make
        )
        return Done(f"Added: {made}.", page_url(Invoice, made.pk), is_replay=is_replay)


class Void(Act[Invoice]):
    name, label, permission = "void", "Void", Permission.VOID_INVOICES
    warning = (
        "The invoice is owed no more and cannot be paid. It keeps its number. Money that comes all"
        " the same is kept as the customer's credit."
    )
    is_posting = is_dangerous = True

    def is_offered(self, obj: Invoice) -> bool:
        is_open = obj.status in (_S.DRAFT, _S.PENDING, _S.FAILED, _S.EXPIRED)
        return is_open and not obj.paid_amount and not obj.credited_amount

    def form(self, obj: Invoice, data: Any) -> WithReason:
        return WithReason(data)

    def run(self, obj: Invoice, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        now = timezone.now()
        invoice = services.void_invoice(
            tenant_id=obj.tenant_id, invoice_id=obj.pk, reason=cleaned["reason"], now=now
        )
        return Done("The invoice is voided.", is_replay=invoice.voided_at != now)


class OpenAgain(Act[Invoice]):
    name, label, permission = "open-again", "Open again", Permission.VOID_INVOICES
    warning = (
        "The invoice takes payments again, after so many attempts failed that it looked like"
        " somebody trying cards out. Look at the attempts first."
    )

    def is_offered(self, obj: Invoice) -> bool:
        return obj.status == _S.FAILED

    def form(self, obj: Invoice, data: Any) -> WithReason:
        return WithReason(data)

    def run(self, obj: Invoice, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.open_again(
            tenant_id=obj.tenant_id,
            invoice_id=obj.pk,
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done("The invoice takes payments again.")


class SettleAttention(Act[Invoice]):
    name, label, permission = "seen-to", "Seen to", Permission.MAKE_INVOICES
    warning = "Whatever needed a person has been seen to. Nothing else changes."

    def is_offered(self, obj: Invoice) -> bool:
        return bool(obj.attention) and obj.status != _S.FAILED

    def form(self, obj: Invoice, data: Any) -> WithReason:
        return WithReason(data)

    def run(self, obj: Invoice, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.settle_attention(
            tenant_id=obj.tenant_id,
            invoice_id=obj.pk,
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done("The invoice needs nobody any more.")


ACTS: tuple[Act[Invoice], ...] = (
    Finalize(),
    ChangeDraft(),
    Send(),
    RecordPayment(),
    ApplyCredit(),
    AdjustInstallments(),
    Supplement(),
    Refund(),
    MakeCreditNote(),
    RefundOverpayment(),
    SettleAttention(),
    OpenAgain(),
    Void(),
)
