"""Gateways, payments, refunds, payouts, their files, and differences, in the back office."""

import datetime as dt
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models import Model
from django.test import Client
from django.utils import timezone

from accounts.models import Account
from accounts.services import freeze_account, internal_account, unfreeze_account
from core.iso20022.reading import parse_safely
from core.iso20022.validation import fault_of
from core.models import AuditRecord
from core.money import Money
from identity.models import Tenant
from identity.services import create_tenant
from payments import services
from payments.admin.payouts import REPORT_MEGABYTES_MAX
from payments.admin.words import MEANINGS, effects_of, meaning_of
from payments.gateways import breaker
from payments.gateways.port import CardData
from payments.gateways.registry import credentials_of, webhook_secrets_of
from payments.models import (
    Discrepancy,
    GatewayConfiguration,
    Payment,
    Payout,
    PayoutBatch,
    PayoutReportFile,
    Refund,
)
from payments.services import listening
from payments.services.waiting import open_discrepancy
from tests.back_office import (
    act,
    act_url,
    list_url,
    no_counting,
    page_link,
    page_url,
    shown,
    signed_in,
)
from tests.gateways import (
    GOOD_CARD,
    XENDIT_TOKEN,
    Sandbox,
    add_bank_file,
    add_midtrans,
    add_sandbox,
    add_xendit,
    fresh,
    status_report,
    steps_at,
)
from tests.making import at_once, balance_of, fresh_key, open_account, transfer

GATEWAYS = list_url(GatewayConfiguration)
PAYMENTS = list_url(Payment)
REPORTS = list_url(PayoutReportFile)
DISCREPANCIES = list_url(Discrepancy)
NEEDS_3DS = "4000002500003155"
LOST_ANSWER = "4000000000000119"
DECLINED = "4000000000000002"
IBAN = "DE89370400440532013000"
SECRET = "xnd_production_" + "s" * 40


@pytest.fixture
def supervisor(tenant: Tenant) -> Client:
    return signed_in(tenant, "supervisor")


@pytest.fixture
def admin(tenant: Tenant) -> Client:
    return signed_in(tenant, "admin")


@pytest.fixture
def root(tenant: Tenant) -> Client:
    return signed_in(tenant, "admin", is_superuser=True)


@pytest.fixture
def line(sandbox: Sandbox, tenant: Tenant) -> GatewayConfiguration:
    return add_sandbox(tenant)


@pytest.fixture
def ada(tenant: Tenant) -> Account:
    return open_account(tenant, name="Ada")


def topped_up(account: Account, number: str = GOOD_CARD, amount: int = 5_000) -> Payment:
    """Top the account up with a test card. Minor units."""
    order = services.TopUpOrder(
        account_id=account.pk,
        amount=Money(amount, account.currency),
        idempotency_key=fresh_key(),
        card=CardData(number, 12, 2099, "123"),
    )
    made = services.top_up(tenant_id=account.tenant_id, order=order, now=timezone.now())
    return made.payment


def paid_for_invoice(tenant: Tenant, reference: str = "INV-2026-000001-1") -> Payment:
    """Have 50.00 paid by a test card for an invoice. Minor units."""
    now = timezone.now()
    collection = services.Collection(
        account_id=internal_account(
            tenant_id=tenant.pk, role="receivable", currency="USD", now=now
        ),
        amount=Money(5_000, "USD"),
        idempotency_key=fresh_key(),
        reference=reference,
        card=CardData(GOOD_CARD, 12, 2099, "123"),
    )
    choices = services.gateways_for(tenant_id=tenant.pk, currency="USD", gateway=None, is_card=True)
    payment = services.begin_collection(
        tenant_id=tenant.pk, collection=collection, choices=choices, now=now
    )
    return services.send_collection(payment, collection, choices, now=now)


