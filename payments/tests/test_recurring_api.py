"""Recurring payments and the calendar over HTTP: what is taken, shown, refused, and to whom."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Account
from core.models import AuditRecord
from core.permissions import Role
from identity.models import Tenant
from identity.services import start_test_clock
from payments.models import RecurringPayment
from tests import gateways, making, recurring
from tests.contract import ContractClient

JANUARY = recurring.utc("2026-01-15")
ACCOUNT = "0199c0de-7e57-7000-8000-000000000001"
IBAN = {"name": "Budi", "country": "DE", "iban": "DE89370400440532013000"}


@pytest.fixture
def source(tenant: Tenant) -> Account:
    return making.open_account(tenant, balance=10_000)


@pytest.fixture
def saver(tenant: Tenant) -> Account:
    return making.open_account(tenant)


@pytest.fixture
def body(source: Account, saver: Account) -> dict[str, Any]:
    return {
        "source_account_id": str(source.pk),
        "destination_account_id": str(saver.pk),
        "amount": 100,
        "currency": "USD",
        "frequency": "monthly",
    }


@pytest.fixture
def january(tenant: Tenant) -> None:
    """The tenant's clock shows 15 January 2026."""
    start_test_clock(tenant_id=tenant.pk, at=JANUARY, now=timezone.now())


