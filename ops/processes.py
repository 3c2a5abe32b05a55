"""Starting, ending and recognising processes. Knows nothing of what they are for."""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from ops.layout import ROOT

_LAUNCHER = Path(__file__).with_name("launch.py")
_PROC = Path("/proc")


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    account: pwd.struct_passwd | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that the terminal's Ctrl-C does not reach it.

    When this process dies, even by kill -9, the kernel sends the program `death_signal`. (Only
    when called on the main thread: Linux ties that signal to the thread that started the
    program.) With an `account` the program gives up root for it. Output goes to the end of `log`.
    """
    on_main_thread = threading.current_thread() is threading.main_thread()
    launcher = [
        *(sys.executable, "-I", "-S", str(_LAUNCHER)),
        str(os.getpid()),
        str(int(death_signal) if on_main_thread else 0),
        f"{account.pw_uid}:{account.pw_gid}" if account else "",
    ]
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else None
        return subprocess.Popen(
            [*launcher, *(str(part) for part in command)],
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )


def end(
    process: subprocess.Popen[bytes],
    *,
    wanted: signal.Signals = signal.SIGTERM,
    patience_s: float = 20.0,
) -> None:
    """Ask the process to end, wait, then kill what is left of its session's process group."""
    if process.poll() is None:
        process.send_signal(wanted)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    kill_group(process.pid)
    process.wait()


def kill_group(pid: int) -> None:
    """SIGKILL to the process group that a spawned process leads, if any of it is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def start_time(pid: int) -> int | None:
    """When a process started, in ticks since boot; None if there is none (a zombie is none).

    With the pid it names a process for good: pids are used again, these pairs are not.
    """
    fields = _stat(pid)
    if not fields or fields[0] == "Z":
        return None
    return int(fields[19])


def in_group(pid: int) -> list[int]:
    """The living processes of the process group that `pid` leads or led."""
    return [other for other in _all_pids() if _group_of(other) == pid and is_alive(other)]


def at_work_in(directory: Path) -> list[int]:
    """The living processes that have this working directory, or name it as an argument.

    Both, because a container's root may not look at the working directory of others.
    """
    wanted = str(directory).encode()
    found = []
    for pid in _all_pids():
        process = _PROC / str(pid)
        names_it = stays_there = False
        with contextlib.suppress(OSError):
            names_it = wanted in (process / "cmdline").read_bytes().split(b"\0")
            stays_there = (process / "cwd").readlink() == directory
        if (names_it or stays_there) and is_alive(pid):
            found.append(pid)
    return found


def has_variable(pid: int, name: str, value: str) -> bool:
    """Whether a process was started with this environment variable."""
    try:
        variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{name}={value}".encode() in variables


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie. Without /proc: whether it exists."""
    if _PROC.joinpath("self").exists():
        return start_time(pid) is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def wait_until_gone(pids: Sequence[int], *, timeout_s: float) -> list[int]:
    """Wait for processes that are not our children; returns those still alive."""
    deadline = time.monotonic() + timeout_s
    left = list(pids)
    while left := [pid for pid in left if is_alive(pid)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return left


def run_in_foreground(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a command that keeps the terminal; a signal to us ends it, and we wait for it.

    Ctrl-C reaches the command by itself, for it shares our terminal; it decides how to end.
    """
    with subprocess.Popen(command, cwd=ROOT, env=env) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                if not sys.stdin or not sys.stdin.isatty():
                    process.send_signal(signal.SIGINT)
            except SystemExit:
                process.terminate()


@contextlib.contextmanager
def unwinding_when_told_to_end() -> Iterator[None]:
    """SIGTERM and SIGHUP leave every `with` block on their way out, so that servers stop."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    wanted = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, leave) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _all_pids() -> list[int]:
    if not _PROC.joinpath("self").exists():
        return []
    return [int(entry) for entry in os.listdir(_PROC) if entry.isdecimal()]


def _group_of(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[2]) if fields else None


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on: the name before may hold anything."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
