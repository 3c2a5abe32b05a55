"""What nobody should ask of a savings plan: refused clearly, by its field, and nothing done."""

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Account
from core.permissions import Role
from identity.models import Tenant
from savings.models import SavingsPlan
from tests import making
from tests.contract import ContractClient
from tests.saving import auto_body, locked_body

UNKNOWN = "0199c0de-7e57-7000-8000-00000000dead"
TODAY = timezone.now().date()
LATER = (TODAY + dt.timedelta(days=40)).isoformat()
# That fit no amount.
AMOUNTS: list[Any] = [0, -1, 1.5, 100.0, "100", True, None, [1], 2**63, 9 * 10**15 + 1]


@pytest.fixture
def source(tenant: Tenant) -> Account:
    return making.open_account(tenant, balance=10_000)


@pytest.fixture
def auto(source: Account) -> dict[str, Any]:
    return auto_body(source)


@pytest.fixture
def locked(source: Account) -> dict[str, Any]:
    return locked_body(source, LATER)


def refused(answer: Any) -> tuple[int, str, str]:
    """Return status, code, and the field that is to blame."""
    problem = answer.json()
    [field] = [error["field"] for error in problem["errors"]] or [""]
    return answer.status_code, problem["code"], field


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def make(api: ContractClient, body: dict[str, Any]) -> str:
    answer = api.post_once("/savings-plans", body)
    assert answer.status_code == 201, answer.content
    return str(answer.json()["id"])


# --- Of both kinds --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *(({"amount": amount}, "amount") for amount in AMOUNTS),
        ({"kind": "piggy_bank"}, "kind"),
        ({"kind": None}, "kind"),
        ({"currency": "XXX"}, "currency"),
        ({"currency": None}, "currency"),
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": 7}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "4242 4242 4242 4242"}, "name"),
        ({"account_id": "mine"}, "account_id"),
        ({"account_id": 7}, "account_id"),
        ({"annual_rate_bps": -1}, "annual_rate_bps"),
        ({"annual_rate_bps": 10_001}, "annual_rate_bps"),
        ({"annual_rate_bps": 4.25}, "annual_rate_bps"),
        ({"annual_rate_bps": None}, "annual_rate_bps"),
        ({"withholding_tax_bps": 10_000}, "withholding_tax_bps"),
        ({"withholding_tax_bps": "20"}, "withholding_tax_bps"),
        ({"day_count": "act_360"}, "day_count"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": []}, "metadata"),
        ({"targt_amount": 1}, "targt_amount"),
        ({"status": "active"}, "status"),
        ({"owner_id": UNKNOWN}, "owner_id"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["auto", "locked"])
def test_bad_input_is_refused_by_its_field(
    request: pytest.FixtureRequest,
    api: ContractClient,
    kind: str,
    changes: dict[str, Any],
    field: str,
) -> None:
    body = request.getfixturevalue(kind)

    answer = api.post_once("/savings-plans", {**body, **changes})

    assert refused(answer) == (400, "invalid_request", field)
    assert not SavingsPlan.objects.exists()


# --- Of one kind ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"target_amount": 99}, "target_amount"),
        ({"target_amount": 0}, "target_amount"),
        ({"target_amount": 2**63}, "target_amount"),
        ({"target_amount": "1200"}, "target_amount"),
        # For ever.
        ({"months": 0}, "months"),
        ({"months": 601}, "months"),
        ({"months": 1.5}, "months"),
        ({"day_of_month": 0}, "day_of_month"),
        ({"day_of_month": 32}, "day_of_month"),
        ({"day_of_month": -1}, "day_of_month"),
        ({"day_of_month": "1"}, "day_of_month"),
        ({"start_date": "2031-02-31"}, "start_date"),
        ({"start_date": "2020-01-01"}, "start_date"),
        ({"start_date": "3000-01-01"}, "start_date"),
        ({"on_insufficient_funds": "cry"}, "on_insufficient_funds"),
        ({"on_insufficient_funds": {"action": "skip"}}, "on_insufficient_funds"),
        ({"on_completion": "spend"}, "on_completion"),
        ({"on_completion": None}, "on_completion"),
        # What the other kind has.
        ({"unlock_date": LATER}, "unlock_date"),
        ({"on_unlock": "keep"}, "on_unlock"),
    ],
    ids=str,
)
def test_one_that_puts_aside_is_refused_by_its_field(
    api: ContractClient, auto: dict[str, Any], changes: dict[str, Any], field: str
) -> None:
    answer = api.post_once("/savings-plans", {**auto, **changes})

    assert refused(answer) == (400, "invalid_request", field)
    assert not SavingsPlan.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"unlock_date": None}, "unlock_date"),
        ({"unlock_date": TODAY.isoformat()}, "unlock_date"),
        ({"unlock_date": "2020-01-01"}, "unlock_date"),
        ({"unlock_date": "2031-02-31"}, "unlock_date"),
        ({"unlock_date": "2999-12-31"}, "unlock_date"),
        ({"unlock_date": "soon"}, "unlock_date"),
        ({"unlock_date": f"{LATER}T00:00:00Z"}, "unlock_date"),
        ({"on_unlock": "spend"}, "on_unlock"),
        # What the other kind has.
        ({"day_of_month": 1}, "day_of_month"),
        ({"target_amount": 2_000}, "target_amount"),
        ({"months": 3}, "months"),
        ({"start_date": LATER}, "start_date"),
        ({"on_insufficient_funds": "retry"}, "on_insufficient_funds"),
        ({"on_completion": "keep"}, "on_completion"),
    ],
    ids=str,
)
def test_one_that_is_locked_is_refused_by_its_field(
    api: ContractClient,
    locked: dict[str, Any],
    source: Account,
    changes: dict[str, Any],
    field: str,
) -> None:
    answer = api.post_once("/savings-plans", {**locked, **changes})

    assert refused(answer) == (400, "invalid_request", field)
    assert not SavingsPlan.objects.exists()
    assert making.balance_of(source) == 10_000


