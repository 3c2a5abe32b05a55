"""What a payer's page shows: rows into words and amounts of the payer's language. No sums here."""

import datetime as dt
import hashlib
import zoneinfo
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import segno
from babel.dates import format_date
from babel.numbers import format_decimal
from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from core.errors import DomainError
from core.money import format_amount
from invoices.models import Checkout, Installment, Invoice, LineItem, Receipt
from invoices.pages import words
from invoices.queries import installments_of, lines_of, receipts_of, settings_of
from payments.models import Payment
from payments.services import fitting_gateways

_S = Invoice.Status
_P = Payment.Status
# Somebody has acted and we wait for a gateway; an open page of one is not that.
_UNDER_WAY = (_P.CREATED, _P.UNKNOWN, _P.PAID, _P.DEPOSIT_PENDING)
# An older failure says nothing to whoever comes now.
_FAILURE_SHOWN_FOR = dt.timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Seen:
    """An invoice as of one look, by the token of all of it or of one installment."""

    token: str
    invoice: Invoice
    only: Installment | None
    installments: list[Installment]
    last: Payment | None
    is_under_way: bool
    has_open_page: bool

    @property
    def is_open(self) -> bool:
        """Whether anything can be paid here."""
        is_payable = self.invoice.status in (_S.PENDING, _S.PARTIALLY_PAID)
        return is_payable and (self.only is None or bool(self.only.amount_due))

    @property
    def version(self) -> str:
        """Changes whenever the page would show something else."""
        last = self.last
        state = (
            self.invoice.status,
            self.invoice.amount_due,
            self.only.amount_due if self.only else None,
            self.is_under_way,
            (str(last.pk), last.status) if last else None,
        )
        return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


def look(token: str, invoice: Invoice, only: Installment | None) -> Seen:
    """Read what the page is made of; four round trips."""
    checkouts = list(Checkout.objects.filter(invoice=invoice).order_by("-attempt")[:60])
    payments = Payment.objects.select_related("configuration").in_bulk(
        [each.payment_id for each in checkouts if each.is_active]
        + [each.payment_id for each in checkouts[:1]]
    )
    active = [payments[each.payment_id] for each in checkouts if each.is_active]
    last = payments[checkouts[0].payment_id] if checkouts else None
    return Seen(
        token=token,
        invoice=invoice,
        only=only,
        installments=installments_of(invoice),
        last=last,
        is_under_way=any(_is_under_way(payment) for payment in active),
        has_open_page=any(payment.status == _P.PENDING for payment in active),
    )


def gateways_of(invoice: Invoice) -> list[str]:
    """Return the names of the gateways that could take it, the first choice first."""
    try:
        choices = fitting_gateways(
            tenant_id=invoice.tenant_id,
            currency=invoice.currency,
            gateway=invoice.gateway or None,
            is_payout=False,
        )
    except DomainError:
        return []
    return list(dict.fromkeys(choice.gateway for choice in choices))


