"""`manage.py show_permissions`: who may do what, as docs/permissions.md has it."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.permissions import table

_BEGIN = "<!-- manage.py show_permissions --write -->\n"


class Command(BaseCommand):
    help = "Print the table of permissions."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--write", action="store_true", help="put it into docs/permissions.md")
        parser.add_argument("--check", action="store_true", help="fail if the file has another")

    def handle(self, *args: Any, **options: Any) -> None:
        page = settings.BASE_DIR / "docs" / "permissions.md"
        if not (options["write"] or options["check"]):
            self.stdout.write(table(), ending="")
            return
        text = page.read_text(encoding="utf-8")
        head, mark, _ = text.partition(_BEGIN)
        wanted = head + mark + table()
        if options["write"]:
            page.write_text(wanted, encoding="utf-8")
        elif text != wanted:
            raise CommandError(f"{page.name} is not what `show_permissions --write` writes.")
