"""Money movements over HTTP: translate, one call, translate."""

import datetime as dt
from typing import Any, ClassVar
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.errors import field_errors
from core.api.views import TenantViewSet
from core.errors import PayloadTooLarge
from core.money import Money
from core.permissions import Permission
from ledger.services import BATCH_MAX, Outcome, PostedTransaction, refusal_of
from payments import services
from payments.api.examples import movements as examples
from payments.api.serializers import movements as serializers
from payments.queries import transfer_of
from payments.services import CashMovement, Transfer

_BATCH_REFUSED = "batch_refused"


class _CashViewSet(TenantViewSet[Any]):
    serializer_class = serializers.CashResponse
    keyed_actions = ("create",)
    permissions: ClassVar[dict[str, Permission]] = {"create": Permission.MOVE_CASH}

    def movement(self) -> CashMovement:
        key = self.idempotency_key
        body = self.validated(serializers.CashRequest)
        amount = Money(body.pop("amount"), body.pop("currency"))
        return CashMovement(
            amount=amount, idempotency_key=key, asked_by=self.principal.actor_id, **body
        )

    def posted(self, posted: PostedTransaction) -> Response:
        return self.answer(_cash_body(posted), status=201, is_replay=posted.is_replay)


class DepositViewSet(_CashViewSet):
    @extend_schema(
        tags=["Money movement"],
        operation_id="make_deposit",
        summary="Credit an account",
        description="Against your cash or settlement account, which opens on first need.",
        request=serializers.CashRequest,
        responses={201: serializers.CashResponse},
        examples=[examples.CASH_REQUEST, examples.DEPOSIT],
    )
    def create(self, request: Request) -> Response:
        movement = self.movement()
        return self.posted(
            services.make_deposit(tenant_id=self.tenant_id, deposit=movement, now=timezone.now())
        )


class WithdrawalViewSet(_CashViewSet):
    @extend_schema(
        tags=["Money movement"],
        operation_id="make_withdrawal",
        summary="Debit an account",
        description="Against your cash or settlement account.",
        request=serializers.CashRequest,
        responses={201: serializers.CashResponse},
        examples=[examples.CASH_REQUEST, examples.WITHDRAWAL],
    )
    def create(self, request: Request) -> Response:
        movement = self.movement()
        return self.posted(
            services.make_withdrawal(
                tenant_id=self.tenant_id, withdrawal=movement, now=timezone.now()
            )
        )


class TransferViewSet(TenantViewSet[Any]):
    serializer_class = serializers.TransferResponse
    keyed_actions = ("create", "batch")
    permissions: ClassVar[dict[str, Permission]] = {
        "create": Permission.MAKE_TRANSFERS,
        "batch": Permission.MAKE_TRANSFER_BATCHES,
        "retrieve": Permission.VIEW_TRANSACTIONS,
    }

    @extend_schema(
        tags=["Money movement"],
        operation_id="make_transfer",
        summary="Move money between two accounts",
        request=serializers.TransferRequest,
        responses={201: serializers.TransferResponse},
        examples=[examples.TRANSFER_REQUEST, examples.TRANSFER],
    )
    def create(self, request: Request) -> Response:
        key = self.idempotency_key
        body = self.validated(serializers.TransferRequest)
        posted = services.make_transfer(
            tenant_id=self.tenant_id,
            transfer=_transfer(body, key, self.principal.actor_id),
            owner_id=self.owner_id,
        )
        return self.answer(_transfer_body(posted), status=201, is_replay=posted.is_replay)

    @extend_schema(
        tags=["Money movement"],
        operation_id="get_transfer",
        summary="Get a transfer",
        responses=serializers.TransferResponse,
        examples=[examples.TRANSFER],
    )
    def retrieve(self, request: Request, pk: UUID) -> Response:
        transfer = transfer_of(tenant_id=self.tenant_id, transfer_id=pk, owner_id=self.owner_id)
        return Response(serializers.TransferResponse(transfer).data)

    @extend_schema(
        tags=["Money movement"],
        operation_id="make_transfers",
        summary="Make up to 10,000 transfers at once",
        description=(
            "In order, each as if it came alone after those before it. `independent`: one refusal"
            " concerns its item only. `atomic`: one refusal refuses all; the others say"
            " `batch_refused`. The same key and body give the first answer again."
        ),
        request=serializers.BatchRequest,
        responses=serializers.BatchResponse,
        examples=[examples.BATCH_REQUEST, examples.BATCH],
    )
    @action(detail=False, methods=["post"])
    def batch(self, request: Request) -> Response:
        key = self.idempotency_key
        body = self.validated(serializers.BatchRequest)
        items = body["transfers"]
        if len(items) > BATCH_MAX:
            raise PayloadTooLarge(f"At most {BATCH_MAX} transfers in one call.")
        is_atomic = body["mode"] == "atomic"
        return self.answer_once(
            lambda: (200, self._make_all(items, key, is_atomic)),
            on_constraint="transaction_idempotency_key_unique",
        )

    def _make_all(self, items: list[dict[str, Any]], key: str, is_atomic: bool) -> dict[str, Any]:
        transfers: list[Transfer] = []
        asked_by = self.principal.actor_id
        malformed: dict[int, list[dict[str, str]]] = {}
        for index, item in enumerate(items):
            serializer = serializers.BatchItem(data=item)
            if serializer.is_valid():
                own_key = serializer.validated_data.pop("idempotency_key")
                transfers.append(_transfer(serializer.validated_data, own_key, asked_by))
            else:
                malformed[index] = field_errors(serializer)
        if malformed and is_atomic:
            results = [
                _malformed(index, malformed[index]) if index in malformed else _batch_refused(index)
                for index in range(len(items))
            ]
        else:
            outcomes = iter(
                services.make_transfers(
                    tenant_id=self.tenant_id,
                    transfers=transfers,
                    is_atomic=is_atomic,
                    idempotency_key=key,
                )
            )
            results = [
                _malformed(index, malformed[index])
                if index in malformed
                else _result(index, next(outcomes))
                for index in range(len(items))
            ]
        posted = sum(result["status"] == "posted" for result in results)
        return {"posted": posted, "refused": len(results) - posted, "results": results}


