"""`manage.py dead_letters`: list, show, replay, discard what was given up. See docs/jobs.md."""

import json
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet
from django.utils import timezone

from core.caller import Caller, calling
from core.dead_letters import discard_letter, replay_letter
from core.errors import DomainError
from core.models import DeadLetter

LISTED_MAX = 100


class Command(BaseCommand):
    help = "Look at work that was given up; replay it, or discard it with a reason."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True)
        listing = acts.add_parser("list", help="those that wait, oldest first")
        listing.add_argument("--all", action="store_true", help="decided ones too, newest first")
        listing.add_argument("--task", default="", help="of this task only")
        listing.add_argument("--json", action="store_true", help="one JSON document on stdout")
        showing = acts.add_parser("show", help="one, with its traceback")
        showing.add_argument("id", type=UUID)
        for act in ("replay", "discard"):
            acting = acts.add_parser(act, help=f"{act} one, or many")
            acting.add_argument("id", type=UUID, nargs="?")
            acting.add_argument("--all", action="store_true", help="all that wait")
            acting.add_argument("--task", default="", help="with --all: of this task only")
            if act == "discard":
                acting.add_argument("--reason", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        acts = {
            "list": self._list,
            "show": self._show,
            "replay": self._replay,
            "discard": self._discard,
        }
        with calling(Caller("command:dead_letters")):
            acts[options["act"]](options)

    def _list(self, options: dict[str, Any]) -> None:
        letters = _of(options["task"])
        letters = letters.order_by("-pk") if options["all"] else _waiting(letters)
        rows = [_shown(letter) for letter in letters.defer("traceback")[:LISTED_MAX]]
        if options["json"]:
            self.stdout.write(json.dumps(rows, indent=2))
            return
        if not rows:
            self.stdout.write("There is none.")
        for row in rows:
            self.stdout.write(
                f"{row['id']}  {row['status']:<9}  {row['task']}  {row['failures']} failures,"
                f" last {row['last_failed_at'][:16]}  {row['error'][:80]}"
            )

    def _show(self, options: dict[str, Any]) -> None:
        letter = DeadLetter.objects.filter(pk=options["id"]).first()
        if letter is None:
            raise CommandError("No such dead letter.")
        for name, value in _shown(letter).items():
            self.stdout.write(f"{name:<16} {value}")
        self.stdout.write(f"\n{letter.traceback}")

    def _replay(self, options: dict[str, Any]) -> None:
        done, refused = 0, 0
        for letter_id in _chosen(options):
            try:
                task_id = replay_letter(letter_id=letter_id, now=timezone.now())
            except DomainError as refusal:
                refused += 1
                self.stderr.write(f"{letter_id}: {refusal.detail}")
            else:
                done += 1
                self.stdout.write(f"{letter_id} runs again as {task_id}")
        self._conclude("replayed", done, refused)

    def _discard(self, options: dict[str, Any]) -> None:
        done, refused = 0, 0
        for letter_id in _chosen(options):
            try:
                discard_letter(letter_id=letter_id, reason=options["reason"], now=timezone.now())
            except DomainError as refusal:
                refused += 1
                self.stderr.write(f"{letter_id}: {refusal.detail}")
            else:
                done += 1
        self._conclude("discarded", done, refused)

    def _conclude(self, what: str, done: int, refused: int) -> None:
        self.stdout.write(f"{done} {what}.")
        if refused:
            raise CommandError(f"{refused} not {what}.")


def _of(task: str) -> QuerySet[DeadLetter]:
    letters = DeadLetter.objects.all()
    return letters.filter(task=task) if task else letters


def _waiting(letters: QuerySet[DeadLetter]) -> QuerySet[DeadLetter]:
    return letters.filter(status=DeadLetter.Status.WAITING).order_by("pk")


def _chosen(options: dict[str, Any]) -> list[UUID]:
    if (options["id"] is None) != options["all"]:
        raise CommandError("Give an id, or --all.")
    if options["id"] is not None:
        return [options["id"]]
    return list(_waiting(_of(options["task"])).values_list("pk", flat=True))


def _shown(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": str(letter.pk),
        "status": letter.status,
        "task": letter.task,
        "arguments": letter.arguments,
        "is_replayable": letter.is_replayable,
        "error": f"{letter.error_class}: {letter.error_message}",
        "failures": letter.failures,
        "first_failed_at": letter.first_failed_at.isoformat(),
        "last_failed_at": letter.last_failed_at.isoformat(),
        "tenant_id": letter.tenant_id and str(letter.tenant_id),
        "decided_by": letter.decided_by,
        "reason": letter.reason,
    }
