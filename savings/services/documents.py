"""
Savings plans on paper: a statement of a period, and a certificate of what is locked. PDF, the same
bytes for the same rows on the same day.
"""

import datetime as dt
import functools
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from babel.dates import format_date
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Spacer, Table

from core.calendars.zones import instant_of, zone_of
from core.errors import InvalidRequest, InvalidState
from core.money import format_basis_points, format_money
from core.paper import RULED, WIDTH, figures, head, paragraph, render, writing
from identity.models import Tenant, User
from ledger.queries import statement_of
from savings.models import InterestPosting, SavingsPlan
from savings.queries import plan_of, state_of

LOCALE = "en"
FIRST_DAY = dt.date(1970, 1, 1)
# Some thirty pages, two or three seconds; and a plan has three or four lines a month.
LINES_MAX = 1_000
_ENDLESS = dt.datetime(9999, 12, 30, tzinfo=dt.UTC)
_BEGINNING = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_D = SavingsPlan.DayCount
_DAY_COUNTS = {
    _D.ACT_365F: "for each day a 365th of a year (ACT/365F)",
    _D.THIRTY_360: "by months of 30 days in a year of 360 (30E/360)",
}
# Where the posting does not say it itself.
_KINDS = {
    "savings_deposit": "Paid in",
    "savings_withdrawal": "Paid out",
    "recurring_payment": "Put aside",
}


@dataclass(frozen=True, slots=True)
class StatementLine:
    """What came or went, and what there was then. Minor units."""

    date: dt.date
    description: str
    amount: int
    balance: int
    transaction_id: UUID


@dataclass(frozen=True, slots=True)
class PlanStatement:
    """A plan's period, both days inclusive. Minor units."""

    plan: SavingsPlan
    first: dt.date
    last: dt.date
    opening_balance: int
    closing_balance: int
    # Before tax, and the tax of it: of what was posted in the period.
    interest: int
    tax: int
    lines: list[StatementLine]


def plan_statement(
    *,
    tenant_id: UUID,
    plan_id: UUID,
    first: dt.date,
    last: dt.date,
    now: dt.datetime,
    owner_id: UUID | None = None,
) -> PlanStatement:
    """
    Return what happened in the plan from the first day to the last, by the tenant's days: those on
    which it was booked, and by a test clock those for which it was.

    :raises NotFound: no such plan in this tenant, or not the owner's
    :raises InvalidRequest: the period is empty, is yet to come, or has more than 1,000 lines
    """
    plan = _plan(tenant_id, plan_id, owner_id)
    tenant = plan.tenant
    today = tenant.day_of(tenant.time_at(now))
    if first < FIRST_DAY:
        raise InvalidRequest(f"From {FIRST_DAY} on.", field="from")
    if last < first:
        raise InvalidRequest("The period ends before it begins.", field="to")
    if last > today:
        raise InvalidRequest(f"It is {today}: later days are yet to come.", field="to")
    opening, lines = _lines(plan, tenant, first, last)
    if len(lines) > LINES_MAX:
        raise InvalidRequest(
            f"The period has {len(lines):,} lines; at most {LINES_MAX:,}. Choose a shorter one.",
            field="from",
        )
    postings = InterestPosting.objects.filter(
        plan=plan, transaction_id__in=[line.transaction_id for line in lines]
    )
    paid = list(postings.values_list("amount", "tax"))
    return PlanStatement(
        plan=plan,
        first=first,
        last=last,
        opening_balance=opening,
        closing_balance=lines[-1].balance if lines else opening,
        interest=sum(amount for amount, _ in paid),
        tax=sum(tax for _, tax in paid),
        lines=lines,
    )


