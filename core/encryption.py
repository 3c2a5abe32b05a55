"""
Secrets that must be read again, such as a gateway's credentials: encrypted where they are kept.

By Fernet (AES-128-CBC and HMAC-SHA256) under ENCRYPTION_KEYS: the first encrypts, all decrypt. What
is encrypted names its place, so that a ciphertext moved to another row opens nothing there.
"""

import functools
import json

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class Undecryptable(RuntimeError):
    """The ciphertext is not of this place, or its key is gone."""


def encrypt(clear: str, *, place: str) -> bytes:
    """Return the ciphertext for `place`, such as "gateway:<id>:credentials"."""
    sealed = json.dumps({"place": place, "clear": clear})
    return _keys(tuple(settings.ENCRYPTION_KEYS)).encrypt(sealed.encode())


def decrypt(ciphertext: bytes | memoryview, *, place: str) -> str:
    """
    Return what was encrypted for `place`.

    :raises Undecryptable: encrypted for another place, altered, or by a key that is gone
    """
    try:
        sealed = json.loads(_keys(tuple(settings.ENCRYPTION_KEYS)).decrypt(bytes(ciphertext)))
    except InvalidToken as error:
        raise Undecryptable(f"what is kept for {place} does not open") from error
    if sealed["place"] != place:
        raise Undecryptable(f"what is kept for {place} was made for another place")
    clear: str = sealed["clear"]
    return clear


def encrypted_anew(ciphertext: bytes | memoryview) -> bytes:
    """
    Return the same secret under the first key.

    :raises Undecryptable: altered, or by a key that is gone
    """
    try:
        return _keys(tuple(settings.ENCRYPTION_KEYS)).rotate(bytes(ciphertext))
    except InvalidToken as error:
        raise Undecryptable("no key opens it") from error


def new_key() -> str:
    """Return a key for ENCRYPTION_KEYS."""
    return Fernet.generate_key().decode()


@functools.lru_cache(maxsize=4)
def _keys(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
