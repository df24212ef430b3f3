"""How a frozen dataclass declares one XML element: its attributes, its child elements, its text.

    @dataclass(frozen=True)
    class Target(Element, tag="target"):
        dev: str = attribute()
        bus: str | None = attribute(default=None)

Formatting writes what is declared, in the order of declaration, leaving out None, False and empty tuples. Parsing
reads what is declared and drops the rest: an element that was parsed is for looking at, not for defining again.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from lxml import etree

from agent.cpu_list import format_cpu_list, parse_cpu_list

_FIELD = "domainxml"
_MISSING = dataclasses.MISSING

E = TypeVar("E", bound="Element")


@dataclass(frozen=True)
class _Codec:
    """How one Python value is spelled in XML."""

    format: Callable[[Any], str]
    parse: Callable[[str], Any]


_PLAIN: Mapping[type, _Codec] = {
    str: _Codec(str, str),
    int: _Codec(str, int),
}


def _switch(on: str, off: str) -> _Codec:
    return _Codec(lambda value: on if value else off, lambda text: text == on)


YES_NO = _switch("yes", "no")
ON_OFF = _switch("on", "off")
# Written decimal, read as libvirt writes it: of PCI addresses hexadecimal.
NUMBER = _Codec(str, lambda text: int(text, 0))
# Numbers of CPUs or of NUMA cells, "0-3,8"; the list keeps its order and needs no ranges.
CPU_SET = _Codec(format_cpu_list, lambda text: frozenset(parse_cpu_list(text)))
CPU_LIST = _Codec(lambda numbers: ",".join(map(str, numbers)), lambda text: tuple(parse_cpu_list(text)))


class _Part(ABC):
    """One declared piece of an element; `write` and `read` are each other's inverse."""

    @abstractmethod
    def write(self, node: etree._Element, value: Any) -> None:
        """Puts the value into the XML."""

    @abstractmethod
    def read(self, node: etree._Element) -> Any:
        """The value, or MISSING when the XML has none."""


@dataclass(frozen=True)
class _Attribute(_Part):
    name: str
    codec: _Codec

    def write(self, node: etree._Element, value: Any) -> None:
        if value is not None:
            node.set(self.name, self.codec.format(value))

    def read(self, node: etree._Element) -> Any:
        text = node.get(self.name)
        return _MISSING if text is None else self.codec.parse(text)


@dataclass(frozen=True)
class _Text(_Part):
    codec: _Codec

    def write(self, node: etree._Element, value: Any) -> None:
        if value is not None:
            node.text = self.codec.format(value)

    def read(self, node: etree._Element) -> Any:
        return self.codec.parse((node.text or "").strip())


@dataclass(frozen=True)
class _TextChild(_Part):
    tag: str
    codec: _Codec

    def write(self, node: etree._Element, value: Any) -> None:
        if value is not None:
            etree.SubElement(node, self.tag).text = self.codec.format(value)

    def read(self, node: etree._Element) -> Any:
        text = node.findtext(self.tag)
        return _MISSING if text is None else self.codec.parse(text.strip())


@dataclass(frozen=True)
class _Presence(_Part):
    tag: str

    def write(self, node: etree._Element, value: Any) -> None:
        if value:
            etree.SubElement(node, self.tag)

    def read(self, node: etree._Element) -> Any:
        return node.find(self.tag) is not None


@dataclass(frozen=True)
class _Child(_Part):
    kind: type[Element]

    def write(self, node: etree._Element, value: Any) -> None:
        if value is not None:
            node.append(value.format())

    def read(self, node: etree._Element) -> Any:
        found = node.find(self.kind.qualified_tag())
        return _MISSING if found is None else self.kind.parse(found)


@dataclass(frozen=True)
class _Children(_Part):
    kind: type[Element]

    def write(self, node: etree._Element, value: Any) -> None:
        for item in value:
            node.append(item.format())

    def read(self, node: etree._Element) -> Any:
        return tuple(self.kind.parse(found) for found in node.findall(self.kind.qualified_tag()))


def _declare(part: _Part, default: Any, *, secret: bool = False) -> Any:
    if default is _MISSING:
        return dataclasses.field(metadata={_FIELD: part}, repr=not secret)
    return dataclasses.field(default=default, metadata={_FIELD: part}, repr=not secret)


def attribute(name: str, kind: type | _Codec = str, *, default: Any = _MISSING, secret: bool = False) -> Any:
    """An attribute; `kind` is str, int or one of the codecs above. A secret one is not shown by repr()."""
    return _declare(_Attribute(name, _codec(kind)), default, secret=secret)


def text(kind: type | _Codec = str) -> Any:
    """The element's own text."""
    return _declare(_Text(_codec(kind)), _MISSING)


def text_child(tag: str, kind: type | _Codec = str, *, default: Any = _MISSING) -> Any:
    """A child that has nothing but text."""
    return _declare(_TextChild(tag, _codec(kind)), default)


def presence(tag: str) -> Any:
    """A child without anything in it, whose being there says yes."""
    return _declare(_Presence(tag), False)


def child(kind: type[Element], *, default: Any = _MISSING) -> Any:
    """One child element, or None where that is the default."""
    return _declare(_Child(kind), default)


def children(kind: type[Element]) -> Any:
    """Any number of child elements, as a tuple."""
    return _declare(_Children(kind), ())


def _codec(kind: type | _Codec) -> _Codec:
    return kind if isinstance(kind, _Codec) else _PLAIN[kind]


@dataclass(frozen=True)
class Element:
    """Base of all declared elements."""

    TAG: ClassVar[str] = ""
    NAMESPACE: ClassVar[str | None] = None
    PREFIX: ClassVar[str] = "nodewright"

    def __init_subclass__(cls, *, tag: str, namespace: str | None = None) -> None:
        cls.TAG = tag
        cls.NAMESPACE = namespace

    @classmethod
    def qualified_tag(cls) -> str:
        """The tag as lxml spells it, with its namespace."""
        return cls.TAG if cls.NAMESPACE is None else f"{{{cls.NAMESPACE}}}{cls.TAG}"

    def format(self) -> etree._Element:
        """The element as lxml holds it."""
        names = {self.PREFIX: self.NAMESPACE} if self.NAMESPACE else None
        node = etree.Element(self.qualified_tag(), nsmap=names)
        for field in dataclasses.fields(self):
            field.metadata[_FIELD].write(node, getattr(self, field.name))
        return node

    @classmethod
    def parse(cls, node: etree._Element) -> Self:
        """The element that an XML node describes; ValueError when something that is required is absent."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            value = field.metadata[_FIELD].read(node)
            if value is not _MISSING:
                values[field.name] = value
            elif field.default is _MISSING:
                raise ValueError(f"<{cls.TAG}> has no {field.name}")
        return cls(**values)


def format_document(element: Element) -> str:
    """The element as an indented XML text."""
    return etree.tostring(element.format(), pretty_print=True, encoding="unicode")


def parse_document(kind: type[E], document: str) -> E:
    """The element that an XML text describes; ValueError when it does not."""
    # libvirt's documents need neither entities nor network: a hostile one gets neither.
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    try:
        node = etree.fromstring(document.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"not XML: {error}") from error
    if node.tag != kind.qualified_tag():
        raise ValueError(f"<{node.tag}> is not <{kind.TAG}>")
    return kind.parse(node)
