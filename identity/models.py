"""Tenants, the people who sign in, and the keys that machines use."""

import datetime as dt
import zoneinfo
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone

from core.calendars.zones import zone_of
from core.errors import InvalidRequest
from core.ids import new_id
from core.permissions import Role, Scope
from core.versions import version_of


def check_time_zone(name: str) -> None:
    """
    Say whether there is such a zone.

    :raises ValidationError: there is not
    """
    try:
        zone_of(name)
    except InvalidRequest as refusal:
        raise ValidationError(refusal.detail) from refusal


class Tenant(models.Model):
    """Owns everything. Nothing of one tenant is ever visible to another."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=100)
    # IANA name. Whose days its due dates and number series go by.
    time_zone = models.CharField(
        max_length=64, default="UTC", db_default="UTC", validators=[check_time_zone]
    )
    # What its time is, for what falls due; null: the real one. For tests of integrations: it is set
    # for a tenant that has no live credentials, and goes forward only.
    test_clock = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.name

    def time_at(self, moment: dt.datetime) -> dt.datetime:
        """Return what the time is for the tenant, when it really is `moment`."""
        return self.test_clock or moment

    def value_date_at(self, moment: dt.datetime) -> dt.date | None:
        """Return the day that a posting counts for by its test clock; None: when it is booked."""
        return None if self.test_clock is None else self.day_of(self.time_at(moment))

    def day_of(self, moment: dt.datetime) -> dt.date:
        """Return the tenant's day of the moment."""
        return moment.astimezone(zoneinfo.ZoneInfo(self.time_zone)).date()


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
    Role = Role

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

    @property
    def version(self) -> str:
        """What an editor has seen; see core.versions."""
        names = ("full_name", "role", "is_active")
        return version_of({name: getattr(self, name) for name in names})


class ApiKey(models.Model):
    """
    A machine's credential: florin_<live|test>_<public id>_<secret>, shown once.

    Only a keyed digest is stored. The secret has 256 random bits, so a fast hash is as good as a
    slow one and does not cost every request its time (docs/decisions/0006).
    """

    class Mode(models.TextChoices):
        LIVE = "live"
        TEST = "test"

    Scope = Scope

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT)
    name = models.CharField(max_length=100)
    mode = models.CharField(max_length=4, choices=Mode, default=Mode.TEST)
    # The part of the key that may be shown: how logs, audits and screens name it.
    public_id = models.CharField(max_length=16, unique=True, editable=False)
    # HMAC-SHA-256 of the whole key under API_KEY_PEPPER.
    digest = models.BinaryField(max_length=32, editable=False)
    # Of the secret before the last rotation, and until when it is good beside the new one.
    previous_digest = models.BinaryField(max_length=32, null=True, editable=False)
    previous_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=5, choices=Scope))
    rate_limit = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests a minute; empty: as everybody."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    rotated_at = models.DateTimeField(null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Written at most once a minute each.
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_refused_at = models.DateTimeField(null=True, blank=True, editable=False)

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
            models.CheckConstraint(
                name="api_key_rate_limit_positive",
                condition=Q(rate_limit=None) | Q(rate_limit__gte=1),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


class Session(models.Model):
    """
    A person's sign-in to the API: the family of tokens that descends from one password.

    Every access token names its session and is worth nothing once that has ended.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sessions")
    created_at = models.DateTimeField()
    # However often its tokens are refreshed.
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    # signed_out, token_reused, password_set, disabled.
    end_reason = models.CharField(max_length=16, default="")
    address = models.GenericIPAddressField(null=True)

    class Meta:
        indexes = [models.Index(name="session_purge_idx", fields=["expires_at"])]

    def __str__(self) -> str:
        return f"session {self.pk}"


class RefreshToken(models.Model):
    """
    What a new access token is got for, once. Used a second time, it ends the whole session: of two
    people who have it, one is a thief, and nobody can say which.
    """

    id = models.BigAutoField(primary_key=True)
    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="refresh_tokens")
    # HMAC-SHA-256 under API_KEY_PEPPER; the token itself has 256 random bits.
    digest = models.BinaryField(max_length=32)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="refresh_token_digest_unique", fields=["digest"]),
        ]

    def __str__(self) -> str:
        return f"refresh token {self.pk}"


class SignInFailures(models.Model):
    """How often somebody has guessed lately; counted before the password is looked at."""

    # SHA-256 of what is counted: a person from an address, an address, a person from anywhere.
    subject = models.BinaryField(max_length=32, primary_key=True)
    count = models.PositiveIntegerField()
    began_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(name="sign_in_purge_idx", fields=["began_at"])]

    def __str__(self) -> str:
        return f"{self.count} failures"
