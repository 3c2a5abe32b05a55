"""The reports over HTTP: by currency, gateway and time; as JSON, CSV and XLSX; what they cost."""

import copy
import csv
import datetime as dt
import io
from decimal import Decimal
from typing import Any

import openpyxl
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from core.ids import new_id
from core.permissions import Permission, Role, role_allows
from identity.models import Tenant
from invoices import services
from invoices.models import DailyFigures, Invoice
from invoices.models.invoices import new_token
from invoices.services import Customer
from invoices.services.reports import CUSTOMERS_MAX, ROWS_MAX
from tests import gateways, invoicing, making
from tests.contract import ContractClient
from tests.gateways import Sandbox
from tests.invoicing import issued, line, pay, pay_offline
from tests.making import fresh_key

pytestmark = pytest.mark.django_db

FINANCIAL, AGED = "/api/v1/reports/financial", "/api/v1/reports/aged-receivables"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@pytest.fixture
def client(tenant: Tenant) -> ContractClient:
    return making.api_client(tenant, "read")


def told(client: ContractClient, path: str = FINANCIAL, **asked: str) -> dict[str, Any]:
    answer = client.get(path, asked)
    assert answer.status_code == 200, answer.content
    body: dict[str, Any] = answer.json()
    return body


def refused(client: ContractClient, path: str = FINANCIAL, **asked: str) -> str:
    answer = client.get(path, asked)
    assert answer.status_code == 400, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    return str(answer.json()["errors"][0]["field"])


def figures(tenant: Tenant, day: str, **values: Any) -> None:
    made = {"currency": "IDR", "gateway": "xendit", **values}
    DailyFigures.objects.create(tenant=tenant, day=dt.date.fromisoformat(day), **made)


