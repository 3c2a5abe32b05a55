"""Savings plans over HTTP: translate, one call, translate."""

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.filters import DjangoFilterBackend
from core.api.parsers import ExactJSONParser
from core.api.schema import IF_MATCH
from core.api.views import TenantViewSet
from core.errors import PermissionDenied
from core.permissions import Permission
from payments.api.views.recurring import RecurringRunViewSet
from payments.models import RecurringRun
from savings import services
from savings.api import examples
from savings.api import serializers as shapes
from savings.api.filters import EarlyReleaseFilter, SavingsPlanFilter
from savings.models import EarlyRelease, InterestPosting, SavingsPlan
from savings.queries import (
    one_of,
    plan_of,
    plan_runs,
    plans_of,
    postings_of,
    release_of,
    releases_of,
    with_figures,
)
from savings.services import NewPlan

_P = Permission
# Of two requests with one key the ledger lets one through, and the other is asked again.
_POSTED_ONCE = "transaction_idempotency_key_unique"


@extend_schema(tags=["Savings"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_savings_plans",
        summary="List savings plans, newest first",
        description="`account_id` is the source.",
        examples=[examples.AUTO_PLAN],
    ),
)
class SavingsPlanViewSet(ListModelMixin, TenantViewSet[SavingsPlan]):
    queryset = SavingsPlan.objects.all()
    serializer_class = shapes.SavingsPlanResponse
    parser_classes = [ExactJSONParser]
    filter_backends = [DjangoFilterBackend]
    filterset_class = SavingsPlanFilter
    keyed_actions = ("deposit", "withdraw", "close")
    permissions: ClassVar[dict[str, Permission]] = {
        "list": _P.VIEW_SAVINGS_PLANS,
        "retrieve": _P.VIEW_SAVINGS_PLANS,
        "projection": _P.VIEW_SAVINGS_PLANS,
        "create": _P.MANAGE_SAVINGS_PLANS,
        "partial_update": _P.MANAGE_SAVINGS_PLANS,
        "deposit": _P.MANAGE_SAVINGS_PLANS,
        "withdraw": _P.MANAGE_SAVINGS_PLANS,
        "close": _P.MANAGE_SAVINGS_PLANS,
        "pause": _P.MANAGE_SAVINGS_PLANS,
        "resume": _P.MANAGE_SAVINGS_PLANS,
        "renew": _P.MANAGE_SAVINGS_PLANS,
    }

    def get_queryset(self) -> QuerySet[SavingsPlan]:
        return with_figures(plans_of(tenant_id=self.tenant_id, owner_id=self.owner_id))

    @extend_schema(
        operation_id="create_savings_plan",
        summary="Put money aside each month, or lock it until a date",
        description=(
            "On an account of the plan's own. auto_withdraw: `amount` each month, until there is"
            " `target_amount`, or for so many `months`, or until it is closed. date_locked:"
            " `amount` is moved at once, and nobody has it before `unlock_date`. What belongs to"
            " the other kind is refused. Customers may not say what interest it bears."
        ),
        request=shapes.SavingsPlanRequest,
        responses={201: shapes.SavingsPlanResponse},
        examples=[
            examples.AUTO_REQUEST,
            examples.LOCKED_REQUEST,
            examples.AUTO_PLAN,
            examples.LOCKED_PLAN,
        ],
    )
    def create(self, request: Request) -> Response:
        body = self.validated(shapes.SavingsPlanRequest)
        self._refuse_rates(body)
        new = NewPlan(**shapes.terms_of(body, body["kind"]))
        return self._answer_with(
            lambda: services.create_plan(
                tenant_id=self.tenant_id, new=new, now=timezone.now(), owner_id=self.owner_id
            ),
            status=201,
        )

    @extend_schema(
        operation_id="get_savings_plan",
        summary="Get a savings plan",
        description="With the version of its terms, as ETag.",
        examples=[examples.AUTO_PLAN, examples.LOCKED_PLAN],
    )
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return self._editable(self._shown(pk))

    @extend_schema(
        operation_id="change_savings_plan",
        summary="Change a savings plan, for what comes after",
        description=(
            "What is left out stays. Another rate holds from today on. Kind, source and currency"
            " stay: close it, and make another. A lock is made longer by `renew`."
        ),
        parameters=[IF_MATCH],
        request=shapes.ChangeSavingsPlanRequest,
        responses=shapes.SavingsPlanResponse,
        examples=[examples.CHANGE_REQUEST, examples.AUTO_PLAN],
    )
    def partial_update(self, request: Request, pk: UUID) -> Response:
        body = self.changes(shapes.ChangeSavingsPlanRequest)
        self._refuse_rates(body)
        if shapes.names_a_kind(body):
            body = shapes.terms_of(body, self._plan(pk).kind)
        services.change_plan(
            tenant_id=self.tenant_id,
            plan_id=pk,
            changes=body,
            as_seen=self.as_seen,
            now=timezone.now(),
            owner_id=self.owner_id,
        )
        return self._editable(self._shown(pk))

    @extend_schema(
        operation_id="deposit_into_savings_plan",
        summary="Put more in, from the plan's source",
        description="One that has its target by it is completed at once.",
        request=shapes.SavingsDepositRequest,
        responses=shapes.SavingsPlanResponse,
        examples=[examples.DEPOSIT_REQUEST, examples.AUTO_PLAN],
    )
    @action(detail=True, methods=["post"])
    def deposit(self, request: Request, pk: UUID) -> Response:
        key = self.idempotency_key
        body = self.validated(shapes.SavingsDepositRequest)
        return self._act(
            services.deposit,
            pk,
            on_constraint=_POSTED_ONCE,
            idempotency_key=key,
            asked_by=self.principal.actor_id,
            **body,
        )

    @extend_schema(
        operation_id="withdraw_from_savings_plan",
        summary="Take some of it out",
        description=(
            "To the source, or to another account of the same owner. Before the date of one that"
            " is locked: 422 `savings_plan_locked`, with its `unlock_date`."
        ),
        request=shapes.SavingsWithdrawalRequest,
        responses=shapes.SavingsPlanResponse,
        examples=[examples.WITHDRAWAL_REQUEST, examples.AUTO_PLAN],
    )
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: UUID) -> Response:
        key = self.idempotency_key
        body = self.validated(shapes.SavingsWithdrawalRequest)
        return self._act(
            services.withdraw,
            pk,
            on_constraint=_POSTED_ONCE,
            idempotency_key=key,
            asked_by=self.principal.actor_id,
            **body,
        )

    @extend_schema(
        operation_id="close_savings_plan",
        summary="Take all of it out, with its interest, and end it",
        description=(
            "Interest is posted until yesterday, then all goes to the source, or to another"
            " account of the same owner. One that is closed stays as it is. Before the date of one"
            " that is locked: 422 `savings_plan_locked`, with its `unlock_date`."
        ),
        request=shapes.CloseSavingsPlanRequest,
        responses=shapes.SavingsPlanResponse,
        examples=[examples.CLOSE_REQUEST, examples.CLOSED_PLAN],
    )
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: UUID) -> Response:
        # Required: it moves money. The plan itself sees to it that this is done once.
        _ = self.idempotency_key
        body = self.validated(shapes.CloseSavingsPlanRequest)
        return self._act(services.close_plan, pk, **body)

    @extend_schema(
        operation_id="pause_savings_plan",
        summary="Put nothing aside until it is resumed",
        request=shapes.SavingsReasonRequest,
        responses=shapes.SavingsPlanResponse,
        examples=[examples.REASON, examples.AUTO_PLAN],
    )
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: UUID) -> Response:
        return self._act(services.pause_plan, pk, **self.validated(shapes.SavingsReasonRequest))

    @extend_schema(
        operation_id="resume_savings_plan",
        summary="Go on with the next date from now",
        description="Months that the pause has passed are not made up for.",
        request=shapes.SavingsReasonRequest,
        responses=shapes.SavingsPlanResponse,
        examples=[examples.REASON, examples.AUTO_PLAN],
    )
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: UUID) -> Response:
        return self._act(services.resume_plan, pk, **self.validated(shapes.SavingsReasonRequest))

    @extend_schema(
        operation_id="renew_savings_plan",
        summary="Lock it for another term",
        description="One that is unlocked, anew; one that is locked, for longer. Never shorter.",
        request=shapes.RenewSavingsPlanRequest,
        responses=shapes.SavingsPlanResponse,
        examples=[examples.RENEW_REQUEST, examples.LOCKED_PLAN],
    )
    @action(detail=True, methods=["post"])
    def renew(self, request: Request, pk: UUID) -> Response:
        return self._act(services.renew_plan, pk, **self.validated(shapes.RenewSavingsPlanRequest))

    @extend_schema(
        operation_id="project_savings_plan",
        summary="What will be there, and when",
        description=(
            "If all goes on as it is: nothing else is put in or taken out, and rates stay. Until it"
            " is completed or unlocked; a year of one that has no such day."
        ),
        responses=shapes.ProjectionResponse,
        examples=[examples.PROJECTION],
        filters=False,
    )
    @action(detail=True, methods=["get"])
    def projection(self, request: Request, pk: UUID) -> Response:
        foreseen = services.project(self._plan(pk), now=timezone.now())
        return Response(shapes.ProjectionResponse(foreseen).data)

    def _plan(self, plan_id: UUID) -> SavingsPlan:
        return plan_of(tenant_id=self.tenant_id, plan_id=plan_id, owner_id=self.owner_id)

    def _shown(self, plan_id: UUID) -> Any:
        """
        Return the plan with its figures.

        :raises NotFound: unknown, another tenant's, or not the owner's
        """
        return one_of(self.get_queryset(), plan_id)

    def _refuse_rates(self, body: dict[str, Any]) -> None:
        """
        Refuse a caller who says what interest a plan bears and may not.

        :raises PermissionDenied: so it is
        """
        if not shapes.RATES.isdisjoint(body) and not self.principal.may(_P.SET_SAVINGS_RATES):
            raise PermissionDenied("The credentials do not allow to say what interest it bears.")

    def _act(
        self,
        service: Callable[..., SavingsPlan],
        plan_id: UUID,
        *,
        on_constraint: str = "",
        **given: Any,
    ) -> Response:
        return self._answer_with(
            lambda: service(
                tenant_id=self.tenant_id,
                plan_id=plan_id,
                now=timezone.now(),
                owner_id=self.owner_id,
                **given,
            ),
            on_constraint=on_constraint,
        )

    def _answer_with(
        self, change: Callable[[], SavingsPlan], *, status: int = 200, on_constraint: str = ""
    ) -> Response:
        return self.answer_once(
            lambda: (status, self.get_serializer(self._shown(change().pk)).data),
            on_constraint=on_constraint,
        )

    def _editable(self, plan: SavingsPlan) -> Response:
        return self.editable(str(plan.version), self.get_serializer(plan).data)


