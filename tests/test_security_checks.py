"""
Checks of docs/security.md that belong to no one place; each is named by its number there.
"""

import ast
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings, settings
from django.db import connection
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from accounts.models import Account
from core.models import AuditRecord, IdempotencyRecord, OutboxEvent
from core.permissions import Role
from identity.models import ApiKey, Tenant, User
from identity.services import create_api_key
from tests import making
from tests.contract import ContractClient, document
from tests.sweeping import CASES, api_routes, other_routes

APPS = ["core", "identity", "accounts", "ledger", "payments", "config"]


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for app in APPS:
        for path in sorted((settings.BASE_DIR / app).rglob("*.py")):
            if "tests" not in path.parts and "migrations" not in path.parts:
                yield path, ast.parse(path.read_text(encoding="utf-8"))


def pair(tenant: Tenant) -> tuple[Account, Account]:
    return making.open_account(tenant, balance=1_000), making.open_account(tenant)


# --- S2: ids in cursors and idempotency keys ---------------------------------------------------
def test_s2_another_tenants_cursor_leads_nowhere(
    api: ContractClient, other_api: ContractClient, tenant: Tenant, other_tenant: Tenant
) -> None:
    for each in (tenant, tenant, tenant, other_tenant):
        making.open_account(each)
    following = api.get("/api/v1/accounts?limit=1").json()["next"]

    answer = other_api.get(following.replace("http://testserver", ""))

    theirs = {str(pk) for pk in Account.objects.filter(tenant=tenant).values_list("pk", flat=True)}
    assert answer.status_code in (200, 400)
    assert not any(one in answer.content.decode() for one in theirs)


def test_s2_tenants_may_use_one_idempotency_key(
    api: ContractClient, other_api: ContractClient, tenant: Tenant, other_tenant: Tenant
) -> None:
    bodies = []
    for each, client in ((tenant, api), (other_tenant, other_api)):
        ada, ben = pair(each)
        order = {
            "source_account_id": str(ada.pk),
            "destination_account_id": str(ben.pk),
            "amount": 10,
            "currency": "USD",
        }
        for path, body in (
            ("/transfers", order),
            ("/accounts", {"type": "checking", "currency": "USD"}),
        ):
            answer = client.post_once(path, body, key=f"shared{path.replace('/', '-')}")
            assert answer.status_code == 201
            assert "Idempotent-Replayed" not in answer
            bodies.append(answer.json()["id"])
    assert len(set(bodies)) == 4


def test_s2_customers_of_one_tenant_may_too(tenant: Tenant) -> None:
    ids = []
    for _ in range(2):
        person = making.person(tenant, Role.CUSTOMER)
        ada = making.open_account(tenant, balance=100, owner_id=person.pk)
        body = {"destination_account_id": str(making.open_account(tenant).pk), "amount": 1}
        client = making.client_of(making.tokens_of(person).access)
        answer = client.post_once(
            f"/accounts/{ada.pk}/transfers", {**body, "currency": "USD"}, key="mine"
        )
        assert answer.status_code == 201, answer.content
        ids.append(answer.json()["id"])
    assert len(set(ids)) == 2


# --- S5: fields that nobody asked for ----------------------------------------------------------
SURPLUS: dict[str, Any] = {
    "id": "0199c0de-7e57-7000-8000-000000000001",
    "tenant": "0199c0de-7e57-7000-8000-000000000001",
    "tenant_id": "0199c0de-7e57-7000-8000-000000000001",
    "balance": 999_999,
    "held": -5,
    "status": "active",
    "version": 99,
    "is_staff": True,
    "is_superuser": True,
    "created_at": "2001-01-01T00:00:00Z",
    "role_of_bank": "cash",
    "balance_after": 1,
    "digest": "00",
    "actor_id": "user:x",
    "approved_by": "user:x",
}


