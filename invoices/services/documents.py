"""
Invoices, receipts and credit notes on paper: PDF, the same bytes for the same rows.

What a document says is taken from the rows; nothing is worked out here but the tax of each rate,
which is the sum of its lines' taxes.
"""

import functools
import html
from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import segno
from babel.dates import format_date
from babel.numbers import format_decimal
from django.conf import settings
from django.utils.translation import gettext as _
from reportlab.graphics.shapes import Drawing, Rect
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Paragraph, Spacer, Table

from core.money import format_amount
from core.paper import INK, PLAIN, RULED, STYLES, WIDTH, figures, head, paragraph, render, writing
from invoices.models import CreditNote, Invoice, InvoiceSettings, Receipt
from invoices.queries import installments_of, lines_of, settings_of

_S = Invoice.Status
_QR_SIZE = 30 * mm
_ADDRESS_LINES_MAX = 6
Money = Callable[[int], str]


# The stubs say of each of these what they say of all together.
_FILLED: dict[str, Any] = {"fillColor": INK, "strokeWidth": 0}


def render_invoice(*, invoice: Invoice) -> bytes:
    """Return the invoice as A4 pages, in its language, with a QR code of where to pay."""
    with writing(invoice.locale):
        return _render(invoice, _("Invoice"), invoice.number or "", _invoice_story(invoice))


def render_receipt(*, receipt: Receipt) -> bytes:
    """Return what was received for an invoice as an A4 page."""
    invoice = receipt.invoice
    with writing(invoice.locale):
        return _render(invoice, _("Receipt"), invoice.number or "", _receipt_story(receipt))


def render_credit_note(*, credit_note: CreditNote) -> bytes:
    """Return what of an invoice was taken back as an A4 page."""
    invoice = credit_note.invoice
    with writing(invoice.locale):
        story = _credit_note_story(credit_note)
        return _render(invoice, _("Credit note"), credit_note.number, story)


def payment_address(invoice: Invoice) -> str:
    """Return where the invoice is paid."""
    return f"{settings.PUBLIC_URL}/pay/{invoice.token}"


def _invoice_story(invoice: Invoice) -> list[Flowable]:
    money = _money_of(invoice)
    issuer = settings_of(tenant_id=invoice.tenant_id)
    day = functools.partial(format_date, format="long", locale=invoice.locale)
    facts = [
        (_("Number"), invoice.number or _("Draft")),
        (_("Date"), day(invoice.tenant.day_of(invoice.finalized_at or invoice.created_at))),
        (_("Due date"), day(invoice.due_date)),
    ]
    story = [
        *_head(invoice, issuer, _("Invoice"), facts, _stamp(invoice)),
        _lines_table(invoice, money),
        Spacer(0, 3 * mm),
        _sums(invoice, money),
        Spacer(0, 2 * mm),
        paragraph(_("Tax is rounded half up, line by line."), "small"),
    ]
    if invoice.has_schedule:
        story += [
            Spacer(0, 5 * mm),
            paragraph(_("Installments"), "bold"),
            _schedule(invoice, money),
        ]
    if invoice.description:
        story += [Spacer(0, 4 * mm), paragraph(invoice.description, "plain")]
    if invoice.status in (_S.PENDING, _S.PARTIALLY_PAID):
        story += [Spacer(0, 6 * mm), _where_to_pay(invoice)]
    return story


def _receipt_story(receipt: Receipt) -> list[Flowable]:
    invoice = receipt.invoice
    money = _money_of(invoice)
    issuer = settings_of(tenant_id=invoice.tenant_id)
    methods = {"credit": _("Your credit")}
    facts = [
        (_("Invoice"), invoice.number or ""),
        (_("Date"), format_date(receipt.received_on, "long", locale=invoice.locale)),
        (_("Paid by"), methods.get(receipt.method, receipt.method.capitalize())),
    ]
    if receipt.reference:
        facts.append((_("Reference"), receipt.reference))
    rows = [
        (_("Received"), money(receipt.amount), True),
        (_("For this invoice"), money(receipt.applied_amount), False),
    ]
    if receipt.amount > receipt.applied_amount:
        kept = receipt.amount - receipt.applied_amount
        rows.append((_("Kept as your credit"), money(kept), False))
    rows.append((_("Invoice total"), money(invoice.total_amount), False))
    rows.append((_("Still due"), money(invoice.amount_due), True))
    return [*_head(invoice, issuer, _("Receipt"), facts, ""), figures(rows)]


def _credit_note_story(note: CreditNote) -> list[Flowable]:
    invoice = note.invoice
    money = _money_of(invoice)
    issuer = settings_of(tenant_id=invoice.tenant_id)
    made_on = invoice.tenant.day_of(note.created_at)
    facts = [
        (_("Number"), note.number),
        (_("Invoice"), invoice.number or ""),
        (_("Date"), format_date(made_on, "long", locale=invoice.locale)),
    ]
    rows = [
        (_("Subtotal"), money(note.net_amount), False),
        (_("Tax"), money(note.tax_amount), False),
        (_("Service fee"), money(note.service_fee_amount), False),
        (_("Total"), money(note.amount), True),
        (_("No longer owed"), money(note.owed_amount), False),
        (_("Paid back"), money(note.refund_amount), False),
    ]
    return [
        *_head(invoice, issuer, _("Credit note"), facts, ""),
        paragraph(note.reason, "plain"),
        Spacer(0, 3 * mm),
        figures(rows),
    ]


