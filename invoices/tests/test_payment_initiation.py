"""An invoice as pain.001: valid by the schema, and read back by a library that is not ours."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from lxml import etree
from pyiso20022.pain.pain_001_001_09 import Document  # type: ignore[import-untyped]
from xsdata.formats.dataclass.parsers import XmlParser

from core.errors import InvalidState, NotFound
from core.iso20022 import validation
from identity.models import Tenant
from invoices.errors import InvoiceNotPayable
from invoices.models import Invoice, InvoiceSettings
from invoices.services import Customer, NewInstallment
from invoices.services.payment_initiation import export_payment_initiation
from tests.invoicing import draft, in_days, issued, line, pay_offline

pytestmark = pytest.mark.django_db(transaction=True)


def exported(invoice: Invoice, *, now: dt.datetime | None = None) -> Any:
    """The file as an independent library reads it; valid by the schema it came with."""
    document = export_payment_initiation(
        tenant_id=invoice.tenant_id, invoice_id=invoice.pk, now=now or timezone.now()
    )
    assert validation.fault_of(etree.fromstring(document), "pain.001.001.09") is None
    return XmlParser().from_bytes(document, Document).cstmr_cdt_trf_initn


def amounts(initiation: Any) -> list[Decimal]:
    return [
        transfer.amt.instd_amt.value
        for block in initiation.pmt_inf
        for transfer in block.cdt_trf_tx_inf
    ]


def test_one_transfer_for_each_installment_due(tenant: Tenant) -> None:
    schedule = [NewInstallment(in_days(3), 130_000), NewInstallment(in_days(9), 1_000_000)]
    invoice = issued(tenant, schedule=schedule)

    initiation = exported(invoice)

    assert initiation.grp_hdr.nb_of_txs == "2"
    assert initiation.grp_hdr.ctrl_sum == Decimal(1_130_000)
    assert amounts(initiation) == [Decimal(130_000), Decimal(1_000_000)]
    days = [str(block.reqd_exctn_dt.dt) for block in initiation.pmt_inf]
    assert days == [in_days(3).isoformat(), in_days(9).isoformat()]
    ids = [block.cdt_trf_tx_inf[0].pmt_id.end_to_end_id for block in initiation.pmt_inf]
    assert ids == [f"{invoice.number}-I1", f"{invoice.number}-I2"]


def test_what_is_paid_is_not_asked_for_again(tenant: Tenant) -> None:
    schedule = [NewInstallment(in_days(3), 130_000), NewInstallment(in_days(9), 1_000_000)]
    invoice = issued(tenant, schedule=schedule)
    pay_offline(invoice, 230_000)

    initiation = exported(invoice)

    assert amounts(initiation) == [Decimal(900_000)]
    assert initiation.pmt_inf[0].cdt_trf_tx_inf[0].pmt_id.end_to_end_id.endswith("-I2")


def test_installments_of_one_day_share_a_block(tenant: Tenant) -> None:
    schedule = [NewInstallment(in_days(3), 130_000), NewInstallment(in_days(3), 1_000_000)]
    initiation = exported(issued(tenant, schedule=schedule))
    [block] = initiation.pmt_inf
    assert block.nb_of_txs == "2"
    assert block.ctrl_sum == Decimal(1_130_000)


def test_what_is_overdue_is_executed_today(tenant: Tenant) -> None:
    invoice = issued(tenant, due_date=in_days(1))
    late = timezone.now() + dt.timedelta(days=10)
    initiation = exported(invoice, now=late)
    assert str(initiation.pmt_inf[0].reqd_exctn_dt.dt) == late.date().isoformat()


def test_accounts_by_iban_and_a_structured_address(tenant: Tenant) -> None:
    InvoiceSettings.objects.create(
        tenant=tenant,
        legal_name="Toko Élan",
        street="Hauptstraße",
        building_number="5",
        post_code="10115",
        town="Berlin",
        country="DE",
        creditor_iban="DE89370400440532013000",
        creditor_bic="COBADEFFXXX",
        updated_at=timezone.now(),
    )
    customer = Customer(name="Jürgen Müller", iban="GB82WEST12345698765432", country="GB")
    initiation = exported(issued(tenant, currency="USD", lines=[line(1_005)], customer=customer))

    [block] = initiation.pmt_inf
    [transfer] = block.cdt_trf_tx_inf
    assert block.dbtr_acct.id.iban == "GB82WEST12345698765432"
    assert transfer.cdtr_acct.id.iban == "DE89370400440532013000"
    assert transfer.cdtr_agt.fin_instn_id.bicfi == "COBADEFFXXX"
    assert transfer.cdtr.pstl_adr.twn_nm == "Berlin"
    assert transfer.cdtr.pstl_adr.bldg_nb == "5"
    # Banks read SWIFT's characters only.
    assert (block.dbtr.nm, transfer.cdtr.nm) == ("Jurgen Muller", "Toko Elan")
    assert transfer.amt.instd_amt.value == Decimal("11.36")


def test_accounts_without_iban(tenant: Tenant) -> None:
    InvoiceSettings.objects.create(
        tenant=tenant,
        legal_name="Toko Maju",
        creditor_account_number="1234567890",
        creditor_bic="CENAIDJA",
        updated_at=timezone.now(),
    )
    customer = Customer(name="Budi", account_number="9876543210", bic="BMRIIDJA")
    [block] = exported(issued(tenant, customer=customer)).pmt_inf
    assert block.dbtr_acct.id.othr.id == "9876543210"
    assert block.dbtr_agt.fin_instn_id.bicfi == "BMRIIDJA"
    assert block.cdt_trf_tx_inf[0].cdtr_acct.id.othr.id == "1234567890"


def test_where_nothing_is_known_the_word_is_notprovided(tenant: Tenant) -> None:
    [block] = exported(issued(tenant, customer=Customer())).pmt_inf
    assert (block.dbtr.nm, block.dbtr_acct.id.othr.id) == ("NOTPROVIDED", "NOTPROVIDED")
    assert len(block.cdt_trf_tx_inf[0].cdtr_acct.id.othr.id) == 32


def test_what_is_not_payable_is_not_exported(tenant: Tenant) -> None:
    with pytest.raises(InvoiceNotPayable):
        exported(draft(tenant))
    paid = issued(tenant)
    pay_offline(paid, 1_130_000)
    with pytest.raises(InvoiceNotPayable):
        exported(paid)


def test_a_name_no_bank_can_read_is_refused_in_words(tenant: Tenant) -> None:
    invoice = issued(tenant, customer=Customer(name="山田太郎"))
    with pytest.raises(InvalidState, match="Latin"):
        exported(invoice)


def test_another_tenants_invoice_is_not_there(tenant: Tenant, other_tenant: Tenant) -> None:
    invoice = issued(tenant)
    with pytest.raises(NotFound):
        export_payment_initiation(
            tenant_id=other_tenant.pk, invoice_id=invoice.pk, now=timezone.now()
        )
