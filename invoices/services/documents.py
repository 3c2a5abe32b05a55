"""
Invoices, receipts and credit notes on paper: PDF, the same bytes for the same rows.

What a document says is taken from the rows; nothing is worked out here but the tax of each rate,
which is the sum of its lines' taxes.
"""

import contextlib
import functools
import html
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import segno
import ttf_opensans  # type: ignore[import-untyped]
from babel.dates import format_date
from babel.numbers import format_decimal
from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _
from reportlab.graphics.shapes import Drawing, Rect
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from core.money import format_amount
from invoices.models import CreditNote, Invoice, InvoiceSettings, Receipt
from invoices.queries import installments_of, lines_of, settings_of

_S = Invoice.Status
_FONT, _BOLD = "OpenSans", "OpenSans-Bold"
_GREY, _LINE, _INK = HexColor("#535b66"), HexColor("#c9ced6"), HexColor("#16191d")
_MARGIN = 18 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_QR_SIZE = 30 * mm
_ADDRESS_LINES_MAX = 6
Money = Callable[[int], str]


def _style(name: str, **more: Any) -> ParagraphStyle:
    values: dict[str, Any] = {
        "fontName": _FONT,
        "fontSize": 9,
        "leading": 12.5,
        "textColor": _INK,
        "splitLongWords": True,
        **more,
    }
    return ParagraphStyle(name, **values)


# The stubs say of each of these what they say of all together.
_FILLED: dict[str, Any] = {"fillColor": _INK, "strokeWidth": 0}
_GREEN = HexColor("#0f766e")
_STYLES = {
    "plain": _style("plain"),
    "right": _style("right", alignment=TA_RIGHT),
    "small": _style("small", fontSize=8, leading=11, textColor=_GREY),
    "small_right": _style("small_right", fontSize=8, textColor=_GREY, alignment=TA_RIGHT),
    "bold": _style("bold", fontName=_BOLD),
    "bold_right": _style("bold_right", fontName=_BOLD, alignment=TA_RIGHT),
    "seller": _style("seller", fontName=_BOLD, fontSize=12, leading=16),
    "title": _style("title", fontName=_BOLD, fontSize=20, leading=24, alignment=TA_RIGHT),
    "stamp": _style(
        "stamp", fontName=_BOLD, fontSize=12, leading=16, alignment=TA_RIGHT, textColor=_GREEN
    ),
}
_PLAIN = TableStyle(
    [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 0),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
    ]
)
_RULED = TableStyle(
    [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, _LINE),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 3),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
    ]
)


def render_invoice(*, invoice: Invoice) -> bytes:
    """Return the invoice as A4 pages, in its language, with a QR code of where to pay."""
    with _writing(invoice):
        return _render(invoice, _("Invoice"), invoice.number or "", _invoice_story(invoice))


def render_receipt(*, receipt: Receipt) -> bytes:
    """Return what was received for an invoice as an A4 page."""
    invoice = receipt.invoice
    with _writing(invoice):
        return _render(invoice, _("Receipt"), invoice.number or "", _receipt_story(receipt))


def render_credit_note(*, credit_note: CreditNote) -> bytes:
    """Return what of an invoice was taken back as an A4 page."""
    invoice = credit_note.invoice
    with _writing(invoice):
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
        _p(_("Tax is rounded half up, line by line."), "small"),
    ]
    if invoice.has_schedule:
        story += [Spacer(0, 5 * mm), _p(_("Installments"), "bold"), _schedule(invoice, money)]
    if invoice.description:
        story += [Spacer(0, 4 * mm), _p(invoice.description, "plain")]
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
    return [*_head(invoice, issuer, _("Receipt"), facts, ""), _figures(rows)]


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
        _p(note.reason, "plain"),
        Spacer(0, 3 * mm),
        _figures(rows),
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
    left: list[Flowable] = [
        _p(issuer.legal_name or invoice.tenant.name, "seller"),
        *(_p(line, "small") for line in seller),
    ]
    right: list[Flowable] = [_p(title, "title")]
    if stamp:
        right.append(_p(stamp, "stamp"))
    who: list[Flowable] = [
        _p(_("For"), "small"),
        _p(invoice.customer_name or "-", "bold"),
        *(_p(line, "small") for line in customer if line),
    ]
    table = Table(
        [[_p(name, "small"), _p(value, "right")] for name, value in facts],
        colWidths=[_WIDTH * 0.18, _WIDTH * 0.27],
        style=_PLAIN,
    )
    return [
        Table([[left, right]], colWidths=[_WIDTH * 0.6, _WIDTH * 0.4], style=_PLAIN),
        Spacer(0, 8 * mm),
        Table([[who, table]], colWidths=[_WIDTH * 0.55, _WIDTH * 0.45], style=_PLAIN),
        Spacer(0, 8 * mm),
    ]