def picked(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


# --- What it says --------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_it_works(tenant: Tenant, sandbox: Sandbox, client: ContractClient) -> None:
    gateways.add_sandbox(tenant)
    invoice = issued(tenant)
    pay(invoice)
    services.refund_invoice(
        tenant_id=tenant.pk,
        invoice_id=invoice.pk,
        amount=113_000,
        reason="Returned",
        idempotency_key=fresh_key(),
        now=timezone.now(),
    )
    issued(tenant)

    found = told(client, group_by="month,gateway")

    invoiced, received = found["rows"]
    month = timezone.now().date().replace(day=1).isoformat()
    assert (invoiced["gateway"], invoiced["period"], invoiced["currency"]) == (None, month, "IDR")
    assert invoiced["invoiced"] == {
        "count": 2,
        "revenue": 2_000_000,
        "tax": 200_000,
        "service_fees": 60_000,
        "total": 2_260_000,
    }
    assert (invoiced["credited"], invoiced["collected"]) == (113_000, 0)
    assert (received["gateway"], received["period"]) == ("sandbox", month)
    assert picked([received], "revenue", "tax", "service_fees", "collected") == [
        (1_000_000, 100_000, 30_000, 1_130_000)
    ]
    assert picked([received], "refunds", "net", "payments", "refund_count") == [
        (113_000, 1_017_000, 1, 1)
    ]
    refunded = ("refunded_revenue", "refunded_tax", "refunded_service_fees")
    assert picked([received], *refunded) == [(100_000, 10_000, 3_000)]
    assert picked(found["totals"], "currency", "net", "credited") == [("IDR", 1_017_000, 113_000)]
    assert found["outstanding"] == [{"currency": "IDR", "amount": 1_130_000}]


def test_currencies_are_never_added(tenant: Tenant, client: ContractClient) -> None:
    figures(tenant, "2026-01-05", received_net=100)
    figures(tenant, "2026-01-05", received_net=7, currency="USD")

    found = told(client, **{"from": "2026-01-01", "to": "2026-12-31", "group_by": "year"})

    rows = [("IDR", None, "2026-01-01", 100), ("USD", None, "2026-01-01", 7)]
    assert picked(found["rows"], "currency", "gateway", "period", "collected") == rows
    assert picked(found["totals"], "currency", "collected") == [("IDR", 100), ("USD", 7)]


@pytest.mark.parametrize(
    ("span", "starts"),
    [
        ("day", ["2026-01-01", "2026-02-28", "2026-03-01"]),
        # From Mondays: the first one is in the year before.
        ("week", ["2025-12-29", "2026-02-23"]),
        ("month", ["2026-01-01", "2026-02-01", "2026-03-01"]),
        ("quarter", ["2026-01-01"]),
        ("year", ["2026-01-01"]),
    ],
)
def test_time_is_cut_as_asked(
    tenant: Tenant, client: ContractClient, span: str, starts: list[str]
) -> None:
    for day in ("2026-01-01", "2026-02-28", "2026-03-01"):
        figures(tenant, day, received_net=1)

    found = told(client, **{"from": "2026-01-01", "to": "2026-03-31", "group_by": span})

    assert [row["period"] for row in found["rows"]] == starts
    assert sum(row["collected"] for row in found["rows"]) == 3


def test_both_days_belong_to_the_period(tenant: Tenant, client: ContractClient) -> None:
    for day in ("2026-01-04", "2026-01-05", "2026-01-06", "2026-01-07"):
        figures(tenant, day, received_net=1)
    found = told(client, **{"from": "2026-01-05", "to": "2026-01-06"})
    assert found["totals"][0]["collected"] == 2


def test_days_are_those_of_the_tenants_zone(tenant: Tenant, client: ContractClient) -> None:
    tenant.time_zone = "Asia/Jakarta"
    tenant.save()
    # 1 January there, 31 December in Greenwich.
    now = dt.datetime(2026, 12, 31, 20, tzinfo=dt.UTC)
    invoice = services.create_invoice(tenant_id=tenant.pk, new=invoicing.new_invoice(), now=now)
    services.finalize_invoice(tenant_id=tenant.pk, invoice_id=invoice.pk, now=now)

    found = told(client, **{"from": "2027-01-01", "to": "2027-01-01"})

    assert found["time_zone"] == "Asia/Jakarta"
    assert found["totals"][0]["invoiced"]["count"] == 1
    assert told(client, **{"from": "2026-12-31", "to": "2026-12-31"})["totals"] == []


def test_by_itself_it_is_this_month(client: ContractClient) -> None:
    found = told(client)
    today = timezone.now().date()
    assert (found["from"], found["to"]) == (today.replace(day=1).isoformat(), today.isoformat())
    assert found["group_by"] == ["currency", "gateway"]


def test_what_was_owed_then_is_summed_up_from_the_beginning(
    tenant: Tenant, client: ContractClient
) -> None:
    figures(tenant, "2025-03-01", invoiced_net=1_000, gateway="")
    figures(tenant, "2026-01-10", received_net=300, refunded_net=100)
    figures(tenant, "2026-01-10", credited_net=100, gateway="")
    figures(tenant, "2026-02-01", received_net=700)

    found = told(client, **{"from": "2026-01-01", "to": "2026-01-31", "gateway": "xendit"})

    assert found["outstanding"] == [{"currency": "IDR", "amount": 700}]
    assert [row["gateway"] for row in found["rows"]] == ["xendit"]


def test_filters_leave_the_rest_out(tenant: Tenant, client: ContractClient) -> None:
    day = {"from": "2026-01-01", "to": "2026-01-01"}
    figures(tenant, "2026-01-01", received_net=1, gateway="offline")
    figures(tenant, "2026-01-01", received_net=2, gateway="credit")
    figures(tenant, "2026-01-01", received_net=4, currency="USD")

    by_hand = told(client, gateway="offline", group_by="day", **day)
    assert picked(by_hand["rows"], "gateway", "collected") == [("offline", 1)]
    assert picked(told(client, currency="USD", **day)["rows"], "collected") == [(4,)]
    assert told(client, currency="MYR", **day)["rows"] == []


# --- What it refuses -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"from": "2026-01-02", "to": "2026-01-01"}, "to"),
        ({"from": "2010-01-01", "to": "2026-01-01"}, "to"),
        ({"from": "0001-01-01", "to": "9999-12-31"}, "to"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"to": "2026-01-01T00:00:00Z"}, "to"),
        ({"currency": "XXX"}, "currency"),
        ({"currency": "idr"}, "currency"),
        ({"gateway": "paypal"}, "gateway"),
        ({"gateway": "bank_file"}, "gateway"),
        ({"group_by": "customer"}, "group_by"),
        ({"group_by": "month,day"}, "group_by"),
        ({"group_by": "month,month"}, "group_by"),
        ({"group_by": "month,"}, "group_by"),
        ({"format": "pdf"}, "format"),
        ({"grouped_by": "month"}, "grouped_by"),
    ],
)
def test_an_odd_question_is_refused(
    client: ContractClient, asked: dict[str, str], field: str
) -> None:
    assert refused(client, **asked) == field


