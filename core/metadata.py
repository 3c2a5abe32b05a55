"""What callers may hang on an object of theirs: a small object of strings."""

from typing import Any

KEYS_MAX = 50
KEY_LENGTH_MAX = 64
VALUE_LENGTH_MAX = 500


def metadata_fault(given: Any) -> str | None:
    """Return what is wrong with it as a sentence; None if it may be stored."""
    if not isinstance(given, dict):
        return "Must be an object of strings."
    if len(given) > KEYS_MAX:
        return f"At most {KEYS_MAX} keys."
    for key, value in given.items():
        if not 1 <= len(key) <= KEY_LENGTH_MAX:
            return f"A key has 1 to {KEY_LENGTH_MAX} characters."
        if not isinstance(value, str) or len(value) > VALUE_LENGTH_MAX:
            return f"A value is a string of at most {VALUE_LENGTH_MAX} characters."
        if "\x00" in key or "\x00" in value:
            return "The NUL character cannot be stored."
        if any("\ud800" <= character <= "\udfff" for character in key + value):
            return "Half of a surrogate pair cannot be stored."
    return None
