"""`make test`: pytest against servers that exist for the time of the run."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator, Sequence

from ops.console import say
from ops.processes import run_in_foreground, unwinding_when_told_to_end
from ops.servers import Postgres, Valkey, scratch_directory


def run_tests(arguments: Sequence[str]) -> int:
    """
    Run pytest on two processes for each core, each with a database of its own; returns its exit
    code. Tests wait for servers about as long as they work.
    """
    processes = str(2 * (os.cpu_count() or 1))
    # In small portions: the long ones, which come first, are for all.
    spread = ["-n", processes, "--maxschedchunk", "4"]
    with test_environment() as env:
        return run_in_foreground(
            [sys.executable, "-m", "pytest", *spread, *arguments], {**os.environ, **env}
        )


@contextlib.contextmanager
def test_environment() -> Iterator[dict[str, str]]:
    """The variables that tests need; servers are started unless the environment names some."""
    env = {
        "FLORIN_IGNORE_LOCAL_ENV": "1",
        "FLORIN_MODE": "development",
        "SECRET_KEY": secrets.token_urlsafe(64),
        "API_KEY_PEPPER": secrets.token_urlsafe(64),
        "JWT_KEYS": f"test:{secrets.token_urlsafe(32)}",
    }
    with contextlib.ExitStack() as stack:
        wanted = {
            name: server
            for name, server in (("DATABASE_URL", Postgres), ("REDIS_URL", Valkey))
            if name not in os.environ
        }
        if wanted:
            stack.enter_context(unwinding_when_told_to_end())
            place = stack.enter_context(scratch_directory())
            for name, server in wanted.items():
                env[name] = stack.enter_context(server(place, durable=False)).url
            say("test servers are up")
        yield env