def test_s5_an_account_has_what_the_bank_gives_it(api: ContractClient, tenant: Tenant) -> None:
    body = {"type": "checking", "currency": "USD", **SURPLUS, "role": "cash"}
    made = api.post_once("/accounts", body)
    assert made.status_code == 201
    account = Account.objects.get(pk=made.json()["id"])
    assert account.tenant_id == tenant.pk
    assert (account.balance, account.held, account.role) == (0, 0, None)
    assert account.created_at.year > 2001

    changed = api.patch(f"/api/v1/accounts/{account.pk}", {"name": "x", "balance": 5})
    assert (changed.status_code, changed.json()["errors"][0]["field"]) == (400, "balance")


def test_s5_a_person_becomes_no_superuser(api: ContractClient, tenant: Tenant) -> None:
    body = {"email": "e@bank.test", "password": "a-long-password-1", "role": "auditor", **SURPLUS}
    made = api.post_once("/users", body)
    assert made.status_code == 201
    user = User.objects.get(email="e@bank.test")
    assert (user.tenant_id, user.is_superuser, user.role) == (tenant.pk, False, "auditor")

    for field in ("is_superuser", "is_staff", "tenant_id", "email", "password"):
        answer = api.patch(f"/api/v1/users/{user.pk}", {field: True})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


def test_s5_a_key_is_what_its_maker_asked_for(api: ContractClient, tenant: Tenant) -> None:
    made = api.post_once("/api-keys", {"name": "k", "scopes": ["read"], **SURPLUS})
    assert made.status_code == 201
    key = ApiKey.objects.get(pk=made.json()["id"])
    assert (key.tenant_id, key.scopes) == (tenant.pk, ["read"])


def test_s5_a_transfer_says_nothing_of_balances(api: ContractClient, tenant: Tenant) -> None:
    ada, ben = pair(tenant)
    body = {
        "source_account_id": str(ada.pk),
        "destination_account_id": str(ben.pk),
        "amount": 10,
        "currency": "USD",
        **SURPLUS,
        "source_balance_after": 5_000,
    }
    made = api.post_once("/transfers", body).json()
    assert made["source_balance_after"] == 990
    assert made["id"] != SURPLUS["id"]
    assert making.balance_of(ada) == 990


def test_s5_no_serializer_takes_whatever_its_model_has() -> None:
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == "Meta":
                for each in ast.walk(node):
                    if isinstance(each, ast.Assign):
                        names = {getattr(target, "id", "") for target in each.targets}
                        is_all = getattr(each.value, "value", None) == "__all__"
                        assert not ("fields" in names and is_all), path
                        if "api" in path.parts:
                            assert "exclude" not in names, path


# --- S6: nothing that is nobody's business -----------------------------------------------------
def test_s6_no_answer_has_a_secret_in_it(tenant: Tenant, api: ContractClient) -> None:
    """That answers have no field beyond the document's, tests.contract checks in every test."""
    making.person(tenant, Role.CUSTOMER, password="a-long-password-of-hers")
    digests = [bytes(each.digest).hex() for each in ApiKey.objects.all()]
    for path in ("/me", "/users", "/api-keys", "/api-keys/audit", "/audit-records", "/accounts"):
        text = api.get(f"/api/v1{path}").content.decode()
        assert not re.search(r"pbkdf2|md5\$|argon2|\"password|\"digest|\"secret", text), path
        assert not any(digest in text for digest in digests), path
        assert not re.search(r"florin_(live|test)_[0-9a-f]{16}_[0-9a-f]{64}", text), path


# --- S8: keys at rest --------------------------------------------------------------------------
def test_s8_no_table_holds_a_credential(tenant: Tenant, api: ContractClient) -> None:
    user = making.person(tenant, Role.OPERATOR, password="a-long-password-of-hers")
    tokens = making.tokens_of(user)
    made = api.post_once("/api-keys", {"name": "k", "scopes": ["read"]}).json()
    rotated = api.put(f"/api/v1/api-keys/{made['id']}/rotate", {"overlap_seconds": 60}).json()
    secrets = [made["key"], rotated["key"], tokens.access, tokens.refresh, "a-long-password"]
    secrets += [each.rsplit("_", 1)[1] for each in (made["key"], rotated["key"], tokens.refresh)]

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s", ["public"]
        )
        tables = [name for [name] in cursor.fetchall()]
        assert len(tables) > 20
        for table in tables:
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            rows = "\n".join(row for [row] in cursor.fetchall())
            assert not any(secret in rows for secret in secrets), table


