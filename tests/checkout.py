"""A copy of the checkout in which `make run` runs, for tests that kill what a user would run."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from ops import processes
from ops.files import read_variables
from ops.layout import ROOT
from ops.servers import free_port, scratch_directory

START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 120
_NOT_COPIED = shutil.ignore_patterns(".venv", ".local", ".git", "__pycache__", ".*_cache")
# The copy brings its own servers and secrets; those of this test run are not for it.
_NOT_INHERITED = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "API_KEY_PEPPER", "JWT_KEYS")


class Checkout:
    """A copy of the checkout, and the Florin that runs in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.local = root / ".local"
        self.port = free_port()
        self.sandbox_port = free_port()
        self.output = root / "output.txt"

    def launch(self) -> subprocess.Popen[bytes]:
        """`make run`, without looking for changed requirements."""
        env = {
            name: value
            for name, value in os.environ.items()
            if name not in _NOT_INHERITED and not name.startswith("FLORIN_")
        }
        self.output.unlink(missing_ok=True)
        return processes.spawn(
            [sys.executable, "-m", "ops", "--no-setup", "run"],
            # Tests call more often in a minute than anybody may.
            env={
                **env,
                "PORT": str(self.port),
                "SANDBOX_PORT": str(self.sandbox_port),
                "RATE_LIMIT": "0",
            },
            cwd=self.root,
            log=self.output,
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Florin, ready to serve; ended at the end if the test has not done so."""
        run = self.launch()
        try:
            self.wait_until_ready(run)
            yield run
        finally:
            processes.end(run, patience_s=STOP_TIMEOUT_S)

    def refusal(self) -> tuple[int, str]:
        """The exit code and the words of a start that is refused."""
        run = self.launch()
        run.wait(STOP_TIMEOUT_S)
        return run.returncode, self.output.read_text()

    def wait_until_ready(self, run: subprocess.Popen[bytes]) -> None:
        """The box is the last thing that a start prints."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while "Ctrl-C stops everything" not in self.output.read_text():
            assert run.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            self.pause()

    def answers(self) -> bool:
        """Whether the web server reaches its database."""
        url = f"http://127.0.0.1:{self.port}/health/ready"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
        return False

    def server_pids(self) -> dict[str, int]:
        """By name: the processes that the supervisor started."""
        record = json.loads((self.local / "processes.json").read_text())
        pids = {name: entry["pid"] for name, entry in record["processes"].items()}
        postmaster = (self.local / "postgres" / "data" / "postmaster.pid").read_text().split()[0]
        return {**pids, "postgres": int(postmaster)}

    def everything_alive(self) -> list[int]:
        """Whatever runs here: the supervisor, what it started, and what those started."""
        groups = [
            pid for leader in self.server_pids().values() for pid in processes.in_group(leader)
        ]
        backends = processes.at_work_in(self.local / "postgres" / "data")
        return sorted({*groups, *backends})

    def database(self) -> psycopg.Connection[Any]:
        """A connection to the copy's own database."""
        url = read_variables(self.local / "env")["DATABASE_URL"]
        return psycopg.connect(url, autocommit=True)

    @staticmethod
    def pause() -> None:
        """Between two looks at another process, of which none tells us when it changes."""
        time.sleep(0.05)


@contextlib.contextmanager
def fresh_checkout() -> Iterator[Checkout]:
    with scratch_directory(in_memory=False) as place:
        root = place / "checkout"
        shutil.copytree(ROOT, root, ignore=_NOT_COPIED)
        yield Checkout(root)
