"""Versions of what people edit: two who change one object must not undo each other unseen."""

import hashlib
from collections.abc import Mapping
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from core.errors import PreconditionFailed

_encode = DjangoJSONEncoder(sort_keys=True, separators=(",", ":")).encode


def version_of(fields: Mapping[str, Any]) -> str:
    """Return a name for these values: equal for equal values, and for no others."""
    return hashlib.sha256(_encode(dict(fields)).encode()).hexdigest()[:32]


def refuse_unless_as_seen(version: str, as_seen: str | None) -> None:
    """
    Refuse a change that was decided on another version; None: the caller does not mind.

    :raises PreconditionFailed: the versions differ
    """
    if as_seen not in (None, "*", version):
        raise PreconditionFailed("It has changed since you read it. Read it again, then decide.")
