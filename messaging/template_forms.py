"""The form that creates and edits a message template.

It only converts: between what a page sends and the draft whose rules are in
`channels_app/providers/cloud/template_drafts.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.http import QueryDict

from channels_app.providers.cloud import templates
from channels_app.providers.cloud.templates import AUTHENTICATION, NAMED, POSITIONAL, Definition
from messaging import content as contents

if TYPE_CHECKING:
    from channels_app.models import MessageTemplate

# What the form can make; a template with other parts is not edited here.
_PARTS: Final = frozenset({"HEADER", "BODY", "FOOTER", "BUTTONS"})
HEADERS: Final = ("", "TEXT", "IMAGE", "VIDEO", "DOCUMENT", "LOCATION")
FILE_HEADERS: Final = ("IMAGE", "VIDEO", "DOCUMENT")
BUTTONS: Final = ("QUICK_REPLY", "URL", "PHONE_NUMBER", "COPY_CODE", "REQUEST_CONTACT_INFO")
MAX_ROWS: Final = 20
# Stands for the handle of an example that is uploaded when the form is submitted.
PENDING_HANDLE: Final = "pending"


@dataclass
class ButtonRow:
    """One button as entered. `value` is the address, number or code; `example` an address."""

    kind: str = "QUICK_REPLY"
    text: str = ""
    value: str = ""
    example: str = ""
    error: str = ""

    def as_meta(self) -> dict[str, Any]:
        button: dict[str, Any] = {"type": self.kind}
        if self.kind not in ("COPY_CODE", "REQUEST_CONTACT_INFO"):
            button["text"] = self.text
        if self.kind == "URL":
            button["url"] = self.value
            if templates.variables(self.value) and self.example:
                button["example"] = [self.example]
        elif self.kind == "PHONE_NUMBER":
            button["phone_number"] = self.value
        elif self.kind == "COPY_CODE":
            button["example"] = self.value
        return button


@dataclass(frozen=True, slots=True)
class Example:
    """The example of one variable. `key` is the name of its input."""

    key: str
    name: str
    value: str


@dataclass
class TemplateForm:
    """The values of the page, as entered. `media` is the id of the uploaded example of a header."""

    account: str = ""
    name: str = ""
    language: str = "pt_BR"
    category: str = "UTILITY"
    header_format: str = ""
    header: str = ""
    media: str = ""
    body: str = ""
    footer: str = ""
    buttons: list[ButtonRow] = field(default_factory=list)
    # By the key of a variable: "body.1", "header.name".
    given_examples: dict[str, str] = field(default_factory=dict)
    security_recommendation: bool = True
    expires_after_minutes: str = "10"
    # Whether the variables of an existing template have names; those of a new one are as written.
    fixed_names: bool | None = None

    @classmethod
    def from_post(cls, data: QueryDict) -> TemplateForm:
        """Read what the page sent. Nothing is checked here."""
        columns = (data.getlist(f"button_{name}") for name in ("kind", "text", "value", "example"))
        rows = [ButtonRow(*map(str.strip, row)) for row in zip(*columns, strict=False)]
        form = cls(
            buttons=rows[:MAX_ROWS],
            given_examples={
                key.removeprefix("example-"): data.get(key, "")
                for key in data
                if key.startswith("example-")
            },
            security_recommendation="security_recommendation" in data,
        )
        for name in _TEXTS:
            setattr(form, name, data.get(name, "").replace("\r\n", "\n"))
        return form

    @classmethod
    def from_definition(cls, definition: Definition, *, account: str) -> TemplateForm:
        """Return the form of an existing template. The example of a file must be uploaded again."""
        parts = {str(one.get("type", "")).upper(): one for one in definition.components}
        header, footer = parts.get("HEADER", {}), parts.get("FOOTER", {})
        fields = templates.fields(definition)
        rows = parts.get("BUTTONS", {}).get("buttons", [])
        form = cls(
            account=account,
            name=definition.name,
            language=definition.language,
            category=definition.category,
            header_format=str(header.get("format") or "").upper(),
            header=str(header.get("text") or ""),
            body=str(parts.get("BODY", {}).get("text") or ""),
            footer=str(footer.get("text") or ""),
            given_examples={one.key: one.example for one in fields if one.name},
        )
        if definition.category == AUTHENTICATION:
            form.body = form.footer = ""
            form.security_recommendation = bool(
                parts.get("BODY", {}).get("add_security_recommendation")
            )
            minutes = footer.get("code_expiration_minutes")
            form.expires_after_minutes = str(minutes) if minutes else ""
        else:
            by_button = {one.button: one.example for one in fields if one.part == "button"}
            form.buttons = [
                _button_row(one, by_button.get(index, "")) for index, one in enumerate(rows)
            ]
        return form

    def belongs_to(self, template: MessageTemplate) -> None:
        """Keep what an edit of this template cannot change."""
        definition = template.definition
        self.account, self.name = template.business_account_id, definition.name
        self.language, self.fixed_names = definition.language, definition.is_named

    @property
    def media_id(self) -> uuid.UUID | None:
        return contents.media_id({"media": self.media})

    @property
    def is_code(self) -> bool:
        return self.category == AUTHENTICATION

    @property
    def has_file(self) -> bool:
        return self.header_format in FILE_HEADERS

    @property
    def is_named(self) -> bool:
        if self.fixed_names is not None:
            return self.fixed_names
        names = templates.variables(self.body) + self._header_variables
        return any(not name.isdecimal() for name in names)

    @property
    def _header_variables(self) -> list[str]:
        return templates.variables(self.header) if self.header_format == "TEXT" else []

    @property
    def examples(self) -> list[Example]:
        """The variables of header and body with the examples entered so far."""
        return list(self._examples())

    def _examples(self) -> Iterator[Example]:
        parts = {"header": self._header_variables, "body": templates.variables(self.body)}
        for part, names in parts.items():
            for name in names:
                key = f"{part}.{name}"
                yield Example(key, name, self.given_examples.get(key, ""))

    def draft(self, *, handle: str = "") -> dict[str, Any]:
        """Return what is sent to Meta. `handle` is that of the uploaded example of the header."""
        draft: dict[str, Any] = {
            "name": self.name.strip(),
            "language": self.language,
            "category": self.category,
            "components": list(self._code_parts() if self.is_code else self._parts(handle)),
        }
        if self.is_named and not self.is_code:
            draft["parameter_format"] = NAMED
        return draft

    def _code_parts(self) -> Iterator[dict[str, Any]]:
        yield {"type": "BODY", "add_security_recommendation": self.security_recommendation}
        if minutes := self.expires_after_minutes.strip():
            number = int(minutes) if minutes.isdecimal() else minutes
            yield {"type": "FOOTER", "code_expiration_minutes": number}
        yield {"type": "BUTTONS", "buttons": [{"type": "OTP", "otp_type": "COPY_CODE"}]}

    def _parts(self, handle: str) -> Iterator[dict[str, Any]]:
        if self.header_format:
            yield self._header(handle)
        yield {"type": "BODY", "text": self.body.strip(), **self._example("body")}
        if self.footer.strip():
            yield {"type": "FOOTER", "text": self.footer.strip()}
        if self.buttons:
            yield {"type": "BUTTONS", "buttons": [row.as_meta() for row in self.buttons]}

    def _header(self, handle: str) -> dict[str, Any]:
        header: dict[str, Any] = {"type": "HEADER", "format": self.header_format}
        if self.header_format == "TEXT":
            return {**header, "text": self.header.strip(), **self._example("header")}
        if self.has_file and handle:
            header["example"] = {"header_handle": [handle]}
        return header

    def _example(self, part: str) -> dict[str, Any]:
        """Return the key `example` of a text, if it has variables."""
        found = [one for one in self._examples() if one.key.startswith(f"{part}.")]
        if not found:
            return {}
        if self.is_named:
            rows = [{"param_name": one.name, "example": one.value} for one in found]
            return {"example": {f"{part}_text_named_params": rows}}
        values: list[Any] = [one.value for one in found]
        return {"example": {f"{part}_text": [values] if part == "body" else values}}

    def untouched(self, key: str) -> bool:
        """Return whether this part is still empty, so that an error would only come too early."""
        if key.startswith("button."):
            row = self.buttons[int(key.removeprefix("button."))]
            has_text = row.text or row.kind in ("COPY_CODE", "REQUEST_CONTACT_INFO")
            has_value = row.value or row.kind in ("QUICK_REPLY", "REQUEST_CONTACT_INFO")
            return not (has_text and has_value)
        empty: Mapping[str, bool] = {
            "name": not self.name.strip(),
            "body": not self.body.strip(),
            "header": not self.header.strip() and not self.media,
            "buttons": False,
        }
        return empty.get(key, False)

    def definition(self) -> Definition:
        """Return the template that would result, for the preview."""
        draft = self.draft()
        return Definition(
            template_id="",
            name=draft["name"],
            language=self.language,
            category=self.category,
            parameter_format=draft.get("parameter_format", POSITIONAL),
            components=tuple(draft["components"]),
        )

    def rendered(self) -> templates.Rendered:
        """Return the template as the customer will see it, filled with the examples."""
        definition = self.definition()
        values: dict[str, Any] = {one.key: one.value for one in self._examples() if one.value}
        if self.has_file and self.media_id:
            values["header"] = {"media": self.media}
        for index, row in enumerate(self.buttons):
            if row.kind == "COPY_CODE":
                values[f"button.{index}"] = row.value
        return templates.render_values(definition, values)


_TEXTS: Final = (
    "account",
    "name",
    "language",
    "category",
    "header_format",
    "header",
    "media",
    "body",
    "footer",
    "expires_after_minutes",
)


def _button_row(button: Mapping[str, Any], example: str) -> ButtonRow:
    kind = str(button.get("type", "")).upper()
    url, text = str(button.get("url") or ""), str(button.get("text") or "")
    if kind == "URL":
        whole = url.replace("{{1}}", example) if example else ""
        return ButtonRow(kind, text, url, whole)
    value = str(button.get("phone_number") or "") if kind == "PHONE_NUMBER" else example
    return ButtonRow(kind, text, value)


def is_editable_here(definition: Definition) -> bool:
    """Return whether the form shows everything that the template has."""
    if definition.category == AUTHENTICATION:
        return False  # Meta's list does not say how its button takes the code.
    for component in definition.components:
        kind = str(component.get("type", "")).upper()
        if kind not in _PARTS:
            return False
        if kind == "HEADER" and str(component.get("format", "")).upper() not in HEADERS:
            return False
        if kind == "BUTTONS" and any(
            str(one.get("type", "")).upper() not in BUTTONS for one in component.get("buttons", [])
        ):
            return False
    return True
