"""Payments that a salary sets off: once for each credit, for it alone, never in circles."""

import datetime as dt
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Account
from core.errors import InvalidRequest
from core.ids import new_id
from identity.models import Tenant
from identity.services import advance_test_clock, start_test_clock
from ledger.services import Leg, PostedTransaction, Posting, post_one, reverse_transaction
from payments.models import RecurringPayment
from payments.services import (
    Salary,
    change_recurring_payment,
    look_for_salaries,
    pause_recurring_payment,
    resume_recurring_payment,
)
from tests.making import at_once, balance_of, deposit, open_account, transfer
from tests.recurring import again, order, run, runs, statuses


@pytest.fixture
def source(tenant: Tenant) -> Account:
    return open_account(tenant)


@pytest.fixture
def saver(tenant: Tenant) -> Account:
    return open_account(tenant)


@pytest.fixture
def employer(tenant: Tenant) -> Account:
    return open_account(tenant, balance=1_000_000)


def by_salary(source: Account, destination: Account, **terms: Any) -> RecurringPayment:
    """Make a payment of 10 % of each salary, unless the terms say otherwise."""
    values: dict[str, Any] = {"salary": Salary(), **terms}
    if "amount" not in values and "floor_amount" not in values:
        values = {"amount_type": "percentage", "percent": Decimal(10), **values}
    return order(source, destination, now=timezone.now(), **values)


def look(after: dt.timedelta = dt.timedelta(0)) -> int:
    """Look for salaries, and pay what they set off; return how many were found."""
    found = look_for_salaries(now=timezone.now() + after)
    run(timezone.now() + after)
    return found


def paid(payment: RecurringPayment) -> list[int | None]:
    return [each.amount for each in runs(payment) if each.status == "succeeded"]


# --- Once for each credit -------------------------------------------------------------------------


def test_each_credit_sets_it_off_once(source: Account, saver: Account, employer: Account) -> None:
    payment = by_salary(source, saver)
    first = transfer(employer, source, 1_000)
    second = transfer(employer, source, 2_000)

    assert look() == 2
    assert look() == 0

    assert paid(payment) == [100, 200]
    assert {each.trigger_transaction_id for each in runs(payment)} == {first.id, second.id}
    assert balance_of(saver) == 300


def test_a_credit_before_it_was_made_is_none_of_its(
    source: Account, saver: Account, employer: Account
) -> None:
    by_salary(source, saver)
    transfer(employer, source, 1_000)
    later = by_salary(source, saver)

    look()

    assert paid(later) == []


def test_a_credit_while_it_is_paused_is_passed_over(
    tenant: Tenant, source: Account, saver: Account, employer: Account
) -> None:
    payment = by_salary(source, saver)
    key: dict[str, Any] = {"tenant_id": tenant.pk, "payment_id": payment.pk}
    pause_recurring_payment(**key, reason="x", now=timezone.now())
    transfer(employer, source, 1_000)
    look()
    resume_recurring_payment(**key, now=timezone.now())
    transfer(employer, source, 2_000)

    look()

    assert paid(payment) == [200]


def test_all_that_wait_for_an_account_are_set_off(
    source: Account, saver: Account, employer: Account
) -> None:
    tenth, all_above = (
        by_salary(source, saver),
        by_salary(source, saver, amount_type="sweep", floor_amount=300),
    )
    transfer(employer, source, 1_000)

    look()

    assert (paid(tenth), paid(all_above)) == ([100], [600])


def test_a_part_of_a_cent_stays(source: Account, saver: Account, employer: Account) -> None:
    payment = by_salary(source, saver, percent=Decimal("33.3333"))
    transfer(employer, source, 1_001)

    look()

    assert paid(payment) == [333]
    assert balance_of(source) == 668


def test_a_share_of_all_that_an_account_can_hold_is_exact(
    tenant: Tenant, source: Account, saver: Account
) -> None:
    payment = by_salary(source, saver, percent=Decimal("99.9999"))
    deposit(source, 4_000_000_000_000_000_001)

    look()

    assert paid(payment) == [3_999_996_000_000_000_000]


