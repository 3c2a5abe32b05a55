"""kill -9 in the middle of a thousand transfers: what was acknowledged is there, once."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ops import processes
from ops.files import read_variables
from tests.checkout import STOP_TIMEOUT_S, Checkout, fresh_checkout

pytestmark = [pytest.mark.crash, pytest.mark.long]

TRANSFERS = 1000
CALLERS = 8
PATIENCE_S = 60.0


class Caller:
    """A client of the running copy that sends a request again, with its key, until it is heard."""

    def __init__(self, checkout: Checkout) -> None:
        demo = read_variables(checkout.local / "demo.env")
        self.url, self.key = demo["FLORIN_URL"], demo["FLORIN_API_KEY"]
        self.acknowledged: dict[str, str] = {}
        self.failures = 0

    def call(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.url}/api/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {self.key}",
                "Content-Type": "application/json",
                **({"Idempotency-Key": key} if key else {}),
            },
        )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                    return json.load(response)
            except urllib.error.HTTPError as error:
                if error.code < 500 or time.monotonic() > deadline:
                    raise AssertionError(error.read()) from error
            except (OSError, ValueError, http.client.HTTPException):
                # Refused, cut off, or half an answer: nobody knows whether it was done.
                assert time.monotonic() < deadline, "the server did not come back"
            self.failures += 1
            Checkout.pause()

    def open_account(self, amount: int) -> str:
        account = self.call("POST", "/accounts", {"type": "checking", "currency": "USD"})
        account_id: str = account["id"]
        if amount:
            deposit = {"account_id": account_id, "amount": amount, "currency": "USD"}
            self.call("POST", "/deposits", deposit, key=f"deposit {account_id}".replace(" ", "-"))
        return account_id

    def transfer(self, number: int, source: str, destination: str) -> None:
        body = {
            "source_account_id": source,
            "destination_account_id": destination,
            "amount": 1,
            "currency": "USD",
        }
        key = f"{source}-{number}"
        self.acknowledged[key] = self.call("POST", "/transfers", body, key=key)["id"]


@pytest.fixture(scope="module")
def checkout() -> Iterator[Checkout]:
    with fresh_checkout() as made, made.running():
        yield made


@pytest.mark.parametrize("victim", ["web", "postgres"])
def test_every_acknowledged_transfer_is_there_once(checkout: Checkout, victim: str) -> None:
    caller = Caller(checkout)
    source, destination = caller.open_account(TRANSFERS), caller.open_account(0)
    done = threading.Event()

    def kill_in_the_middle() -> None:
        for part in (4, 2):
            while len(caller.acknowledged) < TRANSFERS // part and not done.is_set():
                Checkout.pause()
            for pid in processes.in_group(checkout.server_pids()[victim]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_in_the_middle)
    killer.start()
    try:
        with ThreadPoolExecutor(CALLERS) as pool:
            for sent in [
                pool.submit(caller.transfer, number, source, destination)
                for number in range(TRANSFERS)
            ]:
                sent.result()
    finally:
        done.set()
        killer.join()

    assert caller.failures > 0, "nobody noticed the kill"
    assert len(set(caller.acknowledged.values())) == TRANSFERS
    assert caller.call("GET", f"/accounts/{source}")["balance"] == 0
    assert caller.call("GET", f"/accounts/{destination}")["balance"] == TRANSFERS
    with checkout.database() as database:
        booked = database.execute(
            "SELECT idempotency_key, id::text FROM ledger_transaction"
            " WHERE idempotency_key LIKE %s",
            [f"{source}-%"],
        ).fetchall()
    assert dict(booked) == caller.acknowledged
    assert verify_ledger(checkout.root) == 0


def verify_ledger(root: Path) -> int:
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLORIN_")}
    for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "API_KEY_PEPPER"):
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "manage.py", "verify_ledger"],
        cwd=root,
        env=env,
        timeout=STOP_TIMEOUT_S,
        check=False,
    )
    return done.returncode
