"""
Every door to the money of a locked savings plan, tried: each is refused, and not a unit is gone.

Doors of the API say 422 `savings_plan_locked`, and until when. The raw statements of
tests/test_savings_rules.py come in addition.
"""

import datetime as dt
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from accounts.models import Account
from accounts.services import change_account, close_account
from core.caller import Caller, calling
from core.database import constraint_of
from core.errors import DomainError
from core.money import Money
from identity.models import Tenant
from identity.services import advance_test_clock, start_test_clock
from ledger.models import Entry, Hold
from ledger.services import Leg, Posting, capture_hold, post, post_one
from payments.gateways.port import CardData
from payments.services import Salary, TopUpOrder, look_for_salaries, top_up
from savings.models import SavingsPlan
from savings.services import (
    approve_release,
    change_plan,
    close_plan,
    pause_plan,
    renew_plan,
    request_release,
    resume_plan,
    withdraw,
)
from savings.services.moving import pay_out_and_close
from tests import gateways, making
from tests.back_office import act, signed_in
from tests.contract import ContractClient
from tests.gateways import Sandbox
from tests.recurring import order, run, runs
from tests.saving import again, auto_plan, keep, locked_plan

IBAN = "DE89370400440532013000"
BUDI = {"name": "Budi", "country": "DE", "iban": IBAN, "bank_code": "COBADEFFXXX"}
PUT_IN = 100_000