@pytest.fixture
def _nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are payments of invoices here, and no invoices."""
    monkeypatch.setattr(listening, "LISTENERS", {})


def waiting_for_deposit(sandbox: Sandbox, account: Account) -> Payment:
    """Top the account up, and freeze it before the payer has confirmed."""
    payment = topped_up(account, NEEDS_3DS)
    freeze_account(
        tenant_id=account.tenant_id, account_id=account.pk, reason="x", now=timezone.now()
    )
    sandbox.act(f"payments/{payment.gateway_payment_id}/challenge/approve")
    return services.ask_about_payment(payment, now=timezone.now())


def refunded(payment: Payment, amount: int) -> Refund:
    made = services.refund_payment(
        tenant_id=payment.tenant_id,
        payment_id=payment.pk,
        amount=amount,
        reason="Came late",
        idempotency_key=fresh_key(),
        now=timezone.now(),
    )
    return made.refund


def paid_out(source: Account, gateway: str, **beneficiary: str) -> Payout:
    values = {"name": "Ben Santoso", "country": "DE", "iban": IBAN, **beneficiary}
    request = services.PayoutRequest(
        source_account_id=source.pk,
        amount=Money(2_500, source.currency),
        beneficiary=services.Beneficiary(**values),
        idempotency_key=fresh_key(),
        gateway=gateway,
    )
    made = services.make_payout(tenant_id=source.tenant_id, request=request, now=timezone.now())
    return made.payout


def with_payouts(tenant: Tenant, count: int = 1) -> PayoutBatch:
    """Return a file of payouts of a new account."""
    add_bank_file(tenant)
    source = open_account(tenant, balance=100_000, currency="EUR", name="Eva")
    for _ in range(count):
        paid_out(source, "bank_file")
    [batch] = services.gather_payouts(tenant_id=tenant.pk, now=timezone.now())
    return batch


def difference(
    configuration: GatewayConfiguration,
    kind: str = Discrepancy.Kind.NOT_OURS,
    *,
    about: Payment | Payout | Refund | None = None,
    days: int = 0,
    **detail: str,
) -> Discrepancy:
    """Open a difference that was found so many days ago."""
    reference = fresh_key()
    open_discrepancy(
        tenant_id=configuration.tenant_id,
        configuration_id=configuration.pk,
        kind=kind,
        object_type=about._meta.model_name or "" if about else "payment",
        object_id=about.pk if about else None,
        reference=reference,
        amount=1_200,
        currency="USD",
        detail={"ours": "none", "theirs": "succeeded", **detail},
        now=timezone.now() - dt.timedelta(days=days),
    )
    return Discrepancy.objects.get(reference=reference)


def facts(html: str) -> dict[str, str]:
    """Return the details of a page, as text."""
    found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html, re.S)
    return {unescape(label): unescape(re.sub(r"<[^>]+>", "", value)) for label, value in found}


def acts_on(html: str) -> set[str]:
    return set(re.findall(r'class="btn(?: danger)?" href="[^"]*">([^<…]*)…</a>', html))


def actions_on(obj: Model) -> list[str]:
    """Return what was done to the object, by the audit trail."""
    rows = AuditRecord.objects.filter(object_id=obj.pk).order_by("pk")
    return list(rows.values_list("action", flat=True))


def logged_on(obj: Model) -> list[str]:
    rows = LogEntry.objects.filter(object_id=str(obj.pk)).order_by("pk")
    return [str(row.get_change_message()) for row in rows]


# --- Who sees what -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "roles"),
    [
        (GatewayConfiguration, {"admin", "auditor"}),
        (Payment, {"operator", "supervisor", "admin", "auditor"}),
        (Refund, {"operator", "supervisor", "admin", "auditor"}),
        (Payout, {"operator", "supervisor", "admin", "auditor"}),
        (PayoutBatch, {"operator", "supervisor", "admin", "auditor"}),
        (PayoutReportFile, {"operator", "supervisor", "admin", "auditor"}),
        (Discrepancy, {"operator", "supervisor", "admin", "auditor"}),
    ],
)
def test_lists_open_for_those_who_may_see_them(
    tenant: Tenant, model: type[Model], roles: set[str]
) -> None:
    everybody = ("operator", "supervisor", "admin", "auditor")
    opened = {role for role in everybody if _code(signed_in(tenant, role), list_url(model)) == 200}

    assert opened == roles
    assert _code(signed_in(tenant, "customer"), list_url(model)) == 302


def _code(client: Client, url: str) -> int:
    return client.get(url).status_code


@pytest.mark.parametrize(
    ("role", "on_topup", "on_file", "on_difference", "on_gateway"),
    [
        ("auditor", set(), set(), set(), set()),
        ("operator", set(), set(), set(), None),
        ("supervisor", {"Refund", "Ask the gateway now"}, {"Download"}, {"Resolve"}, None),
        (
            "admin",
            {"Refund", "Ask the gateway now"},
            {"Download"},
            {"Resolve"},
            {"Disable", "Change", "Rotate credentials", "Delete"},
        ),
    ],
)
def test_acts_are_for_those_who_may(
    tenant: Tenant,
    line: GatewayConfiguration,
    ada: Account,
    role: str,
    on_topup: set[str],
    on_file: set[str],
    on_difference: set[str],
    on_gateway: set[str] | None,
) -> None:
    payment, batch, found = topped_up(ada), with_payouts(tenant), difference(line)
    client = signed_in(tenant, role)

    assert acts_on(shown(client, page_url(payment))) == on_topup
    assert acts_on(shown(client, page_url(batch))) == on_file
    assert acts_on(shown(client, page_url(found))) == on_difference
    if on_gateway is None:
        assert client.get(page_url(line)).status_code == 403
    else:
        assert acts_on(shown(client, page_url(line))) == on_gateway
    forms = [
        (act_url(payment, "refund"), bool(on_topup)),
        (act_url(payment, "ask"), bool(on_topup)),
        (act_url(batch, "download"), bool(on_file)),
        (act_url(found, "resolve"), bool(on_difference)),
        (f"{list_url(PayoutBatch)}gather/", bool(on_file)),
        (f"{REPORTS}add/", bool(on_file)),
        (act_url(line, "disable"), bool(on_gateway)),
        (f"{GATEWAYS}add/", bool(on_gateway)),
    ]
    for url, may in forms:
        assert client.get(url).status_code == (200 if may else 403)
        if not may:
            assert client.post(url, {"reason": "x"}).status_code == 403
    assert balance_of(ada) == 5_000


def test_another_tenants_rows_do_not_exist(
    sandbox: Sandbox, tenant: Tenant, other_tenant: Tenant, admin: Client
) -> None:
    theirs = add_sandbox(other_tenant, name="Strange line")
    account = open_account(other_tenant, name="Strange account")
    payment = topped_up(account)
    refund, batch = refunded(payment, 100), with_payouts(other_tenant)
    document = status_report(batch, "ACSC")
    report = services.take_report(
        tenant_id=other_tenant.pk, document=document, now=timezone.now()
    ).report
    payout, found = batch.payouts.get(), difference(theirs)
    objects = (theirs, payment, refund, payout, batch, report, found)

    for obj in objects:
        for url in (list_url(type(obj)), f"{list_url(type(obj))}?q={obj.pk}"):
            assert page_url(obj) not in shown(admin, url)
        assert admin.get(page_url(obj)).status_code == 302
        assert "Strange" not in admin.get(page_url(obj), follow=True).content.decode()
    for obj, name in ((payment, "refund"), (batch, "download"), (found, "resolve")):
        assert "There is no such" in act(admin, obj, name)
    assert "Nothing here." in shown(admin, f"{list_url(Payout)}?batch={batch.pk}")
    assert [balance_of(account), Refund.objects.count()] == [4_900, 1]


# --- Gateways ----------------------------------------------------------------------------------
def new_xendit(**changed: str) -> dict[str, str]:
    return {
        "mode": "test",
        "name": "Xendit Jakarta",
        "currencies": "idr, USD",
        "priority": "50",
        "credential_secret_key": SECRET,
        "webhook_secret": XENDIT_TOKEN,
        **changed,
    }


def test_a_gateway_is_added_field_by_field(admin: Client, settings: LazySettings) -> None:
    settings.PUBLIC_URL = "https://bank.test"
    chosen = admin.post(f"{GATEWAYS}add/", {"gateway": "xendit"})
    form = shown(admin, chosen["Location"])
    answer = admin.post(chosen["Location"], new_xendit(), follow=True)
    page = answer.content.decode()

    made = GatewayConfiguration.objects.get()
    assert len(re.findall(r'<input type="password"[^>]*>', form)) == 2
    assert credentials_of(made) == {"secret_key": SECRET}
    assert webhook_secrets_of(made, timezone.now()) == [XENDIT_TOKEN]
    assert (made.currencies, made.priority, made.mode) == (["IDR", "USD"], 50, "test")
    assert f"https://bank.test/api/v1/webhooks/gateways/xendit/{made.pk}" in page
    assert "Now enter its webhook URL at the gateway." in page
    assert actions_on(made) == ["gateway.added"]
    assert logged_on(made) == ["Added."]


def test_the_form_asks_for_what_the_gateway_needs(admin: Client) -> None:
    def asked(gateway: str) -> set[str]:
        html = shown(admin, f"{GATEWAYS}add/?gateway={gateway}")
        return set(re.findall(r'name="((?:credential_|webhook_)\w+)"', html))

    assert asked("midtrans") == {"credential_server_key"}
    assert asked("xendit") == {"credential_secret_key", "webhook_secret"}
    assert asked("bank_file") == {
        *("credential_debtor_name", "credential_debtor_account", "credential_debtor_country"),
        *("credential_debtor_bic", "credential_debtor_town"),
    }
    assert asked("paypal") == set()


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"credential_secret_key": ""}, "This field is required."),
        ({"credential_secret_key": "with a blank"}, "Letters, digits and signs only, no blanks."),
        ({"credential_secret_key": "x" * 501}, "at most 500 characters"),
        ({"webhook_secret": "short"}, "8 to 255 letters, digits and signs, no blanks."),
        ({"currencies": ""}, "This field is required."),
        ({"currencies": ",,"}, "Name between 1 and 50 currencies."),
        ({"currencies": "IDR, XXQ"}, "There is no currency XXQ."),
        ({"currencies": "EUR"}, "xendit does not take EUR."),
        ({"priority": "-1"}, "greater than or equal to 0"),
        ({"priority": "32768"}, "less than or equal to 32767"),
        ({"mode": "real"}, "is not one of the available choices"),
        ({"name": "x" * 101}, "at most 100 characters"),
        ({"name": "a\x00b"}, "Null characters are not allowed."),
    ],
)
def test_a_gateway_that_cannot_be_is_refused_in_a_sentence(
    admin: Client, changed: dict[str, str], refusal: str
) -> None:
    url = f"{GATEWAYS}add/?gateway=xendit"
    answer = admin.post(url, new_xendit(**changed))
    page = answer.content.decode()

    assert answer.status_code == 200
    assert refusal in page
    # What was typed as a secret is typed again.
    assert SECRET not in page
    assert XENDIT_TOKEN not in page
    assert not GatewayConfiguration.objects.exists()


def test_test_and_live_are_not_mixed(tenant: Tenant, admin: Client) -> None:
    add_xendit(tenant)

    answer = admin.post(f"{GATEWAYS}add/?gateway=xendit", new_xendit(mode="live"))

    assert "Gateways of the other mode are enabled." in answer.content.decode()
    assert GatewayConfiguration.objects.count() == 1


def test_a_superuser_says_for_whom_a_gateway_is(other_tenant: Tenant, root: Client) -> None:
    root.post(f"{GATEWAYS}add/?gateway=xendit", new_xendit(tenant=str(other_tenant.pk)))

    assert GatewayConfiguration.objects.get().tenant == other_tenant


def test_others_add_gateways_of_their_own_tenant_only(
    tenant: Tenant, other_tenant: Tenant, admin: Client
) -> None:
    admin.post(f"{GATEWAYS}add/?gateway=xendit", new_xendit(tenant=str(other_tenant.pk)))

    assert GatewayConfiguration.objects.get().tenant == tenant


def test_a_gateway_is_disabled_and_enabled(tenant: Tenant, admin: Client) -> None:
    made = add_xendit(tenant)

    disabled = act(admin, made, "disable", reason="They are down")
    enabled = act(admin, made, "enable")

    assert "The gateway is disabled." in disabled
    assert "Enable" in acts_on(disabled)
    assert "Disable" in acts_on(enabled)
    assert actions_on(made) == ["gateway.added", "gateway.changed", "gateway.changed"]
    assert logged_on(made) == ["Disable. They are down", "Enable. Because"]


def test_a_gateway_is_not_enabled_beside_the_other_mode(tenant: Tenant, admin: Client) -> None:
    test, live = add_xendit(tenant), add_xendit(tenant, mode="live", is_enabled=False)

    page = act(admin, live, "enable")

    assert "Gateways of the other mode are enabled." in page
    assert logged_on(live) == []
    test.refresh_from_db()
    live.refresh_from_db()
    assert (test.is_enabled, live.is_enabled) == (True, False)


def test_a_gateway_is_changed(tenant: Tenant, admin: Client) -> None:
    made = add_xendit(tenant)

    same = act(admin, made, "edit", name="", currencies="USD IDR", priority="100")
    foreign = act(admin, made, "edit", name="", currencies="EUR", priority="100")
    page = act(admin, made, "edit", name="Jakarta", currencies="IDR;PHP", priority="7")

    assert "Nothing is different." in same
    assert "xendit does not take EUR." in foreign
    assert "The gateway is changed." in page
    made.refresh_from_db()
    assert (made.name, made.currencies, made.priority) == ("Jakarta", ["IDR", "PHP"], 7)


def test_credentials_are_rotated(tenant: Tenant, admin: Client) -> None:
    made = add_xendit(tenant)

    empty = act(admin, made, "credentials")
    page = act(admin, made, "credentials", credential_secret_key=SECRET)

    made.refresh_from_db()
    assert "This field is required." in empty
    assert "The credentials are replaced." in page
    assert credentials_of(made) == {"secret_key": SECRET}
    assert facts(page)["Credential"] == "…ssss"
    assert logged_on(made) == ["Rotate credentials. Because"]


def test_a_webhook_secret_is_rotated_and_the_old_one_taken_for_a_day(
    tenant: Tenant, admin: Client
) -> None:
    made = add_xendit(tenant)

    page = act(admin, made, "webhook-secret", webhook_secret="another-token-2")

    made.refresh_from_db()
    assert webhook_secrets_of(made, timezone.now()) == ["another-token-2", XENDIT_TOKEN]
    assert made.previous_webhook_secret_until is not None
    assert f"{made.previous_webhook_secret_until:%Y-%m-%d %H:%M}" in facts(page)["Old one until"]


def test_only_a_gateway_with_a_webhook_secret_has_one_to_rotate(
    tenant: Tenant, admin: Client
) -> None:
    made = add_midtrans(tenant)

    assert "Rotate webhook secret" not in acts_on(shown(admin, page_url(made)))


def test_a_deleted_gateway_forgets_its_credentials(tenant: Tenant, admin: Client) -> None:
    made = add_xendit(tenant, name="Jakarta")

    page = act(admin, made, "remove")

    made.refresh_from_db()
    assert "The gateway is deleted." in page
    assert acts_on(page) == set()
    assert bytes(made.credentials) == b""
    assert "Jakarta" not in shown(admin, GATEWAYS)
    assert "Jakarta" in shown(admin, f"{GATEWAYS}?use=deleted")
    assert "Jakarta" in shown(admin, f"{GATEWAYS}?use=all")
    assert "Jakarta" in shown(admin, f"{GATEWAYS}?q={made.pk}")


def test_a_gateway_with_payments_under_way_is_not_deleted(
    line: GatewayConfiguration, ada: Account, admin: Client
) -> None:
    topped_up(ada, NEEDS_3DS)

    page = act(admin, line, "remove")

    assert "Payments through it are under way." in page
    line.refresh_from_db()
    assert line.deleted_at is None


def test_a_page_says_that_calls_are_paused(line: GatewayConfiguration, admin: Client) -> None:
    before = facts(shown(admin, page_url(line)))["Calls to it"]
    for _ in range(breaker.FAILURES_MAX):
        breaker.failed(line.circuit)
    after = facts(shown(admin, page_url(line)))["Calls to it"]
    breaker.succeeded(line.circuit)

    assert before == "Let through"
    assert after.startswith("Paused: 5 in a row have failed.")


def test_secrets_are_on_no_page(tenant: Tenant, root: Client) -> None:
    made = add_xendit(tenant)
    secrets = [credentials_of(made)["secret_key"], XENDIT_TOKEN, SECRET, "another-token-2"]
    act(root, made, "credentials", credential_secret_key=SECRET)
    act(root, made, "webhook-secret", webhook_secret="another-token-2")
    made.refresh_from_db()
    record = AuditRecord.objects.filter(object_id=made.pk).latest("pk")
    kept = [bytes(made.credentials).decode(), bytes(made.webhook_secret or b"").decode()]

    urls = [
        GATEWAYS,
        page_url(made),
        f"{page_url(made).removesuffix('change/')}history/",
        *(act_url(made, name) for name in ("edit", "credentials", "webhook-secret", "remove")),
        page_url(record),
        f"{list_url(AuditRecord)}?q={made.pk}",
        "/admin/",
    ]

    for url in urls:
        page = shown(root, url)
        assert not [secret for secret in (*secrets, *kept) if secret in page], url


# --- Payments of every purpose -----------------------------------------------------------------
@pytest.mark.usefixtures("_nobody_listens")
def test_the_list_says_what_a_payment_is_for(
    line: GatewayConfiguration, tenant: Tenant, ada: Account, supervisor: Client
) -> None:
    topup, of_invoice = topped_up(ada), paid_for_invoice(tenant)

    both = shown(supervisor, PAYMENTS)
    invoices = shown(supervisor, f"{PAYMENTS}?purpose__exact=invoice")

    said = re.findall(r'<td class="field-paid_for">([^<]*)</td>', both)
    assert said == ["Invoice", "Top-up"]
    assert of_invoice.reference in invoices
    assert topup.reference not in invoices


@pytest.mark.usefixtures("_nobody_listens")
def test_a_page_says_what_the_payment_is_for(
    line: GatewayConfiguration, tenant: Tenant, ada: Account, supervisor: Client
) -> None:
    topup, of_invoice = topped_up(ada), paid_for_invoice(tenant)

    assert facts(shown(supervisor, page_url(topup)))["For"] == "Top-up"
    page = shown(supervisor, page_url(of_invoice))
    assert facts(page)["For"] == "Invoice"
    assert facts(page)["Account"] == "Receivable"
    assert f"Payment {of_invoice.reference}" in page


@pytest.mark.usefixtures("_nobody_listens")
def test_what_was_paid_for_an_invoice_is_not_refunded_here(
    line: GatewayConfiguration, tenant: Tenant, supervisor: Client
) -> None:
    payment = paid_for_invoice(tenant)

    page = shown(supervisor, page_url(payment))
    refusal = act(supervisor, payment, "refund", key=str(payment.pk))

    assert acts_on(page) == {"Ask the gateway now"}
    assert "No such top-up." in refusal
    assert not Refund.objects.exists()


@pytest.mark.usefixtures("_nobody_listens")
def test_a_difference_leads_to_the_payment_whatever_it_is_for(
    line: GatewayConfiguration, tenant: Tenant, ada: Account, supervisor: Client
) -> None:
    for payment in (topped_up(ada), paid_for_invoice(tenant)):
        found = difference(line, Discrepancy.Kind.STATUS_DIFFERS, about=payment)

        page = shown(supervisor, page_url(found))

        assert f'href="{page_url(payment)}">payment {found.reference}</a>' in page


@pytest.mark.usefixtures("_nobody_listens")
def test_refunds_of_an_invoice_are_found_by_its_payment(
    line: GatewayConfiguration, tenant: Tenant, ada: Account, supervisor: Client, root: Client
) -> None:
    payment = paid_for_invoice(tenant)
    wanted, other = refunded(payment, 100), refunded(topped_up(ada), 100)

    for client in (supervisor, root):
        page = shown(client, f"{list_url(Refund)}?q={payment.reference}")

        assert wanted.reference in page
        assert other.reference not in page
        assert f'href="{page_url(payment)}">of ' in page


# --- Top-ups -----------------------------------------------------------------------------------
def refund_form(client: Client, payment: Payment, **more: str) -> dict[str, str]:
    """Open the form as a person does; return what the browser would send."""
    key = re.search(r'name="key" value="([^"]+)"', shown(client, act_url(payment, "refund")))
    assert key is not None
    return {"key": key[1], "reason": "Came late", **more}


def test_a_topup_says_what_happened_and_where(
    line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = topped_up(ada)

    page = shown(supervisor, page_url(payment))

    assert f'href="{page_url(ada)}">Ada</a>' in page
    assert f'href="/admin/ledger/transaction/{payment.transaction_id}/change/"' in page
    assert f'href="{page_url(line)}"' in page
    assert facts(page)["Gateway's word"] == "succeeded"
    assert facts(page)["Paid by"] == "a test card ending 4242"
    assert "Next" not in facts(page)
    assert GOOD_CARD not in page
    assert shown(supervisor, f"/admin/ledger/transaction/{payment.transaction_id}/change/")


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (NEEDS_3DS, "The payer has yet to pay, or to confirm. The gateway is asked again at "),
        (LOST_ANSWER, "nobody knows whether the payer has paid. No money is asked for a second"),
    ],
)
def test_a_topup_that_waits_says_for_what(
    line: GatewayConfiguration, ada: Account, supervisor: Client, number: str, sentence: str
) -> None:
    payment = topped_up(ada, number)

    page = shown(supervisor, page_url(payment))

    assert payment.next_step_at is not None
    assert sentence in facts(page)["Next"]
    assert f"{payment.next_step_at:%Y-%m-%d %H:%M} UTC." in facts(page)["Next"]


def test_a_topup_that_the_ledger_refuses_says_why_and_what_happens_next(
    sandbox: Sandbox,
    line: GatewayConfiguration,
    ada: Account,
    supervisor: Client,
    settings: LazySettings,
) -> None:
    payment = waiting_for_deposit(sandbox, ada)
    found = Discrepancy.objects.get()
    assert payment.paid_at is not None
    until = payment.paid_at + dt.timedelta(days=settings.TOPUP_REFUND_AFTER_DAYS)

    page = shown(supervisor, page_url(payment))

    assert "the ledger refuses the deposit: account frozen." in facts(page)["Next"]
    assert f"If that fails until {until:%Y-%m-%d %H:%M}, it is paid back." in facts(page)["Next"]
    assert facts(page)["Needs a person"].startswith("The payer has paid, and the ledger refused")
    assert f'href="{page_url(found)}">Paid, not deposited</a>' in page
    settings.TOPUP_REFUND_AFTER_DAYS = 0
    assert "It is not paid back by itself." in shown(supervisor, page_url(payment))


def test_the_queue_has_only_what_needs_a_person(
    sandbox: Sandbox, line: GatewayConfiguration, tenant: Tenant, ada: Account, supervisor: Client
) -> None:
    fine, stuck = topped_up(ada), waiting_for_deposit(sandbox, open_account(tenant))

    queue = shown(supervisor, f"{PAYMENTS}?attention=needed")
    pending = shown(supervisor, f"{PAYMENTS}?status__exact=deposited")

    assert stuck.reference in queue
    assert "Paid, not deposited" in queue
    assert fine.reference not in queue
    assert fine.reference in pending
    assert stuck.reference not in pending


def test_topups_are_found_by_whole_identifiers(
    line: GatewayConfiguration, tenant: Tenant, ada: Account, supervisor: Client, root: Client
) -> None:
    wanted, other = topped_up(ada), topped_up(open_account(tenant))
    identifiers = [
        str(wanted.pk),
        str(ada.pk),
        wanted.reference,
        wanted.gateway_payment_id,
        wanted.idempotency_key,
    ]

    for client in (supervisor, root):
        for text in identifiers:
            with no_counting():
                page = shown(client, f"{PAYMENTS}?q={text}")
            assert wanted.reference in page.replace(f'value="{text}"', "")
            assert other.reference not in page
        for text in (wanted.reference[:-1], "Ada", "x"):
            assert "Nothing here." in shown(client, f"{PAYMENTS}?q={text}")


def test_a_list_of_topups_costs_the_same_for_many(
    line: GatewayConfiguration, tenant: Tenant, supervisor: Client
) -> None:
    topped_up(open_account(tenant))
    with no_counting() as few:
        shown(supervisor, PAYMENTS)
    for _ in range(8):
        topped_up(open_account(tenant))
    with no_counting() as many:
        shown(supervisor, PAYMENTS)

    assert len(few) == len(many) <= 7


def test_topups_page_by_keyset(
    line: GatewayConfiguration, ada: Account, supervisor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.admin.PAGE_ROWS", 2)
    payments = [topped_up(ada) for _ in range(3)]

    first = shown(supervisor, PAYMENTS)
    second = shown(supervisor, f"{PAYMENTS}{page_link(first, 'next')}")

    assert [payment.reference in first for payment in payments] == [False, True, True]
    assert [payment.reference in second for payment in payments] == [True, False, False]


def test_a_topup_is_refunded_in_part(
    line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = topped_up(ada)

    page = act(supervisor, payment, "refund", **refund_form(supervisor, payment, amount="12.34"))

    refund = Refund.objects.get()
    assert "USD\u00a012.34 is on its way back to the payer." in page
    assert f'href="{page_url(payment)}"' in page
    assert (refund.amount, refund.reason, balance_of(ada)) == (1_234, "Came late", 3_766)
    assert logged_on(payment) == ["Refund. Came late"]
    assert actions_on(refund)[0] == "refund.created"
    [record] = AuditRecord.objects.filter(object_id=refund.pk, action="refund.created")
    assert record.actor_id.startswith("user:")
    again = shown(supervisor, page_url(payment))
    assert f'href="{page_url(refund)}">{refund.reference}</a>' in again


def test_without_an_amount_all_that_is_left_is_refunded(
    line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = topped_up(ada)
    refunded(payment, 2_000)

    form = shown(supervisor, act_url(payment, "refund"))
    act(supervisor, payment, "refund", **refund_form(supervisor, payment, amount=""))

    assert "Leave it empty for all that is left: USD\u00a030.00." in form
    assert sorted(Refund.objects.values_list("amount", flat=True)) == [2_000, 3_000]
    assert balance_of(ada) == 0


def test_a_refund_that_is_sent_twice_is_made_once(
    line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = topped_up(ada)
    form = refund_form(supervisor, payment, amount="10")

    pages = [act(supervisor, payment, "refund", **form) for _ in range(2)]
    changed = act(supervisor, payment, "refund", **{**form, "amount": "11"})

    refund = Refund.objects.get()
    assert all(f"Refund {refund.reference}" in page for page in pages)
    assert "errornote" in changed
    assert balance_of(ada) == 4_000
    assert len(logged_on(payment)) == 1


@pytest.mark.django_db(transaction=True)
def test_a_double_click_refunds_once(sandbox: Sandbox) -> None:
    tenant = create_tenant(name="Kopi Bank", now=timezone.now())
    add_sandbox(tenant)
    ada = open_account(tenant)
    payment = topped_up(ada)
    client = signed_in(tenant)
    form = refund_form(client, payment, amount="10")

    def click() -> int:
        clicking = Client()
        clicking.cookies.update(client.cookies)
        return clicking.post(act_url(payment, "refund"), form).status_code

    clicks: list[Callable[[], int]] = [click] * 4
    assert at_once(clicks) == [302] * 4
    assert (Refund.objects.count(), balance_of(ada)) == (1, 4_000)
    assert len(sandbox.requests("refund")) == 1


def test_one_persons_refund_form_is_not_anothers(
    tenant: Tenant, line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = topped_up(ada)
    form = refund_form(supervisor, payment, amount="10")
    act(supervisor, payment, "refund", **form)

    act(signed_in(tenant), payment, "refund", **form)

    assert Refund.objects.count() == 2


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        ({"amount": "50.01"}, "less than or equal to 50"),
        ({"amount": "0"}, "greater than or equal to 0.01"),
        ({"amount": "-1"}, "greater than or equal to 0.01"),
        ({"amount": "1.234"}, "no more than 2 decimal places"),
        ({"amount": "NaN"}, "Enter a number."),
        ({"amount": "9" * 30}, "less than or equal to 50"),
        ({"reason": ""}, "This field is required."),
        ({"reason": "x" * 501}, "at most 500 characters"),
        ({"key": "made-up"}, "Enter a valid UUID."),
        ({"key": ""}, "This field is required."),
    ],
)
def test_a_bad_refund_form_moves_nothing(
    line: GatewayConfiguration,
    ada: Account,
    supervisor: Client,
    wrong: dict[str, str],
    refusal: str,
) -> None:
    payment = topped_up(ada)

    page = act(supervisor, payment, "refund", **{**refund_form(supervisor, payment), **wrong})

    assert refusal in page
    assert balance_of(ada) == 5_000


def test_money_that_is_spent_is_not_refunded(
    tenant: Tenant, line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = topped_up(ada)
    transfer(ada, open_account(tenant), 1)

    page = act(supervisor, payment, "refund", **refund_form(supervisor, payment))

    assert "The account has not enough available to be debited." in page
    assert not Refund.objects.exists()
    assert logged_on(payment) == []


def test_a_refund_that_the_gateway_refuses_leaves_the_money_where_it_was(
    sandbox: Sandbox, line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = topped_up(ada)
    # The gateway has given a part back by itself: less is left there than here.
    sandbox.http.post(
        "/sandbox/v1/refunds",
        json={
            "payment": payment.gateway_payment_id,
            "reference": "by-hand",
            "amount": 1,
            "currency": "USD",
        },
        headers={
            "Authorization": sandbox.requests()[-1]["headers"]["authorization"],
            "Idempotency-Key": "by-hand",
        },
    ).raise_for_status()

    page = act(supervisor, payment, "refund", **refund_form(supervisor, payment))

    assert "The gateway refused (" in page
    assert "USD\u00a050.00 is where it was before." in page
    assert balance_of(ada) == 5_000


def test_what_was_never_deposited_is_refunded_whole(
    sandbox: Sandbox, line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = waiting_for_deposit(sandbox, ada)

    form = shown(supervisor, act_url(payment, "refund"))
    act(supervisor, payment, "refund", **refund_form(supervisor, payment))

    assert 'name="amount"' not in form
    assert Refund.objects.get().amount == 5_000
    assert fresh(payment).status == Payment.Status.REFUNDING


def test_what_went_through_a_deleted_gateway_is_refused_in_a_sentence(
    line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = topped_up(ada)
    form = refund_form(supervisor, payment)
    services.delete_gateway(tenant_id=ada.tenant_id, configuration_id=line.pk, now=timezone.now())

    page = act(supervisor, payment, "refund", **form)

    assert "Its gateway was deleted; nothing can be asked of it." in page
    assert acts_on(shown(supervisor, page_url(payment))) == set()
    assert balance_of(ada) == 5_000


def test_what_failed_has_nothing_to_refund(
    line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = topped_up(ada, DECLINED)

    page = shown(supervisor, page_url(payment))

    assert acts_on(page) == {"Ask the gateway now"}
    assert facts(page)["Failure"].startswith("Card declined.")


def test_asking_the_gateway_finds_a_lost_payment(
    line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = topped_up(ada, LOST_ANSWER)

    page = act(supervisor, payment, "ask", reason="The customer called")

    assert "The payment was unknown, and is deposited now." in page
    assert balance_of(ada) == 5_000
    assert logged_on(payment) == ["Ask the gateway now. The customer called"]


def test_asking_says_that_nothing_is_new(
    line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = topped_up(ada, NEEDS_3DS)

    page = act(supervisor, payment, "ask")

    assert "The gateway says nothing new. The payment is pending." in page


def test_asking_says_that_there_was_no_answer(
    sandbox: Sandbox, line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = topped_up(ada, NEEDS_3DS)
    sandbox.fault("http_500", "get_payment", times=3)

    page = act(supervisor, payment, "ask")

    assert "There was no answer. The payment is pending." in page
    assert logged_on(payment) == []


def test_a_refund_has_a_page(
    line: GatewayConfiguration, ada: Account, supervisor: Client, root: Client
) -> None:
    payment = topped_up(ada)
    refund = refunded(payment, 1_000)
    refund.refresh_from_db()

    page = shown(supervisor, page_url(refund))

    assert facts(page)["Next"].startswith("The gateway has it, and has yet to pay.")
    assert f'href="{page_url(payment)}">{payment.reference}</a>' in page
    assert acts_on(page) == set()
    for client in (supervisor, root):
        for text in (refund.pk, refund.reference, payment.pk, payment.reference):
            with no_counting():
                found = shown(client, f"{list_url(Refund)}?q={text}")
            assert "USD\u00a010.00" in found
    assert "Nothing here." in shown(supervisor, f"{list_url(Refund)}?q=RF-X")


def test_a_list_of_refunds_costs_the_same_for_many(
    line: GatewayConfiguration, tenant: Tenant, supervisor: Client
) -> None:
    refunded(topped_up(open_account(tenant)), 1)
    with no_counting() as few:
        shown(supervisor, list_url(Refund))
    for _ in range(5):
        refunded(topped_up(open_account(tenant)), 1)
    with no_counting() as many:
        shown(supervisor, list_url(Refund))

    assert len(few) == len(many) <= 6


# --- Payouts and their files -------------------------------------------------------------------
def test_a_payout_says_where_it_is(tenant: Tenant, supervisor: Client) -> None:
    add_bank_file(tenant)
    source = open_account(tenant, balance=10_000, currency="EUR", name="Eva")
    payout = paid_out(source, "bank_file")

    waiting = facts(shown(supervisor, page_url(payout)))["Next"]
    [batch] = services.gather_payouts(tenant_id=tenant.pk, now=timezone.now())
    page = shown(supervisor, page_url(payout))

    assert waiting == "It goes into the next payout file."
    assert facts(page)["Next"].startswith("It is in a payout file.")
    assert f'href="{page_url(batch)}">{batch.message_id}</a>' in page
    assert f'href="{page_url(source)}">Eva</a>' in page
    assert facts(page)["IBAN"] == IBAN


def test_payouts_are_found_and_filtered(
    tenant: Tenant, supervisor: Client, root: Client, other_tenant: Tenant
) -> None:
    batch = with_payouts(tenant, 2)
    wanted, other = batch.payouts.order_by("pk")
    with_payouts(other_tenant)

    for client in (supervisor, root):
        for text in (wanted.pk, wanted.reference, wanted.idempotency_key):
            with no_counting():
                page = shown(client, f"{list_url(Payout)}?q={text}")
            assert wanted.reference in page.replace(f'value="{text}"', "")
            assert other.reference not in page
        by_account = shown(client, f"{list_url(Payout)}?q={wanted.source_account_id}")
        of_file = shown(client, f"{list_url(Payout)}?batch={batch.pk}")
        assert by_account.count("Ben Santoso") == of_file.count("Ben Santoso") == 2
    assert "Nothing here." in shown(supervisor, f"{list_url(Payout)}?status__exact=settled")
    assert "Nothing here." in shown(supervisor, f"{list_url(Payout)}?attention=needed")


def test_lists_of_payouts_and_files_cost_the_same_for_many(
    tenant: Tenant, supervisor: Client
) -> None:
    with_payouts(tenant)
    with no_counting() as few:
        shown(supervisor, list_url(Payout))
        shown(supervisor, list_url(PayoutBatch))
    for _ in range(4):
        with_payouts(tenant, 3)
    with no_counting() as many:
        shown(supervisor, list_url(Payout))
        shown(supervisor, list_url(PayoutBatch))

    assert len(few) == len(many) <= 13


def test_waiting_payouts_are_gathered_by_hand(
    tenant: Tenant, other_tenant: Tenant, supervisor: Client
) -> None:
    for each in (tenant, other_tenant):
        add_bank_file(each)
        paid_out(open_account(each, balance=10_000, currency="EUR"), "bank_file")
    url = f"{list_url(PayoutBatch)}gather/"
    assert url in shown(supervisor, list_url(PayoutBatch))

    first = supervisor.post(url, follow=True).content.decode()
    second = supervisor.post(url, follow=True).content.decode()

    [batch] = PayoutBatch.objects.all()
    assert "Gathered 1 payout into 1 file." in first
    assert "No payout waits for a file." in second
    assert batch.tenant == tenant
    assert logged_on(batch) == ["Gathered."]


def test_a_superuser_gathers_for_a_tenant(
    tenant: Tenant, other_tenant: Tenant, root: Client
) -> None:
    add_bank_file(other_tenant)
    paid_out(open_account(other_tenant, balance=10_000, currency="EUR"), "bank_file")
    url = f"{list_url(PayoutBatch)}gather/"

    own = root.post(url, {"tenant": str(tenant.pk)}, follow=True).content.decode()
    root.post(url, {"tenant": str(other_tenant.pk)})

    assert "No payout waits for a file." in own
    assert PayoutBatch.objects.get().tenant == other_tenant


def test_the_button_to_gather_is_for_those_who_may(tenant: Tenant) -> None:
    page = shown(signed_in(tenant, "operator"), list_url(PayoutBatch))

    assert "gather" not in page.lower()


def test_a_downloaded_file_is_the_file(tenant: Tenant, supervisor: Client) -> None:
    batch = with_payouts(tenant, 2)
    waiting = shown(supervisor, page_url(batch))

    answers = [supervisor.post(act_url(batch, "download")) for _ in range(2)]

    for answer in answers:
        assert answer.status_code == 200
        assert answer.content == bytes(PayoutBatch.objects.get().document)
        assert answer["Content-Type"] == "application/xml"
        assert answer["Content-Disposition"] == f'attachment; filename="{batch.message_id}.xml"'
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert "no-store" in answer["Cache-Control"]
        assert fault_of(parse_safely(answer.content), "pain.001.001.09") is None
    assert "Nobody has had it yet" in waiting
    batch.refresh_from_db()
    assert batch.exported_at is not None
    assert actions_on(batch) == ["payout_file.exported"] * 2
    assert logged_on(batch) == ["Download."] * 2
    record = AuditRecord.objects.filter(object_id=batch.pk).latest("pk")
    assert (record.after or {})["how"] == "download"


def test_looking_at_a_file_is_not_having_it(tenant: Tenant, supervisor: Client) -> None:
    batch = with_payouts(tenant)

    for url in (page_url(batch), act_url(batch, "download")):
        page = shown(supervisor, url)
        assert "pain.001" not in page

    batch.refresh_from_db()
    assert batch.exported_at is None


def test_files_are_found(tenant: Tenant, supervisor: Client) -> None:
    batch = with_payouts(tenant)

    for text in (batch.pk, batch.message_id):
        assert "EUR\u00a025.00" in shown(supervisor, f"{list_url(PayoutBatch)}?q={text}")
    assert "Nothing here." in shown(supervisor, f"{list_url(PayoutBatch)}?q=PB-X")


# --- Payout reports ----------------------------------------------------------------------------
def upload(client: Client, document: bytes, **more: str) -> str:
    file = SimpleUploadedFile("report.xml", document, "application/xml")
    answer = client.post(f"{REPORTS}add/", {"document": file, **more}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_report_is_uploaded_and_settles(tenant: Tenant, supervisor: Client) -> None:
    batch = with_payouts(tenant, 2)

    page = upload(supervisor, status_report(batch, "ACSC"))

    report = PayoutReportFile.objects.get()
    assert "Read. 2 payouts changed." in page
    assert 'enctype="multipart/form-data"' in shown(supervisor, f"{REPORTS}add/")
    assert set(batch.payouts.values_list("status", flat=True)) == {"settled"}
    assert actions_on(report) == ["payout_report.read"]
    assert logged_on(report) == ["Read."]
    for text in (report.pk, report.message_id):
        assert "BANK-1" in shown(supervisor, f"{REPORTS}?q={text}")


def test_a_report_that_came_before_says_so(tenant: Tenant, supervisor: Client) -> None:
    document = status_report(with_payouts(tenant), "ACSC")
    upload(supervisor, document)

    page = upload(supervisor, document)

    report = PayoutReportFile.objects.get()
    came = f"{report.created_at:%Y-%m-%d %H:%M}"
    assert f"This file came before, on {came}. Nothing was done." in page
    assert logged_on(report) == ["Read."]


def test_another_document_with_the_id_of_one_that_came_is_refused(
    tenant: Tenant, supervisor: Client
) -> None:
    batch = with_payouts(tenant)
    upload(supervisor, status_report(batch, "ACSC"))

    page = upload(supervisor, status_report(batch, "RJCT"))

    assert "Another document with the message id BANK-1 was read before." in page
    assert batch.payouts.get().status == "settled"


def test_a_report_of_another_tenants_file_changes_nothing(
    tenant: Tenant, other_tenant: Tenant, supervisor: Client
) -> None:
    theirs = with_payouts(other_tenant)

    upload(supervisor, status_report(theirs, "ACSC"))

    assert theirs.payouts.get().status == "submitted"
    assert PayoutReportFile.objects.get().tenant == tenant


ENTITY = b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("document", "refusal"),
    [
        (ENTITY + b"<Document>&e;</Document>", "The message has a DOCTYPE or an entity."),
        (b"no XML", "The message is not well-formed XML."),
        (b"\xff\xfe", "The message is not in UTF-8."),
        (b"", "The submitted file is empty."),
        (b"x" * (REPORT_MEGABYTES_MAX * 1_000_000 + 1), "The file is larger than 10 MB."),
    ],
    ids=["entity", "text", "bytes", "empty", "large"],
)
def test_a_report_that_cannot_be_read_is_refused_in_a_sentence(
    supervisor: Client, document: bytes, refusal: str
) -> None:
    page = upload(supervisor, document)

    assert refusal in page
    assert Path("/etc/passwd").read_text().splitlines()[0] not in page
    assert not PayoutReportFile.objects.exists()
    assert not LogEntry.objects.exists()


def test_an_entity_inside_a_report_is_refused(tenant: Tenant, supervisor: Client) -> None:
    batch = with_payouts(tenant)
    declaration, rest = status_report(batch, "ACSC").split(b"?>", 1)

    page = upload(supervisor, declaration + b"?>" + ENTITY + rest)

    assert "The message has a DOCTYPE or an entity." in page
    assert batch.payouts.get().status == "submitted"


def test_a_report_is_not_uploaded_without_a_file(supervisor: Client) -> None:
    page = supervisor.post(f"{REPORTS}add/", {}).content.decode()

    assert "This field is required." in page


# --- Differences -------------------------------------------------------------------------------
def test_the_list_has_the_open_ones_and_how_old_they_are(
    line: GatewayConfiguration, supervisor: Client
) -> None:
    old, week, new = (difference(line, days=days) for days in (20, 3, 0))
    act(supervisor, difference(line), "resolve", resolution="accepted")
    [resolved] = Discrepancy.objects.filter(status="resolved")

    with no_counting():
        page = shown(supervisor, DISCREPANCIES)
    everything = shown(supervisor, f"{DISCREPANCIES}?status=all")

    assert "3 open: 1 found within a day, 1 within a week, 1 older than a week." in page
    assert "The oldest has waited for 2\u00a0weeks." in page
    assert all(each.reference in page for each in (old, week, new))
    assert resolved.reference not in page
    assert resolved.reference in everything
    assert resolved.reference in shown(supervisor, f"{DISCREPANCIES}?status=resolved")
    assert resolved.reference in shown(supervisor, f"{DISCREPANCIES}?q={resolved.reference}")
    assert "Nothing here." in shown(supervisor, f"{DISCREPANCIES}?kind__exact=paid_twice")


def test_nobody_counts_further_than_a_thousand(
    line: GatewayConfiguration, supervisor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("payments.admin.discrepancies.COUNTED_MAX", 2)
    for _ in range(3):
        difference(line)

    assert "More than 2 are open, the oldest for" in shown(supervisor, DISCREPANCIES)


def test_nothing_open_is_not_announced(supervisor: Client) -> None:
    assert 'class="warning"' not in shown(supervisor, DISCREPANCIES)


def test_a_list_of_differences_costs_the_same_for_many(
    line: GatewayConfiguration, supervisor: Client
) -> None:
    difference(line)
    with no_counting() as few:
        shown(supervisor, DISCREPANCIES)
    for _ in range(10):
        difference(line)
    with no_counting() as many:
        shown(supervisor, DISCREPANCIES)

    assert len(few) == len(many) <= 7


def test_a_page_has_both_sides_and_what_each_resolution_does(
    sandbox: Sandbox, line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = waiting_for_deposit(sandbox, ada)
    found = Discrepancy.objects.get()

    page = shown(supervisor, page_url(found))

    assert "<span>Our books say</span><b>refused: account frozen</b>" in page
    assert "<span>They say</span><b>succeeded</b>" in page
    assert facts(page)["What it means"] == MEANINGS["not_deposited"]
    assert f'href="{page_url(payment)}"' in page
    assert "<b>Try the deposit again</b>: credits the account now." in page
    assert "<b>Pay the payer back</b>: has the gateway pay the whole amount back." in page
    assert "Ask the gateway again" not in page


def test_every_kind_has_a_meaning_and_resolutions_that_there_are(
    line: GatewayConfiguration, ada: Account
) -> None:
    payment = topped_up(ada)
    for kind in Discrepancy.Kind:
        for row in (payment, refunded(payment, 1), None):
            found = difference(line, kind, about=row)
            effects = effects_of(found)

            assert meaning_of(found)
            assert all(effects.values())
            assert set(effects) <= set(services.RESOLUTIONS)
            assert "accepted" in effects
            assert row is not None or len(effects) == 1


def test_the_gateway_is_asked_again_about_a_refund(
    sandbox: Sandbox, line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    sandbox.fault("timeout_after_commit", "refund", times=3)
    refund = refunded(topped_up(ada), 1_000)
    found = difference(line, Discrepancy.Kind.UNKNOWN_OUTCOME, about=refund)
    sandbox.advance(5)

    act(supervisor, found, "resolve", resolution="asked_again")

    found.refresh_from_db()
    refund.refresh_from_db()
    assert (found.status, refund.status) == ("resolved", "succeeded")


def test_what_comes_right_by_itself_says_so(
    sandbox: Sandbox, line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = waiting_for_deposit(sandbox, ada)
    unfreeze_account(tenant_id=ada.tenant_id, account_id=ada.pk, reason="x", now=timezone.now())
    steps_at(timezone.now() + dt.timedelta(minutes=2))

    page = shown(supervisor, page_url(Discrepancy.objects.get()))

    assert fresh(payment).status == "deposited"
    assert facts(page)["Resolution"] == "It came right by itself"
    assert acts_on(page) == set()


def test_a_deleted_gateway_is_asked_for_nothing(line: GatewayConfiguration, ada: Account) -> None:
    payment = topped_up(ada)
    services.delete_gateway(tenant_id=ada.tenant_id, configuration_id=line.pk, now=timezone.now())

    not_deposited = difference(line, Discrepancy.Kind.NOT_DEPOSITED, about=payment)
    differs = difference(line, Discrepancy.Kind.STATUS_DIFFERS, about=payment)

    assert set(effects_of(not_deposited)) == {"deposited", "accepted"}
    assert set(effects_of(differs)) == {"accepted"}


def test_a_file_that_cannot_be_made_says_what_to_look_at(tenant: Tenant) -> None:
    bank = add_bank_file(tenant)
    found = difference(bank, Discrepancy.Kind.GATEWAY_REFUSES)

    assert meaning_of(found).startswith("No file can be made of the payouts that wait")


def test_a_bank_is_not_asked_about_a_payout_in_a_file(tenant: Tenant) -> None:
    batch = with_payouts(tenant)
    found = difference(
        batch.configuration, Discrepancy.Kind.AMOUNT_DIFFERS, about=batch.payouts.get()
    )

    assert set(effects_of(found)) == {"accepted"}


def test_a_difference_is_accepted_with_a_note(
    line: GatewayConfiguration, supervisor: Client
) -> None:
    found = difference(line)

    page = act(supervisor, found, "resolve", resolution="accepted", reason="Another shop's")

    found.refresh_from_db()
    assert "The difference is resolved." in page
    assert (found.status, found.resolution_note) == ("resolved", "Another shop's")
    assert found.resolved_by.startswith("user:")
    assert facts(page)["Resolution"] == "Accept the difference"
    assert acts_on(page) == set()
    assert actions_on(found) == ["discrepancy.found", "discrepancy.resolved"]
    assert logged_on(found) == ["Resolve. Another shop's"]
    assert "It is resolved." in act(supervisor, found, "resolve", resolution="accepted")


@pytest.mark.parametrize(
    "wrong",
    [{"resolution": ""}, {"resolution": "asked_again"}, {"resolution": "x"}, {"reason": ""}],
)
def test_a_bad_resolution_resolves_nothing(
    line: GatewayConfiguration, supervisor: Client, wrong: dict[str, str]
) -> None:
    found = difference(line)

    page = act(supervisor, found, "resolve", **{"resolution": "accepted", **wrong})

    found.refresh_from_db()
    assert "errorlist" in page
    assert found.status == "open"


def test_the_deposit_is_tried_again(
    sandbox: Sandbox, line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = waiting_for_deposit(sandbox, ada)
    found = Discrepancy.objects.get()

    refused = act(supervisor, found, "resolve", resolution="deposited")
    still_open = Discrepancy.objects.get().status
    unfreeze_account(tenant_id=ada.tenant_id, account_id=ada.pk, reason="x", now=timezone.now())
    act(supervisor, found, "resolve", resolution="deposited")

    assert "The deposit was refused: account_frozen." in refused
    assert still_open == "open"
    assert balance_of(ada) == 5_000
    assert (fresh(payment).status, Discrepancy.objects.get().status) == ("deposited", "resolved")


def test_the_payer_is_paid_back(
    sandbox: Sandbox, line: GatewayConfiguration, ada: Account, supervisor: Client
) -> None:
    payment = waiting_for_deposit(sandbox, ada)

    act(supervisor, Discrepancy.objects.get(), "resolve", resolution="refunded")
    sandbox.advance(5)
    steps_at(timezone.now() + dt.timedelta(minutes=2))

    assert fresh(payment).status == "refunded"
    assert balance_of(ada) == 0


def test_money_rows_have_no_forms_of_djangos(
    tenant: Tenant, line: GatewayConfiguration, ada: Account, root: Client
) -> None:
    payment, batch, found = topped_up(ada), with_payouts(tenant), difference(line)
    objects: list[Any] = [payment, refunded(payment, 1), batch.payouts.get(), batch, found]

    for obj in objects:
        assert root.post(f"{list_url(type(obj))}add/", {}).status_code == 403
        assert root.post(page_url(obj), {"amount": 1}).status_code == 405
    for obj in (*objects, line):
        url = f"{list_url(type(obj))}{obj.pk}/delete/"
        assert root.post(url, {"post": "yes"}).status_code == 403
