"""XML of strangers, opened so that it can neither fetch, nor expand, nor exhaust anything."""

import re
from typing import Final
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser
from lxml import etree

BYTES_MAX: Final = 10_000_000
# The deepest path of pain.002.001.10 and camt.054.001.08 has fewer than 20 elements.
DEPTH_MAX: Final = 40
# A transfer in a report is some forty elements; a million of them is 150 MB of memory.
ELEMENTS_MAX: Final = 1_000_000
# No element of these messages has more than one. lxml takes quadratic time for thousands.
ATTRIBUTES_MAX: Final = 50
# camt.054.001.08, the largest, has 362. libxml2 keeps every name it ever saw.
NAMES_MAX: Final = 1_000
NAME_LENGTH_MAX: Final = 200
_DECLARED_ENCODING = re.compile(r"<\?xml\s[^>]*?encoding\s*=\s*[\"']([^\"']*)[\"']")


class UnreadableMessage(ValueError):
    """The bytes are no message that we read: not XML, not safe, or not of a kind we know."""


def parse_safely(
    data: bytes, *, bytes_max: int = BYTES_MAX, depth_max: int = DEPTH_MAX
) -> "etree._Element":
    """
    Return the root of a UTF-8 document without DOCTYPE. Comments and instructions are left out.

    Expat reads, with the refusals of defusedxml, and lxml only keeps the tree: libxml2 never sees
    the text, and no second parser can understand it differently. ISO 20022 allows UTF-8 only.

    :raises UnreadableMessage: too large, too deep, a DOCTYPE, an entity, another encoding, not XML
    """
    if len(data) > bytes_max:
        raise UnreadableMessage(f"The message is larger than {bytes_max} bytes.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableMessage("The message is not in UTF-8.") from None
    declared = _DECLARED_ENCODING.match(text)
    if declared and declared[1].lower() not in {"utf-8", "us-ascii"}:
        raise UnreadableMessage("The message declares another encoding than UTF-8.")
    target = _Tree(depth_max)
    parser = DefusedXMLParser(
        target=target,
        encoding="utf-8",
        forbid_dtd=True,
        forbid_entities=True,
        forbid_external=True,
    )
    try:
        parser.feed(data)
        parser.close()
    except UnreadableMessage:
        raise
    except DefusedXmlException:
        raise UnreadableMessage("The message has a DOCTYPE or an entity.") from None
    except (ParseError, ValueError):
        # Its own words could repeat the message's.
        raise UnreadableMessage("The message is not well-formed XML.") from None
    return target.root


class _Tree:
    """
    What expat calls. Has no `comment` and no `pi`: text on both sides of one is one text.

    Otherwise `<Amt>1<!-- -->00</Amt>` would be 1 to who reads `.text`, and 100 to the schema.
    """

    def __init__(self, depth_max: int) -> None:
        self._builder = etree.TreeBuilder()
        self._depth = 0
        self._depth_max = depth_max
        self._elements = 0
        self._names: set[str] = set()
        self.data = self._builder.data

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > self._depth_max:
            raise UnreadableMessage(f"The message is nested deeper than {self._depth_max}.")
        if self._elements > ELEMENTS_MAX:
            raise UnreadableMessage(f"The message has more than {ELEMENTS_MAX} elements.")
        if len(attributes) > ATTRIBUTES_MAX:
            raise UnreadableMessage(f"An element has more than {ATTRIBUTES_MAX} attributes.")
        for name in (tag, *attributes):
            if name not in self._names:
                self._add_name(name)
        self._builder.start(tag, attributes)

    def _add_name(self, name: str) -> None:
        if len(name) > NAME_LENGTH_MAX:
            raise UnreadableMessage(f"A name is longer than {NAME_LENGTH_MAX} characters.")
        self._names.add(name)
        if len(self._names) > NAMES_MAX:
            raise UnreadableMessage(f"The message has more than {NAMES_MAX} names of elements.")

    def end(self, tag: str) -> None:
        self._depth -= 1
        self._builder.end(tag)

    def close(self) -> None:
        self.root = self._builder.close()
