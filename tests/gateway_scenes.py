"""
Scenes with gateways that several files of tests play: what was asked for, what the gateway did
meanwhile, what it says of it, and who was told.
"""

import contextlib
import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import Account
from core.database import constraint_of
from core.ids import new_id
from identity.models import Tenant
from ledger.services import Leg, Posting, post_one
from payments.gateways.sandbox.adapter import signature_of
from payments.models import Discrepancy, GatewayConfiguration, Payment, Payout, Refund
from payments.services import resolve_discrepancy
from payments.tests.scripted import ScriptedGateway, answer, scripted_gateway
from tests import gateways, making
from tests.contract import ContractClient
from tests.gateways import Sandbox, steps_at
from webhooks.services import process_due_events

T = TypeVar("T")

NEEDS_3DS = "4000002500003155"
LATE = "4000000000000077"
DAY = 24 * 60.0
IBAN = "DE89370400440532013000"


def later(minutes: float) -> dt.datetime:
    return timezone.now() + dt.timedelta(minutes=minutes)


def asked(api: ContractClient, account: Account, number: str, **more: Any) -> Payment:
    """Top the account up by 50.00, and return the payment, whatever came of it."""
    method = {"payment_method": gateways.card(number)}
    body = {"amount": 5000, "currency": account.currency, **method, **more}
    answered = api.post_once(f"/accounts/{account.pk}/topup", body)
    assert answered.status_code in (201, 202), answered.content
    return Payment.objects.get(pk=answered.json()["id"])


def paid(sandbox: Sandbox, payment: Payment) -> None:
    """The payer passes the challenge; nobody has told us yet."""
    sandbox.act(f"payments/{payment.gateway_payment_id}/challenge/approve")


def topped_up(api: ContractClient, account: Account) -> Payment:
    payment = asked(api, account, gateways.GOOD_CARD)
    assert payment.status == Payment.Status.DEPOSITED
    return payment


def waiting_for_deposit(sandbox: Sandbox, api: ContractClient, account: Account) -> Payment:
    """Have 50.00 paid to an account that was frozen meanwhile."""
    payment = asked(api, account, NEEDS_3DS)
    freeze(api, account)
    paid(sandbox, payment)
    steps_at(later(2))
    payment.refresh_from_db()
    assert payment.status == Payment.Status.DEPOSIT_PENDING
    return payment


def refund(api: ContractClient, payment: Payment, amount: int | None, reason: str = "x") -> Refund:
    """Ask for a refund; at the sandbox a reason of sim:fail or sim:pending is obeyed."""
    body = {"reason": reason} if amount is None else {"amount": amount, "reason": reason}
    answered = api.post_once(f"/topups/{payment.pk}/refunds", body)
    assert answered.status_code in (201, 202), answered.content
    return Refund.objects.get(pk=answered.json()["id"])


def paid_out(api: ContractClient, source: Account, last4: str = "5678", **more: Any) -> Payout:
    """Ask for a payout of 30.00; the sandbox knows by the account's end how it goes."""
    account = {"account_number": f"123456{last4}", "bank_code": "BCA"}
    body = {
        "source_account_id": str(source.pk),
        "amount": 3000,
        "currency": source.currency,
        "beneficiary": {"name": "Siti", "country": "ID", **account},
        **more,
    }
    answered = api.post_once("/payouts", body)
    assert answered.status_code == 202, answered.content
    return Payout.objects.get(pk=answered.json()["id"])


def filed(api: ContractClient, source: Account) -> Payout:
    """Ask for a payout of 25.00 by file."""
    to = {"name": "Budi", "country": "DE", "iban": IBAN, "bank_code": "COBADEFFXXX"}
    return paid_out(api, source, gateway="bank_file", amount=2500, beneficiary=to)


def freeze(api: ContractClient, account: Account) -> None:
    answered = api.post(f"/api/v1/accounts/{account.pk}/freeze", {"reason": "x"})
    assert answered.status_code == 200, answered.content


def unfreeze(api: ContractClient, account: Account) -> None:
    answered = api.post(f"/api/v1/accounts/{account.pk}/unfreeze", {"reason": "x"})
    assert answered.status_code == 200, answered.content


def close(api: ContractClient, account: Account) -> None:
    answered = api.post(f"/api/v1/accounts/{account.pk}/close", {"reason": "x"})
    assert answered.status_code == 200, answered.content


