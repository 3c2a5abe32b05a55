"""Reads of the ledger that are more than a filter. Nothing here changes a row."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db import connection
from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.fields.json import KeyTextTransform

from accounts.models import Account
from accounts.queries import account_of, owned_among
from core.errors import InvalidRequest, NotFound
from core.ids import least_id
from core.sealing import Stream
from ledger.errors import AccountClosed, CurrencyMismatch
from ledger.models import Entry, Hold, Transaction

# A statement is one answer, not a list of pages; a longer one is read as entries.
STATEMENT_LINES_MAX = 10_000
_MICROSECOND = dt.timedelta(microseconds=1)
# An id is made by an application server, the booking time by the database: never further apart.
_CLOCKS_DIFFER = dt.timedelta(hours=1)


# A posting's event leads to its transaction, and has a number; so the hot path writes nothing more.
TRANSACTIONS_TO_SEAL = Stream(
    name="ledger",
    row_name="transaction",
    new_sql="SELECT o.id, t.id::text FROM core_outboxevent o"
    " LEFT JOIN ledger_transaction t ON t.id = o.resource_id"
    " WHERE o.id BETWEEN %s AND %s ORDER BY o.id LIMIT %s",
    digest_sql="""
        SELECT w.id, CASE WHEN t.id IS NOT NULL THEN sha256(convert_to(jsonb_build_array(
                   t.id, t.tenant_id, t.type, t.currency, t.amount, t.legs, t.description,
                   t.external_reference, t.idempotency_key, encode(t.request_fingerprint, 'hex'),
                   t.value_date, t.reverses_id, t.metadata,
                   (extract(epoch FROM t.created_at) * 1000000)::bigint,
                   t.actor_id, t.request_id, host(t.address),
                   (SELECT jsonb_agg(jsonb_build_array(
                               e.tenant_id, e.account_id, e.sequence, e.leg, e.currency, e.amount,
                               e.balance_after,
                               (extract(epoch FROM e.created_at) * 1000000)::bigint)
                           ORDER BY e.leg)
                      FROM ledger_entry e WHERE e.transaction_id = t.id)
               )::text, 'UTF8')) END
          FROM unnest(%s::text[]) WITH ORDINALITY w(id, n)
          LEFT JOIN ledger_transaction t ON t.id = w.id::uuid ORDER BY w.n
    """,
    waiting_since_sql="SELECT o.created_at FROM core_outboxevent o WHERE o.id > %s"
    " ORDER BY o.id LIMIT 1",
    all_sql="SELECT t.id::text FROM ledger_transaction t",
)


# The number of each event, and the transaction that it tells of; for core.following.
TRANSACTIONS_TO_FOLLOW = (
    "SELECT o.id, t.id FROM core_outboxevent o"
    " LEFT JOIN ledger_transaction t ON t.id = o.resource_id"
    " WHERE o.id BETWEEN %s AND %s ORDER BY o.id LIMIT %s"
)
LAST_EVENT = "SELECT coalesce(max(id), 0) FROM core_outboxevent"


def customers_account(
    *, tenant_id: UUID, account_id: UUID, currency: str, owner_id: UUID | None = None
) -> Account:
    """
    Return a customer's account that money of the currency can be moved on for long; of the
    owner's, if one is given.

    :raises NotFound: unknown, another tenant's or owner's, or the tenant's own
    :raises CurrencyMismatch: it has another currency
    :raises AccountClosed: it is closed
    """
    account = account_of(tenant_id=tenant_id, account_id=account_id, owner_id=owner_id)
    if account.type == Account.Type.INTERNAL:
        raise NotFound("No such account.")
    if account.currency != currency:
        raise CurrencyMismatch(f"Account {account.pk} is in {account.currency}.")
    if account.status == Account.Status.CLOSED:
        raise AccountClosed(f"Account {account.pk} is closed.")
    return account


@dataclass(frozen=True, slots=True)
class IncomingCredit:
    """A credit of an account, and where it came from. Amount in minor units."""

    transaction_id: UUID
    type: str
    account_id: UUID
    # The account that was debited; None: several were.
    sender_id: UUID | None
    amount: int
    currency: str
    description: str
    booked_at: dt.datetime


@dataclass(frozen=True, slots=True)
class BalanceAt:
    account_id: UUID
    currency: str
    balance: int
    held: int
    # None: no limit.
    available: int | None
    as_of: dt.datetime


@dataclass(frozen=True, slots=True)
class Statement:
    account: Account
    start: dt.datetime
    end: dt.datetime
    opening_balance: int
    closing_balance: int
    total_credits: int
    total_debits: int
    lines: list[Entry]


@dataclass(frozen=True, slots=True)
class TransactionInFull:
    transaction: Transaction
    # In order of leg.
    entries: list[Entry]
    reversed_by: UUID | None


@dataclass(frozen=True, slots=True)
class MetadataTotal:
    """Transactions whose metadata has the same values under some keys."""

    values: tuple[str, ...]
    transactions: int
    # Minor units.
    amount: int


@dataclass(frozen=True, slots=True)
class TrialBalanceLine:
    """One row per (currency, account type and role)."""

    currency: str
    type: str
    role: str | None
    debits: int
    credits: int


def balance_at(
    *,
    tenant_id: UUID,
    account_id: UUID,
    at: dt.datetime | None,
    now: dt.datetime,
    owner_id: UUID | None = None,
) -> BalanceAt:
    """
    Return the balance at a moment, by default now.

    One look-up for now; for the past a binary search over the entries (20 look-ups among a
    million). `available` counts with the overdraft limit of today.

    :raises NotFound: no such account in this tenant
    :raises InvalidRequest: the moment is in the future
    """
    account = account_of(tenant_id=tenant_id, account_id=account_id, owner_id=owner_id)
    if at is None:
        return BalanceAt(
            account.pk, account.currency, account.balance, account.held, account.available, now
        )
    if at > now:
        raise InvalidRequest("The balance of the future is not known.", field="at")
    balance = _balance_after(account.pk, _sequence_at(tenant_id, account.pk, at))
    held = (
        (
            Hold.objects.filter(account_id=account.pk, tenant_id=tenant_id, created_at__lte=at)
            .filter(Q(closed_at=None) | Q(closed_at__gt=at))
            .aggregate(total=Sum("amount"))["total"]
        )
        or 0
    )
    limit = account.overdraft_limit
    available = None if limit is None else balance - held + limit
    return BalanceAt(account.pk, account.currency, balance, held, available, at)


def entries_of(
    *,
    tenant_id: UUID,
    account_id: UUID,
    start: dt.datetime | None = None,
    end: dt.datetime | None = None,
    owner_id: UUID | None = None,
) -> QuerySet[Entry]:
    """
    Return the account's entries, booked from `start` and before `end`, with their transactions.

    Unordered; `sequence` is the order of the statement.

    :raises NotFound: no such account in this tenant
    """
    account_of(tenant_id=tenant_id, account_id=account_id, owner_id=owner_id)
    entries = Entry.objects.filter(account_id=account_id).select_related("transaction")
    if start is not None:
        after = _sequence_at(tenant_id, account_id, start - _MICROSECOND)
        entries = entries.filter(sequence__gt=after)
    if end is not None:
        last = _sequence_at(tenant_id, account_id, end - _MICROSECOND)
        entries = entries.filter(sequence__lte=last)
    return entries


def counterparties_of(entries: Iterable[Entry]) -> dict[UUID, UUID | None]:
    """Return the account on the other side of each entry's transaction; None where there are many.

    One query for a page; keyed by transaction.
    """
    own = {entry.transaction_id: entry.account_id for entry in entries}
    others: dict[UUID, UUID | None] = {}
    legs = Entry.objects.filter(transaction_id__in=list(own)).values_list(
        "transaction_id", "account_id"
    )
    for transaction_id, account_id in legs:
        if account_id != own[transaction_id]:
            others[transaction_id] = None if transaction_id in others else account_id
    return others


def statement_of(
    *,
    tenant_id: UUID,
    account_id: UUID,
    start: dt.datetime,
    end: dt.datetime,
    owner_id: UUID | None = None,
) -> Statement:
    """
    Return the statement of a period: from `start`, before `end`, in order of sequence.

    :raises NotFound: no such account in this tenant
    :raises InvalidRequest: the period is empty or has more than 10,000 lines
    """
    if end <= start:
        raise InvalidRequest("The period ends before it begins.", field="to")
    account = account_of(tenant_id=tenant_id, account_id=account_id, owner_id=owner_id)
    before = _sequence_at(tenant_id, account_id, start - _MICROSECOND)
    last = _sequence_at(tenant_id, account_id, end - _MICROSECOND)
    if last - before > STATEMENT_LINES_MAX:
        raise InvalidRequest(
            f"The period has {last - before} lines; a statement has at most"
            f" {STATEMENT_LINES_MAX}. Choose a shorter one, or read the entries.",
            field="from",
        )
    lines = list(
        Entry.objects.filter(account_id=account_id, sequence__gt=before, sequence__lte=last)
        .select_related("transaction")
        .order_by("sequence")
    )
    opening = _balance_after(account_id, before)
    return Statement(
        account=account,
        start=start,
        end=end,
        opening_balance=opening,
        closing_balance=lines[-1].balance_after if lines else opening,
        total_credits=sum(line.amount for line in lines if line.amount > 0),
        total_debits=-sum(line.amount for line in lines if line.amount < 0),
        lines=lines,
    )


def transactions_of(
    *,
    tenant_id: UUID,
    start: dt.datetime | None = None,
    end: dt.datetime | None = None,
) -> QuerySet[Transaction]:
    """
    Return the tenant's transactions, booked from `start` and before `end`.

    Unordered; ids are in order of time but for clocks that differ, so they bound the search.
    """
    transactions = Transaction.objects.filter(tenant_id=tenant_id)
    if start is not None:
        transactions = transactions.filter(
            created_at__gte=start, pk__gte=least_id(start - _CLOCKS_DIFFER)
        )
    if end is not None:
        transactions = transactions.filter(
            created_at__lt=end, pk__lt=least_id(end + _CLOCKS_DIFFER)
        )
    return transactions


def transaction_of(*, tenant_id: UUID, transaction_id: UUID) -> Transaction:
    """
    Return the transaction.

    :raises NotFound: unknown, or another tenant's
    """
    found = Transaction.objects.filter(tenant_id=tenant_id, pk=transaction_id).first()
    if found is None:
        raise NotFound("No such transaction.")
    return found


def transaction_in_full(
    *, tenant_id: UUID, transaction_id: UUID, owner_id: UUID | None = None
) -> TransactionInFull:
    """
    Return the transaction with its entries and its reversal. Three queries.

    An owner sees the entries of their own accounts: the balances of others are not theirs to know.

    :raises NotFound: unknown, another tenant's, or one that moved nothing of the owner's
    """
    transaction = transaction_of(tenant_id=tenant_id, transaction_id=transaction_id)
    entries = entries_of_transaction(transaction_id=transaction_id)
    if owner_id is not None:
        ids = [entry.account_id for entry in entries]
        own = owned_among(tenant_id=tenant_id, owner_id=owner_id, account_ids=ids)
        entries = [entry for entry in entries if entry.account_id in own]
        if not entries:
            raise NotFound("No such transaction.")
    reversal = reversal_of(transaction_id=transaction_id)
    return TransactionInFull(transaction, entries, None if reversal is None else reversal.pk)


def entries_of_transaction(*, transaction_id: UUID) -> list[Entry]:
    """Return the entries in order of leg."""
    return list(Entry.objects.filter(transaction_id=transaction_id).order_by("leg"))


def credits_by(
    *, transaction_ids: Iterable[UUID], account_ids: Iterable[UUID]
) -> list[IncomingCredit]:
    """Return what the transactions credited to the accounts, as booked. Two round trips."""
    credits = (
        Entry.objects.filter(
            transaction_id__in=list(transaction_ids),
            account_id__in=list(account_ids),
            amount__gt=0,
        )
        .select_related("transaction")
        .order_by("created_at", "transaction_id")
    )
    found = list(credits)
    senders: dict[UUID, list[UUID]] = {}
    debits = Entry.objects.filter(
        transaction_id__in={each.transaction_id for each in found}, amount__lt=0
    )
    for transaction_id, account_id in debits.values_list("transaction_id", "account_id"):
        senders.setdefault(transaction_id, []).append(account_id)
    return [
        IncomingCredit(
            transaction_id=each.transaction_id,
            type=each.transaction.type,
            account_id=each.account_id,
            sender_id=senders[each.transaction_id][0]
            if len(senders.get(each.transaction_id, ())) == 1
            else None,
            amount=each.amount,
            currency=each.currency,
            description=each.transaction.description,
            booked_at=each.created_at,
        )
        for each in found
    ]


def accounts_credited_by(*, transaction_ids: Iterable[UUID]) -> set[UUID]:
    """Return the accounts that the transactions credited. One round trip."""
    credits = Entry.objects.filter(transaction_id__in=list(transaction_ids), amount__gt=0)
    return set(credits.values_list("account_id", flat=True))


def reversed_among(*, transaction_ids: Iterable[UUID]) -> set[UUID]:
    """Return those of the transactions that were reversed."""
    reversals = Transaction.objects.filter(reverses_id__in=list(transaction_ids))
    return {each for each in reversals.values_list("reverses_id", flat=True) if each is not None}


def reversal_of(*, transaction_id: UUID) -> Transaction | None:
    return Transaction.objects.filter(reverses_id=transaction_id).first()


def transaction_by_key(*, tenant_id: UUID, idempotency_key: str) -> Transaction | None:
    return Transaction.objects.filter(tenant_id=tenant_id, idempotency_key=idempotency_key).first()


def trial_balance(
    *, tenant_id: UUID, currency: str | None, at: dt.datetime | None
) -> list[TrialBalanceLine]:
    """
    Return what each kind of account has been debited and credited, up to a moment.

    Sums entries, not balances, so that it checks them; reads every entry of the tenant.
    """
    condition, parameters = "", [tenant_id]
    if currency is not None:
        condition += " AND e.currency = %s"
        parameters.append(currency)  # type: ignore[arg-type]
    if at is not None:
        condition += " AND e.created_at <= %s"
        parameters.append(at)  # type: ignore[arg-type]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT e.currency, a.type, a.role,
                   -coalesce(sum(e.debits), 0)::numeric, coalesce(sum(e.credits), 0)::numeric
              FROM (
                SELECT account_id, currency,
                       sum(amount) FILTER (WHERE amount < 0) AS debits,
                       sum(amount) FILTER (WHERE amount > 0) AS credits
                  FROM ledger_entry e WHERE tenant_id = %s{condition}
                 GROUP BY account_id, currency
              ) e JOIN accounts_account a ON a.id = e.account_id
             GROUP BY e.currency, a.type, a.role
             ORDER BY e.currency, a.type, a.role
            """,  # noqa: S608
            parameters,
        )
        return [
            TrialBalanceLine(currency, type_, role, int(debits), int(credits))
            for currency, type_, role, debits, credits in cursor.fetchall()
        ]


