"""
What no log line may say: passwords, keys, tokens, card numbers. Knows nothing of logging.

Two nets: values under a telling name (`password`, `Authorization`), and telling text wherever it
stands. Where the two could be wrong, they take out too much rather than too little.
"""

import datetime as dt
import functools
import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

REDACTED = "[redacted]"
# Limits of one value, so that a huge one costs neither the disk nor the time of a request.
TEXT_LENGTH_MAX = 16_384
ITEMS_MAX = 100
DEPTH_MAX = 6
INTEGER_BITS_MAX = 256
_WORD_LENGTH_MAX = 2_048
# Short enough that no API key of ours is remembered as a name.
_NAME_LENGTH_MAX = 64

CARD_DIGITS_MIN, CARD_DIGITS_MAX = 13, 19
_CARD_NUMBER_MIN = 10 ** (CARD_DIGITS_MIN - 1)

# --- Telling names -----------------------------------------------------------------------------
# Anywhere in a name: `HTTP_AUTHORIZATION`, `clientSecret`, `csrfmiddlewaretoken`.
_TELLING_PARTS = (
    *("authorization", "password", "passwd", "passphrase", "passcode", "secret", "token", "cookie"),
    *("credential", "apikey", "sessionid", "pepper", "cardnumber", "card_number"),
)
# As one of a name's words: `otp_code`, but not `panel` or `pinned`.
_TELLING_WORDS = {"otp", "totp", "pin", "cvv", "cvv2", "cvc", "cvc2", "pan", "pwd", "jwt"}
# As the whole name. `key` also at the end of one: `X-Api-Key`, `idempotency_key`.
_TELLING_NAMES = {"key", "access", "refresh", "card"}
_CAMEL_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

