"""
Orders to a bank to pay: pain.001.001.09, the Customer Credit Transfer Initiation.

Knows of no payout and no invoice: who wants money sent builds a `CreditTransferFile` and sends
what `render` returns. What a bank would refuse is refused while it is built.
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args
from uuid import UUID

from lxml import etree

from core.iso20022 import validation
from core.iso20022.accounts import ACCOUNT_NUMBER_LENGTH_MAX
from core.iso20022.text import (
    NAME_LENGTH_MAX,
    REMITTANCE_LENGTH_MAX,
    identifier,
    transliterated,
)
from core.money import EXPONENTS, Money, exponent

SCHEMA: Final = "pain.001.001.09"
TRANSFERS_MAX: Final = 10_000
_NAMESPACE: Final = f"urn:iso:std:iso:20022:tech:xsd:{SCHEMA}"
_EXPONENT_MAX: Final = max(EXPONENTS.values())
# What PstlAdr of this version allows.
_TOWN_LENGTH_MAX, _STREET_LENGTH_MAX, _BUILDING_LENGTH_MAX, _POSTAL_CODE_LENGTH_MAX = 35, 70, 16, 16

ChargeBearer = Literal["SHAR", "SLEV", "DEBT", "CRED"]


class InvalidMessage(ValueError):
    """A bank would refuse the message; the sentence says why and never repeats a value."""


@dataclass(frozen=True, slots=True)
class Party:
    """
    Who pays or is paid.

    The address goes into the message only where town and country are known: since November 2026
    banks refuse one that is not structured, and these two are the least that counts as structured.

    :raises InvalidMessage: no character of the name can be written in SWIFT's set
    """

    name: str
    country: str | None
    town: str | None = None
    street: str | None = None
    building: str | None = None
    postal_code: str | None = None

    def __post_init__(self) -> None:
        if not any(c.isalnum() for c in transliterated(self.name, NAME_LENGTH_MAX)):
            raise InvalidMessage("A name has at least one letter of the Latin alphabet.")


@dataclass(frozen=True, slots=True)
class BankAccount:
    """
    An account and its bank: an IBAN or, where there is none, the number as the bank writes it.

    :param clearing_member_id: the bank in its country's clearing, such as a routing number
    :param clearing_system: code of the list ExternalClearingSystemIdentification, such as USABA
    :raises InvalidMessage: both or neither of IBAN and number, or a number banks cannot read
    """

    iban: str | None = None
    number: str | None = None
    bic: str | None = None
    clearing_member_id: str | None = None
    currency: str | None = None
    clearing_system: str | None = None

    def __post_init__(self) -> None:
        if (self.iban is None) == (self.number is None):
            raise InvalidMessage("An account has either an IBAN or a number.")
        if self.number is not None:
            _checked_reference(self.number, "account number", ACCOUNT_NUMBER_LENGTH_MAX)
        if self.clearing_member_id is not None:
            _checked_reference(self.clearing_member_id, "clearing member id")


@dataclass(frozen=True, slots=True)
class CreditTransfer:
    """
    One payment. `end_to_end_id` reaches the creditor and comes back in every status report.

    :param remittance: what the creditor reads, at most 140 characters of it
    :raises InvalidMessage: amount not above zero, or a reference banks refuse
    """

    end_to_end_id: str
    amount: Money
    creditor: Party
    account: BankAccount
    remittance: str = ""
    uetr: UUID | None = None

    def __post_init__(self) -> None:
        _checked_reference(self.end_to_end_id, "end-to-end id")
        if self.amount.minor_units <= 0:
            raise InvalidMessage("The amount of a transfer is above zero.")


@dataclass(frozen=True, slots=True)
class PaymentBlock:
    """
    Transfers from one account on one day, all in one currency.

    :raises InvalidMessage: no transfer, two currencies, or an id banks refuse
    """

    id: str
    debtor: Party
    account: BankAccount
    execution_date: dt.date
    transfers: tuple[CreditTransfer, ...]
    charge_bearer: ChargeBearer = "SHAR"

    def __post_init__(self) -> None:
        # A list could be changed after the checks.
        object.__setattr__(self, "transfers", tuple(self.transfers))
        _checked_reference(self.id, "id of a payment block")
        if not self.transfers:
            raise InvalidMessage("A payment block has at least one transfer.")
        if len({transfer.amount.currency for transfer in self.transfers}) > 1:
            raise InvalidMessage("The transfers of a payment block are in one currency.")
        if self.charge_bearer not in get_args(ChargeBearer):
            raise InvalidMessage("Charges are borne by SHAR, SLEV, DEBT or CRED.")

    @property
    def currency(self) -> str:
        return self.transfers[0].amount.currency


@dataclass(frozen=True, slots=True)
class CreditTransferFile:
    """
    A file for one bank. Banks refuse a second one with the same `message_id`.

    :param created_at: with a time zone
    :raises InvalidMessage: no block, more than 10,000 transfers, an id twice, or a bad one
    """

    message_id: str
    created_at: dt.datetime
    initiator: Party
    blocks: tuple[PaymentBlock, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        _checked_reference(self.message_id, "message id")
        if self.created_at.utcoffset() is None:
            raise InvalidMessage("The time of a file has a time zone.")
        if not self.blocks:
            raise InvalidMessage("A file has at least one payment block.")
        transfers = list(self.transfers())
        if len(transfers) > TRANSFERS_MAX:
            raise InvalidMessage(f"A file has at most {TRANSFERS_MAX} transfers.")
        _refuse_twins((block.id for block in self.blocks), "id of a payment block")
        _refuse_twins((transfer.end_to_end_id for transfer in transfers), "end-to-end id")
        _refuse_twins((t.uetr for t in transfers if t.uetr is not None), "UETR")

    def transfers(self) -> Iterator[CreditTransfer]:
        for block in self.blocks:
            yield from block.transfers


def render(file: CreditTransferFile) -> bytes:
    """
    Return the file as XML in UTF-8, valid by the schema.

    NbOfTxs and CtrlSum stand at both levels. The schema checks neither, but banks do; the file's
    CtrlSum adds figures irrespective of currency, as the standard has it.

    :raises InvalidMessage: what the schema refuses, such as a BIC of another form
    """
    try:
        root = _document(file)
    except ValueError:
        # lxml's refusal of what no XML can hold.
        raise InvalidMessage("A field has a control character.") from None
    fault = validation.fault_of(root, SCHEMA)
    if fault is not None:
        raise InvalidMessage(f"The file is not valid by {SCHEMA}: {fault}")
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _document(file: CreditTransferFile) -> "etree._Element":
    root = etree.Element(f"{{{_NAMESPACE}}}Document", nsmap={None: _NAMESPACE})
    initiation = _add(root, "CstmrCdtTrfInitn")
    header = _add(initiation, "GrpHdr")
    _add(header, "MsgId", file.message_id)
    _add(header, "CreDtTm", file.created_at.isoformat(timespec="seconds"))
    _add_totals(header, file.blocks)
    _add_party(header, "InitgPty", file.initiator)
    for block in file.blocks:
        _add_block(initiation, block)
    return root


def _add_block(initiation: "etree._Element", block: PaymentBlock) -> None:
    information = _add(initiation, "PmtInf")
    _add(information, "PmtInfId", block.id)
    _add(information, "PmtMtd", "TRF")
    _add_totals(information, [block])
    _add(_add(information, "ReqdExctnDt"), "Dt", block.execution_date.isoformat()[:10])
    _add_party(information, "Dbtr", block.debtor)
    _add_account(information, "DbtrAcct", block.account)
    _add_agent(information, "DbtrAgt", block.account)
    _add(information, "ChrgBr", block.charge_bearer)
    for transfer in block.transfers:
        _add_transfer(information, transfer)


def _add_transfer(information: "etree._Element", transfer: CreditTransfer) -> None:
    element = _add(information, "CdtTrfTxInf")
    ids = _add(element, "PmtId")
    _add(ids, "EndToEndId", transfer.end_to_end_id)
    if transfer.uetr is not None:
        _add(ids, "UETR", str(transfer.uetr))
    money = transfer.amount
    amount = _figure(money.minor_units, exponent(money.currency))
    _add(_add(element, "Amt"), "InstdAmt", amount).set("Ccy", money.currency)
    if transfer.account.bic or transfer.account.clearing_member_id:
        _add_agent(element, "CdtrAgt", transfer.account)
    _add_party(element, "Cdtr", transfer.creditor)
    _add_account(element, "CdtrAcct", transfer.account)
    remittance = transliterated(transfer.remittance, REMITTANCE_LENGTH_MAX)
    if remittance:
        _add(_add(element, "RmtInf"), "Ustrd", remittance)


def _add_totals(parent: "etree._Element", blocks: Iterable[PaymentBlock]) -> None:
    """
    Add NbOfTxs and CtrlSum. In whole numbers, for a Decimal's sum is as exact as its context.
    """
    count, total, places = 0, 0, 0
    for block in blocks:
        digits = exponent(block.currency)
        places = max(places, digits)
        count += len(block.transfers)
        minor_units = sum(transfer.amount.minor_units for transfer in block.transfers)
        total += minor_units * 10 ** (_EXPONENT_MAX - digits)
    _add(parent, "NbOfTxs", str(count))
    _add(parent, "CtrlSum", _figure(total // 10 ** (_EXPONENT_MAX - places), places))


def _add_party(parent: "etree._Element", name: str, party: Party) -> None:
    element = _add(parent, name)
    _add(element, "Nm", transliterated(party.name, NAME_LENGTH_MAX))
    town = transliterated(party.town or "", _TOWN_LENGTH_MAX)
    if not (town and party.country):
        return
    address = _add(element, "PstlAdr")
    for part, text, length_max in (
        ("StrtNm", party.street, _STREET_LENGTH_MAX),
        ("BldgNb", party.building, _BUILDING_LENGTH_MAX),
        ("PstCd", party.postal_code, _POSTAL_CODE_LENGTH_MAX),
    ):
        written = transliterated(text or "", length_max)
        if written:
            _add(address, part, written)
    _add(address, "TwnNm", town)
    _add(address, "Ctry", party.country)


def _add_account(parent: "etree._Element", name: str, account: BankAccount) -> None:
    element = _add(parent, name)
    identification = _add(element, "Id")
    if account.iban is not None:
        _add(identification, "IBAN", account.iban)
    else:
        _add(_add(identification, "Othr"), "Id", account.number)
    if account.currency:
        _add(element, "Ccy", account.currency)


def _add_agent(parent: "etree._Element", name: str, account: BankAccount) -> None:
    institution = _add(_add(parent, name), "FinInstnId")
    if account.bic:
        _add(institution, "BICFI", account.bic)
    if account.clearing_member_id:
        member = _add(institution, "ClrSysMmbId")
        if account.clearing_system:
            _add(_add(member, "ClrSysId"), "Cd", account.clearing_system)
        _add(member, "MmbId", account.clearing_member_id)
    if not (account.bic or account.clearing_member_id):
        # DbtrAgt is mandatory. The bank that gets the file knows itself; EPC's word for it.
        _add(_add(institution, "Othr"), "Id", "NOTPROVIDED")


def _add(parent: "etree._Element", name: str, text: str | None = None) -> "etree._Element":
    element = etree.SubElement(parent, f"{{{_NAMESPACE}}}{name}")
    element.text = text
    return element


def _figure(minor_units: int, places: int) -> str:
    """Return the amount with all its decimal places: (150, 2) is 1.50, (150, 0) is 150."""
    whole, fraction = divmod(minor_units, 10**places)
    return f"{whole}.{fraction:0{places}d}" if places else str(whole)


def _checked_reference(text: str, what: str, length_max: int = 35) -> None:
    try:
        identifier(text, length_max)
    except ValueError as refusal:
        raise InvalidMessage(f"This {what} is refused by banks. {refusal}") from None


def _refuse_twins(ids: Iterable[object], what: str) -> None:
    if any(count > 1 for count in Counter(ids).values()):
        raise InvalidMessage(f"The same {what} occurs twice in the file.")
