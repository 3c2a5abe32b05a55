"""Filters of lists, strict: a value that cannot be meant is a 400."""

from typing import Any

import django_filters
from django import forms
from django_filters.rest_framework import DjangoFilterBackend, FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field

from core.api.fields import CURRENCY
from core.money import BALANCE_MAX, EXPONENTS


class _AmountField(forms.IntegerField):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("decimal_places", None)
        super().__init__(*args, min_value=0, max_value=BALANCE_MAX, **kwargs)


@extend_schema_field({"type": "integer", "minimum": 0, "maximum": BALANCE_MAX})
class AmountFilter(django_filters.Filter):
    """Whole minor units."""

    field_class = _AmountField


class TextFilter(django_filters.CharFilter):
    """A text as it stands: spaces around it are part of it."""

    def __init__(self, *args: Any, max_length: int, **kwargs: Any) -> None:
        super().__init__(*args, max_length=max_length, strip=False, **kwargs)
        schema = {"type": "string", "minLength": 1, "maxLength": max_length}
        # Its stubs know serializer fields only.
        extend_schema_field(schema)(self)  # type: ignore[type-var]


@extend_schema_field(CURRENCY)
class CurrencyFilter(django_filters.ChoiceFilter):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, choices=[(code, code) for code in EXPONENTS], **kwargs)


@extend_schema_field(OpenApiTypes.BOOL)
class BooleanFilter(django_filters.TypedChoiceFilter):
    """true or false, and nothing that may mean one of them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(
            *args,
            choices=[(value, value) for value in ("true", "false")],
            coerce=lambda value: value == "true",
            **kwargs,
        )


class StrictFilterSet(FilterSet):
    """Base of our filter sets; the view refuses parameters that it does not name."""


__all__ = [
    "AmountFilter",
    "BooleanFilter",
    "CurrencyFilter",
    "DjangoFilterBackend",
    "StrictFilterSet",
    "TextFilter",
]
