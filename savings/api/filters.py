from typing import Any

import django_filters
from django.db.models import QuerySet

from core.api.filters import StrictFilterSet
from savings.models import EarlyRelease, SavingsPlan
from savings.queries import STATES, in_state


class SavingsPlanFilter(StrictFilterSet):
    status = django_filters.ChoiceFilter(
        choices=[(state, state) for state in STATES], method="by_state"
    )
    kind = django_filters.ChoiceFilter(choices=SavingsPlan.Kind.choices)
    account_id = django_filters.UUIDFilter(field_name="source_account_id")

    class Meta:
        model = SavingsPlan
        fields = ("kind",)

    def by_state(self, plans: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return in_state(plans, value)


class EarlyReleaseFilter(StrictFilterSet):
    status = django_filters.ChoiceFilter(choices=EarlyRelease.Status.choices)
    savings_plan_id = django_filters.UUIDFilter(field_name="plan_id")

    class Meta:
        model = EarlyRelease
        fields = ("status",)
