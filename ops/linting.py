"""`make lint`: every check runs, also after one has failed."""

import os
import subprocess
import sys
import time
from pathlib import Path

from ops.console import say
from ops.layout import ROOT

_PROGRAMS = Path(sys.executable).parent
_MANAGE = (sys.executable, "manage.py")
_CHECKS: dict[str, tuple[str, ...]] = {
    "ruff check": (str(_PROGRAMS / "ruff"), "check", "--quiet", "."),
    "ruff format": (str(_PROGRAMS / "ruff"), "format", "--check", "--quiet", "."),
    "mypy": (sys.executable, "-m", "mypy", "."),
    "lint-imports": (str(_PROGRAMS / "lint-imports"), "--no-logo"),
    "migrations": (*_MANAGE, "makemigrations", "--check", "--dry-run"),
    "permissions": (*_MANAGE, "show_permissions", "--check"),
    "OpenAPI": (*_MANAGE, "spectacular", "--validate", "--fail-on-warn", "--file", os.devnull),
}


def check_everything() -> int:
    """Run the checks, showing the output of those that fail; returns 1 if any did."""
    env = {**os.environ, "FLORIN_IGNORE_LOCAL_ENV": "1", "DATABASE_POOL_TIMEOUT_S": "0.1"}
    failed = [name for name, command in _CHECKS.items() if not _passes(name, command, env)]
    if failed:
        say("failed: " + ", ".join(failed))
        return 1
    say("all checks have passed")
    return 0


def _passes(name: str, command: tuple[str, ...], env: dict[str, str]) -> bool:
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    verdict = "FAILED" if done.returncode else "passed"
    say(f"{name} {verdict} in {time.monotonic() - began:.1f} s")
    if done.returncode:
        print(done.stdout, flush=True)
    return not done.returncode