def _head(
    invoice: Invoice,
    issuer: InvoiceSettings,
    title: str,
    facts: Sequence[tuple[str, str]],
    stamp: str,
) -> list[Flowable]:
    street = " ".join(part for part in (issuer.street, issuer.building_number) if part)
    town = " ".join(part for part in (issuer.post_code, issuer.town, issuer.country) if part)
    tax_id = f"{_('Tax id')} {issuer.tax_id}" if issuer.tax_id else ""
    seller = [line for line in (street, town, issuer.email, tax_id) if line]
    address = [line for line in invoice.customer_address.splitlines() if line.strip()]
    # However many lines it has: a row of a table has to fit on a page.
    short = [*address[:_ADDRESS_LINES_MAX], ", ".join(address[_ADDRESS_LINES_MAX:])]
    customer = [*short, invoice.customer_email]
    return head(
        issuer=(issuer.legal_name or invoice.tenant.name, seller),
        title=title,
        stamp=stamp,
        whom=(invoice.customer_name or "-", [line for line in customer if line]),
        facts=facts,
    )


def _lines_table(invoice: Invoice, money: Money) -> Table:
    def figure(number: Decimal) -> str:
        return str(format_decimal(number, format="#,##0.######", locale=invoice.locale))

    rows: list[list[Flowable]] = [
        [
            paragraph(_("What"), "small"),
            paragraph(_("Quantity"), "small_right"),
            paragraph(_("Price"), "small_right"),
            paragraph(_("Tax"), "small_right"),
            paragraph(_("Amount"), "small_right"),
        ]
    ]
    rows += [
        [
            paragraph(line.description, "plain"),
            paragraph(figure(line.quantity), "right"),
            paragraph(money(line.unit_amount), "right"),
            paragraph(f"{figure(line.tax_rate)} %", "right"),
            paragraph(money(line.subtotal_amount), "right"),
        ]
        for line in lines_of(invoice)
    ]
    widths = [WIDTH * share for share in (0.40, 0.11, 0.19, 0.10, 0.20)]
    return Table(rows, colWidths=widths, repeatRows=1, style=RULED)


def _sums(invoice: Invoice, money: Money) -> Table:
    by_rate: dict[Decimal, int] = defaultdict(int)
    for line in lines_of(invoice):
        by_rate[line.tax_rate] += line.tax_amount
    rows = [(_("Subtotal"), money(invoice.subtotal_amount), False)]
    for rate, amount in sorted(by_rate.items()):
        if rate:
            shown = format_decimal(rate, format="#,##0.####", locale=invoice.locale)
            rows.append((f"{_('Tax')} {shown} %", money(amount), False))
    if invoice.total_service_fee_amount:
        rows.append((_("Service fee"), money(invoice.total_service_fee_amount), False))
    rows.append((_("Total"), money(invoice.total_amount), True))
    taken_off = invoice.credited_amount - invoice.refunded_amount
    if taken_off:
        rows.append((_("Credited"), f"\u2212{money(taken_off)}", False))
    if invoice.amount_kept:
        rows.append((_("Already paid"), f"\u2212{money(invoice.amount_kept)}", False))
    if taken_off or invoice.amount_kept:
        rows.append((_("Still due"), money(invoice.amount_due), True))
    return figures(rows)


def _schedule(invoice: Invoice, money: Money) -> Table:
    rows = [
        [
            paragraph(_("Due date"), "small"),
            paragraph(_("Amount"), "small_right"),
            paragraph(_("Still due"), "small_right"),
        ]
    ]
    rows += [
        [
            paragraph(
                f"{each.number}. {format_date(each.due_date, 'long', locale=invoice.locale)}",
                "plain",
            ),
            paragraph(money(each.amount), "right"),
            paragraph(money(each.amount_due), "right"),
        ]
        for each in installments_of(invoice)
    ]
    widths = [WIDTH * share for share in (0.5, 0.25, 0.25)]
    return Table(rows, colWidths=widths, repeatRows=1, style=RULED)


def _where_to_pay(invoice: Invoice) -> Table:
    address = payment_address(invoice)
    link = f'<link href="{html.escape(address)}" color="#0f766e">{html.escape(address)}</link>'
    words: list[Flowable] = [
        paragraph(_("Pay online"), "bold"),
        paragraph(_("Scan the code, or open this address:"), "small"),
        Paragraph(link, STYLES["small"]),
    ]
    return Table(
        [[_qr(address), words]],
        colWidths=[_QR_SIZE + 6 * mm, WIDTH - _QR_SIZE - 6 * mm],
        style=PLAIN,
    )


def _qr(address: str) -> Drawing:
    """Return the code as rectangles: a printer of any resolution has it sharp."""
    matrix = [bytes(row) for row in segno.make(address, error="m").matrix_iter(border=2)]
    module = _QR_SIZE / len(matrix)
    drawing = Drawing(_QR_SIZE, _QR_SIZE)
    for y, row in enumerate(matrix):
        x = 0
        while x < len(row):
            length = 1
            while x + length < len(row) and row[x + length] == row[x]:
                length += 1
            if row[x]:
                top = _QR_SIZE - (y + 1) * module
                drawing.add(Rect(x * module, top, length * module, module, **_FILLED))
            x += length
    return drawing


def _stamp(invoice: Invoice) -> str:
    stamps = {
        _S.DRAFT: _("DRAFT"),
        _S.FULLY_PAID: _("PAID"),
        _S.VOIDED: _("CANCELLED"),
        _S.EXPIRED: _("EXPIRED"),
        _S.REFUNDED: _("REFUNDED"),
    }
    return stamps.get(_S(invoice.status), "")


def _render(invoice: Invoice, title: str, number: str, story: list[Flowable]) -> bytes:
    issuer = settings_of(tenant_id=invoice.tenant_id)
    return render(
        story,
        title=f"{title} {number}".strip(),
        author=issuer.legal_name or invoice.tenant.name,
        locale=invoice.locale,
    )


def _money_of(invoice: Invoice) -> Money:
    return functools.partial(format_amount, currency=invoice.currency, locale=invoice.locale)
