"""ISO 20022: what banks accept from us, and what we take from them."""

import datetime as dt
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiso20022.pain.pain_001_001_09 import Document  # type: ignore[import-untyped]
from xsdata.formats.dataclass.parsers import XmlParser

from core.iso20022 import credit_transfers, validation
from core.iso20022.accounts import (
    InvalidAccount,
    checked_account_number,
    checked_bic,
    checked_iban,
    checked_routing_number,
)
from core.iso20022.credit_transfers import (
    BankAccount,
    CreditTransfer,
    CreditTransferFile,
    InvalidMessage,
    Party,
    PaymentBlock,
    render,
)
from core.iso20022.text import identifier, transliterated
from core.money import AMOUNT_MAX, EXPONENTS, Money, exponent

NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.timezone(dt.timedelta(hours=7)))
JAKARTA = BankAccount(number="0001112223", bic="CENAIDJA")
FLORIN = Party("PT Florin", "ID", "Jakarta")
SITI = Party("Siti Nurhalizá", "ID", "Bandung", "Jl. Merdeka", "5a", "40111")
RUPIAH = Money(1_500_000, "IDR")
UETR = UUID("6f3a2b1c-9d8e-4f70-8a1b-2c3d4e5f6071")


def transfer(end_to_end_id: str = "PO-1", amount: Money = RUPIAH) -> CreditTransfer:
    return CreditTransfer(end_to_end_id, amount, SITI, JAKARTA, "Payout \u2013 November")


def block(*transfers: CreditTransfer, id: str = "B-1") -> PaymentBlock:
    return PaymentBlock(id, FLORIN, JAKARTA, dt.date(2026, 11, 23), transfers or (transfer(),))


def file(*blocks: PaymentBlock, id: str = "M-1") -> CreditTransferFile:
    return CreditTransferFile(id, NOON, FLORIN, blocks or (block(),))


def with_account(account: BankAccount) -> CreditTransferFile:
    return file(block(CreditTransfer("PO-1", Money(100, "USD"), SITI, account)))


# --- Schemas -----------------------------------------------------------------------------------
def test_schemas_are_the_published_ones() -> None:
    notice = (validation.SCHEMAS / "NOTICE.md").read_text()
    noted = dict(re.findall(r"\| `(.*\.xsd)` \| `([0-9a-f]{64})` \|", notice))

    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in schemas()}

    assert found == noted
    assert len(found) == 3


def schemas() -> list[Path]:
    return sorted(validation.SCHEMAS.glob("*.xsd"))


# --- pain.001 ----------------------------------------------------------------------------------
def test_another_library_reads_what_we_wrote() -> None:
    one = CreditTransfer(
        "PO-1", Money(1_500_000, "IDR"), SITI, JAKARTA, "Payout \u2013 November", UETR
    )
    iban = BankAccount(iban="DE89370400440532013000", bic="COBADEFFXXX", currency="EUR")
    two = CreditTransfer("PO-2", Money(1050, "EUR"), Party("Jörg Groß", "DE"), iban)
    slev = PaymentBlock("B-2", FLORIN, iban, dt.date(2026, 11, 24), (two,), "SLEV")

    message = XmlParser().from_bytes(render(file(block(one), slev)), Document).cstmr_cdt_trf_initn

    header, (idr, eur) = message.grp_hdr, message.pmt_inf
    assert (header.msg_id, header.nb_of_txs, header.ctrl_sum) == ("M-1", "2", Decimal("1500010.50"))
    assert str(header.cre_dt_tm) == "2026-11-20T12:00:00+07:00"
    assert (idr.nb_of_txs, idr.ctrl_sum, idr.chrg_br.value) == ("1", 1_500_000, "SHAR")
    assert (str(idr.reqd_exctn_dt.dt), idr.pmt_mtd.value) == ("2026-11-23", "TRF")
    assert idr.dbtr_acct.id.othr.id == "0001112223"
    paid = idr.cdt_trf_tx_inf[0]
    assert (paid.pmt_id.end_to_end_id, paid.pmt_id.uetr) == ("PO-1", str(UETR))
    assert (paid.amt.instd_amt.value, paid.amt.instd_amt.ccy) == (1_500_000, "IDR")
    address = paid.cdtr.pstl_adr
    assert (paid.cdtr.nm, address.twn_nm, address.ctry) == ("Siti Nurhaliza", "Bandung", "ID")
    assert (address.strt_nm, address.bldg_nb, address.pst_cd) == ("Jl. Merdeka", "5a", "40111")
    assert paid.cdtr_agt.fin_instn_id.bicfi == "CENAIDJA"
    assert paid.rmt_inf.ustrd == ["Payout - November"]
    paid = eur.cdt_trf_tx_inf[0]
    assert (eur.chrg_br.value, paid.cdtr.nm, paid.cdtr.pstl_adr) == ("SLEV", "Jorg Gross", None)
    assert (paid.cdtr_acct.id.iban, paid.cdtr_acct.ccy) == (iban.iban, "EUR")
    assert (paid.amt.instd_amt.value, paid.rmt_inf) == (Decimal("10.50"), None)