def make(api: ContractClient, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = api.post_once("/recurring-payments", {**body, **more})
    assert answer.status_code == 201, answer.content
    made: dict[str, Any] = answer.json()
    return made


def path_of(made: dict[str, Any], more: str = "") -> str:
    return f"/api/v1/recurring-payments/{made['id']}{more}"


def act(api: ContractClient, made: dict[str, Any], what: str, **more: Any) -> Any:
    return api.post_once(f"/recurring-payments/{made['id']}/{what}", more)


def refused(answer: Any) -> tuple[int, str, str]:
    """Return status, code, and the field that is to blame."""
    problem = answer.json()
    [field] = [error["field"] for error in problem["errors"]] or [""]
    return answer.status_code, problem["code"], field


# --- Making one ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("january")
def test_it_shows_all_that_was_asked_for(api: ContractClient, body: dict[str, Any]) -> None:
    asked = {
        "day_of_month": 31,
        "interval": 2,
        "time_zone": "Asia/Jakarta",
        "run_at": "09:30",
        "business_day_adjustment": "modified_following",
        "holidays": "ID",
        "start_date": "2026-01-20",
        "end_date": "2027-01-20",
        "count": 5,
        "min_balance": 500,
        "on_insufficient_funds": {
            "action": "retry",
            "retry_count": 5,
            "retry_interval_minutes": 30,
        },
        "pause_after_failures": None,
        "catch_up": "run_all",
        "max_lateness_days": 3,
        "description": "Savings",
        "metadata": {"goal": "house"},
        "external_id": "order-1",
    }

    made = make(api, body, **asked)

    assert {name: made[name] for name in asked} == asked
    assert made["rule"] == "every 2 months on the 31st, or the month's last day"
    # 31 January 2026 is a Saturday; 09:30 in Jakarta is 02:30 in London.
    assert (made["next_nominal_date"], made["next_date"]) == ("2026-01-31", "2026-01-30")
    assert made["next_run_at"] == "2026-01-30T02:30:00Z"
    assert (made["kind"], made["status"], made["status_reason"]) == ("internal", "active", None)
    assert api.get(path_of(made)).json() == made


def test_what_is_left_out_has_its_default(api: ContractClient, body: dict[str, Any]) -> None:
    made = make(api, body)

    assert made["amount_type"] == "fixed"
    assert made["trigger"] == {"type": "schedule"}
    assert (made["interval"], made["run_at"], made["time_zone"]) == (1, "06:00", "UTC")
    assert (made["business_day_adjustment"], made["holidays"]) == ("none", "")
    assert made["on_insufficient_funds"] == {
        "action": "retry",
        "retry_count": 3,
        "retry_interval_minutes": 360,
    }
    assert (made["pause_after_failures"], made["catch_up"]) == (3, "run_once")
    assert (made["max_lateness_days"], made["end_date"], made["count"]) == (7, None, None)
    assert made["managed_by"] is None


def test_one_by_salary_has_a_share_of_it(
    api: ContractClient, body: dict[str, Any], saver: Account
) -> None:
    sender = ACCOUNT
    body = {name: value for name, value in body.items() if name not in ("amount", "frequency")}
    trigger = {
        "type": "salary",
        "min_amount": 1_000,
        "sender_account_id": sender,
        "description_pattern": "salary*",
        "from_day": 25,
        "to_day": 5,
    }

    made = make(api, body, amount_type="percentage", percent=12.5, trigger=trigger)

    assert (made["percent"], made["amount"], made["frequency"]) == ("12.5", None, None)
    assert made["trigger"] == trigger
    assert made["rule"] == "when a salary comes"
    assert made["next_run_at"] is None


def test_one_to_a_beneficiary_elsewhere_is_external(tenant: Tenant, api: ContractClient) -> None:
    gateways.add_bank_file(tenant)
    source = making.open_account(tenant, currency="EUR")
    body = {"source_account_id": str(source.pk), "amount": 1, "currency": "EUR"}

    made = make(api, body, beneficiary=IBAN, gateway="bank_file", frequency="yearly")

    assert (made["kind"], made["destination_account_id"]) == ("external", None)
    assert made["beneficiary"] == {**IBAN, "account_number": "", "bank_code": "", "town": ""}
    assert made["gateway"] == "bank_file"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": 0}, "amount"),
        ({"amount": -1}, "amount"),
        ({"amount": "100"}, "amount"),
        ({"amount": 1.5}, "amount"),
        ({"amount": 2**63}, "amount"),
        ({"amount": None}, "amount"),
        ({"amount_type": "nothing"}, "amount_type"),
        ({"percent": 5}, "percent"),
        ({"floor_amount": 5}, "floor_amount"),
        ({"amount_type": "percentage", "amount": None, "percent": 5}, "amount_type"),
        ({"amount_type": "sweep", "amount": None}, "floor_amount"),
        ({"amount_type": "sweep", "amount": None, "floor_amount": -1}, "floor_amount"),
        ({"min_balance": -1}, "min_balance"),
        ({"currency": "XXX"}, "currency"),
        ({"currency": None}, "currency"),
        ({"frequency": "hourly"}, "frequency"),
        ({"frequency": ""}, "frequency"),
        ({"interval": 0}, "interval"),
        ({"interval": 367}, "interval"),
        ({"interval": "2"}, "interval"),
        ({"day_of_month": 0}, "day_of_month"),
        ({"day_of_month": 32}, "day_of_month"),
        ({"day_of_month": -6}, "day_of_month"),
        ({"frequency": "weekly", "day_of_month": 1}, "day_of_month"),
        ({"rrule": "FREQ=DAILY"}, "rrule"),
        ({"frequency": "rrule"}, "rrule"),
        ({"frequency": "rrule", "rrule": "FREQ=HOURLY"}, "rrule"),
        ({"frequency": "rrule", "rrule": "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"}, "rrule"),
        ({"frequency": "rrule", "rrule": "FREQ=DAILY", "interval": 2}, "interval"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "UTC\x00"}, "time_zone"),
        ({"time_zone": 7}, "time_zone"),
        ({"run_at": "24:00"}, "run_at"),
        ({"run_at": "6:00"}, "run_at"),
        ({"run_at": 600}, "run_at"),
        ({"business_day_adjustment": "sometimes"}, "business_day_adjustment"),
        ({"holidays": "XX"}, "holidays"),
        ({"holidays": "MY-99"}, "holidays"),
        ({"start_date": "2020-01-01"}, "start_date"),
        ({"start_date": "3000-01-01"}, "start_date"),
        ({"start_date": "2999-01-01"}, "start_date"),
        ({"start_date": "2026-02-30"}, "start_date"),
        ({"start_date": "2030-02-01", "end_date": "2030-01-31"}, "end_date"),
        ({"start_date": "2030-01-02", "day_of_month": 1, "end_date": "2030-01-31"}, "end_date"),
        ({"count": 0}, "count"),
        ({"count": 2**31}, "count"),
        ({"trigger": {}}, "trigger.type"),
        ({"trigger": "salary"}, "trigger"),
        ({"trigger": {"type": "salary"}}, "frequency"),
        ({"trigger": {"type": "schedule", "from_day": 1}}, "trigger.from_day"),
        ({"trigger": {"type": "salary", "form_day": 1}}, "trigger.form_day"),
        ({"trigger": {"type": "salary", "from_day": 0}}, "trigger.from_day"),
        ({"trigger": {"type": "salary", "from_day": 1}}, "trigger.to_day"),
        ({"trigger": {"type": "salary", "min_amount": 0}}, "trigger.min_amount"),
        ({"trigger": {"type": "salary", "sender_account_id": 7}}, "trigger.sender_account_id"),
        ({"on_insufficient_funds": {"action": "cry"}}, "on_insufficient_funds.action"),
        ({"on_insufficient_funds": {"retry_count": 31}}, "on_insufficient_funds.retry_count"),
        ({"on_insufficient_funds": {"times": 3}}, "on_insufficient_funds.times"),
        (
            {"on_insufficient_funds": {"retry_interval_minutes": 0}},
            "on_insufficient_funds.retry_interval_minutes",
        ),
        ({"pause_after_failures": 0}, "pause_after_failures"),
        ({"catch_up": "never"}, "catch_up"),
        ({"max_lateness_days": -1}, "max_lateness_days"),
        ({"description": "x" * 141}, "description"),
        ({"description": "card 4242 4242 4242 4242"}, "description"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"external_id": ""}, "external_id"),
        ({"external_id": "x" * 201}, "external_id"),
        ({"source_account_id": "mine"}, "source_account_id"),
        ({"beneficiary": IBAN}, "destination_account_id"),
        ({"destination_account_id": None}, "destination_account_id"),
        ({"beneficiary": {**IBAN, "ibn": "x"}}, "beneficiary.ibn"),
        ({"beneficiary": {**IBAN, "country": "Germany"}}, "beneficiary.country"),
        ({"gateway": "paypal"}, "gateway"),
        ({"frequencey": "daily"}, "frequencey"),
    ],
    ids=str,
)
def test_bad_input_is_refused_by_its_field(
    api: ContractClient, body: dict[str, Any], changes: dict[str, Any], field: str
) -> None:
    answer = api.post_once("/recurring-payments", {**body, **changes})

    assert refused(answer) == (400, "invalid_request", field)
    assert not RecurringPayment.objects.exists()


