"""Filters of lists, strict: a value that cannot be meant is a 400."""

from typing import Any

import django_filters
from django import forms
from django_filters.rest_framework import DjangoFilterBackend, FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field

from core.money import BALANCE_MAX


class _AmountField(forms.IntegerField):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("decimal_places", None)
        super().__init__(*args, min_value=0, max_value=BALANCE_MAX, **kwargs)


@extend_schema_field(OpenApiTypes.INT64)
class AmountFilter(django_filters.Filter):
    """Whole minor units."""

    field_class = _AmountField


class StrictFilterSet(FilterSet):
    """Base of our filter sets; the view refuses parameters that it does not name."""


__all__ = ["AmountFilter", "DjangoFilterBackend", "StrictFilterSet"]
