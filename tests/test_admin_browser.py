"""The back office in a real browser: what a person clicks, and what the browser complains of."""

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db import connections
from django.utils import timezone
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice
from playwright.sync_api import Page, Request, sync_playwright
from pytest_django.live_server_helper import LiveServer

from accounts.models import Account
from identity.models import Tenant
from identity.services import create_tenant, create_user
from ledger.models import Transaction
from tests.making import balance_of, deposit, open_account, transfer

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
EMAIL, PASSWORD = "ops@kopi.test", "correct-horse-battery"
# Where to keep pictures of the pages; without it none are taken.
SHOTS = os.environ.get("FLORIN_SCREENSHOTS")

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here"),
]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A browser's page that fails the test when anything is written to its console."""
    # Playwright's own event loop runs in this thread; the database is not asked from inside it.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        page.on(
            "console",
            lambda said: (
                complaints.append(said.text) if said.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.extend(_failure(request)))
        yield page
        browser.close()
        # Django keeps another connection for code that runs under a loop.
        connections.close_all()
    assert complaints == []


def _failure(request: Request) -> list[str]:
    # Whoever clicks on before a page is complete aborts the rest of it.
    return [] if request.failure == "net::ERR_ABORTED" else [f"{request.url}: {request.failure}"]


@pytest.fixture
def bank() -> Tenant:
    tenant = create_tenant(name="Kopi Bank", now=timezone.now())
    create_user(
        tenant_id=tenant.pk, email=EMAIL, password=PASSWORD, role="admin", now=timezone.now()
    )
    return tenant


@pytest.fixture
def customers(bank: Tenant) -> tuple[Account, Account]:
    ada = open_account(bank, name="Ada Lestari", currency="MYR", external_id="customer-42")
    ben = open_account(bank, name="Ben Santoso", currency="MYR")
    deposit(ada, 250_000, description="Salary")
    for number in range(1, 61):
        transfer(ada, ben, 1_250 + number, description=f"Invoice {1000 + number}")
    return ada, ben


def sign_in(page: Page, server: LiveServer) -> None:
    page.goto(f"{server.url}/admin/")
    keep(page, "login")
    page.get_by_label("Email").fill(EMAIL)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def keep(page: Page, name: str) -> None:
    if SHOTS:
        page.wait_for_load_state()
        page.screenshot(path=Path(SHOTS) / f"{name}.png")


def test_an_account_is_read_and_frozen(
    page: Page, live_server: LiveServer, customers: tuple[Account, Account]
) -> None:
    ada, _ = customers
    sign_in(page, live_server)
    page.get_by_role("row", name="Accounts").get_by_role("link").first.click()
    keep(page, "accounts")
    page.get_by_role("link", name="Ada Lestari").click()
    keep(page, "account")

    statement = page.get_by_role("region", name="Statement").get_by_role("row")
    assert statement.count() == 51
    assert "Invoice 1060" in statement.nth(1).inner_text()
    page.get_by_role("link", name="Older").click()
    assert "Salary" in statement.last.inner_text()
    page.get_by_role("link", name="Newer").click()

    page.get_by_role("link", name="Freeze…").click()
    keep(page, "freeze")
    page.get_by_label("Reason").fill("Card reported stolen")
    page.get_by_role("button", name="Freeze").click()

    assert page.get_by_text("The account is frozen.").is_visible()
    assert page.get_by_role("heading", name="Ada Lestari Frozen").is_visible()
    ada.refresh_from_db()
    assert ada.status == Account.Status.FROZEN


