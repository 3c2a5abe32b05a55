"""
Beat, guarded: of several, one sends.

The active one holds an advisory lock on a PostgreSQL session of its own, and looks before each tick
whether that session lives. When it ends, for whatever reason, PostgreSQL lets go of the lock and a
stand-by has it within seconds. A beat that is frozen loses its session after IDLE_MAX_S.
"""

import copy
from typing import Any

import structlog
from django.db import Error as DatabaseFault
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

from core.schedule import BEAT_LOCK

logger = structlog.get_logger(__name__)

STAND_BY_S = 1.0
# Beat looks at its lock every five seconds at least.
IDLE_MAX_S = 20


class Entry(ModelEntry):  # type: ignore[misc]  # the package has no types
    def save(self) -> None:
        # Not the whole row: staff may be changing it.
        type(self.model)._default_manager.filter(pk=self.model.pk).update(
            last_run_at=self.model.last_run_at, total_run_count=self.model.total_run_count
        )


class GuardedScheduler(DatabaseScheduler):  # type: ignore[misc]  # the package has no types
    Entry = Entry

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lock = _Lock()
        self._is_active = False
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Read the table, and write nothing there: `migrate` has done so (core.schedule)."""
        self._schedule: dict[str, Entry] = {}

    def tick(self, *args: Any, **kwargs: Any) -> float:
        if not self._lock.is_held():
            if self._is_active:
                logger.warning("beat stands by", why="its lock is gone")
            self._is_active = False
            # What was sent meanwhile, another beat has written.
            self._dirty.clear()
            return STAND_BY_S
        if not self._is_active:
            logger.info("beat is active")
            self._is_active = True
            self._initial_read = True
            self._heap = None
        interval: float = super().tick(*args, **kwargs)
        return interval

    def sync(self) -> None:
        if self._is_active:
            super().sync()

    def close(self) -> None:
        super().close()
        self._lock.let_go()


class _Lock:
    """An advisory lock on a session that nothing else uses."""

    def __init__(self) -> None:
        self._session: BaseDatabaseWrapper | None = None

    def is_held(self) -> bool:
        """Take the lock, or see that it is still held; waits for nobody."""
        try:
            if self._session is None:
                return self._take()
            # A session that answers has kept its locks.
            with self._session.cursor() as cursor:
                cursor.execute("SELECT 1")
        except DatabaseFault as fault:
            logger.warning("beat has no lock", fault=type(fault).__name__)
            self.let_go()
            return False
        return True

    def let_go(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _take(self) -> bool:
        session = connection.copy()
        # The pool would hand the session to others, and end it when it is old.
        session.settings_dict = copy.deepcopy(session.settings_dict)
        session.settings_dict["OPTIONS"].pop("pool", None)
        try:
            with session.cursor() as cursor:
                cursor.execute(f"SET idle_session_timeout = '{IDLE_MAX_S}s'")
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [BEAT_LOCK])
                is_taken = bool(cursor.fetchone()[0])
        except DatabaseFault:
            session.close()
            raise
        if not is_taken:
            session.close()
            return False
        self._session = session
        return True
