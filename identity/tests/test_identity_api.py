"""People, keys and the audit trail over HTTP."""

import datetime as dt
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from core.idempotency import fingerprint, keyed_fingerprint
from core.models import AuditRecord, IdempotencyRecord
from core.permissions import Role
from identity.api import authentication
from identity.models import ApiKey, Tenant, User
from identity.queries import forget_verified_keys
from tests import making
from tests.back_office import signed_in
from tests.contract import ContractClient

PASSWORD = "a-long-password-of-hers"


def new_key(api: ContractClient, **fields: Any) -> dict[str, Any]:
    answer = api.post_once("/api-keys", {"name": "shop", "scopes": ["read"], **fields})
    assert answer.status_code == 201, answer.content
    assert answer["Cache-Control"] == "no-store"
    made: dict[str, Any] = answer.json()
    return made


def status_with(key: str) -> int:
    return int(making.client_of(key).get("/api/v1/accounts").status_code)


def actions(api: ContractClient, query: str = "") -> list[str]:
    return [each["action"] for each in api.get(f"/api/v1/api-keys/audit{query}").json()["results"]]


# --- Keys --------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_a_key_lives_and_dies(api: ContractClient) -> None:
    made = new_key(api, mode="live", scopes=["write", "read", "read"])
    assert made["key"].startswith(f"{made['prefix']}_")
    assert made["prefix"].startswith("florin_live_")
    assert made["scopes"] == ["read", "write"]
    assert status_with(made["key"]) == 200

    rotated = api.put(f"/api/v1/api-keys/{made['id']}/rotate", {}).json()
    assert rotated["id"] == made["id"]
    assert (status_with(made["key"]), status_with(rotated["key"])) == (401, 200)

    assert api.delete(f"/api/v1/api-keys/{made['id']}").status_code == 204
    assert status_with(rotated["key"]) == 401
    assert api.get(f"/api/v1/api-keys/{made['id']}").json()["status"] == "revoked"
    again = api.put(f"/api/v1/api-keys/{made['id']}/rotate", {})
    assert (again.status_code, again.json()["code"]) == (409, "invalid_state")


def test_a_rotation_that_is_repeated_is_done_once(api: ContractClient) -> None:
    """A lost answer sent for again must not kill the secret that is in use."""
    made = new_key(api)
    path, body = f"/api/v1/api-keys/{made['id']}/rotate", {"overlap_seconds": 60}
    first = api.put(path, body, headers={"Idempotency-Key": "r1"})

    again = api.put(path, body, headers={"Idempotency-Key": "r1"})

    assert first.json()["key"] is not None
    assert (again["Idempotent-Replayed"], again.json()["key"]) == ("true", None)
    assert again.json()["rotated_at"] == first.json()["rotated_at"]
    assert [status_with(each) for each in (made["key"], first.json()["key"])] == [200, 200]


@pytest.mark.django_db(transaction=True)
def test_an_overlap_keeps_two_secrets_good_and_never_three(api: ContractClient) -> None:
    first = new_key(api)
    path = f"/api/v1/api-keys/{first['id']}/rotate"
    second = api.put(path, {"overlap_seconds": 60}).json()
    assert [status_with(each["key"]) for each in (first, second)] == [200, 200]
    assert second["previous_expires_at"] is not None

    third = api.put(path, {"overlap_seconds": 60}).json()
    assert [status_with(each["key"]) for each in (first, second, third)] == [401, 200, 200]

    ApiKey.objects.update(previous_expires_at=timezone.now() - dt.timedelta(seconds=1))
    forget_verified_keys()
    assert [status_with(each["key"]) for each in (first, second, third)] == [401, 401, 200]


def test_a_key_expires(api: ContractClient) -> None:
    later = timezone.now() + dt.timedelta(days=1)
    made = new_key(api, expires_at=later.isoformat())
    assert status_with(made["key"]) == 200

    ApiKey.objects.filter(pk=made["id"]).update(expires_at=timezone.now())
    forget_verified_keys()

    answer = making.client_of(made["key"]).get("/api/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "key_expired")


def test_its_use_is_noted_once_a_minute(api: ContractClient, settings: LazySettings) -> None:
    made = new_key(api)
    client = making.client_of(made["key"])

    def last_used() -> dt.datetime | None:
        return ApiKey.objects.values_list("last_used_at", flat=True).get(pk=made["id"])

    assert last_used() is None
    client.get("/api/v1/me")
    first = last_used()
    assert first is not None
    # Also where this process has forgotten that it noted it.
    authentication._noted_at.clear()
    client.get("/api/v1/me")
    assert last_used() == first

    ApiKey.objects.filter(pk=made["id"]).update(last_used_at=first - dt.timedelta(minutes=2))
    authentication._noted_at.clear()
    client.get("/api/v1/me")
    assert last_used() not in (first, first - dt.timedelta(minutes=2))


def test_what_is_done_with_keys_is_on_record(api: ContractClient) -> None:
    made = new_key(api)
    rotated = api.put(f"/api/v1/api-keys/{made['id']}/rotate", {}).json()
    # Refused twice; recorded once a minute.
    assert [status_with(made["key"]) for _ in range(2)] == [401, 401]
    api.delete(f"/api/v1/api-keys/{made['id']}")
    ApiKey.objects.update(last_refused_at=None)
    status_with(rotated["key"])

    assert actions(api, f"?api_key_id={made['id']}") == [
        "api_key.refused",
        "api_key.revoked",
        "api_key.refused",
        "api_key.rotated",
        "api_key.created",
    ]
    me = api.get("/api/v1/me").json()["id"]
    records = api.get(f"/api/v1/api-keys/audit?api_key_id={made['id']}").json()["results"]
    assert {each["actor_id"] for each in records} == {f"key:{me}", "anonymous"}
    assert all(each["address"] == "127.0.0.1" for each in records)
    assert made["key"] not in str(records)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes.0"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2030-01-01T00:00:00"}, "expires_at"),
        ({"rate_limit": 0}, "rate_limit"),
        ({"mode": "prod"}, "mode"),
    ],
)
def test_a_key_that_makes_no_sense(api: ContractClient, fields: Any, field: str) -> None:
    answer = api.post_once("/api-keys", {"name": "k", "scopes": ["read"], **fields})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