def given_back_by_hand(sandbox: Sandbox, payment: Payment) -> None:
    """Somebody refunds a cent on the gateway's own screen: what we ask for is too much then."""
    key = gateways.secret_key_of(payment.configuration)
    sandbox.http.post(
        "/sandbox/v1/refunds",
        json={"payment": payment.gateway_payment_id, "reference": "by-hand", "amount": 1},
        headers={"Authorization": f"Bearer {key}", "Idempotency-Key": "by-hand"},
    ).raise_for_status()


def sent_once_more(sandbox: Sandbox, op: str) -> None:
    """What the gateway never answered arrives there after all."""
    lost = sandbox.requests(op)[-1]
    names = ("authorization", "idempotency-key", "content-type")
    headers = {name: lost["headers"][name] for name in names}
    sandbox.http.request(
        lost["method"], lost["path"], content=lost["body"], headers=headers
    ).raise_for_status()


def told(sandbox: Sandbox, configuration: GatewayConfiguration, event: str) -> None:
    """The gateway's notification arrives, and is stored; nobody has looked at it yet."""
    count = 1
    while True:
        rows = sandbox.notifications(count)
        if found := [row for row in rows if f'"{event}"' in row["body"]]:
            break
        count = len(rows) + 1
    assert gateways.deliver(found[-1], configuration).status_code == 200


def heard(sandbox: Sandbox, configuration: GatewayConfiguration, event: str) -> None:
    """The gateway's notification arrives, and is worked on."""
    told(sandbox, configuration, event)
    gateways.process_events()


def events_at(moment: dt.datetime) -> int:
    """Work on notifications as if it were that moment."""
    return process_due_events(now=moment, limit=100)


def forge_payout_event(payout: Payout, status: str) -> dict[str, Any]:
    """Return a genuine notification about a payout, true or not."""
    key = gateways.secret_key_of(payout.configuration)
    body, headers = gateways.notification(
        payout.configuration, id="po_1", reference=payout.reference, status=status
    )
    body = body.replace(b"payment.succeeded", f"payout.{status}".encode())
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    headers["webhook-signature"] = signature_of(signed, key)
    return {"body": body.decode(), "headers": headers}


@contextlib.contextmanager
def gateway_that_says(sandbox: Sandbox, *bodies: Any) -> Iterator[ScriptedGateway]:
    """For the time of the block the gateways answer with these, the last one for ever."""
    with scripted_gateway() as gateway, _instead(sandbox, gateway):
        gateway.says(*bodies)
        yield gateway


@contextlib.contextmanager
def late_answer(sandbox: Sandbox, meanwhile: Callable[[], None]) -> Iterator[None]:
    """The next answer says what is so now, and arrives when `meanwhile` has happened."""
    faults: list[BaseException] = []
    sandbox.settings.GATEWAY_READ_TIMEOUT_S = 20.0
    with scripted_gateway() as gateway, _instead(sandbox, gateway) as straight:

        def send(line: Any) -> None:
            request = gateway.requests[-1]
            kept = ("authorization", "idempotency-key", "content-type", "x-override-notification")
            headers = {name: text for name, text in request.headers.items() if name in kept}
            there = sandbox.http.request(
                request.method, request.path, content=request.body, headers=headers
            )
            straight()
            try:
                meanwhile()
            except BaseException as fault:  # noqa: BLE001 - raised where the test sees it
                faults.append(fault)
            finally:
                connection.close()
            answer(there.content, status=there.status_code)(line)

        gateway.will(send)
        yield
        assert len(gateway.requests) == 1
    for fault in faults:
        raise fault


@contextlib.contextmanager
def _instead(sandbox: Sandbox, gateway: ScriptedGateway) -> Iterator[Callable[[], None]]:
    """Put the other server before the simulator; yields what takes it away again."""
    straight = dict(sandbox.settings.GATEWAY_URLS)

    def take_away() -> None:
        sandbox.settings.GATEWAY_URLS = straight

    sandbox.settings.GATEWAY_URLS = {
        line: url.replace(sandbox.url, gateway.url) for line, url in straight.items()
    }
    try:
        yield take_away
    finally:
        take_away()


