"""Payouts from the HTTP call to the ledger: by gateway, by file, settled, failed and returned."""

import datetime as dt
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.utils import timezone

from accounts.models import Account
from core.errors import InvalidRequest
from identity.models import Tenant
from payments.models import Discrepancy, GatewayConfiguration, Payout, PayoutBatch
from payments.services import export_payout_files, gather_payouts, take_report
from tests import gateways, making
from tests.contract import ContractClient
from tests.gateways import (
    Sandbox,
    add_bank_file,
    add_sandbox,
    add_xendit,
    status_report,
    steps_at,
)

pytestmark = pytest.mark.django_db(transaction=True)

IBAN = "DE89370400440532013000"
BUDI = {"name": "Budi Santoso", "country": "DE", "iban": IBAN, "bank_code": "COBADEFFXXX"}
ENDS = [("settled", "ACSC"), ("failed", "RJCT")]


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return making.open_account(tenant, balance=10_000, currency="EUR")


@pytest.fixture
def configuration(sandbox: Sandbox, tenant: Tenant) -> GatewayConfiguration:
    return add_sandbox(tenant)


@pytest.fixture
def bank(tenant: Tenant) -> GatewayConfiguration:
    return add_bank_file(tenant)


def ask(api: ContractClient, source: Account, *, key: str = "", **more: Any) -> Any:
    body = {
        "source_account_id": str(source.pk),
        "amount": 2500,
        "currency": source.currency,
        "beneficiary": BUDI,
        **more,
    }
    return api.post_once("/payouts", body, key=key or making.fresh_key())


def to_number(last4: str) -> dict[str, str]:
    """A beneficiary whose account number tells the sandbox how the payout ends."""
    return {"name": "Siti", "country": "ID", "account_number": f"123456{last4}", "bank_code": "BCA"}


def later(minutes: float) -> dt.datetime:
    return timezone.now() + dt.timedelta(minutes=minutes)


def status_of(api: ContractClient, payout: dict[str, Any]) -> str:
    return str(api.get(f"/api/v1/payouts/{payout['id']}").json()["status"])


def internal(tenant: Tenant, role: str) -> int:
    return Account.objects.values_list("balance", flat=True).get(tenant_id=tenant.pk, role=role)


def item(batch: PayoutBatch, payout: Payout, status: str, reason: str = "") -> str:
    why = f"<StsRsnInf><Rsn><Cd>{reason}</Cd></Rsn></StsRsnInf>" if reason else ""
    return (
        f"<OrgnlPmtInfAndSts><OrgnlPmtInfId>{batch.message_id}-1</OrgnlPmtInfId><TxInfAndSts>"
        f"<OrgnlEndToEndId>{payout.reference}</OrgnlEndToEndId><TxSts>{status}</TxSts>{why}"
        "</TxInfAndSts></OrgnlPmtInfAndSts>"
    )


def test_it_works(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
) -> None:
    answer = ask(api, ada, description="Rent")

    assert answer.status_code == 202, answer.content
    payout = answer.json()
    assert payout["status"] == "pending"
    assert making.balance_of(ada) == 7500
    assert internal(tenant, "payout_clearing") == 2500
    steps_at(timezone.now())
    assert status_of(api, payout) == "submitted"
    sandbox.advance(5)
    steps_at(later(2))
    assert status_of(api, payout) == "settled"
    assert internal(tenant, "payout_clearing") == 0
    assert internal(tenant, "settlement") == 2500
    operations = api.get(f"/api/v1/accounts/{ada.pk}/operations").json()["results"]
    assert operations[0]["kind"] == "payout"
    call_command("verify_ledger")


