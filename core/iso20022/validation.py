"""Messages against the schemas of ISO 20022 that lie in `schemas/`."""

import functools
import re
import threading
from pathlib import Path
from typing import Final

from lxml import etree

SCHEMAS: Final = Path(__file__).parent / "schemas"
_FAULT_LENGTH_MAX: Final = 300
# A validator keeps the faults of its last message: one message at a time.
_one_at_a_time = threading.Lock()
_ELEMENT = re.compile(r"\{[^{}]*\}")
_VALUE = re.compile(r"'.*' (?=is not |has a length )", re.DOTALL)


def is_carried(name: str) -> bool:
    """Return whether the schema lies here; `name` is a message and its version."""
    return name in _carried()


def fault_of(root: "etree._Element", name: str) -> str | None:
    """
    Return the first thing the schema refuses, or None where it accepts the message.

    Values are left out, for a fault may be logged and a value may be an account number.

    :param name: a message and its version, such as `pain.001.001.09`
    """
    schema = _schema(name)
    with _one_at_a_time:
        if schema.validate(root):
            return None
        fault = str(schema.error_log[0].message)
    element, _, complaint = _ELEMENT.sub("", fault).partition(": ")
    return f"{element}: {_VALUE.sub('', complaint)}"[:_FAULT_LENGTH_MAX]


@functools.cache
def _carried() -> frozenset[str]:
    return frozenset(path.stem for path in SCHEMAS.glob("*.xsd"))


@functools.cache
def _schema(name: str) -> etree.XMLSchema:
    parser = etree.XMLParser(no_network=True, load_dtd=False, resolve_entities=False)
    return etree.XMLSchema(etree.parse(str(SCHEMAS / f"{name}.xsd"), parser))
