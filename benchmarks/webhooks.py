"""Part h: gateways' notifications, taken over HTTP and processed by a worker."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.http import environment, serve, wrk_round
from benchmarks.measuring import Result
from benchmarks.posting import Setting

CONNECTIONS = 16
P95_MAX_MS = 50
AMOUNT = 1_000
THREADS = 8
_SCRIPT = Path(__file__).with_name("webhooks.lua")
_TOKEN = "bench-callback-token"  # noqa: S105 - of nobody


def measure(setting: Setting, payments: int, seconds: int) -> list[Result]:
    """
    Acknowledgements under load; then `payments` paid at the simulated gateway, four notifications
    of each, in any order, over HTTP, processed by one worker, and counted in the ledger.
    """
    tenant_id, accounts = setting
    return [_acknowledge(setting, seconds), *_process(tenant_id, accounts, payments)]


def _acknowledge(setting: Setting, seconds: int) -> Result:
    xendit = _gateway(
        setting[0],
        "xendit",
        {"secret_key": "xnd_development_bench"},
        currencies=["IDR"],
        webhook_secret=_TOKEN,
    )
    with environment(setting) as env:
        path = f"/api/v1/webhooks/gateways/xendit/{xendit}"
        more = {"WEBHOOK_PATH": path, "CALLBACK_TOKEN": _TOKEN}
        got = wrk_round("config.settings", {**env, **more}, CONNECTIONS, seconds, script=_SCRIPT)
    _forget_events()
    return Result(
        "h",
        f"webhooks acknowledged, {CONNECTIONS} connections; p95, ms",
        f"{got['rate']:,.0f} /s",
        f"{got['p95']:,.1f} ms",
        got["p95"] / P95_MAX_MS,
        f"p95 < {P95_MAX_MS} ms",
        got["p95"] < P95_MAX_MS,
    )


def _process(tenant_id: UUID, accounts: list[UUID], payments: int) -> list[Result]:
    from django.conf import settings

    with _simulator() as url:
        settings.GATEWAY_URLS = {("sandbox", "test"): url}
        # Nobody listens: the benchmark carries the notifications itself.
        settings.PUBLIC_URL = "http://127.0.0.1:9"
        key = "sk_sandbox_bench00000000"
        gateway = _gateway(tenant_id, "sandbox", {"secret_key": key}, currencies=["USD"])
        paid = _paid_payments(tenant_id, accounts, payments, url)
        before = _sum_of(accounts)
        told = [each for payment in paid for each in _notifications(payment, key)] * 2
        random.Random(1).shuffle(told)
        sent_per_s = _send(f"/api/v1/webhooks/gateways/sandbox/{gateway}", told)
        processed, processed_per_s = _work_off()
        credited = _sum_of(accounts) - before
    right = payments * AMOUNT
    return [
        Result(
            "h",
            f"webhooks sent, half of them twice: {len(told):,}; events kept",
            f"{sent_per_s:,.0f} /s",
            f"{processed:,}",
            processed / len(told),
            "= 0.5",
            processed * 2 == len(told),
        ),
        Result(
            "h",
            f"events processed by one worker, {payments:,} of them deposits",
            f"{processed_per_s:,.0f} /s",
            "",
            1.0,
            "",
            True,
        ),
        Result(
            "h",
            "credited by them; what is right, minor units",
            f"{credited:,}",
            f"{right:,}",
            credited / right,
            "= 1",
            credited == right,
        ),
    ]


def _gateway(tenant_id: UUID, gateway: str, credentials: dict[str, str], **more: Any) -> UUID:
    from django.utils import timezone

    from payments.services import NewGateway, add_gateway

    new = NewGateway(gateway=gateway, mode="test", credentials=credentials, **more)
    return add_gateway(tenant_id=tenant_id, new=new, now=timezone.now()).pk


@contextmanager
def _simulator() -> Iterator[str]:
    """The gateways in a process of their own, as they are elsewhere in life."""
    import httpx

    from ops.servers import free_port

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "payments.gateways.sandbox.simulator", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=8), trust_env=False) as client:
                client.get(f"{url}/_sim/health").raise_for_status()
            yield url
        finally:
            process.terminate()


def _paid_payments(tenant_id: UUID, accounts: list[UUID], count: int, simulator: str) -> list[Any]:
    """Top-ups on the gateway's page, which the payer has paid; we have not heard of it."""
    import httpx
    from django.db import connection
    from django.utils import timezone

    from core.money import Money
    from payments.services import TopUpOrder, top_up

    with httpx.Client(base_url=simulator, trust_env=False) as client:

        def one(number: int) -> Any:
            account_id = accounts[number % len(accounts)]
            order = TopUpOrder(account_id, Money(AMOUNT, "USD"), f"bench-{number}")
            payment = top_up(tenant_id=tenant_id, order=order, now=timezone.now()).payment
            connection.close()
            client.post(f"/_sim/payments/{payment.gateway_payment_id}/pay").raise_for_status()
            return payment

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(one, range(count)))


def _notifications(payment: Any, key: str) -> list[tuple[bytes, dict[str, str]]]:
    """Two facts of a payment: that it was begun, and that it was paid."""
    from payments.gateways.sandbox.adapter import signature_of

    made = []
    for status in ("pending", "succeeded"):
        event_id, sent_at = f"evt_{payment.pk.hex}_{status}", str(int(time.time()))
        data = {
            "id": payment.gateway_payment_id,
            "reference": payment.reference,
            "status": status,
        }
        told = {"id": event_id, "type": f"payment.{status}", "data": data}
        body = json.dumps(told).encode()
        signed = f"{event_id}.{sent_at}.".encode() + body
        headers = {
            "webhook-id": event_id,
            "webhook-timestamp": sent_at,
            "webhook-signature": signature_of(signed, key),
            "content-type": "application/json",
        }
        made.append((body, headers))
    return made


def _send(path: str, told: list[tuple[bytes, dict[str, str]]]) -> float:
    """Send them all over several connections at once; return how many a second."""
    import httpx

    with (
        serve("config.settings", {}) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as client,
    ):

        def one(notification: tuple[bytes, dict[str, str]]) -> None:
            body, headers = notification
            client.post(path, content=body, headers=headers).raise_for_status()

        began = time.monotonic()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(one, told))
        return len(told) / (time.monotonic() - began)


def _work_off() -> tuple[int, float]:
    """Process what was taken as the worker's task does; return how many, and how many a second."""
    from django.utils import timezone

    from webhooks.services import process_due_events

    began = time.monotonic()
    done = 0
    while taken := process_due_events(now=timezone.now(), limit=200):
        done += taken
    return done, done / (time.monotonic() - began)


def _sum_of(accounts: list[UUID]) -> int:
    from accounts.models import Account

    return sum(Account.objects.filter(pk__in=accounts).values_list("balance", flat=True))


def _forget_events() -> None:
    """Of payments that never were: nobody is to process them now."""
    from webhooks.models import InboundEvent

    InboundEvent.objects.filter(status="pending").update(
        status="failed", outcome="unknown_reference", next_attempt_at=None
    )