def test_the_same_key_pays_out_once(
    configuration: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    answers = [ask(api, ada, key="once") for _ in range(3)]

    assert len({answer.json()["id"] for answer in answers}) == 1
    assert answers[1]["Idempotent-Replayed"] == "true"
    assert ask(api, ada, key="once", amount=1).json()["code"] == "idempotency_conflict"
    assert making.balance_of(ada) == 7500
    steps_at(timezone.now())
    assert len(sandbox.objects(answers[0].json()["reference"])) == 1


def test_many_at_once_never_overdraw(
    configuration: GatewayConfiguration, ada: Account, tenant: Tenant
) -> None:
    clients = [making.api_client(tenant) for _ in range(6)]

    answers = making.at_once(
        [lambda client=client: ask(client, ada, amount=3000) for client in clients]  # type: ignore[misc]
    )

    statuses = sorted(answer.status_code for answer in answers)  # type: ignore[union-attr]
    assert statuses == [202, 202, 202, 422, 422, 422]
    assert making.balance_of(ada) == 1000
    call_command("verify_ledger")


@pytest.mark.parametrize(
    ("last4", "status", "code"),
    [
        ("0001", "failed", "invalid_account"),
        ("0004", "failed", None),
        ("0002", "returned", None),
    ],
)
def test_what_does_not_arrive_goes_back_once(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
    last4: str,
    status: str,
    code: str | None,
) -> None:
    payout = ask(api, ada, beneficiary=to_number(last4)).json()
    steps_at(timezone.now())
    for minutes in (2, 6, 20, 70):
        sandbox.advance(3600)
        steps_at(later(minutes))
    # The one that settled first is heard of by its notification.
    for told in sandbox.notifications():
        gateways.deliver(told, configuration)
        gateways.process_events()

    shown = api.get(f"/api/v1/payouts/{payout['id']}").json()
    assert shown["status"] == status
    assert code in (None, shown["failure_code"])
    assert making.balance_of(ada) == 10_000
    assert internal(tenant, "payout_clearing") == 0
    call_command("verify_ledger")


@pytest.mark.parametrize(
    "effect", ["timeout_after_commit", "reset_after_commit", "http_500_after_commit", "garbage"]
)
def test_a_lost_answer_never_pays_out_twice(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    effect: str,
) -> None:
    sandbox.fault(effect, "create_payout", times=3)
    payout = ask(api, ada).json()
    steps_at(timezone.now())
    assert status_of(api, payout) == "unknown"

    sandbox.no_faults()
    sandbox.advance(5)
    steps_at(later(2))

    assert status_of(api, payout) == "settled"
    assert len(sandbox.objects(payout["reference"])) == 1
    assert making.balance_of(ada) == 7500
    call_command("verify_ledger")


def test_what_the_gateway_never_got_is_sent_again(
    configuration: GatewayConfiguration, sandbox: Sandbox, api: ContractClient, ada: Account
) -> None:
    sandbox.fault("timeout_before_commit", "create_payout", times=3)
    payout = ask(api, ada).json()
    steps_at(timezone.now())
    assert status_of(api, payout) == "unknown"
    sandbox.no_faults()

    steps_at(later(2))

    assert status_of(api, payout) == "submitted"
    assert len(sandbox.objects(payout["reference"])) == 1


def test_credentials_that_are_refused_keep_the_money_in_clearing(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
) -> None:
    payout = ask(api, ada).json()
    key = gateways.secret_key_of(configuration)
    sandbox.http.post(
        "/_sim/accounts", json={"gateway": "sandbox", "key": key, "is_revoked": True}
    ).raise_for_status()

    steps_at(timezone.now())

    assert status_of(api, payout) == "pending"
    assert internal(tenant, "payout_clearing") == 2500
    assert Discrepancy.objects.get().kind == Discrepancy.Kind.GATEWAY_REFUSES
    sandbox.http.post(
        "/_sim/accounts", json={"gateway": "sandbox", "key": key, "is_revoked": False}
    ).raise_for_status()
    steps_at(later(6))
    assert status_of(api, payout) == "submitted"


def test_what_cannot_go_back_to_its_source_waits_for_a_person(
    configuration: GatewayConfiguration,
    sandbox: Sandbox,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
) -> None:
    payout = ask(api, ada, amount=10_000, beneficiary=to_number("0004")).json()
    steps_at(timezone.now())
    api.post(f"/api/v1/accounts/{ada.pk}/close", {"reason": "x"})
    sandbox.advance(3600)

    steps_at(later(2))

    assert status_of(api, payout) == "failed"
    assert internal(tenant, "suspense") == 10_000
    assert Discrepancy.objects.get().kind == Discrepancy.Kind.RETURN_REFUSED
    call_command("verify_ledger")


def test_xendit_pays_out_too(sandbox: Sandbox, api: ContractClient, tenant: Tenant) -> None:
    add_xendit(tenant)
    ani = making.open_account(tenant, balance=500_000, currency="IDR")

    payout = ask(
        api,
        ani,
        amount=150_000,
        beneficiary={**to_number("5678"), "bank_code": "ID_BCA"},
    ).json()
    steps_at(timezone.now())
    sandbox.advance(60)
    steps_at(later(2))

    assert status_of(api, payout) == "settled"
    call_command("verify_ledger")


@pytest.mark.parametrize(
    ("beneficiary", "field"),
    [
        ({"iban": "DE89370400440532013001"}, "beneficiary.iban"),
        ({"iban": IBAN, "country": "FR"}, "beneficiary.country"),
        ({"iban": "", "account_number": ""}, "beneficiary.iban"),
        ({"account_number": "123"}, "beneficiary.iban"),
        ({"iban": "", "account_number": "12 34 $", "country": "ID"}, "beneficiary.account_number"),
        ({"bank_code": "XXXXXXXX"}, "beneficiary.bank_code"),
        ({"country": "Germany"}, "beneficiary.country"),
        ({"name": "4111 1111 1111 1111"}, "beneficiary.name"),
    ],
)
def test_an_account_that_cannot_exist_is_refused(
    configuration: GatewayConfiguration,
    api: ContractClient,
    ada: Account,
    beneficiary: dict[str, str],
    field: str,
) -> None:
    answer = ask(api, ada, beneficiary={**BUDI, **beneficiary})

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field
    assert making.balance_of(ada) == 10_000


def test_a_file_carries_all_that_wait(
    bank: GatewayConfiguration,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
    settings: LazySettings,
    tmp_path: Any,
) -> None:
    settings.PAYOUT_DROP_DIRECTORY = str(tmp_path)
    payouts = [ask(api, ada, amount=amount).json() for amount in (100, 250)]
    assert [payout["gateway"] for payout in payouts] == ["bank_file", "bank_file"]

    [batch] = gather_payouts(now=timezone.now())

    assert gather_payouts(now=timezone.now()) == []
    assert (batch.payout_count, batch.total) == (2, 350)
    assert {status_of(api, payout) for payout in payouts} == {"submitted"}
    assert b"<CtrlSum>3.50</CtrlSum>" in batch.document
    assert export_payout_files(now=timezone.now()) == 1
    assert export_payout_files(now=timezone.now()) == 0
    [file] = tmp_path.iterdir()
    assert file.read_bytes() == bytes(PayoutBatch.objects.get().document)
    assert file.name == f"{batch.message_id}.xml"


def test_two_workers_put_each_payout_into_one_file(
    bank: GatewayConfiguration, api: ContractClient, ada: Account
) -> None:
    payouts = [ask(api, ada, amount=1).json() for _ in range(10)]

    made = making.at_once([lambda: gather_payouts(now=timezone.now()) for _ in range(4)])

    batches = [batch for each in made for batch in each]  # type: ignore[union-attr]
    assert sum(batch.payout_count for batch in batches) == len(payouts)
    references = b"".join(bytes(batch.document) for batch in batches)
    assert all(references.count(payout["reference"].encode()) == 1 for payout in payouts)


@pytest.mark.parametrize(("status", "code"), ENDS)
def test_the_banks_report_ends_them_all(
    bank: GatewayConfiguration,
    api: ContractClient,
    ada: Account,
    tenant: Tenant,
    status: str,
    code: str,
) -> None:
    payouts = [ask(api, ada, amount=100).json() for _ in range(2)]
    [batch] = gather_payouts(now=timezone.now())
    document = status_report(batch, code)

    taken = take_report(tenant_id=tenant.pk, document=document, now=timezone.now())
    again = take_report(tenant_id=tenant.pk, document=document, now=timezone.now())

    assert taken.report.applied_count == 2
    assert again.is_replay
    assert {status_of(api, payout) for payout in payouts} == {status}
    assert making.balance_of(ada) == (9800 if status == "settled" else 10_000)
    assert internal(tenant, "payout_clearing") == 0
    call_command("verify_ledger")


def test_one_of_two_is_rejected_and_one_settles_and_comes_back(
    bank: GatewayConfiguration, api: ContractClient, ada: Account, tenant: Tenant
) -> None:
    for amount in (100, 250):
        ask(api, ada, amount=amount)
    [batch] = gather_payouts(now=timezone.now())
    first, second = Payout.objects.order_by("pk")
    items = item(batch, first, "ACSC") + item(batch, second, "RJCT", "AC04")
    take_report(
        tenant_id=tenant.pk, document=status_report(batch, "", items=items), now=timezone.now()
    )
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.status, second.status) == ("settled", "failed")
    assert second.failure_code == "ac04"
    assert making.balance_of(ada) == 9900

    late = status_report(batch, "", message_id="BANK-2", items=item(batch, first, "RJCT", "AC06"))
    take_report(tenant_id=tenant.pk, document=late, now=timezone.now())

    first.refresh_from_db()
    assert first.status == "returned"
    assert making.balance_of(ada) == 10_000
    call_command("verify_ledger")


def test_another_tenants_report_changes_nothing(
    bank: GatewayConfiguration,
    api: ContractClient,
    ada: Account,
    other_tenant: Tenant,
) -> None:
    payout = ask(api, ada).json()
    [batch] = gather_payouts(now=timezone.now())

    taken = take_report(
        tenant_id=other_tenant.pk, document=status_report(batch, "RJCT"), now=timezone.now()
    )

    assert taken.report.applied_count == 0
    assert status_of(api, payout) == "submitted"


@pytest.mark.parametrize(
    "document",
    [
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Document>&e;</Document>',
        b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><Document>&b;</Document>',
        b"<html>no</html>",
        b"",
        b"\x00\xff",
    ],
)
def test_s21_an_unsafe_report_is_refused(tenant: Tenant, document: bytes) -> None:
    with pytest.raises(InvalidRequest):
        take_report(tenant_id=tenant.pk, document=document, now=timezone.now())
