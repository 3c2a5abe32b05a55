"""
An invoice as an order to the customer's bank: pain.001.001.09, one transfer for each installment.

The customer is the debtor and the tenant the creditor. The file is for whoever sends it to that
bank; what the bank does with it comes back as any money past the gateways does.
"""

import datetime as dt
import itertools
from uuid import UUID

from accounts.models import Account
from core.errors import InvalidState
from core.iso20022.credit_transfers import (
    BankAccount,
    CreditTransfer,
    CreditTransferFile,
    InvalidMessage,
    Party,
    PaymentBlock,
    render,
)
from core.money import Money
from invoices.models import Installment, Invoice, InvoiceSettings
from invoices.queries import installments_of, invoice_of, settings_of
from invoices.services.claims import refuse_unless_payable

# The word for what is not known, in EPC's guidelines.
NOT_PROVIDED = "NOTPROVIDED"


def export_payment_initiation(*, tenant_id: UUID, invoice_id: UUID, now: dt.datetime) -> bytes:
    """
    Return the transfers that pay what is still due, as XML that is valid by the schema.

    One CdtTrfTxInf an installment, in a PmtInf for each day they are to be executed on: when they
    are due, or today. Where the tenant's settings name no bank account, the creditor's account is
    the one here that the money is for, by its id.

    :raises NotFound: no such invoice in this tenant
    :raises InvoiceNotPayable: a draft, ended, or nothing is due
    :raises InvalidState: a name that no bank can read
    """
    invoice = invoice_of(tenant_id=tenant_id, invoice_id=invoice_id)
    refuse_unless_payable(invoice, now)
    settings = settings_of(tenant_id=tenant_id)
    today = invoice.tenant.day_of(now)
    due = [each for each in installments_of(invoice) if each.amount_due]
    try:
        creditor = _creditor(invoice, settings)
        account = _creditor_account(invoice, settings)
        debtor = Party(invoice.customer_name or NOT_PROVIDED, invoice.customer_country or None)
        blocks = [
            PaymentBlock(
                id=f"{invoice.number}-{day:%Y%m%d}",
                debtor=debtor,
                account=_debtor_account(invoice),
                execution_date=day,
                transfers=tuple(_transfer(invoice, each, creditor, account) for each in together),
            )
            for day, together in itertools.groupby(due, lambda each: max(each.due_date, today))
        ]
        return render(
            CreditTransferFile(
                message_id=f"{invoice.number}-{now:%y%m%d%H%M%S}",
                created_at=now.replace(microsecond=0),
                initiator=debtor,
                blocks=tuple(blocks),
            )
        )
    except InvalidMessage as fault:
        raise InvalidState(f"No bank would take it: {fault}") from fault


def _transfer(
    invoice: Invoice, installment: Installment, creditor: Party, account: BankAccount
) -> CreditTransfer:
    part = f"-I{installment.number}" if invoice.has_schedule else ""
    return CreditTransfer(
        end_to_end_id=f"{invoice.number}{part}",
        amount=Money(installment.amount_due, invoice.currency),
        creditor=creditor,
        account=account,
        remittance=f"{invoice.number} {invoice.description}".strip(),
    )


def _creditor(invoice: Invoice, settings: InvoiceSettings) -> Party:
    return Party(
        name=settings.legal_name or invoice.tenant.name,
        country=settings.country or None,
        town=settings.town or None,
        street=settings.street or None,
        building=settings.building_number or None,
        postal_code=settings.post_code or None,
    )


def _creditor_account(invoice: Invoice, settings: InvoiceSettings) -> BankAccount:
    if settings.creditor_iban:
        return BankAccount(iban=settings.creditor_iban, bic=settings.creditor_bic or None)
    if settings.creditor_account_number:
        return BankAccount(
            number=settings.creditor_account_number, bic=settings.creditor_bic or None
        )
    if invoice.settlement_account_id is not None:
        return BankAccount(number=invoice.settlement_account_id.hex)
    receivable = Account.objects.get(
        tenant_id=invoice.tenant_id, role=Account.Role.RECEIVABLE, currency=invoice.currency
    )
    return BankAccount(number=receivable.pk.hex)


def _debtor_account(invoice: Invoice) -> BankAccount:
    bic = invoice.customer_bic or None
    if invoice.customer_iban:
        return BankAccount(iban=invoice.customer_iban, bic=bic)
    return BankAccount(number=invoice.customer_account_number or NOT_PROVIDED, bic=bic)
