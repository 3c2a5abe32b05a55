"""ISO 20022: what we take from banks, and what no stranger's XML can do here."""

import datetime as dt
import socket
import time
from decimal import Decimal

import pytest

from core.iso20022.reading import UnreadableMessage, parse_safely
from core.iso20022.status_codes import Outcome, normalised, outcome_of
from core.iso20022.status_reports import StatusItem, read_status_report, statuses_of

UETR = "6f3a2b1c-9d8e-4f70-8a1b-2c3d4e5f6071"


# --- XML of strangers --------------------------------------------------------------------------
PAIN = "urn:iso:std:iso:20022:tech:xsd:pain.002.001."
REPORT = (
    '<Document xmlns="{namespace}"><CstmrPmtStsRpt><GrpHdr><MsgId>R-1</MsgId>'
    "<CreDtTm>2026-11-21T09:00:00Z</CreDtTm></GrpHdr><OrgnlGrpInfAndSts><OrgnlMsgId>M-1"
    "</OrgnlMsgId><OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId>{group}</OrgnlGrpInfAndSts>{blocks}"
    "</CstmrPmtStsRpt></Document>"
)


def report(group: str = "", blocks: str = "", version: str = "10") -> bytes:
    return REPORT.format(namespace=PAIN + version, group=group, blocks=blocks).encode()


def item(end_to_end_id: str, status: str, more: str = "") -> str:
    return (
        f"<TxInfAndSts><OrgnlEndToEndId>{end_to_end_id}</OrgnlEndToEndId>"
        f"<TxSts>{status}</TxSts>{more}</TxInfAndSts>"
    )


def original_block(*items: str, id: str = "B-1", status: str = "") -> str:
    return (
        f"<OrgnlPmtInfAndSts><OrgnlPmtInfId>{id}</OrgnlPmtInfId>{status}{''.join(items)}"
        "</OrgnlPmtInfAndSts>"
    )


LAUGHS = "".join(f"<!ENTITY l{i} '{f'&l{i - 1};' * 10}'>" for i in range(1, 12))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"   ",
        b"not XML",
        b"<a>",
        b"<a/><a/>",
        b"<html><body><br></body></html>",
        b"<!DOCTYPE html><html/>",
        b"<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><a>&e;</a>",
        f"<!DOCTYPE a [<!ENTITY l0 'ha'>{LAUGHS}]><a>&l11;</a>".encode(),
        b"<!DOCTYPE a [<!ENTITY e '99'>]><Amt>1&e;</Amt>",
        b"<!DOCTYPE a [<!ENTITY % p SYSTEM 'file:///etc/passwd'> %p;]><a/>",
        b"<a>&undefined;</a>",
        b"<a>" * 41 + b"</a>" * 41,
        b"<a>" * 3_000_000,
        b"<a " + b" ".join(b'a%d=""' % i for i in range(51)) + b"/>",
        b"<a>" + b"".join(b"<a%d/>" % i for i in range(1001)) + b"</a>",
        b"<" + b"a" * 201 + b"/>",
        b"<a>" + b"<b/>" * 1_000_001 + b"</a>",
        b"<a>\x00</a>",
        b"<a>\xff</a>",
        "<a>\ufffe</a>".encode(),
        "<a>x</a>".encode("utf-16"),
        b"<?xml version='1.0' encoding='ISO-8859-1'?><a/>",
        b"<?xml version='1.0' encoding='UTF-16'?><a/>",
        b"<?xml version='1.0' encoding='UTF-7'?><a>+ADw-</a>",
    ],
    ids=range(25),
)
def test_unsafe_and_broken_xml_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        parse_safely(data)


def test_a_hundred_megabytes_are_refused_at_once() -> None:
    data = b"<a>" + b" " * 100_000_000
    started = time.perf_counter()

    with pytest.raises(UnreadableMessage, match="larger"):
        read_status_report(data)

    assert time.perf_counter() - started < 0.1


def test_nothing_is_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        hint = (
            f"xmlns:i='http://www.w3.org/2001/XMLSchema-instance' i:schemaLocation='{PAIN}10 {url}'"
        )
        for data in (
            f"<!DOCTYPE a SYSTEM '{url}'><a/>",
            f"<!DOCTYPE a [<!ENTITY e SYSTEM '{url}'>]><a>&e;</a>",
            f"<!DOCTYPE a [<!ENTITY % p SYSTEM '{url}'> %p;]><a/>",
        ):
            with pytest.raises(UnreadableMessage):
                read_status_report(data.encode())
        parse_safely(f"<?xml-stylesheet href='{url}'?><a/>".encode())
        read_status_report(report().replace(b"<Document ", f"<Document {hint} ".encode()))

        with pytest.raises(BlockingIOError):
            listener.accept()
        # The listener would have seen it.
        with socket.create_connection(listener.getsockname()):
            listener.settimeout(5)
            listener.accept()[0].close()


