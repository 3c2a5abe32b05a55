"""API keys: shown once, known by a digest, dead when revoked."""

import datetime as dt

import pytest
from django.conf import LazySettings
from django.utils import timezone

from core.errors import InvalidToken, KeyExpired, KeyRevoked
from core.permissions import Permission
from core.principal import Principal
from identity import queries
from identity.errors import RefusedKey
from identity.models import ApiKey, Tenant
from identity.services import IssuedKey, create_api_key, revoke_api_key


@pytest.fixture
def issued(tenant: Tenant) -> IssuedKey:
    return create_api_key(tenant_id=tenant.pk, name="k", scopes=["read"], now=timezone.now())


def principal_of(key: str, now: dt.datetime | None = None) -> Principal:
    """Return whom the key speaks for; the refusal itself where it is refused."""
    try:
        return queries.principal_of_key(key=key, now=now or timezone.now()).principal
    except RefusedKey as refused:
        raise refused.refusal from None


def test_it_works(issued: IssuedKey, tenant: Tenant) -> None:
    principal = principal_of(issued.clear)

    assert principal.tenant_id == tenant.pk
    assert principal.may(Permission.VIEW_ACCOUNTS)
    assert not principal.may(Permission.MAKE_TRANSFERS)


def test_s8_the_database_holds_a_digest_only(issued: IssuedKey) -> None:
    row = ApiKey.objects.filter(pk=issued.api_key.pk).values().get()
    secret = issued.clear.split("_")[3]

    assert issued.clear.startswith("florin_test_")
    assert len(secret) == 64
    assert not any(secret in str(value) for value in row.values())
    assert bytes(row["digest"]) == queries.credential_digest(issued.clear)


def test_another_pepper_makes_every_key_worthless(
    issued: IssuedKey, settings: LazySettings
) -> None:
    settings.API_KEY_PEPPER = "another"

    with pytest.raises(InvalidToken):
        principal_of(issued.clear)


def test_a_wrong_secret_is_refused(issued: IssuedKey) -> None:
    wrong = issued.clear[:-1] + ("0" if issued.clear[-1] != "0" else "1")

    for key in (wrong, issued.clear[:-1], issued.clear + "0", "florin_live" + issued.clear[11:]):
        with pytest.raises(InvalidToken):
            principal_of(key)


def test_a_revoked_key_dies_when_its_verification_is_old(
    issued: IssuedKey, tenant: Tenant, settings: LazySettings
) -> None:
    principal_of(issued.clear)
    revoke_api_key(tenant_id=tenant.pk, api_key_id=issued.api_key.pk, now=timezone.now())

    settings.API_KEY_CACHE_S = 0.0

    with pytest.raises(KeyRevoked):
        principal_of(issued.clear)


def test_a_known_key_costs_no_query(
    issued: IssuedKey, settings: LazySettings, django_assert_num_queries: object
) -> None:
    settings.API_KEY_CACHE_S = 60.0
    principal_of(issued.clear)

    with django_assert_num_queries(0):  # type: ignore[operator]
        principal_of(issued.clear)


def test_an_expired_key_is_refused_although_it_is_remembered(
    tenant: Tenant, settings: LazySettings
) -> None:
    settings.API_KEY_CACHE_S = 60.0
    now = timezone.now()
    issued = create_api_key(
        tenant_id=tenant.pk,
        name="k",
        scopes=["read"],
        now=now,
        expires_at=now + dt.timedelta(hours=1),
    )
    principal_of(issued.clear, now)

    with pytest.raises(KeyExpired):
        principal_of(issued.clear, now + dt.timedelta(hours=1))


def test_revoking_twice_changes_nothing(issued: IssuedKey, tenant: Tenant) -> None:
    now = timezone.now()
    first = revoke_api_key(tenant_id=tenant.pk, api_key_id=issued.api_key.pk, now=now)

    again = revoke_api_key(
        tenant_id=tenant.pk, api_key_id=issued.api_key.pk, now=now + dt.timedelta(days=1)
    )

    assert again.revoked_at == first.revoked_at
