"""
Tenants never meet, nor do customers: every operation of the API in the name of each who may not.

A route that tests/sweeping.py has no case for fails here, and so does a case whose owner does not
get through with it: a refusal shows nothing where everybody is refused.
"""

import datetime as dt
import re
from typing import Any

import pytest
from django.apps import apps
from django.test import Client
from django.utils import timezone

from core.models import AuditRecord
from core.permissions import Permission, Role, role_allows, scope_allows
from identity.models import Tenant
from identity.services import create_api_key, refresh_tokens
from payments.models import GatewayConfiguration
from tests import gateways, making
from tests.back_office import signed_in
from tests.contract import ContractClient
from tests.sweeping import (
    CASES,
    Case,
    Route,
    World,
    admin_of,
    api_routes,
    other_routes,
)

PERMISSIONS = dict(api_routes())
ROUTES = sorted(PERMISSIONS)
CLOSED = [route for route in ROUTES if route not in CASES or not CASES[route].is_public]
PASSWORD = "a-long-password-of-hers"

# Which addresses outside /api/v1 answer anybody, and why that is all right.
OPEN = {
    "api/schema/": "the contract",
    "api/docs/": "the contract, to look at",
    "api/docs/errors": "the list of errors",
    "health/live": "for the load balancer",
    "health/ready": "for the load balancer",
    ".well-known/jwks.json": "public keys",
    "admin/login/": "where staff sign in",
    "admin/logout/": "ends the caller's own session",
    "admin/jsi18n/": "Django's words for scripts",
}
# Those that have a door of their own, with tests of their own.
GUARDED = {
    "metrics": "tests/test_metrics.py",
    # For whoever has the address, which nobody can guess.
    **dict.fromkeys(
        (
            "pay/<str:token>",
            "pay/<str:token>/status",
            "pay/<str:token>/invoice.pdf",
            "pay/<str:token>/receipt.pdf",
        ),
        "invoices/tests/test_pay_page.py",
    ),
}


@pytest.fixture(scope="module")
def tenant(kept_tenant: Tenant) -> Tenant:
    return kept_tenant


@pytest.fixture(scope="module")
def kept_world(tenant: Tenant, kept_sandbox: gateways.Sandbox) -> World:
    """Made once: there are a thousand requests to make of it, and hardly one changes it."""
    api = making.api_client(tenant)
    ada = making.person(tenant, Role.CUSTOMER, password=PASSWORD)
    refresh = making.tokens_of(ada).refresh
    account = making.open_account(tenant, balance=1000, owner_id=ada.pk)
    other = making.open_account(tenant, owner_id=ada.pk)
    frozen = making.open_account(tenant, owner_id=ada.pk)
    api.post_once(f"/accounts/{frozen.pk}/freeze", {"reason": "x"})
    hold = api.post_once("/holds", {"account_id": str(account.pk), "amount": 5, "currency": "USD"})
    key = create_api_key(tenant_id=tenant.pk, name="k", scopes=["read"], now=timezone.now())
    ids = {
        "user": str(ada.pk),
        "account": str(account.pk),
        "other": str(other.pk),
        "frozen": str(frozen.pk),
        "empty": str(making.open_account(tenant, owner_id=ada.pk).pk),
        "transfer": str(making.transfer(account, other, 10).id),
        "hold": hold.json()["id"],
        "api_key": str(key.api_key.pk),
        "tenant": str(tenant.pk),
        "email": ada.email,
        "password": PASSWORD,
        **gateways.one_of_everything(tenant, account),
    }
    return World(ids, refresh)


@pytest.fixture
def world(kept_world: World, db: None) -> World:
    return kept_world


