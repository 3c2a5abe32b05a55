"""The simulator's hosted pages in a real browser, by mouse and by keyboard. No database."""

import shutil
from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

from payments.gateways.sandbox.simulator import running_simulator

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
KEY = {"Authorization": "Bearer sk_sandbox_merchant1"}
HOSTED, CHALLENGED = {"type": "hosted"}, {"token": "tok_three_d_secure"}
Press = Callable[[Page, str], None]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")


class Shop:
    """A merchant whose payers go to the page and come back."""

    def __init__(self, url: str) -> None:
        # Any place that answers, as the merchant's own would.
        self.url, self.back = url, f"{url}/_sim/health?order=1"

    def ask(self, method: dict[str, str]) -> dict[str, str]:
        body = {"reference": "INV-2026-000001-1", "amount": 250_000, "currency": "USD"}
        body |= {"payment_method": method, "return_url": self.back}
        made = httpx.post(f"{self.url}/sandbox/v1/payments", json=body, headers=KEY)
        return dict(made.raise_for_status().json())

    def status_of(self, payment: dict[str, str]) -> str:
        found = httpx.get(f"{self.url}/sandbox/v1/payments/{payment['id']}", headers=KEY)
        return str(found.json()["status"])


@pytest.fixture
def shop() -> Iterator[Shop]:
    with running_simulator() as simulator:
        yield Shop(simulator.url)


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page()
        browser.close()


def click(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()


def go_there_and_press_enter(page: Page, button: str) -> None:
    """With the Tab key alone, as somebody without a mouse."""
    for _ in range(page.get_by_role("button").count()):
        page.keyboard.press("Tab")
        if page.locator(":focus").inner_text() == button:
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"the Tab key does not lead to {button}")


@pytest.mark.parametrize(
    "press",
    [pytest.param(click, id="mouse"), pytest.param(go_there_and_press_enter, id="keyboard")],
)
@pytest.mark.parametrize(
    ("method", "button", "status"),
    [
        (HOSTED, "Pay", "succeeded"),
        (HOSTED, "Fail", "failed"),
        (HOSTED, "Let it expire", "expired"),
        (CHALLENGED, "Approve", "succeeded"),
        (CHALLENGED, "Reject", "failed"),
        (CHALLENGED, "Let it expire", "expired"),
    ],
)
def test_a_button_does_what_it_says_and_the_payer_comes_back(
    shop: Shop, page: Page, press: Press, method: dict[str, str], button: str, status: str
) -> None:
    payment = shop.ask(method)
    page.goto(payment["redirect_url"])

    press(page, button)

    page.wait_for_url(shop.back)
    assert shop.status_of(payment) == status


def test_a_payer_who_is_too_late_is_told_and_finds_the_way_back(shop: Shop, page: Page) -> None:
    payment = shop.ask(HOSTED)
    page.goto(payment["redirect_url"])
    place = f"{shop.url}/sandbox/v1/payments/{payment['id']}/cancel"
    httpx.post(place, headers=KEY).raise_for_status()

    click(page, "Pay")

    page.get_by_text("This page is no longer open.").wait_for()
    assert shop.status_of(payment) == "canceled"
    page.get_by_role("link", name="Back to the merchant").click()
    page.wait_for_url(shop.back)