def holds_of(*, tenant_id: UUID, account_id: UUID, owner_id: UUID | None = None) -> QuerySet[Hold]:
    """
    Return the account's holds, of every status. Unordered.

    :raises NotFound: no such account in this tenant
    """
    account_of(tenant_id=tenant_id, account_id=account_id, owner_id=owner_id)
    return Hold.objects.filter(tenant_id=tenant_id, account_id=account_id)


def totals_by_metadata(*, tenant_id: UUID, keys: tuple[str, ...]) -> list[MetadataTotal]:
    """
    Return how many transactions there are, and their amounts, for each combination of values.

    Transactions that lack one of the keys are left out. Reads every transaction of the tenant.
    """
    values = [KeyTextTransform(key, "metadata") for key in keys]
    names = [f"value_{index}" for index in range(len(keys))]
    rows = (
        Transaction.objects.filter(tenant_id=tenant_id, metadata__has_keys=list(keys))
        .annotate(**dict(zip(names, values, strict=True)))
        .values_list(*names)
        .annotate(transactions=Count("pk"), total=Sum("amount"))
        .order_by(*names)
    )
    return [MetadataTotal(tuple(row[:-2]), row[-2], int(row[-1])) for row in rows]


def hold_of(*, tenant_id: UUID, hold_id: UUID) -> Hold:
    """
    Return the hold.

    :raises NotFound: unknown, or another tenant's
    """
    found = Hold.objects.filter(tenant_id=tenant_id, pk=hold_id).first()
    if found is None:
        raise NotFound("No such hold.")
    return found


def _sequence_at(tenant_id: UUID, account_id: UUID, at: dt.datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_sequence_at(%s, %s, %s)", [tenant_id, account_id, at])
        row = cursor.fetchone()
    if row is None or row[0] is None:
        raise NotFound("No such account.")
    return int(row[0])


def _balance_after(account_id: UUID, sequence: int) -> int:
    if sequence == 0:
        return 0
    return Entry.objects.values_list("balance_after", flat=True).get(
        account_id=account_id, sequence=sequence
    )
