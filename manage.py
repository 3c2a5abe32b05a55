#!/usr/bin/env python3
"""Django's command line. Also works with the system's Python, once `make run` has made .venv."""

import os
import sys
from pathlib import Path

VENV_PYTHON = Path(__file__).resolve().parent / ".venv" / "bin" / "python"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        if not VENV_PYTHON.exists() or Path(sys.prefix) == VENV_PYTHON.parent.parent:
            raise SystemExit("Django is not installed here: run `make setup` first.") from None
        os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])
    from core.caller import ACTOR_LENGTH_MAX, Caller, begin_call

    begin_call(Caller(f"command:{''.join(sys.argv[1:2])}"[:ACTOR_LENGTH_MAX]))
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
