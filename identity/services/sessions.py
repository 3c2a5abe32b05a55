"""
Signing in and out, for the API and the back office.

An attempt is counted before the password is looked at, in statements of their own: a thousand at
once are a thousand counted, and no refusal undoes the count.
"""

import hashlib
import math
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import connection, transaction
from django.db.models import F

from core.addresses import network_of
from core.changes import record_for_audit
from core.errors import InvalidRequest, InvalidToken
from identity.errors import InvalidCredentials, OtpRequired, SecondFactorRequired, TooManyAttempts
from identity.models import RefreshToken, Session, SignInFailures, User
from identity.queries import access_token, credential_digest
from identity.services.second_factor import device_of_code, has_second_factor

REFRESH_PREFIX = "florin_refresh_"
REFRESH_LENGTH_MAX = 128
SECRET_BYTES = 32

_COUNT = """
INSERT INTO identity_signinfailures AS f (subject, count, began_at)
VALUES (%(subject)s, 1, %(now)s)
ON CONFLICT (subject) DO UPDATE
   SET count = CASE WHEN f.began_at <= %(expired)s THEN 1 ELSE f.count + 1 END,
       began_at = CASE WHEN f.began_at <= %(expired)s THEN %(now)s ELSE f.began_at END
RETURNING count, began_at
"""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a person's program gets. Both in clear, here and nowhere else."""

    access: str
    refresh: str
    expires_in_s: int


def sign_in(*, email: str, password: str, otp: str | None, address: str, now: datetime) -> Tokens:
    """
    Begin a session on the API.

    :raises InvalidCredentials: unknown, wrong password, or not allowed to sign in
    :raises OtpRequired: the person has a second factor, and `otp` is missing or wrong
    :raises SecondFactorRequired: staff must have one (STAFF_SECOND_FACTOR_REQUIRED) and has none
    :raises TooManyAttempts: too many wrong ones lately
    """
    user = authenticated_user(email=email, password=password, otp=otp, address=address, now=now)
    _refuse_without_second_factor(user)
    return begin_session(user=user, address=address, now=now)


def begin_session(*, user: User, address: str, now: datetime) -> Tokens:
    """
    Begin a session of somebody who has shown who they are. `address` may be empty.

    :raises InvalidCredentials: their password has changed since, or they may not sign in any more
    """
    with transaction.atomic():
        # Checking a password takes its time; whatever ends sessions meanwhile ends this one too.
        as_shown = User.objects.filter(pk=user.pk, password=user.password, is_active=True)
        if not as_shown.select_for_update().exists():
            raise InvalidCredentials("Address or password is wrong.")
        session = Session.objects.create(
            user=user,
            created_at=now,
            expires_at=now + timedelta(seconds=settings.SESSION_S),
            address=address or None,
        )
        _record(user, "session.started", now)
        return _new_tokens(session, now)


def authenticated_user(
    *, email: str, password: str, otp: str | None, address: str, now: datetime
) -> User:
    """
    Return who this is, after counting the attempt. Clears their count when all is right.

    :raises InvalidCredentials: unknown, wrong password, or not allowed to sign in
    :raises OtpRequired: the person has a second factor, and `otp` is missing or wrong
    :raises TooManyAttempts: too many wrong ones lately
    """
    subjects = _count_attempt(email.lower(), address, now)
    user = User.objects.filter(email=email.lower()).first() if "\x00" not in email else None
    if user is None:
        # As long as a known address takes.
        make_password(password)
        raise InvalidCredentials("Address or password is wrong.")
    if not user.check_password(password) or not user.is_active:
        reason = "wrong password" if user.is_active else "may not sign in"
        _record(user, "session.refused", now, reason)
        raise InvalidCredentials("Address or password is wrong.")
    if has_second_factor(user):
        device = device_of_code(user, otp) if otp else None
        if device is None:
            if otp:
                _record(user, "session.refused", now, "wrong one-time code")
            raise OtpRequired(
                "The one-time code is wrong." if otp else "A one-time code is needed."
            )
        # What django-otp looks for when a session begins.
        user.otp_device = device  # type: ignore[attr-defined]
    _forgive(subjects)
    return user


def record_back_office_session(*, user: User, has_begun: bool, now: datetime) -> None:
    """Record that somebody has signed in to the back office, or out of it."""
    _record(user, "session.started" if has_begun else "session.ended", now, "back office")


