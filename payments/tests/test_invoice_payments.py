"""
Payments that are for an invoice: written down with a decision of somebody above, sent, deposited,
paid back and taken back through the sandbox; and what whoever listens is told of it.
"""

import datetime as dt
from typing import Any
from uuid import UUID

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import OperationalError, transaction
from django.utils import timezone

from accounts.services import internal_account
from core.changes import record_for_audit
from core.errors import DomainError, IdempotencyConflict, InvalidState, NotFound, Unavailable
from core.models import AuditRecord, OutboxEvent
from core.money import Money
from identity.models import Tenant
from ledger.queries import transaction_by_key, transaction_of
from payments.errors import CardDataRefused, CurrencyNotSupported, NoGateway, RefundExceedsPayment
from payments.gateways.port import CardData
from payments.models import Discrepancy, GatewayConfiguration, Payment, Refund
from payments.queries import payment_of
from payments.services import (
    REFERENCE_MAX,
    Collection,
    PaymentListener,
    begin_collection,
    begin_refund,
    delete_gateway,
    gateways_for,
    listen,
    reconcile,
    send_collection,
    send_refund,
)
from payments.services import listening as registry
from tests import gateway_scenes as scenes
from tests import gateways, making
from tests.contract import ContractClient
from tests.gateways import Sandbox, add_sandbox, add_xendit, fresh, steps_at

pytestmark = pytest.mark.django_db(transaction=True)

AMOUNT = 5_000
REFERENCE = "INV-2026-000001-1"
LOST_ANSWER = "4000000000000119"
NOWHERE = "http://127.0.0.1:9"


class Recorder:
    """An app above: it writes down what it is told, and refuses or fails if a test wants it to."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.refusal: DomainError | None = None
        self.fault: Exception | None = None
        # What the account had each time.
        self.locked_at: list[int] = []

    def lock(self, payment: Payment) -> None:
        self.locked_at.append(making.balance_of(payment.account_id))

    def deposited(self, payment: Payment, *, now: dt.datetime) -> None:
        self._look_for_lock(payment)
        assert payment.transaction_id is not None
        posted = transaction_of(tenant_id=payment.tenant_id, transaction_id=payment.transaction_id)
        self.told.append(("deposited", payment.status, posted.type, posted.amount))
        record_for_audit(tenant_id=payment.tenant_id, action="recorder.deposited", now=now)
        if self.refusal is not None:
            raise self.refusal

    def moved(self, payment: Payment, *, before: str, now: dt.datetime) -> None:
        assert fresh(payment).status == payment.status
        self.told.append(("moved", before, payment.status))
        if self.fault is not None and payment.status == Payment.Status.DEPOSITED:
            raise self.fault

    def taken_back(self, payment: Payment, amount: int, *, now: dt.datetime) -> None:
        self.told.append(("taken_back", amount, making.balance_of(payment.account_id)))

    def refund_ended(self, refund: Refund, *, now: dt.datetime) -> None:
        saved = Refund.objects.get(pk=refund.pk)
        self.told.append(("refund_ended", saved.status, refund.amount))

    def _look_for_lock(self, payment: Payment) -> None:
        """Have somebody else try to lock the payment meanwhile."""

        def lock() -> None:
            with transaction.atomic():
                Payment.objects.select_for_update(no_key=True, nowait=True).get(pk=payment.pk)

        [result] = making.at_once([lock])
        assert isinstance(result, OperationalError), result

    def heard(self, *what: str) -> list[tuple[Any, ...]]:
        return [each for each in self.told if each[0] in what]


@pytest.fixture(autouse=True)
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Whoever listens to payments of invoices, instead of whoever does outside of this test."""
    monkeypatch.setattr(registry, "LISTENERS", {})
    made = Recorder()
    listen("invoice", made)
    return made


@pytest.fixture
def line(sandbox: Sandbox, tenant: Tenant) -> GatewayConfiguration:
    return add_sandbox(tenant)


@pytest.fixture
def receivable(tenant: Tenant) -> UUID:
    return receivable_of(tenant)


