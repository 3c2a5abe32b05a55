"""Recurring payments and the calendar they go by, over HTTP: translate, one call, translate."""

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.filters import DjangoFilterBackend
from core.api.pagination import KeysetPagination
from core.api.parsers import ExactJSONParser
from core.api.schema import IF_MATCH
from core.api.views import TenantViewSet
from core.errors import InvalidRequest
from core.permissions import Permission
from payments import services
from payments.api.examples import recurring as examples
from payments.api.filters import RecurringPaymentFilter, RecurringRunFilter
from payments.api.serializers import recurring as shapes
from payments.models import CalendarDay, RecurringPayment, RecurringRun
from payments.queries import (
    calendar_days_of,
    recurring_payment_of,
    recurring_payments_of,
    runs_of,
)
from payments.services import PREVIEW_MAX, Beneficiary, NewRecurringPayment, Terms

_P = Permission
_PREVIEWED = 12


@extend_schema(tags=["Recurring payments"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_recurring_payments",
        summary="List recurring payments, newest first",
        examples=[examples.PAYMENT],
    ),
)
class RecurringPaymentViewSet(ListModelMixin, TenantViewSet[RecurringPayment]):
    queryset = RecurringPayment.objects.all()
    serializer_class = shapes.RecurringPaymentResponse
    parser_classes = [ExactJSONParser]
    filter_backends = [DjangoFilterBackend]
    filterset_class = RecurringPaymentFilter
    query_params_by_action: ClassVar[dict[str, set[str]]] = {"preview": {"count"}}
    permissions: ClassVar[dict[str, Permission]] = {
        "list": _P.VIEW_RECURRING_PAYMENTS,
        "retrieve": _P.VIEW_RECURRING_PAYMENTS,
        "preview": _P.VIEW_RECURRING_PAYMENTS,
        "create": _P.MANAGE_RECURRING_PAYMENTS,
        "partial_update": _P.MANAGE_RECURRING_PAYMENTS,
        "pause": _P.MANAGE_RECURRING_PAYMENTS,
        "resume": _P.MANAGE_RECURRING_PAYMENTS,
        "cancel": _P.MANAGE_RECURRING_PAYMENTS,
    }

    def get_queryset(self) -> QuerySet[RecurringPayment]:
        return recurring_payments_of(tenant_id=self.tenant_id, owner_id=self.owner_id)

    @extend_schema(
        operation_id="create_recurring_payment",
        summary="Pay again and again",
        description=(
            "By a calendar, or whenever a salary comes; to an account here, or to a beneficiary"
            " elsewhere. Dates are counted from the start date, never from the date before: the"
            " 31st comes as 28 February, and as 31 March again. `preview` shows them. A field that"
            " is not in the document is refused."
        ),
        request=shapes.RecurringPaymentRequest,
        responses={201: shapes.RecurringPaymentResponse},
        examples=[
            examples.MONTHLY_REQUEST,
            examples.SALARY_REQUEST,
            examples.SWEEP_REQUEST,
            examples.RENT_REQUEST,
            examples.PAYMENT,
        ],
    )
    def create(self, request: Request) -> Response:
        new = _new_payment(self.validated(shapes.RecurringPaymentRequest))
        return self._answer_with(
            lambda: services.create_recurring_payment(
                tenant_id=self.tenant_id, new=new, now=timezone.now(), owner_id=self.owner_id
            ),
            status=201,
        )

    @extend_schema(
        operation_id="get_recurring_payment",
        summary="Get a recurring payment",
        description="With the version of its terms, as ETag.",
        examples=[examples.PAYMENT],
    )
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return self._editable(self._payment(pk))

    @extend_schema(
        operation_id="change_recurring_payment",
        summary="Change the terms, for what comes after",
        description=(
            "What is left out stays. Another frequency, interval, day or start date counts the"
            " dates anew, and `count` is then what is left of it; all else of the calendar moves"
            " the dates that it has. No day is paid twice, and what is due by now is paid as it"
            " was. Accounts, beneficiary and currency stay: cancel it, and make another."
        ),
        parameters=[IF_MATCH],
        request=shapes.ChangeRecurringPaymentRequest,
        responses=shapes.RecurringPaymentResponse,
        examples=[examples.CHANGE_REQUEST, examples.PAYMENT],
    )
    def partial_update(self, request: Request, pk: UUID) -> Response:
        body = self.changes(shapes.ChangeRecurringPaymentRequest)
        changed = services.change_recurring_payment(
            tenant_id=self.tenant_id,
            payment_id=pk,
            changes=shapes.terms_of(body),
            as_seen=self.as_seen,
            now=timezone.now(),
            owner_id=self.owner_id,
        )
        return self._editable(changed)

    @extend_schema(
        operation_id="pause_recurring_payment",
        summary="Pay nothing until it is resumed",
        description="Runs that are due, or wait for another try, are cancelled.",
        request=shapes.RecurringReasonRequest,
        responses=shapes.RecurringPaymentResponse,
        examples=[examples.REASON, examples.PAYMENT],
    )
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: UUID) -> Response:
        return self._act(services.pause_recurring_payment, pk)

    @extend_schema(
        operation_id="resume_recurring_payment",
        summary="Go on with the next date from now",
        description="Those that the pause has passed are not paid.",
        request=shapes.RecurringReasonRequest,
        responses=shapes.RecurringPaymentResponse,
        examples=[examples.REASON, examples.PAYMENT],
    )
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: UUID) -> Response:
        return self._act(services.resume_recurring_payment, pk)

    @extend_schema(
        operation_id="cancel_recurring_payment",
        summary="Pay nothing any more",
        description="Runs that are due, or wait for another try, are cancelled.",
        request=shapes.RecurringReasonRequest,
        responses=shapes.RecurringPaymentResponse,
        examples=[examples.REASON, examples.PAYMENT],
    )
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: UUID) -> Response:
        return self._act(services.cancel_recurring_payment, pk)

    @extend_schema(
        operation_id="preview_recurring_payment",
        summary="The next dates on which it will run",
        description="None of one that has ended, or that waits for a salary.",
        parameters=[
            OpenApiParameter("count", shapes.PREVIEW_PARAMETER, description="How many at most.")
        ],
        responses=shapes.PreviewResponse,
        examples=[examples.PREVIEW],
        filters=False,
    )
    @action(detail=True, methods=["get"])
    def preview(self, request: Request, pk: UUID) -> Response:
        count = _count(request.query_params.get("count", str(_PREVIEWED)))
        coming = services.preview(self._payment(pk), count=count)
        return Response(shapes.PreviewResponse({"results": coming}).data)

    def _payment(self, payment_id: UUID) -> RecurringPayment:
        return recurring_payment_of(
            tenant_id=self.tenant_id, payment_id=payment_id, owner_id=self.owner_id
        )

    def _act(self, service: Any, payment_id: UUID) -> Response:
        reason = self.validated(shapes.RecurringReasonRequest)["reason"]
        return self._answer_with(
            lambda: service(
                tenant_id=self.tenant_id,
                payment_id=payment_id,
                reason=reason,
                now=timezone.now(),
                owner_id=self.owner_id,
            )
        )

    def _answer_with(
        self, change: Callable[[], RecurringPayment], *, status: int = 200
    ) -> Response:
        return self.answer_once(lambda: (status, self.get_serializer(change()).data))

    def _editable(self, payment: RecurringPayment) -> Response:
        return self.editable(str(payment.version), self.get_serializer(payment).data)