def shown(seen: Seen, *, locale: str, now: dt.datetime) -> dict[str, Any]:
    """Return what the template prints."""
    invoice = seen.invoice
    zone = zoneinfo.ZoneInfo(invoice.tenant.time_zone)
    today = now.astimezone(zone).date()
    issuer = settings_of(tenant_id=invoice.tenant_id)

    def money(amount: int) -> str:
        return format_amount(amount, invoice.currency, locale)

    due = seen.only.amount_due if seen.only is not None else invoice.amount_due
    due_date = _next_due_date(seen)
    gateways = gateways_of(invoice) if seen.is_open else []
    address = f"{settings.PUBLIC_URL}/pay/{seen.token}"
    receipts = receipts_of(invoice)
    return {
        "seen": seen,
        "invoice": invoice,
        "seller": issuer.legal_name or invoice.tenant.name,
        "seller_lines": _address(issuer),
        "seller_email": issuer.email,
        "seller_tax_id": issuer.tax_id,
        "badge": words.BADGES[invoice.status],
        "due": money(due),
        "due_date": due_date,
        "due_date_shown": format_date(due_date, "long", locale=locale),
        "is_overdue": seen.is_open and due_date < today,
        "reason": _reason(seen),
        "failure": _failure(seen, now),
        "lines": [_line(line, money, locale) for line in lines_of(invoice)],
        "subtotal": money(invoice.subtotal_amount),
        "tax": money(invoice.total_tax_amount),
        "fee": money(invoice.total_service_fee_amount),
        "total": money(invoice.total_amount),
        "paid": money(invoice.amount_kept) if invoice.amount_kept else "",
        "credited": _credited(invoice, money),
        "all_due": money(invoice.amount_due),
        "installments": [
            {
                "number": each.number,
                "amount": money(each.amount_due or each.amount),
                "date": format_date(each.due_date, "medium", locale=locale),
                "status": words.INSTALLMENTS[each.status_on(today)],
                "is_open": bool(each.amount_due),
                "is_overdue": each.status_on(today) == Installment.Status.OVERDUE,
            }
            for each in seen.installments
            if invoice.has_schedule and (seen.only is None or each.pk == seen.only.pk)
        ],
        "takes_cards": "sandbox" in gateways,
        "pages": [(name, words.GATEWAYS[name]) for name in gateways],
        "qr": segno.make(address, error="m").svg_inline(scale=4, border=2, omitsize=True)
        if seen.is_open
        else "",
        "whole_url": f"/pay/{invoice.token}" if seen.only is not None else "",
        "receipts": [_receipt(each, money, locale) for each in receipts],
        "has_pdf": invoice.number is not None,
        "polls_every_s": 2 if seen.is_under_way or seen.has_open_page else 10,
        "this_year": today.year,
    }


def _is_under_way(payment: Payment) -> bool:
    is_card = payment.status == _P.PENDING and payment.method != Payment.Method.HOSTED
    return payment.status in _UNDER_WAY or is_card


def _next_due_date(seen: Seen) -> dt.date:
    if seen.only is not None:
        return seen.only.due_date
    open_ones = [each.due_date for each in seen.installments if each.amount_due]
    return min(open_ones, default=seen.invoice.due_date)


def _reason(seen: Seen) -> Promise | str:
    """Why nothing can be paid here; empty: something can."""
    if seen.invoice.status in words.REASONS:
        return words.REASONS[seen.invoice.status]
    return "" if seen.is_open else _("Thank you. This installment is paid.")


def _failure(seen: Seen, now: dt.datetime) -> Promise | str:
    """What became of the last attempt, if it failed just now and something is still to be paid."""
    last = seen.last
    if last is None or not seen.is_open or seen.is_under_way:
        return ""
    if last.status not in (_P.FAILED, _P.EXPIRED) or last.updated_at < now - _FAILURE_SHOWN_FOR:
        return ""
    return words.failure(last.failure_code)


def _line(line: LineItem, money: Any, locale: str) -> dict[str, str]:
    def figure(number: Decimal) -> str:
        return format_decimal(number, format="#,##0.######", locale=locale)

    return {
        "description": line.description,
        "detail": f"{figure(line.quantity)} \u00d7 {money(line.unit_amount)}",
        "tax": f"{figure(line.tax_rate)} %" if line.tax_rate else "",
        "amount": money(line.subtotal_amount),
    }


def _credited(invoice: Invoice, money: Any) -> str:
    taken_off = invoice.credited_amount - invoice.refunded_amount
    return money(taken_off) if taken_off else ""


def _receipt(receipt: Receipt, money: Any, locale: str) -> dict[str, Any]:
    methods = {"offline": receipt.method, "credit": _("Your credit")}
    return {
        "id": receipt.pk,
        "amount": money(receipt.amount),
        "date": format_date(receipt.received_on, "long", locale=locale),
        "method": methods.get(receipt.kind) or words.GATEWAYS.get(receipt.method, receipt.method),
        "reference": receipt.reference,
    }


def _address(issuer: Any) -> list[str]:
    street = " ".join(part for part in (issuer.street, issuer.building_number) if part)
    town = " ".join(part for part in (issuer.post_code, issuer.town) if part)
    return [line for line in (street, town) if line]


def receipt_of(invoice: Invoice, receipt_id: UUID | None) -> Receipt | None:
    """Return the invoice's receipt; without an id the last."""
    receipts = invoice.receipts.order_by("-pk")
    return (receipts.filter(pk=receipt_id) if receipt_id else receipts).first()
