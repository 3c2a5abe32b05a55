"""Filters of people, keys and the audit trail."""

import django_filters

from core.api.filters import StrictFilterSet
from core.models import AuditRecord
from core.permissions import Role
from identity.models import ApiKey, User


class UserFilter(StrictFilterSet):
    role = django_filters.ChoiceFilter(choices=Role.choices)
    is_active = django_filters.BooleanFilter()
    email = django_filters.CharFilter(field_name="email", lookup_expr="exact")

    class Meta:
        model = User
        fields = ("role", "is_active", "email")


class ApiKeyFilter(StrictFilterSet):
    mode = django_filters.ChoiceFilter(choices=ApiKey.Mode.choices)

    class Meta:
        model = ApiKey
        fields = ("mode",)


class ApiKeyAuditFilter(StrictFilterSet):
    api_key_id = django_filters.UUIDFilter(field_name="object_id")

    class Meta:
        model = AuditRecord
        fields = ("api_key_id",)


class AuditFilter(StrictFilterSet):
    object_id = django_filters.UUIDFilter(field_name="object_id")
    actor_id = django_filters.CharFilter(field_name="actor_id", lookup_expr="exact")
    action = django_filters.CharFilter(field_name="action", lookup_expr="exact")
    request_id = django_filters.CharFilter(field_name="request_id", lookup_expr="exact")

    class Meta:
        model = AuditRecord
        fields = ("object_id", "actor_id", "action", "request_id")
