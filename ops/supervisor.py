"""Keeps a set of processes running until it is told to stop, and ends them in order."""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from ops import processes
from ops.console import Failure, say
from ops.layout import ROOT
from ops.roster import MARK, Roster
from ops.servers import Server

STOP_PATIENCE_S = 20.0
_CRASHES_MAX = 5
_CRASH_WINDOW_S = 60.0
_BACKOFF_S = (0.0, 0.5, 1.0, 2.0)
_POLL_S = 0.5
_QUIET_WAIT_S = 1.5
_LAST_WORDS_LINES = 15


class StopRequested(Exception):
    """Ctrl-C, SIGTERM or SIGHUP: the wished end, not a failure."""


class Signals:
    """Turns signals into an exception at safe moments: when the program waits.

    Raised by a handler, it could strike between starting a process and noting that it runs.
    """

    def __init__(self) -> None:
        self._name = ""
        self._reader, writer = os.pipe()
        for end in (self._reader, writer):
            os.set_blocking(end, False)
        # Python writes a byte there for every signal: it wakes `pause` with no race.
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # `nohup make run &` wants to outlive its terminal.
            if wanted is signal.SIGINT or signal.getsignal(wanted) is not signal.SIG_IGN:
                signal.signal(wanted, self._note)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def pause(self, seconds: float) -> None:
        """Wait that long, or until a signal comes or a child ends; raises StopRequested."""
        if not self._name:
            select.select([self._reader], [], [], max(seconds, 0))
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        if self._name:
            raise StopRequested(self._name)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._name = self._name or signal.Signals(number).name


class Crashes:
    """How often a process has ended by itself of late, and how long to wait before the next try."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_CRASHES_MAX)

    def count(self, now: float) -> None:
        """One more."""
        self._times.append(now)

    def are_too_many(self, now: float) -> bool:
        """Whether trying again is pointless."""
        return len(self._times) == _CRASHES_MAX and now - self._times[0] < _CRASH_WINDOW_S

    def delay_s(self, now: float) -> float:
        """How long to wait: longer with each recent crash."""
        recent = sum(now - at < _CRASH_WINDOW_S for at in self._times)
        return _BACKOFF_S[min(recent, len(_BACKOFF_S)) - 1]


class Service:
    """A process of Florin: web, worker or beat."""

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command
        self._env = env

    def starting(self) -> Iterator[None]:
        """As `Server.starting`; there is nothing to wait for."""
        if self.process is not None:
            # Workers of a killed web server would keep its port.
            processes.kill_group(self.process.pid)
        self.process = processes.spawn(self._command, env=self._env, log=self.log, cwd=ROOT)
        yield from ()

    def has_ended(self) -> bool:
        """Whether it was started and is gone."""
        return self.process is not None and self.process.poll() is not None


@dataclass
class _Watched:
    process: Server | Service
    crashes: Crashes = field(default_factory=Crashes)
    start_again_at: float | None = None


class Supervisor:
    """Starts servers and services, restarts those that end by themselves, stops them all."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._roster = Roster()
        self._watched: list[_Watched] = []
        self.mark = {MARK: self._roster.run}

    def start(self, started: Server | Service) -> None:
        """Start it, wait until it answers if it is a server, and keep it running from now on."""
        self._watched.append(_Watched(started))
        self._begin(started)

    def run_to_end(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path
    ) -> None:
        """Run a program that ends by itself; a Failure with its last words if it fails."""
        start = log.stat().st_size if log.exists() else 0
        process = processes.spawn(command, env={**env, **self.mark}, log=log, cwd=ROOT)
        self._roster.add(name, process)
        try:
            while process.poll() is None:
                self._signals.pause(_POLL_S)
        finally:
            processes.end(process, patience_s=5)
        if process.returncode:
            raise Failure(f"{name} failed. It said:\n{last_words(log, start)}")

    def watch_until(self, is_reached: Callable[[], bool], *, timeout_s: float) -> bool:
        """Keep everything running until something holds; False when it takes too long."""
        deadline = time.monotonic() + timeout_s
        while not is_reached():
            if time.monotonic() > deadline:
                return False
            self._tend()
            self._signals.pause(0.05)
        return True

    def watch(self) -> None:
        """Keep everything running until a signal comes, which raises StopRequested."""
        while True:
            self._tend()
            self._signals.pause(_POLL_S)

    def stop(self) -> None:
        """End everything: first what uses the servers, all at once, then the servers."""
        deadline = time.monotonic() + STOP_PATIENCE_S
        services = [it.process for it in self._watched if isinstance(it.process, Service)]
        for service in services:
            if service.process and service.process.poll() is None:
                service.process.terminate()
        for service in services:
            if service.process:
                _await_or_kill(service.name, service.process, deadline)
        for server in (it.process for it in self._watched if isinstance(it.process, Server)):
            server.stop()
        self._roster.close()

    def _begin(self, started: Server | Service) -> None:
        for _ in started.starting():
            self._signals.pause(0.01)
        # PostgreSQL has a record of its own: the lock file in its data directory.
        if started.process and started.name != "postgres":
            self._roster.add(started.name, started.process)

    def _tend(self) -> None:
        for it in self._watched:
            now = time.monotonic()
            if it.start_again_at is None and it.process.has_ended():
                it.crashes.count(now)
                self._explain_end(it, now)
                it.start_again_at = now + it.crashes.delay_s(now)
            if it.start_again_at is not None and now >= it.start_again_at:
                it.start_again_at = None
                self._begin(it.process)

    def _explain_end(self, it: _Watched, now: float) -> None:
        name, log = it.process.name, it.process.log
        process = it.process.process
        code = process.returncode if process else None
        how = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
        if it.crashes.are_too_many(now):
            raise Failure(
                f"{name} ended {_CRASHES_MAX} times within {_CRASH_WINDOW_S:.0f} s ({how}); "
                f"stopping everything. The end of {log}:\n{last_words(log)}"
            )
        say(f"{name} ended by itself ({how}, see {log}); starting it again")


def last_words(log: Path, start: int = 0) -> str:
    """The last lines of a log, from a position on."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - 8192))
        lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-_LAST_WORDS_LINES:])
    return ""


def _await_or_kill(name: str, process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(_QUIET_WAIT_S)
    except subprocess.TimeoutExpired:
        say(f"{name} is finishing its work")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(deadline - time.monotonic(), 0.1))
    processes.kill_group(process.pid)
    process.wait()
