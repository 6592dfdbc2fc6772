"""WhatsApp's formatting is shown, and nothing else becomes HTML."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from messaging.formatting import to_html

LINK = '<a href="https://example.com/a_b_c" rel="nofollow">https://example.com/a_b_c</a>'


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Olá", "Olá"),
        ("*bold* _italic_ ~strike~ `code`",
         "<strong>bold</strong> <em>italic</em> <s>strike</s> <code>code</code>"),
        ("*a _b_ c*", "<strong>a <em>b</em> c</strong>"),
        ("(*a*), *b*.", "(<strong>a</strong>), <strong>b</strong>."),
        ("`*a* <b>`", "<code>*a* &lt;b&gt;</code>"),
        # Within words and beside spaces the signs are only signs.
        ("snake_case_name 2*3*4 * a * ~ ** __ *", "snake_case_name 2*3*4 * a * ~ ** __ *"),
        ("*a\nb*", "*a<br>b*"),
        ("um\ndois", "um<br>dois"),
        ("- um\n* *dois*\nfim", "<ul><li>um</li><li><strong>dois</strong></li></ul>fim"),
        ("1. um\n2. dois", "1. um<br>2. dois"),
        ("> citado\n> mais\nfim", "<blockquote>citado<br>mais</blockquote>fim"),
        ("a ```x\n*y*``` b", "a <pre><code>x\n*y*</code></pre> b"),
        ("https://example.com/a_b_c", LINK),
        ("*https://example.com/a_b_c*", f"<strong>{LINK}</strong>"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("*<b onclick=x>*", "<strong>&lt;b onclick=x&gt;</strong>"),
        ("javascript:alert(1)", "javascript:alert(1)"),
    ],
)  # fmt: skip
def test_formatting_is_shown_as_on_a_phone(text: str, html: str) -> None:
    assert to_html(text) == html


class Seen(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


@pytest.mark.parametrize("piece", ["www.a *b ", "*a _b ~c `d ", "*a* _b_ ", "*_~`a", "www.a\n"])
def test_a_text_of_twice_the_length_takes_twice_the_steps(piece: str) -> None:
    def steps(count: int) -> int:
        taken = 0

        def note(*_event: Any) -> None:
            nonlocal taken
            taken += 1

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            to_html(piece * count)
        finally:
            sys.setprofile(before)
        return taken

    steps(1)
    assert steps(400) < 2.5 * steps(200)
    assert steps(12_000) < 1.1 * steps(9_000)


def test_a_very_long_text_is_shown_to_its_end_though_not_formatted() -> None:
    html = to_html("*a* " * 16_000 + "*<b>*\nfim")
    assert html.startswith("<strong>a</strong> ")
    assert html.endswith(" *&lt;b&gt;*<br>fim")


TAGS = {"strong", "em", "s", "code", "pre", "ul", "li", "blockquote", "br", "a"}
PIECES = st.sampled_from(
    ["*", "_", "~", "`", "```", "- ", "> ", "\n", " ", "a", "é", "<", ">", "&", '"', "'", "=",
     "<script>", "<img src=x onerror=y>", "&lt;", "javascript:", "https://a.bc/_x_", "www.a.bc",
     "a@b.cd", "&#x3c;", "</strong>", "\x00", "\u202e"]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(PIECES | st.text(max_size=3), max_size=25).map("".join))
@example("*" * 4000)
@example("*a" * 2000)
@example("_a *b " * 700)
@example("www.a *b " * 7000)
@example("www.a *b \n" * 6500)
def test_no_text_becomes_other_html_and_no_word_is_lost(text: str) -> None:
    html = to_html(text)
    seen = Seen(html)
    assert seen.open == []
    for tag, attributes in seen.tags:
        assert tag in TAGS
        if tag == "a":
            assert attributes.keys() <= {"href", "rel"}
            assert str(attributes["href"]).startswith(("http://", "https://", "mailto:"))
        else:
            assert attributes == {}

    def words(value: str) -> str:
        return "".join(sign for sign in value if not (sign.isspace() or sign in "*_~`>-\x00\ufffd"))

    assert words(seen.text) == words(text)
