"""`manage.py jobs`: what is due, running, late, stuck and dead. See docs/jobs.md."""

import datetime as dt
import io
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from core.models import JobRun
from core.overview import Overview, overview
from core.schedule import Line


class Command(BaseCommand):
    help = "Show the schedule, queues, runs, dead letters and what is due; works without Redis."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
        parser.add_argument(
            "--check", action="store_true", help="exit 1 if anything is late, stuck or dead"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        seen = overview(now=timezone.now())
        if options["json"]:
            self.stdout.write(json.dumps(_document(seen), indent=2))
        else:
            self._print(seen)
        if options["check"] and not seen.is_well:
            raise CommandError("Not all is well.", returncode=1)

    def _print(self, seen: Overview) -> None:
        text = io.StringIO()
        console = Console(file=text, width=120, highlight=False)
        table = Table(title="Schedule", title_justify="left")
        for name in ("task", "every", "last sent", "last success", "next due", "state"):
            table.add_column(name)
        for line in seen.lines:
            table.add_row(
                line.name,
                "" if line.every_s is None else f"{line.every_s} s",
                _ago(line.last_sent_at, seen.now),
                _ago(line.last_succeeded_at, seen.now),
                _in(line.next_due_at, seen.now),
                _state(line, seen.now),
            )
        console.print(table)
        if seen.running:
            table = Table(title="Running", title_justify="left")
            for name in ("task", "for", "progress", "last heartbeat", "worker", "state"):
                table.add_column(name)
            for run in seen.running:
                table.add_row(
                    run.task,
                    _ago(run.started_at, seen.now),
                    _progress(run),
                    _ago(run.heartbeat_at, seen.now),
                    run.worker,
                    "stuck" if run.stuck_at else "",
                )
            console.print(table)
        for name, count in seen.due.items():
            console.print(f"due: {count:>7,}  {name}")
        queued = seen.queued
        if queued is None:
            console.print("queues: Redis does not answer")
        else:
            console.print(*(f"queue {name}: {length:,}" for name, length in queued.items()))
        console.print(
            f"waiting: {seen.waiting:,}, running: {len(seen.running):,}, stuck: {seen.stuck:,},"
            f" late: {len(seen.late):,}, dead letters: {seen.dead:,}"
        )
        console.print("beat: active" if seen.has_beat else "beat: NONE IS ACTIVE")
        self.stdout.write(text.getvalue())


def _document(seen: Overview) -> dict[str, Any]:
    return {
        "at": seen.now.isoformat(),
        "is_well": seen.is_well,
        "has_beat": seen.has_beat,
        "schedule": [
            {
                "name": line.name,
                "task": line.task,
                "is_enabled": line.is_enabled,
                "every_s": line.every_s,
                "last_sent_at": _iso(line.last_sent_at),
                "last_succeeded_at": _iso(line.last_succeeded_at),
                "next_due_at": _iso(line.next_due_at),
                "failures_in_row": line.failures_in_row,
                "is_late": line.is_late(seen.now),
            }
            for line in seen.lines
        ],
        "running": [
            {
                "task": run.task,
                "task_id": run.task_id,
                "attempts": run.attempts,
                "started_at": _iso(run.started_at),
                "heartbeat_at": _iso(run.heartbeat_at),
                "done": run.done,
                "total": run.total,
                "worker": run.worker,
                "is_stuck": run.stuck_at is not None,
            }
            for run in seen.running
        ],
        "due": seen.due,
        "queues": seen.queued,
        "waiting": seen.waiting,
        "stuck": seen.stuck,
        "dead_letters": seen.dead,
    }


def _state(line: Line, now: dt.datetime) -> str:
    if not line.is_enabled:
        return "off"
    failing = f", failed {line.failures_in_row} times" if line.failures_in_row else ""
    return ("LATE" if line.is_late(now) else "on time") + failing


def _progress(run: JobRun) -> str:
    if run.done is None:
        return ""
    return f"{run.done:,}" if run.total is None else f"{run.done:,} of {run.total:,}"


def _iso(moment: dt.datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _ago(moment: dt.datetime | None, now: dt.datetime) -> str:
    return "never" if moment is None else f"{_length((now - moment).total_seconds())} ago"


def _in(moment: dt.datetime | None, now: dt.datetime) -> str:
    if moment is None:
        return ""
    seconds = (moment - now).total_seconds()
    return f"in {_length(seconds)}" if seconds > 0 else "now"


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