@pytest.mark.parametrize(
    ("money", "written"),
    [
        (Money(1_500_000, "IDR"), "1500000"),
        (Money(5, "USD"), "0.05"),
        (Money(100, "MYR"), "1.00"),
        (Money(1, "KWD"), "0.001"),
        (Money(AMOUNT_MAX, "USD"), "90000000000000.00"),
    ],
)
def test_an_amount_has_the_digits_of_its_currency(money: Money, written: str) -> None:
    xml = render(file(block(transfer(amount=money)))).decode()

    assert f'<InstdAmt Ccy="{money.currency}">{written}</InstdAmt>' in xml
    assert xml.count(f"<CtrlSum>{written}</CtrlSum>") == 2


amounts = st.lists(st.integers(1, 10**13), min_size=1, max_size=6)
currencies = st.sampled_from(sorted(EXPONENTS))


@settings(max_examples=60, deadline=None)
@given(blocks=st.lists(st.tuples(currencies, amounts), min_size=1, max_size=4))
def test_totals_are_the_sums(blocks: list[tuple[str, list[int]]]) -> None:
    built = [
        block(
            *(transfer(f"{b}-{i}", Money(units, currency)) for i, units in enumerate(minor_units)),
            id=f"B{b}",
        )
        for b, (currency, minor_units) in enumerate(blocks)
    ]

    message = XmlParser().from_bytes(render(file(*built)), Document).cstmr_cdt_trf_initn

    sums = [
        (len(units), sum(Decimal(u).scaleb(-exponent(code)) for u in units))
        for code, units in blocks
    ]
    assert [(int(b.nb_of_txs), b.ctrl_sum) for b in message.pmt_inf] == sums
    count, total = int(message.grp_hdr.nb_of_txs), message.grp_hdr.ctrl_sum
    assert (count, total) == (sum(c for c, _ in sums), sum(s for _, s in sums))


def test_banks_without_a_bic_are_named_by_their_clearing() -> None:
    us = BankAccount(number="12345678", clearing_member_id="111000025", clearing_system="USABA")

    xml = render(with_account(us)).decode()

    member = "<ClrSysId><Cd>USABA</Cd></ClrSysId><MmbId>111000025</MmbId>"
    assert f"<CdtrAgt><FinInstnId><ClrSysMmbId>{member}</ClrSysMmbId>" in xml


def test_a_debtors_bank_that_knows_itself_is_not_provided() -> None:
    own = PaymentBlock("B", FLORIN, BankAccount(number="1"), dt.date(2026, 1, 1), (transfer(),))

    assert b"<DbtrAgt><FinInstnId><Othr><Id>NOTPROVIDED</Id>" in render(file(own))


def test_an_address_has_town_and_country_or_is_left_out() -> None:
    for party in (Party("Siti", None, "Bandung"), Party("Siti", "ID", street="Jl. Merdeka")):
        xml = render(file(block(CreditTransfer("PO-1", RUPIAH, party, JAKARTA))))

        assert b"<Cdtr><Nm>Siti</Nm></Cdtr>" in xml


def test_of_a_time_of_execution_the_day_is_written() -> None:
    today = PaymentBlock("B", FLORIN, JAKARTA, NOON, (transfer(),))

    assert b"<ReqdExctnDt><Dt>2026-11-20</Dt></ReqdExctnDt>" in render(file(today))


@pytest.mark.parametrize(
    "build",
    [
        lambda: transfer(amount=Money(0, "IDR")),
        lambda: transfer(amount=Money(-1, "IDR")),
        lambda: transfer("x" * 36),
        lambda: transfer("PO/"),
        lambda: file(id="M\n1"),
        lambda: file(block(id="é")),
        lambda: Party("王小明", "CN"),
        lambda: Party("", "ID"),
        lambda: BankAccount(),
        lambda: BankAccount(iban="DE89370400440532013000", number="1"),
        lambda: BankAccount(number="1" * 35),
        lambda: PaymentBlock("B-1", FLORIN, JAKARTA, dt.date(2026, 1, 1), ()),
        lambda: PaymentBlock("B", FLORIN, JAKARTA, dt.date(2026, 1, 1), (transfer(),), "X"),  # type: ignore[arg-type]
        lambda: block(transfer("1"), transfer("2", Money(1, "USD"))),
        lambda: file(block(id="B"), block(transfer("2"), id="B")),
        lambda: file(block(transfer("1")), block(transfer("1"), id="B-2")),
        lambda: file(block(*(replace(transfer(i), uetr=UETR) for i in "12"))),
        lambda: file(block(*(transfer(str(i)) for i in range(10_001)))),
        lambda: CreditTransferFile("M", NOON.replace(tzinfo=None), FLORIN, (block(),)),
        lambda: CreditTransferFile("M", NOON, FLORIN, ()),
        # By the schema only.
        lambda: render(with_account(BankAccount(number="1", bic="CENAID"))),
        lambda: render(with_account(BankAccount(iban="12345"))),
        lambda: render(with_account(BankAccount(iban="DE\x00"))),
        lambda: render(file(block(transfer(amount=Money(10**18, "IDR"))))),
        lambda: render(with_account(BankAccount(number="1", currency="Rp"))),
    ],
)
def test_what_banks_refuse_is_refused_here(build: Callable[[], object]) -> None:
    with pytest.raises(InvalidMessage):
        build()


