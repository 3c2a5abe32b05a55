"""Signing in and out: sessions, refresh tokens, guessing. On the API; the back office shares it."""

import datetime as dt
from typing import Any

import pytest
from django.conf import LazySettings
from django.utils import timezone
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from core.errors import InvalidToken
from core.models import AuditRecord
from core.permissions import Role
from identity import services
from identity.errors import (
    InvalidCredentials,
    OtpRequired,
    SecondFactorRequired,
    TooManyAttempts,
)
from identity.models import RefreshToken, Session, SignInFailures, Tenant, User
from identity.services import (
    begin_enrolment,
    change_user,
    confirm_enrolment,
    purge_ended,
    refresh_tokens,
    reset_second_factor,
    set_password,
    sign_in,
    sign_out,
)
from tests import making
from tests.contract import ContractClient

PASSWORD = "a-long-password-of-hers"
HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def ada(tenant: Tenant) -> User:
    return making.person(tenant, Role.OPERATOR, password=PASSWORD)


def enter(user: User, password: str = PASSWORD, **more: Any) -> services.Tokens:
    return sign_in(
        **{
            "email": user.email,
            "password": password,
            "otp": None,
            "address": HERE,
            "now": timezone.now(),
            **more,
        }
    )


def me(access: str) -> Any:
    return making.client_of(access).get("/api/v1/me")


def refused_with(access: str) -> str:
    answer = me(access)
    assert answer.status_code == 401
    return str(answer.json()["code"])


# --- The calls ---------------------------------------------------------------------------------
def test_it_works(tenant: Tenant, ada: User) -> None:
    client = ContractClient()
    answer = client.post("/api/v1/auth/token", {"email": ada.email.upper(), "password": PASSWORD})
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    tokens = answer.json()
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 300)

    mine = me(tokens["access"]).json()
    assert mine == {
        **mine,
        "kind": "user",
        "id": str(ada.pk),
        "role": "operator",
        "scopes": ["read", "write"],
        "tenant_id": str(tenant.pk),
    }
    again = client.post("/api/v1/auth/token/refresh", {"refresh": tokens["refresh"]}).json()
    assert me(again["access"]).status_code == 200
    out = client.post("/api/v1/auth/token/revoke", {"refresh": again["refresh"]})
    assert out.status_code == 204
    assert refused_with(again["access"]) == refused_with(tokens["access"]) == "invalid_token"


@pytest.mark.parametrize(
    "body",
    [
        {"password": "wrong-password-here"},
        {"email": "nobody@bank.test"},
        {"email": "x\x00y@bank.test"},
    ],
)
def test_a_wrong_pair_is_one_answer(ada: User, body: dict[str, str]) -> None:
    answer = ContractClient().post(
        "/api/v1/auth/token", {"email": ada.email, "password": PASSWORD, **body}
    )

    if "\x00" in body.get("email", ""):
        assert answer.status_code == 400
    else:
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
        assert answer["WWW-Authenticate"].startswith("Bearer")


def test_somebody_disabled_learns_nothing(ada: User) -> None:
    User.objects.filter(pk=ada.pk).update(is_active=False)

    with pytest.raises(InvalidCredentials):
        enter(ada)


def test_sessions_are_audited(ada: User) -> None:
    tokens = enter(ada)
    with pytest.raises(InvalidCredentials):
        enter(ada, "wrong-password-here")
    sign_out(refresh=tokens.refresh, now=timezone.now())

    actions = AuditRecord.objects.filter(object_id=ada.pk).order_by("pk")
    assert [each.action for each in actions][-3:] == [
        "session.started",
        "session.refused",
        "session.ended",
    ]


# --- S10: what ends a session ends its access tokens --------------------------------------------
def test_s10_sign_out_bites_at_once(ada: User) -> None:
    tokens = enter(ada)
    assert me(tokens.access).status_code == 200

    sign_out(refresh=tokens.refresh, now=timezone.now())

    assert refused_with(tokens.access) == "invalid_token"
    with pytest.raises(InvalidToken):
        refresh_tokens(refresh=tokens.refresh, now=timezone.now())