def receivable_of(tenant: Tenant) -> UUID:
    now = timezone.now()
    return internal_account(tenant_id=tenant.pk, role="receivable", currency="USD", now=now)


def collection_for(receivable: UUID, number: str = "", **values: Any) -> Collection:
    """Return what is to be asked: by a test card, or on a page of the gateway."""
    return Collection(
        **{
            "account_id": receivable,
            "amount": Money(AMOUNT, "USD"),
            "idempotency_key": making.fresh_key(),
            "reference": REFERENCE,
            "card": CardData(number, 12, 2099, "123") if number else None,
            **values,
        }
    )


def begun(tenant: Tenant, collection: Collection, **choice: Any) -> Payment:
    with transaction.atomic():
        return begin_collection(
            tenant_id=tenant.pk,
            collection=collection,
            choices=choices_for(tenant, collection, **choice),
            now=timezone.now(),
        )


def choices_for(
    tenant: Tenant, collection: Collection, gateway: str | None = None
) -> list[GatewayConfiguration]:
    return gateways_for(
        tenant_id=tenant.pk,
        currency=collection.amount.currency,
        gateway=gateway,
        is_card=collection.card is not None,
    )


def collected(tenant: Tenant, receivable: UUID, number: str = gateways.GOOD_CARD) -> Payment:
    """Ask for 50.00, and return the payment, whatever came of it."""
    collection = collection_for(receivable, number)
    payment, choices = begun(tenant, collection), choices_for(tenant, collection)
    return send_collection(payment, collection, choices, now=timezone.now())


def refund_begun(payment: Payment, amount: int | None = None, **values: Any) -> tuple[Refund, bool]:
    return begin_refund(
        **{
            "tenant_id": payment.tenant_id,
            "payment_id": payment.pk,
            "amount": amount,
            "reason": "Credit note",
            "idempotency_key": making.fresh_key(),
            "now": timezone.now(),
            **values,
        }
    )


def refunded(payment: Payment, amount: int | None = None, **values: Any) -> Refund:
    with transaction.atomic():
        refund, _ = refund_begun(payment, amount, **values)
    return send_refund(refund, now=timezone.now())


def reversed_by(sandbox: Sandbox, payment: Payment) -> None:
    """The card's bank takes the payment back, and the gateway says so."""
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
    scenes.heard(sandbox, payment.configuration, "payment.reversed")


def was_heard_by_recorder() -> bool:
    return AuditRecord.objects.filter(action="recorder.deposited").exists()


# --- Collecting -----------------------------------------------------------------------------------


def test_it_works(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID, recorder: Recorder
) -> None:
    payment = collected(tenant, receivable)

    assert (payment.status, payment.purpose, payment.reference) == (
        "deposited",
        "invoice",
        REFERENCE,
    )
    assert making.balance_of(receivable) == AMOUNT
    posted = transaction_by_key(
        tenant_id=tenant.pk, idempotency_key=f"invoice_payment {payment.pk}"
    )
    assert posted is not None
    assert (posted.pk, posted.type) == (payment.transaction_id, "invoice_payment")
    assert posted.metadata == {"payment_id": str(payment.pk)}
    assert recorder.told == [
        ("moved", "created", "paid"),
        ("deposited", "paid", "invoice_payment", AMOUNT),
        ("moved", "paid", "deposited"),
    ]
    call_command("verify_ledger")


def test_its_events_are_those_of_an_invoice_payment(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID
) -> None:
    payment = collected(tenant, receivable)

    events = OutboxEvent.objects.filter(resource_id=payment.pk).order_by("pk")
    assert list(events.values_list("event_type", flat=True)) == [
        "invoice_payment.created",
        "invoice_payment.paid",
        "invoice_payment.deposited",
    ]


def test_nobody_need_listen(
    line: GatewayConfiguration,
    tenant: Tenant,
    receivable: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "LISTENERS", {})

    assert collected(tenant, receivable).status == "deposited"
    assert making.balance_of(receivable) == AMOUNT