def test_the_source_is_no_destination(api: ContractClient, body: dict[str, Any]) -> None:
    itself = {**body, "destination_account_id": body["source_account_id"]}

    answer = api.post_once("/recurring-payments", itself)

    assert refused(answer) == (400, "invalid_request", "destination_account_id")


def test_accounts_are_the_tenants_open_and_of_one_currency(
    tenant: Tenant, other_tenant: Tenant, api: ContractClient, body: dict[str, Any]
) -> None:
    foreign = making.open_account(other_tenant)
    euros = making.open_account(tenant, currency="EUR")
    closed = making.open_account(tenant)
    api.post_once(f"/accounts/{closed.pk}/close", {"reason": "x"})
    till = Account.objects.filter(tenant=tenant, type="internal")[0]

    def ask(account: Account, name: str) -> tuple[int, str]:
        answer = api.post_once("/recurring-payments", {**body, name: str(account.pk)})
        return answer.status_code, answer.json()["code"]

    for name in ("source_account_id", "destination_account_id"):
        assert ask(foreign, name) == (404, "not_found")
        assert ask(till, name) == (404, "not_found")
        assert ask(euros, name) == (422, "currency_mismatch")
        assert ask(closed, name) == (422, "account_closed")


def test_an_external_id_is_taken_once(api: ContractClient, body: dict[str, Any]) -> None:
    make(api, body, external_id="order-1")

    answer = api.post_once("/recurring-payments", {**body, "external_id": "order-1"})

    assert (answer.status_code, answer.json()["code"]) == (409, "already_exists")