def ask(client: ContractClient, route: Route, world: World, case: Case | None = None) -> Any:
    case = case or CASES[route]
    url, body = f"/api/v1{case.url(route, world)}", case.body(world)
    if case.is_signed:
        configuration = GatewayConfiguration.objects.get(pk=world["gateway"])
        return gateways.deliver(gateways.as_sent(configuration), configuration)
    headers = {"Idempotency-Key": making.fresh_key()} if route[0] == "post" else {}
    return getattr(client, route[0])(url, body, headers=headers)


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def belongings(tenant: Tenant) -> dict[str, list[Any]]:
    """All that the tenant has, in every table with a tenant; but for notes on the use of keys."""
    rows = {}
    for model in apps.get_models():
        names = {field.attname for field in model._meta.concrete_fields}
        if "tenant_id" not in names:
            continue
        noted = {"last_used_at", "last_refused_at", "last_login"}
        found = model._default_manager.filter(tenant_id=tenant.pk).order_by("pk")
        if model._meta.label == "core.AuditRecord":
            found = found.exclude(action="api_key.refused")
        rows[model._meta.label] = list(found.values(*sorted(names - noted)))
    return rows


def test_every_route_has_a_case() -> None:
    assert set(CASES) == set(ROUTES)
    for route in CLOSED:
        assert PERMISSIONS[route] is not None, f"{route} asks nothing of its caller"


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_its_owner_gets_through(world: World, tenant: Tenant, route: Route) -> None:
    answer = ask(admin_of(tenant, route), route, world)

    assert answer.status_code < 300, answer.content


@pytest.mark.parametrize("route", CLOSED, ids=" ".join)
def test_s1_another_tenant_reaches_nothing(
    world: World, tenant: Tenant, other_tenant: Tenant, route: Route
) -> None:
    stranger = admin_of(other_tenant, route)
    before = belongings(tenant)

    answer = ask(stranger, route, world)

    _assert_out_of_reach(answer, CASES[route], world)
    assert belongings(tenant) == before


@pytest.mark.parametrize("route", CLOSED, ids=" ".join)
def test_s1_a_customer_reaches_no_other_customers(
    world: World, tenant: Tenant, route: Route
) -> None:
    eve = making.person_client(tenant, Role.CUSTOMER)
    permission = PERMISSIONS[route]
    assert permission is not None
    before = belongings(tenant)

    answer = ask(eve, route, world)

    if role_allows(Role.CUSTOMER, permission):
        _assert_out_of_reach(answer, CASES[route], world, also={"tenant"})
    else:
        assert code_of(answer) == (403, "permission_denied")
    assert belongings(tenant) == before


@pytest.mark.parametrize("route", CLOSED, ids=" ".join)
def test_s4_a_reading_key_only_reads(world: World, tenant: Tenant, route: Route) -> None:
    permission = PERMISSIONS[route]
    assert permission is not None
    client = making.api_client(tenant, "read")
    before = belongings(tenant)

    answer = ask(client, route, world)

    if scope_allows(frozenset({"read"}), permission):
        assert answer.status_code == 200
        assert route[0] == "get"
    else:
        assert code_of(answer) == (403, "permission_denied")
    assert belongings(tenant) == before


@pytest.mark.parametrize("route", CLOSED, ids=" ".join)
def test_s8_an_expired_key_is_refused(world: World, tenant: Tenant, route: Route) -> None:
    now = timezone.now()
    expired = create_api_key(
        tenant_id=tenant.pk,
        name="old",
        scopes=["admin"],
        now=now - dt.timedelta(days=2),
        expires_at=now - dt.timedelta(days=1),
    )
    client = making.client_of(expired.clear)
    before = belongings(tenant)

    assert code_of(ask(client, route, world)) == (401, "key_expired")
    assert belongings(tenant) == before


@pytest.mark.parametrize("route", CLOSED, ids=" ".join)
def test_s7_nobody_is_refused(world: World, tenant: Tenant, route: Route) -> None:
    before = belongings(tenant)

    answer = ask(ContractClient(), route, world)

    assert code_of(answer) == (401, "not_authenticated")
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert belongings(tenant) == before


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("route", CLOSED, ids=" ".join)
def test_s4_a_role_does_what_the_table_says(
    world: World, tenant: Tenant, route: Route, role: Role
) -> None:
    permission: Permission | None = PERMISSIONS[route]
    assert permission is not None

    answer = ask(making.person_client(tenant, role), route, world)

    assert (answer.status_code == 403) is not role_allows(role, permission)


