"""`manage.py changepassword`: for whoever cannot get in otherwise. By our service, as on record."""

import getpass
import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from core.errors import DomainError
from identity.models import User
from identity.services import set_password

_VARIABLE = "FLORIN_NEW_PASSWORD"


class Command(BaseCommand):
    help = f"Set a user's password, which is asked for, or taken from {_VARIABLE}."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(email=options["email"].lower()).first()
        if user is None:
            raise CommandError("There is nobody with this address.")
        try:
            set_password(
                tenant_id=user.tenant_id,
                user_id=user.pk,
                password=os.environ.get(_VARIABLE) or getpass.getpass(),
                may_change_superusers=True,
                now=timezone.now(),
            )
        except DomainError as refusal:
            raise CommandError(refusal.detail) from refusal
        self.stdout.write("The password is set; every session has ended.")
