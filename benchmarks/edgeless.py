"""Who everybody is, where nobody is asked."""

import os
from uuid import UUID

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from core.permissions import Scope
from core.principal import Principal


class EverybodyIsTheTenant(BaseAuthentication):
    def __init__(self) -> None:
        self._principal = Principal(
            UUID(os.environ["TENANT_ID"]), "key:nobody", frozenset({Scope.ADMIN})
        )

    def authenticate(self, request: Request) -> tuple[Principal, Principal]:
        return self._principal, self._principal
