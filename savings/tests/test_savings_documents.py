"""Statements and certificates of savings plans: what they say, read back by a library not ours."""

import datetime as dt
import io
import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pypdf import PdfReader

from accounts.models import Account
from core.errors import InvalidRequest, InvalidState, NotFound
from core.ids import new_id
from identity.models import Tenant
from identity.services import advance_test_clock, create_user, start_test_clock
from savings.models import InterestPosting, SavingsPlan
from savings.services import close_plan, deposit, documents, withdraw
from savings.services.documents import certificate_pdf, plan_statement, statement_pdf
from tests.making import api_client, fresh_key, open_account
from tests.recurring import utc
from tests.saving import auto_plan, locked_plan, released, saved

OPENED = utc("2026-01-15T09:00")
# Where to keep the documents, to look at; without it none are kept.
SHOTS = os.environ.get("FLORIN_SCREENSHOTS")


def text_of(document: bytes, name: str = "") -> str:
    if SHOTS and name:
        (Path(SHOTS) / f"{name}.pdf").write_bytes(document)
    pages = PdfReader(io.BytesIO(document)).pages
    text = "\n".join(page.extract_text() for page in pages)
    return text.replace("\u00a0", " ")


@pytest.fixture
def source(tenant: Tenant) -> Account:
    """By a test clock that shows 15 January 2026."""
    start_test_clock(tenant_id=tenant.pk, at=OPENED, now=OPENED)
    return open_account(tenant, balance=100_000_000, name="Ada Lestari")


@pytest.fixture
def plan(source: Account) -> SavingsPlan:
    return locked_plan(
        source,
        dt.date(2026, 7, 1),
        now=OPENED,
        amount=10_000_000,
        name="A <house> & a garden",
        annual_rate_bps=425,
        withholding_tax_bps=2_000,
    )


def advance(tenant: Tenant, to: str) -> None:
    tenant.refresh_from_db()
    assert advance_test_clock(tenant_id=tenant.pk, to=utc(to), now=OPENED).is_complete


def of(plan: SavingsPlan, first: str, last: str, **more: Any) -> dict[str, Any]:
    first_day, last_day = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    about = {"tenant_id": plan.tenant_id, "plan_id": plan.pk, "now": OPENED}
    return {**about, "first": first_day, "last": last_day, **more}


# --- The statement --------------------------------------------------------------------------------


def test_a_statement_says_all_of_it(tenant: Tenant, plan: SavingsPlan) -> None:
    advance(tenant, "2026-04-10")

    document = statement_pdf(**of(plan, "2026-02-01", "2026-03-31"))

    text = text_of(document, "savings-statement")
    january, february = InterestPosting.objects.filter(plan=plan).order_by("period_to")[:2]
    earned, tax = (
        january.amount + february.amount,
        january.tax + february.tax,
    )
    assert earned > tax > 0
    for words in (
        "Kopi Bank",
        "Ada Lestari",
        "A <house> & a garden",
        "Locked until July 1, 2026",
        "4.25 % a year",
        "2026-02-01",
        "Interest 2026-01-15 to 2026-01-31",
        "Interest 2026-02-01 to 2026-02-28",
        "Opening balance",
        "USD 100,000.00",
        f"USD {earned / 100:,.2f}",
        f"USD {tax / 100:,.2f}",
        f"USD {(10_000_000 + earned - tax) / 100:,.2f}",
        str(plan.pk),
        "Page 1 of 1",
    ):
        assert words in text, words
    # April's is not in it.
    assert "2026-03-31" not in text.split("Opening balance", 1)[1].split("Savings plan")[0]


