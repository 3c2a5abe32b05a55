from typing import Any

import django_filters
from django.db.models import QuerySet

from core.api.filters import BooleanFilter, StrictFilterSet, TextFilter
from payments.api.serializers.topups import GATEWAYS, STATUSES, TOPUP_STATUSES
from payments.models import GatewayConfiguration, Payment, Payout


class TopUpFilter(StrictFilterSet):
    account_id = django_filters.UUIDFilter()
    status = django_filters.ChoiceFilter(
        choices=[(status, status) for status in TOPUP_STATUSES], method="by_status"
    )
    reference = TextFilter(max_length=36)

    class Meta:
        model = Payment
        fields = ("account_id", "reference")

    def by_status(self, topups: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return topups.filter(
            status__in=[ours for ours, shown in STATUSES.items() if shown == value]
        )


class PayoutFilter(StrictFilterSet):
    source_account_id = django_filters.UUIDFilter()
    status = django_filters.ChoiceFilter(choices=Payout.Status.choices)
    reference = TextFilter(max_length=35)

    class Meta:
        model = Payout
        fields = ("source_account_id", "status", "reference")


class GatewayFilter(StrictFilterSet):
    gateway = django_filters.ChoiceFilter(choices=[(each, each) for each in GATEWAYS])
    is_enabled = BooleanFilter()

    class Meta:
        model = GatewayConfiguration
        fields = ("gateway", "is_enabled")