def test_a_share_that_is_nothing_is_skipped(
    source: Account, saver: Account, employer: Account
) -> None:
    payment = by_salary(source, saver, percent=Decimal("0.0001"))
    transfer(employer, source, 1_000)

    look()

    assert [(each.status, each.error_code) for each in runs(payment)] == [
        ("skipped", "nothing_to_pay")
    ]


def test_more_than_four_places_are_refused(source: Account, saver: Account) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        by_salary(source, saver, percent=Decimal("0.00001"))

    assert refusal.value.field == "percent"


def test_so_many_salaries_complete_it(source: Account, saver: Account, employer: Account) -> None:
    payment = by_salary(source, saver, max_runs=2)
    for _ in range(3):
        transfer(employer, source, 1_000)

    look()

    assert paid(payment) == [100, 100]
    assert again(payment).status == "completed"


def test_a_change_of_the_zone_leaves_the_count_alone(
    tenant: Tenant, source: Account, saver: Account, employer: Account
) -> None:
    payment = by_salary(source, saver, max_runs=3)
    transfer(employer, source, 1_000)
    look()

    change_recurring_payment(
        tenant_id=tenant.pk,
        payment_id=payment.pk,
        changes={"time_zone": "Asia/Jakarta"},
        now=timezone.now(),
    )
    for _ in range(3):
        transfer(employer, source, 1_000)
    look()

    assert paid(payment) == [100, 100, 100]


# --- Which credit ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("amount", "expected"), [(999, []), (1_000, [100])])
def test_the_least_amount(
    source: Account, saver: Account, employer: Account, amount: int, expected: list[int]
) -> None:
    payment = by_salary(source, saver, salary=Salary(min_amount=1_000))
    transfer(employer, source, amount)

    look()

    assert paid(payment) == expected


def test_the_sender(tenant: Tenant, source: Account, saver: Account, employer: Account) -> None:
    friend = open_account(tenant, balance=5_000)
    payment = by_salary(source, saver, salary=Salary(sender_id=employer.pk))
    transfer(friend, source, 1_000)
    transfer(employer, source, 2_000)

    look()

    assert paid(payment) == [200]


@pytest.mark.parametrize(
    ("pattern", "description", "fits"),
    [
        ("gaji", "GAJI JANUARI", True),
        ("salary*2026", "January SALARY for 2026, net", True),
        ("salary*2026", "2026 salary", False),
        ("a?c", "abc", False),
        ("a?c", "really a?c", True),
        ("[ab]", "a", False),
        ("[ab]", "x [ab] y", True),
        ("*" * 40 + "b", "a" * 200, False),
        ("STRASSE", "Hauptstraße", True),
    ],
)
def test_the_description(
    source: Account, saver: Account, employer: Account, pattern: str, description: str, fits: bool
) -> None:
    payment = by_salary(source, saver, salary=Salary(pattern=pattern))
    transfer(employer, source, 1_000, description=description)

    look()

    assert bool(paid(payment)) is fits


@pytest.mark.parametrize(
    ("window", "day", "counts"),
    [
        ((25, 28), "2026-01-24", False),
        ((25, 28), "2026-01-25", True),
        ((25, 28), "2026-01-28", True),
        ((25, 28), "2026-01-29", False),
        # Over the month's end.
        ((25, 5), "2026-01-31", True),
        ((25, 5), "2026-02-05", True),
        ((25, 5), "2026-02-06", False),
        # A month too short for it: its last day.
        ((30, 31), "2026-02-28", True),
        ((30, 31), "2026-02-27", False),
        ((31, 2), "2026-02-28", True),
        # Every day but the 30th, also where there is none.
        ((31, 29), "2026-02-10", True),
    ],
)
def test_the_days_of_the_month(
    tenant: Tenant,
    source: Account,
    saver: Account,
    employer: Account,
    window: tuple[int, int],
    day: str,
    counts: bool,
) -> None:
    clock = dt.datetime.fromisoformat(f"{day}T12:00+00:00")
    start_test_clock(tenant_id=tenant.pk, at=clock, now=clock)
    payment = by_salary(
        source,
        saver,
        salary=Salary(from_day=window[0], to_day=window[1]),
        start_date=clock.date(),
    )
    transfer(employer, source, 1_000)

    look_for_salaries(now=timezone.now())

    assert bool(runs(payment)) is counts


