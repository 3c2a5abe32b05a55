"""What those who act are called, by their names in the audit trail."""

from collections.abc import Iterable
from uuid import UUID

from identity.models import ApiKey, User


def actor_names(*, tenant_id: UUID, actor_ids: Iterable[str]) -> dict[str, str]:
    """
    Return what people and keys are called, and the system itself; two queries at most.

    Who is not known any more, or has no name, is not in it.
    """
    ids: dict[str, list[UUID]] = {"user": [], "key": []}
    names: dict[str, str] = {}
    for actor_id in actor_ids:
        kind, _, text = actor_id.partition(":")
        found = _as_id(text)
        if kind in ids and found is not None:
            ids[kind].append(found)
        elif kind in ("task", "system"):
            names[actor_id] = "by itself"
    if ids["user"]:
        people = User.objects.filter(pk__in=ids["user"]).values_list("pk", "email")
        names |= {f"user:{pk}": email for pk, email in people}
    if ids["key"]:
        keys = ApiKey.objects.filter(tenant_id=tenant_id, pk__in=ids["key"])
        names |= {f"key:{pk}": f"API key {name}" for pk, name in keys.values_list("pk", "name")}
    return names


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
