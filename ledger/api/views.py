"""The ledger over HTTP: translate, one call, translate."""

import datetime as dt
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from core.api.dates import moment
from core.api.fields import CURRENCY, CurrencyField
from core.api.filters import DjangoFilterBackend
from core.api.pagination import KeysetPagination
from core.api.schema import PERIOD
from core.api.views import TenantViewSet
from core.errors import InvalidRequest
from core.money import Money
from core.permissions import Permission
from ledger import queries, services
from ledger.api import examples, serializers
from ledger.api.filters import EntryFilter, HoldFilter, OperationFilter, TransactionFilter
from ledger.models import Entry, Hold, Transaction
from ledger.services import Leg, PostedTransaction

_AT = OpenApiParameter("at", OpenApiTypes.DATETIME, description="Any past moment; left out: now.")


class EntryPagination(KeysetPagination):
    key = "sequence"


class _AccountEntries(ListModelMixin, TenantViewSet[Entry]):
    """Entries of the account that the path names, newest first."""

    queryset = Entry.objects.none()
    pagination_class = EntryPagination
    filter_backends = [DjangoFilterBackend]
    query_params_by_action: ClassVar[dict[str, set[str]]] = {"list": {"from", "to"}}
    permissions: ClassVar[dict[str, Permission]] = {"list": Permission.VIEW_ACCOUNTS}

    def get_queryset(self) -> QuerySet[Entry]:
        start, end = self.period()
        return queries.entries_of(
            tenant_id=self.tenant_id,
            account_id=self.kwargs["account_id"],
            start=start,
            end=end,
            owner_id=self.owner_id,
        )

    def get_serializer(self, *args: Any, **kwargs: Any) -> BaseSerializer[Any]:
        if args:
            counterparties = queries.counterparties_of(args[0])
            kwargs["context"] = {"counterparties": counterparties}
        return super().get_serializer(*args, **kwargs)


@extend_schema_view(
    list=extend_schema(
        tags=["Accounts"],
        operation_id="list_entries",
        summary="List an account's entries",
        description="The bookkeeper's view, newest first. `amount` is signed.",
        parameters=PERIOD,
        examples=[examples.ENTRY],
    )
)
class EntryViewSet(_AccountEntries):
    serializer_class = serializers.EntryResponse
    filterset_class = EntryFilter


@extend_schema_view(
    list=extend_schema(
        tags=["Accounts"],
        operation_id="list_operations",
        summary="List an account's operations",
        description="The owner's view of the same: what happened, newest first.",
        parameters=PERIOD,
        examples=[examples.OPERATION],
    )
)
class OperationViewSet(_AccountEntries):
    serializer_class = serializers.OperationResponse
    filterset_class = OperationFilter


class AccountFiguresViewSet(TenantViewSet[Entry]):
    """The balance, now or then, and the statement of a period."""

    queryset = Entry.objects.none()
    serializer_class = serializers.BalanceResponse
    query_params_by_action: ClassVar[dict[str, set[str]]] = {
        "balance": {"at"},
        "statement": {"from", "to", "format"},
    }
    permissions: ClassVar[dict[str, Permission]] = {
        "balance": Permission.VIEW_ACCOUNTS,
        "statement": Permission.VIEW_ACCOUNTS,
    }

    @extend_schema(
        tags=["Accounts"],
        operation_id="get_balance",
        summary="Get the balance, now or at any past moment",
        parameters=[_AT],
        responses=serializers.BalanceResponse,
        examples=[examples.BALANCE],
    )
    def balance(self, request: Request, account_id: UUID) -> Response:
        at = request.query_params.get("at")
        balance = queries.balance_at(
            tenant_id=self.tenant_id,
            account_id=account_id,
            at=None if at is None else moment(at, field="at"),
            now=timezone.now(),
            owner_id=self.owner_id,
        )
        return Response(serializers.BalanceResponse(balance).data)

    @extend_schema(
        tags=["Accounts"],
        operation_id="get_statement",
        summary="Get the statement of a period",
        description="By default of this month. At most 10,000 lines, in order of booking.",
        parameters=[
            *PERIOD,
            OpenApiParameter("format", enum=["json"], description="json is the only one so far."),
        ],
        responses=serializers.StatementResponse,
        examples=[examples.STATEMENT],
    )
    def statement(self, request: Request, account_id: UUID) -> Response:
        if request.query_params.get("format", "json") != "json":
            raise InvalidRequest("The only format is json.", field="format")
        now = timezone.now()
        start, end = self.period()
        statement = queries.statement_of(
            tenant_id=self.tenant_id,
            account_id=account_id,
            start=start or now.replace(day=1, hour=0, minute=0, second=0, microsecond=0),
            end=end or now,
            owner_id=self.owner_id,
        )
        counterparties = queries.counterparties_of(statement.lines)
        body = serializers.StatementResponse(statement, context={"counterparties": counterparties})
        return Response(body.data)


