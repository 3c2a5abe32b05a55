"""`manage.py make_encryption_key`: a new key for ENCRYPTION_KEYS."""

from typing import Any

from django.core.management.base import BaseCommand

from core.encryption import new_key


class Command(BaseCommand):
    help = "Print a new key of secrets at rest. It goes first in ENCRYPTION_KEYS."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(new_key())
