"""People, their tokens and API keys over HTTP: translate, one call, translate."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import Func, QuerySet
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_variables
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from core.addresses import client_address
from core.api.filters import DjangoFilterBackend
from core.api.schema import IF_MATCH, OPTIONAL_KEY, PERIOD
from core.api.views import FlorinViewSet, TenantViewSet
from core.models import AuditRecord
from core.permissions import Permission
from identity import services
from identity.api import examples, serializers
from identity.api.filters import ApiKeyAuditFilter, ApiKeyFilter, AuditFilter, UserFilter
from identity.models import ApiKey, User
from identity.queries import test_clock_of, users_with_second_factor, who_is

_P = Permission


@extend_schema(tags=["Identity"], auth=[])
class TokenViewSet(FlorinViewSet[Any]):
    """
    Sign in, go on, sign out. For those who have no credentials yet.

    They keep no answers: a token that lay in the database to be repeated could be read there.
    """

    authentication_classes = ()
    permission_classes = (AllowAny,)
    serializer_class = serializers.TokensResponse
    takes_idempotency_key = False

    @extend_schema(
        operation_id="sign_in",
        summary="Sign in with address and password",
        description=(
            "After a few wrong attempts from one address it is a 429 for a while, whatever the"
            " password. `Idempotency-Key` has no meaning here: each sign-in is a new session."
        ),
        request=serializers.SignInRequest,
        responses={200: serializers.TokensResponse},
        examples=[examples.SIGN_IN_REQUEST, examples.TOKENS],
    )
    @method_decorator(sensitive_variables())
    def create(self, request: Request) -> Response:
        body = self.validated(serializers.SignInRequest)
        return _tokens(
            services.sign_in(**body, address=client_address(request._request), now=timezone.now())
        )

    @extend_schema(
        operation_id="refresh_tokens",
        summary="Get new tokens for a refresh token, once",
        description="A refresh token that comes a second time ends its session: sign in again.",
        request=serializers.RefreshRequest,
        responses={200: serializers.TokensResponse},
        examples=[examples.REFRESH_REQUEST, examples.TOKENS],
    )
    @method_decorator(sensitive_variables())
    def refresh(self, request: Request) -> Response:
        body = self.validated(serializers.RefreshRequest)
        return _tokens(services.refresh_tokens(**body, now=timezone.now()))

    @extend_schema(
        operation_id="sign_out",
        summary="Sign out: end the session of a refresh token",
        description="Its access tokens are refused at once. The same answer for an unknown token.",
        request=serializers.RefreshRequest,
        responses={204: None},
        examples=[examples.REFRESH_REQUEST],
    )
    def revoke(self, request: Request) -> Response:
        services.sign_out(**self.validated(serializers.RefreshRequest), now=timezone.now())
        return Response(status=204)


@extend_schema(tags=["Identity"])
class MeViewSet(TenantViewSet[Any]):
    serializer_class = serializers.MeResponse
    permissions: ClassVar[dict[str, Permission]] = {"retrieve": _P.KNOW_ONESELF}

    @extend_schema(
        operation_id="get_me",
        summary="Who am I",
        responses=serializers.MeResponse,
        examples=[examples.ME],
    )
    def retrieve(self, request: Request) -> Response:
        return Response(serializers.MeResponse(who_is(principal=self.principal)).data)


@extend_schema(tags=["Identity"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_users",
        summary="List the tenant's users",
        description="Newest first.",
        examples=[examples.USER],
    ),
)
class UserViewSet(ListModelMixin, TenantViewSet[User]):
    queryset = User.objects.all()
    serializer_class = serializers.UserResponse
    filter_backends = [DjangoFilterBackend]
    filterset_class = UserFilter
    permissions: ClassVar[dict[str, Permission]] = {
        "list": _P.VIEW_USERS,
        "retrieve": _P.VIEW_USERS,
        "create": _P.MANAGE_USERS,
        "partial_update": _P.MANAGE_USERS,
    }

    def get_queryset(self) -> QuerySet[User]:
        return users_with_second_factor(super().get_queryset())

    @extend_schema(
        operation_id="get_user",
        summary="Get a user",
        description="With the version of what may be changed, as ETag.",
        examples=[examples.USER],
    )
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self._user(self.get_object())

    @extend_schema(
        operation_id="create_user",
        summary="Add a user",
        request=serializers.NewUserRequest,
        responses={201: serializers.UserResponse},
        examples=[examples.NEW_USER_REQUEST, examples.USER],
    )
    @method_decorator(sensitive_variables())
    def create(self, request: Request) -> Response:
        body = self.validated(serializers.NewUserRequest)

        def effect() -> tuple[int, Any]:
            user = services.create_user(tenant_id=self.tenant_id, now=timezone.now(), **body)
            return 201, self.get_serializer(self.get_queryset().get(pk=user.pk)).data

        return self.answer_once(effect)

    @extend_schema(
        operation_id="change_user",
        summary="Change name, role, or whether they may sign in",
        description="It counts at once: access tokens of the old role are refused.",
        parameters=[IF_MATCH],
        request=serializers.ChangeUserRequest,
        responses=serializers.UserResponse,
        examples=[examples.CHANGE_USER_REQUEST, examples.USER],
    )
    def partial_update(self, request: Request, pk: UUID) -> Response:
        kind, _, own_id = self.principal.actor_id.partition(":")
        services.change_user(
            tenant_id=self.tenant_id,
            user_id=pk,
            changes=self.changes(serializers.ChangeUserRequest),
            by_user_id=UUID(own_id) if kind == "user" else None,
            as_seen=self.as_seen,
            now=timezone.now(),
        )
        return self._user(self.get_queryset().get(pk=pk))

    def _user(self, user: User) -> Response:
        return self.editable(user.version, self.get_serializer(user).data)


@extend_schema(tags=["Identity"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_api_keys",
        summary="List API keys",
        description="Newest first, revoked ones too. The keys themselves are kept nowhere.",
        examples=[examples.API_KEY],
    ),
    retrieve=extend_schema(
        operation_id="get_api_key", summary="Get an API key", examples=[examples.API_KEY]
    ),
)
class ApiKeyViewSet(ListModelMixin, RetrieveModelMixin, TenantViewSet[ApiKey]):
    queryset = ApiKey.objects.all()
    serializer_class = serializers.ApiKeyResponse
    filter_backends = [DjangoFilterBackend]
    filterset_class = ApiKeyFilter
    permissions: ClassVar[dict[str, Permission]] = {
        "list": _P.VIEW_API_KEYS,
        "retrieve": _P.VIEW_API_KEYS,
        "create": _P.MANAGE_API_KEYS,
        "rotate": _P.MANAGE_API_KEYS,
        "destroy": _P.MANAGE_API_KEYS,
    }

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "now": timezone.now()}

    @extend_schema(
        operation_id="create_api_key",
        summary="Make an API key",
        description=(
            "The answer shows it this once. A repeated request gets the same answer with `key`"
            " null, because the key is kept nowhere: rotate it to get another."
        ),
        request=serializers.NewApiKeyRequest,
        responses={201: serializers.IssuedApiKeyResponse},
        examples=[examples.NEW_API_KEY_REQUEST, examples.ISSUED_API_KEY],
    )
    @method_decorator(sensitive_variables())
    def create(self, request: Request) -> Response:
        body = self.validated(serializers.NewApiKeyRequest)
        return self._issued(
            201,
            lambda: services.create_api_key(tenant_id=self.tenant_id, now=timezone.now(), **body),
        )

    @extend_schema(
        operation_id="rotate_api_key",
        summary="Give an API key a new secret",
        description=(
            "The old one is refused from the answer on, or after `overlap_seconds`. At most two are"
            " good at a time. Send an `Idempotency-Key`, as with a POST: a request that is repeated"
            " without one rotates again."
        ),
        parameters=[OPTIONAL_KEY],
        request=serializers.RotateRequest,
        responses=serializers.IssuedApiKeyResponse,
        examples=[examples.ROTATE_REQUEST, examples.ISSUED_API_KEY],
    )
    @action(detail=True, methods=["put"])
    @method_decorator(sensitive_variables())
    def rotate(self, request: Request, pk: UUID) -> Response:
        overlap_s = self.validated(serializers.RotateRequest)["overlap_seconds"]
        return self._issued(
            200,
            lambda: services.rotate_api_key(
                tenant_id=self.tenant_id, api_key_id=pk, overlap_s=overlap_s, now=timezone.now()
            ),
        )

    @extend_schema(
        operation_id="revoke_api_key", summary="Revoke an API key for good", responses={204: None}
    )
    def destroy(self, request: Request, pk: UUID) -> Response:
        services.revoke_api_key(tenant_id=self.tenant_id, api_key_id=pk, now=timezone.now())
        return Response(status=204)

    def _issued(self, status: int, issue: Callable[[], services.IssuedKey]) -> Response:
        """Answer with a key in clear; where the answer is kept or repeated, without."""
        issued: list[services.IssuedKey] = []

        def effect() -> tuple[int, Any]:
            issued[:] = [issue()]
            return status, {**self.get_serializer(issued[0].api_key).data, "key": None}

        response = self.answer_once(effect)
        if issued and "Idempotent-Replayed" not in response:
            response.data = {**response.data, "key": issued[0].clear}
        return _not_kept(response)


@extend_schema(tags=["Test clock"])
class TestClockViewSet(TenantViewSet[Any]):
    serializer_class = serializers.TestClockResponse
    permissions: ClassVar[dict[str, Permission]] = {
        "retrieve": _P.MOVE_TEST_CLOCK,
        "create": _P.MOVE_TEST_CLOCK,
        "advance": _P.MOVE_TEST_CLOCK,
    }

    @extend_schema(
        operation_id="get_test_clock",
        summary="What your test clock shows",
        responses=serializers.TestClockResponse,
        examples=[examples.TEST_CLOCK],
    )
    def retrieve(self, request: Request) -> Response:
        time = test_clock_of(tenant_id=self.tenant_id)
        return Response(serializers.TestClockResponse({"now": time}).data)

    @extend_schema(
        operation_id="start_test_clock",
        summary="Have a time of your own, for good",
        description=(
            "For tenants without live keys and live gateways: from now on, what falls due by the"
            " calendar does so by this clock, when it is moved on. One that runs stays as it is."
        ),
        request=serializers.StartClockRequest,
        responses={201: serializers.TestClockResponse},
        examples=[examples.START_CLOCK_REQUEST, examples.TEST_CLOCK],
    )
    def create(self, request: Request) -> Response:
        at = self.validated(serializers.StartClockRequest)["now"]

        def effect() -> tuple[int, Any]:
            tenant = services.start_test_clock(tenant_id=self.tenant_id, at=at, now=timezone.now())
            return 201, serializers.TestClockResponse({"now": tenant.test_clock}).data

        return self.answer_once(effect)

    @extend_schema(
        operation_id="advance_test_clock",
        summary="Move your test clock on, and do what falls due on the way",
        description=(
            "Each at its time and in order: a year of payments in one call. At most five years at"
            " once. After 20,000 runs it stops, with `is_complete` false: call again to go on."
        ),
        request=serializers.AdvanceClockRequest,
        responses=serializers.AdvancedClockResponse,
        examples=[
            examples.ADVANCE_CLOCK_REQUEST,
            examples.ADVANCE_CLOCK_BY_DAYS_REQUEST,
            examples.ADVANCED_CLOCK,
        ],
    )
    def advance(self, request: Request) -> Response:
        body = self.validated(serializers.AdvanceClockRequest)

        def effect() -> tuple[int, Any]:
            shown = test_clock_of(tenant_id=self.tenant_id)
            to = body["to"] if "to" in body else shown + timedelta(**body)
            advanced = services.advance_test_clock(
                tenant_id=self.tenant_id, to=to, now=timezone.now()
            )
            return 200, serializers.AdvancedClockResponse(advanced).data

        return self.answer_once(effect)


class _RecordsViewSet(ListModelMixin, TenantViewSet[AuditRecord]):
    queryset = AuditRecord.objects.all()
    serializer_class = serializers.AuditRecordResponse
    filter_backends = [DjangoFilterBackend]
    query_params_by_action: ClassVar[dict[str, set[str]]] = {"list": {"from", "to"}}

    def get_queryset(self) -> QuerySet[AuditRecord]:
        start, end = self.period()
        # Ten thousand ids in each of two hundred records would be an answer of 80 MB.
        records = (
            super()
            .get_queryset()
            .defer("object_ids")
            .annotate(object_count=Func("object_ids", function="cardinality"))
        )
        if start is not None:
            records = records.filter(created_at__gte=start)
        if end is not None:
            records = records.filter(created_at__lt=end)
        return records


@extend_schema(tags=["Identity"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_api_key_audit",
        summary="What was done with API keys",
        description="Created, rotated, revoked, refused: who, when, from where. Newest first.",
        parameters=PERIOD,
        examples=[examples.AUDIT_RECORD],
    )
)
class ApiKeyAuditViewSet(_RecordsViewSet):
    filterset_class = ApiKeyAuditFilter
    permissions: ClassVar[dict[str, Permission]] = {"list": _P.VIEW_API_KEYS}

    def get_queryset(self) -> QuerySet[AuditRecord]:
        return super().get_queryset().filter(action__startswith="api_key.")


@extend_schema(tags=["Identity"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_audit_records",
        summary="Who changed what",
        description=(
            "Newest first. What postings did is on the transactions themselves, which carry the"
            " same names."
        ),
        parameters=PERIOD,
        examples=[examples.AUDIT_RECORD],
    )
)
class AuditViewSet(_RecordsViewSet):
    filterset_class = AuditFilter
    permissions: ClassVar[dict[str, Permission]] = {"list": _P.VIEW_AUDIT}


def _tokens(tokens: services.Tokens) -> Response:
    body = {
        "access": tokens.access,
        "refresh": tokens.refresh,
        "token_type": "Bearer",
        "expires_in": tokens.expires_in_s,
    }
    return _not_kept(Response(body))


def _not_kept(response: Response) -> Response:
    response["Cache-Control"] = "no-store"
    return response
