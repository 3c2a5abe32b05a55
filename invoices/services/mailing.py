"""
E-mails to customers: composed from their rows, sent by a worker.

At least once: who dies between sending and writing that down sends again, with the same Message-ID,
by which mail programs know the second copy. Each try is counted before it is made, so that a
message that kills its worker is not tried for ever.
"""

import datetime as dt
import random
from email.utils import formataddr
from smtplib import SMTPException
from typing import Any
from uuid import UUID

import structlog
from babel.dates import format_date
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import gettext as _

from core.changes import record_change
from core.errors import InvalidState, NotFound
from core.jobs import ring
from core.money import format_amount
from invoices.models import CreditNote, Installment, Invoice, Mailing, Receipt
from invoices.queries import settings_of
from invoices.services.documents import (
    payment_address,
    render_credit_note,
    render_invoice,
    render_receipt,
)
from invoices.services.reminding import MAIL_TASK

logger = structlog.get_logger(__name__)

ATTEMPTS_MAX = 8
# Doubled each time: 1, 2, 4 ... minutes, two hours and more together; then a person looks.
_FIRST_PAUSE = dt.timedelta(minutes=1)
_K, _S = Mailing.Kind, Mailing.Status


def send_due_mailings(*, now: dt.datetime, limit: int) -> int:
    """Send at most `limit` e-mails that are due; return how many were sent."""
    return sum(_send(mailing, now) for mailing in _claimed(now, limit))


def requeue_mailing(*, tenant_id: UUID, mailing_id: UUID, now: dt.datetime) -> Mailing:
    """
    Have an e-mail that failed be tried again.

    :raises NotFound: no such e-mail in this tenant
    :raises InvalidState: it has not failed
    """
    with transaction.atomic():
        mailing = (
            Mailing.objects.select_for_update(no_key=True)
            .filter(tenant_id=tenant_id, pk=mailing_id)
            .first()
        )
        if mailing is None:
            raise NotFound("No such e-mail.")
        if mailing.status != _S.FAILED:
            raise InvalidState(f"The e-mail is {mailing.status}, not failed.")
        mailing.status, mailing.attempts, mailing.next_attempt_at = _S.QUEUED, 0, now
        mailing.save()
        Invoice.objects.filter(pk=mailing.invoice_id, attention="email_failed").update(
            attention="", updated_at=now
        )
        record_change(
            tenant_id=tenant_id,
            action="invoice.email_requeued",
            object_id=mailing.invoice_id,
            now=now,
            after={"kind": mailing.kind},
        )
        ring(MAIL_TASK)
    return mailing


def _claimed(now: dt.datetime, limit: int) -> list[Mailing]:
    """Return e-mails that are due, each counted and moved on to its next try."""
    with transaction.atomic():
        due = (
            Mailing.objects.select_for_update(skip_locked=True, no_key=True)
            .filter(status=_S.QUEUED, next_attempt_at__lte=now)
            .order_by("next_attempt_at", "pk")
        )
        mailings = list(due[:limit])
        for mailing in mailings:
            mailing.attempts += 1
            pause = _FIRST_PAUSE * 2 ** (mailing.attempts - 1)
            mailing.next_attempt_at = now + pause * random.uniform(1, 1.25)  # noqa: S311
        if mailings:
            Mailing.objects.bulk_update(mailings, ["attempts", "next_attempt_at"])
    return mailings


def _send(mailing: Mailing, now: dt.datetime) -> bool:
    invoice = Invoice.objects.select_related("tenant").get(pk=mailing.invoice_id)
    if _says_nothing_any_more(mailing, invoice):
        _end(mailing, _S.DROPPED, now)
        return False
    if mailing.attempts > ATTEMPTS_MAX:
        # The last try ended with its worker.
        _give_up(mailing, invoice, "The worker that sent it ended.", now)
        return False
    try:
        compose(mailing, invoice).send()
    except Exception as fault:
        # Whatever it is, it keeps no other e-mail waiting. Of a mail server's refusal the name
        # alone is logged: what it says of an address is a person's.
        what = {"mailing_id": str(mailing.pk), "fault": type(fault).__name__}
        if isinstance(fault, OSError | SMTPException):
            logger.warning("e-mail not sent", **what)
        else:
            logger.exception("e-mail not sent", **what)
        reason = f"{type(fault).__name__}: {fault}"[:300]
        if mailing.attempts >= ATTEMPTS_MAX:
            _give_up(mailing, invoice, reason, now)
        else:
            Mailing.objects.filter(pk=mailing.pk).update(last_error=reason)
        return False
    _end(mailing, _S.SENT, now)
    return True


