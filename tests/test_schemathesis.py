"""Thousands of requests made from the API's document: no 500, no answer that it does not know."""

import json
import re
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from django.conf import settings
from django.utils import timezone

from core.money import Money
from identity.models import Tenant
from identity.services import create_api_key
from ledger.services import place_hold
from tests import gateways, making
from tests.contract import document
from tests.serving import web_server

RULES = Path(__file__).with_name("schemathesis.toml")
# Four times what a slow machine was seen to take.
TIMEOUT_S = 1_200
# The same ones at each run: what they find is then found again.
SEED, EXAMPLES = "1", "12"

WITHOUT_LIMITS = {
    "RATE_LIMIT": "0",
    "RATE_LIMIT_ANONYMOUS": "0",
    "SIGN_IN_FAILURES_MAX": "1000000",
    "SIGN_IN_FAILURES_ADDRESS_MAX": "1000000",
    "SIGN_IN_FAILURES_PERSON_MAX": "1000000",
    "LOG_LEVEL": "ERROR",
}
# Else nearly all reads would be 404.
_IDS = """
[[operations]]
include-path-regex = "^/api/v1/{path}/"
parameters = {{ "path.id" = {ids}, "path.account_id" = {ids}, "path.topup_id" = {ids}, \
"path.invoice_id" = {ids}, "path.payment_id" = {ids}, \
"path.plan_id" = {ids} }}
"""


@pytest.fixture
def config(tenant: Tenant, sandbox: gateways.Sandbox, tmp_path: Path) -> Path:
    account = making.open_account(tenant, balance=1_000_000)
    other = making.open_account(tenant)
    moved = making.transfer(account, other, 10)
    placed = place_hold(
        tenant_id=tenant.pk,
        account_id=account.pk,
        amount=Money(5, "USD"),
        idempotency_key=making.fresh_key(),
        expires_at=None,
        now=timezone.now(),
    )
    ids = {
        "accounts": account.pk,
        "transfers": moved.id,
        "transactions": moved.id,
        "holds": placed.hold.pk,
    }
    made = gateways.one_of_everything(tenant, account)
    ids |= {
        "topups": UUID(made["topup"]),
        "payouts": UUID(made["payout"]),
        "gateways": UUID(made["gateway"]),
        "recurring-payments": UUID(made["recurring_payment"]),
        "savings-plans": UUID(made["savings_plan"]),
        "early-releases": UUID(made["early_release"]),
        "invoices": UUID(made["invoice"]),
        "webhooks/failed": UUID(made["failed_webhook"]),
    }
    path = tmp_path / "schemathesis.toml"
    path.write_text(
        RULES.read_text()
        + "".join(_IDS.format(path=name, ids=json.dumps(str(one))) for name, one in ids.items())
    )
    return path


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_every_operation_keeps_to_the_document(
    tenant: Tenant, sandbox: gateways.Sandbox, config: Path, tmp_path: Path
) -> None:
    key = create_api_key(tenant_id=tenant.pk, name="k", scopes=["admin"], now=timezone.now())
    program = Path(sys.executable).with_name("schemathesis")

    reached = {"SANDBOX_URL": sandbox.url, "ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS)}
    with web_server(tmp_path / "web.log", **WITHOUT_LIMITS, **reached) as url:
        done = subprocess.run(
            [
                *(program, "--config-file", config, "run", f"{url}/api/schema/"),
                *("--header", f"Authorization: Bearer {key.clear}"),
                *("--seed", SEED, "--max-examples", EXAMPLES, "--workers", "1", "--no-color"),
            ],
            cwd=config.parent,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    report = done.stdout[-6_000:]
    assert done.returncode == 0, report
    operations = sum(len(methods) for methods in document()["paths"].values())
    assert re.search(rf"Tested: +{operations}\b", report), report
    made = re.search(r"(\d+) generated, \1 passed|(\d+) generated, (\d+) passed", report)
    assert made is not None, report
    assert int(made[1] or made[3]) > 1_000, report