class AccountTransferViewSet(TenantViewSet[Any]):
    serializer_class = serializers.TransferResponse
    keyed_actions = ("create",)
    permissions: ClassVar[dict[str, Permission]] = {"create": Permission.MAKE_TRANSFERS}

    @extend_schema(
        tags=["Money movement"],
        operation_id="make_transfer_from_account",
        summary="Move money out of this account",
        request=serializers.AccountTransferRequest,
        responses={201: serializers.TransferResponse},
        examples=[examples.ACCOUNT_TRANSFER_REQUEST, examples.TRANSFER],
    )
    def create(self, request: Request, account_id: UUID) -> Response:
        key = self.idempotency_key
        body = self.validated(serializers.AccountTransferRequest)
        transfer = _transfer(
            {**body, "source_account_id": account_id}, key, self.principal.actor_id
        )
        posted = services.make_transfer(
            tenant_id=self.tenant_id, transfer=transfer, owner_id=self.owner_id
        )
        return self.answer(_transfer_body(posted), status=201, is_replay=posted.is_replay)


def _transfer(body: dict[str, Any], key: str | None, asked_by: str) -> Transfer:
    amount = Money(body.pop("amount"), body.pop("currency"))
    return Transfer(amount=amount, idempotency_key=key, asked_by=asked_by, **body)


# Written out: these are the hot paths, and a serializer would take longer than the posting.
def _posted_body(posted: PostedTransaction) -> dict[str, Any]:
    posting = posted.posting
    return {
        "id": str(posted.id),
        "type": posting.type,
        "status": "posted",
        "amount": sum(leg.amount for leg in posting.legs if leg.amount > 0),
        "currency": posting.currency,
        "description": posting.description,
        "external_reference": posting.external_reference,
        "value_date": posted.value_date.isoformat(),
        "metadata": posting.metadata,
        "created_at": _utc(posted.created_at),
    }


def _transfer_body(posted: PostedTransaction) -> dict[str, Any]:
    source, destination = posted.posting.legs
    return {
        **_posted_body(posted),
        "source_account_id": str(source.account_id),
        "destination_account_id": str(destination.account_id),
        "source_balance_after": posted.leg_balances[0],
    }


def _cash_body(posted: PostedTransaction) -> dict[str, Any]:
    legs = zip(posted.posting.legs, posted.leg_balances, strict=True)
    return {
        **_posted_body(posted),
        "account_id": str(posted.posting.legs[0].account_id),
        "balance_after": posted.leg_balances[0],
        "entries": [
            {
                "account_id": str(leg.account_id),
                "amount": leg.amount,
                "direction": "credit" if leg.amount > 0 else "debit",
                "balance_after": balance,
            }
            for leg, balance in legs
        ],
    }


def _utc(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


def _result(index: int, outcome: Outcome) -> dict[str, Any]:
    if outcome.refusal is None:
        return {"index": index, "id": outcome.transaction_id, "status": "posted"}
    if outcome.refusal == _BATCH_REFUSED:
        return _batch_refused(index)
    detail = refusal_of(outcome).detail
    return {"index": index, "status": "refused", "code": outcome.refusal, "detail": detail}


def _batch_refused(index: int) -> dict[str, Any]:
    detail = "Another transfer of this atomic batch was refused."
    return {"index": index, "status": "refused", "code": _BATCH_REFUSED, "detail": detail}


def _malformed(index: int, errors: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "index": index,
        "status": "refused",
        "code": "invalid_request",
        "detail": "Invalid request",
        "errors": errors,
    }
