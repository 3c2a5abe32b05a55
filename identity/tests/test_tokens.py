"""S9: access tokens that others made, changed or kept too long are worth nothing."""

import base64
import datetime as dt
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import LazySettings
from django.utils import timezone

from core.ids import new_id
from identity.models import Tenant
from identity.queries import public_keys, signing_keys
from identity.services import refresh_tokens
from tests import making
from tests.contract import ContractClient

OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


@pytest.fixture
def access(tenant: Tenant) -> str:
    return making.tokens_of(making.person(tenant, "operator")).access


@pytest.fixture
def claims(access: str) -> dict[str, Any]:
    return jwt.decode(access, options={"verify_signature": False})


def kid() -> str:
    return next(iter(signing_keys()))


def signed(claims: dict[str, Any], *, key: Any = None, alg: str = "EdDSA", **headers: Any) -> str:
    return jwt.encode(
        claims, key or signing_keys()[kid()], algorithm=alg, headers={"kid": kid(), **headers}
    )


def by_hand(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(part).encode() for part in (header, claims)]
    return ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature)
    )


def is_taken(token: str) -> bool:
    answer = making.client_of(token).get("/api/v1/me")
    if answer.status_code == 200:
        return True
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    return False


def test_it_works(access: str, claims: dict[str, Any]) -> None:
    assert is_taken(access)
    # What we sign by hand here is as good; so what follows is refused for what was changed.
    assert is_taken(signed(claims))


def test_s9_unsigned_is_refused(claims: dict[str, Any]) -> None:
    for name in ("none", "None", "NONE", ""):
        assert not is_taken(by_hand({"alg": name, "kid": kid(), "typ": "JWT"}, claims))


def test_s9_the_public_key_is_no_shared_secret(claims: dict[str, Any]) -> None:
    public = signing_keys()[kid()].public_key()
    for secret in (
        public.public_bytes(Encoding.Raw, PublicFormat.Raw),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        base64.urlsafe_b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).rstrip(b"="),
    ):
        header = {"alg": "HS256", "kid": kid(), "typ": "JWT"}
        unsigned = by_hand(header, claims).rpartition(".")[0]
        mac = hmac.digest(secret, unsigned.encode(), hashlib.sha256)
        assert not is_taken(by_hand(header, claims, mac))


def test_s9_other_keys_and_algorithms_are_refused(claims: dict[str, Any]) -> None:
    assert not is_taken(signed(claims, key=OTHER_KEY))
    assert not is_taken(signed(claims, key=new_ec_key(SECP256R1()), alg="ES256"))
    assert not is_taken(signed(claims, key="s" * 40, alg="HS256"))


@pytest.mark.parametrize(
    "named",
    ["unknown", "", "../../dev/null", "' OR 1=1 --", "https://evil.test/key", 7, None, ["a"], {}],
)
def test_s9_kid_names_one_of_ours_or_nothing(claims: dict[str, Any], named: Any) -> None:
    token = signed(claims)
    header = {"alg": "EdDSA", "typ": "JWT", "kid": named}
    signature = base64.urlsafe_b64decode(token.rpartition(".")[2] + "==")

    assert not is_taken(by_hand(header, claims, signature))


@pytest.mark.parametrize("header", ["jwk", "jku", "x5u", "x5c"])
def test_s9_keys_that_a_header_brings_are_not_looked_at(
    claims: dict[str, Any], header: str
) -> None:
    raw = OTHER_KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    own = {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": base64.urlsafe_b64encode(raw).rstrip(b"=").decode(),
    }
    values: dict[str, Any] = {"jwk": own, "x5c": ["MIIB"]}
    brought: dict[str, Any] = {header: values.get(header, "http://127.0.0.1:9/keys")}

    assert not is_taken(signed(claims, key=OTHER_KEY, **brought))
    assert not is_taken(signed(claims, key=OTHER_KEY, **brought, kid="theirs"))


@pytest.mark.parametrize("claim", ["exp", "iat", "iss", "aud", "sub", "jti", "sid", "role", "typ"])
def test_s9_every_claim_is_required(claims: dict[str, Any], claim: str) -> None:
    del claims[claim]

    assert not is_taken(signed(claims))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": "soon"},
        {"nbf": 4_000_000_000},
        {"iat": 4_000_000_000},
        {"aud": "another-api"},
        {"aud": ["florin-api", "another-api"]},
        {"iss": "https://evil.test"},
        {"typ": "refresh"},
        {"role": "admin"},
        {"sid": str(new_id())},
        {"sid": "not-a-uuid"},
        {"sub": str(new_id())},
        {"sub": 7},
    ],
)
def test_s9_claims_are_checked(claims: dict[str, Any], changes: dict[str, Any]) -> None:
    assert not is_taken(signed({**claims, **changes}))


def test_s9_another_persons_session_is_refused(tenant: Tenant, claims: dict[str, Any]) -> None:
    boss = making.person(tenant, "admin")

    assert not is_taken(signed({**claims, "sub": str(boss.pk), "role": "admin"}))


def test_s9_the_tenant_claim_decides_nothing(
    tenant: Tenant, other_tenant: Tenant, claims: dict[str, Any]
) -> None:
    token = signed({**claims, "tenant": str(other_tenant.pk)})

    mine = making.client_of(token).get("/api/v1/me").json()

    assert mine["tenant_id"] == str(tenant.pk)


def test_s9_a_refresh_token_opens_nothing(tenant: Tenant, access: str) -> None:
    tokens = making.tokens_of(making.person(tenant, "operator"))

    assert not is_taken(tokens.refresh)
    answer = ContractClient().post("/api/v1/auth/token/refresh", {"refresh": access})
    assert answer.status_code in (400, 401)


def test_s9_a_token_of_another_environment_is_refused(access: str, settings: LazySettings) -> None:
    settings.JWT_KEYS = ["other:" + "b" * 42 + "A"]

    assert not is_taken(access)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "eyJ.eyJ.eyJ", "é", "x" * 10_000])
def test_s9_rubbish_is_refused(tenant: Tenant, token: str) -> None:
    answer = making.client_of(token).get("/api/v1/me")

    assert answer.status_code == 401


def test_keys_are_rotated(tenant: Tenant, settings: LazySettings) -> None:
    old = making.tokens_of(making.person(tenant, "operator"))
    settings.JWT_KEYS = ["2027-01:" + "c" * 42 + "A", *settings.JWT_KEYS]

    fresh = refresh_tokens(refresh=old.refresh, now=timezone.now())

    assert jwt.get_unverified_header(fresh.access)["kid"] == "2027-01"
    assert is_taken(old.access)
    assert is_taken(fresh.access)
    settings.JWT_KEYS = settings.JWT_KEYS[:1]
    assert not is_taken(old.access)
    assert is_taken(fresh.access)


def test_others_can_check_our_tokens(access: str, settings: LazySettings) -> None:
    answer = ContractClient().get("/.well-known/jwks.json")

    assert answer.json() == {"keys": public_keys()}
    assert "max-age" in answer["Cache-Control"]
    [key] = [each for each in answer.json()["keys"] if each["kid"] == kid()]
    assert "d" not in key
    read = jwt.decode(
        access,
        jwt.PyJWK(key).key,
        algorithms=["EdDSA"],
        audience=settings.JWT_AUDIENCE,
        issuer=settings.JWT_ISSUER,
    )
    lives = dt.timedelta(seconds=read["exp"] - read["iat"])
    assert lives == dt.timedelta(seconds=settings.ACCESS_TOKEN_S)
