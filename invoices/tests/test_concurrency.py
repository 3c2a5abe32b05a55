"""
Several people at one invoice at the same moment: one of two payers is asked for money, nobody
deadlocks for good, and in the end books and ledger agree. The controls show that lock, look and
index see to it.
"""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
from django.conf import LazySettings
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from core.database import LOCK_NOT_AVAILABLE, constraint_of, sqlstate_of
from core.errors import DomainError
from identity.models import Tenant
from invoices import services
from invoices.errors import InvoiceNotPayable, NotEnoughCredit, PaymentInProgress
from invoices.models import Checkout, Credit, Invoice, Receipt
from invoices.queries import invoice_for_update
from invoices.services import EvenSchedule, Interval, Opened, claims, paying
from invoices.services.paying import JITTER_S, PAUSES_S
from invoices.tests.test_receiving import (
    TOTAL,
    charged_back,
    credit_applied,
    credit_paid_back,
    credited,
    page_is_paid,
    refunded,
    sound,
    state_of,
    voided,
)
from payments.models import Payment
from payments.services import ask_about_payment
from tests import gateways, invoicing, making
from tests.gateway_scenes import closing, later, wait_for_waiting
from tests.gateways import Sandbox, fresh, steps_at
from tests.invoicing import issued, line, pay, pay_offline

pytestmark = pytest.mark.django_db(transaction=True)

Payers = tuple[int | None, int | None]
# All of it, all of it; one installment twice; all of it and a part.
RIVALS: list[Payers] = [(None, None), (1, 1), (None, 2), (2, None)]
IDS = ["all and all", "part and part", "all and part", "part and all"]


@pytest.fixture(autouse=True)
def _patient_pool(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """More threads than connections wait for one, however slow the machine is."""
    monkeypatch.setattr(connection.pool, "timeout", 60.0)  # type: ignore[attr-defined]


@pytest.fixture
def shop(tenant: Tenant, sandbox: Sandbox) -> Tenant:
    """A tenant that takes payments through the sandbox."""
    gateways.add_sandbox(tenant)
    return tenant


@pytest.fixture
def slowly(sandbox: Sandbox, settings: LazySettings) -> None:
    """The gateway takes its time: two payers do meet."""
    settings.GATEWAY_READ_TIMEOUT_S = 20.0
    sandbox.fault("slow", "create_payment", times=100, ms=1_000)


@pytest.fixture
def invoice(shop: Tenant) -> Invoice:
    return issued(shop, schedule=EvenSchedule(2, Interval.MONTHLY))


def both_pay(invoice: Invoice, payers: Payers) -> list[Opened | Exception]:
    return making.at_once([partial(pay, invoice, installment=which) for which in payers])


def kinds(results: list[Any]) -> list[str]:
    return sorted(type(each).__name__ for each in results)


# --- Two payers -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("slowly")
@pytest.mark.parametrize("payers", RIVALS, ids=IDS)
def test_of_two_payers_one_is_asked_for_money(
    invoice: Invoice, shop: Tenant, sandbox: Sandbox, payers: Payers
) -> None:
    results = both_pay(invoice, payers)

    assert kinds(results) == ["Opened", "PaymentInProgress"]
    assert len(sandbox.requests("create_payment")) == 1
    assert Payment.objects.count() == Receipt.objects.count() == 1
    assert not Credit.objects.exists()
    assert sound(shop)


@pytest.mark.usefixtures("slowly")
def test_two_parts_are_paid_at_once(invoice: Invoice, shop: Tenant) -> None:
    results = both_pay(invoice, (1, 2))

    # They are in each other's way for a moment only: the second tries again.
    assert kinds(results) == ["Opened", "Opened"]
    assert state_of(invoice) == ("fully_paid", 0)
    assert sound(shop)


@pytest.mark.usefixtures("slowly")
def test_of_ten_payers_one_is_asked_for_money(
    invoice: Invoice, shop: Tenant, sandbox: Sandbox
) -> None:
    results = making.at_once([partial(pay, invoice)] * 10)

    assert Counter(kinds(results)) == {"Opened": 1, "PaymentInProgress": 9}
    assert len(sandbox.requests("create_payment")) == 1
    assert sound(shop)


@pytest.mark.usefixtures("slowly")
def test_two_who_choose_the_page_have_one_page(
    invoice: Invoice, shop: Tenant, sandbox: Sandbox
) -> None:
    results = making.at_once([partial(invoicing.open_page, invoice)] * 2)

    assert kinds(results) == ["Opened", "PaymentInProgress"]
    assert len(sandbox.requests("create_payment")) == 1
    [first] = [each for each in results if isinstance(each, Opened)]
    again = invoicing.open_page(invoice)
    assert (again.is_new, again.redirect_url) == (False, first.redirect_url)


def test_who_comes_after_the_payment_is_told_that_it_is_paid(invoice: Invoice) -> None:
    pay(invoice)

    with pytest.raises(InvoiceNotPayable):
        pay(invoice)
    with pytest.raises(InvoiceNotPayable):
        pay(invoice, installment=1)
    assert Payment.objects.count() == 1


def test_a_card_at_its_bank_holds_the_place_for_five_minutes(
    invoice: Invoice, sandbox: Sandbox, shop: Tenant
) -> None:
    pay(invoice, number="4000002500003155")

    with pytest.raises(PaymentInProgress):
        pay(invoice)
    with pytest.raises(PaymentInProgress):
        pay(invoice, installment=2)

    services.open_checkout(
        token=invoice.token, choice=services.Choice(installment=1), now=later(5.1)
    )
    assert Checkout.objects.filter(is_active=True).count() == 1
    assert sound(shop)


# --- Controls: without the lock, the look, the index ----------------------------------------------


def without_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paying, "_active", lambda _: [])


