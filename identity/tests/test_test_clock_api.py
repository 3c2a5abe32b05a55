"""A tenant's test clock over HTTP: started, moved on, and what falls due by it."""

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from core.models import AuditRecord
from core.permissions import Role
from identity.models import Tenant
from identity.services import create_api_key
from tests import gateways, making
from tests.contract import ContractClient

JANUARY = "2026-01-15T12:00:00Z"
CLOCK = "/api/v1/test-clock"


def start(api: ContractClient, now: str | None = JANUARY) -> Any:
    return api.post_once("/test-clock", {"now": now})


def advance(api: ContractClient, key: str | None = None, **how: Any) -> Any:
    return api.post_once("/test-clock/advance", how, key=key)


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_year_of_monthly_payments_is_one_call(tenant: Tenant, api: ContractClient) -> None:
    source, saver = making.open_account(tenant, balance=1_000), making.open_account(tenant)
    start(api)
    made = api.post_once(
        "/recurring-payments",
        {
            "source_account_id": str(source.pk),
            "destination_account_id": str(saver.pk),
            "amount": 50,
            "currency": "USD",
            "frequency": "monthly",
            "day_of_month": 31,
        },
    ).json()

    answer = advance(api, to="2026-12-31T23:59:59Z")

    assert answer.json() == {
        "now": "2026-12-31T23:59:59Z",
        "is_complete": True,
        "runs": {"recurring_payments": 12, "savings_plans": 0},
    }
    runs = api.get(f"/api/v1/recurring-payments/{made['id']}/runs").json()["results"]
    assert {run["status"] for run in runs} == {"succeeded"}
    assert [run["date"][5:] for run in reversed(runs)] == [
        *("01-31", "02-28", "03-31", "04-30", "05-31", "06-30"),
        *("07-31", "08-31", "09-30", "10-31", "11-30", "12-31"),
    ]
    # Each at its time, as the books have it too.
    assert runs[0]["ended_at"] == runs[0]["scheduled_for"] == "2026-12-31T06:00:00Z"
    moved = api.get(f"/api/v1/transactions/{runs[0]['transaction_id']}").json()
    assert moved["value_date"] == "2026-12-31"
    balance = api.get(f"/api/v1/accounts/{saver.pk}/balance").json()["balance"]
    assert balance == 600


def test_it_shows_what_it_was_set_to(api: ContractClient) -> None:
    assert code_of(api.get(CLOCK)) == (404, "not_found")

    started = start(api)

    assert (started.status_code, started.json()) == (201, {"now": JANUARY})
    assert api.get(CLOCK).json() == {"now": JANUARY}


def test_it_begins_with_the_real_time(api: ContractClient) -> None:
    before = timezone.now()

    shown = dt.datetime.fromisoformat(api.post_once("/test-clock", {}).json()["now"])

    assert before <= shown <= timezone.now()


def test_one_that_runs_is_not_set_again(api: ContractClient) -> None:
    start(api)

    assert start(api, None).json() == {"now": JANUARY}
    assert code_of(start(api, "2026-06-01T00:00:00Z")) == (409, "invalid_state")
    assert api.get(CLOCK).json() == {"now": JANUARY}


@pytest.mark.parametrize(
    ("how", "shown"),
    [
        ({"to": "2026-01-16T00:00:00Z"}, "2026-01-16T00:00:00Z"),
        ({"to": "2026-01-16T00:00:00+07:00"}, "2026-01-15T17:00:00Z"),
        ({"days": 17}, "2026-02-01T12:00:00Z"),
        ({"seconds": 90}, "2026-01-15T12:01:30Z"),
    ],
    ids=str,
)
def test_it_is_moved_to_a_time_or_by_one(
    api: ContractClient, how: dict[str, Any], shown: str
) -> None:
    start(api)

    moved = advance(api, **how).json()

    nothing = {"recurring_payments": 0, "savings_plans": 0}
    assert moved == {"now": shown, "is_complete": True, "runs": nothing}
    assert api.get(CLOCK).json() == {"now": shown}


def test_one_key_moves_it_once(api: ContractClient) -> None:
    start(api)

    first, again = (advance(api, key="k", days=1) for _ in range(2))

    assert again["Idempotent-Replayed"] == "true"
    assert first.json() == again.json()
    assert api.get(CLOCK).json() == {"now": "2026-01-16T12:00:00Z"}