def test_nothing_at_all_is_refused(api: ContractClient) -> None:
    fields = {error["field"] for error in api.post_once("/savings-plans", {}).json()["errors"]}

    assert fields == {"kind", "account_id", "currency", "name", "amount"}


# --- The source -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["auto", "locked"])
def test_the_source_is_an_open_account_of_the_tenant_in_the_currency(
    request: pytest.FixtureRequest,
    tenant: Tenant,
    other_tenant: Tenant,
    api: ContractClient,
    kind: str,
) -> None:
    body = request.getfixturevalue(kind)
    foreign = making.open_account(other_tenant, balance=5_000)
    euros = making.open_account(tenant, balance=5_000, currency="EUR")
    closed = making.open_account(tenant)
    api.post_once(f"/accounts/{closed.pk}/close", {"reason": "x"})
    till = Account.objects.filter(tenant=tenant, type="internal", currency="USD")[0]

    def ask(account_id: Any) -> tuple[int, str]:
        return code_of(api.post_once("/savings-plans", {**body, "account_id": str(account_id)}))

    assert ask(UNKNOWN) == (404, "not_found")
    assert ask(foreign.pk) == (404, "not_found")
    assert ask(till.pk) == (404, "not_found")
    assert ask(euros.pk) == (422, "currency_mismatch")
    assert ask(closed.pk) == (422, "account_closed")
    assert not SavingsPlan.objects.exists()


@pytest.mark.parametrize("kind", ["auto", "locked"])
def test_another_customers_account_is_no_source(
    request: pytest.FixtureRequest, tenant: Tenant, kind: str
) -> None:
    eve = making.person_client(tenant, Role.CUSTOMER)

    answer = eve.post_once("/savings-plans", request.getfixturevalue(kind))

    assert code_of(answer) == (404, "not_found")


@pytest.mark.parametrize("kind", ["auto", "locked"])
def test_a_plans_account_is_no_source(
    request: pytest.FixtureRequest, api: ContractClient, auto: dict[str, Any], kind: str
) -> None:
    plan = SavingsPlan.objects.get(pk=make(api, auto))

    answer = api.post_once(
        "/savings-plans",
        {**request.getfixturevalue(kind), "account_id": str(plan.plan_account_id)},
    )

    assert refused(answer) == (400, "invalid_request", "account_id")


def test_what_the_source_does_not_have_is_not_locked(
    api: ContractClient, locked: dict[str, Any], source: Account
) -> None:
    answer = api.post_once("/savings-plans", {**locked, "amount": 10_001})

    assert code_of(answer) == (422, "insufficient_funds")
    assert not SavingsPlan.objects.exists()
    assert Account.objects.filter(tenant_id=source.tenant_id, type="saving").count() == 0


