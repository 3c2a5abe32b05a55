"""Tenants never meet: every address of the API, asked by a stranger, with another's ids."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from identity.models import Tenant
from tests import making
from tests.contract import ContractClient


def routes() -> Iterator[tuple[str, set[str]]]:
    """Every route below /api/v1 with its methods."""

    def walk(patterns: Any, before: str) -> Iterator[tuple[str, set[str]]]:
        for each in patterns:
            route = before + str(each.pattern)
            if isinstance(each, URLResolver):
                yield from walk(each.url_patterns, route)
            elif isinstance(each, URLPattern) and route.startswith("api/v1/"):
                yield f"/{route}", set(getattr(each.callback, "actions", {}))

    yield from walk(get_resolver().url_patterns, "")


ROUTES = sorted(routes())
WITH_ID = [(path, method) for path, methods in ROUTES if "<" in path for method in sorted(methods)]
LISTS = [path for path, methods in ROUTES if "<" not in path and "get" in methods]


@pytest.fixture
def ids(tenant: Tenant, api: ContractClient) -> dict[str, str]:
    """One of everything that the tenant has, by the path that leads to it."""
    ada, ben = making.open_account(tenant, balance=1000), making.open_account(tenant)
    made = making.transfer(ada, ben, 10)
    hold = api.post_once("/holds", {"account_id": str(ada.pk), "amount": 5, "currency": "USD"})
    return {
        "/accounts/": str(ada.pk),
        "/transactions/": str(made.id),
        "/transfers/": str(made.id),
        "/holds/": hold.json()["id"],
    }


def concrete(path: str, ids: dict[str, str]) -> str:
    name = next(name for name in ids if path.startswith(f"/api/v1{name}"))
    return re.sub(r"<uuid:\w+>", ids[name], path)


def test_the_sweep_sees_the_routes() -> None:
    assert len(WITH_ID) >= 15
    assert len(LISTS) >= 3


@pytest.mark.parametrize(("path", "method"), WITH_ID)
def test_anothers_object_does_not_exist(
    other_api: ContractClient, ids: dict[str, str], path: str, method: str
) -> None:
    url = concrete(path, ids)
    body = {
        "reason": "x",
        "destination_account_id": ids["/holds/"],
        "amount": 1,
        "currency": "USD",
    }
    if method == "patch":
        body = {"name": "mine"}

    answer = getattr(other_api, method)(
        url, None if method == "get" else body, headers={"Idempotency-Key": "k"}
    )

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", LISTS)
def test_lists_hold_ones_own_only(
    other_api: ContractClient, ids: dict[str, str], path: str
) -> None:
    text = other_api.get(path).content.decode()

    for one in ids.values():
        assert one not in text


def test_anothers_account_filters_nothing_out(
    other_api: ContractClient, ids: dict[str, str]
) -> None:
    answer = other_api.get(f"/api/v1/transactions?account_id={ids['/accounts/']}")

    assert answer.status_code == 404


@pytest.mark.parametrize(("path", "methods"), ROUTES)
def test_strangers_are_not_served(
    db: None, ids: dict[str, str], path: str, methods: set[str]
) -> None:
    url = concrete(path, ids) if "<" in path else path
    for method in methods:
        answer = getattr(ContractClient(), method)(url)
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
        assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("path", "methods"), ROUTES)
def test_scopes_are_kept(tenant: Tenant, ids: dict[str, str], path: str, methods: set[str]) -> None:
    url = concrete(path, ids) if "<" in path else path
    for method in methods:
        scope = "write" if method == "get" else "read"
        answer = getattr(making.api_client(tenant, scope), method)(url)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
