"""
Who makes a change, for the audit trail and the logs: set once at the door, read where the change is
written.

It takes no part in deciding what is allowed; that is the Principal's business.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from uuid import UUID

ACTOR_LENGTH_MAX = 64


@dataclass(frozen=True, slots=True)
class Caller:
    # "user:<id>", "key:<id>", "task:<name>", "command:<name>", or "anonymous" before sign-in.
    # Whoever makes one of a longer name cuts it to ACTOR_LENGTH_MAX.
    actor_id: str
    # The request's id, or the task's; empty for commands.
    request_id: str = ""
    # Where the request came from; None for what did not come over the network.
    address: str | None = None
    # Known once they have been authenticated; None too for what works for all tenants.
    tenant_id: UUID | None = None


SYSTEM = Caller("system")
_caller: ContextVar[Caller] = ContextVar("florin_caller", default=SYSTEM)


def current_caller() -> Caller:
    return _caller.get()


def name_actor(actor_id: str, tenant_id: UUID) -> None:
    """Put the name to a caller whose request is under way: they have just been authenticated."""
    _caller.set(replace(_caller.get(), actor_id=actor_id, tenant_id=tenant_id))


def begin_call(caller: Caller) -> None:
    """Say who is calling from here on, in this thread; for doors that have no block to wrap."""
    _caller.set(caller)


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Say who is calling within the block. Threads are used again: nothing is left behind."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)
