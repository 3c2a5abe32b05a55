"""
What banks say became of our payments, in one shape.

Read: pain.002 (Customer Payment Status Report) and camt.054 (Debit Credit Notification), where a
debit says that a payment was executed and a credit with a return reason that it came back.
"""

import datetime as dt
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final, Literal

from lxml import etree

from core.iso20022 import validation
from core.iso20022.reading import BYTES_MAX, UnreadableMessage, parse_safely
from core.iso20022.status_codes import RETURNED

Kind = Literal["pain.002", "camt.054"]

# The paths read here are the same in all of these.
VERSIONS: Final[dict[str, frozenset[str]]] = {
    "pain.002": frozenset({"03", "10", "12", "14"}),
    "camt.054": frozenset({"02", "04", "08"}),
}
REASON_TEXT_LENGTH_MAX: Final = 500
_ID_LENGTH_MAX: Final = 35
_ROOT = re.compile(
    r"\{urn:iso:std:iso:20022:tech:xsd:(?P<kind>pain\.002|camt\.054)\.001\.(?P<version>[0-9]{2})\}"
    "Document"
)
# xs:decimal without a sign, and what any schema of these allows at most.
_AMOUNT = re.compile(r"(?=\.?[0-9])[0-9]{0,18}(?:\.[0-9]{0,17})?")
_CURRENCY = re.compile("[A-Z]{3}")
# Entries of camt.054 in the words of pain.002. INFO and a bank's own codes stay as they are.
_STATUS_BY_ENTRY: Final = {"BOOK": "ACSC", "PDNG": "PDNG", "FUTR": "PDNG"}
# Said of a group that was accepted in part, it says nothing of what is not listed.
_PARTLY: Final = "PART"
_NO_REFERENCE: Final = "NOTPROVIDED"


@dataclass(frozen=True, slots=True)
class StatusItem:
    """
    What the report says of one payment.

    `status` is the bank's code as it stands, `RTND` where the money came back, and empty where
    the bank gave none; `core.iso20022.status_codes.outcome_of` says what it means. `amount` is in
    major units: of pain.002 as instructed, of camt.054 as booked, perhaps without charges.
    """

    end_to_end_id: str | None
    original_payment_block_id: str | None
    status: str
    reason_code: str | None = None
    reason_text: str = ""
    amount: Decimal | None = None
    currency: str | None = None
    bank_reference: str | None = None
    uetr: str | None = None


@dataclass(frozen=True, slots=True)
class BlockStatus:
    """What the report says of a whole payment block, `status` perhaps None."""

    payment_block_id: str
    status: str | None
    reason_code: str | None = None
    reason_text: str = ""


@dataclass(frozen=True, slots=True)
class StatusReport:
    """
    A bank's message. `message_id` is the bank's: the same one twice is the same message twice.

    `created_at` has a time zone; banks may leave it out, and UTC is assumed then.
    """

    message_id: str
    kind: Kind
    created_at: dt.datetime
    original_message_id: str | None
    group_status: str | None
    items: tuple[StatusItem, ...]
    blocks: tuple[BlockStatus, ...] = ()
    group_reason_code: str | None = None
    group_reason_text: str = ""


def read_status_report(data: bytes, *, bytes_max: int = BYTES_MAX) -> StatusReport:
    """
    Return what the message says, checked by its schema where we carry that version.

    :raises UnreadableMessage: not XML, unsafe, another message or version, not as its schema says
    """
    root = parse_safely(data, bytes_max=bytes_max)
    found = _ROOT.fullmatch(str(root.tag))
    if found is None:
        raise UnreadableMessage("The message is neither a pain.002 nor a camt.054.")
    kind, version = found["kind"], found["version"]
    if version not in VERSIONS[kind]:
        raise UnreadableMessage(f"Version {version} of {kind} is not read here.")
    schema = f"{kind}.001.{version}"
    fault = validation.fault_of(root, schema) if validation.is_carried(schema) else None
    if fault is not None:
        raise UnreadableMessage(f"The message is not valid by {schema}: {fault}")
    document = _Node(root)
    return _status_report(document) if kind == "pain.002" else _notification(document)


