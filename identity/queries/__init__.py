"""Who a credential speaks for."""

from identity.queries.actors import actor_names
from identity.queries.clocks import test_clock_of
from identity.queries.keys import credential_digest, forget_verified_keys, principal_of_key
from identity.queries.people import Identity, users_with_second_factor, who_is
from identity.queries.tenants import tenant_and_its_clock
from identity.queries.tokens import (
    AccessToken,
    access_token,
    principal_of_token,
    public_keys,
    signing_keys,
)

__all__ = [
    "AccessToken",
    "Identity",
    "access_token",
    "actor_names",
    "credential_digest",
    "forget_verified_keys",
    "principal_of_key",
    "principal_of_token",
    "public_keys",
    "signing_keys",
    "tenant_and_its_clock",
    "test_clock_of",
    "users_with_second_factor",
    "who_is",
]