def payout_body(payout: Payout, status: str) -> dict[str, Any]:
    """Return what the sandbox would say of the payout."""
    return {
        "id": payout.gateway_payout_id,
        "reference": payout.reference,
        "amount": payout.amount,
        "currency": payout.currency,
        "status": status,
    }


def refund_body(of: Refund, status: str) -> dict[str, Any]:
    """Return what the sandbox would say of the refund."""
    return {
        "id": of.gateway_refund_id,
        "reference": of.reference,
        "amount": of.amount,
        "currency": of.currency,
        "status": status,
    }


def payment_body(payment: Payment, status: str, refunded: int) -> dict[str, Any]:
    """Return what the sandbox would say of the payment."""
    return {
        "id": payment.gateway_payment_id,
        "reference": payment.reference,
        "amount": payment.amount,
        "currency": payment.currency,
        "status": status,
        "refunded_amount": refunded,
    }


def open_kinds() -> list[str]:
    """Return what a person has been told and not yet resolved."""
    return sorted(Discrepancy.objects.filter(status="open").values_list("kind", flat=True))


def kinds_on(api: ContractClient, account: Account) -> list[str]:
    """Return the kinds of all operations on the account, oldest first."""
    rows = api.get(f"/api/v1/accounts/{account.pk}/operations").json()["results"]
    return [row["kind"] for row in reversed(rows)]


def internal(tenant: Tenant, role: str) -> int:
    """Return the balance of the tenant's own account of the role; zero if it has none."""
    found = Account.objects.filter(tenant_id=tenant.pk, role=role)
    return found.values_list("balance", flat=True).first() or 0


def resolved(found: Discrepancy, resolution: str) -> Discrepancy:
    """Somebody chooses the resolution in the back office."""
    return resolve_discrepancy(
        tenant_id=found.tenant_id,
        discrepancy_id=found.pk,
        resolution=resolution,
        note="x",
        now=timezone.now(),
    )


def page_of_midtrans(api: ContractClient, tenant: Tenant) -> tuple[Payment, str]:
    """Return a top-up of 50,000 rupiah on a page of Midtrans, and the page's token."""
    gateways.add_midtrans(tenant)
    account = making.open_account(tenant, currency="IDR")
    payment = asked(api, account, "", amount=50_000, payment_method={"type": "hosted"})
    return payment, payment.redirect_url.rstrip("/").rpartition("/")[2]


def closing(call: Callable[[], T]) -> T:
    """Run the call in a thread that has a connection of its own."""
    try:
        return call()
    finally:
        connection.close()


def wait_for_waiting(count: int) -> None:
    """Return when so many of this database's connections wait for a lock."""
    until = time.monotonic() + gateways.PATIENCE_S
    waiting = -1
    while waiting < count:
        assert time.monotonic() < until, f"{waiting} of {count} wait"
        with connection.cursor() as cursor:
            # Within a transaction the first look would be remembered.
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            [waiting] = cursor.fetchone()


@contextlib.contextmanager
def refused_by(rule: str) -> Iterator[None]:
    """What the block writes breaks this rule of the database."""
    with pytest.raises(IntegrityError) as refused, transaction.atomic():
        yield
    assert constraint_of(refused.value) == rule


def run(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        assert cursor.rowcount == 1


def copy_row(table: str, row_id: UUID, **changed: Any) -> None:
    """Insert the row again: another by its id, reference and key, the same in all else."""
    fresh = new_id()
    names = {"id": str(fresh), "reference": fresh.hex, "idempotency_key": fresh.hex}
    run(
        f"INSERT INTO {table} SELECT (jsonb_populate_record(r, %s::jsonb)).*"
        f" FROM {table} r WHERE r.id = %s",
        json.dumps({**names, **changed}),
        row_id,
    )


def moved(payment: Payment, type_: str, amount: int) -> UUID:
    """Post to the payment's account, as its own postings do; return the transaction."""
    settlement = Account.objects.get(tenant_id=payment.tenant_id, role="settlement")
    legs = (Leg(payment.account_id, amount), Leg(settlement.pk, -amount))
    posting = Posting(
        type=type_,
        currency=payment.currency,
        legs=legs,
        idempotency_key=making.fresh_key(),
        request_fingerprint=b"x" * 32,
    )
    return post_one(tenant_id=payment.tenant_id, posting=posting).id
