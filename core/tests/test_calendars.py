"""
Dates of rules, business days, local times: against dates that public rules give (each table names
its own), against dateutil, and as properties.
"""

import datetime as dt
import time
from itertools import islice, pairwise
from typing import Any

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.calendars.business_days import (
    MOVED_DAYS_MAX,
    Adjustment,
    BusinessCalendar,
    adjusted,
    subdivisions_of,
    supported_countries,
)
from core.calendars.recurrence import LAST_DAY, days_in_month
from core.calendars.rules import (
    Frequency,
    Rule,
    describe,
    following,
    nominal_date,
    nominal_dates,
)
from core.calendars.zones import instant_of, zone_of
from core.errors import InvalidRequest

quick = settings(max_examples=60, deadline=None)

DAILY, WEEKLY, MONTHLY, QUARTERLY, YEARLY = (
    Frequency.DAILY,
    Frequency.WEEKLY,
    Frequency.MONTHLY,
    Frequency.QUARTERLY,
    Frequency.YEARLY,
)


def rrule(text: str) -> Rule:
    return Rule(Frequency.RRULE, rrule=text)


def days(text: str) -> list[dt.date]:
    return [dt.date.fromisoformat(day) for day in text.split()]


def first_dates(rule: Rule, anchor: str, count: int) -> list[dt.date]:
    return list(islice(nominal_dates(rule, dt.date.fromisoformat(anchor)), count))


# The Gregorian calendar: months of 28 to 31 days, a leap year every fourth, but not 2100.
COUNTED = {
    "daily": (Rule(DAILY), "2026-12-30", "2026-12-30 2026-12-31 2027-01-01"),
    "daily over 29 February": (Rule(DAILY), "2028-02-28", "2028-02-28 2028-02-29 2028-03-01"),
    "every 10 days": (Rule(DAILY, 10), "2026-02-20", "2026-02-20 2026-03-02 2026-03-12"),
    "weekly across the year": (Rule(WEEKLY), "2026-12-25", "2026-12-25 2027-01-01 2027-01-08"),
    "every 2 weeks": (Rule(WEEKLY, 2), "2026-12-25", "2026-12-25 2027-01-08 2027-01-22"),
    "every 5 weeks": (Rule(WEEKLY, 5), "2028-02-01", "2028-02-01 2028-03-07 2028-04-11"),
    "the 31st clips and returns": (
        Rule(MONTHLY),
        "2026-01-31",
        "2026-01-31 2026-02-28 2026-03-31 2026-04-30 2026-05-31 2026-06-30 2026-07-31 2026-08-31",
    ),
    "the 30th in a leap year": (Rule(MONTHLY), "2024-01-30", "2024-01-30 2024-02-29 2024-03-30"),
    "the 29th in a short February": (
        Rule(MONTHLY),
        "2027-01-29",
        "2027-01-29 2027-02-28 2027-03-29",
    ),
    "day 31 from a short month": (
        Rule(MONTHLY, day_of_month=31),
        "2026-02-10",
        "2026-02-28 2026-03-31 2026-04-30",
    ),
    "day 31 anchored on a clipped day": (
        Rule(MONTHLY, day_of_month=31),
        "2026-02-28",
        "2026-02-28 2026-03-31",
    ),
    "day 15 is past": (Rule(MONTHLY, day_of_month=15), "2026-12-20", "2027-01-15 2027-02-15"),
    "day 15 is today": (Rule(MONTHLY, day_of_month=15), "2026-12-15", "2026-12-15 2027-01-15"),
    "day 15 is ahead": (Rule(MONTHLY, day_of_month=15), "2026-12-01", "2026-12-15 2027-01-15"),
    "the last day": (
        Rule(MONTHLY, day_of_month=-1),
        "2028-01-31",
        "2028-01-31 2028-02-29 2028-03-31 2028-04-30",
    ),
    "the fifth last day": (
        Rule(MONTHLY, day_of_month=-5),
        "2026-01-28",
        "2026-02-24 2026-03-27 2026-04-26",
    ),
    "every 2 months": (Rule(MONTHLY, 2), "2026-12-31", "2026-12-31 2027-02-28 2027-04-30"),
    "every 13 months": (Rule(MONTHLY, 13), "2026-12-31", "2026-12-31 2028-01-31 2029-02-28"),
    "quarterly": (
        Rule(QUARTERLY),
        "2026-11-30",
        "2026-11-30 2027-02-28 2027-05-30 2027-08-30 2027-11-30 2028-02-29",
    ),
    "quarters count from the first date": (
        Rule(QUARTERLY, day_of_month=15),
        "2026-01-20",
        "2026-02-15 2026-05-15 2026-08-15",
    ),
    "every 2 quarters": (Rule(QUARTERLY, 2), "2026-08-31", "2026-08-31 2027-02-28 2027-08-31"),
    "yearly on 29 February": (
        Rule(YEARLY),
        "2024-02-29",
        "2024-02-29 2025-02-28 2026-02-28 2027-02-28 2028-02-29",
    ),
    "2100 is no leap year": (
        Rule(YEARLY, 4),
        "2096-02-29",
        "2096-02-29 2100-02-28 2104-02-29",
    ),
    "yearly on February's last day": (
        Rule(YEARLY, day_of_month=-1),
        "2027-02-01",
        "2027-02-28 2028-02-29 2029-02-28",
    ),
}


