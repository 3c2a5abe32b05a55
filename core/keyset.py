"""Pages of a queryset by one unique column: each costs the same on the first and millionth row."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core import signing
from django.db.models import Model, QuerySet

from core.errors import InvalidRequest

M = TypeVar("M", bound=Model)
_NEXT, _PREVIOUS = "n", "p"


@dataclass(frozen=True, slots=True)
class KeysetPage(Generic[M]):
    """Rows, highest key first, and the cursors of the pages beside it; None: there is none."""

    rows: list[M]
    next: str | None
    previous: str | None


def keyset_page(
    queryset: QuerySet[M], *, key: str, limit: int, cursor: str | None, of: str
) -> KeysetPage[M]:
    """
    Return the page that the cursor leads to; without one, the first. No COUNT, no OFFSET.

    `of` names the list: a cursor is signed for one list and means nothing to another. What a client
    cannot make up, it cannot rely on.

    :raises InvalidRequest: the cursor is not one of this list's
    """
    signer = signing.Signer(salt=of)
    is_backward, position = False, None
    if cursor is not None:
        try:
            direction, position = signer.unsign_object(cursor)
        except signing.BadSignature:
            raise InvalidRequest("The cursor is not one of this list's.", field="cursor") from None
        is_backward = direction == _PREVIOUS
        queryset = queryset.filter(**{f"{key}__{'gt' if is_backward else 'lt'}": position})
    # One more than asked: whether there is another page costs no second query.
    rows = list(queryset.order_by(key if is_backward else f"-{key}")[: limit + 1])
    is_cut = len(rows) > limit
    rows = rows[:limit]
    if is_backward:
        rows.reverse()

    def link(direction: str, row: M) -> str:
        value: Any = getattr(row, key)
        return signer.sign_object([direction, value if isinstance(value, int) else str(value)])

    has_next = is_backward or is_cut
    has_previous = is_cut if is_backward else cursor is not None
    return KeysetPage(
        rows,
        next=link(_NEXT, rows[-1]) if rows and has_next else None,
        previous=link(_PREVIOUS, rows[0]) if rows and has_previous else None,
    )