@extend_schema(tags=["Savings"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_savings_plan_runs",
        summary="List the months it was to put money aside, and what came of them",
        description="Newest first: the runs of its recurring payment. None of one that is locked.",
    ),
)
class PlanRunViewSet(RecurringRunViewSet):
    permissions: ClassVar[dict[str, Permission]] = {"list": _P.VIEW_SAVINGS_PLANS}

    def get_queryset(self) -> QuerySet[RecurringRun]:
        plan = plan_of(
            tenant_id=self.tenant_id, plan_id=self.kwargs["plan_id"], owner_id=self.owner_id
        )
        return plan_runs(plan)


@extend_schema(tags=["Savings"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_interest_postings",
        summary="List the interest that was posted",
        description="Newest first: one a month, and one when it was closed.",
        examples=[examples.INTEREST_POSTING],
    ),
)
class InterestPostingViewSet(ListModelMixin, TenantViewSet[InterestPosting]):
    queryset = InterestPosting.objects.all()
    serializer_class = shapes.InterestPostingResponse
    permissions: ClassVar[dict[str, Permission]] = {"list": _P.VIEW_SAVINGS_PLANS}

    def get_queryset(self) -> QuerySet[InterestPosting]:
        plan = plan_of(
            tenant_id=self.tenant_id, plan_id=self.kwargs["plan_id"], owner_id=self.owner_id
        )
        return postings_of(plan)