def test_s8_a_key_cannot_be_guessed(tenant: Tenant) -> None:
    keys = [
        create_api_key(tenant_id=tenant.pk, name="k", scopes=["read"], now=timezone.now()).clear
        for _ in range(50)
    ]

    secrets = {key.rsplit("_", 1)[1] for key in keys}
    assert len(secrets) == 50
    # 64 hexadecimal digits are 256 bits; and they look as if they were.
    assert all(re.fullmatch("[0-9a-f]{64}", secret) for secret in secrets)
    text = "".join(secrets)
    shares = [text.count(digit) / len(text) for digit in set(text)]
    assert -sum(share * math.log2(share) for share in shares) > 3.95


# --- S14: much of everything -------------------------------------------------------------------
@pytest.mark.parametrize(
    "query",
    [
        *("limit=201", "limit=0", "limit=-1", "limit=1e3", "limit=9999999999999999999999"),
        *("cursor=x", "cursor=" + "A" * 5_000, "limit=", "limit=1&limit=2", "nothing=1"),
        *("external_id=" + "x" * 201, "currency=usd", "owner_id=1", "status=(a%2B)%2B%24"),
        *("external_id=%00", "type=checking%00"),
    ],
)
def test_s14_lists_are_bounded(api: ContractClient, query: str) -> None:
    answer = api.get(f"/api/v1/accounts?{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("path", ["/transfers/batch", "/accounts/batch"])
def test_s14_batches_are_bounded(api: ContractClient, path: str) -> None:
    name = path.split("/")[1]

    answer = api.post_once(path, {name: [{}] * 10_001})

    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


def test_s14_headers_are_bounded(api: ContractClient) -> None:
    body = {"type": "checking", "currency": "USD"}

    assert api.post_once("/accounts", body, key="k" * 256).status_code == 400
    answer = api.get("/api/v1/me", headers={"X-Request-Id": "x" * 5_000})
    assert len(answer["X-Request-Id"]) == 36
    for credential in ("florin_test_" + "a" * 10_000, "eyJ" + "a" * 100_000):
        assert making.client_of(credential).get("/api/v1/me").status_code == 401


# --- S27: faults of ours -----------------------------------------------------------------------
def test_s27_a_bug_shows_its_request_id_and_nothing_else(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("SELECT secret_column FROM inner_table")

    key = create_api_key(tenant_id=tenant.pk, name="k", scopes=["read"], now=timezone.now())
    monkeypatch.setattr("identity.api.views.who_is", broken)

    answer = Client(raise_request_exception=False).get(
        "/api/v1/me", headers={"Authorization": f"Bearer {key.clear}"}
    )

    assert answer.status_code == 500
    assert answer["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == "internal_error"
    assert body["request_id"] == answer["X-Request-Id"]
    text = answer.content.decode()
    assert not re.search(r"secret_column|RuntimeError|Traceback|\.py|identity", text)


def test_s27_the_back_office_tells_no_more(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("SELECT secret_column")

    monkeypatch.setattr("core.api.health._ask_database", broken)
    monkeypatch.setattr("django.contrib.admin.sites.AdminSite.login", broken)

    answer = Client(raise_request_exception=False).get("/admin/login/")

    assert answer.status_code == 500
    assert "secret_column" not in answer.content.decode()


# --- S28: whatever breaks, nothing is half done ------------------------------------------------
BREAKABLE = [
    "core.api.limits.count_request",
    "core.api.views.keyed_fingerprint",
    "identity.api.authentication.queries.principal_of_key",
    "core.api.permissions.HasPermission.has_permission",
    "core.principal.Principal.may",
    "accounts.api.serializers.OpenAccountRequest.to_internal_value",
    "accounts.services.record_change",
    "core.changes.current_caller",
    "core.idempotency.IdempotencyRecord.objects.filter",
]


@pytest.mark.parametrize("part", BREAKABLE)
def test_s28_nothing_is_opened(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    request = _request(tenant, monkeypatch, part)

    answer = request("/api/v1/accounts", {"type": "checking", "currency": "USD"})

    assert answer.status_code == 500
    assert not Account.objects.exists()
    assert not AuditRecord.objects.filter(action="account.opened").exists()
    assert not OutboxEvent.objects.filter(event_type="account.opened").exists()
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize(
    "part",
    [
        *BREAKABLE[:1],
        *BREAKABLE[2:5],
        "payments.api.serializers.movements.TransferRequest.to_internal_value",
        "payments.api.serializers.movements.TransferRequest.validate",
        "core.api.fields.AmountField.to_internal_value",
        "payments.services.cash.account_of",
        "ledger.services.posting.current_caller",
    ],
)
def test_s28_nothing_is_posted(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    person = making.person(tenant, Role.CUSTOMER)
    ada = making.open_account(tenant, balance=100, owner_id=person.pk)
    ben = making.open_account(tenant)
    order = {
        "source_account_id": str(ada.pk),
        "destination_account_id": str(ben.pk),
        "amount": 10,
        "currency": "USD",
    }
    access = making.tokens_of(person).access if part.startswith("payments.services") else None
    request = _request(tenant, monkeypatch, part, credential=access)

    answer = request("/api/v1/transfers", order)

    assert answer.status_code == 500
    assert making.balance_of(ada) == 100
    assert making.balance_of(ben) == 0


def _request(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, part: str, credential: str | None = None
) -> Callable[[str, Any], Any]:
    """Return a POST that meets a fault in the part."""

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")

    key = create_api_key(tenant_id=tenant.pk, name="k", scopes=["admin"], now=timezone.now())
    monkeypatch.setattr(part, broken)
    client = Client(raise_request_exception=False)
    headers = {"Authorization": f"Bearer {credential or key.clear}", "Idempotency-Key": "k"}

    return lambda path, body: client.post(
        path, body, content_type="application/json", headers=headers
    )


# --- S39: what there is ------------------------------------------------------------------------
def test_s39_the_document_has_every_route_and_no_other() -> None:
    served = {
        (method, re.sub(r"<uuid:(?:pk)>", "{id}", path)) for (method, path), _ in api_routes()
    }
    served = {(method, re.sub(r"<\w+:(\w+)>", r"{\1}", path)) for method, path in served}
    told = {
        (method, path.removeprefix("/api/v1"))
        for path, methods in document()["paths"].items()
        for method in methods
    }

    assert served == told
    assert len(told) == len(CASES)


def test_s39_nothing_is_served_for_debugging(settings: LazySettings) -> None:
    assert settings.DEBUG is False
    assert not any(re.search("debug|silk|test|browsable", path) for path in other_routes())
    renderers = settings.REST_FRAMEWORK["DEFAULT_RENDERER_CLASSES"]
    assert renderers == ["rest_framework.renderers.JSONRenderer"]
    assert get_resolver().urlconf_name == "config.urls"


# --- S41: secrets take the same time to compare ------------------------------------------------
_SECRET = re.compile(r"digest|secret|password|signature|hmac|token$|pepper|otp$|api_key$", re.I)
# They tell whether there is one, or a kind of it, or are no secret.
_HARMLESS = re.compile(r"has_|is_|_id$|_at$|_s$|_max$|^token_type$|^typ$")


def test_s41_secrets_are_compared_by_compare_digest_only() -> None:
    compared = set()
    for path, tree in sources():
        # Digests of rows that everybody may know, and settings that are nobody's guess.
        if path.name in ("sealing.py", "verifying.py", "settings.py"):
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Compare):
                continue
            if not any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                continue
            for side in (node.left, *node.comparators):
                name = getattr(side, "attr", getattr(side, "id", ""))
                if _SECRET.search(name) and not _HARMLESS.search(name):
                    compared.add(f"{path.relative_to(settings.BASE_DIR)}:{node.lineno}: {name}")
    assert compared == set()


def test_s41_the_check_would_find_one() -> None:
    [node] = [
        each for each in ast.walk(ast.parse("a.digest == b")) if isinstance(each, ast.Compare)
    ]
    assert isinstance(node.left, ast.Attribute)
    assert _SECRET.search(node.left.attr)
