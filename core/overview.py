"""All about jobs at one look, for `manage.py jobs` and /metrics: due, running, late, dead."""

import datetime as dt
from dataclasses import dataclass

import redis
from django.conf import settings

from core.due import due_counts
from core.models import DeadLetter, JobRun
from core.schedule import Line, beat_pid, lines

RUNNING_SHOWN_MAX = 50
COUNTED_MAX = 10_000
# Celery's own name for the one queue there is.
QUEUES = ("celery",)
_REDIS_TIMEOUT_S = 2


@dataclass(frozen=True, slots=True)
class Overview:
    now: dt.datetime
    lines: list[Line]
    running: list[JobRun]
    # Counts stop at COUNTED_MAX.
    waiting: int
    stuck: int
    dead: int
    due: dict[str, int]
    # By queue; None: Redis does not answer.
    queued: dict[str, int] | None
    has_beat: bool

    @property
    def late(self) -> list[Line]:
        return [each for each in self.lines if each.is_late(self.now)]

    @property
    def is_well(self) -> bool:
        return self.has_beat and not (self.late or self.stuck or self.dead)


def overview(*, now: dt.datetime, asks_redis: bool = True) -> Overview:
    running = JobRun.objects.filter(status=JobRun.Status.RUNNING)
    letters = DeadLetter.objects.filter(status=DeadLetter.Status.WAITING)
    return Overview(
        now=now,
        lines=lines(),
        running=list(running.order_by("started_at")[:RUNNING_SHOWN_MAX]),
        waiting=JobRun.objects.filter(next_attempt_at__isnull=False)[:COUNTED_MAX].count(),
        stuck=running.filter(stuck_at__isnull=False)[:COUNTED_MAX].count(),
        dead=letters[:COUNTED_MAX].count(),
        due=due_counts(now=now),
        queued=_queued() if asks_redis else None,
        has_beat=beat_pid() is not None,
    )


def _queued() -> dict[str, int] | None:
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
        ) as client:
            return {name: int(client.llen(name)) for name in QUEUES}
    except redis.RedisError:
        return None