def test_the_payer_pays_on_a_page(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    recorder: Recorder,
) -> None:
    payment = collected(tenant, receivable, "")
    assert (payment.status, payment.method) == ("pending", "hosted")
    assert payment.redirect_url.startswith(sandbox.url)

    sandbox.act(f"payments/{payment.gateway_payment_id}/pay")
    scenes.heard(sandbox, line, "payment.succeeded")

    assert fresh(payment).status == "deposited"
    assert making.balance_of(receivable) == AMOUNT
    assert recorder.heard("moved") == [
        ("moved", "created", "pending"),
        ("moved", "pending", "paid"),
        ("moved", "paid", "deposited"),
    ]


def test_a_lost_answer_is_asked_for_and_told_once(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    recorder: Recorder,
) -> None:
    payment = collected(tenant, receivable, LOST_ANSWER)
    assert payment.status == "unknown"

    for minutes in (2, 10):
        steps_at(scenes.later(minutes))

    assert fresh(payment).status == "deposited"
    assert making.balance_of(receivable) == AMOUNT
    assert len(recorder.heard("deposited")) == 1
    assert len(sandbox.requests("create_payment")) == 1


def test_a_collection_that_is_undone_leaves_nothing(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant, receivable: UUID
) -> None:
    collection = collection_for(receivable, gateways.GOOD_CARD)

    with transaction.atomic():
        begun(tenant, collection)
        transaction.set_rollback(True)

    assert not Payment.objects.exists()
    assert sandbox.requests("create_payment") == []


def test_a_collection_that_was_never_sent_fails_by_itself(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    recorder: Recorder,
) -> None:
    payment = begun(tenant, collection_for(receivable, gateways.GOOD_CARD))

    for minutes in (2, 10):
        steps_at(scenes.later(minutes))

    assert fresh(payment).status == "failed"
    assert recorder.heard("moved")[-1] == ("moved", "unknown", "failed")
    assert sandbox.requests("create_payment") == []


# --- References -----------------------------------------------------------------------------------


def test_a_fallback_to_another_gateway_says_which_attempt_it_is(
    sandbox: Sandbox, tenant: Tenant, receivable: UUID, recorder: Recorder
) -> None:
    sandbox.settings.GATEWAY_URLS[("xendit", "test")] = NOWHERE
    add_xendit(tenant, priority=1)
    line = add_sandbox(tenant, priority=2)

    payment = collected(tenant, receivable, "")

    assert (payment.reference, payment.attempt) == (f"{REFERENCE}-2", 2)
    assert payment.configuration_id == line.pk
    assert [each["reference"] for each in sandbox.objects(f"{REFERENCE}-2")] == [f"{REFERENCE}-2"]
    # It has been `created` all the while.
    assert recorder.told == [("moved", "created", "pending")]


def test_where_no_gateway_is_reached_it_fails_and_says_so(
    sandbox: Sandbox, tenant: Tenant, receivable: UUID, recorder: Recorder
) -> None:
    sandbox.settings.GATEWAY_URLS[("xendit", "test")] = NOWHERE
    add_xendit(tenant)

    with pytest.raises(Unavailable):
        collected(tenant, receivable, "")

    [payment] = Payment.objects.all()
    assert (payment.status, payment.failure_code) == ("failed", "gateway_unreachable")
    assert recorder.told == [("moved", "created", "failed")]


def test_a_reference_is_unique_in_the_tenant(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID
) -> None:
    begun(tenant, collection_for(receivable))

    with scenes.refused_by("payment_reference_unique"):
        begun(tenant, collection_for(receivable))


def test_tenants_may_use_the_same_reference(
    line: GatewayConfiguration, tenant: Tenant, other_tenant: Tenant, receivable: UUID
) -> None:
    add_sandbox(other_tenant)

    ours = begun(tenant, collection_for(receivable))
    theirs = begun(other_tenant, collection_for(receivable_of(other_tenant)))

    assert ours.reference == theirs.reference