def test_the_customer_herself_reaches_her_own(world: World, tenant: Tenant) -> None:
    ada = making.client_of(refresh_tokens(refresh=world.refresh, now=timezone.now()).access)
    for route in CLOSED:
        permission = PERMISSIONS[route]
        assert permission is not None
        if role_allows(Role.CUSTOMER, permission):
            assert ask(ada, route, world).status_code < 300, route


def test_a_customers_lists_hold_her_own(world: World, tenant: Tenant) -> None:
    making.open_account(tenant)

    ada = making.client_of(refresh_tokens(refresh=world.refresh, now=timezone.now()).access)

    listed = {row["id"] for row in ada.get("/api/v1/accounts").json()["results"]}
    hers = {world[name] for name in ("account", "other", "frozen", "empty")}
    plans = ada.get("/api/v1/savings-plans").json()["results"]
    assert listed == hers | {plan["plan_account_id"] for plan in plans}


def test_s7_every_other_address_is_known() -> None:
    for path in other_routes():
        assert path in OPEN or path in GUARDED or path.startswith("admin/"), path


@pytest.mark.parametrize("staff", [None, "customer"])
def test_s7_the_back_office_lets_no_stranger_in(world: World, tenant: Tenant, staff: str) -> None:
    client = signed_in(tenant, staff) if staff else Client()
    walked = 0
    for path in other_routes():
        if path.startswith("admin/") and path not in OPEN:
            url = "/" + _filled(path, world)
            answer = client.get(url)
            assert answer.status_code in (302, 404, 405), url
            assert answer.status_code != 302 or "/login/" in answer["Location"], url
            walked += 1
    assert walked > 30


def test_s1_staff_of_another_tenant_see_nothing(world: World, other_tenant: Tenant) -> None:
    admin_of_another = signed_in(other_tenant, "admin")
    for path in other_routes():
        if path.startswith("admin/") and path not in OPEN:
            url = "/" + _filled(path, world)
            answer = admin_of_another.get(url, follow=True)
            text = answer.content.decode()
            for name, one in world.ids.items():
                # What they asked for by name may be said back to them.
                assert one in url or one not in text, (url, name)


def _filled(path: str, world: World) -> str:
    """Return the path with an id of the world's that fits its model."""
    by_model = {
        "accounts/account": "account",
        "identity/apikey": "api_key",
        "identity/tenant": "tenant",
        "identity/user": "user",
        "invoices/invoice": "invoice",
        "ledger/hold": "hold",
        "ledger/transaction": "transfer",
        "payments/gatewayconfiguration": "gateway",
        "payments/payment": "topup",
        "payments/payout": "payout",
        "payments/calendarday": "calendar_day",
        "payments/recurringpayment": "recurring_payment",
        "webhooks/inboundevent": "failed_webhook",
    }
    model = "/".join(path.split("/")[1:3])
    if model == "core/auditrecord":
        # A number, which occurs anywhere: not one to look for.
        record = AuditRecord.objects.filter(tenant_id=world["tenant"]).first()
        assert record is not None
        return re.sub(r"<[a-z:_]+>", str(record.pk), path)
    if model in by_model:
        return re.sub(r"<[a-z:_]+>", world[by_model[model]], path)
    # Django's own: by content type and id; and two regular expressions.
    return re.sub(r"\^?\(.*|<path:\w+>", lambda part: "1" if part[0][0] == "<" else "", path)


def _assert_out_of_reach(
    answer: Any, case: Case, world: World, also: frozenset[str] | set[str] = frozenset()
) -> None:
    if case.is_batch and answer.status_code == 200:
        assert {result["code"] for result in answer.json()["results"]} == {"account_not_found"}
    elif case.names_another:
        assert code_of(answer) == (404, "not_found")
    else:
        assert answer.status_code < 300
        text = answer.content.decode()
        for name, one in world.ids.items():
            # Their own tenant is no secret to people of one tenant.
            assert name in also or one not in text, name
