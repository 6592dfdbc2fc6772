"""Parse pages in tests: find elements by attribute and read their text."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "use", "wbr"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text of the element and its descendants, with whitespace collapsed."""
        parts = (child if isinstance(child, str) else child.text for child in self.children)
        return " ".join(" ".join(parts).split())

    def all(self, tag: str = "", **attributes: str | None) -> list[Element]:
        """Return descendants with these attributes; None matches any value, `_` a hyphen."""
        names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        descendants: list[Element] = []
        for child in self.children:
            if isinstance(child, str):
                continue
            if (not tag or child.tag == tag) and all(
                name in child.attributes and value in (None, child.attributes[name])
                for name, value in names.items()
            ):
                descendants.append(child)
            descendants += child.all(tag, **attributes)
        return descendants

    def one(self, tag: str = "", **attributes: str | None) -> Element:
        """Return the only matching descendant."""
        descendants = self.all(tag, **attributes)
        assert len(descendants) == 1, f"{len(descendants)} elements with {tag} {attributes}"
        return descendants[0]

    def error_of(self, name: str) -> str:
        """Return the error of a field, which the field must reference."""
        box = next(element for element in self.all(name=name) if element.tag != "meta")
        described = box.attributes.get("aria-describedby", "").split()
        errors = [element for id_ in described for element in self.all("ul", id=id_)]
        assert len(errors) == 1, f"{name} has {len(errors)} errors"
        assert box.attributes.get("aria-invalid") == "true"
        return errors[0].text


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag in [element.tag for element in self.open]:
            while self.open.pop().tag != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(html: str | bytes) -> Element:
    parser = _Parser()
    parser.feed(html.decode() if isinstance(html, bytes) else html)
    return parser.open[0]