@pytest.mark.parametrize("reference", ["", "x" * (REFERENCE_MAX + 1)])
def test_a_reference_leaves_room_for_the_attempt(receivable: UUID, reference: str) -> None:
    with pytest.raises(ValueError, match="characters"):
        collection_for(receivable, reference=reference)


def test_the_longest_reference_fits_with_the_most_attempts(receivable: UUID) -> None:
    longest = collection_for(receivable, reference="x" * REFERENCE_MAX)

    field = Payment._meta.get_field("reference")
    assert len(longest.reference_at(receivable, 999)) == field.max_length


# --- Gateways and cards ---------------------------------------------------------------------------


def test_card_numbers_go_to_the_sandbox_only(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID
) -> None:
    add_xendit(tenant, priority=1)

    by_card = choices_for(tenant, collection_for(receivable, gateways.GOOD_CARD))
    by_page = choices_for(tenant, collection_for(receivable))

    assert [each.gateway for each in by_card] == ["sandbox"]
    assert [each.gateway for each in by_page] == ["xendit", "sandbox"]


def test_without_the_sandbox_a_card_number_is_refused(
    sandbox: Sandbox, tenant: Tenant, receivable: UUID
) -> None:
    add_xendit(tenant)

    with pytest.raises(CardDataRefused):
        choices_for(tenant, collection_for(receivable, gateways.GOOD_CARD))


def test_a_card_number_for_another_gateway_is_refused_however_it_was_chosen(
    sandbox: Sandbox, tenant: Tenant, receivable: UUID
) -> None:
    choices = [add_sandbox(tenant), add_xendit(tenant)]
    collection = collection_for(receivable, gateways.GOOD_CARD)

    with pytest.raises(CardDataRefused), transaction.atomic():
        begin_collection(
            tenant_id=tenant.pk, collection=collection, choices=choices, now=timezone.now()
        )

    assert not Payment.objects.exists()


def test_a_number_that_may_be_somebodys_is_refused(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID
) -> None:
    with pytest.raises(CardDataRefused):
        begun(tenant, collection_for(receivable, "5555555555554444"))

    assert not Payment.objects.exists()


def test_a_collection_shows_no_card_and_no_token(receivable: UUID) -> None:
    collection = collection_for(receivable, gateways.GOOD_CARD, token="tok_secret")

    assert gateways.GOOD_CARD not in repr(collection)
    assert "tok_secret" not in repr(collection)


def test_without_a_gateway_nothing_can_be_asked(tenant: Tenant, receivable: UUID) -> None:
    with pytest.raises(NoGateway):
        choices_for(tenant, collection_for(receivable))


def test_a_named_gateway_has_to_take_the_currency(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID
) -> None:
    collection = collection_for(receivable, amount=Money(AMOUNT, "JPY"))

    with pytest.raises(CurrencyNotSupported):
        choices_for(tenant, collection, gateway="sandbox")


# --- Refused deposits -----------------------------------------------------------------------------


def test_a_listener_that_refuses_keeps_the_deposit_from_being_posted(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID, recorder: Recorder
) -> None:
    recorder.refusal = InvalidState("The invoice is void.")

    payment = collected(tenant, receivable)

    assert (payment.status, payment.deposit_refusal) == ("deposit_pending", "invalid_state")
    assert fresh(payment).transaction_id is None
    assert making.balance_of(receivable) == 0
    key = f"invoice_payment {payment.pk}"
    assert transaction_by_key(tenant_id=tenant.pk, idempotency_key=key) is None
    assert not was_heard_by_recorder()
    assert scenes.open_kinds() == ["not_deposited"]
    call_command("verify_ledger")


def test_what_was_refused_is_deposited_by_the_next_step(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID, recorder: Recorder
) -> None:
    recorder.refusal = InvalidState("Not yet.")
    payment = collected(tenant, receivable)
    recorder.refusal = None

    steps_at(scenes.later(2))

    assert (fresh(payment).status, fresh(payment).attention) == ("deposited", "")
    assert making.balance_of(receivable) == AMOUNT
    assert was_heard_by_recorder()
    assert scenes.open_kinds() == []
    call_command("verify_ledger")