# --- Changes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "date_locked"}, "kind"),
        ({"currency": "EUR"}, "currency"),
        ({"account_id": UNKNOWN}, "account_id"),
        ({"months": 3}, "months"),
        ({"start_date": LATER}, "start_date"),
        ({"unlock_date": LATER}, "unlock_date"),
        ({"day_count": "30_360"}, "day_count"),
        ({"status": "closed"}, "status"),
        ({"on_unlock": "keep"}, "on_unlock"),
        ({"amount": 0}, "amount"),
        ({"amount": None}, "amount"),
        ({"amount": 1_201}, "target_amount"),
        ({"target_amount": 99}, "target_amount"),
        ({"day_of_month": 32}, "day_of_month"),
        ({"name": ""}, "name"),
        ({"annual_rate_bps": 10_001}, "annual_rate_bps"),
    ],
    ids=str,
)
def test_a_change_that_cannot_be_is_refused_by_its_field(
    api: ContractClient, auto: dict[str, Any], changes: dict[str, Any], field: str
) -> None:
    path = f"/api/v1/savings-plans/{make(api, auto)}"
    before = api.get(path).json()

    answer = api.patch(path, changes)

    assert refused(answer) == (400, "invalid_request", field)
    assert api.get(path).json() == before


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": 2_000}, "amount"),
        ({"day_of_month": 1}, "day_of_month"),
        ({"target_amount": 5_000}, "target_amount"),
        ({"on_insufficient_funds": "skip"}, "on_insufficient_funds"),
        ({"on_completion": "keep"}, "on_completion"),
        ({"unlock_date": "2020-01-01"}, "unlock_date"),
    ],
    ids=str,
)
def test_a_locked_one_is_not_changed_into_the_other_kind(
    api: ContractClient, locked: dict[str, Any], changes: dict[str, Any], field: str
) -> None:
    path = f"/api/v1/savings-plans/{make(api, locked)}"
    before = api.get(path).json()

    answer = api.patch(path, changes)

    assert refused(answer) == (400, "invalid_request", field)
    assert api.get(path).json() == before


# --- Money ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["deposit", "withdraw", "close"])
@pytest.mark.parametrize("key", [None, ""])
def test_what_moves_money_has_a_key(
    api: ContractClient, auto: dict[str, Any], what: str, key: str | None
) -> None:
    path = f"/api/v1/savings-plans/{make(api, auto)}/{what}"
    body = {} if what == "close" else {"amount": 1}

    answer = api.post(path, body, headers={} if key is None else {"Idempotency-Key": key})

    assert code_of(answer) == (400, "idempotency_key_required")


@pytest.mark.parametrize("amount", AMOUNTS, ids=str)
@pytest.mark.parametrize("what", ["deposit", "withdraw"])
def test_an_amount_is_a_positive_whole_number(
    api: ContractClient, auto: dict[str, Any], what: str, amount: Any
) -> None:
    plan_id = make(api, auto)

    answer = api.post_once(f"/savings-plans/{plan_id}/{what}", {"amount": amount})

    assert refused(answer) == (400, "invalid_request", "amount")


@pytest.mark.parametrize(
    ("what", "body", "field"),
    [
        ("deposit", {}, "amount"),
        ("deposit", {"amount": 1, "currency": "USD"}, "currency"),
        ("withdraw", {"amount": 1, "destination": UNKNOWN}, "destination"),
        ("withdraw", {"amount": 1, "destination_account_id": 7}, "destination_account_id"),
        ("close", {"destination_account_id": "mine"}, "destination_account_id"),
        ("close", {"reason": "x" * 501}, "reason"),
        ("close", {"amount": 1}, "amount"),
        ("pause", {"until": LATER}, "until"),
        ("resume", {"reason": 7}, "reason"),
        ("renew", {}, "unlock_date"),
        ("renew", {"unlock_date": "2031-02-31"}, "unlock_date"),
    ],
    ids=str,
)
def test_an_act_takes_what_it_names(
    api: ContractClient, auto: dict[str, Any], what: str, body: dict[str, Any], field: str
) -> None:
    plan_id = make(api, auto)

    answer = api.post_once(f"/savings-plans/{plan_id}/{what}", body)

    assert refused(answer) == (400, "invalid_request", field)


