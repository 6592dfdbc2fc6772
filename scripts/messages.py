"""Manage the translations: `update`, `compile` and `check`, without the gettext tools.

    python scripts/messages.py update    collect the texts of code and templates into the catalog
    python scripts/messages.py compile   write the compiled catalog that Django reads
    python scripts/messages.py check     exit with 1 if a text lacks its translation

English is the source. Needs Babel and Django, but neither settings nor a database.
"""

from __future__ import annotations

import argparse
import datetime as dt
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from babel.messages import extract, mofile, pofile
from babel.messages.catalog import Catalog, Message
from django.conf import settings
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("accounts", "channels_app", "config", "core", "instances", "messaging", "templates")
LANGUAGE = "pt_BR"
PO = ROOT / "locale" / LANGUAGE / "LC_MESSAGES" / "django.po"
MO = PO.with_suffix(".mo")
KEYWORDS: dict[str, tuple[int | tuple[int, str], ...] | None] = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}
# A fixed date: a real one would change the file with every update.
DATE = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
BRACES = re.compile(r"\{\w*\}")


def collect() -> Catalog:
    """Return every text that is marked for translation in code and templates."""
    catalog = Catalog(project="Alterna", locale=LANGUAGE, creation_date=DATE, fuzzy=False)
    for path in sorted(file for source in SOURCES for file in (ROOT / source).rglob("*")):
        for line, ids, comments, context in _texts(path):
            location = (path.relative_to(ROOT).as_posix(), line)
            catalog.add(ids, locations=[location], auto_comments=comments, context=context)
    return catalog


def _texts(path: Path) -> Iterator[tuple[int, str | tuple[str, ...], list[str], str | None]]:
    if path.suffix == ".py" and "migrations" not in path.parts:
        source = path.read_text()
    elif path.suffix == ".html":
        # templatize returns pseudo-Python with the template's indentation.
        lines = templatize(path.read_text(), origin=str(path)).splitlines()
        source = "\n".join(line.lstrip() for line in lines)
    else:
        return
    for line, ids, comments, context in extract.extract(
        "python", io.BytesIO(source.encode()), KEYWORDS, options={"encoding": "utf-8"}
    ):
        yield line, ids, list(comments), context


def read() -> Catalog:
    """Return the catalog from the file; an empty one if the file does not exist."""
    if not PO.exists():
        return Catalog(locale=LANGUAGE)
    with PO.open("rb") as file:
        return pofile.read_po(file, locale=LANGUAGE)


def update() -> None:
    """Update the catalog from the sources: add new texts untranslated, remove unused ones."""
    catalog = read()
    catalog.update(collect(), no_fuzzy_matching=True)
    catalog.obsolete.clear()
    catalog.header_comment = "# Alterna in Brazilian Portuguese. See scripts/messages.py."
    catalog.project, catalog.version = "Alterna", "1"
    catalog.copyright_holder = catalog.last_translator = catalog.language_team = "Alterna"
    catalog.revision_date = catalog.creation_date = DATE
    catalog.fuzzy = False
    output = io.BytesIO()
    pofile.write_po(output, catalog, width=100, include_lineno=False, sort_by_file=True)
    PO.parent.mkdir(parents=True, exist_ok=True)
    # Babel's version is irrelevant and would change the file.
    PO.write_bytes(re.sub(rb'"Generated-By: .*\n', b"", output.getvalue()))


def compile_() -> None:
    """Write the compiled catalog that Django reads."""
    with MO.open("wb") as file:
        mofile.write_mo(file, read())


def is_stale(catalog: Catalog) -> bool:
    """Whether the compiled catalog differs from the catalog."""
    if not MO.exists():
        return True
    with MO.open("rb") as file:
        stored = mofile.read_mo(file)
    return _pairs(stored) != _pairs(catalog)


def _pairs(catalog: Catalog) -> set[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return {
        (_context(message), _ids(message), _all(message.string))
        for message in catalog
        if message.id and any(_all(message.string))
    }


def problems() -> list[str]:
    """Return the problems, one line each; empty if every text is translated."""
    catalog, sources = read(), collect()
    found: list[str] = []
    for message in sources:
        if message.id:
            translated = catalog.get(message.id, message.context)
            found += _problems_of(message, translated)
    known = {(message.id, message.context) for message in sources}
    unused = [message for message in catalog if (message.id, message.context) not in known]
    found += [f"not used any more: {_short(message)}" for message in unused]
    found += [f"obsolete: {_short(message)}" for message in catalog.obsolete.values()]
    for message, errors in catalog.check():
        found += [f"{error}: {_short(message)}" for error in errors]
    if is_stale(catalog):
        found.append("the compiled catalog is stale: python scripts/messages.py compile")
    return found


def _problems_of(source: Message, translated: Message | None) -> Iterable[str]:
    locations = ", ".join(sorted({path for path, _ in source.locations}))
    if translated is None:
        yield f"not collected ({locations}): {_short(source)}"
        return
    texts = _all(translated.string)
    if not all(texts):
        yield f"not translated ({locations}): {_short(source)}"
    elif translated.fuzzy:
        yield f"fuzzy: {_short(source)}"
    else:
        placeholders = {name for text in _ids(source) for name in BRACES.findall(text)}
        if any(not placeholders.issuperset(BRACES.findall(text)) for text in texts) or any(
            name not in texts[-1] for name in placeholders
        ):
            yield f"other names in braces: {_short(source)}"


def _ids(message: Message) -> tuple[str, ...]:
    return _all(message.id)


def _all(text: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the singular and plural forms of a text."""
    return (text or "",) if isinstance(text, str) or text is None else tuple(text)


def _context(message: Message) -> str:
    context: str | bytes | None = message.context
    # Babel does not decode the context of a compiled catalog.
    return context.decode() if isinstance(context, bytes) else context or ""


def _short(message: Message) -> str:
    return repr(_ids(message)[0][:80])


def main(arguments: list[str] | None = None) -> int:
    """Run one of the three commands; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("command", choices=("update", "compile", "check"))
    command = parser.parse_args(arguments).command
    if not settings.configured:
        settings.configure()  # templatize only needs the defaults
    if command == "update":
        update()
    elif command == "compile":
        compile_()
    else:
        found = problems()
        sys.stdout.write(("\n".join(found) or "every text is translated") + "\n")
        return 1 if found else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