class House:
    """A locked plan with money in it, somebody who wants that now, and the doors to it."""

    def __init__(self, tenant: Tenant, api: ContractClient) -> None:
        self.tenant, self.api, self.now = tenant, api, timezone.now()
        self.today = tenant.day_of(self.now)
        self.until = self.today + dt.timedelta(days=30)
        self.source = making.open_account(tenant, balance=PUT_IN)
        self.plan = locked_plan(
            self.source, self.until, now=self.now, amount=PUT_IN, annual_rate_bps=500
        )
        self.account = Account.objects.get(pk=self.plan.plan_account_id)
        self.which: dict[str, Any] = {
            "tenant_id": tenant.pk,
            "plan_id": self.plan.pk,
            "now": self.now,
        }

    def body(self, **more: Any) -> dict[str, Any]:
        return {"amount": 1, "currency": "USD", **more}

    def first_posting(self) -> UUID:
        return Entry.objects.get(account=self.account).transaction_id

    # --- Over HTTP

    def http_transfer(self) -> Any:
        return self.api.post_once("/transfers", self._transfer())

    def http_wallet_transfer(self) -> Any:
        asked = self.body(destination_account_id=str(self.source.pk))
        return self.api.post_once(f"/accounts/{self.account.pk}/transfers", asked)

    def http_withdrawal(self) -> Any:
        return self.api.post_once("/withdrawals", self.body(account_id=str(self.account.pk)))

    def http_hold(self) -> Any:
        return self.api.post_once("/holds", self.body(account_id=str(self.account.pk)))

    def http_journal(self) -> Any:
        legs = [(self.account, -1), (self.source, 1)]
        entries = [{"account_id": str(each.pk), "amount": amount} for each, amount in legs]
        return self.api.post_once("/transactions", {"currency": "USD", "entries": entries})

    def http_reversal_of_its_deposit(self) -> Any:
        path = f"/transactions/{self.first_posting()}/reverse"
        return self.api.post_once(path, {"reason": "I want it back"})

    def http_payout(self) -> Any:
        gateways.add_sandbox(self.tenant)
        asked = self.body(source_account_id=str(self.account.pk), beneficiary=BUDI)
        return self.api.post_once("/payouts", asked)

    def http_transfer_by_a_supervisor(self) -> Any:
        client = making.person_client(self.tenant, "supervisor")
        return client.post_once("/transfers", self._transfer())

    def _transfer(self) -> dict[str, Any]:
        return self.body(
            source_account_id=str(self.account.pk), destination_account_id=str(self.source.pk)
        )

    # --- By services

    def withdraw(self) -> Any:
        return withdraw(**self.which, amount=1, idempotency_key="w")

    def withdraw_by_the_key_of_its_deposit(self) -> Any:
        key = f"savings plan {self.plan.pk}"
        return withdraw(**self.which, amount=PUT_IN, idempotency_key=key)

    def withdraw_elsewhere(self) -> Any:
        elsewhere = making.open_account(self.tenant)
        return withdraw(
            **self.which, amount=1, idempotency_key="w", destination_account_id=elsewhere.pk
        )

    def close(self) -> Any:
        return close_plan(**self.which)

    def pay_out_as_the_sweep_does(self) -> Any:
        with transaction.atomic():
            pay_out_and_close(self.plan, self.source.pk, now=self.now)

    def renew_to_an_earlier_date(self) -> Any:
        return renew_plan(**self.which, unlock_date=self.until - dt.timedelta(days=1))

    def renew_to_today(self) -> Any:
        return renew_plan(**self.which, unlock_date=self.today)

    def change_its_amount(self) -> Any:
        return change_plan(**self.which, changes={"amount": 1})

    def pause(self) -> Any:
        return pause_plan(**self.which)

    def resume(self) -> Any:
        return resume_plan(**self.which)

    def a_plan_from_it(self) -> Any:
        return auto_plan(self.account, now=self.now)

    def a_locked_plan_from_it(self) -> Any:
        return locked_plan(self.account, self.until, now=self.now, amount=1)

    def overdraw_it(self) -> Any:
        return change_account(
            tenant_id=self.tenant.pk,
            account_id=self.account.pk,
            changes={"overdraft_limit": 5},
            now=self.now,
        )

    def close_its_account(self) -> Any:
        return close_account(
            tenant_id=self.tenant.pk, account_id=self.account.pk, reason="x", now=self.now
        )

    def test_clock(self) -> Any:
        return start_test_clock(
            tenant_id=self.tenant.pk, at=self.now + dt.timedelta(days=60), now=self.now
        )

    def own_release(self) -> Any:
        with calling(Caller("user:one")):
            release = request_release(**self.which, reason="Hospital")
            return approve_release(
                tenant_id=self.tenant.pk, release_id=release.pk, reason="Mine", now=self.now
            )

    def release_by_a_key(self) -> Any:
        with calling(Caller("user:one")):
            release = request_release(**self.which, reason="Hospital")
        with calling(Caller("key:abc")):
            return approve_release(
                tenant_id=self.tenant.pk, release_id=release.pk, reason="x", now=self.now
            )

    def release_asked_for_by_a_key(self) -> Any:
        with calling(Caller("key:abc")):
            return request_release(**self.which, reason="Hospital")

    def release_by_nobody(self) -> Any:
        return request_release(**self.which, reason="Hospital")

    def interest_back_to_the_bank(self) -> Any:
        legs = (Leg(self.account.pk, -1), Leg(self.source.pk, 1))
        posting = Posting(
            type="interest",
            currency="USD",
            legs=legs,
            idempotency_key=f"interest {self.plan.pk} {self.today}",
            request_fingerprint=b"",
        )
        return post_one(tenant_id=self.tenant.pk, posting=posting)

    # --- Rows that a careless operator writes

    def raw_hold_captured(self) -> Any:
        """A hold that was smuggled in is not captured either."""
        with transaction.atomic():
            hold = Hold.objects.create(
                tenant=self.tenant,
                account=self.account,
                amount=5,
                currency="USD",
                idempotency_key="h",
                request_fingerprint=b"",
                created_at=self.now,
            )
            Account.objects.filter(pk=self.account.pk).update(held=5)
        return capture_hold(
            tenant_id=self.tenant.pk,
            hold_id=hold.pk,
            destination_account_id=self.source.pk,
            amount=None,
            idempotency_key="c",
            now=self.now,
        )

    def raw_status_unlocked(self) -> Any:
        return self._write(status="unlocked")

    def raw_status_closed(self) -> Any:
        return self._write(status="closed", ended_at=self.now, next_step_at=None)

    def raw_unlock_at(self) -> Any:
        return self._write(unlock_at=self.now, next_step_at=self.now)

    def raw_unlock_date(self) -> Any:
        return self._write(unlock_date=self.today)

    def raw_kind(self) -> Any:
        return self._write(kind="auto_withdraw", unlock_date=None, unlock_at=None)

    def raw_plan_account(self) -> Any:
        return self._write(plan_account_id=making.open_account(self.tenant, type="saving").pk)

    def raw_lock_of_the_account(self) -> Any:
        return Account.objects.filter(pk=self.account.pk).update(debit_locked_until=None)

    def raw_lock_of_the_account_until_now(self) -> Any:
        return Account.objects.filter(pk=self.account.pk).update(debit_locked_until=self.now)

    def raw_balance(self) -> Any:
        return Account.objects.filter(pk=self.account.pk).update(balance=0)

    def raw_clock(self) -> Any:
        return Tenant.objects.filter(pk=self.tenant.pk).update(
            test_clock=self.now + dt.timedelta(days=60)
        )

    def _write(self, **values: Any) -> int:
        return SavingsPlan.objects.filter(pk=self.plan.pk).update(**values)