@pytest.mark.parametrize(("rule", "anchor", "expected"), COUNTED.values(), ids=COUNTED)
def test_dates_are_counted_from_the_anchor(rule: Rule, anchor: str, expected: str) -> None:
    wanted = days(expected)

    assert first_dates(rule, anchor, len(wanted)) == wanted
    assert [nominal_date(rule, dt.date.fromisoformat(anchor), n) for n in range(len(wanted))] == (
        wanted
    )


# RFC 5545, section 3.8.5.3: rule, start and dates as printed there.
RFC_EXAMPLES = [
    ("FREQ=DAILY;INTERVAL=2", "1997-09-02", "1997-09-02 1997-09-04 1997-09-06 1997-09-08"),
    ("FREQ=DAILY;INTERVAL=10", "1997-09-02", "1997-09-02 1997-09-12 1997-09-22 1997-10-02"),
    ("FREQ=DAILY;BYMONTH=1", "1998-01-30", "1998-01-30 1998-01-31 1999-01-01 1999-01-02"),
    ("FREQ=WEEKLY", "1997-09-02", "1997-09-02 1997-09-09 1997-09-16 1997-09-23"),
    (
        "FREQ=WEEKLY;INTERVAL=2;WKST=SU",
        "1997-09-02",
        "1997-09-02 1997-09-16 1997-09-30 1997-10-14 1997-10-28 1997-11-11 1997-11-25",
    ),
    (
        "FREQ=WEEKLY;WKST=SU;BYDAY=TU,TH",
        "1997-09-02",
        "1997-09-02 1997-09-04 1997-09-09 1997-09-11 1997-09-16 1997-09-18 1997-09-23",
    ),
    (
        "FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=MO,WE,FR",
        "1997-09-01",
        "1997-09-01 1997-09-03 1997-09-05 1997-09-15 1997-09-17 1997-09-19 1997-09-29 1997-10-01",
    ),
    (
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=MO",
        "1997-08-05",
        "1997-08-05 1997-08-10 1997-08-19 1997-08-24",
    ),
    (
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=SU",
        "1997-08-05",
        "1997-08-05 1997-08-17 1997-08-19 1997-08-31",
    ),
    (
        "FREQ=MONTHLY;BYDAY=1FR",
        "1997-09-05",
        "1997-09-05 1997-10-03 1997-11-07 1997-12-05 1998-01-02 1998-02-06 1998-03-06 1998-04-03",
    ),
    (
        "FREQ=MONTHLY;INTERVAL=2;BYDAY=1SU,-1SU",
        "1997-09-07",
        "1997-09-07 1997-09-28 1997-11-02 1997-11-30 1998-01-04 1998-01-25 1998-03-01 1998-03-29",
    ),
    (
        "FREQ=MONTHLY;BYDAY=-2MO",
        "1997-09-22",
        "1997-09-22 1997-10-20 1997-11-17 1997-12-22 1998-01-19 1998-02-16",
    ),
    (
        "FREQ=MONTHLY;BYMONTHDAY=-3",
        "1997-09-28",
        "1997-09-28 1997-10-29 1997-11-28 1997-12-29 1998-01-29 1998-02-26",
    ),
    (
        "FREQ=MONTHLY;BYMONTHDAY=1,-1",
        "1997-09-30",
        "1997-09-30 1997-10-01 1997-10-31 1997-11-01 1997-11-30 1997-12-01 1997-12-31 1998-01-01",
    ),
    (
        "FREQ=MONTHLY;INTERVAL=18;BYMONTHDAY=10,11,12,13,14,15",
        "1997-09-10",
        "1997-09-10 1997-09-11 1997-09-12 1997-09-13 1997-09-14 1997-09-15 1999-03-10 1999-03-11",
    ),
    (
        "FREQ=MONTHLY;INTERVAL=2;BYDAY=TU",
        "1997-09-02",
        "1997-09-02 1997-09-09 1997-09-16 1997-09-23 1997-09-30 1997-11-04 1997-11-11 1997-11-18",
    ),
    # "an invalid date (i.e., February 30) is ignored": here, and not in monthly, which clips.
    (
        "FREQ=MONTHLY;BYMONTHDAY=15,30",
        "2007-01-15",
        "2007-01-15 2007-01-30 2007-02-15 2007-03-15 2007-03-30",
    ),
    (
        "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
        "1997-09-02",
        "1998-02-13 1998-03-13 1998-11-13 1999-08-13 2000-10-13",
    ),
    (
        "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13",
        "1997-09-13",
        "1997-09-13 1997-10-11 1997-11-08 1997-12-13 1998-01-10 1998-02-07 1998-03-07",
    ),
    (
        "FREQ=MONTHLY;BYDAY=TU,WE,TH;BYSETPOS=3",
        "1997-09-04",
        "1997-09-04 1997-10-07 1997-11-06",
    ),
    (
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
        "1997-09-29",
        "1997-09-29 1997-10-30 1997-11-27 1997-12-30 1998-01-29 1998-02-26 1998-03-30",
    ),
    (
        "FREQ=YEARLY;BYMONTH=6,7",
        "1997-06-10",
        "1997-06-10 1997-07-10 1998-06-10 1998-07-10 1999-06-10 1999-07-10",
    ),
    (
        "FREQ=YEARLY;INTERVAL=2;BYMONTH=1,2,3",
        "1997-03-10",
        "1997-03-10 1999-01-10 1999-02-10 1999-03-10 2001-01-10 2001-02-10 2001-03-10",
    ),
    ("FREQ=YEARLY;BYDAY=20MO", "1997-05-19", "1997-05-19 1998-05-18 1999-05-17"),
    (
        "FREQ=YEARLY;BYMONTH=3;BYDAY=TH",
        "1997-03-13",
        "1997-03-13 1997-03-20 1997-03-27 1998-03-05 1998-03-12 1998-03-19 1998-03-26 1999-03-04",
    ),
    (
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
        "1996-11-05",
        "1996-11-05 2000-11-07 2004-11-02",
    ),
]