def test_one_key_makes_one(api: ContractClient, body: dict[str, Any]) -> None:
    first = api.post_once("/recurring-payments", body, key="k")
    again = api.post_once("/recurring-payments", body, key="k")

    assert again["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    assert RecurringPayment.objects.count() == 1


# --- Changing it ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("january")
def test_a_change_counts_dates_anew(api: ContractClient, body: dict[str, Any]) -> None:
    made = make(api, body)

    answer = api.patch(path_of(made), {"amount": 250, "day_of_month": 20, "run_at": "23:59"})

    changed = answer.json()
    assert (answer.status_code, changed["version"]) == (200, 2)
    assert (changed["amount"], changed["next_run_at"]) == (250, "2026-01-20T23:59:00Z")
    assert {**changed, "updated_at": ""} == {
        **made,
        "amount": 250,
        "day_of_month": 20,
        "run_at": "23:59",
        "rule": "every month on the 20th",
        "next_run_at": "2026-01-20T23:59:00Z",
        "next_date": "2026-01-20",
        "next_nominal_date": "2026-01-20",
        "version": 2,
        "updated_at": "",
    }


def test_a_part_of_a_policy_leaves_the_rest(api: ContractClient, body: dict[str, Any]) -> None:
    made = make(api, body)

    changed = api.patch(path_of(made), {"on_insufficient_funds": {"retry_count": 1}}).json()

    assert changed["on_insufficient_funds"] == {
        "action": "retry",
        "retry_count": 1,
        "retry_interval_minutes": 360,
    }


def test_another_type_of_amount_takes_the_place_of_the_old(
    api: ContractClient, body: dict[str, Any]
) -> None:
    made = make(api, body)

    changed = api.patch(path_of(made), {"amount_type": "sweep", "floor_amount": 0}).json()

    assert (changed["amount_type"], changed["amount"], changed["floor_amount"]) == (
        "sweep",
        None,
        0,
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"currency": "EUR"}, "currency"),
        ({"source_account_id": ACCOUNT}, "source_account_id"),
        ({"beneficiary": IBAN}, "beneficiary"),
        ({"status": "active"}, "status"),
        ({"next_run_at": "2030-01-01T00:00:00Z"}, "next_run_at"),
        ({"amount": 0}, "amount"),
        ({"amount": None}, "amount"),
        ({"frequency": "weekly", "day_of_month": 3}, "day_of_month"),
        ({"end_date": "2020-01-01"}, "end_date"),
        ({"trigger": {"type": "salary"}}, "trigger"),
        ({"metadata": []}, "metadata"),
    ],
    ids=str,
)
def test_a_change_that_cannot_be_is_refused_by_its_field(
    api: ContractClient, body: dict[str, Any], changes: dict[str, Any], field: str
) -> None:
    made = make(api, body)

    answer = api.patch(path_of(made), changes)

    assert refused(answer) == (400, "invalid_request", field)
    assert api.get(path_of(made)).json() == made


def test_a_change_of_what_somebody_else_has_changed_is_refused(
    api: ContractClient, body: dict[str, Any]
) -> None:
    made = make(api, body)
    seen = api.get(path_of(made))["ETag"]
    assert api.patch(path_of(made), {"amount": 1}, headers={"If-Match": seen}).status_code == 200

    answer = api.patch(path_of(made), {"amount": 2}, headers={"If-Match": seen})

    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    assert api.get(path_of(made)).json()["amount"] == 1


# --- Pausing, resuming, cancelling ----------------------------------------------------------------


def test_it_is_paused_resumed_and_cancelled_for_a_reason(
    api: ContractClient, body: dict[str, Any]
) -> None:
    made = make(api, body, start_date="2030-01-31")

    paused = act(api, made, "pause", reason="on holiday").json()
    resumed = act(api, made, "resume", reason="back").json()
    cancelled = act(api, made, "cancel").json()

    assert (paused["status"], paused["status_reason"]) == ("paused", "by_request")
    assert (resumed["status"], resumed["status_reason"]) == ("active", None)
    assert resumed["next_run_at"] == made["next_run_at"]
    assert (cancelled["status"], cancelled["next_run_at"]) == ("cancelled", None)
    records = AuditRecord.objects.filter(object_id=made["id"]).order_by("pk")
    assert [(record.action, record.reason) for record in records] == [
        ("recurring_payment.created", ""),
        ("recurring_payment.paused", "on holiday"),
        ("recurring_payment.resumed", "back"),
        ("recurring_payment.cancelled", ""),
    ]


