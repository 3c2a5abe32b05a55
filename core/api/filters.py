"""Filters of lists, strict: a value that cannot be meant is a 400."""

from typing import Any

import django_filters
from django import forms
from django_filters.rest_framework import DjangoFilterBackend, FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field

from core.api.dates import period_bound
from core.errors import InvalidRequest


class _BoundField(forms.CharField):
    def __init__(self, *args: Any, bound: str, **kwargs: Any) -> None:
        self.bound = bound
        super().__init__(*args, **kwargs)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            return period_bound(text, field=self.bound)
        except InvalidRequest as refusal:
            raise forms.ValidationError(refusal.detail, code="invalid") from None


@extend_schema_field(OpenApiTypes.STR)
class FromFilter(django_filters.Filter):
    """`from=`: a date or a time that belongs to the period."""

    field_class = _BoundField

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("lookup_expr", "gte")
        kwargs.setdefault("help_text", "From this date or time on, UTC.")
        super().__init__(*args, bound="from", **kwargs)


@extend_schema_field(OpenApiTypes.STR)
class ToFilter(django_filters.Filter):
    """`to=`: a date that still belongs to the period, or a time that does not."""

    field_class = _BoundField

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("lookup_expr", "lt")
        kwargs.setdefault("help_text", "A date: including that day. A time: before it.")
        super().__init__(*args, bound="to", **kwargs)


class AmountFilter(django_filters.NumberFilter):
    """Whole minor units within a bigint."""

    class _Field(forms.IntegerField):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("decimal_places", None)
            super().__init__(*args, min_value=0, max_value=2**63 - 1, **kwargs)

    field_class = _Field


class StrictFilterSet(FilterSet):
    """Base of our filter sets. A NUL character has no place in PostgreSQL, so not in a filter."""


__all__ = [
    "AmountFilter",
    "DjangoFilterBackend",
    "FromFilter",
    "StrictFilterSet",
    "ToFilter",
]
