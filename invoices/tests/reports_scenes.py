"""A busy life of invoices, by chance and yet the same each time; and gateways' late words in it."""

import contextlib
import datetime as dt
import json
import random
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import httpx
from django.db.models import Q
from django.utils import timezone

from accounts.models import Account
from core.errors import DomainError, InvalidState
from identity.models import Tenant
from invoices import services
from invoices.models import CreditNoteRefund, CreditUse, Invoice
from invoices.services import Customer, EvenSchedule, Interval, NewLine
from payments.models import GatewayConfiguration, Payment, Refund
from tests import gateways, invoicing
from tests.gateway_scenes import DAY, later
from tests.gateways import PATIENCE_S, Sandbox, steps_at
from tests.making import fresh_key, open_account

T = TypeVar("T")
CUSTOMERS = (
    Customer(name="Budi Santoso", email="budi@example.com"),
    Customer(name="Siti Aminah", reference="C-7"),
    # Without an address or a reference, so that no credit of theirs is found.
    Customer(name="Walk-in"),
)


def charged_back(sandbox: Sandbox, payment: Payment) -> None:
    """The card's bank takes the payment back, and we hear of it."""
    sandbox.act(f"payments/{payment.gateway_payment_id}/reverse")
    _hear(sandbox, payment.configuration, "payment.reversed", payment.gateway_payment_id)


def refund_ends(sandbox: Sandbox, refund: Refund, step: str) -> None:
    """The gateway says at last what became of a refund: `succeed` or `fail`."""
    sandbox.act(f"refunds/{refund.gateway_refund_id}/{step}")
    steps_at(later(4 * DAY))


def _hear(
    sandbox: Sandbox, configuration: GatewayConfiguration, event: str, object_id: str | None
) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for row in reversed(sandbox.notifications(0)):
            said = json.loads(row["body"])
            if said["type"] == event and said["data"]["id"] == object_id:
                gateways.deliver(row, configuration)
                gateways.process_events()
                return
        time.sleep(0.02)
    raise AssertionError(f"no {event} of {object_id}")