def test_what_was_taken_back_is_no_salary(
    tenant: Tenant, source: Account, saver: Account, employer: Account
) -> None:
    payment = by_salary(source, saver)
    paid_in = transfer(employer, source, 1_000)
    reverse_transaction(
        tenant_id=tenant.pk, transaction_id=paid_in.id, reason="x", idempotency_key="r"
    )

    assert look() == 0
    assert runs(payment) == []


def test_money_that_comes_back_is_no_salary(
    tenant: Tenant, source: Account, saver: Account, employer: Account
) -> None:
    deposit(source, 5_000)
    payment = by_salary(source, saver)
    paid_out = transfer(source, employer, 1_000)
    reverse_transaction(
        tenant_id=tenant.pk, transaction_id=paid_out.id, reason="x", idempotency_key="r"
    )

    look()

    assert runs(payment) == []


def test_what_one_moves_between_ones_own_is_no_salary(tenant: Tenant, saver: Account) -> None:
    owner = new_id()
    one, other = (open_account(tenant, balance=5_000, owner_id=owner) for _ in range(2))
    payment = by_salary(one, saver)
    transfer(other, one, 1_000)

    look()

    assert runs(payment) == []


def test_two_that_pay_each_other_do_not_go_round(
    tenant: Tenant, source: Account, employer: Account
) -> None:
    other = open_account(tenant)
    there, back = by_salary(source, other), by_salary(other, source)
    transfer(employer, source, 1_000)

    for _ in range(3):
        look()

    assert (paid(there), paid(back)) == ([100], [])


# --- What is in the way ---------------------------------------------------------------------------


def test_one_that_cannot_be_judged_is_paused_and_stops_no_other(
    source: Account, saver: Account, employer: Account
) -> None:
    broken, fine = by_salary(source, saver), by_salary(source, saver)
    # As if the zone were not known any more.
    RecurringPayment.objects.filter(pk=broken.pk).update(time_zone="Mars/Olympus")
    transfer(employer, source, 1_000)

    look()

    assert (again(broken).status, again(broken).status_reason) == ("paused", "invalid_request")
    assert paid(fine) == [100]


def test_money_that_is_gone_by_then_is_asked_for_again(
    source: Account, saver: Account, employer: Account
) -> None:
    payment = by_salary(source, saver, retry_interval_minutes=60)
    transfer(employer, source, 1_000)
    transfer(source, employer, 1_000)
    look()
    assert statuses(payment) == ["retrying"]

    deposit(source, 50)
    run(timezone.now() + dt.timedelta(minutes=61))
    assert paid(payment) == []
    transfer(employer, source, 50)
    run(timezone.now() + dt.timedelta(hours=3))

    assert paid(payment) == [100]


def test_anothers_test_clock_leaves_a_real_salary_in_its_time(
    tenant: Tenant, source: Account, saver: Account, employer: Account, other_tenant: Tenant
) -> None:
    payment = by_salary(source, saver)
    far = timezone.now() + dt.timedelta(days=700)
    start_test_clock(tenant_id=other_tenant.pk, at=far, now=timezone.now())
    transfer(employer, source, 1_000)

    advance_test_clock(tenant_id=other_tenant.pk, to=far + dt.timedelta(days=1), now=timezone.now())
    run(timezone.now())

    assert paid(payment) == [100]


def test_a_salary_before_the_clock_is_moved_is_of_the_day_it_came(
    tenant: Tenant, source: Account, saver: Account, employer: Account
) -> None:
    start = dt.datetime(2026, 1, 25, 12, tzinfo=dt.UTC)
    start_test_clock(tenant_id=tenant.pk, at=start, now=timezone.now())
    payment = by_salary(source, saver, salary=Salary(from_day=25, to_day=27))
    transfer(employer, source, 1_000)

    advance_test_clock(tenant_id=tenant.pk, to=start + dt.timedelta(days=40), now=timezone.now())

    assert paid(payment) == [100]
    assert [each.date for each in runs(payment)] == [start.date()]


