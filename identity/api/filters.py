"""Filters of people, keys and the audit trail."""

import django_filters

from core.api.filters import BooleanFilter, StrictFilterSet, TextFilter
from core.models import AuditRecord
from core.permissions import Role
from identity.models import ApiKey, User


class UserFilter(StrictFilterSet):
    role = django_filters.ChoiceFilter(choices=Role.choices)
    is_active = BooleanFilter()
    email = TextFilter(max_length=254)

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
    actor_id = TextFilter(max_length=64)
    action = TextFilter(max_length=64)
    request_id = TextFilter(max_length=100)

    class Meta:
        model = AuditRecord
        fields = ("object_id", "actor_id", "action", "request_id")