@pytest.mark.parametrize(("text", "anchor", "expected"), RFC_EXAMPLES)
def test_an_rrule_gives_the_dates_of_rfc_5545(text: str, anchor: str, expected: str) -> None:
    wanted = days(expected)

    assert first_dates(rrule(text), anchor, len(wanted)) == wanted


def test_an_rrule_on_the_31st_skips_short_months_where_monthly_clips() -> None:
    skipping = first_dates(rrule("FREQ=MONTHLY;BYMONTHDAY=31"), "2026-01-31", 3)
    clipping = first_dates(Rule(MONTHLY), "2026-01-31", 3)

    assert skipping == days("2026-01-31 2026-03-31 2026-05-31")
    assert clipping == days("2026-01-31 2026-02-28 2026-03-31")


def test_an_rrule_with_numbered_and_plain_weekdays_gives_both() -> None:
    # 2026-06: Mondays 1, 8, 15, 22, 29; Fridays from the 5th.
    assert first_dates(rrule("FREQ=MONTHLY;BYDAY=MO,1FR"), "2026-06-01", 3) == days(
        "2026-06-01 2026-06-05 2026-06-08"
    )


def test_positions_are_given_in_the_order_of_days() -> None:
    assert first_dates(rrule("FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=2,9"), "2026-06-01", 2) == days(
        "2026-06-02 2026-06-29"
    )


def test_what_its_interval_misses_from_one_day_may_come_from_another() -> None:
    rule = rrule("FREQ=MONTHLY;INTERVAL=12;BYMONTH=6")

    assert first_dates(rule, "2026-06-10", 2) == days("2026-06-10 2027-06-10")
    with pytest.raises(InvalidRequest, match="From this day on"):
        nominal_date(rule, dt.date(2026, 5, 10), 0)


def test_a_search_ends_a_hundred_years_after_the_last_date_not_after_the_first() -> None:
    assert nominal_date(rrule("FREQ=YEARLY"), dt.date(2026, 6, 1), 150) == dt.date(2176, 6, 1)


def test_nothing_comes_before_the_anchor() -> None:
    rule = rrule("FREQ=WEEKLY;BYDAY=MO,TH")

    # A Wednesday, after the week's Monday.
    assert following(rule, dt.date(2026, 6, 3), -1, dt.date(2026, 1, 1)) == dt.date(2026, 6, 4)


def test_weeks_begun_before_the_anchor_count_as_whole_ones() -> None:
    # The week's second of Monday and Thursday is its Thursday, also when Monday is past.
    assert first_dates(rrule("FREQ=WEEKLY;BYDAY=MO,TH;BYSETPOS=2"), "2026-06-03", 2) == days(
        "2026-06-04 2026-06-11"
    )


