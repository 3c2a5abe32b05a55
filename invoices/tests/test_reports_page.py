"""The financial report in the back office: who sees it, what it draws, what one takes away."""

import datetime as dt
import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from core.permissions import Permission, Role, role_allows
from identity.models import Tenant
from invoices.admin import reports as _reports
from invoices.admin.report_charts import Bar, Chart, Drawn, Series, columns, period_label, rows
from invoices.models import DailyFigures
from invoices.services import Customer
from tests.back_office import no_counting, shown, signed_in
from tests.invoicing import issued

pytestmark = pytest.mark.django_db

assert _reports  # registers the page
URL = "/admin/invoices/dailyfigures/"
TODAY = timezone.now().date()


def figures(tenant: Tenant, day: dt.date = TODAY, **values: Any) -> None:
    made = {"currency": "IDR", "gateway": "xendit", **values}
    DailyFigures.objects.create(tenant=tenant, day=day, **made)


def text_of(page: str) -> str:
    """What a person reads, in one line."""
    without = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(without)).replace("\xa0", " ")


@pytest.fixture
def busy(tenant: Tenant) -> Tenant:
    figures(tenant, received_net=1_000_000, received_tax=100_000, received_fees=30_000, payments=1)
    figures(tenant, gateway="offline", received_net=500_000, refunded_net=200_000, payments=2)
    figures(tenant, gateway="", invoiced_net=2_000_000, invoices=3)
    figures(tenant, TODAY - dt.timedelta(days=400), currency="USD", received_net=12_345)
    return tenant


def test_it_works(busy: Tenant) -> None:
    issued(busy)
    said = text_of(shown(signed_in(busy), URL))

    assert "Financial report" in said
    assert "Collected IDR 1,630,000 Refunds IDR 200,000 Net IDR 1,430,000" in said
    assert re.search(r"Xendit 1,000,000 100,000 30,000 1,130,000", said)
    assert "By hand 500,000" in said
    # The invoice that was just issued, below the figures that only say so.
    assert "Budi Santoso 1 1,130,000" in said
    assert "USD 123.45" not in said


def test_another_currency_is_another_report(busy: Tenant) -> None:
    long_ago = TODAY - dt.timedelta(days=400)
    query = f"?currency=USD&from={long_ago}&to={long_ago}"
    said = text_of(shown(signed_in(busy), URL + query))
    assert "Collected USD 123.45" in said
    assert "IDR 1,630,000" not in said


def test_charts_say_in_words_what_they_draw(busy: Tenant) -> None:
    page = shown(signed_in(busy), URL)
    charts = re.findall(r"<svg viewBox.*?</svg>", page, re.S)
    assert len(charts) == 2
    for chart in charts:
        assert 'role="img"' in chart
        named = re.search(r'aria-labelledby="(\S+) (\S+)"', chart)
        assert named is not None
        assert f'<title id="{named[1]}">' in chart
        assert f'<desc id="{named[2]}">' in chart
        assert "collected IDR" in html.unescape(chart).replace("\xa0", " ")


def test_what_is_left_alone_is_this_month(busy: Tenant) -> None:
    page = shown(signed_in(busy), URL)
    assert f'name="from" value="{TODAY.replace(day=1)}"' in page
    assert f'name="to" value="{TODAY}"' in page
    assert re.search(r'aria-current="true">This month<', page)


def test_presets_lead_to_their_periods(busy: Tenant) -> None:
    client = signed_in(busy)
    page = shown(client, URL)
    [query] = re.findall(r'href="\?([^"]+)"[^>]*>Last month<', page)
    answer = shown(client, f"{URL}?{html.unescape(query)}")
    end = TODAY.replace(day=1) - dt.timedelta(days=1)
    assert f'name="from" value="{end.replace(day=1)}"' in answer
    assert f'name="to" value="{end}"' in answer
    assert "Nothing happened in these days." in answer


@pytest.mark.parametrize(
    "query",
    [
        "?from=2026-02-01&to=2026-01-01",
        "?from=2000-01-01&to=2026-01-01",
        "?from=tomorrow",
        "?currency=XXX",
        "?gateway=paypal",
        "?from=%00",
    ],
)
def test_an_odd_question_is_refused_on_the_form(busy: Tenant, query: str) -> None:
    page = shown(signed_in(busy), URL + query)
    assert 'class="errorlist"' in page
    # And what is shown is this month's.
    assert "IDR 1,630,000" in text_of(page)


def test_a_tenant_without_invoices_has_a_page(tenant: Tenant) -> None:
    assert "Nothing was invoiced yet." in shown(signed_in(tenant), URL)
    assert signed_in(tenant).get(f"{URL}?format=csv").status_code == 200


def test_a_gateway_alone(busy: Tenant) -> None:
    said = text_of(shown(signed_in(busy), f"{URL}?gateway=offline"))
    assert "Collected IDR 500,000" in said
    # What has no gateway is not said of one.
    assert "Invoiced IDR" not in said


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.CUSTOMER])
def test_who_sees_it(busy: Tenant, role: Role) -> None:
    wanted = 200 if role_allows(role, Permission.VIEW_REPORTS) else 403
    client = signed_in(busy, role)
    assert client.get(URL).status_code == wanted
    assert client.get(f"{URL}?format=csv").status_code == wanted