@extend_schema(tags=["Recurring payments"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_recurring_payment_runs",
        summary="List what was due, and what came of it",
        description="Newest first.",
        examples=[examples.RUN],
    ),
)
class RecurringRunViewSet(ListModelMixin, TenantViewSet[RecurringRun]):
    queryset = RecurringRun.objects.all()
    serializer_class = shapes.RecurringRunResponse
    filter_backends = [DjangoFilterBackend]
    filterset_class = RecurringRunFilter
    permissions: ClassVar[dict[str, Permission]] = {"list": _P.VIEW_RECURRING_PAYMENTS}

    def get_queryset(self) -> QuerySet[RecurringRun]:
        payment = recurring_payment_of(
            tenant_id=self.tenant_id, payment_id=self.kwargs["payment_id"], owner_id=self.owner_id
        )
        return runs_of(payment)


class _ByDate(KeysetPagination):
    key = "date"


@extend_schema(tags=["Recurring payments"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_calendar_days",
        summary="List your own holidays and working days",
        description="The latest first. The holidays of countries are known without them.",
        examples=[examples.CALENDAR_DAY],
    ),
)
class CalendarDayViewSet(ListModelMixin, TenantViewSet[CalendarDay]):
    queryset = CalendarDay.objects.all()
    serializer_class = shapes.CalendarDayResponse
    pagination_class = _ByDate
    permissions: ClassVar[dict[str, Permission]] = {
        "list": _P.VIEW_CALENDAR,
        "create": _P.MANAGE_CALENDAR,
        "destroy": _P.MANAGE_CALENDAR,
    }

    def get_queryset(self) -> QuerySet[CalendarDay]:
        return calendar_days_of(tenant_id=self.tenant_id)

    @extend_schema(
        operation_id="add_calendar_day",
        summary="Have a day be no business day, or be one",
        description="Recurring payments that go by business days are moved by it at once.",
        request=shapes.CalendarDayRequest,
        responses={201: shapes.CalendarDayResponse},
        examples=[examples.CALENDAR_DAY_REQUEST, examples.CALENDAR_DAY],
    )
    def create(self, request: Request) -> Response:
        body = self.validated(shapes.CalendarDayRequest)

        def effect() -> tuple[int, Any]:
            day = services.add_calendar_day(tenant_id=self.tenant_id, now=timezone.now(), **body)
            return 201, self.get_serializer(day).data

        return self.answer_once(effect)

    @extend_schema(
        operation_id="remove_calendar_day",
        summary="Have a day be what your country's calendar says",
        responses={204: None},
    )
    def destroy(self, request: Request, pk: UUID) -> Response:
        services.remove_calendar_day(tenant_id=self.tenant_id, day_id=pk, now=timezone.now())
        return Response(status=204)


def _new_payment(body: dict[str, Any]) -> NewRecurringPayment:
    beneficiary = body.get("beneficiary")
    return NewRecurringPayment(
        source_account_id=body["source_account_id"],
        destination_account_id=body.get("destination_account_id"),
        beneficiary=None if beneficiary is None else Beneficiary(**beneficiary),
        gateway=body.get("gateway") or "",
        currency=body["currency"],
        external_id=body.get("external_id"),
        terms=Terms(**shapes.terms_of(body)),
    )


def _count(given: str) -> int:
    if not (given.isascii() and given.isdigit()) or not 1 <= int(given[:9]) <= PREVIEW_MAX:
        raise InvalidRequest(f"count is a number from 1 to {PREVIEW_MAX}.", field="count")
    return int(given)