def statement_pdf(
    *,
    tenant_id: UUID,
    plan_id: UUID,
    first: dt.date,
    last: dt.date,
    now: dt.datetime,
    owner_id: UUID | None = None,
) -> bytes:
    """
    Return the plan's statement as A4 pages.

    :raises NotFound: no such plan in this tenant, or not the owner's
    :raises InvalidRequest: as plan_statement
    """
    said = plan_statement(
        tenant_id=tenant_id, plan_id=plan_id, first=first, last=last, now=now, owner_id=owner_id
    )
    plan = said.plan
    money = functools.partial(format_money, currency=plan.currency, locale=LOCALE)
    facts = [
        ("Savings plan", plan.name),
        ("From", _day(first)),
        ("To", _day(last)),
        ("Terms", _terms(plan)),
        ("State", state_of(plan).capitalize()),
        ("Interest", _rate(plan.annual_rate_bps)),
    ]
    sums = [("Opening balance", money(said.opening_balance), False)]
    if said.interest:
        sums.append(("Interest of this period", money(said.interest), False))
        sums.append(("Tax withheld of it", money(said.tax), False))
    sums.append(("Closing balance", money(said.closing_balance), True))
    with writing(LOCALE):
        story = [
            *_head(plan, "Statement", facts),
            _lines_table(said, money),
            Spacer(0, 3 * mm),
            figures(sums),
            Spacer(0, 4 * mm),
            paragraph(
                f"Savings plan {plan.pk}. Days are days in {plan.tenant.time_zone}.", "small"
            ),
        ]
        return _pages(plan, f"Statement of a savings plan, {first} to {last}", story)


def certificate_pdf(
    *, tenant_id: UUID, plan_id: UUID, now: dt.datetime, owner_id: UUID | None = None
) -> bytes:
    """
    Return what says that an amount is locked, and until when, as an A4 page.

    :raises NotFound: no such plan in this tenant, or not the owner's
    :raises InvalidState: nothing is locked in it
    """
    plan = _plan(tenant_id, plan_id, owner_id)
    if not plan.is_locked or plan.unlock_date is None:
        raise InvalidState("Nothing is locked in it.")
    tenant = plan.tenant
    issued_on = tenant.day_of(tenant.time_at(now))
    amount = format_money(plan.plan_account.balance, plan.currency, LOCALE)
    facts = [
        ("Savings plan", plan.name),
        ("Issued on", _day(issued_on)),
        ("Locked until", _day(plan.unlock_date)),
        ("Interest", _rate(plan.annual_rate_bps)),
    ]
    rows = [("Amount locked", amount, True)]
    with writing(LOCALE):
        story = [
            *_head(plan, "Certificate", facts),
            paragraph(
                f"{tenant.name} certifies that the amount below stood in this savings plan on"
                f" {_day(issued_on)}, and is locked until {_day(plan.unlock_date)}."
            ),
            Spacer(0, 5 * mm),
            figures(rows),
            Spacer(0, 6 * mm),
            paragraph("Terms", "bold"),
            *(paragraph(sentence) for sentence in _certified_terms(plan)),
            Spacer(0, 6 * mm),
            paragraph(f"Savings plan {plan.pk}. Days are days in {tenant.time_zone}.", "small"),
        ]
        return _pages(plan, "Certificate of a savings plan", story)


def _plan(tenant_id: UUID, plan_id: UUID, owner_id: UUID | None) -> SavingsPlan:
    return plan_of(tenant_id=tenant_id, plan_id=plan_id, owner_id=owner_id)


def _lines(
    plan: SavingsPlan, tenant: Tenant, first: dt.date, last: dt.date
) -> tuple[int, list[StatementLine]]:
    """Return the opening balance, and what came and went, in order."""
    is_by_test_clock = tenant.test_clock is not None
    zone = zone_of(tenant.time_zone)
    start, end = _BEGINNING, _ENDLESS
    if not is_by_test_clock:
        start = instant_of(first, dt.time.min, zone)
        end = instant_of(last + dt.timedelta(days=1), dt.time.min, zone)
    booked = statement_of(
        tenant_id=plan.tenant_id, account_id=plan.plan_account_id, start=start, end=end
    )
    opening = balance = booked.opening_balance
    lines = []
    for entry in booked.lines:
        posted = entry.transaction
        date = posted.value_date if is_by_test_clock else tenant.day_of(entry.created_at)
        if date < first:
            opening = balance = balance + entry.amount
        elif date <= last:
            balance += entry.amount
            said = (
                _KINDS.get(posted.type)
                or posted.description
                or posted.type.replace("_", " ").capitalize()
            )
            lines.append(StatementLine(date, said, entry.amount, balance, posted.pk))
    return opening, lines


