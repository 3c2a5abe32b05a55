"""The tenant that an operator names on the command line."""

from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from identity.models import Tenant


def add_tenant_argument(parser: CommandParser) -> None:
    parser.add_argument("--tenant", help="id or name of the one tenant to look at")


def named_tenant_id(text: str | None) -> UUID | None:
    """
    Return the tenant's id; None: all of them.

    :raises CommandError: nobody is named so, or several are
    """
    if text is None:
        return None
    try:
        found = Tenant.objects.filter(pk=UUID(text))
    except ValueError:
        found = Tenant.objects.filter(name=text)
    ids = list(found.values_list("pk", flat=True)[:2])
    if not ids:
        raise CommandError(f"There is no tenant {text}.")
    if len(ids) > 1:
        raise CommandError(f"More than one tenant is named {text}; state its id.")
    return ids[0]