@extend_schema(tags=["Money movement"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_transactions",
        summary="List transactions",
        description="Newest first.",
        parameters=[
            OpenApiParameter("account_id", OpenApiTypes.UUID, description="With an entry there."),
            *PERIOD,
        ],
        responses=serializers.TransactionSummary(many=True),
        examples=[examples.TRANSACTION_SUMMARY],
    )
)
class TransactionViewSet(ListModelMixin, TenantViewSet[Transaction]):
    queryset = Transaction.objects.none()
    serializer_class = serializers.TransactionSummary
    filter_backends = [DjangoFilterBackend]
    filterset_class = TransactionFilter
    keyed_actions = ("create", "reverse")
    permissions: ClassVar[dict[str, Permission]] = {
        "list": Permission.VIEW_TRANSACTIONS,
        "retrieve": Permission.VIEW_TRANSACTIONS,
        "create": Permission.POST_JOURNALS,
        "reverse": Permission.REVERSE_TRANSACTIONS,
    }
    query_params_by_action: ClassVar[dict[str, set[str]]] = {"list": {"account_id", "from", "to"}}

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        start, end = self.period()
        account_id = self._account_id()
        if account_id is None and self.owner_id is not None:
            raise InvalidRequest("Name one of your accounts.", field="account_id")
        if account_id is None:
            rows: QuerySet[Any] = queries.transactions_of(
                tenant_id=self.tenant_id, start=start, end=end
            )
            page = KeysetPagination()
        else:
            # By the account's own entries: the search costs what the page holds.
            rows = queries.entries_of(
                tenant_id=self.tenant_id,
                account_id=account_id,
                start=start,
                end=end,
                owner_id=self.owner_id,
            )
            page = EntryPagination()
        found = page.paginate_queryset(self.filter_queryset(rows), request, view=self)
        transactions = [row.transaction if isinstance(row, Entry) else row for row in found]
        return page.get_paginated_response(self.get_serializer(transactions, many=True).data)

    @extend_schema(
        operation_id="get_transaction",
        summary="Get a transaction with its entries",
        responses=serializers.TransactionResponse,
        examples=[examples.TRANSACTION],
    )
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return Response(self._representation(pk))

    @extend_schema(
        operation_id="post_journal",
        summary="Post a journal of 2 to 100 signed entries",
        description="For the bank's own bookkeeping; takes the `admin` scope.",
        request=serializers.JournalRequest,
        responses={201: serializers.TransactionResponse},
        examples=[examples.JOURNAL_REQUEST, examples.TRANSACTION],
    )
    def create(self, request: Request) -> Response:
        key = self.idempotency_key
        body = self.validated(serializers.JournalRequest)
        legs = tuple(Leg(leg["account_id"], leg["amount"]) for leg in body.pop("entries"))
        posted = services.post_journal(
            tenant_id=self.tenant_id,
            legs=legs,
            idempotency_key=key,
            asked_by=self.principal.actor_id,
            **body,
        )
        return self._posted(posted)

    @extend_schema(
        operation_id="reverse_transaction",
        summary="Reverse a transaction, once",
        request=serializers.ReverseRequest,
        responses={201: serializers.TransactionResponse},
        examples=[examples.REVERSE_REQUEST, examples.TRANSACTION],
    )
    @action(detail=True, methods=["post"])
    def reverse(self, request: Request, pk: UUID) -> Response:
        posted = services.reverse_transaction(
            tenant_id=self.tenant_id,
            transaction_id=pk,
            idempotency_key=self.idempotency_key,
            asked_by=self.principal.actor_id,
            **self.validated(serializers.ReverseRequest),
        )
        return self._posted(posted)

    def _account_id(self) -> UUID | None:
        given = self.request.query_params.get("account_id")
        try:
            return None if given is None else UUID(given)
        except ValueError:
            raise InvalidRequest("account_id is a UUID.", field="account_id") from None

    def _posted(self, posted: PostedTransaction) -> Response:
        return self.answer(self._representation(posted.id), status=201, is_replay=posted.is_replay)

    def _representation(self, transaction_id: UUID) -> Any:
        found = queries.transaction_in_full(
            tenant_id=self.tenant_id, transaction_id=transaction_id, owner_id=self.owner_id
        )
        return {
            **serializers.TransactionSummary(found.transaction).data,
            "reversed_by": found.reversed_by,
            "entries": serializers.TransactionEntry(found.entries, many=True).data,
        }


