"""Parts c and g: requests over HTTP, under wrk, as `make run` serves them."""

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.measuring import Rate, Result, alternate, at_least
from benchmarks.posting import Setting

CONNECTIONS = (32, 100)
P95_MAX_MS = 50
SHARE_MIN = 0.5
EDGES_SHARE_MIN = 0.7
# The issue names none; we took the price of row security at this (docs/decisions/0011).
ROW_SECURITY_SHARE_MIN = 0.75
EDGES_CONNECTIONS = CONNECTIONS[0]
_TRANSFERS = Path(__file__).with_name("transfers.lua")
_READS = Path(__file__).with_name("reads.lua")
_REPORT = Path(__file__).with_name("report.lua")
_START_TIMEOUT_S = 30
_ANSWER_TIMEOUT_S = 30


def wrk() -> str | None:
    """The load generator; installed where this machine lets us."""
    if shutil.which("wrk") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "-y", "--no-install-recommends", "wrk"]):
            subprocess.run(["apt-get", "-qq", *command], check=False, capture_output=True)
    return shutil.which("wrk")


def measure(setting: Setting, rounds: int, seconds: int) -> list[Result]:
    """Part c: POST /transfers against a DRF view that calls a bare function."""
    results = []
    with environment(setting) as env:
        for connections in CONNECTIONS:
            pairs = []
            for _ in range(rounds):
                ours = wrk_round("config.settings", env, connections, seconds)
                bare = wrk_round("benchmarks.bare_settings", env, connections, seconds)
                pairs.append((ours, bare))
            results += _lines(connections, pairs)
    return results


def measure_edges(setting: Setting, rounds: int, seconds: int) -> list[Result]:
    """Part g: what credentials, limit, idempotency, audit and row security cost."""
    from django.db import connection

    with environment(setting) as env:

        def rate(settings: str, script: Path, **more: str) -> Rate:
            return lambda: wrk_round(
                settings, {**env, **more}, EDGES_CONNECTIONS, seconds, script=script
            )["rate"]

        transfers = alternate(
            rate("config.settings", _TRANSFERS),
            rate("benchmarks.edgeless_settings", _TRANSFERS),
            rounds,
        )
        with connection.cursor() as cursor:
            # As autovacuum would, some minutes later.
            cursor.execute("VACUUM (ANALYZE) ledger_entry, ledger_transaction, accounts_account")
        reads = alternate(
            rate("config.settings", _READS),
            rate("config.settings", _READS, ROW_SECURITY="0"),
            rounds,
        )
    what = f"POST /transfers, {EDGES_CONNECTIONS} connections; without its edges"
    rows = f"GET entries, {EDGES_CONNECTIONS} connections; without row security"
    return [
        at_least("g", what, transfers, EDGES_SHARE_MIN, "/s"),
        at_least("g", rows, reads, ROW_SECURITY_SHARE_MIN, "/s"),
    ]


@contextmanager
def environment(setting: Setting) -> Iterator[dict[str, str]]:
    """What the load generator's scripts and the servers read."""
    from django.utils import timezone

    from identity.services import RATE_LIMIT_MAX, create_api_key

    tenant_id, accounts = setting
    key = create_api_key(
        tenant_id=tenant_id,
        name="bench",
        scopes=["read", "write"],
        # Counted all the same; only not refused.
        rate_limit=RATE_LIMIT_MAX,
        now=timezone.now(),
    )
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(str(account) for account in accounts))
        file.flush()
        yield {
            "ACCOUNTS_FILE": file.name,
            "REPORT_FILE": str(_REPORT),
            "API_KEY": key.clear,
            "TENANT_ID": str(tenant_id),
            # As in production: written, and here read by nobody.
            "LOG_FORMAT": "json",
        }


def _lines(connections: int, pairs: list[tuple[dict, dict]]) -> list[Result]:
    def middle(of: int, name: str) -> float:
        return median(pair[of][name] for pair in pairs)

    ratio = median(ours["rate"] / bare["rate"] for ours, bare in pairs)
    rates = Result(
        "c",
        f"POST /transfers, {connections} connections; bare DRF view",
        f"{middle(0, 'rate'):,.0f} /s",
        f"{middle(1, 'rate'):,.0f} /s",
        ratio,
        f">= {SHARE_MIN:g}",
        ratio >= SHARE_MIN,
    )
    shown = [
        " / ".join(f"{middle(of, name):,.1f}" for name in ("p50", "p95", "p99")) for of in (0, 1)
    ]
    has_limit = connections == CONNECTIONS[0]
    latencies = Result(
        "c",
        "  p50 / p95 / p99, ms",
        shown[0],
        shown[1],
        middle(0, "p95") / middle(1, "p95"),
        f"p95 < {P95_MAX_MS} ms" if has_limit else "",
        middle(0, "p95") < P95_MAX_MS,
    )
    return [rates, latencies]


def wrk_round(
    settings: str, env: dict[str, str], connections: int, seconds: int, script: Path = _TRANSFERS
) -> dict[str, float]:
    """Serve Florin and have wrk run the script, in which nothing may fail; see serve_and_load."""
    found = serve_and_load(settings, env, connections, seconds, script)
    if found["errors"]:
        raise SystemExit(f"{found['errors']:.0f} of {found['requests']:.0f} requests failed.")
    return found


def serve_and_load(
    settings: str, env: dict[str, str], connections: int, seconds: int, script: Path
) -> dict[str, float]:
    """
    Serve Florin and have wrk run the script; return requests, errors, rate, and latencies in ms.
    """
    with serve(settings, env) as url:
        command = [wrk() or "wrk", "-t", "1", "-c", str(connections), "-s", str(script)]
        # A slow answer is slow, not a failure.
        command += ["--latency", "--timeout", f"{_ANSWER_TIMEOUT_S}s"]
        # Once briefly, so that connections, plans and caches are there.
        for duration in (1, seconds):
            done = subprocess.run(
                [*command, "-d", f"{duration}s", f"{url}/api/v1/transfers"],
                env={**os.environ, **env},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        "requests": found["requests"],
        "errors": found["errors"],
        "rate": found["requests"] / found["microseconds"] * 1e6,
        **{name: found[name] / 1e3 for name in ("p50", "p95", "p99")},
    }


@contextmanager
def serve(settings: str, env: dict[str, str]) -> Iterator[str]:
    """Granian as `make run` starts it."""
    from ops.running import web_command
    from ops.servers import free_port

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = web_command("127.0.0.1", port)
    with subprocess.Popen(
        command,
        env={**os.environ, **env, "DJANGO_SETTINGS_MODULE": settings},
        stdout=subprocess.DEVNULL,
        # A line for each request is a part of what is measured, and nothing to look at here.
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            deadline = time.monotonic() + _START_TIMEOUT_S
            while not _is_up(url):
                if time.monotonic() > deadline or server.poll() is not None:
                    raise SystemExit("The web server did not start.")
                time.sleep(0.1)
            yield url
        finally:
            server.terminate()


def _is_up(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own server
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