def test_a_person_has_what_was_refused_deposited(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID, recorder: Recorder
) -> None:
    recorder.refusal = InvalidState("Not yet.")
    payment = collected(tenant, receivable)
    recorder.refusal = None

    scenes.resolved(Discrepancy.objects.get(), "deposited")

    assert fresh(payment).status == "deposited"
    assert making.balance_of(receivable) == AMOUNT


def test_a_person_has_what_was_refused_paid_back(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    recorder: Recorder,
) -> None:
    recorder.refusal = InvalidState("The invoice is void.")
    payment = collected(tenant, receivable)

    scenes.resolved(Discrepancy.objects.get(), "refunded")
    sandbox.advance(5)
    steps_at(scenes.later(2))

    assert fresh(payment).status == "refunded"
    assert making.balance_of(receivable) == 0
    assert recorder.heard("refund_ended") == [("refund_ended", "succeeded", AMOUNT)]
    call_command("verify_ledger")


def test_what_stays_refused_is_paid_back_by_itself(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    recorder: Recorder,
) -> None:
    recorder.refusal = InvalidState("The invoice is void.")
    payment = collected(tenant, receivable)

    steps_at(scenes.later(8 * scenes.DAY))
    sandbox.advance(5)
    steps_at(scenes.later(8 * scenes.DAY + 5))

    assert fresh(payment).status == "refunded"
    assert making.balance_of(receivable) == 0


def test_what_the_listener_writes_stands_or_falls_with_the_deposit(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID, recorder: Recorder
) -> None:
    recorder.fault = RuntimeError("a fault of the app above")

    with pytest.raises(RuntimeError):
        collected(tenant, receivable)

    [payment] = Payment.objects.all()
    assert (payment.status, payment.transaction_id) == ("paid", None)
    assert making.balance_of(receivable) == 0
    assert not was_heard_by_recorder()

    recorder.fault = None
    steps_at(scenes.later(2))

    assert fresh(payment).status == "deposited"
    assert making.balance_of(receivable) == AMOUNT
    assert was_heard_by_recorder()
    call_command("verify_ledger")


# --- Refunds --------------------------------------------------------------------------------------


def test_a_refund_is_begun_with_a_decision_and_sent_after(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    recorder: Recorder,
) -> None:
    payment = collected(tenant, receivable)

    with transaction.atomic():
        refund, is_new = refund_begun(payment, 2_000)
        assert (is_new, refund.status) == (True, "created")
        assert sandbox.requests("refund") == []
    assert making.balance_of(receivable) == AMOUNT - 2_000
    send_refund(refund, now=timezone.now())
    sandbox.advance(5)
    steps_at(scenes.later(2))

    assert fresh(payment).refunded_amount == 2_000
    assert recorder.heard("refund_ended") == [("refund_ended", "succeeded", 2_000)]
    assert refund.transaction_id is not None
    posted = transaction_of(tenant_id=tenant.pk, transaction_id=refund.transaction_id)
    assert posted.metadata == {"payment_id": str(payment.pk), "refund_id": str(refund.pk)}
    call_command("verify_ledger")


def test_a_refund_that_is_undone_leaves_nothing(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant, receivable: UUID
) -> None:
    payment = collected(tenant, receivable)

    with transaction.atomic():
        refund_begun(payment)
        transaction.set_rollback(True)

    assert not Refund.objects.exists()
    assert making.balance_of(receivable) == AMOUNT
    assert fresh(payment).status == "deposited"
    steps_at(scenes.later(2))
    assert sandbox.requests("refund") == []


def test_a_refund_that_is_refused_leaves_the_callers_transaction_usable(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID
) -> None:
    payment = collected(tenant, receivable)

    with transaction.atomic():
        with pytest.raises(RefundExceedsPayment):
            refund_begun(payment, AMOUNT + 1)
        refund_begun(payment, AMOUNT)

    assert Refund.objects.get().amount == AMOUNT


