"""
What the database itself refuses to do to gateways' notifications: each rule in the catalog is
attacked with raw SQL, and refuses in its own name.
"""

import pytest

from identity.models import Tenant
from tests.gateways import Sandbox
from tests.test_payment_rules import NEW, Changes, Copies, Scene, models_of, named_rules, refused

COPIES: Copies = [
    ("inbound_event_unique", "event", {"event_id": "event_id"}),
    # Another of the tenant's configurations, or another kind, is no other event.
    (
        "inbound_event_unique",
        "event",
        {"event_id": "event_id", "configuration_id": "'{bank}'", "kind": "'refund'"},
    ),
    ("webhooks_inboundevent_attempts_check", "event", {"attempts": "-1"}),
    ("inbound_attempt_number_unique", "attempt", {"number": "number"}),
    ("webhooks_inboundattempt_number_check", "attempt", {"number": "-1"}),
]
_AS_IT_ARRIVED = [
    f"id = {NEW}",
    "tenant_id = '{other_tenant}'",
    "configuration_id = '{bank}'",
    "gateway = 'xendit'",
    "event_id = 'x'",
    "kind = 'refund'",
    "reference = 'x'",
    "gateway_object_id = 'x'",
    "claimed_state = 'failed'",
    "failure_code = 'x'",
    "status_report = '[]'",
    "body = 'x'",
    "headers = '[]'",
    "received_at = now()",
]
_DONE = "status = 'succeeded'"
_DUE = "status = 'pending', next_attempt_at = now()"
CHANGES: Changes = [
    *(("inbound_event_never_rewritten", "event", [change]) for change in _AS_IT_ARRIVED),
    ("inbound_event_done_once", "event", [_DONE, _DUE]),
    ("inbound_event_done_once", "event", [_DONE, "status = 'failed'"]),
    ("inbound_event_status_known", "event", ["status = 'gone'"]),
    ("inbound_event_due_iff_pending", "event", ["status = 'pending'"]),
    ("inbound_event_due_iff_pending", "event", ["next_attempt_at = now()"]),
    ("inbound_event_due_iff_pending", "event", [_DUE, "next_attempt_at = NULL"]),
    ("inbound_event_due_iff_pending", "event", [_DUE, _DONE]),
    ("webhooks_inboundevent_attempts_check", "event", ["attempts = -1"]),
    ("inbound_attempt_never_changed", "attempt", ["outcome = 'x'"]),
    ("inbound_attempt_never_changed", "attempt", ["number = 9"]),
]
DELETED = [
    ("inbound_event_never_deleted", "DELETE FROM webhooks_inboundevent WHERE false"),
    ("inbound_attempt_never_changed", "DELETE FROM webhooks_inboundattempt"),
]


@pytest.fixture
def scene(tenant: Tenant, other_tenant: Tenant, sandbox: Sandbox) -> Scene:
    return Scene(tenant, other_tenant, sandbox)


def test_a_row_that_keeps_every_rule_is_taken(scene: Scene) -> None:
    """So it is the change that is refused below, and nothing else about the row."""
    assert scene.refusal(scene.copy("event", {})) is None
    assert scene.refusal(scene.copy("attempt", {})) is None
    # Two tenants may be told of one event.
    told = {"event_id": "event_id", "tenant_id": "'{other_tenant}'"}
    assert scene.refusal(scene.copy("event", told)) is None


def test_an_event_goes_the_way_it_should(scene: Scene) -> None:
    """Replayed, tried again, and done."""
    statement = scene.change(
        "event", _DUE, "attempts = attempts + 1", f"{_DONE}, next_attempt_at = NULL"
    )

    assert scene.refusal(statement) is None


def test_each_rule_refuses_in_its_name(scene: Scene) -> None:
    assert refused(scene, COPIES, CHANGES) == []
    assert [(rule, scene.refusal(statement)) for rule, statement in DELETED] == [
        (rule, rule) for rule, _ in DELETED
    ]


def test_no_rule_is_left_without_an_attack(db: None) -> None:
    assert named_rules(models_of("webhooks")) == {
        rule for rule, *_ in [*COPIES, *CHANGES, *DELETED]
    }