@extend_schema(tags=["Money movement"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_holds", summary="List an account's holds", examples=[examples.HOLD]
    ),
)
class AccountHoldViewSet(ListModelMixin, TenantViewSet[Hold]):
    queryset = Hold.objects.all()
    serializer_class = serializers.HoldResponse
    filter_backends = [DjangoFilterBackend]
    filterset_class = HoldFilter
    permissions: ClassVar[dict[str, Permission]] = {"list": Permission.VIEW_HOLDS}

    def get_queryset(self) -> QuerySet[Hold]:
        return queries.holds_of(
            tenant_id=self.tenant_id,
            account_id=self.kwargs["account_id"],
            owner_id=self.owner_id,
        )


@extend_schema(tags=["Money movement"])
@extend_schema_view(
    retrieve=extend_schema(operation_id="get_hold", summary="Get a hold", examples=[examples.HOLD])
)
class HoldViewSet(RetrieveModelMixin, TenantViewSet[Hold]):
    queryset = Hold.objects.all()
    serializer_class = serializers.HoldResponse
    keyed_actions = ("create", "capture", "release")
    permissions: ClassVar[dict[str, Permission]] = {
        "retrieve": Permission.VIEW_HOLDS,
        "create": Permission.PLACE_HOLDS,
        "capture": Permission.PLACE_HOLDS,
        "release": Permission.RELEASE_HOLDS,
    }

    def get_queryset(self) -> QuerySet[Hold]:
        holds = super().get_queryset()
        return holds if self.owner_id is None else holds.filter(account__owner_id=self.owner_id)

    @extend_schema(
        operation_id="place_hold",
        summary="Reserve a part of the available balance",
        request=serializers.PlaceHoldRequest,
        responses={201: serializers.HoldResponse},
        examples=[examples.HOLD_REQUEST, examples.HOLD],
    )
    def create(self, request: Request) -> Response:
        key = self.idempotency_key
        body = self.validated(serializers.PlaceHoldRequest)
        placed = services.place_hold(
            tenant_id=self.tenant_id,
            amount=Money(body.pop("amount"), body.pop("currency")),
            idempotency_key=key,
            asked_by=self.principal.actor_id,
            now=timezone.now(),
            **body,
        )
        return self._hold(placed.hold, status=201, is_replay=placed.is_replay)

    @extend_schema(
        operation_id="capture_hold",
        summary="Move what is reserved, or a part; the rest is given back",
        request=serializers.CaptureHoldRequest,
        responses=serializers.HoldResponse,
        examples=[examples.CAPTURE_REQUEST, examples.CAPTURED_HOLD],
    )
    @action(detail=True, methods=["post"])
    def capture(self, request: Request, pk: UUID) -> Response:
        captured = services.capture_hold(
            tenant_id=self.tenant_id,
            hold_id=pk,
            idempotency_key=self.idempotency_key,
            asked_by=self.principal.actor_id,
            now=timezone.now(),
            **self.validated(serializers.CaptureHoldRequest),
        )
        return self._hold(captured.hold, is_replay=captured.posted.is_replay)

    @extend_schema(
        operation_id="release_hold",
        summary="Give back what is reserved",
        request=None,
        responses=serializers.HoldResponse,
        examples=[examples.HOLD],
    )
    @action(detail=True, methods=["post"])
    def release(self, request: Request, pk: UUID) -> Response:
        _ = self.idempotency_key

        def effect() -> tuple[int, Any]:
            hold = services.release_hold(tenant_id=self.tenant_id, hold_id=pk, now=timezone.now())
            return 200, self.get_serializer(hold).data

        return self.answer_once(effect)

    def _hold(self, hold: Hold, *, status: int = 200, is_replay: bool = False) -> Response:
        return self.answer(self.get_serializer(hold).data, status=status, is_replay=is_replay)


