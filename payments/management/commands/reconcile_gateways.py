"""`manage.py reconcile_gateways`: hold the gateways' books against ours, now."""

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand
from django.utils import timezone

from payments import services


class Command(BaseCommand):
    help = "Compare payments and payouts with their gateways; print what differs."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--tenant", type=UUID)

    def handle(self, *args: Any, **options: Any) -> None:
        done = services.reconcile(now=timezone.now(), tenant_id=options["tenant"])
        self.stdout.write(
            f"{done.payments} payments and {done.payouts} payouts compared,"
            f" {done.unanswered} without an answer, {done.found} new differences."
        )
