"""GET /metrics: for a scraper's token and for admins."""

import pytest
from django.conf import LazySettings

from identity.models import Tenant
from tests import making
from tests.contract import ContractClient


@pytest.fixture
def scrape_token(settings: LazySettings) -> str:
    token = "scrape-" + "a1" * 16
    settings.METRICS_TOKEN = token
    return token


def scraped(client: ContractClient) -> str:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    return str(answer.content.decode())


def test_requests_are_counted(api: ContractClient, db: None) -> None:
    line = 'florin_http_requests_total{method="GET",route="/api/v1/me",status="200"}'
    before = _value(scraped(api), line)

    api.get("/api/v1/me")

    assert _value(scraped(api), line) == before + 1
    assert 'florin_http_request_seconds_bucket{le="0.5",method="GET"' in scraped(api)


def test_a_scraper_needs_its_token_only(db: None, scrape_token: str) -> None:
    assert "florin_rate_limit_skipped_total" in scraped(making.client_of(scrape_token))


@pytest.mark.parametrize("wrong", ["", "scrape-", "scrape-" + "a1" * 15 + "b2"])
def test_a_wrong_token_is_refused(db: None, scrape_token: str, wrong: str) -> None:
    assert making.client_of(wrong).get("/metrics").status_code == 401


def test_without_a_token_set_an_empty_one_is_refused(db: None, settings: LazySettings) -> None:
    settings.METRICS_TOKEN = ""

    assert making.client_of("").get("/metrics").status_code == 401
    assert ContractClient().get("/metrics").status_code == 401


def test_others_are_not_let_in(tenant: Tenant) -> None:
    assert making.api_client(tenant, "read", "write").get("/metrics").status_code == 403
    assert making.person_client(tenant, "supervisor").get("/metrics").status_code == 403
    assert making.person_client(tenant, "admin").get("/metrics").status_code == 200


def _value(text: str, name: str) -> float:
    found = [line for line in text.splitlines() if line.startswith(name)]
    return float(found[0].rsplit(" ", 1)[1]) if found else 0.0