def statuses_of(report: StatusReport, sent: Iterable[tuple[str, str]]) -> Iterator[StatusItem]:
    """
    Yield what the report says of each payment, listed or not, in the order sent.

    A payment that is not listed has its block's status, else its group's, unless that is PART.
    Nothing is inferred for a block in which the bank named a payment by other references than ours.
    Nothing is yielded where the report says nothing, several items where it says several things,
    such as executed and returned. The caller has looked that the report is of this message.

    :param sent: (payment block id, end-to-end id) of the payments asked for
    """
    listed: dict[tuple[str | None, str | None], list[StatusItem]] = {}
    for item in report.items:
        key = item.original_payment_block_id, item.end_to_end_id
        listed.setdefault(key, []).append(item)
    unnamed = {i.original_payment_block_id for i in report.items if i.end_to_end_id is None}
    blocks = {block.payment_block_id: block for block in report.blocks}
    for block_id, end_to_end_id in sent:
        # Banks may leave the block out.
        items = [*listed.get((block_id, end_to_end_id), ()), *listed.get((None, end_to_end_id), ())]
        if items:
            yield from items
            continue
        if block_id in unnamed:
            continue
        status, code, text = _inherited(report, blocks.get(block_id))
        if status:
            yield StatusItem(end_to_end_id, block_id, status, code, text)


class _Node:
    """An element whose children are of the message's own namespace. Paths are like `Refs/PmtId`."""

    __slots__ = ("_namespace", "element")

    def __init__(self, element: "etree._Element") -> None:
        self.element = element
        self._namespace = etree.QName(element).namespace or ""

    def one(self, path: str) -> "_Node | None":
        found = self.element.find(_qualified(path, self._namespace))
        return None if found is None else _Node(found)

    def all(self, path: str) -> "list[_Node]":
        return [_Node(found) for found in self.element.findall(_qualified(path, self._namespace))]

    def text(self, path: str, length_max: int = _ID_LENGTH_MAX) -> str | None:
        """Return the text, stripped; None where the element is absent or empty."""
        found = self.element.find(_qualified(path, self._namespace))
        text = (found.text or "").strip() if found is not None else ""
        if len(text) > length_max:
            # Versions without a schema here; what follows has columns of these lengths.
            raise UnreadableMessage(f"{path} is longer than {length_max} characters.")
        return text or None

    def required(self, path: str) -> "_Node":
        found = self.one(path)
        if found is None:
            raise UnreadableMessage(f"The message has no {path}.")
        return found

    def required_text(self, path: str) -> str:
        text = self.text(path)
        if text is None:
            raise UnreadableMessage(f"The message has no {path}.")
        return text


@functools.lru_cache(maxsize=512)
def _qualified(path: str, namespace: str) -> str:
    return "/".join(f"{{{namespace}}}{name}" for name in path.split("/"))


def _inherited(
    report: StatusReport, block: BlockStatus | None
) -> tuple[str | None, str | None, str]:
    """Return (status, reason code, reason text) of who is not listed, or has no status."""
    if block is not None and block.status is not None:
        status, code, text = block.status, block.reason_code, block.reason_text
    else:
        status, code = report.group_status or "", report.group_reason_code
        text = report.group_reason_text
    return (None, None, "") if status == _PARTLY else (status or None, code, text)


# --- pain.002 ----------------------------------------------------------------------------------
def _status_report(document: _Node) -> StatusReport:
    message = document.required("CstmrPmtStsRpt")
    group = message.required("OrgnlGrpInfAndSts")
    code, text = _reason(group.all("StsRsnInf"))
    report = StatusReport(
        message_id=message.required_text("GrpHdr/MsgId"),
        kind="pain.002",
        created_at=_moment(message.required_text("GrpHdr/CreDtTm")),
        original_message_id=group.required_text("OrgnlMsgId"),
        group_status=group.text("GrpSts"),
        items=(),
        group_reason_code=code,
        group_reason_text=text,
    )
    items: list[StatusItem] = []
    blocks: list[BlockStatus] = []
    for element in message.all("OrgnlPmtInfAndSts"):
        code, text = _reason(element.all("StsRsnInf"))
        block = BlockStatus(
            element.required_text("OrgnlPmtInfId"), element.text("PmtInfSts"), code, text
        )
        blocks.append(block)
        items += [_item(report, block, found) for found in element.all("TxInfAndSts")]
    return replace(report, items=tuple(items), blocks=tuple(blocks))


def _item(report: StatusReport, block: BlockStatus, element: _Node) -> StatusItem:
    status = element.text("TxSts")
    code, text = _reason(element.all("StsRsnInf"))
    if status is None:
        status, inherited_code, inherited_text = _inherited(report, block)
        code, text = (code, text) if code or text else (inherited_code, inherited_text)
    amount, currency = _amount(element.one("OrgnlTxRef/Amt/InstdAmt"))
    return StatusItem(
        end_to_end_id=_end_to_end_id(element, "OrgnlEndToEndId"),
        original_payment_block_id=block.payment_block_id,
        status=status or "",
        reason_code=code,
        reason_text=text,
        amount=amount,
        currency=currency,
        bank_reference=element.text("AcctSvcrRef"),
        uetr=element.text("OrgnlUETR", 36),
    )


