"""
Payouts by file: gathered into a pain.001 for the tenant's own bank, and the bank's answers read.

A file is written down with its payouts in one transaction, before anybody can have it; it is the
same bytes however often it is exported. A bank refuses a second file with the same message id.
"""

import datetime as dt
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction

from core.changes import record_for_audit
from core.database import constraint_of, repeating
from core.errors import InvalidRequest, NotFound
from core.ids import new_id
from core.iso20022.credit_transfers import BankAccount, CreditTransfer, InvalidMessage, Party
from core.iso20022.reading import UnreadableMessage
from core.iso20022.status_codes import Outcome, outcome_of
from core.iso20022.status_reports import (
    StatusItem,
    StatusReport,
    read_status_report,
    statuses_of,
)
from core.models import OutboxEvent
from core.money import Money, format_money
from payments.gateways.bank_file.adapter import block_id, own_account, payout_file
from payments.gateways.registry import credentials_of
from payments.models import (
    Discrepancy,
    GatewayConfiguration,
    Payout,
    PayoutBatch,
    PayoutReportFile,
)
from payments.services.payout_moves import locked_payout, move_payout
from payments.services.waiting import open_discrepancy, reference_of, tell_a_person

logger = structlog.get_logger(__name__)

PAYOUTS_IN_FILE_MAX = 10_000
REPORT_BYTES_MAX = 10_000_000
_MESSAGE_TAKEN = "payout_report_message_unique"
# Reasons of a rejection that speak of a second copy.
_SAYS_DUPLICATE = frozenset({"AM05", "DU01", "DU02", "DU03", "DU04", "DU05"})
_ENDS = {
    Outcome.SETTLED: Payout.Status.SETTLED,
    Outcome.REJECTED: Payout.Status.FAILED,
    Outcome.CANCELLED: Payout.Status.FAILED,
    Outcome.RETURNED: Payout.Status.RETURNED,
}


@dataclass(frozen=True, slots=True)
class TakenReport:
    report: PayoutReportFile
    is_replay: bool


def gather_payouts(*, now: dt.datetime, tenant_id: UUID | None = None) -> list[PayoutBatch]:
    """
    Put all payouts that wait for a file into files, at most 10,000 each; of one tenant or all.

    Safe to run twice and side by side: a payout goes into one file.
    """
    waiting = Payout.objects.filter(
        status=Payout.Status.PENDING,
        batch=None,
        configuration__gateway=GatewayConfiguration.Gateway.BANK_FILE,
    )
    if tenant_id is not None:
        waiting = waiting.filter(tenant_id=tenant_id)
    made = []
    for configuration_id, currency in sorted(
        waiting.order_by().values_list("configuration_id", "currency").distinct()
    ):
        configuration = GatewayConfiguration.objects.get(pk=configuration_id)
        try:
            while batch := _gather(configuration, currency, now):
                made.append(batch)
        except Exception:
            # One bank's file keeps no other's from being made; these payouts wait, and are seen.
            logger.exception("payout file not made", configuration=str(configuration_id))
            open_discrepancy(
                tenant_id=configuration.tenant_id,
                configuration_id=configuration.pk,
                kind=Discrepancy.Kind.GATEWAY_REFUSES,
                object_type="",
                object_id=None,
                reference=f"file {currency}",
                amount=None,
                currency=currency,
                detail={"ours": "payouts wait", "theirs": "no file can be made"},
                now=now,
            )
    return made


def export_payout_files(*, now: dt.datetime) -> int:
    """
    Put the files that nobody has had yet into PAYOUT_DROP_DIRECTORY; return how many.

    Each appears there whole, under its message id. A crash right after may put one there again,
    the same to the byte; the bank knows it by its message id.
    """
    if not settings.PAYOUT_DROP_DIRECTORY:
        return 0
    directory = Path(settings.PAYOUT_DROP_DIRECTORY)
    batches = PayoutBatch.objects.filter(exported_at=None).order_by("pk")
    done = 0
    for batch in batches[:100]:
        draft = directory / f".{batch.message_id}.part"
        with draft.open("wb") as file:
            file.write(batch.document)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(directory / f"{batch.message_id}.xml")
        note_export(batch, now=now, how="drop folder")
        done += 1
    return done


