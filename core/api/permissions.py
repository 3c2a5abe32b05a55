"""Whether a caller may do this at all. Whose objects they may touch is the queryset's business."""

from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from core.permissions import Permission
from core.principal import Principal

if TYPE_CHECKING:
    # DRF imports this module while it defines APIView.
    from rest_framework.views import APIView


class HasPermission(BasePermission):
    """The caller's role or scopes have what the view's `permissions` name for the action."""

    message = "The credentials do not allow this."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        principal = request.auth
        if not isinstance(principal, Principal):
            return False
        action = getattr(view, "action", "")
        by_action: dict[str, Permission] = getattr(view, "permissions", {})
        if action not in by_action:
            raise ImproperlyConfigured(f"{type(view).__name__}.permissions lacks {action}.")
        return principal.may(by_action[action])
