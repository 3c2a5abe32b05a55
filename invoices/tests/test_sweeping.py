"""
What falls due on invoices by itself: expiry to the second, reminders and overdue marks once, by the
tenant's clock; after a week of standstill, with several sweeps at once, and beside one that fails.
"""

import datetime as dt
from functools import partial

import pytest
from django.db import connection, transaction

from core.models import OutboxEvent
from identity.models import Tenant
from invoices import services
from invoices.models import Installment, Invoice, InvoiceSettings, Mailing
from invoices.queries import invoice_for_update
from invoices.services import EvenSchedule, Interval, create_invoice, take_due_steps
from invoices.tests.test_receiving import credited, page_is_paid, sound, state_of
from payments.models import Payment
from tests import gateways, invoicing, making
from tests.gateway_scenes import later
from tests.gateways import Sandbox, fresh, steps_at
from tests.invoicing import books, issued, new_invoice, pay, pay_offline

pytestmark = pytest.mark.django_db(transaction=True)

SECOND, MINUTE, DAY = dt.timedelta(seconds=1), dt.timedelta(minutes=1), dt.timedelta(days=1)
BEGAN = dt.datetime(2027, 3, 1, 12, tzinfo=dt.UTC)
DUE = dt.date(2027, 3, 11)


def at(text: str) -> dt.datetime:
    """Return the moment in UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def made(tenant: Tenant, **new: object) -> Invoice:
    """An invoice of 1 March 2027, due on the 11th."""
    asked = new_invoice(**{"due_date": DUE, **new})
    return create_invoice(tenant_id=tenant.pk, new=asked, now=BEGAN, is_final=True)


def swept(moment: dt.datetime) -> int:
    """Run the sweep as if it were that moment; what it did is not due again."""
    done = take_due_steps(now=moment, limit=100)
    assert not Invoice.objects.filter(next_step_at__lte=moment).exists()
    return done


def swept_daily(begin: dt.datetime, days: int) -> None:
    for quarter in range(days * 4):
        swept(begin + quarter * DAY / 4)


def reminders_of(invoice: Invoice) -> list[str]:
    """Return how many days from the due date each was, and of which installment."""
    found = Mailing.objects.filter(invoice=invoice, kind="reminder").order_by("created_at", "pk")
    return [each.unique_key.removeprefix("reminder ") for each in found]


def events_of(invoice: Invoice, kind: str) -> int:
    return OutboxEvent.objects.filter(resource_id=invoice.pk, event_type=kind).count()


# --- Expiry ---------------------------------------------------------------------------------------


def test_an_invoice_expires_at_its_second_and_not_before(tenant: Tenant) -> None:
    expires = at("2027-03-05T10:00:00")
    invoice = made(tenant, expires_at=expires)

    assert swept(expires - SECOND / 1000) == 0
    assert state_of(invoice)[0] == "pending"
    assert swept(expires) == 1

    assert state_of(invoice) == ("expired", 0)
    assert books(tenant) == {}
    assert (swept(expires), swept(expires + 30 * DAY)) == (0, 0)
    assert events_of(invoice, "invoice.expired") == 1
    assert sound(tenant)


def test_what_was_paid_on_is_overdue_and_never_expires(tenant: Tenant) -> None:
    invoice = made(tenant, expires_at=at("2027-03-05T10:00:00"))
    pay_offline(invoice, 1)

    swept_daily(BEGAN, 20)

    assert state_of(invoice) == ("partially_paid", 1_129_999)
    assert events_of(invoice, "invoice.overdue") == 1
    assert sound(tenant)


def test_what_was_credited_in_part_does_not_expire_and_is_not_looked_at_for_ever(
    tenant: Tenant,
) -> None:
    invoice = made(tenant, expires_at=at("2027-03-05T10:00:00"))
    credited(invoice, 1)

    swept_daily(BEGAN, 30)

    assert state_of(invoice) == ("pending", 1_129_999)
    assert Invoice.objects.get().next_step_at is None
    assert sound(tenant)


def test_an_expiry_waits_for_a_payment_under_way_and_comes_once_it_failed(
    tenant: Tenant, sandbox: Sandbox
) -> None:
    gateways.add_sandbox(tenant)
    invoice = issued(tenant, expires_at=later(3))
    sandbox.fault("timeout_before_commit", "create_payment")
    payment = pay(invoice).payment
    assert payment.status == "unknown"

    swept(later(4))
    assert state_of(invoice)[0] == "pending"
    for minutes in (4.1, 6):
        steps_at(later(minutes))
    assert fresh(payment).status == "failed"
    swept(later(10))

    assert state_of(invoice) == ("expired", 0)
    assert sound(tenant)


def test_an_expiry_calls_the_open_page_off(tenant: Tenant, sandbox: Sandbox) -> None:
    gateways.add_sandbox(tenant)
    invoice = issued(tenant, expires_at=later(3))
    payment = invoicing.open_page(invoice).payment

    swept(later(4))

    assert [each["status"] for each in sandbox.objects(payment.reference)] == ["canceled"]
    assert fresh(payment).status == "failed"
    assert state_of(invoice) == ("expired", 0)


def test_a_page_that_was_paid_in_time_and_unheard_wins_over_the_expiry(
    tenant: Tenant, sandbox: Sandbox
) -> None:
    gateways.add_sandbox(tenant)
    invoice = issued(tenant, expires_at=later(3))
    payment = invoicing.open_page(invoice).payment
    sandbox.act(f"payments/{payment.gateway_payment_id}/pay")

    # Called off, it turns out to be paid.
    swept(later(4))

    assert Payment.objects.get().status == "deposited"
    assert state_of(invoice) == ("fully_paid", 0)
    assert sound(tenant)


# --- Reminders and overdue ------------------------------------------------------------------------


def test_a_customer_is_reminded_once_a_day_that_is_set(tenant: Tenant) -> None:
    invoice = made(tenant)

    swept_daily(BEGAN, 30)
    swept_daily(BEGAN, 30)

    assert reminders_of(invoice) == [f"1 {DUE} -3", f"1 {DUE} +0", f"1 {DUE} +7"]
    sent = Mailing.objects.filter(kind="reminder").order_by("created_at")
    assert [each.created_at for each in sent] == [
        at("2027-03-08T12:00:00"),
        at("2027-03-11T12:00:00"),
        at("2027-03-18T12:00:00"),
    ]
    assert Invoice.objects.get().next_step_at is None


def test_a_reminder_is_due_at_nine_and_not_before(tenant: Tenant) -> None:
    invoice = made(tenant)

    assert swept(at("2027-03-08T08:59:59")) == 0
    assert swept(at("2027-03-08T09:00:00")) == 1

    assert reminders_of(invoice) == [f"1 {DUE} -3"]


def test_of_several_settings_all_are_kept_and_of_none_nothing_is_sent(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    for whose, days in ((tenant, [-5, -1, 1, 30]), (other_tenant, [])):
        InvoiceSettings.objects.create(tenant=whose, reminder_days=days, updated_at=BEGAN)
    ours, theirs = made(tenant), made(other_tenant)

    swept_daily(BEGAN, 50)

    assert [each.split()[-1] for each in reminders_of(ours)] == ["-5", "-1", "+1", "+30"]
    assert reminders_of(theirs) == []


def test_nobody_is_reminded_of_what_is_paid_or_without_an_address(tenant: Tenant) -> None:
    paid = made(tenant)
    nobody = made(tenant, customer=services.Customer(name="Siti"))
    pay_offline(paid, 1_130_000)

    swept_daily(BEGAN, 30)

    assert (reminders_of(paid), reminders_of(nobody)) == ([], [])
    assert events_of(nobody, "invoice.overdue") == 1
    assert events_of(paid, "invoice.overdue") == 0


def test_each_installment_is_reminded_of_by_itself(tenant: Tenant) -> None:
    invoice = made(tenant, schedule=EvenSchedule(3, Interval.WEEKLY))
    pay_offline(invoice, 376_666)

    swept_daily(BEGAN, 40)

    numbers = [each.split()[0] + each.split()[-1] for each in reminders_of(invoice)]
    assert numbers == ["2-3", "2+0", "3-3", "2+7", "3+0", "3+7"]
    assert [each.overdue_at is None for each in invoice.installments.order_by("number")] == [
        True,
        False,
        False,
    ]
    assert events_of(invoice, "invoice.overdue") == 2


def test_after_a_week_of_standstill_only_what_was_missed_last_is_sent(tenant: Tenant) -> None:
    InvoiceSettings.objects.create(tenant=tenant, reminder_days=[-2, -1, 0, 1], updated_at=BEGAN)
    invoice = made(tenant)

    # Nobody looked since the 4th.
    swept(at("2027-03-04T09:00:00"))
    swept(at("2027-03-11T10:00:00"))
    assert [each.split()[-1] for each in reminders_of(invoice)] == ["+0"]
    swept_daily(at("2027-03-11T10:00:00"), 20)

    assert [each.split()[-1] for each in reminders_of(invoice)] == ["+0", "+1"]


def test_a_reminder_that_was_missed_by_two_days_is_not_sent_any_more(tenant: Tenant) -> None:
    invoice = made(tenant)

    swept(at("2027-03-13T09:00:00"))
    swept(at("2027-03-20T08:59:59"))

    # +0 is two days old, and +7 a second less than that.
    assert [each.split()[-1] for each in reminders_of(invoice)] == ["+7"]
    assert events_of(invoice, "invoice.overdue") == 1


def test_who_got_the_invoice_after_a_reminders_day_is_not_reminded_of_then(tenant: Tenant) -> None:
    invoice = made(tenant, due_date=dt.date(2027, 3, 3))

    swept_daily(BEGAN, 12)

    # -3 was in February.
    assert [each.split()[-1] for each in reminders_of(invoice)] == ["+0", "+7"]


def test_an_installment_is_overdue_from_the_next_day_and_marked_once(tenant: Tenant) -> None:
    invoice = made(tenant)

    swept(at("2027-03-11T23:59:59"))
    assert Installment.objects.get().overdue_at is None
    for _ in range(3):
        swept(at("2027-03-12T00:00:00"))
    swept_daily(at("2027-03-12T00:00:00"), 10)

    assert Installment.objects.get().overdue_at == at("2027-03-12T00:00:00")
    assert events_of(invoice, "invoice.overdue") == 1


def test_another_due_date_has_reminders_and_an_overdue_mark_of_its_own(tenant: Tenant) -> None:
    invoice = made(tenant, schedule=EvenSchedule(1, Interval.MONTHLY))
    swept_daily(BEGAN, 13)
    assert Installment.objects.get().overdue_at is not None

    services.adjust_installments(
        tenant_id=tenant.pk,
        invoice_id=invoice.pk,
        adjustments=[services.Adjustment(1, due_date=dt.date(2027, 3, 25))],
        now=at("2027-03-14T12:00:00"),
    )
    assert Installment.objects.get().overdue_at is None
    swept_daily(at("2027-03-14T12:00:00"), 30)

    assert reminders_of(invoice)[2:] == [f"1 2027-03-25 {days}" for days in ("-3", "+0", "+7")]
    assert events_of(invoice, "invoice.overdue") == 2


# --- By the tenant's clock ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "due", "reminded", "overdue"),
    [
        ("UTC", "2027-03-12", "2027-03-12T09:00:00", "2027-03-13T00:00:00"),
        ("Asia/Jakarta", "2027-03-12", "2027-03-12T02:00:00", "2027-03-12T17:00:00"),
        # Clocks go forward in the night to the 14th: five hours behind before, four after.
        ("America/New_York", "2027-03-13", "2027-03-13T14:00:00", "2027-03-14T05:00:00"),
        ("America/New_York", "2027-03-14", "2027-03-14T13:00:00", "2027-03-15T04:00:00"),
        # Back in the night to the 7th of November.
        ("America/New_York", "2027-11-06", "2027-11-06T13:00:00", "2027-11-07T04:00:00"),
        ("America/New_York", "2027-11-07", "2027-11-07T14:00:00", "2027-11-08T05:00:00"),
        # Forward at midnight: the 30th of April begins at one o'clock.
        ("Africa/Cairo", "2027-04-29", "2027-04-29T07:00:00", "2027-04-29T22:00:00"),
    ],
)
def test_days_are_the_tenants_also_where_clocks_change(
    tenant: Tenant, zone: str, due: str, reminded: str, overdue: str
) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(time_zone=zone)
    InvoiceSettings.objects.create(tenant=tenant, reminder_days=[0], updated_at=BEGAN)
    invoice = made(tenant, due_date=dt.date.fromisoformat(due))

    swept(at(reminded) - SECOND)
    assert reminders_of(invoice) == []
    swept(at(reminded))
    assert reminders_of(invoice) == [f"1 {due} +0"]

    swept(at(overdue) - SECOND)
    assert Installment.objects.get().overdue_at is None
    swept(at(overdue))
    assert Installment.objects.get().overdue_at == at(overdue)


# --- Several, and faults --------------------------------------------------------------------------


def test_several_sweeps_at_once_do_each_thing_once(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.pool, "timeout", 60.0)  # type: ignore[attr-defined]
    expiring = [made(tenant, expires_at=at("2027-03-05T10:00:00")) for _ in range(8)]
    staying = [made(tenant) for _ in range(8)]
    moment = at("2027-03-11T10:00:00")

    results = making.at_once([partial(take_due_steps, now=moment, limit=100)] * 5)

    assert sum(each for each in results if isinstance(each, int)) == 16, results
    assert {state_of(each)[0] for each in expiring} == {"expired"}
    assert [events_of(each, "invoice.expired") for each in expiring] == [1] * 8
    assert [len(reminders_of(each)) for each in staying] == [1] * 8
    assert sound(tenant)


def test_one_that_fails_keeps_no_other_waiting_and_is_tried_again(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    failing = made(other_tenant, expires_at=at("2027-03-05T10:00:00"))
    expiring = made(tenant, expires_at=at("2027-03-06T10:00:00"))
    # No clock has this zone: the day cannot be told.
    Tenant.objects.filter(pk=other_tenant.pk).update(time_zone="Mars/Phobos")

    take_due_steps(now=at("2027-03-06T10:00:00"), limit=100)

    assert (state_of(failing)[0], state_of(expiring)[0]) == ("pending", "expired")
    assert Invoice.objects.get(pk=failing.pk).next_step_at == at("2027-03-06T10:05:00")
    Tenant.objects.filter(pk=other_tenant.pk).update(time_zone="UTC")
    swept(at("2027-03-06T10:05:00"))
    assert state_of(failing)[0] == "expired"
    assert sound(other_tenant)


def test_many_that_fail_do_not_fill_every_sweep(tenant: Tenant, other_tenant: Tenant) -> None:
    for _ in range(3):
        made(other_tenant, expires_at=at("2027-03-05T10:00:00"))
    expiring = made(tenant, expires_at=at("2027-03-06T10:00:00"))
    Tenant.objects.filter(pk=other_tenant.pk).update(time_zone="Mars/Phobos")

    for _ in range(2):
        take_due_steps(now=at("2027-03-06T10:00:00"), limit=3)

    assert state_of(expiring)[0] == "expired"


def test_the_longest_due_go_first_and_no_more_than_the_limit(tenant: Tenant) -> None:
    third, first, second = (
        made(tenant, expires_at=at(f"2027-03-0{day}T10:00:00")) for day in (7, 5, 6)
    )

    assert take_due_steps(now=at("2027-03-07T10:00:00"), limit=2) == 2

    assert [state_of(each)[0] for each in (first, second, third)] == [
        "expired",
        "expired",
        "pending",
    ]


def test_what_somebody_has_locked_is_left_to_the_next_sweep(tenant: Tenant) -> None:
    expires = at("2027-03-05T10:00:00")
    invoice = made(tenant, expires_at=expires)

    with transaction.atomic():
        invoice_for_update(tenant_id=tenant.pk, invoice_id=invoice.pk)
        [result] = making.at_once([partial(take_due_steps, now=expires, limit=10)])
    assert (result, state_of(invoice)[0]) == (0, "pending")

    assert swept(expires) == 1
    assert state_of(invoice)[0] == "expired"


def test_a_revived_invoice_is_reminded_and_overdue_as_any_other(
    tenant: Tenant, sandbox: Sandbox
) -> None:
    gateways.add_sandbox(tenant)
    invoice = made(
        tenant,
        expires_at=at("2027-03-05T10:00:00"),
        schedule=EvenSchedule(2, Interval.WEEKLY),
    )
    sandbox.fault("http_503", "cancel_payment", times=9)
    payment = invoicing.open_page(invoice, installment=1).payment
    swept(at("2027-03-05T10:00:00"))
    assert state_of(invoice)[0] == "expired"
    page_is_paid(sandbox, payment)
    Invoice.objects.update(next_step_at=at("2027-03-06T00:00:00"))

    swept_daily(at("2027-03-06T00:00:00"), 30)

    assert [each.split()[0] + each.split()[-1] for each in reminders_of(invoice)] == [
        "2-3",
        "2+0",
        "2+7",
    ]
    assert state_of(invoice) == ("partially_paid", 565_000)
    assert sound(tenant)
