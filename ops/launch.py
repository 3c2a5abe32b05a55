"""Becomes another program, after arranging that it does not outlive the process that started it.

    python -I -S launch.py PARENT_PID DEATH_SIGNAL UID:GID COMMAND [ARGUMENT ...]

A separate program because the work must happen between fork and exec, where a process with
threads must not run Python code (`subprocess`'s preexec_fn). UID:GID may be empty: stay who we are.
"""

import os
import shutil
import signal
import sys

try:
    import ctypes
except ImportError:  # A Python built without libffi: then without the safety net it is for.
    ctypes = None  # type: ignore[assignment]

_PR_SET_PDEATHSIG = 1


def become_account(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    # The checkout may lie where this account cannot go.
    os.chdir("/")


def die_with_parent(parent_pid: int, death_signal: int) -> None:
    """Linux: the kernel sends the signal when the parent dies, however it dies."""
    if not sys.platform.startswith("linux") or ctypes is None:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent_pid:  # It died before the request was made.
        os.kill(os.getpid(), death_signal)


def main(parent_pid: str, death_signal: str, account: str, *command: str) -> None:
    # Whoever started us may ignore or block signals (nohup, a shell's `&`); the program must not.
    for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(wanted, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    program = shutil.which(command[0]) or command[0]
    # From here on nothing may be imported: the account may not be allowed to read our Python.
    if account:
        uid, gid = account.split(":")
        become_account(int(uid), int(gid))
    # After setuid, which clears the request.
    die_with_parent(int(parent_pid), int(death_signal))
    os.execv(program, command)


if __name__ == "__main__":
    main(*sys.argv[1:])
