"""The posting engine through its service, in each of the three ways that it goes by size."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Account
from accounts.services import close_account, freeze_account
from core.errors import DomainError, IdempotencyConflict, InvalidRequest, PayloadTooLarge
from core.ids import new_id
from core.models import OutboxEvent
from core.money import AMOUNT_MAX, BALANCE_MAX
from identity.models import Tenant
from identity.services import create_tenant
from ledger.errors import InsufficientFunds, Unbalanced
from ledger.models import Entry, Transaction
from ledger.queries import balance_at, trial_balance
from ledger.services import Leg, Outcome, Posting, post, post_one
from tests import making

# More legs than these are decided by one query instead of a loop.
PADDING = 250
Poster = Callable[..., list[Outcome]]


def move(source: Account | UUID, destination: Account | UUID, amount: int, **more: Any) -> Posting:
    ids = [each if isinstance(each, UUID) else each.pk for each in (source, destination)]
    values = {"type": "transfer", "currency": "USD", **more}
    if "idempotency_key" in values:
        values.setdefault("request_fingerprint", str((ids, amount)).encode())
    return Posting(legs=(Leg(ids[0], -amount), Leg(ids[1], amount)), **values)


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant, balance=1000)


@pytest.fixture
def ben(tenant: Tenant) -> Account:
    return making.open_account(tenant)


@pytest.fixture(params=["alone", "in memory", "by query"])
def poster(request: pytest.FixtureRequest, tenant: Tenant) -> Poster:
    """Post the same in each of the engine's three ways; return the outcomes of what was given."""
    padding: list[Posting] = []
    if request.param != "alone":
        rich, poor = making.open_account(tenant, balance=10**6), making.open_account(tenant)
        count = PADDING if request.param == "by query" else 3
        padding = [move(rich, poor, 1, id=new_id()) for _ in range(count)]

    def post_padded(*postings: Posting, is_atomic: bool = False) -> list[Outcome]:
        fresh = [move(p.legs[0].account_id, p.legs[1].account_id, 1) for p in padding]
        outcomes = post(tenant_id=tenant.pk, postings=[*fresh, *postings], is_atomic=is_atomic)
        return outcomes[len(fresh) :]

    return post_padded


def test_it_works(tenant: Tenant, ada: Account, ben: Account) -> None:
    posted = post_one(tenant_id=tenant.pk, posting=move(ada, ben, 300, description="Lunch"))

    assert posted.leg_balances == [700, 300]
    made = Transaction.objects.get(pk=posted.id)
    assert (made.amount, made.legs, made.description, made.currency) == (300, 2, "Lunch", "USD")
    entries = Entry.objects.filter(transaction_id=posted.id).order_by("leg")
    assert [(e.account_id, e.amount, e.balance_after, e.sequence) for e in entries] == [
        (ada.pk, -300, 700, 2),
        (ben.pk, 300, 300, 1),
    ]


def test_it_posts(poster: Poster, ada: Account, ben: Account) -> None:
    [outcome] = poster(move(ada, ben, 300))

    assert (outcome.outcome, outcome.refusal) == ("posted", None)
    assert (making.balance_of(ada), making.balance_of(ben)) == (700, 300)


def stop(account: Account, how: str) -> None:
    if how == "account_frozen":
        freeze_account(
            tenant_id=account.tenant_id, account_id=account.pk, reason="x", now=timezone.now()
        )
    elif how == "account_closed":
        close_account(
            tenant_id=account.tenant_id, account_id=account.pk, reason="x", now=timezone.now()
        )
    elif how == "account_locked":
        Account.objects.filter(pk=account.pk).update(debit_locked_until="2999-01-01T00:00:00Z")


@pytest.mark.parametrize("how", ["account_frozen", "account_closed"])
def test_an_account_that_is_not_active_is_refused(
    poster: Poster, ada: Account, ben: Account, how: str
) -> None:
    stop(ben, how)

    [outcome] = poster(move(ada, ben, 300))

    assert (outcome.outcome, outcome.refusal, outcome.account_id) == ("refused", how, ben.pk)
    assert making.balance_of(ada) == 1000


def test_a_locked_account_takes_credits_only(poster: Poster, ada: Account, ben: Account) -> None:
    stop(ada, "account_locked")

    out, back = poster(move(ada, ben, 1), move(making.open_account(ada.tenant, balance=9), ada, 9))

    assert (out.refusal, back.outcome) == ("account_locked", "posted")
    assert making.balance_of(ada) == 1009


def test_unknown_and_other_tenants_accounts_are_not_found(
    poster: Poster, ada: Account, other_tenant: Tenant
) -> None:
    theirs = making.open_account(other_tenant, balance=5)

    outcomes = poster(move(ada, new_id(), 1), move(ada, theirs, 1), move(theirs, ada, 1))

    assert {outcome.refusal for outcome in outcomes} == {"account_not_found"}
    assert (making.balance_of(ada), making.balance_of(theirs)) == (1000, 5)