def rrule_texts() -> st.SearchStrategy[str]:
    """Rules that dateutil and RFC 5545 understand alike; see what is left out."""

    def listed(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
        some = st.lists(values, min_size=1, max_size=4, unique=True)
        return some.map(lambda found: f";{name}=" + ",".join(map(str, found))) | st.just("")

    weekday = st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"])
    # dateutil joins plain and numbered weekdays by "and", so never both.
    numbered = st.builds(lambda n, day: f"{n}{day}", st.sampled_from([1, 2, 4, -1, -2]), weekday)
    month_day = st.integers(-31, 31).filter(bool)

    def of(step: str) -> st.SearchStrategy[str]:
        by_months = step in {"MONTHLY", "YEARLY"}
        head = st.integers(1, 6).map(lambda n: f"FREQ={step};INTERVAL={n}")
        return st.tuples(
            head,
            listed("BYMONTH", st.integers(1, 12)),
            st.just("") if step == "WEEKLY" else listed("BYMONTHDAY", month_day),
            listed("BYDAY", weekday) | (listed("BYDAY", numbered) if by_months else st.just("")),
            # dateutil cuts the first week off at the start, and picks from what is left.
            st.sampled_from(["", ";BYSETPOS=1", ";BYSETPOS=-1,2"]) if by_months else st.just(""),
            weekday.map(";WKST={}".format),
        ).map("".join)

    return st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]).flatmap(of)


anchors = st.dates(dt.date(1990, 1, 1), dt.date(2040, 12, 31))


@settings(max_examples=150, deadline=None)
@given(text=rrule_texts(), anchor=anchors)
def test_an_rrule_gives_the_dates_that_dateutil_gives(text: str, anchor: dt.date) -> None:
    try:
        found = list(islice(nominal_dates(rrule(text), anchor), 12))
    except InvalidRequest:
        assume(False)
    # Where nothing comes any more dateutil looks until the year 9999.
    assume(len(found) == 12)

    start = dt.datetime.combine(anchor, dt.time())
    assert found == [moment.date() for moment in islice(rrulestr(text, dtstart=start), 12)]


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    frequency = draw(st.sampled_from([DAILY, WEEKLY, MONTHLY, QUARTERLY, YEARLY]))
    by_months = frequency not in {DAILY, WEEKLY}
    day = draw(st.none() | st.sampled_from([*range(-5, 0), *range(1, 32)])) if by_months else None
    return Rule(frequency, draw(st.integers(1, 40)), day)


@quick
@given(rule=rules(), anchor=anchors)
def test_dates_begin_at_the_anchor_and_only_rise(rule: Rule, anchor: dt.date) -> None:
    dates = list(islice(nominal_dates(rule, anchor), 20))

    assert dates[0] >= anchor
    assert all(before < after for before, after in pairwise(dates))


@quick
@given(rule=rules(), anchor=anchors, n=st.integers(0, 200))
def test_each_period_has_one_date_on_its_own_day(rule: Rule, anchor: dt.date, n: int) -> None:
    assume(rule.frequency not in {DAILY, WEEKLY})
    months = {MONTHLY: 1, QUARTERLY: 3, YEARLY: 12}[rule.frequency] * rule.interval
    assume(anchor.year + months * n / 12 < 2990)

    first, day = nominal_date(rule, anchor, 0), nominal_date(rule, anchor, n)

    passed = (day.year - first.year) * 12 + day.month - first.month
    assert passed == months * n
    wanted, last = rule.day_of_month or anchor.day, days_in_month(day.year, day.month)
    assert day.day == (min(wanted, last) if wanted > 0 else last + 1 + wanted)


@quick
@given(rule=rules(), anchor=anchors)
def test_the_first_date_is_no_later_than_one_period_on(rule: Rule, anchor: dt.date) -> None:
    assert nominal_date(rule, anchor, 0) - anchor < dt.timedelta(days=32)


@quick
@given(text=rrule_texts(), anchor=anchors, n=st.integers(0, 30))
def test_one_on_from_anywhere_is_the_same_as_counted_through(
    text: str, anchor: dt.date, n: int
) -> None:
    try:
        rule = rrule(text)
        here, there = nominal_date(rule, anchor, n), nominal_date(rule, anchor, n + 1)
    except InvalidRequest:
        assume(False)

    assert following(rule, anchor, n, here) == there


BAD_RULES: list[tuple[dict[str, Any], str]] = [
    ({"frequency": "hourly"}, "frequency"),
    ({"frequency": ""}, "frequency"),
    ({"frequency": None}, "frequency"),
    ({"frequency": DAILY, "interval": 0}, "interval"),
    ({"frequency": DAILY, "interval": -1}, "interval"),
    ({"frequency": DAILY, "interval": 367}, "interval"),
    ({"frequency": DAILY, "interval": 2**63}, "interval"),
    ({"frequency": DAILY, "interval": 1.0}, "interval"),
    ({"frequency": DAILY, "interval": True}, "interval"),
    ({"frequency": DAILY, "interval": "1"}, "interval"),
    ({"frequency": Frequency.RRULE, "interval": 2, "rrule": "FREQ=DAILY"}, "interval"),
    ({"frequency": MONTHLY, "day_of_month": 0}, "day_of_month"),
    ({"frequency": MONTHLY, "day_of_month": 32}, "day_of_month"),
    ({"frequency": MONTHLY, "day_of_month": -6}, "day_of_month"),
    ({"frequency": MONTHLY, "day_of_month": "1"}, "day_of_month"),
    ({"frequency": DAILY, "day_of_month": 1}, "day_of_month"),
    ({"frequency": WEEKLY, "day_of_month": 1}, "day_of_month"),
    ({"frequency": Frequency.RRULE, "day_of_month": 1, "rrule": "FREQ=DAILY"}, "day_of_month"),
    ({"frequency": MONTHLY, "rrule": "FREQ=DAILY"}, "rrule"),
    ({"frequency": Frequency.RRULE}, "rrule"),
]


