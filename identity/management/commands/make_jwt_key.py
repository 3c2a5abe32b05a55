"""`manage.py make_jwt_key`: a new key for JWT_KEYS."""

import secrets
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

_SEED_BYTES = 32


class Command(BaseCommand):
    help = "Print a new signing key of access tokens. It goes first in JWT_KEYS, before the others."

    def handle(self, *args: Any, **options: Any) -> None:
        kid = f"{timezone.now():%Y-%m-%d}-{secrets.token_hex(2)}"
        self.stdout.write(f"{kid}:{secrets.token_urlsafe(_SEED_BYTES)}")