def test_strangers_are_sent_to_the_door(client: Client) -> None:
    assert client.get(URL).headers["Location"].startswith(reverse("admin:login"))
    assert client.get(f"{URL}?format=xlsx").status_code == 302


def test_nothing_is_posted_to_it(busy: Tenant) -> None:
    assert signed_in(busy).post(URL, {}).status_code == 405


def test_another_tenants_figures_stay_theirs(busy: Tenant, other_tenant: Tenant) -> None:
    query = f"?tenant={busy.pk}"
    assert "1,630,000" not in shown(signed_in(other_tenant), URL + query)
    taken = signed_in(other_tenant).get(f"{URL}{query}&format=csv")
    assert b"630000" not in taken.content


def test_a_superuser_chooses_the_tenant(busy: Tenant, other_tenant: Tenant) -> None:
    root = signed_in(other_tenant, "admin", is_superuser=True)
    assert "Nothing was invoiced yet." in shown(root, URL)
    assert "IDR 1,630,000" in text_of(shown(root, f"{URL}?tenant={busy.pk}"))


@pytest.mark.parametrize(
    ("label", "name", "start"),
    [
        ("Report (CSV)", "financial-report-IDR", b"Day,Currency,Gateway,Revenue"),
        ("Report (XLSX)", "financial-report-IDR", b"PK"),
        ("Receivables (CSV)", "aged-receivables-IDR", b"Currency,Customer"),
        ("Receivables (XLSX)", "aged-receivables-IDR", b"PK"),
    ],
)
def test_it_can_be_taken_away(busy: Tenant, label: str, name: str, start: bytes) -> None:
    client = signed_in(busy)
    [query] = re.findall(rf'href="\?([^"]+)">{re.escape(label)}<', shown(client, URL))
    answer = client.get(f"{URL}?{html.unescape(query)}")
    assert answer.status_code == 200
    assert f'filename="{name}' in answer["Content-Disposition"]
    assert answer.content.startswith(start)


def test_names_of_customers_are_shown_not_run(busy: Tenant) -> None:
    evil = "<script>alert(1)</script>"
    issued(busy, customer=Customer(name=evil))
    page = shown(signed_in(busy), URL)
    assert evil not in page
    assert html.escape(evil) in page


def test_it_asks_little(busy: Tenant) -> None:
    client = signed_in(busy)
    shown(client, URL)
    with no_counting() as captured:
        shown(client, URL)
    assert len(captured) <= 14


def test_a_days_figures_have_a_page(busy: Tenant) -> None:
    first = DailyFigures.objects.filter(gateway="xendit", tenant=busy).latest("day")
    assert "Received net 1000000" in text_of(shown(signed_in(busy), f"{URL}{first.pk}/change/"))


# --- Charts --------------------------------------------------------------------------------------
SERIES = (Series("revenue", "Revenue"), Series("refunds", "Refunds"))


def drawn(draw: Callable[..., Chart], **amounts: int) -> list[Drawn]:
    bars = [Bar("a", amounts, "a"), Bar("b", {"revenue": 100}, "b")]
    return draw(name="c", title="t", description="d", series=SERIES, bars=bars, currency="IDR").bars


def test_columns_are_as_high_as_their_amounts() -> None:
    first, second = drawn(columns, revenue=50, refunds=-25)
    [whole] = second.pieces
    heights = [each.height for each in first.pieces]
    assert heights == pytest.approx([whole.height / 2, whole.height / 4], abs=0.2)


def test_rows_are_as_long_as_their_amounts() -> None:
    first, second = drawn(rows, revenue=50, refunds=-25)
    [whole] = second.pieces
    widths = [each.width for each in first.pieces]
    assert widths == pytest.approx([whole.width / 2, whole.width / 4], abs=0.2)


def test_refunds_go_below_zero() -> None:
    up, down = drawn(columns, revenue=50, refunds=-25)[0].pieces
    assert down.y == pytest.approx(up.y + up.height, abs=0.2)
    right, left = drawn(rows, revenue=50, refunds=-25)[0].pieces
    assert left.x + left.width == pytest.approx(right.x, abs=0.2)


@pytest.mark.parametrize("amount", [0, 1, -1, 7, 10**18, -(10**18)])
@pytest.mark.parametrize("draw", [columns, rows])
def test_any_amount_can_be_drawn(draw: Callable[..., Chart], amount: int) -> None:
    for bar in drawn(draw, revenue=amount):
        assert all(0 <= piece.x <= 720 and piece.width >= 0 for piece in bar.pieces)
        assert all(piece.y >= 0 and piece.height >= 0 for piece in bar.pieces)


@pytest.mark.parametrize(
    ("span", "label"),
    [
        ("day", "2026-08-05"),
        ("week", "2026-08-05"),
        ("month", "2026-08"),
        ("quarter", "2026 Q3"),
        ("year", "2026"),
    ],
)
def test_periods_have_names(span: str, label: str) -> None:
    assert period_label(dt.date(2026, 8, 5), span) == label
