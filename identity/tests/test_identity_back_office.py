"""Tenants, people and API keys in the back office."""

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from identity.errors import RefusedKey
from identity.models import ApiKey, Tenant, User
from identity.queries import principal_of_key
from identity.services import create_api_key
from tests.back_office import (
    act,
    act_url,
    member_of_staff,
    no_counting,
    page_url,
    shown,
    signed_in,
)

TENANTS, USERS, KEYS = (f"/admin/identity/{name}/" for name in ("tenant", "user", "apikey"))
PASSWORD = "correct-horse-battery"
NEW_USER = {
    "email": "New@Bank.test",
    "full_name": "Nur",
    "role": "operator",
    "password1": PASSWORD,
    "password2": PASSWORD,
}
NEW_KEY = {"name": "Shop", "scopes": ["read", "write"], "mode": "live", "expires_at": ""}


@pytest.fixture
def boss(tenant: Tenant) -> Client:
    """An admin of the tenant, no superuser."""
    return signed_in(tenant, "admin")


@pytest.fixture
def root(tenant: Tenant) -> Client:
    return signed_in(tenant, "admin", is_superuser=True)


# --- Tenants -----------------------------------------------------------------------------------
def test_a_superuser_opens_a_tenant(root: Client) -> None:
    page = root.post(f"{TENANTS}add/", {"name": "Susu Bank"}, follow=True).content.decode()

    assert "Added: Susu Bank." in page
    assert Tenant.objects.filter(name="Susu Bank").exists()


@pytest.mark.parametrize("name", ["", "x" * 101, "a\x00b"])
def test_a_tenant_needs_a_good_name(root: Client, name: str) -> None:
    answer = root.post(f"{TENANTS}add/", {"name": name})

    assert "errorlist" in answer.content.decode()
    assert Tenant.objects.count() == 1


def test_others_see_their_own_tenant_only(boss: Client, other_tenant: Tenant) -> None:
    page = shown(boss, TENANTS)

    assert "Kopi Bank" in page
    assert "Teh Bank" not in page.replace(f"{other_tenant.pk}", "")
    assert boss.get(page_url(other_tenant)).status_code == 302
    assert boss.post(f"{TENANTS}add/", {"name": "Mine"}).status_code == 403


# --- People ------------------------------------------------------------------------------------
def test_an_admin_adds_a_colleague(tenant: Tenant, boss: Client) -> None:
    page = boss.post(f"{USERS}add/", NEW_USER, follow=True).content.decode()

    user = User.objects.get(email="new@bank.test")
    assert "Added: new@bank.test." in page
    assert (user.tenant, user.role, user.is_staff, user.is_superuser) == (
        tenant,
        "operator",
        True,
        False,
    )
    assert user.check_password(PASSWORD)


def test_no_page_shows_a_password_or_its_hash(boss: Client) -> None:
    boss.post(f"{USERS}add/", NEW_USER)
    user = User.objects.get(email="new@bank.test")

    for url in (USERS, page_url(user), act_url(user, "edit"), act_url(user, "password")):
        page = shown(boss, url)
        assert "pbkdf2" not in page
        assert user.password[-20:] not in page


@pytest.mark.parametrize(
    "wrong",
    [
        {"email": "no address"},
        {"email": ""},
        {"email": "x" * 250 + "@bank.test"},
        {"role": "owner"},
        {"password2": "another"},
        {"password1": "password", "password2": "password"},
        {"password1": "new@bank.test", "password2": "new@bank.test"},
        {"full_name": "x" * 151},
    ],
)
def test_a_bad_colleague_is_not_added(boss: Client, wrong: dict[str, str]) -> None:
    answer = boss.post(f"{USERS}add/", {**NEW_USER, **wrong})

    assert "errorlist" in answer.content.decode()
    assert User.objects.count() == 1


def test_one_address_is_one_person(boss: Client) -> None:
    boss.post(f"{USERS}add/", NEW_USER)

    answer = boss.post(f"{USERS}add/", {**NEW_USER, "email": "NEW@bank.TEST"})

    assert "Somebody with this address exists." in answer.content.decode()