@pytest.mark.parametrize("changes", [{"is_active": False}, {"role": "auditor"}])
def test_s10_disabling_and_demoting_bite_at_once(ada: User, changes: dict[str, Any]) -> None:
    tokens = enter(ada)
    assert me(tokens.access).status_code == 200

    change_user(tenant_id=ada.tenant_id, user_id=ada.pk, changes=changes, now=timezone.now())

    assert refused_with(tokens.access) == "invalid_token"


def test_s10_a_new_role_comes_with_the_next_refresh(ada: User) -> None:
    tokens = enter(ada)
    change_user(
        tenant_id=ada.tenant_id, user_id=ada.pk, changes={"role": "auditor"}, now=timezone.now()
    )

    fresh = refresh_tokens(refresh=tokens.refresh, now=timezone.now())

    assert me(fresh.access).json()["role"] == "auditor"


def test_s10_a_new_password_ends_all_sessions(ada: User) -> None:
    first, second = enter(ada), enter(ada)

    set_password(
        tenant_id=ada.tenant_id, user_id=ada.pk, password="quite-another-one", now=timezone.now()
    )

    for tokens in (first, second):
        assert refused_with(tokens.access) == "invalid_token"
        with pytest.raises(InvalidToken):
            refresh_tokens(refresh=tokens.refresh, now=timezone.now())


def test_s10_a_password_that_changes_while_it_is_checked_opens_nothing(ada: User) -> None:
    """Checking takes half a second: long enough for somebody to set another."""
    shown = services.authenticated_user(
        email=ada.email, password=PASSWORD, otp=None, address=HERE, now=timezone.now()
    )
    set_password(
        tenant_id=ada.tenant_id, user_id=ada.pk, password="quite-another-one", now=timezone.now()
    )

    with pytest.raises(InvalidCredentials):
        services.begin_session(user=shown, address=HERE, now=timezone.now())


def test_s10_who_becomes_staff_signs_in_again(tenant: Tenant, settings: LazySettings) -> None:
    settings.STAFF_SECOND_FACTOR_REQUIRED = True
    customer = making.person(tenant, Role.CUSTOMER, password=PASSWORD)
    tokens = enter(customer)

    change_user(
        tenant_id=tenant.pk, user_id=customer.pk, changes={"role": "admin"}, now=timezone.now()
    )

    assert refused_with(tokens.access) == "invalid_token"
    with pytest.raises(InvalidToken):
        refresh_tokens(refresh=tokens.refresh, now=timezone.now())


def test_staff_without_a_second_factor_do_not_go_on(ada: User, settings: LazySettings) -> None:
    tokens = enter(ada)
    settings.STAFF_SECOND_FACTOR_REQUIRED = True

    with pytest.raises(SecondFactorRequired):
        refresh_tokens(refresh=tokens.refresh, now=timezone.now())


# --- S11: refresh tokens are good once -----------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_s11_of_twenty_at_once_one_gets_on_and_the_family_ends(ada: User) -> None:
    tokens = enter(ada)

    results = making.at_once(
        [lambda: refresh_tokens(refresh=tokens.refresh, now=timezone.now())] * 20
    )

    won = [each for each in results if isinstance(each, services.Tokens)]
    assert len(won) == 1
    assert sum(isinstance(each, InvalidToken) for each in results) == 19, results
    assert refused_with(won[0].access) == "invalid_token"
    with pytest.raises(InvalidToken):
        refresh_tokens(refresh=won[0].refresh, now=timezone.now())
    assert Session.objects.get().end_reason == "token_reused"


def test_s11_a_token_used_twice_ends_the_session(ada: User) -> None:
    first = enter(ada)
    other = enter(ada)
    second = refresh_tokens(refresh=first.refresh, now=timezone.now())

    with pytest.raises(InvalidToken):
        refresh_tokens(refresh=first.refresh, now=timezone.now())

    assert refused_with(second.access) == "invalid_token"
    # Somebody's other session is no family of it.
    assert me(other.access).status_code == 200


def test_s11_the_database_holds_digests_only(ada: User) -> None:
    tokens = enter(ada)

    for model in (RefreshToken, Session):
        for row in model.objects.values():
            assert tokens.refresh not in str(row)
            assert tokens.access not in str(row)
    assert len(bytes(RefreshToken.objects.get().digest)) == 32