def test_periods_follow_on_each_other(tenant: Tenant, source: Account) -> None:
    plan = auto_plan(source, now=OPENED, amount=500_000, months=6, annual_rate_bps=300)
    advance(tenant, "2026-05-20")

    parts = [
        plan_statement(**of(plan, first, last))
        for first, last in (
            ("2026-01-01", "2026-02-28"),
            ("2026-03-01", "2026-03-31"),
            ("2026-04-01", "2026-05-20"),
        )
    ]

    assert parts[0].opening_balance == 0
    for before, after in itertools.pairwise(parts):
        assert before.closing_balance == after.opening_balance
    assert parts[-1].closing_balance == saved(plan)
    posted = sum(each.amount for each in InterestPosting.objects.filter(plan=plan))
    assert sum(part.interest for part in parts) == posted
    assert [line.description for line in parts[1].lines] == [
        "Interest 2026-02-01 to 2026-02-28",
        "Put aside",
    ]


def test_by_the_real_time_days_are_the_tenants(tenant: Tenant) -> None:
    tenant.time_zone = "Asia/Jakarta"
    tenant.save()
    now = timezone.now()
    plan = auto_plan(open_account(tenant, balance=5_000), now=now)
    for move, amount in ((deposit, 900), (withdraw, 250)):
        move(
            tenant_id=tenant.pk,
            plan_id=plan.pk,
            amount=amount,
            idempotency_key=fresh_key(),
            now=now,
        )
    today = tenant.day_of(now)
    # A day more, should it be midnight just now.
    yesterday, last = today - dt.timedelta(days=1), today + dt.timedelta(days=1)

    said = plan_statement(**of(plan, str(today), str(last), now=now + dt.timedelta(days=1)))

    assert [(line.description, line.amount, line.balance) for line in said.lines] == [
        ("Paid in", 900, 900),
        ("Paid out", -250, 650),
    ]
    assert {line.date for line in said.lines} <= {today, last}
    assert (said.opening_balance, said.closing_balance) == (0, 650)
    assert plan_statement(**of(plan, str(yesterday), str(yesterday), now=now)).lines == []


