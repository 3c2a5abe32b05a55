"""A line an event: its fields, its two looks, and that no secret gets through."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from django.conf import LazySettings
from django.test import Client
from django.utils import timezone

from core import tasks
from core.caller import Caller, calling
from core.ids import new_id
from core.logs import LineFormatter, LineHandler, LogFormat
from identity.models import Tenant
from identity.services import create_api_key
from tests import making
from tests.contract import ContractClient


class Written:
    """What went through the handler."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if line["event"] == event]


def listening(written: Written, log_format: LogFormat) -> logging.Handler:
    handler = LineHandler(written.stream)
    handler.setFormatter(LineFormatter(log_format, colors=False))
    return handler


@pytest.fixture
def log() -> Iterator[Written]:
    written = Written()
    handler = listening(written, "json")
    logging.getLogger().addHandler(handler)
    yield written
    logging.getLogger().removeHandler(handler)


def test_a_request_leaves_one_line(log: Written, tenant: Tenant, api: ContractClient) -> None:
    answer = api.get("/api/v1/me", headers={"X-Request-Id": "mine-1"})

    [line] = log.lines("request")
    assert line == {
        **line,
        "level": "info",
        "method": "GET",
        "route": "/api/v1/me",
        "status": 200,
        "request_id": "mine-1",
        "tenant": str(tenant.pk),
        "actor": f"key:{answer.json()['id']}",
        "address": "127.0.0.1",
    }
    assert line["duration_ms"] > 0
    assert line["timestamp"].endswith("Z")


def test_what_callers_put_into_an_address_stays_out(log: Written, api: ContractClient) -> None:
    api.get(f"/api/v1/accounts/{new_id()}?cvv=123")
    api.get("/nothing/4111111111111111")

    assert [line["route"] for line in log.lines("request")] == [
        "/api/v1/accounts/<uuid:pk>",
        "none",
    ]
    assert "123" not in log.text.replace("127.0.0.1", "") or "cvv" not in log.text
    assert "4111111111111111" not in log.text


def test_a_strangers_line_names_nobody(log: Written, db: None) -> None:
    ContractClient().get("/api/v1/me")

    [line] = log.lines("request")
    assert (line["status"], line["actor"]) == (401, "anonymous")
    assert "tenant" not in line


def test_s26_secrets_sent_are_secrets_kept(
    log: Written, tenant: Tenant, api: ContractClient
) -> None:
    user = making.person(tenant, "customer", password="a-long-password-of-hers")
    body = {"email": user.email, "password": "a-long-password-of-hers"}
    tokens = ContractClient().post("/api/v1/auth/token", body).json()
    ContractClient().post("/api/v1/auth/token", {**body, "password": "wrong-but-a-secret"})
    key = api.post_once("/api-keys", {"name": "k", "scopes": ["read"]}).json()["key"]
    making.client_of(tokens["access"]).get("/api/v1/me")

    for secret in ("a-long-password", "wrong-but", tokens["access"], tokens["refresh"], key):
        assert secret not in log.text
    assert len(log.lines("request")) == 4


def test_s26_a_bug_is_told_with_its_request(
    log: Written, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = create_api_key(tenant_id=tenant.pk, name="k", scopes=["read"], now=timezone.now())

    def broken(**_: Any) -> None:
        raise RuntimeError("password=hunter2 broke it")

    monkeypatch.setattr("identity.api.views.who_is", broken)
    client = Client(raise_request_exception=False)

    answer = client.get("/api/v1/me", headers={"Authorization": f"Bearer {key.clear}"})

    assert answer.status_code == 500
    [told] = [line for line in map(json.loads, log.text.splitlines()) if "exception" in line]
    assert told["request_id"] == answer.json()["request_id"]
    assert "RuntimeError" in told["exception"]
    assert "hunter2" not in log.text


def test_health_checks_are_of_little_news(log: Written, db: None, settings: LazySettings) -> None:
    ContractClient().get("/health/live")

    assert not log.lines("request")


def test_request_lines_can_be_turned_off(
    log: Written, api: ContractClient, settings: LazySettings
) -> None:
    settings.REQUEST_LOG = False

    api.get("/api/v1/me")

    assert not log.lines("request")


def test_a_task_leaves_one_line_and_says_who_it_is(log: Written, db: None) -> None:
    tasks.purge_idempotency_records.apply()

    [line] = log.lines("task")
    assert line["task"] == "core.purge_idempotency_records"
    assert line["state"] == "SUCCESS"


def test_lines_of_other_libraries_look_the_same(log: Written) -> None:
    logging.getLogger("somebody").warning("logged in with %(password)s", {"password": "hunter2"})

    assert log.lines("logged in with [redacted]")


def test_a_line_that_cannot_be_written_does_not_tell_its_arguments() -> None:
    written = Written()
    logger = logging.getLogger("clumsy")
    # Else the test runner's own handler stumbles over it too.
    logger.propagate = False
    logger.addHandler(listening(written, "json"))

    logger.warning("%d of something", "hunter2")

    assert "could not be logged" in written.text
    assert "hunter2" not in written.text


def test_the_readable_look_stays_on_its_lines() -> None:
    written = Written()
    logger = logging.getLogger("readable")
    logger.propagate = False
    logger.addHandler(listening(written, "console"))

    with calling(Caller("user:1", "r-1")):
        structlog.get_logger("readable").warning("told", name="two\nlines\x1b[31m")

    [line] = written.text.splitlines()
    assert "told" in line
    assert "r-1" in line
    assert "\\n" in line
    assert "\x1b" not in line
