"""What a gateway's word about a payment means for its invoice, in the same database transaction."""

import datetime as dt
from uuid import UUID

from django.db.models import F

from accounts.models import Account
from core.changes import record_change
from core.idempotency import fingerprint
from invoices.models import Checkout, Credit, CreditNoteRefund, CreditUse, Invoice, Receipt
from invoices.queries import invoice_for_update
from invoices.services import figures
from invoices.services.amounts import NOTHING, Parts, part_of
from invoices.services.receiving import (
    Received,
    books_of,
    gateway_of,
    keep_as_credit,
    needs_a_person,
    post_for,
    receive,
    take_back,
)
from payments.models import Payment, Refund

# Failures in which no card was tried.
_NOBODY_DECLINED = frozenset({"gateway_unreachable", "gateway_error", "never_arrived"})
# So many failures in a row look like somebody trying cards out: then staff open it again.
FAILED_ATTEMPTS_MAX = 10
_ROLE = Account.Role
_P = Payment.Status
# The payer sees a new page after one of these.
_ENDED = (_P.DEPOSITED, _P.FAILED, _P.EXPIRED, _P.REFUNDED, _P.REVERSED)


class InvoicePayments:
    """Listens to payments of purpose `invoice`; see payments.services.listening."""

    def lock(self, payment: Payment) -> None:
        """Lock what the payment is for, before anything is posted."""
        self._invoice_of(payment.tenant_id, payment.pk)

    def deposited(self, payment: Payment, *, now: dt.datetime) -> None:
        checkout = Checkout.objects.get(payment_id=payment.pk)
        invoice = self._invoice_of(payment.tenant_id, payment.pk)
        if payment.transaction_id is None:
            raise RuntimeError("a payment that is deposited was posted")
        gateway = payment.configuration.gateway
        receive(
            invoice,
            Received(
                kind=Receipt.Kind.GATEWAY,
                method=gateway,
                amount=payment.amount,
                transaction_id=payment.transaction_id,
                received_on=invoice.tenant.day_of(payment.paid_at or now),
                idempotency_key=f"payment {payment.pk}",
                request_fingerprint=fingerprint("invoice payment", payment.pk),
                gateway=gateway,
                payment_id=payment.pk,
                installment_id=checkout.installment_id,
                reference=payment.reference,
            ),
            now,
        )

    def moved(self, payment: Payment, *, before: str, now: dt.datetime) -> None:
        if payment.status not in _ENDED:
            return
        # Before its attempts are, as everywhere.
        self.lock(payment)
        ended = Checkout.objects.filter(payment_id=payment.pk, is_active=True).update(
            is_active=False
        )
        is_declined_card = (
            payment.status == _P.FAILED
            and payment.method != Payment.Method.HOSTED
            and payment.failure_code not in _NOBODY_DECLINED
        )
        if ended and is_declined_card:
            self._count_failure(payment, now)

    def taken_back(self, payment: Payment, amount: int, *, now: dt.datetime) -> None:
        invoice = self._invoice_of(payment.tenant_id, payment.pk)
        receipt = Receipt.objects.select_for_update(no_key=True).get(payment_id=payment.pk)
        receipt.invoice = invoice
        take_back(invoice, receipt, amount, now)

    def refund_ended(self, refund: Refund, *, now: dt.datetime) -> None:
        has_failed = refund.status == Refund.Status.FAILED
        # With a payment that was charged back meanwhile, the payer has this money too.
        is_ours_again = has_failed and refund.payment.status != _P.REVERSED
        way = CreditNoteRefund.objects.select_related("receipt", "credit_note").filter(
            refund_id=refund.pk
        )
        use = CreditUse.objects.filter(refund_id=refund.pk)
        for each in way:
            each.status = (
                CreditNoteRefund.Status.FAILED if has_failed else CreditNoteRefund.Status.SUCCEEDED
            )
            each.updated_at = now
            each.save(update_fields=["status", "updated_at"])
            if is_ours_again:
                self._keep_refund_as_credit(refund, each, now)
        for taken in use:
            if is_ours_again:
                self._undo_use(refund, taken, now)

    def _invoice_of(self, tenant_id: UUID, payment_id: UUID) -> Invoice:
        checkout = Checkout.objects.get(payment_id=payment_id)
        return invoice_for_update(tenant_id=tenant_id, invoice_id=checkout.invoice_id)

    def _count_failure(self, payment: Payment, now: dt.datetime) -> None:
        invoice = self._invoice_of(payment.tenant_id, payment.pk)
        invoice.failed_attempts += 1
        invoice.updated_at = now
        before = invoice.status
        is_open = before in (Invoice.Status.PENDING, Invoice.Status.PARTIALLY_PAID)
        if is_open and invoice.failed_attempts >= FAILED_ATTEMPTS_MAX:
            invoice.status = Invoice.Status.FAILED
            needs_a_person(invoice, "too_many_failures")
        invoice.save()
        record_change(
            tenant_id=invoice.tenant_id,
            action="invoice.failed" if invoice.status != before else "invoice.attempt_failed",
            object_id=invoice.pk,
            now=now,
            before={"status": before},
            after={
                "status": invoice.status,
                "failed_attempts": invoice.failed_attempts,
                "failure_code": payment.failure_code,
            },
        )

    def _keep_refund_as_credit(
        self, refund: Refund, way: CreditNoteRefund, now: dt.datetime
    ) -> None:
        """The gateway would not pay it back: the customer has it as credit, and staff see it."""
        receipt = way.receipt
        invoice = invoice_for_update(tenant_id=refund.tenant_id, invoice_id=receipt.invoice_id)
        account = books_of(invoice, now, _ROLE.RECEIVABLE, _ROLE.CUSTOMER_CREDIT)
        posted = post_for(
            invoice,
            type_="invoice_allocation",
            key=f"refund failed {refund.pk}",
            legs={
                account[_ROLE.RECEIVABLE]: -refund.amount,
                account[_ROLE.CUSTOMER_CREDIT]: refund.amount,
            },
            what="Refund failed of",
        )
        keep_as_credit(invoice, receipt, refund.amount, posted.id, now)
        invoice.overpaid_amount += refund.amount
        needs_a_person(invoice, "refund_failed")
        invoice.updated_at = now
        invoice.save()
        record_change(
            tenant_id=invoice.tenant_id,
            action="invoice.refund_failed",
            object_id=invoice.pk,
            now=now,
            after={"amount": refund.amount, "failure_code": refund.failure_code},
        )
        whole = sum((Parts(*parts) for _, *parts in receipt.split), NOTHING)
        # The refunds of a receipt, one after another, are its parts one after another.
        earlier = CreditNoteRefund.objects.filter(receipt=receipt, pk__lt=way.pk)
        before = sum(earlier.values_list("amount", flat=True))
        parts = part_of(whole, before, before + refund.amount)
        figures.count(
            invoice,
            now=now,
            gateway=gateway_of(receipt),
            refunded=-parts,
            refunds=-1,
        )

    def _undo_use(self, refund: Refund, use: CreditUse, now: dt.datetime) -> None:
        """The gateway would not pay the credit back: it is credit again."""
        credit = Credit.objects.get(pk=use.credit_id)
        invoice = invoice_for_update(tenant_id=refund.tenant_id, invoice_id=credit.invoice_id)
        # Credits before accounts, as everywhere.
        Credit.objects.select_for_update(no_key=True).get(pk=credit.pk)
        account = books_of(invoice, now, _ROLE.RECEIVABLE, _ROLE.CUSTOMER_CREDIT)
        post_for(
            invoice,
            type_="credit_use",
            key=f"credit refund failed {refund.pk}",
            legs={
                account[_ROLE.RECEIVABLE]: -use.amount,
                account[_ROLE.CUSTOMER_CREDIT]: use.amount,
            },
            what="Refund failed of",
        )
        Credit.objects.filter(pk=credit.pk).update(used_amount=F("used_amount") - use.amount)
        use.is_undone = True
        use.save(update_fields=["is_undone"])
        needs_a_person(invoice, "refund_failed")
        invoice.updated_at = now
        invoice.save(update_fields=["attention", "updated_at"])
        record_change(
            tenant_id=invoice.tenant_id,
            action="invoice.refund_failed",
            object_id=invoice.pk,
            now=now,
            after={"amount": use.amount, "failure_code": refund.failure_code},
        )