def test_a_comment_does_not_cut_an_amount() -> None:
    root = parse_safely(b"\xef\xbb\xbf<?xml version='1.0'?><Amt>1<!-- -->0<?x?>0</Amt>")

    assert (root.tag, root.text, len(root)) == ("Amt", "100", 0)


@pytest.mark.parametrize(
    "data",
    [
        report(version="99"),
        report().replace(b"iso:20022", b"iso:20023"),
        report().replace(b' xmlns="', b' a="'),
        report().replace(b"pain.002", b"pain.001"),
        report().replace(b"<MsgId>R-1</MsgId>", b""),
        report(version="03").replace(b"<MsgId>R-1</MsgId>", b""),
        report(version="03").replace(b"R-1", b"R" * 36),
        report(version="03").replace(b"2026-11-21T09:00:00Z", b"yesterday"),
        report("<GrpSts>TOOLONG</GrpSts>"),
        report("<x:GrpSts xmlns:x='urn:x'>ACSC</x:GrpSts>"),
    ],
    ids=range(10),
)
def test_other_messages_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        read_status_report(data)


# --- pain.002 ----------------------------------------------------------------------------------
SENT = [("B-1", "PO-1"), ("B-1", "PO-2"), ("B-2", "PO-3")]
INSUFFICIENT = (
    "<StsRsnInf><Rsn><Cd>AM04</Cd></Rsn><AddtlInf>Not  enough</AddtlInf>"
    "<AddtlInf>money</AddtlInf></StsRsnInf>"
)
versions = pytest.mark.parametrize("version", ["03", "10", "12", "14"])


@versions
def test_a_group_rejected_without_items_rejects_all(version: str) -> None:
    found = read_status_report(report("<GrpSts>RJCT</GrpSts>" + INSUFFICIENT, "", version))

    assert (found.kind, found.message_id, found.original_message_id) == ("pain.002", "R-1", "M-1")
    assert found.created_at == dt.datetime(2026, 11, 21, 9, tzinfo=dt.UTC)
    assert (found.group_status, found.items) == ("RJCT", ())
    assert list(statuses_of(found, SENT)) == [
        StatusItem(e2e, b, "RJCT", "AM04", "Not enough money") for b, e2e in SENT
    ]


@versions
def test_a_group_accepted_in_part_lists_its_items(version: str) -> None:
    more = (
        f"{INSUFFICIENT}<AcctSvcrRef>BANK-7</AcctSvcrRef><OrgnlTxRef><Amt>"
        '<InstdAmt Ccy="IDR">1500000</InstdAmt></Amt></OrgnlTxRef>'
    )
    items = item("PO-1", "ACSP"), item("PO-2", "RJCT", more)

    found = read_status_report(
        report("<GrpSts>PART</GrpSts>", original_block(*items), version),
    )

    one, two = statuses_of(found, SENT)  # Nothing is known of the third.
    assert found.items == (one, two)
    assert one == StatusItem("PO-1", "B-1", "ACSP")
    assert two == StatusItem(
        "PO-2", "B-1", "RJCT", "AM04", "Not enough money", Decimal(1_500_000), "IDR", "BANK-7"
    )


def test_who_is_not_listed_inherits_from_the_block_and_then_from_the_group() -> None:
    blocks = original_block(item("PO-2", "RJCT"), status="<PmtInfSts>ACSC</PmtInfSts>")

    found = read_status_report(report("<GrpSts>ACCP</GrpSts>", blocks))

    assert [i.status for i in statuses_of(found, SENT)] == ["ACSC", "RJCT", "ACCP"]


def test_an_item_named_by_the_banks_reference_only_ends_inference_in_its_block() -> None:
    unnamed = f"<TxInfAndSts><OrgnlUETR>{UETR}</OrgnlUETR><TxSts>RJCT</TxSts></TxInfAndSts>"

    found = read_status_report(report("<GrpSts>ACCP</GrpSts>", original_block(unnamed)))

    assert [(i.end_to_end_id, i.uetr) for i in found.items] == [(None, UETR)]
    assert [i.end_to_end_id for i in statuses_of(found, SENT)] == ["PO-3"]


def test_an_item_without_status_has_its_blocks_and_keeps_its_own_reason() -> None:
    bare = "<TxInfAndSts><OrgnlEndToEndId>{}</OrgnlEndToEndId>{}</TxInfAndSts>"
    own = "<StsRsnInf><Rsn><Prtry>Z1</Prtry></Rsn></StsRsnInf>"
    items = bare.format("PO-1", own), bare.format("PO-2", "")
    status = "<PmtInfSts>RJCT</PmtInfSts>" + INSUFFICIENT

    found = read_status_report(report(blocks=original_block(*items, status=status)))

    assert [(i.status, i.reason_code) for i in found.items] == [("RJCT", "Z1"), ("RJCT", "AM04")]


