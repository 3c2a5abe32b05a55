"""Tenants, people, their sessions, and API keys: every change of them."""

from identity.services.clocks import ADVANCE_MAX, advance_test_clock, start_test_clock
from identity.services.ending import end_sessions
from identity.services.keys import (
    NOTED_EVERY,
    OVERLAP_MAX_S,
    RATE_LIMIT_MAX,
    IssuedKey,
    create_api_key,
    note_refusal,
    note_use,
    revoke_api_key,
    rotate_api_key,
)
from identity.services.people import change_user, create_user, set_password
from identity.services.second_factor import (
    CODE_LENGTH_MAX,
    Confirmed,
    Enrolment,
    begin_enrolment,
    confirm_enrolment,
    device_of_code,
    has_second_factor,
    reset_second_factor,
)
from identity.services.sessions import (
    REFRESH_LENGTH_MAX,
    Tokens,
    authenticated_user,
    begin_session,
    purge_ended,
    record_back_office_session,
    refresh_tokens,
    sign_in,
    sign_out,
)
from identity.services.tenants import create_tenant, tenant_named

__all__ = [
    "ADVANCE_MAX",
    "CODE_LENGTH_MAX",
    "NOTED_EVERY",
    "OVERLAP_MAX_S",
    "RATE_LIMIT_MAX",
    "REFRESH_LENGTH_MAX",
    "Confirmed",
    "Enrolment",
    "IssuedKey",
    "Tokens",
    "advance_test_clock",
    "authenticated_user",
    "begin_enrolment",
    "begin_session",
    "change_user",
    "confirm_enrolment",
    "create_api_key",
    "create_tenant",
    "create_user",
    "device_of_code",
    "end_sessions",
    "has_second_factor",
    "note_refusal",
    "note_use",
    "purge_ended",
    "record_back_office_session",
    "refresh_tokens",
    "reset_second_factor",
    "revoke_api_key",
    "rotate_api_key",
    "set_password",
    "sign_in",
    "sign_out",
    "start_test_clock",
    "tenant_named",
]
