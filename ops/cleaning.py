"""`make clean`: back to what is in the repository."""

import shutil

from ops.console import say
from ops.embedded import OUTSIDE
from ops.layout import LOCAL, ROOT, VENV
from ops.lock import only_copy
from ops.roster import end_leftovers

_CACHES = (".mypy_cache", ".ruff_cache", ".import_linter_cache", ".pytest_cache", ".hypothesis")


def remove_everything() -> int:
    """Remove .venv, .local with its data, and caches; refuses while a copy is running."""
    with only_copy():
        end_leftovers()
        for place in (VENV, OUTSIDE, *(ROOT / name for name in _CACHES), ROOT / "staticfiles"):
            shutil.rmtree(place, ignore_errors=True)
        for cache in ROOT.rglob("__pycache__"):
            shutil.rmtree(cache, ignore_errors=True)
        # Last, for the lock lies there.
        shutil.rmtree(LOCAL, ignore_errors=True)
    say("removed .venv, .local and caches")
    return 0
