"""What no log line says, however it gets there; and what it does say."""

from typing import Any
from uuid import UUID

import pytest

from core.redaction import REDACTED, redacted, redacted_text

KEY = "florin_live_0123456789abcdef_" + "a1" * 32
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlLW9mLWl0"
# The test numbers of the card schemes; each passes Luhn.
CARDS = [
    "4111111111111111",
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "5555555555554444",
    "378282246310005",
    "6011000990139424",
    "30569309025904",
]


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("around", ["{}", "card {} declined", '{{"number": "{}"}}', "7 {}", "a{}b"])
def test_card_numbers_keep_their_last_four_digits(card: str, around: str) -> None:
    shown = redacted_text(around.format(card))

    assert card not in shown
    assert f"[card ending {card[-4:]}]" in shown


def test_a_card_number_is_no_safer_as_a_number() -> None:
    assert redacted({"n": 4111111111111111}) == {"n": "[card ending 1111]"}


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111112",
        "01a1fd0d-1182-7336-b446-b8c7a67fa0f1",
        "2026-11-21T07:38:51.123456Z",
        "0.4111111111111111",
    ],
)
def test_other_numbers_are_left_whole(number: str) -> None:
    assert redacted_text(f"value {number} seen") == f"value {number} seen"


@pytest.mark.parametrize("secret", [KEY, JWT, "florin_refresh_c2VjcmV0LXJlZnJlc2gtdG9rZW4"])
@pytest.mark.parametrize(
    "around",
    [
        "Authorization: Bearer {}",
        "bearer {}",
        "{{'Authorization': 'Bearer {}'}}",
        "https://api.test/x?token={}&y=1",
        '{{"refresh":"{}"}}',
        "api_key={}",
    ],
)
def test_credentials_never_show(secret: str, around: str) -> None:
    shown = redacted_text(around.format(secret))

    assert secret.rsplit("_", 1)[-1] not in shown
    assert secret.rsplit(".", 1)[-1] not in shown
    assert REDACTED in shown


def test_a_key_of_ours_shows_its_public_part() -> None:
    assert redacted_text(KEY) == f"florin_live_0123456789abcdef_{REDACTED}"


@pytest.mark.parametrize(
    "name",
    [
        *("password", "new_password1", "Authorization", "HTTP_AUTHORIZATION", "clientSecret"),
        *("refresh", "access", "X-Api-Key", "otp", "cvv", "Set-Cookie", "API_KEY_PEPPER"),
    ],
)
def test_values_under_telling_names_never_show(name: str) -> None:
    for fields in (
        {name: "hunter2"},
        {"deep": [{name: "hunter2"}]},
        {"pairs": [(name, "hunter2")]},
    ):
        assert "hunter2" not in repr(redacted(fields))


@pytest.mark.parametrize("name", ["panel", "pinned", "keyboard", "accessible", "tenant", "status"])
def test_ordinary_names_do_not_hide(name: str) -> None:
    assert redacted({name: "value"}) == {name: "value"}


def test_a_login_in_an_address_is_hidden() -> None:
    shown = redacted_text("connecting to postgres://florin:hunter2@db.example/florin")

    assert shown == f"connecting to postgres://florin:{REDACTED}@db.example/florin"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (UUID(int=1), str(UUID(int=1))),
        ({1}, [1]),
        (float("inf"), "inf"),
        (b"password=hunter2", f"password={REDACTED}"),
    ],
)
def test_values_become_what_json_knows(value: Any, shown: Any) -> None:
    assert redacted(value) == shown


def test_huge_values_are_cut() -> None:
    assert len(redacted_text("x" * 1_000_000)) < 20_000
    assert len(redacted(list(range(1_000)))) == 101
    deep: Any = "end"
    for _ in range(50):
        deep = [deep]
    assert "nested too deeply" in repr(redacted(deep))
