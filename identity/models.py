"""Tenants, the people who sign in, and the keys that machines use."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone

from core.ids import new_id


class Tenant(models.Model):
    """Owns everything. Nothing of one tenant is ever visible to another."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.name


class UserManager(BaseUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=(username or "").lower())

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=email.lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str, **fields: Any) -> "User":
        return self.create_user(
            email, password, **fields, role=User.Role.ADMIN, is_staff=True, is_superuser=True
        )


class User(AbstractBaseUser, PermissionsMixin):
    class Role(models.TextChoices):
        # Own accounts only.
        CUSTOMER = "customer"
        # Works with accounts and money.
        OPERATOR = "operator"
        # Also approves.
        SUPERVISOR = "supervisor"
        # Also people, keys and settings.
        ADMIN = "admin"
        # Reads everything, changes nothing.
        AUDITOR = "auditor"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT)
    # Lower case: two addresses that differ in case only are one person.
    email = models.EmailField(max_length=254, unique=True)
    full_name = models.CharField(max_length=150, blank=True, default="")
    role = models.CharField(max_length=10, choices=Role, default=Role.CUSTOMER)
    is_active = models.BooleanField(default=True, help_text="Clear this instead of deleting.")
    is_staff = models.BooleanField(default=False, help_text="May open the back office.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = ["tenant"]

    class Meta:
        constraints = [
            models.CheckConstraint(name="user_email_lower_case", condition=Q(email=Lower("email"))),
            models.CheckConstraint(
                name="user_role_known",
                condition=Q(role__in=["customer", "operator", "supervisor", "admin", "auditor"]),
            ),
        ]

    def __str__(self) -> str:
        return self.email


class ApiKey(models.Model):
    """
    A machine's credential: florin_<live|test>_<public id>_<secret>, shown once.

    Only a keyed digest is stored. The secret has 256 random bits, so a fast hash is as good as a
    slow one and does not cost every request its time (docs/decisions/0006).
    """

    class Mode(models.TextChoices):
        LIVE = "live"
        TEST = "test"

    class Scope(models.TextChoices):
        READ = "read"
        WRITE = "write"
        # Implies the others.
        ADMIN = "admin"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT)
    name = models.CharField(max_length=100)
    mode = models.CharField(max_length=4, choices=Mode, default=Mode.TEST)
    # The part of the key that may be shown: how logs, audits and screens name it.
    public_id = models.CharField(max_length=16, unique=True, editable=False)
    # HMAC-SHA-256 of the whole key under API_KEY_PEPPER.
    digest = models.BinaryField(max_length=32, editable=False)
    scopes = ArrayField(models.CharField(max_length=5, choices=Scope))
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                name="api_key_mode_known", condition=Q(mode__in=["live", "test"])
            ),
            models.CheckConstraint(
                name="api_key_scopes_known",
                condition=Q(scopes__contained_by=["read", "write", "admin"])
                & Q(scopes__len__gte=1),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now
