"""
What documents on paper are drawn with: A4 pages in the house's type, the same bytes for the same
text. What a document says is its app's business.
"""

import contextlib
import functools
import html
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ttf_opensans  # type: ignore[import-untyped]
from django.utils import translation
from django.utils.translation import gettext as _
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

INK = HexColor("#16191d")
_FONT, _BOLD = "OpenSans", "OpenSans-Bold"
_GREY, _LINE = HexColor("#535b66"), HexColor("#c9ced6")
_MARGIN = 18 * mm
# Of what stands between the margins.
WIDTH = A4[0] - 2 * _MARGIN


def _style(name: str, **more: Any) -> ParagraphStyle:
    values: dict[str, Any] = {
        "fontName": _FONT,
        "fontSize": 9,
        "leading": 12.5,
        "textColor": INK,
        "splitLongWords": True,
        **more,
    }
    return ParagraphStyle(name, **values)


_GREEN = HexColor("#0f766e")
STYLES = {
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
PLAIN = TableStyle(
    [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 0),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
    ]
)
RULED = TableStyle(
    [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, _LINE),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 3),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
    ]
)


def paragraph(text: str, style: str = "plain") -> Paragraph:
    """Return a paragraph of somebody's text, as text."""
    return Paragraph(html.escape(text), STYLES[style])


def head(
    *,
    issuer: tuple[str, Sequence[str]],
    title: str,
    whom: tuple[str, Sequence[str]],
    facts: Sequence[tuple[str, str]],
    stamp: str = "",
) -> list[Flowable]:
    """Return who says it, what it is, whom it is for, each with lines below; and facts, by name."""
    name, below = issuer
    left: list[Flowable] = [
        paragraph(name, "seller"),
        *(paragraph(each, "small") for each in below),
    ]
    right: list[Flowable] = [paragraph(title, "title")]
    if stamp:
        right.append(paragraph(stamp, "stamp"))
    person, address = whom
    who: list[Flowable] = [
        paragraph(_("For"), "small"),
        paragraph(person, "bold"),
        *(paragraph(each, "small") for each in address),
    ]
    table = Table(
        [[paragraph(label, "small"), paragraph(value, "right")] for label, value in facts],
        colWidths=[WIDTH * 0.18, WIDTH * 0.27],
        style=PLAIN,
    )
    return [
        Table([[left, right]], colWidths=[WIDTH * 0.6, WIDTH * 0.4], style=PLAIN),
        Spacer(0, 8 * mm),
        Table([[who, table]], colWidths=[WIDTH * 0.55, WIDTH * 0.45], style=PLAIN),
        Spacer(0, 8 * mm),
    ]


def figures(rows: Sequence[tuple[str, str, bool]]) -> Table:
    """Return names with their amounts, to the right; the third says whether one is strong."""
    cells = [
        [paragraph(text, "bold_right" if is_strong else "right") for text in (name, value)]
        for name, value, is_strong in rows
    ]
    return Table(cells, colWidths=[WIDTH * 0.25, WIDTH * 0.22], hAlign="RIGHT", style=RULED)


@contextlib.contextmanager
def writing(locale: str) -> Iterator[None]:
    """Write in the language."""
    _register_fonts()
    with translation.override(locale):
        yield


def render(story: list[Flowable], *, title: str, author: str, locale: str) -> bytes:
    """Return the pages; the title stands at the foot of each."""
    made = io.BytesIO()
    document = SimpleDocTemplate(
        made,
        pagesize=A4,
        # A frame adds six points of its own.
        leftMargin=_MARGIN - 6,
        rightMargin=_MARGIN - 6,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN + 6 * mm,
        title=title,
        author=author,
        lang=locale,
        # No time and no random id in the file.
        invariant=1,
    )
    document.build(story, canvasmaker=functools.partial(_Numbered, footer=title))
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


@functools.cache
def _register_fonts() -> None:
    folder = Path(ttf_opensans.__file__).parent / "ttf"
    pdfmetrics.registerFont(TTFont(_FONT, str(folder / "OpenSans-Regular.ttf")))
    pdfmetrics.registerFont(TTFont(_BOLD, str(folder / "OpenSans-Bold.ttf")))
    pdfmetrics.registerFontFamily(_FONT, normal=_FONT, bold=_BOLD, italic=_FONT, boldItalic=_BOLD)