def test_a_reason_is_cut_to_a_length_that_fits_a_column() -> None:
    long = f"<StsRsnInf>{'<AddtlInf>' + 'x' * 105 + '</AddtlInf>'}</StsRsnInf>" * 10

    found = read_status_report(report(blocks=original_block(item("PO-1", "RJCT", long))))

    assert len(found.items[0].reason_text) == 500


def test_an_unknown_code_is_kept_as_it_is() -> None:
    found = read_status_report(report(blocks=original_block(item("PO-1", "XZ9"))))

    assert [(i.status, outcome_of(i.status)) for i in found.items] == [("XZ9", Outcome.UNKNOWN)]


def test_entity_in_an_amount_is_refused_in_a_whole_report() -> None:
    data = b"<!DOCTYPE Document [<!ENTITY e '9'>]>" + report("<GrpSts>&e;</GrpSts>")

    with pytest.raises(UnreadableMessage, match="DOCTYPE"):
        read_status_report(data)


# --- camt.054 ----------------------------------------------------------------------------------
def entry(
    details: str, direction: str = "DBIT", status: str = "<Cd>BOOK</Cd>", more: str = ""
) -> str:
    return (
        f'<Ntry><Amt Ccy="IDR">1500000</Amt><CdtDbtInd>{direction}</CdtDbtInd>{more}<Sts>{status}'
        f"</Sts><AcctSvcrRef>BANK-9</AcctSvcrRef><BkTxCd/><NtryDtls>{details}</NtryDtls></Ntry>"
    )


def notification(*entries: str, version: str = "08") -> bytes:
    return (
        f'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.054.001.{version}">'
        "<BkToCstmrDbtCdtNtfctn><GrpHdr><MsgId>N-1</MsgId><CreDtTm>2026-11-21T09:00:00.5</CreDtTm>"
        "</GrpHdr><Ntfctn><Id>1</Id><CreDtTm>2026-11-21T09:00:00</CreDtTm><Acct><Id><Othr>"
        f"<Id>000</Id></Othr></Id></Acct>{''.join(entries)}</Ntfctn></BkToCstmrDbtCdtNtfctn></Document>"
    ).encode()


REFS = "<Refs><PmtInfId>B-1</PmtInfId><EndToEndId>PO-1</EndToEndId></Refs>"
BARE_REFS = "<Refs><EndToEndId>PO-1</EndToEndId></Refs>"
BATCH = "<Btch><PmtInfId>B-1</PmtInfId></Btch>"
RETURN = "<RtrInf><Rsn><Cd>AC04</Cd></Rsn><AddtlInf>Account closed</AddtlInf></RtrInf>"


@pytest.mark.parametrize(
    ("version", "booked"), [("02", "BOOK"), ("04", "BOOK"), ("08", "<Cd>BOOK</Cd>")]
)
def test_executed_and_then_returned(version: str, booked: str) -> None:
    executed = entry(f"<TxDtls>{REFS}</TxDtls>", status=booked)
    less_fee = '<AmtDtls><TxAmt><Amt Ccy="IDR">1490000.5</Amt></TxAmt></AmtDtls>'
    returned = entry(f"<TxDtls>{REFS}{less_fee}{RETURN}</TxDtls>", "CRDT", booked)

    found = read_status_report(notification(executed, returned, version=version))

    assert (found.kind, found.message_id, found.original_message_id) == ("camt.054", "N-1", None)
    assert found.created_at.tzinfo == dt.UTC
    first, second = statuses_of(found, SENT)
    assert first == StatusItem("PO-1", "B-1", "ACSC", None, "", Decimal(1_500_000), "IDR", "BANK-9")
    assert second == StatusItem(
        "PO-1", "B-1", "RTND", "AC04", "Account closed", Decimal("1490000.5"), "IDR", "BANK-9"
    )
    assert [outcome_of(i.status) for i in found.items] == [Outcome.SETTLED, Outcome.RETURNED]


