"""The gateways of the tests: a simulator that really listens, and what tests ask of it."""

import base64
import datetime as dt
import json
import time
from decimal import Decimal
from typing import Any

import httpx
from django.conf import LazySettings
from django.db import connection
from django.utils import timezone

from accounts.models import Account
from core.ids import new_id
from core.money import Money
from identity.models import Tenant
from identity.services import advance_test_clock
from invoices.models import Invoice
from invoices.services import (
    Choice,
    Customer,
    EvenSchedule,
    Interval,
    NewInvoice,
    NewLine,
    apply_credit,
    change_invoice_settings,
    create_invoice,
    open_checkout,
    record_offline_payment,
    refund_invoice,
)
from payments.gateways import breaker
from payments.gateways.port import CardData
from payments.gateways.registry import credentials_of
from payments.gateways.sandbox.adapter import signature_of
from payments.models import GatewayConfiguration, Payment, PayoutBatch
from payments.services import (
    Beneficiary,
    NewGateway,
    PayoutRequest,
    TopUpOrder,
    add_gateway,
    gather_payouts,
    make_payout,
    refund_payment,
    take_due_steps,
    take_report,
    top_up,
)
from payments.services.waiting import open_discrepancy
from tests import making, recurring, saving
from tests.contract import ContractClient
from webhooks.models import InboundEvent
from webhooks.queries import receiver_of
from webhooks.services import process_due_events, receive

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


OWN_ACCOUNT = {
    "debtor_name": "Kopi Bank",
    "debtor_account": "DE75512108001245126199",
    "debtor_country": "DE",
    "debtor_bic": "SOGEDEFFXXX",
    "debtor_town": "Berlin",
}


def add_bank_file(tenant: Tenant) -> GatewayConfiguration:
    return add_sandbox(tenant, gateway="bank_file", credentials=OWN_ACCOUNT, currencies=["EUR"])


def status_report(
    batch: PayoutBatch, status: str, *, message_id: str = "BANK-1", items: str = ""
) -> bytes:
    """Return a bank's pain.002 about the whole file, or about the items given."""
    group = f"<GrpSts>{status}</GrpSts>" if not items else ""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt>
<GrpHdr><MsgId>{message_id}</MsgId><CreDtTm>2026-11-21T10:00:00Z</CreDtTm></GrpHdr>
<OrgnlGrpInfAndSts><OrgnlMsgId>{batch.message_id}</OrgnlMsgId>
<OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId>{group}</OrgnlGrpInfAndSts>{items}
</CstmrPmtStsRpt></Document>""".encode()


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
    raw: Any = body.encode() if isinstance(body, str) else base64.b64decode(body)
    return ContractClient().generic("POST", path, raw, content_type="application/json", **headers)


def process_events() -> int:
    return process_due_events(now=timezone.now(), limit=100)


def fresh(payment: Payment) -> Payment:
    return Payment.objects.get(pk=payment.pk)


def secret_key_of(configuration: GatewayConfiguration) -> str:
    return credentials_of(configuration)["secret_key"]


def notification(configuration: GatewayConfiguration, **data: Any) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a genuine notification of the sandbox about anything."""
    event_id, sent_at = f"evt_{new_id().hex}", str(int(time.time()))
    told = {"id": "pay_1", "reference": "nothing-of-ours", "status": "succeeded", **data}
    body = json.dumps({"id": event_id, "type": "payment.succeeded", "data": told}).encode()
    signature = signature_of(f"{event_id}.{sent_at}.".encode() + body, secret_key_of(configuration))
    headers = {
        "webhook-id": event_id,
        "webhook-timestamp": sent_at,
        "webhook-signature": signature,
    }
    return body, headers


def as_sent(configuration: GatewayConfiguration) -> dict[str, Any]:
    """Return a genuine notification as the simulator's record has them."""
    body, headers = notification(configuration)
    return {"body": body.decode(), "headers": headers}


def one_of_everything(tenant: Tenant, account: Account) -> dict[str, str]:
    """Return the ids of a gateway, a top-up, a payout, a failed webhook and more, by name."""
    now = timezone.now()
    configuration = add_sandbox(tenant)
    spare = add_sandbox(tenant, currencies=["JPY"])
    made = top_up(
        tenant_id=tenant.pk,
        order=TopUpOrder(
            account_id=account.pk,
            amount=Money(100, account.currency),
            idempotency_key=making.fresh_key(),
            card=CardData(GOOD_CARD, 12, 2099, "123"),
        ),
        now=now,
    )
    assert made.payment.status == Payment.Status.DEPOSITED
    payout = make_payout(
        tenant_id=tenant.pk,
        request=PayoutRequest(
            source_account_id=account.pk,
            amount=Money(1, account.currency),
            beneficiary=Beneficiary("Budi", "DE", iban="DE89370400440532013000"),
            idempotency_key=making.fresh_key(),
        ),
        now=now,
    ).payout
    body, headers = notification(configuration)
    receiver = receiver_of(gateway="sandbox", configuration_id=configuration.pk, now=now)
    receive(receiver=receiver, headers=headers, body=body, now=now)
    process_events()
    [failed] = InboundEvent.objects.failed().filter(tenant_id=tenant.pk)
    return {
        "gateway": str(configuration.pk),
        "spare_gateway": str(spare.pk),
        "topup": str(made.payment.pk),
        "payout": str(payout.pk),
        "failed_webhook": str(failed.pk),
        **recurring.one_of_each(account, now),
        **saving.one_of_each(account, now),
        **invoices_of_each_kind(tenant),
    }