def test_what_has_ended_stays_so(api: ContractClient, body: dict[str, Any]) -> None:
    made = make(api, body)
    act(api, made, "cancel")

    answers = [act(api, made, what) for what in ("pause", "resume")]
    answers.append(api.patch(path_of(made), {"amount": 1}))

    assert {(each.status_code, each.json()["code"]) for each in answers} == {(409, "invalid_state")}
    # Asked for twice is done.
    assert act(api, made, "cancel").status_code == 200


def test_an_act_takes_nothing_but_a_reason(api: ContractClient, body: dict[str, Any]) -> None:
    made = make(api, body)

    assert refused(act(api, made, "pause", until="2030-01-01")) == (
        400,
        "invalid_request",
        "until",
    )
    assert refused(act(api, made, "cancel", reason="x" * 501))[2] == "reason"


# --- Seeing it ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("january")
def test_the_next_dates_are_foreseen(api: ContractClient, body: dict[str, Any]) -> None:
    made = make(api, body, day_of_month=31, business_day_adjustment="modified_following", count=2)

    coming = api.get(path_of(made, "/preview?count=100")).json()["results"]

    assert coming == [
        {
            "number": 0,
            "nominal_date": "2026-01-31",
            "date": "2026-01-30",
            "run_at": "2026-01-30T06:00:00Z",
        },
        {
            "number": 1,
            "nominal_date": "2026-02-28",
            "date": "2026-02-27",
            "run_at": "2026-02-27T06:00:00Z",
        },
    ]


def test_as_many_are_foreseen_as_asked_for(api: ContractClient, body: dict[str, Any]) -> None:
    made = make(api, body)

    counts = [
        len(api.get(path_of(made, f"/preview{query}")).json()["results"])
        for query in ("", "?count=1", "?count=100")
    ]

    assert counts == [12, 1, 100]


@pytest.mark.parametrize("count", ["0", "101", "-1", "ten", "1.5", "9" * 40, "²"])
def test_a_count_that_cannot_be_is_refused(
    api: ContractClient, body: dict[str, Any], count: str
) -> None:
    made = make(api, body)

    assert refused(api.get(path_of(made, f"/preview?count={count}"))) == (
        400,
        "invalid_request",
        "count",
    )


def test_runs_say_what_came_of_them(
    api: ContractClient, source: Account, saver: Account, tenant: Tenant
) -> None:
    payment = recurring.order(
        source, saver, now=JANUARY, frequency="daily", amount=6_000, retry_count=0
    )
    for day in (15, 16):
        recurring.run(recurring.utc(f"2026-01-{day}T12:00"))

    failed, paid = api.get(f"/api/v1/recurring-payments/{payment.pk}/runs").json()["results"]

    assert (paid["status"], paid["amount"], paid["date"]) == ("succeeded", 6_000, "2026-01-15")
    moved = api.get(f"/api/v1/transactions/{paid['transaction_id']}").json()
    assert (moved["type"], moved["amount"]) == ("recurring_payment", 6_000)
    assert (failed["status"], failed["error_code"]) == ("failed", "insufficient_funds")
    assert (failed["transaction_id"], failed["attempts"]) == (None, 1)
    only = api.get(f"/api/v1/recurring-payments/{payment.pk}/runs?status=failed").json()
    assert [each["id"] for each in only["results"]] == [failed["id"]]


def test_pages_of_runs_stay_as_they_are_while_more_come(
    api: ContractClient, source: Account, saver: Account
) -> None:
    payment = recurring.order(source, saver, now=JANUARY, frequency="daily", amount=1)
    for day in (15, 16, 17):
        recurring.run(recurring.utc(f"2026-01-{day}T12:00"))
    first = api.get(f"/api/v1/recurring-payments/{payment.pk}/runs?limit=2").json()

    recurring.run(recurring.utc("2026-01-18T12:00"))
    second = api.get(first["next"]).json()

    dates = [each["date"] for each in first["results"] + second["results"]]
    assert dates == ["2026-01-17", "2026-01-16", "2026-01-15"]
    assert second["next"] is None


def test_pages_of_payments_hold_each_once(api: ContractClient, body: dict[str, Any]) -> None:
    made = [make(api, body)["id"] for _ in range(3)]
    first = api.get("/api/v1/recurring-payments?limit=2").json()

    make(api, body)
    second = api.get(first["next"]).json()

    seen = [each["id"] for each in first["results"] + second["results"]]
    assert seen == made[::-1]