@pytest.mark.parametrize("what", ["withdraw", "close"])
def test_the_destination_is_another_account_of_the_owner_in_the_currency(
    tenant: Tenant, other_tenant: Tenant, api: ContractClient, auto: dict[str, Any], what: str
) -> None:
    plan_id = make(api, auto)
    api.post_once(f"/savings-plans/{plan_id}/deposit", {"amount": 50})
    plan = SavingsPlan.objects.get(pk=plan_id)
    body = {"amount": 1} if what == "withdraw" else {}

    def ask(account_id: Any) -> Any:
        to = {**body, "destination_account_id": str(account_id)}
        return api.post_once(f"/savings-plans/{plan_id}/{what}", to)

    ada = making.person(tenant, Role.CUSTOMER)
    till = Account.objects.filter(tenant=tenant, type="internal", currency="USD")[0]
    for unreachable in (
        UNKNOWN,
        making.open_account(other_tenant).pk,
        making.open_account(tenant, owner_id=ada.pk).pk,
        till.pk,
    ):
        assert code_of(ask(unreachable)) == (404, "not_found")
    assert refused(ask(plan.plan_account_id))[2] == "destination_account_id"
    euros = making.open_account(tenant, currency="EUR")
    assert code_of(ask(euros.pk)) == (422, "currency_mismatch")
    shown = api.get(f"/api/v1/savings-plans/{plan_id}").json()
    assert (shown["status"], shown["balance"]) == ("active", 50)


def test_what_is_not_there_is_not_moved(
    api: ContractClient, auto: dict[str, Any], source: Account
) -> None:
    plan_id = make(api, {**auto, "target_amount": 50_000})

    too_much_in = api.post_once(f"/savings-plans/{plan_id}/deposit", {"amount": 10_001})
    too_much_out = api.post_once(f"/savings-plans/{plan_id}/withdraw", {"amount": 1})

    assert code_of(too_much_in) == code_of(too_much_out) == (422, "insufficient_funds")
    assert making.balance_of(source) == 10_000


def test_nothing_goes_through_a_source_that_was_closed(
    tenant: Tenant, api: ContractClient, auto: dict[str, Any]
) -> None:
    empty = making.open_account(tenant)
    plan_id = make(api, {**auto, "account_id": str(empty.pk)})
    making.deposit(Account.objects.get(savings_plan__id=plan_id), 60)
    assert api.post_once(f"/accounts/{empty.pk}/close", {"reason": "x"}).status_code == 200

    answers = [
        api.post_once(f"/savings-plans/{plan_id}/deposit", {"amount": 1}),
        api.post_once(f"/savings-plans/{plan_id}/withdraw", {"amount": 1}),
        api.post_once(f"/savings-plans/{plan_id}/close", {}),
    ]

    assert {code_of(answer) for answer in answers} == {(422, "account_closed")}
    # To another account it goes.
    other = making.open_account(tenant)
    to = {"destination_account_id": str(other.pk)}
    assert api.post_once(f"/savings-plans/{plan_id}/close", to).status_code == 200
    assert making.balance_of(other) == 60


# --- Not there ------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan_id", [UNKNOWN, "theirs"])
def test_what_is_not_there_is_404_at_every_door(
    api: ContractClient,
    other_tenant: Tenant,
    other_api: ContractClient,
    auto: dict[str, Any],
    plan_id: str,
) -> None:
    if plan_id == "theirs":
        foreign = making.open_account(other_tenant)
        plan_id = make(other_api, {**auto, "account_id": str(foreign.pk)})
    path = f"/savings-plans/{plan_id}"
    answers = [api.get(f"/api/v1{path}"), api.patch(f"/api/v1{path}", {"name": "x"})]
    answers.append(api.patch(f"/api/v1{path}", {"on_unlock": "keep"}))
    answers += [
        api.get(f"/api/v1{path}/{what}") for what in ("runs", "interest-postings", "projection")
    ]
    answers += [api.post_once(f"{path}/{what}", {"amount": 1}) for what in ("deposit", "withdraw")]
    answers += [api.post_once(f"{path}/{what}", {}) for what in ("close", "pause", "resume")]
    answers.append(api.post_once(f"{path}/renew", {"unlock_date": LATER}))
    answers.append(api.get(f"/api/v1/early-releases/{plan_id}"))

    assert {code_of(answer) for answer in answers} == {(404, "not_found")}


@pytest.mark.parametrize("plan_id", ["1", "all", "'"])
def test_what_is_no_id_is_nothing(api: ContractClient, plan_id: str) -> None:
    assert code_of(api.get(f"/api/v1/savings-plans/{plan_id}")) == (404, "not_found")
