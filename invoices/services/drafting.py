"""Making invoices: what was asked for becomes lines, sums and a schedule."""

import datetime as dt
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.models import Account
from accounts.queries import account_of
from core.changes import record_change
from core.database import refusing, remember, repeating
from core.errors import AlreadyExists, InvalidRequest, InvalidState, NotFound
from core.ids import new_id
from core.money import AMOUNT_MAX, format_money
from identity.models import Tenant
from invoices.errors import ScheduleMismatch
from invoices.models import Installment, Invoice, InvoiceSettings, LineItem
from invoices.queries import invoice_for_update, settings_of
from invoices.services.amounts import (
    Interval,
    Parts,
    due_dates,
    line_amounts,
    service_fee,
    split_by_amounts,
    split_evenly,
)
from invoices.services.issuing import issue
from ledger.errors import CurrencyMismatch
from payments.services import fitting_gateways

LINES_MAX = 1_000
INSTALLMENTS_MAX = 60
# Ahead of today, for anything that is due.
YEARS_MAX = 50
_TAKEN = "invoice_external_id_unique"


@dataclass(frozen=True, slots=True)
class NewLine:
    description: str
    quantity: Decimal
    # Minor units.
    unit_amount: int
    # Percent.
    tax_rate: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class NewInstallment:
    due_date: dt.date
    # Minor units, tax and fee in it.
    amount: int


@dataclass(frozen=True, slots=True)
class EvenSchedule:
    """So many installments at an interval; the first on `first_due_date`, or when it is due."""

    count: int
    interval: Interval
    first_due_date: dt.date | None = None


@dataclass(frozen=True, slots=True)
class Customer:
    """Whom it is for. The same reference, or else the same e-mail address, is the same customer."""

    name: str = ""
    email: str = ""
    reference: str = ""
    address: str = ""
    iban: str = ""
    account_number: str = ""
    bic: str = ""
    country: str = ""

    @property
    def key(self) -> str:
        if self.reference:
            return f"reference {self.reference}"
        return f"email {self.email.lower()}" if self.email else ""


@dataclass(frozen=True, slots=True)
class NewInvoice:
    currency: str
    lines: Sequence[NewLine]
    fee_percent: Decimal = Decimal(0)
    # Minor units.
    fee_fixed: int = 0
    fee_mode: str = Invoice.FeeMode.ADDITIVE
    schedule: Sequence[NewInstallment] | EvenSchedule | None = None
    # None: by the tenant's terms, or the last installment's.
    due_date: dt.date | None = None
    expires_at: dt.datetime | None = None
    customer: Customer = field(default_factory=Customer)
    gateway: str = ""
    settlement_account_id: UUID | None = None
    external_id: str | None = None
    description: str = ""
    locale: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def create_invoice(
    *, tenant_id: UUID, new: NewInvoice, now: dt.datetime, is_final: bool = False
) -> Invoice:
    """
    Make an invoice: a draft, or finalised at once.

    Writes the invoice, its lines and installments, an event and an audit record; eight round trips,
    and seven more where it is finalised.

    :raises InvalidRequest: amounts, dates or a schedule that cannot be
    :raises ScheduleMismatch: installments that do not add up
    :raises NotFound: no such settlement account
    :raises CurrencyMismatch: the settlement account has another currency
    :raises NoGateway, CurrencyNotSupported: the gateway that was named does not take the currency
    :raises AlreadyExists: another invoice has the external id
    """
    _refuse_gateway(tenant_id, new)

    def create() -> Invoice:
        with refusing({_TAKEN: _taken()}), transaction.atomic():
            tenant = Tenant.objects.get(pk=tenant_id)
            invoice = Invoice(id=new_id(), tenant=tenant, created_at=now)
            _save_new(invoice, new, now, is_final=is_final)
        return invoice

    return repeating(create)


