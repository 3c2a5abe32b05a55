"""`manage.py addstatictoken` of django-otp gives a recovery code that nobody hears of; not here."""

from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Refused: an admin resets a second factor in the back office, which is on record."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ignored", nargs="*")

    def handle(self, *args: Any, **options: Any) -> NoReturn:
        raise CommandError(
            "Reset the second factor in the back office; recovery codes come with it."
        )