class BusyLife:
    """What may happen to a tenant's invoices, one after the other; refusals are part of it."""

    def __init__(self, tenant: Tenant, sandbox: Sandbox, seed: int) -> None:
        self.tenant, self.sandbox = tenant, sandbox
        self.chance = random.Random(seed)  # noqa: S311 - the same each time
        self.accounts: dict[str, Account] = {
            currency: open_account(tenant, currency=currency) for currency in ("IDR", "USD")
        }
        self.done: list[str] = []

    def go_on(self, steps: int) -> None:
        acts: Sequence[tuple[Callable[[], None], int]] = (
            (self._issue, 6),
            (self._pay_by_card, 5),
            (self._pay_on_a_page, 2),
            (self._pay_offline, 4),
            (self._apply_credit, 2),
            (self._refund, 4),
            (self._credit, 4),
            (self._refund_credit, 2),
            (self._refund_ends, 4),
            (self._charge_back, 2),
            (self._void, 2),
            (self._expire, 2),
        )
        for _ in range(steps):
            [act] = self.chance.choices([a for a, _ in acts], [weight for _, weight in acts])
            # The simulator says 409 of what has ended there already.
            with contextlib.suppress(DomainError, httpx.HTTPStatusError):
                act()
                self.done.append(act.__name__)

    def _now(self) -> dt.datetime:
        return timezone.now() + dt.timedelta(hours=self.chance.randrange(72))

    def _amount(self, most: int) -> int | None:
        """All of it, or a part, or a little more than there is."""
        return self.chance.choice([None, max(1, most // 3), max(1, most - 1), most, most + 7])

    def _any(self, *statuses: str) -> Invoice:
        found = Invoice.objects.filter(tenant=self.tenant).order_by("created_at", "pk")
        chosen = self.chance.choice(list(found.filter(status__in=statuses)) or [None])
        if chosen is None:
            raise InvalidState("No such invoice yet.")
        return chosen

    def _payable(self) -> Invoice:
        return self._any("pending", "partially_paid")

    def _paid(self) -> Invoice:
        return self._any("partially_paid", "fully_paid", "fully_paid", "refunded")

    def _issue(self) -> None:
        currency = self.chance.choice(["IDR", "IDR", "USD"])
        lines = [
            NewLine(
                "Work",
                Decimal(self.chance.randrange(1, 4)),
                self.chance.randrange(1, 99_999),
                Decimal(self.chance.choice(["0", "10", "12.3456", "100"])),
            )
            for _ in range(self.chance.randrange(1, 4))
        ]
        count = self.chance.choice([1, 1, 2, 3, 7])
        now = self._now()
        invoice = services.create_invoice(
            tenant_id=self.tenant.pk,
            new=invoicing.new_invoice(
                currency=currency,
                lines=lines,
                fee_percent=Decimal(self.chance.choice(["0", "2.9"])),
                fee_fixed=self.chance.choice([0, 1, 30]),
                customer=self.chance.choice(CUSTOMERS),
                schedule=EvenSchedule(count, Interval.MONTHLY) if count > 1 else None,
                settlement_account_id=self.chance.choice([None, self.accounts[currency].pk]),
                expires_at=now + dt.timedelta(days=30),
            ),
            now=now,
        )
        services.finalize_invoice(tenant_id=self.tenant.pk, invoice_id=invoice.pk, now=now)

    def _pay_by_card(self) -> None:
        invoice = self._payable()
        number = self.chance.choice([None, *range(1, invoice.installments.count() + 1)])
        invoicing.pay(invoice, installment=number)

    def _pay_on_a_page(self) -> None:
        invoice = self._payable()
        payment = invoicing.open_page(invoice).payment
        if self.chance.random() < 0.5:
            # Paid another way meanwhile, or ended: what comes all the same is too much.
            self.chance.choice([self._pay_offline, self._void, self._expire])()
        self.sandbox.act(f"payments/{payment.gateway_payment_id}/pay")
        steps_at(later(4 * DAY))

    def _pay_offline(self) -> None:
        invoice = self._any("pending", "partially_paid", "expired", "fully_paid")
        amount = self._amount(invoice.total_amount) or invoice.total_amount
        invoicing.pay_offline(invoice, amount)

    def _apply_credit(self) -> None:
        services.apply_credit(
            tenant_id=self.tenant.pk, invoice_id=self._payable().pk, amount=None, **self._key()
        )

    def _refund(self) -> None:
        invoice = self._paid()
        services.refund_invoice(
            tenant_id=self.tenant.pk,
            invoice_id=invoice.pk,
            amount=self._amount(invoice.amount_kept),
            reason="sim:pending",
            **self._key(),
        )

    def _credit(self) -> None:
        invoice = self._any("pending", "partially_paid", "fully_paid")
        services.credit_invoice(
            tenant_id=self.tenant.pk,
            invoice_id=invoice.pk,
            amount=self._amount(invoice.amount_due),
            reason="sim:pending",
            **self._key(),
        )

    def _refund_credit(self) -> None:
        overpaid = Invoice.objects.filter(tenant=self.tenant, overpaid_amount__gt=0)
        for invoice in overpaid.order_by("pk")[:1]:
            services.refund_credit(
                tenant_id=self.tenant.pk,
                invoice_id=invoice.pk,
                amount=None,
                reason="sim:pending",
                **self._key(),
            )

    def _refund_ends(self) -> None:
        ways = CreditNoteRefund.objects.filter(tenant=self.tenant, refund_id__isnull=False)
        uses = CreditUse.objects.filter(tenant=self.tenant, refund_id__isnull=False)
        refunds = Refund.objects.filter(
            Q(pk__in=ways.values("refund_id")) | Q(pk__in=uses.values("refund_id")),
            status="pending",
        ).order_by("pk")
        if refunds:
            chosen = self.chance.choice(list(refunds))
            refund_ends(self.sandbox, chosen, self.chance.choice(["succeed", "fail", "fail"]))

    def _charge_back(self) -> None:
        payments = Payment.objects.filter(tenant=self.tenant, status="deposited").order_by("pk")
        if payments:
            charged_back(self.sandbox, self.chance.choice(list(payments)))

    def _void(self) -> None:
        services.void_invoice(
            tenant_id=self.tenant.pk,
            invoice_id=self._any("pending", "expired", "draft").pk,
            reason="Mistake",
            now=self._now(),
        )

    def _expire(self) -> None:
        invoice = self._any("pending")
        soon = timezone.now() + dt.timedelta(days=60, hours=self.chance.randrange(48))
        Invoice.objects.filter(pk=invoice.pk).update(next_step_at=timezone.now())
        services.take_due_steps(now=soon, limit=1)

    def _key(self) -> dict[str, Any]:
        return {"idempotency_key": fresh_key(), "now": self._now()}