def test_a_refusal_is_json_where_a_file_was_asked_for(client: ContractClient) -> None:
    assert refused(client, format="csv", currency="XXX") == "currency"
    assert refused(client, AGED, format="xlsx", currency="XXX") == "currency"


def test_ten_years_of_days_are_reported(client: ContractClient) -> None:
    assert told(client, **{"from": "2017-01-01", "to": "2026-12-31"})["rows"] == []


def test_more_rows_than_anybody_reads_are_refused(tenant: Tenant, client: ContractClient) -> None:
    first = dt.date(2020, 1, 1)
    DailyFigures.objects.bulk_create(
        DailyFigures(
            tenant=tenant,
            day=first + dt.timedelta(days=place // 5),
            currency="IDR",
            gateway=("", "xendit", "midtrans", "offline", "credit")[place % 5],
        )
        for place in range(ROWS_MAX + 1)
    )
    asked = {"from": "2020-01-01", "to": "2026-12-31"}
    assert refused(client, group_by="day,gateway", **asked) == "group_by"
    assert len(told(client, group_by="month,gateway", **asked)["rows"]) > 300


def test_another_tenants_figures_are_not_here(
    tenant: Tenant, other_tenant: Tenant, client: ContractClient
) -> None:
    figures(other_tenant, timezone.now().date().isoformat(), received_net=1)
    issued(other_tenant)
    assert told(client)["rows"] == []
    assert told(client)["outstanding"] == []
    assert told(client, AGED)["currencies"] == []


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("path", [FINANCIAL, AGED])
def test_who_may_see_it(tenant: Tenant, role: Role, path: str) -> None:
    wanted = 200 if role_allows(role, Permission.VIEW_REPORTS) else 403
    assert making.person_client(tenant, role).get(path).status_code == wanted
    assert ContractClient().get(path).status_code == 401


# --- Files ---------------------------------------------------------------------------------------
def lines_of(answer: Any) -> list[dict[str, str]]:
    assert answer["Content-Type"] == "text/csv"
    return list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))


def test_csv_has_major_units_and_every_currency(tenant: Tenant, client: ContractClient) -> None:
    figures(tenant, "2026-01-05", received_net=1_000_000, refunded_net=5, payments=3)
    figures(tenant, "2026-01-06", received_net=-12_345, currency="USD", gateway="offline")
    figures(tenant, "2026-01-06", received_tax=1_005, currency="BHD")
    asked = {"from": "2026-01-01", "to": "2026-01-31", "group_by": "day,gateway"}

    answer = client.get(FINANCIAL, {**asked, "format": "csv"})

    rows = [(row["Day"], row["Currency"], row["Gateway"], row["Net"]) for row in lines_of(answer)]
    assert rows == [
        ("2026-01-06", "BHD", "xendit", "1.005"),
        ("2026-01-05", "IDR", "xendit", "999995"),
        ("2026-01-06", "USD", "offline", "-123.45"),
    ]
    assert lines_of(answer)[1]["Payments"] == "3"
    name = "financial-report-2026-01-01-2026-01-31.csv"
    assert answer["Content-Disposition"] == f'attachment; filename="{name}"'


@pytest.mark.parametrize(
    ("accept", "format_", "media_type"),
    [
        ("text/csv", None, "text/csv"),
        (XLSX, None, XLSX),
        ("*/*", None, "application/json"),
        ("text/csv", "json", "application/json"),
        ("application/json", "csv", "text/csv"),
    ],
)
def test_the_media_type_is_what_was_asked_for(
    client: ContractClient, accept: str, format_: str | None, media_type: str
) -> None:
    asked = {} if format_ is None else {"format": format_}
    answer = client.get(FINANCIAL, asked, headers={"Accept": accept})
    assert answer["Content-Type"].startswith(media_type), answer.content


