"""Metadata: a small object of strings, or a sentence about why not."""

from typing import Any

import pytest

from core.metadata import metadata_fault


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"k": ""},
        {"k" * 64: "v" * 500},
        {str(n): "v" for n in range(50)},
        {"é 漢 🙂": 'quote " backslash \\'},
    ],
)
def test_what_may_be_stored(given: dict[str, str]) -> None:
    assert metadata_fault(given) is None


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        "text",
        {"": "v"},
        {"k" * 65: "v"},
        {"k": "v" * 501},
        {"k": 1},
        {"k": None},
        {"k": {"a": "b"}},
        {str(n): "v" for n in range(51)},
        {"k": "\x00"},
        {"\x00": "v"},
        {"k": "\ud800"},
    ],
)
def test_what_may_not(given: Any) -> None:
    fault = metadata_fault(given)

    assert fault is not None
    assert fault.endswith(".")
