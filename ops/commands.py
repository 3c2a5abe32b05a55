"""The commands of `python -m ops`: what each needs installed, and whom it calls.

Modules are imported when their command runs: `make help` or a refused start should cost nothing.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ops.bootstrap import DEVELOPMENT, RUN, ensure_installed
from ops.console import Failure, say
from ops.layout import VENV, VENV_PYTHON


@dataclass(frozen=True)
class Command:
    """A command's work, and what it needs in .venv; None if it needs none."""

    work: Callable[[Sequence[str]], int]
    needs: str | None = None
    # Asked before anything is installed: raises a Failure if the work would be refused anyway.
    refuse: Callable[[], None] | None = None


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says; returns the exit code."""
    without_setup = list(arguments[:1]) == ["--no-setup"]
    name, *rest = arguments[without_setup:] or [""]
    if rest[:1] == ["--"]:
        del rest[0]
    command = COMMANDS.get(name)
    if command is None:
        print("The commands are " + ", ".join(COMMANDS) + ".", file=sys.stderr)
        return 2
    try:
        if command.needs and not without_setup:
            if command.refuse:
                command.refuse()
            ensure_installed(command.needs)
            if not _is_in_venv():
                _continue_in_venv(arguments)
        return command.work(rest)
    except Failure as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        return 130


def _is_in_venv() -> bool:
    return os.path.realpath(sys.prefix) == os.path.realpath(VENV)


def _continue_in_venv(arguments: Sequence[str]) -> None:
    os.execv(VENV_PYTHON, [str(VENV_PYTHON), "-m", "ops", "--no-setup", *arguments])


def _setup(_arguments: Sequence[str]) -> int:
    say("ready: `make run` starts Florin, `make test` tests it")
    return 0


def _refuse_hopeless_start() -> None:
    from ops.running import refuse_hopeless_start

    refuse_hopeless_start()


def _run(_arguments: Sequence[str]) -> int:
    from ops.running import run_florin

    return run_florin()


def _stop(_arguments: Sequence[str]) -> int:
    from ops.running import stop_florin

    return stop_florin()


def _exec(arguments: Sequence[str]) -> int:
    from ops.running import run_with_servers

    return run_with_servers(arguments)


def _demo(arguments: Sequence[str]) -> int:
    from ops.running import play_demo

    return play_demo(arguments)


def _test(arguments: Sequence[str]) -> int:
    from ops.testing import run_tests

    return run_tests(arguments)


def _lint(_arguments: Sequence[str]) -> int:
    from ops.linting import check_everything

    return check_everything()


def _bench(arguments: Sequence[str]) -> int:
    from ops.processes import run_in_foreground

    return run_in_foreground([sys.executable, "-m", "benchmarks", *arguments], os.environ)


def _clean(_arguments: Sequence[str]) -> int:
    from ops.cleaning import remove_everything

    return remove_everything()


COMMANDS = {
    "setup": Command(_setup, needs=DEVELOPMENT),
    "run": Command(_run, needs=RUN, refuse=_refuse_hopeless_start),
    "stop": Command(_stop),
    "exec": Command(_exec, needs=RUN),
    "demo": Command(_demo, needs=RUN),
    "test": Command(_test, needs=DEVELOPMENT),
    "lint": Command(_lint, needs=DEVELOPMENT),
    "bench": Command(_bench, needs=DEVELOPMENT),
    "clean": Command(_clean),
}