def test_a_transaction_is_reversed(
    page: Page, live_server: LiveServer, customers: tuple[Account, Account]
) -> None:
    ada, _ = customers
    before = balance_of(ada)
    sign_in(page, live_server)
    page.goto(f"{live_server.url}/admin/accounts/account/{ada.pk}/")
    page.get_by_role("row", name="Invoice 1060").get_by_role("link", name="Transfer").click()
    keep(page, "transaction")

    page.get_by_role("link", name="Reverse…").click()
    page.get_by_label("Reason").fill("Paid twice")
    page.get_by_role("button", name="Reverse").dblclick()

    page.get_by_text("The transaction is reversed.").wait_for()
    assert balance_of(ada) == before + 1_310
    assert Transaction.objects.filter(type=Transaction.Type.REVERSAL).count() == 1


def test_a_key_is_made(page: Page, live_server: LiveServer, bank: Tenant) -> None:
    sign_in(page, live_server)
    page.goto(f"{live_server.url}/admin/identity/apikey/add/")
    page.get_by_label("Name").fill("Shop")
    page.get_by_role("checkbox", name="Read").check()
    page.get_by_role("button", name="Add").click()

    assert page.locator("#clear-key").inner_text().startswith("florin_test_")
    keep(page, "api-key")


def test_a_second_factor_is_set_up_and_asked_for(
    page: Page, live_server: LiveServer, bank: Tenant, settings: LazySettings
) -> None:
    settings.STAFF_SECOND_FACTOR_REQUIRED = True
    sign_in(page, live_server)
    # No further than this, whatever one asks for.
    page.get_by_role("heading", name="Second factor").wait_for()
    page.goto(f"{live_server.url}/admin/accounts/account/")
    page.get_by_role("heading", name="Second factor").wait_for()
    keep(page, "second-factor")
    shown = page.locator("code.clear-key").inner_text()

    page.get_by_label("Code that the app shows").fill("000000")
    page.get_by_role("button", name="Turn it on").click()
    page.get_by_text("The code is wrong.").wait_for()
    TOTPDevice.objects.update(throttling_failure_count=0)
    page.get_by_label("Code that the app shows").fill(code_of(shown))
    page.get_by_role("button", name="Turn it on").click()

    recovery_codes = page.locator(".codes code").all_inner_texts()
    keep(page, "recovery-codes")
    assert len(recovery_codes) == 10
    page.get_by_role("link", name="I have kept them").click()
    page.get_by_role("heading", name="Back office").wait_for()

    page.get_by_role("button", name="Log out").click()
    sign_in(page, live_server)
    page.get_by_text("A one-time code is needed.").wait_for()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("One-time code").fill(code_of(shown, steps=1))
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Back office").wait_for()


def test_what_was_done_is_in_the_audit_trail(
    page: Page, live_server: LiveServer, customers: tuple[Account, Account]
) -> None:
    ada, _ = customers
    sign_in(page, live_server)
    page.goto(f"{live_server.url}/admin/accounts/account/{ada.pk}/freeze/")
    page.get_by_label("Reason").fill("Card reported stolen")
    page.get_by_role("button", name="Freeze").click()

    page.goto(f"{live_server.url}/admin/core/auditrecord/?q={ada.pk}")
    keep(page, "audit-records")
    page.get_by_role("link", name="account.frozen").click()
    page.get_by_role("heading", name="account.frozen").wait_for()
    keep(page, "audit-record")
    page.get_by_text("Card reported stolen").wait_for()


def code_of(secret: str, *, steps: int = 0) -> str:
    """Return what an authenticator app would show that was given the secret; or will, later."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    return f"{totp(key, drift=steps):06d}"


def test_pages_fit_a_phone(
    page: Page, live_server: LiveServer, customers: tuple[Account, Account]
) -> None:
    ada, _ = customers
    page.set_viewport_size({"width": 390, "height": 800})
    sign_in(page, live_server)
    for path in ("", "accounts/account/", f"accounts/account/{ada.pk}/", "identity/apikey/add/"):
        page.goto(f"{live_server.url}/admin/{path}")
        width = page.evaluate("document.documentElement.scrollWidth")
        keep(page, "phone-" + (path.strip("/").replace("/", "-")[:20] or "index"))
        assert width <= 390, path