def create_supplementary(
    *,
    tenant_id: UUID,
    parent_id: UUID,
    new: NewInvoice,
    now: dt.datetime,
    is_final: bool = True,
) -> Invoice:
    """
    Make an invoice for what comes on top of another: same customer, currency and settlement
    account, own lines, schedule and number.

    `new` is as for create_invoice; its currency, customer and settlement account are the parent's.

    :raises NotFound: no such invoice in this tenant
    :raises InvalidState: the parent is a draft, or has ended unpaid
    """

    def create() -> Invoice:
        with refusing({_TAKEN: _taken()}), transaction.atomic():
            parent = invoice_for_update(tenant_id=tenant_id, invoice_id=parent_id)
            open_ones = (
                Invoice.Status.PENDING,
                Invoice.Status.PARTIALLY_PAID,
                Invoice.Status.FULLY_PAID,
            )
            if parent.status not in open_ones:
                raise InvalidState(f"The invoice is {parent.status}; make a new one instead.")
            invoice = Invoice(id=new_id(), tenant=parent.tenant, parent=parent, created_at=now)
            _save_new(invoice, _inheriting(parent, new), now, is_final=is_final)
        return invoice

    return repeating(create)


def change_draft(
    *, tenant_id: UUID, invoice_id: UUID, new: NewInvoice, now: dt.datetime
) -> Invoice:
    """
    Write a draft anew; what a supplementary one has of its parent stays.

    :raises NotFound: no such invoice in this tenant
    :raises InvalidState: it has a number, or was voided
    :raises DomainError: as create_invoice
    """
    _refuse_gateway(tenant_id, new)
    with refusing({_TAKEN: _taken()}), transaction.atomic():
        invoice = invoice_for_update(tenant_id=tenant_id, invoice_id=invoice_id)
        if invoice.status != Invoice.Status.DRAFT:
            raise InvalidState(f"It is {invoice.status}; only drafts are changed.")
        if new.currency != invoice.currency:
            raise InvalidState("An invoice keeps its currency. Void it, and make another.")
        wanted = new if invoice.parent is None else _inheriting(invoice.parent, new)
        settings = settings_of(tenant_id=tenant_id)
        lines, installments = _fill(invoice, wanted, settings, now)
        invoice.line_items.all().delete()
        invoice.installments.all().delete()
        invoice.save()
        _save_parts(invoice, lines, installments)
        _record(invoice, "invoice.changed", now)
    return invoice


def _save_new(invoice: Invoice, new: NewInvoice, now: dt.datetime, *, is_final: bool) -> None:
    settings = settings_of(tenant_id=invoice.tenant_id)
    lines, installments = _fill(invoice, new, settings, now)
    invoice.save(force_insert=True)
    _save_parts(invoice, lines, installments)
    parent = {} if invoice.parent is None else {"parent_id": str(invoice.parent.pk)}
    _record(invoice, "invoice.created", now, **parent)
    if is_final:
        issue(invoice, installments, settings=settings, now=now)
    if not invoice.paid_amount:
        # Whoever shows it next need not ask for what was just written.
        remember(invoice, line_items=lines, installments=installments, supplements=())


