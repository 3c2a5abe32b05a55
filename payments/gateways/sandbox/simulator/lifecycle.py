"""
What can happen to a payment, a refund or a payout, at any gateway: which step follows which state,
what happens by itself later, and that the merchant hears of it.
"""

import dataclasses
import heapq
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from payments.gateways.sandbox import cards
from payments.gateways.sandbox.cards import TestCard
from payments.gateways.sandbox.simulator import faults
from payments.gateways.sandbox.simulator.clock import Clock
from payments.gateways.sandbox.simulator.exchange import Answer, Json, Request, Route
from payments.gateways.sandbox.simulator.state import OPEN, Delivery, Payment, Payout, Refund, State

# What the buttons of a page and `/_sim/payments/{id}/…` may do: from which states, to which.
STEPS: Final = {
    "choose": (frozenset({"created"}), "pending"),
    "pay": (OPEN, "succeeded"),
    "fail": (OPEN, "failed"),
    "expire": (OPEN, "expired"),
    "cancel": (OPEN | {"review", "succeeded"}, "canceled"),
    "reverse": (frozenset({"succeeded"}), "reversed"),
    "challenge/approve": (frozenset({"requires_action"}), "succeeded"),
    "challenge/reject": (frozenset({"requires_action"}), "failed"),
    "settle": (frozenset({"succeeded"}), "succeeded"),
}
# No longer to be paid; but somebody may have been about to.
_OVER: Final = frozenset({"expired", "canceled"})
_RETRIES: Final = frozenset({"pay", "fail", "expire"})
# The same for `/_sim/payouts/{id}/…`.
PAYOUT_STEPS: Final = {
    "settle": (frozenset({"submitted"}), "settled"),
    "return": (frozenset({"submitted", "settled"}), "returned"),
    "fail": (frozenset({"submitted"}), "failed"),
}
REFUND_STEPS: Final = {
    "succeed": (frozenset({"pending"}), "succeeded"),
    "fail": (frozenset({"pending"}), "failed"),
}
# Of payouts by the last digits of the account: what happens, each a `settle_s` after the other.
_PAYOUT_STORIES: Final[dict[str, tuple[str, ...]]] = {
    cards.PAYOUT_IS_RETURNED: ("settle", "return"),
    cards.PAYOUT_STAYS_SUBMITTED: (),
    cards.PAYOUT_FAILS_LATER: ("fail",),
}


@dataclass
class Notice:
    """A webhook as a gateway words it, before any fault."""

    event: str
    payload: Json
    urls: Sequence[str]


class Gateway(Protocol):
    """What a gateway adds to the common story: endpoints, words and signatures."""

    name: str
    routes: Sequence[Route]
    webhook_timeout_s: float

    def identify(self, request: Request) -> None:
        """Note the key and the reference of a request that arrives, without judging them."""

    def before(self, request: Request) -> Answer | None:
        """An answer that makes the endpoint superfluous: a bad key, a repeated request."""

    def after(self, request: Request, answer: Answer) -> None:
        """Note what the next request may ask for."""

    def leave(self, request: Request) -> None:
        """The request is over, however it went."""

    def fault_answer(self, status: int) -> Answer:
        """Its own words for 429, 500 and 503."""

    def status_after(self, payment: Payment, step: str, status: str) -> str:
        """The state that the step leads to, where it is not the common one."""

    def payment_notices(self, payment: Payment, step: str) -> list[Notice]:
        """What the merchant is told after a step; `pending` when it was made."""

    def refund_notices(self, refund: Refund, payment: Payment) -> list[Notice]:
        """What the merchant is told of a refund."""

    def payout_notices(self, payout: Payout) -> list[Notice]:
        """What the merchant is told of a payout."""

    def signed(self, delivery: Delivery, now: float) -> tuple[dict[str, str], bytes]:
        """Headers and body of one attempt."""

    def retry_after_s(self, attempts: int, status: int | None) -> float | None:
        """How long to wait after so many attempts, the last answered so; None: give up."""


class WrongState(Exception):
    """The step does not follow from the state that the object is in."""