@pytest.mark.parametrize(("parts", "field"), BAD_RULES)
def test_a_bad_rule_is_refused_by_its_field(parts: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        Rule(**parts)

    assert refusal.value.field == field


BAD_RRULES = {
    "FREQ": "parts such as",
    "FREQ=": "parts such as",
    "FREQ=DAILY;": "parts such as",
    "INTERVAL=2": "no FREQ",
    "FREQ=FORTNIGHTLY": "FREQ is one of",
    "FREQ=HOURLY": "more often than daily",
    "FREQ=MINUTELY": "more often than daily",
    "FREQ=DAILY;BYHOUR=9": "more often than daily",
    "FREQ=DAILY;COUNT=3": "COUNT is not taken",
    "FREQ=DAILY;UNTIL=20270101": "UNTIL is not taken",
    "FREQ=DAILY;FREQ=DAILY": "FREQ is there twice",
    "FREQ=YEARLY;BYWEEKNO=20": "no others",
    "FREQ=YEARLY;BYYEARDAY=1": "no others",
    "FREQ=YEARLY;BYEASTER=0": "no others",
    "RRULE:FREQ=DAILY": "no others",
    "FREQ=DAILY ;INTERVAL=2": "FREQ is one of",
    "FREQ=DAILY\nFREQ=WEEKLY": "FREQ is one of",
    "FREQ=DAILY;INTERVAL=0": "INTERVAL is",
    "FREQ=DAILY;INTERVAL=-1": "INTERVAL is",
    "FREQ=DAILY;INTERVAL=367": "INTERVAL is",
    "FREQ=DAILY;INTERVAL=1.5": "INTERVAL is",
    "FREQ=DAILY;INTERVAL=9999999999": "INTERVAL is",
    "FREQ=MONTHLY;BYMONTH=13": "BYMONTH is",
    "FREQ=MONTHLY;BYMONTH=-1": "BYMONTH is",
    "FREQ=MONTHLY;BYMONTHDAY=0": "BYMONTHDAY is",
    "FREQ=MONTHLY;BYMONTHDAY=32": "BYMONTHDAY is",
    "FREQ=MONTHLY;BYMONTHDAY=1,": "BYMONTHDAY is",
    "FREQ=MONTHLY;BYDAY=XX": "BYDAY is",
    "FREQ=MONTHLY;BYDAY=0MO": "BYDAY is",
    "FREQ=YEARLY;BYDAY=54MO": "BYDAY is",
    "FREQ=WEEKLY;BYDAY=1MO": "MONTHLY and YEARLY only",
    "FREQ=WEEKLY;BYMONTHDAY=1": "does not go with WEEKLY",
    "FREQ=MONTHLY;BYSETPOS=1": "another BY part",
    "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=0": "BYSETPOS is",
    "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=367": "BYSETPOS is",
    "FREQ=DAILY;WKST=1": "WKST is",
    "FREQ=WEEKLY;BYDAY=\u017fU": "ASCII",
    "FREQ=DAILY;INTERVAL=\u0661": "ASCII",
    "FREQ=DAILY;BYMONTH=" + ",".join(["1"] * 100): "more than 200 characters",
}


@pytest.mark.parametrize(("text", "sentence"), BAD_RRULES.items())
def test_a_bad_rrule_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence) as refusal:
        rrule(text)

    assert refusal.value.field == "rrule"


@pytest.mark.parametrize(
    "text",
    [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYDAY=MO;BYSETPOS=2",
        "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=-2",
        "FREQ=MONTHLY;BYDAY=6MO",
        "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=6",
        "FREQ=YEARLY;BYDAY=1MO;BYMONTHDAY=20",
        "FREQ=YEARLY;BYDAY=MO;BYSETPOS=54",
    ],
)
def test_a_rule_that_never_comes_is_refused_at_once(text: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRequest, match="No date fits"):
        rrule(text)

    # Hundredths of a second; dateutil takes up to four seconds.
    assert time.process_time() - began < 1


def test_a_rule_that_never_comes_from_its_anchor_is_refused() -> None:
    # Every second year from an odd one is never a leap year.
    rule = rrule("FREQ=YEARLY;INTERVAL=2;BYMONTH=2;BYMONTHDAY=29")

    with pytest.raises(InvalidRequest, match="From this day on") as refusal:
        nominal_date(rule, dt.date(2025, 1, 1), 0)
    assert refusal.value.field == "rrule"
    assert nominal_date(rule, dt.date(2026, 1, 1), 0) == dt.date(2028, 2, 29)


