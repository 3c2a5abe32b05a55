from typing import Any

import django_filters
from django.db.models import QuerySet

from core.api.filters import BooleanFilter, CurrencyFilter, StrictFilterSet, TextFilter
from invoices.models import Invoice
from invoices.services import Customer


class InvoiceFilter(StrictFilterSet):
    status = django_filters.ChoiceFilter(choices=Invoice.Status.choices)
    currency = CurrencyFilter()
    external_id = TextFilter(max_length=200)
    customer = TextFilter(
        max_length=254,
        method="by_customer",
        help_text="A customer's reference; or the e-mail address of one who has none.",
    )
    attention = BooleanFilter(
        method="by_attention", help_text="true: those that somebody should look at."
    )

    class Meta:
        model = Invoice
        fields = ("status", "currency", "external_id")

    def by_customer(self, invoices: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        keys = [Customer(reference=value).key, Customer(email=value).key]
        return invoices.filter(customer_key__in=keys)

    def by_attention(self, invoices: QuerySet[Any], name: str, value: bool) -> QuerySet[Any]:
        return invoices.exclude(attention="") if value else invoices.filter(attention="")