class Lifecycle:
    """Takes every step, for all gateways. Call it under the state's lock."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.gateways: dict[str, Gateway] = {}

    @property
    def clock(self) -> Clock:
        """The simulator's."""
        return self.state.clock

    # --- Payments ------------------------------------------------------------------------------

    def add_payment(self, payment: Payment, card: TestCard | None = None) -> str | None:
        """
        Take a new payment in, and let the card do what it is known for.

        Returns the effect that the answer suffers because of the card.
        """
        state = self.state
        state.add(payment)
        self.attach_faults(payment, "create_payment")
        if payment.expires_at is not None and payment.status in OPEN:
            state.schedule(payment.expires_at - self.clock.now(), "expire", "payment", payment.id)
        effect = card.effect if card else None
        if effect in faults.ON_WEBHOOK | faults.ON_PAYMENT:
            payment.effects.setdefault(str(effect), 2)
            effect = None
        return effect

    def start(self, payment: Payment, outcome: str) -> None:
        """Let a payment that was just added come to the outcome of its card."""
        if outcome == "late":
            self.state.schedule(self.state.settings.late_s, "pay", "payment", payment.id)
            self._tell(payment, "pending")
        elif outcome in {"succeeded", "failed", "review"}:
            self.take_step(payment, "fail" if outcome == "failed" else "pay")
        else:
            self._tell(payment, "pending")

    def attach_faults(self, payment: Payment, op: str) -> None:
        """Let faults that were ordered for such a payment stay with it."""
        for fault in faults.take(self.state.faults, faults.ON_PAYMENT, **_about(payment, op)):
            payment.effects[fault.effect] = fault.amount
            self.state.commit()

    def take_step(self, payment: Payment, step: str) -> None:
        """
        Do one of STEPS, and tell the merchant.

        :raises WrongState: it cannot be done now
        """
        allowed, status = STEPS[step]
        if payment.status not in allowed and not (step in _RETRIES and payment.is_open):
            raise WrongState(f"{step} is not possible: the payment is {payment.status}")
        self._move(payment, step, status)

    def resolve_review(self, payment: Payment, step: str, status: str) -> None:
        """End the review of a suspicious charge."""
        self._move(payment, step, status)

    def _move(self, payment: Payment, step: str, status: str) -> None:
        now = self.clock.now()
        self.attach_faults(payment, "create_payment")
        payment.status = self.gateways[payment.gateway].status_after(payment, step, status)
        payment.updated_at = now
        settle_s = self.state.settings.settle_s
        if payment.status == "succeeded" and payment.paid_at is None:
            payment.paid_at = now
            if payment.effects.pop("settlement_then_deny", None) is not None:
                self.state.schedule(settle_s, "reverse", "payment", payment.id)
        is_over = payment.status in _OVER and payment.paid_at is None
        if is_over and "late_paid_after_expiry" in payment.effects:
            self.state.schedule(settle_s, "pay_late", "payment", payment.id)
        self._tell(payment, step)

    def _tell(self, payment: Payment, step: str) -> None:
        gateway = self.gateways[payment.gateway]
        out_of_order = "reorder" in payment.effects
        if step == "pending" and out_of_order:
            return
        self._queue(payment, gateway.payment_notices(payment, step))
        if out_of_order and payment.status == "succeeded":
            del payment.effects["reorder"]
            stale = dataclasses.replace(payment, status="pending", paid_at=None)
            notices = gateway.payment_notices(stale, "stale")
            self._queue(payment, notices, after_s=self.state.settings.settle_s)

    # --- Refunds and payouts -------------------------------------------------------------------

    def add_refund(self, refund: Refund, payment: Payment, *, is_instant: bool = False) -> None:
        """Take a refund in; it succeeds soon, unless it was asked to fail or to wait."""
        self.state.add(refund)
        payment.refunded += refund.amount
        payment.updated_at = self.clock.now()
        ordered = refund.extra.get("sim")
        if is_instant:
            self.take_refund_step(refund, "succeed")
        elif ordered != "pending":
            step = "fail" if ordered == "fail" else "succeed"
            self.state.schedule(self.state.settings.settle_s, step, "refund", refund.id)

    def take_refund_step(self, refund: Refund, step: str) -> None:
        """
        Let it succeed or fail, and tell the merchant.

        :raises WrongState: it has ended already
        """
        _step(refund, step, REFUND_STEPS, self.clock.now())
        payment = self.state.payments[refund.payment_id]
        if refund.status == "failed":
            refund.failure_code = "refund_failed"
            payment.refunded -= refund.amount
        notices = self.gateways[refund.gateway].refund_notices(refund, payment)
        self._queue(payment, notices, op="refund", object_id=refund.id, reference=refund.reference)

    def add_payout(self, payout: Payout, account_number: str) -> None:
        """Take a payout in; its account number says how it ends."""
        self.state.add(payout)
        ending = re.sub(r"[^A-Za-z0-9]", "", account_number)[-4:]
        if ending == cards.PAYOUT_FAILS_AT_ONCE:
            self.take_payout_step(payout, "fail")
            return
        story = _PAYOUT_STORIES.get(ending, ("settle",))
        for place, step in enumerate(story, start=1):
            self.state.schedule(place * self.state.settings.settle_s, step, "payout", payout.id)

    def take_payout_step(self, payout: Payout, step: str) -> None:
        """
        Settle, return or fail it, and tell the merchant.

        :raises WrongState: it cannot be done now
        """
        _step(payout, step, PAYOUT_STEPS, self.clock.now())
        if payout.status == "returned":
            payout.failure_code = "account_closed"
        elif payout.status == "failed":
            payout.failure_code = "invalid_account"
        notices = self.gateways[payout.gateway].payout_notices(payout)
        self._queue(payout, notices, op="create_payout")

    # --- What happens by itself ----------------------------------------------------------------

    def run_due_jobs(self) -> float | None:
        """Do all that is due, each at its own time; returns when the next is, if there is one."""
        jobs = self.state.jobs
        while jobs and jobs[0].at <= self.clock.now():
            job = heapq.heappop(jobs)
            self.clock.stand_at(job.at)
            try:
                self._run(job.kind, job.action, job.object_id)
            finally:
                self.clock.stand_at(None)
            self.state.commit()
        return jobs[0].at if jobs else None

    def _run(self, kind: str, action: str, object_id: str) -> None:
        state = self.state
        tables: dict[str, tuple[dict[str, Any], Callable[[Any, str], None]]] = {
            "payment": (state.payments, self.take_step),
            "refund": (state.refunds, self.take_refund_step),
            "payout": (state.payouts, self.take_payout_step),
        }
        table, take_step = tables[kind]
        if (item := table.get(object_id)) is None:
            return
        if action == "pay_late":
            if item.status in _OVER:
                self._move(item, "pay", "succeeded")
            return
        try:
            take_step(item, action)
        except WrongState:
            # It was paid, cancelled or failed in the meantime.
            return

    # --- Webhooks ------------------------------------------------------------------------------

    def _queue(
        self,
        item: Payment | Payout,
        notices: list[Notice],
        *,
        op: str = "create_payment",
        object_id: str = "",
        reference: str = "",
        after_s: float = 0.0,
    ) -> None:
        state, now = self.state, self.clock.now()
        effects = item.effects if isinstance(item, Payment) else {}
        # A fault waits for a webhook that somebody would have received.
        for notice in (notice for notice in notices if notice.urls):
            copies, is_forged = int(effects.get("duplicate_webhook", 1)), False
            is_dropped = "drop_webhook" in effects
            for fault in faults.take(state.faults, faults.ON_WEBHOOK, **_about(item, op)):
                is_dropped = is_dropped or fault.effect == "drop_webhook"
                is_forged = is_forged or fault.effect == "wrong_signature"
                copies = fault.n if fault.effect == "duplicate_webhook" else copies
            event_id = f"evt_{state.new_hex()}"
            for url in notice.urls:
                for _ in range(0 if is_dropped else copies):
                    sequence = state.next_number()
                    state.deliveries[str(sequence)] = Delivery(
                        sequence=sequence,
                        event_id=event_id,
                        event=notice.event,
                        gateway=item.gateway,
                        key=item.key,
                        url=url,
                        object_id=object_id or item.id,
                        lane=item.id,
                        reference=reference or item.reference,
                        payload=notice.payload,
                        created_at=now,
                        due_at=now + state.settings.webhook_delay_s + after_s,
                        is_forged=is_forged,
                    )


def _about(item: Payment | Payout, op: str) -> dict[str, str | None]:
    about = {"gateway": item.gateway, "op": op, "key": item.key, "reference": item.reference}
    return dict(about)


def _step(
    item: Refund | Payout, step: str, steps: dict[str, tuple[frozenset[str], str]], now: float
) -> None:
    allowed, status = steps[step]
    if item.status not in allowed:
        raise WrongState(f"{step} is not possible: it is {item.status}")
    item.status, item.updated_at = status, now
