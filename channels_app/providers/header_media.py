"""The file in the header of a template or an interactive message. Pure.

Meta's object stands deep inside the content (docs/providers/cloud.md §1.3, §9): a header has an
image, a video or a document, by `link`, by `id` (an upload at Meta) or by `media` (an upload here).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

KINDS: Final = ("image", "video", "document")


def find(type_: str, content: Any) -> tuple[str, Mapping[str, Any]] | None:
    """Return the kind of the header's file and its object, or None."""
    if not isinstance(content, Mapping):
        return None
    holder = _parameter(content) if type_ == "template" else content.get("header")
    if type_ not in ("template", "interactive") or not isinstance(holder, Mapping):
        return None
    kind = holder.get("type")
    file = holder.get(kind) if isinstance(kind, str) and kind in KINDS else None
    return (str(kind), file) if isinstance(file, Mapping) else None


def replace(type_: str, content: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content with another object for the file that `find` found."""
    found = find(type_, content)
    assert found is not None
    kind, _old = found
    if type_ == "interactive":
        return {**content, "header": {**content["header"], kind: dict(file)}}
    parameter = _parameter(content)
    assert parameter is not None
    filled = {**parameter, kind: dict(file)}

    def with_file(component: Any) -> Any:
        if not isinstance(component, Mapping) or parameter not in _parameters(component):
            return component
        return {**component, "parameters": [filled]}

    return {**content, "components": [with_file(one) for one in content["components"]]}


def _parameter(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    components = content.get("components")
    for component in components if isinstance(components, list) else []:
        if isinstance(component, Mapping) and str(component.get("type")).lower() == "header":
            for parameter in _parameters(component):
                if isinstance(parameter, Mapping):
                    return parameter
    return None


def _parameters(component: Mapping[str, Any]) -> list[Any]:
    parameters = component.get("parameters")
    is_header = str(component.get("type")).lower() == "header"
    return parameters if is_header and isinstance(parameters, list) else []