def test_a_page_costs_the_same_however_many_are_on_it(
    api: ContractClient, body: dict[str, Any]
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            api.get("/api/v1/recurring-payments")
        return len(asked)

    make(api, body)
    one = queries()
    for _ in range(3):
        make(api, body)

    assert queries() == one


def test_lists_are_filtered(
    tenant: Tenant, api: ContractClient, body: dict[str, Any], saver: Account
) -> None:
    gateways.add_bank_file(tenant)
    other = making.open_account(tenant)
    plain = make(api, body, external_id="order-1")["id"]
    elsewhere = {**body, "destination_account_id": None}
    outside = make(api, {**elsewhere, "beneficiary": IBAN})["id"]
    back = make(
        api,
        {**body, "source_account_id": str(saver.pk), "destination_account_id": str(other.pk)},
    )
    act(api, back, "pause")
    unscheduled = {name: value for name, value in body.items() if name != "frequency"}
    by_salary = make(api, unscheduled, trigger={"type": "salary"})["id"]

    def ids(query: str) -> set[str]:
        rows = api.get(f"/api/v1/recurring-payments?{query}").json()["results"]
        return {row["id"] for row in rows}

    assert ids("status=paused") == {back["id"]}
    assert ids("kind=external") == {outside}
    assert ids("external_id=order-1") == {plain}
    # From it or to it.
    assert ids(f"account_id={saver.pk}") == {plain, by_salary, back["id"]}
    assert ids("trigger=salary") == {by_salary}
    assert ids("trigger=schedule") == {plain, outside, back["id"]}


@pytest.mark.parametrize(
    "query", ["status=dead", "kind=x", "trigger=x", "account_id=7", "state=active", "limit=0"]
)
def test_a_filter_that_cannot_be_meant_is_refused(api: ContractClient, query: str) -> None:
    answer = api.get(f"/api/v1/recurring-payments?{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


# --- Who ------------------------------------------------------------------------------------------


def test_a_customer_has_their_own_accounts_paid_from(tenant: Tenant) -> None:
    ada, eve = (making.person(tenant, Role.CUSTOMER) for _ in range(2))
    own = making.open_account(tenant, owner_id=ada.pk)
    foreign = making.open_account(tenant, owner_id=eve.pk)
    hers = making.client_of(making.tokens_of(ada).access)
    theirs = making.client_of(making.tokens_of(eve).access)
    order = {"amount": 1, "currency": "USD", "frequency": "monthly"}

    def ask(source: Account, destination: Account) -> Any:
        ids = {
            "source_account_id": str(source.pk),
            "destination_account_id": str(destination.pk),
        }
        return hers.post_once("/recurring-payments", {**order, **ids})

    made = ask(own, foreign)
    assert made.status_code == 201, made.content
    assert (ask(foreign, own).status_code, ask(foreign, own).json()["code"]) == (404, "not_found")
    # Whom it is paid to has no business with it.
    assert theirs.get("/api/v1/recurring-payments").json()["results"] == []
    for answer in (
        theirs.get(path_of(made.json())),
        theirs.get(path_of(made.json(), "/runs")),
        theirs.get(path_of(made.json(), "/preview")),
        theirs.patch(path_of(made.json()), {"amount": 2}),
        act(theirs, made.json(), "cancel"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert hers.patch(path_of(made.json()), {"amount": 2}).json()["amount"] == 2


def test_another_tenants_do_not_exist(
    api: ContractClient, other_api: ContractClient, body: dict[str, Any]
) -> None:
    made = make(api, body)

    assert other_api.get("/api/v1/recurring-payments").json()["results"] == []
    assert other_api.get(path_of(made)).status_code == 404
    assert other_api.get(path_of(made, "/runs")).status_code == 404
    assert act(other_api, made, "pause").status_code == 404


# --- The calendar ---------------------------------------------------------------------------------


def add_day(api: ContractClient, date: str, **more: Any) -> Any:
    return api.post_once("/calendar-days", {"date": date, "name": "Founders' day", **more})


@pytest.mark.usefixtures("january")
def test_a_day_off_moves_what_is_due_on_it_and_back(
    api: ContractClient, body: dict[str, Any]
) -> None:
    moved = make(api, body, start_date="2026-01-21", business_day_adjustment="next")
    fixed = make(api, body, start_date="2026-01-21")

    day = add_day(api, "2026-01-21").json()

    assert day["is_business_day"] is False
    shown = api.get(path_of(moved)).json()
    assert (shown["next_nominal_date"], shown["next_date"]) == ("2026-01-21", "2026-01-22")
    assert shown["next_run_at"] == "2026-01-22T06:00:00Z"
    assert api.get(path_of(fixed)).json() == fixed

    assert api.delete(f"/api/v1/calendar-days/{day['id']}").status_code == 204

    assert api.get(path_of(moved)).json()["next_date"] == "2026-01-21"
    assert api.get("/api/v1/calendar-days").json()["results"] == []


@pytest.mark.usefixtures("january")
def test_a_working_saturday_is_worked_on(api: ContractClient, body: dict[str, Any]) -> None:
    made = make(api, body, start_date="2026-01-24", business_day_adjustment="next")
    assert made["next_date"] == "2026-01-26"

    add_day(api, "2026-01-24", is_business_day=True)

    assert api.get(path_of(made)).json()["next_date"] == "2026-01-24"


@pytest.mark.usefixtures("january")
def test_days_of_another_tenant_move_nothing(
    api: ContractClient, other_api: ContractClient, body: dict[str, Any]
) -> None:
    made = make(api, body, start_date="2026-01-21", business_day_adjustment="next")

    theirs = add_day(other_api, "2026-01-21").json()

    assert api.get(path_of(made)).json() == made
    assert api.get("/api/v1/calendar-days").json()["results"] == []
    assert api.delete(f"/api/v1/calendar-days/{theirs['id']}").status_code == 404


@pytest.mark.usefixtures("january")
def test_however_many_are_due_all_are_moved(
    api: ContractClient, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("payments.services.recurring.days._BATCH", 2)
    for _ in range(5):
        make(api, body, start_date="2026-01-21", business_day_adjustment="next")

    add_day(api, "2026-01-21")

    listed = api.get("/api/v1/recurring-payments").json()["results"]
    assert [each["next_date"] for each in listed] == ["2026-01-22"] * 5


def test_a_calendar_has_an_end(api: ContractClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("payments.services.recurring.days.DAYS_MAX", 1)
    add_day(api, "2030-05-01")

    answer = add_day(api, "2030-05-02")

    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")


def test_a_day_is_said_once(api: ContractClient) -> None:
    assert add_day(api, "2030-05-01").status_code == 201

    again = add_day(api, "2030-05-01")

    assert (again.status_code, again.json()["code"]) == (409, "already_exists")


def test_days_are_listed_the_latest_first(api: ContractClient) -> None:
    for date in ("2030-05-01", "2031-01-01", "2030-12-24"):
        add_day(api, date)

    first = api.get("/api/v1/calendar-days?limit=2").json()
    second = api.get(first["next"]).json()

    dates = [day["date"] for day in first["results"] + second["results"]]
    assert dates == ["2031-01-01", "2030-12-24", "2030-05-01"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"date": "2030-02-30"}, "date"),
        ({"date": "3000-01-01"}, "date"),
        ({"date": None}, "date"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"is_business_day": 1}, "is_business_day"),
        ({"is_holiday": True}, "is_holiday"),
    ],
    ids=str,
)
def test_a_day_that_cannot_be_is_refused_by_its_field(
    api: ContractClient, changes: dict[str, Any], field: str
) -> None:
    answer = api.post_once("/calendar-days", {"date": "2030-01-01", "name": "x", **changes})

    assert refused(answer) == (400, "invalid_request", field)


def test_both_are_in_the_audit_trail(api: ContractClient) -> None:
    day = add_day(api, "2030-05-01").json()
    api.delete(f"/api/v1/calendar-days/{day['id']}")

    added, removed = AuditRecord.objects.filter(object_id=day["id"]).order_by("pk")

    assert (added.action, added.after) == (
        "calendar_day.added",
        {"date": "2030-05-01", "name": "Founders' day", "is_business_day": False},
    )
    assert (removed.action, removed.before) == ("calendar_day.removed", added.after)
