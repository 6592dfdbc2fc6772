"""Full-text search: what is found, how it is marked, and that it stays current."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from channels_app.models import Channel
from messaging import contacts, selectors
from messaging.inbox import search
from messaging.media import files
from messaging.models import Conversation, Media, Message, MessageWords
from tests.files import PNG

pytestmark = pytest.mark.django_db


@pytest.fixture
def conversation(channel: Channel) -> Conversation:
    return contacts.conversation_with(channel, phone_number="+5511988881234", name="João Conceição")


def write(conversation: Conversation, text: str = "", **fields: Any) -> Message:
    return Message.objects.create(
        **{
            "conversation": conversation,
            "direction": "in",
            "text": text,
            "created_at": timezone.now(),
            **fields,
        }
    )


def shown(hits: list[search.Hit]) -> list[str]:
    """Return the texts of the hits with the marked words in brackets."""
    return [
        "".join(f"[{part.text}]" if part.marked else part.text for part in hit.parts)
        for hit in hits
    ]


TEXTS = (
    "Olá, quero um ORÇAMENTO para amanhã",
    "Os pedidos nº 12345 chegaram",
    "The deliveries were running late",
    "orc\u0327amento_maio.pdf",  # as macOS writes it
    "escreva para ana.silva@exemplo.com.br",
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("orcamento", ["[orçamento]_maio.pdf", "Olá, quero um [ORÇAMENTO] para amanhã"]),
        ("Orçam amanha", ["Olá, quero um [ORÇAMENTO] para [amanhã]"]),
        ("pedido", ["Os [pedidos] nº 12345 chegaram"]),
        ("chegou", ["Os pedidos nº 12345 [chegaram]"]),
        ("chegar", ["Os pedidos nº 12345 [chegaram]"]),
        ("12345", ["Os pedidos nº [12345] chegaram"]),
        ("123", ["Os pedidos nº [12345] chegaram"]),
        ("delivery run", ["The [deliveries] were [running] late"]),
        ("maio", ["orçamento_[maio].pdf"]),
        ("silva", ["escreva para ana.[silva]@exemplo.com.br"]),
        ("ANA exemplo", ["escreva para [ana].silva@[exemplo].com.br"]),
        ("amento", []),
        ("os", ["[Os] pedidos nº 12345 chegaram"]),
        ("!?", []),
        ("a' | b:* & (\\", []),
        ("nada", []),
    ],
)
def test_words_are_found_in_any_accents_case_and_inflection_and_marked(
    conversation: Conversation, text: str, found: list[str]
) -> None:
    for one in TEXTS:
        write(conversation, one)
    hits = [
        one.replace("c\u0327", "ç")
        for one in shown(search.messages_with(text, selectors.messages()))
    ]
    assert hits == found
    assert bool(search.conversations_with(text)) is bool(found)


def test_captions_lists_and_names_of_files_are_found_and_links_are_not(
    conversation: Conversation, settings: Any, tmp_path: Any
) -> None:
    settings.MEDIA_ROOT = tmp_path
    upload = SimpleUploadedFile("Catálogo 2026.png", PNG)
    media: Media = files.store_upload(upload, user=None)
    write(
        conversation,
        type="image",
        media=media,
        content={"caption": "Promoção de verão", "link": "http://example.com/segredo"},
    )
    rows = [{"id": "segredo", "title": "Pizza", "description": "grande"}]
    write(conversation, type="interactive", content={"action": {"sections": [{"rows": rows}]}})
    found = {
        text: shown(search.messages_with(text, selectors.messages()))
        for text in ("promocoes", "catalogo", "pizzas", "grande", "segredo")
    }
    assert found == {
        "promocoes": ["[Promoção] de verão"],
        "catalogo": ["[Catálogo] 2026.png"],
        "pizzas": ["[Pizza]"],
        "grande": ["[grande]"],
        "segredo": [],
    }


def test_the_words_follow_an_edit_and_are_written_once_otherwise(
    conversation: Conversation,
) -> None:
    message = write(conversation, "primeira versão")
    before = MessageWords.objects.get()
    message.version += 1
    message.save()
    Message.objects.update(text="segunda", version=3)
    after = MessageWords.objects.get()
    assert before.words != after.words
    assert search.conversations_with("primeira") == []
    assert search.conversations_with("segunda") == [conversation.pk]
    write(conversation)  # a sticker has no words
    assert MessageWords.objects.count() == 1
    message.delete()
    assert not MessageWords.objects.exists()


def test_few_of_the_newest_messages_have_the_word_so_the_index_finds_the_others(
    conversation: Conversation, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "NEWEST", 2)
    now = timezone.now()
    for number in range(6):
        text = "raro" if number in (0, 5) else "comum"
        write(conversation, f"{text} {number}", created_at=now - dt.timedelta(minutes=10 - number))

    def found(text: str, **options: Any) -> list[str]:
        hits = search.messages_with(text, selectors.messages(), **options)
        return [hit.message.text for hit in hits]

    assert found("raro") == ["raro 5", "raro 0"]
    assert found("comum", limit=2) == ["comum 4", "comum 3"]
    later = now - dt.timedelta(minutes=7)
    assert found("comum", limit=2, before=later) == ["comum 2", "comum 1"]
    assert found("comum", conversation=conversation.pk, limit=1) == ["comum 4"]
    assert found("comum", conversation=0) == []
    assert found("comum", channel=channel.pk, limit=1) == ["comum 4"]
    assert found("comum", channel=0) == []
    [hit] = search.latest_hits("raro", selectors.messages(), [conversation.pk, 0])
    assert hit.message.text == "raro 5"


def test_the_list_is_searched_by_contact_and_by_message_and_filters_combine(
    conversation: Conversation, channel: Channel
) -> None:
    other = contacts.conversation_with(channel, phone_number="+5511977771234", name="Bia")
    write(other, "João mandou o recibo")
    Conversation.objects.filter(pk=other.pk).update(unread_count=1)

    def found(**filters: Any) -> set[int]:
        return set(selectors.conversation_list(**filters).values_list("pk", flat=True))

    both = {conversation.pk, other.pk}
    for search_, expected in (
        ("joao", both),
        ("CONCEICAO", {conversation.pk}),
        ("recibos", {other.pk}),
        ("(11) 8888-1234", {conversation.pk}),  # without the ninth digit
        ("nobody", set()),
        ("%", set()),
    ):
        assert found(search=search_) == expected, search_
    assert found(search="joao", unread=True) == {other.pk}
    assert found(search="joao", unread=True, channel=0) == set()


def test_a_search_looks_in_what_the_other_filters_leave(
    conversation: Conversation, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_FOUND", 2)
    monkeypatch.setattr(search, "NEWEST", 2)
    now = timezone.now()
    other = contacts.conversation_with(channel, phone_number="+5511977771234", name="Bia")
    Conversation.objects.filter(pk=other.pk).update(unread_count=1)
    write(other, "um recibo", created_at=now - dt.timedelta(hours=1))
    for minute in range(5):
        write(conversation, "outro recibo", created_at=now - dt.timedelta(minutes=minute))

    def found(**filters: Any) -> set[int]:
        return set(
            selectors.conversation_list(search="recibos", **filters).values_list("pk", flat=True)
        )

    assert found() == {conversation.pk}  # the newest two
    assert found(unread=True) == {other.pk}
    assert found(unread=False, attention=False) == {conversation.pk}


def test_the_words_follow_the_name_of_a_file_and_a_deletion_for_everyone(
    conversation: Conversation,
) -> None:
    media = Media.objects.create(state="waiting")
    message = write(conversation, type="document", media=media, content={"caption": "segue"})
    assert search.conversations_with("proposta") == []
    Media.objects.filter(pk=media.pk).update(filename="Proposta final.pdf")
    assert search.conversations_with("proposta segue") == [conversation.pk]
    message.revoked_at = timezone.now()
    message.save()
    assert search.conversations_with("proposta") == []
    Media.objects.filter(pk=media.pk).update(filename="Proposta 2.pdf")
    assert search.messages_with("proposta", selectors.messages()) == []
    assert search.latest_hits("segue", selectors.messages(), [conversation.pk]) == []


def test_a_jump_to_a_date_shows_the_messages_from_then_on(conversation: Conversation) -> None:
    noon = dt.datetime(2026, 3, 1, 12, tzinfo=timezone.get_current_timezone())
    made = [
        write(conversation, str(day), created_at=noon + dt.timedelta(days=day)) for day in range(6)
    ]
    first = selectors.first_message_of(conversation, dt.date(2026, 3, 3))
    assert first == made[2]
    page = selectors.message_page(conversation, since=made[2].pk, limit=2)
    assert (page.messages, page.has_older, page.has_newer) == (made[2:4], True, True)
    page = selectors.message_page(conversation, since=made[4].pk, limit=2)
    assert (page.messages, page.has_older, page.has_newer) == (made[4:], True, False)
    assert selectors.first_message_of(conversation, dt.date(2026, 3, 7)) is None
