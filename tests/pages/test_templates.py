"""Rules that apply to all templates, scripts and texts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.template import engines
from django.test import Client

from messaging.models import Conversation, Message
from tests.pages.html import parse

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
SCRIPTS = ROOT / "static" / "js"


def test_every_text_is_translated_and_the_compiled_catalog_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/messages.py", "check"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_templates_are_formatted() -> None:
    djade = shutil.which("djade", path=str(Path(sys.executable).parent))
    assert djade

    done = subprocess.run(
        [djade, "--check", "--target-version", "5.2", *map(str, TEMPLATES)],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_compiles_and_follows_the_content_security_policy(path: Path) -> None:
    source = path.read_text()

    engines["django"].from_string(source)
    assert not re.search(r"\sstyle=|<style|\son\w+=|javascript:|https?://", source)
    for tag, attributes in re.findall(r"<(script)\b([^>]*)>", source):
        assert "src=" in attributes, tag


@pytest.mark.parametrize(
    "source",
    [
        """{% include "_action_button.html" with vals='{"route": "official"}' %}""",
        """{% with vals='{"route": "'|add:route|add:'"}' %}"""
        """{% include "_action_button.html" %}{% endwith %}""",
    ],
    ids=["literal", "built from a value"],
)
def test_the_values_that_a_button_sends_are_valid_json(source: str) -> None:
    page = engines["django"].from_string(source).render({"route": "official"})

    assert json.loads(parse(page).one("button").attributes["hx-vals"]) == {"route": "official"}


@pytest.mark.django_db
def test_scripts_use_only_names_that_exist_in_the_templates(
    staff_client: Client, conversation: Conversation, make_message: Callable[..., Message]
) -> None:
    make_message(conversation)
    pages = "".join(
        staff_client.get(page).content.decode()
        for page in ("/", f"/conversations/{conversation.pk}/", "/channels/new/")
    )

    blocks = parse(pages).all("script", type="application/json")
    data = "".join(block.text for block in blocks)
    pages += "".join(template.read_text() for template in TEMPLATES)
    used, made = set(), set()
    for script in SCRIPTS.rglob("*.js"):
        text = re.sub(r"//.*|/\*.*?\*/", "", script.read_text())
        used |= set(re.findall(r"\[(data-[a-z-]+)", text))
        made |= set(re.findall(r"\bdataset\.(\w+) = ", text))
        texts = set(re.findall(r"\btexts\.(?!js\b)(\w+)", text))
        assert all(f'"{name}"' in data for name in texts), texts
    assert used
    set_by_scripts = {"data-" + re.sub("[A-Z]", lambda m: "-" + m[0].lower(), one) for one in made}
    python = "".join(tags.read_text() for tags in Path("messaging/templatetags").glob("*.py"))
    assert {name for name in used if name not in pages + python} <= set_by_scripts


def test_the_scripts_use_nothing_that_the_policy_forbids() -> None:
    for script in SCRIPTS.rglob("*.js"):
        assert not re.search(r"\beval\(|new Function|document\.write|https?://", script.read_text())


@pytest.mark.django_db
def test_the_api_docs_page_has_no_inline_script(staff_client: Client) -> None:
    answer = staff_client.get("/api/docs/")

    page = parse(answer.content)
    assert answer.status_code == 200
    assert all(script.attributes.get("src") for script in page.all("script"))
    assert not page.all("style")
    assert page.one(id="swagger-ui").attributes["data-schema-url"] == "/api/schema/"


def test_the_pattern_of_a_name_has_no_special_html_characters() -> None:
    from messaging.templatetags.page import as_pattern

    assert as_pattern("oficina_1 São") == "oficina_1 São"
    assert as_pattern("a/b(1)") == "a\\u{2f}b\\u{28}1\\u{29}"
