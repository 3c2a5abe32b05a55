"""What every viewset of ours shares: the tenant, the idempotency key, the shape of an answer."""

import contextlib
import datetime as dt
import json
import re
import threading
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast
from uuid import UUID

from django.conf import settings
from django.db.models import Model, QuerySet
from django.utils import timezone
from rest_framework.exceptions import AuthenticationFailed, MethodNotAllowed
from rest_framework.permissions import SAFE_METHODS
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.viewsets import GenericViewSet

from core.api.dates import period_bound
from core.api.limits import count_principal, count_stranger
from core.api.pagination import KeysetPagination
from core.caller import name_actor
from core.database import reading_as, repeating
from core.errors import IdempotencyKeyRequired, InvalidRequest
from core.idempotency import KEY_LENGTH_MAX, keyed_fingerprint, once
from core.permissions import Permission
from core.principal import Principal

M = TypeVar("M", bound=Model)


class _Serializers(threading.local):
    """Those of this thread."""

    def __init__(self) -> None:
        self.made: dict[type[Serializer[Any]], Serializer[Any]] = {}


_serializers = _Serializers()


def _serializer_of(serializer_class: type[Serializer[Any]]) -> Serializer[Any]:
    """
    Return this thread's serializer of the class.

    Used again, as a list's serializer uses that of its items: making one, which copies all of its
    fields, takes longer than the validation.
    """
    made = _serializers.made
    if serializer_class not in made:
        made[serializer_class] = serializer_class()
    return made[serializer_class]


_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_ENTITY_TAG = re.compile(r'"([\x21\x23-\x7e]{1,64})"')


class FlorinViewSet(GenericViewSet[M]):
    """Base of every viewset: who calls, how often, and with which parameters."""

    # For each action, what the caller must be allowed; see core.permissions.
    permissions: ClassVar[dict[str, Permission]] = {}
    # Query parameters an action takes, beyond the filters and cursors of `list`.
    query_params_by_action: ClassVar[dict[str, set[str]]] = {}

    def perform_authentication(self, request: Request) -> None:
        try:
            super().perform_authentication(request)
        except AuthenticationFailed:
            # Whoever tries credentials is counted too; over the limit, that is the answer.
            count_stranger(request._request)
            raise
        if request.auth is None:
            count_stranger(request._request)
            return
        principal = cast(Principal, request.auth)
        name_actor(principal.actor_id, principal.tenant_id)
        count_principal(request._request, principal)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self._refuse_unknown_query_params(request)

    def check_permissions(self, request: Request) -> None:
        # After they were counted: a method that is not here is no way around the limit.
        method = str(request.method)
        if method.lower() not in (self.action_map or {}):
            raise MethodNotAllowed(method)
        super().check_permissions(request)

    def validated(self, serializer_class: type[Serializer[Any]]) -> dict[str, Any]:
        """
        Return the request's body as the serializer makes it.

        :raises ValidationError: by field
        """
        data: dict[str, Any] = _serializer_of(serializer_class).run_validation(self.request.data)
        return data

    def changes(self, serializer_class: type[Serializer[Any]]) -> dict[str, Any]:
        """
        Return what a PATCH asks for.

        :raises InvalidRequest: a field that nobody may change
        :raises ValidationError: by field
        """
        unknown = sorted(set(self.request.data) - set(_serializer_of(serializer_class).fields))
        if unknown:
            raise InvalidRequest("This cannot be changed.", field=unknown[0])
        return self.validated(serializer_class)

    def _refuse_unknown_query_params(self, request: Request) -> None:
        """A mistyped filter must not return everything, nor an empty one."""
        known = set(self.query_params_by_action.get(self.action, ()))
        if self.action == "list":
            known |= {"limit", "cursor"}
            filterset = getattr(self, "filterset_class", None)
            known |= set(filterset.base_filters) if filterset else set()
        for name, values in request.query_params.lists():
            if name not in known:
                raise InvalidRequest(f"There is no query parameter {name!r} here.", field=name)
            if len(values) > 1 or not values[0]:
                raise InvalidRequest(f"{name} has one value.", field=name)


