"""The processes that a run has started, on record, so that the next start can end what is left
of a run that was killed."""

import contextlib
import json
import os
import signal
import subprocess
import uuid
from typing import Any

from ops import processes
from ops.console import say
from ops.files import replace
from ops.layout import LOCAL, ROOT
from ops.servers import clusters_of, end_postgres_in

_FILE = LOCAL / "processes.json"
_PATIENCE_S = 10.0
# In the environment of every process on the roster, and of all their children.
MARK = "FLORIN_RUN"


class Roster:
    """The record of this run. A pid alone proves nothing: pids are used again."""

    def __init__(self) -> None:
        self.run = uuid.uuid4().hex
        self._entries: dict[str, dict[str, Any]] = {}

    def add(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Put a process on record; it replaces the one that had this name."""
        started = processes.start_time(process.pid)
        self._entries[name] = {"pid": process.pid, "started": started}
        record = {"root": str(ROOT), "run": self.run, "processes": self._entries}
        replace(_FILE, json.dumps(record, indent=2), mode=0o600)

    def close(self) -> None:
        """All have ended in order: nothing is left to look for."""
        _FILE.unlink(missing_ok=True)


def end_leftovers() -> None:
    """End what a killed run left behind. The caller holds the checkout's lock."""
    try:
        record = json.loads(_FILE.read_text())
        if record["root"] == str(ROOT):  # Not a copy of another checkout's .local.
            for name, entry in record["processes"].items():
                _end_group(name, entry["pid"], entry["started"], record["run"])
    except (FileNotFoundError, ValueError, KeyError):
        pass
    # PostgreSQL keeps a record of its own: the lock file in its data directory.
    for data in clusters_of(LOCAL):
        end_postgres_in(data)
    _FILE.unlink(missing_ok=True)


def _end_group(name: str, pid: int, started: int | None, run: str) -> None:
    """End the process and those it started: they share its process group."""
    members = processes.in_group(pid)
    if pid in members and processes.start_time(pid) != started:
        return  # Another program has that pid now.
    if pid not in members:
        members = [member for member in members if processes.has_variable(member, MARK, run)]
    if not members:
        return
    say(f"ending {name}, left behind by a run that was killed (pid {members[0]})")
    _signal(members, signal.SIGTERM)
    _signal(processes.wait_until_gone(members, timeout_s=_PATIENCE_S), signal.SIGKILL)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
