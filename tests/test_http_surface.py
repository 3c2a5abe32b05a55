"""What stands around the API: documents, health, request ids, errors outside of it."""

import pytest
from django.conf import LazySettings
from django.test import Client

from core.api.catalogue import error_codes
from tests.contract import ContractClient


def test_liveness_asks_nobody(client: Client) -> None:
    assert client.get("/health/live").json() == {"status": "ok"}


def test_readiness_names_each_part(db: None, client: Client) -> None:
    answer = client.get("/health/ready")

    assert answer.status_code == 200
    assert answer.json()["parts"] == {"database": "ok", "migrations": "ok", "redis": "ok"}


def test_a_part_that_is_down_is_named(db: None, client: Client, settings: LazySettings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    answer = client.get("/health/ready")

    assert answer.status_code == 503
    assert answer.json()["parts"]["redis"] == "unavailable"
    assert answer.json()["parts"]["database"] == "ok"


def test_the_docs_load_nothing_from_elsewhere(db: None, client: Client) -> None:
    page = client.get("/api/docs/")

    assert page.status_code == 200
    assert b"://" not in page.content.replace(b"http://testserver", b"")
    assert "default-src 'self'" in page["Content-Security-Policy"]
    styles = client.get("/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui.css")
    assert styles.status_code == 200
    styles.close()


def test_every_problem_type_leads_somewhere(client: Client) -> None:
    page = client.get("/api/docs/errors").content.decode()

    for each in error_codes():
        assert f'id="{each.code}"' in page


def test_an_unknown_address_is_a_problem_document(api: ContractClient) -> None:
    answer = api.get("/api/v1/nothing-here")

    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "not_found"


def test_a_method_that_is_not_allowed_is_a_problem_document(api: ContractClient) -> None:
    answer = api.delete("/api/v1/accounts")

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


def test_the_request_id_comes_back(api: ContractClient) -> None:
    given = api.get("/api/v1/accounts?x=1", headers={"X-Request-Id": "abc-7"})
    made_up = api.get("/api/v1/accounts?x=1", headers={"X-Request-Id": "abc\n7" * 50})

    assert given["X-Request-Id"] == given.json()["request_id"] == "abc-7"
    assert len(made_up["X-Request-Id"]) == 36


@pytest.mark.parametrize(
    "header",
    [
        "Basic abc",
        "Bearer",
        "Bearer x",
        "Bearer florin_test_00_11",
        "Bearer é",
        "Bearer " + "x" * 9999,
    ],
)
def test_credentials_that_are_not_ours_are_refused(db: None, header: str) -> None:
    answer = ContractClient().get("/api/v1/accounts", headers={"Authorization": header})

    assert answer.status_code == 401
    assert answer.json()["code"] in ("not_authenticated", "invalid_token")