def test_a_refusal_keeps_account_numbers_to_itself() -> None:
    with pytest.raises(InvalidMessage, match="IBAN") as refusal:
        render(with_account(BankAccount(iban="12345SECRET")))

    assert "SECRET" not in str(refusal.value)


def test_a_file_of_ten_thousand_is_written_in_linear_time() -> None:
    many = file(block(*(transfer(f"PO-{i}") for i in range(credit_transfers.TRANSFERS_MAX))))
    started = time.process_time()

    xml = render(many)

    # Ten times what it takes here: a busy machine is no fault, quadratic time is one.
    assert time.process_time() - started < 5
    assert b"<NbOfTxs>10000</NbOfTxs>" in xml


# --- Characters --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Łukasz Ørsted-Çelik", "Lukasz Orsted-Celik"),
        ("Straße, Þór, Æsir, œuvre, đ \u0131", "Strasse, Thor, AEsir, oeuvre, d i"),
        ("“Don\u2019t” \u2013 „really“…", "'Don't' - 'really'..."),
        ("Tan & Sons; a@b.id", "Tan + Sons, a(at)b.id"),
        (" two\n\tlines\u00a0here ", "two lines here"),
        ("/ref//1 / /2/", "ref/1 /2"),
        ("Lunch 🍜 王", "Lunch"),
        ("ﬁ Ⅷ \uff11\uff12", "fi VIII 12"),
        ("\ud800\x00\x1b", ""),
    ],
)
def test_names_are_written_in_swift_characters(text: str, written: str) -> None:
    assert transliterated(text, 70) == written


@given(text=st.text(), length_max=st.integers(1, 140))
def test_any_text_becomes_one_that_banks_read(text: str, length_max: int) -> None:
    written = transliterated(text, length_max)

    assert re.fullmatch(r"[A-Za-z0-9/\-?:().,'+ ]*", written)
    assert len(written) <= length_max
    assert "//" not in written
    assert "  " not in written
    assert written == written.strip(" /")
    assert transliterated(written, length_max) == written


@pytest.mark.parametrize("reference", ["A", "a-Z/0?:().,'+ 9", "x" * 35])
def test_a_good_reference_stays(reference: str) -> None:
    assert identifier(reference) == reference


@pytest.mark.parametrize(
    "reference",
    ["", "x" * 36, "/a", "a/", "a//b", " a", "a ", "a\n", "a_b", "a#b", "é", "a\u0660"],
)
def test_a_bad_reference_is_refused_and_not_rewritten(reference: str) -> None:
    with pytest.raises(ValueError, match="A reference"):
        identifier(reference)


# --- Accounts ----------------------------------------------------------------------------------
def test_accounts_are_made_compact() -> None:
    assert checked_iban("de89 3704 0044 0532 0130 00", "DE") == "DE89370400440532013000"
    assert checked_bic(" cena idja ", "ID") == "CENAIDJA"
    assert checked_routing_number("1110-00025") == "111000025"
    assert checked_account_number("123-456 7890", "ID") == "1234567890"
    assert checked_account_number("ab 1234", "KE") == "AB1234"


@pytest.mark.parametrize(
    "check",
    [
        lambda: checked_iban("DE89370400440532013001"),
        lambda: checked_iban("DE89370400440532013000", "FR"),
        lambda: checked_iban("DE89370400440532013000\u0660"),
        lambda: checked_iban("ID89370400440532013000"),
        lambda: checked_iban(""),
        lambda: checked_bic("CENAIDJ"),
        lambda: checked_bic("CENAIDJA", "MY"),
        lambda: checked_bic("CENAZZJA"),
        lambda: checked_routing_number("111000026"),
        lambda: checked_routing_number("000000000"),
        lambda: checked_routing_number("11100002"),
        lambda: checked_account_number("12345", "ID"),
        lambda: checked_account_number("1" * 21, "ID"),
        lambda: checked_account_number("1234567a", "MY"),
        lambda: checked_account_number("\u0661" * 7, "JP"),
        lambda: checked_account_number("123456", "JP"),
        lambda: checked_account_number("123456", "SG"),
        lambda: checked_account_number("123", "US"),
        lambda: checked_account_number("1234567890", "DE"),
        lambda: checked_account_number("ABCDEF", "KE"),
        lambda: checked_account_number("1234567890", "id"),
    ],
)
def test_accounts_that_cannot_exist_are_refused(check: Callable[[], str]) -> None:
    with pytest.raises(InvalidAccount):
        check()