# --- People ------------------------------------------------------------------------------------
def add_user(api: ContractClient, **fields: Any) -> Any:
    body = {"email": "Siti@Bank.test", "password": PASSWORD, "role": "operator", **fields}
    return api.post_once("/users", body)


def test_a_person_is_added_and_changed(api: ContractClient) -> None:
    made = add_user(api, full_name="Siti").json()
    assert made["email"] == "siti@bank.test"
    assert User.objects.get().check_password(PASSWORD)

    path = f"/api/v1/users/{made['id']}"
    changed = api.patch(path, {"role": "supervisor", "is_active": False}).json()
    assert (changed["role"], changed["is_active"], changed["full_name"]) == (
        "supervisor",
        False,
        "Siti",
    )
    record = AuditRecord.objects.get(action="user.changed")
    assert (record.before, record.after) == (
        {"role": "operator", "is_active": True},
        {"role": "supervisor", "is_active": False},
    )


@pytest.mark.parametrize(
    "password",
    ["short", "siti@bank.test", "123456789012", "", "x" * 300],
)
def test_s12_weak_passwords_are_refused(api: ContractClient, password: str) -> None:
    answer = add_user(api, password=password)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "password"
    assert not User.objects.exists()


def test_two_who_edit_do_not_overwrite_each_other(api: ContractClient) -> None:
    path = f"/api/v1/users/{add_user(api).json()['id']}"
    seen = api.get(path)["ETag"]
    first = api.patch(path, {"full_name": "One"}, headers={"If-Match": seen})
    assert first.status_code == 200

    second = api.patch(path, {"full_name": "Two"}, headers={"If-Match": seen})

    assert (second.status_code, second.json()["code"]) == (412, "precondition_failed")
    assert api.get(path).json()["full_name"] == "One"
    assert first["ETag"] != seen
    assert (
        api.patch(path, {"full_name": "Two"}, headers={"If-Match": first["ETag"]}).status_code
        == 200
    )


def test_nobody_demotes_or_locks_out_themselves(tenant: Tenant) -> None:
    boss = making.person(tenant, Role.ADMIN)
    client = making.client_of(making.tokens_of(boss).access)

    for change in ({"role": "operator"}, {"is_active": False}):
        answer = client.patch(f"/api/v1/users/{boss.pk}", change)
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")


def test_a_tenants_key_cannot_touch_a_superuser(tenant: Tenant, api: ContractClient) -> None:
    root = making.person(tenant, Role.ADMIN)
    User.objects.filter(pk=root.pk).update(is_superuser=True)

    answer = api.patch(f"/api/v1/users/{root.pk}", {"is_active": False})

    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    root.refresh_from_db()
    assert root.is_active


def test_a_change_that_changes_nothing_is_none(api: ContractClient) -> None:
    made = add_user(api, full_name="Siti").json()
    path = f"/api/v1/users/{made['id']}"
    for body in ({}, {"full_name": "Siti"}):
        assert api.patch(path, body).status_code == 200
    account = making.open_account(Tenant.objects.get(), name="Ada")
    assert api.patch(f"/api/v1/accounts/{account.pk}", {"name": "Ada"}).status_code == 200

    assert not AuditRecord.objects.filter(action__endswith=".changed").exists()


def test_a_password_leaves_no_quick_hash(api: ContractClient) -> None:
    """Who has the database has all of the request but the password, and could guess that."""
    body = {"email": "siti@bank.test", "password": PASSWORD, "role": "operator"}
    api.post_once("/users", body, key="u")
    me = f"key:{api.get('/api/v1/me').json()['id']}"
    kept = bytes(IdempotencyRecord.objects.get(key="u").fingerprint)

    parts = ("POST", "/api/v1/users", me, body)
    assert kept != fingerprint(*parts)
    assert kept == keyed_fingerprint(*parts)


