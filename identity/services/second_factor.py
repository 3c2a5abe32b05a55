"""One-time codes of the staff (TOTP, RFC 6238) and their recovery codes, kept by django-otp."""

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import django_otp
from django.db import transaction
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from core.changes import record_for_audit
from core.errors import InvalidState, NotFound
from identity.errors import OtpRequired
from identity.models import User
from identity.services.ending import end_sessions

RECOVERY_CODES = 10
CODE_LENGTH_MAX = 16


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A device that waits for its first code. `url` is what its QR code says."""

    secret: str
    url: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    device: Device
    recovery_codes: list[str]


def has_second_factor(user: User) -> bool:
    return bool(TOTPDevice.objects.filter(user=user, confirmed=True).exists())


def device_of_code(user: User, code: str) -> Device | None:
    """
    Return the device whose code of now this is, or whose unused recovery code. Each counts once.

    django-otp slows guessing down by itself; sign-in counts attempts besides.
    """
    if len(code) > CODE_LENGTH_MAX or not code.isascii() or not code.isprintable():
        return None
    device: Device | None = django_otp.match_token(user, code)
    return device


def begin_enrolment(*, user: User, is_going_on: bool = False) -> Enrolment:
    """
    Make a device for the user, to be confirmed by its first code; replaces one that was not.

    While one `is_going_on` it stays: the code was mistyped, and the app has the secret.

    :raises InvalidState: they have a second factor
    """
    with transaction.atomic():
        # Two pages opened at once make one device.
        User.objects.select_for_update().get(pk=user.pk)
        if has_second_factor(user):
            raise InvalidState("There is a second factor already. An admin can reset it.")
        begun = TOTPDevice.objects.filter(user=user, confirmed=False)
        if not is_going_on:
            # Whoever saw a secret before, in this person's name, shall not know the next.
            begun.delete()
        device = begun.first() or TOTPDevice.objects.create(
            user=user, confirmed=False, name="authenticator"
        )
    return Enrolment(secret=_base32(device), url=str(device.config_url))


def forget_enrolments(*, user_id: UUID) -> None:
    """Drop devices that were begun and never confirmed."""
    TOTPDevice.objects.filter(user_id=user_id, confirmed=False).delete()


def confirm_enrolment(*, user: User, code: str, now: datetime) -> Confirmed:
    """
    Turn the second factor on; return the recovery codes, this once.

    :raises OtpRequired: the code is wrong
    :raises InvalidState: nothing was begun
    """
    with transaction.atomic():
        device = TOTPDevice.objects.select_for_update().filter(user=user, confirmed=False).first()
        if device is None:
            raise InvalidState("Begin again: there is no device to confirm.")
        if len(code) > CODE_LENGTH_MAX or not device.verify_token(code):
            wrong = True
        else:
            wrong = False
            device.confirmed = True
            device.save()
            codes = [secrets.token_hex(5) for _ in range(RECOVERY_CODES)]
            static, _ = StaticDevice.objects.get_or_create(user=user, name="recovery")
            static.token_set.all().delete()
            StaticToken.objects.bulk_create(
                [StaticToken(device=static, token=code) for code in codes]
            )
            # Those who got in with the password alone are out.
            end_sessions(user_id=user.pk, reason="factor_set", now=now)
            record_for_audit(
                tenant_id=user.tenant_id,
                action="user.second_factor_set",
                object_id=user.pk,
                now=now,
            )
    if wrong:
        # Outside: the device counts failures, and the count must stay.
        raise OtpRequired("The code is wrong. Is the clock of the device right?")
    return Confirmed(device, codes)


def reset_second_factor(*, tenant_id: UUID, user_id: UUID, reason: str, now: datetime) -> User:
    """
    Take the second factor away, for somebody who has lost the device.

    :raises NotFound: no such user in this tenant
    """
    with transaction.atomic():
        user = User.objects.select_for_update().filter(tenant_id=tenant_id, pk=user_id).first()
        if user is None:
            raise NotFound("No such user.")
        for device in django_otp.devices_for_user(user, confirmed=None):
            device.delete()
        end_sessions(user_id=user_id, reason="factor_reset", now=now)
        record_for_audit(
            tenant_id=tenant_id,
            action="user.second_factor_reset",
            object_id=user_id,
            reason=reason,
            now=now,
        )
    return user


def _base32(device: TOTPDevice) -> str:
    return base64.b32encode(device.bin_key).decode().rstrip("=")