@pytest.mark.usefixtures("slowly")
def test_without_the_lock_the_database_still_refuses(
    invoice: Invoice,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    pause_together: Callable[[], None],
) -> None:
    def unlocked(*, tenant_id: UUID, invoice_id: UUID, is_impatient: bool) -> Invoice:
        found = Invoice.objects.select_related("tenant").get(tenant_id=tenant_id, pk=invoice_id)
        pause_together()
        return found

    monkeypatch.setattr(paying, "invoice_for_update", unlocked)

    results = both_pay(invoice, (None, None))

    # Not the explained refusal: both had looked before either wrote.
    assert kinds(results) == ["IntegrityError", "Opened"]
    assert len(sandbox.requests("create_payment")) == 1


@pytest.mark.parametrize("payers", RIVALS, ids=IDS)
def test_without_looking_the_index_still_refuses(
    invoice: Invoice, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, payers: Payers
) -> None:
    without_look(monkeypatch)
    pay_slowly(sandbox, invoice, payers[0])

    with pytest.raises(PaymentInProgress):
        pay(invoice, installment=payers[1])

    assert len(sandbox.requests("create_payment")) == 1


@pytest.mark.parametrize("payers", RIVALS, ids=IDS)
def test_without_look_and_index_both_are_asked_for_money(
    invoice: Invoice,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    payers: Payers,
    no_index: None,
) -> None:
    """So it is these that the tests above see."""
    without_look(monkeypatch)
    pay_slowly(sandbox, invoice, payers[0])

    pay(invoice, installment=payers[1])

    assert len(sandbox.requests("create_payment")) == 2


def pay_slowly(sandbox: Sandbox, invoice: Invoice, installment: int | None) -> None:
    """A payer whose card is at its bank still."""
    pay(invoice, installment=installment, number="4000002500003155")


@pytest.fixture
def no_index(db: None) -> Iterator[None]:
    """What keeps one attempt active is off for the time of a test."""
    indexes = ("checkout_one_active_of_invoice", "checkout_one_active_of_installment")
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = ANY(%s)", [list(indexes)])
        again = [row[0] for row in cursor.fetchall()]
        assert len(again) == len(indexes)
        cursor.execute(f"DROP INDEX {', '.join(indexes)}")
        cursor.execute("ALTER TABLE invoices_checkout DISABLE TRIGGER checkout_begins")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute("UPDATE invoices_checkout SET is_active = false")
            cursor.execute("SET session_replication_role = origin")
            cursor.execute("ALTER TABLE invoices_checkout ENABLE TRIGGER checkout_begins")
            for statement in again:
                cursor.execute(statement)