def test_dates_end_where_the_calendar_does() -> None:
    for rule in (Rule(DAILY), Rule(MONTHLY), rrule("FREQ=MONTHLY;BYMONTHDAY=-1")):
        assert nominal_date(rule, LAST_DAY, 0) == LAST_DAY
        assert following(rule, LAST_DAY, 0, LAST_DAY) is None
        with pytest.raises(InvalidRequest):
            nominal_date(rule, LAST_DAY, 1)
        assert list(nominal_dates(rule, LAST_DAY)) == [LAST_DAY]
        for outside in (dt.date.min, dt.date(1899, 12, 31), dt.date(3000, 1, 1), dt.date.max):
            with pytest.raises(InvalidRequest):
                nominal_date(rule, outside, 0)
    for rule in (Rule(DAILY, 366), Rule(YEARLY, 366)):
        with pytest.raises(InvalidRequest):
            nominal_date(rule, dt.date(2026, 1, 1), 2**63)


def test_there_is_no_date_before_the_first() -> None:
    with pytest.raises(ValueError, match="from 0"):
        nominal_date(Rule(DAILY), dt.date(2026, 1, 1), -1)


@pytest.mark.parametrize(
    ("rule", "anchor", "sentence"),
    [
        (Rule(DAILY), "2026-01-01", "every day"),
        (Rule(DAILY, 3), "2026-01-01", "every 3 days"),
        (Rule(WEEKLY, 2), "2026-01-02", "every 2 weeks on Friday"),
        (Rule(MONTHLY), "2026-01-22", "every month on the 22nd"),
        (Rule(MONTHLY), "2026-01-31", "every month on the 31st, or the month's last day"),
        (Rule(MONTHLY, day_of_month=-1), "2026-01-01", "every month on the last day of the month"),
        (Rule(QUARTERLY, 2, 13), "2026-01-01", "every 2 quarters on the 13th"),
        (Rule(YEARLY), "2026-01-31", "every year on the 31st of January"),
        (
            Rule(YEARLY),
            "2024-02-29",
            "every year on the 29th of February, or the month's last day",
        ),
        (Rule(YEARLY, day_of_month=3), "2026-12-04", "every year on the 3rd of January"),
        (rrule("FREQ=DAILY;INTERVAL=3"), "2026-01-01", "by the rule FREQ=DAILY;INTERVAL=3"),
    ],
)
def test_a_rule_is_told_in_english(rule: Rule, anchor: str, sentence: str) -> None:
    assert describe(rule, dt.date.fromisoformat(anchor)) == sentence


# Country, part of it, day, whether banks work, and the public rule.
BUSINESS_DAYS = [
    (None, None, "2026-11-20", True, "a Friday"),
    (None, None, "2026-11-21", False, "a Saturday"),
    (None, None, "2026-12-25", True, "without a country there are no holidays"),
    ("ID", None, "2026-01-01", False, "New Year's Day"),
    ("ID", None, "2026-08-17", False, "Independence Day"),
    ("ID", None, "2026-12-25", False, "Christmas Day"),
    ("ID", None, "2026-06-01", False, "Pancasila Day, Keppres 24/2016"),
    ("ID", None, "2026-08-18", True, "a Tuesday"),
    ("MY", None, "2026-08-31", False, "National Day"),
    ("MY", None, "2026-09-16", False, "Malaysia Day"),
    ("MY", None, "2026-12-25", False, "Christmas Day"),
    ("MY", None, "2026-09-18", True, "a Friday"),
    ("MY", "03", "2026-09-18", False, "Kelantan rests on Fridays and Saturdays"),
    ("MY", "03", "2026-09-20", True, "and works on Sundays"),
    # 5 U.S.C. 6103(a); (b): on a Saturday, the Friday before.
    ("US", None, "2026-01-19", False, "Martin Luther King: third Monday of January"),
    ("US", None, "2026-02-16", False, "Washington: third Monday of February"),
    ("US", None, "2026-05-25", False, "Memorial Day: last Monday of May"),
    ("US", None, "2026-06-19", False, "Juneteenth"),
    ("US", None, "2026-07-03", False, "Independence Day is a Saturday"),
    ("US", None, "2026-09-07", False, "Labor Day: first Monday of September"),
    ("US", None, "2026-10-12", False, "Columbus Day: second Monday of October"),
    ("US", None, "2026-11-11", False, "Veterans Day"),
    ("US", None, "2026-11-26", False, "Thanksgiving: fourth Thursday of November"),
    ("US", None, "2027-12-31", False, "New Year's Day 2028 is a Saturday: the old year's Friday"),
    ("US", None, "2026-11-27", True, "the Friday after Thanksgiving"),
    ("SA", None, "2026-02-13", False, "Saudi Arabia rests on Fridays and Saturdays, since 2013"),
    ("SA", None, "2026-02-15", True, "and works on Sundays"),
    # State Council, 12 November 2024: Sunday 26 January 2025 is worked, for the Spring Festival.
    ("CN", None, "2025-01-26", True, "a Sunday that is worked"),
    ("CN", None, "2025-01-19", False, "a Sunday that is not"),
]


