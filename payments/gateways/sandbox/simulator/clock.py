"""The simulator's own time: it passes like the real one, and can be moved on at will."""

import datetime as dt
import time

WIB = dt.timezone(dt.timedelta(hours=7), "WIB")


class Clock:
    """Seconds since 1970. Not safe between threads: the state's lock guards it."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        self._moment: float | None = None

    def now(self) -> float:
        """The present, or the moment at which what runs now was due."""
        if self._moment is not None:
            return self._moment
        return time.time() + self.offset_s

    def advance(self, seconds: float) -> None:
        """Move on; time never goes back."""
        self.offset_s += max(0.0, seconds)

    def stand_at(self, moment: float | None) -> None:
        """Let `now` be a moment that has passed; None: it runs again."""
        self._moment = moment


def rfc3339(moment: float | None) -> str | None:
    """2026-11-20T06:40:26.353Z."""
    if moment is None:
        return None
    text = dt.datetime.fromtimestamp(moment, dt.UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def from_rfc3339(text: str) -> float:
    """
    Seconds since 1970.

    :raises ValueError: not a time, or one without an offset
    """
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs an offset")
    return moment.timestamp()


def wib(moment: float) -> str:
    """As Midtrans writes times: Jakarta's, without saying so."""
    return dt.datetime.fromtimestamp(moment, WIB).strftime("%Y-%m-%d %H:%M:%S")