def compose(mailing: Mailing, invoice: Invoice) -> EmailMultiAlternatives:
    """Return the e-mail as it goes out: text and HTML in the invoice's language, PDF attached."""
    with translation.override(invoice.locale):
        subject, words, name, document = _content(mailing, invoice)
    issuer = settings_of(tenant_id=invoice.tenant_id)
    seller = _one_line(issuer.legal_name or invoice.tenant.name)
    context = {"words": words, "seller": seller, "language": invoice.locale}
    domain = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].strip(" >") or "localhost"
    message = EmailMultiAlternatives(
        subject=_one_line(subject),
        body=render_to_string("invoices/email/message.txt", context),
        from_email=formataddr((seller, settings.DEFAULT_FROM_EMAIL)),
        to=[mailing.to],
        reply_to=[issuer.email] if issuer.email else None,
        headers={
            "Message-ID": f"<{mailing.pk}@{domain}>",
            "Auto-Submitted": "auto-generated",
            "X-Auto-Response-Suppress": "All",
        },
    )
    message.attach_alternative(
        render_to_string("invoices/email/message.html", context), "text/html"
    )
    message.attach(name, document, "application/pdf")
    return message


def _content(mailing: Mailing, invoice: Invoice) -> tuple[str, dict[str, Any], str, bytes]:
    """Return subject, words, and the name and bytes of the attachment."""
    number = str(invoice.number)
    greeting = _("Dear %(name)s,") % {"name": invoice.customer_name or _("customer")}
    words: dict[str, Any] = {"greeting": greeting, "link": payment_address(invoice)}
    if mailing.kind == _K.RECEIPT:
        receipt = Receipt.objects.select_related("invoice__tenant").get(pk=_subject_of(mailing))
        shown = _money(invoice, receipt.amount)
        words["text"] = _("We have received %(amount)s for invoice %(number)s. Thank you.") % {
            "amount": shown,
            "number": number,
        }
        words["action"] = _("See the invoice")
        subject = _("Receipt for invoice %(number)s") % {"number": number}
        return subject, words, f"{number}-receipt.pdf", render_receipt(receipt=receipt)
    if mailing.kind == _K.CREDIT_NOTE:
        note = CreditNote.objects.select_related("invoice__tenant").get(pk=_subject_of(mailing))
        words["text"] = _("We have credited %(amount)s of invoice %(number)s: %(reason)s") % {
            "amount": _money(invoice, note.amount),
            "number": number,
            "reason": note.reason,
        }
        words["action"] = _("See the invoice")
        subject = _("Credit note %(number)s") % {"number": note.number}
        return subject, words, f"{note.number}.pdf", render_credit_note(credit_note=note)
    words["action"] = _("Pay online")
    if mailing.kind == _K.REMINDER:
        installment = Installment.objects.get(pk=_subject_of(mailing))
        words["text"] = _("%(amount)s of invoice %(number)s is due on %(day)s.") % {
            "amount": _money(invoice, installment.amount_due),
            "number": number,
            "day": format_date(installment.due_date, "long", locale=invoice.locale),
        }
        subject = _("Reminder: invoice %(number)s") % {"number": number}
    else:
        words["text"] = _("Here is invoice %(number)s over %(amount)s, due on %(day)s.") % {
            "amount": _money(invoice, invoice.total_amount),
            "number": number,
            "day": format_date(invoice.due_date, "long", locale=invoice.locale),
        }
        subject = _("Invoice %(number)s") % {"number": number}
    return subject, words, f"{number}.pdf", render_invoice(invoice=invoice)


def _says_nothing_any_more(mailing: Mailing, invoice: Invoice) -> bool:
    """Whether what it is about has ended: a voided invoice, a reminder of what is paid."""
    has_ended = invoice.status in (Invoice.Status.VOIDED, Invoice.Status.EXPIRED)
    if mailing.kind == _K.INVOICE:
        return has_ended
    if mailing.kind != _K.REMINDER:
        return False
    installment = Installment.objects.get(pk=_subject_of(mailing))
    return has_ended or not installment.amount_due


def _subject_of(mailing: Mailing) -> UUID:
    if mailing.subject_id is None:
        raise RuntimeError(f"{mailing.pk} says nothing of what it is about")
    return mailing.subject_id


def _give_up(mailing: Mailing, invoice: Invoice, reason: str, now: dt.datetime) -> None:
    with transaction.atomic():
        # Nothing that weighs more gives way to it.
        Invoice.objects.filter(pk=invoice.pk, attention="").update(
            attention="email_failed", updated_at=now
        )
        Mailing.objects.filter(pk=mailing.pk).update(
            status=_S.FAILED, next_attempt_at=None, last_error=reason[:300]
        )
        record_change(
            tenant_id=mailing.tenant_id,
            action="invoice.email_failed",
            object_id=invoice.pk,
            now=now,
            after={"kind": mailing.kind, "attempts": mailing.attempts},
        )


def _end(mailing: Mailing, status: Mailing.Status, now: dt.datetime) -> None:
    Mailing.objects.filter(pk=mailing.pk, status=_S.QUEUED).update(
        status=status,
        next_attempt_at=None,
        sent_at=now if status is _S.SENT else None,
        last_error="",
    )


def _money(invoice: Invoice, amount: int) -> str:
    return format_amount(amount, invoice.currency, invoice.locale)


def _one_line(text: str) -> str:
    """Return the text without line breaks: nobody adds headers by a name."""
    return " ".join(text.split())