@pytest.mark.parametrize(("country", "subdivision", "day", "works", "why"), BUSINESS_DAYS)
def test_banks_work_when_the_country_does(
    country: str | None, subdivision: str | None, day: str, works: bool, why: str
) -> None:
    calendar = BusinessCalendar(country, subdivision)

    assert calendar.is_business_day(dt.date.fromisoformat(day)) is works, why


@pytest.mark.parametrize(
    "holiday",
    [
        # 5 U.S.C. 6103(a), as rules: two modules against each other.
        "FREQ=YEARLY;BYMONTH=1;BYDAY=3MO",
        "FREQ=YEARLY;BYMONTH=5;BYDAY=-1MO",
        "FREQ=YEARLY;BYMONTH=9;BYDAY=1MO",
        "FREQ=YEARLY;BYMONTH=11;BYDAY=4TH",
    ],
)
def test_federal_holidays_come_by_their_rules(holiday: str) -> None:
    calendar = BusinessCalendar("US")

    for day in first_dates(rrule(holiday), "2020-01-01", 20):
        assert not calendar.is_business_day(day)
        assert calendar.is_business_day(day + dt.timedelta(days=7))


def test_the_tenants_own_days_come_first() -> None:
    # 2026-08-17 is a holiday of Indonesia, a Monday; 22 is a Saturday; the 18th is neither.
    calendar = BusinessCalendar(
        "ID",
        own_days={
            dt.date(2026, 8, 17): True,
            dt.date(2026, 8, 22): True,
            dt.date(2026, 8, 18): False,
        },
    )

    works = [day for day in range(17, 24) if calendar.is_business_day(dt.date(2026, 8, day))]
    assert works == [17, 19, 20, 21, 22]