def test_a_refund_of_the_same_key_is_begun_once(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID
) -> None:
    payment = collected(tenant, receivable)

    first, _ = refund_begun(payment, 100, idempotency_key="credit note 1")
    again, is_new = refund_begun(payment, 100, idempotency_key="credit note 1")

    assert (again.pk, is_new) == (first.pk, False)
    assert making.balance_of(receivable) == AMOUNT - 100
    with pytest.raises(IdempotencyConflict):
        refund_begun(payment, 101, idempotency_key="credit note 1")


def test_a_refund_that_fails_is_told_with_the_money_back(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    recorder: Recorder,
) -> None:
    payment = collected(tenant, receivable)
    refund = refunded(payment, 2_000, reason="sim:pending")
    assert making.balance_of(receivable) == AMOUNT - 2_000

    sandbox.act(f"refunds/{refund.gateway_refund_id}/fail")
    steps_at(scenes.later(10))

    assert making.balance_of(receivable) == AMOUNT
    assert recorder.heard("refund_ended") == [("refund_ended", "failed", 2_000)]


# --- What is taken back ---------------------------------------------------------------------------


def test_a_charge_back_is_told_with_what_it_took(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    recorder: Recorder,
) -> None:
    payment = collected(tenant, receivable)

    reversed_by(sandbox, payment)

    assert fresh(payment).status == "reversed"
    assert recorder.told[-2:] == [
        ("taken_back", AMOUNT, 0),
        ("moved", "deposited", "reversed"),
    ]
    call_command("verify_ledger")


def test_of_a_payment_that_went_back_in_part_the_rest_is_taken_back(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    recorder: Recorder,
) -> None:
    payment = collected(tenant, receivable)
    refund = refunded(payment, 2_000, reason="sim:pending")

    reversed_by(sandbox, payment)
    # What the refund had comes back to the account, and out of it again.
    sandbox.act(f"refunds/{refund.gateway_refund_id}/fail")
    steps_at(scenes.later(10))

    assert recorder.heard("taken_back", "refund_ended") == [
        ("taken_back", AMOUNT - 2_000, 0),
        ("refund_ended", "failed", 2_000),
    ]
    assert making.balance_of(receivable) == 0
    call_command("verify_ledger")


def test_of_a_payment_that_is_all_on_its_way_back_nothing_is_taken_back(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    recorder: Recorder,
) -> None:
    payment = collected(tenant, receivable)
    refunded(payment, reason="sim:pending")

    reversed_by(sandbox, payment)

    assert fresh(payment).status == "reversed"
    assert recorder.heard("taken_back") == []


def test_of_what_was_never_deposited_nothing_is_taken_back(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    recorder: Recorder,
) -> None:
    recorder.refusal = InvalidState("The invoice is void.")
    payment = collected(tenant, receivable)

    reversed_by(sandbox, payment)

    assert fresh(payment).status == "reversed"
    assert recorder.heard("taken_back") == []
    assert making.balance_of(receivable) == 0


def test_what_it_is_for_is_locked_before_anything_is_posted(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    recorder: Recorder,
) -> None:
    payment = collected(tenant, receivable)
    refund = refunded(payment, 2_000, reason="sim:pending")
    sandbox.act(f"refunds/{refund.gateway_refund_id}/fail")
    steps_at(scenes.later(10))
    reversed_by(sandbox, payment)

    # Deposit, refund, its return, charge-back.
    assert recorder.locked_at == [0, AMOUNT, AMOUNT - 2_000, AMOUNT]
    assert making.balance_of(receivable) == 0


# --- Reconciliation -------------------------------------------------------------------------------


def test_reconciliation_finds_nothing_where_both_books_agree(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    recorder: Recorder,
) -> None:
    collected(tenant, receivable)

    found = reconcile(now=timezone.now())

    assert (found.payments, found.unanswered, found.found) == (1, 0, 0)