@pytest.mark.parametrize(
    ("first", "last", "field"),
    [
        ("2026-01-16", "2026-01-15", "to"),
        ("2026-01-01", "2026-01-16", "to"),
        ("9999-12-31", "9999-12-31", "to"),
        ("0001-01-01", "2026-01-15", "from"),
    ],
)
def test_a_period_that_cannot_be_is_refused(
    plan: SavingsPlan, first: str, last: str, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        statement_pdf(**of(plan, first, last))
    assert refusal.value.field == field


def test_a_period_has_a_limit(plan: SavingsPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LINES_MAX", 1)
    assert statement_pdf(**of(plan, "2026-01-15", "2026-01-15"))
    deposit(
        tenant_id=plan.tenant_id,
        plan_id=plan.pk,
        amount=1,
        idempotency_key=fresh_key(),
        now=OPENED,
    )

    with pytest.raises(InvalidRequest, match="2 lines; at most 1"):
        statement_pdf(**of(plan, "2026-01-15", "2026-01-15"))


def test_the_same_rows_are_the_same_bytes(plan: SavingsPlan) -> None:
    asked = of(plan, "2026-01-15", "2026-01-15")
    assert statement_pdf(**asked) == statement_pdf(**asked)


# --- The certificate ------------------------------------------------------------------------------


def test_a_certificate_says_how_much_and_until_when(tenant: Tenant, source: Account) -> None:
    ada = create_user(
        tenant_id=tenant.pk,
        email="ada@kopi.test",
        password=None,
        role="customer",
        full_name="Ada Lestari binti Umar",
        now=OPENED,
    )
    own = open_account(tenant, balance=7_000, owner_id=ada.pk, name="Ada's salary")
    plan = locked_plan(
        own,
        dt.date(2027, 2, 28),
        now=OPENED,
        amount=6_500,
        name="Hajj",
        annual_rate_bps=375,
        day_count="30_360",
        withholding_tax_bps=1_050,
        at_the_end="keep",
    )

    text = text_of(
        certificate_pdf(tenant_id=tenant.pk, plan_id=plan.pk, now=OPENED), "savings-certificate"
    )

    for words in (
        "Certificate",
        "Kopi Bank certifies",
        "Ada Lestari binti Umar",
        "ada@kopi.test",
        "Hajj",
        "USD 65.00",
        "February 28, 2027",
        "January 15, 2026",
        "3.75 % a year",
        "30E/360",
        "10.5 % tax is withheld",
        "stays in the plan",
        str(plan.pk),
    ):
        assert words in " ".join(text.split()), words


def test_only_what_is_locked_is_certified(tenant: Tenant, source: Account) -> None:
    free = auto_plan(source, now=OPENED)
    locked = locked_plan(source, dt.date(2026, 7, 1), now=OPENED)
    released(locked, OPENED)

    for plan in (free, locked):
        with pytest.raises(InvalidState, match="Nothing is locked"):
            certificate_pdf(tenant_id=tenant.pk, plan_id=plan.pk, now=OPENED)


def test_a_closed_plan_still_has_its_statement(tenant: Tenant, source: Account) -> None:
    plan = auto_plan(source, now=OPENED)
    deposit(
        tenant_id=tenant.pk, plan_id=plan.pk, amount=77, idempotency_key=fresh_key(), now=OPENED
    )
    close_plan(tenant_id=tenant.pk, plan_id=plan.pk, now=OPENED)

    said = plan_statement(**of(plan, "2026-01-15", "2026-01-15"))

    assert [line.amount for line in said.lines] == [77, -77]
    assert said.closing_balance == 0


def test_nobody_elses_plan(other_tenant: Tenant, plan: SavingsPlan) -> None:
    others: list[dict[str, Any]] = [{"tenant_id": other_tenant.pk}, {"owner_id": new_id()}]
    for whose in others:
        with pytest.raises(NotFound):
            statement_pdf(**of(plan, "2026-01-15", "2026-01-15", **whose))
        asked: dict[str, Any] = {"tenant_id": plan.tenant_id, "plan_id": plan.pk, **whose}
        with pytest.raises(NotFound):
            certificate_pdf(**asked, now=OPENED)


# --- Over HTTP ------------------------------------------------------------------------------------


def test_both_come_over_http(tenant: Tenant, plan: SavingsPlan) -> None:
    api = api_client(tenant, "read")
    url = f"/api/v1/savings-plans/{plan.pk}"

    statement = api.get(f"{url}/statement?from=2026-01-01&to=2026-01-15")
    certificate = api.get(f"{url}/certificate")

    for answer in (statement, certificate):
        assert answer.status_code == 200
        assert answer["Content-Type"] == "application/pdf"
        assert answer["Content-Disposition"].startswith("inline; ")
    assert "Statement" in text_of(statement.content)
    assert "Certificate" in text_of(certificate.content)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "from"),
        ("?from=2026-01-01", "to"),
        ("?from=2026-02-30&to=2026-03-01", "from"),
        ("?from=2026-01-01&to=yesterday", "to"),
        ("?from=2026-01-10&to=2026-01-01", "to"),
        ("?from=2026-01-01&to=2026-01-15&document=x", "document"),
    ],
)
def test_a_bad_question_is_refused(
    tenant: Tenant, plan: SavingsPlan, query: str, field: str
) -> None:
    answer = api_client(tenant).get(f"/api/v1/savings-plans/{plan.pk}/statement{query}")

    assert answer.status_code == 400
    assert field in answer.content.decode()


def test_refusals_over_http_are_told_as_everywhere(
    tenant: Tenant, other_tenant: Tenant, plan: SavingsPlan, source: Account
) -> None:
    url = f"/api/v1/savings-plans/{plan.pk}/certificate"
    free = f"/api/v1/savings-plans/{auto_plan(source, now=OPENED).pk}/certificate"

    assert api_client(other_tenant).get(url).status_code == 404
    refusal = api_client(tenant).get(free)
    assert refusal.status_code == 409
    assert refusal.json()["code"] == "invalid_state"
