"""Writing in a conversation, in a real Chromium: quick reply, quote, draft and voice message."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from messaging.models import Conversation, Message, PersonalState, QuickReply
from tests.pages.conftest import NO_CHROMIUM

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), NO_CHROMIUM]

# A tone in place of the microphone.
MICROPHONE = """navigator.mediaDevices.getUserMedia = async () => {
    const context = new AudioContext();
    const tone = context.createOscillator();
    const to = context.createMediaStreamDestination();
    tone.connect(to);
    tone.start();
    return to.stream;
}"""


def test_a_quick_reply_with_a_quote_survives_a_reload_as_a_draft_and_a_voice_message_is_sent(
    page: Page, staff: User, conversation: Conversation, make_message: Callable[..., Message]
) -> None:
    QuickReply.objects.create(shortcut="oi", text="Olá, {channel}!", owner=staff)
    QuickReply.objects.create(shortcut="pix", text="A chave é 123.")
    asked = make_message(conversation, text="Tem geladeira?", direction="in", route=None)
    page.goto(f"/conversations/{conversation.pk}/")
    box = page.get_by_role("textbox", name="Message", exact=True)
    options = page.get_by_role("listbox", name="Quick replies").get_by_role("option")

    box.press_sequentially("/")
    expect(options).to_have_count(2)
    box.press_sequentially("o")
    expect(options.first).to_contain_text("/oi")
    box.press("Enter")
    filled = f"Olá, {conversation.channel.name}!"
    expect(box).to_have_value(filled)

    with page.expect_response(lambda response: response.url.endswith("/draft/")):
        box.press("End")
        box.press("x")
    assert PersonalState.objects.get(user=staff).draft == f"{filled}x"
    page.evaluate("sessionStorage.clear()")
    page.reload()
    expect(box).to_have_value(f"{filled}x")

    page.locator(f"#message-{asked.pk}").focus()
    page.keyboard.press("r")
    expect(page.locator("[data-quote]")).to_contain_text("Tem geladeira?")
    expect(box).to_be_focused()
    box.press("Enter")
    expect(page.locator("article .bubble-quote")).to_have_text(
        "In reply to: Mariana Alves Tem geladeira?"
    )
    expect(page.locator("[data-quote]")).to_be_hidden()
    assert Message.objects.get(text=f"{filled}x").reply_to == asked
    assert not PersonalState.objects.exclude(draft="").exists()

    page.evaluate(MICROPHONE)
    page.get_by_role("button", name="Record a voice message").click()
    expect(page.locator("[data-voice-time]")).to_have_text("0:01")
    page.get_by_role("button", name="Send voice message").click()
    expect(page.locator("[data-files] li")).to_have_count(0)
    expect(page.locator("article audio")).to_have_count(1)
    voice = Message.objects.get(type="audio")
    assert voice.content["voice"] is True
    assert voice.media is not None
    assert voice.media.mime_type.startswith("audio/ogg")
