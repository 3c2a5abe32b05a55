"""People: who may sign in, in which role."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from core.changes import changed, record_change
from core.database import refusing
from core.errors import InvalidRequest, InvalidState, NotFound, PermissionDenied
from core.permissions import Role
from core.versions import refuse_unless_as_seen
from identity.errors import EmailTaken
from identity.models import User
from identity.services.ending import end_sessions
from identity.services.second_factor import forget_enrolments

_EMAIL_TAKEN = "identity_user_email_key"
CHANGEABLE = ("full_name", "role", "is_active")


def create_user(
    *,
    tenant_id: UUID,
    email: str,
    password: str | None,
    role: str,
    now: datetime,
    full_name: str = "",
    is_superuser: bool = False,
) -> User:
    """
    Create a user; all roles but customer may open the back office.

    :raises EmailTaken: somebody has this address, in whichever tenant
    :raises InvalidRequest: the password is too weak (AUTH_PASSWORD_VALIDATORS)
    """
    if password is not None:
        _refuse_weak(password, User(email=email, full_name=full_name))
    taken = EmailTaken("Somebody with this address exists.")
    with refusing({_EMAIL_TAKEN: taken}), transaction.atomic():
        user = User.objects.create_user(
            email,
            password,
            tenant_id=tenant_id,
            role=role,
            full_name=full_name,
            is_staff=role != User.Role.CUSTOMER,
            is_superuser=is_superuser,
            created_at=now,
        )
        after: dict[str, Any] = {"email": user.email, "full_name": full_name, "role": role}
        if is_superuser:
            after["is_superuser"] = True
        _record(user, "user.created", now, after=after)
    return user


def change_user(
    *,
    tenant_id: UUID,
    user_id: UUID,
    changes: dict[str, Any],
    now: datetime,
    by_user_id: UUID | None = None,
    may_change_superusers: bool = False,
    as_seen: str | None = None,
    reason: str = "",
) -> User:
    """
    Change full_name, role or is_active; it counts from their next request.

    Whoever may not sign in any more, or has got another role, holds access tokens that are worth
    nothing. `as_seen` is the User.version that the change was decided on.

    :raises NotFound: no such user in this tenant
    :raises InvalidState: somebody changes their own role, or locks themselves out
    :raises PermissionDenied: a superuser, and the caller is none
    :raises PreconditionFailed: somebody else has changed the user since `as_seen`
    """
    with transaction.atomic():
        user = _user_for_update(tenant_id, user_id)
        refuse_unless_as_seen(user.version, as_seen)
        _refuse_superuser(user, may_change_superusers)
        before = {name: getattr(user, name) for name in CHANGEABLE}
        after = {**before, **changes}
        is_demoted = (after["role"], after["is_active"]) != (user.role, user.is_active)
        if user_id == by_user_id and is_demoted:
            raise InvalidState("Nobody changes their own role or locks themselves out.")
        if after == before:
            return user
        becomes_staff = user.role == Role.CUSTOMER and after["role"] != Role.CUSTOMER
        user.full_name, user.role, user.is_active = (after[name] for name in CHANGEABLE)
        user.is_staff = user.role != User.Role.CUSTOMER
        user.save(update_fields=[*CHANGEABLE, "is_staff"])
        if not user.is_active:
            end_sessions(user_id=user.pk, reason="disabled", now=now)
        elif becomes_staff:
            # More is asked of staff when they sign in.
            end_sessions(user_id=user.pk, reason="became_staff", now=now)
        _record(user, "user.changed", now, reason=reason, **changed(before, after))
    return user


def set_password(
    *,
    tenant_id: UUID,
    user_id: UUID,
    password: str,
    now: datetime,
    may_change_superusers: bool = False,
) -> User:
    """
    Set the password; every session of the user ends, in the back office and on the API.

    :raises NotFound: no such user in this tenant
    :raises InvalidRequest: the password is too weak (AUTH_PASSWORD_VALIDATORS)
    :raises PermissionDenied: a superuser, and the caller is none
    """
    with transaction.atomic():
        user = _user_for_update(tenant_id, user_id)
        # Whoever could set a superuser's password would be one.
        _refuse_superuser(user, may_change_superusers)
        _refuse_weak(password, user)
        user.set_password(password)
        user.save(update_fields=["password"])
        end_sessions(user_id=user.pk, reason="password_set", now=now)
        forget_enrolments(user_id=user.pk)
        _record(user, "user.password_set", now)
    return user


def _refuse_superuser(user: User, may_change_superusers: bool) -> None:
    if user.is_superuser and not may_change_superusers:
        raise PermissionDenied("Only a superuser may do this to a superuser.")


def _refuse_weak(password: str, user: User) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise InvalidRequest(" ".join(error.messages), field="password") from error


def _user_for_update(tenant_id: UUID, user_id: UUID) -> User:
    user = User.objects.select_for_update().filter(tenant_id=tenant_id, pk=user_id).first()
    if user is None:
        raise NotFound("No such user.")
    return user


def _record(user: User, action: str, now: datetime, **fields: Any) -> None:
    record_change(tenant_id=user.tenant_id, action=action, object_id=user.pk, now=now, **fields)
