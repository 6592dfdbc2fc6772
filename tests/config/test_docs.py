"""The provider pages contain the sections and recordings that the code refers to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.config.product import BASE_DIR

PAGES = BASE_DIR / "docs" / "providers"
FIXTURES = BASE_DIR / "tests" / "fixtures"
SUFFIXES = {".css", ".html", ".js", ".md", ".py", ".toml", ".txt", ".yaml", ".yml"}
# A directory outside the repository; split in two, so that the search does not match this line.
OUTSIDE = "contracts" + "/"

# A section as a page defines it: a heading, a row of a table, or an item of a numbered list.
HEADING = re.compile(r"#{2,4} (\d+(?:\.\d+)*)\.? ")
ROW = re.compile(r"\| (\d+(?:\.\d+)+) \|")
ITEM = re.compile(r"(\d+)\. ")
# References in the code: a page, and sections after it or alone.
REFERENCE = re.compile(r"docs/providers/(?P<page>[a-z][a-z-]*)\.md|§(?P<section>\d+(?:\.\d+)*)")
# The text allowed between a page and its section, or between two sections of one page.
JOINED = re.compile(r"[`\s#,()]*(?:and|or|to)?[`\s#(]*")


def sections(page: Path) -> set[str]:
    """Return the numbers of a page's sections."""
    numbers: set[str] = set()
    chapter = ""
    for line in page.read_text().splitlines():
        if heading := HEADING.match(line):
            chapter = heading[1]
            numbers.add(chapter)
        elif row := ROW.match(line):
            numbers.add(row[1])
        elif item := ITEM.match(line):
            numbers.add(f"{chapter}.{item[1]}")
    return numbers


def source_files() -> Iterator[Path]:
    """Yield the repository's text files, except recordings, caches and data."""
    for top in BASE_DIR.iterdir():
        if top.name.startswith("."):
            continue
        for path in top.rglob("*") if top.is_dir() else [top]:
            if path.suffix in SUFFIXES and path.is_file() and FIXTURES not in path.parents:
                yield path


def references(text: str) -> Iterator[tuple[str, str]]:
    """Yield page and section of each reference; the page is "" if the file names none.

    A section belongs to the page that it follows. A section on its own belongs to the first page
    that the file names.
    """
    matches = list(REFERENCE.finditer(text))
    first = next((match["page"] for match in matches if match["page"]), "")
    current, end = first, 0
    for match in matches:
        if page := match["page"]:
            current = page
            yield page, ""
        else:
            if not JOINED.fullmatch(text, end, match.start()):
                current = first
            yield current, match["section"]
        end = match.end()


def test_each_referenced_section_of_a_provider_page_exists() -> None:
    known = {page.stem: sections(page) | {""} for page in PAGES.glob("*.md")}
    assert set(known) >= {"cloud", "evolution", "wwebjs"}
    wrong = [
        f"{path.relative_to(BASE_DIR)}: {page or 'no page'} §{section}"
        for path in source_files()
        if path.parent != PAGES and path != Path(__file__)
        for page, section in references(path.read_text())
        if section not in known.get(page, set())
    ]
    assert wrong == []


def test_the_provider_pages_refer_to_existing_sections_of_their_own() -> None:
    wrong = [
        f"{page.name} §{section}"
        for page in PAGES.glob("*.md")
        for section in re.findall(r"§(\d+(?:\.\d+)*)", page.read_text())
        if section not in sections(page)
    ]
    assert wrong == []


def test_no_file_refers_to_a_page_outside_the_repository() -> None:
    assert [path for path in source_files() if OUTSIDE in path.read_text()] == []


def test_each_recording_that_a_provider_page_names_exists() -> None:
    missing = [
        f"{page.name}: {number}"
        for page in PAGES.glob("*.md")
        for number in re.findall(r"\bR\s(\d{2,3})\b", page.read_text())
        if not any((FIXTURES / page.stem).glob(f"{number}_*"))
    ]
    assert missing == []


def test_a_section_belongs_to_the_page_it_follows_or_to_the_first_page() -> None:
    text = "§0: docs/providers/a.md §1, §2.3 and §4. (§5); `docs/providers/b.md` (§6), then §7."
    assert list(references(text)) == [
        ("a", "0"),
        ("a", ""),
        ("a", "1"),
        ("a", "2.3"),
        ("a", "4"),
        ("a", "5"),
        ("b", ""),
        ("b", "6"),
        ("a", "7"),
    ]