def _head(plan: SavingsPlan, title: str, facts: list[tuple[str, str]]) -> list[Flowable]:
    name, *below = _holder(plan)
    return head(issuer=(plan.tenant.name, ()), title=title, whom=(name, below), facts=facts)


def _holder(plan: SavingsPlan) -> list[str]:
    """Return whose plan it is: the person, or what the source account is called."""
    source = plan.source_account
    account = source.name or source.external_id or ""
    person = None
    if plan.owner_id is not None:
        # Of another system's person only the id is known.
        person = User.objects.filter(tenant_id=plan.tenant_id, pk=plan.owner_id).first()
    if person is None:
        return [account or f"Account {source.pk}"]
    named = [person.full_name] if person.full_name else []
    return [*named, person.email, *([f"Account {account}"] if account else [])]


def _lines_table(said: PlanStatement, money: Callable[[int], str]) -> Table:
    rows: list[list[Flowable]] = [
        [
            paragraph("Date", "small"),
            paragraph("What", "small"),
            paragraph("Amount", "small_right"),
            paragraph("Balance", "small_right"),
        ],
        [
            paragraph(_short(said.first)),
            paragraph("Opening balance"),
            paragraph("", "right"),
            paragraph(money(said.opening_balance), "right"),
        ],
    ]
    rows += [
        [
            paragraph(_short(line.date)),
            paragraph(line.description),
            paragraph(money(line.amount), "right"),
            paragraph(money(line.balance), "right"),
        ]
        for line in said.lines
    ]
    widths = [WIDTH * share for share in (0.13, 0.35, 0.26, 0.26)]
    return Table(rows, colWidths=widths, repeatRows=1, style=RULED)


def _terms(plan: SavingsPlan) -> str:
    if plan.unlock_date is not None:
        return f"Locked until {_day(plan.unlock_date)}"
    payment = plan.recurring_payment
    amount = format_money(plan.amount, plan.currency, LOCALE)
    if payment is not None and payment.day_of_month is not None:
        return f"{amount} on day {payment.day_of_month} of each month"
    return f"{amount} each month"


def _certified_terms(plan: SavingsPlan) -> list[str]:
    sentences = [
        "Nothing is paid out of it before the date: by no transfer, no card, no standing order.",
        "On the date all of it is paid out to the account that it came from."
        if plan.at_the_end == SavingsPlan.AtTheEnd.PAY_OUT
        else "On the date it is unlocked, and stays in the plan until it is asked for.",
    ]
    if plan.annual_rate_bps:
        counted = _DAY_COUNTS[_D(plan.day_count)]
        sentences.append(
            f"Interest of {_rate(plan.annual_rate_bps)} is reckoned on the balance at the end of"
            f" each day, {counted}, and is credited each month and at the end."
        )
    if plan.annual_rate_bps and plan.withholding_tax_bps:
        tax = format_basis_points(plan.withholding_tax_bps, LOCALE)
        sentences.append(f"Of the interest {tax} tax is withheld.")
    return sentences


def _rate(bps: int) -> str:
    return f"{format_basis_points(bps, LOCALE)} a year" if bps else "None"


def _day(day: dt.date) -> str:
    return str(format_date(day, "long", locale=LOCALE))


def _short(day: dt.date) -> str:
    return day.isoformat()


def _pages(plan: SavingsPlan, title: str, story: list[Flowable]) -> bytes:
    return render(story, title=title, author=plan.tenant.name, locale=LOCALE)
