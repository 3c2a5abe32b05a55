"""Production starts with secure settings or not at all."""

import os
import re
import subprocess
import sys

import pytest
from django.conf import settings

SECURE = {
    "FLORIN_MODE": "production",
    "SECRET_KEY": "k" * 20 + "abcdefghijklmnopqrstuvwxyz0123456789",
    "API_KEY_PEPPER": "p" * 20 + "abcdefghijklmnopqrstuvwxyz0123456789",
    "ALLOWED_HOSTS": "bank.example",
    "JWT_KEYS": "2026-11:" + "a" * 43,
    "ENCRYPTION_KEYS": "e" * 43 + "=",
    "PUBLIC_URL": "https://bank.example",
    "DATABASE_URL": "postgres://u:p@db.example/florin",
    "REDIS_URL": "redis://redis.example/0",
    "FLORIN_IGNORE_LOCAL_ENV": "1",
}


def start(**changes: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], **SECURE, **changes}
    return subprocess.run(
        [sys.executable, "-c", "import config.settings"],
        cwd=settings.BASE_DIR,
        env={name: value for name, value in env.items() if value != "<none>"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_secure_settings_start() -> None:
    done = start()

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "<none>"),
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", "a" * 80),
        ("API_KEY_PEPPER", "<none>"),
        ("JWT_KEYS", "<none>"),
        ("JWT_KEYS", "2026-11:too-short"),
        ("JWT_KEYS", "no-kid"),
        # The key of development under another name.
        ("JWT_KEYS", "prod:ZGV2ZWxvcG1lbnQtb25seS1zZWNyZXQtcmVmdXNlZCE"),
        ("ENCRYPTION_KEYS", "<none>"),
        ("ENCRYPTION_KEYS", "too-short"),
        # The key of development, beside one of one's own.
        ("ENCRYPTION_KEYS", "e" * 43 + "=,ZGV2ZWxvcG1lbnQtb25seS1zZWNyZXQtcmVmdXNlZCE="),
        ("PUBLIC_URL", "<none>"),
        ("PUBLIC_URL", "http://bank.example"),
        ("METRICS_TOKEN", "short"),
        ("API_KEY_PEPPER", SECURE["SECRET_KEY"]),
        ("DEBUG", "1"),
        ("ALLOWED_HOSTS", "<none>"),
        ("ALLOWED_HOSTS", "*"),
        ("DATABASE_URL", "<none>"),
        ("REDIS_URL", "<none>"),
    ],
)
def test_an_insecure_setting_is_named(name: str, value: str) -> None:
    done = start(**{name: value})

    assert done.returncode != 0
    assert "Production refuses to start" in done.stderr
    assert name in done.stderr


def test_an_unknown_mode_is_refused() -> None:
    assert "FLORIN_MODE is either" in start(FLORIN_MODE="staging").stderr


def test_every_variable_is_documented() -> None:
    source = (settings.BASE_DIR / "config" / "settings.py").read_text()
    documented = (settings.BASE_DIR / "docs" / "configuration.md").read_text()
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', source))

    assert len(read) > 15
    assert {name for name in read if f"`{name}`" not in documented} == set()


def test_requests_are_not_transactions() -> None:
    assert settings.DATABASES["default"]["ATOMIC_REQUESTS"] is False
    assert settings.DATABASES["default"]["OPTIONS"]["tcp_user_timeout"] > 0
    assert "lock_timeout" in settings.DATABASES["default"]["OPTIONS"]["options"]
    assert "statement_timeout" in settings.DATABASES["default"]["OPTIONS"]["options"]
