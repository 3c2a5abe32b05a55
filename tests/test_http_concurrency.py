"""Many callers at once, through a real server."""

import contextlib
import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from accounts.models import Account
from core.models import IdempotencyRecord
from identity.models import Tenant
from identity.services import create_api_key
from tests import making

CALLERS = 100
CONNECTS_MAX = 50
Post = Callable[[str, Any, str], tuple[int, Any]]


@pytest.fixture
def post(live_server: LiveServer, tenant: Tenant) -> Post:
    """Send a request and return its status and body."""
    key = create_api_key(tenant_id=tenant.pk, name="t", scopes=["admin"], now=timezone.now())

    def send(path: str, body: Any, idempotency_key: str) -> tuple[int, Any]:
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{live_server.url}/api/v1{path}",
            data=json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {key.clear}",
                "Content-Type": "application/json",
                "Idempotency-Key": idempotency_key,
            },
        )
        for _ in range(CONNECTS_MAX):
            # The test server's queue is short. Like any client: the same request, the same key.
            with contextlib.suppress(ConnectionError):
                try:
                    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
                        return response.status, json.load(response)
                except urllib.error.HTTPError as error:
                    return error.code, json.load(error)
                except urllib.error.URLError as error:
                    raise error.reason if isinstance(error.reason, OSError) else error from error
        raise AssertionError("the server took no connection")

    return send


def all_at_once(call: Callable[[int], tuple[int, Any]]) -> list[tuple[int, Any]]:
    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(call, range(CALLERS)))


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant, balance=1000)


@pytest.mark.parametrize("door", ["transfers", "batch", "holds", "accounts"])
def test_s16_a_hundred_requests_with_one_key_act_once(
    post: Post, ada: Account, tenant: Tenant, door: str
) -> None:
    ben = making.open_account(tenant)
    order = {
        "source_account_id": str(ada.pk),
        "destination_account_id": str(ben.pk),
        "amount": 10,
        "currency": "USD",
    }
    path, body = {
        "transfers": ("/transfers", order),
        "batch": ("/transfers/batch", {"transfers": [order]}),
        "holds": ("/holds", {"account_id": str(ada.pk), "amount": 10, "currency": "USD"}),
        "accounts": ("/accounts", {"type": "checking", "currency": "USD", "name": "new"}),
    }[door]

    answers = all_at_once(lambda _: post(path, body, "one-key"))

    statuses = Counter(status for status, _ in answers)
    # A twin waits for the first; one that waited too long may be told to come back.
    assert set(statuses) <= {200, 201, 409}, answers
    bodies = {json.dumps(body, sort_keys=True) for status, body in answers if status != 409}
    assert len(bodies) == 1
    assert {body["code"] for status, body in answers if status == 409} <= {
        "request_in_progress",
        "locked",
    }
    ada.refresh_from_db()
    effects = {
        "transfers": 1000 - ada.balance,
        "batch": 1000 - ada.balance,
        "holds": ada.held,
        "accounts": 10 * Account.objects.filter(name="new").count(),
    }
    assert effects[door] == 10
    assert IdempotencyRecord.objects.filter(status=None).count() == 0


def test_s16_a_hundred_spenders_never_overdraw(post: Post, ada: Account, tenant: Tenant) -> None:
    ben = making.open_account(tenant)
    order = {
        "source_account_id": str(ada.pk),
        "destination_account_id": str(ben.pk),
        "amount": 30,
        "currency": "USD",
    }

    answers = all_at_once(lambda n: post("/transfers", order, f"spend-{n}"))

    statuses = Counter(status for status, _ in answers)
    assert statuses == {201: 33, 422: 67}
    assert (making.balance_of(ada), making.balance_of(ben)) == (10, 990)
