"""What a process of its own does in the tests; imports Django only when it is there."""

import os
from collections import Counter
from uuid import UUID

TRANSFERS = 1000


def shuttle(url: str, tenant_id: UUID, source: UUID, destination: UUID) -> Counter[str]:
    """In a process of its own: move 1 from source to destination, TRANSFERS times."""
    os.environ.update(DATABASE_URL=url, DJANGO_SETTINGS_MODULE="config.settings")
    import django

    django.setup()
    from core.errors import DomainError
    from core.money import Money
    from payments.services import Transfer, make_transfer

    outcomes: Counter[str] = Counter()
    for number in range(TRANSFERS):
        order = Transfer(source, destination, Money(1, "USD"), f"{source}-{number}")
        try:
            make_transfer(tenant_id=tenant_id, transfer=order)
            outcomes["posted"] += 1
        except DomainError as refusal:
            outcomes[refusal.code] += 1
    return outcomes
