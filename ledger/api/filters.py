from typing import Any

from django.db.models import Q, QuerySet
from django_filters import ChoiceFilter

from core.api.filters import AmountFilter, StrictFilterSet, TextFilter
from ledger.models import Entry, Hold, Transaction

DIRECTIONS = [("credit", "credit"), ("debit", "debit")]
# The wallet's word for a transfer tells its direction.
KIND_IN, KIND_OUT = "transfer_in", "transfer_out"
KINDS = [KIND_IN, KIND_OUT] + [
    type_.value for type_ in Transaction.Type if type_ is not Transaction.Type.TRANSFER
]


def kind_of(entry: Entry) -> str:
    """Return what an entry is to the owner of its account; one of KINDS."""
    if entry.transaction.type != Transaction.Type.TRANSFER:
        return entry.transaction.type
    return KIND_IN if entry.amount > 0 else KIND_OUT


class EntryFilter(StrictFilterSet):
    direction = ChoiceFilter(choices=DIRECTIONS, method="by_direction")
    type = ChoiceFilter(choices=Transaction.Type.choices, field_name="transaction__type")
    min_amount = AmountFilter(method="by_min_amount", help_text="Minor units, without sign.")
    max_amount = AmountFilter(method="by_max_amount", help_text="Minor units, without sign.")

    class Meta:
        model = Entry
        fields: list[str] = []

    def by_direction(self, entries: QuerySet[Entry], name: str, value: str) -> QuerySet[Entry]:
        return entries.filter(amount__gt=0) if value == "credit" else entries.filter(amount__lt=0)

    def by_min_amount(self, entries: QuerySet[Entry], name: str, value: int) -> QuerySet[Entry]:
        return entries.filter(Q(amount__gte=value) | Q(amount__lte=-value))

    def by_max_amount(self, entries: QuerySet[Entry], name: str, value: int) -> QuerySet[Entry]:
        return entries.filter(amount__lte=value, amount__gte=-value)


class OperationFilter(StrictFilterSet):
    kind = ChoiceFilter(choices=[(kind, kind) for kind in KINDS], method="by_kind")

    class Meta:
        model = Entry
        fields: list[str] = []

    def by_kind(self, entries: QuerySet[Entry], name: str, value: str) -> QuerySet[Entry]:
        if value == KIND_IN:
            return entries.filter(transaction__type=Transaction.Type.TRANSFER, amount__gt=0)
        if value == KIND_OUT:
            return entries.filter(transaction__type=Transaction.Type.TRANSFER, amount__lt=0)
        return entries.filter(transaction__type=value)


class HoldFilter(StrictFilterSet):
    status = ChoiceFilter(choices=Hold.Status.choices)

    class Meta:
        model = Hold
        fields: list[str] = []


class TransactionFilter(StrictFilterSet):
    """
    Filters transactions, or the entries that lead to them.

    `account_id`, `from` and `to` choose which; see the view.
    """

    type = ChoiceFilter(choices=Transaction.Type.choices, method="by_type")
    external_reference = TextFilter(max_length=255, method="by_reference")

    def by_type(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return rows.filter(**{self._path(rows, "type"): value})

    def by_reference(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return rows.filter(**{self._path(rows, "external_reference"): value})

    @staticmethod
    def _path(rows: QuerySet[Any], name: str) -> str:
        return f"transaction__{name}" if rows.model is Entry else name