def _fill(
    invoice: Invoice, new: NewInvoice, settings: InvoiceSettings, now: dt.datetime
) -> tuple[list[LineItem], list[Installment]]:
    """Work everything out and put it on the invoice; return its lines and installments, unsaved."""
    today = invoice.tenant.day_of(now)
    lines = _lines(invoice, new.lines)
    invoice.currency = new.currency
    invoice.subtotal_amount = sum(line.subtotal_amount for line in lines)
    invoice.total_tax_amount = sum(line.tax_amount for line in lines)
    is_gross_up = new.fee_mode == Invoice.FeeMode.GROSS_UP
    if is_gross_up and new.fee_percent >= 100:
        raise InvalidRequest("Below 100 where the fee is grossed up.", field="service_fee.percent")
    invoice.total_service_fee_amount = service_fee(
        subtotal=invoice.subtotal_amount,
        percent=new.fee_percent,
        fixed=new.fee_fixed,
        is_gross_up=is_gross_up,
    )
    whole = Parts(
        invoice.subtotal_amount, invoice.total_tax_amount, invoice.total_service_fee_amount
    )
    invoice.total_amount = whole.total
    if not 0 < whole.total <= AMOUNT_MAX:
        raise InvalidRequest(
            "An invoice is for at least one minor unit."
            if whole.total < 1
            else f"An invoice is for at most {AMOUNT_MAX} minor units.",
            field="line_items",
        )
    _refuse_settlement_account(invoice, new)
    installments = _installments(invoice, whole, new, settings, today)
    invoice.fee_mode, invoice.fee_percent, invoice.fee_fixed = (
        new.fee_mode,
        new.fee_percent,
        new.fee_fixed,
    )
    invoice.has_schedule = new.schedule is not None
    invoice.due_date = installments[-1].due_date
    if new.expires_at is not None and new.expires_at <= now:
        raise InvalidRequest("It is past.", field="expires_at")
    customer = new.customer
    values: dict[str, Any] = {
        "expires_at": new.expires_at,
        "customer_key": customer.key,
        "customer_reference": customer.reference,
        "customer_name": customer.name,
        "customer_email": customer.email,
        "customer_address": customer.address,
        "customer_iban": customer.iban,
        "customer_account_number": customer.account_number,
        "customer_bic": customer.bic,
        "customer_country": customer.country,
        "gateway": new.gateway,
        "settlement_account_id": new.settlement_account_id,
        "external_id": new.external_id,
        "description": new.description,
        "locale": new.locale or settings.locale,
        "metadata": new.metadata,
        "updated_at": now,
    }
    for name, value in values.items():
        setattr(invoice, name, value)
    return lines, installments


def _lines(invoice: Invoice, new: Sequence[NewLine]) -> list[LineItem]:
    if not 1 <= len(new) <= LINES_MAX:
        raise InvalidRequest(f"1 to {LINES_MAX} lines.", field="line_items")
    lines = []
    for position, line in enumerate(new, 1):
        subtotal, tax = line_amounts(
            quantity=line.quantity, unit_amount=line.unit_amount, tax_rate=line.tax_rate
        )
        if subtotal > AMOUNT_MAX:
            raise InvalidRequest(
                f"A line is for at most {AMOUNT_MAX} minor units.",
                field=f"line_items.{position - 1}",
            )
        lines.append(
            LineItem(
                tenant_id=invoice.tenant_id,
                invoice=invoice,
                position=position,
                description=line.description,
                quantity=line.quantity,
                unit_amount=line.unit_amount,
                tax_rate=line.tax_rate,
                subtotal_amount=subtotal,
                tax_amount=tax,
            )
        )
    return lines


def _installments(
    invoice: Invoice, whole: Parts, new: NewInvoice, settings: InvoiceSettings, today: dt.date
) -> list[Installment]:
    due = new.due_date or today + dt.timedelta(days=settings.payment_terms_days)
    if new.schedule is None:
        days, parts = [due], [whole]
    elif isinstance(new.schedule, EvenSchedule):
        count = new.schedule.count
        if whole.total < count:
            raise InvalidRequest(
                f"{whole.total} minor units cannot be paid in {count} installments.",
                field="installments.count",
            )
        refuse_bad_days([new.schedule.first_due_date or due], today, field="installments")
        days = due_dates(
            first=new.schedule.first_due_date or due,
            count=count,
            interval=new.schedule.interval,
        )
        parts = split_evenly(whole, count)
        # Where each component is small, all of it is in the last: nothing is left to be asked.
        if parts[0].total == 0:
            parts = split_by_amounts(whole, _even_amounts(whole.total, count))
    else:
        days = [each.due_date for each in new.schedule]
        amounts = [each.amount for each in new.schedule]
        refuse_unless_sum(amounts, whole.total, invoice.currency)
        parts = split_by_amounts(whole, amounts)
    if len(days) > INSTALLMENTS_MAX:
        raise InvalidRequest(f"At most {INSTALLMENTS_MAX} installments.", field="installments")
    refuse_bad_days(days, today, field="due_date" if new.schedule is None else "installments")
    if new.schedule is not None and new.due_date is not None and new.due_date < days[0]:
        raise InvalidRequest("The first installment is due later.", field="due_date")
    return [
        Installment(
            id=new_id(),
            tenant_id=invoice.tenant_id,
            invoice=invoice,
            number=number,
            due_date=day,
            amount=part.total,
            net_amount=part.net,
            tax_amount=part.tax,
            service_fee_amount=part.fee,
        )
        for number, (day, part) in enumerate(zip(days, parts, strict=True), 1)
    ]


