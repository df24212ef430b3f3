"""How declared elements become XML and come back."""

from dataclasses import dataclass

import pytest

from agent.domainxml.display import Graphics
from agent.domainxml.domain import Domain
from agent.domainxml.element import (
    ON_OFF,
    Element,
    attribute,
    child,
    children,
    format_document,
    parse_document,
    presence,
    text,
    text_child,
)
from agent.domainxml.metadata import Label, Metadata, Ownership
from agent.domainxml.summary import DomainSummary


@dataclass(frozen=True)
class Wheel(Element, tag="wheel"):
    """An element with text and an attribute."""

    name: str = text()
    size: int | None = attribute("size", int, default=None)


@dataclass(frozen=True)
class Brake(Element, tag="brake"):
    """An element that is there once."""

    type: str = attribute("type")


@dataclass(frozen=True)
class Cart(Element, tag="cart"):
    """An element with everything else."""

    locked: bool | None = attribute("locked", ON_OFF, default=None)
    owner: str | None = text_child("owner", default=None)
    brake: Brake | None = child(Brake, default=None)  # noqa: RUF009 - answers dataclasses.field()
    wheels: tuple[Wheel, ...] = children(Wheel)
    has_bell: bool = presence("bell")


CARTS = [
    Cart(),
    Cart(locked=False),
    Cart(locked=True, owner="<&> ü", has_bell=True),
    Cart(brake=Brake("drum"), wheels=(Wheel("left", 3), Wheel("right"))),
]


@pytest.mark.parametrize("cart", CARTS)
def test_what_is_formatted_is_parsed_to_the_same(cart: Cart) -> None:
    assert parse_document(Cart, format_document(cart)) == cart


def test_none_is_left_out_and_false_is_not() -> None:
    assert format_document(Cart()) == "<cart/>\n"
    assert format_document(Cart(locked=False)) == '<cart locked="off"/>\n'


def test_what_is_not_declared_is_dropped() -> None:
    assert parse_document(Cart, "<cart colour='red'><horn/><bell/></cart>") == Cart(has_bell=True)


@pytest.mark.parametrize("document", ["", "<cart", "<car/>", "<cart>&undefined;</cart>"])
def test_what_is_not_the_element_is_a_value_error(document: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_document(Cart, document)


def test_a_required_attribute_that_is_absent_is_named() -> None:
    with pytest.raises(ValueError, match="<graphics> has no type"):
        parse_document(Graphics, "<graphics/>")


def test_entities_of_a_document_are_not_expanded() -> None:
    bomb = '<!DOCTYPE cart [<!ENTITY a "boom">]><cart><owner>&a;</owner></cart>'
    assert "boom" not in str(parse_document(Cart, bomb).owner)


def test_our_mark_has_its_own_namespace() -> None:
    mark = Metadata(Ownership(7, (Label("tenant", "a & b"),)))
    domain = Domain("test", metadata=mark)
    assert 'xmlns:nodewright="https://nodewright.dev/xmlns/domain/1"' in format_document(domain)
    assert parse_document(Domain, format_document(domain)).metadata == mark
    foreign = "<domain type='test'><metadata><domain generation='7'/></metadata></domain>"
    assert parse_document(Domain, foreign).metadata == Metadata(None)


def test_a_foreign_domain_without_anything_can_be_read() -> None:
    assert parse_document(DomainSummary, "<domain type='xen' id='3'><cpu/></domain>") == DomainSummary()


def test_devices_are_added_and_single_ones_replaced() -> None:
    domain = Domain("test").with_devices(graphics=(Graphics("vnc"),), emulator="/a")
    domain = domain.with_devices(graphics=(Graphics("spice"),), emulator="/b")
    assert [graphics.type for graphics in domain.devices.graphics] == ["vnc", "spice"]
    assert domain.devices.emulator == "/b"
