"""The gateways of the tests: a simulator that really listens, and what tests ask of it."""

import base64
import datetime as dt
import time
from typing import Any

import httpx
from django.conf import LazySettings
from django.utils import timezone

from core.ids import new_id
from identity.models import Tenant
from payments.gateways import breaker
from payments.gateways.registry import credentials_of
from payments.models import GatewayConfiguration, Payment
from payments.services import NewGateway, add_gateway, take_due_steps
from tests.contract import ContractClient
from webhooks.services import process_due_events

PATIENCE_S = 10.0
GOOD_CARD = "4242424242424242"
XENDIT_TOKEN = "xendit-callback-token-1"


class Sandbox:
    """The simulator over HTTP, as an operator of a gateway would use it."""

    def __init__(self, url: str, settings: LazySettings) -> None:
        self.url, self.settings = url, settings
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False)
        settings.GATEWAY_URLS = {
            ("sandbox", "test"): url,
            ("xendit", "test"): f"{url}/xendit",
            ("midtrans", "test"): f"{url}/midtrans-api",
            ("midtrans-snap", "test"): f"{url}/midtrans-app",
        }
        # Nobody listens there: tests take the notifications from the simulator's own record.
        settings.PUBLIC_URL = "http://127.0.0.1:9"
        settings.GATEWAY_CONNECT_TIMEOUT_S = 1.0
        settings.GATEWAY_READ_TIMEOUT_S = 1.0

    def reset(self) -> None:
        self.http.post("/_sim/reset").raise_for_status()

    def fault(self, effect: str, op: str, *, times: int = 1, **more: Any) -> None:
        """Have the next call of the kind go wrong."""
        body = {"match": {"op": op}, "effect": effect, "times": times, **more}
        self.http.post("/_sim/faults", json=body).raise_for_status()

    def no_faults(self) -> None:
        self.http.delete("/_sim/faults").raise_for_status()

    def advance(self, seconds: float) -> None:
        self.http.post("/_sim/clock/advance", json={"seconds": seconds}).raise_for_status()

    def act(self, path: str) -> None:
        """Do what a button of the simulator does, such as payments/{id}/pay."""
        self.http.post(f"/_sim/{path}").raise_for_status()

    def settle_in(self, seconds: float) -> None:
        self.http.post("/_sim/settings", json={"settle_s": seconds}).raise_for_status()

    def objects(self, reference: str) -> list[dict[str, Any]]:
        """Return everything that the gateways have under the reference."""
        found = self.http.get("/_sim/objects", params={"reference": reference}).json()
        return [each for kind in ("payments", "refunds", "payouts") for each in found[kind]]

    def requests(self, op: str = "") -> list[dict[str, Any]]:
        """Return the requests that the simulator got, oldest first."""
        rows = self.http.get("/_sim/requests").json()["data"]
        return [row for row in rows if not op or row["op"] == op]

    def notifications(self, count: int = 1) -> list[dict[str, Any]]:
        """Return the notifications that were sent so far, waiting for `count` of them."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            rows = self.http.get("/_sim/webhooks").json()["data"]
            if len(rows) >= count or time.monotonic() > deadline:
                assert len(rows) >= count, rows
                return list(rows)
            time.sleep(0.02)


def add_sandbox(tenant: Tenant, **new: Any) -> GatewayConfiguration:
    """Set the sandbox up, each time with a merchant account of its own."""
    values: dict[str, Any] = {
        "gateway": "sandbox",
        "mode": "test",
        "credentials": {"secret_key": f"sk_sandbox_{new_id().hex}"},
        "currencies": ["USD", "EUR", "IDR"],
        **new,
    }
    return add_gateway(tenant_id=tenant.pk, new=NewGateway(**values), now=timezone.now())


def add_xendit(tenant: Tenant, **new: Any) -> GatewayConfiguration:
    return add_sandbox(
        tenant,
        gateway="xendit",
        credentials={"secret_key": f"xnd_development_{new_id().hex}"},
        webhook_secret=XENDIT_TOKEN,
        currencies=["IDR", "USD"],
        **new,
    )


def add_midtrans(tenant: Tenant, **new: Any) -> GatewayConfiguration:
    return add_sandbox(
        tenant,
        gateway="midtrans",
        credentials={"server_key": f"SB-Mid-server-{new_id().hex}"},
        currencies=["IDR"],
        **new,
    )


def close_circuit(configuration: GatewayConfiguration) -> None:
    breaker.succeeded(configuration.circuit)


def card(number: str = GOOD_CARD) -> dict[str, Any]:
    return {"type": "card", "number": number, "exp_month": 12, "exp_year": 2099, "cvc": "123"}


def steps_at(moment: dt.datetime) -> int:
    """Run the sweep as if it were that moment."""
    return take_due_steps(now=moment, limit=100)


def deliver(notification: dict[str, Any], configuration: GatewayConfiguration) -> Any:
    """Bring a notification of the simulator's record to our address, as it was sent."""
    path = f"/api/v1/webhooks/gateways/{configuration.gateway}/{configuration.pk}"
    body = notification["body"]
    headers = {
        f"HTTP_{name.upper().replace('-', '_')}": value
        for name, value in notification["headers"].items()
        if name.lower() not in ("host", "content-length", "content-type", "connection")
    }
    raw = body.encode() if isinstance(body, str) else base64.b64decode(body)
    return ContractClient().generic("POST", path, raw, content_type="application/json", **headers)


def process_events() -> int:
    return process_due_events(now=timezone.now(), limit=100)


def fresh(payment: Payment) -> Payment:
    return Payment.objects.get(pk=payment.pk)


def secret_key_of(configuration: GatewayConfiguration) -> str:
    return credentials_of(configuration)["secret_key"]
