"""What the person at the terminal reads."""

import contextlib
import os
import sys
import time
from pathlib import Path

_HERTZ = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """An expected reason to give up, told in one sentence; no traceback is shown."""


def say(line: str) -> None:
    """One line of progress, with the seconds since the command began."""
    print(f"[florin {elapsed_s():5.1f}s] {line}", file=sys.stderr, flush=True)


def elapsed_s() -> float:
    """Since the command began, the making of .venv included: that part is the same process."""
    with contextlib.suppress(OSError, AttributeError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / _HERTZ
    return time.process_time()


def show_box(lines: list[str]) -> None:
    """Lines in a frame, in plain characters where the terminal does not know others."""
    corners, across, down = ("╭╮╰╯", "─", "│") if _knows_frames() else ("++++", "-", "|")
    width = max(len(line) for line in lines) + 2
    print(corners[0] + across * width + corners[1])
    for line in lines:
        print(f"{down} {line.ljust(width - 1)}{down}")
    print(corners[2] + across * width + corners[3], flush=True)


def _knows_frames() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