def refresh_tokens(*, refresh: str, now: datetime) -> Tokens:
    """
    Give new tokens for a refresh token, once.

    Of many calls with one token one succeeds. All others, then and later, end the session: its
    owner signs in again, a thief cannot.

    :raises InvalidToken: unknown, too old, used before, or its session has ended
    :raises SecondFactorRequired: staff must have one by now, and has none
    """
    digest = _refresh_digest(refresh)
    with transaction.atomic():
        # The check and the act are one statement.
        claimed = RefreshToken.objects.filter(
            digest=digest, used_at=None, expires_at__gt=now
        ).update(used_at=now)
        if claimed:
            token = RefreshToken.objects.select_related("session__user").get(digest=digest)
            session = token.session
            if session.ended_at is not None or session.expires_at <= now:
                raise InvalidToken("The session has ended. Sign in again.")
            if not session.user.is_active:
                raise InvalidToken("The user may not sign in any more.")
            _refuse_without_second_factor(session.user)
            return _new_tokens(session, now)
    used = RefreshToken.objects.filter(digest=digest, used_at__isnull=False).first()
    if used is not None:
        _end_session(used.session_id, "token_reused", now)
        raise InvalidToken("The token was used before: its session is ended. Sign in again.")
    raise InvalidToken("The refresh token is not valid. Sign in again.")


def sign_out(*, refresh: str, now: datetime) -> None:
    """End the session that the refresh token belongs to; for an unknown token do nothing."""
    token = RefreshToken.objects.filter(digest=_refresh_digest(refresh)).first()
    if token is not None:
        _end_session(token.session_id, "signed_out", now)


def purge_ended(*, now: datetime, limit: int) -> int:
    """Delete at most `limit` sessions past their time, and old counts; return how many."""
    SignInFailures.objects.filter(began_at__lt=now - _window()).delete()
    past = Session.objects.filter(expires_at__lt=now).order_by("expires_at")
    ids = list(past.values_list("pk", flat=True)[:limit])
    Session.objects.filter(pk__in=ids).delete()
    return len(ids)


def _refuse_without_second_factor(user: User) -> None:
    if settings.STAFF_SECOND_FACTOR_REQUIRED and user.is_staff and not has_second_factor(user):
        raise SecondFactorRequired("Sign in to the back office once, and set it up there.")


def _end_session(session_id: UUID, reason: str, now: datetime) -> None:
    with transaction.atomic():
        ended = Session.objects.filter(pk=session_id, ended_at=None).update(
            ended_at=now, end_reason=reason
        )
        if ended:
            _record(User.objects.get(sessions=session_id), "session.ended", now, reason)


def _new_tokens(session: Session, now: datetime) -> Tokens:
    clear = REFRESH_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    lifetime = timedelta(seconds=settings.REFRESH_TOKEN_S)
    RefreshToken.objects.create(
        session=session,
        digest=credential_digest(clear),
        created_at=now,
        expires_at=min(now + lifetime, session.expires_at),
    )
    access = access_token(session=session, now=now)
    return Tokens(access.clear, clear, access.expires_in_s)


def _refresh_digest(refresh: str) -> bytes:
    if len(refresh) > REFRESH_LENGTH_MAX:
        raise InvalidRequest("This is not a refresh token.", field="refresh")
    return credential_digest(refresh)


def _window() -> timedelta:
    return timedelta(seconds=settings.SIGN_IN_WINDOW_S)


def _count_attempt(email: str, address: str, now: datetime) -> list[bytes]:
    """
    Count the attempt for each of its subjects, or refuse it. Returns them, the narrowest first.

    What a narrower one refuses does not count for the wider: whoever goes on guessing from one
    address locks out that address, and not the person, nor everybody beside them.
    """
    network = network_of(address)
    limits = {
        # Whoever guesses is locked out; the person themselves, from elsewhere, is not.
        _subject("person", email, network): settings.SIGN_IN_FAILURES_MAX,
        # One guess at each of many people.
        _subject("address", network): settings.SIGN_IN_FAILURES_ADDRESS_MAX,
        # Guesses at one person from many addresses.
        _subject("anywhere", email): settings.SIGN_IN_FAILURES_PERSON_MAX,
    }
    for subject, limit in limits.items():
        with connection.cursor() as cursor:
            cursor.execute(_COUNT, {"subject": subject, "now": now, "expired": now - _window()})
            count, began_at = cursor.fetchone()
        if count > limit:
            wait_s = max(1, math.ceil((began_at + _window() - now).total_seconds()))
            raise TooManyAttempts(
                f"Too many wrong attempts. Try again in {math.ceil(wait_s / 60)} minutes.",
                retry_after_s=wait_s,
            )
    return list(limits)


def _forgive(subjects: list[bytes]) -> None:
    """It was them: take this attempt back everywhere, and all of theirs from here."""
    person, *wider = subjects
    SignInFailures.objects.filter(subject=person).delete()
    for subject in wider:
        SignInFailures.objects.filter(subject=subject, count__gt=0).update(count=F("count") - 1)


def _record(user: User, action: str, now: datetime, reason: str = "") -> None:
    record_for_audit(
        tenant_id=user.tenant_id, action=action, object_id=user.pk, reason=reason, now=now
    )


def _subject(*parts: str) -> bytes:
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).digest()
