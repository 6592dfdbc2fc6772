"""Messages: customer, content, time and quoted message."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from channels_app.providers.events import (
    US,
    EditEvent,
    ReactionEvent,
    RevokeEvent,
    UnsupportedEvent,
    VoteEvent,
)
from channels_app.providers.evolution import events as evolution_events
from tests import FIXTURES_DIR
from tests.channels_app.providers.evolution.bodies import (
    ANA,
    LID,
    body,
    key,
    read_message,
    read_one,
    upsert,
)

FIXTURES = FIXTURES_DIR / "evolution"
HELLO = {"conversation": "oi"}


@pytest.mark.parametrize(
    ("jid", "phone_number", "user_id"),
    [
        (ANA, "+5511988887777", ""),
        ("5511988887777:12@s.whatsapp.net", "+5511988887777", ""),
        ("5511988887777", "+5511988887777", ""),
        ("+55 (11) 98888-7777", "+5511988887777", ""),
        ("5511988887777@c.us", "+5511988887777", ""),
        (LID, "", LID),
        ("123456789012345:7@lid", "", LID),
    ],
)
def test_the_customer_is_parsed_from_the_address(jid: str, phone_number: str, user_id: str) -> None:
    message = read_message(upsert(HELLO, key=key(remoteJid=jid)))
    assert (message.phone_number, message.user_id) == (phone_number, user_id)


@pytest.mark.parametrize(
    "alias",
    [
        {"remoteJid": LID, "remoteJidAlt": ANA, "addressingMode": "lid"},  # 2.3.6
        {"remoteJid": ANA, "remoteJidAlt": ANA, "addressingMode": "lid"},  # 2.3.7
        {"remoteJid": ANA, "remoteJidAlt": LID, "addressingMode": "pn"},  # later
        {"remoteJid": LID, "senderPn": ANA},  # earlier
        {"remoteJid": ANA, "previousRemoteJid": LID},
        {"remoteJid": ANA, "senderLid": LID},
    ],
)
def test_a_key_that_names_lid_and_number_yields_both(alias: dict[str, Any]) -> None:
    message = read_message(upsert(HELLO, key=key(**alias)))
    lid = LID if LID in alias.values() else ""
    assert (message.phone_number, message.user_id) == ("+5511988887777", lid)


def test_the_sender_of_an_own_message_is_not_the_customer() -> None:
    own = key(remoteJid=LID, senderPn="5511900000777@s.whatsapp.net", fromMe=True)
    message = read_message(upsert(HELLO, key=own))
    assert (message.phone_number, message.user_id) == ("", LID)


@pytest.mark.parametrize(
    ("jid", "kind"),
    [
        ("status@broadcast", "status"),
        ("1795300000@broadcast", "broadcast"),
        ("120363000000000000@newsletter", "newsletter"),
        ("13135550002@bot", "bot"),
        ("0@s.whatsapp.net", "address"),
        ("120363025246125486", "address"),
        ("ana@example.com", "address"),
    ],
)
@pytest.mark.parametrize("event", ["messages.upsert", "send.message"])
def test_a_chat_that_is_not_a_person_is_not_supported(event: str, jid: str, kind: str) -> None:
    payload = upsert(HELLO, key=key(remoteJid=jid)) | {"event": event}
    assert read_one(payload) == UnsupportedEvent("shop", kind)


@pytest.mark.parametrize(
    "time",
    [1795300000, "1795300000", 1795300000.0, {"low": 1795300000, "high": 0, "unsigned": True}],
)
def test_the_time_is_parsed_in_every_format(time: Any) -> None:
    message = read_message(upsert(HELLO, messageTimestamp=time))
    assert message.at == dt.datetime(2026, 11, 21, 22, 26, 40, tzinfo=dt.UTC)


def test_a_negative_low_half_counts_as_unsigned() -> None:
    message = read_message(upsert(HELLO, messageTimestamp={"low": -2147483648, "high": 0}))
    assert message.at == dt.datetime(2038, 1, 19, 3, 14, 8, tzinfo=dt.UTC)


def test_a_local_time_with_a_false_z_does_not_shift_a_message() -> None:
    entries = json.loads((FIXTURES / "11_timezone.json").read_text())
    times = next(entry for entry in entries if "real_utc" in entry)
    payload = upsert(HELLO, messageTimestamp=times["messageTimestamp"])
    message = read_message({**payload, "date_time": times["date_time"]})
    assert message.at == dt.datetime.fromisoformat(times["real_utc"])


@pytest.mark.parametrize(
    "time",
    [None, 0, -1, True, "", "soon", 10**20, {"low": 1}, [], 1e300, 1795990000000],
)
def test_a_message_without_a_readable_time_is_a_message(time: Any) -> None:
    """`date_time` cannot replace it."""
    assert read_message(upsert(HELLO, messageTimestamp=time)).at is None


@pytest.mark.parametrize("half", [{}, key(id=""), key(id=5), {"id": "3A01"}, None])
def test_a_message_without_an_id_or_address_is_unsupported(half: Any) -> None:
    assert read_one(upsert(HELLO, key=half)) == UnsupportedEvent("shop", "message:conversation")


@pytest.mark.parametrize("message", [None, {}, [], "oi"])
@pytest.mark.parametrize("message_type", ["conversation", "imageMessage"])
def test_a_message_without_content_is_one_that_only_the_phone_shows(
    message: Any, message_type: str
) -> None:
    event = read_message(upsert(message, message_type))
    assert (event.type, event.text) == ("unknown", "")


@pytest.mark.parametrize(
    ("stub", "expected"),
    [(2, "waiting"), ("CIPHERTEXT", "waiting"), (0, "unknown"), (None, "unknown")],
)
def test_a_message_that_was_not_decrypted_is_waited_for(stub: Any, expected: str) -> None:
    assert read_message(upsert(None, "unknown", messageStubType=stub)).type == expected


@pytest.mark.parametrize("stub", [1, 27, 40, "GROUP_CREATE"])
def test_a_notice_of_whatsapp_is_no_message(stub: Any) -> None:
    event = read_one(upsert(None, "unknown", messageStubType=stub))
    assert event == UnsupportedEvent("shop", f"message:stub:{stub}")


def test_a_message_whose_content_comes_later_is_stored_again() -> None:
    empty, complete = upsert({}), upsert(HELLO)
    assert evolution_events.dedupe_key(empty) != evolution_events.dedupe_key(complete)
    assert evolution_events.dedupe_key(empty) == evolution_events.dedupe_key(upsert(None))


def test_our_own_name_is_not_the_customers() -> None:
    message = read_message(upsert(HELLO, key=key(fromMe=True), pushName="Você"))
    assert message.outgoing
    assert message.name == ""


def test_a_number_is_not_a_name() -> None:
    assert read_message(upsert(HELLO, pushName="5511988887777")).name == ""
    assert read_message(upsert(HELLO, pushName="+5511988887777")).name == ""
    assert read_message(upsert(HELLO, pushName=" Ana ")).name == "Ana"


def test_a_message_sent_by_the_api_is_always_outgoing() -> None:
    payload = upsert(HELLO) | {"event": "send.message"}
    assert read_message(payload).outgoing


@pytest.mark.parametrize(
    ("message", "message_type", "type_", "text"),
    [
        ({"conversation": "oi"}, "conversation", "text", "oi"),
        ({"conversation": "oi"}, "extendedTextMessage", "text", "oi"),
        ({"extendedTextMessage": {"text": "oi"}}, "extendedTextMessage", "text", "oi"),
        ({"conversation": "oi"}, "", "text", "oi"),
        ({"conversation": "oi", "imageMessage": None}, "conversation", "text", "oi"),
        ({"imageMessage": {"caption": "c"}}, "imageMessage", "image", "c"),
        ({"videoMessage": {"caption": "c"}}, "videoMessage", "video", "c"),
        ({"ptvMessage": {"seconds": 3}}, "ptvMessage", "video", ""),
        ({"audioMessage": {"ptt": True}}, "audioMessage", "audio", ""),
        ({"documentMessage": {"fileName": "a.pdf"}}, "documentMessage", "document", ""),
        ({"stickerMessage": {}}, "stickerMessage", "sticker", ""),
        ({"liveLocationMessage": {"caption": "c"}}, "liveLocationMessage", "location", "c"),
        ({"contactMessage": {"displayName": "Bob"}}, "contactMessage", "contacts", "Bob"),
        (
            {"contactsArrayMessage": {"contacts": [{"displayName": n} for n in ("A", "B")]}},
            "contactsArrayMessage",
            "contacts",
            "A\nB",
        ),
        ({"contact": [{"displayName": "Bob"}]}, "conversation", "contacts", "Bob"),
        (
            {"templateButtonReplyMessage": {"selectedId": "1", "selectedDisplayText": "Sim"}},
            "templateButtonReplyMessage",
            "interactive",
            "Sim",
        ),
        (
            {"interactiveResponseMessage": {"body": {"text": "Sim"}}},
            "interactiveResponseMessage",
            "interactive",
            "Sim",
        ),
        (
            {"buttonsMessage": {"contentText": "Qual?"}},
            "buttonsMessage",
            "interactive",
            "Qual?",
        ),
        (
            {"templateMessage": {"hydratedTemplate": {"hydratedContentText": "Promo"}}},
            "templateMessage",
            "interactive",
            "Promo",
        ),
        (
            {"templateMessage": {"interactiveMessageTemplate": {"body": {"text": "Promo"}}}},
            "templateMessage",
            "interactive",
            "Promo",
        ),
        ({"conversation": "Sim"}, "interactiveMessage", "interactive", "Sim"),
        ({"pollCreationMessage": {"name": "P"}}, "pollCreationMessage", "poll", "P"),
        ({"eventMessage": {"name": "Festa"}}, "eventMessage", "event", "Festa"),
        ({"viewOnceMessageV2": {}}, "viewOnceMessageV2", "view_once", ""),
        ({"newMessage": {"inner": {"caption": "oi"}}}, "newMessage", "unknown", "oi"),
    ],
)
def test_the_content_has_the_cloud_apis_format(
    message: dict[str, Any], message_type: str, type_: str, text: str
) -> None:
    event = read_message(upsert(message, message_type))
    assert (event.type, event.text) == (type_, text)


@pytest.mark.parametrize(
    "wrapper",
    [
        "ephemeralMessage",
        "viewOnceMessage",
        "viewOnceMessageV2",
        "viewOnceMessageV2Extension",
        "documentWithCaptionMessage",
        "anEnvelopeToCome",
    ],
)
def test_envelopes_are_unwrapped(wrapper: str) -> None:
    inner = {"imageMessage": {"caption": "c", "contextInfo": {"stanzaId": "3EB0"}}}
    event = read_message(upsert({wrapper: {"message": inner}}, wrapper))
    assert (event.type, event.text, event.reply_to) == ("image", "c", "3EB0")
    twice = read_message(upsert({"ephemeralMessage": {"message": {wrapper: {"message": inner}}}}))
    assert twice.type == "image"


@pytest.mark.parametrize(
    "name",
    ["senderKeyDistributionMessage", "encReactionMessage", "pinInChatMessage"],
)
def test_a_technical_message_is_not_a_message(name: str) -> None:
    message = {name: {"x": 1}, "messageContextInfo": {}}
    assert read_one(upsert(message, name)) == UnsupportedEvent("shop", f"message:{name}")


def test_an_additional_key_does_not_hide_the_text() -> None:
    assert read_message(upsert({"senderKeyDistributionMessage": {}, **HELLO})).text == "oi"


def test_a_file_has_the_data_needed_to_fetch_it() -> None:
    message = {
        "audioMessage": {
            "mimetype": "audio/ogg",
            "seconds": 3,
            "ptt": True,
            "mediaKey": {"0": 1},
            "url": "https://mmg.whatsapp.net/x",
        },
        "base64": "AAAA",
    }
    own = key(profilePicUrl="http://example.com/p.png", participant="")
    assert read_message(upsert(message, "audioMessage", key=own)).content == {
        "mime_type": "audio/ogg",
        "seconds": 3,
        "voice": True,
        "message_type": "audioMessage",
        "evolution": {
            "key": {"id": "3A01", "remoteJid": ANA, "fromMe": False, "participant": ""},
        },
    }


def test_a_business_file_also_has_metas_id() -> None:
    message = {"imageMessage": {"mime_type": "image/png", "sha256": "x", "id": "111"}}
    content = read_message(upsert(message, "imageMessage")).content
    assert (content["mime_type"], content["id"]) == ("image/png", "111")


def test_a_reply_has_the_id_of_the_selected_option() -> None:
    message = {"listResponseMessage": {"title": "R", "singleSelectReply": {"selectedRowId": "r"}}}
    assert read_message(upsert(message)).content == {
        "type": "list_reply",
        "list_reply": {"id": "r", "title": "R"},
        "message_type": "listResponseMessage",
    }


def test_a_vote_has_the_selected_options() -> None:
    vote = {
        "pollCreationMessageKey": {"id": "3EB0"},
        "vote": {"selectedOptions": ["a", "b"]},
    }
    event = read_one(upsert({"pollUpdateMessage": vote}, "pollUpdateMessage"))
    at = dt.datetime(2026, 11, 21, 22, 26, 40, tzinfo=dt.UTC)
    assert event == VoteEvent("shop", "3EB0", "+5511988887777", ("a", "b"), at, "Ana")


def test_the_results_of_a_poll_are_votes() -> None:
    results = [
        {"name": "a", "voters": [ANA, "me"]},
        {"name": "b", "voters": [ANA]},
        {"name": "c", "voters": []},
    ]
    data = {"keyId": "3EB0", "remoteJid": ANA, "status": "SERVER_ACK", "pollUpdates": results}
    assert list(evolution_events.read(body("messages.update", data))) == [
        VoteEvent("shop", "3EB0", "+5511988887777", ("a", "b")),
        VoteEvent("shop", "3EB0", US, ("a",)),
    ]


@pytest.mark.parametrize("emoji", ["👍", ""])
def test_a_reaction_names_the_message(emoji: str) -> None:
    message = {"reactionMessage": {"text": emoji, "key": {"id": "3EB0"}}}
    for from_me, by in ((False, "+5511988887777"), (True, US)):
        event = read_one(upsert(message, "conversation", key=key(fromMe=from_me)))
        assert isinstance(event, ReactionEvent)
        assert (event.provider_message_id, event.by, event.emoji) == ("3EB0", by, emoji)


def test_what_stands_beside_the_content_is_kept() -> None:
    info = {
        "stanzaId": "3EB0",
        "quotedMessage": {"imageMessage": {"caption": "antes"}},
        "isForwarded": True,
        "forwardingScore": 7,
        "externalAdReply": {"title": "Promo", "sourceUrl": "https://fb.me/x", "ctwaClid": "c"},
    }
    event = read_message(upsert(HELLO, contextInfo=info))
    assert event.context == {
        "quoted": {"id": "3EB0", "text": "antes", "type": "image"},
        "forwarded": "often",
        "referral": {"headline": "Promo", "source_url": "https://fb.me/x", "ctwa_clid": "c"},
    }
    status = {**info, "remoteJid": "status@broadcast", "isForwarded": False}
    assert read_message(upsert(HELLO, contextInfo=status)).context["quoted"]["status"] is True


def test_a_vote_that_was_not_decrypted_is_unsupported() -> None:
    vote = {"vote": {"encPayload": {"0": 1}, "selectedOptions": [{"0": 1}]}}
    event = read_one(upsert({"pollUpdateMessage": vote}, "pollUpdateMessage"))
    assert event == UnsupportedEvent("shop", "message:pollUpdateMessage")


@pytest.mark.parametrize(
    "payload",
    [
        upsert(HELLO, contextInfo={"stanzaId": "3EB0"}),
        upsert({**HELLO, "contextInfo": {"stanzaId": "3EB0"}}),
        upsert({"extendedTextMessage": {"text": "oi", "contextInfo": {"stanzaId": "3EB0"}}}),
        upsert({**HELLO, "quoted": {"id": "3EB0"}}),
        upsert({**HELLO, "quoted": {"key": {"id": "3EB0"}}}),
    ],
)
def test_a_quote_is_found_in_every_location(payload: dict[str, Any]) -> None:
    assert read_message(payload).reply_to == "3EB0"


def test_an_edit_inside_a_message_is_an_edit() -> None:
    protocol = {
        "key": key(id="3A00"),
        "type": 14,
        "editedMessage": {"conversation": "novo"},
        "timestampMs": "1795300000500",
    }
    at = dt.datetime(2026, 11, 21, 22, 26, 40, 500000, tzinfo=dt.UTC)
    for message in (
        {"protocolMessage": protocol},
        {"editedMessage": {"message": {"protocolMessage": protocol}}},
    ):
        assert read_one(upsert(message)) == EditEvent("shop", "3A00", "novo", at, "+5511988887777")


def test_all_messages_of_one_event_are_parsed() -> None:
    first, second = upsert(HELLO)["data"], upsert(HELLO, key=key(id="3A02"))["data"]
    events: list[Any] = list(evolution_events.read(body("messages.upsert", [first, second])))
    assert [event.provider_message_id for event in events] == ["3A01", "3A02"]


def test_a_deletion_inside_a_message_is_a_deletion() -> None:
    protocol = {"key": key(id="3A00"), "type": "REVOKE"}
    assert read_one(upsert({"protocolMessage": protocol})) == RevokeEvent(
        "shop", "3A00", by="+5511988887777"
    )
