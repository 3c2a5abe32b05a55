"""Holds: placed, captured, released, expired."""

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Account
from core.errors import IdempotencyConflict, InvalidRequest, NotFound
from core.models import OutboxEvent
from core.money import Money
from identity.models import Tenant
from ledger import tasks
from ledger.errors import (
    AccountFrozen,
    AccountLocked,
    CaptureExceedsHold,
    CurrencyMismatch,
    HoldNotActive,
    InsufficientFunds,
)
from ledger.models import Hold
from ledger.queries import balance_at
from ledger.services import capture_hold, expire_due_holds, place_hold, release_hold
from tests import making


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant, balance=1000)


@pytest.fixture
def shop(tenant: Tenant) -> Account:
    return making.open_account(tenant)


def place(account: Account, amount: int = 100, **more: Any) -> Hold:
    values = {"idempotency_key": making.fresh_key(), "expires_at": None, **more}
    return place_hold(
        tenant_id=account.tenant_id,
        account_id=account.pk,
        amount=Money(amount, values.pop("currency", "USD")),
        now=values.pop("now", timezone.now()),
        **values,
    ).hold


def capture(hold: Hold, destination: Account, amount: int | None = None, key: str = "c") -> Hold:
    return capture_hold(
        tenant_id=hold.tenant_id,
        hold_id=hold.pk,
        destination_account_id=destination.pk,
        amount=amount,
        idempotency_key=key,
        now=timezone.now(),
    ).hold


def figures(account: Account) -> tuple[int, int]:
    account.refresh_from_db()
    return account.balance, account.held


def test_it_works(ada: Account, shop: Account) -> None:
    hold = place(ada, 400)
    assert figures(ada) == (1000, 400)

    captured = capture(hold, shop, 250)

    assert (captured.status, captured.captured_amount) == ("captured", 250)
    assert (figures(ada), figures(shop)) == ((750, 0), (250, 0))


def test_all_of_it_is_captured_unless_said_otherwise(ada: Account, shop: Account) -> None:
    capture(place(ada, 1000), shop)

    assert (figures(ada), figures(shop)) == ((0, 0), (1000, 0))


def test_more_than_is_available_is_refused(ada: Account) -> None:
    place(ada, 600)

    with pytest.raises(InsufficientFunds):
        place(ada, 401)
    assert figures(ada) == (1000, 600)


def test_the_same_key_places_one_hold(ada: Account) -> None:
    first = place(ada, 100, idempotency_key="k")

    assert place(ada, 100, idempotency_key="k") == first
    with pytest.raises(IdempotencyConflict):
        place(ada, 101, idempotency_key="k")
    assert figures(ada) == (1000, 100)


def test_a_key_of_another_account_is_refused(ada: Account, shop: Account) -> None:
    place(ada, 100, idempotency_key="k")

    with pytest.raises(IdempotencyConflict):
        place(shop, 100, idempotency_key="k")


def test_a_capture_sent_again_is_the_same(ada: Account, shop: Account) -> None:
    hold = place(ada, 400)

    first, again = capture(hold, shop), capture(hold, shop)

    assert first.transaction_id == again.transaction_id
    assert figures(shop) == (400, 0)
    with pytest.raises(HoldNotActive):
        capture(hold, shop, key="another")


def test_more_than_the_hold_is_refused(ada: Account, shop: Account) -> None:
    hold = place(ada, 400)

    with pytest.raises(CaptureExceedsHold):
        capture(hold, shop, 401)
    assert figures(ada) == (1000, 400)


def test_a_capture_that_cannot_be_posted_leaves_the_hold(ada: Account, tenant: Tenant) -> None:
    hold = place(ada, 400)
    euro = making.open_account(tenant, currency="EUR")

    with pytest.raises(CurrencyMismatch):
        capture(hold, euro)
    hold.refresh_from_db()
    assert hold.status == "active"
    assert figures(ada) == (1000, 400)


def test_a_release_gives_it_back_once(ada: Account) -> None:
    hold = place(ada, 400)

    release_hold(tenant_id=ada.tenant_id, hold_id=hold.pk, now=timezone.now())

    assert figures(ada) == (1000, 0)
    with pytest.raises(HoldNotActive):
        release_hold(tenant_id=ada.tenant_id, hold_id=hold.pk, now=timezone.now())


def test_what_is_due_expires(ada: Account) -> None:
    now = timezone.now()
    due = place(ada, 100, expires_at=now + dt.timedelta(hours=1))
    later = place(ada, 200, expires_at=now + dt.timedelta(hours=3))
    never = place(ada, 300)

    expired = expire_due_holds(now=now + dt.timedelta(hours=2), limit=10)

    assert expired == 1
    statuses = dict(Hold.objects.values_list("pk", "status"))
    assert statuses == {due.pk: "expired", later.pk: "active", never.pk: "active"}
    assert figures(ada) == (1000, 500)
    assert OutboxEvent.objects.filter(event_type="hold.expired", resource_id=due.pk).count() == 1


def test_the_task_expires_in_chunks(ada: Account) -> None:
    hold = place(ada, 100)
    Hold.objects.filter(pk=hold.pk).update(expires_at=timezone.now() - dt.timedelta(seconds=1))

    tasks.expire_due_holds()

    assert figures(ada) == (1000, 0)


@pytest.mark.parametrize("status", ["frozen", "locked"])
def test_an_account_that_takes_no_debits_takes_no_holds(ada: Account, status: str) -> None:
    change = {"debit_locked_until": "2999-01-01T00:00:00Z"} if status == "locked" else {}
    Account.objects.filter(pk=ada.pk).update(**(change or {"status": status}))

    with pytest.raises(AccountLocked if status == "locked" else AccountFrozen):
        place(ada)


def test_another_tenants_hold_is_not_found(ada: Account, other_tenant: Tenant) -> None:
    hold = place(ada)

    with pytest.raises(NotFound):
        release_hold(tenant_id=other_tenant.pk, hold_id=hold.pk, now=timezone.now())


def test_a_hold_begins_before_it_ends(ada: Account) -> None:
    with pytest.raises(InvalidRequest):
        place(ada, expires_at=timezone.now() - dt.timedelta(seconds=1))


def test_what_was_held_at_a_past_moment(ada: Account, shop: Account) -> None:
    first = place(ada, 100)
    second = place(ada, 50)
    between = timezone.now()
    release_hold(tenant_id=ada.tenant_id, hold_id=first.pk, now=timezone.now())

    def held(at: dt.datetime) -> int:
        return balance_at(
            tenant_id=ada.tenant_id, account_id=ada.pk, at=at, now=timezone.now()
        ).held

    assert held(first.created_at - dt.timedelta(microseconds=1)) == 0
    assert held(between) == 150
    assert held(timezone.now()) == second.amount
