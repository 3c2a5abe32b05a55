"""Gateways over HTTP: secrets go in and never come out; which one a payment goes through."""

from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.apps import apps
from django.conf import LazySettings
from django.core.management import call_command
from django.db import connection

from accounts.models import Account
from core.encryption import Undecryptable, decrypt, encrypt
from identity.models import Tenant
from payments.gateways import breaker
from payments.gateways.registry import credentials_of, webhook_secrets_of
from payments.models import GatewayConfiguration
from tests import gateways, making
from tests.contract import ContractClient
from tests.gateways import Sandbox, add_midtrans, add_sandbox, add_xendit

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "xnd_development_4f0c2d0e6d0f4a52"
TOKEN = "callback-token-of-xendit"
XENDIT = {
    "gateway": "xendit",
    "mode": "test",
    "currencies": ["IDR", "MYR"],
    "credentials": {"secret_key": SECRET},
    "webhook_secret": TOKEN,
}


def add(api: ContractClient, **changes: Any) -> Any:
    return api.post_once("/gateways", {**XENDIT, **changes})


def top_up(api: ContractClient, account: Account, **more: Any) -> Any:
    body = {"amount": 100, "currency": "USD", "payment_method": gateways.card(), **more}
    return api.post_once(f"/accounts/{account.pk}/topup", body)


def every_text() -> str:
    """All that stands in any table."""
    rows = []
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            cursor.execute(f'SELECT t::text FROM "{model._meta.db_table}" t')
            rows += [row[0] for row in cursor.fetchall()]
    return "\n".join(rows)


def test_s33_secrets_go_in_and_never_come_out(api: ContractClient) -> None:
    answer = add(api)

    assert answer.status_code == 201, answer.content
    url = f"/api/v1/gateways/{answer.json()['id']}"
    api.patch(url, {"webhook_secret": "another-callback-token"})
    shown = answer.content + api.get(url).content + api.get("/api/v1/gateways").content
    assert SECRET.encode() not in shown
    assert TOKEN.encode() not in shown
    assert answer.json()["credential_hint"] == SECRET[-4:]
    found = every_text()
    assert SECRET not in found
    assert TOKEN not in found
    # As bytea is written out.
    assert SECRET.encode().hex() not in found
    assert TOKEN.encode().hex() not in found


def test_s33_a_ciphertext_opens_nowhere_else(tenant: Tenant) -> None:
    one, other = add_xendit(tenant), add_xendit(tenant)
    GatewayConfiguration.objects.filter(pk=other.pk).update(credentials=one.credentials)

    with pytest.raises(Undecryptable):
        credentials_of(GatewayConfiguration.objects.get(pk=other.pk))


def test_s33_keys_rotate(tenant: Tenant, settings: LazySettings) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [old]
    configuration = add_xendit(tenant)
    known = credentials_of(configuration)
    settings.ENCRYPTION_KEYS = [new, old]
    assert credentials_of(configuration) == known

    call_command("rotate_encryption_key")

    settings.ENCRYPTION_KEYS = [new]
    configuration.refresh_from_db()
    assert credentials_of(configuration) == known
    settings.ENCRYPTION_KEYS = [old]
    with pytest.raises(Undecryptable):
        credentials_of(configuration)


def test_a_secret_is_bound_to_its_place() -> None:
    sealed = encrypt("s", place="gateway:1:credentials")

    assert decrypt(sealed, place="gateway:1:credentials") == "s"
    with pytest.raises(Undecryptable):
        decrypt(sealed, place="gateway:2:credentials")
    with pytest.raises(Undecryptable):
        decrypt(sealed[:-1], place="gateway:1:credentials")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"credentials": {}}, "credentials.secret_key"),
        ({"credentials": {"secret_key": "x", "server_key": "y"}}, "credentials.server_key"),
        ({"credentials": {"secret_key": "line\nbreak"}}, "credentials"),
        ({"currencies": ["JPY"]}, "currencies"),
        ({"currencies": []}, "currencies"),
        ({"currencies": ["XXX"]}, "currencies.0"),
        ({"webhook_secret": ""}, "webhook_secret"),
        ({"gateway": "stripe"}, "gateway"),
        ({"mode": "production"}, "mode"),
        ({"gateway": "midtrans", "credentials": {"server_key": "k"}}, "currencies"),
        ({"gateway": "sandbox", "mode": "live"}, "mode"),
        ({"priority": -1}, "priority"),
        ({"is_enabled": "yes"}, "is_enabled"),
    ],
)
def test_what_a_gateway_does_not_have_is_refused(
    sandbox: Sandbox, api: ContractClient, changes: dict[str, Any], field: str
) -> None:
    answer = add(api, **changes)

    assert answer.status_code == 400, answer.content
    assert answer.json()["errors"][0]["field"] == field
    assert not GatewayConfiguration.objects.exists()


def test_without_a_webhook_secret_xendit_is_refused(api: ContractClient) -> None:
    body = {name: value for name, value in XENDIT.items() if name != "webhook_secret"}

    answer = api.post_once("/gateways", body)

    assert answer.json()["errors"][0]["field"] == "webhook_secret"