# --- camt.054 ----------------------------------------------------------------------------------
def _notification(document: _Node) -> StatusReport:
    message = document.required("BkToCstmrDbtCdtNtfctn")
    items: list[StatusItem] = []
    blocks: list[BlockStatus] = []
    for entry in message.all("Ntfctn/Ntry"):
        details = entry.all("NtryDtls")
        is_single = sum(len(detail.all("TxDtls")) for detail in details) == 1
        for detail in details:
            batch_id = detail.text("Btch/PmtInfId")
            transactions = detail.all("TxDtls")
            status = _entry_status(entry, None)
            if batch_id and status and not transactions:
                # One debit for the whole block.
                blocks.append(BlockStatus(batch_id, status))
            items += [
                item
                for transaction in transactions
                if (item := _booked(entry, transaction, batch_id, is_single)) is not None
            ]
    return StatusReport(
        message_id=message.required_text("GrpHdr/MsgId"),
        kind="camt.054",
        created_at=_moment(message.required_text("GrpHdr/CreDtTm")),
        original_message_id=None,
        group_status=None,
        items=tuple(items),
        blocks=tuple(blocks),
    )


def _booked(
    entry: _Node, transaction: _Node, batch_id: str | None, is_single: bool
) -> StatusItem | None:
    """Return what the transaction says of a payment of ours; None for money that came in."""
    status = _entry_status(entry, transaction)
    if status is None:
        return None
    code, text = _reason(transaction.all("RtrInf")) if status == RETURNED else (None, "")
    # .02 has no Amt of its own. The entry's is the sum of all its transactions.
    booked = (
        transaction.one("Amt")
        or transaction.one("AmtDtls/TxAmt/Amt")
        or transaction.one("AmtDtls/InstdAmt/Amt")
        or (entry.one("Amt") if is_single else None)
    )
    amount, currency = _amount(booked)
    return StatusItem(
        end_to_end_id=_end_to_end_id(transaction, "Refs/EndToEndId"),
        original_payment_block_id=transaction.text("Refs/PmtInfId") or batch_id,
        status=status,
        reason_code=code,
        reason_text=text,
        amount=amount,
        currency=currency,
        bank_reference=transaction.text("Refs/AcctSvcrRef") or entry.text("AcctSvcrRef"),
        uetr=transaction.text("Refs/UETR", 36),
    )


def _entry_status(entry: _Node, transaction: _Node | None) -> str | None:
    """
    Return the status in pain.002's words; None where it is no payment of ours.

    A reversed debit is booked as a credit with RvslInd. What is not booked has not come back yet,
    and a debit that reverses or returns takes back what others paid to us.
    """
    direction = entry.text("CdtDbtInd")
    has_reason = False
    if transaction is not None:
        direction = transaction.text("CdtDbtInd") or direction
        has_reason = transaction.one("RtrInf") is not None
    goes_back = has_reason or entry.text("RvslInd") in {"true", "1"}
    # Plain text up to .04, a choice afterwards.
    code = entry.text("Sts/Cd") or entry.text("Sts/Prtry") or entry.text("Sts") or ""
    if direction == "CRDT" and goes_back and code == "BOOK":
        return RETURNED
    if direction == "DBIT" and not goes_back:
        return _STATUS_BY_ENTRY.get(code, code)
    return None


# --- Both --------------------------------------------------------------------------------------
def _reason(elements: list[_Node]) -> tuple[str | None, str]:
    """Return the first code, an ISO one before a bank's own, and all texts as one line."""
    code: str | None = None
    texts: list[str] = []
    for element in elements:
        code = code or element.text("Rsn/Cd") or element.text("Rsn/Prtry")
        texts += [found.element.text or "" for found in element.all("AddtlInf")]
    return code, " ".join(" ".join(texts).split())[:REASON_TEXT_LENGTH_MAX]


def _end_to_end_id(element: _Node, path: str) -> str | None:
    text = element.text(path)
    return None if text == _NO_REFERENCE else text


def _amount(node: _Node | None) -> tuple[Decimal | None, str | None]:
    if node is None:
        return None, None
    text = (node.element.text or "").strip().removeprefix("+")
    currency = node.element.get("Ccy") or ""
    if not _AMOUNT.fullmatch(text) or not _CURRENCY.fullmatch(currency):
        raise UnreadableMessage("An amount is not a number with a currency.")
    return Decimal(text), currency


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
        return moment if moment.utcoffset() is not None else moment.replace(tzinfo=dt.UTC)
    except ValueError:
        raise UnreadableMessage("CreDtTm is not a date and a time.") from None