def test_two_keys_move_it_twice(api: ContractClient) -> None:
    start(api)

    advance(api, days=1)
    advance(api, days=1)

    assert api.get(CLOCK).json() == {"now": "2026-01-17T12:00:00Z"}


@pytest.mark.parametrize(
    ("how", "field"),
    [
        ({}, "to"),
        ({"to": "2026-02-01T00:00:00Z", "days": 1}, "to"),
        ({"days": 1, "seconds": 1}, "to"),
        ({"to": "2026-01-15T11:59:59Z"}, "to"),
        ({"to": "2026-02-01T00:00:00"}, "to"),
        ({"to": "tomorrow"}, "to"),
        ({"to": "2032-01-15T12:00:00Z"}, "to"),
        ({"days": 0}, "days"),
        ({"days": -1}, "days"),
        ({"days": 1.5}, "days"),
        ({"days": "1"}, "days"),
        ({"days": 5 * 366 + 1}, "days"),
        ({"seconds": 2**63}, "seconds"),
    ],
    ids=str,
)
def test_a_move_that_cannot_be_is_refused(
    api: ContractClient, how: dict[str, Any], field: str
) -> None:
    start(api)

    answer = advance(api, **how)

    assert code_of(answer) == (400, "invalid_request")
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert api.get(CLOCK).json() == {"now": JANUARY}


@pytest.mark.parametrize("now", ["2126-01-01T00:00:00Z", "1999-01-01T00:00:00Z", "x", 7])
def test_a_start_that_cannot_be_is_refused(api: ContractClient, now: Any) -> None:
    assert code_of(start(api, now)) == (400, "invalid_request")
    assert api.get(CLOCK).status_code == 404


def test_time_ends_with_the_calendar(tenant: Tenant, api: ContractClient) -> None:
    start(api)
    Tenant.objects.filter(pk=tenant.pk).update(
        test_clock=dt.datetime(2999, 12, 31, 12, tzinfo=dt.UTC)
    )

    assert code_of(advance(api, days=1)) == (400, "invalid_request")


def test_without_a_clock_nothing_is_moved(api: ContractClient) -> None:
    for how in ({"days": 1}, {"to": "2030-01-01T00:00:00Z"}):
        assert code_of(advance(api, **how)) == (404, "not_found")


def test_real_money_goes_by_the_real_time(tenant: Tenant, api: ContractClient) -> None:
    live = create_api_key(
        tenant_id=tenant.pk, name="live", scopes=["admin"], mode="live", now=timezone.now()
    )

    for client in (api, making.client_of(live.clear)):
        assert code_of(start(client)) == (409, "invalid_state")


def test_beside_a_clock_nothing_goes_live(tenant: Tenant, api: ContractClient) -> None:
    start(api)
    key = {"name": "live", "scopes": ["read"], "mode": "live"}
    gateway = {
        "gateway": "xendit",
        "mode": "live",
        "currencies": ["IDR"],
        "credentials": {"secret_key": "xnd_production_0123456789"},
        "webhook_secret": gateways.XENDIT_TOKEN,
    }

    assert code_of(api.post_once("/api-keys", key)) == (409, "invalid_state")
    assert code_of(api.post_once("/gateways", gateway)) == (409, "invalid_state")
    disabled = api.post_once("/gateways", {**gateway, "is_enabled": False})
    assert disabled.status_code == 201, disabled.content
    enabled = api.patch(f"/api/v1/gateways/{disabled.json()['id']}", {"is_enabled": True})
    assert code_of(enabled) == (409, "invalid_state")


def test_only_a_key_of_all_scopes_moves_it(tenant: Tenant, api: ContractClient) -> None:
    start(api)
    callers = [making.api_client(tenant, "read", "write"), making.person_client(tenant, Role.ADMIN)]

    for caller in callers:
        assert code_of(caller.get(CLOCK)) == (403, "permission_denied")
        assert code_of(advance(caller, days=1)) == (403, "permission_denied")


def test_another_tenants_time_is_its_own(api: ContractClient, other_api: ContractClient) -> None:
    start(api)

    assert other_api.get(CLOCK).status_code == 404


def test_it_is_in_the_audit_trail(tenant: Tenant, api: ContractClient) -> None:
    start(api)
    advance(api, days=1)

    actions = AuditRecord.objects.filter(object_id=tenant.pk, action__startswith="test_clock")
    assert list(actions.order_by("pk").values_list("action", flat=True)) == [
        "test_clock.started",
        "test_clock.advanced",
    ]