# --- Telling text ------------------------------------------------------------------------------
_NAME = (
    r"(?:authorization|passw(?:or)?d|passphrase|passcode|secret|token|cookie|credential|sessionid"
    r"|pepper|api[ _-]?key|(?<=[a-z0-9])[_-]key|card[ _-]?number)[\w-]{0,32}"
    r"|(?<![a-z])(?:otp|totp|pin|cvv2?|cvc2?|pan|pwd|jwt)(?:[_-]\w{0,32})?(?![a-z])"
)
# Ordinary words, unless they are quoted like a key or followed by "=".
_NAME_IF_QUOTED = r"(?<![a-z])(?:key|access|refresh|card)"
_QUOTE = r"\\*[\"']"
_BETWEEN = (
    rf"{_QUOTE}[ \t]*(?:=>?|:)[ \t]*"
    # A pair, as in a list of headers.
    rf"|{_QUOTE}[ \t]*,[ \t]*(?=[bru]{{0,2}}{_QUOTE})"
)
_VALUE = (
    # A string literal, escaped or not; without its end, what is left of the line.
    rf"[bru]{{0,2}}(?P<quote>{_QUOTE})(?:(?:[^\n]*?[^\\\n])?(?P=quote)|[^\n]*)"
    r"|[\[({][^\])}]*[\])}]?"
    r"|(?:(?:bearer|basic|digest|token)[ \t]+)?[^\s,;&\"'<>)\]}]+"
)
_NAMED = re.compile(
    # A header's line, whose value has blanks and semicolons.
    r"(?P<header>(?:authorization|cookie)[ \t]*:[ \t]*)(?![\"'])[^\n]+"
    rf"|(?P<name>(?:{_NAME})(?:{_BETWEEN}|[ \t]*(?:=>?|:)[ \t]*)"
    rf"|{_NAME_IF_QUOTED}(?:{_BETWEEN}|=))(?:{_VALUE})",
    re.IGNORECASE,
)
_SHAPED = re.compile(
    r"(?P<api_key>florin_(?:live|test)_[0-9a-z]{1,64}_)[\w-]+"
    r"|(?P<bearer>\bbearer(?:[ \t+]|%20)+)[^\s\"',;&<>)\]}]+"
    r"|(?P<jwt>eyJ[\w-]*\.[\w-]+(?:\.[\w-]*)*)"
    # Whoever has a payer's address sees the invoice.
    r"|(?P<payer>/pay/)[\w-]{20,}"
    r"|(?P<login>://[^\s/@:\"'<>]{0,256}:)[^\s\"'<>]{1,1024}@"
    r"|(?P<pem>-----BEGIN [A-Z ]*PRIVATE KEY-----)(?:(?!-----END).)*",
    re.IGNORECASE | re.DOTALL,
)
_LONG_NUMBER = re.compile(
    # Identifiers are left whole: UUIDs, and digests in hexadecimal.
    r"(?P<identifier>(?<![0-9a-f])(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32,})"
    r"(?![0-9a-f]))"
    # Not the digits behind a decimal point.
    r"|(?<![0-9])(?<![0-9]\.)[0-9](?:[ -]?[0-9]){12,}",
    re.IGNORECASE,
)
_DIGITS = re.compile("[0-9]+")
# A replacement costs ten times a search, and most values need none. In lower case, for Python's
# regular expressions are slow where case is not to matter.
_PLAIN = re.compile(r"(?:(?:key|user):)?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_HAS_SHAPE = re.compile("florin_|bearer|eyj|://|/pay/|-----begin")
_HAS_NAME = re.compile(
    "authori|passw|passphrase|passcode|secret|token|cookie|credential|session|pepper|key|card|otp"
    "|pin|cv[vc]|pan|pwd|jwt|access|refresh"
)
_HAS_SEPARATOR = re.compile("[=:\"']")
_HAS_LONG_NUMBER = re.compile("[0-9](?:[ -]?[0-9]){12}")


def without_card_numbers(text: str) -> str:
    """Return the text with each card number in it cut to its last four digits."""
    return _LONG_NUMBER.sub(_without_cards, text) if _HAS_LONG_NUMBER.search(text) else text


def redacted(value: Any, depth: int = 0) -> Any:
    """Return the value without secrets, made of what JSON knows: str, int, float, dict, list."""
    kind = type(value)
    if kind is str:
        return redacted_text(value)
    if value is None or kind is bool:
        return value
    if kind is int or kind is float or isinstance(value, int | float):
        return _number(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, str | Decimal):
        return redacted_text(str(value))
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return redacted_text(bytes(value)[: TEXT_LENGTH_MAX * 2].decode(errors="backslashreplace"))
    if isinstance(value, Mapping | list | tuple | set | frozenset) and depth >= DEPTH_MAX:
        return "[nested too deeply]"
    if isinstance(value, Mapping):
        return redacted_mapping(value, depth)
    if isinstance(value, list | tuple | set | frozenset):
        return _list(value, depth)
    return redacted_text(repr(value))


def redacted_mapping(fields: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
    """Return the mapping without secrets, in its order; keys become text."""
    shown: dict[str, Any] = {}
    for name, value in islice(fields.items(), ITEMS_MAX):
        name = name if type(name) is str else str(redacted(name, depth + 1))
        shown_name, telling = _shown_name(name)
        shown[shown_name] = hidden(value) if telling else redacted(value, depth + 1)
    if len(fields) > ITEMS_MAX:
        shown["..."] = f"{len(fields) - ITEMS_MAX} more"
    return shown


def hidden(value: Any) -> Any:
    """Return what stands for a secret; that there is none is no secret."""
    return value if value is None or isinstance(value, bool) or value == "" else REDACTED


def redacted_text(text: str) -> str:
    """Return the text without secrets, its middle left out where it is too long."""
    if len(text) > TEXT_LENGTH_MAX:
        text = _shortened(text)
    if _PLAIN.fullmatch(text):
        return text
    lower = text.lower()
    if _HAS_SHAPE.search(lower):
        text = _SHAPED.sub(_without_shaped, text)
    if _HAS_SEPARATOR.search(lower) and _HAS_NAME.search(lower):
        text = _NAMED.sub(_without_value, text)
    if _HAS_LONG_NUMBER.search(lower):
        text = _LONG_NUMBER.sub(_without_cards, text)
    return text


def is_telling(name: str) -> bool:
    """Return whether what stands under this name is a secret."""
    return _shown_name(name)[1]


def _shown_name(name: str) -> tuple[str, bool]:
    """Return the name as it may be shown, and whether what stands under it is a secret."""
    if len(name) > _NAME_LENGTH_MAX:
        return redacted_text(name), True
    return _shown_short_name(name)


@functools.lru_cache(maxsize=1024)
def _shown_short_name(name: str) -> tuple[str, bool]:
    snake = re.sub(r"[^a-z0-9]+", "_", _CAMEL_HUMP.sub("_", name).lower()).strip("_")
    telling = (
        snake in _TELLING_NAMES
        or snake.endswith("_key")
        or any(part in snake for part in _TELLING_PARTS)
        or not _TELLING_WORDS.isdisjoint(snake.split("_"))
    )
    return redacted_text(name), telling


def _without_shaped(found: re.Match[str]) -> str:
    if found["jwt"]:
        return REDACTED
    kept = next(
        found[name] for name in ("api_key", "bearer", "payer", "login", "pem") if found[name]
    )
    return f"{kept}{REDACTED}{'@' if found['login'] else ''}"


def _without_value(found: re.Match[str]) -> str:
    quote = found["quote"] or ""
    return f"{found['header'] or found['name']}{quote}{REDACTED}{quote}"


def _without_cards(found: re.Match[str]) -> str:
    """
    Return the run of digits with every card number in it cut to its last four digits.

    A number may stand beside others ("7 4111 1111 1111 1111"), so each group may begin one.
    """
    text = found[0]
    if found["identifier"]:
        return text
    groups = list(_DIGITS.finditer(text))
    shown, end, first = "", 0, 0
    while first < len(groups):
        last = _last_group_of_card(groups, first)
        if last is None:
            first += 1
            continue
        card = "".join(group[0] for group in groups[first : last + 1])
        shown += f"{text[end : groups[first].start()]}[card ending {card[-4:]}]"
        end, first = groups[last].end(), last + 1
    return shown + text[end:]


def _last_group_of_card(groups: list[re.Match[str]], first: int) -> int | None:
    digits, found = "", None
    for index in range(first, len(groups)):
        digits += groups[index][0]
        if len(digits) > CARD_DIGITS_MAX:
            break
        if len(digits) >= CARD_DIGITS_MIN and digits[0] != "0" and _passes_luhn(digits):
            found = index
    return found


def _passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    doubled = (2 * int(digit) for digit in digits[-2::-2])
    return (sum(map(int, digits[::-2])) + sum(n - 9 if n > 9 else n for n in doubled)) % 10 == 0


def _number(value: float) -> float | str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has none of these.
    if -_CARD_NUMBER_MIN < value < _CARD_NUMBER_MIN:
        return value
    if isinstance(value, int) and value.bit_length() > INTEGER_BITS_MAX:
        return f"[integer of {value.bit_length()} bits]"
    text = str(value)
    shown = redacted_text(text)
    return value if shown == text else shown


def _list(values: Iterable[Any], depth: int) -> list[Any]:
    known = list(values)
    if len(known) == 2 and isinstance(known[0], str | bytes):
        name = known[0] if isinstance(known[0], str) else known[0].decode(errors="replace")
        shown_name, telling = _shown_name(name)
        if telling:
            return [shown_name, hidden(known[1])]
    shown = [redacted(value, depth + 1) for value in known[:ITEMS_MAX]]
    return shown if len(known) <= ITEMS_MAX else [*shown, f"{len(known) - ITEMS_MAX} more"]


def _shortened(text: str) -> str:
    """Leave out the middle, and what a cut may have made unrecognisable beside it."""
    half = TEXT_LENGTH_MAX // 2
    head = text[:half]
    last_blank = max(head.rfind(" "), head.rfind("\n"), half - _WORD_LENGTH_MAX)
    head = head[:last_blank].rstrip("0123456789 -")
    # The end of a traceback says what happened; it begins again with a whole line.
    tail = text[-half:].partition("\n")[2]
    left_out = len(text) - len(head) - len(tail)
    return f"{head} [{left_out} characters left out]\n{tail}".rstrip("\n")