# --- Credits that commit late, and many who look --------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_credit_that_commits_after_a_later_one_is_found(
    tenant: Tenant, source: Account, saver: Account
) -> None:
    one, other = (open_account(tenant, balance=5_000) for _ in range(2))
    elsewhere = open_account(tenant)
    payment = by_salary(source, saver)
    posted, go_on = threading.Event(), threading.Event()

    def post_and_wait() -> PostedTransaction:
        with transaction.atomic():
            made = transfer(one, source, 1_000)
            posted.set()
            assert go_on.wait(30)
            return made

    def look_meanwhile() -> int:
        assert posted.wait(30)
        transfer(other, elsewhere, 1)
        found = look_for_salaries(now=timezone.now())
        go_on.set()
        return found

    made, found = at_once([post_and_wait, look_meanwhile])

    assert found == 0
    assert isinstance(made, PostedTransaction)
    assert look_for_salaries(now=timezone.now()) == 1
    assert [each.trigger_transaction_id for each in runs(payment)] == [made.id]


@pytest.mark.django_db(transaction=True)
def test_anothers_test_clock_does_not_forget_a_late_credit(
    tenant: Tenant, source: Account, saver: Account, employer: Account, other_tenant: Tenant
) -> None:
    payment = by_salary(source, saver)
    elsewhere = open_account(tenant)
    far = timezone.now() + dt.timedelta(days=700)
    start_test_clock(tenant_id=other_tenant.pk, at=far, now=timezone.now())
    posted, go_on = threading.Event(), threading.Event()

    def post_and_wait() -> None:
        with transaction.atomic():
            transfer(employer, source, 1_000)
            posted.set()
            assert go_on.wait(30)

    def advance_meanwhile() -> None:
        assert posted.wait(30)
        deposit(elsewhere, 1)
        # A gap that is seen by two clocks, an hour apart or more, must not be taken for old.
        for days in (1, 2):
            look_for_salaries(now=timezone.now())
            advance_test_clock(
                tenant_id=other_tenant.pk, to=far + dt.timedelta(days=days), now=timezone.now()
            )
        go_on.set()

    assert at_once([post_and_wait, advance_meanwhile]) == [None, None]

    look_for_salaries(now=timezone.now())
    assert len(runs(payment)) == 1


@pytest.mark.django_db(transaction=True)
def test_many_who_look_at_once_find_each_credit_once(
    tenant: Tenant, source: Account, saver: Account, employer: Account
) -> None:
    payment = by_salary(source, saver)
    credits = 12

    def pay_in() -> int:
        for _ in range(credits // 2):
            transfer(employer, source, 1_000)
            look()
        return 0

    lookers: list[Callable[[], int]] = [look] * 3
    found = at_once([pay_in, pay_in, *lookers])

    assert [each for each in found if isinstance(each, Exception)] == []
    look()
    assert paid(payment) == [100] * credits
    assert balance_of(saver) == 100 * credits


@pytest.mark.django_db(transaction=True)
def test_who_moves_a_test_clock_waits_for_another_who_looks(
    tenant: Tenant, source: Account, saver: Account, employer: Account
) -> None:
    start_test_clock(tenant_id=tenant.pk, at=None, now=timezone.now())
    payment = by_salary(source, saver)
    transfer(employer, source, 1_000)
    looking, go_on = threading.Event(), threading.Event()

    def hold_the_lock() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [0x666C7361])
            looking.set()
            assert go_on.wait(30)

    def advance() -> None:
        assert looking.wait(30)
        threading.Timer(0.3, go_on.set).start()
        advance_test_clock(
            tenant_id=tenant.pk, to=timezone.now() + dt.timedelta(days=1), now=timezone.now()
        )

    assert at_once([hold_the_lock, advance]) == [None, None]
    assert paid(payment) == [100]


def test_an_entry_of_many_legs_counts_by_what_the_account_got(
    tenant: Tenant, source: Account, saver: Account, employer: Account
) -> None:
    payment = by_salary(source, saver)
    colleague = open_account(tenant)
    post_one(
        tenant_id=tenant.pk,
        posting=Posting(
            type="journal",
            currency="USD",
            legs=(
                Leg(employer.pk, -3_000),
                Leg(source.pk, 1_000),
                Leg(colleague.pk, 2_000),
            ),
        ),
    )

    look()

    assert paid(payment) == [100]
