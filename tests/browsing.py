"""A real browser for tests, that fails them when a page complains."""

import contextlib
import shutil
from collections.abc import Iterator

import pytest
from django.db import connections
from playwright.sync_api import Page, Request, sync_playwright

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
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")


@contextlib.contextmanager
def browsing(
    monkeypatch: pytest.MonkeyPatch,
    *,
    width: int = 1280,
    height: int = 900,
    dark: bool = False,
    allowed: tuple[str, ...] = (),
) -> Iterator[Page]:
    """
    Yield a browser's page that fails the test when anything is written to its console, but for
    what has one of the `allowed` words in it.
    """
    # Playwright's own event loop runs in this thread; the database is not asked from inside it.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
        )
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
    left = [each for each in complaints if not any(word in each for word in allowed)]
    assert left == [], left


def _failure(request: Request) -> list[str]:
    # Whoever clicks on before a page is complete aborts the rest of it.
    return [] if request.failure == "net::ERR_ABORTED" else [f"{request.url}: {request.failure}"]
