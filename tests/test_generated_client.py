"""A Python client, generated from docs/openapi.yaml: the README's tour, and signing in."""

import datetime as dt
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from core.permissions import Role
from identity.models import Tenant
from identity.services import create_api_key
from tests import making

PROGRAMS = Path(sys.executable).parent
NAME = "generated_florin_client"
# What is read as bytes.
FILES = dict.fromkeys(
    (
        "application/pdf",
        "application/xml",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    "application/octet-stream",
)
PASSWORD = "a-long-password-of-hers"


class Florin:
    """The generated package: `call` an operation, `model` a body."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def model(self, name: str, /, **fields: Any) -> Any:
        module = importlib.import_module(f"{NAME}.models")
        return getattr(module, name).from_dict(fields)

    def call(self, operation: str, *path: Any, status: int, **more: Any) -> Any:
        """Call an operation such as `accounts.open_account`; return what it made of the answer."""
        module = importlib.import_module(f"{NAME}.api.{operation}")
        answer = module.sync_detailed(*path, client=self.client, **more)
        assert answer.status_code == HTTPStatus(status), answer
        return answer.parsed

    def post(
        self,
        operation: str,
        body: str,
        /,
        *path: Any,
        status: int = 201,
        key: str = "",
        **fields: Any,
    ) -> Any:
        return self.call(
            operation,
            *path,
            body=self.model(body, **fields),
            idempotency_key=key or making.fresh_key(),
            status=status,
        )


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Any]:
    """The client's package, made by the generator and forgotten afterwards."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"content_type_overrides": FILES}))
    done = subprocess.run(
        [
            *(PROGRAMS / "openapi-python-client", "generate"),
            *("--path", settings.BASE_DIR / "docs" / "openapi.yaml"),
            *("--output-path", tmp_path / NAME, "--meta", "none", "--fail-on-warning"),
            *("--config", config),
        ],
        # It has ruff tidy up, and looks for it on the PATH.
        env={**os.environ, "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(tmp_path))
    yield importlib.import_module(NAME)
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith(NAME)]:
        del sys.modules[name]


@pytest.fixture
def florin(package: Any, live_server: LiveServer, tenant: Tenant) -> Iterator[Florin]:
    key = create_api_key(tenant_id=tenant.pk, name="k", scopes=["admin"], now=timezone.now())
    with package.AuthenticatedClient(base_url=live_server.url, token=key.clear) as client:
        yield Florin(client)


def test_it_plays_the_tour(florin: Florin) -> None:
    ada, ben = (
        florin.post(
            "accounts.open_account",
            "OpenAccountRequest",
            type="checking",
            currency="MYR",
            name=name,
        )
        for name in ("Ada", "Ben")
    )
    florin.post(
        "money_movement.make_deposit",
        "CashRequest",
        account_id=str(ada.id),
        amount=10_000,
        currency="MYR",
    )
    lunch: dict[str, Any] = {
        "source_account_id": str(ada.id),
        "destination_account_id": str(ben.id),
        "currency": "MYR",
    }
    first, again = (
        florin.post(
            "money_movement.make_transfer", "TransferRequest", key="lunch", amount=1250, **lunch
        )
        for _ in range(2)
    )
    assert first.id == again.id
    assert florin.call("accounts.get_balance", ada.id, status=200).balance == 8_750

    refused = florin.post(
        "money_movement.make_transfer", "TransferRequest", status=422, amount=99_999, **lunch
    )
    assert refused.code == "insufficient_funds"

    hold = florin.post(
        "money_movement.place_hold",
        "PlaceHoldRequest",
        account_id=str(ada.id),
        amount=5000,
        currency="MYR",
    )
    assert florin.call("accounts.get_balance", ada.id, status=200).available == 3_750
    captured = florin.post(
        "money_movement.capture_hold",
        "CaptureHoldRequest",
        hold.id,
        destination_account_id=str(ben.id),
        amount=4200,
        status=200,
    )
    assert captured.status.value == "captured"

    florin.post(
        "money_movement.reverse_transaction", "ReverseRequest", first.id, reason="Lunch was free"
    )
    entries = florin.call("accounts.list_entries", ada.id, status=200).results
    assert [entry.amount for entry in entries] == [1250, -4200, -1250, 10_000]
    books = florin.call("money_movement.get_trial_balance", status=200, currency="MYR")
    assert [each.difference for each in books.currencies] == [0]


def test_it_makes_an_invoice(florin: Florin) -> None:
    line = {"description": "Coffee", "quantity": "1.5", "unit_amount": 1_000, "tax_rate": 11}
    made = florin.post(
        "invoices.create_invoice",
        "InvoiceRequest",
        currency="IDR",
        line_items=[line],
        installments={"count": 3, "interval": "weekly"},
        finalize=True,
    )
    assert (made.total_amount, made.line_items[0].quantity) == (1_665, "1.5")
    assert [each.amount for each in made.installment_schedule] == [555, 555, 555]

    paid = florin.post(
        "invoices.record_invoice_payment",
        "OfflinePaymentRequest",
        made.id,
        amount=555,
        method="cash",
    )
    assert paid.applied_amount == 555
    shown = florin.call("invoices.get_invoice", made.id, status=200)
    assert (shown.status.value, shown.amount_due) == ("partially_paid", 1_110)
    order = florin.call("invoices.get_payment_initiation", made.id, status=200)
    assert b"pain.001.001.09" in order.payload.read()


def test_it_saves(florin: Florin) -> None:
    ada = florin.post(
        "accounts.open_account", "OpenAccountRequest", type="checking", currency="EUR"
    )
    florin.post(
        "money_movement.make_deposit",
        "CashRequest",
        account_id=str(ada.id),
        amount=10_000,
        currency="EUR",
    )
    terms: dict[str, Any] = {
        "account_id": str(ada.id),
        "currency": "EUR",
        "name": "Holiday",
        "amount": 2_500,
    }
    aside = florin.post(
        "savings.create_savings_plan",
        "SavingsPlanRequest",
        kind="auto_withdraw",
        target_amount=10_000,
        **terms,
    )
    more = florin.post(
        "savings.deposit_into_savings_plan",
        "SavingsDepositRequest",
        aside.id,
        amount=2_500,
        status=200,
    )
    assert (more.balance, more.progress, more.unlock_date) == (2_500, 25.0, None)
    foreseen = florin.call("savings.project_savings_plan", aside.id, status=200)
    assert (foreseen.balance, len(foreseen.months) > 1) == (10_000, True)

    locked = florin.post(
        "savings.create_savings_plan",
        "SavingsPlanRequest",
        kind="date_locked",
        unlock_date=(timezone.now() + dt.timedelta(days=30)).date().isoformat(),
        **terms,
    )
    refused = florin.post(
        "savings.withdraw_from_savings_plan",
        "SavingsWithdrawalRequest",
        locked.id,
        amount=1,
        status=422,
    )
    assert (refused.code, refused.unlock_date) == ("savings_plan_locked", locked.unlock_date)
    listed = florin.call("savings.list_savings_plans", status=200).results
    assert [each.id for each in listed] == [locked.id, aside.id]


def test_it_signs_in_goes_on_and_out(
    package: Any, live_server: LiveServer, tenant: Tenant, florin: Florin
) -> None:
    user = making.person(tenant, Role.AUDITOR, password=PASSWORD)
    stranger = Florin(package.Client(base_url=live_server.url))
    body = stranger.model("SignInRequest", email=user.email, password=PASSWORD)

    tokens = stranger.call("identity.sign_in", body=body, status=200)
    refresh = stranger.model("RefreshRequest", refresh=tokens.refresh)
    tokens = stranger.call("identity.refresh_tokens", body=refresh, status=200)
    person = Florin(package.AuthenticatedClient(base_url=live_server.url, token=tokens.access))
    assert person.call("identity.get_me", status=200).id == user.pk
    refresh = stranger.model("RefreshRequest", refresh=tokens.refresh)
    stranger.call("identity.sign_out", body=refresh, status=204)

    assert person.call("identity.get_me", status=401).code == "invalid_token"