def test_an_admin_adds_to_their_own_tenant_only(
    tenant: Tenant, other_tenant: Tenant, boss: Client, root: Client
) -> None:
    chosen = {"tenant": str(other_tenant.pk)}

    boss.post(f"{USERS}add/", {**NEW_USER, **chosen})
    root.post(f"{USERS}add/", {**NEW_USER, **chosen, "email": "second@bank.test"})

    assert User.objects.get(email="new@bank.test").tenant == tenant
    assert User.objects.get(email="second@bank.test").tenant == other_tenant


def test_role_and_access_change(tenant: Tenant, boss: Client) -> None:
    user = member_of_staff(tenant, "operator")
    theirs = Client()
    theirs.force_login(user)
    assert theirs.get("/admin/").status_code == 200

    act(boss, user, "edit", full_name="Ada", role="auditor", is_active="on")
    user.refresh_from_db()
    assert (user.full_name, user.role, user.is_active) == ("Ada", "auditor", True)

    act(boss, user, "edit", full_name="Ada", role="customer", is_active="on")
    assert theirs.get("/admin/").status_code == 302

    act(boss, user, "edit", full_name="Ada", role="operator")
    user.refresh_from_db()
    assert not user.is_active
    assert theirs.get("/admin/").status_code == 302
    assert LogEntry.objects.filter(object_id=str(user.pk)).count() == 3


def test_nobody_changes_their_own_role(tenant: Tenant) -> None:
    user = member_of_staff(tenant, "admin")
    client = Client()
    client.force_login(user)

    for change in ({"role": "auditor", "is_active": "on"}, {"role": "admin"}):
        assert "Nobody changes their own role" in act(client, user, "edit", **change)
    user.refresh_from_db()
    assert (user.role, user.is_active) == ("admin", True)


def test_a_password_is_set_and_ends_sessions(tenant: Tenant, boss: Client) -> None:
    user = member_of_staff(tenant, "operator")
    theirs = Client()
    theirs.force_login(user)

    new = {"new_password1": PASSWORD, "new_password2": PASSWORD}
    refused = act(boss, user, "password", new_password1="short", new_password2="short")
    page = act(boss, user, "password", **new)

    assert "too short" in refused
    assert "The password is set." in page
    assert theirs.get("/admin/").status_code == 302
    assert Client().login(username=user.email, password=PASSWORD)


def test_a_tenants_admin_cannot_become_a_superuser(tenant: Tenant, boss: Client) -> None:
    above = member_of_staff(tenant, "admin", is_superuser=True)

    for name in ("edit", "password"):
        url = act_url(above, name)
        assert boss.get(url).status_code == 403
        form = {"reason": "x", "role": "auditor", "new_password1": PASSWORD}
        assert boss.post(url, {**form, "new_password2": PASSWORD}).status_code == 403
    above.refresh_from_db()
    assert (above.role, above.is_active, above.has_usable_password()) == ("admin", True, False)


# --- API keys ----------------------------------------------------------------------------------
def new_key(client: Client, **form: object) -> tuple[str, str]:
    """Add a key; return it in clear, and the page that showed it."""
    answer = client.post(f"{KEYS}add/", {**NEW_KEY, **form})
    assert answer.status_code == 200
    page = answer.content.decode()
    found = re.search(r"florin_(live|test)_[0-9a-f]{16}_[0-9a-f]{64}", page)
    assert found is not None
    assert "no-store" in answer["Cache-Control"]
    return found[0], page


def test_a_new_key_is_shown_once(tenant: Tenant, boss: Client) -> None:
    clear, page = new_key(boss)
    key = ApiKey.objects.get()

    principal = principal_of_key(key=clear, now=timezone.now()).principal
    assert principal.tenant_id == tenant.pk
    assert sorted(principal.scopes) == ["read", "write"]
    assert page.count(clear) == 1
    assert "only time" in page
    secret = clear.rsplit("_", 1)[1]
    for url in (KEYS, page_url(key), f"{KEYS}{key.pk}/history/", "/admin/", f"{KEYS}add/"):
        assert secret not in shown(boss, url)
    assert "florin_live_" in shown(boss, page_url(key))


def test_a_key_in_clear_is_kept_nowhere(boss: Client) -> None:
    clear, _ = new_key(boss)
    secret = clear.rsplit("_", 1)[1]

    assert all(secret not in str(session.get_decoded()) for session in Session.objects.all())
    assert all(secret not in cookie.value for cookie in boss.cookies.values())
    assert all(secret not in f"{line.object_repr} {line}" for line in LogEntry.objects.all())
    assert LogEntry.objects.count() == 1


