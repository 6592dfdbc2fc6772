"""The variables of quick replies, such as `{name}`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# Each in English and Portuguese. A custom field of the contact is a variable, too.
ALIASES: Final = {
    "nome": "name",
    "primeiro_nome": "first_name",
    "telefone": "phone_number",
    "canal": "channel",
    "atendente": "agent",
    "primeiro_nome_atendente": "agent_first_name",
}
_VARIABLE = re.compile(r"\{\s*([^{}\n]{1,50}?)\s*\}")


@dataclass(frozen=True, slots=True)
class Filled:
    """A text with its variables filled in. Those without a value stay as they are: `missing`."""

    text: str
    missing: tuple[str, ...] = ()


def fill(text: str, values: Mapping[str, str]) -> Filled:
    """Fill in the variables, in any case. What is filled in is not read again."""
    by_name = {name.lower(): value for name, value in values.items()}
    missing: dict[str, None] = {}

    def replace(match: re.Match[str]) -> str:
        name = match[1].lower()
        value = by_name.get(name) or by_name.get(ALIASES.get(name, ""), "")
        if not value:
            missing[match[1]] = None
        return value or match[0]

    return Filled(_VARIABLE.sub(replace, text), tuple(missing))
