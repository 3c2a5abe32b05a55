"""Transfers as one writes them first: atomic, two locked rows, two saves, three creates."""

import time
from typing import Any
from uuid import UUID

from benchmarks.world import CURRENCY, random_pairs

_models: dict[str, Any] = {}


def models() -> dict[str, Any]:
    """Return models of the bare tables; Django must be set up first."""
    if _models:
        return _models
    from django.db import models as m

    class Table(m.Model):
        class Meta:
            abstract = True

    class Account(Table):
        id = m.UUIDField(primary_key=True)
        tenant_id = m.UUIDField()
        balance = m.BigIntegerField()
        entry_count = m.BigIntegerField()

        class Meta:
            app_label, managed, db_table = "benchmarks", False, '"bare"."account"'

    class Transaction(Table):
        id = m.UUIDField(primary_key=True)
        tenant_id = m.UUIDField()
        type = m.TextField()
        currency = m.TextField()
        amount = m.BigIntegerField()
        legs = m.SmallIntegerField()
        description = m.TextField()
        value_date = m.DateField()
        metadata = m.JSONField()
        created_at = m.DateTimeField()

        class Meta:
            app_label, managed, db_table = "benchmarks", False, '"bare"."transaction"'

    class Entry(Table):
        pk = m.CompositePrimaryKey("account_id", "sequence")
        tenant_id = m.UUIDField()
        account_id = m.UUIDField()
        sequence = m.BigIntegerField()
        transaction_id = m.UUIDField()
        leg = m.SmallIntegerField()
        currency = m.TextField()
        amount = m.BigIntegerField()
        balance_after = m.BigIntegerField()
        created_at = m.DateTimeField()

        class Meta:
            app_label, managed, db_table = "benchmarks", False, '"bare"."entry"'

    _models.update(Account=Account, Transaction=Transaction, Entry=Entry)
    return _models


def transfers(setting: tuple[UUID, list[UUID]], seed: int, until: float) -> int:
    from django.db import transaction
    from django.utils import timezone

    from core.ids import new_id

    tables = models()
    tenant_id, accounts = setting
    done = 0
    for pair in random_pairs(accounts, seed):
        if time.monotonic() >= until:
            return done
        now = timezone.now()
        with transaction.atomic():
            # In order of id, or it would deadlock: as naive as can still be measured.
            locked = tables["Account"].objects.select_for_update().filter(pk__in=pair)
            first, second = locked.order_by("pk")
            made = tables["Transaction"].objects.create(
                id=new_id(),
                tenant_id=tenant_id,
                type="transfer",
                currency=CURRENCY,
                amount=5,
                legs=2,
                description="",
                value_date=now.date(),
                metadata={},
                created_at=now,
            )
            for leg, (account, amount) in enumerate(((first, -5), (second, 5))):
                account.balance += amount
                account.entry_count += 1
                account.save()
                tables["Entry"].objects.create(
                    tenant_id=tenant_id,
                    account_id=account.pk,
                    sequence=account.entry_count,
                    transaction_id=made.pk,
                    leg=leg,
                    currency=CURRENCY,
                    amount=amount,
                    balance_after=account.balance,
                    created_at=now,
                )
        done += 1
    return done