def note_export(batch: PayoutBatch, *, now: dt.datetime, how: str) -> None:
    """Take down that somebody has had the file, and who."""
    with transaction.atomic():
        PayoutBatch.objects.filter(pk=batch.pk, exported_at=None).update(exported_at=now)
        record_for_audit(
            tenant_id=batch.tenant_id,
            action="payout_file.exported",
            object_id=batch.pk,
            now=now,
            after={"message_id": batch.message_id, "how": how},
        )


def take_report(*, tenant_id: UUID, document: bytes, now: dt.datetime) -> TakenReport:
    """
    Read a bank's pain.002 or camt.054, and do what it says of each payout.

    The same message again changes nothing. Each payout by itself: a crash half-way loses nothing,
    the file is sent again.

    :raises InvalidRequest: no such message, unsafe, or not as its schema says
    """
    try:
        report = read_status_report(document, bytes_max=REPORT_BYTES_MAX)
    except UnreadableMessage as error:
        raise InvalidRequest(str(error), field="document") from error
    of_this = PayoutReportFile.objects.filter(
        tenant_id=tenant_id, kind=report.kind, message_id=report.message_id
    )
    earlier = of_this.first()
    if earlier is not None:
        return _replayed(earlier, document)
    kept = PayoutReportFile(
        tenant_id=tenant_id,
        message_id=report.message_id,
        kind=report.kind,
        document=document,
        created_at=now,
    )
    matched = 0
    for payout_id, item in _matched(tenant_id, report):
        matched += 1
        if _apply(payout_id, item, now):
            kept.applied_count += 1
        else:
            kept.unchanged_count += 1
    kept.unmatched_count = max(len(report.items) - matched, 0)
    try:
        with transaction.atomic():
            kept.save(force_insert=True)
            record_for_audit(
                tenant_id=tenant_id,
                action="payout_report.read",
                object_id=kept.pk,
                now=now,
                after={"message_id": kept.message_id, "applied": kept.applied_count},
            )
    except IntegrityError as error:
        if constraint_of(error) != _MESSAGE_TAKEN:
            raise
        return _replayed(of_this.get(), document)
    return TakenReport(kept, is_replay=False)


def _replayed(earlier: PayoutReportFile, document: bytes) -> TakenReport:
    if bytes(earlier.document) != document:
        raise InvalidRequest(
            f"Another document with the message id {earlier.message_id} was read before."
            " It may be of another bank: ask them for one with an id of its own.",
            field="document",
        )
    return TakenReport(earlier, is_replay=True)


def batch_of(*, tenant_id: UUID, batch_id: UUID) -> PayoutBatch:
    """
    Return the file.

    :raises NotFound: unknown, or another tenant's
    """
    found = PayoutBatch.objects.filter(tenant_id=tenant_id, pk=batch_id).first()
    if found is None:
        raise NotFound("No such payout file.")
    return found


def refuse_unwritable(configuration: GatewayConfiguration, payout: Payout) -> None:
    """
    Refuse a payout that no file could carry: in one it would hold up all the others.

    :raises InvalidRequest: a name or bank code that cannot be written there
    """
    today = payout.created_at
    try:
        _document(configuration, "CHECK", [payout], today)
    except InvalidMessage as error:
        raise InvalidRequest(str(error), field="beneficiary") from error


def _gather(
    configuration: GatewayConfiguration, currency: str, now: dt.datetime
) -> PayoutBatch | None:
    with transaction.atomic():
        payouts = list(
            Payout.objects.select_for_update(skip_locked=True, no_key=True)
            .filter(
                configuration=configuration,
                currency=currency,
                status=Payout.Status.PENDING,
                batch=None,
            )
            .order_by("pk")[:PAYOUTS_IN_FILE_MAX]
        )
        if not payouts:
            return None
        batch_id = new_id()
        message_id = reference_of("PB", batch_id)
        batch = PayoutBatch.objects.create(
            id=batch_id,
            tenant_id=configuration.tenant_id,
            configuration=configuration,
            message_id=message_id,
            currency=currency,
            payout_count=len(payouts),
            total=sum(payout.amount for payout in payouts),
            document=_document(configuration, message_id, payouts, now),
            created_at=now,
        )
        ids = [payout.pk for payout in payouts]
        Payout.objects.filter(pk__in=ids).update(
            status=Payout.Status.SUBMITTED, batch=batch, updated_at=now
        )
        OutboxEvent.objects.bulk_create(
            OutboxEvent(
                tenant_id=payout.tenant_id,
                event_type="payout.submitted",
                resource_id=payout.pk,
                created_at=now,
            )
            for payout in payouts
        )
        record_for_audit(
            tenant_id=configuration.tenant_id,
            action="payout.submitted",
            object_ids=ids,
            after={"message_id": message_id},
            now=now,
        )
    return batch