def test_another_currency_is_refused(poster: Poster, ada: Account, ben: Account) -> None:
    euro = making.open_account(ada.tenant, currency="EUR")

    outcomes = poster(move(ada, ben, 1, currency="EUR"), move(ada, euro, 1))

    assert {outcome.refusal for outcome in outcomes} == {"currency_mismatch"}


def test_funds_that_are_short_are_refused(poster: Poster, ada: Account, ben: Account) -> None:
    short, exact = poster(move(ada, ben, 1001), move(ada, ben, 1000))

    assert (short.refusal, short.account_id, short.available) == (
        "insufficient_funds",
        ada.pk,
        1000,
    )
    assert exact.outcome == "posted"
    assert making.balance_of(ada) == 0


def test_an_overdraft_is_used_to_its_limit(poster: Poster, ben: Account) -> None:
    poor = making.open_account(ben.tenant, overdraft_limit=100)

    outcomes = poster(move(poor, ben, 60), move(poor, ben, 41), move(poor, ben, 40))

    assert [outcome.outcome for outcome in outcomes] == ["posted", "refused", "posted"]
    assert making.balance_of(poor) == -100


def test_a_balance_beyond_the_range_is_refused(poster: Poster, tenant: Tenant) -> None:
    full = making.open_account(tenant)
    deep = making.open_account(tenant, overdraft_limit=BALANCE_MAX)
    count = BALANCE_MAX // AMOUNT_MAX
    for _ in range(count):
        post_one(tenant_id=tenant.pk, posting=move(deep, full, AMOUNT_MAX))
    assert making.balance_of(full) == BALANCE_MAX

    [outcome] = poster(move(making.open_account(tenant, balance=1), full, 1))

    assert outcome.refusal == "balance_out_of_range"


def test_what_comes_in_may_go_out_in_the_same_call(
    poster: Poster, ada: Account, ben: Account
) -> None:
    carl = making.open_account(ada.tenant)

    first, second, third = poster(move(ben, carl, 1), move(ada, ben, 5), move(ben, carl, 5))

    assert [first.refusal, second.outcome, third.outcome] == [
        "insufficient_funds",
        "posted",
        "posted",
    ]
    assert making.balance_of(carl) == 5


def test_an_atomic_batch_is_all_or_nothing(poster: Poster, ada: Account, ben: Account) -> None:
    good, bad = poster(move(ada, ben, 1), move(ada, ben, 1000), is_atomic=True)

    assert (good.refusal, bad.refusal) == ("batch_refused", "insufficient_funds")
    assert making.balance_of(ada) == 1000


def test_a_replay_moves_nothing(poster: Poster, ada: Account, ben: Account) -> None:
    order = {"idempotency_key": "k"}

    [first] = poster(move(ada, ben, 300, **order))
    [again] = poster(move(ada, ben, 300, **order))
    [other] = poster(move(ada, ben, 301, **order))

    assert (first.outcome, again.outcome) == ("posted", "replayed")
    assert again.transaction_id == first.transaction_id
    assert (other.outcome, other.refusal) == ("refused", "idempotency_conflict")
    assert making.balance_of(ada) == 700


def test_a_replay_is_told_even_when_it_could_not_be_posted_now(
    poster: Poster, ada: Account, ben: Account
) -> None:
    [first] = poster(move(ada, ben, 1000, idempotency_key="k"))
    stop(ada, "account_frozen")

    [again] = poster(move(ada, ben, 1000, idempotency_key="k"))

    assert (again.outcome, again.transaction_id) == ("replayed", first.transaction_id)


def test_twins_in_one_call_post_once(poster: Poster, ada: Account, ben: Account) -> None:
    one, two, other = poster(
        move(ada, ben, 5, idempotency_key="k"),
        move(ada, ben, 5, idempotency_key="k"),
        move(ada, ben, 6, idempotency_key="k"),
    )

    assert (one.outcome, two.outcome, other.refusal) == (
        "posted",
        "replayed",
        "idempotency_conflict",
    )
    assert making.balance_of(ben) == 5


def test_keys_of_two_tenants_do_not_meet(
    poster: Poster, ada: Account, ben: Account, other_tenant: Tenant
) -> None:
    poster(move(ada, ben, 5, idempotency_key="k"))
    theirs = making.open_account(other_tenant, balance=9), making.open_account(other_tenant)

    [outcome] = post(tenant_id=other_tenant.pk, postings=[move(*theirs, 5, idempotency_key="k")])

    assert outcome.outcome == "posted"


def test_many_legs(tenant: Tenant, ada: Account) -> None:
    others = [making.open_account(tenant) for _ in range(99)]
    legs = (Leg(ada.pk, -99), *(Leg(other.pk, 1) for other in others))

    posted = post_one(
        tenant_id=tenant.pk, posting=Posting(type="journal", currency="USD", legs=legs)
    )

    assert posted.leg_balances == [901] + [1] * 99


