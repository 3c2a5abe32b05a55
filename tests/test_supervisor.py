"""`make run` in a copy of the checkout: it starts, refuses, stops and recovers as promised."""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from ops import processes
from ops.files import read_variables
from tests.checkout import START_TIMEOUT_S, STOP_TIMEOUT_S, Checkout, fresh_checkout

pytestmark = [pytest.mark.crash, pytest.mark.long]


@pytest.fixture(scope="module")
def checkout() -> Iterator[Checkout]:
    with fresh_checkout() as made:
        yield made


def test_it_serves_and_a_wished_end_leaves_nothing_behind(checkout: Checkout) -> None:
    with checkout.running() as run:
        assert checkout.answers()
        alive = checkout.everything_alive()
        assert set(checkout.server_pids()) >= {"web", "worker", "beat", "valkey", "postgres"}

        run.send_signal(signal.SIGTERM)

        assert run.wait(STOP_TIMEOUT_S) == 0
        assert [pid for pid in alive if processes.is_alive(pid)] == []
        assert not (checkout.local / "processes.json").exists()


def test_the_secrets_are_for_their_owner_only_and_are_kept(checkout: Checkout) -> None:
    with checkout.running():
        before = read_variables(checkout.local / "env")
    with checkout.running():
        after = read_variables(checkout.local / "env")

    assert (checkout.local / "env").stat().st_mode & 0o777 == 0o600
    assert len(before["SECRET_KEY"]) >= 64
    assert len(before["API_KEY_PEPPER"]) >= 64
    assert before == after


def test_a_second_copy_is_refused_and_harms_nothing(checkout: Checkout) -> None:
    with checkout.running() as run:
        second = Checkout(checkout.root)
        second.output = checkout.root / "second.txt"
        code, words = second.refusal()

        assert code == 1
        assert f"already runs in this checkout (pid {run.pid})" in words
        assert "Traceback" not in words
        assert checkout.answers()


def test_a_taken_port_is_refused_before_anything_starts(checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", checkout.port)):
        code, words = checkout.refusal()

    assert code == 1
    assert f"Port {checkout.port} of 127.0.0.1 is taken" in words
    assert "Traceback" not in words
    assert not (checkout.local / "processes.json").exists()
    assert processes.at_work_in(checkout.local / "postgres" / "data") == []


def test_killing_everything_loses_nothing_that_was_committed(checkout: Checkout) -> None:
    with checkout.running() as run:
        with checkout.database() as database:
            database.execute("CREATE TABLE kept AS SELECT 41 AS value")
        for pid in [run.pid, *checkout.everything_alive()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.wait(STOP_TIMEOUT_S)

    with checkout.running(), checkout.database() as database:
        row = database.execute("DELETE FROM kept RETURNING value").fetchone()
        database.execute("DROP TABLE kept")
    assert row == (41,)


def test_a_killed_supervisor_takes_its_processes_along(checkout: Checkout) -> None:
    with checkout.running() as run:
        alive = checkout.everything_alive()
        run.kill()
        run.wait(STOP_TIMEOUT_S)

        assert processes.wait_until_gone(alive, timeout_s=STOP_TIMEOUT_S) == []


def test_a_recycled_pid_is_left_alone(checkout: Checkout) -> None:
    bystander = processes.spawn(["sleep", "600"])
    entry = {"pid": bystander.pid, "started": (processes.start_time(bystander.pid) or 0) - 1}
    record = {"root": str(checkout.root), "run": "earlier", "processes": {"web": entry}}
    checkout.local.mkdir(exist_ok=True)
    (checkout.local / "processes.json").write_text(json.dumps(record))
    try:
        with checkout.running():
            assert processes.is_alive(bystander.pid)
    finally:
        processes.end(bystander)


def test_a_killed_server_is_started_again_on_its_port(checkout: Checkout) -> None:
    with checkout.running():
        before = checkout.server_pids()
        os.kill(before["postgres"], signal.SIGKILL)
        os.kill(before["valkey"], signal.SIGKILL)
        os.kill(before["web"], signal.SIGKILL)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (after := _restarted(checkout, before)):
            assert time.monotonic() < deadline, checkout.output.read_text()
            checkout.pause()

        assert after["worker"] == before["worker"]


def _restarted(checkout: Checkout, before: dict[str, int]) -> dict[str, int]:
    """The new pids, once all the killed ones have changed and the web serves again."""
    with contextlib.suppress(OSError, IndexError):
        after = checkout.server_pids()
        has_changed = all(after[name] != before[name] for name in ("postgres", "valkey", "web"))
        if has_changed and checkout.answers():
            return after
    return {}
