"""S25: a card number is nowhere, wherever it was put."""

from typing import Any

import pytest
import redis
from django.apps import apps
from django.conf import settings
from django.db import connection

from accounts.models import Account
from identity.models import Tenant
from tests import gateways, making
from tests.contract import ContractClient
from tests.gateways import Sandbox, add_sandbox, add_xendit

pytestmark = pytest.mark.django_db(transaction=True)

# Of nobody; it passes the check, and is no test card of the sandbox.
CARD = "4111111111111111"
SPACED = "4111 1111 1111 1111"


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant, balance=1_000)


def everywhere() -> str:
    """All that stands in PostgreSQL and Redis."""
    found = []
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            cursor.execute(f'SELECT t::text FROM "{model._meta.db_table}" t')
            found += [row[0] for row in cursor.fetchall()]
    client = redis.Redis.from_url(settings.REDIS_URL)
    for key in client.scan_iter(count=1_000):
        found.append(key.decode(errors="replace"))
    client.close()
    return "\n".join(found)


def assert_nowhere(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    text = everywhere()
    for form in (CARD, SPACED, CARD.encode().hex(), SPACED.encode().hex()):
        assert form not in text
        assert form not in caplog.text
        assert form not in answer.content.decode()


def top_up(api: ContractClient, account: Account, **more: Any) -> Any:
    body = {"amount": 100, "currency": "USD", "payment_method": gateways.card(), **more}
    return api.post_once(f"/accounts/{account.pk}/topup", body)


def test_s25_a_real_number_never_reaches_even_the_sandbox(
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
    caplog: pytest.LogCaptureFixture,
) -> None:
    add_sandbox(tenant)

    answer = top_up(api, ada, payment_method=gateways.card(CARD))

    assert (answer.status_code, answer.json()["code"]) == (422, "card_data_refused")
    assert sandbox.requests("create_payment") == []
    assert_nowhere(answer, caplog)


def test_s25_no_number_goes_to_a_real_gateway(
    sandbox: Sandbox,
    api: ContractClient,
    tenant: Tenant,
    caplog: pytest.LogCaptureFixture,
) -> None:
    add_xendit(tenant)
    ani = making.open_account(tenant, currency="IDR")

    answer = top_up(api, ani, currency="IDR", payment_method=gateways.card())

    assert (answer.status_code, answer.json()["code"]) == (422, "card_data_refused")
    assert sandbox.requests("create_payment") == []


@pytest.mark.parametrize("number", [CARD, SPACED])
@pytest.mark.parametrize(
    "field",
    ["description", "metadata", "metadata key", "token", "return_url", "currency", "gateway"],
)
def test_s25_in_a_top_up(
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
    caplog: pytest.LogCaptureFixture,
    field: str,
    number: str,
) -> None:
    add_sandbox(tenant)
    fields: dict[str, Any] = {
        "description": {"description": f"card {number}"},
        "metadata": {"metadata": {"card": number}},
        "metadata key": {"metadata": {number: "x"}},
        "token": {"payment_method": {"token": number}},
        "return_url": {"return_url": f"https://shop.example/{number.replace(' ', '')}"},
        "currency": {"currency": number},
        "gateway": {"gateway": number},
    }

    answer = top_up(api, ada, **fields[field])

    assert answer.status_code in (400, 422), answer.content
    assert_nowhere(answer, caplog)


@pytest.mark.parametrize("field", ["description", "metadata", "name", "town", "bank_code"])
def test_s25_in_a_payout(
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
    caplog: pytest.LogCaptureFixture,
    field: str,
) -> None:
    add_sandbox(tenant)
    beneficiary = {"name": "Budi", "country": "DE", "iban": "DE89370400440532013000"}
    body: dict[str, Any] = {
        "source_account_id": str(ada.pk),
        "amount": 1,
        "currency": "USD",
        "beneficiary": beneficiary,
    }
    if field in ("description", "metadata"):
        body[field] = CARD if field == "description" else {"card": CARD}
    else:
        beneficiary[field] = CARD

    answer = api.post_once("/payouts", body)

    assert answer.status_code == 400, answer.content
    assert_nowhere(answer, caplog)


def test_s25_in_the_reason_of_a_refund(
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
    caplog: pytest.LogCaptureFixture,
) -> None:
    add_sandbox(tenant)
    topup = top_up(api, ada).json()

    answer = api.post_once(f"/topups/{topup['id']}/refunds", {"reason": f"card {CARD}"})

    assert answer.status_code == 400
    assert_nowhere(answer, caplog)


def test_a_test_card_is_kept_nowhere_either(
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
    caplog: pytest.LogCaptureFixture,
) -> None:
    add_sandbox(tenant)

    answer = top_up(api, ada)

    assert answer.json()["card_last4"] == "4242"
    text = everywhere()
    assert gateways.GOOD_CARD not in text
    assert gateways.GOOD_CARD not in caplog.text
    assert gateways.GOOD_CARD not in answer.content.decode()