@extend_schema(tags=["Savings"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_early_releases",
        summary="List early releases that were asked for, newest first",
        examples=[examples.RELEASE],
    ),
)
class EarlyReleaseViewSet(ListModelMixin, TenantViewSet[EarlyRelease]):
    queryset = EarlyRelease.objects.all()
    serializer_class = shapes.EarlyReleaseResponse
    parser_classes = [ExactJSONParser]
    filter_backends = [DjangoFilterBackend]
    filterset_class = EarlyReleaseFilter
    permissions: ClassVar[dict[str, Permission]] = {
        "list": _P.VIEW_SAVINGS_PLANS,
        "retrieve": _P.VIEW_SAVINGS_PLANS,
        "create": _P.REQUEST_EARLY_RELEASE,
        "approve": _P.DECIDE_EARLY_RELEASE,
        "reject": _P.DECIDE_EARLY_RELEASE,
    }

    def get_queryset(self) -> QuerySet[EarlyRelease]:
        return releases_of(tenant_id=self.tenant_id, owner_id=self.owner_id)

    @extend_schema(
        operation_id="request_early_release",
        summary="Ask that a locked plan be paid out before its date",
        description=(
            "For hardship. Nothing moves until somebody else approves. People alone may ask: a key"
            " is refused with a 403."
        ),
        request=shapes.EarlyReleaseRequest,
        responses={201: shapes.EarlyReleaseResponse},
        examples=[examples.RELEASE_REQUEST, examples.RELEASE],
    )
    def create(self, request: Request, plan_id: UUID) -> Response:
        return self._answer_with(services.request_release, status=201, plan_id=plan_id)

    @extend_schema(
        operation_id="get_early_release",
        summary="Get an early release",
        examples=[examples.RELEASE],
    )
    def retrieve(self, request: Request, pk: UUID) -> Response:
        release = release_of(tenant_id=self.tenant_id, release_id=pk, owner_id=self.owner_id)
        return Response(self.get_serializer(release).data)

    @extend_schema(
        operation_id="approve_early_release",
        summary="Agree: the plan is paid out to its source, and closed",
        description=(
            "With its interest until yesterday. People alone decide, and never the one who asked:"
            " else it is a 403."
        ),
        request=shapes.EarlyReleaseRequest,
        responses=shapes.EarlyReleaseResponse,
        examples=[examples.DECISION_REQUEST, examples.APPROVED_RELEASE],
    )
    def approve(self, request: Request, pk: UUID) -> Response:
        return self._answer_with(services.approve_release, release_id=pk)

    @extend_schema(
        operation_id="reject_early_release",
        summary="Refuse: the plan stays locked",
        description="People alone decide, and never the one who asked: else it is a 403.",
        request=shapes.EarlyReleaseRequest,
        responses=shapes.EarlyReleaseResponse,
        examples=[examples.DECISION_REQUEST, examples.REJECTED_RELEASE],
    )
    def reject(self, request: Request, pk: UUID) -> Response:
        return self._answer_with(services.reject_release, release_id=pk)

    def _answer_with(
        self, service: Callable[..., EarlyRelease], *, status: int = 200, **whose: UUID
    ) -> Response:
        reason = self.validated(shapes.EarlyReleaseRequest)["reason"]

        def effect() -> tuple[int, Any]:
            release = service(tenant_id=self.tenant_id, reason=reason, now=timezone.now(), **whose)
            return status, self.get_serializer(release).data

        return self.answer_once(effect)