def test_test_and_live_never_mix(api: ContractClient) -> None:
    first = add(api).json()

    live = add(api, mode="live")

    assert (live.status_code, live.json()["code"]) == (409, "invalid_state")
    waiting = add(api, mode="live", is_enabled=False)
    assert waiting.status_code == 201
    url = f"/api/v1/gateways/{waiting.json()['id']}"
    assert api.patch(url, {"is_enabled": True}).status_code == 409
    api.patch(f"/api/v1/gateways/{first['id']}", {"is_enabled": False})
    assert api.patch(url, {"is_enabled": True}).status_code == 200


def test_two_of_different_modes_at_once_are_one(tenant: Tenant) -> None:
    clients = [making.api_client(tenant) for _ in range(6)]
    modes = ["test", "live"] * 3

    answers = making.at_once(
        [
            lambda client=client, mode=mode: add(client, mode=mode)  # type: ignore[misc]
            for client, mode in zip(clients, modes, strict=True)
        ]
    )

    assert {answer.status_code for answer in answers} == {201, 409}  # type: ignore[union-attr]
    enabled = GatewayConfiguration.objects.filter(is_enabled=True)
    assert len({each.mode for each in enabled}) == 1


def test_a_rotated_webhook_secret_leaves_the_old_one_for_a_day(
    api: ContractClient, tenant: Tenant
) -> None:
    made = add(api).json()
    configuration = GatewayConfiguration.objects.get(pk=made["id"])

    api.patch(f"/api/v1/gateways/{made['id']}", {"webhook_secret": "another-one"})

    configuration.refresh_from_db()
    until = configuration.previous_webhook_secret_until
    assert until is not None
    assert webhook_secrets_of(configuration, configuration.updated_at) == ["another-one", TOKEN]
    assert webhook_secrets_of(configuration, until) == ["another-one"]


def test_the_lowest_priority_goes_first(
    sandbox: Sandbox, api: ContractClient, tenant: Tenant
) -> None:
    add_sandbox(tenant, priority=20, name="second")
    first = add_sandbox(tenant, priority=10, name="first")
    account = making.open_account(tenant)

    top_up(api, account)

    [request] = sandbox.requests("create_payment")
    assert gateways.secret_key_of(first) in request["headers"]["authorization"]


def test_one_that_cannot_be_reached_is_passed_over(
    sandbox: Sandbox, api: ContractClient, tenant: Tenant, settings: LazySettings
) -> None:
    add_xendit(tenant, priority=1)
    add_midtrans(tenant, priority=2)
    settings.GATEWAY_URLS = {**settings.GATEWAY_URLS, ("xendit", "test"): "http://127.0.0.1:9"}
    account = making.open_account(tenant, currency="IDR")

    answer = top_up(api, account, currency="IDR", payment_method={"type": "hosted"})

    assert answer.status_code == 202, answer.content
    assert answer.json()["gateway"] == "midtrans"
    assert answer.json()["reference"].endswith("-2")


def test_one_whose_circuit_is_open_is_passed_over(
    sandbox: Sandbox, api: ContractClient, tenant: Tenant
) -> None:
    broken, well = add_sandbox(tenant, priority=1), add_sandbox(tenant, priority=2)
    for _ in range(breaker.FAILURES_MAX):
        breaker.failed(broken.circuit)
    account = making.open_account(tenant)

    assert top_up(api, account).json()["status"] == "succeeded"

    [request] = sandbox.requests("create_payment")
    assert gateways.secret_key_of(well) in request["headers"]["authorization"]


def test_when_none_can_be_reached_nothing_is_asked_for_and_the_key_is_good_again(
    sandbox: Sandbox, api: ContractClient, tenant: Tenant, settings: LazySettings
) -> None:
    add_sandbox(tenant)
    account = making.open_account(tenant)
    urls = settings.GATEWAY_URLS
    settings.GATEWAY_URLS = {**urls, ("sandbox", "test"): "http://127.0.0.1:9"}
    url = f"/accounts/{account.pk}/topup"
    body = {"amount": 100, "currency": "USD", "payment_method": gateways.card()}
    refused = api.post_once(url, body, key="once")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    settings.GATEWAY_URLS = urls

    answer = api.post_once(url, body, key="once")

    assert (answer.status_code, answer.json()["status"]) == (201, "succeeded")
    assert making.balance_of(account) == 100
    assert len(sandbox.requests("create_payment")) == 1


def test_a_deleted_one_is_gone_with_its_secrets(api: ContractClient) -> None:
    made = add(api).json()
    url = f"/api/v1/gateways/{made['id']}"

    assert api.delete(url).status_code == 204

    assert api.get(url).status_code == 404
    kept = GatewayConfiguration.objects.get(pk=made["id"])
    assert not kept.credentials
    assert kept.webhook_secret is None


def test_one_in_use_is_not_deleted(sandbox: Sandbox, api: ContractClient, tenant: Tenant) -> None:
    configuration = add_sandbox(tenant)
    top_up(api, making.open_account(tenant), payment_method={"type": "hosted"})

    answer = api.delete(f"/api/v1/gateways/{configuration.pk}")

    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")
