"""
kill -9 after every statement, every commit and around every call of a gateway.

Whatever the moment: the caller asks again with the same key, the sweeps come by, and there is one
charge, one deposit, one refund, one payout; or none at all, and everybody says so.
"""

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from accounts.models import Account
from identity.models import Tenant
from payments.models import Discrepancy, GatewayConfiguration, Payment, Payout, Refund
from tests import gateways, making
from tests.contract import ContractClient
from tests.gateways import Sandbox, steps_at
from tests.serving import database_url
from webhooks.services import process_due_events

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

AMOUNT = 5_000
# Fewer would mean that the harness no longer sees what it should.
MOMENTS_MIN = {"topup": 15, "refund": 15, "payout": 20, "webhook": 15}


class Mortal:
    """A process that does one thing of Florin's and dies when it is told to."""

    def __init__(self, sandbox: Sandbox) -> None:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "FLORIN_IGNORE_LOCAL_ENV": "1",
            "DATABASE_URL": database_url(),
            "REDIS_URL": settings.REDIS_URL,
            "SANDBOX_URL": sandbox.url,
            "PUBLIC_URL": "http://127.0.0.1:9",
            "LOG_LEVEL": "ERROR",
            # In this process they are what settings say.
            "SECRET_KEY": settings.SECRET_KEY,
            "API_KEY_PEPPER": settings.API_KEY_PEPPER,
            "ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.dying"],
            cwd=settings.BASE_DIR,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def does(self, flow: str, *, dies_at: int = 0, **order: Any) -> tuple[int, bool]:
        """Have it done; return how many moments there were, and whether it reached the end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"flow": flow, "dies_at": dies_at, **order}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"{flow} failed at {dies_at}"
        told = json.loads(answer)
        return told["moments"], told["is_done"]

    def end(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture
def mortal(sandbox: Sandbox) -> Iterator[Mortal]:
    made = Mortal(sandbox)
    yield made
    made.end()


@pytest.fixture
def configuration(sandbox: Sandbox, tenant: Tenant) -> GatewayConfiguration:
    return gateways.add_sandbox(tenant)


def later(minutes: float) -> dt.datetime:
    return timezone.now() + dt.timedelta(minutes=minutes)


def recover(sandbox: Sandbox) -> None:
    """Let time pass, as beat and the workers would."""
    for minutes in (2, 7, 20, 65):
        sandbox.advance(60)
        steps_at(later(minutes))


def top_up(api: ContractClient, account: Account, key: str) -> Any:
    body = {"amount": AMOUNT, "currency": "USD", "payment_method": gateways.card()}
    return api.post_once(f"/accounts/{account.pk}/topup", body, key=key)


@pytest.mark.usefixtures("configuration")
def test_a_topup(mortal: Mortal, sandbox: Sandbox, tenant: Tenant) -> None:
    def attempt(dies_at: int) -> tuple[int, bool]:
        account, key = making.open_account(tenant), making.fresh_key()
        order: dict[str, Any] = {"tenant": str(tenant.pk), "account": str(account.pk), "key": key}
        moments, is_done = mortal.does("topup", dies_at=dies_at, amount=AMOUNT, **order)
        before = Payment.objects.filter(tenant_id=tenant.pk, idempotency_key=key).first()
        recover(sandbox)
        # Asked again by the one who got no answer; as the service, for keys are their caller's.
        mortal.does("topup", amount=AMOUNT, **order)
        recover(sandbox)

        payment = Payment.objects.get(tenant_id=tenant.pk, idempotency_key=key)
        charges = sandbox.objects(payment.reference)
        if payment.status == "deposited":
            assert len(charges) == 1, dies_at
            assert making.balance_of(account) == AMOUNT, dies_at
        else:
            # It died before anything was asked for; that is known, and final.
            assert (payment.status, payment.failure_code) == ("failed", "never_arrived"), dies_at
            assert before is not None
            assert charges == [], dies_at
            assert making.balance_of(account) == 0, dies_at
        return moments, is_done

    _die_at_every_moment("topup", attempt)


@pytest.mark.usefixtures("configuration")
def test_a_refund(mortal: Mortal, sandbox: Sandbox, tenant: Tenant, api: ContractClient) -> None:
    def attempt(dies_at: int) -> tuple[int, bool]:
        account, key = making.open_account(tenant), making.fresh_key()
        topup = top_up(api, account, making.fresh_key()).json()
        order: dict[str, Any] = {"tenant": str(tenant.pk), "payment": topup["id"], "key": key}
        sandbox.advance(60)
        moments, is_done = mortal.does("refund", dies_at=dies_at, **order)
        recover(sandbox)
        mortal.does("refund", **order)
        recover(sandbox)

        refund = Refund.objects.get(tenant_id=tenant.pk, idempotency_key=key)
        assert refund.status == "succeeded", dies_at
        assert len(sandbox.objects(refund.reference)) == 1, dies_at
        assert making.balance_of(account) == 0, dies_at
        assert Payment.objects.get(pk=topup["id"]).status == "refunded", dies_at
        return moments, is_done

    _die_at_every_moment("refund", attempt)


@pytest.mark.usefixtures("configuration")
def test_a_payout(mortal: Mortal, sandbox: Sandbox, tenant: Tenant) -> None:
    def attempt(dies_at: int) -> tuple[int, bool]:
        account, key = making.open_account(tenant, balance=AMOUNT), making.fresh_key()
        order: dict[str, Any] = {"tenant": str(tenant.pk), "account": str(account.pk), "key": key}
        moments, is_done = mortal.does("payout", dies_at=dies_at, amount=AMOUNT, **order)
        recover(sandbox)
        mortal.does("payout", amount=AMOUNT, **order)
        recover(sandbox)

        payout = Payout.objects.get(tenant_id=tenant.pk, idempotency_key=key)
        assert payout.status == "settled", dies_at
        assert len(sandbox.objects(payout.reference)) == 1, dies_at
        assert making.balance_of(account) == 0, dies_at
        clearing = Account.objects.get(tenant_id=tenant.pk, role="payout_clearing")
        assert clearing.balance == 0, dies_at
        return moments, is_done

    _die_at_every_moment("payout", attempt)


def test_a_notification(
    mortal: Mortal,
    sandbox: Sandbox,
    tenant: Tenant,
    api: ContractClient,
    configuration: GatewayConfiguration,
) -> None:
    def attempt(dies_at: int) -> tuple[int, bool]:
        account = making.open_account(tenant)
        body = {"amount": AMOUNT, "currency": "USD", "payment_method": {"type": "hosted"}}
        topup = api.post_once(f"/accounts/{account.pk}/topup", body).json()
        payment = Payment.objects.get(pk=topup["id"])
        sandbox.act(f"payments/{payment.gateway_payment_id}/pay")
        raw, headers = gateways.notification(
            configuration, id=payment.gateway_payment_id, reference=payment.reference
        )
        order: dict[str, Any] = {
            "configuration": str(configuration.pk),
            "body": raw.decode(),
            "headers": headers,
        }
        moments, is_done = mortal.does("webhook", dies_at=dies_at, **order)
        # A gateway that got no answer sends it again; a worker looks once the lease has run out.
        mortal.does("webhook", **order)
        process_due_events(now=later(5), limit=100)

        payment.refresh_from_db()
        assert payment.status == "deposited", dies_at
        assert making.balance_of(account) == AMOUNT, dies_at
        return moments, is_done

    _die_at_every_moment("webhook", attempt)


def _die_at_every_moment(flow: str, attempt: Any) -> None:
    dies_at = 0
    deaths = 0
    while True:
        dies_at += 1
        _, is_done = attempt(dies_at)
        if is_done:
            break
        deaths += 1
    assert deaths >= MOMENTS_MIN[flow]
    assert not Discrepancy.objects.exists()
    call_command("verify_ledger")
