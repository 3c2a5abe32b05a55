"""Bank accounts: identity, status and the running figures. Only `ledger` writes the figures."""

from typing import Self

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from core.ids import new_id
from core.money import BALANCE_MAX
from core.versions import version_of


class AccountQuerySet(models.QuerySet["Account"]):
    def of_customers(self) -> Self:
        return self.exclude(type=Account.Type.INTERNAL)


AccountManager = models.Manager.from_queryset(AccountQuerySet)


class Account(models.Model):
    class Type(models.TextChoices):
        CHECKING = "checking"
        SAVING = "saving"
        # The tenant's own: what customers' entries stand against.
        INTERNAL = "internal"

    class Status(models.TextChoices):
        ACTIVE = "active"
        # Takes no entries until it is unfrozen.
        FROZEN = "frozen"
        # Takes no entries for ever; balance and holds are zero.
        CLOSED = "closed"

    class Role(models.TextChoices):
        """What an internal account is for; a tenant has one for each role and currency."""

        CASH = "cash"
        SETTLEMENT = "settlement"
        FEES = "fees"
        PAYOUT_CLEARING = "payout_clearing"
        SUSPENSE = "suspense"
        INTEREST_EXPENSE = "interest_expense"
        FX = "fx"
        INTERBOOK = "interbook"
        # What customers owe by their invoices; what they were charged, and the tax on it.
        RECEIVABLE = "receivable"
        REVENUE = "revenue"
        TAX = "tax"
        # Of interest paid to customers: kept back for the state.
        WITHHELD_TAX = "withheld_tax"
        # What customers paid beyond what they owed.
        CUSTOMER_CREDIT = "customer_credit"
        # What was passed on to a settlement account.
        PASSED_ON = "passed_on"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    # Indexed by (tenant, id), below.
    tenant = models.ForeignKey("identity.Tenant", on_delete=models.PROTECT, db_index=False)
    # A user here, or a person in the caller's own system. Null for internal accounts.
    owner_id = models.UUIDField(null=True, blank=True)
    type = models.CharField(max_length=8, choices=Type)
    role = models.CharField(max_length=20, choices=Role, null=True, blank=True)
    currency = models.CharField(max_length=3)
    status = models.CharField(max_length=6, choices=Status, default=Status.ACTIVE)
    name = models.CharField(max_length=200, default="", blank=True)
    external_id = models.CharField(max_length=200, null=True, blank=True)
    # Minor units. A customer's account is the bank's liability: a credit raises it.
    balance = models.BigIntegerField(default=0, db_default=0)
    # The sum of the account's active holds, in minor units.
    held = models.BigIntegerField(default=0, db_default=0)
    # Minor units below zero that may be used. Null: no limit (internal accounts).
    overdraft_limit = models.BigIntegerField(null=True, default=0, db_default=0)
    debit_locked_until = models.DateTimeField(null=True, blank=True)
    # How many entries there are, and the sequence of the last.
    entry_count = models.BigIntegerField(default=0, db_default=0)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    # Never before the last entry: the posting engine takes its clock from here when it lags.
    updated_at = models.DateTimeField(default=timezone.now)

    objects = AccountManager()

    class Meta:
        constraints = [
            # The two rules that a posting can break. Those that it cannot, since they are about
            # columns it does not touch, are triggers on these columns (0002_account_rules.sql):
            # PostgreSQL reads every CHECK of a table again for each statement.
            models.CheckConstraint(
                name="account_available_within_overdraft",
                condition=Q(overdraft_limit=None)
                | Q(balance__gte=F("held") - F("overdraft_limit")),
            ),
            models.CheckConstraint(
                name="account_balance_in_range",
                condition=Q(balance__gte=-BALANCE_MAX, balance__lte=BALANCE_MAX),
            ),
            models.UniqueConstraint(
                name="account_external_id_unique_in_tenant",
                fields=["tenant", "external_id"],
                condition=Q(external_id__isnull=False),
            ),
            models.UniqueConstraint(
                name="account_one_per_role_and_currency",
                fields=["tenant", "role", "currency"],
                condition=Q(role__isnull=False),
            ),
        ]
        indexes = [
            models.Index(name="account_list_idx", fields=["tenant", "id"]),
            models.Index(
                name="account_owner_idx",
                fields=["tenant", "owner_id", "id"],
                condition=Q(owner_id__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.currency} account {self.pk}"

    @property
    def version(self) -> str:
        """What an editor has seen; balances are not theirs to edit. See core.versions."""
        names = ("name", "metadata", "overdraft_limit", "status")
        return version_of({name: getattr(self, name) for name in names})

    @property
    def available(self) -> int | None:
        """Minor units that may still be debited or held; None: no limit."""
        if self.overdraft_limit is None:
            return None
        return self.balance - self.held + self.overdraft_limit