@pytest.mark.parametrize(
    ("amounts", "error"),
    [
        ((-5, 4), Unbalanced),
        ((0, 0), Unbalanced),
        ((5,), InvalidRequest),
        ((), InvalidRequest),
        ((1,) * 101, InvalidRequest),
    ],
)
def test_legs_that_are_wrong_are_refused(
    tenant: Tenant, amounts: tuple[int, ...], error: type[DomainError]
) -> None:
    legs = tuple(Leg(new_id(), amount) for amount in amounts)

    with pytest.raises(error):
        post_one(tenant_id=tenant.pk, posting=Posting(type="journal", currency="USD", legs=legs))


def test_an_account_appears_once(tenant: Tenant, ada: Account) -> None:
    with pytest.raises(InvalidRequest):
        post_one(tenant_id=tenant.pk, posting=move(ada, ada, 1))


def test_a_call_has_a_limit(tenant: Tenant, ada: Account, ben: Account) -> None:
    with pytest.raises(PayloadTooLarge):
        post(tenant_id=tenant.pk, postings=[move(ada, ben, 1)] * 10_001)


def test_each_posting_tells_the_outbox_once(poster: Poster, ada: Account, ben: Account) -> None:
    outcomes = poster(move(ada, ben, 1), move(ada, ben, 5000), move(ada, ben, 2))

    posted = {outcome.transaction_id for outcome in outcomes if outcome.outcome == "posted"}
    told = OutboxEvent.objects.filter(
        event_type="transfer.posted", resource_id__in=[p for p in posted if p]
    )
    assert {event.resource_id for event in told} == posted
    assert told.count() == 2


def test_what_is_rolled_back_was_never_told(ada: Account, ben: Account) -> None:
    before = OutboxEvent.objects.count()

    def both() -> None:
        with transaction.atomic():
            making.transfer(ada, ben, 1)
            making.transfer(ada, ben, 5000)

    with pytest.raises(InsufficientFunds):
        both()

    assert OutboxEvent.objects.count() == before
    assert making.balance_of(ada) == 1000


def test_texts_arrive_as_they_were_sent(poster: Poster, ada: Account, ben: Account) -> None:
    odd = 'quote " backslash \\ brace } comma , NULL \n\t é 漢 🙂'

    [outcome] = poster(
        move(
            ada,
            ben,
            1,
            description=odd,
            external_reference=odd,
            idempotency_key=odd,
            metadata={odd: odd},
        )
    )

    assert outcome.transaction_id is not None
    made = Transaction.objects.get(pk=outcome.transaction_id)
    assert (made.description, made.external_reference, made.idempotency_key) == (odd, odd, odd)
    assert made.metadata == {odd: odd}


def test_a_conflict_is_an_error_for_one(tenant: Tenant, ada: Account, ben: Account) -> None:
    post_one(tenant_id=tenant.pk, posting=move(ada, ben, 1, idempotency_key="k"))

    with pytest.raises(IdempotencyConflict):
        post_one(tenant_id=tenant.pk, posting=move(ada, ben, 2, idempotency_key="k"))


def test_a_posting_is_one_round_trip(tenant: Tenant, ada: Account, ben: Account) -> None:
    with CaptureQueriesContext(connection) as queries:
        post(tenant_id=tenant.pk, postings=[move(ada, ben, 1) for _ in range(300)])

    assert len(queries) == 0


PEOPLE = 4
moves = st.lists(
    st.tuples(st.integers(0, PEOPLE - 1), st.integers(0, PEOPLE - 1), st.integers(1, 60)).filter(
        lambda each: each[0] != each[1]
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.django_db
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(orders=moves)
def test_a_batch_does_what_its_postings_do_one_by_one(
    orders: list[tuple[int, int, int]],
) -> None:
    results = []
    for padding in (None, 0, PADDING):
        tenant = create_tenant(name="Model", now=timezone.now())
        people = [
            making.open_account(tenant, balance=50, overdraft_limit=20 * n) for n in range(PEOPLE)
        ]
        rich, poor = making.open_account(tenant, balance=10**6), making.open_account(tenant)
        postings = [move(people[a], people[b], amount) for a, b, amount in orders]
        if padding is None:
            outcomes = [post(tenant_id=tenant.pk, postings=[posting])[0] for posting in postings]
        else:
            filler = [move(rich, poor, 1) for _ in range(padding)]
            outcomes = post(tenant_id=tenant.pk, postings=filler + postings)[padding:]
        results.append(
            (
                [(outcome.outcome, outcome.refusal, outcome.available) for outcome in outcomes],
                [making.balance_of(person) for person in people],
            )
        )
        sums = trial_balance(tenant_id=tenant.pk, currency=None, at=None)
        assert sum(line.credits - line.debits for line in sums) == 0

    assert results[0] == results[1] == results[2]


def test_the_balance_of_each_moment(tenant: Tenant, ada: Account, ben: Account) -> None:
    seen = []
    for amount in range(1, 40):
        posted = making.transfer(ada, ben, amount)
        seen.append((posted.created_at, posted.leg_balances[0]))

    for moment, balance in seen:
        found = balance_at(tenant_id=tenant.pk, account_id=ada.pk, at=moment, now=timezone.now())
        assert found.balance == balance