def _document(
    configuration: GatewayConfiguration,
    message_id: str,
    payouts: Iterable[Payout],
    now: dt.datetime,
) -> bytes:
    own = own_account(credentials_of(configuration))
    return payout_file(own, message_id, [_transfer(payout) for payout in payouts], now)


def _transfer(payout: Payout) -> CreditTransfer:
    code = payout.bank_code
    is_bic = len(code) in (8, 11) and code.isalnum() and code[:6].isalpha()
    return CreditTransfer(
        end_to_end_id=payout.reference,
        amount=Money(payout.amount, payout.currency),
        creditor=Party(payout.beneficiary_name, payout.country, payout.town or None),
        account=BankAccount(
            iban=payout.iban or None,
            number=payout.account_number or None,
            bic=code if is_bic else None,
            clearing_member_id=code if code and not is_bic else None,
        ),
        remittance=payout.description,
    )


def _matched(tenant_id: UUID, report: StatusReport) -> Iterator[tuple[UUID, StatusItem]]:
    """Yield what the report says of payouts of ours; those of a file it names, or by reference."""
    ours = Payout.objects.filter(tenant_id=tenant_id, batch__isnull=False)
    if report.original_message_id is not None:
        ours = ours.filter(batch__message_id=report.original_message_id)
    else:
        ours = ours.filter(reference__in=[item.end_to_end_id for item in report.items])
    sent = {
        reference: (payout_id, block_id(message_id))
        for payout_id, reference, message_id in ours.values_list(
            "pk", "reference", "batch__message_id"
        )
    }
    asked = [(block_id, reference) for reference, (_, block_id) in sent.items()]
    for item in statuses_of(report, asked):
        if item.end_to_end_id in sent:
            yield sent[item.end_to_end_id][0], item


def _apply(payout_id: UUID, item: StatusItem, now: dt.datetime) -> bool:
    """Do what the bank says of the payout; say whether that changed anything."""
    status = _ENDS.get(outcome_of(item.status))

    def apply() -> bool:
        with transaction.atomic():
            payout = locked_payout(payout_id)
            payout.gateway_status = item.status[:60]
            if item.amount is not None and _differs(payout, item):
                tell_a_person(
                    payout,
                    Discrepancy.Kind.AMOUNT_DIFFERS,
                    now=now,
                    ours=format_money(payout.amount, payout.currency),
                    theirs=f"{item.amount} {item.currency} ({item.status})",
                )
                payout.save()
                return False
            if status is Payout.Status.FAILED and item.reason_code in _SAYS_DUPLICATE:
                # The bank has it twice, and refuses one of the two: the other may be paid.
                kind = Discrepancy.Kind.STATUS_DIFFERS
                tell_a_person(
                    payout, kind, now=now, ours=payout.status, theirs=f"RJCT {item.reason_code}"
                )
                payout.save()
                return False
            wanted = status or Payout.Status(payout.status)
            if wanted is Payout.Status.FAILED and payout.status == Payout.Status.SETTLED:
                wanted = Payout.Status.RETURNED
            code = (item.reason_code or item.status).lower()
            return move_payout(payout, wanted, now, code=code, detail=item.reason_text)

    return repeating(apply)


def _differs(payout: Payout, item: StatusItem) -> bool:
    stated = Money(payout.amount, payout.currency).decimal
    return (item.amount, item.currency or payout.currency) != (stated, payout.currency)
