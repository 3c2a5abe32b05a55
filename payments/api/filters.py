from typing import Any

import django_filters
from django.db.models import Q, QuerySet

from core.api.filters import BooleanFilter, StrictFilterSet, TextFilter
from payments.api.serializers.topups import GATEWAYS, STATUSES, TOPUP_STATUSES
from payments.models import (
    GatewayConfiguration,
    Payment,
    Payout,
    RecurringPayment,
    RecurringRun,
)


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


class RecurringPaymentFilter(StrictFilterSet):
    status = django_filters.ChoiceFilter(choices=RecurringPayment.Status.choices)
    account_id = django_filters.UUIDFilter(method="by_account")
    kind = django_filters.ChoiceFilter(choices=RecurringPayment.Kind.choices)
    trigger = django_filters.ChoiceFilter(choices=RecurringPayment.Trigger.choices)
    external_id = TextFilter(max_length=200)

    class Meta:
        model = RecurringPayment
        fields = ("status", "kind", "trigger", "external_id")

    def by_account(self, payments: QuerySet[Any], name: str, value: Any) -> QuerySet[Any]:
        """From the account, or to it."""
        return payments.filter(Q(source_account_id=value) | Q(destination_account_id=value))


class RecurringRunFilter(StrictFilterSet):
    status = django_filters.ChoiceFilter(choices=RecurringRun.Status.choices)

    class Meta:
        model = RecurringRun
        fields = ("status",)
