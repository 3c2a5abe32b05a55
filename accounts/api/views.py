"""Accounts over HTTP: translate, one call, translate."""

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import services
from accounts.api import serializers
from accounts.api.filters import AccountFilter
from accounts.models import Account
from core.api.errors import field_errors
from core.api.filters import DjangoFilterBackend
from core.api.schema import IF_MATCH
from core.api.views import TenantViewSet
from core.errors import PayloadTooLarge
from core.permissions import Permission

_EXAMPLE = {
    "type": "checking",
    "currency": "USD",
    "name": "Ada",
    "external_id": "customer-42",
    "metadata": {"segment": "retail"},
}
_OPENED = {
    "id": "0199c0de-7e57-7000-8000-000000000001",
    "type": "checking",
    "role": None,
    "currency": "USD",
    "status": "active",
    "name": "Ada",
    "owner_id": None,
    "external_id": "customer-42",
    "balance": 0,
    "held": 0,
    "available": 0,
    "overdraft_limit": 0,
    "debit_locked_until": None,
    "metadata": {"segment": "retail"},
    "created_at": "2026-01-31T12:00:00Z",
    "updated_at": "2026-01-31T12:00:00Z",
}
_REASON = OpenApiExample("reason", {"reason": "Card reported stolen"}, request_only=True)
_ACCOUNT = OpenApiExample("account", _OPENED, response_only=True, status_codes=["200", "201"])


