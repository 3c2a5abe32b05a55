"""`manage.py rotate_encryption_key`: secrets at rest, under the first of ENCRYPTION_KEYS."""

from typing import Any

from django.core.management.base import BaseCommand

from payments import services


class Command(BaseCommand):
    help = "Encrypt all gateway credentials anew; after it, older keys may go."

    def handle(self, *args: Any, **options: Any) -> None:
        done = services.encrypt_all_anew()
        self.stdout.write(f"{done} gateways are under the first key of ENCRYPTION_KEYS.")