# --- A lock that is held --------------------------------------------------------------------------


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between tries; it is waited for all that."""
    waited: list[float] = []
    sleep = time.sleep

    def note(seconds: float) -> None:
        waited.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(paying, "time", SimpleNamespace(sleep=note))
    return waited


def test_a_held_lock_is_tried_three_times_and_then_said(
    invoice: Invoice, shop: Tenant, sandbox: Sandbox, pauses: list[float]
) -> None:
    with transaction.atomic():
        invoice_for_update(tenant_id=shop.pk, invoice_id=invoice.pk)
        began = time.monotonic()
        [result] = making.at_once([partial(pay, invoice)])
        took = time.monotonic() - began

    assert isinstance(result, PaymentInProgress)
    assert [round(pause, 1) for pause in pauses] == list(PAUSES_S) == [0.1, 0.2]
    assert all(
        abs(pause - meant) <= JITTER_S for pause, meant in zip(pauses, PAUSES_S, strict=True)
    )
    assert took >= sum(pauses)
    assert sandbox.requests("create_payment") == []
    assert not Payment.objects.exists()
    assert Invoice.objects.get().attempts == 0


def test_a_lock_that_is_let_go_between_two_tries_is_taken(
    invoice: Invoice, shop: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_tried, is_free = threading.Event(), threading.Event()

    def wait_for_holder(_: float) -> None:
        is_tried.set()
        assert is_free.wait(timeout=30)

    def hold() -> None:
        with transaction.atomic():
            invoice_for_update(tenant_id=shop.pk, invoice_id=invoice.pk)
            is_held.set()
            assert is_tried.wait(timeout=30)
        is_free.set()

    is_held = threading.Event()
    monkeypatch.setattr(paying, "time", SimpleNamespace(sleep=wait_for_holder))
    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(closing, hold)
        assert is_held.wait(timeout=30)
        opened = pay(invoice)
        holder.result()

    assert opened.payment.status == "deposited"
    assert sound(shop)


# --- Money two ways at once -----------------------------------------------------------------------


def test_money_by_hand_twenty_times_at_once_is_all_there(invoice: Invoice, shop: Tenant) -> None:
    results = making.at_once([partial(pay_offline, invoice, 100_000)] * 20)

    assert kinds(results) == ["NoneType"] * 20
    assert state_of(invoice) == ("fully_paid", 0)
    assert sum(Receipt.objects.values_list("amount", flat=True)) == 2_000_000
    assert sum(each.remaining_amount for each in Credit.objects.all()) == 2_000_000 - TOTAL
    assert sound(shop)


def test_refunds_at_once_never_pay_back_more_than_came(invoice: Invoice, shop: Tenant) -> None:
    pay(invoice)

    results = making.at_once([partial(refunded, invoice, 400_000)] * 6)

    assert kinds(results) == ["CreditExceedsInvoice"] * 4 + ["MadeCreditNote"] * 2
    assert state_of(invoice) == ("fully_paid", 0)
    assert Invoice.objects.get().refunded_amount == 800_000
    assert sound(shop)


def test_credit_at_once_is_used_once(shop: Tenant) -> None:
    first = issued(shop)
    pay_offline(first, TOTAL + 100_000)
    waiting = [invoicing.draft(shop) for _ in range(6)]

    results = making.at_once(
        [
            partial(
                services.finalize_invoice,
                tenant_id=shop.pk,
                invoice_id=each.pk,
                now=timezone.now(),
            )
            for each in waiting
        ]
    )

    assert kinds(results) == ["Invoice"] * 6
    assert Credit.objects.get().remaining_amount == 0
    due = sorted(state_of(each)[1] for each in waiting)
    assert due == [TOTAL - 100_000] + [TOTAL] * 5
    assert sound(shop)


def test_credit_applied_to_many_at_once_is_used_once(shop: Tenant) -> None:
    waiting = [issued(shop) for _ in range(6)]
    pay_offline(issued(shop), TOTAL + 100_000)

    results = making.at_once([partial(credit_applied, each) for each in waiting])

    assert [each for each in results if isinstance(each, DatabaseError)] == []
    assert Credit.objects.get().remaining_amount == 0
    due = sorted(state_of(each)[1] for each in waiting)
    assert due == [TOTAL - 100_000] + [TOTAL] * 5
    assert sound(shop)


def test_credit_that_went_meanwhile_is_said_to_be_gone(shop: Tenant) -> None:
    first, second, third = (issued(shop) for _ in range(3))
    pay_offline(first, TOTAL + 100_000)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            credit_applied(second, 100_000)
            waiting = pool.submit(closing, partial(credit_applied, third, 100_000))
            wait_for_waiting(1)
        with pytest.raises(NotEnoughCredit):
            waiting.result(timeout=30)

    assert state_of(third) == ("pending", TOTAL)
    assert sound(shop)


def test_void_and_payment_at_once_end_one_way(shop: Tenant, sandbox: Sandbox) -> None:
    for _ in range(6):
        invoice = issued(shop)

        both: list[Callable[[], Any]] = [partial(voided, invoice), partial(pay, invoice)]
        making.at_once(both)

        # Voided, and nobody was asked; or paid, and not voided.
        status, _due = state_of(invoice)
        paid = Payment.objects.filter(metadata__invoice_id=str(invoice.pk), status="deposited")
        assert (status, paid.count()) in (("voided", 0), ("fully_paid", 1))
    assert not Credit.objects.exists()
    assert sound(shop)


def wait_until_somebody_waits_for_us() -> None:
    """Return when a lock of this connection's transaction is in another's way."""
    until = time.monotonic() + gateways.PATIENCE_S
    waiting = 0
    while not waiting:
        assert time.monotonic() < until, "nobody waits"
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            )
            [waiting] = cursor.fetchone()


def test_a_failure_and_a_new_attempt_at_once_are_no_fault(
    invoice: Invoice, shop: Tenant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have the invoice and the attempt before it to themselves, in this order or that."""
    sandbox.fault("http_503", "cancel_payment", times=9)
    first = pay(invoice, number="4000002500003155").payment
    sandbox.act(f"payments/{first.gateway_payment_id}/challenge/reject")
    look = claims.is_in_flight
    pool = ThreadPoolExecutor(1)
    heard: list[Any] = []

    def look_while_it_is_heard_of(*args: Any) -> bool:
        if not heard:
            hear = partial(ask_about_payment, fresh(first), now=later(6))
            heard.append(pool.submit(closing, hear))
            wait_until_somebody_waits_for_us()
            with connection.cursor() as cursor:
                # So that of two in each other's way it is the payer who is sent away.
                cursor.execute("SET LOCAL deadlock_timeout = '10ms'")
        return look(*args)

    monkeypatch.setattr(paying, "is_in_flight", look_while_it_is_heard_of)
    with pool:
        # After five minutes the place is free.
        opened = services.open_checkout(token=invoice.token, choice=services.Choice(), now=later(6))
        assert heard[0].result(timeout=30).status == "failed"

    assert opened.payment.status == "pending"
    assert sound(shop)