def test_tokens_and_sessions_grow_old(ada: User, settings: LazySettings) -> None:
    now = timezone.now()
    tokens = enter(ada, now=now)

    with pytest.raises(InvalidToken):
        refresh_tokens(
            refresh=tokens.refresh, now=now + dt.timedelta(seconds=settings.REFRESH_TOKEN_S + 1)
        )
    old = now - dt.timedelta(seconds=settings.SESSION_S + 1)
    enter(ada, now=old)
    assert purge_ended(now=now, limit=10) == 1
    assert Session.objects.count() == 1


# --- S12: guessing --------------------------------------------------------------------------------
def test_s12_guesses_lock_the_guesser_and_nobody_else(ada: User, settings: LazySettings) -> None:
    for _ in range(settings.SIGN_IN_FAILURES_MAX):
        with pytest.raises(InvalidCredentials):
            enter(ada, "wrong-password-here")

    with pytest.raises(TooManyAttempts) as locked:
        enter(ada)

    assert 0 < locked.value.retry_after_s <= settings.SIGN_IN_WINDOW_S
    assert enter(ada, address=ELSEWHERE).access
    later = timezone.now() + dt.timedelta(seconds=settings.SIGN_IN_WINDOW_S + 1)
    assert enter(ada, now=later).access


def test_s12_the_answer_says_when_to_come_back(ada: User, settings: LazySettings) -> None:
    settings.SIGN_IN_FAILURES_MAX = 1
    body = {"email": ada.email, "password": "wrong-password-here"}
    ContractClient().post("/api/v1/auth/token", body)

    answer = ContractClient().post("/api/v1/auth/token", {**body, "password": PASSWORD})

    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert int(answer["Retry-After"]) > 0


@pytest.mark.django_db(transaction=True)
def test_s12_guesses_at_once_are_no_more(ada: User, settings: LazySettings) -> None:
    results = making.at_once([lambda: enter(ada, "wrong-password-here")] * 20)

    looked_at = sum(isinstance(each, InvalidCredentials) for each in results)
    assert looked_at == settings.SIGN_IN_FAILURES_MAX, results
    assert sum(isinstance(each, TooManyAttempts) for each in results) == 20 - looked_at


def test_s12_one_guess_at_each_of_many_is_counted(tenant: Tenant, settings: LazySettings) -> None:
    settings.SIGN_IN_FAILURES_ADDRESS_MAX = 10
    for number in range(10):
        with pytest.raises(InvalidCredentials):
            sign_in(
                email=f"{number}@bank.test",
                password="Winter2026!",
                otp=None,
                address=HERE,
                now=timezone.now(),
            )

    with pytest.raises(TooManyAttempts):
        sign_in(
            email="x@bank.test", password="Winter2026!", otp=None, address=HERE, now=timezone.now()
        )


def test_s12_guesses_from_everywhere_are_counted(ada: User, settings: LazySettings) -> None:
    settings.SIGN_IN_FAILURES_PERSON_MAX = 10
    for number in range(10):
        with pytest.raises(InvalidCredentials):
            enter(ada, "wrong-password-here", address=f"192.0.2.{number}")

    with pytest.raises(TooManyAttempts):
        enter(ada, address="192.0.2.200")


def test_s12_who_goes_on_guessing_locks_out_nobody_else(ada: User, tenant: Tenant) -> None:
    """However often: what is refused for one address counts for nothing wider."""
    for number in range(150):
        with pytest.raises((InvalidCredentials, TooManyAttempts)):
            enter(ada, "wrong-password-here", address=HERE)
        assert number < 5 or SignInFailures.objects.filter(count__gt=5).count() == 1

    assert enter(ada, address=ELSEWHERE).access
    neighbour = making.person(tenant, Role.OPERATOR, password=PASSWORD)
    assert enter(neighbour, address=HERE).access


def test_s12_a_network_of_addresses_is_one_guesser(ada: User, settings: LazySettings) -> None:
    for number in range(settings.SIGN_IN_FAILURES_MAX):
        with pytest.raises(InvalidCredentials):
            enter(ada, "wrong-password-here", address=f"2001:db8:1:2::{number}")

    with pytest.raises(TooManyAttempts):
        enter(ada, address="2001:db8:1:2:ffff::1")
    assert enter(ada, address="2001:db8:1:3::1").access