# --- Lists -------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/users", "/api-keys", "/audit-records", "/api-keys/audit"])
def test_lists_are_read_by_cursor(tenant: Tenant, api: ContractClient, path: str) -> None:
    for _ in range(4):
        making.person(tenant, Role.OPERATOR)
        new_key(api)
    seen: list[Any] = []
    following = f"/api/v1{path}?limit=2"
    while following:
        page = api.get(following.replace("http://testserver", "")).json()
        assert len(page["results"]) <= 2
        seen += [each["id"] for each in page["results"]]
        following = page["next"]

    assert len(seen) == len(set(seen)) >= 4
    assert seen == sorted(seen, reverse=True)


def test_lists_are_filtered(tenant: Tenant, api: ContractClient) -> None:
    making.person(tenant, Role.AUDITOR)
    User.objects.filter(role="auditor").update(is_active=False)
    add_user(api)
    new_key(api, mode="live")

    def found(query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = api.get(f"/api/v1{query}").json()["results"]
        return rows

    assert [each["role"] for each in found("/users?role=auditor")] == ["auditor"]
    assert [each["role"] for each in found("/users?is_active=false")] == ["auditor"]
    assert [each["email"] for each in found("/users?email=siti@bank.test")] == ["siti@bank.test"]
    assert {each["mode"] for each in found("/api-keys?mode=live")} == {"live"}
    created = found("/audit-records?action=user.created")
    assert {each["action"] for each in created} == {"user.created"}
    one = created[0]
    assert found(f"/audit-records?object_id={one['object_id']}&action=user.created") == [one]
    assert found(f"/audit-records?request_id={one['request_id']}&actor_id={one['actor_id']}")
    assert found("/audit-records?to=2020-01-01") == []
    for query in ("/users?is_active=maybe", "/users?role=king", "/audit-records?object_id=7"):
        assert api.get(f"/api/v1{query}").status_code == 400


# --- The back office counts the same attempts --------------------------------------------------
def test_s12_the_back_office_is_closed_to_guessers_too(
    tenant: Tenant, settings: LazySettings
) -> None:
    user = making.person(tenant, Role.OPERATOR, password=PASSWORD)

    def sign_in(password: str) -> Any:
        body = {"username": user.email, "password": password}
        return Client().post("/admin/login/", body)

    assert sign_in(PASSWORD).status_code == 302
    for _ in range(settings.SIGN_IN_FAILURES_MAX):
        assert "Address or password is wrong." in sign_in("wrong-password-here").content.decode()

    began = AuditRecord.objects.get(action="session.started")
    assert (began.object_id, began.reason, began.address) == (user.pk, "back office", "127.0.0.1")
    assert "Too many wrong attempts." in sign_in(PASSWORD).content.decode()
    # One count for both doors.
    api = ContractClient().post("/api/v1/auth/token", {"email": user.email, "password": PASSWORD})
    assert api.status_code == 429


@pytest.mark.parametrize("changes", [{"is_active": False}, {"role": "customer"}])
def test_s10_the_back_office_closes_at_once_too(
    tenant: Tenant, api: ContractClient, changes: dict[str, Any]
) -> None:
    client = signed_in(tenant, "operator")
    assert client.get("/admin/").status_code == 200

    api.patch(f"/api/v1/users/{User.objects.get().pk}", changes)

    assert client.get("/admin/").status_code == 302


# --- Commands for whoever cannot get in otherwise ----------------------------------------------
def test_the_first_person_is_made_by_command(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)

    call_command("createsuperuser", tenant="Kopi Bank", email="Root@Bank.test")

    root = User.objects.get()
    assert (root.email, root.role, root.is_superuser, root.tenant.name) == (
        "root@bank.test",
        "admin",
        True,
        "Kopi Bank",
    )
    record = AuditRecord.objects.get(action="user.created")
    assert record.after is not None
    assert record.after["is_superuser"] is True
    with pytest.raises(CommandError, match="address exists"):
        call_command("createsuperuser", tenant="Kopi Bank", email="root@bank.test")


def test_a_password_set_by_command_ends_sessions(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = making.person(tenant, Role.OPERATOR, password=PASSWORD)
    client = making.client_of(making.tokens_of(user).access)
    monkeypatch.setenv("FLORIN_NEW_PASSWORD", "quite-another-one")

    call_command("changepassword", user.email)

    assert client.get("/api/v1/me").status_code == 401
    assert AuditRecord.objects.filter(action="user.password_set", object_id=user.pk).exists()
    monkeypatch.setenv("FLORIN_NEW_PASSWORD", "short")
    with pytest.raises(CommandError, match="too short"):
        call_command("changepassword", user.email)


def test_no_command_gives_recovery_codes(db: None) -> None:
    with pytest.raises(CommandError, match="back office"):
        call_command("addstatictoken", "ada@bank.test")