def invoices_of_each_kind(tenant: Tenant) -> dict[str, str]:
    """
    Return the ids of invoices of one customer, by name: one to be paid in two installments, one
    that is overpaid, a draft, and one on which too many attempts failed.
    """
    now = timezone.now()

    def make(*, is_final: bool = True, schedule: EvenSchedule | None = None) -> Invoice:
        new = NewInvoice(
            currency="USD",
            lines=[NewLine("Consulting", Decimal(1), 1_000, Decimal(10))],
            customer=Customer("Budi", "budi@example.com"),
            schedule=schedule,
        )
        return create_invoice(tenant_id=tenant.pk, new=new, now=now, is_final=is_final)

    invoice = make(schedule=EvenSchedule(2, Interval.MONTHLY))
    overpaid, failed = make(), make()
    # Ten declined cards would take ten calls.
    Invoice.objects.filter(pk=failed.pk).update(status=Invoice.Status.FAILED)
    record_offline_payment(
        tenant_id=tenant.pk,
        invoice_id=overpaid.pk,
        amount=2_000,
        method="cash",
        received_on=None,
        reference="",
        note="",
        idempotency_key=making.fresh_key(),
        now=now,
    )
    # As if it had been committed: many a test is one database transaction from end to end.
    connection.check_constraints()
    return {
        "invoice": str(invoice.pk),
        "overpaid_invoice": str(overpaid.pk),
        "draft_invoice": str(make(is_final=False).pk),
        "failed_invoice": str(failed.pk),
    }


def every_table(tenant: Tenant, sandbox: Sandbox) -> None:
    """Put at least one row of the tenant into each table of what is above the ledger."""
    now = timezone.now()
    account = making.open_account(tenant, balance=1_000, currency="EUR")
    _every_table_of_invoices(tenant, one_of_everything(tenant, account), now)
    refund_payment(
        tenant_id=tenant.pk,
        payment_id=Payment.objects.get(tenant_id=tenant.pk, purpose=Payment.Purpose.TOPUP).pk,
        amount=1,
        reason="x",
        idempotency_key=making.fresh_key(),
        now=now,
    )
    GatewayConfiguration.objects.filter(tenant_id=tenant.pk).update(is_enabled=False)
    add_bank_file(tenant)
    make_payout(
        tenant_id=tenant.pk,
        request=PayoutRequest(
            source_account_id=account.pk,
            amount=Money(1, "EUR"),
            beneficiary=Beneficiary("Budi", "DE", iban="DE89370400440532013000"),
            idempotency_key=making.fresh_key(),
        ),
        now=now,
    )
    # A month's interest is accrued each day, and posted at its end.
    advance_test_clock(tenant_id=tenant.pk, to=now + dt.timedelta(days=32), now=now)
    [batch] = gather_payouts(now=now, tenant_id=tenant.pk)
    take_report(tenant_id=tenant.pk, document=status_report(batch, "ACSC"), now=now)
    open_discrepancy(
        tenant_id=tenant.pk,
        configuration_id=batch.configuration_id,
        kind="not_ours",
        object_type="payment",
        object_id=None,
        reference="x",
        amount=1,
        currency="EUR",
        detail={},
        now=now,
    )


def _every_table_of_invoices(tenant: Tenant, ids: dict[str, str], now: dt.datetime) -> None:
    invoice = Invoice.objects.get(pk=ids["invoice"])
    change_invoice_settings(tenant_id=tenant.pk, changes={"legal_name": "Kopi"}, now=now)
    apply_credit(
        tenant_id=tenant.pk,
        invoice_id=invoice.pk,
        amount=1,
        idempotency_key=making.fresh_key(),
        now=now,
    )
    refund_invoice(
        tenant_id=tenant.pk,
        invoice_id=invoice.pk,
        amount=1,
        reason="x",
        idempotency_key=making.fresh_key(),
        now=now,
    )
    card = CardData(GOOD_CARD, 12, 2099, "123")
    open_checkout(token=invoice.token, choice=Choice(card=card), now=now)