@pytest.mark.parametrize(
    ("xml", "statuses"),
    [
        (entry(f"<TxDtls>{REFS}</TxDtls>", status="<Cd>PDNG</Cd>"), ["PDNG"]),
        (entry(f"<TxDtls>{REFS}</TxDtls>", status="<Cd>INFO</Cd>"), ["INFO"]),
        (entry(f"<TxDtls>{REFS}</TxDtls>", "CRDT", more="<RvslInd>true</RvslInd>"), ["RTND"]),
        # Money that others sent, and that went back to them; a return that is only announced.
        (entry(f"<TxDtls>{REFS}</TxDtls>", "CRDT"), []),
        (entry(f"<TxDtls>{REFS}{RETURN}</TxDtls>"), []),
        (entry(f"<TxDtls>{REFS}{RETURN}</TxDtls>", "CRDT", "<Cd>PDNG</Cd>"), []),
        # One debit for a whole block, listed or not.
        (entry("<Btch><PmtInfId>B-1</PmtInfId></Btch>"), ["ACSC", "ACSC"]),
        (entry(f"{BATCH}<TxDtls>{BARE_REFS}</TxDtls>"), ["ACSC"]),
        (entry(f"<TxDtls>{BARE_REFS}</TxDtls>"), ["ACSC"]),
        (entry(f"<TxDtls>{REFS}</TxDtls>", "CRDT", more="<RvslInd>1</RvslInd>"), ["RTND"]),
        (entry(f"<TxDtls>{REFS}<CdtDbtInd>DBIT</CdtDbtInd></TxDtls>", "CRDT"), ["ACSC"]),
        (entry(f"<TxDtls>{BARE_REFS}</TxDtls>".replace("PO-1", "NOTPROVIDED")), []),
    ],
    ids=range(12),
)
def test_entries_in_the_words_of_pain_002(xml: str, statuses: list[str]) -> None:
    found = read_status_report(notification(xml))

    assert [i.status for i in statuses_of(found, SENT)] == statuses


def test_references_that_the_bank_leaves_out() -> None:
    bare = entry(f"{BATCH}<TxDtls>{BARE_REFS}</TxDtls>".replace("PO-1", "NOTPROVIDED"))

    (found,) = read_status_report(notification(bare)).items

    assert (found.end_to_end_id, found.original_payment_block_id) == (None, "B-1")


def test_an_entry_of_two_gives_neither_its_sum() -> None:
    two = f"<TxDtls>{REFS}</TxDtls>" * 2

    assert [i.amount for i in read_status_report(notification(entry(two))).items] == [None, None]


def test_an_amount_may_have_a_plus() -> None:
    plus = entry(f"<TxDtls>{REFS}</TxDtls>").replace("1500000", "+1500000")

    assert read_status_report(notification(plus)).items[0].amount == 1_500_000


@pytest.mark.parametrize("currency", ["", "idr", "RUPIAH"])
def test_an_amount_has_a_currency(currency: str) -> None:
    bad = entry(f"<TxDtls>{REFS}</TxDtls>", status="BOOK").replace("IDR", currency)

    with pytest.raises(UnreadableMessage):
        read_status_report(notification(bad, version="04"))


@pytest.mark.parametrize("amount", ["-1", "1e3", "NaN", "", "1,5", "\u0661"])
def test_an_amount_is_a_plain_number(amount: str) -> None:
    bad = entry(f"<TxDtls>{REFS}</TxDtls>", status="BOOK").replace("1500000", amount)

    with pytest.raises(UnreadableMessage):
        read_status_report(notification(bad, version="04"))


# --- Codes -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("state", "failure_code", "expected", "outcome"),
    [
        ("created", None, ("RCVD", None), Outcome.SUBMITTED),
        ("pending", None, ("PDNG", None), Outcome.PENDING),
        ("review", None, ("PDNG", None), Outcome.PENDING),
        ("authorized", None, ("ACCP", None), Outcome.ACCEPTED),
        ("paid", "insufficient_funds", ("ACSP", None), Outcome.PROCESSING),
        ("settled", None, ("ACSC", None), Outcome.SETTLED),
        ("failed", "INSUFFICIENT_FUNDS", ("RJCT", "AM04"), Outcome.REJECTED),
        ("failed", "expired_card", ("RJCT", "AC01"), Outcome.REJECTED),
        ("failed", "suspected_fraud", ("RJCT", "FRAD"), Outcome.REJECTED),
        ("failed", "no such word", ("RJCT", "MS03"), Outcome.REJECTED),
        ("reversed", None, ("RJCT", "MS03"), Outcome.REJECTED),
        ("expired", None, ("CANC", None), Outcome.CANCELLED),
        ("cancelled", None, ("CANC", None), Outcome.CANCELLED),
        ("refunded", None, ("RTND", None), Outcome.RETURNED),
    ],
)
def test_card_states_in_the_codes_of_pain_002(
    state: str, failure_code: str | None, expected: tuple[str, str | None], outcome: Outcome
) -> None:
    assert normalised(state, failure_code) == expected
    assert outcome_of(expected[0]) is outcome


def test_another_state_is_no_state() -> None:
    with pytest.raises(ValueError, match="PAID"):
        normalised("PAID")
    assert outcome_of("PART") is outcome_of("") is Outcome.UNKNOWN
