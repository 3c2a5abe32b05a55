"""`make demo` against a live server."""

import os

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from identity.models import Tenant
from identity.services import create_api_key


@pytest.fixture
def _demo(
    live_server: LiveServer,
    tenant: Tenant,
    other_tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLORIN_URL", live_server.url)
    for name, owner in (("FLORIN_API_KEY", tenant), ("FLORIN_OTHER_API_KEY", other_tenant)):
        key = create_api_key(tenant_id=owner.pk, name="demo", scopes=["admin"], now=timezone.now())
        monkeypatch.setenv(name, key.clear)


@pytest.mark.usefixtures("_demo")
def test_the_tour_proves_its_balances(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("demo")

    shown = capsys.readouterr().out
    assert "Every balance was read back" in shown
    assert "insufficient_funds" in shown


@pytest.mark.usefixtures("_demo")
def test_it_says_when_nobody_answers() -> None:
    with pytest.raises(CommandError, match="did not answer"):
        call_command("demo", "--url", "http://127.0.0.1:1")


@pytest.mark.usefixtures("_demo")
def test_it_says_when_something_else_answers(live_server: LiveServer) -> None:
    with pytest.raises(CommandError, match="is not Florin"):
        call_command("demo", "--url", f"{live_server.url}/admin/login/?next=")


@pytest.mark.usefixtures("_demo")
def test_one_tenant_seeing_anothers_account_ends_the_tour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLORIN_OTHER_API_KEY", os.environ["FLORIN_API_KEY"])

    with pytest.raises(CommandError, match="was answered 200"):
        call_command("demo")
