"""import_pkdd99: the files' rows end up in the ledger once, and bad ones are named."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Account
from accounts.queries import accounts_by_external_id
from identity.models import Tenant
from identity.services import create_api_key, create_tenant
from ledger.queries import entries_of, trial_balance
from payments.models import RecurringRun

ACCOUNTS = """"account_id";"district_id";"frequency";"date"
1;18;"POPLATEK MESICNE";950324
2;1;"POPLATEK TYDNE";930226
"""
HEADER = (
    '"trans_id";"account_id";"date";"type";"operation";"amount";"balance";"k_symbol";"bank";'
    '"account"\n'
)
GOOD = [
    '11;1;930101;"PRIJEM";"VKLAD";1000.00;1000.00;"";;',
    '12;2;930102;"PRIJEM";"PREVOD Z UCTU";500.5;500.50;"DUCHOD";"YZ";"84481337"',
    '13;1;930103;"VYDAJ";"PREVOD NA UCET";300.25;699.75;"SIPO";"QR";"13943797"',
    '14;1;930131;"PRIJEM";"";1.10;700.90;"UROK";;',
    '15;1;930131;"VYDAJ";"VYBER";14.60;686.30;"SLUZBY";;',
    '16;2;930201;"VYBER";"VYBER";600.00;-99.50;" ";;',
]


def write(directory: Path, rows: list[str], name: str = "trans_1993.csv") -> Path:
    (directory / "account.csv").write_text(ACCOUNTS)
    (directory / name).write_text(HEADER + "\n".join(rows) + "\n")
    return directory


def run(directory: Path) -> str:
    out = io.StringIO()
    call_command("import_pkdd99", str(directory), stdout=out)
    return out.getvalue()


def balances() -> dict[str, int]:
    [tenant] = Tenant.objects.filter(name="PKDD'99 Bank")
    found = accounts_by_external_id(tenant_id=tenant.pk, external_ids=["pkdd99-1", "pkdd99-2"])
    return {name: account.balance for name, account in found.items()}


def line_of(report: str, start: str) -> list[str]:
    [line] = [line for line in report.splitlines() if line.strip().startswith(start)]
    return line.split()


@pytest.mark.django_db
def test_it_works(tmp_path: Path) -> None:
    report = run(write(tmp_path, GOOD))

    assert balances() == {"pkdd99-1": 68_625, "pkdd99-2": -9_950}
    assert line_of(report, "trans_1993.csv")[1:] == ["6", "6", "0", "0", "0"]
    assert line_of(report, "PRIJEM VKLAD")[-4:] == ["1", "1,000.00", "1,000.00", "0.00"]
    assert line_of(report, "All")[-1] == "0.00"
    # The file says 686.30 for account 1: it rounds, and is told so.
    assert line_of(report, "last row in the file")[-4:] == ["2", "1", "1", "0.05"]


@pytest.mark.django_db
def test_each_row_has_its_meaning(tmp_path: Path) -> None:
    run(write(tmp_path, GOOD))

    [tenant] = Tenant.objects.filter(name="PKDD'99 Bank")
    one = accounts_by_external_id(tenant_id=tenant.pk, external_ids=["pkdd99-1"])["pkdd99-1"]
    entries = entries_of(tenant_id=tenant.pk, account_id=one.pk).order_by("sequence")
    assert [(e.transaction.type, e.amount, str(e.transaction.value_date)) for e in entries] == [
        ("deposit", 100_000, "1993-01-01"),
        ("withdrawal", -30_025, "1993-01-03"),
        ("interest", 110, "1993-01-31"),
        ("fee", -1_460, "1993-01-31"),
    ]
    household = entries[1].transaction
    assert household.metadata == {
        "type": "VYDAJ",
        "operation": "PREVOD NA UCET",
        "k_symbol": "SIPO",
        "bank": "QR",
        "account": "13943797",
    }
    assert (household.description, household.external_reference) == ("Household payment", "13")
    roles = dict(Account.objects.filter(type="internal").values_list("role", "balance"))
    assert roles == {
        "cash": -100_000 + 60_000,
        "settlement": -50_050 + 30_025,
        "interest_expense": -110,
        "fees": 1_460,
    }
    lines = trial_balance(tenant_id=tenant.pk, currency=None, at=None)
    assert sum(line.credits - line.debits for line in lines) == 0


@pytest.mark.django_db
def test_a_second_run_posts_nothing(tmp_path: Path) -> None:
    run(write(tmp_path, GOOD))
    before = balances()

    report = run(tmp_path)

    assert balances() == before
    assert line_of(report, "trans_1993.csv")[1:] == ["6", "0", "6", "0", "0"]
    assert "0 transactions posted" in report
    assert "every row that can be was posted before" in report
    assert Tenant.objects.filter(name="PKDD'99 Bank").count() == 1


@pytest.mark.django_db
def test_files_are_read_in_order_of_date_and_a_new_one_continues(tmp_path: Path) -> None:
    run(write(tmp_path, GOOD[3:], "trans_b.csv"))

    report = run(write(tmp_path, GOOD[:3], "trans_a.csv"))

    assert line_of(report, "trans_a.csv")[1:3] == ["3", "3"]
    assert line_of(report, "trans_b.csv")[1:4] == ["3", "0", "3"]
    assert balances() == {"pkdd99-1": 68_625, "pkdd99-2": -9_950}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('17;1;931301;"PRIJEM";"VKLAD";1.00;1.00;"";;', "date '931301' does not exist"),
        ('17;1;1993-01-01;"PRIJEM";"VKLAD";1.00;1.00;"";;', "date '1993-01-01' is not yymmdd"),
        ('17;1;930101;"PRIJEM";"VKLAD";ten;1.00;"";;', "amount 'ten' is not an amount in crowns"),
        ('17;1;930101;"PRIJEM";"VKLAD";1.005;1.00;"";;', "amount '1.005' is not an amount"),
        ('17;1;930101;"PRIJEM";"VKLAD";-5.00;1.00;"";;', "amount -5.00 is not a positive amount"),
        ('17;1;930101;"PRIJEM";"VKLAD";0.00;1.00;"";;', "amount 0.00 is not a positive amount"),
        ('17;1;930101;"PRIJEM";"VKLAD";1.00;;"";;', "balance '' is not an amount in crowns"),
        ('17;1;930101;"GIFT";"VKLAD";1.00;1.00;"";;', "type 'GIFT' is not one of PRIJEM"),
        ('17;9;930101;"PRIJEM";"VKLAD";1.00;1.00;"";;', "account 9 is not in account.csv"),
        ('x;1;930101;"PRIJEM";"VKLAD";1.00;1.00;"";;', "trans_id 'x' is not a number"),
        ('11;1;930101;"PRIJEM";"VKLAD";2.00;1.00;"";;', "also in trans_1993.csv:2"),
        ('17;1;930101;"PRIJEM"', "has 4 fields, not 10"),
        ('17;1;930101;"PRIJEM";"VKLAD;1.00;1.00;;;', "is not CSV: unexpected end of data"),
        ('17;1;930101;"PRIJEM";"VK"LAD";1.00;1.00;"";;', "is not CSV: ';' expected after '\"'"),
        (f'17;1;930101;"PRIJEM";"{"x" * 200_000}";1.00;1.00;"";;', "is not CSV: field larger"),
        ("\x00", "has 1 fields, not 10"),
        ('17;1;930101;"PRIJEM";"a\x1b[31m";1.00;1.00;"";;', "has control characters"),
        (f'17;1;930101;"PRIJEM";"{"x" * 101}";1.00;1.00;"";;', "more than 100 characters"),
        ('17;1;930101;"PRIJEM";"\udcff";1.00;1.00;"";;', "operation is not UTF-8"),
    ],
)
def test_a_bad_row_is_named_and_the_rest_goes_on(tmp_path: Path, row: str, reason: str) -> None:
    write(tmp_path, [])
    text = HEADER + "\n".join([GOOD[0], row, *GOOD[1:]]) + "\n"
    (tmp_path / "trans_1993.csv").write_text(text, errors="surrogateescape")

    report = run(tmp_path)

    [told] = [line for line in report.splitlines() if line.startswith("trans_1993.csv:")]
    assert told.startswith("trans_1993.csv:3: ")
    assert reason in told
    assert line_of(report, "trans_1993.csv ")[1:] == ["7", "6", "0", "0", "1"]
    assert balances() == {"pkdd99-1": 68_625, "pkdd99-2": -9_950}


@pytest.mark.django_db
def test_a_bad_account_is_named_and_so_are_its_rows(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    (tmp_path / "account.csv").write_text(ACCOUNTS.replace("930226", "930230"))

    report = run(tmp_path)

    told = [line for line in report.splitlines() if ".csv:" in line]
    assert told == [
        "account.csv:3: date '930230' does not exist",
        "trans_1993.csv:3: account 2 is not in account.csv",
        "trans_1993.csv:7: account 2 is not in account.csv",
    ]
    assert balances() == {"pkdd99-1": 68_625}


@pytest.mark.django_db
def test_a_file_without_rows_is_no_fault(tmp_path: Path) -> None:
    report = run(write(tmp_path, []))

    assert line_of(report, "trans_1993.csv")[1:] == ["0", "0", "0", "0", "0"]
    assert balances() == {"pkdd99-1": 0, "pkdd99-2": 0}


@pytest.mark.django_db
def test_what_the_ledger_refuses_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    beyond = '17;1;930102;"VYDAJ";"VYBER";1001000.01;0.00;"";;'

    report = run(write(tmp_path, [GOOD[0], beyond, *GOOD[1:]]))

    [told] = [line for line in report.splitlines() if line.startswith("trans_1993.csv:")]
    assert told.startswith("trans_1993.csv:3: refused: ")
    assert line_of(report, "trans_1993.csv ")[1:] == ["7", "6", "0", "1", "0"]
    assert line_of(report, "All")[-1] == "-1,001,000.01"
    assert balances() == {"pkdd99-1": 68_625, "pkdd99-2": -9_950}


@pytest.mark.django_db
def test_a_row_that_changed_since_is_refused_and_named(tmp_path: Path) -> None:
    run(write(tmp_path, GOOD))

    report = run(write(tmp_path, [GOOD[0].replace("1000.00", "1000.01"), *GOOD[1:]]))

    assert "trans_1993.csv:2: refused: The idempotency key belongs to another request." in report
    assert line_of(report, "trans_1993.csv ")[1:] == ["6", "0", "5", "1", "0"]
    assert balances()["pkdd99-1"] == 68_625


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("trans_1993.csv", None, "There is no trans"),
        ("account.csv", None, "There is no account.csv"),
        ("account.csv", "a;b\n", "account.csv has not the columns"),
        ("trans_1993.csv", "", "trans_1993.csv has not the columns"),
        ("trans_1993.csv", '"trans_id;\n', "trans_1993.csv has not the columns"),
        ("trans_1993.csv", HEADER.replace('"balance";', ""), "trans_1993.csv has not the columns"),
    ],
)
def test_what_is_not_the_data_set_is_refused(
    tmp_path: Path, file: str, text: str | None, reason: str
) -> None:
    write(tmp_path, GOOD)
    (tmp_path / file).unlink()
    if text is not None:
        (tmp_path / file).write_text(text)

    with pytest.raises(CommandError, match=reason):
        run(tmp_path)
    assert not Tenant.objects.filter(name="PKDD'99 Bank").exists()


@pytest.mark.django_db
def test_it_posts_in_batches(tmp_path: Path) -> None:
    rows = [f'{n};1;930101;"PRIJEM";"VKLAD";1.00;{n}.00;"";;' for n in range(1, 2001)]
    write(tmp_path, rows)

    with CaptureQueriesContext(connection) as queries:
        run(tmp_path)

    assert len(queries) < 40


@pytest.mark.crash
@pytest.mark.django_db(transaction=True)
def test_an_import_that_was_killed_continues(tmp_path: Path) -> None:
    rows = [f'{n};1;930101;"PRIJEM";"VKLAD";1.00;{n}.00;"";;' for n in range(1, 20_001)]
    write(tmp_path, rows)
    database = connection.settings_dict
    url = "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
    import_ = subprocess.Popen(
        [sys.executable, "manage.py", "import_pkdd99", str(tmp_path)],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.DEVNULL,
    )
    # Its first batch is in, many are to come.
    while not Account.objects.filter(external_id="pkdd99-1", balance__gt=0).exists():
        assert import_.poll() is None, "it ended before it could be killed"
    import_.send_signal(signal.SIGKILL)
    import_.wait()
    connection.close()
    killed_at = balances()["pkdd99-1"]

    run(tmp_path)

    assert 0 < killed_at < 2_000_000
    assert balances()["pkdd99-1"] == 2_000_000
    call_command("verify_ledger", stdout=io.StringIO())


ORDERS_HEADER = '"order_id";"account_id";"bank_to";"account_to";"amount";"k_symbol"\n'
# Of the days 29, 30 and 31.
ORDERS = [
    '28;1;"YZ";"87144583";24.50;"SIPO"',
    '29;2;"ST";"89597016";1.00;"UVER"',
    '30;2;"YZ";"13943797";3.05;" "',
]


def run_with_orders(directory: Path, orders: list[str]) -> str:
    (directory / "order.csv").write_text(ORDERS_HEADER + "\n".join(orders) + "\n")
    out = io.StringIO()
    call_command("import_pkdd99", str(directory), orders=True, stdout=out)
    return out.getvalue()


@pytest.mark.django_db(transaction=True)
def test_a_year_of_orders_is_paid(tmp_path: Path) -> None:
    report = run_with_orders(write(tmp_path, GOOD), ORDERS)

    months = [line.split() for line in report.splitlines() if line.strip().startswith("20")]
    assert [month[1:] for month in months] == [["3", "3", "0", "28.55"]] * 12
    assert line_of(report, "YZ")[1:] == ["2", "330.60", "330.60", "0.00"]
    assert line_of(report, "ST")[1:] == ["1", "12.00", "12.00", "0.00"]
    assert balances() == {"pkdd99-1": 68_625 - 12 * 2450, "pkdd99-2": -9_950 - 12 * 405}
    assert "no differences." in report


@pytest.mark.django_db(transaction=True)
def test_orders_of_the_last_days_keep_to_months_that_have_them(tmp_path: Path) -> None:
    run_with_orders(write(tmp_path, GOOD), ORDERS)

    runs = RecurringRun.objects.filter(recurring_payment__external_id="pkdd99-order-30")
    days = {run.nominal_date.month: run.nominal_date.day for run in runs}
    assert days.pop(2) in (28, 29)
    assert days == {1: 31, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}


@pytest.mark.django_db(transaction=True)
def test_a_second_run_of_orders_pays_nothing(tmp_path: Path) -> None:
    run_with_orders(write(tmp_path, GOOD), ORDERS)
    before = balances()

    report = run_with_orders(tmp_path, ORDERS)

    assert balances() == before
    assert "3 orders: 0 made recurring payments, 3 were before, 0 refused." in report
    assert "0 runs by the test clock" in report


@pytest.mark.django_db(transaction=True)
def test_an_order_without_money_is_counted(tmp_path: Path) -> None:
    report = run_with_orders(write(tmp_path, GOOD), ['1;1;"YZ";"1";600000.00;"SIPO"'])

    year = [line.split() for line in report.splitlines() if line.strip().startswith("20")]
    # It is paused when three in a row have failed.
    assert [month[1:4] for month in year] == [["1", "1", "0"], *[["1", "0", "1"]] * 3]
    assert line_of(report, "YZ")[-1] == "-6,600,000.00"


@pytest.mark.django_db(transaction=True)
def test_bad_orders_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    bad = {
        '28;1;"YZ";"1";2.00;""': "order_id 28 is also in order.csv:2",
        '31;9;"YZ";"1";2.00;""': "account 9 is not in account.csv",
        '31;1;"YZ";"1";0.00;""': "amount 0.00 is not a positive amount",
        '31;1;"YZ";"1"': "has 4 fields, not 6",
        'x;1;"YZ";"1";2.00;""': "order_id 'x' is not a number",
    }

    report = run_with_orders(write(tmp_path, GOOD), [ORDERS[0], *bad, *ORDERS[1:]])

    told = [line for line in report.splitlines() if line.startswith("order.csv:")]
    assert told == [f"order.csv:{line}: {reason}" for line, reason in enumerate(bad.values(), 3)]
    assert "3 orders: 3 made recurring payments" in report


@pytest.mark.django_db
def test_orders_need_their_file(tmp_path: Path) -> None:
    write(tmp_path, GOOD)

    with pytest.raises(CommandError, match=r"There is no order\.csv"):
        call_command("import_pkdd99", str(tmp_path), orders=True, stdout=io.StringIO())
    assert not Tenant.objects.filter(name="PKDD'99 Bank").exists()


@pytest.mark.django_db
def test_a_tenant_with_live_keys_has_no_year_in_a_second(tmp_path: Path) -> None:
    tenant = create_tenant(name="PKDD'99 Bank", now=timezone.now())
    create_api_key(
        tenant_id=tenant.pk, name="live", mode="live", scopes=["admin"], now=timezone.now()
    )

    with pytest.raises(CommandError, match="live API keys"):
        run_with_orders(write(tmp_path, GOOD), ORDERS)