class TrialBalanceViewSet(TenantViewSet[Entry]):
    queryset = Entry.objects.none()
    serializer_class = serializers.TrialBalanceResponse
    query_params_by_action: ClassVar[dict[str, set[str]]] = {"retrieve": {"currency", "at"}}
    permissions: ClassVar[dict[str, Permission]] = {"retrieve": Permission.VIEW_TRIAL_BALANCE}

    @extend_schema(
        tags=["Money movement"],
        operation_id="get_trial_balance",
        summary="Get the trial balance: debits equal credits",
        description="Summed from the entries, by currency, account type and role.",
        parameters=[OpenApiParameter("currency", CURRENCY), _AT],
        responses=serializers.TrialBalanceResponse,
        examples=[examples.TRIAL_BALANCE],
    )
    def retrieve(self, request: Request) -> Response:
        now = timezone.now()
        at = request.query_params.get("at")
        currency = request.query_params.get("currency")
        if currency is not None:
            currency = CurrencyField().run_validation(currency)
        as_of = now if at is None else moment(at, field="at")
        lines = queries.trial_balance(
            tenant_id=self.tenant_id, currency=currency, at=None if at is None else as_of
        )
        return Response(_trial_balance(lines, currency, as_of))


def _trial_balance(
    lines: list[queries.TrialBalanceLine], currency: str | None, as_of: dt.datetime
) -> Any:
    by_currency: dict[str, list[queries.TrialBalanceLine]] = {}
    for line in lines:
        by_currency.setdefault(line.currency, []).append(line)
    if currency is not None:
        by_currency.setdefault(currency, [])
    currencies: list[dict[str, Any]] = []
    for code, accounts in by_currency.items():
        debits = sum(line.debits for line in accounts)
        credits = sum(line.credits for line in accounts)
        currencies.append(
            {
                "currency": code,
                "debits": debits,
                "credits": credits,
                "difference": credits - debits,
                "accounts": accounts,
            }
        )
    [only] = currencies if len(currencies) == 1 else [None]
    body = {
        "as_of": as_of,
        "currency": currency,
        "debits": only["debits"] if only else None,
        "credits": only["credits"] if only else None,
        "difference": sum(abs(each["difference"]) for each in currencies),
        "currencies": currencies,
    }
    return serializers.TrialBalanceResponse(body).data
