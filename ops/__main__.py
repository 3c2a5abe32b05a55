"""The commands behind the Makefile:

    python -m ops [--no-setup] setup | run | stop | test | lint | bench | demo | clean | exec

--no-setup leaves .venv alone and uses the Python that runs this as it is.
"""

import os
import sys


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - PYTHON= may name any
        print("Florin needs Python 3.11 or newer; this is " + sys.version.split()[0] + ".")
        return 1
    # Only now: the rest of the package is written for that Python.
    from ops import commands
    from ops.layout import ROOT

    os.chdir(str(ROOT))
    return commands.run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