def test_signing_in_forgives(ada: User, settings: LazySettings) -> None:
    for _ in range(3):
        for _ in range(settings.SIGN_IN_FAILURES_MAX - 1):
            with pytest.raises(InvalidCredentials):
                enter(ada, "wrong-password-here")
        assert enter(ada).access


def test_counts_do_not_tell_addresses(ada: User) -> None:
    with pytest.raises(InvalidCredentials):
        enter(ada, "wrong-password-here")

    assert SignInFailures.objects.count() == 3
    assert not any(ada.email in str(row) for row in SignInFailures.objects.values())


# --- The second factor ---------------------------------------------------------------------------
def code_of(user: User, *, steps: int = 0) -> str:
    device = TOTPDevice.objects.get(user=user)
    return f"{totp(device.bin_key, drift=steps):06d}"


@pytest.fixture
def careful(ada: User) -> tuple[User, list[str]]:
    """Somebody with a second factor, and their recovery codes."""
    begin_enrolment(user=ada)
    confirmed = confirm_enrolment(user=ada, code=code_of(ada), now=timezone.now())
    return ada, confirmed.recovery_codes


def test_a_code_is_asked_for_and_good_once(careful: tuple[User, list[str]]) -> None:
    ada, _ = careful
    with pytest.raises(OtpRequired):
        enter(ada)
    # The code that confirmed the device is used up.
    with pytest.raises(OtpRequired):
        enter(ada, otp=code_of(ada))

    # Slowed down after the wrong one.
    TOTPDevice.objects.filter(user=ada).update(throttling_failure_count=0)
    fresh = code_of(ada, steps=1)
    assert enter(ada, otp=fresh).access
    with pytest.raises(OtpRequired):
        enter(ada, otp=fresh)


def test_a_recovery_code_is_good_once(careful: tuple[User, list[str]]) -> None:
    ada, codes = careful

    assert len(set(codes)) == 10
    assert enter(ada, otp=codes[0]).access
    with pytest.raises(OtpRequired):
        enter(ada, otp=codes[0])


def test_a_wrong_password_does_not_tell_of_the_second_factor(
    careful: tuple[User, list[str]],
) -> None:
    with pytest.raises(InvalidCredentials):
        enter(careful[0], "wrong-password-here", otp="123456")


def test_setting_one_up_ends_sessions_that_began_without(ada: User) -> None:
    tokens = enter(ada)
    begin_enrolment(user=ada)

    confirm_enrolment(user=ada, code=code_of(ada), now=timezone.now())

    assert refused_with(tokens.access) == "invalid_token"


def test_taking_it_away_ends_sessions(careful: tuple[User, list[str]]) -> None:
    ada, codes = careful
    tokens = enter(ada, otp=codes[0])

    reset_second_factor(tenant_id=ada.tenant_id, user_id=ada.pk, reason="x", now=timezone.now())

    assert refused_with(tokens.access) == "invalid_token"
    assert enter(ada).access


def test_a_secret_that_was_shown_before_is_not_the_one_that_counts(ada: User) -> None:
    first = begin_enrolment(user=ada)
    second = begin_enrolment(user=ada)
    assert first.secret != second.secret
    assert begin_enrolment(user=ada, is_going_on=True).secret == second.secret

    set_password(
        tenant_id=ada.tenant_id, user_id=ada.pk, password="quite-another-one", now=timezone.now()
    )
    assert not TOTPDevice.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_pages_opened_at_once_make_one_device(ada: User) -> None:
    results = making.at_once([lambda: begin_enrolment(user=ada)] * 8)

    assert not any(isinstance(each, Exception) for each in results), results
    assert TOTPDevice.objects.count() == 1


def test_staff_without_one_are_sent_to_set_it_up(ada: User, settings: LazySettings) -> None:
    settings.STAFF_SECOND_FACTOR_REQUIRED = True

    answer = ContractClient().post("/api/v1/auth/token", {"email": ada.email, "password": PASSWORD})

    assert (answer.status_code, answer.json()["code"]) == (403, "second_factor_required")