def _lines_table(invoice: Invoice, money: Money) -> Table:
    def figure(number: Decimal) -> str:
        return str(format_decimal(number, format="#,##0.######", locale=invoice.locale))

    rows: list[list[Flowable]] = [
        [
            _p(_("What"), "small"),
            _p(_("Quantity"), "small_right"),
            _p(_("Price"), "small_right"),
            _p(_("Tax"), "small_right"),
            _p(_("Amount"), "small_right"),
        ]
    ]
    rows += [
        [
            _p(line.description, "plain"),
            _p(figure(line.quantity), "right"),
            _p(money(line.unit_amount), "right"),
            _p(f"{figure(line.tax_rate)} %", "right"),
            _p(money(line.subtotal_amount), "right"),
        ]
        for line in lines_of(invoice)
    ]
    widths = [_WIDTH * share for share in (0.40, 0.11, 0.19, 0.10, 0.20)]
    return Table(rows, colWidths=widths, repeatRows=1, style=_RULED)


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
    return _figures(rows)


def _schedule(invoice: Invoice, money: Money) -> Table:
    rows = [
        [
            _p(_("Due date"), "small"),
            _p(_("Amount"), "small_right"),
            _p(_("Still due"), "small_right"),
        ]
    ]
    rows += [
        [
            _p(
                f"{each.number}. {format_date(each.due_date, 'long', locale=invoice.locale)}",
                "plain",
            ),
            _p(money(each.amount), "right"),
            _p(money(each.amount_due), "right"),
        ]
        for each in installments_of(invoice)
    ]
    widths = [_WIDTH * share for share in (0.5, 0.25, 0.25)]
    return Table(rows, colWidths=widths, repeatRows=1, style=_RULED)


def _where_to_pay(invoice: Invoice) -> Table:
    address = payment_address(invoice)
    link = f'<link href="{html.escape(address)}" color="#0f766e">{html.escape(address)}</link>'
    words: list[Flowable] = [
        _p(_("Pay online"), "bold"),
        _p(_("Scan the code, or open this address:"), "small"),
        Paragraph(link, _STYLES["small"]),
    ]
    return Table(
        [[_qr(address), words]],
        colWidths=[_QR_SIZE + 6 * mm, _WIDTH - _QR_SIZE - 6 * mm],
        style=_PLAIN,
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


def _figures(rows: Sequence[tuple[str, str, bool]]) -> Table:
    cells = [
        [_p(text, "bold_right" if is_strong else "right") for text in (name, value)]
        for name, value, is_strong in rows
    ]
    return Table(cells, colWidths=[_WIDTH * 0.25, _WIDTH * 0.22], hAlign="RIGHT", style=_RULED)


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
    made = io.BytesIO()
    document = SimpleDocTemplate(
        made,
        pagesize=A4,
        # A frame adds six points of its own.
        leftMargin=_MARGIN - 6,
        rightMargin=_MARGIN - 6,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN + 6 * mm,
        title=f"{title} {number}".strip(),
        author=issuer.legal_name or invoice.tenant.name,
        lang=invoice.locale,
        # No time and no random id in the file.
        invariant=1,
    )
    footer = f"{title} {number}".strip()
    document.build(story, canvasmaker=functools.partial(_Numbered, footer=footer))
    return made.getvalue()


class _Numbered(Canvas):
    """A canvas that knows at the end how many pages there are, and says so on each."""

    def __init__(self, *args: Any, footer: str, **more: Any) -> None:
        super().__init__(*args, **more)
        self._footer = footer
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:  # noqa: N802 - ReportLab's name
        self._pages.append(dict(self.__dict__))
        self._startPage()  # type: ignore[attr-defined]  # the stubs lack it

    def save(self) -> None:
        count = len(self._pages)
        for number, page in enumerate(self._pages, 1):
            self.__dict__.update(page)
            self.setFont(_FONT, 8)
            self.setFillColor(_GREY)
            self.drawString(_MARGIN, 12 * mm, self._footer)
            shown = _("Page %(number)s of %(count)s") % {"number": number, "count": count}
            self.drawRightString(A4[0] - _MARGIN, 12 * mm, shown)
            super().showPage()
        super().save()


@contextlib.contextmanager
def _writing(invoice: Invoice) -> Iterator[None]:
    _register_fonts()
    with translation.override(invoice.locale):
        yield


@functools.cache
def _register_fonts() -> None:
    folder = Path(ttf_opensans.__file__).parent / "ttf"
    pdfmetrics.registerFont(TTFont(_FONT, str(folder / "OpenSans-Regular.ttf")))
    pdfmetrics.registerFont(TTFont(_BOLD, str(folder / "OpenSans-Bold.ttf")))
    pdfmetrics.registerFontFamily(_FONT, normal=_FONT, bold=_BOLD, italic=_FONT, boldItalic=_BOLD)


def _money_of(invoice: Invoice) -> Money:
    return functools.partial(format_amount, currency=invoice.currency, locale=invoice.locale)


def _p(text: str, style: str) -> Paragraph:
    """Return a paragraph of somebody's text, as text."""
    return Paragraph(html.escape(text), _STYLES[style])