@pytest.fixture
def house(tenant: Tenant, api: ContractClient) -> House:
    return House(tenant, api)


def _doors(prefix: str) -> list[str]:
    return sorted(name for name in vars(House) if name.startswith(prefix))


_HTTP, _RAW = _doors("http_"), _doors("raw_")
_BY_SERVICES = sorted(
    name
    for name, member in vars(House).items()
    if callable(member)
    and not name.startswith(("_", "http_", "raw_"))
    and name not in ("body", "first_posting")
)
# Of the services, those whose answer is that of the lock itself.
_SAY_UNTIL_WHEN = {
    *("withdraw", "withdraw_elsewhere", "close", "pay_out_as_the_sweep_does"),
    "interest_back_to_the_bank",
}


def all_is_there(house: House) -> bool:
    account = Account.objects.get(pk=house.account.pk)
    plan = again(house.plan)
    return (
        (account.balance, account.debit_locked_until) == (PUT_IN, house.plan.unlock_at)
        and (plan.status, plan.unlock_date) == ("active", house.until)
        and making.balance_of(house.source) == 0
    )


def refusal_of(call: Callable[[], Any]) -> DomainError | str:
    """Return what it was refused by: a sentence, or the name of a rule of the database."""
    try:
        with transaction.atomic():
            answer = call()
    except DomainError as refusal:
        return refusal
    except DatabaseError as error:
        return constraint_of(error) or str(error)
    pytest.fail(f"it is open: {answer!r}")


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("door", _HTTP)
def test_a_door_of_the_api_says_until_when(house: House, door: str) -> None:
    answer = getattr(house, door)()

    said = answer.json()
    assert (answer.status_code, said["code"]) == (422, "savings_plan_locked")
    assert said["unlock_date"] == house.until.isoformat()
    assert all_is_there(house)


@pytest.mark.parametrize("door", _BY_SERVICES)
def test_a_service_refuses(house: House, door: str) -> None:
    refusal = refusal_of(getattr(house, door))

    assert isinstance(refusal, DomainError)
    assert all_is_there(house)
    if door in _SAY_UNTIL_WHEN:
        assert refusal.members == {"unlock_date": house.until.isoformat()}


@pytest.mark.parametrize("door", _RAW)
def test_the_database_refuses(house: House, door: str) -> None:
    refusal_of(getattr(house, door))

    assert all_is_there(house)


def test_how_many_doors_there_are() -> None:
    assert len(_HTTP) + len(_BY_SERVICES) + len(_RAW) >= 39


# --- Doors with a handle of their own ------------------------------------------------------------


def test_a_batch_refuses_that_item_alone(house: House) -> None:
    other = making.open_account(house.tenant, balance=10)
    transfers = [
        house._transfer(),
        {**house._transfer(), "source_account_id": str(other.pk)},
    ]

    answer = house.api.post_once(
        "/transfers/batch", {"mode": "independent", "transfers": transfers}
    ).json()

    assert [each.get("code") for each in answer["results"]] == ["account_locked", None]
    assert making.balance_of(house.account) == PUT_IN