@pytest.mark.parametrize(
    ("country", "subdivision", "field"),
    [
        ("XX", None, "country"),
        ("", None, "country"),
        ("id", None, "country"),
        ("IDN", None, "country"),
        ("US", "XX", "subdivision"),
        ("US", "", "subdivision"),
        ("ID", "JK", "subdivision"),
        (None, "CA", "subdivision"),
    ],
)
def test_an_unknown_country_or_part_is_refused(
    country: str | None, subdivision: str | None, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        BusinessCalendar(country, subdivision)

    assert refusal.value.field == field


def test_countries_and_their_parts_are_known_by_iso_codes() -> None:
    assert {"ID", "MY", "US", "SG", "GB"} <= supported_countries()
    assert all(len(country) == 2 for country in supported_countries())
    assert "CA" in subdivisions_of("US")
    assert not subdivisions_of("ID")


@pytest.mark.parametrize(
    ("day", "adjustment", "expected"),
    [
        # 2026-01-31 is a Saturday, 2026-02-01 a Sunday, 2026-06-06 a Saturday in mid-month.
        ("2026-01-31", Adjustment.NONE, "2026-01-31"),
        ("2026-01-31", Adjustment.NEXT, "2026-02-02"),
        ("2026-01-31", Adjustment.PREVIOUS, "2026-01-30"),
        ("2026-01-31", Adjustment.MODIFIED_FOLLOWING, "2026-01-30"),
        ("2026-02-01", Adjustment.PREVIOUS, "2026-01-30"),
        ("2026-02-01", Adjustment.MODIFIED_FOLLOWING, "2026-02-02"),
        ("2026-06-06", Adjustment.MODIFIED_FOLLOWING, "2026-06-08"),
        ("2026-06-05", Adjustment.NEXT, "2026-06-05"),
        ("2026-06-05", Adjustment.PREVIOUS, "2026-06-05"),
        # Over a holiday and a weekend: Saturday 2026-08-15, and Monday is Independence Day.
        ("2026-08-15", Adjustment.NEXT, "2026-08-18"),
        # A year later, at its end: Friday 2027-12-31, then New Year's Day and a Sunday.
        ("2028-01-01", Adjustment.PREVIOUS, "2027-12-31"),
        ("2028-01-01", Adjustment.NEXT, "2028-01-03"),
    ],
)
def test_a_date_that_is_no_business_day_is_moved(
    day: str, adjustment: Adjustment, expected: str
) -> None:
    calendar = BusinessCalendar("ID")

    moved = adjusted(dt.date.fromisoformat(day), adjustment, calendar.is_business_day)

    assert moved == dt.date.fromisoformat(expected)


@quick
@given(
    day=anchors,
    adjustment=st.sampled_from([a for a in Adjustment if a != Adjustment.NONE]),
    country=st.sampled_from([None, "ID", "MY", "US", "SA"]),
)
def test_a_moved_date_is_the_nearest_business_day_its_way(
    day: dt.date, adjustment: Adjustment, country: str | None
) -> None:
    works = BusinessCalendar(country).is_business_day

    moved = adjusted(day, adjustment, works)

    assert works(moved)
    one = dt.timedelta(days=1 if moved > day else -1)
    passed = [day + one * n for n in range(abs((moved - day).days))]
    assert not any(works(each) for each in passed)
    assert moved >= day or adjustment != Adjustment.NEXT
    assert moved <= day or adjustment != Adjustment.PREVIOUS
    if adjustment == Adjustment.MODIFIED_FOLLOWING:
        assert (moved.year, moved.month) == (day.year, day.month)


def test_where_no_day_is_a_business_day_the_date_stays() -> None:
    asked: list[dt.date] = []

    def never(day: dt.date) -> bool:
        asked.append(day)
        return False

    for adjustment in Adjustment:
        assert adjusted(dt.date(2026, 6, 30), adjustment, never) == dt.date(2026, 6, 30)
    assert len(asked) <= 5 * (MOVED_DAYS_MAX + 1)


# tzdata: the offsets before and after each change; RFC 5545, 3.3.5: what a gap and an overlap mean.
INSTANTS = [
    # Clocks go from 02:00 EST to 03:00 EDT.
    ("America/New_York", "2026-03-08T01:59", "2026-03-08T06:59"),
    ("America/New_York", "2026-03-08T02:00", "2026-03-08T07:00"),
    ("America/New_York", "2026-03-08T02:30", "2026-03-08T07:30"),
    ("America/New_York", "2026-03-08T03:00", "2026-03-08T07:00"),
    # And from 02:00 EDT back to 01:00 EST.
    ("America/New_York", "2026-11-01T00:30", "2026-11-01T04:30"),
    ("America/New_York", "2026-11-01T01:30", "2026-11-01T05:30"),
    ("America/New_York", "2026-11-01T02:00", "2026-11-01T07:00"),
    ("Europe/Berlin", "2026-03-29T02:30", "2026-03-29T01:30"),
    ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T00:30"),
    # By half an hour: 02:00 +10:30 to 02:30 +11, and back.
    ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03T15:45"),
    ("Australia/Lord_Howe", "2026-04-05T01:45", "2026-04-04T14:45"),
    # Samoa went over the date line: it had no 30 December 2011.
    ("Pacific/Apia", "2011-12-29T10:00", "2011-12-29T20:00"),
    ("Pacific/Apia", "2011-12-30T10:00", "2011-12-30T20:00"),
    ("Pacific/Apia", "2011-12-31T10:00", "2011-12-30T20:00"),
    # Nothing changes in these.
    ("Asia/Jakarta", "2026-03-08T02:30", "2026-03-07T19:30"),
    ("Asia/Kathmandu", "2026-03-08T02:30", "2026-03-07T20:45"),
    ("UTC", "2026-03-08T02:30", "2026-03-08T02:30"),
]


@pytest.mark.parametrize(("zone", "local", "utc"), INSTANTS)
def test_a_local_time_is_one_instant(zone: str, local: str, utc: str) -> None:
    asked = dt.datetime.fromisoformat(local)

    instant = instant_of(asked.date(), asked.time(), zone_of(zone))

    assert instant == dt.datetime.fromisoformat(utc).replace(tzinfo=dt.UTC)
    assert instant.tzinfo is dt.UTC


def test_the_second_of_two_is_not_chosen_by_fold() -> None:
    day, zone = dt.date(2026, 11, 1), zone_of("America/New_York")

    assert instant_of(day, dt.time(1, 30, fold=1), zone) == instant_of(day, dt.time(1, 30), zone)


@quick
@given(
    day=st.dates(dt.date(1990, 1, 1), LAST_DAY),
    at=st.times(),
    name=st.sampled_from(["America/New_York", "Europe/Berlin", "Asia/Jakarta", "Pacific/Chatham"]),
)
def test_clocks_show_the_time_or_have_just_skipped_it(day: dt.date, at: dt.time, name: str) -> None:
    zone = zone_of(name)

    shown = instant_of(day, at, zone).astimezone(zone).replace(tzinfo=None)

    late = shown - dt.datetime.combine(day, at)
    assert late in {dt.timedelta(0), dt.timedelta(hours=1)}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Mars/Phobos",
        "asia/jakarta",
        "UTC+7",
        "../../etc/passwd",
        "/etc/localtime",
        "localtime",
        "Factory",
        "right/Asia/Jakarta",
        "Asia/Jakarta\0",
        "Asia",
    ],
)
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is no time zone") as refusal:
        zone_of(name)

    assert refusal.value.field == "time_zone"