def _even_amounts(total: int, count: int) -> list[int]:
    each = total // count
    return [each] * (count - 1) + [total - each * (count - 1)]


def refuse_unless_sum(amounts: Sequence[int], total: int, currency: str) -> None:
    """
    Say by how much the amounts miss the total.

    :raises ScheduleMismatch: they do
    """
    difference = sum(amounts) - total
    if difference:
        by = format_money(abs(difference), currency)
        raise ScheduleMismatch(
            f"They add up to {format_money(sum(amounts), currency)}, {by}"
            f" {'more' if difference > 0 else 'less'} than {format_money(total, currency)}.",
            field="installments",
        )


def refuse_bad_days(days: Sequence[dt.date], today: dt.date, *, field: str) -> None:
    """
    Say what is wrong with due dates.

    :raises InvalidRequest: one is past or too far off, or they go back
    """
    if days[-1].year > today.year + YEARS_MAX:
        raise InvalidRequest(f"At most {YEARS_MAX} years ahead.", field=field)
    if days[0] < today:
        raise InvalidRequest(f"{days[0]} is past.", field=field)
    if any(later < earlier for earlier, later in itertools.pairwise(days)):
        raise InvalidRequest("Installments are in order of their due dates.", field=field)


def _save_parts(
    invoice: Invoice, lines: Sequence[LineItem], installments: Sequence[Installment]
) -> None:
    LineItem.objects.bulk_create(lines)
    Installment.objects.bulk_create(installments)


def _inheriting(parent: Invoice, new: NewInvoice) -> NewInvoice:
    return NewInvoice(
        currency=parent.currency,
        lines=new.lines,
        fee_percent=new.fee_percent,
        fee_fixed=new.fee_fixed,
        fee_mode=new.fee_mode,
        schedule=new.schedule,
        due_date=new.due_date,
        expires_at=new.expires_at,
        customer=Customer(
            name=parent.customer_name,
            email=parent.customer_email,
            reference=parent.customer_reference,
            address=parent.customer_address,
            iban=parent.customer_iban,
            account_number=parent.customer_account_number,
            bic=parent.customer_bic,
            country=parent.customer_country,
        ),
        gateway=parent.gateway,
        settlement_account_id=parent.settlement_account_id,
        external_id=new.external_id,
        description=new.description,
        locale=parent.locale,
        metadata=new.metadata,
    )


def _refuse_gateway(tenant_id: UUID, new: NewInvoice) -> None:
    if new.gateway:
        fitting_gateways(
            tenant_id=tenant_id, currency=new.currency, gateway=new.gateway, is_payout=False
        )


def _refuse_settlement_account(invoice: Invoice, new: NewInvoice) -> None:
    if new.settlement_account_id is None:
        return
    account = account_of(tenant_id=invoice.tenant_id, account_id=new.settlement_account_id)
    if account.type == Account.Type.INTERNAL:
        raise NotFound("No such account.")
    if account.currency != new.currency:
        raise CurrencyMismatch(f"Account {account.pk} is in {account.currency}.")
    if account.status != Account.Status.ACTIVE:
        raise InvalidState(f"Account {account.pk} is {account.status}.")


def _taken() -> AlreadyExists:
    return AlreadyExists("An invoice with this external id exists.")


def _record(invoice: Invoice, action: str, now: dt.datetime, **after: Any) -> None:
    record_change(
        tenant_id=invoice.tenant_id,
        action=action,
        object_id=invoice.pk,
        now=now,
        after={
            "total_amount": invoice.total_amount,
            "currency": invoice.currency,
            "customer": invoice.customer_name,
            **after,
        },
    )