def test_an_admin_makes_keys_of_their_own_tenant_only(
    tenant: Tenant, other_tenant: Tenant, boss: Client, root: Client
) -> None:
    new_key(boss, tenant=str(other_tenant.pk))
    new_key(root, tenant=str(other_tenant.pk), name="Root's")

    assert ApiKey.objects.get(name="Shop").tenant == tenant
    assert ApiKey.objects.get(name="Root's").tenant == other_tenant


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"scopes": []},
        {"scopes": ["root"]},
        {"mode": "demo"},
        {"expires_at": "soon"},
        {"expires_at": "2020-01-01T00:00"},
    ],
)
def test_a_bad_key_is_not_made(boss: Client, wrong: dict[str, object]) -> None:
    answer = boss.post(f"{KEYS}add/", {**NEW_KEY, **wrong})

    assert "errorlist" in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_a_key_may_expire(boss: Client) -> None:
    new_key(boss, expires_at="2999-12-31T23:59")

    assert "2999-12-31 23:59" in shown(boss, KEYS)


def test_a_key_is_revoked(tenant: Tenant, boss: Client) -> None:
    clear, _ = new_key(boss)
    key = ApiKey.objects.get()
    assert "works again" in shown(boss, act_url(key, "revoke"))
    assert ApiKey.objects.get().revoked_at is None

    page = act(boss, key, "revoke")

    assert "The key is revoked." in page
    assert "Revoked" in page
    assert act_url(key, "revoke") not in page
    with pytest.raises(RefusedKey) as refused:
        principal_of_key(key=clear, now=timezone.now() + timedelta(hours=1))
    assert refused.value.refusal.code == "key_revoked"


def test_another_tenants_key_does_not_exist(other_tenant: Tenant, boss: Client) -> None:
    theirs = create_api_key(
        tenant_id=other_tenant.pk, name="Secret", scopes=["read"], now=timezone.now()
    ).api_key

    assert "Secret" not in shown(boss, KEYS)
    assert "Secret" not in shown(boss, f"{KEYS}?q={theirs.public_id}")
    assert "There is no such API key." in act(boss, theirs, "revoke")
    theirs.refresh_from_db()
    assert theirs.revoked_at is None


def test_people_and_keys_are_found_by_whole_identifiers(tenant: Tenant, boss: Client) -> None:
    member_of_staff(tenant)
    user = member_of_staff(tenant)
    key = create_api_key(
        tenant_id=tenant.pk, name="Shop", scopes=["read"], now=timezone.now()
    ).api_key

    with no_counting():
        for text in (str(user.pk), user.email.upper()):
            page = shown(boss, f"{USERS}?q={text}")
            assert page.count("@bank.test</a>") == 1
        for text in (str(key.pk), key.public_id):
            assert "Shop" in shown(boss, f"{KEYS}?q={text}")


@pytest.mark.parametrize(
    ("role", "may_look", "may_act"),
    [
        ("auditor", True, False),
        ("operator", False, False),
        ("supervisor", False, False),
        ("admin", True, True),
    ],
)
def test_who_may_see_and_change_people_and_keys(
    tenant: Tenant, role: str, may_look: bool, may_act: bool
) -> None:
    client = signed_in(tenant, role)
    user = member_of_staff(tenant)
    key = create_api_key(
        tenant_id=tenant.pk, name="Shop", scopes=["read"], now=timezone.now()
    ).api_key

    for url in (USERS, KEYS, page_url(user), page_url(key)):
        assert client.get(url).status_code == (200 if may_look else 403)
    for url in (
        f"{USERS}add/",
        f"{KEYS}add/",
        act_url(user, "edit"),
        act_url(user, "password"),
        act_url(key, "revoke"),
    ):
        assert client.get(url).status_code == (200 if may_act else 403)
    codes = [
        client.post(f"{USERS}add/", NEW_USER).status_code,
        client.post(f"{KEYS}add/", NEW_KEY).status_code,
        client.post(act_url(key, "revoke"), {"reason": "x"}).status_code,
    ]

    assert codes == ([302, 200, 302] if may_act else [403, 403, 403])
    assert User.objects.filter(email="new@bank.test").exists() == may_act
    assert ApiKey.objects.count() == (2 if may_act else 1)