# --- Anything at once -----------------------------------------------------------------------------


class Crowd:
    """People who do anything that may be done to a few invoices."""

    def __init__(self, shop: Tenant, sandbox: Sandbox, seed: int) -> None:
        self.shop, self.sandbox = shop, sandbox
        self.random = random.Random(seed)  # noqa: S311 - of a test
        schedule = EvenSchedule(3, Interval.MONTHLY)
        self.invoices = [issued(shop, schedule=schedule if n % 2 else None) for n in range(4)]
        self.acts: list[Callable[[Invoice, int], Any]] = [
            lambda invoice, amount: pay_offline(invoice, amount),
            lambda invoice, amount: pay_offline(invoice, amount),
            lambda invoice, _: pay(invoice),
            lambda invoice, amount: pay(invoice, installment=1 + amount % 3),
            lambda invoice, _: invoicing.open_page(invoice),
            self.pay_page,
            refunded,
            credited,
            credit_paid_back,
            credit_applied,
            self.take_back,
            lambda _, amount: issued(shop, lines=[line(amount)]),
            lambda invoice, _: voided(invoice) if not state_of(invoice)[1] % 7 else None,
            lambda *_: services.take_due_steps(now=timezone.now(), limit=10),
        ]

    def pay_page(self, invoice: Invoice, _: int) -> None:
        checkout = Checkout.objects.filter(invoice=invoice).last()
        payment = checkout and Payment.objects.get(pk=checkout.payment_id)
        if payment and payment.status == "pending":
            with contextlib.suppress(httpx.HTTPStatusError):
                # Somebody else was quicker.
                page_is_paid(self.sandbox, payment)

    def take_back(self, invoice: Invoice, amount: int) -> None:
        receipt = Receipt.objects.filter(invoice=invoice, kind="gateway", reversed_amount=0).last()
        payment = receipt and Payment.objects.filter(pk__in=[receipt.payment_id]).first()
        if payment and payment.status == "deposited" and not amount % 3:
            with contextlib.suppress(httpx.HTTPStatusError):
                charged_back(self.sandbox, payment)

    def act(self, number: int) -> list[str]:
        chooser = random.Random(number)  # noqa: S311 - of a test
        faults = []
        for _ in range(12):
            act, invoice = chooser.choice(self.acts), chooser.choice(self.invoices)
            try:
                act(invoice, chooser.randrange(1, 400_000))
            except DomainError:
                pass
            except DatabaseError as error:
                faults.append(constraint_of(error) or sqlstate_of(error) or str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
                faults.append(repr(error))
        return faults


@pytest.mark.parametrize("seed", [1, 2])
def test_anything_at_once_leaves_the_books_right(shop: Tenant, sandbox: Sandbox, seed: int) -> None:
    crowd = Crowd(shop, sandbox, seed)

    results = making.at_once([partial(crowd.act, 100 * seed + number) for number in range(6)])

    faults = [fault for each in results for fault in (each if isinstance(each, list) else [each])]
    # Who waited too long for a lock is told to try again; nothing was done.
    assert [fault for fault in faults if fault != LOCK_NOT_AVAILABLE] == []
    for minutes in (2, 10, 30):
        sandbox.advance(60)
        steps_at(later(minutes))
    assert Receipt.objects.filter(kind="gateway").exists()
    assert sound(shop)
