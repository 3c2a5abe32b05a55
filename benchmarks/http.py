"""Part c: POST /transfers over HTTP, under wrk, as `make run` serves it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from uuid import UUID

from benchmarks.measuring import Result

CONNECTIONS = (32, 100)
P95_MAX_MS = 50
SHARE_MIN = 0.5
_LUA = Path(__file__).with_name("transfers.lua")
_START_TIMEOUT_S = 30


def wrk() -> str | None:
    """The load generator; installed where this machine lets us."""
    if shutil.which("wrk") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "-y", "--no-install-recommends", "wrk"]):
            subprocess.run(["apt-get", "-qq", *command], check=False, capture_output=True)
    return shutil.which("wrk")


def measure(tenant_id: UUID, accounts: list[UUID], rounds: int, seconds: int) -> list[Result]:
    from django.utils import timezone

    from identity.services import create_api_key

    key = create_api_key(tenant_id=tenant_id, name="bench", scopes=["write"], now=timezone.now())
    results = []
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(str(account) for account in accounts))
        file.flush()
        env = {"ACCOUNTS_FILE": file.name, "API_KEY": key.clear}
        for connections in CONNECTIONS:
            pairs = []
            for _ in range(rounds):
                ours = _round("config.settings", env, connections, seconds)
                bare = _round("benchmarks.bare_settings", env, connections, seconds)
                pairs.append((ours, bare))
            results += _lines(connections, pairs)
    return results


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


def _round(settings: str, env: dict[str, str], connections: int, seconds: int) -> dict[str, float]:
    with _server(settings) as url:
        command = [wrk() or "wrk", "-t", "1", "-c", str(connections), "-s", str(_LUA), "--latency"]
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
    if found["errors"]:
        raise SystemExit(f"{found['errors']} of {found['requests']} requests failed.")
    milliseconds = {name: found[name] / 1e3 for name in ("p50", "p95", "p99")}
    return {"rate": found["requests"] / found["microseconds"] * 1e6, **milliseconds}


@contextmanager
def _server(settings: str) -> Iterator[str]:
    """Granian as `make run` starts it."""
    from ops.running import web_command
    from ops.servers import free_port

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = web_command("127.0.0.1", port)
    with subprocess.Popen(
        command,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": settings},
        stdout=subprocess.DEVNULL,
        stderr=sys.stderr,
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