def test_xlsx_has_numbers_a_sheet_for_each_currency(tenant: Tenant, client: ContractClient) -> None:
    figures(tenant, "2026-01-05", received_net=1_000_000, received_tax=100_000)
    figures(tenant, "2026-01-06", received_net=12_345, currency="USD")
    figures(tenant, "2026-01-06", invoiced_net=12_350, currency="USD", gateway="")
    asked = {"from": "2026-01-01", "to": "2026-01-31", "group_by": "month,gateway"}

    answer = client.get(FINANCIAL, {**asked, "format": "xlsx"})

    assert answer["Content-Type"] == XLSX
    book = openpyxl.load_workbook(io.BytesIO(answer.content))
    assert book.sheetnames == ["IDR", "USD"]
    titles = [cell.value for cell in book["USD"][1]]
    assert titles[:4] == ["Month", "Currency", "Gateway", "Revenue"]
    assert book["USD"].freeze_panes == "A2"
    without, with_gateway, total, _, owed = list(book["USD"].iter_rows(min_row=2))
    assert [cell.value for cell in with_gateway[:4]] == [
        dt.datetime(2026, 1, 1),  # noqa: DTZ001 - a workbook has no zones
        "USD",
        "xendit",
        123.45,
    ]
    assert with_gateway[3].number_format == "#,##0.00"
    assert without[titles.index("Invoiced")].value == 123.5
    assert (total[1].value, total[3].value) == ("Total", 123.45)
    assert (owed[1].value, owed[3].value) == ("Outstanding on 2026-01-31", 0.05)
    assert book["IDR"]["D2"].number_format == "#,##0"


def test_no_digit_is_lost_in_a_workbook(tenant: Tenant, client: ContractClient) -> None:
    figures(tenant, "2026-01-05", received_net=9_007_199_254_740_993, received_tax=10**14)
    asked = {"from": "2026-01-01", "to": "2026-01-31", "format": "xlsx"}
    book = openpyxl.load_workbook(io.BytesIO(client.get(FINANCIAL, asked).content))
    assert book["IDR"]["C2"].value == "9007199254740993"
    assert book["IDR"]["D2"].value == 10**14


def test_a_workbook_of_nothing_opens(client: ContractClient) -> None:
    answer = client.get(FINANCIAL, {"format": "xlsx"})
    book = openpyxl.load_workbook(io.BytesIO(answer.content))
    assert book.sheetnames == ["No figures"]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_name_is_never_a_formula(tenant: Tenant, client: ContractClient, name: str) -> None:
    owed(tenant, 100, name=name)

    [row] = lines_of(client.get(AGED, {"format": "csv"}))
    assert row["Customer"] == f"'{name}"

    book = openpyxl.load_workbook(io.BytesIO(client.get(AGED, {"format": "xlsx"}).content))
    cell = book["USD"]["B2"]
    assert cell.data_type == "s"


# --- Aged receivables ----------------------------------------------------------------------------
def owed(
    tenant: Tenant, amount: int, *, days_overdue: int = -14, name: str = "Ada", **more: Any
) -> Invoice:
    """An invoice of one installment that fell due so many days ago."""
    now = timezone.now() - dt.timedelta(days=max(0, days_overdue))
    due = timezone.now().date() - dt.timedelta(days=days_overdue)
    new = invoicing.new_invoice(
        currency="USD",
        lines=[line(amount, tax_rate="0")],
        fee_percent=Decimal(0),
        customer=Customer(name=name, **more),
        due_date=due,
    )
    invoice = services.create_invoice(tenant_id=tenant.pk, new=new, now=now)
    return services.finalize_invoice(tenant_id=tenant.pk, invoice_id=invoice.pk, now=now)


@pytest.mark.django_db(transaction=True)
def test_what_is_owed_is_told_by_age(tenant: Tenant, client: ContractClient) -> None:
    for days, amount in ((-3, 1), (0, 2), (1, 4), (30, 8), (31, 16), (60, 32), (61, 64), (90, 128)):
        owed(tenant, amount, days_overdue=days)
    owed(tenant, 256, days_overdue=91, name="Ben", reference="B-1")
    pay_offline(owed(tenant, 1_000, days_overdue=40, name="Ben", reference="B-1"), 488)
    services.void_invoice(
        tenant_id=tenant.pk,
        invoice_id=owed(tenant, 9_999).pk,
        reason="Mistake",
        now=timezone.now(),
    )

    found = told(client, AGED)

    [usd] = found["currencies"]
    assert usd["owed"] == {
        "not_due": 3,
        "days_1_to_30": 12,
        "days_31_to_60": 48 + 512,
        "days_61_to_90": 192,
        "days_over_90": 256,
        "total": 255 + 256 + 512,
    }
    assert usd["invoices"] == 10
    assert picked(usd["customers"], "name", "key", "invoices") == [
        ("Ben", "reference B-1", 2),
        ("Ada", "", 8),
    ]
    assert usd["customers"][0]["owed"]["total"] == 768
    assert usd["others"]["customers"] == 0
    assert found["as_of"] == timezone.now().date().isoformat()


