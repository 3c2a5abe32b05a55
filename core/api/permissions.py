"""Scopes: what a caller may do at all. Whose objects they may touch is the queryset's business."""

from typing import TYPE_CHECKING, ClassVar

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from core.principal import Principal

if TYPE_CHECKING:
    # DRF imports this module while it defines APIView.
    from rest_framework.views import APIView


class HasScope(BasePermission):
    """`read` for reading, `write` for the rest, unless the view's `scope_by_action` says more."""

    message = "The credentials lack the scope for this."
    default_scope_by_action: ClassVar[dict[str, str]] = {}

    def has_permission(self, request: Request, view: "APIView") -> bool:
        principal = request.auth
        if not isinstance(principal, Principal):
            return False
        by_action: dict[str, str] = getattr(view, "scope_by_action", self.default_scope_by_action)
        action = getattr(view, "action", None) or ""
        usual = "read" if request.method in SAFE_METHODS else "write"
        return principal.has_scope(by_action.get(action, usual))
