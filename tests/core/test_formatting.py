"""The formatting of WhatsApp texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.formatting import to_html
from tests.pages.html import parse


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("*Oi* Ana", "<strong>Oi</strong> Ana"),
        ("_a_ ~b~ `*c*`", "<em>a</em> <s>b</s> <code>*c*</code>"),
        ("*a _b_*", "<strong>a <em>b</em></strong>"),
        ("```a\n*b*```", "<code>a<br>*b*</code>"),
        ("2*3*4 e a_b_c", "2*3*4 e a_b_c"),
        ("* a * e *a\nb*", "* a * e *a<br>b*"),
        ("<b>*x*", "&lt;b&gt;<strong>x</strong>"),
        (
            "https://a.br/_x_?y=1",
            '<a href="https://a.br/_x_?y=1" rel="nofollow">https://a.br/_x_?y=1</a>',
        ),
    ],
)
def test_a_text_is_shown_as_whatsapp_shows_it(text: str, html: str) -> None:
    assert to_html(text) == html


@given(st.text(alphabet="ab *_~`<>&\"'\n/:.", max_size=60))
def test_formatting_loses_no_word_and_adds_no_foreign_tag(text: str) -> None:
    shown = parse(to_html(text))

    def letters(words: str) -> str:
        return "".join(c for c in words if c in "ab<>&\"'/:.")

    assert letters(shown.text) == letters(text)
    assert {element.tag for element in shown.all()} <= {"strong", "em", "s", "code", "br", "a"}