def test_each_installment_has_its_own_age(tenant: Tenant, client: ContractClient) -> None:
    long_ago = timezone.now() - dt.timedelta(days=45)
    new = invoicing.new_invoice(
        schedule=[
            services.NewInstallment(long_ago.date() + dt.timedelta(days=1), 130_000),
            services.NewInstallment(invoicing.in_days(9), 1_000_000),
        ]
    )
    invoice = services.create_invoice(tenant_id=tenant.pk, new=new, now=long_ago)
    services.finalize_invoice(tenant_id=tenant.pk, invoice_id=invoice.pk, now=long_ago)

    [idr] = told(client, AGED)["currencies"]

    assert (idr["owed"]["days_31_to_60"], idr["owed"]["not_due"]) == (130_000, 1_000_000)
    assert idr["invoices"] == 1


def test_those_who_owe_most_are_named_and_the_rest_summed(
    tenant: Tenant, client: ContractClient
) -> None:
    for number in range(1, CUSTOMERS_MAX + 3):
        owed(tenant, number, reference=f"C-{number}")

    [usd] = told(client, AGED, currency="USD")["currencies"]

    assert len(usd["customers"]) == CUSTOMERS_MAX
    assert usd["customers"][0]["owed"]["total"] == CUSTOMERS_MAX + 2
    assert (usd["others"]["customers"], usd["others"]["owed"]["total"]) == (2, 1 + 2)
    assert told(client, AGED, currency="IDR")["currencies"] == []


def test_aged_receivables_come_as_a_workbook(tenant: Tenant, client: ContractClient) -> None:
    owed(tenant, 12_345, days_overdue=5)
    answer = client.get(AGED, {"format": "xlsx"})
    sheet = openpyxl.load_workbook(io.BytesIO(answer.content))["USD"]
    assert [cell.value for cell in sheet[2]] == ["USD", "Ada", "", 1, 0, 123.45, 0, 0, 0, 123.45]
    assert sheet["A3"].value == "Total"


# --- What it costs -------------------------------------------------------------------------------
def statements(client: ContractClient, path: str, **asked: str) -> list[str]:
    """Return the statements that read what the report is of."""
    told(client, path, **asked)
    with CaptureQueriesContext(connection) as captured:
        told(client, path, **asked)
    return [query["sql"] for query in captured if "invoices_" in query["sql"]]


def test_the_report_reads_days_and_no_invoices(tenant: Tenant, client: ContractClient) -> None:
    figures(tenant, timezone.now().date().isoformat(), received_net=1)

    read = statements(client, FINANCIAL, group_by="month,gateway")

    assert len(read) == 2
    for statement in read:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {statement}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert "invoices_dailyfigures" in plan
        assert "invoices_invoice" not in plan


@pytest.mark.parametrize("invoices", [1, 12])
def test_aged_receivables_take_one_statement(
    tenant: Tenant, client: ContractClient, invoices: int
) -> None:
    for number in range(invoices):
        owed(tenant, 1, reference=f"C-{number}")
    assert len(statements(client, AGED)) == 1


def test_aged_receivables_read_what_is_open_and_nothing_else(
    tenant: Tenant, client: ContractClient
) -> None:
    owed(tenant, 1)
    [statement] = statements(client, AGED)
    of_none = invoicing.draft(tenant)
    copies = [copy.copy(of_none) for _ in range(2_000)]
    for each in copies:
        each.pk, each.token = new_id(), new_token()
    Invoice.objects.bulk_create(copies)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE invoices_invoice")
        cursor.execute(f"EXPLAIN {statement}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "invoice_owed_idx" in plan
