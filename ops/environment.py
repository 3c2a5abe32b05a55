"""What the processes of this checkout are told: .local/env, and the environment, which wins."""

import os
import secrets
from collections.abc import Callable, Mapping

from ops.files import read_variables, write_variables
from ops.layout import LOCAL

ENV_FILE = LOCAL / "env"
# Written by `manage.py seed_demo`.
DEMO_FILE = LOCAL / "demo.env"

_SERVERS = ("DATABASE_URL", "REDIS_URL")
_MADE_ONCE: dict[str, Callable[[], str]] = {
    "SECRET_KEY": lambda: secrets.token_urlsafe(64),
    "API_KEY_PEPPER": lambda: secrets.token_urlsafe(64),
    # As `manage.py make_jwt_key` makes them: 32 bytes, and a name.
    "JWT_KEYS": lambda: f"local:{secrets.token_urlsafe(32)}",
    # As `manage.py make_encryption_key` makes them: 32 bytes, with base64's last sign.
    "ENCRYPTION_KEYS": lambda: secrets.token_urlsafe(32) + "=",
}


def is_given(name: str) -> bool:
    """Whether the environment sets a variable, itself or by the name of a file that holds it."""
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def write_env_file(
    embedded: Mapping[str, str], others: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Write .local/env: the servers' URLs, the secrets that the first start made, and `others`.

    Returns the environment for the processes of Florin, in which a variable that is set wins.
    """
    kept = read_variables(ENV_FILE)
    variables = {"FLORIN_MODE": "development"}
    for name, make in _MADE_ONCE.items():
        variables[name] = kept.get(name) or make()
    for name in _SERVERS:
        if url := os.environ.get(name) or embedded.get(name):
            variables[name] = url
    variables.update(others or {})
    write_variables(ENV_FILE, variables)
    return {**variables, **{name: value for name, value in os.environ.items() if value}}
