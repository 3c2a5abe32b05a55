"""Real processes and threads against one ledger: nothing deadlocks, nothing is lost."""

import datetime as dt
import io
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts.models import Account
from accounts.services import freeze_account
from core.money import Money
from identity.models import Tenant
from ledger import services
from ledger.errors import HoldNotActive, InsufficientFunds
from ledger.models import Hold
from tests import making
from tests.serving import database_url
from tests.shuttle import TRANSFERS, shuttle

pytestmark = pytest.mark.django_db(transaction=True)


def assert_sound() -> None:
    call_command("verify_ledger", stdout=io.StringIO())


def results_of(calls: list[Callable[[], Any]]) -> Counter[str]:
    return Counter(
        type(result).__name__ if isinstance(result, Exception) else "done"
        for result in making.at_once(calls)
    )


def test_two_processes_in_opposite_directions(tenant: Tenant) -> None:
    ada, ben = (making.open_account(tenant, balance=TRANSFERS) for _ in range(2))

    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        there = pool.submit(shuttle, database_url(), tenant.pk, ada.pk, ben.pk)
        back = pool.submit(shuttle, database_url(), tenant.pk, ben.pk, ada.pk)

    assert there.result() == back.result() == {"posted": TRANSFERS}
    assert (making.balance_of(ada), making.balance_of(ben)) == (TRANSFERS, TRANSFERS)
    assert_sound()


def test_batches_that_overlap_in_opposite_order(tenant: Tenant) -> None:
    people = [making.open_account(tenant, balance=1000) for _ in range(20)]

    def post_round(order: list[Account]) -> list[services.Outcome]:
        postings = [
            services.Posting(
                type="transfer",
                currency="USD",
                legs=(services.Leg(one.pk, -1), services.Leg(two.pk, 1)),
            )
            for _ in range(20)
            for one, two in zip(order, order[1:] + order[:1], strict=True)
        ]
        return services.post(tenant_id=tenant.pk, postings=postings)

    rounds: list[Callable[[], Any]] = [
        partial(post_round, people),
        partial(post_round, people[::-1]),
    ]
    results = results_of(rounds * 4)

    assert results == {"done": 8}
    assert [making.balance_of(person) for person in people] == [1000] * 20
    assert_sound()


def test_many_spenders_never_overdraw(tenant: Tenant) -> None:
    ada, ben = making.open_account(tenant, balance=100), making.open_account(tenant)

    results = results_of([lambda: making.transfer(ada, ben, 30)] * 12)

    assert results == {"done": 3, "InsufficientFunds": 9}
    assert making.balance_of(ada) == 10


def test_one_key_at_once_posts_once(tenant: Tenant) -> None:
    ada, ben = making.open_account(tenant, balance=100), making.open_account(tenant)

    results = making.at_once([lambda: making.transfer(ada, ben, 30, idempotency_key="k")] * 12)

    posted = [result for result in results if not isinstance(result, Exception)]
    assert len(posted) == 12, results
    assert len({result.id for result in posted}) == 1
    assert sum(not result.is_replay for result in posted) == 1
    assert making.balance_of(ada) == 70


def hold_on(account: Account, amount: int, key: str) -> Hold:
    return services.place_hold(
        tenant_id=account.tenant_id,
        account_id=account.pk,
        amount=Money(amount, "USD"),
        idempotency_key=key,
        expires_at=None,
        now=timezone.now(),
    ).hold


def test_holds_and_transfers_share_what_there_is(tenant: Tenant) -> None:
    ada, ben = making.open_account(tenant, balance=100), making.open_account(tenant)
    calls: list[Callable[[], Any]] = []
    for number in range(6):
        calls.append(partial(hold_on, ada, 30, f"h{number}"))
        calls.append(lambda: making.transfer(ada, ben, 30))

    results = results_of(calls)

    assert results == {"done": 3, "InsufficientFunds": 9}
    ada.refresh_from_db()
    assert ada.balance - ada.held == 10
    assert_sound()


def test_a_hold_closes_one_way(tenant: Tenant) -> None:
    ada, ben = making.open_account(tenant, balance=1000), making.open_account(tenant)
    for number in range(8):
        hold = hold_on(ada, 50, f"h{number}")
        Hold.objects.filter(pk=hold.pk).update(expires_at=timezone.now() - dt.timedelta(days=1))

        calls: list[Callable[[], Any]] = [
            partial(
                services.capture_hold,
                tenant_id=tenant.pk,
                hold_id=hold.pk,
                destination_account_id=ben.pk,
                amount=None,
                idempotency_key=f"capture {hold.pk}",
                now=timezone.now(),
            ),
            partial(
                services.release_hold, tenant_id=tenant.pk, hold_id=hold.pk, now=timezone.now()
            ),
            lambda: services.expire_due_holds(now=timezone.now(), limit=10),
        ]
        results = making.at_once(calls)

        refused = [result for result in results if isinstance(result, Exception)]
        assert all(isinstance(result, HoldNotActive) for result in refused), refused
        hold.refresh_from_db()
        assert hold.status in ("captured", "released", "expired")
        ada.refresh_from_db()
        assert ada.held == 0
    captured = Hold.objects.filter(status="captured").count()
    assert making.balance_of(ben) == 50 * captured
    assert_sound()


def test_nothing_is_posted_once_an_account_is_frozen(tenant: Tenant) -> None:
    ada, ben = making.open_account(tenant, balance=1000), making.open_account(tenant)

    def freeze() -> Any:
        return freeze_account(
            tenant_id=tenant.pk, account_id=ada.pk, reason="x", now=timezone.now()
        )

    results = results_of([lambda: making.transfer(ada, ben, 1)] * 6 + [freeze])

    assert set(results) <= {"done", "AccountFrozen"}
    posted = results["done"] - 1
    assert (making.balance_of(ada), making.balance_of(ben)) == (1000 - posted, posted)
    assert_sound()


def test_without_the_lock_the_database_still_refuses(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, pause_together: Callable[[], None]
) -> None:
    """A control: with the lock taken away the race happens, and the constraint ends it."""
    from ledger.services import holds

    ada = making.open_account(tenant, balance=100)

    def unlocked(*, tenant_id: UUID, account_id: UUID) -> Account:
        found = Account.objects.get(tenant_id=tenant_id, pk=account_id)
        pause_together()
        return found

    monkeypatch.setattr(holds, "account_for_update", unlocked)

    results = making.at_once([lambda: hold_on(ada, 60, "a"), lambda: hold_on(ada, 60, "b")])

    failed = [result for result in results if isinstance(result, Exception)]
    assert len(failed) == 1
    # Not the explained refusal: both had looked before either wrote.
    assert not isinstance(failed[0], InsufficientFunds)
    ada.refresh_from_db()
    assert ada.held == 60
    assert_sound()