def test_reconciliation_finds_a_deposit_that_the_payment_knows_nothing_of(
    line: GatewayConfiguration, sandbox: Sandbox, tenant: Tenant, receivable: UUID
) -> None:
    payment = collected(tenant, receivable)
    making.corrupt(
        "UPDATE payments_payment SET transaction_id = NULL, status = 'refunding' WHERE id = %s",
        payment.pk,
    )

    reconcile(now=timezone.now())

    assert [each.detail["ours"] for each in Discrepancy.objects.all()] == ["posted"]


# --- The doors of top-ups, and reading ------------------------------------------------------------


def test_top_ups_know_nothing_of_it(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID, api: ContractClient
) -> None:
    payment = collected(tenant, receivable)
    refunded(payment, 100)

    assert api.get("/api/v1/topups").json()["results"] == []
    assert api.get(f"/api/v1/topups?reference={REFERENCE}").json()["results"] == []
    assert api.get(f"/api/v1/topups/{payment.pk}").status_code == 404
    assert api.get(f"/api/v1/topups/{payment.pk}/refunds").status_code == 404


def test_it_is_not_refunded_as_a_top_up(
    line: GatewayConfiguration,
    sandbox: Sandbox,
    tenant: Tenant,
    receivable: UUID,
    api: ContractClient,
) -> None:
    payment = collected(tenant, receivable)

    answer = api.post_once(f"/topups/{payment.pk}/refunds", {"amount": 1, "reason": "x"})

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert not Refund.objects.exists()
    assert making.balance_of(receivable) == AMOUNT


def test_its_key_is_no_top_ups(
    line: GatewayConfiguration, tenant: Tenant, receivable: UUID, api: ContractClient
) -> None:
    begun(tenant, collection_for(receivable, idempotency_key="the-same"))
    ada = making.open_account(tenant)
    body = {"amount": AMOUNT, "currency": "USD", "payment_method": gateways.card()}

    answer = api.post_once(f"/accounts/{ada.pk}/topup", body, key="the-same")

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_conflict")


def test_a_payment_is_found_whatever_it_is_for(
    line: GatewayConfiguration,
    tenant: Tenant,
    other_tenant: Tenant,
    receivable: UUID,
    api: ContractClient,
) -> None:
    ours = begun(tenant, collection_for(receivable))
    topup = scenes.topped_up(api, making.open_account(tenant))

    assert payment_of(tenant_id=tenant.pk, payment_id=ours.pk) == ours
    assert payment_of(tenant_id=tenant.pk, payment_id=topup.pk) == topup
    with pytest.raises(NotFound):
        payment_of(tenant_id=other_tenant.pk, payment_id=ours.pk)


# --- Who listens ----------------------------------------------------------------------------------


def test_top_ups_are_told_to_nobody(
    line: GatewayConfiguration, tenant: Tenant, recorder: Recorder, api: ContractClient
) -> None:
    scenes.topped_up(api, making.open_account(tenant))

    assert recorder.told == []


def test_a_purpose_has_one_listener(recorder: Recorder) -> None:
    another: PaymentListener = Recorder()
    listen("invoice", recorder)

    with pytest.raises(ImproperlyConfigured):
        listen("invoice", another)

    assert registry.listener_of("invoice") is recorder


def test_nobody_listens_to_a_purpose_that_there_is_not(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="gift"):
        listen("gift", recorder)


def test_no_two_tenants_share_an_account_at_a_gateway(
    tenant: Tenant, other_tenant: Tenant, sandbox: Sandbox
) -> None:
    shared = {"credentials": {"secret_key": "sk_sandbox_of_both_of_them"}}
    first = add_sandbox(tenant, **shared)
    add_sandbox(tenant, currencies=["JPY"], **shared)

    with pytest.raises(InvalidState, match="Another tenant"):
        add_sandbox(other_tenant, **shared)

    for each in GatewayConfiguration.objects.filter(tenant=tenant):
        delete_gateway(tenant_id=tenant.pk, configuration_id=each.pk, now=timezone.now())
    assert first.pk
    assert add_sandbox(other_tenant, **shared).tenant_id == other_tenant.pk
