"""
What a worker does when Celery gives up.

When Redis goes away under a message that is not acknowledged yet, Celery 5.7 stumbles over its own
clean-up ("Unrecoverable error": kombu's transport has lost its connection) and ends, but not before
every task in its processes has: a long one keeps a worker that takes nothing for an hour. Ours ends
after GRACE_S; whoever started it starts another. What does not end by itself in that time is cut,
and begun again like anything whose worker has gone.
"""

import os
import threading
from typing import Any

import structlog
from celery import bootsteps
from celery.platforms import EX_FAILURE

logger = structlog.get_logger(__name__)

GRACE_S = 10.0


class EndAfterFailure(bootsteps.StartStopStep):
    def close(self, parent: Any) -> None:
        """Called first of all when the worker stops, for whatever reason."""
        if parent.exitcode != EX_FAILURE:
            return
        logger.critical("worker ends", why="Celery cannot go on", grace_s=GRACE_S)
        timer = threading.Timer(GRACE_S, os._exit, [EX_FAILURE])
        timer.daemon = True
        timer.start()
