"""`manage.py createsuperuser`: the first person, and the tenant they belong to. By our services."""

import getpass
import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from core.errors import DomainError
from core.permissions import Role
from identity.models import Tenant
from identity.services import create_tenant, create_user

_VARIABLE = "DJANGO_SUPERUSER_PASSWORD"


class Command(BaseCommand):
    help = f"Create a superuser. The password is asked for, or taken from {_VARIABLE}."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", required=True, help="its name; made if there is none")
        parser.add_argument("--email", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        password = os.environ.get(_VARIABLE) or getpass.getpass()
        now = timezone.now()
        try:
            with transaction.atomic():
                tenant = Tenant.objects.filter(name=options["tenant"]).first()
                tenant = tenant or create_tenant(name=options["tenant"], now=now)
                create_user(
                    tenant_id=tenant.pk,
                    email=options["email"],
                    password=password,
                    role=Role.ADMIN,
                    is_superuser=True,
                    now=now,
                )
        except DomainError as refusal:
            raise CommandError(refusal.detail) from refusal
        self.stdout.write(f"{options['email']} may sign in at /admin/.")
