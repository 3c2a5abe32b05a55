"""A form's field of several rows: line items, installments. Empty rows count for nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe

# Of what is wrong, at once: a pasted table may be wrong a thousand times.
FAULTS_SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    label: str
    field: forms.Field


class RowsWidget(forms.Widget):
    use_fieldset = True

    def __init__(self, columns: Sequence[Column], labels: Sequence[str], *, shown: int) -> None:
        super().__init__()
        self.columns, self.labels, self.shown = columns, labels, shown

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, Any]]:
        return [
            {
                column.name: column.field.widget.value_from_datadict(
                    data, files, f"{name}-{number}-{column.name}"
                )
                for column in self.columns
            }
            for number in range(len(self.labels))
        ]

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return not any(key.startswith(f"{name}-") for key in data)

    def render(
        self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None
    ) -> SafeString:
        values = list(value or [])
        values += [{}] * (len(self.labels) - len(values))
        rows = [
            (
                label,
                [
                    self._cell(name, number, label, column, values[number])
                    for column in self.columns
                ],
            )
            for number, label in enumerate(self.labels)
        ]
        parts: list[dict[str, Any]] = [{"rows": rows[: self.shown]}]
        if rows[self.shown :]:
            is_open = any(any(each.values()) for each in values[self.shown :])
            parts.append({"rows": rows[self.shown :], "is_more": True, "is_open": is_open})
        context = {"parts": parts, "columns": self.columns, "more": "More rows"}
        # The template escapes what it is given.
        return mark_safe(render_to_string("admin/invoice_rows.html", context))  # noqa: S308

    def _cell(
        self, name: str, number: int, label: str, column: Column, row: dict[str, Any]
    ) -> SafeString:
        attrs = {"aria-label": f"{label}: {column.label}", "placeholder": column.label}
        widget: forms.Widget = column.field.widget
        return widget.render(f"{name}-{number}-{column.name}", row.get(column.name), attrs)


class RowsField(forms.Field):
    """Cleans to a list of (row's place from 0, cleaned values), without the empty rows."""

    widget: RowsWidget

    def __init__(
        self, columns: Sequence[Column], labels: Sequence[str], *, shown: int = 60, **more: Any
    ) -> None:
        self.columns, self.labels = columns, labels
        widget = RowsWidget(columns, labels, shown=shown)
        super().__init__(required=False, widget=widget, **more)

    def clean(self, value: Any) -> list[tuple[int, dict[str, Any]]]:
        given = [
            (number, row)
            for number, row in enumerate(value or [])
            if any(str(cell or "").strip() for cell in row.values())
        ]
        return cleaned_rows(
            self.columns, [(self.labels[number], number, row) for number, row in given]
        )


def cleaned_rows(
    columns: Sequence[Column], rows: Sequence[tuple[str, int, dict[str, Any]]]
) -> list[tuple[int, dict[str, Any]]]:
    """
    Clean rows of (what a person calls it, its place, values as they were typed).

    :raises ValidationError: with what is wrong, by row and column
    """
    cleaned, faults = [], []
    for label, number, row in rows:
        values = {}
        for column in columns:
            try:
                values[column.name] = column.field.clean(row.get(column.name))
            except ValidationError as error:
                faults += [f"{label}, {column.label.lower()}: {said}" for said in error.messages]
        cleaned.append((number, values))
    if faults:
        more = len(faults) - FAULTS_SHOWN_MAX
        shown = faults[:FAULTS_SHOWN_MAX]
        raise ValidationError([*shown, f"And {more:,} more."] if more > 0 else shown)
    return cleaned