@extend_schema(tags=["Accounts"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_accounts",
        summary="List accounts",
        description="Newest first.",
        examples=[_ACCOUNT],
    ),
)
class AccountViewSet(ListModelMixin, TenantViewSet[Account]):
    queryset = Account.objects.all()
    serializer_class = serializers.AccountResponse
    filter_backends = [DjangoFilterBackend]
    filterset_class = AccountFilter
    keyed_actions = ("batch",)
    permissions: ClassVar[dict[str, Permission]] = {
        "list": Permission.VIEW_ACCOUNTS,
        "retrieve": Permission.VIEW_ACCOUNTS,
        "create": Permission.OPEN_ACCOUNTS,
        "batch": Permission.OPEN_ACCOUNTS,
        "partial_update": Permission.CHANGE_ACCOUNTS,
        "freeze": Permission.FREEZE_ACCOUNTS,
        "unfreeze": Permission.UNFREEZE_ACCOUNTS,
        "close": Permission.UNFREEZE_ACCOUNTS,
    }

    def get_queryset(self) -> QuerySet[Account]:
        accounts = super().get_queryset()
        return accounts if self.owner_id is None else accounts.filter(owner_id=self.owner_id)

    @extend_schema(
        operation_id="get_account",
        summary="Get an account",
        description="With the version of what may be changed, as ETag.",
        examples=[_ACCOUNT],
    )
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        account = self.get_object()
        return self.editable(account.version, self.get_serializer(account).data)

    @extend_schema(
        operation_id="open_account",
        summary="Open an account",
        request=serializers.OpenAccountRequest,
        responses={201: serializers.AccountResponse},
        examples=[OpenApiExample("checking", _EXAMPLE, request_only=True), _ACCOUNT],
    )
    def create(self, request: Request) -> Response:
        body = self.validated(serializers.OpenAccountRequest)

        def effect() -> tuple[int, Any]:
            account = services.open_account(
                tenant_id=self.tenant_id, new=services.NewAccount(**body), now=timezone.now()
            )
            return 201, self.get_serializer(account).data

        return self.answer_once(effect)

    @extend_schema(
        operation_id="change_account",
        summary="Change name, metadata or overdraft limit",
        parameters=[IF_MATCH],
        request=serializers.ChangeAccountRequest,
        responses=serializers.AccountResponse,
        examples=[
            OpenApiExample("rename", {"name": "Ada, savings"}, request_only=True),
            _ACCOUNT,
        ],
    )
    def partial_update(self, request: Request, pk: UUID) -> Response:
        account = services.change_account(
            tenant_id=self.tenant_id,
            account_id=pk,
            changes=self.changes(serializers.ChangeAccountRequest),
            as_seen=self.as_seen,
            now=timezone.now(),
        )
        return self.editable(account.version, self.get_serializer(account).data)

    @extend_schema(
        operation_id="open_accounts",
        summary="Open up to 10,000 accounts at once",
        description="Each item succeeds or fails alone; its error stands in its result.",
        request=serializers.OpenAccountsRequest,
        responses={201: serializers.OpenAccountsResponse},
        examples=[
            OpenApiExample("two", {"accounts": [_EXAMPLE, _EXAMPLE]}, request_only=True),
            OpenApiExample(
                "one of two",
                {
                    "created": 1,
                    "results": [
                        {"index": 0, "id": _OPENED["id"]},
                        {
                            "index": 1,
                            "error": {
                                "code": "already_exists",
                                "detail": "An account with this external id exists.",
                                "errors": [],
                            },
                        },
                    ],
                },
                response_only=True,
                status_codes=["201"],
            ),
        ],
    )
    @action(detail=False, methods=["post"])
    def batch(self, request: Request) -> Response:
        _ = self.idempotency_key
        items = self.validated(serializers.OpenAccountsRequest)["accounts"]
        if len(items) > services.BATCH_MAX:
            raise PayloadTooLarge(f"At most {services.BATCH_MAX} accounts in one call.")
        return self.answer_once(
            lambda: (201, self._open_all(items)),
            # Another call may take an external id after this one looked; then look again.
            on_constraint=services.EXTERNAL_ID_TAKEN,
        )

    def _open_all(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        results: list[dict[str, Any]] = [{"index": index} for index in range(len(items))]
        accepted, indexes = [], []
        for index, item in enumerate(items):
            serializer = serializers.OpenAccountRequest(data=item)
            if serializer.is_valid():
                accepted.append(services.NewAccount(**serializer.validated_data))
                indexes.append(index)
            else:
                results[index]["error"] = {
                    "code": "invalid_request",
                    "detail": "Invalid request",
                    "errors": field_errors(serializer),
                }
        opened = services.open_accounts(tenant_id=self.tenant_id, new=accepted, now=timezone.now())
        created = 0
        for index, outcome in zip(indexes, opened, strict=True):
            if isinstance(outcome, UUID):
                results[index]["id"] = outcome
                created += 1
            else:
                results[index]["error"] = {
                    "code": outcome.code,
                    "detail": outcome.detail,
                    "errors": [],
                }
        return {"created": created, "results": results}

    @extend_schema(
        operation_id="freeze_account",
        summary="Freeze: no entries until it is unfrozen",
        request=serializers.ReasonRequest,
        responses=serializers.AccountResponse,
        examples=[_REASON, _ACCOUNT],
    )
    @action(detail=True, methods=["post"])
    def freeze(self, request: Request, pk: UUID) -> Response:
        return self._change_status(services.freeze_account, pk)

    @extend_schema(
        operation_id="unfreeze_account",
        summary="Unfreeze",
        request=serializers.ReasonRequest,
        responses=serializers.AccountResponse,
        examples=[_REASON, _ACCOUNT],
    )
    @action(detail=True, methods=["post"])
    def unfreeze(self, request: Request, pk: UUID) -> Response:
        return self._change_status(services.unfreeze_account, pk)

    @extend_schema(
        operation_id="close_account",
        summary="Close for good; balance and holds must be zero",
        request=serializers.ReasonRequest,
        responses=serializers.AccountResponse,
        examples=[_REASON, _ACCOUNT],
    )
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: UUID) -> Response:
        return self._change_status(services.close_account, pk)

    def _change_status(self, service: Any, account_id: UUID) -> Response:
        reason = self.validated(serializers.ReasonRequest)["reason"]

        def effect() -> tuple[int, Any]:
            account = service(
                tenant_id=self.tenant_id,
                account_id=account_id,
                reason=reason,
                now=timezone.now(),
            )
            return 200, self.get_serializer(account).data

        return self.answer_once(effect)
