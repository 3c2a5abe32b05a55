"""Exactly once: the record and its effect live and die together."""

import pytest
from django.utils import timezone

from core.changes import record_change
from core.errors import IdempotencyConflict, InvalidState
from core.idempotency import Answer, fingerprint, once
from core.ids import new_id
from core.models import IdempotencyRecord, OutboxEvent

pytestmark = pytest.mark.django_db
TENANT = new_id()


def tell() -> tuple[int, dict[str, str]]:
    record_change(tenant_id=TENANT, action="thing.done", object_id=new_id(), now=timezone.now())
    return 201, {"made": str(new_id())}


def run(key: str = "k", request: str = "r", effect: object = tell) -> Answer:
    return once(
        tenant_id=TENANT,
        key=key,
        request_fingerprint=fingerprint(request),
        now=timezone.now(),
        effect=effect,  # type: ignore[arg-type]
    )


def test_it_works() -> None:
    first, again = run(), run()

    assert (first.status, first.is_replay, again.is_replay) == (201, False, True)
    assert again.body == first.body
    assert OutboxEvent.objects.count() == 1


def test_another_request_with_the_key_is_refused() -> None:
    run()

    with pytest.raises(IdempotencyConflict):
        run(request="other")


def test_a_refusal_keeps_nothing() -> None:
    def refuse() -> tuple[int, object]:
        tell()
        raise InvalidState("no")

    with pytest.raises(InvalidState):
        run(effect=refuse)

    assert not IdempotencyRecord.objects.exists()
    assert not OutboxEvent.objects.exists()
    assert not run().is_replay


def test_fingerprints_tell_requests_apart() -> None:
    different = [
        fingerprint("a", "b"),
        fingerprint("ab"),
        fingerprint("a", None),
        fingerprint("a", ["b"]),
        fingerprint("a", {"b": 1}),
        fingerprint("a", {"b": "1"}),
    ]

    assert len(set(different)) == len(different)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