@pytest.mark.parametrize("legs", [2, 40])
def test_many_legs_hide_none(house: House, legs: int) -> None:
    """The posting engine has other ways for one posting of two legs, and for thousands."""
    others = [making.open_account(house.tenant, balance=10) for _ in range(legs - 1)]
    takes = [Leg(each.pk, -1) for each in [*others, house.account]]

    [outcome] = post(
        tenant_id=house.tenant.pk,
        postings=[
            Posting(
                type="journal",
                currency="USD",
                legs=(*takes, Leg(house.source.pk, legs)),
                idempotency_key="k",
                request_fingerprint=b"",
            )
        ],
    )

    assert outcome.refusal == "account_locked"
    assert all_is_there(house)


@pytest.mark.parametrize(
    "terms",
    [
        {"amount": 10},
        {"amount": 10, "on_insufficient_funds": "partial"},
        {"amount_type": "sweep", "floor_amount": 0},
    ],
)
def test_a_recurring_payment_from_it_pays_nothing(house: House, terms: dict[str, Any]) -> None:
    payment = order(
        house.account, house.source, now=house.now, run_at=dt.time.min, retry_count=0, **terms
    )

    run(house.now)

    assert [(each.status, each.error_code) for each in runs(payment)] == [
        ("failed", "account_locked")
    ]
    assert all_is_there(house)


def test_a_percentage_of_what_comes_in_pays_nothing(house: House) -> None:
    payment = order(
        house.account,
        house.source,
        now=house.now,
        amount_type="percentage",
        percent=50,
        salary=Salary(),
        retry_count=0,
    )
    making.transfer(making.open_account(house.tenant, balance=500), house.account, 500)

    look_for_salaries(now=timezone.now())
    run(timezone.now())

    assert [each.error_code for each in runs(payment)] == ["account_locked"]
    assert making.balance_of(house.account) == PUT_IN + 500


def test_a_top_up_of_it_is_not_refunded(house: House, sandbox: Sandbox) -> None:
    gateways.add_sandbox(house.tenant)
    made = top_up(
        tenant_id=house.tenant.pk,
        order=TopUpOrder(
            account_id=house.account.pk,
            amount=Money(500, "USD"),
            idempotency_key=making.fresh_key(),
            card=CardData(gateways.GOOD_CARD, 12, 2099, "123"),
        ),
        now=house.now,
    ).payment
    assert made.status == "deposited"

    path = f"/topups/{made.pk}/refunds"
    answer = house.api.post_once(path, {"amount": 1, "reason": "I want it back"})

    said = answer.json()
    assert (answer.status_code, said["code"]) == (422, "savings_plan_locked"), said
    assert said["unlock_date"] == house.until.isoformat()
    assert making.balance_of(house.account) == PUT_IN + 500


@pytest.mark.parametrize("name", ["close", "freeze"])
def test_the_back_office_has_no_door(house: House, name: str) -> None:
    client = signed_in(house.tenant, "admin", is_superuser=True)

    act(client, house.account, name)

    assert making.balance_of(house.account) == PUT_IN
    assert again(house.plan).status == "active"


def test_a_sweep_that_is_told_so_unlocks_nothing(house: House) -> None:
    """A worker whose clock is wrong by a year; or a row that says that it is due."""
    SavingsPlan.objects.filter(pk=house.plan.pk).update(next_step_at=house.now)

    keep(house.now + dt.timedelta(days=365))

    assert all_is_there(house)


def test_a_test_clock_alone_says_when(tenant: Tenant) -> None:
    """Years of the real time are nothing to a plan that is locked by a test clock."""
    now = timezone.now()
    start_test_clock(tenant_id=tenant.pk, at=now - dt.timedelta(days=700), now=now)
    source = making.open_account(tenant, balance=PUT_IN)
    began = tenant.day_of(now - dt.timedelta(days=700))
    plan = locked_plan(source, began + dt.timedelta(days=30), now=now, amount=PUT_IN)

    # By the real time its date is long gone.
    refused = refusal_of(lambda: making.transfer(again(plan).plan_account, source, 1))
    keep(now)
    assert isinstance(refused, DomainError)
    assert making.balance_of(plan.plan_account_id) == PUT_IN

    advance_test_clock(tenant_id=tenant.pk, to=now - dt.timedelta(days=600), now=now)
    assert making.balance_of(source) == PUT_IN
