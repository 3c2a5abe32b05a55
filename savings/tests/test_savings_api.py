"""Savings plans over HTTP: what is taken, shown and moved, and for whom."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Account
from core.models import AuditRecord
from core.permissions import Role
from identity.models import Tenant, User
from identity.services import advance_test_clock, start_test_clock
from savings.models import SavingsPlan
from tests import making, recurring, saving
from tests.contract import ContractClient
from tests.saving import auto_body, locked_body

JANUARY = recurring.utc("2026-01-15T09:00")


@pytest.fixture
def source(tenant: Tenant) -> Account:
    """With 10,000, and a tenant whose clock shows 15 January 2026."""
    start_test_clock(tenant_id=tenant.pk, at=JANUARY, now=timezone.now())
    return making.open_account(tenant, balance=10_000)


@pytest.fixture
def auto(source: Account) -> dict[str, Any]:
    return auto_body(source)


@pytest.fixture
def locked(source: Account) -> dict[str, Any]:
    return locked_body(source, "2026-07-15")


def make(api: ContractClient, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = api.post_once("/savings-plans", {**body, **more})
    assert answer.status_code == 201, answer.content
    made: dict[str, Any] = answer.json()
    return made


def path_of(made: dict[str, Any], more: str = "") -> str:
    return f"/api/v1/savings-plans/{made['id']}{more}"


def act(api: ContractClient, made: dict[str, Any], what: str, **more: Any) -> Any:
    return api.post_once(f"/savings-plans/{made['id']}/{what}", more)


def done(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.content
    shown: dict[str, Any] = answer.json()
    return shown


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def advance(tenant: Tenant, to: str) -> None:
    assert advance_test_clock(
        tenant_id=tenant.pk, to=recurring.utc(to), now=timezone.now()
    ).is_complete


# --- Making one ----------------------------------------------------------------------------------


def test_one_that_puts_aside_shows_all_that_was_asked_for(
    api: ContractClient, auto: dict[str, Any]
) -> None:
    asked = {
        "day_of_month": 31,
        "months": 24,
        "start_date": "2026-02-01",
        "on_insufficient_funds": "partial",
        "on_completion": "keep",
        "annual_rate_bps": 425,
        "day_count": "30_360",
        "withholding_tax_bps": 2_000,
        "metadata": {"goal": "Bali"},
    }

    made = make(api, auto, **asked)

    expected = {**auto, **asked}
    assert {name: made[name] for name in expected} == expected
    assert (made["status"], made["status_reason"]) == ("active", None)
    assert (made["balance"], made["progress"], made["interest"], made["tax"]) == (0, 0.0, 0, 0)
    assert made["accrued_interest"] == "0.000000000000"
    # February's last day, in the morning.
    assert made["next_run_at"] == "2026-02-28T06:00:00Z"
    assert (made["unlock_date"], made["on_unlock"], made["ended_at"]) == (None, None, None)
    account = api.get(f"/api/v1/accounts/{made['plan_account_id']}").json()
    assert (account["type"], account["name"], account["currency"]) == ("saving", "Holiday", "USD")
    assert api.get(path_of(made)).json() == made


def test_one_that_is_locked_takes_its_amount_at_once(
    api: ContractClient, source: Account, locked: dict[str, Any]
) -> None:
    made = make(api, locked, on_unlock="keep")

    assert {name: made[name] for name in locked} == locked
    assert (made["status"], made["balance"], made["on_unlock"]) == ("active", 1_000, "keep")
    assert making.balance_of(source) == 9_000
    of_the_other_kind = {
        *("recurring_payment_id", "day_of_month", "start_date", "target_amount", "months"),
        *("progress", "on_completion", "next_run_at", "on_insufficient_funds"),
    }
    assert {made[name] for name in of_the_other_kind} == {None}
    assert api.get(path_of(made)).json() == made


def test_what_is_left_out_has_its_default(
    api: ContractClient, auto: dict[str, Any], locked: dict[str, Any]
) -> None:
    made, other = make(api, auto), make(api, locked)

    assert (made["on_insufficient_funds"], made["on_completion"]) == ("retry", "pay_out")
    assert (made["day_of_month"], made["start_date"]) == (None, "2026-01-15")
    assert (made["annual_rate_bps"], made["day_count"]) == (0, "act_365f")
    assert (made["withholding_tax_bps"], made["metadata"]) == (0, {})
    assert other["on_unlock"] == "pay_out"


def test_one_key_makes_one(api: ContractClient, locked: dict[str, Any], source: Account) -> None:
    first = api.post_once("/savings-plans", locked, key="k")
    again = api.post_once("/savings-plans", locked, key="k")

    assert again["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    assert SavingsPlan.objects.count() == 1
    assert making.balance_of(source) == 9_000


# --- Seeing it ------------------------------------------------------------------------------------


def test_half_a_year_of_putting_aside(
    tenant: Tenant, api: ContractClient, auto: dict[str, Any]
) -> None:
    made = make(api, auto, day_of_month=31, annual_rate_bps=365, withholding_tax_bps=1_000)
    advance(tenant, "2026-06-15")

    shown = api.get(path_of(made)).json()
    runs = api.get(path_of(made, "/runs")).json()["results"]
    postings = api.get(path_of(made, "/interest-postings")).json()["results"]

    assert [run["date"][5:] for run in runs] == ["05-31", "04-30", "03-31", "02-28", "01-31"]
    assert {(run["status"], run["amount"]) for run in runs} == {("succeeded", 100)}
    plan = saving.again(SavingsPlan(pk=made["id"]))
    assert shown["interest"] == sum(each["amount"] for each in postings) == 3
    assert shown["balance"] == 503 == saving.saved(plan)
    # 503 of 1,200, rounded down.
    assert shown["progress"] == 41.9
    assert shown["next_run_at"] == "2026-06-30T06:00:00Z"
    assert [each["period_to"] for each in postings][::4] == ["2026-05-31", "2026-01-31"]
    # 14 days of 503 at a hundredth of a percent, and what rounding has left.
    [last, *_] = postings
    left = Decimal(last["carried_out"])
    assert Decimal(shown["accrued_interest"]) == 14 * 503 * Decimal("0.0001") + left


def test_without_a_target_the_months_are_its_progress(
    tenant: Tenant, api: ContractClient, auto: dict[str, Any]
) -> None:
    made = make(api, auto, target_amount=None, months=3, day_of_month=1, on_completion="keep")
    assert (made["months"], made["progress"]) == (3, 0.0)

    advance(tenant, "2026-02-15")
    assert api.get(path_of(made)).json()["progress"] == 33.3
    # Another day counts the dates anew, and what was done is done.
    api.patch(path_of(made), {"day_of_month": 20})
    changed = api.get(path_of(made)).json()
    assert (changed["months"], changed["progress"]) == (3, 33.3)
    advance(tenant, "2026-04-15")

    shown = api.get(path_of(made)).json()
    assert (shown["status"], shown["progress"], shown["balance"]) == ("completed", 100.0, 300)


def test_what_will_be_there_is_foreseen(api: ContractClient, auto: dict[str, Any]) -> None:
    made = make(api, auto, day_of_month=1, amount=500)

    foreseen = api.get(path_of(made, "/projection")).json()

    assert (foreseen["ends_on"], foreseen["balance"]) == ("2026-04-01", 1_200)
    assert (foreseen["deposited"], foreseen["interest"], foreseen["tax"]) == (1_200, 0, 0)
    assert [(each["date"], each["deposited"], each["balance"]) for each in foreseen["months"]] == [
        ("2026-01-31", 0, 0),
        ("2026-02-28", 500, 500),
        ("2026-03-31", 500, 1_000),
        ("2026-04-01", 200, 1_200),
    ]


def test_one_that_is_locked_has_no_runs(api: ContractClient, locked: dict[str, Any]) -> None:
    made = make(api, locked)

    assert api.get(path_of(made, "/runs")).json()["results"] == []


def test_lists_are_filtered(
    api: ContractClient, tenant: Tenant, auto: dict[str, Any], locked: dict[str, Any]
) -> None:
    other = making.open_account(tenant)
    plain, paused = make(api, auto)["id"], make(api, auto)
    elsewhere = make(api, auto, account_id=str(other.pk))
    kept, closed = make(api, locked)["id"], make(api, auto)
    act(api, paused, "pause")
    act(api, closed, "close")

    def listed(query: str) -> list[str]:
        rows = api.get(f"/api/v1/savings-plans?{query}").json()["results"]
        return [row["id"] for row in rows][::-1]

    assert listed("status=active") == [plain, elsewhere["id"], kept]
    assert listed("status=paused") == [paused["id"]]
    assert listed("status=closed") == [closed["id"]]
    assert listed("status=completed") == []
    assert listed("kind=date_locked") == [kept]
    assert listed(f"account_id={other.pk}") == [elsewhere["id"]]
    assert listed("kind=auto_withdraw&status=active") == [plain, elsewhere["id"]]
    for query in ("status=late", "kind=piggy", "account_id=mine", "stauts=active"):
        assert code_of(api.get(f"/api/v1/savings-plans?{query}")) == (400, "invalid_request")


def test_a_page_costs_the_same_however_many_are_on_it(
    tenant: Tenant, api: ContractClient, auto: dict[str, Any], locked: dict[str, Any]
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            api.get("/api/v1/savings-plans")
        return len(asked)

    make(api, auto, annual_rate_bps=500)
    advance(tenant, "2026-03-02")
    # Once before, for what a process remembers.
    queries()
    one = queries()
    for _ in range(3):
        make(api, auto, annual_rate_bps=500)
        make(api, locked)

    assert queries() == one


def test_pages_hold_each_once(api: ContractClient, auto: dict[str, Any]) -> None:
    made = [make(api, auto)["id"] for _ in range(3)]
    first = api.get("/api/v1/savings-plans?limit=2").json()

    make(api, auto)
    second = api.get(first["next"]).json()

    assert [each["id"] for each in first["results"] + second["results"]] == made[::-1]


# --- Changing it ----------------------------------------------------------------------------------


def test_terms_are_changed(api: ContractClient, auto: dict[str, Any]) -> None:
    made = make(api, auto)
    seen = api.get(path_of(made))["ETag"]
    changes = {
        "name": "Long holiday",
        "amount": 250,
        "day_of_month": 20,
        "target_amount": 3_000,
        "on_insufficient_funds": "skip",
        "on_completion": "keep",
        "annual_rate_bps": 100,
        "withholding_tax_bps": 500,
        "metadata": {"with": "Ben"},
    }

    answer = api.patch(path_of(made), changes)

    assert done(answer) == {**made, **changes, "next_run_at": "2026-01-20T06:00:00Z"}
    again = api.get(path_of(made))
    assert again.json() == answer.json()
    assert again["ETag"] == answer["ETag"] != seen


def test_a_locked_one_may_be_kept_at_its_date_after_all(
    api: ContractClient, locked: dict[str, Any]
) -> None:
    made = make(api, locked)

    changed = done(api.patch(path_of(made), {"on_unlock": "keep", "name": "For the roof"}))

    assert changed == {**made, "on_unlock": "keep", "name": "For the roof"}


def test_a_change_of_what_somebody_else_has_changed_is_refused(
    api: ContractClient, auto: dict[str, Any]
) -> None:
    made = make(api, auto)
    seen = api.get(path_of(made))["ETag"]
    assert api.patch(path_of(made), {"name": "A"}, headers={"If-Match": seen}).status_code == 200

    answer = api.patch(path_of(made), {"name": "B"}, headers={"If-Match": seen})

    assert code_of(answer) == (412, "precondition_failed")
    assert api.get(path_of(made)).json()["name"] == "A"


def test_it_is_paused_and_resumed_for_a_reason(api: ContractClient, auto: dict[str, Any]) -> None:
    made = make(api, auto)

    paused = done(act(api, made, "pause", reason="between two jobs"))
    again = done(act(api, made, "pause"))
    resumed = done(act(api, made, "resume"))

    assert (paused["status"], paused["status_reason"]) == ("paused", "by_request")
    assert again == paused
    assert (resumed["status"], resumed["status_reason"]) == ("active", None)
    records = AuditRecord.objects.filter(object_id=made["id"]).order_by("pk")
    assert [(record.action, record.reason) for record in records] == [
        ("savings_plan.created", ""),
        ("savings_plan.paused", "between two jobs"),
        ("savings_plan.resumed", ""),
    ]


def test_a_source_without_money_pauses_it_in_the_end(
    tenant: Tenant, api: ContractClient, auto: dict[str, Any]
) -> None:
    empty = making.open_account(tenant)
    made = make(api, auto, account_id=str(empty.pk), day_of_month=20)

    advance(tenant, "2026-04-15")

    shown = api.get(path_of(made)).json()
    assert (shown["status"], shown["status_reason"]) == ("paused", "insufficient_funds")
    failed = api.get(path_of(made, "/runs?status=failed")).json()["results"]
    assert [run["date"] for run in failed] == ["2026-03-20", "2026-02-20", "2026-01-20"]
    making.deposit(empty, 500)
    assert done(act(api, made, "resume"))["status_reason"] is None
    advance(tenant, "2026-04-21")
    assert api.get(path_of(made)).json()["balance"] == 100


def test_a_locked_one_is_neither_paused_nor_resumed(
    api: ContractClient, locked: dict[str, Any]
) -> None:
    made = make(api, locked)

    for what in ("pause", "resume"):
        assert code_of(act(api, made, what)) == (409, "invalid_state")


def test_a_lock_is_made_longer_never_shorter(api: ContractClient, locked: dict[str, Any]) -> None:
    made = make(api, locked)

    renewed = done(act(api, made, "renew", unlock_date="2027-07-15", reason="no hurry"))
    shorter = act(api, made, "renew", unlock_date="2026-07-15")

    assert renewed == {**made, "unlock_date": "2027-07-15"}
    assert code_of(shorter) == (400, "invalid_request")
    assert api.get(path_of(made)).json() == renewed


def test_one_that_was_unlocked_and_kept_is_locked_anew(
    tenant: Tenant, api: ContractClient, locked: dict[str, Any]
) -> None:
    made = make(api, locked, on_unlock="keep")
    advance(tenant, "2026-07-15")
    assert api.get(path_of(made)).json()["status"] == "unlocked"

    renewed = done(act(api, made, "renew", unlock_date="2026-12-01"))

    assert (renewed["status"], renewed["balance"]) == ("active", 1_000)
    assert code_of(act(api, made, "withdraw", amount=1)) == (422, "savings_plan_locked")


def test_its_recurring_payment_is_changed_through_the_plan_alone(
    api: ContractClient, auto: dict[str, Any]
) -> None:
    made = make(api, auto)
    plain = f"/recurring-payments/{made['recurring_payment_id']}"
    shown = api.get(f"/api/v1{plain}").json()
    assert (shown["managed_by"], shown["status"]) == ("savings_plan", "active")
    [listed] = api.get("/api/v1/recurring-payments").json()["results"]
    assert listed == shown

    answers = [api.post_once(f"{plain}/{what}", {}) for what in ("pause", "resume", "cancel")]
    answers.append(api.patch(f"/api/v1{plain}", {"amount": 1}))

    assert {code_of(answer) for answer in answers} == {(409, "invalid_state")}
    assert api.get(f"/api/v1{plain}").json() == shown


# --- Money ----------------------------------------------------------------------------------------


def test_more_is_put_in_once_by_its_key(
    api: ContractClient, auto: dict[str, Any], source: Account
) -> None:
    made = make(api, auto)
    path = f"/savings-plans/{made['id']}/deposit"

    first = api.post_once(path, {"amount": 300}, key="k")
    again = api.post_once(path, {"amount": 300}, key="k")
    other = api.post_once(path, {"amount": 301}, key="k")

    assert (done(first)["balance"], first.json()["progress"]) == (300, 25.0)
    assert again["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    assert code_of(other) == (422, "idempotency_conflict")
    assert making.balance_of(source) == 9_700


def test_a_target_that_is_reached_by_hand_completes_it(
    api: ContractClient, auto: dict[str, Any]
) -> None:
    made = make(api, auto, on_completion="keep")

    completed = done(act(api, made, "deposit", amount=1_200))

    assert (completed["status"], completed["progress"]) == ("completed", 100.0)
    assert completed["next_run_at"] is None
    assert code_of(act(api, made, "deposit", amount=1)) == (409, "invalid_state")


def test_some_is_taken_out_once_by_its_key(
    api: ContractClient, tenant: Tenant, auto: dict[str, Any], source: Account
) -> None:
    made, other = make(api, auto), making.open_account(tenant)
    act(api, made, "deposit", amount=1_000)
    path = f"/savings-plans/{made['id']}/withdraw"

    to_source = [api.post_once(path, {"amount": 300}, key="k") for _ in range(2)]
    elsewhere = {"amount": 200, "destination_account_id": str(other.pk)}
    conflict = api.post_once(path, elsewhere, key="k")
    to_other = api.post_once(path, elsewhere)

    assert to_source[1]["Idempotent-Replayed"] == "true"
    assert to_source[1].json() == to_source[0].json()
    assert done(to_source[0])["balance"] == 700
    assert code_of(conflict) == (422, "idempotency_conflict")
    assert done(to_other)["balance"] == 500
    assert (making.balance_of(source), making.balance_of(other)) == (9_300, 200)


def test_a_key_of_another_movement_is_taken(
    api: ContractClient, tenant: Tenant, auto: dict[str, Any], source: Account
) -> None:
    made, other = make(api, auto), making.open_account(tenant)
    making.transfer(source, other, 5, idempotency_key="k")

    answer = api.post_once(f"/savings-plans/{made['id']}/deposit", {"amount": 5}, key="k")

    assert code_of(answer) == (422, "idempotency_conflict")
    assert api.get(path_of(made)).json()["balance"] == 0


def test_before_its_date_there_is_no_way_out_and_the_answer_names_it(
    api: ContractClient, locked: dict[str, Any], source: Account
) -> None:
    made = make(api, locked)

    answers = [act(api, made, "withdraw", amount=1), act(api, made, "close")]

    for answer in answers:
        assert code_of(answer) == (422, "savings_plan_locked")
        assert answer.json()["unlock_date"] == "2026-07-15"
        assert "2026-07-15" in answer.json()["detail"]
    assert making.balance_of(source) == 9_000
    # More may be put in.
    assert done(act(api, made, "deposit", amount=500))["balance"] == 1_500


def test_closing_pays_all_of_it_out_and_twice_is_once(
    tenant: Tenant, api: ContractClient, auto: dict[str, Any], source: Account
) -> None:
    made = make(api, auto, day_of_month=1, annual_rate_bps=10_000, withholding_tax_bps=1_000)
    act(api, made, "deposit", amount=1_000)
    advance(tenant, "2026-01-30")

    closed = done(act(api, made, "close", reason="bought the tickets"))
    again = done(act(api, made, "close"))

    # 1,000 at 100 % for 15 days: 41 before tax, and 4 of tax.
    assert (closed["interest"], closed["tax"]) == (41, 4)
    assert (closed["status"], closed["balance"], closed["progress"]) == ("closed", 0, None)
    assert closed["next_run_at"] is None
    assert closed["ended_at"] == "2026-01-30T00:00:00Z"
    assert again == closed
    assert making.balance_of(source) == 10_000 + 41 - 4
    for what in ("deposit", "withdraw"):
        assert code_of(act(api, made, what, amount=1)) == (409, "invalid_state")
    assert code_of(api.patch(path_of(made), {"name": "x"})) == (409, "invalid_state")


def test_it_is_closed_to_another_account_of_the_owner(
    tenant: Tenant, api: ContractClient, auto: dict[str, Any]
) -> None:
    other = making.open_account(tenant)
    made = make(api, auto)
    act(api, made, "deposit", amount=70)

    done(act(api, made, "close", destination_account_id=str(other.pk)))

    assert making.balance_of(other) == 70


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keys", [("k", "k"), ("k", "l")], ids=["one key", "two keys"])
def test_of_two_who_take_all_of_it_at_once_one_has_it(
    tenant: Tenant, api: ContractClient, auto: dict[str, Any], source: Account, keys: list[str]
) -> None:
    made = make(api, auto)
    act(api, made, "deposit", amount=600)
    path = f"/savings-plans/{made['id']}/withdraw"

    answers: list[Any] = making.at_once(
        [lambda key=key: api.post_once(path, {"amount": 600}, key=key) for key in keys]  # type: ignore[misc]
    )

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == ([200, 200] if keys[0] == keys[1] else [200, 422])
    assert making.balance_of(source) == 10_000
    assert api.get(path_of(made)).json()["balance"] == 0


# --- Early releases -------------------------------------------------------------------------------


@pytest.fixture
def operator(tenant: Tenant) -> ContractClient:
    return making.person_client(tenant, Role.OPERATOR)


@pytest.fixture
def supervisor(tenant: Tenant) -> ContractClient:
    return making.person_client(tenant, Role.SUPERVISOR)


def test_one_asks_for_a_release_and_another_agrees(
    api: ContractClient,
    operator: ContractClient,
    supervisor: ContractClient,
    locked: dict[str, Any],
    source: Account,
) -> None:
    made = make(api, locked)

    asked = act(operator, made, "early-releases", reason="Hospital")
    release = asked.json()
    assert (asked.status_code, release["status"]) == (201, "requested")
    assert (release["savings_plan_id"], release["reason"]) == (made["id"], "Hospital")
    assert (release["decided_by"], release["decision_reason"]) == (None, None)
    assert making.balance_of(source) == 9_000
    approved = done(
        supervisor.post_once(f"/early-releases/{release['id']}/approve", {"reason": "Seen"})
    )

    assert (approved["status"], approved["decision_reason"]) == ("approved", "Seen")
    assert approved["decided_by"] != approved["requested_by"] == release["requested_by"]
    assert api.get(f"/api/v1/early-releases/{release['id']}").json() == approved
    assert api.get(path_of(made)).json()["status"] == "closed"
    assert making.balance_of(source) == 10_000


def test_a_release_that_is_refused_leaves_it_locked(
    api: ContractClient,
    operator: ContractClient,
    supervisor: ContractClient,
    locked: dict[str, Any],
) -> None:
    made = make(api, locked)
    path = f"/early-releases/{act(operator, made, 'early-releases', reason='x').json()['id']}"

    rejected = done(supervisor.post_once(f"{path}/reject", {"reason": "A loan is better"}))

    assert rejected["status"] == "rejected"
    again = supervisor.post_once(f"{path}/approve", {"reason": "After all"})
    assert code_of(again) == (409, "invalid_state")
    assert api.get(path_of(made)).json() == made


def test_nobody_decides_on_what_they_asked_for_nor_does_a_key(
    api: ContractClient, tenant: Tenant, supervisor: ContractClient, locked: dict[str, Any]
) -> None:
    made = make(api, locked)
    assert code_of(act(api, made, "early-releases", reason="x")) == (403, "permission_denied")
    release = act(supervisor, made, "early-releases", reason="x").json()
    path = f"/early-releases/{release['id']}"

    for what in ("approve", "reject"):
        for caller in (supervisor, api, making.person_client(tenant, Role.OPERATOR)):
            answer = caller.post_once(f"{path}/{what}", {"reason": "x"})
            assert code_of(answer) == (403, "permission_denied")
    assert api.get(f"/api/v1{path}").json() == release


def test_a_release_is_asked_for_once_of_what_is_locked(
    api: ContractClient,
    operator: ContractClient,
    locked: dict[str, Any],
    auto: dict[str, Any],
) -> None:
    made = make(api, locked)
    act(operator, made, "early-releases", reason="x")

    twice = act(operator, made, "early-releases", reason="x")
    not_locked = act(operator, make(api, auto), "early-releases", reason="x")

    assert code_of(twice) == (409, "already_exists")
    assert code_of(not_locked) == (409, "invalid_state")
    for reason in ("", " ", None, "x" * 501):
        answer = act(operator, made, "early-releases", reason=reason)
        assert code_of(answer) == (400, "invalid_request")


def test_releases_are_filtered(
    api: ContractClient,
    operator: ContractClient,
    supervisor: ContractClient,
    locked: dict[str, Any],
) -> None:
    plans = [make(api, locked, amount=10) for _ in range(2)]
    first, second = (
        act(operator, plan, "early-releases", reason="x").json()["id"] for plan in plans
    )
    supervisor.post_once(f"/early-releases/{first}/reject", {"reason": "x"})

    def listed(query: str) -> list[str]:
        rows = api.get(f"/api/v1/early-releases{query}").json()["results"]
        return [row["id"] for row in rows]

    assert listed("") == [second, first]
    assert listed("?status=requested") == [second]
    assert listed("?status=rejected") == [first]
    assert listed(f"?savings_plan_id={plans[0]['id']}") == [first]
    assert code_of(api.get("/api/v1/early-releases?status=late")) == (400, "invalid_request")


# --- Whose it is ----------------------------------------------------------------------------------


@pytest.fixture
def ada(tenant: Tenant) -> User:
    return making.person(tenant, Role.CUSTOMER)


def client_of(user: User) -> ContractClient:
    return making.client_of(making.tokens_of(user).access)


def test_a_customer_sees_and_changes_her_own(
    tenant: Tenant, ada: User, api: ContractClient, auto: dict[str, Any], locked: dict[str, Any]
) -> None:
    hers = making.open_account(tenant, balance=5_000, owner_id=ada.pk)
    not_hers = make(api, auto)
    her_client = client_of(ada)

    made = make(her_client, {**auto, "account_id": str(hers.pk)})
    kept = make(her_client, {**locked, "account_id": str(hers.pk)})

    assert made["owner_id"] == str(ada.pk)
    assert done(act(her_client, made, "deposit", amount=100))["balance"] == 100
    assert done(act(her_client, made, "withdraw", amount=40))["balance"] == 60
    assert done(her_client.patch(path_of(made), {"name": "Mine"}))["name"] == "Mine"
    assert done(act(her_client, made, "close"))["status"] == "closed"
    listed = her_client.get("/api/v1/savings-plans").json()["results"]
    assert [each["id"] for each in listed] == [kept["id"], made["id"]]
    paths = ("", "/runs", "/interest-postings", "/projection")
    for path in paths:
        assert her_client.get(path_of(kept, path)).status_code == 200
        assert code_of(her_client.get(path_of(not_hers, path))) == (404, "not_found")


def test_a_customer_sees_what_was_asked_for_hers_and_asks_for_nothing(
    tenant: Tenant,
    ada: User,
    api: ContractClient,
    operator: ContractClient,
    locked: dict[str, Any],
) -> None:
    hers = making.open_account(tenant, balance=5_000, owner_id=ada.pk)
    made, other = make(api, {**locked, "account_id": str(hers.pk)}), make(api, locked)
    release, not_hers = (
        act(operator, plan, "early-releases", reason="x").json() for plan in (made, other)
    )
    her_client = client_of(ada)

    assert her_client.get("/api/v1/early-releases").json()["results"] == [release]
    assert her_client.get(f"/api/v1/early-releases/{release['id']}").json() == release
    answer = her_client.get(f"/api/v1/early-releases/{not_hers['id']}")
    assert code_of(answer) == (404, "not_found")
    refused = act(her_client, made, "early-releases", reason="x")
    assert code_of(refused) == (403, "permission_denied")


@pytest.mark.parametrize(
    "rate", [{"annual_rate_bps": 1}, {"withholding_tax_bps": 0}, {"day_count": "act_365f"}], ids=str
)
def test_a_customer_does_not_say_what_interest_it_bears(
    tenant: Tenant, ada: User, auto: dict[str, Any], rate: dict[str, Any]
) -> None:
    hers = making.open_account(tenant, owner_id=ada.pk)
    her_client = client_of(ada)
    body = {**auto, "account_id": str(hers.pk)}
    made = make(her_client, body)

    answer = her_client.post_once("/savings-plans", {**body, **rate})

    assert code_of(answer) == (403, "permission_denied")
    assert SavingsPlan.objects.count() == 1
    if "day_count" not in rate:
        change = her_client.patch(path_of(made), rate)
        assert code_of(change) == (403, "permission_denied")
    assert her_client.get(path_of(made)).json() == made


def test_the_real_clock_locks_as_well(tenant: Tenant, api: ContractClient) -> None:
    source = making.open_account(tenant, balance=1_000)
    unlock_date = (timezone.now() + dt.timedelta(days=3)).date().isoformat()
    body = {"account_id": str(source.pk), "currency": "USD", "name": "x", "amount": 400}

    made = make(api, {**body, "kind": "date_locked"}, unlock_date=unlock_date)

    answer = api.post_once(
        "/transfers",
        {
            "source_account_id": made["plan_account_id"],
            "destination_account_id": str(source.pk),
            "amount": 1,
            "currency": "USD",
        },
    )
    assert code_of(answer) == (422, "savings_plan_locked")
    assert answer.json()["unlock_date"] == unlock_date