class TenantViewSet(FlorinViewSet[M]):
    """
    Base of every viewset behind a sign-in: the one place where an API query is scoped to the
    caller's tenant.

    Another tenant's object does not exist here: 404, never 403. Nor does, for a customer, what is
    another's.
    """

    pagination_class = KeysetPagination
    lookup_value_converter = "uuid"

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        with contextlib.ExitStack() as self._reading:
            return super().dispatch(request, *args, **kwargs)

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        if request.method in SAFE_METHODS and settings.ROW_SECURITY:
            # From here on the database knows for whom we read, until `dispatch` has an answer.
            self._reading.enter_context(reading_as(self.tenant_id))

    def get_queryset(self) -> QuerySet[M]:
        return super().get_queryset().filter(tenant_id=self.tenant_id)

    @property
    def principal(self) -> Principal:
        # Every authenticator of `identity` sets a Principal; DRF's stubs know only their Token.
        return cast(Principal, self.request.auth)

    @property
    def tenant_id(self) -> UUID:
        return self.principal.tenant_id

    @property
    def idempotency_key(self) -> str:
        """
        The key the caller gave.

        :raises IdempotencyKeyRequired: none
        """
        key = self.optional_idempotency_key
        if key is None:
            raise IdempotencyKeyRequired("Send one key for each intended change.")
        return key

    @property
    def optional_idempotency_key(self) -> str | None:
        key = self.request.headers.get("Idempotency-Key")
        if key is None:
            return None
        if not key:
            raise IdempotencyKeyRequired("The key is empty.")
        if len(key) > KEY_LENGTH_MAX or not _VISIBLE_ASCII.fullmatch(key):
            raise InvalidRequest(
                f"Idempotency-Key has 1 to {KEY_LENGTH_MAX} visible ASCII characters.",
                field="Idempotency-Key",
            )
        # Customers share a tenant and do not know of each other: their keys never meet. The space
        # cannot occur in a key.
        return key if self.owner_id is None else f"{self.owner_id} {key}"

    @property
    def owner_id(self) -> UUID | None:
        """The customer whose accounts alone are in reach; None: all of the tenant's."""
        return self.principal.owner_id

    @property
    def as_seen(self) -> str | None:
        """
        The version that the caller has decided on, by If-Match.

        :raises InvalidRequest: not one entity tag
        """
        given = self.request.headers.get("If-Match")
        if given is None or given.strip() == "*":
            return None
        match = _ENTITY_TAG.fullmatch(given.strip())
        if match is None:
            raise InvalidRequest('If-Match is one entity tag, such as "0a1b2c".', field="If-Match")
        return match[1]

    def editable(self, version: str, body: Any) -> Response:
        """Answer with an object that people edit, and the version of what they see."""
        return Response(body, headers={"ETag": f'"{version}"'})

    def period(self) -> tuple[dt.datetime | None, dt.datetime | None]:
        """
        The half-open period of `from` and `to`.

        :raises InvalidRequest: a bound is neither a date nor a time
        """
        given = self.request.query_params
        start, end = (
            period_bound(given[bound], field=bound) if bound in given else None
            for bound in ("from", "to")
        )
        return start, end

    def answer_once(
        self, effect: Callable[[], tuple[int, Any]], *, on_constraint: str = ""
    ) -> Response:
        """
        Answer with what `effect` returns (status, body); for a key seen before, with the first.

        For changes that the ledger's own keys do not cover. Without a key it runs each time. It
        runs again where a twin broke `on_constraint` first.
        """
        key = self.optional_idempotency_key
        if key is None:
            status, body = effect()
            return self.answer(body, status=status)
        request = self.request

        def json_effect() -> tuple[int, Any]:
            status, body = effect()
            return status, json.loads(JSONRenderer().render(body))

        answer = repeating(
            lambda: once(
                tenant_id=self.tenant_id,
                key=key,
                request_fingerprint=keyed_fingerprint(
                    request.method, request.path, self.principal.actor_id, request.data
                ),
                now=timezone.now(),
                effect=json_effect,
            ),
            on_constraint=on_constraint,
        )
        return self.answer(answer.body, status=answer.status, is_replay=answer.is_replay)

    def answer(self, body: Any, *, status: int = 200, is_replay: bool = False) -> Response:
        headers = {"Idempotent-Replayed": "true"} if is_replay else {}
        return Response(body, status=status, headers=headers)
